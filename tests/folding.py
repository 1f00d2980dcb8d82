"""Messages put on topics, and a materialiser that folds them while a test looks on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaProducer
from sqlalchemy.orm import Session, sessionmaker

from agents import broker, cameras
from api.folds import Context
from api.materialiser import Materialiser
from pipeline import topics as contract
from pipeline.messages import Camera
from pipeline.settings import Settings


def publish(settings: Settings, *sent: tuple[str, Any]) -> None:
    """(topic, message), or (topic, key) for a tombstone, or (topic, bytes) for what is no message."""
    with closing(KafkaProducer(**broker.connection(settings), acks="all")) as producer:
        for name, message in sent:
            topic = contract.find(name)
            if isinstance(message, str):
                key, value = message.encode(), None
            elif isinstance(message, bytes):
                key, value = b"gate", message
            else:
                key, value = topic.key_of(message), topic.encode(message)
            producer.send(broker.topic(settings, name), value, key).get(timeout=20)


@contextmanager
def folding(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Materialiser]:
    one = Materialiser(settings, sessions, Context(settings))
    with running(one.run):
        yield one


@contextmanager
def running(work: Callable[[threading.Event], Any]) -> Iterator[None]:
    """`work` in a thread of its own until the block ends: it is given what tells it to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def until(sessions: sessionmaker[Session], true: Callable[[Session], Any], timeout: float = 30) -> None:
    end = time.monotonic() + timeout
    while True:
        with sessions() as session:
            if true(session):
                return
        assert time.monotonic() < end
        time.sleep(0.1)


def wishes(settings: Settings, enough: Callable[[dict[str, Camera]], bool]) -> dict[str, Camera]:
    """The wishes on the topic `cameras`, once the outbox has sent what it should."""
    end = time.monotonic() + 15
    while not enough(found := cameras.wishes(settings)):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found
