"""A robot of a DingTalk (钉钉) group, signed. It takes pictures only by public address, so it gets none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

import msgspec

from api.messengers import robot
from api.messengers.note import Note, Url
from api.messengers.reach import Reach
from api.messengers.robot import say
from api.messengers.secret import SecretName, Use, secret

PICTURES = False
VENDOR = frozenset({"oapi.dingtalk.com"})
ADDRESS = "https://oapi.dingtalk.com/robot/send"
WRONG = frozenset({300001, 310000, 400013, 400101, 400102})  # no such robot; wrong signature; switched off


class DingTalk(msgspec.Struct, tag_field="kind", tag="dingtalk"):
    """A group's robot, by its access token."""

    token: SecretName  # access_token of the robot's address
    secret: SecretName | None = None  # 加签, begins with SEC
    address: Url = ADDRESS  # before `?access_token=`


def use(options: DingTalk) -> Use:
    return robot.use(options.address, options.token, options.secret, vendor=VENDOR)


def sign(key: str, at: int) -> str:
    """`at`: ms. HMAC-SHA256 of time, line feed and key, under the key."""
    return base64.b64encode(hmac.new(key.encode(), f"{at}\n{key}".encode(), hashlib.sha256).digest()).decode()


def send(options: DingTalk, note: Note, reach: Reach) -> str:
    host = use(options).host
    token = secret(options.token, host, VENDOR)
    url = f"{options.address}?access_token={quote(token, safe='')}"
    if options.secret is not None:
        at = time.time_ns() // 1_000_000
        url += f"&timestamp={at}&sign={quote(sign(secret(options.secret, host, VENDOR), at), safe='')}"
    return say(url, {"msgtype": "text", "text": {"content": note.text}}, reach, "errcode", WRONG, token, note.id)
