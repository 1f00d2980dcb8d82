"""create_app(): the routes of the plain status page. It shows no face picture: there is no login yet."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import ClientException, ServiceUnavailableException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromQuery

from api.watch import Report, Watch
from pipeline.settings import Settings

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
_script = re.search(r"<script>(.*)</script>", PAGE, re.DOTALL)
assert _script  # noqa: S101 -- the page is ours
_SUM = base64.b64encode(hashlib.sha256(_script[1].encode()).digest()).decode()
# Nothing from elsewhere, no inline script but ours: names of cameras and errors come from outside.
POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_SUM}'; connect-src 'self'; base-uri 'none'"
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def page(request: Request[Any, Any, Any], lang: FromQuery[str] = "") -> Response[str]:
    """The status page; `?lang=zh` or the browser's wish chooses the language."""
    wish = language(lang or request.headers.get("accept-language", ""))
    return Response(
        PAGE.replace('lang="en"', f'lang="{wish}"', 1),
        media_type=MediaType.HTML,
        headers=HEADERS | {"vary": "accept-language"},
    )


@get("/health")
async def health() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


@get("/ready")
async def ready(request: Request[Any, Any, Any]) -> dict[str, str]:
    """200 when the broker answers and what was there has been read; else 503 and why."""
    watch: Watch = request.app.state.watch
    if not watch.alive:
        raise ServiceUnavailableException(f"no answer from the broker at {watch.settings.bootstrap}: {watch.fault}")
    if not watch.caught_up:
        raise ServiceUnavailableException("still reading what was there at the start")
    return {"status": "ok"}


@get("/v1/status")
async def status(request: Request[Any, Any, Any]) -> Report:
    """Cameras, mask states, savings, newest episodes, what waits for each stage."""
    watch: Watch = request.app.state.watch
    return watch.report()


def language(wish: str) -> str:
    """`zh-CN,zh;q=0.9,en;q=0.8` -> zh-CN; whichever of our two languages is named first."""
    ranked = []
    for place, part in enumerate(wish.lower().split(",")):
        name, _, rest = part.strip().partition(";")
        weight = re.search(r"q=([0-9.]+)", rest)
        ranked.append((-float(weight[1].strip(".") or 0) if weight else -1.0, place, name))
    for _, _, name in sorted(ranked):
        if name.startswith("zh"):
            return "zh-CN"
        if name.startswith("en"):
            return "en"
    return "en"


def create_app(settings: Settings) -> Litestar:
    @asynccontextmanager
    async def watching(app: Litestar) -> AsyncIterator[None]:
        app.state.watch = Watch(settings)
        app.state.watch.start()
        try:
            yield
        finally:
            app.state.watch.stop()

    async def ours(request: Request[Any, Any, Any]) -> None:
        """On loopback, a page of another site must not reach us under a name of its own."""
        host = re.sub(r":[0-9]+$", "", request.headers.get("host", ""))
        if settings.host.strip("[]") in LOOPBACK and host.strip("[]") not in LOOPBACK:
            raise ClientException(f"expected one of {', '.join(LOOPBACK)} as host, got {host!r}")

    return Litestar(
        [page, health, ready, status],
        lifespan=[watching],
        before_request=ours,
        openapi_config=OpenAPIConfig(
            "Maskwatch", "0.1.0", path="/schema", render_plugins=[JsonRenderPlugin()], use_handler_docstrings=True
        ),
        logging_config=None,
    )
