"""How a process logs: structlog and the libraries' own loggers in one shape, to stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from pipeline.settings import Settings

# They tell of every request and rebalance; what matters of it is a warning.
CHATTY = ("kafka", "aiokafka", "faust", "mode", "asyncio", "urllib3", "libav", "uvicorn.access")


def configure(settings: Settings, **always: Any) -> None:
    """Once at the start of a process. `always`: what each line of it should carry, such as worker="host:1"."""
    level = getattr(logging, settings.log.upper())

    def add_always(_logger: Any, _method: str, event: Any) -> Any:
        return always | event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_always,  # not a context variable: threads do not inherit those
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # without local variables: passwords, tokens and addresses of cameras are among them
    colours = sys.stderr.isatty()
    shape: list[Any] = (
        [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=colours,
                exception_formatter=structlog.dev.RichTracebackFormatter(
                    color_system="truecolor" if colours else None, show_locals=False
                ),
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shape],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # it warns, with all its bytes, that Faust's membership data is not a consumer's of its own
    logging.getLogger("kafka.admin._groups").setLevel(logging.ERROR)
