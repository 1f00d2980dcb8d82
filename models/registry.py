"""Models loaded once per process: checked, warmed, named by content, safe to call from any thread."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.face import Embedder, Finder, Found
from models.manifest import Broken, checked
from models.mask import Classifier
from models.runtime import Choice, Network, OpenVino, Run, chosen
from pipeline.mask import Looks
from pipeline.settings import Settings

NAMES = ("yunet", "mask_state", "sface", "face_head")

_loaded: dict[tuple[Path, float, float, str, tuple[tuple[str, Path], ...]], Models] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Models:
    """What the stages are given: two callables on arrays, and the names to write into messages."""

    look: Callable[[NDArray[np.uint8]], Looks]  # (H, W, 3) BGR picture -> its faces
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (N, 112, 112, 3) BGR aligned -> (N, D) of length 1
    names: dict[str, str] = field(default_factory=dict)  # of those that look: model -> first 12 hex digits of SHA-256
    embed_names: dict[str, str] = field(default_factory=dict)  # of those that embed


def load(settings: Settings, instead: Mapping[str, Path] | None = None) -> Models:
    """`instead`: model -> file of other weights, for a replay that compares; they are named by their content too.

    Raises manifest.Broken where weights are missing or changed."""
    key = (settings.data.absolute() / "models", settings.face_score, settings.face_pixels, settings.runtime,
           tuple(sorted((instead or {}).items())))
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(*key)
        return _loaded[key]


def forget() -> None:
    """Let go of what is loaded: a process that compares many would keep them all."""
    with _lock:
        _loaded.clear()


def detector(path: Path, on: Choice) -> Run:
    """Only the detector has a choice of runtimes: it costs most, and vectors of faces must be alike on all machines."""
    return OpenVino(path, on.precision) if on.runtime == "openvino" else Network(path)


def looking(settings: Settings, find: Callable[[NDArray[np.uint8]], Found]) -> Callable[[NDArray[np.uint8]], Looks]:
    """Another detector with our mask state, to measure it."""
    classify = Classifier(Network(checked(settings.data / "models", "mask_state")[0]), settings.face_pixels)

    def look(picture: NDArray[np.uint8]) -> Looks:
        found = find(picture)
        return Looks(*found, classify(picture, found.boxes))

    return look


def _load(folder: Path, score: float, pixels: float, runtime: str, instead: tuple[tuple[str, Path], ...]) -> Models:
    files = {name: checked(folder, name) for name in NAMES}
    for name, path in instead:
        if name not in NAMES:
            raise Broken(f"expected one of the models {', '.join(NAMES)}, got {name}")
        files[name] = path, hashlib.sha256(path.read_bytes()).hexdigest()
    on = chosen(runtime)
    networks = {name: Network(path) for name, (path, _) in files.items() if name != "yunet"}
    # from half the score: a weak detection may carry a track on (pipeline/tracks.py)
    find = Finder(detector(files["yunet"][0], on), score / 2)
    classify = Classifier(networks["mask_state"], pixels)
    embed = Embedder(networks["sface"], networks["face_head"])

    def look(picture: NDArray[np.uint8]) -> Looks:
        found = find(picture)
        return Looks(found.boxes, found.scores, found.landmarks, classify(picture, found.boxes))

    # warm: the first run of a network builds its kernels
    look(np.zeros((360, 640, 3), np.uint8))
    classify(np.zeros((64, 64, 3), np.uint8), np.array([[0, 0, 64, 64]], np.float32))
    embed(np.zeros((1, 112, 112, 3), np.uint8))
    sums = {name: sha[:12] for name, (_, sha) in files.items()}
    if on.precision != "f32":  # other numbers than the file holds: what it finds may differ by a pixel
        sums["yunet"] += f"-{on.precision}"
    return Models(look, embed, {name: sums[name] for name in ("yunet", "mask_state")},
                  {name: sums[name] for name in ("sface", "face_head")})
