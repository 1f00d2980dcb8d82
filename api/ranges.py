"""Stretches of time as one asks for them, cut into hours, days or weeks of a time zone; and how sure a share is."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from litestar.params import FromQuery, PathParameter, QueryParameter

from api.fields import CLEAN
from api.problems import Problem
from pipeline.cameras import SITE

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000  # µs
LATEST = 4_102_444_800_000_000  # 2100, µs: what is later was meant in another unit
MOST = 1500  # buckets of one answer: a day in minutes, two months in hours
Z = 1.959964  # of the normal distribution, two-sided 95 %

Since = Annotated[int, QueryParameter(ge=0, le=LATEST, description="µs since 1970 UTC, included")]
Until = Annotated[int, QueryParameter(ge=0, le=LATEST, description="µs since 1970 UTC, not included")]
Cut = Literal["minute", "hour", "day", "week", "all"]
Buckets = FromQuery[Cut]
Zone = Annotated[str, QueryParameter(max_length=64, description="IANA name of the time zone of hours, days and weeks")]
# constraints of a Meta would be lost beside those of a QueryParameter
Site = Annotated[str, QueryParameter(max_length=63, pattern=f"^({SITE.pattern})?$",
                                     description="empty: every site one may see")]
Camera = Annotated[str, QueryParameter(max_length=63, pattern=r"^([a-z0-9][a-z0-9-]*)?$",
                                       description="empty: every camera one may see")]
TheCamera = Annotated[str, QueryParameter(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Bound = Annotated[int | None, QueryParameter(ge=0, le=2**53 - 1, description="µs since 1970 UTC; null: no bound")]
Id = Annotated[str, PathParameter(max_length=200, pattern=CLEAN)]  # of what the stream named: camera@at#index


def time_zone(name: str) -> tzinfo:
    """Raises Problem 422."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # what ZoneInfo raises for odd names depends on the system
        raise Problem(422, "no such time zone", f"expected an IANA name, as Asia/Shanghai, got {name!r}") from None


def whole_minutes(since: int, until: int) -> tuple[int, int]:
    """The minutes that lie in it, also in part. Raises Problem 422."""
    if since >= until:
        raise Problem(422, "no stretch of time", f"expected `since` before `until`, got {since} and {until}")
    return since - since % MINUTE, -(-until // MINUTE) * MINUTE


def edges(since: int, until: int, cut: Cut, zone: tzinfo, most: int = MOST) -> list[int]:
    """Where each bucket begins, and in the end where the last one ends; the first and last may be cut off.

    Raises Problem 422 when there are more than `most`."""
    found = [since]
    while cut != "all":
        after = max(following(found[-1], cut, zone), found[-1] + MINUTE)
        if after >= until:
            break
        found.append(after)
        if len(found) > most:
            raise Problem(422, "too many buckets", f"expected at most {most}, got more {cut}s from {since} to {until}")
    return [*found, until]


def following(at: int, cut: Cut, zone: tzinfo) -> int:
    """Where the bucket after the one that holds `at` begins."""
    if cut == "minute":
        return at - at % MINUTE + MINUTE
    local = datetime.fromtimestamp(at // SECOND, UTC).astimezone(zone)
    if cut == "hour":  # by the wall clock: there are zones of half hours
        offset = round((local.utcoffset() or timedelta()).total_seconds()) * SECOND
        return (at + offset) // HOUR * HOUR - offset + HOUR
    days = 1 if cut == "day" else 8 - local.isoweekday()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0, tzinfo=None) + timedelta(days=days)
    return round(midnight.replace(tzinfo=zone).timestamp()) * SECOND


def overlaps(start: int, end: int, cuts: list[int]) -> list[tuple[int, int]]:
    """(index of the bucket, µs of it) that a stretch covers."""
    found = []
    index = max(0, bisect_right(cuts, start) - 1)
    while index < len(cuts) - 1 and cuts[index] < end:
        micros = min(end, cuts[index + 1]) - max(start, cuts[index])
        if micros > 0:
            found.append((index, micros))
        index += 1
    return found


def wilson(hits: int, of: int) -> tuple[float, float] | None:
    """95 % interval of a share (E. B. Wilson 1927), as if each of them were one of many that might have come."""
    if not of:
        return None
    share, more = hits / of, Z * Z / of
    middle = (share + more / 2) / (1 + more)
    half = Z / (1 + more) * math.sqrt(share * (1 - share) / of + more / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(hits: int, of: int, hits_before: int, of_before: int) -> tuple[float, float, float] | None:
    """Of two shares, with its 95 % interval (R. G. Newcombe 1998, from the two Wilson intervals)."""
    now, before = wilson(hits, of), wilson(hits_before, of_before)
    if now is None or before is None:
        return None
    share, earlier = hits / of, hits_before / of_before
    change = share - earlier
    low = change - math.hypot(share - now[0], before[1] - earlier)
    high = change + math.hypot(now[1] - share, earlier - before[0])
    return change, max(-1.0, low), min(1.0, high)
