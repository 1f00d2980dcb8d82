"""`maskwatch cameras`: what each camera should be doing, what it is doing, and one look at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.messages import Camera, Source
    from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Add, change, start, stop, remove and try cameras, while workers run.")

Names = Annotated[list[str], typer.Argument(help="Camera ids.", show_default=False)]
Subs = Annotated[list[str] | None, typer.Option("--sub", help="Address of a smaller stream of the same camera.")]
SubWidth = Annotated[int, typer.Option(help="Width of the smaller stream, pixels; 0 = not known.")]
Name = Annotated[str | None, typer.Option(help="What people call it.")]
Site = Annotated[str | None, typer.Option(help="Site id.")]
Fps = Annotated[float | None, typer.Option(help=r"Pictures analysed a second. \[new camera: 5]")]
Width = Annotated[str | None, typer.Option(
    metavar="auto|PIXELS", help=r"Width of the analysed picture; auto: as its faces need it. \[new camera: auto]")]
Private = Annotated[str | None, typer.Option(help="anonymous, pseudonymous or enrolled.")]
Place = Annotated[str | None, typer.Option(help="EAST,NORTH: metres on the site plan.")]
Direction = Annotated[float | None, typer.Option(help="Where it looks, degrees clockwise from north.")]
View = Annotated[float | None, typer.Option(help="How wide it looks, degrees.")]
Loop = Annotated[bool | None, typer.Option("--loop/--once", help="A file starts again at its end, like a camera.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def add(
    camera: Annotated[str | None, typer.Argument(help="Its id: a-z, 0-9 and -.")] = None,
    url: Annotated[
        list[str] | None, typer.Argument(help="rtsp:// rtmp:// http(s)://, a file, a folder of images, /dev/videoN.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--from", help="A site file with several cameras.")] = None,
    sub: Subs = None,
    sub_width: SubWidth = 0,
    name: Name = None,
    site: Site = None,
    fps: Fps = None,
    width: Width = None,
    privacy: Private = None,
    place: Place = None,
    direction: Direction = None,
    view: View = None,
    loop: Loop = None,
    stopped: Annotated[bool, typer.Option("--stopped", help="Add it, but do not start it.")] = False,
) -> None:
    """Add a camera, or all of a site file; a worker takes it up within a second or two.

    Example: maskwatch cameras add entrance rtsp://viewer:secret@10.0.0.7/main --sub rtsp://10.0.0.7/sub --place 2,14.5

    Example: CAMERA_PASSWORD=secret maskwatch cameras add --from infra/cameras.yaml
    """
    import os

    from agents import cameras as topic
    from pipeline import cameras
    from pipeline.messages import Camera

    with _told() as settings:
        if file is not None:
            if camera:
                raise ValueError(f"expected either --from or a camera, got both: {file} and {camera}")
            wanted = cameras.load(file.read_text(encoding="utf-8"), os.environ, file.name)
            wanted = tuple(_here(each) for each in wanted)
        else:
            if not camera or not (url or sub):
                raise ValueError("expected an id and an address, or --from with a site file; see --help")
            new = Camera(camera, cameras.sources(url or (), sub or (), sub_width), running=not stopped)
            given = _given(name, site, fps, width, privacy, place, direction, view, loop)
            wanted = (_here(_changed(new, given)),)
        there = topic.wishes(settings)
        known = [each.camera for each in wanted if each.camera in there and there[each.camera] != each]
        if known:
            raise ValueError(f"expected new cameras, got some that are there: {', '.join(known)}; `edit` changes them")
        topic.want(settings, wanted)
    typer.echo(f"added: {', '.join(each.camera for each in wanted)}")


@app.command()
def edit(
    camera: Annotated[str, typer.Argument(help="Its id.")],
    url: Annotated[list[str] | None, typer.Option("--url", help="Its new address; the smaller streams stay.")] = None,
    sub: Subs = None,
    sub_width: SubWidth = 0,
    name: Name = None,
    site: Site = None,
    fps: Fps = None,
    width: Width = None,
    privacy: Private = None,
    place: Place = None,
    direction: Direction = None,
    view: View = None,
    loop: Loop = None,
) -> None:
    """Change what is given and leave the rest; other cameras are not touched.

    Example: maskwatch cameras edit entrance --fps 2 --privacy anonymous
    """
    from pipeline import cameras

    given = _given(name, site, fps, width, privacy, place, direction, view, loop)
    _alter([camera], given, "edited", cameras.sources(url or (), sub or (), sub_width))


@app.command()
def start(camera: Names) -> None:
    """Start cameras that were stopped, and recordings that have ended.

    Example: maskwatch cameras start entrance corridor
    """
    _alter(camera, {"running": True}, "started")


@app.command()
def stop(camera: Names) -> None:
    """Stop cameras; they stay known.

    Example: maskwatch cameras stop entrance
    """
    _alter(camera, {"running": False}, "stopped")


@app.command()
def rm(camera: Names) -> None:
    """Remove cameras. What they have shown stays as long as its retention says.

    Example: maskwatch cameras rm entrance
    """
    from agents import cameras as topic

    with _told() as settings:
        _all_there(camera, topic.wishes(settings))
        topic.remove(settings, camera)
    typer.echo(f"removed: {', '.join(camera)}")


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """What each camera should be doing, and what it is doing. Passwords are not shown.

    Example: maskwatch cameras list --json
    """
    from datetime import UTC, datetime

    from agents import cameras as topic
    from pipeline.cameras import shown

    with _told() as settings:
        wishes, statuses = topic.wishes(settings), topic.statuses(settings)
    now = datetime.now(UTC).timestamp()
    rows: list[dict[str, Any]] = []
    for name, wish in wishes.items():
        row = {**shown(wish), "state": "waiting for a worker", "status": None}
        if (status := statuses.get(name)) is not None:
            age = now - status.at / 1e6
            row["status"] = {field: getattr(status, field) for field in status.__struct_fields__}
            row["state"] = status.state if age < topic.SILENT else f"no word for {age:.0f} s"
        rows.append(row)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        typer.echo("no cameras; `maskwatch cameras add` adds one")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    heads = (
        "camera", "site", "wanted", "state", "since", "fps in", "analysed", "dropped", "size", "analysed at", "source",
        "error",
    )  # fmt: skip
    table = Table(*heads)
    for row in rows:
        status = row["status"] or {}
        table.add_row(
            row["camera"],
            row["site"],
            "running" if row["running"] else "stopped",
            row["state"],
            datetime.fromtimestamp(status["since"] / 1e6, UTC).strftime("%d %b %H:%M:%S") if status else "",
            f"{status.get('fps_in', 0):.1f}",
            f"{status.get('fps_analysed', 0):.1f} of {row['fps']:g}",
            str(status.get("dropped", 0)),
            f"{status['width']}×{status['height']}" if status.get("width") else "",
            _at(status),
            escape(status.get("url") or (row["sources"][0]["url"] if row["sources"] else "")),
            escape(status.get("error", "")),
        )
    Console(width=None if Console().is_terminal else 200).print(table)


def _at(status: dict[str, Any]) -> str:
    """The width in use, and why it is this one."""
    face = f" ({status['analysed_face']:.0f} px)" if status.get("analysed_face") else ""
    why = {
        "set": "as set", "nobody": "auto: nobody seen", "faces": f"auto: smaller faces{face}",
        "behind": "auto: cannot keep up",
    }.get(status.get("analysed_why", ""), "")  # fmt: skip
    return f"{status['analysed_width']}, {why}" if status.get("analysed_width") else ""


@app.command("test")
def look(
    camera: Annotated[str, typer.Argument(help="A camera's id, or any address or file.")],
    out: Annotated[Path | None, typer.Option(help=r"Where the picture goes. \[default: <id>.jpg]")] = None,
    as_json: AsJson = False,
) -> None:
    """Take one picture and say what was found; each source is tried in the order in which a worker would.

    Example: maskwatch cameras test rtsp://viewer:secret@10.0.0.7/main --out look.jpg
    """
    from agents import cameras as topic
    from agents import video
    from pipeline import capture, detail
    from pipeline.messages import Camera, Source

    with _told() as settings:
        if "://" in camera or Path(camera).exists():
            wish = Camera("look", (Source(camera),))
        else:
            wish = _all_there([camera], topic.wishes(settings))[0]
        tried = []
        width = wish.width or detail.BASE
        for source in capture.choose(wish.sources, width, wish.prefer):
            try:
                with video.open(source.url, wish.fps, width=width, start=0) as opened:
                    at, picture = next(iter(opened))
                    frame = capture.frame(wish, at, picture, settings.jpeg_quality)
                    break
            except video.SourceError as error:
                tried.append(str(error))
        else:
            raise video.SourceError("\n".join(tried))
        out = out or Path(f"{wish.camera}.jpg")
        out.write_bytes(frame.jpeg)
    found = {
        "source": opened.public,
        "codec": opened.codec,
        "width": frame.source_width,
        "height": frame.source_height,
        "fps": round(opened.rate, 2),
        "analysed": f"{frame.width}×{frame.height}",
        "picture": str(out),
        "failed": tried,
    }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for failed in tried:
        typer.echo(f"! {failed}", err=True)
    typer.echo(
        f"{found['source']}: {found['codec']}, {found['width']}×{found['height']}, {found['fps']:g} pictures a second; "
        f"analysed at {found['analysed']}; see {out}"
    )


def _given(
    name: str | None,
    site: str | None,
    fps: float | None,
    width: str | None,
    privacy: str | None,
    place: str | None,
    direction: float | None,
    view: float | None,
    loop: bool | None,
) -> dict[str, Any]:
    from pipeline import cameras

    given: dict[str, Any] = {
        field: value
        for field, value in {
            "name": name, "site": site, "fps": fps, "privacy": privacy,
            "direction": direction, "view": view, "loop": loop,
        }.items()
        if value is not None
    }  # fmt: skip
    if privacy is not None and privacy not in cameras.PRIVACIES:
        expected = ", ".join(cameras.PRIVACIES)
        raise typer.BadParameter(f"expected one of {expected}, got {privacy!r}", param_hint="--privacy")
    if width is not None:
        try:
            given["width"] = cameras.width(width)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--width") from None
    if place is not None:
        try:
            east, north = (float(part) for part in place.split(","))
        except ValueError:
            raise typer.BadParameter(
                f"expected EAST,NORTH in metres, as 2,14.5, got {place!r}", param_hint="--place"
            ) from None
        given["place"] = (east, north)
    return given


def _changed(camera: Camera, given: dict[str, Any]) -> Camera:
    from msgspec.structs import replace

    return replace(camera, **given)


def _here(camera: Camera) -> Camera:
    """A path that exists here is written whole: a worker may stand in another folder."""
    from msgspec.structs import replace

    whole = tuple(
        replace(source, url=str(Path(source.url).resolve()))
        if "://" not in source.url and Path(source.url).exists()
        else source
        for source in camera.sources
    )
    return replace(camera, sources=whole)


def _alter(names: list[str], given: dict[str, Any], done: str, sources: tuple[Source, ...] = ()) -> None:
    from agents import cameras as topic

    new = {source.kind for source in sources}
    with _told() as settings:
        found = _all_there(names, topic.wishes(settings))
        if sources:  # main streams replace main streams, smaller ones smaller ones
            given = {**given, "sources": (*sources, *(s for s in found[0].sources if s.kind not in new))}
        topic.want(settings, [_here(_changed(camera, given)) for camera in found])
    typer.echo(f"{done}: {', '.join(names)}")


def _all_there(names: list[str], there: dict[str, Camera]) -> list[Camera]:
    missing = [name for name in names if name not in there]
    if missing:
        raise LookupError(f"expected {', '.join(there) or 'no camera at all'}; got {', '.join(missing)}")
    return [there[name] for name in names]


@contextmanager
def _told() -> Iterator[Settings]:
    """A fault that a person can mend is said in words, with exit code 1; any other keeps its traceback."""
    from kafka.errors import KafkaError

    from pipeline.capture import public
    from pipeline.settings import Settings

    try:
        yield Settings()
    except (OSError, ValueError, LookupError, KafkaError) as error:
        typer.echo(public(str(error) or type(error).__name__), err=True)
        raise typer.Exit(1) from None
