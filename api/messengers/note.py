"""What is to be said, in the language of the channel, and how saying it may fail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

# `$` alone would let a line feed through at the end
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)", max_length=200)]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,250}[A-Za-z0-9])?$(?!\n)", max_length=253,
                           examples=["mail.example.org"])]
Port = Annotated[int, Meta(ge=1, le=65535)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s\x00-\x1f\x7f\\]+$(?!\n)", max_length=1000)]


class Later(Exception):
    """It did not arrive, and may another time. `after`: seconds the other side asks for."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Refused(Exception):
    """It will not arrive, however often it is tried: something has to be changed first."""


class Note(msgspec.Struct, frozen=True):
    """One message."""

    id: str  # of the delivery: the same at every attempt
    what: str  # alert, escalation, end, test
    language: str
    facts: dict[str, Any]  # of the alert, as api/alerts.py wrote them
    title: str
    lines: tuple[str, ...]
    link: str = ""
    picture: bytes = b""  # JPEG; only where the channel may have it

    @property
    def text(self) -> str:
        return "\n".join((self.title, *self.lines, *([self.link] if self.link else [])))

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {"id": self.id, "what": self.what, "title": self.title, "text": "\n".join(self.lines),
                "link": self.link, "alert": self.facts.get("id", ""),
                **{name: value for name, value in self.facts.items() if name not in ("id", "picture")}}


WORDS = {
    "zh-CN": {
        "none": "未戴口罩", "incorrect": "口罩佩戴不规范", "camera": "摄像头离线",
        "watched": "发现关注人员", "who": "姓名", "lists": "名单", "exempt": "该人员按规则豁免", "test": "测试消息",
        "alert": "告警", "escalation": "告警升级", "end": "告警结束", "up": "摄像头已恢复", "over": "违规已结束",
        "site": "场所", "cameras": "摄像头", "zone": "区域", "since": "开始时间", "until": "结束时间",
        "lasted": "持续", "seconds": "{:.0f} 秒", "minutes": "{:.0f} 分钟", "error": "原因", "more": "已持续",
        "hello": "渠道「{}」可以收到 Maskwatch 的消息。", "unacknowledged": "尚无人确认",
        "brackets": "【{}】{}", "is": "：",
    },
    "en": {
        "none": "no mask", "incorrect": "mask worn wrongly", "camera": "camera is down",
        "watched": "somebody on a watch-list", "who": "Name", "lists": "List",
        "exempt": "the rule does not apply to this person", "test": "test message",
        "alert": "Alert", "escalation": "Escalation", "end": "Over", "up": "camera is up again",
        "over": "the breach is over", "site": "Site", "cameras": "Camera", "zone": "Zone", "since": "Since",
        "until": "Until", "lasted": "Lasted", "seconds": "{:.0f} s", "minutes": "{:.0f} min", "error": "Reason",
        "more": "So far", "hello": "The channel “{}” receives what Maskwatch sends.",
        "unacknowledged": "nobody has acknowledged it yet", "brackets": "[{}] {}", "is": ": ",
    },
}  # fmt: skip


def write(id: str, what: str, language: str, facts: dict[str, Any], public_url: str = "", picture: bytes = b"") -> Note:
    """The message of a delivery."""
    w = WORDS[language if language in WORDS else "en"]
    if what == "test":
        return Note(id, what, language, facts, w["brackets"].format("Maskwatch", w["test"]),
                    (w["hello"].format(facts.get("channel", "")),), public_url)
    camera = facts["kind"] == "camera"
    happened = w["camera"] if camera else w[facts["state"]]
    if what == "end":
        happened = w["up" if camera else "over"]
    names = "、" if language == "zh-CN" else ", "
    where = names.join(facts["camera_names"])
    person = facts["kind"] == "person"
    zone = ZoneInfo(facts["timezone"])

    def line(word: str, value: str) -> str:
        return f"{w[word]}{w['is']}{value}"

    def clock(at: int) -> str:
        return f"{datetime.fromtimestamp(at / 1e6, UTC).astimezone(zone):%Y-%m-%d %H:%M:%S}"

    seconds = max(0.0, (facts["end"] - facts["start"]) / 1e6)
    span = w["seconds"].format(seconds) if seconds < 120 else w["minutes"].format(seconds / 60)
    lines = [line("site", facts["site"]), line("cameras", where)]
    if person:
        lines = [line("who", facts["name"]), line("lists", names.join(facts["lists"])), *lines]
    if facts.get("zone"):
        lines.append(line("zone", facts["zone"]))
    lines.append(line("since", clock(facts["start"])))
    if what == "end":
        lines.append(line("until", clock(facts["end"])))
    if not person:
        lines.append(line("lasted" if what == "end" else "more", span))
    if facts.get("exempt"):
        lines.append(w["exempt"])
    if facts.get("error") and what != "end":
        lines.append(line("error", facts["error"]))
    if what == "escalation":
        lines.append(w["unacknowledged"])
    link = ""
    if public_url:
        page = f"episodes/{quote(facts['id'], safe='')}"
        if camera or person:
            page = f"cameras/{quote(facts['cameras'][0], safe='')}" if camera else f"people/{facts['person']}"
        link = f"{public_url.rstrip('/')}/{page}"
    return Note(id, what, language, facts, w["brackets"].format(w[what], f"{where} {happened}"), tuple(lines), link,
                picture)
