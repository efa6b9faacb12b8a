"""servers.py - what the tests of network sources start beside the daemon: the breaking proxy, and one server of each type.

Proxy is t/lib/netproxy.c as an object. SERVED has, for each source type, how one tree of the disk is served by a real
server and how a job names it there; the servers themselves are in sshd.py, ftpservers.py, webservers.py and s3servers.py.
"""
import importlib
import json
import os
import select
import socket
import subprocess
import threading

import poller
from poller import Lines, clean_env, program

HERE = os.path.dirname(os.path.abspath(__file__))


class Proxy:
    """netproxy before `to` = (host, port). rtt_ms: a round trip; cut_at=N, reset_at=N, freeze_at=N, direction=, connection=,
    where=, map=, rate= as its options. .port is where it listens; order() gives it an order and gets its counts."""

    def __init__(self, to, listen="127.0.0.1:0", rtt_ms=0, **options):
        argv = [program("t/lib/netproxy")]
        for m in [options.pop("map", None) or []]:
            for one in [m] if isinstance(m, str) else m:
                argv += ["--map", one]
        argv += ["--listen", listen, "--to", "%s:%d" % tuple(to)]
        if rtt_ms:
            argv += ["--delay-ms", str(rtt_ms // 2)]
        for k, v in options.items():
            if v is not None:
                argv += ["--" + k.replace("_", "-"), str(v)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=clean_env())
        poller._processes.append(self.process)
        self.out, self.err = Lines(self.process.stdout), Lines(self.process.stderr)
        try:
            self.port = int(self.out.wait(lambda x: x and x[0], 10, "netproxy's port"))
        except poller.Timeout:
            raise RuntimeError("netproxy: %s" % " ".join(self.err.lines))
        self.host = listen.rpartition(":")[0].strip("[]")
        self.answers = 1

    def order(self, line="stats"):
        """stats, whole, cut-at N, reset-at N, freeze-at N, cut, reset, freeze; gives the counts."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.answers += 1
        return self._counts(self.answers)

    def _counts(self, n):
        return json.loads(self.out.wait(lambda x: len(x) >= n and x[n - 1], 10, "netproxy's answer"))

    def stop(self):
        """Ends it; gives its counts."""
        self.process.terminate()
        self.process.wait(10)
        self.out.thread.join(10)
        return json.loads(self.out.lines[-1])

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if self.process.poll() is None:
            self.stop()


class Front:
    """Stands before a server on loopback and counts the connections that are open at once: one whose client has closed it
    is none any more, whoever has noticed. While .gate is unset what is accepted goes nowhere."""

    def __init__(self, port):
        self.to, self.lock = port, threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.accepted, self.peak, self.live, self.clients = 0, 0, 0, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _open(self):
        p = select.poll()
        for s in self.clients:
            p.register(s, select.POLLRDHUP)
        gone = {fd for fd, _ in p.poll(0)}
        return [s for s in self.clients if s.fileno() not in gone]

    def open(self):
        """How many are open now."""
        with self.lock:
            return len(self._open())

    def hang_up(self):
        """As if the server had closed all that there are."""
        with self.lock:
            for s in self.clients:
                s.shutdown(socket.SHUT_RDWR)
        poller.wait_for("the connections to be closed", lambda: not self.live)

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.clients.append(s)
                self.live += 1
                self.accepted += 1
                self.peak = max(self.peak, len(self._open()))
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, client):
        try:
            self.gate.wait()
            with socket.create_connection(("127.0.0.1", self.to)) as server:
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
                self._pump(client, server)
        except OSError:
            pass
        finally:
            with self.lock:
                self.clients.remove(client)
                client.close()
                self.live -= 1

    @staticmethod
    def _pump(a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.gate.set()
        self.listener.close()


def free_range(n, *hosts):
    """The first of n ports in a row that are free on all of these addresses (for passive FTP and Proxy's map)."""
    rows = range(21000, 31000 - n, n)
    for i in range(len(rows)):
        first = rows[(os.getpid() + i) % len(rows)]     # tests beside this one begin elsewhere
        held = []
        try:
            for host in hosts:
                for p in range(first, first + n):
                    s = socket.socket()
                    held.append(s)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)     # as servers do: what closed a moment ago is free
                    s.bind((host, p))
            return first
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no %d free ports in a row" % n)


class Absent(Exception):
    """This server cannot be had here; the text says why."""


class Served:
    """A folder of this machine and how jobs name what is below it. dots: names that begin with '.' can be seen. refuses: a
    directory of mode 0 is refused (closed: what to serve it with). own_times: files have the time at which they were put."""
    dots, refuses, own_times = True, True, False
    peer = None             # (host, port), for a proxy
    wheres = ("all",)       # what of it is broken one after the other

    def __init__(self, root):
        self.root = root

    def source(self, sub="", **fields):
        raise NotImplementedError

    def proxy(self, k=0, **options):
        """The k-th proxy before it; several may run at a time."""
        return Proxy(self.peer, **options)

    def through(self, proxy, source):
        """The same source behind a proxy."""
        return dict(source, host=proxy.host, port=proxy.port)

    def put_file(self, sub, size):
        """It has this size from now on."""
        with open(os.path.join(self.root, sub), "ab") as f:
            f.truncate(size)

    def stop(self):
        pass


class ServedLocal(Served):
    type = name = "local"

    def source(self, sub="", **fields):
        return dict({"source_type": "local", "path": os.path.join(self.root, sub) if sub else self.root}, **fields)


class ServedDummy(Served):
    """Its files are those of dummy.data_path, which must be this root."""
    type = name = "dummy"

    def source(self, sub="", **fields):
        return dict({"source_type": "dummy", "path": os.path.join(self.root, sub) if sub else self.root}, **fields)


class ServedSftp(Served):
    type = "sftp"
    name = "sftp (OpenSSH)"

    def __init__(self, root):
        super().__init__(root)
        sshd = importlib.import_module("sshd")
        if not sshd.here():
            raise Absent("OpenSSH's server is not installed")
        wrap = poller.without_override()
        self.refuses = wrap is not None
        self.server = sshd.Sshd(sshd.Keys(), wrap=wrap or ())
        self.peer = ("127.0.0.1", self.server.port)

    def source(self, sub="", **fields):
        return self.server.source(os.path.join(self.root, sub) if sub else self.root, **fields)

    def through(self, proxy, source):
        return dict(super().through(proxy, source), known_hosts=self.server.known_hosts(port=proxy.port))

    def stop(self):
        self.server.stop()


class ServedFtp(Served):
    type = "ftp"
    name = "ftp (pure-ftpd)"
    wheres = ("main", "map")

    def __init__(self, root):
        super().__init__(root)
        ftp = importlib.import_module("ftpservers")
        if not ftp.here():
            raise Absent("no FTP server can be had here (root, apt-get download)")
        # the proxies have the same ports at other addresses
        self.server = ftp.PureFtpd(root, address="127.0.0.3")
        self.peer = (self.server.address, self.server.port)

    def proxy(self, k=0, **options):
        at, first = "127.0.4.%d" % (k + 1), self.server.passive
        return Proxy(self.peer, at + ":0", map="%s:%d-%d=%s" % (at, first, first + 199, self.server.address), **options)

    def source(self, sub="", **fields):
        return self.server.source("/" + sub, **fields)

    def stop(self):
        self.server.stop()


class ServedHttp(Served):
    type = "http"

    def __init__(self, root):
        super().__init__(root)
        web = importlib.import_module("webservers")
        if not web.find(self.program):
            raise Absent("%s is not installed" % self.program)
        self.start(web)

    def source(self, sub="", **fields):
        # one file has no slash at its end
        slash = "/" if sub and os.path.isdir(os.path.join(self.root, sub)) else ""
        return dict({"source_type": "http", "url": self.url + sub + slash}, **fields)

    def through(self, proxy, source):
        return dict(source, url=source["url"].replace(self.url, "http://%s:%d/" % (proxy.host, proxy.port)))

    def stop(self):
        self.server.stop()


class ServedNginx(ServedHttp):
    name, program = "http (nginx, JSON)", "nginx"
    dots = refuses = False      # the server runs as who may read all

    def start(self, web):
        self.server = web.Nginx(self.root)
        self.url = self.server.url["json"]
        self.peer = ("127.0.0.1", self.server.port["json"])


class ServedDav(ServedHttp):
    name, program = "http (Apache, WebDAV)", "apache"

    def start(self, web):
        self.server = web.Apache(self.root)
        self.url = self.server.url["dav"]
        self.peer = ("127.0.0.1", self.server.port["dav"])

    def source(self, sub="", **fields):
        return super().source(sub, index_format="webdav", **fields)


class ServedS3(Served):
    """Every file of the folder as an object of one bucket, with as many bytes."""
    type = "s3"
    name = "s3 (S3Proxy)"
    refuses, own_times = False, True

    def __init__(self, root):
        super().__init__(root)
        s3 = importlib.import_module("s3servers")
        try:
            self.server = s3.S3Proxy()
        except s3.Missing as e:
            raise Absent(str(e))
        self.server.client.make_bucket("tree")
        for top, _, names in os.walk(root):
            for n in names:
                p = os.path.join(top, n)
                if not self.server.client.put("tree", os.path.relpath(p, root), b"x" * os.path.getsize(p)):
                    raise RuntimeError("S3Proxy did not take %s" % p)
        self.peer = ("127.0.0.1", self.server.port)

    def source(self, sub="", **fields):
        return self.server.source("tree", **dict({"path": sub} if sub else {}, **fields))

    def put_file(self, sub, size):
        # the server may have closed a connection that was idle for long
        self.server.client.connection.close()
        if not self.server.client.put("tree", sub, b"x" * size):
            raise RuntimeError("S3Proxy did not take %s" % sub)

    def through(self, proxy, source):
        return dict(source, endpoint="http://%s:%d" % (proxy.host, proxy.port))

    def stop(self):
        self.server.server.stop()


SERVED = [ServedLocal, ServedSftp, ServedFtp, ServedNginx, ServedDav, ServedS3]
