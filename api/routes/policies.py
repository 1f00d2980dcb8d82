"""Policies: which state is required where, when and of whom. What is saved is never changed: a change is a version."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import fields, live, pages, ranges
from api.auth import needs
from api.dependencies import By, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.routes import sites
from api.tables import audit, cameras
from api.tables.cameras import CameraRow
from api.tables.policies import Policy
from api.tables.sites import Site, visible
from pipeline.messages import Required, Rule, Zone
from pipeline.policy import MOST_RULES, Written, faults


class NewPolicy(msgspec.Struct):
    """A version to be saved. The first of its rules that applies to a face decides; `otherwise`, where none does."""

    site: fields.SiteId
    name: fields.Name
    rules: Annotated[list[Rule], Meta(max_length=MOST_RULES)]
    otherwise: Required = "worn"
    note: fields.Words = ""
    activate: bool = False  # at once


class PolicyView(msgspec.Struct):
    """A version. As a file it is what `maskwatch replay --policy` reads."""

    id: str
    version: str  # the same, as frames and episodes name it
    site: str
    number: int
    name: str
    note: str
    active: bool
    time_zone: str  # of the site
    otherwise: Required
    rules: list[Rule]
    by: str
    created: datetime


def shaped(db: Session, row: Policy) -> PolicyView:
    site = db.get(Site, row.site)
    written = row.written
    holds = site is not None and site.policy == row.id
    return PolicyView(row.id, row.id, row.site, row.number, row.name, row.note, holds,
                      site.time_zone if site else written.time_zone, written.otherwise, list(written.rules), row.by,
                      row.created)


def as_now(db: Session, row: Policy) -> Written:
    """A version as it would travel with cameras now: by the site's time zone."""
    site = db.get(Site, row.site)
    return msgspec.structs.replace(row.written, version=row.id,
                                   time_zone=site.time_zone if site else row.written.time_zone)


def zones_of(db: Session, site: str) -> dict[str, tuple[Zone, ...]]:
    """Camera -> its zones, of every camera of a site."""
    rows = db.scalars(select(CameraRow).where(CameraRow.site == site))
    return {row.id: camera.policy.zones if (camera := row.camera).policy else () for row in rows}


def find(db: Session, who: Who, id: str) -> Policy:
    row = db.get(Policy, id)
    if row is None or db.scalar(select(Site.id).where(Site.id == row.site, visible(who.scope("cameras.view")))) is None:
        raise missing("policy", id)
    return row


@get("/", opt=needs("cameras.view"), sync_to_thread=True, summary="Versions of policies, newest first")
def listed(db: Db, who: By, site: FromQuery[ranges.Site] = "", cursor: FromQuery[pages.Cursor] = None,
           limit: FromQuery[pages.Limit] = 50) -> pages.Page[PolicyView]:
    query = select(Policy).where(Policy.site.in_(select(Site.id).where(visible(who.scope("cameras.view")))))
    if site:
        query = query.where(Policy.site == site)
    return pages.take(db, query, [Policy.created, Policy.id], lambda row: shaped(db, row), cursor, limit)


@get("/{policy:str}", opt=needs("cameras.view"), sync_to_thread=True, summary="One version")
def one(db: Db, who: By, policy: FromPath[str]) -> PolicyView:
    return shaped(db, find(db, who, policy))


@post("/", opt=needs("cameras.edit"), sync_to_thread=True, summary="Save a new version")
def add(request: Request[Any, Any, Any], db: Db, who: By, data: JSONBody[NewPolicy]) -> PolicyView:
    """Zones and cameras that its rules name must be there."""
    sites.find(db, who, data.site, "cameras.edit")
    return save(request, db, who, data.site, data.name, data.rules, data.otherwise, data.note, data.activate)


def save(request: Request[Any, Any, Any], db: Session, who: Who, site_id: str, name: str, rules: list[Rule],
         otherwise: Required, note: str, activate: bool) -> PolicyView:
    """A version of somebody who may. Raises Problem 422."""
    site = db.get_one(Site, site_id, with_for_update=True, populate_existing=True)
    written = Written(time_zone=site.time_zone, otherwise=otherwise, rules=tuple(rules))
    if found := faults(written, zones_of(db, site.id)):
        raise Problem(422, "policy cannot be taken", "; ".join(found)[:2000], errors=found[:50])
    number = (db.scalar(select(func.max(Policy.number)).where(Policy.site == site.id)) or 0) + 1
    row = Policy(id=f"{site.id}:{number}", site=site.id, number=number, name=name, note=note,
                 content=msgspec.to_builtins(written), by=who.id)
    db.add(row)
    db.flush()
    db.refresh(row)
    audit.write(db, who.id, "policy.add", row.id, site=site.id, address=who.address, name=name)
    if activate:
        _activate(request.app.state.producer, db, who, site, row)
    return shaped(db, row)


@post("/{policy:str}/activate", opt=needs("cameras.edit"), sync_to_thread=True, status_code=200,
      summary="Let a version hold at its site")
def activate(request: Request[Any, Any, Any], db: Db, who: By, policy: FromPath[str]) -> PolicyView:
    """Every camera of the site is told anew, also when the version holds already. Rules that name a zone which is no
    longer there do not apply."""
    row = find(db, who, policy)
    sites.allowed(who, "cameras.edit", row.site)
    site = db.get_one(Site, row.site, with_for_update=True, populate_existing=True)
    _activate(request.app.state.producer, db, who, site, row)
    return shaped(db, row)


@post("/{policy:str}/retire", opt=needs("cameras.edit"), sync_to_thread=True, status_code=200,
      summary="Let no policy hold at a site")
def retire(request: Request[Any, Any, Any], db: Db, who: By, policy: FromPath[str]) -> PolicyView:
    """Then a mask is required everywhere and always. Raises 409 when another version holds."""
    row = find(db, who, policy)
    sites.allowed(who, "cameras.edit", row.site)
    site = db.get_one(Site, row.site, with_for_update=True, populate_existing=True)
    if site.policy != row.id:
        raise Problem(409, "not active", f"expected the active version ({site.policy or 'none'}), got {row.id}")
    _activate(request.app.state.producer, db, who, site, None)
    return shaped(db, row)


def _activate(producer: Producer, db: Session, who: Who, site: Site, row: Policy | None) -> None:
    before, site.policy = site.policy, row.id if row else ""
    db.flush()
    told = cameras.save_all(db, producer, site, site.privacy)
    audit.write(db, who.id, "policy.activate" if row else "policy.retire", row.id if row else before, site=site.id,
                address=who.address, before=before, cameras=told)
    live.tell(db, live.Event("policy.changed", {"id": site.policy}, site.id, needs="cameras.view"))


router = Router("/v1/policies", route_handlers=[listed, one, add, activate, retire], tags=["policies"])
