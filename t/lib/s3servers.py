"""s3servers.py - S3 servers for the tests of the source s3, on free loopback ports.

S3Proxy is a real server of another code base that verifies signatures; Swift (with its s3api) is a second one. Pages is
ours: it serves a list of keys as S3 does, verifies signatures by code of its own, counts and remembers the requests, and
does on demand what servers do wrong (cut pages, repeated tokens, errors). Client puts buckets and objects into any of them.
"""
import bisect
import datetime
import hashlib
import hmac
import http.client
import http.server
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from poller import ROOT, Timeout, _processes, clean_env, deadline, folder, free_port  # noqa: E402
from webservers import Quiet  # noqa: E402

ID, SECRET = "AKIDTESTEXAMPLE0", "se/cret+of=tests"
EMPTY = hashlib.sha256(b"").hexdigest()


def quote(b, slash=False):
    """RFC 3986, of bytes or a str of UTF-8."""
    return urllib.parse.quote(b, safe="-_.~/" if slash else "-_.~")


def sign(method, path, query, headers, payload, key_id, secret, region, date, service="s3"):
    """The authorization header. headers: {lower case name: value}; query: the canonical one; path: as the service signs it."""
    day = date[:8]
    names = ";".join(sorted(headers))
    request = "\n".join([method, path, query, "".join("%s:%s\n" % (k, " ".join(headers[k].split())) for k in sorted(headers)), names, payload])
    scope = "%s/%s/%s/aws4_request" % (day, region, service)
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        key_id, scope, names, hmac.new(key, text.encode(), hashlib.sha256).hexdigest())


class Client:
    """Puts what is to be listed. Keys are bytes or str."""

    def __init__(self, port, key_id=ID, secret=SECRET, region="us-east-1"):
        self.port, self.key_id, self.secret, self.region = port, key_id, secret, region
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def request(self, method, path, body=b"", query="", headers=None):
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest()
        h = {"host": "127.0.0.1:%d" % self.port, "x-amz-date": date, "x-amz-content-sha256": payload}
        h.update(headers or {})
        h["authorization"] = sign(method, path, query, dict(h), payload, self.key_id, self.secret, self.region, date)
        self.connection.request(method, path + ("?" + query if query else ""), body=body, headers=h)
        r = self.connection.getresponse()
        return r.status, r.read()

    def make_bucket(self, bucket):
        status, body = self.request("PUT", "/" + bucket)
        if status not in (200, 201):
            raise RuntimeError("bucket %s: %d %r" % (bucket, status, body))

    def put(self, bucket, key, body=b""):
        """True, or False where this server does not take such a key."""
        status, answer = self.request("PUT", "/%s/%s" % (bucket, quote(key, slash=True)), body)
        return status == 200


class Process:
    """A server that is a program; ready once its port answers."""

    def __init__(self, argv, port, env=None, cwd=None, timeout=90):
        self.port = port
        self.dir = cwd or folder()
        self.log = open(os.path.join(self.dir, "server.log"), "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.dir,
                                        env=clean_env(env), start_new_session=True)
        _processes.append(self.process)
        end = deadline(timeout)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    with open(self.log.name, errors="replace") as f:
                        raise Timeout("%s does not answer: %s" % (argv[0], f.read()[-600:]))
                time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class S3Proxy:
    """org.gaul:s3proxy over a store in its memory. Missing where Maven or Java is."""

    def __init__(self):
        if shutil.which("java") is None:
            raise Missing("java is not installed (Debian package openjdk-17-jre-headless)")
        try:
            p = subprocess.run([os.path.join(ROOT, "t/s3/fetch")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=clean_env({"HOME": os.environ.get("HOME", "/")}))
        except OSError as e:
            raise Missing(str(e))
        if p.returncode:
            raise Missing(p.stderr.strip()[:300] or "S3Proxy cannot be had here")
        d = folder()
        self.port = free_port()
        conf = {"s3proxy.endpoint": "http://127.0.0.1:%d" % self.port, "s3proxy.authorization": "aws-v4",
                "s3proxy.identity": ID, "s3proxy.credential": SECRET, "jclouds.provider": "transient",
                "jclouds.identity": "x", "jclouds.credential": "x"}
        with open(os.path.join(d, "s3proxy.conf"), "w") as f:
            f.writelines("%s=%s\n" % kv for kv in conf.items())
        with open(os.path.join(d, "logback.xml"), "w") as f:
            f.write("<configuration><root level=\"OFF\"/></configuration>")
        self.server = Process(["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Dlogback.configurationFile=logback.xml",
                               "-cp", p.stdout.strip() + "/*", "org.gaul.s3proxy.Main", "--properties", "s3proxy.conf"], self.port, cwd=d)
        self.client = Client(self.port)
        self.url = "http://127.0.0.1:%d" % self.port

    def source(self, bucket, **fields):
        return dict({"source_type": "s3", "endpoint": self.url, "bucket": bucket, "access_key_id": ID, "secret_access_key": SECRET}, **fields)


class Swift:
    """OpenStack Swift with s3api and tempauth: a proxy and one account, container and object server on one device."""
    id, secret = "test:tester", "swift-secret"

    def __init__(self):
        missing = [x for x in ("swift-proxy-server", "swift-account-server", "swift-container-server", "swift-object-server", "swift-ring-builder")
                   if shutil.which(x) is None]
        if missing:
            raise Missing("%s is not installed (Debian packages swift-proxy, swift-account, swift-container, swift-object)" % missing[0])
        d = folder()
        os.makedirs(os.path.join(d, "devices/d1"))
        user = pwd.getpwuid(os.geteuid()).pw_name
        parts = []
        ports = set()
        while len(ports) < 4:
            ports.add(free_port())
        for kind in ("account", "container", "object"):
            port = ports.pop()
            for argv in (["create", "4", "1", "0"], ["add", "r1z1-127.0.0.1:%d/d1" % port, "1"], ["rebalance"]):
                subprocess.run(["swift-ring-builder", kind + ".builder"] + argv, cwd=d, check=True, stdout=subprocess.DEVNULL)
            parts.append((kind, port, "[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = %d\nuser = %s\nswift_dir = %s\ndevices = %s/devices\nmount_check = false\n"
                          "workers = 0\n[pipeline:main]\npipeline = %s-server\n[app:%s-server]\nuse = egg:swift#%s\n" % (port, user, d, d, kind, kind, kind)))
        self.port = ports.pop()
        parts.append(("proxy", self.port, "[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = %d\nuser = %s\nswift_dir = %s\nworkers = 0\n[pipeline:main]\n"
                      "pipeline = catch_errors cache s3api tempauth copy versioned_writes symlink proxy-server\n[app:proxy-server]\nuse = egg:swift#proxy\n"
                      "account_autocreate = true\n[filter:catch_errors]\nuse = egg:swift#catch_errors\n"
                      "[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:1\n[filter:copy]\nuse = egg:swift#copy\n[filter:symlink]\nuse = egg:swift#symlink\n"
                      "[filter:versioned_writes]\nuse = egg:swift#versioned_writes\nallow_object_versioning = true\n"
                      "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\nallow_multipart_uploads = false\n"
                      "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = %s .admin\n" % (self.port, user, d, self.secret)))
        self.servers = []
        for kind, port, conf in parts:
            with open(os.path.join(d, kind + ".conf"), "w") as f:
                f.write(conf)
            self.servers.append(Process(["swift-%s-server" % kind, kind + ".conf"], port, cwd=d))
        self.client = Client(self.port, self.id, self.secret)
        self.url = "http://127.0.0.1:%d" % self.port

    def source(self, bucket, **fields):
        return dict({"source_type": "s3", "endpoint": self.url, "bucket": bucket, "access_key_id": self.id, "secret_access_key": self.secret}, **fields)


class Missing(Exception):
    """A server cannot be had here; why."""


# ---- pages of ours --------------------------------------------------------------------------------------------------------

class Pages:
    """
    keys: {bytes: size} or an iterable of bytes. entry(key): what else a page says of it, as XML. fault(request) may give (status, headers, body) instead of the answer, or
    "cut" (the connection ends within the body), or None. request: {path, query (dict of bytes), headers, n}. Signatures are verified
    unless anonymous.
    """

    def __init__(self, keys=(), bucket="b", secret=SECRET, region="us-east-1", anonymous=False, fault=None, v1_only=False,
                 encode=True, page=1000, token=None, token_last=False, entry=None):
        self.keys = dict.fromkeys(keys, 1) if not isinstance(keys, dict) else dict(keys)
        self.sorted = sorted(self.keys)
        self.bucket, self.secret, self.region, self.anonymous = bucket, secret, region, anonymous
        self.fault, self.v1_only, self.encode, self.page, self.token, self.token_last = fault, v1_only, encode, page, token, token_last
        self.entry = entry or (lambda key: "<StorageClass>STANDARD</StorageClass>")
        self.requests = []
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer._serve(self)

            def log_message(self, *a):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def source(self, **fields):
        s = {"source_type": "s3", "endpoint": self.url, "bucket": self.bucket}
        if self.anonymous:
            s["anonymous"] = True
        else:
            s.update(access_key_id=ID, secret_access_key=SECRET)
        s.update(fields)
        return s

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def _serve(self, h):
        path, _, query = h.path.partition("?")
        pairs = [p.partition("=")[::2] for p in query.split("&")]
        request = {"path": path, "query": {k: urllib.parse.unquote_to_bytes(v) for k, v in pairs}, "headers": dict(h.headers.items())}
        with self.lock:
            request["n"] = len(self.requests)
            self.requests.append(request)
        answer = self.fault(request) if self.fault else None
        if answer is None or answer == "cut":
            status, headers, body = self._answer(h, path, query, request)
        else:
            status, headers, body = answer
        h.send_response(status)
        for k, v in headers.items():
            h.send_header(k, v)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        try:
            h.wfile.write(body[:len(body) // 2] if answer == "cut" else body)
        except OSError:
            h.close_connection = True   # the poller had enough
        if answer == "cut":
            h.close_connection = True

    @staticmethod
    def error(status, code, extra="", headers=None):
        return status, headers or {}, ("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>told by the test</Message>%s</Error>" % (code, extra)).encode()

    def secret_of(self, key_id):
        return self.secret if key_id == ID else None

    def _verify(self, h, path, query):
        """None, or the error's code"""
        auth = h.headers.get("Authorization")
        if not auth:
            return None if self.anonymous else "AccessDenied"
        parts = dict(p.strip().partition("=")[::2] for p in auth.partition(" ")[2].split(","))
        key_id, _, region, _, _ = parts["Credential"].split("/")
        secret = self.secret_of(key_id)
        if not secret:
            return "InvalidAccessKeyId"
        names = parts["SignedHeaders"].split(";")
        want = sign("GET", path, query, {n: h.headers[n] for n in names}, h.headers["x-amz-content-sha256"], key_id, secret, region, h.headers["x-amz-date"])
        if want != auth or "&".join(sorted(query.split("&"))) != query or "host" not in names:
            return "SignatureDoesNotMatch"
        return None if region == self.region else "AuthorizationHeaderMalformed"

    def _answer(self, h, path, query, request):
        wrong = self._verify(h, path, query)
        if wrong == "AuthorizationHeaderMalformed":
            return self.error(400, wrong, "<Region>%s</Region>" % self.region)
        if wrong:
            return self.error(403, wrong)
        if path != "/" + self.bucket and not h.headers["Host"].startswith(self.bucket + "."):
            return self.error(404, "NoSuchBucket")
        return 200, {"Content-Type": "application/xml"}, self.listing(request["query"])

    def listing(self, q):
        v2 = q.get("list-type") == b"2" and not self.v1_only
        prefix, delimiter = q.get("prefix", b""), q.get("delimiter", b"")
        after = (q.get("continuation-token") or q.get("start-after", b"")) if v2 else q.get("marker", b"")
        limit = min(int(q.get("max-keys", b"1000")), self.page)
        out, last, truncated, seen = [], b"", False, None
        for key in itertools.islice(self.sorted, bisect.bisect_left(self.sorted, max(prefix, after)), None):
            if not key.startswith(prefix):
                break
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[:cut + len(delimiter)] if cut >= 0 else key
            if name <= after and (cut < 0 or name == after or not after.startswith(name)) or (name == seen and cut >= 0):
                continue
            if cut >= 0 and after.startswith(name) and key <= after:
                continue
            if len(out) == limit:
                truncated = True
                break
            seen, last = name, name
            out.append((name, cut >= 0))
        e = (lambda b: quote(b).replace("%20", "+")) if self.encode and q.get("encoding-type") == b"url" else (lambda b: escape(b.decode()))
        x = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
             "<Name>%s</Name><Prefix>%s</Prefix><MaxKeys>%d</MaxKeys>" % (self.bucket, e(prefix), limit)]
        if self.encode and q.get("encoding-type") == b"url":
            x.append("<EncodingType>url</EncodingType>")
        end = []
        x.append("<IsTruncated>%s</IsTruncated>" % ("true" if truncated else "false"))
        if truncated and v2:
            token = self.token(last) if self.token else last
            if token is not None:
                (end if self.token_last else x).append("<NextContinuationToken>%s</NextContinuationToken>" % escape(token.decode()))
        elif truncated and delimiter:
            x.append("<NextMarker>%s</NextMarker>" % e(last))
        for name, is_prefix in out:
            if is_prefix:
                x.append("<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>" % e(name))
            else:
                x.append("<Contents><Key>%s</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified><ETag>&quot;%s&quot;</ETag>"
                         "<Size>%d</Size>%s</Contents>" % (e(name), hashlib.md5(name).hexdigest(), self.keys[name], self.entry(name)))
        x += end + ["</ListBucketResult>"]
        return "".join(x).encode()
