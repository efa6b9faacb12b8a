#!/usr/bin/python3
"""Fields of network sources that no other flow drives: what they make the poller send, from files and references, too."""
import base64
import hashlib
import json
import os
import re
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
import trees  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need  # noqa: E402
from s3servers import ID, SECRET, Pages, quote, sign  # noqa: E402
from webservers import Answers, certificate  # noqa: E402

DOS = b"01-02-24  03:04AM       <DIR>          sub\r\n01-02-24  03:04AM                    5 a.csv\r\n"
UNIX = b"-rw-r--r-- 1 0 0 5 Nov 23  2023 a.csv\r\n"


class Fields:
    def __init__(self, t):
        self.t = t
        self.creds, self.files = folder(), folder()
        hosts = os.path.join(folder(), "hosts")
        with open("/etc/hosts") as old, open(hosts, "w") as f:
            f.write(old.read() + "\n127.0.0.1 s3.test buck.s3.test\n")
        self.w = World(MockBroker(t))
        # a name of its own for the bucket, in a mount namespace of its own
        self.d = Daemon(self.w, {"egress.allow": ["127.0.0.0/8"], "credentials.dir": self.creds, "credentials.file_roots": [self.files]},
                        wrap=["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts])

    def put(self, where, name, text):
        path = os.path.join(where, name)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o400), "w") as f:
            f.write(text)
        return name if where == self.creds else path

    def good(self, what, source, names, **fields):
        r, e, _ = self.w.run(source, **fields)
        self.t.ok(r["event_type"] == "job.completed" and sorted(x["relative_path"] for x in e) == sorted(names), what, r.raw[:1200], [x["relative_path"] for x in e])
        return e

    def bad(self, what, source, cls, *words):
        r, e, _ = self.w.run(dict(source, retries=0))
        self.t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == cls and all(x in r["error"]["message"] for x in words) and not e, what, r.raw[:1200])


def s3(t, x):
    def of(p, **more):
        s = {"source_type": "s3", "endpoint": p.url, "bucket": p.bucket, "access_key_id": ID, "keepalive": False}
        s.update(more)
        return s

    def last(p):
        return {k.lower(): v for k, v in p.requests[-1]["headers"].items()}
    p = Pages([b"a.csv"])
    x.good("s3: secret_access_key_ref and session_token_ref", of(p, secret_access_key_ref=x.put(x.creds, "key", SECRET + "\n"), session_token_ref=x.put(x.creds, "token", "to/ken==\n")), ["a.csv"])
    t.ok(last(p)["x-amz-security-token"] == "to/ken==" and "x-amz-security-token" in last(p)["authorization"], "s3: the token is sent and signed")
    text = "# of this host\n[default]\naws_access_key_id = AKIDNOBODY\naws_secret_access_key = no\n\n[ours]\naws_access_key_id=%s\naws_secret_access_key = %s\naws_session_token = t/2\n" % (ID, SECRET)
    path = x.put(x.files, "credentials", text)
    source = {k: v for k, v in of(p).items() if k != "access_key_id"}
    x.good("s3: a profile of shared_credentials_file", dict(source, shared_credentials_file=path, profile="ours"), ["a.csv"])
    t.is_(last(p)["x-amz-security-token"], "t/2", "s3: with its token")
    x.bad("s3: the file's default profile is another one", dict(source, shared_credentials_file=path), "auth", "InvalidAccessKeyId")
    x.bad("s3: a profile that is not in it", dict(source, shared_credentials_file=path, profile="theirs"), "auth", "theirs")
    key = {"secret_access_key": SECRET}
    p = Pages([b"a.csv", b"in/b.csv"], bucket="buck")
    x.good("s3: the bucket before the host", of(p, endpoint="http://s3.test:%d" % p.port, force_path_style=False, recursive=True, **key), ["a.csv", "in/b.csv"])
    t.is_((p.requests[-1]["path"], last(p)["host"]), ("/", "buck.s3.test:%d" % p.port), "s3: its name is in the host, not in the path")
    p = Pages([b"a.csv"], entry=lambda k: "<Owner><ID>77</ID><DisplayName>me</DisplayName></Owner>")
    e = x.good("s3: fetch_owner, encoding_type and signature_version as they are anyway", of(p, fetch_owner=True, encoding_type="url", signature_version="s3v4", **key), ["a.csv"])
    t.is_((p.requests[-1]["query"].get("fetch-owner"), e and e[0]["source"].get("owner_id"), e and e[0]["source"].get("owner_display_name")), (b"true", "77", "me"), "s3: owners are asked for and told")
    classes = {b"std.csv": "STANDARD", b"ia.csv": "STANDARD_IA", b"cold.csv": "GLACIER", b"deep.csv": "DEEP_ARCHIVE", b"back.csv": "GLACIER"}
    restored = "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2030-12-21T00:00:00.000Z</RestoreExpiryDate></RestoreStatus>"
    p = Pages(classes, entry=lambda k: "<StorageClass>%s</StorageClass>%s" % (classes[k], restored if k == b"back.csv" else ""))
    p.keys = dict.fromkeys(classes, 1)
    x.good("s3: storage_classes", of(p, storage_classes=["STANDARD", "DEEP_ARCHIVE"], **key), ["std.csv", "deep.csv"])
    x.good("s3: exclude_storage_classes", of(p, exclude_storage_classes=["STANDARD"], **key), ["ia.csv", "cold.csv", "deep.csv", "back.csv"])
    x.good("s3: skip_archived", of(p, skip_archived=True, optional_object_attributes="RestoreStatus", **key), ["std.csv", "ia.csv", "back.csv"])
    t.is_(last(p).get("x-amz-optional-object-attributes"), "RestoreStatus", "s3: optional_object_attributes is asked for")


def version_at(t, x):
    """The bucket as it was: from pages of versions, newest first, whose borders lie within a key."""
    at = lambda n: "2024-01-01T00:00:%02d.500Z" % n  # noqa: E731
    # (key, second, delete marker)
    kept = [("a.csv", 9, False), ("a.csv", 5, False), ("a.csv", 1, False), ("b.csv", 7, True), ("b.csv", 3, False), ("c.csv", 8, False), ("c.csv", 6, True), ("c.csv", 2, False),
            ("in/d.csv", 4, False)]

    def row(v):
        kind = "DeleteMarker" if v[2] else "Version"
        return "<%s><Key>%s</Key><VersionId>v%d</VersionId><LastModified>2024-01-01T00:00:%02d.000Z</LastModified>%s</%s>" % (
            kind, v[0], v[1], v[1], "" if v[2] else "<ETag>\"e%d\"</ETag><Size>%d</Size>" % (v[1], v[1]), kind)

    def listing(rows, size):
        def fault(q):
            if b"versions" not in q["query"] and "versions" not in q["query"]:
                return None
            key, version = q["query"].get("key-marker", b"").decode(), q["query"].get("version-id-marker", b"").decode()
            first = next((i + 1 for i, v in enumerate(rows) if (v[0], "v%d" % v[1]) == (key, version)), 0)
            some = rows[first:first + size]
            more = first + size < len(rows)
            return 200, {"Content-Type": "application/xml"}, (
                "<?xml version=\"1.0\"?><ListVersionsResult><Name>b</Name><IsTruncated>%s</IsTruncated>%s%s</ListVersionsResult>" % (
                    "true" if more else "false", "<NextKeyMarker>%s</NextKeyMarker><NextVersionIdMarker>v%d</NextVersionIdMarker>" % some[-1][:2] if more else "",
                    "".join(row(v) for v in some))).encode()
        return Pages(fault=fault)
    for size in (1, 2, 4, 1000):
        p = listing(kept, size)
        for second, want in ((0, {}), (1, {"a.csv": 1}), (2, {"a.csv": 1, "c.csv": 2}), (4, {"a.csv": 1, "b.csv": 3, "c.csv": 2, "in/d.csv": 4}),
                             (6, {"a.csv": 5, "b.csv": 3, "in/d.csv": 4}), (7, {"a.csv": 5, "in/d.csv": 4}), (30, {"a.csv": 9, "c.csv": 8, "in/d.csv": 4})):
            e = x.good("s3: version_at %s, pages of %d" % (at(second), size), p.source(version_at=at(second), recursive=True, keepalive=False), list(want))
            t.is_({y["relative_path"]: (y["file_size"], y["source"]["version_id"]) for y in e}, {k: (n, "v%d" % n) for k, n in want.items()}, "s3: each in its version of that time")
        p.stop()
    p = listing([kept[0], kept[5], kept[3]], 1000)
    x.bad("s3: version_at, where the server's keys are in no order", p.source(version_at=at(30)), "protocol", "order")
    for fields, word in (({"versions": True}, "version_at and versions"), ({"start_after": "a"}, "start_after")):
        x.bad("s3: version_at beside %s" % list(fields)[0], p.source(version_at=at(30), **fields), "invalid_job", word)
    p.stop()


def sftp(t, x):
    keys = sshd.Keys()
    s = sshd.Sshd(keys)
    root = folder()
    trees.write(root, {"a.csv": (1, trees.EPOCH)})
    plain = x.put(x.files, "id_ed25519", keys.private["ed25519"])
    locked = x.put(x.files, "id_locked", keys.private["ed25519_enc"])
    known = x.put(x.files, "known_hosts", s.known_hosts())
    x.good("sftp: private_key_file and known_hosts_file", s.source(root, private_key=None, private_key_file=plain, known_hosts=None, known_hosts_file=known), ["a.csv"])
    x.good("sftp: private_key_passphrase_ref", s.source(root, private_key=None, private_key_file=locked, private_key_passphrase_ref=x.put(x.creds, "phrase", sshd.PASSPHRASE + "\n")), ["a.csv"])
    x.bad("sftp: the wrong passphrase", s.source(root, private_key=None, private_key_file=locked, private_key_passphrase_ref=x.put(x.creds, "phrase2", "other\n")), "auth", "passphrase")
    for kind in ("ed25519", "ed25519_enc", "ecdsa", "ecdsa_pem_enc", "ecdsa_pkcs8"):
        own = {"private_key": keys.private[kind]}
        if kind.endswith("_enc"):
            own["private_key_passphrase"] = sshd.PASSPHRASE
        x.good("sftp: public_key beside its private_key: %s" % kind, s.source(root, public_key=keys.public[kind] + "\n", keepalive=True, **own), ["a.csv"])
        x.bad("sftp: public_key of another: %s" % kind, s.source(root, public_key=keys.public["stranger"], keepalive=True, **own), "auth", "public_key is not that of private_key")
    for _ in range(2):
        private, public = sshd.keygen(os.path.join(folder(), "key"), "rsa", "", "-b", "2048", "-m", "PEM")
        r, _, _ = x.w.run(s.source(root, private_key=private, public_key=public, retries=0))
        t.ok(r["error"]["class"] == "permanent" and "RSA" in r["error"]["message"] and "public_key" not in r["error"]["message"], "sftp: public_key of an RSA key in PEM: the server's word is what fails", r.raw[:900])
        x.bad("sftp: public_key of another than an RSA key in PEM", s.source(root, private_key=private, public_key=keys.public["rsa"]), "auth", "public_key is not that of private_key", "ssh-rsa")
    x.bad("sftp: public_key that is none", s.source(root, public_key="ssh-ed25519"), "auth", "public_key is not a public key")
    x.good("sftp: stat_mode lstat, max_sessions 1", s.source(root, stat_mode="lstat", max_sessions=1), ["a.csv"])
    r, e, _ = x.w.run(s.source(root, max_sessions=8, max_connections=4))
    words = " ".join(r["warnings"])
    t.ok(r["event_type"] == "job.completed" and len(e) == 1 and "max_sessions has no effect" in words and "max_connections has no effect" in words,
         "sftp: max_sessions and max_connections above 1 are taken, and the result says that one channel is used", r.raw)
    other = sshd.Sshd(keys)
    x.bad("sftp: known_hosts_file of another server", other.source(root, known_hosts=None, known_hosts_file=known), "permanent", "not in known_hosts")
    s.stop()
    other.stop()


def ftp(t, x):
    root = folder()
    os.chmod(root, 0o755)
    trees.write(root, {"a.csv": (1, trees.EPOCH)})
    cert = ftpservers.certificate()
    s = ftpservers.PureFtpd(root, tls=cert)
    for what, fields in (("data_tls private", {"data_tls": "private"}), ("data_tls clear", {"data_tls": "clear"}), ("tls_session_reuse false", {"tls_session_reuse": False}),
                         ("require_close_notify false", {"require_close_notify": False}), ("disable_epsv", {"disable_epsv": True}), ("utf8 off", {"utf8": "off"}), ("utf8 on", {"utf8": "on"})):
        e = x.good("ftp: %s" % what, s.source("/", keepalive=False, **fields), ["a.csv"])
        t.ok(e and e[0]["source"]["tls_version"], "ftp: %s: the login is under TLS" % what)
    s.stop()
    # vsftpd demands that data connections resume the session of their control connection
    s = ftpservers.Vsftpd(root, tls=cert)
    x.good("ftp: tls_session_reuse, which vsftpd demands", s.source("/", keepalive=False), ["a.csv"])
    x.bad("ftp: tls_session_reuse false, where it is demanded", s.source("/", keepalive=False, tls_session_reuse=False), "permanent", "522")
    s.stop()

    def lists(data, **replies):
        return ftpservers.Fake(dict({"LIST": ["150 here", data, "226 ok"], "FEAT": "211-here\r\n UTF8\r\n211 end"}, **replies))
    for data, form in ((DOS, "dos"), (UNIX, "unix")):
        f = lists(data)
        for fields in ({}, {"list_format": form}):
            x.good("ftp: a listing as %s writes it, list_format %s" % (form, fields.get("list_format", "auto")), f.source("/", keepalive=False, **fields), ["a.csv"])
        x.bad("ftp: a listing as %s writes it is not the other form" % form, f.source("/", list_format={"dos": "unix", "unix": "dos"}[form]), "protocol")
        f.stop()
    for utf8, said in (("auto", True), ("on", True), ("off", False)):
        f = lists(UNIX)
        x.good("ftp: utf8 %s" % utf8, f.source("/", keepalive=False, utf8=utf8), ["a.csv"])
        t.is_("OPTS UTF8 ON" in f.commands, said, "ftp: utf8 %s: OPTS UTF8 ON is sent: %s" % (utf8, said))
        f.stop()
    f = lists(UNIX, PASV="listen")
    x.good("ftp: disable_epsv", f.source("/", keepalive=False, disable_epsv=True), ["a.csv"])
    t.ok("PASV" in f.commands and "EPSV" not in f.commands, "ftp: disable_epsv: PASV alone", f.commands)
    f.stop()


def http(t, x):
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre>%s</pre></body></html>"
    at_once, most, lock, together = [0], [0], threading.Lock(), threading.Event()

    def script(q):
        if q.headers.get("Authorization") != "Bearer t0ken":
            return {"status": 401}
        if q.command == "HEAD":
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
                if at_once[0] == 2:
                    together.set()
            together.wait(5)
            with lock:
                at_once[0] -= 1
            return {"headers": {"Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
        return {"status": 203 if q.path == "/203/" else 200, "headers": {"Content-Type": "text/html"},
                "body": page % b"".join(b'<a href="f%02d.csv">f</a>\n' % i for i in range(12))}
    web = Answers(script)
    names = ["f%02d.csv" % i for i in range(12)]
    source = {"source_type": "http", "url": web.url + "/", "keepalive": False, "auth": {"type": "bearer", "token_ref": x.put(x.creds, "bearer", "t0ken\n")}}
    x.good("http: auth.token_ref", dict(source, head_mode="none"), names)
    x.good("http: head_concurrency 2 of 6 connections", dict(source, max_connections=6, head_concurrency=2), names)
    t.is_(most[0], 2, "http: no more than two heads were asked for at once, and two were")
    x.bad("http: a status that is not expected", dict(source, url=web.url + "/203/", head_mode="none"), "protocol", "203")
    x.good("http: expect_status", dict(source, url=web.url + "/203/", head_mode="none", expect_status=203), names)
    web.stop()
    http_entries(t, x)
    http_signed(t, x)
    http_oauth2(t, x)


def signature_fault(q, region, service, tokens=()):
    """None, or why the request is not signed as AWS wants it. Computed from what came, without a line of the poller's."""
    h = {k.lower(): v for k, v in q.headers.items()}
    m = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$", h.get("authorization", ""))
    if not m or m.group(1, 3, 4) != (ID, region, service):
        return "authorization %r" % h.get("authorization")
    names = m.group(5).split(";")
    if "host" not in names or names != sorted(names) or [k for k in h if k.startswith("x-amz-") and k not in names]:
        return "signed headers %r" % names
    if h["x-amz-content-sha256"] != hashlib.sha256(q.body).hexdigest() or h.get("x-amz-security-token", "") not in tokens + ("",):
        return "payload or token"
    path, _, query = q.path.partition("?")
    pairs = [tuple(quote(urllib.parse.unquote_to_bytes(y)) for y in p.partition("=")[::2]) for p in query.split("&") if p]
    if service != "s3":
        path = quote(re.sub("/+", "/", path), True)
    want = sign(q.command, path, "&".join("%s=%s" % y for y in sorted(pairs)), {n: h[n] for n in names}, h["x-amz-content-sha256"], ID, SECRET, region, h["x-amz-date"], service)
    return None if want == h["authorization"] else "signature"


def http_signed(t, x):
    """auth.type aws_sigv4"""
    far = Answers(lambda q: {"headers": {"Content-Type": "text/html"}, "body": b"<html><body><h1>Index of /</h1></body></html>"})
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n%s</pre></body></html>"
    faults = []

    def script(q):
        fault = signature_fault(q, "eu-test-1", script.service, ("to/ken==",))
        faults.append((q.command, q.path, fault))
        if fault:
            return {"status": 403}
        if q.path.startswith("/far/"):
            return {"status": 302, "headers": {"Location": far.url + "/"}}
        if q.path == "/moved/":
            return {"status": 302, "headers": {"Location": "/d/?b=2&a=~1+x"}}
        if q.command == "PROPFIND":
            return {"status": 207, "headers": {"Content-Type": "application/xml"}, "body": b'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>/d/p.csv</D:href><D:propstat>'
                    b'<D:prop><D:resourcetype/><D:getcontentlength>5</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>'}
        if q.command == "HEAD":
            return {"headers": {"Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
        return {"headers": {"Content-Type": "text/html"}, "body": page % (b'<a href="in.csv">i</a>' if "sub" in q.path else
                b'<a href="a.csv">a</a>\n<a href="b%20(1)+\xc3\xa4.csv">b</a>\n<a href="get?z=1&amp;f=x/y%20z">g</a>\n<a href="sub%20dir/">s</a>\n')}
    web = Answers(script)
    auth = {"type": "aws_sigv4", "region": "eu-test-1", "access_key_id": ID, "secret_access_key": SECRET}
    source = {"source_type": "http", "url": web.url + "/d/?q=it's&a=1", "recursive": True, "query_links": "keep", "head_mode": "all"}
    names = ["a.csv", "b (1)+\u00e4.csv", "get?z=1&f=x%2Fy%20z", "sub dir/in.csv"]
    for service in ("execute-api", "s3"):
        script.service = service
        own = {} if service == "execute-api" else {"service": service}
        x.good("http: aws_sigv4, %s" % service, dict(source, auth=dict(auth, **own)), names)
        x.good("http: aws_sigv4, %s, by reference, with a session token" % service, dict(source, auth=dict({k: v for k, v in auth.items() if k != "secret_access_key"}, secret_access_key_ref=x.put(
            x.creds, "aws" + service, SECRET + "\n"), session_token_ref=x.put(x.creds, "awstoken" + service, "to/ken==\n"), **own)), names)
        x.good("http: aws_sigv4, %s, behind a redirect" % service, dict(source, url=web.url + "/moved/", recursive=False, auth=dict(auth, **own)), names[:3])
        x.good("http: aws_sigv4, %s, webdav" % service, dict(source, url=web.url + "/d/", source_type="webdav", recursive=False, auth=dict(auth, **own)), ["p.csv"])
        x.good("http: aws_sigv4, %s, POST" % service, dict(source, method="POST", body="{\"a\": 1}", auth=dict(auth, **own)), names)
        secret_set = x.put(x.creds, "awsset" + service, json.dumps({"auth": dict(auth, service=service)}))
        x.good("http: aws_sigv4, %s, of a secret set" % service, dict(source, credentials_ref=secret_set), names)
    t.is_([f for f in faults if f[2]], [], "http: aws_sigv4: each of %d requests was signed right" % len(faults))
    t.ok(len(faults) > 40 and {f[0] for f in faults} == {"GET", "HEAD", "POST", "PROPFIND"}, "http: aws_sigv4: pages, heads and PROPFIND among them", faults)
    x.bad("http: aws_sigv4, a wrong key", dict(source, auth=dict(auth, service="s3", secret_access_key="other")), "auth", "403")
    x.bad("http: aws_sigv4, no key", dict(source, auth={k: v for k, v in auth.items() if k != "secret_access_key"}), "invalid_job", "secret_access_key")
    x.bad("http: aws_sigv4, a region that is none", dict(source, auth=dict(auth, region="a/b")), "invalid_job", "auth.region")
    x.bad("http: aws_sigv4, a secret set without a region", dict(source, auth={"type": "aws_sigv4"}, credentials_ref=x.put(x.creds, "awsless", json.dumps(
        {"auth": {"access_key_id": ID, "secret_access_key": SECRET}}))), "auth", "auth.region")
    x.good("http: aws_sigv4, to another origin", dict(source, url=web.url + "/far/", same_origin_only=False, auth=dict(auth, service="s3", session_token="to/ken==")), [])
    t.ok(far.seen and not [k for _, _, h in far.seen for k in h if k.lower() == "authorization" or k.lower().startswith("x-amz-")], "http: aws_sigv4: nothing of it goes there", far.seen)
    web.stop()
    far.stop()


def http_oauth2(t, x):
    """auth.type oauth2: tokens by client credentials, kept with the connection, got anew where they are refused."""
    tls = certificate(folder())
    with open(tls[0]) as f:
        ca = f.read()
    state = {"n": 0, "valid": set(), "expires": 3600, "reply": None, "asked": [], "refused": 0, "after": None}
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n%s</pre></body></html>"
    links = b"".join(b'<a href="f%02d.csv">f</a>\n' % i for i in range(30))
    lock = threading.Lock()

    def give(q):
        with lock:
            state["asked"].append((q.command, q.path, q.headers.get("Authorization"), q.body.decode(), {k for k in q.headers if k.startswith("X-")}))
            if state["reply"]:
                return state["reply"]
            state["n"] += 1
            token = "canary-token-%d" % state["n"]
            state["valid"] = {token}
            answer = {"access_token": token, "token_type": "Bearer"}
            if state["expires"] is not None:
                answer["expires_in"] = state["expires"]
            return {"headers": {"Content-Type": "application/json"}, "body": json.dumps(answer).encode()}

    def script(q):
        with lock:
            if state["after"] is not None and len(web.seen) >= state["after"]:
                state["valid"], state["after"] = set(), None
            if q.headers.get("Authorization", "").partition("Bearer ")[2] not in state["valid"] or q.path.startswith("/never/"):
                state["refused"] += 1
                return {"status": 401}
        if q.path == "/far/":
            return {"status": 302, "headers": {"Location": far.url + "/"}}
        if q.command == "HEAD":
            return {"headers": {"Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
        return {"headers": {"Content-Type": "text/html"}, "body": page % (links if q.path == "/" else b'<a href="a.csv">a</a>\n<a href="/never/">n</a>\n')}
    idp, web = Answers(give, tls=tls), Answers(script)
    far = Answers(lambda q: {"headers": {"Content-Type": "text/html"}, "body": page % b""})
    auth = {"type": "oauth2", "token_url": idp.url + "/token?tenant=1", "client_id": "the client", "client_secret": "canary/sec=ret", "scopes": ["files.read", "more"]}
    source = {"source_type": "http", "url": web.url + "/", "tls": {"ca_pem": ca}, "head_mode": "all", "headers": {"X-Own": "v"}, "max_connections": 4}
    names = ["f%02d.csv" % i for i in range(30)]
    basic = "Basic " + base64.b64encode(b"the%20client:canary%2Fsec%3Dret").decode()
    # 1. got once, and kept with the connection
    r = x.w.run(dict(source, auth=auth))[0]
    t.ok(r["event_type"] == "job.completed" and r["matched"] == 30, "http: oauth2", r.raw)
    t.is_(state["asked"], [("POST", "/token?tenant=1", basic, "grant_type=client_credentials&scope=files.read%20more", set())], "http: oauth2: what is asked, with none of the job's headers")
    t.is_(r["sources"][0]["peer"], "127.0.0.1:%d" % web.port, "http: oauth2: the peer is the source, not who gives tokens")
    x.good("http: oauth2, the next job of the same secrets", dict(source, auth=auth), names)
    t.is_(state["n"], 1, "http: oauth2: has the same token")
    other = {k: v for k, v in auth.items() if k not in ("client_secret", "type", "scopes")}
    x.good("http: oauth2, by reference, in the body", dict(source, auth=dict(other, client_auth="body", scopes="one", client_secret_ref=x.put(x.creds, "oauth", "canary/sec=ret\n"))), names)
    t.is_(state["asked"][-1][2:4], (None, "grant_type=client_credentials&scope=one&client_id=the%20client&client_secret=canary%2Fsec%3Dret"), "http: oauth2: where token_url alone says that it is oauth2")
    r, e, dead = x.w.run(dict(source, retries=0, credentials_ref=x.put(x.creds, "wrongset", json.dumps({"auth": {"type": "oauth2", "c4nary": "x"}}))))
    t.ok(r["error"]["class"] == "auth" and "wrongset" in r["error"]["message"] and "no field of this source type" in r["error"]["message"] and
         b"c4nary" not in r.raw + dead[0].raw, "http: a secret set with a member that is none, whose name is not told", r.raw)
    x.good("http: oauth2, of a secret set", dict(source, credentials_ref=x.put(x.creds, "oauthset", json.dumps({"auth": dict(auth, scopes="set")}))), names)
    # 2. refused: another one, once
    state["valid"], n = set(), state["n"]
    x.good("http: oauth2, a kept token that is refused", dict(source, credentials_ref="oauthset"), names)
    t.is_(state["n"], n + 1, "http: oauth2: another one is got, once")
    n, state["after"] = state["n"], len(web.seen) + 12
    x.good("http: oauth2, a token that ends in the middle", dict(source, credentials_ref="oauthset"), names)
    t.ok(state["n"] == n + 1 and state["after"] is None, "http: oauth2: another one is got, once, for all that were under way", state["n"] - n)
    state["valid"], n, seen = {"nothing"}, state["n"], state["refused"]
    state["reply"] = {"body": b'{"access_token":"canary-other"}'}
    x.bad("http: oauth2, a token that the source does not take", dict(source, auth=dict(auth, scopes="a")), "auth", "401")
    t.is_(len([a for a in state["asked"] if "scope=a" in a[3]]), 1, "http: oauth2: no other is asked for then")
    state["reply"] = None
    r, e, _ = x.w.run(dict(source, url=web.url + "/d/", recursive=True, auth=dict(auth, scopes="b"), retries=0))
    t.ok(r["event_type"] in ("job.completed", "job.partial") and len(e) == 1, "http: oauth2: one folder that refuses every token does not spoil the rest", r.raw)
    # 3. how long it is kept
    for expires, times in ((20, 2), (None, 2), (3600, 1)):
        state["expires"], n = expires, state["n"]
        for _ in range(2):
            x.good("http: oauth2, expires_in %s" % expires, dict(source, auth=dict(auth, scopes="e%s" % expires)), names)
        t.is_(state["n"] - n, times, "http: oauth2: two jobs, %d tokens" % times)
    # 4. what the endpoint may answer
    big = b'{"access_token":"t","x":"' + b"a" * 70000 + b'"}'
    for what, reply, cls, words in (
            ("invalid_client", {"status": 401, "body": b'{"error":"invalid_client","error_description":"canary-echo"}'}, "auth", "401 invalid_client"),
            ("invalid_scope", {"status": 400, "body": b'{"error":"invalid_scope"}'}, "auth", "invalid_scope"), ("503", {"status": 503}, "transient", "503"),
            ("no JSON", {"body": b"<html>canary-echo"}, "protocol", "no JSON"), ("a token of two lines", {"body": b'{"access_token":"a\\r\\nX: y"}'}, "protocol", "access_token"),
            ("too much", {"body": big}, "limit", "65536"), ("a redirect", {"status": 307, "headers": {"Location": far.url + "/"}}, "protocol", "not followed"),
            ("a cut answer", {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"}, "truncated", "")):
        state["reply"] = reply
        x.bad("http: oauth2, the endpoint answers %s" % what, dict(source, auth=dict(auth, scopes="x")), cls, "/token", words)
    t.is_(far.seen, [], "http: oauth2: nothing is sent to where it redirects")
    state["reply"] = None
    # 5. where secrets and tokens go
    x.good("http: oauth2, to another origin", dict(source, url=web.url + "/far/", same_origin_only=False, auth=auth), [])
    t.ok(far.seen and not any("Authorization" in h for _, _, h in far.seen), "http: oauth2: no token goes there", far.seen)
    x.bad("http: oauth2, the endpoint's certificate is not believed", {k: v for k, v in dict(source, auth=auth).items() if k != "tls"}, "permanent", "/token")
    x.bad("http: oauth2, the endpoint is where none may be", dict(source, auth=dict(auth, token_url="https://169.254.169.254/token")), "policy", "169.254.169.254")
    for fields, words in (({"token_url": "http://h/"}, "https://"), ({"token_url": "https://u:p@h/"}, "user"), ({"client_id": None}, "client_id"), ({"client_secret": None}, "client_secret")):
        r, e, _ = x.w.run(dict(source, auth={k: v for k, v in dict(auth, **fields).items() if v}), invalid=True)
        t.ok(r["error"]["class"] == "invalid_job" and words in r["error"]["message"], "http: oauth2, refused: %s" % fields, r.raw)
    said = [y.raw for which in ("results", "events", "dlq") for y in x.w.reader(which).drain()] + [y.encode() for y in x.d.raw]
    t.is_([y for y in said if b"canary" in y], [], "http: oauth2: no secret, token or word of the endpoint is in records or the log")
    for y in (idp, web, far):
        y.stop()


def http_entries(t, x):
    """max_entries, path_escape, and directories whose links have no slash."""
    shown = {"/": b'<a href="a.csv">a</a>\n<a href="sub">sub</a>\n<a href="b.bin">b</a>\n<a href="moved">m</a>\n<a href="gone.csv">g</a>\n<a href="no">no</a>\n',
             "/sub/": b'<a href="deep">deep</a>\n<a href="c.csv">c</a>\n', "/sub/deep/": b'<a href="d.csv">d</a>\n', "/moved/": b'<a href="e.csv">e</a>\n'}
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n%s</pre></body></html>"

    def script(q):
        path = q.path
        if path == "/moved":
            return {"status": 301, "headers": {"Location": "/moved/"}}
        if path == "/gone.csv":
            return {"status": 404}
        if path == "/no":
            return {"status": 403}
        if path.startswith("/a%20b%25/"):
            path = path[len("/a%20b%25"):]
        if path.rstrip("/") + "/" in shown:
            return {"headers": {"Content-Type": "text/html; charset=utf-8"}, "body": page % shown[path.rstrip("/") + "/"]}
        return {"headers": {"Content-Type": "text/csv", "Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
    web = Answers(script)
    source = {"source_type": "http", "url": web.url + "/", "recursive": True, "keepalive": False}
    for mode in ("missing", "none"):
        r, e, _ = x.w.run(dict(source, no_slash=True, head_mode=mode), file_pattern="*.csv")
        t.ok(r["event_type"] == "job.completed" and sorted(y["relative_path"] for y in e) == ["a.csv", "moved/e.csv", "sub/c.csv", "sub/deep/d.csv"],
             "http: no_slash, head_mode %s: what is text/html or moved to a slash is a directory" % mode, r.raw, [y["relative_path"] for y in e])
        t.is_(r["listed"], r["matched"] + r["skipped"], "http: no_slash: all that was listed is matched or skipped")
    r, e, _ = x.w.run(dict(source, no_slash=True))
    t.ok(r["event_type"] == "job.partial" and [y["path"] for y in r["sources"][0]["unreadable_entries"]] == ["/no"], "http: no_slash: what is refused is named, where it is wanted", r.raw)
    n = len(web.seen)
    x.good("http: without no_slash they are files", dict(source, head_mode="none"), ["a.csv", "b.bin", "gone.csv", "moved", "no", "sub"])
    t.is_([y[:2] for y in web.seen[n:] if y[0] != "HEAD"], [("GET", "/")], "http: and no directory is read")
    x.good("http: max_entries, as many as there are", dict(source, head_mode="none", max_entries=6), ["a.csv", "b.bin", "gone.csv", "moved", "no", "sub"])
    x.bad("http: max_entries, one more than that", dict(source, head_mode="none", max_entries=5), "limit", "more than 5 entries", "max_entries")
    x.bad("http: max_entries counts over directories", dict(source, no_slash=True, max_entries=8), "limit", "max_entries")
    for fields in ({"path": "/a b%/"}, {"path": "/a%20b%25/", "path_escape": False}):
        n = len(web.seen)
        x.good("http: %s" % fields, dict(source, head_mode="none", recursive=False, **fields), ["a.csv", "b.bin", "gone.csv", "moved", "no", "sub"])
        t.is_(web.seen[-1][1], "/a%20b%25/", "http: what is asked for")
    for path in ("/a?b", "/a#b", "/a b", "/a%2Fb", "/a%00", "/%2e%2e/x"):
        x.bad("http: path_escape false: %s" % path, dict(source, path=path, path_escape=False), "invalid_job", "path")
    web.stop()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    if not ftpservers.here() or not sshd.here() or not sshd.passwords():
        t.skip_all("needs root, mount namespaces, an OpenSSH server and the packages of vsftpd and pure-ftpd")
    x = Fields(t)
    for part in (s3, version_at, sftp, ftp, http):
        t.part(part, x)
    left, right = conservation(x.d)
    t.ok(left == right and left, "accepted = ended + in flight", (left, right))
    t.is_(x.d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
