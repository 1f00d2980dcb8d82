"""What lists of episodes, alerts and deliveries may be asked for: constraints where Litestar checks and tells them."""

from __future__ import annotations

from typing import Annotated

from litestar.params import PathParameter, QueryParameter

from api.fields import CLEAN

# A constraint inside `X | None`, or in msgspec's Meta, is neither checked of a query nor in the OpenAPI document.
LAST = 2**53 - 1  # µs; the largest number that JavaScript has exactly
Since = Annotated[int, QueryParameter(ge=0, le=LAST, description="began at or after, µs UTC")]
Until = Annotated[int, QueryParameter(ge=0, le=LAST, description="began before, µs UTC")]
Person = Annotated[str, QueryParameter(max_length=200, pattern=CLEAN, description="id of the trajectory")]
Zone = Annotated[str, QueryParameter(max_length=200, pattern=CLEAN, description="name of the zone")]
Assigned = Annotated[str, QueryParameter(pattern=r"^([0-9a-f]{32}|me)?$", description="a user's id, or `me`")]
Of = Annotated[str, QueryParameter(max_length=200, pattern=CLEAN)]
AnyMadeId = Annotated[str, QueryParameter(pattern=r"^([0-9a-f]{32})?$")]
MadeId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
StreamId = Annotated[str, PathParameter(min_length=1, max_length=200, pattern=CLEAN)]
