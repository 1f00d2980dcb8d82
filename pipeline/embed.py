"""Faces -> the same faces, the best looks of each track with an embedding.

The mask stage has cut a chip for each look that is worth it; here it is aligned by its five landmarks and embedded.
A site that is `anonymous` has no chips, and gets no embedding even if one were there.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Face, Faces
from pipeline.pictures import Image, decode

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (N, 112, 112, 3) BGR -> (N, D), L2-normalised

SIDE = 112
# Where eyes, nose and mouth corners lie in an aligned 112 × 112 face: the ArcFace template (Deng et al., CVPR 2019),
# which SFace was trained on too.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def wanted(faces: Faces) -> list[int]:
    """Indices of the faces that are embedded."""
    return [] if faces.privacy == "anonymous" else [i for i, face in enumerate(faces.faces) if face.chip]


def align(face: Face) -> Image:
    """(112, 112, 3) BGR: the chip turned and scaled so that its landmarks lie on the template."""
    if face.chip_box is None:
        raise ValueError(f"expected chip_box beside the chip of face {face.id}, got none")
    if len(face.landmarks) != 10:
        raise ValueError(f"expected 5 landmarks (10 numbers) on face {face.id}, got {len(face.landmarks)} numbers")
    picture = decode(face.chip)
    x0, y0, x1, _ = face.chip_box
    scale = picture.shape[1] / max(x1 - x0, 1)
    points = (np.array(face.landmarks).reshape(5, 2) - (x0, y0)) * scale
    warped = cv2.warpAffine(picture, similarity(points, TEMPLATE), (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return warped  # type: ignore[return-value]


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) matrix of the rotation, scale and shift that brings (N, 2) `source` closest to `target`.

    Umeyama, IEEE TPAMI 13 (1991)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    p, q = source - a, target - b
    u, d, v = np.linalg.svd(q.T @ p)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ v))])
    turn = u @ np.diag(sign) @ v
    scale = float((d * sign).sum() / max((p**2).sum(), 1e-9))
    return np.column_stack([scale * turn, b - scale * turn @ a])


def attach(faces: Faces, indices: list[int], vectors: NDArray[np.float32]) -> Faces:
    """The message with `vectors` (len(indices), D) on the faces of `indices`."""
    out = list(faces.faces)
    for index, vector in zip(indices, vectors, strict=True):
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm == 0:
            raise ValueError(f"expected a finite embedding of face {out[index].id}, got one of length {norm}")
        out[index] = msgspec.structs.replace(out[index], embedding=tuple(np.round(vector / norm, 5).tolist()))
    return msgspec.structs.replace(faces, faces=tuple(out))


def step(faces: Faces, embed: Embed, names: dict[str, str]) -> Faces:
    """One message; `names` are the models that embed."""
    indices = wanted(faces)
    if not indices:
        return faces
    vectors = embed(np.stack([align(faces.faces[i]) for i in indices]))
    return attach(msgspec.structs.replace(faces, models=faces.models | names), indices, vectors)
