"""What must go to a topic and has not yet: written in the transaction that decides it, sent by api/publish.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, Stamp


class Outgoing(Base):
    """One record on its way; removed when the broker has it."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)  # the order in which they are sent
    topic: Mapped[str] = mapped_column(String(100))  # without prefix
    key: Mapped[str] = mapped_column(String(200))
    value: Mapped[bytes | None]  # None: a tombstone
    created: Mapped[Stamp]
