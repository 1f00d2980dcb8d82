"""A worker with models that need no weights: `python tests/agents/worker.py [STAGE …]`, all but capture for none."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import scenes

from agents import dedup, embed, mask, topology, trajectory
from pipeline.settings import Settings


def services(settings: Settings, stages: list[str]) -> list:
    builders = {
        "dedup": lambda: dedup.build(settings),
        "mask": lambda: mask.build(settings, scenes.Models()),
        "embed": lambda: embed.build(settings, scenes.Models()),
        "trajectory": lambda: trajectory.build(settings),
    }
    return [builders[stage]() for stage in stages or builders]


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(topology.run(services(Settings(), sys.argv[1:])))
