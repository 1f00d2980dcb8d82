"""The documentation says what is there: every topic, command and setting, links that lead somewhere, fresh files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from pipeline import contract, topics

ROOT = topics.FILE.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]
)
TEXT = {file: file.read_text(encoding="utf-8") for file in dict.fromkeys(DOCUMENTS)}
ALL = "\n".join(TEXT.values())


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """The words of each command and its help."""
    if inside := getattr(command, "commands", None):
        for name, part in inside.items():
            yield from commands(part, (*path, name))
    else:
        yield " ".join(path), command.help or ""


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_is_in_the_table_and_has_an_example():
    table = set(
        re.findall(r"^\| `maskwatch ([a-z -]+)` \|", (ROOT / "docs/operating.md").read_text("utf-8"), re.MULTILINE)
    )
    assert table == set(COMMANDS)
    assert [name for name, told in COMMANDS.items() if "Example" not in told] == []


def test_commands_in_the_text_are_commands_there_are():
    groups = {name.split()[0] for name in COMMANDS}
    named = set(re.findall(r"(?:`|^    (?:\S*/)?)maskwatch ([a-z][a-z-]*)", ALL, re.MULTILINE))
    assert named - groups == set()


def test_every_topic_and_setting_is_described():
    for topic in topics.load():
        assert f"`{topic.name}`" in TEXT[ROOT / "docs/contract/README.md"]
        assert f"`{topic.name}`" in TEXT[ROOT / "docs/topics.md"]
        assert f"`{topic.name}`" in TEXT[ROOT / "docs/privacy.md"], "what does it show of people, and for how long?"
    silent = re.findall(r"^\| `(MASKWATCH_\w+)` \| [^|]* \|  \|$", TEXT[ROOT / "docs/operating.md"], re.MULTILINE)
    assert silent == [], "expected a description in pipeline/settings.py"


def test_the_retention_told_in_privacy_is_the_one_of_the_topics():
    told = dict(re.findall(r"^\| `([a-z.]+)` \|.*\| (\d+ \w+) \|$", TEXT[ROOT / "docs/privacy.md"], re.MULTILINE))
    words = {"24 h": "24 hours", "6 h": "6 hours"}
    kept = {topic.name: topics.span(topic.retention) for topic in topics.load() if topic.retention is not None}
    assert told == {name: words.get(span, span.replace(" d", " days")) for name, span in kept.items()}


def anchors(text: str) -> set[str]:
    """The names that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", TEXT, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path):
    broken = []
    shown = re.sub(r"<!--.*?-->", "", TEXT[file], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", shown):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_every_folder_says_what_belongs_there():
    folders = ["pipeline", "agents", "models", "api", "cli", "infra", "tests", "examples", "docs", "bench", "frontend"]
    assert [name for name in folders if not (ROOT / name / "README.md").exists()] == []


def test_no_path_of_somebodys_machine():
    found = re.findall(r"(?<![\w.])/(?:work|root|home|Users|mnt|opt)/\S*", ALL)
    assert found == []


def test_generated_files_are_fresh():
    assert contract.stale(contract.publish(ROOT)) == []
