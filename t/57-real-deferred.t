#!/usr/bin/python3
"""Deferred jobs on Apache Kafka: kill -9, a message that comes again, a second daemon, and a retention that is shorter
than the jobs wait. The parts that 38-deferred.t has on the embedded broker are the same ones here."""
import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from poller import *  # noqa: E402,F403

_loader = importlib.machinery.SourceFileLoader("t38", os.path.join(HERE, "38-deferred.t"))
t38 = importlib.util.module_from_spec(importlib.util.spec_from_loader("t38", _loader))
_loader.exec_module(t38)


def retained(t, b):
    """The topic keeps records for sixteen seconds; jobs wait for half a minute. The poller learns that by asking."""
    from confluent_kafka import Consumer, TopicPartition
    w = World(b, name="retained", deferred_partitions=1, config={"deferred": {"retention.ms": "16000", "segment.ms": "1000", "file.delete.delay.ms": "0"}})
    d = Daemon(w, t38.CONF)
    line = d.wait_log("deferred_retention")
    t.is_((line["retention_ms"], line["rewrite_ms"]), (16000, 4000), "retention.ms is asked for, a quarter of it taken")
    n = 20
    w.push(*[job("keep-%d" % i, generated(1), scheduled_at=rfc3339(30)) for i in range(n)])
    t38.wait_deferred(d, n)
    c = Consumer({"bootstrap.servers": b.bootstrap, "group.id": "looks"})

    def low():
        return c.get_watermark_offsets(TopicPartition(w.topics["deferred"], 0), timeout=10)[0]
    t.ok(wait_for("Kafka to remove records", lambda: low() >= n, 28, every=0.5), "Kafka removed what was written first")
    t.is_(len(t38.deferred(d)), n, "all still wait")
    d.kill()
    d = Daemon(w, t38.CONF, keep=d)
    d.wait_log("deferred_ready")
    w.results(n, 40)
    t.same_set(t38.ids(w.reader("results").drain()), ["keep-%d" % i for i in range(n)], "and each is done once, also after a kill -9")
    c.close()
    code, out, err = d.ctl("verify", "--wait", "10s")
    t.ok(code == 0 and any(x["result"] == "WARN" and x["check"] == "retention" and "16 s" in x["text"] for x in out), "verify warns of the retention", code, out, err)
    t.is_(d.stop(), 0, "it stops")
    w = World(b, name="compacted", config={"deferred": {"cleanup.policy": "compact", "retention.bytes": "1000000"}})
    d = Daemon(w, t38.CONF, start=False)
    code, out, err = d.ctl("verify", "--wait", "10s")
    told = " ".join(x["text"] + x["hint"] for x in out if x["check"] == "retention" and x["result"] == "WARN")
    t.ok("compact" in told and "retention.bytes" in told, "and of compaction and of a bound in bytes", out, err)


def main():
    t = Tap()
    need(t, "iis-pollerd", "iis-poller-worker", "iis-pollerctl")
    b = RealBroker(t, "log.retention.check.interval.ms=500", "log.initial.task.delay.ms=500")
    t38.lanes(t, (b, t38.killed), (b, t38.redelivered), (b, t38.rebalanced), (b, retained))
    t.done()


main()
