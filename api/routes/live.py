"""The live feed: everything this session may know, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Router, get
from litestar.concurrency import sync_to_thread
from litestar.exceptions import HTTPException
from litestar.response import Stream

from api.auth import ANYBODY, identify, needs
from api.dependencies import By
from api.live import Hub, Listener
from api.permissions import Who


@get("/", opt=needs(ANYBODY), media_type="text/event-stream",
     summary="Server-sent events of everything this session may see")
async def feed(request: Request[Any, Any, Any], who: By) -> Stream:
    """Each event has a kind and JSON data; `beat` comes when nothing happens, `lost` says: fetch everything anew."""
    hub: Hub = request.app.state.hub
    listener = Listener(who)

    def again() -> Who:
        """The same login looked up once more: rights end by themselves, also of an open connection."""
        request.scope["state"].pop("who", None)
        return identify(request)

    async def lines() -> AsyncIterator[bytes]:
        beats = 0
        async for event, line in hub.events(listener):
            if event.kind == "beat" or event.id % 200 == 199 or event.kind == "grants.changed":
                beats += 1
                try:
                    listener.who = await sync_to_thread(again)
                except HTTPException:
                    yield b"event: ended\ndata: {}\n\n"
                    return
            yield b"event: " + event.kind.encode() + b"\ndata: " + line + b"\n\n"

    return Stream(lines(), media_type="text/event-stream",
                  headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


router = Router("/v1/live", route_handlers=[feed], tags=["live"])
