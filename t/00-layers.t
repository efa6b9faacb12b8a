#!/usr/bin/python3
"""Who may know whom: includes point one way, each program links its own libraries and no others, files say what they are."""
import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, SANITIZED, Tap, need, program, run  # noqa: E402

# A folder may include from these folders only. Longest folder first.
MAY = [
    ("master/ctl", {"common", "master", "master/ctl"}),
    ("master/http", {"common", "master/http"}),
    ("master", {"common", "master"}),
    ("worker/source", {"common", "worker", "worker/source"}),
    ("worker", {"common", "worker", "worker/source"}),
    ("common", {"common"}),
]
# System headers that only the named folders may see: the libraries that a trust domain must not have.
ONLY = [
    (r"librdkafka/", ("master",)),
    (r"microhttpd\.h", ("master/http",)),
    (r"curl/|libssh2|libxml/", ("worker",)),
    (r"yaml\.h", ("common",)),
]
LIBC = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libpthread.so.0"}
SANITIZER = re.compile(r"^lib(asan|ubsan|tsan|lsan|gcc_s|stdc\+\+)\.so")
# Direct NEEDED of each program; --as-needed leaves out what it does not use.
NEEDED = {
    "iis-pollerd": {"librdkafka.so.1", "libjson-c.so.5", "libyaml-0.so.2", "libcrypto.so.3", "libseccomp.so.2"},
    "iis-pollerctl": {"librdkafka.so.1", "libjson-c.so.5", "libyaml-0.so.2", "libcrypto.so.3", "libseccomp.so.2"},
    "iis-poller-worker": {"libcurl.so.4", "libssh2.so.1", "libxml2.so.2", "libjson-c.so.5", "libyaml-0.so.2", "libcrypto.so.3", "libseccomp.so.2"},
    "iis-poller-http": {"libmicrohttpd.so.12", "libjson-c.so.5", "libyaml-0.so.2", "libcrypto.so.3", "libseccomp.so.2"},
}
FORBIDDEN = {
    "iis-pollerd": r"libcurl|libssh|libxml|libexpat|libmicrohttpd|libgnutls|libsystemd|libevent|libglib",
    "iis-pollerctl": r"libcurl|libssh|libxml|libexpat|libmicrohttpd|libgnutls|libsystemd|libevent|libglib",
    # libcurl brings libsasl2 with libldap; no scheme of either is ever allowed
    "iis-poller-worker": r"librdkafka|libmicrohttpd|libsystemd|libevent|libglib",
    "iis-poller-http": r"librdkafka|libcurl|libssh|libxml|libexpat|libsystemd|libevent|libglib",
}


def folder_of(path):
    for name, allowed in MAY:
        if path.startswith(name + "/"):
            return name, allowed
    return None, None


def sources():
    found = []
    for top in ("common", "master", "worker"):
        for pattern in ("**/*.c", "**/*.h", "**/*.def"):
            found += glob.glob(os.path.join(ROOT, top, pattern), recursive=True)
    return sorted(os.path.relpath(p, ROOT) for p in set(found))


def breaches(path, text):
    """The includes of this file that it may not have; shown to work below on texts that break each rule."""
    own, allowed = folder_of(path)
    wrong = []
    for kind, target in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.M):
        if kind == '"':
            if target == "banned.h" or "/" not in target:
                wrong.append("%s: \"%s\" is not a full path from the root" % (path, target))
            elif os.path.dirname(target) not in allowed:
                wrong.append("%s: %s includes \"%s\"" % (path, own, target))
        else:
            for pattern, owners in ONLY:
                if re.match(pattern, target) and not any(own == o or own.startswith(o + "/") for o in owners):
                    wrong.append("%s: %s includes <%s>" % (path, own, target))
            if re.match("librdkafka/", target) and own == "master/http":
                wrong.append("%s: the status child includes <%s>" % (path, target))
    return wrong


def main(t):
    for path, line, bad in [
            ("common/a.c", '#include "master/master.h"', True), ("common/a.c", '#include "common/buf.h"', False),
            ("worker/a.c", '#include "master/master.h"', True), ("worker/source/a.c", '#include <librdkafka/rdkafka.h>', True),
            ("master/a.c", '#include "worker/worker.h"', True), ("master/a.c", '#include <curl/curl.h>', True),
            ("master/http/a.c", '#include "master/master.h"', True), ("master/http/a.c", "#include <librdkafka/rdkafka.h>", True),
            ("master/a.c", '#include "master/ctl/ctl.h"', True), ("master/ctl/a.c", '#include "master/kafka.h"', False),
            ("worker/a.c", '#include "buf.h"', True), ("master/a.c", "#include <librdkafka/rdkafka.h>", False)]:
        t.is_(bool(breaches(path, line + "\n")), bad, "the check itself: %s in %s" % (line.replace("#", ""), path))

    wrong, unbanned, headless, marks = [], [], [], []
    files = sources()
    for path in files:
        with open(os.path.join(ROOT, path)) as f:
            text = f.read()
        wrong += breaches(path, text)
        if path.endswith(".c"):
            includes = re.findall(r'^#include\s*[<"]([^>"]+\.h)[>"]', text, re.M)
            if not includes or includes[-1] != "common/banned.h":
                unbanned.append(path)
            if not text.startswith("/*"):
                headless.append(path)
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b|not implemented", text):
            marks.append(path)
    t.ok(len(files) > 60, "the tree is there", "%d files" % len(files))
    t.ok(not wrong, "includes point one way only", "\n".join(wrong))
    t.ok(not unbanned, "every .c ends its includes with common/banned.h", "\n".join(unbanned))
    t.ok(not headless, "every .c says first what it is", "\n".join(headless))
    t.ok(not marks, "no unfinished marks", "\n".join(marks))

    need(t, *NEEDED)
    for name in sorted(NEEDED):
        code, out, err = run("readelf", "-dW", program(name))
        direct = set(re.findall(r"\(NEEDED\).*\[(.+?)\]", out)) - LIBC
        direct = {d for d in direct if not SANITIZER.match(d)}
        t.ok(code == 0 and direct <= NEEDED[name], "%s links only its own libraries" % name, "more: %s" % (direct - NEEDED[name]))
        code, out, err = run("ldd", program(name))
        mapped = {os.path.basename(x.split()[0]) for x in out.splitlines() if x.strip()} - LIBC - {"linux-vdso.so.1"}
        mapped = {d for d in mapped if not SANITIZER.match(d)}
        bad = [d for d in mapped if re.match(FORBIDDEN[name], d)]
        t.ok(code == 0 and not bad, "%s maps no library of another trust domain" % name, bad)
        t.diag("%s: %d shared objects beyond libc: %s" % (name, len(mapped), " ".join(sorted(mapped))))
    if not SANITIZED:
        code, out, err = run("nm", "-D", "--undefined-only", program("iis-poller-worker"))
        t.ok(code == 0 and not re.search(r"\b(rd_kafka|MHD_)", out), "the worker calls nothing of Kafka or of the HTTP server")


with Tap() as tap:
    main(tap)
