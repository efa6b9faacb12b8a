"""servers.py - what the tests of network sources start beside the daemon: the breaking proxy, and one server of each type.

Proxy is t/lib/netproxy.c as an object. SERVED has, for each source type, how one tree of the disk is served by a real
server and how a job names it there; the servers themselves are in sshd.py, ftpservers.py, webservers.py and s3servers.py.
"""
import importlib
import json
import os
import socket
import subprocess

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


def free_range(n, *hosts):
    """The first of n ports in a row that are free on all of these addresses (for passive FTP and Proxy's map)."""
    for first in range(21000, 31000, n):
        held = []
        try:
            for host in hosts:
                for p in range(first, first + n):
                    s = socket.socket()
                    held.append(s)
                    s.bind((host, p))
            return first
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no %d free ports in a row" % n)
