"""How two lists of episodes differ: which of one belong to which of the other, and what is not alike in them.

Two episodes are the same breach when they have the same id; else when they share a camera, overlap in time, and share a
track or show the same face (evidence from one frame whose boxes overlap by half, the usual measure for "the same
object": Everingham et al., PASCAL VOC, IJCV 2010); else when they overlap by half of the time they cover together (the
usual measure for "the same event": Heilbron et al., ActivityNet, CVPR 2015) and no frame shows them side by side. Each
belongs to one at most; the surest pairs are made first, as greedy matching in tracking does (Bernardin and
Stiefelhagen, CLEAR MOT, 2008, who keep earlier pairs before they make new ones).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

SAME_FACE, SAME_TIME = 0.5, 0.5  # least overlap, intersection over union
# Of what makes an episode another one. Ids differ with the models, and who judged it is what one changed.
FIELDS = ("state", "status", "reason", "start", "end", "cameras", "zone", "looks", "score")
# Of an episode that reaches over an edge of the stretch only this can be compared.
CUT_FIELDS = ("state", "zone")


class Shown(msgspec.Struct, frozen=True):
    """A look that shows a breach."""

    face: str
    camera: str
    at: int  # µs UTC
    box: tuple[float, float, float, float]
    look: str
    look_score: float
    picture: str  # name in the picture store; empty: none was kept


class Breach(msgspec.Struct, frozen=True):
    """An episode of either side."""

    id: str
    person: str
    tracks: tuple[str, ...]
    state: str
    status: str
    start: int  # µs UTC
    end: int
    cameras: tuple[str, ...]
    score: float
    looks: int
    reason: str
    zone: str
    policy: str
    rule: str
    evidence: tuple[Shown, ...] = ()
    cut: bool = False  # it began before the stretch or went on after it, or other cameras saw it too
    exempt: str = ""  # why it was no breach: its person was spared, or the rule is for others
    roles: tuple[str, ...] = ()  # for whom alone the rule is; empty: for everybody


class Pair(NamedTuple):
    """What one side has, what the other has; None: nothing."""

    one: Breach | None
    other: Breach | None
    changed: tuple[str, ...] = ()  # fields

    @property
    def kind(self) -> str:
        if self.other is None:
            return "gained"
        if self.one is None:
            return "lost"
        return "changed" if self.changed else "same"

    @property
    def key(self) -> tuple[int, str, str]:
        """By which pairs are in order; of no two the same."""
        there = self.one or self.other
        assert there is not None  # noqa: S101 -- one of them is
        return there.start, self.one.id if self.one else "", self.other.id if self.other else ""


def compare(ones: Sequence[Breach], others: Sequence[Breach]) -> list[Pair]:
    """In the order of their start."""
    pairs = matches(ones, others)
    found = [Pair(ones[i], others[j], changes(ones[i], others[j])) for i, j in pairs]
    taken, gone = {i for i, _ in pairs}, {j for _, j in pairs}
    found += [Pair(each, None) for i, each in enumerate(ones) if i not in taken]
    found += [Pair(None, each) for j, each in enumerate(others) if j not in gone]
    return sorted(found, key=lambda pair: pair.key)


def changes(one: Breach, other: Breach) -> tuple[str, ...]:
    fields = CUT_FIELDS if one.cut or other.cut else FIELDS
    return tuple(name for name in fields if getattr(one, name) != getattr(other, name))


def matches(ones: Sequence[Breach], others: Sequence[Breach]) -> list[tuple[int, int]]:
    """Indices of those that belong together."""
    by_id = {each.id: j for j, each in enumerate(others)}
    pairs = [(i, by_id[each.id]) for i, each in enumerate(ones) if each.id in by_id]
    left, free = set(range(len(ones))) - {i for i, _ in pairs}, set(range(len(others))) - {j for _, j in pairs}
    ranked = []
    for i, j in overlapping(ones, others, left, free):
        sure = alike(ones[i], others[j])
        if sure is not None:
            ranked.append((sure, (ones[i].start, ones[i].id), (others[j].start, others[j].id), i, j))
    for _, _, _, i, j in sorted(ranked, key=lambda r: (-r[0][0], -r[0][1], r[1], r[2])):
        if i in left and j in free:
            left.discard(i)
            free.discard(j)
            pairs.append((i, j))
    return pairs


def overlapping(ones: Sequence[Breach], others: Sequence[Breach], left: set[int], free: set[int]
                ) -> Iterable[tuple[int, int]]:
    """Pairs that share a camera and some time."""
    by_camera: dict[str, list[int]] = defaultdict(list)
    for j in sorted(free, key=lambda j: others[j].start):
        for camera in set(others[j].cameras):
            by_camera[camera].append(j)
    longest = max((others[j].end - others[j].start for j in free), default=0)
    found: set[tuple[int, int]] = set()
    for i in left:
        one = ones[i]
        for camera in set(one.cameras):
            queue = by_camera.get(camera, [])
            for j in queue[_first(others, queue, one.start - longest):]:
                if others[j].start > one.end:
                    break
                if others[j].end >= one.start:
                    found.add((i, j))
    return sorted(found)


def _first(others: Sequence[Breach], queue: list[int], start: int) -> int:
    low, high = 0, len(queue)
    while low < high:
        middle = (low + high) // 2
        if others[queue[middle]].start < start:
            low = middle + 1
        else:
            high = middle
    return low


def alike(one: Breach, other: Breach) -> tuple[int, float] | None:
    """How sure two that share a camera and some time are the same breach: greater is surer; None: they are not."""
    shared = max(0, min(one.end, other.end) - max(one.start, other.start))
    covered = max(one.end, other.end) - min(one.start, other.start)
    time = shared / covered if covered else 1.0
    if one.person == other.person or set(one.tracks) & set(other.tracks):
        return 2, time
    boxes = [iou(a.box, b.box) for a in one.evidence for b in other.evidence if (a.camera, a.at) == (b.camera, b.at)]
    if boxes and max(boxes) >= SAME_FACE:
        return 2, time
    return (1, time) if time >= SAME_TIME and not boxes else None


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def counted(pairs: Iterable[Pair]) -> dict[str, Any]:
    found = {"gained": 0, "lost": 0, "changed": 0, "same": 0}
    for pair in pairs:
        found[pair.kind] += 1
    return found
