"""Who asks: passwords, logins, and the one guard that every route passes."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import throttle
from api.db import now
from api.permissions import PERMISSIONS, ROLES, Given, Who
from api.problems import Problem
from api.tables.users import Grant, Login, Role, RolePermission, User
from pipeline.settings import Settings

COOKIE = "maskwatch"
FIRST_LOGIN = "first-login.txt"
LEAST_PASSWORD = 10  # characters
TOUCH = timedelta(minutes=1)  # `used` is not written more often

PUBLIC, ANYBODY = "public", "anybody"  # without a login; any login
# argon2id with RFC 9106's second recommended choice, the package's default: 64 MiB, 3 passes
_hasher = PasswordHasher()
_nobody = _hasher.hash(secrets.token_hex(16))  # verified when there is no such user: the answer takes as long


def needs(permission: str, everywhere: bool = False, kept: bool = True) -> dict[str, Any]:
    """A route's `opt`: what its guard asks for. `public`, `anybody` (logged in), or a permission; `everywhere`: held
    for every site, because what the route shows or does is of no single one. `kept`: whether the answer to a write may
    be kept under its Idempotency-Key; not one that holds faces, pictures or secrets."""
    if permission not in (PUBLIC, ANYBODY) and permission not in PERMISSIONS:
        raise ValueError(f"expected a permission of api/permissions.py, got {permission!r}")
    return {"needs": permission, "everywhere": everywhere, "kept": kept}


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The app's only guard. A route that says nothing is closed to everybody."""
    wanted = handler.opt.get("needs")
    if wanted == PUBLIC or handler.opt.get("exclude_from_auth"):
        _same_origin(connection)  # a form of another site would log its reader in as whoever it likes
        return
    # never in the event loop: who waits there for a connection of the database keeps those who hold one from ending
    who = await sync_to_thread(identify, connection)
    if wanted == ANYBODY:
        return
    if wanted is None or not who.may(wanted):
        raise PermissionDeniedException(f"expected the permission {wanted}, {who.name} does not have it")
    if handler.opt.get("everywhere") and not who.scope(wanted).everywhere:
        raise PermissionDeniedException(f"expected the permission {wanted} for every site, {who.name} does not have it")


def identify(connection: ASGIConnection[Any, Any, Any, Any]) -> Who:
    """The user of this connection. Raises NotAuthorizedException."""
    known: Who | None = connection.scope.get("state", {}).get("who")
    if known is not None:
        return known
    token, by_cookie = presented(connection)
    if not token:
        raise NotAuthorizedException("expected a login: the cookie of POST /v1/login, or Authorization: Bearer")
    if by_cookie:
        _same_origin(connection)
    make: sessionmaker[Session] = connection.app.state.sessions
    settings: Settings = connection.app.state.settings
    with make() as session, session.begin():
        who = recognise(session, token, settings, address=address(connection))
    if who is None:
        raise NotAuthorizedException("expected a valid login: this one has ended or never was")
    connection.scope["state"]["who"] = who
    return who


def presented(connection: ASGIConnection[Any, Any, Any, Any]) -> tuple[str, bool]:
    """What the caller shows, and whether it came by cookie."""
    header = connection.headers.get("authorization", "")
    if header.lower().startswith("bearer "):
        return header[7:].strip(), False
    return connection.cookies.get(COOKIE, ""), True


def _same_origin(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """A browser sends the cookie with whatever any page asks for: only our own pages may change things or open a
    socket."""
    if connection.scope["type"] == "http" and connection.scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
    settings: Settings = connection.app.state.settings  # a proxy may have put another name in place of ours
    if origin and urlsplit(origin).netloc != host and origin.lower() != settings.public_origin:
        raise PermissionDeniedException(f"expected a request from a page of {host}, got one from {origin}")
    if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise PermissionDeniedException("expected a request from a page of this server")


def address(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return connection.client.host if connection.client else ""


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def recognise(session: Session, token: str, settings: Settings, address: str = "") -> Who | None:
    """The user behind a token, with the grants that hold now; None when it has ended."""
    at = now()
    found = session.execute(
        select(Login, User).join(User, User.id == Login.user)
        .where(Login.digest == digest(token), Login.expires > at, User.active)
    ).first()
    if found is None:
        return None
    login, user = found
    if login.kind == "session" and at - login.used > timedelta(hours=settings.session_idle):
        session.delete(login)
        return None
    if at - login.used > TOUCH:
        session.execute(update(Login).where(Login.id == login.id).values(used=at))
        session.execute(update(User).where(User.id == user.id).values(seen=at))
    return Who(user.id, user.name, login.id, grants_of(session, user.id, at), address, user.language)


def grants_of(session: Session, user: str, at: datetime) -> tuple[Given, ...]:
    """Grants that hold at a time."""
    rows = session.execute(
        select(Grant.id, Grant.role, Grant.site, Grant.camera, RolePermission.permission)
        .outerjoin(RolePermission, RolePermission.role == Grant.role)
        .where(Grant.user == user, or_(Grant.until.is_(None), Grant.until > at))
    ).all()
    held: dict[str, tuple[str, str, str, set[str]]] = {}
    for id_, role, site, camera, permission in rows:
        held.setdefault(id_, (role, site, camera, set()))[3].add(permission)
    return tuple(Given(role, site, camera, frozenset(p for p in permissions if p))
                 for role, site, camera, permissions in held.values())


# -- passwords and logins -------------------------------------------------------------------------------------------


def hashed(password: str) -> str:
    """Raises Problem when it is too short."""
    if len(password) < LEAST_PASSWORD:
        raise Problem(422, "password too short",
                      f"expected at least {LEAST_PASSWORD} characters, got {len(password)}")
    return _hasher.hash(password)


def verified(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored or _nobody, password) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


def check_password(session: Session, name: str, password: str, address: str) -> User:
    """The user with this name and password. Raises Problem 401, or 429 after too many failures."""
    user = session.scalar(select(User).where(func.lower(User.name) == name.lower(), User.active))
    limits = throttle.of_login(session, name, user.id if user else None, address)
    throttle.allow(session, limits)
    right = verified(user.password if user else "", password)
    throttle.note(session, limits, right)
    if not right or user is None:
        raise Problem(401, "wrong name or password", "expected the name and the password of a user")
    if _hasher.check_needs_rehash(user.password):
        user.password = _hasher.hash(password)
    return user


def log_in(session: Session, user: str, settings: Settings, *, kind: str = "session", name: str = "",
           hours: float | None = None, address: str = "", agent: str = "") -> tuple[str, Login]:
    """A new login; -> the token to hand out, which is kept nowhere, and its row."""
    token = secrets.token_urlsafe(32)
    login = Login(digest=digest(token), user=user, kind=kind, name=name, address=address[:64], agent=agent[:200],
                  used=now(), expires=now() + timedelta(hours=hours or settings.session_longest))
    session.add(login)
    session.flush()
    if kind == "session":
        session.execute(update(User).where(User.id == user).values(seen=login.used))
        if address:
            throttle.known(session, user, address)
    return token, login


def prepare(session: Session) -> None:
    """The built-in roles, as far as they are not there; one that was changed stays changed."""
    there = set(session.scalars(select(Role.name)))
    for name, (about, radius, permissions) in ROLES.items():
        if name not in there:
            session.add(Role(name=name, about=about, built_in=True, patrol_radius=radius))
            session.flush()
            session.add_all(RolePermission(role=name, permission=each) for each in sorted(permissions))


def first_login(session: Session, settings: Settings) -> str:
    """When there is no user at all: `admin`, who may do everything; -> where the password is, else ""."""
    if session.scalar(select(func.count()).select_from(User)):
        return ""
    given = settings.admin_password.get_secret_value()
    password = given or secrets.token_urlsafe(12)
    user = User(name="admin", full_name="Administrator", password=hashed(password))
    session.add(user)
    session.flush()
    session.add(Grant(user=user.id, role="admin"))
    if given:
        return "first user: admin, with the password of MASKWATCH_ADMIN_PASSWORD"
    file = settings.data / FIRST_LOGIN
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"admin {password}\n")
    return f"first user: admin, password {password} (also in {file}; change it after the first login)"
