"""`maskwatch up` with everything in it: it comes up, is seen, goes down, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local import process
from pipeline.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.models, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CHILDREN = {"worker-1", "api", "materialiser", "alerts", "replays", "vectors"}


@pytest.fixture
def env(tmp_path: Path, weights: Settings) -> dict[str, str]:
    """A data folder of its own with the checkout's weights in it, and free ports."""
    (tmp_path / "models").symlink_to(weights.data.resolve() / "models")
    return os.environ | {
        "MASKWATCH_DATA": str(tmp_path),
        "MASKWATCH_KAFKA_PORT": str(process.free_port()),
        "MASKWATCH_PORT": str(process.free_port()),
        "MASKWATCH_POSTGRES_PORT": str(process.free_port()),
        "MASKWATCH_VECTORS_PORT": str(process.free_port()),
    }


def maskwatch(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], env=env, cwd=env["MASKWATCH_DATA"], capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip


def ours(env: dict[str, str]) -> list[str]:
    """Every process that was started with this test's data folder."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.pid != os.getpid() and each.environ().get("MASKWATCH_DATA") == env["MASKWATCH_DATA"]:
                found.append(" ".join(each.cmdline()))
        except psutil.Error:
            continue
    return found


def entry(env: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(Path(env["MASKWATCH_DATA"], "up.json").read_text()))


def test_up_is_seen_and_down_leaves_nothing(env: dict[str, str]) -> None:
    # of one that was killed when it was ready: it says nothing of the one that starts now
    stale = {"pid": os.getpid(), "started": 1.0, "state": "ready", "children": {}}
    Path(env["MASKWATCH_DATA"], "up.json").write_text(json.dumps(stale))
    up = maskwatch(env, "up", "--detach")
    assert up.returncode == 0, up.stderr
    assert "ready:" in up.stderr
    page = f"http://127.0.0.1:{env['MASKWATCH_PORT']}"
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert b"<title>Maskwatch</title>" in answer.read()

    report: dict[str, Any] = {}

    def at_work() -> bool:
        report.clear()
        report.update(json.loads(maskwatch(env, "status", "--json").stdout))
        return {stage["stage"]: stage["members"] for stage in report["stages"]} == dict.fromkeys(
            ("dedup", "mask", "embed", "trajectory"), 1
        )

    assert process.wait_for(at_work, 60, every=1), report
    assert set(report["up"]["processes"]) == CHILDREN
    again = maskwatch(env, "up")
    assert again.returncode == 1
    assert "already runs" in again.stderr
    # up, the broker, the database with its helpers, and the children
    assert sum("postgres" not in command for command in ours(env)) == 2 + len(CHILDREN)

    down = maskwatch(env, "down")
    assert down.returncode == 0
    assert down.stdout.startswith("stopped pid ")
    assert ours(env) == []
    assert maskwatch(env, "down").stdout.startswith("nothing runs on ")
    gone = maskwatch(env, "status")
    assert gone.returncode == 1
    assert "no broker answers" in gone.stdout.replace("\n", " ")


def test_ctrl_c_stops_all_and_so_does_the_death_of_the_broker(env: dict[str, str]) -> None:
    for end in ("ctrl-c", "broker"):
        with subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"], env=env, stderr=subprocess.PIPE, text=True
        ) as running:
            assert running.stderr
            said = []
            for line in running.stderr:
                said.append(line)
                if line.startswith("ready:"):
                    break
            children = [pid for pid, _ in entry(env)["children"].values()]
            assert len(children) == len(CHILDREN), said
            if end == "ctrl-c":
                running.send_signal(signal.SIGINT)
            else:
                broker = json.loads(Path(env["MASKWATCH_DATA"], "kafka", "broker.json").read_text())["pid"]
                os.kill(broker, signal.SIGKILL)
            rest = running.stderr.read()
            code = running.wait(40)
        assert (code, "all stopped" in rest) == ((0, True) if end == "ctrl-c" else (1, False))
        if end == "broker":
            assert "the embedded broker ended with code -9" in rest
        assert ours(env) == []
