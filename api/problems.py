"""Errors as they leave: RFC 9457 problem details, each saying what was expected and what came."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError

from api.vectors import Away as VectorsAway

log = structlog.get_logger()
TYPE = "application/problem+json"
TITLES = {400: "bad request", 401: "no login", 403: "not allowed", 404: "not found", 405: "no such method",
          409: "conflict", 413: "too large", 415: "wrong kind of content", 422: "cannot be taken",
          424: "no answer from elsewhere", 429: "too many requests", 500: "fault", 502: "no answer from elsewhere",
          503: "not ready"}  # fmt: skip
# What any route may answer besides, and what one that takes a body may.
ANY, WITH_BODY = (400, 401, 403, 404, 409, 422, 424, 429, 503), (413, 415)


class ProblemDetails(msgspec.Struct):
    """RFC 9457; some problems say more, as `errors` with each fault of what came."""

    type: str
    title: str
    status: int
    detail: str  # what was expected and what came
    instance: str  # path


class Problem(HTTPException):
    """`raise Problem(404, "no such camera", "expected one of …, got gate-9")`."""

    def __init__(self, status: int, title: str, detail: str = "", headers: dict[str, str] | None = None,
                 **more: Any) -> None:
        super().__init__(detail=detail or title, status_code=status, headers=headers, extra=more)
        self.title = title


def missing(what: str, id: str) -> Problem:
    """Of a thing that is not there, or that this user may not know of: the same answer."""
    return Problem(404, f"no such {what}", f"expected the id of a {what} you may see, got {id!r}")


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Every error of every route ends here."""
    headers, more = None, {}
    if isinstance(error, Problem):
        status, title, detail = error.status_code, error.title, error.detail
        headers, more = error.headers, error.extra or {}
    elif isinstance(error, ValidationException):
        status, title, detail = 422, TITLES[422], error.detail
        more = {"errors": error.extra} if error.extra else {}
        if isinstance(error.extra, dict):
            more = {"errors": [error.extra]}
    elif isinstance(error, InternalServerException) and isinstance(error.__cause__, msgspec.ValidationError):
        # Litestar takes a field of the body that is named like a dependency (`settings`) for a fault of ours.
        status, title, detail = 422, TITLES[422], str(error.__cause__)
    elif isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
        title = TITLES.get(status, "error")
    elif isinstance(error, IntegrityError):
        status, title = 409, TITLES[409]
        detail = f"it contradicts what is there: {str(error.orig).splitlines()[-1].removeprefix('DETAIL:').strip()}"
    elif isinstance(error, StaleDataError):  # two removed the same thing at once
        status, title, detail = 409, TITLES[409], "somebody else has changed or removed it just now; look again"
    elif isinstance(error, DataError):  # as NUL in an id that came in the path
        status, title, detail = 422, TITLES[422], "expected text and numbers that the tables can take"
    elif isinstance(error, OperationalError | PoolTimeout):
        log.error("database", error=str(getattr(error, "orig", error)).strip())
        status, title, detail = 503, TITLES[503], "the database does not answer; try again"
        headers = {"Retry-After": "2"}
    elif isinstance(error, VectorsAway):
        log.error("vectors", error=str(error))
        status, title, detail = 503, TITLES[503], "the vectors do not answer; try again"
        headers = {"Retry-After": "2"}
    else:
        log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
        status, title, detail = 500, TITLES[500], "a fault on our side; the log of the API says more"
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail,
               "instance": request.url.path, **more}
    return Response(content, status_code=status, media_type=TYPE or MediaType.JSON, headers=headers)


def declare(app: Litestar) -> None:
    """Every route's problems, in the OpenAPI document; and which routes want no login."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if not isinstance(handler, HTTPRouteHandler) or "needs" not in handler.opt:
                continue
            codes = ANY + (() if handler.http_methods <= {"GET", "HEAD"} else WITH_BODY)
            told = {code: ResponseSpec(ProblemDetails, description=TITLES[code], media_type=TYPE,
                                       generate_examples=False) for code in codes}
            handler.responses = told | dict(handler.responses or {})
            if handler.opt.get("needs") == "public":
                handler.security = [{}]
