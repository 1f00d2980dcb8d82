"""What a fold is: messages of one topic into rows, again and anew. All of them are listed in api/tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from sqlalchemy.orm import Session

from pipeline.messages import DeadLetter
from pipeline.settings import Settings


class Told(msgspec.Struct, frozen=True):
    """One record of a topic, with its message."""

    key: str
    message: Any  # None: a tombstone
    topic: str  # without prefix
    partition: int
    offset: int
    at: int  # of the record, µs UTC
    payload: bytes = b""

    def of(self, message: Any) -> Told:
        return msgspec.structs.replace(self, message=message)

    def refused(self, reason: str) -> DeadLetter:
        return DeadLetter(f"{self.topic}:{self.partition}:{self.offset}:materialiser", self.topic, self.partition,
                          self.offset, "materialiser", reason, self.at, self.key, self.payload)


class Fold(Protocol):
    """Messages of one topic, of one partition and in its order -> rows. The same messages again change nothing."""

    name: str  # what `maskwatch rebuild` calls it
    topic: str

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None: ...

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Remove what was folded from records since then, µs; 0: everything."""
        ...


@dataclass
class Context:
    """What folds may use besides the session."""

    settings: Settings
    after: list[Callable[[], None]] = field(default_factory=list)  # to be done once the transaction is through
    before: list[Callable[[], None]] = field(default_factory=list)  # of a rebuild: once all is folded, before it is
    written: set[int] | None = None  # by a rebuild: rows of the store of vectors; None: this is no rebuild of them

    def ready(self) -> None:
        jobs, self.before = self.before, []
        for job in jobs:
            job()

    def done(self) -> None:
        jobs, self.after = self.after, []
        for job in jobs:
            job()

    def undo(self) -> None:
        self.after, self.before, self.written = [], [], None
