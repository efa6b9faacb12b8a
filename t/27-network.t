#!/usr/bin/python3
"""What every source does alike, over the real servers of each type: filters, depths, caps; and what a broken network does."""
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402
from poller import (SLOW, Daemon, MockBroker, Tap, World, closed_port, conservation, folder, job, need, program, rfc3339, run,  # noqa: E402
                    without_override)
from servers import SERVED, Absent, Proxy, ServedDummy, free_range  # noqa: E402


# ---- the proxy itself, before a server that is Python's ------------------------------------------------------------------

class Peer:
    """A TCP server: each connection is given to script(socket) in a thread of its own."""

    def __init__(self, script, host="127.0.0.1", port=0):
        self.s = socket.create_server((host, port))
        self.port = self.s.getsockname()[1]
        self.script = script
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c = self.s.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        with c:
            try:
                self.script(c)
            except OSError:
                pass

    def close(self):
        self.s.close()


def echo(c):
    while True:
        b = c.recv(65536)
        if not b:
            return
        c.sendall(b)


def sends(data):
    def script(c):
        c.sendall(data)
        c.shutdown(socket.SHUT_WR)
        while c.recv(65536):
            pass
    return script


def read_all(s):
    """(bytes, how it ended)"""
    got = b""
    while True:
        try:
            b = s.recv(65536)
        except socket.timeout:
            return got, "silence"
        except ConnectionResetError:
            return got, "reset"
        if not b:
            return got, "end"
        got += b


def dial(proxy, timeout=10):
    return socket.create_connection((proxy.host, proxy.port), timeout * SLOW)


def through(proxy, timeout=10):
    try:
        s = dial(proxy, timeout)
    except ConnectionResetError:        # between its handshake and connect(2)'s return
        return b"", "reset"
    with s:
        return read_all(s)


def proxy_passes(t):
    p = Peer(echo)
    data = os.urandom(3000000)
    with Proxy(("127.0.0.1", p.port)) as x:
        with dial(x) as s:
            w = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
            w.start()
            got, how = read_all(s)
            w.join()
        t.is_((len(got), hashlib.sha256(got).hexdigest(), how), (len(data), hashlib.sha256(data).hexdigest(), "end"), "netproxy: 3 MB up and down again, each byte, and the end")
        c = x.stop()
        t.is_({k: c[k] for k in ("connections", "refused", "broken", "up", "down")},
              {"connections": 1, "refused": 0, "broken": 0, "up": len(data), "down": len(data)}, "netproxy: counts")
    p.close()


def proxy_delays(t):
    p = Peer(echo)
    with Proxy(("127.0.0.1", p.port), rtt_ms=100) as x:
        began = time.monotonic()
        with dial(x) as s:
            times = []
            for _ in range(3):
                s.sendall(b"x")
                s.recv(1)
                times.append(time.monotonic() - began)
            s.sendall(b"y" * 50)
            s.shutdown(socket.SHUT_WR)
            t.is_(read_all(s), (b"y" * 50, "end"), "netproxy: what is under way arrives before the end")
    t.ok(0.2 <= times[0] < 0.3 * SLOW and 0.1 <= times[1] - times[0] < 0.2 * SLOW and 0.1 <= times[2] - times[1] < 0.2 * SLOW,
         "netproxy: 100 ms a round trip, one more for the handshake", times)
    p.close()
    p = Peer(sends(b"z" * 50000))
    with Proxy(("127.0.0.1", p.port), rate=100000) as x:
        began = time.monotonic()
        got = through(x)
        took = time.monotonic() - began
    t.ok(got == (b"z" * 50000, "end") and 0.45 < took < 1 * SLOW, "netproxy: 50 kB at 100 kB/s take half a second", took)
    p.close()


def proxy_breaks(t):
    data = bytes(i % 251 for i in range(5000))
    p = Peer(sends(data))
    to = ("127.0.0.1", p.port)
    for n in (0, 1, 50, 4999, 5000):
        for how, end in (("cut", "end"), ("reset", "reset")):
            with Proxy(to, **{how + "_at": n}) as x:
                t.is_(through(x), (data[:n], end), "netproxy: %s at byte %d" % (how, n))
                t.is_(x.stop()["broken"], 1, "netproxy: and counted")
    with Proxy(to, freeze_at=70) as x:
        with dial(x, 0.3) as s:
            t.is_(read_all(s), (data[:70], "silence"), "netproxy: frozen at byte 70, and open")
            t.is_(x.order()["open"], 1, "netproxy: while its client stays")
    with Proxy(to, cut_at=10, connection=2) as x:
        t.is_([len(through(x)[0]) for _ in range(3)], [5000, 10, 5000], "netproxy: the second connection alone")
        x.order("cut-at 20")
        t.is_([len(through(x)[0]) for _ in range(3)], [5000, 20, 5000], "netproxy: counted anew from an order on")
        x.order("whole")
        t.is_([len(through(x)[0]) for _ in range(2)], [5000, 5000], "netproxy: whole again")
    p.close()
    seen = []
    p = Peer(lambda c: seen.append(read_all(c)))
    with Proxy(("127.0.0.1", p.port), cut_at=7, direction="up") as x:
        with dial(x) as s:
            s.sendall(b"0123456789")
            read_all(s)
        end = time.monotonic() + 10 * SLOW
        while not seen and time.monotonic() < end:
            time.sleep(0.01)
    t.ok(seen and seen[0][0] == b"0123456", "netproxy: cut on the way up", seen)
    p.close()
    p = Peer(echo)
    with Proxy(("127.0.0.1", p.port)) as x:
        with dial(x) as s, dial(x) as other:
            for c in (s, other):
                c.sendall(b"ping")
                c.recv(4)
            x.order("cut")
            t.is_((read_all(s), read_all(other)), ((b"", "end"), (b"", "end")), "netproxy: ordered to cut what is open")
    p.close()
    with Proxy(("127.0.0.1", closed_port())) as x:
        t.is_((through(x)[1], x.stop()["refused"]), ("reset", 1), "netproxy: its server refuses")


def proxy_maps(t):
    first = free_range(3, "127.0.0.3", "127.0.0.4")
    peers = [Peer(sends(b"port %d" % p), "127.0.0.3", p) for p in range(first, first + 3)]
    main = Peer(sends(b"main"), "127.0.0.3")
    with Proxy(("127.0.0.3", main.port), "127.0.0.4:0", map="127.0.0.4:%d-%d=127.0.0.3" % (first, first + 2), cut_at=3, where="map") as x:
        got = [through(x)[0]]
        for p in range(first, first + 3):
            with socket.create_connection(("127.0.0.4", p), 10) as s:
                got.append(read_all(s)[0])
        t.is_(got, [b"main", b"por", b"por", b"por"], "netproxy: a range of ports on another address; broken there alone")
        t.is_(x.stop()["mapped"], 3, "netproxy: and counted")
    for p in peers + [main]:
        p.close()


# ---- the same rows over every type ---------------------------------------------------------------------------------------

NOW = time.time()
HOUR, DAY = 3600, 86400
# path: (size, age in seconds)
TREE = {
    "a.csv": (10, 600), "b.CSV": (20, 600), "c.txt": (30, 3 * HOUR), "d.csv.gz": (0, 600), "noext": (5, 600), ".hidden.csv": (6, 600),
    "report_2024-01-01.csv": (1000, 30 * DAY), "report_2024-02-01.csv": (2000, 600), "[odd]{name}.csv": (3, 600), "sp ace.csv": (4, 600),
    "in/one.csv": (10, 600), "in/two.csv": (11, 600), "in/two.csv.tmp": (1, 600), "in/three.csv.part": (1, 600), "in/four.csv": (5, 600),
    "in/deep/er/x.csv": (7, 600), "in/deep/y.csv": (8, 600), "in/.secret/z.csv": (9, 600), ".git/config.csv": (1, 600),
    "out/one.csv": (12, 600), "done/data1.csv": (1, 600), "done/data1.csv.ok": (0, 600), "done/data2.csv": (2, 600),
    "batch/p.csv": (1, 600), "batch/_SUCCESS": (0, 600), "batch/more/r.csv": (3, 600), "batch2/q.csv": (1, 600),
}
DIRS = {p[:i] for p in TREE for i, c in enumerate(p) if c == "/"}
SMALL = {"file_%02d_%s.csv" % (i, "x" * i): (i, 600) for i in range(12)}
WATCHED = {"one.csv": (1, 600), "two.txt": (2, 600), "in/b.txt": (3, 600), "grows.csv": (4, 600)}
CLOSED = {"open/a.csv": (1, 600), "b.csv": (2, 600), "shut/c.csv": (3, 600)}


def hidden(p):
    return any(c.startswith(".") for c in p.split("/"))


class Row:
    """want(path, size, age) says whether a file, its path relative to sub, is to be reported; a directory has no size and no age. most: max_files, of those."""

    def __init__(self, name, want, sub="", source=None, most=None, hide=True, **fields):
        self.name, self.want, self.sub, self.source, self.most, self.hide, self.fields = name, want, sub, source or {}, most, hide, fields
        self.types = fields.get("filters", {}).get("types", ["file"])

    def expected(self, served):
        got = set()
        entries = [(p, v) for p, v in TREE.items() if "file" in self.types]
        if "dir" in self.types:
            entries += [(d, (None, None)) for d in DIRS]
        for p, (size, age) in entries:
            # one file as the path is relative to itself by its name
            rel = p[len(self.sub) + 1:] if self.sub and p.startswith(self.sub + "/") else p.rsplit("/", 1)[-1] if p == self.sub else None if self.sub else p
            if rel is None or (hidden(rel) and (self.hide or not served.dots)):
                continue
            if self.want(rel, size, served.put - NOW + 1 if served.own_times and age else age):
                got.add(rel)
        return got


def rows():
    rec = {"recursive": True}
    flat = lambda p: "/" not in p  # noqa: E731
    name = lambda p: p.rsplit("/", 1)[-1]  # noqa: E731
    top = lambda f: lambda p, s, a: flat(p) and f(p, s, a)  # noqa: E731
    depth = lambda p: p.count("/")  # noqa: E731
    anything = lambda p, s, a: True  # noqa: E731
    one_of = lambda *names: lambda p, s, a: p in names  # noqa: E731
    return [
        Row("nothing asked: the folder's files", top(anything)),
        Row("recursive", anything, source=rec),
        Row("a folder below as the path", anything, "in", rec),
        Row("one file as the path", one_of("a.csv"), "a.csv"),
        Row("a pattern", top(lambda p, s, a: p.endswith(".csv")), file_pattern="*.csv"),
        Row("a pattern without / is for the name, at every depth", lambda p, s, a: p.endswith(".csv"), source=rec, file_pattern="*.csv"),
        Row("several patterns", top(lambda p, s, a: p.endswith((".csv", ".txt"))), file_pattern=["*.csv", "*.txt"]),
        Row("?", one_of("a.csv"), file_pattern="?.csv"),
        Row("a class", one_of("report_2024-01-01.csv", "report_2024-02-01.csv"), file_pattern="report_[0-9]*-0[12]-*.csv"),
        Row("a negated class", top(lambda p, s, a: p.endswith(".csv") and p[0] not in "ar"), file_pattern="[!ar]*.csv"),
        Row("alternatives", one_of("a.csv", "c.txt"), file_pattern="{a.csv,c.txt}"),
        Row("escaped", one_of("[odd]{name}.csv"), file_pattern="\\[odd\\]\\{name\\}.csv"),
        Row("a pattern with / is for the path", one_of("in/one.csv", "in/two.csv", "in/four.csv"), source=rec, file_pattern="in/*.csv"),
        Row("* does not cross /", one_of("in/one.csv", "out/one.csv"), source=rec, file_pattern="*/one.csv"),
        Row("** does", lambda p, s, a: p.startswith("in/") and p.endswith(".csv"), source=rec, file_pattern="in/**/*.csv"),
        Row("nothing matches: completed, empty", one_of(), source=rec, file_pattern="*.zip"),
        Row("ignore_case", top(lambda p, s, a: p.lower().endswith(".csv")), file_pattern="*.csv", filters={"ignore_case": True}),
        Row("include", one_of("a.csv", "c.txt"), filters={"include": ["a.*", "c.*"]}),
        Row("exclude", top(lambda p, s, a: not p.startswith("report")), filters={"exclude": ["report*"]}),
        Row("exclude wins over include", one_of("c.txt"), filters={"include": ["a.*", "c.*"], "exclude": ["a*"]}),
        Row("min_size", top(lambda p, s, a: s >= 20), filters={"min_size": 20}),
        Row("max_size", top(lambda p, s, a: s <= 20), filters={"max_size": 20}),
        Row("min_size and max_size", one_of("report_2024-01-01.csv"), filters={"min_size": 1000, "max_size": "1KiB"}),
        Row("an empty file has a size", one_of("d.csv.gz"), filters={"max_size": 0}),
        Row("min_age", top(lambda p, s, a: a >= HOUR), filters={"min_age": "1h"}),
        Row("max_age", top(lambda p, s, a: a <= HOUR), filters={"max_age": "1h"}),
        Row("modified_after", top(lambda p, s, a: a < 10 * DAY), filters={"modified_after": rfc3339(-10 * DAY)}),
        Row("modified_before", top(lambda p, s, a: a > 10 * DAY), filters={"modified_before": rfc3339(-10 * DAY)}),
        Row("include_hidden", anything, source=rec, hide=False, filters={"include_hidden": True}),
        Row("include_hidden, not recursive", top(anything), hide=False, filters={"include_hidden": True}),
        Row("exclude_dirs by name", lambda p, s, a: not p.startswith("in/deep/"), source=rec, filters={"exclude_dirs": ["deep"]}),
        Row("exclude_dirs by path", lambda p, s, a: not p.startswith("in/deep/er/"), source=rec, filters={"exclude_dirs": ["in/deep/er"]}),
        Row("in_progress_suffixes: neither the suffix nor the file it is for", one_of("one.csv", "four.csv"), "in", filters={"in_progress_suffixes": [".tmp", ".part"]}),
        Row("extensions: with or without the dot, letters of either case", lambda p, s, a: p.lower().endswith((".csv", ".tmp")), source=rec, filters={"extensions": ["CSV", ".tmp"]}),
        Row("extensions that nothing has", one_of(), "in", filters={"extensions": ["nowhere"]}),
        Row("in_progress_suffixes, recursive", lambda p, s, a: p not in ("in/two.csv", "in/two.csv.tmp", "in/three.csv.part"), source=rec, filters={"in_progress_suffixes": [".tmp", ".part"]}),
        Row("done_file of a folder", one_of("p.csv"), "batch", filters={"done_file": "_SUCCESS"}),
        Row("done_file is each folder's own", one_of("p.csv"), "batch", rec, filters={"done_file": "_SUCCESS"}),
        Row("done_file that is not there yet", one_of(), "batch2", filters={"done_file": "_SUCCESS"}),
        Row("done_file of each file", one_of("data1.csv"), "done", filters={"done_file": "{name}.ok"}),
        Row("max_depth 1", lambda p, s, a: depth(p) <= 1, source={"recursive": True, "max_depth": 1}),
        Row("max_depth 2", lambda p, s, a: depth(p) <= 2, source={"recursive": True, "max_depth": 2}),
        Row("max_depth without recursive", top(anything), source={"max_depth": 5}),
        Row("min_depth 1", lambda p, s, a: depth(p) >= 1, source={"recursive": True, "min_depth": 1}),
        Row("min_depth and max_depth", lambda p, s, a: depth(p) == 1, source={"recursive": True, "min_depth": 1, "max_depth": 1}),
        Row("types dir", top(anything), filters={"types": ["dir"]}),
        Row("types dir, recursive", anything, source=rec, filters={"types": ["dir"]}),
        Row("types file and dir, a pattern for both", lambda p, s, a: name(p)[0] in "bd", source=rec, file_pattern="[bd]*", filters={"types": ["file", "dir"]}),
        Row("types dir: exclude_dirs leaves out the directory itself", lambda p, s, a: p != "in/deep" and not p.startswith("in/deep/"), source=rec, filters={"types": ["dir"], "exclude_dirs": ["deep"]}),
        Row("types dir: what has no size is neither small nor large", one_of(), source=rec, filters={"types": ["dir"], "max_size": "1GiB"}),
        Row("types dir, max_depth and min_depth", lambda p, s, a: depth(p) == 1, source={"recursive": True, "min_depth": 1, "max_depth": 1}, filters={"types": ["dir"]}),
        Row("types dir: max_files", anything, source=rec, most=3, filters={"types": ["dir"], "max_files": 3}),
        Row("exclude_if_present: a folder and all below it", lambda p, s, a: not p.startswith("in/"), source=rec, filters={"exclude_if_present": "two.csv.tmp"}),
        Row("exclude_if_present: others stay", lambda p, s, a: not p.startswith("batch/"), source=rec, filters={"exclude_if_present": "_SUCCESS"}),
        Row("exclude_if_present: a folder's name counts, too", lambda p, s, a: not p.startswith("in/"), source=rec, filters={"exclude_if_present": "deep"}),
        Row("exclude_if_present: in the path itself", one_of(), "batch", rec, filters={"exclude_if_present": "_SUCCESS"}),
        Row("exclude_if_present: not recursive", one_of(), "batch", filters={"exclude_if_present": "_SUCCESS"}),
        Row("exclude_if_present: the path is one file", one_of("p.csv"), "batch/p.csv", filters={"exclude_if_present": "_SUCCESS"}),
        Row("exclude_if_present: only the whole name", anything, source=rec, filters={"exclude_if_present": "_SUCCES"}),
        Row("exclude_if_present with types: the folder itself is reported", lambda p, s, a: not p.startswith("in/"), source=rec, filters={"types": ["file", "dir"], "exclude_if_present": "two.csv.tmp"}),
        Row("exclude_if_present and max_depth", lambda p, s, a: not p.startswith("in/") and depth(p) <= 1, source={"recursive": True, "max_depth": 1}, filters={"exclude_if_present": "two.csv.tmp"}),
        Row("max_files: cut, and said so", anything, source=rec, most=3, filters={"max_files": 3}),
        Row("max_files with a pattern", lambda p, s, a: name(p).endswith(".csv"), source=rec, most=2, file_pattern="*.csv", filters={"max_files": 2}),
        Row("max_files that is not reached", anything, source=rec, filters={"max_files": 1000}),
        Row("several at once", lambda p, s, a: p.endswith(".csv") and s >= 5 and not p.startswith("out/") and depth(p) <= 1, source={"recursive": True, "max_depth": 1},
            file_pattern="*.csv", filters={"min_size": 5, "exclude_dirs": ["out"]}),
    ]


class Batch:
    """Jobs that are pushed together, what became of each, and their events."""
    count = 0

    def __init__(self, w):
        self.w, self.jobs = w, []

    def add(self, source, **fields):
        Batch.count += 1
        self.jobs.append(job("batch-%d" % Batch.count, source, **fields))
        return self.jobs[-1]["job_id"]

    def run(self, timeout=60):
        ids = {j["job_id"] for j in self.jobs}
        self.w.push(*self.jobs)
        self.w.stuck = True
        self.w.reader("results").until(lambda rs: ids <= {r["job_id"] for r in rs}, timeout, "the results of %d jobs" % len(ids))
        self.w.stuck = False
        self.results = {r["job_id"]: r for r in self.w.reader("results").records if r["job_id"] in ids}
        self.events = {i: [] for i in ids}
        for e in self.w.reader("events").drain():
            if e["job_id"] in ids:
                self.events[e["job_id"]].append(e)


def same_everywhere(t, w, served):
    batch, table = Batch(w), []
    for row in rows():
        table.append((row, batch.add(served.source(os.path.join("tree", row.sub).rstrip("/"), **row.source), **row.fields)))
    batch.run()
    for row, i in table:
        r, e, want = batch.results[i], [x["relative_path"] for x in batch.events[i]], row.expected(served)
        if row.most:
            good = len(e) == len(set(e)) == row.most and set(e) <= want
        else:
            good = len(e) == len(want) and set(e) == want
        # what is no file has no size, and its address says what it is
        wrong = [x.raw for x in batch.events[i] if {x["entry_type"] == "dir", x["file_url"].endswith("/"), x["file_size"] is None} !=
                 {(row.sub + "/" + x["relative_path"]).lstrip("/") in DIRS}]
        good = good and not wrong and (r["event_type"], r["matched"], r["published"], r["truncated"]) == ("job.completed", len(e), len(e), bool(row.most))
        t.ok(good, "%s: %s" % (served.name, row.name), "missing: %r" % sorted(want - set(e))[:20], "too many: %r" % sorted(set(e) - want)[:20], wrong[:2], r.raw[:1500])


class Writer:
    """A file that grows until it is stopped, and how long it ever stayed as it was."""

    def __init__(self, served, path):
        self.served, self.path, self.longest, self.going, self.fault = served, path, 0, True, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        n, last = 100, time.monotonic()
        while self.going:
            n += 1
            try:
                self.served.put_file(self.path, n)
            except Exception as e:
                self.fault = e
                return
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now
            time.sleep(0.05)

    def stop(self):
        self.going = False
        self.thread.join()


def stable_files(t, w, served):
    """What changes all the time is left out, and said; the rest comes, with the counts of one listing."""
    grows = Writer(served, "watched/grows.csv")
    batch = Batch(w)
    watch = {"stability": {"checks": 2, "interval": "1s"}}
    i = batch.add(served.source("watched", recursive=True), filters=watch)
    few = batch.add(served.source("watched", recursive=True), file_pattern="*.txt", filters=dict(watch, max_files=1))
    batch.run()
    grows.stop()
    r, e = batch.results[i], batch.events[i]
    t.is_(grows.fault, None, "%s: the file was written again and again" % served.name)
    if grows.longest > 0.9:
        t.diag("%s: the writer was not let write for %.1f s" % (served.name, grows.longest))
    else:
        t.ok(r["event_type"] == "job.completed" and sorted(x["relative_path"] for x in e) == ["in/b.txt", "one.csv", "two.txt"]
             and any(": 1 file left out: new, changed" in x for x in r["warnings"]), "%s: a file that changes is left out, and said" % served.name, [x["relative_path"] for x in e], r.raw[:1500])
        t.is_((r["listed"], r["matched"], r["skipped"]), (4, 3, 1), "%s: the counts are those of the last listing" % served.name)
    t.ok(r["duration_seconds"] >= 2, "%s: it was looked at three times, a second apart" % served.name, r["duration_seconds"])
    r, e = batch.results[few], batch.events[few]
    t.ok((r["event_type"], len(e), r["truncated"]) == ("job.completed", 1, True), "%s: max_files counts what is reported" % served.name, r.raw[:1500])
    batch = Batch(w)
    i = batch.add(served.source("watched", recursive=True), filters={"stability": {"interval": "1s"}})
    batch.run()
    r, e = batch.results[i], batch.events[i]
    t.ok((r["event_type"], len(e), r["warnings"]) == ("job.completed", 4, []), "%s: nothing changes any more: all are reported" % served.name, r.raw[:1500])


def refused_folders(t, w, served):
    if not served.refuses:
        t.diag("%s: no row of on_unreadable: this server refuses no folder" % served.name)
        return
    batch = Batch(w)
    ids = {k: batch.add(served.source("closed", recursive=True, **f)) for k, f in (("default", {}), ("skip", {"on_unreadable": "skip"}), ("fail", {"on_unreadable": "fail"}))}
    root = batch.add(served.source("closed/shut", recursive=True))
    batch.run()
    for k in ("default", "skip"):
        r, e = batch.results[ids[k]], batch.events[ids[k]]
        s = r["sources"][0]
        t.ok(r["event_type"] == "job.partial" and sorted(x["relative_path"] for x in e) == ["b.csv", "open/a.csv"] and s["unreadable"] == 1
             and "shut" in s["unreadable_entries"][0]["path"], "%s: a folder is refused, on_unreadable %s: the others come, and it is named" % (served.name, k), r.raw[:1500])
    for k, i in (("on_unreadable: fail", ids["fail"]), ("the path itself", root)):
        r, e = batch.results[i], batch.events[i]
        t.ok(r["event_type"] == "job.failed" and not e and r["error"]["class"] == "auth", "%s: a folder is refused, %s: failed, for its rights" % (served.name, k), r.raw[:1500])


# ---- broken networks -----------------------------------------------------------------------------------------------------

ONCE = {"retries": 0, "keepalive": False}


AT_ONCE = 8
# A connection that broke is no verdict on the job: each of these is tried again.
BROKEN = ("transient", "protocol", "truncated")


def one_run(t, w, served, **options):
    """A listing through a proxy that breaks nothing: its counts; None if even that fails."""
    with served.proxy(**options) as x:
        batch = Batch(w)
        i = batch.add(served.through(x, served.source("small", **ONCE)))
        batch.run()
        r = batch.results[i]
        good = t.ok(r["event_type"] == "job.completed" and {e["relative_path"] for e in batch.events[i]} == set(SMALL), "%s: through the proxy" % served.name, r.raw[:1500])
        return x.stop() if good else None


def judge(r, events, publish, host):
    """What is wrong with a run that was broken or was not; None: nothing."""
    names = [e["relative_path"] for e in events]
    if r["event_type"] == "job.completed":
        return None if len(names) == len(SMALL) and set(names) == set(SMALL) else "completed with %d of %d" % (len(names), len(SMALL))
    cls, text = r["error"]["class"], r["error"]["message"]
    if cls not in BROKEN:
        return "class %s: %s" % (cls, text)
    if host not in text:
        return "no peer: %s" % text
    if publish == "atomic" and names:
        return "failed, but %d events are out" % len(names)
    if set(names) - set(SMALL) or len(names) != len(set(names)):
        return "invented: %r" % names
    want = "job.partial" if names else "job.failed"
    return None if r["event_type"] == want else "%s with %d events" % (r["event_type"], len(names))


def cuts(t, w, served):
    """Every 50th byte is the place of the break. A run completes with every file, or it did not complete."""
    counts = one_run(t, w, served)
    if not counts:
        return
    for where in served.wheres:
        total = counts["mapped_down"] if where == "map" else counts["down"] - counts["mapped_down"]
        # padding makes one run some bytes longer than another
        places = list(range(0, total + 400, 50))
        for how, publish in (("cut", "atomic"), ("cut", "stream"), ("reset", "atomic")):
            what = "%s: %s%s, %s" % (served.name, how, "" if where == "all" else " of the %s connection" % {"main": "control", "map": "data"}[where], publish)
            proxies = [served.proxy(k, where=where) for k in range(AT_ONCE)]
            lies, classes, whole = [], {}, 0
            for at in range(0, len(places), AT_ONCE):
                some = places[at:at + AT_ONCE]
                batch, ids = Batch(w), []
                for n, x in zip(some, proxies):
                    x.order("%s-at %d" % (how, n))
                    ids.append(batch.add(served.through(x, served.source("small", **ONCE)), publish=publish))
                batch.run()
                for n, x, i in zip(some, proxies, ids):
                    r = batch.results[i]
                    wrong = judge(r, batch.events[i], publish, x.host)
                    if wrong:
                        lies.append("%s at byte %d: %s" % (how, n, wrong))
                    whole += r["event_type"] == "job.completed"
                    if r["error"]:
                        classes[r["error"]["class"]] = classes.get(r["error"]["class"], 0) + 1
            for x in proxies:
                x.stop()
            t.diag("%s: %d bytes, %d whole, %r" % (what, total, whole, classes))
            t.ok(not lies, "%s at each of %d places: whole, or not completed" % (what, len(places)), "\n".join(lies[:12]), "%d in all" % len(lies))
            t.ok(whole and sum(classes.values()) >= total // 100, "%s: both were seen" % what, classes, whole)


def freezes(t, w, served):
    counts = one_run(t, w, served)
    if not counts:
        return
    limits = {"idle_timeout": "1s", "response_timeout": "1s", "connect_timeout": "1s"}
    for where in served.wheres:
        total = counts["mapped_down"] if where == "map" else counts["down"] - counts["mapped_down"]
        places = [0, 1, total // 4, total // 2, total * 3 // 4]
        proxies = [served.proxy(k, freeze_at=n, where=where) for k, n in enumerate(places)]
        batch = Batch(w)
        ids = [batch.add(served.through(x, served.source("small", **ONCE, **limits))) for x in proxies]
        batch.run()
        for n, x, i in zip(places, proxies, ids):
            r = batch.results[i]
            t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "timeout" and x.host in r["error"]["message"] and not batch.events[i]
                 and 0.9 <= r["duration_seconds"] < 4 * SLOW, "%s: frozen at byte %d of %d (%s): timeout, soon" % (served.name, n, total, where), r.raw[:1500])
            x.stop()


class Deaf:
    """A port that neither takes nor refuses connections: its queue is full."""

    def __init__(self):
        self.s = socket.socket()
        self.s.bind(("127.0.0.1", 0))
        self.s.listen(0)
        self.host, self.port = self.s.getsockname()
        self.held = []
        for _ in range(20):
            c = socket.socket()
            self.held.append(c)
            c.settimeout(0.3)
            try:
                c.connect((self.host, self.port))
            except socket.timeout:
                return
        raise RuntimeError("the queue of a listening socket does not fill")

    def close(self):
        for s in self.held + [self.s]:
            s.close()


class At:
    def __init__(self, port):
        self.host, self.port = "127.0.0.1", port


def says_peer(r, at):
    """Its address and its port, in whatever words"""
    return at.host in r["error"]["message"] and re.search(r"\b%d\b" % at.port, r["error"]["message"])


def unreachable(t, w, served):
    refused, deaf = At(closed_port()), Deaf()
    batch = Batch(w)
    a = batch.add(served.through(refused, served.source("small", **ONCE)))
    b = batch.add(served.through(deaf, served.source("small", connect_timeout="700ms", **ONCE)))
    c = batch.add(served.through(refused, served.source("small", retries=2, retry_delay="20ms")))
    batch.run()
    r = batch.results[a]
    t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "transient" and says_peer(r, refused), "%s: a refused port: transient, with the peer" % served.name, r.raw[:1500])
    r = batch.results[c]
    t.is_((r["event_type"], r["sources"][0]["attempts"]), ("job.failed", 3), "%s: and tried again" % served.name)
    r = batch.results[b]
    t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "timeout" and says_peer(r, deaf) and 0.6 <= r["duration_seconds"] < 3 * SLOW,
         "%s: nobody answers: timeout by connect_timeout, with the peer" % served.name, r.raw[:1500])
    deaf.close()


# ---- all of it -----------------------------------------------------------------------------------------------------------

def start(t, root, only, got):
    """Into got: the servers that can be had, of the types that are served (by hand: of those alone that the command line names)."""
    code, out, err = run(program("iis-pollerctl"), "sources", "--json")
    states = {x["type"]: x["served"] for x in map(json.loads, out.splitlines())}
    for cls in [c for c in [ServedDummy] + SERVED if not only or c.type in only]:
        if not states[cls.type]:
            t.diag("left out: %s: iis-pollerctl sources says that this version does not serve it" % cls.type)
            continue
        try:
            served = cls(root)
        except Absent as e:
            if os.environ.get("CI") == "true":
                t.ok(False, "%s may not be left out here" % cls.type, e)
            t.diag("left out: %s: %s" % (cls.name, e))
            continue
        served.put = time.time()
        got.append(served)


def make(root):
    """tree/ for the rows, small/ to be broken, closed/ with a folder that nobody may read."""
    os.mkdir(root, 0o755)
    os.chmod(os.path.dirname(root), 0o755)
    for prefix, files in (("tree/", TREE), ("small/", SMALL), ("closed/", CLOSED), ("watched/", WATCHED)):
        trees.write(root, {prefix + p: (size, int(NOW - age)) for p, (size, age) in files.items()})
    os.chmod(os.path.join(root, "closed/shut"), 0)


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker", "t/lib/netproxy")
    for part in (proxy_passes, proxy_delays, proxy_breaks, proxy_maps):
        t.part(part)
    root = os.path.join(folder(), "root")
    make(root)
    w = World(MockBroker(t), event_partitions=2)
    d = Daemon(w, {"local.allowed_roots": [root], "dummy.data_path": root, "egress.allow": ["127.0.0.0/8", "::1/128"], "workers.count": 4}, wrap=without_override() or ())
    everything = []
    try:
        start(t, root, sys.argv[1:], everything)
        for served in everything:
            parts = (same_everywhere, stable_files, refused_folders, cuts, freezes, unreachable)
            for part in parts if served.peer else parts[:3]:
                t.diag(served.name)
                t.part(part, w, served)
                if w.stuck:
                    t.bail("jobs do not end any more; each further part would wait for its deadline")
    finally:
        for served in everything:
            served.stop()
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
