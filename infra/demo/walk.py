"""Who walks through the rendered site, when, where and with what on the face: a pure function of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

from infra.demo.heads import BELOW_NOSE, MASKS, UNDER_CHIN, WORN

CHANGE = 0.75  # seconds that putting on or pulling down a mask takes
CAMERAS = ("entrance", "corridor", "ward")
# metres on foot, out of sight, from the end of one camera's view to the beginning of the next one's (plan.py)
BETWEEN = {("entrance", "corridor"): 7.3, ("corridor", "ward"): 15.0}
ROUND = 60.0  # seconds that the scenario takes


@dataclass(frozen=True)
class Person:
    id: str
    pictures: dict[str, tuple[str, bool]]  # camera -> file name, mirrored
    height: float  # metres
    coat: tuple[int, int, int]  # BGR
    trousers: tuple[int, int, int]  # BGR
    mask: str  # colour
    tint: bool = False  # the picture is grey
    shade: dict[str, float] = field(default_factory=dict)  # camera -> brightness of the face there


@dataclass(frozen=True)
class Visit:
    """One walk through one camera's view: points of (second, metres right of the axis, metres in front)."""

    person: Person
    camera: str
    points: tuple[tuple[float, float, float], ...]
    wears: tuple[tuple[float, float | None], ...]  # from this second on, this pull of the mask; None = no mask

    @property
    def start(self) -> float:
        return self.points[0][0]

    @property
    def end(self) -> float:
        return self.points[-1][0]

    def at(self, second: float) -> tuple[float, float, float]:
        """Metres right, metres in front, and metres walked so far."""
        walked = 0.0
        for (t0, x0, z0), (t1, x1, z1) in pairwise(self.points):
            length = ((x1 - x0) ** 2 + (z1 - z0) ** 2) ** 0.5
            if second <= t1:
                part = (second - t0) / (t1 - t0) if t1 > t0 else 1.0
                return x0 + (x1 - x0) * part, z0 + (z1 - z0) * part, walked + length * part
            walked += length
        return self.points[-1][1], self.points[-1][2], walked

    def pull(self, second: float) -> tuple[float | None, bool]:
        """Where the mask sits, and whether it is being moved just now."""
        before, now, since = self.wears[0][1], self.wears[0][1], float("-inf")
        for start, pull in self.wears:
            if start <= second:
                before, now, since = now, pull, start
        moved = (second - since) / CHANGE
        if moved >= 1 or before == now:
            return now, False
        first = UNDER_CHIN if before is None else before
        last = UNDER_CHIN if now is None else now
        return first + (last - first) * moved, True


def state_of(pull: float | None) -> str:
    if pull is None:
        return "none"
    return "worn" if pull < 0.5 else "incorrect"


# person, face picture at the entrance, in the corridor and at the ward, height in metres, whether it is a grey picture.
# ~ is the mirrored picture: a variation of it and not another one; p5 looks aside, a mirrored p5 is hardly p5
_CAST = (
    ("p1", ("obama.jpg", "obama2.jpg", "obama3.jpg"), 1.82, False),
    ("p2", ("astronaut.png", "~astronaut.png", "astronaut.png"), 1.68, False),
    ("p3", ("biden.jpg", "~biden.jpg", "biden.jpg"), 1.80, False),
    ("p4", ("grace_hopper.jpg", "~grace_hopper.jpg", "grace_hopper.jpg"), 1.65, False),
    ("p5", ("luispedro.jpg", "luispedro.jpg", "luispedro.jpg"), 1.77, False),
    ("p6", ("einstein.jpg", "~einstein.jpg", "einstein.jpg"), 1.72, True),
)
_COATS = [(236, 238, 238), (150, 120, 70), (120, 130, 60), (80, 70, 66), (190, 160, 110), (96, 76, 120)]
_TROUSERS = [(70, 62, 58), (96, 84, 70), (58, 56, 60), (110, 90, 66)]

# person, camera of the first view, second it starts, metres aside of the axis, metres a second
_STARTS = (
    ("p1", "entrance", 1.0, -0.30, 1.30),
    ("p2", "entrance", 2.5, 0.45, 1.28),
    ("p4", "entrance", 14.0, -0.35, 1.33),
    ("p3", "entrance", 16.2, 0.08, 1.30),
    ("p5", "corridor", 22.5, 0.55, 1.25),
    ("p6", "entrance", 33.0, 0.10, 1.25),
)
_LAST = {"p6": "entrance"}  # everybody else goes on to the ward


def cast(seed: int) -> list[Person]:
    draw = random.Random(f"cast {seed}")  # noqa: S311 - scenery, not secrets
    coats, colours = draw.sample(_COATS, 6), list(MASKS) + draw.sample(list(MASKS), 2)
    draw.shuffle(colours)
    return [
        Person(
            id=name,
            pictures={
                camera: (picture.removeprefix("~"), picture.startswith("~"))
                for camera, picture in zip(CAMERAS, pictures, strict=True)
            },
            height=height + draw.uniform(-0.02, 0.02),
            coat=coats[i],
            trousers=draw.choice(_TROUSERS),
            mask=colours[i],
            tint=tint,
            shade={camera: 1 + draw.uniform(-0.07, 0.07) for camera in CAMERAS},
        )
        for i, (name, pictures, height, tint) in enumerate(_CAST)
    ]


def scenario(seed: int, seconds: float) -> list[Visit]:
    """Every visit that begins and ends within the clip, so that its end joins its beginning with nobody in view."""
    people = {person.id: person for person in cast(seed)}
    visits = []
    for turn in range(max(1, round(seconds / ROUND + 0.49))):
        draw = random.Random(f"walk {seed} {turn}")  # noqa: S311
        for name, first, start, aside, speed in _STARTS:
            speed *= draw.uniform(0.97, 1.04)
            start += turn * ROUND + draw.uniform(0, 0.3)
            aside += draw.uniform(-0.05, 0.05)
            cameras = CAMERAS[CAMERAS.index(first) : CAMERAS.index(_LAST.get(name, "ward")) + 1]
            before = ""
            for camera in cameras:
                if before:
                    start += BETWEEN[before, camera] / speed
                visit = _visit(people[name], camera, start, aside, speed)
                visits.append(visit)
                start, before = visit.end, camera
    return sorted((v for v in visits if v.end <= seconds - 1), key=lambda v: (v.camera, v.start))


def _visit(person: Person, camera: str, start: float, aside: float, speed: float) -> Visit:
    side = 1.0 if aside >= 0 else -1.0
    if camera == "entrance":  # in by the door in the far wall; p1 goes behind the column
        drift = 2.6 if person.id == "p1" else 1.0
        path = [(0.35 * side, 12.4), (aside * 0.6, 10.6), (aside * drift, 7.4), (aside * 0.5, 4.0), (aside * 0.6, 2.9)]
    else:  # round the corner, which is on the right of the corridor and on the left of the ward door
        turn = 1.0 if camera == "corridor" else -1.0
        path = [(2.3 * turn, 9.75), (0.9 * turn, 9.7), (aside, 8.4), (aside * 0.9, 5.6), (aside * 0.7, 2.9)]
    path.append((side * 1.35, 1.75))
    points, second, pause_at = [(start, *path[0])], start, None
    for (x0, z0), (x1, z1) in pairwise(path):
        second += ((x1 - x0) ** 2 + (z1 - z0) ** 2) ** 0.5 / speed
        points.append((second, x1, z1))
        if person.id == "p5" and camera == "corridor" and z1 == 5.6:
            pause_at = second
            second += 7.0  # stands still, reading the notice on the wall
            points.append((second, x1, z1))
    middle = next(t for t, _, z in points if z < 6) - (0.4 if pause_at is None else 0)
    return Visit(person, camera, tuple(points), _wears(person.id, camera, middle))


def _wears(person: str, camera: str, middle: float) -> tuple[tuple[float, float | None], ...]:
    """The scenario's masks. p1, p6: never; p2: always; p3 pulls it below the nose; p4 puts it on; p5 under the chin."""
    always = float("-inf")
    if person in ("p1", "p6"):
        return ((always, None),)
    story = {
        ("p3", "corridor"): ((always, WORN), (middle, BELOW_NOSE)),
        ("p3", "ward"): ((always, BELOW_NOSE),),
        ("p4", "entrance"): ((always, None),),
        ("p4", "corridor"): ((always, None), (middle, WORN)),
        ("p5", "ward"): ((always, WORN), (middle, UNDER_CHIN)),
    }
    return story.get((person, camera), ((always, WORN),))
