"""Footage: what the log holds is listed with its gaps, shown without what must not be seen, filmed at true times."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import av
import msgspec
import numpy as np
import pytest
import scenes
from kafka import KafkaProducer
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api import footage
from api.clips import Busy, Clips
from api.footage import Log
from api.tables.audit import Audit
from api.tables.cameras import CameraRow, columns
from api.tables.episodes import EpisodeRow
from api.tables.erased import Erasure, mark
from api.tables.trajectories import LegRow, TrajectoryRow
from api.tables.users import Grant, Role, RolePermission
from infra.local.process import free_port
from pipeline import pictures, topics
from pipeline.messages import Camera, Face, Faces, Frame, Source

S = 1_000_000
HIM, HER = (100.0, 100.0, 180.0, 180.0), (400.0, 100.0, 480.0, 180.0)


@pytest.fixture
def start() -> int:
    return (time.time_ns() // 1000 // S - 30) * S


@pytest.fixture(autouse=True)
def log(tables: Any, sessions: sessionmaker[Session], start: int) -> list[Frame]:
    """Six seconds of two people at the gate, five pictures a second, then nothing for five, then one second; beside it
    another camera of another site, on the same topic."""
    people = [(HIM, "none", 1), (HER, "none", 2)]
    times = [i / 5 for i in range(30)] + [11 + i / 5 for i in range(5)]
    frames = [scenes.frame("gate", t, people, start=start, site="hall") for t in times]
    frames.insert(30, Frame("gate", start + 6 * S, site="hall", ended=True))
    put(tables, "frames", frames)
    put(tables, "frames", [scenes.frame("yard", t, [], start=start, site="park") for t in (0, 1, 2)])
    put(tables, "faces", [seen(frame) for frame in frames])
    with sessions() as session, session.begin():
        for name, site in (("gate", "hall"), ("yard", "park")):
            camera = Camera(name, (Source("rtsp://x"),), "大门", site)
            session.add(CameraRow(id=name, **columns(camera, 0)))
    return frames


def put(settings: Any, name: str, messages: Iterable[Any]) -> None:
    """At the times that they speak of."""
    topic = topics.find(name)
    with closing(KafkaProducer(**broker.connection(settings), acks="all")) as producer:
        sent = [producer.send(broker.topic(settings, name), topic.encode(m), topic.key_of(m), timestamp_ms=m.at // 1000)
                for m in messages]
        for each in sent:
            each.get(timeout=20)


def seen(frame: Frame) -> Faces:
    faces = () if frame.ended else tuple(
        Face(f"{frame.id}#{i}", box, 0.9, (0.0,) * 10, "none", 0.9, track=track, state="none")
        for i, (box, track) in enumerate(((HIM, "him"), (HER, "her"))))
    return Faces("gate", frame.at, frame.id, "hall", width=640, height=360, faces=faces, ended=frame.ended)


def wish(sessions: sessionmaker[Session], **change: Any) -> None:
    with sessions() as session, session.begin():
        row = session.get_one(CameraRow, "gate")
        row.wish = msgspec.to_builtins(msgspec.structs.replace(row.camera, **change))


def looked(sessions: sessionmaker[Session]) -> list[tuple[str, str]]:
    with sessions() as session:
        rows = session.scalars(select(Audit).where(Audit.action.like("footage.%")).order_by(Audit.id))
        return [(row.action, row.detail.get("how", "")) for row in rows]


def differs(jpeg: bytes, other: bytes, box: tuple[float, ...]) -> bool:
    x0, y0, x1, y1 = (int(v) for v in box)
    a, b = (pictures.decode(each)[y0:y1, x0:x1].astype(int) for each in (jpeg, other))
    return float(np.abs(a - b).mean()) > 6


def test_what_is_there_is_listed_shown_and_filmed(
        as_: Any, sessions: sessionmaker[Session], log: list[Frame], start: int) -> None:
    client, path = as_("viewer", site="hall"), "/v1/cameras/gate/footage"
    stretch = {"since": start, "until": start + 20 * S}
    client.get(path, params=stretch)  # connects
    began = time.monotonic()
    told = client.get(path, params=stretch).json()
    took = time.monotonic() - began
    assert [each["at"] for each in told["frames"]] == [frame.at for frame in log if not frame.ended]
    assert took < 1
    assert {each["shown"] for each in told["frames"]} == {"whole"}
    assert told["gaps"] == [{"start": start + 5_800_000, "end": start + 11 * S, "ended": True}]
    assert (told["oldest"], told["next"], told["every"]) == (start, None, 0)

    pages, since = [], start
    while since is not None:
        page = client.get(path, params=stretch | {"since": since, "limit": 20}).json()
        pages, since = [*pages, *page["frames"]], page["next"]
    assert pages == told["frames"]
    hour = client.get(path, params={"since": start - 1800 * S, "until": start + 1800 * S, "limit": 60}).json()
    assert hour["every"] == 60 * S
    assert hour["next"] is None
    assert hour["frames"][0]["at"] in {f.at for f in log}

    picture = client.get(f"{path}/{log[3].at}")
    assert picture.content == log[3].jpeg
    assert picture.headers["cache-control"].startswith("private")
    again = client.get(f"{path}/{log[3].at}", headers={"if-none-match": picture.headers["etag"]})
    assert again.status_code == 304
    assert client.get(f"{path}/{log[3].at + 1}").status_code == 404

    film = client.get(f"{path}/clip", params=stretch | {"stamp": "site"})
    assert film.status_code == 200
    assert film.headers["x-footage-start"] == str(start)
    with av.open(io.BytesIO(film.content)) as opened:
        shown = [round(float(f.pts * f.time_base), 3) for f in opened.decode(video=0)]
        size = opened.streams.video[0].width, opened.streams.video[0].height
    assert size == (640, 360)
    assert shown == [*(i / 5 for i in range(30)), 6.0, *(round(11 + i / 5, 3) for i in range(5))]  # 6: black
    assert film.content.index(b"moov") < film.content.index(b"mdat")
    part = client.get(f"{path}/clip", params=stretch | {"stamp": "site"}, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(film.content)}"

    # one row each for the stretch, the page that is no part of it (an hour), and the film
    assert looked(sessions) == [("footage.look", "list"), ("footage.look", "list"), ("footage.look", "clip")]
    exported = as_("manager", site="hall").get(f"{path}/clip", params=stretch | {"download": True})
    assert exported.headers["content-disposition"].startswith("attachment")
    assert looked(sessions)[-1] == ("footage.export", "")


def test_pictures_alone_are_audited_by_the_minute(as_: Any, sessions: sessionmaker[Session], log: list[Frame]) -> None:
    client = as_("viewer", site="hall", camera="gate")
    for frame in log[:10]:
        assert client.get(f"/v1/cameras/gate/footage/{frame.at}").status_code == 200
    assert looked(sessions) in ([("footage.look", "picture")], [("footage.look", "picture")] * 2)


def test_who_may_not_see_and_what_makes_no_sense(
        as_: Any, sessions: sessionmaker[Session], log: list[Frame], start: int) -> None:
    viewer, stretch = as_("viewer", site="park"), {"since": start, "until": start + 20 * S}
    for path in ("", f"/{log[0].at}", "/clip"):
        assert viewer.get(f"/v1/cameras/gate/footage{path}", params=stretch).status_code == 404, path
    assert [f["at"] for f in viewer.get("/v1/cameras/yard/footage", params=stretch).json()["frames"]] == [
        start, start + S, start + 2 * S]
    assert viewer.get(f"/v1/cameras/yard/footage/{log[1].at}").status_code == 404
    assert viewer.get("/v1/cameras/yard/footage/clip", params=stretch | {"download": True}).status_code == 403
    yard = "/v1/cameras/yard/footage"
    assert viewer.get(f"{yard}/clip", params={"since": 1, "until": 1 + 121 * S}).status_code == 422
    assert viewer.get(f"{yard}/clip", params={"since": 1, "until": 2}).status_code == 404
    for wrong in ({"since": 2, "until": 1}, {"since": -1, "until": 1}, {"since": 1}, stretch | {"limit": 0}):
        assert viewer.get(yard, params=wrong).status_code == 422, wrong
    assert viewer.get(f"{yard}/clip", params=stretch | {"episode": "none"}).status_code == 404
    assert viewer.get(f"{yard}/x").status_code == 404

    # the gate's camera moves to the park: what it showed at the hall stays the hall's
    with sessions() as session, session.begin():
        session.get_one(CameraRow, "gate").site = "park"
    for guest in (viewer, as_("viewer", site="park", camera="gate")):
        gate = "/v1/cameras/gate/footage"
        assert guest.get(gate, params=stretch).json()["frames"] == []
        assert guest.get(f"{gate}/{log[0].at}").status_code == 404
        assert guest.get(f"{gate}/clip", params=stretch).status_code == 404


def test_what_must_not_be_seen_is_not_seen(
        as_: Any, tables: Any, sessions: sessionmaker[Session], log: list[Frame], start: int,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """An area that was drawn later, other people, anybody at an anonymous site, somebody erased."""
    client, frame = as_("viewer", site="hall"), log[10]
    path, whole = f"/v1/cameras/gate/footage/{log[10].at}", frame.jpeg

    def shows() -> str:
        jpeg = client.get(path).content
        return "".join(name for name, box in (("m", HIM), ("f", HER)) if not differs(jpeg, whole, box))

    assert shows() == "mf"
    wish(sessions, hidden=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),))
    assert shows() == "f"
    wish(sessions, hidden=(), blur_others=True)
    assert shows() == ""
    episode(sessions, start)
    path += "?episode=him!1"
    assert shows() == "m"
    with sessions() as session, session.begin():  # of a camera at which one may not know of breaches, nobody is named
        user = session.scalar(select(Grant.user).where(Grant.site == "hall"))
        session.execute(delete(Grant).where(Grant.user == user))
        session.add(Role(name="eyes"))
        session.flush()
        session.add_all([RolePermission(role="eyes", permission="cameras.view"),
                         Grant(user=user, role="eyes", site="hall", camera="gate"),
                         Grant(user=user, role="viewer", site="hall", camera="dock")])
        session.get_one(EpisodeRow, "him!1").cameras = ["gate", "dock"]
    assert shows() == ""
    with sessions() as session, session.begin():
        session.add(Grant(user=user, role="viewer", site="hall"))
    assert shows() == "m"

    around = client.get("/v1/episodes/him!1/footage").json()["cameras"]
    assert [(each["camera"], each["since"], each["until"]) for each in around] == [
        ("gate", start - 2 * S, start + 8 * S + 1)]
    assert around[0]["boxes"][0] == {"at": start, "look": "none", "state": "none",
                                     "box": [0.1562, 0.2778, 0.2812, 0.5]}
    assert len(around[0]["boxes"]) == 30
    assert as_("viewer", site="park").get("/v1/episodes/him!1/footage").status_code == 404

    late = scenes.frame("gate", 14, [(HIM, "none", 1)], start=start, site="hall")
    put(tables, "frames", [late])  # which nobody has looked at yet
    assert client.get(f"/v1/cameras/gate/footage/{late.at}").status_code == 409
    told = client.get("/v1/cameras/gate/footage", params={"since": start + 11 * S, "until": start + 20 * S}).json()
    assert [each["shown"] for each in told["frames"]] == ["changed"] * 5 + ["withheld"]

    wish(sessions, blur_others=False, privacy="anonymous")
    assert shows() == ""
    wish(sessions, privacy="pseudonymous")
    with sessions() as session, session.begin():
        done = Erasure(by="", site="hall", reason="", report={})
        session.add(done)
        session.flush()
        mark(session, done.id, {"him"})
    assert shows() == "f"
    film = client.get("/v1/cameras/gate/footage/clip", params={"since": start, "until": start + 2 * S}).content
    with av.open(io.BytesIO(film)) as opened:
        first = next(opened.decode(video=0)).to_ndarray(format="bgr24")
    shown = pictures.encode(first, 95)
    assert differs(shown, whole, HIM)
    assert not differs(shown, whole, HER)

    # where nobody can say in time where the erased face is, nothing is shown that it may be in
    stretch = {"since": start, "until": start + S}
    monkeypatch.setattr(footage, "LOOKING", 0.0)
    refused = client.get(path)
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "2")
    told = client.get("/v1/cameras/gate/footage", params=stretch).json()
    assert {each["shown"] for each in told["frames"]} == {"withheld"}
    clip = client.get("/v1/cameras/gate/footage/clip", params=stretch)
    assert (clip.status_code, clip.headers["retry-after"]) == (503, "3")
    monkeypatch.undo()
    assert client.get("/v1/cameras/gate/footage/clip", params=stretch).status_code == 200
    # he may be in what nobody has looked at
    assert client.get(f"/v1/cameras/gate/footage/{late.at}").status_code == 409


def episode(sessions: sessionmaker[Session], start: int) -> None:
    with sessions() as session, session.begin():
        spent = {"worn": 0, "incorrect": 0, "none": S, "unknown": 0}
        session.add(TrajectoryRow(id="him", site="hall", start=start, at=start + 5 * S, closed=True, cameras=1,
                                  metres=0, state="none", gaps=[], recorded=start, **spent))
        session.flush()
        session.add(LegRow(trajectory="him", number=0, site="hall", camera="gate", track="him", start=start + S,
                           end=start + 5 * S, state="none", face="", **spent))
        session.add(EpisodeRow(id="him!1", site="hall", person="him", state="none", status="closed",
                               start=start + 3 * S, end=start + 3 * S, at=start + 3 * S, cameras=["gate"], score=1.0,
                               looks=9, reason="mask on", except_roles=[], recorded=start))


def test_a_log_that_is_away_is_told_at_once(as_: Any, tables: Any, app: Any, start: int) -> None:
    own, log = app.app.state.footage, Log(tables.model_copy(update={"kafka": f"127.0.0.1:{free_port()}"}))
    app.app.state.footage = log
    client, began = as_("viewer"), time.monotonic()
    try:
        for path in ("", f"/{start}", "/clip"):
            answer = client.get(f"/v1/cameras/gate/footage{path}", params={"since": start, "until": start + S})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "3"), path
    finally:
        app.app.state.footage = own
        log.close()
    assert time.monotonic() - began < 5


def test_clips_in_the_making_are_bounded() -> None:
    import threading

    clips, go = Clips(), threading.Event()
    waiting = [threading.Thread(target=lambda i=i: clips.get(i, go.wait)) for i in range(6)]  # type: ignore[misc]
    for each in waiting:
        each.start()
    while len(clips._making) < 6:
        time.sleep(0.01)
    with pytest.raises(Busy):
        clips.get("one more", lambda: None)  # type: ignore[arg-type,return-value]
    go.set()
    for each in waiting:
        each.join()
    clips.close()


