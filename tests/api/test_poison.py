"""Messages that no stage of ours would say: each is folded or becomes a dead letter, and the next one is folded."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api import db, materialiser
from api.folds import Context
from api.tables import FOLDS
from pipeline import contract, topics
from pipeline.messages import LATEST
from pipeline.settings import Settings

RECORDED = Path(__file__).parents[1] / "data" / "messages"
FOLDED = sorted({fold.topic for fold in FOLDS})
ODD: list[Any] = [
    0, -1, 1, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, -(1 << 63), 10**23, -(10**23), 0.5, 1e308, -1e308,
    5e-324,
    "", "\0", "x" * 70, "é" * 300, "../../../etc/passwd", "a/b", "Europe", "🦠", "\ud800", "NaN", "x" * 70_000,
    None, True, [], {}, [[0, 0]], {"a": 1},
]  # fmt: skip


class Record(NamedTuple):
    """As kafka-python gives it."""

    offset: int
    value: bytes
    timestamp: int  # ms
    key: bytes = b"gate"


def sample(topic: topics.Topic) -> dict[str, Any]:
    name = contract.slug(topic.message.__name__)
    file = RECORDED / f"{name}.v{topic.version}.json"
    return dict(json.loads(file.read_bytes()))


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in it."""
    if way:
        yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*way, key))


def put(message: dict[str, Any], way: tuple[Any, ...], value: Any) -> None:
    part: Any = message
    try:
        for key in way[:-1]:
            part = part[key]
        part[way[-1]] = value
    except (TypeError, LookupError):
        return  # a change before has taken that part away


@pytest.fixture
def own(database: str, vectors_server: int, tmp_path: Path) -> Settings:
    """What folds need: a database, vectors and a folder; no broker."""
    return Settings(data=tmp_path, kafka="127.0.0.1:9", database=SecretStr(database), vectors_port=vectors_server,
                    topic_prefix="poison.", log="error")


@pytest.fixture
def sessions(own: Settings) -> Iterator[sessionmaker[Session]]:
    engine = db.connect(own)
    yield db.sessions(engine)
    engine.dispose()


def folded(own: Settings, sessions: sessionmaker[Session], topic: topics.Topic, *messages: dict[str, Any]) -> list[str]:
    """Why each was refused; empty: it was not. Nothing stays. The last one is as it should be, and written in time."""
    at = messages[-1].get("at", 0) // 1000
    records = [Record(number, json.dumps(message).encode(), at) for number, message in enumerate(messages)]
    told, letters = materialiser.decoded(own, topic, TopicPartition(topic.name, 0), records)
    with sessions() as session:
        letters += materialiser.fold(session, Context(own), topic.name, told)
        session.rollback()
    refused = {letter.offset: letter.reason for letter in letters}
    return [refused.get(number, "") for number in range(len(messages))]


@pytest.mark.parametrize("name", FOLDED)
def test_a_message_is_folded_or_refused_whatever_is_in_it(name: str, own: Settings, sessions: sessionmaker[Session]
                                                          ) -> None:
    topic = topics.find(name)
    good = sample(topic)
    ways = list(places(good))
    if "privacy" in good:
        good["privacy"] = "enrolled"  # so that nothing of it is left out

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, len(ways) - 1), st.integers(0, len(ODD) - 1)), min_size=1, max_size=3))
    def odd(changes: list[tuple[int, int]]) -> None:
        bad = copy.deepcopy(good)
        for way, value in changes:
            put(bad, ways[way], copy.deepcopy(ODD[value]))
        whys = folded(own, sessions, topic, bad, good)
        assert whys[1] == ""

    odd()


@pytest.mark.parametrize(("name", "changes", "why"), [
    ("faces", {"at": 10**23}, "expected a Faces"),
    ("faces", {"at": LATEST + 1}, "expected a Faces with times of 0 to 9007199254740992 µs UTC, got at"),
    ("faces", {"at": -1}, "got at -1"),
    ("faces", {"at": LATEST}, "expected `at` to be at most 300 s after the record's own time"),
    ("faces.embedded", {"at": 1 << 63}, "expected a Faces"),
    ("faces", {"policy": {"version": "p", "time_zone": "Europe", "rules": [{"hours": [{}]}]}}, "time zone"),
    ("faces", {"camera": "\0"}, "NUL"),
    ("episodes", {"evidence": [{"face": "f", "camera": "gate", "at": 1 << 60, "box": [0, 0, 1, 1], "look": "none",
                                "look_score": 1, "picture": base64.b64encode(b"x").decode()}]}, "got evidence[0].at"),
])  # fmt: skip
def test_what_crashed_it_once_is_refused_in_words(name: str, changes: dict[str, Any], why: str, own: Settings,
                                                 sessions: sessionmaker[Session]) -> None:
    topic = topics.find(name)
    good = sample(topic)
    said, other = folded(own, sessions, topic, good | changes, good)
    assert why in said
    assert other == ""
