"""Answers that were given, kept for a day: a write that is sent again under its key is answered, not done again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, Stamp

BEGUN, DONE = 0, 1  # being done; done, without an answer (yet). What is more is the status of the answer


class Answered(Base):
    """A write under an Idempotency-Key."""

    __tablename__ = "idempotency"

    user: Mapped[str] = mapped_column(String(36), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))  # SHA-256 of method, path, query and body
    status: Mapped[int] = mapped_column(default=BEGUN)  # HTTP; BEGUN or DONE
    headers: Mapped[list[Any]] = mapped_column(default=list)  # [name, value] each
    body: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    # of the right it was done under: whether everywhere, sites, [site, camera] each
    reach: Mapped[list[Any]] = mapped_column(default=lambda: [False, [], []], server_default='[false, [], []]')
    at: Mapped[Stamp]

    __table_args__ = (Index("ix_idempotency_at", "at"),)
