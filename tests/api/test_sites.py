"""Sites, their plans and policies: what is said there reaches every camera, and what is saved stays as it was saved."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from folding import folding, until, wishes
from litestar.testing import TestClient
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from agents import cameras as topic
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.plans import Plan
from cli.up import _demo_cameras
from infra.demo import plan as rendered
from pipeline import policy
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
LEFT = {"name": "desk", "outline": [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]}
DAY = {"days": [1, 2, 3, 4, 5], "begin": "07:00", "end": "19:00"}


@pytest.fixture
def admin(as_: As) -> TestClient[Any]:
    client = as_("admin")
    site = {"id": "hall", "name": "Hall", "time_zone": "Asia/Shanghai"}
    assert client.post("/v1/sites", json=site).status_code == 201
    for camera, more in (("gate", {}), ("clean", {"privacy": "anonymous"})):
        body = {"id": camera, "site": "hall", "sources": [{"url": "rtsp://10.0.0.7/1"}]} | more
        assert client.post("/v1/cameras", json=body).status_code == 201
    return client


def test_what_a_site_says_reaches_all_its_cameras(admin: TestClient[Any], tables: Settings,
                                                  sessions: sessionmaker[Session]) -> None:
    site = admin.patch("/v1/sites/hall", json={
        "privacy": "enrolled", "blur_others": True, "origin": {"latitude": 31.2, "longitude": 121.4, "bearing": 12.5}})
    assert site.status_code == 200, site.text
    assert (site.json()["cameras"], site.json()["origin"]["bearing"]) == (2, 12.5)
    told = wishes(tables, lambda w: len(w) == 2 and all(c.blur_others for c in w.values()))
    # a camera that was stricter than its site stays so
    assert {name: wish.privacy for name, wish in told.items()} == {"gate": "enrolled", "clean": "anonymous"}
    assert {name: admin.get(f"/v1/cameras/{name}").json()["privacy"] for name in told} == {
        "gate": "enrolled", "clean": "anonymous"}
    admin.patch("/v1/sites/hall", json={"privacy": "anonymous"})
    assert admin.get("/v1/cameras/gate").json()["privacy"] == "anonymous"
    wishes(tables, lambda w: w["gate"].privacy == "anonymous")
    for bad in ({"time_zone": "Mars"}, {"time_zone": "../x"}, {"privacy": "open"}, {"name": "\0"}, {"name": ""},
                {"origin": {"latitude": 91, "longitude": 0}}):
        assert admin.patch("/v1/sites/hall", json=bad).status_code == 422, bad
    assert admin.delete("/v1/sites/hall").status_code == 409
    assert admin.get("/v1/sites/..%00").status_code == 422
    assert admin.post("/v1/sites", json={"id": "hall", "name": "x"}).status_code == 409
    with sessions() as session:
        row = session.scalars(select(Audit).where(Audit.action == "site.edit").order_by(Audit.id)).first()
    assert row is not None
    assert (row.detail["before"]["privacy"], row.detail["after"]["privacy"]) == ("pseudonymous", "enrolled")


def test_every_policy_is_a_version_and_one_of_them_holds(admin: TestClient[Any], as_: As, tables: Settings) -> None:
    admin.put("/v1/cameras/gate/zones", json={"zones": [LEFT]})
    new = {"site": "hall", "name": "By day", "otherwise": "nothing", "rules": [
        {"name": "desk", "zone": "desk", "hours": [DAY], "grace": 3, "breach": ["none"], "except_roles": ["patient"]},
        {"name": "clean", "cameras": ["clean"]}]}
    first = admin.post("/v1/policies", json=new)
    assert first.status_code == 201, first.text
    assert (first.json()["id"], first.json()["active"]) == ("hall:1", False)
    assert admin.get("/v1/cameras/gate").json()["policy"] == ""
    second = admin.post("/v1/policies", json=new | {"rules": new["rules"][:1], "activate": True}).json()
    assert (second["id"], second["active"], second["time_zone"]) == ("hall:2", True, "Asia/Shanghai")
    assert admin.post("/v1/policies/hall:1/activate").json()["active"]
    assert [(p["id"], p["active"]) for p in admin.get("/v1/policies?site=hall").json()["items"]] == [
        ("hall:2", False), ("hall:1", True)]
    told = wishes(tables, lambda w: all(c.policy and c.policy.version == "hall:1" for c in w.values()))
    assert [rule.name for rule in told["gate"].policy.rules] == ["desk"]
    assert told["gate"].policy.rules[0].grace == 3
    assert [rule.name for rule in told["clean"].policy.rules] == ["clean"]
    assert told["gate"].policy.time_zone == "Asia/Shanghai"
    # a camera that comes later is told too; what the API gives is what a replay reads
    admin.post("/v1/cameras", json={"id": "late", "site": "hall", "sources": [{"url": "rtsp://10.0.0.8/"}]})
    assert admin.get("/v1/cameras/late").json()["policy"] == "hall:1"
    read = policy.load(admin.get("/v1/policies/hall:1").text)
    assert policy.of_camera(read, "gate", told["gate"].policy.zones) == told["gate"].policy
    # a zone that a rule names
    assert admin.put("/v1/cameras/gate/zones", json={"zones": []}).status_code == 409
    assert admin.put("/v1/cameras/gate/zones", json={"zones": [LEFT, LEFT | {"name": "door"}]}).status_code == 200
    assert admin.get("/v1/cameras/gate").json()["policy"] == "hall:1"
    # another clock on the wall
    admin.patch("/v1/sites/hall", json={"time_zone": "Europe/Berlin"})
    wishes(tables, lambda w: w["gate"].policy.time_zone == "Europe/Berlin")
    assert admin.post("/v1/policies/hall:2/retire").status_code == 409
    assert admin.post("/v1/policies/hall:1/retire").json()["active"] is False
    gone = wishes(tables, lambda w: w["late"].policy is None)["gate"].policy
    assert (gone.version, [zone.name for zone in gone.zones], gone.rules) == ("", ["desk", "door"], ())

    for bad in ({"rules": [{"zone": "attic"}]}, {"rules": [{"cameras": ["bench"]}]}, {"rules": [{"grace": -1}]},
                {"rules": [{"hours": [{"begin": "7"}]}]}, {"rules": [{"name": "\0"}]}, {"site": "lab"},
                {"rules": [{"hours": [{"days": []}]}]}, {"rules": [{"breach": ["worn"]}]}, {"rules": [{}] * 51}):
        assert admin.post("/v1/policies", json=new | bad).status_code in (404, 422), bad
    viewer, other = as_("viewer", site="hall"), as_("manager", site="lab")
    assert viewer.get("/v1/policies/hall:1").status_code == 200
    assert [viewer.post(f"/v1/policies/hall:1/{verb}").status_code for verb in ("activate", "retire")] == [403, 403]
    assert viewer.post("/v1/policies", json=new).status_code == 403
    assert other.get("/v1/policies/hall:1").status_code == 404
    assert other.get("/v1/policies").json()["items"] == []


def test_a_plan_has_a_picture_that_was_encoded_anew(admin: TestClient[Any], as_: As) -> None:
    plan = {"site": "hall", "name": "Ground floor", "west": 0, "south": 0, "east": 32, "north": 20}
    made = admin.post("/v1/plans", json=plan)
    assert made.status_code == 201, made.text
    path = f"/v1/plans/{made.json()['id']}"
    assert admin.get(f"{path}/picture").status_code == 404
    assert admin.post("/v1/plans", json=plan | {"east": 0.1}).status_code == 422
    picture = io.BytesIO()
    Image.fromarray(np.zeros((200, 320, 3), np.uint8)).save(picture, "JPEG", comment=b"secret note")
    done = admin.put(f"{path}/picture", files={"picture": ("a.jpg", picture.getvalue())})
    assert done.status_code == 200, done.text
    assert (done.json()["width"], done.json()["height"]) == (320, 200)
    shown = admin.get(f"{path}/picture")
    assert shown.headers["content-type"] == "image/png"
    assert b"secret note" not in shown.content
    again = admin.get(f"{path}/picture", headers={"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    assert admin.put(f"{path}/picture", files={"picture": ("a.svg", svg)}).status_code == 422
    huge = io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    assert "megapixels" in admin.put(f"{path}/picture", files={"picture": ("a.png", huge.getvalue())}).text
    assert admin.patch(path, json={"floor": 2, "name": "Second floor"}).json()["floor"] == 2
    viewer, other = as_("viewer", site="hall"), as_("manager", site="lab")
    assert viewer.get(f"{path}/picture").status_code == 200
    assert viewer.patch(path, json={"floor": 3}).status_code == 403
    assert viewer.put(f"{path}/picture", files={"picture": ("a.jpg", picture.getvalue())}).status_code == 403
    assert [other.get(path).status_code, other.get(f"{path}/picture").status_code] == [404, 404]
    assert admin.get("/v1/plans?site=hall").json()["items"][0]["id"] == made.json()["id"]
    assert admin.delete(path).status_code == 204
    assert admin.get("/v1/plans").json()["items"] == []


def test_the_demo_site_has_a_plan_and_what_people_changed_stays(sessions: sessionmaker[Session], tables: Settings,
                                                                as_: As) -> None:
    assert len(_demo_cameras(tables)) == 3
    client = as_("admin")
    (plan,) = client.get(f"/v1/plans?site={rendered.SITE}").json()["items"]
    assert (plan["east"], plan["north"]) == rendered.SIZE
    image = Image.open(io.BytesIO(client.get(f"/v1/plans/{plan['id']}/picture").content))
    assert image.size == (plan["width"], plan["height"])
    colour = {(east, north): image.getpixel((round(east / 32 * image.width), round((1 - north / 20) * image.height)))
              for east, north in ((5, 5.5), (5, 12))}
    assert colour[5, 5.5] == (255, 255, 255) != colour[5, 12]  # in the lobby; outside
    told = topic.wishes(tables)
    assert told["demo-ward"].place == (27.3, 6.5)
    with folding(tables, sessions):
        until(sessions, lambda s: len(s.scalars(select(CameraRow.id)).all()) == 3)
    client.patch(f"/v1/sites/{rendered.SITE}", json={"name": "Ours", "blur_others": True})
    client.patch("/v1/cameras/demo-ward", json={"name": "Ours", "running": False})
    wishes(tables, lambda w: w["demo-ward"].name == "Ours")
    _demo_cameras(tables)  # the next start, with the clips elsewhere
    _demo_cameras(tables.model_copy(update={"data": tables.data / "moved"}))
    ours = topic.wishes(tables)["demo-ward"]
    assert (ours.name, ours.running, ours.blur_others) == ("Ours", False, True)
    assert "/moved/" in ours.sources[0].url
    assert client.get(f"/v1/sites/{rendered.SITE}").json()["name"] == "Ours"
    with sessions() as session:
        assert len(session.scalars(select(Plan)).all()) == 1
