"""Settings as they hold: every one with its default and where it is set; secrets only as set or not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from litestar import Router, get
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from api.auth import needs
from api.dependencies import Config
from api.routes.dead_letters import without_passwords
from pipeline.settings import Settings

PREFIX = str(Settings.model_config["env_prefix"])


class SettingView(msgspec.Struct):
    """One number or address; read once, when a process starts."""

    name: str  # in pipeline/settings.py
    environment: str  # the variable that sets it
    section: str  # under which it stands there
    value: str | float | bool | None  # null: not set. Of a secret: "set" or "not set"
    default: str | float | bool | None
    changed: bool  # it is not the default
    secret: bool
    choices: list[str]  # empty: anything of its kind
    about: str  # with its unit


class Elsewhere(msgspec.Struct):
    """What is changed while everything runs, and not by a setting."""

    what: str
    of: Literal["site", "camera", "system"]
    path: str  # of the API
    method: str


class SettingsView(msgspec.Struct):
    """What holds in the process that answers; workers read their own environment."""

    settings: list[SettingView]
    elsewhere: list[Elsewhere]


LIVE = [
    Elsewhere("privacy, blurring of others, time zone, name", "site", "/v1/sites/{site}", "PATCH"),
    Elsewhere("what is required where, when and of whom", "site", "/v1/policies", "POST"),
    Elsewhere("how long each kind of data is kept", "site", "/v1/retention/{kind}", "PUT"),
    Elsewhere("address, rate and width of analysis, name, place", "camera", "/v1/cameras/{camera}", "PATCH"),
    Elsewhere("which of its sources is used", "camera", "/v1/cameras/{camera}/source", "PUT"),
    Elsewhere("privacy areas", "camera", "/v1/cameras/{camera}/hidden", "PUT"),
    Elsewhere("zones", "camera", "/v1/cameras/{camera}/zones", "PUT"),
    Elsewhere("who is told of what, and when", "system", "/v1/alert-rules/{id}", "PUT"),
    Elsewhere("channels by which people are told", "system", "/v1/channels/{id}", "PUT"),
    Elsewhere("roles and their permissions", "system", "/v1/roles/{name}", "PUT"),
]


@get("/", opt=needs("system.edit", everywhere=True), sync_to_thread=False,
     summary="Every setting as it holds in this process")
def every(settings: Config) -> SettingsView:
    """To change one, set its variable and start the process again. `elsewhere` names what is changed at run time."""
    sections = _sections()
    return SettingsView([_view(settings, name, field, sections.get(name, ""))
                         for name, field in Settings.model_fields.items()], LIVE)


def _view(settings: Settings, name: str, field: FieldInfo, section: str) -> SettingView:
    value, default = getattr(settings, name), field.default
    secret = isinstance(default, SecretStr)
    return SettingView(
        name, PREFIX + name.upper(), section, _plain(value), _plain(None if default is PydanticUndefined else default),
        value != default, secret,
        [str(choice) for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else [],
        field.description or "",
    )  # fmt: skip


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        return "set" if value.get_secret_value() else "not set"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return str(without_passwords(value))
    return value if isinstance(value, int | float | bool) else None


def _sections() -> dict[str, str]:
    """Name of a setting -> the comment over its part of the class, which stands after an empty line."""
    found, section, before = {}, "", ""
    for line in inspect.getsource(Settings).splitlines():
        if (comment := re.match(r"    # (.*)", line)) and not before:
            section = comment[1]
        elif name := re.match(r"    (\w+): ", line):
            found[name[1]] = section
        before = line.strip()
    return found


router = Router("/v1/settings", route_handlers=[every], tags=["system"])
