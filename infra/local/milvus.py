"""The embedded vectors: Milvus Lite's server on loopback, its files under the data folder."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from pipeline.settings import Settings


def command(data: Path, port: int) -> list[str]:
    """The process to supervise. One for all: a Milvus Lite file belongs to one process at a time."""
    folder = data.resolve() / "vectors"
    folder.mkdir(parents=True, exist_ok=True)
    return [sys.executable, "-P", "-m", "milvus_lite.cmdline", "server", "--data-dir", str(folder),
            "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip


def uri(settings: Settings) -> str:
    """Where the vectors are, for pymilvus."""
    return settings.vectors or f"http://127.0.0.1:{settings.vectors_port}"


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def ready(port: int, timeout: float = 60.0) -> None:
    """Wait until it listens; after a crash it reads its files first, which took up to 22 s for 100,000 vectors."""
    until = time.monotonic() + timeout
    while not answers(port):
        if time.monotonic() > until:
            raise TimeoutError(f"the embedded Milvus Lite did not answer on 127.0.0.1:{port} within {timeout:.0f} s")
        time.sleep(0.1)
