"""Two stages that only count, so that the delivery can be tried without any stage of the pipeline; also a worker."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import msgspec

from agents import app as apps
from agents import delivery
from pipeline.messages import Faces, Frame, Ledger
from pipeline.settings import Settings


class Count(msgspec.Struct, frozen=True):
    version: int = -1  # offset of the newest message in it
    at: int = -1  # time of the newest frame in it: a frame that came twice has another offset, but the same time
    seen: int = 0
    sum: str = ""  # chained digest of everything counted, so that a skipped, doubled or swapped frame shows


def fold(state: Count, work: delivery.Work) -> Count:
    frame = work.message
    if frame.at <= state.at:
        return msgspec.structs.replace(state, version=max(state.version, work.offset))
    digest = hashlib.sha1(f"{state.sum}{frame.at}".encode(), usedforsecurity=False).hexdigest()
    return Count(work.offset, frame.at, state.seen + 1, digest)


def first(settings: Settings, **options) -> apps.App:
    """frames -> frames.unique, one count per camera."""
    app = apps.create("first", settings)

    async def turn(states, works):
        for work in works:
            if work.message.ended:
                raise ValueError("this stage takes no ended frame")
            before = states.get(work.key, Count())
            states[work.key] = after = fold(before, work)
            if after.seen > before.seen:
                work.send(
                    "frames.unique",
                    work.key,
                    Frame(work.key, work.message.at, digest=after.sum.encode(), ledger=Ledger(seen=after.seen)),
                )

    delivery.attach(app, settings, stage="first", source="frames", turn=turn, state=Count, **options)
    return app


def second(settings: Settings, **options) -> apps.App:
    """frames.unique -> faces, one count per camera."""
    app = apps.create("second", settings)

    async def turn(states, works):
        for work in works:
            before = states.get(work.key, Count())
            states[work.key] = after = fold(before, work)
            if after.seen > before.seen:
                work.send("faces", work.key, answer(work.message, after))

    delivery.attach(app, settings, stage="second", source="frames.unique", turn=turn, state=Count, **options)
    return app


def answer(frame: Frame, count: Count) -> Faces:
    return Faces(
        frame.camera, frame.at, frame.id, frame.site, gone=(count.sum, frame.digest.decode()), ledger=frame.ledger
    )


def expected(frames: list[Frame]) -> dict[str, Faces]:
    """What `faces` must hold for frames given in order of time, by frame id."""
    from types import SimpleNamespace

    one: dict[str, Count] = {}
    two: dict[str, Count] = {}
    out = {}
    for frame in frames:
        work = SimpleNamespace(message=frame, offset=0)
        one[frame.camera] = fold(one.get(frame.camera, Count()), work)
        kept = Frame(
            frame.camera, frame.at, digest=one[frame.camera].sum.encode(), ledger=Ledger(seen=one[frame.camera].seen)
        )
        two[frame.camera] = fold(two.get(frame.camera, Count()), SimpleNamespace(message=kept, offset=0))
        out[frame.id] = answer(kept, two[frame.camera])
    return out


if __name__ == "__main__":
    import logging

    from agents import topology

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    chosen = Settings()
    builders = {"first": first, "second": second}
    asyncio.run(topology.run([builders[name](chosen) for name in sys.argv[1:] or builders]))
