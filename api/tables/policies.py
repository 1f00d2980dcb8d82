"""Policies: what is required where and when at a site. Every change is a new version; none is ever changed."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Id, Stamp
from api.tables.sites import Site
from pipeline.policy import Written


class Policy(Base):
    """One version. It outlives its site: episodes name it."""

    __tablename__ = "policies"

    id: Mapped[Id]  # site:number
    site: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]  # from 1
    name: Mapped[str] = mapped_column(String(120))
    note: Mapped[str] = mapped_column(String(2000), default="")  # why it was written
    content: Mapped[dict[str, Any]]  # pipeline.policy.Written
    by: Mapped[str] = mapped_column(String(36), default="")
    created: Mapped[Stamp]

    __table_args__ = (UniqueConstraint("site", "number"),)

    @property
    def written(self) -> Written:
        return msgspec.convert(self.content, Written)


def active(session: Session, site: Site) -> Written | None:
    """What holds at a site now, by its time zone."""
    row = session.get(Policy, site.policy) if site.policy else None
    return None if row is None else msgspec.structs.replace(row.written, version=row.id, time_zone=site.time_zone)
