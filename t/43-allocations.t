#!/usr/bin/python3
"""An allocation fails, anywhere: in the parsers of foreign bytes each one in turn, in the settings, in workers, in the master. The
process ends with 71 and says so; no crash, and no job is lost."""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import s3servers  # noqa: E402
from kills import WholeLog  # noqa: E402
from poller import ROOT, SANITIZED, Daemon, MockBroker, Tap, World, clean_env, conservation, folder, generated, job, need, program  # noqa: E402
from webservers import Answers  # noqa: E402

OUT = "out of memory"
SEEDS = {       # of each target of t/fuzz but frame, whose seeds allocate nothing; the settings have many files, of which two hold what the others hold
    "ftp_list": ["ftp/*.list"], "ftp_mlsd": ["ftp/*.mlsd"], "glob": ["http/*.txt"], "http_index": ["http/*"], "http_query": ["http_query/*"],
    "http_token": ["http_token/*"], "http_url": ["http_url/*"], "job": ["job/*"],
    "keys_answer": ["keys/*"], "s3_page": ["s3/*"], "sftp": ["sftp/*"], "yaml": ["yaml/tables_good.yaml", "yaml/alias_merge.yaml"],
}
TEXTS = {       # of those that have no files
    "ftp_reply": "220 a\r\n230-b\r\n c\r\n230 in\r\n257 \"/a \"\"b\"\"\"\r\n229 ok (|||2121|)\r\n227 ok (127,0,0,1,8,9)\r\n211-Features\r\n MLST size*;modify*;\r\n211 end\r\n",
}
PAGE = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre>" + b"".join(
    b"<a href=\"f%d.csv\">f%d.csv</a>  01-Jan-2024 00:00  5\n" % (i, i) for i in range(40)) + b"</pre></body></html>"


def parsers(t):
    have = {os.path.basename(p)[:-2] for p in glob.glob(os.path.join(ROOT, "t/fuzz/*.c"))}
    t.is_(set(SEEDS) | set(TEXTS) | {"frame"}, have, "each parser of t/fuzz has its seeds")
    total = 0
    d = folder()
    for name, text in TEXTS.items():
        with open(os.path.join(d, name), "w") as f:
            f.write(text)
    for target in sorted(set(SEEDS) | set(TEXTS)):
        files = sorted(p for x in SEEDS.get(target, ()) for p in glob.glob(os.path.join(ROOT, "t/data", x)) if not p.endswith(".want")) or [os.path.join(d, target)]
        p = subprocess.run([program("t/lib/nth_malloc"), target] + files, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300)
        lines = [x for x in p.stdout.splitlines() if " allocations, " in x]
        n = sum(int(x.rpartition(": ")[2].split()[0]) for x in lines)
        total += n
        t.ok(p.returncode == 0 and len(lines) == len(files) and n > 5, "%s: each of %d allocations of %d files fails once, and that ends it" % (target, n, len(files)),
             "\n".join(x for x in p.stdout.splitlines() if " 0 did not" not in x)[:2000])
    t.ok(total > 5000, "%d in all" % total)


def failing(at, only, **more):
    return dict({"LD_PRELOAD": program("t/lib/failing.so"), "FAIL_AT": str(at), "FAIL_PROGRAM": only}, **more)


def settings(t, w):
    """iis-pollerd -t: each third allocation, until none is left to fail."""
    d = Daemon(w, {"log.level": "info"}, start=False)
    bad, n, ended = [], 1, 0
    while True:
        more = {"FAIL_ON": "1"} if n % 2 else {}
        p = subprocess.run([program("iis-pollerd"), "-t", "-c", d.file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           env=clean_env(failing(n, "iis-pollerd", **more)), timeout=60)
        if p.returncode == 0:
            break
        # With all that follow failing, too, even the words may be missing.
        if p.returncode != 71 or OUT not in p.stdout and not more:
            bad.append((n, p.returncode, p.stdout[-200:]))
        ended += 1
        n += 7
    t.ok(ended > 50 and not bad, "iis-pollerd -t: %d of its %d allocations fail: it ends with 71" % (ended, n), bad[:5])


def workers(t, b):
    """Each worker loses an allocation, one after the other a later one."""
    w = World(b)
    d = WholeLog(w, {"workers.count": 3, "egress.allow": ["127.0.0.1/32"], "local.allowed_roots": [ROOT + "/t/data"], "retry.max_attempts": 50}, start=False)
    count, wrapper = os.path.join(d.dir, "count"), os.path.join(d.dir, "worker")
    with open(wrapper, "w") as f:
        f.write("#!/bin/sh\nprintf x >>'%s'\nn=$(wc -c <'%s')\nFAIL_AT=$((FIRST + n * 37 %% SPREAD)) LD_PRELOAD='%s' exec '%s' \"$@\"\n".replace("FIRST", "%d" % FIRST).replace("SPREAD", "%d" % SPREAD) %
                (count, count, program("t/lib/failing.so"), program("iis-poller-worker")))
    os.chmod(wrapper, 0o755)
    d.write_conf(workers__path=wrapper)
    d.start()
    web = Answers(lambda r: {"body": PAGE, "headers": {"Content-Type": "text/html"}})
    s3 = s3servers.Pages([b"f%d.csv" % i for i in range(40)])
    kinds = ({"source_type": "http", "url": web.url + "/", "head_mode": "none"}, s3.source(), {"source_type": "local", "path": ROOT + "/t/data/http"}, generated(40))
    n = 120
    w.push(*[job("j-%d" % i, kinds[i % len(kinds)]) for i in range(n)])
    rs = w.results(n, 90)
    t.same_set([r["job_id"] for r in rs], ["j-%d" % i for i in range(n)], "workers: each of %d jobs has its one end" % n)
    died = [x for x in d.logged("worker_died") if x["cause"] not in ("clean", "recycled", "exchanged")]
    t.ok(len(died) > 25, "%d workers lost an allocation" % len(died))
    t.is_({x["cause"] for x in died}, {"memory"}, "which is what they died of: none of a signal")
    completed = [r for r in rs if r["event_type"] == "job.completed"]
    failed = [r for r in rs if r["event_type"] != "job.completed"]
    t.ok(len(completed) > n * 3 // 4 and {r["error"]["class"] for r in failed} <= {"worker_crash"}, "%d completed, the others met it twice: dead letters" % len(completed), [r["error"] for r in failed][:5])
    t.is_({r["job_id"] for r in failed}, {r.headers["job_id"] for r in w.reader("dlq").drain()}, "each of those has its letter")
    of = {}
    for e in w.reader("events").drain():
        of.setdefault(e["job_id"], set()).add(e["event_id"])
    want = {"http": 40, "s3": 40, "dummy": 40, "local": len([x for _, _, fs in os.walk(ROOT + "/t/data/http") for x in fs])}
    t.is_([(r["job_id"], len(of.get(r["job_id"], ()))) for r in completed if len(of.get(r["job_id"], ())) != want[r["sources"][0]["source_type"]]], [], "and a completed one told of every file")
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + in flight")
    t.is_(d.stop(), 0, "it stops")
    web.stop()
    s3.stop()


def master(t, b):
    """The master loses one allocation, a later one each time, and is started again as the service manager would."""
    w = World(b)
    n, d, deaths, at = 60, None, [], AT
    w.push(*[job("m-%d" % i, generated(20, delay="20ms")) for i in range(n)])
    for k in range(8):
        d = WholeLog(w, {"workers.count": 2, "kafka.commit_interval": "50ms"}, env=failing(at, "iis-pollerd"), ready=False, keep=d)
        at += BY
        code = d.wait_exit(40)
        deaths.append(code)
        d.bad_lines[:] = [x for x in d.bad_lines if OUT not in x]
    t.is_(set(deaths), {71}, "the master ends with 71, %d times" % len(deaths))
    d = WholeLog(w, {"workers.count": 2}, keep=d)
    got = w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= n, 60)
    t.is_({r["job_id"] for r in got}, {"m-%d" % i for i in range(n)}, "each of %d jobs has its end" % n)
    bad = [r["error"]["class"] for r in got if r["event_type"] != "job.completed"]
    t.ok(set(bad) <= {"master_crash"}, "all completed but those that were in its hands at two deaths: %d" % len(bad), bad)
    t.is_(d.stop(), 0, "it stops")


FIRST, SPREAD = 8800, 4000      # of a worker: behind its start; a few jobs
AT, BY = 3000, 1500             # of the master


with Tap() as tap:
    need(tap, "iis-pollerd", "iis-poller-worker", "t/lib/nth_malloc", "t/lib/failing.so")
    if SANITIZED:
        tap.skip_all("the sanitizers have their own heap")
    broker = MockBroker(tap)
    tap.part(parsers)
    tap.part(settings, World(broker))
    tap.part(workers, broker)
    tap.part(master, broker)
