"""Logging in and out, and who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.datastructures import Cookie
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import live, throttle
from api.auth import (
    ANYBODY,
    COOKIE,
    FIRST_LOGIN,
    PUBLIC,
    address,
    check_password,
    grants_of,
    hashed,
    log_in,
    needs,
    presented,
    verified,
)
from api.db import now
from api.dependencies import By, Config, Db
from api.permissions import Who
from api.problems import Problem, missing
from api.tables import audit
from api.tables.users import Login, User
from pipeline.settings import Settings

Text = Annotated[str, Meta(min_length=1, max_length=200)]


class Credentials(msgspec.Struct):
    """What is typed at login."""

    name: Text
    password: Annotated[str, Meta(min_length=1, max_length=1000)]
    language: Annotated[str, Meta(pattern=r"^(zh-CN|en)$")] | None = None  # remembered for the user


class Right(msgspec.Struct):
    """A role that holds somewhere."""

    role: str
    site: str  # empty: every site
    camera: str  # empty: every camera of the site
    permissions: list[str]


class Me(msgspec.Struct):
    """The user of this session."""

    id: str
    name: str
    full_name: str
    language: str
    rights: list[Right]
    permissions: list[str]  # that hold anywhere


class Started(msgspec.Struct):
    """A login. The token is shown this once."""

    token: str
    expires: datetime
    me: Me


class Passwords(msgspec.Struct):
    """A change of one's own password."""

    old: Annotated[str, Meta(max_length=1000)]
    new: Annotated[str, Meta(max_length=1000)]


class Opened(msgspec.Struct):
    """A login as its owner sees it."""

    id: str
    kind: str
    name: str
    created: datetime
    used: datetime
    expires: datetime
    address: str
    agent: str
    current: bool


class NewToken(msgspec.Struct):
    """A token for a program."""

    name: Text
    days: Annotated[int, Meta(ge=1, le=366)] = 90


def me_of(db: Session, who: Who) -> Me:
    user = db.get_one(User, who.id)
    return Me(user.id, user.name, user.full_name, user.language,
              [Right(g.role, g.site, g.camera, sorted(g.permissions)) for g in who.grants], sorted(who.permissions))


def cookie(token: str, settings: Settings) -> Cookie:
    return Cookie(key=COOKIE, value=token, httponly=True, samesite="lax", secure=settings.secure_cookies,
                  max_age=int(settings.session_longest * 3600) if token else 0)


@post("/login", opt=needs(PUBLIC, kept=False), sync_to_thread=True, status_code=200,
      summary="Log in with name and password")
def login(request: Request[Any, Any, Any], db: Db, settings: Config, data: JSONBody[Credentials]) -> Response[Started]:
    """Sets the session cookie, and returns the same token for programs that send `Authorization: Bearer`."""
    user = check_password(db, data.name, data.password, address(request))
    if data.language:
        user.language = data.language
    return started(request, db, settings, user)


def started(request: Request[Any, Any, Any], db: Session, settings: Settings, user: User) -> Response[Started]:
    """The answer to every way of logging in."""
    token, login_ = log_in(db, user.id, settings, address=address(request),
                           agent=request.headers.get("user-agent", ""))
    audit.write(db, user.id, "session.start", login_.id, address=address(request))
    who = Who(user.id, user.name, login_.id, grants_of(db, user.id, now()))
    return Response(Started(token, login_.expires, me_of(db, who)), cookies=[cookie(token, settings)])


@post("/logout", opt=needs(ANYBODY), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
      summary="End this session")
def logout(request: Request[Any, Any, Any], db: Db, settings: Config, who: By) -> Response[None]:
    db.execute(sql_delete(Login).where(Login.id == who.login))
    ends(db, who.id)
    audit.write(db, who.id, "session.end", who.login, address=who.address)
    by_cookie = presented(request)[1]
    return Response(None, status_code=HTTP_204_NO_CONTENT, cookies=[cookie("", settings)] if by_cookie else [])


def ends(db: Session, user: str) -> None:
    """Some login of this user: what is open looks at once whether it was its own."""
    live.tell(db, live.Event("grants.changed", {}, users=(user,)))


@get("/me", opt=needs(ANYBODY), sync_to_thread=True, summary="Who one is and what one may do")
def me(db: Db, who: By) -> Me:
    return me_of(db, who)


@put("/me/password", opt=needs(ANYBODY), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
     summary="Change one's own password; every other session ends")
def password(db: Db, settings: Config, who: By, data: JSONBody[Passwords]) -> None:
    user = db.get_one(User, who.id)
    limits = {f"own:{who.id}": throttle.OWN}
    throttle.allow(db, limits)
    right = verified(user.password, data.old)
    throttle.note(db, limits, right)
    if not right:
        raise Problem(403, "wrong password", "expected the present password in `old`")
    user.password = hashed(data.new)
    db.execute(sql_delete(Login).where(Login.user == who.id, Login.id != who.login))
    ends(db, who.id)
    audit.write(db, who.id, "user.password", who.id, address=who.address)
    if user.name == "admin":
        (settings.data / FIRST_LOGIN).unlink(missing_ok=True)


@get("/me/sessions", opt=needs(ANYBODY), sync_to_thread=True, summary="One's open sessions and tokens")
def opened(db: Db, who: By) -> list[Opened]:
    rows = db.scalars(select(Login).where(Login.user == who.id).order_by(Login.used.desc()))
    return [Opened(r.id, r.kind, r.name, r.created, r.used, r.expires, r.address, r.agent, r.id == who.login)
            for r in rows]


@post("/me/tokens", opt=needs(ANYBODY, kept=False), sync_to_thread=True, summary="Make a token for a program")
def make_token(db: Db, settings: Config, who: By, data: JSONBody[NewToken]) -> Started:
    token, login_ = log_in(db, who.id, settings, kind="token", name=data.name, hours=24 * data.days,
                           address=who.address)
    audit.write(db, who.id, "token.make", login_.id, address=who.address, name=data.name)
    return Started(token, login_.expires, me_of(db, who))


@delete("/me/sessions/{id:str}", opt=needs(ANYBODY), sync_to_thread=True, summary="End one of one's sessions or tokens")
def end(db: Db, who: By, id: FromPath[str]) -> None:
    found = db.scalar(select(Login).where(Login.id == id, Login.user == who.id))
    if found is None:
        raise missing("session", id)
    db.delete(found)
    ends(db, who.id)
    audit.write(db, who.id, "session.end", id, address=who.address)


router = Router("/v1", route_handlers=[login, logout, me, password, opened, make_token, end], tags=["session"])
