"""The OpenAPI document has an example of whatever carries JSON, and each fits what the document says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api import examples, openapi

# No test asks for these and is answered with JSON: why.
NONE = {
    "GET /v1/live": "server-sent events",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.document())


def contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """What of an operation is JSON: the request's body, the answer's."""
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return [part["content"]["application/json"] for part in [operation.get("requestBody", {}), *answers]
            if part.get("content", {}).get("application/json", {}).get("schema")]


def test_everything_that_is_json_has_an_example_that_fits(document: dict[str, Any]) -> None:
    silent, wrong = [], []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            for content in contents(operation):
                if content["schema"].get("type") == "null":
                    continue
                if "example" not in content:
                    silent.append(name)
                    continue
                fits = Draft202012Validator(content["schema"] | {"components": document["components"]})
                wrong += [f"{name}: {error.message[:200]}" for error in fits.iter_errors(content["example"])]
    assert sorted(set(silent) - set(NONE)) == [], "record it: tests/recording.py"
    assert wrong == []


def test_examples_name_no_machine_and_no_secret() -> None:
    text = examples.FILE.read_text(encoding="utf-8")
    assert re.findall(r"/tmp/|pytest|127\.0\.0\.1:\d{4,}|Bearer [A-Za-z0-9]", text) == []
    for one in examples.recorded().values():
        for part in (one.request, one.response):
            if isinstance(part, dict):
                assert part.get("token", "…") in ("…", ""), part
                assert part.get("password", "…") in ("…", "", None) or part["password"].startswith("MASKWATCH"), part
