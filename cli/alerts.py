"""`maskwatch alerts`: decides who is told of what, and tells them."""

from __future__ import annotations


def alerts() -> None:
    """Make alerts by the rules and send them until told to stop (part of `maskwatch up`). Several share the work.

    The secrets of the channels, MASKWATCH_SECRET_…, are taken from this process's environment, and so are the hosts
    that each may go to, MASKWATCH_SECRET_…_HOSTS.

    Example: MASKWATCH_SECRET_WARD_3=… MASKWATCH_SECRET_WARD_3_HOSTS=mail.example.org maskwatch alerts
    """
    import signal
    import threading

    import structlog

    from api import db
    from api.sender import SENDERS, Alerting
    from cli import log
    from pipeline.settings import Settings

    settings = Settings()
    log.configure(settings, process="alerts")
    engine = db.connect(settings, pool=SENDERS + 1)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    work = Alerting(settings, db.sessions(engine))
    work.run(stop)
    engine.dispose()
    structlog.get_logger().info("stopped", made=work.counted.made, sent=work.counted.sent, tried=work.counted.tried)
