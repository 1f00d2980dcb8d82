"""`maskwatch topics` as typed."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

from agents.topics import apply
from cli.topics import app
from pipeline import topics
from pipeline.settings import Settings


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASKWATCH_KAFKA", settings.kafka)
    monkeypatch.setenv("MASKWATCH_TOPIC_PREFIX", settings.topic_prefix)

    def run(*words: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output.splitlines()

    return run


def test_plan_apply_plan(run, settings: Settings):
    code, lines = run("plan")
    assert (code, len(lines)) == (2, 10)
    assert lines[0] == f"+ {settings.topic_prefix}frames: partitions 8, copies 1, kept 24 h"

    assert run("apply") == (0, [*lines, "10 done"])
    assert run("plan") == (0, ["nothing to do"])
    assert run("apply") == (0, ["nothing to do"])


def test_what_cannot_be_done_is_said_once_and_ends_with_1(run, settings: Settings):
    apply(settings, [msgspec.structs.replace(topics.find("episodes"), partitions=9)])

    code, lines = run("plan")
    assert code == 1
    assert [line for line in lines if line.startswith("! ")] == [
        f"! {settings.topic_prefix}episodes: has 9 partitions, topics.yaml says 4; Kafka cannot take partitions away. "
        "Set topics.yaml to 9, or copy the records to a new topic."
    ]
    code, lines = run("apply")
    assert (code, len(lines)) == (1, 1)


def test_docs_are_fresh(run):
    assert run("docs", "--check") == (0, ["14 files are up to date"])
