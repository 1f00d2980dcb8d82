"""frames.unique -> faces, one state per camera; pictures are looked at side by side in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from agents.app import App, create
from agents.delivery import States, Work, attach
from pipeline import flow, mask
from pipeline.mask import Looks
from pipeline.pictures import Image
from pipeline.settings import Settings


def build(settings: Settings, models: flow.Models | None = None) -> App:
    """The stage's app, ready to start. Without `models` the ones of the data folder are loaded."""
    if models is None:
        from models import registry

        models = registry.load(settings)
    names = models.names
    app = create("mask", settings)
    threads = ThreadPoolExecutor(settings.cores, "mask")

    def fold(states: States, works: Sequence[Work], seen: Sequence[tuple[Image, Looks]]) -> None:
        for work, (picture, looks) in zip(works, seen, strict=True):
            message = msgspec.structs.replace(work.message, late=True) if work.redriven else work.message
            state, faces = mask.step(states.get(work.key), message, looks, picture, names, settings)
            if work.message.source != "inspection":  # a phone photo is looked at by itself
                states[work.key] = msgspec.structs.replace(state, version=work.offset)
            if faces is not None:
                work.send("faces", faces.camera, faces)

    async def turn(states: States, works: Sequence[Work]) -> None:
        loop = asyncio.get_running_loop()
        looks = [loop.run_in_executor(threads, flow.look, work.message, models) for work in works]
        seen = await asyncio.gather(*looks)
        await loop.run_in_executor(threads, fold, states, works, seen)

    attach(app, settings, stage="mask", source="frames.unique", turn=turn, state=mask.Seen)
    return app
