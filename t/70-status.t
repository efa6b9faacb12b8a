#!/usr/bin/python3
"""The status pages, and each metric against a count that is not the daemon's own."""
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, Daemon, MockBroker, Tap, World, alive, conservation, folder, generated, invalid, job, need, run, wait_for  # noqa: E402

EVIL_ID = "<script>alert(1)</script>&amp;\"'"


def pages(t, w, d):
    for path, kind in (("/metrics", "text/plain"), ("/livez", ""), ("/readyz", ""), ("/health", "application/json"), ("/status", "text/html"), ("/status.json", "application/json")):
        with urllib.request.urlopen(d.url + path, timeout=10) as r:
            body = r.read()
            t.ok(r.status == 200 and body and r.headers["content-type"].startswith(kind), "%s: 200 %s" % (path, r.headers["content-type"]))
    status, body = d.http("/health")
    h = json.loads(body)
    t.ok(h["status"] == "healthy" and {"timestamp", "uptime", "checks"} <= set(h) and h["uptime"] >= 0 and isinstance(h["checks"], dict), "/health", body)
    s = json.loads(d.http("/status.json")[1])
    t.ok(isinstance(s, dict) and s, "/status.json is an object")
    t.is_(d.http("/no-such-page")[0], 404, "another path: 404")
    t.is_(d.http("/" + "a" * 3000)[0] in (404, 414, 400), True, "a long path")
    host, port = d.url.split("//")[1].split(":")

    def raw(data, wait=10):
        with socket.create_connection((host, int(port)), 5) as s:
            s.settimeout(wait)
            s.sendall(data)
            got = b""
            try:
                while True:
                    x = s.recv(65536)
                    if not x:
                        break
                    got += x
            except (socket.timeout, ConnectionResetError):
                pass
            return got
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        got = raw(("%s /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % method).encode())
        t.ok(re.match(rb"HTTP/1\.[01] 40[0-9]|HTTP/1\.[01] 501", got), "%s is refused" % method, got[:100])
    got = raw(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    t.ok(got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n\r\n"), "HEAD has no body", got[-100:])
    for junk in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", b"G" * 100000):
        got = raw(junk, 6)
        t.ok(b"root:" not in got and not got.startswith(b"HTTP/1.1 200"), "junk: %r" % got[:30])
    began = time.monotonic()
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(20)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
    t.ok(time.monotonic() - began < 2 + 3, "a request that does not end is closed at http.deadline", time.monotonic() - began)
    held = []
    for _ in range(80):
        try:
            held.append(socket.create_connection((host, int(port)), 1))
        except OSError:
            break
    for s in held:
        s.close()
    wait_for("an answer after many connections", lambda: d.http("/livez")[0] == 200)
    t.ok(True, "80 idle connections pass")


def listed(t, d):
    with open(os.path.join(ROOT, "master/metrics.def")) as f:
        rows = re.findall(r'^METRIC\(\w+, "(\w+)", (\w+), "([\w ]*)"', f.read(), re.M)
    body = d.http("/metrics")[1]
    code, out, err = run("promtool", "check", "metrics", stdin=body)
    t.ok(code == 0 and not out and not err, "promtool check metrics is clean", out, err)
    t.ok(len(rows) > 30, "metrics.def has %d rows" % len(rows))
    missing = [n for n, kind, _ in rows if "# TYPE %s %s\n" % (n, kind.lower()) not in body or "# HELP %s " % n not in body]
    t.ok(not missing, "each metric of the list is on the page", missing)
    names = set(re.findall(r"^# TYPE (\w+)", body, re.M))
    t.is_(names - {n for n, _, _ in rows}, set(), "and no other")
    labels = {n: set(l.split()) for n, _, l in rows}
    wrong = []
    for (name, ls), _ in d.metrics().items():
        base = re.sub(r"_(bucket|sum|count)$", "", name) if name not in labels else name
        if {k for k, _ in ls} - {"le"} != labels[base]:
            wrong.append((name, ls))
    t.ok(not wrong, "each sample has the labels of its row", wrong[:5])
    m = d.metrics()
    for n, kind, _ in rows:
        if kind == "HISTOGRAM" and (n + "_count", ()) in m:
            t.ok(m[(n + "_bucket", (("le", "+Inf"),))] == m[(n + "_count", ())], "%s: +Inf is the count" % n)


def counts(t, w, d):
    """A mix of jobs; then each metric of the contract's table against what lies in Kafka and what the log told."""
    before = d.metrics()
    t.ok(d.metric("poller_active_jobs", before) == 0, "active_jobs is 0 at first")
    w.push(job("c1", generated(50), file_pattern="*7.csv"), job("c2", generated(20)), job("c3", {"source_type": "dummy"}),
           job("p1", [generated(5), {"source_type": "local", "path": d.conf["local.allowed_roots"][0] + "/none"}]), job("f1", generated(5, error="permanent")),
           job("f2", generated(5, error="transient", retries=2, retry_delay="10ms")), job("f3", generated(5, crash="segv", retry_delay="10ms")),
           job("s1", generated(30, error="permanent", fail_after=12), publish="stream"), job("m1", [generated(2), generated(3)]), invalid(b"not json"), invalid(b"{}"),
           job("local", {"source_type": "local", "path": "/outside"}))
    w.results(12)
    w.push(job(EVIL_ID, generated(5, delay="60s")))
    d.wait_log("job_started", job_id=EVIL_ID)
    t.is_(d.wait_metric("poller_active_jobs", 1), 1, "active_jobs is 1 while a job runs")
    t.is_(d.wait_metric("poller_workers", 1, state="busy"), 1, "one worker is busy")
    t.ok(d.metric("poller_oldest_job_age_seconds") > 0, "oldest_job_age moves")
    for path in ("/status", "/status.json"):
        body = wait_for("the job on %s" % path, lambda p=path: (lambda b: b if "alert(1)" in b else None)(d.http(p)[1]))
        t.ok("<script>alert" not in body or path.endswith("json"), "%s shows the job, escaped" % path)
    s = json.loads(d.http("/status.json")[1])
    t.ok(EVIL_ID in json.dumps(s).replace("\\\"", '"'), "/status.json has the very id")
    d.ctl("job", "cancel", EVIL_ID)
    w.results(13)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "and 0 after it")
    pushed = len(w.reader("jobs").drain())
    results, letters, events = (w.reader(k).drain() for k in ("results", "dlq", "events"))
    t.is_(d.wait_metric("poller_jobs_total", len(results)), 13, "jobs_total counts the terminal records")
    m = d.metrics()
    for kind in ("completed", "partial", "failed", "cancelled"):
        want = sum(r["event_type"] == "job." + kind for r in results)
        t.ok(want > 0 and d.metric("poller_jobs_total", m, status=kind) == want, "jobs_total{status=%s} = %d" % (kind, want), d.metric("poller_jobs_total", m, status=kind))
    t.is_(d.metric("poller_jobs_total", m, source_type="mixed"), 1, "source_type=mixed is the job over dummy and local")
    t.is_(d.metric("poller_job_duration_seconds_count", m), len(results), "job_duration_seconds counts each job")
    t.ok(d.metric("poller_job_duration_seconds_sum", m) >= sum(r["duration_seconds"] or 0 for r in results) * 0.9 - 0.1, "and its seconds")
    done = [r for r in results if r["event_type"] == "job.completed"]
    t.ok(d.metric("poller_files_processed_total", m, status="matched") >= sum(r["matched"] for r in done), "files_processed_total{matched}")
    t.ok(d.metric("poller_files_processed_total", m, status="skipped") >= 45, "files_processed_total{skipped}")
    t.is_(d.metric("poller_files_published_total", m, status="success"), len(events), "files_published_total{success} = events in Kafka")
    t.is_(d.metric("poller_kafka_messages_consumed_total", m, topic=w.topics["jobs"], status="accepted"), pushed, "kafka_messages_consumed_total = messages in the topic")
    for k, have in (("events", events), ("results", results), ("dlq", letters)):
        t.is_(d.metric("poller_kafka_messages_published_total", m, topic=w.topics[k], status="success"), len(have), "kafka_messages_published_total{%s} = records in Kafka" % k)
    t.is_(d.metric("poller_connection_errors_total", m, error_type="transient", source_type="dummy"), 3, "connection_errors_total: three attempts of f2")
    t.ok(d.metric("poller_connection_errors_total", m, error_type="permanent") == 2 and d.metric("poller_connection_errors_total", m, error_type="worker_crash") == 2, "and of the others")
    t.is_(d.metric("poller_job_retries_total", m, reason="transient"), 2, "job_retries_total")
    classes = [r["failure_info"]["error_type"] for r in letters]
    for c in set(classes):
        t.is_(d.metric("poller_dlq_messages_total", m, reason=c), classes.count(c), "dlq_messages_total{%s}" % c)
    t.is_(d.metric("poller_worker_restarts_total", m, cause="crash"), len(d.logged("worker_died", cause="crash")), "worker_restarts_total{crash} = deaths in the log")
    t.ok(d.metric("poller_worker_start_seconds_count", m) == len(d.logged("worker_ready")), "worker_start_seconds counts each READY")
    t.is_(d.metric("poller_jobs_accepted_total", m), pushed, "jobs_accepted_total")
    left, right = conservation(d, m)
    t.is_(left, right, "conservation, on the page")
    t.is_(d.wait_metric("poller_consumer_lag_records", 0), 0, "no lag is left")
    t.is_(sum(d.metric("poller_workers", None, state=s) for s in ("starting", "idle", "busy", "draining", "dying", "backoff")), 2, "each worker is in one state")
    t.is_(d.metric("poller_ready"), 1, "poller_ready 1")
    t.ok(d.metric("poller_kafka_commits_total", m) > 0 and d.metric("poller_http_requests_total", m) > 0, "commits and requests are counted")
    t.ok(abs(d.metric("poller_last_job_completed_timestamp_seconds", m) - time.time()) < 60, "last_job_completed_timestamp")
    with open("/proc/%d/stat" % d.pid) as f:
        ticks = sum(map(int, f.read().rpartition(")")[2].split()[11:13]))
    t.ok(d.metric("process_cpu_seconds_total") <= ticks / os.sysconf("SC_CLK_TCK") + 0.1, "process_cpu_seconds_total")
    t.ok(0.3 < d.metric("process_resident_memory_bytes") / d.memory() < 3, "process_resident_memory_bytes")
    t.ok(abs(d.metric("process_open_fds") - len(os.listdir("/proc/%d/fd" % d.pid))) <= 8, "process_open_fds")


def lag(t, w, d):
    w.push(job("block", generated(1, delay="60s"), priority="high"), job("block2", generated(1, delay="60s"), priority="high"))
    d.wait_log("job_started", job_id="block2")
    w.push(*[job("lag-%d" % i, generated(1)) for i in range(30)])
    t.is_(d.wait_metric("poller_consumer_lag_records", 32), 32, "lag: 2 running and 30 waiting")
    t.is_(d.wait_metric("poller_queue_depth", 30, priority="normal"), 30, "queue_depth 30")
    d.ctl("job", "cancel", "block")
    d.ctl("job", "cancel", "block2")
    t.is_(d.wait_metric("poller_consumer_lag_records", 0), 0, "and none afterwards")


def trouble(t, w, d):
    d.signal(signal.SIGSTOP)
    try:
        wait_for("503 of a hung master", lambda: d.http("/livez")[0] == 503, 20, every=0.2)
        t.ok(True, "the master hangs: the pages say 503")
    finally:
        d.signal(signal.SIGCONT)
    wait_for("200 again", lambda: d.http("/livez")[0] == 200, 20, every=0.1)
    t.ok(True, "it goes on: 200")
    kids = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open("/proc/%s/stat" % p) as f:
                    s = f.read()
                if int(s.rpartition(")")[2].split()[1]) == d.pid and "http" in s:
                    kids.append(int(p))
            except (OSError, ValueError):
                pass
    if t.ok(len(kids) == 1, "there is one status child", kids):
        os.kill(kids[0], signal.SIGKILL)
        wait_for("its end", lambda: not alive(kids[0]))

        def again():
            try:
                return d.http("/livez", 2)[0] == 200
            except OSError:
                return False
        wait_for("another one", again, 20, every=0.1)
        t.ok(True, "the status child is killed: another one serves on the same port")
        t.is_(w.run(generated(2))[0]["event_type"], "job.completed", "jobs do not notice")
    w.push(job("drains", generated(1, delay="3s")))
    d.wait_log("job_started", job_id="drains")
    d.signal(signal.SIGTERM)
    d.wait_log("draining")
    wait_for("/readyz 503 while draining", lambda: d.http("/readyz")[0] == 503, 5)
    t.ok(True, "draining: not ready")
    t.is_(d.wait_exit(30), 0, "exit 0")
    t.is_(w.result_of("drains")["event_type"], "job.completed", "the job had its end")


def notify(t, b):
    """sd_notify: READY=1 when ready, STOPPING=1, and the watchdog's beat."""
    d = Daemon(World(b), start=False)
    path = os.path.join(d.dir, "notify")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    s.settimeout(20)
    d.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
    d.start(ready=False)
    got = []
    while not any("READY=1" in x for x in got):
        got.append(s.recv(4096).decode())
    t.ok(True, "READY=1")
    d.wait_ready()
    beats = 0
    while beats < 3:
        beats += "WATCHDOG=1" in s.recv(4096).decode()
    t.ok(True, "WATCHDOG=1 comes")
    d.signal(signal.SIGHUP)
    while "RELOADING=1" not in s.recv(4096).decode():
        pass
    t.ok(True, "RELOADING=1 at SIGHUP")
    d.signal(signal.SIGTERM)
    while "STOPPING=1" not in s.recv(4096).decode():
        pass
    t.ok(True, "STOPPING=1")
    t.is_(d.wait_exit(30), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w, {"http.deadline": "2s", "local.allowed_roots": [folder()]})
    d.http("/livez")
    t.part(pages, w, d)
    t.part(counts, w, d)
    t.part(listed, d)
    t.part(lag, w, d)
    t.part(trouble, w, d)
    t.part(notify, b)


with Tap() as tap:
    main(tap)
