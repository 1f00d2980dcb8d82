"""What becomes an alert: rules over episodes, cameras and people in the tables, one alert for each, told step by step.

Whatever is decided stands in `alerts` with the deliveries it makes, in one transaction, and no rebuild touches that
table: so an episode makes one alert, also after a crash, a replay, or when its row is made anew.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, any_, delete, exists, func, or_, select, text, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from api import live
from api.db import made_id
from api.tables.alerts import Alert, AlertRule
from api.tables.cameras import CameraRow, CameraState
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeReview, EpisodeRow, EvidenceRow
from api.tables.offsets import Offset
from api.tables.people import PersonRow, WatchList
from api.tables.recognised import Recognised
from api.tables.sightings import FaceRow
from api.tables.sites import Site
from pipeline.capture import bare

WATCHED = "watch!"  # before the id of what was recognised
LOCK = 7_041_005  # advisory: one process decides at a time; sending is shared
MOST = 500  # alerts of one turn
SILENT = 60.0  # seconds without a word of a camera after which it is as good as down
# Whether a rule spares somebody is known once they were recognised, some seconds after the breach began: where that may
# be, an episode waits so long with its alert.
RECOGNISED = 10.0
SECOND = 1_000_000  # µs


def judge(session: Session, now: int | None = None) -> int:
    """One turn, in the caller's transaction; -> how many deliveries it has made. `now`: µs UTC."""
    now = time.time_ns() // 1000 if now is None else now
    if not session.scalar(text("select pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
        return 0  # somebody else is at it
    rules = session.scalars(
        select(AlertRule).where(AlertRule.enabled).order_by(AlertRule.position, AlertRule.id)).all()
    made = 0
    for rule in rules:
        if rule.kind == "camera":
            made += _cameras(session, rule, now, [each.id for each in rules])
        else:
            made += {"episode": _episodes, "person": _people}[rule.kind](session, rule, now)
    return made + _spared(session) + _ended(session, now) + _escalated(session, now)


def quiet(session: Session) -> None:
    """Until the transaction ends nothing is decided: of whom it removes nobody is told meanwhile."""
    session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


# -- episodes --------------------------------------------------------------------------------------------------------


def _episodes(session: Session, rule: AlertRule, now: int) -> int:
    """Episodes that fit and have made no alert yet."""
    row, since = EpisodeRow, max(_micros(rule.since), now - round(rule.latest * SECOND))
    query = select(row).where(
        row.at >= since, row.end - row.start >= round(rule.seconds * SECOND), ~exists().where(Alert.id == row.id),
        row.exempt == "", or_(func.cardinality(row.except_roles) == 0, row.start <= now - round(RECOGNISED * SECOND),
                              ~exists().where(Site.id == row.site, Site.privacy == "enrolled")))
    if rule.site:
        query = query.where(row.site == rule.site)
    if rule.cameras:
        query = query.where(row.cameras.overlap(rule.cameras))
    if rule.zones:
        query = query.where(row.zone.in_(rule.zones))
    if rule.states:
        query = query.where(row.state.in_(rule.states))
    ids = _in_hours(session, query, rule, row.start, row.id)
    found = session.scalars(select(row).where(row.id.in_(ids)).order_by(row.start, row.id)).all()
    names = camera_names(session, {camera for each in found for camera in each.cameras})
    made = 0
    for each in found:
        facts = {
            "id": each.id, "kind": "episode", "site": each.site, "cameras": list(each.cameras), "zone": each.zone,
            "camera_names": [names.get(camera) or camera for camera in each.cameras], "state": each.state,
            "start": each.start, "end": each.end, "policy": each.policy, "rule": rule.name,
            "timezone": rule.timezone, "picture": _picture(session, each.id),
        }  # fmt: skip
        made += _alert(session, rule, each.id, each.site, list(each.cameras), each.person, each.start, facts, now,
                       each.end if each.status == "closed" else None)
    return made


def open_at(hours: Sequence[dict[str, Any]], timezone: str, at: int) -> bool:
    """Whether a time lies in the hours of a rule; one that ends before it begins goes on past midnight."""
    if not hours:
        return True
    local = datetime.fromtimestamp(at / 1e6, UTC).astimezone(ZoneInfo(timezone))
    day, clock = local.isoweekday(), f"{local:%H:%M}"
    for each in hours:
        begin, end = each["begin"], each["end"]
        if begin < end:
            if day in each["days"] and begin <= clock < end:
                return True
        elif (day in each["days"] and clock >= begin) or ((day - 2) % 7 + 1 in each["days"] and clock < end):
            return True
    return False


def _in_hours(session: Session, query: Select[Any], rule: AlertRule, start: InstrumentedAttribute[int],
              id_: InstrumentedAttribute[str]) -> list[str]:
    """Of what a query finds, the first that are within the rule's hours: page by page, since however much lies outside
    of them, and is found again each time, what comes after it has its turn."""
    query, found, last = query.with_only_columns(start, id_).order_by(start, id_).limit(MOST), list[str](), (-1, "")
    while len(found) < MOST:
        page = session.execute(query.where(tuple_(start, id_) > last)).all()
        found += [each for at, each in page if open_at(rule.hours, rule.timezone, at)]
        if len(page) < MOST:
            break
        last = page[-1][0], page[-1][1]
    return found[:MOST]


def _picture(session: Session, episode: str) -> str:
    return session.scalar(select(EvidenceRow.picture).where(
        EvidenceRow.episode == episode, EvidenceRow.rank >= 0, EvidenceRow.picture != "")
        .order_by(EvidenceRow.rank).limit(1)) or ""


# -- cameras ---------------------------------------------------------------------------------------------------------


def _cameras(session: Session, rule: AlertRule, now: int, rules: Collection[str]) -> int:
    """Cameras that should run and have not for long enough, or of which nothing was heard, also because no worker ever
    took them. `rules`: those that are switched on; an outage about which one of them keeps quiet is its own."""
    known = min(now, _folded(session))
    if not known or not open_at(rule.hours, rule.timezone, now):
        return 0
    state, wish = CameraState, CameraRow
    # a state from before the wish says nothing of how the wish fares
    heard = func.greatest(func.coalesce(state.at, 0), wish.wished)
    down = and_(state.state.in_(("down", "connecting")), state.at >= wish.wished,
                state.since <= known - round(rule.seconds * SECOND))
    silent = and_(func.coalesce(state.state, "") != "ended",
                  heard <= known - round(max(SILENT, rule.seconds) * SECOND))
    going = and_(Alert.kind == "camera", Alert.ended.is_(None), wish.id == any_(Alert.cameras))
    ours = or_(Alert.rule == rule.id, Alert.rule.notin_(rules))
    query = select(wish, state, heard, Alert).outerjoin(state, state.id == wish.id).outerjoin(Alert, going).where(
        wish.running, or_(down, silent), or_(Alert.id.is_(None), and_(Alert.state == "suppressed", ours)))
    if rule.site:
        query = query.where(wish.site == rule.site)
    if rule.cameras:
        query = query.where(wish.id.in_(rule.cameras))
    made = 0
    for camera, told, last, quiet_ in session.execute(query.order_by(wish.id)):
        taken = told is not None and told.at >= camera.wished
        since = told.since if taken and told.state in ("down", "connecting") else last
        facts: dict[str, Any] = {
            "id": f"{camera.id}!{since}", "kind": "camera", "site": camera.site, "cameras": [camera.id],
            "camera_names": [camera.name or camera.id], "state": told.state if taken else "waiting", "start": since,
            "end": now, "rule": rule.name, "timezone": rule.timezone,
            "error": bare(str(told.status.get("error", "")))[:300] if taken else "",
        }  # fmt: skip
        if quiet_ is None:
            made += _alert(session, rule, facts["id"], camera.site, [camera.id], "", since, facts, now, None)
        elif not _just_told(session, rule, camera.site, [camera.id], "", since, now):
            made += _after_all(session, rule, quiet_, facts, now)
    return made


def _folded(session: Session) -> int:
    """Up to when the tables have everything that was said of cameras, µs UTC; 0: not known. What is not folded yet, as
    long as the materialiser is away, behind, or waits for a rebuild, is no silence of a camera."""
    # a topic with the prefix of before may stand there too
    topics = select(func.min(func.coalesce(Offset.caught, 0)).label("caught")).where(
        Offset.topic.endswith("cameras.status")).group_by(Offset.topic).subquery()
    return session.scalar(select(func.max(topics.c.caught))) or 0


def _after_all(session: Session, rule: AlertRule, alert: Alert, facts: dict[str, Any], now: int) -> int:
    """An outage that began when another one had just been told, and goes on when there is quiet no longer."""
    alert.state, alert.because, alert.made = "open", "", _stamp(now)
    alert.rule, alert.steps, alert.tell_end = rule.id, rule.steps, rule.tell_end
    alert.facts = facts | {"id": alert.id, "start": alert.start}
    return _open(session, alert, now)


def camera_names(session: Session, ids: set[str]) -> dict[str, str]:
    return dict(session.execute(select(CameraRow.id, CameraRow.name).where(CameraRow.id.in_(ids))).all())


# -- people ----------------------------------------------------------------------------------------------------------


def _people(session: Session, rule: AlertRule, now: int) -> int:
    """People of a watch-list who were recognised; `suppressed` is who has just been told of."""
    row, since = Recognised, max(_micros(rule.since), now - round(rule.latest * SECOND))
    query = select(row, PersonRow.name).join(PersonRow, PersonRow.id == row.person).where(
        row.sure, row.at >= since, func.cardinality(row.lists) > 0, ~exists().where(Alert.id == WATCHED + row.id))
    if rule.site:
        query = query.where(row.site == rule.site)
    if rule.cameras:
        query = query.where(row.camera.in_(rule.cameras))
    if rule.lists:
        query = query.where(row.lists.overlap(rule.lists))
    ids = _in_hours(session, query, rule, row.start, row.id)
    found = session.execute(select(row, PersonRow.name).join(PersonRow, PersonRow.id == row.person).where(
        row.id.in_(ids)).order_by(row.start, row.id)).all()
    cameras = camera_names(session, {each.camera for each, _ in found})
    lists = dict(session.execute(select(WatchList.id, WatchList.name).where(
        WatchList.id.in_({list_ for each, _ in found for list_ in each.lists}))).all())
    made = 0
    for each, name in found:
        wanted = [list_ for list_ in each.lists if not rule.lists or list_ in rule.lists]
        facts = {
            "id": WATCHED + each.id, "kind": "person", "site": each.site, "cameras": [each.camera],
            "camera_names": [cameras.get(each.camera) or each.camera], "state": "watched", "start": each.start,
            "end": each.at, "rule": rule.name, "timezone": rule.timezone, "person": each.person, "name": name,
            "lists": [lists[list_] for list_ in wanted if list_ in lists], "chance": each.chance,
            "picture": session.scalar(select(FaceRow.picture).where(FaceRow.id == each.face)) or "",
        }  # fmt: skip
        made += _alert(session, rule, facts["id"], each.site, [each.camera], each.person, each.start, facts, now,
                       each.at)
    return made


def forget(session: Session, where: ColumnElement[bool], person: str = "") -> None:
    """What was told of people whom a condition on `recognised` finds, and of an enrolled person, whose recognitions may
    be gone by now: it names them."""
    ids, alerts = [select(WATCHED + Recognised.id).where(where)], list[ColumnElement[bool]]()
    if person:
        alerts = [and_(Alert.kind == "person", Alert.person == person)]
        ids.append(select(Alert.id).where(*alerts))
        session.execute(delete(Delivery).where(  # of an alert that is gone itself
            Delivery.alert.startswith(WATCHED), Delivery.alert.endswith(f"|{person}")))
    session.execute(delete(Delivery).where(or_(*(Delivery.alert.in_(each) for each in ids))))
    session.execute(delete(Alert).where(or_(Alert.id.in_(ids[0]), *alerts)))


# -- one alert and its steps -----------------------------------------------------------------------------------------


def _alert(session: Session, rule: AlertRule, id: str, site: str, cameras: list[str], person: str, start: int,
           facts: dict[str, Any], now: int, ended: int | None) -> int:
    """The alert, and its first step in the same transaction; nothing when there is one."""
    other = _just_told(session, rule, site, cameras, person, start, now)
    taken = facts["kind"] == "episode" and reviewed(session, id)
    state = "suppressed" if other else "acknowledged" if taken else "open"
    row = {
        "id": id, "kind": facts["kind"], "rule": rule.id, "site": site, "cameras": cameras, "person": person,
        "state": state, "because": other, "start": start, "ended": ended, "made": _stamp(now), "step": 0,
        "next": None, "steps": rule.steps, "tell_end": rule.tell_end, "facts": facts,
    }  # fmt: skip
    done = session.execute(insert(Alert).values(row).on_conflict_do_nothing().returning(Alert.id)).scalar()
    if done is None or other:
        return 0
    alert = session.get_one(Alert, id)
    made = _open(session, alert, now)
    return made + (_over(session, alert) if ended is not None else 0)


def _open(session: Session, alert: Alert, now: int) -> int:
    """Its first step, when that is due at once."""
    if alert.state == "open":
        alert.next = _stamp(now) + timedelta(seconds=alert.steps[0]["after"])
    live.tell(session, live.Event("alert.made", {"id": alert.id, "kind": alert.kind, "state": alert.facts["state"],
                                                 "start": alert.start}, alert.site,
                                  alert.cameras[-1] if alert.cameras else "", needed(alert.kind),
                                  cameras=live.of_cameras(alert.cameras)))
    return _steps(session, alert, now)


def _just_told(session: Session, rule: AlertRule, site: str, cameras: list[str], person: str, start: int, now: int
               ) -> str:
    """The alert of this rule that makes another one needless; "": none. Of a camera that is one that was told not long
    ago: an outage that lasts is told once that is over."""
    if not rule.cooldown:
        return ""
    span = round(rule.cooldown * SECOND)
    near = and_(Alert.start > start - span, Alert.start < start + span)
    if rule.kind == "camera":
        near = Alert.made > _stamp(now - span)
    same = Alert.cameras.overlap(cameras) if rule.cooldown_by == "camera" or not person else Alert.person == person
    if rule.kind == "person":  # somebody else is other news; they themselves, at this camera or at this site
        same = and_(Alert.person == person, Alert.site == site,
                    Alert.cameras.overlap(cameras) if rule.cooldown_by == "camera" else true())
    return session.scalar(select(Alert.id).where(
        Alert.rule == rule.id, Alert.state != "suppressed", same, near).order_by(Alert.start.desc()).limit(1)) or ""


def _steps(session: Session, alert: Alert, now: int) -> int:
    """Tell every step that is due."""
    made = 0
    while alert.next is not None and alert.next <= _stamp(now):
        step = alert.steps[alert.step]
        made += _deliver(session, alert, "escalation" if alert.step else "alert", alert.step, step["channels"])
        alert.step += 1
        following = alert.steps[alert.step] if alert.step < len(alert.steps) else None
        # after the step before; a sender that was away does not catch up on all of them in one moment
        alert.next = None if following is None else _stamp(now) + timedelta(
            seconds=max(1.0, following["after"] - step["after"]))
    session.flush()
    return made


def _deliver(session: Session, alert: Alert, what: str, step: int, channels: Sequence[str]) -> int:
    rows = [{"id": made_id(), "alert": alert.id, "channel": channel, "what": what, "step": step, "site": alert.site,
             "facts": alert.facts, "due": func.now()} for channel in dict.fromkeys(channels)]
    if not rows:
        return 0
    return len(session.scalars(insert(Delivery).values(rows).on_conflict_do_nothing().returning(Delivery.id)).all())


def needed(kind: str) -> str:
    """Permissions of whoever may know of an alert."""
    return "compliance.view people.view" if kind == "person" else "compliance.view"


def _spared(session: Session) -> int:
    """Alerts about somebody who was told to be spared only after they were made: they go no further."""
    made = 0
    over = select(Alert, EpisodeRow).join(EpisodeRow, EpisodeRow.id == Alert.id).where(
        Alert.kind == "episode", Alert.state.in_(("open", "acknowledged")), EpisodeRow.exempt != "").limit(MOST)
    for alert, row in session.execute(over):
        going = alert.ended is None
        alert.ended, alert.next = row.end, None
        alert.facts = alert.facts | {"end": row.end, "exempt": row.exempt}
        made += _over(session, alert) if going else 0
        alert.state, alert.because = "exempt", row.exempt
    session.flush()
    return made


def _ended(session: Session, now: int) -> int:
    """Alerts whose breach is over, whose camera is up again or is no longer wanted."""
    made = 0
    over = select(Alert, EpisodeRow).join(EpisodeRow, EpisodeRow.id == Alert.id).where(
        Alert.kind == "episode", Alert.ended.is_(None), EpisodeRow.status == "closed").limit(MOST)
    for alert, row in session.execute(over):
        alert.ended, alert.cameras = row.end, list(row.cameras)
        alert.facts = alert.facts | {"end": row.end, "state": row.state, "cameras": list(row.cameras), "camera_names":
                                     [n or c for c, n in _named(session, row.cameras)]}
        made += _over(session, alert)
    back = (
        select(Alert, CameraState, CameraRow).where(Alert.kind == "camera", Alert.ended.is_(None))
        .outerjoin(CameraState, CameraState.id == Alert.cameras[1])
        .outerjoin(CameraRow, CameraRow.id == Alert.cameras[1])
        .where(or_(CameraRow.id.is_(None), ~CameraRow.running,
                   and_(CameraState.state.in_(("up", "ended")), CameraState.at > now - round(SILENT * SECOND))))
    ).limit(MOST)  # fmt: skip
    for alert, state, _ in session.execute(back):
        again = state is not None and state.state == "up"
        alert.ended = max(alert.start, state.since) if again else now
        alert.facts = alert.facts | {"end": alert.ended}
        alert.next = None  # nobody has to be woken for a camera that runs
        made += _over(session, alert) if again else 0
    session.flush()
    return made


def _named(session: Session, cameras: Sequence[str]) -> list[tuple[str, str]]:
    names = camera_names(session, set(cameras))
    return [(camera, names.get(camera, "")) for camera in cameras]


def _over(session: Session, alert: Alert) -> int:
    """Tell those who were told that it had begun, if the rule says so."""
    if alert.state == "suppressed":
        return 0
    live.tell(session, live.Event("alert.ended", {"id": alert.id, "end": alert.ended}, alert.site,
                                  alert.cameras[-1] if alert.cameras else "", needed(alert.kind),
                                  cameras=live.of_cameras(alert.cameras)))
    told = [channel for step in alert.steps[: alert.step] for channel in step["channels"]]
    return _deliver(session, alert, "end", 0, told) if alert.tell_end else 0


def _escalated(session: Session, now: int) -> int:
    """The next step of alerts that nobody has acknowledged in time."""
    due = select(Alert).where(Alert.next <= _stamp(now), Alert.state == "open").order_by(Alert.next).limit(MOST)
    return sum(_steps(session, alert, now) for alert in session.scalars(due.with_for_update()))


def acknowledge(session: Session, ids: Sequence[str], user: str) -> list[str]:
    """Somebody looks after it: no further step is told. -> those that were not yet."""
    done = session.scalars(
        update(Alert).where(Alert.id.in_(ids), Alert.state == "open")
        .values(state="acknowledged", acknowledged_by=user, acknowledged_at=func.now(), next=None).returning(Alert.id)
    ).all()
    return list(done)


def reviewed(session: Session, id: str) -> bool:
    """Whether somebody has already taken an episode on before its alert was made."""
    return session.scalar(select(EpisodeReview.status).where(EpisodeReview.id == id)) in ("acknowledged", "closed")


def _stamp(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1e6, UTC)


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1e6)
