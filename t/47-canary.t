#!/usr/bin/python3
"""Secrets are planted in jobs of every network type, inline, by reference and fetched (the machine's role, STS), with logins that
succeed, fail and hang, in jobs that are deferred, and workers and the master are killed; then every log, record, page, control
answer, argv, environment, file, core and the memory of the processes that had no business with them, or have none any more, is
searched. Runs in a network of its own, where the metadata address is ours."""
import base64
import glob
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

if os.environ.get("IN_OWN_NETWORK") != "1" and os.geteuid() == 0 and shutil.which("unshare"):
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        import ftpservers
        ftpservers.here()       # fetches them, which the other network could not
        os.environ["IN_OWN_NETWORK"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable] + sys.argv)

import ftpservers  # noqa: E402
import s3servers  # noqa: E402
import sshd  # noqa: E402
from kills import WholeLog  # noqa: E402
from poller import SLOW, MockBroker, Tap, World, folder, job, need, rfc3339, wait_for  # noqa: E402
from stsservers import Issuer, Metadata, SessionPages, Sts  # noqa: E402
from webservers import Answers, certificate  # noqa: E402

ROLE, WEB_ROLE = ("arn:aws:iam::123456789012:role/" + r for r in ("lists", "web"))
USER = "AKIACANARYUSER01"

FILES = ["a.csv", "b.csv"]
INDEX = json.dumps([{"name": n, "type": "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in FILES]).encode()


class Secrets:
    """The secrets planted so far: a name for people and the forms in which each could be written."""

    def __init__(self):
        self.n = 0
        self.forms = {}         # bytes: name

    def new(self, name):
        """A fresh one, that no other contains."""
        self.n += 1
        return self.know(name, "canary-%02d-%s" % (self.n, os.urandom(6).hex()))

    def know(self, name, text, user=None):
        forms = {text, json.dumps(text)[1:-1], urllib.parse.quote(text, safe=""), text.upper()}
        forms |= {base64.b64encode(x.encode()).decode().rstrip("=") for x in ([text] + (["%s:%s" % (user, text)] if user else []))}
        for f in forms:
            if len(f) < 8:
                raise ValueError("%s is too short to be searched for" % name)
            self.forms[f.encode()] = name
        return text

    def key(self, name, pem):
        """A private key: each line of it that says something."""
        for line in pem.splitlines()[1:-1]:
            if len(line) > 60 and not line.startswith("b3BlbnNzaC1rZXktdjE"):
                self.forms[line.encode()] = name
        return pem

    def found(self, data):
        return sorted({name for form, name in self.forms.items() if form in data})


def search(t, secrets, what, texts):
    """One test: none of these (name, bytes) holds one."""
    hits = ["%s: %s" % (name, x) for name, data in texts for x in secrets.found(data)]
    t.ok(texts and not hits, "no secret in %d %s (%d bytes)" % (len(texts), what, sum(len(x) for _, x in texts)), "\n".join(hits[:20]))


def memory(pid):
    """The private writable memory of a process."""
    got = []
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.p .*", line)
            if not m or "[v" in line:
                continue
            at, end = int(m.group(1), 16), int(m.group(2), 16)
            try:
                mem.seek(at)
                got.append(mem.read(end - at))
            except OSError:
                pass        # a guard page
    return b"".join(got)


def proc(pid, name):
    with open("/proc/%d/%s" % (pid, name), "rb") as f:
        return f.read()


class Place:
    """The servers, their sources with secrets, and what a job says of them inline and by reference."""

    def __init__(self, t, secrets):
        self.secrets, self.creds, self.root = secrets, folder("iis-creds."), folder()
        os.chmod(self.root, 0o755)
        for n in FILES:
            with open(os.path.join(self.root, n), "w") as f:
                f.write("x" * 5)
        self.go = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.web = Answers(self._web)
        tls = certificate(folder())
        with open(tls[0]) as f:
            self.ca = {"ca_pem": f.read()}
        self.token, self.signature = secrets.new("oauth2 token"), secrets.new("signature of a link")
        self.idp = Answers(self._idp, tls=tls)
        self.s3 = s3servers.Pages([x.encode() for x in FILES], secret=secrets.know("s3 secret key", s3servers.SECRET))
        self.ssh = sshd.Sshd(sshd.Keys())
        for k in ("ed25519", "ecdsa", "stranger"):
            secrets.key("ssh key " + k, self.ssh.keys.private[k])
        if not ftpservers.here():
            t.skip_all("no FTP server can be had here")
        self.ftp = ftpservers.PureFtpd(self.root)
        secrets.know("ftp password", self.ftp.password, self.ftp.user)
        self.issuer, self.user_key, self.token = Issuer(), secrets.new("key of the role's user"), secrets.new("web identity token")
        self.metadata = Metadata(self.issuer)
        self.sts = Sts(self.issuer, {USER: self.user_key}, {ROLE: {"external_id": None}, WEB_ROLE: {"token": self.token}})
        self.pages = SessionPages(self.issuer, [x.encode() for x in FILES])

    def _idp(self, request):
        if "/refused" in request.path:
            return {"status": 401, "body": b'{"error":"invalid_client","error_description":"' + request.headers.get("Authorization", "").encode() + b'"}'}
        return {"body": b'{"access_token":"' + self.token.encode() + b'","token_type":"Bearer","expires_in":60}'}

    def _web(self, request):
        if "/links/" in request.path:
            return {"headers": {"Content-Type": "text/html"}, "body": b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><a href='get?X-Amz-Signature=" +
                    self.signature.encode() + b"&amp;f=a.csv'>a</a></body></html>"}
        if "/held/" in request.path:
            self.arrived.release()
            self.go.wait(60)
        if "/no/" in request.path:
            return {"status": 403, "body": b"no: " + request.headers.get("Authorization", "").encode()}
        return {"body": INDEX, "headers": {"Content-Type": "application/json"}}

    def put(self, name, text):
        path = os.path.join(self.creds, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o400)
        return name

    def http(self, path="/", **fields):
        return dict({"source_type": "http", "url": self.web.url + path, "index_format": "json", "head_mode": "none"}, **fields)

    def sources(self):
        """(name, source, whether it is served)"""
        new, put = self.secrets.new, self.put

        def basic(what):
            return {"type": "basic", "username": "me", "password": self.secrets.know(what, new(what), "me")}
        key = self.ssh.keys.private
        yield "http basic", self.http(auth=basic("http password")), True
        yield "http basic refused", self.http("/no/", auth=basic("refused http password")), False
        yield "http bearer", self.http(auth={"type": "bearer", "token": new("http token")}), True
        yield "http password_ref", self.http(auth={"type": "basic", "username": "me", "password_ref": put("web", new("http password by ref") + "\n")}), True
        yield "http set", self.http("/no/", auth={"type": "basic"}, credentials_ref=put("set", json.dumps({"auth": {"username": "me", "password": new("http password of a set")}}))), False
        yield "http aws_sigv4", self.http(auth={"type": "aws_sigv4", "region": "r", "access_key_id": "AK", "secret_access_key": new("http aws key"), "session_token": new("http aws token")}), True
        yield "http aws_sigv4 by ref", self.http("/no/", auth={"type": "aws_sigv4", "region": "r", "access_key_id": "AK", "secret_access_key_ref": put("aws", new("http aws key by ref") + "\n")}), False
        oauth = {"type": "oauth2", "token_url": self.idp.url + "/token", "client_id": "me"}
        yield "http oauth2", self.http(tls=self.ca, auth=dict(oauth, client_secret=new("oauth2 secret"))), True
        yield "http oauth2 by ref", self.http("/no/", tls=self.ca, auth=dict(oauth, client_auth="body", client_secret_ref=put("oauth", new("oauth2 secret by ref") + "\n"))), False
        yield "http oauth2 refused", self.http(tls=self.ca, auth=dict(oauth, token_url=self.idp.url + "/refused", client_secret=new("refused oauth2 secret"))), False
        yield "http cookies", self.http(cookies="a=b; sid=" + new("http cookie")), True
        yield "http cookies by ref", self.http("/no/", keep_cookies=True, cookies_ref=put("cookies", "sid=%s\n" % new("http cookie by ref"))), False
        yield "http POST", self.http(method="POST", body=new("http body")), True
        yield "http signed links", self.http("/links/", index_format="html", query_links="keep"), True
        yield "http headers", self.http(headers={"X-Key": new("http header")}), True
        yield "http proxy", self.http(proxy={"url": "http://127.0.0.1:1", "username": "me", "password": new("proxy password")}), False
        yield "http in the address", self.http()["url"] and dict(self.http(), url="http://me:%s@127.0.0.1/" % new("password in an address")), False
        yield "s3", self.s3.source(), True
        yield "s3 wrong", self.s3.source(secret_access_key=new("wrong s3 key"), session_token=new("s3 token")), False
        yield "s3 set", dict({k: v for k, v in self.s3.source().items() if not k.endswith("key") and k != "access_key_id"}, credentials_ref=put(
            "bucket", json.dumps({"access_key_id": s3servers.ID, "secret_access_key": s3servers.SECRET}))), True
        yield "sftp key", self.ssh.source(self.root), True
        yield "sftp stranger", self.ssh.source(self.root, private_key=key["stranger"]), False
        yield "sftp key by ref", self.ssh.source(self.root, private_key=None, private_key_ref=put("key", key["ecdsa"])), True
        yield "sftp broken key", self.ssh.source(self.root, private_key=key["ed25519_enc"], private_key_passphrase=new("passphrase")), False
        yield "ftp", self.ftp.source(), True
        yield "ftp wrong", self.ftp.source(password=new("wrong ftp password")), False
        yield "s3 instance role", self.pages.source(use_instance_role=True), True
        yield "s3 role", self.pages.source(role_arn=ROLE, sts_endpoint=self.sts.url, access_key_id=USER, secret_access_key=self.user_key), True
        yield "s3 role refused", self.pages.source(role_arn=ROLE, sts_endpoint=self.sts.url, access_key_id=USER, secret_access_key=new("wrong key of the role's user")), False
        yield "s3 web identity", self.pages.source(role_arn=WEB_ROLE, sts_endpoint=self.sts.url, web_identity_token_file=os.path.join(
            self.creds, put("jwt", self.token + "\n"))), True
        yield "s3 web identity refused", self.pages.source(role_arn=WEB_ROLE, sts_endpoint=self.sts.url, web_identity_token_file=os.path.join(
            self.creds, put("jwt2", new("wrong web identity token") + "\n"))), False
        yield "ftp by ref", self.ftp.source(password=None, password_ref=put("ftp", self.ftp.password)), True

    def fetched(self):
        """Those that were handed out so far are to be searched for, too."""
        for s in self.issuer.secrets:
            self.secrets.know("fetched credentials", s)
        return len(self.issuer.secrets)

    def stop(self):
        self.go.set()
        for s in (self.web, self.idp, self.s3, self.ssh, self.ftp, self.metadata, self.sts, self.pages):
            s.stop()


def records(w):
    return [("%s %d@%d" % (which, r.partition, r.offset), r.raw + b" " + repr(r.headers).encode() + b" " + repr(getattr(r, "key", b"")).encode())
            for which in ("results", "events", "dlq") for r in w.reader(which).drain()]


def everything_said(d):
    """Pages, control answers, argv and environments"""
    yield "pages", [(p, d.http(p)[1].encode()) for p in ("/metrics", "/status", "/status.json", "/health", "/readyz", "/livez")]
    yield "control answers", [(" ".join(v), repr(d.ctl(*v)).encode()) for v in (
        ("status",), ("workers",), ("endpoints",), ("tenants",), ("jobs",), ("jobs", "--deferred"), ("crashes",), ("lag", "-d"), ("config",), ("ping",),
        ("peek", "jobs", "-n", "1000"), ("peek", "results", "-n", "1000"), ("peek", "dlq", "-n", "1000"))]
    yield "answers as text", [(" ".join(v), repr(d.ctl(*v, json_out=False)).encode()) for v in (("tenants",), ("jobs", "--deferred"), ("peek", "jobs", "-n", "1000"))]
    pids = [d.pid] + list(d.workers().values()) + [x["pid"] for x in d.logged("http_child_ready")]
    yield "argv and environments", [("%s of %d" % (n, p), proc(p, n)) for p in pids for n in ("cmdline", "environ")]


def deferred_records(w):
    """What waits in the deferred topic: (header texts, values)"""
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": w.broker.bootstrap, "group.id": "looks", "enable.auto.commit": False})
    heads, values = [], []
    for p in range(w.n_partitions["deferred"]):
        tp = TopicPartition(w.topics["deferred"], p, 0)
        high = c.get_watermark_offsets(tp, timeout=10)[1]
        c.assign([tp])
        while high:
            m = c.poll(10 * SLOW)
            heads.append(("record %d@%d" % (p, m.offset()), repr(m.headers()).encode() + repr(m.key()).encode()))
            values.append(m.value() or b"")
            if m.offset() == high - 1:
                break
    c.close()
    return heads, values


def states(d):
    """Every file of the daemon's state folder, and those without a name that it holds open: the deferred jobs"""
    held = ["/proc/%d/fd/%s" % (d.pid, x) for x in os.listdir("/proc/%d/fd" % d.pid)]
    for p in glob.glob(d.conf["state.dir"] + "/**", recursive=True) + [x for x in held if "(deleted)" in os.readlink(x)]:
        if os.path.isfile(p):
            with open(p, "rb") as f:
                yield p, f.read()


def master_memory(t, secrets, d, running, name):
    """All jobs but so many have ended, as their terminal records tell: of their secrets none is left. What was fetched is kept until it ends."""
    t.is_(d.wait_metric("poller_active_jobs", running), running, "jobs in hand: %d" % running)
    hits = [x for x in secrets.found(memory(d.pid)) if x != "fetched credentials"]
    t.ok(not hits, name, hits)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    if os.geteuid() or not sshd.here():
        t.skip_all("root and OpenSSH's server are needed")
    if os.environ.get("IN_OWN_NETWORK") != "1":
        t.skip_all("a network namespace of its own cannot be had (unshare --net)")
    for line in ("link set lo up", "addr add 169.254.169.254/32 dev lo"):
        subprocess.run(["ip"] + line.split(), check=True)
    secrets = Secrets()
    b, place = MockBroker(t), Place(t, secrets)
    w = World(b)
    # A process that dumps core would leave it in its working directory.
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    conf = {"egress.allow": ["127.0.0.1/32"], "log.level": "debug", "credentials.dir": place.creds, "workers.count": 3, "retry.max_attempts": 1,
            "credentials.file_roots": [place.creds], "credentials.instance_role_tenants": ["default"], "credentials.sts_endpoints": [place.sts.url], "jobs.hold_max": "500ms",
            "network.keep_idle": 0}     # a kept connection keeps its login, for its own tenant and secret
    d = WholeLog(w, conf)
    wanted = {}
    for name, source, served in place.sources():
        j = name.replace(" ", "-")
        wanted[j] = served
        w.push(job(j, source, file_pattern="*.csv"))
    rs = w.results(len(wanted), 60)
    got = {r["job_id"] or "http-in-the-address": r["event_type"] == "job.completed" for r in rs}
    t.is_({k: got.get(k) for k in wanted}, wanted, "the logins that are right are served, the others are not")
    t.ok(place.fetched() >= 6, "%d secrets were fetched" % place.fetched())
    t.ok(len(secrets.forms) > 90, "%d forms of secrets to look for" % len(secrets.forms))

    # Deferred: one that stays, one that comes back and fails.
    basic = lambda what: {"type": "basic", "username": "me", "password": secrets.know(what, secrets.new(what), "me")}  # noqa: E731
    w.push(job("waits", place.http(auth=basic("deferred password")), scheduled_at=rfc3339(3600)),
           job("comes-back", place.http("/no/", auth=basic("password that comes back")), scheduled_at=rfc3339(2 * SLOW)))
    t.is_(w.result_of("comes-back")["event_type"], "job.failed", "a deferred job came back, and failed")
    t.is_([x["job_id"] for x in d.ctl("jobs", "--deferred")[1]["jobs"]], ["waits"], "another one waits")
    heads, values = deferred_records(w)
    t.ok("deferred password" in secrets.found(b"".join(values)), "its message waits in Kafka as it came: the search can find it there")
    search(t, secrets, "headers and keys of the deferred topic", heads)
    stored = list(states(d))
    t.ok(len(stored) >= 2 and sum(len(x) for _, x in stored) > 2000, "the deferred job is in a file here", [(p, len(x)) for p, x in stored])
    search(t, secrets, "files of the state folder and without a name", stored)
    master_memory(t, secrets, d, 0, "%d jobs have ended or were deferred: their secrets are not in the master's memory" % (len(wanted) + 2))

    # One worker is at work with a secret that came by reference, and everything stands still to be looked at.
    held = place.put("held", secrets.new("the secret in use") + "\n")
    w.push(job("held", place.http("/held/", auth={"type": "basic", "username": "me", "password_ref": held}), file_pattern="*.csv"))
    place.arrived.acquire(timeout=30)
    busy = d.workers()[d.wait_log("job_started", job_id="held")["slot"]]
    t.ok("the secret in use" in secrets.found(memory(busy)), "the worker at work has its secret in memory: the search can find one")
    search(t, secrets, "memories of other workers and the status child",
           [("memory of %d" % p, memory(p)) for p in list(d.workers().values()) + [x["pid"] for x in d.logged("http_child_ready")] if p != busy])
    master_memory(t, secrets, d, 1, "the master has wiped what it gave away")
    w.push(job("held-inline", place.http("/held/", auth=basic("the inline secret in use")), file_pattern="*.csv"))
    place.arrived.acquire(timeout=30)
    t.ok("the inline secret in use" in secrets.found(memory(d.pid)), "a job in hand is in its memory as it came, for another attempt")
    for what, texts in everything_said(d):
        search(t, secrets, what, texts)

    # Deaths: the worker at work, then the master itself.
    os.kill(busy, signal.SIGSEGV)
    d.wait_log("worker_died", pid=busy)
    place.go.set()
    t.is_(w.result_of("held")["event_type"], "job.completed", "the task of a worker that was killed is done by another")
    t.is_(w.result_of("held-inline")["event_type"], "job.completed", "the other one is done")
    master_memory(t, secrets, d, 0, "and has its secret no more when that has ended")
    for what, texts in everything_said(d):
        search(t, secrets, what + " after a death", texts)
    d.signal(signal.SIGSEGV)
    d.wait_exit()
    search(t, secrets, "records", records(w))
    search(t, secrets, "lines of the log", [("log", x.encode()) for x in d.raw])
    left = [p for p in glob.glob(d.dir + "/**", recursive=True) + glob.glob(os.path.join(place.root, "*")) if os.path.isfile(p) and not p.startswith(place.creds)]
    t.ok(not [p for p in left if os.path.basename(p).startswith("core")], "no core was left behind", left)
    texts = []
    for p in left:
        with open(p, "rb") as f:
            texts.append((p, f.read()))
    search(t, secrets, "files", texts)
    place.stop()


with Tap() as tap:
    main(tap)
