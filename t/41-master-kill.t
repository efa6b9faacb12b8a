#!/usr/bin/python3
"""The master is killed ten times in the middle of its work: no job is lost; each kill repeats at most what was in flight
or had ended since the last commit, with the same ids."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import Ledger, WholeLog  # noqa: E402
from poller import MockBroker, Tap, World, generated, job, need  # noqa: E402

JOBS, FILES, KILLS = 800, 5, 10
CONF = {"workers.count": 4}


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    w = World(MockBroker(t), partitions=4)
    rng = random.Random(41)
    # Some jobs are slow: their partitions' frontiers stand still, and what is done beyond it is the metadata's to tell.
    w.push(*[job("j-%d" % i, generated(FILES, delay="1s" if i % 35 == 0 else "50ms")) for i in range(JOBS)], partition=lambda i: i % 4)
    ledger = Ledger(w)
    d = None
    for k in range(KILLS):
        d = WholeLog(w, CONF, keep=d, name="master %d" % (k + 1))
        # The last one works for many times the interval of commits.
        want = rng.randint(20, 65) if k < KILLS - 1 else 150
        d.wait_log("job_done", count=want, timeout=60)
        t.ok(len(ledger.kill(d)) >= want, "%s: killed after %d jobs" % (d.name, want))
    d = WholeLog(w, CONF, keep=d, name="last master")
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= JOBS, 90)
    d.wait_metric("poller_active_jobs", 0)
    results = w.reader("results").drain()
    t.is_(JOBS - len({r["job_id"] for r in results}), 0, "lost: 0")
    t.is_({r["event_type"] for r in results}, {"job.completed"}, "all completed")
    # The mock broker knows no idempotence: it stores a batch that is sent again twice.
    repeats = ledger.settle(t, results, stored_twice=True)
    t.ok(any(k["beyond"] for k in ledger.kills), "some of what was not repeated was known by a commit's metadata alone")
    t.diag("%d jobs, %d master kills: %d terminal records repeated" % (JOBS, KILLS, repeats))
    events = {}
    for e in w.reader("events").drain():
        events.setdefault(e["job_id"], []).append(e["event_id"])
    t.ok(all(len(set(events.get("j-%d" % i, ()))) == FILES for i in range(JOBS)), "each file has its event")
    t.is_(len({i for v in events.values() for i in v}), FILES, "the same files have the same ids, whoever listed them")
    t.is_(w.reader("dlq").drain(), [], "no dead letter")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.is_(sum(w.committed().values()), JOBS, "all offsets are committed")


with Tap() as tap:
    main(tap)
