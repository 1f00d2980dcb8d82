"""Vectors of faces in Milvus: the embedded one or a cluster by the same calls; what is compared, kept and removed.

Each space has its own collection: vectors of different models say nothing about each other. Rows are named by the hash
of the face's id, so that writing one twice is writing it once.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import (
    ConnectError,
    ConnectionNotExistException,
    MilvusException,
    MilvusUnavailableException,
)

from infra.local import milvus
from pipeline.settings import Settings

EMBEDDING = ("sface", "face_head", "embed")  # the models that make a vector, `embed` the one without weights
FLUSH = 1_000  # rows; each that waits costs the embedded one 15 µs a search
ANSWER = 20.0  # seconds a call may take
FIELDS = ["face", "track", "site", "camera", "at", "masked", "quality"]
LONGEST = {"face": 200, "track": 200, "site": 64, "camera": 64}  # bytes
PAGE = 4_000  # rows of one delete
LENGTHS = range(2, 32_769)  # of a vector, as Milvus takes them
LATEST = (1 << 63) - 1  # what its whole numbers hold
GONE, RELEASED = 100, 101  # codes: there is no such collection, or it is not loaded
# Milvus's codes for what is its own trouble: not ready, out of memory or disk, too much at once, who may come in, not
# (wholly) loaded, channels, segments, nodes, its store. The embedded one has but the last two of ours.
TROUBLE = {*range(1, 13), GONE, RELEASED, 103, 106, *range(500, 700), *range(900, 1_100), *range(1_400, 1_500)}

T = TypeVar("T")


class Away(OSError):
    """Milvus does not answer, or cannot do what every Milvus can."""


class Vector(NamedTuple):
    """A face's vector with what it can be asked for by."""

    face: str
    track: str  # empty: a single look
    site: str
    camera: str
    at: int  # µs UTC
    masked: bool
    quality: float  # 0..1
    values: Sequence[float]  # of length 1


class Hit(NamedTuple):
    """A face that was found."""

    face: str
    track: str
    site: str
    camera: str
    at: int
    masked: bool
    quality: float
    cosine: float


def space(models: dict[str, str], length: int) -> str:
    """Of the vectors that may be compared: `models` as in a message, `length` of a vector."""
    names = sorted(f"{name}={models[name]}" for name in EMBEDDING if name in models)
    return hashlib.sha256(f"{length} {' '.join(names)}".encode()).hexdigest()[:12]


def row_id(face: str) -> int:
    """63 bits of the face's id: among ten million the chance that any two are the same is 1 in 180,000."""
    return int.from_bytes(hashlib.sha256(face.encode()).digest()[:8], "big") >> 1


def quoted(texts: Iterable[str]) -> str:
    """A list for a filter; whatever is in the texts."""
    return json.dumps(sorted(texts), ensure_ascii=False)


# pymilvus pings every ten seconds; Milvus Lite's server, with gRPC's own settings, takes that for an attack after the
# third and closes the connection ("Too many pings"). On loopback a dead server shows without pings.
QUIET = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}
# gRPC looks for a server that was away after 1 s, 1.6 s, … 2 minutes: one that is back is to be found at once.
AGAIN = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 2_000}


class Vectors:
    """`store(settings)` gives the process's one. Every call raises Away when Milvus does not answer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.embedded = not settings.vectors
        self.prefix = re.sub(r"[^A-Za-z0-9_]", "_", settings.topic_prefix) + "faces_"
        self._client: MilvusClient | None = None
        self._known: set[str] = set()  # collections that are there
        self._waiting: dict[str, int] = {}  # collection -> rows since it was last flushed
        self._lock = threading.RLock()

    def client(self) -> MilvusClient:
        with self._lock:
            if self._client is None:
                with _away(self.settings):
                    self._client = MilvusClient(
                        milvus.uri(self.settings), token=self.settings.vectors_token.get_secret_value(), timeout=5.0,
                        grpc_options=AGAIN | (QUIET if self.embedded else {}))
            return self._client

    def upsert(self, space: str, vectors: Sequence[Vector]) -> None:
        """Raises ValueError for what no row can hold."""
        rows = {row_id(one.face): _row(one) for one in vectors}
        if not rows:
            return
        lengths = {len(one.values) for one in vectors}
        if len(lengths) > 1:
            raise ValueError(f"expected vectors of one length in a space, got {sorted(lengths)}")
        name, (length,) = self.prefix + space, lengths
        if length not in LENGTHS:
            raise ValueError(f"expected vectors of {LENGTHS[0]} to {LENGTHS[-1]} numbers, got {length}")

        def put() -> None:
            self._make(name, length)
            self.client().upsert(name, list(rows.values()), timeout=ANSWER)

        with _away(self.settings):
            self._again(name, put)
            self._flush(name, len(rows))

    def _flush(self, name: str, rows: int) -> None:
        """A cluster does it by itself, and refuses to be asked often."""
        self._waiting[name] = self._waiting.get(name, 0) + rows
        if self.embedded and self._waiting[name] >= FLUSH:
            self.client().flush(name, timeout=ANSWER)
            self._waiting[name] = 0

    def search(self, space: str, vector: NDArray[np.float32], limit: int, where: str = "") -> list[Hit]:
        """The `limit` most alike ones, best first. `where`: a filter on FIELDS; rows just written are seen."""
        name = self.prefix + space

        def ask() -> list[Any]:
            if not self._there(name):
                return []
            (hits,) = self.client().search(
                name, data=[vector.astype(np.float32).tolist()], limit=limit, filter=where, output_fields=FIELDS,
                timeout=ANSWER, consistency_level="Strong",
                search_params={} if self.embedded else {"params": {"ef": max(128, limit)}})  # fmt: skip
            return list(hits)

        with _away(self.settings):
            found = self._again(name, ask)
        return [Hit(*(hit["entity"][name] for name in FIELDS), float(hit["distance"])) for hit in found]

    def of_face(self, face: str) -> tuple[str, Hit, NDArray[np.float32]] | None:
        """Space and vector of one face; None: it has none, or no longer."""
        with _away(self.settings):
            for name in self.collections():
                for row in self._query(name, ids=[row_id(face)], output_fields=[*FIELDS, "vector"]):
                    if row["face"] == face:
                        return (name.removeprefix(self.prefix), Hit(*(row[each] for each in FIELDS), 1.0),
                                np.array(row["vector"], np.float32))
        return None

    def of_tracks(self, tracks: Sequence[str], limit: int) -> list[tuple[str, Hit, NDArray[np.float32]]]:
        """Space and vector of looks at these tracks, the best `limit` of each space."""
        found: list[tuple[str, Hit, NDArray[np.float32]]] = []
        with _away(self.settings):
            for name in self.collections():
                rows = [row for begin in range(0, len(tracks), 200) for row in self._query(
                    name, filter=f"track in {quoted(tracks[begin:begin + 200])}", limit=PAGE,
                    output_fields=[*FIELDS, "vector"])]
                rows.sort(key=lambda row: (-row["quality"], row["face"]))
                found += [(name.removeprefix(self.prefix), Hit(*(row[each] for each in FIELDS), 1.0),
                           np.array(row["vector"], np.float32)) for row in rows[:limit]]
        return found

    def count(self, where: str = "") -> int:
        """Over all spaces."""
        with _away(self.settings):
            return sum(int(row["count(*)"]) for name in self.collections()
                       for row in self._query(name, filter=where, output_fields=["count(*)"]))

    def faces(self) -> Iterator[tuple[str, str, list[float]]]:
        """Space, face and vector of every row: for comparing two stores, not for serving."""
        with _away(self.settings):
            for name in self.collections():
                for row in self._rows(name, "", ["face", "vector"]):
                    yield name.removeprefix(self.prefix), row["face"], list(row["vector"])

    def delete(self, where: str) -> int:
        """In all spaces; -> how many. The rows are gone for every search from now on, and from the files soon after:
        the embedded one rewrites a file when a fifth of it is deleted rows, or it is merged."""
        done = 0
        with _away(self.settings):
            for name in self.collections():
                while ids := [row["id"] for row in self._query(name, filter=where, output_fields=["id"], limit=PAGE)]:
                    done += self._remove(name, ids)
        return done

    def keep(self, ids: set[int], where: str) -> int:
        """Of the rows that the filter finds those alone that have these ids; -> how many went."""
        done = 0
        with _away(self.settings):
            for name in self.collections():
                over = [row["id"] for row in self._rows(name, where, ["id"]) if row["id"] not in ids]
                for begin in range(0, len(over), PAGE):
                    done += self._remove(name, over[begin:begin + PAGE])
        return done

    def _remove(self, name: str, ids: list[int]) -> int:
        self._again(name, lambda: self.client().delete(name, ids=ids, timeout=ANSWER))
        self._flush(name, FLUSH)
        return len(ids)

    def _query(self, name: str, **what: Any) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            if not self._there(name):
                return []
            return list(self.client().query(name, timeout=ANSWER, consistency_level="Strong", **what))

        return self._again(name, ask)

    def _rows(self, name: str, where: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """Every row, however many."""
        rows = self._again(name, lambda: self._there(name) and self.client().query_iterator(
            name, batch_size=1000, filter=where, output_fields=fields))
        while rows and (batch := rows.next()):
            yield from batch
        if rows:
            rows.close()

    def _again(self, name: str, call: Callable[[], T]) -> T:
        """A server that was started again has its collections loaded no more, and somebody else may have dropped one
        that we know: then look anew, once."""
        try:
            return call()
        except MilvusException as error:
            if error.code not in (GONE, RELEASED):
                raise
            with self._lock:
                self._known.discard(name)
            return call()

    def drop(self) -> None:
        """All of it."""
        with _away(self.settings), self._lock:
            for name in self.collections():
                self.client().drop_collection(name, timeout=ANSWER)
            self._known.clear()
            self._waiting.clear()

    def collections(self) -> list[str]:
        return [name for name in self.client().list_collections(timeout=ANSWER) if name.startswith(self.prefix)]

    def _there(self, name: str) -> bool:
        with self._lock:
            if name not in self._known and self.client().has_collection(name, timeout=ANSWER):
                self.client().load_collection(name, timeout=ANSWER)
                self._known.add(name)
            return name in self._known

    def _make(self, name: str, length: int) -> None:
        with self._lock:
            if self._there(name):
                return
            client = self.client()
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=length)
            for field, longest in LONGEST.items():
                schema.add_field(field, DataType.VARCHAR, max_length=longest)
            schema.add_field("at", DataType.INT64)
            schema.add_field("masked", DataType.BOOL)
            schema.add_field("quality", DataType.FLOAT)
            index = client.prepare_index_params()
            # the embedded one is exact and quicker without a graph (docs/performance.md); a cluster holds more
            if self.embedded:
                index.add_index("vector", index_type="FLAT", metric_type="COSINE")
            else:
                index.add_index("vector", index_type="HNSW", metric_type="COSINE",
                                params={"M": 16, "efConstruction": 200})
                for field in ("at", "camera", "site", "track"):
                    index.add_index(field, index_type="INVERTED")
            client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong",
                                     timeout=ANSWER)
            client.load_collection(name, timeout=ANSWER)
            self._known.add(name)


def _row(one: Vector) -> dict[str, Any]:
    for field, longest in LONGEST.items():
        text = getattr(one, field)
        if len(text.encode()) > longest or "\0" in text:
            raise ValueError(f"expected a {field} of at most {longest} bytes of text, got {text[:80]!r}")
    if not 0 <= one.at <= LATEST:
        raise ValueError(f"expected a time of 0 to {LATEST} µs, got {one.at}")
    with np.errstate(over="ignore"):
        values, quality = np.asarray(one.values, np.float32), float(np.float32(one.quality))
    if not values.size or not np.isfinite([*values, quality]).all():
        raise ValueError(f"expected finite numbers in the vector and the quality of {one.face}")
    return {"id": row_id(one.face), "vector": values.tolist(), "face": one.face, "track": one.track, "site": one.site,
            "camera": one.camera, "at": one.at, "masked": one.masked, "quality": quality}


@contextmanager
def _away(settings: Settings) -> Iterator[None]:
    """Away when it is Milvus that cannot; ValueError when it does not want what it was given."""
    try:
        yield
    except grpc.RpcError as error:
        raise Away(f"Milvus at {milvus.uri(settings)}: {type(error).__name__}: {str(error)[:300]}") from error
    except MilvusException as error:
        if _at_fault(error, embedded=not settings.vectors):
            raise Away(f"Milvus at {milvus.uri(settings)}: {str(error)[:300]}") from error
        raise ValueError(f"expected what Milvus takes, it says: {str(error)[:300]}") from error


def _at_fault(error: MilvusException, embedded: bool) -> bool:
    """Whether it is Milvus's trouble. pymilvus itself has 1 as code for nearly everything, 2 for no connection; the
    embedded one 1 for what it did not foresee, 6 for what it does not want."""
    said, code = str(error.message), error.code
    if isinstance(error, ConnectError | ConnectionNotExistException | MilvusUnavailableException):
        return True
    if isinstance(code, grpc.StatusCode) or error.retriable or "Retry timeout" in said or "Retry run out" in said:
        return True
    if type(error) is not MilvusException or error.is_input_error or said.startswith("Unexpected error"):
        return False
    return code in (2, GONE, RELEASED) or "[Errno " in said if embedded else code in TROUBLE


_stores: dict[tuple[str, str], Vectors] = {}
_stores_lock = threading.Lock()


def store(settings: Settings) -> Vectors:
    key = milvus.uri(settings), settings.topic_prefix
    with _stores_lock:
        if key not in _stores:
            _stores[key] = Vectors(settings)
        return _stores[key]
