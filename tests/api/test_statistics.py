"""The predecessor's charts: cameras by state, inspections over time, who did how much, and the words of notes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api import words
from api.tables.cameras import CameraRow, CameraState
from api.tables.episodes import EpisodeRow, EpisodeStep
from api.tables.inspections import Inspection, Photo
from api.tables.users import User
from pipeline.messages import Camera, Source
from pipeline.settings import Settings

START, HOUR = 1_700_006_400_000_000, 3_600_000_000  # µs; midnight of 15 November 2023 in Shanghai is 16:00 UTC before


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """A database with every table; what is asked here needs no broker."""
    return Settings(data=tmp_path / "data", kafka="127.0.0.1:9", database=SecretStr(database), log="warning")


@pytest.fixture
def worked(sessions: sessionmaker[Session]) -> dict[str, str]:
    """Three cameras, three inspections by two people at two sites, one comment; -> ids of the people."""
    with sessions() as session, session.begin():
        for name, site, running, state in (("gate", "hall", True, "up"), ("dock", "hall", True, ""),
                                           ("roof", "yard", False, "stopped")):
            wish = msgspec.to_builtins(Camera(name, (Source("rtsp://10.0.0.9/1"),), site=site, running=running))
            session.add(CameraRow(id=name, site=site, name=name, wish=wish, running=running, offset=0))
            if state:
                session.add(CameraState(id=name, state=state, since=START, at=START, status={}))
        lin, wu = User(name="lin", full_name="Lin Yue"), User(name="wu")
        session.add_all([lin, wu])
        session.flush()
        for number, (user, site, state, hours, note) in enumerate((
                (lin, "hall", "finished", 0, "口罩没有戴好，已经提醒"),
                (lin, "hall", "running", 30, "Mask below the nose"), (wu, "yard", "finished", 1, "口罩 ok"))):
            began = START + hours * HOUR
            session.add(Inspection(id=f"i{number}", user=user.id, site=site, state=state, note=note, started=began,
                                   started_clock=began, ended=began + HOUR // 2 if state == "finished" else None))
            session.flush()
            session.add(Photo(id=f"p{number}", inspection=f"i{number}", frame=f"i{number}@{began}", digest="0" * 64,
                              taken=began, taken_from="phone", privacy="pseudonymous", width=9, height=9,
                              note="mask, mask, mask" if number == 0 else ""))
        session.add(EpisodeRow(id="e", site="hall", person="p", state="none", status="closed", start=START, end=START,
                               at=START, cameras=["gate"], score=1.0, looks=3, reason="", except_roles=[],
                               recorded=START))
        session.add(EpisodeStep(episode="e", user=wu.id, verb="comment", text="Spoke to the visitor",
                                at=datetime.fromtimestamp(START / 1e6 + 60, UTC)))
        return {"lin": lin.id, "wu": wu.id}


def get(client: Any, path: str, **query: Any) -> Any:
    answer = client.get(f"/v1/statistics{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_charts_of_what_one_may_see(worked: dict[str, str], as_: Any) -> None:
    reviewer, yard, span = as_("reviewer"), as_("reviewer", site="yard"), {"since": START, "until": START + 72 * HOUR}
    assert get(reviewer, "/cameras") == [
        {"site": "hall", "cameras": 2, "running": 2, "states": {"up": 1, "waiting": 1}},
        {"site": "yard", "cameras": 1, "running": 0, "states": {"stopped": 1}}]
    assert [site["site"] for site in get(yard, "/cameras")] == ["yard"]

    days = get(reviewer, "/inspections", bucket="day", tz="Asia/Shanghai", **span)
    assert [(day["inspections"], day["photos"]) for day in days] == [(2, 2), (1, 1), (0, 0), (0, 0)]
    assert days[1]["states"] == {"running": 1}
    assert sum(day["inspections"] for day in get(yard, "/inspections", **span)) == 1

    first, second = get(reviewer, "/users", **span)
    assert (first["name"], first["inspections"], first["finished"], first["minutes"], first["reviews"]) == (
        "Lin Yue", 2, 1, 30.0, 0)
    assert (second["user"], second["photos"], second["reviews"]) == (worked["wu"], 1, 1)
    assert [(one["name"], one["reviews"]) for one in get(yard, "/users", **span)] == [("wu", 0)]

    cloud = {one["word"]: one["notes"] for one in get(reviewer, "/words", **span)}
    assert (cloud["口罩"], cloud["mask"], cloud["visitor"], cloud["提醒"]) == (2, 2, 1, 1)
    assert not {"the", "to", "已经", "，"} & set(cloud)
    assert [one["word"] for one in get(yard, "/words", **span)] == ["ok", "口罩"]
    assert get(reviewer, "/words", limit=1, since=0, until=START) == []
    assert as_("viewer").get("/v1/statistics/users", params=span).status_code == 403


def test_words_of_two_languages(tmp_path: Path) -> None:
    assert words.words("Masks, worn WRONGLY: 3 people's", tmp_path) == ["masks", "worn", "wrongly", "people's"]
    assert words.words("食堂门口有人没戴口罩", tmp_path)[-1] == "口罩"
    assert (tmp_path / "jieba.cache").exists()
