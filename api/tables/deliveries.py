"""Deliveries: the channels by which people are told, and each message on its way, with every attempt."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, MadeId, Stamp


class Channel(Base):
    """A way to reach people. Its secrets are in the environment; here are the names of those variables."""

    __tablename__ = "channels"

    id: Mapped[MadeId]
    kind: Mapped[str] = mapped_column(String(10))  # webhook, smtp, mqtt, wecom, dingtalk, feishu
    name: Mapped[str] = mapped_column(String(120))
    site: Mapped[str] = mapped_column(String(64), default="")  # empty: of every site
    enabled: Mapped[bool] = mapped_column(default=True)
    language: Mapped[str] = mapped_column(String(8))  # zh-CN, en
    pictures: Mapped[bool]  # whether faces may leave by it
    options: Mapped[dict[str, Any]]  # as its messenger wants them
    by: Mapped[str] = mapped_column(String(36), default="")  # user who wrote it last
    changed: Mapped[Stamp]


class Delivery(Base):
    """One message for one channel: written with the alert in one transaction, sent until it has arrived."""

    __tablename__ = "deliveries"

    id: Mapped[MadeId]  # goes with the message: who gets it twice knows it by that
    number: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)  # order within an alert and channel
    alert: Mapped[str] = mapped_column(String(200), default="")  # empty: a test
    channel: Mapped[str] = mapped_column(String(36), index=True)  # may be gone
    what: Mapped[str] = mapped_column(String(10))  # alert, escalation, end, test
    step: Mapped[int] = mapped_column(default=0)
    once: Mapped[str | None] = mapped_column(String(36))  # of a test or of one sent again: makes it differ
    site: Mapped[str] = mapped_column(String(64), default="")
    facts: Mapped[dict[str, Any]]  # what the text is made of
    state: Mapped[str] = mapped_column(String(8), default="waiting")  # waiting, sent, failed, dropped
    attempts: Mapped[int] = mapped_column(default=0)
    due: Mapped[datetime]  # next attempt not before
    made: Mapped[Stamp]
    ended: Mapped[datetime | None]  # sent, failed or dropped
    answer: Mapped[str] = mapped_column(Text, default="")  # the last one, or why there was none

    __table_args__ = (
        UniqueConstraint("alert", "channel", "what", "step", "once", postgresql_nulls_not_distinct=True),
        Index("ix_deliveries_due", "due", postgresql_where=text("state = 'waiting'")),
        Index("ix_deliveries_made_id", "made", "id"),
    )  # fmt: skip


class DeliveryAttempt(Base):
    """One try to send a message."""

    __tablename__ = "delivery_attempts"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    delivery: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), index=True)
    at: Mapped[Stamp]
    took: Mapped[float]  # seconds
    sent: Mapped[bool]
    answer: Mapped[str] = mapped_column(Text)
