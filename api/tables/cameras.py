"""Cameras: what each should do, folded from `cameras`; what it does, folded from `cameras.status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, String, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import live
from api.db import Base, Id, Micros
from api.folds import Context, Told
from pipeline.messages import Camera, CameraStatus


class CameraRow(Base):
    """A camera as it is wished for."""

    __tablename__ = "cameras"

    id: Mapped[Id]
    site: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    wish: Mapped[dict[str, Any]]  # the whole message; its addresses may hold passwords
    running: Mapped[bool]
    place_east: Mapped[float | None]  # metres on the site plan
    place_north: Mapped[float | None]
    offset: Mapped[int] = mapped_column(BigInteger)  # of the record it came in

    @property
    def camera(self) -> Camera:
        return msgspec.convert(self.wish, Camera)


class CameraState(Base):
    """What a camera is doing."""

    __tablename__ = "camera_states"

    id: Mapped[Id]  # camera
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[Micros]
    at: Mapped[Micros]
    status: Mapped[dict[str, Any]]  # the whole message


class Cameras:
    """`cameras` -> cameras; a tombstone removes the row."""

    name, topic = "cameras", "cameras"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        newest = {told.key: told for told in messages}
        gone = [key for key, told in newest.items() if told.message is None]
        if gone:
            session.execute(delete(CameraRow).where(CameraRow.id.in_(gone)))
            for key in gone:
                live.tell(session, live.Event("camera.removed", {"id": key}, camera=key, needs="cameras.view"))
        for key, told in newest.items():
            camera: Camera | None = told.message
            if camera is None:
                continue
            east, north = camera.place or (None, None)
            values = {"site": camera.site, "name": camera.name, "wish": msgspec.to_builtins(camera),
                      "running": camera.running, "place_east": east, "place_north": north, "offset": told.offset}
            session.execute(insert(CameraRow).values(id=key, **values).on_conflict_do_update(
                index_elements=["id"], set_=values))
            live.tell(session, live.Event("camera.changed", {"id": key, "running": camera.running}, camera.site, key,
                                          "cameras.view"))

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(CameraRow))


class States:
    """`cameras.status` -> camera_states, the newest of each camera."""

    name, topic = "camera_states", "cameras.status"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        newest: dict[str, CameraStatus] = {told.key: told.message for told in messages if told.message}
        before = dict(session.execute(
            select(CameraState.id, CameraState.state).where(CameraState.id.in_(newest))).all())
        sites = dict(session.execute(
            select(CameraRow.id, CameraRow.site).where(CameraRow.id.in_(newest))).all())
        for key, status in newest.items():
            values = {"state": status.state, "since": status.since, "at": status.at,
                      "status": msgspec.to_builtins(status)}
            session.execute(insert(CameraState).values(id=key, **values).on_conflict_do_update(
                index_elements=["id"], set_=values, where=CameraState.at <= status.at))
            if before.get(key) != status.state:
                live.tell(session, live.Event("camera.status", {
                    "id": key, "state": status.state, "since": status.since, "error": status.error[:200],
                }, sites.get(key, ""), key, "cameras.view"))
        gone = [told.key for told in messages if told.message is None]
        if gone:
            session.execute(delete(CameraState).where(CameraState.id.in_(gone)))

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(CameraState))


FOLDS = [Cameras(), States()]
