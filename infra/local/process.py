"""Child processes: none outlives us by accident, each is known again by pid and start time, all stop when told."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def _die_with(parent: int) -> Callable[[], None]:
    def tie() -> None:
        if hasattr(_libc, "prctl"):
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the tie was made
            os._exit(1)

    return tie


def spawn(
    command: Sequence[str | os.PathLike[str]],
    output: IO[bytes] | int | None,
    *,
    detach: bool = False,
    env: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C reaches us alone and we choose the order of stopping.

    Unless `detach`, the kernel sends the child SIGTERM when the thread that called this ends, however it ends:
    call it from a thread that lives as long as the child should. `output` None: our own terminal.
    """
    return subprocess.Popen(
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=None if detach else _die_with(os.getpid()),  # two system calls, no locks taken
        env=env,
    )


def stop(process: subprocess.Popen[bytes] | psutil.Process, timeout: float) -> bool:
    """SIGTERM, then SIGKILL after `timeout` seconds. True when it went by itself."""
    try:
        process.send_signal(signal.SIGCONT)  # a stopped process would not see the next one
        process.terminate()
        process.wait(timeout)
        return True
    except (psutil.NoSuchProcess, ProcessLookupError):
        return True
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            process.kill()
            process.wait(10)
        return False


def remember(file: Path, pid: int, **more: Any) -> None:
    """Write who runs: pid and start time together name one process, even after the pid is given out again."""
    entry = {"pid": pid, "started": psutil.Process(pid).create_time(), **more}
    new = file.with_suffix(".new")
    new.write_text(json.dumps(entry))
    new.replace(file)


def recall(file: Path) -> tuple[psutil.Process, dict[str, Any]] | None:
    """The process that `remember` wrote down, when that very process still runs."""
    try:
        entry = json.loads(file.read_text())
        process = psutil.Process(int(entry["pid"]))
        # the start time is derived from the boot time, which moves a little when the clock is set
        if abs(process.create_time() - float(entry["started"])) < 2 and process.status() != psutil.STATUS_ZOMBIE:
            return process, entry
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        pass
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """Whether nobody could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
        return False


def port_holder(port: int) -> str:
    """Who listens on a TCP port of this machine, in words."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid}: {' '.join(process.cmdline())[:80]})"
    except psutil.Error:
        pass
    return "a process of another user or container"


# -- what can be known before a start: each is a sentence, or empty when all is well ----------------------------------


def start_fault(what: str, home: Path, pid_file: Path, port: int, least_disk: int, choose: str) -> str:
    """Why the embedded `what` (broker, database) cannot start in `home`; `choose`: what else can be done about a port.

    What is left of one that no longer runs is forgotten."""
    if fault := running_fault(f"a {what}", home, pid_file):
        return fault
    pid_file.unlink(missing_ok=True)
    return port_fault("127.0.0.1", port, f"the embedded {what}", choose) or disk_fault(home, least_disk)


def running_fault(what: str, home: Path, pid_file: Path) -> str:
    """That it runs already."""
    found = recall(pid_file)
    if found is None:
        return ""
    other, entry = found
    # one whose parent was killed a moment ago is just closing its files
    if wait_for(lambda: not alive(other), 5 if other.ppid() in (0, 1) else 0):
        return ""
    return (f"{what} already runs on {home}: pid {other.pid}, port {entry.get('port')}. "
            "`maskwatch down` stops it.")


def port_fault(host: str, port: int, whom: str, choose: str) -> str:
    """That somebody else listens there; a port in TIME_WAIT is free again in a moment, and counts as free."""
    if not port_taken(host, port):
        return ""
    return f"expected port {port} on {host} to be free for {whom}, but {port_holder(port)} listens there. {choose}"


def disk_fault(home: Path, least: int) -> str:
    """That the disk is as good as full."""
    free = shutil.disk_usage(home).free
    if free >= least:
        return ""
    return f"expected at least {least >> 20} MB of free disk under {home}, found {free >> 20} MB"


def alive(running: psutil.Process) -> bool:
    """A zombie has ended."""
    try:
        return running.is_running() and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(true: Callable[[], bool], timeout: float, every: float = 0.1) -> bool:
    until = time.monotonic() + timeout
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(every)
    return True
