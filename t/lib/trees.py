"""trees.py - trees of files that the tests of every source list, and what a right listing of them holds.

big() is 100 directories of 1,000 files, nasty() has every name that a protocol, a parser or a shell trips over. Both
are made once under BUILD/trees, readable for all, and are never written to afterwards: a test that changes files makes
its own with write(). Files are sparse: they have a size, and the disk holds none of it. Times are whole minutes of 2024,
which every protocol but LIST of FTP can tell.

Tree.files() is the judge: it walks the disk by rules of its own (not the poller's code) and gives the exact set of
(path below the root as bytes, size, "file" or "link") for one policy; found() brings events into the same form.
"""
import base64
import fcntl
import os
import shutil
import stat

from poller import BUILD

BIG_DIRS, BIG_FILES = 100, 1000
EPOCH = 1704067200              # 2024-01-01T00:00:00Z
VERSION = 1                     # of what is made here; another one is made anew

# Names of regular files, each a trap for somebody.
NAMES = [
    b"plain.csv", b"noextension", b"UPPER.CSV",
    b"sp ace.csv", b" lead.csv", b"  lead2.csv", b"trail ", b"trail.csv ", b"two  spaces.csv", b"   ",
    b"tab\there.csv", b"\ttab", b"quote\".csv", b"apos'trophe.csv", b"`back`tick.csv", b"back\\slash.csv", b"\\", b"end\\",
    b"new\nline.csv", b"\nfirst", b"last\n", b"cr\rret.csv", b"crlf\r\n.csv", b"vt\x0b.csv", b"ff\x0c.csv",
    b"ctl\x01\x07\x1b.csv", b"esc\x1b[31mred.csv", b"del\x7f.csv", b"c1\xc2\x85.csv",
    "gr\u00fc\u00df.csv".encode(), "e\u0301.csv".encode(), "\u00e9.csv".encode(), "\u4e2d\u6587.csv".encode(), "\U0001f4c4.csv".encode(),
    "rtl\u202efdp.csv".encode(), "bom\ufeff.csv".encode(), "nbsp\u00a0.csv".encode(), "ls\u2028.csv".encode(),
    b"latin-\xe9.csv", b"\xff\xfe\x80.csv", b"overlong\xc0\xaf.csv", b"surrogate\xed\xa0\x80.csv", b"cut\xe4\xb8",
    b"100%.csv", b"%", b"%2", b"per%20cent.csv", b"%2e%2e%2fup.csv", b"%00nul.csv", b"%0aline.csv", b"%zz.csv",
    b"plus+plus.csv", b"a+b c.csv", b"hash#tag.csv", b"query?a=b&c=d.csv", b"semi;colon.csv", b"amp&amp;.csv", b"a=b.csv", b"at@host.csv",
    b"co:lon.csv", b"c:drive.csv", b"http:", b"mailto:x@y", b"~tilde.csv", b"~", b"comma,.csv", b"dollar$HOME.csv", b"$(id).csv", b"bang!.csv",
    b"star*.csv", b"[odd]{name}.csv", b"(paren).csv", b"pipe|.csv", b"caret^.csv", b"'; DROP TABLE x;--.csv",
    b"-rf.csv", b"--", b"-", b"trailing.", b"trailing..", b"a..b", b"a..", b"x.tar.gz",
    b"..a", b"...", b"..csv", b".. ", b". ", b".hidden.csv", b"..hidden", b".-", b".%2e",
    b"<b>bold.csv", b"<a href=\"evil.csv\">evil.csv<br>", b"&lt;lt.csv", b"]]>.csv", b"<!-- x.csv", b"\">.csv", b"<table>",
    b"arrow -> tgt.csv", b" -> ", b"total 42", b"-rw-r--r-- 1 0 0 5 Nov 23 16:21 listed.csv",
    b"a\n-rw-r--r--    1 0        0          999999 Nov 23 16:21 evil.csv",
    b"a\r\ntype=file;size=999999;modify=20240101000000; evil.csv", b"type=file;size=1; facts.csv", b"; ", b"x; y.csv",
    b"index", b"Parent Directory", b"Name", b"226 Transfer complete", b"12345", b"0", b"null", b"true",
    b"n" * 251 + b".csv", b"\xc3\xa9" * 125 + b".cs.x", b"%" * 255, b" " * 200 + b"x", b"&" * 255,
]

# Directories, with the names of the files in them; () is an empty one.
DIRS = {
    b"sub": (b"in.csv",), b"sub/deeper": (b"in.csv", b"\xff.csv"), b"sub/deeper/deepest": (b"x.csv",),
    b"sp ace dir": (b"a b.csv",), b" lead dir": (b"in.csv",), b"trail dir ": (b"in.csv",), b"per%cent%2f": (b"in%20.csv",),
    b"new\nline dir": (b"in.csv",), b"cr\rdir": (b"in.csv",), b"\xfe\xff dir": (b"in.csv",), "\u4e2d \u6587".encode(): (b"in.csv",),
    b"hash#dir?x=y": (b"in.csv",), b"-dash dir": (b"-in.csv",), b"quote'\"dir": (b"in.csv",), b"back\\dir": (b"in.csv",), b"semi;dir": (b"in.csv",),
    b"d -> e": (b"in.csv",), b"star*[dir]": (b"in.csv",), b"co:lon dir": (b"in.csv",), b"<i>dir": (b"in.csv",), b"d" * 255: (b"in.csv",),
    b".hidden dir": (b"in.csv", b".in.csv"), b"...dir": (b"in.csv",), b"..dir": (b"in.csv",), b"dir..": (b"in.csv",), b"~dir": (b"in.csv",),
    b"empty": (), b"emp ty\xff": (), b"empty/er": (), b"links": (b"real.csv",), b"links/dir": (b"in.csv",), b"loops": (b"real.csv",),
}

# Links: where they lead. Those of "loops" show an endless tree to who follows them; every other one is harmless.
LINKS = {
    b"links/to file.csv": b"real.csv", b"links/to nasty\n.csv": b"../new\nline.csv", b"links/to dir": b"dir", b"links/nowhere.csv": b"not there",
    b"links/nowhere -> x.csv": b"a -> b", b"links/self.csv": b"self.csv", b"links/a.csv": b"b.csv", b"links/b.csv": b"a.csv", b"links/twice.csv": b"to file.csv",
    b"links/through.csv": b"to dir/in.csv", b"links/.hidden.csv": b"real.csv", b"links/\xff.csv": b"../\xff\xfe\x80.csv",
    b"loops/up": b"..", b"loops/here": b".",
}


class Tree:
    """A tree on the disk. root: its absolute path as text."""

    def __init__(self, root):
        self.root = os.path.realpath(root)

    def files(self, follow="never", include_hidden=False, recursive=True, loops=True):
        """The set of (path, size, kind) that follow_symlinks, include_hidden and recursive mean. loops=False: without "loops"."""
        base = os.fsencode(self.root)
        got = set()

        def walk(rel, real, above):
            for name in os.listdir(os.path.join(base, rel)):
                path = os.path.join(rel, name)
                whole = os.path.join(base, path)
                if (name.startswith(b".") and not include_hidden) or (path == b"loops" and not loops):
                    continue
                link, kind = os.path.islink(whole), "file"
                if link:
                    if follow == "never":
                        continue
                    kind = "link"
                try:
                    st = os.stat(whole)
                except OSError:         # it leads nowhere, or to itself
                    continue
                if stat.S_ISREG(st.st_mode):
                    got.add((path, st.st_size, kind))
                elif stat.S_ISDIR(st.st_mode) and recursive and (not link or follow == "all"):
                    there = os.path.realpath(whole)
                    # a link to where we are, or above: it would never end
                    if not link or not any(_is_above(there, x) for x in above + [real]):
                        walk(path, there, above + [real] if link else above)
        walk(b"", base, [])
        return got

    def paths(self, **policy):
        return {p for p, _, _ in self.files(**policy)}

    def mtime(self, rel):
        """Whole seconds"""
        return int(os.stat(os.path.join(os.fsencode(self.root), rel)).st_mtime)


def _is_above(a, b):
    return a == b or b.startswith(a.rstrip(b"/") + b"/")


def event_path(event):
    """The bytes of an event's file_path."""
    b64 = event.json.get("file_path_b64")
    return base64.b64decode(b64) if b64 else event["file_path"].encode()


def found(events, root):
    """Events as a list (so that a file that came twice shows) of what Tree.files() gives; root: the source's root in file_path."""
    root = os.fsencode(root).rstrip(b"/")
    got = []
    for e in events:
        p = event_path(e)
        got.append((p[len(root) + 1:] if root and p.startswith(root + b"/") else p.lstrip(b"/") if not root else p,
                    e["file_size"], "link" if e.json.get("is_symlink") else "file"))
    return got


def write(root, files):
    """Makes files in a tree of the test's own: {path as text or bytes: (size, mtime in seconds)}; a path ending in / is a directory."""
    base = os.fsencode(root)
    for rel, (size, mtime) in files.items():
        path = os.path.join(base, os.fsencode(rel))
        if path.endswith(b"/"):
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _make(path, size, mtime)
    return Tree(root)


def _make(path, size, mtime):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
    try:
        os.truncate(fd, size)
        os.fchmod(fd, 0o644)
        os.utime(fd, (mtime, mtime))
    finally:
        os.close(fd)


def _once(name, fill):
    """BUILD/trees/NAME, filled by fill(path) the first time; tests that come together wait for one another."""
    top = os.path.join(BUILD, "trees")
    os.makedirs(top, exist_ok=True)
    path = os.path.join(top, "%s-%d" % (name, VERSION))
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(path):
            fresh = path + ".new"
            shutil.rmtree(fresh, ignore_errors=True)    # of one that was ended on its way
            os.mkdir(fresh, 0o755)
            fill(fresh)
            os.chmod(fresh, 0o755)
            os.rename(fresh, path)
    return Tree(path)


def big(dirs=BIG_DIRS, files=BIG_FILES):
    """d000..d099, each with f0000.csv..f0999.csv of up to 96 bytes"""
    def fill(root):
        for d in range(dirs):
            where = os.path.join(root, "d%03d" % d)
            os.mkdir(where, 0o755)
            os.chmod(where, 0o755)
            for f in range(files):
                _make("%s/f%04d.csv" % (where, f), (7 * d + f) % 97, EPOCH + 60 * (d * files + f))
    return _once("big-%dx%d" % (dirs, files), fill)


def big_paths(dirs=BIG_DIRS, files=BIG_FILES):
    """What big() holds, without asking the disk: {path as bytes: size}"""
    return {b"d%03d/f%04d.csv" % (d, f): (7 * d + f) % 97 for d in range(dirs) for f in range(files)}


def nasty():
    """NAMES in the root, DIRS below it, LINKS; no two files of the root have the same size."""
    def fill(root):
        base = os.fsencode(root)
        for i, name in enumerate(NAMES):
            _make(os.path.join(base, name), i + 1, EPOCH + 60 * i)
        for i, (d, names) in enumerate(DIRS.items()):
            os.mkdir(os.path.join(base, d), 0o755)
            os.chmod(os.path.join(base, d), 0o755)
            for k, name in enumerate(names):
                _make(os.path.join(base, d, name), 1000 + 10 * i + k, EPOCH + 60 * (500 + 10 * i + k))
        for link, to in LINKS.items():
            os.symlink(to, os.path.join(base, link))
    return _once("nasty", fill)
