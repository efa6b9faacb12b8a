#!/usr/bin/python3
"""t/29-endpoint-cap.t once more, where the connector makes the connections (egress.mode: broker): it is the master that grants them."""
import os
import runpy

os.environ["TEST_EGRESS"] = "broker"
runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "29-endpoint-cap.t"), run_name="__main__")
