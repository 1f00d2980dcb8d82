"""Dedup is never worse than even sampling that keeps as many pictures. Counts, not times."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import clips, sampling
from bench.sampling import Film, Outcome
from infra.demo import portraits, site
from models import fakes
from pipeline import pictures
from pipeline.messages import Frame
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


def compared(film: Film, settings: Settings) -> tuple[Outcome, Outcome]:
    everything, ours, even = sampling.compare(film, settings, judged=False)
    assert everything.told == everything.tracks == 1
    assert abs(ours.kept - even.kept) < 0.01
    print(f"\n{film.name}\n  ours {ours}\n  even {even}")
    return ours, even


def test_somebody_crossing_an_empty_room(make_walk: Callable[..., list[Frame]], plain: Settings) -> None:
    frames = make_walk("cam", 0.0, 8.0, 1, lambda t: "worn") + make_walk("cam", 30.0, 6.0, 2, lambda t: "none")
    film = Film("walks", tuple(frames), tuple(fakes.look(pictures.decode(frame.jpeg)) for frame in frames))
    ours, even = compared(film, plain)
    assert ours.kept < 0.85
    assert ours.told == ours.faces == ours.tracks == 1
    assert even.faces < 0.9


@pytest.mark.slow
def test_the_demo(plain: Settings) -> None:
    """The truth stands in for the detector, so that this says something about the choice of pictures alone."""
    folder = ROOT / "data" / "demo"
    portraits.fetch(folder / "pictures")
    site.render(folder, 60, plain.seed)
    films = [sampling.film(clip, None) for clip in clips.demo(ROOT / "data")]
    films += [sampling.panned(films[0], None), sampling.panned(films[0], None, pause=8.0)]
    for film in films:
        ours, even = compared(film, plain)
        for name in ("told", "faces", "tracks", "walks", "states"):
            assert getattr(ours, name) >= getattr(even, name), f"{film.name}: {name}"
    still = [compared(film, plain)[0] for film in films[:3]]
    assert max(ours.kept for ours in still) < 0.6
    assert min(ours.told for ours in still) > 0.93
    assert min(ours.walks or 0 for ours in still) == 1
