#!/usr/bin/python3
"""iis-pollerctl and Kafka: push, peek, lag and verify, as text and as JSON, with their exit codes; what they leave untouched."""
import base64
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (SLOW, Daemon, Lines, MockBroker, Tap, World, clean_env, closed_port, folder, generated, invalid, job, need, program, run,  # noqa: E402
                    validate, wait_for)

STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Most of it is waited to its end, where nobody answers.
WAIT = "%dms" % (1500 * SLOW ** 0.5)


def rows(out):
    """JSON lines or one document, as a list of objects"""
    return out if isinstance(out, list) else [out] if out else []


def plain(d, *args, **kw):
    return d.ctl(*args, json_out=False, **kw)


def at_once(*asked):
    """Answers of independent runs, (daemon, json?, arguments) each, that mostly wait for what does not come."""
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda a: a[0].ctl(*a[2], json_out=a[1]), asked))


def queued(w):
    return w.reader("jobs").drain()


# ---- push -----------------------------------------------------------------------------------------------------------------

def push_options(t, w, d):
    long_form = ["push", "--type", "dummy", "--path", "./dummy_data", "--pattern", "*_1.csv", "--pattern", "*_3.csv", "--recursive", "--set", "source_id=s-1",
                 "--priority", "high", "--id", "by-options", "--org", "o 1", "--timeout", "40s", "--publish", "stream", "--metadata", '{"a": [1, "\u00e9"]}']
    code, out, err = d.ctl(*long_form)
    t.ok(code == 0 and rows(out)[0]["job_id"] == "by-options" and not err, "push by options --json", out, err)
    sent = [x for x in queued(w) if x.key == b"by-options"]
    t.is_([(x["topic"], x["partition"], x["offset"]) for x in rows(out)], [(w.topics["jobs"], x.partition, x.offset) for x in sent], "topic, partition and offset are those of the record")
    want = {"job_id": "by-options", "org_id": "o 1", "source_config": {"source_type": "dummy", "path": "./dummy_data", "recursive": True, "source_id": "s-1"},
            "file_pattern": ["*_1.csv", "*_3.csv"], "priority": "high", "timeout": "40s", "publish": "stream", "metadata": {"a": [1, "\u00e9"]}}
    t.is_(json.loads(sent[0].raw), want, "each option stands in its field")
    t.is_(validate("job", want), None, "and the job fits the schema")
    r = w.result_of("by-options")
    t.is_((r["event_type"], r["published"], r["org_id"], r["metadata"]), ("job.completed", 2, "o 1", want["metadata"]), "it is served so")
    short = ["push", "-tdummy", "-p", "./dummy_data", "-g", "*_1.csv", "-g", "*_3.csv", "-r", "-ssource_id=s-1", "-P", "high", "-i", "by-options", "-O", "o 1", "-T", "40s",
             "--publish=stream", "-m", '{"a": [1, "\u00e9"]}', "--dry-run"]
    code, out, err = d.ctl(*short)
    t.is_((code, out), (0, want), "the short options make the same job")
    code, out, err = plain(d, "push", "-t", "dummy", "-s", "files=3", "-s", "size=2KiB", "-s", "seed=7")
    got = re.fullmatch(r"([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}) (\d)@(\d+)\n", out)
    t.ok(code == 0 and got, "push: a line with a random id, partition and offset", out, err)
    last = [x for x in queued(w) if x.key == got.group(1).encode()]
    t.ok([(x.partition, x.offset) for x in last] == [(int(got.group(2)), int(got.group(3)))] and w.result_of(got.group(1))["published"] == 3, "which is where it is")
    t.is_(json.loads(last[0].raw)["source_config"], {"source_type": "dummy", "files": 3, "size": "2KiB", "seed": 7}, "--set: numbers are numbers")


def push_texts(t, w, d):
    path = os.path.join(d.dir, "job.json")
    with open(path, "w") as f:
        json.dump(job("of-file", generated(4)), f, indent=2)
    code, out, err = plain(d, "push", path)
    t.ok(code == 0 and re.fullmatch(r"of-file \d@\d+\n", out) and w.result_of("of-file")["published"] == 4, "push FILE: one job over many lines", out, err)
    code, out, err = d.ctl("push", "-", stdin="\n".join(json.dumps(job("line-%d" % i, generated(1))) for i in range(5)) + "\n\n")
    t.is_((code, sorted(x["job_id"] for x in rows(out))), (0, ["line-%d" % i for i in range(5)]), "push - : each line is a job, each has its answer")
    t.ok(all(w.result_of("line-%d" % i)["published"] == 1 for i in range(5)), "all are served")
    with open(path, "w") as f:
        f.write("".join(json.dumps(job("jsonl-%d" % i, generated(2))) + "\r\n" for i in range(3)))
    code, out, err = plain(d, "push", path)
    t.ok(code == 0 and sorted(x.split()[0] for x in out.splitlines()) == ["jsonl-%d" % i for i in range(3)], "push FILE with JSON lines", out, err)
    code, out, err = d.ctl("push", "-", stdin=json.dumps({"source_config": generated(1)}) + "\n" + json.dumps({"source_config": generated(1)}))
    ids = {x["job_id"] for x in rows(out)}
    t.ok(code == 0 and len(ids) == 2 and all(w.result_of(x)["published"] == 1 for x in ids), "jobs without an id get one each", out, err)


def push_count(t, w, d):
    code, out, err = plain(d, "push", "--type", "dummy", "--set", "files=1", "--id", "many", "--count", "1000")
    t.ok(code == 0 and re.match(r"1000 jobs acknowledged by %s in [\d.]+ s\n$" % w.topics["jobs"], out) and not err, "push --count 1000: one line tells it", out, err)
    got = [x.key.decode() for x in queued(w) if x.key.startswith(b"many-")]
    t.same_set(got, ["many-%d" % i for i in range(1, 1001)], "they are there, each once, -1 to -1000")
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs if r["job_id"].startswith("many-")}) == 1000)
    t.ok(True, "and are served")
    code, out, err = d.ctl("push", "-", "-n", "2", stdin=json.dumps(job("a", generated(1))) + "\n" + json.dumps(job("b", generated(1))))
    t.is_(sorted(x["job_id"] for x in rows(out)), ["a-1", "a-2", "b-1", "b-2"], "--count of two jobs --json: a line each")


def push_refused(t, w, d):
    before = len(queued(w))
    good = json.dumps(job("good", generated(1)))
    bad = json.dumps(job("bad", {"source_type": "dummy", "files": "x"}))
    pretty = '{\n  "source_config": {"source_type": "dummy",\n    "files": "x"}\n}\n'
    for what, args, stdin, want, words in (
            ("a source type that does not exist", ["-t", "gopher"], None, 65, ["unknown_source", "gopher", "/source_config/source_type"]),
            ("a bad priority", ["-t", "dummy", "-P", "urgent"], None, 65, ["high|normal|low", "/priority"]),
            ("a bad timeout", ["-t", "dummy", "-T", "never"], None, 65, ["/timeout"]),
            ("a field's wrong value", ["-t", "dummy", "-s", "files=many"], None, 65, ["/source_config/files"]),
            ("a path outside", ["-t", "local", "-p", "/etc"], None, 65, ["local.allowed_roots", "/source_config/path"]),
            ("metadata that is no object", ["-t", "dummy", "-m", "[1]"], None, 65, ["/metadata"]),
            ("an id of 256 bytes", ["-t", "dummy", "-i", "x" * 256], None, 65, ["/job_id"]),
            ("an id that steers", ["-t", "dummy", "-i", "\x1b[2J\u202e"], None, 65, ["/job_id"]),
            ("an id too long with its number", ["-t", "dummy", "-i", "x" * 254, "-n", "10"], None, 65, ["/job_id"]),
            ("metadata that is no JSON", ["-t", "dummy", "-m", "{"], None, 64, ["object"]),
            ("--set without a value", ["-t", "dummy", "-s", "files"], None, 64, ["field=value"]),
            ("no job at all", [], None, 64, ["--type"]),
            ("options and a file", ["-t", "dummy", "-"], good, 64, ["--type"]),
            ("--count 0", ["-t", "dummy", "-n", "0"], None, 64, ["--count"]),
            ("--wait nonsense", ["-t", "dummy", "-w", "soon"], None, 64, ["--wait"]),
            ("two files", ["a", "b"], None, 64, ["b"]),
            ("an option that is none", ["--tpye", "dummy"], None, 64, ["did you mean --type"]),
            ("a file that is not there", [d.dir + "/none.json"], None, 66, ["none.json"]),
            ("a directory", [d.dir], None, 66, [d.dir]),
            ("no JSON", ["-"], "nonsense", 65, ["byte 0"]),
            ("nothing", ["-"], " \n", 65, ["no job"]),
            ("a document that ends too soon", ["-"], '{"job_id": "a",,}', 65, ["byte 15"]),
            ("a line that is no JSON", ["-"], good + "\n" + good[:-1] + ",}\n", 65, ["line 2", "byte %d" % len(good)]),
            ("a bad job among good ones", ["-"], good + "\n" + bad + "\n" + good, 65, ["job 2", "/source_config/files", "byte %d" % bad.index('"x"')]),
            ("a job that is no object", ["-"], good + "\n[1]\n", 65, ["job 2", "object"]),
            ("a position in a job without an id", ["-"], pretty, 65, ["/source_config/files", "byte %d" % pretty.index('"x"')]),
            ("duplicate keys", ["-"], '{"job_id": "a", "job_id": "b"}', 65, ["byte 16", "twice"]),
            ("control bytes", ["-"], '{"job_id": "a\x1b[2J"}', 65, ["byte"])):
        code, out, err = d.ctl("push", *args, stdin=stdin)
        t.ok(code == want and all(x in err for x in words) and not out and not STEERING.search(err), "push, %s: %d" % (what, want), code, out, err)
    code, out, err = plain(d, "push", "-", stdin=good + "\n" + bad + "\n")
    t.ok(code == 65 and not out and "job 2" in err, "as text, too", out, err)
    code, out, err = d.ctl("push", "-t", "dummy", "-i", "dry", "-n", "3", "--dry-run")
    t.ok(code == 0 and [x["job_id"] for x in out] == ["dry-1", "dry-2", "dry-3"] and not [x for x in out if validate("job", x)], "push --dry-run shows what would be sent", out, err)
    t.is_(plain(d, "push", "-t", "dummy", "-i", "dry", "-n", "3", "--dry-run")[1].count("\n"), 3, "as JSON lines without --json, too")
    nowhere = "127.0.0.1:%d" % closed_port()
    t.is_(d.ctl("-b", nowhere, "push", "-t", "dummy", "-i", "dry", "--dry-run")[0], 0, "it needs no broker")
    t.is_(len(queued(w)), before, "nothing of all these was sent")
    began = time.monotonic()
    code, out, err = d.ctl("-b", nowhere, "push", "-t", "dummy", "-w", WAIT)
    t.ok(code == 69 and nowhere in err and time.monotonic() - began < 5 * SLOW, "push without a broker: 69 within --wait", code, err)
    code, out, err = d.ctl("-o", "topics.polling_queue=not-there", "push", "-t", "dummy", "-w", WAIT)
    t.ok(code == 69 and "not-there does not exist" in err, "push to a topic that is missing: 69", code, err)
    code, out, err = d.ctl("push", "-t", "local", "-p", "/nowhere/else", "-i", "forced", "--force")
    t.ok(code == 0 and "allowed_roots" in err and w.result_of("forced")["event_type"] == "job.failed", "push --force: the poller decides", code, out, err)


def push_unanswered(t):
    """The broker takes the record, and refuses it or falls silent: what was not acknowledged is said to be so."""
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w, start=False)
    b.do("push_errors", 0, 10, 1)   # Produce: too large
    code, out, err = d.ctl("push", "-t", "dummy", "-i", "refused", "-w", WAIT)
    t.ok(code == 69 and not out and "job refused was not acknowledged" in err and "1 of 1 job was not acknowledged" in err, "a record that is refused: 69", code, out, err)
    b.do("push_errors", 0, 7, 1000)  # Produce: timed out
    code, out, err = d.ctl("push", "-t", "dummy", "-i", "unanswered", "-w", WAIT)
    t.ok(code == 69 and not out and "may or may not be there" in err and "1 of 1" in err, "one that is never acknowledged: 69 within --wait, and what that means", code, out, err)
    b.stop()


# ---- peek -----------------------------------------------------------------------------------------------------------------

def same_record(t, shown, r, name):
    """A line of --json against the record that the test read itself"""
    got = (shown["topic"], shown["partition"], shown["offset"], shown["key"], shown["headers"], shown["value"])
    return t.is_(got, (r.topic, r.partition, r.offset, r.key and r.key.decode(), r.headers, json.loads(r.raw)), name)


def peek(t, w, d):
    w.run(generated(1, error="timeout"), job_id="for-the-dlq")
    n_jobs = len(queued(w))
    before = wait_for("the commit of all jobs", lambda: (lambda c: c if sum(x for x in c.values() if x > 0) == n_jobs else None)(w.committed()), every=0.1)
    since = d.mark()
    for which in ("events", "results", "dlq"):
        have = w.reader(which).drain()
        code, out, err = d.ctl("peek", which, "-n", 1)
        t.is_((code, len(rows(out))), (0, 1), "peek %s -n 1 --json" % which)
        same_record(t, rows(out)[0], have[-1], "it is the last record, with headers, key and value")
        code, out, err = plain(d, "peek", which, "-n", 3)
        lines = out.splitlines()
        t.ok(code == 0 and lines[0].startswith("TIME") and [int(x.split()[2]) for x in lines[1:]] == [r.offset for r in have[-3:]], "peek %s -n 3: a header and the last ones" % which, out, err)
    jobs = queued(w)
    code, out, err = d.ctl("peek", "jobs", "-n", 3)
    t.ok(code == 0 and len(out) == 3 and {(x["partition"], x["offset"]) for x in out} <= {(r.partition, r.offset) for r in jobs}, "peek jobs -n 3", out, err)
    t.ok([x["timestamp"] for x in out] == sorted(x["timestamp"] for x in out), "in order of time")
    t.is_([len(rows(d.ctl("peek", "results", *a)[1])) for a in ((), ("-n", 0), ("-n", 25), ("--max", 4))], [10, 0, 25, 4], "10 by default; -n 0, -n 25, --max 4")
    for p in (0, 1):
        mine = [r.offset for r in jobs if r.partition == p]
        t.is_([x["offset"] for x in rows(d.ctl("peek", "jobs", "--partition", p, "--from", "beginning")[1])], mine, "peek --partition %d --from beginning: all %d in order" % (p, len(mine)))
        t.is_([x["offset"] for x in rows(d.ctl("peek", "jobs", "--partition", p, "--from", mine[-3])[1])], mine[-3:], "--from an offset")
        t.is_([x["offset"] for x in rows(d.ctl("peek", "jobs", "--partition", p, "--from", mine[5], "--max", 2)[1])], mine[5:7], "--from and --max")
    t.is_(rows(d.ctl("peek", "jobs", "--from", "end")[1]), [], "--from end: nothing")
    t.is_(rows(d.ctl("peek", "jobs", "--from", "999999")[1]), [], "--from beyond the end: nothing")
    t.is_(len(rows(d.ctl("peek", "jobs", "--from", "beginning")[1])), len(jobs), "--from beginning: all of both partitions")
    for which, want in (("jobs", 1), ("events", 4), ("results", 1), ("dlq", 0)):
        code, out, err = d.ctl("peek", which, "--job", "of-file")
        t.ok(code == 0 and len(rows(out)) == want and all("of-file" in json.dumps(x) for x in rows(out)), "peek %s --job: %d" % (which, want), out, err)
    t.is_(len(rows(d.ctl("peek", "dlq", "-j", "for-the-dlq")[1])), 1, "peek dlq --job: 1")
    t.is_(len(rows(d.ctl("peek", "events", "-j", "of-file", "-n", 2)[1])), 2, "--job and -n")
    for args, want in ((["nothing"], 64), ([], 64), (["jobs", "-n", "-1"], 64), (["jobs", "--from", "x"], 64), (["jobs", "--partition", "-1"], 64), (["jobs", "-w", "0"], 64)):
        code, out, err = d.ctl("peek", *args)
        t.ok(code == want and err and not out, "peek %s: %d" % (" ".join(args), want), code, out, err)
    for which, n, want in (("jobs", 2, "has partitions 0 to 1"), ("jobs", 2147483647, "has partitions 0 to 1"), ("dlq", 1, "has only partition 0")):
        code, out, err = d.ctl("peek", which, "--partition", n)
        t.ok(code == 64 and not out and w.topics[which] + " " + want in err, "peek %s --partition %d: 64, %s" % (which, n, want), code, out, err)
    code, out, err = d.ctl("-b", "127.0.0.1:%d" % closed_port(), "peek", "jobs", "-w", WAIT)
    t.ok(code == 69 and "do not answer" in err, "peek without a broker: 69", code, err)
    code, out, err = d.ctl("-o", "topics.results=not-there", "peek", "results", "-w", WAIT)
    t.ok(code == 69 and "not-there does not exist" in err, "peek of a missing topic: 69", code, err)
    t.is_(w.committed(), before, "no offset of the group has moved")
    t.ok(not d.logged("partitions_given", since=since) and not d.logged("partition_assigned", since=since) and not d.logged("jobs_revoked", since=since),
         "nobody joined the group", d.raw[since:])


class Follow:
    """peek -f in the background, its lines awaited"""

    def __init__(self, d, *args):
        self.p = subprocess.Popen([program("iis-pollerctl"), "-c", d.file] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  env=clean_env())
        self.out = Lines(self.p.stdout)

    def wait(self, n, what):
        return self.out.wait(lambda lines: lines[:n] if len(lines) >= n else None, 20, what)


def follow(t, w, d):
    f = Follow(d, "--json", "peek", "results", "-f", "--job", "followed", "-n", "1", "-w", "%ds" % (20 * SLOW))
    w.push(job("not-followed", generated(1)), job("followed", generated(1)))
    line = json.loads(f.wait(1, "the record of the job")[0])
    t.ok(line["value"]["job_id"] == "followed" and f.p.wait(20 * SLOW) == 0 and len(f.out.lines) == 1, "peek -f --job -n 1 waits for the job's record, and ends", f.out.lines)
    f = Follow(d, "--json", "peek", "events", "-f", "-n", "2")
    f.wait(2, "what was there")
    w.push(job("more", generated(3, name_template="more_{index}")))
    got = [json.loads(x)["value"] for x in f.wait(5, "what comes")[2:]]
    t.is_([(x["job_id"], x["file_name"]) for x in got], [("more", "more_%d" % i) for i in range(3)], "peek -f shows what was there, then what comes, as it comes")
    t.ok(f.p.poll() is None, "and goes on")
    f.p.send_signal(signal.SIGINT)
    t.is_(f.p.wait(20 * SLOW), 0, "until interrupted: exit 0")
    f = Follow(d, "peek", "results", "-f", "-n", "0")
    f2 = Follow(d, "peek", "jobs", "--from", "end", "-f", "--max", "2")
    f.wait(1, "the header")
    f2.wait(1, "the header")
    w.push(job("text-1", generated(1)), job("text-2", generated(1)))
    t.ok({x.split()[3] for x in f.wait(3, "both results")[1:]} == {"text-1", "text-2"}, "peek -f as text: a row when it comes", f.out.lines)
    t.ok(f2.p.wait(20 * SLOW) == 0 and {x.split()[3] for x in f2.wait(3, "both jobs")[1:]} == {"text-1", "text-2"}, "--from end -f --max 2: the next two", f2.out.lines)
    f.p.terminate()
    t.is_(f.p.wait(20 * SLOW), 0, "SIGTERM: exit 0")
    code, out, err = d.ctl("peek", "results", "-f", "--job", "never", "-w", WAIT)
    t.ok(code == 69 and "never" in err, "-f --job --wait: nothing came, 69", code, out, err)
    code, out, err = run("sh", "-c", '"$@" | head -n 1', "sh", program("iis-pollerctl"), "-c", d.file, "peek", "events", "--from", "beginning")
    t.ok(code == 0 and out.startswith("TIME") and not err, "a reader that goes away is no error", out, err)


def evil(t, b):
    """Whatever stands in a topic: shown whole with --json, harmless as text."""
    w = World(b)
    d = Daemon(w, start=False)
    names = ["a\x1b[2Jb", "c\u009bd\x07", "e\u202efdp.exe", "new\nline", "tab\there", "back\\slash", "\x7f\x08\r", "\u2066i", "nul\x00x"]
    b.push(w.topics["events"], [{"job_id": "j" + x, "file_url": "file:///" + x, "file_size": 1, "modified_at": x} for x in names], key=lambda i: names[i].encode(),
           headers=[("x\x1b", "v\x1b\u202e".encode())])
    raw = [b"", b"\xff\xfe\x1b[31m", b'{"job_id": "a", "job_id": "b"}', b"\x1b]0;title\x07" * 30, b"[1, 2]", b'"\\u001b[2J"', b"1e999", b"{" * 500, json.dumps({"job_id": {"a": "\x1b"}}).encode()]
    b.push(w.topics["jobs"], [invalid(x) for x in raw], key=b"\x1b[2J\xff")
    b.push(w.topics["dlq"], [{"job_id": None, "failure_info": {"error_type": x, "error_message": x, "retry_count": x}} for x in names], headers=[("job_id", b"h\x1b\xff")])
    b.push(w.topics["results"], [{"job_id": x, "event_type": x, "matched": [x], "error": {"class": x, "message": {x: x}}} for x in names])
    for which, n in (("events", len(names)), ("jobs", len(raw)), ("dlq", len(names)), ("results", len(names))):
        more = ["--raw"] if which == "jobs" else []
        code, out, err = plain(d, "peek", which, *more)
        t.ok(code == 0 and not STEERING.search(out) and out.count("\n") == n + 1 and not err, "peek %s: escaped, a row each" % which, out.encode("unicode_escape").decode(), err)
        code, out, err = plain(d, "--json", "peek", which, *more)
        t.ok(code == 0 and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out) and out.count("\n") == n, "peek %s --json: escaped, a line each" % which,
             out.encode("unicode_escape").decode(), err)
        lines = [json.loads(x) for x in out.splitlines()]
        if which == "events":
            t.is_([x["value"]["file_url"] for x in lines[:-1]], ["file:///" + x for x in names[:-1]], "the names are whole in it")
            t.ok("value_error" in lines[-1] and isinstance(lines[-1]["value"], str), "but for a NUL, which no text of ours may hold", lines[-1])
        if which == "jobs":
            t.is_([base64.b64decode(x["value_base64"]) if "value_base64" in x else None for x in lines][1], raw[1], "bytes that are no UTF-8: value_base64")
            t.is_([i for i, x in enumerate(lines) if "value_error" in x], [0, 1, 2, 3, 6, 7], "what is no JSON has value_error, and is text")
            t.is_({base64.b64decode(x["key_base64"]) for x in lines}, {b"\x1b[2J\xff"}, "the key, too")
            masked = d.ctl("peek", "jobs")[1]
            t.is_([(x["value"], x.get("value_size")) for x in masked], [(None, len(x)) for x in raw[:-1]] + [(json.loads(raw[-1]), None)], "without --raw nothing of what is no job")
            code, out, _ = plain(d, "peek", "jobs")
            t.ok(code == 0 and not STEERING.search(out) and out.count("bytes that are no job") == len(raw) - 1, "nor as text", out)
    t.is_(len(rows(d.ctl("peek", "events", "--job", "ja\x1b[2Jb")[1])), 1, "--job finds an id that stands escaped in the record")
    t.is_(len(rows(d.ctl("peek", "jobs", "--job", "nobody's")[1])), 0, "and none that is not there")


# ---- lag ------------------------------------------------------------------------------------------------------------------

def undone(w):
    """Jobs without a terminal record, by partition, counted from the topics themselves"""
    left = {p: set() for p in range(w.n_partitions["jobs"])}
    for r in queued(w):
        left[r.partition].add(r.offset)
    for r in w.reader("results").drain():
        left[r["origin"]["partition"]].discard(r["origin"]["offset"])
    return {p: len(x) for p, x in left.items()}


def lag(t, b):
    w = World(b, partitions=2)
    code, out, err = Daemon(w, start=False).ctl("lag")
    t.ok(code == 0 and out["lag"] == 0 and [x["committed"] for x in out["partitions"]] == [None, None], "lag of a group that never was", out, err)
    b.push(w.topics["jobs"], [job("early-%d" % i, generated(1)) for i in range(3)], partition=1)
    code, out, err = Daemon(w, start=False).ctl("lag")
    t.is_((code, out["lag"], [x["lag"] for x in out["partitions"]]), (0, 3, [0, 3]), "all that is in the topic, needing no daemon")
    d = Daemon(w, {"workers.count": 3})
    w.result_of("early-2")
    b.push(w.topics["jobs"], [job("slow-0", generated(1, delay="120s"))], partition=0)
    d.wait_log("job_started", job_id="slow-0")
    b.push(w.topics["jobs"], [job("fast-%d" % i, generated(1)) for i in range(40)], partition=lambda i: i % 2)
    for i in range(40):
        w.result_of("fast-%d" % i)
    b.push(w.topics["jobs"], [job("slow-1", generated(1, delay="120s"))], partition=1)
    d.wait_log("job_started", job_id="slow-1")
    b.push(w.topics["jobs"], [job("last-%d" % i, generated(1)) for i in range(10)], partition=1)
    for i in range(10):
        w.result_of("last-%d" % i)

    def all_committed(want):
        def probe():
            code, out, err = d.ctl("lag")
            return out if code == 0 and out["lag"] == want else None
        return wait_for("lag %d" % want, probe, every=0.1)
    count = undone(w)
    t.is_(count, {0: 1, 1: 1}, "two slow jobs are held, 50 later ones are done")
    out = all_committed(2)
    t.is_({x["partition"]: x["lag"] for x in out["partitions"]}, count, "lag --json: what is done beyond does not count, as counted from the topics")
    t.is_([(x["committed"], x["done_beyond"], x["high_watermark"], x["metadata"]) for x in out["partitions"]], [(0, 20, 21, "ok"), (23, 10, 34, "ok")], "committed, done beyond, high")
    code, text, err = plain(d, "lag")
    t.ok(code == 0 and [x.split()[:7] for x in text.splitlines()[1:]] == [[w.topics["jobs"], "0", "0", "21", "0", "20", "1"], [w.topics["jobs"], "1", "0", "34", "23", "10", "1"], ["total", "-", "-", "-", "-", "-", "2"]], "lag", text)
    code, out, err = d.ctl("lag", "--daemon")
    t.is_((code, out["lag"], {x["partition"]: (x["lag"], x["frontier"], x["done_beyond"]) for x in out["partitions"]}), (0, 2, {0: (1, 0, 20), 1: (1, 23, 10)}), "lag --daemon --json: the same view")
    code, text, err = plain(d, "lag", "-d")
    t.ok(code == 0 and len(text.splitlines()) == 3 and text.startswith("TOPIC"), "lag --daemon", text)
    d.ctl("stop")
    d.ctl("stop")
    d.wait_exit(30)
    code, out, err = d.ctl("lag")
    t.ok(code == 0 and out["lag"] == 2 and d.ctl("lag", "-d")[0] == 69, "without the daemon: 2 as before; lag --daemon: 69", out, err)
    d = Daemon(w, {"workers.count": 3}, keep=d)
    for i in range(2):
        d.wait_log("job_started", job_id="slow-%d" % i)
        d.ctl("job", "cancel", "slow-%d" % i)
        w.result_of("slow-%d" % i)
    out = all_committed(0)
    t.is_(({x["partition"]: x["lag"] for x in out["partitions"]}, [x["done_beyond"] for x in out["partitions"]]), (undone(w), [0, 0]), "when they have ended: 0")
    code, out, err = d.ctl("-b", "127.0.0.1:%d" % closed_port(), "lag", "-w", WAIT)
    t.ok(code == 69 and "do not answer" in err, "lag without a broker: 69", code, err)
    code, out, err = d.ctl("-o", "topics.polling_queue=not-there", "lag", "-w", WAIT)
    t.ok(code == 69 and "not-there does not exist" in err, "lag of a missing topic: 69", code, err)
    t.is_(d.stop(), 0, "it stops")


# ---- verify ---------------------------------------------------------------------------------------------------------------

def checks(out):
    return {(x["check"], x["result"]) for x in rows(out)}


def verify(t, w, d):
    before, n = w.committed(), len(queued(w))
    answers = at_once((d, True, ["verify", "--wait", WAIT]), (d, False, ["verify", "--wait", WAIT]), (d, True, ["verify", "--create-topics", "--wait", WAIT]))
    code, out, err = answers[0]
    t.ok(code == 0 and {(x, "OK") for x in ("settings", "brokers", "topic", "group", "consume", "produce")} <= checks(out) and "FAIL" not in {x["result"] for x in out},
         "verify --json: all OK", out, err)
    t.is_(sorted(x["text"].split()[0] for x in out if x["check"] == "topic"), sorted(w.topics.values()), "each topic is told")
    code, out, err = answers[1]
    t.ok(code == 0 and all(re.match(r"(OK  |WARN)  \w", x) for x in out.splitlines()) and out.count("OK ") >= 12, "verify: a line each", out, err)
    code, out, err = answers[2]
    t.ok(code == 0 and "create" not in {x["check"] for x in out}, "verify --create-topics with nothing to create", out)
    t.is_((w.committed(), len(queued(w))), (before, n), "nothing was sent, nothing moved")
    code, out, err = d.ctl("verify", "--round-trip", "--wait", "%ds" % (2 * SLOW))
    trip = [x for x in rows(out) if x["check"] == "round trip"]
    t.ok(code == 0 and len(trip) == 1 and trip[0]["result"] == "OK" and re.fullmatch(r"verify-\S+: job.completed after \d+ ms", trip[0]["text"]), "verify --round-trip --json: the time", out, err)
    r = w.result_of(trip[0]["text"].split(":")[0])
    t.is_((r["event_type"], r["matched"], len(queued(w)) - n), ("job.completed", 0, 1), "by one job that matched nothing")


def verify_fails(t, b, w, d):
    missing = ["-o", "topics.results=not-there", "verify", "--wait", WAIT]
    nowhere = "127.0.0.1:%d" % closed_port()
    alone = Daemon(World(b), start=False)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(5)
        began = time.monotonic()
        answers = at_once((d, True, missing), (d, False, missing + ["--create-topics", "--partitions", "3", "--replication", "1"]), (d, True, ["-b", nowhere, "verify", "--wait", WAIT]),
                          (d, False, ["-b", nowhere, "verify", "--wait", WAIT]), (d, False, ["-b", "127.0.0.1:%d" % s.getsockname()[1], "verify", "--wait", WAIT]),
                          (alone, True, ["verify", "--round-trip", "--wait", WAIT]))
        took = time.monotonic() - began
    code, out, err = answers[0]
    bad = [x for x in rows(out) if x["result"] == "FAIL"]
    t.ok(code == 69 and [x["check"] for x in bad] == ["topic"] and bad[0]["text"] == "topic not-there does not exist" and "--create-topics" in bad[0]["hint"],
         "verify --json, a missing topic: FAIL with a hint, 69", code, out, err)
    code, out, err = answers[1]
    t.ok(code == 69 and re.search(r"^WARN  create .*not supported by this broker.*\n +-> create", out, re.M) and re.search(r"^FAIL  topic .*not-there does not exist\n +-> create", out, re.M),
         "verify --create-topics on the embedded broker: WARN, the hint below; the topic is FAIL still", code, out, err)
    code, out, err = answers[2]
    t.ok(code == 69 and checks(out) == {("settings", "OK"), ("brokers", "FAIL")} and nowhere in out[-1]["text"] and out[-1]["hint"], "verify --json, no broker: FAIL with a hint, 69", out, err)
    code, out, err = answers[3]
    t.ok(code == 69 and re.search(r"^FAIL  brokers .*refused.*\n +-> ", out, re.M), "verify, no broker", code, out, err)
    code, out, err = answers[4]
    t.ok(code == 69 and "FAIL" in out, "verify, something that is no broker: 69", code, out, err)
    code, out, err = answers[5]
    trip = [x for x in rows(out) if x["check"] == "round trip"]
    t.ok(code == 69 and trip and trip[0]["result"] == "FAIL" and "iis-pollerctl ping" in trip[0]["hint"], "verify --round-trip without a poller: FAIL, is it running?", code, out, err)
    t.ok(took < 25 * SLOW, "all within their bounds (%.1f s)" % took)
    for args in (["--partitions", "0"], ["--replication", "x"]):
        t.is_(d.ctl("-o", "topics.results=not-there", "verify", "--create-topics", *args)[0], 64, "verify --create-topics %s: 64" % " ".join(args))
    t.is_(d.ctl("verify", "--wait", "0")[0], 64, "verify --wait 0: 64")
    code, out, err = d.ctl("-o", "kafka.properties=no.such.property=1", "verify")
    t.ok(code == 78 and "no.such.property" in str(out) + err, "verify with a wrong setting: 78", code, out, err)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    b.topic("not-there", 1)
    b.do("topic_error", "not-there", 3)
    w = World(b, partitions=2)
    d = Daemon(w)
    for p in (push_options, push_texts, push_count, push_refused, peek, follow, verify):
        t.part(p, w, d)
    t.part(push_unanswered)
    t.part(verify_fails, b, w, d)
    t.is_(d.stop(), 0, "it stops")
    t.part(evil, b)
    t.part(lag, b)


with Tap() as tap:
    main(tap)
