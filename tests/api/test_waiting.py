"""Those who wait for a model's turn do not hold up those who only read; pictures are decoded a few at a time."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scenes
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient
from PIL import Image
from world import photo

from api import app as made
from api import uploads, waiting
from api.problems import Problem
from api.sight import Sight
from pipeline.pictures import encode
from pipeline.settings import Settings


class Slow(scenes.Models):
    """Looks when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.looking, self.go = threading.Semaphore(0), threading.Event()
        look = self.look

        def later(image: Any) -> Any:
            self.looking.release()
            assert self.go.wait(60)
            return look(image)

        self.look = later


def test_whoever_reads_does_not_wait_for_those_who_wait(as_: Any, tables: Settings) -> None:
    admin, models = as_("admin"), Slow()
    admin.app.state["sight"] = Sight(tables, models)
    body = {"picture": base64.b64encode(photo()).decode()}

    def ask(number: int) -> int:
        if number % 4:
            return int(admin.post("/v1/search", json=body).status_code)
        return int(admin.post("/v1/analyse", json={"pictures": [body["picture"]]}).status_code)

    with ThreadPoolExecutor(2 * made.AT_ONCE) as threads:
        slow = [threads.submit(ask, number) for number in range(made.AT_ONCE + 8)]
        try:
            assert models.looking.acquire(timeout=20)
            # one after the other, so that all the slow ones are under way at some of them
            quick = [threads.submit(admin.get, "/v1/sites").result(10).status_code for _ in range(20)]
            assert not any(each.done() for each in slow)
        finally:
            models.go.set()
        assert quick == [200] * 20
        assert [each.result(60) for each in slow] == [200] * len(slow)


def test_what_waits_for_others_says_so(app: TestClient[Any]) -> None:
    found = []
    for route in app.app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and getattr(handler.fn, "waits", False):
                found += [f"{method} {route.path}" for method in handler.http_methods]
    assert set(WAITING) - set(found) == set()


# Models, cameras, and other servers: a handler that asks one of these is here.
WAITING = [
    "GET /v1/login/oidc", "GET /v1/login/oidc/callback", "POST /v1/me/oidc", "POST /v1/analyse",
    "POST /v1/analyse/upload", "POST /v1/cameras/test", "POST /v1/cameras/{camera:str}/snapshot",
    "POST /v1/cameras/{camera:str}/test",
    "POST /v1/chat/rooms/{room:str}/pictures", "POST /v1/faces/compare", "POST /v1/faces/compare/upload",
    "POST /v1/inspections/{id:uuid}/photos/{photo:uuid}", "POST /v1/login/wechat", "POST /v1/me/wechat",
    "POST /v1/people/{id:str}/portraits", "POST /v1/people/{id:str}/portraits/upload", "POST /v1/search",
    "POST /v1/search/upload", "PUT /v1/plans/{plan:uuid}/picture",
]  # fmt: skip


async def test_more_than_can_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(waiting, "_room", threading.BoundedSemaphore(1))
    monkeypatch.setattr(waiting, "LONGEST", 0.05)
    go = threading.Event()

    @waiting.waits
    def handler(answer: int) -> int:
        assert go.wait(20)
        return answer

    first = asyncio.create_task(handler(1))
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await handler(2)
    assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "5"})
    go.set()
    assert await first == 1
    assert await handler(3) == 3
    turns = asyncio.Semaphore(1)
    async with waiting.turn(turns):
        with pytest.raises(Problem):
            async with waiting.turn(turns):
                pass
    async with waiting.turn(turns):
        pass


def made_as(kind: str, width: int, height: int, mode: str = "RGB", **how: Any) -> bytes:
    held = io.BytesIO()
    Image.new(mode, (width, height), (90, 120, 40, 255)[:len(mode)]).save(held, kind, **how)
    return held.getvalue()


def test_what_would_unfold_too_far_is_refused_by_its_header() -> None:
    ours = "expected a picture as JPEG, PNG, WEBP"
    for content, status, says in (
        (made_as("PNG", 5000, 5000), 413, "expected at most 24 megapixels of a PNG, got 5000 × 5000"),
        (made_as("WEBP", 5000, 5000, quality=1, method=0), 413, "expected at most 24 megapixels of a WEBP, got"),
        (made_as("JPEG", 5000, 5000, progressive=True), 413, "expected at most 24 megapixels of a progressive JPEG"),
        (b"x" * ((16 << 20) + 1), 413, "expected a picture of at most 16 MiB, got 16777217 bytes"),
        (made_as("PNG", 15, 400), 422, "expected at least 16 pixels a side, got 15 × 400"),
        (made_as("PNG", 64, 64)[:60], 422, f"{ours}, got 60 bytes that are none"),
        (made_as("WEBP", 64, 64)[:40], 422, f"{ours}, got 40 bytes that are none"),
        (made_as("GIF", 64, 64), 422, ours),
        (b"", 422, f"{ours}, got 0 bytes that are none"),
    ):  # fmt: skip
        with pytest.raises(Problem) as refused:
            uploads.read(content)
        assert refused.value.status_code == status, says
        assert refused.value.detail.startswith(says)


def test_every_kind_looks_as_it_was_sent() -> None:
    seen = np.zeros((300, 400, 3), np.uint8)
    seen[:150, :, 0], seen[:, 200:, 1] = 200, 150  # RGB
    for kind, modes in {"PNG": ("RGB", "RGBA", "L", "P", "1"), "WEBP": ("RGB", "RGBA"), "JPEG": ("RGB", "L", "CMYK")
                        }.items():
        for mode in modes:
            held = io.BytesIO()
            Image.fromarray(seen).convert(mode).save(held, kind, **({} if kind == "PNG" else {"quality": 95}))
            wanted = np.asarray(Image.open(held).convert("RGB"), np.int16)
            image = uploads.read(held.getvalue()).image[..., ::-1]
            assert np.abs(image - wanted).mean() < 3, (kind, mode)


def test_a_large_photo_is_decoded_at_a_half_whatever_was_asked_for() -> None:
    read = uploads.read(made_as("JPEG", 6000, 6000, quality=20), side=4096)
    assert (read.width, read.height) == (3000, 3000)


def test_a_few_are_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, lock, full = [], [], threading.Lock(), threading.Event()
    decoded = uploads._decoded

    def slowly(content: bytes, side: int) -> Any:
        with lock:
            inside.append(1)
            most.append(len(inside))
        if len(most) < 2 * uploads.AT_ONCE:
            full.wait(0.2)  # until others would have come in, if they could
        try:
            return decoded(content, side)
        finally:
            with lock:
                inside.pop()

    monkeypatch.setattr(uploads, "_decoded", slowly)
    small = encode(np.full((64, 64, 3), 90, np.uint8))
    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(uploads.read, [small] * 8))) == 8
    assert max(most) == uploads.AT_ONCE
    monkeypatch.setattr(uploads, "WAIT", 0.01)
    for _ in range(uploads.AT_ONCE):
        assert uploads._turns.acquire()
    with pytest.raises(Problem) as refused:
        uploads.read(small)
    for _ in range(uploads.AT_ONCE):
        uploads._turns.release()
    assert (refused.value.status_code, refused.value.title) == (503, "busy")
