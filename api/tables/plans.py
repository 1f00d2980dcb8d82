"""Floor plans: a picture or a stretch of the map, and where it lies in the site's metres."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, MadeId, Stamp


class Plan(Base):
    """One floor of a site."""

    __tablename__ = "plans"

    id: Mapped[MadeId]
    site: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(8))  # image: has a picture; map: the site's place on the globe
    floor: Mapped[int] = mapped_column(default=0)  # 0 is the ground floor
    west: Mapped[float]  # metres east of the site's 0, 0 of its left edge
    south: Mapped[float]  # metres north of it of its lower edge
    east: Mapped[float]  # the same of its right edge
    north: Mapped[float]  # the same of its upper edge
    width: Mapped[int] = mapped_column(default=0)  # of the picture, pixels; 0: there is none
    height: Mapped[int] = mapped_column(default=0)
    digest: Mapped[str] = mapped_column(String(64), default="")  # SHA-256 of the picture, hex
    created: Mapped[Stamp]


class PlanPicture(Base):
    """A plan's picture as we encoded it: small, and nobody's face, so it lies beside its row."""

    __tablename__ = "plan_pictures"

    plan: Mapped[str] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    media: Mapped[str] = mapped_column(String(16))  # image/png or image/jpeg
