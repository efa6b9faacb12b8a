#!/usr/bin/python3
"""Jobs that must wait longer than jobs.hold_max: the deferred topic.

They come back in the order of their due times, whatever they were written in; a kill -9 at any moment loses none, and
what had ended before is not done again; result_id and origin stay those of the first message; nothing that was not
written by a poller passes for a deferred job, and no mark that was not signed makes one vanish.
"""
import base64
import hashlib
import hmac
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import *  # noqa: E402,F403
from s3servers import Pages  # noqa: E402

PRODUCE, OFFSET_COMMIT = 0, 8    # their numbers in Kafka's protocol
CONF = {"jobs.hold_max": "500ms", "kafka.commit_interval": "50ms"}


def later(seconds):
    """A time that far from now, or farther where all is slow."""
    return rfc3339(seconds * SLOW)


def deferred(d, *more):
    code, got, err = d.ctl("jobs", "--deferred", *more)
    return got["jobs"] if code == 0 else err


def wait_deferred(d, n):
    """Until n jobs wait in the deferred topic and are known to this daemon."""
    return wait_for("%d deferred jobs" % n, lambda: (lambda j: j if len(j) == n else None)(deferred(d)) or (n == 0 and not deferred(d)), 20)


def ids(records):
    return [r["job_id"] for r in records]


def conserved(t, d, ended, name):
    """Once the page tells of so many ended jobs."""
    m = wait_for("the jobs' end on the page", lambda: (lambda m: m if d.metric("poller_jobs_total", m) >= ended and d.metric("poller_active_jobs", m) == 0 else None)(d.metrics()), 15, every=0.2)
    left, right = conservation(d, m)
    t.is_(left, right, "%s: accepted = ended + deferred + revoked" % name)
    return m


def headers_of(w):
    """Every record of the deferred topic: [(partition, offset, key, value, headers)]"""
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": w.broker.bootstrap, "group.id": "looks", "enable.auto.commit": False, "fetch.wait.max.ms": 20})
    got = []
    try:
        for p in range(w.n_partitions["deferred"]):
            tp = TopicPartition(w.topics["deferred"], p, 0)
            high = c.get_watermark_offsets(tp, timeout=10)[1]
            c.assign([tp])
            while high and (not got or got[-1][:2] != (p, high - 1)):
                m = c.poll(5)
                if m is not None and m.error() is None:
                    got.append((m.partition(), m.offset(), m.key(), m.value(), {k: (v or b"").decode() for k, v in m.headers() or []}))
    finally:
        c.close()
    return got


# ---- the way of a deferred job -------------------------------------------------------------------------------------------

def order(t, w):
    d = Daemon(w, CONF)
    whens = [4.5, 3.6, 4.2, 3.9, 4.8, 3.3]
    jobs = [job("due-%d" % i, generated(1), scheduled_at=later(s), metadata={"n": i}, org_id="an org") for i, s in enumerate(whens)]
    w.push(*jobs, key=b"the key", headers={"traceparent": "00-%032x-%016x-01" % (7, 9)})
    seen = wait_deferred(d, 6)
    by_due = ["due-%d" % i for i in sorted(range(6), key=lambda i: whens[i])]
    t.is_(ids(seen), by_due, "jobs --deferred lists them, the next that is due first")
    t.is_([(x["reason"], x["org_id"], x["times"], x["origin"]["topic"]) for x in seen], [("schedule", "an org", 1, w.topics["jobs"])] * 6, "with reason, tenant and origin")
    code, text, _ = d.ctl("jobs", "--deferred", json_out=False)
    t.ok(code == 0 and all(x in text for x in ("DUE", "REASON", "due-5", "schedule")), "and as a table", text)
    records = headers_of(w)
    t.same_set([r[3] for r in records], [json.dumps(j, ensure_ascii=False).encode() for j in jobs], "the bytes of the message are untouched")
    t.is_({r[2] for r in records}, {b"the key"}, "and its key is")
    h = records[0][4]
    t.ok(h["deferred_until"] == json.loads(records[0][3])["scheduled_at"].replace("Z", "000000Z") and h["deferred_reason"] == "schedule" and
         h["deferred_tasks"] == "0.0.0.0" and h["origin_topic"] == w.topics["jobs"] and h["deferred_count"] == "1", "the headers say the rest", h)
    r = w.results(6, 30)
    t.is_(ids(r), by_due, "they come back in the order of their due times")
    t.ok(all(x["event_type"] == "job.completed" and x["started_at"] >= jobs[x["metadata"]["n"]]["scheduled_at"] for x in r), "none before its time")
    late = max(ns(x["started_at"]) - ns(jobs[x["metadata"]["n"]]["scheduled_at"]) for x in r)
    t.ok(late < 1.0 * SLOW, "none long after it (%.3f s)" % late)
    t.is_([x["origin"] for x in sorted(r, key=lambda x: x["metadata"]["n"])], [{"topic": w.topics["jobs"], "partition": 0, "offset": i} for i in range(6)], "origin is the first message's place")
    t.is_({x["result_id"] for x in r}, {uuid_of(w.topics["jobs"], 0, i) for i in range(6)}, "and result_id is made of it")
    t.ok(all(x.headers.get("traceparent") == "00-%032x-%016x-01" % (7, 9) for x in r), "traceparent comes along")
    t.ok(all(x["received_at"] < jobs[x["metadata"]["n"]]["scheduled_at"] for x in r), "received_at is when it was taken first")
    m = conserved(t, d, 6, "deferred and done")
    t.is_([d.metric(x, m) for x in ("poller_jobs_accepted_total", "poller_jobs_deferred_total", "poller_jobs_total", "poller_deferred_jobs")], [12, 6, 6, 0], "accepted twice, deferred once, ended once")
    t.is_(d.stop(), 0, "stops")
    d = Daemon(w, CONF, keep=d)
    d.wait_log("deferred_ready", count=2)
    t.is_(deferred(d), [], "a restart finds none of them again")
    t.is_(len(w.reader("results").drain()), 6, "and repeats none")
    return d


def ns(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


_space = None


def uuid_of(topic, partition, offset):
    """result_id as CONTRACT has it: a UUIDv5 over origin topic, partition and offset, in the project's name space."""
    import uuid
    global _space
    if _space is None:
        with open(os.path.join(ROOT, "common/uuid.c")) as f:
            text = f.read()
        _space = bytes(int(x, 16) for x in re.findall(r"0x([0-9a-f]{2})", re.search(r"uuid_ns_poller\[16\] = \{(.*?)\}", text, re.S).group(1)))
    data = b"".join(struct.pack(">I", len(x)) + x for x in (b"result", topic.encode(), b"%d:%d" % (partition, offset)))
    digest = bytearray(hashlib.sha1(_space + data).digest()[:16])
    digest[6] = digest[6] & 0x0f | 0x50
    digest[8] = digest[8] & 0x3f | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def cancel(t, w, d):
    w.push(job("to-cancel", generated(1), scheduled_at=later(3600)), job("stays", generated(1), scheduled_at=later(3600)))
    wait_deferred(d, 2)
    code, got, err = d.ctl("job", "cancel", "to-cancel")
    t.is_((code, got and got["cancelled"]), (0, 1), "job cancel takes one that is deferred")
    r = w.result_of("to-cancel")
    t.is_((r["event_type"], r["error"]["class"]), ("job.cancelled", "cancelled"), "it ends as cancelled")
    t.is_(ids(wait_deferred(d, 1)), ["stays"], "the other one stays")
    code, _, err = d.ctl("job", "cancel", "nobody")
    t.ok(code != 0 and "none deferred" in err, "one that is not there", err)
    code, _, err = d.ctl("jobs", "--deferred", "--state", "queued")
    t.ok(code == 64, "a deferred job has no state", err)


def cancel_lasts(t, b):
    """A deferred job that is cancelled cannot be released at once: a restart does not forget it. What Kafka does not take is not said to be cancelled."""
    w = World(b, name="lasts", deferred_partitions=1)
    d = Daemon(w, dict(CONF, **{"kafka.topic_check_interval": "1s"}))
    w.push(job("cancelled", generated(1), scheduled_at=later(3600)), job("not-yet", generated(1), scheduled_at=later(3600)))
    wait_deferred(d, 2)
    # without its results' topic nothing is released
    b.do("topic_error", w.topics["results"], 29)
    d.wait_not_ready(w.topics["results"])
    code, got, err = d.ctl("job", "cancel", "cancelled")
    t.is_((code, got and got["cancelled"]), (0, 1), "cancelled while nothing is released")
    t.is_({x["job_id"]: x["cancelled"] for x in deferred(d)}, {"cancelled": True, "not-yet": False}, "it waits until it can end")
    b.do("push_errors", PRODUCE, 29, 1000)
    code, _, err = d.ctl("job", "cancel", "not-yet")
    t.ok(code == 75 and "0 cancelled; 1 deferred" in err and "ask again" in err, "one of which Kafka does not take the wish is refused", code, err)
    t.is_({x["job_id"]: x["cancelled"] for x in deferred(d)}, {"cancelled": True, "not-yet": False}, "and not cancelled")
    d.kill()
    b.do("topic_error", w.topics["results"], 0)
    b.do("clear_errors", PRODUCE)
    d = Daemon(w, CONF, keep=d)
    r = w.results(1, 30)[0]
    t.is_((r["job_id"], r["event_type"], r["error"]["class"]), ("cancelled", "job.cancelled", "cancelled"), "after kill -9 it ends as cancelled")
    t.is_(ids(wait_deferred(d, 1)), ["not-yet"], "the other one waits")
    code, got, _ = d.ctl("job", "cancel", "not-yet")
    t.is_((code, got and got["cancelled"]), (0, 1), "and is cancelled when asked again")
    w.result_of("not-yet")
    t.is_(sorted((x["job_id"], x["event_type"]) for x in w.reader("results").drain()), [("cancelled", "job.cancelled"), ("not-yet", "job.cancelled")], "each once")
    return stop(d)


def cancel_held(t, b):
    """The deferred topic takes nothing: the job that should go there is still in hand, and can be cancelled."""
    w = World(b, name="held")
    d = Daemon(w, dict(CONF, **{"retry.max_delay": "60s"}))
    w.push(job("goes", generated(1, delay="1s", error="transient", retries=1, retry_delay="30s")))
    d.wait_log("job_started")
    b.do("topic_error", w.topics["deferred"], 29)
    d.wait_log("defer_held", job_id="goes")
    _, got, _ = wait_for("a cancel", lambda: (lambda x: x if x[0] == 0 else None)(d.ctl("job", "cancel", "goes")), 10)
    t.is_(got["cancelled"], 1, "a job that the deferred topic does not take is cancelled")
    r = w.result_of("goes")
    t.is_((r["event_type"], r["error"]["class"]), ("job.cancelled", "cancelled"), "it ends as cancelled")
    m = conserved(t, d, 1, "cancelled while it was held")
    t.is_(d.metric("poller_jobs_deferred_total", m), 0, "and was not deferred")
    d.kill()


def bounds(t, w, d):
    r, _, dl = w.run(generated(1), scheduled_at=rfc3339(86400 * 32))
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "policy"), "later than deferred.longest is refused by name")
    t.ok("scheduled_at" in r["error"]["message"] and "deferred.longest" in r["error"]["message"], "both are named", r["error"])
    old = Daemon(w, dict(CONF, **{"kafka.message_max": "5000", "jobs.max_age": "10s"}), keep=stop(d))
    r, _, dl = w.run(generated(1), scheduled_at=later(60), metadata={"x": "y" * 4600})
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "message_too_large"), "what Kafka would not take with its headers is a dead letter")
    r, _, _ = w.run(generated(1), scheduled_at=later(2.5), created_at=rfc3339(-8))
    t.is_(r["event_type"], "job.completed", "jobs.max_age is about the first time a job is taken")
    return old


def stop(d):
    Tap.current.is_(d.stop(), 0, "it stops")
    return d


# ---- long retries --------------------------------------------------------------------------------------------------------

def retries(t, b):
    w = World(b, name="retries")
    d = Daemon(w, dict(CONF, **{"retry.max_delay": "60s", "workers.count": 4}))
    w.push(job("long", generated(1, error="transient", retries=2, retry_delay="1s", retry_backoff=1)),
           job("two", [generated(1, error="transient", retries=1, retry_delay="1s"), generated(3, delay="100ms")]))
    r = w.result_of("two")
    by = {x["listed"]: x for x in r["sources"]}
    t.is_((r["event_type"], by[3]["attempts"], by[3]["published"], sum(x["attempts"] for x in r["sources"])), ("job.partial", 1, 3, 3),
          "a source that retries while another one runs or has ended is held, and tried as often")
    r = w.result_of("long")
    dl = w.dead_letters_of("long")[0]
    t.is_((r["event_type"], r["attempt"], dl["failure_info"]["retry_count"]), ("job.failed", 3, 2), "attempts and budget go on where they were before it was deferred")
    t.ok(r["duration_seconds"] > 1.5, "started_at is that of the first attempt", r["duration_seconds"])
    m = conserved(t, d, 2, "long retries")
    t.is_(d.metric("poller_jobs_deferred_total", m, reason="retry"), 2, "it was deferred twice, as a retry")
    counts = sorted((h["deferred_count"], h["deferred_tasks"], h["deferred_reason"], h["error_type"]) for _, _, _, _, h in headers_of(w) if "origin_topic" in h)
    t.is_(counts, [("1", "1.1.0.0", "retry", "transient"), ("2", "2.2.0.0", "retry", "transient")], "and its headers counted")
    return stop(d)


def slow_down(t, b):
    """A store that is busy for longer than a worker waits (10 s), and than jobs.hold_max."""
    w = World(b, name="slow")
    d = Daemon(w, dict(CONF, **{"egress.allow": ["127.0.0.1/32"]}))
    busy = []

    def answer(request):
        busy.append(time.monotonic())
        return (503, {"Retry-After": "11"}, b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>later</Message></Error>") if len(busy) == 1 else None
    store = Pages([b"a.csv", b"b.csv"], fault=answer)
    w.push(job("slow-down", store.source(retries=2, retry_delay="10ms")))
    waits = wait_deferred(d, 1)[0]
    t.ok((waits["job_id"], waits["reason"], waits["error"]) == ("slow-down", "retry", "transient") and 8 < waits["seconds"] <= 11, "S3's 503 with a Retry-After beyond jobs.hold_max: deferred for as long", waits)
    r = w.result_of("slow-down")
    t.is_((r["event_type"], r["attempt"], r["matched"], len(busy)), ("job.completed", 2, 2, 2), "it comes back for its second attempt, and completes")
    t.ok(busy[1] - busy[0] >= 11, "not before its time (%.3f s)" % (busy[1] - busy[0]))
    store.stop()
    m = conserved(t, d, 1, "slow down")
    t.is_(d.metric("poller_jobs_deferred_total", m, reason="retry"), 1, "deferred once")
    return stop(d)


# ---- kill -9 -------------------------------------------------------------------------------------------------------------

def killed(t, b):
    """Half of them have ended beyond the frontier when the daemon is killed: a mark tells, and they are not done again."""
    w = World(b, name="killed", partitions=2)
    d = Daemon(w, CONF)
    n = 40
    w.push(*[job("k-%d" % i, generated(1), scheduled_at=later(3600 if i % 4 == 0 else 4)) for i in range(n)], partition=lambda i: i % 2)
    soon = ["k-%d" % i for i in range(n) if i % 4]
    w.results(len(soon), 30)
    # the marks, and the commits, are there
    wait_for("marks of all that is done", lambda: marked_or_committed(w, len(soon)), 20)
    d.kill()
    d = Daemon(w, CONF, keep=d)
    d.wait_log("deferred_ready", count=2)
    left = wait_deferred(d, n - len(soon))
    t.same_set(ids(left), ["k-%d" % i for i in range(0, n, 4)], "after kill -9 the others still wait")
    t.same_set(ids(w.reader("results").drain()), soon, "and what had ended beyond the frontier is not done again")
    # at any moment: the same twice may come, each with one result_id, and nothing is lost
    w.push(*[job("m-%d" % i, generated(1), scheduled_at=later(1.5 + i * 0.1)) for i in range(30)], partition=lambda i: i % 2)
    for k in range(2):
        want = len(soon) + 8 * (k + 1)
        w.results(want, 40)
        d.kill()
        d = Daemon(w, CONF, keep=d)
    w.reader("results").until(lambda r: {"m-%d" % i for i in range(30)} <= set(ids(r)), 40, "all jobs")
    ids_of = {}
    for r in w.reader("results").drain():
        ids_of.setdefault(r["job_id"], set()).add(r["result_id"])
    t.ok(all(len(x) == 1 for x in ids_of.values()), "killed between: a repeat carries the same result_id")
    t.is_(len(wait_deferred(d, 10)), 10, "who waits for longer waits on")
    return stop(d)


def marked_or_committed(w, n):
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": w.broker.bootstrap, "group.id": w.group, "enable.auto.commit": False, "log_level": 0})
    try:
        at = {x.partition: x.offset for x in c.committed([TopicPartition(w.topics["deferred"], p) for p in range(w.n_partitions["deferred"])], timeout=15)}
    finally:
        c.close()
    done = set()
    for p, o, _, value, h in headers_of(w):
        if "deferred_mark" in h:
            done |= {(p, int(x.rstrip("e"))) for x in value.decode().split(",")}
        elif o < at[p]:
            done.add((p, o))
    return len(done) >= n


def redelivered(t, b):
    """The offset of the first message was not committed: it comes again, and the copy that waits is the job."""
    w = World(b, name="again")
    d = Daemon(w, dict(CONF, **{"kafka.commit_interval": "60s"}))
    # due after the group has given the next daemon its partitions: a copy that is due before the message is read is done before
    w.push(*[job("a-%d" % i, generated(1), scheduled_at=later(15)) for i in range(5)])
    wait_deferred(d, 5)
    d.kill()
    d = Daemon(w, CONF, keep=d)
    w.results(5, 30)
    m = conserved(t, d, 5, "a message that comes again")
    t.is_(sorted(ids(w.reader("results").drain())), ["a-%d" % i for i in range(5)], "a message that was deferred and comes again is done once")
    t.ok(d.metric("poller_jobs_repeats_skipped_total", m) >= 5, "it was skipped")
    return stop(d)


def committed_deferred(w):
    """{partition: offset} of the deferred topic as the group committed it."""
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": w.broker.bootstrap, "group.id": w.group, "enable.auto.commit": False, "log_level": 0})
    try:
        return {x.partition: x.offset for x in c.committed([TopicPartition(w.topics["deferred"], p) for p in range(w.n_partitions["deferred"])], timeout=15)}
    finally:
        c.close()


def ended_marks(w):
    """The places in the deferred topic of which a mark says that their job has ended."""
    return {(p, int(x[:-1])) for p, _, _, value, h in headers_of(w) if "deferred_mark" in h for x in value.decode().split(",") if x.endswith("e")}


def ended_first(t, b):
    """Kafka takes no commit while a deferred job comes due and ends; the master dies: the first message comes again, and its job is not done again."""
    for name, others in (("alone", 0), ("behind", 1)):
        w = World(b, name=name, deferred_partitions=1)
        d = Daemon(w, CONF)
        w.push(*[job("waits", generated(1), scheduled_at=later(3600))] * others)
        wait_deferred(d, others)
        # the key of the marks stands in the group's offsets
        wait_for("the first commits", lambda: committed_deferred(w) == {0: 0} and w.committed() == {0: others or -1001}, 20, every=0.2)
        b.do("push_errors", OFFSET_COMMIT, 28, 10000)
        w.push(job("soon", generated(1), scheduled_at=later(4)))
        w.result_of("soon")
        wait_for("the mark of its end", lambda: (0, others) in ended_marks(w), 10, every=0.2)
        t.is_((w.committed(), committed_deferred(w)), ({0: others or -1001}, {0: 0}), "%s: a deferred job ends, and neither its end nor its first message's is committed" % name)
        d.kill()
        b.do("clear_errors", OFFSET_COMMIT)
        d = Daemon(w, CONF, keep=d)
        wait_for("the message to be read again", lambda: w.committed() == {0: others + 1}, 30, every=0.2)
        conserved(t, d, 0, name)
        t.is_(ids(w.reader("results").drain()), ["soon"], "%s: after kill -9 it comes again, and is done once" % name)
        t.is_(ids(deferred(d)), ["waits"] * others, "%s: who waits waits on" % name)
        wait_for("the frontier to follow", lambda: committed_deferred(w)[0] >= (0 if others else 1), 20, every=0.2)
        t.is_(d.stop(), 0, "it stops")


def ended_unread(t, b):
    """A deferred job ends while the broker of its first message is away: it is known when that comes again, also after one more kill -9."""
    w = World(b, name="unread", deferred_partitions=1)
    b.do("coordinator", w.group, 1)
    for topic in w.topics:
        b.do("leader", w.topics[topic], 0, 2 if topic == "jobs" else 1)
    d = Daemon(w, CONF)
    wait_for("the first commit", lambda: committed_deferred(w) == {0: 0}, 20, every=0.2)
    b.do("push_errors", OFFSET_COMMIT, 28, 10000)
    w.push(job("first", generated(1), scheduled_at=later(5)), job("second", generated(1), scheduled_at=later(22)))
    wait_deferred(d, 2)
    d.kill()
    b.do("clear_errors", OFFSET_COMMIT)
    b.do("down", 2)
    t.is_(w.committed(), {0: -1001}, "two jobs are deferred, and their offsets not committed")
    d = Daemon(w, CONF, keep=d, ready=False)
    w.result_of("first")
    wait_for("the mark of its end", lambda: (0, 0) in ended_marks(w), 20, every=0.2)
    t.is_(committed_deferred(w), {0: 0}, "one ends while its message cannot be read: a restart will read its end again")
    d.kill()
    d = Daemon(w, CONF, keep=d, ready=False)
    w.result_of("second")
    b.do("up", 2)
    wait_for("the messages to be read again", lambda: w.committed() == {0: 2}, 30, every=0.2)
    conserved(t, d, 1, "unread")
    t.is_(sorted(ids(w.reader("results").drain())), ["first", "second"], "both messages come again, and are done once")
    t.is_(d.wait_metric("poller_jobs_repeats_skipped_total", 2), 2, "they were skipped")
    wait_for("the frontier to follow", lambda: committed_deferred(w)[0] >= 2, 20, every=0.2)
    return stop(d)


# ---- retention -----------------------------------------------------------------------------------------------------------

def rewritten(t, b):
    w = World(b, name="rewritten", deferred_partitions=1)
    d = Daemon(w, dict(CONF, **{"deferred.rewrite_interval": "1s"}))
    w.push(*[job("w-%d" % i, generated(1), scheduled_at=later(5)) for i in range(4)])
    wait_deferred(d, 4)
    # each is written again each second; the frontier follows, so that retention may have what is before it
    wait_for("rewrites", lambda: d.metric("poller_deferred_rewrites_total", reason="retention") >= 8, 20, every=0.2)
    t.is_(len(deferred(d)), 4, "written again, they are still four")
    records = [r for r in headers_of(w) if "origin_topic" in r[4]]
    t.is_(len({(r[3], tuple(sorted(r[4].items()))) for r in records}), 4, "byte for byte the same, headers and all")
    w.results(4, 30)
    conserved(t, d, 4, "written again")
    d.kill()
    d = Daemon(w, CONF, keep=d)
    d.wait_log("deferred_ready")
    t.is_((deferred(d), len(w.reader("results").drain())), ([], 4), "done once, also after a kill -9")
    return stop(d)


# ---- another producer ----------------------------------------------------------------------------------------------------

def forged(t, b):
    w = World(b, name="forged", deferred_partitions=1)
    d = Daemon(w, CONF)
    w.push(job("victim", generated(1), scheduled_at=later(8)))
    victim = wait_deferred(d, 1)[0]
    _, _, _, raw, good = headers_of(w)[0]
    value = json.dumps(job("forged", generated(1))).encode()
    good = dict(good, job_id="forged")

    def send(headers, v=value):
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        # as bytes: a text ends at its first NUL on the way
        return b.push(w.topics["deferred"], [v], partition=0, headers=[(k, x.encode()) for k, x in pairs])[0]
    rows = [("nothing but a job", {})]
    for name in good:
        rows += [("without %s" % name, {k: v for k, v in good.items() if k != name}), ("%s twice" % name, list(good.items()) + [(name, good[name])]),
                 ("%s with a NUL" % name, dict(good, **{name: good[name] + "\0"})), ("a long %s" % name, dict(good, **{name: "1" * 70000}))]
    for name, bad in (("deferred_until", ["tomorrow", "-1", "1969-01-01T00:00:00Z", ""]), ("deferred_count", ["0", "-1", "1e3", "99999999999999999999"]),
                      ("deferred_tasks", ["", "0", "0.0.0", "0.0.0.2", "0.1.0.0", "0.0.0.0,", "00.0.0.0"]), ("origin_topic", ["", "a b", "x/../y", "\u00e9"]),
                      ("origin_partition", ["-1", "4294967296", "0x1"]), ("origin_offset", ["-1", "9223372036854775808", " 1"]), ("deferred_reason", ["sleep", ""]),
                      ("job_id", ["", " ", "a\x1b[2Jb", "x" * 256]), ("org_id", ["", "\u202eo"]), ("error_type", ["no_such"]), ("deferred_version", ["2", "01"])):
        rows += [("%s %r" % (name, x[:12]), dict(good, **{name: x})) for x in bad]
    rows = [r for r in rows if not (r[0] in ("without traceparent", "without error_type", "without started_at"))]
    places = [send(h) for _, h in rows]
    # headers that are right by themselves, and not those of this message: known when it is due
    for name, bad in (("deferred_tasks", "0.0.0.0,0.0.0.0"), ("job_id", "another"), ("org_id", "another")):
        send(dict(good, **{name: bad}), json.dumps(job("forged", generated(1), metadata={"why": name})).encode())
    send(good, b"not JSON")
    try:
        wait_for("dead letters", lambda: len(w.reader("dlq").drain()) >= len(places), 15)
    except Timeout:
        pass
    letters = {(x["metadata"]["original_topic"], x["metadata"]["original_partition"], x["metadata"]["original_offset"]): x for x in w.reader("dlq").records}
    wrong = [r[0] for r, p in zip(rows, places) if letters.get((w.topics["deferred"],) + p, {"failure_info": {"error_type": None}})["failure_info"]["error_type"] != "invalid_job"]
    t.is_(wrong, [], "each of %d forged records is a dead letter invalid_job, under its place in the deferred topic" % len(rows))
    # marks: unsigned, wrongly signed, signed with a key of one's own, empty
    key = b"k" * 24
    mark = str(victim["offset"])
    mac = base64.b64encode(hmac.new(key, b"mark 0\n" + mark.encode(), hashlib.sha256).digest()[:16]).decode()
    for h in ({"deferred_version": "1", "deferred_mark": ""}, {"deferred_version": "1", "deferred_mark": "AAAAAAAAAAAAAAAAAAAAAA=="}, {"deferred_version": "1", "deferred_mark": mac},
              {"deferred_mark": mac}):
        send(h, mark.encode())
    d.wait_log("deferred_mark_refused", count=4)
    t.is_(sorted(x["job_id"] for x in deferred(d)), ["another", "forged", "forged", "forged", "victim"], "a mark that is not the group's makes no job vanish")
    # a copy of the victim's headers with other bytes does not take its place
    send(dict(headers_of(w)[0][4], deferred_count="7", deferred_until="2100-01-01T00:00:00.000000000Z"), json.dumps(job("victim", generated(2))).encode())
    wait_deferred(d, 6)
    r = w.result_of("victim", 30)
    t.is_((r["event_type"], r["matched"]), ("job.completed", 1), "nor does another job under its origin take its place")
    wait_for("the others' dead letters", lambda: len(w.reader("dlq").drain()) >= len(places) + 4, 30)
    t.is_({x["failure_info"]["error_type"] for x in w.reader("dlq").records}, {"invalid_job"}, "no other dead letter")
    t.is_(d.metric("poller_deferred_marks_refused_total"), 4, "refused marks are counted")
    return stop(d)


def no_topic(t, b):
    w = World(b, name="none", create=("jobs", "events", "results", "dlq"))
    b.do("topic_error", w.topics["deferred"], 3)
    d = Daemon(w, CONF, ready=False)
    why = d.wait_not_ready("deferred")
    t.ok(w.topics["deferred"] in why and "does not exist" in why, "without the topic it is not ready, and says which one", why)
    d.kill()


def drained(t, b):
    """A stop marks and commits what has ended, and leaves who waits where it is; the second daemon has them."""
    w = World(b, name="drained")
    d = Daemon(w, CONF)
    w.push(*[job("d-%d" % i, generated(1), scheduled_at=later(2 if i % 2 else 8)) for i in range(12)])
    w.results(6, 30)
    t.is_(d.stop(), 0, "stops while others wait")
    d = Daemon(w, CONF, name="second")
    w.results(12, 30)
    t.is_(len(w.reader("results").drain()), 12, "the next daemon does the rest, and nothing twice")
    return stop(d)


def rebalanced(t, b):
    w = World(b, name="two", partitions=2, deferred_partitions=4)
    first = Daemon(w, CONF, name="first")
    w.push(*[job("r-%d" % i, generated(1), scheduled_at=later(14)) for i in range(24)], partition=lambda i: i % 2)
    wait_deferred(first, 24)
    second = Daemon(w, CONF, name="second", ready=False)
    second.wait_log("deferred_ready", count=2, timeout=60)
    wait_for("24 jobs with both", lambda: len(deferred(first)) + len(deferred(second)) == 24 and len(deferred(second)) > 0, 30)
    t.ok(0 < len(deferred(first)) < 24, "a second daemon takes over partitions with what waits there")
    w.results(24, 60)
    t.same_set(ids(w.reader("results").drain()), ["r-%d" % i for i in range(24)], "each is done once")
    conserved(t, first, 1, "first")
    conserved(t, second, 1, "second")
    t.is_(second.stop(), 0, "the second one stops")
    t.is_(first.stop(), 0, "the first one stops")


def whole(t, b):
    w = World(b)
    d = t.part(order, w)
    if d:
        t.part(cancel, w, d)
        d = t.part(bounds, w, d)
        if d:
            t.is_(d.stop(), 0, "it stops")


def lanes(t, *rows):
    """Each row's parts one after the other, the rows side by side: most of it is waiting for Kafka's times. Row: (broker, part, ...)"""
    lock, ok = threading.Lock(), t.ok

    def one_at_a_time(*args):
        with lock:
            return ok(*args)
    t.ok = one_at_a_time

    def run_row(broker, *parts):
        for p in parts:
            if len(sys.argv) < 2 or p.__name__ in sys.argv:
                t.part(p, broker)
    threads = [threading.Thread(target=run_row, args=row) for row in rows]
    for x in threads:
        x.start()
    for x in threads:
        x.join()


def main():
    t = Tap()
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    lanes(t, (MockBroker(t), whole, no_topic), (MockBroker(t), killed), (MockBroker(t), retries, forged), (MockBroker(t), redelivered, rewritten, drained),
          (MockBroker(t), rebalanced, ended_first), (MockBroker(t), cancel_held, slow_down, cancel_lasts), (MockBroker(t, brokers=2), ended_unread))
    t.done()


if __name__ == "__main__":
    main()
