"""Live video from a camera's picture to a browser's screen: how late it is, and what it costs the API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import httpx
import numpy as np
import psutil
import websockets

from api import auth, db, migrations
from api.tables.users import Grant, User
from bench.clips import Missing
from bench.figures import Figure, Section
from infra.local import process
from infra.local.postgres import Postgres
from pipeline.settings import Settings

SIZE, FPS, TILE = (1280, 720), 25, 40  # of the source; pixels a side of each of the sixteen tiles that tell the time
HIDDEN = [[0.0, 0.6], [0.3, 0.6], [0.3, 1.0], [0.0, 1.0]]

# docs/api.md's player, and a clock-reader on each picture that the browser shows
PLAYER = """
(url, tile) => {
  const video = document.createElement('video'); video.muted = true; video.autoplay = true; video.playsInline = true
  document.body.replaceChildren(video)
  const media = new MediaSource(); video.src = URL.createObjectURL(media)
  const canvas = document.createElement('canvas'); canvas.width = 16 * tile; canvas.height = tile
  const paint = canvas.getContext('2d', {willReadFrequently: true})
  const seen = window.seen = {late: [], at: [], shown: 0, told: [], closed: 0, first: 0, began: performance.now()}
  let buffer, clocks = [], queue = []
  const next = () => { if (buffer && !buffer.updating && queue.length) buffer.appendBuffer(queue.shift()) }
  const look = (_, shown) => {
    paint.drawImage(video, 0, 0, 16 * tile, tile, 0, 0, 16 * tile, tile)
    const pixels = paint.getImageData(0, 0, 16 * tile, tile).data
    let told = 0
    for (let i = 0; i < 16; i++)
      if (pixels[4 * ((tile >> 1) * 16 * tile + i * tile + (tile >> 1)) + 1] > 127) told += 1 << i
    const now = Date.now()
    seen.late.push((now - told) & 65535)
    while (clocks.length > 1 && clocks[1].time <= shown.mediaTime + 0.001) clocks.shift()
    const [clock] = clocks, taken = clock && (clock.at + (shown.mediaTime - clock.time) * 1e6) / 1000
    if (clock) seen.at.push(Math.abs((taken - told + 32768) % 65536 - 32768))
    seen.first ||= performance.now() - seen.began
    video.requestVideoFrameCallback(look)
  }
  media.addEventListener('sourceopen', () => {
    const socket = new WebSocket(url); socket.binaryType = 'arraybuffer'
    socket.onclose = (event) => { seen.closed = event.code }
    socket.onmessage = ({data}) => {
      if (typeof data !== 'string') { queue.push(data); return next() }
      const told = JSON.parse(data)
      if (told.mime) { seen.told.push(told); buffer = media.addSourceBuffer(told.mime)
        buffer.addEventListener('updateend', next) }
      if ('time' in told) clocks.push(told)
    }
  })
  setInterval(() => {
    const b = video.buffered
    if (!b.length) return
    const behind = b.end(b.length - 1) - video.currentTime
    if (behind > 1 || video.currentTime < b.start(b.length - 1)) video.currentTime = b.end(b.length - 1) - 0.1
    else video.playbackRate = behind > 0.3 ? 1.1 : behind < 0.1 ? 0.95 : 1
    if (video.paused) video.play()
  }, 200)
  video.requestVideoFrameCallback(look)
}
"""


def measure(settings: Settings, seconds: float, say: Callable[[str], None]) -> Section:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise Missing("expected chromium on the path: Debian's package is `chromium`")
    section = Section(
        "video", "Live video", "python -m bench video",
        notes=[
            f"A source made for this ({SIZE[0]}×{SIZE[1]}, {FPS} pictures a second, H.264 in FLV over HTTP) draws the "
            "time into each picture; Chromium plays the API's WebSocket with Media Source Extensions, reads it off "
            f"each picture it shows and compares it with the same machine's clock. {seconds:g} s each, counted from "
            "five seconds after the first picture. Encoding at the source and the browser's software decoder and "
            "compositor are in it. Processor time is what is used beyond that of an idle API.",
            "Passed on, the API sends every picture of the source; how many of them the browser decodes and shows "
            "without a graphics card, on cores that do everything else too, is the browser's.",
            "`blackened`: the same with a privacy area, so decoded and encoded anew (at most "
            f"{settings.video_width} wide and {settings.video_fps:g} a second).",
        ],
    )  # fmt: skip
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(_source())
        say("starting the database and the API")
        server, host, token = stack.enter_context(_api(settings, folder))
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{host}", headers=headers, timeout=30) as client:
            client.post("/v1/sites", json={"id": "bench", "name": "Bench"}).raise_for_status()
            for name, areas in (("passed-on", []), ("blackened", [HIDDEN])):
                client.post("/v1/cameras", json={"id": name, "site": "bench", "sources": [{"url": url}]}
                            ).raise_for_status()
                client.put(f"/v1/cameras/{name}/hidden", json={"areas": areas}).raise_for_status()
        time.sleep(5)  # it has just started
        idle = asyncio.run(_many(host, token, 0, seconds, server))
        for name in ("passed-on", "blackened"):
            say(f"{name}: playing in {Path(browser).name}")
            got, cpu = asyncio.run(_play(browser, folder, host, token, name, seconds, server))
            late = np.array(got["late"][-round(seconds * FPS):], float) / 1000
            words = name.replace("-", " ")
            for share in (50, 95):
                section.figures.append(Figure(f"{words}: picture taken to picture shown, p{share}",
                                              [float(np.percentile(late, share))], "s"))
            section.figures += [
                Figure(f"{words}: pictures decoded", [got["decoded"]], "a second"),
                Figure(f"{words}: pictures looked at on the screen", [got["rate"]], "a second"),
                Figure(f"{words}: first picture after opening the page", [got["first"] / 1000], "s"),
                Figure(f"{words}: the API's processor time, one viewer", [cpu - idle], "% of a core"),
                Figure(f"{words}: what `at` says, beside the time in the picture, p95",
                       [float(np.percentile(got["at"], 95))], "ms"),
            ]
        say("four viewers")
        cpu = asyncio.run(_many(host, token, 4, seconds, server))
        section.figures.append(Figure("passed on: the API's processor time, four viewers", [cpu - idle], "% of a core"))
    return section


# -- the source -------------------------------------------------------------------------------------------------------


@contextmanager
def _source() -> Iterator[str]:
    """The address of a camera whose pictures tell when they were taken, milliseconds modulo 65,536."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/x-flv")
            self.end_headers()
            with suppress(OSError, av.error.FFmpegError):
                _film(self.wfile)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera.flv"
    finally:
        server.shutdown()


class _Out:
    """A socket as PyAV writes to it: it cannot be wound back."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        self.file.write(data)
        return len(data)


def _film(file: Any) -> None:
    room = np.random.default_rng(7).integers(60, 120, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    room = np.ascontiguousarray(room.repeat(8, 0).repeat(8, 1))
    with av.open(_Out(file), "w", format="flv", options={"flvflags": "no_duration_filesize"}) as out:
        stream: Any = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(2 * FPS), "crf": "24"}
        began = time.monotonic()
        for number in range(10**9):
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            image = room.copy()
            x = number * 6 % (SIZE[0] - 120)
            image[300:420, x : x + 120] = (60, 160, 230)
            now = int(time.time() * 1000)
            for bit in range(16):
                image[:TILE, bit * TILE : (bit + 1) * TILE] = 255 if now >> bit & 1 else 0
            picture = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")
            picture.pts, picture.time_base = round((time.monotonic() - began) * 1000), Fraction(1, 1000)
            out.mux(stream.encode(picture))


# -- the API ----------------------------------------------------------------------------------------------------------


@contextmanager
def _api(settings: Settings, folder: Path) -> Iterator[tuple[psutil.Process, str, str]]:
    """Its process, host:port, and the token of somebody who may do everything. There is no broker: nothing of this
    needs one."""
    database = Postgres(folder).start().ready()
    port, nobody = process.free_port(), process.free_port()
    env = os.environ | {"MASKWATCH_PORT": str(port), "MASKWATCH_DATABASE": database.url, "MASKWATCH_LOG": "error",
                        "MASKWATCH_KAFKA": f"127.0.0.1:{nobody}", "MASKWATCH_DATA": str(folder)}
    own = settings.model_copy(update={"database": database.url})
    engine = db.connect(Settings(database=database.url, data=folder))
    migrations.upgrade(engine)
    with db.sessions(engine)() as session, session.begin():
        auth.prepare(session)
        user = User(name="bench")
        session.add(user)
        session.flush()
        session.add(Grant(user=user.id, role="admin"))
        token, _ = auth.log_in(session, user.id, own, kind="token")
    engine.dispose()
    with (folder / "api.log").open("wb") as log:
        server = process.spawn([sys.executable, "-m", "cli.main", "api"], log, env=env)
    try:
        until = time.monotonic() + 60
        while True:
            with suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the API did not start: {(folder / 'api.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield psutil.Process(server.pid), f"127.0.0.1:{port}", token
    finally:
        process.stop(server, 10)
        database.stop()


def _used(server: psutil.Process) -> float:
    times = server.cpu_times()
    return times.user + times.system


# -- who watches ------------------------------------------------------------------------------------------------------


@contextmanager
def _browser(browser: str, home: Path) -> Iterator[Path]:
    """The file in which it says how its developer tools are reached."""
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
               f"--user-data-dir={home}", "--autoplay-policy=no-user-gesture-required", "--mute-audio", "about:blank"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield home / "DevToolsActivePort"
    finally:
        running.terminate()
        running.wait()


async def _play(browser: str, folder: Path, host: str, token: str, camera: str, seconds: float, server: psutil.Process
                ) -> tuple[dict[str, Any], float]:
    """What the page has seen, and the API's processor time in percent."""
    with _browser(browser, folder / f"browser-{camera}") as file:
        for _ in range(300):
            if file.exists() and file.read_text().count("\n"):
                break
            await asyncio.sleep(0.1)
        port = file.read_text().split()[0]
        async with httpx.AsyncClient() as client:
            pages = (await client.get(f"http://127.0.0.1:{port}/json")).json()
        page = next(each for each in pages if each["type"] == "page")
        async with websockets.connect(page["webSocketDebuggerUrl"], max_size=None) as devtools:
            number = 0

            async def ask(method: str, **given: Any) -> dict[str, Any]:
                nonlocal number
                number += 1
                await devtools.send(json.dumps({"id": number, "method": method, "params": given}))
                while True:
                    answer = json.loads(await devtools.recv())
                    if answer.get("id") == number:
                        return answer["result"]

            async def value(expression: str) -> Any:
                answer = await ask("Runtime.evaluate", expression=expression, returnByValue=True)
                if "exceptionDetails" in answer:
                    raise RuntimeError(str(answer["exceptionDetails"])[:500])
                return answer["result"].get("value")

            await ask("Network.setCookie", name=auth.COOKIE, value=token, url=f"http://{host}/")
            await ask("Page.navigate", url=f"http://{host}/health")
            await asyncio.sleep(1)
            url = f"ws://{host}/v1/cameras/{camera}/video/stream"
            await value(f"({PLAYER})({json.dumps(url)}, {TILE})")
            for _ in range(100):
                if await value("window.seen.first"):
                    break
                await asyncio.sleep(0.2)
            else:
                raise RuntimeError(f"{camera}: expected a picture within 20 s, got {await value('seen')}")
            await asyncio.sleep(5)
            await value("seen.late.length = seen.at.length = 0")
            decoded = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
            sofar = await value(decoded)
            before, began = _used(server), time.monotonic()
            await asyncio.sleep(seconds)
            spent, took = _used(server) - before, time.monotonic() - began
            got = await value("seen")
            got["rate"], got["decoded"] = len(got["late"]) / took, (await value(decoded) - sofar) / took
            if got["closed"] or not got["late"]:
                raise RuntimeError(f"{camera}: expected the stream to go on, got {len(got['late'])} pictures, "
                                   f"closed with {got['closed']}")
            return got, 100 * spent / took


async def _many(host: str, token: str, viewers: int, seconds: float, server: psutil.Process) -> float:
    async def one() -> None:
        address = f"ws://{host}/v1/cameras/passed-on/video/stream"
        async with websockets.connect(address, additional_headers={"authorization": f"Bearer {token}"},
                                      max_size=None) as socket:
            async for _ in socket:
                pass

    tasks = [asyncio.create_task(one()) for _ in range(viewers)]
    await asyncio.sleep(5)
    before, began = _used(server), time.monotonic()
    await asyncio.sleep(seconds)
    spent, took = _used(server) - before, time.monotonic() - began
    for task in tasks:
        if task.done():
            task.result()
            raise RuntimeError("expected the streams to go on")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 100 * spent / took
