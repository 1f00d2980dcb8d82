"""Chat: a room for each site, camera, episode and inspection; by requests or by one socket that can be taken up again.

Socket, JSON both ways. To the server: `{"join": room, "since": seq}` (history after `seq` comes first),
`{"leave": room}`, `{"room": room, "id": uuid, "text": …}` to say something, `{"read": room, "seq": …}`. From the
server: `{"message": …}`, `{"joined": room, "last": seq, "people": […], "more": bool}`, `{"people": […], "room": room}`,
`{"problem": …}`, with `id` and `room` of what could not be said. Whoever was away joins again with the last `seq` they
have and misses nothing. A message that is taken back comes again, with `removed` and without what it said.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import structlog
from litestar import Request, Response, Router, WebSocket, get, post, put, websocket
from litestar import delete as delete_
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.params import FromPath, JSONBody, MultipartBody, PathParameter
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import ColumnElement, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api import fields, live, pages, pictures, ranges, sight, uploads
from api.auth import identify, needs
from api.db import made_id, micros, now
from api.dependencies import By, Config, Db
from api.live import Hub, Listener
from api.permissions import Who
from api.problems import Problem, missing
from api.publish import Producer
from api.routes import inspections
from api.tables import audit
from api.tables import chat as table
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.chat import ChatRead, ChatRow, Presence, said
from api.tables.episodes import EpisodeRow
from api.tables.inspections import Inspection
from api.tables.sites import Site
from api.tables.users import User
from api.waiting import waits
from pipeline.messages import ChatMessage
from pipeline.pictures import blurred, encode

log = structlog.get_logger()
T = TypeVar("T")
KINDS = ("site", "camera", "episode", "inspection")
ROOM = r"^(site|camera|episode|inspection):[^\x00/]{1,200}$"
Room = Annotated[str, Meta(max_length=220, pattern=ROOM, description="kind:id")]
RoomPath = Annotated[str, PathParameter(max_length=220, pattern=ROOM, description="kind:id")]
Text = Annotated[str, Meta(max_length=2000, pattern=fields.CLEAN)]
PictureName = Annotated[str, Meta(pattern=r"^chat/[0-9a-f]{16}/[0-9a-f]{32}\.jpg$")]
HISTORY = 200  # messages of one answer
RENEWED, GONE = 15.0, timedelta(seconds=40)  # seconds between signs of presence; after which somebody is gone
NEWEST = 100  # rooms of a list, besides those of sites
UPLOADS, WITHIN = 60, timedelta(minutes=10)  # pictures that one user may put into rooms in that time
# What sending to a socket raises whose other end has gone, by how it went.
GONE_AWAY = (WebSocketDisconnect, RuntimeError, OSError)
MOST_JOINED = 50  # rooms of one socket


class Say(msgspec.Struct):
    """Something to be said."""

    id: UUID  # made by the client: sent again it is said once
    text: Text = ""
    pictures: Annotated[list[PictureName], Meta(max_length=9)] = []
    mentions: Annotated[list[Annotated[str, Meta(max_length=36, pattern=fields.CLEAN)]], Meta(max_length=50)] = []


class Person(msgspec.Struct):
    """Somebody who is in a room."""

    user: str
    name: str


class RoomView(msgspec.Struct):
    """A room, as one user sees it."""

    room: str
    title: str
    last: ChatMessage | None
    unread: int
    mentioned: bool  # of what is unread something calls this user


class History(msgspec.Struct):
    """Messages of a room in their order."""

    messages: list[ChatMessage]
    more: bool  # there are others beyond these
    read: int  # how far this user has read, seq


class Read(msgspec.Struct):
    """How far one has read."""

    seq: fields.Micros


class PictureKept(msgspec.Struct):
    """A picture that can be sent with a message."""

    picture: str


class Picture(msgspec.Struct):
    """A picture as a form."""

    picture: UploadFile


class Subject(msgspec.Struct, frozen=True):
    """What a room is about."""

    room: str
    site: str
    camera: str
    title: str
    needs: str = "chat.view"  # permissions that one who hears of it must have there
    owner: str = ""  # user who hears of it besides
    cameras: tuple[str, ...] = ()  # of an episode: all of them, for the live feed alone


def tell(db: Session, about: Subject, kind: str, data: dict[str, Any], users: tuple[str, ...] = ()) -> None:
    """To whoever may see the room (an inspection's owner may hear it twice)."""
    live.tell(db, live.Event(kind, data, about.site, about.camera, about.needs, users,
                             cameras=about.cameras))
    if about.owner and (not users or about.owner in users):
        live.tell(db, live.Event(kind, data, about.site, about.camera, "inspections.view", (about.owner,)))


def subject(db: Session, who: Who, room: str, permission: str = "chat.view") -> Subject:
    """Raises Problem 404 for a room there is not, or of a thing this user may not see."""
    kind, _, id = room.partition(":")
    found: Subject | None = None
    cameras: tuple[str, ...] = ()
    own = False
    if kind == "site" and (site := db.get(Site, id)):
        found = Subject(room, id, "", site.name or id)
    elif kind == "camera" and (camera := db.get(CameraRow, id)):
        found = Subject(room, camera.site, id, camera.name or id, "chat.view cameras.view")
    elif kind == "episode" and (episode := db.get(EpisodeRow, id)):
        cameras = tuple(episode.cameras)
        # who may see some of its cameras is not told of the others
        mine = [camera for camera in cameras if who.may("compliance.view", episode.site, camera)]
        found = Subject(room, episode.site, mine[0] if mine else "", f"{episode.state} {', '.join(mine)}",
                        "chat.view compliance.view", cameras=live.of_cameras(cameras))
    elif kind == "inspection" and (inspection := db.get(Inspection, id)):
        own = inspections.own(who, inspection)
        found = Subject(room, inspection.site, "", inspection.id[:8], "chat.view inspections.review", inspection.user)
    if found is None:
        raise missing("room", room)
    of = found.needs.split()[-1]  # what the thing itself asks for
    places = [(found.site, camera) for camera in (*cameras, found.camera)]
    if not own and not any(who.may(permission, *place) and who.may(of, *place) for place in places):
        raise missing("room", room)
    return found


def say(db: Session, who: Who, producer: Producer, about: Subject, message: Say) -> ChatMessage:
    """The message with its number; the one that was said before under its id."""
    known = db.get(ChatRow, str(message.id))
    if known is not None:
        if (known.user, known.room) != (who.id, about.room):
            raise Problem(409, "another message has this id", f"expected a new id, got {message.id}")
        return said(known)
    if not message.text.strip() and not message.pictures:
        raise Problem(422, "nothing said", "expected text or a picture, got neither")
    own = pictures_of(about.room)
    if wrong := [name for name in message.pictures if not name.startswith(own)]:
        raise Problem(422, "no such picture", f"expected pictures sent to this room, got {wrong[0]}")
    # numbers are given out and committed one after the other within a room: who resumes after a number misses nothing
    db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(about.room, 0))))
    called = list(db.scalars(select(User.id).where(User.id.in_(message.mentions)))) if message.mentions else []
    row = ChatRow(id=str(message.id), room=about.room, at=micros(now()), user=who.id, name=who.name, site=about.site,
                  camera=about.camera if about.room == f"camera:{about.camera}" else "", text=message.text,
                  pictures=list(message.pictures), mentions=called)
    db.add(row)
    db.flush()
    told = said(row)
    producer.later(db, "chat", told)
    _mark(db, who.id, about.room, row.seq)
    short = {"id": row.id, "room": row.room, "seq": row.seq, "user": row.user, "name": row.name,
             "text": row.text[:200]}
    tell(db, about, "chat.message", short)
    if called:
        tell(db, about, "chat.mention", short, tuple(called))
    return told


def _veiled(db: Session, about: Subject) -> bool:
    """Whether no face may be kept in a picture of this room: nobody in it is anybody's subject."""
    site = db.get(Site, about.site)
    if site is not None and (site.blur_others or site.privacy == "anonymous"):
        return True
    cameras = db.scalars(select(CameraRow).where(CameraRow.id.in_({*about.cameras, about.camera})))
    return any(row.camera.privacy == "anonymous" for row in cameras)


def pictures_of(room: str) -> str:
    return f"chat/{hashlib.sha256(room.encode()).hexdigest()[:16]}/"


def _mark(db: Session, user: str, room: str, seq: int) -> None:
    db.execute(insert(ChatRead).values(user=user, room=room, seq=seq).on_conflict_do_update(
        index_elements=["user", "room"], set_={"seq": func.greatest(ChatRead.seq, seq)}))


def spoken(about: Subject) -> ColumnElement[bool]:
    """What was said in a room. What was said of a camera at another site, before it moved, is that site's."""
    of = ChatRow.room == about.room
    return of & (ChatRow.site == about.site) if about.room == f"camera:{about.camera}" else of


def history(db: Session, about: Subject, since: int | None, before: int | None, limit: int
            ) -> tuple[list[ChatMessage], bool]:
    """After `since` the oldest first come; else the newest before `before`. Always in their order."""
    query = select(ChatRow).where(spoken(about))
    if since is not None:
        rows = list(db.scalars(query.where(ChatRow.seq > since).order_by(ChatRow.seq).limit(limit + 1)))
        return [said(row) for row in rows[:limit]], len(rows) > limit
    if before is not None:
        query = query.where(ChatRow.seq < before)
    rows = list(db.scalars(query.order_by(ChatRow.seq.desc()).limit(limit + 1)))
    return [said(row) for row in reversed(rows[:limit])], len(rows) > limit


def people(db: Session, room: str) -> list[Person]:
    rows = db.execute(select(Presence.user, Presence.name).where(Presence.room == room, Presence.seen > now() - GONE)
                      .distinct().order_by(Presence.name))
    return [Person(user, name) for user, name in rows]


# -- by requests ------------------------------------------------------------------------------------------------------


@get("/rooms", opt=needs("chat.view"), sync_to_thread=True, summary="The rooms one may see")
def rooms(db: Db, who: By) -> list[RoomView]:
    """Every site's room, and the hundred others that one may see in which something was said last."""
    sites = [f"site:{site}" for site in db.scalars(select(Site.id).order_by(Site.id))]
    newest = select(ChatRow.room, func.max(ChatRow.seq).label("last")).group_by(ChatRow.room).subquery()
    recent = db.scalars(select(newest.c.room).where(_visible(who, newest.c.room)).order_by(newest.c.last.desc())
                        .limit(NEWEST)).all()
    seen: list[RoomView] = []
    for room in [*sites, *recent]:
        try:
            about = subject(db, who, room)
        except Problem:
            continue
        read = db.scalar(select(ChatRead.seq).where(ChatRead.user == who.id, ChatRead.room == room)) or 0
        fresh = spoken(about) & (ChatRow.seq > read) & (ChatRow.user != who.id) & (ChatRow.removed == 0)
        unread = db.scalar(select(func.count()).select_from(ChatRow).where(fresh)) or 0
        called = literal(who.id) == func.any(ChatRow.mentions)
        mentioned = bool(unread and db.scalar(select(ChatRow.id).where(fresh, called).limit(1)))
        last, _ = history(db, about, None, None, 1)
        seen.append(RoomView(room, about.title, last[0] if last else None, unread, mentioned))
    return seen


def _visible(who: Who, room: ColumnElement[str]) -> ColumnElement[bool]:
    """Rooms of cameras, episodes and inspections that this user may see; `subject` has the last word."""
    def of(kind: str, id: Any, *where: ColumnElement[bool]) -> ColumnElement[bool]:
        return room.startswith(f"{kind}:") & exists().where(id == func.substr(room, len(kind) + 2), *where)

    chat = who.scope("chat.view")
    own = (Inspection.user == who.id) & who.scope("inspections.view").where(Inspection.site)
    reviewed = chat.where(Inspection.site) & who.scope("inspections.review").where(Inspection.site)
    return or_(
        of("camera", CameraRow.id, *(scope.where(CameraRow.site, CameraRow.id)
                                     for scope in (chat, who.scope("cameras.view")))),
        of("episode", EpisodeRow.id, *(scope.shows_any(EpisodeRow.site, EpisodeRow.cameras)
                                       for scope in (chat, who.scope("compliance.view")))),
        of("inspection", Inspection.id, or_(own, reviewed)),
    )


@get("/rooms/{room:str}/messages", opt=needs("chat.view"), sync_to_thread=True, summary="What was said in a room")
def messages(db: Db, who: By, room: RoomPath, since: ranges.Bound = None, before: ranges.Bound = None,
             limit: pages.Limit = HISTORY) -> History:
    """`since`: what came after that `seq`, oldest first. Else the newest, or the newest before `before`."""
    found, more = history(db, subject(db, who, room), since, before, limit)
    read = db.scalar(select(ChatRead.seq).where(ChatRead.user == who.id, ChatRead.room == room)) or 0
    return History(found, more, read)


@post("/rooms/{room:str}/messages", opt=needs("chat.add"), sync_to_thread=True, summary="Say something")
def add(request: Request[Any, Any, Any], db: Db, who: By, room: RoomPath, data: JSONBody[Say]) -> ChatMessage:
    return say(db, who, request.app.state.producer, subject(db, who, room, "chat.add"), data)


@delete_("/rooms/{room:str}/messages/{id:uuid}", opt=needs("chat.view"), sync_to_thread=True, status_code=HTTP_200_OK,
         summary="Take a message back")
def take_back(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, room: RoomPath, id: FromPath[UUID]
              ) -> ChatMessage:
    """One's own, or with `chat.remove` anybody's. That there was one, of whom, and who took it back when, stays."""
    about = subject(db, who, room)
    row = db.scalar(select(ChatRow).where(ChatRow.id == str(id), spoken(about)).with_for_update())
    if row is None:
        raise missing("message", str(id))
    if row.user != who.id and not who.may("chat.remove", about.site, about.camera):
        raise Problem(403, "not yours", "expected a message of one's own, or the permission chat.remove here")
    if row.removed:
        return said(row)
    names = set(row.pictures)
    table.take_back(db, row.id, micros(now()), who.id)
    db.refresh(row)
    told = said(row)
    producer: Producer = request.app.state.producer
    producer.later(db, "chat", told)
    audit.write(db, who.id, "chat.remove", row.id, site=row.site, camera=row.camera, address=who.address, room=room,
                author=row.user)
    tell(db, about, "chat.removed", {"id": row.id, "room": room, "seq": row.seq})
    shown = db.scalars(select(ChatRow.pictures).where(ChatRow.room == room, ChatRow.pictures.overlap(sorted(names))))
    pictures.store(settings).delete(names.difference(*shown))  # the same picture may have been sent twice
    return told


@put("/rooms/{room:str}/read", opt=needs("chat.view"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
     summary="Everything up to a message was read")
def read(db: Db, who: By, room: RoomPath, data: JSONBody[Read]) -> None:
    subject(db, who, room)
    _mark(db, who.id, room, data.seq)


@get("/rooms/{room:str}/people", opt=needs("chat.view"), sync_to_thread=True, summary="Who is in a room now")
def present(db: Db, who: By, room: RoomPath) -> list[Person]:
    subject(db, who, room)
    return people(db, room)


@post("/rooms/{room:str}/pictures", opt=needs("chat.add"), request_max_body_size=uploads.MOST_BYTES + 65536,
      summary="Put a picture where a message can show it")
@waits
def upload(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, room: RoomPath,
           data: MultipartBody[Picture]) -> PictureKept:
    """JPEG, PNG or WebP; encoded anew, without EXIF. Its name then goes into a message's `pictures`. At a site that is
    anonymous or blurs other people's faces, every face that is found in it is made unrecognisable."""
    about = subject(db, who, room, "chat.add")
    lately = db.scalar(select(func.count()).select_from(Audit).where(
        Audit.user == who.id, Audit.action == "chat.picture", Audit.at > now() - WITHIN)) or 0
    if lately >= UPLOADS:
        raise Problem(429, "too many pictures", f"expected at most {UPLOADS} in {WITHIN.seconds // 60} minutes",
                      headers={"Retry-After": "60"})
    made = uploads.read(data.picture.file.read(uploads.MOST_BYTES + 1), side=1280)
    jpeg = made.jpeg
    if _veiled(db, about):
        faces = sight.of(request.app.state).look(made.image)
        jpeg = encode(blurred(made.image, [face.box for face in faces]), 88) if faces else jpeg
    name = f"{pictures_of(room)}{hashlib.sha256(jpeg).hexdigest()[:32]}.jpg"
    pictures.store(settings).put(name, jpeg)
    audit.write(db, who.id, "chat.picture", room, address=who.address)
    return PictureKept(name)


@get("/rooms/{room:str}/pictures/{name:str}", opt=needs("chat.view"), sync_to_thread=True, media_type="image/jpeg",
     summary="A picture that was sent")
def picture(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, room: RoomPath,
            name: Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}\.jpg$")]) -> Response[bytes]:
    about = subject(db, who, room)
    found = pictures.store(settings).get(pictures_of(room) + name)
    if found is None:
        raise missing("picture", name)
    audit.write(db, who.id, "chat.look", room, site=about.site, camera=about.camera, address=who.address, picture=name)
    return pictures.answer(request, found)


# -- by a socket ------------------------------------------------------------------------------------------------------


class _Heard(msgspec.Struct):
    """What a client may send."""

    join: Room | None = None
    leave: Room | None = None
    read: Room | None = None
    room: Room | None = None
    since: fields.Micros | None = None
    seq: fields.Micros = 0
    id: UUID | None = None
    text: Text = ""
    pictures: Annotated[list[PictureName], Meta(max_length=9)] = []
    mentions: Annotated[list[Annotated[str, Meta(max_length=36, pattern=fields.CLEAN)]], Meta(max_length=50)] = []


@websocket("/socket", opt=needs("chat.view"))
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    """See the head of this file. Ends when the login ends."""
    await _Talk(socket).run()


class _Talk:
    """One open socket."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self.socket = socket
        self.who = identify(socket)
        self.sessions = socket.app.state.sessions
        self.hub: Hub = socket.app.state.hub
        self.listener = Listener(self.who)
        self.producer: Producer = socket.app.state.producer
        self.name = made_id()
        self.last: dict[str, int] = {}  # joined room -> seq of the last message sent to the client
        self.sending = asyncio.Lock()

    async def run(self) -> None:
        await self.socket.accept()
        guard = self.hub.guard(self.listener, self._again)
        tasks = [asyncio.create_task(each) for each in (self._hear(), self._pass_on(), self._renew(), guard)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for fault in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(fault, Exception) and not isinstance(fault, GONE_AWAY):
                    log.error("chat socket ended", user=self.who.id, exc_info=fault)
            with suppress(SQLAlchemyError):  # then they are gone when they are not renewed
                await self._do(lambda db: self._go(db, list(self.last)))
            with suppress(*GONE_AWAY):
                await self.socket.close()

    async def _do(self, work: Callable[[Session], T]) -> T:
        def run() -> T:
            with self.sessions() as db, db.begin():
                return work(db)

        return await sync_to_thread(run)

    async def _send(self, content: Any) -> None:
        async with self.sending:
            await self.socket.send_text(msgspec.json.encode(content).decode())

    async def _hear(self) -> None:
        while True:
            try:
                text = await self.socket.receive_text()
            except (WebSocketDisconnect, RuntimeError):
                return
            heard: _Heard | None = None
            try:
                if len(text) > 16_384:
                    raise Problem(413, "too large", f"expected at most 16,384 characters, got {len(text)}")
                heard = msgspec.json.decode(text, type=_Heard)
                await self._obey(heard)
            except msgspec.MsgspecError as error:
                await self._send({"problem": {"title": "cannot be taken", "status": 422, "detail": str(error)}})
            except HTTPException as error:
                title = error.title if isinstance(error, Problem) else "error"
                about = {"id": str(heard.id), "room": heard.room} if heard and heard.id else {}
                await self._send({"problem": {"title": title, "status": error.status_code, "detail": error.detail,
                                              **about}})

    async def _obey(self, heard: _Heard) -> None:
        if heard.join:
            await self._join(heard.join, heard.since)
        elif heard.leave:
            if self.last.pop(heard.leave, None) is not None:
                await self._do(lambda db: self._go(db, [heard.leave or ""]))
        elif heard.read:
            await self._do(lambda db: (subject(db, self.who, heard.read or ""),
                                       _mark(db, self.who.id, heard.read or "", heard.seq)))
        elif heard.room and heard.id:
            message = Say(heard.id, heard.text, heard.pictures, heard.mentions)
            told = await self._do(lambda db: say(db, self.who, self.producer,
                                                 subject(db, self.who, heard.room or "", "chat.add"), message))
            if heard.room not in self.last:
                await self._send({"message": told})
        else:
            raise Problem(422, "cannot be taken", "expected join, leave, read, or a room with an id and a text")

    async def _join(self, room: str, since: int | None) -> None:
        if len(self.last) >= MOST_JOINED and room not in self.last:
            raise Problem(409, "too many rooms", f"expected at most {MOST_JOINED} on a socket")

        def work(db: Session) -> tuple[list[ChatMessage], list[ChatMessage], bool, list[Person]]:
            about = subject(db, self.who, room)
            db.execute(insert(Presence).values(socket=self.name, room=room, user=self.who.id, name=self.who.name)
                       .on_conflict_do_update(index_elements=["socket", "room"], set_={"seen": func.now()}))
            tell(db, about, "chat.people", {"room": room})
            gone = db.scalars(select(ChatRow).where(spoken(about), ChatRow.seq <= (since or 0), ChatRow.removed > 0)
                              .order_by(ChatRow.removed.desc()).limit(HISTORY))
            return [said(row) for row in gone], *history(db, about, since, None, HISTORY), people(db, room)

        gone, found, more, here = await self._do(work)
        for message in gone + found:
            await self._send({"message": message})
        self.last[room] = found[-1].seq if found else since or 0
        await self._send({"joined": room, "last": self.last[room], "more": more, "people": here})
        if not more:
            await self._catch_up(room)  # what was said since we looked, before we listened

    async def _pass_on(self) -> None:
        async for event, _ in self.hub.events(self.listener):
            if event.kind == "lost":
                for room in list(self.last):
                    await self._catch_up(room)
            elif event.kind == "chat.message" and event.data["room"] in self.last:
                await self._catch_up(event.data["room"])
            elif event.kind == "chat.removed" and event.data["room"] in self.last:
                row = await self._do(lambda db, id=event.data["id"]: db.get(ChatRow, id))
                if row is not None:
                    await self._send({"message": said(row)})
            elif event.kind == "chat.people" and event.data["room"] in self.last:
                room = event.data["room"]
                await self._send({"room": room, "people": await self._do(lambda db, room=room: people(db, room))})

    def _since(self, db: Session, room: str) -> tuple[list[ChatMessage], bool]:
        try:
            about = subject(db, self.who, room)
        except Problem:  # not any more: `_again` leaves it
            return [], False
        return history(db, about, self.last.get(room, 0), None, HISTORY)

    async def _catch_up(self, room: str) -> None:
        """Everything after the last that was sent, from the table: an event only says that there is something."""
        while room in self.last:
            found, more = await self._do(lambda db: self._since(db, room))
            for message in found:
                if room in self.last and message.seq > self.last[room]:
                    self.last[room] = message.seq
                    await self._send({"message": message})
            if not more:
                return

    async def _renew(self) -> None:
        """Presence."""
        while True:
            await asyncio.sleep(RENEWED)
            await self._do(lambda db: db.execute(update(Presence).where(Presence.socket == self.name).values(
                seen=func.now())))

    async def _again(self) -> Who:
        """Who they are now; rooms that they may not see any more fall silent."""
        self.socket.scope["state"].pop("who", None)
        self.who = await sync_to_thread(identify, self.socket)

        def closed(db: Session) -> list[str]:
            left = []
            for room in list(self.last):
                try:
                    subject(db, self.who, room)
                except Problem:
                    left.append(room)
            return left

        if self.last and (gone := await self._do(closed)):
            for room in gone:
                self.last.pop(room, None)
            await self._do(lambda db: self._go(db, gone))
        return self.who

    def _go(self, db: Session, rooms: list[str]) -> None:
        db.execute(delete(Presence).where(Presence.socket == self.name, Presence.room.in_(rooms)))
        db.execute(delete(Presence).where(Presence.seen < now() - 10 * GONE))
        for room in rooms:
            with suppress(Problem):
                about = subject(db, self.who, room)
                tell(db, about, "chat.people", {"room": room})


router = Router("/v1/chat", route_handlers=[rooms, messages, add, take_back, read, present, upload, picture,
                                             socket],
                tags=["chat"])
