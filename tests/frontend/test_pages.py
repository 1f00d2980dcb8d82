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
         "/requests", "/alerts", "/sites", "/users", "/audit", "/stream", "/models", "/settings", "/me",
         "/cameras/demo-entrance"]
LANGUAGES = {"en": "en-US", "zh-CN": "zh-CN"}
SERIOUS = ("serious", "critical")


def settled(page: Page) -> None:
    """What was asked for is there: nothing waits any more."""
    expect(page.locator("main h1, main h2").first).to_be_visible()
    expect(page.locator(".el-skeleton")).to_have_count(0)


# texts that name the folder of this very run, as the settings do
NAMELESS = """(folder) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, 'data')
}"""


def kept_small(page: Page, to: Path, stack: Stack) -> None:
    """The page as it looks, faces left out: a document is read by more people than may see them."""
    page.add_style_tag(content='img[src^="/v1/"], video { filter: blur(7px) }')
    page.wait_for_timeout(3_000)
    page.evaluate(NAMELESS, str(stack.data))
    image = Image.open(io.BytesIO(page.screenshot()))
    image.resize((1120, 700), Image.Resampling.LANCZOS).save(to, quality=60, method=6)


def violations(page: Page) -> list[str]:
    """What a screen reader or a keyboard cannot use, by axe."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url}: {one['id']}: {one['help']}: {one['nodes'][0]['html'][:160]} ({len(one['nodes'])}; "
        f"{' '.join(one['nodes'][0].get('failureSummary', '').split())[:200]})"
        for one in found["violations"] if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_shows_and_is_usable(chromium: Any, stack: Stack, language: str, theme: str) -> None:
    context = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800},
                                   locale=LANGUAGES[language], color_scheme=theme, reduced_motion="reduce")
    faults: list[str] = []
    try:
        page = context.new_page()
        page.goto("/login")
        page.wait_for_selector("#name")
        faults += violations(page)
        page.close()
        page = entered(context, stack)
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on("console", lambda said: said.type == "error" and faults.append(f"{page.url}: {said.text}"))
        for path in PAGES:
            page.goto(path)
            settled(page)
            assert page.locator("html").get_attribute("lang") == language
            assert ("dark" in (page.locator("html").get_attribute("class") or "")) == (theme == "dark")
            if kept := os.environ.get("SCREENSHOTS"):  # the pictures of docs/dashboard/
                name = path.split("/")[1].replace("cameras", "camera") or "overview"
                kept_small(page, Path(kept) / f"{name}-{language}-{theme}.webp", stack)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{path}: {wide} px wider than the screen")
            faults += violations(page)
    finally:
        context.close()
    assert not faults, "\n".join(faults)


# when the big screen's figures are there, which is before its charts are
DRAWN = """new MutationObserver(() => {
  const there = document.querySelector('[data-test=in-view]') && document.querySelector('tr[data-test^=camera-]')
  if (there && !window.drawn) window.drawn = performance.now()
}).observe(document, { childList: true, subtree: true })"""
SCRIPTS = """performance.getEntriesByType('resource').filter((one) => new URL(one.name).pathname.endsWith('.js'))
  .map((one) => ({ name: one.name, bytes: one.encodedBodySize, late: one.startTime > window.drawn }))"""


def test_the_first_view_is_light_and_nothing_comes_from_elsewhere(chromium: Any, stack: Stack) -> None:
    context = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800}, locale="en-US")
    try:
        context.add_init_script(DRAWN)
        addresses: set[str] = set()
        context.on("request", lambda request: addresses.add(request.url))
        page = entered(context, stack)
        page.wait_for_function("window.drawn")
        expect(page.locator(".trend canvas")).to_be_visible()  # what comes after it came
        scripts = page.evaluate(SCRIPTS)
        first = sum(one["bytes"] for one in scripts if not one["late"])
        later = sum(one["bytes"] for one in scripts if one["late"])
        print(f"{first} bytes of script over the wire until the first view is drawn, {later} after it")
        assert 0 < first <= 350_000, [(one["bytes"], one["name"]) for one in scripts if not one["late"]]
        assert later > 50_000  # the charts
        assert all(one.startswith((stack.url, "data:", "blob:")) for one in addresses), addresses
    finally:
        context.close()
