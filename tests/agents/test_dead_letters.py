"""A message that nobody can take: listed, looked into, sent again, on a real broker through the real command."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import records
from kafka import KafkaProducer
from typer.testing import CliRunner

from agents import app as apps
from agents import broker, dead_letters, delivery, topology
from cli.main import app as cli
from pipeline.messages import DeadLetter, Faces, Frame, encode
from pipeline.settings import Settings


def letter(number: int, payload: bytes, **more: Any) -> DeadLetter:
    return DeadLetter(
        **{
            "id": f"frames:{number % 8}:{number}:first", "topic": "frames", "partition": number % 8, "offset": number,
            "stage": "first", "reason": "expected a Frame", "at": 1_700_000_000_000_000 + number, "key": "cam0",
            "payload": payload,
        } | more
    )  # fmt: skip


def write(settings: Settings, letters: list[DeadLetter]) -> None:
    with closing(KafkaProducer(**broker.connection(settings), max_request_size=9 << 20)) as producer:
        for one in letters:
            producer.send(settings.topic_prefix + "dead.letters", key=one.topic.encode(), value=encode(one))
        producer.flush()


def frames(settings: Settings) -> list[Any]:
    return records.read(settings, "frames")


@pytest.fixture
def maskwatch(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """maskwatch("dead-letters", …) -> its result, on this test's topics."""
    monkeypatch.setenv("MASKWATCH_KAFKA", topics.kafka)
    monkeypatch.setenv("MASKWATCH_TOPIC_PREFIX", topics.topic_prefix)
    return lambda *words: CliRunner().invoke(cli, ["dead-letters", *words])


def test_list_filters_and_show_explains(topics: Settings, maskwatch: Any, tmp_path: Path) -> None:
    good = encode(Frame("cam0", 7, jpeg=b"no picture", digest=b"1" * 2304), "msgpack")
    assert maskwatch("list").stdout == ""
    write(topics, [
        letter(1, good, reason="BadPicture: expected a JPEG"),
        letter(2, good[:-20]),
        letter(3, encode(Faces("cam0", 7, "cam0@7", "site"))[:-9], topic="faces", stage="embed", id="faces:3:3:embed"),
    ])  # fmt: skip
    lines = maskwatch("list", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["frames:1:1:first", "frames:2:2:first", "faces:3:3:embed"]
    assert "faces:3:3:embed  2023-11-14T22:13:20.000Z" in maskwatch("list", "--stage", "embed").stdout
    assert len(maskwatch("list", "--reason", "jpeg", "--json").stdout.splitlines()) == 1

    told = maskwatch("show", "frames:1:1:first", "--raw", str(tmp_path / "raw"))
    assert told.exit_code == 0
    assert '"camera": "cam0"' in told.stdout
    assert '"jpeg": "bytes, 10 bytes"' in told.stdout
    assert (tmp_path / "raw").read_bytes() == good
    told = maskwatch("show", "frames:2:2:first")
    assert "expected a Frame as msgpack" in told.stdout
    assert "00000000  de 00 " in told.stdout  # a map of msgpack
    assert maskwatch("show", "frames:9:9:first").exit_code == 1


def test_redrive_sends_the_same_bytes_once(topics: Settings, maskwatch: Any) -> None:
    payloads = [b"\x00\xffanything", b"", b"x" * 3_000_000]
    write(topics, [letter(n, payload) for n, payload in enumerate(payloads)])
    assert maskwatch("redrive").exit_code == 2
    assert maskwatch("redrive", "frames:7:7:first").exit_code == 1
    assert frames(topics) == []

    assert maskwatch("redrive", "--stage", "first").exit_code == 0
    came = {record.partition: record for record in frames(topics)}
    assert [came[n].value for n in range(3)] == payloads
    assert {record.key for record in came.values()} == {b"cam0"}
    assert all(record.headers == [(delivery.REDRIVEN, b"1")] for record in came.values())

    assert maskwatch("redrive", "--all").exit_code == 0  # all are noted as redriven: nothing is left
    assert maskwatch("redrive", "frames:1:1:first").exit_code == 1  # sent again already
    assert maskwatch("list").stdout == ""
    assert maskwatch("list", "--redriven").stdout.count("  redriven 20") == 3
    assert len(frames(topics)) == 3
    assert maskwatch("redrive", "frames:1:1:first", "--again").exit_code == 0
    assert len(frames(topics)) == 4


def test_a_letter_that_is_cut_is_not_sent(topics: Settings, maskwatch: Any) -> None:
    write(topics, [letter(1, b"beginning", reason="too large (payload cut: the first 9 of 90 bytes)"), letter(2, b"")])
    assert maskwatch("redrive", "--all").exit_code == 1
    assert frames(topics) == []


async def test_what_was_refused_goes_through_when_the_stage_is_mended(topics: Settings) -> None:
    broken = True

    def build() -> apps.App:
        app = apps.create("first", topics)

        async def turn(states: delivery.States, works: list[delivery.Work]) -> None:
            for work in works:
                if broken and work.message.at % 10 == 0:
                    raise ValueError("cannot divide by this")
                work.send("frames.unique", work.key, work.message)

        delivery.attach(app, topics, stage="first", source="frames", turn=turn)
        return app

    async def run(count: int) -> apps.App:
        app, stop = build(), asyncio.Event()
        running = asyncio.create_task(topology.run([app], signals=False, stop=stop))
        async with asyncio.timeout(60):
            while app.lines[0].counts["done"] < count and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        stop.set()
        await running
        return app

    def put() -> None:
        with closing(KafkaProducer(**broker.connection(topics))) as producer:
            for at in range(100):
                value = encode(Frame("cam0", at), "msgpack")
                producer.send(topics.topic_prefix + "frames", key=b"cam0", value=value)
            producer.flush()

    await asyncio.to_thread(put)
    app = await run(100)
    assert app.lines[0].counts["refused"] == 10
    broken = False
    letters = await asyncio.to_thread(lambda: list(dead_letters.read(topics)))
    assert len(await asyncio.to_thread(lambda: list(dead_letters.redrive(topics, letters)))) == 10
    app = await run(10)
    assert (app.lines[0].counts["done"], app.lines[0].counts["sent"]) == (10, 10)


def test_dump_shows_bytes_and_text() -> None:
    assert " ".join(dead_letters.dump(b"mask\x00\xff").split()) == "00000000 6d 61 73 6b 00 ff mask.."
    assert dead_letters.dump(b"mask\x00\xff", most=4).endswith("mask\n… 2 bytes more")
