"""What models do on labelled pictures: detection, mask state, verification; each figure with its 95 % interval.

Shares have Wilson intervals. Average precision and calibration error have the middle 95 % of what comes out when the
pictures (of clips: stretches of two seconds) are drawn anew, with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models import labelled
from models.face import Found
from models.labelled import Labelled, Truth
from pipeline.mask import Looks
from pipeline.messages import STATES

Look = Callable[[NDArray[np.uint8]], Looks]
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SIZES = ((16, 24), (24, 40), (40, 80), (80, 100_000))  # pixels of a face's longer side
SAME, STRICT = 0.4, 0.5  # IoU from which a find is that face; and for average precision
DRAWS, SEED = 400, 20261123  # of the resampling
BARE, MASKED = ("none",), ("worn", "incorrect")


# -- shares and intervals -------------------------------------------------------------------------------------------


class Share(NamedTuple):
    """`right` of `all`."""

    right: int
    all: int

    @property
    def value(self) -> float:
        return self.right / self.all if self.all else float("nan")

    def __str__(self) -> str:
        if not self.all:
            return "–"
        low, high = interval(self.right, self.all)
        return f"{100 * self.right / self.all:.1f} % [{100 * low:.1f}–{100 * high:.1f}] of {self.all}"


class Figure(NamedTuple):
    """A number that is no share, with its interval."""

    value: float
    low: float
    high: float
    percent: bool = False

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        if self.percent:
            return f"{100 * self.value:.1f} % [{100 * self.low:.1f}–{100 * self.high:.1f}]"
        return f"{self.value:.3f} [{self.low:.3f}–{self.high:.3f}]"


def interval(right: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * ((share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def resampled(count: int, statistic: Callable[[NDArray[np.float64]], float], percent: bool = False) -> Figure:
    """`statistic` of how often each of `count` groups counts: once, and as often as it is drawn."""
    if not count:
        return Figure(float("nan"), float("nan"), float("nan"))
    chance = np.random.default_rng(SEED)
    drawn = [statistic(chance.multinomial(count, np.full(count, 1 / count)).astype(float)) for _ in range(DRAWS)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Figure(statistic(np.ones(count)), float(low), float(high), percent)


# -- faces ----------------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """One labelled face and what the models made of it."""

    truth: str  # worn, incorrect, none
    pixels: float  # longer side of the labelled box
    found: bool
    states: NDArray[np.float32] | None  # (4,) where it was found
    picture: str
    group: str = ""

    @property
    def said(self) -> str:
        return STATES[int(self.states.argmax())] if self.states is not None else ""


class Find(NamedTuple):
    """One found box."""

    score: float
    hit: bool  # it is a labelled face at IoU 0.5
    group: str


class Mistake(NamedTuple):
    """A wrong answer as a picture."""

    kind: str
    worth: float  # how bad it is, among its kind
    said: str
    jpeg: bytes


@dataclass
class Gathered:
    """What one set of models made of a folder."""

    sure: float  # score from which a find counts as a face
    faces: list[Judged] = field(default_factory=list)
    finds: list[Find] = field(default_factory=list)
    false: int = 0  # finds of at least `sure` that are no labelled face
    groups: list[str] = field(default_factory=list)  # of the pictures
    mistakes: list[Mistake] = field(default_factory=list)

    def take(self, seen: Looks, of: Labelled, pictures: bool = False) -> None:
        """One picture; `pictures`: keep wrong answers as pictures."""
        self.groups.append(of.group)
        sure = seen.scores >= self.sure
        certain = Looks(*(each[sure] for each in seen))
        if of.faces and of.faces[0].box is None:
            best = 0 if len(certain.boxes) else -1
            self._judge(of.faces[0], best, certain, of, pictures)
            return
        truth = [(face.state, face.box) for face in of.faces if face.box is not None]
        for face, j in zip(of.faces, matched(truth, certain.boxes), strict=True):
            if face.asked:
                self._judge(face, j, certain, of, pictures)
        taken = set(claimed([box for _, box in truth], seen.boxes, STRICT))
        self.finds += [Find(float(score), i in {f for f, _ in taken}, of.group)
                       for i, score in enumerate(seen.scores)
                       if not any(f == i and not of.faces[t].asked for f, t in taken)]
        whole = np.stack([box for _, box in truth]) if truth else np.zeros((0, 4), np.float32)
        for i, box in enumerate(certain.boxes):
            if not len(whole) or overlaps(box, whole).max() < SAME:
                self.false += 1
                if pictures:
                    score = float(certain.scores[i])
                    self.mistakes.append(Mistake("found where nobody is labelled", score,
                                                 f"{of.name}: score {score:.2f}", shown(of.picture, box)))

    def _judge(self, face: Truth, j: int, certain: Looks, of: Labelled, pictures: bool) -> None:
        box = face.box if face.box is not None else certain.boxes[j] if j >= 0 else None
        pixels = float(max(box[2:] - box[:2])) if box is not None else 0.0
        judged = Judged(face.state, pixels, j >= 0, certain.states[j] if j >= 0 else None, of.name, of.group)
        self.faces.append(judged)
        if not pictures or judged.said == face.state or (face.box is not None and pixels < SIZES[0][0]):
            return
        whole = np.array([0, 0, of.picture.shape[1], of.picture.shape[0]], np.float32)
        picture = shown(of.picture, box if box is not None else whole, wide=2.0 if box is not None else 1.0)
        if judged.states is None:
            said = f"{of.name}: {face.state}, {pixels:.0f} px"
            self.mistakes.append(Mistake(f"not found ({'bare' if face.state in BARE else 'masked'})", pixels, said,
                                         picture))
        else:
            stated = float(judged.states.max())
            said = f"{of.name}: {face.state}, {pixels:.0f} px; said {judged.said} {stated:.2f}"
            self.mistakes.append(Mistake(f"{face.state} called {judged.said}", stated, said, picture))


def gather(pictures: Iterable[Labelled], looks: Sequence[tuple[Look, float]], keep: bool = False) -> list[Gathered]:
    """Each of `looks` (with the score from which its finds count) on the same pictures."""
    out = [Gathered(sure) for _, sure in looks]
    for each in pictures:
        for (look, _), into in zip(looks, out, strict=True):
            into.take(look(each.picture), each, keep)
    return out


def shown(picture: NDArray[np.uint8], box: NDArray[np.float32], high: int = 120, wide: float = 2.0) -> bytes:
    """JPEG of a box with its surroundings, the box drawn in."""
    side = max(float(max(box[2:] - box[:2])), 8.0) * wide
    x, y = (box[:2] + box[2:]) / 2 - side / 2
    scale = high / side
    move = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float64)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if scale < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
    out = cv2.warpAffine(picture, move, (high, high), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    if wide > 1:
        corners = [(round((float(box[i]) - x) * scale), round((float(box[i + 1]) - y) * scale)) for i in (0, 2)]
        cv2.rectangle(out, corners[0], corners[1], (0, 220, 255), 1)
    return cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of one box with each of (N, 4)."""
    common = np.prod(np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return (common / np.maximum(area - common, 1e-6)).astype(np.float32)


def matched(truth: Sequence[tuple[str, NDArray[np.float32]]], boxes: NDArray[np.float32], least: float = SAME
            ) -> list[int]:
    """For each labelled box the found one that is it, or -1; best overlap first, none used twice."""
    out = [-1] * len(truth)
    if not len(boxes) or not truth:
        return out
    like = np.stack([overlaps(box, boxes) for _, box in truth])
    while like.max() >= least:
        i, j = (int(k) for k in np.unravel_index(int(like.argmax()), like.shape))
        out[i] = j
        like[i, :] = -1
        like[:, j] = -1
    return out


def claimed(truth: Sequence[NDArray[np.float32]], boxes: NDArray[np.float32], least: float) -> list[tuple[int, int]]:
    """(find, labelled face): each find, best score first, takes the face it overlaps most that nobody has taken."""
    out: list[tuple[int, int]] = []
    if not truth:
        return out
    whole, free = np.stack(truth), np.ones(len(truth), bool)
    for i, box in enumerate(boxes):
        like = np.where(free, overlaps(box, whole), -1)
        j = int(like.argmax())
        if like[j] >= least:
            out.append((i, j))
            free[j] = False
    return out


def average(gathered: Gathered) -> Figure:
    """Average precision at IoU 0.5: the area under precision over recall, over all labelled faces."""
    names = {name: i for i, name in enumerate(dict.fromkeys(gathered.groups))}
    count = np.bincount([names[f.group] for f in gathered.faces], minlength=len(names)).astype(float)
    order = sorted(gathered.finds, key=lambda find: -find.score)
    group = np.array([names[find.group] for find in order], int)
    hit = np.array([find.hit for find in order], float)

    def area(weights: NDArray[np.float64]) -> float:
        if not len(order):
            return 0.0
        each = weights[group]
        precision = np.cumsum(each * hit) / np.maximum(np.cumsum(each), 1e-9)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float((best * each * hit).sum() / max(float((weights * count).sum()), 1.0))

    return resampled(len(names), area)


Sizes = tuple[float, float]
ALL: Sizes = (16, 1e9)


def _of(faces: list[Judged], truth: Sequence[str] | None, sizes: Sizes) -> list[Judged]:
    return [f for f in faces if (truth is None or f.truth in truth) and sizes[0] <= f.pixels < sizes[1]]


def recall(faces: list[Judged], truth: Sequence[str] | None = None, sizes: Sizes = ALL) -> Share:
    """Labelled faces that were found."""
    those = _of(faces, truth, sizes)
    return Share(sum(f.found for f in those), len(those))


def accuracy(faces: list[Judged], truth: Sequence[str] | None = None, sizes: Sizes = ALL) -> Share:
    """Found faces whose state is right; of one state: its recall."""
    those = [f for f in _of(faces, truth, sizes) if f.found]
    return Share(sum(f.said == f.truth for f in those), len(those))


def whole(faces: list[Judged], truth: Sequence[str] | None = None, sizes: Sizes = ALL) -> Share:
    """Labelled faces that were found and called right."""
    those = _of(faces, truth, sizes)
    return Share(sum(f.said == f.truth for f in those), len(those))


def answered(faces: list[Judged], sizes: Sizes = ALL) -> tuple[Share, Share]:
    """Found faces that are not `unknown` (which is neither a breach nor its absence), and of those the right ones."""
    found = [f for f in _of(faces, None, sizes) if f.found]
    those = [f for f in found if f.said != "unknown"]
    return Share(len(those), len(found)), Share(sum(f.said == f.truth for f in those), len(those))


def precision(faces: list[Judged], state: str, sizes: Sizes = ALL) -> Share:
    """Faces called `state` that are."""
    those = [f for f in _of(faces, None, sizes) if f.said == state]
    return Share(sum(f.truth == state for f in those), len(those))


def calibration(faces: list[Judged], bins: int = 10, answers: bool = False) -> Figure:
    """Expected calibration error of the state said, found faces from 16 pixels; `answers`: without `unknown`."""
    those = [f for f in faces if f.states is not None and f.pixels >= 16 and not (answers and f.said == "unknown")]
    names = {name: i for i, name in enumerate(dict.fromkeys(f.group or f.picture for f in those))}
    group = np.array([names[f.group or f.picture] for f in those], int)
    stated = np.array([float(f.states.max()) for f in those if f.states is not None])
    off = np.array([float(f.said == f.truth) for f in those]) - stated
    which = np.minimum((stated * bins).astype(int), bins - 1)

    def error(weights: NDArray[np.float64]) -> float:
        each = weights[group]
        return float(np.abs(np.bincount(which, each * off, bins)).sum() / max(float(each.sum()), 1e-9))

    return resampled(len(names), error, percent=True)


# -- pairs ----------------------------------------------------------------------------------------------------------


class Pairs(NamedTuple):
    """What `pairs` gathers."""

    scores: NDArray[np.float32]  # (N,) cosine
    same: NDArray[np.bool_]
    missing: int  # pairs in which a face was not found
    mistakes: tuple[Mistake, ...] = ()


TEMPLATE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32)


def aligned(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(112, 112, 3): eyes, nose and mouth where SFace expects them."""
    move, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
    if move is None:
        return np.zeros((112, 112, 3), np.uint8)
    return cv2.warpAffine(picture, move, (112, 112), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def central(found: Found | Looks, width: int, height: int) -> int | None:
    """The face nearest to the middle of a portrait."""
    if not len(found.boxes):
        return None
    middle = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - [width / 2, height / 2]
    return int(np.abs(middle).max(axis=1).argmin())


class Portraits:
    """Pictures of one face each -> aligned face and vector, each computed once."""

    def __init__(self, find: Callable[[NDArray[np.uint8]], Found | Looks], embed: Embed) -> None:
        self.find, self.embed = find, embed
        self.kept: dict[Path, tuple[NDArray[np.uint8], NDArray[np.float32]] | None] = {}

    def __call__(self, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        if path not in self.kept:
            picture = labelled.read(path)
            self.kept[path] = None if picture is None else self._of(picture)
        return self.kept[path]

    def _of(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        found = self.find(picture)
        i = central(found, picture.shape[1], picture.shape[0])
        if i is None:
            return None
        face = aligned(picture, found.landmarks[i])
        return face, self.embed(face[None])[0]


def pairs(folder: Path, portraits: Portraits, first: str = "images", second: str = "images", keep: bool = False
          ) -> Pairs:
    """pairs.csv; `first`, `second`: the folders of `a` and `b`, such as the one of the pictures with drawn masks."""
    scores, same, missing = [], [], 0
    kept: list[Mistake] = []
    for pair in labelled.pairs(folder):
        a, b = portraits(folder / first / pair.a), portraits(folder / second / pair.b)
        if a is None or b is None:
            missing += 1
            continue
        cosine = float(a[1] @ b[1])
        scores.append(cosine)
        same.append(pair.same)
        if keep:
            both = cv2.imencode(".jpg", np.hstack([a[0], b[0]]), [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
            kind = "one person, least alike" if pair.same else "two people, most alike"
            kept.append(Mistake(kind, -cosine if pair.same else cosine, f"{pair.a}, {pair.b}: {cosine:.2f}", both))
    return Pairs(np.array(scores, np.float32), np.array(same, bool), missing, tuple(kept))


def verified(measured: Pairs, folds: int = 10) -> Share:
    """Pairs told rightly, each tenth with the threshold that is best on the others."""
    order = np.arange(len(measured.scores)) % folds
    right = 0
    for fold in range(folds):
        inside = order == fold
        scores, same = measured.scores[~inside], measured.same[~inside]
        if not len(scores):
            continue
        by = np.argsort(-scores, kind="stable")
        # right at a threshold: the same ones above it and the others below
        right_at = np.cumsum(same[by]) + (~same).sum() - np.cumsum(~same[by])
        best = scores[by][int(right_at.argmax())]
        right += int(((measured.scores[inside] >= best) == measured.same[inside]).sum())
    return Share(right, len(measured.scores))


def accepted(measured: Pairs, rate: float) -> tuple[Share, float]:
    """Same-person pairs accepted at the threshold at which `rate` of the others are; and that threshold."""
    others = np.sort(measured.scores[~measured.same])[::-1]
    threshold = float(others[min(int(rate * len(others)), len(others) - 1)]) if len(others) else 1.0
    mine = measured.scores[measured.same]
    return Share(int((mine > threshold).sum()), len(mine)), threshold


def at(measured: Pairs, threshold: float) -> tuple[Share, Share]:
    """Pairs of one person above a threshold, and pairs of two people above it."""
    above: NDArray[Any] = measured.scores >= threshold
    same = measured.same
    return Share(int(above[same].sum()), int(same.sum())), Share(int(above[~same].sum()), int((~same).sum()))
