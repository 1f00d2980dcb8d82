"""`maskwatch cameras` as typed, against a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from agents import broker, cameras
from agents.video import utc
from cli.cameras import app
from pipeline.messages import CameraStatus, encode
from pipeline.settings import Settings

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MASKWATCH_KAFKA", topics.kafka)
    monkeypatch.setenv("MASKWATCH_TOPIC_PREFIX", topics.topic_prefix)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output.strip()

    return run


def test_a_camera_from_first_to_last(run: Run, topics: Settings, tmp_path: Path) -> None:
    url = "rtsp://viewer:secret@192.0.2.7/main"
    assert run("list") == (0, "no cameras; `maskwatch cameras add` adds one")
    assert run("add", "door", url, "--sub", "rtsp://192.0.2.7/sub", "--place", "2,14.5", "--fps", "2") == (
        0,
        "added: door",
    )
    wish = cameras.wishes(topics)["door"]
    assert (wish.place, wish.fps, [s.kind for s in wish.sources]) == ((2.0, 14.5), 2.0, ["main", "sub"])
    assert wish.sources[0].url == url

    assert run("edit", "door", "--privacy", "anonymous", "--url", "rtsp://192.0.2.8/main") == (0, "edited: door")
    wish = cameras.wishes(topics)["door"]
    assert [s.url for s in wish.sources] == ["rtsp://192.0.2.8/main", "rtsp://192.0.2.7/sub"]
    assert (wish.privacy, wish.fps) == ("anonymous", 2.0)

    assert wish.width == 0  # as its faces need it
    assert run("edit", "door", "--width", "1280")[0] == 0
    assert cameras.wishes(topics)["door"].width == 1280
    assert run("edit", "door", "--width", "auto")[0] == 0
    assert cameras.wishes(topics)["door"].width == 0
    assert run("edit", "door", "--width", "wide")[0] == 2

    assert run("stop", "door") == (0, "stopped: door")
    assert not cameras.wishes(topics)["door"].running
    assert run("start", "door") == (0, "started: door")
    assert cameras.wishes(topics)["door"].running
    assert run("rm", "door") == (0, "removed: door")
    assert cameras.wishes(topics) == {}


def test_a_site_file_and_what_the_workers_say(run: Run, topics: Settings, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "site: plant\ncameras:\n- camera: a\n  sources: [{url: 'rtsp://u:secret@192.0.2.1/x'}]\n"
        "- camera: b\n  sources: [{url: 'http://192.0.2.2/b.m3u8'}]\n- camera: c\n  sources: [{url: /none.mp4}]\n"
    )
    assert run("add", "--from", str(site)) == (0, "added: a, b, c")
    now = utc()
    producer = KafkaProducer(**broker.connection(topics))
    a = CameraStatus("a", now, "up", now - 5_000_000, "host:1", fps_in=25.0, dropped=3, width=1920, height=1080,
                     analysed_width=1280, analysed_why="faces", analysed_face=26.2)
    for status in (a, CameraStatus("b", now - 60_000_000, "up", now - 90_000_000)):
        producer.send(broker.topic(topics, "cameras.status"), key=status.camera.encode(), value=encode(status)).get(10)
    producer.close()
    code, text = run("list", "--json")
    rows = {row["camera"]: row for row in json.loads(text)}
    assert code == 0
    assert [rows[name]["state"] for name in "abc"] == ["up", rows["b"]["state"], "waiting for a worker"]
    assert rows["b"]["state"].startswith("no word for 6")
    assert (rows["a"]["site"], rows["a"]["status"]["dropped"], rows["a"]["status"]["width"]) == ("plant", 3, 1920)
    code, table = run("list")
    assert code == 0
    assert all(word in table for word in ("1920×1080", "plant", "no word for", "waiting for a worker"))
    assert "1280, auto:" in table
    assert "(26 px)" in table
    assert "secret" not in text + table


def test_a_fault_is_said_in_words(run: Run) -> None:
    for words, said in (
        (("add", "Door", "x.mp4"), "Door: camera: expected an id of a-z, 0-9 and -, at most 63 long, got 'Door'"),
        (
            ("add", "door", "ftp://u:secret@h/x"),
            "expected rtsp://, rtmp://, http(s)://, a path or /dev/videoN, got 'ftp",
        ),
        (("add", "door", "x.mp4", "--fps", "900"), "expected pictures a second, 0.05..60, got 900.0"),
        (("add", "door"), "expected an id and an address, or --from with a site file"),
        (("add", "--from", "/none.yaml"), "No such file"),
        (("start", "nobody"), "expected no camera at all; got nobody"),
        (("test", "/usr"), "expected a folder of images"),
        (("test", "rtsp://u:secret@127.0.0.1:1/x"), "expected an RTSP stream, got connection refused"),
    ):
        code, text = run(*words)
        assert code == 1
        assert said in text
        assert "secret" not in text


def test_one_look(run: Run, tmp_path: Path) -> None:
    image = np.full((360, 640, 3), 90, np.uint8)
    (tmp_path / "shots").mkdir()
    cv2.imwrite(str(tmp_path / "shots" / "1.jpg"), image)
    code, text = run("test", str(tmp_path / "shots"), "--out", str(tmp_path / "look.jpg"), "--json")
    assert code == 0
    found = json.loads(text)
    assert (found["width"], found["height"], found["codec"], found["analysed"]) == (640, 360, "images", "640×360")
    assert cv2.imread(found["picture"]).shape == (360, 640, 3)
    assert run("add", "twice", str(tmp_path / "shots")) == (0, "added: twice")
    assert run("add", "twice", "other.mp4")[1].startswith("expected new cameras, got some that are there: twice")
    assert run("test", "twice", "--out", str(tmp_path / "again.jpg"))[0] == 0
