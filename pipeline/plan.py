"""The ground: a site's metres east and north, from where a camera's picture shows it, and to latitude and longitude;
where somebody stands whose face is in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

# Four points of which three nearly lie on a line fix the plane so badly that a click a pixel aside moves it by metres.
# The smallest but one of the system's singular values over its largest: 0.36 for a square seen from above, 0.10 for a
# corridor seen along it from 4 to 12 m, 0.02 from 4 to 40 m, below a hundredth with three of four nearly on a line.
SOLVABLE = 0.01
MOST_PAIRS = 64
EARTH = 6_378_137.0, 1 / 298.257223563  # WGS 84: metres of the half axis, flattening


class BadCalibration(ValueError):
    """What was expected of the points and what came."""


class Calibration(msgspec.Struct, frozen=True):
    """How a picture's points (0..1 of its width and height) lie on the ground."""

    matrix: tuple[float, ...]  # 3 × 3 row by row: picture -> metres, projective
    residual: float  # root mean square of how far the points land from where they should, metres; of four points 0
    worst: float  # the same, of the worst point


def calibrate(pairs: Sequence[tuple[Point, Point]]) -> Calibration:
    """From at least four points on the floor: (picture 0..1, metres east and north). Raises BadCalibration."""
    if not 4 <= len(pairs) <= MOST_PAIRS:
        raise BadCalibration(f"expected 4 to {MOST_PAIRS} pairs of points, got {len(pairs)}")
    seen = np.array([pair[0] for pair in pairs], np.float64)
    ground = np.array([pair[1] for pair in pairs], np.float64)
    if not np.isfinite(seen).all() or not np.isfinite(ground).all() or seen.min() < 0 or seen.max() > 1:
        raise BadCalibration("expected points within the picture, 0..1 of its width and height, and metres")
    for what, points in (("picture", seen), ("plan", ground)):
        a, b = _near(points)
        if a >= 0:
            raise BadCalibration(f"expected points apart from each other, got points {a + 1} and {b + 1} at the same "
                                 f"place of the {what}")
    (p, to_p), (q, to_q) = _levelled(seen), _levelled(ground)
    strength, shape = _solve(p, q)
    if strength < SOLVABLE or abs(np.linalg.det(shape)) < SOLVABLE**2:
        raise BadCalibration("expected points of which no three of four lie on a line, in the picture and on the plan; "
                             "these do, or nearly")
    # with more points than four the distances on the ground are what should be small: Levenberg-Marquardt in OpenCV
    if len(pairs) > 4:
        better, _ = cv2.findHomography(p, q, 0)
        shape = shape if better is None else np.asarray(better, np.float64)
    matrix = np.linalg.inv(to_q) @ shape @ to_p
    depth = np.column_stack([seen, np.ones(len(seen))]) @ matrix[2]
    if not (depth > 0).all() and not (depth < 0).all():
        raise BadCalibration("expected points in the same order around in the picture and on the plan; in this order "
                             "the floor would be seen from both sides")
    matrix = matrix / (abs(depth).mean() * np.sign(depth[0]))
    landed = np.array([place(tuple(matrix.ravel()), (x, y)) or (math.inf, math.inf) for x, y in seen])
    apart = np.hypot(*(landed - ground).T)
    if not np.isfinite(apart).all():
        raise BadCalibration("expected points on a floor, got some on its horizon")
    return Calibration(tuple(float(v) for v in matrix.ravel()), round(float(np.sqrt((apart**2).mean())), 4),
                       round(float(apart.max()), 4))


def place(matrix: Sequence[float], point: Point) -> Point | None:
    """Metres east and north of a point of the picture (0..1); None: it is at or above the floor's horizon."""
    a, b, c, d, e, f, g, h, i = matrix
    x, y = point
    depth = g * x + h * y + i
    if depth <= 1e-6:
        return None
    return (a * x + b * y + c) / depth, (d * x + e * y + f) / depth


# -- where somebody stands --------------------------------------------------------------------------------------------

# A face has no feet: where they would be is told by the face's size. A face's box is 2.8 times as high as the eyes are
# above the mouth (2.6 to 2.9 on eight portraits of the demo), some 19 cm of an adult; the chin of somebody 1.63 to
# 1.76 m tall (means of women and men in ANSUR II, Gordon et al. 2014), whose head is 22 to 23 cm high, is 1.43 to
# 1.56 m above the floor in shoes: 7.5 to 8.2 boxes.
CHIN = 7.8
BELOW = 2.0  # picture heights below its lower edge in which the feet of a face lie that is still in it
WIDE = 24.0  # metres across the picture: beyond, a face is less than a seventieth of its height, 15 pixels of 1080
# Picture heights: with a horizon higher above than this the camera looks down by 45° or so, and no proportion of a body
# says where the feet are.
STEEP = -1.0
COLUMNS = 9  # of the picture, at which the far edge of what it shows is looked for


class View:
    """What a calibrated camera shows of the floor."""

    def __init__(self, matrix: Sequence[float]) -> None:
        self.matrix = matrix
        *_, g, h, i = matrix
        horizon = -(g * 0.5 + i) / h if h > 1e-9 else -math.inf
        self._below = BELOW if horizon > STEEP else 0.0

    def at(self, x: float, y: float) -> Point | None:
        """Metres east and north of a point of the picture, which may lie below its edge; None: not of this view."""
        if not 0 <= x <= 1 or not 0 <= y <= 1 + self._below:
            return None
        left, right = place(self.matrix, (0.0, y)), place(self.matrix, (1.0, y))
        if left is None or right is None or math.dist(left, right) > WIDE:
            return None
        return place(self.matrix, (x, y))

    def feet(self, face: tuple[float, float, float]) -> Point | None:
        """Where somebody stands upright; `face`: middle and lower edge of the box, and its height, 0..1 of the picture.

        Off by about a tenth of the distance to the camera: people and boxes differ by some 7 %, and a camera that looks
        down by 15° adds 4 %, by 30° 10 %, towards it. None: outside the view, or seen from too steep above."""
        x, low, height = face
        return self.at(x, low + CHIN * height) if self._below else None

    @property
    def footprint(self) -> list[Point]:
        """Its outline on the plan: where people stand whose faces it shows. Empty: no floor."""
        low = 1 + self._below
        far = []
        for x in np.linspace(0.0, 1.0, COLUMNS).tolist():
            above, there = 0.0, low
            if self.at(x, there) is None:
                return []
            if self.at(x, above) is not None:
                there = above
            while there - above > 1e-4:  # between a point beyond and one of the view
                middle = (above + there) / 2
                above, there = (above, middle) if self.at(x, middle) else (middle, there)
            far.append(self.at(x, there))
        return [point for point in (*far, self.at(1.0, low), self.at(0.0, low)) if point is not None]


def _near(points: NDArray[np.float64]) -> tuple[int, int]:
    """Two points closer together than a thousandth of what all of them span; -1, -1 when there are none."""
    span = float(np.ptp(points, axis=0).max()) or 1.0
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            if np.abs(points[i] - points[j]).max() < span / 1000:
                return i, j
    return -1, -1


def _levelled(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points about the origin at a mean distance of √2, and the matrix that brought them there.

    Hartley, In defence of the eight-point algorithm, IEEE TPAMI 19 (1997)."""
    middle = points.mean(axis=0)
    scale = math.sqrt(2) / max(float(np.hypot(*(points - middle).T).mean()), 1e-12)
    matrix = np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])
    return (points - middle) * scale, matrix


def _solve(p: NDArray[np.float64], q: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The direct linear transform: how well the points fix it, and the (3, 3) matrix of length 1."""
    rows = []
    for (x, y), (u, v) in zip(p, q, strict=True):
        rows.append([-x, -y, -1, 0, 0, 0, u * x, u * y, u])
        rows.append([0, 0, 0, -x, -y, -1, v * x, v * y, v])
    _, values, right = np.linalg.svd(np.array(rows))
    return float(values[7] / values[0]), right[-1].reshape(3, 3)


# -- on the globe -----------------------------------------------------------------------------------------------------


class Origin(msgspec.Struct, frozen=True):
    """Where the plan's point 0, 0 lies."""

    latitude: float  # degrees WGS 84
    longitude: float  # degrees WGS 84
    bearing: float = 0.0  # of the plan's north, degrees clockwise from true north


def globe(origin: Origin, point: Point) -> Point:
    """Latitude and longitude of metres east and north; right to centimetres within a few kilometres."""
    turn = math.radians(origin.bearing)
    east = point[0] * math.cos(turn) + point[1] * math.sin(turn)
    north = -point[0] * math.sin(turn) + point[1] * math.cos(turn)
    across, along = _degree(origin.latitude)
    return origin.latitude + north / along, origin.longitude + east / across


def ground(origin: Origin, latitude: float, longitude: float) -> Point:
    """The other way."""
    across, along = _degree(origin.latitude)
    east, north = (longitude - origin.longitude) * across, (latitude - origin.latitude) * along
    turn = math.radians(origin.bearing)
    return east * math.cos(turn) - north * math.sin(turn), east * math.sin(turn) + north * math.cos(turn)


def _degree(latitude: float) -> tuple[float, float]:
    """Metres of a degree of longitude and of latitude there."""
    half, flat = EARTH
    squared = flat * (2 - flat)
    sine = math.sin(math.radians(latitude))
    root = math.sqrt(1 - squared * sine**2)
    across = math.radians(1) * half / root * math.cos(math.radians(latitude))
    return max(across, 1e-6), math.radians(1) * half * (1 - squared) / root**3
