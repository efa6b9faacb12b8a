#!/usr/bin/python3
"""egress.mode: broker: each network source lists a real server through the connector; a worker that was taken over gets no
socket and no connection but its task's; the connector dies, hangs and comes back, and no job is lost."""
import json
import os
import re
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402
from poller import SANITIZED, Daemon, MockBroker, Tap, World, alive, conservation, folder, job, need, program, wait_for  # noqa: E402
from servers import SERVED, Absent  # noqa: E402
from webservers import Answers, certificate  # noqa: E402

FILES = {"a.csv": 5, "b c.csv": 6, "deep/d.csv": 7, "deep/er/e.csv": 8}
CONF = {"egress.mode": "broker", "egress.allow": ["127.0.0.0/8", "::1/128"], "workers.count": 2, "retry.max_attempts": 0}


def children(d):
    """{pid: name} of the daemon's children"""
    got = {}
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % pid) as f:
                text = f.read()
            if text.rpartition(")")[2].split()[1] == str(d.pid):
                got[int(pid)] = text[text.index("(") + 1:text.rindex(")")]
        except (OSError, ValueError, IndexError):
            pass
    return got


def network_workers(d):
    return {x["pid"] for x in d.logged("worker_ready", role="network")} & {p for p in children(d)}


def sources(t, w, d):
    top = folder()
    os.chmod(top, 0o755)
    trees.write(top, {k: (v, trees.EPOCH) for k, v in FILES.items()})
    for p, _, _ in os.walk(top):
        os.chmod(p, 0o755)
    served = set()
    for cls in SERVED:
        if cls.type == "local":
            continue
        try:
            s = cls(top)
        except Absent as e:
            t.ok(os.environ.get("CI") != "true", "%s: left out: %s" % (cls.type, e))
            continue
        served.add(s.type)
        for keep in (False, True, True):
            r, e, _ = w.run(dict(s.source("", recursive=True, retries=0), keepalive=keep), timeout=60)
            got = sorted((x["relative_path"], x["file_size"]) for x in e)
            t.ok(r["event_type"] == "job.completed" and got == sorted(FILES.items()) and r["sources"][0]["peer"], "%s: every file (keepalive %s)" % (s.name, keep), r.raw, got)
        r, e, _ = w.run(dict(s.source("", recursive=True, retries=0), max_connections=4), timeout=60)
        t.ok(r["event_type"] == "job.completed" and len(e) == len(FILES), "%s: over several connections" % s.name, r.raw)
    t.ok({"s3", "http", "ftp", "sftp"} <= served, "every type was served: %s" % ", ".join(sorted(served)))
    died = [x for x in d.logged("worker_died") if x["cause"] not in ("exchanged", "clean", "recycled")]
    t.is_(died, [], "no worker died of it")


# ---- a worker that was taken over ----------------------------------------------------------------------------------------------

class Listener:
    """.came: connections so far"""

    def __init__(self, address="127.0.0.1"):
        self.s = socket.create_server((address, 0))
        self.port = self.s.getsockname()[1]
        self.came = 0
        self.held = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            self.held.append(self.s.accept()[0])
            self.came += 1


ERRNO = "Address family not supported by protocol"
NOT_OURS = "is no part of this task"
NOWHERE = "are not what a name of this task leads to"
TRIES = {
    "tcp": ERRNO, "udp": ERRNO, "tcp6": ERRNO, "udp6": ERRNO, "unix": ERRNO, "unix-dgram": ERRNO, "netlink": ERRNO, "raw": ERRNO, "packet": ERRNO, "mptcp": ERRNO, "vsock": ERRNO,
    "before-resolving": NOWHERE, "other-name": NOT_OURS, "other-port": NOT_OURS, "other-address": NOT_OURS, "metadata-name": NOT_OURS, "the-job's": "RESOLVED",
    "an-address-of-no-name": NOWHERE, "another-port": NOWHERE, "another-port-as-data": NOWHERE, "mapped": NOWHERE, "metadata": NOWHERE, "second-of-two": NOWHERE,
    "own": "connected", "again": "Permission denied", "dissolve": "Permission denied", "after-the-task": "no task of this worker may connect now",
}


# Only the filter refuses these; builds with sanitizers run without it.
SANDBOX = {k for k, v in TRIES.items() if v in (ERRNO, "Permission denied")}


def sandboxed(t, text, name):
    """One test for what the sandbox of a process says of itself."""
    if SANITIZED:
        t.ok(text.startswith("off "), "%s: it is off with sanitizers" % name, text)
    else:
        t.ok("seccomp" in text, name, text)


def tried(d, since):
    got = {}
    for x in d.logged("worker_stderr", since=since):
        m = re.match(r"try (\S+): (.*)", x["text"])
        if m:
            got[m.group(1)] = m.group(2)
    return got


def taken_over(t, w):
    d = Daemon(w, dict(CONF), start=False, name="evil")
    wrapper = os.path.join(d.dir, "worker")
    with open(wrapper, "w") as f:
        f.write("#!/bin/sh\ncase $1 in --connector) exec '%s' \"$@\";; esac\nexec '%s' \"$@\"\n" % (program("iis-poller-worker"), program("t/lib/evil_broker")))
    os.chmod(wrapper, 0o755)
    d.write_conf(workers__path=wrapper)
    d.start()
    own, other = Listener(), Listener()
    source = {"source_type": "http", "url": "http://127.0.0.1:%d/" % own.port, "retries": 0}
    since = d.mark()
    w.run(dict(source, user_agent="%d asks" % other.port))
    got = wait_for("the last try", lambda: (lambda x: x if "after-the-task" in x else None)(tried(d, since)))
    for name, want in TRIES.items():
        if SANITIZED and name in SANDBOX:
            t.ok(name in got, "a taken-over worker: %s: tried; no filter refuses it with sanitizers" % name)
            continue
        t.ok(want in got.get(name, "not tried"), "a taken-over worker: %s: %s" % (name, want), got.get(name))
    t.is_(set(got) - set(TRIES), set(), "nothing else was tried")
    t.is_(other.came, 0, "the other server was not connected to")
    wait_for("its own", lambda: own.came)
    t.ok(d.wait_metric("poller_connector_asks_total", 1, outcome="refused_no_task") == 1 and d.metric("poller_connector_asks_total", outcome="refused_place") >= 10,
         "its asks are counted, by the rule that refused them", asks(d, "resolve"), asks(d, "connect"))
    for what in ("descriptor", "garbage", "oversize"):
        since = d.mark()
        w.run(dict(source, user_agent="%d %s" % (other.port, what)))
        got = wait_for("the try", lambda: tried(d, since))
        t.is_(got, {what: "the channel is gone"}, "a taken-over worker: %s costs it its channel" % what)
        d.wait_log("connector_stderr", since=since)
        # its slot's next worker has a channel of its own
        for pid in network_workers(d):
            os.kill(pid, signal.SIGKILL)
    t.is_((other.came, len(d.logged("connector_died"))), (0, 0), "the connector lives, and nobody was connected elsewhere")
    t.is_(d.stop(), 0, "exit 0")


# ---- the connector's deaths ----------------------------------------------------------------------------------------------------------

PAGE = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n<a href=\"a.csv\">a.csv</a>  01-Jan-2024 00:00  5\n</pre></body></html>"


class Pages:
    def __init__(self):
        self.s = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            threading.Thread(target=self._one, args=(self.s.accept()[0],), daemon=True).start()

    @staticmethod
    def _one(c):
        with c:
            f = c.makefile("rb")
            while True:
                line = f.readline()
                if not line:
                    return
                if line == b"\r\n":
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)


def status(d):
    return json.loads(d.http("/status.json")[1])


def asks(d, op):
    """{outcome: number} of those that are not 0"""
    return {dict(ls)["outcome"]: v for (n, ls), v in d.metrics().items() if n == "poller_connector_asks_total" and v and dict(ls)["op"] == op}


def shown(t, b):
    """What the connector does is counted, and seen where an operator looks."""
    w = World(b)
    d = Daemon(w, dict(CONF, **{"workers.count": 1}))
    pages = Pages()
    source = {"source_type": "http", "url": "http://localhost:%d/" % pages.port, "retries": 0, "keepalive": False}
    for _ in range(5):
        w.run(source)
    w.run(dict(source, url="http://no-such-name.invalid:8080/"))
    gone = socket.create_server(("127.0.0.1", 0))
    port = gone.getsockname()[1]
    gone.close()
    w.run(dict(source, url="http://127.0.0.1:%d/" % port))
    w.run(dict(source, url="http://169.254.169.254:8080/"))
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    full = [socket.socket() for _ in range(4)]
    for s in full:
        s.setblocking(False)
        s.connect_ex(hole.getsockname())
    slow = dict(source, url="http://127.0.0.1:%d/" % hole.getsockname()[1], connect_timeout="60s")
    w.push(job("slow", slow))
    t.is_(d.wait_metric("poller_connector_in_flight", 1, op="connect"), 1, "a connection that is being made is in flight")
    t.is_(asks(d, "connect"), {"ok": 5, "failed": 1}, "connections made and failed")
    got = asks(d, "resolve")
    t.ok(got.pop("not_found", 0) + got.pop("failed", 0) == 1, "a name that is none", got)
    t.is_(got, {"ok": 7, "refused_address": 1}, "names: given, and refused by rule")
    m = d.metrics()
    t.is_([d.metric("poller_connector_seconds_count", m, op=x) for x in ("resolve", "connect")], [8, 6], "what did work is timed")
    t.is_({dict(ls)["state"]: v for (n, ls), v in m.items() if n == "poller_connector"}, {"starting": 0, "ready": 1, "dying": 0, "backoff": 0}, "it is ready")
    s = status(d)["connector"]
    t.is_((s["state"], s["pid"], s["restarts"], s["last_death"], s["connect"]["in_flight"], s["connect"]["ok"], s["resolve"]["refused_address"]),
          ("ready", d.logged("connector_ready")[-1]["pid"], 0, None, 1, 5, 1), "/status.json has it")
    sandboxed(t, s["sandbox"], "and its sandbox")
    t.ok(re.search(r"<p>Connector: <span class=\"good\">ready</span> for .*: 7 names, 5 connections, 1 in flight, 1 refused, 2 failed, 0 restarts</p>", d.http("/status")[1]), "so has /status", d.http("/status")[1])
    code, out, err = d.ctl("workers", json_out=False)
    t.ok(code == 0 and re.search(r"^connector: ready for \d+ s, pid %d, 0 restarts; names: 7, 0 in flight, 1 refused, 1 failed; connections: 5, 1 in flight, 0 refused, 1 failed$" % s["pid"], out, re.M), "iis-pollerctl workers", out, err)
    d.ctl("job", "cancel", "slow")
    t.is_(d.wait_metric("poller_connector_asks_total", 1, op="connect", outcome="given_up"), 1, "a cancelled job's connection is given up")
    w.push(job("slow-2", slow))
    d.wait_metric("poller_connector_in_flight", 1, op="connect")
    os.kill(s["pid"], signal.SIGKILL)
    t.is_(d.wait_metric("poller_connector_restarts_total", 1, cause="killed"), 1, "its death is counted")
    d.ctl("job", "cancel", "slow-2")
    t.is_(d.wait_metric("poller_connector_in_flight", 0, op="connect"), 0, "what was in flight is no more")
    w.run(source)
    t.is_(d.wait_metric("poller_connector_asks_total", 6, op="connect", outcome="ok"), 6, "the counts go on with the next one")
    s = status(d)["connector"]
    t.ok(s["restarts"] == 1 and s["last_death"].startswith("killed: process ") and "signal 9" in s["last_death"], "its last death is told", s)
    t.is_(d.stop(), 0, "exit 0")
    d = Daemon(World(b), {"egress.mode": "direct"})
    t.is_((status(d)["connector"], d.metric("poller_connector")), (None, 0), "where workers connect themselves there is none")
    t.is_(d.stop(), 0, "exit 0")


def deaths(t, w, d):
    pages = Pages()
    source = {"source_type": "http", "url": "http://localhost:%d/" % pages.port, "retries": 5, "keepalive": False}
    pid = d.logged("connector_ready")[-1]["pid"]
    t.ok(pid in children(d), "the connector is a child of the daemon")
    t.is_(w.run(source)[0]["event_type"], "job.completed", "a job through it")
    for what, sig, n in (("killed", signal.SIGKILL, 40), ("ended", signal.SIGTERM, 20)):
        since = d.mark()
        jobs = [job("%s-%d" % (what, i), source) for i in range(n)]
        w.push(*jobs[:n // 2])
        os.kill(d.logged("connector_ready")[-1]["pid"], sig)
        w.push(*jobs[n // 2:])
        d.wait_log("connector_died", since=since)
        got = [w.result_of(j["job_id"], 60)["event_type"] for j in jobs]
        t.is_(set(got), {"job.completed"}, "the connector is %s: each of %d jobs is served" % (what, n))
        d.wait_log("connector_ready", since=since)
    for pid in network_workers(d):
        t.ok(alive(pid), "workers of the network: %d" % pid)
    # a server that does not answer holds up its own task alone
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)
    full = [socket.socket() for _ in range(4)]
    for s in full:
        s.setblocking(False)
        s.connect_ex(hole.getsockname())
    slow = job("slow", dict(source, url="http://127.0.0.1:%d/" % hole.getsockname()[1], connect_timeout="2s", retries=0))
    w.push(slow)
    d.wait_log("job_started", job_id="slow")
    got = [w.run(source)[0] for _ in range(5)]
    t.is_({r["event_type"] for r in got}, {"job.completed"}, "beside one that waits for its server, five jobs are served")
    r = w.result_of("slow")
    t.ok(r["error"]["class"] in ("timeout", "transient") and r["finished_at"] > got[0]["finished_at"], "which fails by its connect_timeout, later", r.raw)
    w.push(job("cancelled", dict(slow["source_config"], connect_timeout="60s")))
    d.wait_log("job_started", job_id="cancelled")
    code, out, err = d.ctl("job", "cancel", "cancelled")
    t.ok(code == 0 and w.result_of("cancelled", 10)["event_type"] == "job.cancelled", "a task that waits for the connector can be cancelled", out, err)
    t.is_(w.run(source)[0]["event_type"], "job.completed", "and its worker serves the next")
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)


# ---- tokens of OAuth 2: another server than the source -----------------------------------------------------------------------

def tokens(t, b):
    """The connector lets a worker have them where the job or its secret set says, and the tenant's hosts allow."""
    tls, creds = certificate(folder()), folder()
    os.chmod(creds, 0o755)
    with open(tls[0]) as f:
        ca = f.read()
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"a.csv\">a.csv</a>\n</pre></body></html>"
    idp = Answers(lambda q: {"headers": {"Content-Type": "application/json"}, "body": b'{"access_token":"given","token_type":"Bearer"}'}, tls=tls)
    web = Answers(lambda q: {"headers": {"Content-Type": "text/html"}, "body": page} if q.headers.get("Authorization") == "Bearer given" else {"status": 401})
    auth = {"type": "oauth2", "token_url": "https://localhost:%d/token" % idp.port, "client_id": "c", "client_secret": "s"}
    source = {"source_type": "http", "url": web.url + "/", "tls": {"ca_pem": ca}, "head_mode": "none", "keepalive": False}
    with open(os.path.join(creds, "tokens"), "w") as f:
        json.dump({"auth": auth}, f)
    os.chmod(os.path.join(creds, "tokens"), 0o600)
    w = World(b)
    d = Daemon(w, dict(CONF, **{"credentials.dir": creds, "tenants.bound": {"hosts": ["127.0.0.1"]}}))
    kinds = (("the job's", dict(source, auth=auth)), ("the secret set's", dict(source, credentials_ref="tokens")))
    for name, s in kinds:
        r, e, _ = w.run(s)
        t.ok(r["event_type"] == "job.completed" and len(e) == 1, "a token of %s endpoint" % name, r.raw)
    n = len(idp.seen)
    t.is_(n, 2, "each asked there once")
    for name, s in kinds:
        r, e, _ = w.run(s, org_id="bound")
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "policy" and "hosts" in r["error"]["message"] and not e, "%s is on a host that is not the tenant's: policy" % name, r.raw)
    t.is_(len(idp.seen), n, "and nothing went there")
    t.is_(d.stop(), 0, "exit 0")
    for s in (idp, web):
        s.stop()


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker", "t/lib/evil_broker")
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w, dict(CONF))
    sandboxed(t, d.wait_log("connector_ready")["sandbox"], "the connector closed its sandbox")
    t.part(sources, w, d)
    t.part(deaths, w, d)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.part(shown, b)
    t.part(tokens, b)
    t.part(taken_over, World(b))


with Tap() as tap:
    main(tap)
