"""Whether a replay waits: asked every second by a process that idles, so this imports next to nothing."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, text

TURN = 1.0  # seconds between two looks
LEASE = timedelta(seconds=15)  # without a sign of life, after which a worker counts as dead


def waits(engine: Engine) -> bool:
    """A run that nobody has begun, or one whose worker has gone silent."""
    with engine.connect() as connection:
        return bool(connection.scalar(text(
            "select exists (select from replays where state = 'waiting' "
            "or (state = 'running' and (beat is null or beat < now() - :lease)))"), {"lease": LEASE}))
