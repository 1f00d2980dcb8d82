"""create_app(): the routes, what they may ask for, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Router
from litestar.concurrency import sync_to_thread
from litestar.di import Provide
from litestar.exceptions import ClientException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.orm import Session

from api import auth, db, metrics, problems
from api.clips import Clips
from api.footage import Log
from api.idempotency import Idempotency
from api.live import Hub
from api.permissions import Who
from api.problems import Problem
from api.publish import Producer
from api.routes import ROUTERS
from api.video.films import Films
from api.video.mediamtx import Door
from api.watch import Watch
from pipeline.settings import Settings

AT_ONCE, SPARE = 16, 6  # requests that hold a connection of the database; connections for logins and what runs beside
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(settings: Settings) -> Litestar:
    """The tables must be there (`maskwatch up`, or `api.migrations.upgrade`)."""
    engine = db.connect(settings, AT_ONCE + SPARE)
    make = db.sessions(engine)
    turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def alive(app: Litestar) -> AsyncIterator[None]:
        app.state.settings, app.state.engine, app.state.sessions = settings, engine, make
        app.state.watch = Watch(settings)
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
            engine.dispose()

    async def session() -> AsyncIterator[Session]:
        """One request, one transaction: committed before the answer leaves, rolled back when the handler raises."""
        # Who has no turn waits here and not in a thread: else all threads could wait for connections whose holders
        # wait for a thread to commit in.
        async with turns:
            own = make()  # connects when it is first asked something, which is in the handler's thread
            try:
                yield own
                await sync_to_thread(own.commit)
            finally:
                await sync_to_thread(own.close)

    def who(request: Request[Any, Any, Any]) -> Who:
        return auth.identify(request)

    async def ours(request: Request[Any, Any, Any]) -> None:
        """On loopback, a page of another site must not reach us under a name of its own. No text holds a NUL: the
        tables could not take it."""
        if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
            raise Problem(422, "cannot be taken", "expected text without a NUL character")
        host = re.sub(r":[0-9]+$", "", request.headers.get("host", ""))
        if settings.host.strip("[]") in LOOPBACK and host.strip("[]") not in LOOPBACK:
            raise ClientException(f"expected one of {', '.join(LOOPBACK)} as host, got {host!r}")

    app = Litestar(
        ROUTERS,
        lifespan=[alive],
        guards=[auth.guard],
        middleware=[metrics.CONFIG.middleware, Idempotency()],
        dependencies={
            "db": Provide(session),
            "who": Provide(who, sync_to_thread=True),
            "settings": Provide(lambda: settings, sync_to_thread=False),
        },
        exception_handlers={Exception: problems.answer},
        before_request=ours,
        openapi_config=OpenAPIConfig(
            "Maskwatch", "0.1.0", openapi_router=Router("/schema", route_handlers=[], opt=auth.needs(auth.PUBLIC)),
            render_plugins=[JsonRenderPlugin()], use_handler_docstrings=True,
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
