#!/usr/bin/python3
"""What all network sources share, shown over HTTP against a server that counts: kept connections and whom they serve,
the cap of one endpoint, secrets by reference, the address policy, Retry-After."""
import base64
import collections
import json
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
from poller import Daemon, MockBroker, Tap, Timeout, World, folder, job, wait_for  # noqa: E402
from servers import Front  # noqa: E402

LOOPBACK = ["127.0.0.0/8", "::1/128"]
FILES = ["a.csv", "b.csv", "c.csv"]
SECRET = "canary-7f3a-hunter2"
INDEX = json.dumps([{"name": n, "type": "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in FILES]).encode()


class Server:
    """An HTTP/1.1 server with one index, connection by connection: what came on which, and how many at once."""

    def __init__(self, host="127.0.0.1"):
        self.lock = threading.Condition()
        self.requests = []              # (connection, path, headers)
        self.open, self.peak, self.accepted, self.busy, self.busy_peak = 0, 0, 0, 0, 0
        self.hold = threading.Event()   # unset: answers wait
        self.hold.set()
        self.script = collections.deque()  # (status, headers) before the index
        self.sockets = set()
        self.listener = socket.create_server((host, 0))
        self.host, self.port = self.listener.getsockname()[:2]
        self.url = "http://%s:%d/in/" % (host, self.port)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                self.open += 1
                self.peak = max(self.peak, self.open)
                self.sockets.add(s)
                n = self.accepted
            threading.Thread(target=self._serve, args=(s, n), daemon=True).start()

    def _serve(self, s, n):
        try:
            f = s.makefile("rb")
            while True:
                line = f.readline().decode("latin-1").split()
                if len(line) != 3:
                    return
                headers = {}
                while True:
                    h = f.readline().decode("latin-1").strip()
                    if not h:
                        break
                    k, _, v = h.partition(":")
                    headers[k.lower()] = v.strip()
                with self.lock:
                    self.requests.append((n, line[1], headers))
                    self.busy += 1
                    self.busy_peak = max(self.busy_peak, self.busy)
                    answer = self.script.popleft() if self.script else (200, {})
                    self.lock.notify_all()
                self.hold.wait(60)
                status, extra = answer
                body = INDEX if status == 200 else b""
                head = "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body))
                head += "".join("%s: %s\r\n" % x for x in extra.items()) + "\r\n"
                with self.lock:
                    self.busy -= 1
                s.sendall(head.encode() + (b"" if line[0] == "HEAD" else body))
        except OSError:
            pass
        finally:
            with self.lock:
                self.open -= 1
                self.sockets.discard(s)
                self.lock.notify_all()
            s.close()

    def close_idle(self):
        with self.lock:
            for s in self.sockets:
                s.shutdown(socket.SHUT_RDWR)
        wait_for("the server's connections to be closed", lambda: self.open == 0)

    def of(self, path="/in/"):
        with self.lock:
            return [r for r in self.requests if r[1] == path]


def source(server, **more):
    return dict({"source_type": "http", "url": server.url, "index_format": "json", "head_mode": "none"}, **more)


def conf(**more):
    c = {"egress.allow": LOOPBACK, "workers.count": 1, "network.keep_idle": "30s"}
    c.update({k.replace("__", "."): v for k, v in more.items()})
    return c


def good(t, w, name, src, **fields):
    r, e, _ = w.run(src, file_pattern="*.csv", **fields)
    t.ok((r["event_type"], len(e)) == ("job.completed", 3), name, r.raw)
    return r


def kept(t, b):
    w, s = World(b), Server()
    d = Daemon(w, conf())
    r = good(t, w, "a job over HTTP", source(s))
    t.is_(r["sources"][0]["peer"], "127.0.0.1:%d" % s.port, "the terminal record names the peer")
    t.is_(d.wait_metric("poller_pooled_connections", 1), 1, "poller_pooled_connections")
    good(t, w, "the same endpoint, tenant and secrets again", source(s))
    t.is_((s.accepted, len({x[0] for x in s.of()})), (1, 1), "it was served by the kept connection")
    good(t, w, "another path of the same server", source(s, url=s.url + "deeper/"))
    t.is_(s.accepted, 1, "by the same connection")
    t.is_(counts(d, "http", (2, 0)), (2, 0), "poller_connections_reused_total, poller_connections_reconnected_total")
    good(t, w, "another tenant", source(s), org_id="other")
    t.is_(s.accepted, 2, "another tenant gets a connection of its own")
    good(t, w, "a secret", source(s, auth={"type": "basic", "username": "u", "password": SECRET}), org_id="other")
    t.is_(s.accepted, 3, "another secret, another connection")
    good(t, w, "another secret", source(s, auth={"type": "basic", "username": "u", "password": SECRET + "2"}), org_id="other")
    t.is_(s.accepted, 4, "and another")
    good(t, w, "keepalive: false", source(s, keepalive=False), org_id="third")
    wait_for("no connection to be open", lambda: s.open == 0)
    t.is_(d.wait_metric("poller_pooled_connections", 0), 0, "keepalive: false: it is closed after the task")
    code, out, err = d.ctl("endpoints")
    row = out["endpoints"][0]
    t.is_((code, row["endpoint"], row["running"], row["waiting"], row["kept_connections"], row["tasks"], row["failed"]),
          (0, "http://127.0.0.1:%d" % s.port, 0, 0, 0, 7, 0), "iis-pollerctl endpoints")
    good(t, w, "once more", source(s))
    s.close_idle()
    before = s.accepted
    r = good(t, w, "after the server closed the idle connection", source(s))
    t.is_((s.accepted - before, r["attempt"]), (1, 1), "one silent reconnect, within the same attempt")
    t.is_(d.metric("poller_job_retries_total", reason="transient") or 0, 0, "no retry was counted")
    t.is_(counts(d, "http", (2, 1)), (2, 1), "the reconnect is")
    row = d.ctl("endpoints")[1]["endpoints"][0]
    t.is_((row["reused_connections"], row["reconnections"]), (2, 1), "iis-pollerctl endpoints tells both")
    t.is_(d.stop(), 0, "it stops")

    w, s = World(b), Server()
    d = Daemon(w, conf(network__keep_idle="300ms"))
    good(t, w, "network.keep_idle of 300 ms", source(s))
    wait_for("the idle connection to be closed", lambda: s.open == 0)
    t.is_(d.wait_metric("poller_pooled_connections", 0), 0, "an idle connection is closed when its time is over")
    t.is_(d.stop(), 0, "it stops")


def counts(d, kind, want):
    """Connections reused and connections found closed, of a source type; waits for the page that has as many as wanted."""
    def now():
        m = d.metrics()
        return tuple(int(d.metric("poller_connections_%s_total" % x, m, source_type=kind) or 0) for x in ("reused", "reconnected"))
    try:
        wait_for("the counts", lambda: now() == want)
    except Timeout:
        pass
    return now()


def fill(root):
    os.chmod(root, 0o755)
    for n in FILES:
        with open(os.path.join(root, n), "w"):
            pass
    return root


class FtpTree:
    """The server takes any password of the anonymous user."""
    kind = "ftp"

    def __init__(self):
        if not ftpservers.here():
            raise LookupError("no FTP server can be had here")
        self.server = ftpservers.Vsftpd(fill(folder()))

    def source(self, port, second=False):
        return dict(self.server.source("/", password=SECRET if second else "nobody@here"), port=port)


class SftpTree:
    kind = "sftp"

    def __init__(self):
        if not sshd.here():
            raise LookupError("OpenSSH's server is not installed")
        self.root = fill(folder())
        self.server = sshd.Sshd(sshd.Keys())

    def source(self, port, second=False):
        key = self.server.keys.private["ecdsa" if second else "ed25519"]
        return dict(self.server.source(self.root, known_hosts=self.server.known_hosts(port=port), private_key=key), port=port)


def sessions(t, b):
    """The same of types whose connections are logged in: whom a kept one serves, and when it ends."""
    for kind in (FtpTree, SftpTree):
        name = kind.kind
        try:
            x = kind()
        except LookupError as e:
            t.ok(True, "%s # SKIP %s" % (name, e))
            continue
        w, front = World(b), Front(x.server.port)
        d = Daemon(w, conf())
        good(t, w, "%s: a job" % name, x.source(front.port))
        good(t, w, "%s: the same again" % name, x.source(front.port))
        t.is_((front.accepted, counts(d, name, (1, 0))), (1, (1, 0)), "%s: over the kept connection, and counted" % name)
        good(t, w, "%s: another tenant" % name, x.source(front.port), org_id="other")
        t.is_((front.accepted, front.open()), (2, 1), "%s: another tenant gets a connection of its own; the kept one is closed" % name)
        good(t, w, "%s: another secret" % name, x.source(front.port, second=True), org_id="other")
        t.is_((front.accepted, front.open()), (3, 1), "%s: another secret, another connection; the kept one is closed" % name)
        good(t, w, "%s: it again" % name, x.source(front.port, second=True), org_id="other")
        t.is_((front.accepted, counts(d, name, (2, 0))), (3, (2, 0)), "%s: and that one is kept" % name)
        front.hang_up()
        r = good(t, w, "%s: after the server closed it" % name, x.source(front.port, second=True), org_id="other")
        t.is_((front.accepted, r["attempt"], counts(d, name, (2, 1))), (4, 1, (2, 1)), "%s: one silent reconnect, counted" % name)
        row = [y for y in d.ctl("endpoints")[1]["endpoints"] if y["endpoint"].endswith(":%d" % front.port)][0]
        t.is_((row["reused_connections"], row["reconnections"], row["kept_connections"]), (2, 1, 1), "%s: iis-pollerctl endpoints" % name)
        t.is_(d.stop(), 0, "%s: it stops" % name)
        d = Daemon(w, conf(network__keep_idle="300ms"))
        good(t, w, "%s: network.keep_idle of 300 ms" % name, x.source(front.port))
        wait_for("%s: the idle connection to be closed" % name, lambda: front.open() == 0)
        t.is_(d.wait_metric("poller_pooled_connections", 0), 0, "%s: an idle connection is closed when its time is over" % name)
        t.is_(d.stop(), 0, "%s: it stops" % name)
        front.stop()
        x.server.stop()


def affinity(t, b):
    """Of four idle workers the one that kept a connection is taken."""
    w, s = World(b), Server()
    d = Daemon(w, conf(workers__count=4))
    for i in range(6):
        good(t, w, "job %d of six" % i, source(s))
    t.is_(s.accepted, 1, "six jobs over one connection, although four workers are idle")
    t.is_(d.stop(), 0, "it stops")


def cap(t, b):
    w, slow, free = World(b), Server(), Server()
    d = Daemon(w, conf(workers__count=4, network__tasks_per_endpoint=2))
    slow.hold.clear()
    w.push(*[job("slow-%d" % i, source(slow), file_pattern="*.csv") for i in range(6)])
    wait_for("two requests at the slow server", lambda: slow.busy == 2)
    good(t, w, "a job of another endpoint passes six that wait for a slow one", source(free))
    code, out, err = d.ctl("endpoints")
    row = {x["endpoint"]: x for x in out["endpoints"]}["http://127.0.0.1:%d" % slow.port]
    t.is_((row["running"], row["waiting"]), (2, 4), "two run there, four wait: network.tasks_per_endpoint is 2")
    t.is_(d.wait_metric("poller_queue_depth", 4, priority="normal"), 4, "they count as waiting")
    slow.hold.set()
    w.results(7)
    t.is_(slow.busy_peak, 2, "never more than two at once")
    slow.hold.clear()
    w.push(*[job("again-%d" % i, source(slow), file_pattern="*.csv") for i in range(3)])
    wait_for("two requests at the slow server", lambda: slow.busy == 2)
    wait_for("the third to wait", lambda: d.metric("poller_queue_depth", priority="normal") == 1)
    waiting = {"again-%d" % i for i in range(3)} - {x["job_id"] for x in d.logged("job_started")}
    name = sorted(waiting)[0]
    code, out, err = d.ctl("job", "cancel", name)
    t.is_(w.result_of(name)["event_type"], "job.cancelled", "one that waits for its endpoint can be cancelled")
    slow.hold.set()
    t.is_(d.stop(), 0, "it stops")

    # The next in line never starts, since its secret is missing: those behind it are not forgotten.
    w, slow = World(b), Server()
    d = Daemon(w, conf(workers__count=2, network__tasks_per_endpoint=1))
    slow.hold.clear()
    w.push(job("first", source(slow), file_pattern="*.csv"))
    wait_for("its request at the slow server", lambda: slow.busy == 1)
    w.push(job("no-secret", source(slow, auth={"username": "u", "password_ref": "is-not-there"}), file_pattern="*.csv"),
           job("behind", source(slow), file_pattern="*.csv"))
    wait_for("both to wait", lambda: d.metric("poller_queue_depth", priority="normal") == 2)
    slow.hold.set()
    t.is_(w.result_of("no-secret")["error"]["class"], "auth", "a secret that is missing fails its own job")
    t.is_(w.result_of("behind")["event_type"], "job.completed", "and who waited behind it is served")
    t.is_(d.stop(), 0, "it stops")


def secrets(t, b):
    w, s, creds = World(b), Server(), folder("iis-creds.")

    def put(name, text, mode=0o400):
        path = os.path.join(creds, name)
        if os.path.exists(path):
            os.unlink(path)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def basic(user, password):
        return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()

    put("acme", json.dumps({"auth": {"username": "acme", "password": SECRET}}))
    put("pw", SECRET + "\n")
    put("open", SECRET, 0o444)
    put("broken", "{ \"auth\": { \"pasword\": \"%s\" } }" % SECRET)
    d = Daemon(w, dict(conf(), **{"credentials.dir": creds, "log.level": "debug"}))
    by_set = source(s, auth={"type": "basic"}, credentials_ref="acme")
    good(t, w, "credentials_ref: a set of logins", by_set)
    t.is_(s.of()[-1][2].get("authorization"), basic("acme", SECRET), "the server saw user and password of the set")
    good(t, w, "auth.password_ref: one secret", source(s, auth={"type": "basic", "username": "me", "password_ref": "pw"}))
    t.is_(s.of()[-1][2].get("authorization"), basic("me", SECRET), "the server saw them")
    put("acme", json.dumps({"auth": {"username": "acme", "password": SECRET + "-new"}}))
    good(t, w, "after the set was changed", by_set)
    t.is_(s.of()[-1][2].get("authorization"), basic("acme", SECRET + "-new"), "the new one counts at once")
    put("headers", json.dumps({"headers": {"X-Api-Key": SECRET}}))
    by_headers = source(s, credentials_ref="headers", headers={"x-api-key": "the job's", "X-Other": "mine"})
    good(t, w, "headers of a set, and the job's own", by_headers)
    t.is_((s.of()[-1][2].get("x-api-key"), s.of()[-1][2].get("x-other")), (SECRET, "mine"), "both were sent; of the same name the set's")
    asked = len(s.requests)
    for name, words in (("nothing", "cannot open"), ("open", "chmod 0400"), ("broken", "no field of this source type")):
        r, e, dl = w.run(source(s, auth={"type": "basic"}, credentials_ref=name))
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "auth" and words in r["error"]["message"] and len(dl) == 1,
             "credentials_ref %s: auth, %s" % (name, words), r.raw)
    r, e, dl = w.run(source(s, credentials_ref="../pw"), invalid=True)
    t.is_((r["event_type"], r["error"]["class"]), ("job.failed", "invalid_job"), "credentials_ref ../pw is no secret's name")
    t.is_(len(s.requests), asked, "the server was not asked for any of those")
    r, e, dl = w.run(source(s, tls={"ca_file": "/etc/ssl/certs/ca-certificates.crt"}))
    t.ok(r["error"]["class"] == "policy" and "/source_config/tls/ca_file: " in r["error"]["message"] and "credentials.file_roots" in r["error"]["message"], "a file outside credentials.file_roots: policy", r.raw)
    s.script.append((403, {}))
    r, e, dl = w.run(source(s, auth={"type": "basic", "username": "u", "password": SECRET}))
    t.ok(dl and dl[0]["original_job"]["source_config"]["auth"] == "***", "an inline secret is masked in the dead letter", dl and dl[0].raw)
    seen = b"".join(bytes(x.raw) for which in ("results", "dlq", "events") for x in w.reader(which, isolation="read_uncommitted").drain())
    pages = "".join(d.http(p)[1] for p in ("/metrics", "/status", "/status.json", "/health"))
    log = "\n".join(d.raw)
    answers = "".join(json.dumps(d.ctl(*v)[1]) for v in (("status",), ("workers",), ("endpoints",), ("jobs",), ("crashes",), ("config",)))
    for where, text in (("records", seen.decode("utf-8", "replace")), ("pages", pages), ("log", log), ("control answers", answers)):
        t.ok(len(text) > 100 and SECRET not in text, "no secret in %s (%d bytes)" % (where, len(text)))
    t.is_(d.stop(), 0, "it stops")

    d = Daemon(w, dict(conf(), **{"credentials.dir": creds, "credentials.allow_inline": False}))
    r, e, dl = w.run(source(s, auth={"type": "basic", "username": "u", "password": SECRET}))
    t.ok(r["error"]["class"] == "policy" and "credentials.allow_inline" in r["error"]["message"] and SECRET not in str(r.raw),
         "inline secrets can be forbidden", r.raw)
    good(t, w, "a reference still serves", source(s, auth={"type": "basic"}, credentials_ref="acme"))
    t.is_(d.stop(), 0, "it stops")


def addresses(t, b):
    w, s = World(b), Server()
    d = Daemon(w, {"workers.count": 1})
    for url in ("http://127.0.0.1:%d/" % s.port, "http://localhost:%d/" % s.port, "http://127.1:%d/" % s.port, "http://0x7f.0.0.1:%d/" % s.port,
                "http://2130706433:%d/" % s.port, "http://0177.0.0.1:%d/" % s.port, "http://[::ffff:127.0.0.1]:%d/" % s.port,
                "http://0.0.0.0:%d/" % s.port, "http://[::1]:%d/" % s.port):
        r, e, dl = w.run({"source_type": "http", "url": url})
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "policy", "%s is refused without egress.allow" % url.replace(str(s.port), "PORT"), r.raw)
    t.is_(s.accepted, 0, "nobody came to the server")
    t.is_(d.stop(), 0, "it stops")
    d = Daemon(w, conf(egress__deny=["127.0.0.1/32"]))
    r, e, dl = w.run(source(s))
    t.ok(r["error"]["class"] == "policy" and "egress.deny" in r["error"]["message"], "egress.deny wins over egress.allow", r.raw)
    r, e, dl = w.run({"source_type": "http", "url": "http://169.254.169.254/latest/meta-data/"})
    t.is_(r["error"]["class"], "policy", "the metadata address is refused")
    t.is_(d.stop(), 0, "it stops")


def retry_after(t, b):
    w, s = World(b), Server()
    d = Daemon(w, dict(conf(), **{"jobs.hold_max": "60s", "deferred.longest": "2h"}))
    s.script.append((503, {"Retry-After": "4"}))
    began = time.monotonic()
    r = good(t, w, "503 with Retry-After: 4", source(s, retry_delay="10ms"))
    t.ok(r["attempt"] == 2 and time.monotonic() - began >= 4, "tried again after the four seconds that were asked for", r.raw)
    s.script.append((429, {"Retry-After": "3600"}))
    w.push(job("asked", source(s, retry_delay="10ms")))
    waits = wait_for("the deferred job", lambda: d.ctl("jobs", "--deferred")[1]["jobs"])[0]
    t.ok((waits["job_id"], waits["reason"], waits["error"]) == ("asked", "retry", "transient") and 3590 < waits["seconds"] <= 3600,
         "429 with Retry-After: 3600: deferred for as long", waits)
    d.ctl("job", "cancel", "asked")
    r = w.result_of("asked")
    t.is_((r["event_type"], r["attempt"]), ("job.cancelled", 1), "cancelled, it tells of its attempt")
    s.script.append((429, {"Retry-After": "7300"}))
    r, e, dl = w.run(source(s, retry_delay="10ms"))
    t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "transient" and "deferred.longest" in r["error"]["message"] and len(dl) == 1 and
         dl[0]["failure_info"]["retry_count"] == 0, "429 with Retry-After: 7300, beyond deferred.longest: dead-lettered, with the reason", r.raw)
    t.is_(d.stop(), 0, "it stops")


def main(t):
    b = MockBroker(t)
    for part in (kept, sessions, affinity, cap, secrets, addresses, retry_after):
        t.part(part, b)


with Tap() as tap:
    main(tap)
