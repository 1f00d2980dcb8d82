"""The live feed: everything this session may know, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Router, get
from litestar.concurrency import sync_to_thread
from litestar.response import Stream

from api.auth import ANYBODY, identify, needs
from api.dependencies import By
from api.live import Hub, Listener
from api.permissions import Who


@get("/", opt=needs(ANYBODY), media_type="text/event-stream",
     summary="Server-sent events of everything this session may see")
async def feed(request: Request[Any, Any, Any], who: By) -> Stream:
    """Each event has a kind and JSON data; `beat` comes when nothing happens, `lost` says: fetch everything anew, and
    `ended`: the login is over."""
    hub: Hub = request.app.state.hub
    listener = Listener(who)

    async def again() -> Who:
        """The same login looked up once more: rights end by themselves, also of an open connection."""
        request.scope["state"].pop("who", None)
        return await sync_to_thread(identify, request)

    async def lines() -> AsyncIterator[bytes]:
        guarding = asyncio.create_task(hub.guard(listener, again))
        try:
            async for event, line in hub.events(listener):
                yield b"event: " + event.kind.encode() + b"\ndata: " + line + b"\n\n"
            if (await asyncio.gather(guarding, return_exceptions=True)) == [None]:  # else it may hold: ask again
                yield b"event: ended\ndata: {}\n\n"
        finally:
            guarding.cancel()

    return Stream(lines(), media_type="text/event-stream",
                  headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


router = Router("/v1/live", route_handlers=[feed], tags=["live"])
