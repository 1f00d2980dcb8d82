"""What has to go from the picture store and from Milvus and has not yet: written in the transaction that decides it,
done by api/privacy.py. Nothing shows what is listed here any more."""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, Stamp


class Removal(Base):
    """One picture, or vectors."""

    __tablename__ = "removals"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))  # pictures: one, vectors: those that a filter finds
    name: Mapped[str] = mapped_column(Text)  # of the picture in the store; the filter
    site: Mapped[str] = mapped_column(String(64))
    created: Mapped[Stamp]
