"""Faust's recovery loses messages as it comes, and does not when corrected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agents import recovery
from pipeline.settings import Settings

TAKEOVER = Path(__file__).with_name("takeover.py")
MESSAGES = 200


def seen(mode: str, race: str, settings: Settings) -> set[int]:
    """The offsets an agent sees when the race happens."""
    prefix = f"{settings.topic_prefix}{mode}.{race}."
    command = [sys.executable, str(TAKEOVER), mode, race, settings.kafka, prefix]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("race", ["empty", "seek"])
def test_nothing_is_lost_when_corrected(settings: Settings, race: str) -> None:
    assert seen("corrected", race, settings) == set(range(MESSAGES))


@pytest.mark.parametrize("race", ["empty", "seek"])
def test_messages_are_lost_without_the_correction(settings: Settings, race: str) -> None:
    """When this fails, Faust has mended it, and agents/recovery.py may go."""
    assert set(range(MESSAGES)) - seen("bare", race, settings)


def test_another_version_is_refused() -> None:
    installed = recovery.PINNED | {"faust-streaming": "0.15.4"}
    with pytest.raises(recovery.WrongVersion, match=r"faust-streaming is 0\.15\.4, expected 0\.15\.3"):
        recovery.check(installed)
    recovery.check()
