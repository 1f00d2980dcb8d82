"""What is true in the rendered clips: frames, walks, routes and episodes, as ground_truth.json has them."""

from __future__ import annotations

from typing import Any

from infra.demo import plan, rooms, walk
from pipeline import scoring

FORMAT = 1  # of ground_truth.json
FPS = 12
SMALLEST = 16.0  # pixels of face height below which nobody is expected to find it
SEEN = 0.6  # share of the face that must be free to count as visible

NOTE = (
    "Computed pictures. Boxes are the face boxes of the pictures used, moved with them. changing: the mask is being "
    "moved, either state is right. clear: free share of the face. visible: at least "
    f"{SEEN} free and {SMALLEST:g} pixels high. Seconds count from the clips' common beginning."
)

Frames = list[list[dict[str, Any]]]  # for each picture of a clip: person, state, changing, box, clear, visible


def tell(frames: dict[str, Frames], visits: list[walk.Visit], seconds: int, seed: int) -> dict[str, Any]:
    """`frames`: camera -> its clip's faces."""
    routes: dict[str, list[dict[str, Any]]] = {}
    looks: dict[str, list[scoring.TrueLook]] = {}
    for visit in sorted(visits, key=lambda v: (v.person.id, v.start)):
        name, camera = visit.person.id, f"demo-{visit.camera}"
        seen = [
            (round(number / FPS, 3), name, camera, face["state"])
            for number, faces in enumerate(frames[visit.camera])
            for face in faces
            if face["person"] == name and face["visible"] and visit.start <= number / FPS < visit.end
        ]
        if seen:
            turns = [(t, s) for i, (t, _, _, s) in enumerate(seen) if i == 0 or seen[i - 1][3] != s]
            leg = {"camera": camera, "start": seen[0][0], "end": seen[-1][0], "states": turns}
            routes.setdefault(name, []).append(leg)
            looks.setdefault(name, []).extend(seen)
    breaches = [breach for name in sorted(looks) for breach in scoring.breaches_of(sorted(looks[name]))]
    return {
        "rendered": True,
        "format": FORMAT,
        "note": NOTE,
        "seed": seed,
        "seconds": seconds,
        "fps": FPS,
        "size": [rooms.WIDTH, rooms.HEIGHT],
        "site": plan.SITE,
        "people": [_person(person) for person in walk.cast(seed) if person.id in looks],
        "cameras": {
            f"demo-{camera}": {
                "clip": f"{camera}.mp4",
                "frames": [{"i": number, "faces": faces} for number, faces in enumerate(of_camera) if faces],
            }
            for camera, of_camera in frames.items()
        },
        "routes": [{"person": name, "legs": legs} for name, legs in routes.items()],
        "episodes": [
            {"person": b.person, "state": b.state, "start": b.start, "end": b.end, "cameras": b.cameras}
            for b in breaches
        ],
    }


def _person(person: walk.Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "mask": person.mask,
        "pictures": {f"demo-{camera}": picture for camera, (picture, _) in person.pictures.items()},
        "mirrored": [f"demo-{camera}" for camera, (_, mirrored) in person.pictures.items() if mirrored],
        "grey": person.tint,
        "light": {f"demo-{camera}": round(light, 3) for camera, light in person.shade.items()},
    }
