"""`maskwatch replay`: a past stretch of the stream through the flow again, into topics of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer


def replay(
    begin: Annotated[str, typer.Option("--from", help="2026-11-23T10:15:00 (UTC), or -10m, -2h, -1d: so long ago.")],
    end: Annotated[str, typer.Option("--to", help="The same; now for everything up to now.")] = "now",
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera; may be given several times.")] = None,
    speed: Annotated[str, typer.Option(help="Times real time, or max.")] = "max",
    run: Annotated[str, typer.Option(help="Name of the run, a-z 0-9 and '-'; default: made of the stretch.")] = "",
    models: Annotated[list[str] | None, typer.Option(
        metavar="NAME=FILE", help="Weights to use in place of a model's own; see `maskwatch models list`.")] = None,
    policy: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Judge by this policy (YAML or JSON, as GET /v1/policies/ID gives it), not by the one "
                             "that held.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Delete a run of the same name first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Read `frames` from the log and write replay.RUN.frames.unique, .faces, .faces.embedded, .trajectories, .episodes.

    The same stretch, settings and models give the same messages, byte for byte; live topics are not touched.

    Example: maskwatch replay --from -10m --run before-lunch

    Example: maskwatch replay --from -2h --run stricter --policy stricter.yaml
    """
    import json

    import msgspec
    from kafka.errors import KafkaError
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from agents import replay as edge
    from models import manifest, registry
    from pipeline import policy as rules
    from pipeline.settings import Settings

    settings, console = Settings(), Console(stderr=True)
    first, last = moment(begin, "--from"), moment(end, "--to")
    if first >= last:
        raise typer.BadParameter(f"expected --from before --to, got {begin} and {end}")
    run = run or f"{_short(first)}-{_short(last)}"
    faster = _speed(speed)
    try:
        judge = rules.load(policy.read_text(encoding="utf-8"), policy.name) if policy else None
        loaded = registry.load(settings, _weights(models or []))
        columns = TextColumn("replaying {task.fields[camera]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("replaying", total=(last - first) / 1e6, camera="")
            told = edge.replay(
                settings, loaded, run=run, begin=first, end=last, cameras=frozenset(camera or ()), speed=faster,
                replace=replace, judge=judge,
                progress=lambda f: bar.update(task, completed=(f.at - first) / 1e6, camera=f.camera))
    except (manifest.Broken, edge.RunExists, LookupError, ValueError, OSError, KafkaError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(told), indent=2))
        return
    typer.echo(f"replay {told.run}: {told.frames} frames, {told.seconds:.1f} s of stream in {told.took:.1f} s "
               f"({told.seconds / max(told.took, 1e-6):.1f}× real time)")
    for topic, count in told.records.items():
        typer.echo(f"  replay.{told.run}.{topic}: {count}")
    for reason in told.refused:
        typer.echo(f"  refused {reason}")
    if not told.frames:
        typer.echo("  no frames in this stretch: the log keeps `frames` for as long as topics.yaml says")


def moment(text: str, option: str) -> int:
    """µs UTC of "now", "-10m" or an ISO time."""
    now = datetime.now(UTC)
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if text == "now":
            when = now
        elif text.startswith("-"):
            when = now - timedelta(**{units[text[-1]]: float(text[1:-1])})
        else:
            when = datetime.fromisoformat(text)
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, KeyError):
        raise typer.BadParameter(
            f"expected now, -10m (s, m, h, d) or 2026-11-23T10:15:00, got {text!r}", param_hint=option) from None
    return round(when.timestamp() * 1e6)


def _short(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y%m%dt%H%M%S")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise typer.BadParameter(f"expected a number above 0, or max, got {text!r}", param_hint="--speed")
    return speed


def _weights(pairs: list[str]) -> dict[str, Path]:
    chosen = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        if not file or not Path(file).is_file():
            raise typer.BadParameter(f"expected NAME=FILE, and the file to be there, got {pair!r}",
                                     param_hint="--models")
        chosen[name] = Path(file)
    return chosen
