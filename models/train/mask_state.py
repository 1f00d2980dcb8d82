"""Trains the mask-state classifier and writes models/weights/mask_state.tflite, its split and its measures.

    python -m models.train.mask_state DATA --models data/models

DATA holds the folders that models/train/gather.py reads. Nothing of DATA is written anywhere but the --cache file.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.mask import SIZE
from models.train import draw
from models.train.gather import SEED, Sample, everything, part
from pipeline.messages import STATES

HERE = Path(__file__).parent
KEEP = ("crop", "label", "box", "landmarks", "pixels", "source", "picture", "group")

# training samples: how often, label, where they come from, what is done to them
MIX: tuple[tuple[int, str, str, str], ...] = (
    (13, "worn", "kaggle853", "as it is"),
    (3, "worn", "kaggle853-unfound", "as it is"),
    (8, "worn", "chandrikadeb7", "as it is"),
    (2, "worn", "lfw-masked", "as it is"),
    (5, "worn", "bare", "drawn"),
    (2, "worn", "bare", "borrowed"),
    (10, "none", "kaggle853", "as it is"),
    (1, "none", "kaggle853-unfound", "as it is"),
    (6, "none", "chandrikadeb7", "as it is"),
    (8, "none", "lfw-images", "as it is"),
    (2, "none", "bare", "beard"),
    (2, "none", "bare", "scarf"),
    (2, "none", "bare", "chin in hand"),
    (10, "incorrect", "kaggle853", "as it is"),
    (11, "incorrect", "bare", "drawn"),
    (6, "incorrect", "bare", "borrowed"),
    (4, "unknown", "background", "as it is"),
    (2, "unknown", "bare", "hand"),
    (1, "unknown", "bare", "thing"),
    (1, "unknown", "masked", "thing"),
    (2, "unknown", "bare", "away"),
    (1, "unknown", "bare", "tiny"),
    (1, "unknown", "masked", "tiny"),
)


class Faces:
    """The samples of one part of the split, by what they can be used for."""

    def __init__(self, samples: dict[str, NDArray[Any]], which: str) -> None:
        mine = samples["part"] == which
        self.of = {key: values[mine] for key, values in samples.items()}
        marked = np.isfinite(self.of["landmarks"]).all(axis=(1, 2))
        big = self.of["pixels"] >= 24
        source, label = self.of["source"], self.of["label"]
        self.pools = {(lab, src): np.flatnonzero((label == lab) & (source == src))
                      for lab in STATES for src in np.unique(source)}
        bare = marked & big & (label == "none")
        masked = marked & big & (label == "worn") & (source != "lfw-masked")
        for lab in STATES:
            self.pools[lab, "bare"] = np.flatnonzero(bare)
            self.pools[lab, "masked"] = np.flatnonzero(masked)

    def sample(self, row: tuple[int, str, str, str], chance: Generator) -> NDArray[np.uint8]:
        _, label, source, done = row
        of, i = self.of, int(chance.choice(self.pools[label, source]))
        crop, box, points = of["crop"][i], of["box"][i], of["landmarks"][i]
        least, most, real = 12.0, 90.0, max(float(of["pixels"][i]), 10.0)
        if done == "drawn":
            crop = draw.mask(crop, points, chance, label)
        elif done == "borrowed":
            j = int(chance.choice(self.pools[label, "masked"]))
            crop = draw.borrowed(crop, points, of["crop"][j], of["landmarks"][j], chance, label)
        elif done == "tiny":
            least, most = 4.0, 7.5
        elif done != "as it is":
            paint = {"beard": draw.beard, "scarf": draw.scarf, "chin in hand": draw.chin_in_hand, "hand": draw.hand,
                     "thing": draw.thing, "away": draw.away}[done]
            crop = paint(crop, points, chance)
        return draw.place(crop, chance, box, least, most, real)


_faces: Faces


def _start(cache: Path, which: str) -> None:
    global _faces
    import cv2

    cv2.setNumThreads(1)
    with np.load(cache) as kept:
        _faces = Faces(dict(kept), which)


def _batch(job: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    seed, count = job
    chance = np.random.default_rng(seed)
    usable = [row for row in MIX if len(_faces.pools.get((row[1], row[2]), ()))]
    share = np.array([row[0] for row in usable], float)
    rows = [usable[i] for i in chance.choice(len(usable), count, p=share / share.sum())]
    return (np.stack([_faces.sample(row, chance) for row in rows]),
            np.array([STATES.index(row[1]) for row in rows]))  # type: ignore[arg-type]


def drawn(cache: Path, which: str, count: int, seed: int, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` training pictures (N, 64, 64, 3) and labels; the same for the same seed, however many workers."""
    size = 500
    jobs = [(seed * 100_003 + i, size) for i in range(-(-count // size))]
    # spawned: a fork would inherit OpenCV's and LiteRT's threads as locks that nobody opens
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(cache, which)) as pool:
        parts = list(pool.map(_batch, jobs))
    return np.concatenate([each[0] for each in parts])[:count], np.concatenate([each[1] for each in parts])[:count]


def network() -> Any:
    """Seven convolutions and a dense layer; logits."""
    import keras
    from keras import layers

    x = given = keras.Input((SIZE, SIZE, 3), batch_size=None, name="face")
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    for channels, stride in ((24, 2), (48, 2), (64, 1), (96, 2), (128, 1), (160, 2)):
        x = layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.95)(x)
        x = layers.ReLU()(x)
    x = layers.Dropout(0.25)(layers.Flatten()(x))
    x = layers.Dense(96, activation="relu")(x)
    x = layers.Dropout(0.25)(x)
    return keras.Model(given, layers.Dense(len(STATES), name="logits", dtype="float32")(x))


def train(model: Any, faces: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, rate: float) -> None:
    import keras
    import tensorflow as tf

    batch = 128
    steps = epochs * (len(faces) // batch)
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(rate, steps), weight_decay=1e-3),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.04), metrics=["accuracy"])
    wanted = np.eye(len(STATES), dtype=np.float32)[labels]
    data = (tf.data.Dataset.from_tensor_slices((faces, wanted)).shuffle(len(faces), seed=1)
            .batch(batch, drop_remainder=True).map(lambda x, y: (tf.cast(x, tf.float32), y)).prefetch(2))
    model.fit(data, epochs=epochs, verbose=2)


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """The divisor of the logits that makes the stated probabilities the likeliest ones."""
    tried = np.exp(np.linspace(np.log(0.3), np.log(4), 200))
    return float(tried[int(np.argmin([loss(logits / t, labels, weights) for t in tried]))])


def loss(logits: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    top = logits.max(axis=1, keepdims=True)
    log = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return float(-(log[np.arange(len(labels)), labels] * weights).sum() / weights.sum())


def export(model: Any, heat: float, int8: bool = True) -> bytes:
    """.tflite whose output is the calibrated probabilities."""
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / heat, bias / heat])
    whole = keras.Model(model.input, keras.layers.Softmax(name="states")(model.output))

    @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32, name="face")])
    def run(face: Any) -> Any:
        return whole(face, training=False)

    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    made: bytes = converter.convert()
    model.get_layer("logits").set_weights([kernel, bias])
    return made


def straight(samples: dict[str, NDArray[Any]], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Kept crops as models/mask.py cuts them, untouched otherwise."""
    from models.mask import crop

    return np.stack([crop(c, b) for c, b in zip(samples["crop"][chosen], samples["box"][chosen], strict=True)])


def load(data: Path, folder: Path, cache: Path) -> dict[str, NDArray[Any]]:
    """The samples as columns, read from the cache where it is there, else put into it."""
    if cache.is_file():
        with np.load(cache) as kept:
            return dict(kept)
    from models.face import Embedder, Finder
    from models.runtime import Network

    yunet = Network(folder / "yunet_f32.tflite")
    sface = Network(folder / "sface_f32.tflite")
    found: list[Sample] = everything(data, Finder(yunet, 0.5), Finder(yunet, 0.3), Embedder(sface))
    samples = {key: np.array([getattr(each, key) for each in found]) for key in KEEP}
    samples["part"] = np.array([part(each.group) for each in found])
    np.savez(cache, **samples)
    return samples


def doubted(samples: dict[str, NDArray[Any]], weights: Path) -> NDArray[np.bool_]:
    """Samples of chandrikadeb7 that an earlier model contradicts with 0.8 or more: masks below the nose lie among its
    `with_mask`, and so on. They are not trained on; test and valid keep them."""
    from models.mask import Classifier
    from models.runtime import Network

    state = Classifier(Network(weights), 0).state
    some = (samples["source"] == "chandrikadeb7") & (samples["part"] == "train")
    said = np.stack([state(each) for each in straight(samples, some)])
    labels = np.array([STATES.index(each) for each in samples["label"][some]])
    wrong = np.zeros(len(some), bool)
    wrong[some] = (said.max(axis=1) >= 0.8) & (said.argmax(axis=1) != labels)
    return wrong


def split(samples: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The split as it is written down: pictures not in `test` or `valid` are trained on."""
    return {
        "seed": SEED,
        "rule": "a group (near-duplicate pictures, a person) goes where the SHA-256 of seed/group says; gather.part",
        **{name: sorted(set(samples["picture"][samples["part"] == name].tolist())) for name in ("test", "valid")},
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path, help="folder with kaggle853, chandrikadeb7, lfw")
    ask.add_argument("--models", type=Path, default=Path("data/models"), help="where `maskwatch models fetch` put them")
    ask.add_argument("--cache", type=Path, default=Path("data/training-faces.npz"),
                     help="keeps the faces found, to train again sooner")
    ask.add_argument("--start", type=Path, help=".keras of an earlier round, to go on from")
    ask.add_argument("--rate", type=float, default=2e-3, help="learning rate at the start; it falls to nothing")
    ask.add_argument("--doubt", type=Path, help="weights of an earlier round: what they contradict is left out")
    ask.add_argument("--out", type=Path, default=HERE.parent / "weights" / "mask_state.tflite")
    ask.add_argument("--samples", type=int, default=60_000, help="training pictures drawn a round")
    ask.add_argument("--rounds", type=int, default=1, help="times that new ones are drawn")
    ask.add_argument("--epochs", type=int, default=5, help="times each is seen")
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    samples = load(given.data, given.models, given.cache)
    if given.doubt is not None:
        out = doubted(samples, given.doubt)
        samples = {key: values[~out] for key, values in samples.items()}
        given.cache = given.cache.with_suffix(".doubt.npz")
        np.savez(given.cache, **samples)
        print(f"{out.sum()} pictures left out", flush=True)
    started = time.monotonic()
    sets = [drawn(given.cache, "train", given.samples, given.seed + i, given.workers) for i in range(given.rounds)]
    held, held_labels = drawn(given.cache, "valid", 4000, given.seed + 99, given.workers)
    print(f"drew {given.samples * given.rounds} pictures in {time.monotonic() - started:.0f} s", flush=True)

    import keras

    keras.utils.set_random_seed(given.seed)
    model = keras.models.load_model(given.start) if given.start else network()
    train(model, np.concatenate([s[0] for s in sets]), np.concatenate([s[1] for s in sets]), given.epochs, given.rate)

    # calibrated half on faces as they are, half on drawn ones
    real = (samples["part"] == "valid") & np.isin(samples["source"], ("kaggle853", "chandrikadeb7", "lfw-images"))
    known = np.array([STATES.index(each) for each in samples["label"][real]])
    faces = np.concatenate([straight(samples, real), held])
    labels = np.concatenate([known, held_labels])
    weights = np.concatenate([np.full(len(known), 0.5 / len(known)), np.full(len(held), 0.5 / len(held))])
    logits = model.predict(faces.astype(np.float32), batch_size=256, verbose=0)
    heat = temperature(logits, labels, weights)
    print(f"temperature {heat:.3f}; valid: drawn {np.mean(logits[len(known):].argmax(1) == held_labels):.4f}, "
          f"real {np.mean(logits[: len(known)].argmax(1) == known):.4f}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(export(model, heat))
    model.save(given.out.with_suffix(".keras"))  # for --start; not committed
    (HERE / "split.json").write_text(json.dumps(split(samples), indent=0) + "\n")


if __name__ == "__main__":
    main()
