"""What networks run on, behind one call: a network as a function of an array, one interpreter per thread and size.

LiteRT runs everything everywhere. OpenVINO may run the detector instead, where it is installed and the processor
multiplies bfloat16 (docs/models.md has what that gains and changes).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Broken

Fill = Callable[[NDArray[Any]], None]  # writes a network's input in place
Run = Callable[[tuple[int, ...], Fill], list[NDArray[Any]]]  # input shape, fill -> outputs: what a Network is

BFLOAT16 = ("avx512_bf16", "amx_bf16")  # as /proc/cpuinfo calls the instructions
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


class OpenVino:
    """The same file, or an ONNX one (which takes (1, 3, H, W)), on OpenVINO: one thread, one compiled model per thread
    and input size. `precision`: f32, or bf16 for half the time and numbers of three digits."""

    def __init__(self, path: Path, precision: str) -> None:
        self.path, self.precision = path, precision
        self._mine = threading.local()

    def __call__(self, shape: tuple[int, ...], fill: Fill) -> list[NDArray[Any]]:
        """As Network."""
        kept: OrderedDict[tuple[int, ...], Any]
        kept = self._mine.__dict__.setdefault("kept", OrderedDict())
        if shape not in kept:
            kept[shape] = self._compiled(shape)
            if len(kept) > SIZES:
                kept.popitem(last=False)
        kept.move_to_end(shape)
        request, given, outputs = kept[shape]
        fill(given)
        request.infer()
        return [request.get_output_tensor(i).data.copy() for i in range(outputs)]

    def _compiled(self, shape: tuple[int, ...]) -> tuple[Any, NDArray[Any], int]:
        core = openvino().Core()
        model = core.read_model(str(self.path))
        model.reshape(list(shape))
        made = core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": self.precision})
        request = made.create_infer_request()
        return request, request.get_input_tensor(0).data, len(made.outputs)


@cache
def openvino() -> Any:
    """The package, without its telemetry: it asks for a Google address when it is imported, and does without."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as package

    return package


class Choice(NamedTuple):
    """Which runtime the detector has, and why."""

    runtime: str  # litert, openvino
    precision: str  # f32, bf16
    why: str


def chosen(asked: str) -> Choice:
    """`asked`: the setting `runtime`. Only by what is installed and what the processor is, never by a timing: the same
    machine does the same each time."""
    there, short = importlib.util.find_spec("openvino") is not None, bfloat16()
    if asked == "litert":
        return Choice("litert", "f32", "MASKWATCH_RUNTIME=litert: the same boxes on every processor")
    if asked == "openvino":
        if not there:
            raise Broken("MASKWATCH_RUNTIME=openvino: expected the package openvino, found none: "
                         "pip install 'maskwatch[openvino]'")
        return Choice("openvino", "bf16" if short else "f32", "MASKWATCH_RUNTIME=openvino")
    if not short:
        return Choice("litert", "f32", "MASKWATCH_RUNTIME=auto: this processor has no bfloat16, without it OpenVINO "
                                       "gains little")
    if not there:
        return Choice("litert", "f32", "MASKWATCH_RUNTIME=auto: openvino is not installed")
    return Choice("openvino", "bf16", "MASKWATCH_RUNTIME=auto: openvino is installed, and the processor has bfloat16")


def advice(choice: Choice) -> str:
    """What would be quicker on this machine; empty where nothing would."""
    if choice.runtime == "openvino" or not bfloat16():
        return ""
    install = "" if importlib.util.find_spec("openvino") else "pip install 'maskwatch[openvino]' and "
    return f"the processor has bfloat16: {install}MASKWATCH_RUNTIME=auto would be quicker (maskwatch models runtimes)"


@cache
def bfloat16() -> bool:
    """Whether the processor multiplies bfloat16."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return not set(BFLOAT16).isdisjoint(flags.split())


def float_input(picture: NDArray[np.uint8]) -> Fill:
    """Fills a (1, H, W, 3) input with a picture that may be smaller: black to the right and below."""
    height, width = picture.shape[:2]

    def fill(into: NDArray[Any]) -> None:
        into[0, :height, :width] = picture
        into[0, height:] = 0
        into[0, :height, width:] = 0

    return fill
