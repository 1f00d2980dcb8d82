"""What the streams say right now, folded message by message into one small picture of the whole."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import msgspec

from pipeline.capture import bare
from pipeline.messages import (
    STATES,
    Camera,
    CameraStatus,
    DeadLetter,
    Episode,
    Faces,
    Ledger,
    State,
    Trajectory,
    WidthReason,
)

MINUTE = 60_000_000  # µs
FRESH = 10_000_000  # µs after which a camera's last look is not "now" any more
EPISODES = 50  # the newest are kept
LETTERS = 5
PEOPLE = 2000  # trajectories remembered


class CountsNow(msgspec.Struct):
    """Faces by mask state."""

    worn: int = 0
    incorrect: int = 0
    none: int = 0
    unknown: int = 0

    def add(self, state: State) -> None:
        setattr(self, state, getattr(self, state) + 1)

    def __iadd__(self, other: CountsNow) -> CountsNow:
        for state in STATES:
            setattr(self, state, getattr(self, state) + getattr(other, state))
        return self


class SavingsNow(msgspec.Struct):
    """Dedup's ledger, over all cameras or one."""

    seen: int = 0
    kept: int = 0
    still: int = 0
    same_faces: int = 0
    audited: int = 0
    missed: int = 0
    saved: float = 0.0  # share of the frames seen that were not analysed again

    def add(self, ledger: Ledger) -> None:
        for field in ledger.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(ledger, field))
        self.saved = (self.still + self.same_faces) / self.seen if self.seen else 0.0


class CameraNow(msgspec.Struct):
    """One camera as it is now."""

    camera: str
    name: str = ""
    rendered: bool = False  # the pictures are computed, not filmed
    state: str = "waiting"  # of cameras.status; waiting: wished for, but no worker has taken it
    since: int = 0  # in this state since, µs UTC
    age: float = 0.0  # seconds since its worker last said anything
    fps_in: float = 0.0
    fps_analysed: float = 0.0
    analysed_width: int = 0  # pixels; 0: not known yet
    analysed_why: WidthReason = ""  # as in cameras.status
    analysed_face: float = 0.0  # of the smaller faces at that width, pixels; 0: none seen
    dropped: int = 0
    error: str = ""
    looked: float | None = None  # seconds since its newest analysed frame; None = none seen yet
    now: CountsNow = msgspec.field(default_factory=CountsNow)  # faces in the newest analysed frame
    minute: CountsNow = msgspec.field(default_factory=CountsNow)  # tracks of the last minute by their last state
    savings: SavingsNow = msgspec.field(default_factory=SavingsNow)


class EpisodeNow(msgspec.Struct):
    """One breach, without its pictures: nobody has logged in here."""

    id: str
    person: str
    state: Literal["none", "incorrect"]
    status: Literal["open", "closed"]
    start: int  # µs UTC
    end: int  # µs UTC
    cameras: tuple[str, ...]
    score: float
    looks: int
    reason: str
    site: str


class LetterNow(msgspec.Struct):
    id: str
    stage: str
    reason: str
    at: int  # µs UTC


class _Looked:
    """What was last seen by one camera."""

    def __init__(self) -> None:
        self.at = 0
        self.now = CountsNow()
        self.tracks: dict[str, tuple[int, State]] = {}
        self.ledger: Ledger | None = None


class Summary:
    """Fold messages in, read views out. `now` is a clock reading in µs UTC, always an argument."""

    def __init__(self) -> None:
        self.cameras: dict[str, Camera] = {}
        self.status: dict[str, CameraStatus] = {}
        self.looked: dict[str, _Looked] = {}
        self.open: dict[str, bool] = {}  # trajectory id -> still open
        self.episodes: dict[str, Episode] = {}
        self.letters: deque[LetterNow] = deque(maxlen=LETTERS)

    def fold(self, message: Any) -> None:
        match message:
            case Camera():
                self.cameras[message.camera] = message
            case CameraStatus():
                self.status[message.camera] = message
            case Faces(source="camera"):
                self._look(message)
            case Trajectory():
                self.open.pop(message.id, None)
                self.open[message.id] = not message.closed
                while len(self.open) > PEOPLE:
                    del self.open[next(iter(self.open))]
            case Episode():
                bare = tuple(msgspec.structs.replace(each, picture=b"") for each in message.evidence)
                self.episodes[message.id] = msgspec.structs.replace(message, evidence=bare)
                if len(self.episodes) > 2 * EPISODES:
                    newest = sorted(self.episodes.values(), key=lambda episode: episode.start)[-EPISODES:]
                    self.episodes = {episode.id: episode for episode in newest}
            case DeadLetter():
                self.letters.append(LetterNow(message.id, message.stage, message.reason, message.at))

    def remove(self, topic: str, camera: str) -> None:
        """A tombstone came."""
        if topic == "cameras":
            self.cameras.pop(camera, None)
            self.looked.pop(camera, None)
        elif topic == "cameras.status":
            self.status.pop(camera, None)

    def _look(self, faces: Faces) -> None:
        seen = self.looked.setdefault(faces.camera, _Looked())
        if faces.at < seen.at:
            return  # a message handled twice
        seen.at, seen.now = faces.at, CountsNow()
        for face in faces.faces:
            seen.now.add(face.state)
            if face.track:
                seen.tracks[face.track] = (faces.at, face.state)
        seen.tracks = {track: look for track, look in seen.tracks.items() if faces.at - look[0] <= MINUTE}
        seen.ledger = faces.ledger or seen.ledger

    def camera_views(self, now: int) -> list[CameraNow]:
        views = []
        for camera in sorted(self.cameras.keys() | self.status.keys()):
            wish, status, seen = self.cameras.get(camera), self.status.get(camera), self.looked.get(camera)
            if wish is None and status is not None and status.state == "stopped":
                continue  # removed
            view = CameraNow(camera, wish.name if wish else "", wish.rendered if wish else False)
            if status:
                view.state, view.since, view.error = status.state, status.since, bare(status.error)
                view.age = max(now - status.at, 0) / 1e6
                view.fps_in, view.fps_analysed, view.dropped = status.fps_in, status.fps_analysed, status.dropped
                view.analysed_width, view.analysed_why = status.analysed_width, status.analysed_why
                view.analysed_face = status.analysed_face
            elif wish and not wish.running:
                view.state = "stopped"
            if seen:
                view.looked = max(now - seen.at, 0) / 1e6
                if now - seen.at <= FRESH:
                    view.now = seen.now
                for at, state in seen.tracks.values():
                    if now - at <= MINUTE:
                        view.minute.add(state)
                if seen.ledger:
                    view.savings.add(seen.ledger)
            views.append(view)
        return views

    def episode_views(self, most: int = 20) -> list[EpisodeNow]:
        newest = sorted(self.episodes.values(), key=lambda episode: (episode.start, episode.id), reverse=True)[:most]
        return [
            EpisodeNow(
                each.id,
                each.person,
                each.state,
                each.status,
                each.start,
                each.end,
                each.cameras,
                each.score,
                each.looks,
                each.reason,
                each.site,
            )
            for each in newest
        ]

    @property
    def people(self) -> int:
        """Trajectories still open."""
        return sum(self.open.values())
