"""What happens in front of several cameras is told to whoever may see one of them, and of those alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from breaches import S, episode, fold
from sqlalchemy.orm import Session, sessionmaker

from api import db
from api.live import CAMERAS, Event, Hub, Listener, known, of_cameras
from api.permissions import Given, Who
from pipeline.settings import Settings


def who(site: str = "", camera: str = "", *permissions: str) -> Who:
    return Who("u", "u", "l", (Given("r", site, camera, frozenset(permissions or ("compliance.view",))),))


def test_each_hears_of_the_cameras_they_may_see() -> None:
    event = Event("episode.opened", {"id": "e"}, "hall", "c", "compliance.view", cameras=("a", "b", "c"))

    def heard(who: Who) -> tuple[str, ...] | None:
        mine = known(who, event)
        return None if mine is None else (mine.camera, *mine.cameras)

    assert heard(who("hall")) == heard(who()) == ("c", "a", "b", "c")
    assert heard(who("hall", "a")) == ("a", "a")
    assert heard(who("hall", "d")) is None
    assert heard(who("yard")) is None
    assert heard(who("hall", "a", "cameras.view")) is None
    both = Who("u", "u", "l", (*who("hall", "a").grants, *who("hall", "b").grants))
    assert heard(both) == ("b", "a", "b")
    assert known(who("hall", "a"), msgspec.structs.replace(event, users=("v",))) is None
    assert of_cameras(("a", "b", "a", "c", "b")) == ("a", "c", "b")
    assert len(of_cameras(f"c{i}" for i in range(300))) == CAMERAS


def test_an_episode_reaches_viewers_of_its_first_camera_too(database: str, tmp_path: Any,
                                                            sessions: sessionmaker[Session]) -> None:
    settings = Settings(data=tmp_path, database=database)

    async def hear() -> dict[str, list[dict[str, Any]]]:
        hub = Hub(db.url(settings))
        await hub.start()
        await asyncio.wait_for(hub.connected.wait(), 10)
        listeners = {camera: Listener(who("hall", camera)) for camera in ("gate", "dock", "wall")}
        hub.listeners |= set(listeners.values())
        one = episode(time.time_ns() // 1000 - 5 * S, "gate", "dock")
        await asyncio.to_thread(fold, sessions, settings, one)
        async with asyncio.timeout(10):
            while listeners["dock"].queue.empty():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await hub.stop()
        return {camera: [msgspec.json.decode(each.queue.get_nowait()[1]) for _ in range(each.queue.qsize())]
                for camera, each in listeners.items()}

    heard = asyncio.run(hear())
    assert [(e["kind"], e["camera"], e["cameras"]) for e in heard["gate"]] == [("episode.opened", "gate", ["gate"])]
    assert [(e["kind"], e["camera"], e["cameras"]) for e in heard["dock"]] == [("episode.opened", "dock", ["dock"])]
    assert heard["wall"] == []
