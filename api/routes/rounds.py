"""Planned routes: checkpoints in their order, when they are to be walked, and whether they were."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from litestar import Router, delete, get, post, put
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import fields, pages, ranges
from api.auth import needs
from api.db import made_id, micros
from api.dependencies import By, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.tables import audit
from api.tables.inspections import Checkpoint, Inspection, Round

LONGEST = timedelta(days=62)  # of a plan asked for at once
EARLY = timedelta(minutes=30)  # so long before its planned time a round may be started and still be that one


class CheckpointPlace(msgspec.Struct):
    """A checkpoint as it is planned: by latitude and longitude, or in metres on the site plan."""

    name: fields.Name
    id: Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")] = ""  # of one that is there; empty: a new one
    note: Annotated[str, Meta(max_length=1000, pattern=fields.CLEAN)] = ""
    lat: fields.Lat | None = None
    lon: fields.Lon | None = None
    plan: Annotated[str, Meta(max_length=64, pattern=fields.CLEAN)] = ""
    east: fields.Metres | None = None
    north: fields.Metres | None = None
    radius: Annotated[float, Meta(ge=1, le=10_000)] = 30.0  # metres; a photo within is a visit


class Plan(msgspec.Struct):
    """A planned route."""

    site: fields.SiteId
    name: fields.Name
    checkpoints: Annotated[list[CheckpointPlace], Meta(max_length=200)]
    about: fields.Words = ""
    active: bool = True
    ordered: bool = False
    days: Annotated[list[Annotated[int, Meta(ge=0, le=6)]], Meta(max_length=7)] = []  # 0 Monday .. 6 Sunday
    times: Annotated[list[Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]], Meta(max_length=48)] = []
    zone: Annotated[str, Meta(max_length=64, pattern="^[A-Za-z0-9_+/-]+$")] = "Asia/Shanghai"
    within: Annotated[int, Meta(ge=1, le=1440)] = 60  # minutes after the planned time
    positions: bool = True  # a visit without a position is unproven; false: it needs none


class Planned(Plan):
    """The same, with its id."""

    id: str = ""


class Due(msgspec.Struct):
    """One planned time, and the inspection that kept it."""

    round: str
    at: int  # µs UTC
    state: str  # kept, late (begun after `within`), missed, open (its time has not run out)
    inspection: str = ""
    started: int | None = None


@get("/", opt=needs("inspections.view"), sync_to_thread=True, summary="Planned routes")
def every(db: Db, who: By, site: ranges.Site = "", cursor: pages.Cursor = None,
          limit: pages.Limit = 100) -> pages.Page[Planned]:
    query = select(Round).where(who.scope("inspections.view").where(Round.site))
    if site:
        query = query.where(Round.site == site)
    return pages.take(db, query, (Round.name, Round.id), lambda row: _planned(db, row), cursor, limit, descending=False)


@get("/{id:uuid}", opt=needs("inspections.view"), sync_to_thread=True, summary="One planned route")
def one(db: Db, who: By, id: FromPath[UUID]) -> Planned:
    return _planned(db, _visible(db, who, id))


@post("/", opt=needs("inspections.review"), sync_to_thread=True, summary="Plan a route")
def plan(db: Db, who: By, data: JSONBody[Plan]) -> Planned:
    if not who.may("inspections.review", data.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.review at {data.site}")
    row = Round(id=made_id(), site=data.site, by=who.id)
    db.add(row)
    _write(db, row, data)
    audit.write(db, who.id, "round.add", row.id, site=row.site, address=who.address, name=row.name)
    return _planned(db, row)


@put("/{id:uuid}", opt=needs("inspections.review"), sync_to_thread=True, summary="Change a planned route")
def edit(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Plan]) -> Planned:
    """Checkpoints are told by their ids; those left out are retired, and stay in the inspections that name them."""
    row = _own(db, who, id)
    if row.site != data.site:
        raise Problem(409, "another site", f"expected {row.site}: a route does not move, got {data.site}")
    _write(db, row, data)
    audit.write(db, who.id, "round.edit", row.id, site=row.site, address=who.address, name=row.name)
    return _planned(db, row)


@delete("/{id:uuid}", opt=needs("inspections.review"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Remove a planned route")
def remove(db: Db, who: By, id: FromPath[UUID]) -> None:
    """One that was walked is only switched off: its inspections go on naming it."""
    row = _own(db, who, id)
    if db.scalar(select(Inspection.id).where(Inspection.round == row.id).limit(1)):
        row.active = False
    else:
        db.delete(row)
    audit.write(db, who.id, "round.remove", row.id, site=row.site, address=who.address, name=row.name)


@get("/{id:uuid}/plan", opt=needs("inspections.view"), sync_to_thread=True, summary="When it was due, and was it kept")
def due(db: Db, who: By, id: FromPath[UUID], since: ranges.Since, until: ranges.Until,
        ) -> list[Due]:
    """At most 62 days at once."""
    row = _visible(db, who, id)
    if not 0 <= until - since <= LONGEST / timedelta(microseconds=1) or until > 4_000_000_000_000_000:
        raise Problem(422, "span too long", f"expected `since` before `until`, at most {LONGEST.days} days apart")
    begin, end = datetime.fromtimestamp(since / 1e6, UTC), datetime.fromtimestamp(until / 1e6, UTC)
    planned = [at for at in times(row, begin, end)]
    walked = db.execute(
        select(Inspection.id, Inspection.started, Inspection.state).where(
            Inspection.round == row.id, Inspection.state != "early", Inspection.state != "abandoned",
            Inspection.started >= since - micros_of(EARLY), Inspection.started < until + micros_of(timedelta(days=1)))
        .order_by(Inspection.started)).all()
    found, used = [], set[str]()
    now_ = micros(datetime.now(UTC))
    for number, at in enumerate(planned):
        stamp = micros(at)
        following = micros(planned[number + 1]) - micros_of(EARLY) if number + 1 < len(planned) else 1 << 62
        hit = next((w for w in walked if w.id not in used and stamp - micros_of(EARLY) <= w.started < following), None)
        deadline = stamp + row.within * 60_000_000
        if hit:
            used.add(hit.id)
            found.append(Due(row.id, stamp, "kept" if hit.started <= deadline else "late", hit.id, hit.started))
        else:
            found.append(Due(row.id, stamp, "open" if now_ <= deadline else "missed"))
    return found


def micros_of(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def times(row: Round, begin: datetime, end: datetime) -> list[datetime]:
    """The planned times from `begin` to before `end`. On the day of a clock change the zone decides."""
    zone = ZoneInfo(row.zone)
    day, last = begin.astimezone(zone).date(), end.astimezone(zone).date()
    found: list[datetime] = []
    while day <= last:
        if day.weekday() in row.days:
            found += [_at(day, text, zone) for text in sorted(set(row.times))]
        day += timedelta(days=1)
    return [at for at in found if begin <= at < end]


def _at(day: date, text: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.fromisoformat(text), zone).astimezone(UTC)


def _visible(db: Session, who: Who, id: UUID) -> Round:
    row = db.get(Round, id.hex)
    if row is None or not who.may("inspections.view", row.site):
        raise missing("round", id.hex)
    return row


def _own(db: Session, who: Who, id: UUID) -> Round:
    row = _visible(db, who, id)
    if not who.may("inspections.review", row.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.review at {row.site}")
    return row


def _write(db: Session, row: Round, data: Plan) -> None:
    if data.zone not in available_timezones():
        raise Problem(422, "no such time zone", f"expected a name as Asia/Shanghai, got {data.zone!r}")
    for name in ("name", "about", "active", "ordered", "zone", "within", "positions"):
        setattr(row, name, getattr(data, name))
    row.days, row.times = sorted(set(data.days)), sorted(set(data.times))
    db.flush()
    there = {point.id: point for point in db.scalars(select(Checkpoint).where(Checkpoint.round == row.id))}
    for number, place in enumerate(data.checkpoints, 1):
        if (place.lat is None) != (place.lon is None) or (place.east is None) != (place.north is None):
            raise Problem(422, "half a place", f"checkpoint {number}: expected `lat` with `lon`, `east` with `north`")
        point = there.pop(place.id, None) if place.id else Checkpoint(round=row.id)
        if point is None:
            raise Problem(422, "no such checkpoint",
                          f"checkpoint {number}: expected the id of one of this route, once, or none, got {place.id!r}")
        for name in ("name", "note", "lat", "lon", "plan", "east", "north", "radius"):
            setattr(point, name, getattr(place, name))
        point.number, point.retired = number, False
        db.add(point)
    for point in there.values():
        point.retired = True
    db.flush()


def _planned(db: Session, row: Round) -> Planned:
    points = db.scalars(select(Checkpoint).where(Checkpoint.round == row.id, ~Checkpoint.retired)
                        .order_by(Checkpoint.number))
    return Planned(
        row.site, row.name,
        [CheckpointPlace(p.name, p.id, p.note, p.lat, p.lon, p.plan, p.east, p.north, p.radius) for p in points],
        row.about, row.active, row.ordered, list(row.days), list(row.times), row.zone, row.within, row.positions,
        row.id,
    )  # fmt: skip


router = Router("/v1/rounds", tags=["inspections"], route_handlers=[every, one, plan, edit, remove, due])
