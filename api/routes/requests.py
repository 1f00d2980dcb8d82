"""Asking for a role, for access to a camera or site, or for a new camera; granting and refusing.

Who decides must hold `requests.review` there, is never who asks, and gives nothing they do not hold themselves.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request as HttpRequest
from litestar import Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import fields, live, pages
from api.auth import needs
from api.db import made_id, now
from api.dependencies import By, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.routes.cameras import unused
from api.tables import audit, cameras, sites
from api.tables.cameras import CameraRow
from api.tables.requests import Request
from api.tables.sites import Site
from api.tables.users import Grant, Role, RolePermission, User
from pipeline.cameras import NETWORK, faults
from pipeline.capture import public
from pipeline.messages import Camera, Source

OPEN_AT_ONCE = 20  # requests of one user that wait for an answer
LONGEST = timedelta(days=3660)  # of a grant that ends

Standing = Literal["", "open", "granted", "refused", "withdrawn", "ended"]
Kind = Literal["", "role", "access", "camera"]
RoleName = Annotated[str, Meta(max_length=40, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, Meta(min_length=1, max_length=2000, pattern=fields.CLEAN)]


class Wish(msgspec.Struct):
    """A camera to be put up."""

    name: fields.Name
    address: Annotated[str, Meta(min_length=8, max_length=1000, pattern=r"^[^\x00-\x20]+$")]  # rtsp://…, http(s)://…
    place: tuple[fields.Metres, fields.Metres] | None = None  # on the site plan


class Ask(msgspec.Struct):
    """`role`: another role at a site (empty: everywhere), `instead` of one held there for a step down. `access`: to
    see a site or one camera. `camera`: a new one, described by `wish`, at `site`."""

    kind: Literal["role", "access", "camera"]
    reason: Reason
    site: fields.AnySite = ""
    camera: fields.AnyCamera = ""
    role: RoleName = ""  # of `access`: viewer, unless another is said
    instead: RoleName = ""
    until: datetime | None = None
    wish: Wish | None = None


class Allow(msgspec.Struct):
    """What is granted; what is left out is as it was asked for."""

    role: RoleName | None = None
    site: fields.AnySite | None = None
    camera: fields.AnyCamera | None = None  # of a new camera: the id it shall have
    until: datetime | None = None
    answer: fields.Words = ""


class Answer(msgspec.Struct):
    """Why not, or why no longer."""

    answer: Reason


class Asked(msgspec.Struct):
    """A request and what became of it."""

    id: str
    user: str
    user_name: str
    kind: str
    state: str  # open, granted, refused, withdrawn, ended
    site: str
    camera: str
    role: str
    instead: str
    wish: dict[str, Any]  # its address without a password
    until: datetime | None  # as wished
    reason: str
    created: datetime
    decided: datetime | None
    by: str
    by_name: str
    answer: str
    granted: dict[str, Any]
    holds: bool  # what was granted holds now


@post("/", opt=needs("requests.add"), sync_to_thread=True, summary="Ask for a role, for access, or for a camera")
def ask(db: Db, who: By, data: JSONBody[Ask]) -> Asked:
    row = Request(id=made_id(), user=who.id, kind=data.kind, site=data.site, camera=data.camera, role=data.role,
                  instead=data.instead, reason=data.reason, wanted_until=_later(data.until))
    if data.kind == "role" and not data.role:
        raise Problem(422, "no role", "expected `role`: the name of a role")
    if data.kind == "access":
        if not data.site:
            raise Problem(422, "no site", "expected `site`, and `camera` for one camera of it")
        row.role = data.role or "viewer"
    if data.kind == "camera":
        row.wish, row.role, row.instead = _wish(data), "", ""
    elif data.wish is not None:
        raise Problem(422, "wish for no camera", f"expected `wish` with kind camera only, got kind {data.kind}")
    if row.role and db.get(Role, row.role) is None:
        raise Problem(422, "no such role", f"expected the name of a role, got {row.role!r}")
    if data.instead and not any((g.role, g.site, g.camera) == (data.instead, data.site, data.camera)
                                for g in who.grants):
        raise Problem(422, "not held", f"expected in `instead` a role that you hold there, got {data.instead!r}")
    db.execute(select(User.id).where(User.id == who.id).with_for_update())  # two at once are counted one by one
    waiting = db.scalars(select(Request).where(Request.user == who.id, Request.state == "open")).all()
    if len(waiting) >= OPEN_AT_ONCE:
        raise Problem(409, "too many open requests", f"expected at most {OPEN_AT_ONCE} without an answer")
    for other in waiting:
        if _same(other, row):
            raise Problem(409, "asked already", f"request {other.id} asks for the same", request=other.id)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "request.add", row.id, site=row.site, camera=row.camera, address=who.address,
                kind=row.kind, role=row.role)
    _tell(db, row)
    return _asked(db, row)


@get("/", opt=needs("requests.view"), sync_to_thread=True, summary="One's own requests, or those one may decide")
def every(db: Db, who: By, inbox: FromQuery[bool] = False,
          standing: Annotated[Standing, QueryParameter(name="state")] = "", kind: FromQuery[Kind] = "",
          cursor: pages.Cursor = None, limit: pages.Limit = 50) -> pages.Page[Asked]:
    """`inbox=true`: of others, where one reviews requests."""
    query = select(Request)
    if inbox:
        query = query.where(who.scope("requests.review").where(Request.site, Request.camera), Request.user != who.id)
    else:
        query = query.where(Request.user == who.id)
    if standing:
        query = query.where(Request.state == standing)
    if kind:
        query = query.where(Request.kind == kind)
    return pages.take(db, query, (Request.created, Request.id), lambda row: _asked(db, row), cursor, limit)


@get("/{id:uuid}", opt=needs("requests.view"), sync_to_thread=True, summary="One request")
def one(db: Db, who: By, id: FromPath[UUID]) -> Asked:
    return _asked(db, _visible(db, who, id))


@post("/{id:uuid}/grant", opt=needs("requests.review"), sync_to_thread=True, status_code=200, summary="Grant it")
def grant(request: HttpRequest[Any, Any, Any], db: Db, who: By, id: FromPath[UUID], data: JSONBody[Allow]) -> Asked:
    """With a scope and an end of one's own, or as it was asked for. What ends, ends by itself."""
    row = _decide(db, who, id)
    user = db.get(User, row.user)
    if user is None or not user.active:
        raise Problem(409, "no such user", "expected a request of somebody who may log in")
    until = _later(data.until) if data.until is not None else row.wanted_until
    if until is not None and until <= now():
        raise Problem(422, "over already", f"expected `until` in the future, got {until.isoformat()}")
    site = row.site if data.site is None else data.site
    camera = row.camera if data.camera is None else data.camera
    if row.kind == "camera":
        _put_up(request.app.state.producer, db, who, row, site, camera)
    else:
        _give(db, who, row, data.role or row.role, site, camera, until)
    _close(db, who, row, "granted", data.answer)
    return _asked(db, row)


@post("/{id:uuid}/refuse", opt=needs("requests.review"), sync_to_thread=True, status_code=200, summary="Refuse it")
def refuse(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Answer]) -> Asked:
    row = _decide(db, who, id)
    _close(db, who, row, "refused", data.answer)
    return _asked(db, row)


@post("/{id:uuid}/withdraw", opt=needs("requests.remove"), sync_to_thread=True, status_code=200,
      summary="Withdraw one's own request")
def withdraw(db: Db, who: By, id: FromPath[UUID]) -> Asked:
    row = _visible(db, who, id, lock=True)
    if row.user != who.id:
        raise Problem(403, "not allowed", "expected a request of one's own")
    if row.state != "open":
        raise Problem(409, "decided already", f"expected an open request, this one is {row.state}")
    _close(db, who, row, "withdrawn", "")
    return _asked(db, row)


@post("/{id:uuid}/end", opt=needs("requests.review"), sync_to_thread=True, status_code=200,
      summary="End what was granted before its time")
def end(db: Db, who: By, id: FromPath[UUID], data: JSONBody[Answer]) -> Asked:
    row = _visible(db, who, id, lock=True)
    if row.state != "granted" or not row.grant:
        raise Problem(409, "nothing to end", f"expected a granted role or access, this request is {row.state}")
    given = row.granted
    if row.user == who.id or not who.may("requests.review", given["site"], given["camera"]):
        raise Problem(403, "not allowed", "expected the permission requests.review there, and a request of another")
    db.execute(delete(Grant).where(Grant.id == row.grant, Grant.user == row.user))
    _close(db, who, row, "ended", data.answer)
    return _asked(db, row)


# -- deciding ---------------------------------------------------------------------------------------------------------


def _visible(db: Session, who: Who, id: UUID, lock: bool = False) -> Request:
    row = db.get(Request, id.hex, with_for_update=lock)
    if row is None or not (row.user == who.id or who.may("requests.review", row.site, row.camera)):
        raise missing("request", id.hex)
    return row


def _decide(db: Session, who: Who, id: UUID) -> Request:
    """An open request of another, locked. Raises Problem."""
    row = _visible(db, who, id, lock=True)
    if row.user == who.id:
        raise Problem(403, "not allowed", "expected a request of somebody else: nobody decides about their own")
    if row.state != "open":
        raise Problem(409, "decided already", f"expected an open request, this one is {row.state}")
    return row


def _give(db: Session, who: Who, row: Request, role: str, site: str, camera: str, until: datetime | None) -> None:
    """The role, there, until then. Raises Problem for more than the approver holds."""
    wanted = set(db.scalars(select(RolePermission.permission).where(RolePermission.role == role)))
    if db.get(Role, role) is None:
        raise Problem(422, "no such role", f"expected the name of a role, got {role!r}")
    if not who.may("requests.review", site, camera):
        raise Problem(403, "not allowed", f"expected the permission requests.review {_there(site, camera)}")
    lacking = sorted(each for each in wanted if not who.may(each, site, camera))
    if lacking:
        raise Problem(403, "more than you hold", f"{role} allows {', '.join(lacking)}, which you may not "
                                                 f"{_there(site, camera)}", lacking=lacking)
    if camera and db.scalar(select(CameraRow.id).where(CameraRow.id == camera, CameraRow.site == site)) is None:
        raise Problem(409, "no such camera", f"expected a camera of {site}, got {camera!r}")
    there = db.scalar(select(Grant).where(Grant.user == row.user, Grant.role == role, Grant.site == site,
                                          Grant.camera == camera).with_for_update())
    if there is not None and (there.until is None or (until is not None and there.until >= until)):
        raise Problem(409, "held already", f"{role} {_there(site, camera)} is held until {there.until or 'revoked'}")
    made = db.scalar(
        insert(Grant).values(id=made_id(), user=row.user, role=role, site=site, camera=camera, until=until, by=who.id,
                             request=row.id)
        .on_conflict_do_update(index_elements=["user", "role", "site", "camera"],
                               set_={"until": until, "by": who.id, "request": row.id}).returning(Grant.id))
    removed = None
    if row.instead and row.instead != role:
        removed = db.scalar(delete(Grant).where(Grant.user == row.user, Grant.role == row.instead,
                                                Grant.site == row.site, Grant.camera == row.camera)
                            .returning(Grant.id))
    row.grant = made or ""
    row.granted = {"role": role, "site": site, "camera": camera, "until": until.isoformat() if until else None,
                   **({"instead": row.instead} if removed else {})}


def _put_up(producer: Producer, db: Session, who: Who, row: Request, site: str, camera: str) -> None:
    """The camera as a wish on `cameras`, sent when this transaction is through."""
    if not (who.may("requests.review", site) and who.may("cameras.add", site)):
        raise Problem(403, "not allowed", f"expected requests.review and cameras.add {_there(site, '')}")
    camera = camera or re.sub(r"[^a-z0-9]+", "-", row.wish["name"].lower()).strip("-")[:40] or f"camera-{row.id[:8]}"
    unused(db, camera, site)
    place = row.wish.get("place")
    wish = Camera(camera, (Source(row.wish["address"]),), site=site, name=row.wish["name"],
                  place=tuple(place) if place else None)
    if found := faults(wish):
        raise Problem(422, "no such camera possible", "; ".join(found))
    sites.known(db, site)
    cameras.save(db, producer, wish, db.get_one(Site, site), None)
    row.granted = {"site": site, "camera": camera}


def _close(db: Session, who: Who, row: Request, state: str, answer: str) -> None:
    row.state, row.decided, row.by, row.answer = state, now(), who.id, answer
    db.flush()
    audit.write(db, who.id, f"request.{state}", row.id, site=row.site, camera=row.camera, address=who.address,
                asked=row.user, granted=row.granted, answer=answer[:200])
    _tell(db, row)
    if state in ("granted", "ended") and row.kind != "camera":
        live.tell(db, live.Event("grants.changed", {"request": row.id}, users=(row.user,)))


def _tell(db: Session, row: Request) -> None:
    """To who asked, and to who may decide."""
    said = {"id": row.id, "kind": row.kind, "state": row.state, "user": row.user}
    live.tell(db, live.Event("request.changed", said, users=(row.user,)))
    live.tell(db, live.Event("request.changed", said, row.site or "*", row.camera, "requests.review"))


def _there(site: str, camera: str) -> str:
    return f"for camera {camera}" if camera else f"at {site}" if site else "everywhere"


def _later(until: datetime | None) -> datetime | None:
    """A time without a zone is UTC. Raises Problem for one that is over, or nowhere near."""
    if until is None:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    if not now() < until < now() + LONGEST:
        raise Problem(422, "bad end", f"expected `until` in the future, at most {LONGEST.days} days away, got "
                                      f"{until.isoformat()}")
    return until.astimezone(UTC)


def _wish(data: Ask) -> dict[str, Any]:
    if data.wish is None or not data.site:
        raise Problem(422, "no wish", "expected `site`, and `wish` with name and address of the camera")
    if data.wish.address.split("://")[0].lower() not in NETWORK:
        raise Problem(422, "bad address", "expected an address as rtsp://host/path, rtmp:// or http(s)://")
    found = faults(Camera(data.camera or "new", (Source(data.wish.address),), site=data.site, place=data.wish.place))
    if found:
        raise Problem(422, "no such camera possible", "; ".join(found))
    return {"name": data.wish.name, "address": data.wish.address, "place": data.wish.place}


def _same(a: Request, b: Request) -> bool:
    return all(getattr(a, name) == getattr(b, name) for name in ("kind", "site", "camera", "role")) and (
        a.kind != "camera" or a.wish["address"] == b.wish["address"])


def _asked(db: Session, row: Request) -> Asked:
    names = dict(db.execute(select(User.id, User.name).where(User.id.in_({row.user, row.by}))).all())
    wish = row.wish | ({"address": public(row.wish["address"])} if row.wish else {})
    holds = bool(row.grant) and row.state == "granted" and bool(db.scalar(select(func.count()).select_from(Grant).where(
        Grant.id == row.grant, Grant.user == row.user, (Grant.until.is_(None)) | (Grant.until > func.now()))))
    return Asked(row.id, row.user, names.get(row.user, ""), row.kind, row.state, row.site, row.camera, row.role,
                 row.instead, wish, row.wanted_until, row.reason, row.created, row.decided, row.by,
                 names.get(row.by, ""), row.answer, row.granted, holds)


router = Router("/v1/requests", tags=["requests"], route_handlers=[ask, every, one, grant, refuse, withdraw, end])
