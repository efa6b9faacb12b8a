#!/usr/bin/python3
"""Each fault that the poller must bear has its test: t/data/faults names it, and what it names is there."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from poller import ROOT, Tap  # noqa: E402

LIST = "t/data/faults"
EXPECTED = ["%s%d" % (kind, i) for kind, last in (("K", 14), ("S", 21), ("P", 20)) for i in range(1, last + 1)]
UNTESTED = []           # none may join them
SHORTEST = 10           # of a text: less could stand anywhere


def read(text):
    """[(number, what, [(file, text)])] of the list, and the lines that are no row."""
    rows, wrong = [], []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        number, *rest = [x.strip() for x in line.split(" | ")]
        if len(rest) < 3 or len(rest) % 2 == 0 or not all(rest) or not re.fullmatch(r"[A-Z]\d+", number):
            wrong.append(line)
            continue
        rows.append((number, rest[0], list(zip(rest[1::2], rest[2::2]))))
    return rows, wrong


def missing(path, text):
    """Why this is no test of ours; None if it is one."""
    if not re.fullmatch(r"t/[\w-]+\.t|t/unit/\w+\.c|t/lib/\w+\.py", path) or path == "t/00-faults.t":
        return "%s is no test" % path
    if len(text) < SHORTEST:
        return "%s: \"%s\" could stand anywhere" % (path, text)
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            return None if text in f.read() else "%s has no \"%s\"" % (path, text)
    except OSError as e:
        return "%s: %s" % (path, e.strerror)


def main(t):
    for path, text, bad in (("t/00-layers.t", "includes point one way only", False), ("t/00-layers.t", "includes point every way", True), ("t/00-layers.t", "def main", True),
                            ("t/00-none.t", "includes point one way only", True), ("README.md", "# iis-poller", True), ("t/00-faults.t", "includes point every way", True)):
        t.is_(missing(path, text) is not None, bad, "the check itself: %s, %s" % (path, text))
    for line, bad in (("S4 | endless | t/23-s3.t | a ring of tokens", False), ("S4 | endless | t/23-s3.t", True), ("S4 | | t/23-s3.t | a ring of tokens", True),
                      ("4 | endless | t/23-s3.t | a ring of tokens", True), ("S4 | endless | t/23-s3.t | a ring of tokens | t/23-s3.t", True)):
        t.is_(bool(read(line)[1]), bad, "the check itself: %s" % line)

    with open(os.path.join(ROOT, LIST), encoding="utf-8") as f:
        rows, wrong = read(f.read())
    t.ok(not wrong, "each line of %s is a row" % LIST, "\n".join(wrong))
    t.is_([number for number, _, _ in rows], EXPECTED, "each of the %d faults once, in order" % len(EXPECTED))
    t.is_([number for number, _, tests in rows if tests[0][0] == "-"], UNTESTED, "each has a test")
    for number, what, tests in rows:
        if number not in UNTESTED:
            why = [x for x in (missing(*y) for y in tests) if x]
            t.ok(not why, "%s: %s" % (number, what), "\n".join(why))


with Tap() as tap:
    main(tap)
