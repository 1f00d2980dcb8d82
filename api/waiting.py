"""Handlers that wait for a model's turn, a camera or another server: in threads of their own, so that whoever only
reads does not wait with them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from litestar.types import Scope

from api.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")
AT_ONCE = 8  # such requests at a time
MOST = 32  # that wait for a thread
LONGEST = 20.0  # seconds that one waits for its turn

_threads = ThreadPoolExecutor(AT_ONCE, "waiting")
_room = threading.BoundedSemaphore(AT_ONCE + MOST)


def waits(handler: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`@post("/search", …)`, `@waits`, `def search(…)`: instead of `sync_to_thread=True`."""

    @wraps(handler)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not _room.acquire(blocking=False):
            raise busy()
        context = contextvars.copy_context()
        running = _threads.submit(partial(context.run, handler, *args, **kwargs))
        running.add_done_callback(lambda _: _room.release())  # also when it never began
        return await asyncio.wrap_future(running)

    run.waits = True  # type: ignore[attr-defined]
    return run


def is_one(scope: Scope) -> bool:
    """Whether a request is for such a handler."""
    return getattr(getattr(scope.get("route_handler"), "fn", None), "waits", False)


@asynccontextmanager
async def turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of `turns`, or 503 when that takes too long."""
    try:
        await asyncio.wait_for(turns.acquire(), LONGEST)
    except TimeoutError:
        raise busy() from None
    try:
        yield
    finally:
        turns.release()


def busy() -> Problem:
    return Problem(503, "busy", "as many requests of this kind as there may be wait already; try again",
                   headers={"Retry-After": "5"})
