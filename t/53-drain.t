#!/usr/bin/python3
"""How the daemon stops: gracefully, within its bound, hard, and while the broker is away."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, generated, job, need  # noqa: E402


def drain(t, b):
    w = World(b)
    d = Daemon(w)
    w.push(*[job("d-%d" % i, generated(3, delay="300ms")) for i in range(4)])
    d.wait_log("job_started")
    d.signal(signal.SIGTERM)
    d.wait_log("draining")
    t.is_(d.wait_exit(30), 0, "SIGTERM while jobs run: exit 0")
    started = {x["job_id"] for x in d.logged("job_started")}
    done = {r["job_id"] for r in w.reader("results").drain()}
    t.ok(started and started <= done, "what had begun has ended", started, done)
    d = Daemon(w, keep=d)
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) == 4)
    t.is_(len(w.reader("results").drain()), 4, "the next one does the rest, and nothing twice")
    d.stop()

    w = World(b)
    d = Daemon(w, {"timeouts.drain": "2s"})
    w.push(job("long", generated(3, delay="60s")))
    d.wait_log("job_started")
    began = time.monotonic()
    code = d.stop()
    t.ok(code == 0 and time.monotonic() - began < 10, "a job longer than timeouts.drain: %.1f s, exit %d" % (time.monotonic() - began, code))
    t.ok(not w.reader("results").drain() and all(v <= 0 for v in w.committed().values()), "it is not answered and not committed: it comes again")

    d = Daemon(w, {"timeouts.drain": "60s"}, keep=d)
    d.wait_log("job_started")
    d.signal(signal.SIGTERM)
    d.wait_log("draining")
    began = time.monotonic()
    d.signal(signal.SIGTERM)
    code = d.wait_exit(20)
    t.ok(time.monotonic() - began < 8, "the second signal is hard: %.1f s, exit %d" % (time.monotonic() - began, code))

    w = World(b)
    d = Daemon(w, {"timeouts.drain": "2s"})
    w.push(*[job("x-%d" % i, generated(3, delay="500ms")) for i in range(2)])
    d.wait_log("job_started")
    b.do("down", -1)
    began = time.monotonic()
    code = d.stop()
    t.ok(time.monotonic() - began < 2 + 8, "the broker is down: it ends within the drain and the group's 5 s: %.1f s, exit %d" % (time.monotonic() - began, code))
    b.do("up", -1)
    d = Daemon(w, keep=d)
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) == 2, 60)
    t.ok(True, "nothing was lost by that")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    t.part(drain, MockBroker(t))


with Tap() as tap:
    main(tap)
