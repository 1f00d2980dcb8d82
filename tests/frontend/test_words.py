"""Whatever the API names in English has words in both languages of the dashboard."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import SecretStr

from api.problems import TITLES
from api.routes import episodes, inspections, models, people, requests, settings
from models import cards, manifest
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh-CN")
EVENTS = ("camera.changed", "camera.removed", "camera.status")  # of the live feed, not of the log


@cache
def words(language: str, area: str) -> Any:
    return json.loads((ROOT / f"frontend/src/locales/{language}/{area}.json").read_text())


def slug(text: str) -> str:
    """As frontend/src/i18n.ts makes keys."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def plain(text: str) -> str:
    """Without the braces in which vue-i18n wants signs that mean something to it."""
    return re.sub(r"\{'(.)'\}", r"\1", text)


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in the API of a function of such a name, by its file."""
    for path in sorted((ROOT / "api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    yield str(path.relative_to(ROOT)), node


def texts(node: ast.expr) -> list[str]:
    """The texts that an expression may come to: a constant, or one of two."""
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.IfExp(body=body, orelse=other):
            return texts(body) + texts(other)
    return []


def problem_titles() -> set[str]:
    found = set(TITLES.values())
    found |= {text for _, call in calls("Problem") if len(call.args) > 1 for text in texts(call.args[1])}
    return found | {f"no such {text}" for _, call in calls("missing") if call.args for text in texts(call.args[0])}


def audit_actions() -> set[str]:
    """What is logged: written out, made of a noun and one of a few verbs, or handed on by a function of one file."""
    verbs: dict[str, tuple[str, ...]] = {
        "request": ("granted", "refused", "withdrawn", "ended"), "inspection": get_args(inspections.State),
        "episode": get_args(episodes.Verb), "decision": get_args(get_type_hints(people.NewDecision)["kind"]),
    }
    found = set[str]()
    for file, call in calls("write", "look"):
        if not (isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "audit"):
            continue
        action = call.args[2]
        if isinstance(action, ast.JoinedStr):
            noun = str(getattr(action.values[0], "value", "")).removesuffix(".")
            found |= {f"{noun}.{verb}" for verb in verbs[noun]}
        elif known := texts(action):
            found |= set(known)
        else:  # a parameter: whatever of its kind the file names
            assert isinstance(action, ast.Name), f"{file}: an action that no test can read: {ast.unparse(action)}"
            noun = Path(file).stem.removesuffix("s")
            found |= {one for one in re.findall(r'"([a-z_]+\.[a-z]+)"', (ROOT / file).read_text())
                      if one.startswith(f"{noun}.") and one not in EVENTS}
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_has_its_title(language: str) -> None:
    known = words(language, "problems")
    titles = problem_titles()
    assert len(titles) > 100  # else nothing is read
    assert {title for title in titles if slug(title) not in known["titles"]} == set()
    assert {str(code) for code in TITLES} - {"405"} <= known["status"].keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_action_of_the_audit_log_has_a_name(language: str) -> None:
    known = words(language, "audit")["actions"]
    actions = audit_actions()
    assert {"camera.start", "request.granted", "episode.reopen", "policy.retire", "face.look"} <= actions
    assert {one for one in actions if one.split(".")[1] not in known.get(one.split(".")[0], {})} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_and_section_is_described(language: str) -> None:
    known = words(language, "settings")
    every = settings.every.fn(Settings(admin_password=SecretStr("x"))).settings
    assert {one.name for one in every} == known["of"].keys()
    sections = {slug(one.section.split(":")[0]) for one in every}
    assert sections == known["sections"].keys()
    if language == "en":  # one text, in two places
        assert {one.name: one.about for one in every if one.about} == {
            one.name: plain(known["of"][one.name]) for one in every if one.about}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_model_says_what_it_does(language: str) -> None:
    known = words(language, "models")
    assert manifest.models().keys() == known["does"].keys() == known["titles"].keys()
    assert set(models.ROLES.values()) <= words(language, "stream")["stages"].keys()
    columns = {column for card in cards.cards().values() for table in card.measured for column in table.columns}
    assert {column for column in columns if slug(column) not in known["words"]} == set()
    if language == "en":
        assert {name: model.does for name, model in manifest.models().items()} == known["does"]


def test_requests_end_as_the_audit_log_is_told() -> None:
    source = Path(requests.__file__).read_text()
    ends = {text for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "_close" for text in texts(node.args[3])}
    assert ends == {"granted", "refused", "withdrawn", "ended"}
