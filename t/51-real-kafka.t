#!/usr/bin/python3
"""The flow against Apache Kafka: what the embedded broker cannot show. Needs Java and Maven; skipped where they cannot be had."""
import os
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, RealBroker, Tap, World, free_port, generated, job, need, rfc3339, wait_for  # noqa: E402


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


def serves(d):
    try:
        return d.http("/metrics")[0] == 200
    except OSError:
        return False


def offset_commit(w, offset, metadata):
    """The error code of an OffsetCommit request, version 2, by hand."""
    text = lambda s: struct.pack(">h", len(s)) + s.encode()  # noqa: E731
    body = (struct.pack(">hhi", 8, 2, 7) + text("test") + text(w.group) + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1) +
            text(w.topics["jobs"]) + struct.pack(">iiq", 1, 0, offset) + text(metadata))
    host, port = w.broker.bootstrap.split(":")
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(10)
        s.sendall(struct.pack(">i", len(body)) + body)
        n = struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))[0]
        return struct.unpack(">h", s.recv(n, socket.MSG_WAITALL)[-2:])[0]


def metadata(t, b):
    """Jobs that wait, each followed by 128 messages that end at once: the frontier stands still, the rest travels as text."""
    w = World(b)
    held, gap = 440, 128
    conf = {"jobs.hold_max": "1h", "log.level": "error", "http.listen": "127.0.0.1:%d" % free_port()}
    d = Daemon(w, conf, ready=False)
    wait_for("the status page", lambda: serves(d))
    at = rfc3339(1800)
    values, bad = [], b"{"
    for i in range(held):
        values.append(job("held-%d" % i, generated(1), scheduled_at=at))
        values += [bad] * gap
    w.push(*values)
    began = time.monotonic()
    want = held * gap
    seen = d.wait_metric("poller_jobs_total", want, 60, status="failed")
    t.is_(seen, want, "%d messages that do not parse are answered beside %d that wait" % (want, held))
    t.diag("%.0f a second" % (want / (time.monotonic() - began)))
    got = wait_for("the commit", lambda: (lambda g: g if g[0] == 0 and len(g[1]) > 1700 else None)(offset_fetch(w)), 15)
    t.ok(len(got[1]) <= 3676, "the broker holds a commit of offset 0 with %d characters of metadata, run lengths over a span of %d" % (len(got[1]), len(values)))
    d.kill()
    d = Daemon(w, conf, keep=d, ready=False)
    wait_for("the status page", lambda: serves(d))
    t.is_(d.wait_metric("poller_jobs_repeats_skipped_total", want, 60), want, "after a SIGKILL the next master skips all that was done")
    t.is_(d.wait_metric("poller_jobs_accepted_total", held), held, "and takes only those that had waited")
    d.kill()

    w = World(b, name="largest")
    t.is_((offset_commit(w, 5, "R1" + "A" * 3674), offset_fetch(w)), (0, (5, "R1" + "A" * 3674)), "a real broker takes metadata of 3,676 characters")
    t.ok(offset_commit(w, 6, "A" * 5000) != 0 and offset_fetch(w)[0] == 5, "and refuses 5,000")


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
