"""A write with an `Idempotency-Key` is done once: sent again within a day it gets the same answer.

The key belongs to the user. The same key with another request is refused, and so is an answer that was given under
rights which have ended since. That it was done is written in the transaction that does it: a process that dies before
the answer was kept, or a client that goes, leaves a key that says so. Only of what ended before that transaction is the
key free again, after a minute. Answers that hold faces, pictures or secrets are never kept (`auth.needs(…,
kept=False)`): such a request is done anew each time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from api.auth import identify
from api.db import now
from api.permissions import PERMISSIONS, Who
from api.problems import Problem
from api.tables.idempotency import BEGUN, DONE, Answered

HEADER = b"idempotency-key"
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEPT, UNDECIDED = timedelta(days=1), timedelta(minutes=1)
MOST = 1 << 20  # bytes of an answer that is kept
CLAIM = "idempotency"  # in the state of a request: what it does under a key


@dataclass(frozen=True)
class Claim:
    """A request that is being done under a key."""

    user: str
    key: str
    request: str  # SHA-256 of method, path, query and body
    reach: list[Any]  # of the right it is done under: everywhere, sites, [site, camera] each
    at: datetime = field(default_factory=now)  # tells it from one that began later under the same key

    def row(self, *statuses: int) -> tuple[Any, ...]:
        """As a condition on rows."""
        return (Answered.user == self.user, Answered.key == self.key, Answered.at == self.at,
                Answered.status.in_(statuses))


class Idempotency(ASGIMiddleware):
    """Looks at writes that carry a key; everything else passes."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        key = next((value for name, value in scope["headers"] if name == HEADER), b"").decode("latin-1")
        handler = scope["route_handler"]
        if not key or scope["method"] not in WRITES or not isinstance(handler, HTTPRouteHandler) or not handler.opt.get(
                "kept", True):
            await next_app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope, receive)
        try:
            who = await sync_to_thread(identify, request)
        except HTTPException:
            await next_app(scope, receive, send)  # whoever is not logged in is refused, or logs in, as always
            return
        if not (1 <= len(key) <= 200 and key.isprintable() and key.isascii()):
            raise Problem(400, "bad key", "expected an Idempotency-Key of 1 to 200 printable ASCII characters")
        await handler.authorize_connection(request)  # what was answered before is for whoever may still ask for it
        body = await _whole(request, handler.resolve_request_max_body_size())
        if body is None:
            return  # the client has gone before it had said everything: nothing was asked for
        claim = Claim(who.id, key, _digest(request, body), reach(who, handler))
        make: sessionmaker[Session] = scope["litestar_app"].state.sessions
        kept = await sync_to_thread(begin, make, claim, who, handler)
        if kept is not None:
            await send({"type": "http.response.start", "status": kept.status, "headers": [
                *((n.encode("latin-1"), v.encode("latin-1")) for n, v in kept.headers),
                (b"idempotent-replayed", b"true")]})
            await send({"type": "http.response.body", "body": kept.body, "more_body": False})
            return
        answer = _Answer(send)
        scope["state"][CLAIM] = claim
        try:
            await next_app(scope, _again(body, receive), answer)
        except Exception:
            await sync_to_thread(forget, make, claim)
            raise
        # not when it was cancelled: its thread may be committing
        await sync_to_thread(finish, make, claim, answer)


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


async def _whole(request: Request[Any, Any, Any], most: int | None) -> bytes | None:
    """The body; None: the client went before the end of it. Raises RequestEntityTooLarge where the route would."""
    if most is not None and (request.content_length or 0) > most:
        raise RequestEntityTooLarge
    parts, size, left = [], 0, True
    while left:
        message = await request.receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        size += len(message["body"])
        if most is not None and size > most:
            raise RequestEntityTooLarge
        left = message["more_body"]
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that has been read once more."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _digest(request: Request[Any, Any, Any], body: bytes) -> str:
    """What makes a request the same. The line between the parts of a form is another one each time it is sent."""
    if line := request.content_type[1].get("boundary"):
        body = body.replace(b"--" + line.encode(), b"--")
    scope = request.scope
    return hashlib.sha256(b"\0".join((scope["method"].encode(), scope["path"].encode(), scope["query_string"], body))
                          ).hexdigest()


def reach(who: Who, handler: HTTPRouteHandler) -> list[Any]:
    """Where the right holds that a route needs."""
    if handler.opt.get("needs") not in PERMISSIONS:
        return [False, [], []]
    scope = who.scope(handler.opt["needs"])
    return [scope.everywhere, sorted(scope.sites), [list(each) for each in sorted(scope.cameras)]]


def _still(who: Who, handler: HTTPRouteHandler, before: list[Any]) -> bool:
    """Whether the right reaches at least as far as it did."""
    everywhere, sites, cameras = before
    if not (everywhere or sites or cameras):
        return True
    scope = who.scope(handler.opt["needs"])
    return scope.everywhere or (not everywhere and all(scope.covers(site) for site in sites)
                                and all(scope.covers(site, camera) for site, camera in cameras))


def begin(make: sessionmaker[Session], claim: Claim, who: Who, handler: HTTPRouteHandler) -> Answered | None:
    """The answer that was given before; None: it is ours to do. Raises Problem 409 while another one does it and when
    its answer cannot be given (any more), 422 when the key was used for something else."""
    with make() as session, session.begin():
        purge(session)
        fresh = session.execute(insert(Answered).values(
            user=claim.user, key=claim.key, request=claim.request, status=BEGUN, headers=[], body=b"",
            reach=claim.reach, at=claim.at).on_conflict_do_nothing().returning(Answered.key))
        if fresh.first():
            return None
        found = session.scalars(select(Answered).where(Answered.user == claim.user, Answered.key == claim.key)
                                .with_for_update()).one_or_none()
        if found is None:  # it has failed just now: whoever asks again does it
            raise Problem(409, "being done", "the same request is being answered; try again", {"Retry-After": "1"})
        if found.request != claim.request:
            raise Problem(422, "key used before", "this Idempotency-Key came with another request before")
        if found.status == BEGUN:
            if found.at > claim.at - UNDECIDED:
                raise Problem(409, "being done", "the same request is being answered; try again", {"Retry-After": "2"})
            found.at, found.reach = claim.at, claim.reach
            return None
        if not _still(who, handler, found.reach):
            raise Problem(409, "done before", "it was done, and answered under rights that have ended since")
        if found.status == DONE:
            raise Problem(409, "done before", "it was done, and its answer was not kept: look at what is there")
        return found


def done(session: Session, scope: Scope) -> None:
    """Says in the transaction of a request that it is done, where it came under a key. Raises Problem 409 when it took
    so long that somebody else has begun it."""
    claim: Claim | None = scope["state"].get(CLAIM)
    if claim is not None and not session.execute(
            update(Answered).where(*claim.row(BEGUN)).values(status=DONE)).rowcount:  # type: ignore[attr-defined]
        raise Problem(409, "being done", "the same request is being answered; try again", {"Retry-After": "2"})


def finish(make: sessionmaker[Session], claim: Claim, answer: _Answer) -> None:
    """What failed on our side may be tried again under its key; what was done and is too large to keep may not."""
    if answer.status >= 500 or answer.status == 429 or len(answer.body) > MOST:
        forget(make, claim)
        return
    with make() as session, session.begin():
        session.execute(update(Answered).where(*claim.row(BEGUN, DONE)).values(
            status=answer.status, headers=answer.headers, body=answer.body))


def forget(make: sessionmaker[Session], claim: Claim) -> None:
    """What was not done."""
    with make() as session, session.begin():
        session.execute(delete(Answered).where(*claim.row(BEGUN)))


def purge(session: Session) -> None:
    """Answers are kept for a day; the retention job asks for this, and so does every use of a key."""
    session.execute(delete(Answered).where(Answered.at < now() - KEPT))
