#!/usr/bin/python3
"""Worker programs that break the rules of the frames, or never begin: each is killed, and the master goes on."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, Daemon, MockBroker, Tap, Timeout, World, alive, generated, job, need, program  # noqa: E402


def evil(t, b):
    """A worker program that breaks each rule of the frames: it alone is killed, its job dead-lettered, the master goes on."""
    path = program("t/lib/evil_worker")
    if not os.access(path, os.X_OK):
        t.bail("%s is not built" % path)
    w = World(b)
    d = Daemon(w, {"workers.path": path, "workers.count": 2})
    with open(os.path.join(ROOT, "t/lib/evil_worker.c")) as f:
        all_kinds = re.findall(r'\{ "(\w+)", s_\w+ \}', f.read())
    t.ok(len(all_kinds) >= 20, "the evil worker knows %d kinds" % len(all_kinds))
    fds = len(os.listdir("/proc/%d/fd" % d.pid))
    for kind in all_kinds:
        since = d.mark()
        w.push(job("evil-" + kind, generated(1, name_template="evil:" + kind, retries=0, retry_delay="10ms"), timeout="1s",
                   publish="atomic" if kind.startswith("spool") else "stream"))
        try:
            r = w.result_of("evil-" + kind, 20)
        except Timeout as e:
            t.ok(False, "evil worker, %s: its job ends" % kind, e, *d.raw[-5:])
            continue
        cls = r["error"] and r["error"]["class"]
        if kind == "descriptors":
            # Nothing takes them: the kernel drops them, and the frames around them are good ones.
            t.ok(r["event_type"] == "job.completed" and len(os.listdir("/proc/%d/fd" % d.pid)) <= fds + 2, "evil worker, descriptors: none of them arrives", r.raw)
            continue
        if kind == "duplicate_done":
            t.ok(r["event_type"] == "job.completed", "evil worker, duplicate_done: the first one counts", r.raw)
        else:
            t.ok(r["event_type"] == ("job.partial" if r["published"] and not kind.startswith("spool") else "job.failed") and cls in ("worker_protocol", "worker_lost", "timeout", "worker_crash"),
                 "evil worker, %s: %s" % (kind, cls), r.raw)
        if kind.startswith("spool"):
            # Whatever of the spool was right: an atomic listing is published whole or not at all.
            t.is_((r["published"] or 0, len(w.events_of("evil-" + kind))), (0, 0), "evil worker, %s: not one event left" % kind)
        t.ok(d.wait_log("worker_died", since=since) and alive(d.pid), "%s: it is gone, the master is not" % kind)
    r, e, dl = w.run(generated(3, name_template="good_{index}"))
    t.ok(r["event_type"] == "job.completed", "the same program, honest: served", r.raw)
    t.ok(d.metric("poller_worker_frames_refused_total") > 0, "refused frames are counted")
    t.is_(d.stop(), 0, "exit 0")


def starts(t, b):
    w = World(b)
    d = Daemon(w, {"workers.path": "/bin/cat", "timeouts.start": "300ms"}, ready=False)
    d.wait_log("worker_died", count=4, timeout=40)
    died = d.logged("worker_died")
    t.ok({x["cause"] for x in died} <= {"start", "protocol", "exit", "killed", "clean"}, "a worker that is never READY is killed", died[:3])
    t.ok(not d.logged("ready") and alive(d.pid), "the master waits, not ready")
    t.ok(d.wait_not_ready("worker"), "/readyz says 503, and why")
    t.is_(d.stop(), 0, "and stops when told")
    d = Daemon(w, {"workers.path": "/nonexistent/worker"}, ready=False)
    code = d.wait_exit(40)
    t.ok(code in (69, 71, 78) and "/nonexistent/worker" in "".join(d.raw), "a worker program that is not there: named, exit %d" % code, d.raw[-3:])


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "t/lib/evil_worker")
    b = MockBroker(t)
    t.part(evil, b)
    t.part(starts, b)


with Tap() as tap:
    main(tap)
