#!/usr/bin/python3
"""Workers of several roles in one pool: a task only meets a worker of its role, and no role starves another."""
import http.server
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, generated, job, wait_for  # noqa: E402

INDEX = json.dumps([{"name": n, "type": "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in ("a.csv", "b.csv")]).encode()


class Server:
    """An HTTP index that answers as often as it is allowed to."""

    def __init__(self):
        self.lock = threading.Condition()
        self.waiting, self.served, self.allowed = 0, 0, 1 << 30
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with outer.lock:
                    outer.waiting += 1
                    outer.lock.notify_all()
                    outer.lock.wait_for(lambda: outer.served < outer.allowed, timeout=60)
                    outer.served += 1
                    outer.waiting -= 1
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(INDEX)))
                self.end_headers()
                self.wfile.write(INDEX)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None     # connections that a worker's death resets
        self.source = {"source_type": "http", "url": "http://127.0.0.1:%d/in/" % self.http.server_address[1], "index_format": "json",
                       "head_mode": "none"}
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def hold(self):
        with self.lock:
            self.allowed = self.served

    def allow(self, n):
        with self.lock:
            self.allowed += n
            self.lock.notify_all()


def conf(workers):
    return {"egress.allow": ["127.0.0.0/8"], "workers.count": workers, "log.level": "debug"}


def roles(d):
    return sorted(x["role"] for x in d.ctl("workers")[1]["workers"])


def mixed(t, b):
    w, s = World(b), Server()
    d = Daemon(w, conf(2))
    t.is_(roles(d), ["local", "local"], "workers begin as local ones")
    w.push(*[job("%s-%d" % (kind, i), s.source if kind == "net" else generated(3)) for i in range(60) for kind in ("net", "own")])
    done = w.results(120, timeout=90)
    t.is_({x["event_type"] for x in done}, {"job.completed"}, "60 jobs over HTTP and 60 generated ones all complete under two workers")
    t.is_({x["attempt"] for x in done}, {1}, "each in its first attempt")
    t.same_set({x["job_id"] for x in done},
               {"%s-%d" % (k, i) for i in range(60) for k in ("net", "own")}, "each once")
    t.is_(*conservation(d), "every job is accounted for")
    t.is_(d.metric("poller_worker_frames_refused_total"), 0, "no worker met a task of another role")
    t.ok(set(roles(d)) <= {"local", "network"}, "iis-pollerctl workers tells the roles", roles(d))
    up = json.loads(d.http("/status.json")[1])["workers"]
    t.is_(sorted(x["role"] for x in up), roles(d), "so does the status page")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def network_fills_the_pool(t, b):
    w, s = World(b), Server()
    d = Daemon(w, conf(2))
    s.hold()
    w.push(*[job("net-%d" % i, s.source) for i in range(10)])
    wait_for("both workers to wait for the server", lambda: s.waiting == 2)
    t.is_(roles(d), ["network", "network"], "ten network jobs and nothing else: both workers become network ones")
    w.push(*[job("own-%d" % i, generated(1)) for i in range(20)])
    d.wait_log("job_accepted", job_id="own-19")
    s.allow(1)
    for i in range(20):
        w.result_of("own-%d" % i)
    t.is_(s.served, 1, "20 local jobs are done after one network job has ended, although eight more waited before them")
    t.is_(roles(d), ["local", "network"], "one worker each")
    s.allow(100)
    w.results(30)
    t.is_(s.served, 10, "and the network jobs go on")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def local_fills_the_pool(t, b):
    w, s = World(b), Server()
    d = Daemon(w, conf(2))
    w.push(*[job("own-%d" % i, generated(1, delay="600s")) for i in range(10)])
    d.wait_log("job_started", job_id="own-1")
    w.push(*[job("net-%d" % i, s.source) for i in range(20)])
    d.wait_log("job_accepted", job_id="net-19")
    d.ctl("job", "cancel", "own-0")
    for i in range(20):
        t_result = w.result_of("net-%d" % i)
        if t_result["event_type"] != "job.completed":
            t.ok(False, "net-%d" % i, t_result.raw)
    t.is_(len(d.logged("job_done")), 21, "20 network jobs are done after one local job has ended, although eight more waited before them")
    t.is_(roles(d), ["local", "network"], "one worker each")
    for i in range(1, 10):
        d.ctl("job", "cancel", "own-%d" % i)
    w.results(30)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def one_worker(t, b):
    w, s = World(b), Server()
    d = Daemon(w, conf(1))
    w.push(*[job("own-%d" % i, generated(1, delay="100ms")) for i in range(40)], *[job("net-%d" % i, s.source) for i in range(5)])
    done = [x["job_id"] for x in w.results(45, timeout=60)]
    last_own = max(i for i, x in enumerate(done) if x.startswith("own"))
    last_net = max(i for i, x in enumerate(done) if x.startswith("net"))
    t.ok(last_net < last_own, "one worker: the network jobs get their turn before the local ones are through", done)
    turns = len(d.logged("worker_role"))
    t.ok(2 <= turns <= 12, "in turns, not with an exec for every job", turns)
    t.is_(d.logged("worker_died", cause="config"), [], "no worker refused to run")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def a_crash_keeps_the_role(t, b):
    w, s = World(b), Server()
    d = Daemon(w, dict(conf(2), **{"dummy.allow_faults": True}))
    r, e, dl = w.run(s.source)
    t.is_((r["event_type"], roles(d)), ("job.completed", ["local", "network"]), "one worker of each role")
    r, e, dl = w.run(generated(1, crash="segv", fault_attempts=1))
    t.is_((r["event_type"], r["attempt"]), ("job.completed", 2), "a local job that crashed is done again by a fresh local worker")
    s.hold()
    w.push(job("held", s.source))
    wait_for("the request", lambda: s.waiting == 1)
    pid = [x["pid"] for x in d.ctl("workers")[1]["workers"] if x["state"] == "busy"][0]
    os.kill(pid, 11)
    s.allow(100)
    r = w.result_of("held")
    t.is_((r["event_type"], r["attempt"]), ("job.completed", 2), "a network job whose worker crashed is done again by a fresh network worker")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def main(t):
    b = MockBroker(t)
    for part in (mixed, network_fills_the_pool, local_fills_the_pool, one_worker, a_crash_keeps_the_role):
        t.part(part, b)


with Tap() as tap:
    main(tap)
