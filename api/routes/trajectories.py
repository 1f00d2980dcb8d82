"""Trajectories: who went where, as lists and as GeoJSON; who passed a camera.

Who may see only some cameras of a site sees the legs in those, and what lies between two of them that follow each
other; a route without such a leg is not there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Router, get
from litestar.params import FromQuery, QueryParameter
from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from api.auth import needs
from api.dependencies import By, Db
from api.fields import CLEAN
from api.pages import Cursor, Limit, Page, take
from api.permissions import Scope, Who
from api.problems import missing
from api.ranges import LATEST, Camera, Id, Since, Site, TheCamera, Until
from api.routes.sightings import AnyState
from api.tables import audit, sites
from api.tables.cameras import Calibration, CameraRow
from api.tables.sightings import TrackPoint
from api.tables.trajectories import LegRow, TrajectoryRow
from pipeline import plan
from pipeline.messages import STATES

SECOND = 1_000_000  # µs
MOST = 500  # routes of one map
STEPS = 60  # points of a leg's way; of a longer one each second, third …
Person = Annotated[str, QueryParameter(max_length=200, pattern=CLEAN,
                                       description="id of the person, which is that of the route; empty: all")]
Coordinates = FromQuery[Literal["auto", "plan", "map"]]
Paths = dict[tuple[str, int], list["Waypoint"]]  # trajectory, number of the leg
Project = Callable[[float, float], tuple[float, float]]  # metres east and north -> longitude and latitude


class Waypoint(msgspec.Struct):
    """Where somebody was at a time, as far as their face tells it: docs/sites.md says how far off that may be."""

    at: int  # µs UTC
    place: tuple[float, float]  # metres east and north on the site plan


class LegView(msgspec.Struct):
    """A stretch of a route that a camera saw."""

    trajectory: str
    number: int  # from 0, in order of time
    site: str
    camera: str
    track: str
    start: int  # µs UTC
    end: int
    place: tuple[float, float] | None  # of the camera, metres east and north on the site plan
    state: str  # at `end`
    seconds: dict[str, float]  # by state
    face: str  # id of the best face; empty: none
    path: list[Waypoint]  # where in the camera's view they walked; empty: it is not calibrated, or all lies outside

    @property
    def enters(self) -> tuple[float, float] | None:
        return self.path[0].place if self.path else self.place

    @property
    def leaves(self) -> tuple[float, float] | None:
        return self.path[-1].place if self.path else self.place


class RouteGap(msgspec.Struct):
    """A stretch that nobody saw, between two legs."""

    after: int  # number of the leg before
    start: int
    end: int
    probability: float  # that both legs are the same person, 0..1
    metres: float | None  # straight line between the two cameras


class TrajectoryView(msgspec.Struct):
    """A route, as far as one may see it."""

    id: str  # of the person
    site: str
    start: int  # first look, µs UTC
    at: int  # newest look
    closed: bool  # not expected to be seen again
    state: str  # of the newest leg
    seconds: dict[str, float]  # by state
    cameras: list[str]  # in order of time
    metres: float  # between cameras, as far as their places are known
    legs: list[LegView]
    gaps: list[RouteGap]


class Feature(msgspec.Struct):
    """A leg or a gap on a map."""

    # Point where the camera stands, LineString of a way or a gap; null: no place is known
    geometry: dict[str, Any] | None
    properties: dict[str, Any]
    type: str = "Feature"


class Features(msgspec.Struct):
    """RFC 7946, but for `coordinates: plan`: then they are metres east and north on the site plan."""

    features: list[Feature]
    coordinates: str  # plan, map (longitude and latitude, WGS 84)
    type: str = "FeatureCollection"


def visible(scope: Scope) -> ColumnElement[bool]:
    """Of routes: those with a leg that the scope covers."""
    if scope.everywhere or not scope.cameras:
        return scope.where(TrajectoryRow.site)
    of = select(LegRow.number).where(LegRow.trajectory == TrajectoryRow.id, scope.where(LegRow.site, LegRow.camera))
    return or_(scope.where(TrajectoryRow.site), of.exists())


def wanted(who: Who, since: int, until: int, site: str, camera: str, state: str, person: str) -> Select[Any]:
    """Routes that were under way in [since, until); with a camera or a state: with such a leg in that time."""
    scope = who.scope("people.view")
    query = select(TrajectoryRow).where(visible(scope), TrajectoryRow.at >= since, TrajectoryRow.start < until)
    if site:
        query = query.where(TrajectoryRow.site == site)
    if person:
        query = query.where(TrajectoryRow.id == person)
    if camera or state or scope.cameras:
        leg = select(LegRow.number).where(LegRow.trajectory == TrajectoryRow.id, LegRow.end >= since,
                                          LegRow.start < until, scope.where(LegRow.site, LegRow.camera))
        if camera:
            leg = leg.where(LegRow.camera == camera)
        if state:
            leg = leg.where(or_(getattr(LegRow, state) > 0, LegRow.state == state))
        query = query.where(leg.exists())
    return query


def views(db: Session, scope: Scope, rows: Sequence[TrajectoryRow]) -> list[TrajectoryView]:
    """What the scope shows of routes, in their order."""
    legs: defaultdict[str, list[LegRow]] = defaultdict(list)
    for leg in db.scalars(select(LegRow).where(LegRow.trajectory.in_([row.id for row in rows]),
                                               scope.where(LegRow.site, LegRow.camera))
                          .order_by(LegRow.trajectory, LegRow.number)):
        legs[leg.trajectory].append(leg)
    walked = paths(db, [leg for those in legs.values() for leg in those])
    return [_view(row, legs[row.id], walked) for row in rows if legs[row.id]]


def paths(db: Session, legs: Sequence[LegRow]) -> Paths:
    """What the faces of legs say of where somebody walked, where their camera is calibrated: at most a point a second,
    and some sixty of a leg. A camera that has moved shows nothing of how it hung at another site."""
    seen = {(site, camera): plan.View(matrix) for site, camera, matrix in db.execute(
        select(CameraRow.site, CameraRow.id, Calibration.matrix).join(Calibration, Calibration.camera == CameraRow.id)
        .where(CameraRow.id.in_({leg.camera for leg in legs})))}
    found: Paths = defaultdict(list)
    if not seen:
        return found
    of = select(LegRow.trajectory, LegRow.number, LegRow.site, LegRow.camera, TrackPoint).join(
        TrackPoint, TrackPoint.track == LegRow.track).where(
        LegRow.trajectory.in_({leg.trajectory for leg in legs}), tuple_(LegRow.site, LegRow.camera).in_(seen),
        TrackPoint.at >= LegRow.start, TrackPoint.at <= LegRow.end,
        TrackPoint.second % func.greatest(1, (LegRow.end - LegRow.start) // (STEPS * SECOND)) == 0)
    for trajectory, number, site, camera, point in db.execute(of.order_by(TrackPoint.at)):
        if place := seen[site, camera].feet(point.box):
            found[trajectory, number].append(Waypoint(point.at, (round(place[0], 2), round(place[1], 2))))
    return found


def _view(row: TrajectoryRow, legs: list[LegRow], walked: Paths) -> TrajectoryView:
    numbers = {leg.number for leg in legs}
    gaps = [RouteGap(number, gap["start"], gap["end"], gap["probability"], gap["metres"])
            for number, gap in enumerate(row.gaps) if {number, number + 1} <= numbers]
    return TrajectoryView(
        row.id, row.site, legs[0].start, max(leg.end for leg in legs), row.closed, legs[-1].state,
        {name: round(sum(getattr(leg, name) for leg in legs) / SECOND, 1) for name in STATES},
        list(dict.fromkeys(leg.camera for leg in legs)), round(sum(gap.metres or 0.0 for gap in gaps), 1),
        [leg_view(leg, walked) for leg in legs], gaps,
    )


def leg_view(leg: LegRow, walked: Paths) -> LegView:
    place = None if leg.east is None or leg.north is None else (leg.east, leg.north)
    return LegView(leg.trajectory, leg.number, leg.site, leg.camera, leg.track, leg.start, leg.end, place, leg.state,
                   {name: round(getattr(leg, name) / SECOND, 1) for name in STATES}, leg.face,
                   walked.get((leg.trajectory, leg.number), []))


@get("/", opt=needs("people.view"), sync_to_thread=True, summary="Routes, the newest first")
def trajectories(db: Db, who: By, since: Since = 0, until: Until = LATEST, site: Site = "", camera: Camera = "",
                 wore: AnyState = "", person: Person = "", cursor: Cursor = None, limit: Limit = 50
                 ) -> Page[TrajectoryView]:
    """Those under way in [since, until); with a camera or a state: with a leg in that time there, or in that state."""
    query = wanted(who, since, until, site, camera, wore, person)
    page = take(db, query, [TrajectoryRow.at, TrajectoryRow.id], lambda row: row, cursor, limit)
    return Page(views(db, who.scope("people.view"), page.items), page.next)


@get("/passed", opt=needs("people.view"), sync_to_thread=True, summary="Who passed a camera, the newest first")
def passed(db: Db, who: By, camera: TheCamera, since: Since = 0,
           until: Until = LATEST, wore: AnyState = "", cursor: Cursor = None, limit: Limit = 100) -> Page[LegView]:
    """The legs in front of it that were under way in [since, until)."""
    query = select(LegRow).where(who.scope("people.view").where(LegRow.site, LegRow.camera), LegRow.camera == camera,
                                 LegRow.end >= since, LegRow.start < until)
    if wore:
        query = query.where(or_(getattr(LegRow, wore) > 0, LegRow.state == wore))
    page = take(db, query, [LegRow.end, LegRow.trajectory, LegRow.number], lambda row: row, cursor, limit)
    walked = paths(db, page.items)
    return Page([leg_view(leg, walked) for leg in page.items], page.next)


@get("/geojson", opt=needs("people.view"), sync_to_thread=True, summary="Routes as GeoJSON")
def map_(db: Db, who: By, since: Since = 0, until: Until = LATEST, site: Site = "", camera: Camera = "",
         wore: AnyState = "", person: Person = "", coordinates: Coordinates = "auto",
         limit: Annotated[int, QueryParameter(ge=1, le=MOST)] = 100) -> Features:
    """Legs are points with their times and states (`kind: observed`), where their camera stands; where that is
    calibrated, the way somebody walked in its view is a line (`walked`, with the `times` of its points); what lies
    between two legs is a line too (`inferred`)."""
    query = wanted(who, since, until, site, camera, wore, person)
    rows = db.scalars(query.order_by(TrajectoryRow.at.desc(), TrajectoryRow.id.desc()).limit(limit)).all()
    return features(db, views(db, who.scope("people.view"), rows), coordinates)


@get("/{id:str}", opt=needs("people.view"), sync_to_thread=True, summary="One route")
def trajectory(db: Db, who: By, id: Id) -> TrajectoryView:
    """The look is in the audit log."""
    return _one(db, who, id)


@get("/{id:str}/geojson", opt=needs("people.view"), sync_to_thread=True, summary="One route as GeoJSON")
def one_map(db: Db, who: By, id: Id, coordinates: Coordinates = "auto") -> Features:
    """The look is in the audit log."""
    return features(db, [_one(db, who, id)], coordinates)


def _one(db: Session, who: Who, id: str) -> TrajectoryView:
    row = db.get(TrajectoryRow, id)
    found = views(db, who.scope("people.view"), [row] if row else [])
    if not found:
        raise missing("trajectory", id)
    audit.write(db, who.id, "trajectory.look", id, site=found[0].site, address=who.address)
    return found[0]


def features(db: Session, routes: Sequence[TrajectoryView], coordinates: str) -> Features:
    """`auto`: on the map when every site among them is on it."""
    projects = {site: georeference(db, site) for site in sorted({route.site for route in routes})}
    on_map = coordinates == "map" or (coordinates == "auto" and bool(projects) and None not in projects.values())
    found: list[Feature] = []
    for route in routes:
        project = projects[route.site] if on_map else (lambda east, north: (east, north))
        places = {leg.number: project(*leg.place) if leg.place and project else None for leg in route.legs}
        for leg in route.legs:
            place = places[leg.number]
            found.append(Feature(place and {"type": "Point", "coordinates": place}, {
                "kind": "observed", "trajectory": route.id, "number": leg.number, "camera": leg.camera,
                "track": leg.track, "start": leg.start, "end": leg.end, "state": leg.state, "seconds": leg.seconds,
                "face": leg.face}))
            if leg.path:
                line = [project(*step.place) for step in leg.path] if project else []
                shape = {"type": "LineString", "coordinates": line} if len(line) > 1 else {
                    "type": "Point", "coordinates": line[0]} if line else None
                found.append(Feature(shape, {
                    "kind": "walked", "trajectory": route.id, "number": leg.number, "camera": leg.camera,
                    "track": leg.track, "times": [step.at for step in leg.path]}))
        legs = {leg.number: leg for leg in route.legs}
        for gap in route.gaps:
            ends = [project(*place) if place and project else None
                    for place in (legs[gap.after].leaves, legs[gap.after + 1].enters)]
            found.append(Feature({"type": "LineString", "coordinates": ends} if None not in ends else None, {
                "kind": "inferred", "trajectory": route.id, "after": gap.after, "start": gap.start, "end": gap.end,
                "probability": gap.probability, "metres": gap.metres}))
    return Features(found, "map" if on_map else "plan")


def georeference(db: Session, site: str) -> Project | None:
    """How plan metres of a site become longitude and latitude; None: nobody said where the site is."""
    row = db.get(sites.Site, site)
    origin = row.origin if row else None
    if origin is None:
        return None

    def project(east: float, north: float) -> tuple[float, float]:
        latitude, longitude = plan.globe(origin, (east, north))
        return round(longitude, 7), round(latitude, 7)  # a centimetre

    return project


router = Router("/v1/trajectories", route_handlers=[trajectories, passed, map_, trajectory, one_map],
                tags=["trajectories"])
