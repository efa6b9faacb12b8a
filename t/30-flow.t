#!/usr/bin/python3
"""A job's way from the polling queue to its events, terminal record and dead letter, on the embedded broker.

t/55-real-flow.t runs the same steps, flow(), on Apache Kafka.
"""
import json
import os
import re
import signal
import sys
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, Daemon, MockBroker, Tap, World, conservation, folder, generated, invalid, job, need,  # noqa: E402
                    rfc3339, without_override)

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KEYS = {"event_id", "job_id", "source_type", "file_path", "file_name", "file_size", "file_type", "file_url", "checksum",
        "metadata", "discovered_at", "processed_at"}
SECRET = "hunter2-must-not-leak"


def readme_job(t, w, d):
    j = {"job_id": "job_123", "source_config": {"source_type": "dummy", "path": "./dummy_data"}, "file_pattern": "*.csv",
         "priority": "normal", "metadata": {}}
    w.push(j, headers=[("traceparent", TRACE.encode())])
    r = w.result_of("job_123")
    t.is_([r[k] for k in ("event_type", "listed", "matched", "published", "skipped", "truncated", "error", "metadata",
                          "org_id", "attempt", "schema_version")],
          ["job.completed", 3, 3, 3, 0, False, None, {}, "default", 1, 1], "README's job: completed, 3 files")
    t.is_((r["origin"]["topic"], r["origin"]["offset"]), (w.topics["jobs"], 0), "the terminal record names the job's message")
    t.is_(r.key, b"job_123", "its key is the job_id")
    t.is_(r.headers.get("traceparent"), TRACE, "traceparent is in the terminal record")
    t.ok(r["started_at"] <= r["finished_at"] and r["duration_seconds"] >= 0, "its times are in order")
    e = w.events_of("job_123")
    names = ["sample_data_%d.csv" % i for i in (1, 2, 3)]
    t.same_set([x["file_name"] for x in e], names, "one event for each file")
    for x in e:
        path = os.path.join(ROOT, "dummy_data", x["file_name"])
        st = os.stat(path)
        wrong = []
        if not KEYS <= set(x.json):
            wrong.append("keys missing: %s" % (KEYS - set(x.json)))
        for k, want in (("file_path", path), ("file_size", st.st_size), ("file_type", ".csv"), ("source_type", "dummy"),
                        ("relative_path", x["file_name"]), ("event_type", "file.discovered"), ("attempt", 1),
                        ("is_symlink", False), ("link_target", None), ("modified_precision", "ns"), ("org_id", "default")):
            if x[k] != want:
                wrong.append("%s is %r, wanted %r" % (k, x[k], want))
        if not x["discovered_at"] <= x["processed_at"]:
            wrong.append("processed before it was discovered")
        if x.key.decode() != x["file_url"] or x.headers.get("traceparent") != TRACE:
            wrong.append("key %r, traceparent %r" % (x.key, x.headers.get("traceparent")))
        if uuid.UUID(x["event_id"]).version != 5:
            wrong.append("event_id is not a UUIDv5")
        t.ok(not wrong, "event of %s is right" % x["file_name"], *wrong)
    t.ok(uuid.UUID(r["result_id"]).version == 5, "result_id is a UUIDv5")
    w.push(dict(j, job_id="job_124"), dict(j, job_id="job_123"))
    w.results(3)
    again = [x for x in w.events_of("job_123") if x["event_id"]]
    t.is_(len(again), 6, "the same job again: the same files again")
    t.is_(len({x["event_id"] for x in again}), 3, "with the same event_id each")
    t.same_set([x["event_id"] for x in w.events_of("job_124")], {x["event_id"] for x in e},
               "another job over the same files: the same ids")
    ids = [x["result_id"] for x in w.reader("results").records]
    t.is_(len(set(ids)), len(ids), "each message has a result_id of its own")
    w.push(job("traced", {"source_type": "local", "path": w.root + "/none"}), headers=[("traceparent", TRACE.encode())])
    t.is_([w.result_of("traced").headers.get("traceparent")] + [x.headers.get("traceparent") for x in w.dead_letters_of("traced")], [TRACE] * 2,
          "a job that fails: traceparent is in its dead letter, too")


def metadata(t, w, d):
    meta = {"a": [1, 2.5, None, True, {"b": "x"}], "gr\u00fc\u00df": "\U0001f4c4 \"q\" \\ \u2028 <&>", "n": -9007199254740993, "e": {}, "s": ""}
    r, e, _ = w.run(generated(2), metadata=meta, org_id="tenant-7")
    t.is_(r["metadata"], meta, "metadata comes back in the terminal record")
    t.ok(len(e) == 2 and all(x["metadata"] == meta and x["org_id"] == "tenant-7" for x in e), "and in each event")
    t.ok(all(x.headers["org_id"] == "tenant-7" for x in e), "org_id is in the headers")


def versions(t, w, d):
    path = os.path.join(w.root, "version.txt")
    with open(path, "w") as f:
        f.write("one")
    os.utime(path, ns=(10**18, 10**18))
    ids = []
    for change in (lambda: None, lambda: None, lambda: os.utime(path, ns=(10**18, 10**18 + 1)),
                   lambda: (open(path, "a").write("x"), os.utime(path, ns=(10**18, 10**18)))):
        change()
        _, e, _ = w.run({"source_type": "local", "path": w.root}, file_pattern="version.txt")
        ids.append(e[0]["event_id"])
    t.ok(ids[0] == ids[1], "an unchanged file keeps its event_id")
    t.is_(len(set(ids)), 3, "another time or size: another event_id")
    _, e, _ = w.run({"source_type": "local", "path": w.root}, file_pattern="version.txt", org_id="other")
    t.ok(e[0]["event_id"] not in ids, "another tenant: another event_id")
    os.unlink(path)


def several_sources(t, w, d):
    r, e, dl = w.run([{"source_type": "dummy", "path": "./dummy_data", "source_id": "real"}, generated(5, source_id="made"),
                      {"source_type": "local", "path": w.root + "/none", "source_id": "gone"}])
    t.is_((r["event_type"], r["matched"], r["published"]), ("job.partial", 8, 8), "one of three sources fails: partial")
    t.is_([(s["source_id"], s["source_type"], s["matched"], s["error"] and s["error"]["class"]) for s in r["sources"]],
          [("real", "dummy", 3, None), ("made", "dummy", 5, None), ("gone", "local", 0, "not_found")],
          "a result for each source, in the job's order")
    t.is_(len(e), 8, "the events of the two others are there")
    t.same_set({x["source_id"] for x in e}, {"real", "made"}, "each names its source")
    t.ok(len(dl) == 1 and dl[0]["failure_info"]["error_type"] == "not_found", "the failed source is dead-lettered")
    r, e, dl = w.run([generated(5), generated(7, seed=3)])
    t.is_((r["event_type"], r["matched"], len(e), len(dl), len(r["sources"])), ("job.completed", 12, 12, 0, 2), "all well: completed")
    r, e, dl = w.run([{"source_type": "local", "path": w.root + "/none"}, {"source_type": "local", "path": w.root + "/nil"}])
    t.is_((r["event_type"], len(e), len(dl) >= 1), ("job.failed", 0, True), "all fail: failed")


def publishing(t, w, d):
    r, e, dl = w.run(generated(1000, fail_after=600, error="permanent"))
    t.is_((r["event_type"], r["published"], len(e), len(dl)), ("job.failed", 0, 0, 1), "atomic: a failed listing publishes nothing")
    t.is_(r["error"]["class"], "permanent", "its class is in the terminal record")
    r, e, dl = w.run(generated(1000, fail_after=600, error="permanent"), publish="stream")
    t.is_((r["event_type"], r["published"], len(e), len(dl)), ("job.partial", 600, 600, 1), "stream: what was published stays, partial")
    r, e, dl = w.run(generated(1000, fail_after=0, error="permanent"), publish="stream")
    t.is_((r["event_type"], len(e)), ("job.failed", 0), "stream that broke before its first event: failed")
    r, e, dl = w.run(generated(20000), publish="stream", timeout=60)
    t.is_((r["event_type"], r["published"], len({x["event_id"] for x in e}), len(e)), ("job.completed", 20000, 20000, 20000), "stream of 20,000")
    r, e, dl = w.run(generated(20000, name_template="atomic_{index}.csv"), timeout=60)
    t.is_((r["event_type"], r["published"], len({x["event_id"] for x in e}), len(e)), ("job.completed", 20000, 20000, 20000), "atomic of 20,000")


def retries(t, w, d):
    r, e, dl = w.run(generated(10, error="transient", fail_after=5, fault_attempts=2))
    t.is_((r["event_type"], r["attempt"], len(e), len(dl)), ("job.completed", 3, 10, 0), "transient twice: completed at the third attempt")
    t.is_({x["attempt"] for x in e}, {3}, "its events tell the attempt")
    _, first, _ = w.run(generated(10))
    t.is_({x["event_id"] for x in e}, {x["event_id"] for x in first}, "and have the ids that the first attempt would have given")
    r, e, dl = w.run(generated(10, error="transient", retries=1))
    f = dl[0]["failure_info"] if dl else {}
    t.is_((r["event_type"], r["attempt"], f.get("error_type"), f.get("retry_count"), f.get("max_retries")),
          ("job.failed", 2, "transient", 1, 1), "the budget ends: dead letter with its counts")
    r, e, dl = w.run(generated(10, error="not_found", retries=5))
    t.is_((r["event_type"], r["attempt"], dl[0]["failure_info"]["error_type"]), ("job.failed", 1, "not_found"), "what will fail again is not tried again")
    r, e, dl = w.run(generated(50, error="transient", fail_after=20, fault_attempts=1), publish="stream")
    t.ok(r["event_type"] == "job.completed" and len(e) >= 50 and len({x["event_id"] for x in e}) == 50,
         "stream and a retry: all are there, repeats carry the same ids", r.raw, len(e))


def endings(t, w, d):
    os.makedirs(os.path.join(w.root, "empty"), exist_ok=True)
    r, e, dl = w.run({"source_type": "local", "path": w.root + "/empty"})
    t.is_((r["event_type"], r["listed"], r["matched"], r["error"], len(dl)), ("job.completed", 0, 0, None, 0), "an empty folder: completed, 0")
    r, e, dl = w.run({"source_type": "local", "path": w.root + "/missing"})
    t.is_((r["event_type"], r["error"]["class"], len(dl)), ("job.failed", "not_found", 1), "a missing folder: failed")
    t.ok("missing" in r["error"]["message"], "and named", r["error"]["message"])
    r, e, dl = w.run({"source_type": "local", "path": "/etc"})
    t.is_((r["event_type"], r["error"]["class"], len(dl)), ("job.failed", "policy", 1), "a path outside of the roots: policy")
    r, e, dl = w.run({"source_type": "local", "path": w.root + "/../../../etc"})
    t.is_((r["event_type"], len(e)), ("job.failed", 0), "nor by ..")
    top = os.path.join(w.root, "partial")
    os.makedirs(top + "/closed", exist_ok=True)
    os.makedirs(top + "/open", exist_ok=True)
    for p in ("a.csv", "open/b.csv", "closed/c.csv"):
        open(os.path.join(top, p), "w").close()
    os.chmod(top + "/closed", 0)
    r, e, dl = w.run({"source_type": "local", "path": top, "recursive": True})
    t.is_((r["event_type"], sorted(x["relative_path"] for x in e)), ("job.partial", ["a.csv", "open/b.csv"]), "an unreadable folder: partial")
    t.ok("closed" in json.dumps(r.json), "and named in the terminal record", r.raw)
    r, e, dl = w.run({"source_type": "local", "path": top, "recursive": True, "on_unreadable": "fail"})
    t.is_((r["event_type"], len(e), len(dl)), ("job.failed", 0, 1), "on_unreadable: fail")
    os.chmod(top + "/closed", 0o755)


def deadlines(t, w, d):
    since = d.mark()
    r, e, dl = _timed(w, "slow", generated(5, delay="60s", retries=0), "1s")
    t.is_((r["event_type"], r["error"]["class"], len(e)), ("job.failed", "timeout", 0), "a slow source: timeout at the job's deadline")
    # two clocks, each in whole milliseconds
    t.ok(0.99 <= r["duration_seconds"] < 4, "not before it, nor long after", r["duration_seconds"])
    r, e, dl = _timed(w, "hang", generated(5, crash="hang", retries=0), "1s")
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "timeout"), "a worker that hangs: the master kills it")
    t.ok(r["duration_seconds"] < 6, "within the deadline and its steps", r["duration_seconds"])
    t.ok(d.wait_log("worker_died", since=since), "that worker is gone")
    t.is_(dl[0]["failure_info"]["error_type"], "timeout", "the dead letter says so")
    r, e, dl = w.run(generated(3))
    t.is_(r["event_type"], "job.completed", "the next job goes on")


def _timed(w, job_id, source, limit):
    w.push(job(job_id, source, timeout=limit))
    return w.result_of(job_id), w.events_of(job_id), w.dead_letters_of(job_id)


def cancelled(t, w, d):
    w.push(job("to-cancel", generated(5, delay="60s")))
    d.wait_log("job_started", job_id="to-cancel")
    code, out, err = d.ctl("job", "cancel", "to-cancel")
    t.ok(code == 0, "job cancel", out, err)
    r = w.result_of("to-cancel")
    t.is_((r["event_type"], r["error"] and r["error"]["class"]), ("job.cancelled", "cancelled"), "cancelled while it ran: job.cancelled")
    t.is_(len(w.events_of("to-cancel")), 0, "without events")
    w.push(job("to-cancel-2", generated(5), scheduled_at=rfc3339(50)))
    d.wait_log("job_accepted", job_id="to-cancel-2")
    code, out, err = d.ctl("job", "cancel", "to-cancel-2")
    t.is_((code, w.result_of("to-cancel-2")["event_type"]), (0, "job.cancelled"), "cancelled while it waited")
    code, out, err = d.ctl("job", "cancel", "no-such-job")
    t.ok(code not in (0, 64, 70) and "no-such-job" in str(out) + err, "cancel of an unknown job fails and names it", code, out, err)


def times(t, w, d):
    at = rfc3339(1.5)
    r, e, _ = w.run(generated(1), scheduled_at=at)
    t.ok(r["event_type"] == "job.completed" and r["started_at"] >= at, "scheduled_at: not before", r["started_at"], at)
    r, e, _ = w.run(generated(1), scheduled_at=rfc3339(-3600))
    t.is_(r["event_type"], "job.completed", "scheduled_at in the past: at once")
    r, e, dl = w.run(generated(1), scheduled_at=rfc3339(86400 * 365))
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "policy"), "scheduled_at beyond deferred.longest is refused by name")
    t.ok("scheduled_at" in r["error"]["message"], "the message says scheduled_at", r["error"]["message"])
    r, e, dl = w.run(generated(1), created_at=rfc3339(-7200))
    t.is_((r["event_type"], r["error"]["class"], len(dl)), ("job.failed", "expired", 1), "older than jobs.max_age: expired")
    r, e, dl = w.run(generated(1), created_at=rfc3339(-60))
    t.is_(r["event_type"], "job.completed", "younger: served")


def fields(t, w, d):
    r, e, _ = w.run(generated(1), no_such_field=1)
    t.ok(r["event_type"] == "job.completed" and "no_such_field" in json.dumps(r["warnings"]), "an unknown field is a warning", r.raw)
    r, e, _ = w.run({"type": "dummy", "count": 4})
    t.is_((r["event_type"], len(e)), ("job.completed", 4), "aliases")
    r, e, _ = w.run({"type": "dummy", "source_type": "dummy", "files": 2, "count": 2})
    t.is_((r["event_type"], len(e)), ("job.completed", 2), "an alias that says the same")
    r, e, _ = w.run({"source_type": "dummy", "files": 2, "count": 3})
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "invalid_job"), "an alias that says something else")
    for source, name in (({"source_type": "s3", "bucket": "b", "directory_bucket": True}, "directory_bucket"), ({"source_type": "sftp", "host": "h", "use_agent": True}, "use_agent"),
                         ({"source_type": "s3", "bucket": "b", "include_tags": True}, "include_tags"), ({"source_type": "ftp", "host": "h", "account": "a"}, "account")):
        r, e, dl = w.run(source, invalid=True)
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "unsupported" and name in r["error"]["message"],
             "%s: refused by name" % name, r.raw)
    r, e, dl = w.run({"source_type": "gopher", "path": "/x"}, invalid=True)
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "unknown_source"), "an unknown source type")
    r, e, dl = w.run(generated(1, credentials_ref="x"))
    t.ok(r["event_type"] == "job.completed" and any("credentials_ref" in x for x in r["warnings"]), "credentials_ref of a source without a login: a warning", r.raw)
    r, e, dl = w.run(generated(3), api_keys={"k": SECRET}, batch_size=100)
    t.is_((r["event_type"], len(e)), ("job.completed", 3), "api_keys and batch_size are accepted")
    r, e, dl = w.run(generated(3, error="permanent"), api_keys={"k": SECRET}, file_pattern=["*.csv", "*.txt"])
    t.ok(dl and dl[0]["original_job"]["source_config"]["files"] == 3, "the dead letter holds the job", dl and dl[0].raw)
    w.push(invalid(b'{"job_id": "broken", "api_keys": "' + SECRET.encode() + b'", }'))
    w.reader("dlq").until(lambda rs: any(x["original_job"] is None for x in rs), what="the dead letter of a message that does not parse")
    x = [x for x in w.reader("dlq").records if x["original_job"] is None][-1]
    t.ok(x["failure_info"]["position"] is not None and x["metadata"]["original_offset"] >= 0, "a message that does not parse: position and pointer", x.raw)
    # it follows the dead letter's acknowledgement
    none = lambda rs: [r for r in rs if r["job_id"] is None]  # noqa: E731
    r = none(w.reader("results").until(none, what="the terminal record of a message that does not parse"))
    t.ok(r[-1]["event_type"] == "job.failed" and r[-1]["error"]["class"] == "invalid_job", "and a terminal record without job_id")


def event_keys(t, w, d):
    for how, want in (("job_id", lambda e: e["job_id"].encode()), ("org_id", lambda e: e["org_id"].encode()),
                      ("none", lambda e: None), ("file_url", lambda e: e["file_url"].encode())):
        since = d.mark()
        d.write_conf(topics__event_key=how)
        d.signal(signal.SIGHUP)
        d.wait_log("config_reloaded", since=since)
        _, e, _ = w.run(generated(3), org_id="o-1")
        t.ok(len(e) == 3 and all(x.key == want(x) for x in e), "event_key: %s" % how, [x.key for x in e])


def flow(t, broker):
    """All of it on one broker; broker(t) starts it."""
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    wrap = without_override()
    if wrap is None:
        t.skip_all("root's right to read everything cannot be dropped here (setpriv)")
    w = World(broker(t), event_partitions=4)
    w.root = folder()
    d = Daemon(w, {"local.allowed_roots": [w.root], "jobs.max_age": "1h"}, wrap=wrap)
    for part in (readme_job, metadata, versions, several_sources, publishing, retries, endings, deadlines, cancelled, times,
                 fields, event_keys):
        t.part(part, w, d)

    pushed = sum(1 for _ in w.reader("jobs").drain())
    results = w.reader("results").drain()
    t.same_set([(r["origin"]["partition"], r["origin"]["offset"]) for r in results], [(0, i) for i in range(pushed)],
               "one terminal record for each message, and no other")
    d.wait_metric("poller_jobs_accepted_total", pushed)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "nothing is in flight")
    d.wait_metric("poller_jobs_accepted_total", pushed)
    left, right = conservation(d)
    t.is_((left, right), (pushed, pushed), "accepted = ended + revoked + in flight")
    everything = b"".join(r.raw for k in ("events", "results", "dlq") for r in w.reader(k).records) + "".join(d.raw).encode()
    t.ok(SECRET.encode() not in everything, "api_keys are in no record and no log line")
    twice = [x for x in d.raw if len(re.findall(r'[{,]"pid":', x)) > 1]
    t.ok(not twice, "no log line has a key twice", twice[:1])
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.ok(d.logged("draining") and d.logged("stopped"), "it says draining and stopped")
    t.is_(w.committed(), {0: pushed}, "all offsets are committed")
    return w.broker


if __name__ == "__main__":
    with Tap() as tap:
        flow(tap, MockBroker)
