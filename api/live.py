"""What happens, as it happens: told in the transaction that writes it, passed on to every listener who may know it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
import structlog
from litestar.exceptions import HTTPException
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.db import CONNECTION
from api.permissions import Who, unknown

log = structlog.get_logger()
CHANNEL = "maskwatch"
MOST = 7_900  # bytes; PostgreSQL refuses a notification of 8,000
WAITING = 1_000  # events a slow listener may be behind; then it is told to fetch everything anew
CAMERAS = 80  # named in an event: their ids have 63 characters at most
BEAT = 10.0  # seconds between signs of life
AGAIN = 5.0  # seconds between two looks at whether a listener may still hear what they hear
# every kind that is told (frontend/src/composables/useLive.ts has the same list)
KINDS = frozenset((
    "counts", "camera.status", "camera.changed", "camera.removed", "site.changed", "policy.changed",
    "episode.opened", "episode.changed", "episode.closed", "episode.reviewed", "episode.exempt",
    "alert.made", "alert.acknowledged", "alert.ended", "delivery.changed", "request.changed", "grants.changed",
    "inspection.changed", "inspection.point", "inspection.photo", "inspection.removed",
    "chat.message", "chat.removed", "chat.people", "chat.mention", "person.recognised", "watchlist.hit",
    "replay.changed", "replay.progress", "replay.removed",
))  # fmt: skip


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. Small: whoever wants more asks for it by its id."""

    kind: str  # noun.verb: episode.changed, camera.status, counts, inspection.photo, chat.message, request.changed …
    data: dict[str, Any] = {}
    site: str = ""  # empty: of no site
    camera: str = ""  # empty: of the whole site
    needs: str = ""  # permissions, with spaces between, that a listener must have there; empty: whoever is logged in
    users: tuple[str, ...] = ()  # only for these users
    id: int = 0  # set on arrival: counts the events of this process
    # it is of several: whoever may see one of them hears it, with those alone, and `camera` is the last of these
    cameras: tuple[str, ...] = ()


def tell(session: Session, event: Event) -> None:
    """Goes out when the transaction commits. Raises ValueError for a kind that no page waits for, and when it is too
    large to be passed on."""
    if event.kind not in KINDS:
        raise ValueError(f"expected a kind of live.KINDS, got {event.kind!r}")
    payload = msgspec.json.encode(event)
    if len(payload) > MOST:
        raise ValueError(f"expected an event of at most {MOST} bytes, got {len(payload)} ({event.kind})")
    session.execute(select(func.pg_notify(CHANNEL, payload.decode())))


def of_cameras(cameras: Iterable[str]) -> tuple[str, ...]:
    """What an event names of a thing seen by these, in order of time: each once, the newest of very many."""
    return tuple(reversed(dict.fromkeys(reversed(tuple(cameras)))))[-CAMERAS:]


def known(who: Who, event: Event) -> Event | None:
    """The event as this user may know it; None: not at all."""
    if event.users and who.id not in event.users:
        return None
    needs = event.needs.split()
    if event.cameras:
        mine = tuple(camera for camera in event.cameras if all(who.may(each, event.site, camera) for each in needs))
        return msgspec.structs.replace(event, camera=mine[-1], cameras=mine) if mine else None
    # of a camera whose site nobody knows (yet) only they hear who have every site
    site = event.site if event.site or event.camera else None
    return event if all(who.may(each, site, event.camera) for each in needs) else None


class Listener:
    """One open connection."""

    def __init__(self, who: Who) -> None:
        self.who = who
        self.queue: asyncio.Queue[tuple[Event, bytes]] = asyncio.Queue(WAITING)
        self.lagged = False
        self.doubted = asyncio.Event()  # its rights are said to have changed
        self.over = False

    def offer(self, event: Event, line: bytes) -> None:
        mine = known(self.who, event)
        if mine is None:
            return
        if event.kind == "grants.changed":
            self.doubted.set()
        try:
            self.queue.put_nowait((mine, line if mine is event else msgspec.json.encode(mine)))
        except asyncio.QueueFull:
            self.lagged = True

    def become(self, who: Who) -> None:
        """The same user with the rights of now: what waits and is not theirs any more goes."""
        if who.grants != self.who.grants:
            for event, line in [self.queue.get_nowait() for _ in range(self.queue.qsize())]:
                if (mine := known(who, event)) is not None:
                    self.queue.put_nowait((mine, line if mine is event else msgspec.json.encode(mine)))
        self.who = who

    def end(self) -> None:
        """Nothing is told any more."""
        self.over = True
        with suppress(asyncio.QueueFull):  # whoever is behind finds out anyway
            self.queue.put_nowait(_own("ended"))


class Hub:
    """One of a process: hears the database's notifications and hands each to the listeners that may know it."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("+psycopg", "")
        self.listeners: set[Listener] = set()
        self.heard = 0
        self.again = AGAIN
        self.connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="live")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"listen {CHANNEL}")
                    self.connected.set()
                    self._lost()  # what was told while nobody listened is not known here
                    async for note in connection.notifies():
                        self.hear(note.payload.encode())
            except (psycopg.Error, OSError, UnicodeError) as error:
                log.warning("live feed: database gone", error=str(error).strip())
            self.connected.clear()
            await asyncio.sleep(1)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self.url, autocommit=True, **CONNECTION)  # type: ignore[arg-type]

    def _lost(self) -> None:
        for listener in self.listeners:
            listener.lagged = True

    def hear(self, payload: bytes) -> None:
        """What is no event is left out: whoever reaches the database can notify anything."""
        self.heard += 1
        try:
            event = msgspec.structs.replace(msgspec.json.decode(payload, type=Event), id=self.heard)
            if wrong := unknown(event.needs.split()):
                raise ValueError(f"expected permissions, got {', '.join(wrong)}")
        except ValueError as error:
            log.error("live feed: not an event", error=str(error)[:300], payload=payload[:100])
            return
        line = msgspec.json.encode(event)
        for listener in self.listeners:
            listener.offer(event, line)

    async def guard(self, listener: Listener, again: Callable[[], Awaitable[Who]]) -> None:
        """Until the login ends, or cannot be looked up: whoever listens is who they are now, by the clock, however much
        or little is told, and at once when their rights are said to have changed. `again` looks them up."""
        # a hundred feeds that begin at once (the server came back) are not to be looked up at once
        wait = self.again * random.random()  # noqa: S311
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(listener.doubted.wait(), wait)
            listener.doubted.clear()
            wait = self.again
            try:
                listener.become(await again())
            except HTTPException:
                listener.end()
                return
            except SQLAlchemyError as error:  # they ask again, and are told nothing before it is known who they are
                log.warning("live feed: a login cannot be looked up", error=type(error).__name__)
                listener.end()
                raise

    async def events(self, listener: Listener) -> AsyncIterator[tuple[Event, bytes]]:
        """Until the caller stops asking or the listener ends: events with their JSON; `beat` when nothing happened for
        BEAT seconds, `lost` when events had to be left out and everything should be fetched anew."""
        self.listeners.add(listener)
        try:
            yield _own("hello", at=round(time.time() * 1e6))
            while not listener.over:
                if listener.lagged:
                    listener.lagged = False
                    while not listener.queue.empty():
                        listener.queue.get_nowait()
                    yield _own("lost")
                try:
                    told = await asyncio.wait_for(listener.queue.get(), BEAT)
                    if not listener.over:
                        yield told
                except TimeoutError:
                    yield _own("beat", at=round(time.time() * 1e6), connected=self.connected.is_set())
        finally:
            self.listeners.discard(listener)


def _own(kind: str, **data: Any) -> tuple[Event, bytes]:
    event = Event(kind, data)
    return event, msgspec.json.encode(event)
