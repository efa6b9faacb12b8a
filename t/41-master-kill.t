#!/usr/bin/python3
"""The master is killed ten times in the middle of its work: no job is lost, repeats carry the same ids and are few."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, generated, job, need  # noqa: E402

JOBS, FILES, KILLS = 400, 5, 10


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    w = World(MockBroker(t), partitions=4)
    rng = random.Random(41)
    w.push(*[job("j-%d" % i, generated(FILES, delay="20ms")) for i in range(JOBS)], partition=lambda i: i % 4)
    workers = 4
    d = None
    for k in range(KILLS):
        d = Daemon(w, {"workers.count": workers}, keep=d, name="master %d" % (k + 1))
        want = rng.randint(8, 25)
        d.wait_log("job_done", count=want, timeout=60)
        d.kill()
        d.log.thread.join(5)
        done = d.logged("job_done")
        t.ok(len(done) >= want, "master %d: killed after %d jobs" % (k + 1, len(done)))
    d = Daemon(w, {"workers.count": workers}, keep=d, name="last master")
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= JOBS, 90)
    d.wait_metric("poller_active_jobs", 0)
    results = w.reader("results").drain()
    ids = {}
    for r in results:
        ids.setdefault(r["job_id"], set()).add(r["result_id"])
    t.is_(len(ids), JOBS, "lost: 0")
    t.ok(all(len(v) == 1 for v in ids.values()), "a repeated terminal record has the same result_id")
    t.is_({r["event_type"] for r in results}, {"job.completed"}, "all completed")
    events = {}
    for e in w.reader("events").drain():
        events.setdefault(e["job_id"], []).append(e["event_id"])
    t.ok(all(len(set(events.get("j-%d" % i, ()))) == FILES for i in range(JOBS)), "each file has its event")
    t.is_(len({i for v in events.values() for i in v}), FILES, "the same files have the same ids, whoever listed them")
    repeats = len(results) - JOBS
    # In flight at a kill: the workers' jobs and those whose records are on their way; finished since the last commit: what
    # four workers finish in 200 ms of 20 ms jobs. The mock broker adds its own: it stores a retried batch twice.
    t.diag("%d jobs, %d master kills: %d terminal records repeated" % (JOBS, KILLS, repeats))
    t.ok(repeats <= KILLS * (workers * 2 + workers * 10 + 10), "repeats are few", repeats)
    t.ok(not [r for r in w.reader("dlq").drain()], "no dead letter")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.is_(sum(w.committed().values()), JOBS, "all offsets are committed")


with Tap() as tap:
    main(tap)
