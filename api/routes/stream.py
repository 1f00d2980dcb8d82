"""The stream's own health: whether this process is up, what the stages do, and the plain status page."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.exceptions import ServiceUnavailableException
from litestar.params import FromQuery
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from api.auth import PUBLIC, needs
from api.dependencies import By, Db
from api.summary import Counts, Savings
from api.tables.cameras import CameraRow
from api.watch import Report, Watch

PAGE = (Path(__file__).parents[1] / "page.html").read_text(encoding="utf-8")
_script = re.search(r"<script>(.*)</script>", PAGE, re.DOTALL)
assert _script  # noqa: S101 -- the page is ours
_SUM = base64.b64encode(hashlib.sha256(_script[1].encode()).digest()).decode()
# Nothing from elsewhere, no inline script but ours: names of cameras and errors come from outside.
POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_SUM}'; connect-src 'self'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@get("/", media_type=MediaType.HTML, include_in_schema=False, opt=needs(PUBLIC))
async def page(request: Request[Any, Any, Any], lang: FromQuery[str] = "") -> Response[str]:
    """The status page, empty until somebody logs in; `?lang=zh` or the browser's wish chooses the language."""
    wish = language(lang or request.headers.get("accept-language", ""))
    return Response(
        PAGE.replace('lang="en"', f'lang="{wish}"', 1),
        media_type=MediaType.HTML,
        headers=HEADERS | {"vary": "accept-language"},
    )


@get("/health", opt=needs(PUBLIC), summary="Whether this process runs")
async def health() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


@get("/ready", opt=needs(PUBLIC), sync_to_thread=True, summary="Whether broker and database answer")
def ready(request: Request[Any, Any, Any]) -> dict[str, str]:
    """200 when broker and database answer and what was there has been read; else 503 and why."""
    watch: Watch = request.app.state.watch
    if not watch.alive:
        raise ServiceUnavailableException(f"no answer from the broker at {watch.settings.bootstrap}: {watch.fault}")
    if not watch.caught_up:
        raise ServiceUnavailableException("still reading what was there at the start")
    try:
        with request.app.state.sessions() as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        raise ServiceUnavailableException(f"no answer from the database: {type(error).__name__}") from None
    return {"status": "ok"}


@get("/v1/status", opt=needs("system.view"), sync_to_thread=True,
     summary="Cameras, savings and what waits for each stage, now")
def status(request: Request[Any, Any, Any], db: Db, who: By) -> Report:
    """Cameras, mask states, savings, newest episodes, what waits for each stage; of one's own cameras only."""
    watch: Watch = request.app.state.watch
    report = watch.report()
    scope = who.scope("system.view")
    if scope.everywhere:
        return report
    mine = set(db.scalars(select(CameraRow.id).where(scope.where(CameraRow.site, CameraRow.id))))
    views = [view for view in report.cameras if view.camera in mine]
    now, minute, savings = Counts(), Counts(), Savings()
    for view in views:
        now += view.now
        minute += view.minute
        savings.add(view.savings)  # type: ignore[arg-type]
    breaches = [msgspec.structs.replace(each, cameras=tuple(camera for camera in each.cameras if camera in mine))
                for each in report.episodes if mine.intersection(each.cameras)]
    # letters quote records of any camera; how many are on their way is only known of all together
    return msgspec.structs.replace(report, cameras=views, now=now, minute=minute, savings=savings, people=0,
                                   episodes=breaches, letters=[])


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


router = Router("/", route_handlers=[page, health, ready, status], tags=["stream"])
