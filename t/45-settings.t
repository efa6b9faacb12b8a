#!/usr/bin/python3
"""Settings that no other flow turns: each is set to another value, and what it says is seen to hold from outside."""
import os
import re
import shutil
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import SLOW, Daemon, MockBroker, Tap, World, folder, generated, invalid, job, need, program  # noqa: E402
from webservers import Answers  # noqa: E402


def limits_of(pid):
    """{name: (soft, hard)} of a process, as the kernel tells"""
    with open("/proc/%d/limits" % pid) as f:
        return {m[1].strip(): (m[2], m[3]) for m in (re.match(r"(Max [a-z ]+?)\s{2,}(\S+)\s+(\S+)", x) for x in f) if m}


def limits_of_jobs(t, b):
    """What a job may be, changed while the daemon runs."""
    w = World(b)
    d = Daemon(w, {"jobs.message_max": "4KiB", "jobs.metadata_max": 100, "jobs.source_max": 200, "jobs.entries_max": 50})
    for what, pushed, cls, words in (
            ("jobs.message_max", job("large", generated(1), api_keys="x" * 5000), "invalid_job", "jobs.message_max"),
            ("jobs.metadata_max", job("meta", generated(1), metadata={"x": "y" * 200}), "invalid_job", "jobs.metadata_max"),
            ("jobs.source_max", job("source", generated(1, name_template="f{index}" + "x" * 200)), "invalid_job", "jobs.source_max"),
            ("jobs.entries_max", job("entries", generated(51)), "limit", "jobs.entries_max")):
        at, = w.push(invalid(pushed))
        mine = lambda rs: [r for r in rs if (r["origin"]["partition"], r["origin"]["offset"]) == at]  # noqa: E731,B023
        r = mine(w.reader("results").until(mine, 30, what))[0]
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == cls and words in r["error"]["message"], "%s: over it: %s, and it is named" % (what, cls), r.raw[:900])
    r, e, _ = w.run(generated(50), metadata={"x": "y" * 50})
    t.is_((r["event_type"], len(e)), ("job.completed", 50), "what is within them is served")
    d.write_conf(jobs__message_max="1MiB", jobs__metadata_max="16KiB", jobs__source_max="48KiB", jobs__entries_max=0)
    since = d.mark()
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    r, e, _ = w.run(generated(60, name_template="f{index}" + "x" * 200), metadata={"x": "y" * 200}, api_keys="x" * 5000)
    t.is_((r["event_type"], len(e)), ("job.completed", 60), "after a reload with larger ones all of them are")
    t.is_(d.stop(), 0, "exit 0")


def queue(t, b):
    """jobs.queue_max: no more than so many are held; the rest waits in Kafka, and comes."""
    w = World(b)
    d = Daemon(w, {"jobs.queue_max": 16, "workers.count": 1})
    w.push(job("first", generated(0, delay="2s")), *[job("q-%d" % i, generated(0)) for i in range(300)])
    most = 0
    while len(d.logged("job_done")) < 301:
        most = max(most, d.metric("poller_active_jobs") or 0)
    t.ok(1 < most <= 16, "jobs.queue_max: never more than 16 jobs in hand", most)
    t.is_({r["event_type"] for r in w.results(301)}, {"job.completed"}, "jobs.queue_max: all 301 are served")
    t.is_(d.stop(), 0, "exit 0")


def workers(t, b):
    w = World(b)
    d = Daemon(w, {"workers.count": 1, "workers.open_files": 33, "workers.cpu_max": "1s", "kafka.client_id": "the-night-poller", "kafka.compression": "none", "kafka.max_poll_interval": "6s"})
    pid, = d.workers().values()
    got = limits_of(pid)
    t.is_(got["Max open files"], ("33", "33"), "workers.open_files is the kernel's own limit")
    t.ok(got["Max cpu time"][0] == "1", "workers.cpu_max too", got["Max cpu time"])
    r, _, dl = w.run(generated(1, crash="spin", retries=0), timeout=60)
    t.ok(r["error"]["class"] == "worker_crash" and dl[0]["failure_info"]["worker"]["signal"] in ("SIGXCPU", 24, "XCPU") and dl[0]["failure_info"]["worker"]["cpu_seconds"] > 0.5,
         "a worker that spins ends there, with the verdict", dl and dl[0]["failure_info"])
    # longer than kafka.max_poll_interval: the loop asks Kafka all the while, and keeps its partitions
    since = d.mark()
    r, e, _ = w.run(generated(3, delay="8s"), timeout=60)
    t.is_((r["event_type"], r["attempt"], len(e)), ("job.completed", 1, 3), "kafka.max_poll_interval 6s: a job of 8 s is done once")
    t.is_(d.logged("partitions_revoked", since), [], "and nothing was taken away meanwhile")
    t.ok(any(x["client"].startswith("the-night-poller#") for x in d.logged("kafka_library")) or "the-night-poller" in str(d.ctl("config")[1]), "kafka.client_id is in force")
    t.is_(d.stop(), 0, "exit 0")


def connections(t, b):
    """network.connections_max holds a job to it; http.max_connections the status page."""
    w = World(b)
    at_once, most, lock, two = [0], [0], threading.Lock(), threading.Event()

    def script(q):
        if q.command == "HEAD":
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
                if at_once[0] == 2:
                    two.set()
            two.wait(5)
            with lock:
                at_once[0] -= 1
            return {"headers": {"Content-Length": "5"}}
        body = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre>%s</pre></body></html>" % b"".join(b'<a href="f%02d.csv">f</a>\n' % i for i in range(20))
        return {"headers": {"Content-Type": "text/html"}, "body": body}
    web = Answers(script)
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8"], "network.connections_max": 2, "http.max_connections": 3})
    r, e, _ = w.run({"source_type": "http", "url": web.url + "/", "max_connections": 16})
    t.is_((r["event_type"], len(e), most[0]), ("job.completed", 20, 2), "network.connections_max 2 wins over max_connections 16 of a job")
    web.stop()
    t.is_(d.http("/livez")[0], 200, "the page answers")
    host, port = d.url[len("http://"):].split(":")
    held = [socket.create_connection((host, int(port)), 5) for _ in range(3)]
    fourth = socket.create_connection((host, int(port)), 5)
    fourth.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
    fourth.settimeout(1)
    try:
        early = fourth.recv(100)
    except OSError as e:
        early = type(e).__name__
    t.is_(early, "timeout" if sys.version_info < (3, 10) else "TimeoutError", "http.max_connections 3: a fourth is not answered")
    for s in held:
        s.close()
    fourth.settimeout(20 * SLOW)
    t.ok(fourth.recv(100).startswith(b"HTTP/1.1 200"), "until one of them has gone")
    fourth.close()
    t.is_(d.stop(), 0, "exit 0")


def status_program(t, b):
    """http.path: another file is the status child."""
    w = World(b)
    where = folder()
    path = os.path.join(where, "status-program")
    shutil.copy2(program("iis-poller-http"), path)
    d = Daemon(w, {"http.path": path})
    child = d.wait_log("http_child_ready")["pid"]
    t.is_(os.path.realpath("/proc/%d/exe" % child), os.path.realpath(path), "http.path is the program that serves the pages")
    t.is_(d.http("/livez")[0], 200, "and it serves them")
    t.is_(d.stop(), 0, "exit 0")
    e = Daemon(w, {"http.path": "/nonexistent/status"}, ready=False, start=True)
    code = e.process.wait(30 * SLOW)
    t.ok(code == 78 and "/nonexistent/status" in "".join(e.raw), "http.path that is not there: named, exit 78", code, e.raw[-3:])


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http")
    b = MockBroker(t)
    for part in (limits_of_jobs, queue, workers, connections, status_program):
        t.part(part, b)


with Tap() as tap:
    main(tap)
