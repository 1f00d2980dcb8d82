"""Role × route × own camera, other camera, other site: every cell is asked for, with things that are really there.

What is expected comes from the permission data (`ROLES` and the grant), and from one line of NOUNS a noun: whose thing
it is. A new route with an id in its path has no such line, and test_every_route_has_its_noun fails until it has one.
Besides, no answer of any route may hold a name of a place that its reader's grant does not cover.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from litestar.handlers import HTTPRouteHandler
from sqlalchemy.orm import Session
from world import CAMERAS, DOCK, GATE, HALL, MOVED, ROOF, WHOLE, YARD, Place, User_, World, photo

from api import auth, live
from api.permissions import ROLES
from api.tables.users import Grant
from pipeline.messages import CameraStatus

HOUR = 3_600_000_000  # µs
GRANTS = (("hallsite", ""), ("hallsite", "gatecam"))
Body = Callable[[World, dict[str, str]], dict[str, Any]]


@dataclass(frozen=True)
class Noun:
    """Things of a kind: who may see one, and how it is named in a path."""

    sees: str  # permission
    level: str  # camera: of one camera; site: of a whole site; part: of a site, seen by who has any camera of it
    names: dict[str, str]  # parameter of the path -> noun of the world
    fresh: bool = False  # a write gets one of its own


# path prefix, the longest that fits counts
NOUNS: dict[str, Noun] = {
    "/v1/sites/{site}": Noun("cameras.view", "part", {"site": "site"}),
    "/v1/plans/{plan}": Noun("cameras.view", "part", {"plan": "plan"}, True),
    "/v1/policies/{policy}": Noun("cameras.view", "part", {"policy": "policy"}),
    "/v1/cameras/{camera}": Noun("cameras.view", "camera", {"camera": "camera", "at": "at"}, True),
    "/v1/episodes/{id}": Noun("compliance.view", "camera", {"id": "episode", "key": "evidence"}),
    "/v1/alerts/{id}": Noun("compliance.view", "camera", {"id": "alert"}),
    "/v1/alert-rules/{id}": Noun("compliance.edit", "site", {"id": "rule"}, True),
    "/v1/channels/{id}": Noun("compliance.edit", "site", {"id": "channel"}, True),
    "/v1/deliveries/{id}": Noun("compliance.edit", "site", {"id": "delivery"}),
    "/v1/sightings/{id}": Noun("people.view", "camera", {"id": "sighting"}),
    "/v1/faces/{id}": Noun("people.view", "camera", {"id": "face"}),
    "/v1/trajectories/{id}": Noun("people.view", "camera", {"id": "trajectory"}),
    "/v1/visitors/{id}": Noun("people.view", "camera", {"id": "visitor"}),
    "/v1/people/{id}": Noun("people.view", "site", {"id": "person", "portrait": "portrait"}, True),
    "/v1/watch-lists/{id}": Noun("people.view", "site", {"id": "watch_list", "person_id": "person"}, True),
    "/v1/decisions/{id}": Noun("people.view", "site", {"id": "decision"}),
    "/v1/erasures/{id}": Noun("people.view", "site", {"id": "erasure"}),
    "/v1/inspections/{id}": Noun("inspections.review", "site", {"id": "inspection", "photo": "photo"}, True),
    "/v1/rounds/{id}": Noun("inspections.view", "site", {"id": "round"}, True),
    "/v1/requests/{id}": Noun("requests.review", "camera", {"id": "request"}, True),
    "/v1/chat/rooms/{room}": Noun("cameras.view", "camera", {"room": "room", "name": "chat_picture",
                                                             "id": "chat_message"}),
}

# Nothing of a place stands in their paths: why not.
OF_NO_PLACE = {
    "/v1/users/{id}": "users are of the whole house; whose grants one sees and gives: test_grants_…",
    "/v1/roles/{name}": "roles are of the whole house: changing one takes every permission everywhere",
    "/v1/me/sessions/{id}": "one's own only: test_auth.py",
    "/v1/retention/{kind}": "the site is in the body: test_what_a_body_names",
    "/v1/dead-letters/{letter}": "only for who runs the stream everywhere: everywhere=True",
    "/v1/models/{id}": "models are public to whoever is logged in",
    "/v1/replays/{replay}": "a run needs a worker to have episodes: test_replays.py",
    "/v1/video/": "test_video.py",
}

# (method, path) -> what it wants beyond who it is for
BODIES: dict[tuple[str, str], dict[str, Any] | Body] = {
    ("PATCH", "/v1/sites/{site}"): {"json": {"blur_others": False}},
    ("PATCH", "/v1/plans/{plan}"): {"json": {"floor": 1}},
    ("PUT", "/v1/plans/{plan}/picture"): {"files": {"picture": ("p.jpg", photo())}},
    ("PATCH", "/v1/cameras/{camera}"): {"json": {"fps": 4}},
    ("PUT", "/v1/cameras/{camera}/source"): {"json": {"source": None}},
    ("PUT", "/v1/cameras/{camera}/hidden"): {"json": {"areas": []}},
    ("PUT", "/v1/cameras/{camera}/zones"): {"json": {"zones": []}},
    ("PUT", "/v1/cameras/{camera}/calibration"): {"json": {"save": False, "pairs": [
        {"picture": p, "metres": m} for p, m in zip([[0, 0], [1, 0], [1, 1], [0, 1]], [[0, 9], [9, 9], [9, 0], [0, 0]],
                                                    strict=True)]}},
    ("POST", "/v1/episodes/{id}/steps"): {"json": {"verb": "acknowledge"}},
    ("PUT", "/v1/alert-rules/{id}"): lambda w, t: {"json": {
        "name": "x", "site": t["site"], "kind": "episode", "steps": [{"channels": [t["channel"]]}]}},
    ("PUT", "/v1/channels/{id}"): lambda w, t: {"json": {"name": "x", "site": t["site"], "options": {
        "kind": "mqtt", "host": "127.0.0.1", "topic": "x"}}},
    ("PATCH", "/v1/people/{id}"): {"json": {"note": "x"}},
    ("POST", "/v1/people/{id}/consents"): {"json": {"version": "2", "text": "Yes.", "given": "2026-01-01T00:00:00Z"}},
    ("POST", "/v1/people/{id}/portraits"): {"json": {"picture": ""}},
    ("POST", "/v1/people/{id}/portraits/upload"): {"files": {"picture": ("p.jpg", photo())}},
    ("PUT", "/v1/watch-lists/{id}/people/{person_id}"): {"json": {}},
    ("PUT", "/v1/inspections/{id}"): lambda w, t: {"json": {"site": t["site"], "at": time.time_ns() // 1000}},
    ("PUT", "/v1/inspections/{id}/state"): lambda w, t: {"json": {"state": "paused", "at": time.time_ns() // 1000}},
    ("POST", "/v1/inspections/{id}/photos/{photo}"): {"files": {"picture": ("p.jpg", photo())}},
    ("POST", "/v1/inspections/{id}/points"): lambda w, t: {"json": {"points": [
        {"id": str(uuid.uuid4()), "at": time.time_ns() // 1000, "lat": 1, "lon": 1}]}},
    ("PATCH", "/v1/inspections/{id}"): {"json": {"note": "x"}},
    ("PATCH", "/v1/inspections/{id}/photos/{photo}"): {"json": {"note": "x"}},
    ("PUT", "/v1/rounds/{id}"): lambda w, t: {"json": {"site": t["site"], "name": "x", "checkpoints": []}},
    ("POST", "/v1/requests/{id}/grant"): {"json": {}},
    ("POST", "/v1/requests/{id}/refuse"): {"json": {"answer": "no"}},
    ("POST", "/v1/requests/{id}/end"): {"json": {"answer": "over"}},
    ("POST", "/v1/chat/rooms/{room}/messages"): lambda w, t: {"json": {"id": str(uuid.uuid4()), "text": t["camera"]}},
    ("PUT", "/v1/chat/rooms/{room}/read"): {"json": {"seq": 0}},
    ("POST", "/v1/chat/rooms/{room}/pictures"): {"files": {"picture": ("p.jpg", photo())}},
    ("GET", "/v1/rounds/{id}/plan"): {"params": {"since": 0, "until": 1}},
    ("GET", "/v1/cameras/{camera}/footage"): {"params": {"since": 0, "until": 1}},
    ("GET", "/v1/cameras/{camera}/footage/clip"): {"params": {"since": 0, "until": 1}},
}  # fmt: skip

# What only the owner of the thing may do, whatever their role: others get 404 (inspections) or 403 (requests they see).
OWNERS = {
    ("PUT", "/v1/inspections/{id}"): 404, ("PUT", "/v1/inspections/{id}/state"): 404,
    ("POST", "/v1/inspections/{id}/photos/{photo}"): 404, ("POST", "/v1/inspections/{id}/points"): 404,
    ("POST", "/v1/requests/{id}/withdraw"): 403,
}  # fmt: skip

# What with one's own takes nothing more, and with somebody else's this permission.
BEYOND = {("DELETE", "/v1/chat/rooms/{room}/messages/{id}"): "chat.remove"}


# There is none in the world, so that its owner too is told 404: what is there is looked at elsewhere.
EMPTY = {"/v1/cameras/{camera}/footage/clip": "test_footage.py", "/v1/cameras/{camera}/footage/{at}": "test_footage.py"}


@dataclass(frozen=True)
class Route:
    """A method of a path, and what its guard asks for."""

    method: str
    path: str  # with {name}
    wanted: str
    everywhere: bool
    takes: frozenset[str]  # names of its query

    @property
    def noun(self) -> Noun | None:
        fitting = [prefix for prefix in NOUNS if self.path == prefix or self.path.startswith(prefix + "/")]
        return NOUNS[max(fitting, key=len)] if fitting else None


def routes(world: World) -> list[Route]:
    found = []
    for route in world.app.app.routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for handler in getattr(route, "route_handlers", ()):
            wanted = handler.opt.get("needs")
            if isinstance(handler, HTTPRouteHandler) and wanted not in (None, auth.PUBLIC):
                takes = frozenset(handler.parsed_fn_signature.parameters)
                if "datetime" in str(handler.parsed_fn_signature.parameters.get("since")):
                    takes -= {"since", "until"}
                found += [Route(method, path, wanted, handler.opt.get("everywhere", False), takes)
                          for method in sorted(handler.http_methods) if method != "OPTIONS"]
    return sorted(found, key=lambda r: (r.path, r.method))


@pytest.fixture(scope="module")
def people(world: World) -> list[User_]:
    return [world.user(role, *grant) for role in ROLES for grant in GRANTS] + [
        world.user("admin"), world.user("manager", *MOVED)]


def test_every_route_has_its_noun(world: World) -> None:
    nameless = [f"{r.method} {r.path}: add it to NOUNS, or to OF_NO_PLACE with the reason" for r in routes(world)
                if "{" in r.path and r.noun is None and not any(r.path.startswith(each) for each in OF_NO_PLACE)]
    assert nameless == []
    bare = [f"{r.method} {r.path}: add what it wants to BODIES" for r in routes(world)
            if r.method in ("PUT", "PATCH") and r.noun and (r.method, r.path) not in BODIES]
    assert bare == []


def holds(user: User_, permission: str) -> bool:
    return permission == auth.ANYBODY or permission in ROLES[user.role][2]


def moved(user: User_) -> bool:
    """Of whose grant there is no camera any more."""
    return (user.site, user.camera) == MOVED


def expected(user: User_, route: Route, noun: Noun, place: Place) -> str:
    """403, 404, or "may"; from the data of roles and the grant."""
    if not holds(user, route.wanted) or (route.everywhere and user.site):
        return "403"
    site = place if noun.level == "camera" else (place[0], "")
    seen = user.covers(site) if noun.level != "part" else (not user.site or user.site == place[0]) and not moved(user)
    if not (holds(user, noun.sees) and seen):
        return "404"
    if (owner := OWNERS.get((route.method, route.path))) is not None:
        return str(owner)
    if (more := BEYOND.get((route.method, route.path))) is not None and not holds(user, more):
        return "403"
    return "may" if user.covers(site) or route.method == "GET" else "403"


def there(world: World, noun: Noun, place: Place) -> dict[str, str]:
    """Everything there is at a place: of the camera, else of its site."""
    return {**world.things[(place[0], "")], **(world.things[place] if noun.level == "camera" or "decision" in
                                               noun.names.values() else {})}


def renewed(world: World, noun: Noun, place: Place, things: dict[str, str], user: User_) -> dict[str, str]:
    """The same with a thing of its own, that a write may change or remove."""
    main = next(iter(noun.names.values()))
    things = dict(things)
    things[main] = getattr(world, main)(place)
    if main == "camera" and user.camera == place[1]:
        with world.sessions() as session, session.begin():
            session.add(Grant(user=user.id, role=user.role, site=place[0], camera=things[main]))
    if main == "inspection":
        things["photo"] = world.things[(things[main], "")]["photo"]
    if main == "person":
        things["portrait"] = world.portrait(things[main])
    return things


def elsewhere(user: User_) -> tuple[str, ...]:
    """Names that this user must not read anywhere."""
    if not user.site:
        return ()
    if moved(user):
        return "hallsite", "dockcam", "roofcam", "yardsite" + WHOLE
    far = ("yardsite", "roofcam")
    return (*far, "dockcam", "hallsite" + WHOLE) if user.camera else far


# Of a site whose one camera one sees, the plan has the site's name: who sees a camera sees where it hangs.
MAY_NAME_SITE = ("/v1/plans", "/v1/sites")


def leaked(user: User_, route: Route, body: str, asked: str = "") -> list[str]:
    """`asked`: what the request itself named."""
    names = elsewhere(user)
    if route.path.startswith(MAY_NAME_SITE):
        names = tuple(name for name in names if name != "hallsite" + WHOLE)
    return [name for name in names if name in body and name not in asked]


def test_every_cell(world: World, people: list[User_]) -> None:
    wrong, cells = [], 0
    for route in routes(world):
        noun = route.noun
        if noun is None:
            continue
        places = CAMERAS if noun.level == "camera" else (HALL, YARD)
        for user in people:
            # whom the guard turns away without a look at the thing: once
            for place in places if holds(user, route.wanted) else places[-1:]:
                if "decision" in noun.names.values():
                    place = {HALL: GATE, YARD: ROOF}[place]
                things, want = there(world, noun, place), expected(user, route, noun, place)
                if noun.fresh and route.method != "GET" and want == "may":
                    things = renewed(world, noun, place, things, user)
                path = re.sub(r"\{(\w+)\}", lambda m, t=things, n=noun: quote(t[n.names[m[1]]], safe=""), route.path)
                more = BODIES.get((route.method, route.path), {})
                more = more(world, things) if callable(more) else more
                answer = user.client.request(route.method, path, follow_redirects=False, **more)
                got = str(answer.status_code)
                if want == "may" and route.path in EMPTY and got == "404":
                    got = "200"
                right = got == want if want != "may" else got not in ("401", "403", "404", "405") and got < "500"
                cells += 1
                if not right:
                    wrong.append(f"{user}: {route.method} {path}: expected {want}, got {got} {answer.text[:160]}")
                if found := leaked(user, route, answer.text, path):
                    wrong.append(f"{user}: {route.method} {path} names {found}: {answer.text[:600]}")
    assert not wrong, f"{len(wrong)} of {cells} cells\n" + "\n".join(wrong)
    assert cells > 1500


# -- what has no id in its path ---------------------------------------------------------------------------------------

# Lists and figures in which nothing of a place need stand, for whoever may ask.
SILENT = {
    "/v1/me": "one's own", "/v1/interface": "of the house",
    "/v1/me/identities": "one's own", "/v1/me/sessions": "one's own", "/v1/roles": "of the house",
    "/v1/permissions": "of the house", "/v1/models": "of the house", "/v1/settings": "of the house",
    "/metrics": "figures of the process",
    "/v1/status": "empty until the topics have something", "/v1/stream": "as /v1/status",
    "/v1/stream/lag": "counts of all stages",
    "/v1/stream/savings": "whole stretches of ten minutes", "/v1/dead-letters": "there are none",
    "/v1/inspections": "those of the world are another inspector's: those who review see them",
    "/v1/requests": "one's own, unless inbox=true", "/v1/statistics/inspections": "sums",
    "/v1/replays": "none were run",
    "/v1/replays/options": "of the house", "/v1/statistics/words": "notes of inspections that one may see",
    "/v1/statistics/users": "names of users", "/v1/compliance": "a sum over all", "/v1/compliance/trend": "a sum",
    "/v1/compliance/gaps": "the cameras ended in time", "/v1/live": "does not end: test_the_feed_…",
    "/v1/recognised": "nobody of the world was recognised", "/v1/retention": "the site's own, for who has the site",
}  # fmt: skip
# What is of whole sites: of no use to who has a camera.
OF_SITES = {"/v1/alert-rules", "/v1/channels", "/v1/deliveries", "/v1/people", "/v1/watch-lists", "/v1/decisions",
            "/v1/erasures", "/v1/rounds", "/v1/audit", "/v1/users", "/v1/retention"}
ENDLESS = {"/v1/live"}
QUERIES: dict[str, dict[str, Any]] = {"/v1/trajectories/passed": {"camera": "gatecam"},
                                      "/v1/compliance/ranking": {"by": "camera"}}


def test_lists_and_figures_hold_what_one_may_see_and_nothing_else(world: World, people: list[User_]) -> None:
    wrong = []
    for route in routes(world):
        if route.method != "GET" or "{" in route.path or route.path in ENDLESS:
            continue
        for user in people:
            may = holds(user, route.wanted) and not (route.everywhere and user.site)
            for asked in ({}, {"site": "yardsite"}, {"camera": "roofcam"}, {"inbox": True}, {"by": "zone"},
                          {"person": world.things[YARD]["person"]},
                          {"subject": world.things[ROOF]["visitor"]}, {"bucket": "all", "by": "site"}):
                if asked and not asked.keys() & route.takes:
                    continue
                query = {"since": world.start - HOUR, "until": world.start + HOUR} | QUERIES.get(route.path, {}) | asked
                query = {name: value for name, value in query.items() if name in route.takes}
                answer = user.client.get(route.path, params=query, follow_redirects=False)
                told = f"{user}: GET {answer.url.raw_path.decode()}: {answer.status_code}"
                if answer.status_code >= 500 and answer.status_code != 503:
                    wrong.append(told)
                if (answer.status_code == 403) == may:
                    wrong.append(f"{told}, expected {'to be let in' if may else '403'}")
                if found := leaked(user, route, answer.text, str(asked)):
                    begin = max(0, answer.text.find(found[0]) - 200)
                    wrong.append(f"{told} names {found}: …{answer.text[begin:begin + 400]}")
                own = answer.status_code == 200 and ("hallsite" in answer.text or "gatecam" in answer.text)
                useless = route.path in SILENT or moved(user) or (user.camera and route.path in OF_SITES)
                if not asked and may and not useless and not own:
                    wrong.append(f"{told} names nothing of its own: {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


# (method, path) -> the body that names a place, and at which level its permission is needed there
NAMED: dict[tuple[str, str], tuple[str, Callable[[World, Place], dict[str, Any]]]] = {
    ("POST", "/v1/sites"): ("site", lambda w, p: {"id": p[0], "name": "x"}),
    ("POST", "/v1/cameras"): ("site", lambda w, p: {"id": f"x{uuid.uuid4().hex[:8]}", "site": p[0], "sources": [
        {"url": "rtsp://127.0.0.1:9/1"}]}),
    ("POST", "/v1/plans"): ("site", lambda w, p: {"site": p[0], "name": "x", "west": 0, "south": 0, "east": 9,
                                                  "north": 9}),
    ("POST", "/v1/policies"): ("site", lambda w, p: {"site": p[0], "name": "x", "rules": []}),
    ("POST", "/v1/people"): ("site", lambda w, p: {"site": p[0], "name": "x", "consent": {
        "version": "1", "text": "I agree.", "given": "2026-01-01T00:00:00Z"}}),
    ("POST", "/v1/watch-lists"): ("site", lambda w, p: {"site": p[0], "name": "x"}),
    ("POST", "/v1/channels"): ("site", lambda w, p: {"site": p[0], "name": "x", "options": {
        "kind": "mqtt", "host": "127.0.0.1", "topic": "x"}}),
    ("POST", "/v1/alert-rules"): ("site", lambda w, p: {"site": p[0], "name": "x", "kind": "episode", "steps": [
        {"channels": [w.things[(p[0], "")]["channel"]]}]}),
    ("POST", "/v1/rounds"): ("site", lambda w, p: {"site": p[0], "name": "x", "checkpoints": []}),
    ("POST", "/v1/decisions"): ("camera", lambda w, p: {"kind": "split", "subject": w.things[p]["visitor"]}),
    ("POST", "/v1/erasures"): ("camera", lambda w, p: {"reason": "x", "tracks": [w.things[p]["sighting"]],
                                                       "dry": True}),
    ("POST", "/v1/search"): ("camera", lambda w, p: {"like": w.things[p]["face"], "least": 0}),
    ("POST", "/v1/episodes/steps"): ("camera", lambda w, p: {"verb": "acknowledge",
                                                             "episodes": [w.things[p]["episode"]]}),
    ("PUT", "/v1/retention/episodes"): ("site", lambda w, p: {"days": 30, "site": p[0]}),
    ("POST", "/v1/replays"): ("camera", lambda w, p: {"name": "x", "since": w.start, "until": w.start + 1_000_000,
                                                      "cameras": [p[1]]}),
}  # fmt: skip
# POST without an id whose body names no place, or whom it may ask for any.
OF_NO_BODY = {
    "/v1/logout": "one's own", "/v1/me/tokens": "one's own", "/v1/me/wechat": "one's own",
    "/v1/me/oidc": "one's own", "/v1/users": "users are of the house", "/v1/requests": "one may ask for any place",
    "/v1/cameras/test": "an address, no place", "/v1/analyse": "a picture, no place",
    "/v1/analyse/upload": "a picture, no place", "/v1/faces/compare": "pictures, no place",
    "/v1/faces/compare/upload": "pictures, no place", "/v1/search/upload": "as /v1/search: test_people.py",
    "/v1/dead-letters/redrive": "only for who runs the stream everywhere",
}  # fmt: skip


def test_what_a_body_names(world: World, people: list[User_]) -> None:
    by_path = {(r.method, r.path): r for r in routes(world)}
    by_path[("PUT", "/v1/retention/episodes")] = by_path[("PUT", "/v1/retention/{kind}")]
    assert [f"{m} {p}: add it to NAMED, or to OF_NO_BODY with the reason" for m, p in by_path if m == "POST"
            and "{" not in p and (m, p) not in NAMED and p not in OF_NO_BODY] == []
    wrong = []
    for key, (level, body) in NAMED.items():
        if (route := by_path.get(key)) is None:
            wrong.append(f"{key}: no such route any more")
            continue
        for user in people:
            for place in CAMERAS if level == "camera" else (HALL, YARD):
                answer = user.client.request(*key, json=body(world, place))
                may = holds(user, route.wanted) and user.covers(place)
                status = answer.status_code
                done = answer.json() if answer.text.startswith("{") else {}
                if key[1] == "/v1/episodes/steps" and status == 200:
                    status = 200 if done["done"] else done["left"][0]["status"]
                refused = status in (403, 404) or (status == 422 and not may)
                if may == refused or status >= 500:
                    wrong.append(f"{user}: {key} about {place}: {status} {answer.text[:200]}")
                if found := leaked(user, route, answer.text, json.dumps(body(world, place))):
                    wrong.append(f"{user}: {key} about {place} names {found}: {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)


# -- rooms, feed and socket -------------------------------------------------------------------------------------------


def test_rooms_of_every_kind(world: World, people: list[User_]) -> None:
    wrong = []
    for user in people:
        for place in CAMERAS:
            whole = (place[0], "")
            rooms = {  # who may enter: the chat and the thing itself
                f"site:{place[0]}": user.covers(whole),
                f"camera:{place[1]}": user.covers(place) and holds(user, "cameras.view"),
                f"episode:{world.things[place]['episode']}": user.covers(place) and holds(user, "compliance.view"),
                f"inspection:{world.things[whole]['inspection']}":
                    user.covers(whole) and holds(user, "inspections.review"),
            }
            for room, may in rooms.items():
                got = user.client.get(f"/v1/chat/rooms/{quote(room, safe='')}/messages").status_code
                if got != (200 if may else 404):
                    wrong.append(f"{user}: {room}: {got}")
    assert not wrong, "\n".join(wrong)


def test_the_socket_lets_nobody_into_a_room_of_elsewhere(world: World) -> None:
    guest = world.user("viewer", "hallsite", "gatecam")
    with guest.client.websocket_connect("/v1/chat/socket") as socket:
        for place, may in ((GATE, True), (DOCK, False), (ROOF, False)):
            socket.send_text(json.dumps({"join": f"camera:{place[1]}", "since": 0}))
            got: dict[str, Any] = {}
            while not {"joined", "problem"} & set(got):
                got = json.loads(socket.receive_text(timeout=10))
            assert ("joined" in got) == may, (place, got)
            socket.send_text(json.dumps({"room": f"camera:{place[1]}", "id": str(uuid.uuid4()), "text": "hello"}))
            while not {"message", "problem"} & set(got) or "joined" in got:
                got = json.loads(socket.receive_text(timeout=10))
            assert ("message" in got) == may, (place, got)


def heard(world: World, who: User_, events: list[live.Event]) -> set[str]:
    """Which of the events reach this user through the feed: the hub's own way, from the notification on."""
    hub = world.app.app.state.hub
    token = str(who.client.headers["authorization"]).removeprefix("Bearer ")
    with world.sessions() as session:
        known = auth.recognise(session, token, world.settings)
    assert known
    listener = live.Listener(known)
    hub.listeners.add(listener)
    try:
        with world.sessions() as session, session.begin():
            for event in events:
                live.tell(session, event)
            live.tell(session, live.Event("counts", {"of": "end"}, users=(who.id,)))
        sent = {event.data["of"] for event in events}
        got, end = set[str](), time.monotonic() + 10
        while time.monotonic() < end:
            while not listener.queue.empty():
                event, _ = listener.queue.get_nowait()
                if event.data.get("of") == "end":
                    return got & sent
                got.add(event.data.get("of"))
            time.sleep(0.01)
        raise AssertionError("the feed did not come to its end")
    finally:
        hub.listeners.discard(listener)


def test_the_feed_tells_everybody_what_is_theirs(world: World, people: list[User_]) -> None:
    wrong = []
    for user in people:
        events, want = [], set[str]()
        for place in (*CAMERAS, MOVED, HALL, YARD):
            for needs in ("cameras.view", "compliance.view", "people.view", "inspections.review", "requests.review",
                          "chat.view cameras.view"):
                of = f"{needs}@{place[0]}/{place[1]}"
                events.append(live.Event("counts", {"of": of}, *place, needs))
                if all(holds(user, each) for each in needs.split()) and user.covers(place):
                    want.add(of)
        got = heard(world, user, events)
        if got != want:
            wrong.append(f"{user}: too much {sorted(got - want)}, too little {sorted(want - got)}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[live.Event]:
    """Every event, as it is handed to the database."""
    found: list[live.Event] = []
    real = live.tell

    def tell(session: Session, event: live.Event) -> None:
        found.append(event)
        real(session, event)

    monkeypatch.setattr(live, "tell", tell)
    return found


def test_what_happens_at_a_place_is_told_only_there(world: World, told: list[live.Event]) -> None:
    """Whatever names a place in an event says whose it is: its site, or the users it is for."""
    for place in (GATE, ROOF):
        camera = world.camera(place)
        world.fold("cameras.status", (camera, CameraStatus(
            camera, world.start, "down", world.start, url="rtsp://10.0.0.5/1",
            error="rtsp://10.0.0.5/1: expected a stream, got a refusal (401)")))
        world.ok("POST", f"/v1/cameras/{camera}/stop")
        world.ok("DELETE", f"/v1/cameras/{camera}")
        world.fold("cameras", (camera, None))
        world.chat_picture(world.things[place]["room"])
        world.chat_picture(f"episode:{world.things[place]['episode']}")
        world.request(place)
        world.inspection((place[0], ""))
        world.ok("PATCH", f"/v1/sites/{place[0]}", json={"blur_others": True})
        world.ok("POST", f"/v1/episodes/{quote(world.things[place]['episode'])}/steps", json={
            "verb": "comment", "text": "x"})
    loose = [event for event in told if not event.users and not (event.site and event.needs)
             and re.search("yard|roof|hall|gate|dock", repr(event.data))]
    assert loose == []
    assert [event for event in told if "10.0.0.5" in repr(event.data)] == []
    assert {"camera.removed", "camera.status", "chat.message", "request.changed", "inspection.photo", "site.changed",
            "episode.reviewed"} <= {event.kind for event in told}


# -- giving -----------------------------------------------------------------------------------------------------------


def test_grants_are_given_and_seen_only_where_one_is_at_home(world: World) -> None:
    manager, far = world.user("manager", "hallsite"), world.user("viewer", "yardsite", "roofcam")
    near = world.user("viewer", "hallsite", "gatecam")
    listed = {u["id"]: u for u in manager.client.get("/v1/users", params={"limit": 500}).json()["items"]}
    assert listed[far.id]["grants"] == []
    assert [g["camera"] for g in listed[near.id]["grants"]] == ["gatecam"]
    for body in ({"role": "viewer", "site": "hallsite", "camera": "roofcam"}, {"role": "viewer", "camera": "roofcam"},
                 {"role": "viewer", "site": "yardsite"}, {"role": "viewer", "site": "yardsite", "camera": "roofcam"},
                 {"role": "viewer"}, {"role": "admin", "site": "hallsite"}):
        answer = manager.client.post(f"/v1/users/{near.id}/grants", json=body)
        assert answer.status_code in (403, 422), (body, answer.text)
    assert near.client.get("/v1/cameras/roofcam").status_code == 404
    theirs = world.ok("GET", f"/v1/users/{far.id}")["grants"][0]["id"]
    assert manager.client.delete(f"/v1/users/{far.id}/grants/{theirs}").status_code == 404


def test_a_camera_that_is_removed_takes_its_rights_along_and_no_other_site_gets_its_id(world: World) -> None:
    camera = world.camera(GATE)
    guest = world.user("viewer", "hallsite", camera)
    assert guest.client.get(f"/v1/cameras/{camera}").status_code == 200
    world.ok("DELETE", f"/v1/cameras/{camera}")
    far = world.user("manager", "yardsite")
    body = {"id": camera, "site": "yardsite", "sources": [{"url": "rtsp://127.0.0.1:9/1"}]}
    refused = far.client.post("/v1/cameras", json=body)
    assert (refused.status_code, refused.json()["title"]) == (409, "id of another site")
    assert "hallsite" not in refused.text
    world.camera(GATE, camera)  # a new one at its own site
    assert guest.client.get(f"/v1/cameras/{camera}").status_code in (403, 404)


def test_what_a_camera_showed_stays_with_the_site_it_was_at(world: World) -> None:
    """A grant of a camera is one of a site's camera, whoever moves it."""
    camera = world.camera(GATE)
    near, far = world.user("viewer", "hallsite", camera), world.user("manager", "yardsite", camera)
    room = f"/v1/chat/rooms/camera:{camera}/messages"
    said = {"id": str(uuid.uuid4()), "text": "hallsite's own"}
    assert near.client.post(room, json=said).status_code == 201
    assert [far.client.get(path).status_code for path in (f"/v1/cameras/{camera}", room)] == [404, 404]
    world.ok("PATCH", f"/v1/cameras/{camera}", json={"site": "yardsite"})
    assert near.client.get(f"/v1/cameras/{camera}").status_code == 404
    assert far.client.get(f"/v1/cameras/{camera}").json()["calibrated"] is False  # it was on the other site's plan
    assert far.client.get(room).json()["messages"] == []
    world.ok("DELETE", f"/v1/cameras/{camera}")
    body = {"id": camera, "site": "hallsite", "sources": [{"url": "rtsp://127.0.0.1:9/1"}]}
    assert world.admin.post("/v1/cameras", json=body).status_code == 409
