"""Trains the mask-state classifier and writes models/weights/mask_state.tflite and its split.

    python -m models.train.mask_state DATA --models data/models --work w

DATA holds the folders that models/train/gather.py reads. Two networks are trained, one sees more of what is around the
face than the other, and their answers are averaged. Steps, of which those whose file is in --work are not done again:

1. two bases, which are trained without kaggle853; the narrower one stays as it is;
2. labels: the base gives some to the faces of masked_street, takes away those of chandrikadeb7 that it contradicts;
3. folds: from the base, models that each leave out a quarter of kaggle853 (but for `test`, which none of them sees),
   and what each says to its quarter: by these answers we choose and calibrate;
4. released: from the base, on all of it but `test`, several runs averaged.

Both networks are written as one .tflite.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.mask import SIZE
from models.measure import Judged, Share, calibration
from models.train import draw
from models.train.gather import Sample, everything, parts
from pipeline.messages import STATES

WEIGHTS = Path(__file__).parents[1] / "weights" / "mask_state.tflite"
FOLDS = 4
VIEWS = (1.5, 1.3)  # side of what each network sees, in longer sides of the face; the first is models.mask.MARGIN
INNER = 4  # pixels to leave out on each side of the first view for the second: (64 - 8) / 64 × 1.5 = 1.31
WEIGHT = 3.0  # of an incorrectly worn one when calibrating
# added to `unknown`: a tenth of what is trained on is that, of what the detector is sure of hardly a fiftieth
UNKNOWN = -1.5
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
    (2, "none", "bare", "behind"),
    (10, "incorrect", "kaggle853", "as it is"),
    (9, "incorrect", "bare", "drawn"),
    (8, "incorrect", "bare", "borrowed"),
    (9, "worn", "masked_street", "as it is"),
    (2, "none", "masked_street", "as it is"),
    (4, "unknown", "background", "as it is"),
    (2, "unknown", "bare", "hand"),
    (1, "unknown", "bare", "thing"),
    (1, "unknown", "masked", "thing"),
    (2, "unknown", "bare", "away"),
    (1, "unknown", "bare", "tiny"),
    (1, "unknown", "masked", "tiny"),
)


class Faces:
    """Some of the samples, by what they can be used for."""

    def __init__(self, samples: dict[str, NDArray[Any]], label: NDArray[Any], chosen: NDArray[np.bool_]) -> None:
        self.of = {key: values[chosen] for key, values in samples.items()}
        marked = np.isfinite(self.of["landmarks"]).all(axis=(1, 2))
        big = self.of["pixels"] >= 24
        source, label = self.of["source"], label[chosen]
        self.pools = {(lab, src): np.flatnonzero((label == lab) & (source == src))
                      for lab in STATES for src in np.unique(source)}
        bare = marked & big & (label == "none")
        masked = marked & big & (label == "worn") & (source != "lfw-masked")
        for lab in STATES:
            self.pools[lab, "bare"] = np.flatnonzero(bare)
            self.pools[lab, "masked"] = np.flatnonzero(masked)

    def sample(self, row: tuple[int, str, str, str], chance: Generator, margin: float) -> NDArray[np.uint8]:
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
                     "thing": draw.thing, "away": draw.away, "behind": draw.behind}[done]
            crop = paint(crop, points, chance)
        return draw.place(crop, chance, box, least, most, real, margin)


_faces: Faces
_margin: float


def _start(cache: Path, label: NDArray[Any], chosen: NDArray[np.bool_], margin: float) -> None:
    global _faces, _margin
    import cv2

    cv2.setNumThreads(1)
    with np.load(cache) as kept:
        _faces, _margin = Faces(dict(kept), label, chosen), margin


def _batch(job: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    seed, count = job
    chance = np.random.default_rng(seed)
    usable = [row for row in MIX if len(_faces.pools.get((row[1], row[2]), ()))]
    share = np.array([row[0] for row in usable], float)
    rows = [usable[i] for i in chance.choice(len(usable), count, p=share / share.sum())]
    return (np.stack([_faces.sample(row, chance, _margin) for row in rows]),
            np.array([STATES.index(row[1]) for row in rows]))  # type: ignore[arg-type]


def drawn(cache: Path, label: NDArray[Any], chosen: NDArray[np.bool_], margin: float, count: int, seed: int,
          workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` pictures (N, 64, 64, 3) of the chosen samples, and labels; the same for the same seed, however many
    workers."""
    size = 500
    jobs = [(seed * 100_003 + i, size) for i in range(-(-count // size))]
    # spawned: a fork would inherit OpenCV's and LiteRT's threads as locks that nobody opens
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start,
                             initargs=(cache, label, chosen, margin)) as pool:
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


def train(model: Any, faces: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, rate: float, seed: int) -> None:
    import keras
    import tensorflow as tf

    batch = 128
    steps = epochs * (len(faces) // batch)
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(rate, steps), weight_decay=1e-3),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.04), metrics=["accuracy"])
    wanted = np.eye(len(STATES), dtype=np.float32)[labels]

    def varied(x: Any, y: Any) -> tuple[Any, Any]:
        """A picture is seen several times: mirrored or not, a little to the side, in another light."""
        x = tf.cast(x, tf.float32)
        one = (tf.shape(x)[0], 1, 1, 1)
        x = tf.where(tf.random.uniform(one) < 0.5, x[:, :, ::-1], x)
        x = tf.image.random_crop(tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]], "SYMMETRIC"), tf.shape(x))
        return x * tf.random.uniform(one, 0.88, 1.12) + tf.random.uniform(one, -12, 12), y

    data = (tf.data.Dataset.from_tensor_slices((faces, wanted)).shuffle(len(faces), seed=seed)
            .batch(batch, drop_remainder=True).map(varied).prefetch(2))
    model.fit(data, epochs=epochs, verbose=2)


def logits(model: Any, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 4): the mean of a face and its mirror image, in which less is chance."""
    seen = faces.astype(np.float32)
    return np.mean([model.predict(each, batch_size=256, verbose=0) for each in (seen, seen[:, :, ::-1])], axis=0)


def calibrated(logits: NDArray[Any], labels: NDArray[np.int64], weight: float = WEIGHT
               ) -> tuple[float, NDArray[np.float64]]:
    """The divisor of the logits, and what is added to each before, that make the stated probabilities the likeliest
    ones. `weight`: how many faces an `incorrect` one counts for, as there are few."""
    truth = np.eye(len(STATES))[labels]
    each = np.where(labels == STATES.index("incorrect"), weight, 1.0)
    free = truth.any(axis=0)
    free[np.argmax(truth.sum(axis=0))] = False  # only differences count
    scale, add = 1.0, np.array([0.0, 0.0, 0.0, UNKNOWN])
    for _ in range(4000):
        off = (softmax(logits * scale + add) - truth) * each[:, None] / each.sum()
        scale -= 0.05 * float((off * logits).sum())
        add -= 0.5 * off.sum(axis=0) * free
    return 1 / scale, add / scale


def divisor(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Of the logits, that makes the stated probabilities the likeliest ones."""
    tried = np.exp(np.linspace(np.log(0.3), np.log(4), 200))
    rows = np.arange(len(labels))
    return float(max(tried, key=lambda t: float(np.log(softmax(logits / t)[rows, labels] + 1e-12).sum())))


def report(logits: NDArray[Any], labels: NDArray[np.int64], pixels: NDArray[Any], heat: float,
           shift: NDArray[np.float64]) -> str:
    """What the folds said to the quarter that each left out, faces from 16 pixels."""
    chance = softmax((logits + shift) / heat)
    said, seen = chance.argmax(axis=1), pixels >= 16
    lines = [f"divisor {heat:.3f}, added {dict(zip(STATES, shift.round(2).tolist(), strict=True))}"]
    for name, those in (("all", seen), ("worn or none from 40 pixels", (pixels >= 40) & (labels != 1)),
                        *((state, seen & (labels == i)) for i, state in enumerate(STATES[:3]))):
        lines.append(f"{name}: {Share(int((said == labels)[those].sum()), int(those.sum()))}")
    called = seen & (said == 1)
    lines.append(f"called incorrect, and are: {Share(int((labels[called] == 1).sum()), int(called.sum()))}")
    judged = [Judged(STATES[i], float(p), True, c, str(n)) for n, (i, p, c) in enumerate(
        zip(labels, pixels, chance, strict=True))]
    lines.append(f"expected calibration error {calibration(judged)}")
    return "\n".join(lines)


def export(wide: Any, narrow: Any, heat: float, shift: NDArray[np.float64], int8: bool = True) -> bytes:
    """.tflite: a face -> calibrated probabilities; the second network sees the mirror image, as it costs nothing."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    near = slice(INNER, SIZE - INNER)

    @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32, name="face")])
    def run(face: Any) -> Any:
        inner = tf.image.resize(tf.reverse(face, [2])[:, near, near], (SIZE, SIZE))
        said = (wide(face, training=False) + narrow(inner, training=False)) / 2
        return tf.nn.softmax((said + shift.astype(np.float32)) / heat)

    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def straight(samples: dict[str, NDArray[Any]], chosen: NDArray[Any], margin: float = VIEWS[0]) -> NDArray[np.uint8]:
    """Kept crops as models/mask.py cuts them, untouched otherwise."""
    from models.mask import crop

    both = zip(samples["crop"][chosen], samples["box"][chosen], strict=True)
    return np.stack([crop(face, box, SIZE, margin) for face, box in both])


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
    samples["part"] = np.array(parts(found))
    np.savez(cache, **samples)
    return samples


def relabelled(samples: dict[str, NDArray[Any]], model: Any) -> NDArray[Any]:
    """The labels to train with: as they are, but what the base contradicts with 0.8 or more in chandrikadeb7 gets none
    (masks below the nose lie among its `with_mask`, and so on; test and valid keep theirs), and the faces of
    masked_street get what the base says with 0.9 or more."""
    label = samples["label"].astype(object)
    for source, least in (("chandrikadeb7", 0.8), ("masked_street", 0.9)):
        some = np.flatnonzero((samples["source"] == source) & (samples["part"] == "train"))
        if not len(some):
            continue
        chance = softmax(logits(model, straight(samples, some)))
        said = np.array(STATES, object)[chance.argmax(axis=1)]
        sure = chance.max(axis=1) >= least
        if source == "chandrikadeb7":
            said, sure = np.full(len(some), ""), sure & (said != label[some])
        label[some[sure]] = said[sure]
        print(f"{source}: {Counter(label[some])}", flush=True)
    return label.astype(str)


def softmax(given: NDArray[Any]) -> NDArray[Any]:
    raised = np.exp(given - given.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fold(group: str) -> int:
    """Which of the folds leaves a group out."""
    return int(hashlib.sha256(f"maskwatch-1/fold/{group}".encode()).hexdigest()[:8], 16) % FOLDS


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path, help="folder with kaggle853, chandrikadeb7, lfw, masked_street")
    ask.add_argument("--models", type=Path, default=Path("data/models"), help="where `maskwatch models fetch` put them")
    ask.add_argument("--work", type=Path, default=Path("data/training"), help="keeps what is done, to go on from")
    ask.add_argument("--out", type=Path, default=WEIGHTS)
    ask.add_argument("--samples", type=int, default=60_000, help="training pictures drawn for the base")
    ask.add_argument("--epochs", type=int, default=5, help="times the base sees each")
    ask.add_argument("--more", type=int, default=16_000, help="training pictures drawn for each run from the base")
    ask.add_argument("--runs", type=int, default=3, help="from the base to the released network; averaged")
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given.work.mkdir(parents=True, exist_ok=True)
    cache = given.work / "faces.npz"
    samples = load(given.data, given.models, cache)

    kaggle = np.char.startswith(samples["picture"], "kaggle853/")
    judged = np.flatnonzero(kaggle & (samples["part"] != "test") & (samples["source"] == "kaggle853"))
    known = np.array([STATES.index(each) for each in samples["label"][judged]])
    narrow = based(VIEWS[1], samples, kaggle, given)
    wide, folds = released(based(VIEWS[0], samples, kaggle, given), samples, kaggle, judged, given)
    # the narrower one saw nothing of kaggle853: what it says there is as good as what the folds say
    said = (folds + logits(narrow, straight(samples, judged, VIEWS[1]))) / 2
    heat, shift = calibrated(said, known)
    # the released network has seen more than those of the folds: the divisor is fitted on what else is left, too
    apart = (samples["part"] == "valid") & np.isin(samples["source"], ("chandrikadeb7", "lfw-images", "lfw-masked"))
    more = (logits(wide, straight(samples, apart)) + logits(narrow, straight(samples, apart, VIEWS[1]))) / 2
    heat = divisor(np.concatenate([said, more]) + shift,
                   np.concatenate([known, [STATES.index(each) for each in samples["label"][apart]]]))
    print(report(said, known, samples["pixels"][judged], heat, shift), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(export(wide, narrow, heat, shift))
    (given.work / "float.tflite").write_bytes(export(wide, narrow, heat, shift, int8=False))


def based(view: float, samples: dict[str, NDArray[Any]], kaggle: NDArray[np.bool_], given: argparse.Namespace) -> Any:
    """A network that has seen nothing of kaggle853, nor of masked_street."""
    import keras

    kept = given.work / f"base-{view}.keras"
    if not kept.is_file():
        others = (samples["part"] == "train") & ~kaggle
        faces, labels = drawn(given.work / "faces.npz", samples["label"], others, view, given.samples, given.seed,
                              given.workers)
        keras.utils.set_random_seed(given.seed)
        model = network()
        train(model, faces, labels, given.epochs, 2e-3, given.seed)
        model.save(kept)
    return keras.models.load_model(kept)


def released(base: Any, samples: dict[str, NDArray[Any]], kaggle: NDArray[np.bool_], judged: NDArray[np.intp],
             given: argparse.Namespace) -> tuple[Any, NDArray[np.float32]]:
    """The base trained on with all but `test`; (N, 4) what models that did not see them say to the faces `judged`."""
    import keras

    usable, others = kaggle & (samples["part"] != "test"), (samples["part"] == "train") & ~kaggle
    label, start = relabelled(samples, base), base.get_weights()

    def tuned(seen: NDArray[np.bool_], seed: int) -> Any:
        faces, labels = drawn(given.work / "faces.npz", label, seen, VIEWS[0], given.more, seed, given.workers)
        keras.utils.set_random_seed(seed)
        model = network()
        model.set_weights(start)
        train(model, faces, labels, 3, 7e-4, seed)
        return model

    answers, kept = given.work / "folds.npy", given.work / "released.keras"
    if not answers.is_file():
        which = np.array([fold(each) for each in samples["group"]])
        said = np.zeros((len(judged), len(STATES)), np.float32)
        for k in range(FOLDS):
            mine = which[judged] == k
            model = tuned(others | (usable & (which != k)), given.seed + 10 + k)
            said[mine] = logits(model, straight(samples, judged[mine]))
        np.save(answers, said)
    if not kept.is_file():
        runs = [tuned(others | usable, given.seed + 20 + k).get_weights() for k in range(given.runs)]
        model = network()
        model.set_weights([np.mean(each, axis=0) for each in zip(*runs, strict=True)])
        model.save(kept)
    return keras.models.load_model(kept), np.load(answers)


if __name__ == "__main__":
    main()
