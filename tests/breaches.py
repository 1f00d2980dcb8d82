"""Episodes by hand, and how they become rows."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from api import materialiser
from api.folds import Context, Told
from pipeline.messages import Episode, Evidence
from pipeline.settings import Settings

S = 1_000_000


def evidence(camera: str, at: int, picture: bytes = b"jpeg") -> Evidence:
    return Evidence(f"{camera}@{at}#0", camera, at, (1.0, 2.0, 30.0, 40.0), "none", 0.9, b"%s %d" % (picture, at))


def episode(start: int, *cameras: str, site: str = "hall", seconds: float = 5, status: str = "open", **more: Any
            ) -> Episode:
    cameras = cameras or ("gate",)
    person = more.pop("person", f"{cameras[0]}@{start}#0")
    end = start + round(seconds * S)
    values = {"place": (3.0, 4.0), "score": 0.9, "looks": 7,
              "evidence": tuple(evidence(camera, start + i) for i, camera in enumerate(cameras))} | more
    return Episode(f"{person}!{start}", site, person, "none", status, start, end, end, cameras, **values)  # type: ignore[arg-type]


def fold(sessions: sessionmaker[Session], settings: Settings, *messages: Episode, at: int | None = None) -> None:
    """As the materialiser does it."""
    at = time.time_ns() // 1000 if at is None else at
    context = Context(settings)
    with sessions() as session, session.begin():
        told = [Told(each.site, each, "episodes", 0, i, at) for i, each in enumerate(messages)]
        assert materialiser.fold(session, context, "episodes", told) == []
    context.done()
