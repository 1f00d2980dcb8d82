"""Vectors in Milvus: by id, apart by model, found by time and place, and written before they count as read."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api import materialiser, vectors
from api.folds import Context, Told
from api.tables.vectors import Embeddings
from api.vectors import Vector
from pipeline.messages import Face, Faces
from pipeline.settings import Settings

AT = 1_700_000_000_000_000
MODELS = {"yunet": "aaaaaaaaaaaa", "sface": "bbbbbbbbbbbb"}


def unit(seed: int, length: int = 8) -> tuple[float, ...]:
    vector = np.random.default_rng(seed).standard_normal(length)
    return tuple((vector / np.linalg.norm(vector)).tolist())


def seen(camera: str, seconds: float, seed: int, site: str = "hall", **more: object) -> Faces:
    at = AT + round(seconds * 1e6)
    frame = f"{camera}@{at}"
    face = Face(f"{frame}#0", (0, 0, 9, 9), .9, (), "none", .9, track=f"{camera}@{AT}#0", state="none", quality=.5,
                chip=b"jpeg", chip_box=(0, 0, 9, 9), embedding=unit(seed))  # fmt: skip
    return Faces(camera, at, frame, site, faces=(face,), **({"models": MODELS} | more))  # type: ignore[arg-type]


def told(*messages: Faces) -> list[Told]:
    return [Told(m.site, m, "faces.embedded", 0, i, m.at) for i, m in enumerate(messages)]


def test_rows_are_by_face_and_apart_by_model(tables: Settings, sessions: sessionmaker[Session]) -> None:
    store, other = vectors.store(tables), {"sface": "cccccccccccc"}
    messages = told(seen("gate", 0, 1), seen("gate", 1, 2), seen("dock", 2, 1, site="yard"),
                    seen("ward", 3, 1, privacy="anonymous"), seen("gate", 4, 1, models=other))
    for _ in range(2):
        with sessions() as session, session.begin():
            assert materialiser.fold(session, Context(tables), "faces.embedded", messages, only=Embeddings()) == []
    ours = vectors.space(MODELS, 8)
    assert ours == vectors.space(MODELS | {"yunet": "dddddddddddd"}, 8) != vectors.space(other, 8)
    assert store.count() == 4
    hits = store.search(ours, np.array(unit(1), np.float32), 10)
    assert sorted((h.camera, round(h.cosine, 4)) for h in hits[:2]) == [("dock", 1.0), ("gate", 1.0)]
    assert len(hits) == 3
    near = store.search(ours, np.array(unit(1), np.float32), 10,
                        f'site in {vectors.quoted(["hall"])} and at >= {AT} and at < {AT + 500_000}')
    assert [h.face for h in near] == [f"gate@{AT}#0"]
    assert store.delete(f"track in {vectors.quoted([f'gate@{AT}#0'])}") == 3
    assert [camera for _, camera, _ in store.faces()] == [f"dock@{AT + 2_000_000}#0"]


def test_a_fold_stops_when_milvus_is_away_and_refuses_what_no_row_can_hold(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    away = tables.model_copy(update={"vectors": "http://127.0.0.1:9", "vectors_token": SecretStr("")})
    with pytest.raises(vectors.Away, match=r"127\.0\.0\.1:9"), sessions() as session, session.begin():
        materialiser.fold(session, Context(away), "faces.embedded", told(seen("gate", 0, 1)), only=Embeddings())
    good, bad = told(seen("gate", 0, 1), seen("g" * 65, 1, 1))
    with sessions() as session, session.begin():
        (letter,) = materialiser.fold(session, Context(tables), "faces.embedded", [good, bad], only=Embeddings())
    assert letter.offset == 1
    assert "camera of at most 64 bytes" in letter.reason
    assert vectors.store(tables).count() == 1
    with pytest.raises(ValueError, match="finite"):
        vectors.store(tables).upsert("x", [Vector("f", "", "s", "c", 1, False, 1.0, (float("nan"),))])
