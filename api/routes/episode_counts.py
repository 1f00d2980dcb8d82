"""How many episodes there were: by camera along time, and by where; for charts and maps of more than one can list."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import FromQuery, QueryParameter
from sqlalchemy import ColumnElement, Integer, cast, func, select

from api.auth import needs
from api.db import micros, now
from api.dependencies import By, Db
from api.permissions import Scope
from api.problems import Problem
from api.ranges import Camera, Site
from api.routes.episodes import AnyState, Exempt, Status, Whether, wanted
from api.routes.filters import LAST, Assigned, Person, Since, Until, Zone
from api.tables.episodes import EpisodeReview, EpisodeRow

Bins = Annotated[int, QueryParameter(ge=1, le=500, description="stretches of time, all of one length")]
Cell = Annotated[float, QueryParameter(ge=0.1, le=100, description="metres; what is nearer together is one place")]


class Pile(msgspec.Struct):
    """Those that began in a stretch of time in front of a camera."""

    camera: str  # the first that saw it, of those one may see
    start: int  # of the stretch, µs UTC
    none: int
    incorrect: int
    closed: int  # of both, those that people are through with


class Piles(msgspec.Struct):
    """The stretches in which there were any, by camera and time."""

    step: int  # length of a stretch, µs
    episodes: int  # in all of them together
    items: list[Pile]


class Spot(msgspec.Struct):
    """Those that were at a place on a site plan in the end."""

    site: str
    camera: str  # the last that saw it
    place: tuple[float, float]  # in the middle of them, metres
    episodes: int


def seen_by(scope: Scope, last: bool) -> ColumnElement[Any]:
    """The first camera of an episode that the scope shows, or the last."""
    camera = func.unnest(EpisodeRow.cameras).table_valued("id", with_ordinality="n", name="camera").render_derived()
    shown = scope.where(EpisodeRow.site, camera.c.id)  # type: ignore[arg-type]  # a column of the list, not of a table
    return (select(camera.c.id).where(shown)
            .order_by(camera.c.n.desc() if last else camera.c.n).limit(1).scalar_subquery())


@get("/counts", opt=needs("compliance.view"), sync_to_thread=True,
     summary="How many episodes, by camera and stretch of time")
def counts(db: Db, who: By, since: Since = 0, until: Until = LAST, site: Site = "", camera: Camera = "",
           mask: AnyState = None, status: FromQuery[Whether | None] = None, review: FromQuery[Status | None] = None,
           assigned: Assigned = "", person: Person = "", zone: Zone = "", exempt: Exempt = "no", bins: Bins = 120
           ) -> Piles:
    """Filters as of the list; `until` is now at the latest. Stretches without any are left out."""
    end = min(until, micros(now()) + 1)
    if since >= end:
        raise Problem(422, "no stretch of time", f"expected `since` before `until` and now, got {since} and {until}")
    scope = who.scope("compliance.view")
    fitting = wanted(who, scope, since, end, site, camera, mask, status, review, assigned, person, zone, exempt)
    step = -(-(end - since) // bins)
    seen = seen_by(scope, last=False)
    each = fitting.with_only_columns(
        seen.label("camera"), cast((EpisodeRow.start - since) / step, Integer).label("bin"), EpisodeRow.state,
        (func.coalesce(EpisodeReview.status, "new") == "closed").label("closed")).subquery()
    rows = db.execute(select(
        each.c.camera, each.c.bin, func.count().filter(each.c.state == "none"),
        func.count().filter(each.c.state == "incorrect"), func.count().filter(each.c.closed),
    ).group_by(each.c.camera, each.c.bin).order_by(each.c.camera, each.c.bin))
    items = [Pile(camera or "", since + bin * step, none, incorrect, closed)
             for camera, bin, none, incorrect, closed in rows]
    return Piles(step, sum(one.none + one.incorrect for one in items), items)


@get("/places", opt=needs("compliance.view"), sync_to_thread=True, summary="How many episodes, by where they were last")
def places(db: Db, who: By, since: Since = 0, until: Until = LAST, site: Site = "", camera: Camera = "",
           mask: AnyState = None, exempt: Exempt = "no", cell: Cell = 1.0) -> list[Spot]:
    """Those without a place on the plan, or that were last seen by a camera one may not see, are in none."""
    scope = who.scope("compliance.view")
    fitting = wanted(who, scope, since, until, site, camera, mask, None, None, "", "", "", exempt)
    seen = EpisodeRow.cameras[func.cardinality(EpisodeRow.cameras)]
    east, north = EpisodeRow.place_east, EpisodeRow.place_north
    each = fitting.where(east.is_not(None), scope.where(EpisodeRow.site, seen)).with_only_columns(  # type: ignore[arg-type]
        EpisodeRow.site, seen.label("camera"), east.label("east"), north.label("north")).subquery()
    square = [func.floor(each.c.east / cell), func.floor(each.c.north / cell)]
    rows = db.execute(select(each.c.site, each.c.camera, func.avg(each.c.east), func.avg(each.c.north), func.count())
                      .group_by(each.c.site, each.c.camera, *square).order_by(each.c.site, each.c.camera, *square))
    return [Spot(site, camera, (round(east, 2), round(north, 2)), n) for site, camera, east, north, n in rows]


router = Router("/v1/episodes", route_handlers=[counts, places], tags=["episodes"])
