"""What `--help` shows of every command: all of what is written for it, square brackets too, with an example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from cli import main, up

ROOT = typer.main.get_command(main.app)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, each in command.commands.items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands(ROOT))


def words(text: str) -> str:
    """Without the lines and boxes that it is laid out in."""
    return re.sub(r"[\s│]+", "", text)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_nothing_that_is_written_is_missing_from_what_is_shown(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    shown = CliRunner().invoke(main.app, [*path, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert re.search(rf"Example: .*maskwatch {' '.join(path)}", shown)
    texts = [command.help or "", *(getattr(each, "help", None) or "" for each in command.params)]
    for text in texts:
        for line in text.replace("\\[", "[").splitlines():  # as Rich wants it that a bracket is one
            assert words(line) in words(shown), line


def test_what_a_failed_start_says_keeps_its_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.local.kafka import BrokerError

    def fails(*_: object) -> None:
        raise BrokerError("expected a Java runtime: install `maskwatch[embedded]`")

    monkeypatch.setenv("MASKWATCH_DATA", str(tmp_path))
    monkeypatch.setattr(up, "_start", fails)
    ended = CliRunner().invoke(main.app, ["up"])
    assert ended.exit_code == 1
    assert "failed: expected a Java runtime: install `maskwatch[embedded]`" in ended.output
