#!/usr/bin/python3
"""200 and more bad messages, each class with unlike cases: each gets a dead letter and job.failed, at once, and the next job goes on."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import Daemon, MockBroker, Tap, World, conservation, generated, invalid, need  # noqa: E402

OK = {"job_id": "bad", "source_config": {"source_type": "dummy", "files": 1}}


def j(**f):
    return json.dumps(dict(OK, **f)).encode()


def s(**f):
    return json.dumps(dict(OK, source_config=dict(OK["source_config"], **f))).encode()


def raw(text):
    """A whole job with this text as the value of metadata"""
    return b'{"job_id":"bad","source_config":{"source_type":"dummy","files":1},"metadata":{"x":' + (text if isinstance(text, bytes) else text.encode()) + b"}}"


def without(*keys):
    return json.dumps({k: v for k, v in OK.items() if k not in keys}).encode()


def corpus():
    """[(what, bytes, classes that are right)]"""
    inv = {"invalid_job"}
    c = []

    def add(what, values, classes=inv):
        for i, v in enumerate(values):
            c.append(("%s %d" % (what, i), v, classes))
    # not JSON as RFC 8259 says it
    add("empty", [b"", b" ", b"\n\t", b"\xef\xbb\xbf" + json.dumps(OK).encode(), b"\0"])
    add("truncated", [json.dumps(OK).encode()[:n] for n in (1, 5, 20, 40, -1)])
    add("trailing text", [json.dumps(OK).encode() + x for x in (b"x", b"{}", b",", b"\0", b" //")])
    add("duplicate key", [b'{"job_id":"a","job_id":"a","source_config":{"source_type":"dummy"}}', raw('{"a":1,"a":1}'), raw('{"a":1,"\\u0061":2}'),
                          b'{"job_id":"bad","source_config":{"source_type":"dummy","files":1,"files":1}}'])
    add("NaN and infinities", [raw(x) for x in ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")])
    add("comments", [raw("1/*c*/"), raw("1//c\n"), raw("#c\n1"), b"/**/" + json.dumps(OK).encode()])
    add("quotes", [raw("'x'"), b"{'job_id':'bad'}", raw("\u201cx\u201d"), b"{job_id:1}", raw("`x`")])
    add("commas", [raw("[1,]"), raw("[,1]"), raw("[1 2]"), raw('{"a":1,}'), b'{"job_id":"bad",}', raw('{,}'), raw('{"a" 1}'), raw('{"a":}')])
    add("literals", [raw(x) for x in ("True", "nul", "undefined", "tru", "FALSE", "nulll")])
    add("bad UTF-8", [raw(b'"\xff"'), raw(b'"\xc3"'), raw(b'"\xe2\x82"'), raw(b'"\x80"'), raw(b'"\xf5\x80\x80\x80"'), raw(b'"\xf4\x90\x80\x80"')])
    add("overlong UTF-8", [raw(b'"\xc0\xaf"'), raw(b'"\xe0\x80\xaf"'), raw(b'"\xf0\x80\x80\xaf"'), raw(b'"\xc1\xbf"')])
    add("surrogates", [raw(b'"\xed\xa0\x80"'), raw('"\\ud800"'), raw('"\\udc00"'), raw('"\\ud800\\u0041"'), raw('"\\ud800x"'), raw('"\\udfff\\ud800"')])
    add("control bytes", [raw(b'"a\nb"'), raw(b'"\x01"'), raw(b'"\x1f"'), raw(b'"\t"'), raw(b'\x0c1'), raw(b'\x0b1')])
    add("escapes", [raw(x) for x in ('"\\x41"', '"\\u12"', '"\\u00g0"', '"\\\'"', '"\\"', '"\\0"', '"\\U00000041"', '"\\a"')])
    add("numbers", [raw(x) for x in ("01", "-01", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", "--1", "-", "00", "1.e5", "-.5", "1.2.3")])
    add("numbers that do not fit", [raw(x) for x in ("1e999", "-1e999", "9" * 400, "123456789012345678901234567890")])
    add("depth", [raw("[" * n + "]" * n) for n in (40, 100, 10000)] + [raw("[" * 100000), raw('{"a":' * 40 + "1" + "}" * 40)])
    add("not an object", [b"[]", b"1", b'"job"', b"null", b"true", b"[" + json.dumps(OK).encode() + b"]"])
    # a field is missing, of the wrong type, or out of its range
    add("missing", [without("job_id"), without("source_config"), b"{}", j(source_config={}), j(source_config={"path": "/x"})])
    bad_types = {"job_id": [1, None, [], {}, True, "", "x" * 256, "a b\u0001", " ", "a\nb"], "org_id": [1, [], "", "x" * 300, {}],
                 "file_pattern": [1, {}, [1], True, [], ["*", None]], "priority": ["urgent", 1, "", [], "HIGH!"],
                 "timeout": ["soon", -1, [], "5 parsecs", 0, "100d", {}, True], "scheduled_at": ["tomorrow", 5.5, "2024-13-01T00:00:00Z", "2024-01-01", [], "2024-02-30T00:00:00Z"],
                 "created_at": ["x", {}, "2024-01-01T25:00:00Z"], "publish": ["now", 1, "ATOMIC?", {}], "metadata": [1, "x", [], True, {"x": "y" * 17000}],
                 "source_config": [1, "dummy", [], [{}], True], "connection_list": [1, {}, [], "x", [1]], "filters": [1, [], "x", True]}
    for k, vs in bad_types.items():
        add(k, [(json.dumps({"job_id": "bad", k: v}) if k == "connection_list" else j(**{k: v}).decode()).encode() for v in vs], inv | {"policy", "limit"})
    add("both kinds of source", [j(connection_list=[OK["source_config"]])])
    add("too many sources", [json.dumps({"job_id": "bad", "connection_list": [OK["source_config"]] * 65}).encode()], inv | {"limit"})
    bad_filters = {"include": [1, [1], {}], "exclude": [{}, [None], 5], "min_size": ["big", -1, [], "1XB"], "max_size": [True, "-5B", {}], "min_age": ["old", -1, []],
                   "max_age": [{}, "1 fortnight", -5], "modified_after": ["x", 1.5, []], "modified_before": [True, "yesterday", {}], "max_files": [-1, "x", 1.5],
                   "ignore_case": [1, "yes", []], "include_hidden": [0, "perhaps", {}], "exclude_dirs": [1, [1], {}], "in_progress_suffixes": [1, [2], {}], "extensions": [1, [2], {}, [""], ["."], ["a/b"], "csv"], "done_file": [1, [], "a/b"],
                   "exclude_if_present": [1, [], "", "a/b", ".", ".."], "types": [1, {}, [1], [], "", "folder", ["file", "socket"], ["FILE"]],
                   "stability": [1, [], "x", None, {"checks": 0}, {"checks": 101}, {"checks": "many"}, {"interval": "0.5s"}, {"interval": "2h"}, {"checks": 100, "interval": "1h"}]}
    for k, vs in bad_filters.items():
        add("filters." + k, [j(filters={k: v}) for v in vs])
    add("patterns", [j(file_pattern=p) for p in ("[a", "{a,b", "a\\", "x" * 70000)], inv | {"limit"})
    bad_fields = {"files": [-1, "x", 1.5, 10**10], "recursive": ["yes", 1, []], "max_depth": [-1, 1001, "deep"], "follow_symlinks": ["always", 1, []],
                  "on_unreadable": ["cry", 1, {}], "retries": [-1, 101, "x"], "retry_delay": ["1ms", "2m", []], "retry_backoff": [0.5, 11, "x"], "size": [-1, "x", []],
                  "mtime": ["x", [], True], "seed": [-1, "x", 1e300], "depth": [-1, 101, "x"], "fanout": [0, -1, "x"], "delay": ["25h", -1, {}], "rate": [-1, "x", []],
                  "name_template": [1, "a/b\u0000", "x" * 300], "path": [1, [], "x\u0000y"], "crash": ["maybe", 1, {}]}
    for k, vs in bad_fields.items():
        add("source_config." + k, [s(**{k: v}) for v in vs], inv | {"policy"})
    add("unknown source", [s(source_type=x) for x in ("gopher", "", "DUMMY ", "dummy\u0000")] + [j(source_config={"source_type": 1})], inv | {"unknown_source"})
    add("later", [s(source_type="sftp", host="h", use_agent=True), s(source_type="s3", bucket="b", include_tags=True),
                  s(source_type="ftp", host="h", account="a"), s(source_type="s3", bucket="b", directory_bucket=True)], {"unsupported"})
    add("message too long", [j(metadata={"x": "y" * (1 << 20)}), b"x" * (1 << 20) + b"y", b'{"job_id":"' + b"z" * 1100000 + b'"}'])
    return c


def main(t):
    need(t, "iis-pollerd", "iis-poller-worker")
    w = World(MockBroker(t), partitions=2)
    d = Daemon(w)
    c = corpus()
    at = w.push(*[invalid(v) for _, v, _ in c], dict(OK, job_id="after"))
    began = time.monotonic()
    w.reader("results").read(len(c) + 1, 60)
    t.diag("%d messages in %.2f s" % (len(c), time.monotonic() - began))
    results = {(r["origin"]["partition"], r["origin"]["offset"]): r for r in w.reader("results").drain()}
    letters = {(r["metadata"]["original_partition"], r["metadata"]["original_offset"]): r for r in w.reader("dlq").drain()}
    t.ok(len(c) >= 200, "%d bad messages" % len(c))
    for (what, value, classes), where in zip(c, at):
        r, dl = results.get(where), letters.get(where)
        wrong = []
        if not r or r["event_type"] != "job.failed" or r["error"]["class"] not in classes or not r["error"]["message"]:
            wrong.append("terminal record: %r" % (r and r.raw))
        if not dl or dl["failure_info"]["error_type"] not in classes or dl["failure_info"]["retry_count"] != 0 or dl["metadata"]["original_topic"] != w.topics["jobs"]:
            wrong.append("dead letter: %r" % (dl and dl.raw))
        t.ok(not wrong, "%s: %s" % (what, r["error"]["message"][:90] if r and r["error"] else None), repr(value[:200]), *wrong)
    r = results.get(at[-1])
    t.ok(r and r["event_type"] == "job.completed", "the job after them is served")
    t.is_((len(results), len(letters)), (len(c) + 1, len(c)), "nothing beside them")
    left, right = conservation(d)
    t.is_(d.wait_metric("poller_jobs_total", len(c), status="failed"), len(c), "all counted as failed")
    t.is_(d.metric("poller_dlq_messages_total"), len(c), "all counted as dead letters")
    t.ok(left == right, "conservation")
    t.is_(d.stop(), 0, "a graceful stop: exit 0")
    w2 = World(w.broker)
    d = Daemon(w2, {"jobs.unknown_fields": "reject"})
    for f in ("no_such", "jobId", "Priority"):
        r, _, dl = w2.run(generated(1), **{f: 1})
        t.ok(r["error"] and r["error"]["class"] == "invalid_job" and f in r["error"]["message"], "unknown_fields: reject: %s is named" % f, r.raw)
    echo = {"team": "blue", "n": [1, {"deep": "é/x"}]}
    for what, source in (("forbidden path", {"source_type": "local", "path": "/etc"}), ("later field", {"source_type": "s3", "bucket": "b", "include_tags": True}),
                         ("bad field", {"source_type": "dummy", "path": "./dummy_data", "recursive": "perhaps"})):
        r, _, dl = w2.run(source, invalid=what != "forbidden path", metadata=echo)
        t.is_((r["metadata"], r["org_id"], len(dl)), (echo, "default", 1), "%s: refused, its metadata and tenant are echoed" % what)
    t.is_(d.stop(), 0, "exit 0")


with Tap() as tap:
    main(tap)
