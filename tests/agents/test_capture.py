"""Cameras on a real broker: shared out, handed on, edited while they run, and never without bound."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from agents import broker
from agents.capture import Capture, Held, History, Seen, SeenFace, known, wait
from agents.topics import apply
from agents.video import utc
from infra.local.kafka import Kafka
from infra.local.process import wait_for
from pipeline.messages import Camera, CameraStatus, Face, Faces, Frame, Source, decode, encode
from pipeline.settings import Settings

Clip = Callable[..., Path]

WORKER = """
import asyncio, signal
from agents.capture import Capture
from pipeline.settings import Settings

async def main():
    capture = Capture(Settings())
    await capture.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)
    await stopped.wait()
    await capture.stop()

asyncio.run(main())
"""


class Wall:
    """Puts wishes on `cameras` and reads what comes of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.producer = KafkaProducer(**broker.connection(settings), acks="all")
        self.frames: dict[str, list[Frame]] = {}
        self.states: dict[str, list[CameraStatus]] = {}
        self._consumer = KafkaConsumer(**broker.connection(settings), fetch_max_bytes=64_000_000)
        parts = [
            TopicPartition(broker.topic(settings, name), p) for name in ("frames", "cameras.status") for p in range(8)
        ]
        self._consumer.assign(parts)
        self._consumer.seek_to_beginning(*parts)

    def want(self, camera: Camera) -> None:
        self._put("cameras", camera.camera, encode(camera))

    def remove(self, name: str) -> None:
        self._put("cameras", name, None)

    def see(self, faces: Faces) -> None:
        self._put("faces", faces.camera, encode(faces))

    def _put(self, topic: str, key: str, value: bytes | None) -> None:
        self.producer.send(broker.topic(self.settings, topic), key=key.encode(), value=value).get(10)

    def read(self) -> None:
        for part, records in self._consumer.poll(100).items():
            for record in records:
                if part.topic.endswith("cameras.status"):
                    status = decode(record.value, CameraStatus)
                    self.states.setdefault(status.camera, []).append(status)
                else:
                    frame = decode(record.value, Frame, "msgpack")
                    assert record.key == frame.camera.encode()
                    self.frames.setdefault(frame.camera, []).append(frame)

    async def until(self, met: Callable[[], Any], seconds: float = 20) -> float:
        """Seconds it took."""
        began = time.monotonic()
        while True:
            await asyncio.to_thread(self.read)
            if met():
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, (self.counts(), {k: v[-1] for k, v in self.states.items()})

    async def look(self, seconds: float) -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await asyncio.to_thread(self.read)

    def counts(self) -> dict[str, int]:
        return {name: len(frames) for name, frames in self.frames.items()}

    def state(self, name: str) -> str:
        return self.states[name][-1].state if name in self.states else ""

    def close(self) -> None:
        self.producer.close()
        self._consumer.close()


@pytest.fixture
def wall(topics: Settings) -> Iterator[Wall]:
    wall = Wall(topics)
    yield wall
    wall.close()


@pytest.fixture
async def worker(topics: Settings) -> AsyncIterator[Capture]:
    capture = Capture(topics)
    await capture.start()
    yield capture
    await capture.stop()


def camera(name: str, url: Path | str, **more: Any) -> Camera:
    return Camera(name, (Source(str(url)),), **{"loop": True, "width": 320, **more})


def rising(frames: list[Frame]) -> bool:
    return all(a.at < b.at for a, b in itertools.pairwise(frames))


# -- without a broker -------------------------------------------------------------------------------------------------


def test_known_faces_are_shares_of_the_picture() -> None:
    faces = Faces(
        "a", 7, "a@7", "s", width=640, height=360, faces=(Face("a@7#0", (64, 36, 128, 72), 0.9, (), "worn", 0.8),)
    )
    seen = msgspec.json.decode(encode(faces), type=Seen)
    assert seen == Seen("a", 7, 640, 360, (SeenFace((64, 36, 128, 72)),))
    assert known(seen) == ((0.1, 0.1, 0.2, 0.2),)


def test_the_back_off_doubles_up_to_its_limit() -> None:
    assert [wait(n, 30, 1.0) for n in (1, 2, 3, 4, 7, 8, 100)] == [0.5, 1, 2, 4, 30, 30, 30]
    assert wait(3, 30, 0.0) == 1


def test_a_full_queue_loses_its_oldest_picture_but_not_the_mark() -> None:
    held = Held(camera("a", "x"), 0, Settings(queue=3), lambda: None)
    held.put(Frame("a", 1))
    held.mark()
    marked = held.last
    for i in range(1, 6):
        held.put(Frame("a", marked + i))
    assert [(f.at - marked, f.ended) for f in held.queue] == [(0, True), (4, False), (5, False)]
    assert (held.dropped, held.missed) == (4, 4)
    held.put(Frame("a", marked))  # not newer: not taken
    assert len(held.queue) == 3
    first = held.pop()
    assert first
    assert (first.ended, first.dropped) == (True, 4)
    assert held.missed == 0


class Record(NamedTuple):
    """As aiokafka gives it."""

    offset: int
    key: bytes
    value: bytes | None


def record(offset: int, name: str, changed: int | None) -> Record:
    wish = None if changed is None else encode(Camera(name, (Source("x"),), running=False, changed=changed))
    return Record(offset, name.encode(), wish)


def test_an_older_wish_that_comes_late_does_not_count() -> None:
    read = History()

    def told(*records: Record) -> int | None:
        for each in records:
            read.fold(each)
        return read.wanted["a"][0].changed if "a" in read.wanted else None

    assert told(record(0, "a", 0), record(1, "a", 0)) == 0
    assert told(record(2, "a", 50), record(3, "a", 40), record(4, "a", 0)) == 50
    assert told(record(5, "a", 50)) == 50
    assert read.wanted["a"][1] == 5  # the same wish again is one: it starts a recording anew
    assert told(record(6, "a", None), record(7, "a", 50), record(8, "a", 40)) is None  # said before it was removed
    assert told(record(9, "a", 0)) == 0  # added again by the command
    assert told(record(3, "a", 40)) == 40  # the partition came back, and is read from its beginning


async def test_half_a_history_is_not_acted_upon_because_another_partition_is_read_whole(clip: Clip) -> None:
    class Consumer:
        positions: ClassVar[dict[TopicPartition, int]] = {}

        def highwater(self, part: TopicPartition) -> int:
            return 2

        async def position(self, part: TopicPartition) -> int:
            return self.positions[part]

    whole, half = TopicPartition("cameras", 0), TopicPartition("cameras", 1)
    capture, consumer = Capture(Settings()), Consumer()
    capture._cameras, capture._loop_now = consumer, asyncio.get_running_loop()
    held: list[str] = []
    capture._hold = lambda camera, offset: held.append(f"{camera.camera} {camera.changed}")  # type: ignore[method-assign]
    capture.assigned({0, 1})
    consumer.positions.update({whole: 2, half: 1})
    await capture._hear({half: [record(0, "b", 1)], whole: [record(0, "a", 1), record(1, "a", 2)]})
    assert held == ["a 2"]
    consumer.positions[half] = 2
    await capture._hear({half: [record(1, "b", 2)]})
    assert held[-1] == "b 2"
    assert "b 1" not in held


def test_a_clock_that_is_put_right_makes_a_camera_begin_anew_and_say_so(clip: Clip) -> None:
    """It ran an hour ahead: what would be seen now counts for nobody until then."""
    held = Held(camera("a", clip("capture.mp4", seconds=3)), 0, Settings(), lambda: None)
    wrong = utc() + 3_600_000_000
    held.put(Frame("a", wrong))
    said: list[tuple[str, str]] = []
    become = held.become
    held.become = lambda state, error="", stop=None: (said.append((state, error)), become(state, error, stop))[1]  # type: ignore[method-assign]
    held.begin()
    try:
        assert wait_for(lambda: held.state == "up" and len(held.queue) > 3, 20)
        assert "set back by 3600 s: the camera begins anew" in next(error for state, error in said if state == "down")
        assert all(frame.at <= utc() for frame in list(held.queue)[1:])
    finally:
        held.halt()


# -- with one ---------------------------------------------------------------------------------------------------------


async def test_cameras_follow_their_wishes(wall: Wall, worker: Capture, clip: Clip) -> None:
    path = clip("capture.mp4", seconds=3)
    for name in ("a", "b"):
        wall.want(camera(name, path))
    await wall.until(lambda: len(wall.frames.get("a", ())) > 5 and len(wall.frames.get("b", ())) > 5)
    assert wall.state("a") == "up"
    first = wall.frames["a"][0]
    assert (first.width, first.height, first.source_width, len(first.digest)) == (320, 180, 320, 2304)
    untouched = worker.held["b"].thread

    wall.want(camera("a", path, place=(1.0, 2.0)))  # no restart for what the thread need not know
    took = await wall.until(lambda: wall.frames["a"][-1].place == (1.0, 2.0))
    assert took < 2
    assert not any(f.ended for f in wall.frames["a"])

    wall.want(camera("a", path, width=160))
    took = await wall.until(lambda: wall.frames["a"][-1].width == 160)
    assert took < 3
    assert [f.ended for f in wall.frames["a"]].count(True) == 1

    wall.want(camera("a", path, running=False))
    assert await wall.until(lambda: wall.frames["a"][-1].ended and wall.state("a") == "stopped") < 3
    count = len(wall.frames["a"])
    await wall.look(1)
    assert len(wall.frames["a"]) == count

    wall.want(camera("a", path))
    assert await wall.until(lambda: len(wall.frames["a"]) > count) < 3
    wall.remove("a")
    assert await wall.until(lambda: wall.frames["a"][-1].ended) < 3
    assert "a" not in worker.held

    assert worker.held["b"].thread is untouched
    assert not any(f.ended for f in wall.frames["b"])
    assert all(rising(frames) for frames in wall.frames.values())


async def test_a_recording_ends_once(wall: Wall, worker: Capture, clip: Clip) -> None:
    path = clip("short.mp4", seconds=1)
    wish = camera("film", path, loop=False)
    wall.want(wish)
    await wall.until(lambda: wall.state("film") == "ended")
    await wall.until(lambda: wall.frames["film"][-1].ended)
    assert len(wall.frames["film"]) == 6
    await wall.look(1.5)
    assert len(wall.frames["film"]) == 6
    wall.want(wish)  # start again
    await wall.until(lambda: len(wall.frames["film"]) == 12 and wall.frames["film"][-1].ended)
    assert rising(wall.frames["film"])


async def test_a_camera_that_dies_comes_back(wall: Wall, worker: Capture, rtsp: Any, clip: Clip) -> None:
    server = rtsp()
    wall.want(Camera("live", (Source(f"rtsp://viewer:secret@127.0.0.1:{server.port}/cam"),), width=320))
    dead = camera("dead", f"rtsp://127.0.0.1:{server.port}/none")
    second = Camera("second", (Source("/nowhere.mp4", "sub"), Source(str(clip("capture.mp4", seconds=3)))), loop=True)
    wall.want(dead)
    wall.want(second)  # its sub-stream does not open: the main one is taken
    await wall.until(lambda: len(wall.frames.get("live", ())) > 5 and len(wall.frames.get("second", ())) > 5)
    server.kill()
    await wall.until(lambda: wall.state("live") == "down")
    down = wall.states["live"][-1]
    assert down.url == f"rtsp://127.0.0.1:{server.port}/cam"
    assert down.error
    await wall.until(lambda: wall.frames["live"][-1].ended)  # after five seconds out of reach
    assert (wall.frames["live"][-1].at - wall.frames["live"][-2].at) / 1e6 > 4
    await wall.until(lambda: wall.states["live"][-1].reconnects >= 2)
    count = len(wall.frames["live"])
    rtsp(port=server.port)
    await wall.until(lambda: len(wall.frames["live"]) > count + 3 and wall.state("live") == "up", 30)
    assert rising(wall.frames["live"])
    assert [f.ended for f in wall.frames["live"]].count(True) == 1
    assert wall.state("dead") == "down"
    assert "404" in wall.states["dead"][-1].error or "refused" in wall.states["dead"][-1].error
    assert wall.state("second") == "up"
    assert "secret" not in repr(wall.states)


async def test_known_faces_are_written_and_a_late_mask_stage_thins(wall: Wall, topics: Settings, clip: Clip) -> None:
    capture = Capture(topics.model_copy(update={"behind": 2.0}))
    await capture.start()
    try:
        wall.want(camera("a", clip("capture.mp4", seconds=3), fps=10))
        await wall.until(lambda: len(wall.frames.get("a", ())) > 3)
        answered = 0

        def answer() -> bool:
            nonlocal answered
            for frame in wall.frames["a"][answered:]:
                wall.see(
                    Faces(
                        "a", frame.at, frame.id, "site", width=320, height=180,
                        faces=(Face(frame.id + "#0", (32, 18, 64, 36), 0.9, (), "worn", 0.8),),
                    )
                )  # fmt: skip
            answered = len(wall.frames["a"])
            return wall.frames["a"][-1].at - wall.frames["a"][0].at > 4_000_000

        await wall.until(answer)
        last = wall.frames["a"][-1]
        assert last.known == ((0.1, 0.1, 0.2, 0.2),)
        assert 0 < last.at - last.known_at < 1_000_000
        assert not any(f.dropped for f in wall.frames["a"])  # the mask stage keeps up: nothing is thinned

        silent = last.at
        await wall.until(lambda: wall.frames["a"][-1].at > silent + 6_500_000)
        thin = [f for f in wall.frames["a"] if f.at > silent + 3_000_000]
        assert len(thin) <= 6  # one a second
        assert thin[-1].dropped >= 5
        assert capture.held["a"].dropped >= 20
        answered = len(wall.frames["a"]) - 1
        await wall.until(lambda: answer() and wall.frames["a"][-1].at - wall.frames["a"][-2].at < 200_000, 5)
    finally:
        await capture.stop()
    await wall.until(lambda: wall.frames["a"][-1].ended)
    assert wall.state("a") == "down"
    assert wall.states["a"][-1].error == "its worker stopped"


async def test_a_camera_looks_as_closely_as_its_faces_need_it(wall: Wall, topics: Settings, clip: Clip) -> None:
    """Small faces make its pictures wide, a mask stage that falls silent makes them narrow before one is dropped."""
    capture = Capture(topics.model_copy(update={"behind": 8.0}))
    await capture.start()
    answered = 0

    def answer(pixels: float) -> None:
        """One face of so many pixels at 1280."""
        nonlocal answered
        for frame in wall.frames.get("far", [])[answered:]:
            side = pixels * frame.width / 1280
            faces = (Face(frame.id + "#0", (32, 18, 32 + side, 18 + side), 0.9, (), "worn", 0.8),) if side >= 12 else ()
            wall.see(Faces("far", frame.at, frame.id, "site", width=frame.width, height=frame.height, faces=faces))
        answered = len(wall.frames.get("far", []))

    def widths() -> list[int]:
        return [frame.width for frame in wall.frames.get("far", []) if not frame.probe]

    def until_wide() -> bool:
        answer(22)
        return len(widths()) > 5 and set(widths()[-5:]) == {1280}

    try:
        wall.want(camera("far", clip("wide.mp4", seconds=3, size=(1280, 720)), width=0))
        await wall.until(until_wide)
        first = wall.frames["far"][0]
        assert (first.width, first.probe) == (1280, True)
        assert set(widths()) == {960, 1280}
        assert not any(frame.ended for frame in wall.frames["far"])  # the stream goes on meanwhile
        await wall.until(lambda: answer(22) or wall.states["far"][-1].analysed_why == "faces")
        status = wall.states["far"][-1]
        assert (status.analysed_width, status.width, status.dropped) == (1280, 1280, 0)
        assert abs(status.analysed_face - 22) < 1.5

        await wall.until(lambda: widths()[-1] == 640)
        assert not any(frame.dropped for frame in wall.frames["far"])
        await wall.until(lambda: wall.states["far"][-1].analysed_width == 640, 3)
        assert wall.states["far"][-1].analysed_why == "behind"
    finally:
        await capture.stop()


async def test_small_faces_bring_the_main_stream_in_place_of_the_smaller_one(
    wall: Wall, worker: Capture, clip: Clip
) -> None:
    main, sub = clip("wide.mp4", seconds=3, size=(1280, 720)), clip("half.mp4", seconds=3, size=(960, 540))
    sources = Source(str(main), "main", 1280), Source(str(sub), "sub", 960)
    wall.want(Camera("two", sources, loop=True))
    answered = 0

    def answer() -> bool:
        nonlocal answered
        for frame in wall.frames.get("two", [])[answered:]:
            side = 20 * frame.width / 1280
            face = Face(frame.id + "#0", (32, 18, 32 + side, 18 + side), 0.9, (), "worn", 0.8)
            wall.see(Faces("two", frame.at, frame.id, "site", width=frame.width, height=frame.height, faces=(face,)))
        answered = len(wall.frames.get("two", []))
        return answered > 3 and wall.frames["two"][-1].width == 1280

    await wall.until(answer)
    frames = wall.frames["two"]
    assert [frames[0].source_width, frames[-1].source_width] == [960, 1280]
    assert not any(frame.ended for frame in frames)  # it is the same camera, tracks go on
    assert rising(frames)
    await wall.until(lambda: wall.states["two"][-1].analysed_width == 1280)
    status = wall.states["two"][-1]
    assert (status.state, status.url, status.reconnects) == ("up", str(main), 0)


async def test_two_workers_share_and_hand_on(wall: Wall, topics: Settings, clip: Clip) -> None:
    """kill -9 of one: all cameras publish again within 15 s, those of the other are not interrupted."""
    path = clip("capture.mp4", seconds=3)
    names = [f"cam-{i}" for i in range(12)]
    for name in names:
        wall.want(camera(name, path, width=160))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(process(topics))
        await wall.until(lambda: len(wall.frames) == 12 and all(wall.state(name) == "up" for name in names), 25)
        before = {name: wall.states[name][-1].worker for name in names}
        assert len(set(before.values())) == 1
        second = stack.enter_context(process(topics))

        def holders() -> dict[str, set[str]]:
            held: dict[str, set[str]] = {}
            for name in names:
                if wall.states[name][-1].state == "up":
                    held.setdefault(wall.states[name][-1].worker, set()).add(name)
            return held

        await wall.until(lambda: sorted(map(len, holders().values()))[:1] >= [3] and len(holders()) == 2, 25)
        await wall.look(6)
        shared = {worker.rsplit(":", 1)[1]: cams for worker, cams in holders().items()}
        mine, others = shared[str(first.pid)], shared[str(second.pid)]
        assert mine | others == set(names)
        ended = {name for name in names if any(f.ended for f in wall.frames[name])}
        assert ended == others  # handed over with a mark; what stayed was not interrupted

        os.kill(second.pid, signal.SIGKILL)
        killed = utc()
        await wall.until(
            lambda: all(
                wall.frames[name][-1].at > killed + 500_000 and not wall.frames[name][-1].ended for name in others
            ),
            15,
        )
        for name in mine:  # not interrupted by the death of the other
            late = [f.at for f in wall.frames[name] if f.at > killed - 2_000_000]
            assert max(b - a for a, b in itertools.pairwise(late)) < 1_500_000

        third = stack.enter_context(process(topics))
        await wall.until(lambda: any(w.endswith(f":{third.pid}") for w in holders()), 25)
        third.send_signal(signal.SIGTERM)  # leaves the group at once
        left = utc()
        taken = await wall.until(lambda: all(wall.frames[name][-1].at > left + 1_000_000 for name in names), 10)
        assert taken < 8
        third.wait(10)
    assert all(rising(frames) for frames in wall.frames.values())


@contextlib.contextmanager
def process(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "MASKWATCH_KAFKA": settings.kafka, "MASKWATCH_TOPIC_PREFIX": settings.topic_prefix}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
        yield worker
    finally:
        worker.kill()
        worker.wait()
        if worker.stdout:
            worker.stdout.close()


@pytest.mark.slow
# The Kafka clients leave sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_a_dead_broker_drops_the_oldest_and_recovers(tmp_path: Path, clip: Clip) -> None:
    """The broker is away for seconds: the queue stays short, drops are counted, publishing goes on by itself."""
    own = Kafka(tmp_path / "broker")
    own.start()
    wall = None
    try:
        settings = Settings(kafka=own.ready().bootstrap, topic_prefix="t.", behind=600)  # no mask stage here
        apply(settings)
        wall = Wall(settings)
        capture = Capture(settings)
        await capture.start()
        wall.want(camera("a", clip("capture.mp4", seconds=3), fps=12.5))
        await wall.until(lambda: len(wall.frames.get("a", ())) > 5)
        held = capture.held["a"]
        thread = held.thread
        await asyncio.to_thread(own.stop)
        await asyncio.sleep(6)
        assert len(held.queue) == settings.queue
        assert held.dropped >= 40
        assert held.thread is thread  # the camera stays open
        again = Kafka(tmp_path / "broker", own.port)
        again.start()
        own = again
        own.ready()
        count = len(wall.frames["a"])
        await wall.until(lambda: len(wall.frames["a"]) > count + 50, 40)
        assert sum(f.dropped for f in wall.frames["a"]) >= 50
        assert max(f.dropped for f in wall.frames["a"]) >= 20
        assert wall.frames["a"][-1].at > utc() - 2_000_000
        assert [f.at for f in wall.frames["a"]] == sorted(f.at for f in wall.frames["a"])
        assert held.thread is thread
        await capture.stop()
    finally:
        if wall:
            wall.close()
        own.stop()
