"""The live feed over HTTP: nobody hears of what they may not see, nor longer than they may; nothing ends it for all."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import db, live
from api.db import now
from api.live import Event, Hub, Listener
from api.permissions import Given, Who
from api.tables.users import Grant, Login
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(tables_of_module: Settings) -> Settings:
    return tables_of_module


@pytest.fixture(scope="module")
def app(app_of_module: TestClient[Any]) -> TestClient[Any]:
    return app_of_module


@pytest.fixture(scope="module")
def sessions(sessions_of_module: sessionmaker[Session]) -> sessionmaker[Session]:
    return sessions_of_module


@pytest.fixture(scope="module")
def address(address_of_module: str) -> str:
    return address_of_module


class Feed:
    """What one user hears, as it comes."""

    def __init__(self, address: str, client: Any) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.over = threading.Event()
        self.news = threading.Condition()
        self.client = client
        self.thread = threading.Thread(target=self._read, args=(address,), daemon=True)
        self.thread.start()
        self.until(lambda: "hello" in self.kinds)

    def _read(self, address: str) -> None:
        with httpx.stream("GET", f"{address}/v1/live", headers=self.client.headers, timeout=30) as answer:
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    with self.news:
                        self.heard.append((kind, json.loads(line[6:])))
                        self.news.notify_all()
        self.over.set()
        with self.news:
            self.news.notify_all()

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.heard]

    @property
    def ids(self) -> list[Any]:
        """Of what was told, but for signs of life."""
        return [data["data"].get("id") for kind, data in self.heard
                if kind not in ("hello", "beat", "lost", "ended", "grants.changed")]

    def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        with self.news:
            assert self.news.wait_for(true, seconds), self.heard[-5:]


@pytest.fixture
def feed(address: str) -> Iterator[Callable[[Any], Feed]]:
    """`feed(client)`: what its user hears, until the test ends."""
    opened: list[Feed] = []

    def open_(client: Any) -> Feed:
        opened.append(Feed(address, client))
        return opened[-1]

    yield open_
    for each in opened:
        each.client.post("/v1/logout")
        assert each.over.wait(20)


@pytest.fixture
def tell(sessions: sessionmaker[Session]) -> Callable[..., None]:
    def tell(id: Any, site: str = "", camera: str = "", needs: str = "", **more: Any) -> None:
        with sessions() as session, session.begin():
            live.tell(session, Event("counts", {"id": id}, site, camera, needs, **more))

    return tell


@contextmanager
def telling(tell: Callable[..., None], *where: str) -> Iterator[list[tuple[int, float]]]:
    """All the time, so that no feed is ever silent: (number, when it was told) each."""
    told: list[tuple[int, float]] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            told.append((len(told), time.monotonic()))
            tell(told[-1][0], *where)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def test_each_hears_what_they_may_see_and_no_more(feed: Any, as_: Any, tell: Any) -> None:
    hall, dock = as_("viewer", site="hall"), as_("viewer", site="dock")
    gate, stranger = as_("viewer", site="hall", camera="gate"), as_("viewer", site="elsewhere")
    feeds = [feed(client) for client in (hall, dock, gate, stranger)]
    tell("of the hall", "hall", "", "compliance.view")
    tell("of the gate", "hall", "gate", "compliance.view")
    tell("of the crane", "dock", "crane", "compliance.view")
    tell("of both", "hall", "gate", "compliance.view", cameras=("gate", "crane"))
    tell("for reviewers", "hall", "gate", "inspections.review")
    tell("for one", users=(dock.get("/v1/me").json()["id"],))
    tell("for all")
    for each in feeds:
        each.until(lambda each=each: "for all" in each.ids)
    assert [each.ids for each in feeds] == [
        ["of the hall", "of the gate", "of both", "for all"], ["of the crane", "for one", "for all"],
        ["of the gate", "of both", "for all"], ["for all"]]
    assert next(data for kind, data in feeds[2].heard if data.get("cameras"))["cameras"] == ["gate"]


def test_rights_are_looked_up_by_the_clock_whatever_flows(feed: Any, as_: Any, tell: Any, app: Any,
                                                          sessions: sessionmaker[Session]) -> None:
    app.app.state.hub.again = 0.3
    client, other = as_("viewer", site="hall"), as_("viewer", site="hall")
    first, second = feed(client), feed(other)
    me, its = client.get("/v1/me").json()["id"], other.get("/v1/me").json()["id"]
    with telling(tell, "hall", "", "compliance.view") as told:
        first.until(lambda: len(first.ids) > 3)
        with sessions() as session, session.begin():  # as if their time had come: nobody is told
            session.execute(update(Grant).where(Grant.user == me).values(until=now()))
        ended = time.monotonic()
        second.until(lambda: told[-1][1] > ended + 2)
        late = [number for number, at in told if at > ended + 1.5]
        assert late
        assert not set(late) & set(first.ids)
        assert not first.over.is_set()  # they are logged in still
        with sessions() as session, session.begin():
            session.execute(update(Login).where(Login.user == its).values(expires=now() - timedelta(seconds=1)))
        second.until(second.over.is_set, 5)
        assert second.kinds[-1] == "ended"


def test_what_is_taken_or_given_is_so_at_once(feed: Any, as_: Any, tell: Any, app: Any) -> None:
    app.app.state.hub.again = 60.0  # not by the clock
    admin, gives = as_("admin"), as_("viewer", site="dock")
    id = gives.get("/v1/me").json()["id"]
    first = feed(gives)
    grant = admin.post(f"/v1/users/{id}/grants", json={"role": "viewer", "site": "hall"}).json()["id"]
    with telling(tell, "hall", "", "compliance.view") as told:
        first.until(lambda: len(first.ids) > 3)
        admin.delete(f"/v1/users/{id}/grants/{grant}")
        gone = time.monotonic()
        ends = {  # how a login ends, and of whom
            "logout": lambda client: client.post("/v1/logout"),
            "switched off": lambda client: admin.patch(f"/v1/users/{me(client)}", json={"active": False}),
            "new password": lambda client: admin.patch(f"/v1/users/{me(client)}", json={"password": "long enough now"}),
            "removed": lambda client: admin.delete(f"/v1/users/{me(client)}"),
            "ended elsewhere": lambda client: client.delete(f"/v1/me/sessions/{login(client)}"),
        }
        for how, end in ends.items():
            client = as_("viewer", site="hall")
            its = feed(client)
            assert end(client).status_code in (200, 204), how
            its.until(its.over.is_set, 5)
            assert its.kinds[-1] == "ended", how
        assert not {number for number, at in told if at > gone + 1} & set(first.ids)


def me(client: Any) -> str:
    return str(client.get("/v1/me").json()["id"])


def login(client: Any) -> str:
    return str(next(each["id"] for each in client.get("/v1/me/sessions").json() if each["current"]))


def test_what_is_no_event_ends_nobody(feed: Any, as_: Any, tell: Any, sessions: sessionmaker[Session]) -> None:
    first = feed(as_("viewer", site="hall"))
    for payload in ("not JSON", "{}", '{"kind": 1}', '{"kind": "counts", "site": "hall", "needs": "no.such"}',
                    '{"kind": "counts", "data": []}'):
        with sessions() as session, session.begin():
            session.execute(select(func.pg_notify(live.CHANNEL, payload)))
    tell("after it", "hall", "", "compliance.view")
    first.until(lambda: first.ids == ["after it"])


def test_what_waits_for_a_slow_reader_is_still_theirs_or_goes() -> None:
    hall = Who("u", "u", "l", (Given("viewer", "hall", "", frozenset({"compliance.view"})),))
    listener = Listener(hall)
    for site in ("hall", ""):
        listener.offer(Event("counts", {"id": site}, site, needs="compliance.view" if site else ""), b"{}")
    listener.become(Who("u", "u", "l"))
    assert [listener.queue.get_nowait()[0].data["id"] for _ in range(listener.queue.qsize())] == [""]


def test_only_what_pages_wait_for_is_told(sessions: sessionmaker[Session]) -> None:
    source = (ROOT / "frontend/src/composables/useLive.ts").read_text()
    listed = re.search(r"const KINDS = \[(.*?)\] as const", source, re.DOTALL)
    assert listed
    assert sorted(re.findall(r"'([\w.]+)'", listed[1])) == sorted(live.KINDS)
    with sessions() as session, pytest.raises(ValueError, match=r"expected a kind of live.KINDS, got 'gate.opened'"):
        live.tell(session, Event("gate.opened"))
    written = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py") if path != ROOT / "api/live.py")
    assert [kind for kind in sorted(live.KINDS) if f'"{kind}"' not in written] == []


async def test_a_host_that_vanishes_is_noticed(tables: Settings) -> None:
    def options(fd: int) -> list[int]:
        with socket.socket(fileno=socket.dup(fd)) as own:
            return [own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *(
                own.getsockopt(socket.IPPROTO_TCP, option) for option in (
                    socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT))]

    wanted = [1, 10, 5, 3, 25_000]
    engine = db.connect(tables)
    with engine.connect() as connection:
        assert connection.connection.driver_connection
        assert options(connection.connection.driver_connection.fileno()) == wanted
    engine.dispose()
    async with await Hub(db.url(tables))._connect() as listening:
        assert options(listening.fileno()) == wanted


def test_feeds_that_begin_at_once_are_not_looked_up_at_once() -> None:
    """As when the server comes back and every page opens its feed anew."""
    hub, looked = Hub("postgresql://127.0.0.1:9/none"), []
    hub.again = 1.0
    who = Who("u", "u", "login", ())

    async def again() -> Who:
        looked.append(time.monotonic())
        return who

    async def many() -> None:
        guards = [asyncio.create_task(hub.guard(Listener(who), again)) for _ in range(100)]
        await asyncio.sleep(1.0)
        for each in guards:
            each.cancel()
        await asyncio.gather(*guards, return_exceptions=True)

    asyncio.run(many())
    first = sorted(looked)[:100]
    busiest = max(sum(at <= other < at + 0.2 for other in first) for at in first)
    assert len(looked) >= 95
    assert busiest < 60, "of 100 lookups most came within a fifth of the time they have"
