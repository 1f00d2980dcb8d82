"""How wide a camera's pictures are, by what is seen in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipeline import detail
from pipeline.detail import BASE, EVERY, SECOND, Choice, Detail, Look

START = 1_700_000_000_000_000
DIGESTS = [np.full(64 * 36, level, np.uint8).tobytes() for level in (90, 90)]
MOVING = [np.random.default_rng(seed).integers(0, 255, 64 * 36, np.uint8).tobytes() for seed in (1, 2)]
Scene = Callable[[float], Sequence[float]]  # second -> the faces' longer sides in pixels of a 1920 picture
LEAST = 12.0  # pixels a face must have in the picture to be found


class Run:
    """A camera and the stages behind it: faces of at least LEAST pixels are found, and told `lag` seconds later."""

    def __init__(self, source: int = 1920, lag: float = 0.6, fps: float = 5.0, moving: bool = True) -> None:
        self.source, self.lag, self.fps, self.moving = source, lag, fps, moving
        self.detail, self.at, self.number = Detail(), START, 0
        self.taken: list[tuple[float, Choice, str]] = []
        self.coming: list[Look] = []

    def run(self, seconds: float, scene: Scene, load: float = 0.0) -> list[tuple[float, Choice, str]]:
        """The choices of these seconds."""
        first = len(self.taken)
        for _ in range(round(seconds * self.fps)):
            second = (self.at - START) / SECOND
            while self.coming and self.coming[0].at <= self.at - self.lag * SECOND:
                self.detail = detail.hear(self.detail, self.coming.pop(0))
            self.detail, choice = detail.choose(self.detail, self.at, self.source, load)
            digest = (MOVING if self.moving else DIGESTS)[self.number % 2]
            self.detail = detail.taken(self.detail, digest, 10.0)
            self.taken.append((second, choice, self.detail.why))
            sizes = tuple(size / 1920 for size in scene(second) if size * choice.width / 1920 >= LEAST)
            self.coming.append(Look(self.at, choice.width, sizes))
            self.at += round(SECOND / self.fps)
            self.number += 1
        return self.taken[first:]

    @property
    def width(self) -> int:
        return self.detail.width


def widths(taken: list[tuple[float, Choice, str]]) -> list[int]:
    """Those in use one after the other, without the probes."""
    plain = [choice.width for _, choice, _ in taken if not choice.probe]
    return [width for i, width in enumerate(plain) if not i or plain[i - 1] != width]


def probes(taken: list[tuple[float, Choice, str]]) -> list[float]:
    return [second for second, choice, _ in taken if choice.probe]


@pytest.mark.parametrize(
    ("source", "there", "usual"),
    [
        (1920, (640, 960, 1280, 1920), 960),
        (3840, (640, 960, 1280, 1920), 960),
        (1600, (640, 960, 1280, 1600), 960),
        (960, (640, 960), 960),
        (704, (640, 704), 704),
        (353, (352,), 352),
    ],
)
def test_no_width_is_above_the_stream(source: int, there: tuple[int, ...], usual: int) -> None:
    assert detail.steps(source) == there
    assert detail.base(source) == usual


@pytest.mark.parametrize(("pixels", "width"), [(24, 1920), (30, 1920), (40, 1280), (50, 960), (200, 960), (320, 640)])
def test_the_narrowest_width_that_shows_the_smaller_faces_well_is_taken(pixels: int, width: int) -> None:
    run = Run()
    run.run(120, lambda second: [pixels])
    assert run.width == width
    assert run.detail.why == "faces"
    shown = detail.smaller(run.detail) * run.width
    assert shown == pytest.approx(pixels * width / 1920, rel=0.05)


def test_faces_that_are_not_found_at_the_usual_width_are_found_within_seconds() -> None:
    run = Run()
    taken = run.run(60, lambda second: [22] if second >= 30 else [])
    assert widths(taken) == [960, 1920]
    wide = next(second for second, choice, _ in taken if choice.width == 1920 and not choice.probe)
    assert wide - 30 <= EVERY / SECOND + 3  # at worst the next probe, and one that confirms it


def test_faces_that_the_usual_width_just_shows_are_confirmed_at_once() -> None:
    run = Run()
    taken = run.run(50, lambda second: [30] if second >= 41.5 else [])  # 15 pixels at 960
    wide = next(second for second, choice, _ in taken if choice.width == 1920 and not choice.probe)
    assert wide - 41.5 <= 4


def test_one_look_decides_nothing() -> None:
    run = Run()
    taken = run.run(120, lambda second: [25] if second < 0.5 else [])
    assert widths(taken) == [960]


def test_few_small_faces_among_many_decide_nothing() -> None:
    run = Run()
    taken = run.run(120, lambda second: [100] * 12 + [24])
    assert widths(taken) == [960]
    run = Run()
    run.run(120, lambda second: [100] * 7 + [24])
    assert run.width == 1920


def test_faces_that_no_width_would_help_ask_for_none() -> None:
    run = Run()
    assert widths(run.run(120, lambda second: [13, 14])) == [960]


def test_sizes_at_the_edge_of_a_step_do_not_flap() -> None:
    noise = np.random.default_rng(7)
    run = Run()
    taken = run.run(600, lambda second: [float(48 * noise.uniform(0.85, 1.15)) for _ in range(2)])
    assert len(widths(taken)) <= 3


def test_people_who_come_near_make_it_narrower_only_after_a_while() -> None:
    run = Run()
    run.run(60, lambda second: [25])
    assert run.width == 1920
    taken = run.run(1200, lambda second: [100])
    assert widths(taken)[-1] == 960
    narrower = [second for second, choice, _ in taken if choice.width < 1920]
    assert narrower[0] >= 60 + 60  # the small ones were there a minute ago


def test_where_nobody_is_seen_the_usual_width_comes_back_and_probes_stay() -> None:
    run = Run(moving=False)
    run.run(30, lambda second: [25])
    assert run.width == 1920
    taken = run.run(900, lambda second: [])
    assert widths(taken) == [1920, 960]
    back = next(second for second, choice, _ in taken if choice.width == 960)
    assert 590 <= back - 30 <= 610
    assert taken[-1][2] == "nobody"
    assert 3 <= len(probes(taken)) <= 6  # one a minute in a still view
    run.run(100, lambda second: [25])
    assert run.width == 1920


def test_probes_are_few() -> None:
    run = Run()
    taken = run.run(600, lambda second: [60, 80])
    assert widths(taken) == [960]
    assert 28 <= len(probes(taken)) <= 34
    doubtful = Run()  # small ones among many: each look raises doubt
    taken = doubtful.run(600, lambda second: [100] * 20 + [30])
    assert widths(taken) == [960]
    assert 28 <= len(probes(taken)) <= 34


def test_a_stream_no_wider_than_the_usual_width_is_never_probed() -> None:
    for source in (320, 640, 960):
        run = Run(source=source)
        taken = run.run(100, lambda second: [40])
        assert probes(taken) == []
        assert {choice.width for _, choice, _ in taken} == {min(source, BASE)}


def test_pictures_become_narrower_before_any_is_lost_and_wider_again_when_it_is_calm() -> None:
    run = Run()
    run.run(30, lambda second: [25])
    assert run.width == 1920
    taken = run.run(10, lambda second: [25], load=0.6)
    assert widths(taken) == [1280, 960, 640]
    assert probes(taken) == []
    assert taken[-1][2] == "behind"
    taken = run.run(20, lambda second: [25], load=0.4)  # better, but not easy yet
    assert widths(taken) == [640]
    taken = run.run(100, lambda second: [25])
    assert widths(taken) == [640, 960, 1280, 1920]
    assert taken[-1][2] == "faces"
    assert next(second for second, choice, _ in taken if choice.width == 960) >= 29.8 + 60


def test_a_load_that_comes_back_is_met_with_ever_longer_patience() -> None:
    run = Run()
    run.run(30, lambda second: [25])
    changes = []
    for _ in range(3000):  # what is too much for the machine is every width above 960
        before = run.width
        run.run(0.2, lambda second: [25], load=0.6 if run.width > 960 else 0.1)
        if run.width != before:
            changes.append(run.number / 5)
    assert len([at for at in changes if at > 300]) <= 4
    assert len(changes) <= 14


def test_another_stream_of_the_camera_keeps_what_is_known_of_its_faces() -> None:
    run = Run()
    run.run(30, lambda second: [25])
    run.source = 1280
    run.run(1, lambda second: [25])
    assert run.width == 1280
    run.source = 1920
    run.run(5, lambda second: [25])
    assert run.width == 1920


def test_the_same_looks_give_the_same_choices() -> None:
    def once() -> list[tuple[float, Choice, str]]:
        noise = np.random.default_rng(3)
        run = Run()
        return run.run(300, lambda second: noise.uniform(14, 90, int(noise.integers(0, 4))).tolist())

    assert once() == once()


def test_a_wider_stream_is_asked_for_where_the_one_in_use_shows_small_faces() -> None:
    """A sub-stream of 960 pixels is open, the main one has 1920."""
    now, at = Detail(), START
    for _ in range(20):
        now, choice = detail.choose(now, at, 960, reach=1920)
        assert (choice.width, choice.probe, now.width) == (960, False, 960)
        now = detail.hear(now, Look(at, choice.width, (15 / 960,)))
        at += SECOND
    assert (now.fit, now.why) == (1920, "faces")
    now, choice = detail.choose(now, at, 1920, reach=960)  # it was opened
    assert choice == Choice(1920)
    for _ in range(1000):
        now, choice = detail.choose(now, at, 1920, reach=960)
        at += SECOND
    assert (now.fit, now.why) == (960, "nobody")  # the sub-stream would do
