"""A write under a key is done once, however often it is sent; nobody is given again what they may not have any more."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session, sessionmaker
from world import photo

from api import idempotency
from api.db import now
from api.retention import Job
from api.sight import FoundFaces
from api.tables.audit import Audit
from api.tables.idempotency import BEGUN, Answered
from api.tables.sites import Site
from api.tables.users import Grant, User
from pipeline.settings import Settings


@pytest.fixture(scope="module")
def tables(tables_of_module: Settings) -> Settings:
    return tables_of_module


@pytest.fixture(scope="module")
def app(app_of_module: TestClient[Any]) -> TestClient[Any]:
    return app_of_module


@pytest.fixture(scope="module")
def sessions(sessions_of_module: sessionmaker[Session]) -> sessionmaker[Session]:
    return sessions_of_module


def count(sessions: sessionmaker[Session], name: str) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(User).where(User.name == name)) or 0


def kept(sessions: sessionmaker[Session], key: str) -> list[int]:
    with sessions() as session:
        return list(session.scalars(select(Answered.status).where(Answered.key == key)))


def older(sessions: sessionmaker[Session], key: str, by: timedelta, **values: Any) -> None:
    with sessions() as session, session.begin():
        session.execute(update(Answered).where(Answered.key == key).values(at=now() - by, **values))


def until(true: Any) -> None:
    tick = threading.Event()
    for _ in range(400):
        if true():
            return
        tick.wait(0.05)
    raise AssertionError("it never came so far")


def test_sent_again_it_gets_the_same_answer(as_: Any, sessions: sessionmaker[Session]) -> None:
    admin, key = as_("admin"), {"idempotency-key": "one"}
    first = admin.post("/v1/users", json={"name": "Wu"}, headers=key)
    again = admin.post("/v1/users", json={"name": "Wu"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert admin.post("/v1/users", json={"name": "Xu"}, headers=key).status_code == 422
    assert admin.post("/v1/users", json={"name": "Wu"}).status_code == 409  # without the key it is another one
    # the key belongs to the user: another's request under it is another's
    assert as_("admin").post("/v1/users", json={"name": "Zu"}, headers=key).status_code == 201
    refused = admin.post("/v1/users", json={"name": ""}, headers={"idempotency-key": "two"})
    assert refused.status_code == 422
    assert admin.post("/v1/users", json={"name": ""}, headers={"idempotency-key": "two"}).json() == refused.json()
    assert count(sessions, "Wu") == 1


def test_one_at_a_time_and_free_again_after_a_death(as_: Any, sessions: sessionmaker[Session]) -> None:
    admin, key = as_("admin"), {"idempotency-key": "three"}
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).status_code == 201
    with sessions() as session, session.begin():  # as if the process had died before it did anything
        session.execute(delete(User).where(User.name == "Li"))
    older(sessions, "three", timedelta(), status=BEGUN)
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).json()["title"] == "being done"
    older(sessions, "three", timedelta(minutes=2))
    assert admin.post("/v1/users", json={"name": "Li"}, headers=key).status_code == 201
    assert count(sessions, "Li") == 1


def test_without_a_login_a_key_is_worth_nothing(app: Any) -> None:
    assert app.post("/v1/users", json={"name": "Wu"}, headers={"idempotency-key": "k"}).status_code == 401


def test_at_the_same_time_one_does_it(as_: Any, sessions: sessionmaker[Session]) -> None:
    admin = as_("admin")
    assert admin.get("/v1/me").status_code == 200  # its login is noted: under the lock that could not be done

    def send(name: str) -> Any:
        return admin.post("/v1/users", json={"name": name}, headers={"idempotency-key": name})

    with sessions() as session, ThreadPoolExecutor(8) as threads:
        with session.begin():
            session.execute(text("lock table users in share mode"))  # whoever writes one waits
            first = threads.submit(send, "Tan")
            until(lambda: kept(sessions, "Tan") == [BEGUN])
            assert send("Tan").json()["title"] == "being done"
        assert first.result(20).status_code == 201
        answers = [each.result(20) for each in [threads.submit(send, "Zhu") for _ in range(8)]]
    assert send("Tan").headers["idempotent-replayed"] == "true"
    told = {(answer.status_code, answer.headers.get("idempotent-replayed", ""), answer.json().get("title", ""))
            for answer in answers}
    # `done before`: between what it did and the keeping of its answer
    assert told <= {(201, "", ""), (201, "true", ""), (409, "", "being done"), (409, "", "done before")}
    assert (201, "", "") in told
    assert (count(sessions, "Tan"), count(sessions, "Zhu")) == (1, 1)


class Client:
    """Speaks to the app as a server does, so that it can go in the middle of it."""

    def __init__(self, client: TestClient[Any]) -> None:
        self.client, self.taken = client, 0  # parts of the last body that were taken

    def send(self, method: str, path: str, parts: list[bytes], goes: bool = False, headers: Any = (), **how: Any
             ) -> list[int]:
        """-> the statuses that came. `goes`: after the last part, in the middle of the body. `cancel`: what is
        cancelled as soon as the answer begins."""
        request = self.client.build_request(method, path, headers=dict(headers))
        left = list(parts)
        statuses: list[int] = []
        self.taken = 0

        async def receive() -> Any:
            if left:
                self.taken += 1
                body = left.pop(0)
                return {"type": "http.request", "body": body, "more_body": bool(left) or goes}
            return {"type": "http.disconnect"}

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                if how.get("cancel"):
                    raise asyncio.CancelledError

        async def run() -> None:
            scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
                     "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "state": {},
                     "headers": [(name.lower(), value) for name, value in request.headers.raw],
                     "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "extensions": {}}
            try:
                await asyncio.create_task(self.client.app(scope, receive, answer))
            except asyncio.CancelledError:
                pass

        self.client.blocking_portal.call(run)
        return statuses


def form(line: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """A form as a client makes it, with a line between its parts that is another one each time."""
    head = b'Content-Disposition: form-data; name="picture"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"--" + line.encode() + b"\r\n" + head + content + b"\r\n--" + line.encode() + b"--\r\n"
    return body, {"content-type": f"multipart/form-data; boundary={line}", "content-length": str(len(body))}


def test_a_form_under_a_key_and_a_client_that_goes_in_the_middle_of_it(
        as_: Any, sessions: sessionmaker[Session]) -> None:
    with sessions() as session, session.begin():
        session.add(Site(id="yard", name="Yard"))
    admin, key = as_("admin"), {"idempotency-key": "form"}
    plan = admin.post("/v1/plans", json={"site": "yard", "name": "p", "west": 0, "south": 0, "east": 9, "north": 9})
    path = f"/v1/plans/{plan.json()['id']}/picture"
    body, headers = form("one", photo())
    assert Client(admin).send("PUT", path, [body[:4000]], goes=True, headers=headers | key) == []
    assert kept(sessions, "form") == []
    first = admin.put(path, content=body, headers=headers | key)
    body, headers = form("another", photo())
    again = admin.put(path, content=body, headers=headers | key)
    assert (first.status_code, again.status_code, first.json()) == (200, 200, again.json())
    assert again.headers["idempotent-replayed"] == "true"
    body, headers = form("another", photo(2))
    assert admin.put(path, content=body, headers=headers | key).json()["title"] == "key used before"
    with sessions() as session:
        done = session.scalar(select(func.count()).select_from(Audit).where(Audit.action == "plan.picture"))
    assert done == 1


def test_a_body_is_read_no_further_than_its_route_takes(as_: Any, sessions: sessionmaker[Session]) -> None:
    client, key = Client(as_("admin")), {"idempotency-key": "long"}
    parts = [b"x" * (1 << 20)] * 100
    assert client.send("POST", "/v1/users", parts, headers=key) == [413]
    assert client.taken <= 10
    assert client.send("POST", "/v1/users", parts, headers=key | {"content-length": str(1 << 30)}) == [413]
    assert client.taken == 0
    assert kept(sessions, "long") == []


def test_what_was_done_is_not_done_again_when_the_answer_was_cut_off(as_: Any, sessions: sessionmaker[Session]) -> None:
    """As at a shutdown: the row is committed, and the request is cancelled before its answer is kept."""
    admin, key = as_("admin"), {"idempotency-key": "cut", "content-type": "application/json"}
    body = msgspec.json.encode({"name": "Gu"})
    assert Client(admin).send("POST", "/v1/users", [body], headers=key, cancel=True) == [201]
    again = admin.post("/v1/users", content=body, headers=key)
    assert (again.status_code, again.json()["title"]) == (409, "done before")
    older(sessions, "cut", timedelta(minutes=2))
    assert admin.post("/v1/users", content=body, headers=key).json()["title"] == "done before"
    assert count(sessions, "Gu") == 1


def test_who_is_overtaken_does_nothing(as_: Any, sessions: sessionmaker[Session]) -> None:
    """One that takes longer than a minute, and another that has begun meanwhile: only one is done."""
    admin, key = as_("admin"), {"idempotency-key": "slow"}
    assert admin.get("/v1/me").status_code == 200
    with sessions() as session, ThreadPoolExecutor(1) as threads:
        with session.begin():
            session.execute(text("lock table users in share mode"))
            first = threads.submit(lambda: admin.post("/v1/users", json={"name": "Ma"}, headers=key))
            until(lambda: kept(sessions, "slow") == [BEGUN])
            older(sessions, "slow", timedelta())  # as the other one that has begun
        assert first.result(20).json()["title"] == "being done"
    assert count(sessions, "Ma") == 0


def test_an_answer_is_not_for_whoever_may_not_ask_any_more(as_: Any, sessions: sessionmaker[Session]) -> None:
    with sessions() as session, session.begin():
        session.add_all([Site(id="hall", name="Hall"), Site(id="dock", name="Dock")])
    manager = as_("manager", site="hall")
    me = manager.get("/v1/me").json()["id"]
    with sessions() as session, session.begin():
        session.add(Grant(user=me, role="manager", site="dock"))
    body = {"site": "hall", "name": "p", "west": 0, "south": 0, "east": 9, "north": 9}

    def send() -> Any:
        return manager.post("/v1/plans", json=body, headers={"idempotency-key": "plan"})

    def take(**what: str) -> None:
        with sessions() as session, session.begin():
            session.execute(delete(Grant).where(Grant.user == me, *(getattr(Grant, k) == v for k, v in what.items())))

    assert (send().status_code, send().headers["idempotent-replayed"]) == (201, "true")
    take(site="hall")  # the right is held at another site still: the guard alone would let it pass
    assert (send().status_code, send().json()["title"]) == (409, "done before")
    take()
    assert send().status_code == 403


# Whoever adds one has to say so here: what it does is done again when it is sent again.
NEVER_KEPT = [
    "POST /v1/analyse", "POST /v1/analyse/upload", "POST /v1/cameras/test", "POST /v1/cameras/{camera:str}/snapshot",
    "POST /v1/cameras/{camera:str}/test", "POST /v1/faces/compare", "POST /v1/faces/compare/upload", "POST /v1/login",
    "POST /v1/login/wechat", "POST /v1/me/oidc", "POST /v1/me/tokens", "POST /v1/search", "POST /v1/search/upload",
]  # fmt: skip


def holds(kind: Any, seen: set[Any]) -> bool:
    """Whether an answer of this type may hold bytes, faces that were found, or something secret."""
    if kind in (bytes, FoundFaces) or kind in seen:
        return kind not in seen
    seen.add(kind)
    if getattr(kind, "__module__", "").startswith("api.messengers"):
        return False  # of a channel's secrets it names the variables
    inner = list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        names = [name for name in hints if not name.startswith("has_")]
        if any(word in name for name in names for word in ("token", "secret", "password")):
            return True
        inner += hints.values()
    return any(holds(each, seen) for each in inner)


def test_answers_with_faces_pictures_or_secrets_are_never_kept(app: TestClient[Any]) -> None:
    marked, must = [], []
    for route in app.app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if not isinstance(handler, HTTPRouteHandler):
                continue
            for method in sorted(handler.http_methods & idempotency.WRITES):
                name = f"{method} {route.path}"
                marked += [] if handler.opt["kept"] else [name]
                must += [name] if holds(handler.parsed_return_field.annotation, set()) else []
    assert sorted(marked) == NEVER_KEPT
    assert set(must) <= set(marked)
    assert len(must) >= 10


def test_a_token_is_shown_to_whoever_asked_and_kept_nowhere(as_: Any, sessions: sessionmaker[Session]) -> None:
    client, key = as_("viewer"), {"idempotency-key": "tokens"}
    first = client.post("/v1/me/tokens", json={"name": "t"}, headers=key).json()["token"]
    assert client.post("/v1/me/tokens", json={"name": "t"}, headers=key).json()["token"] != first
    assert kept(sessions, "tokens") == []


def test_after_a_day_an_answer_is_gone(as_: Any, sessions: sessionmaker[Session], tables: Settings) -> None:
    admin = as_("admin")
    for name in ("Ren", "Sun"):
        admin.post("/v1/users", json={"name": name}, headers={"idempotency-key": name})
    older(sessions, "Ren", timedelta(days=1, seconds=1))
    Job(tables, sessions).turn()
    assert (kept(sessions, "Ren"), kept(sessions, "Sun")) == ([], [201])
    older(sessions, "Sun", timedelta(days=1, seconds=1))
    again = admin.post("/v1/users", json={"name": "Sun"}, headers={"idempotency-key": "Sun"})
    assert again.json()["title"] == "name taken"


def test_a_key_has_to_be_one(as_: Any) -> None:
    for key in ("x" * 201, "naïve"):
        answer = as_("admin").post("/v1/users", json={"name": "Yu"}, headers={"idempotency-key": key.encode()})
        assert (answer.status_code, answer.json()["title"]) == (400, "bad key")
