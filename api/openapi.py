"""The OpenAPI document without a running server: `python -m api.openapi`, which the dashboard's types are made from."""

from __future__ import annotations

import sys

import msgspec
from litestar.serialization import default_serializer

from api import examples
from api.app import create_app
from pipeline.settings import Settings


def document(shown: bool = True) -> bytes:
    """Nothing is connected to for it. `shown`: with what was really asked and answered; types need none of it."""
    app = create_app(Settings(database="postgresql://nobody@127.0.0.1:1/nothing"))
    schema = examples.put(app.openapi_schema.to_schema()) if shown else app.openapi_schema.to_schema()
    return msgspec.json.encode(schema, enc_hook=default_serializer, order="sorted")


if __name__ == "__main__":
    sys.stdout.buffer.write(document(shown=False))
