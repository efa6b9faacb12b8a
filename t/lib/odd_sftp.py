#!/usr/bin/python3
"""odd_sftp.py - an SFTP server (version 3) on its standard input and output that has every fault that was asked for.

	odd_sftp.py FAULT [NUMBER]

sshd starts it as its subsystem. It serves a tree that it makes up: /t with 6 directories d0.. of 25 files f00.csv.. each
and a link l.csv to f00.csv in each. Faults: none; handles (no more than NUMBER directories open at once, FAILURE
beyond); bare (names without attributes or long names); reverse (replies in reverse order, eight at a time); one (one name
a reply); empty (replies without names, for ever); repeat (the same names, for ever); slash, nul, dots (names that are none); id (a reply to nobody); twice
(each reply twice); huge (a packet too large); end (gone after NUMBER replies); midst (the third READDIR of a directory
fails); vanish (two directories are gone when they are opened); denied (one may not be opened); fails (one cannot); lost (CONNECTION_LOST);
version (it speaks version 6); endless (each directory holds another); stat (no directory but the root can be looked at); lies (sizes that READDIR tells are wrong); loop (d0 holds a link to /t); typeless
(of f00.csv in d3 nothing tells what it is, its mode has permissions alone); untold (of d3's files not even a mode is told); mute (statuses are a code alone).
"""
import os
import select
import struct
import sys

FAULT = sys.argv[1]
NUMBER = int(sys.argv[2]) if len(sys.argv) > 2 else 0
DIRS, FILES, A_REPLY = 6, 25, 10
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, LOST = 0, 1, 2, 3, 4, 7


def u32(n):
    return struct.pack(">I", n)


def text(s):
    return u32(len(s)) + s


def attrs(mode, size):
    return struct.pack(">IQIIIII", 15, size, 1000, 1000, mode, 1700000000, 1700000000)


def tree(path):
    """(mode, size) or None"""
    parts = path.strip(b"/").split(b"/") if path.strip(b"/") else []
    if path == b"/t" or (FAULT == "endless" and set(parts[1:]) == {b"d0"}):
        return 0o40755, 0
    if len(parts) >= 2 and parts[0] == b"t" and parts[1] in [b"d%d" % i for i in range(DIRS)]:
        if len(parts) == 2:
            return 0o40755, 0
        if len(parts) == 3 and parts[2] == b"l.csv":
            return 0o120777, 7
        if len(parts) == 3 and parts[2] in [b"f%02d.csv" % i for i in range(FILES)]:
            return 0o100644, int(parts[2][1:3])
        if FAULT == "loop" and len(parts) == 3 and parts[2] == b"up":
            return 0o120777, 2
    return None


def names(path):
    if FAULT == "endless":
        return [b"d0"]
    if path == b"/t":
        return [b".", b".."] + [b"d%d" % i for i in range(DIRS)]
    odd = {"slash": [b"../../etc/passwd", b"a/b"], "nul": [b"a\0b"], "dots": [b"", b".", b"..", b"..."]}.get(FAULT, []) if path == b"/t/d3" else []
    if FAULT == "loop" and path == b"/t/d0":
        odd = [b"up"]
    return [b".", b".."] + [b"f%02d.csv" % i for i in range(FILES)] + [b"l.csv"] + odd


def told(path):
    """The attributes of a name that keep quiet about its type; None: of most they do not."""
    if FAULT == "typeless" and path == b"/t/d3/f00.csv":
        return attrs(0o644, 0)
    return struct.pack(">IQ", 1, 5) if FAULT == "untold" and path.startswith(b"/t/d3/f") else None


class Server:
    def __init__(self):
        self.handles, self.next, self.replies, self.held = {}, 0, 0, []

    def send(self, kind, body):
        if FAULT == "reverse" and kind != 2:
            self.held.append((kind, body))
            return
        self.put(kind, body)

    def put(self, kind, body):
        self.replies += 1
        if FAULT == "end" and self.replies > NUMBER:
            sys.exit(0)
        p = u32(len(body) + 1) + bytes([kind]) + body
        os.write(1, p * (2 if FAULT == "twice" and kind != 2 else 1))

    def flush(self):
        for kind, body in reversed(self.held):
            self.put(kind, body)
        self.held = []

    def status(self, rid, code):
        self.send(101, rid + u32(code) + (b"" if FAULT == "mute" else text(b"words of the server") + text(b"")))

    def opendir(self, rid, path):
        got = tree(path)
        if FAULT == "lost" and path != b"/t":
            return self.status(rid, LOST)
        if got is None or not got[0] & 0o40000 or (FAULT == "vanish" and path in (b"/t/d1", b"/t/d4")):
            return self.status(rid, NO_SUCH_FILE)
        if FAULT == "denied" and path == b"/t/d2":
            return self.status(rid, DENIED)
        if FAULT == "fails" and path == b"/t/d3":
            return self.status(rid, FAILURE)
        if FAULT == "handles" and len(self.handles) >= NUMBER:
            return self.status(rid, FAILURE)
        self.next += 1
        self.handles[b"h%d" % self.next] = [path, names(path), 0]
        return self.send(102, rid + text(b"h%d" % self.next))

    def readdir(self, rid, handle):
        if handle not in self.handles:
            return self.status(rid, FAILURE)
        h = self.handles[handle]
        h[2] += 1
        if FAULT == "repeat" and h[0] != b"/t" and not h[1]:
            h[1] = names(h[0])
        if FAULT == "empty" and h[0] != b"/t":
            return self.send(104, rid + u32(0))
        if FAULT == "huge" and h[0] != b"/t":
            return os.write(1, u32(1 << 20) + b"\x68" * 1000)
        if FAULT == "id" and h[0] != b"/t":
            rid = u32(0x7FFFFFFF)
        if FAULT == "midst" and h[0] == b"/t/d5" and h[2] == 3:
            return self.status(rid, FAILURE)
        some, h[1] = h[1][:1 if FAULT == "one" else A_REPLY], h[1][1 if FAULT == "one" else A_REPLY:]
        if not some:
            return self.status(rid, EOF)
        body = rid + u32(len(some))
        for n in some:
            got = tree(h[0] + b"/" + n) or (0o100644, 5)
            if n in (b".", b".."):
                got = 0o40755, 0
            if FAULT == "lies":
                got = got[0], got[1] + 1000
            body += text(n) + text(b"") + (u32(0) if FAULT == "bare" else attrs(*got) if told(h[0] + b"/" + n) is None else told(h[0] + b"/" + n))
        return self.send(104, body)

    def stat(self, rid, path, follow):
        got = tree(path)
        if FAULT == "stat" and path != b"/t":
            return self.status(rid, DENIED)
        if got and follow and got[0] & 0o120000 == 0o120000:
            got = (0o40755, 0) if path.endswith(b"/up") else (0o100644, 0)
        if got and told(path) is not None:
            return self.send(105, rid + told(path))
        return self.send(105, rid + attrs(*got)) if got else self.status(rid, NO_SUCH_FILE)

    def serve(self, kind, p):
        if kind == 1:
            return self.put(2, u32(6 if FAULT == "version" else 3))
        rid, n = p[:4], struct.unpack(">I", p[4:8])[0]
        what = p[8:8 + n]
        if kind == 4:
            self.handles.pop(what, None)
            return self.status(rid, OK)
        if kind == 11:
            return self.opendir(rid, what)
        if kind == 12:
            return self.readdir(rid, what)
        if kind in (7, 17):
            return self.stat(rid, what, kind == 17)
        if kind == 16:
            real = b"/t" if what.endswith(b"/up") else what
            return self.send(104, rid + u32(1) + text(real) + text(real) + u32(0))
        if kind == 19:
            target = b".." if what.endswith(b"/up") else b"f00.csv"
            return self.send(104, rid + u32(1) + text(target) + text(target) + u32(0))
        return self.status(rid, 8)


def main():
    s, have = Server(), b""
    while True:
        # what is held back goes when eight wait, or when nothing more comes
        if s.held and (len(s.held) >= 8 or not select.select([0], [], [], 0.005)[0]):
            s.flush()
        got = os.read(0, 65536)
        if not got:
            return
        have += got
        while len(have) >= 4 and len(have) - 4 >= struct.unpack(">I", have[:4])[0]:
            n = struct.unpack(">I", have[:4])[0]
            packet, have = have[4:4 + n], have[4 + n:]
            s.serve(packet[0], packet[1:])
        if s.held and not select.select([0], [], [], 0.005)[0]:
            s.flush()


main()
