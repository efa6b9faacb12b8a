#!/usr/bin/python3
"""The flow of t/30-flow.t, and what of t/50-kafka.t needs no broker that errs to order, on Apache Kafka. Skipped where it cannot be had."""
import os
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from poller import RealBroker, Tap  # noqa: E402


def steps(name):
    """What another test defines; its own run is not begun."""
    return runpy.run_path(os.path.join(HERE, name), run_name="steps")


def main(t):
    b = steps("30-flow.t")["flow"](t, RealBroker)
    for part in steps("50-kafka.t")["EVERYWHERE"]:
        t.part(part, b)


with Tap() as tap:
    main(tap)
