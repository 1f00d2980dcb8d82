"""Users as other systems know them: OpenID Connect and WeChat. What they say is checked here; who that is, too."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import httpx2
import structlog
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import ColumnElement, delete, func, not_, select
from sqlalchemy.orm import Session

from api.db import now
from api.problems import Problem, missing
from api.tables.users import Identity, SignOn, User
from pipeline.settings import Settings

log = structlog.get_logger()
TIMEOUT = 10.0  # seconds for an answer of another system
BEGUN = timedelta(minutes=10)  # within which a sign-on must come back
WECHAT = "wechat"
# Asymmetric only: with HS256 the client's secret would sign, and "none" is no signature.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Finished(NamedTuple):
    """What came of a sign-on."""

    user: User
    after: str  # where to go on
    what: Literal["known", "made", "linked"]


# -- OpenID Connect ---------------------------------------------------------------------------------------------------


def begin(db: Session, settings: Settings, back: str, after: str, user: str = "") -> tuple[str, str]:
    """-> where to send the browser, and the state it has to come back with. Authorization code with PKCE. `user`: whose
    account it will be."""
    provider = _provider(settings)
    state, nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32), generate_token(64)
    db.execute(delete(SignOn).where(SignOn.at < now() - BEGUN))
    db.add(SignOn(state=state, nonce=nonce, verifier=verifier, after=local(after), user=user))
    with _client(settings, back) as client:
        url, _ = client.create_authorization_url(provider["authorization_endpoint"], state=state, nonce=nonce,
                                                 code_verifier=verifier)
    return str(url), state


def finish(db: Session, settings: Settings, back: str, state: str, code: str, by: str = "") -> Finished:
    """The provider's answer -> who that is. `by`: who is logged in by now: an account is linked only to whoever began
    and still is. Raises Problem when it is not what was asked for."""
    begun = db.scalar(delete(SignOn).where(SignOn.state == state, SignOn.at > now() - BEGUN).returning(SignOn))
    if begun is None:
        raise Problem(400, "not begun here", "expected the answer to a sign-on of the last ten minutes; begin again")
    if begun.user and begun.user != by:
        raise Problem(403, "somebody else", "expected whoever began to link an account to be logged in still; log in "
                      "and begin again")
    provider = _provider(settings)
    try:
        with _client(settings, back) as client:
            token = client.fetch_token(provider["token_endpoint"], code=code, code_verifier=begun.verifier)
        keys = KeySet.import_key_set(_get(provider["jwks_uri"]))
        claims = jwt.decode(token["id_token"], keys, algorithms=ALGORITHMS).claims
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": settings.oidc_issuer},
            aud={"essential": True, "value": settings.oidc_client},
            nonce={"essential": True, "value": begun.nonce}, sub={"essential": True}, exp={"essential": True},
            leeway=60,
        ).validate(claims)
    except (OAuthError, JoseError, httpx2.HTTPError, KeyError, ValueError) as error:
        log.warning("single sign-on refused", error=f"{type(error).__name__}: {error}"[:300])
        raise Problem(401, "sign-on refused", f"the provider's answer: {type(error).__name__}") from None
    if begun.user:
        link(db, settings.oidc_issuer, str(claims["sub"])[:200], begun.user)
        return Finished(db.get_one(User, begun.user), begun.after, "linked")
    user, made = _user(db, settings, claims)
    return Finished(user, begun.after, "made" if made else "known")


def _user(db: Session, settings: Settings, claims: dict[str, Any]) -> tuple[User, bool]:
    """-> the user, and whether they were made. Who is known stays who they are, whatever they are called by now. A name
    that somebody here has is not taken: the provider would otherwise decide who is our admin."""
    issuer, subject = settings.oidc_issuer, str(claims["sub"])[:200]
    if user := known(db, issuer, subject):
        return user, False
    name = str(claims.get(settings.oidc_name) or claims.get("email") or "").strip()[:64]
    if not settings.oidc_create:
        raise Problem(403, "not a user", f"expected a user linked to this account ({name or subject}): log in with "
                                         "name and password and link it, or ask for a user")
    if not name or db.scalar(select(func.count()).select_from(User).where(func.lower(User.name) == name.lower())):
        raise Problem(409, "name taken", f"expected a name nobody has, got {name!r}: log in as that user and link it")
    user = User(name=name, full_name=str(claims.get("name") or "")[:120], email=str(claims.get("email") or "")[:254])
    db.add(user)
    db.flush()
    db.add(Identity(provider=issuer, subject=subject, user=user.id))
    return user, True


def _client(settings: Settings, back: str) -> OAuth2Client:
    return OAuth2Client(
        settings.oidc_client, settings.oidc_secret.get_secret_value(), scope="openid profile email", redirect_uri=back,
        code_challenge_method="S256", timeout=TIMEOUT,
    )  # fmt: skip


def _provider(settings: Settings) -> dict[str, Any]:
    if not settings.oidc_issuer:
        raise Problem(404, "no single sign-on", "expected MASKWATCH_OIDC_ISSUER to name a provider, it is empty")
    try:
        found = _get(settings.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found["issuer"] != settings.oidc_issuer:
            raise ValueError(f"it calls itself {found['issuer']}")
        return found
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        log.error("single sign-on: no provider", issuer=settings.oidc_issuer, error=str(error)[:300])
        raise Problem(502, "no provider", f"{settings.oidc_issuer} does not answer as an OpenID provider") from None


def _get(url: str) -> dict[str, Any]:
    answer = httpx2.get(url, timeout=TIMEOUT)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def local(path: str) -> str:
    """A path of ours: nobody is sent on to somewhere else."""
    return path if re.fullmatch(r"/(?![/\\])[^\x00-\x20\\]{0,398}", path) else "/"


# -- WeChat -----------------------------------------------------------------------------------------------------------


def openid(settings: Settings, code: str) -> str:
    """What `wx.login` gave the mini-program -> who that is to WeChat."""
    if not settings.wechat_app:
        raise Problem(404, "no login by WeChat", "expected MASKWATCH_WECHAT_APP to name the mini-program, it is empty")
    try:
        answer = httpx2.get(f"{settings.wechat_api}/sns/jscode2session", timeout=TIMEOUT, params={
            "appid": settings.wechat_app, "secret": settings.wechat_secret.get_secret_value(), "js_code": code,
            "grant_type": "authorization_code"})
        answer.raise_for_status()
        found = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        log.error("wechat", error=type(error).__name__)  # the address holds the secret
        raise Problem(502, "no answer", "WeChat's server does not answer; try again") from None
    if not isinstance(found, dict) or not isinstance(found.get("openid"), str):
        told = f"{found.get('errcode')} {found.get('errmsg', '')}" if isinstance(found, dict) else "no object"
        raise Problem(401, "code refused", f"expected a fresh code of wx.login, WeChat says: {told[:200]}")
    return str(found["openid"])[:200]


# -- both -------------------------------------------------------------------------------------------------------------


def known(db: Session, provider: str, subject: str) -> User | None:
    """The user linked to an account; None when there is none, or it is switched off."""
    return db.scalar(select(User).join(Identity, Identity.user == User.id).where(
        Identity.provider == provider, Identity.subject == subject, User.active))


def link(db: Session, provider: str, subject: str, user: str) -> None:
    """Raises Problem 409 when it is somebody else's."""
    found = db.get(Identity, (provider, subject))
    if found is not None and found.user != user:
        raise Problem(409, "linked to another", "expected an account that no other user has linked")
    if found is None:
        db.add(Identity(provider=provider, subject=subject, user=user))


def unlink(db: Session, settings: Settings, user: str, which: ColumnElement[bool], what: str) -> None:
    """Raises Problem 404 when there is none, 409 when there is no other way to log in."""
    row = db.scalars(select(User).where(User.id == user).with_for_update()).one()  # of two at once one may be the last
    found = db.scalars(select(Identity).where(Identity.user == user, which)).all()
    if not found:
        raise missing("linked account", what)
    others = db.scalars(select(Identity.provider).where(Identity.user == user, not_(which)))
    usable = {settings.oidc_issuer, WECHAT if settings.wechat_app else ""} - {""}
    if not row.password and not usable & set(others):
        raise Problem(409, "the last way to log in", "expected a user with a password, or with another account linked: "
                      "somebody who edits users may set a password")
    for each in found:
        db.delete(each)
