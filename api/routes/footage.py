"""Footage: what the log still holds of a camera, as single pictures, as a film, and around an episode."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, PathParameter, QueryParameter
from sqlalchemy import BigInteger, func, select
from sqlalchemy.orm import Session

from api import footage
from api.auth import needs
from api.clips import Busy, Clip, Clips, Empty, Stamp, film
from api.db import micros, now
from api.dependencies import By, Db
from api.fields import CLEAN
from api.footage import LONGEST, SECOND, Away, Log, Shown, Veil
from api.permissions import Who
from api.problems import Problem, missing
from api.ranges import LATEST, time_zone
from api.routes.cameras import find
from api.routes.filters import StreamId
from api.tables import audit, episodes
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.erased import Erased, erased
from api.tables.sites import Site
from api.tables.trajectories import LegRow
from pipeline.messages import Frame, State
from pipeline.pictures import BadPicture, encode

MOST, SAMPLES = 1200, 60  # frames of an answer; of one about a stretch that is longer than LONGEST
AROUND = 5 * SECOND  # shown before an episode and after it
HEAVIEST = 192 << 20  # bytes of pictures for one clip
READ = 8.0  # seconds in which the frames of a clip must be there
LOOKED = timedelta(minutes=10)  # for which one row tells of a look at a stretch
PRIVATE = "private, max-age=60"  # not longer: an area may be hidden, somebody erased

TheCamera = Annotated[str, PathParameter(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$")]
At = Annotated[int, PathParameter(ge=0, le=LATEST, description="time of the frame, µs since 1970 UTC")]
Since = Annotated[int, QueryParameter(ge=0, le=LATEST, description="µs since 1970 UTC, included")]
Until = Annotated[int, QueryParameter(ge=0, le=LATEST, description="µs since 1970 UTC, not included")]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description=f"of a stretch longer than two minutes, at most "
                                      f"{SAMPLES} are taken")]
Of = Annotated[str, QueryParameter(max_length=200, pattern=CLEAN, description="id of an episode: where others are "
                                   "blurred, its subject is not")]
Burn = Literal["", "utc", "site"]
FILM = "video/mp4"


class FrameView(msgspec.Struct):
    """A picture that the log holds."""

    at: int  # µs UTC: ask for it by this
    width: int  # pixels
    height: int
    shown: Shown  # whole; changed: areas are black or faces blurred; withheld: not before its faces are known


class FootageGap(msgspec.Struct):
    """A part of the stretch of which there are no pictures."""

    start: int  # µs UTC
    end: int
    ended: bool  # the camera's stream stopped; else pictures were thinned out, or lost


class FootageKept(msgspec.Struct):
    """What there is of a stretch."""

    camera: str
    since: int  # µs UTC, as asked
    until: int
    oldest: int | None  # the log begins here, µs UTC; older pictures have expired. null: it holds nothing
    newest: int | None  # and ends here
    every: int  # µs between two frames: a long stretch is only sampled; 0: these are all
    frames: list[FrameView]  # by time
    gaps: list[FootageGap]
    next: int | None  # `since` of the next part; null: this is all
    longest: int = LONGEST  # µs that a clip may last


class BoxAt(msgspec.Struct):
    """Where the subject's face was."""

    at: int  # µs UTC
    box: tuple[float, float, float, float]  # x0 y0 x1 y1, 0..1 of the picture
    look: State  # what this look says
    state: State  # what the looks so far say together


class CameraFootage(msgspec.Struct):
    """What one camera saw of an episode."""

    camera: str
    since: int  # suggested stretch, µs UTC, inside what is retained
    until: int  # not after it: nothing is left
    oldest: int | None
    newest: int | None
    boxes: list[BoxAt]  # by time, of the first two minutes of the stretch


class EpisodeFootage(msgspec.Struct):
    """Where to look for an episode."""

    episode: str
    cameras: list[CameraFootage]  # those one may see, in order of time


# -- what is asked ----------------------------------------------------------------------------------------------------


@get("/cameras/{camera:str}/footage", opt=needs("cameras.view"), sync_to_thread=True,
     summary="The pictures of a camera that are still there")
def listed(request: Request[Any, Any, Any], db: Db, who: By, camera: TheCamera, since: Since, until: Until,
           limit: Limit = 600) -> FootageKept:
    """Of up to two minutes, each; of a longer stretch, samples at equal distances. Answers within about a second: what
    is not through by then goes on at `next`."""
    row = find(db, who, camera)
    _stretch(since, until)
    log: Log = request.app.state.footage
    with _reaching():
        if until - since <= LONGEST:
            found = log.stretch(camera, since, until, limit)
        else:
            found = log.sampled(camera, since, until, min(limit, SAMPLES))
        frames = [head for head in found.frames if who.may("cameras.view", head.site, camera)]
        # samples of hours: where the faces were is looked at when one of them is fetched
        veil = _veil(db, log, row, since, until, [] if found.every else frames)
    there = min(until, found.next or until, (found.newest or since) + 1)
    gaps = footage.holes(frames, found.ends, since, max(since, there), found.every)
    _looked(db, who, row, since, until, "list")
    return FootageKept(
        camera, since, until, found.oldest, found.newest, found.every,
        [FrameView(head.at, head.width, head.height, "changed" if found.every and veil.blurs(head) else
                   veil.shown(head)) for head in frames],
        [FootageGap(each.start, each.end, each.ended) for each in gaps], found.next,
    )  # fmt: skip


@get("/cameras/{camera:str}/footage/{at:int}", opt=needs("cameras.view"), sync_to_thread=True, media_type="image/jpeg",
     summary="One of those pictures", response_headers=[ResponseHeader(name="ETag", documentation_only=True)],
     responses={200: ResponseSpec(bytes, description="JPEG", media_type="image/jpeg", generate_examples=False),
                304: ResponseSpec(None, description="The picture with this ETag is the newest")})
def picture(request: Request[Any, Any, Any], db: Db, who: By, camera: TheCamera, at: At, episode: Of = ""
            ) -> Response[bytes]:
    """Privacy areas as they are drawn now are black in it. One row of the audit log tells of a look at a minute."""
    row = find(db, who, camera)
    tracks = _subject(db, who, row, episode)
    log: Log = request.app.state.footage
    with _reaching():
        frame = log.frame(camera, at)
        if frame is None or not who.may("cameras.view", frame.site, camera):
            raise missing("picture", str(at))
        veil = _veil(db, log, row, at, at + 1, [frame], tracks)
    if veil.shown(frame) == "withheld":
        raise Problem(409, "not to be seen yet", "expected a picture whose faces are known, so that they can be "
                      "blurred; this one has not been looked at", headers={"Retry-After": "2"})
    try:
        jpeg = frame.jpeg if veil.shown(frame) == "whole" else encode(veil.lay(frame))
    except BadPicture:
        raise missing("picture", str(at)) from None
    minute = at - at % (60 * SECOND)
    _looked(db, who, row, minute, minute + 60 * SECOND, "picture")
    return _answer(request, jpeg, "image/jpeg", {})


@get("/cameras/{camera:str}/footage/clip", opt=needs("cameras.view"), sync_to_thread=True, media_type=FILM,
     summary="A stretch as a film", response_headers=[
         ResponseHeader(name="ETag", documentation_only=True),
         ResponseHeader(name="X-Footage-Start", description="µs UTC of second 0 of the film", documentation_only=True),
         ResponseHeader(name="X-Footage-End", description="µs UTC of its last picture", documentation_only=True)],
     responses={200: ResponseSpec(bytes, description="MP4, H.264", media_type=FILM, generate_examples=False),
                206: ResponseSpec(bytes, description="A part of it", media_type=FILM, generate_examples=False),
                304: ResponseSpec(None, description="The film with this ETag is the newest")})
def clip(request: Request[Any, Any, Any], db: Db, who: By, camera: TheCamera, since: Since, until: Until,
         stamp: FromQuery[Burn] = "", episode: Of = "",
         download: Annotated[bool, QueryParameter(description="as a file; needs cameras.export")] = False
         ) -> Response[bytes]:
    """At most two minutes, 1200 pictures or 192 MB of them: X-Footage-End says how far it goes. Each picture is shown
    at its own time, and black stands where there was none; second 0 is the first of the listed frames that is not
    withheld. `stamp` writes the camera's name and the time, UTC or the site's, into it."""
    row = find(db, who, camera, "cameras.export" if download else "cameras.view")
    _stretch(since, until)
    if until - since > LONGEST:
        raise Problem(422, "too long", f"expected at most {LONGEST // SECOND} s, got {(until - since) / SECOND:.0f} s")
    tracks = _subject(db, who, row, episode)
    site = db.get(Site, row.site)
    name, zone = row.name or camera, time_zone(site.time_zone) if stamp == "site" and site else UTC
    log: Log = request.app.state.footage
    clips: Clips = request.app.state.clips
    gone = db.scalar(select(func.count()).select_from(Erased)) or 0
    key = (who.id, camera, since, until, stamp, name, str(zone), tracks, gone, msgspec.json.encode(row.wish))
    shape = Stamp(name, zone) if stamp else None

    def make() -> Clip:
        frames = [frame for frame in log.frames(camera, since, until, MOST, HEAVIEST, READ)
                  if who.may("cameras.view", frame.site, camera)]
        with request.app.state.sessions() as session:
            veil = _veil(session, log, row, since, until, frames, tracks)
        if veil.known < until:  # a film is kept for a while: not one that lacks its end for want of time
            raise Away("expected to have read in time what was seen in the stretch")
        return film(frames, veil, shape)

    db.commit()  # a film takes seconds: no connection waits for it
    try:
        with _reaching():
            made = clips.get(key, make)
    except Busy as busy:
        raise Problem(503, "busy", str(busy), headers={"Retry-After": "5"}) from None
    except Empty as empty:
        raise Problem(404, "no such footage", f"expected a stretch with pictures, {empty}") from None
    headers = {"x-footage-start": str(made.start), "x-footage-end": str(made.end)}
    if download:
        headers["content-disposition"] = f'attachment; filename="{camera}-{made.start // SECOND}.mp4"'
        audit.write(db, who.id, "footage.export", camera, site=row.site, camera=camera, address=who.address,
                    since=since, until=until, **({"episode": episode} if episode else {}))
    else:
        _looked(db, who, row, since, until, "clip")
    return _answer(request, made.mp4, FILM, headers)


@get("/episodes/{id:str}/footage", opt=needs("compliance.view"), sync_to_thread=True,
     summary="Where to look for the seconds around an episode")
def around(request: Request[Any, Any, Any], db: Db, who: By, id: StreamId) -> EpisodeFootage:
    """Five seconds before it and after it, for each of its cameras whose pictures one may see."""
    row = episodes.find(db, id, who.scope("compliance.view"))
    if row is None:
        raise missing("episode", id)
    log: Log = request.app.state.footage
    begin, end = row.start - AROUND, row.end + AROUND + 1
    legs = db.scalars(select(LegRow).where(LegRow.trajectory == row.person, LegRow.end >= begin, LegRow.start < end)
                      .order_by(LegRow.number)).all()
    gone = erased(db, {leg.track for leg in legs})
    told = []
    for camera in dict.fromkeys(row.cameras):
        there = db.get(CameraRow, camera)
        if there is None or not all(who.may(permission, site, camera) for permission in (
                "cameras.view", "compliance.view") for site in (there.site, row.site)):
            continue
        mine = [leg for leg in legs if leg.camera == camera]
        since = max([begin, min(leg.start for leg in mine) - AROUND] if mine else [begin])
        until = min([end, max(leg.end for leg in mine) + AROUND + 1] if mine else [end])
        with _reaching():
            oldest, newest = log.bounds(camera)
            since = min(until, max(since, oldest - footage.EARLY)) if oldest else until
            until = max(since, min(until, newest + 1)) if newest else since
            looks = log.looks(camera, since, min(until, since + LONGEST)).seen if since < until else ()
        told.append(CameraFootage(camera, since, until, oldest, newest, _boxes(
            looks, {leg.track for leg in mine} - gone, since, until)))
    return EpisodeFootage(id, told)


# -- how --------------------------------------------------------------------------------------------------------------


def _boxes(looks: Sequence[footage.Seen], tracks: set[str], since: int, until: int) -> list[BoxAt]:
    return [BoxAt(seen.at, tuple(round(v, 4) for v in seen.parts(face)), face.look, face.state)  # type: ignore[arg-type]
            for seen in looks if since <= seen.at < until for face in seen.faces if face.track in tracks]


def _stretch(since: int, until: int) -> None:
    if since >= until:
        raise Problem(422, "no stretch of time", f"expected `since` before `until`, got {since} and {until}")


class _reaching:
    """A log that is away is told as 503."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, Away):
            raise Problem(503, "footage cannot be read", f"the log does not answer; try again: {error}",
                          headers={"Retry-After": "3"}) from error


def _subject(db: Session, who: Who, of: CameraRow, episode: str) -> frozenset[str]:
    """Tracks of an episode's person in this camera, where one may know of breaches. Raises Problem 404."""
    if not episode:
        return frozenset()
    row = episodes.find(db, episode, who.scope("compliance.view"))
    if row is None:
        raise missing("episode", episode)
    scope = who.scope("compliance.view")
    return frozenset(db.scalars(select(LegRow.track).where(
        LegRow.trajectory == row.person, LegRow.camera == of.id, scope.where(LegRow.site, LegRow.camera))))


def _veil(db: Session, log: Log, row: CameraRow, since: int, until: int, frames: Sequence[footage.Head | Frame],
          subject: frozenset[str] = frozenset()) -> Veil:
    """What is to be hidden in the frames of a stretch; where the faces are is read only where that matters."""
    camera = row.camera
    veil = Veil(camera.hidden, camera.privacy, camera.blur_others)
    someone = db.scalar(select(Erased.digest).limit(1)) is not None
    if not frames or not (someone or any(veil.blurs(frame) for frame in frames)):
        return veil
    looks = log.looks(row.id, since, until)
    gone = erased(db, {id for seen in looks.seen for face in seen.faces for id in (face.id, face.track) if id}) \
        if someone else set()
    news = micros(now()) - footage.NEWS if someone else footage.NEVER
    return Veil(camera.hidden, camera.privacy, camera.blur_others, looks.seen, looks.known, news, subject - gone,
                frozenset(gone))


def _looked(db: Session, who: Who, row: CameraRow, since: int, until: int, how: str) -> None:
    """One row for a look at a stretch, however many pictures of it are fetched. A listing covers its pictures, not a
    clip."""
    # of several requests at once, one writes; the commit follows at once
    db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"looked {who.id} {row.id}", 0))))
    told = select(Audit.id).where(
        Audit.user == who.id, Audit.action == "footage.look", Audit.camera == row.id, Audit.at > now() - LOOKED,
        Audit.detail["since"].astext.cast(BigInteger) <= since, Audit.detail["until"].astext.cast(BigInteger) >= until)
    if how != "picture":
        told = told.where(Audit.detail["how"].astext == how)
    if db.scalar(told.limit(1)) is None:
        audit.write(db, who.id, "footage.look", row.id, site=row.site, camera=row.id, address=who.address,
                    since=since, until=until, how=how)


def _answer(request: Request[Any, Any, Any], content: bytes, kind: str, headers: dict[str, str]) -> Response[bytes]:
    """With an ETag; a part of it where one is asked for, as players do."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers |= {"etag": tag, "cache-control": PRIVATE, "x-content-type-options": "nosniff",
                "vary": "cookie, authorization"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=kind)
    if kind != FILM:
        return Response(content, headers=headers, media_type=kind)
    headers["accept-ranges"] = "bytes"
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("range", "").strip())
    if asked is None or asked[0] == "bytes=-" or request.headers.get("if-range", tag) != tag:
        return Response(content, headers=headers, media_type=kind)
    size = len(content)
    if asked[1]:
        first, last = int(asked[1]), min(size - 1, int(asked[2])) if asked[2] else size - 1
    else:
        first, last = max(0, size - int(asked[2])), size - 1
    if first > last or first >= size:
        raise Problem(416, "no such part", f"expected a part of {size} bytes, got {asked[0]}",
                      headers={"Content-Range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    return Response(content[first:last + 1], status_code=206, headers=headers, media_type=kind)


router = Router("/v1", route_handlers=[listed, picture, clip, around], tags=["footage"])
