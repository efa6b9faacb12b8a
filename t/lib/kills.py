"""kills.py - logs without a gap, and what a killed master may repeat. Used by the flow tests beside poller.py.

WholeLog is a Daemon that writes its log to a file. The daemon never waits for a reader of its log: a line that a full
pipe does not take is dropped and counted, so that a burst of lines beside a slow test is a log with a gap. A test that
counts lines, or waits for the last of many, needs each of them. Ledger notes at each kill of a master what it had begun
and what it had ended without Kafka knowing; afterwards no terminal record may have been repeated beyond that.
"""
import base64
import datetime
import os
import shlex
import subprocess
import time

import poller
from poller import SLOW, Daemon, clean_env, program


class WholeLog(Daemon):
    """A daemon whose standard error is a file, which takes every line."""

    def start(self, ready=True, timeout=40):
        wrap = self.wrap + shlex.split(os.environ.get("TEST_WRAP", ""))
        path = os.path.join(self.dir, "stderr.%d" % Daemon.all.index(self))
        with open(path, "ab") as f:
            self.process = subprocess.Popen(wrap + [program("iis-pollerd"), "-c", self.file] + self.args, cwd=self.dir,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=f,
                                            env=clean_env(self.env))
        self.pid = self.process.pid
        # Ends, with all that is in the file, soon after the daemon.
        tail = subprocess.Popen(["tail", "-n", "+1", "-f", "-s", "0.1", "--pid=%d" % self.pid, path],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
        poller._processes.extend((self.process, tail))
        self.log = poller.Lines(tail.stdout, self._line, lambda: os.path.getsize(path))
        if ready:
            self.wait_ready(timeout)
        return self


def seconds(stamp):
    """RFC 3339 UTC as seconds since 1970"""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


# ---- the completed set in a commit's metadata ----------------------------------------------------------------------------

def _varints(body):
    n = shift = 0
    for b in body:
        n |= (b & 127) << shift
        shift += 7
        if b < 128:
            yield n
            n = shift = 0


def completed(metadata):
    """The offsets beyond the frontier, counted from it, that this text says are done."""
    if not metadata:
        return set()
    if metadata[:2] not in ("R1", "B1"):
        raise ValueError("metadata of another kind: %r" % metadata[:20])
    body = base64.b64decode(metadata[2:] + "=" * (-len(metadata[2:]) % 4))[1:]
    if metadata[0] == "B":
        return {i for i in range(len(body) * 8) if body[i // 8] >> i % 8 & 1}
    at, got, is_done = 0, set(), False
    for n in _varints(body):
        if is_done:
            got.update(range(at, at + n))
        at += n
        is_done = not is_done
    return got


class Committed:
    """What the group has committed now: in it?"""

    def __init__(self, world):
        self.parts = {p: (offset, completed(text)) for p, (offset, text) in world.committed_metadata().items()}

    def below(self, place):
        """The frontier has passed it."""
        return place[1] < self.parts[place[0]][0]

    def beyond(self, place):
        """The metadata says that it is done."""
        offset, beyond = self.parts[place[0]]
        return offset >= 0 and place[1] - offset in beyond

    def __contains__(self, place):
        return self.below(place) or self.beyond(place)


# ---- masters that are killed -------------------------------------------------------------------------------------------------

class Ledger:
    """Kills masters and keeps of each death: what was in flight, and what had ended since the last commit."""

    def __init__(self, world):
        self.world = world
        self.kills = []

    def kill(self, d):
        """The kill; the jobs that it had done."""
        d.kill()
        at = time.time()
        d.log.thread.join(10 * SLOW)
        committed = Committed(self.world)
        done = {x["job_id"]: x for x in d.logged("job_done")}
        since = {j: x for j, x in done.items() if (x["partition"], x["offset"]) not in committed}
        self.kills.append({
            "name": d.name, "at": at, "done": len(done), "whole": d.log.ended and not d.logged("log_dropped"),
            "beyond": sum(committed.beyond((x["partition"], x["offset"])) for x in done.values()),
            "in_flight": {x["job_id"] for x in d.logged("job_started")} - set(done), "since_commit": set(since),
            "oldest": max([at - seconds(x["time"]) for x in since.values()] or [0]),
        })
        return done

    def _writer(self, record):
        """The number of the master that wrote this terminal record, from 0: by the time at which it ended the job."""
        at = seconds(record["finished_at"])
        return sum(k["at"] <= at for k in self.kills)

    def settle(self, t, results, interval=0.2, stored_twice=False):
        """After all: each kill's repeats are within its bound, with the same ids. stored_twice: by this broker, now and then."""
        by_job = {}
        for r in results:
            by_job.setdefault(r["job_id"], {}).setdefault(self._writer(r), []).append(r)
        repeated = [set() for _ in self.kills]
        twice = []
        for j, writers in by_job.items():
            order = sorted(writers)
            for w in order[:-1]:
                repeated[w].add(j)
            twice += [j for same in writers.values() if len(same) > 1 and not (stored_twice and len({r.raw for r in same}) == 1)]
        for k, again in zip(self.kills, repeated):
            bound = k["in_flight"] | k["since_commit"]
            t.diag("%s: %d done, %d of them committed beyond a frontier; at the kill %d in flight, %d done since the last commit, the oldest "
                   "for %.3f s: %d repeated" % (k["name"], k["done"], k["beyond"], len(k["in_flight"]), len(k["since_commit"]), k["oldest"], len(again)))
            t.ok(k["whole"], "%s: its log is whole" % k["name"])
            t.ok(again <= bound and len(again) <= len(bound),
                 "%s: its kill repeats nothing but what was in flight or had ended since the last commit" % k["name"],
                 "bound %d, repeated %d, beyond it: %r" % (len(bound), len(again), sorted(again - bound)[:20]))
            t.ok(k["oldest"] <= interval + SLOW, "%s: what had ended before was committed" % k["name"], k["oldest"])
        t.is_(twice, [], "no master wrote two terminal records of a job")
        t.is_([j for j, ws in by_job.items() if len({r["result_id"] for rs in ws.values() for r in rs}) != 1], [],
              "a repeated terminal record has the same result_id")
        t.ok(any(k["in_flight"] for k in self.kills), "the kills met masters at work")
        t.ok(any(k["done"] > len(k["since_commit"]) for k in self.kills), "and some that had committed")
        return sum(map(len, repeated))
