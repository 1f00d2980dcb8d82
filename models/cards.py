"""models/CARDS.md as values: the card of each model, and the figures in its tables with their intervals."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("CARDS.md")
# 94.3 % [90.3–96.7] of 211 · 99.5 → 97.6 % [97.4–97.8] · 85 % · .87 [.80–.91]
_NUMBER = r"[0-9]*\.?[0-9]+"
_SHARE = re.compile(
    rf"(?:{_NUMBER} → )?({_NUMBER})( %)?(?: \[({_NUMBER})[–-]({_NUMBER})\])?(?: of ([0-9,]+))?"
)  # fmt: skip


class Figure(msgspec.Struct, frozen=True):
    """A cell of a table."""

    text: str  # as the card has it
    value: float | None = None  # a share as 0..1, another number as it is; null: it is none
    low: float | None = None  # 95 % interval
    high: float | None = None
    of: int | None = None  # how many were looked at


class Measured(msgspec.Struct, frozen=True):
    """A table of a card."""

    about: str  # what stands before it
    columns: tuple[str, ...]  # of the figures; the first column names the rows
    rows: tuple[tuple[str, tuple[Figure, ...]], ...]


class Card(msgspec.Struct, frozen=True):
    """What a model was trained on, how good it was, where it fails, what it must not be used for."""

    name: str
    title: str
    text: str  # Markdown, without the heading
    measured: tuple[Measured, ...]


@cache
def cards() -> dict[str, Card]:
    """By model."""
    found = {}
    for part in re.split(r"^## ", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        name = re.match(r"`(\w+)`", title)
        if name:
            found[name[1]] = Card(name[1], title.replace("`", ""), text.strip(), tuple(_tables(text)))
    return found


def _tables(text: str) -> list[Measured]:
    found = []
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    for before, block in zip(["", *blocks], blocks, strict=False):
        lines = [_cells(line) for line in block.splitlines()]
        if not block.startswith("|") or len(lines) < 3:
            continue
        rows = tuple((line[0], tuple(figure(cell) for cell in line[1:])) for line in lines[2:])
        if any(cell.value is not None for _, cells in rows for cell in cells):
            found.append(Measured(" ".join(before.split()) if not before.startswith("|") else "",
                                  tuple(lines[0][1:]), rows))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def figure(text: str) -> Figure:
    """`94.3 % [90.3–96.7] of 211` -> .943, .903, .967, 211; `424 of 430` -> their share."""
    plain = text.replace("**", "")
    if counted := re.fullmatch(r"([0-9,]+) of ([0-9,]+)", plain):
        hits, of = (int(number.replace(",", "")) for number in counted.groups())
        return Figure(text, hits / of if of else None, of=of)
    told = _SHARE.fullmatch(plain)
    if not told:
        return Figure(text)
    value, percent, low, high, of_ = told.groups()
    part = 100 if percent else 1
    return Figure(text, *(None if each is None else round(float(each) / part, 6) for each in (value, low, high)),
                  None if of_ is None else int(of_.replace(",", "")))
