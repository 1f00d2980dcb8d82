"""Cameras: what each should do and does; added, tried, started, stopped, edited and drawn upon while everything runs.

Every change is in the tables when the answer leaves, and reaches the workers through the topic `cameras`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post, put
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agents.video import SourceError
from api import fields, pages, privacy, ranges
from api.auth import needs
from api.db import now
from api.dependencies import By, Config, Db
from api.look import Busy, Look, look
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.routes import plans, policies, sites
from api.tables import audit, cameras, erased
from api.tables.cameras import Calibration, CameraRow, CameraState
from api.tables.policies import active
from api.tables.sites import STRICTEST_FIRST, Site
from api.waiting import waits
from pipeline import capture, plan
from pipeline import policy as rules
from pipeline.cameras import ID, NETWORK, BadCamera
from pipeline.messages import Camera, CameraStatus, Privacy, Source, Zone
from pipeline.settings import Settings

CameraId = Annotated[str, Meta(min_length=1, max_length=63, pattern=f"^{ID.pattern}$")]
Address = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f]+$")]
Label = Annotated[str, Meta(max_length=120, pattern=fields.ONE_LINE)]
Fps = Annotated[float, Meta(ge=0.05, le=60, description="pictures analysed a second")]
Width = Annotated[int, Meta(ge=0, le=3840, description="pixels of the analysed picture; 0: as its faces need it")]
Direction = Annotated[float, Meta(ge=0, lt=360, description="degrees clockwise from north")]
Field = Annotated[float, Meta(gt=0, le=360, description="horizontal field of view, degrees")]
Corner = tuple[Annotated[float, Meta(ge=0, le=1)], Annotated[float, Meta(ge=0, le=1)]]
Corners = Annotated[list[Corner], Meta(min_length=3, max_length=rules.MOST_CORNERS)]
Metres = tuple[fields.Metres, fields.Metres]


# -- what comes and goes ----------------------------------------------------------------------------------------------


class NewSource(msgspec.Struct):
    """An address. One that stands there already may be given as it is shown, without its login: it keeps it."""

    url: Address
    kind: Literal["main", "sub"] = "main"
    width: Annotated[int, Meta(ge=0, le=16384)] = 0


Sources = Annotated[list[NewSource], Meta(min_length=1, max_length=8)]


class NewCamera(msgspec.Struct):
    """A camera to be put up; its privacy is its site's, or stricter."""

    id: CameraId
    site: fields.SiteId
    sources: Sources
    name: Label = ""
    running: bool = True
    fps: Fps = 5.0
    width: Width = 0
    privacy: Privacy | None = None
    place: Metres | None = None  # metres east and north on the site plan
    direction: Direction | None = None
    view: Field | None = None
    loop: bool = False  # a recording starts again at its end


class CameraChange(msgspec.Struct):
    """What is left out stays as it is."""

    site: fields.SiteId | UnsetType = UNSET
    sources: Sources | UnsetType = UNSET
    prefer: Annotated[int, Meta(ge=0, le=7)] | UnsetType | None = UNSET
    name: Label | UnsetType = UNSET
    running: bool | UnsetType = UNSET
    fps: Fps | UnsetType = UNSET
    width: Width | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET
    place: Metres | UnsetType | None = UNSET
    direction: Direction | UnsetType | None = UNSET
    view: Field | UnsetType | None = UNSET
    loop: bool | UnsetType = UNSET


class Candidate(msgspec.Struct):
    """A source that has not been added."""

    url: Address


class Switch(msgspec.Struct):
    """The source to be tried first; null: the best fitting."""

    source: Annotated[int, Meta(ge=0, le=7)] | None


class NewZone(msgspec.Struct):
    """A part of the picture with a name, that rules may speak of."""

    name: Annotated[str, Meta(min_length=1, max_length=60, pattern=fields.ONE_LINE)]
    outline: Corners


class Drawn(msgspec.Struct):
    """All zones of a camera; what is not among them is removed."""

    zones: Annotated[list[NewZone], Meta(max_length=rules.MOST_ZONES)]


class Hidden(msgspec.Struct):
    """All privacy areas of a camera; what is not among them is removed."""

    areas: Annotated[list[Corners], Meta(max_length=32)]


class Pair(msgspec.Struct):
    """The same point of the floor in the picture (0..1) and on the plan (metres east and north)."""

    picture: Corner
    metres: Metres


class NewCalibration(msgspec.Struct):
    """At least four points on the floor, of which no three lie on a line."""

    pairs: Annotated[list[Pair], Meta(min_length=4, max_length=plan.MOST_PAIRS)]
    plan: UUID | None = None  # on which they were clicked
    save: bool = True  # else only computed


class CalibrationView(msgspec.Struct):
    """How the picture lies on the plan."""

    matrix: list[float]  # 3 × 3 row by row: (x, y, 1) of the picture -> (east, north, 1), up to a factor
    residual: float  # metres by which the points miss their places (root mean square); of four points always 0
    worst: float  # metres, of the worst point
    pairs: list[Pair]
    plan: str | None
    created: datetime | None  # null: not saved


class SourceView(msgspec.Struct):
    """An address without its login; empty for who may not change the camera."""

    url: str
    kind: str
    width: int


class CameraView(msgspec.Struct):
    """A camera as this session may see it."""

    id: str
    name: str
    site: str
    sources: list[SourceView]
    prefer: int | None  # source tried first; null: the best fitting
    running: bool
    fps: float
    width: int
    privacy: Privacy
    blur_others: bool
    place: tuple[float, float] | None
    direction: float | None
    view: float | None
    loop: bool
    rendered: bool
    hidden: list[list[tuple[float, float]]]
    zones: list[Zone]
    policy: str  # version that judges; empty: none
    calibrated: bool
    footprint: list[tuple[float, float]]  # where people stand whom it shows, metres on the plan; empty: not calibrated
    status: CameraStatus | None  # what it does; null: no worker has it yet


class Tried(msgspec.Struct):
    """What a look through a source gave."""

    source: str  # address without login
    ok: bool
    error: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0  # that the stream claims; 0: it does not say
    seconds: float = 0.0
    jpeg: bytes = b""  # base64


# -- reading ----------------------------------------------------------------------------------------------------------


def find(db: Session, who: Who, id: str, permission: str = "cameras.view") -> CameraRow:
    """Raises Problem 404 for a camera one may not see, 403 for one on which one may not do that."""
    row = db.get(CameraRow, id) if ID.fullmatch(id) else None
    if row is None or not who.may("cameras.view", row.site, row.id):
        raise missing("camera", id)
    sites.allowed(who, permission, row.site, row.id)
    return row


def shaped(db: Session, who: Who, row: CameraRow) -> CameraView:
    return _view(who, row, db.get(CameraState, row.id),
                 db.scalar(select(Calibration.matrix).where(Calibration.camera == row.id)))


def _view(who: Who, row: CameraRow, state: CameraState | None, matrix: list[float] | None) -> CameraView:
    camera = row.camera
    trusted = any(who.may(f"cameras.{action}", row.site, row.id) for action in ("edit", "run"))
    status = msgspec.convert(state.status, CameraStatus) if state else None
    if status and not trusted:
        status = msgspec.structs.replace(status, url="", worker="", error=capture.bare(status.error))
    return CameraView(
        row.id, row.name, row.site,
        [SourceView(capture.public(s.url) if trusted else "", s.kind, s.width) for s in camera.sources], camera.prefer,
        camera.running, camera.fps, camera.width, camera.privacy, camera.blur_others, camera.place, camera.direction,
        camera.view, camera.loop, camera.rendered, [list(area) for area in camera.hidden],
        list(camera.policy.zones) if camera.policy else [], camera.policy.version if camera.policy else "",
        matrix is not None, _footprint(matrix) if matrix else [], status,
    )  # fmt: skip


@get("/", opt=needs("cameras.view"), sync_to_thread=True, summary="The cameras one may see")
def listed(db: Db, who: By, site: FromQuery[ranges.Site] = "", cursor: FromQuery[pages.Cursor] = None,
           limit: FromQuery[pages.Limit] = 100) -> pages.Page[CameraView]:
    query = select(CameraRow).where(who.scope("cameras.view").where(CameraRow.site, CameraRow.id))
    if site:
        query = query.where(CameraRow.site == site)
    page: pages.Page[CameraRow] = pages.take(db, query, [CameraRow.id], lambda row: row, cursor, limit,
                                             descending=False)
    ids = [row.id for row in page.items]  # one question for all of them, not one each
    states = {row.id: row for row in db.scalars(select(CameraState).where(CameraState.id.in_(ids)))}
    matrices: dict[str, list[float]] = dict(db.execute(
        select(Calibration.camera, Calibration.matrix).where(Calibration.camera.in_(ids))).all())
    return pages.Page([_view(who, row, states.get(row.id), matrices.get(row.id)) for row in page.items], page.next)


def _footprint(matrix: list[float]) -> list[tuple[float, float]]:
    return [(round(east, 2), round(north, 2)) for east, north in plan.View(matrix).footprint]


@get("/{camera:str}", opt=needs("cameras.view"), sync_to_thread=True, summary="One camera")
def one(db: Db, who: By, camera: FromPath[str]) -> CameraView:
    return shaped(db, who, find(db, who, camera))


# -- changing ---------------------------------------------------------------------------------------------------------


@post("/", opt=needs("cameras.add"), sync_to_thread=True, summary="Put up a camera")
def add(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, data: JSONBody[NewCamera]) -> CameraView:
    """A worker takes it up within a second or two."""
    site = _site(db, who, data.site)
    unused(db, data.id, site.id)
    sources = tuple(source(settings, each, ()) for each in data.sources)
    camera = Camera(
        data.id, sources, data.name, site.id, data.running, data.fps, data.width,
        _privacy(data.privacy, site), data.place, data.direction, data.view, data.loop,
    )  # fmt: skip
    return _saved(request, db, who, camera, site, None, "camera.add", **_told(data))


@patch("/{camera:str}", opt=needs("cameras.edit"), sync_to_thread=True, summary="Change a camera")
def change(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, camera: FromPath[str],
           data: JSONBody[CameraChange]) -> CameraView:
    """Only what its thread cannot change while it runs (address, rate, width) interrupts it. Where `privacy` allows
    less than before, what was kept of it goes too."""
    if data.privacy is not UNSET:
        erased.alone(db)  # what is folded by the old word is there before we look
    row, site = _taken(db, who, camera, "cameras.edit")
    home = row.site
    if data.site is not UNSET and data.site != site.id:
        site = _site(db, who, data.site)
    wish = row.camera
    given: dict[str, Any] = {
        name: value for name in CameraChange.__struct_fields__
        if (value := getattr(data, name)) is not UNSET and name not in ("site", "sources", "privacy")
    }
    if data.sources is not UNSET:
        given["sources"] = tuple(source(settings, each, wish.sources, i) for i, each in enumerate(data.sources))
        if wish.prefer is not None and wish.prefer >= len(given["sources"]):
            given.setdefault("prefer", None)
    if data.privacy is not UNSET:
        given["privacy"] = _privacy(data.privacy, site)
    view = _saved(request, db, who, msgspec.structs.replace(wish, **given), site, row, "camera.edit", **_told(data))
    if site.id == home and privacy.tightens(wish.privacy, view.privacy):
        privacy.lower(db, home, camera, view.privacy, who.id, who.address)
    return view


@delete("/{camera:str}", opt=needs("cameras.remove"), sync_to_thread=True, summary="Remove a camera")
def remove(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str]) -> None:
    """What it has shown stays for as long as its retention says."""
    row, site = _taken(db, who, camera, "cameras.remove")
    cameras.remove(db, request.app.state.producer, row)
    audit.write(db, who.id, "camera.remove", camera, site=site.id, camera=camera, address=who.address, name=row.name)


@post("/{camera:str}/start", opt=needs("cameras.run"), sync_to_thread=True, status_code=200, summary="Start a camera")
def start(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str]) -> CameraView:
    """A recording that has ended begins anew."""
    return _set(request, db, who, camera, "cameras.run", "camera.start", running=True)


@post("/{camera:str}/stop", opt=needs("cameras.run"), sync_to_thread=True, status_code=200, summary="Stop a camera")
def stop(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str]) -> CameraView:
    """It stays known."""
    return _set(request, db, who, camera, "cameras.run", "camera.stop", running=False)


@put("/{camera:str}/source", opt=needs("cameras.run"), sync_to_thread=True, summary="Switch to another source")
def switch(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str], data: JSONBody[Switch]
           ) -> CameraView:
    """It is tried first; the others stand in for it when it fails."""
    return _set(request, db, who, camera, "cameras.run", "camera.switch", prefer=data.source)


@put("/{camera:str}/hidden", opt=needs("cameras.edit"), sync_to_thread=True, summary="Draw the privacy areas")
def hide(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str], data: JSONBody[Hidden]) -> CameraView:
    """They are black in every picture taken from now on, before it goes anywhere. Pictures from before keep what they
    show on their topics until their retention ends; footage is shown without it. Other cameras with the same address
    get them too, and lose what is taken away here; 409 when one of those is not one's own to change."""
    row = find(db, who, camera, "cameras.edit")
    drawn = tuple(map(tuple, data.areas))
    # in one order: of two who draw at a time none waits for the other
    taken = {each.id: _kept(db, each) for each in sorted(
        [row, *cameras.beside(db, row.camera.sources, camera)], key=lambda each: each.id)}
    row, site = taken.pop(camera)
    gone = set(row.camera.hidden) - set(drawn)
    for other, _ in taken.values():
        if gone & set(other.camera.hidden) and not who.may("cameras.edit", other.site, other.id):
            raise Problem(409, "areas of another camera", "expected all areas that another camera with the same "
                          "address has too: only who may change that one as well takes them away")
    for other, at in taken.values():
        wish = other.camera
        left = tuple(dict.fromkeys((*(area for area in wish.hidden if area not in gone), *drawn)))
        if left != wish.hidden:
            _saved(request, db, who, msgspec.structs.replace(wish, hidden=left), at, other, "camera.hide", alone=True,
                   hidden=left)
    return _saved(request, db, who, msgspec.structs.replace(row.camera, hidden=drawn), site, row, "camera.hide",
                  hidden=drawn)


@put("/{camera:str}/zones", opt=needs("cameras.edit"), sync_to_thread=True, summary="Draw the zones")
def draw(request: Request[Any, Any, Any], db: Db, who: By, camera: FromPath[str], data: JSONBody[Drawn]) -> CameraView:
    """A zone of the same name in several cameras is one zone. A zone of which the active policy speaks cannot be
    removed from the last camera that has it."""
    row, site = _taken(db, who, camera, "cameras.edit")
    zones = tuple(Zone(each.name, tuple(each.outline)) for each in data.zones)
    if found := rules.zone_faults(zones):
        raise Problem(422, "zones cannot be taken", "; ".join(found)[:2000])
    written = active(db, site)
    if written is not None:
        there = policies.zones_of(db, site.id)
        before, after = rules.faults(written, there), rules.faults(written, there | {camera: zones})
        if new := [fault for fault in after if fault not in before]:
            raise Problem(409, "zone in use", f"the active policy {written.version} speaks of it: {new[0]}")
    wish = row.camera
    policy = msgspec.structs.replace(wish.policy, zones=zones) if wish.policy else rules.of_camera(None, camera, zones)
    return _saved(request, db, who, msgspec.structs.replace(wish, policy=policy), site, row, "camera.zones",
                  zones=[each.name for each in zones])


@put("/{camera:str}/calibration", opt=needs("cameras.edit"), sync_to_thread=True, status_code=200,
     summary="Say how the picture lies on the plan")
def calibrate(db: Db, who: By, camera: FromPath[str], data: JSONBody[NewCalibration]) -> CalibrationView:
    """Four or more points clicked in the picture and on the plan. The answer says by how many metres they miss."""
    row = find(db, who, camera, "cameras.edit")
    if data.plan is not None and plans.find(db, who, data.plan).site != row.site:
        raise Problem(422, "plan of another site", f"expected a plan of {row.site!r}")
    try:
        done = plan.calibrate([(each.picture, each.metres) for each in data.pairs])
    except plan.BadCalibration as error:
        raise Problem(422, "points cannot be taken", str(error)) from None
    if not data.save:
        return CalibrationView(list(done.matrix), done.residual, done.worst, data.pairs,
                               str(data.plan) if data.plan else None, None)
    values = {"plan": data.plan.hex if data.plan else None, "pairs": [[p.picture, p.metres] for p in data.pairs],
              "matrix": list(done.matrix), "residual": done.residual, "worst": done.worst, "by": who.id,
              "created": now()}
    db.execute(insert(Calibration).values(camera=camera, **values).on_conflict_do_update(
        index_elements=["camera"], set_=values))
    audit.write(db, who.id, "camera.calibrate", camera, site=row.site, camera=camera, address=who.address,
                residual=done.residual, points=len(data.pairs))
    return _calibration(db.get_one(Calibration, camera, populate_existing=True))


@get("/{camera:str}/calibration", opt=needs("cameras.view"), sync_to_thread=True,
     summary="How the picture lies on the plan")
def calibration(db: Db, who: By, camera: FromPath[str]) -> CalibrationView:
    row = db.get(Calibration, find(db, who, camera).id)
    if row is None:
        raise Problem(404, "not calibrated", f"expected a calibrated camera, {camera!r} is not")
    return _calibration(row)


@delete("/{camera:str}/calibration", opt=needs("cameras.edit"), sync_to_thread=True, summary="Forget the calibration")
def uncalibrate(db: Db, who: By, camera: FromPath[str]) -> None:
    row = find(db, who, camera, "cameras.edit")
    found = db.get(Calibration, camera)
    if found is None:
        raise Problem(404, "not calibrated", f"expected a calibrated camera, {camera!r} is not")
    db.delete(found)
    audit.write(db, who.id, "camera.uncalibrate", camera, site=row.site, camera=camera, address=who.address)


# -- looking ----------------------------------------------------------------------------------------------------------


@post("/test", opt=needs("cameras.add", kept=False), status_code=200, summary="Try an address first")
@waits
def try_address(db: Db, who: By, settings: Config, data: JSONBody[Candidate]) -> Tried:
    """Takes one picture, within ten seconds. An address that cannot be watched is answered with `ok: false` and why.
    Privacy areas of cameras that have it, at whatever site, are black in the picture."""
    wanted = source(settings, NewSource(data.url), ())
    shown = capture.public(wanted.url)[:200]
    audit.write(db, who.id, "camera.try", shown, address=who.address)
    there = cameras.beside(db, (wanted,))
    for row in there:  # who has that camera reads who else looked through it
        audit.write(db, who.id, "camera.try", shown, site=row.site, camera=row.id, address=who.address)
    hidden = tuple(dict.fromkeys(area for row in there for area in row.camera.hidden))
    db.commit()  # the look takes seconds: no connection waits for it
    return _try(Camera("look", (wanted,), hidden=hidden), wanted)


@post("/{camera:str}/test", opt=needs("cameras.run", kept=False), status_code=200, summary="Try a camera's sources")
@waits
def try_camera(db: Db, who: By, camera: FromPath[str]) -> list[Tried]:
    """One picture from each, in the order in which a worker would try them. Privacy areas are black in it."""
    row = find(db, who, camera, "cameras.run")
    wish = row.camera
    audit.write(db, who.id, "camera.look", camera, site=row.site, camera=camera, address=who.address)
    db.commit()
    return [_try(wish, source) for source in capture.choose(wish.sources, wish.width or 960, wish.prefer)]


@post("/{camera:str}/snapshot", opt=needs("cameras.run", kept=False), status_code=200, media_type="image/jpeg",
      summary="A picture, now",
      responses={200: ResponseSpec(bytes, description="JPEG", media_type="image/jpeg", generate_examples=False)})
@waits
def snapshot(db: Db, who: By, camera: FromPath[str]) -> Response[bytes]:
    """From the first source that answers. Privacy areas are black in it. 424 when none does."""
    row = find(db, who, camera, "cameras.run")
    wish = row.camera
    audit.write(db, who.id, "camera.look", camera, site=row.site, camera=camera, address=who.address)
    db.commit()
    failed = []
    for source in capture.choose(wish.sources, wish.width or 960, wish.prefer):
        try:
            found = _look(wish, source)
        except SourceError as error:
            failed.append(capture.public(str(error)))
            continue
        return Response(found.frame.jpeg, media_type="image/jpeg", headers={
            "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    raise Problem(424, "camera does not answer", "; ".join(failed)[:2000])


def _look(camera: Camera, source: Source) -> Look:
    try:
        return look(camera, source)
    except Busy as error:
        raise Problem(429, "too many looks", str(error), headers={"Retry-After": "5"}) from None


def _try(camera: Camera, source: Source) -> Tried:
    public = capture.public(source.url)
    try:
        found = _look(camera, source)
    except SourceError as error:
        return Tried(public, False, capture.public(str(error)))
    frame = found.frame
    return Tried(public, True, "", found.codec, frame.source_width, frame.source_height, found.fps, found.seconds,
                 frame.jpeg)


# -- what the handlers share ------------------------------------------------------------------------------------------


def unused(db: Session, id: str, site: str) -> None:
    """Keeps an id from others until the request ends. Raises Problem 409 for one that a new camera of the site may not
    have."""
    if cameras.held(db, id) is not None:
        raise Problem(409, "camera exists", f"expected the id of a new camera, got {id!r}")
    if cameras.site_of(db, id) not in (None, site):
        raise Problem(409, "id of another site", "expected an id that no camera of another site has had, because what "
                      f"that one showed is found by it, got {id!r}")


def _site(db: Session, who: Who, site: str) -> Site:
    """The site that gets a camera, which stays as it is until the request ends. Raises Problem."""
    row = db.scalar(select(Site).where(Site.id == site).with_for_update(read=True))
    if row is None or not who.may("cameras.view", site):
        raise Problem(422, "no such site", f"expected the id of a site, got {site!r}")
    sites.allowed(who, "cameras.add", site)
    return row


def _taken(db: Session, who: Who, camera: str, permission: str) -> tuple[CameraRow, Site]:
    """The camera and its site, kept from others until the request ends: site first, as everybody takes them."""
    return _kept(db, find(db, who, camera, permission))


def _kept(db: Session, row: CameraRow) -> tuple[CameraRow, Site]:
    site = db.scalar(select(Site).where(Site.id == row.site).with_for_update(read=True))
    held = cameras.held(db, row.id)
    if held is None or site is None:
        raise missing("camera", row.id)
    db.refresh(held)
    if held.site != site.id:
        raise Problem(409, "camera moved", f"{row.id!r} has just moved to {held.site!r}; try again")
    return held, site


def _set(request: Request[Any, Any, Any], db: Session, who: Who, camera: str, permission: str, action: str,
         **given: Any) -> CameraView:
    row, site = _taken(db, who, camera, permission)
    return _saved(request, db, who, msgspec.structs.replace(row.camera, **given), site, row, action, **given)


def _saved(request: Request[Any, Any, Any], db: Session, who: Who, camera: Camera, site: Site, row: CameraRow | None,
           action: str, alone: bool = False, **detail: Any) -> CameraView:
    producer: Producer = request.app.state.producer
    try:
        row = cameras.save(db, producer, camera, site, row, alone)
    except BadCamera as error:
        raise Problem(422, "camera cannot be taken", str(error)[:2000]) from None
    audit.write(db, who.id, action, row.id, site=site.id, camera=row.id, address=who.address, **detail)
    return shaped(db, who, row)


def _told(data: msgspec.Struct) -> dict[str, Any]:
    """For the audit log: addresses without logins."""
    told: dict[str, Any] = {k: v for k, v in msgspec.to_builtins(data).items() if k not in ("id", "site")}
    for source in told.get("sources", ()):
        source["url"] = capture.public(source["url"])
    return told


def _privacy(asked: Privacy | None, site: Site) -> Privacy:
    """What is asked for, when it is no looser than the site's. Raises Problem 422."""
    theirs: Privacy = site.privacy  # type: ignore[assignment]
    if asked is not None and STRICTEST_FIRST.index(asked) > STRICTEST_FIRST.index(theirs):
        raise Problem(422, "looser than its site", f"expected at most {theirs}, as the site says, got {asked}")
    return asked or theirs


def source(settings: Settings, given: NewSource, before: tuple[Source, ...], index: int = 0) -> Source:
    """With the login it had, where it is given as it was shown. Raises Problem 422 for what may not be asked for over
    the network."""
    same = [old for old in (*before[index : index + 1], *before) if given.url in (old.url, capture.public(old.url))]
    if same:
        return Source(same[0].url, given.kind, given.width)
    scheme = given.url.split("://", 1)[0].lower() if "://" in given.url else ""
    if scheme not in NETWORK and not settings.camera_files:
        raise Problem(422, "not an address", f"expected {', '.join(f'{each}://' for each in NETWORK)}, got "
                      f"{capture.public(given.url)[:200]!r}; files and devices only with MASKWATCH_CAMERA_FILES")
    if scheme in NETWORK and len(given.url.split()) > 1:
        raise Problem(422, "not an address", "expected an address without spaces: %20 stands for one")
    return Source(given.url, given.kind, given.width)


def _calibration(row: Calibration) -> CalibrationView:
    return CalibrationView(row.matrix, row.residual, row.worst, msgspec.convert(
        [{"picture": p, "metres": m} for p, m in row.pairs], list[Pair]), row.plan, row.created)


router = Router("/v1/cameras", route_handlers=[
    listed, one, add, change, remove, start, stop, switch, hide, draw, calibrate, calibration, uncalibrate, try_address,
    try_camera, snapshot,
], tags=["cameras"])  # fmt: skip
