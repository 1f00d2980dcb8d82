"""create_app(): the routes, what they may ask for, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar, Request, Router
from litestar.concurrency import sync_to_thread
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.exceptions import ClientException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope
from sqlalchemy import Engine, QueuePool
from sqlalchemy.orm import Session

from api import auth, db, idempotency, metrics, problems, waiting
from api.clips import Clips
from api.examples import WithExamples
from api.footage import Log
from api.live import Hub
from api.permissions import Who
from api.problems import Problem
from api.publish import Producer
from api.routes import ROUTERS
from api.video.films import Films
from api.video.mediamtx import Door
from api.watch import Watch
from pipeline.settings import Settings

# requests that hold a connection of the database, besides those that wait for something else (waiting.AT_ONCE);
# connections for logins and what runs beside
AT_ONCE, SPARE = 16, 6
GIVEN_UP = 5.0  # s
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def returned(engine: Engine) -> None:
    """Returns once every connection is back in the pool, GIVEN_UP s at most: who went away from a feed may have left a
    query behind that still runs in its thread."""
    ends = time.monotonic() + GIVEN_UP
    while isinstance(pool := engine.pool, QueuePool) and pool.checkedout() and time.monotonic() < ends:
        time.sleep(0.02)


def create_app(settings: Settings) -> Litestar:
    """The tables must be there (`maskwatch up`, or `api.migrations.upgrade`)."""
    engine = db.connect(settings, AT_ONCE + waiting.AT_ONCE + SPARE)
    make = db.sessions(engine)
    hosts = (*LOOPBACK, *([urlsplit(settings.public_url).hostname or ""] if settings.public_url else []))
    turns, waiting_turns = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(waiting.AT_ONCE)

    @asynccontextmanager
    async def alive(app: Litestar) -> AsyncIterator[None]:
        app.state.settings, app.state.engine, app.state.sessions = settings, engine, make
        app.state.watch = Watch(settings, make)
        app.state.watch.start()
        app.state.hub = Hub(db.url(settings))
        await app.state.hub.start()
        app.state.producer = Producer(settings, make)
        app.state.producer.start()
        app.state.films = Films(settings, app.state.watch.begun)
        door = Door(settings, make)
        door.start()
        app.state.footage, app.state.clips = Log(settings), Clips()
        figures = metrics.register(app)
        try:
            yield
        finally:
            metrics.unregister(figures)
            await app.state.films.stop()
            await sync_to_thread(door.stop)
            await sync_to_thread(app.state.producer.stop)
            await sync_to_thread(app.state.clips.close)
            await sync_to_thread(app.state.footage.close)
            await app.state.hub.stop()
            app.state.watch.stop()
            await sync_to_thread(returned, engine)
            engine.dispose()

    def end(own: Session, scope: Scope) -> None:
        idempotency.done(own, scope)
        own.commit()

    async def session(scope: Scope) -> AsyncIterator[Session]:
        """One request, one transaction: committed before the answer leaves, rolled back when the handler raises."""
        # Who has no turn waits here and not in a thread: else all threads could wait for connections whose holders
        # wait for a thread to commit in.
        async with waiting.turn(waiting_turns) if waiting.is_one(scope) else turns:
            own = make()  # connects when it is first asked something, which is in the handler's thread
            try:
                yield own
                await sync_to_thread(end, own, scope)
            finally:
                await sync_to_thread(own.close)

    def who(request: Request[Any, Any, Any]) -> Who:
        return auth.identify(request)

    async def ours(request: Request[Any, Any, Any]) -> None:
        """On loopback, a page of another site must not reach us under a name of its own; a proxy hands ours on. No text
        holds a NUL: the tables could not take it."""
        if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
            raise Problem(422, "cannot be taken", "expected text without a NUL character")
        host = re.sub(r":[0-9]+$", "", request.headers.get("host", "")).strip("[]").lower()
        if settings.host.strip("[]") in LOOPBACK and host not in hosts:
            raise ClientException(f"expected one of {', '.join(LOOPBACK)} or that of MASKWATCH_PUBLIC_URL as host, "
                                  f"got {host!r}")

    async def as_told(message: Message, scope: Scope) -> None:
        """No browser guesses what something is: a picture or a table that somebody sent might be a page of theirs."""
        if message["type"] == "http.response.start":
            MutableScopeHeaders.from_message(message).setdefault("X-Content-Type-Options", "nosniff")

    app = Litestar(
        ROUTERS,
        lifespan=[alive],
        guards=[auth.guard],
        middleware=[metrics.CONFIG.middleware, idempotency.Idempotency()],
        dependencies={
            "db": Provide(session),
            "who": Provide(who, sync_to_thread=True),
            "settings": Provide(lambda: settings, sync_to_thread=False),
        },
        exception_handlers={Exception: problems.answer},
        before_request=ours,
        before_send=[as_told],
        openapi_config=OpenAPIConfig(
            "Maskwatch", "0.1.0", openapi_router=Router("/schema", route_handlers=[], opt=auth.needs(auth.PUBLIC)),
            render_plugins=[WithExamples()], use_handler_docstrings=True,
            components=Components(security_schemes={
                "cookie": SecurityScheme("apiKey", name=auth.COOKIE, security_scheme_in="cookie"),
                "bearer": SecurityScheme("http", scheme="bearer"),
            }),
            security=[{"cookie": []}, {"bearer": []}],
        ),
        logging_config=None,
    )
    problems.declare(app)
    return app
