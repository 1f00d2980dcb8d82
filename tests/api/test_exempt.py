"""Whom a rule spares: decided alike in whatever order the topics are folded, taken back when it was not them."""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import enrolled
import msgspec
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import alerts, exempt, materialiser
from api.db import now
from api.folds import Context, Told
from api.tables import FOLDS
from api.tables.alerts import Alert, AlertRule
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeRow
from api.tables.people import Decision, PersonRow
from api.tables.recognised import Recognised, forget
from api.tables.trajectories import TrajectoryRow
from pipeline.flow import Record
from pipeline.messages import Rule
from pipeline.settings import Settings

S = 1_000_000
NOW = time.time_ns() // 1000 - 30 * S


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """The tables alone."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning")


@pytest.fixture(scope="module")
def walked() -> list[Record]:
    return enrolled.walk(NOW, "surgeon")


def fold(sessions: sessionmaker[Session], settings: Settings, records: Iterable[Record], *topics: str) -> None:
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for record in records:
        if record.topic in topics:
            told[record.topic].append(Told(record.key, record.message, record.topic, 0, len(told[record.topic]), NOW))
    context = Context(settings)
    for topic in topics:
        for fold_ in FOLDS:
            if fold_.topic == topic and fold_.name != "vectors":
                with sessions() as session, session.begin():
                    assert materialiser.fold(session, context, topic, told[topic], only=fold_) == []
    context.done()


def spared(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(EpisodeRow.exempt).order_by(EpisodeRow.id)))


def test_in_any_order_the_same_is_decided(tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
                                          ) -> None:
    enrolled.enrol(sessions, walked, ["surgeon"])
    for order in itertools.permutations(("faces.embedded", "trajectories", "episodes")):
        for _ in range(2):  # and again, which changes nothing
            fold(sessions, tables, walked, *order)
        assert set(spared(sessions)) == {"surgeon"}, order
        with sessions() as session, session.begin():
            if order[0] == "episodes":  # one topic anew, as `maskwatch rebuild` does it
                for name in ("recognised", "episodes", "trajectories"):
                    fold_ = next(each for each in FOLDS if each.name == name)
                    fold_.clear(session, Context(tables), 0)
                    if name == "recognised":
                        session.flush()
                        assert set(session.scalars(select(EpisodeRow.exempt))) == {""}
            for table in (EpisodeRow, Recognised, TrajectoryRow):
                session.execute(delete(table))


def test_only_whom_the_rule_names_and_who_was_recognised(tables: Settings, sessions: sessionmaker[Session],
                                                         walked: list[Record]) -> None:
    topics = ("faces.embedded", "trajectories", "episodes")
    fold(sessions, tables, walked, *topics)
    assert set(spared(sessions)) == {""}  # nobody is enrolled
    with sessions() as session, session.begin():
        session.execute(delete(Recognised))
    person = enrolled.enrol(sessions, walked, ["nurse"])
    fold(sessions, tables, walked, *topics)
    with sessions() as session, session.begin():
        assert {row.sure for row in session.scalars(select(Recognised))} == {True}
        forget(session, person)
    assert set(spared(sessions)) == {""}  # recognised, with another role


def test_what_people_decide_and_consent_count_at_once(tables: Settings, sessions: sessionmaker[Session],
                                                      walked: list[Record]) -> None:
    person = enrolled.enrol(sessions, walked, ["surgeon"])
    fold(sessions, tables, walked, "trajectories", "episodes", "faces.embedded")
    with sessions() as session, session.begin():
        visitor = session.scalars(select(EpisodeRow.person)).first()
        word = Decision(by="u", kind="not", site="hall", subject=visitor, object=person, tracks=[])
        session.add(word)
        session.flush()
        exempt.of_tracks(session, {visitor})
    assert set(spared(sessions)) == {""}
    with sessions() as session, session.begin():
        session.get_one(Decision, word.id).undone = now()
        session.flush()
        exempt.of_tracks(session, {visitor})
    assert set(spared(sessions)) == {"surgeon"}
    with sessions() as session, session.begin():
        forget(session, person)
    assert set(spared(sessions)) == {""}


def test_no_alert_and_no_breach(tables: Settings, sessions: sessionmaker[Session], walked: list[Record]) -> None:
    enrolled.enrol(sessions, walked, ["surgeon"])
    with sessions() as session, session.begin():
        session.add(AlertRule(kind="episode", name="all", since=now().replace(year=2020), cameras=[], zones=[],
                              states=[], lists=[], seconds=0.0, hours=[], timezone="UTC", cooldown=0.0,
                              cooldown_by="camera", steps=[{"after": 0, "channels": ["1" * 32]}], tell_end=True,
                              latest=3600.0))
    fold(sessions, tables, walked, "trajectories", "episodes")
    with sessions() as session, session.begin():
        begun = min(session.scalars(select(EpisodeRow.start)))
        assert alerts.judge(session, begun + 9 * S) == 0  # somebody may be recognised yet
    fold(sessions, tables, walked, "faces.embedded")
    with sessions() as session, session.begin():
        assert alerts.judge(session, begun + 60 * S) == 0
        assert session.scalars(select(Alert)).all() == []
        # recognised later than that: the alert was told, and goes no further
        row = session.scalars(select(EpisodeRow).order_by(EpisodeRow.start)).first()
        row.exempt = ""
        session.flush()
        assert alerts.judge(session, begun + 60 * S) >= 1
        row.exempt = "surgeon"
        session.flush()
        alerts.judge(session, begun + 61 * S)
        alert = session.get_one(Alert, row.id)
        assert (alert.state, alert.because, alert.next) == ("exempt", "surgeon", None)
        assert alert.ended
        assert session.scalars(select(Delivery.what).order_by(Delivery.number)).all() == ["alert", "end"]
        assert alerts.judge(session, begun + 62 * S) == 0


def test_lists_leave_them_out_unless_asked(tables: Settings, sessions: sessionmaker[Session], walked: list[Record],
                                           as_: Any) -> None:
    enrolled.enrol(sessions, walked, ["surgeon"])
    fold(sessions, tables, walked, "trajectories", "episodes", "faces.embedded")
    viewer = as_("viewer", site="hall")
    assert viewer.get("/v1/episodes").json()["items"] == []
    (shown,) = {each["exempt"] for each in viewer.get("/v1/episodes?exempt=only").json()["items"]}
    assert shown == "surgeon"
    assert len(viewer.get("/v1/episodes?exempt=all").json()["items"]) == len(spared(sessions))
    assert viewer.get("/v1/episodes?exempt=some").status_code == 422


def test_a_rule_for_some_roles_is_broken_by_whoever_is_recognised_with_one_of_them(
        tables: Settings, sessions: sessionmaker[Session], as_: Any) -> None:
    nurses = enrolled.walk(NOW, rule=Rule("gowns", roles=("nurse", "cook")))
    topics = ("trajectories", "episodes", "faces.embedded")
    with sessions() as session, session.begin():
        session.add(AlertRule(kind="episode", name="all", since=now().replace(year=2020), cameras=[], zones=[],
                              states=[], lists=[], seconds=0.0, hours=[], timezone="UTC", cooldown=0.0,
                              cooldown_by="camera", steps=[{"after": 0, "channels": ["1" * 32]}], tell_end=False,
                              latest=3600.0))
    person = enrolled.enrol(sessions, nurses, ["surgeon"])
    viewer = as_("viewer", site="hall")
    with closing(psycopg.connect(tables.database.get_secret_value().replace("+psycopg", ""), autocommit=True)) as ears:
        ears.execute("listen maskwatch")

        def heard() -> set[tuple[str, str]]:
            """Id and kind of what was told of episodes until now."""
            ears.execute("""notify maskwatch, '{"kind": "until now"}'""")
            found = set()
            for note in ears.notifies(timeout=20):
                told = json.loads(note.payload)
                if told["kind"] == "until now":
                    return found
                found |= {(told["data"]["id"], told["kind"])} if told["kind"].startswith("episode") else set()
            raise AssertionError("expected to hear of it within 20 s")

        fold(sessions, tables, nurses, *topics)
        assert set(spared(sessions)) == {"rule is for nurse, cook"}  # recognised, with another role
        assert heard() == set()  # nobody has to know
        with sessions() as session, session.begin():
            assert alerts.judge(session, NOW + 60 * S) == 0
        assert viewer.get("/v1/episodes").json()["items"] == []
        (shown,) = {tuple(one["only_for"]) for one in viewer.get("/v1/episodes?exempt=only").json()["items"]}
        assert shown == ("nurse", "cook")
        # the same of somebody who turns out to be a nurse: a breach from then on, and its alert
        with sessions() as session, session.begin():
            forget(session, person)
            session.execute(delete(PersonRow))
            session.execute(update(EpisodeRow).values(status="open"))
        person = enrolled.enrol(sessions, nurses, ["nurse"])
        fold(sessions, tables, nurses, "faces.embedded")
        assert set(spared(sessions)) == {""}
        with sessions() as session, session.begin():
            ids = set(session.scalars(select(EpisodeRow.id)))
            assert heard() == {(id, "episode.opened") for id in ids}
            assert alerts.judge(session, NOW + 60 * S) == len(ids) > 0
            assert set(session.scalars(select(Alert.id))) == ids
    assert {tuple(one["only_for"]) for one in viewer.get("/v1/episodes").json()["items"]} == {()}
    # and it was not them after all
    with sessions() as session, session.begin():
        forget(session, person)
    assert set(spared(sessions)) == {"rule is for nurse, cook"}


def test_what_everybody_breaks_is_a_breach_again(tables: Settings, sessions: sessionmaker[Session]) -> None:
    """The stream tells of the same episode by a rule for everybody from some look on."""
    nurses = [each.message for each in enrolled.walk(NOW, rule=Rule("gowns", roles=("nurse",)))
              if each.topic == "episodes"]
    first, last = nurses[0], msgspec.structs.replace(nurses[0], at=nurses[0].at + S, rule="ward", roles=())
    for message, why in ((first, "rule is for nurse"), (last, "")):
        fold(sessions, tables, [Record("episodes", "hall", message)], "episodes")
        assert spared(sessions) == [why]
