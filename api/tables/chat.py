"""Chat: messages by room, how far each user has read, who is there now."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Identity, Index, String, Text, delete, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base, Micros, Stamp
from api.folds import Context, Told
from pipeline.messages import ChatMessage

COLUMNS = ("id", "room", "seq", "at", "user", "name", "site", "camera", "text", "pictures", "mentions", "removed",
           "remover")


class ChatRow(Base):
    """One message."""

    __tablename__ = "chat"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # made by the client
    room: Mapped[str] = mapped_column(String(220))
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    at: Mapped[Micros]
    user: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(String(64))
    site: Mapped[str] = mapped_column(String(64))
    camera: Mapped[str] = mapped_column(String(64), default="")
    text: Mapped[str] = mapped_column(Text, default="")
    pictures: Mapped[list[str]] = mapped_column(ARRAY(String(120)), default=list)
    mentions: Mapped[list[str]] = mapped_column(ARRAY(String(36)), default=list)
    removed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # when, µs UTC; 0: it stands
    remover: Mapped[str] = mapped_column(String(36), default="", server_default="")  # user who took it back

    __table_args__ = (Index("ix_chat_room_seq", "room", "seq"), Index("ix_chat_at", "at"))


class ChatRead(Base):
    """How far a user has read a room."""

    __tablename__ = "chat_reads"

    user: Mapped[str] = mapped_column(String(36), primary_key=True)
    room: Mapped[str] = mapped_column(String(220), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)


class Presence(Base):
    """An open socket in a room; one that is not renewed for a while is gone."""

    __tablename__ = "presence"

    socket: Mapped[str] = mapped_column(String(36), primary_key=True)
    room: Mapped[str] = mapped_column(String(220), primary_key=True, index=True)
    user: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(String(64))
    seen: Mapped[Stamp]


def said(row: ChatRow) -> ChatMessage:
    return ChatMessage(row.id, row.room, row.seq, row.at, row.user, row.name, row.site, row.camera, row.text,
                       tuple(row.pictures), tuple(row.mentions), row.removed, row.remover)


def take_back(session: Session, id: str, removed: int, remover: str) -> None:
    """What was said goes; that it was said and taken back stays. Twice is once."""
    session.execute(update(ChatRow).where(ChatRow.id == id, ChatRow.removed == 0).values(
        text="", pictures=[], mentions=[], removed=removed, remover=remover))


class Chat:
    """`chat` -> chat. The API writes the row itself, so that who has sent it sees it; this brings back what is lost."""

    name, topic = "chat", "chat"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        rows = [{column: getattr(told.message, column) for column in COLUMNS} for told in messages]
        session.execute(insert(ChatRow).values([
            row | {"pictures": list(row["pictures"]), "mentions": list(row["mentions"])} for row in rows
        ]).on_conflict_do_nothing())
        for told in messages:
            if told.message.removed:
                take_back(session, told.message.id, told.message.removed, told.message.remover)

    def clear(self, session: Session, context: Context, since: int) -> None:
        session.execute(delete(ChatRow).where(ChatRow.at >= since))


FOLDS = [Chat()]
