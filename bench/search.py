"""Search among the vectors of faces in the embedded Milvus Lite: its time, and what it finds against looking at all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api import vectors
from api.vectors import Vector, Vectors
from bench.figures import Figure, Section
from infra.local import milvus, process
from pipeline.settings import Settings

LENGTH, LOOKS, CAMERAS = 128, 5, 20  # numbers of a vector, looks of a person in a row, cameras
BEGIN, EVERY = 1_700_000_000_000_000, 500_000  # µs: 100,000 faces are 14 hours
TOP = 10


def measure(settings: Settings, count: int, searches: int, say: Callable[[str], None]) -> Section:
    section = Section(
        "search", "Search by a face", "python -m bench search",
        notes=[
            f"{count:,} made-up vectors of {LENGTH} numbers, {LOOKS} looks a person, {CAMERAS} cameras; a search asks "
            f"for a new look at somebody who is there. Through the API's own code and gRPC, one search at a time, on "
            "the embedded Milvus Lite with its exact index; recall is of the ten most alike among all.",
        ],
    )
    everyone, rows = _made(count, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        port = process.free_port()
        with (Path(folder) / "log").open("wb") as log:
            server = process.spawn(milvus.command(Path(folder), port), log)
        try:
            milvus.ready(port)
            store = Vectors(settings.model_copy(update={"vectors": "", "vectors_port": port, "topic_prefix": "bench."}))
            began = time.perf_counter()
            for begin in range(0, count, vectors.FLUSH):
                store.upsert("bench", rows[begin : begin + vectors.FLUSH])
                if begin % 20_000 == 0:
                    say(f"{begin:,} vectors written")
            section.notes.append(f"Writing them took {time.perf_counter() - began:.0f} s, {vectors.FLUSH:,} at a time.")
            section.figures += _searched(store, everyone, rows, searches, settings.seed, say)
        finally:
            process.stop(server, 10)
    section.figures.append(_by_hand(everyone, searches, settings.seed))
    return section


def _searched(store: Vectors, everyone: NDArray[np.float32], rows: list[Vector], searches: int, seed: int,
              say: Callable[[str], None]) -> list[Figure]:
    hour, hours = 3_600_000_000, max(1, len(rows) * EVERY // 3_600_000_000)
    cameras = np.array([int(row.camera[3:]) for row in rows])
    times = np.array([row.at for row in rows])
    figures = []
    for what in ("everywhere", "one camera", "one hour", "one camera and hour"):
        random, took, found = np.random.default_rng(seed + 1), [], 0.0
        for number in range(searches + 5):
            asked = _look(everyone[random.integers(len(rows))], random)
            inside, where = np.ones(len(rows), bool), []
            if "camera" in what:
                camera = int(random.integers(CAMERAS))
                inside &= cameras == camera
                where.append(f'camera == "cam{camera}"')
            if "hour" in what:
                since = BEGIN + int(random.integers(hours)) * hour
                inside &= (times >= since) & (times < since + hour)
                where.append(f"at >= {since} and at < {since + hour}")
            began = time.perf_counter()
            hits = store.search("bench", asked, TOP, " and ".join(where))
            if number < 5:  # the first ones open files
                continue
            took.append(1000 * (time.perf_counter() - began))
            among = np.flatnonzero(inside)
            best = {rows[i].face for i in among[np.argsort(-(everyone[among] @ asked))[:TOP]]}
            found += len(best & {hit.face for hit in hits}) / max(1, len(best))
            if number % 50 == 0:
                say(f"{what}: {number} searches")
        recall = f"recall@{TOP} {found / searches:.4f}"
        figures.append(Figure(f"search {what}, median", took, "ms", "", recall))
        figures.append(Figure(f"search {what}, 95 of 100 within", [float(np.quantile(took, 0.95))], "ms"))
    return figures


def _by_hand(everyone: NDArray[np.float32], searches: int, seed: int) -> Figure:
    """The same without Milvus, for comparison: every vector in memory, and one product."""
    random, took = np.random.default_rng(seed + 1), []
    for _ in range(searches):
        asked = _look(everyone[random.integers(len(everyone))], random)
        began = time.perf_counter()
        alike = everyone @ asked
        best = np.argpartition(-alike, TOP)[:TOP]
        best[np.argsort(-alike[best])]
        took.append(1000 * (time.perf_counter() - began))
    return Figure("for comparison: one product with all of them in this process's memory", took, "ms", "",
                  f"{everyone.nbytes >> 20} MiB in every process that searches")


def _made(count: int, seed: int) -> tuple[NDArray[np.float32], list[Vector]]:
    random = np.random.default_rng(seed)
    people = random.standard_normal((-(-count // LOOKS), LENGTH)).astype(np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    everyone = np.stack([_look(people[i // LOOKS], random) for i in range(count)])
    rows = []
    for i, vector in enumerate(everyone):
        camera, at = f"cam{(i // LOOKS) % CAMERAS}", BEGIN + i * EVERY
        track = f"{camera}@{BEGIN + i // LOOKS * LOOKS * EVERY}#0"
        rows.append(Vector(f"{camera}@{at}#0", track, "hall", camera, at, bool(i % 3), 0.5, vector.tolist()))
    return everyone, rows


def _look(person: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Another look at somebody: a cosine of about 0.6 with another one of them, as between cameras at best."""
    noise = random.standard_normal(LENGTH).astype(np.float32)
    vector = person + 0.8 * noise / np.float32(np.linalg.norm(noise))
    return (vector / np.linalg.norm(vector)).astype(np.float32)
