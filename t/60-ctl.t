#!/usr/bin/python3
"""iis-pollerctl: each verb against a running daemon and broker, as text and as JSON, with its exit codes."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, Daemon, MockBroker, Tap, World, clean_env, folder, free_port, generated, job, need, program, run, validate,  # noqa: E402
                    wait_for)


def rows(out):
    """JSON lines or one document, as a list of objects"""
    return out if isinstance(out, list) else [] if not out else [out]


def push(t, w, d):
    code, out, err = d.ctl("push", "--type", "dummy", "--path", "./dummy_data", "--pattern", "*.csv", "--priority", "high", "--id", "pushed-1", "--org", "o1", "--metadata", '{"a": 1}')
    t.ok(code == 0, "push by options", out, err)
    r = w.result_of("pushed-1")
    t.is_((r["event_type"], r["published"], r["org_id"], r["metadata"]), ("job.completed", 3, "o1", {"a": 1}), "it is served")
    jobs = [json.loads(x.raw) for x in w.reader("jobs").drain()]
    t.ok(validate("job", jobs[-1]) is None and jobs[-1]["priority"] == "high", "what was sent is a job by the schema", jobs[-1], validate("job", jobs[-1]))
    path = os.path.join(d.dir, "job.json")
    with open(path, "w") as f:
        json.dump(job("pushed-2", generated(4)), f)
    code, out, err = d.ctl("push", path, json_out=False)
    t.ok(code == 0 and w.result_of("pushed-2")["published"] == 4 and re.search(r"\b0\b", out), "push FILE; partition and offset are told", out, err)
    code, out, err = d.ctl("push", "-", stdin="".join(json.dumps(job("line-%d" % i, generated(1))) + "\n" for i in range(5)))
    t.ok(code == 0 and all(w.result_of("line-%d" % i)["published"] == 1 for i in range(5)), "push - : a job a line", out, err)
    code, out, err = d.ctl("push", "--type", "dummy", "--set", "files=2", "--id", "many", "--count", "20")
    t.ok(code == 0 and all(w.result_of("many-%d" % i)["published"] == 2 for i in range(1, 21)), "push --count 20", out, err)
    before = len(w.reader("jobs").drain())
    for what, args, stdin in (("a source type that does not exist", ["--type", "gopher", "--path", "/x"], None), ("a bad priority", ["--type", "dummy", "--priority", "urgent"], None),
                              ("a file that is no JSON", ["-"], "nonsense"), ("an unknown field's wrong value", ["--type", "dummy", "--set", "files=many"], None),
                              ("one bad line among good ones", ["-"], json.dumps(job("good", generated(1))) + "\n{}\n" + json.dumps(job("good2", generated(1)))),
                              ("a file that is not there", [d.dir + "/none.json"], None), ("metadata that is no object", ["--type", "dummy", "--metadata", "[1]"], None)):
        code, out, err = d.ctl("push", *args, stdin=stdin)
        t.ok(code in (64, 65, 66) and err, "push, %s: refused, exit %d" % (what, code), out, err)
    t.is_(len(w.reader("jobs").drain()), before, "nothing of these was sent")
    code, out, err = d.ctl("push", "--dry-run", "--type", "dummy", "--id", "dry")
    t.ok(code == 0 and "dry" in str(out) and len(w.reader("jobs").drain()) == before, "push --dry-run shows and does not send", out, err)


def peek(t, w, d):
    for which, n in (("jobs", 3), ("events", 5), ("results", 2)):
        code, out, err = d.ctl("peek", which, "-n", n)
        have = w.reader(which).drain()
        t.ok(code == 0 and len(rows(out)) == n, "peek %s -n %d" % (which, n), out, err)
        t.ok(str(have[-1].offset) in json.dumps(rows(out)[-1]), "the last one is the last one")
    code, out, err = d.ctl("peek", "results", "--job", "pushed-2")
    t.ok(code == 0 and len(rows(out)) == 1 and "pushed-2" in json.dumps(out), "peek results --job", out, err)
    code, out, err = d.ctl("peek", "dlq")
    t.ok(code == 0 and not rows(out), "peek dlq: none", out, err)
    w.run({"source_type": "\u202eevil\u009b31m"})
    code, out, err = d.ctl("peek", "dlq", json_out=False)
    t.ok(code == 0 and "evil" in out and "\u202e" not in out and "\u009b" not in out, "as text, what came from outside is escaped", out, err)
    p = subprocess.Popen([program("iis-pollerctl"), "-c", d.file, "--json", "peek", "results", "-f", "--job", "followed", "-n", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean_env())
    w.push(job("followed", generated(1)))
    out, _ = p.communicate(timeout=30)
    t.ok(p.returncode == 0 and "followed" in out, "peek -f shows what comes", out)
    jobs = len(w.reader("jobs").drain())
    before = wait_for("the commit of all jobs", lambda: (lambda c: c if c == {0: jobs} else None)(w.committed()), every=0.1)
    d.ctl("peek", "jobs", "-n", 100)
    t.is_(w.committed(), before, "peek moves no offset of the group")
    code, out, err = d.ctl("peek", "nothing")
    t.is_(code, 64, "peek of something else: 64")


def views(t, w, d):
    t.is_(d.ctl("ping")[0], 0, "ping: 0")
    w.push(job("long-1", generated(1, delay="60s"), org_id="o9"), job("long-2", generated(1, delay="60s")))
    d.wait_log("job_started", job_id="long-2")
    w.push(job("queued-1", generated(1)))
    d.wait_log("job_accepted", job_id="queued-1")
    for verb, words in (("status", ["ready"]), ("workers", ["busy", "long-1"]), ("jobs", ["long-1", "long-2", "queued-1", "o9"]), ("config", [w.topics["jobs"]]), ("lag", ["0"]),
                        ("sources", ["dummy", "local", "sftp"])):
        code, out, err = d.ctl(verb)
        t.ok(code == 0 and out and not isinstance(out, str) and all(x in json.dumps(out) for x in words), "%s --json" % verb, str(out)[:600], err)
        code, out, err = d.ctl(verb, json_out=False)
        t.ok(code == 0 and out and all(x in out for x in words) and "\x1b" not in out, "%s, as text" % verb, out, err)
    code, out, err = d.ctl("jobs", "--state", "queued")
    t.ok(code == 0 and "queued-1" in json.dumps(out) and "long-1" not in json.dumps(out), "jobs --state queued", out)
    code, out, err = d.ctl("lag")
    t.ok(code == 0 and re.search(r'"(lag|total|unfinished)"\s*:\s*3', json.dumps(out)), "lag: 3, net of what is done beyond the frontier", out, err)
    code, out, err = d.ctl("lag", "--daemon")
    t.ok(code == 0 and out, "lag --daemon", err)
    code, out, err = d.ctl("config", "--changed", json_out=False)
    t.ok(code == 0 and w.topics["jobs"] in out and "max_age" not in out, "config --changed", out[:500])
    code, out, err = d.ctl("sources", "dummy", json_out=False)
    t.ok(code == 0 and "fanout" in out, "sources dummy", out)
    t.ok(d.ctl("sources", "gopher")[0] != 0, "sources of an unknown type fails")
    for i in ("long-1", "long-2"):
        t.is_(d.ctl("job", "cancel", i)[0], 0, "job cancel %s" % i)
    w.result_of("queued-1")
    t.ok(d.ctl("job", "cancel", "long-1")[0] not in (0, 64), "cancel of one that has ended fails")
    w.run(generated(1, crash="segv"), job_id="crashes-1")
    code, out, err = d.ctl("crashes")
    t.ok(code == 0 and len([1 for x in re.findall("crashes-1", json.dumps(out))]) >= 2 and "crash" in json.dumps(out), "crashes", out)
    since = d.mark()
    code, out, err = d.ctl("reload")
    t.ok(code == 0 and d.wait_log("config_reloaded", since=since), "reload", out, err)
    with open(d.file, "a") as f:
        f.write("zzz: 1\n")
    code, out, err = run(program("iis-pollerctl"), "-S", d.socket, "reload")
    t.ok(code not in (0, 64) and "zzz" in out + err, "reload of a bad file: fails and says why", code, out, err)
    d.write_conf()


def verify(t, w, d, b):
    code, out, err = d.ctl("verify", "--wait", "2s", json_out=False)
    t.ok(code == 0 and "FAIL" not in out and re.search(r"\bOK\b", out), "verify: all well", out, err)
    code, out, err = d.ctl("verify", "--wait", "2s")
    t.ok(code == 0 and all({"OK", "WARN"} & set(json.dumps(x).split('"')) for x in rows(out)), "verify --json", out)
    code, out, err = d.ctl("verify", "--round-trip", json_out=False)
    t.ok(code == 0 and re.search(r"\d m?s", out), "verify --round-trip tells the time", out, err)
    b.topic("not-there", 1)
    b.do("topic_error", "not-there", 3)
    code, out, err = run(program("iis-pollerctl"), "-c", d.file, "-o", "topics.results=not-there", "verify", "--wait", "2s")
    t.ok(code == 69 and "FAIL" in out and "not-there" in out, "verify, a missing topic: FAIL, named, exit %d" % code, out, err)
    code, out, err = run(program("iis-pollerctl"), "-c", d.file, "-b", "127.0.0.1:%d" % free_port(), "verify", "--wait", "2s")
    t.ok(code == 69 and "FAIL" in out, "verify, no broker: exit %d" % code, out, err)


def usage(t, d):
    for args, want in ((["nonsense"], 64), ([], 64), (["push", "--no-such"], 64), (["job", "cancel"], 64), (["ping", "x"], 64), (["--help"], 0), (["push", "--help"], 0), (["--version"], 0), (["completion", "bash"], 0)):
        code, out, err = run(program("iis-pollerctl"), *args)
        t.ok(code == want and (out or err), "%s: %d" % (" ".join(args) or "no verb", want), code, out[:200], err)
    code, out, err = run(program("iis-pollerctl"), "completion", "bash")
    path = os.path.join(d.dir, "completion")
    with open(path, "w") as f:
        f.write(out)
    code, out, err = run("bash", "-n", path)
    t.ok(code == 0, "the completion script is one", err)
    with open(os.path.join(ROOT, "master/ctl/verbs.def")) as f:
        verbs = re.findall(r'^VERB\(\w+, "([\w ]+)"', f.read(), re.M)
    code, out, err = run(program("iis-pollerctl"), "--help")
    t.ok(len(verbs) >= 15 and not [v for v in verbs if v not in out], "--help has all %d verbs" % len(verbs), out)


def nobody(t):
    path = os.path.join(folder(), "control.sock")
    code, out, err = run(program("iis-pollerctl"), "-S", path, "ping")
    t.is_(code, 2, "ping without a daemon: 2")
    for verb in ("status", "workers", "jobs", "crashes"):
        code, out, err = run(program("iis-pollerctl"), "-S", path, verb)
        t.ok(code == 69 and path in err, "%s without a daemon: 69, the socket named" % verb, code, err)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w)
    t.part(push, w, d)
    t.part(peek, w, d)
    t.part(views, w, d)
    t.part(verify, w, d, b)
    t.part(usage, d)
    t.part(nobody)
    code, out, err = d.ctl("stop")
    t.ok(code == 0 and d.wait_exit(40) == 0, "stop: the daemon ends, exit 0", out, err)
    code, out, err = d.ctl("ping")
    t.is_(code, 2, "and answers no more")
    e = Daemon(World(b), {"kafka.bootstrap_servers": "127.0.0.1:%d" % free_port()}, ready=False)
    e.wait_log("control_ready")
    wait_for("ping to say not ready", lambda: e.ctl("ping")[0] == 1, 10, every=0.2)
    t.ok(True, "ping of one that is not ready: 1")
    e.stop()


with Tap() as tap:
    main(tap)
