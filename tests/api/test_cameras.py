"""Cameras over the API: written and seen at once, told to the workers, kept apart by rights, passwords kept in."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from folding import folding, publish, until, wishes
from litestar.testing import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.folds import Context, Told
from api.problems import Problem
from api.routes.cameras import NewSource, source
from api.tables.audit import Audit
from api.tables.cameras import FOLDS, CameraRow, CameraState, RemovedCamera
from api.tables.outbox import Outgoing
from pipeline import pictures
from pipeline.messages import Camera, CameraStatus, Source, decode
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
GATE = {"id": "gate", "site": "hall", "name": "Gate", "place": [2.0, 3.0], "direction": 90, "view": 70, "sources": [
    {"url": "rtsp://viewer:s3cret@10.0.0.7/main", "width": 1920},
    {"url": "rtsp://viewer:s3cret@10.0.0.7/sub", "kind": "sub", "width": 640}]}
SQUARE = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.6], [0.1, 0.6]]


@pytest.fixture
def admin(as_: As) -> TestClient[Any]:
    client = as_("admin")
    for site in ("hall", "lab"):
        assert client.post("/v1/sites", json={"id": site, "name": site.title()}).status_code == 201
    return client


def test_a_camera_is_there_when_the_answer_is_and_reaches_the_topic(
    admin: TestClient[Any], tables: Settings, sessions: sessionmaker[Session]
) -> None:
    answer = admin.post("/v1/cameras", json=GATE)
    assert answer.status_code == 201, answer.text
    assert "s3cret" not in answer.text
    assert [s["url"] for s in answer.json()["sources"]] == ["rtsp://10.0.0.7/main", "rtsp://10.0.0.7/sub"]
    assert admin.get("/v1/cameras/gate").json() == answer.json()
    assert admin.post("/v1/cameras", json=GATE).status_code == 409

    assert admin.patch("/v1/cameras/gate", json={"fps": 2, "place": None}).json()["fps"] == 2
    assert admin.put("/v1/cameras/gate/source", json={"source": 1}).json()["prefer"] == 1
    assert admin.post("/v1/cameras/gate/stop").json()["running"] is False
    # the address as it was shown keeps its login
    sources = [*answer.json()["sources"][:1], {"url": "rtsp://other@10.0.0.8/", "kind": "main"}]
    assert admin.patch("/v1/cameras/gate", json={"sources": sources}).status_code == 200
    wish = wishes(tables, lambda w: "gate" in w and "10.0.0.8" in w["gate"].sources[1].url)["gate"]
    assert (wish.sources[0].url, wish.fps, wish.prefer, wish.place) == (
        "rtsp://viewer:s3cret@10.0.0.7/main", 2, 1, None)
    before = admin.get("/v1/cameras/gate").json()
    with folding(tables, sessions):  # its own words come back, the oldest first, and change nothing
        until(sessions, lambda s: s.scalar(select(CameraRow.offset)) >= 0)
        assert admin.get("/v1/cameras/gate").json() == before

        assert admin.delete("/v1/cameras/gate").status_code == 204
        assert admin.get("/v1/cameras/gate").status_code == 404
        wishes(tables, lambda w: "gate" not in w)
        until(sessions, lambda s: s.scalar(select(RemovedCamera.id)) is None)
        assert admin.get("/v1/cameras").json()["items"] == []
        # by command, in a site nobody has described
        publish(tables, ("cameras", Camera("dock", (Source("rtsp://10.0.0.9/1"),), site="yard", privacy="anonymous")))
        until(sessions, lambda s: s.scalar(select(CameraRow.id)) == "dock")
    assert admin.get("/v1/sites/yard").json()["privacy"] == "anonymous"
    with sessions() as session:
        rows = session.scalars(select(Audit).where(Audit.noun == "gate").order_by(Audit.id)).all()
    assert [row.action for row in rows] == [
        "camera.add", "camera.edit", "camera.switch", "camera.stop", "camera.edit", "camera.remove"]
    assert "s3cret" not in str([row.detail for row in rows])


def test_words_from_before_do_not_come_back(tables: Settings, sessions: sessionmaker[Session], admin: TestClient[Any]
                                            ) -> None:
    """The materialiser was away: what it reads then is older than the rows."""
    admin.post("/v1/cameras", json=GATE)
    old = wishes(tables, lambda w: "gate" in w)["gate"]
    admin.patch("/v1/cameras/gate", json={"name": "New"})
    admin.post("/v1/cameras", json=GATE | {"id": "dock"})
    admin.delete("/v1/cameras/dock")
    def told_(camera: Camera | None, key: str) -> Told:
        return Told(key, camera, "cameras", 0, 7, 0)

    with sessions() as session, session.begin():
        dock = Camera("dock", old.sources, site="hall", changed=old.changed)
        FOLDS[0].fold(session, Context(tables), [told_(old, "gate"), told_(dock, "dock")])
    assert admin.get("/v1/cameras/gate").json()["name"] == "New"
    assert admin.get("/v1/cameras/dock").status_code == 404
    with sessions() as session, session.begin():
        FOLDS[0].fold(session, Context(tables), [told_(None, "dock"), told_(dock, "dock")])  # added again since
    assert admin.get("/v1/cameras/dock").status_code == 200


def test_an_older_wish_that_lies_behind_a_newer_one_does_not_stay_the_last_word(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    """It was held up in a producer. Compaction would leave it alone, and nobody would know of the newer one."""
    context, (fold, *_) = Context(tables), FOLDS
    wish = {n: Camera("gate", (Source("rtsp://10.0.0.9/1"),), name=str(n), changed=n) for n in (1, 2, 3)}
    with sessions() as session, session.begin():
        for offset, changed in ((4, 2), (5, 1)):
            fold.fold(session, context, [Told("gate", wish[changed], "cameras", 0, offset, 0)])
        fold.fold(session, context, [Told("gate", wish[changed], "cameras", 0, offset, 0)
                                     for offset, changed in ((6, 2), (7, 3), (8, 1))])
        assert [decode(each.value or b"", Camera).name for each in session.scalars(
            select(Outgoing).order_by(Outgoing.id))] == ["2", "3"]
        row = session.scalar(select(CameraRow))
        assert row
        assert (row.name, row.offset) == ("3", -1)
        fold.fold(session, context, [Told("gate", wish[3], "cameras", 0, 9, 0)])  # said again, and heard
        assert row.offset == 9
        assert session.scalar(select(func.count()).select_from(Outgoing)) == 2


def test_what_a_clock_that_ran_ahead_said_of_a_camera_does_not_stay(sessions: sessionmaker[Session]) -> None:
    context, (_, fold) = Context(Settings()), FOLDS
    hour, at = 3_600_000_000, 1_700_000_000_000_000
    with sessions() as session, session.begin():
        fold.fold(session, context, [Told("gate", CameraStatus("gate", at + hour, "up", at), "cameras.status", 0, 0,
                                          at + hour)])
        fold.fold(session, context, [Told("gate", CameraStatus("gate", at, "down", at), "cameras.status", 0, 1, at)])
        assert session.scalar(select(CameraState.state)) == "down"


def test_who_may_do_what_to_which_camera(admin: TestClient[Any], as_: As) -> None:
    admin.post("/v1/cameras", json=GATE)
    admin.post("/v1/cameras", json=GATE | {"id": "bench", "site": "lab"})
    viewer, other = as_("viewer", site="hall"), as_("manager", site="lab")
    one = as_("manager", site="hall", camera="gate")
    assert [c["id"] for c in viewer.get("/v1/cameras").json()["items"]] == ["gate"]
    assert {s["url"] for s in viewer.get("/v1/cameras/gate").json()["sources"]} == {""}
    assert [s["id"] for s in viewer.get("/v1/sites").json()["items"]] == ["hall"]
    assert [s["id"] for s in one.get("/v1/sites").json()["items"]] == ["hall"]
    assert viewer.get("/v1/sites/lab").status_code == 404
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"name": "x"}), ("DELETE", "", None), ("POST", "/start", None), ("POST", "/stop", None),
        ("PUT", "/source", {"source": 0}), ("PUT", "/hidden", {"areas": []}), ("PUT", "/zones", {"zones": []}),
        ("PUT", "/calibration", {"pairs": [{"picture": [0, 0], "metres": [0, 0]}] * 4}),
        ("DELETE", "/calibration", None), ("POST", "/test", None), ("POST", "/snapshot", None),
    ]
    for method, path, body in calls:
        found = [client.request(method, f"/v1/cameras/gate{path}", json=body).status_code for client in (viewer, other)]
        assert found == [403, 404], (method, path)
    assert one.patch("/v1/cameras/gate", json={"name": "x"}).status_code == 200
    assert other.post("/v1/cameras", json=GATE | {"id": "new"}).status_code == 422  # for them there is no such site
    assert one.post("/v1/cameras", json=GATE | {"id": "new"}).status_code == 422
    assert one.patch("/v1/cameras/gate", json={"site": "lab"}).status_code == 422
    assert viewer.post("/v1/cameras/test", json={"url": "rtsp://10.0.0.7/"}).status_code == 403
    assert one.patch("/v1/sites/hall", json={"name": "x"}).status_code == 403


NO_CAMERAS: list[tuple[dict[str, Any], str]] = [
    ({"id": "Gate 1"}, "id"), ({"sources": []}, "sources"), ({"fps": 0}, "fps"), ({"width": 12}, "width: expected"),
    ({"site": "nowhere"}, "no such site"), ({"name": "a\0b"}, "name"), ({"privacy": "enrolled"}, "looser"),
    *(({"sources": [{"url": url}]}, "not an address")
      for url in ("/etc/passwd", "/dev/video0", "file:///etc/passwd", "concat:/etc/passwd")),
    ({"sources": [{"url": "rtsp://"}]}, "a host"), ({"direction": 360}, "direction"), ({"place": [1e300, 0]}, "place"),
]


def test_what_is_no_camera_is_refused(admin: TestClient[Any]) -> None:
    for change, says in NO_CAMERAS:
        answer = admin.post("/v1/cameras", json=GATE | change)
        assert answer.status_code == 422, (change, answer.text)
        assert says in answer.text
    assert admin.get("/v1/cameras").json()["items"] == []


def test_privacy_areas_zones_and_calibration_are_drawn(admin: TestClient[Any], tables: Settings) -> None:
    admin.post("/v1/cameras", json=GATE)
    assert admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]}).json()["hidden"] == [SQUARE]
    flat = {"areas": [[[0, 0], [1, 1], [0.5, 0.5]]]}
    assert "encloses something" in admin.put("/v1/cameras/gate/hidden", json=flat).text
    assert admin.put("/v1/cameras/gate/hidden", json={"areas": [[[0, 0], [2, 0], [1, 1]]]}).status_code == 422
    drawn = admin.put("/v1/cameras/gate/zones", json={"zones": [{"name": "desk", "outline": SQUARE}]}).json()
    assert drawn["zones"] == [{"name": "desk", "outline": SQUARE}]
    twice = {"zones": [{"name": "desk", "outline": SQUARE}] * 2}
    assert "each name once" in admin.put("/v1/cameras/gate/zones", json=twice).text
    wish = wishes(tables, lambda w: "gate" in w and w["gate"].policy is not None)["gate"]
    assert (wish.policy.version, wish.policy.zones[0].name, len(wish.hidden)) == ("", "desk", 1)

    assert admin.get("/v1/cameras/gate/calibration").status_code == 404
    floor = [([0.2, 0.9], [0, 0]), ([0.8, 0.9], [2, 0]), ([0.6, 0.4], [2, 8]), ([0.4, 0.4], [0, 8])]
    pairs = [{"picture": p, "metres": m} for p, m in floor]
    tried = admin.put("/v1/cameras/gate/calibration", json={"pairs": pairs, "save": False})
    assert (tried.status_code, tried.json()["created"], tried.json()["residual"]) == (200, None, 0)
    assert admin.get("/v1/cameras/gate").json()["calibrated"] is False
    assert admin.put("/v1/cameras/gate/calibration", json={"pairs": pairs}).status_code == 200
    kept = admin.get("/v1/cameras/gate/calibration").json()
    assert (len(kept["matrix"]), kept["pairs"][2]) == (9, pairs[2])
    line = [{"picture": [x, x], "metres": [x, x]} for x in (0.1, 0.3, 0.6, 0.9)]
    refused = admin.put("/v1/cameras/gate/calibration", json={"pairs": line})
    assert refused.status_code == 422
    assert "lie on a line" in refused.json()["detail"]
    assert admin.delete("/v1/cameras/gate/calibration").status_code == 204


@pytest.fixture
def clip(tmp_path: Path) -> Iterator[str]:
    """Address of a white recording."""
    file = tmp_path / "white.mp4"
    with closing(av.open(str(file), "w")) as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), 255, np.uint8), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/white.mp4"
        server.shutdown()
        thread.join()


def test_a_look_through_a_camera_shows_a_picture_or_says_why_not(admin: TestClient[Any], clip: str,
                                                                 sessions: sessionmaker[Session]) -> None:
    dead = {"url": "rtsp://u:s3cret@127.0.0.1:9/x"}
    tried = admin.post("/v1/cameras/test", json=dead)
    assert (tried.status_code, tried.json()["ok"]) == (200, False)
    assert "nothing listens there" in tried.json()["error"]
    assert "s3cret" not in tried.text
    assert admin.post("/v1/cameras/test", json={"url": "/dev/video0"}).status_code == 422
    admin.post("/v1/cameras", json=GATE | {"sources": [dead]})
    answer = admin.post("/v1/cameras/gate/snapshot")
    assert (answer.status_code, answer.json()["title"]) == (424, "camera does not answer")

    found = admin.post("/v1/cameras/test", json={"url": clip}).json()
    assert (found["ok"], found["codec"], found["width"], found["height"]) == (True, "h264", 320, 180)
    admin.patch("/v1/cameras/gate", json={"sources": [dead, {"url": clip}]})
    admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]})
    shot = admin.post("/v1/cameras/gate/snapshot")
    assert (shot.status_code, shot.headers["content-type"]) == (200, "image/jpeg")
    image = pictures.decode(shot.content)
    assert image[40:60, 60:100].max() < 12
    assert image[150:, 200:].min() > 240
    both = admin.post("/v1/cameras/gate/test").json()
    assert [each["ok"] for each in both] == [False, True]
    with sessions() as session:
        assert list(session.scalars(select(Audit.action).where(Audit.action.in_(("camera.look", "camera.try"))))) == [
            "camera.try", "camera.look", "camera.try", "camera.look", "camera.look"]


def test_areas_are_of_the_picture_whoever_has_its_address(admin: TestClient[Any], as_: As, clip: str,
                                                          sessions: sessionmaker[Session]) -> None:
    """Nobody sees past them by trying the address, by a camera of their own at it, or by drawing on that one."""
    again, far = clip.replace("http://", "http://u:s3cret@") + "?x=1", as_("manager", site="lab")
    mine = GATE | {"id": "mine", "site": "lab", "sources": [{"url": clip}]}
    assert far.post("/v1/cameras", json=mine).status_code == 201
    admin.post("/v1/cameras", json=GATE | {"sources": [{"url": clip}]})
    admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]})
    assert admin.get("/v1/cameras/mine").json()["hidden"] == [SQUARE]  # it was there before
    tried = far.post("/v1/cameras/test", json={"url": again})
    image = pictures.decode(base64.b64decode(tried.json()["jpeg"]))
    assert image[40:60, 60:100].max() < 12
    assert image[150:, 200:].min() > 240
    assert far.post("/v1/cameras/test", json={"url": "rtsp://u:s3 cret@127.0.0.1/"}).status_code == 422
    with sessions() as session:
        rows = session.execute(select(Audit.noun, Audit.site, Audit.camera).where(Audit.action == "camera.try")
                               .order_by(Audit.id)).all()
    shown = clip + "?x=1"
    assert rows == [(shown, "", ""), (shown, "hall", "gate"), (shown, "lab", "mine")]

    other = {"id": "other", "site": "lab", "sources": [{"url": "rtsp://10.0.0.9/1"}]}
    assert far.post("/v1/cameras", json=GATE | other).json()["hidden"] == []
    assert far.patch("/v1/cameras/other", json={"sources": [{"url": again}]}).json()["hidden"] == [SQUARE]
    refused = far.put("/v1/cameras/mine/hidden", json={"areas": []})
    assert (refused.status_code, refused.json()["title"]) == (409, "areas of another camera")
    assert "gate" not in refused.text and "hall" not in refused.text  # noqa: PT018
    more = [SQUARE, [[0.6, 0.6], [0.9, 0.6], [0.9, 0.9]]]
    assert far.put("/v1/cameras/mine/hidden", json={"areas": more}).json()["hidden"] == more
    assert [admin.get(f"/v1/cameras/{id}").json()["hidden"] for id in ("gate", "other")] == [more, more]
    assert as_("manager", site="hall").put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]}).status_code == 409
    assert admin.put("/v1/cameras/gate/hidden", json={"areas": []}).json()["hidden"] == []
    assert [admin.get(f"/v1/cameras/{id}").json()["hidden"] for id in ("mine", "other")] == [[], []]


def test_files_and_devices_only_where_a_setting_allows_them() -> None:
    given = NewSource("/dev/video0")
    with pytest.raises(Problem, match="MASKWATCH_CAMERA_FILES"):
        source(Settings(), given, ())
    assert source(Settings(camera_files=True), given, ()) == Source("/dev/video0")
    assert source(Settings(), given, (Source("/dev/video0", "main", 5),)) == Source("/dev/video0")  # added by command
