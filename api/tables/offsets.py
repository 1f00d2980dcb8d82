"""How far the topics are folded into the tables: written in the transaction that writes the rows."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, extract, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from agents.lag import Look
from api.db import Base, Stamp
from pipeline.settings import Settings

SETTLED = 5.0  # seconds: an offset that was moved since the broker was asked, or just before, may well be beyond it;
# nobody moves one that is


class Offset(Base):
    """The next record to fold of a partition. Whoever folds compares and sets it, so no record counts twice.

    A number alone says nothing of a log that is another one, or that lost its end: with it stands whose it is."""

    __tablename__ = "offsets"

    topic: Mapped[str] = mapped_column(String(200), primary_key=True)  # with the prefix, as on the broker
    partition: Mapped[int] = mapped_column(primary_key=True)
    next: Mapped[int] = mapped_column(BigInteger)
    topic_id: Mapped[str] = mapped_column(String(36), default="", server_default="")  # broker.ids; empty: unknown
    # when it was last seen that there is nothing left to fold, µs UTC; None: it never was. Only of topics whose silence
    # says something: materialiser.SILENT
    caught: Mapped[int | None] = mapped_column(BigInteger)
    epoch: Mapped[int] = mapped_column(default=-1, server_default="-1")  # leader's, of the last record; -1: unknown
    moved: Mapped[Stamp]


def place(row: Offset | None, topic_id: str, begin: int, end: int) -> tuple[int, str]:
    """Where in a log to go on, and what is wrong with where the tables are; empty: nothing. `topic_id`: of the topic,
    empty when the broker tells none; `end`: up to where it holds what the tables may have seen."""
    if row is None:
        return begin, ""
    if topic_id and row.topic_id and topic_id != row.topic_id:
        return begin, "they are of another topic of this name: it was made again, or this is another cluster"
    if row.next > end:
        if not row.topic_id:  # as every offset was kept before there were ids
            return begin, f"they are at {row.next}, the log ends at {end}: it is another one, or has lost its end"
        return end, f"they are at {row.next}, of what they have the log holds no more than up to {end}: it has lost " \
                    "its end, as it may when the power fails"
    if row.next < begin:
        return begin, f"{begin - row.next} records expired before they were folded" if row.next else ""
    return row.next, ""


def behind(session: Session, settings: Settings, look: Look) -> tuple[dict[str, int], list[str]]:
    """Topic -> records that the tables do not hold yet, and each partition in which they are not where the topic is,
    with why. For the latter `look` has to be what the broker said just now."""
    from api.tables import FOLDS

    names = {settings.topic_prefix + fold.topic: fold.topic for fold in FOLDS}
    rows = {(row.topic, row.partition): (row, since) for row, since in session.execute(
        select(Offset, extract("epoch", func.clock_timestamp() - Offset.moved)).where(Offset.topic.in_(names)))}
    waiting, astray = dict.fromkeys(names.values(), 0), list[str]()
    for part, end in sorted(look.ends.items()):
        if part.topic in names:
            row, since = rows.get((part.topic, part.partition), (None, 0))
            at, why = place(row, look.ids.get(part.topic, ""), look.begins[part], end)
            waiting[names[part.topic]] += max(0, end - at)
            if why and since > SETTLED:
                astray.append(f"{names[part.topic]}[{part.partition}]: {why}")
    return waiting, astray
