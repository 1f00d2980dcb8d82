"""`maskwatch dead-letters`: messages that a stage could not take: list them, look into one, send them again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Messages that a stage could not take.")

Stage = Annotated[str, typer.Option(help="Only what this stage refused.")]
Topic = Annotated[str, typer.Option(help="Only what came from this topic.")]
Reason = Annotated[str, typer.Option(help="Only where the reason contains this text.")]
Done = Annotated[bool, typer.Option("--redriven", help="Those that were sent again already too.")]


@app.command("list")
def list_(
    stage: Stage = "",
    topic: Topic = "",
    reason: Reason = "",
    redriven: Done = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what waits in dead.letters, oldest first.

    Example: maskwatch dead-letters list --stage mask --reason JPEG
    """
    from agents import dead_letters

    with _told() as settings:
        letters = dead_letters.pick(
            dead_letters.read(settings), stage=stage, topic=topic, reason=reason, redriven=redriven
        )
    if as_json:
        for letter in letters:
            told = dead_letters.explain(letter)
            told.pop("payload")
            typer.echo(json.dumps(told, ensure_ascii=False))
        return
    for letter in letters:
        again = f"  redriven {_time(letter.redriven)}" if letter.redriven else ""
        typer.echo(f"{letter.id}  {_time(letter.at)}  {len(letter.payload)} bytes{again}\n    {letter.reason}")
    typer.echo(f"{len(letters)} dead letters" if letters else "no dead letters", err=True)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="topic:partition:offset:stage, as `list` prints it.")],
    raw: Annotated[Path | None, typer.Option(help="Write the payload, byte for byte, to this file.")] = None,
) -> None:
    """Show one letter: where it came from, why it was refused, what can be read of it, its first bytes.

    Ends with 1 when there is no such letter.

    Example: maskwatch dead-letters show frames:3:1207:dedup --raw bad.bin
    """
    from agents import dead_letters

    with _told() as settings:
        letter = next((letter for letter in dead_letters.read(settings) if letter.id == id), None)
    if letter is None:
        typer.echo(f"no dead letter {id}; `maskwatch dead-letters list --redriven` shows those there are", err=True)
        raise typer.Exit(1)
    told = dead_letters.explain(letter)
    payload = told.pop("payload")
    for name, value in told.items():
        shown = _time(value) if name in ("at", "redriven") and value else value
        typer.echo(f"{name:<12}{shown}")
    typer.echo(f"{'payload':<12}{payload if isinstance(payload, str) else ''}")
    if not isinstance(payload, str):
        typer.echo(json.dumps(payload, ensure_ascii=False, indent=2))
    typer.echo(dead_letters.dump(letter.payload))
    if raw is not None:
        raw.write_bytes(letter.payload)
        typer.echo(f"{len(letter.payload)} bytes written to {raw}", err=True)


@app.command()
def redrive(
    ids: Annotated[list[str] | None, typer.Argument(help="Letters, as `list` prints them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    stage: Stage = "",
    topic: Topic = "",
    reason: Reason = "",
    again: Annotated[bool, typer.Option("--again", help="Also letters that were sent again already.")] = False,
) -> None:
    """Send messages to where they came from once more, byte for byte, with their key.

    Each is noted in dead.letters as redriven, so that none is sent twice by accident; what is refused again becomes a
    new letter. Ends with 1 when a chosen letter is not there or cannot be sent (nothing is sent then), with 2 when
    nothing was chosen.

    Example: maskwatch dead-letters redrive --stage mask --reason "no space"
    """
    from agents import dead_letters

    if not (ids or every or stage or topic or reason):
        typer.echo("choose letters: ID…, --all, --stage, --topic or --reason", err=True)
        raise typer.Exit(2)
    with _told() as settings:
        letters = list(dead_letters.read(settings))
        if ids:
            there = {letter.id: letter for letter in letters}
            if missing := [id for id in ids if id not in there]:
                typer.echo(f"no dead letter {', '.join(missing)}", err=True)
                raise typer.Exit(1)
            letters = [there[id] for id in dict.fromkeys(ids)]
        chosen = dead_letters.pick(letters, stage=stage, topic=topic, reason=reason, redriven=bool(ids) or again)
        count = 0
        try:
            for letter in dead_letters.redrive(settings, chosen, again=again):
                typer.echo(f"{letter.id} -> {letter.topic}")
                count += 1
        except dead_letters.NotRedriven as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
    typer.echo(f"{count} sent again", err=True)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _told() -> Iterator[Any]:
    """The settings; a broker that cannot be reached is said in one line."""
    from kafka.errors import KafkaError

    from pipeline.settings import Settings

    settings = Settings()
    try:
        yield settings
    except KafkaError as error:
        typer.echo(f"expected a Kafka broker at {settings.bootstrap}, got {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
