#!/usr/bin/python3
"""dummy: the files under DUMMY_DATA_PATH, the generator, and its faults' leave."""
import datetime
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, Daemon, MockBroker, Tap, World, folder, generated, need  # noqa: E402


def real_files(t, w):
    r, e, _ = w.run({"source_type": "dummy"})
    have = [f for f in os.listdir(os.path.join(ROOT, "dummy_data")) if not f.startswith(".")]
    t.same_set([x["file_name"] for x in e], have, "no path: all files of dummy.data_path")
    t.ok(all(x["source"]["inode"] == os.stat(x["file_path"]).st_ino for x in e), "source{} of real files")
    r, e, _ = w.run({"source_type": "dummy", "path": "./dummy_data/sample_data_2.csv"})
    t.is_([x["file_name"] for x in e], ["sample_data_2.csv"], "one file as the path")
    for path in ("../", "/etc", "./dummy_data/../master", "dummy_data2"):
        r, e, dl = w.run({"source_type": "dummy", "path": path})
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] in ("policy", "invalid_job") and not e, "path %s: refused" % path, r.raw)


def generator(t, w):
    r, e, _ = w.run(generated(100))
    t.same_set([x["file_name"] for x in e], ["file_%d.csv" % i for i in range(100)], "100 files, named by number")
    t.ok(all(x["file_size"] == 1024 for x in e), "default size")
    start = datetime.datetime(2024, 1, 1)
    t.ok(all(x["modified_at"][:19] == (start + datetime.timedelta(seconds=x["source"]["index"])).isoformat() for x in e), "a second apart")
    r, e, _ = w.run(generated(0))
    t.is_((r["event_type"], len(e)), ("job.completed", 0), "none")
    r, e, _ = w.run(generated(10, name_template="x{index}-{index}.d", size="1KiB", mtime="2020-02-29T12:00:00Z"))
    t.same_set([(x["file_name"], x["file_size"]) for x in e], [("x%d-%d.d" % (i, i), 1024) for i in range(10)], "name_template and size")
    t.is_(min(x["modified_at"] for x in e)[:19], "2020-02-29T12:00:00", "mtime")
    one = w.run(generated(50, seed=7))[1]
    two = w.run(generated(50, seed=7))[1]
    three = w.run(generated(50, seed=8))[1]
    look = lambda es: sorted((x["file_name"], x["file_size"], x["modified_at"]) for x in es)  # noqa: E731
    t.ok(look(one) == look(two) and look(one) != look(three), "seed: repeatable, and another one differs")
    t.ok(len({x["file_size"] for x in one}) > 10 and all(0 <= x["file_size"] <= 2048 for x in one), "seed spreads the sizes")
    r, e, _ = w.run(generated(300), file_pattern="*7.csv", filters={"exclude": ["file_1*"]})
    t.same_set([x["file_name"] for x in e], ["file_%d.csv" % i for i in range(300) if i % 10 == 7 and not str(i).startswith("1")], "patterns and filters are the same code")


def trees(t, w):
    r, e, _ = w.run(generated(400, depth=3, fanout=4, recursive=True))
    paths = [x["relative_path"] for x in e]
    t.is_((len(set(paths)), max(p.count("/") for p in paths), min(p.count("/") for p in paths)), (400, 3, 0), "depth 3")
    t.ok(len({p.split("/")[0] for p in paths if "/" in p}) <= 4, "fanout 4")
    r, e, _ = w.run(generated(400, depth=3, fanout=4))
    t.is_({x["relative_path"].count("/") for x in e}, {0}, "not recursive: the top only")
    r, e, _ = w.run(generated(400, depth=3, fanout=4, recursive=True, max_depth=1))
    t.is_({x["relative_path"].count("/") for x in e}, {0, 1}, "max_depth")


def pace(t, w):
    r, _, _ = w.run(generated(3, delay="700ms"))
    t.ok(0.7 <= r["duration_seconds"] < 6, "delay", r["duration_seconds"])
    r, e, _ = w.run(generated(50, rate=100))
    t.ok(r["duration_seconds"] >= 0.45 and len(e) == 50, "rate: 50 files at 100 a second", r["duration_seconds"])
    r, e, _ = w.run(generated(5, delay="1ms", jitter="50ms", seed=1))
    t.is_((r["event_type"], len(e)), ("job.completed", 5), "jitter")


def errors(t, w):
    for name in ("unsupported", "policy", "not_found", "auth", "permanent", "transient", "timeout", "protocol", "truncated",
                 "listing_loop", "limit", "spool_full", "system", "internal"):
        r, e, dl = w.run(generated(10, error=name, fail_after=4, retries=0))
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == name and not e and len(dl) == 1 and
             dl[0]["failure_info"]["error_type"] == name and dl[0].headers["error_type"], "error %s after 4 files" % name, r.raw)
    for name in ("ok", "worker_crash", "nonsense", "kafka", "cancelled"):
        r, e, dl = w.run(generated(10, error=name, retries=0))
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] in ("unsupported", "invalid_job"), "error %s: no class of a listing" % name, r.raw)


def leave(t, w, d):
    since = d.mark()
    d.write_conf(dummy__allow_faults=False)
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    for source in (generated(1, error="permanent"), generated(1, crash="segv"), generated(1, fault_attempts=1), generated(1, fail_after=1)):
        r, e, dl = w.run(source)
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "policy" and "allow_faults" in r["error"]["message"],
             "allow_faults false: %s refused, the setting named" % sorted(source)[0], r.raw)
    r, e, _ = w.run(generated(2))
    t.is_(r["event_type"], "job.completed", "without faults it is served")


def elsewhere(t, w2):
    d = os.path.join(folder(), "dummy_data")
    os.makedirs(d + "/sub")
    for p in ("x.csv", "sub/y.csv"):
        open(os.path.join(d, p), "w").close()
    e = Daemon(w2, {"dummy.data_path": "/nonexistent"}, env={"DUMMY_DATA_PATH": d})
    r, ev, _ = w2.run({"source_type": "dummy", "path": "./dummy_data", "recursive": True})
    t.same_set([x["relative_path"] for x in ev], ["x.csv", "sub/y.csv"], "DUMMY_DATA_PATH wins over the file")
    t.is_(e.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w)
    for part in (real_files, generator, trees, pace, errors):
        t.part(part, w)
    leave(t, w, d)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    elsewhere(t, World(b))


with Tap() as tap:
    main(tap)
