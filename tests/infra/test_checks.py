"""What every commit must hold to: ruff and mypy are content, the lock fits pyproject.toml and names no address."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("mypy",)], ids=lambda words: words[0])
def test_the_checkers_are_content(command: tuple[str, ...]) -> None:
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


def test_every_package_asked_for_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", lock, re.MULTILINE))
    for requirement in asked:
        name, pin = re.match(r"([\w.-]+)(?:\[.*?\])?(?:==([\w.]+)$)?", requirement).groups()  # type: ignore[union-attr]
        assert (name := re.sub(r"[-_.]+", "-", name).lower()) in locked, f"{name}: make lock"
        assert pin in (None, locked[name]), f"{name}: pyproject.toml says {pin}, the lock {locked[name]}: make lock"
    entries = re.split(r"\n(?=[a-z0-9])", lock[lock.index("\n", lock.index("make lock")) + 1 :])
    assert [entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in lock


def test_make_lists_every_command_with_what_it_does() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\w+) +\S", listed, re.MULTILINE) == phony[1].split()
