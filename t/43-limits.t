#!/usr/bin/python3
"""Limits: a full spool, full disks, few descriptors, wrong directories, records too large, logs that nobody takes, workers that stop. Each costs its job at most, and says so."""
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import poller  # noqa: E402
from poller import (Daemon, Lines, MockBroker, Tap, World, alive, clean_env, folder, generated, job, need,  # noqa: E402
                    program, run, wait_for, without_override)

BIG = 6000      # files of a listing that is larger than a small spool
LARGEST = 5000  # bytes of a record, for too_large
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def disks(*sizes):
    """Words to put before a command: small file systems of its own, which end with it. None: not allowed here."""
    if os.geteuid():
        return None
    script = "".join("mount -t tmpfs -o size=%s tmpfs '%s' || exit 99; " % (size, path) for path, size in sizes)
    wrap = ["unshare", "-m", "sh", "-c", script + 'exec "$@"', "sh"]
    return wrap if run(*wrap, "true")[0] == 0 else None


def inside(d, path):
    """A path as the daemon sees it"""
    return "/proc/%d/root%s" % (d.pid, path)


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass
    st = os.statvfs(path)
    return st.f_bavail == 0


def served(t, w, name, n=3, **fields):
    r, e, dl = w.run(generated(n), **fields)
    return t.is_((r["event_type"], len(e), len(dl)), ("job.completed", n, 0), name)


def over_the_spool(t, w, d, what):
    """One listing too large for the spool among small jobs: it alone fails, after its retries, without an event."""
    since = d.mark()
    w.next_id += 1
    big = "big-%d" % w.next_id
    small = ["small-%d-%d" % (w.next_id, i) for i in range(10)]
    w.push(job(big, generated(BIG, retries=2, retry_delay="10ms")), *[job(x, generated(5)) for x in small])
    r = w.result_of(big)
    dl = w.dead_letters_of(big)
    f = dl[0]["failure_info"] if dl else {}
    t.is_((r["event_type"], r["error"]["class"], r["attempt"], r["published"]), ("job.failed", "spool_full", 3, 0),
          "%s: spool_full after its retries, nothing published" % what)
    t.is_((len(dl), f.get("error_type"), f.get("retry_count")), (1, "spool_full", 2), "%s: one dead letter tells why" % what)
    t.ok("spool" in (f.get("failure_reason") or "") + (f.get("error_message") or ""), "%s: with the words for it" % what, f)
    t.is_(len(w.events_of(big)), 0, "%s: no event in Kafka" % what)
    t.is_({w.result_of(x)["event_type"] for x in small}, {"job.completed"}, "%s: the jobs beside it are served" % what)
    t.is_(d.logged("worker_died", since=since), [], "%s: no worker died of it" % what)
    r, e, _ = w.run(generated(BIG), publish="stream")
    t.is_((r["event_type"], r["published"]), ("job.completed", BIG), "%s: the same listing as a stream is served" % what)


def spool_full(t, b):
    w = World(b)
    d = Daemon(w, {"spool.max_size": 65536})
    over_the_spool(t, w, d, "spool.max_size")
    t.is_(d.stop(), 0, "spool.max_size: exit 0")


def disk_full(t, b):
    spool, state = folder(), folder()
    wrap = disks((spool, "256k"), (state, "256k"))
    if wrap is None:
        t.skip("disk full", "mounting needs root")
        return
    w = World(b)
    d = Daemon(w, {"spool.dir": spool, "state.dir": state}, wrap=wrap)
    free = os.statvfs(inside(d, spool)).f_bavail
    over_the_spool(t, w, d, "a full disk")
    wait_for("the spool's room", lambda: os.statvfs(inside(d, spool)).f_bavail >= free)
    t.ok(True, "a full disk: what the listings took is free again")
    t.ok(fill(inside(d, state) + "/filler"), "the state's disk is full")
    served(t, w, "state.dir is full: an atomic job is served")
    served(t, w, "state.dir is full: a stream is served", publish="stream")
    t.ok(fill(inside(d, spool) + "/filler"), "the spool's disk is full")
    r, e, dl = w.run(generated(3, retries=0))
    t.is_((r["event_type"], r["error"]["class"], len(e), len(dl)), ("job.failed", "spool_full", 0, 1), "no byte left: spool_full")
    since = d.mark()
    for pid in d.workers().values():
        os.kill(pid, signal.SIGKILL)
    d.wait_log("worker_ready", since=since, count=2)
    t.ok(True, "no byte left: killed workers are replaced")
    os.unlink(inside(d, spool) + "/filler")
    served(t, w, "the disk has room again: served")
    t.is_(d.stop(), 0, "full disks: exit 0")
    full = folder()
    script = "mount -t tmpfs -o size=4k tmpfs '%s' && head -c 4096 /dev/zero >'%s/filler' && " % (full, full)
    d = Daemon(w, {"state.dir": full, "spool.dir": folder()}, ready=False, name="no room for the journal",
               wrap=["unshare", "-m", "sh", "-c", script + 'exec "$@"', "sh"])
    code = d.wait_exit(20)
    t.ok(code == 71 and full + "/journal" in "".join(d.raw) and "No space" in "".join(d.raw),
         "no room for the journal: named at the start, exit %d" % code, d.raw[-3:])


def few_descriptors(t, b):
    if run("prlimit", "--nofile=64:64", "true")[0]:
        t.skip("64 descriptors", "prlimit is not there")
        return
    w = World(b)
    d = Daemon(w, {"workers.count": 64}, wrap=["prlimit", "--nofile=64:64"])
    x = d.wait_log("workers_reduced")
    t.ok(x["wanted"] == 64 and 1 <= x["started"] < 16 and x["descriptor_limit"] == 64, "64 descriptors: says how many workers there are", x)
    with open("/proc/%d/limits" % d.pid) as f:
        t.ok(re.search(r"Max open files\s+64\s+64\s", f.read()), "64 descriptors: the limit is in force")
    d.wait_log("worker_ready", count=x["started"])
    w.push(*[job("few-%d" % i, generated(20)) for i in range(200)])
    w.reader("results").until(lambda rs: len(rs) >= 200, 60)
    t.is_({r["event_type"] for r in w.reader("results").records}, {"job.completed"}, "64 descriptors: 200 jobs are served")
    t.is_(len(w.reader("events").drain()), 4000, "64 descriptors: with all their events")
    t.is_(d.http("/readyz")[0], 200, "64 descriptors: ready")
    # 70 sockets at the status page, which takes what it can: the master does not notice, nor turn in circles.
    socks = flood(d, 70)
    since, at = cpu_seconds(d.pid), time.monotonic()
    d.wait_log("worker_ready", since=kill_worker(d))
    served(t, w, "64 descriptors, 70 connections to the pages: a job is served, a killed worker replaced")
    wait_for("3 s of idling", lambda: time.monotonic() - at >= 3, 10, every=0.5)
    used, took = cpu_seconds(d.pid) - since, time.monotonic() - at
    t.ok(used < 0.2 * took, "64 descriptors: no busy loop", "%.2f s of processor in %.2f s" % (used, took))
    t.ok(d.metric("process_open_fds") < 64, "64 descriptors: some are left")
    t.is_(d.logged("worker_start_failed"), [], "64 descriptors: no start failed")
    for s in socks:
        s.close()
    t.is_(d.stop(), 0, "64 descriptors: exit 0")


def flood(d, n):
    host, _, port = re.match(r"http://([^/]+)", d.wait_log("http_ready")["url"]).group(1).rpartition(":")
    socks = []
    for _ in range(n):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((host, int(port)))
        socks.append(s)
    return socks


def kill_worker(d):
    since = d.mark()
    os.kill(next(iter(d.workers().values())), signal.SIGKILL)
    return since


def wrong_places(t, b):
    w = World(b)
    d = Daemon(w, {"workers.path": "/nonexistent/worker"}, ready=False)
    code = d.wait_exit(20)
    t.ok(code == 78 and "/nonexistent/worker" in d.raw[-1] + d.raw[-2], "workers.path is not there: named, exit 78", code, d.raw[-3:])
    text = os.path.join(folder(), "text")
    with open(text, "w") as f:
        f.write("no program\n")
    d = Daemon(w, {"workers.path": text}, ready=False)
    code = d.wait_exit(20)
    t.ok(code == 78 and text in "".join(d.raw), "workers.path is no program: named, exit 78", code, d.raw[-3:])
    for key in ("state.dir", "spool.dir"):
        for what, path in (("is a file", text), ("is below a file", text + "/x"), ("has no parent", "/nonexistent/a/b")):
            e = Daemon(w, start=False)
            e.write_conf(**{key: path})
            e.start(ready=False)
            code = e.wait_exit(20)
            t.ok(code in (71, 78) and path in "".join(e.raw), "%s %s: named, exit %d" % (key, what, code), e.raw[-3:])
    wrap = without_override()
    if wrap is None:
        t.skip("directories without rights", "setpriv is not there")
    else:
        for key in ("state.dir", "spool.dir"):
            closed = folder()
            os.chmod(closed, 0o500)
            e = Daemon(w, {}, wrap=wrap, start=False)
            e.write_conf(**{key: closed})
            e.start(ready=False)
            code = e.wait_exit(20)
            t.ok(code in (71, 77, 78) and closed in "".join(e.raw) and "denied" in "".join(e.raw),
                 "%s may not be written: named, exit %d" % (key, code), e.raw[-3:])
    d = Daemon(w)
    e = Daemon(w, {"state.dir": d.conf["state.dir"]}, ready=False)
    code = e.wait_exit(20)
    t.ok(code == 78 and d.conf["state.dir"] in "".join(e.raw), "state.dir of another master: refused and named, exit %d" % code, e.raw[-3:])
    served(t, w, "and the first one serves")
    t.is_(d.stop(), 0, "and stops: exit 0")


def too_large(t, b):
    w = World(b)
    d = Daemon(w, {"kafka.message_max": LARGEST})
    big = {"note": "x" * LARGEST}
    for publish in ("atomic", "stream"):
        r, e, dl = w.run(generated(50), metadata=big, publish=publish)
        t.is_((r["event_type"], r["error"]["class"], r["attempt"], len(e), len(dl)), ("job.failed", "message_too_large", 1, 0, 1),
              "%s: events larger than kafka.message_max: one attempt, a dead letter" % publish)
        t.ok("kafka.message_max" in str(dl[0]["failure_info"]), "%s: the setting is named" % publish, dl[0].raw)
        t.ok(len(r.raw) <= LARGEST and len(dl[0].raw) <= LARGEST, "%s: its own records fit" % publish, len(r.raw), len(dl[0].raw))
    # The terminal record and the dead letter would be too large, too: they shrink to what fits.
    r, e, dl = w.run(generated(50), metadata={"note": "x" * 12000}, timeout=20)
    t.ok(r["event_type"] == "job.failed" and len(r.raw) <= LARGEST, "metadata larger than any record: the terminal record leaves it out", len(r.raw))
    t.ok(len(dl) == 1 and len(dl[0].raw) <= LARGEST and dl[0].json["metadata"]["original_offset"] >= 0,
         "and the dead letter points to the original", [x.raw for x in dl])
    served(t, w, "a job beside them is served")
    t.is_(d.stop(), 0, "too large: exit 0")


class Unread(Daemon):
    """A daemon whose standard error is a pipe that nobody reads."""

    def start(self, ready=True, timeout=40):
        self.reader, writer = os.pipe()
        self.process = subprocess.Popen([program("iis-pollerd"), "-c", self.file], cwd=self.dir, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=writer, env=clean_env(self.env))
        poller._processes.append(self.process)
        self.pid = self.process.pid
        os.close(writer)
        return self

    def read_on(self):
        self.log = Lines(os.fdopen(self.reader, errors="replace"), self._line)


def unread_log(t, b):
    """debug fills the pipe in no time; the log says afterwards how many lines it lost."""
    w = World(b)
    port = poller.free_port()
    d = Unread(w, {"log.level": "debug", "http.listen": "127.0.0.1:%d" % port})
    d.url = "http://127.0.0.1:%d" % port
    w.push(*[job("unread-%d" % i, generated(2)) for i in range(300)])
    w.reader("results").until(lambda rs: len(rs) >= 300, 60)
    t.is_({r["event_type"] for r in w.reader("results").records}, {"job.completed"}, "stderr that nobody reads: 300 jobs are served")
    # the page is rendered once a second: the first one to tell of any may be from the midst
    lost = wait_for("lost lines", lambda: (lambda n: n if n > 100 else None)(d.metric("poller_log_lines_dropped_total")))
    t.ok(lost > 100, "stderr that nobody reads: lines are dropped and counted", lost)
    t.is_(d.http("/readyz")[0], 200, "stderr that nobody reads: ready")
    d.read_on()
    told = d.wait_log("log_dropped")
    t.ok(told["count"] >= lost, "once it is read: the log says how many lines it lost", told, lost)
    since = d.mark()
    w.run(generated(1), job_id="after")
    t.ok(d.wait_log("job_done", since=since, job_id="after"), "and goes on")
    t.is_(d.stop(), 0, "stderr that nobody reads: exit 0")
    # A reader that has gone for good is no reason to end, either.
    d = Unread(w, {"http.listen": "127.0.0.1:%d" % port})
    os.close(d.reader)
    served(t, w, "stderr whose reader has gone: served")
    d.signal(signal.SIGTERM)
    t.is_(d.process.wait(30 * poller.SLOW), 0, "stderr whose reader has gone: exit 0")
    Daemon.all.remove(d)


def log_disk_full(t, b):
    logs = folder()
    wrap = disks((logs, "64k"))
    if wrap is None:
        t.skip("log.file on a full disk", "mounting needs root")
        return
    w = World(b)
    port = poller.free_port()
    d = Daemon(w, {"log.file": logs + "/log", "log.level": "debug", "http.listen": "127.0.0.1:%d" % port}, wrap=wrap, ready=False)
    d.url = "http://127.0.0.1:%d" % port
    served(t, w, "log.file: served")
    t.ok(fill(inside(d, logs) + "/filler"), "log.file: its disk is full")
    w.push(*[job("full-%d" % i, generated(2)) for i in range(100)])
    w.reader("results").until(lambda rs: len(rs) >= 101, 60)
    t.is_({r["event_type"] for r in w.reader("results").records}, {"job.completed"}, "log.file on a full disk: 100 jobs are served")
    lost = wait_for("lost lines", lambda: d.metric("poller_log_lines_dropped_total"))
    t.ok(lost > 0, "log.file on a full disk: lines are dropped and counted", lost)
    os.unlink(inside(d, logs) + "/filler")

    def told():
        with open(inside(d, logs) + "/log") as f:
            lines = f.read().splitlines()
        return lines if any('"event":"log_dropped"' in x.replace(": ", ":") for x in lines) else None
    lines = wait_for("the line about lost lines", told)
    t.ok(all(poller.json.loads(x)["event"] for x in lines), "the disk has room again: it tells of them; every line is whole")
    t.is_(d.stop(), 0, "log.file on a full disk: exit 0")


def stopped(t, b):
    """SIGSTOP while it lists: neither CANCEL nor TERM reaches it; KILL does. The others and the pages do not notice."""
    w = World(b)
    d = Daemon(w, {"timeouts.cancel": "300ms", "timeouts.kill": "200ms", "workers.count": 3})
    w.push(job("stop", generated(50, delay="30s", retries=0), timeout="1500ms"))
    slot = d.wait_log("job_started", job_id="stop")["slot"]
    pid = d.workers()[slot]
    at = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    pages = []

    def beside():
        pages.append(d.http("/livez")[0])
        pages.append(d.http("/readyz")[0])
        return any(r["job_id"] == "stop" for r in w.reader("results").drain())
    w.push(*[job("beside-%d" % i, generated(5)) for i in range(50)])
    wait_for("the stopped worker's job", beside, 30, every=0.05)
    took = time.monotonic() - at
    r = w.result_of("stop")
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "timeout"), "a stopped worker: its job is a timeout")
    x = d.wait_log("worker_died", pid=pid)
    t.is_((x["cause"], x["signal"], alive(pid)), ("deadline", 9, False), "a stopped worker: killed")
    t.ok(took < 15 * poller.SLOW, "a stopped worker: soon after the deadline", took)
    t.ok(len(pages) >= 10 and set(pages) == {200}, "a stopped worker: /livez and /readyz say 200 all the while", pages)
    # An idle one that is stopped costs the next job one attempt, no more.
    d.wait_log("worker_ready", slot=slot, count=2)
    t.is_({w.result_of("beside-%d" % i)["event_type"] for i in range(50)}, {"job.completed"}, "a stopped worker: 50 jobs beside it are served")
    stopped_pids = list(d.workers().values())
    since = d.mark()
    for p in stopped_pids:
        os.kill(p, signal.SIGSTOP)
    w.push(*[job("met-%d" % i, generated(3, retries=5, retry_delay="10ms"), timeout="500ms") for i in range(3)])
    t.is_({w.result_of("met-%d" % i)["event_type"] for i in range(3)}, {"job.completed"}, "all idle workers stopped: the jobs that meet them are served by others")
    t.is_({x["cause"] for x in d.logged("worker_died", since=since)}, {"deadline"}, "all idle workers stopped: ended by the deadline of a job")
    t.ok(not any(alive(p) for p in stopped_pids), "all idle workers stopped: gone")
    stall = d.metric("poller_loop_stall_seconds_max")
    t.ok(stall < 1 * poller.SLOW, "the main loop never stalled", stall)
    t.is_(d.stop(), 0, "stopped workers: exit 0")


def closed_socket(t, b):
    """A worker that closes its socket in the middle and lives on: ended, in all slots at once, and the loop turns."""
    w = World(b)
    d = Daemon(w, {"workers.path": program("t/lib/evil_worker"), "workers.count": 3, "timeouts.kill": "200ms"})
    before = set(d.workers().values())
    w.push(*[job("eof-%d" % i, generated(1, name_template="evil:eof_in_middle", retries=0), timeout="20s", publish="stream") for i in range(3)],
           job("good", generated(1, name_template="good")))
    pages = []

    def ended():
        pages.append(d.http("/readyz")[0])
        return len([r for r in w.reader("results").drain() if r["job_id"].startswith("eof")]) == 3
    at = time.monotonic()
    wait_for("three jobs", ended, 30, every=0.02)
    t.ok(time.monotonic() - at < 15 * poller.SLOW, "closed sockets: long before the deadline")
    rs = [w.result_of("eof-%d" % i) for i in range(3)]
    t.ok(all(r["event_type"] in ("job.failed", "job.partial") and r["error"]["class"] in ("worker_lost", "worker_protocol") for r in rs),
         "closed sockets: each job says so", [r.raw for r in rs])
    t.ok(not any(alive(p) for p in before), "closed sockets: those workers are gone")
    t.is_(w.result_of("good")["event_type"], "job.completed", "closed sockets: a sound job is served after them")
    t.ok(pages and set(pages) <= {200, 503} and d.http("/livez")[0] == 200, "closed sockets: the pages answer all the while", pages)
    t.is_(d.stop(), 0, "closed sockets: exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "t/lib/evil_worker")
    b = MockBroker(t)
    parts = (spool_full, disk_full, few_descriptors, wrong_places, too_large, unread_log, log_disk_full, stopped, closed_socket)
    only = sys.argv[1:]
    for part in parts:
        if not only or part.__name__ in only:
            t.part(part, b)


with Tap() as tap:
    main(tap)
