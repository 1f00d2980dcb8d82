"""Users, what roles allow, who was given what and for how long, and their logins."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, ForeignKey, Index, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base, MadeId, Stamp


class User(Base):
    """Somebody who may log in."""

    __tablename__ = "users"

    id: Mapped[MadeId]
    name: Mapped[str] = mapped_column(String(64))  # what is typed at login
    full_name: Mapped[str] = mapped_column(String(120), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    language: Mapped[str] = mapped_column(String(8), default="zh-CN")  # zh-CN or en
    password: Mapped[str] = mapped_column(String(200), default="")  # argon2id; empty: no login by password
    active: Mapped[bool] = mapped_column(default=True)
    created: Mapped[Stamp]
    seen: Mapped[datetime | None]  # last request

    __table_args__ = (Index("uq_users_name", func.lower(name), unique=True),)


class Identity(Base):
    """A user as another system knows them: WeChat's openid, an OIDC subject."""

    __tablename__ = "identities"

    provider: Mapped[str] = mapped_column(String(200), primary_key=True)  # wechat, or an issuer's address
    subject: Mapped[str] = mapped_column(String(200), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created: Mapped[Stamp]


class Role(Base):
    """A named set of permissions. The first ones are made at the first start and may be changed."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    about: Mapped[str] = mapped_column(String(400), default="")
    built_in: Mapped[bool] = mapped_column(default=False)  # cannot be removed
    patrol_radius: Mapped[float | None]  # metres; an inspection photo taken farther from its checkpoint is flagged


class RolePermission(Base):
    """One permission of a role: module.action."""

    __tablename__ = "role_permissions"

    role: Mapped[str] = mapped_column(ForeignKey("roles.name", ondelete="CASCADE", onupdate="CASCADE"),
                                      primary_key=True)
    permission: Mapped[str] = mapped_column(String(40), primary_key=True)


class Grant(Base):
    """A role given to a user: everywhere, at one site, or for one camera; for ever or until a time."""

    __tablename__ = "grants"

    id: Mapped[MadeId]
    user: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(ForeignKey("roles.name", ondelete="CASCADE", onupdate="CASCADE"))
    site: Mapped[str] = mapped_column(String(64), default="")  # empty: every site
    camera: Mapped[str] = mapped_column(String(64), default="")  # empty: every camera of the site
    until: Mapped[datetime | None]  # ends by itself; None: does not
    by: Mapped[str] = mapped_column(String(36), default="")  # user who gave it; empty: the system
    request: Mapped[str] = mapped_column(String(36), default="")  # the request it answers
    created: Mapped[Stamp]

    __table_args__ = (UniqueConstraint("user", "role", "site", "camera"),)


class Login(Base):
    """A session of a browser, or a token of a program: what is presented is not kept, only its SHA-256."""

    __tablename__ = "logins"

    id: Mapped[MadeId]
    digest: Mapped[str] = mapped_column(String(64), unique=True)  # hex
    user: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(8))  # session: ends when idle; token: ends at `expires`
    name: Mapped[str] = mapped_column(String(120), default="")  # of a token
    created: Mapped[Stamp]
    used: Mapped[Stamp]
    expires: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(64), default="")
    agent: Mapped[str] = mapped_column(String(200), default="")


class SignOn(Base):
    """A single sign-on that has begun: what the provider's answer must fit."""

    __tablename__ = "sign_ons"

    state: Mapped[str] = mapped_column(String(64), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))
    after: Mapped[str] = mapped_column(String(400))  # path of ours to go on to
    user: Mapped[str] = mapped_column(String(36), default="")  # who links an account; empty: somebody logs in
    at: Mapped[Stamp]


class Throttle(Base):
    """Attempts that failed: several make the next one wait. Which there are: api/throttle.py."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)  # what waits: a name, an address, both
    failures: Mapped[int]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)  # of the last one


class KnownAddress(Base):
    """From where somebody has logged in."""

    __tablename__ = "known_addresses"

    user: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True)  # throttle.network
    at: Mapped[datetime]  # last
