"""What a site or a camera allows now: whatever is folded is held to it, and when it allows less, what was kept goes.

The rows go in the transaction that says so, and with them all that shows or finds what they were about. The pictures
and vectors that they named follow within a minute or so (`settle`, which retention's job calls).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
import structlog
from sqlalchemy import ColumnElement, delete, exists, func, insert, literal, select, tuple_, update
from sqlalchemy.orm import Session, sessionmaker

from api import alerts, exempt, pictures, vectors
from api.folds import Told
from api.tables import audit, erased, recognised, subjects
from api.tables.alerts import Alert
from api.tables.cameras import CameraRow
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.inspections import Inspection, Photo, Verdict, pixelated
from api.tables.people import Decision
from api.tables.recognised import Recognised
from api.tables.removals import Removal
from api.tables.replays import Replay, ReplayEpisode
from api.tables.sightings import FaceRow, Sighting
from api.tables.sites import STRICTEST_FIRST, Site, stricter
from api.tables.subjects import EpisodePerson
from pipeline.messages import Episode, Faces, Privacy
from pipeline.pictures import BadPicture, decode, encode
from pipeline.settings import Settings

log = structlog.get_logger()
Place = tuple[str, str]  # site, camera; the camera empty: the whole site
TURN = 200  # removals of one transaction
PHOTOS = 20  # the same; each is decoded and encoded anew


def now_of(session: Session, places: Iterable[Place]) -> dict[Place, Privacy]:
    """What each place allows now; one that nobody has described is not in it."""
    places = set(places)
    if not places:
        return {}
    sites = dict(session.execute(select(Site.id, Site.privacy).where(Site.id.in_({site for site, _ in places}))).all())
    cameras: dict[Place, Privacy] = {(site, id_): privacy for site, id_, privacy in session.execute(
        select(CameraRow.site, CameraRow.id, CameraRow.wish["privacy"].astext).where(
            tuple_(CameraRow.site, CameraRow.id).in_(places)))}
    found = {place: cameras.get(place) or sites.get(place[0]) for place in places}
    return {place: cast("Privacy", privacy) for place, privacy in found.items() if privacy}


def tightens(before: str, after: str) -> bool:
    """Whether `after` allows less."""
    order = [str(each) for each in STRICTEST_FIRST]
    return order.index(after) < order.index(before)


# -- what is folded --------------------------------------------------------------------------------------------------


def held_to(session: Session, messages: list[Told]) -> list[Told]:
    """The same records with no more in them than their places allow now, whatever they allowed when a record was
    made."""
    now = now_of(session, {place for told in messages for place in _places(told.message)})
    if not now:
        return messages
    return [told.of(_less(told.message, now)) for told in messages]


def _places(message: Any) -> Iterable[Place]:
    if isinstance(message, Faces) and message.faces:
        yield message.site, message.camera
    elif isinstance(message, Episode):
        yield from ((message.site, one.camera) for one in message.evidence if one.picture)


def _less(message: Any, now: dict[Place, Privacy]) -> Any:
    change = msgspec.structs.replace
    if isinstance(message, Faces):
        privacy = stricter(message.privacy, now.get((message.site, message.camera), message.privacy))
        if privacy == message.privacy:
            return message
        if privacy != "anonymous":
            return change(message, privacy=privacy)
        return change(message, privacy=privacy, faces=tuple(
            change(face, chip=b"", chip_box=None, embedding=()) for face in message.faces))
    if isinstance(message, Episode):
        hidden = [now.get((message.site, one.camera)) == "anonymous" for one in message.evidence]
        return change(message, evidence=tuple(
            change(one, picture=b"") if gone else one for one, gone in zip(message.evidence, hidden, strict=True)
        )) if any(hidden) else message
    return message


# -- what was kept ---------------------------------------------------------------------------------------------------


def lower(session: Session, site: str, camera: str, privacy: Privacy, by: str = "", address: str = ""
          ) -> dict[str, int]:
    """Of a site, or of one camera of it, goes what is more than `privacy` allows; -> rows by table, which the audit log
    has too. The caller has `erased.alone`."""
    if privacy == "enrolled":
        return {}
    alerts.quiet(session)
    exempt.hold(session, [site])
    rows = _names(session, site, camera)
    if privacy == "anonymous":
        rows |= _faces(session, site, camera)
    for table in (Sighting, FaceRow):
        session.execute(update(table).where(*_at(table, site, camera), table.privacy.in_(_looser(privacy)))
                        .values(privacy=privacy))
    rows = {table: count for table, count in rows.items() if count}
    audit.write(session, by, "privacy.lower", camera or site, site=site, camera=camera, address=address,
                privacy=privacy, rows=rows)
    return rows


def _looser(privacy: Privacy) -> list[str]:
    return [each for each in STRICTEST_FIRST if tightens(each, privacy)]


def _at(table: Any, site: str, camera: str) -> tuple[ColumnElement[bool], ...]:
    """As a condition on rows of one camera each, or of several."""
    if not camera:
        return (table.site == site,)
    return table.site == site, (table.cameras.contains([camera]) if hasattr(table, "cameras") else
                                table.camera == camera)


def _gone(session: Session, table: Any, *where: ColumnElement[bool]) -> int:
    return int(session.execute(delete(table).where(*where)).rowcount or 0)


def _names(session: Session, site: str, camera: str) -> dict[str, int]:
    """Who was recognised there, what people decided about it, and what was told of it."""
    seen = _at(Recognised, site, camera)
    told = select(Alert.id).where(Alert.kind == "person", *_at(Alert, site, camera))
    alerts.forget(session, seen[0] if len(seen) == 1 else seen[0] & seen[1])
    rows = {"deliveries": _gone(session, Delivery, Delivery.alert.in_(told)),
            "alerts": _gone(session, Alert, Alert.id.in_(told)),
            "recognised": recognised.remove(session, *seen)}
    subjects.forget(session, people=EpisodePerson.episode.in_(
        select(EpisodeRow.id).where(*_at(EpisodeRow, site, camera))))
    words = [Decision.site == site, Decision.kind.in_(("is", "not"))]
    if camera:
        words.append(Decision.subject.startswith(f"{camera}@", autoescape=True))
    about = session.scalars(delete(Decision).where(*words).returning(Decision.subject)).all()
    exempt.of_tracks(session, set(about))
    return rows | {"decisions": len(about)}


def _faces(session: Session, site: str, camera: str) -> dict[str, int]:
    """Pictures and vectors of faces."""
    rows = {}
    for name, table in (("faces", FaceRow), ("evidence", EvidenceRow)):
        where = (*_at(table, site, camera), table.picture != "")
        found = select(literal("pictures"), table.picture, table.site).where(*where)
        rows[name] = int(session.execute(
            insert(Removal).from_select(["kind", "name", "site"], found)).rowcount or 0)
    session.execute(delete(FaceRow).where(*_at(FaceRow, site, camera)))
    session.execute(update(EvidenceRow).where(*_at(EvidenceRow, site, camera)).values(picture=""))
    session.execute(update(Sighting).where(*_at(Sighting, site, camera)).values(face="", quality=0.0))
    rows["replay_episodes"] = _replays(session, site, camera)
    if not camera:
        rows["photos"] = _photos(session, site)
    where_ = f"site == {vectors.quoted([site])[1:-1]} and at < {time.time_ns() // 1000}"
    if camera:
        where_ += f" and camera == {vectors.quoted([camera])[1:-1]}"
    session.add(Removal(kind="vectors", name=where_, site=site))
    return rows


def _replays(session: Session, site: str, camera: str) -> int:
    """Evidence pictures of replays; -> how many."""
    names: list[str] = []
    for row in session.scalars(select(ReplayEpisode).join(Replay, Replay.id == ReplayEpisode.run).where(
            *_at(Replay, site, camera)).with_for_update(of=ReplayEpisode)):
        hidden = [one["picture"] for one in row.evidence if one["picture"] and camera in ("", one["camera"])]
        if hidden:
            names += hidden
            row.evidence = [one | {"picture": ""} if one["picture"] in hidden else one for one in row.evidence]
    session.flush()
    session.add_all(Removal(kind="pictures", name=name, site=site) for name in names)
    for run in session.scalars(select(Replay).where(Replay.state == "running", *_at(Replay, site, camera))
                               .with_for_update()):
        run.cancel, run.error = True, "less is kept of this site from now on: start it again"
    return len(names)


def _photos(session: Session, site: str) -> int:
    """Faces in photos of inspections; nobody gets the picture until they are unrecognisable. -> photos."""
    there = Photo.inspection.in_(select(Inspection.id).where(Inspection.site == site))
    known = exists().where(Verdict.frame == Photo.frame, Verdict.refused == "", func.jsonb_array_length(
        Verdict.faces) > 0)
    count = session.execute(update(Photo).where(there, Photo.privacy != "anonymous", known).values(hide=True)).rowcount
    session.execute(update(Photo).where(there, Photo.privacy != "anonymous").values(privacy="anonymous"))
    return int(count or 0)


def overdue(session: Session) -> list[tuple[str, str, Privacy]]:
    """Cameras of which more is kept than they allow: as when one was changed by the command, not by the API."""
    allowed = {(site, id_): privacy for site, id_, privacy in session.execute(
        select(CameraRow.site, CameraRow.id, CameraRow.wish["privacy"].astext))}
    named: set[Place] = set(session.execute(select(Recognised.site, Recognised.camera).distinct()))  # type: ignore[arg-type]
    found = {place for place in named if allowed.get(place, "enrolled") != "enrolled"}
    for place, privacy in allowed.items():
        if privacy == "anonymous" and session.scalar(select(FaceRow.id).where(*_at(FaceRow, *place)).limit(1)):
            found.add(place)
    return [(*place, cast("Privacy", allowed[place])) for place in sorted(found)]


def settle(settings: Settings, sessions: sessionmaker[Session]) -> dict[str, Counter[str]]:
    """Everything that has to go and has not yet; -> by site, how many pictures, vectors and photos. Raises OSError when
    a store is away: then the rest goes the next time."""
    with sessions() as session:
        places = overdue(session)
    for place in places:
        with sessions() as session, session.begin():
            erased.alone(session)
            lower(session, *place)
    done: defaultdict[str, Counter[str]] = defaultdict(Counter)
    try:
        while _removed(settings, sessions, done) or _hidden(settings, sessions, done):
            pass
    finally:
        with sessions() as session, session.begin():
            for site, counts in sorted(done.items()):
                log.info("gone, since less is kept of the site", site=site, **counts)
                audit.write(session, "", "privacy.settle", site, site=site, **counts)
    return done


def _removed(settings: Settings, sessions: sessionmaker[Session], done: dict[str, Counter[str]]) -> int:
    with sessions() as session, session.begin():
        rows: Sequence[Removal] = session.scalars(
            select(Removal).order_by(Removal.id).limit(TURN).with_for_update(skip_locked=True)).all()
        pictures.store(settings).delete([row.name for row in rows if row.kind == "pictures"])
        for row in rows:
            done[row.site][row.kind] += vectors.store(settings).delete(row.name) if row.kind == "vectors" else 1
        session.execute(delete(Removal).where(Removal.id.in_([row.id for row in rows])))
        return len(rows)


def _hidden(settings: Settings, sessions: sessionmaker[Session], done: dict[str, Counter[str]]) -> int:
    store = pictures.store(settings)
    with sessions() as session, session.begin():
        rows = session.execute(
            select(Photo, Verdict, Inspection.site).join(Inspection, Inspection.id == Photo.inspection)
            .outerjoin(Verdict, Verdict.frame == Photo.frame).where(Photo.hide).order_by(Photo.id).limit(PHOTOS)
            .with_for_update(of=Photo, skip_locked=True)).all()
        for photo, verdict, site in rows:
            jpeg = store.get(photo.picture)
            if jpeg is not None:
                try:
                    store.put(photo.picture, encode(pixelated(decode(jpeg), [
                        each["box"] for each in (verdict.faces if verdict else ())])))
                except BadPicture:
                    store.delete([photo.picture])
            photo.hide = False
            done[site]["photos"] += 1
        return len(rows)
