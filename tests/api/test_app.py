"""The status page over a real broker: it shows what is on the topics, no picture, and says when it knows nothing."""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from kafka import KafkaProducer
from litestar.testing import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api import auth, db
from api.app import create_app
from api.tables.users import User
from infra.local.kafka import Kafka
from pipeline import topics as contract
from pipeline.messages import (
    Camera,
    CameraStatus,
    DeadLetter,
    Episode,
    Evidence,
    Face,
    Faces,
    Ledger,
    Source,
)
from pipeline.settings import Settings


def publish(settings: Settings, *messages: tuple[str, Any]) -> None:
    with closing(KafkaProducer(**broker.connection(settings))) as producer:
        for name, message in messages:
            topic = contract.find(name)
            value = message if isinstance(message, bytes) else topic.encode(message)
            key = b"gate" if isinstance(message, bytes) else topic.key_of(message)
            producer.send(broker.topic(settings, name), value, key).get(timeout=20)


@pytest.fixture
def client(as_: Any) -> TestClient[Any]:
    return as_("reviewer")


def log_in(client: TestClient[Any], settings: Settings) -> None:
    engine = db.connect(settings)
    with db.sessions(engine)() as session, session.begin():
        auth.first_login(session, settings)
    engine.dispose()
    name, password = (settings.data / auth.FIRST_LOGIN).read_text().split()
    assert client.post("/v1/login", json={"name": name, "password": password}).status_code == 200


def until(client: TestClient[Any], true: Any, timeout: float = 20) -> dict[str, Any]:
    end = time.monotonic() + timeout
    while True:
        report: dict[str, Any] = client.get("/v1/status").json()
        if true(report) or time.monotonic() > end:
            return report
        time.sleep(0.1)


def test_what_is_on_the_topics_is_shown(tables: Settings, client: TestClient[Any]) -> None:
    now = time.time_ns() // 1000
    look = Face(f"gate@{now}#0", (0, 0, 9, 9), 0.9, (0.0,) * 10, "none", 0.9, track="t", state="none", chip=b"CHIP")
    proof = Evidence(look.id, "gate", now, look.box, "none", 0.9, picture=b"PICTURE")
    publish(
        tables,
        ("cameras", Camera("gate", (Source("rtsp://user:secret@10.0.0.9/1"),), name="<b>Gate</b>", rendered=True)),
        ("cameras.status", CameraStatus("gate", now, "up", now, fps_in=25.0, fps_analysed=5.0)),
        ("faces", Faces("gate", now, f"gate@{now}", "site", faces=(look,), ledger=Ledger(seen=4, kept=1, still=3))),
        ("faces", b"not a message"),
        ("episodes", Episode("t!1", "site", "t", "none", "open", now, now, now, ("gate",), evidence=(proof,))),
        ("dead.letters", DeadLetter("frames:0:0:mask", "frames", 0, 0, "mask", "expected a JPEG", now)),
    )
    report = until(client, lambda seen: seen["episodes"] and seen["cameras"] and seen["letters"] and seen["unreadable"])
    assert report["broker"] is True
    (camera,) = report["cameras"]
    assert (camera["name"], camera["state"], camera["fps_in"], camera["rendered"]) == ("<b>Gate</b>", "up", 25.0, True)
    assert report["now"] == {"worn": 0, "incorrect": 0, "none": 1, "unknown": 0}
    assert report["savings"]["saved"] == 0.75
    assert [episode["id"] for episode in report["episodes"]] == ["t!1"]
    assert [letter["reason"] for letter in report["letters"]] == ["expected a JPEG"]
    assert report["unreadable"] == 1
    report = until(client, lambda seen: seen["dead_letters"])
    assert report["dead_letters"] == 1
    text = client.get("/v1/status").text
    assert not re.search("picture|chip|jpeg|secret|UElDVFVSRQ", text)  # no face, no password, no base64 of one
    assert client.get("/ready").json() == {"status": "ok"}


def test_only_its_own_names_are_answered(client: TestClient[Any]) -> None:
    assert client.get("/v1/status", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/health", headers={"host": "localhost:9999"}).json() == {"status": "ok"}
    assert client.get("/health", headers={"host": "mask.example"}).status_code == 400


@pytest.mark.parametrize(("url", "origin"), [
    ("", ""), ("https://Mask.Example/", "https://mask.example"), ("https://mask.example:443", "https://mask.example"),
    ("http://mask.example:8443/x", "http://mask.example:8443"),
])  # fmt: skip
def test_the_origin_of_our_pages_is_as_a_browser_names_it(url: str, origin: str) -> None:
    assert Settings(public_url=url).public_origin == origin


@pytest.mark.parametrize("wrong", [
    {"public_url": "mask.example"}, {"public_url": "https://"}, {"public_url": "ftp://mask.example"},
    {"trusted_proxies": "10.0.0.1/8"}, {"trusted_proxies": "127.0.0.1, proxy"},
])  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_at_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def test_no_browser_guesses_what_an_answer_is(client: TestClient[Any]) -> None:
    for path, status in (("/v1/episodes/export.csv", 200), ("/v1/compliance/export?since=0&until=60000000", 200),
                         ("/v1/me", 200), ("/v1/plans/00000000-0000-4000-8000-000000000000/picture", 404), ("/", None)):
        answer = client.get(path)
        assert answer.headers.get("x-content-type-options") == "nosniff", path
        assert answer.status_code == status or status is None, path


def test_the_dashboard_is_served_at_every_address_that_is_not_the_apis(tmp_path: Path, tables: Settings) -> None:
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (tmp_path / "secret").write_text("not ours to give")
    settings = tables.model_copy(update={"dashboard": built, "tiles": "https://tiles.example/{z}/{x}/{y}.png",
                                          "mediamtx": "https://media.example:8889/"})
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        answer = client.get("/")
        assert (answer.status_code, "make dashboard" in answer.text) == (503, True)
        (built / "index.html").write_text("<!doctype html><title>Maskwatch</title>" + "<!-- long -->" * 99)
        (built / "assets" / "index-1a.js").write_text("export {}")
        first, deep = client.get("/"), client.get("/episodes/x@1!2?state=none")
        assert first.text == deep.text
        assert (first.headers["content-encoding"], first.headers["cache-control"]) == ("gzip", "no-cache")
        policy = first.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "img-src 'self' data: blob: https://tiles.example;" in policy
        assert "connect-src 'self' data: blob: https://tiles.example https://media.example:8889;" in policy
        assert client.get("/", headers={"if-none-match": first.headers["etag"]}).status_code == 304
        script = client.get("/assets/index-1a.js")
        assert (script.text, script.headers["content-type"]) == ("export {}", "text/javascript; charset=utf-8")
        assert "immutable" in script.headers["cache-control"]
        # a script of an older build, an unknown route and a path that leads out are not the page
        for path in ("/assets/index-0.js", "/v1/nothing", "/schema/nothing"):
            assert client.get(path).status_code == 404, path
        assert "not ours" not in client.get("/%2e%2e/secret").text
        assert "not ours" not in client.get("/assets/..%2f..%2fsecret").text
        assert client.get("/v1/interface").status_code == 401
        log_in(client, settings)
        assert client.get("/v1/interface").json()["tiles"] == "https://tiles.example/{z}/{x}/{y}.png"


@pytest.mark.kafka
def test_a_broker_that_goes_and_comes_back_is_noticed_both_times(tmp_path: Path, database: str) -> None:
    from agents.topics import apply

    own = Kafka(tmp_path)
    settings = Settings(kafka=own.bootstrap, data=tmp_path, database=SecretStr(database))
    try:
        with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
            assert client.get("/health").status_code == 200
            assert client.get("/v1/status").status_code == 401
            log_in(client, settings)
            answer = client.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith(f"no answer from the broker at {settings.bootstrap}: ")
            client.cookies.clear()
            assert client.get("/ready").json()["detail"] == "no answer from the broker"  # where it is, is not for all
            log_in(client, settings)
            report = client.get("/v1/status").json()
            assert (report["broker"], report["answered"], report["cameras"]) == (False, None, [])
            own.start().ready()
            apply(settings)
            publish(settings, ("cameras", Camera("gate", (Source("file.mp4"),))))
            assert until(client, lambda seen: seen["cameras"] and seen["broker"], 40)["broker"] is True
            assert own.process
            own.process.kill()
            own.process.wait()
            report = until(client, lambda seen: not seen["broker"], 30)
            assert report["broker"] is False
            assert report["answered"] >= 8
            assert report["fault"]
            assert len(report["cameras"]) == 1
            own.start().ready()
            publish(settings, ("cameras", Camera("hall", (Source("file.mp4"),))))
            report = until(client, lambda seen: len(seen["cameras"]) == 2 and seen["broker"], 40)
            assert [camera["camera"] for camera in report["cameras"]] == ["gate", "hall"]
            assert report["broker"] is True
    finally:
        own.stop()


def test_what_two_remove_at_once_is_removed_without_a_fault(sessions: sessionmaker[Session]) -> None:
    with sessions() as session, session.begin():
        session.add(User(id="u1", name="one"))
    with sessions() as first, sessions() as second:
        for each in (first, second):
            each.delete(each.get_one(User, "u1"))
        first.commit()
        second.commit()  # deletes no row: SQLAlchemy would warn, and a warning is an error here
    with sessions() as session:
        assert session.get(User, "u1") is None


def test_the_schema_describes_every_route(client: TestClient[Any]) -> None:
    answer: httpx.Response = client.get("/schema/openapi.json")
    schema = msgspec.json.decode(answer.content)
    assert {"/health", "/ready", "/v1/status", "/v1/login", "/v1/live"} <= set(schema["paths"])
    bare = [f"{method} {path}" for path, operations in schema["paths"].items()
            for method, operation in operations.items() if not operation.get("summary")]
    assert bare == []


def test_a_query_left_behind_is_waited_for_before_the_connections_are_closed(tables: Settings) -> None:
    with TestClient(create_app(tables), base_url="http://127.0.0.1:8000") as client:
        pool = client.app.state.engine.pool
        held = client.app.state.engine.connect()
        late = threading.Timer(0.5, held.close)
        late.start()
    late.join()
    assert (pool.checkedout(), pool.checkedin()) == (0, 0)
