"""The labelled faces of the development data: found by the detector, cut out with their surroundings, split by seed.

Label folders are read as they come: `with_mask` and `without_mask` of single faces, VOC boxes with three classes,
LFW portraits, which are bare faces, and a folder of unlabelled pictures, whose faces get their labels from a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import Embedder, Finder
from models.labelled import boxes_of
from models.measure import aligned, central, overlaps

SIDE = 128  # pixels a side of a kept crop
CONTEXT = 2.0  # its side as a multiple of the face's longer side: room to draw, move and turn
SPLIT = Path(__file__).parent / "split.json"  # decided once: a better detector must not move a face out of test


@dataclass(frozen=True, eq=False)
class Sample:
    """One face, or a place that is none."""

    crop: NDArray[np.uint8]  # (SIDE, SIDE, 3)
    label: str  # worn, incorrect, none, unknown; empty: nobody said
    box: NDArray[np.float32]  # (4,) of the face in the crop
    landmarks: NDArray[np.float32]  # (5, 2) in the crop; NaN where the detector found none
    pixels: float  # the face's longer side in its picture
    source: str  # folder of the data
    picture: str  # folder/name of the picture
    group: str  # what must not be torn apart by the split: a picture, a person, near-duplicates


def parts(samples: list[Sample]) -> list[str]:
    """The part each sample belongs to, as written down for its picture; the unlabelled ones can only be trained on."""
    split = json.loads(SPLIT.read_text())
    told = {picture: name for name in ("test", "valid") for picture in split[name]}
    return [told.get(each.picture, "train") for each in samples]


def cut(picture: NDArray[np.uint8], box: NDArray[np.float32], landmarks: NDArray[np.float32] | None, label: str,
        source: str, name: str, group: str) -> Sample:
    x0, y0, x1, y1 = (float(each) for each in box)
    pixels = max(x1 - x0, y1 - y0)
    scale = SIDE / (pixels * CONTEXT)
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    if scale < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
    move = np.array([[scale, 0, SIDE / 2 - scale * middle[0]], [0, scale, SIDE / 2 - scale * middle[1]]])
    crop = cv2.warpAffine(picture, move, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    points = np.full((5, 2), np.nan) if landmarks is None else (landmarks - middle) * scale + SIDE / 2
    corners = (np.array([x0, y0, x1, y1]) - np.tile(middle, 2)) * scale + SIDE / 2
    return Sample(crop, label, corners.astype(np.float32), points.astype(np.float32), pixels, source, name, group)


def pictures(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in (".jpg", ".jpeg", ".png"))


def read(path: Path) -> NDArray[np.uint8] | None:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


def folders(root: Path, finder: Finder) -> Iterator[Sample]:
    """chandrikadeb7: the best face of each picture; where none is found in a small picture, the picture is the face."""
    for name, label in (("with_mask", "worn"), ("without_mask", "none")):
        for path in pictures(root / name):
            picture = read(path)
            if picture is None:
                continue
            # faces fill these pictures: a border lets the detector see them whole
            edge = max(picture.shape[:2]) // 3
            framed = cv2.copyMakeBorder(picture, *[edge] * 4, cv2.BORDER_REPLICATE)
            found = finder(framed)
            if len(found.boxes):
                one = f"chandrikadeb7/{name}/{path.name}"
                yield cut(framed, found.boxes[0], found.landmarks[0], label, "chandrikadeb7", one, one)


def voc(root: Path, finder: Finder, embedder: Embedder | None) -> Iterator[Sample]:
    """kaggle853: every labelled face, with landmarks where the detector finds it; and what it finds that is no face."""
    names = sorted((root / "annotations").glob("*.xml"))
    by_stem = {each.stem: each for each in pictures(root / "images")}
    groups = duplicates([by_stem[each.stem] for each in names], finder, embedder)
    for name in names:
        picture = read(by_stem[name.stem])
        if picture is None:
            continue
        found, truth = finder(picture), boxes_of(name)
        one, group = f"kaggle853/{name.stem}", f"kaggle853/{groups[name.stem]}"
        taken = np.zeros(len(found.boxes), bool)
        for label, box in truth:
            like = overlaps(box, found.boxes) if len(found.boxes) else np.zeros(0)
            i = int(like.argmax()) if len(like) else -1
            if i >= 0 and like[i] > 0.4 and not taken[i]:
                yield cut(picture, found.boxes[i], found.landmarks[i], label, "kaggle853", one, group)
            elif max(box[2:] - box[:2]) >= 8:
                yield cut(picture, box, None, label, "kaggle853-unfound", one, group)
            taken |= like > 0.1
        for i in np.flatnonzero(~taken):
            if found.scores[i] < 0.6:  # a confident one is a face that nobody labelled
                yield cut(picture, found.boxes[i], found.landmarks[i], "unknown", "false-finds", one, group)
        yield from nothing(picture, [box for _, box in truth], one, group)


def nothing(picture: NDArray[np.uint8], truth: list[NDArray[np.float32]], name: str,
            group: str) -> Iterator[Sample]:
    """Places without a face."""
    chance = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    height, width = picture.shape[:2]
    for _ in range(4):
        side = float(chance.uniform(0.06, 0.35)) * min(height, width)
        x, y = chance.uniform(0, width - side), chance.uniform(0, height - side)
        box = np.array([x, y, x + side, y + side], np.float32)
        if side >= 12 and (not truth or overlaps(box, np.stack(truth)).max() < 0.02):
            yield cut(picture, box, None, "unknown", "background", name, group)


def duplicates(paths: list[Path], finder: Finder, embedder: Embedder | None) -> dict[str, str]:
    """Stem -> stem of its group: pictures that look alike or show a person who looks the same stay together."""
    parent = {each.stem: each.stem for each in paths}

    def root(stem: str) -> str:
        while parent[stem] != stem:
            stem = parent[stem]
        return stem

    thumbs, vectors, owners = [], [], []
    for path in paths:
        picture = read(path)
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (16, 16), interpolation=cv2.INTER_AREA)
        thumb = grey.astype(np.float32).ravel() - grey.mean()
        thumbs.append(thumb / max(float(np.linalg.norm(thumb)), 1e-6))
        if embedder is None:
            continue
        found = finder(picture)
        for box, points in zip(found.boxes, found.landmarks, strict=True):
            if min(box[2:] - box[:2]) >= 28:
                vectors.append(embedder(aligned(picture, points)[None])[0])
                owners.append(path.stem)
    close = np.triu(np.stack(thumbs) @ np.stack(thumbs).T > 0.93, 1)
    pairs = [(paths[a].stem, paths[b].stem) for a, b in np.argwhere(close)]
    if vectors:
        like = np.stack(vectors) @ np.stack(vectors).T
        pairs += [(owners[a], owners[b]) for a, b in np.argwhere(np.triu(like > 0.6, 1))]
    for a, b in pairs:
        parent[root(a)] = root(b)
    return {stem: root(stem) for stem in parent}


def lfw(root: Path, finder: Finder, leave: frozenset[str]) -> Iterator[Sample]:
    """LFW: the face in the middle of each portrait, bare, and masks drawn by others; `leave` names persons to leave."""
    for folder, label in (("images", "none"), ("masked", "worn")):
        for path in pictures(root / folder):
            person = path.stem.rsplit("_", 1)[0]
            picture = read(path)
            if picture is None or person in leave:
                continue
            found = finder(picture)
            i = central(found, picture.shape[1], picture.shape[0])
            if i is not None:
                yield cut(picture, found.boxes[i], found.landmarks[i], label, f"lfw-{folder}",
                          f"lfw/{folder}/{path.name}", f"lfw/{person}")


def street(root: Path, finder: Finder, embedder: Embedder, known: list[Sample]) -> Iterator[Sample]:
    """masked_street: faces without a label, but for those that look like one of `known`, which may be measured on."""
    theirs = np.stack([embedder(upright(each)[None])[0] for each in known if np.isfinite(each.landmarks).all()])
    for path in pictures(root):
        picture = read(path)
        if picture is None:
            continue
        found = finder(picture)
        one = f"masked_street/{path.name}"
        faces = [cut(picture, box, points, "", "masked_street", one, one)
                 for box, points in zip(found.boxes, found.landmarks, strict=True) if max(box[2:] - box[:2]) >= 16]
        if not any((theirs @ embedder(upright(each)[None])[0]).max() > 0.6 for each in faces):
            yield from faces


def upright(sample: Sample) -> NDArray[np.uint8]:
    return aligned(sample.crop, sample.landmarks)


def everything(data: Path, finder: Finder, doubtful: Finder, embedder: Embedder) -> list[Sample]:
    """All samples of the folders that are there. `doubtful` is the detector with a low threshold: what it finds that is
    no face is what the classifier will be shown by mistake."""
    leave: set[str] = set()
    for truth in sorted(data.glob("video/*/ground_truth.json")):  # clips are measured on, so their people stay out
        leave |= {each["id"] for each in json.loads(truth.read_text()).get("people", [])}
    samples: list[Sample] = []
    if (data / "kaggle853").is_dir():
        samples += voc(data / "kaggle853", doubtful, embedder)
    if (data / "lfw").is_dir():
        samples += lfw(data / "lfw", finder, frozenset(leave))
    if (data / "chandrikadeb7").is_dir():
        samples += folders(data / "chandrikadeb7", finder)
    if (data / "masked_street").is_dir():
        samples += street(data / "masked_street", finder, embedder,
                          [each for each, name in zip(samples, parts(samples), strict=True) if name != "train"])
    return samples
