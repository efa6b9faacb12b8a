#!/usr/bin/python3
"""iis-pollerctl and the daemon's socket: each verb that asks the daemon, as text and as JSON; who may ask; clients that mean harm."""
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, SLOW, Daemon, MockBroker, Tap, World, clean_env, closed_port, folder, generated, invalid, job, need, program, run,  # noqa: E402
                    wait_for)

SECRET = "hunter2-is-secret"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def ctl(*args, **kw):
    return run(program("iis-pollerctl"), *args, **kw)


def plain(d, *args):
    return d.ctl(*args, json_out=False)


# ---- without a daemon ----------------------------------------------------------------------------------------------------

def usage(t):
    for args, want in ((["nonsense"], 64), ([], 64), (["push", "--no-such"], 64), (["job", "cancel"], 64), (["job"], 64), (["ping", "x"], 64),
                       (["jobs", "--limit", "1001"], 64), (["jobs", "--limit", "x"], 64), (["status", "--config"], 64), (["--help"], 0),
                       (["-h"], 0), (["--version"], 0), (["completion", "bash"], 0), (["completion", "fish"], 64)):
        code, out, err = ctl(*args)
        t.ok(code == want and (out if want == 0 else err), "%s: %d" % (" ".join(args) or "no verb", want), code, out[:200], err)
    code, out, err = ctl("statsu")
    t.ok(code == 64 and "did you mean status" in err, "a verb mistyped: the near one is named", err)
    path = os.path.join(folder(), "completion")
    with open(path, "w") as f:
        f.write(ctl("completion", "bash")[1])
    code, out, err = run("bash", "-n", path)
    t.ok(code == 0, "the completion script is one", err)
    with open(os.path.join(ROOT, "master/ctl/verbs.def")) as f:
        verbs = re.findall(r'^VERB\(\w+, "([\w ]+)"', f.read(), re.M)
    code, out, err = ctl("--help")
    t.ok(len(verbs) >= 15 and not [v for v in verbs if v not in out], "--help has all %d verbs" % len(verbs), out)
    bad = [v for v in verbs if ctl(*v.split(), "--help")[0] or "Usage: iis-pollerctl " + v not in ctl(*v.split(), "--help")[1]]
    t.is_(bad, [], "each verb has its own --help")
    if os.path.exists("/dev/full"):
        for verb in (["sources"], ["--help"], ["config", "--defaults"]):
            code, out, err = run("sh", "-c", 'exec "$@" > /dev/full', "sh", program("iis-pollerctl"), *verb)
            t.is_(code, 74, "%s onto a full disk: 74" % verb[0])


def nobody(t):
    path = os.path.join(folder(), "control.sock")
    code, out, err = ctl("-S", path, "ping")
    t.is_(code, 2, "ping without a daemon: 2")
    for verb in (["status"], ["workers"], ["jobs"], ["crashes"], ["config"], ["reload"], ["stop"], ["job", "cancel", "x"], ["lag", "--daemon"]):
        code, out, err = ctl("-S", path, *verb)
        t.ok(code == 69 and path in err and not out, "%s without a daemon: 69, the socket named" % " ".join(verb), code, err)
    code, out, err = ctl("-S", "/" + "a" * 200, "status")
    t.is_(code, 78, "a path that no socket can have: 78")
    for what, answer in (("nonsense", b"hello\n"), ("nothing", b""), ("a length that is not so", b"0 99999\n{}"), ("no JSON", b"0 3\nabc"),
                         ("a length beyond all numbers", b"0 99999999999999999999999\n{}"), ("a negative one", b"0 -1\n{}"), ("bytes", bytes(range(256)))):
        code, out, err = against(answer, "status")
        t.ok(code == 69 and err and not STEERING.search(err), "a daemon that answers %s: 69" % what, code, out, err)


def against(answer, *verb):
    """iis-pollerctl asks a socket of ours that gives this answer"""
    path = os.path.join(folder(), "s")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen(1)
        pid = os.fork()
        if pid == 0:
            try:
                c, _ = s.accept()
                c.recv(4096)
                c.sendall(answer)
                c.close()
            finally:
                os._exit(0)
        try:
            return ctl("-S", path, *verb)
        finally:
            os.waitpid(pid, 0)


def sources(t):
    code, out, err = ctl("--json", "sources")
    rows = {r["type"]: r for r in map(json.loads, out.splitlines())}
    t.ok(code == 0 and {"dummy", "local", "sftp", "ftp", "s3", "http"} <= set(rows), "sources --json: an object a line", sorted(rows), err)
    t.ok(rows["dummy"]["served"] is True and rows["local"]["served"] is True, "dummy and local are served", rows)
    code, out, err = ctl("sources")
    t.ok(code == 0 and all(re.search(r"^%s " % x, out, re.M) for x in rows), "sources: a row each", out, err)
    code, out, err = ctl("--json", "sources", "dummy")
    fields = {r["field"]: r for r in map(json.loads, out.splitlines())}
    t.ok(code == 0 and {"files", "fanout", "crash", "path"} <= set(fields) and fields["path"]["common"] and not fields["files"]["common"],
         "sources dummy --json: its fields and those of all", sorted(fields))
    code, out, err = ctl("sources", "dummy")
    t.ok(code == 0 and "fanout" in out and "needs dummy.allow_faults" in out, "sources dummy", out)
    code, out, err = ctl("sources", "go\x1b[2Jpher")
    t.ok(code == 66 and "go\\x1b[2Jpher" in err, "sources of an unknown type: 66, its name escaped", code, err)


# ---- the daemon, looked at -------------------------------------------------------------------------------------------------

def quiet(t, w, d):
    code, out, err = d.ctl("ping")
    t.ok(code == 0 and out["ready"] is True and out["pid"] == d.pid and out["reason"] is None, "ping --json: 0, ready, its pid", out, err)
    code, out, err = plain(d, "ping")
    t.ok(code == 0 and out.startswith("ready: iis-pollerd ") and str(d.pid) in out, "ping", out)
    code, out, err = d.ctl("workers")
    t.ok(code == 0 and {x["pid"] for x in out["workers"]} == set(d.workers().values()), "workers --json: the pids of the log", out)
    t.is_({(x["state"], x["job_id"]) for x in out["workers"]}, {("idle", None)}, "all idle")
    code, out, err = d.ctl("jobs")
    t.is_((code, out), (0, {"jobs": [], "more": 0, "active": 0}), "jobs --json: none")
    code, out, err = plain(d, "jobs")
    t.ok(code == 0 and out.startswith("JOB ") and out.count("\n") == 1, "jobs: a header alone", out)
    t.is_(d.ctl("crashes")[1], {"crashes": []}, "crashes --json: none")
    code, out, err = d.ctl("status")
    same = json.loads(d.http("/status.json")[1])
    t.ok(code == 0 and set(out) == set(same) and out["pid"] == d.pid, "status --json is the document of /status.json", sorted(set(out) ^ set(same)))
    code, out, err = plain(d, "status")
    t.ok(code == 0 and re.search(r"^ready +yes$", out, re.M) and not STEERING.search(out), "status", out, err)


def busy(t, w, d):
    """Two workers, two long jobs, three that wait."""
    w.push(job("long-1", generated(1, delay="120s"), org_id="org-9", priority="high"), job("long-2", generated(1, delay="120s")))
    d.wait_log("job_started", job_id="long-1")
    d.wait_log("job_started", job_id="long-2")
    w.push(*[job("queued-%d" % i, generated(1), priority="low") for i in range(3)])
    for i in range(3):
        d.wait_log("job_accepted", job_id="queued-%d" % i)
    code, out, err = d.ctl("jobs")
    got = [(x["job_id"], x["state"]) for x in out["jobs"]]
    t.is_(got, [("long-1", "running"), ("long-2", "running")] + [("queued-%d" % i, "queued") for i in range(3)], "jobs --json: in order of arrival, with states")
    first = out["jobs"][0]
    t.is_((first["org_id"], first["priority"], first["partition"], first["offset"], first["attempt"], first["cancelled"]), ("org-9", "high", 0, first["offset"], 1, False),
          "with tenant, priority, place and attempt")
    t.ok(sorted(x["slot"] for x in out["jobs"][:2]) == [0, 1] and out["jobs"][2]["slot"] is None and out["active"] == 5, "the running ones have a slot", out)
    code, out, err = plain(d, "jobs")
    t.ok(code == 0 and [x.split()[:2] for x in out.splitlines()[1:]] == [list(x) for x in got], "jobs: the same rows", out)
    for state, want in (("queued", 3), ("running", 2), ("retry", 0), ("waiting", 0), ("publishing", 0), ("finishing", 0), ("ending", 0)):
        code, out, err = d.ctl("jobs", "--state", state)
        t.ok(code == 0 and len(out["jobs"]) == want and {x["state"] for x in out["jobs"]} <= {state} and out["active"] == 5, "jobs --state %s: %d" % (state, want), out)
    for state in ("nonsense", "", "queued running", "queued\n"):
        t.is_(d.ctl("jobs", "--state", state)[0], 64, "jobs --state %r: 64" % state)
    code, out, err = d.ctl("jobs", "--limit", 2)
    t.ok(code == 0 and [x["job_id"] for x in out["jobs"]] == ["long-1", "long-2"] and out["more"] == 3, "jobs --limit 2: the first, and how many more", out)
    t.ok("and 3 more" in plain(d, "jobs", "-n", 2)[1] and d.ctl("jobs", "-n", 0)[1]["more"] == 5, "it is said as text, too")
    code, out, err = d.ctl("workers")
    t.is_({(x["state"], x["job_id"], x["org_id"]) for x in out["workers"]}, {("busy", "long-1", "org-9"), ("busy", "long-2", "default")}, "workers --json: what each is doing")
    code, out, err = plain(d, "workers")
    t.ok(code == 0 and all(re.search(r"busy .* %s$" % x, out, re.M) for x in ("long-1", "long-2")), "workers", out)
    code, out, err = d.ctl("status")
    t.ok(out["jobs"]["active"] == 5 and out["jobs"]["queued"]["low"] == 3, "status counts them", out["jobs"])


def cancel(t, w, d):
    code, out, err = d.ctl("job", "cancel", "queued-1")
    t.is_((code, out), (0, {"job_id": "queued-1", "cancelled": 1}), "job cancel --json of a queued one")
    r = w.result_of("queued-1")
    t.is_((r["event_type"], r["published"]), ("job.cancelled", 0), "it ends as job.cancelled, while the workers are busy")
    t.ok(len(d.ctl("jobs", "--state", "queued")[1]["jobs"]) == 2, "and is gone from the queue")
    code, out, err = plain(d, "job", "cancel", "long-1")
    t.ok(code == 0 and out == "cancelled: 1\n", "job cancel of a running one", out, err)
    t.is_(w.result_of("long-1")["event_type"], "job.cancelled", "it ends as job.cancelled")
    t.is_([w.result_of(x)["event_type"] for x in ("queued-0", "queued-2")], ["job.completed"] * 2, "its worker serves what waited")
    code, out, err = d.ctl("job", "cancel", "long-1")
    t.ok(code == 66 and "long-1" in err, "one that has ended: 66", code, err)
    code, out, err = d.ctl("job", "cancel", "never\x1b]0;x\x07was")
    t.ok(code == 66 and not STEERING.search(err), "one that never was: 66, escaped", code, err)
    for bad in ("", "a\nstop", "a\tb", "x" * 256):
        code, out, err = d.ctl("job", "cancel", bad)
        t.ok(code == 64 and not STEERING.search(err), "job cancel %r: 64" % bad[:12], code, err)
    t.is_(d.ctl("job", "cancel", "--", "-x")[0], 66, "an id that begins with a dash, behind --")
    t.is_(d.ctl("job", "cancel", "long-2")[0], 0, "the other one")
    w.result_of("long-2")
    d.wait_log("control_action", verb="job-cancel", argument="long-2", peer_uid=os.getuid(), status=0)
    t.ok(True, "the log tells who cancelled what")
    t.ok(wait_for("no jobs in hand", lambda: d.ctl("jobs")[1]["active"] == 0), "nothing stays behind")


def crashes(t, w, d):
    w.run(generated(1, crash="segv"), job_id="crash-1", org_id="org-c")
    w.run(generated(1, crash="exit"), job_id="crash-2")
    died = {x["pid"] for x in d.logged("worker_died")}
    code, out, err = d.ctl("crashes")
    rows = out["crashes"]
    segv = [x for x in rows if x["job_id"] == "crash-1"]
    t.ok(code == 0 and len(segv) == 2 and {x["signal"] for x in segv} == {11} and {x["org_id"] for x in segv} == {"org-c"}, "crashes --json: both attempts, signal, tenant", rows)
    t.ok(rows[0]["job_id"] == "crash-2" and [x["at"] for x in rows] == sorted((x["at"] for x in rows), reverse=True), "newest first", rows)
    t.ok({x["pid"] for x in rows} <= died and all(x["cause"] and x["text"] for x in rows), "they are the deaths of the log", rows, died)
    code, out, err = plain(d, "crashes")
    t.ok(code == 0 and out.startswith("WHEN ") and out.count("crash-1") == 2 and len(out.splitlines()) == 1 + len(rows), "crashes", out)


ODD = ("two words", " blanks  around ", "-dash", "--json", "a\\b\"c'd", "\u00e9\u4e2d", "%s%n", "$(id)`id`;", "<b>&", "x" * 255)


def odd_names(t, w, d):
    """Names that the contract allows: each can be seen and cancelled. What it does not allow reaches no terminal."""
    w.push(*[job("hold-%d" % i, generated(1, delay="120s")) for i in range(2)])
    for i in range(2):
        d.wait_log("job_started", job_id="hold-%d" % i)
    w.push(*[job(x, generated(1), org_id="t-" + x[:100]) for x in ODD])
    for x in ODD:
        d.wait_log("job_accepted", job_id=x)
    t.is_([x["job_id"] for x in d.ctl("jobs", "-s", "queued")[1]["jobs"]], list(ODD), "jobs --json: odd names as they are")
    t.is_(len(plain(d, "jobs")[1].splitlines()), 1 + 2 + len(ODD), "jobs: a row each")
    for x in ODD:
        code, out, err = d.ctl("job", "cancel", "--", x)
        t.ok(code == 0 and out == {"job_id": x, "cancelled": 1}, "job cancel %.20r" % x, out, err)
    t.is_([w.result_of(x)["event_type"] for x in ODD], ["job.cancelled"] * len(ODD), "all of them are cancelled")
    for i in range(2):
        d.ctl("job", "cancel", "hold-%d" % i)
    n = len(w.reader("results").drain())
    w.push(invalid(job("e\u009b2J", generated(1))), job("e-1", generated(1), org_id="\u202eo"), invalid({"job_id": "e-2", "source_config": {"source_type": "\x1b[2Jx"}}))
    w.reader("results").read(n + 3)
    for args in (("jobs",), ("workers",), ("crashes",), ("status",), ("--json", "status"), ("--json", "jobs")):
        code, out, err = plain(d, *args)
        t.ok(code == 0 and not STEERING.search(out + err), "%s after names that steer" % " ".join(args), out.encode("unicode_escape").decode())
    code, out, err = ctl("-S", d.socket, "\x1b[31m\u009b2J\u202eevil\x07")
    t.ok(code == 64 and "evil" in err and not STEERING.search(err), "a verb of that kind: 64, escaped", err.encode("unicode_escape").decode())


# ---- settings ----------------------------------------------------------------------------------------------------------------

def config(t, w, d):
    code, out, err = d.ctl("config")
    t.ok(code == 0 and out["topics.polling_queue"]["value"] == w.topics["jobs"] and out["topics.polling_queue"]["default"] == "polling-queue"
         and d.file in out["topics.polling_queue"]["origin"], "config --json: value, default, origin", str(out)[:300])
    code, changed, err = d.ctl("config", "--changed")
    differ = {k for k, v in out.items() if v["value"] != v["default"]}
    t.ok(code == 0 and set(changed) == differ and differ < set(out), "config --changed --json: those that are not the default", sorted(set(changed) ^ differ))
    code, text, err = plain(d, "config")
    t.ok(code == 0 and {x.split()[0] for x in text.splitlines()[1:]} == set(out), "config: a row each", text[:500])
    code, text, err = plain(d, "config", "--changed")
    t.ok(code == 0 and {x.split()[0] for x in text.splitlines()[1:]} == set(changed), "config --changed", text[:500])
    code, local, err = d.ctl("config", "--local")
    t.ok(code == 0 and {k for k in out if local[k]["value"] != out[k]["value"]} == set(), "config --local reads the same file to the same values",
         [(k, local[k], out[k]) for k in out if local[k]["value"] != out[k]["value"]][:2])
    shown = "".join(plain(d, *a)[1] for a in (("config",), ("config", "--changed"), ("--json", "config"), ("config", "--local"), ("--json", "config", "--local")))
    t.ok(SECRET not in shown and "ssl.key.password" in shown, "secrets are masked, on every way")
    code, text, err = ctl("config", "--defaults")
    with open(os.path.join(ROOT, "conf/iis-poller.yaml")) as f:
        t.ok(code == 0 and text == f.read(), "config --defaults is conf/iis-poller.yaml")
    path = os.path.join(folder(), "defaults.yaml")
    with open(path, "w") as f:
        f.write(text)
    code, text, err = run(program("iis-pollerctl"), "-c", path, "--json", "config", "--local", "--changed")
    t.ok(code == 0 and json.loads(text) == {}, "which changes nothing", text, err)


def reload(t, w, d):
    before = d.ctl("status")[1]["configuration"]["generation"]
    since = d.mark()
    d.write_conf(log__level="debug")
    code, out, err = d.ctl("reload")
    t.ok(code == 0 and out == {"generation": before + 1} and d.wait_log("config_reloaded", since=since), "reload --json: the generation", out, err)
    t.is_(d.ctl("config")[1]["log.level"]["value"], "debug", "the new value is in force")
    d.write_conf(log__level="info")
    code, out, err = plain(d, "reload")
    t.ok(code == 0 and out == "read again: generation %d is in force\n" % (before + 2), "reload", out, err)
    with open(d.file, "a") as f:
        f.write("zzz: 1\n")
    for args in ((), ("--json",)):
        code, out, err = plain(d, *args, "reload")
        t.ok(code == 78 and "zzz" in err and "stays in force" in err, "reload of a bad file: 78, and why", code, out, err)
    t.ok(plain(d, "ping")[0] == 0 and d.ctl("status")[1]["configuration"] == dict(d.ctl("status")[1]["configuration"], generation=before + 2, last_reload_ok=False),
         "the configuration before stays, and status says so", d.ctl("status")[1]["configuration"])
    t.is_(d.ctl("verify")[0], 78, "a verb that needs the settings refuses the bad file: 78")
    d.write_conf()
    t.ok(plain(d, "reload")[0] == 0 and d.ctl("status")[1]["configuration"]["last_reload_ok"] is True, "corrected: it is taken again")


# ---- the socket ----------------------------------------------------------------------------------------------------------------

def mode(t, d):
    s = os.lstat(d.socket)
    t.is_((stat.S_ISSOCK(s.st_mode), stat.S_IMODE(s.st_mode), s.st_uid), (True, 0o660, os.geteuid()), "the socket: 0660, of the daemon's user")


def other_uid(t, b):
    """As uid nobody: without rights, with a right to the file only, as a member of the group."""
    if os.geteuid() or not shutil.which("setpriv"):
        t.diag("not root: there is no other uid to try with")
        return
    d = folder()
    os.chmod(d, 0o755)
    tool = os.path.join(d, "iis-pollerctl")
    shutil.copy(program("iis-pollerctl"), tool)
    os.chmod(tool, 0o755)

    def as_nobody(e, *args):
        return run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", tool, "-c", "/dev/null", "-S", e.socket, *args, cwd="/")
    e = Daemon(World(b), {"control.socket": os.path.join(d, "a.sock")})
    e.socket = e.conf["control.socket"]
    code, out, err = as_nobody(e, "status")
    t.ok(code == 77 and "may not connect" in err, "another uid: the file keeps it out, 77", code, out, err)
    t.is_(as_nobody(e, "ping")[0], 2, "ping: 2")
    os.chmod(e.socket, 0o666)
    since = e.mark()
    for verb in (["status"], ["jobs"], ["config"], ["stop"], ["reload"], ["job", "cancel", "x"]):
        code, out, err = as_nobody(e, *verb)
        t.ok(code == 77 and not out, "another uid with a way in, %s: 77" % " ".join(verb), code, out, err)
    t.ok(len(e.logged("control_refused", since=since, peer_uid=65534)) == 6, "each refusal is in the log")
    e.stop()
    import grp
    e = Daemon(World(b), {"control.socket": os.path.join(d, "b.sock"), "control.group": grp.getgrgid(65534).gr_name})
    e.socket = e.conf["control.socket"]
    t.is_(os.lstat(e.socket).st_gid, 65534, "control.group owns the socket")
    for verb in (["ping"], ["status"], ["workers"], ["jobs"], ["crashes"], ["config"], ["lag", "--daemon"]):
        code, out, err = as_nobody(e, *verb)
        t.ok(code == 0 and out, "a member of the group may read: %s" % verb[0], code, out, err)
    for verb in (["stop"], ["reload"], ["job", "cancel", "x"]):
        code, out, err = as_nobody(e, *verb)
        t.ok(code == 77 and "root" in err, "but not act: %s, 77" % verb[0], code, out, err)
    # Members of the group may fill their own four seats, no more: whoever may stop the daemon always finds one.
    greedy = "import socket\nall = [socket.socket(socket.AF_UNIX) for _ in range(5)]\nfor s in all: s.connect(%r)\nprint(all[4].recv(99).split()[0].decode())\n" % e.socket
    code, out, err = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", greedy, cwd="/")
    t.ok(code == 0 and out == "75\n", "the fifth connection of a member is told to come again", code, out, err)
    t.is_(e.ctl("ping")[0], 0, "the daemon goes on")
    e.stop()


def second(t, w, d):
    e = Daemon(World(w.broker), {"control.socket": d.socket}, start=False)
    began = time.monotonic()
    code, out, err = run(program("iis-pollerd"), "-c", e.file)
    t.ok(code == 78 and str(d.pid) in err and d.socket in err, "a second daemon on the same socket: 78; path and pid are named", code, err)
    t.ok(time.monotonic() - began < 10 * SLOW and d.ctl("ping")[1]["pid"] == d.pid, "and the first answers on")


def connect(d):
    s = socket.socket(socket.AF_UNIX)
    s.connect(d.socket)
    s.settimeout(20 * SLOW)
    return s


def rest(s):
    """All that comes until the other side closes"""
    got = b""
    try:
        while True:
            x = s.recv(65536)
            if not x:
                return got
            got += x
    except ConnectionError:
        return got


def ask_raw(d, data):
    with connect(d) as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return rest(s)


def hostile(t, w, d):
    fds = len(os.listdir("/proc/%d/fd" % d.pid))
    memory = d.memory()
    began = time.monotonic()
    slow = [connect(d), connect(d)]
    slow[0].sendall(b"stat")
    for what, data, want in (("1 MB without an end", b"a" * 1048576, 64), ("a line of 1 MB", b"ping " + b"x" * 1048576 + b"\n", 64), ("4097 bytes", b"p" * 4096 + b"\n", 64),
                             ("binary garbage", bytes(range(255, -1, -1)) * 4 + b"\n", 64), ("a NUL", b"ping\0\n", 64), ("an empty line", b"\n", 64), ("blanks", b"   \n", 64),
                             ("a verb that is none", b"\x1b[2J\xff\xfe\n", 64), ("too many words", b"jobs a b c d e f g h i j\n", 64), ("an option that is none", b"jobs --no=1\n", 64),
                             ("a number beyond all", b"jobs --limit=99999999999999999999\n", 64), ("a good line", b"ping\n", 0), ("with a CR", b"ping\r\n", 0),
                             ("more behind it", b"ping\nstop\nstop\n", 0)):
        got = ask_raw(d, data)
        head, _, body = got.partition(b"\n")
        words = head.split()
        try:
            doc = json.loads(body)
        except ValueError:
            doc = None
        t.ok(len(words) == 2 and int(words[0]) == want and int(words[1]) == len(body) and ("error" in doc) == (want != 0), "%s: status %d and a document" % (what, want), got[:300])
    for data in (b"", b"ping"):
        with connect(d) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            t.is_(rest(s), b"", "%r and the end: closed without an answer" % data)
    for i in range(20):
        connect(d).close()
    t.ok(plain(d, "ping")[0] == 0 and w.run(generated(2), job_id="meanwhile")[0]["published"] == 2, "the daemon goes on meanwhile")
    t.is_([rest(s) for s in slow], [b"", b""], "half a line, and silence: closed")
    took = time.monotonic() - began
    t.ok(4.5 < took < 5 * SLOW + 5, "after the deadline of 5 s (%.1f s)" % took)
    many = [connect(d) for _ in range(50)]
    told = []
    for s in many[12:]:
        told.append(rest(s).split(b" ")[0])
    t.is_(set(told), {b"75"}, "50 connections: those beyond twelve are told to come again")
    code, out, err = d.ctl("status")
    t.ok(code == 75 and "too many" in err, "so is iis-pollerctl: 75", code, out, err)
    t.is_(w.run(generated(1), job_id="meanwhile-2")[0]["published"], 1, "jobs are served meanwhile")
    many[0].sendall(b"ping\n")
    t.ok(rest(many[0]).startswith(b"0 "), "who came first is answered")
    for s in many + slow:
        s.close()
    t.ok(wait_for("a free seat", lambda: d.ctl("status")[0] == 0), "when they have gone, all is as before")
    # a worker that came back meanwhile has some, too
    now = wait_for("no more descriptors than before", lambda: (lambda n: n if n <= fds + 8 else None)(len(os.listdir("/proc/%d/fd" % d.pid))))
    t.ok(now and d.memory() - memory < 16 << 20, "no descriptor is left open (%d, %d); memory grew by %d KiB" % (fds, now, (d.memory() - memory) >> 10))
    t.ok(not d.logged("draining"), "what stood behind a first line was not obeyed")


def freeze(t, b):
    """A daemon that is stopped, and two that ask it: one is let into the queue, one finds it full. They end in the background."""
    e = Daemon(World(b), ready=False)
    e.wait_log("control_ready")
    e.signal(signal.SIGSTOP)
    asking = []
    full = []
    for verb in ("status", "ping"):
        asking.append(subprocess.Popen([program("iis-pollerctl"), "-S", e.socket, verb], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, env=clean_env()))
        if verb == "status":
            wait_for("its place in the queue", lambda: waits_on_socket(asking[0].pid))
            for _ in range(100):
                s = socket.socket(socket.AF_UNIX)
                s.setblocking(False)
                if s.connect_ex(e.socket):  # EAGAIN
                    s.close()
                    break
                full.append(s)
    t.ok(0 < len(full) < 100, "the queue of a stopped daemon's socket is full after %d" % (len(full) + 1))
    return e, asking, full


def waits_on_socket(pid):
    """It has a socket and sleeps: it has connected and waits for the answer."""
    try:
        fds = [os.readlink("/proc/%d/fd/%s" % (pid, x)) for x in os.listdir("/proc/%d/fd" % pid)]
    except OSError:
        return False
    with open("/proc/%d/stat" % pid) as f:
        return any(x.startswith("socket:") for x in fds) and f.read().rpartition(")")[2].split()[0] == "S"


def thaw(t, e, asking, full):
    out, err = asking[0].communicate(timeout=60 * SLOW)
    t.ok(asking[0].returncode == 69 and "did not answer in time" in err, "status of a daemon that hangs: 69 within its bound", asking[0].returncode, err)
    out, err = asking[1].communicate(timeout=60 * SLOW)
    t.ok(asking[1].returncode == 2 and "may hang" in err, "ping where the queue is full: 2, and no endless wait", asking[1].returncode, err)
    for s in full:
        s.close()
    e.signal(signal.SIGCONT)
    t.ok(wait_for("an answer", lambda: e.ctl("ping")[0] in (0, 1)), "it goes on and answers again")
    e.stop()


def never_reads(t, b):
    """An answer longer than the socket holds, for somebody who does not take it."""
    w = World(b)
    d = Daemon(w, {"workers.count": 1})
    w.push(job("hold", generated(1, delay="120s")))
    d.wait_log("job_started", job_id="hold")
    w.push(*[job("%s-%d" % ("j" * 200, i), generated(1), org_id="o" * 100) for i in range(900)])
    wait_for("900 jobs", lambda: d.ctl("status")[1]["jobs"]["active"] >= 901, 20, every=0.1)
    with connect(d) as s:
        s.sendall(b"jobs\n")
        s.recv(1, socket.MSG_PEEK)
        t.ok(len(d.ctl("jobs")[1]["jobs"]) == 901, "while one does not take its answer, others are served")
        t.ok(plain(d, "jobs")[1].count("\n") == 902, "as text, too")
        d.kill()
        got = rest(s)
        t.ok(got.startswith(b"0 ") and len(got) > 4096, "what was sent can be read (%d bytes)" % len(got))
    return w, d


def stale(t, w, d):
    """d was killed: its socket file is still there."""
    t.ok(stat.S_ISSOCK(os.lstat(d.socket).st_mode) and d.ctl("ping")[0] == 2, "a killed daemon leaves its socket file; ping: 2")
    code, out, err = d.ctl("status")
    t.ok(code == 69 and d.socket in err, "status: 69", code, err)
    old = os.lstat(d.socket).st_ino, os.lstat(d.socket).st_ctime_ns
    e = Daemon(World(w.broker), keep=d)
    t.ok((os.lstat(e.socket).st_ino, os.lstat(e.socket).st_ctime_ns) != old and e.ctl("ping")[1]["pid"] == e.pid, "the next one replaces it and answers")
    t.is_(e.stop(), 0, "it stops")
    t.ok(not os.path.lexists(e.socket), "and takes its file along")
    with open(e.socket, "w") as f:
        f.write("precious")
    code, out, err = run(program("iis-pollerd"), "-c", e.file)
    with open(e.socket) as f:
        t.ok(code == 78 and e.socket in err and f.read() == "precious", "a file that is no socket stays: 78", code, err)


# ---- ready, and the end ----------------------------------------------------------------------------------------------------------

def not_ready(t, b):
    e = Daemon(World(b), {"kafka.bootstrap_servers": "127.0.0.1:%d" % closed_port()}, ready=False)
    e.wait_log("control_ready")
    code, out, err = wait_for("ping to say not ready", lambda: (lambda r: r if r[0] == 1 else None)(e.ctl("ping")))
    t.ok(out["ready"] is False and out["reason"], "ping of one that is not ready: 1, and why", out)
    code, out, err = plain(e, "ping")
    t.ok(code == 1 and out.startswith("not ready: "), "as text", out)
    t.ok(all(e.ctl(v)[0] == 0 for v in ("status", "workers", "jobs", "crashes", "config")), "the other verbs answer")
    t.is_(e.stop(), 0, "it stops")


def stop(t, w, d):
    w.push(job("last", generated(1, delay="120s")))
    d.wait_log("job_started", job_id="last")
    code, out, err = plain(d, "stop")
    t.ok(code == 0 and out == "pid %d is draining; 1 job in hand\n" % d.pid, "stop: it drains", out, err)
    d.wait_log("control_action", verb="stop", peer_uid=os.getuid())
    code, out, err = d.ctl("ping")
    t.ok(code == 1 and out["phase"] == "draining", "ping meanwhile: 1", out)
    began = time.monotonic()
    code, out, err = d.ctl("stop")
    t.ok(code == 0 and out["hard"] is True and out["pid"] == d.pid, "stop once more --json: at once", out, err)
    code = d.wait_exit(30)
    t.ok(time.monotonic() - began < 10 * SLOW, "the daemon has ended, exit %d" % code)
    t.is_(d.ctl("ping")[0], 2, "and answers no more: 2")
    t.ok("last" not in {r["job_id"] for r in w.reader("results").drain()}, "the job is not answered: it comes again")
    e = Daemon(World(w.broker), keep=d)
    code, out, err = e.ctl("stop")
    t.ok(code == 0 and out == {"pid": e.pid, "hard": False, "jobs": 0} and e.wait_exit(30) == 0, "stop of an idle one: exit 0", out, err)


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    t.part(usage)
    t.part(nobody)
    t.part(sources)
    b = MockBroker(t)
    w = World(b)
    properties = dict(w.conf()["kafka.properties"], **{"ssl.key.password": SECRET})
    d = Daemon(w, {"kafka.properties": properties, "timeouts.drain": "60s"})
    frozen = t.part(freeze, b)
    for p in (quiet, busy, cancel, crashes, odd_names, config, reload):
        t.part(p, w, d)
    t.part(mode, d)
    t.part(second, w, d)
    t.part(hostile, w, d)
    got = t.part(never_reads, b)
    if got:
        t.part(stale, *got)
    t.part(other_uid, b)
    t.part(not_ready, b)
    if frozen:
        t.part(thaw, *frozen)
    t.part(stop, w, d)


with Tap() as tap:
    main(tap)
