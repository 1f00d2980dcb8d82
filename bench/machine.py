"""What a figure was measured on: processor, cores, memory, versions, and how busy the machine was."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = (
    "numpy", "opencv-python-headless", "av", "ai-edge-litert", "tensorflow-cpu", "faust-streaming", "aiokafka",
    "kafka-python", "msgspec",
)  # fmt: skip


def about() -> dict[str, object]:
    """Facts for the head of a report."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_start": [round(load, 1) for load in os.getloadavg()],
        "versions": versions(),
    }


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    with suppress(Exception):  # a figure without the broker's version is still a figure
        from infra.local import jars

        found["kafka"] = jars.version()
    return found


def core(number: int) -> int:
    """The core that process `number` of a measurement is pinned to."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)]
