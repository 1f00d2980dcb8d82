"""Milliseconds of each step, on the way of one clip through the whole flow in one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench import machine
from bench.clips import Clip
from bench.figures import Figure, Section, Table
from bench.percore import FPS, WIDTH
from pipeline.settings import Settings


def measure(settings: Settings, chosen: Sequence[Clip], repeats: int, say: Callable[[str], None]) -> Section:
    from bench.stopwatch import STEPS

    section = Section(
        "steps", "What a picture costs, step by step", "python -m bench steps",
        notes=[
            "One process on one core; the processor time of the thread around each step, without what is nested in "
            "it. Dedup is on, so the steps after it are reached by fewer pictures than those before; ms per picture is "
            "over all sampled pictures, ms per call over the calls.",
            "*The rest* is what is in no step: reading the file, the loop itself, the clock around each call.",
        ],
    )
    for clip in chosen:
        runs = []
        for number in range(repeats):
            say(f"{clip.name}: round {number + 1} of {repeats}")
            runs.append(_process(settings, clip))
        sampled = runs[0]["sampled"]
        rows = []
        for name in STEPS:
            calls = runs[0]["steps"][name][0]
            seconds = Figure(name, [run["steps"][name][1] for run in runs]).median
            rows.append([
                name, f"{calls / sampled:.2f}", f"{seconds / max(1, calls) * 1000:.3f}",
                f"{seconds / sampled * 1000:.3f}",
                f"{seconds / Figure('', [run['cpu'] for run in runs]).median:.1%}",
            ])  # fmt: skip
        rest = [run["cpu"] - sum(seconds for _, seconds in run["steps"].values()) for run in runs]
        whole = [run["cpu"] / sampled * 1000 for run in runs]
        middle = Figure("", rest).median
        rows.append(["the rest", "", "", f"{middle / sampled * 1000:.3f}",
                     f"{middle / Figure('', [run['cpu'] for run in runs]).median:.1%}"])  # fmt: skip
        section.figures.append(Figure(f"{clip.name}: a sampled picture in all", whole, "ms"))
        head = ["step", "calls per picture", "ms per call", "ms per picture", "share"]
        about = f"{clip.name}: {sampled} sampled pictures, {runs[0]['analysed']} analysed, {runs[0]['faces']} faces"
        section.tables.append(Table(about, head, rows))
    return section


def _process(settings: Settings, clip: Clip) -> dict[str, object]:
    """One run in a process of its own, so that the timed functions are nowhere else."""
    asked = {
        "settings": settings.model_dump(mode="json", include={"data"}), "name": clip.name, "path": str(clip.path),
        "rate": clip.rate, "seconds": clip.seconds, "core": machine.core(0),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.steps", json.dumps(asked)], capture_output=True, text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"a run of {clip.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def _main() -> None:
    from pathlib import Path

    asked = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {asked["core"]})
    from bench import sides, stopwatch
    from models import registry

    settings = Settings(data=Path(asked["settings"]["data"]), log="warning")
    watch = stopwatch.install(settings)
    clip = Clip(asked["name"], Path(asked["path"]), "", rate=asked["rate"], seconds=asked["seconds"])
    before = watch.read()
    done = sides.ours(clip, FPS, WIDTH, settings, registry.load(settings))
    after = watch.read()
    steps = {
        name: [calls - before.get(name, (0, 0.0))[0], s - before.get(name, (0, 0.0))[1]]
        for name, (calls, s) in after.items()
    }
    print(json.dumps({"cpu": done.cpu, "sampled": done.sampled, "analysed": done.analysed, "faces": done.faces,
                      "steps": steps}))  # fmt: skip


if __name__ == "__main__":
    _main()
