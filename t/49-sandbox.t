#!/usr/bin/python3
"""The sandbox as an operator sees it: verdicts that name the call, modes, weaker kernels, another user; every source under it."""
import json
import os
import pwd
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402
from poller import SANITIZED, Daemon, MockBroker, Tap, World, alive, folder, generated, job, need, program, run, wait_for  # noqa: E402
from servers import SERVED, Absent  # noqa: E402

WITHOUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", "without.py")


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(re.findall(r"^(\w+):[ \t]*(.*)$", f.read(), re.M))


def children(pid):
    """Pids whose parent is that one."""
    got = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open("/proc/%s/stat" % p) as f:
                    if int(f.read().rpartition(")")[2].split()[1]) == pid:
                        got.append(int(p))
            except (OSError, IndexError):
                pass
    return got


def local(path, **fields):
    return dict({"source_type": "local", "path": path}, **fields)


def tree(n=3):
    d = folder()
    os.chmod(d, 0o755)
    os.mkdir(os.path.join(d, "root"), 0o755)
    for i in range(n):
        open(os.path.join(d, "root", "f%d.csv" % i), "w").close()
    return os.path.join(d, "root")


def one_daemon(t, b):
    """The parts that need no setting of their own."""
    root = tree()
    w = World(b)
    d = Daemon(w, {"local.allowed_roots": [root, os.path.join(os.path.dirname(root), "late")], "workers.count": 8})
    t.part(verdicts, w, d)
    t.part(stopped, w, d)
    t.part(replaced, w, d, root)
    t.is_(d.stop(), 0, "exit 0")


def stopped(t, w, d):
    """A wait that SIGSTOP and SIGCONT break into goes on by a call of its own, which a debugger or a freezer brings about."""
    w.push(job("stopped", generated(3, delay="1500ms", retries=0)))
    slot = d.wait_log("job_started", job_id="stopped")["slot"]
    pid = d.workers()[slot]
    for _ in range(3):
        os.kill(pid, signal.SIGSTOP)
        wait_for("the worker to stop", lambda: "stopped" in status_of(pid)["State"])
        os.kill(pid, signal.SIGCONT)
        wait_for("the worker to go on", lambda: "stopped" not in status_of(pid)["State"])
    r = w.result_of("stopped")
    t.is_((r["event_type"], r["sources"][0]["attempts"]), ("job.completed", 1), "a worker that was stopped in its wait goes on")


def verdicts(t, w, d):
    """A call that no list has, and one that is never legal."""
    r, e, dl = w.run(generated(3, crash="syscall", retries=0))
    t.is_(r["error"]["class"], "worker_crash", "a trapped call: the job fails as worker_crash")
    v = dl[0]["failure_info"]["worker"]
    t.is_((v["signal_name"], v["syscall_name"]), ("SYS", "getpriority"), "its dead letter names the signal and the call")
    t.ok(v["syscall"] > 0 and "getpriority (%d)" % v["syscall"] in r["error"]["message"], "and the number", v, r["error"])
    line = d.logged("sandbox_refused")[0]
    t.ok(line["name"] == "getpriority" and line["role"] == "local" and line["arguments"], "the log has call and arguments", line)
    code, out, _ = d.ctl("crashes")
    c = out["crashes"][0]
    t.is_((c["cause"], c["syscall_name"], c["syscall"]), ("sandbox", "getpriority", v["syscall"]), "iis-pollerctl crashes, too")
    code, out, _ = d.ctl("crashes", json_out=False)
    t.ok(re.search(r"getpriority", out.splitlines()[1]), "in its table, too", out)
    r, e, dl = w.run(generated(3, crash="never", retries=0))
    v = dl[0]["failure_info"]["worker"]
    t.is_((r["error"]["class"], v["signal_name"], v["syscall"], v["syscall_name"]), ("worker_crash", "SYS", None, None),
          "a call that is never legal: killed, no number is made up")
    t.ok("never legal" in r["error"]["message"], "and the text says so", r["error"])
    t.is_(w.run(generated(3))[0]["event_type"], "job.completed", "the next job is served")


def shown(t, b):
    """What is active, on every channel."""
    w = World(b)
    d = Daemon(w, {"sandbox.landlock_max": 2})
    d.http("/livez")
    start = d.wait_log("sandbox")
    kernel = start["landlock_kernel"]
    abi = min(kernel, 2)
    t.is_((start["mode"], start["seccomp"], start["landlock"]), ("enforce", True, abi), "the start-up log says mode, filter and ABI")
    code, out, _ = d.ctl("workers")
    t.ok(all((x["sandbox_mode"], x["landlock"], x["filter"], x["uid"]) == ("enforce", abi, True, os.geteuid()) for x in out["workers"]),
         "iis-pollerctl workers has it for each", out)
    t.ok(all("landlock_%d seccomp" % abi in x["sandbox"] for x in out["workers"]) or not abi, "in words, too", out)
    s = json.loads(d.http("/status.json")[1])
    t.is_((s["sandbox"]["mode"], s["sandbox"]["landlock"], s["sandbox"]["landlock_kernel"]), ("enforce", abi, kernel), "/status.json")
    t.ok("Sandbox: enforce, system calls filtered, Landlock ABI %d" % abi in d.http("/status")[1] or not abi, "/status")
    t.is_(d.metric("poller_sandbox_info", mode="enforce", landlock=str(abi)), 1, "the metric")
    for pid in children(d.pid):
        st = status_of(pid)
        t.is_((st["Seccomp"], st["Seccomp_filters"], st["NoNewPrivs"]), ("2", "2", "1"), "the kernel says so of %s" % st["Name"])
    t.ok("can empty files" in d.wait_log("sandbox_weak")["lacks"] or not abi, "what ABI 2 lacks is said", s["sandbox"])
    t.is_(d.stop(), 0, "exit 0")


def weak(t, b):
    """No Landlock at all: it goes on, and says what does not hold."""
    root = tree()
    os.mkdir(root + "/sub")
    open(root + "/sub/deep.csv", "w").close()
    w = World(b)
    d = Daemon(w, {"local.allowed_roots": [root]}, wrap=(WITHOUT, "landlock_create_ruleset", "ENOSYS"))
    line = d.wait_log("sandbox_weak")
    t.ok(line["mode"] == "enforce" and "can read what its user can read" in line["lacks"], "no Landlock: said at the start", line)
    s = json.loads(d.http("/status.json")[1])["sandbox"]
    t.ok(s["landlock"] == 0 and s["landlock_kernel"] == 0 and s["lacks"], "and by /status.json", s)
    t.ok("Landlock none" in d.http("/status")[1], "and by /status")
    r, e, _ = w.run(local(root, recursive=True))
    t.is_((r["event_type"], len(e)), ("job.completed", 4), "a tree is walked without openat2")
    t.is_(d.stop(), 0, "exit 0")


def refusals(t, b):
    """Without seccomp, enforce and log do not start; off does."""
    w = World(b)
    wrap = (WITHOUT, "seccomp,prctl", "ENOSYS")
    for mode in ("enforce", "log"):
        d = Daemon(w, {"sandbox.mode": mode}, wrap=wrap, ready=False)
        t.is_(d.wait_exit(), 78, "%s without seccomp: exit 78" % mode)
        line = d.wait_log("start_failed")
        t.ok("seccomp" in line["error"] and "sandbox.mode: off" in line["error"], "the error says what to do", line)
    d = Daemon(w, {"sandbox.mode": "off"}, wrap=wrap)
    t.is_(w.run(generated(3))[0]["event_type"], "job.completed", "off without seccomp: it serves")
    line = d.wait_log("sandbox_weak")
    t.ok("can do what its user can" in line["lacks"], "and says what that means", line)
    t.is_(d.stop(), 0, "exit 0")
    for user, why in (("nobody-of-this-name", "no user"), ("root", "is root")):
        d = Daemon(w, {"sandbox.user": user}, ready=False)
        t.is_(d.wait_exit(), 78, "sandbox.user %s: exit 78" % user)
        t.ok(why in d.wait_log("start_failed")["error"], "and why")


def modes(t, b):
    """log lets pass what enforce refuses; off has no filter."""
    for mode, seccomp in (("log", "2"), ("off", "0")):
        w = World(b)
        d = Daemon(w, {"sandbox.mode": mode})
        for crash in ("syscall", "never"):
            r, e, _ = w.run(generated(3, crash=crash))
            t.is_((r["event_type"], len(e)), ("job.completed", 3), "%s: a call of kind %s passes" % (mode, crash))
        t.is_({status_of(p)["Seccomp"] for p in d.workers().values()}, {seccomp}, "%s: Seccomp %s" % (mode, seccomp))
        code, out, _ = d.ctl("workers")
        t.is_({(x["sandbox_mode"], x["landlock"], x["filter"]) for x in out["workers"]}, {(mode, 0, mode == "log")}, "and workers says so")
        t.ok(d.logged("sandbox_weak"), "the log warns")
        t.is_(d.stop(), 0, "exit 0")


def user(t, b):
    """Children of another user; they die with the master all the same."""
    if os.geteuid():
        t.skip("children of another user", "becoming another user takes root")
        return
    nobody = pwd.getpwnam("nobody")
    root = tree()
    w = World(b)
    d = Daemon(w, {"sandbox.user": "nobody", "local.allowed_roots": [root]})
    d.http("/livez")
    kids = children(d.pid)
    t.is_(len(kids), 3, "two workers and the status child")
    for pid in kids:
        st = status_of(pid)
        t.is_((st["Uid"].split(), st["Gid"].split(), st["Groups"].strip(), st["CapEff"]),
              ([str(nobody.pw_uid)] * 4, [str(nobody.pw_gid)] * 4, "", "0" * 16), "%s is nobody, with no group and no capability" % st["Name"])
        t.ok(os.stat("/proc/%d/mem" % pid).st_uid == 0, "and not dumpable: its /proc is root's")
    r, e, _ = w.run(local(root))
    t.is_((r["event_type"], len(e)), ("job.completed", 3), "it serves")
    code, out, _ = d.ctl("workers")
    t.is_({x["uid"] for x in out["workers"]}, {nobody.pw_uid}, "workers shows the user")
    os.kill(d.pid, signal.SIGKILL)
    d.process.wait()
    wait_for("the children to end", lambda: not [p for p in kids if alive(p)])
    t.ok(True, "kill -9 of the master: all of them end")


def replaced(t, w, d, root):
    """A root that is another directory by now, or was not there at first."""
    late = os.path.join(os.path.dirname(root), "late")
    killed = len(d.logged("worker_died", cause="sandbox"))
    r, e, _ = w.run(local(root))
    t.is_((r["event_type"], len(e)), ("job.completed", 3), "a root")
    r, e, _ = w.run(local(late, retries=0))
    t.is_(r["error"]["class"], "not_found", "one that is not there")
    os.rename(root, root + ".old")
    os.mkdir(root, 0o755)
    open(root + "/new.csv", "w").close()
    os.mkdir(late, 0o755)
    open(late + "/late.csv", "w").close()
    for path, name in ((root, "new.csv"), (late, "late.csv")):
        r, e, _ = w.run(local(path, retries=0))
        t.is_((r["event_type"], [x["file_name"] for x in e], r["sources"][0]["attempts"]), ("job.completed", [name], 1),
              "%s is listed at the first attempt" % name)
    t.ok(d.logged("worker_sandbox_stale"), "because a worker that knew another one has left")
    t.is_(len(d.logged("worker_died", cause="sandbox")), killed, "none was killed")


def every_source(t, b):
    """Under the plain kill default a call that the list has forgotten would cost the worker."""
    d = folder()
    root = os.path.join(d, "tree")
    os.chmod(d, 0o755)
    os.mkdir(root, 0o755)
    trees.write(root, {"a%d.csv" % i: (i + 1, 1700000000 + i) for i in range(20)})
    trees.write(root, {"sub/b.csv": (7, 1700000000), "sub/deep/c.csv": (9, 1700000000)})
    w = World(b)
    d = Daemon(w, {"sandbox.unlisted": "kill", "local.allowed_roots": [root], "egress.allow": ["127.0.0.0/8", "::1/128"]})
    seen = {"dummy"}
    r, e, _ = w.run({"source_type": "dummy"})
    t.is_(r["event_type"], "job.completed", "dummy, real files")
    r, e, _ = w.run(generated(5000), publish="stream")
    t.is_((r["event_type"], len(e)), ("job.completed", 5000), "dummy, streamed")
    for kind in SERVED:
        try:
            served = kind(root)
        except Absent as why:
            t.ok(os.environ.get("CI") != "true", "%s may not be left out here" % kind.__name__, why)
            t.diag("left out: %s: %s" % (kind.__name__, why))
            continue
        try:
            seen.add(served.type)
            r, e, _ = w.run(served.source(recursive=True), timeout=60)
            t.is_((r["event_type"], len(e), r["sources"][0]["attempts"]), ("job.completed", 22, 1), "%s: a tree" % served.name)
            r, e, _ = w.run(served.source("sub"), timeout=60)
            t.is_((r["event_type"], len(e)), ("job.completed", 1), "%s: on the kept connection" % served.name)
        finally:
            served.stop()
        r, e, _ = w.run(served.source("sub", retries=0), timeout=60)
        t.ok(r["event_type"] in ("job.completed", "job.failed"), "%s: the server is gone: an error and no death" % served.name, r["error"])
    t.is_([d.http(p)[0] for p in ("/metrics", "/livez", "/readyz", "/health", "/status", "/status.json", "/none")], [200] * 6 + [404],
          "the status child serves every page")
    t.ok(not d.logged("http_child_died"), "and lives")
    r, e, _ = w.run({"source_type": "http", "url": "http://localhost:1/", "retries": 0})
    t.is_(r["event_type"], "job.failed", "a name is resolved by /etc/hosts; nobody listens")
    code, out, _ = run(program("iis-pollerctl"), "sources", "--json")
    types = {json.loads(line)["type"] for line in out.splitlines()}
    t.ok(seen == types or os.environ.get("CI") != "true", "every source type was there", types - seen)
    t.is_([x for x in d.logged("worker_died") if x["cause"] not in ("clean", "recycled", "exchanged")], [], "no worker died of anything")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker", "iis-poller-http")
    if SANITIZED:
        t.skip_all("a sanitizer and the filter exclude each other")
    b = MockBroker(t)
    for part in (one_daemon, shown, weak, refusals, modes, user, every_source):
        t.part(part, b)


with Tap() as tap:
    main(tap)
