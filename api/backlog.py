"""What has waited for each stage over the last hour, and how old the oldest of it is; kept in this process."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import msgspec

from agents.lag import Look
from pipeline import topics

KEPT = 3600.0  # seconds
STEP = 15.0  # seconds of a moment that is told: the most that waited in it


class Moment(msgspec.Struct):
    """What waited at one time."""

    at: int  # µs UTC
    waiting: dict[str, int]  # stage -> records it had not acknowledged
    seconds: dict[str, float]  # stage -> how long ago the oldest of these was written


class Count(NamedTuple):
    """Of one stage's topics, over all partitions."""

    written: int  # offsets given out so far
    waiting: int


class Backlog:
    """`add` every look, from one thread; `seconds` and `moments` from any."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, dict[str, Count]]] = deque()
        self._told: deque[Moment] = deque()
        self._lock = threading.Lock()

    def add(self, at: int, counts: dict[str, Count]) -> None:
        with self._lock:
            self._looks.append((at, counts))
            while self._looks[0][0] < at - KEPT * 1e6:
                self._looks.popleft()
            moment = Moment(at, {stage: count.waiting for stage, count in counts.items()},
                            {stage: self._seconds(stage) for stage in counts})
            last = self._told[-1] if self._told else None
            if last is None or at // (STEP * 1e6) != last.at // (STEP * 1e6):
                self._told.append(moment)
            else:
                for mine, theirs in ((moment.waiting, last.waiting), (moment.seconds, last.seconds)):
                    mine.update({stage: max(value, mine.get(stage, 0)) for stage, value in theirs.items()})
                self._told[-1] = moment
            while self._told[0].at < at - KEPT * 1e6:
                self._told.popleft()

    def seconds(self) -> dict[str, float]:
        """Of each stage, how long ago the oldest record that waits for it was written: 0 when nothing does, at least
        as long as is known when it is older than that."""
        with self._lock:
            return {stage: self._seconds(stage) for stage in (self._looks[-1][1] if self._looks else ())}

    def moments(self) -> list[Moment]:
        with self._lock:
            return list(self._told)

    def _seconds(self, stage: str) -> float:
        """When as much had been written as is done now: between the look before that and the look after it, evenly."""
        at, counts = self._looks[-1]
        written, waiting = counts[stage]
        after = at, written
        if not waiting:
            return 0.0
        for then, earlier in reversed(self._looks):
            count = earlier.get(stage)
            if count is None or count.written > after[1]:  # the topic was made anew
                break
            if count.written <= written - waiting:
                more = after[1] - count.written
                part = (written - waiting - count.written) / more if more else 1.0
                return round((at - then - part * (after[0] - then)) / 1e6, 1)
            after = then, count.written
        return round((at - after[0]) / 1e6, 1)


def counts(look: Look, unfolded: dict[str, int] | None) -> dict[str, Count]:
    """Of the stages of the flow, and of the materialiser when what it has not folded is known."""
    written = {size.topic: size.written for size in look.sizes}
    waiting = {group.stage: group.waiting for group in look.groups if group.stage in topics.FLOW}
    if unfolded is not None:
        waiting["materialiser"] = unfolded
    return {stage: Count(sum(written.get(topic, 0) for topic in those), sum(those.values()))
            for stage, those in waiting.items()}

