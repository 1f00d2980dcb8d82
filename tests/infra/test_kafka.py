"""The embedded broker as an operator meets it: it starts, keeps what it acknowledged, says why it cannot start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from api import materialiser
from infra.local import jars, process
from infra.local.kafka import BrokerError, Kafka, answers
from pipeline.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    own = Kafka(tmp_path)
    yield own
    own.stop()


def read(bootstrap: str, topic: str) -> list[bytes]:
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        values: list[bytes] = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=500).values():
                values += [record.value for record in records]
        return values


def test_acknowledged_records_survive_kill_and_restart_on_another_port(broker: Kafka) -> None:
    broker.start().ready()
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_topics({"kept": {"num_partitions": 1, "replication_factor": 1}})
    sent = [str(number).encode() * 100 for number in range(500)]
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")) as producer:
        for future in [producer.send("kept", value, partition=0) for value in sent]:
            future.get(timeout=30)
        assert broker.process
        broker.process.kill()
        broker.process.wait()
    assert not answers("127.0.0.1", broker.port)

    again = Kafka(broker.home.parent)
    try:
        again.start().ready()
        assert read(again.bootstrap, "kept") == sent
        again.stop()
        again.start().ready()
        assert read(again.bootstrap, "kept") == sent
        where_the_log_parts(again, len(sent))
    finally:
        again.stop()


def where_the_log_parts(broker: Kafka, written: int) -> None:
    """The power fails before the newest records are on the disk, and others are written in their place: by the end of
    the log alone nobody could tell, by the epoch of its leader the materialiser can."""
    part = TopicPartition("kept", 0)
    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=None)) as consumer:
        consumer.assign([part])
        consumer.seek(part, written - 1)
        (last,) = consumer.poll(10_000)[part]
        assert materialiser.epoch_ends(consumer, {part: last.leader_epoch}) == {part: written}
    assert broker.process
    broker.process.kill()
    broker.process.wait()
    (segment,) = (broker.home / "log" / "kept-0").glob("*.log")
    os.truncate(segment, segment.stat().st_size // 2)
    broker.start().ready()
    left = len(read(broker.bootstrap, "kept"))
    assert 0 < left < written
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")) as producer:
        for future in [producer.send("kept", b"new", partition=0) for _ in range(written)]:
            future.get(timeout=30)
    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=None)) as consumer:
        assert consumer.end_offsets([part])[part] == left + written
        assert materialiser.epoch_ends(consumer, {part: last.leader_epoch}) == {part: left}


def test_a_taken_port_is_named_with_who_has_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port} .*pid {os.getpid()}.*MASKWATCH_KAFKA_PORT"):
            Kafka(tmp_path, port).start()
    assert not (tmp_path / "kafka" / "log").exists()


def test_a_second_broker_on_the_same_folder_is_refused(broker: Kafka) -> None:
    broker.start().ready()
    with pytest.raises(BrokerError, match=rf"already runs .*port {broker.port}.*maskwatch down"):
        Kafka(broker.home.parent).start()
    assert answers("127.0.0.1", broker.port)


def test_a_pid_file_of_a_dead_broker_does_not_stand_in_the_way(broker: Kafka) -> None:
    broker.home.mkdir(parents=True)
    broker.pid_file.write_text(f'{{"pid": {os.getpid()}, "started": 1.0, "port": 9092}}')  # the pid is ours by now
    broker.start().ready()
    found = process.recall(broker.pid_file)
    assert found
    assert broker.process
    assert found[0].pid == broker.process.pid


def test_a_full_disk_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=5 << 20))
    with pytest.raises(BrokerError, match=r"at least 1024 MB of free disk .* found 5 MB"):
        Kafka(tmp_path).start()


def test_the_broker_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from infra.local.kafka import Kafka; "
        f"k = Kafka(pathlib.Path({str(tmp_path)!r})).start(); print(k.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.is_running()
        parent.kill()
    assert process.wait_for(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, 20)


def test_a_misspelt_topic_is_not_created(settings: Settings) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, max_block_ms=1500)
    with closing(producer), pytest.raises(KafkaError):
        producer.send(settings.topic_prefix + "framse", b"x").get(timeout=3)
    with closing(KafkaAdminClient(bootstrap_servers=settings.bootstrap)) as admin:
        assert settings.topic_prefix + "framse" not in admin.list_topics()


def test_a_changed_jar_is_noticed(tmp_path: Path) -> None:
    home = jars.fetch()
    copied = Path(shutil.copytree(home, tmp_path / "jars"))
    assert jars.faults(copied) == []
    changed, missing = sorted(copied.iterdir())[:2]
    changed.write_bytes(b"X" + changed.read_bytes()[1:])
    missing.unlink()
    (copied / "evil-1.0.jar").write_bytes(b"")
    assert [fault.split(":")[0] for fault in jars.faults(copied)] == [
        f"{missing.name} is missing",
        "evil-1.0.jar is not in the lock",
        changed.name,
    ]


def test_the_lock_names_no_address() -> None:
    assert "http" not in jars.LOCK.read_text()
    assert all(len(digest) == 64 for digest in jars.locked().values())
    assert f"kafka-clients-{jars.version()}.jar" in jars.locked()


def test_every_topic_of_the_contract_is_there(topics: Settings) -> None:
    from pipeline.topics import load

    with closing(KafkaAdminClient(bootstrap_servers=topics.bootstrap)) as admin:
        there = set(admin.list_topics())
    assert {topics.topic_prefix + topic.name for topic in load()} <= there
