#!/usr/bin/python3
"""The flow against Apache Kafka: what the embedded broker cannot show. Needs Java and Maven; skipped where they cannot be had."""
import os
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, RealBroker, Tap, World, generated, job, need, rfc3339  # noqa: E402


def offset_fetch(w, partition=0):
    """(offset, metadata) as the broker itself holds them: an OffsetFetch request, version 1, by hand."""
    text = lambda s: struct.pack(">h", len(s)) + s.encode()  # noqa: E731
    body = struct.pack(">hhi", 9, 1, 7) + text("test") + text(w.group) + struct.pack(">i", 1) + text(w.topics["jobs"]) + struct.pack(">ii", 1, partition)
    host, port = w.broker.bootstrap.split(":")
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(10)
        s.sendall(struct.pack(">i", len(body)) + body)
        n = struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))[0]
        a = s.recv(n, socket.MSG_WAITALL)
    at = 4 + 4 + 2 + len(w.topics["jobs"]) + 4 + 4
    offset, n = struct.unpack_from(">qh", a, at)
    return offset, a[at + 10:at + 10 + max(n, 0)].decode()


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
    b.kill()
    d.wait_log("not_ready", timeout=40)
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
    why = d.wait_not_ready("topic")
    t.ok((w.topics["results"] in why or w.topics["dlq"] in why) and not d.logged("job_accepted"), "results and dead letters missing: not ready, named, nothing is taken", why)
    w.create("results")
    w.create("dlq")
    d.wait_ready(60)
    t.is_(w.result_of("waits")["event_type"], "job.completed", "created: the job is served")
    t.is_(d.stop(), 0, "exit 0")

    w = World(b, config={"events": {"max.message.bytes": "2000"}})
    d = Daemon(w)
    r, e, dl = w.run(generated(1), metadata={"x": "y" * 4000})
    t.is_((r["event_type"], r["error"] and r["error"]["class"], len(dl)), ("job.failed", "message_too_large", 1), "an event larger than its topic takes")
    r, e, dl = w.run(generated(1))
    t.is_((r["event_type"], len(e)), ("job.completed", 1), "the next job is served")
    t.is_(d.stop(), 0, "exit 0")


def metadata(t, b):
    """900 jobs that wait, each followed by 128 that end at once: the largest text that a commit can carry."""
    w = World(b)
    d = Daemon(w, {"jobs.hold_max": "1h", "log.level": "error", "jobs.queue_max": 20000}, ready=False)
    at = rfc3339(1800)
    values, bad = [], b"{"
    for i in range(900):
        values.append(job("held-%d" % i, generated(1), scheduled_at=at))
        values += [bad] * 128
    w.push(*values)
    began = time.monotonic()
    want = 900 * 128
    seen = d.wait_metric("poller_jobs_total", want, 90, status="failed")
    t.is_(seen, want, "%d messages that do not parse are answered beside 900 that wait" % want)
    t.diag("%.0f a second" % (want / (time.monotonic() - began)))
    got = (0, "")
    end = time.monotonic() + 10
    while time.monotonic() < end and len(got[1]) < 3000:
        got = offset_fetch(w)
        time.sleep(0.1)
    t.ok(got[0] == 0 and 3000 <= len(got[1]) <= 3676, "the broker holds a commit of offset %d with %d characters of metadata" % (got[0], len(got[1])), got[1][:80])
    d.kill()
    d = Daemon(w, {"jobs.hold_max": "1h", "log.level": "error"}, keep=d, ready=False)
    skipped = d.wait_metric("poller_jobs_repeats_skipped_total", want, 60)
    t.is_(skipped, want, "after a SIGKILL the next master skips all that was done")
    t.is_(d.wait_metric("poller_jobs_accepted_total", 900), 900, "and takes the 900 again")
    d.kill()


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
    for part in (absent_at_start, topics, static_membership, metadata, broker_stops, broker_dies):
        t.part(part, b)


with Tap() as tap:
    main(tap)
