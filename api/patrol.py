"""Where an inspection was: distances, checkpoints, its route as GeoJSON, the cameras it came by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.permissions import Who
from api.tables.cameras import CameraRow
from api.tables.compliance import MINUTE, Minute
from api.tables.inspections import Checkpoint, Inspection, Photo, Point, Round
from api.tables.plans import Plan
from api.tables.sites import Site
from api.tables.users import Role
from pipeline import plan
from pipeline.messages import STATES, Privacy

Place = tuple[float, float]
EARTH = 6_371_008.8  # metres, mean radius
SILENT = 120_000_000  # µs without a position after which nobody knows how one went on
FAR = 20_000.0  # metres from the plan's 0, 0: beyond, its flat earth is wrong, and so is the place


class Passed(msgspec.Struct):
    """A camera that an inspection came by, and what it counted meanwhile."""

    camera: str
    name: str
    start: int  # first near it, µs UTC
    end: int
    nearest: float  # metres
    came: dict[str, int]  # state -> people who came into its picture in those minutes
    looked: float  # seconds of those minutes in which it was looking
    compliance: str  # where more is to be had
    episodes: str


def radius(db: Session, who: Who, site: str) -> float | None:
    """The widest of the roles by which somebody may inspect there; None: no limit."""
    roles = {g.role for g in who.grants if "inspections.add" in g.permissions and not g.camera and g.site in ("", site)}
    found = list(db.scalars(select(Role.patrol_radius).where(Role.name.in_(roles))))
    return None if not found or None in found else max(each for each in found if each is not None)


def privacy(db: Session, site: str) -> tuple[Privacy, bool]:
    """What the site allows, and whether it has other people's faces blurred in what is kept."""
    row = db.get(Site, site)
    return (cast("Privacy", row.privacy), row.blur_others) if row else ("pseudonymous", False)


def on_plan(db: Session, site: str, lat: float | None, lon: float | None) -> tuple[float, float] | None:
    """Metres on the site plan of a place on the globe, where the site says how it lies."""
    row = db.get(Site, site)
    if row is None or row.origin is None or lat is None or lon is None:
        return None
    east, north = plan.ground(row.origin, lat, lon)
    return (round(east, 2), round(north, 2)) if max(abs(east), abs(north)) < FAR else None


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Between two places, latitude and longitude each, along the great circle."""
    lat1, lat2 = math.radians(a[0]), math.radians(b[0])
    half = (math.sin((lat2 - lat1) / 2) ** 2
            + math.cos(lat1) * math.cos(lat2) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2)
    return 2 * EARTH * math.asin(math.sqrt(min(1.0, half)))


class Spot(NamedTuple):
    """A place, as far as it is known: on the globe, in metres on the site plan, or both."""

    lat: float | None = None
    lon: float | None = None
    east: float | None = None
    north: float | None = None

    @property
    def globe(self) -> tuple[float, float] | None:
        return None if self.lat is None or self.lon is None else (self.lat, self.lon)

    @property
    def flat(self) -> tuple[float, float] | None:
        return None if self.east is None or self.north is None else (self.east, self.north)


def spot(of: Photo | Checkpoint | Point) -> Spot:
    return Spot(of.lat, of.lon, of.east, of.north)


def distance(a: Spot, b: Spot, origin: plan.Origin | None) -> float | None:
    """Metres: on the plan where both are known there, else on the globe, where `origin` says how the plan lies; None
    where it cannot be said."""
    if a.flat and b.flat:
        return round(math.dist(a.flat, b.flat), 1)
    one, other = (each.globe or (plan.globe(origin, each.flat) if origin and each.flat else None) for each in (a, b))
    return round(metres(one, other), 1) if one and other else None


def outside(db: Session, site: Site | None, at: Spot) -> float | None:
    """Metres from the nearest of the site's floor plans, within one 0; of a site without, from its plan's 0, 0. None
    where nobody has said where the site is, or nobody knows where it was."""
    if site is None:
        return None
    floors = db.scalars(select(Plan).where(Plan.site == site.id, Plan.kind == "image")).all()
    if at.flat and floors:
        east, north = at.flat
        return round(min(math.hypot(max(f.west - east, 0, east - f.east), max(f.south - north, 0, north - f.north))
                         for f in floors), 1)
    return distance(at, Spot(site.latitude, site.longitude, 0.0, 0.0), site.origin) if site.origin else None


def place(db: Session, row: Inspection, photo: Photo) -> None:
    """Which checkpoint a photo belongs to, how far from where it should be it was taken, whether that is too far, and
    whether anything shows it. It should be at the checkpoint or else the camera that the phone names, else at the
    nearest checkpoint of the round, else at the site. Without word of the phone it belongs to the nearest checkpoint
    within whose radius it is."""
    at, site = spot(photo), db.get(Site, row.site)
    origin = site.origin if site else None
    walked = db.get(Round, row.round) if row.round else None
    named = db.scalar(select(Checkpoint).join(Round).where(
        Checkpoint.id == photo.checkpoint, Round.site == row.site)) if photo.checkpoint else None
    points = [named] if named else [] if walked is None else db.scalars(
        select(Checkpoint).where(Checkpoint.round == walked.id, ~Checkpoint.retired)).all()
    near = [(away, point) for point in points if (away := distance(at, spot(point), origin)) is not None]
    away, point = min(near, key=lambda each: each[0], default=(None, named))
    within = point is not None and (away is None or away <= point.radius)
    if point is not None and within:
        photo.checkpoint = point.id
    photo.visit = within
    camera = db.scalar(select(CameraRow).where(CameraRow.id == photo.camera, CameraRow.site == row.site,
                                               CameraRow.place_east.is_not(None))) if photo.camera else None
    if camera and not named:
        photo.against = "camera"
        photo.distance = distance(at, Spot(east=camera.place_east, north=camera.place_north), origin)
    elif point is not None:
        photo.against, photo.distance = "checkpoint", away
    else:
        photo.distance = outside(db, site, at)
        photo.against = "site" if origin or photo.distance is not None else ""
    photo.far = photo.distance is not None and row.radius is not None and photo.distance > row.radius
    needed = walked is None or walked.positions
    photo.unproven = needed and bool(photo.against) and photo.distance is None


def track(db: Session, row: Inspection) -> list[Point]:
    return list(db.scalars(select(Point).where(Point.inspection == row.id).order_by(Point.at, Point.id)))


def flat(db: Session, row: Inspection, point: Point | Photo) -> tuple[float, float] | None:
    """Where it was on the site plan: as the phone said, else by its position on the globe."""
    return spot(point).flat or on_plan(db, row.site, point.lat, point.lon)


def legs(been: Sequence[tuple[int, Place]]) -> list[list[tuple[int, Place]]]:
    """(µs, place) in order of time, cut where nothing came for SILENT."""
    found: list[list[tuple[int, Place]]] = []
    for at, where in been:
        if found and at - found[-1][-1][0] <= SILENT:
            found[-1].append((at, where))
        else:
            found.append([(at, where)])
    return found


class Line(msgspec.Struct):
    """A stretch of the way."""

    kind: Literal["observed", "inferred"]  # walked, or between two positions that are apart in time
    start: int  # µs UTC
    end: int
    coordinates: list[Place]


def lines(been: Sequence[tuple[int, Place]]) -> list[Line]:
    """What was walked, then the gaps between."""
    those = legs(been)
    walked = [Line("observed", leg[0][0], leg[-1][0], [where for _, where in leg]) for leg in those if len(leg) > 1]
    return walked + [Line("inferred", a[-1][0], b[0][0], [a[-1][1], b[0][1]]) for a, b in pairwise(those)]


def geojson(db: Session, row: Inspection, coordinates: str = "auto") -> dict[str, Any]:
    """A FeatureCollection in longitude and latitude, or in metres on the site plan; `auto`: on the plan when more of
    its places are known there. Members beside it tell of the plan in any case."""
    points = track(db, row)
    photos = db.scalars(select(Photo).where(Photo.inspection == row.id).order_by(Photo.taken)).all()
    site = db.get(Site, row.site)
    origin = site.origin if site else None

    def globe(of: Point | Photo) -> Place | None:
        at = spot(of)
        if at.globe is None and at.flat and origin:
            lat, lon = plan.globe(origin, at.flat)
            return round(lon, 7), round(lat, 7)  # a centimetre
        return at.globe and (at.globe[1], at.globe[0])

    def on(how: Callable[[Point | Photo], Place | None]) -> tuple[list[tuple[int, Place]], list[tuple[Photo, Place]]]:
        return ([(p.at, where) for p in points if (where := how(p))],
                [(p, where) for p in photos if (where := how(p))])

    on_map, on_floor = on(globe), on(lambda of: flat(db, row, of))
    mapped = coordinates == "map" or (coordinates == "auto" and sum(map(len, on_map)) >= sum(map(len, on_floor)))
    been, taken = on_map if mapped else on_floor
    features = [{"type": "Feature", "geometry": {"type": "LineString", "coordinates": line.coordinates},
                 "properties": {"kind": line.kind, "start": line.start, "end": line.end}} for line in lines(been)]
    features += [{"type": "Feature", "geometry": {"type": "Point", "coordinates": where},
                  "properties": {"kind": "photo", "photo": p.id, "at": p.taken, "far": p.far, "unproven": p.unproven,
                                 "checkpoint": p.checkpoint, "camera": p.camera}} for p, where in taken]
    return {
        "type": "FeatureCollection", "features": features, "coordinates": "map" if mapped else "plan",
        "plan": {"lines": lines(on_floor[0]),
                 "legs": [[[*where, at] for at, where in leg] for leg in legs(on_floor[0])],  # observed; with times
                 "photos": [{"photo": p.id, "place": where, "at": p.taken} for p, where in on_floor[1]]},
    }  # fmt: skip


def passed(db: Session, who: Who, row: Inspection, within: float) -> list[Passed]:
    """One entry for each stretch of time near each camera that this user may see."""
    been = [(p.at, *where) for p in track(db, row) if (where := flat(db, row, p)) is not None]
    been += [(p.taken, p.east, p.north) for p in db.scalars(  # type: ignore[misc]
        select(Photo).where(Photo.inspection == row.id, Photo.east.is_not(None)))]
    been.sort()
    found = []
    scope = who.scope("cameras.view")
    for camera in db.scalars(select(CameraRow).where(
            CameraRow.site == row.site, CameraRow.place_east.is_not(None), scope.where(CameraRow.site, CameraRow.id))
            .order_by(CameraRow.id)):
        near = [(at, math.hypot(east - camera.place_east, north - camera.place_north)) for at, east, north in been]
        stretch: list[tuple[int, float]] = []
        for at, away in [each for each in near if each[1] <= within]:
            if stretch and at - stretch[-1][0] > SILENT:
                found.append(_passed(db, camera, stretch))
                stretch = []
            stretch.append((at, away))
        if stretch:
            found.append(_passed(db, camera, stretch))
    return sorted(found, key=lambda each: (each.start, each.camera))


def _passed(db: Session, camera: CameraRow, stretch: Sequence[tuple[int, float]]) -> Passed:
    start, end = stretch[0][0], stretch[-1][0]
    since, until = start // MINUTE * MINUTE, end // MINUTE * MINUTE + MINUTE
    looked, *came = db.execute(
        select(func.coalesce(func.sum(Minute.looked), 0),
               *(func.coalesce(func.sum(getattr(Minute, f"came_{state}")), 0) for state in STATES))
        .where(Minute.site == camera.site, Minute.camera == camera.id, Minute.zone == "", Minute.minute >= since,
               Minute.minute < until)).one()
    asked = f"camera={camera.id}&since={since}&until={until}"
    return Passed(camera.id, camera.name, start, end, round(min(away for _, away in stretch), 1),
                  dict(zip(STATES, map(int, came), strict=True)), int(looked) / 1e6,
                  f"/v1/compliance?{asked}", f"/v1/episodes?{asked}")
