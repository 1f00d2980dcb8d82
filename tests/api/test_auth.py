"""Logging in and out, what a login is worth, and that no route is open by oversight."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api import auth, db
from api.permissions import PERMISSIONS, ROLES
from api.tables.audit import Audit
from api.tables.users import Grant, Login, User
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


def test_guessing_a_password_has_to_wait(app: TestClient[Any], lin: str) -> None:
    unknown, wrong = log_in(app, name="nobody"), log_in(app, "wrong password")
    assert (unknown.status_code, wrong.status_code) == (401, 401)
    assert unknown.json()["detail"] == wrong.json()["detail"]
    for _ in range(auth.FAILURES - 1):
        log_in(app, "wrong password")
    answer = log_in(app)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert answer.headers["content-type"].startswith("application/problem+json")


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
