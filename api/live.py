"""What happens, as it happens: told in the transaction that writes it, passed on to every listener who may know it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.permissions import Who

log = structlog.get_logger()
CHANNEL = "maskwatch"
MOST = 7_900  # bytes; PostgreSQL refuses a notification of 8,000
WAITING = 1_000  # events a slow listener may be behind; then it is told to fetch everything anew
CAMERAS = 80  # named in an event: their ids have 63 characters at most
BEAT = 10.0  # seconds between signs of life


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
    """Goes out when the transaction commits. Raises ValueError when it is too large to be passed on."""
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
    return event if all(who.may(each, event.site or None, event.camera) for each in needs) else None


class Listener:
    """One open connection."""

    def __init__(self, who: Who) -> None:
        self.who = who
        self.queue: asyncio.Queue[tuple[Event, bytes]] = asyncio.Queue(WAITING)
        self.lagged = False

    def offer(self, event: Event, line: bytes) -> None:
        mine = known(self.who, event)
        if mine is None:
            return
        try:
            self.queue.put_nowait((mine, line if mine is event else msgspec.json.encode(mine)))
        except asyncio.QueueFull:
            self.lagged = True


class Hub:
    """One of a process: hears the database's notifications and hands each to the listeners that may know it."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("+psycopg", "")
        self.listeners: set[Listener] = set()
        self.heard = 0
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
                connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True, connect_timeout=5)
                async with connection:
                    await connection.execute(f"listen {CHANNEL}")
                    self.connected.set()
                    self._lost()  # what was told while nobody listened is not known here
                    async for note in connection.notifies():
                        self.hear(note.payload.encode())
            except (psycopg.Error, OSError) as error:
                log.warning("live feed: database gone", error=str(error).strip())
            self.connected.clear()
            await asyncio.sleep(1)

    def _lost(self) -> None:
        for listener in self.listeners:
            listener.lagged = True

    def hear(self, payload: bytes) -> None:
        self.heard += 1
        event = msgspec.structs.replace(msgspec.json.decode(payload, type=Event), id=self.heard)
        line = msgspec.json.encode(event)
        for listener in self.listeners:
            listener.offer(event, line)

    async def events(self, listener: Listener) -> AsyncIterator[tuple[Event, bytes]]:
        """Until the caller stops asking: events with their JSON; `beat` when nothing happened for BEAT seconds, `lost`
        when events had to be left out and everything should be fetched anew."""
        self.listeners.add(listener)
        try:
            yield _own("hello", at=round(time.time() * 1e6))
            while True:
                if listener.lagged:
                    listener.lagged = False
                    while not listener.queue.empty():
                        listener.queue.get_nowait()
                    yield _own("lost")
                try:
                    yield await asyncio.wait_for(listener.queue.get(), BEAT)
                except TimeoutError:
                    yield _own("beat", at=round(time.time() * 1e6), connected=self.connected.is_set())
        finally:
            self.listeners.discard(listener)


def _own(kind: str, **data: Any) -> tuple[Event, bytes]:
    event = Event(kind, data)
    return event, msgspec.json.encode(event)
