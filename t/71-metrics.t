#!/usr/bin/python3
"""Each metric of the contract's table is seen to move, and equals a count that is not the daemon's own; then which never moved."""
import collections
import os
import re
import time
import signal
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, Daemon, MockBroker, Tap, World, conservation, folder, generated, invalid, job, need, program,  # noqa: E402
                    rfc3339, wait_for, without_override)
from webservers import Answers  # noqa: E402

# Numbers of Kafka's protocol
PRODUCE, OFFSET_COMMIT = 0, 8
TOO_LARGE, NOT_AUTHORIZED, OUT_OF_ORDER = 10, 29, 45

# What no job, fault or operator can move in this version, and why.
STILL = {
    "poller_build_info": "always 1",
    "poller_sandbox_info": "always 1",
    "process_start_time_seconds": "a master starts once",
    "poller_credentials_fetches_total": "there is no STS here; t/28-credentials.t counts",
    **{"poller_connector" + x: "workers connect themselves here; t/27-broker.t counts" for x in ("", "_restarts_total", "_asks_total", "_seconds", "_in_flight")},
    "poller_request_wait_seconds_total": "no limit of requests is set here; t/39-rates.t counts",
    "poller_connections_reconnected_total": "no server here closes a kept connection; t/29-connections.t counts",
    "poller_certificates_ending": "no server here has a certificate; t/28-certificates.t counts",
    "poller_connection_wait_seconds_total": "no limit of connections is set here; t/29-endpoint-cap.t counts",
}

# Jobs that wait a little, by the topic which has their first record.
FIRST_RECORD = (("events", generated(1, delay="1s")), ("results", generated(0, delay="1s")), ("dlq", generated(0, delay="1s", error="permanent")))

moved = set()


def look(d, first=False):
    """A page; remembers which metrics of this daemon have another value than on its first one."""
    m = d.metrics()
    if first:
        d.first = m
    for key, v in m.items():
        # a counter begins at 0, also where something was counted before the first page
        if v != (0 if key[0].endswith("_total") else d.first.get(key, 0)):
            moved.add(re.sub(r"_(bucket|sum|count)$", "", key[0]))
    return m


def started(*args, **kw):
    d = Daemon(*args, **kw)
    look(d, True)
    return d


def until(d, name, value, **labels):
    got = d.wait_metric(name, value, **labels)
    look(d)
    return got


def series(m, name, *labels):
    """{label values: number} of the series that are not 0"""
    return {tuple(dict(ls)[x] for x in labels): v for (n, ls), v in m.items() if n == name and v}


def type_of(r):
    types = {s["source_type"] for s in r["sources"]}
    return "none" if r["job_id"] in (None, "gopher") or not types else "mixed" if len(types) > 1 else types.pop()


def against_kafka(t, w, d, what):
    """What each fault must leave behind: the page and the topics say the same."""
    have = {k: len(w.reader(k).drain()) for k in ("events", "results", "dlq")}
    until(d, "poller_jobs_total", have["results"])
    until(d, "poller_active_jobs", 0)
    m = look(d)
    t.is_({k: d.metric("poller_kafka_messages_published_total", m, topic=w.topics[k], status="success") for k in have}, have,
          "%s: kafka_messages_published_total{success} = records in each topic" % what)
    t.is_(d.metric("poller_files_published_total", m, status="success"), have["events"], "%s: files_published_total{success} = events" % what)
    bad = sum(d.metric("poller_kafka_messages_published_total", m, topic=w.topics["events"], status=s) for s in ("held", "error"))
    t.is_(d.metric("poller_files_published_total", m, status="error"), bad, "%s: files_published_total{error} = events held or refused" % what)
    left, right = conservation(d, m)
    t.is_(left, right, "%s: conservation" % what)
    return m


def tree(root, name, csv, txt, closed=0):
    """A folder with this many files of two kinds, and folders that cannot be read."""
    top = os.path.join(root, name)
    os.mkdir(top)
    for i in range(csv):
        open(os.path.join(top, "f%d.csv" % i), "w").close()
    for i in range(txt):
        open(os.path.join(top, "f%d.txt" % i), "w").close()
    for i in range(closed):
        os.mkdir(os.path.join(top, "closed%d" % i), 0)
    return {"source_type": "local", "path": top, "recursive": True}


def exact(t, b, wrap):
    """Every outcome of every source type; every class that a source can fail with."""
    root = folder()
    w = World(b)
    d = started(w, {"local.allowed_roots": [root], "retry.delay": "10ms", "workers.count": 3}, wrap=wrap)
    idle = d.metrics()
    t.is_({dict(ls)["error_type"] for n, ls in idle if n == "poller_connection_errors_total"},
          {"not_found", "auth", "transient", "timeout"}, "the classes that alerts ask for are there from the start")
    # All that a source can fail with by itself.
    plain = ["auth", "internal", "limit", "listing_loop", "not_found", "permanent", "policy", "protocol", "spool_full", "system", "timeout",
             "transient", "truncated", "unsupported"]
    gone = {"source_type": "local", "path": root + "/none"}
    jobs = [
        job("dummy-completed", generated(50, name_template="a{index}.csv"), file_pattern="a?.csv"),
        job("local-completed", tree(root, "one", 7, 5), file_pattern="*.csv"),
        job("mixed-completed", [generated(4), tree(root, "two", 2, 1)]),
        job("dummy-partial", generated(30, error="permanent", fail_after=12), publish="stream"),
        job("local-partial", tree(root, "three", 3, 4, closed=2), file_pattern="*.csv"),
        job("mixed-partial", [generated(5), gone]),
        job("local-failed", gone),
        job("mixed-failed", [gone, generated(1, error="permanent")]),
        job("dummy-retried", generated(10, error="transient", fail_after=5, fault_attempts=2, retries=3)),
        job("dummy-crash", generated(5, crash="segv")),
        job("local-policy", {"source_type": "local", "path": "/outside"}),
        job("local-closed", dict(tree(root, "four", 1, 0, closed=1), on_unreadable="fail", retries=0)),
        invalid(job("gopher", {"source_type": "gopher"})), invalid(b"not json"), invalid(b"{}"),
    ] + [job("class-" + c, generated(3, error=c, retries=0)) for c in plain]
    w.push(*jobs)
    w.results(len(jobs))
    w.push(job("dummy-cancelled", generated(5, delay="60s")), job("mixed-cancelled", [gone, generated(1)], scheduled_at=rfc3339(50)),
           job("local-cancelled", gone, scheduled_at=rfc3339(50)))
    d.wait_log("job_started", job_id="dummy-cancelled")
    for n, kind in ((3, "dummy"), (2, "mixed"), (1, "local")):
        d.wait_log("job_accepted", job_id=kind + "-cancelled")
        t.is_(until(d, "poller_active_jobs", n), n, "active_jobs %d" % n)
        d.ctl("job", "cancel", kind + "-cancelled")
        w.result_of(kind + "-cancelled")
    t.is_(until(d, "poller_active_jobs", 0), 0, "active_jobs 0")
    m = against_kafka(t, w, d, "all outcomes")
    results = w.reader("results").records
    pushed = len(w.reader("jobs").drain())

    want = collections.Counter((r["event_type"].split(".")[1], type_of(r)) for r in results)
    t.is_(series(m, "poller_jobs_total", "status", "source_type"), dict(want), "jobs_total{status,source_type} = terminal records")
    t.is_(set(want), {(s, k) for s in ("completed", "partial", "failed", "cancelled") for k in ("dummy", "local", "mixed")} | {("failed", "none")},
          "each pair of labels that there can be was seen")

    for kind in ("dummy", "local", "mixed", "none"):
        mine = [r for r in results if type_of(r) == kind]
        t.is_(d.metric("poller_job_duration_seconds_count", m, source_type=kind), len(mine), "job_duration_seconds_count{%s} = terminal records" % kind)
        took = sum(r["duration_seconds"] or 0 for r in mine)
        told = sum(x["seconds"] for r in mine for x in d.logged("job_done", offset=r["origin"]["offset"]))
        got = d.metric("poller_job_duration_seconds_sum", m, source_type=kind)
        t.ok(abs(got - told) <= 0.001 * len(mine) + 1e-6, "its sum{%s} = the log's" % kind, got, told)
        # counted when its record is durable, which is a little after the end that the record tells
        t.ok(took - 0.003 * len(mine) <= got <= took + 0.5 * len(mine), "and that of the records", got, took)

    # From what was made above: listed before a failure counts, each attempt anew
    files = {("matched", "dummy"): 10 + 4 + 12 + 5 + 5 + 5 + 10, ("skipped", "dummy"): 40,
             ("matched", "local"): 7 + 3 + 3, ("skipped", "local"): 5 + 4, ("error", "local"): 2}
    t.is_(series(m, "poller_files_processed_total", "status", "source_type"), files, "files_processed_total{status,source_type}")
    sent = sum(len(w.events_of(x)) for x in ("dummy-completed", "local-completed", "mixed-completed", "dummy-partial", "local-partial", "mixed-partial", "dummy-retried"))
    t.is_((sent, d.metric("poller_files_published_total", m, status="success")), (10 + 7 + 7 + 12 + 3 + 5 + 10,) * 2, "files_published_total{success} = the files")

    errors = collections.Counter(("dummy", c) for c in plain)
    errors.update({("dummy", "permanent"): 2, ("dummy", "transient"): 2, ("dummy", "worker_crash"): 2, ("dummy", "cancelled"): 1,
                   ("local", "not_found"): 3})      # a policy's refusal is no attempt
    told = next(r["error"]["class"] for r in results if r["job_id"] == "local-closed")
    errors["local", told] += 1
    t.is_(series(m, "poller_connection_errors_total", "source_type", "error_type"), dict(errors), "connection_errors_total{source_type,error_type}: attempts that failed")
    t.diag("classes: %s" % " ".join(sorted(c for _, c in errors)))
    t.is_(series(m, "poller_kafka_messages_consumed_total", "topic", "status"), {(w.topics["jobs"], "accepted"): pushed}, "kafka_messages_consumed_total")
    letters = collections.Counter((x["failure_info"]["error_type"],) for x in w.reader("dlq").records)
    t.is_(series(m, "poller_dlq_messages_total", "reason"), dict(letters), "dlq_messages_total{reason} = dead letters")
    again = collections.Counter((x["error_class"],) for x in d.logged("job_retry"))
    t.is_((series(m, "poller_job_retries_total", "reason"), again), (dict(again), {("transient",): 2, ("worker_crash",): 1}), "job_retries_total{reason}")
    deaths = collections.Counter((x["cause"],) for x in d.logged("worker_died"))
    t.is_(series(m, "poller_worker_restarts_total", "cause"), dict(deaths), "worker_restarts_total{cause} = deaths in the log")
    ran = sum(1 for r in results if r["started_at"])
    t.is_(d.metric("poller_job_queue_seconds_count", m), ran, "job_queue_seconds counts the jobs that were started")
    t.is_(d.stop(), 0, "exit 0")


def too_large(t, b):
    w = World(b)
    d = started(w, {"kafka.message_max": 5000})
    w.run(generated(3), metadata={"x": "y" * 6000})
    m = against_kafka(t, w, d, "too large")
    t.is_(d.metric("poller_kafka_messages_published_total", m, topic=w.topics["events"], status="error"), 3, "kafka_messages_published_total{events,error}: 3 too large")
    t.is_(series(m, "poller_connection_errors_total", "source_type", "error_type"), {("dummy", "message_too_large"): 1}, "connection_errors_total{message_too_large}")
    ours = len(d.logged("result_held"))
    t.is_(sum(d.metric("poller_kafka_messages_published_total", m, topic=w.topics[k], status="error") for k in ("results", "dlq")), ours,
          "results and dead letters refused = result_held in the log (%d)" % ours)
    # The broker itself refuses the first record of a job that runs.
    for k, source in FIRST_RECORD[1:]:
        before, n = look(d), len(w.reader("results").drain())
        w.push(job("t-" + k, source))
        d.wait_log("job_started", job_id="t-" + k)
        b.do("push_errors", PRODUCE, TOO_LARGE, 1)
        w.results(n + 1)
        m = against_kafka(t, w, d, "refused by the broker")
        t.is_(d.metric("poller_kafka_messages_published_total", m, topic=w.topics[k], status="error")
              - d.metric("poller_kafka_messages_published_total", before, topic=w.topics[k], status="error"), 1, "kafka_messages_published_total{%s,error}" % k)
    t.is_(d.stop(), 0, "exit 0")


def held(t, b):
    """What is on its way while the producer breaks is held, and sent again; each time is in the log."""
    w = World(b)
    d = started(w)
    name = "poller_kafka_messages_published_total"
    for k, source in FIRST_RECORD:
        before, since = look(d), d.mark()
        w.push(job("h-" + k, source))
        d.wait_log("job_started", job_id="h-" + k)
        b.do("push_errors", PRODUCE, OUT_OF_ORDER, 1)
        w.result_of("h-" + k)
        m = against_kafka(t, w, d, "%s held" % k)
        got = d.metric(name, m, topic=w.topics[k], status="held") - d.metric(name, before, topic=w.topics[k], status="held")
        told = len(d.logged("result_held", since)) if k != "events" else len(d.logged("job_retry", since, error_class="kafka"))
        t.ok(got == told > 0, "kafka_messages_published_total{%s,held} = %d, as the log tells" % (k, told), got)
        t.is_(d.metric("poller_job_retries_total", m, reason="kafka"), len(d.logged("job_retry", error_class="kafka")), "job_retries_total{kafka} = the log's")
    t.is_(series(m, "poller_connection_errors_total", "source_type", "error_type"), {("dummy", "kafka"): len(d.logged("job_retry", error_class="kafka")), ("dummy", "permanent"): 1},
          "connection_errors_total{kafka}: attempts that Kafka held")
    resets = len(d.logged("producer_reset"))
    t.ok(d.metric("poller_kafka_producer_resets_total", m) == resets > 0, "kafka_producer_resets_total = %d, as the log tells" % resets)
    b.do("topic_error", w.topics["events"], NOT_AUTHORIZED)
    t.is_(until(d, "poller_ready", 0, timeout=30), 0, "poller_ready 0 while a topic is forbidden")
    b.do("topic_error", w.topics["events"], 0)
    t.is_(until(d, "poller_ready", 1, timeout=30), 1, "and 1 again")
    t.is_(d.stop(), 0, "exit 0")


def commit_foreign(w):
    """An OffsetCommit request, version 2, by hand: offset 1 with metadata that no poller wrote."""
    def text(s):
        return struct.pack(">h", len(s)) + s.encode()
    body = (struct.pack(">hhi", OFFSET_COMMIT, 2, 1) + text("test") + text(w.group) + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1)
            + text(w.topics["jobs"]) + struct.pack(">iiq", 1, 0, 1) + text("somebody else's"))
    host, port = w.broker.bootstrap.split(",")[0].split(":")
    with socket.create_connection((host, int(port)), 10) as s:
        s.sendall(struct.pack(">i", len(body)) + body)
        f = s.makefile("rb")
        n, = struct.unpack(">i", f.read(4))
        return struct.unpack(">h", f.read(n)[-2:])[0]


def skipped(t, b):
    """kill -9 with jobs done beyond a running one; before it, a commit that is not ours."""
    w = World(b)
    w.push(job("before", generated(1)))
    t.is_(commit_foreign(w), 0, "foreign metadata is committed")
    d = started(w)
    t.is_(until(d, "poller_kafka_commit_metadata_ignored_total", 1), 1, "kafka_commit_metadata_ignored_total = 1")
    w.push(job("slow", generated(1, delay="120s")))
    d.wait_log("job_started", job_id="slow")
    w.push(*[job("quick-%d" % i, generated(1)) for i in range(7)])
    w.results(7)
    t.is_(until(d, "poller_jobs_total", 7), 7, "7 are done beyond a slow one")
    commits = d.metric("poller_kafka_commits_total")
    t.ok(commits > 0, "commits are counted", commits)
    d.kill()
    e = started(w, keep=d)
    e.wait_log("job_started", job_id="slow")
    t.is_(until(e, "poller_kafka_messages_consumed_total", 7, status="skipped"), 7, "kafka_messages_consumed_total{skipped} = 7")
    m = look(e)
    t.is_(series(m, "poller_kafka_messages_consumed_total", "topic", "status"), {(w.topics["jobs"], "skipped"): 7, (w.topics["jobs"], "accepted"): 1}, "and 1 accepted")
    t.is_(e.metric("poller_jobs_repeats_skipped_total", m), 7, "jobs_repeats_skipped_total too")
    e.ctl("job", "cancel", "slow")
    w.result_of("slow")
    t.is_(until(e, "poller_jobs_total", 1), 1, "of them one has ended here")
    t.is_(e.stop(), 0, "exit 0")


def revoked(t, b):
    """A second poller takes one of two partitions with the jobs in it."""
    w = World(b, partitions=2)
    d = started(w)
    w.push(*[job("r-%d" % i, generated(1, delay="120s")) for i in range(2)], partition=lambda i: i)
    d.wait_log("job_started", count=2)
    t.is_(until(d, "poller_active_jobs", 2), 2, "a job from each partition")
    e = started(w)
    lost = d.wait_log("jobs_revoked")["jobs"]
    t.is_(until(d, "poller_jobs_revoked_total", lost), lost, "jobs_revoked_total = %d" % lost)
    m = look(d)
    t.is_(d.metric("poller_kafka_rebalances_total", m, kind="revoke") + d.metric("poller_kafka_rebalances_total", m, kind="lost"), len(d.logged("partitions_revoked")), "kafka_rebalances_total = the log's")
    e.wait_log("job_started")
    left, right = conservation(d)
    t.is_(left, right, "conservation")
    for x in (d, e):
        for line in x.logged("job_started"):
            x.ctl("job", "cancel", line["job_id"])
    w.reader("results").until(lambda rs: {r["job_id"] for r in rs} == {"r-0", "r-1"})
    t.is_((e.stop(), d.stop()), (0, 0), "exit 0")


def deferred(t, b):
    """A job that waits in Kafka, is written again there, and is late because another one fills the poller."""
    w = World(b, deferred_partitions=1)
    # All that fill it run: what waits would be given up.
    d = started(w, {"jobs.hold_max": "100ms", "deferred.rewrite_interval": "1s", "jobs.queue_max": 16, "workers.count": 16})
    w.push(job("deferred", generated(0), scheduled_at=rfc3339(5)))
    t.is_(until(d, "poller_deferred_jobs", 1), 1, "deferred_jobs 1")
    w.push(*[job("fill-%d" % i, generated(10, delay="20s")) for i in range(16)])
    due = d.metric("poller_deferred_next_due_timestamp_seconds")
    t.ok(0 < due - time.time() < 5, "deferred_next_due_timestamp_seconds is when it is due", due)
    b.push(w.topics["deferred"], [b"0"], headers={"deferred_version": "1", "deferred_mark": "AAAAAAAAAAAAAAAAAAAAAA=="})
    t.is_(until(d, "poller_deferred_marks_refused_total", 1), 1, "deferred_marks_refused_total counts one that is not the group's")
    t.ok(wait_for("a rewrite", lambda: look(d) and d.metric("poller_deferred_rewrites_total", reason="retention")), "deferred_rewrites_total moves")
    t.ok(wait_for("the deferred job to be late", lambda: look(d) and d.metric("poller_deferred_overdue_seconds") > 0.5), "deferred_overdue_seconds: it waits for room")
    for i in range(16):
        d.ctl("job", "cancel", "fill-%d" % i)
    w.results(17)
    t.is_([until(d, "poller_deferred_overdue_seconds", 0), until(d, "poller_jobs_deferred_total", 1, reason="schedule")], [0, 1], "and then it is not; jobs_deferred_total")
    left, right = conservation(d, until_equal(d))
    t.is_(left, right, "conservation")
    t.is_(d.stop(), 0, "exit 0")


def until_equal(d):
    """The page once nothing is active."""
    return wait_for("the last job's end", lambda: (lambda m: m if d.metric("poller_active_jobs", m) == 0 and d.metric("poller_jobs_total", m) == 17 else None)(look(d)))


def others(t, b):
    """Waiting records, spools, a queue, reloads, refused frames, lost log lines."""
    w = World(b)
    d = started(w, {"kafka.queue_messages": 4000, "workers.count": 1}, pipe=65536)
    b.do("rtt", -1, 200)
    w.push(job("many", generated(12000)), *[job("wait-%d" % i, generated(0)) for i in range(3)])
    most = collections.Counter()
    while not d.logged("job_done", job_id="wait-2"):
        m = look(d)
        for n in ("poller_kafka_outstanding_records", "poller_spool_bytes", "poller_queue_depth"):
            most[n] = max(most[n], d.metric(n, m))
    b.do("rtt", -1, 0)
    w.results(4)
    t.ok(0 < most["poller_kafka_outstanding_records"] <= 4000 + 1200, "kafka_outstanding_records goes up", most)
    t.ok(most["poller_spool_bytes"] > 12000 * 60, "spool_bytes holds the listing", most)
    t.is_(most["poller_queue_depth"], 3, "queue_depth 3")
    for n in most:
        t.is_(until(d, n, 0), 0, "%s is 0 again" % n)
    against_kafka(t, w, d, "slow broker")
    d.signal(signal.SIGSTOP)
    try:
        wait_for("503 of a hung master", lambda: d.http("/livez")[0] == 503, every=0.1)
    finally:
        d.signal(signal.SIGCONT)
    wait_for("200 again", lambda: d.http("/metrics")[0] == 200)
    t.ok(wait_for("the stall", lambda: look(d) and d.metric("poller_loop_stall_seconds_max") > 0.5), "loop_stall_seconds_max tells of a halt")
    good = dict(d.conf)
    d.write_conf(workers__count="many")
    d.signal(signal.SIGHUP)
    t.is_(until(d, "poller_config_last_reload_successful", 0), 0, "config_last_reload_successful 0 after a wrong file")
    d.conf = good
    d.write_conf()
    d.signal(signal.SIGHUP)
    t.is_(until(d, "poller_config_last_reload_successful", 1), 1, "and 1 after a right one")
    # Nobody reads its log: holding the reader's lock fills the pipe.
    with d.log.cond:
        w.push(*[job("log-%d" % i, generated(0)) for i in range(500)])
        w.results(504)
        lost = wait_for("lost lines", lambda: d.metric("poller_log_lines_dropped_total"))
    look(d)
    t.ok(lost > 0, "log_lines_dropped_total: %d" % lost)
    w.run(generated(0))
    d.wait_log("log_dropped")
    m = against_kafka(t, w, d, "log not read")
    t.is_(d.metric("poller_log_lines_dropped_total", m), sum(x["count"] for x in d.logged("log_dropped")), "= the sum that the log tells later")
    t.is_(d.stop(), 0, "exit 0")
    e = started(w, {"workers.path": program("t/lib/evil_worker")})
    r, _, _ = w.run(generated(1, name_template="evil:bad_done", retries=0), job_id="evil", timeout=30)
    t.is_(until(e, "poller_worker_frames_refused_total", len(e.logged("frame_refused"))), len(e.logged("frame_refused")), "worker_frames_refused_total = the log's")
    t.ok(e.logged("frame_refused"), "there were some", r.raw)
    t.is_(series(look(e), "poller_connection_errors_total", "source_type", "error_type"), {("dummy", "worker_protocol"): 2}, "connection_errors_total{worker_protocol}")
    t.is_(e.stop(), 0, "exit 0")


def established(*ports):
    """Connections whose server listens on one of these ports, as the kernel counts them."""
    with open("/proc/net/tcp") as f:
        rows = [x.split() for x in f.readlines()[1:]]
    return sum(x[3] == "01" and int(x[1].rpartition(":")[2], 16) in ports for x in rows)


def kept(t, b):
    """Connections that wait for the next task: a worker keeps its last one."""
    w = World(b)
    together = threading.Barrier(3)

    def index(q):
        if q.path == "/meet/":
            together.wait(60)
        return {"headers": {"Content-Type": "application/json"}, "body": b"[]"}
    web = [Answers(index) for _ in range(3)]
    ports = [x.port for x in web]
    d = started(w, {"egress.allow": ["127.0.0.0/8"], "workers.count": 3, "network.keep_idle": "60s"})
    w.push(*[job("meet-%d" % i, {"source_type": "http", "url": x.url + "/meet/"}) for i, x in enumerate(web)])
    w.results(3)
    t.is_((until(d, "poller_pooled_connections", 3), established(*ports)), (3, 3), "pooled_connections = what the kernel counts")
    r, _, _ = w.run({"source_type": "http", "url": web[0].url + "/", "keepalive": False})
    t.is_(r["event_type"], "job.completed", "a job that gives up its connection")
    wait_for("one of them to be closed", lambda: established(*ports) == 2)
    t.is_(until(d, "poller_pooled_connections", 2), 2, "and it goes down with them")
    t.is_(d.stop(), 0, "exit 0")
    t.is_(established(*ports), 0, "none is left")
    for x in web:
        x.stop()


def tenants(t, b):
    """With metrics.tenants: what one tenant has running and waiting, and what the others come to."""
    w = World(b)
    d = started(w, {"metrics.tenants": 1, "tenants.a": {"tasks": 1}})
    w.push(*[{"job_id": "a%d" % i, "org_id": "a", "source_config": generated(1, delay="1500ms")} for i in range(2)])
    t.is_(until(d, "poller_tenant_running_tasks", 1, org_id="a"), 1, "one of its tasks runs")
    t.is_(until(d, "poller_tenant_waiting_tasks", 1, org_id="a"), 1, "one waits for its quota")
    w.push({"job_id": "b", "org_id": "b", "source_config": generated(0)}, {"job_id": "c", "org_id": "c", "source_config": generated(0)})
    w.results(4)
    until(d, "poller_jobs_total", 4)
    t.is_(series(look(d), "poller_tenant_jobs_total", "org_id", "status"), {("a", "completed"): 2, ("other", "completed"): 2}, "tenant_jobs_total")
    t.ok(d.metric("poller_tenant_wait_seconds_total", look(d), org_id="a") > 0, "the wait is counted")
    t.is_(d.stop(), 0, "exit 0")


def still(t):
    with open(os.path.join(ROOT, "master/metrics.def")) as f:
        names = set(re.findall(r'^METRIC\(\w+, "(\w+)"', f.read(), re.M))
    t.ok(len(names) > 30, "metrics.def has %d names" % len(names))
    t.same_set(names - moved, STILL, "all metrics moved but those that cannot in this version")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl", "t/lib/evil_worker")
    wrap = without_override()
    if wrap is None:
        t.skip_all("root's right to read everything cannot be dropped here (setpriv)")
    lock, ok = threading.Lock(), t.ok

    def one_at_a_time(*args):
        with lock:
            return ok(*args)
    t.ok = one_at_a_time

    def lane(b, *parts):
        for part in parts:
            t.part(*part, b)
    # Most of it is waiting for Kafka's times. Faults are a broker's own, so each lane has one.
    lanes = [threading.Thread(target=lane, args=(MockBroker(t),) + parts) for parts in (
        ((lambda t, b: exact(t, b, wrap),), (too_large,), (skipped,)), ((held,), (kept,), (deferred,), (tenants,)), ((revoked,), (others,)))]
    for x in lanes:
        x.start()
    for x in lanes:
        x.join()
    t.part(still)


with Tap() as tap:
    main(tap)
