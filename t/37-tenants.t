#!/usr/bin/python3
"""Tenants: what each setting of an entry refuses or honours, also where an answer leads elsewhere, a reload, quotas that delay and lose nothing, shares of the workers."""
import datetime
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, folder, generated, need, rfc3339, validate, wait_for  # noqa: E402
from webservers import Answers  # noqa: E402

LOGIN = {"username": "u", "path": "/in", "host_key_check": "off"}


def sftp(host, **more):
    return dict({"source_type": "sftp", "host": host, "password": "pw"}, **LOGIN, **more)


def refused(t, w, what, org, source, setting, **fields):
    r, events, letters = w.run(source, org_id=org, **fields)
    t.ok(r["error"]["class"] == "policy" and setting in r["error"]["message"] and not events and len(letters) == 1
         and letters[0]["failure_info"]["error_type"] == "policy", "%s: refused as policy, by %s" % (what, setting), r.json, [x.json for x in letters])


def policy(t, b):
    base = folder()
    for name in ("acme", "beta"):
        os.makedirs(os.path.join(base, name))
        with open(os.path.join(base, name, name + ".csv"), "w") as f:
            f.write("x\n")
    w = World(b)
    d = Daemon(w, {"local.allowed_roots": [base], "network.allow_unknown_hosts": True, "retry.max_attempts": 0, "egress.allow": ["127.0.0.0/8"],
                   "tenants.default": {"source_types": ["dummy", "local"], "roots": [base + "/beta"]},
                   "tenants.acme": {"source_types": ["local", "sftp"], "roots": [base + "/acme"], "hosts": ["127.0.0.1", "*.acme.example"],
                                    "credentials": ["acme-*"], "credentials_inline": False, "timeout_max": "5s"},
                   "tenants.bound": {"topics": ["another-topic"]}, "tenants.open": {"source_types": [], "roots": []}})
    local = lambda name: {"source_type": "local", "path": os.path.join(base, name)}  # noqa: E731
    ref = lambda host, name: dict(LOGIN, source_type="sftp", host=host, port=9, password_ref=name)  # noqa: E731
    refused(t, w, "a source type", "acme", generated(1), "tenants.acme.source_types")
    refused(t, w, "another's root", "acme", local("beta"), "tenants.acme.roots")
    refused(t, w, "the root of all", "acme", local("."), "tenants.acme.roots")
    refused(t, w, "a host", "acme", ref("127.0.0.2", "acme-a"), "tenants.acme.hosts")
    refused(t, w, "another's secret", "acme", ref("127.0.0.1", "beta-a"), "tenants.acme.credentials")
    refused(t, w, "a secret in the job", "acme", sftp("127.0.0.1"), "tenants.acme.credentials_inline")
    refused(t, w, "a timeout", "acme", local("acme"), "tenants.acme.timeout_max", deadline=6)
    refused(t, w, "a tenant of another topic", "bound", generated(1), "tenants.bound.topics")
    refused(t, w, "who has no entry", "stranger", sftp("127.0.0.1"), "tenants.default.source_types")
    refused(t, w, "who has no entry", "stranger", local("acme"), "tenants.default.roots")
    r, events, letters = w.run([local("acme"), local("beta")], org_id="acme")
    t.ok(r["error"]["class"] == "policy" and not events, "one source of several is refused: the job is", r.json)
    r, events, letters = w.run(local("acme"), org_id="acme", deadline=5)
    t.is_(([e["file_name"] for e in events], letters), (["acme.csv"], []), "what is allowed is served")
    os.symlink("../beta", os.path.join(base, "acme", "link"))
    os.symlink(os.path.join(base, "beta"), os.path.join(base, "acme", "far"))
    for name in ("link", "far"):
        for how in ("files", "all"):
            r, events, letters = w.run(dict(local("acme/" + name), follow_symlinks=how), org_id="acme")
            t.ok(r["error"]["class"] == "policy" and not events, "a link (%s) from its root to another's is not followed (%s)" % (name, how), r.json)
    r, events, letters = w.run(ref("127.0.0.1", "acme-a"), org_id="acme")
    t.is_(r["error"]["class"], "auth", "an allowed secret on an allowed host: only the file is missing")
    for org in ("stranger", "bound-not"):
        r, events, letters = w.run(local("beta"), org_id=org)
        t.is_([e["file_name"] for e in events], ["beta.csv"], "%s: what default allows" % org)
    r, events, letters = w.run(local("acme"), org_id="open")
    t.is_(len(events), 1, "an empty list in an entry lifts what default says")

    since = d.mark()
    d.write_conf(tenants__acme={"roots": [base + "/beta"], "source_types": ["local"]}, tenants__bound={"topics": [w.topics["jobs"]]})
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    refused(t, w, "after a reload, its former root", "acme", local("acme"), "tenants.acme.roots")
    r, events, letters = w.run(local("beta"), org_id="acme")
    t.is_([e["file_name"] for e in events], ["beta.csv"], "its new one is served")
    r, events, letters = w.run(generated(1), org_id="bound")
    t.is_(len(events), 1, "the tenant is bound to this topic now")
    with open(d.file) as f:
        text = f.read()
    since = d.mark()
    with open(d.file, "w") as f:
        f.write(text.replace('"source_types": ["local"]', '"source_types": ["lcoal"]'))
    d.signal(signal.SIGHUP)
    x = d.wait_log("config_reload_failed", since=since)
    t.ok("tenants.acme.source_types" in x["error"] and "did you mean local" in x["error"], "a wrong entry is refused, the old ones hold", x["error"])
    r, events, letters = w.run(local("beta"), org_id="acme")
    t.is_(len(events), 1, "as before")
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + in hand")
    t.is_(d.stop(), 0, "exit 0")


def elsewhere(t, b):
    """hosts holds for where a server's answer leads, and for the name that TLS asks for."""
    page = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><a href=\"a.csv\">a.csv</a></body></html>"
    there = Answers(lambda q: {"headers": {"Content-Type": "text/html"}, "body": page})
    here = Answers(lambda q: {"status": 302, "headers": {"Location": "http://%s:%d/" % (q.path.strip("/"), there.port)}})
    for mode in ("direct", "broker"):
        w = World(b)
        d = Daemon(w, {"egress.mode": mode, "egress.allow": ["127.0.0.0/8"], "retry.max_attempts": 0, "tenants.acme": {"hosts": ["localhost"]},
                       "tenants.nets": {"hosts": ["localhost", "127.0.0.0/8"]}})
        source = lambda to: {"source_type": "http", "url": "http://localhost:%d/%s/" % (here.port, to), "same_origin_only": False, "head_mode": "none"}  # noqa: E731
        r, events, letters = w.run(source("localhost"), org_id="acme")
        t.is_([e["file_name"] for e in events], ["a.csv"], "%s: a redirect to an allowed host is followed" % mode)
        n = len(there.seen)
        r, events, letters = w.run(source("127.0.0.1"), org_id="acme")
        t.ok(r["error"]["class"] == "policy" and "127.0.0.1 is refused: the tenant's hosts" in r["error"]["message"] and not events and len(there.seen) == n,
             "%s: a redirect to another is policy, and nothing is sent there" % mode, r.json)
        for org in ("nets", "other"):
            r, events, letters = w.run(source("127.0.0.1"), org_id=org)
            t.is_([e["file_name"] for e in events], ["a.csv"], "%s: it is followed for whom the list has it, and for whom there is none: %s" % (mode, org))
        tls = {"source_type": "http", "url": "https://localhost:%d/" % there.port}
        refused(t, w, "%s: a name for TLS" % mode, "acme", dict(tls, tls={"server_name": "other.example"}), "tenants.acme.hosts")
        refused(t, w, "%s: the host, whatever TLS asks for" % mode, "acme", dict(tls, url="https://127.0.0.1:%d/" % there.port, tls={"server_name": "localhost"}), "tenants.acme.hosts")
        refused(t, w, "%s: the host, past the proxy" % mode, "acme", dict(tls, url="https://127.0.0.1:%d/" % there.port, proxy={"url": "http://localhost:1", "no_proxy": "*"}),
                "tenants.acme.hosts")
        t.is_(d.stop(), 0, "exit 0")
    for s in (here, there):
        s.stop()


def rows(d):
    code, out, err = d.ctl("tenants")
    return {x["org_id"]: x for x in out["tenants"]}


def quotas(t, b):
    """Tasks at once and jobs a minute: all is done in the end, nobody else waits, what waits is shown."""
    w = World(b)
    d = Daemon(w, {"workers.count": 6, "metrics.tenants": 2, "workers.tenant_share": 1, "tenants.slow": {"tasks": 1}, "tenants.minute": {"jobs_per_minute": 300}})
    held = [{"job_id": "slow-%d" % i, "org_id": "slow", "source_config": generated(1, delay="300ms")} for i in range(4)]
    w.push(*held)
    w.push(*[{"job_id": "minute-%d" % i, "org_id": "minute", "source_config": generated(1)} for i in range(40)])
    x = wait_for("three tasks that wait", lambda: (lambda r: r if r.get("slow", {}).get("waiting") == 3 else None)(rows(d)))
    t.is_((x["slow"]["running"], x["slow"]["tasks"], x["slow"]["waits_for"], x["slow"]["entry"]), (1, 1, "tasks", "slow"), "tasks: 1 runs, three wait, and for what")
    text = d.ctl("tenants", json_out=False)[1]
    t.ok("WAITS FOR" in text and "slow" in text, "iis-pollerctl tenants as a table", text)
    r, events, letters = w.run(generated(1), org_id="other-1")
    done = [y["job_id"] for y in w.reader("results").records]
    t.ok("slow-3" not in done, "another tenant's job does not wait behind them", done)
    x = rows(d)
    t.ok(x["other-1"]["entry"] == "default" and x["other-1"]["waiting"] == 0, "it has the limits of the list", x["other-1"])
    for i in range(40):
        w.result_of("minute-%d" % i)
    for i in range(4):
        w.result_of("slow-%d" % i)
    mine = [y for y in w.reader("results").records if y["job_id"].startswith("slow")]
    t.is_([y["job_id"] for y in mine], ["slow-%d" % i for i in range(4)], "in the order of arrival")
    began = [datetime.datetime.fromisoformat(y["started_at"].rstrip("Z")) for y in mine]
    t.ok(all((z - a).total_seconds() >= 0.29 for a, z in zip(began, began[1:])), "one after the other: each lists for 300 ms", began)
    x = rows(d)["minute"]
    # 300 a minute: 30 at once, then one every 200 ms; a slow machine only makes it slower
    t.ok(x["waited"] >= 1 and x["waited_seconds"] > 0 and x["waiting"] == 0 and x["started"] == 40, "jobs_per_minute: the rest had to wait, and all were done", x)
    w.push({"job_id": "later", "org_id": "fourth", "source_config": generated(1)})
    w.result_of("later")
    t.is_(d.wait_metric("poller_jobs_total", 46), 46, "46 jobs have ended")
    m = d.metrics()
    total = d.metric("poller_jobs_total", m)
    t.is_((d.metric("poller_tenant_jobs_total", m), total), (46, 46), "the tenants' jobs add up to all jobs")
    names = {dict(labels)["org_id"] for name, labels in m if name == "poller_tenant_jobs_total"}
    t.ok(len(names) == 3 and "other" in names, "two tenants have series of their own, the rest are other", names)
    t.ok(d.metric("poller_tenant_wait_seconds_total", m) > 0, "their waits are counted")
    status = json.loads(d.http("/status.json")[1])
    t.ok(validate("status", status) is None and {"slow", "minute", "other-1", "fourth"} == {x["org_id"] for x in status["tenants"]}, "/status.json shows them", validate("status", status), status["tenants"])
    t.ok("<h2>Tenants</h2>" in d.http("/status")[1], "and the page")
    # A job that waits is cancelled; one waits while the limit goes.
    w.push(*[{"job_id": "again-%d" % i, "org_id": "slow", "source_config": generated(1, delay="60s")} for i in range(3)])
    wait_for("two that wait", lambda: rows(d)["slow"]["waiting"] == 2)
    d.ctl("job", "cancel", "again-2")
    t.is_(w.result_of("again-2")["error"]["class"], "cancelled", "one that waits can be cancelled")
    since = d.mark()
    d.write_conf(tenants__slow={"tasks": 2})
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    wait_for("a reload lets it go", lambda: rows(d)["slow"]["running"] == 2)
    for i in range(2):
        d.ctl("job", "cancel", "again-%d" % i)
        w.result_of("again-%d" % i)
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + in hand")
    t.is_(d.stop(), 0, "exit 0")


def publishing(t, b):
    """A worker whose listing is over and whose spool waits for Kafka is its tenant's still."""
    w = World(b)
    d = Daemon(w, {"workers.count": 2, "log.level": "debug", "kafka.queue_messages": 2500, "tenants.one": {"tasks": 1}})
    w.push({"job_id": "first", "org_id": "one", "source_config": generated(4000, delay="2s")}, {"job_id": "second", "org_id": "one", "source_config": generated(1)})
    wait_for("one that runs, one that waits", lambda: (lambda r: (r.get("running"), r.get("waiting")) == (1, 1))(rows(d).get("one", {})))
    b.do("down", -1)
    d.wait_log("task_state", job_id="first", to="publishing")
    # The second would be given out in this very round of the loop, before anybody is answered.
    x = rows(d)["one"]
    t.is_((x["running"], x["waiting"], x["started"]), (1, 1, 1), "tasks: 1 is kept while the first one's spool waits")
    b.do("up", -1)
    t.is_([w.result_of(j, 60)["published"] for j in ("first", "second")], [4000, 1], "then both end")
    t.is_(d.stop(), 0, "exit 0")


def shares(t, b):
    """One that has more than it can do never holds all workers while another was seen lately."""
    w = World(b)
    d = Daemon(w, {"workers.count": 4, "timeouts.job": "60s"})
    w.run(generated(1), org_id="quiet")
    w.push(*[{"job_id": "noise-%d" % i, "org_id": "noise", "source_config": generated(1, delay="60s")} for i in range(30)])
    x = wait_for("noise has its most", lambda: (lambda r: r if r.get("noise", {}).get("running") == 2 and r["noise"]["waiting"] == 28 else None)(rows(d)))
    t.is_(x["noise"]["waits_for"], "share", "two of four workers, the rest waits for its share")
    for i in range(5):
        r, events, letters = w.run(generated(1), org_id="quiet")
        t.ok(r["event_type"] == "job.completed" and rows(d)["noise"]["running"] == 2, "the quiet tenant's job %d is served at once, beside them" % i)
    r, events, letters = w.run(generated(1), org_id="newcomer")
    t.is_(r["event_type"], "job.completed", "and so is a newcomer's")
    d.kill()


def backlog(t, b):
    """More than a tenant may start soon goes to the deferred topic: nobody else waits behind it, and all of it is done, once."""
    w = World(b)
    conf = {"jobs.hold_max": "1s", "jobs.queue_max": 100, "kafka.commit_interval": "50ms", "workers.count": 2, "tenants.a": {"jobs_per_minute": 60},
            "tenants.c": {"tasks": 1}}
    d = Daemon(w, conf)
    w.push(*[{"job_id": "a-%d" % i, "org_id": "a", "source_config": generated(1)} for i in range(200)])
    # behind more of them than the queue holds
    w.push({"job_id": "b", "org_id": "b", "source_config": generated(1)})
    r = w.result_of("b", 20)
    t.ok(r["event_type"] == "job.completed" and len(w.reader("results").records) < 100, "another tenant's job, which is behind 200, is read and ends", len(w.reader("results").records))
    x = wait_for("the quota's deferred jobs", lambda: (lambda j: j if len(j) >= 150 else None)(d.ctl("jobs", "--deferred")[1]["jobs"]))
    t.is_({(y["reason"], y["org_id"]) for y in x}, {("quota", "a")}, "they wait in the deferred topic, as quota")
    due = sorted(datetime.datetime.fromisoformat(y["due"].replace("Z", "+00:00")).timestamp() for y in x)
    t.ok(due[-1] - due[0] > 100 and all(z - y > 0.9 for y, z in zip(due, due[1:])), "each for its own second of the minute", due[0], due[-1])
    since = d.mark()
    d.write_conf(tenants__a={"jobs_per_minute": 0})
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    got = w.results(201, 40)
    t.is_(sorted(y["job_id"] for y in got), sorted(["b"] + ["a-%d" % i for i in range(200)]), "a reload that lifts the quota: all end, none is lost")
    t.is_(len({y["result_id"] for y in got}), 201, "and none twice")
    # What waits for a place may take half of the queue.
    w.push(*[{"job_id": "c-%d" % i, "org_id": "c", "source_config": generated(1, delay="60s" if i == 0 else "0s")} for i in range(120)])
    w.push({"job_id": "d", "org_id": "d", "source_config": generated(1)})
    t.is_(w.result_of("d", 20)["event_type"], "job.completed", "nor does one wait behind 120 of a tenant with tasks: 1")
    w.push(*[{"job_id": "d-%d" % i, "org_id": "d", "source_config": generated(1)} for i in range(5)])
    for i in range(5):
        w.result_of("d-%d" % i)
    d.ctl("job", "cancel", "c-0")
    got = w.results(201 + 120 + 6, 60)
    mine = [y["job_id"] for y in got if y["job_id"].startswith("c-")]
    t.is_((sorted(mine), len({y["result_id"] for y in got})), (sorted("c-%d" % i for i in range(120)), 201 + 120 + 6), "all of them end in the end, once each")
    m = wait_for("the page", lambda: (lambda m: m if d.metric("poller_jobs_total", m) == 327 else None)(d.metrics()), every=0.2)
    left, right = conservation(d, m)
    t.is_(left, right, "accepted = ended + deferred + in hand")
    t.ok(d.metric("poller_jobs_deferred_total", m, reason="quota") >= 200, "counted as deferred for a quota")
    t.is_(d.stop(), 0, "exit 0")


def early(t, b):
    """What was deferred because too much of its tenant's waited is done as soon as that is done, not a minute later."""
    w = World(b)
    d = Daemon(w, {"workers.count": 2, "jobs.queue_max": 100, "jobs.hold_max": "600s", "tenants.c": {"tasks": 1}})
    w.push(*[{"job_id": "c-%d" % i, "org_id": "c", "source_config": generated(1, delay="2s" if i == 0 else "0s")} for i in range(150)])
    n = wait_for("deferred jobs", lambda: len(d.ctl("jobs", "--deferred")[1]["jobs"]))
    got = w.results(150, 60)
    t.ok(n > 0 and len({y["result_id"] for y in got}) == 150, "150 jobs, of which half the queue's were deferred for ten minutes, are done in one", n, len(got))
    t.is_({y["event_type"] for y in got}, {"job.completed"}, "all of them")
    t.is_(d.stop(), 0, "exit 0")


def unanswered(t, b):
    """A server that says nothing: few workers wait for it, and what waits for them is not in the way of others' jobs."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(64)
    w = World(b)
    d = Daemon(w, {"workers.count": 8, "jobs.queue_max": 100, "egress.allow": ["127.0.0.0/8"], "network.allow_unknown_hosts": True})
    w.run(generated(1), org_id="victim")
    source = dict(sftp("127.0.0.1"), port=silent.getsockname()[1])
    w.push(*[{"job_id": "noise-%d" % i, "org_id": "noise", "source_config": source} for i in range(200)])
    # behind more of them than the queue holds
    r, events, letters = w.run(generated(1), org_id="victim")
    t.is_(r["event_type"], "job.completed", "another tenant's job behind 200 for a server that does not answer is read and ends")
    x = wait_for("the endpoint", lambda: (lambda r: r if r and r[0]["waiting"] <= 50 and d.ctl("jobs", "--deferred")[1]["jobs"] else None)(d.ctl("endpoints")[1]["endpoints"]))
    t.is_((x[0]["running"], x[0]["answers"]), (2, False), "two of eight workers wait for it: network.silent_share")
    t.is_({y["org_id"] for y in d.ctl("jobs", "--deferred")[1]["jobs"]}, {"noise"}, "half of the queue waits here, the rest in the deferred topic")
    d.kill()
    silent.close()


def arrival(t, b):
    """A message behind thousands of another tenant's waits until these are read, not until they are checked."""
    w = World(b)
    # All are there when the first is read, and in one partition.
    w.push(*[{"job_id": "noise-%d" % i, "org_id": "noise", "source_config": generated(1)} for i in range(3000)])
    w.push({"job_id": "late", "org_id": "late", "source_config": generated(1)})
    d = Daemon(w)
    d.wait_log("job_accepted", job_id="late")
    taken = [x["org_id"] for x in d.logged("job_accepted")]
    t.ok(taken.index("late") < 1500, "it is a job before half of these are", taken.index("late"))
    first = [x["job_id"] for x in d.logged("job_accepted") if x["org_id"] == "noise"]
    t.is_(first, ["noise-%d" % i for i in range(len(first))], "each tenant's in order of arrival")
    d.kill()


def newcomer(t, b):
    """Whoever comes when others have filled the queue, with jobs that do not end: it is read, although nobody knew of it."""
    w = World(b)
    d = Daemon(w, {"jobs.queue_max": 100, "pools.theirs": {"workers": 2, "tenants": ["a", "c"]}, "pools.rest": {"workers": 2}})
    hour = generated(1, delay="1h")
    # One that is alone, and what it sends last is not what it gives up.
    w.push(*[{"job_id": "a-%d" % i, "org_id": "a", "source_config": hour} for i in range(300)])
    w.push({"job_id": "a-high", "org_id": "a", "source_config": hour, "priority": "high"}, {"job_id": "b-0", "org_id": "b", "source_config": generated(1)})
    t.is_(w.result_of("b-0", 60)["event_type"], "job.completed", "a newcomer's job behind 300 of one that is alone, of which none ends, is read and ends")
    t.is_([x["job_id"] for x in w.reader("results").records], ["b-0"], "not one of theirs has ended")
    t.is_(d.wait_log("tenant_slow")["org_id"], "a", "who had to give way is told")
    w.push(*[{"job_id": "a-%d" % i, "org_id": "a", "source_config": hour, "priority": "low"} for i in range(300, 400)])
    # Two have half each.
    w.push(*[{"job_id": "c-%d" % i, "org_id": "c", "source_config": hour} for i in range(300)])
    w.push({"job_id": "d-0", "org_id": "d", "source_config": generated(1)})
    t.is_(w.result_of("d-0", 60)["event_type"], "job.completed", "so is one behind those of two that would fill it together")
    t.is_([x["job_id"] for x in w.reader("results").records], ["b-0", "d-0"], "of them none has ended")
    gone = {x["job_id"] for x in d.logged("job_deferred")}
    t.ok("a-high" not in gone and {"a-%d" % i for i in range(200, 400)} <= gone, "the newest are given up, the lowest priority first", sorted(gone))
    t.ok(not gone & {"a-%d" % i for i in range(25)} and all("%s-0" % x not in gone for x in "abcd"), "and not those that came first", sorted(gone))
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + deferred + in hand")
    d.kill()


def timed(t, b):
    """The same where theirs wait for their time: it is kept."""
    w = World(b)
    d = Daemon(w, {"jobs.queue_max": 100, "jobs.hold_max": "1h"})
    at = rfc3339(1800)
    w.push(*[{"job_id": "a-%d" % i, "org_id": "a", "source_config": generated(1), "scheduled_at": at} for i in range(300)])
    w.push({"job_id": "b", "org_id": "b", "source_config": generated(1)})
    t.is_(w.result_of("b", 60)["event_type"], "job.completed", "a newcomer's job behind 300 that wait for their time, and were not to be deferred, is read and ends")
    seconds = lambda s: datetime.datetime.fromisoformat(s.replace("Z", "+00:00")).timestamp()  # noqa: E731
    x = d.ctl("jobs", "--deferred")[1]["jobs"]
    t.ok({(y["org_id"], y["reason"]) for y in x} == {("a", "schedule")} and all(-0.1 < seconds(y["due"]) - seconds(at) < 5 for y in x), "they come back at that time", at, x[:3])
    d.kill()


def quick(t, b):
    """One that is alone, with far more than the queue holds, of which all end: nothing is deferred."""
    w = World(b)
    d = Daemon(w, {"jobs.queue_max": 50, "workers.count": 2})
    # Each look finds the queue full: 600 take longer than that.
    w.push(*[{"job_id": "a-%d" % i, "org_id": "a", "source_config": generated(1, delay="20ms")} for i in range(600)])
    got = w.results(600, 120)
    t.is_({x["event_type"] for x in got}, {"job.completed"}, "600 jobs of one that is alone, through a queue of 50")
    t.is_((d.logged("tenant_slow"), d.logged("job_deferred")), ([], []), "none of them goes the long way")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    b = MockBroker(t)
    for part in (policy, elsewhere, quotas, publishing, shares, backlog, early, unanswered, arrival, newcomer, timed, quick):
        if len(sys.argv) > 1 and part.__name__ not in sys.argv:
            continue
        t.part(part, b)


with Tap() as tap:
    main(tap)
