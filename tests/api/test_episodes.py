"""Episodes as rows: the newest word wins, people see their own and work through them, a rebuild keeps their words."""

from __future__ import annotations

import csv
import io
import time
from typing import Any
from urllib.parse import quote

import folding
import msgspec
import psycopg
import pytest
from breaches import S, episode, evidence, fold
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api import db, live, materialiser, pictures
from api.folds import Context, Told
from api.tables import episodes
from api.tables.audit import Audit
from api.tables.episodes import EpisodeReview, EpisodeRow, EpisodeStep, EvidenceRow
from pipeline.messages import Episode, Leg, Trajectory
from pipeline.settings import Settings


def rows(sessions: sessionmaker[Session]) -> list[Any]:
    with sessions() as session:
        return [*session.execute(select(EpisodeRow.__table__).order_by(EpisodeRow.id)),
                *session.execute(select(EvidenceRow.__table__).order_by(EvidenceRow.face))]


def path(each: Episode, rest: str = "") -> str:
    return f"/v1/episodes/{quote(each.id, safe='')}{rest}"


@pytest.fixture
def start() -> int:
    return time.time_ns() // 1000 - 60 * S


def test_the_newest_word_of_an_episode_wins_and_only_its_pictures_are_kept(
    tables: Settings, sessions: sessionmaker[Session], start: int
) -> None:
    a, b, c = (evidence("gate", start + i) for i in range(3))
    first, second = episode(start, evidence=(a, b)), episode(start, seconds=9, evidence=(c, a), score=0.95)
    closed = msgspec.structs.replace(second, status="closed", reason="mask on")
    fold(sessions, tables, second, first)  # in one batch, the older one later
    fold(sessions, tables, closed)
    once = rows(sessions)
    fold(sessions, tables, first, second, closed, second)  # all of it again
    fold(sessions, tables, first)
    assert rows(sessions) == once
    assert [(row.face, row.rank) for row in once[1:]] == [(a.face, 1), (c.face, 0)]
    assert (once[0].status, once[0].score, once[0].end) == ("closed", 0.95, closed.end)

    third = msgspec.structs.replace(closed, at=closed.at + S, evidence=(c, b))
    fold(sessions, tables, third)
    store = pictures.store(tables)
    kept = {each.face: store.get(pictures.name(episodes.FOLDER, each.face)) for each in (a, b, c)}
    assert kept == {a.face: None, b.face: b.picture, c.face: c.picture}


def test_a_table_made_anew_keeps_what_people_wrote(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    told = [episode(start + i * S, site="hall") for i in range(5)]
    folding.publish(tables, *(("episodes", each) for each in told))
    with folding.folding(tables, sessions):
        folding.until(sessions, lambda s: len(s.scalars(select(EpisodeRow.id)).all()) == 5)
    before = rows(sessions)
    close = as_("reviewer").post(path(told[2], "/steps"), json={"verb": "close", "text": "gave a mask"})
    assert close.status_code == 200
    with sessions() as session, session.begin():
        session.execute(update(EpisodeRow).values(score=0))
    (mine,) = (each for each in materialiser.FOLDS if each.name == "episodes")
    list(materialiser.rebuild(tables, sessions, Context(tables), mine))
    assert rows(sessions) == before
    with sessions() as session:
        assert [(r.id, r.status) for r in session.scalars(select(EpisodeReview))] == [(told[2].id, "closed")]


def ids(client: TestClient[Any], **query: Any) -> list[str]:
    found, cursor = [], None
    while True:
        answer = client.get("/v1/episodes", params={"limit": 2, **query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found += [each["id"] for each in answer.json()["items"]]
        cursor = answer.json()["next"]
        if cursor is None:
            return found


def test_everybody_sees_their_own_site_and_cameras(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    both, other = episode(start, "gate", "dock"), episode(start + S, "lab", site="lab")
    fold(sessions, tables, both, other, msgspec.structs.replace(episode(start + 2 * S), state="incorrect"))
    with sessions() as session, session.begin():
        route = Trajectory(both.person, "hall", start, start, tuple(Leg(c, c, start, start) for c in ("gate", "dock")))
        materialiser.fold(session, Context(tables), "trajectories", [Told("hall", route, "trajectories", 0, 0, start)])
    viewer, gate, lab = as_("viewer"), as_("viewer", site="hall", camera="gate"), as_("viewer", site="lab")
    assert ids(viewer) == [f"gate@{start + 2 * S}#0!{start + 2 * S}", other.id, both.id]
    assert ids(viewer, state="incorrect") == ids(viewer)[:1]
    assert ids(viewer, since=start + S, until=start + 2 * S, status="open", review="new") == [other.id]
    assert ids(viewer, camera="dock") == ids(viewer, person=both.person, site="hall") == [both.id]
    assert ids(lab) == [other.id]
    assert ids(gate, camera="dock") == ids(lab, camera="gate") == ids(lab, site="hall") == []

    whole = viewer.get(path(both)).json()
    assert (whole["episode"]["cameras"], whole["episode"]["place"]) == (["gate", "dock"], [3.0, 4.0])
    assert [leg["camera"] for leg in whole["legs"]] == ["gate", "dock"]
    part = gate.get(path(both)).json()
    assert (part["episode"]["cameras"], part["episode"]["place"]) == (["gate"], None)
    assert [e["camera"] for e in part["evidence"]] == [leg["camera"] for leg in part["legs"]] == ["gate"]
    assert lab.get(path(both)).status_code == viewer.get("/v1/episodes/none").status_code == 404

    seen, hidden = (e["key"] for e in whole["evidence"])
    answer = gate.get(path(both, f"/evidence/{seen}"))
    assert (answer.status_code, answer.content) == (200, both.evidence[0].picture)
    again = gate.get(path(both, f"/evidence/{seen}"), headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for client, key in ((gate, hidden), (lab, seen), (viewer, "0" * 32)):
        assert client.get(path(both, f"/evidence/{key}")).status_code == 404
    with sessions() as session:
        looks = session.execute(select(Audit.noun, Audit.camera).where(Audit.action == "face.look")).all()
    assert looks == [(both.evidence[0].face, "gate")]  # twice in an hour


def test_how_many_there_were_by_camera_and_time_and_by_where(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    told = [episode(start, "gate", "dock"), episode(start + S, "dock"), episode(start + 2 * S, "dock", place=None),
            msgspec.structs.replace(episode(start + 30 * S, place=(3.4, 4.9)), state="incorrect"),
            episode(start + 31 * S, "lab", site="lab", place=(9.0, 9.0))]
    fold(sessions, tables, *told)
    viewer, lab = as_("reviewer"), as_("viewer", site="lab")
    dock = as_("viewer", site="hall", camera="dock")
    assert viewer.post(path(told[1], "/steps"), json={"verb": "close", "text": "gave a mask"}).status_code == 200
    stretch = {"since": start, "until": start + 40 * S, "bins": 4}

    def piles(client: TestClient[Any], **query: Any) -> list[tuple[Any, ...]]:
        answer = client.get("/v1/episodes/counts", params=stretch | query).json()
        found = [(one["camera"], (one["start"] - start) // answer["step"], one["none"], one["incorrect"],
                  one["closed"]) for one in answer["items"]]
        assert answer["episodes"] == sum(none + incorrect for _, _, none, incorrect, _ in found)
        return found

    assert piles(viewer) == [("dock", 0, 2, 0, 1), ("gate", 0, 1, 0, 0), ("gate", 3, 0, 1, 0), ("lab", 3, 1, 0, 0)]
    assert piles(viewer, state="incorrect") == [("gate", 3, 0, 1, 0)]
    assert piles(dock) == [("dock", 0, 3, 0, 1)]  # of what was seen by a camera of another, too: there by one's own
    assert piles(lab) == [("lab", 3, 1, 0, 0)]
    assert piles(lab, site="hall") == []
    assert viewer.get("/v1/episodes/counts", params={"since": 5, "until": 5}).status_code == 422

    def spots(client: TestClient[Any], **query: Any) -> list[tuple[Any, ...]]:
        answer = client.get("/v1/episodes/places", params={"since": start} | query).json()
        return [(one["camera"], *one["place"], one["episodes"]) for one in answer]

    assert spots(viewer) == [("dock", 3.0, 4.0, 2), ("gate", 3.4, 4.9, 1), ("lab", 9.0, 9.0, 1)]
    assert spots(viewer, site="hall", until=start + 1) == [("dock", 3.0, 4.0, 1)]
    assert spots(dock) == [("dock", 3.0, 4.0, 2)]
    assert spots(lab, site="hall") == []


def test_an_episode_is_worked_through(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    told = [episode(start + i * S) for i in range(3)]
    fold(sessions, tables, *told, episode(start, "lab", site="lab"))
    reviewer, viewer = as_("reviewer", site="hall"), as_("viewer", site="hall")
    lab, gate = as_("reviewer", site="lab"), as_("reviewer", site="hall", camera="gate")
    me = reviewer.get("/v1/me").json()["id"]

    def step(client: TestClient[Any], verb: str, **more: Any) -> Any:
        return client.post(path(told[0], "/steps"), json={"verb": verb, **more})

    assert step(viewer, "acknowledge").status_code == 403
    assert step(lab, "acknowledge").status_code == 404
    assert step(gate, "acknowledge").json()["review"]["status"] == "acknowledged"
    assert step(reviewer, "acknowledge").status_code == 200
    assert step(reviewer, "assign", user="me").json()["review"]["assigned"] == me
    assert step(reviewer, "assign", user=lab.get("/v1/me").json()["id"]).status_code == 422
    assert step(reviewer, "assign", user="0" * 32).status_code == 422
    assert step(reviewer, "comment", text=" ").status_code == 422
    assert step(reviewer, "comment", text="the new one").status_code == 200
    assert step(reviewer, "comment", text="a\0b").status_code == 422
    assert step(reviewer, "close").status_code == 422
    assert step(reviewer, "close", action="other").status_code == 422
    assert step(reviewer, "close", action="mask_given").json()["review"]["action"] == "mask_given"
    assert step(reviewer, "close", text="again").status_code == 409
    assert step(reviewer, "reopen").json()["review"]["status"] == "acknowledged"
    assert step(reviewer, "close", text="=1+1").json()["review"]["closed_by"] == me
    verbs = [s["verb"] for s in reviewer.get(path(told[0])).json()["history"]]
    assert verbs == ["acknowledge", "assign", "comment", "close", "reopen", "close"]
    assert ids(reviewer, assigned="me", review="closed") == [told[0].id]

    many = {"episodes": [*(each.id for each in told), "nothing", f"lab@{start}#0!{start}"], "verb": "close",
            "action": "told"}
    done = reviewer.post("/v1/episodes/steps", json=many).json()
    assert set(done["done"]) == {told[1].id, told[2].id}
    assert sorted(left["status"] for left in done["left"]) == [404, 404, 409]

    assert viewer.get("/v1/episodes/export.csv").status_code == 403
    file = reviewer.get("/v1/episodes/export.csv", params={"site": "hall"})
    assert file.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(file.content.decode("utf-8-sig"))))
    assert [line["id"] for line in lines] == [each.id for each in reversed(told)]
    assert (lines[2]["note"], lines[0]["action"], lines[0]["cameras"]) == ("'=1+1", "told", "gate")
    with sessions() as session:
        assert len(session.scalars(select(EpisodeStep)).all()) == 8
        actions = session.scalars(select(Audit.action).where(Audit.action.like("episode.%"))).all()
    verbs = ("acknowledge", "assign", "close", "comment", "export", "reopen")
    assert sorted(set(actions)) == [f"episode.{verb}" for verb in verbs]


def test_what_happens_is_told_live_but_no_old_news(
    tables: Settings, sessions: sessionmaker[Session], start: int, as_: Any
) -> None:
    one = episode(start, "gate", "dock")
    closed = msgspec.structs.replace(one, status="closed")
    address = db.url(tables).replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as listening:
        listening.execute(f"listen {live.CHANNEL}")
        fold(sessions, tables, one)
        fold(sessions, tables, msgspec.structs.replace(one, at=one.at - S), one)  # nothing new
        fold(sessions, tables, closed)
        as_("reviewer").post(path(one, "/steps"), json={"verb": "acknowledge"})
        fold(sessions, tables, episode(start, "lab"), at=start - episodes.FRESH)
        told = [msgspec.json.decode(note.payload, type=live.Event) for note in listening.notifies(timeout=1)]
    mine = [each for each in told if each.kind.startswith("episode.")]
    assert [each.kind for each in mine] == ["episode.opened", "episode.closed", "episode.reviewed"]
    assert {(each.data["id"], each.site, each.camera, each.needs) for each in mine} == {
        (one.id, "hall", "dock", "compliance.view")}


def test_wrong_input_is_refused(as_: Any) -> None:
    viewer = as_("viewer")
    for query in ("since=-1", "since=99999999999999999999", "state=worn", "review=x", "limit=0", "site=%00", "camera=A",
                  "person=%00", "cursor=x", "assigned=you"):
        assert viewer.get(f"/v1/episodes?{query}").status_code in (400, 422), query
    assert viewer.get("/v1/episodes/a%00b").status_code in (404, 422)
    assert viewer.get("/v1/episodes/x/evidence/..%2F..%2Fetc").status_code in (404, 422)
