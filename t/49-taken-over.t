#!/usr/bin/python3
"""A real worker, taken over in the middle of its task, attacks the master, a neighbour and what the neighbour holds of another tenant."""
import http.server
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import SANITIZED, Daemon, MockBroker, Tap, World, alive, conservation, generated, job, need, program, wait_for  # noqa: E402

INDEX = json.dumps([{"name": n, "type": "file", "mtime": "Tue, 02 Jan 2024 03:04:05 GMT", "size": 5} for n in ("a.csv", "b.csv")]).encode()
SECRET = "canary-of-a-tenant-"          # as taken_over.c looks for it

# attack, whom, what is to come of it: the error that it gets, "killed" at once, or "trapped" with the call's name
SIBLING, MASTER = "sibling", "master"
ATTACKS = [
    ("kill", SIBLING, "killed"), ("kill", MASTER, "killed"), ("tkill", SIBLING, "killed"), ("sigqueue", SIBLING, "killed"),
    ("tgkill", SIBLING, "EPERM"), ("tgkill", MASTER, "EPERM"), ("setown", MASTER, "EINVAL"),
    ("ptrace", SIBLING, "killed"), ("ptrace", MASTER, "killed"), ("pidfd", SIBLING, "killed"), ("readv", SIBLING, "killed"),
    ("memory", SIBLING, "EACCES"), ("memory", MASTER, "EACCES"), ("spool", SIBLING, "EACCES"), ("socket_of", SIBLING, "EACCES"),
    ("environ", MASTER, "EACCES"), ("config", MASTER, "EACCES"), ("log", MASTER, "EACCES"),
    ("prlimit", SIBLING, "EPERM"), ("nice", SIBLING, "trapped setpriority"), ("own_memory", SIBLING, "ENOENT"), ("fds", SIBLING, "EBADF"),
    ("fork", SIBLING, "EPERM"), ("exec", SIBLING, "killed"), ("thread", SIBLING, "EPERM"), ("socket", SIBLING, "trapped socket"),
    ("mkdir", SIBLING, "trapped mkdirat"), ("write", SIBLING, "EACCES"), ("shadow", SIBLING, "EACCES"), ("handler", SIBLING, "ENOSYS"),
    ("verdict", SIBLING, "forged"), ("forge_before", SIBLING, "protocol"), ("forge_first", SIBLING, "protocol"),
    ("forge_generation", SIBLING, "protocol"),
]


class Server:
    """An HTTP index that keeps who asks waiting."""

    def __init__(self):
        self.asked, self.go = threading.Event(), threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.set()
                outer.go.wait(120)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(INDEX)))
                self.end_headers()
                self.wfile.write(INDEX)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None     # who asked may be dead by then
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d/in/" % self.http.server_address[1]


class Scene:
    """A daemon whose neighbour serves another tenant's task, with its secret, for as long as the test wants."""

    def __init__(self, t, b, **conf):
        self.t, self.w, self.server = t, World(b), Server()
        self.secret = SECRET + os.urandom(8).hex()
        self.d = Daemon(self.w, dict({"workers.path": program("t/lib/taken_over"), "workers.count": 3, "egress.allow": ["127.0.0.0/8"],
                                      "timeouts.cancel": "200ms", "timeouts.kill": "200ms"}, **{k.replace("__", "."): v for k, v in conf.items()}))
        self.w.push(job("neighbour", dict(source_type="http", url=self.server.url, index_format="json", head_mode="none",
                                          auth={"type": "bearer", "token": self.secret}), org_id="acme", timeout="120s", retries=0))
        self.d.wait_log("job_started", job_id="neighbour")
        self.server.asked.wait(30)
        self.sibling = [x["pid"] for x in self.d.ctl("workers")[1]["workers"] if x["state"] == "busy"][0]
        self.n = 0

    def attack(self, kind, whom):
        """(terminal record, what the attacker said, the deaths it led to)"""
        self.n += 1
        name, since = "evil-%d-%s" % (self.n, kind), self.d.mark()
        pid = self.sibling if whom == SIBLING else self.d.pid
        self.w.push(job(name, generated(1, name_template="taken:%s:%d" % (kind, pid)), org_id="evil", publish="stream", retries=0, timeout="20s"))
        r = self.w.result_of(name, 40)
        # by now the master has seen its end; each attempt that died has its line
        died = self.d.logged("worker_died", since=since, job_id=name)
        said = [x["text"] for x in self.d.logged("worker_stderr", since=since) if x["text"].startswith(kind + " ")]
        return r, said, died

    def unharmed(self):
        return alive(self.d.pid) and alive(self.sibling)

    def end(self):
        """The neighbour's job, which all of this went on beside."""
        t, d = self.t, self.d
        self.server.go.set()
        r = self.w.result_of("neighbour")
        t.is_((r["event_type"], r["attempt"], r["published"]), ("job.completed", 1, 2), "the neighbour's job completes, in its first attempt, with its own files")
        t.ok(alive(self.sibling), "in the worker that had it")
        log = "\n".join(d.raw)
        t.ok(self.secret not in log, "its secret is nowhere in the log")
        t.is_([x for x in d.logged("worker_died") if x["job_id"] == "neighbour"], [], "no death is put down to it")
        t.is_(*conservation(d), "every job is accounted for")
        t.is_(d.stop(), 0, "exit 0")


def held(t, scene, kind, whom, want, r, said, died):
    what = "%s of %s: " % (kind, whom)
    if want.startswith("E"):
        t.ok(said == ["%s refused %s" % (kind, want)] and not died and r["event_type"] == "job.completed",
             what + "refused with %s, the worker's own task goes on" % want, said, died, r.raw)
        return
    cause = "protocol" if want == "protocol" else "sandbox"
    cls = r["error"] and r["error"]["class"]
    t.ok(len(died) == r["attempt"] and {x["cause"] for x in died} == {cause} and not [x for x in said if " refused " in x or cause == "sandbox"] and
         cls == ("worker_protocol" if cause == "protocol" else "worker_crash"),
         what + ("the frame is refused" if cause == "protocol" else "killed") + ", that worker alone, cause %s" % cause, said, died, r.raw)
    if want.startswith("trapped"):
        call = want.split()[1]
        verdicts = [x["verdict"]["syscall_name"] if "verdict" in x else x["syscall_name"] for x in crashes(scene.d, r["job_id"])]
        t.ok(verdicts and set(verdicts) == {call}, what + "iis-pollerctl crashes names the call, %s" % call, crashes(scene.d, r["job_id"]))
        t.ok(all(call in x["text"] for x in died), what + "so does the log", died)


def crashes(d, job_id):
    got = d.ctl("crashes")[1]
    rows = got.get("crashes", got) if isinstance(got, dict) else got
    return [x for x in rows if x.get("job_id") == job_id]


def taken_over(t, b, landlock):
    scene = Scene(t, b, sandbox__landlock_max=landlock)
    for kind, whom, want in ATTACKS:
        r, said, died = scene.attack(kind, whom)
        if not t.ok(scene.unharmed(), "%s of %s: master and neighbour live" % (kind, whom), said, died):
            break
        held(t, scene, kind, whom, want, r, said, died)
    t.ok(not os.path.exists("/tmp/iis-poller-taken-over"), "nothing was made in the file system")
    ended = scene.d.logged("worker_died")
    t.ok(all((x["job_id"] or "").startswith("evil-") or x["cause"] in ("clean", "exchanged", "recycled") for x in ended), "nobody else died", ended)
    scene.end()


def off(t, b):
    """Without the sandbox the same attacks do succeed: what is refused above is refused by it."""
    scene = Scene(t, b, sandbox__mode="off")
    root = os.geteuid() == 0
    for kind, whom in (("environ", MASTER), ("fork", SIBLING), ("thread", SIBLING), ("socket", SIBLING), ("mkdir", SIBLING), ("setown", MASTER),
                       ("memory", SIBLING), ("spool", SIBLING), ("prlimit", SIBLING)):
        r, said, died = scene.attack(kind, whom)
        if kind == "mkdir":
            t.ok(os.path.isdir("/tmp/iis-poller-taken-over"), "sandbox off: a directory is made")
            os.rmdir("/tmp/iis-poller-taken-over")
        if kind == "memory" and root:
            t.ok(said and scene.secret in said[0], "sandbox off: the neighbour's secret is read out of its memory", said)
        elif kind not in ("memory", "spool", "environ") or root:
            t.ok(said and said[0].split()[:2] == [kind, "done"], "sandbox off: %s of %s succeeds" % (kind, whom), said)
    scene.attack("kill", SIBLING)
    died = scene.d.wait_log("worker_died", pid=scene.sibling)
    t.ok(died["job_id"] == "neighbour", "sandbox off: the neighbour dies of the signal", died)
    scene.server.go.set()
    t.is_(scene.d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "t/lib/taken_over")
    if SANITIZED:
        t.skip_all("a worker under a sanitizer has no sandbox")
    b = MockBroker(t)
    t.part(off, b)
    for landlock in (99, 2):
        t.part(taken_over, b, landlock)


with Tap() as tap:
    main(tap)
