"""Rounds made with a phone: what the phone told, folded with what the mask stage saw in its photos.

Ids are the phone's (UUIDs), so that whatever is uploaded twice counts once. Times are kept twice: as the phone's clock
told them, and corrected by how far that clock was off when it spoke to us.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import cv2
from sqlalchemy import BigInteger, Float, ForeignKey, Index, String, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import live, pictures
from api.db import Base, MadeId, Micros, Stamp
from api.folds import Context, Told
from pipeline.messages import STATES, BadMessage, Box, DeadLetter, Faces, Frame, decode
from pipeline.pictures import Image
from pipeline.pictures import decode as decoded
from pipeline.pictures import encode as encoded
from pipeline.policy import ALWAYS

OPEN = ("early", "running", "paused")  # early: something of it came before its start did
OVER = ("finished", "abandoned")
FRESH = 3600  # seconds; a verdict older than that is no news when it is folded (again)


class Round(Base):
    """A planned route: what has to be walked, and when."""

    __tablename__ = "rounds"

    id: Mapped[MadeId]
    site: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(120))
    about: Mapped[str] = mapped_column(String(2000), default="")
    active: Mapped[bool] = mapped_column(default=True)
    ordered: Mapped[bool] = mapped_column(default=False)  # its checkpoints are to be visited one after the other
    days: Mapped[list[Any]] = mapped_column(default=list)  # 0 Monday .. 6 Sunday; empty: not planned
    times: Mapped[list[Any]] = mapped_column(default=list)  # "08:00", local to `zone`
    zone: Mapped[str] = mapped_column(String(64), default="Asia/Shanghai")  # IANA name
    within: Mapped[int] = mapped_column(default=60)  # minutes after the planned time in which it should be started
    positions: Mapped[bool] = mapped_column(default=True, server_default="true")  # without one, a visit is unproven
    by: Mapped[str] = mapped_column(String(36), default="")
    created: Mapped[Stamp]


class Checkpoint(Base):
    """A place on a planned route."""

    __tablename__ = "checkpoints"

    id: Mapped[MadeId]
    round: Mapped[str] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]  # in the order of the route, from 1
    name: Mapped[str] = mapped_column(String(120))
    note: Mapped[str] = mapped_column(String(1000), default="")  # what to look at there
    lat: Mapped[float | None]  # degrees WGS 84
    lon: Mapped[float | None]
    plan: Mapped[str] = mapped_column(String(64), default="")  # floor plan; empty: the site's metres themselves
    east: Mapped[float | None]  # metres on the site plan
    north: Mapped[float | None]
    radius: Mapped[float] = mapped_column(Float, default=30.0)  # metres; a photo within is a visit
    retired: Mapped[bool] = mapped_column(default=False)  # no longer on the route; older inspections name it


class Inspection(Base):
    """One round as it was walked."""

    __tablename__ = "inspections"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # made by the phone
    user: Mapped[str] = mapped_column(String(36), index=True)
    site: Mapped[str] = mapped_column(String(64))
    round: Mapped[str] = mapped_column(String(36), default="", index=True)  # planned route; empty: none
    state: Mapped[str] = mapped_column(String(12), default="early")  # early, running, paused, finished, abandoned
    note: Mapped[str] = mapped_column(String(4000), default="")
    device: Mapped[str] = mapped_column(String(200), default="")
    radius: Mapped[float | None]  # metres, of the inspector's roles when it began; None: no limit
    started: Mapped[Micros]  # corrected; of what came first while it is `early`
    started_clock: Mapped[Micros]  # as the phone told it
    ended: Mapped[int | None] = mapped_column(BigInteger)  # corrected
    skew: Mapped[Micros] = mapped_column(default=0)  # by how much our clock was ahead of the phone's, last time, µs
    received: Mapped[Stamp]
    changed: Mapped[Stamp]
    last_frame: Mapped[Micros] = mapped_column(default=0)  # time of the newest photo on `frames`

    __table_args__ = (Index("ix_inspections_site_started", "site", "started"),)


class Step(Base):
    """A change of an inspection's state, as the phone told it; the one with the greatest time is where it stands."""

    __tablename__ = "inspection_steps"

    inspection: Mapped[str] = mapped_column(ForeignKey("inspections.id", ondelete="CASCADE"), primary_key=True)
    clock: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # the phone's, µs
    state: Mapped[str] = mapped_column(String(12), primary_key=True)  # started, paused, running, finished, abandoned
    at: Mapped[Micros]  # corrected
    received: Mapped[Stamp]


class Photo(Base):
    """A photo of an inspection."""

    __tablename__ = "photos"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # made by the phone
    inspection: Mapped[str] = mapped_column(ForeignKey("inspections.id", ondelete="CASCADE"))
    frame: Mapped[str] = mapped_column(String(60), unique=True)  # inspection@at: the id on `frames`, and of the verdict
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of the file as it was sent: the same again is no news
    taken: Mapped[Micros]  # corrected
    taken_clock: Mapped[int | None] = mapped_column(BigInteger)  # as the phone told it
    taken_from: Mapped[str] = mapped_column(String(8))  # phone, exif, server: whose word `taken` is
    received: Mapped[Stamp]
    lat: Mapped[float | None]
    lon: Mapped[float | None]
    accuracy: Mapped[float | None]  # metres
    place_from: Mapped[str] = mapped_column(String(8), default="")  # phone, exif; empty: no place
    east: Mapped[float | None]  # metres on the site plan
    north: Mapped[float | None]
    checkpoint: Mapped[str] = mapped_column(String(36), default="")
    camera: Mapped[str] = mapped_column(String(64), default="", server_default="")  # that the phone says it is about
    against: Mapped[str] = mapped_column(String(12), default="", server_default="")  # checkpoint, camera, site
    distance: Mapped[float | None]  # metres from what `against` says; None: nobody knows
    far: Mapped[bool] = mapped_column(default=False)  # farther from it than the patrol radius
    visit: Mapped[bool] = mapped_column(default=False)  # within the checkpoint's own radius, or no place to doubt it by
    unproven: Mapped[bool] = mapped_column(default=False, server_default="false")  # no position shows that it was there
    note: Mapped[str] = mapped_column(String(2000), default="")
    privacy: Mapped[str] = mapped_column(String(16))  # the site's when it came
    blur_others: Mapped[bool] = mapped_column(default=False, server_default="false")  # the same
    hide: Mapped[bool] = mapped_column(default=False, server_default="false")  # its faces are to go, and have not yet
    width: Mapped[int]
    height: Mapped[int]

    __table_args__ = (Index("ix_photos_inspection_taken", "inspection", "taken"),
                      Index("ix_photos_hide", "id", postgresql_where=text("hide")))

    @property
    def picture(self) -> str:
        return picture_of(self.inspection, self.id)

    @property
    def veiled(self) -> bool:
        """Some of its faces go out of the kept picture once they are known; until then nobody gets it."""
        return self.blur_others or self.privacy == "anonymous"


class Point(Base):
    """Where the phone was."""

    __tablename__ = "inspection_points"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # made by the phone
    inspection: Mapped[str] = mapped_column(ForeignKey("inspections.id", ondelete="CASCADE"))
    at: Mapped[Micros]  # corrected
    clock: Mapped[Micros]  # as the phone told it
    lat: Mapped[float | None]
    lon: Mapped[float | None]
    accuracy: Mapped[float | None]
    east: Mapped[float | None]
    north: Mapped[float | None]
    received: Mapped[Stamp]

    __table_args__ = (Index("ix_inspection_points_inspection_at", "inspection", "at"),)


class Verdict(Base):
    """What the mask stage saw in a photo; folded from `faces`, or from `dead.letters` when it could not take it."""

    __tablename__ = "photo_verdicts"

    frame: Mapped[str] = mapped_column(String(60), primary_key=True)
    faces: Mapped[list[Any]]  # {id, box, score, look, look_score} each, pixels of the kept picture
    worn: Mapped[int] = mapped_column(default=0)
    incorrect: Mapped[int] = mapped_column(default=0)
    none: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    models: Mapped[dict[str, Any]]
    refused: Mapped[str] = mapped_column(String(400), default="")  # why there is no verdict
    told: Mapped[Micros]  # time of the record
    seen: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


def picture_of(inspection: str, photo: str) -> str:
    return f"inspections/{inspection}/{photo}.jpg"


def shown(photo: Photo, verdict: Verdict | None) -> bool:
    """Whether the kept picture may be looked at. One that was refused has its faces in it: nobody has found them."""
    return not photo.hide and (not photo.veiled or (verdict is not None and not verdict.refused))


class Verdicts:
    """`faces` of phone photos -> photo_verdicts. Where the site says so, faces go out of the kept picture: all of them
    when it is anonymous, those that are in no breach when it blurs others."""

    name, topic = "photo_verdicts", "faces"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        ours = {told.message.frame: told for told in messages if told.message and told.message.source == "inspection"}
        if not ours:
            return
        rows = []
        for frame, told in ours.items():
            faces: Faces = told.message
            looks = [face.look for face in faces.faces]
            seen = [{"id": face.id, "box": list(face.box), "score": face.score, "look": face.look,
                     "look_score": face.look_score} for face in faces.faces]
            rows.append({"frame": frame, "faces": seen, "models": faces.models, "refused": "", "told": told.at,
                         **{state: looks.count(state) for state in STATES}})
        for told in ours.values():
            if told.message.faces:
                _hide(session, context, told.message)
        _keep(session, rows)

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(Verdict).where(Verdict.told >= since, Verdict.refused == ""))


class Refusals:
    """`dead.letters` that hold a phone photo -> photo_verdicts that say why there is none."""

    name, topic = "photo_refusals", "dead.letters"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        rows = {}
        for told in messages:
            letter: DeadLetter | None = told.message
            if letter is None or letter.topic not in ("frames", "frames.unique") or letter.redriven:
                continue
            try:
                frame = decode(letter.payload, Frame, "msgpack")
            except BadMessage:
                continue
            if frame.source == "inspection" and len(frame.id) <= 60:
                rows[frame.id] = {"frame": frame.id, "faces": [], "models": {}, "refused": letter.reason[:400],
                                  "told": told.at, **dict.fromkeys(STATES, 0)}
        there = set(session.scalars(select(Verdict.frame).where(Verdict.frame.in_(rows)))) if rows else set()
        _keep(session, [row for frame, row in rows.items() if frame not in there])

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(Verdict).where(Verdict.told >= since, Verdict.refused != ""))


def _keep(session: Session, rows: list[dict[str, Any]]) -> None:
    """The rows, and word of those that are news to everybody who may see the inspection."""
    if not rows:
        return
    frames = [row["frame"] for row in rows]
    before = set(session.scalars(select(Verdict.frame).where(Verdict.frame.in_(frames), Verdict.refused == "")))
    wish = insert(Verdict).values(rows)
    session.execute(wish.on_conflict_do_update(index_elements=["frame"], set_={
        name: wish.excluded[name] for name in ("faces", *STATES, "models", "refused", "told")}))
    owners = {photo.frame: (photo, inspection) for photo, inspection in session.execute(
        select(Photo, Inspection).join(Inspection, Inspection.id == Photo.inspection).where(Photo.frame.in_(frames)))}
    now = session.scalar(select(func.extract("epoch", func.now())))
    for row in rows:
        if row["frame"] in before or row["frame"] not in owners or float(now) - row["told"] / 1e6 > FRESH:
            continue
        photo, inspection = owners[row["frame"]]
        tell(session, inspection, "inspection.photo", photo=photo.id, frame=photo.frame, refused=row["refused"][:200],
             **{state: row[state] for state in STATES})


def tell(session: Session, inspection: Inspection, kind: str, **data: Any) -> None:
    """To the inspector, while they have a right there, and to whoever may review the site's inspections (who hears both
    when they are the same)."""
    told = {"id": inspection.id, "state": inspection.state, "user": inspection.user, **data}
    live.tell(session, live.Event(kind, told, inspection.site, needs="inspections.review"))
    live.tell(session, live.Event(kind, told, inspection.site, needs="inspections.view", users=(inspection.user,)))


def _hide(session: Session, context: Context, faces: Faces) -> None:
    """Written before the transaction ends, and again after a crash: pixelated twice is pixelated."""
    photo = session.scalar(select(Photo).where(Photo.frame == faces.frame))
    if photo is None or not (photo.veiled or faces.privacy == "anonymous"):
        return
    everybody = "anonymous" in (photo.privacy, faces.privacy)
    boxes = [face.box for face in faces.faces if everybody or face.look not in ALWAYS.breach]
    store = pictures.store(context.settings)
    jpeg = store.get(photo.picture) if boxes else None
    if jpeg is not None:
        store.put(photo.picture, encoded(pixelated(decoded(jpeg), boxes)))


def pixelated(image: Image, boxes: Sequence[Box]) -> Image:
    """Each face with a fifth around it as at most 5 × 5 squares: nobody is recognised in them."""
    image = image.copy()
    high, wide = image.shape[:2]
    for x0, y0, x1, y1 in boxes:
        dx, dy = (x1 - x0) / 5, (y1 - y0) / 5
        left, top = max(0, round(x0 - dx)), max(0, round(y0 - dy))
        right, bottom = min(wide, round(x1 + dx)), min(high, round(y1 + dy))
        if right - left < 2 or bottom - top < 2:
            continue
        piece = image[top:bottom, left:right]
        small = cv2.resize(piece, (5, 5), interpolation=cv2.INTER_AREA)
        image[top:bottom, left:right] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    return image


FOLDS = [Verdicts(), Refusals()]
