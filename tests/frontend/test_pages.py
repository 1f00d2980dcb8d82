"""Every page in both languages and themes: it shows, complains of nothing, and a screen reader can use it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from browsing import Stack, entered
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.kafka, pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
PAGES = ["/", "/live", "/map", "/compliance", "/episodes", "/people", "/search", "/inspections", "/replays",
         "/requests", "/alerts", "/sites", "/users", "/audit", "/stream", "/models", "/settings", "/me"]
LANGUAGES = {"en": "en-US", "zh-CN": "zh-CN"}
SERIOUS = ("serious", "critical")


def settled(page: Page) -> None:
    """What was asked for is there: nothing waits any more."""
    expect(page.locator("main h1, main h2").first).to_be_visible()
    expect(page.locator(".el-skeleton")).to_have_count(0)


def kept_small(page: Page, to: Path) -> None:
    """The page as it looks, faces left out: a document is read by more people than may see them."""
    page.add_style_tag(content='img[src^="/v1/"] { filter: blur(7px) }')
    page.wait_for_timeout(3_000)
    image = Image.open(io.BytesIO(page.screenshot()))
    image.resize((800, 500), Image.Resampling.LANCZOS).save(to, quality=62, method=6)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_shows_and_is_usable(chromium: Any, stack: Stack, language: str, theme: str) -> None:
    context = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800},
                                   locale=LANGUAGES[language], color_scheme=theme, reduced_motion="reduce")
    faults: list[str] = []
    try:
        page = entered(context, stack)
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on("console", lambda said: said.type == "error" and faults.append(f"{page.url}: {said.text}"))
        for path in PAGES:
            page.goto(path)
            settled(page)
            assert page.locator("html").get_attribute("lang") == language
            assert ("dark" in (page.locator("html").get_attribute("class") or "")) == (theme == "dark")
            if kept := os.environ.get("SCREENSHOTS"):  # the pictures of docs/dashboard/
                kept_small(page, Path(kept) / f"{path.strip('/') or 'overview'}-{language}-{theme}.webp")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{path}: {wide} px wider than the screen")
            page.evaluate(AXE.read_text())
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            faults += [
                f"{path}: {one['id']}: {one['help']}: {one['nodes'][0]['html'][:160]} ({len(one['nodes'])}; "
                f"{' '.join(one['nodes'][0].get('failureSummary', '').split())[:200]})"
                for one in found["violations"] if one["impact"] in SERIOUS
            ]
    finally:
        context.close()
    assert not faults, "\n".join(faults)


def test_the_first_view_is_light_and_nothing_comes_from_elsewhere(chromium: Any, stack: Stack) -> None:
    context = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800}, locale="en-US")
    try:
        page = context.new_page()
        client = context.new_cdp_session(page)
        client.send("Network.enable")
        sizes: dict[str, int] = {}
        kinds: dict[str, str] = {}
        addresses: set[str] = set()
        client.on("Network.responseReceived", lambda e: kinds.update({e["requestId"]: e["type"]}))
        client.on("Network.loadingFinished", lambda e: sizes.update({e["requestId"]: e["encodedDataLength"]}))
        page.on("request", lambda request: addresses.add(request.url))
        page.goto("/")
        page.wait_for_selector("#name")
        page.wait_for_load_state("networkidle")
        first = sum(size for one, size in sizes.items() if kinds.get(one) == "Script")
        assert 0 < first <= 350_000, f"{first} bytes of script before the login"
        assert all(one.startswith((stack.url, "data:", "blob:")) for one in addresses), addresses
    finally:
        context.close()
