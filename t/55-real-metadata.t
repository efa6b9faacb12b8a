#!/usr/bin/python3
"""Apache Kafka holds what is done beyond the frontier, in the metadata of the commits."""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import completed  # noqa: E402
from poller import Daemon, RealBroker, Tap, World, free_port, generated, invalid, job, need, rfc3339, wait_for  # noqa: E402


def serves(d):
    try:
        return d.http("/metrics")[0] == 200
    except OSError:
        return False


def offset_commit(w, offset, metadata):
    """The error code of an OffsetCommit request, version 2, by hand."""
    text = lambda s: struct.pack(">h", len(s)) + s.encode()  # noqa: E731
    body = (struct.pack(">hhi", 8, 2, 7) + text("test") + text(w.group) + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1) +
            text(w.topics["jobs"]) + struct.pack(">iiq", 1, 0, offset) + text(metadata))
    host, port = w.broker.bootstrap.split(":")
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(10)
        s.sendall(struct.pack(">i", len(body)) + body)
        n = struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))[0]
        return struct.unpack(">h", s.recv(n, socket.MSG_WAITALL)[-2:])[0]


def metadata(t, b):
    """Jobs that wait, each followed by 128 messages that end at once: the frontier stands still, the rest travels as text."""
    w = World(b)
    held, gap = 440, 128
    conf = {"jobs.hold_max": "1h", "log.level": "error", "http.listen": "127.0.0.1:%d" % free_port()}
    d = Daemon(w, conf, ready=False)
    wait_for("the status page", lambda: serves(d))
    at = rfc3339(1800)
    values, bad = [], invalid(b"{")
    for i in range(held):
        values.append(job("held-%d" % i, generated(1), scheduled_at=at))
        values += [bad] * gap
    w.push(*values)
    began = time.monotonic()
    want = held * gap
    seen = d.wait_metric("poller_jobs_total", want, 60, status="failed")
    t.is_(seen, want, "%d messages that do not parse are answered beside %d that wait" % (want, held))
    t.diag("%.0f a second" % (want / (time.monotonic() - began)))
    # The commit that holds all of them, not the one on its way when the last was counted.
    got = wait_for("the commit", lambda: (lambda g: g if g[0] == 0 and len(completed(g[1])) == want else None)(w.committed_metadata()[0]), 15)
    t.ok(1700 < len(got[1]) <= 3676, "the broker holds a commit of offset 0 with %d characters of metadata, run lengths over a span of %d" % (len(got[1]), len(values)))
    d.kill()
    d = Daemon(w, conf, keep=d, ready=False)
    wait_for("the status page", lambda: serves(d))
    t.is_(d.wait_metric("poller_jobs_repeats_skipped_total", want, 60), want, "after a SIGKILL the next master skips all that was done")
    t.is_(d.wait_metric("poller_jobs_accepted_total", held), held, "and takes only those that had waited")
    d.kill()

    w = World(b, name="largest")
    t.is_((offset_commit(w, 5, "R1" + "A" * 3674), w.committed_metadata()[0]), (0, (5, "R1" + "A" * 3674)), "a real broker takes metadata of 3,676 characters")
    t.ok(offset_commit(w, 6, "A" * 5000) != 0 and w.committed_metadata()[0][0] == 5, "and refuses 5,000")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http")
    t.part(metadata, RealBroker(t))


with Tap() as tap:
    main(tap)
