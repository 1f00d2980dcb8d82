"""The weights as set-up leaves them: in the checkout's data folder, or the test is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import registry
from models.fetch import missing
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def weights() -> Settings:
    """Settings whose data folder holds the weights (`make test` fetches them first)."""
    settings = Settings(data=ROOT / "data")
    if missing(settings.data / "models"):
        pytest.skip("the weights are not here: maskwatch models fetch")
    return settings


@pytest.fixture(scope="session")
def models(weights: Settings) -> registry.Models:
    return registry.load(weights)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the checkout; not part of the product."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no development data here")
    return folder
