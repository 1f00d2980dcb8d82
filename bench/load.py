"""The API under load: 200 viewers on the live feed and 50 mixed reads a second, over tables with rows in them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import numpy as np
from sqlalchemy.orm import Session

from api import auth, db, live
from api.tables.cameras import CameraRow, CameraState
from api.tables.compliance import Minute
from api.tables.episodes import EpisodeRow
from api.tables.sightings import Sighting
from api.tables.sites import Site
from api.tables.trajectories import LegRow, TrajectoryRow
from api.tables.users import Grant, User
from bench import figures
from bench import system as systems
from bench.figures import Figure, Section, Table
from bench.inspection import PASSWORD, _answers, _tables
from bench.system import System, cpu, wait
from infra.local import milvus, process
from infra.local.kafka import Kafka
from infra.local.postgres import Postgres
from pipeline.messages import Camera, CameraStatus, Source
from pipeline.settings import Settings

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000  # µs
SITES, CAMERAS = 4, 24
SIGHTINGS, EPISODES = 20_000, 2_000  # of a day
# What pages ask for; `{since}` is a day ago, `{until}` now.
READS = (
    "/v1/me", "/v1/cameras", "/v1/sites", "/v1/status", "/v1/compliance/now",
    "/v1/compliance?since={since}&until={until}&bucket=hour", "/v1/compliance/trend?since={since}&until={until}",
    "/v1/compliance/ranking?since={since}&until={until}", "/v1/episodes?limit=20", "/v1/episodes?limit=20&status=open",
    "/v1/alerts?limit=20", "/v1/sightings?limit=50", "/v1/trajectories?limit=20", "/v1/statistics/cameras",
    "/v1/chat/rooms", "/v1/audit?limit=50",
)  # fmt: skip


def measure(settings: Settings, viewers: int, rate: float, seconds: float, repeats: int, say: Callable[[str], None]
            ) -> Section:
    section = Section(
        "load", "The API under load", "python -m bench load",
        notes=[
            f"{viewers} viewers on the live feed (half of everything, half of one of {SITES} sites) and {rate:g} reads "
            f"a second of {len(READS)} kinds, in a fixed order and at fixed times, for {seconds:g} s a run; one API "
            f"process, PostgreSQL, the broker, and the process that asks and watches, all on the cores named above.",
            f"Tables: {CAMERAS} cameras, {SIGHTINGS:,} sightings, {EPISODES:,} episodes, as many routes, minutes of a "
            f"day. Events: the counts of each camera once a second, {CAMERAS} a second, by NOTIFY as the materialiser "
            f"tells them.",
            "A read's time is from the moment it was due, so that waiting for others counts; an event's, from before "
            "it was told in the database to the viewer's line.",
        ],
    )
    reads: list[list[float]] = []
    by_kind: dict[str, list[float]] = {kind: [] for kind in READS}
    events: list[list[float]] = []
    spent, errors, told, missed = [], 0, 0, 0
    with running(settings, say) as (url, tables, api):
        tokens = _fill(tables, viewers)
        for number in range(repeats):
            say(f"run {number + 1} of {repeats}")
            before, begun = cpu(api), time.monotonic()
            run = asyncio.run(_run(url, tables, tokens, viewers, rate, seconds))
            spent.append((cpu(api) - before) / (time.monotonic() - begun) * 100)
            reads.append(run.reads)
            events.append(run.events)
            for kind, times in run.by_kind.items():
                by_kind[kind] += times
            errors, told, missed = errors + run.errors, told + run.told, missed + run.missed
            for fault in run.faults[:3]:
                section.notes.append(f"error: {fault}")
    section.figures = [
        Figure("errors: answers that were no 200, connections that ended, events that did not come", [errors + missed],
               "", "0"),
        *(Figure(f"read, p{p}", [float(np.percentile(run, p)) * 1000 for run in reads], "ms") for p in (50, 95, 99)),
        *(Figure(f"event to viewer, p{p}", [float(np.percentile(run, p)) * 1000 for run in events], "ms")
          for p in (50, 95, 99)),
        Figure("the API's processor time", spent, "% of a core"),
    ]  # fmt: skip
    section.tables = [Table("Reads by kind, all runs, ms", ["read", "p50", "p95", "reads"], [
        [f"`{kind.format(since='…', until='…')}`",
         *(figures.number(float(np.percentile(times, p)) * 1000) for p in (50, 95)), str(len(times))]
        for kind, times in by_kind.items()])]  # fmt: skip
    section.notes.append(f"{sum(map(len, reads)):,} reads and {sum(map(len, events)):,} events at viewers in all.")
    return section


class _Result(msgspec.Struct):
    """What one run gave; times in seconds."""

    reads: list[float] = []
    by_kind: dict[str, list[float]] = {}
    events: list[float] = []
    errors: int = 0
    missed: int = 0
    told: int = 0
    faults: list[str] = []


@contextmanager
def running(settings: Settings, say: Callable[[str], None]) -> Iterator[tuple[str, Settings, Any]]:
    """An API of its own on parts of its own; -> its address, settings that reach its tables and vectors, its process.
    """
    with TemporaryDirectory(prefix="bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        data = folder / "data"
        data.mkdir()
        kafka, database = Kafka(folder), Postgres(folder)
        stack.callback(kafka.stop)
        stack.callback(database.stop)
        say("starting")
        kafka.start()
        database.start()
        vectors = process.free_port()
        with (folder / "milvus.log").open("wb") as log:
            lite = process.spawn(milvus.command(folder / "milvus", vectors), log)
        stack.callback(process.stop, lite, 30)
        kafka.ready()
        database.ready()
        system = System(data, folder, kafka)
        stack.callback(system.stop)
        address = database.url.replace("+psycopg", "")
        system.env |= {"MASKWATCH_DATABASE": address, "MASKWATCH_ADMIN_PASSWORD": PASSWORD,
                       "MASKWATCH_VECTORS_PORT": str(vectors)}
        _tables(system)
        api = system.spawn("api", [sys.executable, "-m", "cli.main", "api"], system.env)
        url = f"http://127.0.0.1:{system.env['MASKWATCH_PORT']}"
        wait(system, systems.READY, "an answer of the API", lambda: _answers(url))
        yield url, Settings(data=data, database=address, vectors_port=vectors, log="warning",
                            topic_prefix=system.settings.topic_prefix), api


def _fill(settings: Settings, viewers: int) -> list[str]:
    """A day of rows, seeded; -> a token for each viewer."""
    rng, now = np.random.default_rng(1), time.time_ns() // 1000
    engine = db.connect(settings)
    cameras = [(f"camera-{number}", f"site-{number % SITES}") for number in range(CAMERAS)]
    with Session(engine) as session, session.begin():
        session.add_all(Site(id=f"site-{number}", name=f"Site {number}") for number in range(SITES))
        for name, site in cameras:
            wish = msgspec.to_builtins(Camera(name, (Source("rtsp://127.0.0.1:9/1"),), site=site))
            session.add(CameraRow(id=name, site=site, name=name, wish=wish, running=True, offset=0))
            session.add(CameraState(id=name, state="up", since=now, at=now, status=msgspec.to_builtins(
                CameraStatus(name, now, "up", now))))
            session.execute(Minute.__table__.insert(), [  # type: ignore[attr-defined]
                {"camera": name, "zone": "", "minute": now - now % MINUTE - ago * MINUTE, "site": site,
                 "looked": MINUTE, "people_worn": 3, "came_worn": 2, "worn": 30 * SECOND,
                 **dict.fromkeys(("incorrect", "none", "unknown", "exempt", "people_incorrect", "people_none",
                                  "people_unknown", "people_exempt", "came_incorrect", "came_none", "came_unknown",
                                  "came_exempt"), 0)} for ago in range(1440)])
        session.flush()
        starts = np.sort(rng.integers(now - 24 * HOUR, now, SIGHTINGS)).tolist()
        whose = rng.integers(0, CAMERAS, SIGHTINGS).tolist()
        zero = dict.fromkeys(("incorrect", "none", "unknown"), 0)
        tracks = [(f"{cameras[who][0]}@{start}#0", start, *cameras[who])
                  for start, who in zip(starts, whose, strict=True)]
        session.execute(Sighting.__table__.insert(), [  # type: ignore[attr-defined]
            {"id": track, "site": site, "camera": camera, "start": start, "end": start + 5 * SECOND, "looks": 9,
             "worn": 5 * SECOND, **zero, "state": "worn", "zone": "", "open": False, "face": "", "quality": 0.5,
             "privacy": "pseudonymous"} for track, start, camera, site in tracks])
        some = tracks[::SIGHTINGS // EPISODES]
        session.execute(TrajectoryRow.__table__.insert(), [  # type: ignore[attr-defined]
            {"id": track, "site": site, "start": start, "at": start + 5 * SECOND, "closed": True, "cameras": 1,
             "metres": 0.0, "state": "none", "worn": 0, **zero, "gaps": [], "recorded": now}
            for track, start, camera, site in some])
        session.execute(LegRow.__table__.insert(), [  # type: ignore[attr-defined]
            {"trajectory": track, "number": 0, "site": site, "camera": camera, "track": track, "start": start,
             "end": start + 5 * SECOND, "state": "none", "worn": 0, **zero, "face": ""}
            for track, start, camera, site in some])
        session.execute(EpisodeRow.__table__.insert(), [  # type: ignore[attr-defined]
            {"id": f"{track}!{start}", "site": site, "person": track, "state": "none", "status": "closed",
             "start": start, "end": start + 5 * SECOND, "at": start + 5 * SECOND, "cameras": [camera], "score": 0.9,
             "looks": 9, "reason": "gone", "zone": "", "policy": "", "rule": "", "except_roles": [], "recorded": now}
            for track, start, camera, site in some])
        tokens = []
        for number in range(viewers):
            user = User(name=f"viewer-{number}")
            session.add(user)
            session.flush()
            role, site = ("manager", "") if number % 2 == 0 else ("viewer", f"site-{number % SITES}")
            session.add(Grant(user=user.id, role=role, site=site))
            tokens.append(auth.log_in(session, user.id, settings, kind="token")[0])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("analyze")
    engine.dispose()
    return tokens


async def _run(url: str, settings: Settings, tokens: list[str], viewers: int, rate: float, seconds: float) -> _Result:
    result, stop = _Result(), threading.Event()
    result.reads, result.events, result.faults = [], [], []
    result.by_kind = {kind: [] for kind in READS}
    host, port = url.removeprefix("http://").split(":")
    watching = [asyncio.create_task(_watch(host, int(port), token, result)) for token in tokens[:viewers]]
    await asyncio.sleep(3)  # every feed is open
    telling = threading.Thread(target=_tell, args=(settings, stop, seconds, result))
    telling.start()
    now = time.time_ns() // 1000
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=64),
                                 headers={"authorization": f"Bearer {tokens[0]}"}) as client:
        begun, asking = time.monotonic(), []
        for number in range(round(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            kind = READS[number % len(READS)]
            path = kind.format(since=now - 24 * HOUR, until=now)
            asking.append(asyncio.create_task(_ask(client, path, due, result, result.by_kind[kind])))
        await asyncio.gather(*asking)
    stop.set()
    await asyncio.to_thread(telling.join)
    await asyncio.sleep(1)  # the last events are on their way
    for number, task in enumerate(watching):
        task.cancel()
        heard = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(heard[0], asyncio.CancelledError):
            result.errors += 1
            result.faults.append(f"viewer {number}: the feed ended: {heard[0]!r}")
    share = sum(1.0 if number % 2 == 0 else 1 / SITES for number in range(viewers))
    result.missed = max(0, round(result.told * share) - len(result.events))
    return result


async def _ask(client: httpx.AsyncClient, path: str, due: float, result: _Result, of_kind: list[float]) -> None:
    try:
        answer = await client.get(path)
        if answer.status_code != 200:
            result.errors += 1
            result.faults.append(f"{path}: {answer.status_code} {answer.text[:200]}")
    except httpx.HTTPError as error:
        result.errors += 1
        result.faults.append(f"{path}: {error!r}")
    result.reads.append(time.monotonic() - due)
    of_kind.append(result.reads[-1])


async def _watch(host: str, port: int, token: str, result: _Result) -> None:
    """One viewer, with as little work of its own as can be. Returns when the feed ends."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /v1/live HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"data: ") and b'"sent"' in line:
                result.events.append(time.time() - json.loads(line[6:])["data"]["sent"])
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _tell(settings: Settings, stop: threading.Event, seconds: float, result: _Result) -> None:
    """The counts of each camera once a second, spread over it."""
    engine = db.connect(settings)
    begun, number = time.monotonic(), 0
    with engine.connect() as connection, Session(connection) as session:
        while not stop.is_set() and time.monotonic() - begun < seconds:
            camera, site = f"camera-{number % CAMERAS}", f"site-{number % CAMERAS % SITES}"
            live.tell(session, live.Event("counts", {
                "id": camera, "sent": time.time(), "people": {"worn": 2, "incorrect": 0, "none": 1, "unknown": 0},
                "minute": 0, "people_in_minute": {"worn": 5, "none": 1}, "seconds_in_minute": {"worn": 31.0}},
                site, camera, "compliance.view"))
            session.commit()
            number += 1
            stop.wait(max(0.0, begun + number / CAMERAS - time.monotonic()))
    result.told = number
    engine.dispose()
