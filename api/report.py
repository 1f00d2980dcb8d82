"""An inspection as a PDF: what was seen, where, and which checkpoints were passed; in Simplified Chinese or English.

The font (WenQuanYi Micro Hei, Apache-2.0) comes in a package and is embedded, only the characters used: the file looks
the same on every phone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import cv2
from fpdf import FPDF
from fpdf.enums import XPos, YPos

from api.tables.inspections import Checkpoint, Inspection, Photo, Point, Verdict
from pipeline import pictures
from pipeline.messages import STATES
from pipeline.pictures import BadPicture, Image

Language = Literal["zh-CN", "en"]
FONT = "wqy"
WIDE = 700  # pixels of a picture in the report: 200 a inch at half the page's width
MARGIN = 15.0  # mm
CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
COLOURS = {"worn": (22, 128, 61), "incorrect": (202, 98, 0), "none": (200, 30, 30), "unknown": (110, 110, 110),
           "nobody": (110, 110, 110), "waiting": (110, 110, 110), "refused": (110, 110, 110)}  # fmt: skip
WORDS: dict[str, dict[Language, str]] = {
    "title": {"zh-CN": "巡检报告", "en": "Inspection report"},
    "site": {"zh-CN": "场所", "en": "Site"},
    "inspector": {"zh-CN": "巡检员", "en": "Inspector"},
    "round": {"zh-CN": "计划路线", "en": "Planned route"},
    "started": {"zh-CN": "开始", "en": "Started"},
    "ended": {"zh-CN": "结束", "en": "Ended"},
    "duration": {"zh-CN": "历时", "en": "Duration"},
    "state": {"zh-CN": "状态", "en": "State"},
    "distance": {"zh-CN": "路程", "en": "Distance"},
    "photos": {"zh-CN": "照片", "en": "Photos"},
    "note": {"zh-CN": "备注", "en": "Notes"},
    "summary": {"zh-CN": "结果", "en": "Results"},
    "faces": {"zh-CN": "人脸", "en": "Faces"},
    "worn": {"zh-CN": "正确佩戴", "en": "mask worn"},
    "incorrect": {"zh-CN": "佩戴不当", "en": "worn wrongly"},
    "none": {"zh-CN": "未佩戴", "en": "no mask"},
    "unknown": {"zh-CN": "无法判断", "en": "can't tell"},
    "nobody": {"zh-CN": "无人", "en": "nobody"},
    "waiting": {"zh-CN": "尚未识别", "en": "not looked at yet"},
    "refused": {"zh-CN": "无法识别", "en": "could not be looked at"},
    "checkpoints": {"zh-CN": "检查点", "en": "Checkpoints"},
    "number": {"zh-CN": "序号", "en": "No."},
    "name": {"zh-CN": "名称", "en": "Name"},
    "unproven": {"zh-CN": "已到，无位置证明", "en": "no position"},
    "visited": {"zh-CN": "已到", "en": "visited"},
    "missed": {"zh-CN": "未到", "en": "missed"},
    "out of turn": {"zh-CN": "未按顺序", "en": "out of turn"},
    "time": {"zh-CN": "时间", "en": "Time"},
    "nearest": {"zh-CN": "最近距离", "en": "Nearest"},
    "route": {"zh-CN": "路线", "en": "Route"},
    "far": {"zh-CN": "超出巡检半径", "en": "outside the patrol radius"},
    "clock": {"zh-CN": "手机时钟偏差", "en": "Phone clock off by"},
    "early": {"zh-CN": "未收到开始", "en": "start not received"},
    "running": {"zh-CN": "进行中", "en": "running"},
    "paused": {"zh-CN": "已暂停", "en": "paused"},
    "finished": {"zh-CN": "已完成", "en": "finished"},
    "abandoned": {"zh-CN": "已放弃", "en": "abandoned"},
    "no picture": {"zh-CN": "照片已删除", "en": "picture no longer kept"},
    "withheld": {"zh-CN": "人脸未遮盖，不予显示", "en": "not shown: faces not pixelated"},
    "no position": {"zh-CN": "无位置证明在此拍摄", "en": "no position shows that it was taken there"},
    "caveat": {"zh-CN": "结果由模型给出，可能有误；它是复核的理由，而不是对个人的结论。",
               "en": "Results come from models and may be wrong: a reason to look, not a finding about a person."},
    "page": {"zh-CN": "第 {} 页，共 {{nb}} 页", "en": "page {} of {{nb}}"},
    "metre": {"zh-CN": "{} 米", "en": "{} m"},
    "minute": {"zh-CN": "{} 分钟", "en": "{} min"},
    "second": {"zh-CN": "{} 秒", "en": "{} s"},
}


@dataclass(frozen=True)
class Visit:
    """A checkpoint and what became of it."""

    point: Checkpoint
    visited: bool
    in_turn: bool
    at: int | None
    distance: float | None
    unproven: bool = False  # visited, but nothing shows it


@dataclass(frozen=True)
class Report:
    """Everything that is printed."""

    inspection: Inspection
    inspector: str
    site: str
    zone: str  # IANA name
    round: str
    visits: Sequence[Visit]
    photos: Sequence[tuple[Photo, Verdict | None]]
    points: Sequence[Point]
    picture: Callable[[Photo], bytes | None]  # JPEG; None: no longer kept, or not to be shown
    withheld: Callable[[Photo], bool] = lambda photo: False  # its faces are not known, and should not be shown


class _Paper(FPDF):
    """A4 with our font and a footer."""

    def __init__(self, language: Language, head: str) -> None:
        super().__init__()
        self.language, self.head = language, head
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, MARGIN + 5)
        font = files("paperang_p2_fonts_cjk") / "fonts" / "wqy-microhei.ttc"
        self.add_font(FONT, fname=str(font), collection_font_number=0)
        self.set_title(head)
        self.set_lang(language)
        self.set_creator("Maskwatch")
        self.add_page()

    def footer(self) -> None:
        self.set_y(-MARGIN)
        self.set_font(FONT, size=8)
        self.set_text_color(110)
        self.cell(self.epw / 2, 5, self.head)
        self.cell(0, 5, WORDS["page"][self.language].format(self.page_no()), align="R")
        self.set_text_color(0)

    def heading(self, text: str, size: float = 13) -> None:
        if self.get_y() + 30 > self.h - self.b_margin:
            self.add_page()
        self.ln(3)
        self.set_font(FONT, size=size)
        self.cell(0, 8, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_font(FONT, size=9.5)

    def words(self, text: str, wide: float = 0, high: float = 5) -> None:
        text = CONTROL.sub("", text)
        self.multi_cell(wide, high, text, align="L", wrapmode="CHAR" if CJK.search(text) else "WORD",
                        new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def render(report: Report, language: Language) -> bytes:
    """The PDF."""
    say = {key: each[language] for key, each in WORDS.items()}
    row = report.inspection
    zone = ZoneInfo(report.zone)

    def when(at: int | None, form: str = "%Y-%m-%d %H:%M") -> str:
        return "" if at is None else datetime.fromtimestamp(at / 1e6, zone).strftime(form)

    paper = _Paper(language, f"{say['title']} · {report.site} · {when(row.started)}")
    paper.set_font(FONT, size=20)
    paper.cell(0, 12, say["title"], new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font(FONT, size=9.5)
    about = [("site", report.site), ("inspector", report.inspector), ("round", report.round),
             ("state", say[row.state]), ("started", f"{when(row.started)} ({report.zone})"), ("ended", when(row.ended)),
             ("duration", say["minute"].format(round(((row.ended or row.started) - row.started) / 6e7))),
             ("distance", say["metre"].format(round(walked(report.points)))), ("photos", str(len(report.photos)))]
    if abs(row.skew) >= 60_000_000:
        about.append(("clock", say["second"].format(round(row.skew / 1e6))))
    for key, text in about:
        if text and not (key == "duration" and row.ended is None):
            paper.set_text_color(110)
            paper.cell(36, 5.5, say[key])
            paper.set_text_color(0)
            paper.words(text, high=5.5)
    if row.note:
        paper.heading(say["note"])
        paper.words(row.note)

    _results(paper, report, say)
    if report.visits:
        _checkpoints(paper, report, say, when)
    _route(paper, report, say)
    if report.photos:
        _photos(paper, report, say, when)
    return bytes(paper.output())


def walked(points: Sequence[Point]) -> float:
    """Metres along the positions; jumps below their own accuracy are no steps."""
    total, last = 0.0, None
    for place, accuracy in _flat(points):
        if last is not None:
            step = math.dist(place, last)
            if step < max(3.0, accuracy / 2):
                continue
            total += step
        last = place
    return total


def _flat(points: Sequence[Point]) -> list[tuple[tuple[float, float], float]]:
    """Metres east and north, of the plan or of the first position on the globe, and how exact."""
    globe = [p for p in points if p.lat is not None and p.lon is not None]
    if globe:
        return [(_metres(globe[0].lat, globe[0].lon, p.lat, p.lon), p.accuracy or 0.0) for p in globe]  # type: ignore[arg-type]
    return [((p.east, p.north), p.accuracy or 0.0) for p in points if p.east is not None and p.north is not None]


def _metres(lat0: float, lon0: float, lat: float, lon: float) -> tuple[float, float]:
    return math.radians(lon - lon0) * math.cos(math.radians(lat0)) * 6_371_008.8, math.radians(lat - lat0) * 6_371_008.8


def _results(paper: _Paper, report: Report, say: dict[str, str]) -> None:
    paper.heading(say["summary"])
    total = {state: sum(getattr(v, state) for _, v in report.photos if v) for state in STATES}
    wide = paper.epw / len(STATES)
    top = paper.get_y()
    for number, state in enumerate(STATES):
        paper.set_xy(paper.l_margin + number * wide, top)
        paper.set_text_color(*COLOURS[state])
        paper.set_font(FONT, size=18)
        paper.cell(wide, 9, str(total[state]), align="C")
        paper.set_xy(paper.l_margin + number * wide, top + 9)
        paper.set_font(FONT, size=9)
        paper.cell(wide, 5, say[state], align="C")
    paper.set_text_color(110)
    paper.set_xy(paper.l_margin, top + 16)
    paper.set_font(FONT, size=8)
    paper.words(say["caveat"], high=4.5)
    paper.set_text_color(0)


def _checkpoints(paper: _Paper, report: Report, say: dict[str, str], when: Callable[..., str]) -> None:
    paper.heading(say["checkpoints"])
    wide = (14.0, 70.0, 34.0, 34.0, paper.epw - 152)
    paper.set_text_color(110)
    for width, key in zip(wide, ("number", "name", "state", "time", "nearest"), strict=True):
        paper.cell(width, 6, say[key], border="B")
    paper.ln(6)
    for visit in report.visits:
        word = ("missed" if not visit.visited else "unproven" if visit.unproven else
                "visited" if visit.in_turn else "out of turn")
        away = "" if visit.distance is None else say["metre"].format(round(visit.distance))
        cells = (str(visit.point.number), _short(paper, visit.point.name, wide[1] - 2), say[word],
                 when(visit.at, "%H:%M"), away)
        for width, text, column in zip(wide, cells, range(5), strict=True):
            colour = COLOURS["none"] if not visit.visited else COLOURS["incorrect"] if visit.unproven else (0, 0, 0)
            paper.set_text_color(*(colour if column == 2 else (0, 0, 0)))
            paper.cell(width, 6, text)
        paper.ln(6)
    paper.set_text_color(0)


def _short(paper: _Paper, text: str, most: float) -> str:
    text = CONTROL.sub("", text).replace("\n", " ")
    while paper.get_string_width(text) > most:
        text = text[:-2] + "…"
    return text


def _route(paper: _Paper, report: Report, say: dict[str, str]) -> None:
    """The way that was walked, photos by number, checkpoints with their radius; to scale, north is up."""
    globe = next(((p.lat, p.lon) for p in report.points if p.lat is not None),
                 next(((p.lat, p.lon) for p, _ in report.photos if p.lat is not None), None))

    def place(of: Point | Photo | Checkpoint) -> tuple[float, float] | None:
        if globe is not None:
            return None if of.lat is None or of.lon is None else _metres(*globe, of.lat, of.lon)  # type: ignore[arg-type]
        return None if of.east is None or of.north is None else (of.east, of.north)

    way = [(p.at, where) for p in report.points if (where := place(p))]
    shots = [(n, p.far, where) for n, (p, _) in enumerate(report.photos, 1) if (where := place(p))]
    stops = [(v, where) for v in report.visits if (where := place(v.point))]
    every = [where for _, where in way] + [where for *_, where in shots] + [where for _, where in stops]
    if len(every) < 2:
        return
    high = 95.0
    if paper.get_y() + high + 15 > paper.h - paper.b_margin:
        paper.add_page()
    paper.heading(say["route"])
    left, top = paper.l_margin, paper.get_y()
    paper.set_draw_color(200)
    paper.rect(left, top, paper.epw, high)
    west, east = min(x for x, _ in every), max(x for x, _ in every)
    south, north = min(y for _, y in every), max(y for _, y in every)
    scale = min((paper.epw - 20) / max(east - west, 10), (high - 20) / max(north - south, 10))  # mm a metre

    def at(where: tuple[float, float]) -> tuple[float, float]:
        return (left + paper.epw / 2 + (where[0] - (west + east) / 2) * scale,
                top + high / 2 - (where[1] - (south + north) / 2) * scale)

    with paper.rect_clip(left, top, paper.epw, high):
        for visit, where in stops:
            x, y = at(where)
            paper.set_draw_color(*COLOURS["none" if not visit.visited else "incorrect" if visit.unproven else "worn"])
            paper.set_line_width(0.4)
            paper.circle(x, y, max(1.5, visit.point.radius * scale))
            paper.set_font(FONT, size=7)
            paper.text(x + 2, y - 2, _short(paper, f"{visit.point.number} {visit.point.name}", 40))
        paper.set_line_width(0.5)
        for (then, a), (now, b) in pairwise(way):
            seen = now - then <= 120_000_000
            paper.set_draw_color(*((40, 90, 200) if seen else (170, 170, 170)))
            paper.set_dash_pattern(*((0, 0) if seen else (1.5, 1.5)))
            paper.line(*at(a), *at(b))
        paper.set_dash_pattern()
        for number, far, where in shots:
            x, y = at(where)
            paper.set_fill_color(*(COLOURS["incorrect"] if far else (40, 90, 200)))
            paper.circle(x, y, 2.1, style="F")
            paper.set_font(FONT, size=6.5)
            paper.set_text_color(255)
            paper.set_xy(x - 2.5, y - 1.6)
            paper.cell(5, 3.2, str(number), align="C")
            paper.set_text_color(0)
    bar = next(each for each in (1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0.1) if each * scale <= 50 or each == 0.1)
    paper.set_draw_color(0)
    paper.line(left + 4, top + high - 4, left + 4 + bar * scale, top + high - 4)
    paper.set_font(FONT, size=7)
    paper.text(left + 4, top + high - 5.5, say["metre"].format(bar))
    paper.set_line_width(0.2)
    paper.set_y(top + high + 2)
    paper.set_font(FONT, size=9.5)


def _photos(paper: _Paper, report: Report, say: dict[str, str], when: Callable[..., str]) -> None:
    if paper.get_y() + 100 > paper.h - paper.b_margin:
        paper.add_page()
    paper.heading(say["photos"])
    names = {visit.point.id: f"{visit.point.number} {visit.point.name}" for visit in report.visits}
    gap = 6.0
    wide = (paper.epw - gap) / 2
    most = 62.0  # mm high: three rows on a page
    top = lowest = paper.get_y()
    for number, (photo, verdict) in enumerate(report.photos, 1):
        column = (number - 1) % 2
        if column == 0:
            top = lowest
            if top + most + 22 > paper.h - paper.b_margin:
                paper.add_page()
                top = lowest = paper.get_y()
        left = paper.l_margin + column * (wide + gap)
        jpeg = _drawn(report.picture(photo), verdict)
        high = min(most, wide * photo.height / photo.width)
        if jpeg is not None:
            paper.image(jpeg, left, top, w=high * photo.width / photo.height, h=high)
        else:
            paper.rect(left, top, wide, high)
            paper.set_xy(left, top + high / 2)
            paper.cell(wide, 5, say["withheld" if report.withheld(photo) else "no picture"], align="C")
        word = "waiting" if verdict is None else "refused" if verdict.refused else _worst(verdict)
        counts = "" if verdict is None else "  ".join(
            f"{say[state]} {getattr(verdict, state)}" for state in STATES if getattr(verdict, state))
        paper.set_xy(left, top + high + 1)
        paper.set_font(FONT, size=9)
        paper.cell(wide, 5, f"{number}   {when(photo.taken, '%H:%M:%S')}")
        paper.set_xy(left, top + high + 5.5)
        paper.set_text_color(*COLOURS[word])
        paper.cell(wide, 5, counts or say[word])
        paper.set_text_color(0)
        lines = [names.get(photo.checkpoint, ""), photo.note]
        if photo.far:
            lines.insert(0, f"{say['far']}: {say['metre'].format(round(photo.distance or 0))}")
        if photo.unproven:
            lines.insert(0, say["no position"])
        text = CONTROL.sub("", " · ".join(line for line in lines if line))[:400]
        paper.set_xy(left, top + high + 10)
        paper.set_font(FONT, size=8)
        if text:
            paper.multi_cell(wide, 4, text, align="L", wrapmode="CHAR" if CJK.search(text) else "WORD",
                             new_x=XPos.LEFT, new_y=YPos.NEXT)
        lowest = max(lowest, paper.get_y() + 4) if column else paper.get_y() + 4


def _worst(verdict: Verdict) -> str:
    return next((state for state in ("none", "incorrect", "unknown", "worn") if getattr(verdict, state)), "nobody")


def _drawn(jpeg: bytes | None, verdict: Verdict | None) -> bytes | None:
    """The picture as small as it is printed, with a frame around each face."""
    if jpeg is None:
        return None
    try:
        image: Image = pictures.decode(jpeg)
    except BadPicture:
        return None
    scale = min(1.0, WIDE / image.shape[1])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    for face in verdict.faces if verdict else []:
        x0, y0, x1, y1 = (round(each * scale) for each in face["box"])
        red, green, blue = COLOURS[face["look"]]
        cv2.rectangle(image, (x0 - 2, y0 - 2), (x1 + 2, y1 + 2), (blue, green, red), 2)
    return pictures.encode(image, 82)
