"""Renders the demo site: three clips, a floor plan, and the truth about every frame, all from one seed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from fractions import Fraction
from math import pi, sin
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from infra.demo import bodies, heads, plan, portraits, rooms, truth, walk
from infra.demo.truth import FPS, SEEN, SMALLEST

Picture = NDArray[np.uint8]

LABEL = "RENDERED DEMO"
STAMP = "stamp.json"  # written last: says what the files beside it were made from
FILES = (*(f"{camera}.mp4" for camera in walk.CAMERAS), "plan.json", "plan.svg", "cameras.yaml", "ground_truth.json")
HEAD = 0.215 / heads.FACE  # metres a pixel of a head picture: an adult's face box is about 21 cm high
NOISE = 1.2  # luma levels, of the sensor


def render(
    folder: Path,
    seconds: int = 60,
    seed: int = 20261123,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> bool:
    """Clips, plan and truth into `folder`; False when they are there already and nothing was done."""
    folder.mkdir(parents=True, exist_ok=True)
    with portraits.alone(folder):
        stamp = stamp_of(seconds, seed)
        if _there(folder, stamp):
            return False
        (folder / STAMP).unlink(missing_ok=True)
        _render(folder, seconds, seed, progress)
        _write(folder / STAMP, json.dumps({"stamp": stamp, "seed": seed, "seconds": seconds}))
    return True


def _there(folder: Path, stamp: str) -> bool:
    if not all((folder / name).exists() for name in FILES):
        return False
    try:
        return bool(json.loads((folder / STAMP).read_text())["stamp"] == stamp)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # an unreadable stamp is the same as none


def _render(folder: Path, seconds: int, seed: int, progress: Callable[[int, int], None]) -> None:
    visits = walk.scenario(seed, seconds)
    total, seen = seconds * FPS * len(walk.CAMERAS), {}
    for number, camera in enumerate(walk.CAMERAS):
        part, before = folder / f".{camera}.part.mp4", number * seconds * FPS
        seen[camera] = render_clip(
            part, camera, [v for v in visits if v.camera == camera], folder / "pictures", seconds, seed,
            lambda done, before=before: progress(before + done, total),
        )  # fmt: skip
        os.replace(part, folder / f"{camera}.mp4")
    _write(folder / "plan.json", json.dumps(plan.as_json(), indent=1, ensure_ascii=False))
    _write(folder / "plan.svg", plan.as_svg())
    _write(folder / "cameras.yaml", plan.as_yaml(folder))
    _write(folder / "ground_truth.json", json.dumps(truth.tell(seen, visits, seconds, seed), separators=(",", ":")))


def stamp_of(seconds: int, seed: int) -> str:
    """Changes with everything the clips are made from: this folder's code, which pins the pictures, and the seed."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(code + f"{seconds} {seed} {cv2.__version__} {av.__version__}".encode()).hexdigest()[:16]


def render_clip(
    path: Path,
    camera: str,
    visits: list[walk.Visit],
    pictures: Path,
    seconds: int,
    seed: int,
    progress: Callable[[int], None],
) -> list[list[dict[str, Any]]]:
    """Writes one clip; returns the truth: for each frame the faces in it."""
    room = rooms.ROOMS[camera](seed % 2**31)
    noise = sensor_noise(seed)
    draw = np.random.default_rng([seed, walk.CAMERAS.index(camera)])
    faces_of = []
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        out.metadata["title"] = f"{LABEL}: Maskwatch, {camera}"
        out.metadata["comment"] = "Computed pictures with real faces on drawn bodies; nothing in it ever happened."
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = rooms.WIDTH, rooms.HEIGHT, "yuv420p"
        stream.thread_count = 1  # the same bytes on every machine with this encoder
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        stream.gop_size = FPS + FPS // 4
        stream.options = {
            "crf": "21",
            "preset": "veryfast",
            "bf": "0",
            # mbtree=0: with it libx264 reads memory that was never written, so two encodings differ now and then
            # (seen by setting glibc's MALLOC_PERTURB_)
            "x264-params": "keyint=15:min-keyint=15:scenecut=0:mbtree=0",
        }
        for number in range(seconds * FPS):
            picture, faces = frame(room, camera, visits, pictures, number / FPS)
            faces_of.append(faces)
            y, x = (int(v) for v in draw.integers(0, 64, 2))
            shake = noise[y : y + rooms.HEIGHT, x : x + rooms.WIDTH]
            picture = cv2.subtract(cv2.add(picture, shake[..., :3]), shake[..., 3:])
            shown = av.VideoFrame.from_ndarray(picture, format="bgr24")
            shown.pts = number
            for packet in stream.encode(shown):
                out.mux(packet)
            if number % FPS == FPS - 1:
                progress(number + 1)
        for packet in stream.encode():
            out.mux(packet)
    return faces_of


def frame(
    room: rooms.Room, camera: str, visits: list[walk.Visit], pictures: Path, second: float
) -> tuple[Picture, list[dict[str, Any]]]:
    """The picture at a second, and what is true in it."""
    picture = room.background.copy()
    owner = np.zeros(picture.shape[:2], np.uint8)  # who is in front at each pixel; 0 = nobody
    here = sorted(((v.at(second), v) for v in visits if v.start <= second < v.end), key=lambda p: -p[0][1])
    places = []
    for number, ((x, z, walked), visit) in enumerate(here, 1):
        box = person(picture, owner, number, room, visit, camera, pictures, second, (x, z, walked))
        places.append((visit, box, number))
        # what stands between this person and the next nearer one
        nearer = here[number][0][1] if number < len(here) else 0.0
        for depth, front, outline in room.front:
            if nearer <= depth < z:
                np.copyto(picture, front, where=outline[..., None] > 0)
                owner[outline > 0] = 0
    faces = []
    for visit, box, number in places:
        x0, y0, x1, y1 = box
        c0, r0, c1, r1 = max(0, round(x0)), max(0, round(y0)), min(rooms.WIDTH, round(x1)), min(rooms.HEIGHT, round(y1))
        whole = max(1.0, (x1 - x0) * (y1 - y0))
        # a face fills about nine tenths of its box
        free = float((owner[r0:r1, c0:c1] == number).sum()) / (0.92 * whole) if c1 > c0 and r1 > r0 else 0.0
        pull, changing = visit.pull(second)
        visible = min(1.0, free)
        if visible <= 0.02:
            continue
        faces.append({
            "person": visit.person.id, "state": walk.state_of(pull), "changing": changing,
            "box": [round(float(v), 1) for v in box], "clear": round(visible, 2),
            "visible": bool(visible >= SEEN and y1 - y0 >= SMALLEST),
        })  # fmt: skip
    cv2.rectangle(picture, (8, 8), (224, 34), (30, 30, 30), -1)
    cv2.putText(picture, LABEL, (14, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (90, 200, 255), 2, cv2.LINE_AA)
    where = (rooms.WIDTH - 110, 526)
    cv2.putText(picture, camera, where, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (250, 250, 250), 1, cv2.LINE_AA)
    return picture, faces


def person(
    picture: Picture, owner: Picture, number: int, room: rooms.Room, visit: walk.Visit, camera: str, pictures: Path,
    second: float, place: tuple[float, float, float],
) -> tuple[float, float, float, float]:  # fmt: skip
    """Draws one person; returns the face box."""
    who, (x, z, walked) = visit.person, place
    name, mirrored = who.pictures[camera]
    bare = heads.head(pictures, name, mirrored, who.tint)
    pull, changing = visit.pull(second)
    head = bare if pull is None else heads.masked(bare, who.mask, round(pull * 4) / 4)
    standing = visit.at(second + 0.2)[2] - walked < 1e-6
    step = 2 * pi * walked / bodies.STRIDE
    bob = 0.0 if standing else 0.018 * sin(2 * step)
    sway = 0.006 * sin(second * 1.1) if standing else 0.016 * sin(step)
    tilt = 0.008 * sin(second * 0.9) if standing else 0.022 * sin(step + 0.6)  # radians
    metre = rooms.FOCAL / z  # pixels
    shown = room.hides(x, z)
    light = who.shade[camera] * (0.93 + 0.10 * sin(pi * min(z, 11) / 2.6 + 1))

    # a shadow on the floor
    column, row = rooms.project(x, 0, z)
    if row < rooms.HEIGHT + 40:
        shadow = picture.copy()
        cv2.ellipse(
            shadow,
            (round(column), round(row)),
            (round(0.3 * metre), max(2, round(0.05 * metre))),
            0,
            0,
            360,
            (70, 70, 70),
            -1,
            cv2.LINE_AA,
        )
        a, b = max(0, round(column - 0.4 * metre)), round(column + 0.4 * metre)
        a, b = max(a, round(shown[0])), min(b, round(shown[1]))
        if b > a:
            picture[:, a:b] = cv2.addWeighted(shadow[:, a:b], 0.35, picture[:, a:b], 0.65, 0)

    phase = -1 if standing else int(walked / bodies.STRIDE * bodies.PHASES) % bodies.PHASES
    clothes = bodies.body(round(who.height, 2), who.coat, who.trousers, bare.skin, phase)
    column, row = rooms.project(x + sway * 0.4, who.height - bodies.SHOULDERS + bodies.NECK + bob, z)
    # neck, head, clothes: the head lies over the neck, the collar over both
    width = metre / bodies.PIXELS
    frame_of_body = np.float32([[width, 0, column - bodies.WIDE / 2 * metre], [0, width, row]])
    paste(picture, owner, number, bodies.neck(bare.skin), frame_of_body, width, light, shown)
    scale = HEAD * metre
    top = rooms.project(x + sway, who.height - 0.075 + bob, z)
    middle = np.float32(
        [
            heads.TOP_LEFT_OF_FACE[0] if not mirrored else heads.SIZE[0] - 1 - heads.TOP_LEFT_OF_FACE[0],
            heads.TOP_LEFT_OF_FACE[1],
        ]
    )
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]], np.float32) * scale
    move = np.column_stack([turn, np.float32(top) - turn @ middle])
    paste(picture, owner, number, _layers(head), move, scale, light, shown)
    paste(picture, owner, number, clothes, frame_of_body, width, light, shown)
    if changing:
        _hand(picture, owner, number, move, head, metre, who.coat, bare.skin, pull or 0.0)
    box = head.box @ move[:, :2].T + move[:, 2]
    return float(box[0, 0]), float(box[0, 1]), float(box[1, 0]), float(box[1, 1])


_made: dict[int, bodies.Layers] = {}


def _layers(head: heads.Head) -> bodies.Layers:
    """Heads are cached for ever, so their identity is a key."""
    if id(head) not in _made:
        _made[id(head)] = bodies.layers(head.picture, head.alpha)
    return _made[id(head)]


def paste(
    picture: Picture, owner: Picture, number: int, sprite: bodies.Layers, move: NDArray[np.float32], scale: float,
    light: float, shown: tuple[float, float],
) -> None:  # fmt: skip
    """Lays a sprite on the picture between two columns."""
    source, rest = sprite.best(scale)
    shrink = rest / scale
    move = move.copy()
    move[:, :2] *= shrink
    height, width = source.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [0, height], [width, height]]) @ move[:, :2].T + move[:, 2]
    x0, x1 = (
        max(0, round(shown[0]), int(corners[:, 0].min())),
        min(rooms.WIDTH, round(shown[1]), int(corners[:, 0].max()) + 2),
    )
    y0, y1 = max(0, int(corners[:, 1].min())), min(rooms.HEIGHT, int(corners[:, 1].max()) + 2)
    if x1 <= x0 or y1 <= y0:
        return
    move[:, 2] -= (x0, y0)
    layer = cv2.warpAffine(source, move, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR).astype(np.float32)
    alpha = layer[..., 3:] * np.float32(1 / 255)
    under = picture[y0:y1, x0:x1]
    np.copyto(under, np.clip(under * (1 - alpha) + layer[..., :3] * np.float32(light), 0, 255).astype(np.uint8))
    owner[y0:y1, x0:x1][layer[..., 3] > 127] = number


def _hand(
    picture: Picture, owner: Picture, number: int, move: NDArray[np.float32], head: heads.Head, metre: float,
    coat: tuple[int, int, int], skin: tuple[int, int, int], pull: float,
) -> None:  # fmt: skip
    """The forearm and hand that move the mask, at its lower edge beside the chin."""
    mouth = head.landmarks[3:].mean(axis=0)
    x, y = (mouth + np.float32([34, 46 + 18 * pull])) @ move[:, :2].T + move[:, 2]
    elbow = (x + 0.20 * metre, y + 0.30 * metre)

    def line(a: tuple[float, float], b: tuple[float, float], wide: float, colour: tuple[int, int, int]) -> None:
        ends = [tuple(round(v * 16) for v in p) for p in (a, b)]
        cv2.line(picture, ends[0], ends[1], colour, max(1, round(wide * metre)), cv2.LINE_AA, 4)

    line(elbow, (x + 0.035 * metre, y + 0.055 * metre), 0.085, tuple(int(c * 0.85) for c in coat))
    line((x + 0.03 * metre, y + 0.045 * metre), (x, y), 0.06, skin)
    line((x, y), (x - 0.03 * metre, y - 0.02 * metre), 0.028, tuple(int(c * 0.93) for c in skin))


def sensor_noise(seed: int) -> Picture:
    """A field of noise larger than a picture: what to add in three channels, what to take away in a fourth to sixth."""
    size = (rooms.HEIGHT + 64, rooms.WIDTH + 64)
    draw = np.random.default_rng([seed, 99]).normal(0, NOISE, size).round().astype(np.int8)
    more, less = np.maximum(draw, 0).astype(np.uint8), np.maximum(-draw, 0).astype(np.uint8)
    return np.dstack([more, more, more, less, less, less])


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
