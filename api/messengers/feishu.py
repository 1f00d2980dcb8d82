"""A robot of a Feishu (飞书) group, signed. It takes pictures only that were uploaded to it, so it gets none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote

import msgspec

from api.messengers import robot
from api.messengers.note import Note, Url
from api.messengers.reach import Reach
from api.messengers.robot import say
from api.messengers.secret import SecretName, Use, secret

PICTURES = False
VENDOR = frozenset({"open.feishu.cn"})
ADDRESS = "https://open.feishu.cn/open-apis/bot/v2/hook"
WRONG = frozenset({19001, 19021, 19022, 19024, 9499})  # no such robot; wrong signature, address or word; malformed


class Feishu(msgspec.Struct, tag_field="kind", tag="feishu"):
    """A group's robot, by the token at the end of its address."""

    token: SecretName
    secret: SecretName | None = None  # 签名校验
    address: Url = ADDRESS  # before `/<token>`


def use(options: Feishu) -> Use:
    return robot.use(options.address, options.token, options.secret, vendor=VENDOR)


def sign(key: str, at: int) -> str:
    """`at`: s. HMAC-SHA256 of nothing, under time, line feed and key."""
    return base64.b64encode(hmac.new(f"{at}\n{key}".encode(), b"", hashlib.sha256).digest()).decode()


def send(options: Feishu, note: Note, reach: Reach) -> str:
    host = use(options).host
    token = secret(options.token, host, VENDOR)
    content: dict[str, Any] = {"msg_type": "text", "content": {"text": note.text}}
    if options.secret is not None:
        at = int(time.time())
        content |= {"timestamp": str(at), "sign": sign(secret(options.secret, host, VENDOR), at)}
    url = f"{options.address.rstrip('/')}/{quote(token, safe='')}"
    return say(url, content, reach, "code", WRONG, token, note.id)
