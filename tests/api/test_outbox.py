"""An outbox that cannot send is seen from outside: on /ready, in /metrics and with the stream's health."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from litestar.testing import TestClient
from pydantic import SecretStr
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from api import auth, db
from api.app import create_app
from api.tables.outbox import Outgoing
from pipeline.settings import Settings


def waiting(sessions: sessionmaker[Session], value: bytes) -> None:
    with sessions() as session, session.begin():
        session.add(Outgoing(topic="cameras", key="gate", value=value))


def until(true: Any, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def figures(client: TestClient[Any]) -> dict[str, float]:
    text = client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^maskwatch_outbox_(\w+) ([0-9.e+-]+)$", text, re.M)}


def test_what_the_broker_refuses_is_seen_until_it_gets_through(sessions: sessionmaker[Session], as_: Any) -> None:
    admin = as_("admin")
    until(lambda: admin.get("/ready").status_code == 200)
    assert figures(admin) == {"up": 1, "waiting": 0, "age_seconds": 0}
    waiting(sessions, b"x" * (2 << 20))  # more than the topic takes: the broker denies it
    until(lambda: admin.app.state.producer.fault)
    answer = admin.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("the outbox cannot send: ")
    stranger = admin.get("/ready", headers={"authorization": ""})  # why is not for everybody
    assert (stranger.status_code, stranger.json()["detail"]) == (503, "the outbox cannot send")
    seen = figures(admin)
    assert (seen["up"], seen["waiting"]) == (0, 1)
    assert seen["age_seconds"] > 0
    told = admin.get("/v1/stream").json()["outbox"]
    assert told["waiting"] == 1
    assert told["fault"]
    with sessions() as session, session.begin():
        session.execute(delete(Outgoing))
    until(lambda: admin.get("/ready").status_code == 200)
    assert figures(admin)["up"] == 1


def test_a_broker_that_is_gone_is_seen_too(database: str, tmp_path: Path) -> None:
    settings = Settings(kafka="127.0.0.1:1", data=tmp_path, database=SecretStr(database), admin_password="secret-words")
    sessions = db.sessions(engine := db.connect(settings))
    with sessions() as session, session.begin():
        auth.first_login(session, settings)
    waiting(sessions, b"{}")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        client.post("/v1/login", json={"name": "admin", "password": "secret-words"})
        until(lambda: client.app.state.producer.fault)
        assert client.get("/ready").status_code == 503
        assert figures(client)["up"] == 0
    engine.dispose()
