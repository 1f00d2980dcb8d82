"""One worker, then two: how much faster a full `frames` topic is worked off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec
from kafka import KafkaProducer
from kafka.partitioner.default import murmur2

from agents import broker, video
from bench import clips, machine
from bench import system as systems
from bench.figures import Figure, Section
from bench.percore import FPS, WIDTH
from bench.stopwatch import DETECT
from bench.system import Consumer, System, cpu, wait
from pipeline import dedup, scoring, topics
from pipeline.messages import Frame, encode
from pipeline.settings import Settings

WANTED = 1.8
STAGES = ("dedup", "mask", "embed", "trajectory")
BEGIN = 1_700_000_000_000_000  # µs UTC


def measure(settings: Settings, frames: int, repeats: int, say: Callable[[str], None]) -> Section:
    section = Section(
        "workers", "From one worker to two", "python -m bench workers",
        notes=[
            f"{frames} recorded pictures of the demo, of 16 cameras (two in each partition) at 4 sites, are in "
            "`frames` before the workers start. "
            "Each worker runs dedup, mask, embed and trajectory on one core of its own with "
            "one inference thread. Counted are faces messages a second, from when every worker has looked at 20 "
            "pictures until 85 % of all pictures are through.",
            "The broker is pinned to nothing: with one worker it has the machine's other core, with two it shares both "
            "cores with them. Its processor time is stated; it is not taken off.",
        ],
    )
    say("recording pictures of the demo")
    recorded = list(_recorded(settings, frames))
    kept = _kept(recorded, settings)
    rates: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, list[float]] = {1: [], 2: []}
    brokers: dict[int, list[float]] = {1: [], 2: []}
    with systems.started(settings.data) as system:
        for number in range(2 * repeats):
            count = 1 + number % 2
            name = f"round {number // 2 + 1} of {repeats}, {count} {'worker' if count == 1 else 'workers'}"
            if number:
                system.fresh()
            rate, cores, broker_cores = _run(system, recorded, kept, count, lambda text, n=name: say(f"{n}: {text}"))
            rates[count].append(rate)
            used[count].append(cores)
            brokers[count].append(broker_cores)
    ratio = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    section.figures = [
        Figure("two workers, times one", ratio, "×", f"≥ {WANTED}"),
        Figure("one worker", rates[1], "pictures a second"),
        Figure("two workers", rates[2], "pictures a second"),
        Figure("processor time of one worker alone", used[1], "cores"),
        Figure("processor time of two workers", used[2], "cores"),
        Figure("processor time of the broker beside one", brokers[1], "cores"),
        Figure("processor time of the broker beside two", brokers[2], "cores"),
        Figure("two workers, times one, for each second of processor time the workers got",
               [r * a / b for r, a, b in zip(ratio, used[1], used[2], strict=True)], "×"),
    ]  # fmt: skip
    section.notes.append(f"Of {len(recorded)} pictures, {kept} are analysed; dedup drops the others.")
    if machine.about()["cores"] == 2:
        section.notes.append("Two cores in all: whatever the broker takes is missing to the two workers.")
    return section


def _recorded(settings: Settings, count: int) -> Iterator[Frame]:
    """Pictures of the demo clips under the names of 16 cameras, in the order of time, with the faces known by then."""
    names, sites = _spread("frames", 2, "camera"), _spread("faces.embedded", 1, "site")
    films = []
    for clip in clips.demo(settings.data):
        truth = clip.faces()
        assert truth is not None
        film = [
            msgspec.structs.replace(frame, source="camera", known=_seen(truth, clip.camera, frame.at - 200_000))
            for frame in video.frames(clip.as_camera(FPS, WIDTH)) if not frame.ended
        ]  # fmt: skip
        films.append(film)
    made, step = 0, round(1e6 / FPS)
    for number in range(1 + count // len(names)):
        for index, name in enumerate(names):
            if made == count:
                return
            film = films[index % len(films)]
            # each camera is somewhere else in its clip, so that busy stretches do not fall together
            picture = film[(number + index * 17) % len(film)]
            at = BEGIN + number * step
            yield msgspec.structs.replace(
                picture, camera=name, at=at, site=sites[index % len(sites)], known_at=at - step)
            made += 1


def _seen(truth: scoring.Truth, camera: str, at: int) -> tuple[tuple[float, float, float, float], ...]:
    faces = truth.frames[camera].get(round(at / 1e6 * truth.fps), ())
    high = truth.width * 9 / 16
    return tuple(
        (box[0] / truth.width, box[1] / high, box[2] / truth.width, box[3] / high)
        for box in (face.box for face in faces if face.visible)
    )


def _spread(topic: str, each: int, word: str) -> list[str]:
    """Names that fall on every partition of a topic equally often."""
    partitions = topics.find(topic).partitions
    left, names, number = dict.fromkeys(range(partitions), each), [], 0
    while any(left.values()):
        number += 1
        name = f"{word}-{number}"
        partition = (murmur2(name.encode()) & 0x7FFFFFFF) % partitions
        if left[partition]:
            left[partition] -= 1
            names.append(name)
    return names


def _kept(frames: list[Frame], settings: Settings) -> int:
    """How many of them dedup passes on."""
    states: dict[str, dedup.Kept] = {}
    passed = 0
    for frame in frames:
        states[frame.camera], out = dedup.step(states.get(frame.camera), frame, settings)
        passed += out is not None
    return passed


def _run(system: System, frames: list[Frame], kept: int, count: int, say: Callable[[str], None]
         ) -> tuple[float, float, float]:
    """Pictures a second, and the cores that workers and broker used."""
    say("filling the topic")
    with closing(KafkaProducer(
        **broker.connection(system.settings), acks="all", linger_ms=20, batch_size=1 << 20, max_request_size=5 << 20,
    )) as producer:  # fmt: skip
        name = broker.topic(system.settings, "frames")
        for frame in frames:
            producer.send(name, encode(frame, "msgpack"), frame.camera.encode())
        producer.flush(120)
    say("working")
    consumer = Consumer(system.settings, "faces", keep=False).begin()
    try:
        workers = [system.worker(number, *STAGES, core=machine.core(number)) for number in range(count)]

        def looked() -> bool:
            told = [worker.told() for worker in workers]
            return all(lines and lines[-1].steps[DETECT][0] >= 20 for lines in told)

        wait(system, systems.READY, f"{count} workers at work", looked)
        begun = time.time()
        first, before = [worker.told()[-1].cpu for worker in workers], cpu(system.kafka.process)
        wait(system, 600, f"{kept} faces messages", lambda: len(consumer.got) >= 0.85 * kept)
        ended = time.time()
        last, after = [worker.told()[-1].cpu for worker in workers], cpu(system.kafka.process)
    finally:
        got = consumer.finish()
        system.stop()
        system.clear()
    done = [each.written for each in got if begun <= each.written <= ended]
    if len(done) < 50:
        raise RuntimeError(f"expected at least 50 pictures in the measured stretch, got {len(done)}: fill in more")
    span = ended - begun
    return len(done) / span, (sum(last) - sum(first)) / span, (after - before) / span
