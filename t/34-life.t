#!/usr/bin/python3
"""What a poller does over its life: recycled workers, waits between attempts, jobs done once over a kill, its sandbox, its health, its quarantine."""
import datetime
import json
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, generated, job, need, wait_for  # noqa: E402

CANARY = "canary-4711-of-the-test"


def no_other_deaths(t, d, name):
    """Recycling is the only reason for which a worker ended here."""
    other = [x for x in d.logged("worker_died") if x["cause"] != "recycled"]
    t.ok(not other, name, other[:5])


def after_tasks(t, b):
    """workers.max_tasks"""
    w = World(b)
    d = Daemon(w, {"workers.max_tasks": 5})
    first = sorted(d.workers().values())
    w.push(*[job("task-%d" % i, generated(2, delay="50ms")) for i in range(100)])
    w.results(100)
    out = w.reader("results").drain()
    t.same_set([r["job_id"] for r in out], ["task-%d" % i for i in range(100)], "max_tasks 5: each of 100 jobs has one result")
    t.ok(all(r["event_type"] == "job.completed" and r["attempt"] == 1 for r in out), "all are completed at the first attempt")
    t.is_((len(w.reader("events").drain()), len(w.reader("dlq").drain())), (200, 0), "each event once, no dead letter")
    # One worker at a time is exchanged, so how many there are depends on time; but both that began are used up.
    d.wait_log("worker_died", pid=first[0])
    died = d.wait_log("worker_died", pid=first[1])
    t.is_(died["cause"], "recycled", "both workers of the beginning were recycled")
    no_other_deaths(t, d, "no worker died of anything else")

    def counted():
        seen = d.metric("poller_worker_restarts_total", cause="recycled")
        return seen if seen and seen == len(d.logged("worker_died", cause="recycled")) else None
    t.ok(wait_for("worker_restarts_total{recycled} to be the deaths in the log", counted) >= 2, "worker_restarts_total{recycled} = deaths in the log")
    t.is_(d.metric("poller_job_retries_total"), 0, "no job was tried again")
    t.is_(d.stop(), 0, "exit 0")


def after_age(t, b):
    """workers.max_age: idle workers are replaced, a busy one has its job's end first."""
    w = World(b)
    d = Daemon(w, {"workers.max_age": "1s"})
    w.push(job("longer-than-a-life", generated(3, delay="2500ms")))
    busy = d.wait_log("job_started", job_id="longer-than-a-life")
    d.wait_log("worker_died", cause="recycled", count=3, timeout=20)
    r = w.result_of("longer-than-a-life")
    t.is_((r["event_type"], r["attempt"], len(w.events_of("longer-than-a-life"))), ("job.completed", 1, 3), "max_age 1s: a job longer than a life is completed")
    t.ok(busy, "it was started")
    no_other_deaths(t, d, "no worker died of anything else")
    t.ok(wait_for("the metric", lambda: d.metric("poller_worker_restarts_total", cause="recycled") >= 3), "worker_restarts_total{recycled}")
    t.is_(w.run(generated(2))[0]["event_type"], "job.completed", "jobs are served afterwards")
    t.is_(d.stop(), 0, "exit 0")


def net_lag(t, b):
    """One slow job in front, 20 done behind it: that is a lag of 1, and after kill -9 one job to do."""
    w = World(b)
    d = Daemon(w, {"workers.count": 2})
    w.push(job("slow", generated(1, delay="120s")), partition=0)
    d.wait_log("job_started", job_id="slow")
    w.push(*[job("quick-%d" % i, generated(1)) for i in range(20)], partition=0)
    w.results(20)

    def settled():
        code, out, err = d.ctl("lag")
        return out if code == 0 and out["partitions"][0]["done_beyond"] == 20 else None
    out = wait_for("20 done beyond the slow one", settled, 20, every=0.2)
    p = out["partitions"][0]
    t.is_((out["lag"], p["lag"], p["high_watermark"]), (1, 1, 21), "iis-pollerctl lag: 1 of 21")
    t.ok(p["committed"] in (0, None), "nothing is committed beyond the slow one", p)
    t.is_(d.wait_metric("poller_consumer_lag_records", 1), 1, "consumer_lag_records 1")
    code, out, err = d.ctl("lag", "--daemon")
    rows = out if isinstance(out, list) else out.get("partitions", []) if isinstance(out, dict) else []
    t.ok(code == 0 and len(rows) == 1 and rows[0]["lag"] == 1 and rows[0]["done_beyond"] == 20, "the daemon's own view agrees", code, out, err)
    d.kill()
    e = Daemon(w, keep=d)
    e.wait_log("job_started", job_id="slow")
    t.is_(e.wait_metric("poller_jobs_repeats_skipped_total", 20), 20, "after kill -9: 20 messages are skipped")
    t.is_(e.metric("poller_kafka_messages_consumed_total", status="skipped"), 20, "kafka_messages_consumed_total{skipped} too")
    t.is_([x["job_id"] for x in e.logged("job_accepted")], ["slow"], "the slow one alone is done again")
    t.is_(e.ctl("job", "cancel", "slow")[0], 0, "it is cancelled")
    t.is_(w.result_of("slow")["event_type"], "job.cancelled", "and has its end")
    t.is_(e.wait_metric("poller_consumer_lag_records", 0), 0, "then there is no lag")
    t.is_(len(w.reader("results").drain()), 21, "each job has one result")
    t.is_(wait_for("the commit", lambda: w.committed()[0] == 21 and 21, 20, every=0.2), 21, "and all are committed")
    t.is_(e.stop(), 0, "exit 0")


def stamp(line):
    value = next(line[k] for k in ("time", "ts", "timestamp") if k in line)
    return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() * 1000


def retry_waits(t, b):
    w = World(b)
    d = Daemon(w, {"workers.count": 4})
    n = 6
    w.push(*[job("again-%d" % i, generated(1, error="transient", retries=3, retry_delay="100ms", retry_backoff=2)) for i in range(n)],
           job("capped", generated(1, error="transient", retries=3, retry_delay="100ms", retry_backoff=10, retry_max_delay="150ms")),
           job("none", generated(1, error="transient", retries=0)))
    w.results(n + 2)
    wrong, early, seen = [], [], set()
    for i in range(n):
        lines = d.logged("job_retry", job_id="again-%d" % i)
        waits = [x["wait_ms"] for x in lines]
        seen.update(waits)
        # whole milliseconds, rounded up: 1 beyond the 20 %
        if len(waits) != 3 or not all(0.8 * x <= got <= 1.2 * x + 1 for got, x in zip(waits, (100, 200, 400))):
            wrong.append(waits)
        for a, z in zip(lines, lines[1:]):
            if stamp(z) - stamp(a) < a["wait_ms"] - 2:
                early.append((a, z))
    t.ok(not wrong, "waits are 100, 200 and 400 ms, 20 % more or less", wrong)
    t.ok(not early, "by the log's times none came earlier", early[:2])
    t.ok(len(seen) > 3, "they differ from job to job", seen)
    letters = w.dead_letters_of("again-0")
    t.is_([(x["failure_info"]["error_type"], x["failure_info"]["retry_count"]) for x in letters], [("transient", 3)], "then a dead letter")
    waits = [x["wait_ms"] for x in d.logged("job_retry", job_id="capped")]
    t.ok(len(waits) == 3 and all(120 <= x <= 181 for x in waits[1:]), "retry_max_delay caps them", waits)
    t.is_(len(d.logged("job_retry", job_id="none")), 0, "retries 0: none")
    t.is_(d.stop(), 0, "exit 0")


def proc(pid, name):
    with open("/proc/%d/%s" % (pid, name), "rb") as f:
        return f.read()


def children(pid):
    """{pid: name} of its children"""
    got = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                stat = proc(int(p), "stat").decode("utf-8", "replace")
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                got[int(p)] = stat[stat.index("(") + 1:stat.rindex(")")]
    return got


def sandbox(t, b):
    """What a worker and the status child could give away: the daemon's environment and descriptors."""
    if os.geteuid():
        t.skip("what the children could give away", "reading the children's environment takes root")
        return
    w = World(b)
    d = Daemon(w, env={"FOO_SECRET": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY, "IIS_POLLER_LOG_LEVEL": "info"})
    d.http("/livez")
    w.push(job("busy", generated(1, delay="60s")))
    d.wait_log("job_started", job_id="busy")
    t.ok(CANARY.encode() in proc(d.pid, "environ"), "the canary is in the daemon's environment")
    workers = set(d.workers().values())
    kids = children(d.pid)
    others = set(kids) - workers
    t.ok(len(workers) == 2 and workers <= set(kids), "two workers", workers, kids)
    t.is_(len(others), 1, "and one status child")
    broker_ports = {int(x.rpartition(":")[2]) for x in b.bootstrap.split(",")}
    remote = set()
    for table in ("net/tcp", "net/tcp6"):
        for line in proc(d.pid, table).decode().splitlines()[1:]:
            f = line.split()
            if int(f[2].rpartition(":")[2], 16) in broker_ports:
                remote.add("socket:[%s]" % f[9])
    fds = lambda pid: {int(x): os.readlink("/proc/%d/fd/%s" % (pid, x)) for x in os.listdir("/proc/%d/fd" % pid)}  # noqa: E731
    t.ok(remote & set(fds(d.pid).values()), "the daemon has a connection to the broker")
    for pid in sorted(kids):
        who = "a worker" if pid in workers else "the status child"
        t.ok(CANARY.encode() not in proc(pid, "environ"), "%s: no secret in its environment" % who, proc(pid, "environ"))
        t.ok(CANARY.encode() not in proc(pid, "cmdline"), "%s: nor in its command line" % who)
        status = dict(re.findall(r"^(\w+):\s*(.*)$", proc(pid, "status").decode(), re.M))
        t.is_(status["NoNewPrivs"], "1", "%s: no new privileges" % who)
        have = fds(pid)
        t.ok(not remote & set(have.values()), "%s: no connection to Kafka" % who, have)
        t.ok(not any("journal" in x or x.endswith(".sock") for x in have.values()), "%s: not the journal" % who, have)
        if pid in workers:
            t.ok(set(have) <= set(range(5)), "a worker: descriptors 0 to 4 at most", have)
            t.ok(sum(x.startswith("socket:") for x in have.values()) <= 1, "a worker: its channel is the only socket", have)
        else:
            t.ok({0, 1, 2} <= set(have) and not any(x.startswith("/") and not x.startswith("/dev/null") for x in have.values()),
                 "the status child: no file is open", have)
    d.ctl("job", "cancel", "busy")
    w.result_of("busy")
    t.is_(d.stop(), 0, "exit 0")


def health(t, _):
    """A broker of its own, which goes away and comes back."""
    b = MockBroker(t)
    w = World(b)
    d = Daemon(w)

    def verdict():
        status, body = d.http("/health")
        return status, json.loads(body)
    wait_for("healthy", lambda: verdict()[1]["status"] == "healthy")
    t.ok(True, "healthy with the broker")
    b.do("down", -1)
    status, h = wait_for("not healthy", lambda: (lambda v: v if v[1]["status"] != "healthy" else None)(verdict()), 40, every=0.2)
    t.ok(h["status"] in ("degraded", "unhealthy") and status == (503 if h["status"] == "unhealthy" else 200), "the broker is down: %s" % h["status"], status, h)
    t.ok(any(c.get("status") != "pass" for k, c in h["checks"].items() if k.startswith("kafka")), "a check of Kafka says so", h["checks"])
    t.is_(d.http("/livez")[0], 200, "it is alive all the same")
    b.do("up", -1)
    status, h = wait_for("healthy again", lambda: (lambda v: v if v[1]["status"] == "healthy" else None)(verdict()), 40, every=0.2)
    t.is_(status, 200, "the broker is up: healthy")
    t.is_(w.run(generated(2))[0]["event_type"], "job.completed", "jobs are served")
    t.is_(d.stop(), 0, "exit 0")


MAGIC, HAND = 0x4a50534949303033, 80   # of struct page in master/journal.c: the row in hand


def quarantine(t, b):
    """The master died twice with the same message in hand. The moment is too short to hit, so the mark is set in the journal."""
    w = World(b)
    d = Daemon(w)
    w.push(job("deadly", generated(1, delay="60s"), metadata={"kept": 1}), job("innocent", generated(2)), partition=0)
    w.result_of("innocent")
    journal = os.path.join(d.conf["state.dir"], "journal")
    for death in (1, 2):
        d.wait_log("job_started", job_id="deadly")
        at = d.logged("job_accepted", job_id="deadly")[0]
        d.kill()
        with open(journal, "r+b") as f:
            magic, = struct.unpack("=Q", f.read(8))
            if not t.is_(magic, MAGIC, "the journal has the layout that this test knows"):
                return
            f.seek(HAND)
            f.write(struct.pack("=QqiI", 0, at["offset"], at["partition"], 1))
        d = Daemon(w, keep=d)
        t.ok(d.wait_log("journal_death", partition=at["partition"], offset=at["offset"], deaths=death), "death %d is noted" % death)
    d.wait_log("job_done", error_class="master_crash")
    r = w.reader("results").until(lambda rs: [x for x in rs if x["error"]], 20)
    r = [x for x in r if x["error"]]
    # It is not even parsed: its number is not known, its place is.
    t.is_([(x["event_type"], x["error"]["class"], x["origin"]["offset"]) for x in r], [("job.failed", "master_crash", at["offset"])], "after two deaths it is not tried again")
    letters = w.reader("dlq").read(1)
    t.is_([x["failure_info"]["error_type"] for x in letters], ["master_crash"], "one dead letter, master_crash")
    t.is_(d.logged("job_started", job_id="deadly"), [], "no worker saw it at the third start")
    t.is_(w.run(generated(2))[0]["event_type"], "job.completed", "the next job is served")
    t.is_(len({x["result_id"] for x in w.reader("results").drain()}), 3, "each of the three has one result, by result_id")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    b = MockBroker(t)
    for part in (after_tasks, after_age, net_lag, retry_waits, sandbox, health, quarantine):
        t.part(part, b)


with Tap() as tap:
    main(tap)
