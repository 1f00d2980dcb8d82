"""`maskwatch demo …`: the rendered demo site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The rendered demo site: three cameras that need no camera.")


@app.command()
def render(
    out: Annotated[
        Path | None, typer.Option(help="Folder for clips, plan and truth; default: demo in the data folder.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=15, help="Length of each clip; the scenario takes 60.")] = 60,
    seed: Annotated[
        int | None, typer.Option(help="Other clothes, masks and times of walking; default: the setting `seed`.")
    ] = None,
) -> None:
    """Fetch the face pictures and render the three clips, the floor plan and the ground truth.

    Does nothing when they are there already.

    Example: maskwatch demo render --out /tmp/demo --seconds 60 --seed 7
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from infra.demo import portraits, site
    from pipeline.settings import Settings

    settings, console = Settings(), Console(stderr=True)
    folder = out or settings.data / "demo"
    try:
        portraits.fetch(folder / "pictures", say=console.print)
    except portraits.Missing as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    columns = TextColumn("rendering"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("rendering", total=None)
        made = site.render(
            folder, seconds, settings.seed if seed is None else seed,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    typer.echo(f"{'rendered' if made else 'already rendered'}: {folder}")
