#!/usr/bin/python3
"""TLS and proxies, each for every source type that speaks them: CONNECT and SOCKS5 with a login, certificates good and bad,
client certificates by reference, pinned keys, hosts past the
proxy, other names for TLS, and what policy refuses. Real servers; the proxies are of this file."""
import base64
import contextlib
import ipaddress
import json
import os
import select
import socket
import ssl
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import trees  # noqa: E402
import webservers  # noqa: E402
from certificates import Certificates, read  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, closed_port, conservation, folder, free_port, need, program, run  # noqa: E402
from servers import SERVED, Absent, Served  # noqa: E402

FILES = {"a.csv": 5, "b c.csv": 6, "deep/d.csv": 7, "deep/er/e.csv": 8}
USER, PASSWORD = "proxy user", "canary:p@ss \u00fc"
PERCENT = "canary%41%"          # no URL: nothing in it is to be decoded
NETWORK = {"recursive": True, "retries": 0, "keepalive": False, "address_family": "ipv4"}
FORBIDDEN = "169.254.7.7"       # link-local: refused whatever egress.allow says of loopback
SECRETS = {PASSWORD, PERCENT, "canary-of-keys", base64.b64encode(("%s:%s" % (USER, PASSWORD)).encode()).decode()}


# ---- proxies ---------------------------------------------------------------------------------------------------------------

class Middle:
    """A proxy that wants a login. .asked: (address or name, host, port) of each destination it was told; .logins: whether each
    was right. tls: speaks TLS itself (a server's ssl.SSLContext)."""

    def __init__(self, kind, tls=None):
        self.kind, self.tls = kind, tls
        self.asked, self.logins = [], []
        self.s = socket.create_server(("127.0.0.1", 0))
        self.port = self.s.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port
        self.url = "%s://localhost:%d" % ("socks5" if kind == "socks5" else "https" if tls else "http", self.port)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self.s.accept()[0],), daemon=True).start()

    def _one(self, c):
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as held:
            c = held.enter_context(self.tls.wrap_socket(c, server_side=True) if self.tls else c)
            c.settimeout(30)
            (self._socks if self.kind == "socks5" else self._connect)(c)

    def _login(self, user, password):
        self.logins.append(user == USER.encode() and password in (PASSWORD.encode(), PERCENT.encode()))
        return self.logins[-1]

    def _told(self, host, port):
        try:
            ipaddress.ip_address(host)
            kind = "address"
        except ValueError:
            kind = "name"
        self.asked.append((kind, host, port))
        try:
            return socket.create_connection((host, port), 10)
        except OSError:
            return None

    def _connect(self, c):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(c, 1)
        line, *rest = head.decode("latin-1").split("\r\n")
        fields = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in rest)}
        words = fields.get("proxy-authorization", "").split(" ")
        user, _, password = base64.b64decode(words[1] if len(words) == 2 else "").partition(b":")
        if words[0] != "Basic" or not self._login(user, password):
            c.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
            return
        method, where, _ = line.split(" ")
        host, _, port = where.rpartition(":")
        to = self._told(host.strip("[]"), int(port)) if method == "CONNECT" else None
        if not to:
            c.sendall(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
            return
        c.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
        pass_on(c, to)

    def _socks(self, c):
        _, n = exactly(c, 2)
        if 2 not in exactly(c, n):
            c.sendall(b"\5\xff")
            return
        c.sendall(b"\5\2")
        user = exactly(c, exactly(c, 2)[1])
        password = exactly(c, exactly(c, 1)[0])
        if not self._login(user, password):
            c.sendall(b"\1\1")
            return
        c.sendall(b"\1\0")
        kind = exactly(c, 4)[3]
        raw = exactly(c, {1: 4, 4: 16}.get(kind) or exactly(c, 1)[0])
        port = int.from_bytes(exactly(c, 2), "big")
        to = self._told(raw.decode("latin-1") if kind == 3 else str(ipaddress.ip_address(raw)), port)
        c.sendall(b"\5" + (b"\0" if to else b"\5") + b"\0\1\0\0\0\0\0\0")
        if to:
            pass_on(c, to)

    def close(self):
        self.s.close()


def exactly(c, n):
    got = b""
    while len(got) < n:
        b = c.recv(n - len(got))
        if not b:
            raise EOFError
        got += b
    return got


def pass_on(a, b):
    """Both ways, until both are at their end."""
    with b:
        ends = {a: b, b: a}
        open_ = {a, b}
        while open_:
            # TLS may hold bytes that the socket does not show
            ready = [x for x in open_ if isinstance(x, ssl.SSLSocket) and x.pending()] or select.select(list(open_), [], [], 30)[0]
            if not ready:
                return
            for x in ready:
                data = x.recv(65536)
                if data:
                    ends[x].sendall(data)
                else:
                    open_.discard(x)
                    ends[x].shutdown(socket.SHUT_WR)


# ---- servers that speak TLS: good, expired, old (TLS 1.2 at most), mtls (wants the client's certificate) -------------------

def nginx_blocks(c, ports, inside):
    """What nginx adds for the four kinds."""
    more = {"good": "ssl_protocols TLSv1.2 TLSv1.3;", "expired": "", "old": "ssl_protocols TLSv1.2;", "mtls": "ssl_verify_client on; ssl_client_certificate %s;" % c.path("ca")}
    return "".join("server { listen 127.0.0.1:%d ssl; ssl_certificate %s; ssl_certificate_key %s; %s %s }\n" % (
        p, c.path("expired" if k == "expired" else "good"), c.path("expired" if k == "expired" else "good", "key"), more[k], inside) for k, p in ports.items())


class TlsHttp:
    type = "http"
    # nginx takes the connection and then answers 400: "No required SSL certificate was sent", "The SSL certificate error"
    no_certificate = (("permanent",), "400")

    def __init__(self, c, root, served):
        if not webservers.find("nginx"):
            raise Absent("nginx is not installed")
        self.ports = {k: free_port() for k in ("good", "expired", "old", "mtls")}
        self.server = webservers.Nginx(root, nginx_blocks(c, self.ports, self.inside(served)))

    def inside(self, served):
        return "autoindex on; autoindex_format json;"

    def source(self, kind, host, tls):
        return dict(NETWORK, source_type="http", url="https://%s:%d/" % (host, self.ports[kind]), tls=tls)


class TlsS3(TlsHttp):
    type = "s3"

    def inside(self, served):
        return "location / { proxy_pass http://127.0.0.1:%d; proxy_set_header Host $http_host; }" % served.peer[1]

    def __init__(self, c, root, served):
        super().__init__(c, root, served)
        self.plain = served.source()

    def source(self, kind, host, tls):
        return dict(self.plain, **NETWORK, endpoint="https://%s:%d" % (host, self.ports[kind]), tls=tls)


class TlsFtp:
    type = "ftp"
    # Under TLS 1.3 the server's word comes after the handshake; where it resets at once, the reset may overtake it.
    no_certificate = (("auth", "transient"), "")

    def __init__(self, c, root, served):
        openssl = c.path("old", "cnf")
        with open(openssl, "w") as f:
            f.write("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n")
        good, expired = ((c.path(n, "pem"), c.text(n)) for n in ("good", "expired"))
        verify = ("TLSCACertificateFile " + c.path("ca"), "TLSVerifyClient on")
        self.server = {"good": ftpservers.ProFtpd(root, good), "expired": ftpservers.ProFtpd(root, expired),
                       "old": ftpservers.Vsftpd(root, good, env={"OPENSSL_CONF": openssl}),
                       "mtls": ftpservers.ProFtpd(root, good, directives=verify), "implicit": ftpservers.ProFtpd(root, good, implicit=True)}
        self.ports = {k: s.port for k, s in self.server.items()}

    def source(self, kind, host, tls):
        return self.server[kind].source("/", host=host, tls=tls, **NETWORK)


class NamedFtp(Served):
    """At an address that has a name."""
    type, name = "ftp", "ftp (pure-ftpd)"

    def __init__(self, root):
        super().__init__(root)
        if not ftpservers.here():
            raise Absent("no FTP server can be had here (root, apt-get download)")
        self.server = ftpservers.PureFtpd(root)
        self.peer = ("127.0.0.1", self.server.port)

    def source(self, sub="", **fields):
        return self.server.source("/" + sub, **fields)


TLS = {x.type: x for x in (TlsHttp, TlsS3, TlsFtp)}


# ---- the jobs ----------------------------------------------------------------------------------------------------------------

class Jobs:
    def __init__(self, t, w, d, creds, files):
        self.t, self.w, self.d, self.creds, self.files = t, w, d, creds, files
        self.texts = []

    def keep(self, name, text):
        """A file of the credentials directory."""
        path = os.path.join(self.creds, name)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o400), "w") as f:
            f.write(text)
        return name

    def run(self, source):
        r, e, dl = self.w.run(source, timeout=60)
        self.texts += [x.raw.decode() for x in [r] + e + dl]
        return r, e, dl

    def good(self, name, source, peer=None):
        r, e, _ = self.run(source)
        got = sorted((x["relative_path"], x["file_size"]) for x in e)
        return self.t.ok(r["event_type"] == "job.completed" and got == sorted(FILES.items()) and (not peer or r["sources"][0]["peer"] == peer), name, r.raw, got)

    def bad(self, name, source, cls, *words, peer=None, phase=None):
        """Failed with this class (or one of these); the text has these words and the address of this peer; no event; the dead letter says the same.
        phase: default: where its type connects, or where the address is checked; "": no task was made of it."""
        r, e, dl = self.run(source)
        if phase is None:
            phase = "open" if cls == "policy" or source["source_type"] in ("ftp", "sftp") else "list"
        stood = r["sources"][0]["phase"] if r["sources"] else ""
        error = r["error"] or {"class": None, "message": ""}
        said = error["message"]
        host, _, port = (peer or "").rpartition(":")
        at = not peer or "%s port %s" % (host, port) in said or peer == r["sources"][0]["peer"]
        return self.t.ok(r["event_type"] in ("job.failed", "job.rejected") and error["class"] in ((cls,) if isinstance(cls, str) else cls) and stood == phase and not e and at and all(x in said for x in words)
                         and [x["failure_info"]["error_type"] for x in dl] == [error["class"]], name, "wanted %s, %r, peer %s, phase %s" % (cls, words, peer, phase), r.raw, "%d events" % len(e),
                         [x["failure_info"] for x in dl])


def by_name(value):
    """The same source, its host a name."""
    return json.loads(json.dumps(value).replace("127.0.0.1", "localhost"))


def moved(served, source, host, port):
    """The same source at another address."""
    s = dict(source)
    s.pop("known_hosts", None)
    if served.type == "sftp":
        s["known_hosts"] = "[%s]:%d %s\n" % (host, port, served.server.host_keys["ed25519"])
    if "host" in s:
        s.update(host=host, port=port)
    for k in ("url", "endpoint"):
        if k in s:
            s[k] = "http://%s:%d/" % (host, port)
    return s


def proxies(t, x, served):
    x.keep("proxy-password", PASSWORD + "\n")
    x.keep("proxy-login", json.dumps({"proxy": {"username": USER, "password": PASSWORD}}))
    for kind in ("connect", "socks5"):
        p = Middle(kind)
        what = "%s through %s" % (served.name, kind)
        plain = by_name(served.source("", **NETWORK))
        login = {"url": p.url, "username": USER, "password": PASSWORD}
        seen = lambda: (all(p.logins) and bool(p.logins), {a[:2] for a in p.asked}, served.peer[1] in {a[2] for a in p.asked})  # noqa: E731
        x.good("%s: every file" % what, dict(plain, proxy=login))
        t.is_(seen(), (True, {("address", "127.0.0.1")}, True), "%s: it was logged in to, and told addresses alone" % what)
        x.good("%s: the password by reference" % what, dict(plain, proxy={"url": p.url, "username": USER, "password_ref": "proxy-password"}))
        x.good("%s: the login by a secret set" % what, dict(plain, proxy={"url": p.url}, credentials_ref="proxy-login"))
        t.is_(seen(), (True, {("address", "127.0.0.1")}, True), "%s: and addresses alone again" % what)
        x.good("%s: a password with percent signs" % what, dict(plain, proxy=dict(login, password=PERCENT)))
        n = len(p.asked)
        x.bad("%s: a wrong password: auth, the proxy's" % what, dict(plain, proxy=dict(login, password="canary-of-keys")), "auth", "proxy", peer=p.address)
        x.bad("%s: no password: auth, the proxy's" % what, dict(plain, proxy={"url": p.url}), "auth", "proxy", peer=p.address)
        x.bad("%s: a destination that policy refuses" % what, dict(moved(served, plain, FORBIDDEN, 8080), proxy=login), "policy", FORBIDDEN)
        t.is_(len(p.asked), n, "%s: of none of them the proxy was told" % what)
        gone = closed_port()
        x.bad("%s: a destination that the proxy does not reach: transient" % what, dict(moved(served, plain, "localhost", gone), proxy=login), "transient", "proxy", peer=p.address)
        t.is_(p.asked[n:n + 1], [("address", "127.0.0.1", gone)], "%s: it was told that address" % what)
        x.bad("%s: a proxy that is not there: transient" % what, dict(plain, proxy=dict(login, url=p.url.replace(str(p.port), str(gone)))), "transient", peer="127.0.0.1:%d" % gone)
        x.bad("%s: a proxy where policy forbids" % what, dict(plain, proxy=dict(login, url=p.url.replace("localhost", FORBIDDEN))), "policy", FORBIDDEN)
        p.close()


# ---- TLS ---------------------------------------------------------------------------------------------------------------------

def certificates(t, x, s, c):
    ca, peer = c.text("ca"), lambda k: "127.0.0.1:%d" % s.ports[k]
    name = "%s: %%s" % ("ftps" if s.type == "ftp" else "https" if s.type == "http" else "s3 over https")

    def good(what, kind, tls, host="localhost"):
        x.good(name % what, s.source(kind, host, tls), peer(kind))

    def bad(what, kind, tls, cls, *words, host="localhost"):
        x.bad(name % what, s.source(kind, host, tls), cls, *words, peer=peer(kind))

    good("tls.ca_pem", "good", {"ca_pem": ca})
    if "implicit" in s.ports:
        good("tls.ca_pem, TLS from the first byte on", "implicit", {"ca_pem": ca})
        bad("the same, another authority", "implicit", {"ca_pem": c.text("other")}, "permanent", "certificate")
    good("tls.ca_pem, several authorities", "good", {"ca_pem": c.text("other") + ca})
    with open(os.path.join(x.files, "ca.pem"), "w") as f:
        f.write(ca)
    good("tls.ca_file", "good", {"ca_file": os.path.join(x.files, "ca.pem")})
    x.bad(name % "tls.ca_file elsewhere: policy", s.source("good", "localhost", {"ca_file": c.path("ca")}), "policy", "credentials.file_roots", phase="")
    bad("the host's own authorities: permanent, and why", "good", {}, "permanent", "certificate", "issuer")
    bad("another authority: permanent, and why", "good", {"ca_pem": c.text("other")}, "permanent", "certificate", "issuer")
    bad("an expired certificate", "expired", {"ca_pem": ca}, "permanent", "certificate", "expired")
    bad("a certificate of another name", "good", {"ca_pem": ca}, "permanent", "certificate", "127.0.0.1", host="127.0.0.1")
    good("tls.min_version 1.2, and that is what the server has", "old", {"ca_pem": ca, "min_version": "1.2"})
    bad("tls.min_version 1.3, the server has 1.2", "old", {"ca_pem": ca, "min_version": "1.3"}, "permanent", "TLS")
    good("tls.min_version 1.3", "good", {"ca_pem": ca, "min_version": "1.3"})
    r, _, _ = x.run(s.source("good", "localhost", {"ca_pem": ca}))
    t.ok([y for y in r["warnings"] if "the TLS certificate of the server ends at %s" % c.ends("good") in y], name % "a certificate that ends soon is warned of", r.raw)
    good("tls.pinned_pubkey", "good", {"ca_pem": ca, "pinned_pubkey": c.pin})
    good("tls.pinned_pubkey, one of two", "good", {"ca_pem": ca, "pinned_pubkey": c.other_pin + ";" + c.pin})
    bad("tls.pinned_pubkey of another key", "good", {"ca_pem": ca, "pinned_pubkey": c.other_pin}, "permanent", "tls.pinned_pubkey")
    bad("tls.pinned_pubkey does not stand in for the certificate", "good", {"pinned_pubkey": c.pin}, "permanent", "certificate")


def clients(t, x, s, c):
    ca, peer = c.text("ca"), "127.0.0.1:%d" % s.ports["mtls"]
    name = "%s: %%s" % s.type
    cert, stranger = c.text("client"), c.text("stranger")
    x.keep("client-key", c.text("client", "key"))
    x.keep("stranger-key", c.text("stranger", "key"))
    x.keep("locked-key", c.text("locked", "key"))
    x.keep("key-word", "canary-of-keys\n")
    x.keep("both", json.dumps({"tls": {"cert_pem": cert, "key_pem": c.text("client", "key")}}))

    def source(credentials_ref=None, **tls):
        return dict(s.source("mtls", "localhost", dict({"ca_pem": ca}, **tls)), **({"credentials_ref": credentials_ref} if credentials_ref else {}))

    x.good(name % "a client certificate, its key by reference", source(cert_pem=cert, key_ref="client-key"), peer)
    x.good(name % "its key under a passphrase, both by reference", source(cert_pem=cert, key_ref="locked-key", key_password_ref="key-word"), peer)
    x.good(name % "certificate and key by a secret set", source("both"), peer)
    x.good(name % "and inline", source(cert_pem=cert, key_pem=c.text("client", "key")), peer)
    cls, word = s.no_certificate
    x.bad(name % "no client certificate where the server wants one", source(), cls, word, peer=peer)
    x.bad(name % "one of another authority", source(cert_pem=stranger, key_ref="stranger-key"), cls, word, peer=peer)
    x.bad(name % "a key that is not the certificate's", source(cert_pem=cert, key_ref="stranger-key"), "auth", "tls.key_pem")
    x.bad(name % "a passphrase that is not the key's", source(cert_pem=cert, key_ref="locked-key", key_password_ref="proxy-password"), "auth", "tls.key_pem")
    x.bad(name % "a reference to nothing", source(cert_pem=cert, key_ref="no-such-key"), "auth", "no-such-key", phase="start")


def unverified(t, x, s, c):
    for kind, host in (("good", "localhost"), ("expired", "127.0.0.1")):
        r, e, _ = x.run(s.source(kind, host, {"verify": False}))
        error = r["error"] or {}
        t.ok(not e and error.get("class") == "policy" and "network.allow_unverified_tls" in error.get("message", ""), "%s: tls.verify false is policy's to refuse: %s" % (s.type, kind), r.raw)


def unverified_allowed(t, x, tls, c):
    since = x.d.mark()
    x.d.write_conf(network__allow_unverified_tls=True)
    x.d.signal(1)
    x.d.wait_log("config_reloaded", since=since)
    for s in tls:
        for kind, host in (("good", "127.0.0.1"), ("expired", "localhost")):
            x.good("%s: tls.verify false, where network.allow_unverified_tls is set: %s" % (s.type, kind), s.source(kind, host, {"verify": False}))
        r, _, _ = x.run(s.source("expired", "localhost", {"verify": False}))
        t.ok([y for y in r["warnings"] if "the TLS certificate of the server ended at %s" % c.ends("expired") in y], "%s: what ended is warned of, where it is not refused" % s.type, r.raw)
        x.bad("%s: tls.pinned_pubkey is checked all the same" % s.type, s.source("good", "127.0.0.1", {"verify": False, "pinned_pubkey": c.other_pin}), "permanent",
              "tls.pinned_pubkey")
        x.bad("%s: as is the certificate of who does not ask for it" % s.type, s.source("expired", "localhost", {"ca_pem": c.text("ca")}), "permanent", "expired")


def together(t, x, s, c):
    """The proxy has the address; the certificate is for the name."""
    ca = c.text("ca")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(c.path("good"), c.path("good", "key"))
    for kind, tls in (("connect", None), ("socks5", None), ("connect", made)):
        p = Middle(kind, tls)
        what = "%s over TLS through %s%s" % (s.type, kind, ", that over TLS too" if tls else "")
        login = {"url": p.url, "username": USER, "password": PASSWORD}
        x.good("%s: the certificate is held against the name" % what, dict(s.source("good", "localhost", {"ca_pem": ca}), proxy=login))
        t.ok(p.asked and {a[:2] for a in p.asked} == {("address", "127.0.0.1")}, "%s: the proxy was told the address" % what, p.asked)
        n = len(p.asked)
        x.bad("%s: and refused for another name" % what, dict(s.source("good", "127.0.0.1", {"ca_pem": ca}), proxy=login), "permanent", "certificate", peer=p.address)
        x.bad("%s: and for another authority" % what, dict(s.source("good", "localhost", {"ca_pem": c.text("other")}), proxy=login), "permanent", "certificate", peer=p.address)
        t.is_(len(p.asked) - n, 1 if tls else 2, "%s: a proxy that is not trusted is told nothing" % what if tls else "%s: the proxy was told each time" % what)
        p.close()


# ---- past the proxy, and under another name ----------------------------------------------------------------------------------

def past(t, x, mode, served):
    """proxy.no_proxy: what it has is reached directly, by the egress policy; the rest through the proxy."""
    p = Middle("socks5")
    plain = by_name(served.source("", **NETWORK))
    login = {"url": p.url, "username": USER, "password": PASSWORD}
    what = "%s, %s: no_proxy " % (served.name, mode)
    for direct in ("*", "localhost", "LOCALHOST", ".localhost", ["10.0.0.0/8", "127.0.0.0/8"], "127.0.0.1", ["x.example", "*.localhost"]):
        x.good("%s%s: directly" % (what, direct), dict(plain, proxy=dict(login, no_proxy=direct)), "127.0.0.1:%d" % served.peer[1])
        t.is_(p.asked, [], "%s%s: the proxy hears nothing of it" % (what, direct))
    for other in ("ocalhost", "127.0.0.2/32", ["local", "host.localhost"], "::/0"):
        n = len(p.asked)
        x.good("%s%s: through the proxy" % (what, other), dict(plain, proxy=dict(login, no_proxy=other)))
        t.ok(len(p.asked) > n, "%s%s: it was asked" % (what, other))
    n = len(p.asked)
    gone = "socks5://no-such-proxy.invalid:1080"
    x.good("%s*: not even the proxy's name is asked for" % what, dict(plain, proxy={"url": gone, "no_proxy": "*"}))
    x.bad("%s*: the policy of the poller's host holds" % what, dict(moved(served, plain, FORBIDDEN, 8080), proxy=dict(login, no_proxy="*")), "policy", FORBIDDEN)
    t.is_(len(p.asked), n, "%s: the proxy was asked for none of these" % what)
    p.close()


class Heard:
    """An index over TLS. .names: whom each client asked for; .hosts: the header Host of each request."""

    def __init__(self, c):
        self.names, self.hosts = [], []
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(c.path("good"), c.path("good", "key"))
        ctx.sni_callback = lambda s, name, ctx: self.names.append(name)
        self.web = webservers.Answers(self._answer, ctx=ctx)
        self.port = self.web.port

    def _answer(self, q):
        self.hosts.append(q.headers["Host"])
        if q.path == "/away/":
            return {"status": 302, "headers": {"Location": "https://localhost:%d/" % self.other}}
        return {"headers": {"Content-Type": "text/html"}, "body": b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><a href=\"a.csv\">a</a></body></html>"}


def names(t, x, mode, s, c):
    """tls.server_name: the certificate is held against it; nothing else changes."""
    ca, what = c.text("ca"), "%s over TLS, %s: " % (s.type, mode)
    peer = "127.0.0.1:%d" % s.ports["good"]
    x.good(what + "tls.server_name, where the host is an address", s.source("good", "127.0.0.1", {"ca_pem": ca, "server_name": "localhost"}), peer)
    x.good(what + "over a kept connection", dict(s.source("good", "127.0.0.1", {"ca_pem": ca, "server_name": "localhost"}), keepalive=True), peer)
    x.bad(what + "which serves no other name", dict(s.source("good", "127.0.0.1", {"ca_pem": ca}), keepalive=True), "permanent", "certificate", "127.0.0.1", peer=peer)
    x.bad(what + "a name that the certificate has not", s.source("good", "localhost", {"ca_pem": ca, "server_name": "other.example"}), "permanent", "certificate", "other.example", peer=peer)
    x.bad(what + "the policy is asked of the host", s.source("good", FORBIDDEN, {"ca_pem": ca, "server_name": "localhost"}), "policy", FORBIDDEN)
    for kind in ("connect", "socks5"):
        p = Middle(kind)
        login = {"url": p.url, "username": USER, "password": PASSWORD}
        x.good(what + "through %s" % kind, dict(s.source("good", "127.0.0.1", {"ca_pem": ca, "server_name": "localhost"}), proxy=login))
        t.is_({a[:2] for a in p.asked}, {("address", "127.0.0.1")}, what + "the proxy is told the host's address")
        p.close()


def heard(t, x, mode, c):
    a, b = Heard(c), Heard(c)
    a.other = b.port
    tls = {"ca_pem": c.text("ca"), "server_name": "localhost"}
    source = dict(NETWORK, recursive=False, source_type="http", head_mode="none", tls=tls, url="https://127.0.0.1:%d/" % a.port)
    r, e, _ = x.run(source)
    t.ok(r["event_type"] == "job.completed" and e[0]["file_url"] == "https://127.0.0.1:%d/a.csv" % a.port, "%s: tls.server_name: files are under the url's own host" % mode, r.raw)
    t.is_((set(a.names), set(a.hosts)), ({"localhost"}, {"127.0.0.1:%d" % a.port}), "%s: TLS asks for the name, HTTP for the host" % mode)
    r, e, _ = x.run(dict(source, url=source["url"] + "away/", same_origin_only=False))
    t.ok(r["event_type"] == "job.completed" and set(b.hosts) == {"localhost:%d" % b.port}, "%s: a redirect elsewhere goes to its own host" % mode, r.raw, b.hosts)
    r, e, _ = x.run(dict(source, url="http://127.0.0.1:%d/" % a.port))
    t.ok(any("tls.server_name" in y for y in r["warnings"]), "%s: without TLS the field is warned of" % mode, r.raw)
    for s in (a, b):
        s.web.stop()


# ---- all of it -----------------------------------------------------------------------------------------------------------------

def start(t, root):
    """One server for each type that is served, and for which there is one here."""
    code, out, err = run(program("iis-pollerctl"), "sources", "--json")
    states = {x["type"]: x["served"] for x in map(json.loads, out.splitlines())}
    got = {}
    for cls in [NamedFtp if x.type == "ftp" else x for x in SERVED]:
        if cls.type == "local" or cls.type in got:
            continue
        if not states[cls.type]:
            t.diag("left out: %s: iis-pollerctl sources says that this version does not serve it" % cls.type)
            continue
        try:
            got[cls.type] = cls(root)
        except Absent as e:
            if os.environ.get("CI") == "true":
                t.ok(False, "%s may not be left out here" % cls.type, e)
            t.diag("left out: %s: %s" % (cls.type, e))
        except Exception as e:
            t.ok(False, "a server for %s starts" % cls.type, repr(e))
    return got


def with_tls(t, got, cls, c, root, served):
    got.append(cls(c, root, served))


def silence(t, x):
    """What was secret is in no record, no line of the log, no page."""
    pages = [x.d.http(p)[1] for p in ("/metrics", "/status.json", "/")] + [str(x.d.ctl(*a)) for a in (("status",), ("jobs",), ("endpoints",), ("crashes",))]
    for what, texts in (("records", x.texts), ("lines of the log", x.d.raw), ("pages and answers", pages)):
        found = [(s[:12], b[:400]) for b in texts for s in SECRETS for form in (s, json.dumps(s)[1:-1], json.dumps(s, ensure_ascii=False)[1:-1]) if form in b]
        t.ok(not found and texts, "no secret in %d %s" % (len(texts), what), found[:3])


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker")
    top = folder()
    os.chmod(top, 0o755)
    root, creds, files = (os.path.join(top, n) for n in ("root", "creds", "files"))
    for d, mode in ((root, 0o755), (creds, 0o700), (files, 0o755)):
        os.mkdir(d, mode)
    trees.write(root, {k: (v, trees.EPOCH) for k, v in FILES.items()})
    for d, _, _ in os.walk(root):
        os.chmod(d, 0o755)
    c = Certificates()
    SECRETS.update(c.text(n, "key").splitlines()[1] for n in ("client", "stranger", "locked"))
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8", "::1/128"], "credentials.dir": creds, "credentials.file_roots": [files], "log.level": "debug"})
    x = Jobs(t, w, d, creds, files)
    served, tls = start(t, root), []
    for s in served.values():
        t.part(proxies, x, s)
        if s.type in TLS:
            t.part(with_tls, tls, TLS[s.type], c, root, s)
    for s in tls:
        for part in (certificates, clients, unverified, together):
            t.part(part, x, s, c)
    t.part(unverified_allowed, x, tls, c)
    t.part(silence, x)
    left, right = conservation(d)
    t.ok(left == right and left, "accepted = ended + in flight", left, right)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    for mode in ("direct", "broker"):
        w = World(w.broker)
        d = Daemon(w, {"egress.mode": mode, "egress.allow": ["127.0.0.0/8", "::1/128"]})
        x = Jobs(t, w, d, creds, files)
        for s in served.values():
            t.part(past, x, mode, s)
        for s in tls:
            t.part(names, x, mode, s, c)
        t.part(heard, x, mode, c)
        t.is_(d.stop(), 0, "%s: a graceful stop: exit 0" % mode)


with Tap() as tap:
    main(tap)
