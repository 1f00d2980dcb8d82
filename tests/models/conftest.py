"""The models, loaded once for the whole run."""

from __future__ import annotations

import pytest

from models import registry
from pipeline.settings import Settings


@pytest.fixture(scope="session")
def models(weights: Settings) -> registry.Models:
    return registry.load(weights)


