"""Messages put on topics, and a materialiser that folds them while a test looks on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaProducer
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api.folds import Context
from api.materialiser import Materialiser
from pipeline import topics as contract
from pipeline.settings import Settings


def publish(settings: Settings, *sent: tuple[str, Any]) -> None:
    """(topic, message) each."""
    with closing(KafkaProducer(**broker.connection(settings), acks="all")) as producer:
        for name, message in sent:
            topic = contract.find(name)
            producer.send(broker.topic(settings, name), topic.encode(message), topic.key_of(message)).get(timeout=20)


@contextmanager
def folding(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Materialiser]:
    stop, one = threading.Event(), Materialiser(settings, sessions, Context(settings))
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        yield one
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
