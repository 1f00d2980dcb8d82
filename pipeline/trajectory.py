"""Faces of a site -> people's routes over its cameras, and an episode for each breach.

A site is one order of events: messages of its cameras are released by their own time (`release`), then folded one by
one (`step`). A new track waits for a few looks before it is anybody: then it continues a person seen before, if looks
and travel time say so, or is somebody new. No look is attributed twice and no person is in two places at once, except
where two cameras stand so close that they may see the same spot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import likeness, policy
from pipeline.messages import Box, Episode, Evidence, Face, Faces, Gap, Leg, State, Trajectory
from pipeline.settings import Settings

Place = tuple[float, float] | None
Output = Trajectory | Episode

# A track is judged with LOOKS embeddings, or after PATIENCE seconds with what there is; fewer than two looks is noise.
LOOKS, PATIENCE = 3, 1.6
# How alike two galleries are (mean of the three most similar pairs of looks, on the scale of bare faces: likeness.py)
# -> log odds that it is the same person. Flatter than for portraits: cameras show people from other sides. From .25 to
# .275 nobody wrong is joined on our clips; below, two are.
STEEP, EVEN = 24.0, 0.26
# Log odds of somebody of whom there is no look that can be compared.
UNSEEN = -3.0
# A join needs this probability, and this lead in log odds over the next candidate.
SURE, LEAD = 0.6, 1.0
# A track lost and found in the same camera within REFOUND seconds and NEARBY box sizes is most likely the same person.
REFOUND, NEARBY, REFOUND_ODDS = 4.0, 3.0, 2.0
# Cameras no further apart than this may see the same person at the same time, metres.
OVERLAP = 8.0
GALLERY = 6  # embeddings kept of a person
PEOPLE = 2000  # people kept of a site: the longest unseen go first
EVIDENCE = 3  # pictures of an episode
# A look stands for the time until the next one, but for no longer than this, seconds.
LONGEST_LOOK = 1.5
# A mask has to be on this long before a breach counts as ended, seconds.
MENDED = 0.6
# A route or an open episode that only grows is told again after this many µs.
TELL_EVERY = 1_000_000
# A site nobody has heard of before is listened to for so long before its first message is folded, µs.
NEW_SITE = 3_000_000
# So many messages of a site wait at most; then the oldest are folded whoever is behind.
WAITING = 20_000
# A camera silent for a week was taken down, µs.
FORGOTTEN = 7 * 86_400_000_000


class Look(msgspec.Struct, frozen=True):
    """An embedding kept of a person."""

    vector: bytes  # float16, L2-normalised
    quality: float
    masked: bool


class Breach(msgspec.Struct, frozen=True):
    """A stretch in which a person is not compliant, before and while it is an episode."""

    start: int
    end: int  # last look in breach
    state: Literal["none", "incorrect"]
    cameras: tuple[str, ...]
    place: Place
    looks: int = 0
    score: float = 0.0  # sum over the looks
    evidence: tuple[Evidence, ...] = ()
    worn_since: int = 0  # 0: not
    opened: bool = False
    told: int = 0  # last look told of
    demand: policy.Demand = policy.ALWAYS  # of the newest look in breach; once it is an episode, what opened it
    zone: str = ""  # the same
    # An episode by a rule for some roles is no breach of anybody else: what everybody breaks meanwhile takes it over
    everybody: int = 0  # first look that broke what is required of everybody; 0: none has
    everybody_end: int = 0  # newest of these
    wider: policy.Demand | None = None  # of that one
    wider_zone: str = ""


class Person(msgspec.Struct, frozen=True):
    """Somebody at the site, or (`pending`) a track that is nobody yet."""

    id: str
    start: int
    at: int  # last look
    camera: str  # where last
    place: Place
    box: Box  # where in the picture last, in picture widths: a camera's pictures change their size
    track: str  # the track under way, or the last one
    state: State
    pending: bool
    looks: int = 0
    gone: bool = False  # the track has ended
    legs: tuple[Leg, ...] = ()
    gaps: tuple[Gap, ...] = ()
    gallery: tuple[Look, ...] = ()
    breach: Breach | None = None
    told: int = 0  # time of the newest look told of
    face_quality: float = -1.0  # of the leg's best face


class Site(msgspec.Struct, frozen=True):
    """What the trajectory stage remembers of a site."""

    version: int = 0  # messages folded in: rises with every one
    at: int = 0  # newest time folded in
    seen: dict[str, int] = {}  # camera -> time of its newest message folded in
    ended: tuple[str, ...] = ()  # cameras whose stream has stopped
    people: dict[str, Person] = {}  # by id
    tracks: dict[str, str] = {}  # track -> person


def known(site: Site | None, message: Faces) -> bool:
    """Whether the site has this message, or a later one of the same camera, already.

    A phone photo is a single look at somebody: it belongs to no route, and is always known enough."""
    return message.source == "inspection" or (site is not None and message.at <= site.seen.get(message.camera, 0))


class Arrivals:
    """When messages of a site came, µs on the clock of whoever brought them."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self.newest: dict[str, int] = {}  # by camera

    def hear(self, camera: str, at: int) -> None:
        self.first = self.first or at
        self.last = max(self.last, at)
        self.newest[camera] = max(at, self.newest.get(camera, 0))

    def silent(self, camera: str, lateness: float) -> bool:
        """Nothing came of the camera for `lateness` seconds (since the first message of all, if none ever came)."""
        return self.last - self.newest.get(camera, self.first) > lateness * 1e6


def release(site: Site | None, waiting: Iterable[Faces], arrivals: Arrivals, settings: Settings) -> list[Faces]:
    """The waiting messages that can be folded now, in the order in which they must be; none that the site knows.

    A message waits until every camera that is running has been heard of beyond it, so that the order does not depend
    on which worker was faster; a camera of which nothing came for `lateness` while others did is not waited for. A
    site that is new waits for a moment, or the first camera to be heard of would run ahead of the others."""
    site = site or Site()
    heard = {camera: at for camera, at in site.seen.items() if camera not in site.ended}
    ended: set[str] = set()
    queue = sorted((m for m in waiting if not known(site, m)), key=lambda m: (m.at, m.camera))
    for message in queue:
        heard[message.camera] = max(message.at, heard.get(message.camera, 0))
        (ended.add if message.ended else ended.discard)(message.camera)
    if not queue:
        return []
    awaited = [at for camera, at in heard.items() if camera not in ended
               and not arrivals.silent(camera, settings.lateness)]
    if awaited and not site.version and arrivals.last - arrivals.first < NEW_SITE:
        return []
    newest = max(heard.values())
    until = min([*awaited, newest - round(settings.settle * 1e6)]) if awaited else newest
    ready = [message for message in queue if message.at <= until]
    return ready or queue[: max(0, len(queue) - WAITING)]


def step(site: Site | None, message: Faces, settings: Settings) -> tuple[Site, list[Output]]:
    """One message of one site. What the site knows already changes nothing."""
    site = site or Site()
    if known(site, message):
        return site, []
    told: dict[str, Output] = {}  # by id: a message tells of each thing once, as it is at the end
    now = max(site.at, message.at)
    people, tracks = dict(site.people), dict(site.tracks)

    for face in message.faces:
        if not face.track:
            continue
        person = people.get(tracks.get(face.track, ""))
        if person is None or person.track != face.track:
            person = _arrives(face, message)
            tracks[face.track] = person.id
        person = _looks(person, face, message)
        people[person.id] = person
        if person.pending and _judgeable(person, message):
            person = _settle(person, people, tracks, settings)
        if not person.pending:
            people[person.id] = _tell(_judge(person, face, message, told, settings), told)

    cameras = {person.track: person.camera for person in people.values()}
    leaving = [track for track in tracks
               if track in message.gone or (message.ended and cameras.get(track) == message.camera)]
    for track in leaving:
        person = people.get(tracks[track])
        del tracks[track]
        if person is None or person.track != track:
            continue
        if person.pending and person.looks < 2:
            del people[person.id]
            continue
        if person.pending:
            person = _settle(person, people, tracks, settings)
            tracks.pop(track, None)
            person = _grown(person, settings, told, message.at)
        people[person.id] = _tell(msgspec.structs.replace(person, gone=True), told, always=True)

    for person in list(people.values()):
        if person.pending:
            continue
        stopped = message.ended and person.camera == message.camera
        if person.breach is not None:
            person = people[person.id] = _quiet(person, now, stopped, told, settings)
        if person.gone and (now - person.at) / 1e6 > settings.away:
            _tell(person, told, always=True, closed=True)
            del people[person.id]
    for person in sorted(people.values(), key=lambda p: p.at)[: max(0, len(people) - PEOPLE)]:
        del people[person.id]
        tracks = {track: owner for track, owner in tracks.items() if owner != person.id}

    seen = {camera: at for camera, at in site.seen.items() if now - at < FORGOTTEN} | {message.camera: message.at}
    site = Site(
        site.version + 1, now, seen,
        tuple(sorted({*site.ended, message.camera} if message.ended else {*site.ended} - {message.camera})),
        people, tracks,
    )
    return site, [_of_site(output, message.site) for output in told.values()]


def _arrives(face: Face, message: Faces) -> Person:
    return Person(
        face.track, message.at, message.at, message.camera, message.place, _where(face, message), face.track,
        face.state, True,
        legs=(Leg(message.camera, face.track, message.at, message.at, message.place),),
    )


def _where(face: Face, message: Faces) -> Box:
    """The face's box in widths of the picture."""
    x0, y0, x1, y1 = (value / max(1, message.width) for value in face.box)
    return x0, y0, x1, y1


def _looks(person: Person, face: Face, message: Faces) -> Person:
    """One more look at a person: the last leg grows, the gallery keeps the best embeddings, a breach goes on."""
    leg = person.legs[-1]
    lasted = min((message.at - person.at) / 1e6, LONGEST_LOOK) if person.looks else 0.0
    seconds = dict(leg.seconds)
    if lasted:
        seconds[person.state] = round(seconds.get(person.state, 0.0) + lasted, 3)
    best = face.quality > person.face_quality
    leg = msgspec.structs.replace(
        leg, end=message.at, state=face.state, seconds=seconds, face=face.id if best else leg.face, place=message.place)
    gallery = person.gallery
    if face.embedding and message.privacy != "anonymous":
        look = Look(np.array(face.embedding, np.float16).tobytes(), face.quality, face.state in ("worn", "incorrect"))
        gallery = tuple(sorted((*gallery, look), key=lambda k: -k.quality)[:GALLERY])
    return msgspec.structs.replace(
        person, at=message.at, camera=message.camera, place=message.place, box=_where(face, message), state=face.state,
        looks=person.looks + 1, gone=False, legs=(*person.legs[:-1], leg), gallery=gallery,
        breach=_breach(person.breach, face, message), face_quality=max(person.face_quality, face.quality),
    )


def _breach(breach: Breach | None, face: Face, message: Faces) -> Breach | None:
    """The stretch of non-compliance after one more look."""
    tell = msgspec.structs.replace
    demands = policy.demands(message.policy, face.zone, message.at)
    demand = policy.broken(demands, face.state)
    # what everybody has broken is over where only a rule for some roles is: of whoever it is not for, nothing is asked
    over = breach is not None and breach.opened and not breach.demand.roles and demand is not None and demand.roles
    if demand is not None and not over:
        state: Literal["none", "incorrect"] = "none" if face.state == "none" else "incorrect"
        if breach is None:
            breach = Breach(message.at, message.at, state, (message.camera,), message.place)
        cameras = breach.cameras if message.camera in breach.cameras else (*breach.cameras, message.camera)
        if not breach.opened:
            breach = tell(breach, demand=demand, zone=face.zone)
        if not demand.roles:
            breach = tell(breach, everybody=breach.everybody or message.at, everybody_end=message.at, wider=demand,
                          wider_zone=face.zone)
        elif breach.everybody and (message.at - breach.everybody_end) / 1e6 >= MENDED:
            breach = tell(breach, everybody=0, wider=None)
        return tell(
            breach, end=message.at, state="none" if "none" in (state, breach.state) else "incorrect", cameras=cameras,
            place=message.place, looks=breach.looks + 1, score=breach.score + face.state_score, worn_since=0,
            evidence=_evidence(breach.evidence, face, message),
        )
    if breach is not None and (not demands or face.state != "unknown"):  # as it should be, or not asked for
        since = breach.worn_since or message.at
        if not breach.opened and (message.at - since) / 1e6 >= MENDED:
            return None
        return tell(breach, worn_since=since)
    return breach


def _evidence(evidence: tuple[Evidence, ...], face: Face, message: Faces) -> tuple[Evidence, ...]:
    """The best looks that show the breach; where no picture may be kept, where and when it was."""
    hidden = message.privacy == "anonymous"
    if face.look != face.state or (evidence if hidden else not face.chip):
        return evidence
    one = Evidence(face.id, message.camera, message.at, face.box, face.look, face.look_score,
                   b"" if hidden else face.chip)
    # a picture is worth the probability of what it shows by its size, up to 48 px
    def value(e: Evidence) -> tuple[float, int]:
        return -e.look_score * min(1.0, (e.box[2] - e.box[0]) / 48), e.at
    return tuple(sorted((*evidence, one), key=value)[:EVIDENCE])


def _judgeable(person: Person, message: Faces) -> bool:
    if person.looks < 2:
        return False
    if message.privacy == "anonymous":
        return True
    waited = (person.at - person.start) / 1e6
    return len(person.gallery) >= LOOKS or waited >= (PATIENCE if person.gallery else 1.5 * PATIENCE)


def _settle(person: Person, people: dict[str, Person], tracks: dict[str, str], settings: Settings) -> Person:
    """A pending track becomes the person it continues, or somebody new."""
    before, likely = _continues(person, people, settings)
    del people[person.id]
    if before is None:
        person = msgspec.structs.replace(person, pending=False)
    else:
        gap = Gap(before.at, person.start, round(likely, 3), _metres(before.place, person.legs[0].place))
        breach = before.breach
        if breach is None:
            breach = person.breach
        elif person.breach is not None:
            breach = _joined(breach, person.breach)
        person = msgspec.structs.replace(
            person, id=before.id, start=before.start, pending=False, looks=before.looks + person.looks,
            legs=(*before.legs, *person.legs), gaps=(*before.gaps, gap), breach=breach, told=before.told,
            gallery=tuple(sorted((*before.gallery, *person.gallery), key=lambda k: -k.quality)[:GALLERY]),
        )
    people[person.id] = person
    tracks[person.track] = person.id
    return person


def _joined(first: Breach, then: Breach) -> Breach:
    cameras = (*first.cameras, *(camera for camera in then.cameras if camera not in first.cameras))
    return msgspec.structs.replace(
        first, end=then.end, state="none" if "none" in (first.state, then.state) else "incorrect", cameras=cameras,
        place=then.place, looks=first.looks + then.looks, score=first.score + then.score, worn_since=then.worn_since,
        evidence=(*first.evidence, *then.evidence)[:EVIDENCE],
        demand=first.demand if first.opened else then.demand, zone=first.zone if first.opened else then.zone,
        everybody=first.everybody or then.everybody, everybody_end=then.everybody_end or first.everybody_end,
        wider=then.wider or first.wider, wider_zone=then.wider_zone if then.wider else first.wider_zone,
    )


def _continues(person: Person, people: dict[str, Person], settings: Settings) -> tuple[Person | None, float]:
    """Who of the people seen before this track is, with the probability; None: nobody."""
    candidates = [(prior, other) for other in people.values()
                  if not other.pending and (prior := _travel(other, person, settings)) is not None]
    if not candidates:
        return None, 0.0
    # before looks are compared, any of them may be the one: the more there are, the more alike they have to be; but a
    # site is not full of strangers only, so half of that
    crowd = math.log(len(candidates)) / 2
    odds = [(prior + (_appearance(other.gallery, person.gallery) if other.gallery and person.gallery
                      else 0.0 if prior == REFOUND_ODDS else UNSEEN) - (prior != REFOUND_ODDS) * crowd, other)
            for prior, other in candidates]
    odds.sort(key=lambda pair: (-pair[0], pair[1].id))
    best = odds[0][0]
    likely = 1 / (1 + math.exp(-max(-50.0, min(50.0, best))))
    if likely < SURE:
        return None, 0.0
    if len(odds) > 1 and best - odds[1][0] < LEAD:
        first, second = odds[0][1].gallery, odds[1][1].gallery
        if not first or not second or _appearance(first, second) < 0:  # else both are one person, known twice
            return None, 0.0
    return odds[0][1], likely


def _travel(other: Person, person: Person, settings: Settings) -> float | None:
    """Log odds, before looks are compared, that `other` could be where `person` appeared; None: impossible."""
    gap = (person.start - other.at) / 1e6
    first = person.legs[0]
    metres = _metres(other.place, first.place)
    if other.camera == first.camera:
        if gap < 0 or (not other.gone and gap < 1.0):  # in the picture at the same time
            return None
        apart = max(abs(other.box[i] - person.box[i]) for i in range(4)) / max(1e-3, person.box[3] - person.box[1])
        if gap <= REFOUND and apart <= NEARBY:
            return REFOUND_ODDS
    elif metres is None:
        if gap < 0:
            return None
    elif metres > OVERLAP and (gap < 0 or metres > settings.walk * (gap + 1.0)):
        return None
    if gap > settings.away:
        return None
    return -math.log1p(max(0.0, gap) / 60.0)


def _appearance(a: tuple[Look, ...], b: tuple[Look, ...]) -> float:
    """Log odds that two galleries are one person, from the mean of their three most similar pairs."""
    cosines = likeness.levelled(matrix(a) @ matrix(b).T, masked(a), masked(b))
    best = np.sort(cosines.ravel())[-3:]
    return STEEP * (float(best.mean()) - EVEN)


def matrix(looks: tuple[Look, ...]) -> NDArray[np.float32]:
    """(N, D) embeddings."""
    return np.stack([np.frombuffer(look.vector, np.float16) for look in looks]).astype(np.float32)


def masked(looks: tuple[Look, ...]) -> NDArray[np.bool_]:
    """(N,) whether the face is masked."""
    return np.array([look.masked for look in looks])


def _metres(a: Place, b: Place) -> float | None:
    return None if a is None or b is None else round(math.dist(a, b), 2)


def _judge(person: Person, face: Face, message: Faces, told: dict[str, Output], settings: Settings) -> Person:
    """Opens, tells of and closes the person's episode after a look."""
    breach = person.breach
    if breach is None:
        return person
    if breach.worn_since and (message.at - breach.worn_since) / 1e6 >= MENDED:
        if breach.opened:
            on = face.state == "worn"
            _tell_episode(person, breach, told, "closed", "mask on" if on else "not required", message.at)
        return msgspec.structs.replace(person, breach=None)
    return _grown(person, settings, told, message.at)


def _grown(person: Person, settings: Settings, told: dict[str, Output], at: int) -> Person:
    """The person with the episode opened once the breach has lasted long enough, and told of now and then."""
    breach = person.breach
    if breach is None:
        return person
    if not breach.opened and not _lasted(breach, breach.demand, settings):
        return person
    if breach.demand.roles and breach.wider and _lasted(breach, breach.wider, settings):
        breach = msgspec.structs.replace(breach, demand=breach.wider, zone=breach.wider_zone)
    if not breach.opened or breach.end - breach.told >= TELL_EVERY:
        breach = msgspec.structs.replace(breach, opened=True, told=breach.end)
        _tell_episode(person, breach, told, "open", "", at)
    return msgspec.structs.replace(person, breach=breach)


def _lasted(breach: Breach, demand: policy.Demand, settings: Settings) -> bool:
    """Whether it is longer than that rule's grace; of a rule for everybody only what everybody breaks counts."""
    everybody = not demand.roles and breach.everybody
    lasted = breach.everybody_end - breach.everybody if everybody else breach.end - breach.start
    return lasted / 1e6 >= (settings.grace if demand.grace is None else demand.grace)


def _quiet(person: Person, now: int, stopped: bool, told: dict[str, Output], settings: Settings) -> Person:
    """Ends a breach that nobody has seen go on."""
    breach = person.breach
    assert breach is not None  # noqa: S101  (the caller asked)
    if not stopped and (now - breach.end) / 1e6 <= settings.quiet:
        return person
    if breach.opened:
        _tell_episode(person, breach, told, "closed", "stream ended" if stopped else "out of sight", now)
    return msgspec.structs.replace(person, breach=None)


def _tell_episode(person: Person, breach: Breach, told: dict[str, Output], status: Literal["open", "closed"],
                  reason: Literal["", "mask on", "out of sight", "stream ended", "not required"], at: int) -> None:
    name = f"{person.id}!{breach.start}"
    told[name] = Episode(
        name, "", person.id, breach.state, status, breach.start, breach.end, at, breach.cameras, breach.place,
        round(breach.score / max(1, breach.looks), 4), breach.looks, reason, breach.evidence,
        breach.demand.version, breach.demand.rule, breach.zone, breach.demand.except_roles, breach.demand.roles,
    )


def _tell(person: Person, told: dict[str, Output], always: bool = False, closed: bool = False) -> Person:
    """Tells of the person's route when it is new, has a new leg or has grown for a while."""
    if not always and person.at - person.told < TELL_EVERY:
        return person
    told[person.id] = Trajectory(person.id, "", person.at, person.start, person.legs, person.gaps, closed)
    return msgspec.structs.replace(person, told=person.at)


def _of_site(output: Output, site: str) -> Output:
    return msgspec.structs.replace(output, site=site)
