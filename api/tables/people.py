"""People with a name, what they agreed to, the lists they are on; and what was decided about who is who.

Nothing here comes from a topic: no rebuild touches it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, MadeId, Stamp


class PersonRow(Base):
    """Somebody enrolled. Their portraits are compared with tracks only where a site is `enrolled`."""

    __tablename__ = "people"

    id: Mapped[MadeId]
    site: Mapped[str] = mapped_column(String(64), index=True)  # empty: every site
    name: Mapped[str] = mapped_column(String(120))
    number: Mapped[str] = mapped_column(String(64), default="")  # of staff, as the house counts them
    roles: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # what rules may except: Rule.except_roles
    note: Mapped[str] = mapped_column(String(2000), default="")
    created: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36), default="")
    withdrawn: Mapped[datetime | None]  # consent was taken back: no vector and no picture is left


class Consent(Base):
    """That somebody agreed, to which words, and whether they took it back. Kept as long as the person is."""

    __tablename__ = "consents"

    id: Mapped[MadeId]
    person: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    version: Mapped[str] = mapped_column(String(64))  # of the words
    text: Mapped[str] = mapped_column(Text)  # the words themselves
    given: Mapped[datetime]  # when the person agreed
    how: Mapped[str] = mapped_column(String(200), default="")  # signed on paper, where it is kept …
    recorded: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36), default="")  # user who recorded it
    withdrawn: Mapped[datetime | None]
    withdrawn_by: Mapped[str] = mapped_column(String(36), default="")


class Portrait(Base):
    """A photo of an enrolled person, as its vector; its picture is in the picture store."""

    __tablename__ = "portraits"

    id: Mapped[MadeId]
    person: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    space: Mapped[str] = mapped_column(String(12))  # of the vector: api/vectors.py
    vector: Mapped[bytes] = mapped_column(LargeBinary)  # float32, of length 1
    masked: Mapped[bool]
    quality: Mapped[float]
    models: Mapped[dict[str, Any]]  # that made the vector
    picture: Mapped[str] = mapped_column(String(200))
    created: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36), default="")


class WatchList(Base):
    """People who are looked out for."""

    __tablename__ = "watch_lists"

    id: Mapped[MadeId]
    site: Mapped[str] = mapped_column(String(64), index=True)  # empty: every site
    name: Mapped[str] = mapped_column(String(120))
    about: Mapped[str] = mapped_column(String(2000), default="")
    created: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36), default="")


class Watched(Base):
    """Somebody on a list."""

    __tablename__ = "watched"

    list: Mapped[str] = mapped_column(ForeignKey("watch_lists.id", ondelete="CASCADE"), primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), primary_key=True, index=True)
    reason: Mapped[str] = mapped_column(String(2000), default="")
    until: Mapped[datetime | None]  # ends by itself
    created: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36), default="")


class Decision(Base):
    """What somebody decided about who is who. Only ever added; undone, it counts no more."""

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[Stamp]
    by: Mapped[str] = mapped_column(String(36))
    # merge: visitor `subject` is visitor `object` · split: `tracks` of `subject` are somebody else, `object`
    # is: visitor `subject` is the enrolled person `object` · not: is not
    kind: Mapped[str] = mapped_column(String(5))
    site: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(200), index=True)
    object: Mapped[str] = mapped_column(String(200), index=True)
    tracks: Mapped[list[str]] = mapped_column(ARRAY(String(200)))  # of a split
    reason: Mapped[str] = mapped_column(String(2000), default="")
    undone: Mapped[datetime | None]
    undone_by: Mapped[str] = mapped_column(String(36), default="")

    __table_args__ = (Index("ix_decisions_site_id", "site", "id"),)
