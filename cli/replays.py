"""`maskwatch replays`: runs the replays that were asked for over the API."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.settings import Settings

LINGER = 30.0  # seconds the process that has the models in memory waits for another run


def replays(
    once: Annotated[bool, typer.Option("--once", help="End when nothing has waited for half a minute.")] = False,
) -> None:
    """Run stretches of the log again, one at a time, until told to stop (part of `maskwatch up`). Several share them.

    It gives way to whatever else wants the processor. While nothing waits it is small: the models are loaded by a
    process of its own, which ends with the last run.

    Example: maskwatch replays
    """
    import os
    import signal

    from cli import log
    from pipeline.settings import Settings

    settings = Settings()
    log.configure(settings, process="replays")
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    if once:
        _work(settings, stop)
    else:
        os.nice(10)  # live work has about nine tenths of a core that both want
        _wait(settings, stop)


def _wait(settings: Settings, stop: threading.Event) -> None:
    """Look whether one waits; a process of its own runs it."""
    import structlog
    from sqlalchemy.exc import OperationalError

    from api import db, replay_queue
    from infra.local import process

    log, engine = structlog.get_logger(), db.connect(settings, pool=1)
    while not stop.is_set():
        try:
            if not replay_queue.waits(engine):
                stop.wait(replay_queue.TURN)
                continue
        except OperationalError as error:
            log.warning("database", error=str(error.orig).strip())
            stop.wait(2)
            continue
        worker = process.spawn([sys.executable, "-P", "-m", "cli.main", "replays", "--once"], None)
        while worker.poll() is None and not stop.wait(0.2):
            pass
        process.stop(worker, 20)
        if worker.returncode and not stop.is_set():
            log.error("the process that runs replays ended", code=worker.returncode)
            stop.wait(5)
    engine.dispose()


def _work(settings: Settings, stop: threading.Event) -> None:
    import time

    import structlog

    from api import db
    from api.replays import TURN, Replaying

    engine = db.connect(settings, pool=3)
    work, idle = Replaying(settings, db.sessions(engine)), time.monotonic()
    while not stop.is_set() and time.monotonic() - idle < LINGER:
        if work.turn(stop):
            idle = time.monotonic()
        else:
            stop.wait(TURN)
    engine.dispose()
    structlog.get_logger().info("stopped", runs=work.done)
