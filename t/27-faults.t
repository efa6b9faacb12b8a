#!/usr/bin/python3
"""What can be wrong with a source of the network, one table over every type: class, phase, peer, attempts; no file is invented."""
import os
import re
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
import trees  # noqa: E402
from poller import ROOT, Daemon, MockBroker, Tap, World, closed_port, conservation, folder, invalid, job, need  # noqa: E402
from s3servers import Pages  # noqa: E402
from servers import Proxy  # noqa: E402
from webservers import Answers  # noqa: E402

LIMITS = {"retries": 1, "retry_delay": "10ms", "keepalive": False}
SHORT = {"connect_timeout": "700ms", "response_timeout": "700ms", "idle_timeout": "700ms"}
ODD = os.path.join(os.path.dirname(os.path.abspath(sshd.__file__)), "odd_sftp.py")
KEYS = {"access_key_id": "AKID", "secret_access_key": "x"}


def tried_again():
    """Classes of which another attempt is made: the list's own word."""
    with open(os.path.join(ROOT, "common/errors.def")) as f:
        return set(re.findall(r'^ERR\(\w+, "(\w+)", RETRY,', f.read(), re.M))


class Mute:
    """Takes connections and says nothing (first: but this); half: the other end's close is not seen, either."""

    def __init__(self, first=b""):
        self.s, self.first, self.held = socket.create_server(("127.0.0.1", 0)), first, []
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c = self.s.accept()[0]
            except OSError:
                return
            c.sendall(self.first)
            self.held.append(c)


def full_port():
    """A port whose queue is full: connects are neither taken nor refused."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(0)
    held = [s]
    for _ in range(20):
        c = socket.socket()
        c.settimeout(0.3)
        held.append(c)
        try:
            c.connect(s.getsockname())
        except socket.timeout:
            return held
    raise RuntimeError("the queue of a listening socket does not fill")


def html(*links):
    body = "<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre>%s</pre></body></html>" % "".join(
        '<a href="%s">%s</a>  01-Jan-2024 00:00  5\n' % (x, x) for x in links)
    return {"headers": {"Content-Type": "text/html"}, "body": body.encode()}


class Table:
    """Rows: (what, source, class or classes, phase, port of the peer, words of the message). They run together."""

    def __init__(self):
        self.rows, self.keep = [], []

    def add(self, what, source, cls, phase, port, *words, **fields):
        self.rows.append((what, dict(LIMITS, **source), (cls,) if isinstance(cls, str) else cls, phase, port, words, fields))

    def held(self, server):
        self.keep.append(server)
        return server


def http(port, **fields):
    return dict({"source_type": "http", "url": "http://127.0.0.1:%d/" % port}, **fields)


def s3(port, **fields):
    return dict({"source_type": "s3", "endpoint": "http://127.0.0.1:%d" % port, "bucket": "b"}, **KEYS, **fields)


def ftp(port, **fields):
    return dict({"source_type": "ftp", "host": "127.0.0.1", "port": port, "path": "/"}, **fields)


def sftp(port, **fields):
    return dict({"source_type": "sftp", "host": "127.0.0.1", "port": port, "path": "/t", "username": "u", "password": "x", "host_key_fingerprint": "SHA256:" + "A" * 43}, **fields)


# type: (source at a port, where it stands when nothing answers it)
PLAIN = {"http": (http, "list"), "s3": (s3, "list"), "ftp": (ftp, "open"), "sftp": (sftp, "open")}


def no_answer(a):
    """Before a word was spoken: refused, unreachable, deaf, silent, and silent in the midst."""
    deaf, mute, closed = a.held(full_port()), a.held(Mute()), closed_port()
    begun = {"http": b"HTTP/1.1 200 OK\r\nContent-Ty", "s3": b"HTTP/1.1 200 OK\r\nContent-Ty", "ftp": b"220 welc", "sftp": b"SSH-2.0-Odd"}
    for kind, (at, phase) in PLAIN.items():
        a.add("%s: refused" % kind, at(closed), "transient", phase, closed)
        a.add("%s: the queue is full" % kind, at(deaf[0].getsockname()[1], **SHORT), "timeout", phase, deaf[0].getsockname()[1], "connect_timeout")
        a.add("%s: a server that says nothing" % kind, at(mute.port, **SHORT), "timeout", phase, mute.port)
        half = a.held(Mute(begun[kind]))
        a.add("%s: half open: a part of the first word, then nothing" % kind, at(half.port, **SHORT), "timeout", phase, half.port)
        gone = a.held(Mute(begun[kind]))
        drip = a.held(Proxy(("127.0.0.1", gone.port), cut_at=len(begun[kind]) - 2))
        a.add("%s: cut within the first word" % kind, at(drip.port), ("transient", "truncated", "protocol"), phase, drip.port)
        # TCP has no way to the broadcast address of lo: what connect(2) says at once of a network without a route
        there = at(4444)
        there.update({"http": {"url": "http://127.255.255.255:4444/"}, "s3": {"endpoint": "http://127.255.255.255:4444"}}.get(kind, {"host": "127.255.255.255"}))
        a.add("%s: unreachable" % kind, there, "transient", phase, 4444, "127.255.255.255")


def slow(a, root, keys):
    """A server that answers, but never gets to the end: the job's own deadline ends it."""
    index = a.held(Answers(lambda q: html(*["f%03d.csv" % i for i in range(900)])))
    bucket = a.held(Pages([b"k%03d.csv" % i for i in range(900)]))
    files = a.held(ftpservers.Fake({"LIST": ["150 here", b"".join(b"-rw-r--r-- 1 0 0 5 Nov 23  2023 f%03d.csv\r\n" % i for i in range(300)), "226 ok"]}))
    ssh = a.held(sshd.Sshd(keys))
    for kind, port, source in (("http", index.port, http), ("s3", bucket.port, s3), ("ftp", files.port, ftp), ("sftp", ssh.port, None)):
        x = a.held(Proxy(("127.0.0.1", port), rate=300))
        s = source(x.port) if source else ssh.source(root, port=x.port, known_hosts=ssh.known_hosts(port=x.port))
        # FTP's data connections do not go through here; its greeting and login do
        a.add("%s: slow: 300 bytes a second" % kind, dict(s, retries=0), "timeout", None, x.port if kind != "ftp" else None, timeout="400ms" if kind == "ftp" else "1500ms")


def logins(a, root, keys):
    """Who we are, and who they are."""
    wrong = a.held(Answers(lambda q: {"status": 401, "headers": {"WWW-Authenticate": 'Basic realm="x"'}}))
    a.add("http: wrong password", http(wrong.port, auth={"type": "basic", "username": "u", "password": "bad-secret"}), "auth", "list", wrong.port, "401")
    bucket = a.held(Pages([b"a.csv"]))
    a.add("s3: wrong secret key", dict(bucket.source(), secret_access_key="bad-secret"), "auth", "list", bucket.port, "SignatureDoesNotMatch")
    pure = a.held(ftpservers.PureFtpd(root))
    a.add("ftp: wrong password", pure.source("/", password="bad-secret"), "auth", "open", pure.port, "530")
    if not sshd.passwords():
        Tap.current.skip("sftp: wrong password", "no mount namespaces")
    else:
        s = a.held(sshd.Sshd(keys, password=True))
        a.add("sftp: wrong password", s.source(root, private_key=None, password="bad-secret"), "auth", "open", s.port, "password")
    s, other = a.held(sshd.Sshd(keys)), a.held(sshd.Sshd(keys))
    a.add("sftp: a key that is not authorized", s.source(root, private_key=keys.private["stranger"]), "auth", "open", s.port, "publickey")
    a.add("sftp: unknown host key", s.source(root, known_hosts="other.example %s\n" % s.host_keys["ed25519"]), "permanent", "open", s.port, "not in known_hosts", s.fingerprints["ed25519"])
    a.add("sftp: changed host key", s.source(root, known_hosts=other.known_hosts(port=s.port)), "permanent", "open", s.port, "changed")
    a.add("sftp: not the pinned host key", s.source(root, known_hosts=None, host_key_fingerprint=other.fingerprints["ed25519"]), "permanent", "open", s.port, "not the pinned server")


def endings(a, keys):
    """Listings that would not end, or that are too large."""
    n = [0]

    def again(q):
        n[0] += 1
        if q.path.startswith("/next"):
            r = html("p%d.csv" % n[0])
            r["headers"]["Link"] = '</next%d>; rel="next"' % n[0]
            return r
        if q.path.startswith("/ring"):
            r = html("p.csv")
            r["headers"]["Link"] = '</ring>; rel="next"'
            return r
        if q.path.startswith("/round"):
            return {"status": 302, "headers": {"Location": "/round2" if q.path == "/round1" else "/round1"}}
        return html(*["f%d.csv" % i for i in range(500)]) if q.path.startswith("/large") else html("a/")
    web = a.held(Answers(again))
    at = lambda path, **f: dict(http(web.port, head_mode="none", **f), url=web.url + path)  # noqa: E731
    a.add("http: endless pages", at("/next0/", max_pages=20), "limit", "list", web.port, "max_pages")
    a.add("http: the same page again", at("/ring"), "listing_loop", "list", web.port, "ring")
    a.add("http: endless tree", at("/tree/", recursive=True), ("listing_loop", "limit"), "list", web.port)
    a.add("http: a page over max_body", at("/large/", max_body="4KiB"), "limit", "list", web.port, "max_body")
    a.add("http: a ring of redirects", at("/round1"), "permanent", "list", web.port, "loop")

    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>%s</ListBucketResult>"
    count = [0]

    def tokens(q):
        count[0] += 1
        return 200, {}, page % (count[0], b"")
    b = a.held(Pages(fault=tokens))
    a.add("s3: endless pages", b.source(), "listing_loop", "list", b.port, "empty")
    b = a.held(Pages(fault=lambda q: (200, {}, page % (7, b"<Contents><Key>k%d.csv</Key></Contents>" % (q["n"] % 100)))))
    a.add("s3: the same token again", b.source(), "listing_loop", "list", b.port, "token")
    b = a.held(Pages(fault=lambda q: (200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>%sa/</Prefix></CommonPrefixes></ListBucketResult>" % q["query"].get("prefix", b""))))
    a.add("s3: endless tree", b.source(recursive=True, max_depth=1000), ("listing_loop", "limit", "permanent"), "list", b.port)
    b = a.held(Pages(fault=lambda q: (200, {}, b"<ListBucketResult>" + b" " * (9 << 20))))
    a.add("s3: a page over its cap", b.source(), "protocol", "list", b.port, "8 MiB")
    b = a.held(Pages(fault=lambda q: (307, {"Location": b.url + "/"}, b"")))
    a.add("s3: redirected to itself", b.source(), ("permanent", "transient"), "list", b.port, "307")

    f = a.held(ftpservers.Fake({"LIST": ["150 here", b"drwxr-xr-x 2 0 0 4096 Nov 23  2023 a\r\n", "226 ok"]}))
    a.add("ftp: endless tree", f.source("/", recursive=True), ("listing_loop", "limit"), "list", f.port)
    rows = b"".join(b"-rw-r--r-- 1 0 0 5 Nov 23  2023 f%02d\r\n" % i for i in range(10))
    for what, verb, data in (("LIST", "LIST", rows), ("MLSD", "MLSD", b"".join(b"type=file;size=5;modify=20231123000000; f%02d\r\n" % i for i in range(10)))):
        f = a.held(ftpservers.Fake({verb: ["150 here", data * 200000, "226 ok"], **({"FEAT": b"211-f\r\n MLST type*;size*;modify*;\r\n211 end"} if verb == "MLSD" else {})}))
        a.add("ftp: the same lines for ever, %s" % what, f.source("/"), "listing_loop", "list", f.port, "again and again")
    f = a.held(ftpservers.Fake({"LIST": ["150 here", b"-rw-r--r-- 1 0 0 5 Nov 23  2023 " + b"x" * 40000 + b"\r\n", "226 ok"]}))
    a.add("ftp: a line over its cap", f.source("/"), "protocol", "list", f.port)

    for fault, cls, words in (("endless", ("listing_loop", "limit"), ""), ("empty", "protocol", "without names"), ("repeat", "listing_loop", "again and again"), ("huge", "protocol", "1048576 bytes")):
        s = a.held(sshd.Sshd(keys, sftp="%s %s" % (ODD, fault)))
        a.add("sftp: %s" % {"endless": "endless tree", "empty": "endless replies without names", "repeat": "the same names for ever", "huge": "a packet over its cap"}[fault], s.source("/t", recursive=True), cls, "list", s.port, words)


def refusals(a):
    """What HTTP says in numbers, to both types that speak it; and what the others say in theirs."""
    for status, cls in ((401, "auth"), (403, "auth"), (404, "not_found"), (429, "transient"), (500, "transient"), (503, "transient")):
        w = a.held(Answers(lambda q, n=status: {"status": n}))
        a.add("http: %d" % status, http(w.port), cls, "list", w.port, str(status))
        b = a.held(Pages(fault=lambda q, n=status: (n, {}, b"")))
        a.add("s3: %d without a code" % status, b.source(), cls, "list", b.port, str(status))
    for what, replies, cls, phase in (("421 at login", {"USER": "421 busy"}, "transient", "open"), ("530 at login", {"PASS": "530 no"}, "auth", "open"), ("550 no such directory", {"CWD": "550 No such file"}, "not_found", "list"),
                                      ("550 no permission", {"CWD": "550 Permission denied"}, "auth", "list"), ("451 at LIST", {"LIST": "451 local error"}, "transient", "list"),
                                      ("425 at LIST", {"LIST": "425 no data connection"}, "transient", "list")):
        f = a.held(ftpservers.Fake(replies))
        a.add("ftp: %s" % what, f.source("/x"), cls, phase, f.port, what[:3])


def judge(t, w, a):
    again = tried_again()
    jobs = [job("f-%d" % i, s, **fields) for i, (_, s, _, _, _, _, fields) in enumerate(a.rows)]
    w.push(*jobs)
    ids = {j["job_id"] for j in jobs}
    w.reader("results").until(lambda rs: ids <= {r["job_id"] for r in rs}, 120, "the results of %d jobs" % len(jobs))
    results = {r["job_id"]: r for r in w.reader("results").records}
    letters = {r.headers.get("job_id"): r for r in w.reader("dlq").drain()}
    told = {}
    for e in w.reader("events").drain():
        told.setdefault(e["job_id"], []).append(e["relative_path"])
    seen = set()
    for j, (what, source, classes, phase, port, words, _) in zip(jobs, a.rows):
        r, dl = results[j["job_id"]], letters.get(j["job_id"])
        s, error = r["sources"][0], r["error"] or {"class": None, "message": ""}
        wrong = []
        if r["event_type"] != "job.failed" or error["class"] not in classes:
            wrong.append("class %s, not %s" % (error["class"], "/".join(classes)))
        if told.get(j["job_id"]):
            wrong.append("%d events of a listing that failed" % len(told[j["job_id"]]))
        if phase and s["phase"] != phase or s["phase"] not in ("open", "list"):
            wrong.append("phase %s, not %s" % (s["phase"], phase))
        said = "%s %s" % (s["peer"], error["message"])
        if port and not (re.search(r"127\.0\.0\.1|127\.255\.255\.255", said) and re.search(r"\b%d\b" % port, said)):
            wrong.append("no peer with port %d" % port)
        want = 2 if error["class"] in again and source["retries"] else 1
        if s["attempts"] != want:
            wrong.append("%d attempts, not %d" % (s["attempts"], want))
        if not dl or dl["failure_info"]["error_type"] != error["class"] or dl["failure_info"]["retry_count"] != want - 1:
            wrong.append("dead letter: %r" % (dl and dl.raw[:600]))
        if "bad-secret" in r.raw.decode() or dl and "bad-secret" in dl.raw.decode():
            wrong.append("the secret is told")
        wrong += ["no word of %r" % x for x in words if x not in error["message"]]
        t.ok(not wrong, "%s: %s, %s" % (what, error["class"], s["phase"]), *wrong, r.raw[:1200])
        seen.add(error["class"])
    t.ok({"transient", "timeout", "auth", "not_found", "permanent", "protocol", "limit"} <= seen, "the classes were seen", seen)


def forbidden_bytes(t, w):
    """CR, LF and NUL never get into a command or a request: the job is refused before any connection."""
    m = Mute()
    sources = [{"source_type": "local", "path": "/x"}, {"source_type": "dummy", "path": "./dummy_data"}] + [at(m.port) for at, _ in PLAIN.values()]
    rows = []
    for s in sources:
        for name, byte in (("CR", "\r"), ("LF", "\n"), ("NUL", "\0")):
            rows.append((s["source_type"], name, "path", dict(s, path="/a%sDELE b" % byte)))
    rows += [("s3", name, "prefix", dict(s3(m.port), prefix="a%sb" % b)) for name, b in (("NUL", "\0"),)]
    rows += [("http", name, "url", http(m.port, url="http://127.0.0.1:%d/a%sb" % (m.port, b))) for name, b in (("CR", "\r"), ("LF", "\n"), ("NUL", "\0"))]
    jobs = [job("b-%d" % i, s) for i, (_, _, _, s) in enumerate(rows)]
    at = w.push(*[invalid(j) for j in jobs])
    # by their place: a message that holds a NUL is not read for its job_id
    of = lambda rs: {(r["origin"]["partition"], r["origin"]["offset"]): r for r in rs}  # noqa: E731
    w.reader("results").until(lambda rs: set(at) <= set(of(rs)), 60, "the results of %d jobs" % len(jobs))
    for where, (kind, name, field, _) in zip(at, rows):
        r = of(w.reader("results").records)[where]
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "invalid_job" and "/source_config/%s: " % field in r["error"]["message"], "%s: %s in %s: invalid_job" % (kind, name, field), r.raw[:800])
    t.is_(m.held, [], "nobody was connected to for them")


def lock_out(t, w):
    """A login that is refused is tried once a job, however many connections and retries the job may have."""
    f = ftpservers.Fake({"PASS": "530 no"})
    for i in range(3):
        r, _, _ = w.run(f.source(retries=5, retry_delay="10ms", max_connections=8, recursive=True, password="x"))
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "auth" and r["attempt"] == 1, "ftp: a wrong password is not tried again", r.raw[:500])
    t.is_(f.logins, 3, "three jobs: three logins that could lock the account")
    f.stop()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "t/lib/netproxy")
    if not ftpservers.here() or not sshd.here():
        t.skip_all("needs root, an OpenSSH server and the packages of vsftpd, pure-ftpd and proftpd")
    root = folder()
    os.chmod(root, 0o755)
    trees.write(root, {"a.csv": (1, trees.EPOCH)})
    keys = sshd.Keys()
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8", "::1/128"], "workers.count": 8})
    a = Table()
    no_answer(a)
    slow(a, root, keys)
    logins(a, root, keys)
    endings(a, keys)
    refusals(a)
    t.part(judge, w, a)
    t.part(forbidden_bytes, w)
    t.part(lock_out, w)
    for s in a.keep:
        if hasattr(s, "stop"):
            s.stop()
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", (left, right))
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
