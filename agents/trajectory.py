"""faces.embedded -> trajectories and episodes, one state per site.

A site's messages wait here, unacknowledged, until `trajectory.release` says that their turn has come; a worker that
dies gives them back to the broker, so what waits needs no state of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agents.app import App, create
from agents.delivery import States, Work, attach
from pipeline import trajectory
from pipeline.messages import Episode
from pipeline.settings import Settings


def build(settings: Settings) -> App:
    """The stage's app, ready to start."""
    app = create("trajectory", settings)
    waiting: dict[str, dict[tuple[str, int], Work]] = {}  # site -> (camera, at) -> work
    arrivals: dict[str, trajectory.Arrivals] = {}  # site -> when its messages were written to the log
    epoch = -1

    def fold(states: States, site: str) -> list[Work]:
        """Folds what can be folded of a site, and returns the works that are finished."""
        held = waiting[site]
        state = states.get(site)
        refused: list[Work] = []
        messages = [work.message for work in held.values()]
        for message in trajectory.release(state, messages, arrivals[site], settings):
            work = held[message.camera, message.at]
            try:
                state, outputs = trajectory.step(state, message, settings)
            except Exception as error:  # held from an earlier turn it may be, so the turn cannot tell whose fault it is
                work.refuse(error)
                refused.append(work)
                continue
            for output in outputs:
                topic = "episodes" if isinstance(output, Episode) else "trajectories"
                work.send(topic, output.site, output)
            states[site] = state
        known = [work for work in held.values() if trajectory.known(state, work.message)]
        return known + [work for work in refused if work not in known]

    async def turn(states: States, works: Sequence[Work]) -> list[Work]:
        nonlocal epoch
        if epoch != states.epoch:  # what was held came to another assignment of partitions: it comes again
            waiting.clear()
            arrivals.clear()
            epoch = states.epoch
        done: list[Work] = []
        for work in works:
            site = waiting.setdefault(work.key, {})
            arrivals.setdefault(work.key, trajectory.Arrivals()).hear(work.message.camera, work.at)
            twice = site.get((work.message.camera, work.message.at))
            if twice is None or twice is work:
                site[work.message.camera, work.message.at] = work
            else:
                done.append(work)  # the same message again: the first one stands for it
        for site in {work.key for work in works}:
            finished = await asyncio.to_thread(fold, states, site)
            for work in finished:
                del waiting[site][work.message.camera, work.message.at]
            done += finished
        return done

    attach(
        app, settings, stage="trajectory", source="faces.embedded", turn=turn, state=trajectory.Site,
        version=lambda site: site.version, seen=lambda site, work: trajectory.known(site, work.message),
        batch=4 * settings.batch,
    )
    return app
