"""A phone's photo to its verdict: upload, `frames`, models, `faces`, the table, the live feed; over the real broker."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import httpx
import numpy as np

from bench import system as systems
from bench.clips import Missing
from bench.figures import Figure, Section
from bench.live import _cameras
from bench.system import System, wait
from infra.local import milvus, process
from infra.local.kafka import Kafka
from infra.local.postgres import Postgres
from pipeline.settings import Settings

SIZE = (4032, 3024)  # pixels: what a phone with 12 megapixels sends
PASSWORD = "bench-bench-bench"


def measure(settings: Settings, photos: int, cameras: int, every: float, say: Callable[[str], None]) -> Section:
    """`photos` of each run, one `every` so many seconds; with no camera, then with `cameras`."""
    shown = pictures(settings)
    section = Section(
        "inspection", "Inspection photo to verdict", "python -m bench inspection",
        notes=[
            f"{photos} photos a run, {SIZE[0]} × {SIZE[1]} pixels, {np.mean([len(p) for p in shown]) / 2**20:.1f} MiB "
            f"on average, one every {every:g} s by HTTP; embedded Kafka, PostgreSQL and Milvus Lite, one worker with "
            f"every stage and the real models, one materialiser, the API. Client and all of it share the machine.",
            "From the first byte of the upload to the event `inspection.photo` that has the verdict, at a client of "
            "the live feed. The upload is decoded, made 1920 wide and kept before it is answered.",
            "Beside cameras, a photo waits its turn at the models like every picture of a camera.",
        ],
    )  # fmt: skip
    for count in (0, cameras):
        beside = f"beside {count} demo cameras" if count else "nothing else running"
        answers, verdicts, lost = _run(settings, shown, photos, count, every,
                                       lambda text, beside=beside: say(f"{beside}: {text}"))  # type: ignore[misc]
        for name, values in (("upload answered", answers), ("verdict on the live feed", verdicts)):
            for share in (50, 95, 100):
                label = f"{beside}: {name}, {'longest' if share == 100 else f'p{share}'}"
                section.figures.append(Figure(label, [float(np.percentile(values, share))] if values else [], "s"))
        section.notes.append(f"{beside}: {len(verdicts)} of {photos} photos got a verdict, {lost} did not.")
    return section


def pictures(settings: Settings) -> list[bytes]:
    """Pictures of the demo with people in them, as large as a phone makes them."""
    import av

    found = []
    for clip in sorted((settings.data / "demo").glob("*.mp4")):
        with av.open(str(clip)) as container:
            frames = [frame.to_ndarray(format="bgr24") for number, frame in enumerate(container.decode(video=0))
                      if number % 100 == 50][:8]
        for image in frames:
            jpeg = cv2.imencode(".jpg", cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC),
                                [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            found.append(jpeg.tobytes())
    if not found:
        raise Missing(f"expected the demo clips in {settings.data / 'demo'}: `maskwatch demo render` makes them")
    return found


class _Feed(threading.Thread):
    """A listener of the live feed: when each photo's verdict came."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.url, self.token = url, token
        self.came: dict[str, float] = {}
        self.ready = threading.Event()

    def run(self) -> None:
        head = {"authorization": f"Bearer {self.token}"}
        with suppress(httpx.HTTPError), httpx.stream(  # it ends when the API does
                "GET", f"{self.url}/v1/live", headers=head, timeout=httpx.Timeout(30, read=None)) as answer:
            for line in answer.iter_lines():
                self.ready.set()
                if line.startswith("data: ") and '"inspection.photo"' in line:
                    data = json.loads(line[6:])["data"]
                    if not data.get("waiting"):
                        self.came.setdefault(data["photo"], time.monotonic())


def _run(settings: Settings, shown: list[bytes], photos: int, cameras: int, every: float, say: Callable[[str], None]
         ) -> tuple[list[float], list[float], int]:
    """Seconds to the answers and to the verdicts; photos without one."""
    with TemporaryDirectory(prefix="bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        data = folder / "data"
        data.mkdir()
        (data / "models").symlink_to((settings.data / "models").resolve())
        kafka, database = Kafka(folder), Postgres(folder)
        stack.callback(kafka.stop)
        stack.callback(database.stop)
        say("starting")
        kafka.start()
        database.start()
        vectors = process.free_port()
        with (folder / "milvus.log").open("wb") as log:
            lite = process.spawn(milvus.command(folder / "milvus", vectors), log)
        stack.callback(process.stop, lite, 30)
        kafka.ready()
        database.ready()
        milvus.ready(vectors)
        system = System(data, folder, kafka)
        stack.callback(system.stop)
        system.env |= {"MASKWATCH_DATABASE": database.url.replace("+psycopg", ""), "MASKWATCH_ADMIN_PASSWORD": PASSWORD,
                       "MASKWATCH_VECTORS_PORT": str(vectors)}
        _tables(system)
        system.worker(1)
        system.spawn("materialiser", [sys.executable, "-m", "cli.main", "materialise"], system.env)
        system.page()
        url = f"http://127.0.0.1:{system.env['MASKWATCH_PORT']}"
        if cameras:
            system.cameras(_cameras(settings, cameras))
        wait(system, systems.READY, "an answer of the API", lambda: _answers(url))
        with httpx.Client(base_url=url, timeout=60) as client:
            token = client.post("/v1/login", json={"name": "admin", "password": PASSWORD}).json()["token"]
            client.cookies.clear()
            client.headers["authorization"] = f"Bearer {token}"
            feed = _Feed(url, token)
            feed.start()
            feed.ready.wait(30)
            inspection = str(uuid.uuid4())
            client.put(f"/v1/inspections/{inspection}", json={"site": "bench", "at": time.time_ns() // 1000}
                       ).raise_for_status()
            for _ in range(5):  # the worker has come up when the first has its verdict; five, so that all are warm
                first, _ = _shoot(client, inspection, shown[0])
                wait(system, systems.READY, "a first verdict", lambda each=first: each in feed.came)
            if cameras:
                say("the cameras come up")
                time.sleep(15)
            begun: dict[str, float] = {}
            answers: list[float] = []
            for number in range(photos):
                due = time.monotonic() + every
                photo, (start, took) = _shoot(client, inspection, shown[number % len(shown)])
                begun[photo] = start
                answers.append(took)
                if number % 10 == 9:
                    say(f"photo {number + 1} of {photos}")
                    system.alive()
                time.sleep(max(0.0, due - time.monotonic()))
            end = time.monotonic() + 30
            while not set(begun) <= set(feed.came) and time.monotonic() < end:
                time.sleep(0.1)
        verdicts = [feed.came[photo] - start for photo, start in begun.items() if photo in feed.came]
        return answers, verdicts, len(begun) - len(verdicts)


def _tables(system: System) -> None:
    process_env = os.environ.copy()
    os.environ.update(system.env)
    try:
        from cli.tables import migrate

        migrate()
    finally:
        os.environ.clear()
        os.environ.update(process_env)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _shoot(client: httpx.Client, inspection: str, jpeg: bytes) -> tuple[str, tuple[float, float]]:
    photo, start = str(uuid.uuid4()), time.monotonic()
    answer: Any = client.post(f"/v1/inspections/{inspection}/photos/{photo}",
                              files={"picture": ("photo.jpg", io.BytesIO(jpeg), "image/jpeg")},
                              data={"taken": str(time.time_ns() // 1000)})
    answer.raise_for_status()
    return photo, (start, time.monotonic() - start)
