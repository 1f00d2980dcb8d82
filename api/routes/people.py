"""People with a name: enrolled with their consent, on watch-lists, recognised; and who the cameras' visitors are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from litestar import Request, Response, Router, delete, get, patch, post, put
from litestar.datastructures import UploadFile
from litestar.params import FromPath, FromQuery, JSONBody, MultipartBody, Parameter, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api import alerts, exempt, fields, pictures, privacy, ranges, sight, uploads, visitors
from api.auth import needs
from api.db import made_id, now
from api.dependencies import By, Config, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import Scope, Who
from api.problems import Problem, missing
from api.ranges import LATEST, Camera, Since, Site, Until
from api.routes.search import BASE64, BODY, Index, Picture
from api.routes.sightings import SightingView
from api.routes.sightings import view as sighting_view
from api.sight import FoundFace, Sight
from api.tables import audit, episodes, erased
from api.tables.episodes import EpisodeRow
from api.tables.people import Consent, Decision, PersonRow, Portrait, Watched, WatchList
from api.tables.recognised import Recognised, consenting, forget
from api.tables.trajectories import LegRow
from api.waiting import waits
from pipeline.settings import Settings

PORTRAITS = 20  # of a person, at most
MOST = 1000  # sightings of one history
Roles = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64, pattern=fields.CLEAN)]], Meta(max_length=20)]
Number = Annotated[str, Meta(max_length=64, pattern=fields.CLEAN)]
Version = Annotated[str, Meta(min_length=1, max_length=64, pattern=fields.CLEAN)]
Text = Annotated[str, Meta(min_length=1, max_length=20_000, pattern=fields.CLEAN)]
Track = Annotated[str, Meta(min_length=1, max_length=200, pattern=fields.CLEAN)]
Serial = FromPath[Annotated[int, Parameter(ge=1, le=2**53 - 1)]]


class ConsentWords(msgspec.Struct):
    """What a person agreed to."""

    version: Version  # of the words
    text: Text  # the words themselves
    given: datetime  # when the person agreed
    how: fields.Line = ""  # signed on paper, where it is kept …


class NewPerson(msgspec.Struct):
    """Somebody who agreed to be recognised."""

    name: fields.Name
    consent: ConsentWords
    site: fields.AnySite = ""  # empty: every site
    number: Number = ""  # of staff
    roles: Roles = []  # whom rules may except
    note: fields.Words = ""


class PersonChange(msgspec.Struct):
    """What is left out stays."""

    name: fields.Name | UnsetType = UNSET
    number: Number | UnsetType = UNSET
    roles: Roles | UnsetType = UNSET
    note: fields.Words | UnsetType = UNSET


class ConsentView(msgspec.Struct):
    """A consent as it was recorded."""

    id: str
    version: str
    text: str
    given: datetime
    how: str
    recorded: datetime
    by: str  # user who recorded it
    withdrawn: datetime | None
    withdrawn_by: str


class PortraitView(msgspec.Struct):
    """A photo of an enrolled person."""

    id: str
    masked: bool
    quality: float
    models: dict[str, str]
    usable: bool | None  # by the models in use now; null: these are not loaded
    created: datetime
    by: str


class PersonView(msgspec.Struct):
    """An enrolled person."""

    id: str
    site: str  # empty: every site
    name: str
    number: str
    roles: list[str]
    note: str
    created: datetime
    by: str
    withdrawn: datetime | None  # consent was taken back
    portraits: int
    lists: list[str]  # ids of watch-lists


class PersonDetail(PersonView):
    """The same, with consents and portraits."""

    consents: list[ConsentView] = []
    pictures: list[PortraitView] = []


class NewPortrait(msgspec.Struct):
    """A photo as base64."""

    picture: Picture
    face: Index | None = None


class PortraitFile(msgspec.Struct):
    """The same as a file of a form."""

    picture: UploadFile
    face: Index | None = None


class PortraitTaken(msgspec.Struct):
    """A portrait that is kept, and what was thought of it."""

    portrait: PortraitView
    face: FoundFace
    hints: list[str]  # masked, unlike the other portraits: it is kept, but look again


class NewList(msgspec.Struct):
    """A watch-list."""

    name: fields.Name
    site: fields.AnySite = ""  # empty: every site
    about: fields.Words = ""


class Member(msgspec.Struct):
    """Somebody on a list."""

    person: str
    name: str
    reason: str
    until: datetime | None  # ends by itself
    created: datetime
    by: str


class ListView(msgspec.Struct):
    """A watch-list."""

    id: str
    site: str
    name: str
    about: str
    created: datetime
    by: str
    people: list[Member]


class Why(msgspec.Struct):
    """Why somebody is looked out for."""

    reason: fields.Words = ""
    until: datetime | None = None


class RecognisedView(msgspec.Struct):
    """An enrolled person whom a camera saw."""

    id: str
    person: str
    name: str
    site: str
    camera: str
    track: str
    start: int  # first alike look, µs UTC
    at: int  # newest look that was compared
    looks: int  # that were alike
    chance: float  # of the most alike look, were it as likely as not beforehand
    masked: bool
    face: str
    lists: list[str]  # watch-lists the person was on then


class NewDecision(msgspec.Struct):
    """merge: visitor `subject` is visitor `object`. split: `tracks` of visitor `subject` are somebody else.
    is, not: visitor `subject` is, is not, the enrolled person `object`."""

    kind: Literal["merge", "split", "is", "not"]
    subject: Track
    object: Annotated[str, Meta(max_length=200, pattern=fields.CLEAN)] = ""
    tracks: Annotated[list[Track], Meta(max_length=200)] = []
    reason: fields.Words = ""


class DecisionView(msgspec.Struct):
    """A decision about who is who."""

    id: int
    at: datetime
    by: str
    kind: str
    site: str
    subject: str  # empty: seen where one may not look
    object: str  # the same
    tracks: list[str]  # those that were seen where one may look
    reason: str
    undone: datetime | None
    undone_by: str


class EpisodeHint(msgspec.Struct):
    """A breach of somebody; /v1/episodes has the rest."""

    id: str
    state: str
    status: str
    start: int
    end: int


class PersonHistory(msgspec.Struct):
    """Where and when somebody was seen, as far as one may know it."""

    visitors: list[str]  # every id they go under where one may look
    person: str | None  # the enrolled person they are
    name: str | None
    how: str  # decided, recognised; empty: nobody knows
    sightings: list[SightingView]  # newest first, at most 1000
    trajectories: list[str]
    episodes: list[EpisodeHint]


# -- enrolled people -------------------------------------------------------------------------------------------------


def _covers(who: Who, permission: str, site: str) -> bool:
    """What is of every site is changed only by who has it everywhere."""
    return who.may(permission, site)


def known(scope: Scope) -> Any:
    """visitors.may_know as a condition."""
    if scope.everywhere or scope.sites:
        return or_(scope.where(PersonRow.site), PersonRow.site == "")
    return scope.where(PersonRow.site)


def own(db: Session, who: Who, id: str, permission: str = "people.view") -> PersonRow:
    row = db.get(PersonRow, id)
    if row is None or not visitors.may_know(who.scope("people.view"), row):
        raise missing("person", id)
    if permission != "people.view" and not _covers(who, permission, row.site):
        raise Problem(403, "not allowed", f"expected the permission {permission} for "
                      f"{row.site or 'every site'}, {who.name} does not have it")
    return row


def held(db: Session, who: Who, id: str, permission: str) -> PersonRow:
    """The same, kept from others until the request ends: whoever adds to what is known of somebody waits for whoever
    ends it, and the other way round."""
    own(db, who, id, permission)
    if db.get(PersonRow, id, with_for_update=True, populate_existing=True) is None:
        raise missing("person", id)
    return own(db, who, id, permission)


def person_view(db: Session, row: PersonRow) -> PersonView:
    count = db.scalar(select(func.count()).where(Portrait.person == row.id)) or 0
    lists = db.scalars(select(Watched.list).where(Watched.person == row.id).order_by(Watched.list)).all()
    return PersonView(row.id, row.site, row.name, row.number, row.roles, row.note, row.created, row.by, row.withdrawn,
                      count, list(lists))


def portrait_view(row: Portrait, space: str | None) -> PortraitView:
    return PortraitView(row.id, row.masked, row.quality, row.models, None if space is None else row.space == space,
                        row.created, row.by)


@get("/people", opt=needs("people.view"), sync_to_thread=True, summary="Enrolled people, by name")
def people(db: Db, who: By, site: Site = "",
           name: Annotated[str, QueryParameter(max_length=120, pattern=fields.CLEAN, description="part of it")] = "",
           cursor: Cursor = None, limit: Limit = 100) -> Page[PersonView]:
    query = select(PersonRow).where(known(who.scope("people.view")))
    if site:
        query = query.where(PersonRow.site == site)
    if name:
        query = query.where(func.lower(PersonRow.name).contains(name.lower(), autoescape=True))
    return take(db, query, [PersonRow.name, PersonRow.id], lambda row: person_view(db, row), cursor, limit, False)


@post("/people", opt=needs("people.add"), sync_to_thread=True, summary="Enrol somebody who agreed")
def enrol(db: Db, who: By, data: JSONBody[NewPerson]) -> PersonDetail:
    """Without photos nobody is recognised: POST /v1/people/{id}/portraits."""
    if not _covers(who, "people.add", data.site):
        raise Problem(403, "not allowed", f"expected the permission people.add for {data.site or 'every site'}")
    _past(data.consent.given)
    row = PersonRow(id=made_id(), site=data.site, name=data.name, number=data.number, roles=data.roles, note=data.note,
                    by=who.id)
    db.add(row)
    db.flush()
    db.add(Consent(person=row.id, version=data.consent.version, text=data.consent.text, given=data.consent.given,
                   how=data.consent.how, by=who.id))
    db.flush()
    audit.write(db, who.id, "person.enrol", row.id, site=row.site, address=who.address, consent=data.consent.version)
    return detail(db, row, None)


def _past(given: datetime) -> None:
    if given.tzinfo is None or not 1990 <= given.year <= 2100 or given > now():
        raise Problem(422, "no consent", f"expected a time of consent that is past and has a time zone, got {given}")


def detail(db: Session, row: PersonRow, space: str | None) -> PersonDetail:
    view = person_view(db, row)
    consents = db.scalars(select(Consent).where(Consent.person == row.id).order_by(Consent.recorded)).all()
    portraits = db.scalars(select(Portrait).where(Portrait.person == row.id).order_by(Portrait.created)).all()
    return PersonDetail(**msgspec.structs.asdict(view), consents=[
        ConsentView(c.id, c.version, c.text, c.given, c.how, c.recorded, c.by, c.withdrawn, c.withdrawn_by)
        for c in consents], pictures=[portrait_view(each, space) for each in portraits])


@get("/people/{id:str}", opt=needs("people.view"), sync_to_thread=True, summary="One enrolled person")
def person(request: Request[Any, Any, Any], db: Db, who: By, id: ranges.Id) -> PersonDetail:
    return detail(db, own(db, who, id), None)


@patch("/people/{id:str}", opt=needs("people.edit"), sync_to_thread=True, summary="Change an enrolled person")
def change(db: Db, who: By, id: ranges.Id, data: JSONBody[PersonChange]) -> PersonDetail:
    row = own(db, who, id, "people.edit")
    changed = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
    for name, value in changed.items():
        setattr(row, name, value)
    audit.write(db, who.id, "person.edit", id, site=row.site, address=who.address, changed=sorted(changed))
    db.flush()
    return detail(db, row, None)


@delete("/people/{id:str}", opt=needs("people.remove"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Forget who somebody is")
def remove(db: Db, who: By, settings: Config, id: ranges.Id) -> None:
    """Name, consents, portraits and recognitions go. What cameras saw of them stays, without a name: POST
    /v1/erasures removes that too."""
    alerts.quiet(db)
    row = held(db, who, id, "people.remove")
    _unlearn(db, settings, id)
    db.execute(sql_delete(Decision).where(Decision.object == id, Decision.kind.in_(("is", "not"))))
    site = row.site
    db.delete(row)
    audit.write(db, who.id, "person.remove", id, site=site, address=who.address)


def _unlearn(db: Session, settings: Settings, person: str) -> int:
    """Portraits with their pictures, and every recognition; -> portraits."""
    rows = db.scalars(select(Portrait).where(Portrait.person == person)).all()
    pictures.store(settings).delete([row.picture for row in rows])
    db.execute(sql_delete(Portrait).where(Portrait.person == person))
    forget(db, person)
    return len(rows)


@post("/people/{id:str}/consents", opt=needs("people.edit"), sync_to_thread=True, summary="Record another consent")
def agree(db: Db, who: By, id: ranges.Id, data: JSONBody[ConsentWords]) -> PersonDetail:
    """To new words, or again after it was taken back: then portraits have to be taken anew."""
    row = held(db, who, id, "people.edit")
    _past(data.given)
    row.withdrawn = None
    db.add(Consent(person=id, version=data.version, text=data.text, given=data.given, how=data.how, by=who.id))
    audit.write(db, who.id, "person.consent", id, site=row.site, address=who.address, version=data.version)
    db.flush()
    return detail(db, row, None)


@post("/people/{id:str}/withdrawal", opt=needs("people.edit"), sync_to_thread=True, status_code=200,
      summary="Record that somebody took their consent back")
def withdraw(db: Db, who: By, settings: Config, id: ranges.Id) -> PersonDetail:
    """Their vectors, portraits and recognitions go at once; name and consents stay as the proof of it."""
    alerts.quiet(db)
    row = held(db, who, id, "people.edit")
    row.withdrawn = row.withdrawn or now()
    db.execute(update(Consent).where(Consent.person == id, Consent.withdrawn.is_(None))
               .values(withdrawn=row.withdrawn, withdrawn_by=who.id))
    db.execute(sql_delete(Watched).where(Watched.person == id))
    gone = _unlearn(db, settings, id)
    audit.write(db, who.id, "person.withdraw", id, site=row.site, address=who.address, portraits=gone)
    db.flush()
    return detail(db, row, None)


@post("/people/{id:str}/portraits", opt=needs("people.edit"), request_max_body_size=BASE64,
      summary="Add a photo, in base64")
@waits
def portray(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: ranges.Id,
            data: JSONBody[NewPortrait]) -> PortraitTaken:
    """Refused (422, with what is wrong) when the face is too small, blurred or turned away. Several photos make
    recognition better: with and without glasses, with a mask."""
    return _portray(db, who, settings, sight.of(request.app.state), id, data.picture, data.face)


@post("/people/{id:str}/portraits/upload", opt=needs("people.edit"), request_max_body_size=BODY,
      summary="Add a photo, as a file")
@waits
def portray_file(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: ranges.Id,
                 data: MultipartBody[PortraitFile]) -> PortraitTaken:
    """As POST /v1/people/{id}/portraits, as a form."""
    content = data.picture.file.read(uploads.MOST_BYTES + 1)
    return _portray(db, who, settings, sight.of(request.app.state), id, content, data.face)


def _portray(db: Session, who: Who, settings: Settings, eyes: Sight, id: str, content: bytes, index: int | None
             ) -> PortraitTaken:
    _wanted(db, own(db, who, id, "people.edit"))
    image = eyes.read(content)
    faces = eyes.look(image)
    chosen = sight.choose(faces, index)
    seen = faces[chosen]
    if faults := sight.good_portrait(seen):
        raise Problem(422, "not good enough", "; ".join(faults), quality=seen.quality, box=seen.box)
    vector = eyes.embed(image, [seen])[0].astype(np.float32)
    space = eyes.space(len(vector))
    row = held(db, who, id, "people.edit")  # the models took their time
    others = _wanted(db, row)
    alike = [float(np.frombuffer(each.vector, np.float32) @ vector) for each in others if each.space == space]
    hints = ["the face wears a mask: take one without, too"] if seen.masked else []
    if alike and max(alike) < 0.2:
        hints.append(f"unlike the photos that are there (cosine {max(alike):.2f}): is it the same person?")
    id_ = made_id()
    portrait = Portrait(id=id_, person=id, space=space, vector=vector.tobytes(), masked=seen.masked,
                        quality=seen.quality, models=eyes.names, picture=f"people/{id}/{id_}.jpg", by=who.id)
    db.add(portrait)
    audit.write(db, who.id, "portrait.add", id, site=row.site, address=who.address, portrait=id_)
    db.flush()
    pictures.store(settings).put(portrait.picture, sight.chip(image, seen))  # last: whatever is refused leaves none
    return PortraitTaken(portrait_view(portrait, space), sight.view(image, faces).faces[chosen], hints)


def _wanted(db: Session, row: PersonRow) -> Sequence[Portrait]:
    """The photos there are. Raises Problem 409 for somebody of whom no further one may be kept."""
    if row.withdrawn:
        raise Problem(409, "no consent", "expected a person whose consent holds; it was taken back")
    others = db.scalars(select(Portrait).where(Portrait.person == row.id)).all()
    if len(others) >= PORTRAITS:
        raise Problem(409, "enough photos", f"expected at most {PORTRAITS} photos of a person; remove one first")
    return others


@get("/people/{id:str}/portraits/{portrait:str}", opt=needs("people.view"), sync_to_thread=True,
     media_type="image/jpeg", summary="A photo of an enrolled person")
def portrait_picture(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, id: ranges.Id,
                     portrait: ranges.Id) -> Response[bytes]:
    """With an ETag. Each look is in the audit log."""
    row = own(db, who, id)
    found = db.get(Portrait, portrait)
    picture = pictures.store(settings).get(found.picture) if found and found.person == id else None
    if picture is None:
        raise missing("portrait", portrait)
    audit.write(db, who.id, "portrait.look", id, site=row.site, address=who.address, portrait=portrait)
    return pictures.answer(request, picture)


@delete("/people/{id:str}/portraits/{portrait:str}", opt=needs("people.edit"), sync_to_thread=True,
        status_code=HTTP_204_NO_CONTENT, summary="Remove a photo")
def remove_portrait(db: Db, who: By, settings: Config, id: ranges.Id, portrait: ranges.Id
                    ) -> None:
    row = own(db, who, id, "people.edit")
    found = db.get(Portrait, portrait)
    if found is None or found.person != id:
        raise missing("portrait", portrait)
    pictures.store(settings).delete([found.picture])
    db.delete(found)
    audit.write(db, who.id, "portrait.remove", id, site=row.site, address=who.address, portrait=portrait)


# -- watch-lists and recognitions ------------------------------------------------------------------------------------


def own_list(db: Session, who: Who, id: str, permission: str = "people.view") -> WatchList:
    row = db.get(WatchList, id)
    scope = who.scope("people.view")
    if row is None or not (scope.covers(row.site) if row.site else scope.everywhere or scope.sites):
        raise missing("watch-list", id)
    if permission != "people.view" and not _covers(who, permission, row.site):
        raise Problem(403, "not allowed", f"expected the permission {permission} for {row.site or 'every site'}")
    return row


def list_view(db: Session, who: Who, row: WatchList) -> ListView:
    found = db.execute(select(Watched, PersonRow).join(PersonRow, PersonRow.id == Watched.person)
                       .where(Watched.list == row.id).order_by(PersonRow.name, PersonRow.id)).all()
    scope = who.scope("people.view")
    return ListView(row.id, row.site, row.name, row.about, row.created, row.by, [
        Member(w.person, p.name, w.reason, w.until, w.created, w.by) for w, p in found if visitors.may_know(scope, p)])


@get("/watch-lists", opt=needs("people.view"), sync_to_thread=True, summary="Watch-lists with who is on them")
def lists(db: Db, who: By) -> list[ListView]:
    scope = who.scope("people.view")
    rows = db.scalars(select(WatchList).order_by(WatchList.name, WatchList.id))
    return [list_view(db, who, row) for row in rows
            if (scope.covers(row.site) if row.site else scope.everywhere or scope.sites)]


@post("/watch-lists", opt=needs("people.add"), sync_to_thread=True, summary="Make a watch-list")
def add_list(db: Db, who: By, data: JSONBody[NewList]) -> ListView:
    if not _covers(who, "people.add", data.site):
        raise Problem(403, "not allowed", f"expected the permission people.add for {data.site or 'every site'}")
    row = WatchList(id=made_id(), site=data.site, name=data.name, about=data.about, by=who.id)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "list.add", row.id, site=row.site, address=who.address)
    return list_view(db, who, row)


@delete("/watch-lists/{id:str}", opt=needs("people.remove"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Remove a watch-list")
def remove_list(db: Db, who: By, id: ranges.Id) -> None:
    row = own_list(db, who, id, "people.remove")
    audit.write(db, who.id, "list.remove", id, site=row.site, address=who.address)
    db.delete(row)


@put("/watch-lists/{id:str}/people/{person_id:str}", opt=needs("people.edit"), sync_to_thread=True,
     summary="Put somebody on a list")
def watch(db: Db, who: By, id: ranges.Id, person_id: ranges.Id, data: JSONBody[Why]
          ) -> ListView:
    """Every recognition of them is then told as `watchlist.hit`, and an alert rule may be made of it."""
    row, whom = own_list(db, who, id, "people.edit"), own(db, who, person_id)
    if whom.id not in consenting(db, [whom.id]):
        raise Problem(409, "no consent", "expected a person whose consent holds; it was taken back")
    if data.until is not None and (data.until.tzinfo is None or not 1990 <= data.until.year <= 2100):
        raise Problem(422, "no such time", f"expected a time with a time zone before 2101, got {data.until}")
    db.merge(Watched(list=id, person=person_id, reason=data.reason, until=data.until, by=who.id))
    audit.write(db, who.id, "list.watch", person_id, site=row.site, address=who.address, list=id)
    db.flush()
    return list_view(db, who, row)


@delete("/watch-lists/{id:str}/people/{person_id:str}", opt=needs("people.edit"), sync_to_thread=True,
        status_code=HTTP_204_NO_CONTENT, summary="Take somebody off a list")
def unwatch(db: Db, who: By, id: ranges.Id, person_id: ranges.Id) -> None:
    row = own_list(db, who, id, "people.edit")
    own(db, who, person_id)
    db.execute(sql_delete(Watched).where(Watched.list == id, Watched.person == person_id))
    audit.write(db, who.id, "list.unwatch", person_id, site=row.site, address=who.address, list=id)


@get("/recognised", opt=needs("people.view"), sync_to_thread=True, summary="Whom cameras recognised, newest first")
def recognised(db: Db, who: By, since: Since = 0, until: Until = LATEST, site: Site = "", camera: Camera = "",
               person: Annotated[str, QueryParameter(pattern="^([0-9a-f]{32})?$")] = "",
               watched: FromQuery[bool] = False, cursor: Cursor = None, limit: Limit = 100) -> Page[RecognisedView]:
    """Only at `enrolled` sites, and only what is sure. Somebody who was decided not to be the person is left out.
    `watched`: only those who were on a watch-list then."""
    query = select(Recognised).where(who.scope("people.view").where(Recognised.site, Recognised.camera),
                                     Recognised.sure, Recognised.at >= since, Recognised.at < until)
    for column, wanted in ((Recognised.site, site), (Recognised.camera, camera), (Recognised.person, person)):
        if wanted:
            query = query.where(column == wanted)
    if watched:
        query = query.where(func.cardinality(Recognised.lists) > 0)
    links = visitors.links(db)
    refused = [(subject, id_) for subject, said in links.named.items() for id_, yes in said.items() if not yes]
    for subject, id_ in refused:
        tracks = {leg.track for leg in visitors.legs(db, links, subject)} | {subject}
        query = query.where(or_(Recognised.person != id_, Recognised.track.notin_(tracks)))
    names = dict(db.execute(select(PersonRow.id, PersonRow.name).where(known(who.scope("people.view")))).all())
    query = query.where(Recognised.person.in_(names))
    return take(db, query, [Recognised.at, Recognised.id], lambda row: RecognisedView(
        row.id, row.person, names[row.person], row.site, row.camera, row.track, row.start, row.at, row.looks,
        row.chance, row.masked, row.face, row.lists), cursor, limit)


# -- visitors --------------------------------------------------------------------------------------------------------


def history_of(db: Session, who: Who, links: visitors.Links, those: Sequence[str]) -> PersonHistory:
    """Of visitors that are one person."""
    scope = who.scope("people.view")
    rows = [row for each in those for row in visitors.tracks(db, links, each) if scope.covers(row.site, row.camera)]
    rows.sort(key=lambda row: (-row.start, row.id))
    ids = sorted({member for each in those for member in links.members(each)})
    routes = db.scalars(select(LegRow.trajectory).where(LegRow.track.in_([row.id for row in rows])).distinct()).all()
    breaches = db.scalars(select(EpisodeRow).where(
        EpisodeRow.person.in_(ids), episodes.visible(who.scope("compliance.view")))
        .order_by(EpisodeRow.start.desc()).limit(MOST)).all()
    by = visitors.named(db, links, {those[0]: [row.id for row in rows]}, scope) if those else {}
    name = by.get(those[0]) if those else None
    places = visitors.places(db, ids)
    ids = [id_ for id_ in ids if id_ in places and scope.covers(*places[id_])]
    return PersonHistory(ids, name and name.person, name and name.name, name.how if name else "",
                   [sighting_view(row) for row in rows[:MOST]], sorted(routes),
                   [EpisodeHint(e.id, e.state, e.status, e.start, e.end) for e in breaches])


@get("/visitors/{id:str}", opt=needs("people.view"), sync_to_thread=True,
     summary="Where and when somebody was seen, whoever they are")
def visitor(db: Db, who: By, id: ranges.Id) -> PersonHistory:
    """The id is that of a route, or of a track that is on none. Merges and splits are taken into account."""
    links = visitors.links(db)
    found = history_of(db, who, links, [links.head(id)])
    if not found.sightings:
        raise missing("visitor", id)
    site = found.sightings[0].site
    audit.write(db, who.id, "visitor.look", id, site=site, address=who.address)
    return found


@get("/people/{id:str}/history", opt=needs("people.view"), sync_to_thread=True,
     summary="Where and when an enrolled person was seen")
def history(db: Db, who: By, id: ranges.Id) -> PersonHistory:
    row = own(db, who, id)
    links = visitors.links(db)
    audit.write(db, who.id, "person.look", id, site=row.site, address=who.address)
    found = history_of(db, who, links, visitors.of_person(db, links, id))
    found.person, found.name = id, row.name
    return found


# -- who is who ------------------------------------------------------------------------------------------------------


def decision_view(row: Decision) -> DecisionView:
    return DecisionView(row.id, row.at, row.by, row.kind, row.site, row.subject, row.object, row.tracks, row.reason,
                        row.undone, row.undone_by)


def _about(row: Decision) -> set[str]:
    """Visitors and tracks that a decision names."""
    return {row.subject, *row.tracks, *([row.object] if row.kind in ("merge", "split") else ())}


@get("/decisions", opt=needs("people.view"), sync_to_thread=True, summary="What was decided about who is who")
def decisions(db: Db, who: By, subject: Annotated[str, QueryParameter(max_length=200, pattern=fields.CLEAN)] = "",
              cursor: Cursor = None, limit: Limit = 100) -> Page[DecisionView]:
    """Newest first, undone ones among them. `subject`: only those about this visitor. Who and what was seen where one
    may not look is left out of it."""
    scope = who.scope("people.view")
    query = select(Decision).where(scope.where(Decision.site))
    if subject:
        query = query.where(or_(Decision.subject == subject, Decision.object == subject))
    page: Page[Decision] = take(db, query, [Decision.id], lambda row: row, cursor, limit)
    places = visitors.places(db, {id_ for row in page.items for id_ in _about(row)})
    mine = {id_ for id_, place in places.items() if scope.covers(*place)}
    mine |= set(db.scalars(select(PersonRow.id).where(
        known(scope), PersonRow.id.in_({row.object for row in page.items}))))

    def shown(row: Decision) -> DecisionView:
        view = decision_view(row)
        if not scope.everywhere:
            view.tracks = [track for track in row.tracks if track in mine]
            view.subject, view.object = (id_ if id_ in mine else "" for id_ in (row.subject, row.object))
        return view

    return Page([shown(row) for row in page.items], page.next)


def _stretches(db: Session, who: Who, links: visitors.Links, visitor_id: str) -> list[tuple[str, str, str]]:
    """Track, site and camera of all a visitor is; every one must be the user's to decide about."""
    rows = visitors.tracks(db, links, visitor_id)
    legs = visitors.legs(db, links, visitor_id)
    found = {row.id: (row.site, row.camera) for row in rows} | {leg.track: (leg.site, leg.camera) for leg in legs}
    view = who.scope("people.view")
    if not any(view.covers(*place) for place in found.values()):
        raise missing("visitor", visitor_id)
    if not all(who.may("people.review", *place) for place in found.values()):
        raise Problem(403, "not allowed", "expected the permission people.review wherever this visitor was seen")
    order = {row.id: row.start for row in rows} | {leg.track: leg.start for leg in legs}
    return [(track, *found[track]) for track in sorted(found, key=lambda t: (order[t], t))]


@post("/decisions", opt=needs("people.review"), sync_to_thread=True, summary="Decide who is who")
def decide(db: Db, who: By, data: JSONBody[NewDecision]) -> DecisionView:
    """Kept apart from what the stream says, so that a rebuild changes nothing about it; may be undone."""
    erased.together(db)
    links = visitors.links(db)
    ours = _stretches(db, who, links, data.subject)
    object_, tracks = data.object, list[str]()
    if data.kind == "merge":
        _stretches(db, who, links, object_)
        if links.head(object_) == links.head(data.subject):
            raise Problem(409, "already one", "expected two visitors that are not one yet")
    elif data.kind == "split":
        there = [track for track, _, _ in ours]
        tracks = [track for track in there if track in set(data.tracks)]
        if len(tracks) != len(set(data.tracks)) or not 0 < len(tracks) < len(there):
            raise Problem(422, "not tracks of this visitor", f"expected some but not all of the {len(there)} tracks "
                          f"of {data.subject}, got {len(set(data.tracks))} of which {len(tracks)} are theirs")
        object_ = tracks[0]
    else:
        own(db, who, object_)
        allowed = privacy.now_of(db, {(site, camera) for _, site, camera in ours})
        unnamed = sorted({site for (site, _), now in allowed.items() if now != "enrolled"})
        if data.kind == "is" and unnamed:
            raise Problem(409, "no names there", "expected a visitor of `enrolled` sites alone: nobody has a name at "
                          f"{unnamed[0]}")
    exempt.hold(db, {site for _, site, _ in ours})
    row = Decision(by=who.id, kind=data.kind, site=ours[0][1], subject=data.subject, object=object_, tracks=tracks,
                   reason=data.reason)
    db.add(row)
    db.flush()
    audit.write(db, who.id, f"decision.{data.kind}", data.subject, site=row.site, address=who.address,
                object=object_, id=row.id)
    _spare(db, row)
    return decision_view(row)


def _spare(db: Session, decision: Decision) -> None:
    """Who is who decides whom a rule spares."""
    links = visitors.links(db)
    exempt.of_tracks(db, {decision.subject, decision.object, *decision.tracks, *links.members(decision.subject),
                          *links.members(decision.object)})


@post("/decisions/{id:int}/undo", opt=needs("people.review"), sync_to_thread=True, status_code=200,
      summary="Undo a decision")
def undo(db: Db, who: By, id: Serial) -> DecisionView:
    """All is as if it had never been made; again: nothing changes."""
    row = db.get(Decision, id)
    if row is None or not who.may("people.view", row.site):
        raise missing("decision", str(id))
    links = visitors.links(db)
    seen = {leg.track for id_ in _about(row) for leg in visitors.legs(db, links, id_)} | _about(row)
    if not all(who.may("people.review", *place) for place in ((row.site,), *visitors.places(db, seen).values())):
        raise Problem(403, "not allowed", "expected the permission people.review wherever these visitors were seen")
    if row.undone is None:
        exempt.hold(db, [row.site])
        row.undone, row.undone_by = now(), who.id
        audit.write(db, who.id, "decision.undo", row.subject, site=row.site, address=who.address, id=id)
        db.flush()
        _spare(db, row)
    return decision_view(row)


router = Router("/v1", route_handlers=[
    people, enrol, person, change, remove, agree, withdraw, portray, portray_file, portrait_picture, remove_portrait,
    history, lists, add_list, remove_list, watch, unwatch, recognised, visitor, decisions, decide, undo,
], tags=["people"])  # fmt: skip
