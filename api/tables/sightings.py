"""Sightings: each track of a camera from its first look to its last; its faces that have a picture. From `faces`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, ForeignKey, Index, String, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import pictures
from api.db import Base, Id, Micros
from api.folds import Context, Told
from pipeline.messages import STATES, Face, Faces

SECOND = 1_000_000  # µs
LONGEST_LOOK = 1_500_000  # µs for which a look stands at most, as on routes (pipeline/trajectory.py)


class Sighting(Base):
    """A track: somebody in front of one camera, from coming to leaving."""

    __tablename__ = "sightings"

    id: Mapped[Id]  # of the track, which is the id of its first face
    site: Mapped[str] = mapped_column(String(64))
    camera: Mapped[str] = mapped_column(String(64))
    start: Mapped[Micros]  # first look, µs UTC
    end: Mapped[Micros]  # newest look, µs UTC
    looks: Mapped[int]
    worn: Mapped[Micros]  # µs
    incorrect: Mapped[Micros]
    none: Mapped[Micros]
    unknown: Mapped[Micros]
    state: Mapped[str] = mapped_column(String(9))  # what the looks say by now, in the end: the last word
    zone: Mapped[str] = mapped_column(String(100))  # of the newest look
    open: Mapped[bool]  # may go on
    face: Mapped[str] = mapped_column(String(200))  # the best one that has a picture; empty: none has
    quality: Mapped[float]  # of that one
    privacy: Mapped[str] = mapped_column(String(12))

    __table_args__ = (
        Index("ix_sightings_start", "start", "id"), Index("ix_sightings_camera_start", "camera", "start"),
        Index("ix_sightings_site_start", "site", "start"),
        Index("ix_sightings_open", "camera", postgresql_where=text("open")),
    )  # fmt: skip


class TrackPoint(Base):
    """Where the face of a track was in the picture, once a second: from it follows where somebody walked."""

    __tablename__ = "track_points"

    track: Mapped[str] = mapped_column(ForeignKey("sightings.id", ondelete="CASCADE"), primary_key=True)
    second: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # whole ones since 1970: the first look in each
    at: Mapped[Micros]
    x: Mapped[float] = mapped_column(REAL)  # middle of the box, 0..1 of the picture
    y: Mapped[float] = mapped_column(REAL)  # its lower edge
    height: Mapped[float] = mapped_column(REAL)  # of the box

    @property
    def box(self) -> tuple[float, float, float]:
        return self.x, self.y, self.height


class FaceRow(Base):
    """A face that has a picture."""

    __tablename__ = "faces"

    id: Mapped[Id]  # of the face
    track: Mapped[str] = mapped_column(String(200), index=True)
    camera: Mapped[str] = mapped_column(String(64))
    site: Mapped[str] = mapped_column(String(64))
    at: Mapped[Micros]
    look: Mapped[str] = mapped_column(String(9))
    look_score: Mapped[float]
    state: Mapped[str] = mapped_column(String(9))  # of the track by then
    quality: Mapped[float]
    box: Mapped[list[Any]]  # pixels of the frame's picture, x0 y0 x1 y1
    zone: Mapped[str] = mapped_column(String(100))
    privacy: Mapped[str] = mapped_column(String(12))
    picture: Mapped[str] = mapped_column(String(200))  # its name in the picture store

    __table_args__ = (Index("ix_faces_at", "at"), Index("ix_faces_camera_at", "camera", "at"))


COLUMNS = ("site", "camera", "start", "end", "looks", *STATES, "state", "zone", "open", "face", "quality", "privacy")


class Sightings:
    """`faces` -> sightings, one row a track, and track_points."""

    name, topic = "sightings", "faces"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        tracks = {face.track for told in messages for face in told.message.faces if face.track}
        tracks |= {track for told in messages for track in told.message.gone}
        rows: dict[str, dict[str, Any]] = {
            row.id: {name: getattr(row, name) for name in COLUMNS}
            for row in session.scalars(select(Sighting).where(Sighting.id.in_(tracks)))
        }
        changed: set[str] = set()
        points: dict[tuple[str, int], dict[str, Any]] = {}
        ends: dict[str, int] = {}
        for told in messages:
            message: Faces = told.message
            for face in message.faces:
                if face.track and _look(rows, message, face):
                    changed.add(face.track)
                    points.setdefault((face.track, message.at // SECOND), _point(message, face))
            for track in message.gone:
                if track in rows and rows[track]["open"] and rows[track]["end"] <= message.at:
                    rows[track]["open"] = False
                    changed.add(track)
            if message.ended:
                ends[message.camera] = max(message.at, ends.get(message.camera, 0))
        _upsert(session, rows, sorted(changed))
        walked = [points[key] for key in sorted(points)]
        for begin in range(0, len(walked), 1000):
            session.execute(insert(TrackPoint).values(walked[begin:begin + 1000]).on_conflict_do_nothing())
        for camera, at in sorted(ends.items()):
            session.execute(update(Sighting).where(Sighting.camera == camera, Sighting.open, Sighting.end <= at)
                            .values(open=False))

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Tracks whose first look the topic still holds: a picture is taken before its record is written."""
        session.execute(delete(Sighting).where(Sighting.start >= since))


def _look(rows: dict[str, dict[str, Any]], message: Faces, face: Face) -> bool:
    """One more look at a track; False when it has counted before."""
    row, at = rows.get(face.track), message.at
    if row is None:
        row = rows[face.track] = {
            "site": message.site, "camera": message.camera, "start": at, "end": at, "looks": 0,
            **dict.fromkeys(STATES, 0), "face": "", "quality": 0.0,
        }  # fmt: skip
    elif at <= row["end"]:
        return False
    else:
        row[row["state"]] += min(at - row["end"], LONGEST_LOOK)
    row.update(end=at, looks=row["looks"] + 1, state=face.state, zone=face.zone, open=True,
               privacy=message.privacy)
    if face.chip and (not row["face"] or face.quality > row["quality"]):
        row.update(face=face.id, quality=face.quality)
    return True


def _point(message: Faces, face: Face) -> dict[str, Any]:
    (x0, y0, x1, y1), wide, high = face.box, max(message.width, 1), max(message.height, 1)
    return {"track": face.track, "second": message.at // SECOND, "at": message.at, "x": (x0 + x1) / 2 / wide,
            "y": y1 / high, "height": (y1 - y0) / high}


def _upsert(session: Session, rows: dict[str, dict[str, Any]], changed: list[str]) -> None:
    for begin in range(0, len(changed), 500):
        put = insert(Sighting).values([{"id": id, **rows[id]} for id in changed[begin:begin + 500]])
        session.execute(put.on_conflict_do_update(
            index_elements=["id"], set_={name: put.excluded[name] for name in COLUMNS}))


class KeptFaces:
    """`faces` -> faces, and their pictures into the store: written before the transaction ends, under names made of
    ids, so that after a crash they are written again and nothing is left over."""

    name, topic = "faces", "faces"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        found: dict[str, dict[str, Any]] = {}
        store = pictures.store(context.settings)
        for told in messages:
            message: Faces = told.message
            if message.privacy == "anonymous":
                continue
            for face in message.faces:
                if not face.chip or face.id in found:
                    continue
                name = picture_name(message, face.id)
                store.put(name, face.chip)
                found[face.id] = {
                    "id": face.id, "track": face.track, "camera": message.camera, "site": message.site,
                    "at": message.at, "look": face.look, "look_score": face.look_score, "state": face.state,
                    "quality": face.quality, "box": list(face.box), "zone": face.zone,
                    "privacy": message.privacy, "picture": name,
                }  # fmt: skip
        rows = [found[id] for id in sorted(found)]
        for begin in range(0, len(rows), 500):
            session.execute(insert(FaceRow).values(rows[begin:begin + 500]).on_conflict_do_nothing())

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Pictures stay: those that are wanted are written again under the same names."""
        session.execute(delete(FaceRow).where(FaceRow.at >= since))


def picture_name(message: Faces, face: str) -> str:
    """faces/gate/2026-11-23/….jpg: by camera and day, so that retention finds what is old without reading it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", message.camera):
        raise ValueError(f"expected letters, digits and - in the camera's id, got {message.camera[:80]!r}")
    day = datetime.fromtimestamp(message.at / 1e6, UTC).date().isoformat()
    return pictures.name(f"faces/{message.camera}/{day}", face)


FOLDS = [Sightings(), KeptFaces()]
