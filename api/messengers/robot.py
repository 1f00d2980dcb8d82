"""What the robots of group chats have in common: JSON to an address with a token, and an answer with a number in it."""

from __future__ import annotations

from typing import Any

import msgspec

from api.messengers.note import Later, Refused
from api.messengers.reach import Reach, post
from api.messengers.webhook import asked


def say(url: str, content: dict[str, Any], reach: Reach, number: str, wrong: frozenset[int], hidden: str,
        delivery: str) -> str:
    """`number`: the field of the answer that is 0 when it was taken. `wrong`: numbers that no repetition mends."""
    headers = {"Content-Type": "application/json; charset=utf-8", "Maskwatch-Delivery": delivery}
    try:
        status, said, answered = post(url, msgspec.json.encode(content), headers, reach)
    except (Later, Refused) as error:
        error.args = tuple(str(each).replace(hidden, "…") for each in error.args)
        raise
    words = f"{status} {said[:300].decode(errors='replace')}".replace(hidden, "…")
    try:
        answer = msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {}
    if status == 200 and answer.get(number) == 0:
        return words
    if answer.get(number) in wrong or (300 <= status < 500 and status != 429):
        raise Refused(words)
    raise Later(words, asked(answered))
