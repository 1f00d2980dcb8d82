"""What the tests of the steps ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import scenes

from pipeline.messages import Frame
from pipeline.settings import Settings


@pytest.fixture
def plain() -> Settings:
    """Settings as they come, with no audit sample."""
    return Settings(audit=0.0)


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    return scenes.frame


@pytest.fixture
def make_walk() -> Callable[..., list[Frame]]:
    return scenes.walk
