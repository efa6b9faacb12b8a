#!/usr/bin/python3
"""http: index pages of real servers, WebDAV, manifests, details by HEAD, credentials, redirects, refusals, cut pages."""
import email.utils
import json
import os
import re
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402
import webservers  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, conservation, folder, need  # noqa: E402
from webservers import Answers, Apache, Caddy, Lighttpd, Nginx, PythonWeb  # noqa: E402

PAGE = ("<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre><a href=\"../\">../</a>\n%s"
        "</pre></body></html>")
HTML = {"Content-Type": "text/html"}


def line(name, size=5):
    return '<a href="%s">%s</a>   01-Jan-2024 00:00   %s\n' % (name, name, size)


def page(*names, **headers):
    return {"headers": dict(HTML, **{k.replace("_", "-"): v for k, v in headers.items()}),
            "body": (PAGE % "".join(line(n) for n in names)).encode()}


class Web:
    """The daemon, and the jobs that every part sends it."""

    def __init__(self, t, w, d):
        self.t, self.w, self.d = t, w, d

    def run(self, url, source=None, timeout=60, **fields):
        s = {"source_type": "http", "url": url}
        s.update(source or {})
        return self.w.run(s, timeout=timeout, **fields)

    def good(self, url, want, what, source=None, event="job.completed", **fields):
        """Completed, with events for just these relative paths."""
        r, e, _ = self.run(url, source, **fields)
        self.t.same_set([x["relative_path"] for x in e], list(want), what)
        if r["event_type"] != event:
            self.t.ok(False, "%s: %s" % (what, event), r.raw)
        return r, e

    def bad(self, url, cls, what, *words, source=None, **fields):
        """Failed with this class and these words, and no event."""
        r, e, _ = self.run(url, source, **fields)
        error = r["error"] or {}
        self.t.ok(r["event_type"] == "job.failed" and error.get("class") == cls and not e and
                  all(x in error.get("message", "") for x in words), what, "wanted %s with %r" % (cls, words), r.raw, "%d events" % len(e))
        return r


# ---- real servers -------------------------------------------------------------------------------------------------------

def dots(p):
    return any(c.startswith(b".") for c in p.split(b"/"))


def controls(p):
    return any(c < 32 or c == 127 for c in p)


def nowhere(tree):
    """Links that lead nowhere, which some servers show as files of the length of their text."""
    base = os.fsencode(tree.root)
    return {(b"links/" + n, os.lstat(os.path.join(base, b"links", n)).st_size) for n in os.listdir(os.path.join(base, b"links"))
            if not os.path.exists(os.path.join(base, b"links", n))}


def python_name(p):
    return p.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")


def not_utf8(p):
    try:
        p.decode("utf-8")
        return False
    except UnicodeDecodeError:
        return True


# name, server, kind, the job's fields, paths the server cannot show or serve, what it shows beside, sizes are exact, why
def table(s, tree):
    cut = lambda p: dots(p)  # noqa: E731
    unasked = lambda p: dots(p) or (b"/" in p and (controls(p.rsplit(b"/", 1)[0]) or not_utf8(p.rsplit(b"/", 1)[0])))  # noqa: E731
    none = lambda p: False  # noqa: E731
    return [
        ("nginx html", s["nginx"], "html", {}, cut, nowhere(tree), True, "hides dot names, shows links to nowhere"),
        ("nginx html, heads", s["nginx"], "html", {"head_mode": "all"}, cut, set(), True, "hides dot names"),
        ("nginx json", s["nginx"], "json", {}, cut, set(), True, "hides dot names"),
        ("nginx json, compressed", s["nginx"], "gzip", {}, cut, set(), True, "hides dot names"),
        ("apache fancy", s["apache"], "fancy", {}, none, set(), False, "rounds sizes"),
        ("apache fancy, heads", s["apache"], "fancy", {"head_mode": "all"}, none, set(), True, ""),
        ("apache table", s["apache"], "table", {}, none, set(), False, "rounds sizes"),
        ("apache plain", s["apache"], "plain", {}, none, set(), True, ""),
        ("apache dav", s["apache"], "dav", {"source_type": "webdav"}, lambda p: p not in tree.paths(include_hidden=True), set(), True,
         "shows no links"),
        ("lighttpd", s["lighttpd"], "html", {"max_connections": 8}, unasked, set(), False,
         "hides dot names, rounds sizes, refuses controls and what is not UTF-8 in paths"),
        ("lighttpd dav", s["lighttpd"], "dav", {"index_format": "webdav", "exclude": ["links"]},
         lambda p: b"/" in p and unasked(b"x" + p.replace(b"/.", b"/x")), set(), True, "refuses controls and what is not UTF-8 in paths"),
        ("caddy json", s["caddy"], "browse", {}, none, nowhere(tree), True, "shows links to nowhere"),
        ("caddy html", s["caddy"], "browse", {"index_format": "html", "head_mode": "all"}, none, set(), True, ""),
        ("python", s["python"], "list", {}, none, set(), True, "writes names that are not UTF-8 in its own way"),
    ]


def real(t, x, s, tree):
    for name, server, kind, source, lost, beside, sizes, why in table(s, tree):
        if kind not in server.url:
            t.skip(name, "the server was built without it")
            continue
        source = dict({"recursive": True, "max_connections": 4}, **source)
        skip = ["loops"] + source.pop("exclude", [])
        r, e, _ = x.run(server.url[kind], source, filters={"include_hidden": True, "exclude_dirs": skip}, timeout=120)
        files = {(p, n) for p, n, _ in tree.files(follow="all", include_hidden=True, loops=False) if p.split(b"/")[0].decode("latin1") not in skip}
        want = {(p, n) for p, n in files if not lost(p)} | beside
        if name == "python":
            want = {(python_name(p), n) for p, n in want}
        got = [(trees.event_path(v)[1:], v["file_size"]) for v in e]
        if not sizes:
            exact = {p: n for p, n in want}
            t.ok(all(n is None or n == exact.get(p) for p, n in got), "%s: a size is exact or null" % name)
            want, got = {p for p, _ in want}, [p for p, _ in got]
        t.same_set(got, want, "%s: the nasty tree, %d of %d files%s" % (name, len(want), len(files), why and " (%s)" % why))
        t.ok(r["event_type"] in ("job.completed", "job.partial"), "%s: completed or partial" % name, r.raw)
        if name == "nginx json":
            v = [v for v in e if v["relative_path"] == "plain.csv"][0]
            t.is_((v["modified_at"], v["modified_precision"], v["file_url"]),
                  ("2024-01-01T00:00:00Z", "s", server.url[kind] + "plain.csv"), "an event's time and address")
            t.is_({k: v["source"][k] for k in ("index_format", "modified_source")}, {"index_format": "json", "modified_source": "index"},
                  "and what its source says")
        if name == "lighttpd":
            n = sum(q["unreadable"] for q in r["sources"])
            t.ok(r["event_type"] == "job.partial" and n >= 3, "directories that lighttpd refuses are named, the job is partial", r.raw)
    x.bad(s["nginx"].url["xml"], "protocol", "nginx xml: a control character in a name makes the page no XML: told, nothing published",
          "not well-formed", source={"recursive": True})
    x.good(s["nginx"].url["xml"] + "sub/", ["in.csv"], "nginx xml: a folder without such names")
    r, e, _ = x.run(s["nginx"].url["xml"] + "empty", {"recursive": True})
    t.is_((r["event_type"], r["matched"]), ("job.completed", 0), "nginx xml: an empty folder is empty, not a failure")
    for name, url in (("nginx html", s["nginx"].url["html"]), ("nginx json", s["nginx"].url["json"]), ("apache", s["apache"].url["fancy"]),
                      ("apache plain", s["apache"].url["plain"]), ("lighttpd", s["lighttpd"].url["html"]), ("caddy", s["caddy"].url["browse"]),
                      ("python", s["python"].url["list"])):
        r, e, _ = x.run(url + "empty/")
        t.is_((r["event_type"], r["matched"]), ("job.completed", 0), "%s: an empty folder is empty, not a failure" % name)
        x.bad(url + "not%20there/", "not_found", "%s: what is not there" % name, "404")


def shape(t, x, s, tree):
    """recursive, depth, follow: what trees of every type have."""
    url = s["nginx"].url["json"]
    x.good(url + "sub", ["in.csv"], "not recursive, and without the last slash")
    r, e = x.good(url + "sub/in.csv", ["in.csv"], "url names one file")
    v = e[0]
    t.is_((v["file_path"], v["file_size"], v["source"]["status"], v["source"]["index_format"]), ("/sub/in.csv", 1000, 200, "none"),
          "one file: its path, size and status")
    x.good(url, ["in.csv"], "path below url", source={"path": "sub"})
    x.good(url + "loops/", ["real.csv"], "links to the parent: depth ends them", source={"recursive": True, "max_depth": 1},
           filters={"exclude_dirs": ["up", "here"]})
    x.bad(url + "loops/", "listing_loop", "links to the parent: an endless tree is told", source={"recursive": True},
          filters={"include": ["real.csv"]})


# ---- heads --------------------------------------------------------------------------------------------------------------

def heads(t, x, s, tree):
    dirs, files = 20, 250
    big = trees.big(dirs, files)
    paths = trees.big_paths(dirs, files)
    apache, nginx, python = Apache(big.root), Nginx(big.root), PythonWeb(big.root)
    r, e, _ = x.run(apache.url["plain"] + "d000/", {"max_connections": 4}, timeout=90)
    want = {p[5:].decode(): n for p, n in paths.items() if p.startswith(b"d000/")}
    # apache's HEAD of an empty file has no Content-Length
    t.is_({v["relative_path"]: v["file_size"] for v in e}, {p: n or None for p, n in want.items()}, "no size in the index: by HEAD, each right")
    t.ok(all(v["source"]["modified_source"] == "header" and v["modified_precision"] == "s" for v in e), "times are by header then")
    t.ok(all(v["source"]["etag"] for v in e), "and the entity tags")
    a = sorted(v["event_id"] for v in e)
    r, e, _ = x.run(apache.url["plain"] + "d000/", {"max_connections": 1}, timeout=90)
    t.is_(sorted(v["event_id"] for v in e), a, "the same files have the same ids, with one connection, too")
    r, e, _ = x.run(python.url["list"] + "d001/", {"max_connections": 8}, file_pattern="f00[0-4]?.csv")
    t.is_({v["file_size"] for v in e} == {None}, False, "python: sizes by HEAD")
    t.is_(len(e), 50, "only what matched was asked for")
    r, e, _ = x.run(python.url["list"] + "d001/", {"head_mode": "none"})
    t.ok(len(e) == files and all(v["file_size"] is None and v["modified_at"] is None for v in e), "head_mode none: null, never 0")
    r, e, _ = x.run(nginx.url["json"], {"recursive": True, "max_connections": 8}, timeout=120)
    got = [(trees.event_path(v)[1:], v["file_size"]) for v in e]
    t.same_set(got, set(paths.items()), "20 folders of 250 files, 8 connections")
    r, e, _ = x.run(apache.url["fancy"] + "d002/", filters={"min_size": 50}, timeout=90)
    t.is_(len(e), sum(1 for p, n in paths.items() if p.startswith(b"d002/") and n >= 50), "a filter by size")
    x.good(apache.url["dav"] + "d003/", {p[5:].decode() for p in paths if p.startswith(b"d003/")}, "webdav", {"source_type": "webdav"})
    for gone, want, cls in ((1, ["b.csv"], None), (2, [], "transient")):
        web = Answers(lambda q: page("a.csv", "b.csv") if q.path == "/" else {"status": 404 if gone == 2 or q.path == "/a.csv" else 200})
        if cls:
            x.bad(web.url + "/", cls, "a server that answers 404 to every HEAD has no empty index", "HEAD of each of 2 files", "head_mode", source={"head_mode": "all"})
            x.good(web.url + "/", ["a.csv", "b.csv"], "and is served without them", {"head_mode": "none"})
        else:
            x.good(web.url + "/", want, "one file that vanished is passed over", {"head_mode": "all"})
        web.stop()
    lighttpd = Lighttpd(big.root)
    r, e, _ = x.run(lighttpd.url["html"], {"recursive": True, "max_connections": 8}, timeout=120, file_pattern="f000?.csv")
    t.is_((r["event_type"], len(e)), ("job.completed", 10 * dirs), "lighttpd says 503 to listings at once: fewer are asked for, none is lost")


# ---- credentials --------------------------------------------------------------------------------------------------------------

def credentials(t, x, s, tree):
    for kind in ("basic", "digest"):
        url = s["apache"].url[kind] + "sub/"
        good = {"type": kind, "username": "poller", "password": "pw"}
        x.good(url, ["in.csv"], "%s: the right password" % kind, {"auth": good})
        r = x.bad(url, "auth", "%s: a wrong one" % kind, "401", source={"auth": dict(good, password="wrong-one")})
        t.ok(b"wrong-one" not in r.raw, "%s: which is not repeated" % kind)
    x.bad(s["apache"].url["basic"], "auth", "none where one is asked for", "401")

    def script(q):
        a = q.headers.get("Authorization") or q.headers.get("X-Key")
        if a not in ("Bearer t0ken", "t0ken") or q.headers.get("X-Extra") != "e":
            return {"status": 401}
        return page("one.csv")
    web = Answers(script)
    extra = {"X-Extra": "e"}
    x.good(web.url + "/", ["one.csv"], "bearer and a header", {"auth": {"token": "t0ken"}, "headers": extra})
    x.good(web.url + "/", ["one.csv"], "a token in a header of its own", {"auth": {"type": "header", "header": "X-Key", "token": "t0ken"}, "headers": extra})
    x.bad(web.url + "/", "auth", "a wrong token", "401", source={"auth": {"token": "t1ken"}, "headers": extra})
    x.good(web.url + "/", ["one.csv"], "user_agent", {"auth": {"token": "t0ken"}, "headers": extra, "user_agent": "our-poller/9"})
    t.is_(web.seen[-1][2].get("User-Agent"), "our-poller/9", "user_agent is what the server sees")
    web.stop()
    crt = open(s["nginx"].crt).read()
    url = s["nginx"].url["tls"] + "sub/"
    x.good(url, ["in.csv"], "https with the job's own authority", {"tls": {"ca_pem": crt}})
    x.good(url, ["in.csv"], "https by HTTP/2", {"tls": {"ca_pem": crt}, "http_version": "2", "recursive": False})
    x.bad(url, "permanent", "https with a certificate that nobody knows", source={"max_connections": 2})
    cert, key = (open(p).read() for p in s["nginx"].client)
    tls = {"ca_pem": crt, "cert_pem": cert, "key_pem": key}
    x.good(s["nginx"].url["mtls"] + "sub/", ["in.csv"], "a client certificate", {"tls": tls, "auth": {"type": "mtls"}})
    x.bad(s["nginx"].url["mtls"] + "sub/", "permanent", "none where one is asked for", "400", source={"tls": {"ca_pem": crt}})


# ---- redirects ------------------------------------------------------------------------------------------------------------------

def redirects(t, x, s, tree):
    other = Answers(lambda q: page("other.csv"))
    tls = (s["nginx"].crt, s["nginx"].key)
    crt = {"tls": {"ca_pem": open(tls[0]).read()}}

    def script(q):
        path = urllib.parse.urlsplit(q.path).path
        to = {"/moved/": "/real/", "/other/": other.url + "/", "/loop/": "/loop2/", "/loop2/": "/loop/", "/self/": "/self/",
              "/user/": "http://u:canary@127.0.0.1:%d/" % other.port, "/ftp/": "ftp://u:canary@127.0.0.1/#canary", "/bad/": "http://127.0.0.1:99999/",
              "/meta/": "http://169.254.169.254/latest/", "/noloc/": ""}.get(path)
        if path.startswith("/n") and path[2:-1].isdigit():
            n = int(path[2:-1])
            to = "/n%d/" % (n - 1) if n else "/real/"
        if to is None:
            return page("one.csv")
        return {"status": 302, "headers": {"Location": to} if to else {}}
    web = Answers(script)
    secure = Answers(lambda q: {"status": 301, "headers": {"Location": other.url + "/"}}, tls=tls)
    x.good(web.url + "/moved/", ["one.csv"], "to the same origin")
    x.good(web.url + "/n4/", ["one.csv"], "five, as many as are allowed")
    x.bad(web.url + "/n5/", "permanent", "six", "max_redirects")
    x.bad(web.url + "/loop/", "permanent", "a loop", "loop")
    x.bad(web.url + "/self/", "permanent", "to itself", "itself")
    x.bad(web.url + "/moved/", "policy", "follow_redirects: false", "follow_redirects", source={"follow_redirects": False})
    x.bad(web.url + "/other/", "policy", "to another origin", "same_origin_only")
    t.is_(other.seen, [], "where nothing was asked")
    far = {"same_origin_only": False, "auth": {"username": "u", "password": "secret-pw"}, "headers": {"X-Key": "secret-key"}}
    x.good(web.url + "/other/", ["other.csv"], "to another origin where that is allowed", far)
    t.ok(other.seen and not any(k in h for _, _, h in other.seen for k in ("Authorization", "X-Key")), "no credential goes there", other.seen)
    t.ok(any("X-Key" in h and "Authorization" in h for _, _, h in web.seen), "but to the own one")
    paged = Answers(lambda q: page("n%d.csv" % len(q.path)) if "?" in q.path else page("n1.csv", Link="<?2>; rel=next"))
    away = Answers(lambda q: {"status": 302, "headers": {"Location": paged.url + "/"}})
    x.good(away.url + "/", ["n1.csv", "n3.csv"], "to another origin, which has a next page", dict(far, cookies="sid=secret-id"))
    t.is_([[k for k in ("Authorization", "X-Key", "Cookie") if k in h] for _, _, h in paged.seen], [[], []], "no credential goes to that one either")
    said = [x.bad(web.url + "/user/", "policy", "with a user in it", "user or password", "http://127.0.0.1:%d/" % other.port, source={"same_origin_only": False}),
            x.bad(web.url + "/ftp/", "protocol", "to another scheme", "no address")]
    t.ok("canary" not in str([r.raw for r in said]), "whose password nobody is told", [r.raw for r in said])
    x.bad(web.url + "/bad/", "protocol", "to no address at all", "no address")
    x.bad(web.url + "/meta/", "policy", "to a metadata address", "169.254.169.254", source={"same_origin_only": False})
    x.bad(web.url + "/noloc/", "protocol", "without a target", "302")
    x.bad(secure.url + "/", "policy", "from https to http", "allow_downgrade", source=dict(crt, same_origin_only=False))
    x.good(secure.url + "/", ["other.csv"], "from https to http where that is allowed", dict(crt, same_origin_only=False, allow_downgrade=True))
    for y in (web, other, secure, paged, away):
        y.stop()


def moved(t, x, s, tree):
    """A server that redirects directories and nothing below them: what such a page shows is where the page is."""
    def script(q):
        u = urllib.parse.urlsplit(q.path)
        to = {"/latest/": "/v1/", "/v1/away/": "/store/x/", "/POST/": "/v1/"}.get(u.path)
        if to:
            return {"status": 307 if u.path == "/POST/" else 302, "headers": {"Location": to + ("?signed=canary" if to == "/store/x/" else "")}}
        if q.command == "HEAD":
            known = ("/v1/a.csv", "/v1/sub/b.csv", "/v1/sub/deep/c.csv", "/store/x/d.csv", "/store/x/y%20z/e.csv")
            return {"headers": {"Content-Length": "7", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}} if u.path in known else {"status": 404}
        shown = {"/v1/": ["a.csv", "sub/", "away/"], "/v1/sub/": ["b.csv", "deep/"], "/v1/sub/deep/": ["c.csv"], "/store/x/": ["d.csv", "y%20z/"],
                 "/store/x/y%20z/": ["e.csv"]}.get(u.path)
        return page(*shown) if shown else {"status": 404}
    web = Answers(script)
    far = Answers(lambda q: {"status": 302, "headers": {"Location": web.url + "/v1/"}} if q.path.startswith("/far") else {"status": 404})
    want = ["a.csv", "sub/b.csv", "sub/deep/c.csv", "away/d.csv", "away/y z/e.csv"]
    places = ["/store/x/d.csv", "/store/x/y%20z/e.csv", "/v1/a.csv", "/v1/sub/b.csv", "/v1/sub/deep/c.csv"]
    for what, url, source in (("of the same origin", web.url + "/latest/", {}), ("of the same origin, by POST", web.url + "/POST/", {"method": "POST"}),
                              ("of another origin", far.url + "/far/", {"same_origin_only": False, "auth": {"token": "canary"}, "headers": {"X-Key": "canary"}})):
        for head in ("none", "all"):
            del web.seen[:]
            r, e = x.good(url, want, "a directory %s, head_mode %s" % (what, head), dict(source, recursive=True, head_mode=head))
            t.is_(sorted(v["source"]["url"] for v in e), [web.url + p for p in places], "source.url is where a file is")
            t.is_({v["file_path"] for v in e}, {urllib.parse.urlsplit(url).path + p for p in want}, "their paths are below the job's url")
            t.ok(not any("canary" in p or "canary" in str(h) for _, p, h in web.seen if p != "/store/x/?signed=canary"), "neither credentials nor a redirect's query go on", web.seen)
    r, e = x.good(web.url + "/latest/?k=1", want, "the query of url", {"recursive": True, "head_mode": "none"})
    t.ok(("GET", "/v1/sub/deep/?k=1") in [y[:2] for y in web.seen], "goes along", web.seen)
    many = Answers(lambda q: {"status": 302, "headers": {"Location": "/else" + q.path}} if q.path.count("/") == 3 and not q.path.startswith("/else") else
                   page(*(["s%04d/" % i for i in range(1100)] if q.path == "/m/" else ["a.csv", "d/"] if q.path.count("/") == 4 else ["b.csv"])))
    x.bad(many.url + "/m/", "limit", "more directories that moved than are kept in mind", "redirects more than 1024", source={"recursive": True, "head_mode": "none"})
    for y in (web, far, many):
        y.stop()


def multistatus(t, x, s, tree):
    """WebDAV: each response is a member that is meant, however its address is written; what a status says of the directory itself."""
    have = "<D:propstat><D:prop>%s</D:prop><D:status>HTTP/1.1 %s</D:status></D:propstat>"
    file = have % ("<D:resourcetype/><D:getcontentlength>5</D:getcontentlength><D:getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</D:getlastmodified>", "200 OK")
    col = have % ("<D:resourcetype><D:collection/></D:resourcetype>", "200 OK")

    def answer(*responses):
        return {"status": 207, "headers": {"Content-Type": "application/xml"}, "body": ('<D:multistatus xmlns:D="DAV:">' + "".join(
            "<D:response>%s%s</D:response>" % ("".join("<D:href>%s</D:href>" % h for h in hrefs.split()), rest) for hrefs, rest in responses) + "</D:multistatus>").encode()}

    def status(text):
        return "<D:status>HTTP/1.1 %s</D:status>" % text
    pages = {
        "/far/": answer(("https://inner.example/far/", col), ("https://inner.example/far/a.csv", file), ("//other:81/far/sub/", col)),
        "/far/sub/": answer(("https://inner.example/far/sub/", col), ("https://inner.example/far/sub/b.csv", file)),
        "/dav/": answer(("/inner/dav/", col), ("/inner/dav/a.csv", file)),
        "/case/": answer(("/CASE/", col), ("/CASE/a.csv", file)),
        "/mark/": answer(("/mark/", col), ("/mark/a#1.csv", file), ("/mark/b?1.csv", file), ("http://[/c.csv", file), ("/mark/d%2Fe", file)),
        "/two/": answer(("/two/", col), ("/two/a.csv /two/b.csv", status("403 Forbidden")), ("/two/c.csv", file)),
        "/untold/": answer(("/untold/", col), ("/untold/a.csv", file), ("/untold/shut/", have % ("<D:resourcetype/>", "403 Forbidden"))),
        "/self507/": answer(("/self507/a.csv", file), ("/self507/", status("507 Insufficient Storage"))),
        "/self403/": answer(("/self403/", status("403 Forbidden"))),
        "/self404/": answer(("/self404/", status("404 Not Found"))),
        "/above/": answer(("/above/", col), ("/above/no/", col), ("/above/a.csv", file)), "/above/no/": answer(("/above/no/", status("403 Forbidden"))),
    }
    web = Answers(lambda q: pages.get(q.path) if q.command == "PROPFIND" and q.path in pages else {"status": 403})
    dav = {"source_type": "webdav", "recursive": True, "head_mode": "none"}
    x.good(web.url + "/far/", ["a.csv", "sub/b.csv"], "a server behind a proxy, whose hrefs have its own origin", dav)
    for path, want, named in (("/dav/", [], ["/inner/dav/", "/inner/dav/a.csv"]), ("/case/", [], ["/CASE/", "/CASE/a.csv"]),
                              ("/mark/", [], ["/mark/a#1.csv", "/mark/b", "http://[/c.csv", "/mark/d%2Fe"]), ("/two/", ["c.csv"], ["/two/a.csv", "/two/b.csv"]),
                              ("/untold/", ["a.csv"], ["/untold/shut"]), ("/above/", ["a.csv"], ["/above/no"])):
        r, e = x.good(web.url + path, want, "members that cannot be told: %s" % path, dav, event="job.partial")
        t.is_([u["path"] for u in r["sources"][0]["unreadable_entries"]], named, "are named")
    x.bad(web.url + "/self507/", "truncated", "507 of the directory itself: members were left out", "507", source=dav)
    x.bad(web.url + "/self403/", "auth", "403 of the directory itself", "403", source=dav)
    x.bad(web.url + "/self404/", "not_found", "404 of the directory itself", "404", source=dav)
    web.stop()


# ---- refusals -------------------------------------------------------------------------------------------------------------------------

def refusals(t, x, s, tree):
    state = {"n": 0, "status": 200, "headers": {}, "times": 0}

    def script(q):
        if q.path == "/" and state["n"] < state["times"]:
            state["n"] += 1
            return {"status": state["status"], "headers": state["headers"]}
        if q.path == "/no/":
            return {"status": 403}
        if q.path == "/gone/":
            return {"status": 404}
        return page("one.csv", "no/", "gone/") if q.path == "/" else page("in.csv")
    web = Answers(script)

    def say(status, times=99, **headers):
        state.update(n=0, status=status, times=times, headers={k.replace("_", "-"): v for k, v in headers.items()})
    for status, cls in ((400, "permanent"), (401, "auth"), (403, "auth"), (404, "not_found"), (405, "permanent"), (407, "auth"), (408, "transient"),
                        (410, "not_found"), (421, "transient"), (425, "transient"), (451, "permanent"), (500, "transient"), (501, "permanent"),
                        (502, "transient"), (504, "transient"), (508, "listing_loop"), (204, "protocol"), (206, "truncated")):
        say(status)
        x.bad(web.url + "/", cls, "status %d" % status, str(status))
    for status in (429, 503):
        say(status, 2)
        x.good(web.url + "/", ["one.csv"], "%d for a moment" % status)
        say(status, 1, Retry_After="1")
        began = time.monotonic()
        x.good(web.url + "/", ["one.csv"], "%d with a short Retry-After" % status)
        t.ok(time.monotonic() - began >= 0.9, "which is kept")
        say(status)
        x.bad(web.url + "/", "transient", "%d for good" % status, str(status))
    say(200, 0)
    r, e = x.good(web.url + "/", ["one.csv"], "a folder below that is forbidden, one that is gone", {"recursive": True}, event="job.partial")
    q = r["sources"][0]
    t.is_((q["unreadable"], [u["path"] for u in q["unreadable_entries"]]), (1, ["/no"]), "the forbidden one is named, the other has vanished")
    x.bad(web.url + "/", "auth", "on_unreadable: fail", source={"recursive": True, "on_unreadable": "fail"})
    web.stop()
    x.bad(web.url + "/", "transient", "nobody listens", "127.0.0.1")


# ---- pages --------------------------------------------------------------------------------------------------------------------------------

def pages(t, x, s, tree):
    big = "".join(line("f%04d.csv" % i) for i in range(3000))

    def script(q):
        u = urllib.parse.urlsplit(q.path)
        whole = (PAGE % big).encode()
        n = int(u.query or 0) if u.query.isdigit() else 0
        got = {
            "/login/": {"headers": HTML, "body": b"<html><body><h1>Welcome</h1><a href='help.html'>help</a></body></html>"},
            "/nothing/": {"headers": HTML, "body": b"<html><body>Hello</body></html>"},
            "/pdf/": {"headers": {"Content-Type": "application/pdf"}, "body": b"%PDF"},
            "/void/": {"headers": HTML},
            "/packed/": {"headers": dict(HTML, **{"Content-Encoding": "br"}), "body": whole},
            "/dav/": {"status": 207, "headers": {"Content-Type": "text/xml"}, "body": b'<multistatus xmlns="DAV:"/>'},
            "/short/": {"raw": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n" + whole[:500]},
            "/chunk/": {"raw": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n" + whole[:256] + b"\r\n"},
            "/close/": {"raw": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + whole[:-20]},
            "/closed/": {"raw": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + whole},
            "/json-cut/": {"headers": {"Content-Type": "application/json"}, "body": b'[{"name":"a.csv","size":1},'},
            "/json-object/": {"headers": {"Content-Type": "application/json"}, "body": b'{"error":"no"}'},
            "/xml-cut/": {"headers": {"Content-Type": "text/xml"}, "body": b'<list><file size="1">a.csv</file>'},
            "/xml-dtd/": {"headers": {"Content-Type": "text/xml"}, "body": b'<!DOCTYPE l [<!ENTITY a "b">]><list><file size="1">&a;</file></list>'},
            "/large/": page(*["f%d.csv" % i for i in range(500)]),
            "/odd/": {"headers": HTML, "body": (PAGE % (line("a.csv") + line("a.csv") + line("?C=M;O=A") + line("/elsewhere/x.csv") +
                      line("https://example.org/y.csv") + line("b%2Fc.csv") + line("d%00.csv") + line("#top") + line("mailto:a@b") +
                      line("sub/deep.csv") + line("./e.csv") + line("/odd/f.csv"))).encode()},
            "/base/": {"headers": HTML, "body": (PAGE.replace("<head>", '<head><base href="/files/">') % line("a.csv")).encode()},
            "/base-far/": {"headers": HTML, "body": (PAGE.replace("<head>", '<head><base href="https://example.org/">') % line("a.csv")).encode()},
            "/links/": {"headers": HTML, "body": b"<p>Get <a href='a.csv'>this</a>, <a href='in/b.csv'>that</a> or <a href='/x'>home</a></p>"},
            "/m/list.txt": {"headers": {"Content-Type": "text/plain"}, "body": b"# files\none.csv\nsub/two%20x.csv\n\n/elsewhere/three.csv\nhttps://u:canary@example.org/four@5.csv?canary\n"},
            "/list.jsonl": {"headers": {"Content-Type": "application/x-ndjson"}, "body": b'{"name":"a b%.csv","size":7,"mtime":"2024-01-01T00:00:00Z"}\n'
                            b'{"url":"c%20d.csv","size":8,"modified":1704067200,"etag":"\\"x\\""}\n'},
            "/list-cut.jsonl": {"body": b'{"name":"a.csv","size":7}\n{"name":"b.c'},
            "/list-open.txt": {"raw": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\none.csv\n"},
            "/next/": page("p%d.csv" % n, Link='<?%d>; rel="next"' % (n + 1)) if n < 3 else page("p3.csv"),
            "/ring/": page("p%d.csv" % n, Link='</ring/?%d>; rel=next' % ((n + 1) % 2)),
            "/endless/": page("p%d.csv" % n, Link='</endless/?%d>; rel=next' % (n + 1)),
        }.get(u.path)
        return got or {"status": 404}
    web = Answers(script)
    u = web.url
    x.bad(u + "/login/", "permanent", "a page that is no index, but has links", "no index")
    x.bad(u + "/nothing/", "permanent", "a page without links", "no index")
    x.bad(u + "/pdf/", "permanent", "no page", "application/pdf")
    x.bad(u + "/void/", "protocol", "an empty page", "empty")
    x.bad(u + "/packed/", "protocol", "what nobody asked to be packed, and is not", "encoding")
    x.bad(u + "/dav/", "protocol", "a multistatus without a response: no empty directory", "multistatus", source={"index_format": "webdav"})
    for name in ("short", "chunk", "close", "json-cut", "xml-cut"):
        x.bad("%s/%s/" % (u, name), "truncated", "cut: %s" % name)
    r, e, _ = x.run(u + "/closed/")
    t.is_(len(e), 3000, "closed behind </html>: whole")
    x.bad(u + "/json-object/", "permanent", "JSON that is no index", "object")
    x.bad(u + "/xml-dtd/", "protocol", "XML with a document type", "document type")
    x.bad(u + "/large/", "limit", "a page over max_body", "max_body", source={"max_body": "4KiB"})
    r, e = x.good(u + "/odd/", ["a.csv", "e.csv", "f.csv"], "links twice, with query, of elsewhere, with hidden slashes", {"head_mode": "none"}, event="job.partial")
    t.is_(r["sources"][0]["unreadable"], 2, "%2F and %00 are named")
    r, e, _ = x.run(u + "/base/")
    t.is_((r["event_type"], len(e)), ("job.completed", 0), "<base>: links lead elsewhere then")
    x.bad(u + "/base-far/", "permanent", "<base> of another origin", "<base>")
    x.good(u + "/links/", ["a.csv", "in/b.csv"], "index_format links", {"index_format": "links", "head_mode": "none", "recursive": True})
    r, e = x.good(u + "/m/list.txt", ["one.csv", "sub/two x.csv"], "a text manifest", {"index_format": "manifest-text", "head_mode": "none", "recursive": True}, event="job.partial")
    t.is_([v["path"] for v in r["sources"][0]["unreadable_entries"]], ["/elsewhere/three.csv", "https://example.org/four@5.csv"], "its addresses elsewhere, without user data")
    r, e = x.good(u + "/list.jsonl", ["a b%.csv", "c d.csv"], "a JSON-lines manifest", {"index_format": "manifest-jsonl"})
    t.is_(sorted((v["file_size"], v["modified_at"], v["file_url"]) for v in e),
          [(7, "2024-01-01T00:00:00Z", u + "/a%20b%25.csv"), (8, "2024-01-01T00:00:00Z", u + "/c%20d.csv")], "its sizes, times and addresses")
    x.bad(u + "/list-cut.jsonl", "truncated", "a cut one", source={"index_format": "manifest-jsonl", "head_mode": "none"})
    x.bad(u + "/list-open.txt", "protocol", "one whose end nothing tells", "ends", source={"index_format": "manifest-text", "head_mode": "none"})
    x.good(u + "/next/", ["p0.csv", "p1.csv", "p2.csv", "p3.csv"], "pages by rel=next")
    x.bad(u + "/next/", "truncated", "a next page, and next_link: false", "next_link", source={"next_link": False})
    x.bad(u + "/ring/", "listing_loop", "a ring of pages", "ring")
    x.bad(u + "/endless/", "limit", "pages without end", "max_pages", source={"max_pages": 20})
    web.stop()


def posts(t, x, s, tree):
    """method POST: the first page of each directory, with a body or none; what redirects make of it."""
    asked = []
    other = Answers(lambda q: page("far.csv"))

    def script(q):
        asked.append((q.command, q.path, q.body, q.headers.get("Content-Type"), q.headers.get("Content-Length")))
        u = urllib.parse.urlsplit(q.path)
        m = re.match(r"/(30[12378])(/far)?/$", u.path)
        if m:
            return {"status": int(m.group(1)), "headers": {"Location": other.url + "/" if m.group(2) else "/d/"}}
        if u.path == "/self/" and q.command == "POST":
            return {"status": 303, "headers": {"Location": "/self/"}}
        if u.path == "/only-get/" and q.command == "POST":
            return {"status": 405}
        if q.command == "HEAD":
            return {"headers": {"Content-Length": "7", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}} if u.path.endswith(".csv") else {"status": 405}
        if u.path == "/api/list":
            return {"headers": {"Content-Type": "application/json"}, "body": b'[{"name":"j.csv","type":"file","size":5,"mtime":"Tue, 02 Jan 2024 03:04:05 GMT"}]'}
        if u.path == "/busy/" and len([a for a in asked if a[1] == "/busy/"]) < 3:
            return {"status": 503}
        if u.path == "/d/" and u.query == "2":
            return page("next.csv")
        return page("one.csv", "sub/", Link='</d/?2>; rel=next') if u.path == "/d/" else page("in.csv")
    web = Answers(script)
    post = {"method": "POST", "body": '{"folder": "x",\r\n "n": 1}'}
    sent = (post["body"].encode(), "application/json", str(len(post["body"])))
    x.good(web.url + "/d/", ["one.csv", "next.csv", "sub/in.csv"], "POST with a body", dict(post, recursive=True, head_mode="all"))
    t.is_(sorted(asked), sorted([("POST", "/d/") + sent, ("POST", "/d/sub/") + sent, ("GET", "/d/?2", b"", None, None)] +
                                [("HEAD", p, b"", None, None) for p in ("/d/one.csv", "/d/next.csv", "/d/sub/in.csv")]), "directories by POST, the next page by GET, files by HEAD")
    asked.clear()
    x.good(web.url + "/d/sub/", ["in.csv"], "POST without a body", {"method": "POST"})
    t.is_(asked, [("POST", "/d/sub/", b"", None, "0")], "it has no type")
    asked.clear()
    x.good(web.url + "/d/sub/", ["in.csv"], "POST of a form", {"method": "POST", "body": "a=1&b=2", "content_type": "application/x-www-form-urlencoded"})
    t.is_(asked, [("POST", "/d/sub/", b"a=1&b=2", "application/x-www-form-urlencoded", "7")], "with its type")
    for status in (301, 302, 303):
        asked.clear()
        x.good(web.url + "/%d/" % status, ["one.csv", "next.csv"], "%d makes GET of it" % status, post)
        t.is_([a[:3] for a in asked[:2]], [("POST", "/%d/" % status, sent[0]), ("GET", "/d/", b"")], "without the body")
    for status in (307, 308):
        asked.clear()
        x.good(web.url + "/%d/" % status, ["one.csv", "next.csv"], "%d keeps it" % status, post)
        t.is_([a[:4] for a in asked[:2]], [("POST", "/%d/" % status) + sent[:2], ("POST", "/d/") + sent[:2]], "with the body")
        x.bad(web.url + "/%d/far/" % status, "policy", "%d to another origin" % status, "body", source=dict(post, same_origin_only=False))
    t.is_(other.seen, [], "where no body goes")
    x.good(web.url + "/302/far/", ["far.csv"], "302 to another origin, where that is allowed", dict(post, same_origin_only=False))
    t.is_([(m, h.get("Content-Length")) for m, _, h in other.seen], [("GET", None)], "by GET")
    x.good(web.url + "/self/", ["in.csv"], "303 to itself, which is another request", post)
    x.bad(web.url + "/only-get/", "permanent", "a server that knows no POST there", "405", "method", source=post)
    x.good(web.url + "/busy/", ["in.csv"], "503 for a moment: it is asked again", post)
    asked.clear()
    r, e = x.good(web.url + "/api/list", ["j.csv"], "an address without '/' at its end", post)
    t.is_(([a[:2] for a in asked], e[0]["file_url"]), ([("POST", "/api/list")], web.url + "/api/j.csv"), "is asked for at once; files are beside it")
    r = x.bad(web.url + "/only-get/", "permanent", "the body is a secret", "405", source=dict(post, body="canary-body"))
    dead = x.w.reader("dlq").drain()
    t.ok(dead and b"canary-body" not in r.raw + b"".join(y.raw for y in dead), "it is masked in dead letters")
    for source, words in (({"body": "x"}, "POST"), ({"method": "POST", "source_type": "webdav"}, "PROPFIND"), ({"method": "POST", "body": "x", "content_type": "a\x01b"}, "content_type"),
                          ({"method": "PUT"}, "GET|POST")):
        r, e, _ = x.run(web.url + "/d/", source, invalid=True)
        t.ok(r["error"]["class"] == "invalid_job" and words in r["error"]["message"], "refused: %s" % source, r.raw)
    web.stop()
    other.stop()


def cookies(t, x, s, tree):
    """cookies of the job, and those that a server sets, which no other task and no other origin sees."""
    far = Answers(lambda q: page("far.csv"))
    sent = []

    def script(q):
        sent.append((q.command, q.path, q.headers.get("Cookie")))
        mine = dict(c.partition("=")[::2] for c in (q.headers.get("Cookie") or "").split("; "))
        if q.path == "/login/":
            return {"status": 302, "headers": {"Location": "/in/", "Set-Cookie": "sid=%d; Path=/; HttpOnly" % len(sent)}}
        if q.path == "/away/":
            return {"status": 302, "headers": {"Location": far.url + "/", "Set-Cookie": "sid=1; Path=/"}}
        if q.path == "/many/" or q.path.startswith("/many/d"):
            names = ["d%d/" % i for i in range(20)] if q.path == "/many/" else ["f.csv"]
            return {"raw": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n" % len(page(*names)["body"]) + b"".join(
                b"Set-Cookie: c%d%s=%s\r\n" % (i, q.path.strip("/").replace("/", "").encode(), b"x" * 1000) for i in range(5)) + b"\r\n" + page(*names)["body"]}
        if q.path.startswith("/in/") and "sid" not in mine:
            return {"status": 401}
        if q.command == "HEAD":
            return {"headers": {"Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
        return page("one.csv", "sub/") if q.path == "/in/" else page("two.csv")
    web = Answers(script)
    own = {"cookies": "sid=mine; b=2", "recursive": True, "head_mode": "all"}
    x.good(web.url + "/in/", ["one.csv", "sub/two.csv"], "cookies of the job", own)
    t.is_({c for _, _, c in sent}, {"sid=mine; b=2"}, "go with each of its requests")
    x.bad(web.url + "/login/", "auth", "cookies that the server sets are not kept by default", "401", source={"recursive": False})
    for n in (1, 2):
        del sent[:]
        x.good(web.url + "/login/", ["one.csv"], "keep_cookies: a session that begins with the first page", {"keep_cookies": True, "head_mode": "all", "cookies": "b=2"})
        t.is_(sent[0][2], "b=2", "keep_cookies: the first request has only the job's own, time %d" % n)
        t.ok(len(sent) == 3 and all(c and "sid=" in c and "b=2" in c for _, _, c in sent[1:]), "keep_cookies: the others have both", sent)
    x.good(web.url + "/away/", ["far.csv"], "keep_cookies, to another origin", dict(own, keep_cookies=True, recursive=False, same_origin_only=False))
    t.ok(far.seen and not any("Cookie" in h for _, _, h in far.seen), "no cookie goes there, though the host is the same", far.seen)
    x.bad(web.url + "/many/", "limit", "keep_cookies: a server that sets more and more", "64 KiB", source={"keep_cookies": True, "recursive": True, "head_mode": "none"})
    r, e, _ = x.run(web.url + "/many/", {"recursive": True, "head_mode": "none"})
    t.is_((r["event_type"], len(e)), ("job.completed", 20), "without keep_cookies they are nothing")
    r = x.bad(web.url + "/gone/../in/", "auth", "cookies are secrets", "401", source={"cookies": "k=canary-cookie"})
    t.ok(b"canary-cookie" not in r.raw + b"".join(y.raw for y in x.w.reader("dlq").drain()), "cookies are in no record")
    for text in ("a", "=a", "a=1; ; b=2", "a=1\x01", "a=1; b"):
        r, e, _ = x.run(web.url + "/in/", {"cookies": text}, invalid=True)
        t.ok(r["error"]["class"] == "invalid_job" and "cookies" in r["error"]["message"], "refused: cookies %r" % text, r.raw)
    web.stop()
    far.stop()


def beside(t, x, s, tree):
    """An index page whose address has no '/' at its end, and that is not redirected to one: its links are beside it."""
    def script(q):
        if q.path.endswith(".csv"):
            return {"headers": {"Content-Length": "7", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}} if q.path.startswith("/x/") else {"status": 404}
        return page("a.csv", "sub/") if q.path == "/x/index.html" else page("in.csv") if q.path == "/x/sub/" else {"status": 404}
    web = Answers(script)
    for source in ({}, {"index_format": "html"}, {"index_format": "html", "head_mode": "none"}):
        r, e = x.good(web.url + "/x/index.html", ["a.csv", "sub/in.csv"], "an index page with a name of its own: %s" % source, dict({"recursive": True, "head_mode": "all"}, **source))
        t.is_(sorted(v["file_url"] for v in e), [web.url + "/x/a.csv", web.url + "/x/sub/in.csv"], "its files are where its links lead")
    web.stop()


def query_links(t, x, s, tree):
    """query_links: keep: files by links with a query; sort links, directories, pages of the page itself are none."""
    signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&amp;X-Amz-Credential=AKIDCANARY&amp;X-Amz-Signature=canary%d"
    shown = (line("?C=M;O=A") + line("./?C=N") + line("../?C=N") + line("sub/?dl=1") + line("sub/") + line("/") + line("get?id=1&amp;f=x/y.csv") + line("get?id=2") +
             line("get?id=1&amp;f=x/y.csv") + line("a.csv?v=1") + line("a.csv") + line("b.csv?" + signed % 1) + line("b.csv?" + signed % 2) +
             line("t.csv?access_token=canary3") + line("t.csv?access_token=canary4") + line("http://127.0.0.1:1/far.csv?x=1") + line("/far/x.csv?x=1") +
             line("../up.csv?x=1") + line("%2e%2e/up.csv?x=1") + line("q.csv?a b&quot;c") + line("e.csv?") + line("n%2Fo.csv?access_token=canary5"))

    def script(q):
        u = urllib.parse.urlsplit(q.path)
        if q.command == "HEAD":
            return {"headers": {"Content-Length": "7", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}}
        if u.path == "/d/sub/":
            return page("in.csv?v=1")
        if u.path == "/m.txt":
            return {"headers": {"Content-Type": "text/plain"}, "body": b"a.csv?v=1\nhttps://127.0.0.1:1/b.csv?sig=canary6\n"}
        return {"headers": HTML, "body": (PAGE % shown).encode()}
    web = Answers(script)
    url = web.url + "/d/"
    keep = {"query_links": "keep", "recursive": True, "head_mode": "all"}
    x.good(url, ["a.csv"], "query_links: ignore, as by default", {"head_mode": "none"}, event="job.partial")
    r, e = x.good(url, ["get?id=1&f=x%2Fy.csv", "get?id=2", "a.csv?v=1", "a.csv", "b.csv", "t.csv", "q.csv?a%20b%22c", "e.csv", "sub/in.csv?v=1"],
                  "query_links: keep", keep, event="job.partial")
    by = {v["relative_path"]: v for v in e}
    t.is_([by[n]["file_url"] for n in ("get?id=1&f=x%2Fy.csv", "a.csv?v=1", "a.csv", "b.csv", "q.csv?a%20b%22c", "sub/in.csv?v=1")],
          [url + n for n in ("get?id=1&f=x/y.csv", "a.csv?v=1", "a.csv", "b.csv", "q.csv?a%20b%22c", "sub/in.csv?v=1")], "addresses are those to fetch, without signatures")
    v = by["get?id=1&f=x%2Fy.csv"]
    t.is_((v["file_path"], v["file_name"], v["file_size"], v["source"]["query"], v["source"]["url"], by["a.csv?v=1"]["file_type"]),
          ("/d/get?id=1&f=x%2Fy.csv", "get?id=1&f=x%2Fy.csv", 7, "id=1&f=x/y.csv", v["file_url"], ".csv"), "path, name, size, query and type")
    heads = {p for m, p, _ in web.seen if m == "HEAD"}
    t.ok("/d/b.csv?" + (signed % 1).replace("&amp;", "&") in heads and "/d/t.csv?access_token=canary3" in heads, "what is asked for is the whole address", heads)
    t.is_({p for m, p, _ in web.seen if m == "GET"}, {"/d/", "/d/sub/"}, "no page is read by a link with a query, none twice")
    entries = {u["path"]: u["reason"] for u in r["sources"][0]["unreadable_entries"]}
    t.ok(sorted(entries) == ["/d/n%2Fo.csv", "/d/t.csv"] and "secrets" in entries["/d/t.csv"], "two links that differ in a secret alone, and a hidden slash, are named", r.raw)
    everything = r.raw + b"".join(y.raw for y in e) + "".join(x.d.raw).encode()
    t.ok(b"canary" not in everything.lower(), "no signature and no token in events, results or the log")
    ids = sorted(y["event_id"] for y in e)
    r, e, _ = x.run(url, keep)
    t.is_(sorted(y["event_id"] for y in e), ids, "the same files have the same ids")
    r, e = x.good(url, ["get?id=1&f=x%2Fy.csv"], "patterns see the whole name", dict(keep, head_mode="none"), event="job.partial", file_pattern="*y.csv")
    x.bad(url, "limit", "max_entries", "max_entries", source=dict(keep, max_entries=4))
    r, e = x.good(web.url + "/m.txt", ["a.csv?v=1"], "a manifest", {"query_links": "keep", "index_format": "manifest-text", "head_mode": "none"}, event="job.partial")
    t.ok(b"canary" not in r.raw, "where what is not below it is named without its query", r.raw)
    x.good(s["apache"].url["plain"] + "sub/", ["in.csv"], "apache's own sort links are none", {"query_links": "keep"})
    x.good(s["apache"].url["fancy"] + "sub/", ["in.csv"], "those of its fancy pages, too", {"query_links": "keep"})
    web.stop()


def wrong_jobs(t, x, s, tree):
    for url, words, source in (
            ("http://u:secret@h/", "auth", {}), ("ftp://h/", "http://", {}), ("http:///x", "no host", {}), ("http://h:0/", "port", {}),
            ("http://h:99999/", "port", {}), ("http://h/a%2Fb/", "%2F", {}), ("http://h/%00", "%00", {}), ("http://b\u00fccher.example/", "host", {}),
            ("http://h/", "https", {"source_type": "https"}), ("http://h/", "headers", {"headers": {"Host": "x"}}),
            ("http://h/", "username", {"auth": {"type": "basic"}}), ("http://h/", "token", {"auth": {"type": "bearer"}}),
            ("http://h/", "\"..\"", {"path": "a/../b"})):
        r, e, dead = x.run(url, source, invalid=True)
        m = (r["error"] or {}).get("message", "")
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "invalid_job" and words in m and b"secret" not in r.raw,
             "refused: %s %s" % (url.encode("ascii", "backslashreplace").decode(), source or ""), r.raw)


def main():
    t = Tap()
    need(t, "iis-pollerd", "iis-poller-worker")
    missing = [n for n in webservers.WANTED if not webservers.find(n)]
    if missing:
        t.skip_all("not installed: %s" % ", ".join(missing))
    with t:
        tree = trees.nasty()
        servers = {"nginx": Nginx(tree.root), "apache": Apache(tree.root), "lighttpd": Lighttpd(tree.root),
                   "caddy": Caddy(tree.root), "python": PythonWeb(tree.root)}
        d = Daemon(World(MockBroker(t), event_partitions=2), {
            "egress.allow": ["127.0.0.0/8"], "retry.max_attempts": 1, "workers.count": 2, "workers.memory_max": "256MiB"})
        x = Web(t, d.world, d)
        for part in (real, shape, heads, credentials, redirects, moved, multistatus, refusals, pages, posts, cookies, beside, query_links, wrong_jobs):
            t.part(part, x, servers, tree)
        left, right = conservation(d)
        t.ok(left == right and left, "accepted = ended + in flight", (left, right))
        t.is_(d.stop(), 0, "a graceful stop: exit 0")


main()
