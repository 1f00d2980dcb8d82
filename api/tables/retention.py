"""How long each kind of what is kept is kept, for every site or for one. Topics have their own times: topics.yaml."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base

# kind -> what it is, and days it is kept when nobody says otherwise
KINDS: dict[str, tuple[str, int]] = {
    "pictures": ("pictures of faces on tracks", 30),
    "vectors": ("vectors of faces, which searches look at", 30),
    "sightings": ("who was in front of which camera from when to when, without a picture", 90),
    "recognised": ("which enrolled people were recognised where", 90),
    "trajectories": ("routes over the cameras", 90),
    "episodes": ("breaches with their pictures, what was decided about them, and by whom erasing finds them", 365),
    "alerts": ("alerts about cameras, and messages about nothing that is still there, with every attempt", 365),
    "replays": ("replays with their episodes and pictures, by the time of what they show", 30),
    "inspections": ("inspections with photos, points and reports", 365),
    "chat": ("messages and their pictures", 365),
    "requests": ("what users asked for, once it was decided and what was given has ended", 365),
    "audit": ("who looked at what and changed what", 730),
}
LONGEST = 3650  # days


class Retention(Base):
    """A wish that differs from the default."""

    __tablename__ = "retention"

    site: Mapped[str] = mapped_column(String(64), primary_key=True)  # empty: every site that says nothing itself
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    days: Mapped[int]
    by: Mapped[str] = mapped_column(String(36), default="")
    changed: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


def wishes(session: Session) -> dict[str, dict[str, int]]:
    """Kind -> site -> days; site "" is always there."""
    found = {kind: {"": days} for kind, (_, days) in KINDS.items()}
    for row in session.scalars(select(Retention)):
        if row.kind in found:
            found[row.kind][row.site] = row.days
    return found


def days(session: Session, site: str) -> dict[str, int]:
    """Kind -> how long it is kept at a site."""
    return {kind: sites.get(site, sites[""]) for kind, sites in wishes(session).items()}
