"""Sends what waits in `deliveries`: each message until it has arrived, with every attempt on record.

A sender holds the row it sends (`for update skip locked`), so several share the work; one that is killed between the
answer and its commit leaves the row waiting, and the message goes again under the same id.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import structlog
from sqlalchemy import exists, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, aliased, sessionmaker

from api import alerts, live, pictures
from api.db import now
from api.messengers import KINDS, Options, note
from api.messengers.note import Later, Refused
from api.messengers.reach import Reach
from api.tables.deliveries import Channel, Delivery, DeliveryAttempt
from pipeline.settings import Settings

log = structlog.get_logger()
TURN = 0.5  # seconds between two looks at the tables
SENDERS = 4  # messages on their way at a time: an address that hangs holds one of them
FIRST, LONGEST = 5.0, 1800.0  # seconds until the second attempt; doubled at each, up to this
GIVE_UP = timedelta(hours=24)  # after the message was made


@dataclass
class Counted:
    """What this process has done since it started."""

    made: int = 0
    sent: int = 0
    tried: int = 0


class Alerting:
    """`Alerting(settings, sessions).run(stop)`: decides and sends until `stop` is set. Several share the work."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self.settings, self.sessions = settings, sessions
        self.reach = Reach.of(settings.alert_networks)
        self.counted = Counted()
        self.fault: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        """Raises what a thread stumbled over that is no fault of the database."""
        threads = [threading.Thread(target=self._forever, args=(self.turn, stop), name=f"sender-{i}")
                   for i in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            self._forever(self._judge, stop)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if self.fault:
            raise self.fault

    def _forever(self, work: Callable[[], bool], stop: threading.Event) -> None:
        """`work` at once again when it found something, else after a moment; a database that is away comes back."""
        while not stop.is_set():
            try:
                if not work():
                    stop.wait(TURN)
            except OperationalError as error:
                log.warning("database", error=str(error.orig).strip())
                stop.wait(2)
            except Exception as error:
                self.fault = error
                stop.set()

    def _judge(self) -> bool:
        with self.sessions() as session, session.begin():
            self.counted.made += alerts.judge(session)
        return False

    def turn(self) -> bool:
        """One message, if one is due."""
        with self.sessions() as session, session.begin():
            delivery = due(session)
            if delivery is None:
                return False
            self.counted.tried += 1
            self.counted.sent += attempt(session, delivery, self.settings, self.reach)
        return True


def due(session: Session) -> Delivery | None:
    """The one that waits longest, held; none that would overtake an earlier one of its alert on its channel."""
    earlier = aliased(Delivery)
    before = exists().where(earlier.alert == Delivery.alert, earlier.channel == Delivery.channel,
                            earlier.state == "waiting", earlier.number < Delivery.number, earlier.alert != "")
    return session.scalar(
        select(Delivery).where(Delivery.state == "waiting", Delivery.due <= now(), ~before)
        .order_by(Delivery.due).limit(1).with_for_update(skip_locked=True, of=Delivery)
    )


def attempt(session: Session, delivery: Delivery, settings: Settings, reach: Reach) -> bool:
    """Try once, and write down what came of it; -> whether it arrived."""
    channel = session.get(Channel, delivery.channel)
    begun = time.monotonic()
    sent, after = False, 0.0
    if channel is None or (not channel.enabled and delivery.what != "test"):
        delivery.state, delivery.ended = "dropped", now()
        delivery.answer = "the channel is switched off" if channel else "the channel was removed"
        return False
    try:
        delivery.answer, sent = say(channel, delivery, settings, reach), True
        delivery.state, delivery.ended = "sent", now()
    except Refused as error:
        delivery.answer, delivery.state, delivery.ended = str(error)[:1000], "failed", now()
    except Later as error:
        delivery.answer, after = str(error)[:1000], error.after
    except Exception as error:  # ours, or a channel that this version does not understand: the others still go out
        log.exception("a message that cannot be sent", delivery=delivery.id)
        delivery.answer, delivery.state, delivery.ended = f"{type(error).__name__}: {error}"[:1000], "failed", now()
    delivery.answer = delivery.answer.replace("\x00", "")
    delivery.attempts += 1
    session.add(DeliveryAttempt(delivery=delivery.id, took=round(time.monotonic() - begun, 3), sent=sent,
                                answer=delivery.answer))
    if delivery.state == "waiting":
        if now() - delivery.made > GIVE_UP:
            delivery.state, delivery.ended = "failed", now()
        else:
            delivery.due = now() + timedelta(seconds=max(after, wait(delivery.id, delivery.attempts)))
    if not sent:
        log.warning("not delivered", delivery=delivery.id, channel=channel.name, state=delivery.state,
                    why=delivery.answer)
    live.tell(session, live.Event("delivery.changed", {
        "id": delivery.id, "alert": delivery.alert, "channel": delivery.channel, "state": delivery.state,
        "attempts": delivery.attempts}, channel.site, "", "compliance.edit"))
    return sent


def wait(id: str, attempts: int) -> float:
    """Seconds until the next attempt: doubled each time, and spread by a quarter so that not all come at once."""
    spread = zlib.crc32(f"{id}{attempts}".encode()) / 2**32
    return float(min(LONGEST, FIRST * 2 ** min(attempts - 1, 20)) * (0.75 + spread / 2))


def say(channel: Channel, delivery: Delivery, settings: Settings, reach: Reach) -> str:
    """What the other side answers. Raises Later or Refused."""
    options = msgspec.convert({**channel.options, "kind": channel.kind}, Options)
    messenger, picture = KINDS[channel.kind], b""
    if channel.pictures and messenger.PICTURES and delivery.what != "end" and delivery.facts.get("picture"):
        try:
            picture = pictures.store(settings).get(delivery.facts["picture"]) or b""
        except OSError as error:
            log.warning("sent without its picture", delivery=delivery.id, why=str(error))
    told = note.write(delivery.id, delivery.what, channel.language, delivery.facts, settings.public_url, picture)
    said: str = messenger.send(options, told, reach)
    return said[:1000]
