#!/usr/bin/python3
"""What operators do to a daemon under load: a hundred edits of its file, good and bad; a halt and its end; restarts one after the
other. No job fails of it, none is lost, and a stop that was graceful repeats none."""
import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import WholeLog, seconds  # noqa: E402
from poller import SLOW, MockBroker, Tap, World, conservation, generated, job, need, wait_for, yaml_text  # noqa: E402

EDITS = 100
# of a file that is right, what makes it wrong
BAD = [("a key that is none", lambda s: s + "zzz: 1\n"), ("a misspelt key", lambda s: s.replace("\n  level:", "\n  levle:")), ("a tab", lambda s: s.replace("\n  level:", "\n\tlevel:")),
       ("a number that is none", lambda s: s.replace("retry:\n", "retry:\n  max_attempts: 3x\n")), ("a number out of bounds", lambda s: s.replace("retry:\n", "retry:\n  max_attempts: -5\n")),
       ("a key twice", lambda s: s.replace("\n  level:", "\n  level: \"info\"\n  level:")), ("a section twice", lambda s: s + "retry:\n  delay: 1s\n"), ("an alias", lambda s: s + "jobs: &a\n  max_age: *a\n"),
       ("a quote without end", lambda s: s + "jobs: \"\n"), ("a word that is none", lambda s: re.sub(r"\n  level: .*", "\n  level: loud", s)), ("a duration that is none", lambda s: re.sub(r"\n  delay: .*", "\n  delay: soon", s)),
       ("cut", lambda s: s[:s.rindex("\n", 0, len(s) // 2)] + "\n  \""), ("bytes that are no UTF-8", lambda s: s + "jobs:\n  max_age: \udcff\n")]


def good(rng):
    return {"log.level": rng.choice(("info", "debug", "warn", "info")), "retry.delay": "%dms" % rng.randrange(20, 80), "retry.max_attempts": rng.randrange(2, 6),
            "jobs.hold_max": "%ds" % rng.randrange(30, 90), "kafka.commit_interval": "%dms" % rng.randrange(50, 300), "timeouts.job": "%ds" % rng.randrange(100, 300)}


def edits(t, b):
    """Each edit is one of these at random, told to the daemon by SIGHUP or by the admin tool; its answer is awaited before the next."""
    w, rng = World(b), random.Random(17)
    # so that every edit's answer is in the log, whatever level it set: the generation on the pages
    d = WholeLog(w, dict(good(random.Random(1)), **{"workers.count": 3, "log.level": "info"}))
    n = 600
    w.push(*[job("e-%d" % i, generated(3, delay="20ms")) for i in range(n)])
    d.wait_log("job_started")
    refused, taken, placeless, told = 0, 0, [], []
    for i in range(EDITS):
        bad = rng.random() < 0.6
        conf = dict(d.conf, **good(rng))
        text = yaml_text(conf)
        name = "right"
        if bad:
            name, spoil = rng.choice(BAD)
            spoilt = spoil(text)
            if spoilt == text:
                raise RuntimeError("%s changes nothing" % name)
            text = spoilt
        else:
            d.conf = conf
        with open(d.file + ".new", "w", errors="surrogateescape") as f:
            f.write(text)
        os.rename(d.file + ".new", d.file)
        code, out, err = d.ctl("reload", json_out=False)
        if (code == 0) == bad:
            told.append((i, name, code, out, err))
        if bad:
            refused += 1
            if not re.search(re.escape(d.file) + r":\d+:\d+: ", out + err):
                placeless.append((name, out, err))
        else:
            taken += 1
    t.ok(refused > 40 and taken > 20 and not told, "%d edits under load: %d wrong ones refused, %d right ones taken" % (EDITS, refused, taken), told[:3])
    t.is_(placeless[:3], [], "each refusal names file, line and column")
    d.write_conf(log__level="info")
    t.is_(d.ctl("reload")[0], 0, "the last one is right")
    code, got, _ = d.ctl("config")
    t.ok(code == 0 and d.conf["retry.delay"] in str(got), "what is in force is what was taken last", got)
    rs = w.results(n, 60)
    t.is_(({r["event_type"] for r in rs}, len(rs), {r["attempt"] for r in rs}), ({"job.completed"}, n, {1}), "failed jobs: 0 of %d" % n)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "all have ended")
    left, right = conservation(d)
    t.is_(left, right, "each is accounted for")
    t.is_(d.stop(), 0, "it stops")


def halted(t, b):
    """The master is halted for longer than its session with Kafka and than its jobs' deadlines, and goes on."""
    w = World(b, partitions=2)
    d = WholeLog(w, {"workers.count": 3, "kafka.commit_interval": "50ms"})
    n = 200
    w.push(*[job("h-%d" % i, generated(3, delay="60ms"), timeout="3s") for i in range(n)], partition=lambda i: i % 2)
    d.wait_log("job_done", count=20)
    d.signal(signal.SIGSTOP)
    time.sleep(5 * SLOW)            # the fault itself
    d.signal(signal.SIGCONT)
    w.reader("results").until(lambda rs: len({r["job_id"] for r in rs}) >= n, 60, "all jobs")
    t.is_(d.wait_metric("poller_active_jobs", 0, 30), 0, "halted for 5 s: all have ended")
    rs = w.reader("results").drain()
    t.is_({r["job_id"] for r in rs}, {"h-%d" % i for i in range(n)}, "none of %d jobs is lost" % n)
    t.is_({r["event_type"] for r in rs}, {"job.completed"}, "none failed: its time was not theirs")
    ids = {}
    for r in rs:
        ids.setdefault(r["job_id"], set()).add(r["result_id"])
    t.ok(all(len(x) == 1 for x in ids.values()) and len(rs) - n <= 20, "%d were done again, each under its result_id" % (len(rs) - n))
    left, right = conservation(d)
    t.is_(left, right, "each is accounted for")
    t.is_(d.wait_metric("poller_workers", 3, state="idle"), 3, "all workers are there")
    t.is_(d.stop(), 0, "it stops")


def restarts(t, b):
    """Ten times TERM, its end, the next one: as a package's upgrade does it."""
    w = World(b, partitions=2)
    n, rounds = 400, 10
    w.push(*[job("r-%d" % i, generated(3, delay="60ms")) for i in range(n)], partition=lambda i: i % 2)
    d, codes = None, []
    for k in range(rounds):
        d = WholeLog(w, {"workers.count": 3, "kafka.commit_interval": "50ms"}, keep=d)
        d.wait_log("job_done", count=2)
        codes.append(d.stop())
    d = WholeLog(w, {"workers.count": 3}, keep=d)
    w.results(n, 60)
    t.is_(set(codes), {0}, "%d restarts under load: each ended with 0" % rounds)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "all have ended")
    t.is_(d.stop(), 0, "the last one, too")
    rs = w.reader("results").drain()
    t.same_set([r["job_id"] for r in rs], ["r-%d" % i for i in range(n)], "each of %d jobs was done once" % n)
    t.is_({(r["event_type"], r["attempt"]) for r in rs}, {("job.completed", 1)}, "in its first attempt")
    ends = sorted(seconds(r["finished_at"]) for r in rs)
    gaps = sorted(y - x for x, y in zip(ends, ends[1:]))
    t.ok(gaps[-1] < 8 * SLOW, "the longest pause was %.1f s, the median of the restarts' %.1f s" % (gaps[-1], gaps[-rounds // 2]))


with Tap() as tap:
    need(tap, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    broker = MockBroker(tap)
    for part in (edits, halted, restarts):
        tap.part(part, broker)
