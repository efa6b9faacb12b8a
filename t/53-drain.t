#!/usr/bin/python3
"""How the daemon stops: gracefully, within its bound, hard, and while the broker is away."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import Committed, WholeLog  # noqa: E402
from poller import SLOW, Daemon, MockBroker, Tap, World, alive, generated, job, need, wait_for  # noqa: E402


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
    t.is_(d.stop(), 0, "it stops")

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


def forced(t, b, how):
    """Several workers at work when the drain is cut off: of what was in flight nothing is said, and the next daemon does it."""
    w = World(b, partitions=2, name="forced-" + how.split()[-1])
    d = WholeLog(w, {"workers.count": 5, "timeouts.drain": "60s" if how == "second signal" else "%ds" % int(3 * SLOW)})
    long = "%ds" % int(8 * SLOW)
    slow = {"slow-%d" % i: generated(4, delay=long, **({"retries": 0} if i % 2 else {})) for i in range(3)}
    places = dict(zip(slow, w.push(*[job(j, c, publish="stream" if j == "slow-2" else "atomic") for j, c in slow.items()], partition=lambda i: i % 2)))
    d.wait_log("job_started", count=3)
    quick = ["quick-%d" % i for i in range(20)]
    ended = w.push(*[job(j, generated(2)) for j in quick], partition=lambda i: i % 2)
    d.wait_log("job_done", count=len(quick))
    wait_for("the commit of what is done", lambda: (lambda c: all(x in c for x in ended))(Committed(w)))
    places["fourth"] = w.push(job("fourth", generated(2, delay=long)), partition=0)[0]
    late, = w.push(job("late", generated(2, delay="%dms" % int(1500 * SLOW)), priority="high"), partition=1)
    d.wait_log("job_started", job_id="fourth")
    d.wait_log("job_started", job_id="late")
    # All five are busy: these find none.
    w.push(*[job("waits-%d" % i, generated(2)) for i in range(6)], partition=0)
    d.wait_log("job_accepted", job_id="waits-5")
    in_flight = set(slow) | {"fourth"}
    d.signal(signal.SIGTERM)
    d.wait_log("draining")
    # It ends while the daemon drains: there is a last commit to make.
    d.wait_log("job_done", job_id="late")
    if how == "second signal":
        d.signal(signal.SIGTERM)
        d.wait_log("stopping_hard")
    else:
        d.wait_log("drain_deadline", timeout=20)
    t.is_(d.wait_exit(20), 0, "%s: exit 0" % how)
    t.ok(not any(alive(p) for p in d.workers().values()) or wait_for("the workers' end", lambda: not any(alive(p) for p in d.workers().values())),
         "%s: no worker is left" % how)
    rs = w.reader("results").drain()
    t.same_set([r["job_id"] for r in rs], quick + ["late"], "%s: what had ended has its terminal record, four in flight have none" % how)
    t.is_(w.reader("dlq").drain(), [], "%s: no dead letter" % how)
    t.is_([e["job_id"] for e in w.reader("events").drain() if e["job_id"] in in_flight - {"slow-2"}], [], "%s: nor an event of an atomic one" % how)
    now = Committed(w)
    t.is_([j for j, place in places.items() if place in now], [], "%s: they are not committed" % how)
    t.ok(all(now.parts[p][0] <= 0 for p in (0, 1)), "%s: no frontier has passed them" % how, now.parts)
    e = WholeLog(w, {"workers.count": 4}, keep=d)
    every = set(quick) | in_flight | {"late"} | {"waits-%d" % i for i in range(6)}
    w.reader("results").until(lambda rs: {r["job_id"] for r in rs} >= every, 60)
    rs = w.reader("results").drain()
    t.ok({r["job_id"] for r in rs} == every and {r["event_type"] for r in rs} == {"job.completed"}, "%s: the next daemon ends them all" % how)
    t.is_({r["attempt"] for r in rs if r["job_id"] in in_flight}, {1}, "%s: the stop is not counted as an attempt of theirs" % how)
    # A hard stop waits for no commit: what ended last may come again.
    known = late in now
    t.ok(known or how == "second signal", "%s: what ended during the drain is committed" % how)
    t.same_set([r["job_id"] for r in rs if known or r["job_id"] != "late"], every - (set() if known else {"late"}), "%s: and repeats nothing that was" % how)
    t.is_(e.stop(), 0, "%s: the next one stops: exit 0" % how)
    t.is_(sum(w.committed().values()), len(every), "%s: all offsets are committed" % how)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    t.part(drain, b)
    t.part(forced, b, "second signal")
    t.part(forced, b, "drain bound")


with Tap() as tap:
    main(tap)
