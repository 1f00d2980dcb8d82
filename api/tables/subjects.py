"""Whom an episode is about, kept as long as the episode is. Routes and recognitions expire sooner, and whoever asks to
be erased has to be found by what is left of them.

Written by retention just before the rows go that it is made of. It is shown to nobody; no rebuild touches it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, delete, func, or_, select, union
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Micros
from api.tables.episodes import EpisodeRow
from api.tables.recognised import Recognised
from api.tables.trajectories import LegRow


class EpisodeTrack(Base):
    """A stretch of the route of an episode's person."""

    __tablename__ = "episode_tracks"

    episode: Mapped[str] = mapped_column(String(200), primary_key=True)
    track: Mapped[str] = mapped_column(String(200), primary_key=True, index=True)
    camera: Mapped[str] = mapped_column(String(64))
    start: Mapped[Micros]
    end: Mapped[Micros]


class EpisodePerson(Base):
    """An enrolled person who was recognised on that route."""

    __tablename__ = "episode_people"

    episode: Mapped[str] = mapped_column(String(200), primary_key=True)
    track: Mapped[str] = mapped_column(String(200), primary_key=True)
    person: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)


def keep_routes(session: Session, ids: Collection[str]) -> None:
    """Of routes that are about to go: their stretches, for each of their episodes."""
    found = (select(EpisodeRow.id, LegRow.track, LegRow.camera, func.min(LegRow.start), func.max(LegRow.end))
             .join(LegRow, LegRow.trajectory == EpisodeRow.person).where(LegRow.trajectory.in_(ids))
             .group_by(EpisodeRow.id, LegRow.track, LegRow.camera))
    _keep(session, EpisodeTrack, ["episode", "track", "camera", "start", "end"], found)


def keep_people(session: Session, ids: Collection[str]) -> None:
    """Of recognitions that are about to go: the person, for each episode of the route that the track is on."""
    told = (Recognised.id.in_(ids), Recognised.sure)
    found = union(
        select(EpisodeRow.id, Recognised.track, Recognised.person)
        .join(LegRow, LegRow.trajectory == EpisodeRow.person).join(Recognised, Recognised.track == LegRow.track)
        .where(*told),
        select(EpisodeRow.id, Recognised.track, Recognised.person)
        .join(Recognised, Recognised.track == EpisodeRow.person).where(*told),
        select(EpisodeTrack.episode, Recognised.track, Recognised.person)
        .join(Recognised, Recognised.track == EpisodeTrack.track).where(*told))
    _keep(session, EpisodePerson, ["episode", "track", "person"], found)


def _keep(session: Session, table: type[Base], columns: Sequence[str], found: Any) -> None:
    session.execute(insert(table).from_select(list(columns), found).on_conflict_do_nothing())


def forget(session: Session, episodes: Collection[str] = (), tracks: Collection[str] = (),
           people: ColumnElement[bool] | None = None) -> None:
    """What is known of these episodes and tracks; and `people`: of whom this condition on `episode_people` finds."""
    session.execute(delete(EpisodeTrack).where(or_(EpisodeTrack.episode.in_(episodes), EpisodeTrack.track.in_(tracks))))
    gone = or_(EpisodePerson.episode.in_(episodes), EpisodePerson.track.in_(tracks))
    session.execute(delete(EpisodePerson).where(gone if people is None else or_(gone, people)))
