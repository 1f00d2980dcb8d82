"""Clips with moving shapes, and servers of real streams, made when a test asks: nothing filmed is committed."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from streaming import rtsp as rtsp

Clip = Callable[..., Path]


def scene(number: int, width: int, height: int) -> np.ndarray:
    """A grey room with a bright square that crosses it, and the picture's number as ten black or white tiles."""
    image = np.full((height, width, 3), 90, np.uint8)
    side = max(4, height // 4)
    x = number * max(2, width // 60) % max(1, width - side)
    cv2.rectangle(image, (x, height // 3), (x + side, height // 3 + side), (60, 160, 230), -1)
    tile = max(2, width // 20)
    for bit in range(10):
        image[:tile, bit * tile : (bit + 1) * tile] = 255 if number >> bit & 1 else 0
    return image


def number(image: np.ndarray) -> int:
    """The number written into a scene, read back from a picture of it."""
    tile = max(2, image.shape[1] // 20)
    return sum(1 << bit for bit in range(10) if image[tile // 2, bit * tile + tile // 2].mean() > 127)


def write(
    path: Path | str,
    *,
    seconds: float = 4,
    fps: int = 25,
    size: tuple[int, int] = (320, 180),
    codec: str = "libx264",
    gop: int = 25,
    b: int = 0,
    pixels: str = "yuv420p",
    times: Callable[[int], float] | None = None,
    form: str | None = None,
    rotation: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """`times`: second at which picture i is shown, for a rate that varies; `options`: of the encoder, x264 only."""
    with av.open(str(path), "w", format=form) as out:
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 1000 if times else fps)
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "g": str(gop), "bf": str(b), "sc_threshold": "0", "crf": "28"}
            stream.options |= options or {}
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(round(seconds * fps)):
            picture = av.VideoFrame.from_ndarray(scene(i, *size), "bgr24").reformat(format=pixels)
            picture.pts = round(times(i) * 1000) if times else i
            picture.time_base = stream.codec_context.time_base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """clip("name.mp4", seconds=…, fps=…, size=…, codec=…, gop=…, b=…, pixels=…, times=…, rotation=…, options=…)
    -> path."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, **how: Any) -> Path:
        path = folder / name
        if not path.exists():
            write(path, **how)
        return path

    return make


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    return number


@pytest.fixture(scope="session")
def draw() -> Callable[[int, int, int], np.ndarray]:
    return scene


# -- servers of real streams: `rtsp` comes from streaming.py --


@pytest.fixture
def rtmp(tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that takes and gives RTMP under /live."""
    module = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not module.exists() or not Path(nginx).exists():
        pytest.skip("needs infra/apt-test.txt: nginx, libnginx-mod-rtmp")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"load_module {module};\ndaemon off;\nmaster_process off;\nerror_log stderr;\npid {tmp_path}/pid;\n"
        "events {}\n"
        f"rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
    )
    process = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a web server: files of the folder; /mjpeg is a camera of 10 pictures a second."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/private"):
                self.send_error(401)
            elif self.path.startswith("/mjpeg"):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for i in range(1000):
                        jpeg = cv2.imencode(".jpg", scene(i, 320, 180))[1].tobytes()
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                        time.sleep(0.1)
            else:
                with contextlib.suppress(OSError):
                    super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
