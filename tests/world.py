"""Two sites with everything in them that the API knows, for the tests of rights, of the schema and of the walk.

`hallsite` has the cameras `gatecam` and `dockcam`, `yardsite` has `roofcam`. What belongs to a place bears its name, so
that an answer which holds a name of elsewhere has leaked it; what is of a whole site is named `hallsite-whole`.
"""

from __future__ import annotations

import base64
import copy
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import scenes
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import auth, db, materialiser
from api.app import create_app
from api.folds import Context, Told
from api.sight import Sight
from api.tables.alerts import Alert
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import LegRow
from api.tables.users import Grant, User
from models import fakes
from pipeline.flow import Flow
from pipeline.messages import CameraStatus, Frame
from pipeline.pictures import encode
from pipeline.settings import Settings

GATE, DOCK, ROOF = ("hallsite", "gatecam"), ("hallsite", "dockcam"), ("yardsite", "roofcam")
HALL, YARD = ("hallsite", ""), ("yardsite", "")
CAMERAS = (GATE, DOCK, ROOF)
MOVED = ("yardsite", "gatecam")  # no camera: what is left of a grant when `gatecam` was at the other site once
WHOLE = "-whole"
SECOND = 1_000_000
Place = tuple[str, str]  # site, camera; the camera empty: the whole site


def photo(person: int = 1) -> bytes:
    picture = fakes.empty(640, 360)
    fakes.draw(picture, (200, 100, 296, 196), "none", person)
    return encode(picture, 95)


def frames(start: int) -> list[Frame]:
    """Bare: 1 at the gate and then at the dock, 2 at the gate, 3 at the dock, 4 on the roof."""
    where: dict[Place, dict[str, Any]] = {
        place: {"start": start, "site": place[0], "privacy": "enrolled", "place": (15.0 * number, 0.0)}
        for number, place in enumerate(CAMERAS)}
    walks = [
        *scenes.walk("gatecam", 0, 4, 1, lambda t: "none", **where[GATE]),
        *scenes.walk("dockcam", 12, 4, 1, lambda t: "none", **where[DOCK]),
        *scenes.walk("gatecam", 24, 3, 2, lambda t: "none", **where[GATE]),
        *scenes.walk("dockcam", 36, 3, 3, lambda t: "none", **where[DOCK]),
        *scenes.walk("roofcam", 0, 4, 4, lambda t: "none", **where[ROOF]),
    ]
    ends = [Frame(camera, start + 60 * SECOND, site=site, ended=True) for site, camera in CAMERAS]
    return sorted(walks, key=lambda f: (f.at, f.camera)) + ends


@dataclass
class User_:
    """Somebody with one role at one place, and a client that is logged in as them."""

    id: str
    role: str
    site: str
    camera: str
    client: TestClient[Any]

    def __str__(self) -> str:
        return f"{self.role} of {self.camera or self.site or 'everything'}"

    def covers(self, place: Place) -> bool:
        """By what the grant says, not by the code under test."""
        site, camera = place
        return not self.site or (site == self.site and self.camera in ("", camera))


@dataclass
class World:
    """The app, its parts, and what there is at each place: noun -> id."""

    app: TestClient[Any]
    settings: Settings
    sessions: sessionmaker[Session]
    start: int  # of what the cameras saw, µs UTC
    things: dict[Place, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    admin: TestClient[Any] = None  # type: ignore[assignment]
    inspector: str = ""  # user whose inspections they are

    def user(self, role: str, site: str = "", camera: str = "", name: str = "") -> User_:
        with self.sessions() as session, session.begin():
            user = User(name=name or f"{role}-{uuid.uuid4().hex[:8]}")
            session.add(user)
            session.flush()
            session.add(Grant(user=user.id, role=role, site=site, camera=camera))
            token, _ = auth.log_in(session, user.id, self.settings, kind="token")
        own = copy.copy(self.app)  # the same running app, other headers
        own.headers = httpx.Headers({"authorization": f"Bearer {token}"})
        own.cookies = httpx.Cookies()
        return User_(user.id, role, site, camera, own)

    def ok(self, method: str, path: str, **more: Any) -> Any:
        answer = self.admin.request(method, path, **more)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    # -- one of each noun, made as its page makes it -------------------------------------------------------------------

    def camera(self, place: Place, id: str = "") -> str:
        """Somewhere nobody answers."""
        body = {"id": id or f"{place[1]}-{uuid.uuid4().hex[:6]}", "site": place[0], "name": place[1],
                "sources": [{"url": "rtsp://127.0.0.1:9/1"}], "place": [0, 0]}
        made = str(self.ok("POST", "/v1/cameras", json=body)["id"])
        pairs = [{"picture": p, "metres": m} for p, m in zip([[0, 0], [1, 0], [1, 1], [0, 1]],
                                                             [[0, 9], [9, 9], [9, 0], [0, 0]], strict=True)]
        self.ok("PUT", f"/v1/cameras/{made}/calibration", json={"pairs": pairs})
        return made

    def plan(self, place: Place) -> str:
        body = {"site": place[0], "name": place[0] + WHOLE, "west": 0, "south": 0, "east": 9, "north": 9}
        made = self.ok("POST", "/v1/plans", json=body)["id"]
        self.ok("PUT", f"/v1/plans/{made}/picture", files={"picture": ("p.jpg", photo())})
        return str(made)

    def policy(self, place: Place) -> str:
        return str(self.ok("POST", "/v1/policies", json={"site": place[0], "name": place[0], "rules": []})["id"])

    def person(self, place: Place) -> str:
        consent = {"version": "1", "text": "I agree.", "given": (db.now() - timedelta(days=1)).isoformat()}
        made = self.ok("POST", "/v1/people", json={"name": place[0] + WHOLE, "site": place[0], "consent": consent})
        return str(made["id"])

    def portrait(self, person: str) -> str:
        taken = self.ok("POST", f"/v1/people/{person}/portraits", json={"picture": base64.b64encode(photo()).decode()})
        return str(taken["portrait"]["id"])

    def watch_list(self, place: Place) -> str:
        return str(self.ok("POST", "/v1/watch-lists", json={"name": place[0] + WHOLE, "site": place[0]})["id"])

    def channel(self, place: Place) -> str:
        body = {"name": place[0] + WHOLE, "site": place[0],
                "options": {"kind": "mqtt", "host": "127.0.0.1", "topic": place[0] + WHOLE}}
        return str(self.ok("POST", "/v1/channels", json=body)["id"])

    def rule(self, place: Place) -> str:
        body = {"name": place[0] + WHOLE, "site": place[0], "kind": "episode",
                "steps": [{"channels": [self.channel(place)]}]}
        return str(self.ok("POST", "/v1/alert-rules", json=body)["id"])

    def delivery(self, place: Place) -> str:
        return str(self.ok("POST", f"/v1/channels/{self.channel(place)}/test")["id"])

    def round(self, place: Place) -> str:
        return str(self.ok("POST", "/v1/rounds", json={"site": place[0], "name": place[0] + WHOLE, "checkpoints": []}
                           )["id"])

    def inspection(self, place: Place) -> str:
        """Of an inspector who is nobody else of this test; with a photo."""
        from api.tables.inspections import Inspection

        made, now = str(uuid.uuid4()), time.time_ns() // 1000
        self.ok("PUT", f"/v1/inspections/{made}", json={"site": place[0], "at": now, "note": place[0] + WHOLE})
        self.photo_of(made, place)
        with self.sessions() as session, session.begin():
            session.get_one(Inspection, made).user = self.inspector
        return made

    def photo_of(self, inspection: str, place: Place) -> str:
        shot = str(uuid.uuid4())
        self.ok("POST", f"/v1/inspections/{inspection}/photos/{shot}", files={"picture": ("p.jpg", photo())},
                data={"note": place[0] + WHOLE})
        self.things[(inspection, "")]["photo"] = shot
        return shot

    def request(self, place: Place) -> str:
        """Access, asked for by somebody new."""
        asks = self.user("viewer", "elsewhere").client
        body = {"kind": "access", "site": place[0], "camera": place[1], "reason": f"{place[1] or place[0] + WHOLE}"}
        answer = asks.post("/v1/requests", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def decision(self, place: Place) -> str:
        body = {"kind": "not", "subject": self.things[place]["visitor"], "object": self.person(place)}
        return str(self.ok("POST", "/v1/decisions", json=body)["id"])

    def erasure(self, place: Place) -> str:
        body = {"reason": place[0] + WHOLE, "person": self.person(place)}
        return str(self.ok("POST", "/v1/erasures", json=body)["id"])

    def chat_picture(self, room: str) -> str:
        path = f"/v1/chat/rooms/{quote(room)}"
        made = self.ok("POST", f"{path}/pictures", files={"picture": ("p.jpg", photo())})["picture"]
        self.ok("POST", f"{path}/messages",
                json={"id": str(uuid.uuid4()), "text": f"in {room}", "pictures": [made]})
        return str(made).rsplit("/", 1)[1]

    def chat_message(self, room: str) -> str:
        made = str(uuid.uuid4())
        self.ok("POST", f"/v1/chat/rooms/{quote(room)}/messages", json={"id": made, "text": f"in {room}"})
        return made

    def fold(self, topic: str, *messages: tuple[str, Any]) -> None:
        """(key, message) each, as the materialiser does it."""
        context, at = Context(self.settings), time.time_ns() // 1000
        with self.sessions() as session, session.begin():
            told = [Told(key, message, topic, 0, number, at) for number, (key, message) in enumerate(messages)]
            assert materialiser.fold(session, context, topic, told) == []
        context.done()


@contextmanager
def made(settings: Settings) -> Iterator[World]:
    """`settings`: with a broker and its topics, a database with its tables, and vectors. Nobody else folds."""
    with ExitStack() as stack:
        app = stack.enter_context(TestClient(create_app(settings), base_url="http://127.0.0.1:8000"))
        app.app.state["sight"] = Sight(settings, scenes.Models())
        engine = db.connect(settings)
        stack.callback(engine.dispose)
        world = World(app, settings, db.sessions(engine), time.time_ns() // 1000 - 120 * SECOND)
        world.admin = world.user("admin", name="everywhere").client
        world.inspector = world.user("inspector", "elsewhere").id
        for site, _ in (HALL, YARD):
            world.ok("POST", "/v1/sites", json={"id": site, "name": site, "privacy": "enrolled"})
        for place in CAMERAS:
            world.camera(place, place[1])
        _watch(world)
        for place in (HALL, YARD):
            _furnish(world, place)
        for place in CAMERAS:
            _look(world, place)
        yield world


def _watch(world: World) -> None:
    """What the cameras saw."""
    records: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    seen = frames(world.start)
    for place in CAMERAS:
        world.things[place]["at"] = str(next(frame.at for frame in seen if frame.camera == place[1]))
    for record in Flow(Settings(), scenes.Models()).run(seen, fill_known=True):
        records[record.topic].append((record.key, record.message))
    for topic in ("faces", "faces.embedded", "trajectories", "episodes"):
        world.fold(topic, *records[topic])
    world.fold("cameras.status", *((camera, CameraStatus(camera, world.start + 60 * SECOND, "up", world.start))
                                   for _, camera in CAMERAS))


def _furnish(world: World, place: Place) -> None:
    """What is of a whole site."""
    here = world.things[place]
    here["site"] = place[0]
    for noun in ("plan", "policy", "person", "watch_list", "rule", "channel", "delivery", "round", "inspection",
                 "request", "erasure"):
        here[noun] = getattr(world, noun)(place)
    here["photo"] = world.things[(here["inspection"], "")]["photo"]
    here["portrait"] = world.portrait(here["person"])
    world.ok("PUT", f"/v1/watch-lists/{here['watch_list']}/people/{here['person']}", json={"reason": place[0] + WHOLE})
    world.ok("PUT", "/v1/retention/chat", json={"days": 77, "site": place[0]})
    here["room"] = f"site:{place[0]}"
    here["chat_picture"] = world.chat_picture(here["room"])
    here["chat_message"] = world.chat_message(here["room"])


def _look(world: World, place: Place) -> None:
    """What is of a camera."""
    site, camera = place
    here = world.things[place]
    here["camera"] = camera
    with world.sessions() as session:
        alone = session.scalars(select(EpisodeRow).where(EpisodeRow.cameras == [camera])).first()
        assert alone, f"expected an episode of {camera} alone"
        here["episode"] = alone.id
        looks = session.scalars(select(EvidenceRow).where(EvidenceRow.episode == alone.id, EvidenceRow.picture != "",
                                                          EvidenceRow.rank >= 0)).first()
        assert looks
        here["evidence"] = looks.picture.rsplit("/", 1)[1].removesuffix(".jpg")
        leg = session.scalars(select(LegRow).where(LegRow.trajectory == alone.person)).one()
        here["trajectory"] = here["visitor"] = leg.trajectory
        here["sighting"] = leg.track
        assert session.get(Sighting, leg.track)
        face = session.scalars(select(FaceRow).where(FaceRow.track == leg.track)).first()
        assert face
        here["face"] = face.id
    with world.sessions() as session, session.begin():
        session.add(Alert(id=alone.id, kind="episode", rule=world.things[(site, "")]["rule"], site=site,
                          cameras=[camera], state="open", start=alone.start, steps=[], tell_end=False, facts={}))
        session.add(Delivery(channel=world.things[(site, "")]["channel"], what="alert", alert=alone.id, site=site,
                             due=db.now(), facts={}))
    here["alert"] = alone.id
    here["room"] = f"camera:{camera}"
    here["chat_picture"] = world.chat_picture(here["room"])
    here["chat_message"] = world.chat_message(here["room"])
    world.chat_picture(f"episode:{alone.id}")
    here["request"] = world.request(place)
    here["decision"] = world.decision(place)
    world.ok("POST", f"/v1/episodes/{quote(alone.id)}/steps",
             json={"verb": "comment", "text": f"seen at {camera}"})

