"""A compliance lead's day on the dashboard: a real system, a real browser, nothing pretended."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from browsing import Stack, entered
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.kafka, pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(300)]


def until(look: Callable[[], Any], seconds: float = 90) -> Any:
    """The first true answer; a demo person needs a while from camera to camera."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, "nothing came"
        time.sleep(0.5)
    return found


def tell(page: Page, name: str) -> Any:
    return page.locator(f'[data-test="{name}"]')


def test_the_numbers_move_by_themselves(page: Page) -> None:
    expect(tell(page, "overview")).to_be_visible()
    assert page.title() == "Big screen · Maskwatch"
    shown = {tell(page, "in-view").inner_text()}
    until(lambda: len(shown) > 2 or shown.add(tell(page, "in-view").inner_text()))
    expect(tell(page, "live-state")).to_have_class(re.compile(r"\blive\b"))
    # the page was opened before anybody had logged in, and not again since
    page.get_by_role("combobox", name="Site").click()
    expect(page.get_by_role("option", name=re.compile("Demo"))).to_be_visible()


def test_a_wrong_password_and_a_page_behind_the_login(context: BrowserContext, stack: Stack) -> None:
    page = context.new_page()
    page.goto("/episodes?state=none")
    expect(page).to_have_url(re.compile(r"/login\?to=/episodes"))
    page.fill("#name", "admin")
    page.fill("#password", "wrong")
    page.click("button[type=submit]")
    expect(page.get_by_role("alert")).to_have_text("Name or password is wrong")
    page.fill("#password", stack.password)
    page.click("button[type=submit]")
    expect(page).to_have_url(re.compile(r"/episodes\?.*state=none"))


def test_live_video_plays_and_its_source_is_switched(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        corridor, ward = (client.get(f"/v1/cameras/demo-{name}").json()["sources"] for name in ("corridor", "ward"))
        both = {"sources": [*corridor[:1], {"url": ward[0]["url"], "kind": "sub", "width": ward[0]["width"]}]}
        assert client.patch("/v1/cameras/demo-corridor", json=both).status_code == 200
        try:
            page.goto("/live")
            tile = page.locator('[data-test^="tile-"]').filter(has=tell(page, "source")).first
            expect(tile.locator('[data-test="player"]')).to_have_attribute("data-phase", "playing", timeout=60_000)
            frames = "v => v.getVideoPlaybackQuality().totalVideoFrames"
            video = tile.locator("video")
            before = video.evaluate(frames)
            until(lambda: video.evaluate(frames) > before + 10)
            tell(page, "source").first.click()
            # a list of URLs filled by an event would stay empty: events come only while Playwright is being called
            with page.expect_websocket(lambda socket: "demo-corridor" in socket.url and "source=1" in socket.url):
                page.get_by_role("option", name=re.compile("· 2$")).click()
            expect(tile.locator('[data-test="player"]')).to_have_attribute("data-phase", "playing", timeout=60_000)
            before = video.evaluate(frames)
            until(lambda: video.evaluate(frames) > before + 10 or video.evaluate(frames) < before)
            with page.expect_download() as kept:
                tile.locator('[data-test="snapshot"]').click()
            assert kept.value.path().read_bytes()[:2] == b"\xff\xd8"
        finally:
            assert client.patch("/v1/cameras/demo-corridor", json={"sources": corridor[:1]}).status_code == 200


def test_somebody_is_followed_over_three_cameras_on_the_plan(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        def route() -> Any:
            items = client.get("/v1/trajectories", params={"limit": 100}).json()["items"]
            return next((one for one in items if len(set(one["cameras"])) == 3), None)

        whole = until(route, 180)
    page.goto(f"/map?trajectory={quote(whole['id'], safe='')}")
    steps = tell(page, "route-steps").locator("li")
    expect(steps.first).to_be_visible()
    for name in ("Entrance", "Corridor", "Ward door"):
        expect(tell(page, "route-steps")).to_contain_text(name)
    assert steps.locator(".inferred").count() >= 2  # between the cameras nobody saw them
    before = tell(page, "route-at").inner_text()
    tell(page, "play").click()
    expect(tell(page, "route-at")).not_to_have_text(before)


def test_a_face_is_searched_by_picture(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        def face() -> Any:
            items = client.get("/v1/sightings", params={"pictured": True, "state": "none", "limit": 50}).json()["items"]
            for one in items:
                whole = client.get(f"/v1/sightings/{quote(one['id'], safe='')}").json()
                for look in whole["faces"]:
                    picture = client.get(f"/v1/faces/{quote(look['id'], safe='')}/picture")
                    if picture.status_code == 200:
                        found = client.post("/v1/search/upload", files={"picture": ("a.jpg", picture.content)})
                        if found.status_code == 200 and found.json()["matches"]:
                            return picture.content
            return None

        picture = until(face, 120)
    page.goto("/search")
    page.set_input_files("input[type=file]", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture})
    expect(tell(page, "match").first).to_be_visible()
    first = tell(page, "chance").first.inner_text()
    assert float(first.strip("%").strip()) > 80
    expect(tell(page, "face").first).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Another picture").click()
    page.set_input_files("input[type=file]", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(page.get_by_text("Expected a JPEG, PNG or WebP picture, got text/plain")).to_be_visible()


def test_an_episode_is_looked_at_and_closed_with_what_was_done(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        episode = until(lambda: next((one for one in client.get(
            "/v1/episodes", params={"status": "closed", "review": "new"}).json()["items"]), None))
        page.goto(f"/episodes/{quote(episode['id'], safe='')}")
        expect(tell(page, "episode-detail")).to_be_visible()
        film = tell(page, "film")
        expect(film).to_be_visible()
        # the seconds around it really play: pictures are decoded
        frames = "v => v.getVideoPlaybackQuality().totalVideoFrames"
        tell(page, "play").click()
        until(lambda: film.evaluate(frames) > 3, 30)
        tell(page, "acknowledge").click()
        expect(tell(page, "review")).to_contain_text("Acknowledged")
        tell(page, "close").click()
        page.locator("input[name=action]").first.check()
        tell(page, "close-note").fill("A mask was handed out")
        tell(page, "close-confirm").click()
        expect(tell(page, "history")).to_contain_text("A mask was handed out")
        review = client.get(f"/v1/episodes/{quote(episode['id'], safe='')}").json()["episode"]["review"]
    assert review["status"] == "closed"


def test_a_request_is_made_by_one_and_granted_by_another(chromium: Any, page: Page, stack: Stack) -> None:
    name, password = f"lee-{uuid.uuid4().hex[:6]}", "a long pass phrase 1"
    words = f"I review the night shift, {name}"
    with stack.client() as client:
        made = client.post("/v1/users", json={"name": name, "password": password, "full_name": "Lee"})
        assert made.status_code == 201, made.text
        site = client.get("/v1/sites").json()["items"][0]["id"]
        given = client.post(f"/v1/users/{made.json()['id']}/grants", json={"role": "viewer", "site": site})
        assert given.status_code == 201, given.text
    theirs = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800}, locale="en-US")
    try:
        asking = entered(theirs, stack, name, password)
        expect(asking.get_by_role("link", name="Audit log")).to_have_count(0)
        asking.goto("/requests")
        tell(asking, "ask").click()
        tell(asking, "ask-role").click()
        asking.get_by_role("option", name=re.compile("reviewer", re.IGNORECASE)).click()
        asking.locator("textarea[data-test=ask-reason]").fill(words)
        tell(asking, "place-site").click()
        asking.get_by_role("option", name=re.compile("Demo")).last.click()
        tell(asking, "ask-send").click()
        page.goto("/requests")
        card = tell(page, "request").filter(has_text=words).first
        card.locator('[data-test="grant"]').click()
        tell(page, "grant-now").click()
        mine = tell(asking, "request").filter(has_text=words)
        expect(mine.locator('[data-test="request-state"]')).to_contain_text("Granted")
        # the right is there at once, without a new login
        expect(asking.get_by_role("link", name="Face search")).to_be_visible()
    finally:
        theirs.close()


def test_a_replay_is_run_and_its_difference_read(page: Page, stack: Stack) -> None:
    with stack.client() as client:  # a stretch with breaches in it
        until(lambda: len(client.get("/v1/episodes", params={"status": "closed"}).json()["items"]) >= 3, 180)
    page.goto("/replays")
    tell(page, "replay-new").click()
    tell(page, "replay-name").fill("without patience")
    tell(page, "last-2").click()
    page.get_by_text("Thresholds (0 changed)").click()
    tell(page, "set-grace").locator("input").fill("20")
    tell(page, "replay-start").click()
    expect(page).to_have_url(re.compile("/replays/."))
    expect(tell(page, "replay-state")).to_contain_text("Done", timeout=240_000)
    expect(tell(page, "totals")).to_be_visible()
    lost = until(lambda: tell(page, "count-lost").inner_text(), 30)
    assert int(lost) >= 1  # with 20 s of grace breaches are no longer there
    tell(page, "kind-lost").click()
    expect(tell(page, "difference").first).to_be_visible()


def test_two_people_talk_beside_any_page(chromium: Any, page: Page, stack: Stack) -> None:
    other = chromium.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800}, locale="zh-CN")
    try:
        second = entered(other, stack)
        for one in (page, second):
            one.locator('button[aria-expanded][aria-label="Chat"], button[aria-expanded][aria-label="聊天"]').click()
            tell(one, "chat-entry-site").first.click()
        said = f"Ward door again {uuid.uuid4().hex[:6]}"
        tell(page, "chat-text").fill(said)
        tell(page, "chat-send").click()
        expect(tell(second, "chat-message").filter(has_text=said)).to_be_visible()
        other.set_offline(True)
        other.set_offline(False)
        answer = f"I am there {uuid.uuid4().hex[:6]}"
        tell(second, "chat-text").fill(answer)
        tell(second, "chat-send").click()
        expect(tell(page, "chat-message").filter(has_text=answer)).to_have_count(1)
        page.goto("/map")  # the words are still there on another page
        page.locator('button[aria-label="Chat"]').click()
        tell(page, "chat-entry-site").first.click()
        expect(tell(page, "chat-message").filter(has_text=answer)).to_be_visible()
    finally:
        other.close()


def test_the_server_goes_and_comes_back(page: Page, stack: Stack) -> None:
    if not stack.data.name:
        pytest.skip("not our own system to stop")
    port = int(stack.url.rsplit(":", 1)[1])
    api = [each for each in psutil.process_iter(["cmdline", "environ"])
           if (each.info["environ"] or {}).get("MASKWATCH_PORT") == str(port)
           and (each.info["cmdline"] or [])[-1:] == ["api"]]
    assert api
    for each in api:
        each.kill()
    expect(tell(page, "live-state")).to_have_class(re.compile(r"\blost\b"))
    expect(tell(page, "old")).to_be_visible()
    # what was there stays, and looks like what it is
    rows = page.locator("tr[data-test^=camera-]")
    expect(page.locator("section.tiles")).to_have_class(re.compile(r"\bold\b"))
    assert float(page.locator("section.tiles").evaluate("one => getComputedStyle(one).opacity")) < 0.7
    assert rows.count() >= 3
    assert tell(page, "today").inner_text().strip()
    # `up` starts it again, the page finds it by itself, and the numbers move again
    expect(tell(page, "live-state")).to_have_class(re.compile(r"\blive\b"), timeout=90_000)
    expect(tell(page, "old")).to_have_count(0)
    shown = {tell(page, "in-view").inner_text()}
    until(lambda: len(shown) > 1 or shown.add(tell(page, "in-view").inner_text()))
    # figures alone that cannot be had anew do not take away those that are there
    page.route("**/v1/compliance/**", lambda route: route.abort())
    expect(tell(page, "old-notice").first).to_contain_text("could not be fetched anew")
    expect(page.get_by_text("That did not work")).to_have_count(0)
    expect(page.locator(".trend canvas")).to_be_visible()
    assert rows.count() >= 3
    page.unroute("**/v1/compliance/**")
    expect(tell(page, "old-notice")).to_have_count(0)
