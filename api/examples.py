"""Examples in the OpenAPI document: what was really asked and answered, recorded by `tests/recording.py`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

FILE = Path(__file__).with_suffix(".json")
JSON = "application/json"


class Example(msgspec.Struct, omit_defaults=True):
    """Of one operation, `POST /v1/sites`; what carries no JSON is unset."""

    request: Any = msgspec.UNSET
    response: Any = msgspec.UNSET


@lru_cache
def recorded() -> dict[str, Example]:
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Example])


def put(document: dict[str, Any]) -> dict[str, Any]:
    """The same OpenAPI document (a dict, changed in place) with an `example` where one was recorded."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            one = recorded().get(f"{method.upper()} {path}")
            if one is None:
                continue
            if one.request is not msgspec.UNSET:
                content = operation.get("requestBody", {}).get("content", {})
                if JSON in content:
                    content[JSON]["example"] = one.request
            if one.response is not msgspec.UNSET:
                for status, answer in operation["responses"].items():
                    if status.startswith("2") and JSON in answer.get("content", {}):
                        answer["content"][JSON]["example"] = one.response
    return document


class WithExamples(JsonRenderPlugin):
    """The document at `/schema/openapi.json`."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, put(openapi_schema))
