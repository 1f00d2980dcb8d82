"""Four clicks from a picture to the plan, and from the plan to the globe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline import plan
from pipeline.plan import BadCalibration, Origin, calibrate, globe, ground, place

# A camera 3 m up that looks down a corridor 2.6 m wide: floor points at 4 m and 12 m, and where its picture shows them.
FLOOR = [(-1.0, 4.0), (1.0, 4.0), (1.0, 12.0), (-1.0, 12.0)]


def seen(east: float, north: float, tilt: float = 0.4, height: float = 3.0) -> tuple[float, float]:
    """A pinhole camera at (0, 0, height), tilted down; picture 0..1, 70° wide at 16:9."""
    depth = north * math.cos(tilt) + height * math.sin(tilt)
    down = height * math.cos(tilt) - north * math.sin(tilt)
    focal = 0.5 / math.tan(math.radians(35))
    return 0.5 + focal * east / depth, 0.5 + focal * down / depth * 16 / 9


def test_four_clicks_bring_every_other_point_of_the_floor_to_its_place() -> None:
    done = calibrate([(seen(*p), p) for p in FLOOR])
    assert done.residual < 1e-6
    for point in ((0.0, 5.0), (0.8, 9.0), (-1.2, 15.0)):
        assert place(done.matrix, seen(*point)) == pytest.approx(point, abs=1e-6)
    assert place(done.matrix, (0.5, -0.1)) is None  # above the horizon is no floor


def test_more_points_share_what_the_clicks_are_off_and_say_how_much() -> None:
    rng = np.random.default_rng(1)
    floor = [*FLOOR, (0.0, 4.5), (0.5, 7.0), (-0.7, 9.0), (0.9, 5.5)]
    clicks = [((x + dx, y + dy), p) for p in floor for (x, y), (dx, dy) in [(seen(*p), rng.normal(0, 0.002, 2))]]
    done = calibrate(clicks)
    assert 0.01 < done.residual < done.worst < 0.6
    assert math.dist(place(done.matrix, seen(0.2, 6.0)) or (0, 0), (0.2, 6.0)) < 0.15
    wrong = calibrate([*clicks[:-1], (clicks[-1][0], (5.0, 5.5))])
    assert wrong.worst > 1.0  # a point that was clicked at the wrong place shows


LINE = [((0.1, 0.9), (0.0, 0.0)), ((0.5, 0.9), (2.0, 0.0)), ((0.9, 0.9), (4.0, 0.0)), ((0.5, 0.4), (2.0, 6.0))]


@pytest.mark.parametrize(("pairs", "says"), [
    (LINE[:3], "expected 4 to 64 pairs"),
    (LINE, "no three of four lie on a line"),
    ([*LINE[:2], ((0.9, 0.91), (4.0, 0.05)), LINE[3]], "no three of four lie on a line"),
    ([((x, y), (x, x)) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))], "points 1 and 4 at the same place"),
    ([((x, 0.5 * x), (x, y)) for x, y in ((0, 0), (1, 0), (0.9, 1), (0.1, 1))], "no three of four lie on a line"),
    ([((0, 0), (0, 0)), ((1, 0), (1, 0)), ((1, 1), (1, 1)), ((1, 1), (0, 1))], "points 3 and 4 at the same"),
    ([((0, 0), (0, 0)), ((1, 0), (1, 1)), ((1, 1), (1, 0)), ((0, 1), (0, 1))], "from both sides"),
    ([((0, 0), (0, 0)), ((1, 0), (1, 0)), ((1, 1.5), (1, 1)), ((0, 1), (0, 1))], "within the picture"),
    ([((0, 0), (0, 0)), ((1, 0), (math.nan, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1))], "within the picture"),
])
def test_points_that_fix_nothing_are_refused(pairs: list, says: str) -> None:
    with pytest.raises(BadCalibration, match=says):
        calibrate(pairs)


def test_a_plan_lies_on_the_globe() -> None:
    shanghai = Origin(31.2304, 121.4737)
    lat, lon = globe(shanghai, (0.0, 1000.0))
    assert (lat - 31.2304) * 110_873 == pytest.approx(1000, rel=1e-3)
    assert lon == 121.4737
    turned = Origin(31.2304, 121.4737, 90.0)  # the plan's north is true east
    lat, lon = globe(turned, (0.0, 1000.0))
    assert lat == pytest.approx(31.2304, abs=1e-9)
    assert lon > 121.48
    for origin in (shanghai, turned, Origin(-33.9, 18.4, 211.5)):
        assert ground(origin, *globe(origin, (123.4, -56.7))) == pytest.approx((123.4, -56.7), abs=1e-6)
    assert plan._degree(0.0)[0] == pytest.approx(111_319.5, abs=0.1)


def tall(stature: float, east: float, north: float, tilt: float, height: float = 3.0) -> tuple[float, float, float]:
    """The face box of somebody who stands there: 19 cm high, its lower edge where the chin is."""
    chin = stature + 0.025 - 0.225

    def up(metres: float) -> tuple[float, float]:
        return seen(east, north, tilt, height - metres)

    (x, low), (_, top) = up(chin), up(chin + 0.19)
    return x, low, low - top


@pytest.mark.parametrize(("tilt", "off"), [(0.0, 0.07), (0.26, 0.11), (0.5, 0.17)])
def test_where_somebody_stands_is_told_by_their_face(tilt: float, off: float) -> None:
    """As far off as the docstring says: of the distance, with everybody from 1.55 to 1.85 m."""
    floor = [(-1.0, 8.0), (1.0, 8.0), (1.0, 12.0), (-1.0, 12.0)]
    view = plan.View(calibrate([(seen(*p, tilt), p) for p in floor]).matrix)
    for stature in (1.55, 1.69, 1.85):
        for east, north in ((0.0, 5.0), (0.8, 8.0), (-1.0, 12.0)):
            face = tall(stature, east, north, tilt)
            told = view.feet(face)
            assert told is not None, (stature, north)
            assert math.dist(told, (east, north)) <= off * math.hypot(east, north) + 0.1, (stature, north, told)


def test_a_view_ends_where_nothing_is_seen_and_has_an_outline() -> None:
    view = plan.View(calibrate([(seen(*p), p) for p in FLOOR]).matrix)
    assert view.at(0.5, -0.05) is None
    assert view.at(1.2, 0.5) is None
    assert view.feet((0.5, -0.4, 0.01)) is None  # above the horizon
    outline = view.footprint
    assert all(north > 0 for _, north in outline)
    assert math.dist(outline[0], outline[plan.COLUMNS - 1]) == pytest.approx(plan.WIDE, abs=0.1)
    assert outline[0][1] == pytest.approx(17.3, abs=0.1)  # 70° wide: as far as it is 24 m across
    # one that hangs over a table sees heads from above: nobody knows where their feet are
    steep = plan.View(calibrate([(seen(*p, 1.2), p) for p in [(-1, 0.5), (1, 0.5), (1, 2.5), (-1, 2.5)]]).matrix)
    assert steep.feet((0.5, 0.5, 0.1)) is None
    assert len(steep.footprint) == plan.COLUMNS + 2
