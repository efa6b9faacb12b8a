#!/usr/bin/python3
"""What make install gives the service manager: the unit and how exposed it is, the user, the AppArmor profile; and that the
daemon lives within all of it: without any privilege, and with no system call that the unit's filter refuses."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import poller  # noqa: E402
from poller import ROOT, Daemon, MockBroker, Tap, World, clean_env, folder, job, need, run, wait_for  # noqa: E402
from webservers import PythonWeb  # noqa: E402

NOBODY = 65534


def installed(t):
    dest = folder()
    code, _, err = run("make", "-C", ROOT, "install", "DESTDIR=" + dest, "PREFIX=/usr", "SYSCONFDIR=/etc",
                       env=clean_env({"HOME": "/"}), timeout=300)
    t.ok(code == 0, "make install", err)
    return dest


def unit(t, dest):
    """The unit's own text, key by key."""
    got = {}
    with open(os.path.join(dest, "usr/lib/systemd/system/iis-poller.service")) as f:
        for line in f:
            if re.match(r"\w+=", line):
                key, _, value = line.strip().partition("=")
                got.setdefault(key, []).append(value)
    t.is_(got["ExecStart"], ["/usr/sbin/iis-pollerd"], "the unit starts what was installed")
    t.ok("@" not in "".join(v for k, vs in got.items() for v in vs if k != "SystemCallFilter"), "no path in it is left open")
    return got


def exposure(t, dest):
    here = os.path.join(folder(), "iis-poller.service")
    with open(os.path.join(dest, "usr/lib/systemd/system/iis-poller.service")) as f, open(here, "w") as g:
        g.write(f.read().replace("/usr/sbin/", dest + "/usr/sbin/"))
    env = clean_env({"MANPATH": os.path.join(dest, "usr/share/man")})
    code, out, err = run("systemd-analyze", "verify", here, env=env)
    t.ok(code == 0 and not re.findall(r"iis-poller\.service:.*", "\n".join(x for x in (out + err).splitlines() if "'man " not in x)),
         "systemd-analyze verify has nothing to say", out, err)
    code, out, err = run("systemd-analyze", "security", "--offline=true", "--threshold=15", here, env=env)
    got = re.search(r"Overall exposure level for \S+: ([\d.]+)", out)
    t.ok(code == 0 and got and float(got.group(1)) <= 1.5, "exposure score at most 1.5: %s" % (got and got.group(1)), out[-300:], err)


def user(t, dest):
    root = folder()
    os.mkdir(os.path.join(root, "etc"))
    code, out, err = run("systemd-sysusers", "--root=" + root, os.path.join(dest, "usr/lib/sysusers.d/iis-poller.conf"))
    with open(os.path.join(root, "etc/passwd")) as f:
        line = f.read()
    t.ok(code == 0 and re.match(r"iis-poller:[x!*]+:\d+:\d+:.*:/usr/sbin/nologin$", line.strip()), "sysusers makes a user that cannot log in", line, err)


def apparmor(t, dest):
    code, out, err = run("apparmor_parser", "--skip-kernel-load", "--skip-cache", os.path.join(dest, "etc/apparmor.d/iis-pollerd"))
    t.ok(code == 0 and "rror" not in out + err.replace("interface file missing", ""), "AppArmor takes the profile", out, err)
    code, names, err = run("apparmor_parser", "-N", os.path.join(dest, "etc/apparmor.d/iis-pollerd"))
    t.is_(names.split(), ["iis-pollerd"], "it is one profile")


class Elsewhere:
    """The programs, dummy files and a directory to list where anybody may read them, since the tree may lie where only its owner can."""

    def __init__(self):
        self.dir = folder()
        os.chmod(self.dir, 0o755)
        for name in ("iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl"):
            shutil.copy(poller.program(name), self.dir)
        shutil.copytree(os.path.join(ROOT, "dummy_data"), os.path.join(self.dir, "dummy_data"))
        self.files = os.path.join(self.dir, "files")
        os.mkdir(self.files)
        for name in ("a.csv", "b.csv", "c.txt"):
            with open(os.path.join(self.files, name), "w") as f:
                f.write("x")

    def program(self, name):
        return os.path.join(self.dir, name)

    def daemon(self, world, wrap, owner=None):
        d = Daemon(world, {"local.allowed_roots": [self.files], "dummy.data_path": os.path.join(self.dir, "dummy_data"),
                           "egress.allow": ["127.0.0.1/32"]}, wrap=wrap, start=False)
        if owner is not None:
            os.chown(d.dir, owner, owner)
            for at, dirs, names in os.walk(d.dir):
                for n in dirs + names:
                    os.chown(os.path.join(at, n), owner, owner)
        d.start()
        return d


def jobs(t, w, place, url, what):
    """One job of each kind of worker, to its end."""
    for kind, source, n in (("dummy", {"source_type": "dummy", "path": "./dummy_data"}, 3), ("local", {"source_type": "local", "path": place.files}, 2),
                            ("http", {"source_type": "http", "url": url}, 2)):
        r, events, _ = w.run(source, file_pattern="*.csv", job_id="%s-%s" % (what.split()[0], kind))
        t.ok(r["event_type"] == "job.completed" and len(events) == n, "%s: a job of %s" % (what, kind), r["error"])


def rootless(t, b, place, url):
    w = World(b)
    d = place.daemon(w, ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
                         "--no-new-privs"], NOBODY)
    with open("/proc/%d/status" % d.pid) as f:
        status = dict(x.split(":\t", 1) for x in f.read().splitlines() if ":\t" in x)
    t.ok(set(status["Uid"].split()) == {str(NOBODY)} and int(status["CapPrm"], 16) == 0 and int(status["CapBnd"], 16) == 0,
         "rootless: an ordinary user with no capability", status["Uid"], status["CapPrm"])
    jobs(t, w, place, url, "rootless")
    code, got, err = d.ctl("workers")
    t.ok(code == 0, "rootless: the admin tool answers", err)
    t.is_(d.stop(), 0, "rootless: it stops")


def groups():
    """{"@group": {names and groups}} as this systemd has them"""
    got, name = {}, None
    for line in run("systemd-analyze", "syscall-filter")[1].splitlines():
        if line.startswith("@"):
            name = line.strip()
            got[name] = set()
        elif name and re.match(r"\s+[@\w]", line):
            got[name].add(line.strip())
    return got


def allowed(filters):
    """The calls that lines of SystemCallFilter= allow, in order; none left out means allowed by the first line's kind."""
    known, names = groups(), set()

    def calls(word):
        return set().union(*(calls(x) for x in known[word])) if word.startswith("@") else {word}
    for line in filters:
        off = line.startswith("~")
        for word in line.lstrip("~").split():
            names = names - calls(word) if off else names | calls(word)
    return names


def within(t, b, place, url, keys):
    """Every call of the daemon and its children, from start to stop, held against the unit's filter."""
    trace = os.path.join(folder(), "trace")
    w = World(b)
    d = place.daemon(w, ["strace", "-D", "-f", "-q", "-o", trace])
    jobs(t, w, place, url, "traced")
    d.http("/metrics")
    d.ctl("status")
    t.is_(d.stop(), 0, "traced: it stops")
    seen, families, bad = set(), set(), []

    def whole():
        with open(trace, errors="replace") as f:
            return re.search(r"^%d +\+\+\+ exited with" % d.pid, f.read(), re.M)
    wait_for("the end of the trace", whole)
    with open(trace, errors="replace") as f:
        for line in f:
            m = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)(?: resumed>|\()", line)
            if not m:
                continue
            seen.add(m.group(1))
            if m.group(1) == "socket":
                families.update(re.findall(r"socket\((AF_\w+)", line) if "EAFNOSUPPORT" not in line else [])
            if m.group(1) in ("mmap", "mprotect") and "PROT_EXEC" in line and ("PROT_WRITE" in line or m.group(1) == "mprotect"):
                bad.append(line.strip())
    # strace itself begins with the exec; setuid helpers are none of ours.
    may = allowed(keys["SystemCallFilter"])
    t.diag("%d kinds of system calls" % len(seen))
    t.ok(len(seen) > 60 and {"epoll_wait", "landlock_restrict_self", "seccomp"} & seen, "the trace saw the daemon and its sandboxes", sorted(seen))
    t.is_(sorted(seen - may), [], "each call is one that the unit's filter allows")
    # getaddrinfo asks the kernel by netlink which families this machine has; a no is an answer it goes on with.
    t.is_(sorted(families - {"AF_NETLINK"} - set(keys["RestrictAddressFamilies"][0].split())), [], "each socket is of a family that the unit allows")
    t.is_(bad, [], "no memory is writable and executable (MemoryDenyWriteExecute=)")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    for tool in ("systemd-analyze", "systemd-sysusers", "apparmor_parser", "strace", "setpriv"):
        if not shutil.which(tool):
            t.skip_all("%s is not installed" % tool)
    if os.geteuid():
        t.skip_all("only root can become another user")
    dest = installed(t)
    keys = unit(t, dest)
    t.part(exposure, dest)
    t.part(user, dest)
    t.part(apparmor, dest)
    place = Elsewhere()
    b = MockBroker(t)
    poller.program = place.program
    web = PythonWeb(place.files)
    t.part(rootless, b, place, web.url["list"])
    t.part(within, b, place, web.url["list"], keys)
    web.stop()


with Tap() as tap:
    main(tap)
