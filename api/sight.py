"""Faces in a picture that somebody sends: found, judged and embedded by the models of this process, a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
from litestar.datastructures import State as AppState
from numpy.typing import NDArray

from api import uploads, vectors
from api.problems import Problem
from pipeline import embed, mask
from pipeline.flow import Models
from pipeline.messages import STATES
from pipeline.pictures import Image, cut, encode
from pipeline.settings import Settings

WAIT = 20.0  # seconds a request waits for its turn
CHIP = 320  # pixels a side of the kept picture of a face
# A portrait is compared with every look from then on: it has to be better than a look. Of the quality that the mask
# stage gives (size, sharpness, pose) half of what a sharp frontal face of 64 pixels has.
PORTRAIT_QUALITY, PORTRAIT_PIXELS = 0.4, 48

_lock = threading.Lock()


@dataclass(frozen=True)
class Seen:
    """A face in a picture."""

    box: tuple[float, float, float, float]  # pixels of `image`, x0 y0 x1 y1
    score: float
    landmarks: NDArray[np.float32]  # (5, 2)
    states: NDArray[np.float32]  # (4,) probabilities in the order of STATES
    quality: float

    @property
    def look(self) -> str:
        return STATES[int(self.states.argmax())]

    @property
    def masked(self) -> bool:
        return self.look in ("worn", "incorrect")


class FoundFace(msgspec.Struct):
    """A face in a picture that was sent."""

    index: int  # from 0, left to right
    box: tuple[float, float, float, float]  # x0 y0 x1 y1, pixels of the upright picture as `width` and `height` say
    score: float  # that it is a face, 0..1
    look: str  # worn, incorrect, none, unknown
    look_score: float  # calibrated probability of `look`
    states: dict[str, float]  # of each state
    quality: float  # how well it can be recognised, 0..1


class FoundFaces(msgspec.Struct):
    """What is in a picture."""

    width: int  # after it was turned upright and made no larger than 1920 pixels
    height: int
    faces: list[FoundFace]


class Sight:
    """The process's one, as `app.state.sight`: models are loaded at the first picture."""

    def __init__(self, settings: Settings, models: Models | None = None) -> None:
        self.settings, self._models = settings, models
        self._turns = threading.BoundedSemaphore(settings.cores)
        self._loading = threading.Lock()

    @property
    def models(self) -> Models:
        with self._loading:
            if self._models is None:
                from models import registry
                from models.manifest import Broken

                try:
                    self._models = registry.load(self.settings)
                except Broken as error:
                    raise Problem(503, "no models", f"{error}; `maskwatch models fetch` gets them") from None
            return self._models

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=WAIT):
            raise Problem(503, "busy", f"expected a turn within {WAIT:.0f} s; send fewer pictures at a time",
                          headers={"Retry-After": "5"})
        try:
            yield
        finally:
            self._turns.release()

    def read(self, content: bytes) -> Image:
        """Raises Problem as uploads.read does."""
        return uploads.read(content).image

    def look(self, image: Image) -> list[Seen]:
        """Its faces, left to right."""
        models = self.models
        with self._turn():
            looks = models.look(image)
            found = []
            for i in range(len(looks.scores)):
                x0, y0, x1, y1 = (float(v) for v in looks.boxes[i])
                if looks.scores[i] < self.settings.face_score or min(x1 - x0, y1 - y0) < self.settings.face_pixels:
                    continue
                found.append(Seen((round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)), float(looks.scores[i]),
                                  looks.landmarks[i], looks.states[i],
                                  mask.worth(image, looks.boxes[i], looks.landmarks[i])))
        return sorted(found, key=lambda seen: (seen.box[0], seen.box[1]))

    def embed(self, image: Image, faces: list[Seen]) -> NDArray[np.float32]:
        """(N, D), each of length 1."""
        aligned = [cv2.warpAffine(image, embed.similarity(seen.landmarks.astype(np.float64), embed.TEMPLATE),
                                  (embed.SIDE, embed.SIDE), flags=cv2.INTER_LINEAR) for seen in faces]
        models = self.models
        with self._turn():
            return models.embed(np.stack(aligned).astype(np.uint8))

    def space(self, length: int) -> str:
        """Of this process's vectors."""
        return vectors.space(self.models.names | self.models.embed_names, length)

    @property
    def names(self) -> dict[str, str]:
        """Model -> first 12 hex digits of its SHA-256."""
        return self.models.names | self.models.embed_names


def of(state: AppState) -> Sight:
    """`state`: request.app.state."""
    with _lock:
        if "sight" not in state:
            state["sight"] = Sight(state["settings"])
    found: Sight = state["sight"]
    return found


def view(image: Image, faces: list[Seen]) -> FoundFaces:
    return FoundFaces(image.shape[1], image.shape[0], [
        FoundFace(i, seen.box, round(seen.score, 4), seen.look, round(float(seen.states.max()), 4),
                 {state: round(float(p), 4) for state, p in zip(STATES, seen.states, strict=True)}, seen.quality)
        for i, seen in enumerate(faces)])


def choose(faces: list[Seen], index: int | None) -> int:
    """The face that is meant. Raises Problem 422 when that is not clear."""
    if not faces:
        raise Problem(422, "no face", "expected a picture with a face, found none")
    if index is None:
        if len(faces) > 1:
            raise Problem(422, "several faces", f"expected `face`, 0 to {len(faces) - 1}, since the picture has "
                          f"{len(faces)} faces", faces=[{"index": i, "box": seen.box} for i, seen in enumerate(faces)])
        return 0
    if not 0 <= index < len(faces):
        raise Problem(422, "no such face", f"expected a face from 0 to {len(faces) - 1}, got {index}")
    return index


def good_portrait(seen: Seen) -> list[str]:
    """What is wrong with a face as a portrait; nothing: it is good."""
    x0, y0, x1, y1 = seen.box
    faults = []
    if min(x1 - x0, y1 - y0) < PORTRAIT_PIXELS:
        faults.append(f"too small: expected at least {PORTRAIT_PIXELS} pixels, got {min(x1 - x0, y1 - y0):.0f}")
    if seen.quality < PORTRAIT_QUALITY:
        faults.append(f"blurred, small or turned away: expected a quality of at least {PORTRAIT_QUALITY}, "
                      f"got {seen.quality}")
    return faults


def chip(image: Image, seen: Seen) -> bytes:
    """JPEG of the face with its surroundings."""
    return encode(cut(image, mask.surroundings(np.array(seen.box, np.float32), image), CHIP))
