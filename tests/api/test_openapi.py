"""The OpenAPI document shows what was really asked and answered, and each example fits what the document says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api import examples, openapi


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(openapi.document())


def contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """What of an operation is JSON: the request's body, the answer's."""
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return [part["content"]["application/json"] for part in [operation.get("requestBody", {}), *answers]
            if part.get("content", {}).get("application/json", {}).get("schema")]


def test_what_is_shown_fits_what_the_document_says(document: dict[str, Any]) -> None:
    shown, wrong = 0, []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for content in contents(operation):
                if "example" in content:
                    shown += 1
                    fits = Draft202012Validator(content["schema"] | {"components": document["components"]})
                    wrong += [f"{method.upper()} {path}: {error.message[:200]}"
                              for error in fits.iter_errors(content["example"])]
    assert wrong == []
    assert shown >= 70, "record more: tests/recording.py"


def test_examples_name_no_machine_and_no_secret() -> None:
    text = examples.FILE.read_text(encoding="utf-8")
    assert re.findall(r"/tmp/|pytest|127\.0\.0\.1:\d{4,}|Bearer [A-Za-z0-9]", text) == []
    for one in examples.recorded().values():
        for part in (one.request, one.response):
            if isinstance(part, dict):
                assert part.get("token", "…") in ("…", ""), part
                assert part.get("password", "…") in ("…", "", None) or part["password"].startswith("MASKWATCH"), part
