"""The rendered demo's site in the tables: its name, its floor plan as a picture, and how its cameras see the floor."""

from __future__ import annotations

import cv2
import numpy as np
from sqlalchemy.orm import Session

from api.routes.plans import store
from api.tables.cameras import Calibration
from api.tables.plans import Plan
from api.tables.sites import Site
from infra.demo import plan
from pipeline import plan as ground

PIXELS = 30  # a metre
GROUND, WALL, ROOM, WAY, WORDS = (244, 241, 238), (114, 102, 91), (255, 255, 255), (200, 180, 157), (114, 102, 91)
ID = "0de300000000400080000000000000de"  # always the same: made once


def furnish(session: Session) -> bool:
    """Once: what people change afterwards stays, and a plan they removed does not come back. False: it was done."""
    if session.get(Site, plan.SITE) is not None:
        return False
    session.add(Site(id=plan.SITE, name="Demo · 演示", time_zone="Asia/Shanghai"))
    session.flush()
    row = Plan(id=ID, site=plan.SITE, name="Ground floor · 一层", kind="image", floor=0, west=0.0, south=0.0,
               east=plan.SIZE[0], north=plan.SIZE[1], width=0, height=0, digest="")
    session.add(row)
    session.flush()
    store(session, row, picture())
    for camera, *_ in plan.CAMERAS:
        pairs = plan.floor(camera)
        done = ground.calibrate(pairs)
        session.add(Calibration(camera=camera, plan=ID, pairs=[[list(p), list(m)] for p, m in pairs],
                                matrix=list(done.matrix), residual=done.residual, worst=done.worst))
    return True


def picture() -> bytes:
    """PNG: rooms, walls, and the way through them."""
    wide, high = (round(side * PIXELS) for side in plan.SIZE)
    image = np.full((high, wide, 3), GROUND, np.uint8)

    def pixels(points: object) -> np.ndarray:
        return np.rint(np.array([(x * PIXELS, high - y * PIXELS) for x, y in points])).astype(np.int32)  # type: ignore[attr-defined]

    for _, outline in plan.ROOMS:
        cv2.fillPoly(image, [pixels(outline)], ROOM)
        cv2.polylines(image, [pixels(outline)], True, WALL, 4, cv2.LINE_AA)
    cv2.polylines(image, [pixels(plan.WAY)], False, WAY, 2, cv2.LINE_AA)
    for name, outline in plan.ROOMS:
        low = min(y for _, y in outline)
        left = min(x for x, _ in outline)
        at = pixels([(left + 0.3, low + 0.3)])[0]
        cv2.putText(image, name.split(" · ")[0], tuple(int(v) for v in at), cv2.FONT_HERSHEY_SIMPLEX, 0.5, WORDS, 1,
                    cv2.LINE_AA)
    done, png = cv2.imencode(".png", image)
    assert done  # noqa: S101 -- the picture is ours
    return png.tobytes()
