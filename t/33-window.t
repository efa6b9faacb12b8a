#!/usr/bin/python3
"""One partition's window is full: it alone is paused, the others go on; at half it is resumed, and nothing is lost."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import WholeLog  # noqa: E402
from poller import MockBroker, Tap, World, conservation, generated, job, need, rfc3339, wait_for  # noqa: E402

WINDOW = 16384          # offsets that a commit's metadata can tell of, whatever is done of them
FIRST, BEYOND, OTHERS = 9000, 300, 60


def partition(d, n):
    """What the daemon says of one partition."""
    status, body = d.http("/status.json")
    return next((p for p in json.loads(body)["kafka"]["partitions"] if p["partition"] == n), None)


def high(w, which):
    from confluent_kafka import TopicPartition
    return w.reader(which).c.get_watermark_offsets(TopicPartition(w.topics[which], 0), timeout=10)[1]


def window(t, b):
    w = World(b, partitions=2)
    d = WholeLog(w, {"jobs.hold_max": "1h", "jobs.queue_max": 100000, "jobs.queue_bytes": "256MiB", "log.level": "debug"})
    # Jobs that wait for their time take no worker; those of one name are ended by one command.
    at = rfc3339(1800)
    first = json.dumps(job("first", generated(1), scheduled_at=at)).encode()
    rest = json.dumps(job("rest", generated(1), scheduled_at=at)).encode()
    w.push(*[first] * FIRST, *[rest] * (WINDOW - FIRST), *[json.dumps(job("beyond", generated(1))).encode()] * BEYOND, partition=0)
    paused = d.wait_log("partition_paused", partition=0, timeout=60)
    t.is_((paused["span"], paused["in_hand"]), (WINDOW, WINDOW), "a partition with %d offsets taken and not done is paused" % WINDOW)
    w.push(*[job("other-%d" % i, generated(2), priority="low") for i in range(OTHERS)], partition=1)
    others = w.reader("results").read(OTHERS, 60)
    t.same_set([r["job_id"] for r in others], ["other-%d" % i for i in range(OTHERS)], "meanwhile the other partition's jobs are served")
    t.is_({r["event_type"] for r in others}, {"job.completed"}, "all of them completed")
    t.is_(d.wait_metric("poller_active_jobs", WINDOW), WINDOW, "the full partition's jobs wait")
    t.is_(d.wait_metric("poller_jobs_accepted_total", WINDOW + OTHERS), WINDOW + OTHERS, "nothing beyond its window is taken")
    t.is_([x for x in d.logged("partition_paused") if x["partition"] != 0], [], "no other partition is paused")
    got = wait_for("the page", lambda: (lambda p: p if p and p["paused"] else None)(partition(d, 0)))
    t.is_((got["frontier"], got["unfinished"], partition(d, 1)["paused"]), (0, WINDOW, False), "/status.json tells which is paused")
    t.is_(d.wait_metric("poller_consumer_lag_records", WINDOW + BEYOND, partition="0"), WINDOW + BEYOND, "poller_consumer_lag_records counts what waits in Kafka, too")
    t.is_(d.logged("partition_resumed"), [], "it stays paused")

    code, out, err = d.ctl("job", "cancel", "first")
    t.ok(code == 0, "%d of its jobs end" % FIRST, out, err)
    resumed = d.wait_log("partition_resumed", partition=0, timeout=60)
    t.ok(WINDOW // 2 - 1500 < resumed["span"] <= WINDOW // 2, "it is resumed at half: %d" % resumed["span"])
    t.is_(d.wait_metric("poller_jobs_total", OTHERS + BEYOND, 60, status="completed"), OTHERS + BEYOND, "what lay beyond its window is served")
    code, out, err = d.ctl("job", "cancel", "rest")
    t.ok(code == 0, "the rest ends", out, err)
    t.is_(d.wait_metric("poller_jobs_total", WINDOW, 60, status="cancelled"), WINDOW, "each of the %d had its end" % WINDOW)
    t.is_(d.wait_metric("poller_consumer_lag_records", 0), 0, "there is no lag")
    t.is_(len(d.logged("partition_paused")), 1, "paused once")
    left, right = conservation(d)
    t.is_((left, right), (WINDOW + BEYOND + OTHERS, WINDOW + BEYOND + OTHERS), "accepted = ended = pushed")
    t.is_(high(w, "results"), WINDOW + BEYOND + OTHERS, "a terminal record for each")
    t.is_(d.stop(), 0, "exit 0")
    t.is_(w.committed(), {0: WINDOW + BEYOND, 1: OTHERS}, "all offsets are committed")


def slow(t, b):
    """A window that is full of one tenant's jobs, which do not end: it gives them up, and what lies behind is read."""
    w = World(b, partitions=1)
    d = WholeLog(w, {"jobs.queue_max": 100000, "jobs.queue_bytes": "256MiB", "pools.theirs": {"workers": 1, "tenants": ["a"]}, "pools.rest": {"workers": 1}})
    hour = json.dumps(job("hour", generated(1, delay="1h"), org_id="a")).encode()
    w.push(*[hour] * (WINDOW + BEYOND), json.dumps(job("b", generated(1), org_id="b")).encode())
    d.wait_log("partition_paused", partition=0, timeout=60)
    t.is_(w.result_of("b", 60)["event_type"], "job.completed", "another tenant's job behind a full window of jobs that do not end is read and ends")
    t.is_([r["job_id"] for r in w.reader("results").records], ["b"], "not one of them has ended")
    t.is_({x["org_id"] for x in d.logged("job_deferred")}, {"a"}, "they wait in the deferred topic")
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + deferred + in hand")
    d.kill()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    t.part(window, b)
    t.part(slow, b)


with Tap() as tap:
    main(tap)
