"""The stages as they run: workers on a real broker give what the flow in memory gives, replay gives it again, and
what is no frame ends in dead.letters while the stream goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
import records
import scenes
from kafka import KafkaProducer

from agents import broker, dead_letters
from agents import replay as replays
from agents import topics as broker_topics
from pipeline import messages, policy
from pipeline import topics as contract
from pipeline.flow import Flow
from pipeline.messages import DeadLetter, Episode, Faces, Frame, Trajectory
from pipeline.settings import Settings

WORKER = Path(__file__).parent / "worker.py"
Read = Callable[[str], list[tuple[str, bytes]]]


@contextmanager
def worker(settings: Settings, *stages: str) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {
        "MASKWATCH_KAFKA": settings.kafka, "MASKWATCH_TOPIC_PREFIX": settings.topic_prefix, "MASKWATCH_AUDIT": "0.1",
        "MASKWATCH_THREADS": "2", "MASKWATCH_DATA": str(settings.data)}
    process = subprocess.Popen([sys.executable, str(WORKER), *stages], env=env)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(40) == 0
        finally:
            process.kill()


def send(settings: Settings, frames: list[Frame], topic: str = "frames") -> None:
    with closing(KafkaProducer(**broker.connection(settings), acks="all", max_request_size=5 << 20)) as producer:
        for frame in frames:
            producer.send(settings.topic_prefix + topic, key=frame.camera.encode(),
                          value=messages.encode(frame, "msgpack"))
        producer.flush()


def everything(settings: Settings, topic: str) -> list[tuple[str, bytes]]:
    """(key, value) of every record of a topic now, partition by partition."""
    return [(record.key.decode(), record.value) for record in records.read(settings, topic)]


def wait(settings: Settings, topic: str, enough: Callable[[list], bool], seconds: float = 90) -> list:
    """Decoded records of a topic, once there are `enough`."""
    until = time.monotonic() + seconds
    kind = contract.find(topic)
    while True:
        found = [kind.decode(value) for _, value in everything(settings, topic)]
        if enough(found):
            return found
        assert time.monotonic() < until, f"{topic}: {len(found)} records after {seconds} s"
        time.sleep(0.5)


@pytest.fixture
def recorded(topics: Settings) -> tuple[Settings, list[Frame]]:
    """A stretch at two sites in the log, as capture would have written it: the faces known are in the frames."""
    settings = topics.model_copy(update={"audit": 0.1})
    start = time.time_ns() // 1000 - 60_000_000
    flow = Flow(settings, scenes.Models())
    frames: list[Frame] = []
    plain = sorted([*scenes.visit(start), *scenes.visit(start, "other")], key=lambda f: (f.at, f.camera))
    for i in range(0, len(plain), 8):
        turn = [msgspec.structs.replace(f, known=flow.known[f.camera][0], known_at=flow.known[f.camera][1])
                if f.camera in flow.known else f for f in plain[i : i + 8]]
        list(flow.turn(turn))
        frames += turn
    return settings, frames


def per_id(values: list[tuple[str, bytes]], kind: type) -> dict[str, list[bytes]]:
    """Every message of an id (a frame, a person, an episode) in its order."""
    found: dict[str, list[bytes]] = {}
    for _, value in values:
        message = messages.decode(value, kind)
        found.setdefault(getattr(message, "id", "") or message.frame, []).append(value)
    return found


def test_live_is_the_flow_and_replay_is_live(recorded: tuple[Settings, list[Frame]]) -> None:
    settings, frames = recorded
    in_memory = list(Flow(settings, scenes.Models()).run(frames))
    count = {topic: sum(r.topic == topic for r in in_memory) for topic in ("faces", "trajectories", "episodes")}
    with worker(settings):
        for i in range(0, len(frames), 40):  # ten times as fast as it happened
            send(settings, frames[i : i + 40])
            time.sleep(0.2)
        wait(settings, "episodes", lambda found: len(found) >= count["episodes"])
        wait(settings, "trajectories", lambda found: len(found) >= count["trajectories"])
        wait(settings, "faces.embedded", lambda found: len(found) >= count["faces"])

    first, last = frames[0].at, frames[-1].at + 1
    told = replays.replay(settings, scenes.Models(), run="one", begin=first, end=last)
    assert told.frames == len(frames)
    assert told.refused == []
    replays.replay(settings, scenes.Models(), run="two", begin=first, end=last)
    for topic in ("frames.unique", "faces", "faces.embedded", "trajectories", "episodes"):
        one, two = (everything(settings, f"replay.{run}.{topic}") for run in ("one", "two"))
        live = everything(settings, topic)
        # twice the same bytes, in the same order in every partition
        assert one == two, topic
        assert len(one) > 0
        if topic == "frames.unique":
            assert sorted(live) == sorted(one)
            continue
        kind = {"trajectories": Trajectory, "episodes": Episode}.get(topic, Faces)
        # and what the workers said, message for message
        assert per_id(live, kind) == per_id(one, kind), topic
        assert sorted(live) == sorted((r.key, messages.encode(r.message)) for r in in_memory if r.topic == topic)


def test_a_stretch_a_camera_and_a_name_taken(recorded: tuple[Settings, list[Frame]]) -> None:
    settings, frames = recorded
    send(settings, frames)
    begin, end = frames[0].at + 10_000_000, frames[0].at + 20_000_000
    told = replays.replay(settings, scenes.Models(), run="part", begin=begin, end=end, cameras=frozenset({"hall"}))
    seen = [messages.decode(value, Faces) for _, value in everything(settings, "replay.part.faces")]
    assert told.frames == 50
    assert {m.camera for m in seen} == {"hall"}
    assert begin <= min(m.at for m in seen) <= max(m.at for m in seen) < end
    assert [t for t in broker_topics.plan(settings).changes if "replay" in t.topic] == []
    with pytest.raises(replays.RunExists, match="part is there already"):
        replays.replay(settings, scenes.Models(), run="part", begin=begin, end=end)
    again = replays.replay(settings, scenes.Models(), run="part", begin=begin, end=end, replace=True)
    assert again.frames > told.frames
    with pytest.raises(ValueError, match="name is letters"):
        replays.replay(settings, scenes.Models(), run="../x", begin=begin, end=end)


def test_another_policy_judges_a_stretch_that_has_passed(recorded: tuple[Settings, list[Frame]]) -> None:
    settings, frames = recorded
    send(settings, frames)
    stretch = {"begin": frames[0].at, "end": frames[-1].at + 1, "cameras": frozenset({"door", "hall"})}

    def episodes(run: str, **how: object) -> list[Episode]:
        replays.replay(settings, scenes.Models(), run=run, **stretch, **how)  # type: ignore[arg-type]
        return [messages.decode(value, Episode) for _, value in everything(settings, f"replay.{run}.episodes")]

    own = episodes("own")
    assert {e.policy for e in own} == {""}
    hall = policy.load("{rules: [{name: hall, cameras: [hall], grace: 0.2}], otherwise: nothing}")
    other = episodes("other", judge=hall)
    assert {(e.policy, e.rule) for e in other} == {("unsaved", "hall")}
    assert {e.cameras[0] for e in other} == {"hall"}
    assert {e.cameras[0] for e in own} == {"door"}  # where the breach began, before it went on in the hall
    assert episodes("none", judge=policy.load("otherwise: nothing")) == []


def test_speed_paces_a_replay(recorded: tuple[Settings, list[Frame]]) -> None:
    settings, frames = recorded
    send(settings, frames)
    told = replays.replay(settings, scenes.Models(), run="slow", begin=frames[0].at, end=frames[0].at + 8_000_000,
                          cameras=frozenset({"door"}), speed=4)
    assert 7.8 / 4 <= told.took < 6


def test_what_is_no_frame_ends_in_dead_letters_and_the_stream_goes_on(topics: Settings) -> None:
    settings = topics
    start = time.time_ns() // 1000 - 60_000_000
    good = scenes.visit(start, seconds=8)
    picture = good[0].jpeg
    name = settings.topic_prefix + "frames"

    def bad(number: int, jpeg: bytes) -> bytes:
        return messages.encode(Frame("door", start + 1_000_100 + number, jpeg=jpeg, width=640, height=360), "msgpack")

    huge = bytearray(picture)  # says it is 65,000 × 65,000 pixels
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = (65000).to_bytes(2, "big") * 2
    poison = {
        "truncated message": (messages.encode(good[0], "msgpack")[:200], "dedup", "expected a Frame"),
        "other schema": (b'{"temperature": 21}', "dedup", "expected a Frame"),
        "empty record": (None, "dedup", "expected a Frame"),
        "no JPEG": (bad(1, b"GIF89a" + bytes(100)), "mask", "got 106 bytes starting with '47 49 46 38'"),
        "truncated JPEG": (bad(2, picture[:-300]), "mask", "break off"),
        "huge JPEG": (bad(3, bytes(huge)), "mask", "65000 × 65000"),
        "large noise": (bad(4, b"\0" * 3_000_000), "mask", "got 3000000 bytes"),
        "no picture": (bad(5, b""), "mask", "got 0 bytes"),
    }
    send(settings, good[:20])
    with closing(KafkaProducer(**broker.connection(settings), acks="all", max_request_size=5 << 20)) as producer:
        for value, _, _ in poison.values():
            producer.send(name, key=b"door", value=value)
        # whole frames, but not where the state of their camera is kept: as a client in another language may place them
        stray = bad(6, picture)
        away = (producer.send(name, key=b"door", value=None).get(timeout=30).partition + 1) % 8
        producer.send(name, key=b"hall", value=stray)
        producer.send(name, key=b"door", value=stray, partition=away)
        producer.flush()
    send(settings, good[20:])

    with worker(settings):
        letters = wait(settings, "dead.letters", lambda found: len(found) >= len(poison) + 3)
        wait(settings, "episodes", lambda found: any(e.status == "closed" for e in found))
    strays = {x.reason for x in letters if x.payload == stray}
    assert strays == {
        "expected the key 'door', its camera, got 'hall'",
        f"expected the key 'door' in partition {(away - 1) % 8} (murmur2, as Kafka's own client places it), "
        f"got it in {away}",
    }
    assert len(letters) == len(poison) + 3
    letters = [x for x in letters if x.payload != stray]
    letters.remove(next(x for x in letters if "empty record" in x.reason))  # the one that told the partition
    for what, (value, stage, reason) in poison.items():
        (letter,) = [x for x in letters if x.stage == stage and reason in x.reason and
                     (stage == "mask" or x.payload == (value or b""))]
        assert isinstance(letter, DeadLetter), what
        assert letter.key == "door"
        assert letter.topic == ("frames" if stage == "dedup" else "frames.unique")
        assert letter.id == f"{letter.topic}:{letter.partition}:{letter.offset}:{stage}"
        if stage == "mask":
            assert messages.decode(letter.payload, Frame, "msgpack").camera == "door"
    answered = {m.frame for _, value in everything(settings, "faces") if (m := messages.decode(value, Faces))}
    passed = [messages.decode(value, Frame, "msgpack") for _, value in everything(settings, "frames.unique")]
    assert answered == {f.id for f in passed} - {f"door@{start + 1_000_100 + n}" for n in range(6)}


def test_what_is_redriven_is_looked_at_by_itself(topics: Settings) -> None:
    """Once the fault is mended it reaches `faces`; what is still bad is refused again; no track is disturbed."""
    settings = topics
    start = time.time_ns() // 1000 - 60_000_000
    good = scenes.visit(start, seconds=6)
    # a frame that a faulty stage once refused, and one that no stage will ever take
    frame = scenes.frame("door", 1.1, [((100, 100, 160, 160), "none", 7)], start=start)
    dead = contract.find("dead.letters")
    send(settings, good)
    with worker(settings):
        before = wait(settings, "faces", lambda found: sum(m.ended for m in found) == 2)
        assert frame.id not in {m.frame for m in before}
        part = next(r.partition for r in records.read(settings, "frames.unique") if r.key == b"door")
        letters = [
            DeadLetter(f"frames.unique:{part}:{offset}:mask", "frames.unique", part, offset, "mask", "a fault",
                       frame.at, "door", payload)
            for offset, payload in enumerate((messages.encode(frame, "msgpack"), b"no frame"))
        ]
        with closing(KafkaProducer(**broker.connection(settings), acks="all")) as producer:
            for letter in letters:
                producer.send(settings.topic_prefix + dead.name, key=dead.key_of(letter), value=dead.encode(letter))
            producer.flush()
        done = list(dead_letters.redrive(settings, letters))
        assert [x.id for x in done] == [x.id for x in letters]
        found = wait(settings, "faces", lambda found: any(m.frame == frame.id for m in found))
        again = wait(settings, "dead.letters", lambda found: len(found) == 5)
    (late,) = [m for m in found if m.frame == frame.id]
    assert [(f.look, f.track) for f in late.faces] == [("none", "")]
    assert len(found) == len(before) + 1
    (refused,) = [x for x in again if x.redriven == 0 and x.id not in {x.id for x in letters}]
    assert (refused.payload, refused.stage, refused.key) == (b"no frame", "mask", "door")
