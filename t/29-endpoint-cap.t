#!/usr/bin/python3
"""network.endpoint_connections: never more connections to one server than it says, over all tasks, tenants and workers, those that
are kept idle too; counted before the server itself, for each type of network source."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import sshd  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, folder, job, wait_for  # noqa: E402
from s3servers import Pages  # noqa: E402
from servers import Front  # noqa: E402
from webservers import Answers  # noqa: E402

DIRS = 12
CAP = 3


def conf(**more):
    c = {"egress.allow": ["127.0.0.0/8", "::1/128"], "workers.count": 4, "network.keep_idle": "60s", "network.endpoint_connections": CAP}
    c.update({k.replace("__", "."): v for k, v in more.items()})
    return c


def tree():
    root = folder()
    os.chmod(root, 0o755)
    for i in range(DIRS):
        os.mkdir(os.path.join(root, "d%d" % i))
        with open(os.path.join(root, "d%d" % i, "f.csv"), "w"):
            pass
    return root


class Web:
    """An index of directories with one file each."""

    def __init__(self):
        self.server = Answers(self.answer)
        self.port = int(self.server.url.rpartition(":")[2])

    def answer(self, request):
        names = ["f.csv"] if request.path.count("/") > 2 else ["d%d/" % i for i in range(DIRS)]
        rows = [{"name": n.rstrip("/"), "type": "directory" if n.endswith("/") else "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in names]
        return {"headers": {"Content-Type": "application/json"}, "body": json.dumps(rows).encode()}

    def source(self, port, **fields):
        return dict({"source_type": "http", "url": "http://127.0.0.1:%d/in/" % port, "index_format": "json", "head_mode": "none"}, **fields)


class Bucket:
    def __init__(self):
        self.server = Pages([b"d%d/f.csv" % i for i in range(DIRS)], page=4)
        self.port = self.server.port

    def source(self, port, **fields):
        return self.server.source(endpoint="http://127.0.0.1:%d" % port, region="us-east-1", **fields)


class Ftp:
    def __init__(self):
        if not ftpservers.here():
            raise LookupError("no FTP server can be had here")
        self.server = ftpservers.PureFtpd(tree())
        self.port = self.server.port

    def source(self, port, **fields):
        return dict(self.server.source("/", **fields), port=port)


class Sftp:
    def __init__(self):
        if not sshd.here():
            raise LookupError("OpenSSH's server is not installed")
        self.root = tree()
        self.server = sshd.Sshd(sshd.Keys())
        self.port = self.server.port

    def source(self, port, **fields):
        return dict(self.server.source(self.root, known_hosts=self.server.known_hosts(port=port), **fields), port=port)


def row(d, port):
    return {x["endpoint"].rpartition(":")[2]: x for x in d.ctl("endpoints")[1]["endpoints"]}.get(str(port), {})


def kinds(t, b, what):
    for kind in (Web, Bucket, Ftp, Sftp):
        name = kind.__name__.lower()
        try:
            server = kind()
        except LookupError as e:
            t.ok(True, "%s # SKIP %s" % (name, e))
            continue
        what(t, b, name, server)


def never_more(t, b, name, server):
    """Four tenants, four workers, tasks that each ask for two; then what is kept of them makes room for a fifth tenant."""
    w, front = World(b), Front(server.port)
    d = Daemon(w, conf())
    front.gate.clear()
    jobs = [job("%s-%d" % (org, i), server.source(front.port, recursive=True, max_connections=2), org_id=org) for i in range(3) for org in ("p", "q", "r", "s")]
    w.push(*jobs)
    x = wait_for("%s: tasks that wait for a connection" % name, lambda: (lambda r: r if r.get("waiting") and r["connections"] == CAP else None)(row(d, front.port)))
    t.is_((x["waits_for"], x["connections_max"], x["running"]), ("endpoint_connections", CAP, CAP if name == "sftp" else 2), "%s: those that run hold them all, others wait" % name)
    t.ok(any(j["waits_for"] == "endpoint_connections" for j in d.ctl("jobs")[1]["jobs"]), "%s: iis-pollerctl jobs says what for" % name)
    front.gate.set()
    got = w.results(len(jobs), 120)
    t.ok(all(r["event_type"] == "job.completed" for r in got), "%s: all of them are served" % name, [r.raw for r in got if r["event_type"] != "job.completed"][:1])
    t.is_([len(w.events_of(j["job_id"])) for j in (jobs[0], jobs[-1])], [DIRS, DIRS], "%s: and whole" % name)
    t.ok(wait_for("the metric", lambda: d.metric("poller_connection_wait_seconds_total")), "%s: poller_connection_wait_seconds_total" % name)
    x = wait_for("%s: nothing but what is kept" % name, lambda: (lambda r: r if not r["running"] and r["connections"] == r["kept_connections"] == front.open() else None)(row(d, front.port)))
    t.ok(0 < x["kept_connections"] <= CAP and x["connection_wait_seconds"] > 0, "%s: some are kept, and counted" % name, x)
    # Whoever keeps what is kept: three more tenants need room, so that of the kept ones at least one is closed.
    more = [job("late-%s" % org, server.source(front.port, recursive=True, max_connections=2), org_id=org) for org in ("x", "y", "z")]
    w.push(*more)
    t.ok(all(w.result_of(j["job_id"], 60)["event_type"] == "job.completed" for j in more), "%s: kept connections make room for other tenants" % name)
    t.is_(front.peak, CAP, "%s: there were %d connections, and never one more" % (name, CAP))
    t.is_([x for x in d.ctl("crashes")[1]["crashes"] if x["cause"] != "exchanged"], [], "%s: no worker was ended for it" % name)
    t.is_(d.stop(), 0, "%s: exit 0" % name)
    front.stop()


def one_for_all(t, b, name, server):
    """A cap of one: the next task of the same tenant goes on with the connection of the one before, another tenant's closes it."""
    w, front = World(b), Front(server.port)
    d = Daemon(w, conf(network__endpoint_connections=1, workers__count=2))
    w.push(*[job("a-%d" % i, server.source(front.port, recursive=True), org_id="a") for i in range(5)])
    got = w.results(5, 60)
    t.is_(([r["event_type"] for r in got], front.accepted), (["job.completed"] * 5, 1), "%s: five tasks over one connection" % name)
    w.push(*[job("b-%d" % i, server.source(front.port, recursive=True), org_id="b") for i in range(2)])
    t.is_([w.result_of("b-%d" % i, 60)["event_type"] for i in range(2)], ["job.completed"] * 2, "%s: another tenant's" % name)
    t.is_((front.accepted, front.peak), (2, 1), "%s: over a second one, opened when the first was closed" % name)
    # A worker that is killed has none any more.
    pid = next(x["pid"] for x in d.ctl("workers")[1]["workers"] if x["bound_to"] == "b")
    os.kill(pid, 9)
    w.push(job("c", server.source(front.port, recursive=True), org_id="c"))
    t.is_((w.result_of("c", 60)["event_type"], front.peak), ("job.completed", 1), "%s: after its worker was killed" % name)
    d.stop()
    front.stop()


def main(t):
    b = MockBroker(t)
    for part in (never_more, one_for_all):
        t.part(kinds, b, part)


with Tap() as tap:
    main(tap)
