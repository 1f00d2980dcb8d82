"""Long lists in pages: a cursor says where the last page ended, whatever came or went since."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import Parameter
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.problems import Problem

T = TypeVar("T")
Limit = Annotated[int, Parameter(ge=1, le=500, description="most items of a page")]
Cursor = Annotated[str | None, Parameter(max_length=600, description="`next` of the page before")]


class Page(msgspec.Struct, Generic[T]):
    """Part of a list."""

    items: list[T]
    next: str | None = None  # give it as `cursor` to get what follows; null: that was the end


def take(session: Session, query: Select[Any], keys: Sequence[InstrumentedAttribute[Any]], shape: Callable[[Any], T],
         cursor: str | None, limit: int, descending: bool = True) -> Page[T]:
    """`query` selects one entity; `keys`: columns that order it and together are unique, the last one an id.

    Raises Problem 400 for a cursor that no page gave."""
    if cursor:
        query = query.where(tuple_(*keys) < _read(cursor, keys) if descending else tuple_(*keys) > _read(cursor, keys))
    order = [key.desc() if descending else key.asc() for key in keys]
    rows = session.scalars(query.order_by(*order).limit(limit + 1)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return Page([shape(row) for row in rows[:limit]],
                None if last is None else _write([getattr(last, key.key) for key in keys]))


def _write(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def _read(cursor: str, keys: Sequence[InstrumentedAttribute[Any]]) -> tuple[Any, ...]:
    try:
        values = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[Any])
        kinds = [key.type.python_type for key in keys]
        if len(values) != len(kinds):
            raise ValueError(cursor)
        return tuple(msgspec.convert(value, kind if kind is not float else float, strict=True) if kind is not datetime
                     else datetime.fromisoformat(value) for value, kind in zip(values, kinds, strict=True))
    except (binascii.Error, msgspec.MsgspecError, ValueError, TypeError, UnicodeError):
        raise Problem(400, "bad cursor", f"expected `next` of a page of this list, got {cursor[:80]!r}") from None
