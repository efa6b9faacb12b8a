#!/usr/bin/python3
"""What is built: hardened programs, a right install, a make that does what is needed and no more."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, SANITIZED, Tap, clean_env, folder, need, program, run  # noqa: E402

PROGRAMS = ("iis-pollerd", "iis-pollerctl", "iis-poller-worker", "iis-poller-http")


def hardening(t, name):
    _, header, _ = run("readelf", "-hW", program(name))
    _, dynamic, _ = run("readelf", "-dW", program(name))
    _, segments, _ = run("readelf", "-lW", program(name))
    _, notes, _ = run("readelf", "-nW", program(name))
    _, symbols, _ = run("readelf", "--dyn-syms", "-W", program(name))
    t.ok(re.search(r"Type:\s+DYN", header) and re.search(r"FLAGS_1.*\bPIE\b", dynamic), "%s: PIE" % name)
    t.ok("GNU_RELRO" in segments and re.search(r"FLAGS_1.*\bNOW\b|BIND_NOW", dynamic), "%s: full RELRO" % name)
    t.ok(re.search(r"GNU_STACK.*\sRW\s", segments), "%s: no executable stack" % name)
    t.ok("RPATH" not in dynamic and "RUNPATH" not in dynamic, "%s: no rpath" % name)
    t.ok("__stack_chk_fail" in symbols, "%s: stack protector" % name)
    if not SANITIZED:
        t.ok(re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", "")), "%s: FORTIFY" % name)
    if " X86-64" in header:
        # Debian's own start files have no note, so the linker would drop it: SHSTK is told to it, IBT stays with our objects.
        t.ok("SHSTK" in notes or SANITIZED, "%s: shadow stack" % name, notes)


def copy_tree(to):
    """What git knows, as it is on disk now."""
    code, out, _ = run("git", "-C", ROOT, "ls-files", "-z")
    if code or not out:
        return False
    for p in out.split("\0"):
        if p and os.path.isfile(os.path.join(ROOT, p)):
            os.makedirs(os.path.dirname(os.path.join(to, p)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, p), os.path.join(to, p))
    return True


def main(t):
    need(t, *PROGRAMS)
    for name in PROGRAMS:
        hardening(t, name)

    for name in PROGRAMS:
        code, out, err = run(program(name), "--version")
        t.ok(code == 0 and re.match(r"^%s \d+\.\d+\.\d+" % name, out) and out.count("\n") == 1, "%s --version: one line" % name,
             code, out, err)
    code, out, err = run(program("iis-pollerd"), "-V")
    t.ok(code == 0 and "librdkafka" in out and "json-c" in out, "-V names the libraries", out, err)
    code, out, err = run(program("iis-pollerd"), "--help")
    t.ok(code == 0 and all(x in out for x in ("-c", "-o", "-t", "-T", "--online", "--demo", "-V")), "--help names each option", out)
    code, out, err = run(program("iis-pollerd"), "--no-such-option")
    t.ok(code == 64 and err, "an unknown option: exit 64", code, err)
    code, out, err = run(program("iis-poller-worker"))
    t.ok(code not in (0, None) and code > 0 and err, "the worker by hand says what it is for and ends", code, err)

    objects = [os.path.join(d, f) for d, _, fs in os.walk(os.path.join(ROOT, os.environ.get("BUILD", "build"))) for f in fs if f.endswith(".o") and "/t/" not in d and "/fuzz" not in d]
    without = [o for o in objects if not re.search(r"IBT, SHSTK", run("readelf", "-n", o)[1])]
    t.ok(objects and (SANITIZED or not without), "CET in each of our %d objects" % len(objects), without)

    env = clean_env({"HOME": os.environ.get("HOME", "/")})
    if SANITIZED:
        return
    code, out, err = run("make", "-C", ROOT, "-n", env=env)
    t.ok(code == 0 and not re.search(r"\b(gcc|cc|ar) ", out), "make when all is built: nothing to do", out[:1000], err)

    dest = folder()
    code, out, err = run("make", "-C", ROOT, "install", "DESTDIR=" + dest, "PREFIX=/usr", "SYSCONFDIR=/etc", env=env, timeout=300)
    t.ok(code == 0, "make install DESTDIR=", err)
    files = sorted(os.path.relpath(os.path.join(d, f), dest) for d, _, fs in os.walk(dest) for f in fs)
    t.diag(" ".join(files))
    want = ["usr/sbin/iis-pollerd", "usr/bin/iis-pollerctl", "usr/libexec/iis-poller/iis-poller-worker",
            "usr/libexec/iis-poller/iis-poller-http", "etc/iis-poller/iis-poller.yaml"]
    have = {os.path.basename(f): f for f in files}
    for w in want:
        t.ok(w in files, "installed: %s" % w, files)
    for page in ("iis-pollerd.8", "iis-pollerctl.8", "iis-poller-worker.8", "iis-poller-http.8", "iis-poller.yaml.5",
                 "iis-poller-job.5", "iis-poller.7"):
        t.ok(any(re.search(r"/man\d/%s(\.gz)?$" % re.escape(page), f) for f in files), "installed: %s" % page)
    t.ok(len([f for f in files if f.endswith(".json") and "schema" in f]) >= 4, "installed: the JSON Schemas", files)
    t.ok(not [f for f in files if f.startswith(("usr/local", "work", "tmp"))], "nothing beside PREFIX and SYSCONFDIR")
    for f in files:
        mode = os.stat(os.path.join(dest, f)).st_mode & 0o7777
        if mode & 0o6022:
            t.ok(False, "mode of %s is %o" % (f, mode))
    code, out, err = run(os.path.join(dest, have.get("iis-pollerd", "none")), "-t", "-c",
                         os.path.join(dest, "etc/iis-poller/iis-poller.yaml"))
    t.ok(code == 0, "the installed file passes the installed daemon's -t", out, err)

    # The installed daemon finds its own worker and status program, in whatever prefix it was put.
    p = subprocess.Popen([os.path.join(dest, "usr/sbin/iis-pollerd"), "--demo", "-o", "workers.count=1", "-o", "http.listen=127.0.0.1:0"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    seen = []
    for line in p.stderr:
        seen.append(line)
        if '"worker_ready"' in line or '"start_failed"' in line:
            break
    p.terminate()
    p.stderr.read()
    t.is_(p.wait(60), 0, "the installed daemon runs and stops")
    t.ok('"worker_ready"' in seen[-1], "and its worker, too", *seen[-2:])

    # All at once from nothing: no rule leans on the order in which another happens to run.
    copy = folder()
    if t.ok(copy_tree(copy), "the tree can be copied, to be built at once"):
        code, out, err = run("make", "-C", copy, "-j8", env=env, timeout=300)
        t.ok(code == 0 and all(os.access(os.path.join(copy, "build", p), os.X_OK) for p in PROGRAMS), "make -j8 from nothing", out[-500:], err[-1500:])
        code, out, err = run("make", "-C", copy, "-n", env=env)
        t.ok(code == 0 and not re.search(r"\b(gcc|cc|ar) ", out), "and then nothing is left to do", out[:1000], err)
        if code == 0:
            shutil.rmtree(os.path.join(copy, "build"))

    # A header is touched: what includes it is built again, the rest is not. In a copy, on one small library.
    copy = folder()
    if t.ok(copy_tree(copy), "the tree can be copied"):
        objects = ("build/common/err.o", "build/common/units.o")
        code, out, err = run("make", "-C", copy, *objects, env=env, timeout=120)
        t.ok(code == 0, "objects build in another folder", err)
        stamp = os.stat(os.path.join(copy, objects[0])).st_mtime
        os.utime(os.path.join(copy, "common/errors.def"), (stamp + 10, stamp + 10))
        code, out, err = run("make", "-C", copy, "-n", *objects, env=env)
        t.ok("common/err.c" in out, "errors.def touched: err.c is built again", out)
        os.utime(os.path.join(copy, "common/units.h"), (stamp + 20, stamp + 20))
        code, out, err = run("make", "-C", copy, "-n", "build/common/units.o", env=env)
        t.ok("common/units.c" in out, "units.h touched: units.c is built again", out)
        for f in objects:
            os.utime(os.path.join(copy, f), (stamp + 30, stamp + 30))
        code, out, err = run("make", "-C", copy, "-n", *objects, env=env)
        t.ok("-c -o" not in out, "newer objects are left alone", out)
        with open(os.path.join(copy, "common/err.c"), "a") as f:
            f.write("\nstatic int never_used;\n")
        os.utime(os.path.join(copy, "common/err.c"), (stamp + 60, stamp + 60))
        code, out, err = run("make", "-C", copy, objects[0], env=env)
        t.ok(code != 0 and "never_used" in err, "a warning is an error", err)


with Tap() as tap:
    main(tap)
