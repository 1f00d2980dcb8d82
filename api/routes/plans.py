"""Floor plans: their pictures, and where they lie in the site's metres."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal
from uuid import UUID

import cv2
import msgspec
from litestar import Request, Response, Router, delete, get, patch, post, put
from litestar.datastructures import ResponseHeader, UploadFile
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, MultipartBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import fields, pages, pictures, ranges, uploads
from api.auth import needs
from api.db import made_id
from api.dependencies import By, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.routes import sites
from api.tables import audit
from api.tables.plans import Plan, PlanPicture
from api.tables.sites import Site, visible
from api.waiting import waits
from pipeline.pictures import encode

SIDE = 4096  # pixels of a plan's longer side: a floor of 100 m with 2.4 cm a pixel
MOST_PNG = 3 << 20  # bytes; a plan that is larger is a photo, and kept as JPEG
Floor = Annotated[int, Meta(ge=-20, le=300, description="0: ground floor")]


class NewPlan(msgspec.Struct):
    """A plan to be made; its picture is put afterwards. `west` … `north`: where its edges lie, in the site's metres."""

    site: fields.SiteId
    name: fields.Name
    west: fields.Metres
    south: fields.Metres
    east: fields.Metres
    north: fields.Metres
    kind: Literal["image", "map"] = "image"  # map: the site's place on the globe, without a picture of its own
    floor: Floor = 0


class PlanChange(msgspec.Struct):
    """What is left out stays as it is."""

    name: fields.Name | UnsetType = UNSET
    west: fields.Metres | UnsetType = UNSET
    south: fields.Metres | UnsetType = UNSET
    east: fields.Metres | UnsetType = UNSET
    north: fields.Metres | UnsetType = UNSET
    floor: Floor | UnsetType = UNSET


class PlanUpload(msgspec.Struct):
    """PNG, JPEG or WebP; it is encoded anew."""

    picture: UploadFile


class PlanView(msgspec.Struct):
    """A plan."""

    id: str
    site: str
    name: str
    kind: str
    floor: int
    west: float
    south: float
    east: float
    north: float
    width: int  # of the picture, pixels; 0: there is none
    height: int
    digest: str  # of the picture; changes with it


def shaped(row: Plan) -> PlanView:
    return PlanView(row.id, row.site, row.name, row.kind, row.floor, row.west, row.south, row.east, row.north,
                    row.width, row.height, row.digest)


def find(db: Session, who: Who, id: UUID, permission: str = "cameras.view") -> Plan:
    """Raises Problem 404, 403."""
    row = db.get(Plan, id.hex)
    if row is None or db.scalar(select(Site.id).where(Site.id == row.site, visible(who.scope("cameras.view")))) is None:
        raise missing("plan", str(id))
    if permission != "cameras.view":
        sites.allowed(who, permission, row.site)
    return row


def _sound(row: Plan) -> None:
    if not (row.east - row.west >= 0.5 and row.north - row.south >= 0.5):
        raise Problem(422, "plan without extent", "expected west + 0.5 m ≤ east and south + 0.5 m ≤ north, got "
                      f"{row.west:g} … {row.east:g}, {row.south:g} … {row.north:g}")


@get("/", opt=needs("cameras.view"), sync_to_thread=True, summary="The plans one may see")
def listed(db: Db, who: By, site: FromQuery[ranges.Site] = "", cursor: FromQuery[pages.Cursor] = None,
           limit: FromQuery[pages.Limit] = 100) -> pages.Page[PlanView]:
    query = select(Plan).where(Plan.site.in_(select(Site.id).where(visible(who.scope("cameras.view")))))
    if site:
        query = query.where(Plan.site == site)
    return pages.take(db, query, [Plan.site, Plan.floor, Plan.id], shaped, cursor, limit, descending=False)


@get("/{plan:uuid}", opt=needs("cameras.view"), sync_to_thread=True, summary="One plan")
def one(db: Db, who: By, plan: FromPath[UUID]) -> PlanView:
    return shaped(find(db, who, plan))


@post("/", opt=needs("cameras.edit"), sync_to_thread=True, summary="Make a plan")
def add(db: Db, who: By, data: JSONBody[NewPlan]) -> PlanView:
    sites.find(db, who, data.site, "cameras.edit")
    row = Plan(id=made_id(), width=0, height=0, digest="", **msgspec.to_builtins(data))
    _sound(row)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "plan.add", row.id, site=row.site, address=who.address, name=row.name)
    return shaped(row)


@patch("/{plan:uuid}", opt=needs("cameras.edit"), sync_to_thread=True, summary="Change a plan")
def change(db: Db, who: By, plan: FromPath[UUID], data: JSONBody[PlanChange]) -> PlanView:
    row = find(db, who, plan, "cameras.edit")
    given = msgspec.to_builtins(data)
    for name, value in given.items():
        setattr(row, name, value)
    _sound(row)
    db.flush()
    audit.write(db, who.id, "plan.edit", row.id, site=row.site, address=who.address, **given)
    return shaped(row)


@delete("/{plan:uuid}", opt=needs("cameras.edit"), sync_to_thread=True, summary="Remove a plan with its picture")
def remove(db: Db, who: By, plan: FromPath[UUID]) -> None:
    row = find(db, who, plan, "cameras.edit")
    db.delete(row)
    audit.write(db, who.id, "plan.remove", row.id, site=row.site, address=who.address, name=row.name)


@put("/{plan:uuid}/picture", opt=needs("cameras.edit"), request_max_body_size=uploads.MOST_BYTES + (64 << 10),
     summary="Give a plan its picture")
@waits
def upload(db: Db, who: By, plan: FromPath[UUID], data: MultipartBody[PlanUpload]) -> PlanView:
    """A form with the file as `picture`: PNG, JPEG or WebP."""
    content = data.picture.file.read(uploads.MOST_BYTES + 1)
    row = find(db, who, plan, "cameras.edit")
    if row.kind != "image":
        raise Problem(409, "plan of another kind", "expected a plan of kind image, got a map")
    store(db, row, content)
    audit.write(db, who.id, "plan.picture", row.id, site=row.site, address=who.address, digest=row.digest)
    return shaped(row)


def store(db: Session, row: Plan, content: bytes) -> None:
    """Raises Problem as uploads.read does."""
    read = uploads.read(content, side=SIDE)
    done, png = cv2.imencode(".png", read.image)
    made, media = (png.tobytes(), "image/png") if done else (b"", "")
    if not made or len(made) > MOST_PNG:
        made, media = encode(read.image, 88), "image/jpeg"
    row.width, row.height, row.digest = read.width, read.height, hashlib.sha256(made).hexdigest()
    db.merge(PlanPicture(plan=row.id, content=made, media=media))
    db.flush()


@get("/{plan:uuid}/picture", opt=needs("cameras.view"), sync_to_thread=True, media_type="image/png",
     summary="A plan's picture", response_headers=[ResponseHeader(name="ETag", documentation_only=True)],
     responses={200: ResponseSpec(bytes, description="PNG, or JPEG", media_type="image/png", generate_examples=False),
                304: ResponseSpec(None, description="The picture with this ETag is the newest")})
def picture(request: Request[Any, Any, Any], db: Db, who: By, plan: FromPath[UUID]) -> Response[bytes]:
    row = find(db, who, plan)
    headers = {"ETag": f'"{row.digest}"', **pictures.KEPT}
    if row.digest and request.headers.get("if-none-match") == f'"{row.digest}"':
        return Response(b"", status_code=304, headers=headers)
    found = db.get(PlanPicture, row.id)
    if found is None:
        raise Problem(404, "no picture", f"expected a plan with a picture, {plan} has none")
    return Response(found.content, media_type=found.media, headers=headers)


router = Router("/v1/plans", route_handlers=[listed, one, add, change, remove, upload, picture], tags=["plans"])
