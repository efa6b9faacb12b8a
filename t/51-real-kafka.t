#!/usr/bin/python3
"""The flow against Apache Kafka: what the embedded broker cannot show. Needs Java and Maven; skipped where they cannot be had."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, RealBroker, Tap, World, generated, job, need  # noqa: E402


def absent_at_start(t, b):
    b.kill()
    w = World(b, create=(), name="absent")
    began = time.monotonic()
    d = Daemon(w, ready=False)
    why = d.wait_not_ready("broker")
    t.is_(d.http("/livez")[0], 200, "no broker at the start: alive, not ready: %s" % why)
    b.start()
    for k in w.topics:
        w.create(k)
    d.wait_ready(60)
    t.ok(True, "the broker comes: ready after %.1f s" % (time.monotonic() - began))
    r, e, _ = w.run({"source_type": "dummy", "path": "./dummy_data"}, file_pattern="*.csv", job_id="job_123", priority="normal", metadata={})
    t.is_((r["event_type"], len(e)), ("job.completed", 3), "README's job")
    t.is_(d.stop(), 0, "exit 0")
    t.is_(w.committed(), {0: 1}, "its offset is committed")


def broker_stops(t, b):
    w = World(b, partitions=3)
    d = Daemon(w, {"workers.count": 4})
    n = 300
    w.push(*[job("s-%d" % i, generated(5, delay="20ms")) for i in range(n)], partition=lambda i: i % 3)
    d.wait_log("job_done", count=40)
    b.signal(signal.SIGSTOP)
    time.sleep(8)                     # the fault itself: longer than the session
    t.is_(d.http("/livez")[0], 200, "the broker is stopped: the loop turns")
    b.signal(signal.SIGCONT)
    done(t, w, d, n, 5, "stopped for 8 s and continued")
    d.stop()


def broker_dies(t, b):
    w = World(b, partitions=3)
    d = Daemon(w, {"workers.count": 4})
    n = 300
    w.push(*[job("k-%d" % i, generated(5, delay="20ms")) for i in range(n)], partition=lambda i: i % 3)
    d.wait_log("job_done", count=40)
    since = d.mark()
    b.kill()
    d.wait_log("not_ready", since=since, timeout=40)
    t.is_(d.http("/readyz")[0], 503, "the broker is killed: not ready")
    b.start()
    done(t, w, d, n, 5, "killed and started again")
    d.stop()


def done(t, w, d, n, files, what):
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= n, 90)
    d.wait_metric("poller_active_jobs", 0, 30)
    rs = w.reader("results").drain()
    ids = {}
    for r in rs:
        ids.setdefault(r["job_id"], set()).add(r["result_id"])
    events = {}
    for e in w.reader("events").drain():
        events.setdefault(e["job_id"], set()).add(e["event_id"])
    t.is_((len(ids), {r["event_type"] for r in rs}), (n, {"job.completed"}), "%s: lost 0 of %d" % (what, n))
    t.ok(len(events) == n and all(len(v) == files for v in events.values()), "%s: each event is there" % what)
    t.ok(all(len(v) == 1 for v in ids.values()), "%s: one result_id a job" % what)
    t.diag("%s: %d terminal records repeated" % (what, len(rs) - n))
    t.ok(not w.reader("dlq").drain(), "%s: nothing was charged to a job" % what)
    return len(rs) - n


def topics(t, b):
    w = World(b, create=("jobs", "events"))
    w.push(job("waits", generated(2)))
    d = Daemon(w, {"kafka.topic_check_interval": "1s"}, ready=False)
    why = d.wait_not_ready("topic %s-" % w.group[:-len("-group")])
    t.ok((w.topics["results"] in why or w.topics["dlq"] in why) and not d.logged("job_accepted"), "results and dead letters missing: not ready, named, nothing is taken", why)
    w.create("results")
    w.create("dlq")
    d.wait_ready(60)
    t.is_(w.result_of("waits")["event_type"], "job.completed", "created: the job is served")
    t.is_(d.stop(), 0, "exit 0")

    w = World(b, config={"events": {"max.message.bytes": "2000"}})
    d = Daemon(w)
    r, e, dl = w.run(generated(1), metadata={"x": os.urandom(3000).hex()})
    t.is_((r["event_type"], r["error"] and r["error"]["class"], len(dl)), ("job.failed", "message_too_large", 1), "an event larger than its topic takes")
    r, e, dl = w.run(generated(1))
    t.is_((r["event_type"], len(e)), ("job.completed", 1), "the next job is served")
    t.is_(d.stop(), 0, "exit 0")


def static_membership(t, b):
    w = World(b, partitions=2)
    conf = {"kafka.group_instance_id": "poller-1", "kafka.session_timeout": "20s"}
    d = Daemon(w, conf)
    r, e, _ = w.run(generated(1))
    d.kill()
    began = time.monotonic()
    d = Daemon(w, conf, keep=d)
    r, e, _ = w.run(generated(1))
    took = time.monotonic() - began
    t.ok(r["event_type"] == "job.completed" and took < 10, "a killed static member comes back without waiting for its session: %.1f s" % took)
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http")
    b = RealBroker(t)
    for part in (absent_at_start, topics, static_membership, broker_stops, broker_dies):
        t.part(part, b)


with Tap() as tap:
    main(tap)
