"""What was measured, as build/bench.json, as Markdown, and as the generated part of docs/performance.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin, written by `python -m bench report` -->", "<!-- figures: end -->"


@dataclass
class Figure:
    """One quantity, measured several times."""

    what: str
    values: list[float]
    unit: str = ""
    wanted: str = ""  # the bound asked for, in words; empty: none
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def row(self) -> list[str]:
        if not self.values:
            return [self.what, "–", "–", "0", self.wanted, self.note]
        least, most = min(self.values), max(self.values)
        spread = f"{number(least)} – {number(most)}" if len(self.values) > 1 else "–"
        unit = f" {self.unit}" if self.unit else ""
        return [self.what, f"{number(self.median)}{unit}", spread, str(len(self.values)), self.wanted, self.note]


@dataclass
class Table:
    """Counts and shares that are the same each time."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """One measurement: its figures, tables, and sentences on what to make of them."""

    key: str
    title: str
    command: str
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [f"### {self.title}", f"`{self.command}`"]
        if self.figures:
            head = ["what", "median", "min – max", "runs", "wanted", ""]
            parts.append(markdown(head, [figure.row() for figure in self.figures]))
        for table in self.tables:
            parts += [*([table.title] if table.title else []), markdown(table.head, table.rows)]
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(parts)


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    used = [i for i, name in enumerate(head) if i == 0 or any(row[i] for row in rows)]
    lines = [[head[i] for i in used], ["---"] * len(used), *([row[i] for i in used] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def keep(file: Path, section: Section, machine: dict[str, object], took: float) -> None:
    """Writes the section into `file`, beside those measured before."""
    whole = read(file)
    whole[section.key] = asdict(section) | {
        "machine": machine, "taken": datetime.now(UTC).isoformat(timespec="seconds"), "took_s": round(took, 1),
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def section(told: dict[str, Any]) -> Section:
    return Section(
        told["key"], told["title"], told["command"], [Figure(**figure) for figure in told["figures"]],
        [Table(**table) for table in told["tables"]], told["notes"],
    )  # fmt: skip


def document(whole: dict[str, Any], before: str = "") -> str:
    """Every section kept, each with where and when it was measured; of `before`, what was not measured anew stays."""
    parts, versions = _parts(before)
    for told in whole.values():
        machine = told["machine"]
        load = machine["load_at_start"][0]
        where = (
            f"Measured {told['taken'][:16].replace('T', ' ')} UTC on {machine['cores']} cores of "
            f"{machine['processor']}, {machine['memory_gib']} GiB, Python {machine['python']}; "
            f"load before the start {load}; {told['took_s'] / 60:.0f} min."
        )
        parts[told["title"]] = f"{section(told).markdown()}\n\n{where}"
        versions |= machine["versions"]
    if versions:
        parts["Versions"] = "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    return "\n\n".join(parts.values())


def _parts(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Sections of a document by their titles, and the versions it names."""
    text, _, named = text.strip().partition("\n\nVersions: ")
    parts = {part.split("\n")[0]: f"### {part.strip()}" for part in text.split("### ")[1:]}
    return parts, dict(each.rsplit(" ", 1) for each in named.rstrip(".").split(", ") if each)


def marked(page: Path) -> tuple[str, str, str]:
    """A Markdown page before, between and after the marks."""
    whole = page.read_text(encoding="utf-8")
    if BEGIN not in whole or END not in whole:
        raise ValueError(f"{page}: expected the marks {BEGIN} and {END}")
    before, rest = whole.split(BEGIN, 1)
    return before, *rest.split(END, 1)  # type: ignore[return-value]


def into(page: Path, whole: dict[str, Any]) -> None:
    """Puts what was measured between the marks of a page, in place of what stands there of the same title."""
    before, between, after = marked(page)
    page.write_text(f"{before}{BEGIN}\n\n{document(whole, between)}\n\n{END}{after}", encoding="utf-8")
