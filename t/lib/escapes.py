"""escapes.py - some 270 attempts to get out of the sandbox, each in a fresh worker, under every role, with all of Landlock, Landlock 2 and
none. Shared by t/46-escape-*.t, a role or two each."""
import os
import re
import subprocess

from poller import SANITIZED, clean_env, folder, need, program

NET = ("network", "credentials")
FULL, OLD, NONE = "7", "2", "0"
NOBODY = 65534
AT_ONCE = 3
HELD = ("refused", "killed")
WITNESS = {1: "secret read", 2: "file changed", 4: "signal arrived", 8: "memory changed", 16: "limits changed", 32: "connection came",
           64: "mounts changed", 128: "host renamed", 256: "another program or process ran"}
# the classes that the program must try, by the first word of a name
CLASSES = {"read", "write", "meta", "fd", "tenant", "exec", "fork", "thread", "group", "ptrace", "memory", "signal", "limit", "code", "net", "unix",
           "socket", "option", "mount", "namespace", "key", "kernel", "ipc", "id", "prctl", "entry"}


class Run:
    """All attempts once; goes on by itself until rows() is asked for."""

    def __init__(self, base, role, landlock=FULL, unlisted="trap", user=0):
        self.name = "%s, Landlock %s%s%s" % (role, landlock, ", plain kill" if unlisted == "kill" else "", ", unprivileged" if user else "")
        self.role, self.landlock, self.user = role, landlock, user
        # Other numbers than this one's are for other runs: several go on at once.
        self.dir = os.path.join(base, re.sub(r"\W+", "-", self.name))
        os.mkdir(self.dir, 0o700)
        if user:
            os.chown(self.dir, user, user)
        argv = [program("t/lib/escape"), "--role", role, "--landlock", landlock, "--unlisted", unlisted, "--user", str(user), self.dir]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_env())

    def rows(self):
        """{attempt: (verdict, detail, witnesses, what was active)}"""
        out, self.err = self.process.communicate(timeout=300)
        return {f[0]: (f[1], f[2], int(f[3]), f[4]) for f in (line.split("\t") for line in out.splitlines())}


def seen(bits):
    return ", ".join(v for k, v in WITNESS.items() if bits & k)


def attempts():
    """{name: (where it holds, witnesses that its success has, what it is)}"""
    out = subprocess.run([program("t/lib/escape"), "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {f[0]: (f[1], int(f[2]), f[3]) for f in (line.split("\t") for line in out.splitlines())}


def must_hold(holds, role, landlock):
    """Is this attempt to be refused there? None: either way."""
    if holds == "always":
        return True
    if holds == "landlock":
        # the status child has no files at all
        return landlock != NONE or role == "http"
    if holds == "own-files":
        return role == "http" or role != "local" and landlock != NONE
    if holds == "local-abi-3":
        return role != "local" or landlock != OLD
    if holds == "local-names":
        return role != "local"
    if holds == "local-openat2":
        return role != "local" or landlock == NONE
    if holds == "names":
        return role == "http"
    if holds == "network":
        return role not in NET
    if holds == "http":
        return role != "http"
    return False if holds == "open" else None


def control(t, listed, rows):
    """What is done without a sandbox. An attempt that fails here, too, proves nothing: it is marked, and there may be few."""
    t.is_(sorted(rows), sorted(listed), "the control run tried each of the %d attempts" % len(listed))
    t.is_({n.split("-")[0] for n in listed}, CLASSES, "of all %d classes" % len(CLASSES))
    done = {n for n, r in rows.items() if r[0] == "done"}
    unseen = sorted(n for n in done if rows[n][2] & listed[n][1] != listed[n][1])
    t.ok(not unseen, "without a sandbox %d succeed; where a success can be seen from outside, it is" % len(done),
         *["%s: %s" % (n, seen(rows[n][2])) for n in unseen])
    t.ok(len([n for n in done if listed[n][1]]) >= (90 if os.geteuid() == 0 else 50), "by the secret, the file, the signal, the packet that came",
         len([n for n in done if listed[n][1]]))
    # Of root: this machine's kernel lacks some modules, and some calls were given what they refuse so that nothing happens.
    t.ok(len(listed) - len(done) <= (50 if os.geteuid() == 0 else 130), "%d prove nothing here, as they fail without a sandbox, too" % (len(listed) - len(done)),
         *sorted("%s %s" % (n, rows[n][:2]) for n in set(listed) - done))
    return done


def judge(t, run, rows, listed, proven):
    got = len(rows) == len(listed)
    t.ok(got and run.process.returncode == 0, "%s: all were tried" % run.name, run.process.returncode, run.err[-2000:], sorted(set(listed) - set(rows))[:10])
    active = {r[3] for r in rows.values() if r[3]}
    want = "landlock_%s" % run.landlock
    t.ok(len(active) == 1 and (want in active.pop().split() if run.landlock != NONE else "landlock" not in active.pop()),
         "%s: that much was active" % run.name, active)
    wrong, open_ = [], []
    for n, (verdict, detail, witness, _) in sorted(rows.items()):
        holds, natural, what = listed[n]
        must = must_hold(holds, run.role, run.landlock)
        held = verdict in HELD
        if must and (not held and verdict != "skipped" or witness):
            wrong.append("%s (%s): %s %s, seen: %s" % (n, what, verdict, detail, seen(witness)))
        if not held and verdict not in ("skipped", "done"):
            wrong.append("%s (%s): %s %s: neither refused nor killed" % (n, what, verdict, detail))
        # What the manual calls open must be: a table that says less than is true is wrong, too.
        if must is False and held and n in proven and not run.user:
            open_.append("%s (%s): %s %s" % (n, what, verdict, detail))
    t.ok(not wrong, "%s: what must hold holds, neither master nor sibling is touched" % run.name, *wrong)
    t.ok(not open_, "%s: what is said to be open is" % run.name, *open_)


def cell(row):
    if row is None:
        return "-"
    verdict, detail, _, _ = row
    return {"refused": detail, "killed": "KILL " + detail.replace("SYS", "").strip() if detail != "SYS" else "KILL", "done": "DONE"}.get(verdict, verdict)


def table(t, results, proven):
    """Every attempt, every role and level; ? marks what proves nothing."""
    columns = [(r.role, r.landlock) for r in results if r.landlock in (FULL, OLD, NONE) and not r.user and "kill" not in r.name]
    rows = {(r.role, r.landlock): results[r] for r in results if not r.user and "kill" not in r.name}
    t.diag("%-26s %s" % ("attempt", " ".join("%-17s" % ("%s/%s" % (c[0][:7], c[1])) for c in columns)))
    for n in next(iter(rows.values())):
        t.diag("%-26s %s" % (n + ("" if n in proven else " ?"), " ".join("%-17s" % cell(rows[c].get(n))[:17] for c in columns)))


def summary(t, results):
    for r, rows in results.items():
        done = sorted(n for n, x in rows.items() if x[0] == "done")
        t.diag("%s: %d refused, %d killed, %d done: %s" % (r.name, sum(x[0] == "refused" for x in rows.values()),
               sum(x[0] == "killed" for x in rows.values()), len(done), " ".join(done)))


def escapes(t, roles, kill, unprivileged):
    """The control run, then each of these roles at each level; kill: under the plain default, too; unprivileged: as no root, without Landlock."""
    need(t, "t/lib/escape")
    if SANITIZED:
        # a sanitizer's own threads, signals and memory are not a worker's
        t.skip_all("a worker under a sanitizer has no sandbox")
    base = folder("iis-escape.")
    os.chmod(base, 0o755)
    listed = attempts()
    plan = [dict(role="control")] + [dict(role=r, landlock=k) for r in roles for k in (FULL, OLD, NONE)]
    plan += [dict(role=r, unlisted="kill") for r in kill]
    if os.geteuid() == 0:
        plan += [dict(role=r, landlock=NONE, user=NOBODY) for r in unprivileged]
    results, going, proven = {}, [], set()
    for p in plan + [None] * AT_ONCE:
        if p:
            going.append(Run(base, **p))
        if len(going) < AT_ONCE and p or not going:
            continue
        run = going.pop(0)
        rows = run.rows()
        if run.role == "control":
            proven = control(t, listed, rows)
            continue
        results[run] = rows
        judge(t, run, rows, listed, proven)
    table(t, results, proven)
    summary(t, results)
