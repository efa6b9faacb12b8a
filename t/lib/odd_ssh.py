"""odd_ssh.py - servers that say any bytes wherever a stranger of SSH, SFTP, a proxy or TLS may say some.

Before encryption: Spoken says its bytes to whoever connects. Behind it: Ssh, by python3-asyncssh (here() tells whether that is there).
"""
import asyncio
import logging
import os
import socket
import ssl
import struct
import subprocess
import threading
import warnings

from poller import folder


def u32(n):
    return struct.pack(">I", n)


def text(b):
    return u32(len(b)) + b


def packet(payload):
    """One of SSH's before keys are exchanged (RFC 4253, 6)"""
    pad = 8 - (5 + len(payload)) % 8
    pad += 8 if pad < 4 else 0
    return u32(1 + len(payload) + pad) + bytes([pad]) + payload + b"\0" * pad


def disconnect(reason):
    return packet(b"\1" + u32(2) + text(reason) + text(b""))


def debug(message):
    return packet(b"\4\1" + text(message) + text(b""))


class Spoken:
    """Says these bytes to each connection, at once or when something came, then closes it. tls: (certificate, key)."""

    def __init__(self, said, asked=False, tls=None):
        self.said, self.asked, self.tls = said, asked, None
        if tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*tls)
        self.met = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        try:
            c.settimeout(20)
            if self.tls:
                c = self.tls.wrap_socket(c, server_side=True)
            if self.asked:
                c.recv(65536)
            c.sendall(self.said)
            c.shutdown(socket.SHUT_WR)
            while c.recv(65536):
                pass
        except OSError:
            pass
        c.close()

    def stop(self):
        self.socket.close()


class Certificates:
    """Self-signed, of one key, each of a name that is any bytes (64 at most, none of them NUL)."""

    def __init__(self):
        self.dir, self.n = folder(), 0
        self.key = os.path.join(self.dir, "key")
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", self.key], check=True, stderr=subprocess.DEVNULL)

    def of(self, name):
        """(its file, the key's file), or None: no certificate can have this name."""
        self.n += 1
        crt = os.path.join(self.dir, "%d" % self.n)
        subject = b"/CN=" + b"".join(b"\\" + bytes([c]) if c in b"/\\+" else bytes([c]) for c in name)
        argv = ["openssl", "req", "-x509", "-key", self.key, "-days", "2", "-subj", subject, "-out", crt]
        for more in (["-utf8"], []):
            if subprocess.run(argv + more, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return crt, self.key
        return None


# ---- behind the encryption ------------------------------------------------------------------------------------------------

def here():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import asyncssh     # noqa: F401
        return True
    except ImportError:
        return False


def attrs(mode, size=5):
    return u32(13) + struct.pack(">Q", size) + u32(mode) + u32(1700000000) * 2


class Ssh:
    """Who logs in says what is to be said where: user "PLACE-NUMBER", NUMBER of the strings. PLACE: banner, kbdint, disconnect, open and
    read (words of STATUS), longname, target (of a link), names (all strings are names of files). `met` holds the users whose place was reached."""
    PLACES = ("banner", "kbdint", "disconnect", "open", "read", "longname", "target")

    def __init__(self, strings):
        self.strings, self.met = strings, set()
        logging.getLogger("asyncssh").disabled = True
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait(30)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._listen())
        ready.set()
        self.loop.run_forever()

    def said(self, user):
        place, _, n = user.partition("-")
        self.met.add(user)
        return self.strings[int(n or 0)]

    async def _listen(self):
        import asyncssh
        outer = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn):
                self.conn = conn

            def begin_auth(self, user):
                if user.startswith("banner-"):
                    self.conn.send_auth_banner(outer.said(user))
                if user.startswith("disconnect-"):
                    self.conn.send_packet(1, u32(2), text(outer.said(user)), text(b""))
                    self.conn.abort()
                return True

            def password_auth_supported(self):
                return True

            def validate_password(self, user, password):
                return not user.startswith(("banner-", "kbdint-"))

            def kbdint_auth_supported(self):
                return True

            def get_kbdint_challenge(self, user, lang, submethods):
                if not user.startswith("kbdint-"):
                    return False
                x = outer.said(user)
                return x, x, "", [(x, True), (x, False)]

            def validate_kbdint_response(self, user, responses):
                return False

        def process(p):
            return outer._sftp(p)
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.known = key.export_public_key().decode().strip()
        server = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[key], process_factory=process, encoding=None, login_timeout=30)
        self.port = server.sockets[0].getsockname()[1]
        self.server = server

    async def _sftp(self, p):
        user = p.get_extra_info("username")
        given, handles = {}, 0
        try:
            while True:
                n = struct.unpack(">I", await p.stdin.readexactly(4))[0]
                m = await p.stdin.readexactly(n)
                out = self._answer(m, user, given)
                p.stdout.write(u32(len(out)) + out)
                await p.stdout.drain()
        except (asyncio.IncompleteReadError, OSError):
            p.exit(0)

    def _answer(self, m, user, given):
        kind, ident = m[0], m[1:5]

        def status(code, words=b""):
            return b"\x65" + ident + u32(code) + text(words) + text(b"")

        def names(rows):
            return b"\x68" + ident + u32(len(rows)) + b"".join(text(n) + text(long) + a for n, long, a in rows)
        place = user.partition("-")[0]
        if kind == 1:
            return b"\2" + u32(3)
        if kind == 16:
            return names([(b"/t", b"/t", attrs(0o40755, 0))])
        if kind == 19:
            x = self.said(user)
            return names([(x, x, attrs(0o100644))])
        if kind in (7, 17) and m.endswith(b"/l.csv"):
            return b"\x69" + ident + attrs(0o100644 if kind == 17 else 0o120777)
        if kind in (7, 17, 8):
            return b"\x69" + ident + attrs(0o40755, 0)
        if kind == 11:
            return status(4, self.said(user)) if place == "open" else b"\x66" + ident + text(b"h")
        if kind == 12 and given.get("read"):
            return status(1)
        if kind == 12:
            given["read"] = True
            if place == "read":
                return status(4, self.said(user))
            if place == "names":
                return names([(x, b"-rw-r--r-- 1 u g 5 Jan 1 2024 " + x, attrs(0o100644)) for x in self.strings])
            if place == "target":
                return names([(b"l.csv", b"lrwxrwxrwx 1 u g 5 Jan 1 2024 l.csv", attrs(0o120777))])
            return names([(b"a.csv", self.said(user), attrs(0o100644))])
        return status(0)

    def source(self, user, **fields):
        fields.setdefault("auth_methods", "keyboard-interactive" if user.startswith("kbdint-") else "password")
        return dict({"source_type": "sftp", "host": "127.0.0.1", "port": self.port, "username": user, "password": "x", "path": "/t", "subsystem": "odd", "host_keys": [self.known]}, **fields)

    def stop(self):
        def end():
            self.server.close()
            tasks = asyncio.all_tasks(self.loop)
            for x in tasks:
                x.cancel()
            asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: self.loop.stop())
        self.loop.call_soon_threadsafe(end)
        self.thread.join(10)
