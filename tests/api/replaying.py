"""A worker of replays in a process of its own, with models that need no weights and take their time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import scenes

from api import db
from api.replays import Replaying
from pipeline.settings import Settings

settings = Settings()
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())


def slow(*_: Any) -> scenes.Models:
    models = scenes.Models()
    look = models.look

    def looks(picture: Any) -> Any:
        time.sleep(float(os.environ["SLOW"]))
        return look(picture)

    models.look = looks  # type: ignore[assignment]
    return models


engine = db.connect(settings, pool=3)
Replaying(settings, db.sessions(engine), slow).run(stop)
engine.dispose()
sys.exit(0)
