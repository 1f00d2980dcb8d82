"""What the browser tests share: a running system, and a page of it on which somebody is logged in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, Page


@dataclass
class Stack:
    """A running system."""

    url: str
    password: str
    data: Path

    def client(self, name: str = "admin", password: str = "") -> httpx.Client:
        """Somebody's own program, logged in."""
        body = {"name": name, "password": password or self.password}
        answer = httpx.post(f"{self.url}/v1/login", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        client = httpx.Client(base_url=self.url, timeout=30)
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        return client


def entered(context: BrowserContext, stack: Stack, name: str = "admin", password: str = "") -> Page:
    page = context.new_page()
    page.goto("/")
    page.fill("#name", name)
    page.fill("#password", password or stack.password)
    page.click("button[type=submit]")
    page.wait_for_selector("[data-test=live-state].live")
    return page


def until(look: Callable[[], Any], seconds: float = 90) -> Any:
    """The first true answer; a demo person needs a while from camera to camera."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, "nothing came"
        time.sleep(0.5)
    return found
