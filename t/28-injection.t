#!/usr/bin/python3
"""No job and no server writes a command of its own into what workers send: line breaks, NULs and their disguises in every
field that iis-pollerctl sources lists, in patterns and filters, and in the names that servers show. Every byte that reaches
the servers is recorded and read as lines."""
import base64
import json
import os
import re
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, folder, invalid, job, need, program, run, wait_for  # noqa: E402

MARK = "INJECTED"
# What may end a line for somebody: as it is, percent-encoded, in a charset that is cut to bytes, as YAML and JSON write it.
BREAKS = {"CR LF": "\r\n", "LF": "\n", "CR": "\r", "NUL": "\0", "percent": "%0d%0a", "twice percent": "%250d%250a", "percent NUL": "%00", "NEL": "\x85",
          "line separator": "\u2028", "low bytes": "\u010d\u010a", "full-width": "\uff0d\uff0a", "VT FF": "\v\f", "telnet IAC": "\u00ff\u00f4\r\n", "backslashes": "\\r\\n"}


def payloads(before="x"):
    return [(name, "%s%s%s z" % (before, b, MARK)) for name, b in BREAKS.items()]


# ---- servers that write down what they are sent --------------------------------------------------------------------------------------

class Recorder:
    def __init__(self):
        self.lock = threading.Lock()
        self.got = []                   # bytearrays, one for each connection
        self.s = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            c, _ = self.s.accept()
            with self.lock:
                self.got.append(bytearray())
            threading.Thread(target=self._one, args=(c, self.got[-1]), daemon=True).start()

    def _one(self, c, record):
        try:
            with c:
                c.settimeout(20)
                self.serve(c, record)
        except (OSError, ValueError, IndexError):
            pass

    def lines(self, c, record):
        """Lines as a lax server reads them: CR, LF and NUL each end one."""
        line = b""
        while True:
            b = c.recv(1)
            if not b:
                return
            record += b
            if b in b"\r\n\0":
                if line:
                    yield line
                line = b""
            else:
                line += b

    def injected(self):
        """(lines that begin with the mark, lines in all, bytes in all)"""
        with self.lock:
            lines = [x for r in self.got for x in re.split(rb"[\r\n\0]", bytes(r)) if x]
            return [x for x in lines if x.startswith(MARK.encode())], len(lines), sum(len(r) for r in self.got)


class Ftp(Recorder):
    """Lists directories whose names would be commands."""

    def listing(self):
        names = [b"a\rINJECTED b", b"INJECTED", b"b\0INJECTED c", b"c\xff\xf4INJECTED d", b"d\x0bINJECTED", b"e%0d%0aINJECTED f", b"g\xc4\x8d\xc4\x8aINJECTED h"]
        return b"".join(b"drwxr-xr-x 2 0 0 0 Jan 01 2024 " + n + b"\r\n" for n in names) + b"-rw-r--r-- 1 0 0 5 Jan 01 2024 f.csv\r\n"

    def serve(self, c, record):
        c.sendall(b"220 hello\r\n")
        depth, data = 0, None
        for line in self.lines(c, record):
            verb, _, rest = line.partition(b" ")
            verb = verb.upper()
            if verb == b"EPSV":
                data = socket.create_server(("127.0.0.1", 0))
                c.sendall(b"229 ok (|||%d|)\r\n" % data.getsockname()[1])
            elif verb == b"LIST" and data:
                c.sendall(b"150 here\r\n")
                d, _ = data.accept()
                with d:
                    d.sendall(b"" if depth else self.listing())
                data.close()
                data = None
                c.sendall(b"226 done\r\n")
            elif verb == b"CWD":
                depth = rest.rstrip(b"/").count(b"/") if rest.startswith(b"/top") else 0
                c.sendall(b"250 there\r\n")
            elif verb == b"PWD":
                c.sendall(b"257 \"/\"\r\n")
            elif verb == b"USER":
                c.sendall(b"331 password\r\n")
            elif verb == b"PASS":
                c.sendall(b"230 in\r\n")
            elif verb == b"TYPE":
                c.sendall(b"200 ok\r\n")
            elif verb == b"QUIT":
                c.sendall(b"221 bye\r\n")
                return
            else:
                c.sendall(b"502 no\r\n")


INDEX = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n%s</pre></body></html>"
XML = """<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>b</Name><IsTruncated>%s</IsTruncated>%s<Contents><Key>f.csv</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>
<ETag>"e"</ETag><Size>5</Size></Contents></ListBucketResult>"""


class Http(Recorder):
    """Index pages whose links would be requests; as a bucket, a page whose token would."""

    def serve(self, c, record):
        head = []
        for line in self.lines(c, record):
            head.append(line)
            if not record.endswith(b"\r\n\r\n") and not bytes(record[-2:]) == b"\r\n":
                # the end of a head shows only when the empty line has come
                rest = c.recv(1)
                record += rest
                if rest == b"\n":
                    peek = c.recv(2, socket.MSG_PEEK)
                    if peek == b"\r\n":
                        record += c.recv(2)
                        self.answer(c, head)
                        head = []

    def answer(self, c, head):
        target = head[0].split(b" ")[1]
        if b"list-type=2" in target:
            more = b"continuation-token" not in target
            body = (XML % ("true" if more else "false", "<NextContinuationToken>t&#13;&#10;INJECTED: x</NextContinuationToken>" if more else "")).encode()
            kind = b"application/xml"
        else:
            links = [b"a%0d%0aINJECTED%20b/", b"c%00INJECTED/", b"d&#13;&#10;INJECTED e/", b"e\r\nINJECTED f/", b"INJECTED/", b"g%0aINJECTED.csv"]
            top = b"" if target.count(b"/") > 2 else b"".join(b"<a href=\"" + x + b"\">x</a>  01-Jan-2024 00:00  -\n" for x in links)
            body, kind = INDEX % top, b"text/html"
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nLink: <?p=%%0d%%0aINJECTED>; rel=prev\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)))
        if not head[0].startswith(b"HEAD"):
            c.sendall(body)


class Connect(Recorder):
    """A proxy of HTTP; what goes through it is not for it to read."""

    def serve(self, c, record):
        end = b""
        while not end.endswith(b"\r\n\r\n"):
            b = c.recv(1)
            if not b:
                return
            end += b
            record += b
        c.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
        while True:
            data = c.recv(65536)
            if not data:
                return
            record += data
            c.sendall(b"SSH-2.0-none\r\n")


# ---- jobs ----------------------------------------------------------------------------------------------------------------------------

def fields_of(kind):
    """Names of the fields that hold texts, of this type's and the common ones."""
    code, out, err = run(program("iis-pollerctl"), "sources", kind, "--json")
    rows = [json.loads(x) for x in out.splitlines()]
    got = [x["field"] for x in rows if x["served"] and x["kind"] not in ("number", "duration", "size", "boolean", "time")]
    if code or len(got) < 5:
        raise RuntimeError("iis-pollerctl sources %s: %r %r" % (kind, out[:300], err))
    return got


def with_field(source, name, value):
    """A copy of the source; "tls.ca_pem" is the member ca_pem of the object tls."""
    s = json.loads(json.dumps(source))
    at = s
    *path, last = name.split(".")
    for p in path:
        at = at.setdefault(p, {})
    at[last] = value
    return s


def values(name, text):
    """The text as the field may hold it."""
    if name == "headers":
        return [{"X-A": text}, {text: "v"}]
    if name in ("host_keys", "host_key_fingerprint", "storage_classes", "exclude_storage_classes"):
        return [[text]]
    return [text]


def jobs_of(kind, source, addressed):
    """Every field with every payload; addressed: fields whose text begins with something that leads to the recorder."""
    got = []
    for name in fields_of(kind):
        if name in ("source_type", "source_id"):
            continue
        for what, text in payloads(addressed.get(name, "x")):
            for v in values(name, text):
                got.append(("%s %s %s" % (kind, name, what), with_field(source, name, v), {}))
    for what, text in payloads():
        got.append(("%s file_pattern %s" % (kind, what), source, {"file_pattern": text}))
        got.append(("%s file_pattern **/ %s" % (kind, what), source, {"file_pattern": "**/" + text}))
        got.append(("%s done_file %s" % (kind, what), source, {"filters": {"done_file": text}}))
        got.append(("%s include %s" % (kind, what), source, {"filters": {"include": [text], "in_progress_suffixes": [text], "exclude_dirs": [text]}}))
    return got


def push(world, rows):
    """{name: terminal record} of all of them"""
    names = {}
    for i, (name, source, fields) in enumerate(rows):
        j = job("i%d" % (len(names) + push.count), dict({"retries": 0, "connect_timeout": "5s", "response_timeout": "5s", "idle_timeout": "5s"}, **source), timeout="20s", **fields)
        names[j["job_id"]] = (name, invalid(j))
    push.count += len(names)
    world.push(*[j for _, j in names.values()])

    # of a message that is no JSON for the poller (NUL in a member's name) nobody knows the job_id
    records = world.reader("results").read(push.count, 120)[push.count - len(names):]
    return [(names.get(r["job_id"], ("unread job job",))[0], r) for r in records]


push.count = 0


def by_master(r):
    """No worker saw it."""
    return r["error"] is not None and r["error"]["class"] in ("invalid_job", "policy", "unsupported") and not (r["sources"] and r["sources"][0]["peer"])


def judge(t, what, recorder, results, least):
    bad, lines, n = recorder.injected()
    ran = sum(1 for _, r in results if r["sources"] and r["sources"][0]["peer"])
    refused = sum(1 for _, r in results if by_master(r))
    t.is_(bad, [], "%s: injected commands: 0 of %d jobs (%d lines, %d bytes at the server)" % (what, len(results), lines, n))
    t.ok(ran >= least and refused, "%s: jobs reached the server (%d), and jobs were refused before (%d)" % (what, ran, refused))


def refused_before(t, what, results, names):
    """Of these fields CR, LF and NUL never leave the master."""
    late = [n for n, r in results if n.split(" ")[1] in names and n.split(" ", 2)[2] in ("CR LF", "LF", "CR", "NUL") and not by_master(r)]
    t.is_(late, [], "%s: CR, LF and NUL are refused at validation in %s" % (what, ", ".join(names)))


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker")
    ftp, http, s3, proxy = Ftp(), Http(), Http(), Connect()
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8"], "workers.count": 8, "retry.max_attempts": 0, "network.tasks_per_endpoint": 64, "credentials.file_roots": [folder()]})
    base = {"source_type": "ftp", "host": "127.0.0.1", "port": ftp.port, "path": "/top", "username": "u", "password": "p", "recursive": True}
    rows = jobs_of("ftp", base, {"path": "/top/x"})
    for encoding in ("iso-8859-1", "windows-1252"):
        rows += [("ftp path+%s %s" % (encoding, what), dict(base, encoding=encoding, path=text), {}) for what, text in payloads("/top/x")]
    got = push(w, rows)
    judge(t, "ftp", ftp, got, 150)
    refused_before(t, "ftp", got, ("path", "username", "password", "host", "list_command"))
    base = {"source_type": "http", "url": "http://127.0.0.1:%d/" % http.port, "recursive": True, "auth": {"type": "basic", "username": "u", "password": "p"}}
    at = "http://127.0.0.1:%d/" % http.port
    rows = jobs_of("http", base, {"url": at + "x"})
    rows += [("http query %s" % what, dict(base, url=at + "?q=" + text), {}) for what, text in payloads()]
    rows += [("http host %s" % what, dict(base, url="http://127.0.0.1:%d%s/" % (http.port, text.replace(" ", ""))), {}) for what, text in payloads("")]
    for kind, extra in (("bearer", {"token": "%s"}), ("header", {"token": "%s"}), ("digest", {"username": "%s", "password": "p"}), ("basic", {"username": "u", "password": "%s"}),
                        ("aws_sigv4", {"region": "r", "access_key_id": "%s", "secret_access_key": "%s", "session_token": "%s"})):
        rows += [("http auth=%s %s" % (kind, what), dict(base, auth=dict({k: v % text if "%s" in v else v for k, v in extra.items()}, type=kind)), {}) for what, text in payloads()]
    rows += [("http content_type %s" % what, dict(base, method="POST", body="b", content_type=text), {}) for what, text in payloads()]
    rows += [("http webdav %s" % what, dict(base, source_type="webdav", path=text), {}) for what, text in payloads()]
    got = push(w, rows)
    judge(t, "http", http, got, 150)
    refused_before(t, "http", got, ("url", "headers", "host", "query", "content_type", "auth.region", "auth.service", "auth.access_key_id", "auth.secret_access_key",
                                     "auth.session_token", "auth.token_url", "auth.client_id", "auth.client_secret", "auth.scopes", "cookies"))
    base = {"source_type": "s3", "endpoint": "http://127.0.0.1:%d" % s3.port, "bucket": "b", "access_key_id": "AKID", "secret_access_key": "s", "recursive": True}
    got = push(w, jobs_of("s3", base, {"endpoint": "http://127.0.0.1:%d/x" % s3.port}))
    judge(t, "s3", s3, got, 150)
    refused_before(t, "s3", got, ("bucket", "region", "endpoint"))
    base = {"source_type": "sftp", "host": "127.0.0.1", "port": 22, "username": "u", "password": "p", "host_key_fingerprint": "SHA256:" + "A" * 43, "path": "/",
            "proxy": {"url": "http://127.0.0.1:%d" % proxy.port, "username": "u", "password": "p"}}
    got = push(w, jobs_of("sftp", base, {"proxy.url": "http://127.0.0.1:%d/" % proxy.port, "path": "/x"}))
    judge(t, "sftp through a proxy", proxy, got, 50)
    refused_before(t, "sftp", got, ("host", "ciphers"))
    # the recorder would see it
    for r in (ftp, http, s3, proxy):
        with socket.create_connection(("127.0.0.1", r.port), 5) as s:
            s.sendall(b"GET / HTTP/1.1\r\n" + MARK.encode() + b": x\r\n\r\n")
            seen = wait_for("the recorder", lambda: r.injected()[0])
        t.is_(len(seen), 1, "control: the recorder of %s sees a line that is one" % type(r).__name__)
    login = base64.b64encode(b"u:p")
    t.ok(any(login in bytes(x) for x in http.got), "control: ordinary fields of the same jobs were sent")
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
