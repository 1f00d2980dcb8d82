"""The five steps in one loop, in memory: the whole system on a page.

`maskwatch analyse`, replay and the tests run this; the agents run the same steps with Kafka between them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

import msgspec

from pipeline import dedup, detail, embed, mask, pictures, trajectory
from pipeline.detail import Look
from pipeline.mask import Looks
from pipeline.messages import Box, DeadLetter, Episode, Faces, Frame
from pipeline.pictures import BadPicture, Image
from pipeline.settings import Settings

# So many frames are looked at side by side. A constant, not the number of cores: the faces known to a frame are those
# of the turn before, and the same input has to give the same bytes on every machine.
TURN = 8


class Models(Protocol):
    """What models.registry.load() gives, and models.fakes."""

    look: Callable[[Image], Looks]
    embed: embed.Embed
    names: dict[str, str]  # of the models that look
    embed_names: dict[str, str]  # of the models that embed


class Record(NamedTuple):
    """A message on its way to a topic."""

    topic: str
    key: str
    message: msgspec.Struct


class Flow:
    """The state of every stage, and frames in, records out."""

    def __init__(self, settings: Settings, models: Models, threads: Executor | None = None) -> None:
        self.settings, self.models = settings, models
        self.map: Callable[..., Iterable[Any]] = threads.map if threads else map
        self.kept: dict[str, dedup.Kept] = {}
        self.seen: dict[str, mask.Seen] = {}
        self.sites: dict[str, trajectory.Site] = {}
        self.waiting: dict[str, list[Faces]] = {}
        self.arrivals: dict[str, trajectory.Arrivals] = {}
        self.known: dict[str, tuple[tuple[Box, ...], int]] = {}
        self.looks: defaultdict[str, deque[Look]] = defaultdict(lambda: deque(maxlen=256))  # not yet taken by capture

    def run(self, frames: Iterable[Frame], fill_known: bool = False) -> Iterator[Record]:
        """Frames in the order of time -> records in the order in which they are sent.

        `fill_known`: the frames come straight from a decoder, and are told the faces known as capture would."""
        turn: list[Frame] = []
        for frame in frames:
            turn.append(frame)
            if len(turn) == TURN:
                yield from self.turn(turn, fill_known)
                turn = []
        yield from self.turn(turn, fill_known)

    def turn(self, frames: list[Frame], fill_known: bool = False) -> Iterator[Record]:
        unique: list[Frame] = []
        for frame in frames:
            if fill_known and frame.camera in self.known:
                boxes, at = self.known[frame.camera]
                frame = msgspec.structs.replace(frame, known=boxes, known_at=at)
            self.kept[frame.camera], passed = dedup.step(self.kept.get(frame.camera), frame, self.settings)
            if passed is not None:
                unique.append(passed)
                yield Record("frames.unique", passed.camera, passed)
        for frame, (picture, looks) in zip(unique, self.map(self.look, unique), strict=True):
            if looks is None:
                yield Record("dead.letters", "frames.unique", refused(frame, "mask", picture))
                continue
            self.seen[frame.camera], faces = mask.step(
                self.seen.get(frame.camera), frame, looks, picture, self.models.names, self.settings)
            if faces is None:
                continue
            self.known[frame.camera] = known(faces), faces.at
            if not faces.ended:
                seen = [face.box for face in faces.faces]
                self.looks[frame.camera].append(detail.look(faces.at, faces.width, seen))
            yield Record("faces", faces.camera, faces)
            faces = embed.step(faces, self.models.embed, self.models.embed_names)
            yield Record("faces.embedded", faces.site, faces)
            yield from self.join(faces)

    def seen_in(self, camera: str) -> list[Look]:
        """What was seen in a camera's pictures since this was last asked: agents.video.frames asks."""
        looks = self.looks[camera]
        return [looks.popleft() for _ in range(len(looks))]

    def look(self, frame: Frame) -> tuple[Image, Looks] | tuple[BadPicture, None]:
        try:
            return look(frame, self.models)
        except BadPicture as error:
            return error, None

    def join(self, faces: Faces) -> Iterator[Record]:
        waiting = self.waiting.setdefault(faces.site, [])
        waiting.append(faces)
        arrivals = self.arrivals.setdefault(faces.site, trajectory.Arrivals())
        arrivals.hear(faces.camera, faces.at)  # in memory a message arrives when it happens
        ready = trajectory.release(self.sites.get(faces.site), waiting, arrivals, self.settings)
        for message in ready:
            self.sites[faces.site], outputs = trajectory.step(self.sites.get(faces.site), message, self.settings)
            for output in outputs:
                name = "episodes" if isinstance(output, Episode) else "trajectories"
                yield Record(name, output.site, output)
        site = self.sites.get(faces.site)
        self.waiting[faces.site] = [m for m in waiting if not trajectory.known(site, m)]


def look(frame: Frame, models: Models) -> tuple[Image, Looks]:
    """What the models see in a frame; a frame that marks an end shows nothing. Raises BadPicture."""
    if frame.ended:
        return pictures.EMPTY, mask.nothing()
    picture = pictures.decode(frame.jpeg)
    return picture, models.look(picture)


def known(faces: Faces) -> tuple[Box, ...]:
    """The boxes of a message as 0..1 of the picture: what capture writes into the frames that follow."""
    wide, high = max(1, faces.width), max(1, faces.height)
    return tuple(
        (round(x0 / wide, 4), round(y0 / high, 4), round(x1 / wide, 4), round(y1 / high, 4))
        for x0, y0, x1, y1 in (face.box for face in faces.faces)
    )


def refused(frame: Frame, stage: str, error: Exception) -> DeadLetter:
    """Instead of a result. In memory there is no partition and no offset; the frame's id stands in."""
    name = f"{type(error).__name__}: {error}"
    return DeadLetter(f"frames.unique:{frame.id}:{stage}", "frames.unique", -1, -1, stage, name, frame.at, frame.camera,
                      frame.jpeg)
