"""The stages in the order a frame travels, and how any of them run together in one process."""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import structlog
from mode import Service

from pipeline.settings import Settings

log = structlog.get_logger(__name__)

STAGES = ("capture", "dedup", "mask", "embed", "trajectory")

STOP = 30.0  # seconds a service may take to stop
STUCK = 300.0  # seconds a rebalance may take with its recovery, a broker that is away included


class UnknownStage(ValueError):
    """A stage that does not exist."""


class Stuck(RuntimeError):
    """A recovery that does not end."""


def chosen(stages: Iterable[str]) -> tuple[str, ...]:
    """These stages in flow order; all of them for none. Raises UnknownStage."""
    wanted = set(stages) or set(STAGES)
    if unknown := sorted(wanted - set(STAGES)):
        raise UnknownStage(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in wanted)


def build(stages: Iterable[str], settings: Settings) -> list[Service]:
    """The services of these stages, in flow order. Imports only what is asked for."""
    services = []
    for stage in chosen(stages):
        module = importlib.import_module(f"agents.{stage}")
        services.append(module.Capture(settings) if stage == "capture" else module.build(settings))
    return services


async def run(services: Sequence[Service], *, signals: bool = True, stop: asyncio.Event | None = None) -> None:
    """Until SIGTERM, SIGINT or `stop`; raises the reason when one of them crashes, after stopping the others."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    if signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    # one app's start ends when its tables are recovered: side by side, or the last would wait for the first
    starting = [asyncio.create_task(_start(service)) for service in services]
    stopping = asyncio.create_task(stop.wait())
    since: dict[int, float] = {}
    fault: BaseException | None = None
    try:
        while fault is None and not stopping.done():
            await asyncio.wait({stopping}, timeout=0.2)
            fault = _fault(services, starting) or _stuck(services, since)
    finally:
        if fault is None:
            log.info("stopping", services=len(services))
        await asyncio.gather(*(_finish(service) for service in services))
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(_stop(service) for service in services))
        stopping.cancel()
    if fault is not None:
        raise fault


async def _start(service: Any) -> None:
    await service.start()
    log.info("stage is at work", stage=_name(service))


def _name(service: Any) -> str:
    lines = getattr(service, "lines", ())
    return ", ".join(line.stage for line in lines) or type(service).__name__.lower()


def _fault(services: Sequence[Service], starting: Sequence[asyncio.Task[None]]) -> BaseException | None:
    for service in services:
        if (fault := getattr(service, "fault", None)) is not None:
            return fault
        if service.crashed:
            return service.crash_reason or RuntimeError(f"{_name(service)} crashed without a reason")
    for task in starting:
        if task.done() and not task.cancelled() and (error := task.exception()):
            return error
    return None


def _stuck(services: Sequence[Any], since: dict[int, float]) -> Stuck | None:
    for service in services:
        if getattr(service, "rebalancing", False):
            began = since.setdefault(id(service), monotonic())
            if monotonic() - began > STUCK:
                return Stuck(f"{_name(service)}: expected the rebalance and recovery to end within {STUCK:.0f} s")
        else:
            since.pop(id(service), None)
    return None


async def _finish(service: Any) -> None:
    """Its turn under way, to the end: what is done then need not be done again."""
    if not service.crashed:
        for line in getattr(service, "lines", ()):
            await line.finish()


async def _stop(service: Any) -> None:
    thread = getattr(getattr(service, "_consumer", None), "_thread", None)
    if thread is not None and not thread._thread_started.is_set():
        thread.thread_loop.close()  # of an app that was never started: nobody else would
    try:
        await asyncio.wait_for(service.stop(), STOP)
    except TimeoutError:
        log.warning("did not stop in time", stage=_name(service), seconds=STOP)
    except Exception as error:
        log.warning("did not stop cleanly", stage=_name(service), reason=repr(error))
