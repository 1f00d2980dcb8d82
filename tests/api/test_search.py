"""Search by a face among many: whoever is there every day hides nobody else, and what was left out is said."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api import vectors
from api.routes import search
from api.tables.sites import Site
from api.tables.trajectories import LegRow, TrajectoryRow
from api.vectors import Vector
from pipeline.messages import STATES
from pipeline.settings import Settings

DAY, SECOND = 86_400_000_000, 1_000_000
DAYS, TRACKS, LOOKS = 30, 12, 3  # of somebody who works there: 1,080 looks
SPACE = "0" * 12


@pytest.fixture
def tables(database: str, tmp_path: Path, vectors_server: int) -> Settings:
    """No topic has a part in this."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning",
                    vectors_port=vectors_server, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")


def look(track: str, number: int, at: int, cosine: float, camera: str = "door", masked: bool = False) -> Vector:
    """One that is so alike to the face that is asked for."""
    values = np.zeros(8, np.float32)
    values[0], values[1 + sum(track.encode()) % 7] = cosine, np.sqrt(1 - cosine**2)
    return Vector(f"{track}.{number}", track, "hall", camera, at, masked, 0.5, values.tolist())


@pytest.fixture
def staffed(sessions: sessionmaker[Session], tables: Settings) -> None:
    """Staff on every day; a masked stranger last, a bare one first; one who looks alike in one look of three."""
    staff = [look(f"staff-{day}-{i}", n, day * DAY + i * SECOND, 0.9, ("door", "ward")[i % 2])
             for day in range(1, DAYS + 1) for i in range(TRACKS) for n in range(LOOKS)]
    others = [look("asked", 0, DAY, 1.0, "lab"), look("masked", 0, 40 * DAY, 0.42, masked=True),
              look("bare", 0, DAY // 2, 0.5), *(look("once", n, 2 * DAY, c) for n, c in enumerate((0.45, 0.0, 0.05)))]
    vectors.store(tables).upsert(SPACE, [*staff, *others])
    with sessions() as session, session.begin():
        session.add(Site(id="hall", name="Hall"))
        session.add(TrajectoryRow(id="staff", site="hall", start=DAY, at=DAY * DAYS, closed=True, cameras=2, metres=0.0,
                                  state="none", gaps=[], recorded=0, **dict.fromkeys(STATES, 0)))
        session.flush()
        tracks = sorted({one.track: one for one in staff}.values(), key=lambda one: one.at)
        session.add_all(LegRow(trajectory="staff", number=n, site="hall", camera=one.camera, track=one.track,
                               start=one.at, end=one.at, state="none", face="", **dict.fromkeys(STATES, 0))
                        for n, one in enumerate(tracks))


def test_whoever_is_there_every_day_hides_nobody(staffed: None, as_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = as_("reviewer", site="hall")

    def found(**more: Any) -> dict[str, Any]:
        answer = client.post("/v1/search", json={"like": "asked.0", "cameras": ["door", "ward"], **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    newest = found(order="newest")
    assert [(m["visitor"], m["looks"]) for m in newest["matches"]] == [
        ("masked", 1), ("staff", DAYS * TRACKS * LOOKS), ("bare", 1)]
    assert (newest["complete"], newest["reason"]) == (True, "")
    staff = newest["matches"][1]
    assert (staff["since"], staff["until"], sorted(staff["cameras"]), len(staff["tracks"])) == (
        DAY, DAYS * DAY + (TRACKS - 1) * SECOND, ["door", "ward"], DAYS * TRACKS)
    assert [m["visitor"] for m in found()["matches"]] == ["staff", "bare", "masked"]
    # each visitor is judged by all of their looks, also by those that are not alike
    assert [m["visitor"] for m in found(least=0, limit=100)["matches"]] == ["staff", "bare", "masked", "once"]
    # more than are looked at: it says so, and a narrower question is answered whole
    monkeypatch.setattr(search, "PAGES", (100, 500))
    short = found()
    assert (short["complete"], short["most"]) == (False, 500)
    assert short["reason"].startswith("more than 500 looks without a mask are as alike as was asked for")
    assert {m["visitor"] for m in short["matches"]} == {"staff", "masked"}
    whole = found(until=10 * DAY)
    assert (whole["complete"], {m["visitor"] for m in whole["matches"]}) == (True, {"staff", "bare"})


def test_the_likeliest_are_told_however_many_wait_to_be_judged(tables: Settings, sessions: sessionmaker[Session],
                                                               as_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged a few at a time, the answer is that of judging all at once."""
    with sessions() as session, session.begin():
        session.add(Site(id="hall", name="Hall"))
    random = np.random.default_rng(3)
    looks = [look(f"v{i}", n, DAY + i * SECOND, c, masked=bool(i % 2))
             for i in range(60) for n, c in enumerate(random.uniform(0.1, 0.9, random.integers(1, 5)))]
    vectors.store(tables).upsert(SPACE, [look("asked", 0, DAY, 1.0, "lab"), *looks])
    client = as_("reviewer", site="hall")
    for order in ("chance", "newest"):
        asked = {"like": "asked.0", "cameras": ["door"], "order": order}
        whole = client.post("/v1/search", json={**asked, "limit": 100}).json()["matches"]
        assert 10 < len(whole) < 60
        monkeypatch.setattr(search, "JUDGED", 3)
        assert client.post("/v1/search", json={**asked, "limit": 7}).json()["matches"] == whole[:7]
        monkeypatch.undo()
