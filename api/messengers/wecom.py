"""A robot of a WeCom (企业微信) group: the text, then the picture as a message of its own."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import msgspec

from api.messengers import robot
from api.messengers.note import Note, Url
from api.messengers.reach import Reach
from api.messengers.robot import say
from api.messengers.secret import SecretName, Use, secret

PICTURES = True
VENDOR = frozenset({"qyapi.weixin.qq.com"})
ADDRESS = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send"
LONGEST = 2048  # bytes of a text
WRONG = frozenset({93000, 40058, 40008})  # no such robot; the message is malformed


class WeCom(msgspec.Struct, tag_field="kind", tag="wecom"):
    """A group's robot, by its key."""

    token: SecretName  # the key of the robot's address
    address: Url = ADDRESS  # before `?key=`; another one for a private installation


def use(options: WeCom) -> Use:
    return robot.use(options.address, options.token, vendor=VENDOR)


def send(options: WeCom, note: Note, reach: Reach) -> str:
    key = secret(options.token, use(options).host, VENDOR)
    url = f"{options.address}?key={quote(key, safe='')}"
    text = note.text.encode()[:LONGEST].decode(errors="ignore")
    said = say(url, {"msgtype": "text", "text": {"content": text}}, reach, "errcode", WRONG, key, note.id)
    if note.picture:
        image = {"base64": base64.b64encode(note.picture).decode(),
                 "md5": hashlib.md5(note.picture, usedforsecurity=False).hexdigest()}
        said = say(url, {"msgtype": "image", "image": image}, reach, "errcode", WRONG, key, note.id)
    return said
