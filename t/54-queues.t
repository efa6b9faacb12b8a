#!/usr/bin/python3
"""Several polling queues, each bound to a tenant (topics.more_polling_queues, tenants.NAME.topics)."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, generated, job, need, rfc3339, wait_for  # noqa: E402


def queues(t, b):
    """Three polling queues with the same partitions and offsets: nobody is taken for another, whatever is killed."""
    w = World(b, partitions=2)
    own = {k: "%s-of-%s" % (w.topics["jobs"], k) for k in ("acme", "beta")}
    conf = {"topics.more_polling_queues": list(own.values()), "jobs.hold_max": "1s", "workers.count": 8,
            "tenants.acme": {"topics": [own["acme"]]}, "tenants.beta": {"topics": [own["beta"]]}, "tenants.default": {"topics": [w.topics["jobs"]]}}
    for topic in own.values():
        b.job_topics.add(topic)
        b.topic(topic, 2)
    b.do("topic_error", own["beta"], 3)
    d = Daemon(w, conf, ready=False)
    d.wait_not_ready(own["beta"])
    t.ok(True, "one of them is missing: not ready, named")
    b.do("topic_error", own["beta"], 0)
    d.wait_ready()

    places = [(org, topic, p) for org, topic in (("default", w.topics["jobs"]), ("acme", own["acme"]), ("beta", own["beta"])) for p in (0, 1)]
    for org, topic, p in places:
        b.push(topic, [job("%s-%d" % (org, p), generated(3), org_id=org)], partition=p)
    ended = {"%s-%d" % (org, p): w.result_of("%s-%d" % (org, p)) for org, _, p in places}
    t.is_({r["event_type"] for r in ended.values()}, {"job.completed"}, "each tenant is served from its own queue")
    t.is_([ended["%s-%d" % (org, p)]["origin"] for org, _, p in places], [{"topic": topic, "partition": p, "offset": 0} for _, topic, p in places], "each record names the queue")
    t.is_(len({r["result_id"] for r in ended.values()}), len(places), "the same partition and offset of two queues are two messages")
    for org, topic in (("beta", own["acme"]), ("acme", w.topics["jobs"]), ("other", own["beta"])):
        b.push(topic, [job("%s-elsewhere" % org, generated(3), org_id=org)], partition=0)
        r = w.result_of("%s-elsewhere" % org)
        t.ok(r["event_type"] == "job.failed" and r["error"]["class"] == "policy" and topic in r["error"]["message"], "%s in another's queue: policy" % org, r.raw)
        t.ok(len(w.events_of("%s-elsewhere" % org)) == 0, "and nothing is listed")

    # One waits in the deferred topic, one is in hand when the poller is killed.
    b.push(own["beta"], [job("later", generated(3), org_id="beta", scheduled_at=rfc3339(4))], partition=1)
    d.wait_log("job_deferred", job_id="later")
    for org, topic, p in places:
        b.push(topic, [job("%s-slow-%d" % (org, p), generated(3, delay="1h" if p else "0"), org_id=org)], partition=p)
    for org, _, p in places:
        if p:
            d.wait_log("job_accepted", job_id="%s-slow-1" % org)
        else:
            w.result_of("%s-slow-0" % org)
    want = {(topic, p): p for _, topic, p in places}    # the deferred one is done with, here

    def lag():
        code, out, err = d.ctl("lag")
        if code:
            t.diag("lag: %d, %s %s" % (code, out, err))
        return code == 0 and {(r["topic"], r["partition"]): r["lag"] for r in out["partitions"]} == want
    t.ok(wait_for("the last commit", lag), "lag knows them apart")
    t.is_(d.wait_metric("poller_consumer_lag_records", 1, topic=own["acme"]), 1, "so does poller_consumer_lag_records")
    d.kill()
    d = Daemon(w, conf, keep=d)
    for org, _, p in places:
        if p:
            d.wait_log("job_accepted", job_id="%s-slow-1" % org)
    t.is_([x for x in d.logged("job_accepted") if not x["job_id"].endswith("-slow-1") and x["job_id"] != "later"], [], "after kill -9 nothing that was done is taken again")
    r = w.result_of("later")
    t.is_((r["event_type"], r["origin"]["topic"]), ("job.completed", own["beta"]), "the deferred one is done, and is of its queue")
    status, body = d.http("/status.json")
    t.is_({(x["topic"], x["partition"]) for x in json.loads(body)["kafka"]["partitions"]}, {(topic, p) for _, topic, p in places}, "/status.json shows all partitions")
    t.ok(all(topic in d.http("/status")[1] for topic in own.values()), "so does /status")
    for org, _, p in places:
        if p:
            code, out, err = d.ctl("job", "cancel", "%s-slow-1" % org)
            t.is_((code, w.result_of("%s-slow-1" % org)["event_type"]), (0, "job.cancelled"), "%s: cancelled" % org)

    code, out, err = d.ctl("push", "-t", "dummy", "-s", "files=2", "-i", "by-hand", "-O", "acme", "--topic", own["acme"])
    t.ok(code == 0 and w.result_of("by-hand")["event_type"] == "job.completed", "push --topic", out, err)
    code, out, err = d.ctl("peek", "jobs", "--topic", own["acme"], "-n", "1", json_out=False)
    t.ok(code == 0 and "by-hand" in out, "peek jobs --topic", out, err)
    code, out, err = d.ctl("push", "-t", "dummy", "-s", "files=2", "--topic", "nobody-s", json_out=False)
    t.ok(code == 64 and "topics.more_polling_queues" in err, "a queue that nobody reads is refused", code, err)
    code, out, err = d.ctl("verify", json_out=False)
    t.ok(all(topic in out for topic in own.values()), "verify looks at each", out, err)
    left, right = conservation(d)
    t.is_(left, right, "accepted = ended")
    t.is_(d.stop(), 0, "exit 0")


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker", "iis-poller-http", "iis-pollerctl")
    t.part(queues, MockBroker(t))


with Tap() as tap:
    main(tap)
