#!/usr/bin/python3
"""Fields of network sources that no other flow drives: what they make the poller send, from files and references, too."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
import trees  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need  # noqa: E402
from s3servers import ID, SECRET, Pages  # noqa: E402
from webservers import Answers  # noqa: E402

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


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    if not ftpservers.here() or not sshd.here() or not sshd.passwords():
        t.skip_all("needs root, mount namespaces, an OpenSSH server and the packages of vsftpd and pure-ftpd")
    x = Fields(t)
    for part in (s3, sftp, ftp, http):
        t.part(part, x)
    left, right = conservation(x.d)
    t.ok(left == right and left, "accepted = ended + in flight", (left, right))
    t.is_(x.d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
