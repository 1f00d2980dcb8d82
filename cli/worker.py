"""`maskwatch worker`: stages at work in this process, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Annotated

import typer


def worker(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="capture, dedup, mask, embed, trajectory; none = all of them.", show_default=False),
    ] = None,
) -> None:
    """Run stages in this process; start as many workers as you like, on as many machines.

    SIGTERM or Ctrl-C ends the turn under way, commits, leaves the group, and ends with 0. Ends with 1 when a stage
    stops for a fault, and says which; with 2 when it cannot start.

    Example: maskwatch worker mask embed
    """
    import asyncio

    import structlog
    from kafka.errors import KafkaError

    from agents import topics, topology
    from cli import log
    from pipeline.settings import Settings

    settings = Settings()
    log.configure(settings, worker=f"{socket.gethostname()}:{os.getpid()}")
    told = structlog.get_logger(__name__)
    try:
        topology.chosen(stages or ())
        if not _reachable(settings.bootstrap):
            told.error("cannot start", reason=f"expected a Kafka broker at {settings.bootstrap}, nobody answers there")
            raise typer.Exit(2)
        lacking = [change.topic for change in topics.plan(settings).changes if change.kind == "create"]
    except KafkaError as error:
        told.error("cannot start", reason=f"expected a Kafka broker at {settings.bootstrap}, got {error!r}")
        raise typer.Exit(2) from None
    except topology.UnknownStage as error:
        told.error("cannot start", reason=str(error))
        raise typer.Exit(2) from None
    if lacking:
        names = ", ".join(lacking)
        told.error("cannot start", reason=f"expected {names} on the broker: `maskwatch topics apply` makes them")
        raise typer.Exit(2)

    async def main() -> None:
        try:
            services = topology.build(stages or (), settings)
        except Exception as error:  # models that are not there, for one
            told.error("cannot start", reason=str(error) or repr(error), kind=type(error).__name__)
            raise typer.Exit(2) from None
        await topology.run(services)

    try:
        asyncio.run(main())
    except typer.Exit:
        raise
    except Exception as error:
        told.error("stopped", reason=str(error) or repr(error), kind=type(error).__name__)
        raise typer.Exit(1) from None


def _reachable(bootstrap: str, seconds: float = 15.0) -> bool:
    """Whether somebody listens at one of the addresses, soon: the broker may be starting too."""
    until = time.monotonic() + seconds
    while True:
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 3):
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
