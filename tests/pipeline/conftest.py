"""Frames by hand: coloured rectangles that models.fakes takes for faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import pytest

from models import fakes
from pipeline import pictures
from pipeline.messages import Frame
from pipeline.settings import Settings

START = 1_700_000_000_000_000  # µs


def frame(camera: str, seconds: float, people: Iterable[tuple], **more: object) -> Frame:
    """`people`: (box, state, person) each."""
    picture = fakes.empty(640, 360)
    for box, state, person in people:
        fakes.draw(picture, box, state, person)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    digest = cv2.resize(grey, (64, 36), interpolation=cv2.INTER_AREA).tobytes()
    return Frame(camera, START + round(seconds * 1e6), width=640, height=360, jpeg=pictures.encode(picture, 95),
                 digest=digest, **more)  # type: ignore[arg-type]


def walker(camera: str, start: float, seconds: float, person: int, state: Callable[[float], str],
           fps: float = 5.0, **more: object) -> list[Frame]:
    """Somebody crosses the picture from left to right; then the picture is empty for three seconds."""
    frames = []
    for i in range(round((seconds + 3) * fps)):
        t = i / fps
        x = 40 + 500 * t / seconds
        people = [((x, 120, x + 64, 184), state(t), person)] if t < seconds else []
        frames.append(frame(camera, start + t, people, **more))
    return frames


@pytest.fixture
def plain() -> Settings:
    """Settings as they come, untouched by the environment."""
    return Settings(audit=0.0)


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    return frame


@pytest.fixture
def make_walk() -> Callable[..., list[Frame]]:
    return walker
