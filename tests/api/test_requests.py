"""Asking and granting: by whom, how much at most, until when, and what it does to rights and cameras."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import records
from litestar.testing import TestClient
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.requests import Request
from api.tables.sites import Site
from api.tables.users import Grant
from pipeline import topics as contract
from pipeline.messages import Camera
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
SOON = (datetime.now(UTC) + timedelta(days=3)).isoformat()


def ask(client: TestClient[Any], **what: Any) -> Any:
    return client.post("/v1/requests", json={"reason": "夜班", "kind": "role"} | what)


def decide(client: TestClient[Any], request: dict[str, Any], how: str = "grant", **what: Any) -> Any:
    return client.post(f"/v1/requests/{request['id']}/{how}", json=what)


def rights(client: TestClient[Any]) -> list[tuple[str, str, str]]:
    return sorted((r["role"], r["site"], r["camera"]) for r in client.get("/v1/me").json()["rights"])


def test_a_role_is_granted_until_it_ends(as_: As, sessions: sessionmaker[Session]) -> None:
    user, boss = as_("viewer", site="hall"), as_("manager", site="hall")
    made = ask(user, role="inspector", site="hall")
    assert made.status_code == 201, made.text
    request = made.json()
    assert ask(user, role="inspector", site="hall").status_code == 409  # asked already
    assert [r["id"] for r in boss.get("/v1/requests", params={"inbox": True, "state": "open"}).json()["items"]] == [
        request["id"]]
    granted = decide(boss, request, until=SOON, answer="bis Freitag")
    assert granted.status_code == 200, granted.text
    assert (granted.json()["state"], granted.json()["holds"]) == ("granted", True)
    assert rights(user) == [("inspector", "hall", ""), ("viewer", "hall", "")]
    assert decide(boss, request).status_code == 409  # decided already
    with sessions() as session, session.begin():
        session.execute(update(Grant).where(Grant.request == request["id"]).values(
            until=datetime.now(UTC) - timedelta(seconds=1)))
    assert rights(user) == [("viewer", "hall", "")]
    found = user.get(f"/v1/requests/{request['id']}").json()
    assert (found["state"], found["holds"], found["by_name"][:7]) == ("granted", False, "manager")
    with sessions() as session:
        assert [a for a in session.scalars(select(Audit.action).order_by(Audit.id)) if a.startswith("request")] == [
            "request.add", "request.granted"]


def test_a_step_down_takes_the_higher_role_away(as_: As) -> None:
    user, boss = as_("reviewer", site="hall"), as_("manager", site="hall")
    assert ask(user, role="viewer", site="hall", instead="manager").status_code == 422  # never held it
    request = ask(user, role="viewer", site="hall", instead="reviewer").json()
    assert decide(boss, request).json()["granted"]["instead"] == "reviewer"
    assert rights(user) == [("viewer", "hall", "")]
    assert decide(boss, request, "end", answer="over").json()["state"] == "ended"
    assert rights(user) == []


def test_nobody_gives_more_than_they_hold_nor_to_themselves(as_: As) -> None:
    user, boss, admin = as_("viewer", site="hall"), as_("manager", site="hall"), as_("admin")
    higher = ask(user, role="admin", site="hall").json()
    refused = decide(boss, higher)
    assert refused.status_code == 403
    assert "system.run" in refused.json()["lacking"]
    everywhere = ask(user, role="inspector").json()
    assert decide(boss, everywhere).status_code == 404  # it concerns more than their site
    narrowed = ask(user, role="inspector", site="hall").json()
    assert decide(boss, narrowed, site="").status_code == 403
    assert decide(boss, narrowed, site="yard").status_code == 403
    own = ask(boss, role="admin", site="hall").json()
    assert decide(boss, own).status_code == 403
    assert decide(as_("manager", site="yard"), narrowed).status_code == 404
    assert decide(user, narrowed).status_code == 403
    assert decide(admin, everywhere, site="hall", role="viewer").status_code == 409  # held already
    assert decide(admin, higher, "refuse", answer="no").json()["answer"] == "no"
    assert rights(user) == [("viewer", "hall", "")]
    assert ask(user, role="emperor", site="hall").status_code == 422
    assert ask(user, role="viewer", site="hall", until="2001-01-01T00:00:00Z").status_code == 422


def test_access_to_one_camera(as_: As, sessions: sessionmaker[Session]) -> None:
    user, boss = as_("viewer", site="yard"), as_("manager", site="hall")
    assert ask(user, kind="access").status_code == 422
    request = ask(user, kind="access", site="hall", camera="gate").json()
    assert request["role"] == "viewer"
    assert decide(boss, request).status_code == 409  # there is no such camera
    with sessions() as session, session.begin():
        session.add(Site(id="hall", name="Hall"))
        session.flush()
        session.add(_row("gate", "hall"))
    assert decide(boss, request).json()["granted"]["camera"] == "gate"
    assert rights(user) == [("viewer", "hall", "gate"), ("viewer", "yard", "")]
    withdrawn = ask(user, kind="access", site="hall").json()
    assert decide(boss, withdrawn, "withdraw").status_code == 403
    assert decide(user, withdrawn, "withdraw").json()["state"] == "withdrawn"
    assert decide(boss, withdrawn).status_code == 409
    with sessions() as session, session.begin():
        session.execute(delete(Request))
        for _ in range(20):
            session.add(Request(user=user.get("/v1/me").json()["id"], kind="role", role="viewer", reason="x"))
    assert ask(user, kind="access", site="hall").status_code == 409  # too many wait


def test_a_new_camera_is_wished_for_on_its_topic(tables: Settings, as_: As) -> None:
    user, boss = as_("viewer", site="hall"), as_("manager", site="hall")
    wish = {"name": "Loading Dock", "address": "rtsp://me:secret@10.0.0.9/1", "place": [3, 4]}
    assert ask(user, kind="camera", site="hall").status_code == 422
    assert ask(user, kind="camera", site="hall", wish=wish | {"address": "/etc/passwd"}).status_code == 422
    request = ask(user, kind="camera", site="hall", wish=wish).json()
    assert "secret" not in str(request)
    assert decide(boss, request).json()["granted"] == {"site": "hall", "camera": "loading-dock"}
    topic, end = contract.find("cameras"), time.monotonic() + 20
    while not (found := records.read(tables, "cameras")):
        assert time.monotonic() < end
        time.sleep(0.1)
    camera: Camera = topic.decode(found[0].value)
    assert (camera.camera, camera.site, camera.place, camera.sources[0].url) == (
        "loading-dock", "hall", (3.0, 4.0), "rtsp://me:secret@10.0.0.9/1")


def test_a_reason_is_text(as_: As) -> None:
    user = as_("viewer")
    assert {ask(user, role="viewer", site="hall", reason=reason).status_code
            for reason in ("", "a\x00b", "x" * 2001)} == {422}


def _row(id: str, site: str) -> CameraRow:
    return CameraRow(id=id, site=site, name=id, wish={"camera": id, "sources": [], "site": site}, running=True,
                     place_east=None, place_north=None, offset=0)
