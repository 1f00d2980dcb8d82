"""Trajectories: a person's route over the cameras of a site, and each stretch of it by itself. From `trajectories`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Boolean, ForeignKey, Index, String, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Id, Micros
from api.folds import Context, Told
from api.tables.sites import Site
from pipeline.messages import STATES, Trajectory


class TrajectoryRow(Base):
    """A route as its newest message tells it."""

    __tablename__ = "trajectories"

    id: Mapped[Id]  # of the person: the id of their first track
    site: Mapped[str] = mapped_column(String(64))
    start: Mapped[Micros]  # first look, µs UTC
    at: Mapped[Micros]  # newest look, µs UTC
    closed: Mapped[bool] = mapped_column(Boolean)  # not expected to be seen again
    cameras: Mapped[int]  # different ones
    metres: Mapped[float]  # between the cameras it was seen in, as far as their places are known
    state: Mapped[str] = mapped_column(String(9))  # of the newest leg
    worn: Mapped[Micros]  # µs, over all legs
    incorrect: Mapped[Micros]
    none: Mapped[Micros]
    unknown: Mapped[Micros]
    gaps: Mapped[list[Any]]  # Gap as in the message: between leg i and leg i + 1
    recorded: Mapped[Micros]  # time of the record it came in, µs UTC

    __table_args__ = (Index("ix_trajectories_at", "at", "id"), Index("ix_trajectories_site_at", "site", "at"))


class LegRow(Base):
    """A stretch of a route that a camera saw: asked for by camera and time."""

    __tablename__ = "trajectory_legs"

    trajectory: Mapped[str] = mapped_column(ForeignKey("trajectories.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # from 0, in order of time
    site: Mapped[str] = mapped_column(String(64))
    camera: Mapped[str] = mapped_column(String(64))
    track: Mapped[str] = mapped_column(String(200), index=True)
    start: Mapped[Micros]
    end: Mapped[Micros]
    east: Mapped[float | None]  # of the camera, metres on the site plan
    north: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(9))  # at `end`
    worn: Mapped[Micros]  # µs
    incorrect: Mapped[Micros]
    none: Mapped[Micros]
    unknown: Mapped[Micros]
    face: Mapped[str] = mapped_column(String(200))  # the best one of the track; empty: none

    __table_args__ = (Index("ix_trajectory_legs_camera_end", "camera", "end"),
                      Index("ix_trajectory_legs_camera_start", "camera", "start"))


class Trajectories:
    """`trajectories` -> trajectories, trajectory_legs: the greater `at` wins, of two alike the closed one."""

    name, topic = "trajectories", "trajectories"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        from api import exempt

        exempt.hold(session, session.scalars(select(Site.id).where(
            Site.id.in_({told.message.site for told in messages}), Site.privacy == "enrolled")))
        newest: dict[str, Told] = {}
        for told in messages:
            message: Trajectory = told.message
            known = newest.get(message.id)
            if known is None or (message.at, message.closed) >= (known.message.at, known.message.closed):
                newest[message.id] = told
        ids = sorted(newest)
        for begin in range(0, len(ids), 500):
            rows = [_row(newest[id]) for id in ids[begin:begin + 500]]
            put = insert(TrajectoryRow).values(rows)
            newer = or_(put.excluded.at > TrajectoryRow.at,
                        (put.excluded.at == TrajectoryRow.at) & (put.excluded.closed >= TrajectoryRow.closed))
            written = set(session.scalars(put.on_conflict_do_update(
                index_elements=["id"], set_={key: put.excluded[key] for key in rows[0] if key != "id"}, where=newer,
            ).returning(TrajectoryRow.id)))
            session.execute(delete(LegRow).where(LegRow.trajectory.in_(written)))
            legs = [leg for row in rows if row["id"] in written for leg in _legs(newest[row["id"]].message)]
            for first in range(0, len(legs), 500):
                session.execute(insert(LegRow).values(legs[first:first + 500]))
            exempt.of_people(session, written)

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(TrajectoryRow).where(TrajectoryRow.recorded >= since))


def _row(told: Told) -> dict[str, Any]:
    message: Trajectory = told.message
    legs = message.legs
    return {
        "id": message.id, "site": message.site, "start": message.start, "at": message.at, "closed": message.closed,
        "cameras": len({leg.camera for leg in legs}),
        "metres": round(sum(gap.metres or 0.0 for gap in message.gaps), 1),
        "state": legs[-1].state if legs else "unknown",
        **{name: sum(_micros(leg.seconds, name) for leg in legs) for name in STATES},
        "gaps": msgspec.to_builtins(message.gaps), "recorded": told.at,
    }  # fmt: skip


def _legs(message: Trajectory) -> list[dict[str, Any]]:
    return [{
        "trajectory": message.id, "number": number, "site": message.site, "camera": leg.camera, "track": leg.track,
        "start": leg.start, "end": leg.end, "east": leg.place[0] if leg.place else None,
        "north": leg.place[1] if leg.place else None, "state": leg.state,
        **{name: _micros(leg.seconds, name) for name in STATES}, "face": leg.face,
    } for number, leg in enumerate(message.legs)]  # fmt: skip


def _micros(seconds: dict[str, float], state: str) -> int:
    return round(seconds.get(state, 0.0) * 1e6)


FOLDS = [Trajectories()]
