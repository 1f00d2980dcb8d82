"""Compliance: who wore what in front of each camera, minute by minute; and when it did not look. Folded from `faces`.

A person is a track here: somebody whom two cameras see counts in each. What somebody wears between two looks is what
the first of them said, for LONGEST_LOOK at most; where and when nothing is required they are `exempt`, whatever they
wear. A minute counts who was there in it (`people`) and, apart from that, who came in it (`came`): sums over `came`
hold everybody once, however long they stayed. Either counts a person under the state they were longest in: in that
minute, or in all the time they have been there.

Zone "" is the whole picture, with everybody; a named zone holds those who were in it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Index, LargeBinary, String, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import live
from api.db import Base, Micros
from api.folds import Context, Told
from pipeline.messages import STATES, Faces
from pipeline.policy import demand

SECOND, MINUTE = 1_000_000, 60_000_000  # µs
BLIND = 3 * SECOND  # something comes of a camera once a second at least (MASKWATCH_HEARTBEAT_FRAME)
LONGEST_LOOK = 1_500_000  # µs, as on routes (pipeline/trajectory.py)
STALE = 300 * SECOND  # a track of which nothing was heard for so long was never told to be gone
WARM = 5 * SECOND  # before the first whole minute of a rebuild: what was being worn when it began
FRESH = 30 * SECOND  # what is older is no news for anybody who watches
KINDS = (*STATES, "exempt")  # how time and people are counted
UNKNOWN, EXEMPT = KINDS.index("unknown"), KINDS.index("exempt")


class Minute(Base):
    """One minute of a camera, or of one of its zones."""

    __tablename__ = "compliance"

    camera: Mapped[str] = mapped_column(String(64), primary_key=True)
    zone: Mapped[str] = mapped_column(String(100), primary_key=True)  # empty: the whole picture
    minute: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # its beginning, µs UTC
    site: Mapped[str] = mapped_column(String(64))
    looked: Mapped[Micros]  # µs of it in which the camera was looking; in zones 0: their camera's counts
    worn: Mapped[Micros]  # person-µs
    incorrect: Mapped[Micros]
    none: Mapped[Micros]
    unknown: Mapped[Micros]
    exempt: Mapped[Micros]
    people_worn: Mapped[int]  # who was there
    people_incorrect: Mapped[int]
    people_none: Mapped[int]
    people_unknown: Mapped[int]
    people_exempt: Mapped[int]
    came_worn: Mapped[int]  # whose first look was in it
    came_incorrect: Mapped[int]
    came_none: Mapped[int]
    came_unknown: Mapped[int]
    came_exempt: Mapped[int]

    __table_args__ = (Index("ix_compliance_minute", "minute"), Index("ix_compliance_site_minute", "site", "minute"))


class Gap(Base):
    """A stretch in which a camera was not looking, between two that it was."""

    __tablename__ = "compliance_gaps"

    camera: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # last picture before, µs UTC
    end: Mapped[Micros]  # first picture after, µs UTC
    site: Mapped[str] = mapped_column(String(64), index=True)
    why: Mapped[str] = mapped_column(String(8))  # ended: the stream stopped; silent: nothing came

    __table_args__ = (Index("ix_compliance_gaps_end", "end"),)


class Watching(Base):
    """What the fold remembers of a camera."""

    __tablename__ = "compliance_states"

    camera: Mapped[str] = mapped_column(String(64), primary_key=True)
    site: Mapped[str] = mapped_column(String(64))
    since: Mapped[Micros]  # its first picture, µs UTC
    at: Mapped[Micros]  # its newest picture, µs UTC
    ended: Mapped[bool]  # that one said that no more come
    body: Mapped[bytes] = mapped_column(LargeBinary)  # State, msgpack

    @property
    def state(self) -> State:
        return msgspec.msgpack.decode(self.body, type=State)


# -- counting, without a database ------------------------------------------------------------------------------------


class Spent(msgspec.Struct, array_like=True):
    """Of one person, over a minute or over a stay: µs of each kind, and what was last decided."""

    micros: list[int] = msgspec.field(default_factory=lambda: [0] * len(KINDS))  # in the order of KINDS
    last: int = UNKNOWN  # index in KINDS

    @property
    def main(self) -> int:
        """Index of the state they were longest in; of two the worse one; of a single look what it said."""
        worn, incorrect, none, _, _ = self.micros
        if not worn and not incorrect and not none:
            return self.last
        if none >= incorrect and none >= worn:
            return 2
        return 1 if incorrect >= worn else 0

    def decided(self, kind: int) -> None:
        if kind < UNKNOWN or (kind == EXEMPT and self.last == UNKNOWN):
            self.last = kind


class Stay(msgspec.Struct, array_like=True):
    """Somebody in one zone."""

    came: int  # minute of the first look there
    spent: Spent
    counted: int = -1  # index in KINDS under which `came` counts them; -1: not yet


class Person(msgspec.Struct, array_like=True):
    """A track that may go on."""

    at: int  # newest look, µs
    state: int  # what it said, index in KINDS
    zone: str
    stays: dict[str, Stay]  # by zone


class Open(msgspec.Struct, array_like=True):
    """A minute that may still change."""

    looked: int  # µs
    people: dict[str, dict[str, Spent]]  # zone -> track -> what they wore in it


class State(msgspec.Struct):
    """Of one camera."""

    site: str = ""
    since: int = 0  # first picture, µs
    at: int = 0  # newest picture, µs
    ended: bool = False
    floor: int = -1  # minutes up to this one stay as they are
    minutes: dict[int, Open] = {}
    people: dict[str, Person] = {}  # by track


class Changes:
    """What messages have changed in the tables."""

    def __init__(self) -> None:
        self.minutes: set[tuple[str, int]] = set()  # camera, minute: to be written anew
        self.closed: dict[tuple[str, int], tuple[str, Open]] = {}  # of those, the ones no longer in the state: site too
        # camera, zone, minute -> how many more came in each state
        self.came: defaultdict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0] * len(KINDS))
        self.gaps: list[dict[str, Any]] = []


def step(state: State, message: Faces, changes: Changes) -> None:
    """One frame of one camera. What is not newer than what was seen has counted, or came late and is on no track."""
    if message.source == "inspection" or message.at <= state.at:
        return
    camera, at = message.camera, message.at
    before, blind = state.at, state.ended or message.at - state.at > BLIND
    if not before:
        state.since = state.since or at
    elif blind:
        changes.gaps.append({"camera": camera, "start": before, "end": at, "site": message.site,
                             "why": "ended" if state.ended else "silent"})
    else:
        for minute, micros in split(before, at):
            opened(state, minute).looked += micros
            changes.minutes.add((camera, minute))
    state.site, state.at, state.ended = message.site, at, message.ended
    now = at - at % MINUTE
    opened(state, now)
    changes.minutes.add((camera, now))
    for face in message.faces:
        if not face.track:
            continue
        zone = face.zone
        look = EXEMPT if demand(message.policy, zone, at) is None else KINDS.index(face.state)
        person = state.people.get(face.track)
        if person is None:
            person = state.people[face.track] = Person(at, look, zone, {})
        elif not blind:
            for minute, micros in split(person.at, min(at, person.at + LONGEST_LOOK)):
                changes.minutes.add((camera, minute))
                for place in places(person.zone):
                    spent(state, minute, place, face.track).micros[person.state] += micros
                    person.stays[place].spent.micros[person.state] += micros
        person.at, person.state, person.zone = at, look, zone
        for place in places(zone):
            stay = person.stays.setdefault(place, Stay(now, Spent()))
            stay.spent.decided(look)
            spent(state, now, place, face.track).decided(look)
        for place, stay in person.stays.items():
            _count(camera, place, stay, changes)
    for track in message.gone:
        state.people.pop(track, None)
    if message.ended:
        state.people.clear()
    for track in [track for track, person in state.people.items() if at - person.at > STALE]:
        del state.people[track]
    oldest = min((person.at for person in state.people.values()), default=at)
    for minute in [minute for minute in state.minutes if minute + MINUTE + BLIND <= at and minute + MINUTE <= oldest]:
        changes.closed[camera, minute] = state.site, state.minutes.pop(minute)


def places(zone: str) -> tuple[str, ...]:
    return ("", zone) if zone else ("",)


def split(start: int, end: int) -> Iterable[tuple[int, int]]:
    """(minute, µs of it) from `start` to `end`."""
    while start < end:
        minute = start - start % MINUTE
        stop = min(end, minute + MINUTE)
        yield minute, stop - start
        start = stop


def opened(state: State, minute: int) -> Open:
    return state.minutes.setdefault(minute, Open(0, {}))


def spent(state: State, minute: int, zone: str, track: str) -> Spent:
    return opened(state, minute).people.setdefault(zone, {}).setdefault(track, Spent())


def _count(camera: str, zone: str, stay: Stay, changes: Changes) -> None:
    """Those who came are counted when they come, and again under another state when that is the longer one."""
    main = stay.spent.main
    if main != stay.counted:
        more = changes.came[camera, zone, stay.came]
        more[main] += 1
        if stay.counted >= 0:
            more[stay.counted] -= 1
        stay.counted = main


def numbers(minute: Open, zone: str) -> dict[str, int]:
    """The columns of a row."""
    people = minute.people.get(zone, {}).values()
    values = {f"people_{name}": 0 for name in KINDS}
    for person in people:
        values[f"people_{KINDS[person.main]}"] += 1
    for index, name in enumerate(KINDS):
        values[name] = sum(person.micros[index] for person in people)
    return values


# -- the fold --------------------------------------------------------------------------------------------------------


class Compliance:
    """`faces` -> compliance, compliance_gaps; tells `counts` of a camera, once a second at most."""

    name, topic = "compliance", "faces"

    def __init__(self) -> None:
        self.told: dict[str, float] = {}  # camera -> when listeners were last told of it, seconds

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        cameras = {told.message.camera for told in messages if told.message.source != "inspection"}
        states = {row.camera: row.state for row in
                  session.scalars(select(Watching).where(Watching.camera.in_(cameras)))}
        changes, touched = Changes(), dict[str, State]()
        for told in messages:
            message: Faces = told.message
            if message.source == "inspection":
                continue
            state = states.setdefault(message.camera, State())
            if state.at > told.at + context.settings.ahead * SECOND:  # by a clock that has been put right since
                state = states[message.camera] = State(floor=state.floor if state.floor < message.at else -1)
            if message.at > state.at:
                step(state, message, changes)
                touched[message.camera] = state
        self._write(session, touched, changes)
        for camera, state in touched.items():
            self._tell(session, camera, state)

    def _write(self, session: Session, touched: dict[str, State], changes: Changes) -> None:
        rows = []
        for camera, minute in sorted(changes.minutes):
            state = touched[camera]
            site, open_ = changes.closed.get((camera, minute), (state.site, state.minutes.get(minute)))
            if minute <= state.floor or open_ is None:
                continue
            for zone in {"", *open_.people}:
                came = changes.came.pop((camera, zone, minute), [0] * len(KINDS))
                rows.append({"camera": camera, "zone": zone, "minute": minute, "site": site,
                             "looked": 0 if zone else open_.looked, **numbers(open_, zone),
                             **{f"came_{name}": n for name, n in zip(KINDS, came, strict=True)}})
        rows.sort(key=lambda row: (row["camera"], row["zone"], row["minute"]))  # one order: no two wait for each other
        for some in _slices(rows):
            put = insert(Minute).values(some)
            session.execute(put.on_conflict_do_update(index_elements=["camera", "zone", "minute"], set_={
                **{key: put.excluded[key] for key in rows[0] if key not in ("camera", "zone", "minute")},
                **{f"came_{name}": getattr(Minute, f"came_{name}") + put.excluded[f"came_{name}"] for name in KINDS},
            }))
        for (camera, zone, minute), came in sorted(changes.came.items()):
            if minute > touched[camera].floor and any(came):
                session.execute(
                    update(Minute).where(Minute.camera == camera, Minute.zone == zone, Minute.minute == minute)
                    .values({f"came_{name}": getattr(Minute, f"came_{name}") + n
                             for name, n in zip(KINDS, came, strict=True)}))
        for some in _slices(changes.gaps):
            put = insert(Gap).values(some)
            session.execute(put.on_conflict_do_update(
                index_elements=["camera", "start"], set_={key: put.excluded[key] for key in ("end", "site", "why")}))
        states = [{"camera": camera, "site": s.site, "since": s.since, "at": s.at, "ended": s.ended,
                   "body": msgspec.msgpack.encode(s)} for camera, s in sorted(touched.items())]
        for some in _slices(states):
            put = insert(Watching).values(some)
            session.execute(put.on_conflict_do_update(
                index_elements=["camera"], set_={key: put.excluded[key] for key in states[0] if key != "camera"}))

    def _tell(self, session: Session, camera: str, state: State) -> None:
        clock = time.time()
        if clock * 1e6 - state.at > FRESH or clock - self.told.get(camera, 0.0) < 1.0:
            return
        self.told[camera] = clock
        live.tell(session, live.Event("counts", {"id": camera, **now(state)}, state.site, camera, "compliance.view"))

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Whole minutes that the topic holds entirely; what came before them stays as it is."""
        if since == 0:
            for table in (Minute, Gap, Watching):
                session.execute(delete(table))
            return
        first = -(-(since + WARM) // MINUTE) * MINUTE
        session.execute(delete(Minute).where(Minute.minute >= first))
        session.execute(delete(Gap).where(Gap.start >= first))
        for row in session.scalars(select(Watching).where(Watching.at >= first)):
            row.at = 0
            row.body = msgspec.msgpack.encode(State(row.site, row.since, floor=first - MINUTE))
        session.flush()


def now(state: State) -> dict[str, Any]:
    """Who is there, and the newest minute: what a listener is told of a camera."""
    people = [0] * len(KINDS)
    for person in state.people.values():
        people[person.state] += 1
    minute = state.at - state.at % MINUTE
    values = numbers(state.minutes[minute], "") if minute in state.minutes else {}
    return {
        "at": state.at, "people": dict(zip(KINDS, people, strict=True)), "minute": minute,
        "people_in_minute": {name: values.get(f"people_{name}", 0) for name in KINDS},
        "seconds_in_minute": {name: round(values.get(name, 0) / SECOND, 1) for name in KINDS},
    }  # fmt: skip


def _slices(rows: list[dict[str, Any]], size: int = 500) -> Iterable[list[dict[str, Any]]]:
    """PostgreSQL takes 65,535 values in one statement."""
    for begin in range(0, len(rows), size):
        yield rows[begin:begin + size]


FOLDS = [Compliance()]
