"""What is older than its time goes: rows, pictures and vectors, by site and kind. Topics expire by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from api import alerts, pictures, vectors
from api.db import now
from api.tables import audit, replays
from api.tables.alerts import Alert
from api.tables.audit import Audit
from api.tables.chat import ChatRow
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeReview, EpisodeRow, EpisodeStep, EvidenceRow
from api.tables.inspections import Inspection, Photo, Verdict
from api.tables.recognised import Recognised
from api.tables.replays import Replay
from api.tables.retention import wishes
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import TrajectoryRow
from pipeline.settings import Settings

log = structlog.get_logger()
LOCK = 7_041_004  # advisory: one process at a time
EVERY = 3600.0  # seconds
DAY = 86_400_000_000  # µs
TURN = 500  # rows of one transaction


@dataclass(frozen=True)
class Swept:
    """What went, or would go, of one kind at one site."""

    kind: str
    site: str  # empty: every site that says nothing itself
    before: int  # what is older, µs UTC
    rows: int


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
    """`dry`: only count. Broken off, the rest goes the next time."""
    at = time.time_ns() // 1000 if at is None else at
    with sessions() as session:
        wanted = list(cuts(session, at))
    done = []
    for kind, cut in wanted:
        if kind == "vectors":
            store = vectors.store(settings)
            rows = store.count(cut.filter) if dry else store.delete(cut.filter)
        else:
            rows = _kind(settings, sessions, KINDS[kind], cut, dry)
        if rows:
            done.append(Swept(kind, cut.site, cut.before, rows))
    if done and not dry:
        with sessions() as session, session.begin():
            for each in done:
                audit.write(session, "", "retention.sweep", each.kind, site=each.site, rows=each.rows,
                            before=each.before)
    return done


def _kind(settings: Settings, sessions: sessionmaker[Session], kind: Kind, cut: Cut, dry: bool) -> int:
    where = cut.of(kind.site, kind.at)
    if kind.stamp:
        where = (where[0], kind.at < func.to_timestamp(cut.before / 1e6))
    if dry:
        with sessions() as session:
            return session.scalar(select(func.count()).select_from(kind.id.class_).where(*where)) or 0
    rows = 0
    while True:
        with sessions() as session, session.begin():
            ids = session.scalars(select(kind.id).where(*where).limit(TURN)).all()
            if not ids:
                return rows
            kind.remove(settings, session, list(ids))
            rows += len(ids)


@dataclass(frozen=True)
class Kind:
    """Rows of one table, and what goes with them."""

    id: InstrumentedAttribute[Any]
    site: InstrumentedAttribute[str]
    at: InstrumentedAttribute[Any]
    remove: Callable[[Settings, Session, list[Any]], None]
    stamp: bool = False  # `at` is a timestamp, not µs


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
    """With their pictures, what was decided about them, and what was told of them. -> pictures."""
    names = [name for name in session.scalars(select(EvidenceRow.picture).where(EvidenceRow.episode.in_(ids))) if name]
    pictures.store(settings).delete(names)
    session.execute(delete(EvidenceRow).where(EvidenceRow.episode.in_(ids)))
    session.execute(delete(EpisodeReview).where(EpisodeReview.id.in_(ids)))
    session.execute(delete(EpisodeStep).where(EpisodeStep.episode.in_(ids)))
    session.execute(delete(Delivery).where(Delivery.alert.in_(ids)))
    session.execute(delete(Alert).where(Alert.id.in_(ids)))
    session.execute(delete(EpisodeRow).where(EpisodeRow.id.in_(ids)))
    return len(names)


def _recognised(settings: Settings, session: Session, ids: list[str]) -> None:
    """With what was told of it; whom a rule has spared stays spared."""
    alerts.forget(session, Recognised.id.in_(ids))
    session.execute(delete(Recognised).where(Recognised.id.in_(ids)))


def _inspections(settings: Settings, session: Session, ids: list[str]) -> None:
    store = pictures.store(settings)
    for id_ in ids:
        store.delete(list(store.names(f"inspections/{id_}")))
    frames = select(Photo.frame).where(Photo.inspection.in_(ids))
    session.execute(delete(Verdict).where(Verdict.frame.in_(frames)))
    session.execute(delete(Inspection).where(Inspection.id.in_(ids)))


def _chat(settings: Settings, session: Session, ids: list[str]) -> None:
    found = session.scalars(select(ChatRow.pictures).where(ChatRow.id.in_(ids)))
    pictures.store(settings).delete({name for those in found for name in those})
    session.execute(delete(ChatRow).where(ChatRow.id.in_(ids)))


KINDS: dict[str, Kind] = {
    "pictures": Kind(FaceRow.id, FaceRow.site, FaceRow.at, remove_faces),  # type: ignore[arg-type]
    "sightings": Kind(Sighting.id, Sighting.site, Sighting.end, _plain(Sighting.id)),
    "recognised": Kind(Recognised.id, Recognised.site, Recognised.at, _recognised),
    "trajectories": Kind(TrajectoryRow.id, TrajectoryRow.site, TrajectoryRow.at, _plain(TrajectoryRow.id)),
    "episodes": Kind(EpisodeRow.id, EpisodeRow.site, EpisodeRow.end, remove_episodes),  # type: ignore[arg-type]
    "replays": Kind(Replay.id, Replay.site, Replay.until, replays.remove),  # type: ignore[arg-type]
    "inspections": Kind(Inspection.id, Inspection.site, Inspection.started, _inspections),
    "chat": Kind(ChatRow.id, ChatRow.site, ChatRow.at, _chat),
    "audit": Kind(Audit.id, Audit.site, Audit.at, _plain(Audit.id), stamp=True),
}


class Job:
    """`Job(settings, sessions).start(stop)`: sweeps every hour in a thread, as long as nobody else does."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self.settings, self.sessions = settings, sessions

    def start(self, stop: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(stop,), name="retention", daemon=True)
        thread.start()
        return thread

    def _run(self, stop: threading.Event) -> None:
        wait = 60.0  # a start has other things to do
        while not stop.wait(wait):
            wait = EVERY
            try:
                self.turn()
            except (OSError, SQLAlchemyError) as error:
                log.error("retention", error=f"{type(error).__name__}: {error}"[:300])
                wait = 60.0

    def turn(self) -> list[Swept]:
        with self.sessions() as session, session.begin():
            if not session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
                return []
            began = now()
            done = sweep(self.settings, self.sessions)
        for each in done:
            log.info("expired", kind=each.kind, site=each.site, rows=each.rows)
        log.debug("retention", seconds=(now() - began).total_seconds())
        return done
