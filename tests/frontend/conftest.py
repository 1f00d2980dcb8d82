"""The whole system as `make run` starts it, and Debian's Chromium looking at its dashboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Stack, entered
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from infra.local import process
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
expect.set_options(timeout=30_000)  # two cores do all of it: cameras, models, database and the browser
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, weights: Settings, demo: Path) -> Iterator[Stack]:
    """`maskwatch up --demo` with a data folder and ports of its own."""
    if not (ROOT / "frontend/dist/index.html").exists():
        pytest.fail("expected the built dashboard: `make dashboard`")
    if url := os.environ.get("STACK_URL"):  # one that runs already: for whoever writes these tests
        yield Stack(url, os.environ["STACK_PASSWORD"], Path())
        return
    data = tmp_path_factory.mktemp("stack")
    (data / "models").symlink_to(weights.data.resolve() / "models")
    (data / "demo").symlink_to(demo.resolve())
    env = os.environ | {"MASKWATCH_DATA": str(data), "MASKWATCH_CAMERA_FILES": "true"} | {
        f"MASKWATCH_{name}": str(process.free_port())
        for name in ("PORT", "KAFKA_PORT", "POSTGRES_PORT", "VECTORS_PORT")
    }

    def maskwatch(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "cli.main", *words], env=env, cwd=data, capture_output=True,
                              text=True, timeout=280)

    up = maskwatch("up", "--demo", "--detach")
    try:
        assert up.returncode == 0, up.stderr
        password = (data / "first-login.txt").read_text().split()[1]
        yield Stack(f"http://127.0.0.1:{env['MASKWATCH_PORT']}", password, data)
    finally:
        maskwatch("down")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Of a module, not of the whole run: while Playwright is there its loop runs, and no asynchronous test may."""
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail("expected Debian's chromium (infra/apt-test.txt)")
        pytest.skip("no chromium here (infra/apt-test.txt)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, stack: Stack) -> Iterator[BrowserContext]:
    made = chromium.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900}, locale="en-US")
    made.set_default_timeout(30_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, stack: Stack) -> Page:
    """The dashboard with the first user logged in."""
    return entered(context, stack)
