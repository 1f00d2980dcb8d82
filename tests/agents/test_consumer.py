"""Anybody's Kafka client reads the result topics by the published schemas alone, without our code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from agents import broker
from pipeline import contract, topics
from pipeline.messages import Episode, Faces, Trajectory, decode
from pipeline.settings import Settings

ROOT = topics.FILE.parent
RECORDED = ROOT / "tests" / "data" / "messages"
RESULTS = ("faces", "trajectories", "episodes")
ROUNDS = 20

# Runs a program as a stranger would: nothing of the checkout on its path, and not one of our modules loaded at its end.
STRANGER = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    ours = {"pipeline", "agents", "models", "api", "cli", "infra"} & {name.split(".")[0] for name in sys.modules}
    assert not ours, f"expected none of our code, got {ours}"
"""


def stranger(tmp_path: Path, program: str, *words: str, lines: bytes | None = None) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(ROOT / "examples" / program), *words],
        cwd=tmp_path,
        input=lines,
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.returncode, done.stdout.decode().splitlines()


def schema(name: str) -> str:
    return str(ROOT / contract.FOLDER / f"{contract.slug(topics.find(name).message.__name__)}.schema.json")


def results() -> dict[str, list[msgspec.Struct]]:
    """Messages as the stages make them: the recorded ones over and over, and the barest that the classes allow."""
    faces = decode((RECORDED / "faces.v1.json").read_bytes(), Faces)
    route = decode((RECORDED / "trajectory.v1.json").read_bytes(), Trajectory)
    episode = decode((RECORDED / "episode.v1.json").read_bytes(), Episode)
    change = msgspec.structs.replace
    made: dict[str, list[msgspec.Struct]] = {name: [] for name in RESULTS}
    for number in range(ROUNDS):
        at = faces.at + number * 200_000
        made["faces"] += [
            change(faces, at=at, frame=f"{faces.camera}@{at}"),
            Faces("gate", at, f"gate@{at}", "clinic", ended=number == ROUNDS - 1),
        ]
        made["trajectories"].append(change(route, at=at, closed=number == ROUNDS - 1))
        made["episodes"] += [
            change(episode, id=f"{episode.id}{number}", status="open", reason="", at=at - 1, evidence=()),
            change(episode, id=f"{episode.id}{number}", at=at),
        ]
    return made


@pytest.fixture
def filled(topics: Settings) -> Settings:
    from pipeline.topics import find

    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        for name, messages in results().items():
            topic = find(name)
            for message in messages:
                producer.send(broker.topic(topics, name), topic.encode(message), key=topic.key_of(message))
        producer.flush()
    return topics


@pytest.mark.parametrize("name", RESULTS)
def test_a_plain_kafka_client_finds_every_record_as_the_schema_says(filled: Settings, tmp_path: Path, name: str):
    topic = broker.topic(filled, name)
    code, said = stranger(tmp_path, "check_records.py", schema(name), "--kafka", filled.kafka, "--topic", topic)
    told = topics.find(name)
    urn = f"urn:maskwatch:{contract.slug(told.message.__name__)}:{told.version}"
    assert (code, said) == (0, [f"{len(results()[name])} records, 0 do not fit {urn}"])


@pytest.mark.skipif(shutil.which("kcat") is None, reason="Debian's kcat is not installed")
@pytest.mark.parametrize("name", RESULTS)
def test_kcat_prints_one_json_object_a_line(filled: Settings, tmp_path: Path, name: str):
    topic = broker.topic(filled, name)
    printed = subprocess.run(
        ["kcat", "-C", "-b", filled.kafka, "-t", topic, "-o", "beginning", "-e", "-q"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    code, said = stranger(tmp_path, "check_records.py", schema(name), lines=printed)
    assert (code, said[-1].split(",")[0]) == (0, f"{len(results()[name])} records")

    # the key says where a record belongs, and the value says the same
    keyed = subprocess.run(
        ["kcat", "-C", "-b", filled.kafka, "-t", topic, "-o", "beginning", "-e", "-q", "-J"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    envelopes = [json.loads(line) for line in keyed.splitlines()]
    field = topics.find(name).key
    assert [envelope["key"] for envelope in envelopes] == [
        json.loads(envelope["payload"])[field] for envelope in envelopes
    ]


def test_a_record_that_does_not_fit_is_named(tmp_path: Path):
    good = (RECORDED / "episode.v1.json").read_bytes()
    bad = json.dumps(json.loads(good) | {"state": "worn"}).encode()
    code, said = stranger(tmp_path, "check_records.py", schema("episodes"), lines=b"\n".join([good, bad, b"{]", good]))
    assert code == 1
    assert said == [
        "line 2: $.state: 'worn' is not one of ['incorrect', 'none']",
        "line 3: expected JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "4 records, 2 do not fit urn:maskwatch:episode:2",
    ]


def test_the_episodes_example_tells_each_opening_and_closing_once(filled: Settings, tmp_path: Path):
    code, said = stranger(
        tmp_path,
        "consume_episodes.py",
        *("--kafka", filled.kafka, "--topic", broker.topic(filled, "episodes"), "--idle", "2"),
    )
    assert code == 0
    assert len(said) == 2 * ROUNDS
    assert said[:2] == [
        "2026-11-23 14:29:59  open    mask none  clinic: entrance -> ward-2-door, 32 s, 58 looks",
        "2026-11-23 14:30:00  closed  mask none  clinic: entrance -> ward-2-door, 32 s, 58 looks (mask on)",
    ]
