"""Messages, their encodings, and the recorded samples that must decode for ever."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from pipeline import contract, topics
from pipeline.messages import MESSAGES, BadMessage, Camera, Faces, Frame, Source, decode, encode

RECORDED = Path(__file__).parents[1] / "data" / "messages"
SAMPLES = sorted(file for file in RECORDED.iterdir() if file.suffix in (".json", ".msgpack"))
BY_SLUG = {contract.slug(name): kind for name, kind in MESSAGES.items()}
CURRENT = {topic.message: topic for topic in topics.load()}


def parts(file: Path) -> tuple[str, int, str]:
    matched = re.fullmatch(r"([a-z-]+)\.v([0-9]+)\.(json|msgpack)", file.name)
    assert matched, f"expected <message>.v<version>.<format>, got {file.name}"
    return matched[1], int(matched[2]), matched[3]


def told_before(now: Any, said: Any) -> Any:
    """Of what a message says now the fields that the record has, in its parts too."""
    if isinstance(now, dict) and isinstance(said, dict):
        return {field: told_before(now[field], said[field]) for field in said if field in now}
    if isinstance(now, list) and isinstance(said, list) and len(now) == len(said):
        return [told_before(one, other) for one, other in zip(now, said, strict=True)]
    return now


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_a_recorded_sample_decodes_and_says_the_same(file: Path):
    name, version, form = parts(file)
    kind = BY_SLUG[name]
    payload = file.read_bytes()

    message = decode(payload, kind, form)

    assert len(payload) <= 30_000
    decoder = msgspec.json.decode if form == "json" else msgspec.msgpack.decode
    said = decoder(payload)
    now = decoder(encode(message, form))
    assert told_before(now, said) == said, "a field of the record was lost or reads differently now"
    if version == CURRENT[kind].version:
        assert encode(message, form) == payload


@pytest.mark.parametrize("file", [file for file in SAMPLES if file.suffix == ".json"], ids=lambda file: file.name)
def test_a_recorded_sample_fits_the_schema_of_its_version_and_todays(file: Path):
    name, version, _ = parts(file)
    record = json.loads(file.read_bytes())
    for schema in (
        RECORDED / f"schemas/{name}.v{version}.json",
        topics.FILE.parent / f"docs/contract/{name}.schema.json",
    ):
        Draft202012Validator(json.loads(schema.read_text(encoding="utf-8"))).validate(record)


def test_every_published_version_has_its_sample():
    published = {tuple(file.stem.rsplit(".v", 1)) for file in (RECORDED / "schemas").glob("*.v*.json")}
    sampled = {(name, str(version)) for name, version, _ in map(parts, SAMPLES)}
    assert sampled == published
    assert {name for name, _ in sampled} == {contract.slug(kind.__name__) for kind in CURRENT}


def test_json_is_the_same_bytes_every_time_and_carries_bytes_as_base64():
    one = Faces("gate", 7, "gate@7", "clinic", models={"b": "2", "a": "1"})
    other = Faces("gate", 7, "gate@7", "clinic", models={"a": "1", "b": "2"})
    assert encode(one) == encode(other)
    assert json.loads(encode(Frame("gate", 7, jpeg=b"\xff\xd8")))["jpeg"] == "/9g="


def test_a_record_from_before_a_field_was_added_reads_with_its_default():
    old = b'{"camera":"gate","sources":[{"url":"rtsp://host/a"}]}'
    assert decode(old, Camera) == Camera("gate", (Source("rtsp://host/a"),))


def test_a_record_from_a_later_version_reads_without_its_new_fields():
    new = b'{"camera":"gate","sources":[],"tilt":3.5}'
    assert decode(new, Camera) == Camera("gate", ())


@pytest.mark.parametrize(
    ("payload", "form", "why"),
    [
        (b"", "json", "expected a Faces as json, got 0 bytes"),
        (b"\xff\xfe\x00", "json", "expected a Faces as json, got 3 bytes"),
        (b'{"camera":"gate"}', "json", "missing required field `at`"),
        (b'{"camera":1,"at":2,"frame":"a","site":"b"}', "json", "Expected `str`, got `int` - at `$.camera`"),
        (b"\xc1", "msgpack", "expected a Faces as msgpack, got 1 bytes"),
        (b"[1,2]", "json", "Expected `object`, got `array`"),
    ],
)
def test_what_is_not_the_promised_message_is_refused_in_words(payload: bytes, form: str, why: str):
    with pytest.raises(BadMessage, match=re.escape(why)):
        decode(payload, Faces, form)
