"""A write with an `Idempotency-Key` is done once: sent again within a day it gets the same answer.

The key belongs to the user. The same key with another request is refused. Of a process that dies after the write and
before the answer was kept, the key is free again after a minute: then only what the route itself takes once is safe
(ids made by the client do that for inspections, photos and chat).
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from api.auth import identify
from api.db import now
from api.problems import Problem
from api.tables.idempotency import Answered

HEADER = b"idempotency-key"
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEPT, UNDECIDED = timedelta(days=1), timedelta(minutes=1)
MOST = 1 << 20  # bytes of an answer that is kept; what is larger is not repeatable


class Idempotency(ASGIMiddleware):
    """Looks at writes that carry a key; everything else passes."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        key = next((value for name, value in scope["headers"] if name == HEADER), b"").decode("latin-1")
        if not key or scope["method"] not in WRITES:
            await next_app(scope, receive, send)
            return
        connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
        try:
            who = await sync_to_thread(identify, connection)
        except HTTPException:
            await next_app(scope, receive, send)  # whoever is not logged in is refused, or logs in, as always
            return
        if not (1 <= len(key) <= 200 and key.isprintable() and key.isascii()):
            raise Problem(400, "bad key", "expected an Idempotency-Key of 1 to 200 printable ASCII characters")
        body, again = await _whole(receive)
        name = hashlib.sha256(b"\0".join((scope["method"].encode(), scope["path"].encode(), scope["query_string"],
                                          body))).hexdigest()
        make = scope["litestar_app"].state.sessions
        kept = await sync_to_thread(begin, make, who.id, key, name)
        if kept is not None:
            await send({"type": "http.response.start", "status": kept.status, "headers": [
                *((n.encode("latin-1"), v.encode("latin-1")) for n, v in kept.headers),
                (b"idempotent-replayed", b"true")]})
            await send({"type": "http.response.body", "body": kept.body, "more_body": False})
            return
        answer = _Answer(send)
        try:
            await next_app(scope, again, answer)
        except BaseException:
            await sync_to_thread(forget, make, who.id, key)
            raise
        await sync_to_thread(finish, make, who.id, key, answer)


class _Answer:
    """Passes the answer on and remembers it."""

    def __init__(self, send: Send) -> None:
        self.send, self.status = send, 500
        self.headers: list[list[str]] = []
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in message["headers"]
                            if n.lower() != b"set-cookie"]
        elif message["type"] == "http.response.body" and len(self.body) <= MOST:
            self.body += message.get("body", b"")
        await self.send(message)


async def _whole(receive: Receive) -> tuple[bytes, Receive]:
    """The body, and a `receive` that gives it again."""
    parts, left = [], True
    while left:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        left = message.get("more_body", False)
    body, given = b"".join(parts), False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return body, again


def begin(make: sessionmaker[Session], user: str, key: str, request: str) -> Answered | None:
    """The answer that was given before; None: it is ours to do. Raises Problem 409 while another one does it, 422 when
    the key was used for something else."""
    with make() as session, session.begin():
        session.execute(delete(Answered).where(Answered.at < now() - KEPT))
        fresh = session.execute(insert(Answered).values(user=user, key=key, request=request, status=0, headers=[],
                                                        body=b"").on_conflict_do_nothing().returning(Answered.key))
        if fresh.first():
            return None
        found = session.scalars(select(Answered).where(Answered.user == user, Answered.key == key)
                                .with_for_update()).one()
        if found.request != request:
            raise Problem(422, "key used before", "this Idempotency-Key came with another request before")
        if found.status:
            return found
        if found.at > now() - UNDECIDED:
            raise Problem(409, "being done", "the same request is being answered; try again", {"Retry-After": "2"})
        found.at = now()
        return None


def finish(make: sessionmaker[Session], user: str, key: str, answer: _Answer) -> None:
    """What failed on our side may be tried again under its key; so may what is too large to keep."""
    if answer.status >= 500 or answer.status == 429 or len(answer.body) > MOST:
        forget(make, user, key)
        return
    with make() as session, session.begin():
        session.execute(update(Answered).where(Answered.user == user, Answered.key == key).values(
            status=answer.status, headers=answer.headers, body=answer.body))


def forget(make: sessionmaker[Session], user: str, key: str) -> None:
    with make() as session, session.begin():
        session.execute(delete(Answered).where(Answered.user == user, Answered.key == key))
