"""Sightings: who was in front of which camera and when; and the pictures of their faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import FromQuery, QueryParameter
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import fields, pictures
from api.auth import needs
from api.dependencies import By, Config, Db
from api.pages import Cursor, Limit, Page, take
from api.problems import missing
from api.ranges import LATEST, Camera, Id, Since, Site, Until
from api.tables import audit
from api.tables.sightings import FaceRow, Sighting
from pipeline.messages import STATES

SECOND = 1_000_000  # µs
AnyState = Annotated[Literal["", "worn", "incorrect", "none", "unknown"], QueryParameter(
    name="state", description="empty: all")]  # `state` itself is a name that Litestar keeps for its own
Zone = Annotated[str, QueryParameter(max_length=100, pattern=fields.CLEAN,
                                     description="of the newest look; empty: all")]


class SightingView(msgspec.Struct):
    """Somebody in front of one camera, from the first look to the last."""

    id: str  # of the track
    site: str
    camera: str
    start: int  # µs UTC
    end: int
    looks: int
    state: str  # what the looks say by now, in the end: the last word
    seconds: dict[str, float]  # by state
    zone: str
    open: bool  # may go on
    face: str  # id of the best face that has a picture; empty: none has
    privacy: str


class FaceView(msgspec.Struct):
    """A face that has a picture."""

    id: str
    track: str
    site: str
    camera: str
    at: int  # µs UTC
    look: str  # what this look says
    look_score: float
    state: str  # what the looks of its track said by then
    quality: float  # how well it can be recognised, 0..1
    box: list[float]  # pixels of the frame's picture, x0 y0 x1 y1
    zone: str


class SightingWithFaces(SightingView):
    """The same, with its pictures."""

    faces: list[FaceView] = []  # best first


def view(row: Sighting) -> SightingView:
    return SightingView(**_fields(row))


def _fields(row: Sighting) -> dict[str, Any]:
    return {
        "id": row.id, "site": row.site, "camera": row.camera, "start": row.start, "end": row.end, "looks": row.looks,
        "state": row.state, "seconds": {name: round(getattr(row, name) / SECOND, 1) for name in STATES},
        "zone": row.zone, "open": row.open, "face": row.face, "privacy": row.privacy,
    }  # fmt: skip


def face_view(row: FaceRow) -> FaceView:
    return FaceView(row.id, row.track, row.site, row.camera, row.at, row.look, row.look_score, row.state, row.quality,
                    row.box, row.zone)


def faces_of(db: Session, tracks: Sequence[str]) -> list[FaceView]:
    """The faces of tracks, best first."""
    rows = db.scalars(select(FaceRow).where(FaceRow.track.in_(tracks)).order_by(FaceRow.quality.desc(), FaceRow.id))
    return [face_view(row) for row in rows]


@get("/sightings", opt=needs("people.view"), sync_to_thread=True, summary="Sightings, newest first")
def sightings(db: Db, who: By, since: Since = 0, until: Until = LATEST, site: Site = "", camera: Camera = "",
              zone: Zone = "", wore: AnyState = "", open: FromQuery[bool | None] = None,
              pictured: Annotated[bool, QueryParameter(description="only those of whom there is a picture")] = False,
              cursor: Cursor = None, limit: Limit = 100) -> Page[SightingView]:
    """Those that began in [since, until). `state`: the last word."""
    query = select(Sighting).where(who.scope("people.view").where(Sighting.site, Sighting.camera),
                                   Sighting.start >= since, Sighting.start < until)
    for column, wanted in ((Sighting.site, site), (Sighting.camera, camera), (Sighting.zone, zone),
                           (Sighting.state, wore)):
        if wanted:
            query = query.where(column == wanted)
    if open is not None:
        query = query.where(Sighting.open == open)
    if pictured:
        query = query.where(Sighting.face != "")
    return take(db, query, [Sighting.start, Sighting.id], view, cursor, limit)


@get("/sightings/{id:str}", opt=needs("people.view"), sync_to_thread=True, summary="One sighting with its faces")
def sighting(db: Db, who: By, id: Id) -> SightingWithFaces:
    row = db.get(Sighting, id)
    if row is None or not who.may("people.view", row.site, row.camera):
        raise missing("sighting", id)
    return SightingWithFaces(**_fields(row), faces=faces_of(db, [id]))


@get("/faces/{id:str}", opt=needs("people.view"), sync_to_thread=True, summary="One face that has a picture")
def face(db: Db, who: By, id: Id) -> FaceView:
    row = db.get(FaceRow, id)
    if row is None or not who.may("people.view", row.site, row.camera):
        raise missing("face", id)
    return face_view(row)


@get("/faces/{id:str}/picture", opt=needs("people.view"), sync_to_thread=True, media_type="image/jpeg",
     summary="The picture of a face")
def picture(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: Id
            ) -> Response[bytes]:
    """With an ETag. Each look is in the audit log."""
    row = db.get(FaceRow, id)
    if row is None or not who.may("people.view", row.site, row.camera):
        raise missing("face", id)
    kept = pictures.store(settings).get(row.picture)
    if kept is None:
        raise missing("face with a picture", id)
    audit.look(db, who.id, "face.look", id, site=row.site, camera=row.camera, address=who.address)
    return pictures.answer(request, kept)


router = Router("/v1", route_handlers=[sightings, sighting, face, picture], tags=["sightings"])
