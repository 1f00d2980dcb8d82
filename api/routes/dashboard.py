"""The dashboard: the built files of frontend/, at `/` and every address that is not the API's."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.params import FromPath

from api.auth import ANYBODY, PUBLIC, needs
from api.dependencies import Config
from api.problems import missing
from pipeline.settings import Settings

BUILT = Path(__file__).parents[2] / "frontend" / "dist"
MISSING = "The dashboard is not built: expected index.html in {folder}, found none. `make dashboard` builds it.\n"
OURS = ("v1", "schema", "metrics", "health", "ready")  # what begins so and is not there is a mistake, not a page
# a worker from a blob is how a map is drawn, data: and blob: are pictures that the page makes itself
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:{tiles}; "
    "media-src 'self' blob:; connect-src 'self' data: blob:{tiles}{media}; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# whatever the machine's own table says of them
KINDS = {".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html; charset=utf-8",
         ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
           "permissions-policy": "camera=(self), geolocation=(self), microphone=()"}


class Interface(msgspec.Struct):
    """What the dashboard must know of this installation."""

    version: str
    tiles: str  # address of map tiles with {z}, {x}, {y}; empty: plans only
    attribution: str  # whom the tiles are by


@get("/v1/interface", opt=needs(ANYBODY), tags=["interface"], summary="What a page must know of this installation")
async def interface(settings: Config) -> Interface:
    return Interface("0.1.0", settings.tiles, settings.tiles_attribution)


@get("/", include_in_schema=False, opt=needs(PUBLIC), sync_to_thread=True)
def first(request: Request[Any, Any, Any], settings: Config) -> Response[bytes]:
    return _answer(request, settings, "")


@get("/{path:path}", include_in_schema=False, opt=needs(PUBLIC), sync_to_thread=True)
def page(request: Request[Any, Any, Any], settings: Config, path: FromPath[str]) -> Response[bytes]:
    """A file of the dashboard; any other address is one of its pages, which it finds by itself."""
    if path.strip("/").split("/")[0] in OURS:
        raise missing("page", path)
    return _answer(request, settings, path.strip("/"))


def _answer(request: Request[Any, Any, Any], settings: Settings, path: str) -> Response[bytes]:
    folder = settings.dashboard or BUILT
    file = (folder / path).resolve()
    if not path or not file.is_relative_to(folder.resolve()) or not file.is_file():
        if path.startswith("assets/"):  # of a build that is no more: index.html would be taken for a script
            raise missing("file", path)
        file = folder / "index.html"
    try:
        whole, small, tag, kind = _read(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        return Response(MISSING.format(folder=folder).encode(), media_type=MediaType.TEXT, status_code=503)
    # names under assets/ hold a digest of what is in them
    headers = HEADERS | {
        "etag": tag,
        "vary": "accept-encoding",
        "cache-control": "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache",
    }
    if kind.startswith("text/html"):
        headers["content-security-policy"] = POLICY.format(
            tiles=_host(settings.tiles), media=_host(settings.mediamtx))
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    if small and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(small, media_type=kind, headers=headers | {"content-encoding": "gzip"})
    return Response(whole, media_type=kind, headers=headers)


@lru_cache(maxsize=256)
def _read(file: Path, _changed: int) -> tuple[bytes, bytes, str, str]:
    """A file, the same gzipped where that is worth it, its ETag and type."""
    whole = file.read_bytes()
    kind = KINDS.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    text = kind.startswith(("text/", "image/svg", "application/json"))
    return whole, gzip.compress(whole, 6) if text else b"", f'"{hashlib.sha256(whole).hexdigest()[:32]}"', kind


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f" {parts.scheme}://{parts.netloc.replace('{s}', '*')}" if parts.netloc else ""


router = Router("/", route_handlers=[first, interface, page])
