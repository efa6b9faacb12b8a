#!/usr/bin/python3
"""Apache Kafka behind TLS, SASL and ACLs: kafka.properties as they are for librdkafka; each refusal is named, and mends by itself."""
import os
import socket
import struct
import subprocess
import sys
import threading

import confluent_kafka

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, RealBroker, Tap, World, conservation, folder, free_port, generated, job, need, program, run  # noqa: E402

PASSWORD, OTHER = "open-sesame-7f3a", "swordfish-91c2"
# Numbers of Kafka's protocol: ResourceType, AclOperation, AclPermissionType
TOPIC, GROUP = 2, 3
READ, WRITE, DESCRIBE = 3, 4, 8
DENY, ALLOW = 2, 3
CREATE_ACLS, DELETE_ACLS = 30, 31


class Certificates:
    """An authority, a server's certificate for localhost, a client's, and an authority that nobody asked."""

    def __init__(self):
        self.dir = folder()
        for name in ("ca", "other"):
            self.ssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=%s of the test" % name, "-keyout", self.at(name + ".key"), "-out", self.at(name + ".crt"))
        for name, subject, extra in (("server", "/CN=broker", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("client", "/CN=poller", "extendedKeyUsage=clientAuth")):
            with open(self.at(name + ".ext"), "w") as f:
                f.write(extra + "\n")
            self.ssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", self.at(name + ".key"), "-out", self.at(name + ".csr"))
            self.ssl("x509", "-req", "-in", self.at(name + ".csr"), "-CA", self.at("ca.crt"), "-CAkey", self.at("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", self.at(name + ".ext"), "-out", self.at(name + ".crt"))
            with open(self.at(name + ".key")) as key, open(self.at(name + ".crt")) as crt, open(self.at(name + ".pem"), "w") as f:
                f.write(key.read() + crt.read())

    def at(self, name):
        return os.path.join(self.dir, name)

    def ssl(self, *argv):
        subprocess.run(("openssl",) + argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Secured(RealBroker):
    """One node: PLAINTEXT for the test itself, which may all; SASL over TLS; TLS with the client's certificate."""

    def __init__(self, tap):
        self.certs = c = Certificates()
        self.sasl, self.tls = free_port(), free_port()
        super().__init__(
            tap,
            "listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:%d,SSL://127.0.0.1:%d,CONTROLLER://127.0.0.1:{controller}" % (self.sasl, self.tls),
            "advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://localhost:%d,SSL://localhost:%d" % (self.sasl, self.tls),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            'listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_poller="%s" user_stranger="%s";' % (PASSWORD, OTHER),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
            "format:add-scram=SCRAM-SHA-512=[name=poller,password=%s]" % PASSWORD,
            "ssl.keystore.type=PEM", "ssl.keystore.location=" + c.at("server.pem"), "ssl.truststore.type=PEM", "ssl.truststore.location=" + c.at("ca.crt"),
            "listener.name.ssl.ssl.client.auth=required", "listener.name.ssl.ssl.principal.mapping.rules=RULE:^CN=([^,]*)$/$1/,DEFAULT",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS", "allow.everyone.if.no.acl.found=false")

    def _ask(self, key, version, body):
        """A request of the admin protocol, by hand, as the one who may all."""
        def text(s):
            return struct.pack(">h", len(s)) + s.encode()
        head = struct.pack(">hhi", key, version, 7) + text("test")
        host, port = self.bootstrap.split(":")
        with socket.create_connection((host, int(port)), 10) as s:
            s.settimeout(30)
            m = head + body(text)
            s.sendall(struct.pack(">i", len(m)) + m)
            n, = struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))
            return s.recv(n, socket.MSG_WAITALL)[8:]        # correlation, throttle

    def acl(self, kind, name, operation, permission=ALLOW, principal="User:poller"):
        a = self._ask(CREATE_ACLS, 1, lambda text: struct.pack(">ib", 1, kind) + text(name) + struct.pack(">b", 3) + text(principal) + text("*") + struct.pack(">bb", operation, permission))
        count, error = struct.unpack_from(">ih", a)
        if count != 1 or error:
            raise RuntimeError("CreateAcls: %d of %d" % (error, count))

    def no_acl(self, kind, name, operation, permission, principal="User:poller"):
        a = self._ask(DELETE_ACLS, 1, lambda text: struct.pack(">ib", 1, kind) + text(name) + struct.pack(">b", 3) + text(principal) + text("*") + struct.pack(">bb", operation, permission))
        count, error = struct.unpack_from(">ih", a)
        if count != 1 or error:
            raise RuntimeError("DeleteAcls: %d of %d" % (error, count))

    def rights(self, w):
        """What the manual says that a poller needs."""
        self.acl(TOPIC, w.topics["jobs"], READ)
        self.acl(GROUP, w.group, READ)
        for k in ("events", "results", "dlq"):
            self.acl(TOPIC, w.topics[k], WRITE)
        self.acl(TOPIC, w.topics["deferred"], READ)
        self.acl(TOPIC, w.topics["deferred"], WRITE)


def settings(w, bootstrap, **properties):
    """World.conf() at another listener, with further properties."""
    c = w.conf()
    c["kafka.bootstrap_servers"] = bootstrap
    c["kafka.properties"] = dict(c["kafka.properties"], **{"broker.address.family": "v4"}, **{k.replace("_", "."): str(v) for k, v in properties.items()})
    return c


def sasl(w, b, password=PASSWORD, mechanism="PLAIN", ca="ca.crt", user="poller"):
    return settings(w, "localhost:%d" % b.sasl, security_protocol="SASL_SSL", ssl_ca_location=b.certs.at(ca), sasl_mechanism=mechanism, sasl_username=user, sasl_password=password)


def served(t, w, d, what):
    r, e, dl = w.run({"source_type": "dummy", "path": "./dummy_data"}, file_pattern="*.csv")
    t.is_((r["event_type"], len(e), len(dl)), ("job.completed", 3, 0), "%s: README's job is served" % what)
    left, right = conservation(d)
    t.is_(left, right, "%s: conservation" % what)


def quiet(t, d, what):
    """No secret in what it says."""
    told = "\n".join(d.raw) + "".join(d.http(p)[1] for p in ("/metrics", "/status", "/status.json", "/readyz")) + str(d.ctl("config")[1]) + str(d.ctl("status")[1])
    t.ok(len(told) > 1000 and PASSWORD not in told and OTHER not in told, "%s: no password in log, pages and answers" % what)


def acls(t, b):
    """Who may nothing is told so by name, and is served as soon as he may; a right that is taken away stops the consuming."""
    w = World(b, partitions=2)
    d = Daemon(w, dict(sasl(w, b), **{"kafka.topic_check_interval": "1s"}), ready=False)
    w.push(job("waits", generated(2)))
    why = d.wait_not_ready("is forbidden to this client", 60)
    t.ok("ACLs" in why and any(n in why for n in list(w.topics.values()) + [w.group]), "no right at all: not ready, for what, and what to do", why)
    code, out, err = d.ctl("verify", "--wait", "5s")
    bad = [x for x in out if x["result"] == "FAIL"] if isinstance(out, list) else []
    told = " ".join(x["text"] for x in bad)
    t.ok(code == 69 and all(x["hint"] for x in bad) and all(n in told for n in w.topics.values()), "verify says which rights are missing, each with a hint", code, out, err)
    t.is_(d.logged("job_accepted"), [], "nothing is consumed meanwhile")
    b.rights(w)
    d.wait_ready(60)
    t.is_(w.result_of("waits", 60)["event_type"], "job.completed", "with the rights it is served, without a restart")
    served(t, w, d, "SASL_SSL, PLAIN")
    code, out, err = d.ctl("verify", "--wait", "10s")
    t.ok(code == 0 and {x["result"] for x in out} <= {"OK", "WARN"}, "verify with the rights: no FAIL", code, out, err)
    code, out, err = run(program("iis-pollerd"), "-t", "--online", "-c", d.file)
    t.is_(code, 0, "iis-pollerd -t --online: 0")
    for k in ("results", "dlq"):
        b.acl(TOPIC, w.topics[k], WRITE, DENY)
        w.push(job("held-" + k, generated(0, error="permanent")))
        why = d.wait_not_ready("", 60)
        t.ok(w.topics[k] in why, "%s may not be written any more: not ready, named" % k, why)
        t.is_([x for x in w.reader("results").drain() if x["job_id"] == "held-" + k], [], "%s: the job is not answered" % k)
        since = d.mark()
        b.no_acl(TOPIC, w.topics[k], WRITE, DENY)
        d.wait_log("ready", since=since, timeout=60)
        t.is_(w.result_of("held-" + k, 60)["event_type"], "job.failed", "%s: allowed again, the job is answered" % k)
        t.is_(len(w.dead_letters_of("held-" + k)), 1, "%s: with its dead letter" % k)
    quiet(t, d, "ACLs")
    t.is_(d.stop(), 0, "exit 0")


def ways_in(t, b):
    """A password from a file; a certificate in its place; and SCRAM, which older versions of the library cannot."""
    w = World(b)
    b.rights(w)
    secret = os.path.join(folder(), "password")
    with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write(PASSWORD + "\n")

    def from_file(mechanism):
        c = sasl(w, b, mechanism=mechanism)
        del c["kafka.properties"]["sasl.password"]
        return dict(c, **{"kafka.password_file": secret})
    d = Daemon(w, from_file("PLAIN"))
    served(t, w, d, "SASL_SSL, kafka.password_file")
    quiet(t, d, "kafka.password_file")
    t.is_(d.stop(), 0, "exit 0")
    d = Daemon(w, settings(w, "localhost:%d" % b.tls, security_protocol="SSL", ssl_ca_location=b.certs.at("ca.crt"),
                           ssl_certificate_location=b.certs.at("client.crt"), ssl_key_location=b.certs.at("client.key")))
    served(t, w, d, "SSL, a client certificate")
    t.is_(d.stop(), 0, "exit 0")
    if confluent_kafka.libversion()[1] >= 0x020601ff:
        d = Daemon(w, from_file("SCRAM-SHA-512"))
        served(t, w, d, "SASL_SSL, SCRAM-SHA-512")
    else:
        d = Daemon(w, from_file("SCRAM-SHA-512"), ready=False)
        why = d.wait_not_ready("the password may be right", 60)
        t.ok("PLAIN over TLS" in why, "SCRAM with the right password: what this library cannot, and what to do", why)
        code, out, err = d.ctl("verify", "--wait", "5s")
        t.ok(code == 69 and "the password may be right" in out[-1]["text"], "verify says it, too", out, err)
        code, out, err = run(program("iis-pollerd"), "-t", "--online", "-c", d.file)
        t.ok(code == 69 and "the password may be right" in out + err, "and -t --online", out, err)
    t.is_(d.stop(), 0, "exit 0")


def refused(t, b):
    w = World(b)
    b.rights(w)
    rows = (
            ("a wrong password", sasl(w, b, password=OTHER), "uthentication"),
            ("an authority that nobody knows", sasl(w, b, ca="other.crt"), "certificate"),
            ("no client certificate", settings(w, "localhost:%d" % b.tls, security_protocol="SSL", ssl_ca_location=b.certs.at("ca.crt")), "certificate"),
            ("no TLS at a port of TLS", settings(w, "localhost:%d" % b.tls), ""))
    # side by side: most of it is waiting for deadlines
    daemons = [Daemon(w, conf, ready=False, name=what) for what, conf, _ in rows]
    online = [None] * len(rows)

    def ask(i):
        online[i] = run(program("iis-pollerd"), "-t", "--online", "-c", daemons[i].file)
    asked = [threading.Thread(target=ask, args=(i,)) for i in range(len(rows))]
    for x in asked:
        x.start()
    for x in asked:
        x.join()
    for (what, conf, words), d, (code, out, err) in zip(rows, daemons, online):
        t.ok(code == 69 and words in out + err and "localhost" in out + err, "%s: -t --online exits with 69 and says so" % what, code, out, err)
        why = d.wait_not_ready("broker", 60)
        t.ok(words in why + "\n".join(d.raw), "%s: not ready: %s" % (what, why), d.raw[-5:])
        t.is_(d.http("/livez")[0], 200, "%s: alive" % what)
        quiet(t, d, what)
        t.is_(d.stop(), 0, "%s: exit 0" % what)
    d = Daemon(w, sasl(w, b, user="stranger", password=OTHER), ready=False, name="stranger")
    why = d.wait_not_ready("is forbidden to this client", 60)
    t.ok(any(n in why for n in list(w.topics.values()) + [w.group]), "another user's rights are not ours: %s" % why)
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker")
    b = Secured(t)
    for part in (acls, ways_in, refused):
        t.part(part, b)


with Tap() as tap:
    main(tap)
