"""Who looked at a face and who changed what: rows are only ever added."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Stamp, now

LOOKED = timedelta(hours=1)  # for which one row tells of looks at the same picture: a wall asks for it again and again


class Audit(Base):
    """One look or one change."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[Stamp]
    user: Mapped[str] = mapped_column(String(36), default="")  # empty: the system
    action: Mapped[str] = mapped_column(String(60))  # noun.verb: face.look, camera.edit, user.login
    noun: Mapped[str] = mapped_column(String(200), default="")  # id of what it was done to
    site: Mapped[str] = mapped_column(String(64), default="")
    camera: Mapped[str] = mapped_column(String(64), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)  # before and after, counts; never a secret
    address: Mapped[str] = mapped_column(String(64), default="")

    __table_args__ = (Index("ix_audit_user_id", "user", "id"), Index("ix_audit_noun_id", "noun", "id"),
                      Index("ix_audit_at", "at"))


def write(session: Session, user: str, action: str, noun: str = "", *, site: str = "", camera: str = "",
          address: str = "", **detail: Any) -> None:
    """In the caller's transaction: what is rolled back was not done."""
    session.add(Audit(user=user, action=action, noun=noun, site=site, camera=camera, detail=detail, address=address))


def look(session: Session, user: str, action: str, noun: str, *, site: str = "", camera: str = "", address: str = "",
         **detail: Any) -> None:
    """A look at a picture: one row an hour for the same eyes at the same place, however often it is fetched."""
    # of several requests at once, one writes; the commit follows at once
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{action} {user} {noun}", 0))))
    if session.scalar(select(Audit.id).where(
            Audit.noun == noun, Audit.user == user, Audit.action == action, Audit.camera == camera,
            Audit.address == address, Audit.detail == detail, Audit.at > now() - LOOKED).limit(1)) is None:
        write(session, user, action, noun, site=site, camera=camera, address=address, **detail)
