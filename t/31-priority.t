#!/usr/bin/python3
"""Which job next: priorities, turns of tenants, and queues that hold many."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import WholeLog  # noqa: E402
from poller import MockBroker, Tap, World, conservation, generated, job, need  # noqa: E402


def block(w, d, name):
    """Keeps the only worker busy until unblock(): so the order of what waits is the schedule's alone."""
    w.push(job(name, generated(1, delay="600s"), priority="high"))
    d.wait_log("job_started", job_id=name)


def unblock(t, d, name):
    code, out, err = d.ctl("job", "cancel", name)
    if code:
        t.bail("the blocking job cannot be cancelled: %s %s" % (out, err))


def order(d, since, n):
    d.wait_log("job_done", since=since, count=n, timeout=60)
    return [x["job_id"] for x in d.logged("job_started", since=since)]


def overtakes(t, w, d):
    block(w, d, "block-1")
    w.push(*[job("normal-%d" % i, generated(1)) for i in range(1000)])
    d.wait_log("job_accepted", job_id="normal-999")
    w.push(job("urgent", generated(1), priority="high"))
    d.wait_log("job_accepted", job_id="urgent")
    since = d.mark()
    unblock(t, d, "block-1")
    got = order(d, since, 1002)
    t.ok(got.index("urgent") <= 3, "a high job overtakes 1,000 queued normal ones", got[:6])
    t.is_([x for x in got if x.startswith("normal")], ["normal-%d" % i for i in range(1000)], "these go in order of arrival")


def low_starts(t, w, d):
    block(w, d, "block-2")
    w.push(*[job("high-%d" % i, generated(1), priority="high") for i in range(300)], *[job("low-%d" % i, generated(1), priority="low") for i in range(10)])
    d.wait_log("job_accepted", job_id="low-9")
    since = d.mark()
    unblock(t, d, "block-2")
    got = order(d, since, 311)
    at = [i for i, x in enumerate(got) if x.startswith("low")]
    gaps = [b - a for a, b in zip([-1] + at, at)]
    t.ok(len(at) == 10 and max(gaps) <= 10, "under a saturated high queue a low job starts within 10 turns", gaps)
    t.ok(min(gaps) > 1, "and the high ones go first", gaps)


def tenants(t, w, d):
    block(w, d, "block-3")
    w.push(*[job("big-%d" % i, generated(1), org_id="big") for i in range(300)], *[job("small-%d" % i, generated(1), org_id="small") for i in range(5)])
    d.wait_log("job_accepted", job_id="small-4")
    since = d.mark()
    unblock(t, d, "block-3")
    got = order(d, since, 306)
    at = [i for i, x in enumerate(got) if x.startswith("small")]
    t.ok(max(at) <= 15, "a tenant with 5 jobs does not wait for one with 300", at)


def waiting(t, w, d):
    block(w, d, "block-4")
    w.push(*[job("w%d-%s" % (i, p), generated(1), priority=p) for p in ("high", "normal", "low") for i in range(7)])
    d.wait_log("job_accepted", job_id="w6-low")
    got = [d.wait_metric("poller_queue_depth", 7, priority=p) for p in ("high", "normal", "low")]
    t.is_(got, [7, 7, 7], "poller_queue_depth tells them by priority")
    t.is_(d.wait_metric("poller_active_jobs", 22), 22, "poller_active_jobs, too")
    since = d.mark()
    unblock(t, d, "block-4")
    order(d, since, 22)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "and falls to 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    w = World(MockBroker(t))
    # The order is read off the log, whose lines come by the hundred at once: it must be whole.
    d = WholeLog(w, {"workers.count": 1})
    for part in (overtakes, low_starts, tenants, waiting):
        t.part(part, w, d)
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + in flight")
    t.is_(len(w.reader("results").drain(120)), int(left), "a terminal record for each")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.is_(d.logged("log_dropped"), [], "no line of the log was lost")


with Tap() as tap:
    main(tap)
