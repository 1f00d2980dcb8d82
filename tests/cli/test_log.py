"""A log line is read by whoever runs the machine, and shipped elsewhere: no secret of a failed call is in it."""

from __future__ import annotations

import subprocess
import sys

# Of both formats, by structlog and by a library's own logger: a traceback with a secret in a local variable.
FAILS = """
import logging, structlog
from cli import log
from pipeline.settings import Settings

def reach(url):
    password = url.split(":")[-1]
    raise OSError("camera does not answer")

for shape in ("json", "console"):
    log.configure(Settings(log_format=shape), process="test")
    try:
        reach("rtsp://admin:" + "-".join(("hush", "hush")))
    except OSError as error:
        structlog.get_logger().error("by us", exc_info=error)
        logging.getLogger("library").exception("by a library")
"""


def test_no_value_of_a_local_variable_is_logged() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True)
    assert done.stderr.count("camera does not answer") == 4
    assert done.stderr.count("by a library") == 2
    assert done.stderr.count("reach") >= 4  # where it failed is told
    assert "hush-hush" not in done.stderr
