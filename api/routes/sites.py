"""Sites: where cameras stand, what may be kept of people there, and where the plan lies on the globe."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from litestar import Request, Router, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import fields, live, pages, privacy
from api.auth import needs
from api.db import now
from api.dependencies import By, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.tables import audit, cameras, erased
from api.tables.cameras import CameraRow
from api.tables.plans import Plan
from api.tables.sites import Site, visible
from pipeline.cameras import SITE
from pipeline.messages import Privacy
from pipeline.plan import Origin
from pipeline.policy import BadPolicy, zone_of

TimeZone = Annotated[str, Meta(min_length=1, max_length=64, description="IANA name, as Asia/Shanghai")]
Bearing = Annotated[float, Meta(ge=-360, le=360, description="of the plan's north, degrees clockwise from true north")]


class SitePlace(msgspec.Struct):
    """Where the plan's point 0, 0 lies on the globe."""

    latitude: fields.Lat
    longitude: fields.Lon
    bearing: Bearing = 0.0


class NewSite(msgspec.Struct):
    """A site to be made."""

    id: fields.SiteId
    name: fields.Name
    time_zone: TimeZone = "UTC"
    privacy: Privacy = "pseudonymous"
    blur_others: bool = False
    origin: SitePlace | None = None


class SiteChange(msgspec.Struct):
    """What is left out stays as it is."""

    name: fields.Name | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET
    blur_others: bool | UnsetType = UNSET
    origin: SitePlace | UnsetType | None = UNSET


class SiteView(msgspec.Struct):
    """A site as this session may see it."""

    id: str
    name: str
    time_zone: str
    privacy: Privacy  # anonymous: no face vectors · pseudonymous: no names · enrolled: named people who agreed
    blur_others: bool  # other faces are made unrecognisable in what is kept of a face
    origin: Origin | None
    policy: str  # id of the active policy; empty: a mask is required everywhere and always
    cameras: int  # that this session may see
    plans: int


def find(db: Session, who: Who, id: str, permission: str = "cameras.view") -> Site:
    """The site, when one may see it and has the permission for the whole of it. Raises Problem 404, 403."""
    row = db.get(Site, id) if SITE.fullmatch(id) else None
    if row is None or db.scalar(select(Site.id).where(Site.id == id, visible(who.scope("cameras.view")))) is None:
        raise missing("site", id)
    if permission != "cameras.view":
        allowed(who, permission, id)
    return row


def allowed(who: Who, permission: str, site: str, camera: str = "") -> None:
    """Raises Problem 403."""
    if not who.may(permission, site, camera):
        raise Problem(403, "not allowed", f"expected {permission} for {camera or 'the whole site'} at {site!r}")


def shaped(db: Session, who: Who, row: Site) -> SiteView:
    scope = who.scope("cameras.view")
    count = db.scalar(select(func.count()).select_from(CameraRow).where(
        CameraRow.site == row.id, scope.where(CameraRow.site, CameraRow.id))) or 0
    plans = db.scalar(select(func.count()).select_from(Plan).where(Plan.site == row.id)) or 0
    return SiteView(row.id, row.name, row.time_zone, row.privacy, row.blur_others,  # type: ignore[arg-type]
                    row.origin, row.policy, count, plans)


def _time_zone(name: str) -> str:
    try:
        zone_of(name)
    except BadPolicy as error:
        raise Problem(422, "no such time zone", str(error)) from None
    return name


def _place(row: Site, origin: SitePlace | None) -> None:
    row.latitude = origin.latitude if origin else None
    row.longitude = origin.longitude if origin else None
    row.bearing = origin.bearing if origin else None


@get("/", opt=needs("cameras.view"), sync_to_thread=True, summary="The sites one may see")
def listed(db: Db, who: By, cursor: FromQuery[pages.Cursor] = None, limit: FromQuery[pages.Limit] = 100
           ) -> pages.Page[SiteView]:
    return pages.take(db, select(Site).where(visible(who.scope("cameras.view"))), [Site.id],
                      lambda row: shaped(db, who, row), cursor, limit, descending=False)


@get("/{site:str}", opt=needs("cameras.view"), sync_to_thread=True, summary="One site")
def one(db: Db, who: By, site: FromPath[str]) -> SiteView:
    return shaped(db, who, find(db, who, site))


@post("/", opt=needs("cameras.add"), sync_to_thread=True, summary="Make a site")
def add(db: Db, who: By, data: JSONBody[NewSite]) -> SiteView:
    allowed(who, "cameras.add", data.id)
    if db.get(Site, data.id) is not None:
        raise Problem(409, "site exists", f"expected the id of a new site, got {data.id!r}")
    row = Site(id=data.id, name=data.name, time_zone=_time_zone(data.time_zone), privacy=data.privacy,
               blur_others=data.blur_others, policy="")
    _place(row, data.origin)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "site.add", row.id, site=row.id, address=who.address, **msgspec.to_builtins(data))
    return shaped(db, who, row)


@patch("/{site:str}", opt=needs("cameras.edit"), sync_to_thread=True, summary="Change a site")
def change(request: Request[Any, Any, Any], db: Db, who: By, site: FromPath[str], data: JSONBody[SiteChange]
           ) -> SiteView:
    """Every camera of it follows at once: privacy, blurring and time zone travel with each picture. Where `privacy`
    allows less than before, what was kept goes too: names with `pseudonymous`, pictures and vectors of faces with
    `anonymous`."""
    find(db, who, site, "cameras.edit")
    if data.privacy is not UNSET:
        erased.alone(db)  # what is folded by the old word is there before we look
    row = db.get_one(Site, site, with_for_update=True, populate_existing=True)
    before = {name: getattr(row, name) for name in ("name", "time_zone", "privacy", "blur_others")}
    if data.name is not UNSET:
        row.name = data.name
    if data.time_zone is not UNSET:
        row.time_zone = _time_zone(data.time_zone)
    if data.privacy is not UNSET:
        row.privacy = data.privacy
    if data.blur_others is not UNSET:
        row.blur_others = data.blur_others
    if data.origin is not UNSET:
        _place(row, data.origin)
    row.changed = now()
    db.flush()
    if privacy.tightens(before["privacy"], row.privacy):
        privacy.lower(db, site, "", cast("Privacy", row.privacy), who.id, who.address)
    if any(getattr(row, name) != before[name] for name in ("time_zone", "privacy", "blur_others")):
        producer: Producer = request.app.state.producer
        cameras.save_all(db, producer, row, before["privacy"])
    audit.write(db, who.id, "site.edit", site, site=site, address=who.address, before=before,
                after=msgspec.to_builtins(data))
    live.tell(db, live.Event("site.changed", {"id": site}, site, needs="cameras.view"))
    return shaped(db, who, row)


@delete("/{site:str}", opt=needs("cameras.remove"), sync_to_thread=True, summary="Remove a site without cameras")
def remove(db: Db, who: By, site: FromPath[str]) -> None:
    """What was recorded there stays for as long as its retention says."""
    row = find(db, who, site, "cameras.remove")
    if left := db.scalar(select(func.count()).select_from(CameraRow).where(CameraRow.site == site)):
        raise Problem(409, "site has cameras", f"expected a site without cameras, got one with {left}")
    db.delete(row)
    audit.write(db, who.id, "site.remove", site, site=site, address=who.address, name=row.name)


router = Router("/v1/sites", route_handlers=[listed, one, add, change, remove], tags=["sites"])
