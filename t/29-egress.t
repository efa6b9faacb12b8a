#!/usr/bin/python3
"""Where workers connect to, with real sockets in a network namespace of our own: a resolver that changes its answers, servers
at every address that records who came, every form of address, name and URL that leads somewhere forbidden. Nothing
forbidden is ever reached; a control run shows that all of it could be."""
import base64
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, folder, invalid, job, need, wait_for  # noqa: E402

INSIDE = "IIS_POLLER_TEST_NAMESPACE"
GOOD, OTHER = "203.0.113.10", "203.0.113.20"        # public, as far as anybody can tell
GOOD6 = "2001:db8:1::10"
OUTSIDE = "198.51.100.7"                            # public, too: what egress.only leaves out
DENIED = "10.66.0.1"                                # by egress.deny
DNS = "10.53.0.53"
METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"]
LOCAL = [GOOD, OTHER, OUTSIDE, DENIED, DNS, "169.254.7.7", "10.1.2.3"] + [a for a in METADATA if ":" not in a]
# IPv6 addresses that carry 127.0.0.1 or 169.254.169.254 are ours here, so that a connection to them would be seen
LOCAL6 = [GOOD6, "fd00:ec2::254", "fe80::1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
          "2002:7f00:1::1", "2001:db8:2::5efe:a9fe:a9fe"]
ALLOWED = {GOOD, OTHER, GOOD6, OUTSIDE, "10.1.2.3"}
PORTS = [21, 22, 80, 443, 1080, 8080, 8443]
STATUSES = [301, 302, 303, 307, 308]


# ---- the namespace -------------------------------------------------------------------------------------------------------------

def enter(t):
    """Runs this script again in namespaces of its own, as often as it takes: once."""
    if os.environ.get(INSIDE):
        return
    if os.geteuid() or subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        t.skip_all("needs root and network namespaces")
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable] + sys.argv)


def build():
    """Addresses on lo; names by files and by our resolver alone."""
    def ip(*words):
        subprocess.run(["ip"] + list(words), check=True)
    ip("link", "set", "lo", "up")
    for a in LOCAL:
        ip("addr", "add", a + "/32", "dev", "lo")
    for a in LOCAL6:
        ip("-6", "addr", "add", a + "/128", "dev", "lo", "nodad")
    d = folder()
    for name, text in (("resolv.conf", "nameserver %s\noptions timeout:2 attempts:2\n" % DNS), ("nsswitch.conf", "hosts: files dns\n"),
                       ("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n")):
        path = os.path.join(d, name)
        with open(path, "w") as f:
            f.write(text)
        subprocess.run(["mount", "--bind", path, os.path.join("/etc", name)], check=True)


class Resolver:
    """A name server. NAMES: name → its addresses, or the name it is an alias of. .asked: how often each was asked for.
    What ends in SILENT is never answered."""
    SILENT = ".silent.test"
    NAMES = {
        "good.test": [GOOD], "other.test": [OTHER], "good6.test": [GOOD6],
        "meta.test": ["169.254.169.254"], "loop.test": ["127.0.0.1"], "denied.test": [DENIED],
        "several.test": ["169.254.169.254", GOOD, "127.0.0.1", DENIED],
        "forbidden.test": ["169.254.169.254", "127.0.0.1", DENIED, "169.254.7.7"],
        "mapped.test": ["::ffff:169.254.169.254"], "nat64.test": ["64:ff9b::a9fe:a9fe"], "loop6.test": ["::1"],
        "6to4.test": ["2002:a9fe:a9fe::1"], "ula-meta.test": ["fd00:ec2::254"], "zero.test": ["0.0.0.0"],
        "alias.test": "meta.test", "alias2.test": "alias.test", "localhost.test": "localhost",
        "127.0.0.1.test": ["127.0.0.1"],
    }

    def __init__(self):
        self.asked, self.seen, self.last = {}, set(), {}
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind((DNS, 53))
        threading.Thread(target=self._run, daemon=True).start()

    def rebinding(self, to):
        """A name of its own: harmless for the first who asks, this address for whoever asks again."""
        name = "rebind-%d.test" % len(self.last)
        self.last[name] = [to]
        return name

    def _run(self):
        while True:
            q, peer = self.s.recvfrom(4096)
            try:
                answer = self._answer(q, peer)
                if answer:
                    self.s.sendto(answer, peer)
            except (IndexError, struct.error):
                pass

    @staticmethod
    def _name(q, at):
        labels = []
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode("latin-1"))
            at += 1 + q[at]
        return ".".join(labels).lower(), at + 1

    @staticmethod
    def _wire(name):
        return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"

    def _answer(self, q, peer):
        name, at = self._name(q, 12)
        kind = struct.unpack_from(">H", q, at)[0]
        records, target = [], name
        while isinstance(self.NAMES.get(target), str):
            records.append((target, 5, self._wire(self.NAMES[target])))
            target = self.NAMES[target]
        # a question that is sent again, since the answer was late, is the same one
        if kind == 1 and (name, peer, q[:2]) not in self.seen:
            self.seen.add((name, peer, q[:2]))
            self.asked[name] = self.asked.get(name, 0) + 1
        if name.endswith(self.SILENT):
            return None
        answers = self.NAMES.get(target)
        if name in self.last:
            answers = [GOOD] if self.asked.get(name, 1) == 1 else self.last[name]
        for a in answers or []:
            if (":" in a) == (kind == 28) and kind in (1, 28):
                records.append((target, kind, socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)))
        out = q[:2] + struct.pack(">HHHHH", 0x8180 | (0 if answers else 3), 1, len(records), 0, 0) + q[12:at + 4]
        for owner, k, data in records:
            out += self._wire(owner) + struct.pack(">HHIH", k, 1, 0, len(data)) + data
        return out


# ---- servers ---------------------------------------------------------------------------------------------------------------------

PAGE = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n<a href=\"a.csv\">a.csv</a>  01-Jan-2024 00:00  5\n</pre></body></html>"


def text_of(address):
    a = address.split("%")[0]
    return a[7:] if a.startswith("::ffff:") and "." in a else a


class Servers:
    """Listens at every address of the namespace. .hits: (address, port) of each connection; .heads: (address, port, the request)."""

    def __init__(self, tls=None):
        self.lock = threading.Lock()
        self.hits, self.heads, self.certificates = [], [], []
        self.tls = tls
        self.redirects = {}
        for port in PORTS:
            s = socket.socket(socket.AF_INET6)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind(("::", port))
            s.listen(512)
            threading.Thread(target=self._run, args=(s, port), daemon=True).start()

    def _run(self, s, port):
        while True:
            c, _ = s.accept()
            at = text_of(c.getsockname()[0])
            with self.lock:
                self.hits.append((at, port))
            threading.Thread(target=self._one, args=(c, at, port), daemon=True).start()

    def _one(self, c, at, port):
        try:
            with c:
                c.settimeout(20)
                if port in (80, 8080):
                    self._http(c, at, port)
                elif port in (443, 8443) and self.tls:
                    with self.tls.wrap_socket(c, server_side=True) as s:
                        with self.lock:
                            self.certificates.append((at, port, bool(s.getpeercert(True))))
                        self._http(s, at, port)
                elif port == 21:
                    self._ftp(c)
                elif port == 1080:
                    self._socks(c, at, port)
        except (OSError, ValueError, IndexError):
            pass

    def taken(self):
        with self.lock:
            got = self.hits, self.heads, self.certificates
            self.hits, self.heads, self.certificates = [], [], []
            return got

    def redirect(self, status, to):
        """A path whose answer leads there."""
        key = "/to/%d" % len(self.redirects)
        self.redirects[key] = (status, to)
        return key

    def _http(self, c, at, port):
        f = c.makefile("rb")
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = f.readline(65536)
                if not line:
                    return
                head += line
            with self.lock:
                self.heads.append((at, port, head.decode("latin-1")))
            path = head.split(b" ")[1].decode("latin-1").split("?")[0]
            digest = b"/digest" in head.split(b"\r\n")[0]
            if digest and b"\r\nAuthorization: Digest" not in head and at == GOOD:
                c.sendall(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n")
                continue
            hop = next((self.redirects[k] for k in (path.rstrip("/"), "/".join(path.split("/")[:3])) if k in self.redirects), None)
            if hop:
                c.sendall(b"HTTP/1.1 %d Moved\r\nLocation: " % hop[0] + hop[1].encode("utf-8", "surrogateescape") + b"\r\nContent-Length: 0\r\n\r\n")
            elif "/ask" in path:
                # a stranger that asks for a login
                c.sendall(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"n2\"\r\nContent-Length: 0\r\n\r\n")
            else:
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + (b"" if head.startswith(b"HEAD") else PAGE))

    def _socks(self, c, at, port):
        """RFC 1928 without a login; what it is asked for is one of the heads, and answered as a page."""
        c.sendall(b"\5\0" if c.recv(2, socket.MSG_WAITALL)[1:] and c.recv(255) else b"")
        kind = c.recv(4, socket.MSG_WAITALL)[3]
        length = {1: 4, 4: 16}.get(kind) or c.recv(1)[0]
        to = c.recv(length, socket.MSG_WAITALL)
        name = to.decode("latin-1") if kind == 3 else socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, to)
        with self.lock:
            self.heads.append((at, port, "SOCKS %s:%d " % ((name,) + struct.unpack(">H", c.recv(2, socket.MSG_WAITALL)))))
        c.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        self._http(c, at, port)

    def _ftp(self, c):
        """The user's name says how data connections are answered."""
        f = c.makefile("rb")
        how = ""
        c.sendall(b"220 hello\r\n")
        for line in f:
            verb, _, rest = line.decode("latin-1").rstrip("\r\n").partition(" ")
            verb = verb.upper()
            if verb == "USER":
                how = rest
                c.sendall(b"331 password\r\n")
            elif verb == "PASS":
                c.sendall(b"230 in\r\n")
            elif verb == "EPSV" and how.startswith("epsv="):
                c.sendall(b"229 Extended (" + how[5:].encode() + b")\r\n")
            elif verb == "PASV" and how.startswith("pasv="):
                c.sendall(b"227 Passive (" + how[5:].encode() + b").\r\n")
            elif verb == "PWD":
                c.sendall(b"257 \"/\"\r\n")
            elif verb in ("CWD", "TYPE", "OPTS", "SYST"):
                c.sendall(b"200 ok\r\n")
            elif verb in ("LIST", "MLSD"):
                c.sendall(b"150 here\r\n226 done\r\n")
            elif verb == "QUIT":
                c.sendall(b"221 bye\r\n")
                return
            else:
                c.sendall(b"502 no\r\n")


def certificate(d):
    """(PEM of the certificate, path of it, path of its key) for GOOD and OTHER"""
    cert, key = os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=test",
                    "-addext", "subjectAltName=IP:%s,IP:%s" % (GOOD, OTHER), "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    with open(cert) as c, open(key) as k:
        return c.read(), k.read(), cert, key


# ---- the corpus --------------------------------------------------------------------------------------------------------------------

# Hosts that are forbidden, however they are written.
HOSTS = """
127.0.0.1 127.1 127.0.1 127.0.0.1. 127.000.000.001 0x7f.1 0x7f.0.0.1 0x7f000001 0X7F000001 2130706433 017700000001 0177.0.0.1 0177.1 0x7f.0.1 127.0.0.01
127.255.255.254 0 0.0.0.0 0x0 00000000 localhost LOCALHOST localhost. ip6-localhost [::1] [::] [0:0:0:0:0:0:0:1] [0000::0001] [::ffff:127.0.0.1] [::ffff:7f00:1]
[0:0:0:0:0:ffff:7f00:1] [::127.0.0.1] [::7f00:1] [64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [2002:7f00:1::1] [fe80::1] [fe80::1%25lo] [fe80::1%lo] [fe80::1%251]
169.254.169.254 169.254.169.254. 0xa9fea9fe 2852039166 0251.0376.0251.0376 025177524776 0xa9.254.169.254 169.254.43518 169.16689662 169.254.0xa9fe
[::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::a9fe:a9fe] [::169.254.169.254] [64:ff9b::a9fe:a9fe] [64:ff9b:1::a9fe:a9fe] [2002:a9fe:a9fe::1]
[2001:db8:2::5efe:a9fe:a9fe] [fd00:ec2::254] [FD00:EC2:0:0:0:0:0:254] 169.254.170.2 100.100.100.200 168.63.129.16 169.254.7.7
10.66.0.1 0x0a420001 10.4325377 0012.0102.0.1 [::ffff:10.66.0.1] [64:ff9b::10.66.0.1] 224.0.0.1 255.255.255.255 240.0.0.1 [ff02::1]
\uff11\uff12\uff17.\uff10.\uff10.\uff11 127\u30020\u30020\u30021 127\uff0e0\uff0e0\uff0e1 \u2460\u2461\u2466.\u24ea.\u24ea.\u2460 \u24dbocalhost loc\u00adalhost xn--localhost-
%31%32%37.0.0.1 127%2e0%2e0%2e1 127.0.0.1%00.good.test 127.0.0.1%23.good.test [127.0.0.1] [::1]] [[::1]] ::1 127.0.0.1,203.0.113.10
meta.test META.TEST meta.test. loop.test denied.test forbidden.test mapped.test nat64.test loop6.test 6to4.test ula-meta.test zero.test
alias.test alias2.test localhost.test 127.0.0.1.test
""".split()

# Whole addresses; {bad} is a forbidden host. What leads to the good host by every reader's rules may.
URLS = [
    "http://203.0.113.10@{bad}/", "http://203.0.113.10:80@{bad}/", "http://good.test:pw@{bad}/", "http://a@b@{bad}/", "http://{bad}@203.0.113.10/", "http://{bad}:80@203.0.113.10/",
    "http://{bad}\\@203.0.113.10/", "http://203.0.113.10\\@{bad}/", "http://203.0.113.10#@{bad}/", "http://203.0.113.10/@{bad}/", "http://203.0.113.10?@{bad}/",
    "http://{bad}#@203.0.113.10/", "http://{bad}?@203.0.113.10/", "http://{bad};203.0.113.10/", "http://203.0.113.10 @{bad}/", "http://203.0.113.10\t@{bad}/",
    "http://203.0.113.10\n@{bad}/", "http://203.0.113.10%0d%0aHost: {bad}/", "http://203.0.113.10%40{bad}/", "http:{bad}/", "http:/{bad}/", "http:///{bad}/", "//{bad}/",
    "http:\\\\{bad}\\", "http://{bad}:80:80/", "http://{bad}:0080/", "http://{bad}:+80/", "http://{bad}:080/", " http://{bad}/", "HTTP://{bad}/", "hTtPs://{bad}/",
    "http://[::1]@203.0.113.10/", "http://[203.0.113.10]@{bad}/", "http://{bad}%2f@203.0.113.10/", "https://{bad}:80/", "http://{bad}:443/", "http://{bad}/?x=http://203.0.113.10/",
    "url:http://{bad}/", "http://203.0.113.10\\.{bad}/", "http://203.0.113.10\u2025{bad}/", "http://203.0.113.10\uff03@{bad}/", "http://203.0.113.10\u2044@{bad}/",
]
SCHEMES = ["file:///etc/passwd", "file://{bad}/etc/passwd"] + ["%s://{bad}:80/x" % s for s in """gopher gophers dict ldap ldaps scp sftp tftp telnet smb smbs imap imaps pop3 pop3s smtp
smtps rtsp rtmp rtmpe rtmps rtmpt ws wss mqtt ftp ftps jar netdoc nntp ssh rsync git data javascript unix http+unix s3 gs blob view-source""".split()]


def addresses(rng):
    """Every URL of the corpus, once for each host or with one that is drawn."""
    got = ["http://%s/" % h for h in HOSTS] + ["http://%s:8080/d/" % h for h in HOSTS[:20]]
    plain = ["127.0.0.1", "169.254.169.254", DENIED, "[::1]"]
    return got + [u.format(bad=rng.choice(plain)) for u in URLS] + [s.format(bad=rng.choice(plain)) for s in SCHEMES]


class Corpus:
    """Jobs, each with the name of what it tries."""
    count = 0

    def __init__(self):
        Corpus.count += 1
        self.n, self.jobs = Corpus.count, []

    def add(self, what, source, **fields):
        source = dict({"retries": 0, "connect_timeout": "5s", "keepalive": False}, **source)
        self.jobs.append((what, invalid(job("c%d-%d" % (self.n, len(self.jobs)), source, timeout="20s", **fields))))

    def run(self, world, timeout=120):
        """Pushes them all; {job_id: (what, the terminal record)}"""
        world.push(*[j for _, j in self.jobs])
        names = {j.value["job_id"]: what for what, j in self.jobs}

        def ended(records):
            return len({r["job_id"] for r in records if r.json and r["job_id"] in names}) == len(names)
        world.reader("results").until(ended, timeout, "the ends of %d jobs" % len(names))
        return {r["job_id"]: (names[r["job_id"]], r) for r in world.reader("results").records if r["job_id"] in names}


def in_jobs(urls):
    c = Corpus()
    for u in urls:
        c.add("url %r" % u, {"source_type": "http", "url": u})
    return c


def in_fields(rng):
    """As an s3 endpoint, as host of ftp and sftp, as a proxy, behind a proxy, as who gives tokens."""
    c = Corpus()
    for h in HOSTS:
        bare = h[1:-1] if h.startswith("[") and h.endswith("]") else h
        c.add("s3 endpoint %r" % h, {"source_type": "s3", "endpoint": "http://%s" % h, "bucket": "b", "anonymous": True})
        c.add("ftp host %r" % h, {"source_type": "ftp", "host": bare, "path": "/"})
        c.add("sftp host %r" % h, {"source_type": "sftp", "host": bare, "username": "u", "password": "p", "host_key_fingerprint": "SHA256:" + "A" * 43, "path": "/"})
        scheme = rng.choice(["http", "https", "socks5", "socks5h"])
        c.add("proxy %s %r" % (scheme, h), {"source_type": "http", "url": "http://good.test/", "proxy": {"url": "%s://%s:80" % (scheme, h)}})
        c.add("%r behind a proxy" % h, {"source_type": "http", "url": "http://%s/" % h, "proxy": {"url": "%s://%s:8080" % (rng.choice(["http", "socks5"]), GOOD)}})
        c.add("token endpoint %r" % h, {"source_type": "http", "url": "http://good.test/", "auth": {"type": "oauth2", "token_url": "https://%s:80/" % h, "client_id": "i", "client_secret": "s"}})
    for s in SCHEMES + ["socks4://{bad}:80", "socks4a://{bad}:80", "http://u:p@{bad}:80", "http://203.0.113.10@{bad}:80", "{bad}:80"]:
        c.add("proxy %r" % s, {"source_type": "http", "url": "http://good.test/", "proxy": {"url": s.format(bad=rng.choice(["127.0.0.1", DENIED]))}})
    for s in SCHEMES:
        c.add("s3 endpoint %r" % s, {"source_type": "s3", "endpoint": s.format(bad="127.0.0.1"), "bucket": "b", "anonymous": True})
    # the bucket stands before the host
    c.add("s3 bucket as a host", {"source_type": "s3", "endpoint": "http://test", "bucket": "meta", "force_path_style": False, "anonymous": True})
    c.add("s3 bucket as an address", {"source_type": "s3", "endpoint": "http://0.0.1", "bucket": "127", "force_path_style": False, "anonymous": True})
    return c


def in_redirects(servers, urls):
    c = Corpus()
    for i, u in enumerate(urls):
        for status in STATUSES if i % 8 == 0 else [STATUSES[i % 5]]:
            path = servers.redirect(status, u)
            c.add("%d to %r" % (status, u), {"source_type": "http", "url": "http://%s%s/" % (GOOD, path), "same_origin_only": False, "allow_downgrade": True})
    return c


PASSIVE = ["pasv=169,254,169,254,0,80", "pasv=127,0,0,1,0,80", "pasv=10,66,0,1,31,144", "pasv=0,0,0,0,0,80", "epsv=|1|169.254.169.254|80|", "epsv=|1|127.0.0.1|80|",
           "epsv=|2|::1|80|", "epsv=|||80|", "pasv=169,254,169,254,0,22"]


def in_data_connections():
    c = Corpus()
    for how in PASSIVE:
        c.add("ftp %s" % how, {"source_type": "ftp", "host": "good.test", "username": how, "password": "x", "path": "/", "response_timeout": "2s", "idle_timeout": "2s"})
    return c


def judge(t, name, got, hits, reached=()):
    """Nothing forbidden was reached; whoever ended well was somewhere allowed."""
    bad = sorted({h for h in hits if h[0] not in ALLOWED})
    t.ok(not bad, "%s: reached a forbidden address: 0 of %d" % (name, len(got)), bad)
    if reached:
        t.ok(set(reached) <= set(hits), "%s: the allowed one was reached" % name, sorted(set(hits)))
    classes = {}
    for what, r in got.values():
        classes.setdefault((r["error"] or {"class": "none"})["class"], []).append(what)
    t.diag("%s: %s" % (name, ", ".join("%s %d" % (k, len(v)) for k, v in sorted(classes.items()))))
    return classes


FINE = {"policy", "invalid_job", "not_found", "unsupported", "permanent", "protocol", "transient", "none", "auth", "timeout", "truncated"}


def forbidden(t, w, servers):
    rng = random.Random(7)
    urls = addresses(rng)
    t.ok(len(urls) >= 60, "the corpus has %d URLs" % len(urls))
    servers.taken()
    classes = judge(t, "in a job's url", in_jobs(urls).run(w), servers.taken()[0], [(GOOD, 80)])
    t.ok(set(classes) <= FINE, "each ends in a class of its own kind", classes)
    ended_well = [x for x in classes.get("none", [])]
    t.ok(all("203.0.113.10" in x for x in ended_well), "what ends well was at the allowed host", ended_well)
    judge(t, "in other fields", in_fields(rng).run(w), servers.taken()[0])
    judge(t, "in redirects of each status", in_redirects(servers, urls).run(w), servers.taken()[0], [(GOOD, 80)])
    servers.taken()
    got = in_data_connections().run(w)
    hits = servers.taken()[0]
    judge(t, "in answers to PASV and EPSV", got, hits, [(GOOD, 21)])
    t.ok({a for a, _ in hits} == {GOOD} and len(hits) > len(PASSIVE), "data connections went to the server's own address", sorted(set(hits)))


def rebinding(t, w, servers, resolver):
    """A name that is harmless when it is looked at and forbidden for whoever asks again, wherever a job can name a host. What was looked at is reached."""
    def to(path, status, port=8080):
        return lambda h: {"source_type": "http", "url": "http://%s%s/" % (path, servers.redirect(status, "http://%s:%d/" % (h, port))), "same_origin_only": False}

    def proxy(scheme, port):
        return lambda h: {"source_type": "http", "url": "http://good.test/", "proxy": {"url": "%s://%s:%d" % (scheme, h, port)}}

    def behind(scheme, port):
        return lambda h: {"source_type": "http", "url": "http://%s/" % h, "proxy": {"url": "%s://%s:%d" % (scheme, GOOD, port)}}
    rows = [
        ("http", lambda h: {"source_type": "http", "url": "http://%s/" % h}, [80], None),
        ("https", lambda h: {"source_type": "http", "url": "https://%s/" % h}, [443], None),
        ("webdav", lambda h: {"source_type": "webdav", "url": "http://%s:8080/" % h}, [8080], None),
        ("s3", lambda h: {"source_type": "s3", "endpoint": "http://%s" % h, "bucket": "b", "anonymous": True}, [80], None),
        ("s3, the bucket before the host", lambda h: {"source_type": "s3", "endpoint": "http://test", "bucket": h[:-5], "force_path_style": False, "anonymous": True}, [80], None),
        ("ftp, control", lambda h: {"source_type": "ftp", "host": h, "path": "/"}, [21], None),
        ("ftp, data", lambda h: {"source_type": "ftp", "host": h, "path": "/", "username": "epsv=|||8080|", "password": "x"}, [21, 8080], None),
        ("ftp, data by PASV", lambda h: {"source_type": "ftp", "host": h, "path": "/", "username": "pasv=169,254,169,254,31,144", "password": "x"}, [21, 8080], None),
        ("sftp", lambda h: {"source_type": "sftp", "host": h, "username": "u", "password": "p", "host_key_fingerprint": "SHA256:" + "A" * 43, "path": "/"}, [22], None),
        ("http proxy", proxy("http", 8080), [8080], "CONNECT %s:80 " % GOOD),
        ("https proxy", proxy("https", 8443), [8443], None),
        ("socks5 proxy", proxy("socks5", 1080), [1080], "SOCKS %s:80 " % GOOD),
        ("socks5h proxy", proxy("socks5h", 1080), [1080], "SOCKS %s:80 " % GOOD),
        ("behind an http proxy", behind("http", 8080), [8080], "CONNECT %s:80 " % GOOD),
        ("behind a socks5 proxy", behind("socks5", 1080), [1080], "SOCKS %s:80 " % GOOD),
        ("behind a socks5h proxy", behind("socks5h", 1080), [1080], "SOCKS %s:80 " % GOOD),
        ("sftp behind a proxy", lambda h: {"source_type": "sftp", "host": h, "username": "u", "password": "p", "host_key_fingerprint": "SHA256:" + "A" * 43, "path": "/",
                                           "proxy": {"url": "http://%s:8080" % GOOD}}, [8080], "CONNECT %s:22 " % GOOD),
        ("a further attempt", lambda h: {"source_type": "http", "url": "http://%s:22/" % h, "retries": 1}, [22], None),
        ("a redirect to itself", lambda h: to(h, 302)(h), [80], None),
    ] + [("a redirect, %d" % n, to(GOOD, n), [80, 8080], None) for n in STATUSES]
    asked = {}
    for what, source, ports, words in rows:
        for bad in ("169.254.169.254", "127.0.0.1"):
            name = resolver.rebinding(bad)
            servers.taken()
            r, _, _ = w.run(dict({"retries": 0, "connect_timeout": "5s", "response_timeout": "5s", "idle_timeout": "5s", "keepalive": False}, **source(name)), timeout=40)
            hits, heads, _ = servers.taken()
            asked[what] = resolver.asked.get(name, 0)
            wrong = ["forbidden: %r" % (h,) for h in hits if h[0] != GOOD] + ["%d was not reached" % p for p in ports if (GOOD, p) not in hits]
            wrong += [] if asked[what] else ["the resolver was not asked"]
            wrong += [] if words is None or any(h.startswith(words) for _, _, h in heads) else ["no %r in %r" % (words, heads)]
            t.ok(not wrong, "rebinding to %s: %s" % (bad, what), *(wrong + [r.raw[:600]]))
    t.is_(asked["a further attempt"], 2, "rebinding: a further attempt asks again, and is refused")
    t.is_({n for n in asked.values() if n > 2}, set(), "rebinding: nobody asks more often than once an attempt and origin")


def several(t, w, servers):
    """A name with one allowed address among forbidden ones: only that is reached."""
    servers.taken()
    r, e, _ = w.run({"source_type": "http", "url": "http://several.test/", "retries": 0})
    t.ok(r["event_type"] == "job.completed" and len(e) == 1, "a name with an allowed address among forbidden ones is served", r.raw)
    t.is_({a for a, _ in servers.taken()[0]}, {GOOD}, "at that address alone")
    r, _, _ = w.run({"source_type": "http", "url": "http://good6.test/", "retries": 0})
    t.is_((r["event_type"], {a for a, _ in servers.taken()[0]}), ("job.completed", {GOOD6}), "IPv6 is served")


def replaced(t, w):
    """/etc/hosts becomes another file, as resolv.conf does with each new network: whoever resolves reads the new one."""
    path = os.path.join(folder(), "hosts")
    with open(path, "w") as f:
        f.write("127.0.0.1 localhost\n%s fresh.example\n" % GOOD)
    subprocess.run(["mount", "--bind", path, "/etc/hosts"], check=True)
    r, e, _ = w.run({"source_type": "http", "url": "http://fresh.example/", "retries": 0})
    t.ok(r["event_type"] == "job.completed" and r["attempt"] == 1 and len(e) == 1, "a name of the new /etc/hosts is found, at no cost to the job", r.raw)
    subprocess.run(["umount", "/etc/hosts"], check=True)


# ---- ports, schemes, networks ---------------------------------------------------------------------------------------------------------

def reload(d, **conf):
    since = d.mark()
    d.write_conf(**conf)
    d.signal(1)
    d.wait_log("config_reloaded", since=since)


def refused(t, w, servers, what, source, *words):
    servers.taken()
    r, e, _ = w.run(dict({"retries": 0, "keepalive": False, "connect_timeout": "5s"}, **source))
    error = r["error"] or {"class": None, "message": ""}
    t.ok(error["class"] == "policy" and all(x in error["message"] for x in words) and not e, what, r.raw)
    return servers.taken()[0]


def served(t, w, what, source):
    r, _, _ = w.run(dict({"retries": 0, "keepalive": False}, **source))
    t.ok(r["event_type"] == "job.completed", what, r.raw)


def bounds(t, w, d, servers):
    http = {"source_type": "http", "same_origin_only": False, "allow_downgrade": True}
    s3 = {"source_type": "s3", "bucket": "b", "anonymous": True}
    ftp = {"source_type": "ftp", "host": GOOD, "password": "x", "path": "/", "response_timeout": "3s"}
    to_8080, to_https = servers.redirect(307, "http://%s:8080/" % GOOD), servers.redirect(302, "https://%s/" % GOOD)
    reload(d, egress__ports=["80", "20-22"])
    served(t, w, "egress.ports: one that it has", dict(http, url="http://%s/" % GOOD))
    hits = refused(t, w, servers, "egress.ports: one that it lacks, in a url", dict(http, url="http://%s:8080/" % GOOD), "port 8080", "egress.ports")
    hits += refused(t, w, servers, "in an s3 endpoint", dict(s3, endpoint="http://%s:8080" % GOOD), "port 8080")
    hits += refused(t, w, servers, "of a proxy", dict(http, url="http://%s/" % GOOD, proxy={"url": "http://%s:8080" % GOOD}), "port 8080")
    hits += refused(t, w, servers, "behind a proxy", dict(http, url="http://%s:8080/" % GOOD, proxy={"url": "http://%s:80" % GOOD}), "port 8080")
    t.is_(hits, [], "no socket was opened for any of them")
    hits = refused(t, w, servers, "in a redirect", dict(http, url="http://%s%s/" % (GOOD, to_8080)), "port 8080")
    t.is_(set(hits), {(GOOD, 80)}, "which alone was asked for")
    hits = refused(t, w, servers, "of a data connection below 1024", dict(ftp, username="epsv=|||443|"), "port 443", "1024")
    t.is_(set(hits), {(GOOD, 21)}, "which was not opened")
    servers.taken()
    w.run(dict(ftp, username="epsv=|||8080|", retries=0, idle_timeout="2s"))
    t.ok((GOOD, 8080) in servers.taken()[0], "one from 1024 is")
    reload(d, egress__ports=[], egress__schemes=["http", "sftp"])
    served(t, w, "egress.schemes: one that it has", dict(http, url="http://%s/" % GOOD))
    hits = refused(t, w, servers, "egress.schemes: https is not in it", dict(http, url="https://%s/" % GOOD), "https is refused", "egress.schemes")
    hits += refused(t, w, servers, "nor for s3", dict(s3, endpoint="https://%s" % GOOD), "https is refused")
    hits += refused(t, w, servers, "nor is ftp", dict(ftp, username="u"), "ftp is refused")
    hits += refused(t, w, servers, "nor FTP over TLS", dict(ftp, username="u", tls_mode="explicit"), "ftps is refused")
    t.is_(hits, [], "no socket was opened for any of them")
    hits = refused(t, w, servers, "in a redirect", dict(http, url="http://%s%s/" % (GOOD, to_https)), "https is refused")
    t.is_(set(hits), {(GOOD, 80)}, "which alone was asked for")
    reload(d, egress__schemes=[], egress__only=["203.0.113.0/24"])
    served(t, w, "egress.only: an address in it", dict(http, url="http://good.test/"))
    hits = refused(t, w, servers, "egress.only: one beside it", dict(http, url="http://%s/" % OUTSIDE), OUTSIDE, "egress.only")
    hits += refused(t, w, servers, "an IPv6 one", dict(http, url="http://good6.test/"), GOOD6, "egress.only")
    hits += refused(t, w, servers, "as a proxy", dict(http, url="http://good.test/", proxy={"url": "socks5://%s:80" % OUTSIDE}), OUTSIDE)
    t.is_(hits, [], "no socket was opened for any of them")
    reload(d, egress__only=[])
    served(t, w, "without it, all public ones again", dict(http, url="http://%s/" % OUTSIDE))


def tenants(t, w, d, servers):
    """What a tenant's entry says narrows what the daemon allows, and opens nothing."""
    http = {"source_type": "http", "same_origin_only": False}
    to_outside, to_8080 = servers.redirect(301, "http://%s/" % OUTSIDE), servers.redirect(308, "http://%s:8080/" % GOOD)
    narrow = {"egress_only": ["203.0.113.0/24", "127.0.0.0/8", DENIED], "egress_deny": [OTHER], "egress_ports": ["80"], "egress_schemes": ["http"]}
    reload(d, **{"tenants.narrow": narrow})

    def of(org, what, source, *words):
        servers.taken()
        r, _, _ = w.run(dict({"retries": 0}, **source), org_id=org)
        message = (r["error"] or {"message": "", "class": "none"})
        t.ok((message["class"] == "policy" and all(x in message["message"] for x in words)) if words else message["class"] == "none", "%s: %s" % (org, what), r.raw)
        return servers.taken()[0]
    of("narrow", "an address that it has", dict(http, url="http://good.test/"))
    hits = of("narrow", "one that egress_only lacks", dict(http, url="http://%s/" % OUTSIDE), "the tenant's egress_only")
    hits += of("narrow", "one of egress_deny", dict(http, url="http://other.test/"), "the tenant's egress_deny has " + OTHER)
    hits += of("narrow", "a port", dict(http, url="http://%s:8080/" % GOOD), "the tenant's egress_ports")
    hits += of("narrow", "a scheme", dict(http, url="https://%s:80/" % GOOD), "the tenant's egress_schemes")
    hits += of("narrow", "a proxy", dict(http, url="http://%s/" % GOOD, proxy={"url": "http://%s:80" % OUTSIDE}), "the tenant's egress_only")
    hits += of("narrow", "its egress_only does not open loopback", dict(http, url="http://127.0.0.1/"), "loopback")
    hits += of("narrow", "nor what egress.deny has", dict(http, url="http://%s/" % DENIED), "egress.deny has")
    t.is_(hits, [], "no socket was opened for any of them")
    hits = of("narrow", "a redirect elsewhere", dict(http, url="http://%s%s/" % (GOOD, to_outside)), "the tenant's egress_only")
    hits += of("narrow", "a redirect to another port", dict(http, url="http://%s%s/" % (GOOD, to_8080)), "the tenant's egress_ports")
    t.is_(set(hits), {(GOOD, 80)}, "the redirects alone were asked for")
    of("wide", "is not bound by it", dict(http, url="http://%s/" % OUTSIDE))
    of("wide", "nor at other ports", dict(http, url="http://other.test:8080/"))
    reload(d, **{"tenants.narrow": dict(narrow, egress_only=["198.51.100.0/24"])})
    of("narrow", "a reload holds for the next job", dict(http, url="http://%s/" % OUTSIDE))
    of("narrow", "for what was allowed, too, whose connection was kept", dict(http, url="http://good.test/"), "the tenant's egress_only")


# ---- credentials and redirects -------------------------------------------------------------------------------------------------------------

def strangers(t, w, servers, pem, key):
    """Of what a job says who it is, nothing reaches another origin, whatever the status of the redirect."""
    secret = "canary-7f3a"
    b64 = base64.b64encode(("u:" + secret).encode()).decode()
    kinds = {
        "basic": {"auth": {"type": "basic", "username": "u", "password": secret}},
        "digest": {"auth": {"type": "digest", "username": "u", "password": secret}},
        "bearer": {"auth": {"type": "bearer", "token": secret}},
        "header": {"auth": {"type": "header", "header": "X-Secret", "token": secret}},
        "headers": {"headers": {"X-Mine": secret, "Authorization": "Custom " + secret, "Cookie": "c=" + secret}},
    }
    where = {"another host": "http://%s/ask/" % OTHER, "another port": "http://%s:8080/ask/" % GOOD, "a name of the same host": "http://good.test/ask/"}
    for kind, fields in kinds.items():
        c = Corpus()
        for status in STATUSES:
            for to in where.values():
                path = servers.redirect(status, to)
                c.add("%s %d %s" % (kind, status, to), dict({"source_type": "http", "url": "http://%s%s%s/" % (GOOD, path, "/digest" if kind == "digest" else ""), "same_origin_only": False}, **fields))
        servers.taken()
        c.run(w)
        heads = servers.taken()[1]
        there = [h for a, p, h in heads if (a, p) in ((OTHER, 80), (GOOD, 8080)) or "Host: good.test" in h]
        home = [h for a, p, h in heads if (a, p) == (GOOD, 80) and "Host: " + GOOD in h]
        t.ok(any(secret in h or b64 in h or "Authorization: Digest" in h for h in home), "%s: the job's own origin got them" % kind, home[:2])
        t.ok(len(there) >= 3 * len(STATUSES), "%s: each redirect was followed" % kind, len(there))
        leaked = [h for h in there if secret in h or b64 in h or "authorization" in h.lower() or "x-secret" in h.lower() or "x-mine" in h.lower() or "cookie" in h.lower()]
        t.ok(not leaked, "%s: another origin got nothing, over %d requests" % (kind, len(there)), leaked[:2])
    c = Corpus()
    for status in STATUSES:
        for to in ("https://%s:8443/" % OTHER, "https://%s:443/" % GOOD):
            path = servers.redirect(status, to)
            c.add("client certificate %d" % status, {"source_type": "http", "url": "https://%s:8443%s/" % (GOOD, path), "same_origin_only": False, "auth": {"type": "mtls"},
                                                     "tls": {"ca_pem": pem, "cert_pem": pem, "key_pem": key}})
    servers.taken()
    got = c.run(w)
    certificates = servers.taken()[2]
    t.ok(all(r["event_type"] == "job.completed" for _, r in got.values()), "client certificates: each redirect was followed", [r.raw for _, r in got.values()][:1])
    t.is_({shown for a, p, shown in certificates if (a, p) == (GOOD, 8443)}, {True}, "client certificates: the job's own origin saw it")
    t.is_({shown for a, p, shown in certificates if (a, p) != (GOOD, 8443)}, {False}, "client certificates: another origin did not")
    c = Corpus()
    for status in STATUSES:
        path = servers.redirect(status, "http://%s/b" % OTHER)
        c.add("s3 %d" % status, {"source_type": "s3", "endpoint": "http://%s%s" % (GOOD, path), "bucket": "b", "access_key_id": "AKIDCANARY", "secret_access_key": secret})
    servers.taken()
    c.run(w)
    heads = servers.taken()[1]
    t.ok(any("AKIDCANARY" in h for a, _, h in heads if a == GOOD), "s3: the endpoint got a signed request")
    t.is_([h for a, _, h in heads if a != GOOD], [], "s3: no redirect is followed anywhere")


# ---- names that nobody answers for ------------------------------------------------------------------------------------------------------

def silence(t, w, resolver):
    """Through the connector: a tenant whose names are not answered holds its share of the lookups, and delays nobody else."""
    # much longer than the test: a lookup that has begun does not end in it
    with open("/etc/resolv.conf", "w") as f:
        f.write("nameserver %s\noptions timeout:30 attempts:5\n" % DNS)
    d = Daemon(w, {"workers.count": 4, "retry.max_attempts": 0})
    with open("/proc/%d/cmdline" % d.wait_log("connector_ready")["pid"]) as f:
        slots = int(f.read().split("\0")[2])
    share = max(min(max(4 * slots, 8), 128) // 4, 2)

    def jobs(what, n, timeout):
        return [job("%s-%d" % (what, i), {"source_type": "http", "url": "http://%s-%d%s/" % (what, i, Resolver.SILENT), "retries": 0},
                    timeout=timeout, org_id="silent") for i in range(n)]

    def asked(what):
        return len([x for x in resolver.asked if x.startswith(what) and x.endswith(Resolver.SILENT)])

    def in_flight(n):
        return d.wait_metric("poller_connector_in_flight", n, op="resolve")
    short = jobs("short", 8 * share, "500ms")
    w.push(*short)
    t.is_({w.result_of(j["job_id"], 60)["error"]["class"] for j in short}, {"timeout"}, "%d jobs whose names are not answered end by their timeout" % len(short))
    t.is_((in_flight(share), asked("short")), (share, share), "of their names a quarter of the threads' number was looked up, the others waited and were dropped")
    long = jobs("long", 2, "10m")
    w.push(*long)
    t.is_(in_flight(share + 2), share + 2, "two more wait for their turn")
    r, _, _ = w.run({"source_type": "http", "url": "http://good.test/", "retries": 0}, org_id="other")
    t.is_((r["event_type"], asked("long"), in_flight(share + 2)), ("job.completed", 0, share + 2), "another tenant's name is looked up before them")
    for j in long:
        d.ctl("job", "cancel", j["job_id"])
        t.is_(w.result_of(j["job_id"])["event_type"], "job.cancelled", "%s is cancelled" % j["job_id"])
    t.is_((in_flight(share), asked("long")), (share, 0), "and takes no thread any more")
    t.is_(d.logged("connector_died"), [], "the connector lives")
    t.is_(d.stop(), 0, "and stops with lookups under way")


# ---- control ----------------------------------------------------------------------------------------------------------------------------

def control(t, w, d, servers):
    """All of it could be reached: what policy may allow by these jobs, the rest by a plain connect."""
    reload(d, egress__allow=["0.0.0.0/0", "::/0"], egress__deny=[])
    servers.taken()
    plain = ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "loop.test", "loop6.test", "169.254.7.7", DENIED, "0", "[2002:7f00:1::1]"]
    got = in_jobs(["http://%s/" % h for h in plain]).run(w)
    hits = servers.taken()[0]
    t.ok(all(r["event_type"] == "job.completed" for _, r in got.values()), "control: allowed, each form leads there", [(x, r["error"]) for x, r in got.values() if r["error"]])
    t.ok({("127.0.0.1", 80), ("::1", 80), (DENIED, 80), ("169.254.7.7", 80), ("2002:7f00:1::1", 80)} <= set(hits), "control: and was seen", sorted(set(hits)))
    # metadata: no setting allows it
    judge_meta = in_jobs(["http://%s/" % (h if ":" not in h else "[%s]" % h) for h in METADATA] + ["http://meta.test/", "http://[64:ff9b::a9fe:a9fe]/"]).run(w)
    t.ok({r["error"]["class"] for _, r in judge_meta.values()} == {"policy"}, "control: metadata is refused whatever is allowed", [(x, r["error"]) for x, r in judge_meta.values()])
    t.is_([h for h in servers.taken()[0] if h[0] not in ALLOWED], [], "control: and was not reached")
    for a in METADATA + ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b:1::a9fe:a9fe"]:
        socket.create_connection((a, 80), 5).close()
    seen = wait_for("plain connections", lambda: len(servers.hits) >= len(METADATA) + 3 and servers.taken()[0])
    t.ok({(a, 80) for a in METADATA} <= set(seen), "control: a plain connect reaches it", seen)


def main(t):
    enter(t)
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker")
    build()
    pem, key, cert_file, key_file = certificate(folder())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert_file, key_file)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cert_file)
    servers, resolver = Servers(tls), Resolver()
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.deny": ["10.66.0.0/16"], "workers.count": 4, "retry.max_attempts": 0, "network.tasks_per_endpoint": 64})
    t.part(forbidden, w, servers)
    t.part(rebinding, w, servers, resolver)
    t.part(several, w, servers)
    t.part(replaced, w)
    t.part(bounds, w, d, servers)
    t.part(tenants, w, d, servers)
    t.part(strangers, w, servers, pem, key)
    t.part(control, w, d, servers)
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    if os.environ.get("TEST_EGRESS") == "broker":
        t.part(silence, w, resolver)


with Tap() as tap:
    main(tap)
