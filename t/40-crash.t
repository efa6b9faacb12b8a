#!/usr/bin/python3
"""Workers that die, hang and misbehave: each costs its own job at most, and the master goes on."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import seconds  # noqa: E402
from poller import SLOW, Daemon, MockBroker, Tap, Timeout, World, alive, conservation, generated, job, need, wait_for  # noqa: E402

# kind of the dummy's fault: (class of the dead letter, signal or None, causes of worker_died that are right)
CRASHES = {
    "segv": ("worker_crash", signal.SIGSEGV, {"crash"}),
    "abrt": ("worker_crash", signal.SIGABRT, {"crash"}),
    "bus": ("worker_crash", signal.SIGBUS, {"crash"}),
    "fpe": ("worker_crash", signal.SIGFPE, {"crash"}),
    "ill": ("worker_crash", signal.SIGILL, {"crash"}),
    "sys": ("worker_crash", signal.SIGSYS, {"sandbox"}),
    "xcpu": ("worker_crash", signal.SIGXCPU, {"cpu"}),
    "oom": ("worker_crash", None, {"memory"}),
    "kill": ("worker_lost", signal.SIGKILL, {"killed"}),
    "term": ("worker_lost", signal.SIGTERM, {"killed"}),
    "exit": ("worker_lost", None, {"exit"}),
    "garbage": ("worker_protocol", None, {"protocol"}),
    "oversize": ("worker_protocol", None, {"protocol"}),
    "turn": ("worker_protocol", None, {"protocol"}),
    "hang": ("timeout", None, {"deadline"}),
    "spin": ("timeout", None, {"deadline"}),
}


def kinds(t, w, d):
    """All at once, so that they also meet one another; each beside a healthy job."""
    since = d.mark()
    for kind in CRASHES:
        w.push(job("crash-" + kind, generated(5, crash=kind, fail_after=2, retries=1, retry_delay="10ms"), timeout="1s"),
               job("beside-" + kind, generated(3)))
    for kind, (cls, sig, causes) in CRASHES.items():
        try:
            r = w.result_of("crash-" + kind, 60)
        except Timeout as e:
            t.ok(False, "%s: its job ends" % kind, e)
            continue
        dl = w.dead_letters_of("crash-" + kind)
        f = dl[0]["failure_info"] if dl else {}
        t.is_((r["event_type"], r["error"]["class"], f.get("error_type"), len(dl), r["attempt"]), ("job.failed", cls, cls, 1, 2),
              "%s: one further attempt, then a dead letter %s" % (kind, cls))
        died = d.logged("worker_died", since=since, job_id="crash-" + kind)
        t.ok(len(died) == 2 and {x["cause"] for x in died} <= causes, "%s: two workers died of it, cause %s" % (kind, "/".join(causes)), died)
        v = f.get("worker") or {}
        if sig:
            t.is_(v.get("signal"), int(sig), "%s: the verdict names the signal" % kind)
        if cls == "worker_crash":
            t.ok(v.get("pid") in [x["pid"] for x in died] and v.get("max_rss_bytes", 0) > 0 and v.get("cpu_seconds", -1) >= 0 and v.get("phase"),
                 "%s: the verdict is full" % kind, v)
        t.is_(len(w.events_of("crash-" + kind)), 0, "%s: atomic: no event" % kind)
        t.is_(w.result_of("beside-" + kind)["event_type"], "job.completed", "%s: the job beside it is served" % kind)
    r, e, dl = w.run(generated(5, crash="fdleak", fault_attempts=1, retry_delay="10ms"))
    t.is_((r["event_type"], r["attempt"], len(e)), ("job.completed", 2, 5), "descriptors used up: system error, a new attempt")
    r, e, dl = w.run(generated(5, crash="segv", fail_after=3, fault_attempts=1))
    t.is_((r["event_type"], r["attempt"], len(e), len(dl)), ("job.completed", 2, 5, 0), "a crash that does not come back: completed")
    r, e, dl = w.run(generated(5000, crash="segv", fail_after=3000, fault_attempts=1), publish="stream")
    t.ok(r["event_type"] == "job.completed" and len({x["event_id"] for x in e}) == 5000, "stream and a crash: all there, by event_id", r.raw, len(e))
    code, out, err = d.ctl("crashes")
    t.ok(code == 0 and "crash-segv" in str(out), "iis-pollerctl crashes tells of them", code, str(out)[:500], err)


def poison(t, w, d):
    """20 jobs that crash every worker, among 60 sound ones: the pool is not punished."""
    before = d.mark()
    w.push(*[job("poison-%d" % i, generated(1, crash="segv")) if i % 4 == 0 else job("sound-%d" % i, generated(2)) for i in range(80)])
    w.reader("results").until(lambda rs: sum(str(r["job_id"]).startswith(("poison", "sound")) for r in rs) >= 80, 60)
    out = {r["job_id"]: r for r in w.reader("results").records}
    t.ok(all(out["poison-%d" % i]["error"]["class"] == "worker_crash" for i in range(0, 80, 4)), "20 poison jobs are quarantined")
    t.ok(all(out["sound-%d" % i]["event_type"] == "job.completed" for i in range(80) if i % 4), "60 sound jobs are served")
    t.is_(len(d.logged("worker_died", since=before)), 40, "each poison job cost two workers, no more")


def neighbours(t, b):
    """While jobs kill their workers again and again, the others are not touched: neither the busy ones nor the idle ones."""
    w = World(b, partitions=1)
    d = Daemon(w, {"workers.count": 4})
    causes = lambda m: {dict(l)["cause"]: v for (n, l), v in m.items() if n == "poller_worker_restarts_total" and v}  # noqa: E731
    # Another tenant is another process: those that gave way were well.
    deaths = lambda since: [x for x in d.logged("worker_died", since=since) if x["cause"] != "exchanged"]  # noqa: E731
    others = lambda m: {k: v for k, v in causes(m).items() if k != "exchanged"}  # noqa: E731

    def settled():
        m = d.metrics()
        return m if sum(causes(m).values()) == len(d.logged("worker_died")) and not d.metric("poller_active_jobs", m) else None

    # Idle: every worker has served, so none is fresh; a poison job dies in one of them and then in a fresh one, no more.
    w.push(*[job("warm-%d" % i, generated(2, delay="200ms")) for i in range(8)])
    w.reader("results").read(8)
    before = d.workers()
    t.is_(len(before), 4, "four workers have served and are idle")
    since = d.mark()
    for i in range(3):
        r, _, dl = w.run(generated(1, crash="segv"), job_id="segv-%d" % i, org_id="poisoner")
        t.is_((r["error"]["class"], len(dl)), ("worker_crash", 1), "poison job %d beside idle workers: quarantined" % i)
        d.wait_log("worker_ready", since=since, count=2 * (i + 1))
    died = deaths(since)
    t.is_([x["job_id"] for x in died], ["segv-%d" % (i // 2) for i in range(6)], "each death is the poison's own")
    slots = {x["slot"] for x in died}
    t.ok(len(slots) < 4 and all(d.workers()[s] == p for s, p in before.items() if s not in slots), "the idle neighbours live on", before, d.workers())
    t.is_(others(wait_for("metrics", settled)), {"crash": 6}, "poller_worker_restarts_total: six crashes, no other cause")

    # Busy: three workers list for other tenants while a fourth is killed time and again.
    since = d.mark()
    w.push(*[job("long-%d" % i, generated(4, delay="%ds" % int(6 * SLOW)), org_id="tenant-%d" % i) for i in range(3)])
    d.wait_log("job_started", since=since, count=3)
    busy = {x["slot"]: d.workers()[x["slot"]] for x in d.logged("job_started", since=since)}
    w.push(job("again", generated(1, crash="kill", retries=7, retry_delay="10ms"), org_id="poisoner"),
           *[job("small-%d" % i, generated(2), org_id="small") for i in range(20)])
    r = w.result_of("again")
    t.is_((r["event_type"], r["error"]["class"], r["attempt"]), ("job.failed", "worker_lost", 8), "a job that kills its worker eight times: failed")
    t.is_({w.result_of("small-%d" % i)["event_type"] for i in range(20)}, {"job.completed"}, "another tenant's jobs, between these deaths: completed")
    t.ok(not any(r["job_id"].startswith("long") for r in w.reader("results").records), "all that while the neighbours were busy")
    out = [w.result_of("long-%d" % i) for i in range(3)]
    t.is_([(r["event_type"], r["attempt"]) for r in out], [("job.completed", 1)] * 3, "the neighbours' jobs: completed at the first attempt")
    died = deaths(since)
    t.is_([x["job_id"] for x in died], ["again"] * 8, "the eight deaths are that job's")
    t.ok(len(busy) == 3 and all(d.workers().get(s) == p for s, p in busy.items()), "the busy neighbours live on", busy, d.workers())
    t.is_(others(wait_for("metrics", settled)), {"crash": 6, "killed": 8}, "poller_worker_restarts_total is the poison's alone")
    t.is_(d.stop(), 0, "poison and its neighbours: exit 0")


def storm(t, w, d):
    """SIGKILL from outside while jobs run: retried within the budget, nothing lost."""
    n = 60
    w.push(*[job("storm-%d" % i, generated(20, delay="30ms", retries=20, retry_delay="10ms")) for i in range(n)])
    rng = random.Random(4)
    mine = lambda rs: [r for r in rs if str(r["job_id"]).startswith("storm-")]  # noqa: E731
    kills = 0
    while len(mine(w.reader("results").drain())) < n and kills < 40:
        since = d.mark()
        pids = d.workers()
        if pids:
            pid = rng.choice(sorted(pids.values()))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills += 1
            d.wait_log("worker_died", since=since, pid=pid)
            d.wait_log("worker_ready", since=since)
    w.reader("results").until(lambda rs: len(mine(rs)) >= n, 60)
    rs = mine(w.reader("results").records)
    t.diag("%d workers killed" % kills)
    t.ok(kills >= 10, "workers were killed while jobs ran")
    t.is_({r["event_type"] for r in rs}, {"job.completed"}, "%d jobs under a storm of SIGKILL: all completed" % n)
    t.ok(sum(r["attempt"] - 1 for r in rs) <= kills, "%d kills cost %d attempts: those of their own tasks" % (kills, sum(r["attempt"] - 1 for r in rs)))
    # From the death of a slot's worker to the next one that is ready; many deaths in a row are answered at the pace that guards the master.
    died, gaps = {}, []
    d.log.catch_up()
    for x in list(d.log.lines):
        if x.get("event") == "worker_died" and x["signal"] == signal.SIGKILL:
            died[x["slot"]] = seconds(x["time"])
        elif x.get("event") == "worker_ready" and x["slot"] in died:
            gaps.append(seconds(x["time"]) - died.pop(x["slot"]))
    gaps.sort()
    t.ok(gaps and gaps[-1] < 2 * SLOW, "the slot is back after %.0f ms (median), %.0f ms at most" % (gaps[len(gaps) // 2] * 1000, gaps[-1] * 1000))
    ids = {}
    for e in w.reader("events").drain():
        if e["job_id"].startswith("storm-"):
            ids.setdefault(e["job_id"], []).append(e["event_id"])
    t.ok(len(ids) == n and all(len(set(v)) == 20 for v in ids.values()), "each of their files has its event")
    t.ok(alive(d.pid), "the master lives")


def second(t, w, d):
    e = Daemon(w, {"control.socket": d.socket}, ready=False, name="second on the socket")
    code = e.wait_exit(20)
    t.ok(code not in (0, 70) and d.socket in "".join(e.raw), "a second master on the control socket refuses and names it: exit %d" % code, e.raw[-3:])
    t.is_(d.ctl("ping")[0], 0, "the first still answers")
    pid_file = os.path.join(d.dir, "pid")
    w2 = World(w.broker)
    a = Daemon(w2, {"state.pid_file": pid_file})
    with open(pid_file) as f:
        t.is_(f.read().strip(), str(a.pid), "the pid file holds the pid")
    c = Daemon(w2, {"state.pid_file": pid_file}, ready=False, name="second on the pid file")
    code = c.wait_exit(20)
    t.ok(code not in (0, 70) and pid_file in "".join(c.raw), "a second master on the pid file refuses and names it: exit %d" % code, c.raw[-3:])
    a.kill()
    c = Daemon(w2, {"state.pid_file": pid_file, "control.socket": a.socket}, name="after a kill")
    t.ok(True, "after a SIGKILL the same socket and pid file are taken over")
    t.is_(c.stop(), 0, "exit 0")


def orphans(t, w):
    d = Daemon(w)
    pids = list(d.workers().values())
    d.kill()
    try:
        wait_for("the workers' end", lambda: not any(alive(p) for p in pids), 10)
        t.ok(pids, "the master is killed: its workers end with it")
    except Timeout:
        t.ok(False, "the master is killed: its workers end with it", pids)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    b = MockBroker(t)
    w = World(b, partitions=2)
    d = Daemon(w, {"workers.count": 4, "workers.memory_max": "64MiB", "timeouts.cancel": "300ms", "spool.max_size": "64MiB"})
    for part in (kinds, poison, storm, second):
        t.part(part, w, d)
    t.is_(d.wait_metric("poller_active_jobs", 0), 0, "nothing is in flight")
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended")
    restarts = d.metric("poller_worker_restarts_total")
    t.is_(restarts, len(d.logged("worker_died")), "worker_restarts_total counts what the log tells")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    t.part(neighbours, b)
    t.part(orphans, World(b))


with Tap() as tap:
    main(tap)
