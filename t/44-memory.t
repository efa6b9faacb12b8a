#!/usr/bin/python3
"""A listing far longer than any queue, against a broker slower than it: the memory of master and worker stays flat."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import SANITIZED, SLOW, Daemon, MockBroker, Tap, World, generated, job, need, wait_for  # noqa: E402

FILES = 300000
MIB = 1 << 20
# Of each answer of the broker. The idempotent producer of librdkafka 2.0 has one request (1 MB, some 900 events) a
# partition in flight: this makes some 30,000 events a second.
RTT_MS = 30
# A sanitizer keeps shadows and freed memory of its own: what it adds is not the poller's, but is bounded, too.
ROOM = 12 if SANITIZED else 1


def peak(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) * 1024


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    b = MockBroker(t)
    for publish in ("stream", "atomic"):
        w = World(b)
        b.do("rtt", -1, 0)
        d = Daemon(w, {"workers.count": 1, "timeouts.job": "10m"}, name=publish)
        w.run(generated(10), publish=publish)
        idle = d.memory()
        b.do("rtt", -1, RTT_MS)
        w.push(job("long", generated(FILES), publish=publish))
        d.wait_log("job_started", job_id="long")
        held = []

        def ended():
            held.append(d.metric("poller_kafka_outstanding_records"))
            return d.logged("job_done", job_id="long")
        wait_for("the long job", ended, 120, every=0.25)
        x = d.logged("job_done", job_id="long")[0]
        t.is_((x["outcome"], x["published"]), ("completed", FILES), "%s: %d files are published" % (publish, FILES))
        t.ok(max(held) >= 10000, "%s: the broker was the slow one: events waited for it" % publish, max(held))
        t.ok(max(held) <= d.conf.get("kafka.queue_messages", 20000) + 2000, "%s: no more than kafka.queue_messages of them" % publish, max(held))
        worker, master = peak(d.workers()[0]), peak(d.pid) - idle
        t.diag("%s: %.1f s, worker %.1f MiB, master %.1f MiB above its idle %.1f MiB" %
               (publish, x["seconds"], worker / MIB, master / MIB, idle / MIB))
        t.ok(len(d.logged("worker_ready")) == 1 and worker < 32 * MIB * ROOM, "%s: the worker's peak is below %d MiB" % (publish, 32 * ROOM), worker)
        t.ok(master < 64 * MIB * ROOM, "%s: the master's peak is less than %d MiB above idle" % (publish, 64 * ROOM), master)
        t.ok(d.metric("poller_loop_stall_seconds_max") < 1 * SLOW, "%s: the main loop never stalled" % publish)
        b.do("rtt", -1, 0)
        t.is_(d.stop(), 0, "%s: exit 0" % publish)


with Tap() as tap:
    main(tap)
