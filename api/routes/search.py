"""Search by a face: who on the cameras, and who of the enrolled people, looks like the one in a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from litestar import Request, Router, post
from litestar.datastructures import UploadFile
from litestar.params import JSONBody, MultipartBody
from msgspec import Meta
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import fields, privacy, sight, uploads, vectors, visitors
from api.auth import needs
from api.dependencies import By, Config, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.ranges import LATEST
from api.sight import FoundFaces, Sight
from api.tables import audit
from api.tables.people import PersonRow, Portrait
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import LegRow
from api.vectors import Hit
from api.waiting import waits
from pipeline import likeness
from pipeline.settings import Settings

# Faces taken from Milvus with a mask and without, of which visitors are made: the next number when that many are as
# alike as was asked for. The last is the most that Milvus gives at once: one person on fifty tracks a day, five looks
# each, fills it in two months, and the vectors are kept for one.
PAGES = (1_000, 4_000, 16_384)
TOGETHER = 3  # most alike looks of a visitor whose mean is judged, as when routes are joined
JUDGED = 200  # visitors whose other looks are fetched at once: each costs, and often the first of them are enough
BODY = uploads.MOST_BYTES + (64 << 10)  # bytes of a form
BASE64 = uploads.MOST_BYTES * 4 // 3 + (64 << 10)  # bytes of JSON with a picture in it
CameraId = Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Index = Annotated[int, Meta(ge=0, le=1000, description="which face, as in `faces` of an answer; needed when several")]
Chance = Annotated[float, Meta(ge=0, le=1)]
Most = Annotated[int, Meta(ge=1, le=100)]
Moment = Annotated[int, Meta(ge=0, le=LATEST, description="µs since 1970, UTC")]
Picture = Annotated[bytes, Meta(max_length=uploads.MOST_BYTES, description="JPEG, PNG or WebP as base64, up to 16 MiB")]
Order = Literal["chance", "newest"]


class SearchAsked(msgspec.Struct):
    """A picture, or a face that is there already; and where to look."""

    picture: Picture | None = None
    like: fields.Line = ""  # instead of a picture: id of a face one may see
    face: Index | None = None
    since: Moment = 0
    until: Moment = LATEST
    sites: Annotated[list[fields.SiteId], Meta(max_length=100)] = []
    cameras: Annotated[list[CameraId], Meta(max_length=500)] = []
    least: Chance = 0.5  # chance below which nobody is told
    order: Order = "chance"
    limit: Most = 50


class Form(msgspec.Struct):
    """The same as a form, with the picture as a file."""

    picture: UploadFile
    face: Index | None = None
    since: Moment = 0
    until: Moment = LATEST
    site: fields.AnySite = ""
    camera: fields.AnyCamera = ""
    least: Chance = 0.5
    order: Order = "chance"
    limit: Most = 50


class Match(msgspec.Struct):
    """Somebody on the cameras who looks like the one in the picture."""

    visitor: str  # id; /v1/visitors/… tells more
    chance: float  # calibrated, of the most alike looks together, were it as likely as not beforehand
    strangers: float  # how many of the visitors searched would be as alike by chance: 0.01 is one search in a hundred
    cosine: float
    masked: int  # of the most alike pair, how many wear a mask: each number has a measure of its own
    face: str  # the most alike look; /v1/faces/…/picture when `pictured`
    pictured: bool
    site: str  # of that look
    camera: str
    at: int  # µs UTC
    since: int  # first and last of the alike looks
    until: int
    cameras: list[str]
    tracks: list[str]
    looks: int  # that are among the alike ones
    trajectories: list[str]  # ids; /v1/trajectories/… has the routes
    person: str | None = None  # id of the enrolled person they are, where one may know it
    name: str | None = None


class EnrolledMatch(msgspec.Struct):
    """An enrolled person who looks like the one in the picture."""

    person: str
    name: str
    chance: float
    cosine: float
    masked: int
    portrait: str  # id of the most alike one


class SearchAnswer(msgspec.Struct):
    """What was found. When the picture has several faces and none was chosen, only these."""

    faces: FoundFaces | None  # null: the search was by `like`
    chosen: int | None
    matches: list[Match]
    people: list[EnrolledMatch]
    searched: int  # visitors' tracks in that time and place
    models: dict[str, str]
    complete: bool = True  # false: more looks than `most` are as alike as was asked for, and `reason` says so
    reason: str = ""
    most: int = PAGES[-1]  # looks with a mask, and without, that are looked at: the most alike ones


@post("/search", opt=needs("people.run", kept=False), status_code=200, request_max_body_size=BASE64,
      summary="Search by a picture in base64, or by a face that was seen")
@waits
def search(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, data: JSONBody[SearchAsked]
           ) -> SearchAnswer:
    """Enrolled and unknown people alike, within what one may see. The picture is not kept; the search is in the audit
    log."""
    if (data.picture is None) == (not data.like):
        raise Problem(422, "what to search for", "expected either `picture` or `like`")
    eyes = sight.of(request.app.state)
    if data.like:
        return _by_face(db, who, settings, eyes, data)
    assert data.picture is not None  # noqa: S101 -- as was just asked
    return _by_picture(db, who, settings, eyes, data.picture, data)


@post("/search/upload", opt=needs("people.run", kept=False), status_code=200, request_max_body_size=BODY,
      summary="Search by a picture as a file")
@waits
def upload(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, data: MultipartBody[Form]
           ) -> SearchAnswer:
    """As POST /v1/search, as a form."""
    content = data.picture.file.read(uploads.MOST_BYTES + 1)
    asked = SearchAsked(None, "", data.face, data.since, data.until, [data.site] if data.site else [],
                  [data.camera] if data.camera else [], data.least, data.order, data.limit)
    return _by_picture(db, who, settings, sight.of(request.app.state), content, asked)


def _by_picture(db: Session, who: Who, settings: Settings, eyes: Sight, content: bytes, asked: SearchAsked
                ) -> SearchAnswer:
    image = eyes.read(content)
    faces = eyes.look(image)
    shown = sight.view(image, faces)
    if len(faces) > 1 and asked.face is None:
        return SearchAnswer(shown, None, [], [], 0, eyes.names)
    chosen = sight.choose(faces, asked.face)
    vector = eyes.embed(image, [faces[chosen]])[0]
    answer = _search(db, who, settings, eyes.space(len(vector)), vector, faces[chosen].masked, asked)
    answer.faces, answer.chosen, answer.models = shown, chosen, eyes.names
    return answer


def _by_face(db: Session, who: Who, settings: Settings, eyes: Sight, asked: SearchAsked) -> SearchAnswer:
    found = vectors.store(settings).of_face(asked.like)
    if found is None or not who.may("people.run", found[1].site, found[1].camera):
        raise missing("face with a vector", asked.like)
    space, hit, vector = found
    if _hidden(db, [hit]):
        raise missing("face with a vector", asked.like)
    return _search(db, who, settings, space, vector, hit.masked, asked)


def _search(db: Session, who: Who, settings: Settings, space: str, vector: NDArray[np.float32], masked: bool,
            asked: SearchAsked) -> SearchAnswer:
    where, store = _where(who, asked), vectors.store(settings)
    hits, short = _alike(store, space, vector, masked, where, asked.least) if where is not None else ([], [])
    hidden = _hidden(db, hits)
    hits = [hit for hit in hits if (hit.site, hit.camera) not in hidden]
    searched = _searched(db, who, asked)
    known = visitors.links(db)
    owner = visitors.of_tracks(db, known, {hit.track for hit in hits if hit.track})
    groups: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        groups[owner.get(hit.track) or hit.face].append(hit)

    def others(tracks: set[str]) -> list[Hit]:
        return store.search(space, vector, PAGES[-1], _both(where or "", f"track in {vectors.quoted(tracks)}"))

    matches = _matches(groups, others, masked, searched, asked)
    _complete(db, who, known, matches)
    people = [each for each in _enrolled(db, who, space, vector, masked) if each.chance >= asked.least][:10]
    audit.write(db, who.id, "people.search", asked.like, address=who.address, matches=len(matches),
                people=[each.person for each in people], since=asked.since, until=asked.until, sites=asked.sites[:20],
                cameras=asked.cameras[:20])
    answer = SearchAnswer(None, None, matches, people, searched, {}, most=PAGES[-1])
    if short:
        answer.complete, answer.reason = False, (
            f"more than {PAGES[-1]:,} looks {' and '.join(short)} are as alike as was asked for, and only the most "
            "alike of them were looked at: ask for a shorter time, fewer cameras or a higher chance")
    return answer


def _alike(store: vectors.Vectors, space: str, vector: NDArray[np.float32], masked: bool, where: str, least: float
           ) -> tuple[list[Hit], list[str]]:
    """Every look that by itself is as alike as was asked for; and of which kind there are more. With a mask and without
    each has its own measure: the greater cosines of the one must not push out the other."""
    found: list[Hit] = []
    short: list[str] = []
    for covered, name in ((False, "without a mask"), (True, "with a mask")):
        kind = int(masked) + int(covered)
        for most in PAGES:
            hits = store.search(space, vector, most, _both(where, f"masked == {str(covered).lower()}"))
            if len(hits) < most or likeness.chance(hits[-1].cosine, kind) < least:
                break
        else:
            short.append(name)
        found += [hit for hit in hits if likeness.chance(hit.cosine, kind) >= least]
    return found, short


def _both(one: str, other: str) -> str:
    return f"{one} and {other}" if one else other


def _matches(groups: Mapping[str, Sequence[Hit]], others: Callable[[set[str]], list[Hit]], masked: bool, searched: int,
             asked: SearchAsked) -> list[Match]:
    """The visitors that were asked for, in the order that was asked for. `groups`: their alike looks; `others`: all
    looks at tracks. A visitor is judged by several looks, also when some of them are less alike: it can only be less
    likely with these, so that nobody is judged who would be left out in any case."""
    def order(match: Match) -> tuple[float, ...]:
        return (-match.chance, -match.cosine, -match.at) if asked.order == "chance" else (-match.until, -match.cosine)

    waiting = sorted((_match(visitor, hits, hits, masked, searched) for visitor, hits in groups.items()), key=order)
    found: list[Match] = []
    for begin in range(0, len(waiting), JUDGED):
        some = waiting[begin : begin + JUDGED]
        if len(found) >= asked.limit and order(found[asked.limit - 1]) <= order(some[0]):
            break
        more: defaultdict[str, list[Hit]] = defaultdict(list)
        few = [match for match in some if sum(
            int(hit.masked) == match.masked - int(masked) for hit in groups[match.visitor]) < TOGETHER]
        if tracks := {track for match in few for track in match.tracks}:
            for hit in others(tracks):
                more[hit.track].append(hit)
        for match in some:
            alike = groups[match.visitor]
            looks = {hit.face: hit for hit in (*alike, *(hit for track in match.tracks for hit in more[track]))}
            judged = _match(match.visitor, alike, list(looks.values()), masked, searched)
            if judged.chance >= asked.least:
                found.append(judged)
        found.sort(key=order)
    return found[: asked.limit]


def _where(who: Who, asked: SearchAsked) -> str | None:
    """What one may see and what one asked for, as a filter; None: nothing."""
    scope = who.scope("people.run")
    parts = [f"at >= {asked.since}"] if asked.since else []
    parts += [f"at < {asked.until}"] if asked.until < LATEST else []
    if not scope.everywhere:
        either = [f"site in {vectors.quoted(scope.sites)}"] if scope.sites else []
        either += [f"(site in {vectors.quoted([site])} and camera in {vectors.quoted(cameras)})"
                   for site, cameras in scope.by_site.items()]
        if not either:
            return None
        parts.append(f"({' or '.join(either)})")
    parts += [f"site in {vectors.quoted(asked.sites)}"] if asked.sites else []
    parts += [f"camera in {vectors.quoted(asked.cameras)}"] if asked.cameras else []
    return " and ".join(parts)


def _hidden(db: Session, hits: Sequence[Hit]) -> set[tuple[str, str]]:
    """Places of which no vector is kept any more; the last ones are on their way out."""
    now = privacy.now_of(db, {(hit.site, hit.camera) for hit in hits})
    return {place for place, allowed in now.items() if allowed == "anonymous"}


def _searched(db: Session, who: Who, asked: SearchAsked) -> int:
    query = select(func.count()).select_from(Sighting).where(
        who.scope("people.run").where(Sighting.site, Sighting.camera), Sighting.end >= asked.since,
        Sighting.start < asked.until, Sighting.privacy != "anonymous")
    if asked.sites:
        query = query.where(Sighting.site.in_(asked.sites))
    if asked.cameras:
        query = query.where(Sighting.camera.in_(asked.cameras))
    return db.scalar(query) or 0


def _match(visitor: str, alike: Sequence[Hit], looks: Sequence[Hit], masked: bool, searched: int) -> Match:
    """What is told of a visitor's alike looks, and how likely all their looks are together: the mean of the most alike
    ones that have as many masks as the best."""
    cosines = np.array([[hit.cosine for hit in alike]], np.float32)
    level = likeness.levelled(cosines, np.array([masked]), np.array([hit.masked for hit in alike]))[0]
    best = alike[int(level.argmax())]
    kind = int(masked) + int(best.masked)
    most = sorted((hit.cosine for hit in looks if hit.masked == best.masked), reverse=True)[:TOGETHER]
    mean = sum(most) / len(most)
    return Match(
        visitor, round(likeness.chance(mean, kind), 4),
        float(f"{likeness.false_matches(mean, kind) * max(1, searched):.3g}"), round(best.cosine, 4), kind, best.face,
        False, best.site, best.camera, best.at, min(hit.at for hit in alike), max(hit.at for hit in alike),
        list(dict.fromkeys(hit.camera for hit in sorted(alike, key=lambda h: h.at))),
        sorted({hit.track for hit in alike if hit.track}), len(alike), [])


def _complete(db: Session, who: Who, known: visitors.Links, matches: list[Match]) -> None:
    """Pictures, routes and names, as far as one may know them."""
    tracks = {track for match in matches for track in match.tracks}
    pictured = set(db.scalars(select(FaceRow.id).where(FaceRow.id.in_({match.face for match in matches}))))
    routes = dict(db.execute(select(LegRow.track, LegRow.trajectory).where(LegRow.track.in_(tracks))).all())
    names = visitors.named(db, known, {match.visitor: match.tracks for match in matches}, who.scope("people.view"))
    for match in matches:
        match.pictured = match.face in pictured
        match.trajectories = sorted({routes[track] for track in match.tracks if track in routes})
        if match.visitor in names:
            match.person, match.name = names[match.visitor].person, names[match.visitor].name


def _enrolled(db: Session, who: Who, space: str, vector: NDArray[np.float32], masked: bool) -> list[EnrolledMatch]:
    """Every enrolled person one may know, the most alike first."""
    found: dict[str, tuple[float, EnrolledMatch]] = {}
    scope = who.scope("people.run")
    rows = db.execute(select(Portrait, PersonRow).join(PersonRow).where(
        Portrait.space == space, PersonRow.withdrawn.is_(None)))
    for portrait, person in rows:
        if not visitors.may_know(scope, person):
            continue
        cosine = float(np.frombuffer(portrait.vector, np.float32) @ vector)
        kind = int(masked) + int(portrait.masked)
        chance = likeness.chance(cosine, kind)
        if person.id not in found or chance > found[person.id][0]:
            found[person.id] = chance, EnrolledMatch(person.id, person.name, round(chance, 4), round(cosine, 4), kind,
                                                 portrait.id)
    return [each for _, each in sorted(found.values(), key=lambda pair: -pair[0])]


router = Router("/v1", route_handlers=[search, upload], tags=["search"])
