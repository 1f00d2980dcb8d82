"""Walks every noun of the API, as somebody new to it would: one line a noun, and an end with code 1 at any surprise.

    make run                                        # in one terminal: prints the first password
    python examples/walk.py --password …            # in another; or MASKWATCH_WALK_PASSWORD in the environment

Needs httpx and websockets, and nothing of Maskwatch. What it makes it takes away again; the audit log remembers it.
"""

import argparse
import base64
import json
import os
import struct
import sys
import time
import uuid
import zlib
from urllib.parse import quote

import httpx
from websockets.sync.client import connect

SECOND = 1_000_000
HOUR = 3_600_000_000  # µs; times are µs since 1970, UTC


def grey(side=64):
    """A grey PNG: what is uploaded need not show anybody."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + b"\x80" * side) * side
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Surprise(Exception):
    """An answer that was not expected."""


class Walk:
    """The client, what it has made, and what it has touched."""

    def __init__(self, url, name, password, picture, patience=60.0):
        self.http = httpx.Client(base_url=url, timeout=60)
        self.picture, self.touched, self.left, self.patience = picture, set(), [], patience
        answer = self.http.post("/v1/login", json={"name": name, "password": password})
        if answer.status_code != 200:
            raise Surprise(f"expected to be logged in as {name}, got {answer.status_code} {answer.text}")
        self.me = answer.json()["me"]
        # a program sends the token; the cookie is for browsers
        self.http.cookies.clear()
        self.http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        document = self.http.get("/schema/openapi.json").json()
        self.tags = {(method.upper(), path): operation.get("tags", [""])[0]
                     for path, operations in document["paths"].items() for method, operation in operations.items()}
        self.site = f"walk-{uuid.uuid4().hex[:6]}"
        self.now = time.time_ns() // 1000

    def ask(self, method, path, *ids, expected=(200, 201, 202, 204), **more):
        """`path` as in the OpenAPI document; `ids` for its {parts}. -> the answer, decoded."""
        self.touched.add(self.tags.get((method, path), f"not in the document: {method} {path}"))
        parts = iter(ids)
        real = "/".join(quote(next(parts), safe="") if part.startswith("{") else part for part in path.split("/"))
        if more.pop("stream", False):
            with self.http.stream(method, real, **more) as answer:
                self.check(answer, expected)
                return next(answer.iter_lines())
        answer = self.http.request(method, real, **more)
        self.check(answer, expected)
        kind = answer.headers.get("content-type", "")
        return answer.json() if "json" in kind and answer.content else answer.content

    def check(self, answer, expected):
        if answer.status_code not in expected:
            raise Surprise(f"{answer.request.method} {answer.url}: expected {expected}, got {answer.status_code} "
                           f"{answer.read().decode(errors='replace')[:500]}")

    def socket(self, path):
        """A WebSocket with our login."""
        return connect(str(self.http.base_url.join(path)).replace("http", "ws", 1), max_size=None,
                       additional_headers={"Authorization": self.http.headers["Authorization"]})

    def up(self):
        """A camera that runs, or None."""
        return next((each for each in self.get("/v1/cameras")["items"] if (each["status"] or {}).get("state") == "up"),
                    None)

    def get(self, path, *ids, **query):
        return self.ask("GET", path, *ids, params=query)

    def later(self, path, *ids, **more):
        """To be taken away in the end, the newest first."""
        self.left.append((path, ids, more))

    def tidy(self):
        for path, ids, more in reversed(self.left):
            self.ask("DELETE", path, *ids, expected=(200, 204, 404), **more)
        self.left.clear()


# -- one function a noun: does something with it, -> what there is to say ----------------------------------------------


def session(walk):
    token = walk.ask("POST", "/v1/me/tokens", json={"name": "walk", "days": 1})
    mine = walk.get("/v1/me/sessions")
    named = next(each for each in mine if each["name"] == "walk")
    walk.later("/v1/me/sessions/{id}", named["id"])
    me = walk.get("/v1/me")
    return f"{me['name']} with {len(me['permissions'])} permissions; a token until {token['expires'][:10]}"


def users(walk):
    walk.password = uuid.uuid4().hex
    made = walk.ask("POST", "/v1/users", json={"name": walk.site, "password": walk.password})
    walk.later("/v1/users/{id}", made["id"])
    walk.ask("POST", "/v1/users/{id}/grants", made["id"], json={"role": "viewer", "site": walk.site})
    roles = walk.get("/v1/roles")
    return f"{len(walk.get('/v1/users')['items'])} users, {len(roles)} roles; {walk.site} may view its site"


def sites(walk):
    walk.ask("POST", "/v1/sites", json={"id": walk.site, "name": "A walk", "privacy": "pseudonymous"})
    walk.later("/v1/sites/{site}", walk.site)
    return f"{len(walk.get('/v1/sites')['items'])}, one of them {walk.site}"


def plans(walk):
    made = walk.ask("POST", "/v1/plans", json={"site": walk.site, "name": "Ground floor", "west": 0, "south": 0,
                                               "east": 20, "north": 10})
    walk.later("/v1/plans/{plan}", made["id"])
    shown = walk.ask("PUT", "/v1/plans/{plan}/picture", made["id"], files={"picture": ("plan.jpg", walk.picture)})
    return f"20 × 10 m, {shown['width']} × {shown['height']} pixels"


def cameras(walk):
    """Nobody answers at its address: it stays down, and is wished away in the end."""
    walk.ask("POST", "/v1/cameras", json={"id": walk.site, "site": walk.site, "name": "Walk",
                                          "sources": [{"url": "rtsp://127.0.0.1:9/1"}], "place": [1, 1]})
    walk.later("/v1/cameras/{camera}", walk.site)
    walk.ask("PUT", "/v1/cameras/{camera}/zones", walk.site, json={"zones": [
        {"name": "door", "outline": [[0, 0], [1, 0], [1, 1]]}]})
    walk.ask("POST", "/v1/cameras/{camera}/stop", walk.site)
    everyone = walk.get("/v1/cameras")["items"]
    up = sum((each["status"] or {}).get("state") == "up" for each in everyone)
    return f"{len(everyone)}, {up} of them up"


def policies(walk):
    made = walk.ask("POST", "/v1/policies", json={"site": walk.site, "name": "Masks at the door", "rules": [
        {"name": "door", "zones": ["door"], "required": "worn"}]})
    walk.ask("POST", "/v1/policies/{policy}/activate", made["id"])
    return f"{made['id']} holds, {len(made['rules'])} rule"


def live_video(walk):
    told = walk.get("/v1/cameras/{camera}/video", (walk.up() or {"id": walk.site})["id"])
    if not told["running"]:
        return f"{len(told['sources'])} source, stopped; no other camera is up"
    first = next(each for each in told["sources"] if each["first"])
    with walk.socket(first["stream"]) as stream:
        begun = json.loads(stream.recv(30))
        if "error" in begun:
            raise Surprise(f"expected video of {told['camera']}, got {begun}")
        told_of = [stream.recv(30) for _ in range(20)]
    pictures = [each for each in told_of if isinstance(each, bytes)]
    return (f"{told['camera']}: {begun['width']} × {begun['height']}, {begun['mime']}, "
            f"{sum(map(len, pictures)):,} bytes in {len(pictures)} parts")


def footage(walk):
    held = walk.get("/v1/cameras/{camera}/footage", walk.site, since=walk.now - HOUR, until=walk.now)
    return f"{len(held['frames'])} pictures of the new camera in the log"


def compliance(walk):
    query = {"since": walk.now - 24 * HOUR, "until": walk.now + HOUR}
    (told,) = walk.get("/v1/compliance", bucket="all", **query)
    rows = walk.get("/v1/compliance/export", **query).decode().count("\r\n") - 1
    people = sum(told["total"]["people"].values())
    return f"{people:.0f} people in 24 hours, {rows} rows of CSV"


def episodes(walk):
    found = walk.get("/v1/episodes", limit=5)["items"]
    if not found:
        return "none yet"
    whole = walk.get("/v1/episodes/{id}", found[0]["id"])
    walk.ask("POST", "/v1/episodes/{id}/steps", found[0]["id"], json={"verb": "comment", "text": "walked by"})
    for shown in whole["evidence"][:1]:
        if shown["key"]:
            walk.get("/v1/episodes/{id}/evidence/{key}", found[0]["id"], shown["key"])
    return f"the newest: {found[0]['state']} at {', '.join(found[0]['cameras'])}, {len(whole['evidence'])} pictures"


def alerts(walk):
    channel = walk.ask("POST", "/v1/channels", json={"name": walk.site, "site": walk.site, "options": {
        "kind": "mqtt", "host": "127.0.0.1", "topic": walk.site}})
    walk.later("/v1/channels/{id}", channel["id"])
    walk.ask("POST", "/v1/channels/{id}/test", channel["id"])
    rule = walk.ask("POST", "/v1/alert-rules", json={"name": walk.site, "site": walk.site, "kind": "episode",
                                                     "enabled": False, "steps": [{"channels": [channel["id"]]}]})
    walk.later("/v1/alert-rules/{id}", rule["id"])
    return f"{len(walk.get('/v1/alerts')['items'])}; a rule and a channel made, the channel tried"


def people(walk):
    made = walk.ask("POST", "/v1/people", json={"name": "Somebody", "site": walk.site, "consent": {
        "version": "1", "text": "I agree.", "given": "2026-01-01T00:00:00Z"}})
    walk.later("/v1/people/{id}", made["id"])
    listed = walk.ask("POST", "/v1/watch-lists", json={"name": walk.site, "site": walk.site})
    walk.later("/v1/watch-lists/{id}", listed["id"])
    walk.ask("PUT", "/v1/watch-lists/{id}/people/{person_id}", listed["id"], made["id"], json={})
    told = walk.ask("POST", "/v1/erasures", json={"person": made["id"], "reason": "what would go", "dry": True})
    return (f"{len(walk.get('/v1/people')['items'])} enrolled, one of them for this walk; erasing them would take "
            f"{told['plan']['faces']} faces, {told['plan']['tracks']} tracks and {told['plan']['episodes']} episodes")


def sightings(walk):
    found = walk.get("/v1/sightings", pictured=True, limit=5)["items"]
    if not found:
        return "none yet"
    jpeg = walk.get("/v1/faces/{id}/picture", found[0]["face"])
    return f"the newest with a picture at {found[0]['camera']}, {len(jpeg):,} bytes"


def trajectories(walk):
    found = walk.get("/v1/trajectories", limit=5)["items"]
    drawn = walk.get("/v1/trajectories/geojson", limit=5)
    return f"{len(found)} newest, {len(drawn['features'])} parts on the {drawn['coordinates']}"


def search(walk):
    """A picture without a face is an answer too. Whom a camera saw last is looked for backwards."""
    seen = walk.ask("POST", "/v1/analyse", json={"pictures": [base64.b64encode(walk.picture).decode()]})
    said = f"{len(seen['pictures'][0]['faces'])} faces in our picture, by {', '.join(sorted(seen['models']))}"
    found = walk.get("/v1/sightings", pictured=True, limit=1)["items"]
    if not found:
        return said
    alike = walk.ask("POST", "/v1/search", json={"like": found[0]["face"], "least": 0.1, "limit": 5},
                     expected=(200, 404, 409, 422))
    if "matches" not in alike:
        return f"{said}; who was seen last has no vector"
    best = alike["matches"][0] if alike["matches"] else None
    return f"{said}; {len(alike['matches'])} look like who was seen last" + (
        f", the best with a chance of {best['chance']:.0%}" if best else "")


def inspections(walk):
    one, shot = str(uuid.uuid4()), str(uuid.uuid4())
    walk.ask("PUT", "/v1/inspections/{id}", one, json={"site": walk.site, "at": walk.now, "sent": walk.now})
    walk.later("/v1/inspections/{id}", one)
    walk.ask("POST", "/v1/inspections/{id}/photos/{photo}", one, shot, files={"picture": ("p.jpg", walk.picture)})
    walk.ask("POST", "/v1/inspections/{id}/points", one, json={"points": [
        {"id": str(uuid.uuid4()), "at": walk.now, "lat": 31.2, "lon": 121.5}]})
    over = walk.ask("PUT", "/v1/inspections/{id}/state", one, json={"state": "finished", "at": walk.now + 1})
    pdf = walk.get("/v1/inspections/{id}/report", one)
    return f"{over['state']} with {over['photos']} photo and {over['points']} position; report of {len(pdf):,} bytes"


def requests(walk):
    made = walk.ask("POST", "/v1/requests", json={"kind": "access", "site": walk.site, "reason": "to see what happens"})
    walk.ask("POST", "/v1/requests/{id}/withdraw", made["id"])
    other = httpx.Client(base_url=walk.http.base_url, timeout=60)
    answer = other.post("/v1/login", json={"name": walk.site, "password": walk.password})
    walk.check(answer, (200, 201))
    other.headers["Authorization"] = f"Bearer {answer.json()['token']}"
    other.cookies.clear()
    more = other.post("/v1/requests", json={"kind": "role", "role": "inspector", "site": walk.site, "reason": "rounds"})
    walk.check(more, (201,))
    granted = walk.ask("POST", "/v1/requests/{id}/grant", more.json()["id"], json={"answer": "for today"})
    return f"asked for {made['site']}, and withdrawn; {walk.site} asked to be {granted['role']}: {granted['state']}"


def chat(walk):
    room = f"site:{walk.site}"
    said = walk.ask("POST", "/v1/chat/rooms/{room}/messages", room, json={"id": str(uuid.uuid4()), "text": "hello"})
    told = walk.get("/v1/chat/rooms/{room}/messages", room)
    with walk.socket("/v1/chat/socket") as socket:
        socket.send(json.dumps({"join": room, "since": 0}))
        while "joined" not in (heard := json.loads(socket.recv(10))):
            if "problem" in heard:
                raise Surprise(f"expected to join {room}, got {heard}")
    return f"{len(told['messages'])} message in {room}, the last by {said['name']}"


def statistics(walk):
    query = {"since": walk.now - 24 * HOUR, "until": walk.now + HOUR}
    words = walk.get("/v1/statistics/words", **query)
    return f"cameras at {len(walk.get('/v1/statistics/cameras'))} sites, {len(words)} words in notes"


def replays(walk):
    told = walk.get("/v1/replays/options")
    said = f"{len(walk.get('/v1/replays')['items'])} runs; {len(told['settings'])} settings may differ in one"
    camera, now = walk.up(), time.time_ns() // 1000
    if camera is None:
        return f"{said}; no camera is up"
    run = walk.ask("POST", "/v1/replays", json={"name": walk.site, "cameras": [camera["id"]], "settings": {"grace": 3},
                                                "since": now - 25 * SECOND, "until": now - 5 * SECOND})
    until = time.monotonic() + walk.patience
    while (one := walk.get("/v1/replays/{replay}", run["id"]))["state"] not in ENDED and time.monotonic() < until:
        time.sleep(0.5)
    if one["state"] == "done":
        diff = walk.get("/v1/replays/{replay}/diff", run["id"], against="live")
        said += f"; another grace: {diff['counts']} against what was recorded"
    elif one["state"] not in ENDED:
        walk.ask("POST", "/v1/replays/{replay}/cancel", run["id"])
        return f"{said}; no worker was through one within {walk.patience:.0f} s: cancelled"
    else:
        raise Surprise(f"expected a run that is done, got {one['state']}: {one['error']}")
    walk.later("/v1/replays/{replay}", run["id"])
    return said


def live(walk):
    return f"the feed says {walk.ask('GET', '/v1/live', stream=True)!r}"


def stream(walk):
    told = walk.get("/v1/status")
    return f"{len(told['stages'])} stages, broker {'up' if told['broker'] else 'down'}"


def system(walk):
    return f"{len(walk.get('/v1/settings')['settings'])} settings, {len(walk.get('/v1/models')['models'])} models"


def interface(walk):
    return f"{json.dumps(walk.get('/v1/interface'))[:80]}"


def audit(walk):
    mine = walk.get("/v1/audit", user=walk.me["id"], limit=500)["items"]
    return f"{len(mine)} entries about us, the newest {mine[0]['action']}"


ENDED = ("done", "failed", "cancelled")

# in an order in which each finds what it needs; the names are those of the OpenAPI document
NOUNS = {
    "session": session, "sites": sites, "users": users, "plans": plans, "cameras": cameras, "policies": policies,
    "live video": live_video, "footage": footage, "compliance": compliance, "episodes": episodes, "alerts": alerts,
    "people": people, "sightings": sightings, "trajectories": trajectories, "search": search,
    "inspections": inspections, "requests": requests, "chat": chat, "statistics": statistics, "replays": replays,
    "live": live, "stream": stream, "system": system, "interface": interface, "audit": audit,
}  # fmt: skip


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", default="http://127.0.0.1:8000")
    arguments.add_argument("--name", default="admin")
    arguments.add_argument("--password", default=os.environ.get("MASKWATCH_WALK_PASSWORD", ""))
    arguments.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a replay")
    arguments.add_argument("--picture", help="a picture to upload; without it a grey one")
    given = arguments.parse_args()
    picture = grey()
    if given.picture:
        with open(given.picture, "rb") as file:
            picture = file.read()
    surprises = 0
    try:
        walk = Walk(given.url, given.name, given.password, picture, given.patience)
    except (Surprise, httpx.HTTPError) as error:
        sys.exit(str(error))
    for noun, step in NOUNS.items():
        try:
            print(f"{noun:>12}: {step(walk)}", flush=True)
        except (Surprise, httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            surprises += 1
            print(f"{noun:>12}: SURPRISE: {type(error).__name__}: {error}", flush=True)
    try:
        walk.tidy()
    except (Surprise, httpx.HTTPError) as error:
        surprises += 1
        print(f"     cleanup: SURPRISE: {error}")
    for noun in sorted(set(walk.tags.values()) - walk.touched - {""}):
        surprises += 1
        print(f"{noun:>12}: SURPRISE: the API has it, this walk has not: write a function for it")
    print(f"{len(NOUNS)} nouns, {surprises} surprises")
    sys.exit(1 if surprises else 0)


if __name__ == "__main__":
    main()
