"""`maskwatch doctor`: what is missing is named with the command that mends it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from infra.local import process
from infra.local.doctor import Check, examine
from pipeline.settings import Settings


def checks(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in examine(settings)}


def test_a_bare_data_folder_lacks_only_the_weights(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, kafka_port=process.free_port(), port=process.free_port())
    found = checks(settings)
    assert [check.name for check in found.values() if check.state == "missing"] == ["weights"]
    assert found["weights"].mend == "maskwatch models fetch"
    assert found["broker's jars"].found.startswith("Apache Kafka 4.")
    assert found["broker"].found == "the embedded one, not running"
    assert found["runtime"].found.startswith(f"litert f32, {settings.cores} thread")


def test_taken_ports_are_named_with_who_has_them(tmp_path: Path) -> None:
    with socket.socket() as broker, socket.socket() as page:
        for each in (broker, page):
            each.bind(("127.0.0.1", 0))
            each.listen()
        settings = Settings(data=tmp_path, kafka_port=broker.getsockname()[1], port=page.getsockname()[1])
        found = checks(settings)
    for name, setting in (("broker's port", "MASKWATCH_KAFKA_PORT"), ("API's port", "MASKWATCH_PORT")):
        assert found[name].state == "missing"
        assert f"pid {os.getpid()}" in found[name].found
        assert setting in found[name].mend


def test_topics_that_differ_are_named(settings: Settings) -> None:
    from agents.topics import apply
    from pipeline.topics import load

    before = checks(settings)
    assert before["broker"].state == "ok"
    assert before["topics"].state == "missing"
    assert before["topics"].mend == "maskwatch topics apply"
    apply(settings, load())
    assert checks(settings)["topics"] == Check("topics", "ok", "as topics.yaml says")


def test_a_broker_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    found = checks(Settings(data=tmp_path, kafka=f"127.0.0.1:{process.free_port()}", port=process.free_port()))
    assert found["broker"].state == "missing"
    assert "no broker answers: 127.0.0.1:" in found["broker"].found
    assert "java" not in found  # not needed with somebody else's broker


def test_for_programs_it_is_json_and_the_exit_code_says_all(tmp_path: Path) -> None:
    env = os.environ | {
        "MASKWATCH_DATA": str(tmp_path),
        "MASKWATCH_KAFKA_PORT": str(process.free_port()),
        "MASKWATCH_PORT": str(process.free_port()),
    }
    run = subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", "--json"], env=env, capture_output=True, text=True
    )
    listed = json.loads(run.stdout)
    assert run.returncode == 1
    assert {entry["state"] for entry in listed} <= {"ok", "warning", "missing"}
    assert [entry["name"] for entry in listed if entry["state"] == "missing"] == ["weights"]
