"""How wide a camera's pictures are analysed where the camera leaves it open: small faces ask for width, large spare it.

A face counts by its longer side. One that is too small to be found at the width in use would never be missed, so now
and then a picture is taken as wide as the stream has it (a probe). What it shows is published like any other picture's,
and comes back as a look, from which the width follows. The choice is made where pictures are made small, and a frame
has the size that was chosen, so a replay sees what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.dedup import blocks, change
from pipeline.messages import Box, WidthReason

SECOND = 1_000_000  # µs

# Widths that are chosen from, and the one without reasons for another. The detector reduces what is wider than 1920.
STEPS, BASE = (640, 960, 1280, 1920), 960
# From 24 pixels upwards at least 9 of 10 faces are found and the state is as often right as it ever is; of 16 to 24
# pixels it is 7 in 10, of less few (models/CARDS.md; two clips made smaller: 24 px 97 %, 20 px 84 %, 16 px 59 %, 12 px
# 2 %). Faces below FEW at the whole width ask for nothing: no width would help.
WELL, FEW = 24.0, 16.0
# Below BASE only where the smaller faces keep the size from which recognition gains no more: mask.FULL_SIZE is the
# shorter side, four fifths of the longer.
LARGE = 80.0
# The faces that must fit: all but the smallest tenth, so that a poster or a passer-by far away decides nothing.
SMALL = 0.1
# A narrower width has to fit by so much, and the one in use to be in use for so long, before it is taken.
ROOM, STAY = 1.25, 60 * SECOND
# Faces seen weigh half after HALF; so many looks with faces in them decide; nobody for EMPTY, and all is forgotten.
HALF, ENOUGH, EMPTY = 300 * SECOND, 1.5, 600 * SECOND
# Looks at the whole width count once a second at most.
SPACED = 900_000
# A probe costs as much as four pictures of BASE, so there is one in EVERY on average, saved up to SAVED. While
# something moves one is taken as long as SPARE are left, which may confirm what it shows; in a still view one in STILL.
EVERY, SAVED, SPARE, STILL = 20 * SECOND, 4.0, 2.0, 60 * SECOND
# Load 1 is where capture begins to drop pictures. From PRESSED upwards pictures become narrower, a step every PAUSE;
# back up after CALM below EASY, and after twice as long, up to LONGEST, where that was too early.
PRESSED, EASY, PAUSE, CALM, LONGEST = 0.5, 0.35, 2 * SECOND, 30 * SECOND, 600 * SECOND

# Sizes are counted in eighths of an octave of the picture's width, from 1/256 upwards.
_OCTAVES, _PARTS = 8, 8


class Look(NamedTuple):
    """What was seen in one picture."""

    at: int  # µs
    width: int  # of the picture, pixels
    sizes: tuple[float, ...]  # the faces' longer sides in widths of the picture


@dataclass(frozen=True, slots=True)
class Detail:
    """What is remembered of one camera. Times are of its frames, µs."""

    width: int = 0  # in use, pixels; 0: none chosen yet
    why: WidthReason = ""
    source: int = 0  # width of the stream, pixels
    reach: int = 0  # width of the widest stream that the camera has, pixels
    fit: int = 0  # what the faces ask for, pixels; `width` is less where the stream is, or the stages cannot keep up
    since: int = 0  # when it came to ask for that
    sizes: tuple[float, ...] = ()  # weights of the faces seen, by size
    looks: float = 0.0  # weight of the looks with faces in them
    counted: int = 0  # newest look at the whole width that was counted; what time the weights are of
    faced: int = 0  # when somebody was last seen
    probed: int = 0  # newest probe
    saved: float = SAVED  # probes that may be taken
    refilled: int = 0  # what time `saved` is of
    doubt: bool = False  # a look since the newest probe showed a face too small for the width in use
    digest: bytes = b""  # of the newest picture
    moved: bool = False  # whether it differs from the one before
    eased: int = 0  # steps given up because the stages could not keep up
    eased_at: int = 0  # when the last of them was given up
    busy: int = 0  # when the load was last not easy
    regained: int = 0  # when a step was last taken back
    calm: int = CALM  # how long it must be easy before a step is taken back, µs


class Choice(NamedTuple):
    """How the next picture is taken."""

    width: int
    probe: bool = False


def look(at: int, width: int, boxes: Iterable[Box]) -> Look:
    """`boxes` in pixels of a picture of that width."""
    return Look(at, width, tuple(max(x1 - x0, y1 - y0) / max(1, width) for x0, y0, x1, y1 in boxes))


def steps(source: int) -> tuple[int, ...]:
    """The widths there are for a stream `source` pixels wide: none above its own."""
    widest = max(2, min(source // 2 * 2, STEPS[-1]))
    return (*(step for step in STEPS if step < widest), widest)


def base(source: int) -> int:
    return max((step for step in steps(source) if step <= BASE), default=steps(source)[0])


def hear(detail: Detail, look: Look) -> Detail:
    """What a look tells. One at the stream's whole width is counted; any other shows the larger faces only, and may
    raise doubt."""
    if not detail.source:
        return detail
    widest = steps(detail.source)[-1]
    faces = [size for size in look.sizes if size * steps(detail.reach)[-1] >= FEW]
    if faces:
        detail = replace(detail, faced=max(detail.faced, look.at))
    if look.width >= widest and look.at - detail.counted >= SPACED:
        detail = _counted(detail, look.at, faces)
    if look.at >= detail.probed and any(size * detail.fit < WELL for size in faces):
        detail = replace(detail, doubt=True)
    return detail


def _counted(detail: Detail, at: int, faces: list[float]) -> Detail:
    fade = 0.5 ** ((at - detail.counted) / HALF)
    weights = [weight * fade for weight in detail.sizes or (0.0,) * (_OCTAVES * _PARTS)]
    for size in faces:
        weights[max(0, int((math.log2(min(size, 0.99)) + _OCTAVES) * _PARTS))] += 1
    return replace(detail, sizes=tuple(weights), looks=detail.looks * fade + bool(faces), counted=at)


def smaller(detail: Detail) -> float:
    """The size, in widths of the picture, that all but the smallest tenth of the faces have; 0 where none was seen."""
    left = SMALL * sum(detail.sizes)
    for place, weight in enumerate(detail.sizes):
        left -= weight
        if left < 0:
            return float(2.0 ** ((place + 0.5) / _PARTS - _OCTAVES))
    return 0.0


def fitting(size: float, source: int, room: float = 1.0) -> int:
    """The narrowest width at which faces of that size, in widths of the picture, are seen well."""
    usual, there = base(source), steps(source)
    return next((step for step in there if size * step >= room * (WELL if step >= usual else LARGE)), there[-1])


def choose(detail: Detail, at: int, source: int, load: float = 0.0, reach: int = 0) -> tuple[Detail, Choice]:
    """How the picture of time `at` is taken, of a stream `source` pixels wide.

    `load`: how far the stages are behind, 1 where pictures begin to be dropped. `reach`: width of another, wider stream
    that could be opened instead; `fit` of what comes back says whether it should."""
    if detail.faced and at - detail.faced > EMPTY:
        detail = replace(detail, sizes=(), looks=0.0, faced=0, doubt=False)
    reach, widest = max(source, reach), steps(source)[-1]
    there = steps(reach)
    fit, why = _fit(replace(detail, reach=reach), at)
    if fit != detail.fit or source != detail.source or reach != detail.reach:
        detail = replace(detail, source=source, reach=reach, fit=fit, since=at)
    detail = _eased(detail, at, load, there.index(fit))
    width = min(widest, there[there.index(fit) - detail.eased])
    saved = min(SAVED, detail.saved + (at - detail.refilled) / EVERY)
    detail = replace(detail, width=width, why="behind" if detail.eased else why, saved=saved, refilled=at)
    if width == widest or detail.eased or load >= EASY or not _due(detail, at):
        return detail, Choice(width)
    return replace(detail, probed=at, saved=saved - 1, doubt=False), Choice(widest, probe=True)


def _fit(detail: Detail, at: int) -> tuple[int, WidthReason]:
    """The width that the faces seen ask for, and whether there were any to ask."""
    usual = base(detail.reach)
    now = detail.fit if detail.fit in steps(detail.reach) else usual
    if not detail.looks:
        return usual, "nobody"
    if detail.looks < ENOUGH:
        return now, "nobody" if now == usual else "faces"
    size = smaller(detail)
    wanted = fitting(size, detail.reach)
    if wanted < now:
        wanted = now if at - detail.since < STAY else min(now, fitting(size, detail.reach, ROOM))
    return wanted, "faces"


def _eased(detail: Detail, at: int, load: float, most: int) -> Detail:
    """Steps given up and taken back; at most `most`."""
    calm = CALM if not detail.eased and at - detail.regained > LONGEST else detail.calm
    detail = replace(detail, eased=min(detail.eased, most), busy=at if load >= EASY else detail.busy, calm=calm)
    if load >= PRESSED and detail.eased < most and at - detail.eased_at >= PAUSE:
        early = detail.regained and at - detail.regained < 2 * calm
        return replace(
            detail, eased=detail.eased + 1, eased_at=at, regained=0, calm=min(2 * calm, LONGEST) if early else calm)
    if detail.eased and at - max(detail.busy, detail.eased_at, detail.regained) >= calm:
        return replace(detail, eased=detail.eased - 1, regained=at)
    return detail


def _due(detail: Detail, at: int) -> bool:
    if at - detail.probed < SECOND or detail.saved < 1:
        return False
    return detail.doubt or (detail.moved and detail.saved >= 1 + SPARE) or at - detail.probed >= STILL


def taken(detail: Detail, digest: bytes, differs: float) -> Detail:
    """After a picture: does anything move? `digest`: its luma thumbnail; `differs`: luma levels, as dedup has it."""
    if len(digest) != len(detail.digest) or detail.saved < 1 + SPARE:  # no probe hangs on it: not worth the look
        return replace(detail, digest=digest, moved=False)
    return replace(detail, digest=digest, moved=bool((change(blocks(digest), blocks(detail.digest)) > differs).any()))
