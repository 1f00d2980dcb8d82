"""Alerts as they were told, and the rules that say of what, when and by which channels."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from litestar import Router, delete, get, post, put
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from api import alerts, fields, live, ranges
from api.auth import needs
from api.db import now
from api.dependencies import By, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import Scope, Who
from api.problems import Problem, missing
from api.routes import filters
from api.routes.deliveries import DeliveryView, reachable, shown
from api.tables import audit
from api.tables.alerts import Alert, AlertRule
from api.tables.deliveries import Delivery
from api.tables.episodes import covers, visible
from api.tables.people import WatchList

MadeId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Kind = Literal["episode", "camera", "person"]
State = Literal["open", "acknowledged", "suppressed", "exempt"]
AnyState = Annotated[State | None, QueryParameter(name="state")]  # Litestar keeps `state` for itself
Seconds = Annotated[float, Meta(ge=0, le=7 * 86400)]


class AlertView(msgspec.Struct):
    """What somebody was told of."""

    id: str  # of the episode, camera!since, or watch! and the id of what was recognised
    kind: Kind
    rule: str  # id; it may be gone
    site: str
    cameras: list[str]
    state: State  # suppressed: another one had just been told; exempt: the rule spares whom it was about
    because: str  # suppressed: that one; exempt: their role
    # none, incorrect; of a person: watched; of a camera: down, connecting, up (nothing was heard of it), waiting (no
    # worker has taken it)
    what: str
    person: str  # of a watch-list: their id; else empty
    lists: list[str]  # names of the watch-lists
    start: int  # of the breach, of the outage, µs UTC
    ended: int | None  # µs UTC; null: it goes on
    made: datetime
    step: int  # steps that were told
    steps: int  # that there are
    next: datetime | None  # when the next is due unless somebody acknowledges
    acknowledged_by: str
    acknowledged_at: datetime | None


class AlertWhole(msgspec.Struct):
    """An alert and whom it was sent to, as far as one may know the channels."""

    alert: AlertView
    deliveries: list[DeliveryView]


class AlertHours(msgspec.Struct):
    """A part of every week."""

    days: Annotated[list[Annotated[int, Meta(ge=1, le=7)]], Meta(min_length=1, max_length=7)] = msgspec.field(
        default_factory=lambda: [1, 2, 3, 4, 5, 6, 7])  # on which it begins, Monday is 1
    begin: Clock = "00:00"
    end: Clock = "24:00"  # not after `begin`: on the day after


class StepWish(msgspec.Struct):
    """Who is told, and when."""

    channels: Annotated[list[MadeId], Meta(min_length=1, max_length=20)]
    after: Seconds = 0.0  # seconds after the alert; from the second step on only when nobody has acknowledged


class RuleWish(msgspec.Struct):
    """A rule as it is written."""

    name: fields.Name
    kind: Kind
    steps: Annotated[list[StepWish], Meta(min_length=1, max_length=10)]
    site: fields.AnySite = ""  # empty: every site
    cameras: Annotated[list[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]], Meta(max_length=200)] = []
    zones: Annotated[list[fields.Name], Meta(max_length=200)] = []
    states: Annotated[list[Literal["none", "incorrect"]], Meta(max_length=2)] = []
    lists: Annotated[list[MadeId], Meta(max_length=200)] = []  # of a rule about people: watch-lists; empty: every one
    seconds: Seconds = 0.0  # an episode lasts, a camera is down at least so long
    hours: Annotated[list[AlertHours], Meta(max_length=50)] = []  # empty: always
    timezone: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")] = "Asia/Shanghai"
    cooldown: Seconds = 0.0  # after an alert, in which the same camera or person makes no other
    cooldown_by: Literal["camera", "person"] = "camera"
    tell_end: bool = False  # also when it is over
    latest: Annotated[float, Meta(ge=10, le=7 * 86400)] = 3600.0  # seconds: older news makes no alert
    enabled: bool = True
    position: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0  # of the rules that fit, the lowest makes the alert


class RuleView(RuleWish, kw_only=True):
    """A rule, and who wrote it."""

    id: str
    since: datetime  # enabled since
    by: str
    changed: datetime


@cache
def zones() -> frozenset[str]:
    return frozenset(available_timezones())


# -- alerts ----------------------------------------------------------------------------------------------------------


def view(row: Alert, scope: Scope) -> AlertView:
    cameras = [camera for camera in row.cameras if scope.covers(row.site, camera)]
    return AlertView(row.id, row.kind, row.rule, row.site, cameras, row.state, row.because,  # type: ignore[arg-type]
                     row.facts.get("state", ""), row.person if row.kind == "person" else "",
                     row.facts.get("lists", []), row.start, row.ended, row.made, row.step, len(row.steps), row.next,
                     row.acknowledged_by, row.acknowledged_at)


def mine(who: Who) -> ColumnElement[bool]:
    """Alerts that one may know of: those that name somebody only where one may see people."""
    people = visible(who.scope("people.view"), Alert.site, Alert.cameras)
    return and_(visible(who.scope("compliance.view"), Alert.site, Alert.cameras), or_(Alert.kind != "person", people))


def find(db: Session, id: str, who: Who) -> Alert:
    row = db.scalar(select(Alert).where(Alert.id == id, mine(who)))
    if row is None:
        raise missing("alert", id)
    return row


@get("/alerts", opt=needs("compliance.view"), sync_to_thread=True, summary="Alerts, the newest first")
def every(db: Db, who: By, since: filters.Since = 0, until: filters.Until = filters.LAST,
          site: ranges.Site = "", camera: ranges.Camera = "",
          kind: FromQuery[Kind | None] = None, told: AnyState = None,
          going: FromQuery[bool | None] = None, cursor: Cursor = None, limit: Limit = 50) -> Page[AlertView]:
    """`going`: whether the breach or outage goes on."""
    scope = who.scope("compliance.view")
    query = select(Alert).where(mine(who))
    query = query.where(Alert.start >= since, Alert.start < until)
    if site:
        query = query.where(Alert.site == site)
    if camera:
        query = query.where(Alert.cameras.overlap([camera]), scope.asking(Alert.site, camera))
    if kind:
        query = query.where(Alert.kind == kind)
    if told:
        query = query.where(Alert.state == told)
    if going is not None:
        query = query.where(Alert.ended.is_(None) if going else Alert.ended.is_not(None))
    return take(db, query, [Alert.start, Alert.id], lambda row: view(row, scope), cursor, limit)


@get("/alerts/{id:str}", opt=needs("compliance.view"), sync_to_thread=True,
     summary="One alert and what became of its messages")
def one(db: Db, who: By, id: filters.StreamId) -> AlertWhole:
    row = find(db, id, who)
    query = select(Delivery).where(Delivery.alert == id).order_by(Delivery.number)
    return AlertWhole(view(row, who.scope("compliance.view")), shown(db, who, db.scalars(query).all()))


@post("/alerts/{id:str}/acknowledge", opt=needs("compliance.review"), sync_to_thread=True, status_code=200,
      summary="Look after it: nobody else is told")
def acknowledge(db: Db, who: By, id: filters.StreamId) -> AlertView:
    """Of an episode's alert, the episode is acknowledged too. Again: changes nothing."""
    scope = who.scope("compliance.view")
    row = find(db, id, who)
    if not covers(who.scope("compliance.review"), row.site, row.cameras):
        raise Problem(403, "not allowed", f"expected the permission compliance.review there, {who.name} does not "
                      "have it")
    if row.kind == "episode":
        from api.routes.episodes import Step, take_step

        try:
            take_step(db, who, id, Step("acknowledge"))
        except Problem as problem:
            if problem.status_code != 404:  # expired: its alert may still be acknowledged
                raise
    if alerts.acknowledge(db, [id], who.id) and row.kind != "episode":
        audit.write(db, who.id, "alert.acknowledge", id, site=row.site, camera=row.cameras[0], address=who.address)
        live.tell(db, live.Event("alert.acknowledged", {"id": id, "by": who.id}, row.site, row.cameras[0],
                                 alerts.needed(row.kind)))
    db.flush()
    db.refresh(row)
    return view(row, scope)


# -- rules -----------------------------------------------------------------------------------------------------------


def rule_view(row: AlertRule) -> RuleView:
    wish: dict[str, Any] = {name: getattr(row, name) for name in RuleWish.__struct_fields__}
    return msgspec.convert({**wish, "id": row.id, "since": row.since, "by": row.by, "changed": row.changed}, RuleView)


def find_rule(db: Session, who: Who, id: str) -> AlertRule:
    row = db.get(AlertRule, id)
    if row is None or not may_edit(who, row.site):
        raise missing("alert rule", id)
    return row


def may_edit(who: Who, site: str) -> bool:
    """A rule of every site is for who has every site."""
    scope = who.scope("compliance.edit")
    return scope.everywhere or (bool(site) and site in scope.sites)


def check(db: Session, who: Who, wish: RuleWish) -> None:
    if not may_edit(who, wish.site):
        raise Problem(403, "not allowed", f"expected the permission compliance.edit at "
                      f"{wish.site or 'every site'}, {who.name} does not have it")
    if wish.timezone not in zones():
        raise Problem(422, "no such time zone", f"expected an IANA name like Asia/Shanghai, got {wish.timezone!r}")
    ZoneInfo(wish.timezone)
    if wish.kind != "episode" and (wish.zones or wish.states):
        raise Problem(422, "cannot be taken", f"expected no `zones` and `states` in a rule about a {wish.kind}")
    if wish.kind != "person" and wish.lists:
        raise Problem(422, "cannot be taken", f"expected no `lists` in a rule about {wish.kind}s")
    if wish.kind == "person":
        if not (who.scope("people.view").covers(wish.site) if wish.site else who.scope("people.view").everywhere):
            raise Problem(403, "not allowed", f"expected the permission people.view at {wish.site or 'every site'}: "
                          "what is told names people")
        known = set(db.scalars(select(WatchList.id).where(
            WatchList.id.in_(wish.lists), *([WatchList.site.in_((wish.site, ""))] if wish.site else []))))
        if lost := sorted(set(wish.lists) - known):
            raise Problem(422, "no such watch-list", f"expected watch-lists of {wish.site or 'any site'}, got "
                          f"{lost[0]}")
    after = [step.after for step in wish.steps]
    if after != sorted(set(after)):
        raise Problem(422, "steps out of order", f"expected each step after the one before, got {after}")
    asked = {channel for step in wish.steps for channel in step.channels}
    if unknown := asked - reachable(db, wish.site, asked):
        raise Problem(422, "no such channel", f"expected channels of {wish.site or 'every site'} or of all sites, got "
                      f"{', '.join(sorted(unknown))}")


def write(row: AlertRule, wish: RuleWish, who: Who) -> None:
    if wish.enabled and not row.enabled:
        row.since = now()  # what happened while it was off makes no alert
    for name, value in msgspec.to_builtins(wish).items():
        setattr(row, name, value)
    row.by, row.changed = who.id, now()


@get("/alert-rules", opt=needs("compliance.edit"), sync_to_thread=True, summary="The rules, in their order")
def rules(db: Db, who: By) -> list[RuleView]:
    scope = who.scope("compliance.edit")
    query = select(AlertRule).where(scope.where(AlertRule.site)).order_by(AlertRule.position, AlertRule.id)
    return [rule_view(row) for row in db.scalars(query)]


@post("/alert-rules", opt=needs("compliance.edit"), sync_to_thread=True, summary="Add a rule")
def add(db: Db, who: By, data: JSONBody[RuleWish]) -> RuleView:
    """It is about what happens from now on."""
    check(db, who, data)
    row = AlertRule(since=now(), enabled=data.enabled)
    write(row, data, who)
    db.add(row)
    db.flush()
    audit.write(db, who.id, "alert_rule.add", row.id, site=row.site, address=who.address, name=row.name)
    return rule_view(row)


@get("/alert-rules/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, summary="One rule")
def rule(db: Db, who: By, id: filters.MadeId) -> RuleView:
    return rule_view(find_rule(db, who, id))


@put("/alert-rules/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, summary="Write a rule anew")
def edit(db: Db, who: By, id: filters.MadeId, data: JSONBody[RuleWish]) -> RuleView:
    """Alerts that were made keep the steps they were made with."""
    row = find_rule(db, who, id)
    check(db, who, data)
    before = msgspec.to_builtins(rule_view(row))
    write(row, data, who)
    db.flush()
    after = msgspec.to_builtins(rule_view(row))
    audit.write(db, who.id, "alert_rule.edit", id, site=row.site, address=who.address,
                before={name: before[name] for name in before if before[name] != after[name]})
    return rule_view(row)


@delete("/alert-rules/{id:str}", opt=needs("compliance.edit"), sync_to_thread=True, status_code=HTTP_204_NO_CONTENT,
        summary="Remove a rule")
def remove(db: Db, who: By, id: filters.MadeId) -> None:
    row = find_rule(db, who, id)
    db.delete(row)
    audit.write(db, who.id, "alert_rule.remove", id, site=row.site, address=who.address, name=row.name)


router = Router("/v1", route_handlers=[every, one, acknowledge, rules, add, rule, edit, remove], tags=["alerts"])
