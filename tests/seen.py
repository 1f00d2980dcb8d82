"""What cameras saw, folded into the tables without a broker, and everything that is in them then."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import scenes
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import materialiser
from api.db import Base
from api.folds import Context, Told
from api.tables import FOLDS
from pipeline.flow import Flow, Record
from pipeline.messages import Frame
from pipeline.settings import Settings

S = 1_000_000
TOPICS = ("faces", "faces.embedded", "trajectories", "episodes")


def walks(start: int, site: str = "hall", door: str = "door", inside: str = "inside") -> list[Record]:
    """Person 1 goes past the door and then inside, person 2 past the door, all of them without a mask."""
    told: dict[str, Any] = {"start": start, "site": site, "privacy": "enrolled"}
    frames = [*scenes.walk(door, 0, 4, 1, lambda t: "none", place=(0.0, 0.0), **told),
              *scenes.walk(inside, 40, 4, 1, lambda t: "none", place=(15.0, 0.0), **told),
              *scenes.walk(door, 60, 4, 2, lambda t: "none", place=(0.0, 0.0), **told)]
    ends = [Frame(camera, start + 90 * S, site=site, ended=True) for camera in (door, inside)]
    frames = sorted(frames, key=lambda f: (f.at, f.camera)) + ends
    return [r for r in Flow(Settings(), scenes.Models()).run(frames, fill_known=True) if r.topic in TOPICS]


def fold(sessions: sessionmaker[Session], settings: Settings, records: Iterable[Record], at: int | None = None,
         only: Collection[str] = TOPICS) -> None:
    """As the materialiser does it. `at`: when the records were written, µs."""
    context, at = Context(settings), time.time_ns() // 1000 if at is None else at
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for record in records:
        told[record.topic].append(Told(record.key, record.message, record.topic, 0, len(told[record.topic]), at))
    for topic in only:
        with sessions() as session, session.begin():
            assert materialiser.fold(session, context, topic, told[topic]) == []
        context.done()


def clear(sessions: sessionmaker[Session], settings: Settings, *names: str) -> None:
    """As a rebuild begins."""
    context = Context(settings)
    for fold_ in FOLDS:
        if fold_.name in names:
            with sessions() as session, session.begin():
                fold_.clear(session, context, 0)
            context.done()


def rows(sessions: sessionmaker[Session], *but: str) -> dict[str, list[str]]:
    """Every row of every table besides these, as text."""
    with sessions() as session:
        return {table.name: sorted(str(tuple(row)) for row in session.execute(select(table)))
                for table in Base.metadata.sorted_tables if table.name not in but}
