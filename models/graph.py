"""The detector as a frozen TensorFlow graph: what a plain program would run. For the bench's baseline only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.face import Finder
from models.runtime import Fill


class Graph:
    """The same weights as YuNet's .tflite, as a TensorFlow graph with its variables frozen, on `threads` threads.

    TensorFlow's thread settings hold for the process: the first graph made decides.
    """

    def __init__(self, onnx: Path, threads: int = 1) -> None:
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        from models.convert import detector

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:  # TensorFlow has run before: its settings stay
            pass
        self._tf = tf
        self._run = convert_variables_to_constants_v2(detector(onnx).get_concrete_function())

    def __call__(self, shape: tuple[int, ...], fill: Fill) -> list[NDArray[Any]]:
        """As runtime.Network."""
        given = np.empty(shape, np.float32)
        fill(given)
        return [each.numpy() for each in self._run(self._tf.constant(given))]


def finder(folder: Path, score: float, threads: int = 1) -> Finder:
    """find(picture) -> Found on the graph, in one pass; `folder` is settings.data / "models"."""
    return Finder(Graph(folder / "yunet.onnx", threads), score, coarse=0)
