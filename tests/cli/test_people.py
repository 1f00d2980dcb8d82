"""What is asked for on the command line must make sense before anything is looked for."""

from __future__ import annotations

from typer.testing import CliRunner

from cli.main import app


def test_erasing_nobody_is_refused() -> None:
    told = CliRunner().invoke(app, ["erase", "--reason", "request 17"])
    assert told.exit_code == 2
    assert "--visitor" in told.output
