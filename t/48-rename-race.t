#!/usr/bin/python3
"""local while names change under it: directories, links, files, mounts; no event ever names what is outside of the root."""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, _processes, clean_env, folder, job, need, program, wait_for  # noqa: E402

DIRS, FILES = 60, 20
LARGE = 7777            # bytes of every file outside; none inside has as many
JOBS = 90
OUT = "canary"          # in the name of every file outside


class Tree:
    def __init__(self):
        top = folder()
        self.root, self.outside = os.path.join(top, "root"), os.path.join(top, "outside")
        for p in (self.root, self.outside, self.root + "/moved", self.root + "/mounted", self.outside + "/deep"):
            os.makedirs(p)
        for n in range(5):
            self.file(self.outside, "canary_%d.csv" % n, LARGE)
            self.file(self.outside + "/deep", "canary_%d.csv" % n, LARGE)
            self.file(self.root + "/moved", "in_%d.csv" % n, 5)
        os.symlink("../../outside/canary_0.csv", self.root + "/moved/out.csv")
        for i in range(DIRS):
            d = os.path.join(self.root, "d%02d" % i)
            os.makedirs(d + "/deep")
            self.file(d, "in_%d.csv" % i, 5)
            self.file(d + "/deep", "in_%d.csv" % i, 5)
            os.symlink("../outside" if i % 2 else self.outside, d + ".link")
        for i in range(FILES):
            self.file(self.root, "f%02d.csv" % i, 5)
            os.symlink("../outside/canary_%d.csv" % (i % 5), os.path.join(self.root, "f%02d.csv.link" % i))

    @staticmethod
    def file(where, name, size):
        with open(os.path.join(where, name), "wb") as f:
            f.write(b"x" * size)


class Racer:
    def __init__(self, tree, mounts=False):
        argv = [program("t/lib/racer"), tree.root] + (["--mounts", tree.outside] if mounts else [])
        # Mounts are a namespace's own: all that this test starts lives in it.
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_env())
        _processes.append(self.p)
        if not self.p.stdout.readline().startswith("READY"):
            raise RuntimeError("the racer did not start")

    def end(self):
        out, _ = self.p.communicate("", timeout=60)
        return int(out.split()[1]) if self.p.returncode == 0 else -1


class Naive(threading.Thread):
    """Lists the tree as a program would that looks first and opens afterwards: what it finds outside shows that the race is one."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.fooled, self.rounds, self.go_on = root, 0, 0, True
        self.start()

    def run(self):
        while self.go_on:
            self.rounds += 1
            for e in list(os.scandir(self.root)):
                try:
                    if e.is_dir(follow_symlinks=False):
                        self.fooled += any(OUT in n for n in os.listdir(e.path))
                    elif e.is_file(follow_symlinks=False):
                        self.fooled += os.stat(e.path).st_size == LARGE
                except OSError:
                    pass


def sources(tree):
    """The ways to list it: whole, by a path whose own first part is swapped, in one file's place."""
    for follow in ("never", "files", "all"):
        yield dict(path=tree.root, recursive=True, follow_symlinks=follow)
        yield dict(path=tree.root + "/d07/deep", recursive=True, follow_symlinks=follow)
        yield dict(path=tree.root + "/moved", recursive=True, follow_symlinks=follow)
        yield dict(path=tree.root + "/f03.csv", follow_symlinks=follow)


def push(w, tree, prefix, n):
    ways = [dict(s, source_type="local") for s in sources(tree)]
    # Either is true of all that is outside and of nothing inside: a whole round of the listing must yield no event at all.
    traps = [dict(file_pattern="*%s*" % OUT), dict(file_pattern="*", filters={"min_size": LARGE})]
    w.push(*[job("%s-%d" % (prefix, i), dict(ways[i % len(ways)]), retries=0, **traps[i // len(ways) % 2]) for i in range(n)])


def outcome(t, w, name, results):
    listed = sum(r["listed"] or 0 for r in results)
    kinds = {}
    for r in results:
        kinds[r["event_type"]] = kinds.get(r["event_type"], 0) + 1
    events = w.reader("events").drain()
    t.is_([e["file_path"] for e in events][:10], [], "%s: %d listings, %d entries, no event of anything outside" % (name, len(results), listed))
    t.is_([r.raw for r in results if OUT in r.raw.decode()][:3], [], "%s: nor is one named in a result" % name)
    t.ok(listed > len(results) * 20, "%s: and the listings went on, %r" % (name, kinds), listed)


def race(t, b, mode):
    tree, w = Tree(), World(b)
    d = Daemon(w, {"local.allowed_roots": [tree.root], "workers.count": 2, "sandbox.mode": mode})
    naive, racer = Naive(tree.root), Racer(tree)
    push(w, tree, mode, JOBS)
    results = w.results(JOBS, timeout=120)
    # A busy machine may give the naive one no turn at the right moment for long.
    wait_for("the naive listing to be fooled", lambda: naive.fooled, timeout=60)
    naive.go_on = False
    naive.join()
    rounds = racer.end()
    t.ok(rounds > 5 * JOBS, "sandbox %s: %d rounds of renames went on meanwhile" % (mode, rounds))
    t.ok(naive.fooled, "a listing that looks first and opens afterwards was led out %d times in %d" % (naive.fooled, naive.rounds))
    outcome(t, w, "sandbox " + mode, results)
    t.is_(d.logged("worker_died"), [], "sandbox %s: no worker died of it" % mode)
    t.is_(d.stop(), 0, "exit 0")


def trap(t, b):
    """The jobs of the race do tell of files outside where these are listed: what they did not find was not there."""
    tree, w = Tree(), World(b)
    d = Daemon(w, {"local.allowed_roots": [tree.outside], "workers.count": 2})
    for fields in (dict(file_pattern="*%s*" % OUT), dict(file_pattern="*", filters={"min_size": LARGE})):
        r, e, _ = w.run(dict(source_type="local", path=tree.outside, recursive=True), **fields)
        t.is_(len(e), 10, "the trap %r finds all 10 files outside" % fields)
    t.is_(d.stop(), 0, "it stops")


def mounted(t, b, tree, w, name, source, **fields):
    r, e, _ = w.run(dict(source_type="local", path=tree.root, recursive=True, **source), **fields)
    return sorted(x["relative_path"] for x in e if "mounted" in x["relative_path"])


def mounts(t, b):
    """A directory and a file from outside, mounted in the root: no job reaches them, whatever path or field it gives, unless the settings let it."""
    tree, w = Tree(), World(b)
    d = Daemon(w, {"local.allowed_roots": [tree.root], "workers.count": 2})
    at, one = tree.root + "/mounted", tree.root + "/mounted-file.csv"
    open(one, "w").close()
    subprocess.run(["mount", "--bind", tree.outside, at], check=True)
    subprocess.run(["mount", "--bind", sorted(os.path.join(tree.outside, x) for x in os.listdir(tree.outside) if os.path.isfile(os.path.join(tree.outside, x)))[0], one], check=True)
    os.symlink("mounted", tree.root + "/to-mounted")
    os.symlink("mounted-file.csv", tree.root + "/to-mounted-file.csv")
    inside = sorted(x for x in os.listdir(at) if os.path.isfile(os.path.join(at, x)))[0]

    def refused(what, source, words):
        r, e, _ = w.run(dict(source_type="local", recursive=True, **source))
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "policy" and "local.cross_mounts" in r["error"]["message"] and not e, what, r.raw, words)
    try:
        for follow in ("never", "files", "all"):
            got = mounted(t, b, tree, w, "default", dict(follow_symlinks=follow))
            t.is_(got, [], "what is mounted there is not listed (follow_symlinks %s)" % follow)
        refused("its path", dict(path=at), "")
        refused("a link to it as the path", dict(path=tree.root + "/to-mounted", follow_symlinks="all"), "")
        refused("one file in it", dict(path=os.path.join(at, inside)), "")
        refused("a file that is mounted", dict(path=one), "")
        refused("one_file_system: false", dict(path=tree.root, one_file_system=False), "")
        d.write_conf(local__cross_mounts=True)
        t.is_(d.ctl("reload")[0], 0, "local.cross_mounts is switched on")
        got = mounted(t, b, tree, w, "told", dict(one_file_system=False))
        t.ok(len(got) >= 10, "now a job that says one_file_system: false lists it", got)
        r, e, _ = w.run(dict(source_type="local", path=at))
        t.ok(r["event_type"] == "job.completed" and e, "and so does one by its path", r.raw)
        got = [x for x in mounted(t, b, tree, w, "default", {}) if x.startswith("mounted/")]
        t.is_(got, [], "one that says nothing still stays on its file system")
        d.write_conf(local__cross_mounts=False)
        t.is_(d.ctl("reload")[0], 0, "and off again")
    finally:
        subprocess.run(["umount", at], check=True)
        subprocess.run(["umount", one], check=True)
    racer = Racer(tree, mounts=True)
    push(w, tree, "mount", 36)
    results = [r for r in w.results(47, timeout=120) if r["job_id"].startswith("mount-")]
    rounds = racer.end()
    t.ok(rounds > 5 * len(results), "%d rounds of renames and mounts" % rounds)
    events = [e for e in w.reader("events").drain() if e["job_id"].startswith("mount-")]
    t.is_([e["file_path"] for e in events][:10], [], "mounts that come and go: no event of anything outside in %d listings" % len(results))
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "t/lib/racer")
    b = MockBroker(t)
    t.part(trap, b)
    # without the sandbox it is the walk alone that holds
    for mode in ("off", "enforce"):
        t.part(race, b, mode)
    if os.geteuid() == 0:
        t.part(mounts, b)


if os.geteuid() == 0 and os.environ.get("RACE_NAMESPACE") != "1":
    # Mounts come and go in a namespace of this test's own.
    os.execve("/usr/bin/unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(__file__)],
              dict(os.environ, RACE_NAMESPACE="1"))

with Tap() as tap:
    main(tap)
