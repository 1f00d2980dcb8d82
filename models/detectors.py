"""`maskwatch models detectors`: ours in several settings, and others', on the same pictures in one run, with cost.

Detectors score by scales of their own. So each is also measured at the score at which it has as many false finds as
ours has at its own (finds that are no labelled face); that is where recall can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models import measure, registry
from models.candidates import AtLeast, BlazeFace, CenterFace, Enlarged, Find, Tiled
from models.face import Finder, Found
from models.labelled import Labelled
from models.manifest import checked
from models.measure import BARE, MASKED, Gathered, Share
from models.predecessor import Predecessor
from models.runtime import Choice, Network, bfloat16
from pipeline.mask import Looks
from pipeline.messages import STATES
from pipeline.settings import Settings

FLOOR = 0.1  # as report.FLOOR
SIZES = ((16, 24), (24, 40), (40, 1e9))
TIMED = ((640, 360), (1920, 1080))  # width and height of the pictures that are timed
ROUNDS = 7


class Entry(NamedTuple):
    name: str
    find: Find
    sure: float  # score from which its makers, or we, call it a face


@dataclass
class Result:
    """What one detector made of the pictures."""

    entry: Entry
    looks: list[Looks] = field(default_factory=list)
    own: Gathered = field(default_factory=lambda: Gathered(0.5))  # at its own score
    even: Gathered = field(default_factory=lambda: Gathered(0.5))  # at the score with as many false finds as ours
    cost: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # ms of processor time, by size


def entries(settings: Settings, others: dict[str, Path], predecessor: Path | None = None) -> list[Entry]:
    """Ours first. `others`: candidates by name, as fetch.candidates gives them."""
    weights = checked(settings.data / "models", "yunet")[0]
    network, score = Network(weights), settings.face_score
    ours, plain = Finder(network, FLOOR), Finder(network, FLOOR, short=0)
    out = [
        Entry("YuNet, as it runs", ours, score),
        Entry("YuNet, as they come", plain, score),
        Entry("YuNet, at least 640", AtLeast(plain, 640), score),
        Entry("YuNet, at least 640, one pass", AtLeast(Finder(network, FLOOR, short=0, coarse=0), 640), score),
        Entry("YuNet, at least 1024", AtLeast(plain, 1024), score),
        Entry("YuNet, at least 1280", AtLeast(plain, 1280), score),
        Entry("YuNet, × 1.5", Enlarged(Finder(network, FLOOR, short=0, long=10_000), 1.5), score),
        Entry("YuNet, whole and 2 × 2 tiles", Tiled(AtLeast(plain, 640)), score),
    ]
    if bfloat16() and "centerface" in others:  # OpenVINO is what CenterFace needs too
        out.append(Entry("YuNet, OpenVINO bf16",
                         Finder(registry.detector(weights, Choice("openvino", "bf16", "")), FLOOR), score))
    for name, path in others.items():
        if name == "centerface":
            out += [Entry("CenterFace, as they come", CenterFace(path, FLOOR), 0.5),
                    Entry("CenterFace, at least 640", CenterFace(path, FLOOR, 640), 0.5)]
            if bfloat16():
                out.append(Entry("CenterFace, at least 640, bf16", CenterFace(path, FLOOR, 640, "bf16"), 0.5))
        else:
            out.append(Entry(name.replace("blazeface_", "BlazeFace, "), BlazeFace(path, FLOOR), 0.5))
    if predecessor:
        look = Predecessor(predecessor, FLOOR)
        out.append(Entry("the predecessor's SSD", lambda picture: Found(*look(picture)[:3]), 0.5))
    return out


def run(pictures: Iterable[Labelled], who: list[Entry], say: Callable[[str], None] = lambda text: None
        ) -> list[Result]:
    """Every detector on every picture, then on pictures of TIMED sizes in turn. One thread."""
    cv2.setNumThreads(1)
    results, seen, some = [Result(entry) for entry in who], [], []
    for number, each in enumerate(pictures):
        say(f"picture {number + 1}")
        seen.append(each._replace(picture=each.picture[:0]))
        if number % 10 == 0 and len(some) < 6:
            some.append(each.picture)
        for result in results:
            found = result.entry.find(each.picture)
            states = np.zeros((len(found.boxes), len(STATES)), np.float32)
            result.looks.append(Looks(*found, states))
    for result in results:
        result.own = gathered(seen, result.looks, result.entry.sure)
        result.even = gathered(seen, result.looks, even(result.own, results[0].own))
    for size in TIMED:
        say(f"timing {size[0]}×{size[1]}")
        shown = [filled(picture, size) for picture in some]
        for turn in range(-1, ROUNDS):  # the first builds kernels
            for result in results:
                began = time.process_time()
                for picture in shown:
                    result.entry.find(picture)
                if turn >= 0:
                    result.cost.setdefault(size, []).append((time.process_time() - began) * 1000 / len(shown))
    return results


def gathered(seen: list[Labelled], looks: list[Looks], sure: float) -> Gathered:
    out = Gathered(sure)
    for each, look in zip(seen, looks, strict=True):
        out.take(look, each)
    return out


def even(of: Gathered, ours: Gathered) -> float:
    """The score at which `of` has as many finds that are no labelled face as ours has at its own."""
    allowed = sum(not find.hit and find.score >= ours.sure for find in ours.finds)
    false = sorted((find.score for find in of.finds if not find.hit), reverse=True)
    return float(np.nextafter(np.float32(false[allowed]), np.float32(2))) if allowed < len(false) else FLOOR


def filled(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture enlarged until it fills (width, height), its middle."""
    times = max(size[0] / picture.shape[1], size[1] / picture.shape[0])
    large = cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    y, x = max(large.shape[0] - size[1], 0) // 2, max(large.shape[1] - size[0], 0) // 2
    part = large[y:y + size[1], x:x + size[0]]
    return np.ascontiguousarray(cv2.resize(part, size))  # type: ignore[return-value]


def table(results: list[Result]) -> tuple[list[str], list[list[str]]]:
    """Head and rows; recall is at even false finds, except in the column that says so."""
    head = ["detector", "AP at IoU 0.5", "own score: recall ≥ 16 px", "false finds", "even: score", "recall ≥ 16 px"]
    head += [f"{name} {low}–{high}" if high < 1e6 else f"{name} ≥ {low}"
             for name in ("masked", "bare") for low, high in SIZES]
    head += [f"ms {width}×{height}" for width, height in TIMED]
    rows = []
    for result in results:
        own, level = result.own, result.even
        rows.append([
            result.entry.name, brief(measure.average(own)), brief(measure.recall(own.faces)),
            str(sum(not find.hit and find.score >= own.sure for find in own.finds)), f"{level.sure:.2f}",
            brief(measure.recall(level.faces)),
            *(brief(measure.recall(level.faces, kind, size)) for kind in (MASKED, BARE) for size in SIZES),
            *(f"{np.median(result.cost[size]):.1f} ({min(result.cost[size]):.1f}–{max(result.cost[size]):.1f})"
              for size in TIMED),
        ])  # fmt: skip
    return head, rows


def brief(figure: Share | measure.Figure) -> str:
    """With its interval, without how many there are."""
    if isinstance(figure, measure.Figure):
        return f"{figure.value:.3f} [{figure.low:.3f}–{figure.high:.3f}]"
    if not figure.all:
        return "–"
    low, high = measure.interval(figure.right, figure.all)
    return f"{100 * figure.value:.1f} [{100 * low:.0f}–{100 * high:.0f}]"


def counts(results: list[Result]) -> str:
    """How many labelled faces each column of `table` is of."""
    faces = results[0].own.faces
    parts = [f"{name} {measure.recall(faces, kind, size).all} from {size[0]} px"
             for name, kind in (("masked", MASKED), ("bare", BARE)) for size in SIZES]
    return f"{len(results[0].looks)} pictures; faces: {', '.join(parts)}"
