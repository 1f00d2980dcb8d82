"""A unique frame -> its faces, each with a track and a mask state decided over several looks.

One look is uncertain: a turned head, a hand, a blurred frame. The looks of a track are therefore added up as evidence,
each with the weight of its quality, older ones fading; a look that can't tell adds little. The state is what the
evidence says, and `unknown` until there are two looks and enough of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import policy, tracks
from pipeline.messages import STATES, Box, Face, Faces, Frame, State
from pipeline.pictures import Image, blurred, cut, encode
from pipeline.settings import Settings
from pipeline.tracks import Track

# Evidence halves in FADE seconds: a mask pulled down shows within about two seconds at five looks a second.
FADE = 0.8
# Looks a fifth of a second apart see the same light and the same pose: however many there are, they count as no more
# than FEW independent ones, else a state would be called certain that is not.
FEW = 2.5
# Least evidence and least probability for a state other than unknown.
ENOUGH, LIKELY = 0.5, 0.6
# A face is at its best for recognition from this size upwards, pixels between the eyes' and mouth's box sides.
FULL_SIZE = 64.0
# Variance of the Laplacian of a 48 × 48 face that counts as half sharp (Pech-Pacheco et al., ICPR 2000).
HALF_SHARP = 60.0
# Chips: how much more than the face they show, their size, how many there are of a track and how far apart (µs).
AROUND, CHIP, FIRST_CHIPS, CHIPS, SOON, LATER = 0.5, 160, 3, 10, 250_000, 2_000_000


class Looks(NamedTuple):
    """What the models saw in one picture: N faces, best score first."""

    boxes: NDArray[np.float32]  # (N, 4) pixels of the picture, x0 y0 x1 y1
    scores: NDArray[np.float32]  # (N,) detector's confidence, 0..1
    landmarks: NDArray[np.float32]  # (N, 5, 2) pixels: eyes, nose, mouth corners; the person's right before left
    states: NDArray[np.float32]  # (N, 4) probabilities in the order of messages.STATES


class Watched(msgspec.Struct, frozen=True):
    """A track and what its looks said."""

    track: Track
    evidence: tuple[float, float, float] = (0.0, 0.0, 0.0)  # summed weighted log-probabilities of worn, incorrect, none
    weight: float = 0.0  # summed weights
    state: State = "unknown"
    chips: int = 0
    chip_at: int = 0  # µs
    best: float = 0.0  # quality of the best chip


class Seen(msgspec.Struct, frozen=True):
    """What the mask stage remembers of a camera."""

    version: int = -1  # offset of the last frame folded in
    at: int = 0  # time of that frame, µs
    watched: tuple[Watched, ...] = ()
    missed: int = 0  # audited frames that showed a face nobody knew of
    size: tuple[int, int] = (0, 0)  # of the newest picture, width and height: the pixels in which tracks are counted


def step(seen: Seen | None, frame: Frame, looks: Looks, picture: Image, models: dict[str, str], settings: Settings
         ) -> tuple[Seen, Faces | None]:
    """One frame of one camera; `picture` is the frame's JPEG decoded, `looks` what the models saw in it.

    A phone photo, and a frame that is `late`, is answered by itself: its faces get no track. A frame that was answered
    before (its worker died before it could say so) is not answered again: None."""
    seen = seen or Seen()
    late = frame.late or frame.source == "inspection"
    if frame.at <= seen.at and not late:
        return seen, None
    if not late and frame.width and frame.height:
        seen = resized(seen, (frame.width, frame.height))
    gone = [] if late else [w for w in seen.watched
                            if frame.ended or (frame.at - w.track.at) / 1e6 > settings.track_gap]
    alive = tuple(w for w in seen.watched if w not in gone) if not late else ()
    big = np.minimum(*(looks.boxes[:, 2:] - looks.boxes[:, :2]).T) >= settings.face_pixels
    indices = np.flatnonzero(big)
    boxes, scores = looks.boxes[indices].astype(np.float64), looks.scores[indices].astype(np.float64)
    sure = settings.face_score
    pairs = tracks.match(tuple(w.track for w in alive), frame.at, boxes, scores, sure)
    owner = {column: row for row, column in pairs}

    faces: list[Face] = []
    after = dict(enumerate(alive))
    fresh: list[Watched] = []
    for column, index in enumerate(indices.tolist()):
        name = f"{frame.id}#{column}"
        row = owner.get(column)
        if row is None and scores[column] < sure:
            continue
        watched = None
        quality = worth(picture, looks.boxes[index], looks.landmarks[index])
        if not late:
            before = after[row] if row is not None else None
            track = (tracks.update(before.track, frame.at, boxes[column]) if before
                     else tracks.start(name, frame.at, boxes[column]))
            watched = weigh(before or Watched(track), track, frame.at, looks.states[index], quality)
        face, watched = _face(name, frame, looks, index, picture, quality, watched, settings)
        faces.append(face)
        if watched is not None and row is not None:
            after[row] = watched
        elif watched is not None:
            fresh.append(watched)

    missed = seen.missed + int(frame.audit and bool(fresh))
    result = Faces(
        frame.camera, frame.at, frame.id, frame.site, frame.source, frame.privacy, frame.place, frame.width,
        frame.height, tuple(faces), tuple(w.track.id for w in gone), frame.ended, frame.audit,
        frame.ledger and msgspec.structs.replace(frame.ledger, missed=missed), models, frame.policy,
    )
    if late:
        return seen, result
    return Seen(seen.version, frame.at, (*after.values(), *fresh), missed, seen.size), result


def resized(seen: Seen, size: tuple[int, int]) -> Seen:
    """The same in pixels of a picture of another size: capture chooses how wide a camera's pictures are as it goes."""
    if size == seen.size or not all(seen.size):
        return msgspec.structs.replace(seen, size=size)
    across, down = size[0] / seen.size[0], size[1] / seen.size[1]
    watched = tuple(msgspec.structs.replace(w, track=tracks.rescale(w.track, across, down)) for w in seen.watched)
    return msgspec.structs.replace(seen, watched=watched, size=size)


def nothing() -> Looks:
    """What is seen in a frame without a picture."""
    empty = np.zeros((0, 4), np.float32)
    return Looks(empty, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32), empty)


def weigh(watched: Watched, track: Track, at: int, states: NDArray[np.float32], quality: float) -> Watched:
    """The track's evidence with one more look: `states` (4,) are its probabilities, `quality` 0..1 its worth."""
    fade = 0.5 ** ((at - watched.track.at) / 1e6 / FADE)
    told = states[:3] / max(float(states[:3].sum()), 1e-6)
    weight = float(1 - states[3]) * (0.25 + 0.75 * quality)
    logs = np.log(np.clip(told, 0.01, None))
    evidence = [fade * old + weight * float(new) for old, new in zip(watched.evidence, logs, strict=True)]
    a, b, c = evidence
    return msgspec.structs.replace(watched, track=track, evidence=(a, b, c), weight=fade * watched.weight + weight)


def decide(watched: Watched) -> tuple[State, float]:
    """The state that the looks so far say together, and its probability."""
    if watched.track.looks < 2 or watched.weight < ENOUGH:
        return "unknown", 1.0 - min(1.0, watched.weight)
    independent = min(watched.weight, FEW) / watched.weight
    powers = [math.exp(e * independent - max(watched.evidence) * independent) for e in watched.evidence]
    best = max(range(3), key=lambda i: powers[i])
    likely = powers[best] / sum(powers)
    # to leave a state costs more than to stay in it, or a track on the edge would flicker
    if watched.state != "unknown" and STATES[best] != watched.state and likely < LIKELY + 0.1:
        held = STATES.index(watched.state)
        return watched.state, powers[held] / sum(powers)
    return (STATES[best], likely) if likely >= LIKELY else ("unknown", 1 - likely)


def worth(picture: Image, box: NDArray[np.float32], landmarks: NDArray[np.float32]) -> float:
    """How well a face can be recognised, 0..1: its size, its sharpness, how far it is turned away."""
    x0, y0, x1, y1 = (int(v) for v in (*np.maximum(box[:2], 0), *box[2:]))
    piece = picture[y0:y1, x0:x1]
    if min(piece.shape[:2]) < 4:
        return 0.0
    size = min(1.0, min(x1 - x0, y1 - y0) / FULL_SIZE)
    grey = cv2.resize(cv2.cvtColor(piece, cv2.COLOR_BGR2GRAY), (48, 48), interpolation=cv2.INTER_AREA)
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    sharp = edges / (edges + HALF_SHARP)
    eyes = landmarks[:2].mean(axis=0)
    between = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    turned = abs(float(landmarks[2, 0] - eyes[0])) / max(between, 1.0)  # 0 from the front, about 0.5 half turned
    front = max(0.0, 1.0 - turned) if between > 0.2 * (x1 - x0) else 0.1
    return round(math.sqrt(size * sharp * front), 3)


def _face(name: str, frame: Frame, looks: Looks, index: int, picture: Image, quality: float,
          watched: Watched | None, settings: Settings) -> tuple[Face, Watched | None]:
    """The face as it is published, with a chip when it is one of the track's best looks."""
    states = looks.states[index]
    first = int(states.argmax())
    state: State = "unknown"
    score, chip, shows = 0.0, b"", None
    if watched is not None:
        state, score = decide(watched)
        turned = state != watched.state and state in ("none", "incorrect")
        watched = msgspec.structs.replace(watched, state=state)
        if frame.privacy != "anonymous" and _wanted(watched, frame.at, quality, turned):
            shows = surroundings(looks.boxes[index], picture)
            shown = picture
            if frame.blur_others:
                boxes = [_box(box) for i, box in enumerate(looks.boxes) if i != index]
                shown = blurred(picture, boxes, keep=_box(looks.boxes[index]))
            chip = encode(cut(shown, shows, CHIP), settings.jpeg_quality)
            watched = msgspec.structs.replace(
                watched, chips=watched.chips + 1, chip_at=frame.at, best=max(watched.best, quality))
    x0, y0, x1, y1 = (round(v, 1) for v in _box(looks.boxes[index]))
    return Face(
        name, (x0, y0, x1, y1), round(float(looks.scores[index]), 4),
        tuple(round(float(v), 1) for v in looks.landmarks[index].ravel()), STATES[first],
        round(float(states[first]), 4), watched.track.id if watched else "", state, round(score, 4), quality, chip,
        shows, zone=policy.zone(frame.policy, (x0, y0, x1, y1), frame.width, frame.height),
    ), watched


def _box(row: NDArray[np.float32]) -> Box:
    x0, y0, x1, y1 = map(float, row)
    return x0, y0, x1, y1


def _wanted(watched: Watched, at: int, quality: float, turned: bool) -> bool:
    """Whether this look deserves a chip: the first few, later better ones, now and then another, each new breach."""
    waited = at - watched.chip_at
    if turned:
        return True
    if watched.chips < FIRST_CHIPS:
        return waited >= SOON
    if watched.chips < CHIPS:
        return (quality > 1.2 * watched.best and waited >= SOON) or waited >= LATER
    return waited >= 5 * LATER


def surroundings(box: NDArray[np.float32], picture: Image) -> Box:
    """The face with what is around it, cut off at the picture's edge; whole pixels."""
    high, wide = picture.shape[:2]
    dx, dy = float(box[2] - box[0]) * AROUND, float(box[3] - box[1]) * AROUND
    x0, y0 = max(0, math.floor(float(box[0]) - dx)), max(0, math.floor(float(box[1]) - dy))
    x1, y1 = min(wide, math.ceil(float(box[2]) + dx)), min(high, math.ceil(float(box[3]) + dy))
    return float(x0), float(y0), float(x1), float(y1)
