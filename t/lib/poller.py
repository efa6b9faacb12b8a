"""poller.py - what the flow tests share: TAP, brokers, the daemon, records in and out of Kafka, schemas.

A test is a script that makes a Tap, a broker, a World (its own topics and group on that broker) and a Daemon, and ends with
tap.done(). Nothing has a fixed port or a shared folder, so tests run side by side. Waiting is always for an event (a log
line, a record, a page) with a deadline, never for a time. Every record that is read and every job that is pushed is held
against the installed JSON Schemas and the contract's headers; tap.done() reports it as a test of its own. A job that is
wrong on purpose says so: invalid(job), or run(..., invalid=True). BUILD names the folder of the programs (default
build), so that the same tests run with sanitizers; TEST_SLOW stretches every deadline; TEST_EGRESS is the egress.mode of
every daemon; TEST_WRAP goes before the daemon's command line (valgrind ...); TEST_KEEP=1 keeps the temporary folders.
"""
import atexit
import datetime
import glob
import fcntl
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SANITIZED = os.path.basename(BUILD).startswith("build-")
SLOW = float(os.environ.get("TEST_SLOW", "4" if SANITIZED else "1"))
KEEP = os.environ.get("TEST_KEEP") == "1"


# ---- TAP ------------------------------------------------------------------------------------------------------------

class Tap:
    """Numbers the tests, prints the plan at the end. Used as a context manager it turns an exception into a failure."""
    current = None

    def __init__(self):
        self.n = self.failed = 0
        self.started = time.monotonic()
        self.records = 0
        self.invalid = []
        Tap.current = self

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        if kind is not None and issubclass(kind, SystemExit):
            return False
        if kind is not None:
            self.ok(False, "ran to its end", "".join(traceback.format_exception(kind, value, tb)))
            for d in Daemon.all:
                self.diag("log of %s:\n%s" % (d.name, "\n".join(x[:300] for x in d.raw[-12:])))
        self.done()
        return True

    def diag(self, text):
        for line in str(text).splitlines():
            print("# " + line[:600].encode("ascii", "backslashreplace").decode(), flush=True)

    def ok(self, good, name, *why):
        self.n += 1
        if not good:
            self.failed += 1
        print("%s %d - %s" % ("ok" if good else "not ok", self.n, name.replace("#", "")), flush=True)
        if not good:
            for w in why:
                self.diag(w)
        return bool(good)

    def is_(self, got, want, name):
        return self.ok(got == want, name, "got:    %r" % (got,), "wanted: %r" % (want,))

    def same_set(self, got, want, name):
        got, want = list(got), list(want)
        gs, ws = set(got), set(want)
        return self.ok(gs == ws and len(got) == len(want), name, "missing: %r" % sorted(ws - gs, key=repr)[:20],
                       "too many: %r" % sorted(gs - ws, key=repr)[:20], "%d for %d" % (len(got), len(want)))

    def part(self, function, *args):
        """Runs one part of a test; an exception in it is a failure, and the next part goes on."""
        self.diag("%s (%.1f s)" % (function.__name__, time.monotonic() - self.started))
        try:
            return function(self, *args)
        except Exception:
            self.ok(False, "%s runs to its end" % function.__name__, traceback.format_exc())
            for d in Daemon.all[-2:]:
                self.diag("log of %s:\n%s" % (d.name, "\n".join(x[:300] for x in d.raw[-12:])))

    def skip(self, name, why):
        """One test that cannot be tried here: a skip that the harness sees as one; with CI=true a failure."""
        if os.environ.get("CI") == "true":
            self.ok(False, name, "may not be skipped here: %s" % why)
            return
        self.n += 1
        print("ok %d - %s # SKIP %s" % (self.n, name.replace("#", ""), why), flush=True)

    def skip_all(self, why):
        if os.environ.get("CI") == "true":
            print("not ok 1 - may not be skipped here: %s\n1..1" % why, flush=True)
            sys.exit(1)
        print("1..0 # SKIP %s" % why, flush=True)
        sys.exit(0)

    def bail(self, why):
        print("Bail out! %s" % why, flush=True)
        sys.exit(2)

    def done(self):
        if self.records:
            self.ok(not self.invalid, "each of the %d records read or pushed fits its schema" % self.records,
                    "\n".join(self.invalid[:5]))
        for d in Daemon.all:
            if d.bad_lines:
                self.ok(False, "every log line of %s is JSON" % d.name, "\n".join(d.bad_lines[:40]))
        print("1..%d" % self.n, flush=True)
        sys.exit(1 if self.failed else 0)


class Timeout(Exception):
    pass


def deadline(seconds):
    return time.monotonic() + seconds * SLOW


def wait_for(what, probe, timeout=20, every=0.02):
    """Asks probe until it says something true, and gives that back. For states that have no event to wait for."""
    end = deadline(timeout)
    while True:
        got = probe()
        if got:
            return got
        if time.monotonic() > end:
            raise Timeout("waited %g s for %s" % (timeout * SLOW, what))
        time.sleep(every)


# ---- temporary folders and processes of ours -----------------------------------------------------------------------------

_folders = []
_processes = []


def folder(prefix="iis-test."):
    d = tempfile.mkdtemp(prefix=prefix)
    _folders.append(d)
    return d


def _cleanup():
    for p in _processes:
        if p.poll() is None:
            try:
                p.send_signal(signal.SIGCONT)
                if p.stdin:
                    p.stdin.close()
                    p.wait(3)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                pass
            if p.poll() is None:
                # A server that leads a group takes its children along.
                if os.getpgid(p.pid) == p.pid:
                    os.killpg(p.pid, signal.SIGKILL)
                else:
                    p.kill()
                p.wait()
    for d in _folders:
        if KEEP:
            print("# kept: %s" % d, flush=True)
            continue
        for path, dirs, _ in os.walk(d):
            for x in dirs:
                # os.walk lists a link to a directory, too, and chmod would go where it leads: out of the test
                if os.path.islink(os.path.join(path, x)):
                    continue
                try:
                    os.chmod(os.path.join(path, x), 0o700)
                except OSError:
                    pass
        shutil.rmtree(d, ignore_errors=True)


atexit.register(_cleanup)
signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def program(name):
    return os.path.join(BUILD, name)


def need(tap, *programs):
    """The programs under test must have been built; that they are not is a mistake, not a reason to skip."""
    for p in programs:
        if not os.access(program(p), os.X_OK):
            tap.bail("%s is not built" % program(p))


def clean_env(extra=None):
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}
    for k in os.environ:
        if k.endswith("SAN_OPTIONS"):
            env[k] = os.environ[k]
    env.update(extra or {})
    return env


# ---- schemas and the contract's headers ---------------------------------------------------------------------------------------

_validators = {}
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$")
_TOPIC_KIND = {"jobs": "job", "events": "event", "results": "result", "dlq": "dead-letter"}


def _validator(kind):
    if kind not in _validators:
        import jsonschema
        found = [p for p in glob.glob(os.path.join(ROOT, "conf/schemas/*.json"))
                 if re.match(kind.replace("-", "[-_]?"), os.path.basename(p))]
        if len(found) != 1:
            raise RuntimeError("conf/schemas has %d schemas of %s" % (len(found), kind))
        with open(found[0]) as f:
            schema = json.load(f)
        cls = jsonschema.validators.validator_for(schema)
        cls.check_schema(schema)
        _validators[kind] = cls(schema)
    return _validators[kind]


def validate(kind, value):
    """None, or what is wrong with this value (already parsed JSON) as a job, event, result or dead-letter."""
    errors = ["%s: %s" % ("/".join(map(str, e.path)) or "value", e.message[:300])
              for e in _validator(kind).iter_errors(value)]
    if kind != "job":
        for k, v in value.items():
            if k.endswith("_at") and v is not None and not _TIME.match(str(v)):
                errors.append("%s: not RFC 3339 UTC: %r" % (k, v))
    return "; ".join(errors) or None


def _no_duplicates(pairs):
    d = dict(pairs)
    if len(d) != len(pairs):
        raise ValueError("duplicate keys")
    return d


class Invalid:
    """What invalid() gives."""

    def __init__(self, value):
        self.value = value


def invalid(value):
    """A message (bytes or JSON-able) for the polling queue that is wrong on purpose: it is not held against the job's schema."""
    return Invalid(value)


_on_purpose = set()     # such messages, as bytes
_sound = set()          # messages that fit the job's schema


def _message(value):
    """The bytes of a value that is to be pushed."""
    if isinstance(value, Invalid):
        raw = _message(value.value)
        _on_purpose.add(raw)
        return raw
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def check_job(raw, where):
    """Holds one message of a polling queue against the schema, and gives its JSON; None where it is wrong on purpose."""
    tap = Tap.current
    if raw in _on_purpose or tap is None:
        return None
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
        wrong = None if raw in _sound else validate("job", value)
    except (ValueError, AttributeError, RecursionError) as e:
        value, wrong = None, repr(e)
    tap.records += 1
    if wrong:
        tap.invalid.append("%s: %s: %r" % (where, wrong, raw and raw[:600]))
    else:
        _sound.add(raw)
    return value


_UUID5 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def check_headers(kind, value, h):
    """The Kafka headers that the contract promises, against the value."""
    wrong = []

    def same(name, want):
        if h.get(name) != want:
            wrong.append("header %s is %r, wanted %r" % (name, h.get(name), want))
    same("ce_specversion", "1.0")
    same("content-type", "application/json")
    if kind == "event":
        for name in ("event_id", "job_id", "org_id"):
            same(name, value[name])
        same("ce_id", value["event_id"])
        same("ce_type", "com.iis.poller.%s.v1" % value["event_type"])
    elif kind == "result":
        # null: the message did not tell, and there is no such header
        for name in ("job_id", "org_id"):
            same(name, value[name])
        same("ce_id", value["result_id"])
        same("ce_type", "com.iis.poller.%s.v1" % value["event_type"])
        same("ce_time", value["finished_at"])
    elif kind == "dead-letter":
        f = value["failure_info"]
        same("error_type", f["error_type"])
        same("retry_count", str(f["retry_count"]))
        same("failed_at", f["failed_at"])
        original = value["original_job"]
        for name, default in (("job_id", None), ("org_id", "default")):
            # of a message that was no job, what could be read of it; a name that was itself refused is not repeated;
            # one that killed the master is not read again
            told = h.get(name) if original is None else original.get(name, default)
            bad = f["error_type"] == "invalid_job"
            if not isinstance(told, str) and not bad and f["error_type"] != "master_crash":
                wrong.append("no header %s" % name)
            same(name, told if isinstance(told, str) and not (bad and f["error_message"].startswith("/%s:" % name)) else None)
        same("ce_type", "com.iis.poller.job.dead_lettered.v1")
        same("ce_time", f["failed_at"])
        # the same message has the same dead letter, whoever writes it
        m = value["metadata"]
        if _letter_ids.setdefault((m["original_topic"], m["original_partition"], m["original_offset"]), h.get("ce_id")) != h.get("ce_id"):
            wrong.append("header ce_id is %r, and was another for this message" % h.get("ce_id"))
    source = [h["org_id"]] if "org_id" in h else []
    if kind == "event":
        source.append(value["source_id"])
    if not re.match(r"^[!-~]+$", h.get("ce_source") or "") or urllib.parse.unquote(h["ce_source"]) != "/".join(["/iis-poller"] + source):
        wrong.append("header ce_source is %r" % h.get("ce_source"))
    if not _UUID5.match(h.get("ce_id") or ""):
        wrong.append("header ce_id is %r" % h.get("ce_id"))
    if not _TIME.match(h.get("ce_time") or ""):
        wrong.append("header ce_time is %r" % h.get("ce_time"))
    if not _TRACEPARENT.match(h.get("traceparent", "00-%032d-%016d-00" % (0, 0))):
        wrong.append("header traceparent is %r" % h.get("traceparent"))
    return "; ".join(wrong) or None


_letter_ids = {}


class Record:
    """One message of Kafka. json and headers are parsed; of ours, it has been held against its schema."""

    def __init__(self, m, kind):
        self.topic, self.partition, self.offset = m.topic(), m.partition(), m.offset()
        self.key = m.key()
        self.raw = m.value()
        self.header_list = [(k, (v or b"").decode("utf-8", "replace")) for k, v in m.headers() or []]
        self.headers = dict(self.header_list)
        self.json = None
        if kind == "job":
            self.json = check_job(self.raw, "%s[%d]@%d" % (self.topic, self.partition, self.offset))
            return
        tap = Tap.current
        tap.records += 1
        try:
            self.json = json.loads(self.raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
            wrong = validate(kind, self.json) or check_headers(kind, self.json, self.headers)
            if not wrong and kind != "event" and "job_id" in self.headers and self.key != self.headers["job_id"].encode():
                wrong = "key is %r" % self.key
        except (ValueError, KeyError) as e:
            wrong = repr(e)
        if len(self.headers) != len(self.header_list):
            wrong = (wrong or "") + "a header is there twice"
        if wrong:
            tap.invalid.append("%s[%d]@%d: %s: %r" % (self.topic, self.partition, self.offset, wrong, self.raw[:600]))

    def __getitem__(self, k):
        return self.json[k]


# ---- brokers ----------------------------------------------------------------------------------------------------------------------

class Lines:
    """A child's output, read by a thread, awaited by others. written: asks how many bytes it has written, where stream is no pipe of its own."""

    def __init__(self, stream, seen=None, written=None):
        self.cond = threading.Condition()
        self.lines = []
        self.taken = 0          # bytes
        self.written = written or self._written
        self.ended = False
        self.seen = seen
        self.stream = stream
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        fd, rest = self.stream.fileno(), b""
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        while not self.ended:
            ready.poll()
            with self.cond:     # who has it finds in the lines what is not in the pipe
                got = os.read(fd, 65536)
                self.taken += len(got)
                *whole, rest = (rest + got).split(b"\n")
                for line in whole if got or not rest else whole + [rest]:
                    line = line.rstrip(b"\r").decode(errors="replace")
                    self.lines.append(self.seen(line) if self.seen else line)
                self.ended = not got
                self.cond.notify_all()

    def _written(self):
        return self.taken + struct.unpack("i", fcntl.ioctl(self.stream.fileno(), termios.FIONREAD, b"\0" * 4))[0]

    def catch_up(self, timeout=10):
        """Until all that has been written by now is in the lines: the thread may be late on a busy machine."""
        end = deadline(timeout)
        with self.cond:
            want = self.written()
            while self.taken < want and not self.ended and time.monotonic() < end:
                self.cond.wait(end - time.monotonic())

    def wait(self, probe, timeout, what):
        """probe(lines) until it gives something true."""
        end = deadline(timeout)
        with self.cond:
            while True:
                got = probe(self.lines)
                if got:
                    return got
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    raise Timeout("%s: waited %g s for %s" % ("ended" if self.ended else "alive", timeout * SLOW, what))
                self.cond.wait(left)


class Broker:
    """What both kinds share: a child that prints READY host:port, and clients for it."""
    mock = False

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=clean_env({"HOME": os.environ.get("HOME", "/")}))
        _processes.append(self.process)
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)
        self.readies = 0
        self.pid = None
        self._producer = None
        self.job_topics = set()

    def wait_ready(self, timeout=120):
        want = self.readies + 1

        def probe(lines):
            r = [x for x in lines if x.startswith("READY ")]
            return r[want - 1] if len(r) >= want else None
        words = self.out.wait(probe, timeout, "READY of the broker").split()
        self.readies = want
        self.bootstrap = words[1]
        self.pid = int(words[2]) if len(words) > 2 else self.process.pid

    def producer(self):
        if self._producer is None:
            from confluent_kafka import Producer
            self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "acks": "all",
                                       "message.max.bytes": 20000000, "log_level": 0, "reconnect.backoff.max.ms": 500,
                                       "queue.buffering.max.messages": 1000000})
        return self._producer

    def push(self, topic, values, partition=None, key=None, headers=None, timeout=60):
        """Produces (bytes or JSON-able) values in order; gives back their (partition, offset) in that order."""
        p = self.producer()
        values = [_message(v) for v in values]
        if topic in self.job_topics:
            for v in values:
                check_job(v, "pushed to %s" % topic)
        done = [None] * len(values)

        def report(i):
            def cb(err, m):
                done[i] = (m.partition(), m.offset()) if err is None else RuntimeError(str(err))
            return cb
        for i, v in enumerate(values):
            extra = {}
            if partition is not None:
                extra["partition"] = partition(i) if callable(partition) else partition
            p.produce(topic, v, key=key(i) if callable(key) else key, headers=headers, on_delivery=report(i), **extra)
            p.poll(0)
        end = deadline(timeout)
        while any(x is None for x in done):
            p.poll(0.05)
            if time.monotonic() > end:
                raise Timeout("the test's own producer could not push to %s" % topic)
        for x in done:
            if isinstance(x, Exception):
                raise x
        return done

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)


class MockBroker(Broker):
    mock = True

    def __init__(self, tap, brokers=1):
        need(tap, "t/lib/mockbroker")
        super().__init__([program("t/lib/mockbroker"), str(brokers)])
        self.answers = 0
        self.wait_ready(20)

    def do(self, *words):
        line = " ".join(str(w) for w in words)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.answers += 1
        want = self.answers

        def probe(lines):
            r = [x for x in lines if x.startswith(("OK", "ERR"))]
            return r[want - 1] if len(r) >= want else None
        answer = self.out.wait(probe, 20, "the mock broker's answer to %s" % line)
        if not answer.startswith("OK"):
            raise RuntimeError("mock broker: %s: %s" % (line, answer))

    def topic(self, name, partitions, config=None):
        self.do("topic", name, partitions)


class RealBroker(Broker):
    """Apache Kafka. Skips the whole test, with the reason, where it cannot be had."""

    def __init__(self, tap, *properties):
        super().__init__([os.path.join(ROOT, "t/kafka/broker")] + list(properties))
        try:
            self.wait_ready(600)
        except Timeout:
            self.process.wait()
            why = " ".join(self.err.lines)[:300]
            if self.process.returncode == 69:
                tap.skip_all(why or "no Kafka here")
            tap.bail("the real broker did not start: %s" % why)
        self._admin = None

    def topic(self, name, partitions, config=None):
        from confluent_kafka.admin import AdminClient, NewTopic
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        wait_for("topic %s to be created" % name, lambda: self._create(NewTopic(name, partitions, 1, config=config or {})), 60)

    def _create(self, topic):
        """False: the client let go of the connection that the request was on, as it does of the first one; asked again."""
        from confluent_kafka import KafkaError, KafkaException
        (f,) = self._admin.create_topics([topic], operation_timeout=20).values()
        try:
            f.result(30)
        except KafkaException as e:
            if e.args[0].code() == KafkaError._DESTROY:
                return False
            # by the request that had no answer: the names of topics are each test's own
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        return True

    def signal(self, sig):
        os.kill(self.pid, sig)

    def kill(self):
        """SIGKILL; start() brings the node back on its ports with what it had stored."""
        self.signal(signal.SIGKILL)
        wait_for("the broker's end", lambda: not alive(self.pid))

    def start(self):
        self.process.stdin.write("start\n")
        self.process.stdin.flush()
        self.wait_ready(120)


class Reader:
    """Reads a topic from its beginning; what has been read stays in .records, in order of arrival."""

    def __init__(self, broker, topic, kind, isolation="read_uncommitted"):
        from confluent_kafka import Consumer
        self.topic, self.kind = topic, kind
        self.records = []
        self.c = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader-of-tests",
                           "enable.auto.commit": False, "fetch.wait.max.ms": 20, "log_level": 0,
                           "auto.offset.reset": "earliest", "reconnect.backoff.max.ms": 500,
                           "isolation.level": isolation, "fetch.error.backoff.ms": 50,
                           "topic.metadata.refresh.interval.ms": 1000})
        self.assigned = None

    def _assign(self):
        if self.assigned is None:
            from confluent_kafka import TopicPartition

            def partitions():
                t = self.c.list_topics(self.topic, timeout=10).topics.get(self.topic)
                return sorted(t.partitions) if t and t.error is None else None
            self.assigned = wait_for("topic %s" % self.topic, partitions)
            self.c.assign([TopicPartition(self.topic, p, 0) for p in self.assigned])

    def _poll(self, seconds):
        m = self.c.poll(seconds)
        if m is None:
            return False
        if m.error() is None:
            self.records.append(Record(m, self.kind))
            return True
        return False

    def read(self, n, timeout=30):
        """Until there are n records; then all that have come."""
        return self.until(lambda r: len(r) >= n, timeout, "%d records" % n)

    def until(self, probe, timeout=30, what="records"):
        self._assign()
        end = deadline(timeout)
        while not probe(self.records):
            if time.monotonic() > end:
                raise Timeout("waited %g s for %s in %s; %d came" % (timeout * SLOW, what, self.topic, len(self.records)))
            self._poll(0.05)
        return self.records

    def drain(self, timeout=30):
        """All that is in the topic now (up to the high watermarks)."""
        from confluent_kafka import TopicPartition
        self._assign()
        end = deadline(timeout)
        high = {p: self.c.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)[1] for p in self.assigned}
        at = {}
        for r in self.records:
            at[r.partition] = max(at.get(r.partition, 0), r.offset + 1)
        seen = len(self.records)
        while any(at.get(p, 0) < h for p, h in high.items()):
            if time.monotonic() > end:
                raise Timeout("%s was not read to its end: %r of %r" % (self.topic, at, high))
            self._poll(0.05)
            for r in self.records[seen:]:
                at[r.partition] = r.offset + 1
            seen = len(self.records)
        return self.records

    def close(self):
        self.c.close()


class World:
    """Topics and a group of their own on a broker, so that tests on one broker do not meet."""
    count = 0

    def __init__(self, broker, partitions=1, event_partitions=1, name=None, deferred_partitions=2, create=("jobs", "events", "results", "dlq", "deferred"),
                 config=None):
        World.count += 1
        self.broker = broker
        name = name or "w%d" % World.count
        self.topics = {k: "%s-%s" % (name, k) for k in list(_TOPIC_KIND) + ["deferred"]}
        self.group = name + "-group"
        broker.job_topics.add(self.topics["jobs"])
        self.n_partitions = {"jobs": partitions, "events": event_partitions, "results": 1, "dlq": 1, "deferred": deferred_partitions}
        self.readers = {}
        self.next_id = 0
        for k in create:
            self.create(k, (config or {}).get(k))

    def create(self, which, config=None):
        self.broker.topic(self.topics[which], self.n_partitions[which], config)

    def conf(self):
        """Settings for a daemon here. Session timeouts are short, so that a killed one is soon forgotten."""
        return {
            "kafka.bootstrap_servers": self.broker.bootstrap, "kafka.group_id": self.group,
            "kafka.session_timeout": "3s" if self.broker.mock else "6s",
            "kafka.properties": {"fetch.wait.max.ms": "20",
                                 "reconnect.backoff.max.ms": "500", "fetch.error.backoff.ms": "50",
                                 "topic.metadata.refresh.interval.ms": "2000"},
            "topics.polling_queue": self.topics["jobs"], "topics.file_events": self.topics["events"],
            "topics.results": self.topics["results"], "topics.dead_letters": self.topics["dlq"],
            "topics.deferred": self.topics["deferred"],
        }

    def push(self, *jobs, **kw):
        return self.broker.push(self.topics["jobs"], list(jobs), **kw)

    def reader(self, which, **kw):
        if which not in self.readers:
            self.readers[which] = Reader(self.broker, self.topics[which], _TOPIC_KIND[which], **kw)
        return self.readers[which]

    def results(self, n, timeout=30):
        return self.reader("results").read(n, timeout)

    def result_of(self, job_id, timeout=30):
        """The first terminal record of this job."""
        def mine(records):
            return [r for r in records if r.json and r["job_id"] == job_id]
        self.reader("results").until(mine, timeout, "the terminal record of %s" % job_id)
        return mine(self.reader("results").records)[0]

    def events_of(self, job_id):
        """All events of this job that are in Kafka now."""
        return [r for r in self.reader("events").drain() if r["job_id"] == job_id]

    def dead_letters_of(self, job_id):
        return [r for r in self.reader("dlq").drain() if r.headers.get("job_id") == job_id]

    def run(self, source, timeout=30, invalid=False, **fields):
        """Pushes one job and gives its terminal record, events and dead letters. invalid: on purpose it does not fit the schema."""
        self.next_id += 1
        j = job(fields.pop("job_id", "run-%d" % self.next_id), source, **fields)
        self.push(Invalid(j) if invalid else j)
        r = self.result_of(j["job_id"], timeout)
        return r, self.events_of(j["job_id"]), self.dead_letters_of(j["job_id"])

    def committed_metadata(self):
        """{partition: (offset, metadata)} as a real broker itself holds them, offset -1: none. An OffsetFetch request, version 1, by hand."""
        def text(s):
            return struct.pack(">h", len(s)) + s.encode()
        n = self.n_partitions["jobs"]
        body = struct.pack(">hhi", 9, 1, 7) + text("test") + text(self.group) + struct.pack(">i", 1) + text(self.topics["jobs"])
        body += struct.pack(">i", n) + b"".join(struct.pack(">i", p) for p in range(n))
        host, port = self.broker.bootstrap.split(":")
        with socket.create_connection((host, int(port)), 5) as s:
            s.settimeout(10)
            s.sendall(struct.pack(">i", len(body)) + body)
            a = s.recv(struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))[0], socket.MSG_WAITALL)
        at, got = 4 + 4 + 2 + len(self.topics["jobs"]) + 4, {}
        for _ in range(n):
            p, offset, length = struct.unpack_from(">iqh", a, at)
            at += 14
            metadata = a[at:at + max(length, 0)].decode()
            at += max(length, 0)
            error = struct.unpack_from(">h", a, at)[0]
            at += 2
            if error:
                raise RuntimeError("OffsetFetch of partition %d: error %d" % (p, error))
            got[p] = (offset, metadata)
        return got

    def committed(self):
        """{partition: offset} as the group committed it."""
        from confluent_kafka import Consumer, TopicPartition
        c = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": self.group, "log_level": 0,
                      "enable.auto.commit": False})
        try:
            got = c.committed([TopicPartition(self.topics["jobs"], p) for p in range(self.n_partitions["jobs"])], timeout=15)
            return {t.partition: t.offset for t in got}
        finally:
            c.close()


def job(job_id, source=None, **fields):
    j = {"job_id": job_id}
    if source is not None:
        j["connection_list" if isinstance(source, list) else "source_config"] = source
    j.update(fields)
    return j


def generated(files, **fields):
    """source_config of a dummy that generates this many files"""
    return dict({"source_type": "dummy", "files": files}, **fields)


def rfc3339(seconds_from_now):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds_from_now)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (t.microsecond // 1000)


# ---- the daemon ----------------------------------------------------------------------------------------------------------------------

def yaml_text(conf):
    """{"section.key": value} as YAML; scalars and lists are written as JSON, which is YAML too."""
    sections = {}
    for k, v in conf.items():
        s, _, key = k.partition(".")
        sections.setdefault(s, []).append((key, v))
    out = []
    for s, keys in sections.items():
        out.append("%s:\n" % s)
        for key, v in keys:
            if isinstance(v, dict):
                out.append("  %s:\n" % key)
                out += ["    %s: %s\n" % (json.dumps(a), json.dumps(b)) for a, b in v.items()]
            elif isinstance(v, list) and v:
                out.append("  %s:\n" % key)
                out += ["    - %s\n" % json.dumps(a) for a in v]
            else:
                out.append("  %s: %s\n" % (key, json.dumps(v)))
    return "".join(out)


def parse_metrics(text):
    """{(name, (("label", "value"), ...)): number} of the text format 0.0.4"""
    got = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        m = re.match(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$", line)
        if not m:
            raise ValueError("not a sample: %r" % line)
        labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m.group(2) or "")))
        got[(m.group(1), labels)] = float(m.group(3))
    return got


def _metric_names():
    """Every name that a sample of the page can have, from the list that the daemon is made of."""
    with open(os.path.join(ROOT, "master/metrics.def")) as f:
        rows = re.findall(r'^METRIC\(\w+, "(\w+)", (\w+),', f.read(), re.M)
    return {n + s for n, kind in rows for s in (("_bucket", "_sum", "_count") if kind == "HISTOGRAM" else ("",))}


METRICS = _metric_names()


class Daemon:
    all = []

    def __init__(self, world, conf=None, args=(), env=None, ready=True, start=True, name=None, keep=None, wrap=(), pipe=1 << 20):
        """keep: a former Daemon whose folder (state, socket path) this one goes on with. wrap: goes before its command line.
        pipe: bytes of the pipe for its log."""
        self.pipe = pipe
        self.wrap = list(wrap)
        self.world = world
        self.dir = keep.dir if keep else folder()
        self.name = name or "daemon %d" % (len(Daemon.all) + 1)
        self.socket = os.path.join(self.dir, "control.sock")
        self.conf = {
            "workers.count": 2, "state.dir": os.path.join(self.dir, "state"), "control.socket": self.socket,
            "http.listen": "127.0.0.1:0", "dummy.data_path": os.path.join(ROOT, "dummy_data"),
            "dummy.allow_faults": True, "log.level": "info", "log.rate": 0, "retry.delay": "50ms",
            "timeouts.start": "%ds" % int(10 * SLOW),
        }
        if os.environ.get("TEST_EGRESS"):
            self.conf["egress.mode"] = os.environ["TEST_EGRESS"]
        if world is not None:
            self.conf.update(world.conf())
        self.conf.update(conf or {})
        os.makedirs(self.conf["state.dir"], exist_ok=True)
        self.file = os.path.join(self.dir, "iis-poller.yaml")
        self.write_conf()
        self.args, self.env = list(args), env
        self.raw, self.bad_lines = [], []
        listen = self.conf["http.listen"]
        self.url = None if listen.endswith(":0") else "http://" + listen
        self.process = None
        Daemon.all.append(self)
        if start:
            self.start(ready)

    def write_conf(self, **changed):
        self.conf.update({k.replace("__", "."): v for k, v in changed.items()})
        with open(self.file + ".new", "w") as f:
            f.write(yaml_text(self.conf))
        os.chmod(self.file + ".new", 0o600)
        os.rename(self.file + ".new", self.file)

    def _line(self, line):
        self.raw.append(line)
        try:
            got = json.loads(line)
            if isinstance(got, dict) and "event" in got:
                return got
        except ValueError:
            pass
        self.bad_lines.append(line)
        return {"event": None, "raw": line}

    def start(self, ready=True, timeout=40):
        wrap = self.wrap + shlex.split(os.environ.get("TEST_WRAP", ""))
        self.began = time.monotonic()
        self.process = subprocess.Popen(wrap + [program("iis-pollerd"), "-c", self.file] + self.args, cwd=self.dir,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=clean_env(self.env), text=True, errors="replace")
        _processes.append(self.process)
        # A full pipe loses lines, by design of the log; on a busy machine the reader here may be late by many.
        fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, self.pipe)
        self.pid = self.process.pid
        self.log = Lines(self.process.stderr, self._line)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=40):
        self.wait_log("ready", timeout=timeout)

    @staticmethod
    def _matches(line, event, fields):
        return line.get("event") == event and all(line.get(k) == v for k, v in fields.items())

    def logged(self, event, since=0, **fields):
        """What the daemon had logged of it before this call."""
        self.log.catch_up()
        with self.log.cond:
            return [x for x in self.log.lines[since:] if self._matches(x, event, fields)]

    def mark(self):
        """A place in the log, for since="""
        self.log.catch_up()
        with self.log.cond:
            return len(self.log.lines)

    def wait_log(self, event, timeout=30, since=0, count=1, **fields):
        """The count-th line of this event with these fields after the mark `since`."""
        def probe(lines):
            got = [x for x in lines[since:] if self._matches(x, event, fields)]
            return got[count - 1] if len(got) >= count else None
        return self.log.wait(probe, timeout, "log %s %r of %s" % (event, fields, self.name))

    def workers(self):
        """Pids of the workers that are up, by slot, as the log tells."""
        up = {}
        self.log.catch_up()
        with self.log.cond:
            for x in self.log.lines:
                if x.get("event") == "worker_ready":
                    up[x["slot"]] = x["pid"]
                elif x.get("event") == "worker_died" and up.get(x["slot"]) == x["pid"]:
                    del up[x["slot"]]
        return up

    def http(self, path, timeout=10):
        """(status, body as text)"""
        if self.url is None:
            self.url = self.wait_log("http_ready")["url"].rstrip("/")
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout * SLOW) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def wait_not_ready(self, words="", timeout=40):
        """Until /readyz says 503 for a reason that holds these words; gives the reason."""
        def probe():
            try:
                status, body = self.http("/readyz")
            except OSError:
                return None
            return body if status == 503 and words in body and "starting" not in body else None
        return wait_for("/readyz to say 503 %s" % words, probe, timeout, every=0.1).strip()

    def metrics(self):
        status, body = self.http("/metrics")
        if status != 200:
            raise RuntimeError("/metrics answered %d" % status)
        return parse_metrics(body)

    def metric(self, name, metrics=None, **labels):
        """Sum over the samples of this name that carry these labels. A name that no metric has is a mistake of the test."""
        if name not in METRICS:
            raise KeyError("metrics.def has no %s" % name)
        want = set(labels.items())
        return sum(v for (n, l), v in (metrics or self.metrics()).items() if n == name and want <= set(l))

    def wait_metric(self, name, value, timeout=10, **labels):
        """The page is rendered once a second: asks until the sum is this value, and gives the last one seen."""
        got = [None]

        def probe():
            got[0] = self.metric(name, **labels)
            return got[0] == value
        try:
            wait_for(name, probe, timeout, every=0.1)
        except Timeout:
            pass
        return got[0]

    def ctl(self, *args, json_out=True, stdin=None, timeout=30):
        """(exit code, stdout parsed if JSON was asked for and came, stderr)"""
        argv = [program("iis-pollerctl"), "-c", self.file] + (["--json"] if json_out else []) + [str(a) for a in args]
        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=stdin, text=True,
                           timeout=timeout * SLOW, env=clean_env(), cwd=self.dir,
                           **({} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        out = p.stdout
        if json_out and out.strip():
            try:
                out = json.loads(out)
            except ValueError:
                try:
                    out = [json.loads(x) for x in out.splitlines()]
                except ValueError:
                    pass
        return p.returncode, out, p.stderr

    def memory(self, pid=None):
        """Resident bytes"""
        with open("/proc/%d/status" % (pid or self.pid)) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, sig):
        self.process.send_signal(sig)

    def wait_exit(self, timeout=30):
        code = self.process.wait(timeout * SLOW)
        self.log.thread.join(5 * SLOW)
        return code

    def stop(self, timeout=45):
        """SIGTERM, the drain, its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout)


def without_override():
    """Words to put before a command so that file modes count for it; for root that is without CAP_DAC_OVERRIDE. None: not here."""
    if os.geteuid():
        return []
    drop = "-dac_override,-dac_read_search,-fowner"
    wrap = ["setpriv", "--inh-caps", drop, "--bounding-set", drop]
    d = folder()
    os.mkdir(os.path.join(d, "closed"), 0)
    try:
        code, _, err = run(*wrap, "ls", os.path.join(d, "closed"))
    except OSError:
        return None
    return wrap if code and "Permission denied" in err else None


def conservation(daemon, metrics=None):
    """(left, right) of DESIGN.md's rule 1, which are equal when nothing is lost or counted twice"""
    m = metrics or daemon.metrics()
    ended = daemon.metric("poller_jobs_total", m)
    return (daemon.metric("poller_jobs_accepted_total", m),
            ended + daemon.metric("poller_jobs_deferred_total", m) + daemon.metric("poller_jobs_revoked_total", m) + daemon.metric("poller_active_jobs", m))


def run(*argv, stdin=None, env=None, timeout=60, cwd=None):
    """(exit code, stdout, stderr) of a command"""
    p = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
                       errors="replace", input=stdin, timeout=timeout * SLOW, env=env or clean_env(),
                       **({} if stdin is not None else {"stdin": subprocess.DEVNULL}))
    return p.returncode, p.stdout, p.stderr


def free_port(given=set()):
    """None twice: who takes several has not listened yet on the first when the next is looked for."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in given:
            given.add(port)
            return port


def closed_port(held=[]):
    """One that refuses, to the end of the test: bound, so that no server is given it, and nobody listens there."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    held.append(s)
    return s.getsockname()[1]
