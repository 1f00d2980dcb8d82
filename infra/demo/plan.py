"""The rendered site's plan: rooms, cameras and ways in metres, as JSON, as a picture, and as Camera messages."""

from __future__ import annotations

from math import cos, radians, sin, tan
from pathlib import Path
from typing import Any

import msgspec
import yaml

from infra.demo import rooms
from pipeline.messages import Camera, Source

SITE = "demo"
SIZE = (32.0, 20.0)  # metres east, north
ROOMS = (
    ("Lobby · 大厅", ((0, 0.5), (13, 0.5), (13, 6.5), (0, 6.5))),
    ("Hall · 前厅", ((13, 2.2), (18.3, 2.2), (18.3, 4.8), (13, 4.8))),
    ("Corridor · 走廊", ((15.7, 4.8), (18.3, 4.8), (18.3, 15.6), (15.7, 15.6))),
    ("Cross corridor · 横廊", ((15.7, 15.6), (28.6, 15.6), (28.6, 18.4), (15.7, 18.4))),
    ("Ward corridor · 病区走廊", ((26, 6), (28.6, 6), (28.6, 15.6), (26, 15.6))),
    ("Ward · 病区", ((24, 0.5), (31, 0.5), (31, 6), (24, 6))),
)
# id, name, place east/north, direction in degrees clockwise from north, reach in metres
CAMERAS = (
    ("demo-entrance", "Entrance · 入口", (12.0, 3.5), 270.0, 11.0),
    ("demo-corridor", "Corridor · 走廊", (17.0, 14.5), 180.0, 10.0),
    ("demo-ward", "Ward door · 病区门", (27.3, 6.5), 0.0, 10.0),
)
WAY = ((0.2, 3.5), (15.0, 3.5), (17.0, 4.6), (17.0, 16.8), (27.3, 16.8), (27.3, 6.2))  # the walk through the site
VIEW = 42.0  # horizontal field of view of each camera, degrees


def on_plan(camera: str, x: float, z: float) -> tuple[float, float]:
    """Metres right of a camera's axis and in front of it -> metres east and north."""
    (east, north), direction = next((place, direction) for id_, _, place, direction, _ in CAMERAS if id_ == camera)
    turn = radians(direction)
    return east + z * sin(turn) + x * cos(turn), north + z * cos(turn) - x * sin(turn)


def floor(camera: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Points of the floor, in the picture (0..1) and on the plan: what somebody would click to calibrate the camera."""
    points = [(x, z) for z in (6.5, 8.5, 11.0) for x in (-0.9, 0.9)]
    shown = [rooms.project(x, 0.0, z) for x, z in points]
    return [((column / rooms.WIDTH, row / rooms.HEIGHT), on_plan(camera, x, z))
            for (column, row), (x, z) in zip(shown, points, strict=True)]


def cameras(folder: Path, fps: float = 5.0) -> tuple[Camera, ...]:
    """The demo's cameras as the `cameras` topic takes them; `folder` is where the clips are."""
    return tuple(
        Camera(
            camera=camera, sources=(Source(url=str(folder / f"{camera.removeprefix('demo-')}.mp4"), width=960),),
            name=name, site=SITE, fps=fps, width=960, place=place, direction=direction, view=VIEW,
            loop=True, rendered=True,
        )
        for camera, name, place, direction, _ in CAMERAS
    )  # fmt: skip


def as_yaml(folder: Path) -> str:
    """The same as a site file, for `maskwatch analyse --cameras` and `maskwatch cameras add --from`."""
    listed = [msgspec.to_builtins(camera) for camera in cameras(folder.resolve())]
    return yaml.safe_dump({"site": SITE, "cameras": listed}, allow_unicode=True, sort_keys=False)


def as_json() -> dict[str, Any]:
    return {
        "rendered": True,
        "site": SITE,
        "unit": "metres, x to the east and y to the north of the lower left corner",
        "size": SIZE,
        "rooms": [{"name": name, "outline": outline} for name, outline in ROOMS],
        "cameras": [
            {"camera": camera, "name": name, "place": place, "direction": direction, "view": VIEW, "reach": reach}
            for camera, name, place, direction, reach in CAMERAS
        ],
        "way": WAY,
    }


def as_svg(scale: float = 30.0) -> str:
    """The floor plan as a picture; `scale` is pixels a metre."""
    width, height = SIZE[0] * scale, SIZE[1] * scale

    def points(outline: Any) -> str:
        return " ".join(f"{x * scale:g},{height - y * scale:g}" for x, y in outline)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="sans-serif">',
        f'<rect width="{width:g}" height="{height:g}" fill="#eef1f4"/>',
    ]
    inside = "".join(f'<polygon points="{points(outline)}"/>' for _, outline in ROOMS)
    parts.append(f'<clipPath id="inside">{inside}</clipPath>')  # nobody sees through walls
    for name, outline in ROOMS:
        middle = [sum(p[i] for p in outline) / len(outline) for i in (0, 1)]
        parts.append(f'<polygon points="{points(outline)}" fill="#ffffff" stroke="#5b6672" stroke-width="4"/>')
        turn = outline[2][1] - outline[0][1] > outline[1][0] - outline[0][0]
        x, y = middle[0] * scale, height - (middle[1] - (0 if turn else 0.8)) * scale
        spin = f' transform="rotate(-90 {x:g} {y:g}) translate(0 -22)"' if turn else ""
        parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="15" fill="#5b6672" text-anchor="middle"{spin}>{name}</text>'
        )
    # doorways: gaps in the walls where the way passes
    for x0, y0, x1, y1 in (
        (13, 2.6, 13, 4.4),
        (16, 4.8, 18, 4.8),
        (16, 15.6, 18, 15.6),
        (26.3, 15.6, 28.3, 15.6),
        (0, 2.4, 0, 4.6),
    ):
        parts.append(f'<polyline points="{points(((x0, y0), (x1, y1)))}" stroke="#ffffff" stroke-width="7"/>')
    parts.append(
        f'<polyline points="{points(WAY)}" fill="none" stroke="#9db4c8" stroke-width="3" stroke-dasharray="9 7"/>'
    )
    for _, name, (x, y), direction, reach in CAMERAS:
        ahead = {0.0: (0, 1), 180.0: (0, -1), 270.0: (-1, 0)}[direction]
        aside, half = (ahead[1], -ahead[0]), tan(radians(VIEW / 2)) * reach
        far = [
            (x + ahead[0] * reach + s * aside[0] * half, y + ahead[1] * reach + s * aside[1] * half) for s in (-1, 1)
        ]
        parts.append(
            f'<polygon points="{points(((x, y), *far))}" fill="#2f7fd1" fill-opacity="0.14" clip-path="url(#inside)"/>'
        )
        parts.append(f'<circle cx="{x * scale:g}" cy="{height - y * scale:g}" r="8" fill="#2f7fd1"/>')
        right = x * scale < width * 0.8  # of the camera, where there is room for its name
        at = f'x="{x * scale + (13 if right else -13):g}" y="{height - y * scale - 10:g}"'
        anchor = "start" if right else "end"
        parts.append(f'<text {at} font-size="15" fill="#1d4f86" text-anchor="{anchor}">{name}</text>')
    parts.append(
        f'<text x="12" y="24" font-size="16" fill="#a33">RENDERED DEMO · 演示 — {SIZE[0]:g} × {SIZE[1]:g} m</text>'
    )
    return "\n".join([*parts, "</svg>\n"])
