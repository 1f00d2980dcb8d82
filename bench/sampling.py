"""What dedup keeps and what is lost by it, against even sampling that keeps as many pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import msgspec
import numpy as np

from agents import video
from bench.clips import Clip
from bench.figures import Section, Table
from bench.percore import FPS, MATCH, WIDTH, linked
from pipeline import dedup, geometry, mask, pictures
from pipeline.mask import Looks
from pipeline.messages import STATES, Frame, State
from pipeline.scoring import QUIET, TrueFace
from pipeline.settings import Settings

BEGIN = 1_700_000_000_000_000  # µs UTC
LAG = 1  # pictures until the faces found in one are known to the next: 0.2 s, as the live system needs
SAME = 0.5  # IoU from which a face has not moved
PHASES = 5  # even sampling is tried with so many beginnings, and the mean is taken


@dataclass(frozen=True)
class Film:
    """A clip at the analysis rate, with what a detector finds in each picture and what is true there."""

    name: str
    frames: tuple[Frame, ...]
    looks: tuple[Looks, ...]
    truth: tuple[tuple[TrueFace, ...], ...] = ()  # in pixels of the analysed picture; empty: not known

    def seen(self, index: int, score: float) -> np.ndarray:
        """(N, 4): the faces published of a picture."""
        looks = self.looks[index]
        return looks.boxes[looks.scores >= score]


@dataclass(frozen=True)
class Outcome:
    """What is left of a film when only some of its pictures are analysed."""

    kept: float  # share of the pictures
    told: float  # of the faces found when all are analysed: share that the last word on the camera has in that place
    faces: float  # share of them in the pictures kept
    tracks: float  # share of the tracks found then
    walks: float | None = None  # share of people's walks through the view in which they are found at all
    states: float | None = None  # share of the moments somebody is visible at which her state is told rightly


def film(clip: Clip, look: Callable[[Any], Looks] | None, most: int | None = None) -> Film:
    """The clip's pictures; `look` None: the truth stands in for the detector."""
    frames: list[Frame] = []
    for frame in video.frames(clip.as_camera(FPS, WIDTH), start=BEGIN):
        if not frame.ended and (most is None or len(frames) < most):
            frames.append(frame)
    told = clip.faces()
    truth: list[tuple[TrueFace, ...]] = []
    if told is not None:
        for frame in frames:
            number = round((frame.at - BEGIN) / 1e6 * told.fps)
            scale = frame.width / told.width
            truth.append(tuple(
                replace(face, box=_times(face.box, scale)) for face in told.frames[clip.camera].get(number, ())))
    return _looked(clip.name, frames, truth, look)


def panned(still: Film, look: Callable[[Any], Looks] | None, *, pause: float = 0.0, turn: float = 4.0,
           share: float = 0.6) -> Film:
    """The film as a camera would see it that swings from side to side: `turn` seconds a way, `pause` at each end."""
    frames, truth = [], []
    for index, frame in enumerate(still.frames):
        second = (frame.at - BEGIN) / 1e6
        wide, high = round(frame.width * share / 2) * 2, round(frame.height * share / 2) * 2
        whole = turn + pause
        phase, way = math.fmod(second, whole), int(second / whole) % 2
        along = min(1.0, max(0.0, (phase - pause) / turn))
        x = round((1 - along if way else along) * (frame.width - wide))
        y = (frame.height - high) // 2
        picture = pictures.decode(frame.jpeg)[y : y + high, x : x + wide]
        luma = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        thumbnail = cv2.resize(luma, (dedup.WIDE, dedup.HIGH), interpolation=cv2.INTER_AREA).tobytes()
        frames.append(msgspec.structs.replace(
            frame, width=wide, height=high, jpeg=pictures.encode(picture), digest=thumbnail))
        if still.truth:
            moved = [replace(face, box=_minus(face.box, x, y)) for face in still.truth[index]]
            truth.append(tuple(
                face for face in moved
                if face.box[0] >= 0 and face.box[1] >= 0 and face.box[2] <= wide and face.box[3] <= high))  # fmt: skip
    name = f"{still.name}, swinging" + (" now and then" if pause else "")
    return _looked(name, frames, truth, look)


def _looked(name: str, frames: Sequence[Frame], truth: Sequence[tuple[TrueFace, ...]],
            look: Callable[[Any], Looks] | None) -> Film:
    if look is None:
        looks = tuple(_true_looks(faces) for faces in truth)
    else:
        looks = tuple(look(pictures.decode(frame.jpeg)) for frame in frames)
    return Film(name, tuple(frames), looks, tuple(truth))


def _true_looks(faces: Iterable[TrueFace]) -> Looks:
    visible = [face for face in faces if face.visible]
    states = np.zeros((len(visible), len(STATES)), np.float32)
    for row, face in zip(states, visible, strict=True):
        row[STATES.index(face.state)] = 1
    return Looks(
        np.array([face.box for face in visible], np.float32).reshape(-1, 4), np.ones(len(visible), np.float32),
        np.zeros((len(visible), 5, 2), np.float32), states,
    )  # fmt: skip


def _times(box: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def _minus(box: tuple[float, float, float, float], x: float, y: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0 - x, y0 - y, x1 - x, y1 - y


# -- choosing pictures ------------------------------------------------------------------------------------------------


def by_dedup(film: Film, settings: Settings, lag: int = LAG) -> list[int]:
    """Indices that dedup passes on, its audit sample left out."""
    settings = settings.model_copy(update={"audit": 0.0})
    kept, chosen = None, []
    for index, frame in enumerate(film.frames):
        told = [i for i in chosen if i <= index - lag][-1:]
        if told:
            size = np.array([frame.width, frame.height] * 2, np.float32)
            boxes = film.seen(told[0], settings.face_score) / size
            frame = msgspec.structs.replace(
                frame, known=tuple(tuple(box) for box in boxes.tolist()), known_at=film.frames[told[0]].at)
        kept, passed = dedup.step(kept, frame, settings)
        if passed is not None:
            chosen.append(index)
    return chosen


def evenly(count: int, kept: int) -> Iterator[list[int]]:
    """`kept` of `count` indices at even distances, beginning at each of PHASES places."""
    for phase in range(PHASES):
        yield sorted({int((i + phase / PHASES) * count / kept) for i in range(kept)})


# -- what is left -----------------------------------------------------------------------------------------------------


def outcome(film: Film, chosen: Sequence[int], settings: Settings, *, judged: bool = True) -> Outcome:
    """`judged`: states as the mask stage decides them; otherwise each look's own state counts."""
    score = settings.face_score
    faces = [len(film.seen(i, score)) for i in range(len(film.frames))]
    seconds = [(frame.at - BEGIN) / 1e6 for frame in film.frames]
    found = [(seconds[i], tuple(map(tuple, film.seen(i, score).tolist()))) for i in range(len(film.frames))]
    looked_at = {seconds[i] for i in chosen}
    tracks = linked(found, 2)  # type: ignore[arg-type]
    left = sum(any(second in looked_at for second, _ in track) for track in tracks)
    shares = (
        len(chosen) / len(film.frames), _told(film, chosen, score), _share(sum(faces[i] for i in chosen), sum(faces)),
        _share(left, len(tracks)))  # fmt: skip
    if not any(film.truth):
        return Outcome(*shares)
    said = _said(film, chosen, settings) if judged else _shown(film, chosen, score)
    return Outcome(*shares, _walks(film, seconds, said), _moments(film, seconds, said, settings))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _told(film: Film, chosen: Sequence[int], score: float) -> float:
    """Of all faces, those that lie where the last analysed picture says that one is."""
    analysed, last, right, asked = set(chosen), np.zeros((0, 4)), 0, 0
    for index in range(len(film.frames)):
        here = film.seen(index, score).astype(float)
        if index in analysed:
            last = here
        asked += len(here)
        if len(here) and len(last):
            right += int((geometry.iou(here, last).max(axis=1) >= SAME).sum())
    return _share(right, asked)


def _owners(film: Film, index: int, boxes: np.ndarray) -> dict[str, int]:
    """Person -> the box that is hers."""
    true = film.truth[index]
    if not true or not len(boxes):
        return {}
    overlap = geometry.iou(np.array([face.box for face in true], float), np.asarray(boxes, float))
    pairs = geometry.assign(overlap, MATCH)
    return {true[row].person: int(column) for row, column in pairs}


def _said(film: Film, chosen: Sequence[int], settings: Settings) -> dict[int, dict[str, State]]:
    """Index -> person -> the state published of her, when only the chosen pictures are analysed."""
    seen, said = None, {}
    for index in chosen:
        frame = msgspec.structs.replace(film.frames[index], privacy="anonymous")  # no chips: nobody looks at them
        seen, faces = mask.step(seen, frame, film.looks[index], pictures.decode(frame.jpeg), {}, settings)
        boxes = np.array([face.box for face in faces.faces]).reshape(-1, 4)
        said[index] = {person: faces.faces[i].state for person, i in _owners(film, index, boxes).items()}
    return said


def _shown(film: Film, chosen: Sequence[int], score: float) -> dict[int, dict[str, State]]:
    said = {}
    for index in chosen:
        looks = film.looks[index]
        sure = np.flatnonzero(looks.scores >= score)
        said[index] = {
            person: STATES[int(looks.states[sure[i]].argmax())]
            for person, i in _owners(film, index, looks.boxes[sure]).items()
        }  # fmt: skip
    return said


def _walks(film: Film, seconds: list[float], said: dict[int, dict[str, State]]) -> float:
    """Of people's walks through the view, those in which they were found at all."""
    walks: dict[str, list[list[int]]] = {}
    for index, faces in enumerate(film.truth):
        for face in faces:
            if face.visible:
                of = walks.setdefault(face.person, [])
                if of and seconds[index] - seconds[of[-1][-1]] <= QUIET:
                    of[-1].append(index)
                else:
                    of.append([index])
    found = [any(person in said.get(i, {}) for i in walk) for person, of in walks.items() for walk in of]
    return _share(sum(found), len(found))


def _moments(film: Film, seconds: list[float], said: dict[int, dict[str, State]], settings: Settings) -> float:
    """Of all moments in which somebody is visible, those at which the last word on her is her true state."""
    last: dict[str, tuple[float, State]] = {}
    right = asked = 0
    for index, faces in enumerate(film.truth):
        for person, state in said.get(index, {}).items():
            last[person] = seconds[index], state
        for face in faces:
            if face.visible and not face.changing:
                at, state = last.get(face.person, (-math.inf, "unknown"))
                asked += 1
                right += seconds[index] - at <= settings.track_gap and state == face.state
    return _share(right, asked)


def compare(film: Film, settings: Settings, *, judged: bool = True) -> tuple[Outcome, Outcome, Outcome]:
    """Everything analysed, dedup's choice, and the mean of even samplings of the same size."""
    chosen = by_dedup(film, settings)
    everything = outcome(film, range(len(film.frames)), settings, judged=judged)
    ours = outcome(film, chosen, settings, judged=judged)
    others = [outcome(film, indices, settings, judged=judged) for indices in evenly(len(film.frames), len(chosen))]
    mean = Outcome(*(
        None if getattr(others[0], name) is None else statistics.mean(getattr(other, name) for other in others)
        for name in Outcome.__dataclass_fields__))  # fmt: skip
    return everything, ours, mean


def measure(settings: Settings, chosen: Sequence[Clip], look: Callable[[Any], Looks], say: Callable[[str], None]
            ) -> Section:
    section = Section(
        "dedup", "Dedup against even sampling at the same budget", "python -m bench dedup",
        notes=[
            "Counts, not times: they are the same on every machine. The audit sample is left out on both sides.",
            "*Told*: of the faces found when every picture is analysed (five a second), those that lie where the last "
            "analysed picture has one; this is what somebody who looks at the results sees. *Walks*: people's walks "
            "through the view, by the truth, in which they are found at all. *States*: of all moments somebody is "
            "visible, those at which the last word on her (not older than a track lives) is her true state; a state "
            "needs two looks, so not everything is right even when all pictures are analysed.",
            "*Looked at* counts the same faces only where their picture was kept. A group that stands still is told "
            "rightly without being looked at again, so here dedup may lie below: in demo-ccby-cam-lobby four people "
            "stand still for the first third.",
            f"Even sampling keeps as many pictures as dedup did, at even distances, mean over {PHASES} beginnings.",
            "*Swinging*: a window of 60 % moves over the clip from side to side; *now and then*: with pauses of 8 s.",
        ],
    )
    rows = []
    for clip in chosen:
        say(f"{clip.name}: looking at every picture")
        film_ = film(clip, look)
        films = [film_]
        if clip is chosen[0]:
            say(f"{clip.name}: as a camera that swings")
            films += [panned(film_, look), panned(film_, look, pause=8.0)]
        for each in films:
            say(f"{each.name}: comparing")
            everything, ours, even = compare(each, settings)
            rows.append([
                each.name, f"{ours.kept:.0%}",
                *(_against(ours, even, name) for name in ("told", "states", "walks", "tracks", "faces")),
                "–" if everything.states is None else f"{everything.states:.1%}",
            ])  # fmt: skip
    head = ["clip", "kept", "told: ours / even", "states right", "walks", "tracks", "looked at",
            "states right, all analysed"]
    section.tables.append(Table("", head, rows))
    return section


def _against(ours: Outcome, even: Outcome, name: str) -> str:
    a, b = getattr(ours, name), getattr(even, name)
    return "–" if a is None else f"{a:.1%} / {b:.1%}"
