"""Live video over real sources and sockets: what arrives can be played, is shared, bounded, and ends with the right."""

from __future__ import annotations

import io
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import httpx2
import msgspec
import numpy as np
import pytest
import websockets.sync.client
from folding import publish
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker
from streaming import rtsp as rtsp

from api import auth, live
from api.db import now
from api.routes.video import _of, _whep
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.users import Grant, Role, RolePermission
from api.video.films import BEHIND_BYTES, Fault, Film, Films, Piece, Viewer, wanted
from api.video.mediamtx import Door
from infra.local import process
from pipeline.messages import Camera, CameraStatus, Face, Faces, Source
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
W, H = 320, 180
SQUARE = [[0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [0.0, 1.0]]  # lower left quarter


def clip(path: Path, codec: str = "libx264", seconds: int = 4, fps: int = 25, gop: int = 25) -> Path:
    """Light grey, with each picture's number as eight tiles along the top."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "0", "sc_threshold": "0", "crf": "12"}
        for i in range(seconds * fps):
            image = np.full((H, W, 3), 180, np.uint8)
            for bit in range(8):
                image[:32, bit * 40 : bit * 40 + 40] = 255 if i >> bit & 1 else 0
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        out.mux(stream.encode(None))
    return path


def number(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(8) if image[16, bit * 40 + 20].mean() > 127)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    clip(folder / "h264.mp4")
    clip(folder / "mjpeg.avi", "mjpeg", seconds=2)
    return folder


@pytest.fixture
def tables(tables: Settings) -> Settings:
    return tables.model_copy(update={"camera_files": True})


@pytest.fixture
def admin(as_: As, clips: Path) -> TestClient[Any]:
    """`gate` has two sources; `yard` belongs to another site."""
    client = as_("admin")
    for site in ("hall", "lab"):
        assert client.post("/v1/sites", json={"id": site, "name": site.title()}).status_code == 201
    sources = [{"url": str(clips / "h264.mp4"), "width": W}, {"url": str(clips / "mjpeg.avi"), "width": W}]
    for id, site in (("gate", "hall"), ("yard", "lab")):
        answer = client.post("/v1/cameras", json={"id": id, "site": site, "sources": sources, "loop": True})
        assert answer.status_code == 201, answer.text
    return client


class Watched:
    """What one client got."""

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.parts: list[bytes] = []
        self.code = 0

    @property
    def facts(self) -> dict[str, Any]:
        return self.texts[0]

    @property
    def fault(self) -> dict[str, Any]:
        return next((text["error"] for text in self.texts if "error" in text), {})

    def pictures(self) -> list[np.ndarray]:
        with av.open(io.BytesIO(b"".join(self.parts))) as film:
            return [frame.to_ndarray(format="bgr24") for frame in film.decode(video=0)]


def watch(client: TestClient[Any], query: str = "", pictures: int = 30, camera: str = "gate", longest: float = 12,
          each: Callable[[Watched], None] | None = None) -> Watched:
    """Until so many pictures have come, or it ends."""
    got, until = Watched(), time.monotonic() + longest
    with client.websocket_connect(f"/v1/cameras/{camera}/video/stream{query}") as connection:
        while len(got.parts) <= pictures and time.monotonic() < until:
            try:
                event = connection.receive(timeout=longest)
            except WebSocketDisconnect as over:
                got.code = over.code
                break
            if event["type"] == "websocket.close":
                got.code = event["code"]
                break
            if event.get("bytes"):
                got.parts.append(event["bytes"])
            elif event.get("text"):
                got.texts.append(json.loads(event["text"]))
            if each:
                each(got)
    return got


def films(client: TestClient[Any]) -> Films:
    return client.app.state.films


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_units_whose_length_looks_like_a_start_code_are_left_as_they_are(admin: TestClient[Any], tmp_path: Path
                                                                         ) -> None:
    """In MP4 and FLV the length stands before a unit: 256 to 511 bytes begin as a start code does."""
    rng = np.random.default_rng(3)
    with av.open(str(tmp_path / "small.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.options = {"preset": "ultrafast", "bf": "0", "g": "50", "crf": "20"}
        stream.codec_context.thread_count = 1  # a picture in one unit
        for i in range(50):
            image = np.full((H, W, 3), 180, np.uint8)
            side = 2 + i % 24
            image[100 : 100 + side, 64 : 64 + side] = rng.integers(0, 255, (side, side, 3))
            for bit in range(8):
                image[:32, bit * 40 : bit * 40 + 40] = 255 if i >> bit & 1 else 0
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "small.mp4")) as source:
        assert sum(bytes(packet)[:3] == b"\0\0\1" for packet in source.demux(video=0)) >= 5
    admin.patch("/v1/cameras/gate", json={"sources": [{"url": str(tmp_path / "small.mp4")}]})
    got = watch(admin, pictures=45)
    assert got.facts["transcoded"] is False
    assert [number(picture) for picture in got.pictures()] == list(range(45))


def test_h264_is_passed_on_and_plays(admin: TestClient[Any], sessions: sessionmaker[Session]) -> None:
    before = admin.get("/v1/cameras/gate/video").json()
    assert [(s["source"], s["first"], s["mime"]) for s in before["sources"]] == [(0, True, None), (1, False, None)]
    got = watch(admin, pictures=60)
    assert got.facts == {"mime": got.facts["mime"], "width": W, "height": H, "transcoded": False, "why": "",
                         "source": 0, "hidden": 0, "boxes": False}
    assert got.facts["mime"].startswith('video/mp4; codecs="avc1.')
    pictures = got.pictures()
    assert [number(p) for p in pictures] == list(range(60))  # every one, in order, from the first keyframe
    clocks = [text for text in got.texts if "time" in text]
    assert [round(c["time"], 2) for c in clocks] == [0.0, 1.0, 2.0]
    assert abs(clocks[-1]["at"] - clocks[0]["at"] - 2_000_000) < 20_000
    assert abs(clocks[-1]["at"] / 1e6 - time.time()) < 3  # the wall clock's
    # as it was: the very bytes that the file holds
    with av.open(admin.get("/v1/cameras/gate").json()["sources"][0]["url"]) as source:
        first = next(source.demux(video=0))
        assert got.parts[1].endswith(bytes(first))
    after = admin.get("/v1/cameras/gate/video").json()["sources"][0]
    assert (after["mime"], after["transcoded"], after["why"]) == (got.facts["mime"], False, "")
    with sessions() as session:
        rows = session.scalars(select(Audit).where(Audit.action == "camera.watch")).all()
    assert [(row.camera, row.site, row.detail) for row in rows] == [("gate", "hall", {"source": 0, "jpeg": False})]


def test_what_browsers_cannot_show_is_encoded_anew(admin: TestClient[Any]) -> None:
    got = watch(admin, "?source=1", pictures=20)
    assert (got.facts["transcoded"], got.facts["why"], got.facts["source"]) == (True, "MJPEG", 1)
    numbers = [number(p) for p in got.pictures()]
    assert len(numbers) == 20
    assert numbers == sorted(numbers)
    times = [text["time"] for text in got.texts if "time" in text]
    assert times[0] == 0
    assert 0.9 < times[1] < 1.2  # a keyframe a second
    missing = watch(admin, "?source=2")
    assert (missing.code, missing.fault["code"], missing.parts) == (4404, "missing", [])


def test_privacy_areas_are_black_for_everybody_and_at_once(admin: TestClient[Any], as_: As) -> None:
    drawn: list[int] = []

    def draw(got: Watched) -> None:
        if len(got.parts) == 20 and not drawn:
            assert admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]}).status_code == 200
            drawn.append(time.monotonic_ns())

    viewer = as_("viewer", site="hall")
    got = watch(viewer, pictures=200, each=draw)
    assert (got.code, got.fault["code"]) == (4409, "changed")
    assert (time.monotonic_ns() - drawn[0]) / 1e9 < 1
    assert len(got.parts) < 60
    for client, query in ((viewer, ""), (admin, "?source=0"), (admin, "?source=1")):
        got = watch(client, query, pictures=10)
        assert (got.facts["transcoded"], got.facts["why"], got.facts["hidden"]) == (True, "privacy areas", 1)
        for picture in got.pictures():
            assert picture[H // 2 + 2 :, : W // 2 - 2].max() < 24
            rest = picture[H // 2 :, W // 2 + 8 :].astype(int)
            assert abs(rest - 180).max() < 16
    # drawn off again it is passed on again
    admin.put("/v1/cameras/gate/hidden", json={"areas": []})
    assert watch(viewer, pictures=2).facts["transcoded"] is False


def test_a_recording_is_shown_where_its_worker_is(admin: TestClient[Any], tables: Settings) -> None:
    url = admin.get("/v1/cameras/gate").json()["sources"][0]["url"]
    begun = round(time.time() * 1e6) - 2_500_000
    publish(tables, ("cameras.status", CameraStatus("gate", begun, "up", begun, url=url, begun=begun)))
    watching = admin.app.state.watch
    until = time.monotonic() + 10
    while not watching.begun("gate", url) and time.monotonic() < until:
        time.sleep(0.05)
    got = watch(admin, pictures=45)
    clock = next(text for text in got.texts if "time" in text)
    first = number(got.pictures()[0])
    assert first in (50, 75)  # the keyframe before, not the recording's first picture
    assert abs(clock["at"] - begun - first * 40_000) < 2_000
    ending = [text for text in got.texts if "time" in text][-1]
    assert ending["at"] > clock["at"]


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_two_viewers_are_one_reader_and_the_late_one_begins_at_once(admin: TestClient[Any], as_: As) -> None:
    late: list[Watched] = []

    def join(got: Watched) -> None:
        if len(got.parts) == 40 and not late:
            began = time.monotonic()
            late.append(watch(as_("viewer", site="hall"), pictures=15))
            assert time.monotonic() - began < 2
            assert len(films(admin).films) == 1
            assert len([t for t in threading.enumerate() if t.name == "film gate"]) == 1

    got = watch(admin, pictures=70, each=join)
    assert late[0].parts[0] == got.parts[0]  # the same init segment
    assert late[0].parts[1] in got.parts  # and the very same fragments
    assert number(late[0].pictures()[0]) % 25 == 0
    until = time.monotonic() + 8
    while films(admin).reading and time.monotonic() < until:
        time.sleep(0.1)
    assert not films(admin).films  # closed some seconds after the last has left
    assert not films(admin).reading


def test_only_so_many_sources_are_open(admin: TestClient[Any]) -> None:
    admin.app.state.films.settings = films(admin).settings.model_copy(update={"video_readers": 1})
    other: list[Watched] = []

    def ask(got: Watched) -> None:
        if len(got.parts) == 3 and not other:
            other.append(watch(admin, camera="yard"))

    watch(admin, pictures=4, each=ask)
    assert (other[0].code, other[0].fault["code"], other[0].fault["retry"]) == (4429, "busy", 5.0)
    assert watch(admin, camera="yard", pictures=2).parts  # the idle one gives way


async def test_a_slow_viewer_is_skipped_forward(tmp_path: Path) -> None:
    films = Films(Settings(data=tmp_path))
    viewer = Viewer(Film(films, wanted(Camera("gate", (Source("x"),)), 0), lambda: 0), False)
    sent = [Piece(bytes([n % 256]) * 100_000, n % 25 == 0) for n in range(400)]
    for piece in sent:
        viewer.offer(piece)
        assert viewer._bytes <= BEHIND_BYTES
    out = await viewer.next()
    assert json.loads(out[0])["skipped"] + len(viewer._queue) + 1 == 400
    assert out[1].key
    kept = [out[1], *(piece for _, piece in viewer._queue)]
    assert kept == sent[-len(kept) :]  # from a keyframe on, without a gap
    viewer.end(Fault("changed", "", 0.0))
    assert await viewer.next() == []


async def test_jpegs_are_thinned_for_each_viewer_and_one_who_sleeps_is_told(tmp_path: Path) -> None:
    """So that viewers who want different numbers of pictures share one reader; see also the JPEGs below."""
    film = Film(Films(Settings(data=tmp_path)), wanted(Camera("gate", (Source("x"),)), 0, True), lambda: 0)
    five, third, all_ = (film.join(fps) for fps in (5.0, 0.3, 10.0))
    assert film._fps() == 10.0
    came: dict[Viewer, list[int]] = {five: [], third: [], all_: []}
    for at in range(0, 10_000_000, 100_000):
        film._offer(Piece(b"", True, b"", 1_700_000_000_000_000 + at))
        for viewer, times in came.items():
            times += [piece.at for _, piece in viewer._queue]
            viewer._queue.clear()
    assert [len(times) for times in came.values()] == [50, 4, 100]
    assert {b - a for a, b in itertools.pairwise(came[five])} == {200_000}
    ragged = film.join(10.0)  # as a camera with 25 pictures a second gives ten
    for at in itertools.accumulate([1_700_000_020_000_000, *[80_000, 120_000] * 20]):
        film._offer(Piece(b"", True, b"", at))
        assert [piece.at for _, piece in ragged._queue] == [at]
    film.viewers.discard(ragged)
    film.viewers.discard(all_)
    assert film._fps() == 5.0
    five.awake -= 31
    film._offer(Piece(b"", True, b"", 1_700_000_030_000_000))
    assert five not in film.viewers
    assert five.fault is not None
    assert five.fault.retry == 0.0
    assert await five.next() == []  # whoever waits for it sees that it is over
    assert third.fault is None


# -- rights -----------------------------------------------------------------------------------------------------------


def test_other_cameras_are_not_there(admin: TestClient[Any], as_: As, app: TestClient[Any]) -> None:
    viewer, one = as_("viewer", site="hall"), as_("viewer", site="lab", camera="yard")
    assert viewer.get("/v1/cameras/yard/video").status_code == 404
    assert viewer.get("/v1/cameras/yard/video/mjpeg").status_code == 404
    for client, camera in ((viewer, "yard"), (viewer, "nothing"), (one, "gate")):
        got = watch(client, camera=camera)
        assert (got.code, got.fault["code"], got.parts) == (4404, "missing", [])
    assert watch(one, camera="yard", pictures=2).parts
    with pytest.raises(WebSocketDisconnect), app.websocket_connect("/v1/cameras/gate/video/stream") as connection:
        connection.receive(timeout=5)
    foreign = {"cookie": f"maskwatch={viewer.headers['authorization'][7:]}", "origin": "http://elsewhere.example"}
    app.headers.clear()
    with pytest.raises(WebSocketDisconnect), app.websocket_connect(
            "/v1/cameras/gate/video/stream", headers=foreign) as connection:
        connection.receive(timeout=5)
    foreign["origin"] = "http://127.0.0.1:8000"
    foreign["host"] = "127.0.0.1:8000"
    with app.websocket_connect("/v1/cameras/gate/video/stream", headers=foreign) as connection:
        assert "mime" in json.loads(connection.receive(timeout=5)["text"])
    admin.post("/v1/cameras/gate/stop")
    assert watch(viewer).fault["code"] == "stopped"
    assert viewer.get("/v1/cameras/gate/video/mjpeg").status_code == 409


def test_a_stream_ends_with_the_right_and_with_the_camera(
    admin: TestClient[Any], as_: As, sessions: sessionmaker[Session]
) -> None:
    viewer = as_("viewer", site="hall")
    ended: list[float] = []

    def take(got: Watched) -> None:
        if len(got.parts) == 5 and not ended:
            with sessions() as session, session.begin():
                session.execute(update(Grant).where(Grant.site == "hall").values(until=now()))
            ended.append(time.monotonic())

    got = watch(viewer, pictures=1000, each=take)
    assert (got.code, got.fault["code"]) == (4404, "missing") or got.code == 4403
    assert time.monotonic() - ended[0] < 10  # seconds; it looks every four, and two cores do much else

    def remove(got: Watched) -> None:
        if len(got.parts) == 5:
            admin.delete("/v1/cameras/yard")

    got = watch(admin, camera="yard", pictures=1000, each=remove)
    assert got.code == 4404
    assert len(got.parts) < 60


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_dead_camera_says_so_and_no_more_than_one_may_know(admin: TestClient[Any], as_: As, clips: Path) -> None:
    dead = f"rtsp://viewer:s3cret@127.0.0.1:{process.free_port()}/cam"
    admin.patch("/v1/cameras/gate", json={"sources": [{"url": dead}]})
    got = watch(admin)
    assert (got.code, got.fault["code"], got.fault["retry"]) == (4503, "camera", 5.0)
    assert "expected an RTSP stream" in got.fault["detail"]
    assert "s3cret" not in got.fault["detail"]
    viewer = as_("viewer", site="hall")
    began = time.monotonic()
    told = watch(viewer).fault["detail"]
    assert told.startswith("…: expected an RTSP stream")
    assert "127.0.0.1" not in told
    assert time.monotonic() - began < 1  # the fault is remembered for a while
    assert viewer.get("/v1/cameras/gate/video/mjpeg").status_code == 424
    # the other source stands in, unless one is asked for by number
    admin.patch("/v1/cameras/gate", json={"sources": [{"url": dead}, {"url": str(clips / "h264.mp4")}], "prefer": 0})
    assert watch(viewer, pictures=2).facts["source"] == 1
    assert watch(viewer, "?source=0").code == 4503


# -- over a real server ----------------------------------------------------------------------------------------------


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """host:port of the API in a process of its own."""
    port = process.free_port()
    own = {"port": port, "data": settings.data, "kafka": settings.kafka, "topic_prefix": settings.topic_prefix,
           "database": settings.database.get_secret_value(), "vectors_port": settings.vectors_port, "log": "error"}
    server = subprocess.Popen([sys.executable, "-c", "from cli.main import main; main()", "api"],
                              env=os.environ | {f"MASKWATCH_{name.upper()}": str(value) for name, value in own.items()})
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        assert server.wait(10) is not None


def jpegs(host: str, headers: Any, query: str = "") -> Iterator[tuple[float, np.ndarray]]:
    """(second at which it was there, picture)."""
    url = f"http://{host}/v1/cameras/gate/video/mjpeg{query}"
    with httpx.stream("GET", url, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200, answer.read()
        boundary = answer.headers["content-type"].split("boundary=")[1].encode()
        read = b""
        for some in answer.iter_raw():
            read += some
            while read.count(b"--" + boundary + b"\r\n") > 1:
                _, part, rest = read.split(b"--" + boundary + b"\r\n", 2)
                read = b"--" + boundary + b"\r\n" + rest
                head, body = part.split(b"\r\n\r\n", 1)
                size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                yield time.monotonic(), cv2.imdecode(np.frombuffer(body[:size], np.uint8), cv2.IMREAD_COLOR)


def test_jpegs_boxes_and_one_who_does_not_read(admin: TestClient[Any], as_: As, tables: Settings) -> None:
    viewer = as_("viewer", site="hall")
    headers = {"authorization": viewer.headers["authorization"]}
    with served(tables) as host:
        # JPEGs, no more a second than asked for
        came = []
        for at, picture in jpegs(host, headers, "?fps=5"):
            came.append((at, number(picture)))
            if len(came) == 11:
                break
        assert 1.6 < came[-1][0] - came[0][0] < 2.6
        assert {(b - a) % 100 for (_, a), (_, b) in itertools.pairwise(came)} <= {4, 5, 6}
        # who asks for more joins the same reader, which decodes more from then on
        slow_one = jpegs(host, headers, "?fps=1")
        next(slow_one)
        quick = [number(picture) for _, picture in itertools.islice(jpegs(host, headers, "?fps=10"), 8)]
        assert {(b - a) % 100 for a, b in itertools.pairwise(quick[2:])} <= {2, 3}
        slow_one.close()
        # whoever does not read holds up nobody, and is ended by a change like everybody
        address = f"ws://{host}/v1/cameras/gate/video/stream"
        with websockets.sync.client.connect(address, additional_headers=headers, max_queue=1) as slow:
            json.loads(slow.recv(timeout=5))
            # boxes of what is analysed, and no names where there are none
            with websockets.sync.client.connect(f"{address}?boxes=true", additional_headers=headers) as boxed:
                assert json.loads(boxed.recv(timeout=5))["boxes"] is True
                looks: list[dict[str, Any]] = []
                for privacy in ("pseudonymous", "anonymous"):
                    face = Face("gate@1#0", (96.0, 36.0, 160.0, 108.0), 0.9, (), "none", 0.8, "gate@1#0", "worn", 0.97)
                    sent = Faces("gate", 1_000, "gate@1", "hall", privacy=privacy, width=320, height=180, faces=(face,))
                    until = time.monotonic() + 10
                    while time.monotonic() < until and not any("faces" in look for look in looks):
                        publish(tables, ("faces", sent), ("faces", msgspec.structs.replace(sent, camera="yard")))
                        for _ in range(20):
                            if isinstance(got := boxed.recv(timeout=5), str):
                                looks.append(json.loads(got))
                    look = next(each for each in looks if "faces" in each)
                    assert look == {"at": 1_000, "width": 320, "height": 180, "faces": [
                        {"box": [0.3, 0.2, 0.5, 0.6], "state": "worn", "score": 0.97}
                        | ({"track": "gate@1#0"} if privacy == "pseudonymous" else {})]}
                    until = time.monotonic() + 0.5
                    while time.monotonic() < until:  # what else was on its way
                        boxed.recv(timeout=5)
                    looks.clear()
                # the right to see who wears what ends, the one to watch does not
                user = viewer.get("/v1/me").json()["id"]
                with admin.app.state.sessions() as db, db.begin():
                    db.add(Role(name="eyes"))
                    db.flush()
                    db.add_all([RolePermission(role="eyes", permission="cameras.view"),
                                Grant(user=user, role="eyes", site="hall")])
                    db.execute(delete(Grant).where(Grant.user == user, Grant.role == "viewer"))
                    live.tell(db, live.Event("grants.changed", {}, users=(user,)))
                until = time.monotonic() + 10
                while boxed.recv(timeout=5) != '{"boxes":false}':
                    assert time.monotonic() < until
                publish(tables, ("faces", sent))
                until = time.monotonic() + 1
                while time.monotonic() < until:
                    assert "faces" not in str(boxed.recv(timeout=5))
            admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]})
            with pytest.raises(websockets.exceptions.ConnectionClosed) as over:
                deque(iter(lambda: slow.recv(timeout=5), None))
            assert over.value.rcvd is not None
            assert over.value.rcvd.code == 4409
        black = next(picture for _, picture in jpegs(host, headers))
        assert black[H // 2 + 6 :, : W // 2 - 6].max() < 40
        assert abs(black[H // 2 :, W // 2 + 16 :].astype(int) - 180).max() < 16


def test_an_rtsp_camera(admin: TestClient[Any], rtsp: Callable[..., Any]) -> None:
    camera = rtsp()
    admin.patch("/v1/cameras/gate", json={"sources": [{"url": f"rtsp://127.0.0.1:{camera.port}/cam"}], "loop": False})
    killed: list[float] = []

    def kill(got: Watched) -> None:
        if len(got.parts) == 60:
            camera.kill()
            killed.append(time.monotonic())

    got = watch(admin, pictures=200, each=kill)
    assert got.facts["transcoded"] is False
    del got.parts[60:]  # of the last ones some may be cut in the middle, as the camera was
    assert len(got.pictures()) == 59
    assert (got.code, got.fault["code"]) == (4503, "camera")
    assert time.monotonic() - killed[0] < 10


def test_mediamtx_asks_and_is_watched_over(admin: TestClient[Any], as_: As, tables: Settings) -> None:
    """Whoever reads what they may not read any more is thrown out, and nobody else."""
    kicked: list[str] = []
    readers: dict[str, list[str]] = {"gate-0": ["x", "y"], "yard-0": ["z"]}

    class Media(BaseHTTPRequestHandler):
        """As much of MediaMTX's control API as is used."""

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            items = [{"name": name, "readers": [{"type": "webRTCSession", "id": id} for id in those]}
                     for name, those in readers.items()]
            self._say(json.dumps({"pageCount": 1, "items": items}).encode())

        def do_POST(self) -> None:
            kicked.append(self.path.removeprefix("/v3/webrtcsessions/kick/"))
            for those in readers.values():
                those[:] = [id for id in those if id != kicked[-1]]
            self._say(b"{}")

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    media = ThreadingHTTPServer(("127.0.0.1", 0), Media)
    threading.Thread(target=media.serve_forever, daemon=True).start()
    viewer = as_("viewer", site="hall")
    assert viewer.get("/v1/cameras/gate/video").json()["sources"][0]["whep"] == ""  # none is configured
    own = tables.model_copy(update={"mediamtx": "https://media.example", "mediamtx_api":
                                    f"http://127.0.0.1:{media.server_port}"})
    make = admin.app.state.sessions
    with make() as db:
        who = auth.recognise(db, viewer.headers["authorization"][7:], tables)
        assert who
        address = _whep(db, own, _of(who, db.get_one(CameraRow, "gate")), 0)
    assert address.startswith("https://media.example/gate-0/whep?ticket=")
    asks = {"action": "read", "path": "gate-0", "protocol": "webrtc", "query": address.split("?")[1], "user": "",
            "password": "", "token": "", "ip": "127.0.0.1", "id": "x"}

    def asked(**other: str) -> int:
        return admin.post("/v1/video/mediamtx", json=asks | other, headers={"authorization": ""}).status_code

    assert asked() == 204
    for other in ({"path": "gate-1"}, {"path": "yard-0"}, {"action": "publish"}, {"protocol": "hls"}, {"query": ""},
                  {"query": asks["query"][:-1] + "x"}, {"query": "ticket=a.1.b"}, {"path": "nothing"}):
        assert asked(**other) == 401, other
    other = as_("viewer", site="hall")
    with make() as db:
        second = auth.recognise(db, other.headers["authorization"][7:], tables)
        assert second
        theirs = _whep(db, own, _of(second, db.get_one(CameraRow, "gate")), 0).split("?")[1]
    assert asked(query=theirs, id="y") == 204
    door = Door(own, make)
    with closing(httpx2.Client(base_url=own.mediamtx_api)) as client:
        door.look(client)
        assert kicked == ["z"]  # whom nobody has let in
        with make() as db, db.begin():
            db.execute(delete(Grant).where(Grant.user == second.id))
        door.look(client)
        assert kicked == ["z", "y"]
        readers["gate-0"].append("y2")
        assert asked(query=theirs, id="y2") == 401  # nor do they come in again
        door.look(client)
        assert kicked == ["z", "y", "y2"]
    door.start()
    admin.put("/v1/cameras/gate/hidden", json={"areas": [SQUARE]})
    assert asked() == 401
    assert process.wait_for(lambda: kicked == ["z", "y", "y2", "x"], 5)
    with make() as db:
        assert _whep(db, own, _of(who, db.get_one(CameraRow, "gate")), 0) == ""
    door.stop()
    media.shutdown()
    media.server_close()
