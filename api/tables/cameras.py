"""Cameras: what each should do, folded from `cameras`; what it does, folded from `cameras.status`.

What the API changes it writes into the row and, by the outbox, to the topic, in one transaction: whoever changed
something sees it at once. The fold then meets its own words; a record that is older than the row changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from sqlalchemy import BigInteger, ForeignKey, String, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import live
from api.db import Base, Id, Micros, Stamp, micros, now
from api.folds import Context, Told
from api.tables import policies, sites
from api.tables.outbox import Outgoing
from api.tables.sites import Site
from api.tables.users import Grant
from pipeline import policy
from pipeline.cameras import alike, check
from pipeline.capture import bare
from pipeline.messages import Camera, CameraStatus, Outline, Privacy, Source, encode

if TYPE_CHECKING:
    from api.publish import Producer


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
    offset: Mapped[int] = mapped_column(BigInteger)  # of the record it came in; -1: on its way to the topic
    changed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # the wish's own
    wished: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # when it was written, µs UTC

    @property
    def camera(self) -> Camera:
        return msgspec.convert(self.wish, Camera)


class CameraId(Base):
    """An id that a camera has or had. Another site never gets it: what that camera showed is found by it."""

    __tablename__ = "camera_ids"

    id: Mapped[Id]
    site: Mapped[str] = mapped_column(String(64))  # of which the camera is, or was last


class RemovedCamera(Base):
    """Somebody removed it, and the topic does not say so yet: what comes of it from before is not folded."""

    __tablename__ = "removed_cameras"

    id: Mapped[Id]
    changed: Mapped[int] = mapped_column(BigInteger)


class Calibration(Base):
    """How a camera's picture lies on the site's plan."""

    __tablename__ = "calibrations"

    camera: Mapped[Id]
    plan: Mapped[str | None] = mapped_column(ForeignKey("plans.id", ondelete="SET NULL"))
    pairs: Mapped[list[Any]]  # [[[x, y] 0..1 of the picture, [east, north] metres], …]
    matrix: Mapped[list[Any]]  # nine numbers, pipeline.plan.Calibration
    residual: Mapped[float]  # metres
    worst: Mapped[float]  # metres
    by: Mapped[str] = mapped_column(String(36), default="")
    created: Mapped[Stamp]


class CameraState(Base):
    """What a camera is doing."""

    __tablename__ = "camera_states"

    id: Mapped[Id]  # camera
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[Micros]
    at: Mapped[Micros]
    status: Mapped[dict[str, Any]]  # the whole message


def columns(camera: Camera, offset: int, at: int = 0) -> dict[str, Any]:
    """`at`: when its record was written, µs UTC, for one that does not say so itself."""
    east, north = camera.place or (None, None)
    return {"site": camera.site, "name": camera.name, "wish": msgspec.to_builtins(camera), "running": camera.running,
            "place_east": east, "place_north": north, "offset": offset, "changed": camera.changed,
            "wished": camera.changed or at}


def held(session: Session, id: str) -> CameraRow | None:
    """The row of a camera, kept from others until the transaction ends, also when there is none."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("camera " + id, 0))))
    return session.scalar(select(CameraRow).where(CameraRow.id == id).with_for_update())


def site_of(session: Session, id: str) -> str | None:
    """Of which a camera of this id is or was; None: there never was one."""
    return session.scalar(select(CameraId.site).where(CameraId.id == id))


def _moved(session: Session, id: str, site: str, before: str | None) -> None:
    """The camera is of this site now. From the one before it is gone: what it showed there stays with that."""
    if before not in (None, site):
        session.execute(delete(Calibration).where(Calibration.camera == id))  # on the other site's plan
        live.tell(session, live.Event("camera.removed", {"id": id}, before or "", id, "cameras.view"))
    session.execute(insert(CameraId).values(id=id, site=site).on_conflict_do_update(
        index_elements=["id"], set_={"site": site}))


def beside(session: Session, sources: Sequence[Source], id: str = "") -> list[CameraRow]:
    """Other cameras, of any site, that show the same picture as one of these addresses does."""
    wanted = [source.url for source in sources]
    there = session.execute(select(CameraRow.id, CameraRow.wish["sources"]).where(CameraRow.id != id))
    same = [id_ for id_, theirs in there if any(alike(each["url"], url) for each in theirs for url in wanted)]
    return list(session.scalars(select(CameraRow).where(CameraRow.id.in_(same)).order_by(CameraRow.id)))


def areas(session: Session, camera: Camera) -> tuple[Outline, ...]:
    """What is hidden in a camera's picture: what was drawn on it, and on others that show the same."""
    others = (area for row in beside(session, camera.sources, camera.camera) for area in row.camera.hidden)
    return tuple(dict.fromkeys((*camera.hidden, *others)))


def save(session: Session, producer: Producer, camera: Camera, site: Site, before: CameraRow | None,
         alone: bool = False) -> CameraRow:
    """A wish into its row and on its way to the topic, with what its site and the active policy say of it, and unless
    `alone` with the privacy areas of cameras that show the same picture. The caller has it `held`. Raises BadCamera."""
    zones = camera.policy.zones if camera.policy else ()
    camera = msgspec.structs.replace(
        camera, site=site.id, blur_others=site.blur_others,
        changed=max(micros(now()), before.changed + 1 if before else 0),
        policy=policy.of_camera(policies.active(session, site), camera.camera, zones),
        privacy=sites.stricter(camera.privacy, cast("Privacy", site.privacy)),
        hidden=camera.hidden if alone else areas(session, camera),
    )  # fmt: skip
    check([camera])
    _moved(session, camera.camera, camera.site, before.site if before else None)
    row = before or CameraRow(id=camera.camera)
    for name, value in columns(camera, -1).items():
        setattr(row, name, value)
    session.add(row)
    producer.later(session, "cameras", camera)
    # not only when it comes back from the topic: who watches it live must not see what has just been hidden
    live.tell(session, live.Event("camera.changed", {"id": camera.camera, "running": camera.running}, camera.site,
                                  camera.camera, "cameras.view"))
    session.flush()
    return row


def save_all(session: Session, producer: Producer, site: Site, privacy: str) -> int:
    """Every camera of a site anew, after the site has changed; `privacy`: what the site had before. A camera that was
    stricter than its site stays so."""
    rows = session.scalars(select(CameraRow).where(CameraRow.site == site.id).order_by(CameraRow.id)).all()
    for row in rows:
        row = held(session, row.id) or row
        session.refresh(row)
        camera = row.camera
        if camera.privacy == privacy:
            camera = msgspec.structs.replace(camera, privacy=cast("Privacy", site.privacy))
        save(session, producer, camera, site, row, alone=True)
    return len(rows)


def remove(session: Session, producer: Producer, row: CameraRow) -> None:
    """The caller has it `held`."""
    values = {"changed": max(micros(now()), row.changed + 1)}
    session.execute(insert(RemovedCamera).values(id=row.id, **values).on_conflict_do_update(
        index_elements=["id"], set_=values))
    session.execute(delete(Calibration).where(Calibration.camera == row.id))
    session.execute(delete(Grant).where(Grant.camera == row.id))  # another camera may get this id, at another site
    session.delete(row)
    producer.removal(session, "cameras", row.id)
    live.tell(session, live.Event("camera.removed", {"id": row.id}, row.site, row.id, "cameras.view"))


class Cameras:
    """`cameras` -> cameras; a tombstone removes the row."""

    name, topic = "cameras", "cameras"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        newest = _newest(messages)
        over = {told.key for told in messages if told.message is None}
        session.execute(delete(RemovedCamera).where(RemovedCamera.id.in_(over)))
        gone = [key for key, told in newest.items() if told.message is None]
        there = dict(session.execute(select(CameraRow.id, CameraRow.site).where(CameraRow.id.in_(gone))).all())
        for key in gone:
            # one that is on its way to the topic again stays
            latest = max((told.message.changed for told in messages if told.key == key and told.message), default=-1)
            session.execute(delete(CameraRow).where(
                CameraRow.id == key, or_(CameraRow.offset >= 0, CameraRow.changed <= latest)))
            if key in there:
                live.tell(session, live.Event("camera.removed", {"id": key}, there[key], key, "cameras.view"))
        removed = dict(session.execute(
            select(RemovedCamera.id, RemovedCamera.changed).where(RemovedCamera.id.in_(newest))).all())
        for key, told in newest.items():
            camera: Camera | None = told.message
            if camera is None or camera.changed <= removed.get(key, -1):
                continue
            sites.known(session, camera.site, camera.privacy)
            values = columns(camera, told.offset, told.at)
            before = session.scalar(select(CameraRow.site).where(CameraRow.id == key))
            if session.scalar(insert(CameraRow).values(id=key, **values).on_conflict_do_update(
                    index_elements=["id"], set_=values, where=CameraRow.changed <= camera.changed
                    ).returning(CameraRow.id)):
                _moved(session, key, camera.site, before)
            live.tell(session, live.Event("camera.changed", {"id": key, "running": camera.running}, camera.site, key,
                                          "cameras.view"))

        _again(session, messages)

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(CameraRow))


def _newest(messages: Sequence[Told]) -> dict[str, Told]:
    """Of each camera the record that counts: the last one, unless it is an older wish that was held up on its way."""
    newest: dict[str, Told] = {}
    for told in messages:
        before = newest.get(told.key)
        if before and before.message and told.message and told.message.changed < before.message.changed:
            continue
        newest[told.key] = told
    return newest


def _again(session: Session, messages: Sequence[Told]) -> None:
    """A wish that was held up lies behind a newer one on the topic, where compaction would leave it alone: the newer
    one is said once more."""
    said = {told.key: told for told in messages if told.message}
    for row in session.scalars(select(CameraRow).where(CameraRow.id.in_(said)).with_for_update()
                               .execution_options(populate_existing=True)):
        last = said[row.id]
        if last.message.changed < row.changed and 0 <= row.offset < last.offset:
            session.add(Outgoing(topic="cameras", key=row.id, value=encode(row.camera)))
            row.offset = -1
    session.flush()


class States:
    """`cameras.status` -> camera_states, the newest of each camera."""

    name, topic = "camera_states", "cameras.status"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        newest: dict[str, Told] = {told.key: told for told in messages if told.message}
        before = dict(session.execute(
            select(CameraState.id, CameraState.state).where(CameraState.id.in_(newest))).all())
        sites = dict(session.execute(
            select(CameraRow.id, CameraRow.site).where(CameraRow.id.in_(newest))).all())
        for key, told in newest.items():
            status: CameraStatus = told.message
            wrong = told.at + round(context.settings.ahead * 1e6)  # beyond: by a clock that has been put right since
            values = {"state": status.state, "since": status.since, "at": status.at,
                      "status": msgspec.to_builtins(status)}
            session.execute(insert(CameraState).values(id=key, **values).on_conflict_do_update(
                index_elements=["id"], set_=values, where=or_(CameraState.at <= status.at, CameraState.at > wrong)))
            if before.get(key) != status.state:
                live.tell(session, live.Event("camera.status", {
                    "id": key, "state": status.state, "since": status.since, "error": bare(status.error)[:200],
                }, sites.get(key, ""), key, "cameras.view"))
        gone = [told.key for told in messages if told.message is None]
        if gone:
            session.execute(delete(CameraState).where(CameraState.id.in_(gone)))

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(CameraState))


FOLDS = [Cameras(), States()]
