"""A message is sent until it has arrived, by whoever is alive, and everybody sees only the channels that are theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import receivers
from breaches import episode, fold
from folding import running
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api import sender
from api.db import made_id, now
from api.messengers.reach import Reach
from api.sender import Alerting
from api.tables.alerts import AlertRule
from api.tables.deliveries import Channel, Delivery, DeliveryAttempt
from pipeline.settings import Settings


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """The tables alone: no topic has a part in this."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning")


@pytest.fixture
def here(tables: Settings) -> Settings:
    """The tables, and leave to send to this machine."""
    return tables.model_copy(update={"alert_networks": "127.0.0.0/8"})


def channel(sessions: sessionmaker[Session], url: str, **more: Any) -> str:
    values = {"kind": "webhook", "name": "ward", "site": "", "language": "en", "pictures": False,
              "options": {"url": url}} | more
    with sessions() as session, session.begin():
        row = Channel(**values)
        session.add(row)
        session.flush()
        return row.id


def waiting(sessions: sessionmaker[Session], to: str, alert: str = "", what: str = "test") -> str:
    with sessions() as session, session.begin():
        row = Delivery(channel=to, what=what, alert=alert, once=made_id(), due=now(), facts={"channel": "ward"})
        session.add(row)
        session.flush()
        return row.id


@contextmanager
def alerting(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Alerting]:
    work = Alerting(settings, sessions)
    with running(work.run):
        yield work


def arrived(sessions: sessionmaker[Session], id: str, state: str = "sent", timeout: float = 30) -> Delivery:
    end = time.monotonic() + timeout
    while True:
        with sessions() as session:
            row = session.get_one(Delivery, id)
            if row.state == state:
                return row
        assert time.monotonic() < end, (row.state, row.answer)
        time.sleep(0.05)


def test_a_message_is_tried_until_it_arrives(
    here: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FIRST", 0.1)
    with receivers.web() as gone:
        pass  # nobody listens there any more
    one = waiting(sessions, channel(sessions, gone.url))
    with receivers.web() as server, alerting(here, sessions):
        server.answers = [(500, b"oops", {}), (503, b"", {})]
        two = waiting(sessions, channel(sessions, server.url))
        three = waiting(sessions, channel(sessions, f"{server.url}/off", enabled=False), what="alert")
        refused = waiting(sessions, channel(sessions, "http://10.9.9.9/"))
        strange = waiting(sessions, channel(sessions, server.url, options={}))
        assert arrived(sessions, two).attempts == 3
        assert arrived(sessions, three, "dropped").answer == "the channel is switched off"
        assert "no public address" in arrived(sessions, refused, "failed").answer
        assert "ValidationError" in arrived(sessions, strange, "failed").answer
        with receivers.web(gone.port):
            assert arrived(sessions, one).attempts > 1
    assert [request.headers["maskwatch-delivery"] for request in server.got] == [two] * 3
    with sessions() as session:
        tries = session.scalars(select(DeliveryAttempt).where(DeliveryAttempt.delivery == two)
                                .order_by(DeliveryAttempt.id)).all()
        assert [(each.sent, each.answer[:3]) for each in tries] == [(False, "500"), (False, "503"), (True, "200")]
        first = session.scalars(select(DeliveryAttempt.answer).where(DeliveryAttempt.delivery == one)).first()
        assert "refused" in str(first)


def test_one_that_never_arrives_is_given_up_and_may_be_sent_again(
    here: Settings, sessions: sessionmaker[Session], as_: Any
) -> None:
    with receivers.web() as server:
        pass
    to = channel(sessions, server.url, site="hall")
    id = waiting(sessions, to)
    with sessions() as session, session.begin():
        session.execute(update(Delivery).values(site="hall", made=now() - sender.GIVE_UP - timedelta(seconds=1)))
    work = Alerting(here, sessions)
    assert work.turn()
    assert not work.turn()
    hall, lab = as_("reviewer", site="hall"), as_("reviewer", site="lab")
    whole = hall.get(f"/v1/deliveries/{id}").json()
    assert (whole["delivery"]["state"], whole["delivery"]["attempts"], len(whole["tries"])) == ("failed", 1, 1)
    assert lab.get(f"/v1/deliveries/{id}").status_code == lab.post(f"/v1/deliveries/{id}/again").status_code == 404
    with receivers.web(server.port) as server:
        assert hall.post(f"/v1/deliveries/{id}/again").json()["state"] == "waiting"
        assert work.turn()
    assert hall.post(f"/v1/deliveries/{id}/again").status_code == 409
    assert [each.headers["maskwatch-delivery"] for each in server.got] == [id]
    listed = hall.get("/v1/deliveries", params={"state": "sent", "channel": to, "what": "test"}).json()["items"]
    assert [each["id"] for each in listed] == [id]
    assert lab.get("/v1/deliveries").json()["items"] == []


def test_waits_grow_and_are_spread() -> None:
    waits = [sender.wait("a", attempt) for attempt in range(1, 15)]
    for attempt, each in enumerate(waits):
        usual = min(sender.LONGEST, sender.FIRST * 2**attempt)
        assert 0.75 * usual <= each <= 1.25 * usual
    assert len({sender.wait(str(i), 1) for i in range(20)}) == 20


def test_several_senders_send_each_once_and_in_order(here: Settings, sessions: sessionmaker[Session]) -> None:
    reach = Reach.of("127.0.0.0/8")
    with receivers.web() as server:
        to = channel(sessions, server.url)
        begun, over = waiting(sessions, to, "a"), waiting(sessions, to, "a")
        many = [waiting(sessions, to) for _ in range(12)]
        with sessions() as session, session.begin(), sessions() as other, other.begin():
            held = sender.due(session)
            assert held is not None
            assert held.id == begun
            following = sender.due(other)
            assert following is not None
            assert following.id == many[0], "what follows on an alert does not overtake what is on its way"
            assert sender.attempt(session, held, here, reach)
        with alerting(here, sessions), alerting(here, sessions):
            for id in (over, *many):
                arrived(sessions, id)
    assert sorted(each.headers["maskwatch-delivery"] for each in server.got) == sorted([begun, over, *many])


def test_a_sender_killed_between_sending_and_writing_it_down_doubles_at_most_under_the_same_id(
    here: Settings, sessions: sessionmaker[Session]
) -> None:
    env = os.environ | {
        "MASKWATCH_DATABASE": here.database.get_secret_value(), "MASKWATCH_ALERT_NETWORKS": "127.0.0.0/8",
        "MASKWATCH_SECRET_ONE": "right", "MASKWATCH_SECRET_ONE_HOSTS": "127.0.0.1", "MASKWATCH_DATA": str(here.data),
    }  # fmt: skip
    command = [sys.executable, "-m", "cli.main", "alerts"]
    reached, answer = threading.Event(), threading.Event()

    def hold(_: receivers.Request) -> None:
        reached.set()
        answer.wait(120)

    with receivers.web() as server:
        server.before = hold
        options = {"url": server.url, "secret": "MASKWATCH_SECRET_ONE"}
        id = ""
        to = channel(sessions, server.url, options=options)
        with sessions() as session, session.begin():
            session.add(AlertRule(
                kind="episode", name="all", since=now() - timedelta(hours=1), cameras=[], zones=[], states=[],
                seconds=0.0, hours=[], timezone="UTC", cooldown=0.0, cooldown_by="camera", tell_end=False,
                steps=[{"after": 0, "channels": [to]}], latest=3600.0))
        fold(sessions, here, episode(time.time_ns() // 1000 - 10_000_000))
        with subprocess.Popen(command, env=env) as first:
            assert reached.wait(120)
            first.kill()
        with sessions() as session:
            (delivery,) = session.scalars(select(Delivery))
            assert (delivery.state, delivery.attempts) == ("waiting", 0)
            id = delivery.id
        answer.set()
        with subprocess.Popen(command, env=env) as second:
            assert arrived(sessions, id, timeout=120).attempts == 1
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0
    assert [each.headers["maskwatch-delivery"] for each in server.got] == [id, id]
    assert server.got[0].json["id"] == server.got[1].json["id"] == id
    with sessions() as session:
        assert len(session.scalars(select(Delivery)).all()) == 1


def test_a_channel_is_tried_out_and_shows_no_secret(
    here: Settings, sessions: sessionmaker[Session], as_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKWATCH_SECRET_HALL", "s3cret-value")
    monkeypatch.setenv("MASKWATCH_SECRET_HALL_HOSTS", "127.0.0.1")
    admin, hall, viewer = as_("admin"), as_("reviewer", site="hall"), as_("viewer")
    gate = as_("reviewer", site="hall", camera="g")
    with receivers.web() as server:
        options = {"kind": "dingtalk", "token": "MASKWATCH_SECRET_HALL", "address": server.url}
        body = {"name": "值班群", "site": "hall", "options": options}
        for client in (viewer, gate):
            assert client.post("/v1/channels", json=body).status_code == 403
        assert hall.post("/v1/channels", json=body | {"site": ""}).status_code == 403
        made = hall.post("/v1/channels", json=body)
        assert made.status_code == 201, made.text
        id = made.json()["id"]
        told = hall.post(f"/v1/channels/{id}/test")
        assert (told.status_code, told.json()["state"]) == (202, "waiting")
        assert Alerting(here, sessions).turn()
        assert server.got[0].json["text"]["content"].startswith("【Maskwatch】测试消息")
        assert hall.get(f"/v1/deliveries/{told.json()['id']}").json()["delivery"]["state"] == "sent"
        # another host gets nothing, whether it is written over the API or stood in the row before
        monkeypatch.setenv("MASKWATCH_SECRET_HALL_HOSTS", "chat.example.org")
        stolen = {"kind": "wecom", "token": "MASKWATCH_SECRET_HALL", "address": server.url}
        refused = hall.post("/v1/channels", json=body | {"options": stolen})
        assert (refused.status_code, refused.json()["title"]) == (422, "secret not for this host"), refused.text
        guessed = hall.post("/v1/channels", json=body | {"options": stolen | {"token": "MASKWATCH_SECRET_WARD"}})
        assert guessed.json()["detail"] == refused.json()["detail"].replace("HALL", "WARD")
        again = hall.post(f"/v1/channels/{id}/test").json()["id"]
        assert Alerting(here, sessions).turn()
        assert len(server.got) == 1
        sent = hall.get(f"/v1/deliveries/{again}").json()["delivery"]
        assert (sent["state"], "MASKWATCH_SECRET_HALL_HOSTS" in sent["answer"]) == ("failed", True)
        monkeypatch.setenv("MASKWATCH_SECRET_HALL_HOSTS", "127.0.0.1")
    every = admin.post("/v1/channels", json={"name": "all", "options": {"kind": "webhook", "url": "https://example.org/"}})
    seen = {each["name"]: each["options"] for each in hall.get("/v1/channels").json()}
    assert (seen["all"], seen["值班群"]["token"]) == (None, "MASKWATCH_SECRET_HALL")
    assert hall.get(f"/v1/channels/{every.json()['id']}").status_code == 404
    assert hall.post(f"/v1/channels/{every.json()['id']}/test").status_code == 404
    assert [each["name"] for each in gate.get("/v1/channels").json()] == ["all"]
    off = hall.put(f"/v1/channels/{id}", json=body | {"enabled": False})
    assert (off.status_code, off.json()["enabled"]) == (200, False)
    other = {"kind": "webhook", "url": "https://example.org/"}
    assert hall.put(f"/v1/channels/{id}", json=body | {"options": other}).status_code == 409
    for wrong in (
        {"kind": "webhook", "url": "ftp://a"}, {"kind": "webhook", "url": "https://a b"}, {"kind": "pigeon"}, {},
        {"kind": "wecom", "token": "s3cret-value"}, {"kind": "wecom", "token": "PATH"},
        {"kind": "smtp", "host": "mail", "sender": "a@b.c", "to": []},
        {"kind": "smtp", "host": "mail", "sender": "a@b.c\r\nBcc: x@y.z", "to": ["a@b.c"]},
        {"kind": "smtp", "host": "mail", "sender": "a@b.c", "to": ["a@b.c"], "user": "m"},
        {"kind": "smtp", "host": "mail", "sender": "a@b.c", "to": ["a@b.c\n"]}, {"kind": "webhook", "url": "http://a\n"},
        {"kind": "webhook", "url": "http://[", "secret": "MASKWATCH_SECRET_HALL"},
        {"kind": "smtp", "host": "ma il", "sender": "a@b.c", "to": ["a@b.c"]},
        {"kind": "mqtt", "host": "h", "topic": "a/#"}, {"kind": "mqtt", "host": "h", "topic": "a", "port": 0},
    ):  # fmt: skip
        assert hall.post("/v1/channels", json=body | {"options": wrong}).status_code == 422, wrong
    assert hall.post("/v1/channels", json=body | {"pictures": True}).status_code == 422
    for answer in (hall.get("/v1/channels"), hall.get("/v1/deliveries"), admin.get("/v1/audit")):
        assert "s3cret-value" not in answer.text
    assert hall.delete(f"/v1/channels/{id}").status_code == 204
