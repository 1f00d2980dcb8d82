"""People: searched by photo, enrolled with consent, recognised where that is allowed, joined and parted by hand, and
erased so that nothing brings them back."""

from __future__ import annotations

import base64
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import scenes
from folding import folding, publish, until
from litestar.testing import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import db, materialiser, pictures, retention, vectors
from api.db import Base
from api.folds import Context, Told
from api.sight import Sight
from api.tables.audit import Audit
from api.tables.recognised import Recognised
from api.tables.retention import Retention
from api.tables.sightings import FaceRow, Sighting
from api.tables.trajectories import TrajectoryRow
from models import fakes
from pipeline.flow import Flow, Record
from pipeline.messages import Frame
from pipeline.pictures import encode
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
TOPICS = ("faces", "faces.embedded", "trajectories", "episodes")
NOW = time.time_ns() // 1000


def photo(*people: int, state: str = "none", side: int = 96) -> bytes:
    picture = fakes.empty(640, 360)
    for i, person in enumerate(people):
        fakes.draw(picture, (40 + 200 * i, 100, 40 + 200 * i + side, 100 + side), state, person)  # type: ignore[arg-type]
    return encode(picture, 95)


def in64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def walks(start: int = NOW) -> list[Frame]:
    """Hall, where people are recognised: person 1 at the door, then inside. Yard, where they are not: person 1."""
    told = {"start": start, "site": "hall", "privacy": "enrolled"}
    frames = [
        *scenes.walk("door", 0, 3, 1, lambda t: "none", place=(0.0, 0.0), **told),
        *scenes.walk("inside", 8, 3, 1, lambda t: "worn", place=(15.0, 0.0), **told),
        *scenes.walk("door", 16, 3, 2, lambda t: "worn", place=(0.0, 0.0), **told),
        *scenes.walk("yard-gate", 0, 3, 1, lambda t: "worn", start=start, site="yard"),
    ]
    ends = [Frame(camera, start + 60_000_000, site=site, ended=True)
            for camera, site in (("door", "hall"), ("inside", "hall"), ("yard-gate", "yard"))]
    return sorted(frames, key=lambda f: (f.at, f.camera)) + ends


@pytest.fixture(scope="module")
def seen() -> list[Record]:
    return [r for r in Flow(Settings(), scenes.Models()).run(walks(), fill_known=True) if r.topic in TOPICS]


def fold(sessions: sessionmaker[Session], settings: Settings, records: Iterable[Record]) -> None:
    by_topic: defaultdict[str, list[Told]] = defaultdict(list)
    for record in records:
        told = by_topic[record.topic]
        told.append(Told(record.key, record.message, record.topic, 0, len(told), NOW))
    context = Context(settings)
    with sessions() as session, session.begin():
        for topic, told in by_topic.items():
            assert materialiser.fold(session, context, topic, told) == []
    context.done()


@pytest.fixture
def hall(app: TestClient[Any], tables: Settings, sessions: sessionmaker[Session], seen: list[Record]
         ) -> TestClient[Any]:
    """The API with fake models, after those walks."""
    app.app.state["sight"] = Sight(tables, scenes.Models())
    fold(sessions, tables, seen)
    return app


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def enrolled(client: TestClient[Any], person: int = 1, **more: Any) -> str:
    consent = {"version": "1", "text": "I agree.", "given": (db.now() - timedelta(days=1)).isoformat()}
    id_ = ok(client.post("/v1/people", json={"name": f"Person {person}", "site": "hall", "consent": consent} | more),
             201)["id"]
    taken = ok(client.post(f"/v1/people/{id_}/portraits", json={"picture": in64(photo(person))}), 201)
    assert taken["hints"] == []
    return str(id_)


def test_a_photo_finds_whom_one_may_see(hall: TestClient[Any], as_: As) -> None:
    everywhere, reviewer = as_("admin"), as_("reviewer", site="hall")
    found = ok(everywhere.post("/v1/search", json={"picture": in64(photo(1))}))
    assert {m["site"] for m in found["matches"]} == {"hall", "yard"}
    assert found["searched"] == 4
    best = found["matches"][0]
    assert best["chance"] > 0.99
    assert best["pictured"]
    assert best["strangers"] < 0.01
    here = ok(reviewer.post("/v1/search", json={"picture": in64(photo(1))}))
    assert {m["site"] for m in here["matches"]} == {"hall"}
    assert len(here["matches"][0]["trajectories"]) == 1
    assert here["matches"][0]["cameras"] == ["door", "inside"]
    inside = ok(reviewer.post("/v1/search", json={"picture": in64(photo(1)), "cameras": ["inside"],
                                                  "since": NOW, "until": NOW + 60_000_000, "order": "newest"}))
    assert [m["cameras"] for m in inside["matches"]] == [["inside"]]
    again = ok(reviewer.post("/v1/search", json={"like": best["face"]} if best["site"] == "hall"
                             else {"like": here["matches"][0]["face"]}))
    assert again["matches"][0]["visitor"] == here["matches"][0]["visitor"]
    assert as_("viewer", site="hall").post("/v1/search", json={"picture": in64(photo(1))}).status_code == 403

    two = ok(reviewer.post("/v1/search/upload", files={"picture": ("p.jpg", photo(1, 2))}))
    assert (len(two["faces"]["faces"]), two["chosen"], two["matches"]) == (2, None, [])
    second = ok(reviewer.post("/v1/search/upload", files={"picture": ("p.jpg", photo(1, 2))},
                              data={"face": "1", "camera": "door"}))
    assert second["chosen"] == 1
    assert [m["cameras"] for m in second["matches"]] == [["door"]]
    assert reviewer.post("/v1/search", json={"picture": in64(photo())}).json()["title"] == "no face"
    assert reviewer.post("/v1/search", json={"picture": in64(b"GIF89a nothing")}).status_code == 422
    assert reviewer.post("/v1/search", json={}).status_code == 422


def test_pictures_are_analysed_and_compared(hall: TestClient[Any], as_: As) -> None:
    viewer, reviewer = as_("viewer", site="hall"), as_("reviewer", site="hall")
    told = ok(viewer.post("/v1/analyse", json={"pictures": [in64(photo(1, 2, state="worn")), in64(b"nothing")]}))
    assert [(f["look"], f["index"]) for f in told["pictures"][0]["faces"]] == [("worn", 0), ("worn", 1)]
    assert "expected a picture" in told["pictures"][1]["error"]
    assert told["models"] == {"look": "0" * 12, "embed": "1" * 12}
    files = [("pictures", ("a.jpg", photo(1))), ("pictures", ("b.jpg", photo(2)))]
    assert [len(p["faces"]) for p in ok(viewer.post("/v1/analyse/upload", files=files))["pictures"]] == [1, 1]
    same = ok(reviewer.post("/v1/faces/compare", json={"first": in64(photo(1)), "second": in64(photo(2, 1)),
                                                       "second_face": 1}))
    other = ok(reviewer.post("/v1/faces/compare/upload", files={"first": ("a", photo(1)), "second": ("b", photo(3))}))
    assert same["chance"] > 0.99
    assert other["chance"] < 0.5
    several = reviewer.post("/v1/faces/compare", json={"first": in64(photo(1)), "second": in64(photo(2, 1))})
    assert (several.status_code, len(several.json()["faces"])) == (422, 2)


def test_enrolled_people_are_recognised_only_where_they_may_be(
    hall: TestClient[Any], as_: As, tables: Settings, sessions: sessionmaker[Session], seen: list[Record]
) -> None:
    manager, elsewhere = as_("manager", site="hall"), as_("manager", site="yard")
    person = enrolled(manager)
    assert elsewhere.get(f"/v1/people/{person}").status_code == 404
    assert elsewhere.post(f"/v1/people/{person}/withdrawal").status_code == 404
    small = manager.post(f"/v1/people/{person}/portraits", json={"picture": in64(photo(1, side=30))})
    assert (small.status_code, small.json()["title"]) == (422, "not good enough")
    list_ = ok(manager.post("/v1/watch-lists", json={"name": "lost badge", "site": "hall"}), 201)["id"]
    assert ok(manager.put(f"/v1/watch-lists/{list_}/people/{person}", json={"reason": "bring it back"}))["people"]

    fold(sessions, tables, [r for r in seen if r.topic == "faces.embedded"])
    once = _dump(sessions)
    fold(sessions, tables, [r for r in seen if r.topic == "faces.embedded"])
    assert _dump(sessions) == once
    rows = ok(manager.get("/v1/recognised?watched=true"))["items"]
    assert sorted(row["camera"] for row in rows) == ["door", "inside"]  # not in the yard, and nobody else
    assert {row["person"] for row in rows} == {person}
    assert rows[0]["lists"] == [list_]
    history = ok(manager.get(f"/v1/people/{person}/history"))
    assert [s["camera"] for s in history["sightings"]] == ["inside", "door"]
    assert ok(manager.post("/v1/search", json={"picture": in64(photo(1))}))["people"][0]["person"] == person
    assert ok(elsewhere.get("/v1/recognised"))["items"] == []

    no = ok(manager.post("/v1/decisions", json={"kind": "not", "subject": history["visitors"][0], "object": person}),
            201)
    assert ok(manager.get("/v1/recognised"))["items"] == []
    ok(manager.post(f"/v1/decisions/{no['id']}/undo"))
    assert len(ok(manager.get("/v1/recognised"))["items"]) == 2

    portrait = ok(manager.get(f"/v1/people/{person}"))["pictures"][0]["id"]
    assert manager.get(f"/v1/people/{person}/portraits/{portrait}").headers["content-type"] == "image/jpeg"
    gone = ok(manager.post(f"/v1/people/{person}/withdrawal"))
    assert (gone["portraits"], gone["pictures"], gone["lists"]) == (0, [], [])
    assert gone["consents"][0]["withdrawn"]
    assert list(pictures.store(tables).names("people")) == []
    assert ok(manager.get("/v1/recognised"))["items"] == []
    again = manager.post(f"/v1/people/{person}/portraits", json={"picture": in64(photo(1))})
    assert (again.status_code, again.json()["title"]) == (409, "no consent")


def _by_name(name: str) -> Any:
    from api.tables import FOLDS

    return next(each for each in FOLDS if each.name == name)


def _dump(sessions: sessionmaker[Session]) -> list[Any]:
    with sessions() as session:
        return session.execute(select(Recognised.__table__).order_by(Recognised.id)).all()  # type: ignore[return-value]


def test_visitors_are_joined_and_parted_and_all_is_undone(
    hall: TestClient[Any], as_: As, sessions: sessionmaker[Session], tables: Settings, seen: list[Record]
) -> None:
    reviewer, elsewhere = as_("reviewer", site="hall"), as_("reviewer", site="yard")
    with sessions() as session:
        first, second = session.scalars(select(TrajectoryRow.id).where(TrajectoryRow.site == "hall")
                                        .order_by(TrajectoryRow.start)).all()

    def cameras(visitor: str) -> list[str]:
        answer = reviewer.get(f"/v1/visitors/{visitor.replace('#', '%23')}")
        return [s["camera"] for s in ok(answer)["sightings"]]

    def decide(**what: Any) -> int:
        return int(ok(reviewer.post("/v1/decisions", json=what), 201)["id"])

    assert (cameras(first), cameras(second)) == (["inside", "door"], ["door"])
    merge = decide(kind="merge", subject=second, object=first)
    assert cameras(second) == cameras(first) == ["door", "inside", "door"]
    assert reviewer.post("/v1/decisions", json={"kind": "merge", "subject": first, "object": second}).status_code == 409
    tracks = [s["id"] for s in ok(reviewer.get(f"/v1/visitors/{first.replace('#', '%23')}"))["sightings"]]
    split = decide(kind="split", subject=first, tracks=[tracks[1]], reason="another coat")
    assert cameras(tracks[1]) == ["inside"]
    assert cameras(first) == ["door", "door"]
    fold(sessions, tables, seen)  # what the stream says again changes nothing of it
    assert cameras(tracks[1]) == ["inside"]
    assert elsewhere.post(f"/v1/decisions/{split}/undo").status_code == 404
    assert elsewhere.post("/v1/decisions", json={"kind": "merge", "subject": first, "object": second}
                          ).status_code == 404
    for each in (split, merge, merge):
        ok(reviewer.post(f"/v1/decisions/{each}/undo"))
    assert (cameras(first), cameras(second)) == (["inside", "door"], ["door"])
    assert len(ok(reviewer.get("/v1/decisions"))["items"]) == 2


def everything(sessions: sessionmaker[Session]) -> str:
    """All rows of all tables but the audit log, as text."""
    with sessions() as session:
        tables = [table for table in Base.metadata.sorted_tables if table.name not in ("audit", "erased")]
        return "\n".join(f"{table.name} {row}" for table in tables for row in session.execute(select(table)))


def test_who_is_erased_is_nowhere_and_no_rebuild_brings_them_back(
    hall: TestClient[Any], as_: As, sessions: sessionmaker[Session], tables: Settings, seen: list[Record]
) -> None:
    publish(tables, *((r.topic, r.message) for r in seen))
    with folding(tables, sessions) as one:
        until(sessions, lambda _: one.counted.records >= len(seen))
    manager, admin = as_("manager", site="hall"), as_("admin")
    person = enrolled(manager)
    assert list(materialiser.rebuild(tables, sessions, Context(tables), _by_name("recognised")))[-1].done > 50
    with sessions() as session:
        theirs = session.scalars(select(Sighting.id).where(Sighting.site == "hall").order_by(Sighting.start)).all()[:2]
        faces = session.scalars(select(FaceRow.id).where(FaceRow.track.in_(theirs))).all()
    assert faces
    assert all(track in everything(sessions) for track in theirs)
    kept = len(list(pictures.store(tables).names("")))

    assert as_("manager", site="yard").post("/v1/erasures", json={"person": person, "reason": "x"}).status_code == 404
    assert as_("reviewer", site="hall").post("/v1/erasures", json={"person": person, "reason": "x"}).status_code == 403
    plan = ok(manager.post("/v1/erasures", json={"person": person, "reason": "asked for it", "dry": True}), 201)
    assert (plan["plan"]["tracks"], plan["plan"]["faces"] >= len(faces), plan["report"]) == (2, True, {})
    assert manager.post("/v1/erasures", json={"person": person, "reason": "x", "topics": True}).status_code == 403
    done = ok(manager.post("/v1/erasures", json={"person": person, "reason": "asked for it"}), 201)
    report = done["report"]
    assert report["rows"]["sightings"] == 2
    assert report["rows"]["track_points"] > 2
    assert report["rows"]["people"] == report["rows"]["portraits"] == report["rows"]["trajectories"] == 1
    assert report["vectors"] == len(faces)
    assert len(list(pictures.store(tables).names(""))) == kept - report["pictures"]
    topics = {t["topic"]: t for t in report["topics"]}
    week = 7 * 86_400_000_000
    assert topics["faces.embedded"]["holds"]
    assert NOW + week < topics["faces.embedded"]["until"] < NOW + 1.2 * week
    assert not topics["frames"]["holds"]  # none were sent there

    def gone() -> None:
        rows = everything(sessions)
        assert [line[:200] for line in rows.splitlines() if any(id_ in line for id_ in (*theirs, *faces, person))] == []
        assert vectors.store(tables).count(f"track in {vectors.quoted(theirs)}") == 0
        found = ok(manager.post("/v1/search", json={"picture": in64(photo(1))}))
        assert (found["matches"], found["people"]) == ([], [])

    gone()
    fold(sessions, tables, seen)
    gone()
    for name in ("sightings", "faces", "trajectories", "episodes", "vectors", "recognised"):
        assert list(materialiser.rebuild(tables, sessions, Context(tables), _by_name(name)))[-1].done > 0
    gone()
    with sessions() as session:  # the others are still there
        assert session.scalar(select(func.count()).select_from(Sighting)) == 2

    other = ok(admin.post("/v1/erasures", json={"tracks": list(session_tracks(sessions)), "reason": "all",
                                                "topics": True}), 201)
    assert not any(t["holds"] for t in other["report"]["topics"])
    assert {t["topic"] for t in other["report"]["topics"] if t["removed"]} >= {"faces", "faces.embedded"}
    assert len(ok(manager.get("/v1/erasures"))["items"]) >= 1


def session_tracks(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(Sighting.id)))


def test_what_is_older_than_its_time_goes_by_site(
    hall: TestClient[Any], as_: As, sessions: sessionmaker[Session], tables: Settings
) -> None:
    manager = as_("manager", site="hall")
    for kind in ("pictures", "vectors"):
        told = ok(manager.put(f"/v1/retention/{kind}", json={"days": 7, "site": "hall"}))
        assert [(k["site"], k["days"]) for k in told] == [("", 30), ("hall", 7)]
    assert manager.put("/v1/retention/pictures", json={"days": 7}).status_code == 403
    assert manager.put("/v1/retention/audit", json={"days": 1, "site": "hall"}).status_code == 403
    later = NOW + 8 * retention.DAY
    with sessions() as session:
        halls, yards = (session.scalar(select(func.count()).where(FaceRow.site == site)) for site in ("hall", "yard"))
    dry = retention.sweep(tables, sessions, dry=True, at=later)
    assert {(s.kind, s.site): s.rows for s in dry} == {("pictures", "hall"): halls, ("vectors", "hall"): halls}
    assert retention.sweep(tables, sessions, at=later) == dry
    assert retention.sweep(tables, sessions, at=later) == []
    assert vectors.store(tables).count() == yards
    names = list(pictures.store(tables).names("faces"))
    assert len(names) == yards
    assert all(name.startswith("faces/yard-gate/") for name in names)
    done = retention.Job(tables, sessions).turn()
    assert done == []
    with sessions() as session, session.begin():
        session.add(Retention(site="", kind="sightings", days=1))
    swept = {s.kind for s in retention.sweep(tables, sessions, at=NOW + 400 * retention.DAY)}
    assert {"sightings", "trajectories", "episodes", "pictures", "vectors"} <= swept
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Sighting)) == 0
        assert session.scalar(select(func.count()).where(Audit.action == "retention.sweep")) >= 5
    assert list(pictures.store(tables).names("")) == []


def test_what_makes_no_sense_is_refused(hall: TestClient[Any], as_: As) -> None:
    admin, far = as_("admin"), 10**19
    consent = {"version": "1", "text": "I agree.", "given": db.now().isoformat()}
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/retention/dreams", {"days": 3}), ("PUT", "/v1/retention/vectors", {"days": 0}),
        ("POST", "/v1/people", {"name": "a\0b", "consent": consent}), ("POST", "/v1/people", {"name": "a"}),
        ("POST", "/v1/people", {"name": "a", "consent": consent | {"given": "2999-01-01T00:00:00Z"}}),
        ("POST", "/v1/people", {"name": "a", "consent": consent | {"given": "2020-01-01T00:00:00"}}),
        ("POST", "/v1/search", {"like": "x", "since": far}), ("POST", "/v1/search", {"picture": "%%"}),
        ("POST", "/v1/search", {"like": "nobody@1#0"}), ("POST", "/v1/search", {"like": "x", "cameras": ["A B"]}),
        ("POST", "/v1/analyse", {"pictures": []}), ("POST", "/v1/analyse", {"pictures": [""]}),
        ("POST", "/v1/analyse/upload", {"pictures": [""]}), ("POST", f"/v1/decisions/{far}/undo", None),
        ("POST", "/v1/decisions/7/undo", None), ("GET", "/v1/decisions?cursor=WyJhIl0", None),
        ("GET", f"/v1/recognised?since={far}", None), ("GET", "/v1/people?name=%00", None),
        ("GET", "/v1/visitors/nobody", None), ("GET", "/v1/people/%00", None), ("GET", "/v1/erasures/x", None),
        ("POST", "/v1/decisions", {"kind": "is", "subject": "nobody", "object": "x"}),
        ("POST", "/v1/erasures", {"reason": "x"}), ("POST", "/v1/erasures", {"reason": "x", "person": "1"}),
        ("PUT", "/v1/watch-lists/x/people/y", {"until": "9999-12-31T23:59:59Z"}),
        ("POST", "/v1/faces/compare", {"first": "", "second": ""}),
    ]  # fmt: skip
    answers = [(method, path, admin.request(method, path, json=body)) for method, path, body in asked]
    assert [(m, p, a.status_code, a.text) for m, p, a in answers if a.status_code not in (400, 404, 409, 413, 415, 422)
            ] == []
    assert ok(admin.post("/v1/search", json={"like": "x" * 10, "sites": ["a-b"]}), 404)
    assert admin.post("/v1/search", content=b"{" * 100).status_code == 400
