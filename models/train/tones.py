"""How the mask state does by the tone of the skin that the picture shows: an estimate, as nobody labelled it.

    python -m models.train.tones DATA --models data/models --work w

The tone is the individual typology angle (ITA) of the skin between the eyes, on faces of the `test` part: the angle of
lightness over yellow in CIE Lab. Light and the camera move it as much as skin does, so these are no groups of people.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.mask import Classifier, crop
from models.measure import Share
from models.runtime import Network
from models.train import draw
from models.train.mask_state import WEIGHTS, load
from pipeline.messages import STATES

# Chardon et al. 1991: very light and light, intermediate, tan, brown and dark; degrees
TONES = (("41 and more", 41.0), ("28 to 41", 28.0), ("10 to 28", 10.0), ("-30 to 10", -30.0), ("below -30", -91.0))
SOURCES = ("kaggle853", "chandrikadeb7", "lfw-images")


def angle(bgr: NDArray[np.float32]) -> float:
    """ITA in degrees of a colour 0..255."""
    light, _, yellow = cv2.cvtColor((bgr / 255).reshape(1, 1, 3).astype(np.float32), cv2.COLOR_BGR2Lab)[0, 0]
    return float(np.degrees(np.arctan2(light - 50, max(float(yellow), 1e-3))))


def tone(degrees: float) -> str:
    return next(name for name, least in TONES if degrees >= least)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path)
    ask.add_argument("--models", type=Path, default=Path("data/models"))
    ask.add_argument("--work", type=Path, default=Path("data/training"), help="where the training left its faces")
    ask.add_argument("--weights", type=Path, default=WEIGHTS)
    given = ask.parse_args()
    samples = load(given.data, given.models, given.work / "faces.npz")
    state = Classifier(Network(given.weights), 0).state
    marked = np.isfinite(samples["landmarks"]).all(axis=(1, 2)) & (samples["pixels"] >= 24)
    count: dict[tuple[str, str], list[bool]] = {}

    def judged(row: str, face: NDArray[np.uint8], box: Any, name: str, truth: str) -> None:
        said = STATES[int(state(crop(face, box)).argmax())]
        count.setdefault((row, name), []).append(said == truth)

    for i in np.flatnonzero(marked & (samples["part"] == "test") & np.isin(samples["source"], SOURCES)):
        face, box, points, label = (samples[key][i] for key in ("crop", "box", "landmarks", "label"))
        name = tone(angle(draw.skin(face, points)))
        if label == "none":
            judged("bare", face, box, name, "none")
            for how in ("worn", "incorrect"):
                drawn = draw.mask(face, points, np.random.default_rng([int(i), STATES.index(how)]), how)
                judged(f"drawn {how}", drawn, box, name, how)
        elif label == "worn":
            judged("worn", face, box, name, "worn")
    print("| ITA, degrees | bare | worn | drawn worn | drawn incorrect |\n|---|---|---|---|---|")
    for name, _ in TONES:
        rows = [count.get((row, name), []) for row in ("bare", "worn", "drawn worn", "drawn incorrect")]
        print("|", name, "|", " | ".join(str(Share(sum(row), len(row))) for row in rows), "|")


if __name__ == "__main__":
    main()
