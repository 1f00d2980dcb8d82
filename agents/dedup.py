"""frames -> frames.unique, one state per camera."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agents.app import App, create
from agents.delivery import States, Work, attach
from pipeline import dedup
from pipeline.settings import Settings


def build(settings: Settings) -> App:
    """The stage's app, ready to start."""
    app = create("dedup", settings)

    async def turn(states: States, works: Sequence[Work]) -> None:
        for work in works:
            message = msgspec.structs.replace(work.message, late=True) if work.redriven else work.message
            kept, frame = dedup.step(states.get(work.key), message, settings)
            if work.message.source != "inspection":  # a phone photo is always news, and nothing is kept of it
                states[work.key] = msgspec.structs.replace(kept, version=work.offset)
            if frame is not None:
                work.send("frames.unique", frame.camera, frame)

    attach(app, settings, stage="dedup", source="frames", turn=turn, state=dedup.Kept, batch=4 * settings.batch)
    return app
