"""The embedded broker's jars: fetched once by jgo into a cache, checked against the lock's SHA-256 before every use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parent.parent / "kafka"
LOCK = ENVIRONMENT / "jgo.lock.toml"


class JarError(RuntimeError):
    """The jars are missing or are not the ones that were locked."""


def locked() -> dict[str, str]:
    """Jar file name -> SHA-256."""
    return {
        f"{jar['artifactId']}-{jar['version']}.jar": jar["sha256"]
        for jar in tomllib.loads(LOCK.read_text())["dependencies"]
    }


def version() -> str:
    """Of Apache Kafka."""
    jars = tomllib.loads(LOCK.read_text())["dependencies"]
    return str(next(jar["version"] for jar in jars if jar["artifactId"] == "kafka-clients"))


def folder() -> Path:
    """Where the jars are kept: one folder per lock, so that two versions of Maskwatch do not disturb each other."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "maskwatch" / f"kafka-{hashlib.sha256(repr(sorted(locked().items())).encode()).hexdigest()[:12]}"


def faults(where: Path) -> list[str]:
    """What is wrong with the jars in a folder; empty = every locked jar is there, byte for byte, and nothing else."""
    wanted, found = locked(), {path.name: path for path in where.glob("*.jar")}
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} is not in the lock" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        with found[name].open("rb") as jar:
            came = hashlib.file_digest(jar, "sha256").hexdigest()
        if came != wanted[name]:
            wrong.append(f"{name}: expected SHA-256 {wanted[name]}, got {came}")
    return wrong


def fetch() -> Path:
    """The folder of checked jars; whatever is missing or changed is resolved anew."""
    home = folder()
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes may want them at the same moment
        if not faults(home):
            return home
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            _resolve(Path(scratch))
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            for jar in Path(scratch, ".jgo").rglob("*.jar"):
                jar.replace(fresh / jar.name)
            if wrong := faults(fresh):
                raise JarError(
                    f"the jars that came are not those of {LOCK.name}: {'; '.join(wrong[:3])}. "
                    "If a download was cut short, remove org/apache/kafka from the Maven cache (~/.m2/repository)."
                )
            shutil.rmtree(home, ignore_errors=True)
            fresh.replace(home)
    return home


def _resolve(scratch: Path) -> None:
    shutil.copy(ENVIRONMENT / "jgo.toml", scratch)
    # Pure-Python resolution needs no Maven; classpath only, as Kafka is not modular. jgo's own settings file and
    # M2_REPO are honoured: that is where a site names its mirror.
    command = [sys.executable, "-m", "jgo", "--resolver", "python", "--class-path-only", "--links", "copy", "sync"]
    run = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=600)
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines()[-5:]
        raise JarError(
            "jgo could not fetch the broker's jars (is `maskwatch[embedded]` installed, is the Maven repository "
            f"reachable?): {' / '.join(said)}"
        )


def lock() -> None:
    """Resolve anew and write the lock; a change of version is a change of ENVIRONMENT/jgo.toml."""
    with tempfile.TemporaryDirectory() as scratch:
        _resolve(Path(scratch))
        shutil.copy(Path(scratch, ".jgo", LOCK.name), LOCK)


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        lock()
    fetch()
