"""Every page in both languages and themes: it shows, complains of nothing, and a screen reader can use it."""

from __future__ import annotations

import io
import os
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsing import Stack, entered, until
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.kafka, pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

View = tuple[str, str, Callable[[Page], None]]  # its picture's name, its address, and what one does there

AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
PAGES = ["/", "/live", "/map", "/compliance", "/episodes", "/people", "/search", "/inspections", "/replays",
         "/requests", "/alerts", "/sites", "/users", "/audit", "/stream", "/models", "/settings", "/me",
         "/cameras/demo-entrance"]
LANGUAGES = {"en": "en-US", "zh-CN": "zh-CN"}
SERIOUS = ("serious", "critical")
DETAILED = (("en", "light"), ("zh-CN", "dark"))  # both languages, both themes


def settled(page: Page) -> None:
    """What was asked for is there: nothing waits any more."""
    expect(page.locator("main h1, main h2").first).to_be_visible()
    expect(page.locator(".el-skeleton")).to_have_count(0)


# what moved by itself while the page came; a new document begins at nothing
SHIFTS = """window.shift = 0
window.shifted = []
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) {
    window.shift += one.value
    for (const { node } of one.sources)
      window.shifted.push(`${one.value.toFixed(3)} ${(node?.outerHTML ?? '').slice(0, 80)}`)
  }
}).observe({ type: 'layout-shift', buffered: true })"""
MOST = 0.1  # of layout shift: up to here the web vitals call a page good

# texts that name a folder of this machine, as the settings do
NAMELESS = r"""() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const text = texts.currentNode
    text.data = text.data.replace(/(^|[\s=:])\/(?:tmp|home|root|var|work|usr|opt|private)\/[^\s,;]*/g, '$1data')
  }
}"""
# of the wall of a film, too: its boxes lie on a canvas of their own
FACELESS = """img[src^="/v1/"]:not([src^="/v1/plans"]), img[src^="blob:"], video, svg.points image {
  filter: blur(7px) }"""
LARGEST = 60_000  # bytes of a picture
WIDE = {"overview-en-light": {"width": 1440, "height": 900}}  # the one of the README


def kept(page: Page, name: str) -> None:
    """The page as it looks, for docs/dashboard/: faces left out, as a document is read by more people than may see
    them."""
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return
    if name in WIDE:
        page.set_viewport_size(WIDE[name])
    page.add_style_tag(content=FACELESS)
    page.wait_for_timeout(3_000)
    page.evaluate(NAMELESS)
    image = Image.open(io.BytesIO(page.screenshot()))
    for quality in range(86, 20, -6):
        image.save(written := io.BytesIO(), "webp", quality=quality, method=6)
        if written.tell() <= LARGEST:
            break
    (Path(folder) / f"{name}.webp").write_bytes(written.getvalue())
    page.set_viewport_size({"width": 1280, "height": 800})


def violations(page: Page) -> list[str]:
    """What a screen reader or a keyboard cannot use, by axe."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url}: {one['id']}: {one['help']}: {one['nodes'][0]['html'][:160]} ({len(one['nodes'])}; "
        f"{' '.join(one['nodes'][0].get('failureSummary', '').split())[:200]})"
        for one in found["violations"] if one["impact"] in SERIOUS
    ]


@pytest.fixture(scope="module")
def details(stack: Stack) -> list[View]:
    """Views within pages: of one thing, drawn upon, on a wall, with the chat. What they show is made once."""
    def tell(name: str) -> str:
        return f'[data-test="{name}"]'

    with stack.client() as client:
        def find(path: str, fits: Callable[[Any], bool] = lambda one: True, **query: Any) -> Any:
            return until(lambda: next((one for one in client.get(path, params={"limit": 100} | query).json()["items"]
                                       if fits(one)), None), 180)

        def made(answer: Any) -> Any:
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        now = time.time_ns() // 1000
        replay = made(client.post("/v1/replays", json={
            "name": "One look less", "cameras": ["demo-entrance"], "settings": {"grace": 20}, "since": now - 60_000_000,
            "until": now - 5_000_000}))["id"]
        round_ = str(uuid.uuid4())
        made(client.put(f"/v1/inspections/{round_}", json={"site": "demo", "at": now - 90_000_000, "sent": now}))
        made(client.post(f"/v1/inspections/{round_}/points", json={"points": [
            {"id": str(uuid.uuid4()), "at": now - 80_000_000 + step * 4_000_000, "east": 2 + step * 0.9, "north": 2.5}
            for step in range(16)]}))
        seen = client.post("/v1/cameras/demo-corridor/snapshot")
        made(client.post(f"/v1/inspections/{round_}/photos/{uuid.uuid4()}", data={"taken": now - 20_000_000},
                         files={"picture": ("p.jpg", seen.content)}))
        person = made(client.post("/v1/people", json={"name": "Somebody", "site": "demo", "consent": {
            "version": "1", "text": "I agree.", "given": "2026-01-01T00:00:00Z"}}))["id"]
        episode = quote(find("/v1/episodes", status="closed")["id"], safe="")
        route = quote(find("/v1/trajectories", lambda one: len(set(one["cameras"])) > 1)["id"], safe="")
        until(lambda: client.get(f"/v1/replays/{replay}").json()["state"] == "done", 180)

    def draw(page: Page) -> None:
        page.click(tell("camera-demo-entrance"))
        page.click(tell("draw-zones"))
        expect(page.locator(f"{tell('draw-picture')} image")).to_have_count(1)
        page.click(tell("new-shape"))
        for x, y in ((200, 120), (420, 120), (460, 320), (180, 320)):
            page.locator(tell("draw-picture")).click(position={"x": x, "y": y})
        expect(page.locator(f"{tell('draw-picture')} circle")).to_have_count(4)

    def talk(page: Page) -> None:
        page.locator("header .el-badge button").click()
        page.click(f"{tell('chat-entry-site')} >> nth=0")
        expect(page.locator(tell("chat-text"))).to_be_visible()

    return [
        ("episode", f"/episodes/{episode}", lambda page: expect(page.locator(tell("film"))).to_be_visible()),
        ("person", f"/people/{person}", lambda page: expect(page.get_by_text("Somebody").first).to_be_visible()),
        ("inspection", f"/inspections/{round_}",
         lambda page: expect(page.locator(tell("inspection-photo")).first).to_be_visible()),
        ("replay", f"/replays/{replay}", lambda page: expect(page.locator(tell("totals"))).to_be_visible()),
        ("route", f"/map?trajectory={route}",
         lambda page: expect(page.locator(f"{tell('route-steps')} li").first).to_be_visible()),
        ("drawing", "/map", draw),
        ("chat", "/compliance", talk),
        ("wall", "/?wall=1",
         lambda page: expect(page.locator(tell("clock"))).to_have_text(re.compile(r"\d:\d\d:\d\d"))),
        ("live-wall", "/live?wall=1", lambda page: expect(page.locator("nav.menu")).to_be_hidden()),
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_shows_and_is_usable(chromium: Any, stack: Stack, details: list[View], language: str, theme: str
                                        ) -> None:
    context = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800},
                                   locale=LANGUAGES[language], color_scheme=theme, reduced_motion="reduce")
    context.add_init_script(SHIFTS)
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
            name = path.split("/")[1].replace("cameras", "camera") or "overview"
            kept(page, f"{name}-{language}-{theme}")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{path}: {wide} px wider than the screen")
            faults += violations(page)
            if (moved := page.evaluate("window.shift")) >= MOST:
                faults.append(f"{path}: what is on it moves by {moved:.2f} while it comes, {MOST} at most: "
                              f"{sorted(page.evaluate('window.shifted'))[-5:]}")
        for name, path, act in details if (language, theme) in DETAILED else ():
            page.goto(path)
            settled(page)
            act(page)
            kept(page, f"{name}-{language}-{theme}")
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
