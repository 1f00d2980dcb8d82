"""A compliance lead's day on the dashboard: a real system, a real browser, nothing pretended."""

from __future__ import annotations

import io
import re
import uuid
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from browsing import Stack, entered, until
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.kafka, pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(300)]


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
    # each is on the strip, and the one that is chosen there is chosen on the map and in the list
    marks = tell(page, "strip").locator('[data-test="strip-mark"]')
    expect(marks).to_have_count(tell(page, "match").count())
    marks.last.click()
    expect(marks.last).to_have_attribute("aria-pressed", "true")
    expect(page.locator('[data-test="match"].chosen')).to_be_in_viewport()
    expect(page.locator('[data-test^="found-"]').first).to_be_visible()
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


def fits(page: Page) -> list[str]:
    """What of the wall is out of the screen, or over something else."""
    return list(page.evaluate("""() => {
        const wrong = [], main = document.querySelector('main')
        if (main.scrollHeight > main.clientHeight || main.scrollWidth > main.clientWidth) wrong.push('the page scrolls')
        for (const tile of document.querySelectorAll('[data-test^="tile-"]')) {
            const name = tile.dataset.test, here = tile.getBoundingClientRect()
            if (here.bottom > innerHeight + 1 || here.right > innerWidth + 1) wrong.push(`${name} is out of the screen`)
            const shown = [...(tile.querySelector('.bar')?.children ?? [])].filter((one) => one.offsetWidth)
            const boxes = shown.map((one) => one.getBoundingClientRect()).sort((a, b) => a.left - b.left)
            boxes.forEach((one, i) => {
                if (one.right > here.right + 1) wrong.push(`${name}: a key is out of it`)
                if (i && one.left < boxes[i - 1].right - 1) wrong.push(`${name}: a key lies over another`)
            })
        }
        return wrong
    }"""))


@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, {"width": 820, "height": 1180}])
def test_a_wall_fits_its_screen(page: Page, size: Any) -> None:
    page.set_viewport_size(size)
    page.goto("/live")
    for many in (1, 4, 9, 16):
        tell(page, f"size-{many}").click()
        expect(page.locator('[data-test^="tile-"]')).to_have_count(many)
        until(lambda: not fits(page), 10)
    page.locator('[data-test="more"]').first.click()  # small tiles have their keys in a list
    page.get_by_role("menuitem", name="Show it alone").click()
    expect(page.locator('[data-test^="tile-"]')).to_have_count(1)
    tell(page, "back").click()
    expect(page.locator('[data-test^="tile-"]')).to_have_count(16)
    tell(page, "wall").click()
    expect(page.locator("nav.menu")).to_be_hidden()
    expect(page.locator('[data-test^="tile-"]')).to_have_count(3)  # on a wall nobody chooses: no empty places
    assert not fits(page)
    tell(page, "leave-wall").click()
    expect(page.locator("nav.menu")).to_be_visible()


def test_a_link_leads_where_it_says(page: Page) -> None:
    scrolled = "document.querySelector('main').scrollTop"
    page.goto("/live")
    tile = page.locator('[data-test^="tile-"]').filter(has=tell(page, "hour")).first
    tile.locator('[data-test="hour"]').click()
    expect(page).to_have_url(re.compile("/cameras/.*#hour$"))
    expect(tell(page, "scrub")).to_be_in_viewport(ratio=1)  # it lies below the fold of a page at its top
    far = page.evaluate(scrolled)
    assert far > 100
    page.get_by_role("link", name="Models").click()
    expect(page.locator("main h1")).to_have_text("Models")
    assert page.evaluate(scrolled) == 0  # another page begins at its top
    page.go_back()
    until(lambda: abs(page.evaluate(scrolled) - far) < 60, 20)  # and one that is gone back to, where it was left
    page.goto("/map")
    tell(page, "camera-demo-ward").click()
    page.get_by_role("link", name="Live video", exact=True).last.click()
    expect(page).to_have_url(re.compile("/live[?]camera=demo-ward"))
    expect(page.locator('[data-test^="tile-"]')).to_have_count(1)
    expect(page.locator("main h1")).to_contain_text("Ward door")


def test_a_list_lies_under_its_box_on_a_wall_of_4k(page: Page) -> None:
    page.set_viewport_size({"width": 3840, "height": 2160})
    page.goto("/episodes")
    box = tell(page, "filter-camera")
    expect(box).to_be_visible()
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == 24
    box.click()
    shown = page.locator(".el-select__popper:visible")
    option = shown.get_by_role("option", name=re.compile("Ward door"))
    expect(option).to_be_visible()

    def lies_under() -> bool:
        where = box.bounding_box()
        drawn = shown.bounding_box()
        assert where
        return bool(drawn) and 0 <= drawn["y"] - where["y"] - where["height"] <= 40 and (  # type: ignore[index]
            abs(drawn["x"] - where["x"]) <= 40)  # type: ignore[index]

    until(lies_under, 10)
    option.click()
    expect(page).to_have_url(re.compile("camera=demo-ward"))


def test_a_privacy_area_is_drawn_and_black_from_then_on(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        def shade(x: float, y: float) -> int:
            answer = client.post("/v1/cameras/demo-ward/snapshot")
            assert answer.status_code == 200, answer.text
            seen = Image.open(io.BytesIO(answer.content)).convert("L")
            return int(seen.getpixel((int(x * seen.width), int(y * seen.height))))

        bright = shade(0.5, 0.35)
        assert bright > 60
        try:
            page.goto("/map")
            tell(page, "camera-demo-ward").click()
            tell(page, "draw-hidden").click()
            picture = tell(page, "draw-picture")
            expect(picture.locator("image")).to_have_count(1)
            box = picture.bounding_box()
            assert box

            def at(x: float, y: float) -> tuple[float, float]:
                return box["x"] + x * box["width"], box["y"] + y * box["height"]  # type: ignore[index]

            for corner in ((0.3, 0.2), (0.7, 0.2), (0.7, 0.3), (0.5, 0.9), (0.3, 0.6)):
                page.mouse.click(*at(*corner))
            corners = picture.locator("circle")
            expect(corners).to_have_count(5)
            corners.nth(3).dblclick()  # that one was a mistake
            expect(corners).to_have_count(4)
            page.mouse.move(*at(0.7, 0.3))  # and this one lies too high
            page.mouse.down()
            page.mouse.move(*at(0.7, 0.6), steps=4)
            page.mouse.up()
            tell(page, "undo").click()
            tell(page, "redo").click()
            tell(page, "save-drawing").click()
            expect(picture).to_have_count(0)
            (drawn,) = client.get("/v1/cameras/demo-ward").json()["hidden"]
            assert [[round(value, 1) for value in corner] for corner in drawn] == [
                [0.3, 0.2], [0.7, 0.2], [0.7, 0.6], [0.3, 0.6]]
            until(lambda: shade(0.5, 0.35) < 12, 30)
            assert shade(0.1, 0.35) > 30
            page.goto("/live?camera=demo-ward")  # whoever watches is told why the film is another
            expect(tell(page, "how")).to_contain_text("encoded anew: privacy areas", timeout=60_000)
        finally:
            assert client.put("/v1/cameras/demo-ward/hidden", json={"areas": []}).status_code == 200
