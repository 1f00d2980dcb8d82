"""Kill test of the materialiser: killed with -9 in the middle of its transactions, again and again; then every table,
picture and vector is compared with those of a run that nobody disturbed, and made anew from the topics.

`python -m bench kills` does it with 200 kills on services of its own, and says how fast the folds are;
tests/api/test_kills.py with fifty.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
from kafka import KafkaProducer
from pydantic import SecretStr
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.orm import Session

from agents import broker, topics
from api import db, materialiser, migrations, pictures, vectors
from api.db import Base
from api.folds import Context
from api.tables import FOLDS
from api.tables.offsets import Offset
from infra.local import milvus, process
from infra.local.kafka import Kafka
from infra.local.postgres import Postgres
from models import fakes
from pipeline import topics as contract
from pipeline.flow import Flow
from pipeline.messages import Camera, CameraStatus, Frame, Source
from pipeline.pictures import encode
from pipeline.settings import Settings

START = 1_700_000_000_000_000  # µs
VISIT = 38  # seconds
BATCH = 60  # records of a turn here, so that there are many turns to be killed in
LIFE = 60.0  # seconds after which a process that neither died nor ended hangs


# -- what is folded ---------------------------------------------------------------------------------------------------


class Fakes:
    """What models.registry.load() gives, without weights."""

    look, embed = staticmethod(fakes.look), staticmethod(fakes.embed)
    names, embed_names = {"look": "000000000000"}, {"embed": "111111111111"}


def frames() -> Iterator[Frame]:
    """Two cameras: somebody without a mask goes from one to the other and puts one on; a second one comes later."""
    walks = {"door-00": [(0, 5, 1, lambda t: "none"), (30, 5, 4, lambda t: "worn")],
             "gate-00": [(12, 6, 1, lambda t: "none" if t < 2 else "worn")]}  # fmt: skip
    for i in range(VISIT * 5):
        for number, (camera, those) in enumerate(walks.items()):
            picture = fakes.empty(640, 360)
            for begin, seconds, person, state in those:
                if 0 <= (t := i / 5 - begin) < seconds:
                    x = 40 + 500 * t / seconds
                    fakes.draw(picture, (x, 120, x + 64, 184), state(t), person)
            digest = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (64, 36), interpolation=cv2.INTER_AREA)
            yield Frame(camera, START + i * 200_000, "hall-00", place=(15.0 * number, 0.0), width=640, height=360,
                        jpeg=encode(picture, 95), digest=digest.tobytes())
    for camera in walks:
        yield Frame(camera, START + VISIT * 1_000_000, "hall-00", ended=True)


def stretch(sites: int, times: int) -> list[tuple[str, bytes, bytes]]:
    """Topic, key and record: what the stages say of `times` visits to each site, one after another."""
    with ThreadPoolExecutor(2) as threads:
        said = [(record.topic, record.key.encode(), contract.find(record.topic).encode(record.message))
                for record in Flow(Settings(), Fakes(), threads).run(frames(), fill_known=True)
                if record.topic in {fold.topic for fold in FOLDS}]
    found: list[tuple[str, bytes, bytes]] = []
    for site in range(sites):
        own = f"-{site:02}".encode()
        for camera in (f"door-{site:02}", f"gate-{site:02}"):
            wish = Camera(camera, (Source("rtsp://10.0.0.9/1"),), site=f"hall-{site:02}")
            state = CameraStatus(camera, START, "up", START)
            for name, message in (("cameras", wish), ("cameras.status", state)):
                found.append((name, camera.encode(), contract.find(name).encode(message)))
        for turn in range(times):
            later = turn * (VISIT + 25) * 1_000_000
            for topic, key, record in said:
                moved = re.sub(rb"1[67][0-9]{14}", lambda at: b"%d" % (int(at[0]) + later), record)  # noqa: B023
                found.append((topic, key.replace(b"-00", own), moved.replace(b"-00", own)))
    return found


def publish(settings: Settings, records: Sequence[tuple[str, bytes, bytes]]) -> None:
    with closing(KafkaProducer(**broker.connection(settings), acks="all", linger_ms=5)) as producer:
        sent = [producer.send(broker.topic(settings, topic), value, key) for topic, key, value in records]
        producer.flush()
        for each in sent:
            each.get(timeout=60)


# -- lives ------------------------------------------------------------------------------------------------------------


def live(settings: Settings, name: str, last: int, told: Connection) -> None:
    """One life of the materialiser in a process of its own. It kills itself with -9 at the `last` of the points at
    which something may go wrong: before and after each statement, and before each commit; 0: it stops when told.

    Says how many points there were, and how long each fold took."""
    # the dead one's membership would keep the next life waiting for a session's length; how far it was is in the tables
    broker.group = lambda settings, stage: f"{settings.topic_prefix}{stage}-{name}"
    materialiser.BATCH = BATCH
    engine, passed, spent = db.connect(settings, pool=2), 0, Counter[str]()

    def point(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine, moment, point)
    for fold in FOLDS:
        fold.fold = _timed(fold.name, fold.fold, spent)
    stop = threading.Event()
    worker = materialiser.Materialiser(settings, db.sessions(engine), Context(settings))
    thread = threading.Thread(target=worker.run, args=(stop,), daemon=True)
    thread.start()
    while thread.is_alive() and not told.poll(0.05):
        pass
    stop.set()
    thread.join(30)
    told.send((passed, dict(spent), time.process_time()))
    engine.dispose()


def _timed(name: str, fold: Callable[..., None], spent: Counter[str]) -> Callable[..., None]:
    def timed(*arguments: Any) -> None:
        begin = time.perf_counter()
        fold(*arguments)
        spent[name] += time.perf_counter() - begin  # type: ignore[assignment]

    return timed


@dataclass
class Lived:
    """What became of one life."""

    killed: bool
    points: int = 0
    seconds: float = 0.0
    cpu: float = 0.0  # seconds
    spent: dict[str, float] = field(default_factory=dict)  # seconds in each fold


class Lives:
    """Starts lives, and says how far the tables are."""

    def __init__(self, settings: Settings, records: int) -> None:
        self.settings, self.records = settings, records
        self.engine = db.connect(settings, pool=2)
        self._start = multiprocessing.get_context("forkserver")
        self._start.set_forkserver_preload([__name__])  # a life begins within milliseconds

    def __enter__(self) -> Lives:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    def folded(self) -> int:
        with Session(self.engine) as session:
            return int(sum(session.scalars(select(Offset.next))))

    def one(self, last: int) -> Lived:
        here, there = self._start.Pipe()
        child = self._start.Process(target=live, args=(self.settings, uuid.uuid4().hex[:8], last, there))
        begin = time.monotonic()
        child.start()
        there.close()
        try:
            while child.is_alive() and self.folded() < self.records:
                if time.monotonic() - begin > LIFE:
                    raise RuntimeError(f"expected {self.records} records folded, {self.folded()} are after {LIFE} s")
                child.join(0.05)
            seconds = time.monotonic() - begin
            if child.is_alive():
                here.send("enough")
                child.join(LIFE)
            if child.exitcode == -signal.SIGKILL:
                return Lived(True, last, seconds)
            if child.exitcode != 0:
                raise RuntimeError(f"a life ended with {child.exitcode} and nobody had killed it")
            points, spent, cpu = here.recv()
            return Lived(False, points, seconds, cpu, spent)
        finally:
            child.kill()
            child.join()
            here.close()


@dataclass
class Verdict:
    """How the tables of a killed materialiser compare with those of one that was not."""

    counts: Counter[str]  # records of each topic
    kills: int = 0
    without: int = 0  # of the kills: in the first turn of a life, which had to be done again from its beginning
    rows: dict[str, int] = field(default_factory=dict)  # of what was compared
    different: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)  # folds whose tables came out the same when made anew
    differs_rebuilt: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the undisturbed run
    cpu: float = 0.0  # of its process
    spent: dict[str, float] = field(default_factory=dict)  # of those seconds, in each fold

    @property
    def records(self) -> int:
        return self.counts.total()

    def __str__(self) -> str:
        topic = {fold.name: fold.topic for fold in FOLDS}
        rates = [f"{name} {self.counts[topic[name]] / seconds:,.0f}" for name, seconds in self.spent.items()
                 if self.counts[topic[name]] >= 1000]
        return "\n".join([
            f"{self.records} records; killed with -9 {self.kills} times, {self.without} of them in a life's first turn",
            "compared: " + ", ".join(f"{name} {count}" for name, count in self.rows.items() if count),
            f"different: {', '.join(self.different) or 'nothing'}",
            f"made anew and the same: {', '.join(self.rebuilt)}",
            f"made anew and different: {', '.join(self.differs_rebuilt) or 'nothing'}",
            f"undisturbed: {self.records / self.seconds:,.0f} records/s through every fold, with its start; "
            f"{self.records / self.cpu:,.0f} for each second of its processor time",
            f"messages/s through one fold, the database's work included: {', '.join(rates)}",
        ])


def trial(calm: Settings, harried: Settings, kills: int, seed: int = 1, sites: int = 3, times: int = 5,
          say: Callable[[str], None] = lambda text: None) -> Verdict:
    """Two databases and data folders, one broker: `calm` is folded in one life, `harried` in `kills` and one more.

    Vectors have one place for both, so they are dropped in between."""
    records = stretch(sites, times)
    publish(calm, records)
    verdict = Verdict(Counter(topic for topic, _, _ in records))
    say(f"{len(records)} records are on their topics")
    with Lives(calm, len(records)) as lives:
        undisturbed = lives.one(0)
    verdict.seconds, verdict.cpu, verdict.spent = undisturbed.seconds, undisturbed.cpu, undisturbed.spent
    wanted = everything(calm)
    vectors.store(calm).drop()
    say(f"folded once in {undisturbed.seconds:.1f} s, {undisturbed.points} points to die at")
    with Lives(harried, len(records)) as lives:
        kill(lives, verdict, kills, random.Random(seed), undisturbed.points / (len(records) / BATCH), say)
        found = everything(harried)
        verdict.rows = {name: len(rows) for name, rows in wanted.items()}
        verdict.different = differences(wanted, found)
        say("every fold once more, from the topics")
        for fold in FOLDS:
            sessions, emptied = db.sessions(lives.engine), Context(harried)
            with sessions() as session, session.begin():
                fold.clear(session, emptied, 0)
                emptied.ready()
            for _ in materialiser.rebuild(harried, sessions, Context(harried), fold):
                pass
            same = not differences(wanted, everything(harried))
            (verdict.rebuilt if same else verdict.differs_rebuilt).append(fold.name)
    return verdict


def kill(lives: Lives, verdict: Verdict, kills: int, chance: random.Random, turn: float, say: Callable[[str], None]
         ) -> None:
    """`kills` lives, and one that may end. `turn`: points to die at in a turn, about."""
    while verdict.kills < kills:
        before = lives.folded()
        # a life that comes far leaves fewer records to be killed in: it may, as long as enough are left for the others
        most = 8 * turn if before / lives.records <= 0.8 * verdict.kills / kills else 1.5 * turn
        lived = lives.one(chance.randint(1, max(2, round(most))))
        if not lived.killed:
            raise RuntimeError(f"everything was folded after {verdict.kills} kills: the stretch is too short")
        verdict.kills += 1
        verdict.without += lives.folded() == before
        if verdict.kills % 10 == 0:
            say(f"killed {verdict.kills} times, {lives.folded()} of {lives.records} records folded")
    lives.one(0)


# -- comparing --------------------------------------------------------------------------------------------------------


def everything(settings: Settings) -> dict[str, list[str]]:
    """What is in every table, in the picture store and among the vectors. Columns that say when a row was written, or
    when it was last seen that nothing is left to fold, or that were made up for it are left out."""
    engine = db.connect(settings, pool=2)
    found: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            columns = [column for column in table.columns if column.identity is None and column.name != "caught"
                       and not (column.default is not None and column.default.is_callable)
                       and "now" not in str(getattr(column.server_default, "arg", ""))]
            rows = connection.execute(select(*columns)) if columns else []
            found[table.name] = sorted(repr(tuple(row)) for row in rows)
    engine.dispose()
    store = pictures.store(settings)
    names = sorted(store.names(""))
    found["pictures"] = [f"{name} {hashlib.sha256(store.get(name) or b'').hexdigest()}" for name in names]
    found["vectors"] = sorted(repr(row) for row in vectors.store(settings).faces())
    return found


def differences(wanted: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    """Names of the tables that differ, each with the first row that only one of them has."""
    told = []
    for name in sorted(wanted.keys() | found.keys()):
        mine, other = Counter(wanted.get(name, [])), Counter(found.get(name, []))
        if mine != other:
            missing, extra = mine - other, other - mine
            first = next(iter(missing), "") or next(iter(extra), "")
            told.append(f"{name}: {missing.total()} missing, {extra.total()} too many, as {first[:300]}")
    return told


@contextmanager
def services(folder: Path) -> Iterator[tuple[Settings, Settings]]:
    """A broker, two databases and a Milvus Lite of our own."""
    embedded, server, port = Kafka(folder / "broker"), Postgres(folder / "postgres"), process.free_port()
    with (folder / "milvus.log").open("wb") as log:
        lite = process.spawn(milvus.command(folder / "milvus", port), log)
    try:
        embedded.start()
        server.start()
        milvus.ready(port)
        both = []
        for name in ("calm", "harried"):
            with create_engine(server.ready().url, isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(text(f"create database {name}"))
            address = server.url.rsplit("/", 1)[0] + f"/{name}"
            both.append(Settings(kafka=embedded.ready().bootstrap, data=folder / name, log="error", vectors="",
                                 vectors_port=port, database=SecretStr(address)))
            engine = db.connect(both[-1])
            migrations.upgrade(engine)
            engine.dispose()
        topics.apply(both[0])
        yield both[0], both[1]
    finally:
        process.stop(lite, 10)
        server.stop()
        embedded.stop()
