"""Rounds made with a phone: start, photos, positions, pause, finish; and what became of them.

Whatever a phone sends may come late, twice, and in any order: ids are the phone's, so the same again changes nothing
and answers the same. What comes before its inspection's start makes the inspection known as `early`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post, put
from litestar.datastructures import UploadFile
from litestar.params import FromPath, FromQuery, JSONBody, MultipartBody, Parameter, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import fields, pages, patrol, pictures, ranges, report, uploads
from api.auth import needs
from api.db import micros, now
from api.dependencies import By, Config, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.tables import audit
from api.tables import inspections as table
from api.tables.inspections import Checkpoint, Inspection, Photo, Point, Round, Step, Verdict
from api.tables.sites import Site
from api.tables.users import User
from api.waiting import waits
from pipeline.capture import digest
from pipeline.messages import Frame

State = Literal["early", "running", "paused", "finished", "abandoned"]
Standing = Literal["", "open", "over", "early", "running", "paused", "finished", "abandoned"]
MOST_PHOTOS, MOST_POINTS, BATCH = 500, 50_000, 1_000  # of an inspection; points of one request
NEWER = 5_000_000  # µs; a phone's clock that is off by less is right: the difference may be the network's


# -- what comes and goes ----------------------------------------------------------------------------------------------


class Start(msgspec.Struct):
    """An inspection begins."""

    site: fields.SiteId
    at: fields.Micros  # by the phone's clock
    sent: fields.Micros | None = None  # what the phone's clock says while it sends this: tells how far it is off
    round: UUID | None = None  # planned route
    note: fields.Words = ""
    device: fields.Line = ""


class Change(msgspec.Struct):
    """An inspection is paused, taken up again, or over."""

    state: Literal["running", "paused", "finished", "abandoned"]
    at: fields.Micros  # by the phone's clock
    sent: fields.Micros | None = None
    site: fields.AnySite = ""  # needed only when the start has not come yet
    note: fields.Words | None = None


class Noted(msgspec.Struct):
    """A note written or changed."""

    note: fields.Words


class Where(msgspec.Struct):
    """One position."""

    id: UUID  # made by the phone
    at: fields.Micros  # by the phone's clock
    lat: fields.Lat | None = None
    lon: fields.Lon | None = None
    accuracy: fields.Distance | None = None
    east: fields.Metres | None = None  # on the site plan, where the phone knows it
    north: fields.Metres | None = None


class Track(msgspec.Struct):
    """Positions since the last time."""

    points: Annotated[list[Where], Meta(min_length=1, max_length=BATCH)]
    sent: fields.Micros | None = None
    site: fields.AnySite = ""


class Shot(msgspec.Struct):
    """A photo as a form: the file and what the phone knows of it. What it does not say is taken from the EXIF."""

    picture: UploadFile
    taken: fields.Micros | None = None  # by the phone's clock
    sent: fields.Micros | None = None
    site: fields.AnySite = ""
    zone: Annotated[int, Meta(ge=-14 * 60, le=14 * 60)] | None = None  # minutes east of UTC, for an EXIF time without
    lat: fields.Lat | None = None
    lon: fields.Lon | None = None
    accuracy: fields.Distance | None = None
    east: fields.Metres | None = None
    north: fields.Metres | None = None
    checkpoint: Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")] = ""
    camera: fields.AnyCamera = ""  # that is inspected: where it stands is where the photo should be taken
    note: fields.Words = ""


class FaceSeen(msgspec.Struct):
    """A face in a photo."""

    id: str
    box: tuple[float, float, float, float]  # pixels of the kept picture
    score: float
    look: str
    look_score: float


class Seen(msgspec.Struct):
    """What the models saw in a photo."""

    state: Literal["waiting", "done", "refused"]
    worst: Literal["", "none", "incorrect", "unknown", "worn", "nobody"] = ""  # empty: not looked at yet
    worn: int = 0
    incorrect: int = 0
    none: int = 0
    unknown: int = 0
    faces: list[FaceSeen] = []
    models: dict[str, str] = {}
    refused: str = ""
    seconds: float | None = None  # from its arrival to this verdict


class Taken(msgspec.Struct):
    """A photo of an inspection."""

    id: str
    inspection: str
    frame: str
    taken: int  # µs UTC, corrected
    taken_clock: int | None  # as the phone told it
    taken_from: str  # phone, exif, server
    received: datetime
    lat: float | None
    lon: float | None
    accuracy: float | None
    place_from: str  # phone, exif, or nothing
    east: float | None
    north: float | None
    checkpoint: str
    distance: float | None  # metres from what `against` says
    far: bool  # farther than the patrol radius
    visit: bool  # counts as a visit of the checkpoint
    note: str
    width: int
    height: int
    picture: str  # where it can be had
    verdict: Seen
    camera: str = ""  # that the phone says it is about
    against: str = ""  # checkpoint, camera or site: with whose place its own was compared; empty: with none
    unproven: bool = False  # no position shows that it was taken there


class Brief(msgspec.Struct):
    """An inspection in a list."""

    id: str
    user: str
    user_name: str
    site: str
    round: str
    state: State
    started: int  # µs UTC, corrected
    ended: int | None
    note: str
    photos: int = 0
    waiting: int = 0  # photos without a verdict so far
    points: int = 0
    worn: int = 0
    incorrect: int = 0
    none: int = 0
    unknown: int = 0
    far: int = 0  # photos taken farther away than the patrol radius
    unproven: int = 0  # photos without a position that shows where they were taken


class Moved(msgspec.Struct):
    """A change of state."""

    state: str  # started, paused, running (again), finished, abandoned
    at: int  # µs UTC, corrected
    clock: int  # as the phone told it
    received: datetime


class Stop(msgspec.Struct):
    """A checkpoint of the planned route, and whether somebody was there."""

    id: str
    number: int
    name: str
    visited: bool
    in_turn: bool  # not before the one before it
    at: int | None = None  # first visit, µs UTC
    photos: int = 0
    distance: float | None = None  # metres, of the nearest photo
    unproven: bool = False  # visited, but by photos without a position alone


class Whole(Brief):
    """An inspection with its history."""

    device: str = ""
    radius: float | None = None  # patrol radius, metres
    skew: int = 0  # µs by which our clock was ahead of the phone's
    started_clock: int = 0
    received: datetime | None = None
    steps: list[Moved] = []
    checkpoints: list[Stop] = []


class Accepted(msgspec.Struct):
    """How many positions are known now."""

    points: int
    new: int


# -- from the phone ---------------------------------------------------------------------------------------------------


@put("/{id:uuid}", opt=needs("inspections.add"), sync_to_thread=True, summary="Start an inspection")
def start(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Start]) -> Whole:
    """`id` is made by the phone. The same again answers the same; photos may have come before it."""
    row = _ours(db, who, str(id), data.site, data.at, data.sent, data.device)
    if data.round is not None:
        found = db.get(Round, data.round.hex)
        if found is None or found.site != row.site:
            raise missing("round", data.round.hex)
        row.round = data.round.hex
    first = not db.scalar(select(func.count()).select_from(Step).where(Step.inspection == row.id,
                                                                      Step.state == "started"))
    if first:
        row.started, row.started_clock = _right(row, data.at), data.at
        row.note, row.device = row.note or data.note, data.device or row.device
        audit.write(db, who.id, "inspection.start", row.id, site=row.site, address=who.address)
        for photo in db.scalars(select(Photo).where(Photo.inspection == row.id)):
            patrol.place(db, row, photo)
        _step(db, row, "started", data.at)
    return _whole(db, row)


@put("/{id:uuid}/state", opt=needs("inspections.add"), sync_to_thread=True,
     summary="Pause an inspection, take it up again, finish or abandon it")
def change(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Change]) -> Whole:
    """By the phone's clock: a pause that arrives after the finish it came before changes nothing. Somebody who reviews
    inspections may abandon one that its inspector has forgotten."""
    other = db.get(Inspection, str(id))
    if other is not None and other.user != who.id and data.state == "abandoned" and who.may(
            "inspections.review", other.site):
        row = db.get_one(Inspection, str(id), with_for_update=True)
        clock = max(data.at, _newest(db, row))
    else:
        row, clock = _ours(db, who, str(id), data.site, data.at, data.sent), data.at
    over = db.scalar(select(Step).where(Step.inspection == row.id, Step.state.in_(table.OVER)))
    if over is not None and clock > over.clock and over.state != data.state:
        raise Problem(409, "inspection is over", f"it was {over.state}; expected nothing later, got {data.state}")
    if data.note is not None:
        row.note = data.note
    if over is None or clock <= over.clock:
        _step(db, row, data.state, clock)
        audit.write(db, who.id, f"inspection.{data.state}", row.id, site=row.site, address=who.address)
    return _whole(db, row)


@post("/{id:uuid}/photos/{photo:uuid}", opt=needs("inspections.add"),
      request_max_body_size=uploads.MOST_BYTES + (64 << 10), summary="Upload a photo")
@waits
def shoot(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: FromPath[UUID],
          photo: FromPath[UUID], data: MultipartBody[Shot]) -> Taken:
    """A form with the file as `picture` (JPEG, PNG or WebP). It is looked at within seconds: the live event
    `inspection.photo` says when. The same photo again answers the same."""
    content = data.picture.file.read(uploads.MOST_BYTES + 1)
    came = micros(now())
    row = _ours(db, who, str(id), data.site, data.taken or data.sent or came, data.sent)
    known = db.get(Photo, str(photo))
    sum_ = hashlib.sha256(content).hexdigest()
    if known is not None:
        if known.inspection != row.id or known.digest != sum_:
            raise Problem(409, "another photo has this id", f"expected a new id for another picture, got {photo}")
        return _taken(known, db.get(Verdict, known.frame))
    if db.scalar(select(func.count()).select_from(Photo).where(Photo.inspection == row.id)) >= MOST_PHOTOS:
        raise Problem(409, "too many photos", f"expected at most {MOST_PHOTOS} photos of an inspection")
    upload = uploads.read(content)
    made = _photo(row, str(photo), data, upload, sum_, came)
    made.privacy, made.blur_others = patrol.privacy(db, row.site)
    if made.east is None and (where := patrol.on_plan(db, row.site, made.lat, made.lon)):
        made.east, made.north = where
    patrol.place(db, row, made)
    at = max(row.last_frame + 1, made.taken)  # an inspection's frames go forward, whenever its photos were taken
    row.last_frame, row.changed = at, now()
    made.frame = f"{row.id}@{at}"
    pictures.store(settings).put(made.picture, upload.jpeg)
    db.add(made)
    db.flush()
    producer: Producer = request.app.state.producer
    producer.later(db, "frames", Frame(
        row.id, at, site=row.site, source="inspection", privacy=made.privacy, blur_others=made.blur_others,
        place=None if made.east is None or made.north is None else (made.east, made.north),
        width=upload.width, height=upload.height, source_width=upload.width, source_height=upload.height,
        jpeg=upload.jpeg, digest=digest(upload.image[..., 1]),
    ))  # fmt: skip
    audit.write(db, who.id, "photo.add", made.id, site=row.site, address=who.address, inspection=row.id)
    table.tell(db, row, "inspection.photo", photo=made.id, frame=made.frame, waiting=True)
    return _taken(made, None)


@post("/{id:uuid}/points", opt=needs("inspections.add"), sync_to_thread=True, status_code=200,
      summary="Say where the phone was")
def track(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Track]) -> Accepted:
    """A batch in any order; a point whose id is known is no news."""
    row = _ours(db, who, str(id), data.site, data.points[0].at, data.sent)
    have = db.scalar(select(func.count()).select_from(Point).where(Point.inspection == row.id)) or 0
    if have + len(data.points) > MOST_POINTS:
        raise Problem(409, "too many positions", f"expected at most {MOST_POINTS} of an inspection, got {have} and "
                                                 f"{len(data.points)} more")
    values = {str(p.id): {"id": str(p.id), "inspection": row.id, "clock": p.at, "at": _right(row, p.at), "lat": p.lat,
                          "lon": p.lon, "accuracy": p.accuracy, "east": p.east, "north": p.north}
              for p in data.points if (p.lat is not None and p.lon is not None)
              or (p.east is not None and p.north is not None)}
    new = list(db.scalars(insert(Point).values(list(values.values())).on_conflict_do_nothing().returning(Point.id))
               ) if values else []
    if new:
        row.changed = now()
        last = max((values[each] for each in new), key=lambda each: each["at"])
        table.tell(db, row, "inspection.point", **{k: last[k] for k in ("at", "lat", "lon", "east", "north")})
    return Accepted(have + len(new), len(new))


@patch("/{id:uuid}/photos/{photo:uuid}", opt=needs("inspections.edit"), sync_to_thread=True, summary="Note on a photo")
def note_photo(db: Db, who: By, id: FromPath[UUID], photo: FromPath[UUID], data: JSONBody[Noted]) -> Taken:
    row = _mine(db, who, str(id))
    found = _shot(db, row, photo)
    found.note = data.note
    audit.write(db, who.id, "photo.note", found.id, site=row.site, address=who.address)
    return _taken(found, db.get(Verdict, found.frame))


@patch("/{id:uuid}", opt=needs("inspections.edit"), sync_to_thread=True, summary="Note on an inspection")
def note(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Noted]) -> Whole:
    row = _mine(db, who, str(id))
    row.note, row.changed = data.note, now()
    audit.write(db, who.id, "inspection.note", row.id, site=row.site, address=who.address)
    return _whole(db, row)


# -- for whoever may see it -------------------------------------------------------------------------------------------


@get("/", opt=needs("inspections.view"), sync_to_thread=True, summary="Inspections, newest first")
def every(db: Db, who: By, site: ranges.Site = "",
          standing: Annotated[Standing, QueryParameter(name="state")] = "", mine: FromQuery[bool] = False,
          round: FromQuery[UUID | None] = None, since: ranges.Bound = None,
          until: ranges.Bound = None, cursor: pages.Cursor = None, limit: pages.Limit = 50) -> pages.Page[Brief]:
    """One's own, and those of the sites whose inspections one reviews. After a crash a phone asks for
    `?mine=true&state=open`. `since`, `until`: when they started."""
    query = select(Inspection)
    own = and_(Inspection.user == who.id, who.scope("inspections.view").where(Inspection.site))
    query = query.where(own if mine else or_(own, who.scope("inspections.review").where(Inspection.site)))
    if site:
        query = query.where(Inspection.site == site)
    if standing:
        query = query.where(Inspection.state.in_({"open": table.OPEN, "over": table.OVER}.get(standing, (standing,))))
    if round is not None:
        query = query.where(Inspection.round == round.hex)
    if since is not None:
        query = query.where(Inspection.started >= since)
    if until is not None:
        query = query.where(Inspection.started < until)
    page = pages.take(db, query, (Inspection.started, Inspection.id), _brief, cursor, limit)
    _count(db, page.items)
    return page


@get("/{id:uuid}", opt=needs("inspections.view"), sync_to_thread=True, summary="One inspection")
def one(db: Db, who: By, id: FromPath[UUID]) -> Whole:
    return _whole(db, visible(db, who, str(id)))


@get("/{id:uuid}/photos", opt=needs("inspections.view"), sync_to_thread=True, summary="Its photos and their verdicts")
def photos(db: Db, who: By, id: FromPath[UUID]) -> list[Taken]:
    row = visible(db, who, str(id))
    return [_taken(photo, verdict) for photo, verdict in judged(db, row)]


@get("/{id:uuid}/photos/{photo:uuid}", opt=needs("inspections.view"), sync_to_thread=True,
     summary="One photo and its verdict")
def photo_(db: Db, who: By, id: FromPath[UUID], photo: FromPath[UUID]) -> Taken:
    found = _shot(db, visible(db, who, str(id)), photo)
    return _taken(found, db.get(Verdict, found.frame))


@get("/{id:uuid}/photos/{photo:uuid}/picture", opt=needs("inspections.view"), sync_to_thread=True,
     media_type="image/jpeg", summary="The picture itself")
def picture(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: FromPath[UUID],
            photo: FromPath[UUID]) -> Response[bytes]:
    """JPEG without EXIF. Every look is written down. Where faces are to be pixelated it can be had once they are: 409
    before that, and of a photo that could not be looked at."""
    row = visible(db, who, str(id))
    found = _shot(db, row, photo)
    verdict = db.get(Verdict, found.frame)
    if not table.shown(found, verdict):
        raise Problem(409, "not ready yet" if verdict is None else "withheld",
                      "expected a photo whose faces are pixelated; this one "
                      + ("is not looked at yet" if verdict is None else f"could not be looked at: {verdict.refused}"))
    jpeg = pictures.store(settings).get(found.picture)
    if jpeg is None:
        raise missing("picture", str(photo))
    audit.look(db, who.id, "photo.look", found.id, site=row.site, address=who.address, inspection=row.id)
    return pictures.answer(request, jpeg)


@get("/{id:uuid}/route", opt=needs("inspections.view"), sync_to_thread=True, summary="Where it went, as GeoJSON")
def route(db: Db, who: By, id: FromPath[UUID], coordinates: FromQuery[Literal["auto", "plan", "map"]] = "auto"
          ) -> dict[str, Any]:
    """Lines of what was walked (`observed`) and of gaps between (`inferred`), and a point for each photo.
    `coordinates` as for people's routes: longitude and latitude, or metres east and north on the site plan; `auto`: on
    the map when a place on the globe is known. The answer says which. `plan` has the same on the plan in any case."""
    return patrol.geojson(db, visible(db, who, str(id)), coordinates)


@get("/{id:uuid}/cameras", opt=needs("inspections.view"), sync_to_thread=True,
     summary="Which cameras it came by, and what they said then")
def cameras(db: Db, who: By, id: FromPath[UUID], within: Annotated[float, Parameter(ge=1, le=1000)] = 25.0,
            ) -> list[patrol.Passed]:
    """`within`: metres. Only cameras that one may see."""
    return patrol.passed(db, who, visible(db, who, str(id)), within)


@get("/{id:uuid}/report", opt=needs("inspections.export"), sync_to_thread=True, media_type="application/pdf",
     summary="The inspection as a PDF")
def printed(db: Db, who: By, settings: Config, id: FromPath[UUID],
            language: FromQuery[Literal["", "zh-CN", "en"]] = "") -> Response[bytes]:
    """With its pictures, its route, and the checkpoints visited and missed; in one's own language unless another is
    asked for. Every look is written down."""
    row = visible(db, who, str(id))
    if not who.may("inspections.export", row.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.export at {row.site}")
    site, user, planned = db.get(Site, row.site), db.get(User, row.user), db.get(Round, row.round)
    points = {point.id: point for point in db.scalars(select(Checkpoint).where(Checkpoint.round == row.round))}
    shots = judged(db, row)
    seen = {photo.id for photo, verdict in shots if table.shown(photo, verdict)}
    store = pictures.store(settings)
    pdf = report.render(report.Report(
        row, (user.full_name or user.name) if user else "", site.name if site else row.site,
        site.time_zone if site else "UTC", planned.name if planned else "",
        [report.Visit(points[stop.id], stop.visited, stop.in_turn or not (planned and planned.ordered), stop.at,
                      stop.distance, stop.unproven) for stop in stops(db, row)],
        shots, patrol.track(db, row), lambda photo: store.get(photo.picture) if photo.id in seen else None,
        lambda photo: photo.id not in seen,
    ), language or ("en" if who.language == "en" else "zh-CN"))
    audit.write(db, who.id, "inspection.report", row.id, site=row.site, address=who.address, photos=len(shots))
    return Response(pdf, media_type="application/pdf", headers={
        "content-disposition": f'inline; filename="inspection-{row.id}.pdf"', "cache-control": "private, no-store",
        "x-content-type-options": "nosniff"})


@delete("/{id:uuid}", opt=needs("inspections.remove"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Remove an inspection with its pictures")
def remove(db: Db, who: By, settings: Config, id: FromPath[UUID]) -> None:
    """Its photos stay on the topic `frames` until that expires."""
    row = visible(db, who, str(id))
    if not who.may("inspections.remove", row.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.remove at {row.site}")
    forget(db, settings, [row])
    audit.write(db, who.id, "inspection.remove", row.id, site=row.site, address=who.address, inspector=row.user)
    table.tell(db, row, "inspection.removed")


# -- what they share --------------------------------------------------------------------------------------------------


def visible(db: Session, who: Who, id: str) -> Inspection:
    """Raises Problem 404 for one that is not there or not for this user."""
    row = db.get(Inspection, id)
    if row is None or not (own(who, row) or who.may("inspections.review", row.site)):
        raise missing("inspection", id)
    return row


def own(who: Who, row: Inspection) -> bool:
    """One's own, as long as one has a right to look at inspections of that site."""
    return row.user == who.id and who.may("inspections.view", row.site)


def judged(db: Session, row: Inspection) -> list[tuple[Photo, Verdict | None]]:
    """Its photos in the order in which they were taken."""
    return [(photo, verdict) for photo, verdict in db.execute(
        select(Photo, Verdict).outerjoin(Verdict, Verdict.frame == Photo.frame)
        .where(Photo.inspection == row.id).order_by(Photo.taken, Photo.id))]


def forget(db: Session, settings: Any, rows: Iterable[Inspection]) -> None:
    """Rows, verdicts and pictures of inspections: for a removal, an erasure, and when they are too old."""
    for row in rows:
        shots = db.scalars(select(Photo).where(Photo.inspection == row.id)).all()
        pictures.store(settings).delete(each.picture for each in shots)
        for verdict in db.scalars(select(Verdict).where(Verdict.frame.in_([each.frame for each in shots]))):
            db.delete(verdict)
        db.delete(row)
    db.flush()


def _mine(db: Session, who: Who, id: str) -> Inspection:
    """To change it: one's own, or who edits what they review."""
    row = visible(db, who, id)
    if row.user != who.id and not who.may("inspections.edit", row.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.edit at {row.site}")
    return row


def _shot(db: Session, row: Inspection, photo: UUID) -> Photo:
    found = db.get(Photo, str(photo))
    if found is None or found.inspection != row.id:
        raise missing("photo", str(photo))
    return found


def _ours(db: Session, who: Who, id: str, site: str, clock: int, sent: int | None, device: str = "") -> Inspection:
    """This user's inspection, locked; made when something of it comes for the first time."""
    row = db.scalar(select(Inspection).where(Inspection.id == id).with_for_update())
    came = micros(now())
    skew = None if sent is None else came - sent
    if row is None:
        if not site:
            raise Problem(422, "site unknown", "expected `site` with what comes before the start of its inspection")
        if not who.may("inspections.add", site):
            raise Problem(403, "not allowed", f"expected the permission inspections.add at {site}")
        off = skew if skew is not None and abs(skew) >= NEWER else 0
        made = db.scalar(insert(Inspection).values(
            id=id, user=who.id, site=site, started=min(clock + off, came), started_clock=clock, skew=skew or 0,
            device=device, radius=patrol.radius(db, who, site)).on_conflict_do_nothing().returning(Inspection.id))
        row = db.scalars(select(Inspection).where(Inspection.id == id).with_for_update()).one()
        if made:
            table.tell(db, row, "inspection.changed")
    if row.user != who.id:
        raise missing("inspection", id)
    if site and row.site != site:
        raise Problem(409, "another site", f"expected {row.site}, where this inspection is, got {site}")
    if not who.may("inspections.add", row.site):
        raise Problem(403, "not allowed", f"expected the permission inspections.add at {row.site}")
    if skew is not None:
        row.skew = skew
    return row


def _right(row: Inspection, clock: int) -> int:
    """A time of the phone's clock as ours would have told it: never later than now."""
    return min(clock + (row.skew if abs(row.skew) >= NEWER else 0), micros(now()))


def _newest(db: Session, row: Inspection) -> int:
    return (db.scalar(select(func.max(Step.clock)).where(Step.inspection == row.id)) or row.started_clock) + 1


def _step(db: Session, row: Inspection, state: str, clock: int) -> None:
    """Books a change and derives where the inspection stands: over once it was, else what the newest change says."""
    db.execute(insert(Step).values(inspection=row.id, clock=clock, state=state, at=_right(row, clock))
               .on_conflict_do_nothing())
    steps = db.scalars(select(Step).where(Step.inspection == row.id).order_by(Step.clock, Step.state)).all()
    over = [step for step in steps if step.state in table.OVER]
    stands = over[-1] if over else steps[-1]
    before, row.ended = row.state, over[-1].at if over else None
    row.state, row.changed = "running" if stands.state == "started" else stands.state, now()
    if before != row.state:
        table.tell(db, row, "inspection.changed")


def _photo(row: Inspection, id: str, data: Shot, upload: uploads.Upload, sum_: str, came: int) -> Photo:
    """With time and place: the phone's word first, then the file's, then ours."""
    taken, source = came, "server"
    if data.taken is not None:
        taken, source = _right(row, data.taken), "phone"
    elif upload.taken is not None:
        taken, source = min(upload.taken, came), "exif"
    elif upload.local is not None and data.zone is not None:
        stamp = round((upload.local - datetime(1970, 1, 1)).total_seconds() * 1e6) - data.zone * 60_000_000
        taken, source = _right(row, stamp), "exif"
    lat, lon, whence = data.lat, data.lon, "phone"
    if lat is None or lon is None:
        (lat, lon), whence = upload.place or (None, None), "exif" if upload.place else ""
    flat = data.east is not None and data.north is not None
    return Photo(
        id=id, inspection=row.id, digest=sum_, taken=max(taken, 1), taken_clock=data.taken, taken_from=source, lat=lat,
        lon=lon, accuracy=data.accuracy if whence == "phone" else None, place_from=whence or ("phone" if flat else ""),
        east=data.east if flat else None, north=data.north if flat else None, checkpoint=data.checkpoint,
        camera=data.camera, note=data.note, width=upload.width, height=upload.height, received=now(), far=False,
        visit=False, unproven=False,
    )  # fmt: skip


def _verdict(photo: Photo, verdict: Verdict | None) -> Seen:
    if verdict is None:
        return Seen("waiting")
    if verdict.refused:
        return Seen("refused", refused=verdict.refused)
    return Seen("done", worst(verdict), verdict.worn, verdict.incorrect, verdict.none, verdict.unknown,
                [msgspec.convert(face, FaceSeen) for face in verdict.faces], verdict.models,
                seconds=round((verdict.seen - photo.received).total_seconds(), 3))


def worst(verdict: Verdict) -> Any:
    return next((state for state in ("none", "incorrect", "unknown", "worn") if getattr(verdict, state)), "nobody")


def _taken(p: Photo, verdict: Verdict | None) -> Taken:
    return Taken(
        p.id, p.inspection, p.frame, p.taken, p.taken_clock, p.taken_from, p.received, p.lat, p.lon, p.accuracy,
        p.place_from, p.east, p.north, p.checkpoint, p.distance, p.far, p.visit, p.note, p.width, p.height,
        f"/v1/inspections/{p.inspection}/photos/{p.id}/picture", _verdict(p, verdict), p.camera, p.against, p.unproven,
    )  # fmt: skip


def _brief(row: Inspection) -> Brief:
    return Brief(row.id, row.user, "", row.site, row.round, row.state, row.started, row.ended, row.note)  # type: ignore[arg-type]


def _count(db: Session, items: Sequence[Brief]) -> None:
    """Fills in names and counts."""
    by_id = {item.id: item for item in items}
    names = {id: full_name or name for id, name, full_name in db.execute(
        select(User.id, User.name, User.full_name).where(User.id.in_({item.user for item in items})))}
    for item in items:
        item.user_name = names.get(item.user, "")
    for id_, *counts in db.execute(
            select(Photo.inspection, func.count(), func.count().filter(Verdict.frame.is_(None)),
                   *(func.coalesce(func.sum(getattr(Verdict, state)), 0) for state in table.STATES),
                   func.count().filter(Photo.far), func.count().filter(Photo.unproven))
            .outerjoin(Verdict, Verdict.frame == Photo.frame).where(Photo.inspection.in_(by_id))
            .group_by(Photo.inspection)):
        for name, value in zip(("photos", "waiting", *table.STATES, "far", "unproven"), counts, strict=True):
            setattr(by_id[id_], name, int(value))
    for id_, count in db.execute(select(Point.inspection, func.count()).where(Point.inspection.in_(by_id))
                                 .group_by(Point.inspection)):
        by_id[id_].points = count


def _whole(db: Session, row: Inspection) -> Whole:
    db.flush()
    brief = _brief(row)
    whole = Whole(**msgspec.structs.asdict(brief), device=row.device, radius=row.radius, skew=row.skew,
                  started_clock=row.started_clock, received=row.received)
    _count(db, [whole])
    whole.steps = [Moved(s.state, s.at, s.clock, s.received) for s in db.scalars(
        select(Step).where(Step.inspection == row.id).order_by(Step.clock, Step.state))]
    whole.checkpoints = stops(db, row)
    return whole


def stops(db: Session, row: Inspection) -> list[Stop]:
    """The checkpoints of its planned route in their order, and which were visited."""
    if not row.round:
        return []
    points = db.scalars(select(Checkpoint).where(Checkpoint.round == row.round, ~Checkpoint.retired)
                        .order_by(Checkpoint.number)).all()
    shots: dict[str, list[Photo]] = {}
    for photo in db.scalars(select(Photo).where(Photo.inspection == row.id, Photo.checkpoint != "")
                            .order_by(Photo.taken)):
        shots.setdefault(photo.checkpoint, []).append(photo)
    found, latest = [], 0
    for point in points:
        mine = shots.get(point.id, [])
        visits = [photo for photo in mine if photo.visit]
        at = visits[0].taken if visits else None
        found.append(Stop(point.id, point.number, point.name, bool(visits), at is None or at >= latest, at, len(mine),
                          min((p.distance for p in mine if p.against == "checkpoint" and p.distance is not None),
                              default=None),
                          bool(visits) and all(photo.unproven for photo in visits)))
        latest = max(latest, at or 0)
    return found


router = Router("/v1/inspections", tags=["inspections"], route_handlers=[
    start, change, shoot, track, note_photo, note, every, one, photos, photo_, picture, route, cameras, printed,
    remove])
