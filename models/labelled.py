"""Labelled folders of four formats, read into one form: pictures with the faces that are known to be on them.

A folder is told by what it holds, its name does not matter; one that holds several of these is read one by one.
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import scoring

FORMATS = """\
  images/ + annotations/    pictures and Pascal VOC files (*.xml) of the same names, whose objects are called
                            with_mask, without_mask or mask_weared_incorrect
  with_mask/, without_mask/ one face a picture (mask_weared_incorrect/ may be there too)
  pairs.csv + images/       columns a, b, same (1 or 0): names of pictures; in masked/ the same names with masks
  ground_truth.json + *.mp4 clips, and the faces on their frames"""

NAMES = {"with_mask": "worn", "mask_weared_incorrect": "incorrect", "without_mask": "none"}
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
CLIPS = (".mp4", ".mkv", ".avi", ".mov")
BLOCK = 2.0  # seconds of a clip that count as one thing seen when intervals are drawn: its frames are alike

Only = Callable[[str], bool]  # chooses pictures by their name in the folder, without ending in the VOC format


class Wrong(ValueError):
    """The folder is not what it has to be; says what it is and what was expected."""


class Truth(NamedTuple):
    """A labelled face."""

    state: str  # worn, incorrect, none
    box: NDArray[np.float32] | None  # (4,) pixels; None: it is the only face of the picture
    asked: bool = True  # False: hardly to be seen, or changing; neither demanded nor held against anybody


class Labelled(NamedTuple):
    """A picture with its labels."""

    name: str
    group: str  # what is alike: resampled together
    picture: NDArray[np.uint8]
    faces: tuple[Truth, ...]


def kind(folder: Path) -> str:
    """boxes, classes, pairs, clips; empty: none of them."""
    if (folder / "annotations").is_dir() and (folder / "images").is_dir():
        return "boxes"
    if any((folder / name).is_dir() for name in NAMES):
        return "classes"
    if (folder / "pairs.csv").is_file():
        return "pairs"
    return "clips" if (folder / "ground_truth.json").is_file() else ""


def parts(folder: Path) -> list[tuple[str, Path]]:
    """The folder, or the folders in it, with their kinds. Raises Wrong where there are none."""
    if kind(folder):
        return [(kind(folder), folder)]
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir()]
    found = [(kind(each), each) for each in inside if kind(each)]
    if not found:
        holds = ", ".join(sorted(each.name + "/" * each.is_dir() for each in folder.iterdir())[:8]) or "nothing"
        raise Wrong(f"{folder}: expected a labelled folder of one of these formats, or some of them in it:\n{FORMATS}\n"
                    f"it holds {holds}")
    return found


def pictures(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in PICTURES)


def read(path: Path) -> NDArray[np.uint8] | None:
    """None where there is no picture that can be read."""
    return cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None  # type: ignore[return-value]


def everything(_: str) -> bool:
    return True


def boxes(folder: Path, only: Only = everything, left: list[str] | None = None) -> Iterator[Labelled]:
    """images/ + annotations/; `left` gathers what had to be left out: labels without a picture that can be read."""
    images = {each.stem: each for each in pictures(folder / "images")}
    files = sorted((folder / "annotations").glob("*.xml"))
    if not files:
        raise Wrong(f"{folder / 'annotations'}: expected Pascal VOC files (*.xml), found none")
    for annotation in files:
        if not only(annotation.stem):
            continue
        faces = tuple(boxes_of(annotation))
        picture = read(images[annotation.stem]) if annotation.stem in images else None
        if picture is not None:
            yield Labelled(annotation.stem, annotation.stem, picture, tuple(Truth(*face) for face in faces))
        elif left is not None:
            left.append(annotation.name)


def boxes_of(annotation: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """(state, box) of each face of a VOC file."""
    try:
        objects = list(ET.parse(annotation).iter("object"))  # noqa: S314
    except ET.ParseError as error:
        raise Wrong(f"{annotation}: expected a Pascal VOC file, got bad XML: {error}") from None
    out = []
    for each in objects:
        name = each.findtext("name", "").strip()
        if name not in NAMES:
            raise Wrong(f"{annotation}: expected one of {', '.join(NAMES)}, got {name!r}")
        try:
            corners = [float(each.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise Wrong(f"{annotation}: expected a bndbox of xmin, ymin, xmax and ymax for each object") from None
        out.append((NAMES[name], np.array(corners, np.float32)))
    return out


def classes(folder: Path, only: Only = everything, left: list[str] | None = None) -> Iterator[Labelled]:
    """with_mask/ + without_mask/. A border is put round each picture, since faces fill them to the edge."""
    for name, state in NAMES.items():
        if not (folder / name).is_dir():
            continue
        for path in pictures(folder / name):
            one = f"{name}/{path.name}"
            if not only(one):
                continue
            picture = read(path)
            if picture is None:
                if left is not None:
                    left.append(one)
            else:
                edge = max(picture.shape[:2]) // 3
                framed = cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
                yield Labelled(one, one, framed, (Truth(state, None),))  # type: ignore[arg-type]


def clips(folder: Path, every: int = 4) -> Iterator[Labelled]:
    """ground_truth.json + clips: each `every`th frame of each."""
    try:
        truth = scoring.read(folder / "ground_truth.json")
    except (ValueError, KeyError, TypeError) as error:
        raise Wrong(f"{folder / 'ground_truth.json'}: expected the truth of clips, got {error}") from None
    found = {each.stem: each for each in sorted(folder.iterdir()) if each.suffix.lower() in CLIPS}
    for camera, frames in truth.frames.items():
        path = found.get(camera) or next((found[stem] for stem in found if camera.endswith(f"-{stem}")), None)
        if path is None:
            raise Wrong(f"{folder}: expected {camera}.mp4, found {', '.join(sorted(p.name for p in found.values()))}")
        capture, number = cv2.VideoCapture(str(path)), -1
        while capture.grab():
            number += 1
            if number % every:
                continue
            there, picture = capture.retrieve()
            if not there:
                break
            ratio = np.float32(picture.shape[1] / truth.width)
            faces = tuple(Truth(f.state, np.array(f.box, np.float32) * ratio, f.visible and not f.changing)
                          for f in frames.get(number, ()))
            block = f"{camera}/{int(number / truth.fps / BLOCK)}"
            yield Labelled(f"{camera} {number / truth.fps:.1f} s", block, picture, faces)  # type: ignore[arg-type]
        capture.release()


class Pair(NamedTuple):
    """Two names of pictures; `same`: of one person."""

    a: str
    b: str
    same: bool


def pairs(folder: Path) -> list[Pair]:
    """pairs.csv."""
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"a", "b", "same"} <= set(rows.fieldnames or ()):
            raise Wrong(f"{folder / 'pairs.csv'}: expected the columns a, b, same, got "
                        + ", ".join(rows.fieldnames or ["nothing"]))
        told = []
        for row in rows:
            if row["same"] not in ("0", "1"):
                where = f"line {rows.line_num} has {row['same']!r}"
                raise Wrong(f"{folder / 'pairs.csv'}: expected same to be 1 or 0, {where}")
            told.append(Pair(row["a"], row["b"], row["same"] == "1"))
    if not any(pair.same for pair in told) or all(pair.same for pair in told):
        raise Wrong(f"{folder / 'pairs.csv'}: expected pairs of one person (1) and of two (0), got only one of these")
    if not (folder / "images").is_dir():
        raise Wrong(f"{folder}: expected images/ beside pairs.csv")
    return told
