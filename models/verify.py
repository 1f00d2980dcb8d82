"""The weights checked again: their sums, and what they say to inputs whose answer is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models import compare
from models.face import Embedder, Finder
from models.manifest import Broken, checked, converted, digest, models, record
from models.mask import Classifier
from models.runtime import Network
from pipeline.messages import STATES
from pipeline.settings import Settings


def verify(settings: Settings) -> list[tuple[bool, str]]:
    """One line a check: is it good, and what was looked at."""
    folder = settings.data / "models"
    lines = []
    for name, model in models().items():
        try:
            path, sha = checked(folder, name)
        except Broken as error:
            lines.append((False, str(error)))
            continue
        known = model.converted.get(model.use)
        also = "" if known is None else ", as recorded" if sha.startswith(known) else ", another TensorFlow's bytes"
        lines.append((True, f"{name} {sha[:12]} {path}{also}"))
        try:
            lines.append((True, f"{name} {_runs(name, Network(path))}"))
        except Broken as error:
            lines.append((False, str(error)))
        if model.source is None:
            continue
        for form in ("f32", "int8"):
            other = converted(folder, name, form)
            if other != path and (not other.is_file() or digest(other) != record(folder).get(name, {}).get(form)):
                lines.append((False, f"{name}: {other} is missing or changed: run `maskwatch models fetch`"))
        original = folder / f"{name}.onnx"
        if not original.is_file() or digest(original) != model.source.sha256:
            lines.append((False, f"{name}: {original} is missing or changed: run `maskwatch models fetch`"))
    return lines


def _runs(name: str, network: Network) -> str:
    """What it says to the drawn picture; Broken where that is not what it said when it was chosen."""
    picture = compare.drawing()
    if name == "yunet":
        count = len(Finder(network, 0.6)(picture).boxes)
        if count != 3:
            raise Broken(f"yunet: expected the three drawn faces, found {count}")
        return "finds the three drawn faces"
    if name == "sface":
        faces = compare.aligned()
        vectors = Embedder(network)(np.concatenate([faces, faces[:1]]))
        like = vectors @ vectors.T
        if like[0, 3] < 0.999 or np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > 1e-4:
            raise Broken(f"sface: expected one face to give one vector of length 1, got a cosine of {like[0, 3]:.4f}")
        return "gives the same face the same vector"
    if name == "face_head":
        vector = np.zeros((1, Embedder.length), np.float32)
        vector[0, 0] = 1

        def fill(into: NDArray[np.float32]) -> None:
            into[:] = vector

        made = network((1, Embedder.length), fill)[0]
        if made.shape != (1, Embedder.length) or not np.isfinite(made).all():
            raise Broken(f"face_head: expected 128 finite numbers, got {made.shape}")
        return "gives a vector another one"
    if name == "mask_state":
        box = np.array([[40, 60, 200, 250]], np.float32)
        bare = Classifier(network, 16)(picture, box)[0]
        if abs(float(bare.sum()) - 1) > 1e-3:
            raise Broken(f"mask_state: expected probabilities that add up to 1, got {bare.sum():.4f}")
        return f"says {STATES[int(bare.argmax())]} to a drawn bare face"
    raise Broken(f"{name}: no check is known for it")
