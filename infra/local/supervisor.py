"""The processes of one machine: started in order, watched, restarted when they fall over, stopped in reverse order."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import logging.handlers
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from infra.local import postgres, process
from infra.local.kafka import Kafka
from infra.local.postgres import Postgres

PATIENCE = 12.0  # seconds a process gets to stop by itself
FIRST_WAIT = 1.0  # seconds until a fallen process is started again; doubled at each fall,
LONGEST_WAIT = 30.0  # up to this,
STEADY = 60.0  # and back to the first after so many seconds without a fall


class Refused(RuntimeError):
    """The processes cannot be started, and why."""


class Told(BaseException):
    """SIGINT or SIGTERM came; not an Exception, so that no step takes it for its own fault."""


class Child:
    """One supervised process and the tail of what it said."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: dict[str, str] | None) -> None:
        self.name, self.command, self.env = name, command, env
        self.process: subprocess.Popen[bytes] | None = None
        self.tail: deque[str] = deque(maxlen=12)
        self.falls = 0
        self.up_since = 0.0
        self.start_at = 0.0  # when to start it again, monotonic
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = logging.handlers.RotatingFileHandler(log, maxBytes=10 << 20, backupCount=2, delay=True)
        self._log.setFormatter(logging.Formatter("%(message)s"))

    def start(self) -> None:
        read, write = os.pipe()
        try:
            self.process = process.spawn(self.command, write, env=self.env)
        finally:
            os.close(write)
        self.up_since = time.monotonic()
        threading.Thread(target=self._keep, args=(read,), name=f"log-{self.name}", daemon=True).start()

    def _keep(self, read: int) -> None:
        with open(read, errors="replace") as lines:
            for line in lines:
                self.tail.append(line.rstrip())
                self._log.handle(logging.LogRecord(self.name, logging.INFO, "", 0, line.rstrip(), None, None))

    @property
    def wait(self) -> float:
        return float(min(FIRST_WAIT * 2 ** max(self.falls - 1, 0), LONGEST_WAIT))


class Supervisor:
    """`with Supervisor(data, say) as all:` start a broker and children in it, then `all.watch()`."""

    def __init__(self, data: Path, say: Callable[[str], None]) -> None:
        self.data, self.say = data.resolve(), say
        self.pid_file = self.data / "up.json"
        self.children: list[Child] = []
        self.broker: Kafka | None = None
        self.database: Postgres | None = None
        self.facts: dict[str, Any] = {}
        self._told = 0
        self._may_raise = True

    def __enter__(self) -> Supervisor:
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.data / "up.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = process.recall(self.pid_file)
            who = f"pid {found[0].pid}" if found else "another process"
            raise Refused(f"`maskwatch up` already runs on {self.data} ({who}); `maskwatch down` stops it") from None
        clear_away(self.data)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks for that
            signal.signal(signal.SIGHUP, self._on_signal)
        self.write(state="starting")
        return self

    def _on_signal(self, _sign: int, _frame: FrameType | None) -> None:
        self._told += 1
        if self._may_raise:
            self._may_raise = False
            raise Told

    def write(self, **facts: Any) -> None:
        """Tell `status`, `down` and a detached start how far we are."""
        self.facts |= facts
        started = {}
        for child in self.children:
            if child.process and child.process.poll() is None:
                started[child.name] = _identity(child.process.pid)
        process.remember(self.pid_file, os.getpid(), children=started, **self.facts)

    def start_broker(self, broker: Kafka) -> None:
        self.broker = broker
        broker.start()
        broker.ready()

    def start_database(self, database: Postgres) -> None:
        self.database = database
        database.start()
        database.ready()

    def start(self, name: str, command: Sequence[str], env: dict[str, str] | None = None) -> Child:
        child = Child(name, command, self.data / "logs" / f"{name}.log", env)
        self.children.append(child)
        child.start()
        self.write()
        return child

    def watch(self) -> None:
        """Until told to stop (returns) or the broker is gone (raises). Fallen children are started again."""
        while True:
            now = time.monotonic()
            if self.broker and self.broker.process and self.broker.process.poll() is not None:
                raise Refused(
                    f"the embedded broker ended with code {self.broker.process.returncode}: "
                    f"{self.broker.complaint()}. Everything is stopped; its log is {self.broker.log}"
                )
            if self.database and self.database.process and self.database.process.poll() is not None:
                self.say(f"the embedded database ended with code {self.database.process.returncode}: "
                         f"{self.database.complaint()}. It starts again")
                self.start_database(self.database)
            for child in self.children:
                self._mind(child, now)
            time.sleep(0.2)

    def _mind(self, child: Child, now: float) -> None:
        if child.process is None:
            if now >= child.start_at:
                child.start()
                self.write()
        elif (code := child.process.poll()) is not None:
            if now - child.up_since > STEADY:
                child.falls = 0
            child.falls += 1
            child.process, child.start_at = None, now + child.wait
            self.write()
            how = f"killed by signal {-code}" if code < 0 else f"code {code}"
            self.say(f"{child.name} ended ({how}); it starts again in {child.wait:.0f} s. It said last:")
            for line in child.tail:
                self.say(f"  {line}")

    def __exit__(self, *_: object) -> None:
        """Children first, all at once, then what they stand on. A second signal hurries."""
        self._may_raise = False
        self._told = 0
        self.write(state="stopping")
        running = [child.process for child in reversed(self.children) if child.process and child.process.poll() is None]
        for each in running:
            with contextlib.suppress(ProcessLookupError):
                each.send_signal(signal.SIGCONT)
                each.terminate()
        until = time.monotonic() + PATIENCE
        while [each for each in running if each.poll() is None]:
            if time.monotonic() > until or self._told:
                break
            time.sleep(0.05)
        for each in running:
            if each.poll() is None:
                self.say(f"pid {each.pid} did not stop within {PATIENCE:.0f} s and is killed")
                each.kill()
                each.wait()
        if self.database:
            self.database.stop()
        if self.broker:
            self.broker.stop()
        self.pid_file.unlink(missing_ok=True)
        self._lock.close()


def _identity(pid: int) -> list[float]:
    import psutil

    try:
        return [pid, psutil.Process(pid).create_time()]
    except psutil.NoSuchProcess:
        return [pid, 0.0]


def clear_away(data: Path) -> list[str]:
    """Stop what a supervisor that was killed has left behind; -> the names. Only for who holds the lock, or `down`."""
    import json

    import psutil

    left = []
    try:
        entry = json.loads((data / "up.json").read_text())
    except (OSError, ValueError):
        entry = {}
    for name, (pid, started) in entry.get("children", {}).items():
        try:
            orphan = psutil.Process(int(pid))
            if abs(orphan.create_time() - started) < 2 and orphan.status() != psutil.STATUS_ZOMBIE:
                process.stop(orphan, PATIENCE)
                left.append(name)
        except psutil.NoSuchProcess:
            continue
    database = process.recall(data / "postgres" / "server.json")
    if database:
        postgres.stop(database[0].pid)
        left.append("postgres")
    broker = process.recall(data / "kafka" / "broker.json")
    if broker:
        process.stop(broker[0], 20)
        left.append("kafka")
    (data / "up.json").unlink(missing_ok=True)
    return left


def stop_running(data: Path, timeout: float = PATIENCE + 25) -> tuple[int | None, list[str]]:
    """Stop the `maskwatch up` of a data folder; -> its pid if one ran, and the names of what a killed one had left."""
    found = process.recall(data / "up.json")
    if found:
        process.stop(found[0], timeout)
    return (found[0].pid if found else None), clear_away(data)
