"""`maskwatch replays`: runs the replays that were asked for over the API."""

from __future__ import annotations


def replays() -> None:
    """Run stretches of the log again, one at a time, until told to stop (part of `maskwatch up`). Several share them.

    It gives way to whatever else wants the processor, and loads the models when the first run comes.

    Example: maskwatch replays
    """
    import os
    import signal
    import threading

    import structlog

    from api import db
    from api.replays import NICE, Replaying
    from cli import log
    from pipeline.settings import Settings

    os.nice(NICE)
    settings = Settings()
    log.configure(settings, process="replays")
    engine = db.connect(settings, pool=3)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    work = Replaying(settings, db.sessions(engine))
    work.run(stop)
    engine.dispose()
    structlog.get_logger().info("stopped", runs=work.done)
