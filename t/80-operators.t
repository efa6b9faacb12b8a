#!/usr/bin/python3
"""What make install gives the service manager: the unit and how exposed it is, the user, the AppArmor profile; and that the
daemon lives within all of it, whatever the source and the egress mode: without any privilege, with no system call that the
unit's filter refuses, and with no file that the profile does not allow."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import poller  # noqa: E402
import s3servers  # noqa: E402
import sshd  # noqa: E402
from apparmor import Profile  # noqa: E402
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
        self.web = PythonWeb(self.files)
        self.ssh = sshd.Sshd(sshd.Keys())
        self.ftp = ftpservers.PureFtpd(self.files)
        self.s3 = s3servers.Pages([b"a.csv", b"b.csv", b"c.txt"])

    def sources(self):
        """One of each type, and how many files it has."""
        yield "dummy", {"source_type": "dummy", "path": "./dummy_data"}, 3
        yield "local", {"source_type": "local", "path": self.files}, 2
        yield "http", {"source_type": "http", "url": self.web.url["list"]}, 2
        yield "sftp", self.ssh.source(self.files), 2
        yield "ftp", self.ftp.source(), 2
        yield "s3", self.s3.source(), 2

    def stop(self):
        for x in (self.web, self.ssh, self.ftp, self.s3):
            x.stop()

    def program(self, name):
        return os.path.join(self.dir, name)

    def installed_path(self, d, path):
        """Where this file of a daemon of ours would be if it were installed."""
        for ours, theirs in ((d.file, "/etc/iis-poller/iis-poller.yaml"), (d.conf["state.dir"], "/var/lib/iis-poller"), (d.socket, "/run/iis-poller/control.sock"),
                             (self.program("iis-pollerd"), "/usr/sbin/iis-pollerd"), (self.program("iis-poller-worker"), "/usr/libexec/iis-poller/iis-poller-worker"),
                             (self.program("iis-poller-http"), "/usr/libexec/iis-poller/iis-poller-http"), (d.dir, "/etc/iis-poller")):
            if path.startswith(ours):
                return theirs + path[len(ours):]
        return path

    def daemon(self, world, wrap, owner=None, **conf):
        d = Daemon(world, {"local.allowed_roots": [self.files], "dummy.data_path": os.path.join(self.dir, "dummy_data"),
                           "egress.allow": ["127.0.0.1/32"], **{k.replace("__", "."): v for k, v in conf.items()}}, wrap=wrap, start=False)
        if owner is not None:
            os.chown(d.dir, owner, owner)
            for at, dirs, names in os.walk(d.dir):
                for n in dirs + names:
                    os.chown(os.path.join(at, n), owner, owner)
        d.start()
        return d


def jobs(t, w, place, what):
    """One job of each type of source, to its end."""
    for kind, source, n in place.sources():
        r, events, _ = w.run(source, file_pattern="*.csv", job_id="%s-%s" % (what.split()[0], kind))
        t.ok(r["event_type"] == "job.completed" and len(events) == n, "%s: a job of %s" % (what, kind), r["error"])


ROOTLESS = ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


def rootless(t, b, place):
    w = World(b)
    d = place.daemon(w, ROOTLESS, NOBODY)
    with open("/proc/%d/status" % d.pid) as f:
        status = dict(x.split(":\t", 1) for x in f.read().splitlines() if ":\t" in x)
    t.ok(set(status["Uid"].split()) == {str(NOBODY)} and int(status["CapPrm"], 16) == 0 and int(status["CapBnd"], 16) == 0,
         "rootless: an ordinary user with no capability", status["Uid"], status["CapPrm"])
    jobs(t, w, place, "rootless")
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


def calls(trace, pid):
    """(pid, name, the whole call) from the exec of the daemon on; what strace cut in two is joined."""
    begun, cut = False, {}
    with open(trace, errors="replace") as f:
        for line in f:
            m = re.match(r"(\d+)\s+(.*)", line)
            who, text = int(m.group(1)), m.group(2)
            if text.endswith("<unfinished ...>"):
                cut[who] = text[:-len("<unfinished ...>")]
                continue
            text = re.sub(r"^<\.\.\. \w+ resumed>", lambda _: cut.pop(who, ""), text)
            m = re.match(r"(\w+)\(", text)
            if not m:
                continue
            begun = begun or who == pid and m.group(1) == "execve" and "/iis-pollerd" in text.split(",")[0]
            if begun:
                yield who, m.group(1), text
        # one that never came back: the exit
        for who, text in cut.items():
            yield who, text.split("(")[0], text


def file_use(name, text):
    """(path, permissions that it needs), or None: a file that was opened, run, mapped as code, made, removed or connected to."""
    if re.search(r" = -1 E\w+ ", text):
        return None
    m = re.search(r" = \d+<(/[^>]*)>$", text)
    if name in ("open", "openat", "openat2", "creat") and m:
        if "O_PATH" in text:
            return None
        flags = re.search(r"O_(RDONLY|WRONLY|RDWR)", text)
        return m.group(1) + ("/" if "O_DIRECTORY" in text else ""), {"RDONLY": "r", "WRONLY": "w", "RDWR": "rw"}[flags.group(1)]
    if name == "execve":
        return re.match(r'execve\("([^"]*)"', text).group(1), "x"
    m = re.search(r", \d+<(/[^>]*)>", text)
    if name == "mmap" and "PROT_EXEC" in text and m:
        return m.group(1), "m"
    m = re.search(r'sun_path="([^"]*)"', text)
    if name in ("connect", "bind") and m:
        return m.group(1), "w"
    m = re.search(r'<(/[^>]*)>, "([^"]*)"', text) or re.search(r'()"(/[^"]*)"', text)
    if name.startswith(("unlink", "rename", "mkdir")) and m:
        return os.path.join(m.group(1), m.group(2)), "w"
    return None


def within(t, b, place, keys, profile, egress):
    """Every call of the daemon and its children, from start to stop, held against the unit's filter; every file against the profile."""
    trace, what = os.path.join(folder(), "trace"), "traced, egress.mode %s" % egress
    w = World(b)
    d = place.daemon(w, ["strace", "-D", "-f", "-q", "-y", "-o", trace] + ROOTLESS, NOBODY, egress__mode=egress)
    jobs(t, w, place, what)
    d.http("/metrics")
    d.ctl("status")
    t.is_(d.stop(), 0, "%s: it stops" % what)

    def whole():
        with open(trace, errors="replace") as f:
            return re.search(r"^%d +\+\+\+ exited with" % d.pid, f.read(), re.M)
    wait_for("the end of the trace", whole)
    seen, families, bad, files = set(), set(), [], {}
    for _, name, text in calls(trace, d.pid):
        seen.add(name)
        if name == "socket":
            families.update(re.findall(r"socket\((AF_\w+)", text) if "EAFNOSUPPORT" not in text else [])
        if name in ("mmap", "mprotect") and "PROT_EXEC" in text and ("PROT_WRITE" in text or name == "mprotect"):
            bad.append(text)
        used = file_use(name, text)
        if used:
            path = place.installed_path(d, re.sub(r" \(deleted\)$", "", used[0]))
            files.setdefault(path, set()).update(used[1])
    may = allowed(keys["SystemCallFilter"])
    t.ok(len(seen) > 60 and {"epoll_wait", "landlock_restrict_self", "seccomp"} & seen, "%s: %d kinds of calls, of the daemon and its sandboxes" % (what, len(seen)), sorted(seen))
    t.is_(sorted(seen - may), [], "each call is one that the unit's filter allows")
    # getaddrinfo asks the kernel by netlink which families this machine has; a no is an answer it goes on with.
    t.is_(sorted(families - {"AF_NETLINK"} - set(keys["RestrictAddressFamilies"][0].split())), [], "each socket is of a family that the unit allows")
    t.is_(bad, [], "no memory is writable and executable (MemoryDenyWriteExecute=)")
    # The exec of the daemon itself is not within the profile; local roots are the site's to name.
    sites = (place.files, os.path.join(place.dir, "dummy_data"))
    mine = {p: "".join(sorted(x)) for p, x in files.items() if not p.startswith(sites) and p != "/usr/sbin/iis-pollerd"}
    t.ok(len(mine) > 20 and mine.get("/run/iis-poller/control.sock") == "w" and "x" in mine.get("/usr/libexec/iis-poller/iis-poller-worker", ""), "%d files were used" % len(mine), sorted(mine.items()))
    t.is_(sorted((p, x) for p, x in mine.items() if not profile.allows(p, x)), [], "each is one that the AppArmor profile allows so")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    for tool in ("systemd-analyze", "systemd-sysusers", "apparmor_parser", "strace", "setpriv"):
        if not shutil.which(tool):
            t.skip_all("%s is not installed" % tool)
    if os.geteuid():
        t.skip_all("only root can become another user")
    if not sshd.here() or not ftpservers.here():
        t.skip_all("OpenSSH's server and an FTP server are needed")
    dest = installed(t)
    keys = unit(t, dest)
    t.part(exposure, dest)
    t.part(user, dest)
    t.part(apparmor, dest)
    place = Elsewhere()
    b = MockBroker(t)
    poller.program = place.program
    t.part(rootless, b, place)
    profile = Profile(os.path.join(dest, "etc/apparmor.d/iis-pollerd"))
    t.is_([profile.allows(*x) for x in (("/etc/iis-poller/iis-poller.yaml", "r"), ("/etc/iis-poller/iis-poller.yaml", "w"), ("/etc/shadow", "r"), ("/proc/12/statm", "r"), ("/proc/12/mem", "r"))],
          [True, False, False, True, False], "the profile, as it is read here")
    for egress in ("direct", "broker"):
        t.part(within, b, place, keys, profile, egress)
    place.stop()


with Tap() as tap:
    main(tap)
