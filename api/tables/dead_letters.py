"""Dead letters: what each is about, folded from `dead.letters`. The payload stays on the topic: it may be a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, delete, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from agents import dead_letters
from api.db import Base, Id, Micros
from api.folds import Context, Told
from pipeline import topics
from pipeline.messages import DeadLetter

TOPIC = "dead.letters"


class Letter(Base):
    """A message that a stage could not take; of an id the newest record counts."""

    __tablename__ = "dead_letters"

    id: Mapped[Id]  # topic:partition:offset:stage
    topic: Mapped[str] = mapped_column(String(100), index=True)
    partition: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    stage: Mapped[str] = mapped_column(String(64), index=True)
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[Micros]
    key: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int]  # of the payload that is kept
    cut: Mapped[bool]  # it is only the beginning of what was refused
    redriven: Mapped[Micros]  # 0: not yet
    recorded: Mapped[Micros]  # time of its record on dead.letters
    record_partition: Mapped[int]  # where that lies
    record_offset: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_dead_letters_at_id", "at", "id"),)


class Letters:
    """`dead.letters` -> dead_letters; what has expired on the topic goes."""

    name, topic = "dead_letters", TOPIC

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        rows: dict[str, dict[str, Any]] = {}
        for told in messages:
            letter: DeadLetter = told.message
            rows[_text(letter.id)[:200]] = {
                "id": _text(letter.id)[:200], "topic": _text(letter.topic)[:100], "partition": letter.partition,
                "offset": letter.offset, "stage": _text(letter.stage)[:64], "reason": _text(letter.reason),
                "at": letter.at, "key": _text(letter.key), "bytes": len(letter.payload),
                "cut": dead_letters.cut(letter), "redriven": letter.redriven, "recorded": told.at,
                "record_partition": told.partition, "record_offset": told.offset,
            }  # fmt: skip
        if not rows:
            return
        put = insert(Letter)
        columns = [column.name for column in Letter.__table__.columns if column.name != "id"]
        session.execute(put.on_conflict_do_update(
            index_elements=["id"], set_={name: put.excluded[name] for name in columns},
            where=tuple_(Letter.record_partition, Letter.record_offset)
            <= tuple_(put.excluded.record_partition, put.excluded.record_offset)), list(rows.values()))
        kept = topics.find(TOPIC).retention
        if kept is not None:
            newest = max(row["recorded"] for row in rows.values())
            session.execute(delete(Letter).where(Letter.recorded < newest - kept * 1_000_000))

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(Letter).where(Letter.recorded >= since))


def unplace(session: Session) -> None:
    """The topic is another one: no letter lies where it did, and what comes is newer."""
    session.execute(update(Letter).values(record_partition=0, record_offset=-1))


def _text(text: str) -> str:
    """As PostgreSQL can take it: what was refused may hold anything."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


FOLDS = [Letters()]
