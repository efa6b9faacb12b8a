"""Certificate authorities of a test's own, and what they sign."""
import base64
import datetime
import hashlib
import os

from poller import folder, run


def read(path):
    with open(path) as f:
        return f.read()


def must(*argv, **kw):
    code, out, err = run(*argv, **kw)
    if code:
        raise RuntimeError("%s: %s" % (argv[0], err))
    return out


class Certificates:
    """Two authorities, and what they signed. Paths by name: .crt, .key; .pem has both."""

    def __init__(self):
        self.dir = folder()
        os.chmod(self.dir, 0o755)
        for ca in ("ca", "other"):
            must("openssl", "req", "-x509", *self.key(), "-days", "2", "-subj", "/CN=" + ca, "-keyout", self.path(ca, "key"), "-out", self.path(ca, "crt"))
        self.sign("good", "ca", "DNS:localhost", 2)
        self.sign("expired", "ca", "DNS:localhost", -1)
        self.sign("client", "ca", "DNS:client", 2)
        self.sign("stranger", "other", "DNS:client", 2)
        must("openssl", "pkey", "-in", self.path("client", "key"), "-aes256", "-passout", "pass:canary-of-keys", "-out", self.path("locked", "key"))
        public = must("openssl", "x509", "-in", self.path("good"), "-noout", "-pubkey")
        self.pin = pin_of(public)
        self.other_pin = pin_of(must("openssl", "x509", "-in", self.path("client"), "-noout", "-pubkey"))

    @staticmethod
    def key():
        return "-newkey", "rsa:2048", "-nodes"

    def path(self, name, kind="crt"):
        return os.path.join(self.dir, "%s.%s" % (name, kind))

    def text(self, name, kind="crt"):
        return read(self.path(name, kind))

    def ends(self, name):
        """When it ends, as the poller writes times without a fraction."""
        said = must("openssl", "x509", "-in", self.path(name), "-noout", "-enddate").strip().partition("=")[2]
        return datetime.datetime.strptime(said, "%b %d %H:%M:%S %Y GMT").strftime("%Y-%m-%dT%H:%M:%SZ")

    def sign(self, name, ca, san, days):
        csr, ext = self.path(name, "csr"), self.path(name, "ext")
        must("openssl", "req", "-new", *self.key(), "-subj", "/CN=" + name, "-keyout", self.path(name, "key"), "-out", csr)
        with open(ext, "w") as f:
            f.write("subjectAltName=%s\n" % san)
        must("openssl", "x509", "-req", "-in", csr, "-CA", self.path(ca), "-CAkey", self.path(ca, "key"), "-set_serial", "7", "-days", str(days),
             "-extfile", ext, "-out", self.path(name))
        with open(self.path(name, "pem"), "w") as f:
            f.write(self.text(name, "key") + self.text(name))


def pin_of(public):
    der = base64.b64decode("".join(public.splitlines()[1:-1]))
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()
