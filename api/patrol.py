"""Where an inspection was: distances, checkpoints, its route as GeoJSON, the cameras it came by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.permissions import Who
from api.tables.cameras import CameraRow
from api.tables.compliance import MINUTE, Minute
from api.tables.inspections import Checkpoint, Inspection, Photo, Point
from api.tables.sites import Site
from api.tables.users import Role
from pipeline import plan
from pipeline.messages import STATES, Privacy

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


def privacy(db: Session, site: str) -> Privacy:
    row = db.get(Site, site)
    return cast("Privacy", row.privacy) if row else "pseudonymous"


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


def distance(photo: Photo, point: Checkpoint) -> float | None:
    """On the plan where both are known there, else by latitude and longitude; None where neither can be said."""
    if None not in (photo.east, photo.north, point.east, point.north):
        return round(math.hypot(photo.east - point.east, photo.north - point.north), 1)  # type: ignore[operator]
    if None not in (photo.lat, photo.lon, point.lat, point.lon):
        return round(metres((photo.lat, photo.lon), (point.lat, point.lon)), 1)  # type: ignore[arg-type]
    return None


def place(db: Session, row: Inspection, photo: Photo) -> None:
    """Which checkpoint a photo belongs to, how far from it it was taken, and whether that is too far. Without word of
    the phone it is the nearest one within its radius."""
    points = list(db.scalars(select(Checkpoint).where(Checkpoint.round == row.round, ~Checkpoint.retired))
                  ) if row.round else []
    if photo.checkpoint:
        points = list(db.scalars(select(Checkpoint).where(Checkpoint.id == photo.checkpoint)))
        point = points[0] if points else None
        away = distance(photo, point) if point else None
    else:
        near = [(away, point) for point in points if (away := distance(photo, point)) is not None]
        away, point = min(near, key=lambda each: each[0], default=(None, None))
    if point is None:
        photo.distance, photo.far, photo.visit = None, False, False
        return
    within = away is None or away <= point.radius
    if within or photo.checkpoint:
        photo.checkpoint = point.id
    photo.distance, photo.visit = away, within and bool(photo.checkpoint)
    photo.far = away is not None and row.radius is not None and away > row.radius


def track(db: Session, row: Inspection) -> list[Point]:
    return list(db.scalars(select(Point).where(Point.inspection == row.id).order_by(Point.at, Point.id)))


def flat(db: Session, row: Inspection, point: Point) -> tuple[float, float] | None:
    """Where it was on the site plan: as the phone said, else by its position on the globe."""
    if point.east is not None and point.north is not None:
        return point.east, point.north
    return on_plan(db, row.site, point.lat, point.lon)


def legs(points: Sequence[Point]) -> list[list[Point]]:
    """Cut where nothing came for SILENT."""
    found: list[list[Point]] = []
    for point in points:
        if found and point.at - found[-1][-1].at <= SILENT:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def geojson(db: Session, row: Inspection) -> dict[str, Any]:
    """A FeatureCollection; members beside it for the plan."""
    points = track(db, row)
    photos = db.scalars(select(Photo).where(Photo.inspection == row.id).order_by(Photo.taken)).all()
    globe = legs([p for p in points if p.lat is not None and p.lon is not None])
    features = [_line([(p.lon, p.lat) for p in leg], "observed", leg[0].at, leg[-1].at)
                for leg in globe if len(leg) > 1]
    features += [_line([(a[-1].lon, a[-1].lat), (b[0].lon, b[0].lat)], "inferred", a[-1].at, b[0].at)
                 for a, b in pairwise(globe)]
    features += [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [p.lon, p.lat]},
                  "properties": {"kind": "photo", "photo": p.id, "at": p.taken, "far": p.far,
                                 "checkpoint": p.checkpoint}}
                 for p in photos if p.lat is not None]
    return {
        "type": "FeatureCollection", "features": features,
        "plan": {"legs": [[[*where, p.at] for p in leg if (where := flat(db, row, p))] for leg in legs(points)],
                 "photos": [{"photo": p.id, "place": [p.east, p.north], "at": p.taken} for p in photos
                            if p.east is not None]},
    }  # fmt: skip


def _line(places: list[tuple[Any, Any]], kind: str, start: int, end: int) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [list(each) for each in places]},
            "properties": {"kind": kind, "start": start, "end": end}}


def passed(db: Session, who: Who, row: Inspection, within: float) -> list[Passed]:
    """One entry for each stretch of time near each camera that this user may see."""
    been = [(p.at, *where) for p in track(db, row) if (where := flat(db, row, p)) is not None]
    been += [(p.taken, p.east, p.north) for p in db.scalars(
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
