#!/usr/bin/python3
"""t/28-tls-proxy.t once more, where the connector makes the connections (egress.mode: broker): all that it asks holds there, too."""
import os
import runpy

os.environ["TEST_EGRESS"] = "broker"
runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "28-tls-proxy.t"), run_name="__main__")
