"""Channels by which people are told, each with a test; and every message on its way, with its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Router, delete, get, post, put
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api import fields
from api.auth import needs
from api.db import made_id, now
from api.dependencies import By, Db
from api.messengers import KINDS, Options, secret
from api.pages import Cursor, Limit, Page, take
from api.permissions import Who
from api.problems import Problem, missing
from api.routes import filters
from api.tables import audit
from api.tables.alerts import AlertRule
from api.tables.deliveries import Channel, Delivery, DeliveryAttempt

State = Literal["waiting", "sent", "failed", "dropped"]
AnyState = Annotated[State | None, QueryParameter(name="state")]  # Litestar keeps `state` for itself
What = Literal["alert", "escalation", "end", "test"]
Language = Literal["zh-CN", "en"]


class ChannelWish(msgspec.Struct):
    """A channel as it is written. Secrets stay in the environment: `options` name the variables."""

    name: fields.Name
    options: Options
    site: fields.AnySite = ""  # empty: of every site
    language: Language = "zh-CN"
    pictures: bool = False  # whether faces may leave by it
    enabled: bool = True


class ChannelView(msgspec.Struct):
    """A channel."""

    id: str
    kind: str
    name: str
    site: str
    enabled: bool
    language: Language
    pictures: bool
    options: Options | None  # null: of every site, and one may not edit it
    changed: datetime | None


class DeliveryView(msgspec.Struct):
    """One message for one channel."""

    id: str  # goes with the message
    alert: str  # empty: a test
    channel: str
    channel_name: str  # empty: it was removed
    what: What
    step: int
    state: State  # dropped: the channel was off or gone
    attempts: int
    due: datetime | None  # next attempt; null: there is none
    made: datetime
    ended: datetime | None
    answer: str  # the last one, or why there was none


class AttemptView(msgspec.Struct):
    """One try."""

    at: datetime
    took: float  # seconds
    sent: bool
    answer: str


class DeliveryWhole(msgspec.Struct):
    """A message and every attempt to send it."""

    delivery: DeliveryView
    tries: list[AttemptView]


# -- channels --------------------------------------------------------------------------------------------------------


def may_edit(who: Who, site: str) -> bool:
    scope = who.scope("compliance.edit")
    return scope.everywhere or (bool(site) and site in scope.sites)


def reachable(db: Session, site: str, ids: Iterable[str]) -> set[str]:
    """Those of the channels that a rule of this site may use: its own, and those of every site."""
    return set(db.scalars(select(Channel.id).where(Channel.id.in_(list(ids)), Channel.site.in_({"", site}))))


def channel_view(row: Channel, who: Who) -> ChannelView:
    mine = may_edit(who, row.site)
    options = msgspec.convert({**row.options, "kind": row.kind}, Options) if mine else None
    return ChannelView(row.id, row.kind, row.name, row.site, row.enabled, row.language, row.pictures,  # type: ignore[arg-type]
                       options, row.changed if mine else None)


def find(db: Session, who: Who, id: str) -> Channel:
    row = db.get(Channel, id)
    if row is None or not may_edit(who, row.site):
        raise missing("channel", id)
    return row


def check(who: Who, wish: ChannelWish) -> None:
    if not may_edit(who, wish.site):
        raise Problem(403, "not allowed", f"expected the permission compliance.edit at "
                      f"{wish.site or 'every site'}, {who.name} does not have it")
    kind = kind_of(wish.options)
    if wish.pictures and not KINDS[kind].PICTURES:
        raise Problem(422, "no pictures", f"expected `pictures` false: a {kind} robot takes none that is not public")
    if getattr(wish.options, "user", "") and wish.options.password is None:  # type: ignore[union-attr]
        raise Problem(422, "no password", "expected the name of a variable in `password` with `user`")
    if why := secret.wrong(KINDS[kind].use(wish.options)):
        raise Problem(422, "secret not for this host", why)


def kind_of(options: Options) -> str:
    return str(type(options).__struct_config__.tag)


def write(row: Channel, wish: ChannelWish, who: Who) -> None:
    options = msgspec.to_builtins(wish.options)
    row.kind = options.pop("kind")
    row.options, row.name, row.site, row.language = options, wish.name, wish.site, wish.language
    row.pictures, row.enabled, row.by, row.changed = wish.pictures, wish.enabled, who.id, now()


@get("/channels", opt=needs("compliance.edit"), sync_to_thread=True, summary="Channels that rules may use")
def channels(db: Db, who: By) -> list[ChannelView]:
    """Of those of every site only names, for who may not edit them."""
    scope = who.scope("compliance.edit")
    rows = db.scalars(select(Channel).where(or_(scope.where(Channel.site), Channel.site == ""))
                      .order_by(Channel.name, Channel.id))
    return [channel_view(row, who) for row in rows]


@post("/channels", opt=needs("compliance.edit"), sync_to_thread=True, summary="Add a channel")
def add(db: Db, who: By, data: JSONBody[ChannelWish]) -> ChannelView:
    check(who, data)
    row = Channel()
    write(row, data, who)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "channel.add", row.id, site=row.site, address=who.address, kind=row.kind, name=row.name)
    return channel_view(row, who)


@get("/channels/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, summary="One channel")
def one(db: Db, who: By, id: filters.MadeId) -> ChannelView:
    return channel_view(find(db, who, id), who)


@put("/channels/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, summary="Write a channel anew")
def edit(db: Db, who: By, id: filters.MadeId, data: JSONBody[ChannelWish]) -> ChannelView:
    """What waits for it is sent by what it is then. Its kind stays."""
    row = find(db, who, id)
    check(who, data)
    if kind_of(data.options) != row.kind:
        raise Problem(409, "another kind", f"expected options of a {row.kind}, got {kind_of(data.options)}")
    if data.site != row.site and (users := used(db, id)):
        raise Problem(409, "in use", f"expected a channel that no rule uses, {users} use it: its site stays")
    before = {"name": row.name, "options": row.options, "enabled": row.enabled, "pictures": row.pictures}
    write(row, data, who)
    audit.write(db, who.id, "channel.edit", id, site=row.site, address=who.address, before=before)
    return channel_view(row, who)


@delete("/channels/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Remove a channel that no rule uses")
def remove(db: Db, who: By, id: filters.MadeId) -> None:
    row = find(db, who, id)
    if users := used(db, id):
        raise Problem(409, "in use", f"expected a channel that no rule uses, {users} use it")
    db.delete(row)
    audit.write(db, who.id, "channel.remove", id, site=row.site, address=who.address, kind=row.kind, name=row.name)


def used(db: Session, id: str) -> int:
    """Rules that name it."""
    names = AlertRule.steps.op("@>")(func.jsonb_build_array(func.jsonb_build_object("channels",
                                                                                    func.jsonb_build_array(id))))
    return db.scalar(select(func.count()).select_from(AlertRule).where(names)) or 0


@post("/channels/{id:str}/test", opt=needs("compliance.edit"), sync_to_thread=True, status_code=202,
      summary="Send a test message")
def test(db: Db, who: By, id: filters.MadeId) -> DeliveryView:
    """`maskwatch alerts` sends it within a second; ask for the delivery to see what came of it. Also while the channel
    is switched off."""
    row = find(db, who, id)
    waiting = db.scalar(select(func.count()).select_from(Delivery).where(
        Delivery.channel == id, Delivery.what == "test", Delivery.state == "waiting")) or 0
    if waiting >= 3:
        raise Problem(429, "tests waiting", f"expected fewer than 3 tests on their way to it, there are {waiting}",
                      headers={"Retry-After": "10"})
    delivery = Delivery(channel=id, what="test", once=made_id(), site=row.site, due=now(),
                        facts={"channel": row.name, "by": who.name})
    db.add(delivery)
    audit.write(db, who.id, "channel.test", id, site=row.site, address=who.address)
    db.flush()
    return delivery_view(delivery, row.name)


# -- deliveries ------------------------------------------------------------------------------------------------------


def delivery_view(row: Delivery, name: str) -> DeliveryView:
    return DeliveryView(row.id, row.alert, row.channel, name, row.what, row.step, row.state,  # type: ignore[arg-type]
                        row.attempts, row.due if row.state == "waiting" else None, row.made, row.ended, row.answer)


def shown(db: Session, who: Who, rows: Sequence[Delivery]) -> list[DeliveryView]:
    """With the names of their channels; answers only for who may edit those, as they may tell of addresses."""
    known = {row.id: row for row in db.scalars(select(Channel).where(Channel.id.in_({row.channel for row in rows})))}
    out = []
    for row in rows:
        channel = known.get(row.channel)
        one = delivery_view(row, channel.name if channel else "")
        if not may_edit(who, channel.site if channel else row.site):
            one.answer = ""
        if not who.may("compliance.view", row.site):  # who has a camera of it only: channels are of whole sites
            one.channel_name = ""
        out.append(one)
    return out


def find_delivery(db: Session, who: Who, id: str, lock: bool = False) -> Delivery:
    query = select(Delivery).where(Delivery.id == id, who.scope("compliance.edit").where(Delivery.site))
    row = db.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise missing("delivery", id)
    return row


@get("/deliveries", opt=needs("compliance.edit"), sync_to_thread=True, summary="Messages, the newest first")
def deliveries(db: Db, who: By, channel: filters.AnyMadeId = "", alert: filters.Of = "",
               became: AnyState = None, what: FromQuery[What | None] = None, cursor: Cursor = None,
               limit: Limit = 50) -> Page[DeliveryView]:
    query = select(Delivery).where(who.scope("compliance.edit").where(Delivery.site))
    wanted: dict[Any, Any] = {Delivery.channel: channel, Delivery.alert: alert, Delivery.state: became,
                              Delivery.what: what}
    for column, value in wanted.items():
        if value:
            query = query.where(column == value)
    page: Page[Delivery] = take(db, query, [Delivery.number], lambda row: row, cursor, limit)
    return Page(shown(db, who, page.items), page.next)


@get("/deliveries/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True,
     summary="One message and every attempt to send it")
def delivery(db: Db, who: By, id: filters.MadeId) -> DeliveryWhole:
    row = find_delivery(db, who, id)
    tries = db.scalars(select(DeliveryAttempt).where(DeliveryAttempt.delivery == id).order_by(DeliveryAttempt.id))
    (one,) = shown(db, who, [row])
    mine = bool(one.answer) or not row.answer
    return DeliveryWhole(one, [AttemptView(t.at, t.took, t.sent, t.answer if mine else "") for t in tries])


@post("/deliveries/{id:str}/again", opt=needs("compliance.edit"), sync_to_thread=True, status_code=202,
      summary="Send one that failed again")
def again(db: Db, who: By, id: filters.MadeId) -> DeliveryView:
    """Or one that waits for its next attempt, at once. It keeps its id."""
    row = find_delivery(db, who, id, lock=True)
    channel = db.get(Channel, row.channel)
    if row.state == "sent" or channel is None:
        raise Problem(409, "cannot be sent again", "expected a message that has not arrived, for a channel that is "
                      f"there; this one is {row.state}{'' if channel else ', its channel is gone'}")
    row.state, row.ended, row.due, row.made = "waiting", None, now(), now() if row.state != "waiting" else row.made
    audit.write(db, who.id, "delivery.again", id, site=row.site, address=who.address)
    db.flush()
    return shown(db, who, [row])[0]


router = Router("/v1", route_handlers=[channels, add, one, edit, remove, test, deliveries, delivery, again],
                tags=["alerts"])
