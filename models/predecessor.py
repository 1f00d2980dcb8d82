"""The predecessor's detector (SSD 260×260, two classes) behind the same `look`, to measure ours against; not shipped.

Its weights are a file of one's own: the .tflite, or the frozen TensorFlow graph.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import suppress
from models.manifest import Broken
from models.runtime import Network
from pipeline.mask import Looks
from pipeline.messages import STATES

SIDE = 260
# Anchors: cells a side of each feature map, the two sizes of its boxes as shares of the picture, and their shapes. The
# first size comes in every shape, the second as a square only.
CELLS = (33, 17, 9, 5, 3)
SIZES = ((0.04, 0.056), (0.08, 0.11), (0.16, 0.22), (0.32, 0.45), (0.64, 0.72))
SHAPES = (1.0, 0.62, 0.42)  # width over height
VARIANCES = (0.1, 0.1, 0.2, 0.2)
OVERLAP = 0.4  # IoU from which two boxes are one face


def anchors() -> NDArray[np.float32]:
    """(5972, 4): middle and size, shares of the picture."""
    out = []
    for cells, (small, large) in zip(CELLS, SIZES, strict=True):
        boxes = [(small, small), (large, large)]
        boxes += [(small * shape**0.5, small / shape**0.5) for shape in SHAPES[1:]]
        middles = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        for_each = [np.stack([x, y, np.full_like(x, w), np.full_like(y, h)], axis=-1) for w, h in boxes]
        out.append(np.stack(for_each, axis=2).reshape(-1, 4))
    return np.concatenate(out).astype(np.float32)


class Predecessor:
    """look(picture) -> Looks, without landmarks; finds of at least `score`."""

    def __init__(self, weights: Path, score: float) -> None:
        self.score, self.anchors = score, anchors()
        self._run = _graph(weights) if weights.suffix == ".pb" else _lite(weights)

    def __call__(self, picture: NDArray[np.uint8]) -> Looks:
        height, width = picture.shape[:2]
        given = cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE)), cv2.COLOR_BGR2RGB).astype(np.float32)[None] / 255
        moves, classes = self._run(given)
        best = classes.max(axis=1)
        keep = best >= self.score
        moves, anchors_, classes, best = moves[keep] * VARIANCES, self.anchors[keep], classes[keep], best[keep]
        middle = anchors_[:, :2] + moves[:, :2] * anchors_[:, 2:]
        size = np.exp(moves[:, 2:]) * anchors_[:, 2:]
        boxes = np.hstack([middle - size / 2, middle + size / 2]) * [width, height, width, height]
        order = suppress(boxes, best, OVERLAP)
        states = np.zeros((len(order), len(STATES)), np.float32)
        shares = classes[order] / np.maximum(classes[order].sum(axis=1, keepdims=True), 1e-6)
        states[:, STATES.index("worn")], states[:, STATES.index("none")] = shares[:, 0], shares[:, 1]
        return Looks(boxes[order].astype(np.float32), best[order].astype(np.float32),
                     np.zeros((len(order), 5, 2), np.float32), states)


def _lite(weights: Path) -> Any:
    network = Network(weights)

    def run(given: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        def fill(into: NDArray[Any]) -> None:
            into[:] = given

        return _told(weights, network((1, SIDE, SIDE, 3), fill))

    return run


def _graph(weights: Path) -> Any:
    """As it ran it: a session on the frozen graph; on one thread."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    told = tf.compat.v1.GraphDef()
    told.ParseFromString(weights.read_bytes())
    read = {name for node in told.node for name in node.input}
    given = [f"{node.name}:0" for node in told.node if node.op == "Placeholder"]
    made = [f"{node.name}:0" for node in told.node if node.name not in read and node.op == "ConcatV2"]
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(told, name="")
    one = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    session = tf.compat.v1.Session(graph=graph, config=one)
    return lambda picture: _told(weights, session.run(made, {given[0]: picture}))


def _told(weights: Path, outputs: list[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Moves and classes of the anchors, whichever comes first."""
    by_width = {each.shape[-1]: each[0] for each in outputs if each.ndim == 3}
    if set(by_width) != {2, 4}:
        raise Broken(f"{weights}: expected outputs (1, 5972, 4) and (1, 5972, 2), got "
                     + ", ".join(str(each.shape) for each in outputs))
    return by_width[4], by_width[2]
