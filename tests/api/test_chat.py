"""Chat: said once, heard by whoever may, taken up where it was left; rooms of what one may not see do not exist."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import records
import scenes
from kafka import TopicPartition
from sqlalchemy import delete, update
from sqlalchemy.orm import Session, sessionmaker

from api import materialiser
from api.folds import Context
from api.sight import Sight
from api.tables import FOLDS
from api.tables.cameras import CameraRow
from api.tables.chat import Chat, ChatRow
from api.tables.sites import Site
from models import fakes
from pipeline import topics as contract
from pipeline.messages import Camera
from pipeline.pictures import decode, encode
from pipeline.settings import Settings

ROOM = "site:hall"
WHERE = f"/v1/chat/rooms/{ROOM}"


@pytest.fixture(autouse=True)
def sites(sessions: sessionmaker[Session]) -> None:
    with sessions() as session, session.begin():
        session.add_all([Site(id="hall", name="大厅"), Site(id="dock", name="Dock")])


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "text": text, **more}


def test_said_once_read_and_counted(as_: Any, tables: Settings) -> None:
    lin, wei = as_("viewer", site="hall", name="Lin"), as_("viewer", site="hall", name="Wei")
    first = message("今天谁值班？", mentions=[wei.get("/v1/me").json()["id"], "nobody"])
    told = lin.post(f"{WHERE}/messages", json=first)
    assert told.status_code == 201
    assert lin.post(f"{WHERE}/messages", json=first).json() == told.json()
    assert wei.post(f"{WHERE}/messages", json=first).status_code == 409  # somebody else's id
    assert lin.post(f"{WHERE}/messages", json=message("  ")).status_code == 422
    (room,) = wei.get("/v1/chat/rooms").json()
    assert (room["room"], room["title"], room["unread"], room["mentioned"]) == (ROOM, "大厅", 1, True)
    (heard,) = wei.get(f"{WHERE}/messages").json()["messages"]
    assert (heard["text"], heard["name"], len(heard["mentions"])) == ("今天谁值班？", "Lin", 1)
    assert wei.put(f"{WHERE}/read", json={"seq": heard["seq"]}).status_code == 204
    assert wei.get("/v1/chat/rooms").json()[0]["unread"] == 0
    for i in range(5):
        wei.post(f"{WHERE}/messages", json=message(str(i)))
    page = lin.get(f"{WHERE}/messages", params={"limit": 2}).json()
    assert ([m["text"] for m in page["messages"]], page["more"]) == (["3", "4"], True)
    older = lin.get(f"{WHERE}/messages", params={"limit": 2, "before": page["messages"][0]["seq"]}).json()
    assert [m["text"] for m in older["messages"]] == ["1", "2"]


def test_a_room_of_another_site_is_not_there(as_: Any) -> None:
    other = as_("viewer", site="dock")
    assert [room["room"] for room in other.get("/v1/chat/rooms").json()] == ["site:dock"]
    assert other.get(f"{WHERE}/messages").status_code == 404
    assert other.post(f"{WHERE}/messages", json=message("x")).status_code == 404
    assert as_("viewer", site="hall").get("/v1/chat/rooms/episode:none/messages").status_code == 404
    assert as_("viewer", site="hall", camera="gate").get(f"{WHERE}/messages").status_code == 404


def test_a_picture_is_encoded_anew_and_belongs_to_its_room(as_: Any) -> None:
    lin, stranger = as_("viewer", site="hall"), as_("viewer", site="dock")
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    kept = lin.post(f"{WHERE}/pictures", files={"picture": ("a.jpg", io.BytesIO(jpeg), "image/jpeg")}).json()["picture"]
    assert lin.post(f"{WHERE}/messages", json=message("", pictures=[kept])).status_code == 201
    path = f"{WHERE}/pictures/{kept.rsplit('/', 1)[1]}"
    seen = lin.get(path)
    assert (seen.status_code, seen.content[:2]) == (200, b"\xff\xd8")
    assert lin.get(path, headers={"if-none-match": seen.headers["etag"]}).status_code == 304
    assert stranger.get(path).status_code == 404
    assert stranger.post("/v1/chat/rooms/site:dock/messages", json=message("", pictures=[kept])).status_code == 422
    bad = lin.post(f"{WHERE}/pictures", files={"picture": ("a.jpg", io.BytesIO(b"GIF89a"), "image/jpeg")})
    assert bad.status_code == 422


def test_faces_go_out_of_a_picture_where_nobody_may_keep_them(as_: Any, tables: Settings,
                                                              sessions: sessionmaker[Session]) -> None:
    lin, box = as_("viewer"), (100, 100, 164, 164)
    lin.app.state["sight"] = Sight(tables, scenes.Models())
    shown = fakes.empty(640, 360)
    fakes.draw(shown, box, "none", 1)
    jpeg = encode(shown, 95)
    with sessions() as session, session.begin():
        session.add(CameraRow(id="gate", site="hall", name="Gate", running=True, offset=0, wish=msgspec.to_builtins(
            Camera("gate", (), site="hall", privacy="anonymous"))))

    def kept(room: str) -> float:
        """How different the face is from the one that was sent."""
        path = f"/v1/chat/rooms/{room}/pictures"
        name = lin.post(path, files={"picture": ("a.jpg", io.BytesIO(jpeg), "image/jpeg")}).json()["picture"]
        seen = decode(lin.get(f"{path}/{name.rsplit('/', 1)[1]}").content)
        return float(np.abs(seen.astype(int) - shown)[110:154, 110:154].mean())

    def site(**values: Any) -> None:
        with sessions() as session, session.begin():
            session.execute(update(Site).where(Site.id == "hall").values(**values))

    assert kept(ROOM) < 8
    assert kept("camera:gate") > 12  # stricter than its site
    site(blur_others=True)
    assert kept(ROOM) > 12
    site(blur_others=False, privacy="anonymous")
    assert kept(ROOM) > 12


def test_two_on_sockets_and_one_who_was_away(as_: Any) -> None:
    lin, wei = as_("viewer", site="hall", name="Lin"), as_("viewer", site="hall", name="Wei")
    with lin.websocket_connect("/v1/chat/socket") as one:
        one.send_json({"join": ROOM, "since": 0})
        assert [p["name"] for p in until(one, lambda m: "joined" in m)["people"]] == ["Lin"]
        with wei.websocket_connect("/v1/chat/socket") as two:
            two.send_json({"join": ROOM, "since": 0})
            until(two, lambda m: "joined" in m)
            here = until(one, lambda m: len(m.get("people", ())) == 2)
            assert [p["name"] for p in here["people"]] == ["Lin", "Wei"]
            said = message("到了")
            one.send_json({"room": ROOM, **said})
            one.send_json({"room": ROOM, **said})  # the network was slow, the client tried again
            assert until(two, lambda m: "message" in m)["message"]["text"] == "到了"
            last = until(one, lambda m: "message" in m)["message"]["seq"]
            two.send_json({"room": ROOM, "text": "no id"})
            assert until(two, lambda m: "problem" in m)["problem"]["status"] == 422
            two.send_text("{")
            assert until(two, lambda m: "problem" in m)["problem"]["status"] == 422
            two.send_json({"join": "site:dock"})
            assert until(two, lambda m: "problem" in m)["problem"]["status"] == 404
        until(one, lambda m: [p["name"] for p in m.get("people", ())] == ["Lin"])
        for i in range(3):
            one.send_json({"room": ROOM, **message(f"while away {i}")})
        for _ in range(3):
            until(one, lambda m: "message" in m)
        with wei.websocket_connect("/v1/chat/socket") as two:
            two.send_json({"join": ROOM, "since": last})
            missed = []
            while "joined" not in (got := two.receive_json(timeout=20)):
                missed.append(got["message"]["text"])
            assert missed == ["while away 0", "while away 1", "while away 2"]


def until(socket: Any, true: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    for _ in range(30):
        got: dict[str, Any] = json.loads(socket.receive_text(timeout=20))
        if true(got):
            return got
    raise AssertionError(got)


def test_the_topic_brings_back_what_was_said(as_: Any, tables: Settings, sessions: sessionmaker[Session]) -> None:
    lin = as_("viewer", site="hall")
    told = [lin.post(f"{WHERE}/messages", json=message(str(i))).json() for i in range(3)]
    topic = contract.find("chat")
    end = time.monotonic() + 20
    while len(records.read(tables, "chat")) < 3:
        assert time.monotonic() < end
        time.sleep(0.1)
    kept = records.read(tables, "chat")
    assert [topic.decode(r.value).text for r in kept] == ["0", "1", "2"]
    with sessions() as session, session.begin():
        session.execute(delete(ChatRow))
        for part in range(topic.partitions):
            materialiser.advance(session, TopicPartition(f"{tables.topic_prefix}chat", part), 0,
                                 sum(r.partition == part for r in kept))
    chat = next(fold for fold in FOLDS if isinstance(fold, Chat))
    list(materialiser.rebuild(tables, sessions, Context(tables), chat))
    assert lin.get(f"{WHERE}/messages").json()["messages"] == told
