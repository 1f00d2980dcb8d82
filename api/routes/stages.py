"""The stream for whoever runs it: what waits for each stage, who works on what, and what dedup spares."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec
from litestar import Request, Router, get
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agents.lag import Look, Size
from api import backlog, ranges
from api.auth import needs
from api.db import micros
from api.dependencies import By, Config, Db
from api.permissions import Scope
from api.problems import Problem
from api.ranges import LATEST, Camera, Since, Site, Until
from api.tables import savings
from api.tables.cameras import CameraRow, CameraState
from api.tables.offsets import behind
from api.tables.outbox import Outgoing
from api.tables.savings import STRETCH, Saved
from api.watch import Watch
from pipeline import topics
from pipeline.capture import bare
from pipeline.settings import Settings

S = TypeVar("S", bound="Savings")


class TopicWaiting(msgspec.Struct):
    """What waits in one topic for one stage."""

    topic: str
    records: int


class StageView(msgspec.Struct):
    """A stage and what waits for it."""

    stage: str
    workers: int  # 0: nobody works on it
    waiting: int | None  # records it has not acknowledged; null: it acknowledges none (capture)
    seconds: float | None  # ago that the oldest of these was written, as far as is known; null: not looked at yet
    topics: list[TopicWaiting]
    fault: str  # why the tables are not where a topic is: made again, or without its end; empty: they are


class Holding(msgspec.Struct):
    """What a worker has of a stage."""

    stage: str
    partitions: dict[str, tuple[int, ...]]  # topic -> partitions


class WorkerView(msgspec.Struct):
    """A process that takes part in the stream."""

    worker: str  # host:pid
    address: str  # as the broker sees it
    stages: list[Holding]
    cameras: list[str]  # that it captures, of those one may see


class CaptureView(msgspec.Struct):
    """A camera's capture, as its worker told it last."""

    camera: str
    name: str
    site: str
    state: str
    since: int  # in this state, µs UTC
    at: int  # when it was told, µs UTC
    worker: str  # host:pid
    fps_in: float  # that the stream delivers
    fps_analysed: float  # that go to `frames`
    published: int
    dropped: int  # sampled and thrown away, since a stage could not keep up
    reconnects: int
    analysed_width: int
    error: str


class Outbox(msgspec.Struct):
    """What the API has decided and not yet said to the stream."""

    waiting: int
    oldest: int | None  # since when, µs UTC
    fault: str  # why it cannot be sent; empty: it can


class StreamView(msgspec.Struct):
    """The stream's health."""

    at: int  # of this answer, µs UTC
    looked: float  # seconds since the broker was asked
    address: str
    stages: list[StageView]
    workers: list[WorkerView]
    cameras: list[CaptureView]
    topics: tuple[Size, ...]
    dead_letters: int  # records on the topic
    outbox: Outbox


class Savings(msgspec.Struct):
    """What dedup did with the frames of some time."""

    seen: int = 0  # frames that arrived
    kept: int = 0  # analysed, since they add something
    still: int = 0  # dropped: the picture had not changed
    same_faces: int = 0  # dropped: it had, but not where the faces are
    audited: int = 0  # would have been dropped, analysed all the same
    missed: int = 0  # of these: those in which a face was found that was not known
    saved: float | None = None  # share of the frames seen that was not analysed; null: none came
    cpu_seconds: float = 0.0  # of processor time that they would have cost: MASKWATCH_LOOK_COST each
    missed_share: float | None = None  # of the audited; null: none was
    missed_interval: tuple[float, float] | None = None  # 95 %
    # frames dropped in this time in which a face was missed, if they are as those that were audited
    missed_expected: float | None = None


class CameraSavings(Savings):
    """Of one camera."""

    camera: str = ""
    name: str = ""
    site: str = ""


class SavingsView(msgspec.Struct):
    """Of all cameras together, and of each."""

    since: int  # rounded down to ten minutes, µs UTC
    until: int  # rounded up
    look_cost: float  # ms, by which cpu_seconds is reckoned
    total: Savings
    cameras: list[CameraSavings]


@get("/v1/stream", opt=needs("system.view"), sync_to_thread=True,
     summary="What waits for each stage, who works on what, what each camera delivers")
def stream(request: Request[Any, Any, Any], db: Db, who: By, settings: Config) -> StreamView:
    """As the broker said it at most some two seconds ago, however many ask; 503 when it has not answered for eight.
    Cameras are those one may see."""
    watch: Watch = request.app.state.watch
    if not watch.alive:
        raise Problem(503, "no answer from the broker", f"{settings.bootstrap}: {watch.fault}", {"Retry-After": "2"})
    look = watch.look
    cameras = _cameras(db, who.scope("system.view"))
    waiting, oldest = db.execute(select(func.count(), func.min(Outgoing.created))).one()
    answered = watch.answered or time.monotonic()
    return StreamView(
        time.time_ns() // 1000, round(time.monotonic() - answered, 2), settings.bootstrap,
        [_stage(look, stage, watch.backlog.seconds(),
                *((behind(db, settings, look)[0], "; ".join(watch.astray)) if stage == "materialiser" else (None, "")))
         for stage in ("capture", *topics.FLOW, "materialiser")],
        _workers(look, cameras), cameras, look.sizes,
        next((size.records for size in look.sizes if size.topic == "dead.letters"), 0),
        Outbox(waiting, None if oldest is None else micros(oldest), request.app.state.producer.fault),
    )  # fmt: skip


def _stage(look: Look, stage: str, seconds: dict[str, float], waiting: dict[str, int] | None, fault: str) -> StageView:
    group = next((group for group in look.groups if group.stage == stage), None)
    waiting = waiting if waiting is not None else group.waiting if group else {}
    return StageView(stage, len(group.members) if group else 0,
                     None if stage == "capture" else sum(waiting.values()), seconds.get(stage),
                     [TopicWaiting(topic, records) for topic, records in waiting.items()], fault)


def _workers(look: Look, cameras: list[CaptureView]) -> list[WorkerView]:
    found: dict[str, WorkerView] = {}
    for group in look.groups:
        for member in group.members:
            view = found.setdefault(member.worker, WorkerView(member.worker, member.address, [], []))
            view.stages.append(Holding(group.stage, member.partitions))
    for camera in cameras:
        if camera.worker in found and camera.state != "stopped":
            found[camera.worker].cameras.append(camera.camera)
    return [found[name] for name in sorted(found)]


def _cameras(db: Session, scope: Scope) -> list[CaptureView]:
    rows = db.execute(select(CameraRow, CameraState).join(CameraState, CameraState.id == CameraRow.id)
                      .where(scope.where(CameraRow.site, CameraRow.id)).order_by(CameraRow.id))
    return [CaptureView(
        row.id, row.name, row.site, state.state, state.since, state.at, state.status.get("worker", ""),
        *(state.status.get(name, 0) for name in ("fps_in", "fps_analysed", "published", "dropped", "reconnects",
                                                 "analysed_width")), bare(state.status.get("error", "")),
    ) for row, state in rows]  # fmt: skip


@get("/v1/stream/lag", opt=needs("system.view"), sync_to_thread=True,
     summary="What waited for each stage over the last hour")
def lag(request: Request[Any, Any, Any]) -> list[backlog.Moment]:
    """A moment every fifteen seconds, with the most that waited in it; since this process began, an hour at most."""
    watch: Watch = request.app.state.watch
    return watch.backlog.moments()


@get("/v1/stream/savings", opt=needs("system.view"), sync_to_thread=True,
     summary="What dedup dropped, what that saved, and what it missed")
def ledger(db: Db, who: By, settings: Config, since: Since = 0, until: Until = LATEST, site: Site = "",
           camera: Camera = "") -> SavingsView:
    """In whole stretches of ten minutes: whatever touches the time asked for. The miss rate is measured: a sample of
    what would be dropped is analysed all the same (MASKWATCH_AUDIT)."""
    begin, end = since - since % STRETCH, -(-until // STRETCH) * STRETCH
    if since >= until:
        raise Problem(422, "no stretch of time", f"expected `since` before `until`, got {since} and {until}")
    where = who.scope("system.view").where(Saved.site, Saved.camera)
    if site:
        where &= Saved.site == site
    if camera:
        where &= Saved.camera == camera
    found = savings.sums(db, begin, end, where)
    names = dict(db.execute(select(CameraRow.id, CameraRow.name).where(CameraRow.id.in_([s.camera for s in found]))
                            ).all())
    total, views = Savings(), []
    for each in found:
        view = CameraSavings(camera=each.camera, name=names.get(each.camera, ""), site=each.site)
        for name in savings.TOTALS:
            setattr(view, name, getattr(each, name))
            setattr(total, name, getattr(total, name) + getattr(each, name))
        views.append(_told(view, settings))
    return SavingsView(begin, end, settings.look_cost, _told(total, settings), views)


def _told(view: S, settings: Settings) -> S:
    dropped = view.still + view.same_faces
    view.saved = round(dropped / view.seen, 6) if view.seen else None
    view.cpu_seconds = round(dropped * settings.look_cost / 1000, 3)
    if view.audited:
        view.missed_share = round(view.missed / view.audited, 6)
        view.missed_interval = ranges.wilson(view.missed, view.audited)
        view.missed_expected = round(dropped * view.missed_share, 1)
    return view


router = Router("/", route_handlers=[stream, lag, ledger], tags=["stream"])
