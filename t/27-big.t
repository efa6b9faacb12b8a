#!/usr/bin/python3
"""100 directories of 1,000 files, as each kind of server shows them: every file once, no other, by a worker that stays small."""
import collections
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import trees  # noqa: E402
import webservers  # noqa: E402
from poller import SANITIZED, Daemon, MockBroker, Tap, World, conservation, deadline, need, validate  # noqa: E402
from s3servers import Pages  # noqa: E402

HELD_TO_SCHEMA = 1000   # of the events; the rest are the same code's


def raw_events(w, n, timeout):
    """The values of the first n events, as bytes."""
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": w.broker.bootstrap, "group.id": "big", "enable.auto.commit": False, "fetch.wait.max.ms": 20, "log_level": 0})
    c.assign([TopicPartition(w.topics["events"], p, 0) for p in range(w.n_partitions["events"])])
    got, end = [], deadline(timeout)
    while len(got) < n and time.monotonic() < end:
        got += [m.value() for m in c.consume(5000, 1) if m.error() is None]
    got += [m.value() for m in c.consume(1000, 0.5) if m.error() is None]       # and no more
    c.close()
    return got


def whole(t, name, source):
    """One server, and a broker of its own: what 100,000 events take is given back."""
    b = MockBroker(t)
    w = World(b, event_partitions=4)
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8"], "local.allowed_roots": [trees.big().root], "workers.count": 1})
    w.push({"job_id": "big", "source_config": dict(source, recursive=True)})
    r = w.result_of("big", 240)
    want = {p.decode(): n for p, n in trees.big_paths().items()}
    t.is_((r["event_type"], r["listed"] >= len(want), r["matched"], r["published"], r["truncated"]), ("job.completed", True, len(want), len(want), False), "%s: completed" % name)
    events = [json.loads(x) for x in raw_events(w, len(want), 60)]
    got = collections.Counter(e["relative_path"] for e in events)
    t.ok(set(got) == set(want) and set(got.values()) == {1}, "%s: each of the 100,000 once, and no other" % name, sorted(set(want) - set(got))[:5], sorted(set(got) - set(want))[:5], got.most_common(3))
    t.ok(all(e["file_size"] == want[e["relative_path"]] for e in events), "%s: each with its size" % name)
    wrong = [x for x in (validate("event", e) for e in events[::len(want) // HELD_TO_SCHEMA]) if x]
    t.ok(not wrong and len({e["event_id"] for e in events}) == len(want), "%s: each with an id of its own, as the schema says" % name, wrong[:3])
    peak = max(int(line.split()[1]) for pid in d.workers().values() for line in open("/proc/%d/status" % pid) if line.startswith("VmHWM:"))
    t.diag("%s: %.2f s, worker %.1f MiB" % (name, r["duration_seconds"], peak / 1024))
    if not SANITIZED:
        t.ok(peak < 32 << 10, "%s: a worker below 32 MiB" % name, peak)
    left, right = conservation(d)
    t.is_(left, right, "%s: conservation" % name)
    t.is_(d.stop(), 0, "%s: exit 0" % name)
    for r in w.readers.values():
        r.close()
    b.stop()


def local(t, tree):
    whole(t, "local", {"source_type": "local", "path": tree.root})


def ftp(t, tree):
    for server in (ftpservers.Vsftpd, ftpservers.PureFtpd):
        s = server(tree.root)
        whole(t, s.name, s.source("/"))
        s.stop()


def http(t, tree):
    for cls, kinds in ((webservers.Nginx, ("json", "html")), (webservers.Apache, ("dav",))):
        s = cls(tree.root)
        for kind in kinds:
            name = "%s, %s" % (cls.__name__, kind)
            whole(t, name, {"source_type": "webdav" if kind == "dav" else "http", "url": s.url[kind], "max_connections": 4})
        s.stop()


def s3(t, tree):
    p = Pages({k: n for k, n in trees.big_paths().items()})
    whole(t, "s3, pages of the test's own", p.source(max_connections=4))
    p.stop()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    if not ftpservers.here():
        t.skip_all("needs root and the packages of vsftpd, pure-ftpd and proftpd")
    tree = trees.big()
    for part in (local, ftp, http, s3):
        t.part(part, tree)


with Tap() as tap:
    main(tap)
