"""The stream's own health: whether this process is up, and what the stages do."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Router, get
from litestar.exceptions import HTTPException, ServiceUnavailableException
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from api.auth import PUBLIC, identify, needs
from api.dependencies import By, Db
from api.publish import Producer
from api.summary import CountsNow, SavingsNow
from api.tables.cameras import CameraRow
from api.watch import Report, Watch


@get("/health", opt=needs(PUBLIC), summary="Whether this process runs")
async def health() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


@get("/ready", opt=needs(PUBLIC), sync_to_thread=True,
     summary="Whether broker and database answer, and what is decided gets through")
def ready(request: Request[Any, Any, Any]) -> dict[str, str]:
    """200 when broker and database answer, what was there has been read, what people decided reaches the stream (the
    outbox can send), and the tables are of the topics that the broker has; else 503 and which of these is not so.
    Addresses and faults are for `system.view`."""
    watch: Watch = request.app.state.watch
    if not watch.alive:
        raise _not("no answer from the broker", f" at {watch.settings.bootstrap}: {watch.fault}", request)
    if not watch.caught_up:
        raise ServiceUnavailableException("still reading what was there at the start")
    try:
        with request.app.state.sessions() as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        raise ServiceUnavailableException(f"no answer from the database: {type(error).__name__}") from None
    producer: Producer = request.app.state.producer
    if producer.fault:
        raise _not("the outbox cannot send", f": {producer.fault}", request)
    if watch.astray:
        raise _not("the tables are not where the topics are", f": {'; '.join(watch.astray)}", request)
    return {"status": "ok"}


def _not(what: str, why: str, request: Request[Any, Any, Any]) -> ServiceUnavailableException:
    try:
        told = identify(request).may("system.view")
    except (HTTPException, SQLAlchemyError):
        told = False
    return ServiceUnavailableException(f"{what}{why}" if told else what)


@get("/v1/status", opt=needs("system.view"), sync_to_thread=True,
     summary="Cameras, savings and what waits for each stage, now")
def status(request: Request[Any, Any, Any], db: Db, who: By) -> Report:
    """Cameras, mask states, savings, newest episodes, what waits for each stage; of one's own cameras only."""
    watch: Watch = request.app.state.watch
    report = watch.report()
    scope = who.scope("system.view")
    if scope.everywhere:
        return report
    mine = set(db.scalars(select(CameraRow.id).where(scope.where(CameraRow.site, CameraRow.id))))
    views = [view for view in report.cameras if view.camera in mine]
    now, minute, savings = CountsNow(), CountsNow(), SavingsNow()
    for view in views:
        now += view.now
        minute += view.minute
        savings.add(view.savings)  # type: ignore[arg-type]
    breaches = [msgspec.structs.replace(each, cameras=theirs) for each in report.episodes
                if (theirs := tuple(camera for camera in each.cameras if scope.covers(each.site, camera)))]
    # letters quote records of any camera; how many are on their way is only known of all together
    return msgspec.structs.replace(report, cameras=views, now=now, minute=minute, savings=savings, people=0,
                                   episodes=breaches, letters=[])


router = Router("/", route_handlers=[health, ready, status], tags=["stream"])
