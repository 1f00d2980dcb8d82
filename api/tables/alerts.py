"""Alerts: the rules that say of which episodes, cameras and people somebody is told, and what was told, once for each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, Id, MadeId, Micros, Stamp


class AlertRule(Base):
    """Of what, when and by which channels somebody is told. The first rule that fits makes the alert."""

    __tablename__ = "alert_rules"

    id: Mapped[MadeId]
    kind: Mapped[str] = mapped_column(String(8))  # episode; camera: one is down; person: one of a watch-list was seen
    name: Mapped[str] = mapped_column(String(120))
    position: Mapped[int] = mapped_column(default=0)  # the lower comes first
    enabled: Mapped[bool] = mapped_column(default=True)
    since: Mapped[Stamp]  # enabled since: what ended before makes no alert
    site: Mapped[str] = mapped_column(String(64), default="")  # empty: every site
    cameras: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # empty: every camera
    zones: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # empty: every zone
    states: Mapped[list[str]] = mapped_column(ARRAY(String(12)))  # empty: none and incorrect
    lists: Mapped[list[str]] = mapped_column(ARRAY(String(36)), server_default="{}")  # watch-lists; empty: every one
    seconds: Mapped[float]  # an episode lasts, a camera is down at least so long
    hours: Mapped[list[Any]]  # [{days: [1..7], begin: "08:00", end: "18:00"}]; empty: always
    timezone: Mapped[str] = mapped_column(String(64))  # in which the hours are meant
    cooldown: Mapped[float]  # seconds around an alert in which the same camera or person makes none
    cooldown_by: Mapped[str] = mapped_column(String(8))  # camera, person
    steps: Mapped[list[Any]]  # [{after: seconds, channels: [id]}]; the later ones as long as nobody acknowledges
    tell_end: Mapped[bool]  # also when the breach is over, the camera is up again
    latest: Mapped[float]  # seconds: older news makes no alert any more
    by: Mapped[str] = mapped_column(String(36), default="")  # user who wrote it last
    changed: Mapped[Stamp]


class Alert(Base):
    """What somebody is told of: one for an episode, for each time a camera goes down, for each time somebody of a
    watch-list comes. No rebuild touches it, so nothing is told again when rows are made anew."""

    __tablename__ = "alerts"

    id: Mapped[Id]  # of the episode, camera!since, or watch! and the id of what was recognised
    kind: Mapped[str] = mapped_column(String(8))  # episode, camera, person
    rule: Mapped[str] = mapped_column(String(36))  # that made it; may be gone
    site: Mapped[str] = mapped_column(String(64))
    cameras: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    person: Mapped[str] = mapped_column(String(200), default="")
    # open, acknowledged; suppressed: another one was just told; exempt: the rule spares whom it was about
    state: Mapped[str] = mapped_column(String(12))
    because: Mapped[str] = mapped_column(String(200), default="")  # the alert that was told instead; exempt: the role
    start: Mapped[Micros]  # of the breach, of the outage
    ended: Mapped[int | None] = mapped_column(BigInteger)  # µs UTC; None: as far as known it goes on
    made: Mapped[Stamp]
    step: Mapped[int] = mapped_column(default=0)  # steps of the rule that were told
    next: Mapped[datetime | None]  # when the next step is due; None: there is none
    steps: Mapped[list[Any]]  # of the rule, as they were when the alert was made
    tell_end: Mapped[bool]
    facts: Mapped[dict[str, Any]]  # what the texts are made of
    acknowledged_by: Mapped[str] = mapped_column(String(36), default="")
    acknowledged_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_alerts_start_id", "start", "id"), Index("ix_alerts_cameras", "cameras", postgresql_using="gin"),
        Index("ix_alerts_next", "next", postgresql_where=text("next is not null")),
        Index("ix_alerts_going", "kind", postgresql_where=text("ended is null")),
        Index("ix_alerts_rule_start", "rule", "start"),
    )  # fmt: skip
