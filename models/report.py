"""The measures of a labelled folder as tables: `maskwatch models eval`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models import measure, registry
from models.measure import Judged
from pipeline.mask import Looks
from pipeline.settings import Settings

PIXELS = [*measure.SIZES, (16, 100_000)]


def show(folder: Path, settings: Settings, wanted: frozenset[str] | None = None) -> None:
    """Prints; `wanted`: names of pictures, each starting with the folder's own name, as in models/train/split.json."""
    models = registry.load(settings)
    console = Console()
    names = models.names | models.embed_names
    console.print(f"{folder.name}: " + ", ".join(f"{name} {sha}" for name, sha in names.items()))

    def look(picture: NDArray[np.uint8]) -> Looks:
        """Only what counts as a face: the stages are also given weaker finds, to carry tracks on."""
        seen = models.look(picture)
        sure = seen.scores >= settings.face_score
        return Looks(*(each[sure] for each in seen))

    def only(name: str) -> bool:
        return wanted is None or f"{folder.name}/{name}" in wanted

    if (folder / "annotations").is_dir():
        boxes = measure.voc(folder, look, only)
        console.print(f"average precision at IoU 0.5, all labelled faces: {boxes.precision:.3f}")
        console.print(sizes("labelled faces found", boxes.faces, measure.recall))
        states(console, boxes.faces)
    elif (folder / "with_mask").is_dir():
        faces = measure.single(folder, look, only)
        console.print(f"pictures with a face found: {measure.Share(sum(f.found for f in faces), len(faces))}")
        states(console, faces)
    elif (folder / "pairs.csv").is_file():
        console.print(verification(folder, models))
    else:
        raise ValueError(f"{folder}: expected images/ + annotations/, with_mask/ + without_mask/, or pairs.csv")


def states(console: Console, faces: list[Judged]) -> None:
    console.print(sizes("found faces with the right state", faces, measure.accuracy))
    table = Table("said", *(f"is {state}" for state in ("worn", "incorrect", "none")), "right when said (≥ 16 px)")
    for said in ("worn", "incorrect", "none", "unknown"):
        counts = [sum(f.said == said and f.truth == truth and f.pixels >= 16 for f in faces)
                  for truth in ("worn", "incorrect", "none")]
        table.add_row(said, *map(str, counts), "" if said == "unknown" else str(measure.precision(faces, said)))
    console.print(table)
    given, right = measure.answered(faces)
    console.print(f"≥ 16 px: given an answer, not unknown: {given}; of those right: {right}")
    console.print(f"expected calibration error, found faces ≥ 16 px: {100 * measure.calibration(faces):.1f} %")


Measure = Callable[[list[Judged], str | None, tuple[float, float]], measure.Share]


def sizes(title: str, faces: list[Judged], share: Measure) -> Table:
    table = Table("pixels", "all", "worn", "incorrect", "none", title=title)
    for low, high in PIXELS:
        name = f"≥ {low}" if high > 10_000 else f"{low}–{high}"
        table.add_row(name, *(str(share(faces, truth, (low, high))) for truth in (None, "worn", "incorrect", "none")))
    return table


def verification(folder: Path, models: registry.Models) -> Table:
    table = Table("pairs", "told rightly", "accepted at 1 in 100 false", "at 1 in 1,000", "no face found")
    kinds = [("bare and bare", "images")]
    if (folder / "masked").is_dir():
        kinds.append(("bare and drawn mask", "masked"))
    for kind, second in kinds:
        measured = measure.pairs(folder, models.look, models.embed, second)
        rates = [measure.accepted(measured, rate) for rate in (1e-2, 1e-3)]
        table.add_row(kind, str(measure.verified(measured)),
                      *(f"{share} above {threshold:.3f}" for share, threshold in rates), str(measured.missing))
    return table
