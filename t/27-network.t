#!/usr/bin/python3
"""What every source does alike, over the real servers of each type: filters, depths, caps; and what a broken network does."""
import hashlib
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import SLOW, Tap, free_port, need  # noqa: E402
from servers import Proxy, free_range  # noqa: E402


# ---- the proxy itself, before a server that is Python's ------------------------------------------------------------------

class Peer:
    """A TCP server: each connection is given to script(socket) in a thread of its own."""

    def __init__(self, script, host="127.0.0.1", port=0):
        self.s = socket.create_server((host, port))
        self.port = self.s.getsockname()[1]
        self.script = script
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c = self.s.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        with c:
            try:
                self.script(c)
            except OSError:
                pass

    def close(self):
        self.s.close()


def echo(c):
    while True:
        b = c.recv(65536)
        if not b:
            return
        c.sendall(b)


def sends(data):
    def script(c):
        c.sendall(data)
        c.shutdown(socket.SHUT_WR)
        while c.recv(65536):
            pass
    return script


def read_all(s):
    """(bytes, how it ended)"""
    got = b""
    while True:
        try:
            b = s.recv(65536)
        except socket.timeout:
            return got, "silence"
        except ConnectionResetError:
            return got, "reset"
        if not b:
            return got, "end"
        got += b


def dial(proxy, timeout=10):
    return socket.create_connection((proxy.host, proxy.port), timeout * SLOW)


def through(proxy, timeout=10):
    try:
        s = dial(proxy, timeout)
    except ConnectionResetError:        # between its handshake and connect(2)'s return
        return b"", "reset"
    with s:
        return read_all(s)


def proxy_passes(t):
    p = Peer(echo)
    data = os.urandom(3000000)
    with Proxy(("127.0.0.1", p.port)) as x:
        with dial(x) as s:
            w = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
            w.start()
            got, how = read_all(s)
            w.join()
        t.is_((len(got), hashlib.sha256(got).hexdigest(), how), (len(data), hashlib.sha256(data).hexdigest(), "end"), "netproxy: 3 MB up and down again, each byte, and the end")
        c = x.stop()
        t.is_({k: c[k] for k in ("connections", "refused", "broken", "up", "down")},
              {"connections": 1, "refused": 0, "broken": 0, "up": len(data), "down": len(data)}, "netproxy: counts")
    p.close()


def proxy_delays(t):
    p = Peer(echo)
    with Proxy(("127.0.0.1", p.port), rtt_ms=100) as x:
        began = time.monotonic()
        with dial(x) as s:
            times = []
            for _ in range(3):
                s.sendall(b"x")
                s.recv(1)
                times.append(time.monotonic() - began)
            s.sendall(b"y" * 50)
            s.shutdown(socket.SHUT_WR)
            t.is_(read_all(s), (b"y" * 50, "end"), "netproxy: what is under way arrives before the end")
    t.ok(0.2 <= times[0] < 0.3 * SLOW and 0.1 <= times[1] - times[0] < 0.2 * SLOW and 0.1 <= times[2] - times[1] < 0.2 * SLOW,
         "netproxy: 100 ms a round trip, one more for the handshake", times)
    p.close()
    p = Peer(sends(b"z" * 50000))
    with Proxy(("127.0.0.1", p.port), rate=100000) as x:
        began = time.monotonic()
        got = through(x)
        took = time.monotonic() - began
    t.ok(got == (b"z" * 50000, "end") and 0.45 < took < 1 * SLOW, "netproxy: 50 kB at 100 kB/s take half a second", took)
    p.close()


def proxy_breaks(t):
    data = bytes(i % 251 for i in range(5000))
    p = Peer(sends(data))
    to = ("127.0.0.1", p.port)
    for n in (0, 1, 50, 4999, 5000):
        for how, end in (("cut", "end"), ("reset", "reset")):
            with Proxy(to, **{how + "_at": n}) as x:
                t.is_(through(x), (data[:n], end), "netproxy: %s at byte %d" % (how, n))
                t.is_(x.stop()["broken"], 1, "netproxy: and counted")
    with Proxy(to, freeze_at=70) as x:
        with dial(x, 0.3) as s:
            t.is_(read_all(s), (data[:70], "silence"), "netproxy: frozen at byte 70, and open")
            t.is_(x.order()["open"], 1, "netproxy: while its client stays")
    with Proxy(to, cut_at=10, connection=2) as x:
        t.is_([len(through(x)[0]) for _ in range(3)], [5000, 10, 5000], "netproxy: the second connection alone")
        x.order("cut-at 20")
        t.is_([len(through(x)[0]) for _ in range(3)], [5000, 20, 5000], "netproxy: counted anew from an order on")
        x.order("whole")
        t.is_([len(through(x)[0]) for _ in range(2)], [5000, 5000], "netproxy: whole again")
    p.close()
    seen = []
    p = Peer(lambda c: seen.append(read_all(c)))
    with Proxy(("127.0.0.1", p.port), cut_at=7, direction="up") as x:
        with dial(x) as s:
            s.sendall(b"0123456789")
            read_all(s)
        end = time.monotonic() + 10 * SLOW
        while not seen and time.monotonic() < end:
            time.sleep(0.01)
    t.ok(seen and seen[0][0] == b"0123456", "netproxy: cut on the way up", seen)
    p.close()
    p = Peer(echo)
    with Proxy(("127.0.0.1", p.port)) as x:
        with dial(x) as s, dial(x) as other:
            for c in (s, other):
                c.sendall(b"ping")
                c.recv(4)
            x.order("cut")
            t.is_((read_all(s), read_all(other)), ((b"", "end"), (b"", "end")), "netproxy: ordered to cut what is open")
    p.close()
    with Proxy(("127.0.0.1", free_port())) as x:
        t.is_((through(x)[1], x.stop()["refused"]), ("reset", 1), "netproxy: its server refuses")


def proxy_maps(t):
    first = free_range(3, "127.0.0.3", "127.0.0.4")
    peers = [Peer(sends(b"port %d" % p), "127.0.0.3", p) for p in range(first, first + 3)]
    main = Peer(sends(b"main"), "127.0.0.3")
    with Proxy(("127.0.0.3", main.port), "127.0.0.4:0", map="127.0.0.4:%d-%d=127.0.0.3" % (first, first + 2), cut_at=3, where="map") as x:
        got = [through(x)[0]]
        for p in range(first, first + 3):
            with socket.create_connection(("127.0.0.4", p), 10) as s:
                got.append(read_all(s)[0])
        t.is_(got, [b"main", b"por", b"por", b"por"], "netproxy: a range of ports on another address; broken there alone")
        t.is_(x.stop()["mapped"], 3, "netproxy: and counted")
    for p in peers + [main]:
        p.close()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "t/lib/netproxy")
    for part in (proxy_passes, proxy_delays, proxy_breaks, proxy_maps):
        t.part(part)


with Tap() as tap:
    main(tap)
