"""Logging in and out, what a login is worth, and that no route is open by oversight."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api import auth, db, throttle
from api.permissions import PERMISSIONS, ROLES
from api.tables.audit import Audit
from api.tables.users import Grant, Login, Throttle, User
from pipeline.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def lin(sessions: sessionmaker[Session]) -> str:
    with sessions() as session, session.begin():
        user = User(name="Lin", full_name="Lin Wei", password=auth.hashed(PASSWORD))
        session.add(user)
        session.flush()
        session.add(Grant(user=user.id, role="viewer", site="hall"))
        return user.id


def log_in(app: TestClient[Any], password: str = PASSWORD, name: str = "lin") -> Any:
    return app.post("/v1/login", json={"name": name, "password": password})


def test_a_login_ends_by_logout_by_idling_and_at_its_age(
    app: TestClient[Any], lin: str, sessions: sessionmaker[Session]
) -> None:
    answer = log_in(app)
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    me = app.get("/v1/me").json()
    assert (me["name"], me["rights"][0]["role"], me["rights"][0]["site"]) == ("Lin", "viewer", "hall")
    with sessions() as session:
        seen = session.get_one(User, lin).seen
    assert seen
    assert db.now() - seen < timedelta(minutes=1)
    assert app.post("/v1/logout").status_code == 204
    assert app.get("/v1/me").status_code == 401

    for change in ({"used": db.now() - timedelta(hours=13)}, {"expires": db.now() - timedelta(seconds=1)}):
        token = log_in(app).json()["token"]
        bearer = {"authorization": f"Bearer {token}"}
        assert app.get("/v1/me", headers=bearer).status_code == 200
        with sessions() as session, session.begin():
            session.execute(update(Login).where(Login.digest == auth.digest(token)).values(**change))
        assert app.get("/v1/me", headers=bearer).status_code == 401
    with sessions() as session:  # the token itself is nowhere
        assert token not in str(session.execute(select(Login.__table__)).all())


class Clock:
    """The time since the last failures, as the tables know it."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions

    def on(self, seconds: float) -> None:
        with self.sessions() as session, session.begin():
            session.execute(update(Throttle).values(at=Throttle.at - timedelta(seconds=seconds)))


@pytest.fixture
def from_(app: TestClient[Any]) -> Callable[[str], TestClient[Any]]:
    """`from_("203.0.113.7")`: the same app, asked from another address."""

    def client(address: str) -> TestClient[Any]:
        own = copy.copy(app)
        own.app = ProxyHeadersMiddleware(app.app, "testclient")  # type: ignore[arg-type,assignment]
        own._transport = copy.copy(app._transport)
        own._transport.client = own  # type: ignore[attr-defined]
        own.headers, own.cookies = httpx.Headers({"x-forwarded-for": address}), httpx.Cookies()
        return own

    return client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are not hashed: what is asked is how often they are tried."""
    monkeypatch.setattr(auth, "verified", lambda stored, password: bool(stored) and password == PASSWORD)


def test_guessing_a_password_has_to_wait_longer_each_time(
    app: TestClient[Any], lin: str, sessions: sessionmaker[Session], quick: None
) -> None:
    clock = Clock(sessions)
    unknown, wrong = log_in(app, name="nobody"), log_in(app, "wrong password")
    assert (unknown.status_code, wrong.status_code) == (401, 401)
    assert unknown.json()["detail"] == wrong.json()["detail"]
    for _ in range(throttle.HERE.free - 1):
        assert log_in(app, "wrong password", "LIN").status_code == 401
    answer = log_in(app)
    assert answer.status_code == 429
    assert 14 <= int(answer.headers["retry-after"]) <= 15
    assert answer.headers["content-type"].startswith("application/problem+json")
    for wait in (15, 30, 60):
        clock.on(wait - 1)
        assert log_in(app, "wrong password").status_code == 429
        clock.on(1)
        assert log_in(app, "wrong password").status_code == 401
    clock.on(120)
    assert log_in(app).status_code == 200
    assert [log_in(app, "wrong password").status_code for _ in range(5)] == [401] * 5  # a right one wipes out what was
    clock.on(3601)
    assert [log_in(app, "wrong password").status_code for _ in range(6)] == [401] * 5 + [429]


def test_nobody_is_locked_out_by_what_others_try(
    from_: Callable[[str], TestClient[Any]], lin: str, sessions: sessionmaker[Session], quick: None
) -> None:
    clock, home = Clock(sessions), from_("2001:db8:1:2::3")
    assert log_in(home).status_code == 200
    other = from_("192.0.2.1")
    assert [log_in(other, "wrong password").status_code for _ in range(6)] == [401] * 5 + [429]
    assert log_in(from_("192.0.2.2")).status_code == 200  # five failures at one address say nothing of another
    for i in range(3, 8):
        for _ in range(3):
            assert log_in(from_(f"192.0.2.{i}"), "wrong password").status_code == 401
    strange = from_("198.51.100.1")
    refused = log_in(strange)
    assert (refused.status_code, int(refused.headers["retry-after"]) <= 2) == (429, True)
    for i in range(2, 11):  # however long it goes on, the wait for addresses that nobody knows stays short
        clock.on(60)
        assert log_in(from_(f"198.51.100.{i}"), "wrong password").status_code == 401
    assert log_in(strange).status_code == 429
    assert log_in(home).status_code == 200
    assert log_in(from_("2001:db8:1:2:ffff::9")).status_code == 200  # of the same half of the address
    assert log_in(from_("2001:db8:1:3::3")).status_code == 429
    clock.on(60)
    assert log_in(strange).status_code == 200
    # somebody at the very address waits as well, and not for long
    assert [log_in(home, "wrong password").status_code for _ in range(6)] == [401] * 5 + [429]
    with sessions() as session, session.begin():
        session.execute(update(Throttle).where(Throttle.key.startswith("here:")).values(failures=1000))
    clock.on(60)
    assert log_in(home).status_code == 200
    # an address that tries many names waits too
    tries = [log_in(from_("203.0.113.9"), "wrong password", f"name{i}").status_code for i in range(31)]
    assert tries == [401] * 30 + [429]
    assert log_in(from_("203.0.113.9")).status_code == 429


def test_guesses_made_at_once_are_counted_one_by_one(
    app: TestClient[Any], lin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "HERE", throttle.Limit(2, 15, 900, theirs=True))
    together = threading.Barrier(4)

    def verified(stored: str, password: str) -> bool:
        together.wait(20)  # each has been let in before any of them has failed
        return False

    monkeypatch.setattr(auth, "verified", verified)
    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(lambda _: log_in(app, "wrong password").status_code, range(4)))
    assert answers == [401] * 2 + [429] * 2


def test_the_present_password_is_not_guessed_either(
    app: TestClient[Any], lin: str, sessions: sessionmaker[Session]
) -> None:
    log_in(app)
    answers = [app.put("/v1/me/password", json={"old": "no", "new": "long enough now"}).status_code for _ in range(6)]
    assert answers == [403] * 5 + [429]
    assert app.put("/v1/me/password", json={"old": PASSWORD, "new": "long enough now"}).status_code == 429
    Clock(sessions).on(15)
    assert app.put("/v1/me/password", json={"old": PASSWORD, "new": "long enough now"}).status_code == 204


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ("unix:", "unix:"), ("", ""),
])  # fmt: skip
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert throttle.network(address) == network


def test_a_right_ends_by_itself_and_with_the_user(app: TestClient[Any], lin: str, sessions: sessionmaker[Session]
                                                  ) -> None:
    log_in(app)
    assert "compliance.view" in app.get("/v1/me").json()["permissions"]
    with sessions() as session, session.begin():
        session.execute(update(Grant).values(until=db.now() - timedelta(seconds=1)))
    assert app.get("/v1/me").json()["permissions"] == []
    assert app.get("/v1/status").status_code == 403
    with sessions() as session, session.begin():
        session.execute(update(User).values(active=False))
    assert app.get("/v1/me").status_code == 401


def test_a_page_of_another_site_cannot_use_the_cookie(app: TestClient[Any], lin: str) -> None:
    token = log_in(app).json()["token"]
    assert app.post("/v1/logout", headers={"origin": "https://evil.example"}).status_code == 403
    assert app.post("/v1/logout", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert app.get("/v1/me").status_code == 200
    # nor log its reader in as somebody else: a form sends what reads as JSON without asking first
    body = f'{{"name": "lin", "password": "{PASSWORD}", "language": "=en"}}'
    for path, headers in (("/v1/login", {"origin": "https://evil.example"}), ("/v1/login", {"origin": "null"}),
                          ("/v1/login/wechat", {"sec-fetch-site": "cross-site"})):
        answer = app.post(path, content=body, headers={"content-type": "text/plain"} | headers)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
    assert app.post("/v1/login", json={"name": "lin", "password": PASSWORD}, headers={
        "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}).status_code == 200
    bearer = {"authorization": f"Bearer {token}", "origin": "https://evil.example"}
    assert app.post("/v1/logout", headers=bearer).status_code == 204  # no browser adds that by itself


def test_a_new_password_ends_every_other_session(app: TestClient[Any], lin: str, sessions: sessionmaker[Session]
                                                 ) -> None:
    other = log_in(app).json()["token"]
    log_in(app)
    assert app.put("/v1/me/password", json={"old": "no", "new": "long enough now"}).status_code == 403
    assert app.put("/v1/me/password", json={"old": PASSWORD, "new": "short"}).status_code == 422
    assert app.put("/v1/me/password", json={"old": PASSWORD, "new": "long enough now"}).status_code == 204
    assert app.get("/v1/me").status_code == 200
    assert app.get("/v1/me", headers={"authorization": f"Bearer {other}"}).status_code == 401
    with sessions() as session:
        actions = list(session.scalars(select(Audit.action).order_by(Audit.id)))
    assert actions == ["session.start", "session.start", "user.password"]


def test_the_first_user_is_made_once(sessions: sessionmaker[Session], tables: Settings) -> None:
    with sessions() as session, session.begin():
        assert "first user: admin" in auth.first_login(session, tables)
    file = tables.data / auth.FIRST_LOGIN
    assert file.stat().st_mode & 0o777 == 0o600
    with sessions() as session, session.begin():
        assert auth.first_login(session, tables) == ""


def test_every_route_says_who_may_use_it(app: TestClient[Any]) -> None:
    running: Litestar = app.app
    assert running.route_handler_method_map
    open_ = []
    for path, handlers in running.route_handler_method_map.items():
        for method, handler in handlers.items():
            wanted = handler.opt.get("needs")
            if method == "OPTIONS" or path.startswith("/schema/"):
                continue
            assert wanted in PERMISSIONS | {auth.PUBLIC, auth.ANYBODY}, f"{method} {path}: {wanted}"
            if wanted == auth.PUBLIC:
                open_.append(f"{method} {path}")
    assert sorted(open_) == PUBLIC_ROUTES


# Whoever adds one has to say so here.
PUBLIC_ROUTES = [
    "GET /", "GET /health", "GET /ready", "GET /schema", "GET /v1/login/oidc", "GET /v1/login/oidc/callback",
    "GET /v1/login/ways", "GET /{path:path}", "POST /v1/login", "POST /v1/login/wechat", "POST /v1/video/mediamtx",
]  # fmt: skip


def test_roles_hold_only_permissions_that_exist() -> None:
    assert len(PERMISSIONS) >= 28
    assert len(ROLES) >= 5
    for _, _, permissions in ROLES.values():
        assert permissions <= PERMISSIONS
