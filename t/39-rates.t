#!/usr/bin/python3
"""Requests a second of a job, of a tenant, of an endpoint, against servers that note when they were asked: n <= burst + rate * t
at every moment, and all is listed in the end."""
import json
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, folder, job, wait_for  # noqa: E402
from s3servers import Pages  # noqa: E402
from webservers import Answers  # noqa: E402

LOOPBACK = {"egress.allow": ["127.0.0.0/8", "::1/128"], "retry.max_attempts": 0}


class Tree:
    """An HTTP server whose every top directory holds so many directories of one file each: 1 + dirs requests a listing. Notes
    when each was asked for, and by which path."""

    def __init__(self, dirs):
        self.dirs, self.times, self.lock = dirs, [], threading.Lock()
        self.open, self.peak = 0, 0
        self.hold = threading.Event()       # unset: answers wait
        self.hold.set()
        self.server = Answers(self.answer)
        self.url = self.server.url

    def answer(self, request):
        with self.lock:
            self.times.append((time.monotonic(), request.path))
        self.hold.wait(60)
        deep = request.path.count("/") > 2
        names = ["f.csv"] if deep else ["d%d/" % i for i in range(self.dirs)]
        rows = [{"name": n.rstrip("/"), "type": "directory" if n.endswith("/") else "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in names]
        return {"headers": {"Content-Type": "application/json"}, "body": json.dumps(rows).encode()}

    def source(self, top="a", **fields):
        return dict({"source_type": "http", "url": "%s/%s/" % (self.url, top), "index_format": "json", "head_mode": "none", "recursive": True}, **fields)

    def asked(self, *tops):
        """When the directories below these were asked for, in order."""
        with self.lock:
            return sorted(x for x, path in self.times if path.split("/")[1] in tops)


def within(times, began, rate, burst):
    """The k-th request came no sooner than the bucket, full when it began, gave its token: the moments at which one did."""
    return [(k + 1, round(x - began, 3)) for k, x in enumerate(times) if k + 1 > burst + (x - began) * rate]


def limit(ops, burst=None):
    return {"rate_limit": dict({"ops_per_sec": ops}, **({"burst": burst} if burst else {}))}


def http(t, b):
    w, s = World(b), Tree(30)
    d = Daemon(w, dict(LOOPBACK))
    began = time.monotonic()
    r, e, _ = w.run(s.source("a", **limit(20, 3)))
    got = s.asked("a")
    t.ok(r["event_type"] == "job.completed" and len(e) == 30 and not r["warnings"], "HTTP: a tree of 30 directories, 20 requests a second", r.raw)
    t.is_((len(got), within(got, began, 20, 3)), (31, []), "its 31 requests kept to the rate")
    began = time.monotonic()
    r, e, _ = w.run(s.source("b", **limit(20)))
    t.is_((len(e), within(s.asked("b"), began, 20, 2)), (30, []), "without burst: a tenth of a second's, 2")
    r, e, _ = w.run(s.source("c", max_connections=1, **limit(10, 1)), deadline=1)
    t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "timeout" and not e, "a rate is no reason to miss a deadline: timeout", r.raw)
    w.push(job("gone", s.source("d", **limit(1, 1))))
    wait_for("its first request", lambda: s.asked("d"))
    d.ctl("job", "cancel", "gone")
    began = time.monotonic()
    r = w.result_of("gone")
    t.ok(r["event_type"] == "job.cancelled" and len(s.asked("d")) <= 3 + time.monotonic() - began, "cancelled while it waits for its turn", r.raw)
    r, e, _ = w.run(s.source("e", response_timeout="900ms", idle_timeout="900ms", max_connections=2, **limit(1, 28)))
    t.ok(r["event_type"] == "job.completed" and len(e) == 30, "turns of a second, timeouts of 900 ms: the server was not late", r.raw)
    for bad in ({"ops_per_sec": 0}, {"burst": -1}, {"ops_per_sec": 1000001}):
        r, e, _ = w.run(s.source("f", rate_limit=bad), invalid=True)
        t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "invalid_job"), "rate_limit %s is refused" % bad)
    t.is_(d.stop(), 0, "exit 0")


def s3(t, b):
    w, s = World(b), Pages([b"k%04d" % i for i in range(400)], page=10)
    times = []
    s.fault = lambda request: times.append(time.monotonic())
    d = Daemon(w, dict(LOOPBACK))
    began = time.monotonic()
    r, e, _ = w.run(s.source(recursive=True, **limit(25, 1)))
    t.ok(r["event_type"] == "job.completed" and len(e) == 400, "S3: 40 pages, 25 requests a second", r.raw)
    t.is_((len(times) >= 40, within(times, began, 25, 1)), (True, []), "its requests kept to the rate")
    t.is_(d.stop(), 0, "exit 0")
    s.stop()


def twelve():
    """A folder of 12 directories, a file in each."""
    root = folder()
    for i in range(12):
        os.mkdir(os.path.join(root, "d%d" % i))
        with open(os.path.join(root, "d%d" % i, "f.csv"), "w"):
            pass
    return root


def seconds(r):
    return r["duration_seconds"]


def sftp(t, b):
    if not sshd.here():
        t.ok(True, "SFTP # SKIP OpenSSH's server is not installed")
        return
    root = twelve()
    server = sshd.Sshd(sshd.Keys())
    w = World(b)
    d = Daemon(w, dict(LOOPBACK))
    r, e, _ = w.run(server.source(root, recursive=True))
    t.is_((r["event_type"], len(e)), ("job.completed", 12), "SFTP: 13 directories without a limit")
    # REALPATH, STAT, and of each directory OPENDIR, READDIR, READDIR to its end, CLOSE
    least = 2 + 4 * 13
    for name, source in (("SFTP", server.source(root, recursive=True, **limit(30, 4))),
                         ("turns of a second, timeouts of 900 ms", server.source(root, recursive=True, response_timeout="900ms", idle_timeout="900ms", **limit(1, least - 2)))):
        r, e, _ = w.run(source)
        ops, burst = source["rate_limit"]["ops_per_sec"], source["rate_limit"]["burst"]
        t.ok(r["event_type"] == "job.completed" and len(e) == 12, "%s: 13 directories, %d requests a second" % (name, ops), r.raw)
        t.ok(seconds(r) >= (least - burst) / ops, "not sooner than %d requests may be made" % least, seconds(r))
    t.is_(d.stop(), 0, "exit 0")
    server.stop()


def ftp(t, b):
    if not ftpservers.here():
        t.ok(True, "FTP # SKIP no FTP server can be had here")
        return
    root = folder()
    os.chmod(root, 0o755)
    for i in range(12):
        os.mkdir(os.path.join(root, "d%d" % i))
        with open(os.path.join(root, "d%d" % i, "f.csv"), "w"):
            pass
    server = ftpservers.PureFtpd(root)
    w = World(b)
    d = Daemon(w, dict(LOOPBACK))
    r, e, _ = w.run(server.source("/", recursive=True, **limit(10, 2)))
    t.ok(r["event_type"] == "job.completed" and len(e) == 12, "FTP: 13 directories, 10 transfers a second", r.raw)
    t.ok(seconds(r) >= (13 - 2) / 10, "not sooner than 13 transfers may be made", seconds(r))
    t.is_(d.stop(), 0, "exit 0")
    server.stop()


def row(d, verb, key, name):
    return {x[key]: x for x in d.ctl(verb)[1][verb]}.get(name, {})


def tenant(t, b):
    """Two jobs, then a third, of one tenant share its requests; another tenant's job does not wait for them."""
    w, s = World(b), Tree(30)
    d = Daemon(w, dict(LOOPBACK, **{"workers.count": 4, "tenants.slow": {"requests_per_minute": 300}}))
    began = time.monotonic()
    w.push(*[job("slow-%d" % i, s.source("s%d" % i), org_id="slow", deadline=3) for i in range(2)])
    wait_for("requests that wait", lambda: row(d, "tenants", "org_id", "slow").get("request_wait_seconds"))
    w.push(job("slow-2", s.source("s2"), org_id="slow", deadline=3))
    x = wait_for("the third job", lambda: (lambda r: r if r["waiting"] else None)(row(d, "tenants", "org_id", "slow")))
    t.is_((x["running"], x["waiting"], x["waits_for"], x["requests_per_minute"]), (2, 1, "requests_per_minute", 300),
          "of four workers two may wait for the tenant's requests, the third job waits without one")
    w.push(job("other", s.source("o"), org_id="other"))
    t.is_(w.result_of("other")["event_type"], "job.completed", "another tenant's job is done")
    done = [y["job_id"] for y in w.reader("results").records]
    t.ok("slow-0" not in done or "slow-2" not in done, "while these wait", done)
    for i in range(3):
        r = w.result_of("slow-%d" % i, 60)
        t.ok(r["event_type"] == "job.completed" and r["published"] == 30, "job %d of the tenant: all is listed, though its deadline is 3 s" % i, r.raw)
    got = s.asked("s0", "s1", "s2")
    t.is_((len(got), within(got, began, 5, 30)), (93, []), "300 requests a minute: their 93 kept to the rate")
    x = row(d, "tenants", "org_id", "slow")
    t.ok(x["requests"] == 93 and x["request_wait_seconds"] > 0, "iis-pollerctl tenants tells how many they were, and how long they waited", x)
    t.ok(d.metric("poller_request_wait_seconds_total", limit="tenant") > 0, "poller_request_wait_seconds_total")
    t.ok("REQUESTS/MIN" in d.ctl("tenants", json_out=False)[1], "and as a table")
    t.is_(d.stop(), 0, "exit 0")


def endpoint(t, b):
    w, s, free = World(b), Tree(15), Tree(15)
    d = Daemon(w, dict(LOOPBACK, **{"workers.count": 4, "network.endpoint_requests_per_second": 10}))
    began = time.monotonic()
    w.push(*[job(org, s.source(org), org_id=org) for org in ("a", "b")])
    w.push(job("elsewhere", free.source("c")))
    for name in ("a", "b", "elsewhere"):
        r = w.result_of(name, 60)
        t.ok(r["event_type"] == "job.completed" and r["published"] == 15, "%s is listed" % name, r.raw)
    t.is_((len(s.asked("a", "b")), within(s.asked("a", "b"), began, 10, 1)), (32, []), "two tenants' jobs on one endpoint: together 10 requests a second")
    t.is_(within(free.asked("c"), began, 10, 1), [], "another endpoint has 10 of its own")
    x = row(d, "endpoints", "endpoint", s.url)
    t.ok(x["requests"] == 32 and x["request_wait_seconds"] > 0, "iis-pollerctl endpoints tells how many they were, and how long they waited", x)
    t.ok(d.metric("poller_request_wait_seconds_total", limit="endpoint") > 0, "poller_request_wait_seconds_total")
    d.write_conf(network__endpoint_requests_per_second=0)
    since = d.mark()
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    s.hold.clear()
    w.push(job("running", s.source("r", max_connections=1)))
    wait_for("its first request", lambda: s.asked("r"))
    since = d.mark()
    d.write_conf(network__endpoint_requests_per_second=10)
    began = time.monotonic()
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    s.hold.set()
    t.is_(w.result_of("running", 60)["published"], 15, "a limit that comes while a job runs")
    t.is_(within(s.asked("r")[1:], began, 10, 1), [], "holds for its further requests")
    since = d.mark()
    w.push(job("lifted", s.source("l", response_timeout="20s"), org_id="x"))
    wait_for("its first request", lambda: s.asked("l"))
    d.write_conf(network__endpoint_requests_per_second=0)
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    t.is_(w.result_of("lifted")["published"], 15, "one that is lifted holds nobody up")
    t.is_(d.stop(), 0, "exit 0")


def endpoint_sftp(t, b):
    if not sshd.here():
        t.ok(True, "SFTP # SKIP OpenSSH's server is not installed")
        return
    root = twelve()
    server = sshd.Sshd(sshd.Keys())
    w = World(b)
    d = Daemon(w, dict(LOOPBACK, **{"network.endpoint_requests_per_second": 30}))
    # Waits for a turn are not the job's time; those of a worker that does not hear the answer would be.
    r, e, _ = w.run(server.source(root, recursive=True, response_timeout="2s"), deadline=10)
    t.ok(r["event_type"] == "job.completed" and len(e) == 12, "SFTP to an endpoint with 30 requests a second, within a deadline of 10 s", r.raw)
    t.ok(seconds(r) >= (2 + 4 * 13 - 3) / 30, "not sooner than its requests may be made", seconds(r))
    t.is_(d.stop(), 0, "exit 0")
    server.stop()


def main(t):
    b = MockBroker(t)
    for part in (http, s3, sftp, ftp, tenant, endpoint, endpoint_sftp):
        t.part(part, b)


with Tap() as tap:
    main(tap)
