"""How far the topics are folded into the tables: written in the transaction that writes the rows."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base


class Offset(Base):
    """The next record to fold of a partition. Whoever folds compares and sets it, so no record counts twice.

    A number alone says nothing of a log that is another one, or that lost its end: with it stands whose it is."""

    __tablename__ = "offsets"

    topic: Mapped[str] = mapped_column(String(200), primary_key=True)  # with the prefix, as on the broker
    partition: Mapped[int] = mapped_column(primary_key=True)
    next: Mapped[int] = mapped_column(BigInteger)
    topic_id: Mapped[str] = mapped_column(String(36), default="", server_default="")  # agents.broker.ids; empty: unknown
    epoch: Mapped[int] = mapped_column(default=-1, server_default="-1")  # leader's, of the last record; -1: unknown
