#!/usr/bin/python3
"""Temporary credentials of S3: the machine's (IMDSv2), the container's, assumed roles, web identities. Fetched by a worker that reaches
nothing else, kept, fetched anew, never shared and never told. Runs in a network of its own, where the metadata addresses are ours."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

if os.environ.get("IN_OWN_NETWORK") != "1" and shutil.which("unshare"):
    own = ["unshare", "--net", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    if subprocess.run(own + ["true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.environ["IN_OWN_NETWORK"] = "1"
        os.execvp(own[0], own + [sys.executable] + sys.argv)

from poller import Daemon, MockBroker, Tap, World, conservation, folder, job, need, wait_for  # noqa: E402
from stsservers import Container, Issuer, Metadata, Service, SessionPages, Sts, stamp  # noqa: E402

USER, USER_SECRET = "AKIAUSEREXAMPLE1", "user/secret+of=the-test-0123456789abcdef"
ARN, ARN2, WEB = ("arn:aws:iam::123456789012:role/" + r for r in ("lists", "other", "web"))
TOKEN = "eyJhbGciOiJSUzI1NiJ9." + "c3ViOnBvbGxlcg" * 12 + ".c2lnbmF0dXJlMDEyMzQ1Njc4OQ"
EXTERNAL = "ext-id/of:the@owner"


def private(path, text, mode=0o400):
    if os.path.exists(path):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Place:
    """All the servers, and a daemon among them."""

    def __init__(self, b, workers=2, env=None, sts_endpoints=(), **conf):
        self.w = World(b)
        self.issuer = Issuer()
        self.files = folder()
        self.sts = Sts(self.issuer, {USER: USER_SECRET}, {ARN: {"external_id": None}, ARN2: {"external_id": EXTERNAL}, WEB: {"token": TOKEN}})
        self.pages = SessionPages(self.issuer, [b"a.csv", b"b.csv", b"c/d.csv"])
        c = {"egress.allow": ["127.0.0.0/8"], "workers.count": workers, "log.level": "debug", "credentials.dir": self.files,
             "credentials.file_roots": [self.files], "credentials.instance_role_tenants": ["default", "second"], "credentials.sts_endpoints": [self.sts.url] + list(sts_endpoints)}
        c.update({k.replace("__", "."): v for k, v in conf.items()})
        self.d = Daemon(self.w, c, env=env)

    def source(self, **fields):
        return self.pages.source(**fields)

    def role(self, arn=ARN, **fields):
        return self.source(**dict({"role_arn": arn, "sts_endpoint": self.sts.url, "access_key_id": USER, "secret_access_key": USER_SECRET}, **fields))

    def web(self, token_file, **fields):
        return self.source(role_arn=WEB, sts_endpoint=self.sts.url, web_identity_token_file=token_file, **fields)

    def good(self, t, what, source, **fields):
        r, e, _ = self.w.run(source, **fields)
        t.ok(r["event_type"] == "job.completed" and sorted(x["file_path"] for x in e) == ["a.csv", "b.csv"], what, r.raw[:1500], self.log())
        return r

    def bad(self, t, what, source, cls, *words, **fields):
        r, e, d = self.w.run(dict({"retries": 0}, **source), **fields)
        text = r["error"]["message"] if r["error"] else ""
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == cls and all(x in text for x in words) and not e and len(d) == 1, what, r.raw[:1500], self.log())
        return text

    def log(self):
        return "\n".join(x[:300] for x in self.d.raw[-8:])

    def secrets(self):
        """What must stand nowhere."""
        return [s for s in self.issuer.secrets + [USER_SECRET, TOKEN] if s]

    def leaks(self):
        said = self.d.raw + [x.raw.decode("utf-8", "replace") for k in ("results", "events", "dlq") for x in self.w.reader(k).drain()] + [
            self.d.http("/status.json")[1], self.d.http("/metrics")[1]]
        return [(s[:12], line[:300]) for line in said for s in self.secrets() if s in line or s.replace("/", "\\/") in line]

    def end(self, t):
        t.is_(self.leaks(), [], "no secret stands in a log line, an event, a result, a dead letter, a status page: %d looked for" % len(self.secrets()))
        t.is_(*conservation(self.d), "every job is accounted for")
        t.is_(self.d.stop(), 0, "the daemon ends well")


def instance(t, p, meta):
    own = p.source(use_instance_role=True)
    n, used, fetched = len(meta.requests), len(p.pages.used), len(p.d.logged("credentials_fetched"))
    r = p.good(t, "the machine's role lists the bucket", own)
    t.is_(r["attempt"], 1, "in its first attempt: to fetch credentials is none of its own")
    t.is_(meta.paths(n), ["PUT /latest/api/token", "GET /latest/meta-data/iam/security-credentials/", "GET /latest/meta-data/iam/security-credentials/poller-role"],
          "three requests, version 2")
    p.good(t, "a second job", p.source(use_instance_role=True, max_keys=1))
    p.good(t, "env_auth is another name for it", p.source(env_auth=True))
    t.is_(len(meta.requests) - n, 3, "both with what was kept")
    p.good(t, "another tenant", own, org_id="second")
    t.is_(len(meta.requests) - n, 6, "fetches its own")
    t.is_(len({p.issuer.good[k]["id"] for k in p.pages.used[used:]}), 2, "and each signed with its own")
    p.bad(t, "a tenant that the setting does not name", own, "policy", "credentials.instance_role_tenants", "third", org_id="third")
    t.is_(len(meta.requests) - n, 6, "is not even asked for")
    n = len(meta.requests)
    p.issuer.take_back()
    r = p.good(t, "credentials taken back before their time are fetched anew", own)
    t.ok(r["attempt"] == 2 and len(meta.requests) - n == 3, "with one more attempt", r.raw)
    p.pages.fault = lambda q: p.pages.error(400, "ExpiredToken")
    n, m = len(meta.requests), len(p.pages.requests)
    p.bad(t, "a store that always says so is believed the second time", own, "auth", "ExpiredToken")
    t.is_((len(meta.requests) - n, len(p.pages.requests) - m), (3, 2), "after one more fetch and attempt")
    p.pages.fault = lambda q: p.pages.error(403, "AccessDenied")
    p.bad(t, "no right to the bucket", own, "auth", "AccessDenied")
    t.is_(len(meta.requests) - n, 3, "is nothing that other credentials mend")
    p.pages.fault = None
    p.bad(t, "http of a job to the metadata address", {"source_type": "http", "url": "http://169.254.169.254/latest/"}, "policy", "169.254.169.254")
    p.bad(t, "s3 of a job to the metadata address", {"source_type": "s3", "endpoint": "http://169.254.169.254", "bucket": "latest", "anonymous": True}, "policy", "169.254.169.254")
    t.is_(len(meta.requests) - n, 3, "no worker of another role reaches it")
    t.is_(len(p.d.logged("credentials_fetched")) - fetched, 4, "four fetches, each with its line in the log")
    t.is_(p.d.wait_metric("poller_credentials_fetches_total", fetched + 4, status="success"), fetched + 4, "and counted")
    for tenants, check in (["second"], lambda: p.bad(t, "a reload takes the right away, whatever is kept", own, "policy", "credentials.instance_role_tenants")), (
            ["*"], lambda: p.good(t, "or gives it to all", own, org_id="third")):
        mark = p.d.mark()
        p.d.write_conf(credentials__instance_role_tenants=tenants)
        p.d.signal(signal.SIGHUP)
        p.d.wait_log("config_reloaded", since=mark)
        check()


def refused(t, p, meta):
    """What a metadata service says when it has nothing to give, and what a hostile one says."""
    own = p.source(use_instance_role=True)
    canary = Service("127.0.0.9")
    canary.answer = lambda r: (200, {}, b"x")
    role = "/latest/meta-data/iam/security-credentials/poller-role"
    soon = stamp(time.time() + 600)
    good = lambda **kw: json.dumps(dict({"Code": "Success", "AccessKeyId": "ASIAHOSTILE", "SecretAccessKey": "s" * 40,  # noqa: E731
                                                       "Token": "t" * 40, "Expiration": soon}, **kw)).encode()
    rows = [
        ("no role is attached", lambda r: (404, {}, b"Not Found") if r["path"].endswith("credentials/") else None, "auth", "attach an instance profile"),
        ("switched off", lambda r: (403, {}, b""), "auth", "HttpEndpoint"),
        ("busy", lambda r: (503, {}, b""), "transient", "503"),
        ("no metadata service", lambda r: (405, {}, b""), "permanent", "405"),
        ("a redirect for the token", lambda r: (302, {"Location": canary.url + "/x"}, b""), "protocol", "redirect"),
        ("a redirect for the credentials", lambda r: (307, {"Location": canary.url + "/x"}, b"") if r["path"] == role else None, "protocol", "redirect"),
        ("a token with control characters", lambda r: (200, {}, b"tok\x01en") if r["method"] == "PUT" else None, "protocol", "odd characters"),
        ("a token without end", lambda r: (200, {}, b"t" * 5000) if r["method"] == "PUT" else None, "protocol", "too long"),
        ("a role's name that leads away", lambda r: (200, {}, b"../../../user-data") if r["path"].endswith("credentials/") else None, "protocol", "cannot be one"),
        ("a role's name with a line end", lambda r: (200, {}, b"\r\nX: y") if r["path"].endswith("credentials/") else None, "protocol", "cannot be one"),
        ("no JSON", lambda r: (200, {}, b"<html>login</html>") if r["path"] == role else None, "protocol", "no JSON"),
        ("cut JSON", lambda r: (200, {}, good()[:-30]) if r["path"] == role else None, "protocol", "no JSON"),
        ("JSON of another kind", lambda r: (200, {}, b"[1, 2]") if r["path"] == role else None, "protocol", "missing"),
        ("no secret key", lambda r: (200, {}, good(SecretAccessKey=None)) if r["path"] == role else None, "protocol", "secret key is missing"),
        ("a key with a line end", lambda r: (200, {}, good(AccessKeyId="AS\r\nX-Evil: 1")) if r["path"] == role else None, "protocol", "odd characters"),
        ("a token with a NUL", lambda r: (200, {}, good(Token="a\x01b")) if r["path"] == role else None, "protocol", "odd characters"),
        ("a token over its length", lambda r: (200, {}, good(Token="t" * 9000)) if r["path"] == role else None, "protocol", "too long"),
        ("expired", lambda r: (200, {}, good(Expiration=stamp(1700000000))) if r["path"] == role else None, "protocol", "expired already"),
        ("valid for ever", lambda r: (200, {}, good(Expiration="2090-01-01T00:00:00Z")) if r["path"] == role else None, "protocol", "more than a week"),
        ("an expiry that is none", lambda r: (200, {}, good(Expiration="soon")) if r["path"] == role else None, "protocol", "no time"),
        ("refused within 200", lambda r: (200, {}, good(Code="AssumeRoleUnauthorizedAccess", Message="EC2 cannot assume the role")) if r["path"] == role else None, "auth",
         "EC2 cannot assume the role"),
        ("a body over the cap", lambda r: (200, {}, b" " * 100000) if r["path"] == role else None, "protocol", "longer than 65536"),
    ]
    for i, (what, answer, cls, *words) in enumerate(rows):
        meta.answer = answer
        # each another identity: a refusal is not asked for again at once
        p.bad(t, "metadata service: " + what, dict(own, connect_timeout=30, address_family="any", region="x-%d" % i), cls, *words)
    t.is_(canary.requests, [], "where the redirects led, nobody came")
    n = len(meta.requests)
    p.bad(t, "the same again at once", dict(own, region="x-1"), "auth", "HttpEndpoint")
    t.is_(len(meta.requests), n, "is not asked again")
    meta.answer = lambda r: "hang"
    p.bad(t, "one that does not answer is given 5 seconds", dict(own, region="y-1"), "transient", "hop limit")
    meta.answer = lambda r: "drip"
    p.bad(t, "one that drips ends with the job's deadline", dict(own, region="y-2"), "timeout", "no credentials within the deadline of 1000 ms", deadline="1s")
    meta.answer = None
    meta.stop()
    p.bad(t, "no service there", dict(own, region="y-3"), "transient", "169.254.169.254", "machine of a cloud")


def assumed(t, p):
    p.good(t, "a role is assumed with the job's own key", p.role())
    f = p.sts.requests[-1]
    t.ok(f["form"]["RoleSessionName"] == "iis-poller" and f["form"]["DurationSeconds"] == "3600" and "ExternalId" not in f["form"]
         and "X-Amz-Security-Token" not in f["headers"], "with its defaults", f["form"])
    p.good(t, "external id, session name, duration", p.role(ARN2, external_id=EXTERNAL, role_session_name="night@poller", role_duration="2h"))
    f = p.sts.requests[-1]["form"]
    t.ok(f["RoleSessionName"] == "night@poller" and f["DurationSeconds"] == "7200" and f["ExternalId"] == EXTERNAL, "arrive as they are", f)
    private(os.path.join(p.files, "set"), '{"access_key_id": "%s", "secret_access_key": "%s"}' % (USER, USER_SECRET))
    private(os.path.join(p.files, "aws"), "[night]\naws_access_key_id = %s\naws_secret_access_key = %s\n" % (USER, USER_SECRET))
    p.good(t, "with a secret set", p.source(role_arn=ARN, sts_endpoint=p.sts.url, credentials_ref="set"))
    p.good(t, "with a profile", p.source(role_arn=ARN, sts_endpoint=p.sts.url, profile="night", shared_credentials_file=os.path.join(p.files, "aws")))
    n = len(p.sts.requests)
    p.good(t, "again", p.role())
    p.good(t, "again, with the same role by its other name", p.role(sts_role_arn=ARN, **{"role_arn": ARN}))
    t.is_(len(p.sts.requests), n, "with what was kept")
    p.good(t, "another tenant", p.role(), org_id="second")
    t.is_(len(p.sts.requests), n + 1, "assumes it itself")
    p.bad(t, "a wrong secret is not helped by what a right one was given", p.role(secret_access_key="wrong" + USER_SECRET), "auth", "SignatureDoesNotMatch")
    p.bad(t, "a wrong external id", p.role(ARN2, external_id="another"), "auth", "AccessDenied", "not authorized", ARN2)
    p.bad(t, "an unknown key", p.role(access_key_id="AKIANOBODY"), "auth", "InvalidClientTokenId")
    private(os.path.join(p.files, "half"), '{"session_token": "x"}')
    p.bad(t, "a secret set without a key", p.source(role_arn=ARN, sts_endpoint=p.sts.url, credentials_ref="half"), "auth", "hold no access_key_id")
    p.bad(t, "an endpoint that the settings do not name", p.role(sts_endpoint="http://127.0.0.1:1"), "policy", "credentials.sts_endpoints")
    token = private(os.path.join(p.files, "jwt"), TOKEN + "\n")
    n = len(p.sts.requests)
    p.good(t, "a web identity", p.web(token))
    t.ok("Authorization" not in p.sts.requests[-1]["headers"] and len(p.sts.requests) == n + 1, "is sent unsigned, once")
    wrong = private(os.path.join(p.files, "wrong"), TOKEN + "x")
    text = p.bad(t, "a token that STS refuses", p.web(wrong), "auth", "InvalidIdentityToken")
    t.ok(TOKEN[:40] not in text, "although STS repeats it, we do not", text)
    p.bad(t, "a token that others can read", p.web(private(os.path.join(p.files, "open"), TOKEN, 0o444)), "auth", "open to others")
    p.bad(t, "a token of several lines", p.web(private(os.path.join(p.files, "lines"), "a\nb\n")), "auth", "holds no token")
    p.bad(t, "no token", p.web(os.path.join(p.files, "none")), "auth", "cannot open")
    p.bad(t, "a token beyond the roots", p.web("/etc/passwd"), "policy", "credentials.file_roots")


def hostile(t, p):
    canary = Service("127.0.0.9")
    k = {"id": "ASIAHOSTILE", "secret": "s" * 40, "token": "t" * 40, "expires": time.time() + 3600}
    whole = Sts.xml(k)
    rows = [
        ("a redirect", (301, {"Location": canary.url}, b""), "protocol", "redirect"),
        ("no XML", (200, {}, b"{}"), "protocol", "no well-formed XML"),
        ("nothing", (200, {}, b""), "protocol", "no well-formed XML"),
        ("cut XML", (200, {}, whole[:-20]), "protocol", "no well-formed XML"),
        ("a DTD", (200, {}, b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + whole), "protocol", "DTD"),
        ("another document", (200, {}, b"<html/>"), "protocol", "none of STS"),
        ("no credentials", (200, {}, b"<AssumeRoleResponse/>"), "protocol", "access key id is missing"),
        ("a depth without end", (200, {}, b"<AssumeRoleResponse>" + b"<a>" * 100), "protocol", "too deep"),
        ("a key twice", (200, {}, whole.replace(b"</AccessKeyId>", b"</AccessKeyId><AccessKeyId>X</AccessKeyId>")), "protocol", "twice"),
        ("a key with a line end", (200, {}, whole.replace(b"ASIAHOSTILE", b"ASIA&#13;&#10;X: y")), "protocol", "odd characters"),
        ("expired credentials", (200, {}, Sts.xml(dict(k, expires=1700000000))), "protocol", "expired already"),
        ("a token over its length", (200, {}, Sts.xml(dict(k, token="t" * 9000))), "protocol", "too long"),
        ("a body over the cap", (200, {}, whole + b" " * 70000), "protocol", "longer than 65536"),
        ("throttled", Sts.error(400, "Throttling"), "transient", "Throttling"),
        ("a region that is off", Sts.error(403, "RegionDisabledException"), "permanent", "RegionDisabledException"),
        ("an error that is no XML", (500, {}, b"oops"), "transient", "status 500"),
        ("a refusal that is no XML", (403, {}, b"oops"), "auth", "status 403"),
        ("words that are not for a terminal", Sts.error(403, "AccessDenied", "red\x7f \u202e"), "auth", "AccessDenied"),
        ("the caller's secret in its words", Sts.error(403, "AccessDenied", "you signed with %s" % USER_SECRET), "auth", "AccessDenied"),
    ]
    for i, (what, answer, cls, *words) in enumerate(rows):
        p.sts.answer = lambda r, a=answer: a
        text = p.bad(t, "STS: " + what, p.role(role_session_name="s-%d" % i), cls, *words)
        if not text.isprintable():
            t.ok(False, "STS: %s: its words are fit to print" % what, repr(text))
    t.is_(canary.requests, [], "where the redirect led, nobody came")
    p.sts.answer = lambda r: (429, {"Retry-After": "86000"}, b"")
    p.w.push(job("later", p.role(role_session_name="later", retries=1)))
    waits = wait_for("the deferred job", lambda: p.d.ctl("jobs", "--deferred")[1]["jobs"])[0]
    t.ok((waits["job_id"], waits["reason"], waits["error"]) == ("later", "retry", "transient") and 85900 < waits["seconds"] <= 86000,
         "Retry-After beyond jobs.hold_max: the job is deferred for as long", waits)
    p.d.ctl("job", "cancel", "later")
    t.is_(p.w.result_of("later")["event_type"], "job.cancelled", "and can be cancelled")
    p.sts.answer = None


def metadata_as_sts(t, p, meta):
    """Even an endpoint of the settings leads to a metadata address only where the machine's own credentials are asked for."""
    n = len(meta.requests)
    p.bad(t, "STS at the metadata address", p.role(sts_endpoint="http://169.254.169.254"), "policy", "169.254.169.254")
    t.is_(len(meta.requests), n, "is not connected to")


def chained(t, p, meta):
    n = len(meta.requests)
    p.good(t, "a role is assumed with the machine's own", p.source(use_instance_role=True, role_arn=ARN, sts_endpoint=p.sts.url))
    t.ok(len(meta.requests) == n + 3 and p.sts.requests[-1]["headers"]["X-Amz-Security-Token"] and p.issuer.good[p.pages.used[-1]]["of"] == ARN,
         "signed with its session, and it is the role that lists", meta.paths(n))


def container(t, b):
    token = private(os.path.join(folder(), "token"), "Bearer tok-0123456789abcdefghi\n")
    p = Place(b, env={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": Container.path, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token})
    c = Container(p.issuer, token="Bearer tok-0123456789abcdefghi")
    p.issuer.secrets.append("tok-0123456789abcdefghi")
    p.good(t, "the container's credentials", p.source(use_instance_role=True))
    t.is_(c.paths(), ["GET " + Container.path], "one request")
    private(token, "Bearer another\n")
    p.bad(t, "its token file is read anew", p.source(use_instance_role=True, region="x"), "protocol", "401")
    p.end(t)
    c.stop()
    p = Place(b, env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:%d/full?x=1" % 7999, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "plain"}, egress__allow=["127.0.0.2"])
    p.pages.stop()
    c = Container(p.issuer, "127.0.0.1", 7999, token="plain")
    c.path = "/full?x=1"
    p.bad(t, "the whole URI of the environment: it is asked at the loopback, which jobs may not reach", p.source(use_instance_role=True), "policy", "127.0.0.1")
    t.is_(c.paths(), ["GET /full?x=1"], "it was asked")
    p.end(t)


def waiting(t, p):
    """One fetch for all who wait for it; none is lost when it fails, or its worker dies."""
    n = len(p.sts.requests)
    p.sts.gate.clear()
    p.w.push(*[job("together-%d" % i, p.role(role_session_name="together")) for i in range(20)])
    p.sts.held.acquire(timeout=30)
    wait_for("19 to wait", lambda: p.d.ctl("status")[1] and p.d.metric("poller_queue_depth") == 19)
    t.is_(len(p.sts.requests) - n, 1, "20 jobs: one asks, 19 wait")
    p.sts.gate.set()
    t.is_({p.w.result_of("together-%d" % i)["event_type"] for i in range(20)}, {"job.completed"}, "all are served with its answer")
    t.is_(len(p.sts.requests) - n, 1, "which was the only one")
    p.sts.gate.clear()
    mark = p.d.mark()
    p.w.push(*[job("dead-%d" % i, p.role(role_session_name="dead")) for i in range(5)])
    p.sts.held.acquire(timeout=30)
    busy = [x for x in p.d.ctl("workers")[1]["workers"] if x["role"] == "credentials" and x["state"] == "busy"]
    t.is_(len(busy), 1, "a worker of the role credentials is at it")
    os.kill(busy[0]["pid"], signal.SIGKILL)
    p.sts.held.acquire(timeout=30)
    p.sts.gate.set()
    t.is_({p.w.result_of("dead-%d" % i)["event_type"] for i in range(5)}, {"job.completed"}, "its death costs nobody anything: another asks")
    t.ok(p.d.wait_log("worker_died", since=mark), "it died")
    p.sts.gate.clear()
    p.w.push(job("stop-0", p.role(role_session_name="stop")))
    p.sts.held.acquire(timeout=30)
    p.w.push(job("stop-1", p.role(role_session_name="stop")))
    wait_for("another worker to have looked at it", lambda: p.d.logged("job_accepted", job_id="stop-1") and sum(
        x["role"] == "credentials" and x["state"] == "idle" for x in p.d.ctl("workers")[1]["workers"]))
    for j in ("stop-1", "stop-0"):
        p.d.ctl("job", "cancel", j)
        t.is_(p.w.result_of(j)["event_type"], "job.cancelled", "%s, cancelled while it %s" % (j, "waits" if j == "stop-1" else "fetches"))
    p.sts.gate.set()
    p.good(t, "the next one fetches", p.role(role_session_name="stop"))
    p.sts.answer = lambda r: Sts.error(503, "ServiceUnavailable") if len(p.sts.requests) % 2 else None
    r = p.good(t, "what passes is tried again", p.role(role_session_name="again-%d" % (len(p.sts.requests) % 2), retries=5))
    p.sts.answer = None


def ending(t, p):
    """Credentials of two seconds are fetched anew before their end; where that fails, those of before serve while they hold."""
    p.sts.seconds = 2
    first, n, jobs = len(p.sts.requests), 0, 0
    while len(p.sts.requests) < first + 3 and jobs < 400:
        r, e, _ = p.w.run(p.role(role_session_name="ending"))
        jobs += 1
        n += r["event_type"] == "job.completed" and r["attempt"] == 1 and len(e) == 2
    t.ok(n == jobs > 3, "%d jobs over %d sets of credentials that end: each completes at once" % (jobs, len(p.sts.requests) - first))
    p.sts.seconds = 34          # fetched anew after 25.5 s, good for a refusal until 4 s
    p.good(t, "longer ones", p.role(role_session_name="holding"))
    p.sts.seconds = None


def by_region(t, p):
    """Amazon's own endpoint follows from the region; its certificate is checked."""
    d = folder()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=sts", "-addext",
                    "subjectAltName=DNS:sts.eu-north-1.amazonaws.com", "-keyout", d + "/key", "-out", d + "/crt"], check=True, stderr=subprocess.DEVNULL)
    with open(d + "/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n127.0.0.5 sts.eu-north-1.amazonaws.com\n127.0.0.5 sts.eu-west-1.amazonaws.com\n127.0.0.6 s3.eu-north-1.amazonaws.com\n")
    subprocess.run(["mount", "--bind", d + "/hosts", "/etc/hosts"], check=True)
    s = Sts(p.issuer, {USER: USER_SECRET}, {ARN: {"external_id": None}}, "127.0.0.5", 443, (d + "/crt", d + "/key"))
    with open(d + "/crt") as f:
        ca = f.read()
    own = {"source_type": "s3", "bucket": "b", "role_arn": ARN, "access_key_id": USER, "secret_access_key": USER_SECRET, "region": "eu-north-1", "tls": {"ca_pem": ca}}
    p.bad(t, "nobody is at the bucket", own, "transient", "no connection", "s3.eu-north-1.amazonaws.com")
    t.ok(len(s.requests) == 1 and s.requests[0]["headers"]["Host"] == "sts.eu-north-1.amazonaws.com" and "/eu-north-1/sts/aws4_request" in
         s.requests[0]["headers"]["Authorization"], "but the role was assumed at the region's endpoint", s.requests)
    p.bad(t, "a certificate that nobody knows", dict(own, tls={}), "permanent", "certificate")
    p.bad(t, "one of another name", dict(own, sts_region="eu-west-1"), "permanent", "certificate")
    t.is_(len(s.requests), 1, "were told nothing")
    subprocess.run(["umount", "/etc/hosts"], check=True)


with Tap() as tap:
    need(tap, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    if os.environ.get("IN_OWN_NETWORK") != "1":
        tap.skip_all("a network namespace of its own cannot be had (unshare --net --mount)")
    for line in ("link set lo up", "addr add 169.254.169.254/32 dev lo", "addr add 169.254.170.2/32 dev lo"):
        subprocess.run(["ip"] + line.split(), check=True)
    broker = MockBroker(tap)
    metadata = Metadata(Issuer())

    def own(t):
        """The machine's own, with a metadata address that even egress.allow and credentials.sts_endpoints name."""
        p = Place(broker, egress__allow=["127.0.0.0/8", "169.254.0.0/16"], sts_endpoints=["http://169.254.169.254"])
        metadata.issuer = p.issuer
        for part in (chained, metadata_as_sts, instance, refused):
            t.part(part, p, metadata)
        p.end(t)

    def roles(t):
        p = Place(broker, workers=3)
        for part in (assumed, hostile, waiting, ending, by_region):
            t.part(part, p)
        p.end(t)

    for part in (own, roles, lambda t: container(t, broker)):
        tap.part(part)
