#!/usr/bin/python3
"""iis-pollerd --demo as a person uses it: what it prints is enough to go on with, and nothing of it stays behind."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, SLOW, Lines, Tap, _processes, alive, check_headers, clean_env, folder, need, program, run,  # noqa: E402
                    validate, wait_for)


class Demo:
    def __init__(self):
        self.tmp = folder()
        # A person may have a poller of his own on the port of the status page: --demo takes another one then.
        self.process = subprocess.Popen([program("iis-pollerd"), "--demo", "-o", "http.listen=127.0.0.1:0"], cwd=ROOT, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_env({"TMPDIR": self.tmp}))
        _processes.append(self.process)
        self.out, self.log = Lines(self.process.stdout), Lines(self.process.stderr)
        self.out.wait(lambda lines: any("Control-C" in x for x in lines), 20, "the greeting")
        self.text = "\n".join(self.out.lines)
        self.said = dict(re.findall(r"^(bootstrap|status|socket) +(\S+)$", self.text, re.M))
        self.env = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ *export (.*)$", self.text, re.M).group(1)))

    def ctl(self, *args, stdin=None):
        return run(program("iis-pollerctl"), *args, env=clean_env(self.env), cwd=ROOT, stdin=stdin)

    def kcat(self, *args, stdin=None):
        return run("kcat", "-b", self.said["bootstrap"], *args, stdin=stdin)

    def topic(self, name, n, what):
        """[(headers, value)] of the first n records, by kcat; waits until there are so many."""
        def probe():
            code, out, err = self.kcat("-C", "-t", name, "-o", "beginning", "-e", "-q", "-f", "%h\t%s\n")
            rows = [x.split("\t", 1) for x in out.splitlines() if x]
            return rows if code == 0 and len(rows) >= n else None
        return [(dict(x.split("=", 1) for x in h.split(",") if "=" in x), json.loads(v)) for h, v in wait_for(what, probe, 30, every=0.2)]


def greeting(t, d):
    t.is_(sorted(d.said), ["bootstrap", "socket", "status"], "it prints bootstrap, status and socket")
    t.ok(re.match(r"127\.0\.0\.1:\d+$", d.said["bootstrap"]), "the broker is on loopback", d.said)
    t.is_(d.env, {"KAFKA_BOOTSTRAP_SERVERS": d.said["bootstrap"], "IIS_POLLER_CONTROL_SOCKET": d.said["socket"]}, "the line to export has both")
    left = os.listdir(d.tmp)
    t.ok(len(left) == 1 and d.said["socket"].startswith(os.path.join(d.tmp, left[0]) + "/"), "one temporary directory, below TMPDIR", left, d.said)
    t.is_(os.stat(os.path.join(d.tmp, left[0])).st_mode & 0o777, 0o700, "it is the user's alone")
    for path, kind in (("/readyz", "text/plain"), ("/metrics", "text/plain"), ("/status", "text/html")):
        def answers(p=path):
            try:
                with urllib.request.urlopen(d.said["status"] + p, timeout=5 * SLOW) as r:
                    return r.status, r.headers["content-type"], r.read().decode()
            except OSError:
                return None
        status, got, body = wait_for("%s of the printed address" % path, answers, 20, every=0.1)
        t.ok(status == 200 and got.startswith(kind) and body, "%s answers" % path, status, got)
    code, out, err = d.ctl("ping")
    t.ok(code == 0, "iis-pollerctl ping", out, err)


def by_kcat(t, d):
    if not shutil.which("kcat"):
        t.skip("a job by kcat", "kcat is not installed")
        return
    j = json.dumps({"job_id": "by-kcat", "org_id": "acme", "source_config": {"source_type": "dummy", "path": "./dummy_data"},
                    "file_pattern": "*.csv"})
    code, out, err = d.kcat("-P", "-t", "polling-queue", stdin=j)
    t.is_(code, 0, "kcat -P takes a job")
    rows = d.topic("file-event-queue", 3, "three events")
    wrong = [x for h, v in rows for x in [validate("event", v) or check_headers("event", v, h)] if x]
    t.ok(not wrong, "the events fit their schema and headers", wrong)
    t.same_set([v["file_name"] for _, v in rows],
               [x for x in os.listdir(os.path.join(ROOT, "dummy_data")) if x.endswith(".csv")], "one event for each file of dummy_data")
    t.is_({(v["job_id"], v["org_id"]) for _, v in rows}, {("by-kcat", "acme")}, "they are of this job")
    (h, r), = d.topic("polling-results", 1, "the result")
    t.is_((validate("result", r), r["event_type"], r["published"]), (None, "job.completed", 3), "its terminal record")


def form(v):
    """Names, their order, and kinds of values."""
    if isinstance(v, dict):
        return [(k, form(x)) for k, x in v.items()]
    return [form(x) for x in v] if isinstance(v, list) else type(v).__name__


def readme(t, d):
    """What the README shows is what comes."""
    with open(os.path.join(ROOT, "README.md")) as f:
        shown = [json.loads(x) for x in f.read().splitlines() if x.startswith('{"')]
    for topic, first in (("file-event-queue", "event_id"), ("polling-results", "schema_version")):
        mine = [v for v in shown if next(iter(v)) == first]
        (_, real) = d.topic(topic, 1, "a record")[0]
        t.is_([form(v) for v in mine], [form(real)], "README's record of %s has today's form" % topic)


def by_ctl(t, d):
    """The very lines that it prints."""
    line = re.search(r"^ *iis-pollerctl (push .*)$", d.text, re.M).group(1)
    code, out, err = d.ctl(*[x.strip("'") for x in line.split()])
    t.ok(code == 0, "iis-pollerctl push, as printed", out, err)
    rows = wait_for("two results", lambda: (lambda r: r if len(r) == 2 else None)(peek(d, "results")), 30, every=0.2)
    t.is_([r["event_type"] for r in rows], ["job.completed"] * 2, "peek results")
    events = peek(d, "events")
    t.is_((len(events), len({e["event_id"] for e in events}), len({e["job_id"] for e in events})), (6, 6, 2), "peek events: three of each job")
    code, out, err = d.ctl("peek", "events")
    t.ok(code == 0 and "csv" in out, "peek for people", out[:500], err)
    code, out, err = d.ctl("--json", "lag")
    t.ok(code == 0 and json.loads(out)["topic"] == "polling-queue", "lag", out, err)
    t.is_(len(peek(d, "dlq")), 0, "no dead letter")


def peek(d, topic):
    code, out, err = d.ctl("--json", "peek", topic)
    if code:
        raise RuntimeError("peek %s: %d %s" % (topic, code, err))
    return [json.loads(line)["value"] for line in out.splitlines()]


def end(t, d):
    pid = d.process.pid
    kids = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(p) == pid]
    t.ok(len(kids) >= 2, "it has workers and a status child", kids)
    d.process.send_signal(signal.SIGINT)
    t.is_(d.process.wait(30 * SLOW), 0, "SIGINT ends it with 0")
    wait_for("the children's end", lambda: not any(alive(p) for p in kids))
    t.is_(os.listdir(d.tmp), [], "its temporary directory is gone")
    d.out.thread.join(5)
    t.ok(len(d.out.lines) == len(d.text.splitlines()), "nothing else went to standard output", d.out.lines)


def parent(pid):
    try:
        with open("/proc/%s/stat" % pid) as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return None


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    d = Demo()
    for part in (greeting, by_kcat, readme, by_ctl, end):
        t.part(part, d)


with Tap() as tap:
    main(tap)
