#!/usr/bin/python3
"""ftp and ftps against vsftpd, pure-ftpd and proftpd: exact sets of names, TLS, zones, replies, cuts, connections that are kept."""
import base64
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import ftpservers  # noqa: E402
import trees  # noqa: E402
from ftpservers import Fake, ProFtpd, PureFtpd, Vsftpd  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need, wait_for  # noqa: E402
from servers import Proxy  # noqa: E402

CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# What a second line of a name makes of it: this cannot be told from a file (man page), in LIST and in MLSD.
FORGED = {"vsftpd": {(b"a", 104, "file"), (b"evil.csv", 999999, "file")}, "proftpd": {(b"a", 105, "file"), (b"evil.csv", 999999, "file")}, "pure-ftpd": set()}


def path_of(entry):
    return base64.b64decode(entry["path_b64"]) if entry.get("path_b64") else entry["path"].encode()


def cannot(server, path):
    """May this file be missing from what the server shows?"""
    if b"\n" in path or b"\r" in path:
        return True
    # it leaves out names with control characters without a word, and takes no backslash in a command
    return server == "pure-ftpd" and (CONTROL.search(path) or path.startswith(b"back\\dir/"))


def exact(t, w, s, what, **fields):
    """The nasty tree: every file that the protocol can carry, no other; the rest named."""
    tree = trees.nasty()
    r, e, _ = w.run(s.source("/", recursive=True, **fields), timeout=60, filters={"include_hidden": True})
    want, got = tree.files(include_hidden=True), trees.found(e, "/")
    t.ok(len(got) == len(set(got)), "%s: each file once" % what, len(got))
    t.same_set(set(got) - want, FORGED[s.name], "%s: nothing is invented but what a name forges" % what)
    lost = {p for p, _, _ in want - set(got)}
    t.ok(all(cannot(s.name, p) for p in lost), "%s: the nasty tree, %d of %d files; nothing is lost but what FTP cannot carry" % (what, len(want) - len(lost), len(want)), [p for p in lost if not cannot(s.name, p)])
    t.is_(r["event_type"], "job.partial", "%s: and that is said: partial" % what)
    source = r["sources"][0]
    named = [path_of(x) for x in source["unreadable_entries"]]
    if s.name == "pure-ftpd":
        t.same_set(named, [b"/back\\dir"], "%s: the directory that the server refuses is named" % what)
    else:
        # each lost top name has a line break: it is named, with LF for whatever broke it, unless it forged an entry
        tops = {b"/" + re.sub(b"\r\n|\r", b"\n", p.split(b"/")[0]) for p in lost}
        t.ok(tops - set(named) <= {x for x in tops if b"evil" in x} and len(tops - set(named)) == 1, "%s: the names with line breaks are named" % what, sorted(tops - set(named)), named)
        t.is_(source["unreadable"], len(named), "%s: and counted" % what)
    x = [i for i in e if trees.event_path(i) == b"/plain.csv"][0]
    t.is_((x["file_size"], x.json["modified_at"][:16], x["relative_path"], x["file_url"]), (1, "2024-01-01T00:00", "plain.csv", "%s://127.0.0.1:%d/plain.csv" % ("ftps" if s.implicit else "ftp", s.port)),
          "%s: size, time, path, address" % what)
    return e


def names(t, w, cert):
    for server in ftpservers.ALL:
        s = server(trees.nasty().root, tls=cert)
        e = exact(t, w, s, "%s in clear" % s.name, tls_mode="none")
        t.is_({i["source"]["list_command"] for i in e}, {"MLSD" if s.mlsd else "LIST -a"}, "%s: by %s" % (s.name, "MLSD" if s.mlsd else "LIST"))
        t.is_({i["modified_precision"] for i in e if i["file_size"] != 999999}, {"s" if s.mlsd else "day"}, "%s: the precision is told" % s.name)
        e = exact(t, w, s, "%s with TLS" % s.name)
        t.ok(e[0]["source"]["tls_version"].startswith("TLSv1.") and e[0]["source"]["tls_cipher"], "%s: TLS is told" % s.name, e[0]["source"])
        if s.mlsd:
            exact(t, w, s, "%s, LIST by demand" % s.name, list_command="list_hidden") if s.name != "proftpd" else None
        s.stop()
    for server in (Vsftpd, ProFtpd):
        s = server(trees.nasty().root, tls=cert, implicit=True)
        exact(t, w, s, "%s with TLS from the first byte" % s.name)
        s.stop()


def links(t, w, _):
    tree = trees.nasty()
    for server in ftpservers.ALL:
        s = server(tree.root)
        for follow in ("never", "files", "all"):
            r, e, _ = w.run(s.source("/links", recursive=True, follow_symlinks=follow), timeout=60)
            want = {(p[6:], size, kind) for p, size, kind in tree.files(follow=follow) if p.startswith(b"links/") and not CONTROL.search(p)}
            got = set(trees.found(e, "/links"))
            # proftpd's MLSD leaves out links that lead nowhere; pure-ftpd and vsftpd show them, and nothing is behind them
            t.same_set(got, want, "%s: follow_symlinks %s" % (s.name, follow))
        i = [i for i in e if i["relative_path"] == "to file.csv"]
        t.ok(i and i[0]["is_symlink"] and (s.mlsd or i[0]["link_target"] == "real.csv"), "%s: is_symlink, and link_target where it is told" % s.name, i and i[0].raw)
        r, e, _ = w.run(s.source("/links", recursive=True), timeout=60, filters={"types": ["symlink", "dir"]})
        base = os.path.join(tree.root, "links")
        want = {("dir", "dir", None)} | {("symlink", p, os.readlink(os.path.join(os.fsencode(base), os.fsencode(p))).decode("utf-8", "replace") if not s.mlsd else None) for p in os.listdir(base)
                                         if os.path.islink(os.path.join(base, p)) and not p.startswith(".") and not CONTROL.search(os.fsencode(p))}
        if s.name == "proftpd":
            want = {x for x in want if os.path.exists(os.path.join(base, x[1]))}
        t.same_set([(i["entry_type"], os.fsdecode(trees.event_path(i))[7:], i["link_target"] if not s.mlsd else None) for i in e], want, "%s: links and directories as themselves" % s.name)
        t.is_({(i["entry_type"], i["source"]["type"], i["file_size"], i["is_symlink"]) for i in e}, {("dir", "dir", None, False), ("symlink", "symlink", None, True)}, "%s: without a size" % s.name)
        r, e, _ = w.run(s.source("/loops", recursive=True, follow_symlinks="all"), timeout=60)
        t.ok(r["event_type"] in ("job.completed", "job.partial") or r["error"]["class"] == "listing_loop", "%s: links to the directories above end" % s.name, r.raw)
        s.stop()


def places(t, w, _):
    for server in ftpservers.ALL:
        s = server(trees.nasty().root)
        r, e, _ = w.run(s.source("/sub"), timeout=30)
        t.same_set([i["file_path"] for i in e], ["/sub/in.csv"], "%s: a directory, not what is below" % s.name)
        r, e, _ = w.run(s.source("sub/deeper"), timeout=30)
        t.ok([i["file_path"] for i in e][0].startswith("/sub/deeper/"), "%s: a path below where the login ends" % s.name, r.raw)
        r, e, _ = w.run(s.source("/sp ace.csv"), timeout=30)
        t.is_([(i["relative_path"], i["file_size"], i["modified_at"]) for i in e], [("sp ace.csv", 4, "2024-01-01T00:03:00Z")], "%s: the path is one file" % s.name)
        r, e, d = w.run(s.source("/empty"), timeout=30)
        t.is_((r["event_type"], r["listed"]), ("job.completed", 0), "%s: an empty directory" % s.name)
        r, e, d = w.run(s.source("/not there"), timeout=30)
        t.is_((r["event_type"], r["error"]["class"], len(d)), ("job.failed", "not_found", 1), "%s: a path that is not there" % s.name)
        t.ok("550" in r["error"]["message"] and str(s.port) in r["error"]["message"], "%s: says the reply and the server" % s.name, r["error"])
        r, e, _ = w.run(s.source("/sub", recursive=True, max_connections=8), timeout=30, filters={"max_files": 2})
        t.is_((r["event_type"], r["truncated"], len(e)), ("job.completed", True, 2), "%s: max_files ends it" % s.name)
        r, e, _ = w.run(s.source("/", recursive=True, cwd_method="multicwd"), timeout=30, file_pattern="x.csv")
        t.is_([i["file_path"] for i in e], ["/sub/deeper/deepest/x.csv"], "%s: one CWD for each component" % s.name)
        s.stop()


def refusals(t, w, cert):
    s = PureFtpd(trees.nasty().root)
    for what, fields in (("wrong password", {"password": "wrong"}), ("unknown user", {"username": "nobody"})):
        r, e, d = w.run(s.source("/", **fields), timeout=60)
        t.is_((r["error"]["class"], len(e), len(d), r["attempt"]), ("auth", 0, 1, 1), "%s: auth, not tried again" % what)
        t.ok("wrong" not in r["error"]["message"] and s.password not in d[0].raw.decode("utf-8", "replace"), "%s: no secret in the records" % what, r["error"])
    r, e, d = w.run(s.source("/", tls_mode="explicit", tls={"ca_pem": cert[1]}), timeout=60)
    t.is_(r["error"]["class"], "permanent", "TLS from a server that has none: never without")
    t.ok("tls_mode" in r["error"]["message"], "and says so", r["error"])
    s.stop()
    s = PureFtpd(trees.nasty().root, tls=cert)
    r, e, d = w.run(s.source("/", tls=None), timeout=60)
    t.is_(r["error"]["class"], "permanent", "a certificate of an authority that is not known")
    r, e, d = w.run(s.source("/", tls={"ca_pem": cert[1]}, host="localhost", address_family="ipv4"), timeout=60)
    t.is_(r["event_type"], "job.partial" if r["sources"][0]["unreadable"] else "job.completed", "the certificate has the host's name")
    s.stop()
    tree = trees.big(1, 200)
    s = PureFtpd(tree.root, limit="50:50")
    for command in ("mlsd", "list"):
        r, e, d = w.run(s.source("/d000", list_command=command, retries=0), timeout=60)
        t.is_((r["error"] and r["error"]["class"], len(e)), ("truncated", 0), "a listing that the server cut (%s): nothing of it is published" % command)
    s.stop()
    s = Vsftpd(trees.nasty().root)
    r, e, d = w.run(s.source("/", list_command="mlsd"), timeout=60)
    t.is_(r["error"]["class"], "permanent", "MLSD demanded of a server that lacks it")
    s.stop()
    r, e, d = w.run(s.source("/", retries=1, retry_delay="10ms"), timeout=60)
    t.is_((r["error"]["class"], r["attempt"]), ("transient", 2), "nobody listens: tried again")
    for what, bad in (("path", {"path": "/a\r\nDELE b"}), ("username", {"username": "a\nSITE x"}), ("password", {"password": "a\rb"}), ("host", {"host": "a b"}),
                      ("port", {"port": 0}), ("passive", {"passive": False}), ("PASV's address", {"skip_pasv_ip": False}), ("account", {"account": "x"}), ("ccc", {"ccc": True}),
                      ("active", {"active_address": "127.0.0.1"}), ("zone", {"server_timezone": "Europe/Berlin"})):
        r, e, d = w.run(dict(s.source("/"), **bad), timeout=30, invalid=True)
        t.ok(r["event_type"] == "job.failed" and len(d) == 1 and r["error"]["class"] in ("invalid_job", "unsupported", "policy"), "refused before any connection: %s" % what, r.raw)


def unreadable(t, w, _):
    root = folder()
    os.chmod(root, 0o755)
    trees.write(root, {"a.csv": (1, trees.EPOCH), "shut/b.csv": (2, trees.EPOCH), "open/c.csv": (3, trees.EPOCH)})
    os.chmod(os.path.join(root, "shut"), 0o700)
    os.chmod(os.path.join(root, "open"), 0o755)
    for server in ftpservers.ALL:
        s = server(root)
        r, e, _ = w.run(s.source("/", recursive=True), timeout=30)
        t.is_((r["event_type"], sorted(i["file_path"] for i in e)), ("job.partial", ["/a.csv", "/open/c.csv"]), "%s: a directory without rights is passed over" % s.name)
        t.is_([x["path"] for x in r["sources"][0]["unreadable_entries"]], ["/shut"], "%s: and named" % s.name)
        r, e, _ = w.run(s.source("/", recursive=True, on_unreadable="fail"), timeout=30)
        t.is_(r["error"] and r["error"]["class"], "auth", "%s: or fails the job" % s.name)
        s.stop()


def zones(t, w, _):
    """LIST shows the server's own zone; MDTM tells which."""
    root = folder()
    os.chmod(root, 0o755)
    now = int(time.time()) // 60 * 60 - 7200
    trees.write(root, {"a.csv": (1, now), "b.csv": (2, now - 86400 * 3)})
    want = {"a.csv": time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(now)), "b.csv": time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(now - 86400 * 3))}
    for zone in ("UTC", "XYZ-5:30", "XYZ+9"):
        s = Vsftpd(root, env={"TZ": zone}, use_localtime="YES", mdtm_write="NO")
        r, e, _ = w.run(s.source("/"), timeout=30)
        shown = {i["file_name"]: i["modified_at"] for i in e}
        # vsftpd's MDTM follows use_localtime, too, so that it cannot tell: UTC is what both say then
        local = {k: time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(_seconds(v) + {"UTC": 0, "XYZ-5:30": 19800, "XYZ+9": -32400}[zone])) for k, v in want.items()}
        t.is_(shown, local, "vsftpd in %s: LIST and MDTM agree" % zone)
        r, e, _ = w.run(s.source("/", server_timezone={"UTC": "UTC", "XYZ-5:30": "+05:30", "XYZ+9": "-09:00"}[zone]), timeout=30)
        t.is_({i["file_name"]: i["modified_at"] for i in e}, want, "vsftpd in %s: the job says the zone" % zone)
        t.is_({i["modified_precision"] for i in e}, {"min"}, "vsftpd: to the minute")
        s.stop()
    for zone in ("UTC", "XYZ-5:30", "XYZ+9"):
        s = ProFtpd(root, env={"TZ": zone}, directives=["TimesGMT off"])
        r, e, _ = w.run(s.source("/", list_command="list"), timeout=30)
        t.is_({i["file_name"]: i["modified_at"] for i in e}, want, "proftpd in %s: MDTM of one file gives the zone" % zone)
        r, e, _ = w.run(s.source("/", list_command="list", mdtm="always"), timeout=30)
        t.is_({i["modified_precision"] for i in e}, {"s"}, "proftpd: mdtm always: to the second")
        s.stop()


def _seconds(text):
    import calendar
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def charsets(t, w, _):
    root = folder()
    os.chmod(root, 0o755)
    trees.write(root, {b"caf\xe9.csv": (1, trees.EPOCH), b"d\xfcr/\x80uro.csv": (2, trees.EPOCH)})
    os.chmod(os.path.join(os.fsencode(root), b"d\xfcr"), 0o755)
    for server in ftpservers.ALL:
        s = server(root)
        r, e, _ = w.run(s.source("/", recursive=True, encoding="windows-1252"), timeout=30)
        t.same_set([i["file_path"] for i in e], ["/caf\u00e9.csv", "/d\u00fcr/\u20acuro.csv"], "%s: names of windows-1252" % s.name)
        r, e, _ = w.run(s.source("/d\u00fcr", encoding="windows-1252"), timeout=30)
        t.same_set([i["file_path"] for i in e], ["/d\u00fcr/\u20acuro.csv"], "%s: a path goes back as the server's bytes" % s.name)
        r, e, _ = w.run(s.source("/", recursive=True), timeout=30)
        t.same_set([trees.event_path(i) for i in e], [b"/caf\xe9.csv", b"/d\xfcr/\x80uro.csv"], "%s: without: the bytes as they are" % s.name)
        s.stop()


def connections(t, w, cert):
    """One login for the next job, too; and a new one, unseen, where the server hung up."""
    tree = trees.big(20, 50)
    for server in ftpservers.ALL:
        for tls in (None, cert):
            s = server(tree.root, tls=tls)
            what = "%s%s" % (s.name, " with TLS" if tls else "")
            seen = []
            for i in range(3):
                r, e, _ = w.run(s.source("/", recursive=True, max_connections=1), timeout=60, file_pattern="f0000.csv")
                t.is_((r["event_type"], r["listed"], len(e), r["attempt"]), ("job.completed", 1000, 20, 1), "%s: job %d" % (what, i))
                seen.append(sorted(s.sessions()))
            t.ok(seen[0] and seen[0] == seen[1] == seen[2], "%s: the connection is kept and used again" % what, seen)
            s.hang_up()
            r, e, _ = w.run(s.source("/", recursive=True, max_connections=1), timeout=60, file_pattern="f0000.csv")
            t.is_((r["event_type"], len(e), r["attempt"]), ("job.completed", 20, 1), "%s: the server hung up meanwhile: a new one, in the same attempt" % what)
            r, e, _ = w.run(s.source("/", recursive=True, max_connections=6), timeout=60, file_pattern="f0000.csv")
            t.is_((r["event_type"], r["listed"], len(e), r["attempt"]), ("job.completed", 1000, 20, 1), "%s: six connections" % what)
            s.stop()
    for most in (1, 2, 5):
        s = ProFtpd(tree.root, directives=["MaxClientsPerHost %d" % most])
        r, e, _ = w.run(s.source("/", recursive=True), timeout=60, file_pattern="f0000.csv")
        t.is_((r["event_type"], r["listed"], len(e), r["attempt"]), ("job.completed", 1000, 20, 1), "a server that takes no more than %d: as many it is" % most)
        # those that it turned away have processes for a moment longer; and count, for it, against those that come meanwhile
        wait_for("the server to have no more than %d sessions, and one" % most, lambda: 1 <= len(s.sessions()) <= most)
        s.stop()
    for dirs, opened in ((1, 1), (2, 2), (20, 8)):
        s = PureFtpd(trees.big(dirs, 2).root)
        r, e, _ = w.run(s.source("/", recursive=True), timeout=60)
        t.is_((r["event_type"], len(e), len(s.sessions())), ("job.completed", 2 * dirs, opened), "connections come with the directories: %d" % opened)
        s.stop()


def far(t, w, _):
    """Where a round trip costs 10 ms: more connections, as many as the job and the server allow."""
    tree = trees.big(60, 2)
    for what, args, fields, most in (("the default", (), {}, 16), ("the job allows 3", (), {"max_connections": 3}, 3), ("a server that allows 5", ("-C", "5"), {}, 5)):
        s = PureFtpd(tree.root, address="127.0.0.3", both=("127.0.0.4",), args=args)
        with Proxy(("127.0.0.3", s.port), "127.0.0.4:0", rtt_ms=10, map="127.0.0.4:%d-%d=127.0.0.3" % (s.passive, s.passive + 199)) as x:
            for again in ("", ", again"):
                r, e, _ = w.run(s.source("/", host=x.host, port=x.port, recursive=True, **fields), timeout=60)
                t.is_((r["event_type"], len(e), r["attempt"]), ("job.completed", 120, 1), "10 ms away, %s%s: all is listed" % (what, again))
                wait_for("no more than %d sessions" % most, lambda: len(s.sessions()) <= most)
                t.is_(len(s.sessions()), most, "10 ms away, %s%s: %d connections" % (what, again, most))
        s.stop()


def cuts(t, w, cert):
    """Something between server and poller ends data connections in good order at every 50th byte: never a short listing."""
    root = folder()
    os.chmod(root, 0o755)
    trees.write(root, {"file_%02d_%s.csv" % (i, "x" * i): (i, trees.EPOCH) for i in range(12)})
    for server in ftpservers.ALL:
        for tls in (None, cert):
            what = "%s%s" % (server.name, " with TLS" if tls else "")
            s = server(root, tls=tls, address="127.0.0.3", both=("127.0.0.4",))
            mapped = "127.0.0.4:%d-%d=127.0.0.3" % (s.passive, s.passive + 199)
            with Proxy(("127.0.0.3", s.port), "127.0.0.4:0", map=mapped) as x:
                r, e, _ = w.run(s.source("/", host=x.host, port=x.port, keepalive=False, retries=0, probe_mdtm_offset=False, include_raw=True), timeout=30)
                t.is_((r["event_type"], len(e)), ("job.completed", 12), "%s: whole through the proxy" % what)
            # where lines end, a cut cannot be seen in clear, unless the server counts
            ends, at = {0}, 0
            for raw in [i["source"]["raw"] for i in e]:
                at += len(raw.encode()) + 2
                ends.add(at)
            blind, short, classes = [], [], set()
            for n in list(range(0, at, 50)) + [at - 1]:
                with Proxy(("127.0.0.3", s.port), "127.0.0.4:0", map=mapped, cut_at=n, where="map") as x:
                    r, e, _ = w.run(s.source("/", host=x.host, port=x.port, keepalive=False, retries=0, probe_mdtm_offset=False), timeout=30)
                if r["event_type"] == "job.completed" and len(e) < 12:
                    (blind if not tls and server is not PureFtpd and n in ends else short).append(n)
                elif r["error"]:
                    classes.add(r["error"]["class"])
                    if e:
                        short.append(n)
            t.is_(short, [], "%s: no cut listing passes for whole" % what)
            t.ok(classes and classes <= {"truncated", "transient", "protocol", "timeout"}, "%s: cuts are tried again" % what, classes)
            t.diag("%s: cut at a line's end, not to be seen: %s" % (what, blind))
            s.stop()


# ---- a server that is ours: what no real one says on demand ------------------------------------------------------------------

GOOD = b"-rw-r--r-- 1 0 0 5 Nov 23  2023 a.csv\r\n-rw-r--r-- 1 0 0 6 Nov 23  2023 b.csv\r\n"


def answers(t, w, _):
    ls = lambda data, last="226 ok": {"LIST": ["150 here", data, last]}  # noqa: E731
    for what, replies, cls in (
            ("a good listing", ls(GOOD), None),
            ("LIST says that there are no files", {"LIST": "450 No files found"}, None),
            ("no files, behind some", ls(GOOD, "450 No files could be read any more"), "transient"),
            ("LIST is busy", {"LIST": "450 try again"}, "transient"),
            ("a part of the last line", ls(GOOD + b"-rw-r--r-- 1 0 0 7 Nov 2"), "truncated"),
            ("426 behind the data", ls(GOOD, "426 aborted"), "truncated"),
            ("451 behind the data", ls(GOOD, "451 disk error"), "transient"),
            ("a text that tells of a cut", ls(GOOD, "226 Output truncated to 2 matches"), "truncated"),
            ("more lines were sent than came", ls(GOOD, "226 3 matches total"), "truncated"),
            ("no reply behind the data", ls(GOOD, None), "truncated"),
            ("months of another language", ls(b"-rw-r--r-- 1 0 0 5 23. M\xc3\xa4r 2023 a.csv\r\n"), "protocol"),
            ("no listing at all", ls(b"<html>\r\n"), "protocol"),
            ("a directory that failed to open", ls(b"", "226 Transfer done (but failed to open directory)."), "auth"),
            ("425", {"LIST": "425 no data connection"}, "transient"),
            ("530 at LIST", {"LIST": "530 not you"}, "auth"),
            ("421 at login", {"USER": "421 too many"}, "transient"),
            ("530 too many", {"PASS": "530 Sorry, the maximum number of clients are connected"}, "transient"),
            ("332", {"PASS": "332 account?"}, "auth"),
            ("550 no permission", {"CWD": "550 Permission denied"}, "auth"),
            ("nothing that is a reply", {"CWD": "hello"}, "timeout"),
    ):
        f = Fake(replies)
        fields = {"response_timeout": "1s", "idle_timeout": "1s"} if cls == "timeout" else {}
        r, e, _ = w.run(f.source("/", **fields), timeout=60)
        got = (r["error"] and r["error"]["class"], len(e))
        t.is_(got, (cls, 0 if cls or "No files" in str(replies) else 2), "%s: %s" % (what, cls or "completed"))
        f.stop()

    f = Fake({"PASS": "500 'PASS canary-secret': command not understood."})
    r, e, _ = w.run(f.source("/", password="canary-secret"), timeout=60)
    t.ok(r["error"]["class"] == "auth" or "500" in r["error"]["message"], "a server that does not take PASS fails the job", r.raw)
    t.ok(b"canary" not in r.raw, "and its repeating the password tells nobody", r.raw)
    f.stop()

    class Below(dict):
        """A reply of its own to CWD below the root."""
        def get(self, verb, *default):
            return self["below"] if verb == "CWD" and f.commands[-1] != "CWD /" else dict.get(self, verb, *default)
    tree = {"/": b"drwxr-xr-x 1 0 0 0 Nov 23  2023 d\r\n" + GOOD}
    for below, vanished in (("550 d: No such file or directory", True), ("550 The system cannot find the path specified.", True), ("550 Failed to change directory.", False),
                            ("550 Requested action not taken. File unavailable (e.g., file not found, no access).", False), ("550 Directory not found, or no access.", False)):
        f = Fake({"LIST": ["150 here", lambda at: tree.get(at, b""), "226 ok"]})
        f.replies = Below(f.replies, below=below)
        r, e, _ = w.run(f.source("/", recursive=True), timeout=30)
        t.is_((r["event_type"], [u["path"] for u in r["sources"][0]["unreadable_entries"]], len(e)), ("job.completed", [], 2) if vanished else ("job.partial", ["/d"], 2), below)
        f.stop()
    listed, refused = ("job.completed", None, 2), ("job.failed", "protocol", 0)
    for what, replies, hasty, want in (
            ("commands that are lost where they come at once", ls(GOOD), True, listed),
            ("EPSV that nobody understands", dict(ls(GOOD), EPSV="229 somewhere", PASV="listen"), False, refused),
            ("a port where nobody listens", dict(ls(GOOD), EPSV="229 ok (|||1|)", PASV="listen"), False, listed),
            ("a reply to TYPE A that is none", dict(ls(GOOD), TYPE="150 wait"), False, refused),
            ("EPSV refused", dict(ls(GOOD), EPSV="500 what", PASV="listen"), False, listed),
    ):
        f = Fake(replies, hasty=hasty)
        r, e, _ = w.run(f.source("/"), timeout=60)
        t.is_((r["event_type"], r["error"] and r["error"]["class"], len(e)), want, "%s: as libcurl has it" % what)
        f.stop()
    tree = {"/": b"drwxr-xr-x 1 0 0 0 Nov 23  2023 a\r\ndrwxr-xr-x 1 0 0 0 Nov 23  2023 b\r\n"}
    f = Fake({"LIST": ["150 here", lambda at: tree.get(at, GOOD), "226 ok\r\n226 once more"]})
    r, e, _ = w.run(f.source("/", recursive=True, max_connections=1), timeout=30)
    t.is_((r["event_type"], len(e), f.logins), ("job.completed", 4, 3), "a reply too many: the connection is left, and no directory gets another one's replies")
    f.stop()
    rows = b"".join(b"drwxr-xr-x 1 0 0 0 Nov 23  2023 d%d\r\n" % i for i in range(20))
    f = Fake(ls(rows + GOOD), only=3)
    r, e, _ = w.run(f.source("/", recursive=True, max_depth=1), timeout=30)
    t.is_((r["event_type"], len(e), r["attempt"], f.logins, f.turned_away), ("job.completed", 42, 1, 3, 5), "connections that are closed without a word are done without")
    f.stop()
    f = Fake(dict(ls(GOOD), QUIT=None))
    r, e, _ = w.run(f.source("/", keepalive=False), timeout=30)
    t.is_((r["event_type"], len(e), f.commands[-1]), ("job.completed", 2, "QUIT"), "nobody waits for the answer to QUIT")
    f.stop()
    f = Fake(dict(ls(GOOD), EPSV="500 what", PASV="listen"))
    r, e, _ = w.run(f.source("/"), timeout=30)
    t.is_((r["event_type"], len(e)), ("job.completed", 2), "an address of somebody else in PASV is not gone to")
    f.stop()
    f = Fake(ls(GOOD))
    r, e, _ = w.run(f.source("/a b%0d%0aDELE x/\u00e9"), timeout=30)
    t.ok("CWD /a b%0d%0aDELE x/\u00c3\u00a9" in f.commands and not [c for c in f.commands if c.startswith("DELE")], "a path goes into its command as it is", f.commands)
    f.stop()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    if not ftpservers.here():
        t.skip_all("needs root and the packages of vsftpd, pure-ftpd and proftpd")
    cert = ftpservers.certificate()
    w = World(MockBroker(t), event_partitions=4)
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8"]})
    for part in (names, links, places, refusals, unreadable, zones, charsets, connections, far, cuts, answers):
        t.part(part, w, cert)
    left, right = conservation(d)
    t.ok(left == right, "accepted = ended + in flight", (left, right))
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
