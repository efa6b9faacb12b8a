#!/usr/bin/python3
"""20,000 deferred jobs: what they cost in memory, in a file and in Kafka; known again after a kill -9; each done once, none early,
none long after its time. (t/bench/deferred tells the same of 100,000 on Apache Kafka.)"""
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import seconds  # noqa: E402
from poller import SANITIZED, SLOW, Daemon, MockBroker, Tap, World, conservation, free_port, generated, job, need, rfc3339, wait_for  # noqa: E402

N = 20000
FIRST, SPREAD = 18 * SLOW, 10 * SLOW    # seconds from the push: when they are due
PARTITIONS = 8                          # of each topic: the mock broker keeps 5 MB a partition


def consumer(b, **more):
    from confluent_kafka import Consumer
    return Consumer(dict({"bootstrap.servers": b.bootstrap, "group.id": "looks", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}, **more))


def values(b, topic):
    """All of a topic as JSON, without the checks that the tests make of each: there are too many."""
    from confluent_kafka import TopicPartition
    c, ends = consumer(b), 0
    c.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    while ends < PARTITIONS:
        m = c.poll(20)
        if m is None:
            raise RuntimeError("%s was not read to its end" % topic)
        if m.error():
            ends += 1
        else:
            yield json.loads(m.value())
    c.close()


def records(b, topic):
    from confluent_kafka import TopicPartition
    c = consumer(b)
    n = sum(c.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS))
    c.close()
    return n


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    if SANITIZED:
        t.skip_all("the sanitizers' memory is not the program's")
    b = MockBroker(t)
    w = World(b, partitions=4, deferred_partitions=PARTITIONS, create=("jobs", "events", "dlq", "deferred"))
    w.n_partitions["results"] = PARTITIONS
    w.create("results")
    conf = {"jobs.hold_max": "1s", "log.level": "warn", "workers.count": 4, "http.listen": "127.0.0.1:%d" % free_port()}
    d = Daemon(w, conf, ready=False)
    wait_for("ready", lambda: d.ctl("ping")[0] == 0, 30)
    idle = d.memory()
    random.seed(7)
    due = [rfc3339(FIRST + random.random() * SPREAD) for _ in range(N)]
    b.job_topics.discard(w.topics["jobs"])      # nor each of these against the schema
    began = time.monotonic()
    w.push(*[job("d-%d" % i, generated(0), scheduled_at=due[i]) for i in range(N)], partition=lambda i: i % 4)
    wait_for("all to be deferred", lambda: d.metric("poller_deferred_jobs") == N, 40, every=0.2)
    t.diag("%d jobs deferred within %.1f s of the push" % (N, time.monotonic() - began))
    t.is_(records(b, w.topics["deferred"]), N, "one record of the deferred topic for each")
    held = d.memory() - idle
    t.ok(held < N * 1200, "the master holds %.0f bytes for each" % (held / N))
    code, got, _ = d.ctl("jobs", "--deferred", "--limit", "10")
    t.is_((code, len(got["jobs"]), got["deferred"]), (0, 10, N), "jobs --deferred shows ten of them")
    t.ok(time.monotonic() - began < FIRST, "so far none was due", time.monotonic() - began)
    d.kill()
    d = Daemon(w, conf, keep=d, ready=False)
    at = time.monotonic()
    wait_for("all to be known again", lambda: d.ctl("ping")[0] == 0 and d.metric("poller_deferred_jobs") == N, 40, every=0.2)
    t.diag("after kill -9 all are known again %.1f s after the start" % (time.monotonic() - at))
    wait_for("all to end", lambda: d.metric("poller_jobs_total") >= N, FIRST / SLOW + SPREAD / SLOW + 40, every=0.5)
    m = wait_for("the last one's end", lambda: (lambda m: m if d.metric("poller_active_jobs", m) == 0 else None)(d.metrics()))
    left, right = conservation(d, m)
    t.is_((left, d.metric("poller_jobs_total", m, status="completed")), (right, N), "accepted = ended, each completed")
    ids, late = {}, []
    for r in values(b, w.topics["results"]):
        ids.setdefault(r["job_id"], []).append(r["result_id"])
        late.append(seconds(r["started_at"]) - seconds(due[int(r["job_id"][2:])]))
    t.is_((len(ids), sum(len(x) for x in ids.values())), (N, N), "each has one terminal record")
    late.sort()
    t.ok(late[0] >= 0 and late[N * 99 // 100] < 3 * SLOW, "none was early, 99 of 100 were not %.1f s late" % (3 * SLOW), late[0], late[N // 2], late[N * 99 // 100], late[-1])
    n = records(b, w.topics["deferred"])
    t.ok(n < N * 1.2, "%.3f records of the deferred topic for each, marks included" % (n / N))
    t.ok(d.memory() - idle < 64 << 20, "its memory stays small: %d KiB above idle" % ((d.memory() - idle) >> 10))
    t.is_(d.stop(), 0, "it stops")


with Tap() as tap:
    main(tap)
