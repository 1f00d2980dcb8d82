"""Dead letters: what a stage could not take, why, and to send it again, as `maskwatch dead-letters` does."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from kafka.errors import KafkaError
from litestar import Router, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta
from sqlalchemy import Select, func, select

from agents import broker, dead_letters
from api import fields
from api.auth import needs
from api.dependencies import By, Config, Db
from api.pages import Cursor, Limit, Page, take
from api.permissions import Who
from api.problems import Problem, missing
from api.ranges import Bound
from api.tables import audit
from api.tables.dead_letters import Letter
from pipeline.messages import DeadLetter
from pipeline.settings import Settings

MOST = 200  # letters of one request
TURN = 10  # letters read and sent at a time: each may be as large as a record gets
Part = Annotated[str, QueryParameter(max_length=100, pattern=fields.CLEAN, description="empty: any")]
LetterId = Annotated[str, PathParameter(min_length=1, max_length=200, pattern=fields.CLEAN)]
Ids = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200, pattern=fields.CLEAN)]], Meta(max_length=MOST)]
Text = Annotated[str, Meta(max_length=100, pattern=fields.CLEAN)]
Waiting = Literal["waiting", "redriven", "all"]
# Of these even the bytes tell what is not for everybody who looks after the stream: passwords, what people said.
CLOSED = {"cameras": "cameras.edit", "chat": "chat.view"}


class LetterView(msgspec.Struct):
    """A message that a stage could not take."""

    id: str  # topic:partition:offset:stage
    topic: str  # it was read from
    partition: int
    offset: int
    stage: str  # that refused it
    reason: str  # what was expected and what came
    at: int  # of the refused record, µs UTC
    key: str
    bytes: int  # of the payload
    cut: bool  # only the beginning of the payload was kept: it cannot be sent again
    redriven: int | None  # when it was sent again, µs UTC


class LetterDetail(LetterView):
    """The same, with what can be read of it; a picture is told as what it is, never shown."""

    payload: Any = None  # the message, or plain values; null: nothing can be read, or it is not for you
    unreadable: str | None = None  # why it is no message of its topic
    head: str | None = None  # its first 256 bytes as hex and text, where nothing else can be read
    gone: bool = False  # the record has expired on dead.letters


class Redrive(msgspec.Struct):
    """Letters by their ids, or those that wait and fit all of the others; `every` alone: all that wait."""

    ids: Ids = []
    stage: Text = ""
    topic: Text = ""
    reason: Text = ""
    every: bool = False
    again: bool = False  # also those of `ids` that were sent again already


class Redriven(msgspec.Struct):
    """What was sent again."""

    ids: list[str]
    more: bool  # there are more that fit: ask again


@get("/", opt=needs("system.view", everywhere=True), sync_to_thread=True, summary="Dead letters, newest first")
def letters(db: Db, stage: Part = "", topic: Part = "", reason: Part = "", since: Bound = None, until: Bound = None,
            show: Annotated[Waiting, QueryParameter(description="sent again already, or not")] = "all",
            cursor: Cursor = None, limit: Limit = 100) -> Page[LetterView]:
    """`reason`: part of it. `since`, `until`: the time of the refused record."""
    query = _chosen(select(Letter), stage, topic, reason)
    if since is not None:
        query = query.where(Letter.at >= since)
    if until is not None:
        query = query.where(Letter.at < until)
    if show != "all":
        query = query.where(Letter.redriven == 0 if show == "waiting" else Letter.redriven > 0)
    return take(db, query, [Letter.at, Letter.id], _view, cursor, limit)


@get("/{letter:str}", opt=needs("system.view", everywhere=True), sync_to_thread=True,
     summary="One dead letter and what can be read of it")
def one(db: Db, who: By, settings: Config, letter: LetterId) -> LetterDetail:
    """503 while the broker does not answer: the payload is there."""
    row = db.get(Letter, letter)
    if row is None:
        raise missing("dead letter", letter)
    view = LetterDetail(**msgspec.structs.asdict(_view(row)))
    if not _open(who, row.topic):
        return view
    whole = _read(settings, [row]).get(row.id)
    if whole is None:
        view.gone = True
        return view
    told = dead_letters.explain(whole)
    view.unreadable = told.get("unreadable")
    if isinstance(told["payload"], str):  # words on why nothing can be read
        view.unreadable = view.unreadable or told["payload"]
        view.head = dead_letters.dump(whole.payload) if row.topic not in CLOSED else None
    else:
        view.payload = without_passwords(told["payload"])
    return view


@post("/redrive", opt=needs("system.run", everywhere=True), sync_to_thread=True, status_code=200,
      summary="Send dead letters to where they came from once more")
def redrive(db: Db, who: By, settings: Config, data: JSONBody[Redrive]) -> Redriven:
    """Byte for byte, with their keys, at most 200 at a time, oldest first; each is noted as redriven. Nothing is sent
    when one of `ids` is not there (404), was cut, or was sent already and `again` was not asked for (409)."""
    query = _chosen(select(Letter), data.stage, data.topic, data.reason)
    if data.ids:
        query = query.where(Letter.id.in_(data.ids))
    elif not (data.stage or data.topic or data.reason or data.every):
        raise Problem(422, "no letters chosen", "expected ids, a stage, a topic, a reason, or `every`")
    if not (data.ids and data.again):
        query = query if data.ids else query.where(Letter.redriven == 0, ~Letter.cut)
    rows = list(db.scalars(query.order_by(Letter.at, Letter.id).limit(MOST + 1).with_for_update()))
    if lost := sorted(set(data.ids) - {row.id for row in rows}):
        raise missing("dead letter", lost[0])
    for row in rows if data.ids else ():
        if row.cut:
            raise Problem(409, "cannot be sent again", f"{row.id}: only the beginning of its payload was kept")
        if row.redriven and not data.again:
            raise Problem(409, "sent already", f"{row.id}: was sent again at {row.redriven} µs UTC; `again` sends it "
                          "once more")
    chosen, sent = rows[:MOST], []
    try:
        for begin in range(0, len(chosen), TURN):
            some = chosen[begin:begin + TURN]
            there = _read(settings, some)
            if data.ids and (gone := [row.id for row in some if row.id not in there]):
                raise Problem(409, "cannot be sent again", f"{gone[0]}: it has expired on dead.letters", sent=sent)
            for done in dead_letters.redrive(settings, there.values(), again=data.again):
                sent.append(done.id)
                row = next(row for row in some if row.id == done.id)
                row.redriven = done.redriven  # the fold will say the same; until then nobody sends it twice
                audit.write(db, who.id, "dead_letter.redrive", done.id, address=who.address, topic=done.topic,
                            stage=done.stage)
    except (Problem, OSError, KafkaError, dead_letters.NotRedriven) as error:
        db.commit()  # what was sent was sent
        if isinstance(error, Problem):
            raise
        if isinstance(error, dead_letters.NotRedriven):
            raise Problem(409, "cannot be sent again", str(error), sent=sent) from None
        raise _away(settings, error, sent=sent) from None
    return Redriven(sent, len(rows) > MOST)


def _chosen(query: Select[Any], stage: str, topic: str, reason: str) -> Select[Any]:
    if stage:
        query = query.where(Letter.stage == stage)
    if topic:
        query = query.where(Letter.topic == topic)
    if reason:
        query = query.where(func.lower(Letter.reason).contains(reason.lower(), autoescape=True))
    return query


def _view(row: Letter) -> LetterView:
    return LetterView(row.id, row.topic, row.partition, row.offset, row.stage, row.reason, row.at, row.key, row.bytes,
                      row.cut, row.redriven or None)


def _open(who: Who, topic: str) -> bool:
    return topic not in CLOSED or who.scope(CLOSED[topic]).everywhere


def _read(settings: Settings, rows: list[Letter]) -> dict[str, DeadLetter]:
    """The whole letters that are still on the topic, by id. Raises Problem 503."""
    try:
        broker.reachable(settings)
        return {letter.id: letter
                for letter in dead_letters.at(settings, [(row.record_partition, row.record_offset) for row in rows])}
    except (OSError, KafkaError) as error:
        raise _away(settings, error) from None


def _away(settings: Settings, error: Exception, **more: Any) -> Problem:
    return Problem(503, "no answer from the broker", f"{settings.bootstrap}: {type(error).__name__}: {error}"[:300],
                   {"Retry-After": "2"}, **more)


def without_passwords(value: Any) -> Any:
    """Addresses as rtsp://***@host."""
    if isinstance(value, str):
        return re.sub(r"://[^/\s@]+@", "://***@", value)
    if isinstance(value, dict):
        return {key: without_passwords(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_passwords(inner) for inner in value]
    return value


router = Router("/v1/dead-letters", route_handlers=[letters, one, redrive], tags=["stream"])
