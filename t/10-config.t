#!/usr/bin/python3
"""The configuration as a person meets it: -t, -T, error texts, origins, environment names, reload by SIGHUP."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import (ROOT, Daemon, MockBroker, Tap, World, clean_env, closed_port, folder, generated, need, program, run,  # noqa: E402
                    without_override, yaml_text)

D = None


def check(text, *args, env=None, name="iis-poller.yaml"):
    """iis-pollerd -t on this text: (code, stdout, stderr, path)"""
    path = os.path.join(D, name)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    code, out, err = run(program("iis-pollerd"), "-t", "-c", path, *args, env=clean_env(env), cwd=D)
    return code, out, err, path


# what: (file, wanted place "line:column", words of the message)
BAD = {
    "unknown key": [("kafka:\n  grup_id: x\n", "2:3", ["grup_id", "group_id"]), ("workers:\n  cuont: 3\n", "2:3", ["cuont", "count"]), ("retry:\n  dely: 1s\n", "2:3", ["dely", "delay"])],
    "unknown section": [("kafkaa:\n  group_id: x\n", "1:1", ["kafkaa", "kafka"]), ("worker:\n  count: 1\n", "1:1", ["worker", "workers"]), ("zzzzzzzz: 1\n", "1:1", ["zzzzzzzz"])],
    "wrong type": [("workers:\n  count: many\n", "2:10", ["workers.count"]), ("http:\n  enabled: perhaps\n", "2:12", ["http.enabled"]), ("workers: 8\n", "1:", ["workers"]), ("workers:\n  count: [1]\n", "2:10", ["workers.count"]),
                   ("local:\n  allowed_roots:\n    a: b\n", "", ["allowed_roots"])],
    "range": [("workers:\n  count: 0\n", "2:10", ["workers.count", "1"]), ("timeouts:\n  job: 5ms\n", "2:8", ["timeouts.job", "5ms"]), ("retry:\n  backoff: 99\n", "2:12", ["retry.backoff"]), ("workers:\n  count: 99999999999999999999\n", "2:10", ["workers.count"])],
    "unit": [("timeouts:\n  job: 5 parsecs\n", "2:8", ["timeouts.job"]), ("spool:\n  max_size: 4GX\n", "2:13", ["spool.max_size"]), ("retry:\n  delay: 1.5.s\n", "2:10", ["retry.delay"])],
    "word": [("log:\n  level: loud\n", "2:10", ["log.level", "info"]), ("topics:\n  event_key: file\n", "2:14", ["event_key", "file_url"]), ("jobs:\n  unknown_fields: no\n", "2:19", ["warn", "reject"])],
    "duplicate key": [("workers:\n  count: 1\n  count: 2\n", "3:3", ["count"]), ("log:\n  level: info\nhttp:\n  enabled: true\nlog:\n  rate: 1\n", "5:1", ["log"]), ("kafka:\n  properties:\n    linger.ms: 1\n    linger.ms: 2\n", "4:5", ["linger.ms"])],
    "tab": [("workers:\n\tcount: 1\n", "2:", []), ("\tworkers: 1\n", "1:", []), ("workers:\n  \tcount: 1\n", "2:", [])],
    "alias": [("workers:\n  count: *x\n", "2:10", ["alias"]), ("a: *a\n", "1:4", ["alias"]), ("log: {level: *b}\n", "1:", ["alias"])],
    "anchor": [("workers: &x\n  count: 1\n", "1:", ["anchor"]), ("log:\n  level: &y info\n", "2:", ["anchor"]), ("local:\n  allowed_roots: &z [/tmp]\n", "2:", ["anchor"])],
    "tag": [("workers:\n  count: !!int 1\n", "2:", ["tag"]), ("log:\n  level: !x info\n", "2:", ["tag"]), ("workers: !!map {count: 1}\n", "1:", ["tag"])],
    "depth": [("a: " + "[" * 100 + "]" * 100 + "\n", "1:", []), ("kafka:\n  properties:\n    x:\n      y: 1\n", "", []), ("a: " + "{a: " * 5000 + "\n", "1:", [])],
    "bad UTF-8": [(b"log:\n  file: \xff\n", "", []), (b"log:\n  file: \"\xc0\xaf\"\n", "", []), (b"\xed\xa0\x80: 1\n", "", [])],
    "other encoding": [("log:\n  level: info\n".encode("utf-16"), "", []), ("log: x\n".encode("utf-16-be"), "", []), (b"\x00log: x\n", "", [])],
    "syntax": [("workers: [1, 2\n", "", []), ("a: 'x\n", "", []), ("a: b: c\n", "1:", []), ("---\na: 1\n---\nb: 2\n", "", []), ("- a\n- b\n", "1:", []), ("just text\n", "1:", [])],
    "conflict": [("retry:\n  delay: 50s\n  max_delay: 10s\n", "", ["retry.delay", "retry.max_delay"]), ("timeouts:\n  job: 2h\n  job_max: 1h\n", "", ["timeouts.job", "timeouts.job_max"]),
                 ("kafka:\n  session_timeout: 10m\n  max_poll_interval: 1m\n", "", ["session_timeout", "max_poll_interval"])],
    "forbidden Kafka property": [("kafka:\n  properties:\n    %s: %s\n" % kv, "3:", [kv[0]]) for kv in
                                 (("enable.auto.commit", '"true"'), ("acks", '"0"'), ("enable.idempotence", '"false"'), ("auto.offset.reset", "latest"), ("group.id", "x"), ("plugin.library.paths", "x"), ("no.such.property", "1"))],
}


def bad_files(t):
    for what, rows in BAD.items():
        for i, (text, place, words) in enumerate(rows):
            code, out, err, path = check(text)
            lines = err.splitlines()
            wrong = []
            if code != 78:
                wrong.append("exit %d" % code)
            if not any(x.startswith(path + ":" + place) or (not place and path in x) for x in lines):
                wrong.append("no place %s" % place)
            wrong += ["no word %s" % x for x in words if x not in err]
            if place.count(":") and not place.endswith(":") and not any(re.match(r"^[\s|]*\^", x) for x in lines):
                wrong.append("no caret")
            if not all(c == "\n" or 32 <= ord(c) != 127 for c in err.replace("\t", " ")):
                wrong.append("control bytes")
            t.ok(not wrong, "%s %d: %s" % (what, i, lines[0][len(path):][:80] if lines else ""), *(wrong + [err]))


def carets(t):
    code, out, err, path = check("workers:\n  count: 3\n  cuont: 4\n")
    lines = err.splitlines()
    at = [i for i, x in enumerate(lines) if re.match(r"^\s*\^", x)]
    t.ok(at and lines[at[0]].index("^") == lines[at[0] - 1].index("cuont"), "the caret stands below the word", err)
    t.ok('did you mean "count"' in err, "did you mean", err)
    code, out, err, path = check("workers:\n  count: 0\n  cuont: 4\nlog:\n  level: loud\nretry:\n  delay: 5 parsecs\nnothing: 1\n")
    t.is_((code, [x for x in (2, 3, 5, 7, 8) if "%s:%d:" % (path, x) in err]), (78, [2, 3, 5, 7, 8]), "all errors in one run")
    code, out, err, path = check("".join("zz%d: 1\n" % i for i in range(50)))
    t.ok(code == 78 and err.count(path + ":") == 20 and "30" in err, "at most 20 are shown, the rest counted", err[-300:])
    code, out, err, path = check("kafka:\n  properties:\n    sasl.pasword: hunter2\n")
    t.ok(code == 78 and "hunter2" not in err + out, "a line that may hold a secret is not shown", err)


def files(t):
    code, out, err = run(program("iis-pollerd"), "-t", "-c", D + "/none.yaml")
    t.ok(code == 78 and "none.yaml" in err, "a file that is not there", code, err)
    code, out, err = run(program("iis-pollerd"), "-t", "-c", D)
    t.ok(code == 78 and D in err, "a folder", code, err)
    wrap = without_override()
    path = D + "/closed.yaml"
    with open(path, "w") as f:
        f.write("log:\n  level: info\n")
    os.chmod(path, 0)
    if t.ok(wrap is not None, "root's right to read everything can be dropped"):
        code, out, err = run(*wrap, program("iis-pollerd"), "-t", "-c", path)
        t.ok(code == 78 and path in err, "a file that may not be read", code, err)
    secret = D + "/password"
    with open(secret, "w") as f:
        f.write("hunter2\n")
    text = "kafka:\n  password_file: %s\n  properties:\n    security.protocol: SASL_PLAINTEXT\n    sasl.mechanism: PLAIN\n    sasl.username: me\n" % secret
    for mode, want in ((0o644, 78), (0o660 | 0o004, 78), (0o600, 0), (0o400, 0)):
        os.chmod(secret, mode)
        code, out, err, _ = check(text)
        t.ok(code == want and "hunter2" not in out + err and (code == 0 or secret in err), "a password file of mode %o: exit %d" % (mode, want), code, err)
    code, out, err, _ = check(text.replace(secret, D + "/nowhere"))
    t.ok(code == 78 and "nowhere" in err, "a password file that is not there", code, err)
    code, out, err, _ = check(b"\xef\xbb\xbflog:\n  level: info\n")
    t.ok(code == 78 and ":1:1:" in err and "byte order mark" in err and "without BOM" in err, "a byte order mark is refused, and named: 78", code, err)
    code, out, err, _ = check("")
    t.is_(code, 0, "an empty file is a good one")
    code, out, err = run(program("iis-pollerd"), "-t", "-c", ROOT + "/conf/iis-poller.yaml")
    t.ok(code == 0 and out and not err, "the shipped file is good", code, err)


def command_line(t):
    for args, code in ((["-t", "-T"], 64), (["-t", "x"], 64), (["-o"], 64), (["--online"], 64), (["-t", "-o", "workers.count=0"], 78), (["-t", "-o", "workers.cuont=1"], 78), (["-t", "-o", "nonsense"], 78),
                       (["-t", "-o", "workers.count=3"], 0)):
        got, out, err = run(program("iis-pollerd"), *args, cwd=D)
        t.ok(got == code and (got == 0 or err), "%s: exit %d" % (" ".join(args), code), got, err)


def effective(t):
    path = D + "/e.yaml"
    with open(path, "w") as f:
        f.write(yaml_text({"workers.count": 3, "timeouts.job": "90s", "kafka.group_id": "from-file", "kafka.properties": {"sasl.password": "hunter2", "linger.ms": "7"}, "topics.polling_queue": "file-topic"}))
    os.chmod(path, 0o600)  # it holds a secret
    env = clean_env({"KAFKA_GROUP_ID": "from-env", "IIS_POLLER_TIMEOUTS_DRAIN": "11s", "LOG_LEVEL": "DEBUG", "IIS_POLLER_WORKERS_COUNT": "5"})
    code, out, err = run(program("iis-pollerd"), "-T", "-c", path, "-o", "workers.count=6", env=env)
    t.ok(code == 0, "-T", err)
    line = lambda key: next((x for x in out.splitlines() if re.match(r"\s+%s:" % re.escape(key), x)), "")  # noqa: E731
    t.ok("6" in line("count") and "command line" in line("count"), "the command line wins, and is named", line("count"))
    t.ok("from-env" in line("group_id") and "KAFKA_GROUP_ID" in line("group_id"), "then the environment", line("group_id"))
    t.ok("11s" in line("drain") and "IIS_POLLER_TIMEOUTS_DRAIN" in line("drain"), "each setting has its name there", line("drain"))
    t.ok("file-topic" in line("polling_queue") and path in line("polling_queue"), "then the file, with the line", line("polling_queue"))
    t.ok("poller-worker" in line("client_id") and "default" in line("client_id"), "then the default", line("client_id"))
    t.ok("hunter2" not in out and "***" in out, "secrets are masked", out)
    again = D + "/again.yaml"
    with open(again, "w") as f:
        f.write(re.sub(r"(?m)^.*sasl\.password.*\n", "", out))
    code, two, err = run(program("iis-pollerd"), "-T", "-c", again)
    strip = lambda s: [re.sub(r"\s*#.*", "", x) for x in s.splitlines() if "sasl.password" not in x and re.sub(r"\s*#.*", "", x).strip()]  # noqa: E731
    t.ok(code == 0 and strip(two) == strip(out), "what -T prints is a configuration that gives the same", err, two[:300])
    for name, key in (("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"), ("KAFKA_CLIENT_ID", "client_id"), ("POLLING_QUEUE_TOPIC", "polling_queue"), ("FILE_EVENT_QUEUE_TOPIC", "file_events"),
                      ("DUMMY_DATA_PATH", "data_path"), ("LOG_FORMAT", "format")):
        value = "console" if key == "format" else "value-of-it"
        code, out, err = run(program("iis-pollerd"), "-T", "-c", path, env=clean_env({name: value}))
        t.ok(value in line(key), "the old name %s" % name, line(key), err)
    code, out, err = run(program("iis-pollerd"), "-t", "-c", path, env=clean_env({"IIS_POLLER_WORKERS_COUNT": "many"}))
    t.ok(code == 78 and "IIS_POLLER_WORKERS_COUNT" in err, "a bad value of the environment is named", err)
    code, out, err = run(program("iis-pollerd"), "-t", "-c", path, env=clean_env({"IIS_POLLER_WORKERS_CUONT": "3"}))
    t.ok(code == 78 and "IIS_POLLER_WORKERS_CUONT" in err and "ok" not in out, "an unknown IIS_POLLER_ name is refused and told: 78", code, err, out)


def online(t, b):
    w = World(b)
    path = D + "/online.yaml"
    conf = dict(w.conf())
    with open(path, "w") as f:
        f.write(yaml_text(conf))
    code, out, err = run(program("iis-pollerd"), "-t", "--online", "-c", path)
    t.is_((code, bool(out)), (0, True), "-t --online: brokers and topics answer")
    b.do("topic_error", "no-such-topic", "3")  # the embedded broker makes any topic it is asked about
    code, out, err = run(program("iis-pollerd"), "-t", "--online", "-c", path, "-o", "topics.results=no-such-topic")
    t.ok(code == 69 and "no-such-topic" in err, "a missing topic is named: exit 69", code, err)
    code, out, err = run(program("iis-pollerd"), "-t", "--online", "-c", path, "-o", "kafka.bootstrap_servers=127.0.0.1:%d" % closed_port(), timeout=30)
    t.ok(code == 69 and "127.0.0.1" in err, "no broker there: exit 69, named", code, err)


def reloads(t, b):
    w = World(b)
    d = Daemon(w, {"retry.max_attempts": 0})
    r, _, _ = w.run(generated(1, error="transient"))
    t.is_(r["attempt"], 1, "retry.max_attempts 0")
    since = d.mark()
    d.write_conf(retry__max_attempts=2, retry__delay="10ms")
    d.signal(signal.SIGHUP)
    g = d.wait_log("config_reloaded", since=since)
    r, _, _ = w.run(generated(1, error="transient"))
    t.is_(r["attempt"], 3, "after SIGHUP: 2")
    t.is_(d.wait_metric("poller_config_last_reload_successful", 1), 1, "last_reload_successful 1")
    with open(d.file) as f:
        good = f.read()
    for bad in ("retry:\n  max_attempts: -5\n", "nonsense", good + "zzz: 1\n"):
        since = d.mark()
        with open(d.file, "w") as f:
            f.write(bad)
        d.signal(signal.SIGHUP)
        x = d.wait_log("config_reload_failed", since=since)
        t.ok(d.file in x["error"], "a bad file is refused, the place named: %s" % x["error"][-60:])
        r, _, _ = w.run(generated(1, error="transient"))
        t.is_(r["attempt"], 3, "the old configuration stays in force")
    t.is_(d.wait_metric("poller_config_last_reload_successful", 0), 0, "last_reload_successful 0")
    since = d.mark()
    d.write_conf(workers__count=3)
    d.signal(signal.SIGHUP)
    x = d.wait_log("config_restart_needed", since=since)
    t.ok("workers.count" in x["settings"], "a setting that needs a restart is named")
    t.ok(d.wait_log("config_reloaded", since=since)["generation"] > g["generation"], "the rest is taken")
    t.is_(d.stop(), 0, "exit 0")


def logs(t, b):
    w = World(b)
    base = folder()
    path = os.path.join(base, "poller.log")
    d = Daemon(w, {"log.file": path}, ready=False)
    w.run(generated(1))
    os.rename(path, path + ".1")
    r, _, _ = w.run(generated(1), job_id="before-usr1")
    t.ok(not os.path.exists(path) and "before-usr1" in open(path + ".1").read(), "a renamed log is written on")
    d.signal(signal.SIGUSR1)
    w.run(generated(1), job_id="after-usr1")
    t.ok("after-usr1" in open(path).read() and "after-usr1" not in open(path + ".1").read(), "SIGUSR1: the new file")
    t.is_(d.stop(), 0, "exit 0")
    d = Daemon(World(b), {"log.format": "console"}, ready=False)
    d.log.wait(lambda ls: any("ready" in (x.get("raw") or "") and "worker_ready" not in x["raw"] and "http_ready" not in x["raw"] and "control_ready" not in x["raw"] for x in ls), 30, "ready on the console")
    text = list(d.bad_lines)
    d.bad_lines.clear()
    t.ok(text and not any(x.startswith("{") for x in text), "log.format console is for people", text[:2])
    code = d.stop()
    d.bad_lines.clear()
    t.is_(code, 0, "exit 0")


def main(t):
    global D
    need(t, "iis-pollerd", "iis-poller-worker")
    D = folder()
    for part in (bad_files, carets, files, command_line, effective):
        t.part(part)
    b = MockBroker(t)
    for part in (online, reloads, logs):
        t.part(part, b)


with Tap() as tap:
    main(tap)
