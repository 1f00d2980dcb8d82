"""What is older than its time goes: rows, pictures and vectors, by site and kind. Topics expire by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from api import alerts, idempotency, pictures, privacy, throttle, vectors
from api.db import micros, now
from api.tables import audit, erased, replays, subjects
from api.tables.alerts import Alert
from api.tables.audit import Audit
from api.tables.chat import ChatRow, Presence
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeReview, EpisodeRow, EpisodeStep, EvidenceRow
from api.tables.inspections import Inspection, Photo, Verdict
from api.tables.people import Portrait
from api.tables.recognised import Recognised
from api.tables.replays import Replay, ReplayEpisode
from api.tables.requests import Request
from api.tables.retention import wishes
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import TrajectoryRow
from api.tables.users import Grant, KnownAddress, Login, SignOn, Throttle
from pipeline.settings import Settings

log = structlog.get_logger()
LOCK = 7_041_004  # advisory: one process at a time
MINUTE, EVERY, DAILY = 60.0, 3600.0, 86_400.0  # seconds
DAY = 86_400_000_000  # µs
TURN = 500  # rows of one transaction
SAFE = timedelta(days=1)  # after which nobody is about to name what nothing names


@dataclass(frozen=True)
class Swept:
    """What went, or would go, of one kind at one site."""

    kind: str
    site: str  # empty: every site that says nothing itself
    before: int  # what is older, µs UTC
    rows: int
    fault: str = ""  # why the rest has not gone; it is tried again the next time


@dataclass(frozen=True)
class Cut:
    """Where the knife is."""

    site: str
    others: tuple[str, ...]  # sites that have a word of their own
    before: int  # µs UTC

    def of(self, site: InstrumentedAttribute[str], at: Any) -> tuple[ColumnElement[bool], ...]:
        """As a condition on rows."""
        return (site == self.site if self.site else site.notin_(self.others)), at < self.before

    @property
    def filter(self) -> str:
        """The same for vectors."""
        if self.site:
            return f"site == {vectors.quoted([self.site])[1:-1]} and at < {self.before}"
        away = f"site not in {vectors.quoted(self.others)} and " if self.others else ""
        return f"{away}at < {self.before}"


def cuts(session: Session, at: int) -> Iterator[tuple[str, Cut]]:
    """Kind and cut, for each site that has a word of its own and for all others. `at`: now, µs."""
    for kind, sites in wishes(session).items():
        own = tuple(sorted(site for site in sites if site))
        for site, days in sorted(sites.items()):
            yield kind, Cut(site, () if site else own, at - days * DAY)


def sweep(settings: Settings, sessions: sessionmaker[Session], dry: bool = False, at: int | None = None
          ) -> list[Swept]:
    """`dry`: only count. A kind that fails does not keep the others; broken off, the rest goes the next time."""
    at = time.time_ns() // 1000 if at is None else at
    with sessions() as session:
        wanted = list(cuts(session, at))
    done = []
    for kind, cut in wanted:
        rows, fault = 0, ""
        try:
            for batch in _vectors(settings, cut, dry) if kind == "vectors" else (
                    count for each in KINDS[kind] for count in _kind(settings, sessions, each, cut, dry)):
                rows += batch
        except Exception as error:  # whatever is wrong with one kind, the others' time is over too
            fault = f"{type(error).__name__}: {error}"[:300]
            log.error("retention", kind=kind, site=cut.site, error=fault)
        if rows or fault:
            done.append(Swept(kind, cut.site, cut.before, rows, fault))
    if not dry and any(each.rows for each in done):
        with sessions() as session, session.begin():
            for each in done:
                if each.rows:
                    audit.write(session, "", "retention.sweep", each.kind, site=each.site, rows=each.rows,
                                before=each.before)
    return done


def _vectors(settings: Settings, cut: Cut, dry: bool) -> Iterator[int]:
    store = vectors.store(settings)
    yield store.count(cut.filter) if dry else store.delete(cut.filter)


def _kind(settings: Settings, sessions: sessionmaker[Session], kind: Kind, cut: Cut, dry: bool) -> Iterator[int]:
    """Rows of each transaction."""
    where = cut.of(kind.site, kind.at)
    if kind.stamp:
        where = (where[0], kind.at < func.to_timestamp(cut.before / 1e6))
    where = (*where, *kind.only)
    if dry:
        with sessions() as session:
            yield session.scalar(select(func.count()).select_from(kind.id.class_).where(*where)) or 0
        return
    while True:
        with sessions() as session, session.begin():
            ids = session.scalars(select(kind.id).where(*where).limit(TURN)).all()
            kind.remove(settings, session, list(ids))
        yield len(ids)
        if not ids:
            return


@dataclass(frozen=True)
class Kind:
    """Rows of one table, and what goes with them."""

    id: InstrumentedAttribute[Any]
    site: InstrumentedAttribute[str]
    at: InstrumentedAttribute[Any]
    remove: Callable[[Settings, Session, list[Any]], None]
    stamp: bool = False  # `at` is a timestamp, not µs
    only: tuple[ColumnElement[bool], ...] = ()  # of the rows that are older


def _plain(id: InstrumentedAttribute[Any]) -> Callable[[Settings, Session, list[Any]], None]:
    def remove(_: Settings, session: Session, ids: list[Any]) -> None:
        session.execute(delete(id.class_).where(id.in_(ids)))

    return remove


def remove_faces(settings: Settings, session: Session, ids: list[str]) -> int:
    """Pictures first: a row whose picture is gone is found again, a picture without a row is not. -> pictures."""
    names = session.scalars(select(FaceRow.picture).where(FaceRow.id.in_(ids))).all()
    pictures.store(settings).delete(names)
    session.execute(delete(FaceRow).where(FaceRow.id.in_(ids)))
    return len(names)


def remove_episodes(settings: Settings, session: Session, ids: list[str]) -> int:
    """With their pictures, what was decided and told about them, and by whom they are found. -> pictures."""
    names = [name for name in session.scalars(select(EvidenceRow.picture).where(EvidenceRow.episode.in_(ids))) if name]
    pictures.store(settings).delete(names)
    session.execute(delete(EvidenceRow).where(EvidenceRow.episode.in_(ids)))
    session.execute(delete(EpisodeReview).where(EpisodeReview.id.in_(ids)))
    session.execute(delete(EpisodeStep).where(EpisodeStep.episode.in_(ids)))
    session.execute(delete(Delivery).where(Delivery.alert.in_(ids)))
    session.execute(delete(Alert).where(Alert.id.in_(ids)))
    subjects.forget(session, ids)
    session.execute(delete(EpisodeRow).where(EpisodeRow.id.in_(ids)))
    return len(names)


def _recognised(settings: Settings, session: Session, ids: list[str]) -> None:
    """With what was told of it. Whom a rule has spared stays spared; by whom an episode is found is kept with it."""
    subjects.keep_people(session, ids)
    alerts.forget(session, Recognised.id.in_(ids))
    session.execute(delete(Recognised).where(Recognised.id.in_(ids)))


def _trajectories(settings: Settings, session: Session, ids: list[str]) -> None:
    """By which tracks an episode is found is kept with it."""
    subjects.keep_routes(session, ids)
    session.execute(delete(TrajectoryRow).where(TrajectoryRow.id.in_(ids)))


def _alerts(settings: Settings, session: Session, ids: list[str]) -> None:
    session.execute(delete(Delivery).where(Delivery.alert.in_(ids)))
    session.execute(delete(Alert).where(Alert.id.in_(ids)))


def _inspections(settings: Settings, session: Session, ids: list[str]) -> None:
    store = pictures.store(settings)
    for id_ in ids:
        store.delete(list(store.names(f"inspections/{id_}")))
    frames = select(Photo.frame).where(Photo.inspection.in_(ids))
    session.execute(delete(Verdict).where(Verdict.frame.in_(frames)))
    session.execute(delete(Inspection).where(Inspection.id.in_(ids)))


def _chat(settings: Settings, session: Session, ids: list[str]) -> None:
    """A picture that another message shows stays: the same one sent twice has one name. One that was put there just
    now may be about to be sent again: `orphans` has it the next day."""
    found = {name for those in session.scalars(select(ChatRow.pictures).where(ChatRow.id.in_(ids))) for name in those}
    others = session.scalars(select(ChatRow.pictures).where(ChatRow.pictures.overlap(sorted(found)),
                                                            ChatRow.id.notin_(ids))).all() if found else []
    found -= {name for those in others for name in those}
    store, long_ago = pictures.store(settings), now() - SAFE
    store.delete([name for name in sorted(found) if (at := store.written(name)) is not None and at < long_ago])
    session.execute(delete(ChatRow).where(ChatRow.id.in_(ids)))


# An alert goes with what it is about; of a camera, when the outage is over.
OVER = or_(
    and_(Alert.kind == "camera", Alert.ended.is_not(None)),
    and_(Alert.kind == "episode", ~exists().where(EpisodeRow.id == Alert.id)),
    and_(Alert.kind == "person", ~exists().where(alerts.WATCHED + Recognised.id == Alert.id)))
KINDS: dict[str, tuple[Kind, ...]] = {
    "pictures": (Kind(FaceRow.id, FaceRow.site, FaceRow.at, remove_faces),),  # type: ignore[arg-type]
    "sightings": (Kind(Sighting.id, Sighting.site, Sighting.end, _plain(Sighting.id)),),
    "recognised": (Kind(Recognised.id, Recognised.site, Recognised.at, _recognised),),
    "trajectories": (Kind(TrajectoryRow.id, TrajectoryRow.site, TrajectoryRow.at, _trajectories),),
    "episodes": (Kind(EpisodeRow.id, EpisodeRow.site, EpisodeRow.end, remove_episodes),),  # type: ignore[arg-type]
    "alerts": (
        Kind(Alert.id, Alert.site, Alert.start, _alerts, only=(OVER,)),
        Kind(Delivery.id, Delivery.site, Delivery.made, _plain(Delivery.id), True,  # tests, and those of gone alerts
             (Delivery.state != "waiting", ~exists().where(Alert.id == Delivery.alert)))),
    "replays": (Kind(Replay.id, Replay.site, Replay.until, replays.remove),),  # type: ignore[arg-type]
    "inspections": (Kind(Inspection.id, Inspection.site, Inspection.started, _inspections),),
    "chat": (Kind(ChatRow.id, ChatRow.site, ChatRow.at, _chat),),
    "requests": (Kind(Request.id, Request.site, Request.created, _plain(Request.id), True, (
        Request.state != "open", ~exists().where(
            Grant.id == Request.grant, or_(Grant.until.is_(None), Grant.until > func.now())))),),
    "audit": (Kind(Audit.id, Audit.site, Audit.at, _plain(Audit.id), True),),
}  # fmt: skip


# -- what nobody has a wish about ------------------------------------------------------------------------------------


def tidy(settings: Settings, sessions: sessionmaker[Session]) -> dict[str, str]:
    """What has ended by itself: answers kept to repeat a request, failed logins, logins, sign-ons that came to nothing,
    open sockets of processes that are gone, verdicts of photos that are gone. -> what failed, and why."""
    at = now()
    ended: dict[str, Callable[[Session], Any]] = {
        "answers": idempotency.purge,
        "throttles": lambda s: s.execute(delete(Throttle).where(Throttle.at < at - throttle.FORGET)),
        "known addresses": lambda s: s.execute(delete(KnownAddress).where(KnownAddress.at < at - throttle.KNOWN)),
        "logins": lambda s: s.execute(delete(Login).where(or_(Login.expires < at, and_(
            Login.kind == "session", Login.used < at - timedelta(hours=settings.session_idle))))),
        "sign-ons": lambda s: s.execute(delete(SignOn).where(SignOn.at < at - SAFE)),
        "presence": lambda s: s.execute(delete(Presence).where(Presence.seen < at - SAFE)),
        "verdicts": lambda s: s.execute(delete(Verdict).where(
            Verdict.told < micros(at - SAFE), ~exists().where(Photo.frame == Verdict.frame))),
    }
    failed = {}
    for name, work in ended.items():
        try:
            with sessions() as session, session.begin():
                work(session)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:300]
            log.error("retention", kind=name, error=failed[name])
    return failed


# -- pictures that no row names --------------------------------------------------------------------------------------
# A picture is put there before the transaction that names it, so a process that is killed in between leaves one; and
# whoever puts one into the chat may never send it.


def orphans(settings: Settings, sessions: sessionmaker[Session], dry: bool = False) -> int:
    """Removes those that are older than SAFE; -> how many went, or would go."""
    store, done = pictures.store(settings), 0
    for folder, named in FOLDERS.items():
        for prefix in store.folders(folder) if folder in DEEP else [folder]:
            with sessions() as session:
                known = named(session, prefix)
            if known is None:
                continue
            long_ago = now() - SAFE
            lost = [name for name, at in store.listed(prefix) if at < long_ago and name not in known]
            for begin in range(0, len(lost), TURN):
                done += len(lost[begin:begin + TURN]) if dry else _lost(
                    settings, sessions, prefix, named, lost[begin:begin + TURN])
    if done and not dry:
        with sessions() as session, session.begin():
            audit.write(session, "", "retention.orphans", pictures=done)
    return done


def _lost(settings: Settings, sessions: sessionmaker[Session], prefix: str, named: Named, names: list[str]) -> int:
    with sessions() as session, session.begin():
        erased.alone(session, 5)  # no fold is between a picture and its row
        known = named(session, prefix)
        gone = set() if known is None else set(names) - known
        pictures.store(settings).delete(sorted(gone))
        return len(gone)


def _of_day(session: Session, prefix: str) -> set[str]:
    """faces/gate/2026-11-23: of a camera and a day, UTC."""
    _, camera, day = prefix.split("/")
    start = micros(datetime.fromisoformat(day).replace(tzinfo=UTC))
    return set(session.scalars(select(FaceRow.picture).where(
        FaceRow.camera == camera, FaceRow.at >= start, FaceRow.at < start + DAY)))


def _of_run(session: Session, prefix: str) -> set[str] | None:
    """replays/…: all of a run that is over."""
    run = session.get(Replay, prefix.split("/")[1])
    if run is not None and run.state not in replays.OVER:
        return None
    rows = session.scalars(select(ReplayEpisode.evidence).where(ReplayEpisode.run == prefix.split("/")[1]))
    return {one["picture"] for evidence in rows for one in evidence}


def _of_inspection(session: Session, prefix: str) -> set[str]:
    return {photo.picture for photo in session.scalars(select(Photo).where(Photo.inspection == prefix.split("/")[1]))}


Named = Callable[[Session, str], "set[str] | None"]  # folder -> pictures that rows name; None: not to be told yet
FOLDERS: dict[str, Named] = {
    "faces": _of_day,
    "evidence": lambda session, _: set(session.scalars(select(EvidenceRow.picture))),
    "people": lambda session, _: set(session.scalars(select(Portrait.picture))),
    "chat": lambda session, _: set(session.scalars(select(func.unnest(ChatRow.pictures)))),
    "inspections": _of_inspection,
    "replays": _of_run,
}
DEEP = {"faces", "inspections", "replays"}  # asked for by the folders in them


class Job:
    """`Job(settings, sessions).start(stop)`: sweeps every hour in a thread, as long as nobody else does. Every minute
    what has to go from the stores at once, as of sites that keep less from now on; once a day orphans."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self.settings, self.sessions = settings, sessions
        self.next = self.orphans = 0.0  # monotonic; when to sweep again

    def start(self, stop: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(stop,), name="retention", daemon=True)
        thread.start()
        return thread

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(MINUTE):  # a start has other things to do
            try:
                privacy.settle(self.settings, self.sessions)
                if time.monotonic() >= self.next:
                    self.next = time.monotonic() + EVERY
                    self.turn()
            except Exception as error:  # nothing may end this thread: what is kept too long would be noticed by nobody
                log.error("retention", error=f"{type(error).__name__}: {error}"[:300], exc_info=error)

    def turn(self) -> list[Swept]:
        with self.sessions() as session, session.begin():
            if not session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
                return []
            began = now()
            done = sweep(self.settings, self.sessions)
            tidy(self.settings, self.sessions)
            if time.monotonic() >= self.orphans:
                lost = orphans(self.settings, self.sessions)
                self.orphans = time.monotonic() + DAILY
                if lost:
                    log.info("pictures that nothing named are gone", pictures=lost)
        for each in done:
            log.info("expired", kind=each.kind, site=each.site, rows=each.rows)
        log.debug("retention", seconds=(now() - began).total_seconds())
        return done
