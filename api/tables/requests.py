"""What users ask for: a role, a camera or site to see, a camera to be put up; and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, MadeId, Stamp


class Request(Base):
    """One wish and its answer."""

    __tablename__ = "requests"

    id: Mapped[MadeId]
    user: Mapped[str] = mapped_column(String(36))  # who asks
    kind: Mapped[str] = mapped_column(String(8))  # role, access, camera
    state: Mapped[str] = mapped_column(String(10), default="open")  # open, granted, refused, withdrawn, ended
    site: Mapped[str] = mapped_column(String(64), default="")  # empty: every site
    camera: Mapped[str] = mapped_column(String(64), default="")  # empty: the whole site; of a wish: its id
    role: Mapped[str] = mapped_column(String(40), default="")  # wished for
    instead: Mapped[str] = mapped_column(String(40), default="")  # role held there now that is to go: a step down
    wish: Mapped[dict[str, Any]] = mapped_column(default=dict)  # of a camera: name, address, place
    wanted_until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(String(2000))
    created: Mapped[Stamp]
    decided: Mapped[datetime | None]
    by: Mapped[str] = mapped_column(String(36), default="")  # who decided, or withdrew
    answer: Mapped[str] = mapped_column(String(2000), default="")
    granted: Mapped[dict[str, Any]] = mapped_column(default=dict)  # role, site, camera, until as given
    grant: Mapped[str] = mapped_column(String(36), default="")  # the row it made

    __table_args__ = (Index("ix_requests_user_created", "user", "created"),
                      Index("ix_requests_site_state", "site", "state"))
