#!/usr/bin/python3
"""Strings of strangers on every channel. Servers of each type send hostile names, replies, banners, headers, error texts and
compressed or nested bombs; jobs carry hostile words in each field. Nothing of it may reach a log, a terminal, a page or a record
as it came: each line stays one line of valid JSON, no control byte steers a terminal, no markup is markup."""
import gzip
import html.parser
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import odd_ssh  # noqa: E402
import poller  # noqa: E402
import s3servers  # noqa: E402
from ftpservers import Fake  # noqa: E402
from kills import WholeLog  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, clean_env, conservation, generated, invalid, job, need, program  # noqa: E402
from webservers import Answers  # noqa: E402

# What steers a terminal or a reader: controls (C0 but newline, DEL, C1), line and paragraph separators, overrides of direction.
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MARK = "evil"           # in each payload: what has none of it was not reached
PAYLOADS = {            # as bytes that a server may send
    "ANSI": b"\x1b[2J\x1b[31mevil\x1b[0m", "OSC": b"\x1b]0;evil\x07", "bell and backspace": b"evil\x07\x08\x08", "C1 as UTF-8": b"evil\xc2\x9b2J", "C1 as a byte": b"evil\x9b2J",
    "carriage return": b"ok\revil", "line feed": b"ok\nevil", "a log line": b"ok\n{\"level\":\"error\",\"event\":\"evil\"}", "a console line": b"ok\n2026-01-01T00:00:00Z error evil",
    "a quote": b"evil\",\"level\":\"error", "a backslash": b"evil\\", "half an escape": b"evil\\u00", "markup": b"<script>evil()</script>", "an attribute": b"\" onmouseover=\"evil()",
    "an entity": b"&lt;evil&#60;b>", "bidi": "\u202eevil\u202c".encode(), "isolate": "\u2066evil\u2069".encode(), "separators": "evil\u2028x\u2029".encode(),
    "invalid UTF-8": b"evil\xff\xfe\xc0\xaf", "surrogate": b"evil\xed\xa0\x80", "overlong": b"evil\xc0\x9b[2J", "NEL": "evil\u0085x".encode(), "format": b"evil %s %n %08x",
    "tab": b"evil\tx", "DEL": b"evil\x7f", "long": b"evil" + b"A" * 3000, "null": b"evil\x00x", "metrics": b"evil\"} 1\npoller_up{x=\"",
}
PATHS = [b"../../etc/passwd", b"/etc/passwd", b"a/../../b.csv", b"..", b".", b"", b"./x.csv", b"a//b.csv", b"a/b/../../../c.csv", b"\\..\\..\\c.csv", b"%2e%2e%2fc.csv", b"..%2f..%2fc.csv",
         b"....//c.csv", b"~root/c.csv", b"file:///etc/passwd", b"C:\\c.csv", b"//host/share/c.csv", b"a\x00/../b.csv", b"\xc0\xae\xc0\xae/c.csv", b"dir/", b"/", b"//", b"a/./b.csv", b"x" * 70000]


def text(b):
    return b.decode("utf-8", "surrogateescape")


# ---- where the strings come from -------------------------------------------------------------------------------------------

def index(names):
    """An nginx JSON index, bytes as they are (but for what no JSON could hold)."""
    def quoted(n):
        out = bytearray()
        for c in n:
            out += (b"\\" + bytes([c]) if c in b"\"\\" else b"\\u%04x" % c if c < 32 else bytes([c]))
        return bytes(out)
    return b"[" + b",".join(b'{"name":"%s","type":"file","mtime":"Tue, 02 Jan 2024 03:04:05 GMT","size":5}' % quoted(n) for n in names) + b"]"


class Servers:
    """Each says the payload whose number stands in what it is asked."""

    def __init__(self):
        self.all = list(PAYLOADS.values())
        self.web = Answers(self._web)
        self.s3 = s3servers.Pages(fault=self._s3, anonymous=True)
        self.ftp = []

    def _web(self, request):
        if "/names/" in request.path:
            body = index(self.names)
            return {"raw": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body}
        m = re.match(r"/(\w+)/(\d+)/$", request.path)
        if not m:
            return {"status": 404}
        p = self.all[int(m.group(2))]
        header = re.sub(rb"[\r\n\0]", b" ", p)
        heads = {"status": b"403 %s\r\nServer: %s" % (header, header), "redirect": b"302 Found\r\nLocation: http://127.0.0.1:1/%s" % header,
                 "type": b"200 OK\r\nContent-Type: %s\r\nETag: %s" % (header, header)}
        return {"raw": b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (heads[m.group(1)], len(p)) + p}

    def _s3(self, request):
        x = b"<![CDATA[" + self.all[int(request["query"]["prefix"].strip(b"/"))] + b"]]>"
        return 400, {}, b"<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message><Region>%s</Region></Error>" % (x, x, x)

    def sources(self, i):
        """Every way in which payload i comes from a server."""
        p = re.sub(rb"[\r\n\0]", b" ", self.all[i])
        for path in ("status", "redirect", "type"):
            yield {"source_type": "http", "head_mode": "none", "url": "%s/%s/%d/" % (self.web.url, path, i)}
        yield self.s3.source(prefix="%d/" % i)
        for replies in ({"PASS": b"530 " + p}, {"CWD": b"550 " + p}, {"CWD": b"550-first\r\n " + p + b"\r\n550 last"},
                        {"LIST": ["150 x", b"-rw-r--r-- 1 " + p.replace(b" ", b"_") + b" 0 5 Nov 23  2023 " + p + b"\r\n", "226 ok"]},
                        {"LIST": ["150 x", b"", "451 x"], "SYST": b"215 " + p}):
            self.ftp.append(Fake(replies))
            yield self.ftp[-1].source()

    def stop(self):
        self.web.stop()
        self.s3.stop()
        for f in self.ftp:
            f.stop()


def ended(w, places, timeout=90):
    """The terminal records of the messages at these places."""
    want = set(places)

    def mine(rs):
        return [r for r in rs if (r["origin"]["partition"], r["origin"]["offset"]) in want]
    w.reader("results").until(lambda rs: len(mine(rs)) >= len(want), timeout, "%d terminal records" % len(want))
    return mine(w.reader("results").records)


def costs_no_worker(t, rs):
    kinds = {r["error"]["class"] for r in rs if r["error"]}
    t.ok(not kinds & {"worker_crash", "worker_protocol", "internal"}, "none costs a worker: %s" % ", ".join(sorted(kinds)))


def from_servers(t, w, s):
    places = w.push(*[job("s-%d-%d" % (i, k), dict(x, retries=0)) for i in range(len(s.all)) for k, x in enumerate(s.sources(i))])
    rs = ended(w, places)
    t.is_(len(rs), len(places), "%d payloads in each reply of a server: each job ends" % len(s.all))
    costs_no_worker(t, rs)


def outside(s, i, certificates):
    """(what, server, source): payload i before any encryption, in a certificate, and from proxies."""
    p = s.all[i]
    line = re.sub(rb"[\r\n\0]", b" ", p)
    sftp = {"source_type": "sftp", "host": "127.0.0.1", "username": "u", "password": "x", "path": "/", "host_key_check": "off"}
    for what, said in (("banner", b"SSH-2.0-" + line + b"\r\n"), ("no SSH", line + b"\r\n"), ("before the banner", b"\r\n".join([line] * 3) + b"\r\nSSH-2.0-x\r\n"),
                       ("old banner", b"SSH-1.5-" + line + b"\r\n"), ("disconnect", b"SSH-2.0-x\r\n" + odd_ssh.disconnect(p)), ("debug", b"SSH-2.0-x\r\n" + odd_ssh.debug(p) + odd_ssh.disconnect(p))):
        server = odd_ssh.Spoken(said)
        yield "ssh: " + what, server, dict(sftp, port=server.port)
    for what, said in (("status", b"HTTP/1.1 403 " + line + b"\r\nX: " + line + b"\r\n\r\n"), ("login", b"HTTP/1.1 407 x\r\nProxy-Authenticate: " + line + b"\r\n\r\n" + p), ("no HTTP", p + b"\r\n\r\n"),
                       ("headers", b"HTTP/1.1 200 " + line + b"\r\n" + line + b": " + line + b"\r\n\r\n" + p)):
        server = odd_ssh.Spoken(said, asked=True)
        proxy = {"proxy": {"url": "http://127.0.0.1:%d" % server.port}}
        yield "proxy, https: " + what, server, dict({"source_type": "http", "url": "https://127.0.0.1:1/", "head_mode": "none"}, **proxy)
        yield "proxy, sftp: " + what, server, dict(sftp, port=1, **proxy)
    pair = certificates.of(line[:60])
    if pair:
        server = odd_ssh.Spoken(b"HTTP/1.1 200 ok\r\n\r\n", asked=True, tls=pair)
        url = {"source_type": "http", "url": "https://127.0.0.1:%d/" % server.port, "head_mode": "none"}
        yield "certificate: of nobody", server, url
        with open(pair[0]) as f:
            yield "certificate: of another name", server, dict(url, tls={"ca_pem": f.read()})


def from_outside(t, w, s):
    """What a stranger may say before SSH is encrypted, in a certificate, as a proxy."""
    certificates = odd_ssh.Certificates()
    met = [x for i in range(len(s.all)) for x in outside(s, i, certificates)]
    rs = ended(w, w.push(*[job("o-%d" % k, dict(source, retries=0, connect_timeout="20s")) for k, (_, _, source) in enumerate(met)]))
    t.ok(len(rs) == len(met) and {r["event_type"] for r in rs} == {"job.failed"}, "%d answers before encryption, of certificates and proxies: each job fails" % len(met),
         [r.raw[:300] for r in rs if r["event_type"] != "job.failed"][:5])
    t.is_(sorted({what for what, server, _ in met if not server.met}), [], "each was asked")
    t.ok(sum("certificate" in what for what, _, _ in met) > len(s.all), "most payloads can stand in a certificate", len(met))
    told = {what for (what, _, _), r in zip(met, sorted(rs, key=lambda r: int(r["job_id"][2:]))) if MARK in r["error"]["message"]}
    t.ok({"ssh: banner", "certificate: of another name"} & told, "some of it is repeated: %s" % ", ".join(sorted(told)))
    costs_no_worker(t, rs)
    for _, server, _ in met:
        server.stop()


def from_ssh(t, w, s):
    """What a stranger may say behind SSH's encryption."""
    if not odd_ssh.here():
        t.skip("SSH's encrypted texts", "there is no python3-asyncssh")
        return
    ssh = odd_ssh.Ssh(s.all)
    users = ["%s-%d" % (place, i) for place in ssh.PLACES for i in range(len(s.all))]
    rs = ended(w, w.push(*[job("ssh-%s" % u, ssh.source(u, retries=0, follow_symlinks="files")) for u in users]))
    t.is_(sorted(set(users) - ssh.met), [], "sftp: %d texts behind the encryption: each was said" % len(users))
    t.is_({(r["job_id"].split("-")[1], r["event_type"]) for r in rs}, {(p, "job.completed" if p in ("longname", "target") else "job.failed") for p in ssh.PLACES}, "each job ends as it should")
    t.ok({r["job_id"].split("-")[1] for r in rs if r["error"] and MARK in r["error"]["message"]} >= {"open", "read"}, "the words of STATUS are repeated, at least", [r["error"] for r in rs][:2])
    costs_no_worker(t, rs)
    r, events, _ = w.run(ssh.source("names-0"), filters={"include_hidden": True}, job_id="names-sftp-%d" % len(users))
    t.ok(r["event_type"] in ("job.completed", "job.partial") and len(events) > len(s.all) // 2, "sftp: %d of %d names are reported" % (len(events), len(s.all)), r.raw[:800])
    judge(t, "sftp", events, "sftp://127.0.0.1:%d/t/" % ssh.port)
    ssh.stop()


def names(t, w, s):
    """Names and paths: reported as they are, in a form that stays one name; or refused and counted. Never a way out of the root."""
    s.names = [b"a.csv", b""]
    r, events, _ = w.run({"source_type": "http", "url": s.web.url + "/names/", "index_format": "json", "retries": 0}, job_id="names-none")
    t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "protocol" and not events, "http: an entry without a name is a broken page, not a short one", r.raw[:800])
    s.names = list(PAYLOADS.values()) + [p for p in PATHS if p]
    r, events, _ = w.run({"source_type": "http", "url": s.web.url + "/names/", "index_format": "json", "head_mode": "none"}, filters={"include_hidden": True}, job_id="names-http")
    t.ok(r["event_type"] == "job.partial" and r["sources"][0]["unreadable"] > 5, "http: a page of hostile names: those that are none are counted and named", r.raw[:800])
    judge(t, "http", events, s.web.url + "/names/")
    s.names = [p for p in PAYLOADS.values()]
    r, events, _ = w.run({"source_type": "http", "url": s.web.url + "/names/", "index_format": "json", "head_mode": "none"}, filters={"include_hidden": True}, job_id="names-http-2")
    t.ok(len(events) > len(PAYLOADS) // 2, "http: %d of %d are reported" % (len(events), len(s.names)), r.raw[:800])
    keys = s3servers.Pages([p for p in PAYLOADS.values() if b"\0" not in p and len(p) < 1024 and p.isascii()] + [p for p in PATHS if p and len(p) < 1024 and p.isascii() and b"\0" not in p], anonymous=True)
    r, events, _ = w.run(keys.source(recursive=True), filters={"include_hidden": True}, job_id="names-s3")
    t.ok(r["event_type"] in ("job.completed", "job.partial") and len(events) > 20, "s3: keys that are paths are keys", r.raw[:800])
    judge(t, "s3", events, None, keys=True)
    keys.stop()


def judge(t, what, events, root, keys=False):
    bad = []
    for e in events:
        n = e["file_name"]
        if not n or (not keys and ("/" in n or n in (".", ".."))):
            bad.append("file_name %r" % n)
        if not keys and any(c in ("", ".", "..") for c in e["relative_path"].split("/")):
            bad.append("relative_path %r" % e["relative_path"])
        if root and not e["file_url"].startswith(root):
            bad.append("file_url %r" % e["file_url"])
        if re.search(r"[^\x21-\x7e]|%(?![0-9A-Fa-f]{2})|[\"<>\\^`{|}]", e["file_url"]):
            bad.append("file_url is none: %r" % e["file_url"])
    t.ok(events and not bad, "%s: each event is of one file below the root" % what, "\n".join(bad[:10]), len(events))


# ---- what jobs carry ---------------------------------------------------------------------------------------------------------------

def from_jobs(t, w, step):
    """Every field of a job that is text, with each payload (or each step-th) that JSON can carry."""
    jobs = []
    for p in list(PAYLOADS.values())[::step]:
        x = p.decode("utf-8", "replace")
        for fields in ({"metadata": {x: x}}, {"file_pattern": x}, {"org_id": x[:100]}, {"filters": {"include": [x]}}, {"priority": x}, {"scheduled_at": x}, {"timeout": x}, {x[:60]: 1}, {"api_keys": {x: x}}):
            jobs.append(job("j-%d" % len(jobs), generated(1), **fields))
        for source in ({"source_type": x}, generated(1, source_id=x[:100]), generated(1, name_template=x), {"source_type": "local", "path": "/" + x}, {"source_type": "dummy", "path": x},
                       {"source_type": "http", "url": x}, {"source_type": "http", "url": "http://127.0.0.1:1/" + x}, {"source_type": "http", "url": "http://127.0.0.1:1/", "headers": {"X": x}},
                       {"source_type": "ftp", "host": x}, {"source_type": "ftp", "host": "127.0.0.1", "port": 1, "username": x, "path": x}, {"source_type": "s3", "bucket": x},
                       {"source_type": "s3", "bucket": "b", "endpoint": x}, {"source_type": "sftp", "host": "127.0.0.1", "port": 1, "username": x, "password": x},
                       {"source_type": "sftp", "host": "127.0.0.1", "port": 1, "username": "u", "private_key": x, "known_hosts": x}, generated(1, credentials_ref=x), dict(generated(1), **{x[:60]: x})):
            jobs.append(job("j-%d" % len(jobs), dict(source, retries=0)))
        jobs.append(job(x, generated(1)))
    # As text with \\u escapes, as raw UTF-8, and bytes that are no JSON at all.
    raw = [json.dumps(j, ensure_ascii=False).encode("utf-8", "replace") for j in jobs[::7]]
    rs = ended(w, w.push(*map(invalid, jobs + raw + list(PAYLOADS.values()))))
    t.ok(len(rs) > len(jobs), "%d jobs with a hostile word in one field: each ends" % len(rs))
    costs_no_worker(t, rs)


# ---- bombs -------------------------------------------------------------------------------------------------------------------------

def bombs(t, w, d):
    """Small answers that unfold: each ends soon, in a class of its own, and the worker stays small."""
    zeros = gzip.compress(b"\0" * (256 << 20), 9)
    lol = b"<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\">" + b"".join(
        b"<!ENTITY %s \"%s\">" % (bytes([98 + i]), (b"&%s;" % bytes([97 + i])) * 10) for i in range(9)) + b"]><ListBucketResult><Name>&j;</Name></ListBucketResult>"
    deep = b"<?xml version=\"1.0\"?><ListBucketResult>" + b"<a>" * 2000000
    html = b"<html><body>" + b"<div>" * 2000000
    brackets = b"[" * 4000000
    answers = {"/gzip/": ({"Content-Encoding": "gzip", "Content-Type": "text/html"}, zeros), "/lol/": ({"Content-Type": "text/xml"}, lol), "/deep/": ({"Content-Type": "text/xml"}, deep.replace(b"ListBucketResult", b"list")),
               "/html/": ({"Content-Type": "text/html"}, html), "/json/": ({"Content-Type": "application/json"}, brackets), "/name/": ({"Content-Type": "application/json"}, b'[{"name":"' + b"A" * (8 << 20) + b'"}]'),
               "/attribute/": ({"Content-Type": "text/html"}, b"<html><a href=\"" + b"A" * (8 << 20) + b"\">x</a></html>"), "/header/": ({"X-Long": "A" * 400000, "Content-Type": "text/html"}, b"<html></html>")}
    # A page of nothing is no index; libcurl 7.88 calls a header line that is too long for it a lack of memory.
    also = {"/html/": "permanent", "/header/": "system"}
    forms = {"/gzip/": "html", "/lol/": "xml", "/deep/": "xml", "/html/": "html", "/json/": "json", "/name/": "json", "/attribute/": "html", "/header/": "html"}
    web = Answers(lambda r: {"headers": dict(answers[r.path][0]), "body": answers[r.path][1]} if r.path in answers else {"status": 404})
    s3 = s3servers.Pages(anonymous=True, fault=lambda r: (200, {"Content-Type": "application/xml"}, lol if b"lol" in r["query"].get("prefix", b"") else deep))
    for what, source in [(p, {"source_type": "http", "url": web.url + p, "index_format": f}) for p, f in forms.items()] + [("s3 lol", s3.source(prefix="lol")), ("s3 deep", s3.source(prefix="deep"))]:
        r, events, _ = w.run(dict(source, retries=0), timeout=60)
        cls = (r["error"] or {}).get("class")
        # A name that is no name alone is counted and named; the rest of its page would stand.
        t.ok((cls == also.get(what, "limit") or cls in ("limit", "protocol") or what == "/name/" and r["event_type"] == "job.partial") and not events, "%s: %s" % (what, cls), r["error"], r["sources"][0]["unreadable_entries"])
    peak = 0
    for pid in d.workers().values():
        with open("/proc/%d/status" % pid) as f:
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)))
    t.ok(poller.SANITIZED or peak < 64 << 10, "no worker grew beyond 64 MiB: %d KiB" % peak)
    web.stop()
    s3.stop()


# ---- the channels ------------------------------------------------------------------------------------------------------------------

class Markup(html.parser.HTMLParser):
    """The tags of a page and their attributes' names, as a browser takes them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(k for k, _ in attrs)


def terminal(d, *argv):
    """stdout and stderr of the admin tool, as bytes would reach a terminal."""
    p = subprocess.run([program("iis-pollerctl"), "-c", d.file] + list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), timeout=120)
    return p.stdout + p.stderr


def steering(data):
    """The first place of bytes that steer, or None. What is not UTF-8 steers, too."""
    try:
        m = STEERING.search(data.decode("utf-8"))
    except UnicodeDecodeError as e:
        return repr(data[max(0, e.start - 40):e.start + 20])
    return m and repr(data.decode()[max(0, m.start() - 60):m.start() + 20])


def channels(t, w, d):
    for args in (("status",), ("workers",), ("jobs",), ("crashes",), ("endpoints",), ("peek", "results", "-n", "100000"), ("peek", "dlq", "-n", "100000"), ("peek", "events", "-n", "100000"),
                 ("peek", "jobs", "-n", "100000"), ("--json", "peek", "dlq", "-n", "100000"), ("--json", "status"), ("--json", "endpoints")):
        out = terminal(d, *args)
        t.ok(out and steering(out) is None, "iis-pollerctl %s: nothing steers the terminal" % " ".join(args), steering(out))
        if "dlq" in args:
            t.ok(MARK.encode() in out, "and the payloads were in it", out[-300:])
    for p in ("/status", "/status.json", "/metrics", "/health", "/readyz"):
        body = d.http(p)[1].encode()
        t.ok(body and steering(body) is None, "%s: nothing steers" % p, steering(body))
    seen = Markup()
    seen.feed(d.http("/status")[1])
    t.is_((sorted(seen.tags & {"script", "b", "iframe", "img"}), sorted(x for x in seen.attributes if x.startswith("on"))), ([], []),
          "/status: no markup of a stranger")
    t.ok(all(re.match(r"^(#.*|[a-z_]+(\{[^\n]*\})? [-+.\deE]+(Inf|NaN)?)?$", x) for x in d.http("/metrics")[1].split("\n")), "/metrics: each line is a sample")
    raw = b"".join(r.raw + b"\n" for which in ("results", "dlq", "events") for r in w.reader(which).drain())
    m = re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)
    t.ok(MARK.encode() in raw and not m, "records: no control byte", m and raw[max(0, m.start() - 200):m.start() + 50])


def logs(t, d, form):
    with open(os.path.join(d.dir, "stderr.%d" % Daemon.all.index(d)), "rb") as f:
        data = f.read()
    lines = data.split(b"\n")
    bad = [x for x in lines if steering(x) is not None or len(x) > 20000]
    t.ok(MARK.encode() in data and not bad, "the %s log: %d lines, none steers" % (form, len(lines)), *[steering(x) for x in bad[:5]])
    if form == "json":
        wrong = []
        for x in lines[:-1]:
            try:
                if json.loads(x).get("event") in (None, "evil"):
                    wrong.append(x)
            except ValueError:
                wrong.append(x)
        t.ok(not wrong, "each of its lines is one JSON object of ours", *wrong[:3])
    else:
        wrong = [x for x in lines[:-1] if not re.match(rb"\d{4}-\d\d-\d\dT[\d:.]+Z (error|warn|info|debug)\s+\w+( |$)", x) or re.match(rb"2026-01-01T00:00:00Z error evil", x)]
        t.ok(not wrong, "each of its lines is one of ours", *wrong[:3])


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    s = Servers()
    conf = {"egress.allow": ["127.0.0.1/32"], "log.level": "debug", "workers.count": 3, "jobs.unknown_fields": "warn", "local.allowed_roots": ["/"], "network.allow_unknown_hosts": True}
    w = World(b)
    d = WholeLog(w, conf)
    for part in (from_servers, from_outside, from_ssh, names):
        t.part(part, w, s)
    t.part(from_jobs, w, 1)
    t.part(bombs, w, d)
    t.part(channels, w, d)
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)
    t.is_(d.stop(), 0, "it stops")
    t.part(logs, d, "json")
    t.is_([x for x in d.logged("worker_died") if x["cause"] not in ("clean", "recycled", "exchanged")], [], "no worker died of it")
    c = World(b)
    e = WholeLog(c, dict(conf, **{"log.format": "console"}), ready=False)
    poller.wait_for("a line that says ready", lambda: any(re.search(r" ready\b", x) for x in e.raw), 40)
    for part in (from_servers, from_outside, from_ssh):
        t.part(part, c, s)
    t.part(from_jobs, c, 4)
    t.is_(e.stop(), 0, "the one with a console log stops")
    t.part(logs, e, "console")
    e.bad_lines.clear()         # they are no JSON, as was asked for
    s.stop()


with Tap() as tap:
    main(tap)
