"""One clip, once through: as a plain loop would do it, and as our steps do it. Each side lives in its own process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.clips import Clip
from pipeline.messages import Box
from pipeline.settings import Settings

BEGIN = 946_684_800_000_000  # µs UTC, time of a clip's first picture
Make = Callable[[str, Settings], Callable[..., Any]]  # a side's name -> what it does when asked
Found = list[tuple[float, tuple[Box, ...]]]  # second of the clip, faces in pixels of the analysed picture

# What is measured. The plain loop does the least that finds faces; ours does all that the live system does between the
# camera and the message, so the comparison is against it, and `ours, detector alone` shows by how much.
SIDES = ("naive", "ours", "ours without dedup", "ours, detector alone")


@dataclass
class Pass:
    """One clip once through one side."""

    cpu: float  # seconds of processor time, all threads
    wall: float  # seconds
    sampled: int = 0  # pictures at the analysis rate
    analysed: int = 0  # of those: shown to the detector
    width: int = 0  # of the analysed picture, pixels
    found: Found = field(default_factory=list)

    @property
    def faces(self) -> int:
        return sum(len(boxes) for _, boxes in self.found)


def naive(path: Path, rate: float, fps: float, width: int, find: Callable[[Any], Any], quality: int, score: float
          ) -> Pass:
    """Read every frame, and of every sampled one: make it small, look for faces, write a JPEG."""
    import cv2

    done = Pass(0.0, 0.0)
    wall, cpu = time.perf_counter(), time.process_time()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    number = 0
    while True:
        there, picture = capture.read()
        if not there:
            break
        due = number == 0 or int(number * fps / rate + 1e-9) != int((number - 1) * fps / rate + 1e-9)
        number += 1
        if not due:
            continue
        high, wide = picture.shape[:2]
        if wide > width:
            picture = cv2.resize(picture, (width, round(high * width / wide / 2) * 2), interpolation=cv2.INTER_LINEAR)
        faces = find(picture)
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        done.sampled += 1
        done.width = picture.shape[1]
        boxes = faces.boxes[faces.scores >= score]
        done.found.append(((number - 1) / rate, tuple(tuple(box) for box in boxes.tolist())))
    capture.release()
    done.cpu, done.wall = time.process_time() - cpu, time.perf_counter() - wall
    done.analysed = done.sampled
    return done


def ours(clip: Clip, fps: float, width: int, settings: Settings, models: Any) -> Pass:
    """The steps of the live system, from the decoder to the messages as bytes, in one thread."""
    from agents import video
    from pipeline.flow import TURN, Flow
    from pipeline.messages import Faces, Frame, decode, encode

    done = Pass(0.0, 0.0)
    wall, cpu = time.perf_counter(), time.process_time()
    flow = Flow(settings, models)

    def arriving() -> Iterator[Frame]:
        for frame in video.frames(clip.as_camera(fps, width), start=BEGIN, quality=settings.jpeg_quality):
            done.sampled += not frame.ended
            done.width = frame.width or done.width
            yield decode(encode(frame, "msgpack"), Frame, "msgpack")

    turn: list[Frame] = []

    def flush() -> None:
        for record in flow.turn(turn, fill_known=True):
            encode(record.message, "msgpack" if record.topic.startswith("frames") else "json")
            message = record.message
            if record.topic == "faces" and isinstance(message, Faces) and not message.ended:
                done.analysed += 1
                done.found.append(((message.at - BEGIN) / 1e6, tuple(face.box for face in message.faces)))
        turn.clear()

    for frame in arriving():
        turn.append(frame)
        if len(turn) == TURN:
            flush()
    flush()
    done.cpu, done.wall = time.process_time() - cpu, time.perf_counter() - wall
    return done


class Side:
    """A process of its own, pinned to a core, that runs passes when asked: nothing of one side weighs on the other."""

    def __init__(self, name: str, settings: Settings, core: int, make: Make | None = None) -> None:
        self.name = name
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(make or _side, name, theirs, settings, core), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, *asked: Any) -> Any:
        """What the function that was made answers: of `_side`'s a Pass to (clip, fps, width)."""
        self.pipe.send(asked)
        try:
            told = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"the side “{self.name}” ended with code {self.process.exitcode}") from None
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.terminate()


@contextmanager
def opened(names: tuple[str, ...], settings: Settings, core: int, make: Make | None = None
           ) -> Iterator[dict[str, Side]]:
    sides = {name: Side(name, settings, core, make) for name in names}
    try:
        yield sides
    finally:
        for side in sides.values():
            side.close()


def _serve(make: Make, name: str, pipe: Connection, settings: Settings, core: int) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.sched_setaffinity(0, {core})
    import cv2

    cv2.setNumThreads(1)
    run = make(name, settings)
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(run(*asked))
        except Exception as error:
            pipe.send(RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _side(name: str, settings: Settings) -> Callable[[Clip, float, int], Pass]:
    if name == "naive":
        from models import graph

        find = graph.finder(settings.data / "models", settings.face_score / 2)
        return lambda clip, fps, width: naive(
            clip.path, clip.rate, fps, width, find, settings.jpeg_quality, settings.face_score)
    if name == "ours, detector alone":
        find = detector(settings)
        return lambda clip, fps, width: _detector_alone(clip, fps, width, find, settings)
    from models import registry

    models = registry.load(settings)
    if name == "ours without dedup":  # the time after which a frame passes whatever it shows: none
        settings = settings.model_copy(update={"heartbeat_frame": 0.0})
    return lambda clip, fps, width: ours(clip, fps, width, settings, models)


def detector(settings: Settings) -> Any:
    """The detector that the live system runs, by itself and in one pass, as the plain loop runs it."""
    from models.face import Finder
    from models.manifest import checked
    from models.runtime import Network

    return Finder(Network(checked(settings.data / "models", "yunet")[0]), settings.face_score / 2, coarse=0)


def _detector_alone(clip: Clip, fps: float, width: int, find: Any, settings: Settings) -> Pass:
    """What the plain loop does, with our decoding and our runtime: like for like."""
    from agents import video
    from pipeline import capture, pictures

    done = Pass(0.0, 0.0)
    wall, cpu = time.perf_counter(), time.process_time()
    with video.open(str(clip.path), fps, width=width, start=0) as opened_:
        for at, picture in opened_:
            _, small = capture.shrink(picture, width)
            faces = find(small)
            pictures.encode(small, settings.jpeg_quality)
            done.sampled += 1
            done.width = small.shape[1]
            boxes = faces.boxes[faces.scores >= settings.face_score]
            done.found.append((at / 1e6, tuple(tuple(box) for box in boxes.tolist())))
    done.cpu, done.wall = time.process_time() - cpu, time.perf_counter() - wall
    done.analysed = done.sampled
    return done
