"""The tables of `maskwatch models eval` and the worst mistakes, as one HTML file that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from models.measure import Mistake
from models.report import Section, Side

WORST = 24  # pictures shown of each kind of mistake

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2530;background:#fff;max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem 1rem .2rem 0;text-align:left;border-bottom:1px solid #e4e8ec;vertical-align:top}
p.note{color:#5a6672}ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.6rem}
li{font-size:12px;line-height:1.3;max-width:240px}li img{display:block;height:120px;border-radius:4px}
li span{display:block;max-width:220px;overflow-wrap:anywhere}
"""


def page(folder: Path, made: list[Section], who: list[Side], at: datetime | None = None) -> str:
    """The file's text."""
    when = (at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    out = [f"<!doctype html><html lang=en><meta charset=utf-8><title>Models on {escape(folder.name)}</title>"
           f"<style>{STYLE}</style><h1>Models on {escape(folder.name)}</h1><p>{when}. Brackets: 95 % intervals.</p>"]
    out += [f"<p class=note>{escape(side.name)}: {escape(side.weights)}</p>" for side in who]
    for section in made:
        out.append(f"<h2>{escape(section.title)}</h2><table><tr><th></th>")
        out += [f"<th>{escape(side.name)}</th>" for side in who]
        out.append("</tr>")
        for row in section.rows:
            cells = "".join(f"<td>{escape(value)}</td>" for value in row.values)
            out.append(f"<tr><td>{escape(row.what)}</td>{cells}</tr>")
        out.append("</table>")
        out += [f"<p class=note>{escape(note)}</p>" for note in section.notes]
        for name, mistakes in section.mistakes.items():
            out += gallery(name, mistakes)
    return "\n".join(out) + "\n"


def gallery(name: str, mistakes: list[Mistake]) -> list[str]:
    """The worst of each kind, as pictures."""
    out = []
    for kind in dict.fromkeys(sorted(each.kind for each in mistakes)):
        of_kind = sorted((m for m in mistakes if m.kind == kind), key=lambda m: -m.worth)
        count = f"the worst {WORST} of {len(of_kind)}" if len(of_kind) > WORST else str(len(of_kind))
        out.append(f"<h3>{escape(name)}: {escape(kind)}: {count}</h3><ul>")
        for each in of_kind[:WORST]:
            data = b64encode(each.jpeg).decode()
            out.append(f"<li><img alt='{escape(each.said, quote=True)}' src='data:image/jpeg;base64,{data}'>"
                       f"<span>{escape(each.said)}</span></li>")
        out.append("</ul>")
    return out
