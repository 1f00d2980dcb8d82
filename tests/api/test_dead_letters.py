"""Dead letters over the API: folded, listed, looked into without showing pictures or passwords, sent again once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import records
from folding import folding, publish, until
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.tables.audit import Audit
from api.tables.dead_letters import Letter
from pipeline.messages import Camera, DeadLetter, Frame, Source, encode
from pipeline.settings import Settings

NOW = time.time_ns() // 1000


def letter(number: int, payload: bytes, topic: str = "frames", stage: str = "mask", **more: Any) -> DeadLetter:
    return DeadLetter(**{
        "id": f"{topic}:0:{number}:{stage}", "topic": topic, "partition": 0, "offset": number, "stage": stage,
        "reason": "expected a JPEG", "at": NOW + number, "key": "gate", "payload": payload} | more)


@pytest.fixture
def folded(tables: Settings, sessions: sessionmaker[Session]) -> Callable[..., None]:
    def put(*letters: DeadLetter) -> None:
        with folding(tables, sessions):
            publish(tables, *(("dead.letters", one) for one in letters))
            until(sessions, lambda s: all(
                (row := s.get(Letter, one.id.replace("\0", "\ufffd"))) and row.redriven == one.redriven
                for one in letters))

    return put


def test_listed_filtered_and_looked_into(folded: Any, as_: Any) -> None:
    picture = encode(Frame("gate", NOW, jpeg=b"\xff\xd8\xff" + b"PICTURE" * 99, digest=b"1" * 2304), "msgpack")
    wish = encode(Camera("gate", (Source("rtsp://user:hunter2@10.0.0.9/1"),)))
    folded(letter(1, picture), letter(2, b"\xc1 no msgpack", reason="odd \0 byte"),
           letter(3, wish, "cameras", "materialiser"), letter(4, picture, reason="(payload cut: …)"))
    admin = as_("admin")
    page = admin.get("/v1/dead-letters", params={"limit": 3}).json()
    assert [item["offset"] for item in page["items"]] == [4, 3, 2]
    assert page["items"][2]["reason"] == "odd \ufffd byte"
    rest = admin.get("/v1/dead-letters", params={"limit": 3, "cursor": page["next"]}).json()
    assert ([item["offset"] for item in rest["items"]], rest["next"]) == ([1], None)

    def offsets(**query: Any) -> list[int]:
        return [item["offset"] for item in admin.get("/v1/dead-letters", params=query).json()["items"]]

    assert offsets(stage="materialiser") == [3]
    assert offsets(topic="frames", since=NOW + 2) == [4, 2]
    assert offsets(reason="JPEG", until=NOW + 3) == [1]
    assert offsets(show="redriven") == []
    seen = admin.get("/v1/dead-letters/frames:0:1:mask")
    assert seen.json()["payload"]["jpeg"] == "JPEG, 696 bytes"
    assert "PICTURE" not in seen.text
    assert "no msgpack" in admin.get("/v1/dead-letters/frames:0:2:mask").json()["head"]
    wish_ = admin.get("/v1/dead-letters/cameras:0:3:materialiser")
    assert "hunter2" not in wish_.text
    assert wish_.json()["payload"]["sources"][0]["url"] == "rtsp://***@10.0.0.9/1"
    assert admin.get("/v1/dead-letters/frames:0:9:mask").status_code == 404
    # a reviewer of every site looks after the stream, but may not see what cameras are reached by, nor send anything
    reviewer = as_("reviewer")
    assert reviewer.get("/v1/dead-letters/frames:0:1:mask").json()["payload"]["camera"] == "gate"
    assert reviewer.get("/v1/dead-letters/cameras:0:3:materialiser").json()["payload"] is None
    assert reviewer.post("/v1/dead-letters/redrive", json={"every": True}).status_code == 403
    assert as_("manager", site="hall").get("/v1/dead-letters").status_code == 403


def test_sent_again_once_and_written_down(tables: Settings, sessions: sessionmaker[Session], folded: Any, as_: Any
                                          ) -> None:
    payloads = {1: b"\x00\xffanything", 2: b"two", 3: b"three"}
    folded(*(letter(n, payload) for n, payload in payloads.items()), letter(4, b"part", reason="(payload cut: …)"))
    admin = as_("admin")

    def send(**body: Any) -> Any:
        return admin.post("/v1/dead-letters/redrive", json=body)

    assert send().status_code == 422
    assert send(ids=["frames:0:1:mask", "frames:0:9:mask"]).status_code == 404
    assert send(ids=["frames:0:1:mask", "frames:0:4:mask"]).status_code == 409
    assert records.read(tables, "frames") == []
    assert send(ids=["frames:0:1:mask"]).json() == {"ids": ["frames:0:1:mask"], "more": False}
    assert send(ids=["frames:0:1:mask"]).status_code == 409
    assert send(stage="mask").json()["ids"] == ["frames:0:2:mask", "frames:0:3:mask"]
    assert send(every=True).json()["ids"] == []
    assert send(ids=["frames:0:1:mask"], again=True).status_code == 200
    sent = records.read(tables, "frames")
    assert [record.value for record in sent] == [payloads[n] for n in (1, 2, 3, 1)]
    assert {record.key for record in sent} == {b"gate"}
    waiting = admin.get("/v1/dead-letters", params={"show": "waiting"}).json()["items"]
    assert [item["offset"] for item in waiting] == [4]
    with sessions() as session:
        rows = session.scalars(select(Audit).where(Audit.action == "dead_letter.redrive").order_by(Audit.id)).all()
        assert [row.noun for row in rows] == [f"frames:0:{n}:mask" for n in (1, 2, 3, 1)]
        there = {row.id: row.redriven for row in session.scalars(select(Letter))}
    with folding(tables, sessions):  # the notes on the topic say the same
        until(sessions, lambda s: s.get(Letter, "frames:0:1:mask").record_offset >= 7)
    with sessions() as session:
        assert {row.id: row.redriven for row in session.scalars(select(Letter))} == there
