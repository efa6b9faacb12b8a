#!/usr/bin/python3
"""The manuals: clean, complete, and true where they show the program. What must be in them is read off the lists."""
import glob
import json
import os
import re
import shlex
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import BUILD, ROOT, Tap, folder, need, program, run, validate  # noqa: E402

PAGES = ("iis-pollerd.8", "iis-pollerctl.8", "iis-poller-worker.8", "iis-poller-http.8", "iis-poller.yaml.5", "iis-poller-job.5", "iis-poller.7")
SECTIONS = {"8": ("EXIT STATUS", "EXAMPLES", "FILES"), "5": ("EXAMPLES", "FILES"), "7": ()}


def rows(path, pattern):
    with open(os.path.join(ROOT, path)) as f:
        return re.findall(pattern, f.read(), re.M)


def plain(page):
    """A page as a reader sees it, its line breaks removed."""
    code, out, err = run("mandoc", "-T", "ascii", "-O", "width=1000", page)
    return re.sub(r".\x08", "", out)


def word(w, text):
    return re.search(r"(?<![\w.-])%s(?![\w-])" % re.escape(w), text) is not None


def main(t):
    need(t, "iis-pollerd", "iis-pollerctl")
    text = {}
    for p in PAGES:
        path = os.path.join(BUILD, "man", p)
        if not t.ok(os.path.exists(path), "%s is built" % p):
            continue
        code, out, err = run("mandoc", "-T", "lint", "-W", "style", path)
        # What other manuals the machine has is told of it, not of the page.
        bad = [x for x in (out + err).splitlines() if not re.search("referenced manual not found|outdated mandoc.db", x) and "STYLE: Mdocdate" not in x]
        t.ok(not bad, "mandoc -T lint %s" % p, *bad[:10])
        text[p] = plain(path)
        missing = [s for s in SECTIONS[p[-1]] if not re.search(r"^%s$" % s, text[p], re.M)]
        t.ok(not missing, "%s has %s" % (p, ", ".join(SECTIONS[p[-1]]) or "its text"), missing)
        t.ok(not re.search(r"^\s*@\w+@$", text[p], re.M), "%s has no marker left" % p)

    settings = rows("common/config.def", r'^CONF_\w+\s*\(\w+, "([\w.]+)"')
    t.ok(len(settings) > 60, "%d settings" % len(settings))
    yaml5 = text.get("iis-poller.yaml.5", "")
    t.ok(not [s for s in settings if not word(s, yaml5) and not word(s.split(".", 1)[1], yaml5)], "each setting is in iis-poller.yaml(5)", [s for s in settings if not word(s, yaml5)])
    t.ok(not [x for x in rows("common/config.def", r'^OLDENV\(\w+, "(\w+)"') if x not in yaml5], "each old environment name, too")
    with open(os.path.join(ROOT, "conf/iis-poller.yaml")) as f:
        shipped = f.read()
    t.ok(not [s for s in settings if not re.search(r"^\s*#?\s*%s:" % re.escape(s.split(".", 1)[1]), shipped, re.M)], "each setting is in conf/iis-poller.yaml",
         [s for s in settings if not re.search(r"^\s*#?\s*%s:" % re.escape(s.split(".", 1)[1]), shipped, re.M)])

    for line in rows("common/tables.def", r'^TABLE\(\w+, ("\w+", \w+), "'):
        table, struct = re.findall(r"\w+", line)
        keys = rows("common/%s.def" % struct.replace("_conf", ""), r'^CONF_\w+\s*\(\w+, "(\w+)"')
        t.ok(len(keys) > 3 and not [k for k in keys if "%s.name.%s" % (table, k) not in yaml5], "each of %d settings of an entry of %s is in iis-poller.yaml(5)" % (len(keys), table), [k for k in keys if "%s.name.%s" % (table, k) not in yaml5])
        t.ok(re.search(r"^%s:$" % table, shipped, re.M) and not [k for k in keys if not re.search(r"^    #%s:" % k, shipped, re.M)], "and in conf/iis-poller.yaml")

    iis7 = text.get("iis-poller.7", "")
    metrics = rows("master/metrics.def", r'^METRIC\(\w+, "(\w+)"')
    t.ok(len(metrics) > 30 and not [m for m in metrics if not word(m, iis7)], "each of %d metrics is in iis-poller(7)" % len(metrics), [m for m in metrics if not word(m, iis7)])
    errors = rows("common/errors.def", r'^ERR\(\w+, "(\w+)"')[1:]
    t.ok(len(errors) > 20 and not [e for e in errors if not word(e, iis7)], "each of %d error classes is in iis-poller(7)" % len(errors), [e for e in errors if not word(e, iis7)])

    job5 = text.get("iis-poller-job.5", "")
    sources = rows("common/sources.def", r'^SOURCE\(\w+, "(\w+)"')
    fields = rows("common/sources.def", r'^FIELD\(\w+, \w+, "(\w+)", "([\w ]*)"')
    attrs = rows("common/sources.def", r'^ATTR\(\w+, \w+, "(\w+)"')
    names = sources + [f for f, _ in fields] + [a for _, al in fields for a in al.split()] + attrs
    t.ok(len(names) > 60 and not [n for n in names if not word(n, job5)], "each of %d source types, fields, aliases and attributes is in iis-poller-job(5)" % len(names), [n for n in names if not word(n, job5)])
    jobdef = os.path.join(ROOT, "common/job.def")
    if os.path.exists(jobdef):
        names = re.findall(r'^\w+\(\w+, "(\w+)"', open(jobdef).read(), re.M)
        t.ok(len(names) > 10 and not [n for n in names if not word(n, job5)], "each of %d fields of a job and its filters, too" % len(names), [n for n in names if not word(n, job5)])
    for schema, minimum in (("job", 10), ("event", 20), ("result", 15), ("dead", 4)):
        found = glob.glob(os.path.join(ROOT, "conf/schemas", schema + "*.json"))
        if not t.ok(len(found) == 1, "there is a schema of %s" % schema, found):
            continue
        with open(found[0]) as f:
            keys = list(json.load(f)["properties"])
        t.ok(len(keys) >= minimum and not [k for k in keys if not word(k, job5)], "each member of %s is in iis-poller-job(5)" % schema, [k for k in keys if not word(k, job5)])

    # The examples in the page are records as they are.
    shown = []
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", open(os.path.join(BUILD, "man/iis-poller-job.5")).read(), re.M | re.S):
        body = re.sub(r"\\&|\\\(dq|\\e", lambda m: {"\\&": "", "\\(dq": '"', "\\e": "\\"}[m.group()], block)
        if body.lstrip().startswith("{"):
            try:
                shown.append(json.loads(body, strict=False))  # long strings are folded in the page
            except ValueError as e:
                t.ok(False, "an example of iis-poller-job(5) is JSON", e, body[:300])
    kinds = {"job": lambda v: "source_config" in v, "event": lambda v: v.get("event_type") == "file.discovered",
             "result": lambda v: str(v.get("event_type")).startswith("job."), "dead-letter": lambda v: "failure_info" in v}
    for kind, test in kinds.items():
        mine = [v for v in shown if test(v)]
        t.ok(mine and not [validate(kind, v) for v in mine if validate(kind, v)], "the example of %s fits its schema" % kind, [validate(kind, v) for v in mine])

    # A section a source, each with an example that the daemon's own code takes.
    with open(os.path.join(BUILD, "man/iis-poller-job.5")) as f:
        page = f.read()
    conf = os.path.join(folder(), "page.yaml")
    with open(conf, "w") as f:
        f.write("local: { allowed_roots: [/srv/incoming] }\n")
    types = {}
    for v in shown:
        if "source_config" in v and "failure_info" not in v:
            kind = v["source_config"]["source_type"]
            code, out, err = run(program("iis-pollerctl"), "-c", conf, "push", "--dry-run", "-", stdin=json.dumps(v))
            t.ok(code == 0 and not err and json.loads(out) == v, "the example of type %s passes push --dry-run, without a warning" % kind, out, err)
            types.setdefault({"ftps": "ftp", "https": "http", "webdav": "http"}.get(kind, kind), v)
    t.same_set(set(re.findall(r"^\.Ss Source type (\w+)", page, re.M)), set(sources), "iis-poller-job(5) has a section for each source type")
    t.ok(set(types) == set(sources), "and an example of each", set(sources) - set(types))

    ctl8 = text.get("iis-pollerctl.8", "")
    code, out, err = run(program("iis-pollerctl"), "--help")
    verbs = rows("master/ctl/verbs.def", r'^VERB\(\w+, "([\w ]+)"')
    t.ok(code == 0 and len(verbs) >= 16 and not [v for v in verbs if v.split()[0] not in out], "iis-pollerctl --help names each verb", out)
    for v in verbs:
        t.ok(re.search(r"\b" + r"\s+".join(v.split()) + r"\b", ctl8), "iis-pollerctl(8) tells of %s" % v)
        code, out, err = run(program("iis-pollerctl"), *v.split(), "--help")
        options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", out))
        t.ok(code == 0 and out and not [o for o in options if o not in ctl8], "%s --help, and its options are in the page" % v, [o for o in options if o not in ctl8], out[:300], err)
    code, out, err = run(program("iis-pollerd"), "--help")
    d8 = text.get("iis-pollerd.8", "")
    for o in set(re.findall(r"(?<![\w-])(--?[A-Za-z][a-z-]*)", out)):
        t.ok(o in d8 or o in ("--help", "-h"), "iis-pollerd(8) tells of %s" % o)
    for s in ("HUP", "TERM", "USR1", "INT"):
        t.ok(s in d8, "iis-pollerd(8) tells of SIG%s" % s)

    with open(os.path.join(ROOT, "README.md")) as f:
        readme = f.read()
    t.ok("make demo" in readme and "make check" in readme and "iis-pollerd --demo" in readme and "event_id" in readme, "the README has the commands and says what a poll promises")
    dead = [x for x in re.findall(r"\]\(([^)#:]+)\)", readme) if not os.path.exists(os.path.join(ROOT, x))]
    t.ok(not dead, "its links lead somewhere", dead)
    jobs = re.findall(r'\{ "job_id".*?"metadata": \{\} \}', readme, re.S)
    t.ok(jobs and validate("job", json.loads(jobs[0])) is None, "the README's job is a job")
    pushes = re.findall(r"^iis-pollerctl (push .*)$", readme, re.M)
    for line in pushes:
        argv = [x.replace("SHA256:...", "SHA256:" + "A" * 43) for x in shlex.split(line)]
        code, out, err = run(program("iis-pollerctl"), "-c", conf, *argv, "--dry-run")
        t.ok(code == 0 and not err and validate("job", json.loads(out)) is None, "the README's command passes: %s" % line, out, err)
    told = re.findall(r"^iis-pollerctl (\w+)", readme, re.M)
    t.ok(len(pushes) >= 2 and len(told) > len(pushes) and not [v for v in told if v not in {x.split()[0] for x in verbs}], "its other verbs are there", told)
    d = folder()
    yaml = re.findall(r"```ya?ml\n(.*?)```", readme, re.S)
    if t.ok(yaml, "the README shows a configuration"):
        path = os.path.join(d, "readme.yaml")
        with open(path, "w") as f:
            f.write(re.sub(r"/\S+/password\S*", path, yaml[0]))
        os.chmod(path, 0o600)
        code, out, err = run(program("iis-pollerd"), "-t", "-c", path)
        t.ok(code == 0 and yaml[0].count("\n") <= 14, "in ten lines that pass -t", err)


with Tap() as tap:
    main(tap)
