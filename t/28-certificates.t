#!/usr/bin/python3
"""Certificates that end soon: who is told, when, and by whose certificate. (That they are for every type: t/28-tls-proxy.t.)"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import webservers  # noqa: E402
from certificates import Certificates  # noqa: E402
from poller import Daemon, MockBroker, Tap, World, need  # noqa: E402

INDEX = b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><a href=\"a.csv\">a</a></body></html>"
ENDS = "the TLS certificate of %s ends at %s, in "


class Site:
    """An index over TLS; /away/ leads to .other."""

    def __init__(self, c, name):
        self.web = webservers.Answers(self.answer, tls=(c.path(name), c.path(name, "key")))
        self.port, self.endpoint = self.web.port, "https://localhost:%d" % self.web.port
        self.other = None

    def answer(self, q):
        if q.path == "/away/":
            return {"status": 302, "headers": {"Location": self.other.endpoint + "/"}}
        return {"headers": {"Content-Type": "text/html"}, "body": INDEX}


class Told:
    def __init__(self, t, w, d, c):
        self.t, self.w, self.d, self.c = t, w, d, c

    def warned(self, site, path="/"):
        """The warnings of a job's result that are of certificates."""
        r, e, _ = self.w.run({"source_type": "http", "url": site.endpoint + path, "head_mode": "none", "retries": 0, "same_origin_only": False,
                              "tls": {"ca_pem": self.c.text("ca")}})
        if r["event_type"] != "job.completed" or len(e) != 1:
            raise RuntimeError(r.raw)
        return [x for x in r["warnings"] if "certificate" in x]

    def endpoints(self):
        return self.d.ctl("endpoints")[1]["endpoints"]

    def shown(self, site):
        """When its certificate ends, as iis-pollerctl has it."""
        return [x for x in self.endpoints() if x["endpoint"] == site.endpoint][0]["certificate_ends_at"]

    def counted(self, n):
        """The metric, once it is that."""
        return self.d.wait_metric("poller_certificates_ending", n)

    def reused(self, site):
        return [x for x in self.endpoints() if x["endpoint"] == site.endpoint][0]["reused_connections"]

    def lines(self, site):
        return self.d.logged("certificate_ends", endpoint=site.endpoint)

    def reload(self, value):
        since = self.d.mark()
        self.d.write_conf(network__certificate_warning=value)
        self.d.signal(1)
        self.d.wait_log("config_reloaded", since=since)


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl", "iis-poller-worker")
    c = Certificates()
    c.sign("far", "ca", "DNS:localhost", 30)
    c.sign("near", "ca", "DNS:localhost", 13)
    far, near, plain = Site(c, "far"), Site(c, "near"), webservers.Answers(lambda q: {"headers": {"Content-Type": "text/html"}, "body": INDEX})
    far.other = near
    w = World(MockBroker(t))
    d = Daemon(w, {"egress.allow": ["127.0.0.0/8", "::1/128"], "workers.count": 1})
    x = Told(t, w, d, c)

    t.is_(x.warned(far), [], "one that ends in 30 days: no warning")
    t.is_((x.shown(far), x.lines(far)), (c.ends("far").replace("Z", ".000Z"), []), "but its end is shown by iis-pollerctl endpoints")
    said = x.warned(near)
    t.ok(len(said) == 1 and ENDS % ("the server", c.ends("near")) in said[0] and "must renew" in said[0], "one that ends in 13 days: warned of in the result", said)
    t.is_((x.shown(near), x.counted(1)), (c.ends("near").replace("Z", ".000Z"), 1), "shown, and counted by the metric")
    t.is_([(y["level"], ENDS % ("the server", c.ends("near")) in y["reason"]) for y in x.lines(near)],
          [("warn", True)], "and one line of the log")
    reused = x.reused(near)
    said = x.warned(near)
    t.ok(len(said) == 1 and c.ends("near") in said[0], "the next job, over the connection that was kept: warned of, too", said)
    t.is_(x.reused(near) - reused, 1, "it went over that connection")
    t.is_(len(x.lines(near)), 1, "the log has its line for this day")

    said = x.warned(far, "/away/")
    t.ok(len(said) == 1 and ENDS % ("localhost", c.ends("near")) in said[0], "a redirect to a server whose certificate ends: warned of, by its name", said)

    x.reload("31d")
    t.ok(ENDS % ("the server", c.ends("far")) in "".join(x.warned(far)), "network.certificate_warning 31d: the other one is warned of", x.lines(far))
    t.is_(x.counted(2), 2, "and counted")
    x.reload("12d")
    t.is_((x.warned(near), x.warned(far)), ([], []), "12d: neither is")
    t.is_(x.counted(0), 0, "nor counted")
    x.reload("0")
    t.is_(x.warned(near), [], "0: never")

    r, e, _ = w.run({"source_type": "http", "url": "http://localhost:%d/" % plain.port, "head_mode": "none"})
    mine = [y for y in x.endpoints() if y["endpoint"] == "http://localhost:%d" % plain.port]
    t.ok(len(e) == 1 and mine[0]["certificate_ends_at"] is None, "without TLS there is none", r.raw, mine)
    t.is_(d.stop(), 0, "a graceful stop: exit 0")


with Tap() as tap:
    main(tap)
