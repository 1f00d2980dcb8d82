"""What the API's tests ask and are answered, as the examples of the OpenAPI document:

    RECORD=api/examples.json .venv/bin/python -m pytest tests/api -q

Of each operation the fullest exchange that is still short, with lists cut to two and ids made even, and nothing in it
that is a secret or of the machine. What is not recorded anew is kept as it was.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from api import openapi

SHORT, LONG = 2_000, 200  # characters: of an answer that is shown whole, of a text in it
SECRET = {"token", "password", "old", "new", "secret"}
OURS = re.compile(r"/tmp/[^\s\"']*|127\.0\.0\.1:\d{4,5}|localhost:\d{4,5}|\bt[0-9a-f]{8}\.")
ID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b")


class Recorder:
    """Stands around `httpx.Client.send`."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[bool, int, Any, Any]]] = defaultdict(list)
        document = json.loads(openapi.document())
        self.paths = [(re.compile("^" + re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path)) + "$"), path)
                      for path in sorted(document["paths"], key=lambda p: (p.count("{"), p))]

    def record(self, request: httpx.Request, response: httpx.Response) -> None:
        path = next((path for fits, path in self.paths if fits.match(request.url.path)), None)
        if path is None or not 200 <= response.status_code < 300:
            return
        try:
            asked = _json(request.headers, request.content)
        except httpx.RequestNotRead:  # a form, sent as it was read
            asked = None
        answered = _json(response.headers, response.content)
        answered = _cut(answered)
        size = len(json.dumps(answered))
        # tests of rights ask for everything with the least that will do
        real = not re.search("matrix|rights", os.environ.get("PYTEST_CURRENT_TEST", ""))
        if size <= SHORT or not self.seen[f"{request.method} {path}"]:
            self.seen[f"{request.method} {path}"].append((real, size if size <= SHORT else 0, _cut(asked), answered))

    def write(self, file: Path) -> None:
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        for name, exchanges in self.seen.items():
            *_, asked, answered = max(exchanges, key=lambda each: (each[2] is not None, each[0], each[1]))
            one = {"request": asked} if asked is not None else {}
            kept[name] = _even(one | ({"response": answered} if answered is not None else {}))
        there = {f"{method.upper()} {path}" for path, operations in json.loads(openapi.document())["paths"].items()
                 for method in operations}
        kept = {name: kept[name] for name in sorted(kept) if kept[name] and name in there}
        file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _json(headers: httpx.Headers, content: bytes) -> Any:
    return json.loads(content) if content and headers.get("content-type", "").startswith("application/json") else None


def _cut(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _cut(each, name) for name, each in value.items()}
    if isinstance(value, list):
        inner = [_cut(each, key) for each in value]
        few = len(inner) <= 4 or (len(inner) <= 16 and all(len(json.dumps(each)) <= 30 for each in inner))
        return inner if few else inner[:2]
    if isinstance(value, str):
        if key in SECRET:
            return "…" if value else value
        return OURS.sub("…", value) if len(value) <= LONG else OURS.sub("…", value)[:LONG]
    return value


def _even(example: Any) -> Any:
    """Ids by the order in which they come, so that a new recording differs only where the API does."""
    text, ids = json.dumps(example), dict[str, str]()

    def even(found: re.Match[str]) -> str:
        bare = found[0].replace("-", "")
        number = ids.setdefault(bare, f"{len(ids) + 1:04x}")
        made = f"0190{number}7000800000000000{number}{number}"[:32].ljust(32, "0")
        return made if "-" not in found[0] else "-".join((made[:8], made[8:12], made[12:16], made[16:20], made[20:]))

    return json.loads(ID.sub(even, text))
