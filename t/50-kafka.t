#!/usr/bin/python3
"""Kafka's troubles, on the embedded broker: none of them is charged to a job, none loses one.

t/55-real-flow.t runs EVERYWHERE on Apache Kafka, too.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import SANITIZED, Daemon, MockBroker, Tap, World, conservation, generated, job, need  # noqa: E402

# Numbers of Kafka's protocol
PRODUCE, FETCH, OFFSET_COMMIT = 0, 1, 8
NOT_LEADER, OUT_OF_ORDER, COORDINATOR_LOADING = 6, 45, 14
REQUEST_TIMED_OUT = 7


def whole(t, w, n, files, what):
    """All jobs completed, all events there; the mock stores a retried batch twice, so repeats are only told."""
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= n, 90)
    rs = w.reader("results").drain()
    ids, events = {}, {}
    for r in rs:
        ids.setdefault(r["job_id"], set()).add(r["result_id"])
    for e in w.reader("events").drain():
        events.setdefault(e["job_id"], set()).add(e["event_id"])
    t.is_((len(ids), {r["event_type"] for r in rs}), (n, {"job.completed"}), "%s: lost 0 of %d" % (what, n))
    t.ok(len(events) == n and all(len(v) == files for v in events.values()), "%s: each event is there" % what)
    t.ok(all(len(v) == 1 for v in ids.values()) and {r["attempt"] for r in rs} and not w.reader("dlq").drain(), "%s: nothing is charged to a job" % what)
    t.diag("%s: %d terminal records repeated" % (what, len(rs) - n))


def down_at_start(t, b):
    w = World(b)
    w.push(job("waits", generated(3)))
    b.do("down", -1)
    d = Daemon(w, ready=False)
    why = d.wait_not_ready("broker")
    t.is_(d.http("/livez")[0], 200, "down at the start: alive, not ready: %s" % why)
    t.is_(d.ctl("ping")[0], 1, "ping: 1")
    b.do("up", -1)
    began = time.monotonic()
    d.wait_ready(60)
    t.diag("ready %.1f s after the broker" % (time.monotonic() - began))
    t.is_(w.result_of("waits")["event_type"], "job.completed", "up: the job is served")
    t.is_(d.stop(), 0, "exit 0")


def down_in_the_middle(t, b):
    w = World(b, partitions=2)
    d = Daemon(w, {"workers.count": 4, "kafka.session_timeout": "10s"})
    n = 150
    w.push(*[job("m-%d" % i, generated(5, delay="20ms", retries=0)) for i in range(n)])
    d.wait_log("job_done", count=20)
    since = d.mark()
    b.do("down", -1)
    d.wait_log("not_ready", since=since, timeout=40)
    t.is_(d.http("/livez")[0], 200, "down in the middle: the loop turns")
    b.do("up", -1)
    whole(t, w, n, 5, "down and up")
    left, right = conservation(d)
    t.is_(left, right, "conservation")
    t.is_(d.stop(), 0, "exit 0")


def slow_broker(t, b):
    """Back-pressure: with 200 ms to each answer a listing waits in its worker, not in the master."""
    w = World(b, event_partitions=8)
    d = Daemon(w, {"kafka.queue_messages": 4000, "workers.count": 1})
    idle = d.memory()
    b.do("rtt", -1, 200)
    w.push(job("many", generated(30000), publish="stream", timeout="10m"))
    d.wait_log("job_started", job_id="many")
    most = []

    def finished():
        most.append((d.memory(), d.metric("poller_kafka_outstanding_records")))
        return d.logged("job_done", job_id="many")
    end = time.monotonic() + 60
    while not finished() and time.monotonic() < end:
        time.sleep(0.2)
    took = time.monotonic() - end + 60
    b.do("rtt", -1, 0)
    t.diag("%.1f s" % took)
    r = w.result_of("many", 60)
    t.is_((r["event_type"], r["published"]), ("job.completed", 30000), "30,000 events through a broker 200 ms away")
    t.ok(max(o for _, o in most) <= 4000 + 1200, "never many more than kafka.queue_messages wait in the master", max(o for _, o in most))
    t.ok(max(m for m, _ in most) - idle < (64 << 20) * (12 if SANITIZED else 1), "its memory stays flat: %d KiB above idle" % ((max(m for m, _ in most) - idle) >> 10))
    t.is_(d.stop(), 0, "exit 0")


def too_large(t, b):
    w = World(b)
    d = Daemon(w, {"kafka.message_max": 5000})
    r, e, dl = w.run(generated(2), metadata={"x": "y" * 6000})
    t.is_((r["event_type"], r["error"] and r["error"]["class"], len(e)), ("job.failed", "message_too_large", 0), "an event larger than kafka.message_max")
    t.ok(len(dl) == 1 and len(dl[0].raw) < 5000 and dl[0]["original_job"] is None and dl[0]["metadata"]["original_offset"] == 0,
         "a dead letter that would not fit: headers and the pointer", dl and dl[0].raw[:300])
    t.ok(len(r.raw) < 5000, "its terminal record fits, too")
    r, e, dl = w.run(generated(2))
    t.is_((r["event_type"], len(e)), ("job.completed", 2), "the next job is served")
    t.is_(d.stop(), 0, "exit 0")


def request_errors(t, b):
    w = World(b, partitions=2)
    d = Daemon(w, {"workers.count": 4})
    n = 60
    b.do("push_errors", PRODUCE, NOT_LEADER, 3)
    b.do("push_errors", OFFSET_COMMIT, COORDINATOR_LOADING, 3)
    w.push(*[job("e-%d" % i, generated(3, retries=0)) for i in range(n)])
    b.do("push_errors", PRODUCE, REQUEST_TIMED_OUT, 2)
    b.do("push_errors", FETCH, NOT_LEADER, 2)
    whole(t, w, n, 3, "errors of requests")
    t.is_(d.stop(), 0, "exit 0")


def leaders(t, _):
    """Every partition of every topic gets another leader, again and again, while jobs run."""
    b = MockBroker(t, 3)
    w = World(b, partitions=3, event_partitions=1)
    d = Daemon(w, {"workers.count": 4})
    n, files = 300, 6
    w.push(*[job("l-%d" % i, generated(files, delay="40ms")) for i in range(n)], partition=lambda i: i % 3)
    d.wait_log("job_done", count=5)
    moves = 0
    while len(d.logged("job_done")) < n * 9 // 10:
        for topic, partitions in ((w.topics["jobs"], 3), (w.topics["events"], 1), (w.topics["results"], 1)):
            for p in range(partitions):
                b.do("leader", topic, p, 1 + (moves + p) % 3)
        moves += 1
        d.wait_log("job_done", count=min(len(d.logged("job_done")) + 4, n))
    t.ok(moves >= 5, "each partition's leader changed %d times" % moves)
    whole(t, w, n, files, "leaders")
    # the first of each event: a batch whose answer the change took away comes again
    seen, order = set(), {}
    for e in w.reader("events").drain():
        if e["event_id"] not in seen:
            seen.add(e["event_id"])
            order.setdefault(e["job_id"], []).append(int(e["file_name"].rpartition("_")[2].partition(".")[0]))
    t.is_({j: x for j, x in order.items() if x != list(range(files))}, {}, "the events of each job are in their order")
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "all have ended")
    left, right = conservation(d)
    t.is_(left, right, "conservation")
    t.is_(d.stop(), 0, "exit 0")
    b.stop()


def fatal_producer(t, b):
    w = World(b, partitions=2)
    d = Daemon(w, {"workers.count": 4})
    n = 100
    w.push(*[job("f-%d" % i, generated(5, delay="20ms", retries=0)) for i in range(n)])
    d.wait_log("job_done", count=10)
    b.do("push_errors", PRODUCE, OUT_OF_ORDER, 1)
    whole(t, w, n, 5, "a fatal error of the producer")
    resets = d.wait_metric("poller_kafka_producer_resets_total", 1, 5)
    t.ok(resets >= 1, "the producer was thrown away and made anew", resets)
    t.is_(d.stop(), 0, "exit 0")


EVERYWHERE = (too_large,)
# They order the embedded broker to be unreachable, to be slow, or to answer with an error. Of these t/51-real-kafka.t has
# what can be done to a process: it is absent, stopped, killed.
MOCK_ONLY = (down_at_start, down_in_the_middle, slow_broker, request_errors, leaders, fatal_producer)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    for part in MOCK_ONLY + EVERYWHERE:
        t.part(part, b)


if __name__ == "__main__":
    with Tap() as tap:
        main(tap)
