"""Processes that fall over, will not stop, or are left behind: what becomes of them under the supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import process, supervisor

SLEEPS = "import time; print('here', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"


class Run:
    """A program that supervises some children, as `maskwatch up` does, but without a broker."""

    def __init__(self, data: Path, *children: str) -> None:
        starts = "\n".join(
            f"        all_.start('child-{number}', [sys.executable, '-c', {code!r}])"
            for number, code in enumerate(children)
        )
        program = textwrap.dedent("""\
            import sys, pathlib
            from infra.local import supervisor
            supervisor.PATIENCE, supervisor.FIRST_WAIT = 1.0, 0.5
            try:
                with supervisor.Supervisor(pathlib.Path(sys.argv[1]), lambda text: print(text, flush=True)) as all_:
            {starts}
                    all_.write(state="ready")
                    print("ready", flush=True)
                    all_.watch()
            except supervisor.Told:
                print("told")
            except supervisor.Refused as error:
                print(error)
                sys.exit(1)
            """).replace("{starts}", starts)
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(data)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        self.lines = self.process.stdout

    def ready(self) -> Run:
        assert self.lines.readline() == "ready\n"
        return self

    def pid(self, name: str) -> int:
        return int(json.loads((self.data / "up.json").read_text())["children"][name][0])

    def end(self) -> str:
        text = self.lines.read()
        self.process.wait(20)
        self.lines.close()
        return text


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.process.kill()
        run.process.wait()
        run.lines.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_fallen_child_starts_again_and_what_it_said_is_shown(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path, SLEEPS).ready())
    first = run.pid("child-0")
    log = tmp_path / "logs" / "child-0.log"
    assert process.wait_for(lambda: log.exists() and log.read_text() == "here\n", 20)
    os.kill(first, signal.SIGKILL)
    assert run.lines.readline() == "child-0 ended (killed by signal 9); it starts again in 0 s. It said last:\n"
    assert run.lines.readline() == "  here\n"
    assert process.wait_for(lambda: log.read_text() == "here\nhere\n", 20)
    second = run.pid("child-0")
    assert second != first
    run.process.terminate()
    assert run.end() == "told\n"
    assert gone(second)
    assert not (tmp_path / "up.json").exists()


def test_one_that_will_not_stop_is_killed_and_said_so(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path, STUBBORN, SLEEPS).ready())
    stubborn = run.pid("child-0")
    log = tmp_path / "logs" / "child-0.log"
    assert process.wait_for(lambda: log.exists() and log.read_text() == "here\n", 20)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == f"pid {stubborn} did not stop within 1 s and is killed\ntold\n"
    assert gone(stubborn)


def test_a_second_one_on_the_same_folder_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path, SLEEPS).ready())
    runs.append(second := Run(tmp_path, SLEEPS))
    assert f"already runs on {tmp_path} (pid {run.process.pid}); `maskwatch down` stops it" in second.end()
    assert second.process.returncode == 1
    assert not gone(run.pid("child-0"))


def test_nobody_outlives_a_killed_supervisor(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path, SLEEPS, STUBBORN).ready())
    log = tmp_path / "logs" / "child-1.log"
    assert process.wait_for(lambda: log.exists() and log.read_text() == "here\n", 20)
    gentle, stubborn = run.pid("child-0"), run.pid("child-1")
    run.process.kill()
    run.process.wait()
    assert process.wait_for(lambda: gone(gentle), 10)
    assert not gone(stubborn)  # it did not hear SIGTERM; `down` knows it by pid and start time
    patience, supervisor.PATIENCE = supervisor.PATIENCE, 0.5
    try:
        assert supervisor.stop_running(tmp_path) == (None, ["child-1"])
    finally:
        supervisor.PATIENCE = patience
    assert gone(stubborn)


def test_down_leaves_a_stranger_with_the_same_pid_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.DEVNULL) as stranger:
        entry = {"pid": stranger.pid, "started": 1.0, "children": {"worker-1": [stranger.pid, 1.0]}}
        (tmp_path / "up.json").write_text(json.dumps(entry))
        assert supervisor.stop_running(tmp_path) == (None, [])
        assert stranger.poll() is None
        stranger.kill()
