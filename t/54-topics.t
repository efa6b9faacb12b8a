#!/usr/bin/python3
"""An output topic is missing or forbidden: not ready, named, and nothing is taken that could not be answered (DESIGN.md rule 14)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, generated, job, need  # noqa: E402


def topic_trouble(t, b):
    for code, what in ((3, "missing"), (29, "forbidden")):
        for which in ("results", "dlq", "events"):
            w = World(b)
            b.do("topic_error", w.topics[which], code)
            w.push(job("waits", generated(2)))
            d = Daemon(w, {"kafka.topic_check_interval": "1s"}, ready=False, name="%s %s" % (which, what))
            d.wait_not_ready(w.topics[which])
            taken = d.logged("job_accepted")
            t.ok(not taken or which == "events", "%s %s: not ready, named, nothing is taken" % (which, what), taken)
            b.do("topic_error", w.topics[which], 0)
            t.is_(w.result_of("waits", 40)["event_type"], "job.completed", "%s no longer %s: served" % (which, what))
            t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    t.part(topic_trouble, MockBroker(t))


with Tap() as tap:
    main(tap)
