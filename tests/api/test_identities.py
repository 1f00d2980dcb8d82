"""Single sign-on and WeChat against small servers that speak as the real ones do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey
from litestar.testing import TestClient
from providers import Provider, running
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from api import auth, identities
from api.app import create_app
from api.tables.users import User
from pipeline.settings import Settings


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as own:
        yield own


@pytest.fixture
def tables(tables: Settings, provider: Provider) -> Settings:
    return tables.model_copy(update={
        "oidc_issuer": provider.url, "oidc_client": "maskwatch", "oidc_secret": SecretStr("hush"), "oidc_create": True,
        "wechat_app": "wx1", "wechat_secret": SecretStr("hush"), "wechat_api": provider.url,
    })


def begin(app: TestClient[Any], after: str = "/episodes") -> str:
    answer = app.get("/v1/login/oidc", params={"after": after}, follow_redirects=False)
    assert answer.status_code == 302
    return answer.headers["location"]


def come_back(app: TestClient[Any], state: str, code: str = "c1") -> httpx.Response:
    return app.get("/v1/login/oidc/callback", params={"code": code, "state": state}, follow_redirects=False)


def test_single_sign_on_makes_a_user_without_rights_and_knows_them_again(
    app: TestClient[Any], as_: Any, provider: Provider
) -> None:
    assert app.get("/v1/login/ways").json() == {"password": True, "single_sign_on": True, "wechat": True}
    address = begin(app)
    assert "code_challenge_method=S256" in address
    assert "hush" not in address
    answer = come_back(app, provider.allow(address))
    assert (answer.status_code, answer.headers["location"]) == (302, "/episodes")
    me = app.get("/v1/me").json()
    assert (me["name"], me["full_name"], me["permissions"]) == ("mei", "Mei", [])
    log = as_("admin").get("/v1/audit", params={"user": me["id"]}).json()["items"]
    assert [(each["action"], each["noun"]) for each in reversed(log)] == [
        ("user.add", me["id"]), ("identity.link", provider.url), ("session.start", log[0]["noun"])]
    refused = app.delete("/v1/me/oidc")
    assert (refused.status_code, refused.json()["title"]) == (409, "the last way to log in")
    provider.claims = {"preferred_username": "mei-renamed"}
    app.cookies.clear()
    come_back(app, provider.allow(begin(app, "//evil.example/")))
    assert app.get("/v1/me").json()["id"] == me["id"]


@pytest.mark.parametrize(
    "claims", [{"aud": "another"}, {"iss": "https://evil.example"}, {"nonce": "old"}, {"exp": 1}, {"sub": None}]
)
def test_a_token_that_is_not_for_us_now_is_refused(app: TestClient[Any], provider: Provider, claims: dict[str, Any]
                                                   ) -> None:
    provider.claims = claims
    answer = come_back(app, provider.allow(begin(app)))
    assert (answer.status_code, answer.json()["title"]) == (401, "sign-on refused")
    assert app.get("/v1/me").status_code == 401


def test_a_forged_token_another_browser_and_a_second_time_are_refused(app: TestClient[Any], provider: Provider) -> None:
    provider.signs = RSAKey.generate_key(2048, parameters={"kid": "one"})
    assert come_back(app, provider.allow(begin(app))).status_code == 401
    provider.signs = provider.key
    state = provider.allow(begin(app))
    kept = httpx.Cookies(app.cookies)
    app.cookies.clear()
    assert come_back(app, state).json()["title"] == "not begun here"
    app.cookies.update(kept)
    assert come_back(app, state).status_code == 302
    provider.allow(f"https://x/?state={state}&nonce=n&code_challenge=c")
    assert come_back(app, state).json()["title"] == "not begun here"


def test_the_provider_does_not_decide_who_is_our_admin(app: TestClient[Any], as_: Any, provider: Provider) -> None:
    as_("admin", name="Root")
    provider.claims = {"preferred_username": "root"}
    assert come_back(app, provider.allow(begin(app))).json()["title"] == "name taken"
    root = as_("admin", name="Root2")
    assert root.get("/v1/me/oidc", follow_redirects=False).status_code == 405  # no page of another site begins it
    begun = root.post("/v1/me/oidc", params={"after": "/me"})
    state = provider.allow(begun.json()["address"])
    # whoever uses the browser after them links nothing to them, and is not let in as them
    for login in ("", as_("viewer").headers["authorization"]):
        other = copy.copy(root)
        other.headers = httpx.Headers({"authorization": login} if login else {})
        answer = come_back(other, state)
        assert (answer.status_code, answer.json()["title"]) == (403, "somebody else")
        assert "set-cookie" not in answer.headers
        state = provider.allow(root.post("/v1/me/oidc", params={"after": "/me"}).json()["address"])
    done = come_back(root, state)
    assert (done.status_code, done.headers["location"], "set-cookie" in done.headers) == (302, "/me", False)
    come_back(app, provider.allow(begin(app)))
    assert app.get("/v1/me").json()["name"] == "Root2"
    me = root.get("/v1/me").json()["id"]
    log = root.get("/v1/audit", params={"user": me, "action": "identity.link"}).json()["items"]
    assert [each["noun"] for each in log] == [provider.url]


def test_an_account_is_taken_off_as_long_as_there_is_another_way_in(
    app: TestClient[Any], as_: Any, provider: Provider, sessions: sessionmaker[Session]
) -> None:
    lin = as_("inspector", site="hall", name="Lin")
    assert come_back(lin, provider.allow(lin.post("/v1/me/oidc").json()["address"])).status_code == 302
    assert lin.delete("/v1/me/oidc").status_code == 409
    assert lin.post("/v1/me/wechat", json={"code": "good"}).status_code == 204
    assert lin.delete("/v1/me/oidc").status_code == 204
    assert lin.delete("/v1/me/oidc").status_code == 404
    assert lin.delete("/v1/me/wechat").status_code == 409
    with sessions() as session, session.begin():
        session.execute(update(User).where(User.name == "Lin").values(password=auth.hashed("long enough now")))
    assert lin.delete("/v1/me/wechat").status_code == 204
    log = as_("admin").get("/v1/audit", params={"user": lin.get("/v1/me").json()["id"]}).json()["items"]
    assert [(each["action"], each["noun"]) for each in log] == [
        ("identity.unlink", "wechat"), ("identity.unlink", "oidc"), ("identity.link", "wechat"),
        ("identity.link", provider.url)]  # fmt: skip


def test_wechat_is_linked_first_and_then_logs_in(
    app: TestClient[Any], as_: Any, provider: Provider, sessions: sessionmaker[Session]
) -> None:
    lin = as_("inspector", site="hall", name="Lin")
    refused = app.post("/v1/login/wechat", json={"code": "good"})
    assert (refused.status_code, refused.json()["title"]) == (404, "not linked")
    assert app.post("/v1/login/wechat", json={"code": "good"}).status_code == 401  # a code is good once
    provider.openids |= {"a": "wx-lin", "b": "wx-lin", "c": "wx-lin", "d": "wx-lin"}
    assert lin.post("/v1/me/wechat", json={"code": "a"}).status_code == 204
    assert as_("inspector").post("/v1/me/wechat", json={"code": "b"}).status_code == 409
    told = app.post("/v1/login/wechat", json={"code": "c"}).json()
    assert told["me"]["name"] == "Lin"
    assert [each["provider"] for each in lin.get("/v1/me/identities").json()] == ["wechat"]
    with sessions() as session, session.begin():
        session.execute(update(User).where(User.name == "Lin").values(password=auth.hashed("long enough now")))
    assert lin.delete("/v1/me/wechat").status_code == 204
    assert app.post("/v1/login/wechat", json={"code": "d"}).status_code == 404
    # codes are asked for at WeChat: not any number of them
    tries = [app.post("/v1/login/wechat", json={"code": "wrong"}).status_code for _ in range(28)]
    assert tries == [401] * 27 + [429]


def test_a_server_that_is_away_is_named_without_its_secret(tables: Settings) -> None:
    away = tables.model_copy(update={"wechat_api": "http://127.0.0.1:9", "oidc_issuer": "http://127.0.0.1:9"})
    with TestClient(create_app(away), base_url="http://127.0.0.1:8000") as app:
        answer = app.post("/v1/login/wechat", json={"code": "good"})
        assert answer.status_code == 502
        assert "hush" not in answer.text
        assert app.get("/v1/login/oidc", follow_redirects=False).status_code == 502


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "episodes", "/a\nb"])
def test_nobody_is_sent_on_to_somewhere_else(path: str) -> None:
    assert identities.local(path) == "/"
    assert identities.local("/people?q=1#x") == "/people?q=1#x"
