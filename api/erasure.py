"""Erasing somebody: every row, vector and picture of them, a mark so that no fold brings them back, and a report that
says which topics still hold what, and until when."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from sqlalchemy import and_, cast, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import Session

from agents import broker
from agents.topics import admin, configs_of
from api import alerts, exempt, pictures, vectors, visitors
from api.retention import remove_episodes, remove_faces
from api.tables import erased, recognised, retention, subjects
from api.tables.alerts import Alert
from api.tables.compliance import Watching
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.erased import Erasure, digest, mark
from api.tables.inspections import Photo, Verdict, pixelated
from api.tables.people import Decision, PersonRow, Portrait
from api.tables.recognised import Recognised
from api.tables.replays import Replay, ReplayEpisode
from api.tables.sightings import FaceRow, Sighting, TrackPoint
from api.tables.sites import Site
from api.tables.subjects import EpisodePerson, EpisodeTrack
from api.tables.trajectories import LegRow, TrajectoryRow
from pipeline import topics as contract
from pipeline.messages import STATES
from pipeline.pictures import BadPicture, decode, encode
from pipeline.settings import Settings

if TYPE_CHECKING:
    from api.photo_faces import Photos

log = structlog.get_logger()
SECOND = 1_000_000  # µs
LATER = 600_000_000  # µs after a look in which records about it are still written: a route closes after `away`
# What a topic's records show; a topic that is not named here shows nobody.
SHOWS = {
    "frames": "whole pictures", "frames.unique": "whole pictures", "faces": "cut-outs of faces",
    "faces.embedded": "cut-outs and vectors of faces", "trajectories": "where they went, no picture",
    "episodes": "evidence pictures", "dead.letters": "refused records, which may be pictures",
}  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """Whom somebody wants erased, by whatever they are known."""

    person: str = ""  # enrolled
    visitor: str = ""
    tracks: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()  # as those of photos, which are on no track

    def __bool__(self) -> bool:
        return bool(self.person or self.visitor or self.tracks or self.faces)

    @property
    def ids(self) -> set[str]:
        """Those that the stream made."""
        return {*([self.visitor] if self.visitor else ()), *self.tracks, *self.faces}


@dataclass
class Subject:
    """Everything that is known under one person."""

    person: str = ""  # enrolled; empty: not
    visitors: set[str] = field(default_factory=set)
    tracks: set[str] = field(default_factory=set)
    faces: set[str] = field(default_factory=set)
    episodes: set[str] = field(default_factory=set)
    places: set[tuple[str, str]] = field(default_factory=set)  # site, camera; of a photo: site, inspection
    nowhere: set[str] = field(default_factory=set)  # ids that were asked for of which nobody knows the place
    first: int = 0  # look at them that is known, µs UTC; 0: none
    last: int = 0
    written: int = 0  # newest record about them, µs UTC; 0: not known

    @property
    def ids(self) -> set[str]:
        return self.visitors | self.tracks | self.faces | self.episodes

    def __bool__(self) -> bool:
        return bool(self.person or self.ids)


class Stretch(NamedTuple):
    """Part of a route that a camera saw."""

    route: str
    track: str
    site: str
    camera: str
    start: int
    end: int


def stretches(session: Session, routes: Collection[str] = (), tracks: Collection[str] = ()) -> set[Stretch]:
    """All of these routes, and those that these tracks are; also of routes that have expired, as long as an episode of
    them is there."""
    legs = select(LegRow.trajectory, LegRow.track, LegRow.site, LegRow.camera, LegRow.start, LegRow.end).where(
        or_(LegRow.trajectory.in_(routes), LegRow.track.in_(tracks)))
    kept = select(EpisodeRow.person, EpisodeTrack.track, EpisodeRow.site, EpisodeTrack.camera, EpisodeTrack.start,
                  EpisodeTrack.end).join(EpisodeRow, EpisodeRow.id == EpisodeTrack.episode).where(
        or_(EpisodeRow.person.in_(routes), EpisodeTrack.track.in_(tracks)))
    # in this order: retention moves one to the other
    return {Stretch(*row) for query in (legs, kept) for row in session.execute(query)}


def gather(session: Session, wish: Wish) -> Subject:
    """What belongs to an enrolled person, to a visitor, to tracks, and to single faces (of photos)."""
    known, found = visitors.links(session), Subject(wish.person)
    for each in {*([wish.visitor] if wish.visitor else ()), *_of_person(session, known, wish.person)}:
        members = known.members(each)
        given = {track for track, owner in known.owner.items() if owner in members}
        found.visitors |= members
        found.tracks |= {one.track for one in stretches(session, members, given)
                         if known.owner.get(one.track, one.route) in members}
        # a route's id is that of its first track
        found.tracks |= {id_ for id_ in members if known.owner.get(id_, id_) in members}
    found.tracks |= set(wish.tracks)
    _of_faces(session, found, wish.faces)
    routes = _routes(session, found)
    _looks(session, found, routes)
    _places(session, found, wish)
    found.written = session.scalar(select(func.max(TrajectoryRow.recorded)).where(
        TrajectoryRow.id.in_(found.visitors), TrajectoryRow.closed)) or 0
    return found


def _of_person(session: Session, known: visitors.Links, person: str) -> set[str]:
    """The visitors that an enrolled person is, or was when they were recognised."""
    if not person:
        return set()
    found = set(visitors.of_person(session, known, person))
    for track, route in session.execute(select(EpisodePerson.track, EpisodeRow.person).join(
            EpisodeRow, EpisodeRow.id == EpisodePerson.episode).where(EpisodePerson.person == person)):
        visitor = known.head(known.owner.get(track, route))
        if known.decided(visitor).get(person, True):
            found.add(visitor)
    return found


def _of_faces(session: Session, found: Subject, faces: Collection[str]) -> None:
    """The tracks of single faces; of one of which only the evidence is left, the stretch in which it was taken, or
    the episode."""
    found.faces |= set(faces)
    for face, track in ((FaceRow.id, FaceRow.track), (Recognised.face, Recognised.track), (Sighting.face, Sighting.id),
                        (LegRow.face, LegRow.track)):
        found.tracks |= {id_ for id_ in session.scalars(select(track).where(face.in_(faces))) if id_}
    for one, route in session.execute(select(EvidenceRow, EpisodeRow.person).join(
            EpisodeRow, EpisodeRow.id == EvidenceRow.episode).where(EvidenceRow.face.in_(faces))):
        there = {each.track for each in stretches(session, [route]) if _within(one, each)}
        found.tracks |= there
        if not there:
            found.episodes.add(one.episode)


def _within(look: EvidenceRow, stretch: Stretch) -> bool:
    return look.camera == stretch.camera and stretch.start <= look.at <= stretch.end


def _routes(session: Session, found: Subject) -> dict[str, list[Stretch]]:
    """The routes of the tracks, whole. A route whose id is one of them goes with it, as does one of which nothing else
    is left; of the others their stretches and what was seen in these."""
    names = {one.route for one in stretches(session, found.visitors, found.tracks)}
    names |= set(session.scalars(select(TrajectoryRow.id).where(TrajectoryRow.id.in_(found.tracks))))
    names |= set(session.scalars(select(EpisodeRow.person).where(EpisodeRow.person.in_(found.tracks))))
    whole: defaultdict[str, list[Stretch]] = defaultdict(list)
    for one in stretches(session, names):
        whole[one.route].append(one)
    found.visitors |= {route for route in names if route in found.tracks or
                       (whole[route] and all(one.track in found.tracks for one in whole[route]))}
    return whole


def _looks(session: Session, found: Subject, routes: dict[str, list[Stretch]]) -> None:
    """Episodes and faces. Of a route that does not go as a whole, those episodes that lie in what goes alone."""
    found.episodes |= set(session.scalars(select(EpisodeRow.id).where(EpisodeRow.person.in_(found.visitors))))
    parts = sorted(set(routes) - found.visitors)
    for row in session.scalars(select(EpisodeRow).where(EpisodeRow.person.in_(parts))):
        over = [one for one in routes[row.person] if one.camera in row.cameras and one.start <= row.end
                and one.end >= row.start]
        if over and all(one.track in found.tracks for one in over):
            found.episodes.add(row.id)
    gone = [one for those in routes.values() for one in those if one.track in found.tracks]
    for look, route in session.execute(select(EvidenceRow, EpisodeRow.person).join(
            EpisodeRow, EpisodeRow.id == EvidenceRow.episode).where(
            or_(EpisodeRow.id.in_(found.episodes), EpisodeRow.person.in_(parts)))):
        there = [one.track in found.tracks for one in routes.get(route, ()) if _within(look, one)]
        if any(there) or (not there and look.episode in found.episodes):
            found.faces.add(look.face)
    for face, track in ((FaceRow.id, FaceRow.track), (Recognised.face, Recognised.track), (Sighting.face, Sighting.id),
                        (LegRow.face, LegRow.track)):
        found.faces |= {id_ for id_ in session.scalars(select(face).where(track.in_(found.tracks))) if id_}
    found.places |= {(one.site, one.camera) for one in gone}
    times = [at for one in gone for at in (one.start, one.end)]
    times += [at for one in session.execute(select(Sighting.start, Sighting.end).where(
        Sighting.id.in_(found.tracks))) for at in one]
    found.first, found.last = min(times, default=0), max(times, default=0)


def _places(session: Session, found: Subject, wish: Wish) -> None:
    """Where they were seen: of every row that goes, and of every id that was asked for."""
    for table, column, ids in ((Sighting, Sighting.id, found.tracks), (FaceRow, FaceRow.id, found.faces),
                               (EvidenceRow, EvidenceRow.face, found.faces),
                               (Recognised, Recognised.track, found.tracks)):
        found.places |= set(session.execute(
            select(table.site, table.camera).where(column.in_(ids))))  # type: ignore[attr-defined,arg-type]
    found.places |= {(site, camera) for site, cameras in session.execute(
        select(EpisodeRow.site, EpisodeRow.cameras).where(EpisodeRow.id.in_(found.episodes))) for camera in cameras}
    asked = visitors.places(session, wish.ids)
    found.places |= set(asked.values())
    found.nowhere = wish.ids - asked.keys()


def erase(session: Session, settings: Settings, wish: Wish, by: str, reason: str, topics: bool = False,
          allowed: Callable[[Subject], None] = lambda _: None, photos: Photos | None = None
          ) -> tuple[Erasure, Subject]:
    """In the caller's transaction; pictures and vectors go at once. Waits for the batch that is being folded, and
    looks for them only then: what is committed meanwhile is theirs too.

    `allowed` raises for those who may not; `topics`: also delete the stretches of the topics that may hold them, with
    everybody else in them; `photos`: what was found in photos of inspections, and is erased besides."""
    erased.alone(session)
    alerts.quiet(session)
    person = session.get(PersonRow, wish.person, with_for_update=True, populate_existing=True) if wish.person else None
    subject = gather(session, wish)
    allowed(subject)
    if photos:
        subject.faces |= photos.alike
        subject.places |= set(visitors.places(session, photos.alike).values())
    exempt.hold(session, {site for site, _ in subject.places})
    done = Erasure(by=by, site=min((site for site, _ in subject.places), default=""), reason=reason, report={})
    session.add(done)
    session.flush()
    mark(session, done.id, subject.ids)
    stays = _stays(session, settings, subject, person)  # before the rows go that say so
    rows: dict[str, int] = {}
    shown = _replays(session, settings, subject, rows)  # they are found by what the other rows still say
    shown += _pictures(session, settings, subject, rows)
    _rows(session, subject, rows)
    _counting(session, subject)
    until = subject.written or time.time_ns() // 1000
    done.report = {
        "rows": {table: count for table, count in rows.items() if count},
        "pictures": shown,
        "vectors": _vectors(settings, subject),
        "marked": len(subject.ids),
        "topics": holding(settings, until, subject, topics),
        "photos": photos.report() if photos else None,
        "stays": stays,
    }
    return done, subject


def _stays(session: Session, settings: Settings, subject: Subject, person: PersonRow | None) -> list[str]:
    """What an erasure does not reach."""
    told = [
        "the totals of replays, which name nobody; frames that a topic still holds can be replayed until they "
        "expire: breaches of whoever was erased are left out, as far as the stream had seen the face there",
        "counts of a minute, which name nobody; a rebuild counts without them",
        "the audit log names ids of people, faces and tracks that were looked at, no picture and no name",
        "answers kept to repeat a request, for a day and until the next hourly sweep",
        "pictures that browsers and phones were shown, as long as they keep them; messages that were sent",
        "chat and its topic are not searched: words about them and pictures sent there stay for their time; so do "
        "words in notes, requests and comments on other breaches",
        "the stages' memory of who is in sight, until they are not expected back "
        f"({settings.away:.0f} s), and in the changelog topics until these are compacted",
        "backups of the database, the pictures and the vectors, until they are overwritten",
    ]
    if person is None:
        return told
    if person.withdrawn:
        told.append(f"consent was taken back on {person.withdrawn:%Y-%m-%d}: what cameras had recognised until then is "
                    "no longer under the name; search for it by a photo, and name the tracks")
    theirs = [Site.id == person.site] if person.site else []  # of other sites nobody is told
    if unnamed := sorted(session.scalars(select(Site.id).where(Site.privacy == "pseudonymous", *theirs))):
        told.append("nobody has a name at pseudonymous sites, so what their cameras saw is not under this one: search "
                    f"there by a photo, and name the tracks ({', '.join(unnamed[:20])})")
    for site in sorted({site for site, _ in subject.places} | {person.site}):
        days = retention.days(session, site)
        least = min(days["recognised"], days["trajectories"])
        if longer := [kind for kind in ("sightings", "pictures", "vectors") if days[kind] > least]:
            told.append(f"{', '.join(longer)} {f'of {site} ' if site else ''}older than {least} days, of tracks "
                        "without a breach: by then nothing says any more whose they are; search for them by a photo, "
                        "and name the tracks")
    return told


def _pictures(session: Session, settings: Settings, subject: Subject, rows: dict[str, int]) -> int:
    """Pictures and the rows that name them; -> how many pictures."""
    store, shown = pictures.store(settings), 0
    faces, episodes = sorted(subject.faces), sorted(subject.episodes)
    rows["faces"] = session.scalar(select(func.count()).where(FaceRow.id.in_(faces))) or 0
    shown += remove_faces(settings, session, faces)
    rows["episodes"] = len(episodes)
    shown += remove_episodes(settings, session, episodes)
    left = session.scalars(select(EvidenceRow).where(EvidenceRow.face.in_(faces))).all()
    store.delete([row.picture for row in left if row.picture])
    shown += sum(bool(row.picture) for row in left)
    rows["evidence"] = len(left)
    session.execute(delete(EvidenceRow).where(EvidenceRow.face.in_(faces)))
    for episode in sorted({row.episode for row in left}):  # as if it had never been among them
        others = session.scalars(select(EvidenceRow).where(EvidenceRow.episode == episode, EvidenceRow.rank >= 0)
                                 .order_by(EvidenceRow.rank))
        for rank, row in enumerate(others):
            row.rank = rank
    names = session.scalars(select(Portrait.picture).where(Portrait.person == subject.person)).all()
    store.delete(names)
    rows["portraits"] = len(names)
    rows["photo_verdicts"] = _photos(session, settings, subject.faces)
    return shown + len(names) + rows["photo_verdicts"]


def _replays(session: Session, settings: Settings, subject: Subject, rows: dict[str, int]) -> int:
    """What replays found of them; -> how many pictures. With other models or thresholds somebody has other ids there:
    so every breach goes that one of their cameras saw while they were in sight, whoever it shows. A run that is
    under way is stopped: it would bring them back."""
    known = sorted(subject.ids)
    spans = [(camera, start, end) for camera, start, end in session.execute(
        select(Sighting.camera, Sighting.start, Sighting.end).where(Sighting.id.in_(sorted(subject.tracks))))]
    spans += [(one.camera, one.start, one.end) for one in stretches(session, subject.visitors, subject.tracks)]
    for one in (FaceRow.camera, FaceRow.at, FaceRow.id), (EvidenceRow.camera, EvidenceRow.at, EvidenceRow.face):
        spans += [(camera, at, at) for camera, at in session.execute(
            select(one[0], one[1]).where(one[2].in_(sorted(subject.faces))))]
    faces = sorted(subject.faces)
    gone: dict[tuple[str, str], list[str]] = {}
    named = or_(ReplayEpisode.id.in_(known), ReplayEpisode.person.in_(known), ReplayEpisode.tracks.overlap(known),
                func.jsonb_path_exists(ReplayEpisode.evidence, cast("$[*] ? (@.face == $ids[*])", JSONPATH),
                                       func.jsonb_build_object("ids", cast(faces, JSONB))))
    seen = [and_(ReplayEpisode.cameras.contains([camera]), ReplayEpisode.start <= end, ReplayEpisode.end >= start)
            for camera, start, end in _joined(spans)]
    wanted = [named, *(or_(*seen[begin:begin + 100]) for begin in range(0, len(seen), 100))]
    for where in wanted:
        for run, id_, evidence in session.execute(
                select(ReplayEpisode.run, ReplayEpisode.id, ReplayEpisode.evidence).where(where)):
            gone[run, id_] = [one["picture"] for one in evidence if one["picture"]]
    names = {name for those in gone.values() for name in those}
    pictures.store(settings).delete(sorted(names))
    keys = sorted(gone)
    for begin in range(0, len(keys), 500):
        session.execute(delete(ReplayEpisode).where(tuple_(ReplayEpisode.run, ReplayEpisode.id).in_(
            keys[begin:begin + 500])))
    rows["replay_episodes"] = len(gone)
    for run in session.scalars(select(Replay).where(Replay.state == "running").with_for_update()):
        if any(camera in run.cameras and run.since <= end and run.until >= start for camera, start, end in spans):
            run.cancel, run.error = True, "somebody was erased from this stretch while it ran: start it again"
    return len(names)


def _joined(spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Those of a camera that touch as one, a second more at both ends: other models see somebody a little longer."""
    found: list[tuple[str, int, int]] = []
    for camera, start, end in sorted(spans):
        start, end = start - SECOND, end + SECOND
        if found and found[-1][0] == camera and start <= found[-1][2]:
            found[-1] = camera, found[-1][1], max(end, found[-1][2])
        else:
            found.append((camera, start, end))
    return found


def _photos(session: Session, settings: Settings, faces: set[str]) -> int:
    """Faces in photos of inspections become squares: the photo shows the place, and perhaps others."""
    store, changed = pictures.store(settings), 0
    frames = {face.rpartition("#")[0] for face in faces}
    found = session.execute(select(Verdict, Photo).outerjoin(Photo, Photo.frame == Verdict.frame)
                            .where(Verdict.frame.in_(frames))).all()
    for verdict, photo in found:
        boxes = [each["box"] for each in verdict.faces if each["id"] in faces]
        if not boxes:
            continue
        jpeg = store.get(photo.picture) if photo else None
        if jpeg is not None:
            try:
                store.put(photo.picture, encode(pixelated(decode(jpeg), boxes)))
            except BadPicture:
                store.delete([photo.picture])
        verdict.faces = [each for each in verdict.faces if each["id"] not in faces]
        for state in STATES:
            setattr(verdict, state, sum(each["look"] == state for each in verdict.faces))
        changed += 1
    return changed


def _rows(session: Session, subject: Subject, rows: dict[str, int]) -> None:
    def gone(name: str, *where: Any) -> None:
        rows[name] = rows.get(name, 0) + (session.execute(delete(TABLES[name]).where(*where)).rowcount or 0)

    tracks, everywhere = sorted(subject.tracks), sorted(subject.visitors)
    gone("track_points", TrackPoint.track.in_(tracks))
    gone("sightings", Sighting.id.in_(tracks))
    routes = session.scalars(select(LegRow.trajectory).where(LegRow.track.in_(tracks)).distinct()).all()
    rows["trajectory_legs"] = sum(_shortened(session, route, subject.tracks) for route in routes
                                  if route not in subject.visitors)
    gone("trajectory_legs", LegRow.trajectory.in_(everywhere))
    gone("trajectories", TrajectoryRow.id.in_(everywhere))
    seen = or_(Recognised.track.in_(tracks), Recognised.person == (subject.person or None))
    alerts.forget(session, seen, subject.person)
    rows["recognised"] = recognised.remove(session, seen)
    subjects.forget(session, subject.episodes, tracks, EpisodePerson.person == (subject.person or None))
    named = [*everywhere, *([subject.person] if subject.person else [])]
    told = select(Alert.id).where(or_(Alert.person.in_(named), *(
        Alert.id.startswith(f"{alerts.WATCHED}{track}|", autoescape=True) for track in tracks)))
    gone("deliveries", Delivery.alert.in_(told))
    gone("alerts", Alert.id.in_(told))
    gone("decisions", or_(Decision.subject.in_(named), Decision.object.in_(named), Decision.tracks.overlap(tracks)))
    if subject.person:
        gone("people", PersonRow.id == subject.person)  # with portraits, consents, places on lists


def _shortened(session: Session, route: str, tracks: set[str]) -> int:
    """A route without the stretches of these tracks, as a rebuild would make it; -> how many went."""
    legs = session.scalars(select(LegRow).where(LegRow.trajectory == route).order_by(LegRow.number)).all()
    row = session.get_one(TrajectoryRow, route)
    left = [i for i, leg in enumerate(legs) if leg.track not in tracks]
    row.gaps = list(erased.between(row.gaps, left))
    row.cameras = len({legs[i].camera for i in left})
    row.metres = round(sum(gap["metres"] or 0.0 for gap in row.gaps), 1)
    row.state = legs[left[-1]].state
    for state in STATES:
        setattr(row, state, sum(getattr(legs[i], state) for i in left))
    session.execute(delete(LegRow).where(LegRow.trajectory == route, LegRow.track.in_(tracks)))
    for number, i in enumerate(left):
        session.execute(update(LegRow).where(LegRow.trajectory == route, LegRow.number == legs[i].number)
                        .values(number=number))
    return len(legs) - len(left)


def _counting(session: Session, subject: Subject) -> None:
    """A minute that may still change remembers whom it has counted: there a hash takes the place of the track."""
    other = {track: digest(track) for track in subject.tracks}
    cameras = {camera for _, camera in subject.places}
    for row in session.scalars(select(Watching).where(Watching.camera.in_(cameras)).with_for_update()):
        state = row.state
        held = [state.people, *(those for minute in state.minutes.values() for those in minute.people.values())]
        if not any(other.keys() & those.keys() for those in held):
            continue
        for those in held:
            for track in other.keys() & those.keys():
                those[other[track]] = those.pop(track)  # type: ignore[index]
        row.body = msgspec.msgpack.encode(state)


TABLES = {"track_points": TrackPoint, "sightings": Sighting, "trajectory_legs": LegRow, "trajectories": TrajectoryRow,
          "recognised": Recognised, "alerts": Alert, "deliveries": Delivery, "decisions": Decision, "people": PersonRow}


def _vectors(settings: Settings, subject: Subject) -> int:
    store, done = vectors.store(settings), 0
    for name, ids in (("track", sorted(subject.tracks)), ("face", sorted(subject.faces))):
        for begin in range(0, len(ids), 200):
            done += store.delete(f"{name} in {vectors.quoted(ids[begin:begin + 200])}")
    return done


# -- what the topics still hold --------------------------------------------------------------------------------------


def holding(settings: Settings, until: int, subject: Subject, remove: bool = False) -> list[dict[str, Any]]:
    """Of each topic that can show somebody, and of each replay's copy: whether it may still hold records about them,
    and until when at the latest. `until`: the newest record about them, µs."""
    try:
        broker.reachable(settings)
        return _holding(settings, until + LATER, subject, remove)
    except (OSError, KafkaError) as error:
        log.warning("erasure: topics not asked", error=str(error)[:200])
        return [{"topic": name, "shows": shows, "holds": True, "until": None,
                 "about": f"the broker was not reached: {type(error).__name__}"} for name, shows in SHOWS.items()]


def _holding(settings: Settings, until: int, subject: Subject, remove: bool) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    with admin(settings) as client, closing(KafkaConsumer(
            **broker.connection(settings), group_id=None, enable_auto_commit=False)) as consumer:  # fmt: skip
        there = {name.removeprefix(settings.topic_prefix): name for name in client.list_topics()
                 if name.startswith(settings.topic_prefix)}
        wanted = {name: base for name in there if (base := _base(name)) in SHOWS}
        configs = configs_of(client, [there[name] for name in wanted])
        for name, base in sorted(wanted.items()):
            full = there[name]
            parts = _partitions(consumer, full, base, subject)
            oldest = consumer.offsets_for_times(dict.fromkeys(parts, 0)) or {}
            held = [p for p in parts if (first := oldest.get(p)) is not None and first.timestamp * 1000 <= until]
            kept = int(configs[full].get("retention.ms", {}).get("value") or -1)
            entry: dict[str, Any] = {"topic": name, "shows": SHOWS[base], "holds": bool(held), "until": None,
                                     "removed": False}
            if held and remove:
                ends = consumer.end_offsets(held)
                later = consumer.offsets_for_times(dict.fromkeys(held, until // 1000)) or {}
                client.delete_records({p: later[p].offset if later.get(p) else ends[p] for p in held})
                entry |= {"holds": False, "removed": True}
            elif held and kept >= 0:
                # a closed segment goes as a whole; it closes after an eighth of the time, and goes within a minute
                entry["until"] = min(until, time.time_ns() // 1000 + LATER) + round(kept * 1000 * 1.125) + 120_000_000
            told.append(entry)
    return told


def _base(name: str) -> str:
    """Of replay.<run>.faces: faces."""
    if not name.startswith("replay."):
        return name
    rest = name.split(".", 2)[-1]
    return next((base for base in SHOWS if rest == base), rest)


def _partitions(consumer: KafkaConsumer, full: str, base: str, subject: Subject) -> list[TopicPartition]:
    """Those in which records about them lie: by the keys of the topic, or all of them where that is not known."""
    numbers = sorted(consumer.partitions_for_topic(full) or ())
    key = contract.find(base).key
    keys = {camera for _, camera in subject.places} if key == "camera" else \
        {site for site, _ in subject.places} if key == "site" else set()
    keys.discard("")
    if keys and numbers:
        numbers = sorted({(murmur2(each.encode()) & 0x7FFFFFFF) % len(numbers) for each in keys})
    return [TopicPartition(full, number) for number in numbers]
