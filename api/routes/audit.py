"""The audit log: who looked at which face, who changed what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter
from sqlalchemy import select

from api.auth import needs
from api.dependencies import By, Db
from api.pages import Cursor, Limit, Page, take
from api.ranges import LATEST, Since, Until
from api.tables.audit import Audit

Part = Annotated[str, QueryParameter(max_length=200)]


class Entry(msgspec.Struct):
    """One look or one change."""

    id: int
    at: datetime
    user: str  # id; empty: the system
    action: str  # noun.verb
    noun: str  # id of what it was done to
    site: str
    camera: str
    detail: dict[str, Any]
    address: str


@get("/", opt=needs("users.view"), sync_to_thread=True, summary="The audit log, newest first")
def entries(db: Db, who: By, user: Part = "", action: Part = "", noun: Part = "",
            since: Since = 0, until: Until = LATEST, cursor: Cursor = None, limit: Limit = 100) -> Page[Entry]:
    """`action`: the whole, or its beginning with a dot (`face.`). Who may view users at some sites only sees what was
    done there, and what they did themselves."""
    query = select(Audit)
    scope = who.scope("users.view")
    if not scope.everywhere:
        query = query.where(scope.where(Audit.site, Audit.camera) | (Audit.user == who.id))
    if user:
        query = query.where(Audit.user == user)
    if action:
        like = action.replace("%", "").replace("_", r"\_")
        query = query.where(Audit.action.like(f"{like}%") if action.endswith(".") else Audit.action == action)
    if noun:
        query = query.where(Audit.noun == noun)
    query = query.where(Audit.at >= _moment(since), Audit.at < _moment(until))
    return take(db, query, [Audit.id], lambda a: Entry(a.id, a.at, a.user, a.action, a.noun, a.site, a.camera, a.detail,
                                                       a.address), cursor, limit)


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)  # a float of seconds would lose some


router = Router("/v1/audit", route_handlers=[entries], tags=["audit"])
