"""What the log still holds of a camera: its frames found by time, and where the faces in them are."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from statistics import median
from typing import Any, Literal

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2

from agents import broker
from pipeline import pictures, topics
from pipeline.capture import blacken
from pipeline.messages import BadMessage, Box, Frame, Outline, Privacy, State
from pipeline.settings import Settings

SECOND = 1_000_000  # µs
LONGEST = 120 * SECOND  # a stretch of which every frame is told, or that is made into a clip
CONSUMERS = 3  # of this process: each read has one for itself
WAIT, ANSWER = 2.0, 2.0  # seconds a read waits for a consumer; seconds the broker has for a word
CONNECT = 1.0  # seconds for a broker's address to answer at all
EARLY = 2 * SECOND  # clocks of workers and brokers differ by less
LATE = 30 * SECOND  # after its picture was taken a record is written; capture throws away what waited longer than 10 s
# A look further away says nothing about a frame. Dedup passes one a second, whatever it shows.
NEAR = 1_500_000  # µs
HOLE = 2_500_000  # µs between two frames, at least, for it to be a gap
PEEKED = 200  # records looked at for the frame of a camera at a time: cameras that share a partition are few
REMEMBERED = 50_000  # frames of which the process knows where they lie
LOOKING = 2.0  # seconds in which what was seen of a stretch must be read; what is not known by then is not shown
NEWS = 60 * SECOND  # by when a picture has been looked at, unless the stages are down: capture thins before they lag
NEVER = 1 << 62  # µs UTC


class Away(OSError):
    """The log cannot be read now."""


class Head(msgspec.Struct, frozen=True):
    """Of a Frame, what a list of them needs; the rest is not even copied."""

    camera: str
    at: int
    site: str = "site"
    privacy: Privacy = "pseudonymous"
    width: int = 0
    height: int = 0
    ended: bool = False
    blur_others: bool = False


class SeenFace(msgspec.Struct, frozen=True):
    """Of a Face, what tells whose it is and where."""

    id: str
    box: Box  # pixels of the frame's picture
    look: State
    track: str = ""
    state: State = "unknown"


class Seen(msgspec.Struct, frozen=True):
    """Of a Faces."""

    camera: str
    at: int
    width: int = 0
    height: int = 0
    faces: tuple[SeenFace, ...] = ()
    ended: bool = False

    def parts(self, face: SeenFace) -> Box:
        """Its box as 0..1 of the picture: pictures of one camera differ in size."""
        x0, y0, x1, y1 = face.box
        w, h = max(self.width, 1), max(self.height, 1)
        return x0 / w, y0 / h, x1 / w, y1 / h


@dataclass(frozen=True)
class Looks:
    """What was seen in a stretch, as far as there was time to read it."""

    seen: tuple[Seen, ...] = ()  # by time
    known: int = NEVER  # µs UTC: from here on nothing is known; NEVER: all of it is here

    @property
    def all(self) -> bool:
        return self.known == NEVER


@dataclass
class Stretch:
    """The frames of a camera between two times."""

    frames: list[Head] = field(default_factory=list)  # by time; without the marks of an end
    ends: list[int] = field(default_factory=list)  # µs UTC: where its stream stopped
    oldest: int | None = None  # record of the log in which the camera lies, µs UTC; None: there is none
    newest: int | None = None
    every: int = 0  # µs between two of `frames`; 0: each is told of
    next: int | None = None  # where to go on; None: this is all


_heads, _seen, _frames = (msgspec.msgpack.Decoder(Head), msgspec.json.Decoder(Seen), topics.find("frames"))


class Log:
    """The process's one, as `app.state.footage`. Whatever it is asked, it answers, or raises Away, within seconds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._turns, self._lock = threading.BoundedSemaphore(CONSUMERS), threading.Lock()
        self._idle: list[KafkaConsumer] = []
        self._closed = False
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()  # camera, at -> offset

    def close(self) -> None:
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for consumer in idle:
            consumer.close(timeout_ms=1000)

    # -- what is asked --

    def stretch(self, camera: str, since: int, until: int, most: int, seconds: float = 0.8) -> Stretch:
        """Each frame of [since, until), at most `most`, and as far as one comes in `seconds`; `next` goes on there."""
        done = Stretch()
        with self._reading("frames", camera) as reader:
            done.oldest, done.newest = reader.bounds()
            for offset, head in self._heads(reader, camera, since, until, time.monotonic() + seconds):
                if head is None or len(done.frames) >= most:
                    done.next = offset if head is None else head.at
                    break
                if head.ended:
                    done.ends.append(head.at)
                elif not done.frames or head.at != done.frames[-1].at:
                    done.frames.append(head)
                    self._remember(camera, head.at, offset)
        done.frames.sort(key=lambda head: head.at)
        return done

    def sampled(self, camera: str, since: int, until: int, most: int, seconds: float = 0.8) -> Stretch:
        """The first frame of each of `most` equal parts of [since, until): an hour at a glance."""
        done = Stretch(every=max(1, -(-(until - since) // most)))
        end = time.monotonic() + seconds
        with self._reading("frames", camera) as reader:
            done.oldest, done.newest = reader.bounds()
            at = max(since, min(until, (done.oldest or until) - LATE))
            at = since + (at - since) // done.every * done.every
            until = min(until, (done.newest or since) + 1)
            while at < until:
                if done.frames and time.monotonic() > end:
                    done.next = at
                    break
                found = False
                for offset, head in self._heads(reader, camera, at, min(at + done.every, until), end + 1, PEEKED):
                    if head is None:
                        break
                    if not head.ended:
                        found = True
                        done.frames.append(head)
                        self._remember(camera, head.at, offset)
                        break
                    done.ends.append(head.at)
                at += done.every
                if not found:  # where nobody wrote for a while, not step by step
                    after = reader.at(at - EARLY)
                    at += max(0, (after.timestamp * 1000 if after else until) - LATE - at) // done.every * done.every
        return done

    def frames(self, camera: str, since: int, until: int, most: int, most_bytes: int, seconds: float) -> list[Frame]:
        """The same as `stretch`, whole, with the marks of an end. Raises Away when it is not through in `seconds`."""
        found: dict[int, Frame] = {}
        with self._reading("frames", camera) as reader:
            held = 0
            for record in reader.records(since - EARLY, until, time.monotonic() + seconds):
                if record is None:
                    raise Away(f"expected to have read the stretch within {seconds:.0f} s")
                if record.key != reader.key or not record.value:
                    continue
                with suppress(BadMessage):
                    frame = _frames.decode(record.value)
                    if frame.at >= until:
                        break
                    if frame.at >= since:
                        found[frame.at] = frame
                        held += len(frame.jpeg)
                if len(found) >= most or held > most_bytes:
                    break
        return [found[at] for at in sorted(found)]

    def frame(self, camera: str, at: int) -> Frame | None:
        """One frame; None: the log does not hold it (any more)."""
        with self._lock:
            offset = self._known.get((camera, at))
        with self._reading("frames", camera) as reader:
            for record in reader.records(at - EARLY, at, time.monotonic() + ANSWER, offset):
                if record is None:
                    raise Away(f"expected to have found the frame within {ANSWER:.0f} s")
                if record.key != reader.key or not record.value:
                    continue
                with suppress(BadMessage):
                    frame: Frame = _frames.decode(record.value)
                    if frame.at == at and not frame.ended:
                        self._remember(camera, at, record.offset)
                        return frame
                    if frame.at > at:
                        break
        return None

    def looks(self, camera: str, since: int, until: int, seconds: float | None = None) -> Looks:
        """What was seen in the frames of [since, until) and next to them."""
        found: dict[int, Seen] = {}
        known = NEVER
        with self._reading("faces", camera) as reader:
            for record in reader.records(since - NEAR - EARLY, until + NEAR, time.monotonic() + (seconds or LOOKING)):
                if record is None:  # looks of a camera are in the order of their time: those up to the newest are here
                    known = max(found, default=0)
                    break
                if record.key != reader.key or not record.value:
                    continue
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    seen = _seen.decode(record.value)
                    if seen.at >= since - NEAR:
                        found.setdefault(seen.at, seen)
                    if seen.at > until + NEAR:
                        break
        return Looks(tuple(found[at] for at in sorted(found)), known)

    def bounds(self, camera: str) -> tuple[int | None, int | None]:
        """Times of the oldest and the newest record of the log in which the camera lies, µs UTC."""
        with self._reading("frames", camera) as reader:
            return reader.bounds()

    # -- how --

    def _heads(self, reader: Reader, camera: str, since: int, until: int, deadline: float, most: int | None = None
               ) -> Iterator[tuple[int, Head | None]]:
        """(offset, head) of each; in the end (where to go on, None) when time is up before the stretch is. `most`:
        records that are looked at, whosever they are."""
        last = since
        for record in islice(reader.records(since - EARLY, until, deadline), most):
            if record is None:
                yield last, None
                return
            if record.key != reader.key or not record.value:
                last = max(last, min(until, record.timestamp * 1000 - LATE))
                continue
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                head = _heads.decode(record.value)
                if head.at >= until:
                    return
                if head.at >= since:
                    last = head.at + 1
                    yield record.offset, head

    def _remember(self, camera: str, at: int, offset: int) -> None:
        with self._lock:
            self._known[camera, at] = offset
            self._known.move_to_end((camera, at))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    @contextmanager
    def _reading(self, topic: str, camera: str) -> Iterator[Reader]:
        if not self._turns.acquire(timeout=WAIT):
            raise Away(f"expected one of {CONSUMERS} readers to be free within {WAIT:.0f} s")
        try:
            consumer = self._consumer()
            try:
                yield Reader(consumer, broker.topic(self.settings, topic), camera)
            except KafkaError as error:
                consumer.close(timeout_ms=500)
                raise Away(f"{type(error).__name__}: {error}"[:300]) from error
            except BaseException:
                consumer.close(timeout_ms=500)
                raise
            with self._lock:
                if not self._closed:
                    self._idle.append(consumer)
                    return
            consumer.close(timeout_ms=500)
        finally:
            self._turns.release()

    def _consumer(self) -> KafkaConsumer:
        try:
            broker.reachable(self.settings, CONNECT)  # also before one that was idle: its broker may have gone
            with self._lock:
                if self._idle:
                    return self._idle.pop()
            return KafkaConsumer(
                **broker.connection(self.settings), client_id="maskwatch-footage", group_id=None,
                enable_auto_commit=False, auto_offset_reset="earliest", bootstrap_timeout_ms=round(ANSWER * 1000),
                # the broker answers a connection's requests one after another: a fetch at the end of the log that waits
                # for more would keep the next question waiting
                fetch_max_wait_ms=10, max_partition_fetch_bytes=512 << 10,
            )  # fmt: skip
        except (OSError, KafkaError) as error:
            raise Away(f"{type(error).__name__}: {error}"[:300]) from error


class Reader:
    """A camera's partition of a topic, through a consumer that nobody else uses meanwhile."""

    def __init__(self, consumer: KafkaConsumer, topic: str, camera: str) -> None:
        self.consumer, self.key = consumer, camera.encode()
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise Away(f"expected the topic {topic}, there is none")
        # what every producer's default partitioner does with a key
        self.part = TopicPartition(topic, (murmur2(self.key) & 0x7FFFFFFF) % len(numbers))
        consumer.assign([self.part])
        self.end: int = consumer.end_offsets([self.part], timeout_ms=ANSWER * 1000)[self.part]

    def at(self, micros: int) -> Any:
        """Offset and timestamp of the first record written at a time or after; None: there is none."""
        asked = {self.part: max(0, micros // 1000)}
        return self.consumer.offsets_for_times(asked, timeout_ms=ANSWER * 1000)[self.part]

    def bounds(self) -> tuple[int | None, int | None]:
        """When the oldest and the newest record of the partition were written, µs UTC."""
        first = self.at(0)
        if first is None or first.offset >= self.end:
            return None, None
        newest = first.timestamp
        for record in self.records(0, 0, time.monotonic() + ANSWER, max(first.offset, self.end - 1)):
            newest = record.timestamp if record else newest
            break
        return first.timestamp * 1000, newest * 1000

    def records(self, begin: int, until: int, deadline: float, offset: int | None = None) -> Iterator[Any]:
        """From those written at `begin` (or from `offset`) to the end of the log as it was, or LATE after `until`; None
        when the deadline comes first."""
        if offset is None:
            found = self.at(begin)
            offset = found.offset if found else self.end
        self.consumer.seek(self.part, offset)
        while offset < self.end:
            left = deadline - time.monotonic()
            if left <= 0:
                yield None
                return
            for record in self.consumer.poll(min(500, max(1, left * 1000)), max_records=50).get(self.part, ()):
                offset = record.offset + 1
                if until and record.timestamp * 1000 > until + LATE:
                    return
                yield record
            # what is no record (removed ones, marks of transactions) is passed over
            offset = max(offset, self.consumer.position(self.part, timeout_ms=ANSWER * 1000) or 0)


# -- what one may see of it --------------------------------------------------------------------------------------------

Shown = Literal["whole", "changed", "withheld"]


@dataclass(frozen=True)
class Veil:
    """What must not be seen of a camera's frames, by what its site says now or said when they were taken."""

    hidden: tuple[Outline, ...] = ()  # privacy areas of the camera as they are now; those of then are in the picture
    privacy: Privacy = "pseudonymous"  # as it is now
    blur_others: bool = False  # as it is now
    looks: tuple[Seen, ...] = ()  # by time
    known: int = NEVER  # from here on it is not known what was seen, µs UTC
    news: int = NEVER  # pictures from here on are yet to be looked at: somebody who was erased may be in them
    subject: frozenset[str] = frozenset()  # tracks whose faces stay, where others are blurred
    erased: frozenset[str] = frozenset()  # faces and tracks that nobody sees again

    def blurs(self, frame: Head | Frame) -> bool:
        return self.blur_others or frame.blur_others or self.anonymous(frame)

    def anonymous(self, frame: Head | Frame) -> bool:
        """There no face is shown at all, as no picture of one is kept."""
        return "anonymous" in (self.privacy, frame.privacy)

    def shown(self, frame: Head | Frame) -> Shown:
        """withheld: faces are to be made unrecognisable in it, or may have to be, and nobody knows where they are."""
        if frame.at >= self.known:
            return "withheld"
        before, same, after = self._around(frame.at)
        if same is None and (before is None or after is None) and (self.blurs(frame) or frame.at >= self.news):
            return "withheld"
        if self.blurs(frame):
            return "changed"
        return "changed" if self.hidden or self._gone(frame.at) else "whole"

    def lay(self, frame: Frame) -> pictures.Image:
        """The picture as it may be seen. Raises BadPicture."""
        image = pictures.decode(frame.jpeg)
        high, wide = image.shape[:2]

        def pixels(box: Box) -> Box:
            return box[0] * wide, box[1] * high, box[2] * wide, box[3] * high

        if self.blurs(frame):
            subject = None if self.anonymous(frame) else self.box(frame.at)
            others = [seen.parts(face) for seen in self._around(frame.at) if seen for face in seen.faces
                      if self.anonymous(frame) or face.track not in self.subject]
            image = pictures.blurred(image, map(pixels, others), pixels(subject) if subject else None)
        if gone := self._gone(frame.at):
            image = pictures.blurred(image, map(pixels, gone))
        return blacken(image, self.hidden) if self.hidden else image

    def box(self, at: int) -> Box | None:
        """The subject's at a time, 0..1 of the picture: between two looks it moves evenly."""
        before, same, after = self._around(at)
        if same is not None and (found := self._subject(same)):
            return found
        ends = [(seen.at, box) for seen in (before, after) if seen and (box := self._subject(seen))]
        if len(ends) < 2:
            return ends[0][1] if ends and same is None else None
        (t0, a), (t1, b) = ends
        share = (at - t0) / (t1 - t0)
        return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))  # type: ignore[return-value]

    def _subject(self, seen: Seen) -> Box | None:
        return next((seen.parts(face) for face in seen.faces if face.track and face.track in self.subject), None)

    def _gone(self, at: int) -> list[Box]:
        return [seen.parts(face) for seen in self._around(at) if seen for face in seen.faces
                if face.id in self.erased or face.track in self.erased] if self.erased else []

    def _around(self, at: int) -> tuple[Seen | None, Seen | None, Seen | None]:
        """The look before, the one at that time, the one after; none that is too far away."""
        left = bisect_left(self.looks, at, key=lambda seen: seen.at)
        right = bisect_right(self.looks, at, key=lambda seen: seen.at)
        before = self.looks[left - 1] if left and at - self.looks[left - 1].at <= NEAR else None
        after = self.looks[right] if right < len(self.looks) and self.looks[right].at - at <= NEAR else None
        return before, self.looks[left] if right > left else None, after


@dataclass(frozen=True)
class Hole:
    """A part of a stretch in which there are no frames."""

    start: int  # µs UTC
    end: int
    ended: bool  # the stream stopped there; else nothing says why


def holes(frames: Sequence[Head], ends: Sequence[int], since: int, until: int, every: int = 0) -> list[Hole]:
    """`until`: not later than what is there to be seen by now."""
    times = [frame.at for frame in frames]
    steps = [b - a for a, b in pairwise(times)]
    least = max(HOLE, every * 2, round(4 * median(steps)) if steps and not every else 0)
    found, before = [], since
    for at in (*times, until):
        if at - before > least:
            found.append(Hole(before, at, any(before <= end <= at for end in ends)))
        before = at
    return found


