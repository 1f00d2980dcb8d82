"""Erasing somebody: every row, vector and picture of them, a mark so that no fold brings them back, and a report that
says which topics still hold what, and until when."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from sqlalchemy import and_, cast, delete, func, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import Session

from agents import broker
from agents.topics import admin, configs_of
from api import alerts, pictures, vectors, visitors
from api.retention import remove_episodes, remove_faces
from api.tables.alerts import Alert
from api.tables.compliance import Watching
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.erased import LOCK, Erasure, digest, mark
from api.tables.inspections import Photo, Verdict, pixelated
from api.tables.people import Decision, PersonRow, Portrait
from api.tables.recognised import Recognised
from api.tables.replays import Replay, ReplayEpisode
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import LegRow, TrajectoryRow
from pipeline import topics as contract
from pipeline.pictures import BadPicture, decode, encode
from pipeline.settings import Settings

log = structlog.get_logger()
SECOND = 1_000_000  # µs
LATER = 600_000_000  # µs after a look in which records about it are still written: a route closes after `away`
# What a topic's records show; a topic that is not named here shows nobody.
SHOWS = {
    "frames": "whole pictures", "frames.unique": "whole pictures", "faces": "cut-outs of faces",
    "faces.embedded": "cut-outs and vectors of faces", "trajectories": "where they went, no picture",
    "episodes": "evidence pictures", "dead.letters": "refused records, which may be pictures",
}  # fmt: skip


@dataclass
class Subject:
    """Everything that is known under one person."""

    person: str = ""  # enrolled; empty: not
    visitors: set[str] = field(default_factory=set)
    tracks: set[str] = field(default_factory=set)
    faces: set[str] = field(default_factory=set)
    episodes: set[str] = field(default_factory=set)
    places: set[tuple[str, str]] = field(default_factory=set)  # site, camera
    written: int = 0  # newest record about them, µs UTC; 0: not known

    @property
    def ids(self) -> set[str]:
        return self.visitors | self.tracks | self.faces | self.episodes

    def __bool__(self) -> bool:
        return bool(self.person or self.ids)


def gather(session: Session, person: str = "", visitor: str = "", tracks: Collection[str] = (),
           faces: Collection[str] = ()) -> Subject:
    """What belongs to an enrolled person, to a visitor, to tracks, and to single faces (of photos)."""
    known, found = visitors.links(session), Subject(person)
    for each in {*([visitor] if visitor else ()), *(visitors.of_person(session, known, person) if person else ())}:
        found.visitors |= known.members(each)
        found.tracks |= {leg.track for leg in visitors.legs(session, known, each)}
        found.tracks |= {row.id for row in visitors.tracks(session, known, each)}
    singles = session.execute(select(FaceRow.id, FaceRow.track).where(FaceRow.id.in_(faces))).all()
    found.tracks |= {track for _, track in singles if track} | set(tracks)
    found.faces |= set(faces)
    found.faces |= set(session.scalars(select(FaceRow.id).where(FaceRow.track.in_(found.tracks))))
    found.faces |= set(session.scalars(select(Recognised.face).where(Recognised.track.in_(found.tracks))))
    for face, at_site, camera in session.execute(select(LegRow.face, LegRow.site, LegRow.camera).where(
            LegRow.track.in_(found.tracks))):
        found.faces |= {face} if face else set()
        found.places.add((at_site, camera))
    found.episodes = set(session.scalars(select(EpisodeRow.id).where(EpisodeRow.person.in_(found.visitors))))
    evidence = or_(EvidenceRow.episode.in_(found.episodes), EvidenceRow.face.in_(found.faces))
    for face, at_site, camera in session.execute(
            select(EvidenceRow.face, EvidenceRow.site, EvidenceRow.camera).where(evidence)):
        found.faces.add(face)
        found.places.add((at_site, camera))
    for table, id_ in ((Sighting, found.tracks), (FaceRow, found.faces)):
        found.places |= {(s, c) for s, c in session.execute(
            select(table.site, table.camera).where(table.id.in_(id_)))}
    found.written = session.scalar(select(func.max(TrajectoryRow.recorded)).where(
        TrajectoryRow.id.in_(found.visitors), TrajectoryRow.closed)) or 0
    return found


def erase(session: Session, settings: Settings, subject: Subject, by: str, reason: str, topics: bool = False
          ) -> Erasure:
    """In the caller's transaction; pictures and vectors go at once. Waits for the batch that is being folded.

    `topics`: also delete the stretches of the topics that may hold them, with everybody else in them."""
    session.execute(text("set local lock_timeout = '30s'"))
    session.execute(select(func.pg_advisory_xact_lock(LOCK)))
    done = Erasure(by=by, site=min((site for site, _ in subject.places), default=""), reason=reason, report={})
    session.add(done)
    session.flush()
    mark(session, done.id, subject.ids)
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
        "stays": [
            "the totals of replays, which name nobody; frames that a topic still holds can be replayed until they "
            "expire: breaches of whoever was erased are left out, as far as the stream had seen the face there",
            "counts of a minute, which name nobody; a rebuild counts without them",
            "the audit log names ids of faces and tracks that were looked at, no picture and no name",
            "answers kept to repeat a request, for a day at most",
            "chat and its topic are not searched: words about them and pictures sent there stay for their time",
            "the stages' memory of who is in sight, until they are not expected back "
            f"({settings.away:.0f} s), and in the changelog topics until these are compacted",
            "backups of the database, the pictures and the vectors, until they are overwritten",
        ],
    }
    return done


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
    spans += session.execute(select(LegRow.camera, LegRow.start, LegRow.end).where(  # type: ignore[arg-type]
        or_(LegRow.track.in_(sorted(subject.tracks)), LegRow.trajectory.in_(sorted(subject.visitors)))))
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
        changed += 1
    return changed


def _rows(session: Session, subject: Subject, rows: dict[str, int]) -> None:
    def gone(name: str, *where: Any) -> None:
        rows[name] = rows.get(name, 0) + (session.execute(delete(TABLES[name]).where(*where)).rowcount or 0)

    tracks, everywhere = sorted(subject.tracks), sorted(subject.visitors)
    gone("sightings", Sighting.id.in_(tracks))
    routes = select(LegRow.trajectory).where(LegRow.track.in_(tracks))
    touched = set(session.scalars(routes)) | subject.visitors
    gone("trajectory_legs", or_(LegRow.track.in_(tracks), LegRow.trajectory.in_(everywhere)))
    left = set(session.scalars(select(LegRow.trajectory).where(LegRow.trajectory.in_(touched))))
    gone("trajectories", TrajectoryRow.id.in_(touched - left))
    alerts.forget(session, or_(Recognised.track.in_(tracks), Recognised.person == (subject.person or None)))
    gone("recognised", or_(Recognised.track.in_(tracks), Recognised.person == (subject.person or None)))
    gone("alerts", Alert.person.in_(everywhere))
    named = [*everywhere, *([subject.person] if subject.person else [])]
    gone("decisions", or_(Decision.subject.in_(named), Decision.object.in_(named), Decision.tracks.overlap(tracks)))
    if subject.person:
        gone("people", PersonRow.id == subject.person)  # with portraits, consents, places on lists


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


TABLES = {"sightings": Sighting, "trajectory_legs": LegRow, "trajectories": TrajectoryRow, "recognised": Recognised,
          "alerts": Alert, "decisions": Decision, "people": PersonRow}


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
