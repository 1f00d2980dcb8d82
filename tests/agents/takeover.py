"""A plain Faust app whose recovery meets the two races of agents/recovery.py for certain; a script, see test_recovery.

`takeover.py bare|corrected empty|seek host:port prefix` prints the offsets its agent has seen, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from kafka import KafkaProducer

from agents import app as apps
from agents import recovery
from pipeline.settings import Settings

MESSAGES = 200


async def main(corrected: bool, race: str, settings: Settings) -> None:
    if not corrected:
        recovery.install = lambda: None
    app = apps.create("takeover", settings)
    app.on_first_start = lambda: asyncio.sleep(0)
    app.conf.stream_wait_empty = False
    name = f"{settings.topic_prefix}takeover"
    topic = app.topic(name, key_type=bytes, value_type=bytes, partitions=1, internal=True)
    app.Table("states", partitions=1, key_type=bytes, value_type=bytes)
    seen: set[int] = set()

    @app.agent(topic)
    async def look(stream: faust.Stream) -> None:
        async for event in stream.noack().events():
            seen.add(event.message.offset)
            await asyncio.sleep(0.01)

    starting = asyncio.create_task(app.start())
    await asyncio.wait_for(starting, 60)
    consumer = app.consumer
    stream = {tp for tp in consumer.assignment() if tp.topic == name}
    assert stream

    def produce() -> None:
        producer = KafkaProducer(bootstrap_servers=settings.kafka)
        for number in range(MESSAGES):
            producer.send(name, str(number).encode(), partition=0)
        producer.close()

    if race == "empty":
        # the fetch is asked for while the partition is active, and reaches the fetching thread when no longer
        consumer.pause_partitions(stream)
        await asyncio.sleep(2.5)  # whatever fetch is under way ends
        await asyncio.to_thread(produce)
        getmany, asked = AIOKafkaConsumerThread.getmany, asyncio.Event()

        async def late(self, active, timeout):  # noqa: ASYNC109
            if not asked.is_set():
                asked.set()
                await asyncio.sleep(0.5)
            return await getmany(self, active, timeout)

        AIOKafkaConsumerThread.getmany = late
        consumer.resume_partitions(stream)
        await asked.wait()
        consumer.pause_partitions(stream)
        await asyncio.sleep(1.5)
        consumer.resume_partitions(stream)
    else:
        # recovery ends while fetched messages wait for the agent
        await asyncio.to_thread(produce)
        while len(seen) < MESSAGES // 10:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await app.tables.recovery.on_recovery_completed(app.consumer_generation_id)
    for _ in range(40):
        if len(seen) == MESSAGES:
            break
        await asyncio.sleep(0.1)
    print(json.dumps(sorted(seen)))
    await app.stop()


if __name__ == "__main__":
    mode, race, kafka, prefix = sys.argv[1:]
    asyncio.run(main(mode == "corrected", race, Settings(kafka=kafka, topic_prefix=prefix)))
