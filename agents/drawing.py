"""The annotated clip: analysed pictures with boxes, states and tracks drawn, written as H.264."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Faces, State

Image = NDArray[np.uint8]

# BGR; told apart by the colour-blind too, and each has its word beside it
COLOURS: dict[State, tuple[int, int, int]] = {
    "worn": (115, 158, 0), "incorrect": (0, 159, 230), "none": (0, 94, 213), "unknown": (160, 160, 160)}


def draw(picture: Image, faces: Faces | None, names: dict[str, str], note: str = "") -> Image:
    """A copy of the picture with its faces; `names` gives a track's person."""
    out = picture.copy()
    scale = max(0.4, out.shape[1] / 1600)
    # the newest faces may have been seen in a picture of another size
    at = out.shape[1] / faces.width if faces and faces.width else 1.0
    for face in faces.faces if faces else ():
        colour = COLOURS[face.state if face.track else face.look]
        x0, y0, x1, y1 = (round(v * at) for v in face.box)
        cv2.rectangle(out, (x0, y0), (x1, y1), colour, 2)
        label = f"{names.get(face.track, '')} {face.state} {face.state_score:.2f}" if face.track else f"({face.look})"
        _text(out, label.strip(), (x0, y0 - 5), colour, scale)
    if note:
        _text(out, note, (6, out.shape[0] - 8), (60, 60, 60), scale)
    return out


def _text(image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    (wide, high), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = max(0, min(at[0], image.shape[1] - wide))
    y = max(high + 2, at[1])
    cv2.rectangle(image, (x, y - high - 2), (x + wide, y + base), colour, cv2.FILLED)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


class Clip:
    """A video file being written; pictures keep their own times."""

    def __init__(self, path: Path, fps: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.fps = path, fps
        self.container = av.open(str(path), "w")
        self.stream: av.VideoStream | None = None
        self.first = self.last = -1

    def add(self, at: int, picture: Image) -> None:
        """`at` µs, rising; all pictures of one size (others are scaled to the first)."""
        if self.stream is None:
            high, wide = (side - side % 2 for side in picture.shape[:2])
            stream = self.container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            stream.options = {"crf": "23", "preset": "veryfast"}
            self.stream, self.first = stream, at
        if picture.shape[:2] != (self.stream.height, self.stream.width):
            picture = cv2.resize(picture, (self.stream.width, self.stream.height))  # type: ignore[assignment]
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        stamp = (at - self.first) // 1000
        if stamp <= self.last:
            return
        frame.pts, frame.time_base, self.last = stamp, Fraction(1, 1000), stamp
        self.container.mux(self.stream.encode(frame))

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        if self.stream is not None:
            self.container.mux(self.stream.encode())
        self.container.close()
