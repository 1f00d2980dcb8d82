"""Sites: what holds for all cameras of one. People write them; a camera of an unknown site makes a row by itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, String, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Stamp
from api.permissions import Scope
from pipeline.messages import Privacy
from pipeline.plan import Origin

STRICTEST_FIRST: tuple[Privacy, ...] = ("anonymous", "pseudonymous", "enrolled")


class Site(Base):
    """One place with cameras."""

    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    time_zone: Mapped[str] = mapped_column(String(64), default="UTC", server_default="UTC")  # IANA name
    privacy: Mapped[str] = mapped_column(String(16), default="pseudonymous", server_default="pseudonymous")
    blur_others: Mapped[bool] = mapped_column(default=False, server_default="false")
    latitude: Mapped[float | None]  # where the plan's 0, 0 lies, degrees WGS 84; None: nobody said
    longitude: Mapped[float | None]
    bearing: Mapped[float | None]  # of the plan's north, degrees clockwise from true north
    policy: Mapped[str] = mapped_column(String(80), default="", server_default="")  # id of the active one; empty: none
    created: Mapped[Stamp]
    changed: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    @property
    def origin(self) -> Origin | None:
        if self.latitude is None or self.longitude is None:
            return None
        return Origin(self.latitude, self.longitude, self.bearing or 0.0)


def known(session: Session, site: str, privacy: str = "pseudonymous") -> None:
    """Makes the row of a site that nobody has described."""
    session.execute(insert(Site).values(id=site, name=site, privacy=privacy).on_conflict_do_nothing())


def stricter(a: Privacy, b: Privacy) -> Privacy:
    return min(a, b, key=STRICTEST_FIRST.index)


def visible(scope: Scope) -> ColumnElement[bool]:
    """Sites of a scope, and those that hold a camera of it."""
    from api.tables.cameras import CameraRow

    theirs = select(CameraRow.site).where(scope.where(CameraRow.site, CameraRow.id))
    return or_(scope.where(Site.id), Site.id.in_(theirs))
