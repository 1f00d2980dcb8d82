"""topics.yaml as checked values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline import topics
from pipeline.messages import Camera, DeadLetter, Faces, Frame

GOOD = {
    "name": "frames",
    "message": "Frame",
    "version": 1,
    "format": "msgpack",
    "key": "camera",
    "partitions": 8,
    "retention": "24h",
    "cleanup": "delete",
    "max_bytes": 4194304,
    "writers": ["capture"],
    "readers": ["dedup"],
    "about": "One sampled picture.",
}


def faults(*entries: object) -> list[str]:
    with pytest.raises(topics.BadTopics) as caught:
        topics.parse({"topics": list(entries)})
    return str(caught.value).splitlines()


def test_the_topics_stand_in_the_order_a_frame_travels():
    assert [topic.name for topic in topics.load()] == [
        "frames",
        "frames.unique",
        "faces",
        "faces.embedded",
        "trajectories",
        "episodes",
        "cameras",
        "cameras.status",
        "chat",
        "dead.letters",
    ]


def test_a_topic_knows_its_message_key_and_encoding():
    frames = topics.find("frames")
    frame = Frame(camera="gate", at=7, jpeg=b"\xff\xd8")

    assert (frames.message, frames.retention, frames.readers) == (Frame, 86400, ("dedup", "replay"))
    assert frames.key_of(frame) == b"gate"
    assert frames.decode(frames.encode(frame)) == frame

    embedded = topics.find("faces.embedded")
    assert embedded.key_of(Faces(camera="gate", at=7, frame="gate@7", site="clinic")) == b"clinic"
    assert topics.find("cameras").message is Camera
    assert topics.find("dead.letters").message is DeadLetter


def test_an_unknown_topic_is_answered_with_those_there_are():
    with pytest.raises(KeyError, match=r"no topic 'face'; there are frames, frames\.unique, faces"):
        topics.find("face")


def test_a_replay_has_the_same_topics_under_its_own_name_for_a_week():
    derived = topics.replay("monday-2")

    assert [topic.name for topic in derived] == [f"replay.monday-2.{name}" for name in topics.REPLAYED]
    assert {topic.retention for topic in derived} == {7 * 86400}
    assert {topic.writers for topic in derived} == {("replay",)}
    assert [(topic.message, topic.key, topic.partitions, topic.format) for topic in derived] == [
        (topic.message, topic.key, topic.partitions, topic.format) for topic in map(topics.find, topics.REPLAYED)
    ]
    assert topics.find("replay.monday-2.faces") == derived[1]
    with pytest.raises(ValueError, match="a replay's name is letters"):
        topics.replay("Monday 2")


def test_every_fault_is_listed_at_once_with_what_was_expected_and_what_came():
    assert faults(
        GOOD | {"key": "cam", "retention": "1 day", "readers": ["dedupe"]},
        GOOD | {"name": "faces", "message": "Face", "format": "xml", "partitions": 0},
        GOOD | {"name": "Faces!", "cleanup": "compact"},
        {"name": "episodes", "message": "Episode"},
        "trajectories",
    ) == [
        "topics.yaml: frames.key is 'cam'; Frame has " + ", ".join(Frame.__struct_fields__),
        f"topics.yaml: frames.readers names ['dedupe']; the stages are {', '.join(topics.STAGES)}",
        "topics.yaml: frames.retention is '1 day'; expected a number with s, m, h or d behind it, such as 24h, "
        "or forever",
        "topics.yaml: faces.message is 'Face'; expected one of "
        "Frame, Faces, Trajectory, Episode, Camera, CameraStatus, DeadLetter, ChatMessage",
        "topics.yaml: faces.partitions is 0; expected a whole number from 1",
        "topics.yaml: faces.format is 'xml'; expected one of json, msgpack",
        "topics.yaml: Faces!.name is 'Faces!'; expected words of a-z and 0-9 with dots between them",
        "topics.yaml: Faces!.retention is 86400 s with cleanup compact; expected forever: keys are replaced",
        "topics.yaml: episodes has no version, format, key, partitions, retention, cleanup, max_bytes, "
        "writers, readers, about",
        "topics.yaml: topic 5 is 'trajectories'; expected a mapping with " + ", ".join(topics.FIELDS),
    ]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (GOOD | {"colour": 1}, "frames has 'colour'; expected only name, message,"),
        (GOOD | {"name": "replay.x"}, "replay.x.name is 'replay.x'; expected another name: replay.<run>.* is derived"),
        (GOOD | {"version": True}, "frames.version is True; expected a whole number from 1"),
        (GOOD | {"writers": []}, "frames.writers is []; expected a list with at least one stage"),
        (GOOD | {"writers": "capture"}, "frames.writers is 'capture'; expected a list with at least one stage"),
        (GOOD | {"retention": 24}, "frames.retention is 24; expected a number with s, m, h or d behind it"),
        (GOOD | {"about": "Pictures"}, "frames.about is 'Pictures'; expected a sentence with a full stop"),
        (GOOD | {"message": ["Frame"]}, "frames.message is ['Frame']; expected one of Frame"),
    ],
)
def test_one_fault(entry: dict[str, object], fault: str):
    [told] = faults(entry)
    assert told.startswith(f"topics.yaml: {fault}")


def test_a_topic_stands_below_what_it_is_made_from_and_only_once():
    unique = GOOD | {"name": "frames.unique", "writers": ["dedup"], "readers": ["mask"]}
    assert faults(unique, GOOD) == [
        "topics.yaml: frames.unique stands above frames; expected below, since dedup reads it"
    ]
    assert faults(GOOD, GOOD) == ["topics.yaml: frames is there twice; expected one entry for each name"]


def test_topics_that_share_a_message_share_its_version():
    assert faults(GOOD, GOOD | {"name": "frames.unique", "version": 2}) == [
        "topics.yaml: frames.unique.version is 2; frames carries Frame as version 1"
    ]


@pytest.mark.parametrize("content", [None, [], {}, {"topics": {}}, {"topics": []}, "topics"])
def test_a_file_without_topics_is_refused(content: object):
    with pytest.raises(topics.BadTopics, match="expected `topics:` with a list of topics"):
        topics.parse(content)


def test_a_file_that_is_not_there_or_not_yaml_is_refused(tmp_path: Path):
    with pytest.raises(topics.BadTopics, match="expected the file at"):
        topics.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("topics: [", encoding="utf-8")
    with pytest.raises(topics.BadTopics, match="expected YAML"):
        topics.load(broken)


def test_a_file_elsewhere_is_read_the_same_way(tmp_path: Path):
    file = tmp_path / "topics.yaml"
    file.write_text(yaml.safe_dump({"topics": [GOOD]}), encoding="utf-8")
    assert [topic.name for topic in topics.load(file)] == ["frames"]


def test_segments_close_often_enough_for_the_retention_to_be_meant():
    for topic in (*topics.load(), *topics.replay("r")):
        given = topics.config(topic)
        assert int(given["segment.bytes"]) > topic.max_bytes  # Kafka refuses a record larger than a segment
        assert int(given["max.message.bytes"]) == topic.max_bytes
        if topic.cleanup == "compact":
            assert given["retention.ms"] == "-1"
            assert int(given["segment.ms"]) <= 600_000
            assert float(given["min.cleanable.dirty.ratio"]) < 0.5
        else:
            assert int(given["segment.ms"]) * 8 <= int(given["retention.ms"])


def test_spans_for_people():
    assert [topics.span(seconds) for seconds in (None, 45, 600, 7200, 86400, 172800)] == [
        "for ever",
        "45 s",
        "10 min",
        "2 h",
        "24 h",
        "2 d",
    ]


def test_every_stage_has_its_agent():
    root = topics.FILE.parent
    assert [stage for stage in topics.FLOW if not (root / f"agents/{stage}.py").exists()] == []
