"""Vectors in Milvus: by id, apart by model, found by time and place, and written before they count as read."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from folding import folding, publish, until
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api import materialiser, vectors
from api.folds import Context, Told
from api.tables.vectors import Embeddings
from api.vectors import Vector, Vectors
from infra.local import milvus, process
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


class Server:
    """A Milvus Lite of one test's own, that may be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, process.free_port()
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.running: subprocess.Popen[bytes] = process.spawn(milvus.command(self.folder, self.port), log)
        milvus.ready(self.port)

    def signal(self, sign: int) -> None:
        os.kill(self.running.pid, sign)

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    own = Server(tmp_path)
    yield own
    own.kill()


def test_a_server_that_was_killed_and_is_back_serves_whoever_asked_before_and_whoever_comes_new(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(vectors_port=server.port)
    rows = [Vector(f"f{i}", f"t{i}", "hall", "gate", i, False, 1.0, unit(i)) for i in range(6)]
    space, first = vectors.space(MODELS, 8), np.array(unit(0), np.float32)
    old = {name: Vectors(settings) for name in ("search", "delete", "upsert", "face", "faces", "count")}
    old["upsert"].upsert(space, rows)
    assert all(each.search(space, first, 9) and each.delete("at > 99") == 0 for each in old.values())
    server.signal(signal.SIGSTOP)
    with monkeypatch.context() as quick:
        quick.setattr(vectors, "ANSWER", 0.3)
        for ask in (lambda: old["search"].search(space, first, 9), lambda: old["upsert"].upsert(space, rows)):
            with pytest.raises(vectors.Away):
                ask()
    server.signal(signal.SIGCONT)
    server.kill()
    with pytest.raises(vectors.Away):
        old["search"].search(space, first, 9)
    server.start()

    def back() -> bool:
        try:
            return len(old["search"].search(space, first, 9)) == 6
        except vectors.Away:  # gRPC looks again after a moment
            return False

    # each released anew, so that every call is the first after a start
    for name, call in {
        "search": back,
        "delete": lambda: old["delete"].delete("at < 2") == 2,
        "fresh": lambda: Vectors(settings).delete("at < 3") == 1,
        "upsert": lambda: old["upsert"].upsert(space, rows) is None and old["upsert"].search(space, first, 9),
        "face": lambda: old["face"].of_face("f4"),
        "faces": lambda: len(list(old["faces"].faces())) == 6,
        "count": lambda: old["count"].count("at >= 4") == 2,
        "keep": lambda: Vectors(settings).keep({vectors.row_id("f5"), vectors.row_id("f0")}, "at >= 4") == 1,
    }.items():
        assert process.wait_for(call, 20), name
        old["search"].client().release_collection(old["search"].prefix + space)
    Vectors(settings).drop()  # as a rebuild in another process
    assert old["search"].search(space, first, 9) == []
    old["upsert"].upsert(space, rows)
    assert old["count"].count() == 6


def test_what_milvus_does_not_want_is_the_messages_fault_not_milvus_being_away(tables: Settings) -> None:
    store = vectors.store(tables)
    good = Vector("f", "t", "hall", "gate", AT, False, 1.0, unit(1))
    for wrong, said in (({"at": 1 << 63}, "a time of 0 to"), ({"at": -1}, "a time of 0 to"),
                        ({"values": (1.0,)}, "2 to 32768 numbers"), ({"values": unit(1, 9)}, "Milvus takes"),
                        ({"quality": 1e300}, "finite"), ({"values": (1e300,) * 8}, "finite")):  # fmt: skip
        store.upsert("x", [good])
        with pytest.raises(ValueError, match=said):
            store.upsert("x", [good._replace(**wrong)])
    with pytest.raises(ValueError, match="Milvus takes"):
        store.search("x", np.array(unit(1), np.float32), 5, "at >=")


def test_while_they_are_made_anew_none_is_missing_and_broken_off_none_is_gone(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    store, space, messages = vectors.store(tables), vectors.space(MODELS, 8), [seen("gate", i, i) for i in range(5)]
    publish(tables, *(("faces.embedded", each) for each in messages))
    with folding(tables, sessions):
        until(sessions, lambda _: store.count() == 5)
    store.upsert(space, [Vector("stray", "", "hall", "gate", AT, False, 1.0, unit(9))])
    store.delete(f"at == {messages[3].at}")
    going = materialiser.rebuild(tables, sessions, Context(tables), Embeddings())
    while next(going).done < 5:
        assert store.count() >= 5
    assert store.count() == 6
    going.close()
    assert store.count() == 6
    assert [told.done for told in materialiser.rebuild(tables, sessions, Context(tables), Embeddings())][-1] == 5
    assert sorted(face for _, face, _ in store.faces()) == sorted(each.faces[0].id for each in messages)
