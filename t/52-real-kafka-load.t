#!/usr/bin/python3
"""Apache Kafka under load: conservation while workers and masters are killed, and a rebalance among two masters."""
import os
import random
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import Ledger, WholeLog  # noqa: E402
from poller import RealBroker, Tap, World, generated, job, need  # noqa: E402

JOBS = 1000
FAST = {"kafka.session_timeout": "1500ms", "workers.count": 4,
        "kafka.properties": {"fetch.wait.max.ms": "20", "reconnect.backoff.max.ms": "500"}}


class Killer:
    """Kills random workers of the daemon that is current, each time after the log has told of a new one."""

    def __init__(self, limit):
        self.limit, self.kills = limit, 0
        self.daemon = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        rng = random.Random(52)
        while self.kills < self.limit and not self.stop.wait(0.05):
            d = self.daemon
            pids = sorted(d.workers().values()) if d else []
            if pids:
                try:
                    os.kill(rng.choice(pids), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


def account(t, w, n, files, what):
    rs = w.reader("results").drain()
    ids, events = {}, {}
    for r in rs:
        ids.setdefault(r["job_id"], set()).add(r["result_id"])
    for e in w.reader("events").drain():
        events.setdefault(e["job_id"], []).append(e["event_id"])
    t.is_(n - len(ids), 0, "%s: lost jobs" % what)
    t.is_({r["event_type"] for r in rs}, {"job.completed"}, "%s: all completed" % what)
    t.ok(all(len(v) == 1 for v in ids.values()), "%s: repeated terminal records carry the same result_id" % what)
    t.is_(sum(len(set(events.get("j-%d" % i, ()))) != files for i in range(n)), 0, "%s: jobs with lost events" % what)
    t.is_(len(w.reader("dlq").drain()), 0, "%s: dead letters" % what)
    total = sum(map(len, events.values()))
    t.diag("%s: %d terminal records for %d jobs (%d repeated); %d events, %d repeated by event_id within their job" %
           (what, len(rs), n, len(rs) - n, total, total - sum(len(set(v)) for v in events.values())))
    return len(rs) - n


def kills(t, b):
    """1,000 jobs over 6 partitions, 100 workers and 10 masters killed."""
    w = World(b, partitions=6, event_partitions=3)
    w.push(*[job("j-%d" % i, generated(5, delay="25ms", retries=50, retry_delay="10ms")) for i in range(JOBS)], partition=lambda i: i % 6)
    rng = random.Random(10)
    killer = Killer(100)
    ledger = Ledger(w)
    d = None
    for k in range(10):
        d = WholeLog(w, FAST, keep=d, name="master %d" % (k + 1))
        killer.daemon = d
        d.wait_log("job_done", count=rng.randint(30, 90), timeout=90)
        killer.daemon = None
        ledger.kill(d)
    d = WholeLog(w, FAST, keep=d, name="last master")
    killer.daemon = d
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= JOBS, 120)
    killer.stop.set()
    killer.thread.join()
    d.wait_metric("poller_active_jobs", 0, 30)
    t.is_(killer.kills, 100, "workers killed")
    account(t, w, JOBS, 5, "100 workers, 10 masters killed")
    ledger.settle(t, w.reader("results").records)
    t.is_(d.stop(), 0, "exit 0")
    t.is_(sum(w.committed().values()), JOBS, "all offsets are committed")


def rebalance(t, b):
    """A second master joins and leaves while the first works: lost 0, repeats at most what was in flight at the revokes."""
    w = World(b, partitions=6)
    conf = dict(FAST, **{"kafka.session_timeout": "6s"})
    w.push(*[job("j-%d" % i, generated(5, delay="25ms")) for i in range(JOBS)], partition=lambda i: i % 6)
    one = WholeLog(w, conf, name="one")
    one.wait_log("job_done", count=100, timeout=60)
    two = WholeLog(w, conf, name="two")
    two.wait_log("job_done", count=60, timeout=60)
    t.ok(one.logged("partitions_revoked"), "the first gave partitions away")
    t.is_(two.stop(), 0, "the second leaves")
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= JOBS, 90)
    one.wait_metric("poller_active_jobs", 0, 30)
    revoked = sum(x["jobs"] for d in (one, two) for x in d.logged("jobs_revoked"))
    repeats = account(t, w, JOBS, 5, "rebalance")
    t.ok(repeats <= revoked, "repeats (%d) at most the jobs in flight at the revokes (%d)" % (repeats, revoked))
    t.is_(one.metric("poller_jobs_revoked_total"), sum(x["jobs"] for x in one.logged("jobs_revoked")), "and counted")
    t.is_(one.stop(), 0, "exit 0")
    t.is_(sum(w.committed().values()), JOBS, "all offsets are committed")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http")
    b = RealBroker(t)
    for part in (kills, rebalance):
        t.part(part, b)


with Tap() as tap:
    main(tap)
