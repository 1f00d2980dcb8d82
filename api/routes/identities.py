"""Logging in by single sign-on (OpenID Connect) and by WeChat, and linking such accounts to a user."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import NotAuthorizedException
from litestar.params import JSONBody, QueryParameter
from litestar.response import Redirect
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import identities, throttle
from api.auth import ANYBODY, PUBLIC, address, identify, log_in, needs
from api.dependencies import By, Config, Db
from api.problems import Problem
from api.routes.session import Started, cookie, started
from api.tables import audit
from api.tables.users import Identity
from api.waiting import waits
from pipeline.settings import Settings

STATE = "maskwatch-sign-on"
After = Annotated[str, QueryParameter(max_length=400, description="path of ours to go on to")]
Code = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f]+$")]


class Ways(msgspec.Struct):
    """How one may log in here."""

    password: bool
    single_sign_on: bool
    wechat: bool


class WeChatCode(msgspec.Struct):
    """What `wx.login` gave."""

    code: Code


class Begun(msgspec.Struct):
    """A sign-on that the browser has to go on with."""

    address: str  # of the provider


class Linked(msgspec.Struct):
    """An account of another system."""

    provider: str
    created: datetime


def back(request: Request[Any, Any, Any], settings: Settings) -> str:
    """Where the provider sends the browser: as it was given to the provider when we were registered there."""
    base = settings.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"
    return f"{base.rstrip('/')}/v1/login/oidc/callback"


@get("/login/ways", opt=needs(PUBLIC), summary="How one may log in here")
async def ways(settings: Config) -> Ways:
    return Ways(True, bool(settings.oidc_issuer), bool(settings.wechat_app))


@get("/login/oidc", opt=needs(PUBLIC), summary="Begin single sign-on", status_code=302)
@waits
def begin(request: Request[Any, Any, Any], db: Db, settings: Config,
          after: After = "/") -> Redirect:
    """Sends the browser to the provider; `after`: the path of ours to come back to in the end."""
    url, state = identities.begin(db, settings, back(request, settings), after)
    return Redirect(url, status_code=302, cookies=[_remembered(state, settings)])


def _remembered(state: str, settings: Settings) -> Cookie:
    return Cookie(key=STATE, value=state, httponly=True, samesite="lax", secure=settings.secure_cookies,
                  path="/v1/login/oidc", max_age=600)


@get("/login/oidc/callback", opt=needs(PUBLIC), summary="End of single sign-on", status_code=302)
@waits
def callback(request: Request[Any, Any, Any], db: Db, settings: Config,
             code: Annotated[str, QueryParameter(max_length=2000)] = "",
             given: Annotated[str, QueryParameter(name="state", max_length=64, pattern=r"^[\w-]*$")] = "",
             error: Annotated[str, QueryParameter(max_length=200)] = "") -> Redirect:
    """The provider sends the browser here. It must be the browser that began; of an account that is linked, with the
    same user logged in."""
    if error or not code:
        raise Problem(401, "sign-on refused", f"the provider says: {error or 'no code'}")
    if not given or request.cookies.get(STATE) != given:
        raise Problem(400, "not begun here", "expected the browser in which the sign-on began; begin again")
    user, after, what = identities.finish(db, settings, back(request, settings), given, code, _logged_in(request))
    if not user.active:
        raise Problem(403, "switched off", "this user may not log in")
    if what == "made":
        audit.write(db, user.id, "user.add", user.id, address=address(request), name=user.name, by="oidc")
    if what != "known":
        audit.write(db, user.id, "identity.link", settings.oidc_issuer[:200], address=address(request))
    if what == "linked":
        return Redirect(after, status_code=302)
    token, login = log_in(db, user.id, settings, address=address(request),
                          agent=request.headers.get("user-agent", ""))
    audit.write(db, user.id, "session.start", login.id, address=address(request), by="oidc")
    return Redirect(after, status_code=302, cookies=[cookie(token, settings)])


def _logged_in(request: Request[Any, Any, Any]) -> str:
    try:
        return identify(request).id
    except NotAuthorizedException:
        return ""


@post("/me/oidc", opt=needs(ANYBODY, kept=False), status_code=200, summary="Link one's account for single sign-on")
@waits
def begin_link(request: Request[Any, Any, Any], db: Db, settings: Config, who: By,
               after: After = "/") -> Response[Begun]:
    """The browser goes on at `address`, as with GET /v1/login/oidc; in the end the account is linked to who began."""
    url, state = identities.begin(db, settings, back(request, settings), after, who.id)
    return Response(Begun(url), cookies=[_remembered(state, settings)])


@delete("/me/oidc", opt=needs(ANYBODY), sync_to_thread=True, summary="Take the link to one's single sign-on away")
def unlink_sign_on(db: Db, settings: Config, who: By) -> None:
    """409 when one could not log in any more."""
    identities.unlink(db, settings, who.id, Identity.provider != identities.WECHAT, "oidc")
    audit.write(db, who.id, "identity.unlink", "oidc", address=who.address)


@post("/login/wechat", opt=needs(PUBLIC, kept=False), status_code=200, summary="Log in by WeChat")
@waits
def wechat(request: Request[Any, Any, Any], db: Db, settings: Config, data: JSONBody[WeChatCode]) -> Response[Started]:
    """404 `not linked` when no user has linked this WeChat account: log in with name and password, then link it."""
    limits = {f"codes:{throttle.network(address(request))}": throttle.CODES}
    user = identities.known(db, identities.WECHAT, _openid(db, settings, data.code, limits))
    if user is None:
        throttle.note(db, limits, right=False)
        raise Problem(404, "not linked", "expected a WeChat account that a user has linked (POST /v1/me/wechat)")
    return started(request, db, settings, user)


def _openid(db: Session, settings: Settings, code: str, limits: dict[str, throttle.Limit]) -> str:
    """Each code that is tried is asked for at WeChat: not any number of them."""
    throttle.allow(db, limits)
    try:
        return identities.openid(settings, code)
    except Problem as problem:
        if problem.status_code == 401:
            throttle.note(db, limits, right=False)
        raise


@post("/me/wechat", opt=needs(ANYBODY), status_code=HTTP_204_NO_CONTENT, summary="Link one's WeChat account")
@waits
def link(db: Db, settings: Config, who: By, data: JSONBody[WeChatCode]) -> None:
    limits = {f"codes:{who.id}": throttle.CODES}
    identities.link(db, identities.WECHAT, _openid(db, settings, data.code, limits), who.id)
    audit.write(db, who.id, "identity.link", identities.WECHAT, address=who.address)


@get("/me/identities", opt=needs(ANYBODY), sync_to_thread=True, summary="One's linked accounts")
def linked(db: Db, who: By) -> list[Linked]:
    rows = db.scalars(select(Identity).where(Identity.user == who.id).order_by(Identity.created))
    return [Linked(row.provider, row.created) for row in rows]


@delete("/me/wechat", opt=needs(ANYBODY), sync_to_thread=True, summary="Take the link to one's WeChat account away")
def unlink(db: Db, settings: Config, who: By) -> None:
    """409 when one could not log in any more."""
    identities.unlink(db, settings, who.id, Identity.provider == identities.WECHAT, identities.WECHAT)
    audit.write(db, who.id, "identity.unlink", identities.WECHAT, address=who.address)


router = Router("/v1", tags=["session"],
                route_handlers=[ways, begin, callback, begin_link, unlink_sign_on, wechat, link, linked, unlink])
