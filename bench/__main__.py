"""`python -m bench`: every measurement, or one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import figures, machine
from bench.figures import Section
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)

Repeats = Annotated[int, typer.Option(min=1, help="Counted rounds.")]
Out = Annotated[Path, typer.Option(help="Folder for bench.json and bench.md.")]
Data = Annotated[Path | None, typer.Option(help="Data folder with weights and demo; default: the setting `data`.")]
Footage = Annotated[Path, typer.Option(help="Folder with more clips; skipped when it is not there.")]
Only = Annotated[str, typer.Option(help="Only clips whose name has this in it.")]
PAGE = Path("docs/performance.md")
BUILD, FOOTAGE = Path("build"), Path("../shared/data/video")
PREDECESSOR = Path("../shared/data/baseline/aizoo_face_mask_detection_260.pb")


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, out: Out = BUILD, data: Data = None) -> None:
    """Measure cameras per core, overhead, latency, two workers, dedup, steps, detector, search, photos, load and video.

    Without a command: all of them, about 45 minutes; nothing else should run on the machine meanwhile.

    Example: python -m bench percore --repeats 3 --only busy
    """
    if context.invoked_subcommand is None:
        for each in (percore, detect, steps, sampling, live, workers, search, inspection, load, video):
            each(out=out, data=data)
        console.print(f"written: {out / 'bench.json'}, {out / 'bench.md'}")
        console.print(f"`python -m bench report` puts the figures into {PAGE}")
    elif out != BUILD or data is not None:
        raise typer.BadParameter(f"expected --out and --data behind {context.invoked_subcommand}, got them before it")


@app.command()
def percore(out: Out = BUILD, data: Data = None, repeats: Repeats = 3, footage: Footage = FOOTAGE, only: Only = ""
            ) -> None:
    """Cameras one core carries, against a plain OpenCV and TensorFlow loop on the same clips.

    Example: python -m bench percore --repeats 3 --only demo-ward
    """
    from bench import clips
    from bench import percore as measurement

    def work(settings: Settings, say: Callable[[str], None]) -> Section:
        chosen = [clip for clip in clips.every(settings.data, footage, say) if only in clip.name]
        return measurement.measure(settings, chosen, repeats, say)

    _run(work, out, data)


@app.command()
def detect(
    out: Out = BUILD, data: Data = None, repeats: Repeats = 7, footage: Footage = FOOTAGE, only: Only = "",
    predecessor: Annotated[Path, typer.Option(help="Its frozen graph; ours alone when it is not there.")] = PREDECESSOR,
) -> None:
    """Detector and mask state of a 640×360 picture against the predecessor's network: cost, and what both find.

    Example: python -m bench detect --only demo
    """
    from bench import clips
    from bench import detect as measurement

    def work(settings: Settings, say: Callable[[str], None]) -> Section:
        told = [clip for clip in [*clips.demo(settings.data), *clips.real(footage)] if clip.truth]
        there = [clip for clip in told if only in clip.name]
        return measurement.measured(settings, there, predecessor, repeats, say)

    _run(work, out, data)


@app.command()
def steps(out: Out = BUILD, data: Data = None, repeats: Repeats = 3, footage: Footage = FOOTAGE, only: Only = "",
          ) -> None:
    """Milliseconds of each step, from decoding to the messages.

    Example: python -m bench steps --only demo-ward
    """
    from bench import clips
    from bench import steps as measurement

    def work(settings: Settings, say: Callable[[str], None]) -> Section:
        chosen = [clip for clip in clips.every(settings.data, footage, say) if only in clip.name]
        return measurement.measure(settings, chosen, repeats, say)

    _run(work, out, data)


@app.command()
def live(
    out: Out = BUILD,
    data: Data = None,
    repeats: Repeats = 3,
    cameras: Annotated[int, typer.Option(min=1, help="Demo cameras; after the third they come again.")] = 6,
    seconds: Annotated[float, typer.Option(min=10, help="Of each run.")] = 90.0,
) -> None:
    """Overhead beside decoding and inference, and latency, of the live system on the embedded broker.

    Example: python -m bench live --cameras 3 --seconds 60 --repeats 1
    """
    from bench import live as measurement

    _run(lambda settings, say: measurement.measure(settings, cameras, seconds, repeats, say), out, data)


@app.command()
def workers(
    out: Out = BUILD,
    data: Data = None,
    repeats: Repeats = 3,
    frames: Annotated[int, typer.Option(min=200, help="Pictures in the topic before the workers start.")] = 3200,
) -> None:
    """Throughput of two workers against one, on a topic filled beforehand.

    Example: python -m bench workers --frames 1600 --repeats 1
    """
    from bench import workers as measurement

    _run(lambda settings, say: measurement.measure(settings, frames, repeats, say), out, data)


@app.command("dedup")
def sampling(out: Out = BUILD, data: Data = None, footage: Footage = FOOTAGE, only: Only = "") -> None:
    """What dedup keeps and misses, against even sampling that keeps as many pictures; counts, not times.

    Example: python -m bench dedup --only demo
    """
    from bench import clips
    from bench import sampling as measurement
    from models import registry

    def work(settings: Settings, say: Callable[[str], None]) -> Section:
        chosen = [clip for clip in [*clips.demo(settings.data), *clips.real(footage)] if only in clip.name]
        return measurement.measure(settings, chosen, registry.load(settings).look, say)

    _run(work, out, data)


@app.command()
def search(
    out: Out = BUILD,
    data: Data = None,
    vectors: Annotated[int, typer.Option(min=1000, help="Faces in the collection.")] = 100_000,
    searches: Annotated[int, typer.Option(min=20, help="Of each kind.")] = 200,
) -> None:
    """Time and recall of a search by a face over the API, among many vectors in the embedded Milvus Lite.

    Example: python -m bench search --vectors 20000 --searches 50
    """
    from bench import search as measurement

    _run(lambda settings, say: measurement.measure(settings, vectors, searches, say), out, data)


@app.command()
def kills(kills: Annotated[int, typer.Option(min=1, help="With -9, in the middle of transactions.")] = 200,
          seed: int = 1) -> None:
    """Kill the materialiser again and again; compare its tables, pictures and vectors with those of a calm run.

    Example: python -m bench kills --kills 50
    """
    import logging
    import tempfile

    from bench.materialise import services, trial

    logging.getLogger("pymilvus").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, services(Path(folder)) as (calm, harried):
        verdict = trial(calm, harried, kills, seed, sites=4, times=max(5, kills // 10),
                        say=lambda told: console.print(told, markup=False))
    print(verdict, flush=True)
    if verdict.different or verdict.differs_rebuilt:
        raise typer.Exit(1)


@app.command()
def inspection(
    out: Out = BUILD,
    data: Data = None,
    photos: Annotated[int, typer.Option(min=10, help="Of each run.")] = 100,
    cameras: Annotated[int, typer.Option(min=1, help="Demo cameras of the second run; the first has none.")] = 3,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds from one photo to the next.")] = 1.0,
) -> None:
    """Time from a phone's photo to its verdict, over the embedded broker with the real models.

    Example: python -m bench inspection --photos 40 --cameras 3
    """
    from bench import inspection as measurement

    _run(lambda settings, say: measurement.measure(settings, photos, cameras, every, say), out, data)


@app.command()
def video(
    out: Out = BUILD,
    data: Data = None,
    seconds: Annotated[float, typer.Option(min=5, help="Counted in each run.")] = 20.0,
) -> None:
    """How late live video is in a browser (Chromium), passed on and blackened, and what it costs the API.

    Example: python -m bench video --seconds 10
    """
    from bench import video as measurement

    _run(lambda settings, say: measurement.measure(settings, seconds, say), out, data)


@app.command()
def load(
    out: Out = BUILD,
    data: Data = None,
    viewers: Annotated[int, typer.Option(min=1, help="On the live feed.")] = 200,
    rate: Annotated[float, typer.Option(min=1, help="Reads a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=5, help="Of each run.")] = 30.0,
    repeats: Repeats = 3,
) -> None:
    """Times of the API's reads and of its live events under many viewers, over tables with a day of rows.

    Example: python -m bench load --viewers 50 --rate 20 --seconds 10 --repeats 1
    """
    from bench import load as measurement

    _run(lambda settings, say: measurement.measure(settings, viewers, rate, seconds, repeats, say), out, data)


@app.command()
def report(
    out: Out = BUILD, page: Annotated[Path, typer.Option(help="Page whose figures are replaced.")] = PAGE
) -> None:
    """Put the figures last measured into the documentation; sections that were not measured stay as they are.

    Example: python -m bench report
    """
    whole = figures.read(out / "bench.json")
    if not whole:
        console.print(f"expected figures in {out / 'bench.json'}, found none: `make bench` takes them")
        raise typer.Exit(1)
    figures.into(page, whole)
    console.print(f"written: {page}")


def _run(work: Callable[[Settings, Callable[[str], None]], Section], out: Path, data: Path | None) -> None:
    """One measurement with its progress, kept and printed."""
    from bench.clips import Missing

    settings = Settings(**({"data": data.resolve()} if data else {}), log="warning")
    about, began = machine.about(), time.monotonic()
    with console.status("") as status:

        def say(text: str) -> None:
            status.update(f"[{time.monotonic() - began:5.0f} s] {text}")
            if not console.is_terminal:
                console.print(f"[{time.monotonic() - began:5.0f} s] {text}", markup=False)

        try:
            section = work(settings, say)
        except Missing as error:
            console.print(f"[red]{error}[/red]")
            raise typer.Exit(1) from None
    figures.keep(out / "bench.json", section, about, time.monotonic() - began)
    (out / "bench.md").write_text(figures.document(figures.read(out / "bench.json")) + "\n", encoding="utf-8")
    cores, load = about["cores"], about["load_at_start"]
    print(f"{section.markdown()}\n\n{cores} cores of {about['processor']}, load before the start {load}\n", flush=True)


if __name__ == "__main__":
    app(prog_name="python -m bench")
