"""What the API writes to topics: one producer a process, and an outbox, so that what is decided is said for certain.

`producer.later(session, "frames", frame)` puts a record into the caller's transaction. Once that is committed a thread
sends what is in the outbox, in order, and removes it; what a crash or an absent broker left behind goes out later. A
record may go out twice, with the same content; none is lost, and none is sent that was rolled back. What the broker may
still have in its ear when it did not answer can come after what was said later: `changed` tells which wish counts.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import delete, event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api.tables.outbox import Outgoing
from pipeline import topics as contract
from pipeline.settings import Settings

log = structlog.get_logger()
LOCK = 7_041_002  # advisory: one process sends at a time, so that the order is that of the outbox
EVERY = 2.0  # seconds between looks for what somebody else left behind
TURN = 20  # records of one transaction; a photo is up to 2 MB
OVERHEAD = 1024  # bytes of a batch around a record: the broker counts them too
# Seconds that the broker has for a record; that one request may take, before it is repeated; that we wait to be told.
# In this order: when we hear of no success there is none to come, and nobody finds the record later than what others
# have said since.
DELIVERY, REQUEST, ANSWER = 9.0, 5.0, 10.0


class Producer:
    """The process's one, as `app.state.producer`; reaches the broker when there is something to say."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self.settings, self.sessions = settings, sessions
        self.fault = ""  # why nothing can be sent now
        self._client: KafkaProducer | None = None
        self._making, self._wake, self._over = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(ANSWER + 5)
        if self._client is not None:
            self._client.close(timeout=5)

    def later(self, session: Session, name: str, message: msgspec.Struct) -> None:
        """A record of a topic, sent when the session's transaction is committed. Raises ValueError when the topic
        would not take it: then it would be in everybody's way for ever."""
        topic = contract.find(name)
        value = topic.encode(message)
        if len(value) > topic.max_bytes - OVERHEAD:
            raise ValueError(f"expected a record of at most {topic.max_bytes} bytes for {name}, got {len(value)}")
        session.add(Outgoing(topic=name, key=topic.key_of(message).decode(), value=value))
        self._then(session)

    def removal(self, session: Session, name: str, key: str) -> None:
        """A tombstone, the same way."""
        session.add(Outgoing(topic=name, key=key, value=None))
        self._then(session)

    def client(self) -> KafkaProducer:
        """Raises OSError when no broker answers."""
        with self._making:
            if self._client is None:
                broker.reachable(self.settings)
                self._client = KafkaProducer(
                    **broker.connection(self.settings), acks="all", max_request_size=9 << 20,
                    max_block_ms=round(ANSWER * 1000), client_id="maskwatch-api",
                    delivery_timeout_ms=round(DELIVERY * 1000), request_timeout_ms=round(REQUEST * 1000),
                )  # fmt: skip
            return self._client

    def _then(self, session: Session) -> None:
        event.listen(session, "after_commit", lambda _: self._wake.set())

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait(EVERY)
            self._wake.clear()
            try:
                while not self._over.is_set() and self._turn():
                    pass
                self.fault = ""
            except (OSError, KafkaError, SQLAlchemyError) as error:
                if not self.fault:
                    log.warning("outbox: cannot send", error=f"{type(error).__name__}: {error}"[:300])
                self.fault = f"{type(error).__name__}: {error}"[:300]
                self._over.wait(1)

    def _turn(self) -> bool:
        """Sends the oldest records; -> whether there may be more."""
        with self.sessions() as session, session.begin():
            if session.scalar(select(Outgoing.id).limit(1)) is None:
                return False
            if not session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
                self._over.wait(0.05)  # another process is at it; what it does not take is ours
                return True
            rows = session.scalars(select(Outgoing).order_by(Outgoing.id).limit(TURN)).all()
            client = self.client()
            sent: list[Any] = []
            try:
                for row in rows:
                    sent.append(client.send(broker.topic(self.settings, row.topic), row.value, row.key.encode()))
                for each in sent:
                    each.get(ANSWER)
            except BaseException:
                for each in sent:  # none is still on its way when somebody else takes the outbox
                    with suppress(KafkaError):
                        each.get(ANSWER)
                raise
            session.execute(delete(Outgoing).where(Outgoing.id.in_([row.id for row in rows])))
            return bool(rows)
