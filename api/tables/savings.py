"""What dedup spared: each camera's ledger in stretches of ten minutes, folded from `faces`.

A row holds the running totals as they were at the first and at the last message of its stretch, so the same messages
again, or in another order, change nothing; what happened in a stretch is the difference to the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Index, String, and_, case, delete, func, select, true, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Micros
from api.folds import Context, Told
from pipeline.messages import Faces, Ledger

STRETCH = 600_000_000  # µs
TOTALS = Ledger.__struct_fields__


class Saved(Base):
    """Ten minutes of a camera."""

    __tablename__ = "savings"

    camera: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # of the stretch, µs UTC
    site: Mapped[str] = mapped_column(String(64))
    first: Mapped[Micros]  # time of the first message in it
    at: Mapped[Micros]  # and of the last one
    seen: Mapped[Micros]  # the totals at the last one; names as in Ledger
    kept: Mapped[Micros]
    still: Mapped[Micros]
    same_faces: Mapped[Micros]
    audited: Mapped[Micros]
    missed: Mapped[Micros]
    first_seen: Mapped[Micros]  # and at the first one
    first_kept: Mapped[Micros]
    first_still: Mapped[Micros]
    first_same_faces: Mapped[Micros]
    first_audited: Mapped[Micros]
    first_missed: Mapped[Micros]

    __table_args__ = (Index("ix_savings_start", "start"),)


class Savings:
    """`faces` -> savings."""

    name, topic = "savings", "faces"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for told in messages:
            message: Faces = told.message
            if message.ledger is None or message.source == "inspection":
                continue
            start = message.at - message.at % STRETCH
            row = rows.setdefault((message.camera, start), {
                "camera": message.camera, "start": start, "site": message.site, "first": message.at, "at": -1})
            if message.at <= row["first"]:
                row |= {"first": message.at, **{f"first_{name}": getattr(message.ledger, name) for name in TOTALS}}
            if message.at >= row["at"]:
                row |= {"at": message.at, "site": message.site,
                        **{name: getattr(message.ledger, name) for name in TOTALS}}
        if not rows:
            return
        put = insert(Saved)
        new, earlier, later = put.excluded, put.excluded.first <= Saved.first, put.excluded.at >= Saved.at
        values: dict[str, Any] = {"first": func.least(Saved.first, new.first), "at": func.greatest(Saved.at, new.at),
                                  "site": case((later, new.site), else_=Saved.site)}
        for name in TOTALS:
            values[name] = case((later, new[name]), else_=getattr(Saved, name))
            values[f"first_{name}"] = case((earlier, new[f"first_{name}"]), else_=getattr(Saved, f"first_{name}"))
        session.execute(put.on_conflict_do_update(index_elements=["camera", "start"], set_=values),
                        [rows[key] for key in sorted(rows)])

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Stretches that the topic holds entirely."""
        session.execute(delete(Saved).where(Saved.start >= -(-since // STRETCH) * STRETCH))


@dataclass(frozen=True)
class Sum:
    """Of one camera over some time; names as in Ledger."""

    camera: str
    site: str
    seen: int
    kept: int
    still: int
    same_faces: int
    audited: int
    missed: int


def sums(session: Session, since: int, until: int, where: ColumnElement[bool]) -> list[Sum]:
    """From `since` to `until`, both at the edge of a stretch. What lies between two messages counts for the second; a
    ledger that began anew (its state was lost) counts from nothing."""
    columns = (Saved.camera, Saved.start, Saved.site, *(getattr(Saved, name) for name in TOTALS),
               *(getattr(Saved, f"first_{name}") for name in TOTALS))
    within = and_(Saved.start >= since, Saved.start < until, where)
    there = select(Saved.camera).where(within).distinct().subquery()
    before = (select(*columns).where(Saved.camera == there.c.camera, Saved.start < since)
              .order_by(Saved.start.desc()).limit(1).lateral())
    rows = union_all(select(*columns).where(within), select(before).select_from(there.join(before, true()))
                     ).subquery()
    last = {name: func.lag(rows.c[name]).over(partition_by=rows.c.camera, order_by=rows.c.start) for name in TOTALS}
    known = select(rows, *(last[name].label(f"last_{name}") for name in TOTALS)).subquery()
    anew = known.c.seen < known.c.last_seen
    more = [func.sum(case((known.c.last_seen.is_(None), known.c[name] - known.c[f"first_{name}"]),
                          (anew, known.c[name]), else_=known.c[name] - known.c[f"last_{name}"])) for name in TOTALS]
    found = session.execute(
        select(known.c.camera, func.max(known.c.site), *more).where(known.c.start >= since)
        .group_by(known.c.camera).order_by(known.c.camera))
    return [Sum(camera, site, *(int(value) for value in values)) for camera, site, *values in found]


FOLDS = [Savings()]
