"""Frames by hand: coloured rectangles that models.fakes takes for faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2

from models import fakes
from pipeline import pictures
from pipeline.messages import Frame

START = 1_700_000_000_000_000  # µs


class Models:
    """What models.registry.load() gives, without weights."""

    def __init__(self) -> None:
        self.look, self.embed = fakes.look, fakes.embed
        self.names, self.embed_names = {"look": "000000000000"}, {"embed": "111111111111"}


def frame(camera: str, seconds: float, people: Iterable[tuple], start: int = START, **more: object) -> Frame:
    """`people`: (box, state, person) each."""
    picture = fakes.empty(640, 360)
    for box, state, person in people:
        fakes.draw(picture, box, state, person)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    digest = cv2.resize(grey, (64, 36), interpolation=cv2.INTER_AREA).tobytes()
    return Frame(camera, start + round(seconds * 1e6), width=640, height=360, jpeg=pictures.encode(picture, 95),
                 digest=digest, **more)  # type: ignore[arg-type]


def walk(camera: str, begin: float, seconds: float, person: int, state: Callable[[float], str], fps: float = 5.0,
         **more: object) -> list[Frame]:
    """Somebody crosses the picture from left to right; then the picture is empty for three seconds."""
    frames = []
    for i in range(round((seconds + 3) * fps)):
        t = i / fps
        x = 40 + 500 * t / seconds
        people = [((x, 120, x + 64, 184), state(t), person)] if t < seconds else []
        frames.append(frame(camera, begin + t, people, **more))
    return frames


def visit(start: int = START, site: str = "site", seconds: float = 38) -> list[Frame]:
    """Two cameras for `seconds`: somebody without a mask walks from the door to the hall and puts one on there;
    somebody else comes later; both streams end."""
    door = {"place": (0.0, 0.0), "start": start, "site": site}
    hall = {"place": (15.0, 0.0), "start": start, "site": site}
    names = [name if site == "site" else f"{site}-{name}" for name in ("door", "hall")]
    come = {name: {f.at: f for f in frames} for name, frames in {
        names[0]: [*walk(names[0], 0, 5, 1, lambda t: "none", **door),
                   *walk(names[0], 30, 5, 4, lambda t: "worn", **door)],
        names[1]: walk(names[1], 12, 6, 1, lambda t: "none" if t < 2 else "worn", **hall),
    }.items()}
    frames = []
    for i in range(round(seconds * 5)):
        for name, where in zip(names, (door, hall), strict=True):
            at = start + i * 200_000
            frames.append(come[name].get(at) or frame(name, i / 5, [], **where))
    end = start + round(seconds * 1e6)
    return [*frames, *(Frame(name, end, site=site, ended=True) for name in names)]
