"""stsservers.py - what hands out temporary credentials, for the tests of them: a metadata service (IMDSv2), a container's
service (ECS), STS; and an S3 server that takes nothing but what they handed out.

All are ours and strict: IMDSv2 wants PUT with a TTL and its token in each GET (401 otherwise); STS verifies the V4 signature by
code of this file alone, the session token, the external id, the duration. Each remembers its requests; answer(request) of a test
may give (status, headers, body), "hang", "drip", or None for the right answer.
"""
import datetime
import hashlib
import hmac
import http.server
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from s3servers import Pages  # noqa: E402


class Issuer:
    """Makes credentials, and knows which are good: {key id: {secret, token, expires, of}}."""

    def __init__(self):
        self.lock = threading.Lock()
        self.n = 0
        self.good = {}
        self.secrets = []           # all that may stand in no log and no record

    def issue(self, of, seconds):
        with self.lock:
            self.n += 1
            tag = hashlib.sha256(("%d %s %d" % (self.n, of, os.getpid())).encode()).hexdigest()
            k = {"id": "ASIA" + tag[:16].upper(), "secret": "sk/" + tag[16:56] + "+=", "token": "FwoG" + "/+" + tag * 6 + "==", "of": of,
                 "expires": time.time() + seconds}
            self.good[k["id"]] = k
            self.secrets += [k["secret"], k["token"]]
        return k

    def take_back(self, of=None):
        with self.lock:
            for k in list(self.good):
                if of is None or self.good[k]["of"] == of:
                    del self.good[k]


def stamp(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def signature(secret, day, region, service, text):
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verify(headers, body, service, secret_of):
    """(key id, None) where the V4 signature of this POST to / is right, else (None, the error's code)."""
    auth = headers.get("Authorization", "")
    if not auth.startswith("AWS4-HMAC-SHA256 "):
        return None, "MissingAuthenticationToken"
    parts = dict(p.strip().partition("=")[::2] for p in auth[len("AWS4-HMAC-SHA256 "):].split(","))
    key_id, day, region, svc, end = parts["Credential"].split("/")
    secret, token = secret_of(key_id)
    if secret is None:
        return None, "InvalidClientTokenId"
    names = parts["SignedHeaders"].split(";")
    if names != sorted(names) or "host" not in names or "x-amz-date" not in names or (svc, end) != (service, "aws4_request"):
        return None, "IncompleteSignature"
    if token is not None and ("x-amz-security-token" not in names or headers.get("X-Amz-Security-Token") != token):
        return None, "InvalidClientTokenId"
    date = headers["X-Amz-Date"]
    if date[:8] != day or abs(datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp() - time.time()) > 300:
        return None, "RequestExpired"
    canonical = "\n".join(["POST", "/", ""] + ["%s:%s" % (n, " ".join(headers[n].split())) for n in names] + ["", ";".join(names), hashlib.sha256(body).hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", date, "%s/%s/%s/aws4_request" % (day, region, service), hashlib.sha256(canonical.encode()).hexdigest()])
    good = hmac.compare_digest(signature(secret, day, region, service, text), parts["Signature"])
    return (key_id, None) if good else (None, "SignatureDoesNotMatch")


class Service:
    """One HTTP server on an address of its own."""

    def __init__(self, address, port=0, certificate=None):
        self.requests = []
        self.answer = None
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Semaphore(0)      # released for each request that meets the closed gate
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                outer._serve(self)
            do_GET = do_PUT = do_POST = serve

            def log_message(self, *a):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *a):
                pass            # a poller that had enough

        self.server = Server((address, port), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = "http%s://%s:%d" % ("s" if certificate else "", address, self.port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def paths(self, since=0):
        return ["%s %s" % (r["method"], r["path"]) for r in self.requests[since:]]

    def _serve(self, h):
        body = h.rfile.read(int(h.headers.get("Content-Length", 0)))
        request = {"method": h.command, "path": h.path, "headers": dict(h.headers.items()), "body": body, "of": h.headers}
        self.requests.append(request)
        if not self.gate.is_set():
            self.held.release()
            self.gate.wait(60)
        said = self.answer(request) if self.answer else None
        if said == "hang":
            h.rfile.read(1)     # until the poller closes
            return
        if said == "drip":
            self._drip(h)
            return
        status, headers, out = said or self.right(request)
        h.send_response(status)
        for k, v in headers.items():
            h.send_header(k, v)
        h.send_header("Content-Length", str(len(out)))
        h.end_headers()
        h.wfile.write(out)

    @staticmethod
    def _drip(h):
        """A byte now and then, for ever: no timeout between bytes strikes."""
        h.send_response(200)
        h.send_header("Content-Length", "60000")
        h.end_headers()
        h.connection.settimeout(0.2)
        for _ in range(600):
            h.wfile.write(b" ")
            h.wfile.flush()
            try:
                if not h.connection.recv(1):
                    break
            except socket.timeout:
                pass
        h.close_connection = True


class Metadata(Service):
    """The instance metadata service, version 2 alone."""
    role = "poller-role"

    def __init__(self, issuer, address="169.254.169.254", port=80, seconds=3600):
        super().__init__(address, port)
        self.issuer, self.seconds, self.tokens, self.current = issuer, seconds, set(), None

    def right(self, r):
        if r["path"] == "/latest/api/token":
            ttl = r["headers"].get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if r["method"] != "PUT" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600 or "X-Forwarded-For" in r["headers"]:
                return 400, {}, b""
            token = "AQAE" + hashlib.sha256(os.urandom(8)).hexdigest() + "=="
            self.tokens.add(token)
            self.issuer.secrets.append(token)
            return 200, {"X-aws-ec2-metadata-token-ttl-seconds": ttl}, token.encode()
        if r["of"].get("X-aws-ec2-metadata-token") not in self.tokens:
            return 401, {}, b""
        base = "/latest/meta-data/iam/security-credentials/"
        if r["method"] != "GET" or not self.role or not r["path"].startswith(base):
            return 404, {}, b"Not Found"
        if r["path"] == base:
            return 200, {}, self.role.encode()
        if r["path"] != base + self.role:
            return 404, {}, b"Not Found"
        k = self.issuer.issue("instance", self.seconds)
        return 200, {}, json.dumps({"Code": "Success", "LastUpdated": stamp(time.time()), "Type": "AWS-HMAC", "AccessKeyId": k["id"],
                                    "SecretAccessKey": k["secret"], "Token": k["token"], "Expiration": stamp(k["expires"])}, indent=2).encode()


class Container(Service):
    """The credentials endpoint of ECS; token: what the header Authorization must be."""
    path = "/v2/credentials/4b2c"

    def __init__(self, issuer, address="169.254.170.2", port=80, token=None, seconds=3600):
        super().__init__(address, port)
        self.issuer, self.token, self.seconds = issuer, token, seconds

    def right(self, r):
        if self.token and r["of"].get("Authorization") != self.token:
            return 401, {}, b'{"code": "AccessDenied", "message": "no token"}'
        if r["method"] != "GET" or r["path"] != self.path:
            return 404, {}, b'{"code": "NotFound", "message": "no such credentials"}'
        k = self.issuer.issue("container", self.seconds)
        return 200, {"Content-Type": "application/json"}, json.dumps({"RoleArn": "arn:aws:iam::123456789012:role/task", "AccessKeyId": k["id"], "SecretAccessKey":
                                   k["secret"], "Token": k["token"], "Expiration": stamp(k["expires"])}).replace("/", "\\/").encode()


class Sts(Service):
    """AssumeRole and AssumeRoleWithWebIdentity. keys: {key id: secret} of users; roles: {arn: {external_id, token}}."""

    def __init__(self, issuer, keys, roles, address="127.0.0.1", port=0, certificate=None, seconds=None):
        super().__init__(address, port, certificate)
        self.issuer, self.keys, self.roles, self.seconds = issuer, keys, roles, seconds

    @staticmethod
    def error(status, code, message="told by the test"):
        return status, {"Content-Type": "text/xml"}, (
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error>"
            "<RequestId>c6104cbe</RequestId></ErrorResponse>" % (code, message)).encode()

    @staticmethod
    def xml(k, action="AssumeRole"):
        return ("<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult><AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId>"
                "<Arn>arn:aws:sts::1:assumed-role/x/s</Arn></AssumedRoleUser><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey>"
                "<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></%sResult><ResponseMetadata><RequestId>c6</RequestId>"
                "</ResponseMetadata></%sResponse>" % (action, action, k["id"], k["secret"], k["token"], stamp(k["expires"]), action, action)).encode()

    def _secret_of(self, key_id):
        k = self.issuer.good.get(key_id)
        return (k["secret"], k["token"]) if k else (self.keys.get(key_id), None)

    def right(self, r):
        form = dict(urllib.parse.parse_qsl(r["body"].decode(), strict_parsing=True))
        r["form"] = form
        action, role = form.get("Action"), self.roles.get(form.get("RoleArn"))
        if r["method"] != "POST" or r["path"] != "/" or form.get("Version") != "2011-06-15":
            return self.error(400, "InvalidAction")
        if action == "AssumeRole":
            key_id, wrong = verify(r["of"], r["body"], "sts", self._secret_of)
            if wrong:
                return self.error(403, wrong)
            if not role or role.get("external_id") != form.get("ExternalId"):
                return self.error(403, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s" % (key_id, form.get("RoleArn")))
        elif action == "AssumeRoleWithWebIdentity":
            if "Authorization" in r["headers"]:
                return self.error(400, "ValidationError")
            if not role or role.get("token") != form.get("WebIdentityToken"):
                # as some do: it repeats what it was sent
                return self.error(400, "InvalidIdentityToken", "token %s is none" % form.get("WebIdentityToken"))
        else:
            return self.error(400, "InvalidAction")
        seconds = int(form["DurationSeconds"])
        if not 900 <= seconds <= 43200 or not 2 <= len(form["RoleSessionName"]) <= 64:
            return self.error(400, "ValidationError")
        k = self.issuer.issue(form["RoleArn"], self.seconds or seconds)
        return 200, {"Content-Type": "text/xml"}, self.xml(k, action)


class SessionPages(Pages):
    """Pages that take only what the issuer handed out and has not taken back, with its token, signed along."""

    def __init__(self, issuer, keys, **kw):
        super().__init__(keys, **kw)
        self.issuer = issuer
        self.used = []              # key ids, in order

    def source(self, **fields):
        return dict({"source_type": "s3", "endpoint": self.url, "bucket": self.bucket}, **fields)

    def _verify(self, h, path, query):
        parts = dict(p.strip().partition("=")[::2] for p in h.headers.get("Authorization", " ").partition(" ")[2].split(","))
        key_id = parts.get("Credential", "").split("/")[0]
        k = self.issuer.good.get(key_id)
        if not k or k["expires"] < time.time():
            return "ExpiredToken" if key_id.startswith("ASIA") else "AccessDenied"
        if h.headers.get("x-amz-security-token") != k["token"] or "x-amz-security-token" not in parts["SignedHeaders"].split(";"):
            return "InvalidToken"
        self.used.append(key_id)
        return super()._verify(h, path, query)

    def secret_of(self, key_id):
        k = self.issuer.good.get(key_id)
        return k and k["secret"]
