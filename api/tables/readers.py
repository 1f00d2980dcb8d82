"""Who reads from a MediaMTX: which login each of its sessions was admitted for."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, Stamp


class Reader(Base):
    """A session of MediaMTX that was let in; the right it was let in by may end before it does."""

    __tablename__ = "mediamtx_readers"

    session: Mapped[str] = mapped_column(String(64), primary_key=True)  # MediaMTX's id of it
    login: Mapped[str] = mapped_column(String(36))
    created: Mapped[Stamp]
