"""LiteRT behind one call: a network as a function of an array, one interpreter per thread and input size."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fill = Callable[[NDArray[Any]], None]  # writes a network's input in place
Run = Callable[[tuple[int, ...], Fill], list[NDArray[Any]]]  # input shape, fill -> outputs: what a Network is

SIZES = 8  # interpreters a thread keeps of one network: the detector's two passes of four picture sizes


_first = threading.Lock()
_announced = False


@contextmanager
def _unannounced() -> Iterator[None]:
    """LiteRT tells on stderr, once a process, that it uses XNNPACK; whatever else it tells there still comes out."""
    global _announced
    with _first:
        first, _announced = not _announced, True
        if first:
            with tempfile.TemporaryFile() as said:
                kept = os.dup(2)
                os.dup2(said.fileno(), 2)
                try:
                    yield
                finally:
                    os.dup2(kept, 2)
                    os.close(kept)
                    said.seek(0)
                    lines = [line for line in said if b"Created TensorFlow Lite XNNPACK delegate" not in line]
                    if lines:
                        os.write(2, b"".join(lines))
            return
    yield


class Network:
    """A .tflite file. Same input, same output, whatever the thread: each interpreter runs on one XNNPACK thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine = threading.local()

    def __call__(self, shape: tuple[int, ...], fill: Fill) -> list[NDArray[Any]]:
        """`fill` writes the input into the network's own memory, which spares a copy. -> outputs, in file order."""
        lite, outputs = self._interpreter(shape)
        fill(lite.tensor(lite.get_input_details()[0]["index"])())
        lite.invoke()
        return [lite.get_tensor(index) for index in outputs]

    def _interpreter(self, shape: tuple[int, ...]) -> tuple[Any, list[int]]:
        kept: OrderedDict[tuple[int, ...], Any]
        kept = self._mine.__dict__.setdefault("kept", OrderedDict())
        if shape in kept:
            kept.move_to_end(shape)
            return kept[shape]
        from ai_edge_litert.interpreter import Interpreter

        with _unannounced():
            lite = Interpreter(model_path=str(self.path), num_threads=1)
            given = lite.get_input_details()[0]
            if tuple(given["shape"]) != shape:
                lite.resize_tensor_input(given["index"], list(shape), strict=True)
            lite.allocate_tensors()
        kept[shape] = lite, [each["index"] for each in lite.get_output_details()]
        if len(kept) > SIZES:
            kept.popitem(last=False)
        return kept[shape]


def float_input(picture: NDArray[np.uint8]) -> Fill:
    """Fills a (1, H, W, 3) input with a picture that may be smaller: black to the right and below."""
    height, width = picture.shape[:2]

    def fill(into: NDArray[Any]) -> None:
        into[0, :height, :width] = picture
        into[0, height:] = 0
        into[0, :height, width:] = 0

    return fill
