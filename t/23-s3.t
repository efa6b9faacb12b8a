#!/usr/bin/python3
"""s3: jobs of buckets, from Kafka to Kafka, against servers that verify signatures. The events must be the keys that were put."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, need  # noqa: E402
from s3servers import ID, SECRET, Missing, Pages, S3Proxy, Swift  # noqa: E402
from trees import event_path  # noqa: E402

ODD = ["plain.csv", "sp ace.csv", "plus+plus.csv", "percent%41.csv", "quote\"'.csv", "back\\slash.csv", "amp&lt;<tag>.csv", "tab\tnew\nline\rcr.csv",
       "uml\u00e4ut.csv", "\u65e5\u672c.csv", "semi;colon:at@.csv", "star*()!.csv", "q?m#h.csv", "comma,=.csv", "~tilde.csv", "dirmarker/", "/lead.csv",
       "a//b.csv", "./x.csv", "x/../y.csv", "-dash.csv", "deep/er/still/z.csv", "n" * 250 + ".csv"]
CONTROL = ["c\x01.csv", "c\x07.csv", "c\x0b.csv", "c\x1b.csv"]


def keys_of(events):
    return [event_path(e) for e in events]


class S3:
    """Runs jobs of one server and holds what they report against its keys."""

    def __init__(self, t, w):
        self.t, self.w = t, w

    def check(self, what, source, want, matched=None, **fields):
        fields.setdefault("filters", {"include_hidden": True})
        r, e, _ = self.w.run(source, **fields)
        self.t.is_(sorted(keys_of(e)), sorted(want), what) if len(set(want)) < len(want) else self.t.same_set(keys_of(e), want, what)
        if r["event_type"] != "job.completed" or r["matched"] != len(want):
            self.t.ok(False, "%s: the terminal record agrees" % what, r.raw[:1500])
        return r, e

    def fails(self, what, source, cls, *words, **fields):
        r, e, d = self.w.run(dict({"retries": 0}, **source), **fields)
        text = r["error"]["message"] if r["error"] else ""
        self.t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == cls and all(x in text for x in words) and not e,
                  what, r.raw[:1500], "%d events" % len(e))
        self.t.ok(SECRET not in r.raw.decode() and all(SECRET not in x.raw.decode() for x in d), "%s: the secret is in no record" % what)
        return r


def real(t, w, server, name):
    x = S3(t, w)
    c = server.client
    c.make_bucket("odd")
    took = [k for k in ODD + CONTROL if c.put("odd", k, b"12345" if not k.endswith("/") else b"")]
    t.ok(len(took) >= 20, "%s takes %d of %d odd keys" % (name, len(took), len(ODD + CONTROL)), set(ODD + CONTROL) - set(took))
    want = [k.encode() for k in took]
    files = [k for k in want if not k.endswith(b"/")]
    r, e = x.check("%s: every odd key, exactly" % name, server.source("odd", recursive=True), files)
    one = [v for v in e if event_path(v) == b"plain.csv"][0]
    t.ok(one["file_size"] == 5 and one["checksum_algorithm"] == "etag" and one["checksum"] == "827ccb0eea8a706c4c34a16891f84e7b"
         and one["source"]["bucket"] == "odd" and one["source"]["key"] == "plain.csv" and one["file_url"] == "s3://odd/plain.csv"
         and one["source"]["etag"] == '"827ccb0eea8a706c4c34a16891f84e7b"' and one["modified_at"], "%s: what an event says" % name, one.raw)
    t.ok(r["sources"][0]["peer"] == "127.0.0.1:%d" % server.port, "%s: the peer is told" % name, r.raw)
    x.check("%s: list_type 1" % name, server.source("odd", recursive=True, list_type=1), files)
    for n in (1, 3):
        x.check("%s: pages of %d" % (name, n), server.source("odd", recursive=True, max_keys=n), files)
    x.check("%s: without recursive" % name, server.source("odd"), [k for k in files if b"/" not in k])
    x.check("%s: without recursive, pages of 2" % name, server.source("odd", max_keys=2), [k for k in files if b"/" not in k])
    x.check("%s: a folder" % name, server.source("odd", path="deep/er", recursive=True), [k for k in files if k.startswith(b"deep/er/")])
    x.check("%s: one key" % name, server.source("odd", path="deep/er/still/z.csv"), [b"deep/er/still/z.csv"])
    x.check("%s: max_depth" % name, server.source("odd", recursive=True, max_depth=1), [k for k in files if k.count(b"/") <= 1])
    x.check("%s: a prefix to the byte" % name, server.source("odd", prefix="p", recursive=True), [k for k in files if k.startswith(b"p")])
    x.check("%s: start_after" % name, server.source("odd", start_after="plain.csv", recursive=True), [k for k in files if k > b"plain.csv"])
    if b"dirmarker/" in want:
        x.check("%s: include_dir_markers" % name, server.source("odd", recursive=True, include_dir_markers=True), want)
    x.fails("%s: a wrong secret" % name, server.source("odd", secret_access_key="wrong"), "auth", "127.0.0.1")
    x.fails("%s: an unknown key id" % name, server.source("odd", access_key_id="AKIDNOBODY"), "auth")
    x.fails("%s: no such bucket" % name, server.source("nowhere"), "not_found", "NoSuchBucket")
    c.make_bucket("hold")
    for k in ("in/a.csv", "in/a.csv.ok", "in/b.csv", "in/c.csv", "in/c.csv.part", "in/c.csv.ok", "in/sub/d.csv", "in/sub/d.csv.ok", "in//e.csv", "in//e.csv.ok"):
        c.put("hold", k, b"1")
    x.check("%s: done_file of each file, in-progress names" % name, server.source("hold", path="in", recursive=True),
            [b"in/a.csv", b"in/sub/d.csv", b"in//e.csv"], filters={"done_file": "{name}.ok", "in_progress_suffixes": [".part"]}, file_pattern="*.csv")
    c.make_bucket("tree")
    tree = ["d%02d/f%02d.csv" % (i, k) for i in range(12) for k in range(20)] + ["top.csv"]
    for k in tree:
        c.put("tree", k, b"1")
    c.make_bucket("pipes")
    delimiters(x, name, lambda **f: server.source("pipes", **f), lambda k: c.put("pipes", k, b"1"))
    x.check("%s: several prefixes at once" % name, server.source("tree", recursive=True, max_keys=20), [k.encode() for k in tree])


def delimiters(x, name, source, put):
    """Folders that end with another separator."""
    keys = [b"logs|2024|a.csv", b"logs|2024|b|c.csv", b"logs|2024|in/d.csv", b"logs|x.csv", b"logs|in/y.csv", b"top.csv", b"with/slash.csv", b"logsX"]
    for k in keys:
        put(k.decode())
    top = [k for k in keys if b"|" not in k]
    for n in (1000, 1):
        own = {"delimiter": "|", "max_keys": n}
        x.check("%s: delimiter |, pages of %d" % (name, n), source(**own), top)
        x.check("%s: delimiter |, a folder, pages of %d" % (name, n), source(path="logs", **own), [b"logs|x.csv", b"logs|in/y.csv"])
        x.check("%s: delimiter |, recursive, pages of %d" % (name, n), source(recursive=True, **own), keys)
        x.check("%s: delimiter |, a folder, recursive, pages of %d" % (name, n), source(path="logs|2024|", recursive=True, **own), [k for k in keys if k.startswith(b"logs|2024|")])
    r, e = x.check("%s: delimiter |, names count by '/'" % name, source(path="logs", recursive=True, delimiter="|"), [b"logs|2024|a.csv", b"logs|2024|b|c.csv", b"logs|x.csv"], file_pattern="*.csv",
                   filters={"exclude": ["in/*", "2024|in/*"]})
    t = {v["source"]["key"]: (v["file_name"], v["relative_path"]) for v in e}
    x.t.is_(t.get("logs|2024|a.csv"), ("logs|2024|a.csv", "2024|a.csv"), "%s: delimiter |: an event's name and relative path" % name)
    x.check("%s: delimiter |, one key" % name, source(path="logs|x.csv", delimiter="|"), [b"logs|x.csv"])
    x.check("%s: delimiter |, a pattern's head" % name, source(delimiter="|", recursive=True), [b"logs|2024|in/d.csv"], file_pattern="logs|2024|in/*.csv")
    x.check("%s: delimiter of several bytes" % name, source(delimiter="|2024|", prefix="logs"), [b"logs|x.csv", b"logs|in/y.csv", b"logsX"])
    x.check("%s: delimiter |, done_file" % name, source(delimiter="|", recursive=True), [b"logs|x.csv"], filters={"done_file": "logsX"}, file_pattern="logs|x.csv")


def server(t, w, make, name):
    """A server that cannot be had is said; in CI it must be there."""
    try:
        s = make()
    except Missing as e:
        t.skip("%s is there" % name, str(e))
        return None
    real(t, w, s, name)
    return s


def s3proxy(t, w):
    server(t, w, S3Proxy, "S3Proxy")


def swift(t, w):
    s = server(t, w, Swift, "Swift")
    if not s:
        return
    x = S3(t, w)
    c = s.client
    c.make_bucket("versions")
    status, body = c.request("PUT", "/versions", b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>", query="versioning=")
    t.is_(status, 200, "Swift keeps versions")
    for n in (1, 2, 3):
        c.put("versions", "a.csv", b"x" * n)
    c.put("versions", "b.csv", b"1")
    c.request("DELETE", "/versions/b.csv")
    for n in (1000, 1):
        r, e = x.check("versions, pages of %d" % n, s.source("versions", versions=True, max_keys=n), [b"a.csv"] * 3 + [b"b.csv"])
        t.is_(sorted(v["file_size"] for v in e), [1, 1, 2, 3], "each with its size")
        t.ok(len({v["event_id"] for v in e}) == 4 and len({v["source"]["version_id"] for v in e}) == 4
             and sorted(v["source"]["is_latest"] for v in e) == ["false"] * 3 + ["true"], "each with its id", [v.raw for v in e])
    r, e = x.check("delete markers, too", s.source("versions", versions=True, include_delete_markers=True), [b"a.csv"] * 3 + [b"b.csv"] * 2)
    t.is_(sorted(v["source"]["is_delete_marker"] for v in e), ["false"] * 4 + ["true"], "one of them is a delete marker")
    x.check("without versions", s.source("versions"), [b"a.csv"])
    x.check("version_at, before there was anything", s.source("versions", version_at="2020-01-01T00:00:00Z"), [])
    r, e = x.check("version_at, behind all of it", s.source("versions", version_at="2120-01-01T00:00:00Z", max_keys=1), [b"a.csv"])
    t.is_([v["file_size"] for v in e], [3], "the newest of them")


def pages(t, w):
    """What only a server of ours can be made to do: counted requests, and each way to be wrong."""
    x = S3(t, w)
    tree = [b"d%03d/f%03d.csv" % (i, k) for i in range(40) for k in range(100)] + [b"top%d.csv" % i for i in range(3)]
    p = Pages()
    p.keys = {}

    def put(k):
        p.keys[k.encode()] = 1
        p.sorted = sorted(p.keys)
    delimiters(x, "our server", p.source, put)
    p.stop()
    p = Pages([k.replace(b"/", b"|") for k in tree])
    x.check("delimiter |: several prefixes at once", p.source(recursive=True, delimiter="|"), [k.replace(b"/", b"|") for k in tree])
    asked = [q["query"].get("prefix", b"") for q in p.requests]
    t.ok(b"d000|" in asked and b"d039|" in asked, "each by a prefix of its own", asked[:9])
    p.stop()
    p = Pages(tree)
    x.check("40 folders of 100", p.source(recursive=True, max_keys=100), tree)
    t.ok(len(p.requests) <= 1 + 1 + 2 * 40 and any(b"d017/" == r["query"].get("prefix") for r in p.requests), "prefixes were listed on their own: %d requests" % len(p.requests))
    n = len(p.requests)
    x.check("one connection", p.source(recursive=True, max_keys=1000, max_connections=1), tree)
    t.is_(len(p.requests) - n, 5, "one connection takes page after page: no more requests than pages")
    n = len(p.requests)
    x.check("a pattern with a folder", p.source(recursive=True), [k for k in tree if k.startswith(b"d017/")], file_pattern="d017/*.csv")
    got = p.requests[n:]
    t.ok(len(got) == 1 and got[0]["query"]["prefix"] == b"d017/", "one request for the folder of the pattern", got)
    n = len(p.requests)
    x.check("two patterns with folders", p.source(recursive=True), [k for k in tree if k.startswith((b"d017/f00", b"d018/f00"))],
            file_pattern=["d017/f00*.csv", "d018/f00*.csv"])
    t.is_(sorted(r["query"]["prefix"] for r in p.requests[n:]), [b"d017/f00", b"d018/f00"], "one request for each head")
    n = len(p.requests)
    x.check("a pattern's head in one folder", p.source(path="d017"), [b"d017/f01%d.csv" % i for i in range(10)], file_pattern="f01?.csv")
    got = p.requests[n:]
    t.ok(len(got) == 1 and got[0]["query"]["prefix"] == b"d017/f01", "one request for the head of the name", got)
    n = len(p.requests)
    x.check("a head with done_file is not taken", p.source(path="d017"), [], file_pattern="f01?.csv", filters={"done_file": "_DONE"})
    t.is_(p.requests[n]["query"]["prefix"], b"d017/", "the whole folder is asked for where other names matter")
    r, e, _ = w.run(p.source(recursive=True), filters={"max_files": 7})
    t.is_((r["truncated"], len(e)), (True, 7), "max_files")
    x.check("version 1 where the server knows no other", Pages(tree, v1_only=True).source(recursive=True, max_keys=100), tree)
    x.check("keys that are not encoded, though asked for", Pages([b"a%41.csv", b"b+c.csv", b"d e.csv"], encode=False).source(), [b"a%41.csv", b"b+c.csv", b"d e.csv"])
    x.check("anonymous", Pages([b"a.csv"], anonymous=True).source(), [b"a.csv"])
    p = Pages([b"a.csv"], region="eu-west-3")
    x.check("the server names the region", p.source(), [b"a.csv"])
    t.is_(len(p.requests), 2, "and is asked once more")
    p = Pages([b"a.csv"], bucket="127")
    x.check("the bucket before the host", p.source(endpoint="http://0.0.1:%d" % p.port, force_path_style=False), [b"a.csv"])
    t.ok(p.requests[0]["path"] == "/" and p.requests[0]["headers"]["Host"] == "127.0.0.1:%d" % p.port, "and not in the path", p.requests[0])
    p = Pages([b"a.csv"])
    x.check("headers of the request", p.source(request_payer=True, expected_bucket_owner="123456789012", session_token="to/ken="), [b"a.csv"])
    h = {k.lower(): v for k, v in p.requests[0]["headers"].items()}
    t.ok((h["x-amz-request-payer"], h["x-amz-expected-bucket-owner"], h["x-amz-security-token"]) == ("requester", "123456789012", "to/ken=")
         and "x-amz-security-token" in h["authorization"], "payer, owner and token are sent and signed", h)


def faults(t, w):
    x = S3(t, w)
    keys = [b"k%04d.csv" % i for i in range(250)]
    more = {"recursive": True, "max_keys": 100}

    def once(n, answer):
        return lambda r: answer if r["n"] == n else None
    slow = Pages.error(503, "SlowDown")
    p = Pages(keys, fault=once(1, slow))
    x.check("SlowDown in the middle", p.source(**more), keys)
    t.is_(len(p.requests), 4, "that page was asked for again, nothing else")
    p = Pages(keys, fault=once(1, "cut"))
    x.check("a page is cut: asked for again", p.source(**more), keys)
    p = Pages(keys, fault=lambda r: slow)
    r = x.fails("SlowDown for ever", p.source(**more), "transient", "SlowDown")
    t.ok(2 <= len(p.requests) <= 8, "it was asked %d times" % len(p.requests))
    x.fails("SlowDown with a long Retry-After", Pages(keys, fault=lambda r: Pages.error(503, "SlowDown", headers={"Retry-After": "120"})).source(**more), "transient")
    r, e, _ = w.run(Pages(keys, fault=lambda r: "cut" if r["n"] else None).source(retries=0, **more))
    t.ok(r["event_type"] == "job.failed" and not e, "pages that are cut for ever: nothing is published as whole", r.raw)
    x.fails("the same token again", Pages(keys, token=lambda last: b"k0050.csv").source(**more), "listing_loop", "token")
    ring = [b"k0050.csv", b"k0020.csv"]
    x.fails("a ring of tokens", Pages(keys, token=lambda last: ring[last == b"k0150.csv"]).source(**more), "listing_loop")
    p = Pages(keys, token=lambda last: None)
    x.check("truncated without a token: on behind the last key", p.source(**more), keys)
    t.ok(p.requests[1]["query"]["start-after"] == b"k0099.csv", "start-after the last key", p.requests[1])
    broken = [b"a.csv", b"b\x01.csv", b"c.csv", b"d\x07.csv", b"e.csv"]
    for last in (False, True):
        for n in (1, 2):
            x.check("a token that is no XML, %s the keys, pages of %d" % ("behind" if last else "before", n),
                    Pages(broken, token_last=last).source(max_keys=n), broken)
    page = b"<ListBucketResult><IsTruncated>%s</IsTruncated>%s</ListBucketResult>"
    one = b"<Contents><Key>a.csv</Key></Contents>"
    endless = 200, {}, page % (b"true", one)
    x.fails("truncated for ever, always the same key", Pages(fault=lambda r: endless).source(), "listing_loop")
    n = [0]

    def tokens(r):
        n[0] += 1
        return 200, {}, page % (b"true", b"<NextContinuationToken>%d</NextContinuationToken>" % n[0])
    x.fails("empty pages for ever", Pages(fault=tokens).source(), "listing_loop", "empty")
    for what, body in (("an empty answer", b""), ("HTML", b"<html><body>hello</body></html>"), ("half a page", page[:40]), ("no IsTruncated", b"<ListBucketResult/>"),
                       ("a DTD", b"<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
                       ("a key outside", page % (b"false", b"<Contents><Key>other/a.csv</Key></Contents>")),
                       ("a size that is none", page % (b"false", b"<Contents><Key>in/a.csv</Key><Size>x</Size></Contents>"))):
        x.fails(what, Pages(fault=lambda r: (200, {}, body)).source(path="in"), "protocol")
    for code, status, cls in (("AccessDenied", 403, "auth"), ("ExpiredToken", 400, "auth"), ("RequestTimeTooSkewed", 403, "auth"), ("NoSuchBucket", 404, "not_found"),
                              ("PermanentRedirect", 301, "permanent"), ("InvalidBucketName", 400, "permanent"), ("MethodNotAllowed", 405, "permanent")):
        x.fails(code, Pages(fault=lambda r: Pages.error(status, code)).source(), cls, code, "told by the test")
    said = b"<Error><Code>InvalidToken</Code><Message>canary-of-the-session is no token</Message></Error>"
    r = x.fails("a token that the server repeats", Pages(fault=lambda r: (400, {}, said)).source(session_token="canary-of-the-session"), "auth", "InvalidToken")
    t.ok(b"canary" not in r.raw, "is shown to nobody", r.raw)
    x.fails("a redirect is not followed", Pages(fault=lambda r: (302, {"Location": "http://127.0.0.1:1/"}, b"")).source(), "permanent", "302")

    def denied(r):
        return Pages.error(403, "AccessDenied") if r["query"].get("prefix") == b"no/" else None
    r, e, _ = w.run(Pages([b"no/a.csv", b"yes/b.csv"], fault=denied).source(recursive=True, max_depth=3))
    t.ok(r["event_type"] == "job.partial" and keys_of(e) == [b"yes/b.csv"] and r["sources"][0]["unreadable"] == 1, "one prefix is refused: named, the rest comes", r.raw)


def jobs(t, w):
    x = S3(t, w)
    base = {"source_type": "s3", "endpoint": "http://127.0.0.1:1"}
    key = {"access_key_id": ID, "secret_access_key": SECRET}
    for what, source in (("no bucket", key), ("no credentials", {"bucket": "b"}), ("half of them", {"bucket": "b", "access_key_id": ID}),
                         ("a bucket that is none", dict(key, bucket="../b")), ("a port that is none", dict(key, bucket="b", endpoint="http://h:0")),
                         ("anonymous with a key", dict(key, bucket="b", anonymous=True)), ("path and prefix", dict(key, bucket="b", path="a", prefix="a")), ("delimiter and max_depth", dict(key, bucket="b", delimiter="|", recursive=True, max_depth=1))):
        x.fails("a job with %s" % what, dict(base, **source), "invalid_job", invalid=True)
    for filters in ({"exclude_dirs": ["a"]}, {"exclude_if_present": "a"}, {"types": ["dir"]}):
        x.fails("a job with delimiter and %s" % list(filters), dict(base, bucket="b", delimiter="|", **key), "invalid_job", "delimiter", invalid=True, filters=filters)
    r = x.fails("nobody listens", dict(base, bucket="b", **key), "transient", "127.0.0.1")


with Tap() as tap:
    need(tap, "iis-pollerd", "iis-poller-worker")
    world = World(MockBroker(tap))
    d = Daemon(world, {"egress.allow": ["127.0.0.0/8", "::1/128"]})
    for part in (pages, faults, jobs, s3proxy, swift):
        tap.part(part, world)
    left, right = conservation(d)
    tap.ok(left == right and left, "accepted = ended + in flight", (left, right))
    tap.is_(d.stop(), 0, "a graceful stop: exit 0")
