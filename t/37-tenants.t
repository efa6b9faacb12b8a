#!/usr/bin/python3
"""Tenants: what each setting of an entry refuses or honours, a reload, quotas that delay and lose nothing, shares of the workers."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, folder, generated, need  # noqa: E402

LOGIN = {"username": "u", "path": "/in", "host_key_check": "off"}


def sftp(host, **more):
    return dict({"source_type": "sftp", "host": host, "password": "pw"}, **LOGIN, **more)


def refused(t, w, what, org, source, setting, **fields):
    r, events, letters = w.run(source, org_id=org, **fields)
    t.ok(r["error"]["class"] == "policy" and setting in r["error"]["message"] and not events and len(letters) == 1
         and letters[0]["failure_info"]["error_type"] == "policy", "%s: refused as policy, by %s" % (what, setting), r.json, [x.json for x in letters])


def policy(t, b):
    base = folder()
    for name in ("acme", "beta"):
        os.makedirs(os.path.join(base, name))
        with open(os.path.join(base, name, name + ".csv"), "w") as f:
            f.write("x\n")
    w = World(b)
    d = Daemon(w, {"local.allowed_roots": [base], "network.allow_unknown_hosts": True, "retry.max_attempts": 0, "egress.allow": ["127.0.0.0/8"],
                   "tenants.default": {"source_types": ["dummy", "local"], "roots": [base + "/beta"]},
                   "tenants.acme": {"source_types": ["local", "sftp"], "roots": [base + "/acme"], "hosts": ["127.0.0.1", "*.acme.example"],
                                    "credentials": ["acme-*"], "credentials_inline": False, "timeout_max": "5s"},
                   "tenants.bound": {"topics": ["another-topic"]}, "tenants.open": {"source_types": [], "roots": []}})
    local = lambda name: {"source_type": "local", "path": os.path.join(base, name)}  # noqa: E731
    ref = lambda host, name: dict(LOGIN, source_type="sftp", host=host, port=9, password_ref=name)  # noqa: E731
    refused(t, w, "a source type", "acme", generated(1), "tenants.acme.source_types")
    refused(t, w, "another's root", "acme", local("beta"), "tenants.acme.roots")
    refused(t, w, "the root of all", "acme", local("."), "tenants.acme.roots")
    refused(t, w, "a host", "acme", ref("127.0.0.2", "acme-a"), "tenants.acme.hosts")
    refused(t, w, "another's secret", "acme", ref("127.0.0.1", "beta-a"), "tenants.acme.credentials")
    refused(t, w, "a secret in the job", "acme", sftp("127.0.0.1"), "tenants.acme.credentials_inline")
    refused(t, w, "a timeout", "acme", local("acme"), "tenants.acme.timeout_max", deadline=6)
    refused(t, w, "a tenant of another topic", "bound", generated(1), "tenants.bound.topics")
    refused(t, w, "who has no entry", "stranger", sftp("127.0.0.1"), "tenants.default.source_types")
    refused(t, w, "who has no entry", "stranger", local("acme"), "tenants.default.roots")
    r, events, letters = w.run([local("acme"), local("beta")], org_id="acme")
    t.ok(r["error"]["class"] == "policy" and not events, "one source of several is refused: the job is", r.json)
    r, events, letters = w.run(local("acme"), org_id="acme", deadline=5)
    t.is_(([e["file_name"] for e in events], letters), (["acme.csv"], []), "what is allowed is served")
    os.symlink("../beta", os.path.join(base, "acme", "link"))
    os.symlink(os.path.join(base, "beta"), os.path.join(base, "acme", "far"))
    for name in ("link", "far"):
        for how in ("files", "all"):
            r, events, letters = w.run(dict(local("acme/" + name), follow_symlinks=how), org_id="acme")
            t.ok(r["error"]["class"] == "policy" and not events, "a link (%s) from its root to another's is not followed (%s)" % (name, how), r.json)
    r, events, letters = w.run(ref("127.0.0.1", "acme-a"), org_id="acme")
    t.is_(r["error"]["class"], "auth", "an allowed secret on an allowed host: only the file is missing")
    for org in ("stranger", "bound-not"):
        r, events, letters = w.run(local("beta"), org_id=org)
        t.is_([e["file_name"] for e in events], ["beta.csv"], "%s: what default allows" % org)
    r, events, letters = w.run(local("acme"), org_id="open")
    t.is_(len(events), 1, "an empty list in an entry lifts what default says")

    since = d.mark()
    d.write_conf(tenants__acme={"roots": [base + "/beta"], "source_types": ["local"]}, tenants__bound={"topics": [w.topics["jobs"]]})
    d.signal(signal.SIGHUP)
    d.wait_log("config_reloaded", since=since)
    refused(t, w, "after a reload, its former root", "acme", local("acme"), "tenants.acme.roots")
    r, events, letters = w.run(local("beta"), org_id="acme")
    t.is_([e["file_name"] for e in events], ["beta.csv"], "its new one is served")
    r, events, letters = w.run(generated(1), org_id="bound")
    t.is_(len(events), 1, "the tenant is bound to this topic now")
    with open(d.file) as f:
        text = f.read()
    since = d.mark()
    with open(d.file, "w") as f:
        f.write(text.replace('"source_types": ["local"]', '"source_types": ["lcoal"]'))
    d.signal(signal.SIGHUP)
    x = d.wait_log("config_reload_failed", since=since)
    t.ok("tenants.acme.source_types" in x["error"] and "did you mean local" in x["error"], "a wrong entry is refused, the old ones hold", x["error"])
    r, events, letters = w.run(local("beta"), org_id="acme")
    t.is_(len(events), 1, "as before")
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended + in hand")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    b = MockBroker(t)
    for part in (policy,):
        t.part(part, b)


with Tap() as tap:
    main(tap)
