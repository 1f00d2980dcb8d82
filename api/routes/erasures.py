"""Erasing somebody everywhere, with a report; and how long what is kept is kept."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Router, get, post, put
from litestar.params import FromPath, JSONBody
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from api import erasure, fields, photo_faces, ranges, sight
from api.auth import needs
from api.db import now
from api.dependencies import By, Config, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import Who
from api.problems import Problem, missing
from api.routes.people import Track, own
from api.tables import audit
from api.tables import retention as kept
from api.tables.erased import Erasure
from api.waiting import waits

Id = Annotated[str, Meta(max_length=36, pattern="^([0-9a-f]{32})?$")]


class ErasureWish(msgspec.Struct):
    """Whom to erase: an enrolled person, a visitor, or what a search found. At least one of them."""

    reason: Annotated[str, Meta(min_length=1, max_length=2000, pattern=fields.CLEAN)]
    person: Id = ""
    visitor: Annotated[str, Meta(max_length=200, pattern=fields.CLEAN)] = ""
    tracks: Annotated[list[Track], Meta(max_length=1000)] = []
    faces: Annotated[list[Track], Meta(max_length=1000)] = []  # as those of photos, which are on no track
    topics: bool = False  # also delete the stretches of the topics that hold them, with everybody else in them
    dry: bool = False  # only say what would go


class ErasurePlan(msgspec.Struct):
    """What belongs to them."""

    person: bool  # enrolled
    visitors: int
    tracks: int
    faces: int
    episodes: int
    sites: list[str]


class ErasureView(msgspec.Struct):
    """An erasure and its report; whom it was about is not kept."""

    id: str  # empty: nothing was done yet
    at: datetime
    by: str
    site: str
    reason: str
    plan: ErasurePlan | None  # of what was found; only in the answer to the wish
    # rows by table, pictures, vectors; topics: holds, until (µs UTC); photos: searched, faces that went, those that
    # somebody has to look at; what stays
    report: dict[str, Any]


class KeptFor(msgspec.Struct):
    """How long one kind is kept at one site."""

    site: str  # empty: every site that says nothing itself
    kind: str
    about: str
    days: int
    own: bool  # somebody said so; else it is the default


class Days(msgspec.Struct):
    """null: as every site, or as the default."""

    days: Annotated[int, Meta(ge=1, le=kept.LONGEST)] | None
    site: fields.AnySite = ""  # empty: every site that says nothing itself


@post("/erasures", opt=needs("people.remove"), summary="Erase somebody everywhere")
@waits
def erase(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, data: JSONBody[ErasureWish]
          ) -> ErasureView:
    """Rows, vectors and pictures go now, and no rebuild brings them back. The report says which topics may hold
    records about them until when; `topics` deletes those stretches, for which people.remove everywhere is needed.
    Photos of inspections are searched for them: faces that are alike become unrecognisable, and the report lists the
    photos that somebody has to look at (their faces can be erased as `faces`)."""
    wish = erasure.Wish(data.person, data.visitor, tuple(data.tracks), tuple(data.faces))
    if not wish:
        raise Problem(422, "whom", "expected one of person, visitor, tracks, faces")
    home = own(db, who, data.person, "people.remove").site if data.person else ""
    if data.topics and not who.scope("people.remove").everywhere:
        raise Problem(403, "not allowed", "expected the permission people.remove everywhere: a stretch of a topic "
                      "holds everybody")
    subject = erasure.gather(db, wish)
    _allowed(who, wish, subject)
    if data.dry:
        return ErasureView("", now(), who.id, min((site for site, _ in subject.places), default=""), data.reason,
                           _plan(subject), {})
    photos = photo_faces.find(db, settings, sight.of(request.app.state), subject)
    row, subject = erasure.erase(db, settings, wish, who.id, data.reason, data.topics, partial(_allowed, who, wish),
                                 photos)
    row.site = row.site or home  # of somebody whom no camera has seen
    audit.write(db, who.id, "person.erase", row.id, site=row.site, address=who.address, topics=data.topics,
                tracks=len(subject.tracks), faces=len(subject.faces))
    db.flush()
    db.refresh(row)
    return ErasureView(row.id, row.at, row.by, row.site, row.reason, _plan(subject), row.report)


def _plan(subject: erasure.Subject) -> ErasurePlan:
    return ErasurePlan(bool(subject.person), len(subject.visitors), len(subject.tracks), len(subject.faces),
                       len(subject.episodes), sorted({site for site, _ in subject.places}))


def _allowed(who: Who, wish: erasure.Wish, subject: erasure.Subject) -> None:
    """Only who may remove wherever they were seen; of a place one does not see, nothing is told, and what nobody knows
    the place of is for those alone who may remove everywhere."""
    if subject.nowhere and not who.scope("people.remove").everywhere:
        raise missing("visitor, track or face", min(subject.nowhere))
    seen = [place for place in subject.places if who.may("people.view", *place)]
    if subject.places and not seen and not subject.person:
        raise missing("visitor, track or face", min(wish.ids))
    if not all(who.may("people.remove", *place) for place in subject.places):
        raise Problem(403, "not allowed", "expected the permission people.remove wherever this person was seen")


@get("/erasures", opt=needs("people.view"), sync_to_thread=True, summary="Erasures, newest first")
def erasures(db: Db, who: By, cursor: Cursor = None, limit: Limit = 100) -> Page[ErasureView]:
    query = select(Erasure).where(who.scope("people.view").where(Erasure.site))
    return take(db, query, [Erasure.at, Erasure.id], _view, cursor, limit)


@get("/erasures/{id:str}", opt=needs("people.view"), sync_to_thread=True, summary="One erasure with its report")
def one(db: Db, who: By, id: ranges.Id) -> ErasureView:
    row = db.get(Erasure, id)
    if row is None or not who.may("people.view", row.site):
        raise missing("erasure", id)
    return _view(row)


def _view(row: Erasure) -> ErasureView:
    return ErasureView(row.id, row.at, row.by, row.site, row.reason, None, row.report)


@get("/retention", opt=needs("people.view"), sync_to_thread=True, summary="How long each kind is kept")
def retention(db: Db, who: By) -> list[KeptFor]:
    """For every site, and for those of one's own that say otherwise. Topics have their own times: docs/privacy.md."""
    scope = who.scope("people.view")
    said = {(row.site, row.kind) for row in db.scalars(select(kept.Retention))}
    return [KeptFor(site, kind, kept.KINDS[kind][0], days, (site, kind) in said)
            for kind, sites in kept.wishes(db).items() for site, days in sorted(sites.items())
            if not site or scope.covers(site)]


@put("/retention/{kind:str}", opt=needs("people.edit"), sync_to_thread=True,
     summary="Say how long a kind is kept, at every site or at one")
def keep(db: Db, who: By, kind: FromPath[Literal["pictures", "vectors", "sightings", "recognised", "trajectories",
                                                  "episodes", "alerts", "replays", "inspections", "chat", "requests",
                                                  "audit"]],
         data: JSONBody[Days]) -> list[KeptFor]:
    """What is older goes within the hour."""
    site = data.site
    if not who.may("people.edit", site):
        raise Problem(403, "not allowed", f"expected the permission people.edit for {site or 'every site'}")
    if kind == "audit" and not who.may("system.edit", site):
        raise Problem(403, "not allowed", "expected the permission system.edit: who looks must not shorten the log "
                      "that says so")
    before = db.get(kept.Retention, (site, kind))
    if data.days is None:
        if before is not None:
            db.delete(before)
    else:
        db.execute(insert(kept.Retention).values(site=site, kind=kind, days=data.days, by=who.id)
                   .on_conflict_do_update(index_elements=["site", "kind"],
                                          set_={"days": data.days, "by": who.id, "changed": now()}))
    audit.write(db, who.id, "retention.edit", kind, site=site, address=who.address, days=data.days,
                before=before.days if before else None)
    db.flush()
    db.expire_all()
    return [each for each in retention.fn(db, who) if each.kind == kind and each.site in ("", site)]


router = Router("/v1", route_handlers=[erase, erasures, one, retention, keep], tags=["people"])
