"""examples/walk.py against a running API with a materialiser behind it: every noun, no surprise, nothing left."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from folding import folding
from streaming import Server
from streaming import rtsp as rtsp
from world import World, photo

from api import auth
from api.tables.users import Grant, User

WALK = Path(__file__).parents[2] / "examples" / "walk.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walk", WALK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_noun_without_a_surprise(world: World, served: str, tmp_path: Path, rtsp: Callable[..., Server]) -> None:
    with world.sessions() as session, session.begin():
        user = User(name="newcomer", password=auth.hashed("a first password"))
        session.add(user)
        session.flush()
        session.add(Grant(user=user.id, role="admin"))
    (tmp_path / "photo.jpg").write_bytes(photo())
    source = {"url": f"rtsp://127.0.0.1:{rtsp().port}/cam"}  # who is said to be up can be watched
    for each in world.ok("GET", "/v1/cameras")["items"]:
        world.ok("PATCH", f"/v1/cameras/{each['id']}", json={"sources": [source]})
    with folding(world.settings, world.sessions):
        done = subprocess.run(
            [sys.executable, str(WALK), "--url", served, "--name", "newcomer",
             "--picture", str(tmp_path / "photo.jpg"), "--patience", "1"],
            env=os.environ | {"MASKWATCH_WALK_PASSWORD": "a first password"}, capture_output=True, text=True,
            timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "newest: none at" in done.stdout  # with rows of what cameras saw
    assert re.search(r"live video: \w+: 320 × 180, video/mp4", done.stdout), done.stdout
    left = [path for path in ("/v1/sites", "/v1/cameras", "/v1/plans", "/v1/policies", "/v1/people", "/v1/channels")
            if "walk-" in world.admin.get(path).text]
    assert left in ([], ["/v1/policies"])  # versions of a policy stay for the episodes that name them


def test_every_noun_has_its_line(world: World) -> None:
    paths = world.admin.get("/schema/openapi.json").json()["paths"]
    nouns = {tag for operations in paths.values() for operation in operations.values()
             for tag in operation.get("tags", [])}
    assert sorted(nouns) == sorted(loaded().NOUNS), "write a function for it in examples/walk.py"
