"""`maskwatch topics`: shows and makes the topics of topics.yaml on a cluster, and writes what is published of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agents import topics

app = typer.Typer(no_args_is_help=True, help="The topics of topics.yaml: on the broker, and as documents.")

Repartition = Annotated[
    bool, typer.Option("--allow-repartition", help="Add partitions to a topic although that moves its keys.")
]


@app.command()
def plan(allow_repartition: Repartition = False) -> None:
    """Show what `apply` would do, and do nothing.

    Ends with 0 when there is nothing to do, 2 when there is, 1 when it cannot be done.

    Example: MASKWATCH_KAFKA=kafka-1:9092 maskwatch topics plan
    """
    from agents import topics
    from pipeline.settings import Settings

    with _told():
        found = topics.plan(Settings(), allow_repartition=allow_repartition)
    _print(found)
    if found.refused:
        raise typer.Exit(1)
    if found.changes:
        raise typer.Exit(2)
    typer.echo("nothing to do")


@app.command()
def apply(allow_repartition: Repartition = False) -> None:
    """Create and alter topics until the cluster is as topics.yaml says; other topics are left alone.

    Example: maskwatch topics plan; maskwatch topics apply
    """
    from agents import topics
    from pipeline.settings import Settings

    with _told():
        done = topics.apply(Settings(), allow_repartition=allow_repartition, tell=_print)
    typer.echo(f"{len(done.changes)} done" if done.changes else "nothing to do")


@app.command()
def docs(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; end with 1 when a file is stale.")] = False,
) -> None:
    """Write docs/contract/ and the flow picture in the READMEs; refuse a change that would break readers.

    Example: maskwatch topics docs --check
    """
    from pipeline import contract, topics

    root = topics.FILE.parent
    with _told():
        files = contract.publish(root)
    old = contract.stale(files)
    for file in old:
        typer.echo(f"{'stale' if check else 'written'}: {file.relative_to(root)}")
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(files[file], encoding="utf-8")
    if check and old:
        typer.echo("expected what `maskwatch topics docs` writes; run it and commit the result", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(files)} files are up to date")


SIGNS = {"create": "+", "config": "~", "partitions": "~"}


def _print(found: topics.Plan) -> None:
    for change in found.changes:
        typer.echo(f"{SIGNS[change.kind]} {change.topic}: {change.about}")
    for note in found.notes:
        typer.echo(f"  {note}")
    for refusal in found.refused:
        typer.echo(f"! {refusal}")


@contextmanager
def _told() -> Iterator[None]:
    """A fault that a person can mend is said in words, with exit code 1; any other keeps its traceback."""
    from kafka.errors import KafkaError

    from agents.topics import Refused
    from pipeline.contract import BadContract
    from pipeline.topics import BadTopics

    try:
        yield
    except (Refused, BadContract, BadTopics, KafkaError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
