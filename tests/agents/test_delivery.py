"""The order of a turn on a real broker: what goes out, what is kept, what is acknowledged, and what stops a worker."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import records
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from agents import app as apps
from agents import broker, delivery, topology
from pipeline.messages import DeadLetter, Faces, Frame, decode, encode
from pipeline.settings import Settings

spec = importlib.util.spec_from_file_location("counting", Path(__file__).with_name("counting.py"))
counting: Any = importlib.util.module_from_spec(spec)
sys.modules["counting"] = counting
spec.loader.exec_module(counting)


def frames(count: int, cameras: int = 5) -> list[Frame]:
    return [Frame(f"cam{n % cameras}", 1000 + n, jpeg=b"picture") for n in range(count)]


def put(settings: Settings, records: list[Any], topic: str = "frames") -> None:
    """Frames, or (key, bytes) as they are, in order."""
    with closing(KafkaProducer(**broker.connection(settings))) as producer:
        for record in records:
            key, value = record if isinstance(record, tuple) else (record.camera, encode(record, "msgpack"))
            producer.send(settings.topic_prefix + topic, key=key.encode(), value=value)
        producer.flush()


def faces(settings: Settings) -> list[Faces]:
    return [decode(record.value, Faces) for record in records.read(settings, "faces")]


def letters(settings: Settings) -> list[DeadLetter]:
    return [decode(record.value, DeadLetter) for record in records.read(settings, "dead.letters")]


async def work(apps_: list[apps.App], until: Callable[[], bool], seconds: float = 60.0) -> None:
    """Run them until it is true; raises what stops them."""
    stop = asyncio.Event()
    running = asyncio.create_task(topology.run(apps_, signals=False, stop=stop))
    try:
        async with asyncio.timeout(seconds):
            while not until() and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
    finally:
        stop.set()
        await running


def done(app: apps.App, count: int) -> Callable[[], bool]:
    return lambda: app.lines[0].counts["done"] >= count


def committed(settings: Settings, stage: str, topic: str) -> int:
    """Messages acknowledged, over all partitions."""
    with closing(KafkaAdminClient(**broker.connection(settings))) as admin:
        group = broker.group(settings, stage)
        offsets = admin.list_group_offsets([group])[group]
        return sum(max(0, at.offset) for part, at in offsets.items() if part.topic == settings.topic_prefix + topic)


async def test_every_frame_is_counted_once_and_in_order(topics: Settings) -> None:
    sent = frames(1000)
    put(topics, sent)
    one, two = counting.first(topics), counting.second(topics)
    await work([one, two], done(two, 1000))
    came = faces(topics)
    assert {face.frame: face for face in came} == counting.expected(sent)
    assert len(came) == 1000
    assert committed(topics, "first", "frames") == 1000
    assert committed(topics, "second", "frames.unique") == 1000
    assert one.lines[0].counts["turns"] < 500  # batches


async def test_a_worker_goes_on_where_the_last_one_was(topics: Settings) -> None:
    sent = frames(600)
    put(topics, sent[:300])
    app = counting.first(topics)
    await work([app], done(app, 300))
    put(topics, sent[300:])
    app = counting.first(topics)
    await work([app], done(app, 300))
    assert app.lines[0].counts["taken"] == 300
    second = counting.second(topics)
    await work([second], done(second, 600))
    assert {face.frame: face for face in faces(topics)} == counting.expected(sent)


async def test_what_the_state_has_seen_is_not_done_again(topics: Settings) -> None:
    """The worker died after it wrote the state and before the input was committed."""
    sent = frames(200)
    put(topics, sent)
    app = counting.first(topics)
    await work([app], done(app, 200))
    with closing(KafkaAdminClient(**broker.connection(topics))) as admin:
        admin.delete_groups([broker.group(topics, "first")])
    app = counting.first(topics)
    await work([app], done(app, 200))
    assert app.lines[0].counts == app.lines[0].counts | {"seen": 200, "sent": 0}


async def test_bad_messages_go_to_dead_letters_and_the_others_through(topics: Settings) -> None:
    sent = frames(100)
    good = encode(sent[0], "msgpack")
    bad = [("cam0", good[: len(good) // 2]), ("cam1", b"\xc1 no msgpack"), ("cam2", b""), ("cam3", b"\x93\x01\x02\x03")]
    hour = time.time_ns() // 1000 + 3_600_000_000  # if it counted, nothing of its camera would for an hour
    bad += [("cam9", encode(Frame("cam9", hour), "msgpack")), ("cam8", encode(Frame("cam8", 1 << 60), "msgpack"))]
    ended = Frame("cam4", 2_000_000, ended=True)  # which the first stage takes offence at
    put(topics, [*sent[:50], *bad, ended, *sent[50:]])
    app, second = counting.first(topics), counting.second(topics)
    await work([app, second], lambda: done(app, 107)() and done(second, 100)())
    assert {face.frame: face for face in faces(topics)} == counting.expected(sent)
    found = letters(topics)
    assert {letter.payload for letter in found} == {value for _, value in bad} | {encode(ended, "msgpack")}
    by_key = {letter.key: letter for letter in found}
    assert by_key["cam4"].reason == "ValueError: this stage takes no ended frame"
    assert by_key["cam1"].reason.startswith("expected a Frame as msgpack, got 12 bytes")
    assert by_key["cam9"].reason.startswith("expected `at` to be at most 300 s after the record's own time, got 3")
    assert by_key["cam8"].reason.startswith("expected a Frame with times of 0 to 9007199254740992 µs UTC, got at 115")
    for letter in found:
        assert letter.id == f"frames:{letter.partition}:{letter.offset}:first"
    assert committed(topics, "first", "frames") == 107


async def test_an_output_that_its_topic_refuses_is_a_dead_letter(topics: Settings) -> None:
    app = apps.create("first", topics)

    async def turn(states: delivery.States, works: list[delivery.Work]) -> None:
        for one in works:
            jpeg = b"x" * (5 << 20 if one.message.at == 1003 else 10)
            one.send("frames.unique", one.key, msgspec.structs.replace(one.message, jpeg=jpeg))

    delivery.attach(app, topics, stage="first", source="frames", turn=turn)
    put(topics, frames(10))
    await work([app], done(app, 10))
    (letter,) = letters(topics)
    assert letter.reason.startswith("TooLarge: expected a frames.unique of at most 4194304 bytes, got 5243")
    assert len(records.read(topics, "frames.unique")) == 9


async def test_a_stage_that_refuses_everything_stops_instead(topics: Settings) -> None:
    app = apps.create("first", topics)

    async def turn(states: delivery.States, works: list[delivery.Work]) -> None:
        raise KeyError("a column that was renamed")

    delivery.attach(app, topics, stage="first", source="frames", turn=turn)
    put(topics, frames(100))
    with pytest.raises(delivery.StageAtFault, match="first refused 32 messages in a row"):
        await work([app], lambda: False)
    assert len(letters(topics)) < delivery.REFUSED
    assert committed(topics, "first", "frames") == len(letters(topics))


async def test_a_fault_of_the_machine_is_nobodys_dead_letter(topics: Settings) -> None:
    app = apps.create("first", topics)

    async def turn(states: delivery.States, works: list[delivery.Work]) -> None:
        raise OSError(28, "No space left on device")

    delivery.attach(app, topics, stage="first", source="frames", turn=turn)
    put(topics, frames(3))
    with pytest.raises(OSError, match="No space left"):
        await work([app], lambda: False)
    assert letters(topics) == []


async def test_works_a_stage_holds_are_not_acknowledged_nor_those_after_them(topics: Settings) -> None:
    app = apps.create("first", topics)
    held: list[delivery.Work] = []

    async def turn(states: delivery.States, works: list[delivery.Work]) -> list[delivery.Work]:
        held.extend(one for one in works if one.message.at in (1040, 1041))
        let_go = [one for one in held if one.message.at == 1040] if any(w.message.at == 1099 for w in works) else []
        return [one for one in works if one not in held] + let_go

    delivery.attach(app, topics, stage="first", source="frames", turn=turn, batch=10)
    put(topics, frames(100, cameras=1))
    await work([app], done(app, 99))
    assert committed(topics, "first", "frames") == 41


async def test_a_jump_in_the_offsets_stops_the_worker(topics: Settings) -> None:
    app = counting.first(topics)
    line, accept = app.lines[0], app.lines[0]._accept

    async def forgetful(event: Any) -> Any:
        return None if event.message.offset == 20 else await accept(event)

    line._accept = forgetful
    put(topics, frames(100, cameras=1))
    with pytest.raises(delivery.LostMessages, match="expected offset 20, got 21, and offset 20 is in the log"):
        await work([app], lambda: False)
    assert committed(topics, "first", "frames") <= 20


async def test_a_first_message_beyond_the_committed_one_stops_the_worker(topics: Settings) -> None:
    app = counting.first(topics)
    line, accept = app.lines[0], app.lines[0]._accept

    async def forgetful(event: Any) -> Any:
        return None if event.message.offset < 5 else await accept(event)

    line._accept = forgetful
    put(topics, frames(100, cameras=1))
    with pytest.raises(delivery.LostMessages, match="expected offset 0, got 5"):
        await work([app], lambda: False)


async def test_marks_of_transactions_are_no_jump(topics: Settings) -> None:
    app = counting.first(topics)
    sent = frames(5, cameras=1)
    with closing(KafkaProducer(**broker.connection(topics), transactional_id=topics.topic_prefix + "t")) as producer:
        producer.init_transactions()
        for frame in sent:
            producer.begin_transaction()
            producer.send(topics.topic_prefix + "frames", key=b"cam0", value=encode(frame, "msgpack"))
            producer.commit_transaction()
    await work([app], done(app, 5))
    assert [record.offset for record in records.read(topics, "frames")] == [0, 2, 4, 6, 8]
    assert app.lines[0].counts["done"] == 5


async def test_what_retention_took_is_told_and_the_rest_is_done(topics: Settings, caplog: Any) -> None:
    put(topics, frames(50, cameras=1))
    app = counting.first(topics)
    await work([app], done(app, 50))
    put(topics, frames(100, cameras=1)[50:])
    (part,) = {record.partition for record in records.read(topics, "frames")}
    with closing(KafkaAdminClient(**broker.connection(topics))) as admin:
        admin.delete_records({TopicPartition(topics.topic_prefix + "frames", part): 70})
    app, told = counting.first(topics), []
    delivery.log, before = _Ear(told), delivery.log
    try:
        await work([app], done(app, 30))
    finally:
        delivery.log = before
    assert [(event, facts["count"], facts["first"], facts["last"]) for event, facts in told] == [
        ("messages lost to retention", 20, 50, 69)
    ]


async def test_a_topic_that_was_made_anew_stops_the_worker_and_names_the_mend(topics: Settings) -> None:
    put(topics, frames(50, cameras=1))
    app = counting.first(topics)
    await work([app], done(app, 50))
    from agents.topics import apply

    with closing(KafkaAdminClient(**broker.connection(topics))) as admin:
        admin.delete_topics([topics.topic_prefix + "frames"])
        while topics.topic_prefix + "frames" in admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    apply(topics)
    put(topics, frames(10, cameras=1))
    with pytest.raises(delivery.OtherTopic, match=r"was deleted and made again\. Stop every worker of first, delete"):
        await work([counting.first(topics)], lambda: False)


async def test_a_late_write_of_a_stalled_worker_does_not_count(topics: Settings) -> None:
    sent = frames(60, cameras=1)
    put(topics, sent[:30])
    app = counting.first(topics)
    await work([app], done(app, 30))
    changelog = apps.changelog(topics, "first").removeprefix(topics.topic_prefix)
    old = encode(counting.Count(version=3, at=1003, seen=4, sum="old"), "msgpack")
    (part,) = {record.partition for record in records.read(topics, changelog)}
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        producer.send(topics.topic_prefix + changelog, key=b"cam0", value=old, partition=part).get(timeout=10)
    put(topics, [("cam1", b"bad"), *sent[30:]])
    app, second = counting.first(topics), counting.second(topics)
    await work([app, second], lambda: done(app, 31)() and done(second, 60)())
    assert {face.frame: face for face in faces(topics)} == counting.expected(sent)


async def test_the_newer_state_is_written_again_after_a_late_write(topics: Settings) -> None:
    """Or compaction would keep the late one alone."""
    put(topics, frames(30, cameras=1))
    app = counting.first(topics)
    await work([app], done(app, 30))
    changelog = apps.changelog(topics, "first").removeprefix(topics.topic_prefix)
    before = records.read(topics, changelog)
    old = encode(counting.Count(version=3, at=1003, seen=4, sum="old"), "msgpack")
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        name = topics.topic_prefix + changelog
        producer.send(name, key=b"cam0", value=old, partition=before[-1].partition).get(timeout=10)
    put(topics, [("cam0", b"bad")])
    app = counting.first(topics)
    await work([app], done(app, 1))
    assert records.read(topics, changelog)[-1].value == before[-1].value


async def test_a_state_that_cannot_be_read_stops_the_worker(topics: Settings) -> None:
    put(topics, frames(10, cameras=1))
    app = counting.first(topics)
    await work([app], done(app, 10))
    changelog = apps.changelog(topics, "first").removeprefix(topics.topic_prefix)
    (part,) = {record.partition for record in records.read(topics, changelog)}
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        name = topics.topic_prefix + changelog
        producer.send(name, key=b"cam0", value=b"damaged", partition=part).get(timeout=10)
    with pytest.raises(delivery.BadState, match=r"offset \d+: the state cannot be read: expected a Count as msgpack"):
        await work([counting.first(topics)], lambda: False)


async def test_missing_topics_are_told_at_the_start(settings: Settings) -> None:
    with pytest.raises(apps.MissingTopics, match=r"frames is not there.*maskwatch topics apply"):
        await work([counting.first(settings)], lambda: False)


async def test_what_is_made_of_a_redriven_message_is_marked_too(topics: Settings) -> None:
    (frame,) = frames(1)
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        producer.send(
            topics.topic_prefix + "frames", key=b"cam0", value=encode(frame, "msgpack"),
            headers=[(delivery.REDRIVEN, b"1")],
        ).get(timeout=10)  # fmt: skip
    app = counting.first(topics)
    await work([app], done(app, 1))
    (record,) = records.read(topics, "frames.unique")
    assert record.headers == ((delivery.REDRIVEN, b"1"),) or record.headers == [(delivery.REDRIVEN, b"1")]


class _Ear:
    """Hears what is logged as an error."""

    def __init__(self, told: list[tuple[str, dict[str, Any]]]) -> None:
        self.told = told

    def error(self, event: str, **facts: Any) -> None:
        self.told.append((event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        return

    info = warning


