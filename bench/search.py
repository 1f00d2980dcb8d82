"""Search by a face as a page does it: POST /v1/search among many vectors, its time, and what it finds against looking
at every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from api import auth, db, vectors
from api.routes.search import TOGETHER
from api.tables.cameras import CameraRow
from api.tables.sightings import Sighting
from api.tables.sites import Site
from api.tables.trajectories import LegRow, TrajectoryRow
from api.tables.users import Grant, User
from api.vectors import Vector, Vectors
from bench.figures import Figure, Section
from bench.load import running
from pipeline import likeness
from pipeline.messages import STATES, Camera, Source
from pipeline.settings import Settings

LENGTH, LOOKS, CAMERAS = 128, 5, 20  # numbers of a vector, looks of a person in a row, cameras
BEGIN, EVERY, HOUR = 1_700_000_000_000_000, 500_000, 3_600_000_000  # µs: 100,000 faces are 14 hours
TOP, LEAST = 10, 0.5  # visitors that are compared; chance below which nobody is told, as a page asks at first
SITE = "hall"


def measure(settings: Settings, count: int, searches: int, say: Callable[[str], None]) -> Section:
    section = Section(
        "search", "Search by a face", "python -m bench search",
        notes=[
            f"{count:,} made-up vectors of {LENGTH} numbers, {LOOKS} looks a person, two of three masked, {CAMERAS} "
            "cameras, each person a track and a route in the tables. `POST /v1/search` with `like` a face that is "
            f"there, a chance of at least {LEAST:g} and a limit of 50: by HTTP, one search at a time, to an API "
            "process with PostgreSQL, the broker and the embedded Milvus Lite (exact index) beside it, on these cores.",
            f"Recall is of the {TOP} likeliest visitors, against every vector looked at in memory by the same measure.",
        ],
    )
    everyone, rows = made(count, settings.seed)
    with running(settings, say) as (url, tables, _):
        store, began = Vectors(tables), time.perf_counter()
        for begin in range(0, count, vectors.FLUSH):
            store.upsert("bench", rows[begin : begin + vectors.FLUSH])
            if begin % 20_000 == 0:
                say(f"{begin:,} vectors written")
        section.notes.append(f"Writing the vectors took {time.perf_counter() - began:.0f} s, {vectors.FLUSH:,} at a "
                             "time.")
        token = _fill(tables, rows)
        with httpx.Client(base_url=url, timeout=60, headers={"authorization": f"Bearer {token}"}) as client:
            section.figures += _searched(client, everyone, rows, searches, settings.seed, say)
    section.figures.append(_by_hand(everyone, searches, settings.seed))
    return section


def _searched(client: httpx.Client, everyone: NDArray[np.float32], rows: list[Vector], searches: int, seed: int,
              say: Callable[[str], None]) -> list[Figure]:
    hours = max(1, len(rows) * EVERY // HOUR)
    cameras, times = np.array([int(row.camera[3:]) for row in rows]), np.array([row.at for row in rows])
    masked = np.array([row.masked for row in rows])
    figures = []
    for what in ("everywhere", "one camera", "one hour", "one camera and hour"):
        random, took, found, short = np.random.default_rng(seed + 1), [], 0.0, 0
        for number in range(searches + 5):
            like = int(random.integers(len(rows)))
            inside, asked = np.ones(len(rows), bool), dict[str, Any](like=rows[like].face, least=LEAST)
            if "camera" in what:
                camera = int(random.integers(CAMERAS))
                inside &= cameras == camera
                asked |= {"cameras": [f"cam{camera}"]}
            if "hour" in what:
                since = BEGIN + int(random.integers(hours)) * HOUR
                inside &= (times >= since) & (times < since + HOUR)
                asked |= {"since": since, "until": since + HOUR}
            began = time.perf_counter()
            answer = client.post("/v1/search", json=asked)
            if number < 5:  # the first ones open files
                continue
            took.append(1000 * (time.perf_counter() - began))
            told = answer.raise_for_status().json()
            short += not told["complete"]
            among = np.flatnonzero(inside)
            best = likeliest(everyone[among] @ everyone[like], masked[among], [rows[i].track for i in among],
                             bool(masked[like]))
            found += len(best & {match["visitor"] for match in told["matches"][:TOP]}) / len(best) if best else 1.0
            if number % 50 == 0:
                say(f"{what}: {number} searches")
        note = f"recall@{TOP} {found / searches:.4f}" + (f"; {short} not complete" if short else "")
        figures.append(Figure(f"search {what}, median", took, "ms", "", note))
        figures.append(Figure(f"search {what}, 95 of 100 within", [float(np.quantile(took, 0.95))], "ms"))
    return figures


def likeliest(cosines: NDArray[np.float32], masked: NDArray[np.bool_], tracks: list[str], asked: bool) -> set[str]:
    """The TOP tracks by the mean of their most alike looks, of those of which one look is alike enough: every pair
    looked at."""
    level = likeness.levelled(cosines[None], np.array([asked]), masked)[0]
    chances = np.array([likeness.chance(float(c), int(asked) + int(m)) for c, m in zip(cosines, masked, strict=True)])
    by_track: dict[str, list[int]] = {}
    for i, track in enumerate(tracks):
        by_track.setdefault(track, []).append(i)
    ranked = []
    for track in {tracks[i] for i in np.flatnonzero(chances >= LEAST)}:
        those = by_track[track]
        best = max((i for i in those if chances[i] >= LEAST), key=lambda i: level[i])
        most = sorted((float(cosines[i]) for i in those if masked[i] == masked[best]), reverse=True)[:TOGETHER]
        chance = likeness.chance(sum(most) / len(most), int(asked) + int(masked[best]))
        if chance >= LEAST:
            ranked.append((round(chance, 4), round(float(cosines[best]), 4), track))
    return {track for *_, track in sorted(ranked, reverse=True)[:TOP]}


def _by_hand(everyone: NDArray[np.float32], searches: int, seed: int) -> Figure:
    """The nearest alone, without Milvus, for comparison: every vector in memory, and one product."""
    random, took = np.random.default_rng(seed + 1), []
    for _ in range(searches):
        asked = everyone[random.integers(len(everyone))]
        began = time.perf_counter()
        alike = everyone @ asked
        best = np.argpartition(-alike, TOP)[:TOP]
        best[np.argsort(-alike[best])]
        took.append(1000 * (time.perf_counter() - began))
    return Figure("for comparison: one product with all of them in this process's memory", took, "ms", "",
                  f"{everyone.nbytes >> 20} MiB in every process that searches")


def _fill(settings: Settings, rows: list[Vector]) -> str:
    """The tables' side of the vectors; -> a token of somebody who may search them."""
    engine = db.connect(settings)
    starts = [row for row in rows if row.face == row.track]
    zero = dict.fromkeys(STATES, 0)
    with Session(engine) as session, session.begin():
        session.add(Site(id=SITE, name="Hall"))
        for number in range(CAMERAS):
            wish = msgspec.to_builtins(Camera(f"cam{number}", (Source("rtsp://127.0.0.1:9/1"),), site=SITE))
            session.add(CameraRow(id=f"cam{number}", site=SITE, name=f"Camera {number}", wish=wish, running=False,
                                  offset=0))
        session.execute(Sighting.__table__.insert(), [  # type: ignore[attr-defined]
            {"id": row.track, "site": SITE, "camera": row.camera, "start": row.at, "end": row.at + LOOKS * EVERY,
             "looks": LOOKS, **zero, "state": "worn", "zone": "", "open": False, "face": "", "quality": 0.5,
             "privacy": "pseudonymous"} for row in starts])
        session.execute(TrajectoryRow.__table__.insert(), [  # type: ignore[attr-defined]
            {"id": row.track, "site": SITE, "start": row.at, "at": row.at + LOOKS * EVERY, "closed": True, "cameras": 1,
             "metres": 0.0, "state": "worn", **zero, "gaps": [], "recorded": row.at} for row in starts])
        session.execute(LegRow.__table__.insert(), [  # type: ignore[attr-defined]
            {"trajectory": row.track, "number": 0, "site": SITE, "camera": row.camera, "track": row.track,
             "start": row.at, "end": row.at + LOOKS * EVERY, "state": "worn", **zero, "face": ""} for row in starts])
        user = User(name="searcher")
        session.add(user)
        session.flush()
        session.add(Grant(user=user.id, role="reviewer", site=SITE))
        token = auth.log_in(session, user.id, settings, kind="token")[0]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("analyze")
    engine.dispose()
    return token


def made(count: int, seed: int) -> tuple[NDArray[np.float32], list[Vector]]:
    random = np.random.default_rng(seed)
    people = random.standard_normal((-(-count // LOOKS), LENGTH)).astype(np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    everyone = np.stack([_look(people[i // LOOKS], random) for i in range(count)])
    rows = []
    for i, vector in enumerate(everyone):
        camera, at = f"cam{(i // LOOKS) % CAMERAS}", BEGIN + i * EVERY
        track = f"{camera}@{BEGIN + i // LOOKS * LOOKS * EVERY}#0"
        rows.append(Vector(f"{camera}@{at}#0", track, SITE, camera, at, bool(i % 3), 0.5, vector.tolist()))
    return everyone, rows


def _look(person: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Another look at somebody: a cosine of about 0.6 with another one of them, as between cameras at best."""
    noise = random.standard_normal(LENGTH).astype(np.float32)
    vector = person + 0.8 * noise / np.float32(np.linalg.norm(noise))
    return (vector / np.linalg.norm(vector)).astype(np.float32)
