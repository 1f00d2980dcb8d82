"""Live video: how a camera can be watched, its stream over a WebSocket, and JPEGs for browsers that cannot play that.

docs/api.md, "Live video", says what goes over the WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
import structlog
from litestar import Request, Router, WebSocket, get, post, websocket
from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.auth import PUBLIC, identify, needs
from api.dependencies import By, Config, Db
from api.fields import CLEAN
from api.live import Hub, Listener
from api.permissions import Who
from api.problems import Problem
from api.routes.cameras import find
from api.tables import audit
from api.tables.cameras import CameraRow
from api.video import mediamtx
from api.video.films import Busy, Code, Fault, Films, Piece, Viewer, Wanted, wanted
from pipeline import capture
from pipeline.messages import Camera
from pipeline.settings import Settings

log = structlog.get_logger()

AGAIN = 4.0  # seconds between two looks at whether it may still be watched
OPENING = 20.0  # seconds for a source to show its first keyframe
STUCK = 20.0  # seconds in which a client must have taken a picture
WIDE = 960  # pixels that are wide enough, as for analysis
CLOSED: dict[Code, int] = {"login": 4401, "right": 4403, "missing": 4404, "changed": 4409, "busy": 4429,
                           "camera": 4503, "stopped": 4503}  # fmt: skip
STATUS: dict[Code, int] = {"login": 401, "right": 403, "missing": 404, "changed": 409, "busy": 429, "camera": 424,
                           "stopped": 409}  # fmt: skip
TITLES: dict[Code, str] = {"changed": "camera changed", "busy": "too many streams", "stopped": "camera stopped",
                           "missing": "no such source", "camera": "camera does not answer"}  # fmt: skip
MARK = b"picture"
# What sending to a socket raises whose other end has gone, by how it went.
GONE_AWAY = (WebSocketDisconnect, RuntimeError, OSError)

Index = Annotated[int | None, QueryParameter(ge=0, le=7, description="of the camera's sources; none: the best fitting")]
Fps = Annotated[float, QueryParameter(ge=0.2, le=10, description="most pictures a second")]


class SourceVideo(msgspec.Struct):
    """One of a camera's sources, as a player needs it."""

    source: int
    kind: str
    width: int  # pixels; 0: not known
    first: bool  # shown when no source is asked for
    stream: str  # path of the WebSocket
    mjpeg: str  # path of the JPEGs
    mime: str | None  # of the stream; null: nobody has watched it yet, the stream says
    transcoded: bool | None
    why: str | None  # it is transcoded; empty: it is not
    whep: str  # address for WebRTC (WHEP) from MediaMTX, for a few minutes; empty: not to be had there


class CameraVideo(msgspec.Struct):
    """How a camera can be watched."""

    camera: str
    running: bool  # else nothing of it is shown
    hidden: int  # privacy areas: black in everything that is shown
    boxes: bool  # this user may have boxes and states with it
    sources: list[SourceVideo]


class Ended(Exception):
    """There is nothing to watch, or no longer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


@dataclass(frozen=True)
class Access:
    """What somebody may watch now."""

    who: Who
    camera: Camera
    order: tuple[int, ...]  # of its sources, as they are tried
    trusted: bool  # may know addresses
    boxes: bool


def _order(camera: Camera) -> tuple[int, ...]:
    chosen = capture.choose(camera.sources, camera.width or WIDE, camera.prefer)
    return tuple(dict.fromkeys(camera.sources.index(each) for each in chosen))


def _of(who: Who, row: CameraRow) -> Access:
    camera = row.camera
    return Access(who, camera, _order(camera),
                  any(who.may(f"cameras.{action}", row.site, row.id) for action in ("edit", "run")),
                  who.may("compliance.view", row.site, row.id))


def _access(connection: ASGIConnection[Any, Any, Any, Any], id: str, note: dict[str, Any] | None = None) -> Access:
    """As login, grants and camera are now. With a `note`, that somebody watches is written down. Raises Ended."""
    connection.scope["state"].pop("who", None)
    try:
        who = identify(connection)
        with connection.app.state.sessions() as db, db.begin():
            row = find(db, who, id)
            access = _of(who, row)
            if not access.camera.running:
                raise Ended(Fault("stopped", f"expected a camera that runs, {id!r} is stopped", 10.0))
            if note is not None:
                audit.write(db, who.id, "camera.watch", id, site=row.site, camera=id, address=who.address, **note)
            return access
    except HTTPException as error:
        code: Code = {401: "login", 403: "right"}.get(error.status_code, "missing")  # type: ignore[assignment]
        raise Ended(Fault(code, error.detail)) from None
    except SQLAlchemyError:
        raise Ended(Fault("camera", "the database does not answer; nobody knows who may watch", 3.0)) from None


def _fits(shown: Wanted, camera: Camera) -> bool:
    """Is a film what its camera wishes now?"""
    return (camera.running and shown.source < len(camera.sources)
            and wanted(camera, shown.source, shown.jpeg) == shown)


def _told(fault: Fault, trusted: bool) -> Fault:
    """Without the address of a camera for who may not know it."""
    if fault.code == "camera" and not trusted:
        return msgspec.structs.replace(fault, detail=capture.bare(fault.detail))
    return fault


class Show:
    """One who watches one camera, from the question to the end."""

    def __init__(self, connection: ASGIConnection[Any, Any, Any, Any], id: str, source: int | None,
                 jpeg: float = 0.0) -> None:
        self.connection, self.id, self.source, self.jpeg = connection, id, source, jpeg
        self.films: Films = connection.app.state.films
        self.hub: Hub = connection.app.state.hub
        self.viewer: Viewer | None = None
        self.access: Access | None = None
        self.boxes = False  # they were asked for, and might be had when it began

    async def open(self) -> Viewer:
        """The first source that shows something. Raises Ended."""
        access = self.access = await sync_to_thread(_access, self.connection, self.id)
        if self.source is not None and self.source >= len(access.camera.sources):
            raise Ended(Fault("missing", f"expected a source below {len(access.camera.sources)}, got {self.source}"))
        faults = []
        for number in access.order if self.source is None else (self.source,):
            try:
                viewer = self.viewer = self.films.join(wanted(access.camera, number, bool(self.jpeg)), self.jpeg)
            except Busy as error:
                raise Ended(Fault("busy", str(error), 5.0)) from None
            try:
                await asyncio.wait_for(viewer.begun(), OPENING)
            except TimeoutError:
                viewer.end(Fault("camera", f"expected a keyframe within {OPENING:g} s, got none", 5.0))
            if viewer.fault is None:
                await self._still(access, {"source": number, "jpeg": bool(self.jpeg)})
                return viewer
            self.leave()
            if viewer.fault.code != "camera":
                raise Ended(viewer.fault)
            faults.append(viewer.fault)
        raise Ended(Fault("camera", "; ".join(each.detail for each in faults)[:1000], faults[0].retry))

    def leave(self) -> None:
        if self.viewer is not None:
            self.films.leave(self.viewer)

    async def _still(self, before: Access, note: dict[str, Any] | None = None) -> Access:
        """Looks anew whether it may be watched, and whether it is what it was. Raises Ended."""
        assert self.viewer  # noqa: S101
        try:
            access = await sync_to_thread(_access, self.connection, self.id, note)
        except Ended as error:
            if error.fault.code == "stopped":
                self.films.drop(self.id, lambda _: False, error.fault)
            raise
        if not _fits(self.viewer.film.wanted, access.camera) or (
                self.source is None and access.order != before.order):
            fault = Fault("changed", "the camera has changed: connect again", 0.0)
            self.films.drop(self.id, lambda shown: _fits(shown, access.camera), fault)
            raise Ended(fault)
        self.access = access
        if self.boxes:
            self.viewer.show(access.boxes)
        return access

    async def guard(self) -> Fault:
        """Until it may not be watched any more, or is something else."""
        assert self.access  # noqa: S101
        before = self.access
        listener = Listener(before.who)
        self.hub.listeners.add(listener)
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._heard(listener), AGAIN)
                listener.who = (await self._still(before)).who
        except Ended as error:
            return error.fault
        finally:
            self.hub.listeners.discard(listener)

    async def _heard(self, listener: Listener) -> None:
        """Until something happens that may matter."""
        while not listener.lagged:
            event, _ = await listener.queue.get()
            if event.kind == "grants.changed" or (
                    event.kind in ("camera.changed", "camera.removed") and event.data.get("id") == self.id):
                return
        listener.lagged = False


@get("/{camera:str}/video", opt=needs("cameras.view"), sync_to_thread=True, summary="How a camera can be watched live")
def how(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, camera: FromPath[str]) -> CameraVideo:
    """Source by source; nothing is opened to find out. The first is what is shown when no source is asked for."""
    access = _of(who, find(db, who, camera))
    films: Films = request.app.state.films
    sources = []
    for number, source in enumerate(access.camera.sources):
        facts = films.facts.get((source.url, bool(access.camera.hidden)))
        base = f"/v1/cameras/{camera}/video"
        sources.append(SourceVideo(
            number, source.kind, source.width, number == access.order[0], f"{base}/stream?source={number}",
            f"{base}/mjpeg?source={number}", facts.mime if facts else None, facts.transcoded if facts else None,
            facts.why if facts else None, _whep(db, settings, access, number),
        ))  # fmt: skip
    return CameraVideo(camera, access.camera.running, len(access.camera.hidden), access.boxes, sources)


def _whep(db: Session, settings: Settings, access: Access, source: int) -> str:
    name = mediamtx.path(access.camera.camera, source)
    if not (settings.mediamtx and settings.mediamtx_api and mediamtx.readable(db, name)):
        return ""
    return f"{settings.mediamtx.rstrip('/')}/{name}/whep?ticket={mediamtx.ticket(db, access.who, name)}"


class Reader(msgspec.Struct):
    """What MediaMTX tells of somebody who wants something of it."""

    action: Annotated[str, Meta(max_length=40)] = ""
    path: Annotated[str, Meta(max_length=120, pattern=CLEAN)] = ""
    query: Annotated[str, Meta(max_length=2000, pattern=CLEAN)] = ""
    protocol: Annotated[str, Meta(max_length=40)] = ""
    id: Annotated[str, Meta(max_length=64, pattern=CLEAN)] = ""  # of its session; empty: there is none yet


@post("/mediamtx", opt=needs(PUBLIC), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
      summary="MediaMTX asks whether somebody may read")
def admit(db: Db, data: JSONBody[Reader]) -> None:
    """For `authHTTPAddress`. Only WebRTC with a ticket, of a camera that runs, without privacy areas, that the ticket's
    holder may watch; 401 for everything else."""
    refused = Problem(401, "not admitted", "expected a reader by WebRTC with a ticket for this path")
    if data.action != "read" or data.protocol != "webrtc":
        raise refused
    who, row = mediamtx.holder(db, data.path, data.query), mediamtx.readable(db, data.path)
    if who is None or row is None or not who.may("cameras.view", row.site, row.id):
        raise refused
    if data.id:
        mediamtx.let_in(db, who, data.id)
    audit.write(db, who.id, "camera.watch", row.id, site=row.site, camera=row.id, by="mediamtx", path=data.path)


@websocket("/{camera:str}/video/stream", opt=needs("cameras.view"))
async def stream(socket: WebSocket[Any, Any, Any], camera: FromPath[str], source: Index = None,
                 boxes: Annotated[bool, QueryParameter()] = False) -> None:
    """See docs/api.md, "Live video"."""
    await socket.accept()
    show = Show(socket, camera, source)
    fault: Fault | None = None
    try:
        fault = await _play(socket, show, boxes)
    except Ended as error:
        fault = error.fault
    finally:
        show.leave()
    if fault is not None:
        told = _told(fault, bool(show.access and show.access.trusted))
        with suppress(*GONE_AWAY, TimeoutError):
            await asyncio.wait_for(_bye(socket, told), 2)


async def _bye(socket: WebSocket[Any, Any, Any], fault: Fault) -> None:
    await socket.send_text(msgspec.json.encode({"error": fault}).decode())
    await socket.close(CLOSED[fault.code], TITLES.get(fault.code, fault.code))


async def _play(socket: WebSocket[Any, Any, Any], show: Show, boxes: bool) -> Fault | None:
    """Why it ended; None: they have gone. Raises Ended."""
    gone = asyncio.create_task(_gone(socket))
    opening = asyncio.create_task(show.open())
    tasks: list[asyncio.Task[Any]] = [gone, opening]
    viewer: Viewer | None = None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return None
        viewer = opening.result()
        assert show.access  # noqa: S101
        viewer.boxes = show.boxes = boxes and show.access.boxes
        if show.boxes:
            show.films.looks.want()
        sending, guarding = asyncio.create_task(_send(socket, viewer)), asyncio.create_task(show.guard())
        tasks += [sending, guarding]
        await asyncio.wait([gone, sending, guarding], return_when=asyncio.FIRST_COMPLETED)
        if guarding.done():
            viewer.end(guarding.result())
        if gone.done():
            return None
        if sending.done() and (error := sending.exception()) is not None and not isinstance(error, GONE_AWAY):
            if isinstance(error, TimeoutError):
                return None
            raise error
        return viewer.fault
    finally:
        if show.boxes:
            show.films.looks.leave()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(socket: WebSocket[Any, Any, Any]) -> None:
    """What the client says is of no interest, but that it goes."""
    with suppress(*GONE_AWAY):
        while True:
            await socket.receive_data(mode="text")


async def _send(socket: WebSocket[Any, Any, Any], viewer: Viewer) -> None:
    facts, shown = viewer.facts, viewer.film.wanted
    assert facts  # noqa: S101
    first = msgspec.to_builtins(facts) | {"source": shown.source, "hidden": len(shown.hidden), "boxes": viewer.boxes}
    await socket.send_text(msgspec.json.encode(first).decode())
    await socket.send_bytes(viewer.film.init)
    while out := await viewer.next():
        for each in out:
            if viewer.fault is not None:
                return
            async with asyncio.timeout(STUCK):
                if not isinstance(each, Piece):
                    await socket.send_text(each.decode())
                    continue
                if each.clock:
                    await socket.send_text(each.clock.decode())
                await socket.send_bytes(each.data)


@get("/{camera:str}/video/mjpeg", opt=needs("cameras.view"), summary="A camera live, as JPEGs",
     media_type=f"multipart/x-mixed-replace; boundary={MARK.decode()}",
     responses={200: ResponseSpec(bytes, description="JPEG after JPEG", generate_examples=False,
                                  media_type=f"multipart/x-mixed-replace; boundary={MARK.decode()}")})
async def mjpeg(request: Request[Any, Any, Any], camera: FromPath[str], source: Index = None, fps: Fps = 5.0
                ) -> Stream:
    """For an `<img>` where Media Source Extensions are not to be had. At most 960 wide. 424 when no source answers."""
    show = Show(request, camera, source, fps)
    try:
        viewer = await show.open()
    except Ended as error:
        show.leave()
        fault = _told(error.fault, bool(show.access and show.access.trusted))
        wait = {"Retry-After": f"{fault.retry:.0f}"} if fault.retry else None
        raise Problem(STATUS[fault.code], TITLES.get(fault.code, "not to be watched"), fault.detail, wait) from None
    except BaseException:
        show.leave()
        raise

    async def pictures() -> AsyncIterator[bytes]:
        guarding = asyncio.create_task(show.guard())
        guarding.add_done_callback(lambda task: None if task.cancelled() else viewer.end(task.result()))
        try:
            yield b"--" + MARK + b"\r\n"
            while out := await viewer.next():
                for each in out:
                    # the mark after the picture, not before the next one: browsers show it when they have read that
                    piece = cast("Piece", each)
                    yield (b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Taken: %b\r\n\r\n%b\r\n--%b\r\n"
                           % (len(piece.data), piece.clock, piece.data, MARK))
        finally:
            guarding.cancel()
            show.leave()

    return Stream(pictures(), media_type=f"multipart/x-mixed-replace; boundary={MARK.decode()}",
                  headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


router = Router("/v1", route_handlers=[
    Router("/cameras", route_handlers=[how, stream, mjpeg]), Router("/video", route_handlers=[admit]),
], tags=["live video"])  # fmt: skip
