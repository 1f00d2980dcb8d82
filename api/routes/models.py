"""Models: what looks at the pictures, where it comes from, how good it is, and what it must not be used for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from litestar import Response, Router, get

from api.auth import ANYBODY, needs
from api.dependencies import Config
from api.problems import missing
from api.ranges import Id
from models import cards, manifest
from models.cards import Measured
from models.manifest import Broken
from pipeline.settings import Settings

# whom each works for, in the words of the flow
ROLES = {"yunet": "mask", "mask_state": "mask", "sface": "embed", "face_head": "embed"}


class Package(msgspec.Struct):
    """Where weights come from that are not ours."""

    package: str
    version: str
    file: str  # in it
    sha256: str  # of that file


class ModelView(msgspec.Struct):
    """One model."""

    name: str
    role: str  # the stage it works for
    does: str
    licence: str
    runtime: str  # what computes it, as set; the messages name what was used
    form: str  # of the weights that run: f32, int8
    sha256: str | None  # of the file that runs; null: it is not here
    missing: str | None  # why not, and what to do
    package: Package | None  # null: trained by us
    input: str
    output: str
    labels: tuple[str, ...]
    title: str  # of its card
    settings: dict[str, float]  # thresholds in force that concern it, by their environment names


class ModelCard(ModelView):
    """The same, with its card."""

    card: str = ""  # Markdown
    measured: list[Measured] = []  # the tables of the card: figures with 95 % intervals


class Versions(msgspec.Struct):
    """Every model there is."""

    models: list[ModelView]


THRESHOLDS = {"yunet": ("face_score", "face_pixels"), "mask_state": ("face_pixels",), "sface": ("recognise",),
              "face_head": ("recognise",)}  # fmt: skip


@get("/", opt=needs(ANYBODY), sync_to_thread=True, summary="Every model: what it does, its licence and its content")
def every(settings: Config) -> Versions:
    """Whoever is judged by it may know what judges."""
    return Versions([_view(settings, name) for name in manifest.models()])


@get("/{id:str}", opt=needs(ANYBODY), sync_to_thread=True, summary="One model with its card and what was measured")
def one(settings: Config, id: Id) -> ModelCard:
    if id not in manifest.models():
        raise missing("model", id)
    card = cards.cards().get(id)
    view = msgspec.structs.asdict(_view(settings, id))
    return ModelCard(**view, card=card.text if card else "", measured=list(card.measured) if card else [])


@get("/{id:str}/card", opt=needs(ANYBODY), sync_to_thread=True, media_type="text/markdown",
     summary="A model's card as Markdown")
def card(id: Id) -> Response[str]:
    found = cards.cards().get(id)
    if found is None:
        raise missing("model", id)
    return Response(f"## {found.title}\n\n{found.text}\n", media_type="text/markdown; charset=utf-8")


def _view(settings: Settings, name: str) -> ModelView:
    model, source = manifest.models()[name], manifest.models()[name].source
    sum_, fault = _checked(settings, name)
    there = cards.cards().get(name)
    runtime = "LiteRT"
    if name == "yunet" and settings.runtime != "litert":
        runtime = "OpenVINO where it gains much, else LiteRT" if settings.runtime == "auto" else "OpenVINO"
    return ModelView(
        name, ROLES.get(name, ""), model.does, model.licence, runtime, model.use or "int8", sum_, fault,
        Package(source.package, source.version, source.member, source.sha256) if source else None,
        model.input, model.output, model.labels, there.title if there else "",
        {f"MASKWATCH_{each.upper()}": getattr(settings, each) for each in THRESHOLDS.get(name, ())},
    )  # fmt: skip


def _checked(settings: Settings, name: str) -> tuple[str | None, str | None]:
    """The sum of the file that runs, or why there is none. A file that has not changed is not read again."""
    folder, model = settings.data / "models", manifest.models()[name]
    path = manifest.HERE / model.weights if model.source is None else manifest.converted(folder, name, model.use)
    records = folder / "converted.json"
    try:
        marks = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in (path, records) if file.exists())
        return _sum(str(folder), name, marks), None
    except (Broken, OSError) as error:
        return None, str(error).replace(f"{folder}/", "")


@lru_cache(64)
def _sum(folder: str, name: str, marks: Any) -> str:
    from pathlib import Path

    return manifest.checked(Path(folder), name)[1]


router = Router("/v1/models", route_handlers=[every, one, card], tags=["system"])
