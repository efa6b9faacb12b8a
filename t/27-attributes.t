#!/usr/bin/python3
"""source{} of an event, whole: for each type every attribute that its protocol can give, and nothing that it did not."""
import datetime
import grp
import os
import pwd
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ftpservers import Fake  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need  # noqa: E402
from s3servers import Pages  # noqa: E402
from webservers import Answers  # noqa: E402

TIME = "Mon, 01 Jan 2024 00:00:00 GMT"


def one(t, w, what, source, want, **more):
    """The one file's source{} is this; more: members of the event beside it."""
    r, e, _ = w.run(dict(source, keepalive=False) if source["source_type"] != "local" else source)
    if not t.ok(r["event_type"] == "job.completed" and len(e) == 1, "%s: one file" % what, r.raw[:1200]):
        return
    t.is_(e[0]["source"], want, "%s: source{}" % what)
    t.is_({k: e[0][k] for k in more}, more, "%s: %s" % (what, ", ".join(more)))


def mounted(path):
    """The type of the file system, by the kernel's table of mounts."""
    dev = "%d:%d" % (os.major(os.stat(path).st_dev), os.minor(os.stat(path).st_dev))
    with open("/proc/self/mountinfo") as f:
        kinds = {x.split(" - ")[1].split()[0] for x in f if x.split()[2] == dev}
    kind = kinds.pop()
    return "ext" if kind.startswith("ext") else kind


def local(t, w, root):
    path = os.path.join(root, "a.csv")
    with open(path, "w") as f:
        f.write("12345")
    os.chmod(path, 0o640)
    os.link(path, os.path.join(root, "b.txt"))
    os.utime(path, ns=(1600000000123456789, 1700000000123456789))
    s = os.stat(path)

    def shown(ns):
        return datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + ".%09dZ" % (ns % 10**9)
    birth = subprocess.run(["stat", "-c", "%w", path], env={"LC_ALL": "C", "TZ": "UTC0", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True).stdout.strip()
    r, e, _ = w.run({"source_type": "local", "path": root}, file_pattern="a.csv")
    got = e[0]["source"]
    want = {"root": root, "dev": s.st_dev, "inode": s.st_ino, "nlink": 2, "mode": "0640", "permissions": "rw-r-----", "uid": s.st_uid, "gid": s.st_gid,
            "owner": pwd.getpwuid(s.st_uid).pw_name, "group": grp.getgrgid(s.st_gid).gr_name, "mtime": "2023-11-14T22:13:20.123456789Z", "filesystem": mounted(path), "atime": shown(s.st_atime_ns), "ctime": shown(s.st_ctime_ns), "blocks": s.st_blocks}
    if birth != "-":        # stat(1) knows none on a file system that keeps none
        want["btime"] = birth[:19].replace(" ", "T") + birth[19:29] + "Z"
    t.is_(got, want, "local: source{}")
    os.chown(path, 0x7ffffff0, 0x7ffffff1)
    got = w.run({"source_type": "local", "path": root}, file_pattern="a.csv")[1][0]["source"]
    t.is_((got["uid"], got["gid"], "owner" in got, "group" in got), (0x7ffffff0, 0x7ffffff1, False, False), "local: an owner without a name")
    t.is_((e[0]["modified_at"], e[0]["modified_precision"], e[0]["file_size"]), ("2023-11-14T22:13:20.123456789Z", "ns", 5), "local: time and size")


def http(t, w, _):
    head = {"Content-Length": "5", "Last-Modified": TIME, "ETag": '"v1"', "Content-Type": "text/csv; charset=utf-8", "Content-Disposition": 'attachment; filename="x.csv"',
            "Accept-Ranges": "bytes", "Cache-Control": "max-age=60", "Server": "test/1"}

    def script(q):
        if q.path == "/moved/a.csv":
            return {"status": 302, "headers": {"Location": "/there/a.csv"}}
        if q.path.endswith(".csv"):
            return {"headers": dict(head, **({"Content-Encoding": "gzip"} if "packed" in q.path else {}))}
        body = b'<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href="a.csv">a.csv</a>  2024-01-02 03:04  1.5K\n</pre></body></html>'
        return {"headers": {"Content-Type": "text/html"}, "body": body}
    web = Answers(script)
    url = web.url + "/in/a.csv"
    told = {"url": url, "status": 200, "etag": '"v1"', "last_modified": TIME, "content_length": 5, "content_type": "text/csv; charset=utf-8",
            "content_disposition": 'attachment; filename="x.csv"', "accept_ranges": "bytes", "cache_control": "max-age=60", "server": "test/1", "modified_source": "header"}
    source = {"source_type": "http", "url": web.url + "/in/", "head_mode": "all"}
    one(t, w, "http", source, dict(told, index_format="html"), file_size=5, modified_at="2024-01-01T00:00:00Z")
    one(t, w, "http, a file named by url", dict(source, url=url), dict(told, index_format="none"), file_size=5)
    one(t, w, "http, redirected", dict(source, url=web.url + "/moved/a.csv"), dict(told, url=web.url + "/moved/a.csv", final_url=web.url + "/there/a.csv", index_format="none"))
    one(t, w, "http, packed", dict(source, url=web.url + "/packed/a.csv"), dict(told, url=web.url + "/packed/a.csv", content_encoding="gzip", index_format="none"), file_size=None)
    one(t, w, "http, the index alone", dict(source, head_mode="none"), {"url": url, "index_format": "html", "size_approximate": 1536, "modified_source": "index"},
        file_size=None, modified_at="2024-01-02T03:04:00Z", checksum=None)
    web.stop()


def s3(t, w, _):
    p = Pages([b"in/a.csv"], entry=lambda k: "<ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType><StorageClass>GLACIER</StorageClass>"
              "<Owner><ID>77</ID><DisplayName>me</DisplayName></Owner><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
              "<RestoreExpiryDate>2030-12-21T00:00:00.000Z</RestoreExpiryDate></RestoreStatus>")
    etag = "b0fce4d4fd39eda27fac91cb7c9fd9c9"
    r, e, _ = w.run(p.source(path="in"))
    etag = e[0]["source"].get("etag", "").strip('"')
    one(t, w, "s3", p.source(path="in", region="us-east-1", fetch_owner=True),
        {"bucket": "b", "key": "in/a.csv", "region": "us-east-1", "endpoint": p.url, "etag": '"%s"' % etag, "storage_class": "GLACIER", "last_modified": "2024-05-06T07:08:09.000Z",
         "checksum_algorithm": "SHA256", "checksum_type": "COMPOSITE", "owner_id": "77", "owner_display_name": "me", "restore_in_progress": "false", "restore_expiry": "2030-12-21T00:00:00.000Z"},
        checksum=etag, checksum_algorithm="etag", modified_at="2024-05-06T07:08:09Z", file_url="s3://b/in/a.csv")
    p.stop()


def ftp(t, w, _):
    line = "type=file;size=5;modify=20240506070809;unique=8U1;perm=adfr;UNIX.mode=0640;UNIX.uid=7;UNIX.gid=8;UNIX.owner=ann;UNIX.group=staff; a.csv"
    f = Fake({"FEAT": "211-here\r\n MLST type*;size*;modify*;\r\n211 end", "MLSD": ["150 here", line.encode() + b"\r\n", "226 ok"]})
    one(t, w, "ftp by MLSD", f.source("/in", username="ann", password="x", include_raw=True),
        {"host": "127.0.0.1", "port": f.port, "username": "ann", "path": "/in", "system": "UNIX Type: L8", "list_command": "MLSD", "type": "file", "unique": "8U1", "perm": "adfr",
         "modify_fact": "20240506070809", "mode": "0640", "permissions": "rw-r-----", "uid": 7, "gid": 8, "owner": "ann", "group": "staff", "raw": line}, file_size=5, modified_at="2024-05-06T07:08:09Z", modified_precision="s")
    f.stop()
    f = Fake({"FEAT": "211-here\r\n MLST type*;size*;modify*;\r\n211 end", "MLSD": ["150 here", b"type=file;modify=20240506070809.123;UNIX.uid=7;UNIX.gid=8; a.csv\r\n", "226 ok"], "SIZE": "213 77"})
    one(t, w, "ftp by MLSD with fewer facts", f.source("/in"),
        {"host": "127.0.0.1", "port": f.port, "username": "anonymous", "path": "/in", "system": "UNIX Type: L8", "list_command": "MLSD", "type": "file",
         "modify_fact": "20240506070809.123", "uid": 7, "gid": 8}, file_size=77, modified_at="2024-05-06T07:08:09Z", modified_precision="s")
    f.stop()
    line = "-rw-r----- 1 ann staff 5 Nov 23  2023 a.csv"
    f = Fake({"LIST": ["150 here", line.encode() + b"\r\n", "226 ok"]})
    one(t, w, "ftp by LIST", f.source("/in", include_raw=True),
        {"host": "127.0.0.1", "port": f.port, "username": "anonymous", "path": "/in", "system": "UNIX Type: L8", "list_command": "LIST", "type": "file", "mode": "0640", "permissions": "rw-r-----",
         "owner": "ann", "group": "staff", "raw": line}, file_size=5, modified_precision="day")
    f.stop()


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    root = os.path.realpath(folder())
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8"], "local.allowed_roots": [root]})
    for part in (local, http, s3, ftp):
        t.part(part, w, root)
    left, right = conservation(d)
    t.ok(left == right, "accepted = ended + in flight", (left, right))
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
