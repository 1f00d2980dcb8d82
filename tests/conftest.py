"""What every test may ask for: a real broker, settings of its own on it, its topics; and the order of the suite."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from infra.local.kafka import Kafka
from pipeline.settings import Settings

ROOT = Path(__file__).parents[1]

# A developer's own settings must not change what the tests see.
for name in [name for name in os.environ if name.startswith("MASKWATCH_")]:
    del os.environ[name]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Where two processes share the suite (`make test`), a file's tests stay together, since they share what was
    started for them; those of the dashboard all share one system."""

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/frontend" if nodeid.startswith("tests/frontend/") else nodeid.split("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick ones first, so that most faults are seen within seconds, and of the slow ones the dashboard's, which
    take longest; whatever uses the broker is marked so."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")

    def order(item: pytest.Item) -> tuple[bool, bool, bool, bool, bool]:
        marks = {mark.name for mark in item.iter_markers()}
        slow = "slow" in marks
        return (slow, slow and "frontend" not in item.path.parts, "kafka" in marks, "models" in marks,
                "pipeline" not in item.path.parts)

    items.sort(key=order)  # stable: within a group the order of the files stays


# What may be missing where the suite runs for the project: everything else `make test` has installed or fetched.
ALLOWED = "no development data here"
_left_out: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and ALLOWED not in str(report.longrepr):
        _left_out.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") and _left_out:
        terminalreporter.write_line(f"skipped although CI is set: {', '.join(_left_out)}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skip says on a developer's machine what it lacks; in CI it would hide that nothing was tested."""
    if os.environ.get("CI") and _left_out and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def weights() -> Settings:
    """Settings whose data folder holds the weights (`make test` fetches them first)."""
    from models.fetch import missing

    settings = Settings(data=ROOT / "data")
    if missing(settings.data / "models"):
        pytest.skip("the weights are not here: maskwatch models fetch")
    return settings


@pytest.fixture(scope="session")
def demo() -> Path:
    """The folder of the rendered site; the first time it is rendered, which takes half a minute."""
    from infra.demo import portraits, site

    folder = ROOT / "data" / "demo"
    portraits.fetch(folder / "pictures")
    site.render(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the checkout; not part of the product."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(ALLOWED)
    return folder


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker, shared by the whole run: keep apart by `settings.topic_prefix`."""
    broker = Kafka(tmp_path_factory.mktemp("broker"))
    broker.start()
    try:
        yield broker.ready().bootstrap
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def settings_in(kafka: str) -> Callable[[Path], AbstractContextManager[Settings]]:
    """Settings with a prefix nobody else has and a data folder of their own; their topics go in the end."""

    @contextmanager
    def own(folder: Path) -> Iterator[Settings]:
        made = Settings(kafka=kafka, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", data=folder / "data", log="warning")
        yield made
        from agents.topics import admin

        with admin(made) as client:
            left = [topic for topic in client.list_topics() if topic.startswith(made.topic_prefix)]
            if left:
                client.delete_topics(left)

    return own


@pytest.fixture
def settings(settings_in: Callable[[Path], AbstractContextManager[Settings]], tmp_path: Path) -> Iterator[Settings]:
    """Those of one test."""
    with settings_in(tmp_path) as own:
        yield own


@pytest.fixture
def topics(settings: Settings) -> Settings:
    """The same settings, with every topic of topics.yaml there."""
    from agents.topics import apply

    apply(settings)
    return settings
