#!/usr/bin/python3
"""Attempts to get out of the sandbox of a network worker: each is refused or killed, and touches nobody."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from escapes import escapes  # noqa: E402
from poller import Tap  # noqa: E402

with Tap() as tap:
    escapes(tap, ("network",), kill=("network",), unprivileged=("network",))
