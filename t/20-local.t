#!/usr/bin/python3
"""local: what is listed of a tree of this machine. The events must be the files that Python's own walk and rules choose."""
import base64
import fnmatch
import hashlib
import json
import os
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need, rfc3339  # noqa: E402

NOW = time.time()
# path: (size, age in seconds)
TREE = {
    "a.csv": (10, 100), "b.CSV": (20, 100), "c.txt": (30, 4000), "d.csv.gz": (0, 100), "noext": (5, 100), ".hidden.csv": (6, 100),
    "report_2024-01-01.csv": (1000, 90000), "report_2024-02-01.csv": (2000, 100), "[odd]{name}.csv": (3, 100), "sp ace.csv": (4, 100),
    "in/one.csv": (10, 100), "in/two.csv": (11, 100), "in/two.csv.tmp": (1, 10), "in/three.csv.part": (1, 10), "in/four.csv": (5, 100),
    "in/deep/er/x.csv": (7, 100), "in/deep/y.csv": (8, 100), "in/.secret/z.csv": (9, 100), ".git/config.csv": (1, 100),
    "out/one.csv": (12, 100), "done/data1.csv": (1, 100), "done/data1.csv.ok": (0, 50), "done/data2.csv": (2, 100),
    "batch/p.csv": (1, 100), "batch/_SUCCESS": (0, 50), "batch2/q.csv": (1, 100),
}


def make(root):
    for rel, (size, age) in TREE.items():
        p = os.path.join(root, rel)
        os.makedirs(os.path.dirname(p), exist_ok=True)
        with open(p, "wb") as f:
            f.write(b"x" * size)
        os.utime(p, (NOW - age, NOW - age))


def hidden(rel):
    return any(c.startswith(".") for c in rel.split("/"))


def under(prefix=""):
    """Relative paths below a folder, hidden ones left out."""
    return {r[len(prefix):] for r in TREE if r.startswith(prefix) and not hidden(r)}


def flat(paths):
    return {p for p in paths if "/" not in p}


def name(p):
    return p.rsplit("/", 1)[-1]


class Local:
    def __init__(self, t, w, root):
        self.t, self.w, self.root = t, w, root

    def run(self, sub="", source=None, **fields):
        s = {"source_type": "local", "path": os.path.join(self.root, sub) if sub else self.root}
        s.update(source or {})
        return self.w.run(s, **fields)

    def check(self, what, want, sub="", source=None, **fields):
        r, e, _ = self.run(sub, source, **fields)
        want = set(want)
        self.t.same_set([x["relative_path"] for x in e], want, what)
        if r["event_type"] != "job.completed" or r["matched"] != len(want):
            self.t.ok(False, "%s: the terminal record agrees" % what, r.raw)


def patterns(t, x):
    top, everything = flat(under()), under()
    x.check("no pattern: all files of the folder, none below, none hidden", top)
    x.check("recursive", everything, source={"recursive": True})
    x.check("*.csv", {p for p in top if p.endswith(".csv")}, file_pattern="*.csv")
    x.check("a pattern without / is for the name, at every depth", {p for p in everything if name(p).endswith(".csv")}, source={"recursive": True}, file_pattern="*.csv")
    x.check("a list of patterns", {p for p in top if p.endswith((".csv", ".txt"))}, file_pattern=["*.csv", "*.txt"])
    x.check("? is one character", {"a.csv"}, file_pattern="?.csv")
    x.check("a class", {"report_2024-01-01.csv", "report_2024-02-01.csv"}, file_pattern="report_[0-9][0-9][0-9][0-9]-0[12]-*.csv")
    x.check("a negated class", {p for p in top if p.endswith(".csv") and p[0] not in "ar"}, file_pattern="[!ar]*.csv")
    x.check("alternatives", {"a.csv", "c.txt"}, file_pattern="{a.csv,c.txt}")
    x.check("escaped", {"[odd]{name}.csv"}, file_pattern="\\[odd\\]\\{name\\}.csv")
    x.check("a pattern with / is for the path", {"in/one.csv", "in/two.csv", "in/four.csv"}, source={"recursive": True}, file_pattern="in/*.csv")
    x.check("* does not cross /", {"in/one.csv", "out/one.csv"}, source={"recursive": True}, file_pattern="*/one.csv")
    x.check("** does", {p for p in everything if p.startswith("in/") and p.endswith(".csv")}, source={"recursive": True}, file_pattern="in/**/*.csv")
    x.check("nothing matches: empty, completed", set(), file_pattern="*.zip")
    x.check("case counts", {"b.CSV"}, file_pattern="*.CSV")
    x.check("one file as the path", {"a.csv"}, sub="a.csv")


def filters(t, x):
    top, everything = flat(under()), under()
    rec = {"recursive": True}
    size = lambda p: TREE[p][0]  # noqa: E731
    age = lambda p: TREE[p][1]  # noqa: E731
    x.check("ignore_case", {p for p in top if p.lower().endswith(".csv")}, file_pattern="*.csv", filters={"ignore_case": True})
    x.check("include", {"a.csv", "c.txt"}, filters={"include": ["a.*", "c.*"]})
    x.check("include and pattern", {"a.csv"}, file_pattern="*.csv", filters={"include": ["a.*", "c.*"]})
    x.check("exclude", {p for p in top if not fnmatch.fnmatchcase(p, "report*")}, filters={"exclude": ["report*"]})
    x.check("exclude wins over include", {"c.txt"}, filters={"include": ["a.*", "c.*"], "exclude": ["a*"]})
    x.check("min_size", {p for p in top if size(p) >= 20}, filters={"min_size": 20})
    x.check("max_size", {p for p in top if size(p) <= 20}, filters={"max_size": 20})
    x.check("both, with a unit", {"report_2024-01-01.csv"}, filters={"min_size": 1000, "max_size": "1KiB"})
    x.check("min_age", {p for p in top if age(p) >= 3600}, filters={"min_age": "1h"})
    x.check("max_age", {p for p in top if age(p) <= 3600}, filters={"max_age": 3600})
    x.check("modified_after", {p for p in top if age(p) < 50000}, filters={"modified_after": rfc3339(-50000)})
    x.check("modified_before", {p for p in top if age(p) > 50000}, filters={"modified_before": rfc3339(-50000)})
    x.check("include_hidden", {p for p in TREE}, source=rec, filters={"include_hidden": True})
    x.check("exclude_dirs", {p for p in everything if not p.startswith("in/deep/")}, source=rec, filters={"exclude_dirs": ["deep"]})
    x.check("exclude_dirs by path", {p for p in everything if not p.startswith("in/deep/er/")}, source=rec, filters={"exclude_dirs": ["in/deep/er"]})
    x.check("in_progress_suffixes: neither the suffix nor the file it is for", {"one.csv", "four.csv"}, sub="in", filters={"in_progress_suffixes": [".tmp", ".part"]})
    x.check("done_file of a folder", {"p.csv"}, sub="batch", filters={"done_file": "_SUCCESS"})
    x.check("done_file not there yet", set(), sub="batch2", filters={"done_file": "_SUCCESS"})
    x.check("done_file of each file", {"data1.csv"}, sub="done", filters={"done_file": "{name}.ok"})
    x.check("exclude_if_present", {p for p in everything if not p.startswith("batch/")}, source=rec, filters={"exclude_if_present": "_SUCCESS"})
    r, e, _ = x.run(source=rec, filters={"max_files": 3})
    t.is_((r["event_type"], r["truncated"], r["matched"], len(e)), ("job.completed", True, 3, 3), "max_files: cut, and said so")
    r, e, _ = x.run(source=rec, filters={"max_files": 1000})
    t.is_((r["truncated"], len(e)), (False, len(everything)), "max_files that is not reached")
    r, e, _ = x.run(file_pattern="*.csv")
    t.ok(r["listed"] >= r["matched"] + r["skipped"] - 1 and r["skipped"] >= len(top) - r["matched"], "what does not match is skipped, counted", r.raw)


def depth(t, x):
    everything = under()
    d = lambda p: p.count("/")  # noqa: E731
    for n in (1, 2, 3):
        x.check("max_depth %d" % n, {p for p in everything if d(p) <= n}, source={"recursive": True, "max_depth": n})
    x.check("min_depth 1", {p for p in everything if d(p) >= 1}, source={"recursive": True, "min_depth": 1})
    x.check("min_depth and max_depth", {p for p in everything if d(p) == 1}, source={"recursive": True, "min_depth": 1, "max_depth": 1})
    x.check("max_depth without recursive", flat(everything), source={"max_depth": 5})
    deep = "deep"
    p = os.path.join(x.root, deep)
    for i in range(300):
        p = os.path.join(p, "d")
    os.makedirs(p)
    open(os.path.join(p, "bottom.csv"), "w").close()
    x.check("300 levels down", {"d/" * 300 + "bottom.csv"}, sub=deep, source={"recursive": True})


def links(t, x):
    base = os.path.join(x.root, "links")
    os.makedirs(base + "/dir")
    for p in ("file.csv", "dir/in.csv"):
        open(os.path.join(base, p), "w").close()
    os.symlink("file.csv", base + "/to_file.csv")
    os.symlink("dir", base + "/to_dir")
    os.symlink("nowhere", base + "/broken.csv")
    os.symlink("/etc/passwd", base + "/outside.csv")
    os.symlink("/etc", base + "/outdir")
    os.symlink("..", base + "/dir/up")
    os.symlink("self.csv", base + "/self.csv")
    os.link(base + "/file.csv", base + "/hard.csv")
    os.mkfifo(base + "/fifo.csv")
    rec = {"recursive": True}
    r, e, _ = x.run("links", rec)
    t.same_set([i["relative_path"] for i in e], ["file.csv", "hard.csv", "dir/in.csv"], "symbolic links, pipes: never reported")
    r, e, _ = x.run("links", dict(rec, follow_symlinks="files"))
    t.same_set([i["relative_path"] for i in e], ["file.csv", "hard.csv", "dir/in.csv", "to_file.csv"], "follow_symlinks: files, only beneath the root")
    i = [i for i in e if i["relative_path"] == "to_file.csv"]
    t.ok(i and i[0]["is_symlink"] is True and i[0]["link_target"] == "file.csv", "is_symlink and link_target", i and i[0].raw)
    r, e, _ = x.run("links", dict(rec, follow_symlinks="all"), timeout=30)
    got = [i["relative_path"] for i in e]
    t.ok(r["event_type"] in ("job.completed", "job.partial") and len(got) < 20, "follow_symlinks: all ends, loops are not followed for ever", r.raw)
    t.ok({"file.csv", "to_file.csv"} <= set(got) and any(g.endswith("in.csv") for g in got), "and enters folders", got)
    t.ok(not [i for i in e if i["file_path"].startswith("/etc") or "outside" in i["file_path"] or "outdir" in i["file_path"]], "nothing outside of the root", got)
    r, e, dl = x.run("links/outdir")
    t.ok(r["event_type"] == "job.failed" and not e, "a path through a link that leaves the root fails", r.raw)


def types(t, x):
    """links() made its tree."""
    base = os.path.join(x.root, "links")
    os.mkdir(base + "/empty.d")
    rec = {"recursive": True}
    everything = {"dir": {"dir", "empty.d"}, "symlink": {"to_file.csv", "to_dir", "broken.csv", "outside.csv", "outdir", "dir/up", "self.csv"},
                  "file": {"file.csv", "hard.csv", "dir/in.csv"}}
    for wanted in (["dir"], ["symlink"], ["file", "symlink"], ["file", "dir", "symlink"]):
        r, e, _ = x.run("links", rec, filters={"types": wanted})
        t.same_set([(i["entry_type"], i["relative_path"]) for i in e], [(k, p) for k in wanted for p in everything[k]], "types %s" % ", ".join(wanted))
        t.is_((r["event_type"], r["listed"]), ("job.completed", r["matched"] + r["skipped"]), "and each is counted")
    by = {i["relative_path"]: i for i in e}
    s = os.lstat(base + "/outside.csv")
    i = by["outside.csv"]
    t.is_((i["is_symlink"], i["link_target"], i["file_size"], i["file_type"], i["source"]["inode"], i["file_url"]),
          (True, "/etc/passwd", None, ".csv", s.st_ino, "file://%s/outside.csv" % base), "a link as itself: what it holds, wherever that leads")
    i = by["empty.d"]
    t.is_((i["is_symlink"], i["link_target"], i["file_size"], i["file_type"], i["file_url"], i["source"]["inode"], i["modified_precision"]),
          (False, None, None, None, "file://%s/empty.d/" % base, os.stat(base + "/empty.d").st_ino, "ns"), "a directory")
    i = by["file.csv"]
    t.is_((i["is_symlink"], i["file_size"]), (False, 0), "a file beside them")
    again = {i["relative_path"]: i["event_id"] for i in x.run("links", rec, filters={"types": ["file", "dir", "symlink"]})[1]}
    t.is_(again, {p: i["event_id"] for p, i in by.items()}, "event_id is the same in the next listing")
    r, e, dl = x.run("links", dict(rec, follow_symlinks="all"), filters={"types": ["symlink"]})
    t.ok(r["error"] and r["error"]["class"] == "invalid_job" and "not both" in r["error"]["message"], "links are followed or reported, not both", r.raw)


def checksums(t, x):
    base = os.path.join(x.root, "sums")
    os.mkdir(base)
    files = {"empty": b"", "text.csv": b"123456789", "large.bin": bytes(i * 7 % 251 for i in range(400001))}
    for p, data in files.items():
        with open(os.path.join(base, p), "wb") as f:
            f.write(data)
        os.utime(os.path.join(base, p), (1600000000, 1700000000))
    os.symlink("text.csv", base + "/link.csv")
    digests = {"md5": lambda b: hashlib.md5(b).hexdigest(), "sha256": lambda b: hashlib.sha256(b).hexdigest(), "crc32": lambda b: "%08x" % zlib.crc32(b)}
    ids = set()
    for kind, digest in digests.items():
        r, e, _ = x.run("sums", {"hash": kind, "follow_symlinks": "files"})
        want = {(p, digest(data), kind, "local") for p, data in files.items()} | {("link.csv", digest(files["text.csv"]), kind, "local")}
        t.same_set([(i["relative_path"], i["checksum"], i["checksum_algorithm"], i["checksum_origin"]) for i in e], want, "hash %s, inside the sandbox" % kind)
        t.is_(r["warnings"], [], "and nothing to warn of")
        ids.add(tuple(sorted(i["event_id"] for i in e)))
    t.is_(len(ids), 1, "event_id does not depend on the checksum")
    t.is_({int(os.stat(os.path.join(base, p)).st_atime) for p in files}, {1600000000}, "the times of access are as they were")
    r, e, _ = x.run("sums", {"hash": "md5", "hash_max_size": 9}, filters={"types": ["file", "symlink"]})
    t.same_set([(i["relative_path"], i["checksum"]) for i in e], {(p, digests["md5"](d) if len(d) < 10 else None) for p, d in files.items()} | {("link.csv", None)},
               "hash_max_size: larger ones are without; links themselves have no content")
    t.ok(r["event_type"] == "job.completed" and len(r["warnings"]) == 1 and r["warnings"][0].endswith(": 1 file without a checksum: larger than hash_max_size"), "and that is said", r["warnings"])


def names(t, x):
    odd = [b"new\nline.csv", b"tab\t.csv", b"esc\x1b[31m.csv", b"quote\".csv", b"back\\slash.csv", b"latin-\xe9.csv", b"\xff\xfe\x80.csv", b"-rf.csv",
           b"per%20cent%.csv", b"hash#q?.csv", "gr\u00fc\u00df\u4e2d\U0001f4c4.csv".encode(), "e\u0301.csv".encode(), b"nul\x01\x7f.csv", b" lead and trail .csv",
           b"surrogate\xed\xa0\x80.csv", b"overlong\xc0\xaf.csv", "rtl\u202e.csv".encode(), "bom\ufeff.csv".encode(), b"'; DROP TABLE x;--.csv", b"a" * 251 + b".csv", b"..csv", b"...csv",
           b"c1\xc2\x85.csv", b"<b>&amp;.csv", b"trailing.csv."]
    base = os.path.join(x.root, "names").encode()
    os.mkdir(base)
    for n in odd:
        open(os.path.join(base, n), "w").close()
    r, e, _ = x.run("names", filters={"include_hidden": True})
    got = []
    for i in e:
        path = base64.b64decode(i["file_path_b64"]) if i.json.get("file_path_b64") else i["file_path"].encode()
        got.append(path)
        if (i.json.get("file_path_b64") is None) != _utf8(path):
            t.ok(False, "file_path_b64 exactly where the name is not UTF-8: %r" % path)
        if i["file_path"] != path.decode("utf-8", "replace") and _utf8(path):
            t.ok(False, "file_path of %r" % path, i["file_path"])
        if not i["file_url"].isascii() or any(c in i["file_url"] for c in " \n\"<>#"):
            t.ok(False, "file_url is a URL", i["file_url"])
    t.same_set(got, [os.path.join(base, n) for n in odd], "names of any bytes: each comes out as it is")
    t.is_(len({i["file_url"] for i in e}), len(odd), "each has a file_url of its own")
    t.is_(len({i["event_id"] for i in e}), len(odd), "and an event_id of its own")
    raw = "".join(x.daemon.raw)
    t.ok(not [c for c in raw if ord(c) < 32 and c != "\n"] and "\x7f" not in raw, "no control byte reaches the log")


def _utf8(b):
    try:
        b.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def attributes(t, x):
    p = os.path.join(x.root, "attr.dat")
    with open(p, "w") as f:
        f.write("12345")
    os.chmod(p, 0o640)
    os.utime(p, ns=(1700000000123456789, 1700000000987654321))
    r, e, _ = x.run(file_pattern="attr.dat")
    st, s = os.stat(p), e[0]["source"]
    t.is_({k: s[k] for k in ("inode", "dev", "nlink", "mode", "permissions", "uid", "gid", "root", "blocks", "atime")},
          {"inode": st.st_ino, "dev": st.st_dev, "nlink": 1, "mode": "0640", "permissions": s["permissions"], "uid": st.st_uid, "gid": st.st_gid, "root": x.root, "blocks": st.st_blocks,
           "atime": s["atime"]}, "source{} is what stat(2) says")
    t.ok(s["permissions"].endswith("rw-r-----") and s["atime"].startswith("2023-11-14T22:13:20.123456789"), "permissions and atime", s)
    t.is_((e[0]["file_size"], e[0]["modified_at"], e[0]["file_type"]), (5, "2023-11-14T22:13:20.987654321Z", ".dat"), "size, time to the nanosecond, type")


def size(t, x):
    base = os.path.join(x.root, "many")
    os.mkdir(base)
    for i in range(20000):
        os.close(os.open("%s/f%05d.csv" % (base, i), os.O_CREAT | os.O_WRONLY))
    r, e, _ = x.run("many", timeout=60)
    t.is_((r["event_type"], len(e), len({i["file_name"] for i in e})), ("job.completed", 20000, 20000), "20,000 files: each once")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    w = World(MockBroker(t), event_partitions=4)
    root = os.path.join(folder(), "root")
    os.mkdir(root)
    make(root)
    x = Local(t, w, root)
    x.daemon = d = Daemon(w, {"local.allowed_roots": [root]})
    for part in (patterns, filters, depth, links, types, checksums, names, attributes, size):
        t.part(part, x)
    left, right = conservation(d)
    t.ok(left == right and json.dumps(left), "accepted = ended + in flight")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
