"""What waits for a stage and who works on it, as the broker tells it of a real worker."""

from __future__ import annotations

import asyncio
from contextlib import closing

from kafka import KafkaAdminClient, KafkaProducer

from agents import broker, dedup, topology
from agents.lag import Group, Look, measure
from pipeline.messages import Frame, encode
from pipeline.settings import Settings


async def test_a_worker_is_named_with_what_it_holds_and_what_it_left(topics: Settings) -> None:
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        for at in range(1, 8):
            producer.send(broker.topic(topics, "frames"), key=b"gate", value=encode(
                Frame("gate", at, ended=True), "msgpack"))
        producer.flush()

    def look() -> Look:
        with closing(KafkaAdminClient(**broker.connection(topics))) as client:
            return measure(topics, client)

    def group(found: Look) -> Group | None:
        return next((group for group in found.groups if group.stage == "dedup"), None)

    before = await asyncio.to_thread(look)
    assert (before.groups, before.lags) == ((), ())
    assert sum(end for part, end in before.ends.items() if part.topic.endswith("frames")) == 7
    stop = asyncio.Event()
    running = asyncio.create_task(topology.run([dedup.build(topics)], signals=False, stop=stop))
    try:
        async with asyncio.timeout(60):
            while True:
                found = group(await asyncio.to_thread(look))
                if found and found.members and found.members[0].partitions and not found.waiting["frames"]:
                    break
                assert not running.done()
                await asyncio.sleep(0.2)
    finally:
        stop.set()
        await running
    (member,) = found.members
    assert member.worker == broker.worker()
    assert member.partitions == {"frames": tuple(range(8))}
    assert list(found.waiting) == ["frames"]
