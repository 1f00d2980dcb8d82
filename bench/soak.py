"""Kill test: workers under steady load are killed, stalled, and lose their broker; then every frame is accounted for.

`make soak` runs 50 events with the production settings and prints a table; `python -m bench.soak --events N` another
number. tests/agents/test_kill.py runs a few events of each kind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from agents import broker, topics
from infra.local import process
from infra.local.kafka import Kafka
from pipeline.messages import Frame, encode
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
EVENTS = ("kill", "stall", "broker")


@dataclass(frozen=True)
class Record:
    """One record of a watched topic, and when it was seen."""

    topic: str  # without prefix
    partition: int
    offset: int
    key: str
    value: bytes
    seen: float  # monotonic, seconds


@dataclass
class Verdict:
    """What became of the frames."""

    frames: int = 0
    lost: int = 0  # frames that no output and no dead letter accounts for
    doubled: int = 0  # outputs that came again with the same content: an idempotent consumer does not see them
    wrong: int = 0  # outputs that differ from those of an undisturbed run
    unaccounted: int = 0  # frames that are neither in the last ledger of their camera nor a dead letter
    different: int = 0  # ids for which a consumer that keeps the newest message holds something else
    topics: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)  # wanted, lost, wrong, doubled
    silence: float = 0.0  # seconds in which nothing at all came out
    camera_silence: float = 0.0  # seconds in which nothing came out for one camera
    deaths: int = 0  # workers that ended although nobody killed them
    events: dict[str, int] = field(default_factory=dict)
    # event -> the longest silence in it: of everything, and of one camera; for a broker, since it answered again
    silences: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    camera_silences: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def exact(self) -> bool:
        return not (self.lost or self.wrong or self.deaths or self.unaccounted or self.different)

    def __str__(self) -> str:
        rows = [
            ("frames", self.frames), ("events", ", ".join(f"{n} × {kind}" for kind, n in self.events.items())),
            ("lost", self.lost), ("wrong", self.wrong), ("doubled, same content", self.doubled),
            ("frames not accounted for", self.unaccounted), ("ids that differ in the end", self.different),
            ("workers that died unasked", self.deaths), ("longest silence", f"{self.silence:.1f} s"),
            ("longest silence of a camera", f"{self.camera_silence:.1f} s"),
        ]  # fmt: skip
        for topic, (wanted, lost, wrong, doubled) in self.topics.items():
            rows.append((topic, f"{wanted} wanted, {lost} lost, {wrong} wrong, {doubled} doubled"))
        for name, table in (("silence", self.silences), ("a camera's silence", self.camera_silences)):
            for kind, values in table.items():
                rows.append((f"{name} after {kind}", f"{min(values):.1f} – {max(values):.1f} s"))
        return "\n".join(f"{name:<30} {value}" for name, value in rows)


class Feeder(threading.Thread):
    """Writes frames at a steady rate, as capture would, and remembers them."""

    def __init__(self, settings: Settings, trial: Trial) -> None:
        super().__init__(daemon=True)
        self.settings, self.frames, self.rate, self.ending = settings, trial.frames, trial.rate, trial.ending
        self.sent: list[Frame] = []
        self.error: Exception | None = None
        self._stop_asked = threading.Event()

    def run(self) -> None:
        producer = KafkaProducer(
            **broker.connection(self.settings), acks="all", linger_ms=2, max_request_size=5 << 20,
            delivery_timeout_ms=120_000,
        )  # fmt: skip
        waiting: list[Any] = []
        name = broker.topic(self.settings, "frames")

        def send(frame: Frame) -> None:
            waiting.append(producer.send(name, key=frame.camera.encode(), value=encode(frame, "msgpack")))
            self.sent.append(frame)

        start = time.monotonic()
        try:
            for number, frame in enumerate(self.frames):
                delay = start + number / self.rate - time.monotonic()
                if delay > 0:
                    time.sleep(delay)
                if self._stop_asked.is_set():
                    break
                send(frame)
            for frame in self.ending(self.sent):
                send(frame)
            for future in waiting:
                future.get(timeout=120)
        except Exception as error:
            self.error = error
        finally:
            producer.close()

    def finish(self) -> list[Frame]:
        self._stop_asked.set()
        self.join(150)
        if self.error is not None:
            raise self.error
        return self.sent


class Watcher(threading.Thread):
    """Reads the output topics from their beginning, like any consumer of the results."""

    def __init__(self, settings: Settings, names: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.settings, self.names = settings, names
        self.records: list[Record] = []
        self._stop_asked = threading.Event()

    def run(self) -> None:
        consumer = KafkaConsumer(
            **broker.connection(self.settings), auto_offset_reset="earliest", max_partition_fetch_bytes=5 << 20
        )
        own = [broker.topic(self.settings, name) for name in self.names]
        consumer.assign([TopicPartition(name, part) for name in own for part in consumer.partitions_for_topic(name)])
        cut = len(self.settings.topic_prefix)
        while not self._stop_asked.is_set():
            try:
                for batch in consumer.poll(timeout_ms=200).values():
                    for record in batch:
                        key, now = (record.key or b"").decode(), time.monotonic()
                        self.records.append(
                            Record(record.topic[cut:], record.partition, record.offset, key, record.value, now)
                        )
            except Exception as error:
                print(f"watcher: {error!r}", file=sys.stderr)
                time.sleep(0.2)
        consumer.close()

    def finish(self) -> list[Record]:
        self._stop_asked.set()
        self.join(30)
        return self.records


class Worker:
    """One worker process that can be killed, stalled and started again."""

    def __init__(self, trial: Trial, settings: Settings, folder: Path, name: str) -> None:
        self.command, self.name = trial.command, name
        self.env = os.environ | trial.env | {
            "MASKWATCH_KAFKA": settings.kafka,
            "MASKWATCH_TOPIC_PREFIX": settings.topic_prefix,
            "MASKWATCH_DATA": str(settings.data),
            "MASKWATCH_SESSION": str(settings.session),
            "MASKWATCH_HEARTBEAT": str(settings.heartbeat),
            "MASKWATCH_REBALANCE": str(settings.rebalance),
            "MASKWATCH_BATCH": str(settings.batch),
            "MASKWATCH_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.log = folder / f"{name}.log"
        self.deaths = 0
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = process.spawn(self.command, out, env=self.env)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stall(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def alive(self) -> bool:
        """Also starts it again when it ended by itself, and counts that."""
        if self.process.poll() is None:
            return True
        self.deaths += 1
        print(f"{self.name} ended by itself with {self.process.returncode}: {self.complaint()}", file=sys.stderr)
        self.start()
        return False

    def complaint(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def stop(self) -> int:
        process.stop(self.process, 40)
        return self.process.returncode


@dataclass
class Trial:
    """Who works, what goes in, what is watched and how it is judged."""

    command: list[str]
    frames: Iterator[Frame]
    watched: tuple[str, ...]
    judge: Callable[[list[Frame], list[Record], Verdict], None]
    done: Callable[[list[Frame], list[Record]], bool]  # every frame that was sent is accounted for
    ending: Callable[[list[Frame]], list[Frame]] = lambda sent: []  # what is sent when the load ends
    camera: Callable[[Record], str] = lambda record: record.key
    env: dict[str, str] = field(default_factory=dict)  # settings of the workers
    rate: float = 150.0
    workers: int = 2


def run(
    trial: Trial,
    settings: Settings,
    embedded: Kafka,
    events: list[str],
    folder: Path,
    *,
    seed: int = 1,
    say: Callable[[str], None] = print,
    down: tuple[float, ...] = (3.0, 8.0),
) -> Verdict:
    """`events` of EVENTS, one after another, each begun when the one before is over."""
    chance = random.Random(seed)
    verdict = Verdict()
    topics.apply(settings)
    workers = [Worker(trial, settings, folder, f"worker-{n}") for n in range(trial.workers)]
    watcher, feeder = Watcher(settings, trial.watched), Feeder(settings, trial)
    try:
        watcher.start()
        feeder.start()
        _until(lambda: len(watcher.records) > 20, 90, "the first outputs", workers)
        time.sleep(3)
        began = time.monotonic()
        for number, event in enumerate(events):
            mark, worker = time.monotonic(), chance.choice(workers)
            if event == "kill":
                worker.kill()
                time.sleep(chance.uniform(0.5, 2.0))
                worker.start()
            elif event == "stall":
                worker.stall()
                time.sleep(settings.session + settings.rebalance / 2 + 4)
                worker.go_on()
            else:
                pause = chance.choice(down)
                embedded.stop()
                time.sleep(pause)
                embedded.start()
                embedded.ready()
                away, mark = time.monotonic() - mark, time.monotonic()
            before = feeder.sent[:]
            _until(lambda before=before: trial.done(before, watcher.records), 120, f"the end of {event}", workers)
            time.sleep(chance.uniform(2.0, 5.0))
            since = [record for record in watcher.records if record.seen >= mark]
            silence = _silence([record.seen for record in since], mark, time.monotonic())
            camera = _of_cameras(trial, since, mark, time.monotonic())
            verdict.silences[event].append(silence)
            verdict.camera_silences[event].append(camera)
            verdict.events[event] = verdict.events.get(event, 0) + 1
            told = f"silence {silence:5.1f} s, of a camera {camera:5.1f} s, {len(before)} frames so far"
            if event == "broker":
                told += f"; it was away for {away:.1f} s"
            say(f"{number + 1:>3}/{len(events)} {event:<7} {told}")
        over = time.monotonic()
        sent_frames = feeder.finish()
        _until(lambda: trial.done(sent_frames, watcher.records), 120, "the last outputs", workers)
        time.sleep(2)
        codes = [worker.stop() for worker in workers]
        records = watcher.finish()
        verdict.frames = len(sent_frames)
        verdict.deaths = sum(worker.deaths for worker in workers) + sum(code != 0 for code in codes)
        verdict.silence = _silence([record.seen for record in records], began, over)
        verdict.camera_silence = _of_cameras(trial, records, began, over)
        trial.judge(sent_frames, records, verdict)
        return verdict
    finally:
        feeder._stop_asked.set()
        watcher._stop_asked.set()
        for worker in workers:
            worker.stop()


def _of_cameras(trial: Trial, records: list[Record], began: float, over: float) -> float:
    """The longest silence of one camera."""
    by_camera = defaultdict(list)
    for record in records:
        by_camera[trial.camera(record)].append(record.seen)
    by_camera.pop("", None)  # topics that are silent by nature
    return max((_silence(times, began, over) for times in by_camera.values()), default=over - began)


def _silence(times: list[float], began: float, over: float) -> float:
    inside = sorted(time for time in times if began <= time <= over)
    points = [began, *inside, over]
    return max(after - before for before, after in pairwise(points))


def _until(condition: Callable[[], bool], seconds: float, what: str, workers: list[Worker]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        for worker in workers:
            worker.alive()
        if time.monotonic() > end:
            logs = "\n\n".join(f"{worker.name}:\n{worker.complaint()}" for worker in workers)
            raise TimeoutError(f"expected {what} within {seconds:.0f} s\n{logs}")
        time.sleep(0.2)


# -- the two counting stages of tests/agents/counting.py: exact sums over every frame, nothing else ------------------


def counting(rate: float = 150.0) -> Trial:
    sys.path.insert(0, str(ROOT / "tests" / "agents"))
    import counting as stages  # type: ignore[import-not-found]

    from pipeline.messages import Faces, decode

    def frames() -> Iterator[Frame]:
        at = 1_000_000
        while True:
            for camera in range(12):
                at += 1
                yield Frame(f"cam{camera}", at, site=f"site{camera % 2}", jpeg=b"\0" * 2000)

    def seen(records: list[Record]) -> set[str]:
        return {decode(record.value, Faces).frame for record in records[done_upto[0] :]}

    done_upto, known = [0], set()

    def done(sent: list[Frame], records: list[Record]) -> bool:
        upto = len(records)
        known.update(seen(records[:upto]))
        done_upto[0] = upto
        return len(known) >= len(sent) and all(frame.id in known for frame in sent)

    def judge(sent: list[Frame], records: list[Record], verdict: Verdict) -> None:
        wanted = stages.expected(sent)
        got: dict[str, Any] = {}
        for record in records:
            message = decode(record.value, Faces)
            if wanted.get(message.frame) != message:
                verdict.wrong += 1
            elif message.frame in got:
                verdict.doubled += 1
            got[message.frame] = message
        verdict.lost = len(wanted.keys() - got.keys())

    command = [sys.executable, str(ROOT / "tests" / "agents" / "counting.py")]
    return Trial(command, frames(), ("faces",), judge, done, rate=rate)


# -- the stages of the pipeline, with models that need no weights, against the flow in memory -------------------------

CAMERAS = 4  # half of them at each of two sites
OUTPUTS = ("frames.unique", "faces", "faces.embedded", "trajectories", "episodes")


def stages(rate: float = 20.0) -> Trial:
    """People walk from camera to camera, some without a mask. Whatever any stage says must be what the flow says."""
    sys.path.insert(0, str(ROOT / "tests"))
    import msgspec
    import scenes  # type: ignore[import-not-found]

    from pipeline import topics as contract
    from pipeline.flow import Flow
    from pipeline.messages import Episode, Faces, Trajectory

    places = [(f"cam{n}", f"site{n % 2}", (12.0 * (n // 2), 0.0)) for n in range(CAMERAS)]
    fps = rate / CAMERAS
    begin = time.time_ns() // 1000
    picture = lru_cache(maxsize=4096)(lambda people: scenes.frame("", 0, people))

    def frames() -> Iterator[Frame]:
        """After ten empty seconds a person every 16 s at each site, 5 s in the first picture, 5 s in the second."""
        number = 0
        while True:
            seconds = number / fps
            for camera, site, place in places:
                second = place[0] > 0
                visit, inside = divmod(seconds - 10 - (7 if second else 0) - (3 if site == "site1" else 0), 16)
                people = ()
                if visit >= 0 and inside < 5:
                    x = 40 + round(100 * inside)
                    bare = visit % 2 == 0 and not (second and inside > 2)  # every other one, who then puts a mask on
                    people = (((x, 120, x + 64, 184), "none" if bare else "worn", int(visit) % 40),)
                like = picture(people)
                yield msgspec.structs.replace(
                    like, camera=camera, site=site, place=place, at=begin + round(seconds * 1e6)
                )
            number += 1

    def ending(sent: list[Frame]) -> list[Frame]:
        at = max((frame.at for frame in sent), default=begin) + 1_000_000
        return [Frame(camera, at, site=site, place=place, ended=True) for camera, site, place in places]

    flow = Flow(Settings(**{name: Settings.model_fields[name].default for name in ("audit",)}), scenes.Models())
    wanted: dict[str, list[tuple[str, bytes]]] = {name: [] for name in OUTPUTS}
    ids: set[str] = set()
    have: set[str] = set()
    upto = {"sent": 0, "records": 0}

    def follow(sent: list[Frame]) -> None:
        for record in flow.run(sent[upto["sent"] :]):
            wanted[record.topic].append((record.key, contract.find(record.topic).encode(record.message)))
            if record.topic == "faces.embedded":
                ids.add(record.message.frame)
        upto["sent"] = len(sent)

    def done(sent: list[Frame], records: list[Record]) -> bool:
        if len(sent) > upto["sent"]:
            follow(sent)
        count = len(records)
        for record in records[upto["records"] : count]:
            if record.topic == "faces.embedded":
                have.add(contract.find(record.topic).decode(record.value).frame)
        upto["records"] = count
        # the last ones may wait at a site for cameras of which nothing has come yet
        return have >= ids

    def view(topic: str, values: Iterable[bytes]) -> dict[str, Any]:
        """What a consumer holds that keeps the newest message of each id."""
        held: dict[str, Any] = {}
        for value in values:
            message = contract.find(topic).decode(value)
            name = message.frame if isinstance(message, Faces) else message.id
            if name not in held or _age(message) >= _age(held[name]):
                held[name] = message
        return held

    def _age(message: Any) -> tuple[int, bool]:
        closed = isinstance(message, Trajectory) and message.closed
        return message.at, closed or (isinstance(message, Episode) and message.status == "closed")

    def judge(sent: list[Frame], records: list[Record], verdict: Verdict) -> None:
        follow(sent)
        for topic in OUTPUTS:
            got = [(record.key, record.value) for record in records if record.topic == topic]
            want, held = Counter(wanted[topic]), Counter(got)
            lost, wrong = want.keys() - held.keys(), held.keys() - want.keys()
            doubled = sum(held.values()) - sum(want.values()) + len(lost) - len(wrong)
            verdict.topics[topic] = (len(want), len(lost), len(wrong), doubled)
            verdict.lost += len(lost)
            verdict.wrong += len(wrong)
            verdict.doubled += doubled
            shown, right = view(topic, (v for _, v in got)), view(topic, (v for _, v in wanted[topic]))
            verdict.different += sum(shown.get(name) != right.get(name) for name in shown.keys() | right.keys())
        # dropped by dedup is accounted for too: in the ledger of the camera's last message
        count = Counter(frame.camera for frame in sent)
        last = {m.camera: m for m in view("faces.embedded", (r.value for r in records if r.topic == "faces.embedded"))
                .values() if m.ended}  # fmt: skip
        verdict.unaccounted = sum(
            abs(number - (last[camera].ledger.seen if camera in last and last[camera].ledger else 0))
            for camera, number in count.items()
        ) - sum(record.topic == "dead.letters" for record in records)

    command = [sys.executable, str(ROOT / "tests" / "agents" / "worker.py")]
    return Trial(
        command, frames(), (*OUTPUTS, "dead.letters"), judge, done, ending=ending, rate=rate,
        camera=lambda record: record.key if record.topic == "faces" else "",
    )  # fmt: skip


TRIALS: dict[str, Callable[[], Trial]] = {"counting": counting, "stages": stages}


def plan(events: int, seed: int) -> list[str]:
    """Mostly kills, every fourth a stall, every tenth the broker; shuffled, the same for the same seed."""
    kinds = ["broker" if n % 10 == 9 else "stall" if n % 4 == 3 else "kill" for n in range(events)]
    random.Random(seed).shuffle(kinds)
    return kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--stages", choices=sorted(TRIALS), default=next(reversed(TRIALS)))
    parser.add_argument("--keep", type=Path, help="folder to leave the logs in")
    parser.add_argument("--session", type=float, default=Settings.model_fields["session"].default)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        embedded = Kafka(folder / "broker")
        embedded.start()
        embedded.ready()
        settings = Settings(
            kafka=embedded.bootstrap, data=folder, topic_prefix=f"soak{uuid.uuid4().hex[:6]}.", session=options.session
        )
        try:
            begin = time.monotonic()
            verdict = run(
                TRIALS[options.stages](), settings, embedded, plan(options.events, options.seed), folder,
                seed=options.seed, say=lambda line: print(line, flush=True),
            )  # fmt: skip
            print(f"\n{options.stages}, {time.monotonic() - begin:.0f} s\n{verdict}")
        finally:
            embedded.stop()
    return 0 if verdict.exact else 1


if __name__ == "__main__":
    sys.exit(main())
