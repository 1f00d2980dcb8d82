"""The painted rooms of the demo: perspective walls, floors, doors and lamps, and what stands in front of people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 960, 540
FOCAL = 1250.0  # pixels: 42 degrees across
HORIZON = 150.0  # row of the camera's own height
LENS = 1.95  # metres above the floor
CEILING = 2.75  # metres


@dataclass(frozen=True)
class Room:
    background: Picture
    # things in front of people: metres in front of the camera, picture, outline
    front: tuple[tuple[float, Picture, Picture], ...]
    hides: Callable[[float, float], tuple[float, float]]  # (x, z) of a person -> columns in which she can be seen


def project(x: float, y: float, z: float) -> tuple[float, float]:
    """Metres right of the axis, above the floor, in front of the lens -> column, row."""
    return WIDTH / 2 + FOCAL * x / z, HORIZON + FOCAL * (LENS - y) / z


class Painter:
    """Draws polygons given in metres, at twice the size so that edges come out smooth."""

    def __init__(self) -> None:
        self.canvas = np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.uint8)

    def face(self, corners: Sequence[tuple[float, float, float]], colour: Colour, alpha: float = 1.0) -> None:
        shape = [(np.array([project(x, y, max(z, 0.3)) for x, y, z in corners]) * 2 * 16).round().astype(np.int32)]
        if alpha >= 1:
            cv2.fillPoly(self.canvas, shape, colour, cv2.LINE_AA, 4)
        else:
            over = self.canvas.copy()
            cv2.fillPoly(over, shape, colour, cv2.LINE_AA, 4)
            cv2.addWeighted(over, alpha, self.canvas, 1 - alpha, 0, self.canvas)

    def wall(
        self, x: float, y: tuple[float, float], z: tuple[float, float], colour: Colour, alpha: float = 1.0
    ) -> None:
        """A rectangle on a side wall."""
        self.face([(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])], colour, alpha)

    def end(self, x: tuple[float, float], y: tuple[float, float], z: float, colour: Colour, alpha: float = 1.0) -> None:
        """A rectangle facing the camera."""
        self.face([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], colour, alpha)

    def flat(
        self, x: tuple[float, float], z: tuple[float, float], y: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """A rectangle on the floor or the ceiling."""
        self.face([(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])], colour, alpha)

    def box(self, half: float, depth: float, wall: Colour, floor: Colour, ceiling: Colour, end: Colour) -> None:
        self.flat((-half, half), (0.3, depth), 0, floor)
        self.flat((-half, half), (0.3, depth), CEILING, ceiling)
        for x in (-half, half):
            self.wall(x, (0, CEILING), (0.3, depth), wall)
        self.end((-half, half), (0, CEILING), depth, end)

    def tiles(self, half: float, depth: float, size: float, colour: Colour) -> None:
        for z in np.arange(size, depth, size):
            self.flat((-half, half), (z, z + 0.015), 0, colour, 0.5)
        for x in np.arange(-half + size, half, size):
            self.flat((x, x + 0.012), (0.3, depth), 0, colour, 0.5)

    def lamps(self, places: Sequence[float], half: float = 0.3) -> None:
        for z in places:
            self.flat((-half, half), (z, z + 1.1), CEILING, (250, 252, 252))
            self.flat((-half * 1.2, half * 1.2), (z, z + 1.1), 0, (255, 255, 255), 0.10)  # its reflection

    def finish(self, seed: int, warmth: float) -> Picture:
        """Light falls off from the middle, plaster and floor are never quite even."""
        picture = cv2.resize(self.canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
        draw = np.random.default_rng(seed)
        for cells, strength in ((5, 0.022), (40, 0.007), (320, 0.008)):
            coarse = draw.normal(0, strength, (cells * HEIGHT // WIDTH + 1, cells)).astype(np.float32)
            picture *= (1 + cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))[..., None]
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        away = ((columns - WIDTH / 2) / WIDTH) ** 2 + ((rows - HORIZON) / HEIGHT) ** 2 * 0.8
        picture *= (1.04 - 0.42 * away)[..., None]
        picture *= np.float32([1 - warmth, 1, 1 + warmth])
        return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.6), 0, 255).astype(np.uint8)


def entrance(seed: int) -> Room:
    """A lobby with a sliding glass door at its end, a desk, plants, and a column in front of the way."""
    p = Painter()
    half, depth = 3.1, 11.2
    p.box(half, depth, (206, 214, 218), (168, 178, 184), (232, 234, 234), (196, 206, 210))
    p.tiles(half, depth, 0.6, (140, 150, 156))
    p.lamps((3.0, 5.6, 8.2), 0.55)
    # outside, seen through door and windows
    for x0, x1 in ((-2.7, -1.3), (1.3, 2.7), (-1.05, 1.05)):
        p.end((x0, x1), (0.05 if abs(x0) < 1.1 else 0.8, 2.3), depth, (236, 226, 210))
        p.end((x0, x1), (0.05 if abs(x0) < 1.1 else 0.8, 1.0), depth, (176, 190, 180))
        p.end((x0 + 0.2, x0 + 0.6), (1.0, 1.7), depth, (150, 176, 150))
        for x in (x0, x1 - 0.05):
            p.end((x, x + 0.05), (0, 2.3), depth, (120, 118, 114))
        p.end((x0, x1), (2.25, 2.33), depth, (120, 118, 114))
    p.end((-0.9, 0.9), (2.4, 2.62), depth, (140, 110, 40))  # the sign above the door
    p.end((-0.7, 0.7), (2.47, 2.55), depth, (235, 235, 230))
    p.flat((-1.1, 1.1), (8.9, 10.7), 0.0, (96, 100, 104))  # mat
    for x, z in ((-2.5, 9.6), (2.55, 9.9)):  # plants
        p.end((x - 0.2, x + 0.2), (0, 0.45), z, (96, 116, 150))
        for dx, top in ((-0.28, 1.1), (0.0, 1.45), (0.25, 1.2)):
            p.face(
                [(x - 0.06, 0.4, z), (x + 0.06, 0.4, z), (x + dx + 0.1, top, z), (x + dx - 0.12, top * 0.9, z)],
                (84, 132, 88),
            )
    # desk on the right
    p.face([(1.9, 1.05, 5.2), (1.9, 1.05, 8.4), (1.9, 0, 8.4), (1.9, 0, 5.2)], (130, 150, 176))
    p.face([(1.9, 1.05, 5.2), (3.0, 1.05, 5.2), (3.0, 1.05, 8.4), (1.9, 1.05, 8.4)], (196, 208, 216))
    p.end((2.1, 2.5), (1.06, 1.4), 6.6, (64, 60, 58))
    p.wall(-half, (1.2, 2.0), (6.4, 7.6), (222, 228, 232))  # notice board
    p.wall(-half, (1.3, 1.9), (6.5, 7.5), (190, 150, 96))
    background = p.finish(seed, 0.006)
    # a slim column of the door screen
    column, outline = background.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
    left, right = project(-0.52, 0, 5.0)[0], project(-0.40, 0, 5.0)[0]
    bottom, top = project(0, 0, 5.0)[1], project(0, CEILING, 5.0)[1]
    for i, x in enumerate(range(round(left), round(right) + 1)):
        shade = 0.72 + 0.3 * np.sin(np.pi * (i + 2) / (right - left + 5))
        column[:, x] = np.clip(np.float32([176, 180, 182]) * shade, 0, 255)
    outline[max(round(top), 0) : min(round(bottom), HEIGHT), round(left) : round(right) + 1] = 255
    np.copyto(background, column, where=outline[..., None] > 0)
    door = project(-1.0, 0, depth)[0], project(1.0, 0, depth)[0]
    return Room(background, ((5.0, column, outline),), lambda x, z: door if z > depth else (0.0, WIDTH))


def corridor(seed: int) -> Room:
    """A long corridor with doors on both sides; people come round a corner on the right."""
    p = Painter()
    half, depth = 1.45, 13.0
    p.box(half, depth, (216, 222, 214), (150, 164, 160), (236, 236, 236), (200, 208, 200))
    p.tiles(half, depth, 0.5, (128, 142, 138))
    p.lamps((2.4, 5.0, 7.6, 10.2), 0.28)
    for x in (-half, half):
        p.wall(x, (0, 0.12), (0.3, depth), (110, 120, 116))  # skirting
        p.wall(x, (0.85, 0.97), (0.3, depth), (150, 140, 92))  # hand rail
    for z in (4.2, 7.4, 10.6):
        _door(p, -half, z, (150, 170, 190))
    _door(p, half, 5.8, (150, 170, 190))
    # the opening on the right: the way from the hall
    _opening(p, half, (9.0, 10.5), (186, 194, 188), (140, 154, 150))
    p.end((-0.75, 0.75), (0, 2.15), depth, (120, 134, 150))  # fire door
    for x in (-0.5, 0.14):
        p.end((x, x + 0.36), (1.1, 1.85), depth, (222, 226, 224))
    p.end((-0.3, 0.3), (2.28, 2.5), depth, (70, 150, 70))
    p.wall(half, (1.25, 1.95), (4.4, 5.2), (238, 240, 240))  # notice
    p.wall(half, (1.75, 1.9), (4.5, 5.1), (190, 120, 60))
    background = p.finish(seed + 1, -0.004)
    corner = project(half, 0, 9.0)[0]
    return Room(background, (), lambda x, z: (0.0, corner if x > half - 0.15 else WIDTH))


def ward(seed: int) -> Room:
    """The corridor before the ward; people come round a corner on the left."""
    p = Painter()
    half, depth = 1.75, 11.6
    p.box(half, depth, (222, 216, 206), (172, 166, 152), (238, 238, 236), (214, 206, 196))
    p.tiles(half, depth, 0.7, (150, 144, 130))
    p.lamps((3.2, 6.4, 9.2), 0.42)
    for x in (-half, half):
        p.wall(x, (0, 1.1), (0.3, depth), (196, 178, 150))
        p.wall(x, (1.08, 1.16), (0.3, depth), (150, 130, 100))
    _opening(p, -half, (9.0, 10.6), (190, 184, 174), (160, 154, 140))
    _door(p, half, 4.6, (178, 170, 120))
    _door(p, half, 8.0, (178, 170, 120))
    p.end((-1.0, 1.0), (0.9, 2.1), depth, (234, 228, 214))  # window
    p.end((-1.0, 1.0), (0.9, 1.35), depth, (190, 200, 190))
    for x in (-1.03, -0.02, 0.98):
        p.end((x, x + 0.05), (0.86, 2.14), depth, (240, 240, 240))
    p.wall(-half, (1.15, 1.55), (6.2, 6.5), (240, 240, 240))  # hand rub
    p.wall(-half, (1.2, 1.35), (6.25, 6.45), (190, 140, 60))
    p.wall(-half, (1.3, 2.0), (4.4, 5.2), (240, 238, 232))  # poster: masks on
    p.wall(-half, (1.45, 1.75), (4.6, 5.0), (190, 160, 110))
    background = p.finish(seed + 2, 0.010)
    corner = project(-half, 0, 9.0)[0]
    return Room(background, (), lambda x, z: (corner if x < -half + 0.15 else 0.0, WIDTH))


def _opening(p: Painter, x: float, z: tuple[float, float], wall: Colour, floor: Colour) -> None:
    """A way in from the side: through it one sees the side passage's far wall and a corner of its floor."""
    behind = x * z[1] / z[0]
    p.face([(x, 0, z[1]), (x, 2.45, z[1]), (behind, 2.45 * 1.0, z[1]), (behind, 0, z[1])], wall)
    p.face([(x, 0, z[0]), (x, 0, z[1]), (behind, 0, z[1])], floor)
    p.wall(x * 1.004, (0, 2.45), (z[1] - 0.05, z[1]), (120, 124, 120))


def _door(p: Painter, x: float, z: float, colour: Colour) -> None:
    p.wall(x, (0, 2.12), (z - 0.08, z + 1.08), (236, 238, 238))
    p.wall(x, (0, 2.05), (z, z + 1.0), colour)
    p.wall(x, (1.3, 1.8), (z + 0.35, z + 0.65), (226, 230, 228))
    p.wall(x, (0.95, 1.0), (z + 0.06, z + 0.2), (90, 90, 92))


ROOMS: dict[str, Callable[[int], Room]] = {"entrance": entrance, "corridor": corridor, "ward": ward}
