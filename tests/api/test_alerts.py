"""One alert for each episode and outage, by the rules, step by step; and no way to make a second one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from breaches import S, episode, fold
from pydantic import SecretStr
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import alerts, materialiser
from api.alerts import judge, open_at
from api.db import now
from api.folds import Context, Told
from api.tables.alerts import Alert, AlertRule
from api.tables.cameras import CameraRow
from api.tables.deliveries import Channel, Delivery
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.offsets import Offset
from pipeline.messages import Camera, CameraStatus, Source
from pipeline.settings import Settings

FIRST, SECOND = "1" * 32, "2" * 32  # channels


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """The tables alone: no topic has a part in this."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning")


@pytest.fixture
def start() -> int:
    return time.time_ns() // 1000 - 60 * S


def add(sessions: sessionmaker[Session], **more: Any) -> str:
    """A rule that fits everything, from an hour ago on."""
    values = {
        "kind": "episode", "name": "all", "since": now() - timedelta(hours=1), "cameras": [], "zones": [], "states": [],
        "seconds": 0.0, "hours": [], "timezone": "UTC", "cooldown": 0.0, "cooldown_by": "camera", "tell_end": False,
        "steps": [{"after": 0, "channels": [FIRST]}], "latest": 3600.0,
    } | more  # fmt: skip
    with sessions() as session, session.begin():
        rule = AlertRule(**values)
        session.add(rule)
        session.flush()
        return rule.id


def turn(sessions: sessionmaker[Session], at: int | None = None) -> int:
    with sessions() as session, session.begin():
        return judge(session, at)


def look(sessions: sessionmaker[Session], at: int) -> int:
    """A turn at a time up to which everything that was said of cameras is folded."""
    with sessions() as session, session.begin():
        session.merge(Offset(topic="t.cameras.status", partition=0, next=0, caught=at))
        session.merge(Offset(topic="t.cameras.status", partition=1, next=0, caught=at + S))
    return turn(sessions, at)


def made(sessions: sessionmaker[Session]) -> list[tuple[str, str]]:
    with sessions() as session:
        return [(a.id, a.state) for a in session.scalars(select(Alert).order_by(Alert.start, Alert.id))]


def told(sessions: sessionmaker[Session]) -> list[tuple[str, str, int]]:
    with sessions() as session:
        return [(d.channel, d.what, d.step) for d in session.scalars(select(Delivery).order_by(Delivery.number))]


def test_an_episode_makes_one_alert_whatever_happens(
    tables: Settings, sessions: sessionmaker[Session], start: int
) -> None:
    add(sessions, steps=[{"after": 0, "channels": [FIRST, SECOND]}], tell_end=True)
    one = episode(start, "gate", "dock")
    fold(sessions, tables, one)
    assert turn(sessions) == 2
    assert turn(sessions) == 0
    closed = msgspec.structs.replace(one, status="closed", reason="mask on", at=one.at + S)
    fold(sessions, tables, closed)
    assert turn(sessions) == 2
    for _ in range(2):  # the rows are made anew, under the eyes of the judge
        with sessions() as session, session.begin():
            session.execute(delete(EvidenceRow))
            session.execute(delete(EpisodeRow))
        turn(sessions)
        fold(sessions, tables, one)
        turn(sessions)
        fold(sessions, tables, closed)
        turn(sessions)
    assert made(sessions) == [(one.id, "open")]
    assert told(sessions) == [(FIRST, "alert", 0), (SECOND, "alert", 0), (FIRST, "end", 0), (SECOND, "end", 0)]
    with sessions() as session:
        facts = session.scalars(select(Delivery.facts)).first()
    assert (facts["cameras"], facts["state"], facts["picture"].split("/")[0]) == (["gate", "dock"], "none", "evidence")


def test_rules_choose(tables: Settings, sessions: sessionmaker[Session], start: int) -> None:
    short, long = episode(start, seconds=5), episode(start + S, "dock", seconds=30)
    lab, wrong = episode(start, "lab", site="lab", zone="ward"), msgspec.structs.replace(
        episode(start + 2 * S, "wall", seconds=30), state="incorrect")
    fold(sessions, tables, short, long, lab, wrong)
    for rule, expected in (
        ({"site": "lab"}, {lab.id}), ({"zones": ["ward"]}, {lab.id}),
        ({"cameras": ["gate", "lab"]}, {short.id, lab.id}), ({"states": ["incorrect"]}, {wrong.id}),
        ({"seconds": 20.0}, {long.id, wrong.id}), ({"latest": 10.0}, set()),
        ({"since": now() + timedelta(seconds=1)}, set()), ({"enabled": False}, set()),
        ({"hours": [{"days": [1, 2, 3, 4, 5, 6, 7], "begin": "00:00", "end": "24:00"}], "site": "lab"}, {lab.id}),
        ({"kind": "camera"}, set()),
    ):  # fmt: skip
        add(sessions, **rule)
        turn(sessions, max(each.at for each in (short, long, lab, wrong)) + 11 * S)
        assert {id for id, _ in made(sessions)} == expected, rule
        with sessions() as session, session.begin():
            session.execute(delete(Alert))
            session.execute(delete(AlertRule))
    add(sessions, name="second", position=2)
    first = add(sessions, name="first", position=1)
    turn(sessions)
    with sessions() as session:
        assert set(session.scalars(select(Alert.rule))) == {first}


def test_hours_of_the_week() -> None:
    def at(text: str) -> int:
        return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)

    day = [{"days": [1, 2, 3, 4, 5], "begin": "08:00", "end": "18:00"}]
    assert open_at(day, "Asia/Shanghai", at("2026-11-23 00:00"))  # Monday, 08:00 there
    assert not open_at(day, "Asia/Shanghai", at("2026-11-23 10:00"))
    assert not open_at(day, "Asia/Shanghai", at("2026-11-22 02:00"))
    night = [{"days": [5], "begin": "22:00", "end": "06:00"}]
    assert open_at(night, "UTC", at("2026-11-27 23:00"))
    assert open_at(night, "UTC", at("2026-11-28 05:59"))  # Saturday, still Friday's night
    assert not open_at(night, "UTC", at("2026-11-28 06:00"))
    assert not open_at(night, "UTC", at("2026-11-27 05:00"))
    assert open_at([], "UTC", 0)


def test_after_an_alert_the_same_camera_or_person_makes_none_for_a_while(
    tables: Settings, sessions: sessionmaker[Session], start: int
) -> None:
    add(sessions, cooldown=20.0, site="hall")
    add(sessions, cooldown=20.0, cooldown_by="person", site="lab")
    hall = [episode(start + seconds * S) for seconds in (0, 10, 25, 40)] + [episode(start + 10 * S, "dock")]
    lab = [episode(start + i * S, f"lab{i}", site="lab", person="somebody") for i in (0, 5)]
    fold(sessions, tables, *hall, *lab)
    turn(sessions)
    open_ = {id for id, state in made(sessions) if state == "open"}
    assert open_ == {hall[0].id, hall[2].id, hall[4].id, lab[0].id}
    with sessions() as session:
        because = dict(session.execute(select(Alert.id, Alert.because).where(Alert.state == "suppressed")).all())
    assert because == {hall[1].id: hall[0].id, hall[3].id: hall[2].id, lab[1].id: lab[0].id}
    assert len(told(sessions)) == 4


def test_the_next_one_is_told_as_long_as_nobody_looks_after_it(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    steps = [{"after": after, "channels": [who]} for after, who in ((0, FIRST), (60, SECOND), (300, FIRST))]
    add(sessions, steps=steps)
    one, two, three = (episode(start + i * S) for i in range(3))
    fold(sessions, tables, one, two)
    at = time.time_ns() // 1000
    turn(sessions, at)
    reviewer = as_("reviewer", site="hall")
    assert reviewer.post(f"/v1/alerts/{quote(two.id, safe='')}/acknowledge").json()["state"] == "acknowledged"
    whole = reviewer.get(f"/v1/episodes/{quote(two.id, safe='')}").json()
    assert whole["episode"]["review"]["status"] == "acknowledged"
    turn(sessions, at + 59 * S)
    assert told(sessions) == [(FIRST, "alert", 0)] * 2
    turn(sessions, at + 61 * S)
    turn(sessions, at + 62 * S)
    assert told(sessions)[2:] == [(SECOND, "escalation", 1)]
    body = {"verb": "close", "text": "done"}
    assert reviewer.post(f"/v1/episodes/{quote(one.id, safe='')}/steps", json=body).status_code == 200
    turn(sessions, at + 999 * S)
    assert len(told(sessions)) == 3
    # who is quicker than the rules is not told at all
    fold(sessions, tables, three)
    reviewer.post(f"/v1/episodes/{quote(three.id, safe='')}/steps", json={"verb": "acknowledge"})
    turn(sessions, at)
    assert made(sessions)[2] == (three.id, "acknowledged")
    assert len(told(sessions)) == 3


class Heard:
    """What workers say of cameras, folded."""

    def __init__(self, tables: Settings, sessions: sessionmaker[Session]) -> None:
        self.tables, self.sessions, self.offset = tables, sessions, 0

    def __call__(self, state: str, since: int, said: int, camera: str = "gate") -> None:
        self.offset += 1
        with self.sessions() as session, session.begin():
            status = CameraStatus(camera, said, state, since, error="timeout")  # type: ignore[arg-type]
            assert materialiser.fold(session, Context(self.tables), "cameras.status",
                                     [Told(camera, status, "cameras.status", 0, self.offset, said)]) == []


def wanted(sessions: sessionmaker[Session], tables: Settings, at: int, *cameras: str) -> None:
    """Cameras that were added by the command at a time."""
    wishes = [Camera(name, (Source("rtsp://10.0.0.9/1"),), site="hall", name="North gate") for name in cameras]
    with sessions() as session, session.begin():
        assert materialiser.fold(session, Context(tables), "cameras", [
            Told(wish.camera, wish, "cameras", 0, i, at) for i, wish in enumerate(wishes)]) == []


def test_a_camera_that_is_down_makes_one_alert_until_it_is_up(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    add(sessions, kind="camera", seconds=30.0, tell_end=True)
    at, hear = time.time_ns() // 1000, Heard(tables, sessions)
    wanted(sessions, tables, at, "gate", "dock")
    hear("up", at, at + 200 * S, "dock")
    hear("down", at, at)
    look(sessions, at + 29 * S)
    assert made(sessions) == []
    look(sessions, at + 31 * S)
    hear("down", at + 40 * S, at + 40 * S)  # another worker has taken it and tries anew
    look(sessions, at + 80 * S)
    assert made(sessions) == [(f"gate!{at}", "open")]
    hear("up", at + 90 * S, at + 90 * S)
    look(sessions, at + 91 * S)
    look(sessions, at + 92 * S)
    assert told(sessions) == [(FIRST, "alert", 0), (FIRST, "end", 0)]
    # down again is another alert; not hearing of a camera is as bad; one that nobody wants to run is no matter
    hear("down", at + 100 * S, at + 100 * S)
    look(sessions, at + 131 * S)
    with sessions() as session, session.begin():
        session.execute(update(CameraRow).where(CameraRow.id == "gate").values(running=False))
    look(sessions, at + 200 * S)
    turn(sessions, at + 265 * S)  # what was said since is not folded yet: that is no silence
    assert len(made(sessions)) == 2
    look(sessions, at + 265 * S)
    with sessions() as session:
        found = session.execute(select(Alert.id, Alert.ended, Alert.facts["state"].astext).order_by(Alert.start)).all()
    assert found == [(f"gate!{at}", at + 90 * S, "down"), (f"gate!{at + 100 * S}", at + 200 * S, "down"),
                     (f"dock!{at + 200 * S}", None, "up")]  # fmt: skip
    assert told(sessions)[2:] == [(FIRST, "alert", 0), (FIRST, "alert", 0)]


def test_a_camera_that_no_worker_takes_is_told_after_the_same_time(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    add(sessions, kind="camera", seconds=90.0, tell_end=True)
    at, hear = time.time_ns() // 1000, Heard(tables, sessions)
    wanted(sessions, tables, at, "gate")
    look(sessions, at + 89 * S)
    assert made(sessions) == []
    look(sessions, at + 91 * S)
    look(sessions, at + 92 * S)
    assert made(sessions) == [(f"gate!{at}", "open")]
    hear("up", at + 95 * S, at + 95 * S)
    look(sessions, at + 96 * S)
    assert told(sessions) == [(FIRST, "alert", 0), (FIRST, "end", 0)]
    with sessions() as session:
        (alert,) = session.scalars(select(Alert))
        assert (alert.facts["state"], alert.ended) == ("waiting", at + 95 * S)
    # stopped for long and started again, it has that time too
    hear("stopped", at + 100 * S, at + 100 * S)
    wanted(sessions, tables, at + 500 * S, "gate")
    look(sessions, at + 589 * S)
    assert len(made(sessions)) == 1
    look(sessions, at + 591 * S)
    assert made(sessions)[1] == (f"gate!{at + 500 * S}", "open")


def test_an_outage_that_outlasts_the_cooldown_is_told_then(tables: Settings, sessions: sessionmaker[Session]) -> None:
    steps = [{"after": 0, "channels": [FIRST]}, {"after": 60, "channels": [SECOND]}]
    rule = add(sessions, kind="camera", seconds=30.0, cooldown=300.0, steps=steps)
    at, hear = time.time_ns() // 1000, Heard(tables, sessions)
    wanted(sessions, tables, at, "gate", "dock")
    for camera in ("gate", "dock"):
        hear("down", at, at, camera)
    look(sessions, at + 31 * S)
    for camera in ("gate", "dock"):
        hear("up", at + 40 * S, at + 40 * S, camera)
    look(sessions, at + 41 * S)
    for camera in ("gate", "dock"):
        hear("down", at + 50 * S, at + 50 * S, camera)
    look(sessions, at + 81 * S)
    second = [(f"{camera}!{at + 50 * S}", "suppressed") for camera in ("dock", "gate")]
    assert made(sessions)[2:] == second
    hear("up", at + 90 * S, at + 90 * S, "dock")  # an outage that is over by then is not told
    hear("down", at + 95 * S, at + 320 * S)  # another worker tries the same camera: it is the same outage
    look(sessions, at + 330 * S)
    assert made(sessions)[2:] == second
    assert len(told(sessions)) == 2
    hear("up", at + 90 * S, at + 330 * S, "dock")
    look(sessions, at + 332 * S)
    look(sessions, at + 333 * S)
    assert made(sessions)[2:] == [second[0], (second[1][0], "open")]
    assert told(sessions)[2:] == [(FIRST, "alert", 0)]
    hear("up", at + 90 * S, at + 630 * S, "dock")
    look(sessions, at + 393 * S)
    assert told(sessions)[2:] == [(FIRST, "alert", 0), (SECOND, "escalation", 1)]
    # what the next outage has to wait is counted from when this one was told
    hear("up", at + 400 * S, at + 400 * S)
    look(sessions, at + 401 * S)
    hear("down", at + 410 * S, at + 410 * S)
    look(sessions, at + 630 * S)
    assert made(sessions)[-1] == (f"gate!{at + 410 * S}", "suppressed")
    # a rule that is gone keeps nobody quiet
    with sessions() as session, session.begin():
        session.execute(delete(AlertRule).where(AlertRule.id == rule))
    add(sessions, kind="camera", seconds=30.0)
    look(sessions, at + 631 * S)
    assert made(sessions)[-1] == (f"gate!{at + 410 * S}", "open")


def test_what_lies_outside_the_hours_keeps_nothing_waiting(
    tables: Settings, sessions: sessionmaker[Session], start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MOST", 3)
    many = [episode(start + i * S, f"c{i}") for i in range(8)]
    fold(sessions, tables, *many)
    monkeypatch.setattr(alerts, "open_at", lambda hours, zone, at: at >= many[6].start)
    add(sessions)
    turn(sessions)
    assert [id for id, _ in made(sessions)] == [many[6].id, many[7].id]


def wish(**more: Any) -> dict[str, Any]:
    return {"name": "wards", "kind": "episode", "steps": [{"channels": [FIRST]}]} | more


def test_rules_are_written_by_who_may(tables: Settings, sessions: sessionmaker[Session], as_: Any) -> None:
    with sessions() as session, session.begin():
        for id, site in ((FIRST, ""), (SECOND, "lab")):
            session.add(Channel(id=id, kind="webhook", name=id[0], site=site, language="en", pictures=False,
                                options={"url": "https://example.org/"}))
    admin, viewer = as_("admin"), as_("viewer")
    hall, gate = as_("reviewer", site="hall"), as_("reviewer", site="hall", camera="gate")
    assert viewer.get("/v1/alert-rules").status_code == viewer.post("/v1/alert-rules", json=wish()).status_code == 403
    for client, site in ((hall, ""), (hall, "lab"), (gate, "hall"), (gate, "")):
        assert client.post("/v1/alert-rules", json=wish(site=site)).status_code == 403
    mine = hall.post("/v1/alert-rules", json=wish(site="hall", hours=[{"begin": "22:00", "end": "06:00"}]))
    assert mine.status_code == 201, mine.text
    every = admin.post("/v1/alert-rules", json=wish()).json()
    assert [r["id"] for r in hall.get("/v1/alert-rules").json()] == [mine.json()["id"]]
    assert {r["id"] for r in admin.get("/v1/alert-rules").json()} == {mine.json()["id"], every["id"]}
    assert hall.get(f"/v1/alert-rules/{every['id']}").status_code == 404
    assert hall.put(f"/v1/alert-rules/{every['id']}", json=wish(site="hall")).status_code == 404
    for wrong in (
        {"steps": []}, {"steps": [{"channels": [SECOND]}]}, {"steps": [{"channels": ["0" * 32]}]}, {"name": "a\0"},
        {"steps": [{"channels": [FIRST], "after": 5}, {"channels": [FIRST], "after": 5}]}, {"seconds": -1},
        {"timezone": "Mars/Crater"}, {"hours": [{"days": [8]}]}, {"hours": [{"begin": "25:00"}]}, {"kind": "weather"},
        {"kind": "camera", "states": ["none"]}, {"position": 10**20}, {"site": "a b"}, {"cooldown": 1e300},
    ):  # fmt: skip
        assert hall.post("/v1/alert-rules", json=wish(**{"site": "hall"} | wrong)).status_code == 422, wrong
    id = mine.json()["id"]
    off = hall.put(f"/v1/alert-rules/{id}", json=wish(site="hall", enabled=False)).json()
    on = hall.put(f"/v1/alert-rules/{id}", json=wish(site="hall", name="again")).json()
    assert off["since"] == mine.json()["since"] < on["since"]
    assert hall.delete(f"/v1/channels/{FIRST}").status_code == 404
    assert admin.delete(f"/v1/channels/{FIRST}").status_code == 409
    assert hall.delete(f"/v1/alert-rules/{id}").status_code == 204
    assert hall.get(f"/v1/alert-rules/{id}").status_code == 404


def test_alerts_are_shown_to_who_may_see_the_camera(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    add(sessions)
    both, lab = episode(start, "gate", "dock"), episode(start + S, "lab", site="lab")
    fold(sessions, tables, both, lab)
    turn(sessions)

    def ids(client: Any, query: str = "") -> list[str]:
        answer = client.get(f"/v1/alerts{query}")
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["items"]]

    everybody, gate, far = as_("viewer"), as_("viewer", site="hall", camera="gate"), as_("viewer", site="lab")
    assert ids(everybody) == [lab.id, both.id]
    assert ids(everybody, "?going=true&kind=episode&state=open&site=hall&camera=dock") == [both.id]
    assert ids(gate) == [both.id]
    assert ids(gate, "?camera=dock") == ids(far, "?camera=gate") == []
    where = f"/v1/alerts/{quote(both.id, safe='')}"
    assert gate.get(where).json()["alert"]["cameras"] == ["gate"]
    assert far.get(where).status_code == 404
    assert gate.post(f"{where}/acknowledge").status_code == 403
    assert as_("reviewer", site="lab").post(f"{where}/acknowledge").status_code == 404
    assert as_("reviewer", site="hall", camera="dock").post(f"{where}/acknowledge").json()["state"] == "acknowledged"
    with sessions() as session, session.begin():
        assert alerts.acknowledge(session, [both.id], "x") == []
