"""Compliance in figures: now, over time, ranked, as a file; and when the cameras were not looking."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Router, get
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream
from sqlalchemy import ARRAY, BigInteger, cast, func, literal, select
from sqlalchemy.orm import Session

from api import ranges
from api.auth import needs
from api.dependencies import By, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import Scope
from api.ranges import SECOND, Buckets, Camera, Since, Site, Until, Zone
from api.tables import audit
from api.tables.cameras import CameraRow
from api.tables.compliance import BLIND, KINDS, Gap, Minute, Watching, now

Group = Literal["", "camera", "zone", "site"]
ZoneName = Annotated[str, QueryParameter(max_length=100, pattern=r"^[^\x00]*$",
                                    description="a zone of the cameras; empty: their whole pictures")]
GroupBy = Annotated[Group, QueryParameter(description="one series for each; empty: one for all together")]
Least = Annotated[int, QueryParameter(ge=0, le=1_000_000, description="people of whom it could be told")]
Most = Annotated[int, QueryParameter(ge=1, le=500)]
Mark = Annotated[bool, QueryParameter(description="for Excel: a mark that it is UTF-8")]
MOST_SERIES_BUCKETS = 400  # of each series, when there may be many
CHUNK = 200  # buckets of a file that are asked for at a time


class Counts(msgspec.Struct):
    """By what was worn."""

    worn: float = 0
    incorrect: float = 0
    none: float = 0
    unknown: float = 0  # could not be told: neither compliant nor a breach
    exempt: float = 0  # where or when nothing was required


class Numbers(msgspec.Struct):
    """What a stretch of time comes to. People are tracks: somebody whom two cameras saw counts in both; everybody
    counts once, when they came, under the state they were longest in."""

    people: Counts
    seconds: Counts  # person-seconds
    rate: float | None = None  # people with the mask worn among those of whom it could be told, 0..1
    low: float | None = None  # 95 % interval of `rate`: Wilson's, over people taken as independent of each other
    high: float | None = None
    rate_of_time: float | None = None  # the same of person-seconds
    looked: float = 0.0  # seconds in which cameras were looking, added up
    blind: float = 0.0  # seconds in which they should have been and were not; no rate counts them
    most: int = 0  # people that one camera saw in its busiest minute


class Bucket(msgspec.Struct):
    """A stretch of a series."""

    start: int  # µs UTC
    end: int
    numbers: Numbers


class Series(msgspec.Struct):
    """A group over time. What it is not grouped by is empty."""

    site: str
    camera: str
    zone: str
    total: Numbers
    buckets: list[Bucket]  # those in which anything was seen or a camera was looking or blind


class Compared(msgspec.Struct):
    """A group now and in the stretch of the same length before."""

    site: str
    camera: str
    zone: str
    now: Numbers
    before: Numbers
    change: float | None = None  # of `rate`; positive: more wear it now
    change_low: float | None = None  # 95 % interval of `change`: Newcombe's, from the two Wilson intervals
    change_high: float | None = None


class Now(msgspec.Struct):
    """A camera at this moment, as the live feed's `counts` tells of it."""

    id: str
    site: str
    at: int  # newest picture, µs UTC
    looking: bool  # it came just now
    people: dict[str, int]  # who is there
    minute: int  # the newest one, µs UTC
    people_in_minute: dict[str, int]
    seconds_in_minute: dict[str, float]


class GapView(msgspec.Struct):
    """A stretch in which a camera was not looking."""

    camera: str
    site: str
    start: int  # last picture before, µs UTC
    end: int  # first picture after
    why: str  # ended: the stream stopped; silent: nothing came


@dataclass
class Sums:
    """What one bucket of one group adds up to."""

    people: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    micros: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    looked: int = 0
    blind: int = 0
    most: int = 0

    def add(self, other: Sums) -> None:
        self.people = [a + b for a, b in zip(self.people, other.people, strict=True)]
        self.micros = [a + b for a, b in zip(self.micros, other.micros, strict=True)]
        self.looked, self.blind = self.looked + other.looked, self.blind + other.blind
        self.most = max(self.most, other.most)

    @property
    def decided(self) -> int:
        return sum(self.people[:3])

    @property
    def numbers(self) -> Numbers:
        of_time = sum(self.micros[:3])
        low, high = ranges.wilson(self.people[0], self.decided) or (None, None)
        return Numbers(
            Counts(*self.people), Counts(*(round(m / SECOND, 1) for m in self.micros)),
            _round(self.people[0] / self.decided) if self.decided else None, _round(low), _round(high),
            _round(self.micros[0] / of_time) if of_time else None, round(self.looked / SECOND, 1),
            round(self.blind / SECOND, 1), self.most,
        )


def _round(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


Key = tuple[str, str, str]  # site, camera, zone; empty: not grouped by


@dataclass(frozen=True)
class Asked:
    """What is counted."""

    scope: Scope
    site: str = ""
    camera: str = ""
    zone: str = ""
    by: Group = ""

    def where(self, site: Any, camera: Any) -> list[Any]:
        return [self.scope.where(site, camera), *([site == self.site] if self.site else []),
                *([camera == self.camera] if self.camera else [])]


def sums(db: Session, asked: Asked, edges: Sequence[int]) -> dict[Key, dict[int, Sums]]:
    """Group -> index of the bucket -> what it comes to."""
    found: dict[Key, dict[int, Sums]] = {}

    def at(key: Key, index: int) -> Sums:
        return found.setdefault(key, {}).setdefault(index, Sums())

    zoned = bool(asked.zone) or asked.by == "zone"
    index = func.width_bucket(Minute.minute, cast(list(edges), ARRAY(BigInteger)))
    keys = [{"site": Minute.site, "camera": Minute.camera, "zone": Minute.zone}[name] if name in _columns(asked.by)
            else literal("") for name in ("site", "camera", "zone")]
    there = sum((getattr(Minute, f"people_{kind}") for kind in KINDS[1:]), getattr(Minute, f"people_{KINDS[0]}"))
    where = [*asked.where(Minute.site, Minute.camera), Minute.minute >= edges[0], Minute.minute < edges[-1]]
    query = select(
        *keys, index, func.sum(Minute.looked), func.max(there),
        *(func.sum(getattr(Minute, f"came_{kind}")) for kind in KINDS),
        *(func.sum(getattr(Minute, kind)) for kind in KINDS),
    ).where(*where, Minute.zone != "" if asked.by == "zone" and not asked.zone else Minute.zone == asked.zone)
    for site, camera, zone, bucket, looked, most, *numbers in db.execute(query.group_by(*_grouped(asked.by), index)):
        at((site, camera, zone), bucket - 1).add(Sums(
            [int(n) for n in numbers[:len(KINDS)]], [int(n) for n in numbers[len(KINDS):]], int(looked), 0, most))
    if zoned:
        return found  # whether a zone could be seen is its camera's matter
    for site, camera, start, end in [*gaps(db, asked, edges[0], edges[-1]), *dark(db, asked)]:
        key = (site if asked.by in ("site", "camera") else "", camera if asked.by == "camera" else "", "")
        for bucket, micros in ranges.overlaps(start, end, list(edges)):
            at(key, bucket).blind += micros
    return found


def _columns(by: Group) -> tuple[str, ...]:
    return {"": (), "site": ("site",), "camera": ("site", "camera"), "zone": ("site", "camera", "zone")}[by]


def _grouped(by: Group) -> list[Any]:
    return [getattr(Minute, name) for name in _columns(by)]


def gaps(db: Session, asked: Asked, since: int, until: int) -> list[tuple[str, str, int, int]]:
    """site, camera, start, end of each stretch between two pictures of a camera that is too long."""
    rows = db.execute(select(Gap.site, Gap.camera, Gap.start, Gap.end)
                      .where(*asked.where(Gap.site, Gap.camera), Gap.end > since, Gap.start < until))
    return [(site, camera, start, end) for site, camera, start, end in rows]


def dark(db: Session, asked: Asked) -> list[tuple[str, str, int, int]]:
    """The same of cameras that should be looking and have not come back yet: until now."""
    clock = time.time_ns() // 1000
    rows = db.execute(
        select(Watching.site, Watching.camera, Watching.at).join(CameraRow, CameraRow.id == Watching.camera)
        .where(*asked.where(Watching.site, Watching.camera), CameraRow.running, Watching.at < clock - BLIND))
    return [(site, camera, at, clock) for site, camera, at in rows]


def series_of(found: dict[Key, dict[int, Sums]], edges: Sequence[int]) -> list[Series]:
    answer = []
    for (site, camera, zone), buckets in sorted(found.items()):
        total = Sums()
        for each in buckets.values():
            total.add(each)
        answer.append(Series(site, camera, zone, total.numbers, [
            Bucket(edges[index], edges[index + 1], each.numbers) for index, each in sorted(buckets.items())]))
    return answer


@get("/", opt=needs("compliance.view"), sync_to_thread=True, summary="Compliance over time")
def over_time(db: Db, who: By, since: Since, until: Until, bucket: Buckets = "hour", tz: Zone = "Asia/Shanghai",
              site: Site = "", camera: Camera = "", zone: ZoneName = "", by: GroupBy = "") -> list[Series]:
    """People, person-seconds and rates of each bucket, of what one may see. Minutes are the finest there is: `since`
    and `until` are widened to whole ones."""
    begin, end = ranges.whole_minutes(since, until)
    edges = ranges.edges(begin, end, bucket, ranges.time_zone(tz), MOST_SERIES_BUCKETS if by else ranges.MOST)
    found = sums(db, Asked(who.scope("compliance.view"), site, camera, zone, by), edges)
    if not by:
        found.setdefault(("", "", ""), {})
    return series_of(found, edges)


@get("/now", opt=needs("compliance.view"), sync_to_thread=True, summary="Who is in front of each camera")
def at_present(db: Db, who: By, site: Site = "", camera: Camera = "") -> list[Now]:
    clock = time.time_ns() // 1000
    asked = Asked(who.scope("compliance.view"), site, camera)
    rows = db.scalars(select(Watching).where(*asked.where(Watching.site, Watching.camera)).order_by(Watching.camera))
    answer = []
    for row in rows:
        told = now(row.state)
        looking = not row.ended and clock - row.at <= BLIND + 2 * SECOND  # and the way to here
        if not looking:
            told["people"] = dict.fromkeys(told["people"], 0)
        answer.append(Now(row.camera, row.site, looking=looking, **told))
    return answer


@get("/trend", opt=needs("compliance.view"), sync_to_thread=True, summary="A stretch of time and the one before it")
def trend(db: Db, who: By, since: Since, until: Until, site: Site = "", camera: Camera = "", zone: ZoneName = ""
          ) -> Compared:
    """The one before is as long, and ends where this one begins."""
    begin, end = ranges.whole_minutes(since, until)
    asked = Asked(who.scope("compliance.view"), site, camera, zone)
    (answer,) = compared(db, asked, begin, end, [("", "", "")])
    return answer


@get("/ranking", opt=needs("compliance.view"), sync_to_thread=True, summary="The worst cameras, zones or sites first")
def ranking(db: Db, who: By, since: Since, until: Until, by: FromQuery[Literal["camera", "zone", "site"]] = "camera",
            order: FromQuery[Literal["rate", "breaches", "blind"]] = "rate", site: Site = "", least: Least = 0,
            limit: Most = 20) -> list[Compared]:
    """`rate`: by the upper end of the interval, so that three people do not top the list. `breaches`: by people who
    wore none or wore it wrongly. `blind`: by the time in which nobody looked."""
    begin, end = ranges.whole_minutes(since, until)
    found = [each for each in compared(db, Asked(who.scope("compliance.view"), site, by=by), begin, end)
             if decided(each.now) >= least]

    def place(each: Compared) -> tuple[Any, ...]:
        n = each.now
        first = {"rate": n.high if n.high is not None else 2.0, "breaches": -(n.people.none + n.people.incorrect),
                 "blind": -n.blind}[order]
        return first, -decided(n), each.site, each.camera, each.zone

    return sorted(found, key=place)[:limit]


def decided(numbers: Numbers) -> float:
    return numbers.people.worn + numbers.people.incorrect + numbers.people.none


def compared(db: Session, asked: Asked, since: int, until: int, always: Sequence[Key] = ()) -> list[Compared]:
    """Each group of now, with what it was before."""
    found = sums(db, asked, [since, until])
    earlier = sums(db, asked, [max(0, 2 * since - until), since]) if since > 0 else {}
    answer = []
    for key in sorted({*found, *always}):
        this, that = found.get(key, {}).get(0, Sums()), earlier.get(key, {}).get(0, Sums())
        change = ranges.difference(this.people[0], this.decided, that.people[0], that.decided) or (None, None, None)
        answer.append(Compared(*key, this.numbers, that.numbers, *(_round(each) for each in change)))
    return answer


@get("/gaps", opt=needs("compliance.view"), sync_to_thread=True, summary="When cameras were not looking, newest first")
def blind_times(db: Db, who: By, since: Since = 0, until: Until = ranges.LATEST, site: Site = "", camera: Camera = "",
                cursor: Cursor = None, limit: Limit = 100) -> Page[GapView]:
    """Stretches of more than three seconds between two pictures that were looked at. One that goes on is not among
    them: the camera's status tells of it."""
    asked = Asked(who.scope("compliance.view"), site, camera)
    query = select(Gap).where(*asked.where(Gap.site, Gap.camera), Gap.end > since, Gap.start < until)
    return take(db, query, [Gap.start, Gap.camera],
                lambda g: GapView(g.camera, g.site, g.start, g.end, g.why), cursor, limit)


# -- as a file -------------------------------------------------------------------------------------------------------

HEADINGS = ("start", "end", "site", "camera", "name", "zone", *(f"people_{kind}" for kind in KINDS),
            *(f"seconds_{kind}" for kind in KINDS), "rate", "rate_low", "rate_high", "rate_of_time", "looked_seconds",
            "blind_seconds", "most_in_a_minute")  # fmt: skip


@get("/export", opt=needs("compliance.export"), sync_to_thread=True, media_type="text/csv",
     summary="Compliance over time as CSV")
def export(request: Request[Any, Any, Any], db: Db, who: By, since: Since, until: Until, bucket: Buckets = "hour",
           tz: Zone = "Asia/Shanghai", site: Site = "", camera: Camera = "", zone: ZoneName = "",
           by: GroupBy = "camera", bom: Mark = False) -> Stream:
    """A row for each bucket of each group; times are those of `tz`. A text that a spreadsheet would take for a formula
    has an apostrophe before it."""
    begin, end = ranges.whole_minutes(since, until)
    where = ranges.time_zone(tz)
    edges = ranges.edges(begin, end, bucket, where, 100 * ranges.MOST)
    asked = Asked(who.scope("compliance.export"), site, camera, zone, by)
    audit.write(db, who.id, "compliance.export", site=site, camera=camera, address=who.address, since=begin, until=end)
    named = dict(db.execute(select(CameraRow.id, CameraRow.name)).all())
    sessions = request.app.state.sessions

    def lines() -> Iterator[bytes]:
        yield (b"\xef\xbb\xbf" if bom else b"") + line(HEADINGS)
        for first in range(0, len(edges) - 1, CHUNK):
            some = edges[first:first + CHUNK + 1]
            with sessions() as session:
                found = sums(session, asked, some)
            for index, key in sorted((index, key) for key, buckets in found.items() for index in buckets):
                yield line(_cells(key, some[index], some[index + 1], found[key][index].numbers, named, where))

    name = f"compliance-{datetime.fromtimestamp(begin / 1e6, where):%Y%m%d-%H%M}.csv"
    return Stream(lines(), media_type="text/csv; charset=utf-8", headers={
        "Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff"})


def _cells(key: Key, start: int, end: int, n: Numbers, named: dict[str, str], zone: tzinfo) -> list[Any]:
    site, camera, part = key
    times = [datetime.fromtimestamp(at // SECOND, UTC).astimezone(zone).isoformat() for at in (start, end)]
    return [*times, site, camera, named.get(camera, ""), part, *msgspec.structs.astuple(n.people),
            *msgspec.structs.astuple(n.seconds), n.rate, n.low, n.high, n.rate_of_time, n.looked, n.blind, n.most]


def line(cells: Sequence[Any]) -> bytes:
    """One line of CSV (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([safe(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode()


def safe(text: str) -> str:
    """Nothing that a spreadsheet runs: OWASP's rule against CSV injection."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


router = Router("/v1/compliance", route_handlers=[over_time, at_present, trend, ranking, blind_times, export],
                tags=["compliance"])
