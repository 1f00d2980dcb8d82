"""The database: engine, sessions, and what every table has in common."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Engine, MetaData, String, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, sessionmaker

from pipeline.settings import Settings


class Base(DeclarativeBase):
    """Names of constraints are derived, so that a migration can name them."""

    metadata = MetaData(naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s", "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    })  # fmt: skip
    type_annotation_map = {dict[str, Any]: JSONB, list[Any]: JSONB, datetime: DateTime(timezone=True)}  # noqa: RUF012
    # of two who remove the same row at once, both got their wish
    __mapper_args__ = {"confirm_deleted_rows": False}  # noqa: RUF012


# What the stream says has the stream's ids and times (µs UTC); what a person writes has a made id and a timestamp.
Id = Annotated[str, mapped_column(String(200), primary_key=True)]
MadeId = Annotated[str, mapped_column(String(36), primary_key=True, default=lambda: made_id())]
Micros = Annotated[int, mapped_column(BigInteger)]
Stamp = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


# A server that vanishes (power, a cable) says nothing: without keepalives a connection to it is waited for by the hour.
# Idle for 10 s it is asked three times, every 5 s; what was sent has to be acknowledged within 25 s.
CONNECTION = {"connect_timeout": 5, "application_name": "maskwatch", "keepalives": 1, "keepalives_idle": 10,
              "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}  # fmt: skip


def made_id() -> str:
    """Of what a person makes: random, so that nobody can guess the next one."""
    return uuid.uuid4().hex


def now() -> datetime:
    return datetime.now(UTC)


def micros(at: datetime) -> int:
    """The stream's time of a timestamp, µs UTC."""
    return round(at.timestamp() * 1e6)


def url(settings: Settings) -> str:
    """Where the tables are. Raises PostgresError when the embedded server has never been started."""
    given = settings.database.get_secret_value()
    if not given:
        from infra.local import postgres

        return postgres.url(settings.data, settings.postgres_port)
    parts = make_url(given)
    if parts.get_backend_name() != "postgresql":
        raise ValueError(f"MASKWATCH_DATABASE: expected postgresql://user:password@host/name, got "
                         f"{parts.render_as_string(hide_password=True)}")
    return parts.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def connect(settings: Settings, pool: int = 16) -> Engine:
    """`pool`: most connections at a time."""
    return create_engine(
        url(settings), pool_size=pool, max_overflow=0, pool_pre_ping=True, pool_timeout=10,
        hide_parameters=True,  # errors are logged, and values are passwords, tokens and what people said
        connect_args=CONNECTION,
    )  # fmt: skip


def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)

