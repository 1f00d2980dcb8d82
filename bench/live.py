"""The live system under its demo cameras: what is spent besides decoding and inference, and how late results come."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from bench import system as systems
from bench.clips import Missing
from bench.figures import Figure, Section, Table
from bench.stopwatch import DECODE, INFERENCE, PICTURES, STEPS
from bench.system import Consumer, Got, System, Told, Worker, cpu, wait
from infra.demo import plan
from pipeline.messages import Camera
from pipeline.settings import Settings

OVERHEAD = 1.25


def measure(settings: Settings, cameras: int, seconds: float, repeats: int, say: Callable[[str], None]) -> Section:
    section = Section(
        "live", "Overhead and latency of the live system", "python -m bench live",
        notes=[
            f"{cameras} demo cameras (the three of the demo, each site again under other names) at 5 analysed "
            f"pictures a second through the embedded Kafka, one worker with every stage, and the page; "
            f"{seconds:.0f} s each run, counted from when every camera has shown something.",
            "Overhead is the processor time of the worker and the page (all our processes, not the broker), over that "
            "of the threads inside the video decoder and the models. Scaling, JPEG, digest, dedup, tracks, messages, "
            "Kafka clients and event loops are all overhead by this count.",
            "Latency is from the time in the message (`at`: when the picture was taken, for an episode the picture "
            "that made it open) to the moment at which a plain kafka-python consumer on the same machine holds it. "
            "An episode also waits for the other cameras of its site: one with nothing to see speaks once a second.",
        ],
    )
    ratios, over_pictures, per_camera, brokers, dropped = [], [], [], [], 0
    analysed: list[float] = []
    faces: list[float] = []
    episodes: list[float] = []
    from_breach: list[float] = []
    spent: dict[str, list[float]] = {}
    with systems.started(settings.data) as system:
        for number in range(repeats):
            say(f"run {number + 1} of {repeats}: starting")
            if number:
                system.fresh()
            told, page, broker_cpu, got, lost = _run(
                system, _cameras(settings, cameras), seconds, lambda text, n=number: say(f"run {n + 1}: {text}"))
            span = told[1].at - told[0].at
            whole = told[1].cpu - told[0].cpu + page
            steps = _between(*told)
            core_work = sum(steps[name][1] for name in (DECODE, *INFERENCE))
            ratios.append(whole / core_work)
            over_pictures.append(whole / sum(steps[name][1] for name in (*PICTURES, *INFERENCE)))
            per_camera.append(whole / span / cameras * 100)
            brokers.append(broker_cpu / span / cameras * 100)
            dropped += lost
            new = _late(got)
            faces += new[0]
            episodes += new[1]
            from_breach += new[2]
            analysed.append(len(new[0]) / span / cameras)
            for name, (_, used) in steps.items():
                spent.setdefault(name, []).append(used / span / cameras * 1000)
            spent.setdefault("page", []).append(page / span / cameras * 1000)
            rest = whole - page - sum(used for _, used in steps.values())
            spent.setdefault("Kafka clients, Faust, event loop, demuxing", []).append(rest / span / cameras * 1000)
    section.figures = [
        Figure("all our processes, over decoding and inference", ratios, "×", f"≤ {OVERHEAD}"),
        Figure("all our processes, over all work on pictures (with scaling, digest, JPEG both ways) and inference",
               over_pictures, "×"),
        Figure("our processes, per camera", per_camera, "% of a core"),
        Figure("the broker, per camera", brokers, "% of a core"),
        Figure("pictures analysed (the rest is what dedup drops of 5 a second)", analysed, "a second and camera"),
        Figure("picture to faces message, p50", [float(np.percentile(faces, 50))] if faces else [], "s"),
        Figure("picture to faces message, p95", [float(np.percentile(faces, 95))] if faces else [], "s"),
        Figure("picture to episode message, p50", [float(np.percentile(episodes, 50))] if episodes else [], "s"),
        Figure("picture to episode message, p95", [float(np.percentile(episodes, 95))] if episodes else [], "s"),
        Figure("first look in breach to episode message, p50",
               [float(np.percentile(from_breach, 50))] if from_breach else [], "s"),
    ]  # fmt: skip
    section.notes.append(
        f"{len(faces)} faces messages and {len(episodes)} episodes opened; {dropped} pictures dropped at capture. "
        f"An episode opens after {settings.grace:g} s in breach: that is in the last row, not in those before."
    )
    order = [name for name in STEPS if name in spent] + [name for name in spent if name not in STEPS]
    total = sum(float(np.median(spent[name])) for name in order)
    rows = [
        [name, f"{np.median(spent[name]):.2f}", f"{np.median(spent[name]) / total:.1%}",
         "counts as work" if name in (DECODE, *INFERENCE) else ""]
        for name in order
    ]  # fmt: skip
    section.tables.append(Table(
        "Where the processor time goes", ["step", "ms of processor time a second and camera", "share", ""], rows))
    return section


def _cameras(settings: Settings, count: int) -> list[Camera]:
    own = plan.cameras((settings.data / "demo").resolve())
    if not all(source.url and _there(source.url) for camera in own for source in camera.sources):
        raise Missing(f"expected the demo clips in {settings.data / 'demo'}: `maskwatch demo render` makes them")
    cameras = []
    for number in range(count):
        camera, again = own[number % len(own)], number // len(own)
        if again:
            camera = msgspec.structs.replace(
                camera, camera=f"{camera.camera}-{again + 1}", site=f"{camera.site}-{again + 1}")
        cameras.append(camera)
    return cameras


def _there(url: str) -> bool:
    from pathlib import Path

    return Path(url).exists()


def _run(system: System, cameras: list[Camera], seconds: float, say: Callable[[str], None]
         ) -> tuple[tuple[Told, Told], float, float, list[Got], int]:
    """One run: worker's words at both ends, processor seconds of page and broker, what the consumer got, drops."""
    consumer = Consumer(system.settings, "faces", "episodes").begin()
    try:
        system.cameras(cameras)
        worker, page = system.worker(1), system.page()
        wanted = {camera.camera for camera in cameras}

        def showing() -> bool:
            return wanted <= {got.value["camera"] for got in consumer.got[:] if got.topic == "faces"}

        say("waiting until every camera shows something")
        wait(system, systems.READY, f"faces of {len(wanted)} cameras", showing)
        time.sleep(3)
        first, begun = _last(worker), time.time()
        before = cpu(page), cpu(system.kafka.process)
        while (left := begun + seconds - time.time()) > 0:
            say(f"{left:.0f} s left")
            time.sleep(min(left, 10))
            system.alive()
        last = _last(worker)
        after = cpu(page), cpu(system.kafka.process)
        # what was taken at the end may still be under way
        time.sleep(3)
        lost = 0
    finally:
        got = consumer.finish()
        system.stop()
    inside = [each for each in got if first.at <= each.value["at"] / 1e6 <= last.at]
    status = Consumer(system.settings, "cameras.status").begin()
    time.sleep(2)
    newest = {each.value["camera"]: each.value["dropped"] for each in status.finish()}
    lost = sum(newest.values())
    system.clear()
    return (first, last), after[0] - before[0], after[1] - before[1], inside, lost


def _last(worker: Worker) -> Told:
    return worker.told()[-1]


def _between(first: Told, last: Told) -> dict[str, tuple[int, float]]:
    return {
        name: (calls - first.steps.get(name, (0, 0.0))[0], used - first.steps.get(name, (0, 0.0))[1])
        for name, (calls, used) in last.steps.items()
    }


def _late(got: list[Got]) -> tuple[list[float], list[float], list[float]]:
    """Seconds from the picture to its faces message; to the message that opens an episode; from the first look in
    breach to that."""
    faces = [each.at - each.value["at"] / 1e6 for each in got if each.topic == "faces" and not each.value["ended"]]
    opening: dict[str, Got] = {}
    for each in got:
        if each.topic == "episodes" and each.value["status"] == "open":
            opening.setdefault(each.value["id"], each)
    episodes = [each.at - each.value["at"] / 1e6 for each in opening.values()]
    return faces, episodes, [each.at - each.value["start"] / 1e6 for each in opening.values()]
