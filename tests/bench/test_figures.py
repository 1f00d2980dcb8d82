"""How figures are kept, shown and put into the documentation."""

from pathlib import Path

import pytest

from bench import figures
from bench.figures import Figure, Section, Table

MACHINE: dict[str, object] = {
    "processor": "Some CPU", "cores": 2, "memory_gib": 7.8, "python": "3.11.7", "load_at_start": [0.1, 0, 0],
    "versions": {"av": "18.0.0"},
}  # fmt: skip


def section(value: float) -> Section:
    return Section(
        "speed", "Speed", "python -m bench speed", [Figure("how fast", [value, 1.5, 1.25], "×", "≥ 1.2")],
        [Table("Counts", ["what", "how many"], [["frames", "7"]])], ["a note"],
    )  # fmt: skip


def test_a_section_as_markdown() -> None:
    assert section(123.4).markdown() == (
        "### Speed\n\n`python -m bench speed`\n\n"
        "| what | median | min – max | runs | wanted |\n| --- | --- | --- | --- | --- |\n"
        "| how fast | 1.50 × | 1.25 – 123 | 3 | ≥ 1.2 |\n\n"
        "Counts\n\n| what | how many |\n| --- | --- |\n| frames | 7 |\n\n* a note"
    )


def test_what_was_not_measured_is_said() -> None:
    assert Figure("nothing", []).row() == ["nothing", "–", "–", "0", "", ""]


def test_a_newer_measurement_replaces_the_older_one(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    for value in (9.0, 2.0):
        figures.keep(file, section(value), MACHINE, 90)
    kept = figures.read(file)
    assert figures.section(kept["speed"]) == section(2.0)
    text = figures.document(kept)
    assert "on 2 cores of Some CPU, 7.8 GiB, Python 3.11.7; load before the start 0.1; 2 min." in text
    assert text.endswith("Versions: av 18.0.0.")


def test_only_the_marked_part_of_a_page_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n")
    figures.into(page, "new")
    assert page.read_text() == f"before\n{figures.BEGIN}\n\nnew\n\n{figures.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="expected the marks"):
        figures.into(page, "new")
