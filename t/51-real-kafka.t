#!/usr/bin/python3
"""The flow against Apache Kafka: what the embedded broker cannot show. Needs Java and Maven; skipped where they cannot be had."""
import base64
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, RealBroker, Tap, World, generated, job, need, rfc3339  # noqa: E402


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
    t.is_(d.stop(), 0, "it stops")


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
    t.is_(d.stop(), 0, "it stops")


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
    t.ok((w.topics["results"] in why or w.topics["dlq"] in why) and not d.logged("job_accepted"), "results, dead letters and deferred jobs missing: not ready, named, nothing is taken", why)
    w.create("results")
    w.create("dlq")
    w.create("deferred")
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


def out_of_range(t, b):
    """What the group has committed is nowhere in the log, as after a topic that was made anew: loudly from the start, and nothing is passed over."""
    from confluent_kafka import Consumer, TopicPartition
    w = World(b, partitions=2)
    n = 40
    w.push(*[job("o-%d" % i, generated(2)) for i in range(n)], partition=lambda i: i % 2)
    c = Consumer({"bootstrap.servers": b.bootstrap, "group.id": w.group, "log_level": 0})
    c.commit(offsets=[TopicPartition(w.topics["jobs"], p, 1000 + p) for p in range(2)], asynchronous=False)
    c.close()
    d = Daemon(w)
    done(t, w, d, n, 2, "committed beyond the end of the log")
    told = d.logged("partition_went_back")
    t.is_({(x["partition"], x["offset"], x["level"]) for x in told}, {(p, 0, "warn") for p in range(2)}, "each partition is told of")
    t.is_(d.stop(), 0, "exit 0")
    t.is_(w.committed(), {p: n // 2 for p in range(2)}, "what is committed now is in the log")


def grows(t, b):
    """A polling queue gets more partitions while it is read."""
    from confluent_kafka.admin import AdminClient, NewPartitions
    w = World(b)
    d = Daemon(w)
    w.run(generated(1))
    admin = AdminClient({"bootstrap.servers": b.bootstrap, "log_level": 0})     # kept: its end would be the request's
    (f,) = admin.create_partitions([NewPartitions(w.topics["jobs"], 4)]).values()
    f.result(30)
    w.n_partitions["jobs"] = 4
    b._producer = None      # the test's own one does not know them yet
    places = [(p, "g-%d-%d" % (p, i)) for p in range(4) for i in range(3)]
    w.push(*[job(name, generated(1)) for _, name in places], partition=lambda i: places[i][0])
    t.is_({w.result_of(name, 60)["event_type"] for _, name in places}, {"job.completed"}, "jobs of partitions that were added are served, those before them, too")
    t.ok({x["partition"] for x in d.logged("partition_assigned")} == {0, 1, 2, 3}, "all four are held", d.logged("partition_assigned"))
    t.is_(d.stop(), 0, "exit 0")


def decoded(metadata):
    """The done offsets, counted from the frontier, that the text of a commit tells: master/offsets.c, read by other code."""
    if not metadata:
        return set()
    body = base64.b64decode(metadata[2:] + "=" * (-len(metadata[2:]) % 4))[1:]
    if metadata[:2] == "B1":
        return {i for i in range(8 * len(body)) if body[i // 8] >> i % 8 & 1}
    if metadata[:2] != "R1":
        raise ValueError("metadata of a kind unknown here: %r" % metadata)
    runs, at, done = [], 0, set()
    value = shift = 0
    for byte in body:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            runs.append(value)
            value = shift = 0
    for i, n in enumerate(runs):
        done |= set(range(at, at + n)) if i % 2 else set()
        at += n
    return done


def covered(w):
    """{partition: offsets that the group's commit says are done}; no commit: None"""
    return {p: None if offset < 0 else set(range(offset)) | {offset + i for i in decoded(metadata)}
            for p, (offset, metadata) in w.committed_metadata().items()}


def commit_in_revoke(t, b):
    """The first master's commits are a minute apart: what the second one finds can come from the revoke alone."""
    for how in ("dynamic", "static"):
        w = World(b, partitions=4)
        conf = {"kafka.commit_interval": "60s", "jobs.hold_max": "1h", "workers.count": 4}

        def member(name):
            return dict(conf, **({"kafka.group_instance_id": name} if how == "static" else {}))
        one = Daemon(w, member("one"), name="one, %s" % how)
        began = time.monotonic()
        # Odd partitions: all is done. Even ones: a job that waits holds the frontier, and the rest travels in the metadata.
        held = {(0, 3), (2, 0), (2, 5)}
        at = rfc3339(1800)
        places = [(p, i) for p in range(4) for i in range(12)]
        w.push(*[job("r-%d-%d" % x, generated(2), **({"scheduled_at": at} if x in held else {})) for x in places], partition=lambda i: places[i][0])
        one.wait_log("job_done", count=len(places) - len(held))
        want = {p: {i for q, i in places if q == p and (q, i) not in held} for p in range(4)}
        t.is_(one.wait_metric("poller_active_jobs", len(held)), len(held), "%s: all is done but the jobs that wait" % how)
        t.is_(covered(w), {p: None for p in range(4)}, "%s: nothing has been committed before the revoke" % how)

        two = Daemon(w, member("two"), name="two, %s" % how, ready=False)
        two.wait_log("partition_assigned", count=2)
        given = two.logged("partition_assigned")
        took = time.monotonic() - began
        # what the second was told by the group before it began
        t.is_({x["partition"]: (x["committed"], x["done_beyond"]) for x in given},
              {x["partition"]: (min(set(range(13)) - want[x["partition"]]), {0: 8, 2: 10}.get(x["partition"], 0)) for x in given},
              "%s: the second begins where the first had committed in its revoke" % how)
        t.is_(covered(w), want, "%s: the commit covers all that was done, and no more" % how)
        t.ok(took < 55, "%s: %.1f s after the first job: no other commit was due" % (how, took))
        t.ok(one.logged("partitions_revoked", lost=False), "%s: the first was asked to give them back" % how)
        two.wait_log("ready")
        gone = sum(1 for p, _ in held if p in {x["partition"] for x in given})
        two.wait_metric("poller_active_jobs", gone)
        rs = w.reader("results").drain()
        t.same_set([(r["origin"]["partition"], r["origin"]["offset"]) for r in rs], [x for x in places if x not in held], "%s: nothing was done twice" % how)
        t.is_(two.metric("poller_jobs_accepted_total"), gone, "%s: the second took only the jobs that wait in its partitions" % how)
        t.is_(two.stop(), 0, "the second stops")
        t.is_(one.stop(), 0, "the first stops")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http")
    b = RealBroker(t)
    for part in (absent_at_start, topics, static_membership, out_of_range, grows, commit_in_revoke, broker_stops, broker_dies):
        t.part(part, b)


with Tap() as tap:
    main(tap)
