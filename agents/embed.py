"""faces -> faces.embedded, no state; keyed by site from here on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from agents.app import App, create
from agents.delivery import States, Work, attach
from pipeline import embed, flow
from pipeline.settings import Settings


def build(settings: Settings, models: flow.Models | None = None) -> App:
    """The stage's app, ready to start. Without `models` the ones of the data folder are loaded."""
    if models is None:
        from models import registry

        models = registry.load(settings)
    vectors, names = models.embed, models.embed_names
    app = create("embed", settings)
    threads = ThreadPoolExecutor(settings.cores, "embed")

    async def turn(states: States, works: Sequence[Work]) -> None:
        loop = asyncio.get_running_loop()
        done = await asyncio.gather(*(
            loop.run_in_executor(threads, embed.step, work.message, vectors, names) for work in works))
        for work, faces in zip(works, done, strict=True):
            work.send("faces.embedded", faces.site, faces)

    attach(app, settings, stage="embed", source="faces", turn=turn)
    return app
