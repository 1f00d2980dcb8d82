"""The OpenAPI document without a running server: `python -m api.openapi`, which the dashboard's types are made from."""

from __future__ import annotations

import sys

import msgspec
from litestar.serialization import default_serializer

from api.app import create_app
from pipeline.settings import Settings


def document() -> bytes:
    """Nothing is connected to for it."""
    schema = create_app(Settings(database="postgresql://nobody@127.0.0.1:1/nothing")).openapi_schema.to_schema()
    return msgspec.json.encode(schema, enc_hook=default_serializer, order="sorted")


if __name__ == "__main__":
    sys.stdout.buffer.write(document())
