"""The topics of topics.yaml as checked values, the replay topics derived from them, and their broker settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import yaml

from pipeline.messages import MESSAGES, decode, encode

FILE = Path(__file__).resolve().parents[1] / "topics.yaml"

Format = Literal["json", "msgpack"]
Cleanup = Literal["delete", "compact"]

# The stages in the order a frame travels: a topic stands below everything its writer reads. Capture is left out of
# that rule, because it reads `faces` and `cameras` to begin with.
FLOW = ("dedup", "mask", "embed", "trajectory")
STAGES = ("capture", *FLOW, "materialiser", "api", "cli", "replay")

REPLAYED = ("frames.unique", "faces", "faces.embedded", "trajectories", "episodes")
REPLAY_RETENTION = 7 * 86400  # seconds; long enough to compare two runs, short enough to need no tidying up

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NAME = re.compile(r"[a-z][a-z0-9]*(\.[a-z][a-z0-9]*)*")
RUN = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
FIELDS = (
    "name", "message", "version", "format", "key", "partitions", "retention",
    "cleanup", "max_bytes", "writers", "readers", "about",
)  # fmt: skip


class BadTopics(ValueError):
    """topics.yaml is not what it should be; the text lists every fault, one a line."""


class Topic(msgspec.Struct, frozen=True):
    """One topic: what is in it, how it is cut and kept, and who writes and reads it."""

    name: str
    message: type[msgspec.Struct]
    version: int
    format: Format
    key: str  # the field of the message that becomes the record's key
    partitions: int
    retention: int | None  # seconds; None = for ever
    cleanup: Cleanup
    max_bytes: int  # the largest record accepted
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    about: str

    def key_of(self, message: msgspec.Struct) -> bytes:
        """The record's key: the key field as UTF-8."""
        return str(getattr(message, self.key)).encode()

    def encode(self, message: msgspec.Struct) -> bytes:
        return encode(message, self.format)

    def decode(self, payload: bytes) -> Any:
        """Raises BadMessage, saying what was expected and what came."""
        return decode(payload, self.message, self.format)


def load(path: Path | None = None) -> tuple[Topic, ...]:
    """Every topic in the order of the file. Raises BadTopics with all faults at once."""
    return _read(path) if path else _own()


@lru_cache(maxsize=1)
def _own() -> tuple[Topic, ...]:
    """Read once: this one is asked for again and again while the stream runs."""
    return _read(FILE)


def _read(file: Path) -> tuple[Topic, ...]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadTopics(f"{file.name}: expected the file at {file}, found none") from None
    except yaml.YAMLError as error:
        raise BadTopics(f"{file.name}: expected YAML, got: {error}") from None
    return parse(content, file.name)


def parse(content: Any, file: str = "topics.yaml") -> tuple[Topic, ...]:
    """The content of a topics file, checked."""
    entries = content.get("topics") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadTopics(f"{file}: expected `topics:` with a list of topics, got {_shown(content)}")
    faults: list[str] = []
    topics: list[Topic] = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            faults.append(f"topic {number} is {_shown(entry)}; expected a mapping with {', '.join(FIELDS)}")
            continue
        label = entry["name"] if isinstance(entry.get("name"), str) else f"topic {number}"
        found, topic = _topic(entry, label)
        faults += found
        if topic is not None:
            topics.append(topic)
    faults += _order(topics)
    if faults:
        raise BadTopics("\n".join(f"{file}: {fault}" for fault in faults))
    return tuple(topics)


def find(name: str) -> Topic:
    """A topic by its name without prefix; `replay.<run>.…` too."""
    for topic in load():
        if topic.name == name:
            return topic
    if name.startswith("replay."):
        run = name.split(".", 2)[1]
        for topic in replay(run):
            if topic.name == name:
                return topic
    raise KeyError(f"no topic {name!r}; there are {', '.join(topic.name for topic in load())} and replay.<run>.*")


def replay(run: str) -> tuple[Topic, ...]:
    """The topics that one replay writes, so that it never touches the live ones."""
    if not RUN.fullmatch(run):
        raise ValueError(f"a replay's name is letters a-z, digits and '-', at most 100, got {run!r}")
    return tuple(
        msgspec.structs.replace(
            topic,
            name=f"replay.{run}.{topic.name}",
            retention=REPLAY_RETENTION,
            writers=("replay",),
            readers=("cli",),
            about=f"Replay {run}. {topic.about}",
        )
        for topic in load()
        if topic.name in REPLAYED
    )


def config(topic: Topic) -> dict[str, str]:
    """The settings of the topic on a broker, as Kafka names them.

    Kafka deletes and compacts whole closed segments only: a small topic with the default segment (1 GiB, 7 days) is
    neither compacted nor emptied in time. So segments close often enough for the retention to be meant.
    """
    kept = {"cleanup.policy": topic.cleanup, "max.message.bytes": str(topic.max_bytes)}
    if topic.cleanup == "compact":
        return kept | {
            "retention.ms": "-1",
            "segment.ms": str(10 * 60 * 1000),
            "segment.bytes": str(max(4 * topic.max_bytes, 4 << 20)),
            "min.cleanable.dirty.ratio": "0.1",  # the default waits until half of the log is stale
            "max.compaction.lag.ms": str(60 * 60 * 1000),  # a stale record is gone after about an hour at the latest
            "delete.retention.ms": str(24 * 60 * 60 * 1000),  # how long a reader may be away and still see a removal
        }
    if topic.retention is None:
        return kept | {"retention.ms": "-1", "segment.ms": str(SECONDS["d"] * 1000), "segment.bytes": str(128 << 20)}
    # an eighth: a record outlives its retention by 12.5 % at most, and a partition has about nine segments
    segment = min(max(topic.retention // 8, 60), SECONDS["d"])
    return kept | {
        "retention.ms": str(topic.retention * 1000),
        "segment.ms": str(segment * 1000),
        "segment.bytes": str(128 << 20),
    }


def seconds(text: Any) -> int | None:
    """`24h` -> 86400, `forever` -> None. Raises ValueError."""
    if text == "forever":
        return None
    matched = re.fullmatch(r"([1-9][0-9]*)([smhd])", text) if isinstance(text, str) else None
    if not matched:
        raise ValueError("expected a number with s, m, h or d behind it, such as 24h, or forever")
    return int(matched[1]) * SECONDS[matched[2]]


def span(seconds: int | None) -> str:
    """86400 -> 24 h, for people."""
    if seconds is None:
        return "for ever"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0 and seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _topic(entry: dict[Any, Any], label: str) -> tuple[list[str], Topic | None]:
    faults = [f"{label} has {field!r}; expected only {', '.join(FIELDS)}" for field in entry if field not in FIELDS]
    missing = [field for field in FIELDS if field not in entry]
    if missing:
        return [*faults, f"{label} has no {', '.join(missing)}"], None

    def wants(field: str, right: bool, expected: str) -> None:
        if not right:
            faults.append(f"{label}.{field} is {_shown(entry[field])}; expected {expected}")

    name, message, key = entry["name"], entry["message"], entry["key"]
    wants("name", isinstance(name, str) and bool(NAME.fullmatch(name)), "words of a-z and 0-9 with dots between them")
    wants("name", not str(name).startswith("replay."), "another name: replay.<run>.* is derived")
    kind = MESSAGES.get(message) if isinstance(message, str) else None
    wants("message", kind is not None, f"one of {', '.join(MESSAGES)}")
    if kind is not None and key not in kind.__struct_fields__:
        faults.append(f"{label}.key is {_shown(key)}; {message} has {', '.join(kind.__struct_fields__)}")
    for field in ("version", "partitions", "max_bytes"):
        value = entry[field]
        wants(field, isinstance(value, int) and not isinstance(value, bool) and value >= 1, "a whole number from 1")
    for field, kinds in (("format", get_args(Format)), ("cleanup", get_args(Cleanup))):
        wants(field, entry[field] in kinds, f"one of {', '.join(kinds)}")
    for field in ("writers", "readers"):
        names = entry[field]
        if not isinstance(names, list) or not names:
            wants(field, False, "a list with at least one stage")
            continue
        strange = [stage for stage in names if stage not in STAGES]
        if strange:
            faults.append(f"{label}.{field} names {_shown(strange)}; the stages are {', '.join(STAGES)}")
    about = entry["about"]
    wants("about", isinstance(about, str) and about.endswith("."), "a sentence with a full stop")
    retention: int | None = None
    try:
        retention = seconds(entry["retention"])
    except ValueError as error:
        faults.append(f"{label}.retention is {_shown(entry['retention'])}; {error}")
    if entry["cleanup"] == "compact" and retention is not None:
        faults.append(f"{label}.retention is {retention} s with cleanup compact; expected forever: keys are replaced")
    if faults or kind is None:
        return faults, None
    checked = dict(entry) | {"message": kind, "retention": retention}
    return [], Topic(**checked | {field: tuple(entry[field]) for field in ("writers", "readers")})


def _order(topics: Iterable[Topic]) -> list[str]:
    """Two topics of one name, and topics that stand above what they are made from."""
    faults: list[str] = []
    row: dict[str, int] = {}
    versions: dict[str, Topic] = {}
    listed = list(topics)
    for number, topic in enumerate(listed):
        if topic.name in row:
            faults.append(f"{topic.name} is there twice; expected one entry for each name")
        row[topic.name] = number
        first = versions.setdefault(topic.message.__name__, topic)
        if first.version != topic.version:
            faults.append(
                f"{topic.name}.version is {topic.version}; "
                f"{first.name} carries {topic.message.__name__} as version {first.version}"
            )
    for topic in listed:
        for stage in topic.writers:
            below = [
                other.name
                for other in listed
                if stage in FLOW and stage in other.readers and row[other.name] > row[topic.name]
            ]
            if below:
                faults.append(f"{topic.name} stands above {', '.join(below)}; expected below, since {stage} reads it")
    return faults


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
