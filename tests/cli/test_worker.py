"""`maskwatch worker` as an operator meets it: how it refuses to start, how it stops, how it ends for a fault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from agents import app as apps
from agents import broker
from pipeline.messages import Frame, encode
from pipeline.settings import Settings

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def worker(settings: Settings) -> Start:
    """worker("dedup") -> the process of `maskwatch worker dedup`."""
    running: list[subprocess.Popen[str]] = []

    def start(*stages: str, **more: str) -> subprocess.Popen[str]:
        env = os.environ | {
            "MASKWATCH_KAFKA": settings.kafka, "MASKWATCH_TOPIC_PREFIX": settings.topic_prefix,
            "MASKWATCH_DATA": str(settings.data), **more,
        }  # fmt: skip
        command = [sys.executable, "-m", "cli.main", "worker", *stages]
        running.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def ended(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    _, told = process.communicate(timeout=seconds)
    return process.returncode, told


def put(settings: Settings, count: int) -> None:
    with closing(KafkaProducer(**broker.connection(settings))) as producer:
        for at in range(1, count + 1):
            value = encode(Frame("cam0", at), "msgpack")
            producer.send(settings.topic_prefix + "frames", key=b"cam0", value=value)
        producer.flush()


def done(settings: Settings, stage: str) -> int:
    with closing(KafkaAdminClient(**broker.connection(settings))) as admin:
        group = broker.group(settings, stage)
        try:
            return sum(max(0, at.offset) for at in admin.list_group_offsets([group])[group].values())
        except KafkaError:  # a new broker has no coordinator before its first group has formed
            return 0


def test_it_says_why_it_does_not_start(settings: Settings, worker: Start) -> None:
    unknown, lacking = worker("dedup", "nose"), worker("dedup")
    code, told = ended(unknown)
    assert code == 2
    assert "no stage nose; there are capture, dedup, mask, embed, trajectory" in told
    code, told = ended(lacking)
    assert code == 2
    assert f"{settings.topic_prefix}frames" in told
    assert "maskwatch topics apply" in told


def test_sigterm_ends_the_turn_and_commits(topics: Settings, worker: Start) -> None:
    put(topics, 100)
    process = worker("dedup")
    until = time.monotonic() + 60
    while done(topics, "dedup") < 100:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.2)
    put(topics, 20)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    code, told = ended(process)
    assert code == 0, told
    assert 100 <= done(topics, "dedup") <= 120
    with closing(KafkaAdminClient(**broker.connection(topics))) as admin:
        group = admin.describe_groups([broker.group(topics, "dedup")])
        assert "'members': []" in str(group)  # it has left, so that nobody waits for its session to end


def test_models_that_are_not_there_are_told_at_the_start(topics: Settings, worker: Start) -> None:
    code, told = ended(worker("embed", MASKWATCH_DATA="/dev/null/nowhere"))
    assert code == 2
    assert "cannot start" in told


def test_a_fault_ends_it_with_the_reason(topics: Settings, worker: Start) -> None:
    put(topics, 10)
    process = worker("dedup")
    until = time.monotonic() + 60
    while done(topics, "dedup") < 10:
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    with closing(KafkaProducer(**broker.connection(topics))) as producer:
        producer.send(apps.changelog(topics, "dedup"), key=b"cam0", value=b"damaged", partition=0).get(timeout=10)
    code, told = ended(worker("dedup"))
    assert code == 1
    assert "the state cannot be read" in told
    assert "BadState" in told
