"""Mask: a unique frame -> its faces, each with a track and a mask state decided over several looks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Looks(NamedTuple):
    """What the models saw in one picture: N faces, best score first."""

    boxes: NDArray[np.float32]  # (N, 4) pixels of the picture, x0 y0 x1 y1
    scores: NDArray[np.float32]  # (N,) detector's confidence, 0..1
    landmarks: NDArray[np.float32]  # (N, 5, 2) pixels: eyes, nose, mouth corners; the person's right before left
    states: NDArray[np.float32]  # (N, 4) probabilities in the order of messages.STATES
