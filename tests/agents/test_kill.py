"""Two workers under load are killed, one is stalled, the broker goes down: nothing is lost, nothing comes out wrong."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from bench import soak
from infra.local.kafka import Kafka
from pipeline.settings import Settings


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # kafka-python while the broker is away
def test_nothing_is_lost_or_wrong_whoever_dies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedded = Kafka(tmp_path)
    embedded.start()
    embedded.ready()
    # the shortest session the broker allows: the events follow each other faster
    settings = Settings(
        kafka=embedded.bootstrap, data=tmp_path, topic_prefix=f"kill{uuid.uuid4().hex[:6]}.",
        session=6.0, heartbeat=1.0, rebalance=8.0,
    )  # fmt: skip
    events = ["kill", "stall", "kill", "broker", "kill"]
    try:
        verdict = soak.run(soak.stages(), settings, embedded, events, tmp_path, down=(4.0,), say=lambda line: None)
    finally:
        embedded.stop()
    with capsys.disabled():
        print(f"\n{verdict}")
    assert verdict.frames > 500
    assert (verdict.lost, verdict.wrong, verdict.unaccounted, verdict.different, verdict.deaths) == (0, 0, 0, 0, 0)
    # a dead worker's cameras are at work elsewhere within 15 s; so they are when the broker is back
    assert max(verdict.camera_silences["kill"]) < 15
    assert verdict.silences["broker"][0] < 20
