"""Replays: stretches of the log run through the flow again, each with its episodes, totals and evidence pictures.

Nothing here is folded from a topic: a worker (api/replays.py) writes a run's results in one transaction when it is
through, and they go with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, ForeignKey, Index, String, Text, delete, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import pictures
from api.db import Base, MadeId, Micros, Stamp
from api.permissions import Scope
from pipeline.settings import Settings

FOLDER = "replays"  # in the picture store; a folder below for each run
OVER = ("done", "failed", "cancelled")


class Replay(Base):
    """One run: what was asked for, how far it is, and what came of it."""

    __tablename__ = "replays"

    id: Mapped[MadeId]
    name: Mapped[str] = mapped_column(String(120))
    site: Mapped[str] = mapped_column(String(64), index=True)
    cameras: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # sorted
    since: Mapped[Micros]
    until: Mapped[Micros]
    policy: Mapped[str] = mapped_column(String(80), default="")  # version that judges; empty: each frame's own
    draft: Mapped[bool] = mapped_column(default=False)  # rules that are no version (yet)
    written: Mapped[dict[str, Any] | None]  # pipeline.policy.Written of either, with the zones of the cameras
    settings: Mapped[dict[str, Any]]  # those that differ from the ones in force
    models: Mapped[dict[str, Any]]  # model -> which of its weights, where it is not the one in force
    by: Mapped[str] = mapped_column(String(36))
    made: Mapped[Stamp]

    state: Mapped[str] = mapped_column(String(10), default="waiting")  # waiting, running, done, failed, cancelled
    cancel: Mapped[bool] = mapped_column(default=False)  # somebody wants it to stop
    attempt: Mapped[int] = mapped_column(default=0)  # rises with every claim: only the newest may write
    deaths: Mapped[int] = mapped_column(default=0)  # workers that went silent over it
    beat: Mapped[datetime | None]  # last sign of life of the worker that runs it
    started: Mapped[datetime | None]  # of the newest attempt
    ended: Mapped[datetime | None]
    done: Mapped[int] = mapped_column(BigInteger, default=0)  # records of the log read
    total: Mapped[int] = mapped_column(BigInteger, default=0)  # to be read
    frames: Mapped[int] = mapped_column(default=0)  # of the stretch and its cameras, run through the flow
    reached: Mapped[Micros | None]  # time of the newest of them
    log_begins: Mapped[Micros | None]  # the log no longer holds what is older; null: it held the whole stretch
    error: Mapped[str] = mapped_column(Text, default="")  # why it failed or was cancelled
    totals: Mapped[dict[str, Any] | None]  # api.replays.Totals
    used: Mapped[dict[str, Any] | None]  # model -> first digits of its SHA-256

    __table_args__ = (Index("ix_replays_made_id", "made", "id"), Index("ix_replays_state_made", "state", "made"))


class ReplayEpisode(Base):
    """One breach that a run found."""

    __tablename__ = "replay_episodes"

    run: Mapped[str] = mapped_column(ForeignKey("replays.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    person: Mapped[str] = mapped_column(String(200), index=True)
    tracks: Mapped[list[str]] = mapped_column(ARRAY(String(200)))  # of the person's route in this run
    state: Mapped[str] = mapped_column(String(12))  # none, incorrect
    status: Mapped[str] = mapped_column(String(8))  # open, closed
    start: Mapped[Micros]
    end: Mapped[Micros]
    cameras: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # in order of time
    score: Mapped[float]
    looks: Mapped[int]
    reason: Mapped[str] = mapped_column(String(20))
    zone: Mapped[str] = mapped_column(String(200))
    policy: Mapped[str] = mapped_column(String(200))
    rule: Mapped[str] = mapped_column(String(200))
    roles: Mapped[list[str]] = mapped_column(ARRAY(String(120)), default=list, server_default="{}")  # for whom it is
    evidence: Mapped[list[Any]]  # {face, camera, at, box, look, look_score, picture}, the best first

    __table_args__ = (Index("ix_replay_episodes_run_start", "run", "start", "id"),
                      Index("ix_replay_episodes_cameras", "cameras", postgresql_using="gin"))


def visible(scope: Scope) -> ColumnElement[bool]:
    """Runs all of whose cameras the scope holds."""
    return scope.shows_all(Replay.site, Replay.cameras)


def covers(scope: Scope, site: str, cameras: Sequence[str]) -> bool:
    """The same for what is at hand."""
    return all(scope.covers(site, camera) for camera in cameras)


def find(session: Session, id: str, scope: Scope, lock: bool = False) -> Replay | None:
    """One that the scope shows."""
    query = select(Replay).where(Replay.id == id, visible(scope))
    return session.scalar(query.with_for_update() if lock else query)


def remove(settings: Settings, session: Session, ids: Sequence[str]) -> None:
    """Runs with all that came of them. Pictures first: a row whose picture is gone is found again."""
    store = pictures.store(settings)
    for id_ in ids:
        store.delete(list(store.names(f"{FOLDER}/{id_}")))
    session.execute(delete(Replay).where(Replay.id.in_(ids)))
