"""What the models do on labelled pictures: detection, mask state, verification, each share with its 95 % interval.

A folder is read by what it holds: `images/` + `annotations/` (VOC boxes), `with_mask/` + `without_mask/` (one face a
picture), or `pairs.csv` + `images/` (same person or not).
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import Found
from pipeline.mask import Looks
from pipeline.messages import STATES

Look = Callable[[NDArray[np.uint8]], Looks]
VOC = {"with_mask": "worn", "mask_weared_incorrect": "incorrect", "without_mask": "none"}
SIZES = ((16, 24), (24, 40), (40, 80), (80, 100_000))  # pixels of a face's longer side


class Share(NamedTuple):
    """`right` of `all`."""

    right: int
    all: int

    def __str__(self) -> str:
        if not self.all:
            return "–"
        low, high = interval(self.right, self.all)
        return f"{100 * self.right / self.all:.1f} % [{100 * low:.1f}–{100 * high:.1f}] of {self.all}"


def interval(right: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * ((share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5)
    return max(middle - half, 0.0), min(middle + half, 1.0)


class Judged(NamedTuple):
    """One labelled face and what the models made of it."""

    truth: str  # worn, incorrect, none
    pixels: float  # longer side of the labelled box
    found: bool
    states: NDArray[np.float32] | None  # (4,) where it was found
    picture: str

    @property
    def said(self) -> str:
        return STATES[int(self.states.argmax())] if self.states is not None else ""


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of one box with each of (N, 4)."""
    common = np.prod(np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return (common / np.maximum(area - common, 1e-6)).astype(np.float32)


def matched(truth: list[tuple[str, NDArray[np.float32]]], boxes: NDArray[np.float32], least: float = 0.4) -> list[int]:
    """For each labelled box the found one that is it, or -1; best overlap first, none used twice."""
    out = [-1] * len(truth)
    if not len(boxes) or not truth:
        return out
    like = np.stack([overlaps(box, boxes) for _, box in truth])
    while like.max() >= least:
        i, j = (int(k) for k in np.unravel_index(int(like.argmax()), like.shape))
        out[i] = j
        like[i, :] = -1
        like[:, j] = -1
    return out


def boxes_of(annotation: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """(state, box) of each face of a VOC file."""
    out = []
    for each in ET.parse(annotation).iter("object"):  # noqa: S314
        name = each.findtext("name", "")
        if name not in VOC:
            raise ValueError(f"{annotation}: expected one of {', '.join(VOC)}, got {name!r}")
        corners = [float(each.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
        out.append((VOC[name], np.array(corners, np.float32)))
    return out


class Boxes(NamedTuple):
    """What `voc` gathers."""

    faces: list[Judged]
    finds: list[tuple[float, bool]]  # each found face: score, is it a labelled one at IoU 0.5
    precision: float  # average precision at IoU 0.5 over all labelled faces


def voc(folder: Path, look: Look, only: Callable[[str], bool] = lambda _: True) -> Boxes:
    """images/ + annotations/; `only` chooses pictures by their stem."""
    images = {each.stem: each for each in (folder / "images").iterdir()}
    faces: list[Judged] = []
    finds: list[tuple[float, bool]] = []
    for annotation in sorted((folder / "annotations").glob("*.xml")):
        if not only(annotation.stem) or annotation.stem not in images:
            continue
        picture = cv2.imread(str(images[annotation.stem]), cv2.IMREAD_COLOR)
        seen, truth = look(picture), boxes_of(annotation)
        for (state, box), j in zip(truth, matched(truth, seen.boxes), strict=True):
            pixels = float(max(box[2:] - box[:2]))
            faces.append(Judged(state, pixels, j >= 0, seen.states[j] if j >= 0 else None, annotation.stem))
        strict = set(matched(truth, seen.boxes, 0.5)) - {-1}
        finds += [(float(score), j in strict) for j, score in enumerate(seen.scores)]
    return Boxes(faces, finds, average(finds, len(faces)))


def average(finds: list[tuple[float, bool]], count: int) -> float:
    """Average precision: the area under precision over recall."""
    order = sorted(finds, key=lambda each: -each[0])
    hits = np.cumsum([hit for _, hit in order]) if order else np.zeros(0)
    precision = hits / np.arange(1, len(order) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * [hit for _, hit in order]).sum() / max(count, 1)) if order else 0.0


def single(folder: Path, look: Look, only: Callable[[str], bool] = lambda _: True) -> list[Judged]:
    """with_mask/ + without_mask/: the most certain face of each picture. A border is put round it, since faces fill
    these pictures to the edge; `only` chooses by folder/name."""
    faces = []
    for name, state in (("with_mask", "worn"), ("without_mask", "none")):
        for path in sorted((folder / name).iterdir()):
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if only(f"{name}/{path.name}") else None
            if picture is None:
                continue
            edge = max(picture.shape[:2]) // 3
            seen = look(cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_REPLICATE))
            there = len(seen.boxes) > 0
            pixels = float(max(seen.boxes[0, 2:] - seen.boxes[0, :2])) if there else 0.0
            faces.append(Judged(state, pixels, there, seen.states[0] if there else None, f"{name}/{path.name}"))
    return faces


def accuracy(faces: list[Judged], truth: str | None = None, sizes: tuple[float, float] = (16, 1e9)) -> Share:
    """Found faces whose state is right."""
    those = [f for f in faces if f.found and truth in (None, f.truth) and sizes[0] <= f.pixels < sizes[1]]
    return Share(sum(f.said == f.truth for f in those), len(those))


def answered(faces: list[Judged], sizes: tuple[float, float] = (16, 1e9)) -> tuple[Share, Share]:
    """Found faces that are not `unknown` (which is neither a breach nor its absence), and of those the right ones."""
    found = [f for f in faces if f.found and sizes[0] <= f.pixels < sizes[1]]
    those = [f for f in found if f.said != "unknown"]
    return Share(len(those), len(found)), Share(sum(f.said == f.truth for f in those), len(those))


def recall(faces: list[Judged], truth: str | None = None, sizes: tuple[float, float] = (16, 1e9)) -> Share:
    """Labelled faces that were found."""
    those = [f for f in faces if truth in (None, f.truth) and sizes[0] <= f.pixels < sizes[1]]
    return Share(sum(f.found for f in those), len(those))


def precision(faces: list[Judged], state: str, sizes: tuple[float, float] = (16, 1e9)) -> Share:
    """Faces called `state` that are."""
    those = [f for f in faces if f.said == state and sizes[0] <= f.pixels < sizes[1]]
    return Share(sum(f.truth == state for f in those), len(those))


def calibration(faces: list[Judged], bins: int = 10) -> float:
    """Expected calibration error of the state that is said, found faces from 16 pixels."""
    those = [f for f in faces if f.states is not None and f.pixels >= 16]
    if not those:
        return 0.0
    stated = np.array([float(f.states.max()) for f in those if f.states is not None])
    right = np.array([f.said == f.truth for f in those])
    which = np.minimum((stated * bins).astype(int), bins - 1)
    used = [which == b for b in set(which.tolist())]
    return float(sum(abs(stated[inside].mean() - right[inside].mean()) * inside.mean() for inside in used))


class Pairs(NamedTuple):
    """What `pairs` gathers."""

    scores: NDArray[np.float32]  # (N,) cosine
    same: NDArray[np.bool_]
    missing: int  # pairs in which a face was not found


TEMPLATE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32)


def aligned(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(112, 112, 3): eyes, nose and mouth where SFace expects them."""
    move, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
    if move is None:
        return np.zeros((112, 112, 3), np.uint8)
    return cv2.warpAffine(picture, move, (112, 112), flags=cv2.INTER_LINEAR)


def central(found: Found | Looks, width: int, height: int) -> int | None:
    """The face nearest to the middle of a portrait."""
    if not len(found.boxes):
        return None
    middle = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - [width / 2, height / 2]
    return int(np.abs(middle).max(axis=1).argmin())


def pairs(folder: Path, find: Callable[[NDArray[np.uint8]], Found | Looks],
          embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]], second: str = "images") -> Pairs:
    """pairs.csv (a, b, same) + images/; `second`: the folder of `b`, such as the pictures with drawn masks."""
    kept: dict[Path, NDArray[np.float32] | None] = {}

    def vector(path: Path) -> NDArray[np.float32] | None:
        if path not in kept:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            found = find(picture) if picture is not None else None
            i = central(found, picture.shape[1], picture.shape[0]) if found is not None else None
            kept[path] = None if found is None or i is None else embed(aligned(picture, found.landmarks[i])[None])[0]
        return kept[path]

    scores, same, missing = [], [], 0
    with (folder / "pairs.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            a, b = vector(folder / "images" / row["a"]), vector(folder / second / row["b"])
            if a is None or b is None:
                missing += 1
            else:
                scores.append(float(a @ b))
                same.append(row["same"] == "1")
    return Pairs(np.array(scores, np.float32), np.array(same), missing)


def verified(measured: Pairs, folds: int = 10) -> Share:
    """Pairs told rightly, each tenth with the threshold that is best on the others."""
    order = np.arange(len(measured.scores)) % folds
    right = 0
    for fold in range(folds):
        inside = order == fold
        tried = np.unique(measured.scores[~inside])
        scores, same = measured.scores[~inside], measured.same[~inside]
        best = max(tried, key=lambda t: int(((scores >= t) == same).sum()))
        right += int(((measured.scores[inside] >= best) == measured.same[inside]).sum())
    return Share(right, len(measured.scores))


def accepted(measured: Pairs, rate: float) -> tuple[Share, float]:
    """Same-person pairs accepted at the threshold at which `rate` of the others are; and that threshold."""
    others = np.sort(measured.scores[~measured.same])[::-1]
    threshold = float(others[min(int(rate * len(others)), len(others) - 1)]) if len(others) else 1.0
    mine = measured.scores[measured.same]
    return Share(int((mine > threshold).sum()), len(mine)), threshold
