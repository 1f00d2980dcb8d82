"""Writes one sample of each message's present version, where there is none yet: `python tests/data/messages/record.py`.

A sample that exists is never written again: that it still decodes is the point of it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np

from pipeline import topics
from pipeline.contract import slug
from pipeline.messages import (
    Camera,
    CameraStatus,
    ChatMessage,
    DeadLetter,
    Episode,
    Evidence,
    Face,
    Faces,
    Frame,
    Gap,
    Hours,
    Ledger,
    Leg,
    Policy,
    Rule,
    Source,
    Trajectory,
    Zone,
)

HERE = Path(__file__).parent
AT = 1_795_444_200_000_000  # 2026-11-23T14:30:00Z
SECOND = 1_000_000


def picture(width: int, height: int) -> np.ndarray:
    """A drawn corridor with one masked head in it."""
    rows = np.linspace(190, 120, height, dtype=np.float32)[:, None]
    image = np.repeat(np.repeat(rows, width, axis=1)[..., None], 3, axis=2).astype(np.uint8)
    unit = height / 180
    at = (int(width * 0.55), int(height * 0.45))
    cv2.rectangle(image, (0, int(height * 0.8)), (width, height), (96, 104, 110), -1)
    cv2.ellipse(image, at, (int(16 * unit), int(21 * unit)), 0, 0, 360, (140, 170, 215), -1, cv2.LINE_AA)
    cv2.ellipse(
        image, (at[0], at[1] + int(10 * unit)), (int(15 * unit), int(11 * unit)), 0, 0, 360, (230, 215, 190), -1
    )
    for side in (-6, 6):
        cv2.circle(image, (at[0] + int(side * unit), at[1] - int(4 * unit)), max(1, int(2 * unit)), (40, 40, 40), -1)
    return image


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def samples() -> dict[str, msgspec.Struct]:
    small = picture(320, 180)
    digest = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (64, 36), interpolation=cv2.INTER_AREA).tobytes()
    policy = Policy(
        "clinic:3", "Asia/Shanghai", "nothing",
        (Rule("ward", zone="beds", hours=(Hours((1, 2, 3, 4, 5), "07:00", "19:00"), Hours((6, 7), "20:00", "06:00")),
              except_hours=(Hours(begin="12:00", end="12:30"),), breach=("none",), grace=3.0,
              except_roles=("patient",)),
         Rule("gowning", zone="beds", roles=("surgeon", "nurse"))),
        (Zone("beds", ((0.25, 0.2), (1.0, 0.2), (1.0, 1.0), (0.25, 1.0))),),
    )  # fmt: skip
    frame = Frame(
        camera="ward-2-door", at=AT, site="clinic", place=(12.5, 4.0), width=320, height=180, source_width=1280,
        source_height=720, jpeg=jpeg(small), digest=digest, known=((0.496, 0.338, 0.601, 0.567),),
        known_at=AT - 200_000, dropped=1, ledger=Ledger(seen=412, kept=120, still=271, same_faces=15, audited=6),
        policy=policy, blur_others=True,
    )  # fmt: skip
    vector = np.sin(np.arange(1, 129, dtype=np.float64))
    vector /= np.linalg.norm(vector)
    box = (158.9, 60.8, 192.4, 102.1)
    face = Face(
        id=f"{frame.id}#0", box=box, score=0.9312,
        landmarks=(170.1, 76.9, 182.0, 77.2, 176.2, 84.8, 171.0, 92.3, 181.4, 92.5),
        look="worn", look_score=0.974, track=f"ward-2-door@{AT - 3 * SECOND}#0", state="worn", state_score=0.991,
        quality=0.62, chip=jpeg(small[48:118, 140:212]), chip_box=(140.0, 48.0, 212.0, 118.0),
        embedding=tuple(round(float(value), 5) for value in vector), zone="beds",
    )  # fmt: skip
    other = Face(
        id=f"{frame.id}#1", box=(31.0, 70.5, 48.2, 92.0), score=0.712,
        landmarks=(36.0, 78.1, 43.2, 78.0, 39.8, 82.4, 36.9, 87.0, 42.5, 86.9), look="unknown", look_score=0.55,
    )  # fmt: skip
    faces = Faces(
        camera=frame.camera, at=AT, frame=frame.id, site="clinic", place=frame.place, width=320, height=180,
        faces=(face, other), gone=(f"ward-2-door@{AT - 40 * SECOND}#0",),
        ledger=Ledger(seen=412, kept=120, still=271, same_faces=15, audited=6, missed=1),
        models={"detect": "8f2383e4dd3c", "state": "5b1f0a77c9d2", "embed": "0ba9fbfa01b5"}, policy=policy,
    )  # fmt: skip
    person = f"entrance@{AT - 60 * SECOND}#0"
    legs = (
        Leg("entrance", person, AT - 60 * SECOND, AT - 48 * SECOND, (0.0, 0.0), "none",
            {"none": 11.4, "unknown": 0.6}, f"entrance@{AT - 52 * SECOND}#1"),
        Leg("ward-2-door", f"ward-2-door@{AT - 30 * SECOND}#0", AT - 30 * SECOND, AT - 18 * SECOND, (12.5, 4.0), "worn",
            {"none": 2.0, "worn": 10.0}, f"ward-2-door@{AT - 25 * SECOND}#0"),
    )  # fmt: skip
    gap = Gap(AT - 48 * SECOND, AT - 30 * SECOND, 0.93, 13.12)
    seen = Evidence(legs[0].face, "entrance", AT - 52 * SECOND, box, "none", 0.982, jpeg(small[48:118, 140:212]))
    refused = f"gate@{AT}".encode()
    return {
        "Frame": frame,
        "Faces": faces,
        "Trajectory": Trajectory(person, "clinic", AT - 18 * SECOND, legs[0].start, legs, (gap,)),
        "Episode": Episode(
            id=f"{person}!{AT - 60 * SECOND}", site="clinic", person=person, state="none", status="closed",
            start=AT - 60 * SECOND, end=AT - 28 * SECOND, at=AT - 20 * SECOND, cameras=("entrance", "ward-2-door"),
            place=(12.5, 4.0), score=0.951, looks=58, reason="mask on", evidence=(seen,),
            policy="clinic:3", rule="ward", zone="beds", except_roles=("patient",), roles=("surgeon", "nurse"),
        ),
        "Camera": Camera(
            "ward-2-door", (Source("rtsp://10.0.4.17/main", "main", 1920), Source("rtsp://10.0.4.17/sub", "sub", 640)),
            name="Ward 2, door", site="clinic", fps=5.0, width=640, place=(12.5, 4.0), direction=270.0, view=82.0,
            hidden=(((0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (0.0, 0.2)),), blur_others=True, policy=policy, prefer=1,
            changed=AT - 9 * SECOND,
        ),
        "CameraStatus": CameraStatus(
            "ward-2-door", AT, "down", AT - 4 * SECOND, worker="edge-1:4121", url="rtsp://10.0.4.17/sub", fps_in=0.0,
            fps_analysed=0.0, published=51_204, dropped=3, reconnects=2, error="expected a stream, got: timed out",
            width=640, height=360, analysed_width=640, analysed_why="faces", analysed_face=31.4,
        ),
        "ChatMessage": ChatMessage(
            "5f0c1d3e-6f0a-4a53-9d0e-2f6f0c8b7a11", "camera:ward-2-door", 4711, AT, "9b1f", "Lin Wei", "clinic",
            "ward-2-door", removed=AT + 90 * SECOND, remover="9b1f",
        ),
        "DeadLetter": DeadLetter(
            "frames:3:88127:dedup", "frames", 3, 88_127, "dedup", "expected a Frame as msgpack, got 21 bytes: "
            "Input data was truncated", AT, "gate", refused,
        ),
    }  # fmt: skip


def main() -> None:
    for topic in topics.load():
        name = topic.message.__name__
        file = HERE / f"{slug(name)}.v{topic.version}.{topic.format}"
        if not file.exists():
            file.write_bytes(topic.encode(samples()[name]))
            print(f"written: {file.name}, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
