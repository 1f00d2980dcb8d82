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


def test_only_what_was_measured_changes_on_a_page(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "bench.json"
    other = "### Other\n\n`python -m bench other`\n\n* a note"
    page.write_text(f"before\n{figures.BEGIN}\n{figures.END}\nafter\n")
    figures.keep(file, section(9.0), MACHINE, 90)
    figures.into(page, figures.read(file))
    first = page.read_text()
    page.write_text(first.replace("### Speed", f"{other}\n\n### Speed"))
    figures.keep(file, section(2.0), MACHINE | {"versions": {"av": "18.1.0", "numpy": "2.4"}}, 90)
    figures.into(page, figures.read(file))
    text = page.read_text()
    assert text.startswith(f"before\n{figures.BEGIN}\n\n### Other\n")
    assert text.endswith(f"Versions: av 18.1.0, numpy 2.4.\n\n{figures.END}\nafter\n")
    assert (text.count("### "), "9.00" in text, "1.25 – 2.00" in text) == (2, False, True)
    page.write_text("no marks")
    with pytest.raises(ValueError, match="expected the marks"):
        figures.into(page, figures.read(file))
