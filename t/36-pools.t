#!/usr/bin/python3
"""Pools and isolation: which pool a job goes to, whom a worker process serves, and that nobody waits for ever."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from kills import WholeLog  # noqa: E402
from poller import ROOT, MockBroker, Tap, World, conservation, folder, generated, job, need, wait_for  # noqa: E402


def served(d, since=0):
    """[(pid, org_id, job_id)] of the tasks that began, in their order, as the log tells."""
    up, got = {}, []
    d.log.catch_up()
    with d.log.cond:
        lines = list(d.log.lines)
    for i, x in enumerate(lines):
        if x.get("event") == "worker_ready":
            up[x["slot"]] = x["pid"]
        elif x.get("event") == "job_started" and i >= since:
            got.append((up[x["slot"]], x["org_id"], x["job_id"]))
    return got


def attempts(d):
    """{pid: [(job_id, attempt)]} of all that ran, as a log of level debug tells"""
    busy, got = None, {}
    d.log.catch_up()
    with d.log.cond:
        lines = list(d.log.lines)
    for x in lines:
        if x.get("event") == "worker_state" and x["to"] == "busy":
            busy = x["pid"]
        elif x.get("event") == "task_state" and x["to"] == "running":
            got.setdefault(busy, []).append((x["job_id"], x["attempt"]))
    return got


def by_pid(rows):
    pids = {}
    for pid, org, _ in rows:
        pids.setdefault(pid, set()).add(org)
    return pids


def workers(d):
    return d.ctl("workers")[1]["workers"]


def completed(t, w, n, what):
    done = w.results(n, timeout=90)
    t.is_(({x["event_type"] for x in done}, {x["attempt"] for x in done}, len({x["job_id"] for x in done})),
          ({"job.completed"}, {1}, n), what)


def tenants(t, b):
    """Five tenants, two workers, one pool that nobody configured."""
    w = World(b, partitions=2)
    d = WholeLog(w, {"workers.count": 2, "log.level": "debug"})
    w.push(*[job("j-%d-%d" % (i, o), generated(2), org_id="tenant-%d" % o, priority=("high", "normal", "low")[(i + o) % 3])
             for i in range(60) for o in range(5)])
    completed(t, w, 300, "300 jobs of five tenants under two workers all complete")
    rows = served(d)
    t.is_(len(rows), 300, "each began once")
    t.is_([o for o in by_pid(rows).values() if len(o) > 1], [], "no process has served two tenants")
    orgs = [o for _, o, _ in rows]
    last = {o: max(i for i, x in enumerate(orgs) if x == o) for o in set(orgs)}
    t.ok(min(orgs.index("tenant-%d" % o) for o in range(5)) == 0 and max(orgs.index("tenant-%d" % o) for o in range(5)) < 100,
         "each has had its first turn before a third of all is done", [orgs.index("tenant-%d" % o) for o in range(5)])
    t.ok(min(last.values()) > 90, "and none was through before a third", last)
    exchanged = d.metric("poller_worker_restarts_total", cause="exchanged")
    t.ok(8 <= len(by_pid(rows)) <= 150, "a process serves several tasks of its tenant", len(by_pid(rows)))
    t.ok(exchanged <= len(by_pid(rows)), "no more are exchanged than served", exchanged)
    t.is_([x for x in d.logged("worker_died") if x["cause"] != "exchanged"], [], "and none ended for another reason")
    t.ok({x["bound_to"] for x in workers(d)} <= {"tenant-%d" % o for o in range(5)} | {None}, "iis-pollerctl workers tells the binding", workers(d))
    told = {(x["slot"], x["pool"], x["bound_to"]) for x in workers(d)}
    wait_for("the page of the next second", lambda: {(x["slot"], x["pool"], x["bound_to"]) for x in json.loads(d.http("/status.json")[1])["workers"]} == told)
    t.ok(any(x[2] for x in told), "so does the status page", told)
    left, right = conservation(d)
    t.is_(left, right, "every job is accounted for")
    t.is_(d.stop(), 0, "exit 0")


def one_tenant(t, b):
    w = World(b, partitions=1)
    d = WholeLog(w, {"workers.count": 2})
    w.push(*[job("one-%d" % i, generated(2)) for i in range(200)])
    completed(t, w, 200, "200 jobs of one tenant complete")
    t.is_((len(by_pid(served(d))), d.logged("worker_died")), (2, []), "by the two workers of the beginning")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


def by_type(t, b):
    """Two pools by source type and root, a third for nobody else."""
    w, root = World(b, partitions=1), folder()
    for name in ("a", "b", "c"):
        os.makedirs(os.path.join(root, name, "in"))
        for i in range(3):
            with open(os.path.join(root, name, "in", "%d.csv" % i), "w") as f:
                f.write("x")
    d = WholeLog(w, {"local.allowed_roots": [root], "pools.gen": {"workers": 1, "source_types": ["dummy"], "spares": 0},
                     "pools.a": {"workers": 1, "spares": 0, "source_types": ["local"], "roots": [os.path.join(root, "a")]},
                     "pools.vip": {"workers": 1, "spares": 0, "source_types": ["local"], "tenants": ["vip-*"]},
                     "pools.net": {"workers": 1, "spares": 0, "source_types": ["http", "ftp"]}})
    t.is_(sorted((x["pool"], x["role"]) for x in workers(d)), [("a", "local"), ("gen", "local"), ("net", "network"), ("vip", "local")],
          "four pools of one worker each, each of the role that its types need")
    pool = {x["pid"]: x["pool"] for x in workers(d)}

    def ran_in(job_id):
        return [pool[pid] for pid, _, j in served(d) if j == job_id]
    local = {"source_type": "local"}
    for name, source, org, want in (("gen", generated(3), "default", "gen"), ("a", dict(local, path=root + "/a/in"), "default", "a"),
                                    ("vip", dict(local, path=root + "/b"), "vip-1", "vip")):
        r, e, dl = w.run(source, job_id="to-" + name, org_id=org, **({"file_pattern": "**/*"} if name == "vip" else {}))
        t.is_((r["event_type"], ran_in("to-" + name)), ("job.completed", [want]), "a job for the pool %s is served there" % want)
    r, e, dl = w.run(dict(local, path=root + "/b/in"), job_id="nowhere")
    t.is_((r["event_type"], r["error"]["class"], r["sources"]), ("job.failed", "policy", []), "a path that no pool has a root for: refused before it begins")
    text = r["error"]["message"]
    t.ok(all(x in text for x in ("source type local", "tenant default", "gen is not for its source type", "a has no root that holds its path", "vip is not for its tenant")),
         "and the message says of each pool why", text)
    r, e, dl = w.run({"source_type": "s3", "anonymous": True, "bucket": "b", "endpoint": "http://127.0.0.1:1"}, job_id="no-s3")
    t.ok(r["error"]["class"] == "policy" and "source type s3" in r["error"]["message"], "a source type that no pool takes: refused by name", r["error"])
    t.is_(len(dl), 1, "with its dead letter")
    r, e, dl = w.run([generated(1), dict(local, path=root + "/c")], job_id="half")
    t.is_((r["event_type"], r["error"]["class"], e), ("job.failed", "policy", []), "nor is a job begun of which one source fits nowhere")
    # What fills one pool holds up no other.
    w.push(job("long", generated(1, delay="600s")), *[job("behind-%d" % i, generated(1)) for i in range(5)])
    d.wait_log("job_started", job_id="long")
    r, e, dl = w.run(dict(local, path=root + "/a/in"), job_id="beside")
    t.is_((r["event_type"], len(e)), ("job.completed", 3), "a full pool holds up no other")
    d.ctl("job", "cancel", "long")
    w.result_of("behind-4")
    t.is_(d.stop(), 0, "exit 0")


def isolation_job(t, b):
    w = World(b, partitions=1)
    d = WholeLog(w, {"pools.once": {"workers": 2, "isolation": "job", "spares": 2}, "dummy.allow_faults": True})
    t.is_(len(workers(d)), 4, "two workers and two spares")
    w.push(*[job("once-%d" % i, generated(2), org_id="tenant-%d" % (i % 3)) for i in range(60)])
    completed(t, w, 60, "60 jobs under isolation job all complete")
    rows = served(d)
    t.is_(len({pid for pid, _, _ in rows}), 60, "each had a process of its own")
    up = {pid for pid, _, _ in rows}
    wait_for("the served ones to be gone", lambda: not up & {x["pid"] for x in workers(d)})
    t.ok(True, "none of them is left")
    since = d.mark()
    w.push(*[job("slow-%d" % i, generated(1, delay="600s")) for i in range(4)])
    d.wait_log("job_started", since=since, count=2)
    d.wait_log("job_accepted", since=since, count=4)
    wait_for("the spares", lambda: sorted(x["state"] for x in workers(d)) == ["busy", "busy", "idle", "idle"])
    t.is_(len(d.logged("job_started", since=since)), 2, "no more than `workers` serve at once, whatever is ready beside them")
    for i in range(4):
        d.ctl("job", "cancel", "slow-%d" % i)
        w.result_of("slow-%d" % i)
    r, e, dl = w.run(generated(1, crash="segv", fault_attempts=1), job_id="crash")
    t.is_((r["event_type"], r["attempt"]), ("job.completed", 2), "a task that crashed its worker is done again, alone")
    t.is_(d.stop(), 0, "exit 0")


def demanded(t, b):
    """Who demands more than its pool gives has it there; who demands less gets no less than the pool gives."""
    w = World(b, partitions=1)
    d = WholeLog(w, {"workers.count": 2, "tenants.strict": {"isolation": "job"},
                     **{"tenants.%s" % x: {"isolation": "shared", "group": "one"} for x in ("a", "b")},
                     **{"tenants.%s" % x: {"isolation": "shared", "group": "two"} for x in ("c", "d")}})
    orgs = ("strict", "a", "b", "c", "d", "plain")
    w.push(*[job("m-%d-%s" % (i, o), generated(1), org_id=o) for i in range(20) for o in orgs])
    completed(t, w, 120, "120 jobs of six tenants, two of them in each of two groups, all complete")
    rows = served(d)
    pids = by_pid(rows)
    t.is_(len({pid for pid, o, _ in rows if o == "strict"}), 20, "a tenant that demands isolation job: a process for each task")
    t.is_({frozenset(x) for x in pids.values() if len(x) > 1}, {frozenset("ab"), frozenset("cd")}, "tenants of one group share processes, and nobody else does")
    t.ok(not [x for x in pids.values() if len(x) > 2], "no process has served more than a group", pids)
    t.ok({x["bound_to"] for x in workers(d)} <= {"group one", "group two", "plain", None}, "iis-pollerctl workers names the group", workers(d))
    # A reload: a leaves the group, at once and for what waits already.
    since = d.mark()
    w.push(*[job("block-%d" % i, generated(1, delay="600s"), org_id="b", priority="high") for i in range(2)])
    d.wait_log("job_started", since=since, count=2)
    w.push(*[job("n-%d-%s" % (i, o), generated(1), org_id=o) for i in range(10) for o in "ab"])
    d.wait_log("job_accepted", job_id="n-9-b")
    d.conf.pop("tenants.a")
    d.write_conf()
    t.is_(d.ctl("reload")[0], 0, "reloaded: a is of no group any more")
    since = d.mark()
    for i in range(2):
        d.ctl("job", "cancel", "block-%d" % i)
    for i in range(10):
        for o in "ab":
            w.result_of("n-%d-%s" % (i, o))
    t.is_([x for x in by_pid(served(d, since)).values() if len(x) > 1], [], "what waited before shares no process any more")
    t.is_(d.stop(), 0, "exit 0")


def crash_shared(t, b):
    """Processes that two tenants share: the task that killed one has its second attempt in one that has served nobody, and serves nobody after it."""
    w = World(b, partitions=1)
    d = WholeLog(w, {"workers.count": 2, "log.level": "debug", **{"tenants.%s" % x: {"isolation": "shared", "group": "one"} for x in "ab"}})
    crashing = ["crash-%d" % i for i in range(6)]
    for i, name in enumerate(crashing):
        w.push(*[job("by-%d-%d" % (i, k), generated(1), org_id="ab"[k % 2]) for k in range(10)],
               job(name, generated(1, crash=("segv", "abrt")[i % 2], fault_attempts=1), org_id="a"),
               *[job("after-%d-%d" % (i, k), generated(1), org_id="ab"[k % 2]) for k in range(10)])
    done = w.results(6 * 21, timeout=90)
    t.is_(sorted((r["job_id"], r["attempt"]) for r in done if r["attempt"] != 1 or r["event_type"] != "job.completed"), [(x, 2) for x in crashing], "six tasks crash a worker, all 126 complete")
    ran = attempts(d)
    t.is_(sorted((pid, x) for pid, x in ran.items() if any(n == 2 for _, n in x)), sorted((pid, [(x, 2)]) for x in crashing for pid in ran if (x, 2) in ran[pid]),
          "each second attempt is the first and the last task of its process")
    t.is_(sum(len(x) for x in ran.values()), 6 * 21 + 6, "132 attempts in all")
    rows = served(d)
    t.ok(frozenset("ab") in {frozenset(x) for x in by_pid(rows).values()}, "while the others share theirs", by_pid(rows))
    t.is_(d.stop(), 0, "exit 0")


def urgent(t, b):
    w = World(b, partitions=1)
    d = WholeLog(w, {"workers.count": 1})
    w.push(job("block", generated(1, delay="600s"), org_id="a"))
    d.wait_log("job_started", job_id="block")
    w.push(*[job("normal-%d-%s" % (i, o), generated(1), org_id=o) for i in range(50) for o in "abc"])
    w.push(job("urgent", generated(1), org_id="d", priority="high"))
    d.wait_log("job_accepted", job_id="urgent")
    since = d.mark()
    d.ctl("job", "cancel", "block")
    w.result_of("urgent")
    w.results(152)
    order = [j for _, _, j in served(d, since)]
    t.ok(order.index("urgent") <= 1, "a high job of another tenant overtakes 150 normal ones", order[:5])
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    b = MockBroker(t)
    for part in (tenants, one_tenant, by_type, isolation_job, demanded, crash_shared, urgent):
        t.part(part, b)


with Tap() as tap:
    main(tap)
