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
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import pictures
from api.folds import Context
from api.materialiser import rebuild
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.inspections import FOLDS, Inspection, Photo, Verdict
from api.tables.outbox import Outgoing
from api.tables.plans import Plan
from api.tables.sites import Site
from api.tables.users import Grant
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
        assert session.scalar(select(func.count()).select_from(Audit).where(Audit.action == "photo.look")) == 1
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


def test_who_may_see_and_who_may_write(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    start(phone, id)
    shoot(phone, id, photo, picture(BARE))
    colleague, reviewer, elsewhere = (as_("inspector", site="hall"), as_("reviewer", site="hall"),
                                      as_("reviewer", site="yard"))
    reads = ["", "/photos", f"/photos/{photo}", f"/photos/{photo}/picture", "/route", "/cameras", "/report"]
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
    # their own are theirs for as long as they have a right there; one at another site is none
    me = phone.get("/v1/me").json()["id"]
    room = f"/v1/chat/rooms/inspection:{id}/messages"
    assert phone.get(room).status_code == 200
    with sessions() as session, session.begin():
        session.execute(update(Grant).where(Grant.user == me).values(site="yard"))
    assert {phone.get(f"/v1/inspections/{id}{path}").status_code for path in reads} == {404}
    assert phone.get("/v1/inspections", params={"mine": True}).json()["items"] == []
    assert phone.get(room).status_code == 404
    assert as_("manager", site="hall").delete(f"/v1/inspections/{id}").status_code == 204
    assert pictures.store(tables).get(f"inspections/{id}/{photo}.jpg") is None
    assert phone.get(f"/v1/inspections/{id}").status_code == 404


def test_what_is_no_picture_is_refused_and_exif_does_not_get_in(tables: Settings, as_: As) -> None:
    phone, id = as_("inspector", site="hall"), str(uuid.uuid4())
    start(phone, id)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    for content in (b"", b"\xff\xd8\xff\xd9", b"GIF89a" + bytes(50), picture(BARE)[:2000]):
        assert shoot(phone, id, str(uuid.uuid4()), content).status_code == 422
    assert shoot(phone, id, str(uuid.uuid4()), bomb.getvalue()).status_code == 413
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


def pixels(jpeg: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.int16)


def changed(shown: NDArray[np.int16], was: NDArray[np.int16], box: tuple[int, ...]) -> bool:
    """Whether a face can no longer be seen: more is different there than an encoding anew makes."""
    x0, y0, x1, y1 = box
    return bool(np.abs(shown - was)[y0 + 10:y1 - 10, x0 + 10:x1 - 10].mean() > 4)


def refused(settings: Settings, frame: Frame, reason: str) -> DeadLetter:
    (record,) = [each for each in records.read(settings, "frames")
                 if contract.find("frames").decode(each.value).id == frame.id]
    return DeadLetter(f"frames.unique:0:{record.offset}:mask", "frames.unique", 0, record.offset, "mask", reason,
                      clock(), frame.camera, record.value)


def test_faces_that_nobody_may_keep_go_before_anybody_looks(tables: Settings, sessions: sessionmaker[Session], as_: As
                                                            ) -> None:
    phone = as_("inspector")
    with sessions() as session, session.begin():
        session.add_all([Site(id="hall", name="Hall", privacy="anonymous", latitude=31.2, longitude=121.5),
                         Site(id="ward", name="Ward", blur_others=True)])
        session.flush()
        session.add(CameraRow(id="gate", site="hall", name="Gate", running=True, place_east=3.0, place_north=4.0,
                              offset=0, wish={}))
    one = {site: (str(uuid.uuid4()), str(uuid.uuid4())) for site in ("hall", "ward")}
    url = {site: f"/v1/inspections/{id}/photos/{photo}" for site, (id, photo) in one.items()}
    with folding(tables, sessions):
        for site, (id, photo) in one.items():
            start(phone, id, site)
            shoot(phone, id, photo, picture(BARE, MASKED), lat=31.2, lon=121.5)
            assert phone.get(f"{url[site]}/picture").status_code == 409
        by_site = {frame.site: frame for frame in frames(tables, 2)}
        hall, ward = by_site["hall"], by_site["ward"]
        assert [(f.privacy, f.blur_others, f.place) for f in (hall, ward)] == [
            ("anonymous", False, (0.0, 0.0)), ("pseudonymous", True, None)]
        # what the stage refuses is never looked at: nobody knows where its faces are
        publish(tables, *(("dead.letters", refused(tables, frame, "no JPEG")) for frame in (hall, ward)))
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(Verdict)) == 2)
        for site, (id, _) in one.items():
            assert phone.get(url[site]).json()["verdict"]["refused"] == "no JPEG"
            answer = phone.get(f"{url[site]}/picture")
            assert (answer.status_code, "no JPEG" in answer.json()["detail"]) == (409, True)
            report = phone.get(f"/v1/inspections/{id}/report").content
            assert report.startswith(b"%PDF-")
            assert b"/Subtype /Image" not in report
        # put back and judged: everybody where it is anonymous, whoever is in no breach where others are blurred
        publish(tables, *(("faces", judge(tables, frame)) for frame in (hall, ward)))
        until(sessions, lambda s: s.scalar(select(func.count()).where(Verdict.refused == "")) == 2)
    for frame, hidden in ((hall, [True, True]), (ward, [False, True])):
        shown, was = pixels(phone.get(f"{url[frame.site]}/picture").content), pixels(frame.jpeg)
        assert [changed(shown, was, face[0]) for face in (BARE, MASKED)] == hidden
        assert np.abs(shown - was)[:, 400:].mean() < 1
        assert [face["look"] for face in phone.get(url[frame.site]).json()["verdict"]["faces"]] == ["none", "worn"]
        assert b"/Subtype /Image" in phone.get(f"/v1/inspections/{one[frame.site][0]}/report").content
    (near,) = phone.get(f"/v1/inspections/{one['hall'][0]}/cameras").json()
    assert (near["camera"], near["nearest"], near["came"]["none"]) == ("gate", 5.0, 0)


def test_a_photo_the_stage_refused_says_so(tables: Settings, sessions: sessionmaker[Session], as_: As) -> None:
    phone, id, photo = as_("inspector", site="hall"), str(uuid.uuid4()), str(uuid.uuid4())
    start(phone, id)
    shoot(phone, id, photo, picture(BARE))
    (frame,) = frames(tables, 1)
    publish(tables, ("dead.letters", refused(tables, frame, "no JPEG")))
    with folding(tables, sessions):
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(Verdict)))
    assert phone.get(f"/v1/inspections/{id}/photos/{photo}").json()["verdict"]["refused"] == "no JPEG"
    assert phone.get(f"/v1/inspections/{id}/photos/{photo}/picture").content == frame.jpeg  # nothing to hide there


def test_where_a_photo_was_taken_is_held_against_what_it_is_about(sessions: sessionmaker[Session], as_: As) -> None:
    """The inspector's patrol radius is 200 m."""
    with sessions() as session, session.begin():
        session.add_all([Site(id="hall", name="Hall", latitude=31.2, longitude=121.5), Site(id="tent", name="Tent")])
        session.flush()
        session.add(Plan(site="hall", name="Ground floor", kind="image", west=0, south=0, east=400, north=50))
        session.add(CameraRow(id="gate", site="hall", name="Gate", running=True, place_east=10.0, place_north=0.0,
                              offset=0, wish={}))
    boss, phone, id = as_("manager", site="hall"), as_("inspector"), str(uuid.uuid4())
    start(phone, id)

    def taken(**form: Any) -> tuple[Any, ...]:
        one = shoot(phone, id, str(uuid.uuid4()), picture(BARE), **form).json()
        return one["against"], one["distance"] and round(one["distance"]), one["far"], one["unproven"], one["visit"]

    def stops(id: str) -> list[tuple[bool, bool]]:
        return [(s["visited"], s["unproven"]) for s in phone.get(f"/v1/inspections/{id}").json()["checkpoints"]]

    assert taken(lat=31.2, lon=121.503) == ("site", 0, False, False, False)  # 285 m from 0, 0, on its floor plan
    assert taken(lat=31.2, lon=121.4975) == ("site", 238, True, False, False)
    assert taken(lat=32.2, lon=121.5) == ("site", pytest.approx(111_000, rel=0.01), True, False, False)  # off the plan
    assert taken() == ("site", None, False, True, False)
    assert taken(camera="gate", lat=31.2, lon=121.503) == ("camera", 276, True, False, False)
    assert taken(camera="gate", east=13, north=4) == ("camera", 5, False, False, False)
    assert taken(camera="gate") == ("camera", None, False, True, False)
    assert taken(camera="nosuch", lat=31.2, lon=121.503) == ("site", 0, False, False, False)
    assert phone.get(f"/v1/inspections/{id}").json()["unproven"] == 2
    plan = {"site": "hall", "name": "Doors", "checkpoints": [{"name": "Door", "east": 10, "north": 0, "radius": 50},
                                                              {"name": "Roof"}]}
    for needed in (True, False):
        made, id = boss.post("/v1/rounds", json=plan | {"positions": needed}).json(), str(uuid.uuid4())
        assert made["positions"] is needed
        start(phone, id, round=made["id"])
        door, roof = (point["id"] for point in made["checkpoints"])
        assert taken(checkpoint=door) == ("checkpoint", None, False, needed, True)
        assert stops(id) == [(True, needed), (False, False)]
        assert phone.get("/v1/inspections", params={"round": made["id"]}).json()["items"][0]["unproven"] == needed
        assert taken(checkpoint=door, lat=32.2, lon=121.5)[2:] == (True, False, False)
        assert taken(lat=31.2, lon=121.5001) == ("checkpoint", 0, False, False, True)  # the nearest one
        assert taken(checkpoint=roof, lat=31.2, lon=121.5) == ("checkpoint", None, False, needed, True)
        assert stops(id) == [(True, False), (True, needed)]
        assert phone.get(f"/v1/inspections/{id}/report").status_code == 200
    id = str(uuid.uuid4())
    start(phone, id, "tent")
    assert taken() == ("", None, False, False, False)  # nobody has said where that is


def test_the_way_in_either_coordinates(sessions: sessionmaker[Session], as_: As) -> None:
    with sessions() as session, session.begin():
        session.add_all([Site(id="hall", name="Hall"), Site(id="yard", name="Yard", latitude=31.2, longitude=121.5)])
    phone, began = as_("inspector"), clock() - 60 * MINUTE
    ways = {}
    for site in ("hall", "yard"):
        id = str(uuid.uuid4())
        start(phone, id, site, at=began)
        # indoors: in metres on the plan alone; nothing is heard from the second minute to the tenth
        points = [{"id": str(uuid.uuid4()), "at": began + minute * MINUTE, "east": minute, "north": 2 * minute}
                  for minute in (0, 1, 2, 10, 11)]
        assert phone.post(f"/v1/inspections/{id}/points", json={"points": points}).status_code == 200
        shoot(phone, id, str(uuid.uuid4()), picture(BARE), taken=began + MINUTE, east=5, north=6)
        ways[site] = phone.get(f"/v1/inspections/{id}/route").json()
        asked = phone.get(f"/v1/inspections/{id}/route", params={"coordinates": "plan"}).json()
        assert asked["coordinates"] == "plan"
        assert asked["features"] == ways["hall"]["features"][:3] + asked["features"][3:]
    hall, yard = ways["hall"], ways["yard"]
    assert (hall["coordinates"], yard["coordinates"]) == ("plan", "map")
    kinds = lambda way: [f["properties"]["kind"] for f in way["features"]]  # noqa: E731
    assert kinds(hall) == kinds(yard) == ["observed", "observed", "inferred", "photo"]
    assert [f["geometry"]["coordinates"] for f in hall["features"]] == [
        [[0, 0], [1, 2], [2, 4]], [[10, 20], [11, 22]], [[2, 4], [10, 20]], [5, 6]]
    assert yard["features"][0]["geometry"]["coordinates"][0] == [121.5, 31.2]
    for way in (hall, yard):
        assert [(line["kind"], line["coordinates"]) for line in way["plan"]["lines"]] == [
            (f["properties"]["kind"], f["geometry"]["coordinates"]) for f in hall["features"][:3]]
        assert [[place[:2] for place in leg] for leg in way["plan"]["legs"]] == [
            line["coordinates"] for line in way["plan"]["lines"] if line["kind"] == "observed"]


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
