"""What is published of the topics, and which changes are refused."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline import contract, topics
from pipeline.messages import MESSAGES

ROOT = topics.FILE.parent


@pytest.fixture
def schemas() -> dict[str, Any]:
    return contract.schemas(topics.load())


def test_every_field_of_every_message_says_what_it_means(schemas: dict[str, Any]):
    assert set(schemas) == set(MESSAGES)
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        for struct in (schema, *schema.get("$defs", {}).values()):
            assert all(field["description"] for field in struct["properties"].values()), name
    assert schemas["Faces"]["properties"]["at"] == {
        "description": "capture time of the frame, µs UTC",
        "type": "integer",
    }


def test_a_field_without_a_comment_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    said = contract.comments(Path(contract.messages.__file__).read_text(encoding="utf-8"))
    said["Gap"]["metres"] = ""
    monkeypatch.setattr(contract, "comments", lambda source: said)
    with pytest.raises(contract.BadContract, match=r"^Gap\.metres: expected a comment behind the field"):
        contract.schemas(topics.load())


def test_comments_are_found_behind_the_fields_only():
    source = 'class A:\n    """T."""\n\n    x: int  # first, m\n    y: str = "#no"\n    # no\n    z: int = 1  # last\n'
    assert contract.comments(source) == {"A": {"x": "first, m", "y": "", "z": "last"}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["properties"].pop("seen"), "M.seen is gone; fields are never removed or renamed"),
        (
            lambda s: s["properties"].__setitem__("saw", s["properties"].pop("seen")),
            "M.seen is gone; fields are never removed or renamed",
        ),
        (lambda s: s["properties"]["seen"].update(type="string"), "M.seen was"),
        (
            lambda s: (s["properties"].update(extra={"type": "string"}), s["required"].append("extra")),
            "M.extra has no default; a new field needs a default",
        ),
        (lambda s: s["required"].append("seen"), "M.seen has no default; old records may be without it"),
        (lambda s: s["properties"]["state"]["enum"].remove("up"), "M.state may no longer be 'up'; old records say it"),
        (lambda s: s["properties"]["seen"].update(default=7), "M.seen had the default 0 and has 7"),
        (lambda s: s["$defs"].pop("Part"), "Part is gone; it is part of M"),
        (lambda s: s["$defs"]["Part"]["properties"].pop("n"), "Part.n is gone"),
        (lambda s: s["properties"]["state"].pop("enum"), "M.state was"),
    ],
)
def test_changes_that_break_readers_are_refused(change: Any, fault: str):
    old: dict[str, Any] = {
        "properties": {
            "id": {"type": "string"},
            "seen": {"type": "integer", "default": 0},
            "state": {"enum": ["down", "up"], "default": "down"},
        },
        "required": ["id"],
        "$defs": {"Part": {"properties": {"n": {"type": "integer"}}, "required": []}},
    }
    new = copy.deepcopy(old)
    change(new)
    [told] = contract.incompatible("M", old, new)
    assert told.startswith(fault)
    assert contract.incompatible("M", old, old) == []


def test_additions_and_words_are_compatible(schemas: dict[str, Any]):
    old = schemas["CameraStatus"]
    new = copy.deepcopy(old)
    new["properties"]["at"]["description"] = "other words"
    assert contract.same(old, new)
    new["properties"]["title"] = {"type": "string", "default": ""}
    new["properties"]["state"]["enum"].append("asleep")
    assert contract.incompatible("CameraStatus", old, new) == []
    assert not contract.same(old, new)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `publish` reads and writes, copied."""
    for part in (contract.FOLDER, contract.BASELINE):
        shutil.copytree(ROOT / part, tmp_path / part)
    for file in (*contract.READMES, contract.OPERATING, Path("topics.yaml")):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def edit(checkout: Path, old: str, new: str, times: int = -1) -> None:
    file = checkout / "topics.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, times), encoding="utf-8")


def refused(checkout: Path) -> list[str]:
    with pytest.raises(contract.BadContract) as caught:
        contract.publish(checkout)
    return str(caught.value).splitlines()


def test_what_was_written_is_not_stale(checkout: Path):
    assert contract.stale(contract.publish(checkout)) == []


def test_a_changed_topic_makes_the_documents_stale(checkout: Path):
    edit(checkout, "retention: 6h", "retention: 12h")
    assert {file.name for file in contract.stale(contract.publish(checkout))} == {"README.md", "asyncapi.yaml"}


def test_a_topic_or_its_key_cannot_change_for_readers(checkout: Path):
    edit(checkout, "key: site", "key: id", 3)
    edit(checkout, "key: id", "key: site", 1)
    edit(checkout, "name: cameras.status", "name: cameras.health")
    assert refused(checkout) == [
        "topic trajectories: key was site and is id; make another topic",
        "topic episodes: key was site and is id; make another topic",
        "topic cameras.status is gone; readers hold its name",
    ]


def publish_older(checkout: Path, name: str, change: Any) -> None:
    """As if version 1 had been published before `change`."""
    file = checkout / contract.BASELINE / f"{name}.v1.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    change(schema)
    file.write_text(json.dumps(schema), encoding="utf-8")


def test_a_field_more_needs_a_version_more(checkout: Path):
    publish_older(checkout, "trajectory", lambda schema: schema["properties"].pop("closed"))
    [fault] = refused(checkout)
    assert fault.startswith("Trajectory has changed since version 1 was published; expected version 2 in topics.yaml")

    edit(checkout, "message: Trajectory\n    version: 1", "message: Trajectory\n    version: 2")
    files = contract.publish(checkout)
    fresh = checkout / contract.BASELINE / "trajectory.v2.json"
    assert fresh in files
    assert json.loads(files[fresh])["$id"] == "urn:maskwatch:trajectory:2"

    edit(checkout, "message: Trajectory\n    version: 2", "message: Trajectory\n    version: 3")
    assert refused(checkout) == ["Trajectory: topics.yaml says version 3; expected 1 or 2"]


def test_a_field_less_is_refused_whatever_the_version(checkout: Path):
    publish_older(checkout, "trajectory", lambda schema: schema["properties"].update(floor={"type": "integer"}))
    edit(checkout, "message: Trajectory\n    version: 1", "message: Trajectory\n    version: 2")
    assert refused(checkout) == [
        "Trajectory: Trajectory.floor is gone; fields are never removed or renamed (published as version 1)"
    ]


def test_a_readme_without_its_marks_is_a_fault(checkout: Path):
    (checkout / "README.md").write_text("# Maskwatch\n", encoding="utf-8")
    (checkout / "README.zh-CN.md").unlink()
    first, second = refused(checkout)
    assert first.startswith("README.md: expected the lines")
    assert second.startswith("README.zh-CN.md: expected the file, found none")


def test_asyncapi_names_every_topic_stage_and_schema_and_its_references_lead_somewhere():
    document = yaml.safe_load(contract.asyncapi(topics.load()))

    def resolve(reference: str) -> Any:
        at: Any = document
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]
        return at

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [value["$ref"]] if "$ref" in value else [ref for part in value.values() for ref in references(part)]
        return [ref for part in value for ref in references(part)] if isinstance(value, list) else []

    assert document["asyncapi"] == "3.0.0"
    found = references(document)
    assert len(found) > 60
    assert all(isinstance(resolve(reference), dict) for reference in found)
    addresses = {channel["address"] for channel in document["channels"].values()}
    derived = {f"replay.{{run}}.{name}" for name in topics.REPLAYED}
    assert addresses == {topic.name for topic in topics.load()} | derived
    said = {(op["tags"][0]["name"], op["action"], op["channel"]["$ref"]) for op in document["operations"].values()}
    for topic in topics.load():
        for stage in topic.writers:
            assert (stage, "send", f"#/channels/{topic.name}") in said
        for stage in topic.readers:
            assert (stage, "receive", f"#/channels/{topic.name}") in said
    assert "prefixItems" not in yaml.safe_dump(document), "AsyncAPI's own schema format is draft 07"
    faces = document["channels"]["faces"]["bindings"]["kafka"]
    assert (faces["partitions"], faces["topicConfiguration"]["cleanup.policy"]) == (8, ["delete"])


def test_the_flow_picture_has_every_topic_and_every_stage_that_is_there():
    picture = contract.mermaid(topics.load())
    for topic in topics.load():
        assert f'[/"{topic.name}"/]' in picture
    assert all(f'{stage}(["{stage}"])' in picture for stage in ("capture", *topics.FLOW, "replay", "materialiser"))
    assert "cli_writes --> t6" in picture
