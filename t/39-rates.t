#!/usr/bin/python3
"""Requests a second of a job, against servers that note when they were asked: n <= burst + rate * t at every moment, and all
is listed in the end."""
import json
import os
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
    d.stop()
    s.stop()


def seconds(r):
    return r["duration_seconds"]


def sftp(t, b):
    if not sshd.here():
        t.ok(True, "SFTP # SKIP OpenSSH's server is not installed")
        return
    root = folder()
    for i in range(12):
        os.mkdir(os.path.join(root, "d%d" % i))
        with open(os.path.join(root, "d%d" % i, "f.csv"), "w"):
            pass
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
    d.stop()
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
    d.stop()
    server.stop()


def main(t):
    b = MockBroker(t)
    for part in (http, s3, sftp, ftp):
        t.part(part, b)


with Tap() as tap:
    main(tap)
