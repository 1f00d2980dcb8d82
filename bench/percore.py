"""Cameras per core: our steps against a plain loop on the same clips, pass by pass in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench import clips, machine, sides
from bench.clips import Clip
from bench.figures import Figure, Section, Table
from bench.sides import SIDES, Found, Pass
from pipeline import geometry, tracks
from pipeline.settings import Settings

FPS, WIDTH = 5.0, 960
WANTED = 1.35
MATCH = 0.4  # IoU from which a detection is that face
NEAR = 0.15  # seconds between two pictures that count as one: the loops sample the same grid, rounded differently


def measure(settings: Settings, chosen: Sequence[Clip], repeats: int, say: Callable[[str], None]) -> Section:
    section = Section(
        "percore", "Cameras per core at five analysed pictures a second", "python -m bench percore",
        notes=[
            "One core, one thread a side, each side a process of its own; the passes of a round follow each other "
            "(naive, ours, ours without dedup, ours with the detector alone), so that a busy moment of the machine "
            "hits them alike. A ratio is taken within its round.",
            "*naive*: cv2.VideoCapture reads every frame; each sampled one is scaled, shown to YuNet as a frozen "
            "TensorFlow graph, and written as JPEG. *ours* does all that the live system does short of the broker: "
            "decode, scale, JPEG, digest, dedup, JPEG back, detector (the same weights in LiteRT), mask state of each "
            "face, tracks, chips, embeddings, routes, episodes, messages to bytes and back. *Detector alone* does what "
            "naive does, with our decoding and our runtime. The detector's second pass for large masked faces "
            "(docs/models.md) is in *ours* only.",
            "A ratio is of the cost of a sampled picture: where keyframes stand in for due pictures, ours may sample a "
            "few less, and that is no gain.",
            "Both sides analyse pictures of the same size. Found: people's walks through the view by the truth where "
            "there is one, else tracks of at least three looks made of what naive found.",
        ],
    )
    passes: dict[str, dict[str, list[Pass]]] = {}
    with sides.opened(SIDES, settings, machine.core(0)) as opened:
        for clip in chosen:
            kept: dict[str, list[Pass]] = {name: [] for name in SIDES}
            for number in range(-1, repeats):  # the first round warms caches and kernels, and is not counted
                for name in SIDES:
                    say(f"{clip.name}: {'warming' if number < 0 else f'round {number + 1} of {repeats}'}, {name}")
                    done = opened[name].run(clip, FPS, WIDTH)
                    if number >= 0:
                        kept[name].append(done)
            passes[clip.name] = kept
    for clip in chosen:
        _figures(section, clip, passes[clip.name])
    section.tables = [_costs(chosen, passes), _sight(chosen, passes)]
    return section


def _figures(section: Section, clip: Clip, kept: dict[str, list[Pass]]) -> None:
    def ratios(name: str, clock: str) -> list[float]:
        return [
            getattr(a, clock) / a.sampled / (getattr(b, clock) / b.sampled)
            for a, b in zip(kept["naive"], kept[name], strict=True)
        ]  # fmt: skip

    bound = f"≥ {WANTED}"
    section.figures += [
        Figure(f"{clip.name}: ours, times naive, processor time", ratios("ours", "cpu"), "×", bound),
        Figure(f"{clip.name}: the same, wall time", ratios("ours", "wall"), "×", bound),
        Figure(f"{clip.name}: ours without dedup, times naive, processor time", ratios(SIDES[2], "cpu"), "×"),
        Figure(f"{clip.name}: ours, detector alone, times naive, processor time", ratios(SIDES[3], "cpu"), "×"),
    ]


def _costs(chosen: Sequence[Clip], passes: dict[str, dict[str, list[Pass]]]) -> Table:
    rows = []
    for clip in chosen:
        for name in SIDES:
            done = passes[clip.name][name]
            cpu = float(np.median([each.cpu for each in done]))
            rows.append([
                clip.name, name, f"{clip.seconds / cpu:.1f}", f"{cpu / max(1, done[0].sampled) * 1000:.1f}",
                str(done[0].sampled), str(done[0].analysed), str(done[0].faces),
            ])  # fmt: skip
    head = ["clip", "side", "cameras per core", "ms per sampled picture", "sampled", "analysed", "faces found"]
    return Table("Cameras that one core carries (seconds of stream per second of processor time, median)", head, rows)


def _sight(chosen: Sequence[Clip], passes: dict[str, dict[str, list[Pass]]]) -> Table:
    """What each side saw, so that nothing was saved by looking away."""
    rows = []
    for clip in chosen:
        first = {name: passes[clip.name][name][0] for name in SIDES}
        truth = clip.faces()
        if truth is not None:
            wide = truth.width
            walks = [walk for walk in clips.visits(truth, clip.camera) if len(walk) >= 3]
            found = {
                name: [_walk_found(walk, done.found, done.width / wide) for walk in walks]
                for name, done in first.items()
            }
            what = "walks, by the truth"
        else:
            walks = linked(first["naive"].found)
            found = {name: [_track_found(walk, done.found) for walk in walks] for name, done in first.items()}
            what = "naive's tracks"
        for name in SIDES[1:]:
            both = sum(a and b for a, b in zip(found["naive"], found[name], strict=True))
            seen = sum(found["naive"])
            rows.append([
                clip.name, name, what, f"{seen} of {len(walks)}", f"{sum(found[name])} of {len(walks)}",
                f"{both / seen:.3f}" if seen else "–",
            ])  # fmt: skip
    head = ["clip", "side", "what is counted", "naive found", "this side found", "of naive's, this side found"]
    return Table("What was seen", head, rows)


def _walk_found(walk: list[tuple[float, object]], found: Found, scale: float) -> bool:
    """Whether anything of one walk through the view was found."""
    begin, end = walk[0][0] - NEAR, walk[-1][0] + NEAR
    times = np.array([second for second, _ in walk])
    for second, boxes in found:
        if not boxes or not begin <= second <= end:
            continue
        nearest = int(np.abs(times - second).argmin())
        if abs(times[nearest] - second) > NEAR:
            continue
        true = np.array([walk[nearest][1].box]) * scale  # type: ignore[attr-defined]
        if (geometry.iou(true, np.array(boxes)) >= MATCH).any():
            return True
    return False


def linked(found: Found, least: int = 3) -> list[list[tuple[float, tuple[float, ...]]]]:
    """Detections as tracks of at least `least` looks."""
    alive: list[tuple[tracks.Track, list[tuple[float, tuple[float, ...]]]]] = []
    done = []
    for second, boxes in found:
        at = round(second * 1e6)
        done += [looks for track, looks in alive if at - track.at > 1_500_000]
        alive = [(track, looks) for track, looks in alive if at - track.at <= 1_500_000]
        array = np.array(boxes, float).reshape(-1, 4)
        pairs = tracks.match(tuple(track for track, _ in alive), at, array, np.ones(len(array)), 0.5)
        for row, column in pairs:
            track, looks = alive[row]
            looks.append((second, tuple(boxes[column])))
            alive[row] = tracks.update(track, at, array[column]), looks
        for column in set(range(len(array))) - {column for _, column in pairs}:
            alive.append((tracks.start(f"{at}#{column}", at, array[column]), [(second, tuple(boxes[column]))]))
    done += [looks for _, looks in alive]
    return [looks for looks in done if len(looks) >= least]


def _track_found(track: list[tuple[float, tuple[float, ...]]], found: Found) -> bool:
    times = np.array([second for second, _ in track])
    for second, boxes in found:
        nearest = int(np.abs(times - second).argmin())
        if boxes and abs(times[nearest] - second) <= NEAR:
            here = np.array([track[nearest][1]])
            if (geometry.iou(here, np.array(boxes)) >= MATCH).any():
                return True
    return False
