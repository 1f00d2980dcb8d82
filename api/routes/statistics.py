"""Statistics: cameras by state, inspections over time, who did how much, and the words of their notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter
from sqlalchemy import ARRAY, BigInteger, cast, func, or_, select
from sqlalchemy.orm import Session

from api import ranges, words
from api.auth import needs
from api.dependencies import By, Config, Db
from api.permissions import Who
from api.ranges import Buckets, Camera, Since, Site, Until, Zone
from api.tables import episodes
from api.tables.cameras import CameraRow, CameraState
from api.tables.episodes import EpisodeRow, EpisodeStep
from api.tables.inspections import Inspection, Photo
from api.tables.users import User

NOTES = 20_000  # the newest ones that a word cloud is made of
Most = Annotated[int, QueryParameter(ge=1, le=500)]


class SiteCameras(msgspec.Struct):
    """The cameras of a site."""

    site: str
    cameras: int
    running: int  # that are wished to run
    states: dict[str, int]  # up, down, connecting, stopped, ended; waiting: no worker has taken it


class InspectionBucket(msgspec.Struct):
    """The inspections that were begun in a stretch of time."""

    start: int  # µs UTC
    end: int
    inspections: int
    states: dict[str, int]  # running, paused, finished …
    photos: int


class Ranked(msgspec.Struct):
    """How much somebody did."""

    user: str
    name: str  # the full one where there is one
    inspections: int  # begun
    finished: int
    photos: int
    minutes: float  # on finished inspections
    reviews: int  # of episodes: acknowledged, assigned, commented, closed, opened again


class Word(msgspec.Struct):
    """A word and the number of notes that have it."""

    word: str
    notes: int


@get("/cameras", opt=needs("cameras.view"), sync_to_thread=True, summary="Cameras of each site by what they do")
def cameras(db: Db, who: By, site: Site = "", camera: Camera = "") -> list[SiteCameras]:
    query = select(CameraRow.site, CameraRow.running, CameraState.state, func.count()).outerjoin(
        CameraState, CameraState.id == CameraRow.id
    ).where(who.scope("cameras.view").where(CameraRow.site, CameraRow.id))
    if site:
        query = query.where(CameraRow.site == site)
    if camera:
        query = query.where(CameraRow.id == camera)
    found: dict[str, SiteCameras] = {}
    for at, running, state, count in db.execute(query.group_by(CameraRow.site, CameraRow.running, CameraState.state)):
        one = found.setdefault(at, SiteCameras(at, 0, 0, {}))
        told = state or ("waiting" if running else "stopped")
        one.cameras += count
        one.running += count if running else 0
        one.states[told] = one.states.get(told, 0) + count
    return [found[each] for each in sorted(found)]


@get("/inspections", opt=needs("inspections.view"), sync_to_thread=True, summary="Inspections over time")
def inspected(db: Db, who: By, since: Since, until: Until, bucket: Buckets = "day", tz: Zone = "Asia/Shanghai",
              site: Site = "") -> list[InspectionBucket]:
    """By when they were begun; buckets without any are there too."""
    begin, end = ranges.whole_minutes(since, until)
    edges = ranges.edges(begin, end, bucket, ranges.time_zone(tz))
    index = func.width_bucket(Inspection.started, cast(edges, ARRAY(BigInteger)))
    where = [who.scope("inspections.view").where(Inspection.site), Inspection.started >= begin,
             Inspection.started < end, *([Inspection.site == site] if site else [])]
    states: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for bucket_, state, count in db.execute(
            select(index, Inspection.state, func.count()).where(*where).group_by(index, Inspection.state)):
        states[bucket_ - 1][state] += count
    photos = {bucket_ - 1: count for bucket_, count in db.execute(
        select(index, func.count()).join(Photo, Photo.inspection == Inspection.id).where(*where).group_by(index))}
    return [InspectionBucket(start, stop, states[i].total() if i in states else 0,
                             dict(sorted(states[i].items())) if i in states else {}, photos.get(i, 0))
            for i, (start, stop) in enumerate(pairwise(edges))]


@get("/users", opt=needs("inspections.view"), sync_to_thread=True, summary="Who did how much")
def users(db: Db, who: By, since: Since, until: Until, site: Site = "", limit: Most = 20) -> list[Ranked]:
    """By inspections finished, then photos, then reviews of episodes; of what one may see."""
    begin, end = ranges.whole_minutes(since, until)
    found: dict[str, Ranked] = {}

    def of(user: str) -> Ranked:
        return found.setdefault(user, Ranked(user, "", 0, 0, 0, 0.0, 0))

    where = [who.scope("inspections.view").where(Inspection.site), Inspection.started >= begin,
             Inspection.started < end, *([Inspection.site == site] if site else [])]
    for user, state, count, micros in db.execute(
            select(Inspection.user, Inspection.state, func.count(), func.sum(Inspection.ended - Inspection.started))
            .where(*where).group_by(Inspection.user, Inspection.state)):
        one = of(user)
        one.inspections += count
        if state == "finished":
            one.finished, one.minutes = count, round(int(micros or 0) / ranges.MINUTE, 1)
    for user, count in db.execute(select(Inspection.user, func.count()).join(
            Photo, Photo.inspection == Inspection.id).where(*where).group_by(Inspection.user)):
        of(user).photos = count
    for user, count in db.execute(
            select(EpisodeStep.user, func.count()).join(EpisodeRow, EpisodeRow.id == EpisodeStep.episode)
            .where(episodes.visible(who.scope("compliance.view")), EpisodeStep.at >= _stamp(begin),
                   EpisodeStep.at < _stamp(end), *([EpisodeRow.site == site] if site else []))
            .group_by(EpisodeStep.user)):
        of(user).reviews = count
    for id, name, full_name in db.execute(select(User.id, User.name, User.full_name).where(User.id.in_(found))):
        found[id].name = full_name or name
    return sorted(found.values(), key=lambda r: (-r.finished, -r.photos, -r.reviews, r.name, r.user))[:limit]


@get("/words", opt=needs("inspections.view"), sync_to_thread=True, summary="The words of notes, for a word cloud")
def cloud(db: Db, who: By, settings: Config, since: Since, until: Until, site: Site = "", limit: Most = 100
          ) -> list[Word]:
    """Of inspections, their photos, and comments on episodes, as far as one may see them; Chinese is cut by jieba."""
    begin, end = ranges.whole_minutes(since, until)
    texts = notes(db, who, begin, end, site)
    return [Word(word, count) for word, count in words.count(texts, settings.data / "words", limit)]


def notes(db: Session, who: Who, since: int, until: int, site: str) -> list[str]:
    """What people wrote in a stretch of time, the newest NOTES of each kind."""
    own = [or_(Inspection.user == who.id, who.scope("inspections.review").where(Inspection.site)),
           *([Inspection.site == site] if site else [])]
    rounds = select(Inspection.note).where(*own, Inspection.note != "", Inspection.started >= since,
                                           Inspection.started < until).order_by(Inspection.started.desc())
    photos = select(Photo.note).join(Inspection, Inspection.id == Photo.inspection).where(
        *own, Photo.note != "", Photo.taken >= since, Photo.taken < until).order_by(Photo.taken.desc())
    said = select(EpisodeStep.text).join(EpisodeRow, EpisodeRow.id == EpisodeStep.episode).where(
        episodes.visible(who.scope("compliance.view")), EpisodeStep.text != "", EpisodeStep.at >= _stamp(since),
        EpisodeStep.at < _stamp(until), *([EpisodeRow.site == site] if site else [])).order_by(EpisodeStep.id.desc())
    return [text for query in (rounds, photos, said) for text in db.scalars(query.limit(NOTES))]


def _stamp(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


router = Router("/v1/statistics", route_handlers=[cameras, inspected, users, cloud], tags=["statistics"])
