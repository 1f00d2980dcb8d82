"""Makes models/weights/face_head.tflite, the linear step after the face embedding that makes masks matter less.

    python -m models.train.face_head DATA --models data/models

DATA/lfw holds portraits of people, several of some of them. Masks are drawn on them as models/train/draw.py does, and
the step is what makes pictures of one person, masked or not, lie closest against how far people lie apart (within-class
covariance normalisation: Hatch, Kajarekar and Stolcke, Interspeech 2006). Prints what it is worth on people left out,
and the table of pipeline/likeness.py.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models import measure
from models.face import Embedder, Finder
from models.runtime import Network
from models.train import draw, gather

HERE = Path(__file__).parent
# How much of a round covariance is added: the step is then carefuller the fewer people it was made from.
ROUND = 1.0
RATES = (1e-2, 1e-3, 1e-4)
BARE, MASKED = ("bare", "far"), ("worn", "incorrect", "theirs")
Vectors = NDArray[np.float64]


class Faces(NamedTuple):
    """Embeddings of portraits. Kinds: bare; far (64 pixels); worn, incorrect (64 pixels, drawn by us); theirs (drawn
    by others, whole size)."""

    vectors: Vectors  # (N, D) of length 1
    kind: NDArray[np.str_]
    picture: NDArray[np.str_]

    @property
    def person(self) -> NDArray[np.str_]:
        return np.array([name.rsplit("_", 1)[0] for name in self.picture])

    def of(self, chosen: NDArray[np.bool_]) -> Faces:
        return Faces(*(each[chosen] for each in self))


class Head(NamedTuple):
    mean: Vectors  # (D,)
    turn: Vectors  # (D, D)

    def __call__(self, vectors: Vectors) -> Vectors:
        moved = (vectors - self.mean) @ self.turn
        return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)


def fit(faces: Faces) -> Head:
    """From all kinds but `theirs`, which is kept to measure on."""
    faces = faces.of(faces.kind != "theirs")
    _, who = np.unique(faces.person, return_inverse=True)
    middle = np.zeros((who.max() + 1, faces.vectors.shape[1]))
    np.add.at(middle, who, faces.vectors)
    rest = faces.vectors - (middle / np.bincount(who)[:, None])[who]
    within = rest.T @ rest / len(rest)
    values, axes = np.linalg.eigh(within + ROUND * np.trace(within) / len(within) * np.eye(len(within)))
    return Head(faces.vectors.mean(axis=0), axes / np.sqrt(values))


def cosines(faces: Faces, first: Sequence[str], second: Sequence[str]) -> tuple[Vectors, Vectors]:
    """Of every two different pictures of one person, and of every two people."""
    a, b = faces.of(np.isin(faces.kind, first)), faces.of(np.isin(faces.kind, second))
    like = a.vectors @ b.vectors.T
    other = a.picture[:, None] != b.picture[None]
    if tuple(first) == tuple(second):
        other &= np.tri(*like.shape, -1, dtype=bool)
    same = a.person[:, None] == b.person[None]
    return like[same & other], like[~same]


def read(data: Path, folder: Path) -> Faces:
    """Finds, draws and embeds; about five minutes."""
    finder, embed = Finder(Network(folder / "yunet_f32.tflite"), 0.3), Embedder(Network(folder / "sface_int8.tflite"))
    rows: list[tuple[NDArray[Any], str, str]] = []

    def add(picture: NDArray[np.uint8], kind: str, name: str) -> tuple[Any, Any] | None:
        found = finder(picture)
        i = measure.central(found, picture.shape[1], picture.shape[0])
        if i is None:
            return None
        rows.append((embed(measure.aligned(picture, found.landmarks[i])[None])[0], kind, name))
        return found.boxes[i], found.landmarks[i]

    for path in gather.pictures(data / "lfw" / "images"):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        seen = add(picture, "bare", path.name)
        if seen is None:
            continue
        small = gather.cut(picture, *seen, "none", "lfw", path.name, path.name)
        add(small.crop, "far", path.name)
        chance = np.random.default_rng(zlib.crc32(path.name.encode()))
        for state in ("worn", "incorrect"):
            add(draw.mask(small.crop, small.landmarks, chance, state), state, path.name)
        if (data / "lfw" / "masked" / path.name).is_file():
            add(cv2.imread(str(data / "lfw" / "masked" / path.name), cv2.IMREAD_COLOR), "theirs", path.name)
    vectors, kinds, names = zip(*rows, strict=True)
    return Faces(np.stack(vectors).astype(np.float64), np.array(kinds), np.array(names))


def table(faces: Faces) -> list[str]:
    """For no, one and two masked faces: share of one person's pairs accepted at each rate, and the cosine for it."""
    lines = []
    for name, first, second in (("bare, bare", BARE, BARE), ("bare, masked", BARE, MASKED),
                                ("masked, masked", MASKED, MASKED), ("bare, theirs", ("bare",), ("theirs",)),
                                ("theirs, theirs", ("theirs",), ("theirs",))):
        mine, others = cosines(faces, first, second)
        at = [float(np.quantile(others, 1 - rate)) for rate in RATES]
        shares = [measure.Share(int((mine > each).sum()), len(mine)) for each in at]
        steep, even = line(mine, others)
        told = [f"{share} above {each:.3f}" for share, each in zip(shares, at, strict=True)]
        lines.append(f"{name:15} {'  '.join(told)}  steep {steep:.1f} even {even:.3f}")
    return lines


def line(mine: Vectors, others: Vectors) -> tuple[float, float]:
    """Log odds = steep × (cosine − even), when one person and two are as likely beforehand: logistic regression."""
    chance = np.random.default_rng(1)
    others = chance.choice(others, min(len(others), 200_000), replace=False)
    x, y = np.concatenate([mine, others]), np.concatenate([np.ones(len(mine)), np.zeros(len(others))])
    weight = np.where(y == 1, 0.5 / len(mine), 0.5 / len(others))
    given = np.stack([x, np.ones_like(x)], axis=1)
    told = np.array([20.0, -6.0])
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(given @ told, -40, 40)))
        slope = given.T @ (weight * (y - p))
        curve = (given * (weight * p * (1 - p))[:, None]).T @ given + 1e-9 * np.eye(2)
        told = told + np.clip(np.linalg.solve(curve, slope), -8, 8)
    return float(told[0]), float(-told[1] / told[0])


def export(head: Head) -> bytes:
    """(1, D) embedding of length 1 -> (1, D), not normalised, as .tflite."""
    import tensorflow as tf

    kernel = tf.constant(head.turn.astype(np.float32))
    bias = tf.constant((-head.mean @ head.turn).astype(np.float32)[None])

    @tf.function(input_signature=[tf.TensorSpec([1, len(head.mean)], tf.float32, name="embedding")])
    def run(embedding: Any) -> Any:
        return tf.matmul(embedding, kernel) + bias

    made: bytes = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()]).convert()
    return made


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path, help="folder with lfw")
    ask.add_argument("--models", type=Path, default=Path("data/models"), help="where `maskwatch models fetch` put them")
    ask.add_argument("--cache", type=Path, default=Path("data/training-vectors.npz"), help="keeps the embeddings")
    ask.add_argument("--out", type=Path, default=HERE.parent / "weights" / "face_head.tflite")
    given = ask.parse_args()
    if given.cache.is_file():
        with np.load(given.cache) as kept:
            faces = Faces(*(kept[name] for name in Faces._fields))
    else:
        faces = read(given.data, given.models)
        np.savez(given.cache, **faces._asdict())
    clips: set[str] = set()
    for truth in sorted(given.data.glob("video/*/ground_truth.json")):  # clips are measured on: their people stay out
        clips |= {each["id"] for each in json.loads(truth.read_text()).get("people", [])}
    faces = faces.of(~np.isin(faces.person, sorted(clips)))

    # each half of the people is measured with what the other half gave
    half = np.array([zlib.crc32(name.encode()) % 2 for name in faces.person])
    for side in (0, 1):
        head = fit(faces.of(half != side))
        apart = faces.of(half == side)
        after = table(apart._replace(vectors=head(apart.vectors)))
        print(f"people {side} of 2: before", *table(apart), "after", *after, sep="\n", flush=True)
    head = fit(faces)
    print("all people:", *table(faces._replace(vectors=head(faces.vectors))), sep="\n")
    given.out.write_bytes(export(head))


if __name__ == "__main__":
    main()
