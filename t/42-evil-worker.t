#!/usr/bin/python3
"""Worker programs that break the rules of the frames, or never begin: each is killed, and the master goes on."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, Daemon, MockBroker, Tap, Timeout, World, alive, generated, job, need, program, wait_for  # noqa: E402


CLASSES = ("short", "long", "unknown_type", "wrong_state", "wrong_generation", "other_task", "past_end", "count_lies",
           "bad_utf8", "flood", "silence", "descriptors", "eof")
SPOOLED = re.compile("spool")


def corpus():
    """[(name, sin, answer, moment)] of evil_worker.c's table"""
    with open(os.path.join(ROOT, "t/lib/evil_worker.c")) as f:
        return re.findall(r'\{ "(\w+-\w+)", (s_\w+), "([^"]*)", (\w+) \}', f.read())


def covered(t):
    """Each class of broken frames has three cases at least, no two of them the same sin at the same moment."""
    rows = corpus()
    t.is_(len({r[0] for r in rows}), len(rows), "each of the %d cases has a name of its own" % len(rows))
    for c in CLASSES:
        cases = {(sin, moment, bool(SPOOLED.search(name))) for name, sin, _, moment in rows if name.split("-")[0] == c}
        t.ok(len(cases) >= 3, "class %s: %d unlike cases" % (c, len(cases)), cases)


def refused(d, since, rule):
    """A frame, or a spool, refused for this reason"""
    return [x for e in ("frame_refused", "spool_refused") for x in d.logged(e, since=since) if rule in x["rule"]]


def committed(t, w, d, name, answer, since, fds):
    """One case: how its job ends, what the log says of it. Gives the deaths that are due: one an attempt."""
    r = w.result_of("evil-" + name, 20)
    cls = r["error"] and r["error"]["class"]
    if answer == "=served" or answer.startswith("+"):
        t.ok(r["event_type"] == "job.completed" and r["published"] > 0, "%s: its job is served" % name, r.raw)
        if answer == "=served":
            t.ok(len(os.listdir("/proc/%d/fd" % d.pid)) <= fds + 2, "%s: the master has none of them" % name)
            return 0
    else:
        want = {"=timeout": ("timeout",), "=gone": ("worker_lost", "worker_protocol")}.get(answer, ("worker_protocol",))
        spooled = SPOOLED.search(name)
        t.ok(cls in want and r["event_type"] == ("job.partial" if r["published"] and not spooled else "job.failed"),
             "%s: %s, %s" % (name, r["event_type"], cls), r.raw)
        if spooled:
            # Whatever of the spool was right: an atomic listing is published whole or not at all.
            t.is_((r["published"] or 0, len(w.events_of("evil-" + name))), (0, 0), "%s: not one event left" % name)
    if not answer.startswith("="):
        rule = answer.lstrip("+")
        try:
            wait_for("the rule %r" % rule, lambda: refused(d, since, rule), 5)
            t.ok(True, "%s: refused with \"%s\"" % (name, rule))
        except Timeout:
            t.ok(False, "%s: refused with \"%s\"" % (name, rule), refused(d, since, ""))
    return r["attempt"]


def push(w, name):
    w.push(job("evil-" + name, generated(1, name_template="evil:" + name, retries=0, retry_delay="10ms"), timeout="500ms",
               publish="atomic" if SPOOLED.search(name) else "stream"))


def evil(t, b):
    """A worker program that breaks each rule of the frames: it alone is killed, its job dead-lettered, the master goes on."""
    w = World(b)
    # A flood of lines must not push the others out of a pipe that is read too slowly.
    d = Daemon(w, {"log.rate": 100, "workers.path": program("t/lib/evil_worker"), "workers.count": 4, "timeouts.cancel": "100ms",
                   "timeouts.kill": "100ms"})
    fds = len(os.listdir("/proc/%d/fd" % d.pid))
    for name, _, answer, moment in corpus():
        if moment != "AT_JOB":
            continue
        since = d.mark()
        push(w, name)
        try:
            deaths = committed(t, w, d, name, answer, since, fds)
            if deaths:
                d.wait_log("worker_died", since=since, count=deaths)
            # The next job is an honest one: the same master serves it.
            w.push(job("after-" + name, generated(1, name_template="good_{index}")))
            r = w.result_of("after-" + name, 20)
            t.ok(r["event_type"] == "job.completed" and alive(d.pid), "%s: the master goes on" % name, r.raw)
            died = d.logged("worker_died", since=since)
            t.ok(len(died) == deaths and all(x["job_id"] in (None, "evil-" + name) for x in died),
                 "%s: %d attempts, as many dead workers, no other" % (name, deaths), died)
        except Timeout as e:
            t.ok(False, "%s: comes to an end" % name, e, *d.raw[-5:])
    t.ok(d.metric("poller_worker_frames_refused_total") > 0, "refused frames are counted")
    t.is_(d.stop(), 0, "exit 0")


def evil_starts(t, b):
    """Workers that break the rules before they have a job, one a slot; their successors are honest."""
    rows = [r for r in corpus() if r[3] != "AT_JOB"]
    w = World(b)
    d = Daemon(w, {"log.rate": 100, "workers.count": len(rows), "timeouts.start": "1s", "timeouts.kill": "100ms"}, start=False)
    wrapper = os.path.join(d.dir, "worker")
    with open(wrapper, "w") as f:
        f.write("#!/bin/sh\nexec '%s' --sin-at-start \"$@\"\n" % program("t/lib/evil_worker"))
    os.chmod(wrapper, 0o700)
    d.write_conf(workers__path=wrapper)
    d.start()
    for slot, (name, _, answer, _) in enumerate(rows):
        died = d.wait_log("worker_died", slot=slot)
        want = {"=start": ("start",), "=gone": ("start", "protocol", "clean")}.get(answer, ("protocol",))
        t.ok(died["cause"] in want and not died.get("job_id"), "%s: cause %s" % (name, died["cause"]), died)
        if not answer.startswith("="):
            t.ok([x for x in refused(d, 0, answer) if x["slot"] == slot and x["pid"] == died["pid"]],
                 "%s: refused with \"%s\"" % (name, answer), d.logged("frame_refused", slot=slot))
        t.ok(d.wait_log("worker_ready", slot=slot, generation=2) and alive(d.pid), "%s: the next one of the slot is READY" % name)
    r, e, _ = w.run(generated(1, name_template="good_{index}"))
    t.ok(r["event_type"] == "job.completed" and len(e) == 2, "and jobs are served", r.raw)
    t.is_(len(d.logged("worker_died")), len(rows), "each died once")
    t.is_(d.stop(), 0, "exit 0")


def credentials(t, b):
    """A worker that was asked for credentials answers with what it must not: killed, and nothing of it is kept or told."""
    w = World(b)
    d = Daemon(w, {"workers.path": program("t/lib/evil_worker"), "workers.count": 1, "timeouts.cancel": "100ms", "timeouts.kill": "100ms"})
    for kind, rule in (("files", "FILES where credentials were asked for"), ("done", "DONE of a listing where credentials were asked for"), ("expired", "expired already"),
                       ("odd", "its session token is missing, too long, or has odd characters"), ("more", "more than it should hold"), ("less", "more than it should hold")):
        since = d.mark()
        r, _, letters = w.run({"source_type": "s3", "bucket": "bucket", "role_arn": "arn:aws:iam::123456789012:role/x", "role_session_name": "evil-" + kind, "access_key_id": "AKIA",
                               "secret_access_key": "not-to-be-told"})
        # The log comes by another way than the record.
        try:
            wait_for("two refusals", lambda: len(refused(d, since, rule)) >= 2, 5)
        except Timeout:
            pass
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "worker_protocol" and len(refused(d, since, rule)) == 2 and alive(d.pid),
             "credentials-%s: refused with \"%s\", twice, then dead-lettered" % (kind, rule), r.raw, refused(d, since, ""))
        t.ok(not any("not-to-be-told" in x for x in d.raw) and b"not-to-be-told" not in r.raw + letters[0].raw, "credentials-%s: no secret is told" % kind)
    w.push(job("honest", generated(1, name_template="good_{index}")))
    t.is_(w.result_of("honest")["event_type"], "job.completed", "the next job is served")
    t.is_(d.stop(), 0, "exit 0")
    t.is_(len(refused(d, 0, "")), 12, "six times two refusals, and no other")


def starts(t, b):
    w = World(b)
    d = Daemon(w, {"workers.path": "/bin/cat", "timeouts.start": "300ms"}, ready=False)
    d.wait_log("worker_died", count=4, timeout=40)
    died = d.logged("worker_died")
    t.ok({x["cause"] for x in died} <= {"start", "protocol", "exit", "killed", "clean"}, "a worker that is never READY is killed", died[:3])
    t.ok(not d.logged("ready") and alive(d.pid), "the master waits, not ready")
    t.ok(d.wait_not_ready("worker"), "/readyz says 503, and why")
    t.is_(d.stop(), 0, "and stops when told")
    d = Daemon(w, {"workers.path": "/nonexistent/worker"}, ready=False)
    code = d.wait_exit(40)
    t.ok(code in (69, 71, 78) and "/nonexistent/worker" in "".join(d.raw), "a worker program that is not there: named, exit %d" % code, d.raw[-3:])


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "t/lib/evil_worker")
    b = MockBroker(t)
    t.part(covered)
    t.part(evil, b)
    t.part(evil_starts, b)
    t.part(credentials, b)
    t.part(starts, b)


with Tap() as tap:
    main(tap)
