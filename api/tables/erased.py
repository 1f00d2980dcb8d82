"""Who was erased: the hashes of their faces, tracks and routes, so that no fold brings them back; and each report.

The materialiser and every rebuild pass what they read through `strip` before any fold sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Index, String, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, MadeId, Stamp
from api.folds import Told
from pipeline.messages import Episode, Faces, Trajectory

T = TypeVar("T")
LOCK = 7_041_003  # advisory: folds share it; what must not fall between their reading and writing has it alone


class Erasure(Base):
    """One erasure: who asked for it and why, and what became of it; not whom it was about."""

    __tablename__ = "erasures"

    id: Mapped[MadeId]
    at: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36))
    site: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(2000))
    report: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_erasures_at", "at"),)


class Erased(Base):
    """A face, a track or a person that is gone. The id tells where somebody was and when, so only its hash is here."""

    __tablename__ = "erased"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the id, hex
    erasure: Mapped[str] = mapped_column(String(36), index=True)


def digest(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()


def mark(session: Session, erasure: str, ids: Iterable[str]) -> None:
    rows = [{"digest": digest(id), "erasure": erasure} for id in sorted(set(ids)) if id]
    for begin in range(0, len(rows), 1000):
        session.execute(insert(Erased).values(rows[begin:begin + 1000]).on_conflict_do_nothing())


def erased(session: Session, ids: Iterable[str]) -> set[str]:
    """Those of the ids that are erased."""
    by_digest = {digest(id): id for id in ids}
    found: set[str] = set()
    digests = sorted(by_digest)
    for begin in range(0, len(digests), 5000):
        found |= set(session.scalars(select(Erased.digest).where(Erased.digest.in_(digests[begin:begin + 5000]))))
    return {by_digest[each] for each in found}


def alone(session: Session, seconds: int = 30) -> None:
    """Until the transaction ends nothing is folded, and what was being folded is there. Before any other lock: so does
    a fold. Raises OperationalError when a batch, or a rebuild, does not end in time."""
    session.execute(select(func.set_config("lock_timeout", f"{seconds}s", True)))
    session.execute(select(func.pg_advisory_xact_lock(LOCK)))


def together(session: Session) -> None:
    """Until the transaction ends nobody is erased: for whoever looks at what is there and writes about it."""
    session.execute(select(func.pg_advisory_xact_lock_shared(LOCK)))


def strip(session: Session, messages: Sequence[Told]) -> list[Told]:
    """The same records without whoever is erased: a message of which nothing is left is left out.

    Holds erasures back until the transaction ends, so that none falls between what it read and what is written."""
    together(session)
    if session.scalar(select(Erased.digest).limit(1)) is None:
        return list(messages)
    gone = erased(session, {id for told in messages for id in _ids(told.message)})
    if not gone:
        return list(messages)
    return [told if message is told.message else told.of(message)
            for told in messages if (message := _without(told.message, gone)) is not None or told.message is None]


def _ids(message: Any) -> Iterable[str]:
    if isinstance(message, Faces):
        for face in message.faces:
            yield face.id
            if face.track:
                yield face.track
        yield from message.gone
    elif isinstance(message, Trajectory):
        yield message.id
        yield from (leg.track for leg in message.legs)
    elif isinstance(message, Episode):
        yield message.id
        yield message.person
        yield from (one.face for one in message.evidence)


def _without(message: Any, gone: set[str]) -> Any:
    """What is left of a message; None: nothing."""
    change = msgspec.structs.replace
    if not gone.intersection(_ids(message)):
        return message
    if isinstance(message, Faces):
        return change(message, faces=tuple(f for f in message.faces if f.id not in gone and f.track not in gone),
                      gone=tuple(track for track in message.gone if track not in gone))
    if isinstance(message, Trajectory):
        left = [i for i, leg in enumerate(message.legs) if leg.track not in gone]
        if message.id in gone or not left:
            return None
        return change(message, legs=tuple(message.legs[i] for i in left), gaps=between(message.gaps, left))
    if isinstance(message, Episode):
        if message.id in gone or message.person in gone:
            return None
        return change(message, evidence=tuple(one for one in message.evidence if one.face not in gone))
    return message


def between(gaps: Sequence[T], left: Sequence[int]) -> tuple[T, ...]:
    """Those of a route of which these legs are left: a gap lies between two that were neighbours, and across an erased
    one nothing is known."""
    found = tuple(gaps[i - 1] for i in left[1:] if i - 1 in left and i - 1 < len(gaps))
    return found if len(found) == len(left) - 1 else ()
