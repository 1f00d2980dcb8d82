"""`maskwatch models eval`: what is measured of which folder, as sections of rows, one column for each set of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models import candidates, labelled, measure, registry
from models.labelled import Wrong
from models.manifest import Broken, digest
from models.measure import BARE, MASKED, Embed, Gathered, Judged, Look, Mistake, Pairs, Share
from models.predecessor import SIDE, Predecessor
from pipeline import likeness
from pipeline.mask import Looks
from pipeline.settings import Settings

FLOOR = 0.1  # finds from this score count for average precision; ours and others' alike
SIZES = [*measure.SIZES, measure.ALL]
FACES: list[tuple[str, tuple[str, ...] | None]] = [("all", None), ("masked", MASKED), ("bare", BARE)]
STATES: list[tuple[str, tuple[str, ...] | None]] = [
    ("all", None), ("worn", ("worn",)), ("incorrect", ("incorrect",)), ("none", ("none",))]


class Side(NamedTuple):
    """A set of models that is measured."""

    name: str  # short
    weights: str  # their names and content
    look: Look
    embed: Embed | None  # None: it does not tell people apart
    sure: float  # score from which a find counts as a face


class Row(NamedTuple):
    what: str
    values: tuple[str, ...]  # one of each side


@dataclass
class Section:
    """A table, and the wrong answers of each side behind it."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)  # by side


# -- whom ------------------------------------------------------------------------------------------------------------


def sides(settings: Settings, against: list[Path]) -> list[Side]:
    """What runs here, then each of the weights in `against`: ours of another making, or the predecessor's."""
    low = settings.model_copy(update={"face_score": 2 * FLOOR})
    mine = registry.load(low)
    names = ", ".join(f"{name} {sha}" for name, sha in (mine.names | mine.embed_names).items())
    out = [Side("ours", names, mine.look, mine.embed, settings.face_score)]
    for path in against:
        name = recognised(path)
        if name == "detector":
            weights, look = f"{path.name} {digest(path)[:12]}, mask state as ours", registry.looking(
                settings, candidates.other(path, FLOOR))
            out.append(Side(path.stem, weights, look, None, 0.5))
        elif name == "predecessor":
            out.append(Side("predecessor", f"{path.name} {digest(path)[:12]}", Predecessor(path, FLOOR), None, 0.5))
        else:
            other = registry.load(low, {name: path.absolute()})
            sha = (other.names | other.embed_names)[name]
            weights = f"{name} {sha}, else as ours"
            out.append(Side(f"with {path.name}", weights, other.look, other.embed, settings.face_score))
    return out


def recognised(path: Path) -> str:
    """What weights a file holds, told by their input; an ONNX file by its outputs."""
    if path.suffix == ".pb":
        return "predecessor"
    if path.suffix == ".onnx":
        if (came := candidates.outputs(path)) != candidates.CenterFace.outputs:
            raise Broken(f"{path}: expected CenterFace (outputs {', '.join(candidates.CenterFace.outputs)}), got "
                         f"outputs {', '.join(came)}; our own models are measured as .tflite")
        return "detector"
    from ai_edge_litert.interpreter import Interpreter

    try:
        shape = tuple(int(n) for n in Interpreter(model_path=str(path)).get_input_details()[0]["shape_signature"])
    except ValueError as error:
        raise Broken(f"{path}: expected a .tflite file or a frozen graph (.pb), got {error}") from None
    known = {(1, SIDE, SIDE, 3): "predecessor", (1, 64, 64, 3): "mask_state", (1, 112, 112, 3): "sface",
             (1, -1, -1, 3): "yunet", (1, 128): "face_head"}
    known |= {(1, side, side, 3): "detector" for side in candidates.BlazeFace.layers}
    if shape not in known:
        raise Broken(f"{path}: expected an input of one of {', '.join(map(str, known))}, got {shape}")
    return known[shape]


# -- what ------------------------------------------------------------------------------------------------------------


def sections(folder: Path, who: list[Side], wanted: frozenset[str] | None = None, every: int = 4, keep: bool = False
             ) -> list[Section]:
    """`wanted`: names of pictures, each starting with its folder's name, as in models/train/split.json; `every`: which
    frames of clips; `keep`: keep wrong answers as pictures."""
    out = []
    for kind, part in labelled.parts(folder):
        left: list[str] = []

        def only(name: str, part: Path = part) -> bool:
            return wanted is None or f"{part.name}/{name}" in wanted

        if kind == "pairs":
            out.append(verification(part, who, keep))
            continue
        pictures = (labelled.boxes(part, only, left) if kind == "boxes" else labelled.classes(part, only, left)
                    if kind == "classes" else labelled.clips(part, every))
        gathered = measure.gather(pictures, [(side.look, side.sure) for side in who], keep)
        if not gathered[0].faces:
            raise Wrong(f"{part}: expected labelled faces, found none"
                        + (" of those that were asked for" if wanted is not None else ""))
        made = [finding(part, gathered) if kind != "classes" else filling(part, gathered), *judging(part, gathered)]
        if left:
            made[0].notes.append(f"{len(left)} without a picture that can be read were left out: {', '.join(left[:5])}")
        if kind == "clips":
            made[0].notes.append(f"Each {every}th frame. Frames of a clip are alike: the intervals of shares are too "
                                 "narrow, those of average precision and calibration count two seconds as one.")
        for side, each in zip(who, gathered, strict=True):
            made[0].mistakes[side.name] = each.mistakes
        out += made
    return out


Count = Callable[[list[Judged], tuple[str, ...] | None, tuple[float, float]], Share]


def by_size(what: str, gathered: list[Gathered], share: Count, kinds: list[tuple[str, tuple[str, ...] | None]]
            ) -> list[Row]:
    """A row for each kind of face and size of which there is any."""
    rows = []
    for name, truth in kinds:
        for low, high in SIZES:
            shares = [share(each.faces, truth, (low, high)) for each in gathered]
            if any(each.all for each in shares):
                size = f"≥ {low:g} px" if high > 10_000 else f"{low:g}–{high:g} px"
                rows.append(Row(f"{what}: {name}, {size}", tuple(map(str, shares))))
    return rows


def finding(folder: Path, gathered: list[Gathered]) -> Section:
    """Detection on labelled boxes."""
    section = Section(f"{folder.name}: finding faces ({len(gathered[0].groups)} pictures)")
    areas = tuple(str(measure.average(each)) for each in gathered)
    section.rows.append(Row("average precision at IoU 0.5, all faces", areas))
    section.rows += by_size("found", gathered, measure.recall, FACES)
    said = [sum(f.score >= g.sure for f in g.finds) for g in gathered]
    section.rows.append(Row("finds that are labelled faces", tuple(
        str(Share(max(n - g.false, 0), n)) for n, g in zip(said, gathered, strict=True))))
    return section


def filling(folder: Path, gathered: list[Gathered]) -> Section:
    """Detection where the face fills the picture and has no box."""
    section = Section(f"{folder.name}: finding faces ({len(gathered[0].groups)} pictures of one face)")
    for name, truth in FACES:
        section.rows.append(Row(f"a face found: {name}", tuple(
            str(measure.recall(g.faces, truth, (0, 1e9))) for g in gathered)))
    return section


def judging(folder: Path, gathered: list[Gathered]) -> list[Section]:
    """Mask state of the faces that were found."""
    section = Section(f"{folder.name}: mask state of the faces found")
    section.rows += by_size("right", gathered, measure.accuracy, STATES)
    section.rows.append(Row("right: worn and none, ≥ 40 px", tuple(
        str(measure.accuracy(g.faces, ("worn", "none"), (40, 1e9))) for g in gathered)))
    for state in ("worn", "incorrect", "none"):
        section.rows.append(Row(f"right when {state} is said", tuple(
            str(measure.precision(g.faces, state)) for g in gathered)))
    for what, i in (("given an answer, not unknown", 0), ("right, of those given an answer", 1)):
        section.rows.append(Row(what, tuple(str(measure.answered(g.faces)[i]) for g in gathered)))
    section.rows.append(Row("found and right, of all labelled", tuple(str(measure.whole(g.faces)) for g in gathered)))
    section.rows.append(Row("expected calibration error", tuple(str(measure.calibration(g.faces)) for g in gathered)))
    section.rows.append(Row("the same, of answers that are not unknown", tuple(
        str(measure.calibration(g.faces, answers=True)) for g in gathered)))
    out = [section]
    if len(gathered) > 1:
        common = Section(f"{folder.name}: mask state of the faces that every side found")
        all_found = [all(g.faces[i].found for g in gathered) for i in range(len(gathered[0].faces))]
        both = [[f for f, there in zip(g.faces, all_found, strict=True) if there] for g in gathered]
        for name, truth in STATES:
            common.rows.append(Row(f"right: {name}", tuple(str(measure.accuracy(faces, truth)) for faces in both)))
        common.rows.append(Row("expected calibration error", tuple(str(measure.calibration(f)) for f in both)))
        out.append(common)
    return out


def verification(folder: Path, who: list[Side], keep: bool) -> Section:
    """Same person or not."""
    section = Section(f"{folder.name}: one person or two")
    able = [(side, measure.Portraits(certain(side.look, side.sure / 2), side.embed)) for side in who if side.embed]
    told = labelled.pairs(folder)
    kinds = [("bare and bare", "images", "images", 0)]
    if any((folder / "masked" / pair.b).is_file() for pair in told):
        kinds.append(("bare and masked", "images", "masked", 1))
    if all((folder / "masked" / name).is_file() for pair in told for name in (pair.a, pair.b)):
        kinds.append(("masked and masked", "masked", "masked", 2))
    for kind, first, second, masks in kinds:
        made: list[Pairs | None] = []
        for side in who:
            mine = next((portraits for one, portraits in able if one is side), None)
            made.append(measure.pairs(folder, mine, first, second, keep) if mine else None)
            if made[-1] is not None and keep:
                section.mistakes.setdefault(side.name, []).extend(
                    each._replace(kind=f"{kind}: {each.kind}") for each in made[-1].mistakes)

        def row(what: str, say: Callable[[Pairs], object], made: list[Pairs | None] = made) -> Row:
            return Row(what, tuple("–" if each is None or not len(each.scores) else str(say(each)) for each in made))

        section.rows.append(row(f"{kind}: told rightly", measure.verified))
        for rate, name in ((1e-2, "1 in 100"), (1e-3, "1 in 1,000")):
            section.rows.append(row(f"{kind}: accepted at {name} false", lambda each, rate=rate: " above cosine ".join(
                (str((found := measure.accepted(each, rate))[0]), f"{found[1]:.3f}"))))
        for rate, name in ((1e-2, "1 in 100"), (1e-3, "1 in 1,000")):
            cosine = likeness.threshold(rate, masks)
            for whose, i in (("one person's", 0), ("strangers'", 1)):
                section.rows.append(row(f"{kind}: {whose} above the product's {cosine:.3f} for {name}",
                                        lambda each, cosine=cosine, i=i: measure.at(each, cosine)[i]))
        section.rows.append(row(f"{kind}: pairs without a face found", lambda each: each.missing))
    return section


def certain(look: Look, least: float) -> Look:
    """Only finds of at least `least`."""

    def seen(picture: NDArray[np.uint8]) -> Looks:
        all_of = look(picture)
        return Looks(*(each[all_of.scores >= least] for each in all_of))

    return seen


def show(made: list[Section], who: list[Side], console: Console) -> None:
    for section in made:
        names = [side.name for side in who] if len(who) > 1 else ["share, 95 % interval"]
        table = Table("", *names, title=section.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for row in section.rows:
            table.add_row(row.what, *row.values)
        console.print(table)
        for note in section.notes:
            console.print(note)
        console.print()
