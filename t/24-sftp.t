#!/usr/bin/python3
"""sftp, against OpenSSH: what is listed, how the poller logs in, whom it believes, and that a cut listing is never a whole one."""
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import sshd  # noqa: E402
import trees  # noqa: E402
from poller import Daemon, MockBroker, SANITIZED, SLOW, Tap, World, conservation, folder, need, wait_for  # noqa: E402
from servers import Proxy  # noqa: E402
from sshd import PASSPHRASE, PASSWORD, Sshd, USER  # noqa: E402

CONF = {"egress.allow": ["127.0.0.0/8"], "retry.max_attempts": 0, "workers.count": 2}


def failed(t, r, e, cls, what, *words):
    """A failed job of this class whose message holds these words, and no event of it."""
    error = r["error"] or {}
    return t.ok(r["event_type"] == "job.failed" and error.get("class") == cls and not e and all(x in error.get("message", "") for x in words),
                what, "wanted %s with %r" % (cls, words), r.raw, "%d events" % len(e))


def good(t, r, e, n, what):
    return t.ok(r["event_type"] == "job.completed" and r["matched"] == n == len(e), what, r.raw, "%d events" % len(e))


def paths(events, root):
    base = os.fsencode(root) + b"/"
    got = [trees.event_path(x) for x in events]
    return [p[len(base):] if p.startswith(base) else p for p in got]


def small():
    """A folder with two files and one below, for what is not about listing."""
    root = folder("iis-sftp.")
    os.makedirs(root + "/sub")
    for name, n in (("one.csv", 5), ("two.csv", 7), ("sub/three.csv", 9)):
        with open(os.path.join(root, name), "w") as f:
            f.write("x" * n)
    return root


class World24:
    def __init__(self, t):
        self.w = World(MockBroker(t), event_partitions=4)
        self.keys = sshd.Keys()
        self.server = Sshd(self.keys)
        self.inside = Sshd(self.keys, internal=True)
        self.daemon = Daemon(self.w, CONF)
        self.root = small()

    def run(self, server, path, source=None, timeout=60, **fields):
        return self.w.run(server.source(path, **(source or {})), timeout=timeout, **fields)


# ---- listings --------------------------------------------------------------------------------------------------------

def nasty(t, x):
    tree = trees.nasty()
    for what, server in (("external sftp-server", x.server), ("internal-sftp", x.inside)):
        r, e, _ = x.run(server, tree.root, {"recursive": True}, filters={"include_hidden": True})
        t.same_set(paths(e, tree.root), tree.paths(include_hidden=True), "%s: the nasty tree, %d files, byte by byte" % (what, len(e)))
    for follow in ("files", "all"):
        r, e, _ = x.run(x.server, tree.root, {"recursive": True, "follow_symlinks": follow}, filters={"include_hidden": True})
        want = tree.files(follow=follow, include_hidden=True)
        got = {(p, i["file_size"], "link" if i["is_symlink"] else "file") for p, i in zip(paths(e, tree.root), e)}
        t.same_set(got, want, "follow_symlinks: %s" % follow)
        t.ok(r["event_type"] == "job.completed", "and the job is complete", r.raw)
    links = {p: i for p, i in zip(paths(e, tree.root), e) if i["is_symlink"]}
    i = links[b"links/to file.csv"]
    t.is_((i["link_target"], i["source"]["link_target"], i["source"]["type"]), ("real.csv", "real.csv", "symlink"), "a followed link says where it leads")
    r, e, _ = x.run(x.server, tree.root, {"recursive": True}, filters={"include_hidden": True, "types": ["dir", "symlink"]})
    base, want = os.fsencode(tree.root), set()
    for top, names, files in os.walk(base):
        for p in [os.path.join(top, n) for n in names + files]:
            if os.path.islink(p):
                want.add((p[len(base) + 1:], "symlink", os.readlink(p)))
            elif os.path.isdir(p):
                want.add((p[len(base) + 1:], "dir", None))
    got = [(p, i["entry_type"], i["link_target"] and i["link_target"].encode("utf-8")) for p, i in zip(paths(e, tree.root), e)]
    fold = lambda s: {(p, k, to and to.decode("utf-8", "replace").encode()) for p, k, to in s}  # noqa: E731
    t.same_set([(p, k, to) for p, k, to in fold(got)], fold(want), "directories and links as themselves, with what links hold")
    t.is_({(i["entry_type"], i["source"]["type"], i["is_symlink"], i["file_size"], bool(i["modified_at"])) for i in e},
          {("dir", "dir", False, None, True), ("symlink", "symlink", True, None, True)}, "without a size, with their own times")
    r, e, _ = x.run(x.server, tree.root)
    t.same_set(paths(e, tree.root), tree.paths(recursive=False), "not recursive, no hidden names: the folder's own")


def attributes(t, x):
    p = os.path.join(x.root, "attr.dat")
    with open(p, "w") as f:
        f.write("12345")
    os.chmod(p, 0o4640)
    os.utime(p, (1700000001, 1700000000))
    r, e, _ = x.run(x.server, x.root, file_pattern="attr.dat")
    os.unlink(p)
    if not good(t, r, e, 1, "one file"):
        return
    s = dict(e[0]["source"])
    longname, banner = s.pop("longname"), s.pop("server_banner")
    t.is_(s, {"host": "127.0.0.1", "port": x.server.port, "username": USER, "path": x.root, "realpath": os.path.realpath(x.root), "uid": os.getuid(), "gid": os.getgid(),
              "owner": USER, "group": s["group"], "mode": "4640", "permissions": "rwSr-----", "atime": "2023-11-14T22:13:21Z", "mtime": "2023-11-14T22:13:20Z",
              "type": "file", "host_key_fingerprint": x.server.fingerprints["ed25519"]}, "source{} is what the server says")
    t.ok(longname.endswith(" attr.dat") and banner.startswith("SSH-2.0-OpenSSH"), "longname and banner", s)
    t.is_((e[0]["file_size"], e[0]["modified_at"], e[0]["modified_precision"], e[0]["file_url"]),
          (5, "2023-11-14T22:13:20Z", "s", "sftp://127.0.0.1:%d%s/attr.dat" % (x.server.port, os.path.realpath(x.root))), "size, time, URL")
    t.ok(USER not in e[0]["file_url"] and x.keys.private["ed25519"].split("\n")[1] not in "".join(x.daemon.raw), "no user in the URL, no key in the log")
    t.is_(r["sources"][0]["peer"], "127.0.0.1:%d" % x.server.port, "the terminal record names the peer")


def places(t, x):
    r, e, _ = x.run(x.server, x.root + "/one.csv")
    good(t, r, e, 1, "the path is a file")
    r, e, _ = x.run(x.server, x.root + "/one.csv", filters={"done_file": "{name}.ok"})
    good(t, r, e, 0, "the path is a file whose done_file is not there")
    open(x.root + "/one.csv.ok", "w").close()
    r, e, _ = x.run(x.server, x.root + "/one.csv", filters={"done_file": "{name}.ok"})
    good(t, r, e, 1, "... and is there")
    os.unlink(x.root + "/one.csv.ok")
    r, e, _ = x.run(x.server, x.root + "/nowhere")
    failed(t, r, e, "not_found", "a path that is not there", "nowhere", "no such file")
    os.mkfifo(x.root + "/fifo")
    r, e, _ = x.run(x.server, x.root + "/fifo")
    failed(t, r, e, "permanent", "a pipe", "neither a directory nor a regular file")
    os.unlink(x.root + "/fifo")
    home = os.path.relpath(x.root, os.path.expanduser("~"))
    if not home.startswith(".."):
        r, e, _ = x.run(x.server, home)
        good(t, r, e, 2, "a path relative to where the server puts the user")
    r, e, _ = x.run(x.server, None, timeout=60, filters={"max_files": 1})
    t.ok(r["event_type"] == "job.completed", "no path: where the server puts the user", r.raw)
    r, e, _ = x.run(x.server, x.root, {"recursive": True}, filters={"max_files": 2})
    t.is_((r["event_type"], r["truncated"], len(e)), ("job.completed", True, 2), "max_files: cut, and said so")
    r, e, _ = x.run(x.server, x.root, {"recursive": True, "max_depth": 1, "min_depth": 1})
    t.same_set(paths(e, x.root), [b"sub/three.csv"], "min_depth and max_depth")
    empty = os.path.join(x.root, "empty")
    os.mkdir(empty)
    r, e, _ = x.run(x.server, empty, {"recursive": True})
    good(t, r, e, 0, "an empty directory is empty, and complete")
    os.rmdir(empty)


def many(t, x):
    tree = trees.big()
    w = World(x.w.broker, event_partitions=4)
    d = Daemon(w, CONF)
    r, e, _ = w.run(x.server.source(tree.root, recursive=True), timeout=180, filters={"max_files": 1234})
    t.is_((r["event_type"], r["truncated"], len({i["file_path"] for i in e})), ("job.completed", True, 1234), "max_files in the midst of it")
    w.push({"job_id": "big", "source_config": x.server.source(tree.root, recursive=True)})
    r = w.result_of("big", 180)
    got = paths([i for i in w.reader("events").drain(900) if i["job_id"] == "big"], tree.root)
    t.same_set(got, trees.big_paths(), "100 directories of 1,000 files: each once")
    t.diag("%.2f s" % r["duration_seconds"])
    w.push({"job_id": "inside", "source_config": x.inside.source(tree.root, recursive=True)})
    r = w.result_of("inside", 180)
    t.is_((r["event_type"], r["matched"]), ("job.completed", 100000), "the same of internal-sftp")
    t.diag("%.2f s" % r["duration_seconds"])
    peak = [_peak(pid) for pid in d.workers().values()]
    t.diag("peak of the workers: %s MiB" % ", ".join("%.1f" % (p / 1048576) for p in peak))
    if not SANITIZED:
        t.ok(peak and max(peak) < 32 << 20, "a worker stays below 32 MiB", peak)
    t.is_(d.stop(), 0, "that daemon stops")


def deep(t, x):
    top = folder("iis-deep.")
    p = top
    for i in range(200):
        p = os.path.join(p, "d%d" % (i % 40))
    os.makedirs(p)
    open(os.path.join(p, "bottom.csv"), "w").close()
    r, e, _ = x.run(x.server, top, {"recursive": True})
    good(t, r, e, 1, "200 levels down")
    shutil.rmtree(top)


def _peak(pid):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def unreadable(t, x):
    """As root nothing is unreadable for an external sftp-server, unless it lost the rights of root."""
    drop = "-dac_override,-dac_read_search,-fowner"
    wrapper = os.path.join(folder(), "sftp-server")
    with open(wrapper, "w") as f:
        f.write("#!/bin/sh\nexec %s%s\n" % ("" if os.geteuid() else "setpriv --inh-caps %s --bounding-set %s " % (drop, drop), sshd.SFTP_SERVER))
    os.chmod(wrapper, 0o755)
    server = Sshd(x.keys, sftp=wrapper)
    root = small()
    os.makedirs(root + "/closed")
    open(root + "/closed/in.csv", "w").close()
    os.symlink("closed/in.csv", root + "/into.csv")
    os.chmod(root + "/closed", 0)
    r, e, _ = x.run(server, root, {"recursive": True})
    t.is_((r["event_type"], sorted(paths(e, root))), ("job.partial", [b"one.csv", b"sub/three.csv", b"two.csv"]), "a directory that may not be read: the rest, partial")
    named = r["sources"][0]["unreadable_entries"]
    t.ok(len(named) == 1 and named[0]["path"].endswith("/closed") and "permission denied" in named[0]["reason"], "and it is named", r.raw)
    r, e, _ = x.run(server, root, {"recursive": True, "on_unreadable": "fail"})
    failed(t, r, e, "auth", "on_unreadable: fail", "/closed", "permission denied")
    r, e, _ = x.run(server, root + "/closed")
    failed(t, r, e, "auth", "the path itself may not be read", "closed", "permission denied")
    r, e, _ = x.run(server, root, {"follow_symlinks": "files"})
    t.ok(r["event_type"] == "job.partial" and r["sources"][0]["unreadable"] == 1 and len(e) == 2, "a link that may not be followed is named", r.raw)
    server.stop()


# ---- login -----------------------------------------------------------------------------------------------------------

def keys(t, x):
    k = x.keys.private

    def login(name, what, **more):
        r, e, _ = x.run(x.server, x.root, dict({"private_key": k[name]}, **more))
        return r, e, what
    for name, more in (("ed25519", {}), ("ecdsa", {}), ("ecdsa521", {}), ("ecdsa_pkcs8", {}), ("ed25519_enc", {"private_key_passphrase": PASSPHRASE}),
                       ("ecdsa_pem_enc", {"private_key_passphrase": PASSPHRASE})):
        r, e, _ = login(name, "", **more)
        good(t, r, e, 2, "login by the key %s" % name)
    for name in ("ed25519_enc", "ecdsa_pem_enc"):
        r, e, _ = login(name, "")
        failed(t, r, e, "auth", "%s without its passphrase" % name, "private_key_passphrase is needed")
    r, e, _ = login("ecdsa_pem_enc", "", private_key_passphrase="wrong")
    failed(t, r, e, "auth", "an encrypted PEM key with a wrong passphrase", "does not open")
    r, e, _ = login("ed25519_enc", "", private_key_passphrase="wrong")
    failed(t, r, e, "auth", "an encrypted OpenSSH key with a wrong passphrase", "private")
    for name, more in (("rsa", {}), ("rsa_enc", {"private_key_passphrase": PASSPHRASE})):
        r, e, _ = login(name, "", **more)
        failed(t, r, e, "permanent", "an RSA key (%s) is refused with the remedy" % name, "RSA", "ed25519 or ecdsa", "PubkeyAcceptedAlgorithms")
    r, e, _ = login("stranger", "")
    failed(t, r, e, "auth", "a key that the server does not know", USER, "publickey was refused")
    r, e, _ = x.run(x.server, x.root, {"private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"})
    failed(t, r, e, "auth", "a damaged key", "damaged")
    r, e, _ = x.run(x.server, x.root, {"private_key": None, "password": "wrong"})
    failed(t, r, e, "auth", "a password where the server takes keys alone", "password is not offered")
    r, e, _ = x.run(x.server, x.root, {"auth_methods": "password"})
    failed(t, r, e, "auth", "auth_methods leaves the key out", "no secret for password")
    old = Sshd(x.keys, "PubkeyAcceptedAlgorithms +ssh-rsa")
    for name, more in (("rsa", {}), ("rsa_enc", {"private_key_passphrase": PASSPHRASE})):
        r, e, _ = x.run(old, x.root, dict({"private_key": k[name]}, **more))
        good(t, r, e, 2, "the same key (%s), where the server takes ssh-rsa" % name)
    old.stop()


def passwords(t, x):
    if not sshd.passwords():
        t.skip("passwords", "not root, or no mount namespaces")
        return
    plain, pam = Sshd(x.keys, password=True), Sshd(x.keys, pam=True)
    no_key = {"private_key": None}
    for what, server in (("password", plain), ("keyboard-interactive", pam)):
        r, e, _ = x.run(server, x.root, dict(no_key, password=PASSWORD))
        good(t, r, e, 2, "login by %s" % what)
        r, e, dl = x.run(server, x.root, dict(no_key, password="wrong-" + PASSWORD))
        failed(t, r, e, "auth", "a wrong one", USER, "%s was refused" % what)
        t.ok(dl and PASSWORD not in dl[0].raw.decode() and r["sources"][0]["attempts"] == 1, "is not tried again, and not shown", dl and dl[0].raw)
    two = Sshd(x.keys, pam=True, password=True)
    for i in range(3):
        r, e, _ = x.run(two, x.root, dict(no_key, password="wrong", retries=5))
        failed(t, r, e, "auth", "where both are offered", "password was refused", "keyboard-interactive would send the same password")
    t.is_((two.count("Failed password"), two.count("Failed keyboard-interactive")), (3, 0), "three jobs with a wrong password, five retries each: three logins that could lock the account")
    r, e, _ = x.run(two, x.root, dict(no_key, password=PASSWORD, auth_methods="keyboard-interactive,password"))
    good(t, r, e, 2, "the other one first")
    chain = Sshd(x.keys, "AuthenticationMethods password,keyboard-interactive", pam=True, password=True)
    r, e, _ = x.run(chain, x.root, dict(no_key, password=PASSWORD))
    good(t, r, e, 2, "a server that wants both, one after the other")
    two.stop()
    chain.stop()
    r, e, _ = x.run(plain, x.root, {"private_key": x.keys.private["stranger"], "password": PASSWORD})
    good(t, r, e, 2, "a key that is refused, then the password")
    short = Sshd(x.keys, "MaxAuthTries 1", password=True)
    r, e, _ = x.run(short, x.root, dict(no_key, password="wrong"))
    failed(t, r, e, "auth", "a server that ends the connection at the first wrong password", "during the login", "Too many authentication failures")
    short.stop()
    both = Sshd(x.keys, "AuthenticationMethods publickey,password", password=True)
    r, e, _ = x.run(both, x.root, {"password": PASSWORD})
    good(t, r, e, 2, "a server that wants the key and then the password")
    t.ok(PASSWORD not in "".join(x.daemon.raw), "no password in the log")
    for s in (plain, pam, both):
        s.stop()


# ---- whom to believe -------------------------------------------------------------------------------------------------------

def host_keys(t, x):
    s = x.server

    def see(what, n=2, **fields):
        r, e, _ = x.run(s, x.root, fields)
        good(t, r, e, n, what)
        return e

    def refuse(what, *words, cls="permanent", invalid=False, **fields):
        r, e, _ = x.run(s, x.root, fields, invalid=invalid)
        failed(t, r, e, cls, what, *words)
    other = Sshd(x.keys)
    fp, theirs = s.fingerprints, other.fingerprints
    for kind in ("ed25519", "ecdsa"):
        e = see("known_hosts has the %s key alone" % kind, known_hosts=s.known_hosts(kind))
        t.is_(e and e[0]["source"]["host_key_fingerprint"], fp[kind], "and that key was proved")
    refuse("known_hosts has the RSA key alone", "host key algorithms", "ed25519", known_hosts=s.known_hosts("rsa"))
    refuse("an unknown server", "not in known_hosts", fp["ed25519"], known_hosts="other.example %s\n" % s.host_keys["ed25519"])
    refuse("a changed key", "changed", known_hosts=other.known_hosts(port=s.port))
    refuse("a changed key, though another type is right", "changed", known_hosts="[127.0.0.1]:%d %s\n" % (s.port, other.host_keys["ed25519"]), host_key_algorithms="ssh-ed25519")
    refuse("a revoked key", "revoked", known_hosts=s.known_hosts() + "@revoked * %s\n" % s.host_keys["ed25519"])
    see("another key is revoked", known_hosts=s.known_hosts() + "@revoked * %s\n" % other.host_keys["ed25519"])
    refuse("a @revoked line that cannot be read", "line 4", "revoked", known_hosts=s.known_hosts() + "@revoked * ssh-ed25519 AAAA=\n")
    see("malformed lines before the right one", known_hosts="garbage\n127.0.0.1 ssh-ed25519 !!!\n" + s.known_hosts())
    t.ok(x.daemon.logged("known_hosts_malformed"), "are told in the log")
    refuse("malformed lines, and no right one", "not in known_hosts", "line 1", known_hosts="garbage\n")
    see("a wildcard", known_hosts="[127.0.0.*]:%d %s\n" % (s.port, s.host_keys["ed25519"]))
    refuse("a negated name", "not in known_hosts", known_hosts="*,![127.0.0.1]:%d %s\n" % (s.port, s.host_keys["ed25519"]))
    see("a name without port", known_hosts="127.0.0.1 %s\n" % s.host_keys["ed25519"])
    hashed = os.path.join(folder(), "known_hosts")
    with open(hashed, "w") as f:
        f.write(s.known_hosts("ecdsa"))
    os.system("ssh-keygen -q -H -f %s >/dev/null 2>&1" % hashed)
    with open(hashed) as f:
        text = f.read()
    t.ok(text.startswith("|1|"), "ssh-keygen hashed the name")
    see("a hashed name", known_hosts=text)
    see("host_keys", known_hosts=None, host_keys=[s.host_keys["ecdsa"]])
    for kind in ("ed25519", "ecdsa"):
        e = see("the %s key is pinned" % kind, known_hosts=None, host_key_check="pin", host_key_fingerprint=fp[kind])
        t.is_(e and e[0]["source"]["host_key_fingerprint"], fp[kind], "and asked for, though it is not the first")
    see("several pins", known_hosts=None, host_key_fingerprint=[theirs["ed25519"], fp["ed25519"]])
    refuse("another server's pin", "not the pinned server", fp["ed25519"], fp["ecdsa"], known_hosts=None, host_key_check="pin", host_key_fingerprint=theirs["ed25519"])
    refuse("the pin is right, known_hosts is not", "changed", known_hosts=other.known_hosts(port=s.port), host_key_fingerprint=fp["ed25519"], host_key_algorithms="ssh-ed25519")
    refuse("the pin of an RSA key", "no common host key algorithms", cls="permanent", known_hosts=None, host_key_fingerprint=fp["rsa"], host_key_algorithms="ssh-rsa")
    refuse("nothing to know the server by", "must be known", cls="invalid_job", known_hosts=None)
    refuse("pin without a pin", "host_key_fingerprint", cls="invalid_job", known_hosts=None, host_key_check="pin")
    refuse("a fingerprint that is none", "SHA256:", cls="invalid_job", host_key_fingerprint="MD5:00:11")
    for check in ("accept-new", "off"):
        refuse("host_key_check: %s" % check, "network.allow_unknown_hosts", cls="policy", known_hosts=None, host_key_check=check)
    other.stop()


def unknown_hosts(t, x):
    d = Daemon(World(x.w.broker), dict(CONF, **{"network.allow_unknown_hosts": True}))
    w = d.world
    other = Sshd(x.keys)
    r, e, _ = w.run(x.server.source(x.root, known_hosts=None, host_key_check="accept-new"))
    good(t, r, e, 2, "accept-new, an unknown server")
    line = d.wait_log("host_key_accepted")
    t.is_((line["fingerprint"], e[0]["source"]["host_key_fingerprint"]), (x.server.fingerprints["ed25519"],) * 2, "its fingerprint is in the log and in the events")
    r, e, _ = w.run(x.server.source(x.root, known_hosts=other.known_hosts(port=x.server.port), host_key_check="accept-new"))
    failed(t, r, e, "permanent", "accept-new, a changed key", "changed")
    r, e, _ = w.run(x.server.source(x.root, known_hosts=other.known_hosts(port=x.server.port), host_key_check="off"))
    good(t, r, e, 2, "off, a changed key")
    r, e, _ = w.run(x.server.source(x.root, known_hosts="@revoked * %s\n" % x.server.host_keys["ed25519"], host_key_check="off"))
    failed(t, r, e, "permanent", "off, a revoked key", "revoked")
    other.stop()
    t.is_(d.stop(), 0, "that daemon stops")


def accepted_once(t, x):
    """accept-new remembers: for the tenant, over a restart, and until an operator takes the line out."""
    conf = dict(CONF, **{"network.allow_unknown_hosts": True})
    d = Daemon(World(x.w.broker), conf)
    w, first, second = d.world, Sshd(x.keys), Sshd(x.keys)
    port, lines = first.port, os.path.join(d.conf["state.dir"], "known_hosts")

    def ask(what, n, cls=None, *words, **fields):
        org = fields.pop("org_id", "acme co")
        r, e, _ = w.run(first.source(x.root, host="LocalHost", known_hosts=None, host_key_check="accept-new", **fields), org_id=org)
        return failed(t, r, e, cls, what, *words) if cls else good(t, r, e, n, what)

    def change():
        """Another server, with other keys, where the first one was."""
        first.hang_up()
        first.stop()
        with open(second.conf) as f:
            text = f.read().replace("Port %d" % second.port, "Port %d" % port)
        second.stop()
        with open(second.conf, "w") as f:
            f.write(text)
        second.port = port
        second.start()
    ask("an unknown server", 2)
    ask("the same once more", 2)
    t.is_(len(d.logged("host_key_accepted")), 1, "is unknown once")
    with open(lines) as f:
        t.is_(f.read(), "[localhost]:%d %s acme co" % (port, first.host_keys["ed25519"]), "what was accepted is a line of a known_hosts file")
    t.is_(os.stat(lines).st_mode & 0o777, 0o640, "that others cannot read")
    change()
    ask("a changed key", 0, "permanent", "accepted before", second.fingerprints["ed25519"])
    ask("for another tenant the server is new", 2, org_id="beta")
    ask("the job itself names the new key", 2, host_keys=[second.host_keys["ed25519"]])
    d.kill()
    d = Daemon(w, conf, keep=d)
    ask("after kill -9 the key is as changed as before", 0, "permanent", "accepted before")
    with open(lines) as f:
        left = [x for x in f.read().splitlines() if not x.endswith(" acme co")]
    with open(lines, "w") as f:
        f.write("\n".join(["# by hand", "garbage"] + left) + "\n")
    code, out, err = d.ctl("reload")
    t.ok(code == 0, "reload", out, err)
    t.is_(d.wait_log("known_hosts_line")["line"], 2, "a line that is none is told")
    ask("the line was taken out: new", 2)
    ask("and remembered", 2)
    ask("for the other tenant it is known still", 2, org_id="beta")
    t.is_(len(d.logged("host_key_accepted")), 1, "only the one was new")
    t.is_(d.stop(), 0, "exit 0")
    os.unlink(lines)
    os.mkdir(lines)
    d = Daemon(w, conf, keep=d, ready=False)
    t.is_(d.wait_exit(), 78, "a memory that cannot be read does not pass for an empty one: the daemon does not start")
    second.stop()


# ---- algorithms ------------------------------------------------------------------------------------------------------------

def algorithms(t, x):
    for what, options, words in (
            ("GCM and ChaCha alone", ("Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com",), ("no common ciphers", "aes256-gcm@openssh.com", "aes256-ctr", "(Ciphers)")),
            ("ETM MACs alone", ("MACs hmac-sha2-256-etm@openssh.com",), ("no common MACs", "hmac-sha2-256-etm@openssh.com", "(MACs)")),
            ("a post-quantum key exchange alone", ("KexAlgorithms sntrup761x25519-sha512@openssh.com",), ("no common key exchanges", "sntrup761", "(KexAlgorithms)"))):
        s = Sshd(x.keys, *options)
        r, e, _ = x.run(s, x.root)
        failed(t, r, e, "permanent", "a server with %s: what is missing and what to do" % what, *words)
        s.stop()
    s = Sshd(x.keys, host_keys=("rsa",))
    r, e, _ = x.run(s, x.root, {"known_hosts": None, "host_key_fingerprint": s.fingerprints["rsa"]})
    failed(t, r, e, "permanent", "a server with an RSA host key alone", "no common host key algorithms", "rsa-sha2-512", "ed25519")
    s.stop()
    r, e, _ = x.run(x.server, x.root, {"ciphers": "aes128-ctr", "macs": "hmac-sha2-256", "kex_algorithms": "ecdh-sha2-nistp256", "host_key_algorithms": "ecdsa-sha2-nistp256", "compression": True})
    good(t, r, e, 2, "chosen algorithms, with compression")
    t.is_(e and e[0]["source"]["host_key_fingerprint"], x.server.fingerprints["ecdsa"], "the host key is of the chosen kind")
    r, e, _ = x.run(x.server, x.root, {"ciphers": "rot13"})
    failed(t, r, e, "permanent", "a cipher that nobody has", "ciphers", "rot13", "aes256-ctr")
    s = Sshd(x.keys, "Subsystem other /bin/false")
    r, e, _ = x.run(s, x.root, {"subsystem": "nothing"})
    failed(t, r, e, "permanent", "a subsystem that is not there", "no subsystem \"nothing\"")
    r, e, _ = x.run(s, x.root, {"subsystem": "other"})
    failed(t, r, e, "truncated", "a subsystem that ends at once", "ended the SFTP session")
    s.stop()
    chatty = os.path.join(folder(), "chatty")
    with open(chatty, "w") as f:
        f.write("#!/bin/sh\necho 'Welcome to this machine!'\nexec %s\n" % sshd.SFTP_SERVER)
    os.chmod(chatty, 0o755)
    s = Sshd(x.keys, sftp=chatty)
    r, e, _ = x.run(s, x.root)
    failed(t, r, e, "protocol", "a login script that prints", "Welcome to this machine!", "login script")
    s.stop()


# ---- kept connections, and what breaks ---------------------------------------------------------------------------------------

def kept(t, x):
    d = Daemon(World(x.w.broker), dict(CONF, **{"workers.count": 1}))
    s = Sshd(x.keys)
    w = d.world

    def logins():
        return s.count("Accepted publickey")

    def ask(path=x.root, **fields):
        r, e, _ = w.run(s.source(path, **fields))
        return good(t, r, e, 2, "a listing (%s)" % (", ".join(fields) or path))
    ask()
    ask()
    ask(x.root + "/./")
    t.is_(logins(), 1, "three tasks, one login")
    s.hang_up()
    ask()
    t.is_(logins(), 2, "a server that closed meanwhile: silently connected anew")
    ask(private_key=x.keys.private["ecdsa"])
    t.is_(logins(), 3, "another key: a connection of its own")
    ask(private_key=x.keys.private["ecdsa"], keepalive=False)
    ask(private_key=x.keys.private["ecdsa"])
    t.is_(logins(), 4, "keepalive: false gives it up")
    r, e, _ = w.run(s.source(x.root, keepalive=False, recursive=True), filters={"max_files": 1})
    t.is_((r["truncated"], len(e)), (True, 1), "a listing that was cut by max_files")
    s.stop()
    r, e, _ = w.run(s.source(x.root))
    failed(t, r, e, "transient", "the server is gone", "127.0.0.1")
    t.is_(d.stop(), 0, "that daemon stops")


def frozen(t, x):
    """A server that stops in the midst: timeouts, keepalives, CANCEL."""
    s = Sshd(x.keys)
    stopped = []

    def freeze():
        # the listener too: nothing of it answers
        for pid in [s.process.pid] + _below(s.process.pid):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    def thaw():
        while stopped:
            try:
                os.kill(stopped.pop(), signal.SIGCONT)
            except ProcessLookupError:
                pass            # it had ended, stopped or not
    freeze()
    start = time.monotonic()
    r, e, _ = x.run(s, x.root, {"connect_timeout": "500ms"})
    failed(t, r, e, "timeout", "a server that says nothing: connect_timeout", "connect_timeout")
    t.ok(time.monotonic() - start < 20 * SLOW, "soon", time.monotonic() - start)
    thaw()
    slow = os.path.join(folder(), "slow")
    with open(slow, "w") as f:
        f.write("#!/bin/sh\nexec sleep 1000\n")
    os.chmod(slow, 0o755)
    z = Sshd(x.keys, sftp=slow)
    r, e, _ = x.run(z, x.root, {"response_timeout": "700ms"})
    failed(t, r, e, "timeout", "a subsystem that says nothing: response_timeout", "response_timeout")
    # the server answers keepalives, the subsystem nothing; then the server is frozen, too
    w = x.w
    before = z.count("subsystem 'sftp'")
    w.push({"job_id": "keepalive", "source_config": z.source(x.root, keepalive_interval="2s", keepalive_count_max=1, response_timeout="60s")})
    wait_for("the session", lambda: z.count("subsystem 'sftp'") > before)
    for pid in _below(z.process.pid):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
    r = w.result_of("keepalive", 60)
    failed(t, r, [], "transient", "a server that does not answer keepalives", "keepalives")
    thaw()
    before = z.count("subsystem 'sftp'")
    w.push({"job_id": "cancel", "source_config": z.source(x.root)})
    wait_for("the session", lambda: z.count("subsystem 'sftp'") > before)
    code, _, _ = x.daemon.ctl("job", "cancel", "cancel")
    r = w.result_of("cancel", 30)
    t.is_((code, r["event_type"]), (0, "job.cancelled"), "CANCEL while the server is silent")
    s.stop()
    z.stop()


def odd_servers(t, x):
    """Servers that are slow of wit, forgetful, wrong or hostile: exact, or refused; never in part."""
    every = ["d%d/f%02d.csv" % (d, f) for d in range(6) for f in range(25)]
    links = ["d%d/l.csv" % d for d in range(6)]

    def ask(fault, number="", **fields):
        s = Sshd(x.keys, sftp="%s %s %s" % (os.path.join(os.path.dirname(os.path.abspath(sshd.__file__)), "odd_sftp.py"), fault, number))
        r, e, _ = x.run(s, "/t", dict({"recursive": True, "response_timeout": "20s"}, **fields))
        s.stop()
        return r, e, sorted(p.decode() for p in paths(e, "/t"))
    for fault, number, what in (("none", "", "a server of the test's own"), ("handles", 2, "one that opens two directories at most"), ("handles", 1, "... or only one"),
                                ("bare", "", "one that tells names alone"), ("reverse", "", "one that answers in another order"), ("mute", "", "one whose statuses have no words"), ("one", "", "one name a reply")):
        r, e, got = ask(fault, number)
        t.ok(r["event_type"] == "job.completed" and got == every and all(i["file_size"] == int(i["file_name"][1:3]) for i in e), what, r.raw, len(got))
    for mode, more in (("readdir", 1000), ("lstat", 0)):
        r, e, got = ask("lies", stat_mode=mode)
        t.ok(r["event_type"] == "job.completed" and got == every and all(i["file_size"] == int(i["file_name"][1:3]) + more for i in e), "READDIR's sizes are wrong, stat_mode %s" % mode, r.raw, len(got))
    r, e, got = ask("reverse", stat_mode="lstat", follow_symlinks="all")
    t.ok(r["event_type"] == "job.completed" and got == sorted(every + links), "stat_mode lstat, with links and answers in another order", r.raw, len(got))
    for fault in ("none", "bare", "reverse"):
        r, e, got = ask(fault, follow_symlinks="all")
        t.ok(r["event_type"] == "job.completed" and got == sorted(every + links) and {i["link_target"] for i in e} == {None, "f00.csv"}, "%s: with links" % fault, r.raw, len(got))
    r, e, got = ask("loop", follow_symlinks="all")
    t.ok(r["event_type"] == "job.completed" and got == sorted(every + links), "a link to a directory above is not entered", r.raw, len(got))
    for fault, number, cls, words in (("empty", "", "protocol", "without names"), ("id", "", "protocol", "not under way"), ("twice", "", "protocol", "not under way"),
                                      ("huge", "", "protocol", "1048576 bytes"), ("version", "", "permanent", "version 6"), ("lost", "", "transient", "connection lost")):
        r, e, got = ask(fault, number)
        failed(t, r, e, cls, "%s: %s" % (fault, cls), words)
    for n in (0, 1, 2, 3, 4, 5, 8, 13, 21, 34, 35):
        r, e, got = ask("end", n)
        failed(t, r, e, "truncated", "gone after %d replies" % n, "ended the SFTP session")
    for fault, want, reason in (("midst", [p for p in every if not p.startswith("d5/")], "READDIR: failure: words of the server"), ("denied", [p for p in every if not p.startswith("d2/")], "permission denied"), ("fails", [p for p in every if not p.startswith("d3/")], "OPENDIR: failure")):
        r, e, got = ask(fault)
        there = [p for p in got if not p.startswith("d5/")] if fault == "midst" else got
        t.ok(r["event_type"] == "job.partial" and there == want and reason in r["sources"][0]["unreadable_entries"][0]["reason"] and r["sources"][0]["unreadable"] == 1,
             "%s: partial, and named" % fault, r.raw, len(got))
    r, e, got = ask("vanish")
    t.ok(r["event_type"] == "job.completed" and got == [p for p in every if p[:2] not in ("d1", "d4")], "directories that vanished are no part of it", r.raw, len(got))
    for fault, n in (("slash", 2), ("nul", 1)):
        r, e, got = ask(fault)
        t.ok(r["event_type"] == "job.partial" and got == every and r["sources"][0]["unreadable"] == n, "%s: names that are none are named" % fault, r.raw, len(got))
    for fault, n in (("typeless", 1), ("untold", 25)):
        r, e, got = ask(fault)
        q = r["sources"][0]
        t.ok(r["event_type"] == "job.partial" and got == [p for p in every if not p.startswith("d3/f%s" % ("00" if n == 1 else ""))] and q["unreadable"] == n and
             "what it is" in q["unreadable_entries"][0]["reason"], "%s: names of which the server does not tell what they are are named" % fault, r.raw, len(got))
    r, e, got = ask("dots")
    t.ok(r["event_type"] == "job.completed" and got == every, "dots: no names", r.raw, len(got))
    r, e, got = ask("stat", follow_symlinks="files")
    t.ok(r["event_type"] == "job.partial" and got == every and r["sources"][0]["unreadable"] == 6, "links that may not be looked at are named", r.raw, len(got))


def breaks(t, x):
    """A small listing, cut and reset at every place: the whole set of files, or none."""
    root = small()
    want = [b"one.csv", b"sub/three.csv", b"two.csv"]
    proxy = Proxy(("127.0.0.1", x.server.port))

    def source(**more):
        return x.server.source(root, port=proxy.port, known_hosts=x.server.known_hosts(port=proxy.port), recursive=True, keepalive=False, **more)
    r, e, _ = x.w.run(source())
    t.same_set(paths(e, root), want, "through the proxy")
    whole = proxy.order()["down"]
    t.diag("%d bytes came from the server" % whole)
    midst = []
    for how, step in (("cut", 50), ("reset", 150)):
        jobs = {}
        outcomes = {}
        for at in range(0, whole - 1, step):
            proxy.order("%s-at %d" % (how, at))
            r, e, _ = x.w.run(source())
            jobs[at] = (r["event_type"], (r["error"] or {}).get("class"), sorted(paths(e, root)))
            outcomes[jobs[at][:2]] = outcomes.get(jobs[at][:2], 0) + 1
        # the last bytes are the end of the session: the listing was whole before
        bad = {at: o for at, o in jobs.items() if not (o[2] == want if o[0] == "job.completed" else o[0] == "job.failed" and not o[2] and
                                                          o[1] in ("transient", "truncated", "protocol"))}
        t.ok(not bad and len(jobs) > 20, "%s at every %dth of %d bytes: whole or failed" % (how, step, whole), bad)
        t.diag(", ".join("%s %s: %d" % (a, b, n) for (a, b), n in sorted(outcomes.items(), key=str)))
        t.ok(sum(n for (a, _), n in outcomes.items() if a == "job.failed") > len(jobs) * 0.8, "most of them failed")
        midst += [at for at, o in jobs.items() if o[1] == "truncated"]
    # Where the cuts fell into the listing: how many bytes its end takes differs.
    proxy.order("freeze-at %d" % sorted(midst)[len(midst) // 2])
    r, e, _ = x.w.run(source(response_timeout="500ms", idle_timeout="500ms", connect_timeout="3s"))
    failed(t, r, e, "timeout", "frozen in the midst")
    proxy.stop()


def latency(t, x):
    """A round trip of 50 ms does not cost a directory: so long that what the machine is busy with matters little beside it."""
    tree = trees.big()
    w = World(x.w.broker)
    d = Daemon(w, CONF)
    proxy = Proxy(("127.0.0.1", x.inside.port), rtt_ms=50)
    r, e, _ = w.run(x.inside.source(x.root, port=proxy.port, known_hosts=x.inside.known_hosts(port=proxy.port)))
    good(t, r, e, 2, "a small listing over 50 ms")
    w.push({"job_id": "far", "source_config": x.inside.source(tree.root, port=proxy.port, known_hosts=x.inside.known_hosts(port=proxy.port), recursive=True)})
    r = w.result_of("far", 180)
    t.is_((r["event_type"], r["matched"]), ("job.completed", 100000), "the big tree over 50 ms")
    # one after the other: 100 directories of 13 round trips are 65 s
    t.diag("%.2f s" % r["duration_seconds"])
    t.ok(r["duration_seconds"] < 32.5 * SLOW, "in less than half of what it would take one after the other", r["duration_seconds"])
    t.is_(d.stop(), 0, "that daemon stops")
    proxy.stop()


def _below(pid):
    got = []
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            for c in f.read().split():
                got += [int(c)] + _below(int(c))
    except OSError:
        pass
    return got


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    if not sshd.here():
        t.skip_all("openssh-server is not installed")
    x = World24(t)
    for part in (nasty, attributes, places, unreadable, keys, passwords, host_keys, unknown_hosts, accepted_once, algorithms, kept, frozen, odd_servers, breaks, deep, latency, many):
        t.part(part, x)
    left, right = conservation(x.daemon)
    t.ok(left == right and left > 0, "accepted = ended + in flight")
    t.is_(x.daemon.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
