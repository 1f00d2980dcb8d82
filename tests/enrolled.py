"""People whom a site knows by name, put into the tables with the vector of a face that the stream has seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scenes
from sqlalchemy.orm import Session, sessionmaker

from api import vectors
from api.db import made_id
from api.tables.people import PersonRow, Portrait
from api.tables.sites import Site
from pipeline.flow import Flow, Record
from pipeline.messages import Faces, Frame, Policy, Rule
from pipeline.settings import Settings

TOPICS = ("faces", "faces.embedded", "trajectories", "episodes")


def walk(start: int, *roles: str, rule: Rule | None = None) -> list[Record]:
    """Person 1 goes past the door and then inside without a mask, at a site that spares these roles, or has `rule` and
    requires nothing else."""
    policy = Policy("hall:1", otherwise="nothing" if rule else "worn",
                    rules=(rule or Rule("ward", except_roles=roles),))
    told: dict[str, Any] = {"start": start, "site": "hall", "privacy": "enrolled", "policy": policy}
    frames = [*scenes.walk("door", 0, 3, 1, lambda t: "none", place=(0.0, 0.0), **told),
              *scenes.walk("inside", 8, 3, 1, lambda t: "none", place=(15.0, 0.0), **told)]
    ends = [Frame(camera, start + 60_000_000, site="hall", ended=True) for camera in ("door", "inside")]
    frames = sorted(frames, key=lambda f: (f.at, f.camera)) + ends
    return [r for r in Flow(Settings(), scenes.Models()).run(frames, fill_known=True) if r.topic in TOPICS]


def enrol(sessions: sessionmaker[Session], records: Iterable[Record], roles: Iterable[str] = ()) -> str:
    """Whoever the first embedded face is; -> their id."""
    message, face = next((r.message, face) for r in records if r.topic == "faces.embedded"
                         for face in r.message.faces if face.embedding)
    assert isinstance(message, Faces)
    with sessions() as session, session.begin():
        if session.get(Site, "hall") is None:
            session.add(Site(id="hall", name="Hall", time_zone="UTC", privacy="enrolled"))
        person = PersonRow(id=made_id(), site="hall", name="Ada", roles=list(roles))
        session.add(person)
        session.flush()
        session.add(Portrait(
            person=person.id, space=vectors.space(message.models, len(face.embedding)), masked=False, quality=1.0,
            vector=np.array(face.embedding, np.float32).tobytes(), models=message.models, picture="portraits/none.jpg"))
        return person.id
