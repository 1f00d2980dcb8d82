"""Who wore what, minute by minute: counted once whatever comes twice, late or in other batches; and told truthfully."""

from __future__ import annotations

import csv
import io
import random
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from api import patrol, ranges
from api.folds import Context, Told
from api.problems import Problem
from api.routes.compliance import safe
from api.tables.cameras import CameraRow
from api.tables.compliance import FOLDS, Gap, Minute
from pipeline.messages import Camera, Face, Faces, Policy, Rule, Source, State
from pipeline.settings import Settings

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
START = 1_700_000_040_000_000 - 1_700_000_040_000_000 % MINUTE  # µs, a whole minute
(COMPLIANCE,) = FOLDS


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """A database with every table; what is asked here needs no broker."""
    return Settings(data=tmp_path / "data", kafka="127.0.0.1:9", database=SecretStr(database), log="warning")


def faces(seconds: float, *people: tuple[str, State], camera: str = "gate", zone: str = "", site: str = "hall",
          **more: Any) -> Faces:
    """`people`: name of the track and its state by then."""
    at = START + round(seconds * SECOND)
    return Faces(camera, at, f"{camera}@{at}", site, faces=tuple(
        Face(f"{camera}@{at}#{i}", (0.0, 0.0, 50.0, 50.0), 0.9, (), state, 0.9, name, state, 0.9, 0.5, zone=zone)
        for i, (name, state) in enumerate(people)), **more)


def walk(name: str, begin: float, end: float, state: State, **more: Any) -> list[Faces]:
    """Two looks a second, and an empty picture at the end that says that they are gone."""
    steps = [begin + i / 2 for i in range(int((end - begin) * 2) + 1)]
    return [*(faces(s, (name, state), **more) for s in steps), faces(end + 0.5, gone=(name,), **more)]


def fold(sessions: sessionmaker[Session], settings: Settings, messages: Iterable[Faces], size: int = 10_000) -> None:
    told = [Told(m.camera, m, "faces", 0, i, m.at) for i, m in enumerate(messages)]
    for begin in range(0, len(told), size):
        with sessions() as session, session.begin():
            COMPLIANCE.fold(session, Context(settings), told[begin:begin + size])


def dump(sessions: sessionmaker[Session]) -> list[list[Any]]:
    with sessions() as session:
        return [sorted(map(tuple, session.execute(text(f"select * from {table}"))))
                for table in ("compliance", "compliance_gaps", "compliance_states")]


def minutes(sessions: sessionmaker[Session], zone: str = "") -> dict[int, Minute]:
    with sessions() as session:
        rows = session.scalars(select(Minute).where(Minute.zone == zone))
        return {(row.minute - START) // MINUTE: row for row in rows}


def test_a_clock_that_ran_ahead_and_was_put_right_does_not_keep_a_camera_from_counting(
    sessions: sessionmaker[Session], tables: Settings
) -> None:
    fold(sessions, tables, walk("a", 86_400, 86_410, "worn"))
    fold(sessions, tables, [*walk("b", 1, 11, "none"), *(faces(12 + i) for i in range(3))])
    found = minutes(sessions)
    assert (found[0].none, found[0].people_none, found[1440].people_worn) == (10 * SECOND, 1, 1)


def test_a_minute_says_who_was_there_how_long_and_who_came(sessions: sessionmaker[Session], tables: Settings) -> None:
    fold(sessions, tables, [
        *walk("a", 1, 11, "worn"), *walk("b", 20, 30, "none"),
        faces(40, ("c", "unknown")), faces(40.5, gone=("c",)),  # one look: nobody can say
        *(faces(41 + i) for i in range(17)),
        *walk("d", 58, 64, "incorrect"), *(faces(65 + i) for i in range(3)),
    ])
    found = minutes(sessions)
    first, second = found[0], found[1]
    assert (first.worn, first.none, first.unknown) == (10 * SECOND, 10 * SECOND, 0)
    assert (first.people_worn, first.people_none, first.people_unknown, first.people_incorrect) == (1, 1, 1, 1)
    assert (first.came_incorrect, second.came_incorrect) == (1, 0)  # came in the first, was there in both
    assert (first.incorrect, second.incorrect, second.people_incorrect) == (2 * SECOND, 4 * SECOND, 1)
    assert first.looked == 59 * SECOND - 18_000_000 + 1 * SECOND - SECOND  # less two stretches in which nothing came
    with sessions() as session:
        assert [(g.start - START, g.end - START, g.why) for g in session.scalars(select(Gap).order_by(Gap.start))] == [
            (11_500_000, 20 * SECOND, "silent"), (30_500_000, 40 * SECOND, "silent")]


def test_somebody_who_puts_a_mask_on_counts_once_under_what_lasted_longer(sessions: sessionmaker[Session],
                                                                         tables: Settings) -> None:
    bare = [faces(i / 2, ("a", "none")) for i in range(10)]
    masked = [faces(i / 2, ("a", "worn")) for i in range(10, 160)]
    fold(sessions, tables, bare)
    assert (minutes(sessions)[0].came_none, minutes(sessions)[0].came_worn) == (1, 0)
    fold(sessions, tables, masked, 7)
    found = minutes(sessions)
    assert [(m.came_none, m.came_worn, m.people_none, m.people_worn) for m in found.values()] == [
        (0, 1, 0, 1), (0, 0, 0, 1)]
    assert found[0].none == 5 * SECOND


def test_the_same_again_late_and_from_a_phone_change_nothing_and_batches_do_not_matter(
        sessions: sessionmaker[Session], tables: Settings) -> None:
    messages = [*walk("a", 1, 11, "worn"), faces(12, ended=True), *walk("b", 50, 70, "none", zone="door"),
                *walk("c", 71, 75, "worn", camera="dock")]
    fold(sessions, tables, messages)
    once = dump(sessions)
    assert all(once)
    late = faces(3, ("", "none"))
    photo = faces(99, ("x", "none"), camera="round-1", source="inspection")
    fold(sessions, tables, [*messages[5:20], late, photo, *messages], 3)
    assert dump(sessions) == once
    with sessions() as session, session.begin():
        COMPLIANCE.clear(session, Context(tables), 0)
    assert dump(sessions) == [[], [], []]
    rng, doubled = random.Random(5), list[Faces]()
    for index, message in enumerate(messages):
        doubled += [message] if rng.random() < 0.8 else messages[max(0, index - 5):index + 1]
    fold(sessions, tables, doubled, 4)
    assert dump(sessions) == once


def test_of_a_rebuild_from_part_of_the_topic_the_whole_minutes_are_made_anew(sessions: sessionmaker[Session],
                                                                            tables: Settings) -> None:
    messages = [*walk("a", 1, 100, "worn"), *walk("b", 110, 200, "none"), *(faces(201 + i) for i in range(50))]
    fold(sessions, tables, messages)
    before = dump(sessions)
    kept = [m for m in messages if m.at >= START + 70 * SECOND]
    with sessions() as session, session.begin():
        session.execute(text("update compliance set worn = 1, people_worn = 9 where minute >= :since"),
                        {"since": START + 2 * MINUTE})
        COMPLIANCE.clear(session, Context(tables), kept[0].at)
        COMPLIANCE.fold(session, Context(tables), [Told(m.camera, m, "faces", 0, 0, m.at) for m in kept])
    assert dump(sessions)[:2] == before[:2]
    fold(sessions, tables, [faces(252), faces(300)])
    assert minutes(sessions)[4].looked == 12 * SECOND


def test_where_nothing_is_required_nobody_counts_for_or_against(sessions: sessionmaker[Session], tables: Settings,
                                                                as_: Any) -> None:
    policy = Policy("v1", rules=(Rule("canteen", zone="tables", required="nothing"),))
    fold(sessions, tables, [
        *walk("a", 1, 5, "none", zone="tables", policy=policy), *walk("b", 7, 11, "worn", zone="door", policy=policy)])
    whole, tables_, door = minutes(sessions)[0], minutes(sessions, "tables")[0], minutes(sessions, "door")[0]
    assert (whole.exempt, whole.none, whole.came_exempt, whole.came_worn) == (4 * SECOND, 0, 1, 1)
    assert (tables_.people_exempt, door.people_worn, door.people_exempt) == (1, 1, 0)
    (zones,) = [s for s in get(as_("viewer"), by="zone") if s["zone"] == "tables"]
    assert (zones["camera"], zones["total"]["rate"], zones["total"]["people"]["exempt"]) == ("gate", None, 1)


# -- asked for -------------------------------------------------------------------------------------------------------


def get(client: Any, path: str = "", **query: Any) -> Any:
    answer = client.get(f"/v1/compliance{path}", params={"since": START, "until": START + HOUR, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def shown(sessions: sessionmaker[Session], tables: Settings) -> None:
    """Ten at the gate, nine of them masked, with a gap of 99.5 s; two at the dock of another site, both bare."""
    gate = [m for i in range(10) for m in walk(f"g{i}", i * 12, i * 12 + 10, "none" if i == 3 else "worn")]
    fold(sessions, tables, [
        *gate[:-1], faces(120), *walk("late", 219.5, 221, "worn"),
        *walk("d0", 1, 9, "none", camera="dock", site="yard"), *walk("d1", 11, 19, "none", camera="dock", site="yard")])


def test_rates_with_their_interval_and_what_was_not_seen(shown: None, as_: Any) -> None:
    viewer = as_("viewer")
    (all_,) = get(viewer, bucket="all")
    total = all_["total"]
    assert (total["people"]["worn"], total["people"]["none"]) == (10, 3)
    assert total["rate"] == pytest.approx(10 / 13, abs=1e-4)
    assert (total["low"], total["high"]) == pytest.approx((0.497, 0.918), abs=1e-3)
    assert total["blind"] == pytest.approx(99.5 , abs=3.1)
    by_site = {s["site"]: s for s in get(viewer, bucket="minute", by="site")}
    assert list(by_site) == ["hall", "yard"]
    assert [b["start"] for b in by_site["hall"]["buckets"]] == [START + i * MINUTE for i in range(4)]
    assert by_site["hall"]["buckets"][2]["numbers"]["blind"] == 60.0
    assert by_site["yard"]["total"]["rate"] == 0.0
    worst = get(viewer, "/ranking")
    assert [r["camera"] for r in worst] == ["dock", "gate"]
    assert worst[0]["change"] is None
    assert [r["camera"] for r in get(viewer, "/ranking", order="blind")] == ["gate", "dock"]
    trend = get(viewer, "/trend", since=START + MINUTE, until=START + 2 * MINUTE, camera="gate")
    assert (trend["before"]["people"]["none"], trend["now"]["people"]["none"]) == (1, 0)
    assert trend["change_low"] < 0 < trend["change"] < trend["change_high"]
    gaps = get(viewer, "/gaps")["items"]
    assert [(g["camera"], g["why"]) for g in gaps] == [("gate", "silent")]


def test_one_sees_the_figures_of_ones_own_cameras_and_sites(shown: None, as_: Any, app: Any) -> None:
    yard, nobody = as_("viewer", site="yard"), as_("viewer", site="roof")
    gate = as_("viewer", site="hall", camera="gate")
    assert [s["camera"] for s in get(yard, by="camera")] == ["dock"]
    assert [s["camera"] for s in get(gate, by="camera")] == ["gate"]
    assert [r["camera"] for r in get(gate, "/ranking")] == ["gate"]
    assert get(yard, "/gaps")["items"] == []
    assert [n["id"] for n in get(yard, "/now")] == ["dock"]
    (nothing,) = get(nobody)
    assert (nothing["total"]["people"]["worn"], nothing["total"]["rate"], nothing["buckets"]) == (0, None, [])
    assert yard.get("/v1/compliance/export", params={"since": 0, "until": 9}).status_code == 403
    assert app.get("/v1/compliance/now").status_code == 401


def test_a_camera_that_should_look_and_does_not_is_blind(shown: None, as_: Any, sessions: sessionmaker[Session]
                                                         ) -> None:
    wish = Camera("gate", (Source("rtsp://10.0.0.9/1"),), site="hall")
    with sessions() as session, session.begin():
        session.add(CameraRow(id="gate", site="hall", name="Gate", wish=msgspec.to_builtins(wish), running=True,
                              offset=0))
    hour = next(s for s in get(as_("viewer"), by="camera") if s["camera"] == "gate")
    assert hour["total"]["blind"] + hour["total"]["looked"] == pytest.approx(3600, abs=0.1)


def test_as_a_file_for_a_spreadsheet(shown: None, as_: Any, sessions: sessionmaker[Session]) -> None:
    wish = Camera("dock", (Source("rtsp://10.0.0.9/1"),), site="yard")
    with sessions() as session, session.begin():
        session.add(CameraRow(id="dock", site="yard", name="=cmd|'/C calc'!A0", wish=msgspec.to_builtins(wish),
                              running=False, offset=0))
    answer = as_("manager").get("/v1/compliance/export", params={
        "since": START, "until": START + 300 * MINUTE, "bucket": "minute", "bom": True, "tz": "Asia/Shanghai"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbfstart,end,site,camera")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    dock = next(row for row in rows if row["camera"] == "dock")
    assert (dock["name"], dock["people_none"], dock["rate"]) == ("'=cmd|'/C calc'!A0", "2", "0.0")
    assert dock["start"].endswith("+08:00")
    assert {row["camera"] for row in rows} == {"dock", "gate"}
    assert [safe(t) for t in ("+1", "@x", "-1", "\t=1", "a=1", "")] == ["'+1", "'@x", "'-1", "'\t=1", "a=1", ""]


def test_what_cannot_be_asked_for_is_refused(as_: Any) -> None:
    viewer = as_("viewer")
    for wrong in ({"since": 5, "until": 5}, {"tz": "Mars/Olympus"}, {"tz": "../etc"}, {"since": 1 << 70},
                  {"bucket": "year"}, {"zone": "a\x00"}, {"camera": "A B"},
                  {"since": 0, "until": 10**15, "bucket": "minute"}):
        answer = viewer.get("/v1/compliance", params={"since": START, "until": START + HOUR, **wrong})
        assert answer.status_code == 422, (wrong, answer.text)


def test_listeners_are_told_once_a_second_at_most(sessions: sessionmaker[Session], tables: Settings) -> None:
    url = tables.database.get_secret_value().replace("+psycopg", "")
    offset = time.time() - START / SECOND
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute("listen maskwatch")
        COMPLIANCE.told.clear()
        fold(sessions, tables, [faces(offset - 3 + i / 10, ("a", "worn"), ("b", "none")) for i in range(20)], 5)
        fold(sessions, tables, [faces(offset - 2000, ("a", "worn"), camera="old")])
        notes = [msgspec.json.decode(n.payload) for n in listener.notifies(timeout=0.3)]
    assert [(n["kind"], n["camera"], n["needs"], n["data"]["people"]["none"]) for n in notes] == [
        ("counts", "gate", "compliance.view", 1)]


# -- hours, days and shares ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "day", "hours"), [
    ("Europe/Berlin", "2026-03-29", 23), ("Europe/Berlin", "2026-10-25", 25), ("Asia/Kolkata", "2026-05-01", 24),
    ("Asia/Shanghai", "2026-05-01", 24)])  # fmt: skip
def test_a_day_is_as_long_as_the_wall_clock_says(zone: str, day: str, hours: int) -> None:
    where = ZoneInfo(zone)
    begin = round(datetime.fromisoformat(day).replace(tzinfo=where).timestamp()) * SECOND
    first, second = ranges.edges(begin, begin + 30 * HOUR, "day", where)[:2]
    assert (second - first) // HOUR == hours
    assert len(ranges.edges(begin, second, "hour", where)) == hours + 1
    assert ranges.edges(begin + 5, second, "all", where) == [begin + 5, second]
    week = ranges.edges(begin, begin + 20 * 24 * HOUR, "week", where)
    assert all(datetime.fromtimestamp(w / SECOND, where).isoweekday() == 1 for w in week[1:-1])


def test_intervals_are_those_of_the_books() -> None:
    assert ranges.wilson(0, 0) is None
    assert ranges.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert ranges.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert ranges.difference(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)  # table II, (a)


def test_too_many_buckets_are_refused() -> None:
    with pytest.raises(Problem, match="at most 1500"):
        ranges.edges(0, 2000 * MINUTE, "minute", ZoneInfo("UTC"))


def test_who_is_there_now(shown: None, as_: Any) -> None:
    now = get(as_("viewer"), "/now")
    assert [(n["id"], n["looking"], n["people"]["worn"]) for n in now] == [("dock", False, 0), ("gate", False, 0)]


def test_a_round_is_told_of_a_camera_what_it_saw_at_that_site_alone(sessions: sessionmaker[Session], tables: Settings
                                                                    ) -> None:
    fold(sessions, tables, walk("a", 1, 9, "none"))
    with sessions() as session:
        for site, came in (("hall", 1), ("yard", 0)):  # it was moved there since
            told = patrol._passed(session, CameraRow(id="gate", site=site, name=""), [(START + SECOND, 2.0)])
            assert (told.came["none"], told.looked > 0) == (came, bool(came))
