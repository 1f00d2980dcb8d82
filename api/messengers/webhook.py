"""A webhook: the message as JSON to an address, signed, so that whoever gets it knows that it is ours and fresh."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import msgspec

from api.messengers.note import Later, Note, Refused, Url
from api.messengers.reach import Reach, post
from api.messengers.secret import SecretName, Use, host_of, secret

PICTURES = True


class Webhook(msgspec.Struct, tag_field="kind", tag="webhook"):
    """An address that takes JSON."""

    url: Url
    secret: SecretName | None = None  # signs the message


def use(options: Webhook) -> Use:
    """The secret itself stays here: it signs."""
    return Use((options.secret,) if options.secret else (), host_of(options.url), readable=False)


def signature(key: str, at: int, body: bytes) -> str:
    """`t=<unix time>,v1=<hex>`: HMAC-SHA256 over time, a full stop, and the body."""
    return f"t={at},v1={hmac.new(key.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def send(options: Webhook, note: Note, reach: Reach) -> str:
    content = note.json()
    if note.picture:
        content["picture"] = base64.b64encode(note.picture).decode()
    body = msgspec.json.encode(content)
    headers = {"Content-Type": "application/json; charset=utf-8", "Maskwatch-Delivery": note.id}
    if options.secret is not None:
        key = secret(options.secret, use(options).host)
        headers["Maskwatch-Signature"] = signature(key, int(time.time()), body)
    status, said, answered = post(options.url, body, headers, reach)
    words = f"{status} {said[:200].decode(errors='replace')}".strip()
    if 200 <= status < 300:
        return words
    if status in (408, 425, 429) or status >= 500:
        raise Later(words, asked(answered))
    raise Refused(words)


def asked(headers: dict[str, str]) -> float:
    """Seconds of a Retry-After, at most an hour; 0 when it has none."""
    try:
        return min(3600.0, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        return 0.0
