"""The whole system as `maskwatch up` starts it, for a measurement: broker, workers with stopwatches, page, consumer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from agents import broker, topics
from infra.local import process
from infra.local.kafka import Kafka
from pipeline.messages import Camera
from pipeline.settings import Settings
from pipeline.topics import find

READY = 120.0  # seconds until the first results


class Fell(RuntimeError):
    """A process of the system ended while it was measured."""


@dataclass
class Told:
    """A line of bench.worker."""

    at: float
    cpu: float
    steps: dict[str, tuple[int, float]]


class Worker:
    def __init__(self, system: System, number: int, stages: tuple[str, ...], core: int | None) -> None:
        self.name = f"worker-{number}"
        self.file = system.folder / f"{self.name}.jsonl"
        env = system.env | ({"BENCH_CORE": str(core), "MASKWATCH_THREADS": "1"} if core is not None else {})
        self.process = system.spawn(self.name, [sys.executable, "-m", "bench.worker", str(self.file), *stages], env)

    def told(self) -> list[Told]:
        if not self.file.exists():
            return []
        lines = self.file.read_text().splitlines()
        return [Told(**json.loads(line)) for line in lines if line.endswith("}")]


class System:
    """One broker; prefixes of its own for each run on it."""

    def __init__(self, data: Path, folder: Path, kafka: Kafka) -> None:
        self.data, self.folder, self.kafka = data, folder, kafka
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.fresh()

    def fresh(self) -> None:
        """New, empty topics."""
        prefix = f"b{uuid.uuid4().hex[:6]}."
        self.settings = Settings(kafka=self.kafka.bootstrap, data=self.data, topic_prefix=prefix, log="warning")
        self.env = os.environ | {
            "MASKWATCH_KAFKA": self.settings.kafka, "MASKWATCH_DATA": str(self.data), "MASKWATCH_LOG": "warning",
            "MASKWATCH_TOPIC_PREFIX": prefix, "MASKWATCH_PORT": str(process.free_port()),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }  # fmt: skip
        topics.apply(self.settings)

    def clear(self) -> None:
        """Remove the topics of this prefix."""
        with topics.admin(self.settings) as client:
            left = [name for name in client.list_topics() if name.startswith(self.settings.topic_prefix)]
            if left:
                client.delete_topics(left)

    def spawn(self, name: str, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as out:
            self.children[name] = process.spawn(command, out, env=env)
        return self.children[name]

    def worker(self, number: int, *stages: str, core: int | None = None) -> Worker:
        return Worker(self, number, stages, core)

    def page(self) -> subprocess.Popen[bytes]:
        return self.spawn("page", [sys.executable, "-m", "cli.main", "api"], self.env)

    def alive(self) -> None:
        for name, child in self.children.items():
            if child.poll() is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise Fell(f"{name} ended with {child.returncode}: {said}")

    def stop(self) -> None:
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            process.stop(child, 40)
        self.children.clear()
        for file in self.folder.glob("worker-*.jsonl"):
            file.unlink()

    def cameras(self, cameras: list[Camera]) -> None:
        wishes = find("cameras")
        with closing(KafkaProducer(**broker.connection(self.settings), acks="all")) as producer:
            name = broker.topic(self.settings, "cameras")
            for camera in cameras:
                producer.send(name, wishes.encode(camera), wishes.key_of(camera))
            producer.flush()


@contextmanager
def started(data: Path) -> Iterator[System]:
    """A system of its own in a temporary folder; nothing of it is left."""
    with TemporaryDirectory(prefix="bench-") as temporary, ExitStack() as stack:
        kafka = Kafka(Path(temporary))
        stack.callback(kafka.stop)
        kafka.start()
        kafka.ready()
        system = System(data, Path(temporary), kafka)
        stack.callback(system.stop)
        yield system


def cpu(child: subprocess.Popen[bytes] | None) -> float:
    """Processor seconds of a process so far."""
    if child is None:
        return 0.0
    times = psutil.Process(child.pid).cpu_times()
    return times.user + times.system


@dataclass(frozen=True)
class Got:
    """A record as a plain consumer got it."""

    topic: str
    at: float  # unix time of its arrival, seconds
    written: float  # unix time the writer put on it, seconds
    value: Any  # decoded JSON


class Consumer(threading.Thread):
    """Reads topics as any program would: kafka-python, JSON, no code of ours."""

    def __init__(self, settings: Settings, *names: str, keep: bool = True) -> None:
        super().__init__(daemon=True)
        self.settings, self.names, self.keep = settings, names, keep
        self.got: list[Got] = []
        self.error: Exception | None = None
        self._over, self._reading = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.error = error
            self._reading.set()

    def _run(self) -> None:
        consumer = KafkaConsumer(
            **broker.connection(self.settings), auto_offset_reset="earliest", max_partition_fetch_bytes=5 << 20,
            fetch_max_wait_ms=50,
        )  # fmt: skip
        with closing(consumer):
            own = [broker.topic(self.settings, name) for name in self.names]
            places = [TopicPartition(name, part) for name in own for part in consumer.partitions_for_topic(name)]
            consumer.assign(places)
            cut = len(self.settings.topic_prefix)
            self._reading.set()
            while not self._over.is_set():
                for batch in consumer.poll(timeout_ms=50).values():
                    now = time.time()
                    for record in batch:
                        value = json.loads(record.value) if self.keep else None
                        self.got.append(Got(record.topic[cut:], now, record.timestamp / 1000, value))

    def begin(self) -> Consumer:
        self.start()
        self._reading.wait(30)
        return self

    def finish(self) -> list[Got]:
        self._over.set()
        self.join(15)
        if self.error is not None:
            raise self.error
        return self.got


def wait(system: System, seconds: float, what: str, true: Any) -> None:
    end = time.monotonic() + seconds
    while not true():
        system.alive()
        if time.monotonic() > end:
            raise TimeoutError(f"expected {what} within {seconds:.0f} s")
        time.sleep(0.2)
