"""`maskwatch analyse`: files or addresses through the whole flow in memory, no broker."""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.messages import Camera, Frame

# What is written, one file a topic. frames* are pictures, not lines of text: the annotated clip shows them.
WRITTEN = ("faces", "faces.embedded", "trajectories", "episodes", "dead.letters")


def analyse(
    sources: Annotated[list[str], typer.Argument(
        metavar="SOURCE…", help="File, folder of images or address; several are the cameras of one site.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the messages as JSON lines and summary.json.")] = None,
    annotate: Annotated[Path | None, typer.Option(
        help="Clip to write with boxes and states drawn; with several sources one each: NAME-CAMERA.mp4.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    cameras: Annotated[Path | None, typer.Option(
        help="Site file (as infra/cameras.yaml) with ids, places and rates; SOURCE then names cameras in it.")] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Pictures analysed a second.")] = 5.0,
    width: Annotated[str, typer.Option(
        help="Scaled down to this width, pixels; auto: as wide as the faces need it.")] = "auto",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds of stream.")] = None,
    start: Annotated[datetime | None, typer.Option(help="Time of the first picture (UTC); ids are made of it.")] = None,
    privacy: Annotated[str, typer.Option(help="anonymous, pseudonymous or enrolled.")] = "pseudonymous",
) -> None:
    """Run recordings or a stream through the same steps as the live system, and say what was seen.

    The same input and models give the same messages, byte for byte. Ctrl-C ends a live address and still reports.

    Example: maskwatch analyse gate.mp4 --out result --annotate result/gate.mp4
    """
    import json
    import time
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from agents import video
    from models import manifest, registry
    from pipeline import messages
    from pipeline.flow import TURN, Flow
    from pipeline.settings import Settings
    from pipeline.summary import Summary

    settings, console = Settings(), Console(stderr=True)
    if privacy not in ("anonymous", "pseudonymous", "enrolled"):
        raise typer.BadParameter(f"expected anonymous, pseudonymous or enrolled, got {privacy}", param_hint="--privacy")
    begin = round((start or datetime(2000, 1, 1)).replace(tzinfo=UTC).timestamp() * 1e6)
    chosen = _cameras(sources, cameras, fps, _width(width), privacy)
    try:
        models = registry.load(settings)
    except manifest.Broken as error:
        console.print(str(error), style="red", markup=False)
        console.print("maskwatch models fetch brings the weights")
        raise typer.Exit(1) from None

    summary, began = Summary(), time.monotonic()
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(settings.cores))
        flow = Flow(settings, models, threads)
        files = {}
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            files = {topic: stack.enter_context((out / f"{topic}.jsonl").open("wb")) for topic in WRITTEN}
        clips = {}
        if annotate is not None:
            from agents.drawing import Clip

            for camera in chosen:
                path = annotate if len(chosen) == 1 else annotate.with_stem(f"{annotate.stem}-{camera.camera}")
                clips[camera.camera] = stack.enter_context(Clip(path, camera.fps))
        painter = _Painter(clips)
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        bar = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = bar.add_task("analysing", total=None)
        length = max((_length(c.sources[0].url) or 0 for c in chosen), default=0)
        length = min(length, seconds) if seconds and length else seconds or length
        try:
            stream = _merged([_limited(video.frames(
                c, start=begin, looks=partial(flow.seen_in, c.camera), differs=settings.block_change,
            ), begin, seconds) for c in chosen])
            for turn in _turns(stream, TURN):
                records = list(flow.turn(turn, fill_known=True))
                for record in records:
                    if record.topic in files:
                        files[record.topic].write(messages.encode(record.message) + b"\n")
                summary.add(records)
                painter.add(turn, records)
                done = (turn[-1].at - begin) / 1e6
                bar.update(task, completed=done, total=length or None, description=f"analysing {done:.0f} s")
        except KeyboardInterrupt:
            console.print("stopped")
        except video.SourceError as error:
            console.print(str(error), style="red", markup=False)
            raise typer.Exit(1) from None

    report = summary.report()
    took = time.monotonic() - began
    report["took"] = round(took, 2)
    report["times_real_time"] = round(report["seconds"] / took, 2) if took else None
    if out is not None:
        (out / "summary.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report)


def _width(text: str) -> int:
    from pipeline.cameras import width

    try:
        return width(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--width") from None


def _cameras(sources: list[str], site: Path | None, fps: float, width: int, privacy: Any) -> list[Camera]:
    from pipeline.messages import Camera, Source

    if site is not None:
        import os

        from pipeline.cameras import load

        try:
            known = {camera.camera: camera for camera in load(site.read_text(), os.environ, site.name)}
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--cameras") from None
        missing = [name for name in sources if name not in known]
        if missing:
            raise typer.BadParameter(f"expected cameras of {site} ({', '.join(known)}), got {', '.join(missing)}")
        return [known[name] for name in sources]
    chosen: dict[str, Camera] = {}
    for source in sources:
        stem = re.sub(r"[^a-z0-9]+", "-", Path(source.rstrip("/")).stem.lower()).strip("-") or "camera"
        name, again = stem, 2
        while name in chosen:
            name, again = f"{stem}-{again}", again + 1
        chosen[name] = Camera(name, (Source(source),), fps=fps, width=width, privacy=privacy)
    return list(chosen.values())


def _length(url: str) -> float | None:
    """Seconds that a file lasts; None for what has no length."""
    import av

    if not Path(url).is_file():
        return None
    try:
        with av.open(url) as container:
            return container.duration / av.time_base if container.duration else None
    except av.FFmpegError:
        return None


def _merged(streams: list[Iterator[Frame]]) -> Iterator[Frame]:
    import heapq

    return iter(heapq.merge(*streams, key=lambda frame: (frame.at, frame.camera)))


def _limited(frames: Iterator[Frame], begin: int, seconds: float | None) -> Iterator[Frame]:
    import msgspec

    for frame in frames:
        if seconds is not None and not frame.ended and frame.at - begin > seconds * 1e6:
            yield msgspec.structs.replace(frame, jpeg=b"", digest=b"", ended=True)
            return
        yield frame


def _turns(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    turn = []
    for frame in frames:
        turn.append(frame)
        if len(turn) == size:
            yield turn
            turn = []
    if turn:
        yield turn


class _Painter:
    """Draws each frame with the newest faces of its camera, also those that dedup dropped."""

    def __init__(self, clips: dict[str, Any]) -> None:
        self.clips = clips
        self.newest: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.people: dict[str, str] = {}

    def add(self, turn: list[Frame], records: list[Any]) -> None:
        if not self.clips:
            return
        from agents import drawing
        from pipeline import pictures
        from pipeline.messages import Trajectory

        faces = {r.message.frame: r.message for r in records if r.topic == "faces"}
        for record in records:
            if isinstance(record.message, Trajectory):
                name = self.people.setdefault(record.message.id, f"P{len(self.people) + 1}")
                self.names |= {leg.track: name for leg in record.message.legs}
        for frame in turn:
            found = self.newest[frame.camera] = faces.get(frame.id, self.newest.get(frame.camera))
            if frame.ended or not frame.jpeg:
                continue
            note = frame.camera if frame.id in faces else f"{frame.camera} (as before: not analysed)"
            picture = drawing.draw(pictures.decode(frame.jpeg), found, self.names, note)
            self.clips[frame.camera].add(frame.at, picture)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    frames = report["frames"]
    console.print(
        f"{report['seconds']} s of {report['cameras']} camera(s) in {report['took']} s "
        f"({report['times_real_time']}× real time); {frames.get('seen', 0)} frames, "
        f"{frames.get('kept', 0) + frames.get('audited', 0)} analysed, {report['frames_saved']:.0%} saved by dedup")
    rate = "–" if report["compliance"] is None else f"{report['compliance']:.1%}"
    console.print(f"{report['people']} people, {report['people_over_several_cameras']} seen by several cameras; "
                  f"mask worn {rate} of the person-seconds that could be judged")
    table = Table("episode", "state", "from s", "to s", "cameras", "closed")
    for episode in report["episodes"]:
        table.add_row(episode["id"], episode["state"], str(episode["from"]), str(episode["to"]),
                      " → ".join(episode["cameras"]), episode["closed"] or "open")
    if report["episodes"]:
        console.print(table)
    for line in report["refused"]:
        console.print(f"refused {line}", style="yellow", markup=False)
