"""A worker as `maskwatch worker` runs it, with a stopwatch around each step: `python -m bench.worker TELL [stage …]`.

Twice a second it appends to TELL, as a line of JSON, the time, the processor time of the process so far, and calls and
seconds of each step so far. MASKWATCH_* are read as usual; BENCH_CORE pins it to a core.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from bench.stopwatch import Stopwatch

EVERY = 0.5  # seconds


def tell(file: Path, watch: Stopwatch) -> None:
    with file.open("a") as out:
        while True:
            line = {"at": time.time(), "cpu": time.process_time(), "steps": watch.read()}
            out.write(json.dumps(line) + "\n")
            out.flush()
            time.sleep(EVERY)


def main() -> None:
    file, stages = Path(sys.argv[1]), sys.argv[2:]
    if core := os.environ.get("BENCH_CORE"):
        os.sched_setaffinity(0, {int(core)})
    from bench import stopwatch
    from cli.worker import worker
    from pipeline.settings import Settings

    watch = stopwatch.install(Settings())
    threading.Thread(target=tell, args=(file, watch), daemon=True).start()
    worker(stages)


if __name__ == "__main__":
    main()
