"""What the robots of group chats have in common: JSON to an address with a token, and an answer with a number in it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from api.messengers.note import Later, Refused
from api.messengers.reach import Reach, post
from api.messengers.secret import Use, host_of
from api.messengers.webhook import asked


def use(address: str, *names: str | None, vendor: frozenset[str]) -> Use:
    """A robot's secrets go in its address, or sign what goes there."""
    return Use(tuple(name for name in names if name), host_of(address), not address.startswith("https:"), vendor)


def say(url: str, content: dict[str, Any], reach: Reach, number: str, wrong: frozenset[int], hidden: str,
        delivery: str) -> str:
    """`number`: the field of the answer that is 0 when it was taken. `wrong`: numbers that no repetition mends.
    `hidden`: the token, which no answer may show."""

    def cover(text: str) -> str:
        return text.replace(hidden, "…").replace(quote(hidden, safe=""), "…")

    headers = {"Content-Type": "application/json; charset=utf-8", "Maskwatch-Delivery": delivery}
    try:
        status, said, answered = post(url, msgspec.json.encode(content), headers, reach, private=True)
    except (Later, Refused) as error:
        error.args = tuple(cover(str(each)) for each in error.args)
        raise
    words = cover(f"{status} {said[:300].decode(errors='replace')}")
    try:
        answer = msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {}
    if status == 200 and answer.get(number) == 0:
        return words
    if answer.get(number) in wrong or (300 <= status < 500 and status != 429):
        raise Refused(words)
    raise Later(words, asked(answered))
