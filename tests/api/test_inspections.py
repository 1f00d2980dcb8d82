"""A round with the phone: accepted once in any order, answered by the mask stage, seen by whom it concerns."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
import records
import scenes
from folding import folding, publish, until
from litestar.testing import TestClient
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import pictures
from api.folds import Context
from api.materialiser import rebuild
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.inspections import FOLDS, Inspection, Photo, Verdict
from api.tables.outbox import Outgoing
from api.tables.sites import Site
from models import fakes
from pipeline import flow, mask
from pipeline import topics as contract
from pipeline.messages import DeadLetter, Faces, Frame
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
MINUTE = 60_000_000


def clock() -> int:
    return time.time_ns() // 1000


def picture(*people: tuple[Any, ...], wide: int = 640, high: int = 360, form: str = "JPEG", exif: Any = None) -> bytes:
    image = fakes.empty(wide, high)
    for box, state, person in people:
        fakes.draw(image, box, state, person)
    out = io.BytesIO()
    more = {"exif": exif} if exif else {}
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(out, form, quality=95, **more)
    return out.getvalue()


BARE, MASKED = ((100, 100, 164, 164), "none", 1), ((300, 100, 364, 164), "worn", 2)


def start(client: TestClient[Any], id: str, site: str = "hall", **more: Any) -> dict[str, Any]:
    answer = client.put(f"/v1/inspections/{id}", json={"site": site, "at": clock(), "sent": clock()} | more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shoot(client: TestClient[Any], id: str, photo: str, content: bytes, **form: Any) -> Any:
    return client.post(f"/v1/inspections/{id}/photos/{photo}", files={"picture": ("p.jpg", content)}, data=form)


def frames(settings: Settings, count: int) -> list[Frame]:
    topic, end = contract.find("frames"), time.monotonic() + 20
    while True:
        found = [topic.decode(each.value) for each in records.read(settings, "frames")]
        if len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.1)


def judge(settings: Settings, frame: Frame) -> Faces:
    """What the mask stage answers."""
    looks = flow.look(frame, scenes.Models())
    _, faces = mask.step(None, frame, looks[1], looks[0], {"look": "000000000000"}, settings)
    assert faces is not None
    return faces


def test_a_photo_gets_its_verdict(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    assert start(phone, id)["state"] == "running"
    taken = clock()
    answer = shoot(phone, id, photo, picture(BARE, MASKED), taken=taken, lat=31.2, lon=121.5)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["verdict"]["state"], answer.json()["taken"]) == ("waiting", taken)
    (frame,) = frames(tables, 1)
    assert (frame.camera, frame.at, frame.site, frame.source, frame.privacy) == (
        id, taken, "hall", "inspection", "pseudonymous")
    assert frame.jpeg == pictures.store(tables).get(f"inspections/{id}/{photo}.jpg")
    assert shoot(phone, id, photo, picture(BARE, MASKED), taken=taken + 5).json() == answer.json()  # again: the same
    assert shoot(phone, id, photo, picture(MASKED)).status_code == 409  # another picture under its id
    faces = judge(tables, frame)
    publish(tables, ("faces", faces), ("faces", faces), ("faces", msgspec.structs.replace(faces, source="camera")))
    with folding(tables, sessions):
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(Verdict)))
        found = phone.get(f"/v1/inspections/{id}/photos/{photo}").json()["verdict"]
    assert (found["state"], found["worst"], found["none"], found["worn"]) == ("done", "none", 1, 1)
    assert len(found["faces"]) == 2
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Verdict)) == 1
        assert session.scalar(select(func.count()).select_from(Outgoing)) == 0
    shown = phone.get(f"/v1/inspections/{id}/photos/{photo}/picture")
    assert shown.content == frame.jpeg
    assert phone.get(f"/v1/inspections/{id}/photos/{photo}/picture",
                     headers={"if-none-match": shown.headers["etag"]}).status_code == 304
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Audit).where(Audit.action == "photo.look")) == 2
        before = phone.get(f"/v1/inspections/{id}").json()
    list(rebuild(tables, sessions, Context(tables), FOLDS[0]))
    assert phone.get(f"/v1/inspections/{id}").json() == before
    assert (before["photos"], before["none"], before["waiting"]) == (1, 1, 0)
    for language in ("zh-CN", "en"):
        printed = phone.get(f"/v1/inspections/{id}/report", params={"language": language})
        assert (printed.status_code, printed.headers["content-type"]) == (200, "application/pdf")
        assert printed.content.startswith(b"%PDF-")
        assert b"/FontFile2" in printed.content  # the font is in it
        assert printed.content.count(b"/Subtype /Image") == 1


def test_whatever_comes_late_or_twice_counts_once(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    began = clock() - 3600_000_000 - 7_200_000_000  # an hour ago, by a clock that is two hours slow
    sent = lambda: clock() - 7_200_000_000  # noqa: E731
    assert shoot(phone, id, photo, picture(BARE), taken=began + 2 * MINUTE).status_code == 422  # no site to put it
    early = shoot(phone, id, photo, picture(BARE), taken=began + 2 * MINUTE, site="hall", sent=sent()).json()
    assert early["taken"] == pytest.approx(clock() - 3600_000_000 + 2 * MINUTE, abs=5e6)
    assert early["taken_clock"] == began + 2 * MINUTE
    assert phone.get(f"/v1/inspections/{id}").json()["state"] == "early"
    change = lambda state, minutes: phone.put(f"/v1/inspections/{id}/state", json={  # noqa: E731
        "state": state, "at": began + round(minutes * MINUTE), "sent": sent()})
    assert change("finished", 30).json()["state"] == "finished"
    points = [{"id": str(uuid.uuid4()), "at": began + i * MINUTE, "lat": 31.2 + i * 1e-4, "lon": 121.5}
              for i in range(5)]
    url = f"/v1/inspections/{id}/points"
    assert phone.post(url, json={"points": points[3:], "sent": sent()}).json() == {"points": 2, "new": 2}
    assert phone.post(url, json={"points": points, "sent": sent()}).json() == {"points": 5, "new": 3}
    assert change("paused", 10).json()["state"] == "finished"
    assert change("running", 12).json()["state"] == "finished"
    assert change("running", 31).status_code == 409
    whole = start(phone, id, at=began, sent=sent())
    assert start(phone, id, at=began, sent=sent())["steps"] == whole["steps"]
    assert [step["state"] for step in whole["steps"]] == ["started", "paused", "running", "finished"]
    assert whole["started"] == pytest.approx(clock() - 3600_000_000, abs=5e6)
    assert whole["ended"] - whole["started"] == pytest.approx(30 * MINUTE, abs=5e6)
    second = shoot(phone, id, str(uuid.uuid4()), picture(MASKED), taken=began + MINUTE, sent=sent()).json()
    assert second["taken"] < early["taken"]  # taken before the first; on the topic it comes after it
    ats = [frame.at for frame in frames(tables, 2)]
    assert ats == sorted(set(ats))
    assert [p["id"] for p in phone.get(f"/v1/inspections/{id}/photos").json()] == [second["id"], photo]
    route = phone.get(f"/v1/inspections/{id}/route").json()
    assert [f["properties"]["kind"] for f in route["features"]] == ["observed"]
    assert phone.get("/v1/inspections", params={"mine": True, "state": "open"}).json()["items"] == []


def test_after_a_crash_a_phone_finds_its_unfinished_ones(as_: As) -> None:
    phone, ids = as_("inspector", site="hall"), [str(uuid.uuid4()) for _ in range(3)]
    for id in ids:
        start(phone, id)
    phone.put(f"/v1/inspections/{ids[0]}/state", json={"state": "paused", "at": clock()})
    phone.put(f"/v1/inspections/{ids[1]}/state", json={"state": "abandoned", "at": clock()})
    found = phone.get("/v1/inspections", params={"mine": True, "state": "open"}).json()["items"]
    assert {each["id"]: each["state"] for each in found} == {ids[0]: "paused", ids[2]: "running"}
    assert phone.put(f"/v1/inspections/{ids[0]}/state", json={"state": "running", "at": clock()}).json()[
        "state"] == "running"


def test_who_may_see_and_who_may_write(tables: Settings, as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    start(phone, id)
    shoot(phone, id, photo, picture(BARE))
    colleague, reviewer, elsewhere = (as_("inspector", site="hall"), as_("reviewer", site="hall"),
                                      as_("reviewer", site="yard"))
    reads = ["", "/photos", f"/photos/{photo}", f"/photos/{photo}/picture", "/route", "/cameras"]
    for who, expected in ((phone, 200), (reviewer, 200), (colleague, 404), (elsewhere, 404), (as_("viewer"), 403)):
        assert {who.get(f"/v1/inspections/{id}{path}").status_code for path in reads} == {expected}
    assert [len(who.get("/v1/inspections").json()["items"]) for who in (phone, reviewer, colleague, elsewhere)] == [
        1, 1, 0, 0]
    assert colleague.put(f"/v1/inspections/{id}", json={"site": "hall", "at": 1}).status_code == 404
    assert shoot(colleague, id, str(uuid.uuid4()), picture(BARE)).status_code == 404
    assert phone.put(f"/v1/inspections/{uuid.uuid4()}", json={"site": "yard", "at": 1}).status_code == 403
    assert colleague.put(f"/v1/inspections/{id}/state", json={"state": "abandoned", "at": 1}).status_code == 404
    assert reviewer.put(f"/v1/inspections/{id}/state", json={"state": "abandoned", "at": 1}).json()[
        "state"] == "abandoned"
    assert phone.delete(f"/v1/inspections/{id}").status_code == 403
    assert as_("manager", site="hall").delete(f"/v1/inspections/{id}").status_code == 204
    assert pictures.store(tables).get(f"inspections/{id}/{photo}.jpg") is None
    assert phone.get(f"/v1/inspections/{id}").status_code == 404


def test_what_is_no_picture_is_refused_and_exif_does_not_get_in(tables: Settings, as_: As) -> None:
    phone, id = as_("inspector", site="hall"), str(uuid.uuid4())
    start(phone, id)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    for content in (b"", b"\xff\xd8\xff\xd9", b"GIF89a" + bytes(50), picture(BARE)[:2000], bomb.getvalue()):
        assert shoot(phone, id, str(uuid.uuid4()), content).status_code == 422
    assert shoot(phone, id, str(uuid.uuid4()), bytes(17 << 20)).status_code == 413
    assert shoot(phone, id, str(uuid.uuid4()), picture(BARE), lat=91).status_code in (400, 422)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 08:00:00"
    exif.get_ifd(0x8825).update({1: "S", 2: (31.0, 30.0, 0.0), 3: "E", 4: (121.0, 0.0, 36.0)})
    answer = shoot(phone, id, str(uuid.uuid4()), picture(BARE, exif=exif), zone=480).json()
    assert datetime.fromtimestamp(answer["taken"] / 1e6).astimezone().timestamp() == 1767312000  # 00:00 UTC
    assert (answer["taken_from"], answer["place_from"], answer["lat"], answer["lon"]) == ("exif", "exif", -31.5, 121.01)
    assert (answer["width"], answer["height"]) == (360, 640)
    (frame,) = frames(tables, 1)
    with Image.open(io.BytesIO(frame.jpeg)) as kept:
        assert (dict(kept.getexif()), kept.size) == ({}, (360, 640))
    large = shoot(phone, id, str(uuid.uuid4()), picture(wide=4000, high=3000, form="PNG")).json()
    assert (large["width"], large["height"], large["taken_from"]) == (1920, 1440, "server")


def test_an_anonymous_site_keeps_no_face(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    with sessions() as session, session.begin():
        session.add(Site(id="hall", name="Hall", privacy="anonymous", latitude=31.2, longitude=121.5))
        session.flush()
        session.add(CameraRow(id="gate", site="hall", name="Gate", running=True, place_east=3.0, place_north=4.0,
                              offset=0, wish={}))
    start(phone, id)
    with folding(tables, sessions):
        shoot(phone, id, photo, picture(BARE), lat=31.2, lon=121.5)
        url = f"/v1/inspections/{id}/photos/{photo}/picture"
        assert phone.get(url).status_code == 409
        (frame,) = frames(tables, 1)
        assert (frame.privacy, frame.place) == ("anonymous", (0.0, 0.0))
        publish(tables, ("faces", judge(tables, frame)))
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(Verdict)))
    shown = np.asarray(Image.open(io.BytesIO(phone.get(url).content)), np.int16)
    was = np.asarray(Image.open(io.BytesIO(frame.jpeg)), np.int16)
    assert np.abs(shown - was)[110:150, 110:150].mean() > 8 * np.abs(shown - was)[:, 400:].mean()
    (near,) = phone.get(f"/v1/inspections/{id}/cameras").json()
    assert (near["camera"], near["nearest"], near["came"]["none"]) == ("gate", 5.0, 0)


def test_a_photo_the_stage_refused_says_so(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    start(phone, id)
    shoot(phone, id, photo, picture(BARE))
    frames(tables, 1)
    (record,) = records.read(tables, "frames")
    publish(tables, ("dead.letters", DeadLetter("frames.unique:0:0:mask", "frames.unique", 0, 0, "mask", "no JPEG",
                                                clock(), id, record.value)))
    with folding(tables, sessions):
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(Verdict)))
    assert phone.get(f"/v1/inspections/{id}/photos/{photo}").json()["verdict"]["refused"] == "no JPEG"


def test_a_planned_round(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    boss, phone = as_("manager", site="hall"), as_("inspector", site="hall")
    plan = {"site": "hall", "name": "夜班", "days": [0, 1, 2, 3, 4, 5, 6], "times": ["00:00", "12:00"], "zone": "UTC",
            "checkpoints": [{"name": "Door", "lat": 31.2, "lon": 121.5, "radius": 50},
                            {"name": "Ward", "lat": 31.21, "lon": 121.5}, {"name": "Roof", "east": 5, "north": 5}]}
    assert phone.post("/v1/rounds", json=plan).status_code == 403
    assert boss.post("/v1/rounds", json=plan | {"zone": "Mars/Base"}).status_code == 422
    made = boss.post("/v1/rounds", json=plan).json()
    door, ward, roof = (point["id"] for point in made["checkpoints"])
    id = str(uuid.uuid4())
    shoot(phone, id, str(uuid.uuid4()), picture(BARE), lat=31.2003, lon=121.5, site="hall")  # 33 m; comes first
    start(phone, id, round=made["id"])
    far = shoot(phone, id, str(uuid.uuid4()), picture(BARE), lat=31.2, lon=121.5, checkpoint=ward).json()
    assert (far["far"], far["visit"], far["distance"]) == (True, False, pytest.approx(1112, abs=2))  # radius 200
    shoot(phone, id, str(uuid.uuid4()), picture(BARE), checkpoint=roof)  # no position to doubt it by
    found = phone.get(f"/v1/inspections/{id}").json()
    assert [(c["name"], c["visited"], c["photos"]) for c in found["checkpoints"]] == [
        ("Door", True, 1), ("Ward", False, 1), ("Roof", True, 1)]
    assert found["far"] == 1
    edited = boss.put(f"/v1/rounds/{made['id']}", json=plan | {"checkpoints": made["checkpoints"][:1]}).json()
    assert [c["id"] for c in edited["checkpoints"]] == [door]
    assert as_("inspector", site="yard").get(f"/v1/rounds/{made['id']}").status_code == 404
    day = clock() // 86_400_000_000 * 86_400_000_000
    with sessions() as session, session.begin():
        session.get_one(Inspection, id).started = day - 86_400_000_000 + 5 * MINUTE
    due = phone.get(f"/v1/rounds/{made['id']}/plan", params={"since": day - 86_400_000_000, "until": day}).json()
    assert [(d["state"], d["inspection"]) for d in due] == [("kept", id), ("missed", "")]
    assert boss.delete(f"/v1/rounds/{made['id']}").status_code == 204
    assert phone.get(f"/v1/rounds/{made['id']}").json()["active"] is False
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Photo)) == 3
