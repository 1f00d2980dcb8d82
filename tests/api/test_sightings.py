"""Sightings, kept faces and routes out of a rendered visit: folded once, shown to whom they may be shown."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import scenes
from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from api import pictures
from api.folds import Context, Fold, Told
from api.tables import sightings, trajectories
from api.tables.audit import Audit
from api.tables.cameras import Calibration, CameraRow, columns
from api.tables.sightings import FaceRow, Sighting
from api.tables.sites import Site
from api.tables.trajectories import LegRow, TrajectoryRow
from pipeline import plan
from pipeline.flow import Flow
from pipeline.messages import Camera, Source
from pipeline.settings import Settings

FOLDS: list[Fold] = [*sightings.FOLDS, *trajectories.FOLDS]
TABLES = ("sightings", "track_points", "faces", "trajectories", "trajectory_legs")
START = scenes.START


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """A database with every table; what is asked here needs no broker."""
    return Settings(data=tmp_path / "data", kafka="127.0.0.1:9", database=SecretStr(database), log="warning")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Told]]:
    """What the stages say about a visit, by topic."""
    told: defaultdict[str, list[Told]] = defaultdict(list)
    settings = Settings(data=tmp_path_factory.mktemp("data"))
    for record in Flow(settings, scenes.Models()).run(scenes.visit(), fill_known=True):
        at = getattr(record.message, "at", 0)
        told[record.topic].append(Told(record.key, record.message, record.topic, 0, len(told[record.topic]), at))
    return told


def fold(sessions: sessionmaker[Session], settings: Settings, topic: str, told: Sequence[Told], size: int = 10_000
         ) -> None:
    for begin in range(0, len(told), size):
        for each in FOLDS:
            if each.topic == topic:
                with sessions() as session, session.begin():
                    each.fold(session, Context(settings), told[begin:begin + size])


@pytest.fixture
def folded(said: dict[str, list[Told]], sessions: sessionmaker[Session], tables: Settings) -> None:
    for topic in ("faces", "trajectories"):
        fold(sessions, tables, topic, said[topic])


def dump(sessions: sessionmaker[Session]) -> dict[str, list[str]]:
    with sessions() as session:
        return {table: sorted(map(repr, session.execute(text(f"select * from {table}")))) for table in TABLES}


def test_the_same_again_in_other_batches_and_made_anew(said: dict[str, list[Told]], sessions: sessionmaker[Session],
                                                       tables: Settings) -> None:
    for topic in ("faces", "trajectories"):
        fold(sessions, tables, topic, said[topic])
    once = dump(sessions)
    assert [len(once[table]) for table in TABLES] == [3, 16, 15, 2, 3]
    rng = random.Random(3)
    for topic in ("faces", "trajectories"):
        told = said[topic]
        again = [t for i, one in enumerate(told) for t in ([one] if rng.random() < 0.9 else told[max(0, i - 9):i + 1])]
        fold(sessions, tables, topic, again, 6)
        assert dump(sessions) == once
        with sessions() as session, session.begin():
            for each in FOLDS:
                if each.topic == topic:
                    each.clear(session, Context(tables), 0)
        fold(sessions, tables, topic, again, 7)
        assert dump(sessions) == once


def test_of_a_rebuild_from_part_of_the_topic_what_began_before_stays(said: dict[str, list[Told]], tables: Settings,
                                                                     sessions: sessionmaker[Session], folded: None
                                                                     ) -> None:
    before = dump(sessions)
    kept = [told for told in said["faces"] if told.at >= START + 13_000_000]
    with sessions() as session, session.begin():
        session.execute(text("update sightings set looks = 0 where start > :later"), {"later": kept[0].at})
        for each in sightings.FOLDS:
            each.clear(session, Context(tables), kept[0].at)
    fold(sessions, tables, "faces", kept, 20)
    assert dump(sessions) == before


def test_an_anonymous_face_leaves_no_picture_and_a_bad_name_no_file(said: dict[str, list[Told]], tables: Settings,
                                                                    sessions: sessionmaker[Session]) -> None:
    first = next(told for told in said["faces"] if any(face.chip for face in told.message.faces))
    fold(sessions, tables, "faces", [first.of(msgspec.structs.replace(first.message, privacy="anonymous"))])
    assert list(pictures.store(tables).names("faces")) == []
    with pytest.raises(ValueError, match="camera's id"), sessions() as session, session.begin():
        sightings.KeptFaces().fold(session, Context(tables), [
            first.of(msgspec.structs.replace(first.message, camera="../../etc"))])
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(FaceRow)) == 0


def get(client: Any, path: str, **query: Any) -> Any:
    answer = client.get(f"/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_who_was_there_and_their_pictures(folded: None, as_: Any, sessions: sessionmaker[Session], tables: Settings
                                          ) -> None:
    reviewer, other, door = as_("reviewer"), as_("reviewer", site="yard"), as_("reviewer", site="site", camera="door")
    items = get(reviewer, "/sightings")["items"]
    assert [(s["camera"], s["state"], s["open"]) for s in items] == [
        ("door", "worn", False), ("hall", "worn", False), ("door", "none", False)]
    assert items[2]["seconds"]["none"] == pytest.approx(4.6)
    assert [s["camera"] for s in get(reviewer, "/sightings", state="none")["items"]] == ["door"]
    assert [s["camera"] for s in get(door, "/sightings", limit=1)["items"]] == ["door"]
    page = get(reviewer, "/sightings", limit=2)
    assert get(reviewer, "/sightings", limit=2, cursor=page["next"])["items"] == items[2:]
    assert get(other, "/sightings")["items"] == []
    one = get(reviewer, f"/sightings/{quote(items[2]['id'])}")
    assert one["faces"][0]["id"] == one["face"] == items[2]["face"]
    path = f"/v1/faces/{quote(one['face'])}/picture"
    shown = reviewer.get(path)
    with sessions() as session:
        row = session.get_one(FaceRow, one["face"])
        assert shown.content == pictures.store(tables).get(row.picture)
        assert row.picture.startswith("faces/door/2023-11-14/")
        session.expunge_all()
    assert reviewer.get(path, headers={"if-none-match": shown.headers["etag"]}).status_code == 304
    assert (other.get(path).status_code, as_("viewer").get(path).status_code) == (404, 403)
    assert other.get(f"/v1/sightings/{quote(one['id'])}").status_code == 404
    assert reviewer.get("/v1/faces/a%00b/picture").status_code in (404, 422)
    # a wall asks again and again: that is one look an hour; somebody else's is another
    reviewer.get(path)
    with sessions() as session:
        looks = session.scalars(select(Audit).where(Audit.action == "face.look")).all()
        assert [(a.noun, a.site, a.camera) for a in looks] == [(one["face"], "site", "door")]
        looks[0].at -= timedelta(minutes=61)
        session.commit()
    as_("admin").get(path)
    reviewer.get(path)
    with sessions() as session:
        assert session.scalar(select(func.count()).where(Audit.action == "face.look")) == 3


def test_who_went_where(folded: None, as_: Any, sessions: sessionmaker[Session]) -> None:
    reviewer, hall, other = as_("reviewer"), as_("reviewer", site="site", camera="hall"), as_("reviewer", site="yard")
    with sessions() as session:
        route, single = session.scalars(select(TrajectoryRow).order_by(TrajectoryRow.start)).all()
    whole = get(reviewer, f"/trajectories/{quote(route.id)}")
    assert (whole["cameras"], whole["metres"], whole["state"]) == (["door", "hall"], 15.0, "worn")
    assert [gap["after"] for gap in whole["gaps"]] == [0]
    part = get(hall, f"/trajectories/{quote(route.id)}")
    assert (part["cameras"], part["gaps"], part["metres"]) == (["hall"], [], 0.0)
    assert part["start"] == part["legs"][0]["start"] > whole["start"]
    assert hall.get(f"/v1/trajectories/{quote(single.id)}").status_code == 404
    assert other.get(f"/v1/trajectories/{quote(route.id)}").status_code == 404
    assert get(other, "/trajectories")["items"] == []
    assert [t["id"] for t in get(reviewer, "/trajectories")["items"]] == [single.id, route.id]
    assert [t["id"] for t in get(reviewer, "/trajectories", camera="hall")["items"]] == [route.id]
    assert [t["id"] for t in get(hall, "/trajectories")["items"]] == [route.id]
    assert [t["id"] for t in get(reviewer, "/trajectories", state="none", person=single.id)["items"]] == []
    passed = get(reviewer, "/trajectories/passed", camera="door", since=START, until=START + 10_000_000)["items"]
    assert [leg["trajectory"] for leg in passed] == [route.id]
    assert get(hall, "/trajectories/passed", camera="door")["items"] == []
    assert reviewer.get("/v1/trajectories/passed").status_code in (400, 422)


def test_a_route_on_the_plan_and_on_the_map(folded: None, as_: Any, sessions: sessionmaker[Session]) -> None:
    reviewer = as_("reviewer")
    with sessions() as session:
        route = session.scalar(select(LegRow.trajectory).where(LegRow.number == 1))
    shown = get(reviewer, f"/trajectories/{quote(route)}/geojson")
    assert (shown["type"], shown["coordinates"]) == ("FeatureCollection", "plan")
    assert [(f["properties"]["kind"], f["geometry"]) for f in shown["features"]] == [
        ("observed", {"type": "Point", "coordinates": [0.0, 0.0]}),
        ("observed", {"type": "Point", "coordinates": [15.0, 0.0]}),
        ("inferred", {"type": "LineString", "coordinates": [[0.0, 0.0], [15.0, 0.0]]})]
    assert len(get(reviewer, "/trajectories/geojson")["features"]) == 4
    with sessions() as session, session.begin():
        session.merge(Site(id="site", name="site", latitude=31.2, longitude=121.5, bearing=90.0))
    shown = get(reviewer, f"/trajectories/{quote(route)}/geojson")
    assert shown["coordinates"] == "map"
    longitude, latitude = shown["features"][1]["geometry"]["coordinates"]
    assert (longitude, latitude) == pytest.approx((121.5, 31.2 - 15 / 110_870), abs=1e-6)  # plan's east is south


def test_where_in_a_calibrated_view_somebody_walked(folded: None, as_: Any, sessions: sessionmaker[Session]) -> None:
    """The camera at the door is level, its horizon at 0.3 of the picture; who walks there is 2 m away by their face."""
    reviewer, viewer = as_("reviewer"), as_("viewer", site="site")

    def shows(x: float, z: float) -> tuple[float, float]:
        return 0.5 + x / z / 0.8, 0.3 + 3.2 / z

    done = plan.calibrate([(shows(x, z), (x, z)) for x, z in ((-1, 5), (1, 5), (1, 9), (-1, 9))])
    with sessions() as session, session.begin():
        camera = Camera("door", (Source("rtsp://10.0.0.9/1"),), site="site", place=(0.0, 0.0))
        session.add(CameraRow(id="door", **columns(camera, 0)))
        session.add(Calibration(camera="door", pairs=[], matrix=list(done.matrix), residual=0, worst=0))
        route = session.scalar(select(LegRow.trajectory).where(LegRow.number == 1))
    at_door, at_hall = get(reviewer, f"/trajectories/{quote(route)}")["legs"]
    assert at_hall["path"] == []  # nobody has calibrated that one
    path = at_door["path"]
    assert [step["at"] for step in path] == sorted({step["at"] for step in path})
    assert {step["at"] // 1_000_000 for step in path} == {START // 1_000_000 + i for i in range(5)}  # a point a second
    assert all(at_door["start"] <= step["at"] <= at_door["end"] for step in path)
    assert [step["place"][1] for step in path] == pytest.approx([2.0] * 5, abs=0.15)
    # it walks across at 100 of 640 pixels a second: 2 m away, 0.25 m
    steps = [b["place"][0] - a["place"][0] for a, b in pairwise(path)]
    assert steps == pytest.approx([0.25] * 4, abs=0.05)
    passed = get(reviewer, "/trajectories/passed", camera="door", since=START, until=START + 10_000_000)["items"]
    assert passed[0]["path"] == path

    shown = get(reviewer, f"/trajectories/{quote(route)}/geojson")["features"]
    assert [feature["properties"]["kind"] for feature in shown] == ["observed", "walked", "observed", "inferred"]
    walked = shown[1]
    assert walked["geometry"] == {"type": "LineString", "coordinates": [step["place"] for step in path]}
    assert walked["properties"]["times"] == [step["at"] for step in path]
    assert shown[3]["geometry"]["coordinates"] == [path[-1]["place"], [15.0, 0.0]]

    outline = get(viewer, "/cameras/door")["footprint"]
    assert all(north > 0 for _, north in outline)
    assert len(outline) == plan.COLUMNS + 2
    with sessions() as session, session.begin():  # it hangs at another site now: of what it saw here nothing is known
        session.get_one(CameraRow, "door").site = "yard"
    assert get(reviewer, f"/trajectories/{quote(route)}")["legs"][0]["path"] == []


def test_a_newer_message_replaces_a_route_and_an_older_one_does_not(said: dict[str, list[Told]], tables: Settings,
                                                                    sessions: sessionmaker[Session]) -> None:
    told = [t for t in said["trajectories"] if t.message.id.startswith("door@1700000000000000")]
    newest = told[-1]
    closed = newest.of(msgspec.structs.replace(newest.message, closed=True))
    fold(sessions, tables, "trajectories", [newest])
    fold(sessions, tables, "trajectories", [told[0], closed, newest])
    fold(sessions, tables, "trajectories", [newest, told[0]])
    with sessions() as session:
        row = session.get_one(TrajectoryRow, newest.message.id)
        assert (row.closed, row.at) == (True, newest.message.at)
        assert session.scalar(select(func.count()).select_from(LegRow)) == len(newest.message.legs)


def test_sightings_end_with_the_stream(said: dict[str, list[Told]], tables: Settings, sessions: sessionmaker[Session]
                                       ) -> None:
    during = [told for told in said["faces"] if told.at <= START + 2_000_000]
    fold(sessions, tables, "faces", during)
    with sessions() as session:
        assert session.scalars(select(Sighting.open)).all() == [True]
    end = during[-1].of(msgspec.structs.replace(
        during[-1].message, camera="door", at=START + 2_500_000, faces=(), gone=(), ended=True))
    fold(sessions, tables, "faces", [end, *during])
    with sessions() as session:
        assert session.scalars(select(Sighting.open)).all() == [False]
