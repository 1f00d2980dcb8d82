"""Erasing somebody by whatever they are known, however long ago it was, whatever is folded meanwhile; and no further
than one may."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import enrolled
import pytest
import scenes
import seen
from litestar.testing import TestClient
from pydantic import SecretStr
from seen import S, fold, rows
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session, sessionmaker

from api import alerts, erasure, materialiser, pictures, retention
from api.db import now
from api.folds import Context, Told
from api.permissions import PERMISSIONS, Given, Who
from api.routes.episodes import Step, take_step
from api.sight import Sight
from api.tables.alerts import Alert, AlertRule
from api.tables.deliveries import Delivery
from api.tables.episodes import EpisodeReview, EpisodeRow, EpisodeStep, EvidenceRow
from api.tables.erased import Erased
from api.tables.inspections import Inspection, Photo, Verdict
from api.tables.people import PersonRow, Watched, WatchList
from api.tables.sightings import Sighting
from api.tables.sites import Site
from api.tables.trajectories import LegRow
from models import fakes
from pipeline import flow, mask
from pipeline.flow import Record
from pipeline.messages import Faces, Frame
from pipeline.pictures import decode, encode
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
NOW = time.time_ns() // 1000 - 120 * S
WRITTEN = NOW + 100 * S  # when the records were
CHANNEL = "1" * 32


@pytest.fixture
def tables(database: str, tmp_path: Path, vectors_server: int) -> Settings:
    """No topic has a part in this."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning",
                    vectors_port=vectors_server, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")


@pytest.fixture(scope="module")
def walked() -> list[Record]:
    return seen.walks(NOW)


@pytest.fixture
def hall(app: TestClient[Any], tables: Settings, sessions: sessionmaker[Session], walked: list[Record]) -> list[str]:
    """Ada is enrolled, on a watch-list, and was seen with somebody else; -> tracks in order of time: hers, hers, not
    hers."""
    app.app.state["sight"] = Sight(tables, scenes.Models())
    person = enrolled.enrol(sessions, walked)
    with sessions() as session, session.begin():
        session.get_one(PersonRow, person).name = "Ada Lovelace"
        list_ = WatchList(site="hall", name="Missing")
        session.add(list_)
        session.flush()
        session.add(Watched(list=list_.id, person=person))
        more = {"cameras": [], "zones": [], "states": [], "lists": [], "seconds": 0.0, "hours": [], "timezone": "UTC",
                "cooldown": 0.0, "cooldown_by": "camera", "steps": [{"after": 0, "channels": [CHANNEL]}],
                "tell_end": False, "latest": 86400.0, "since": now() - timedelta(days=1)}
        session.add_all(AlertRule(kind=kind, name=kind, **more) for kind in ("episode", "person"))
    fold(sessions, tables, walked, WRITTEN)
    with sessions() as session, session.begin():
        alerts.judge(session)
        for episode in session.scalars(select(EpisodeRow)):
            session.add(EpisodeReview(id=episode.id, status="acknowledged"))
            session.add(EpisodeStep(episode=episode.id, user="u", verb="comment", text=f"about {episode.person}"))
    with sessions() as session:
        tracks = list(session.scalars(select(Sighting.id).order_by(Sighting.start)))
        assert len(tracks) == 3
        assert session.scalars(select(LegRow.track).where(LegRow.trajectory == tracks[0])).all() == tracks[:2]
        assert {row.person for row in session.scalars(select(EpisodeRow))} == {tracks[0], tracks[2]}
        assert len(session.scalars(select(Alert)).all()) >= 4
    return tracks


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def erase(client: TestClient[Any], **what: Any) -> Any:
    return ok(client.post("/v1/erasures", json={"reason": "asked for it"} | what), 201)


def left(sessions: sessionmaker[Session], *words: str) -> dict[str, list[str]]:
    """Rows of any table in which one of these words stands."""
    found = {name: [row for row in those if any(word in row for word in words)]
             for name, those in rows(sessions, "audit", "erased").items()}
    return {name: those for name, those in found.items() if those}


def person_of(sessions: sessionmaker[Session]) -> str:
    with sessions() as session:
        return session.scalars(select(PersonRow.id)).one()


def test_tracks_take_along_what_was_decided_and_told_of_them(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
) -> None:
    # the pictures of faces have expired, those of the breach have not
    with sessions() as session:
        names = session.scalars(select(EvidenceRow.picture).join(EpisodeRow, EpisodeRow.id == EvidenceRow.episode)
                                .where(EpisodeRow.person == hall[0])).all()
    assert names
    assert {each.kind for each in retention.sweep(tables, sessions, at=NOW + 40 * retention.DAY)} == {
        "pictures", "vectors"}
    plan = erase(as_("manager", site="hall"), tracks=hall[:2], dry=True)["plan"]
    assert (plan["tracks"], plan["visitors"], plan["episodes"] >= 1, plan["sites"]) == (2, 1, True, ["hall"])
    report = erase(as_("manager", site="hall"), tracks=hall[:2])["report"]
    assert report["rows"]["episodes"] == plan["episodes"]
    assert report["rows"]["trajectories"] == 1
    assert left(sessions, *hall[:2]) == {}
    kept = set(pictures.store(tables).names("evidence"))
    assert kept.isdisjoint(names)
    assert kept  # of the other one
    before = rows(sessions, "compliance", "watching", "faces")
    fold(sessions, tables, walked, WRITTEN)
    seen.clear(sessions, tables, "sightings", "faces", "trajectories", "episodes", "recognised", "vectors")
    fold(sessions, tables, walked, WRITTEN)
    assert left(sessions, *hall[:2]) == {}
    assert rows(sessions, "compliance", "watching", "faces") == before


def test_part_of_a_route_goes_as_if_it_had_never_been_seen(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
) -> None:
    with sessions() as session:
        theirs = {row.id: row for row in session.scalars(select(EpisodeRow).where(EpisodeRow.person == hall[0]))}
    inside = {id_ for id_, row in theirs.items() if row.cameras == ["inside"]}
    assert inside
    assert inside != theirs.keys()
    done = erase(as_("manager", site="hall"), tracks=[hall[1]])
    assert (done["plan"]["visitors"], done["plan"]["episodes"]) == (0, len(inside))
    assert left(sessions, hall[1], *inside) == {}
    assert hall[0] in rows(sessions)["trajectories"][0]
    with sessions() as session:
        assert len(session.scalars(select(LegRow).where(LegRow.trajectory == hall[0])).all()) == 1
    before = rows(sessions, "compliance", "watching")
    seen.clear(sessions, tables, "sightings", "faces", "trajectories", "episodes", "recognised", "vectors")
    fold(sessions, tables, walked, WRITTEN)
    assert rows(sessions, "compliance", "watching") == before


def test_whoever_was_recognised_is_found_as_long_as_their_breach_is_kept(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session]
) -> None:
    person = person_of(sessions)
    swept = {each.kind for each in retention.sweep(tables, sessions, at=NOW + 100 * retention.DAY)}
    assert {"sightings", "recognised", "trajectories"} <= swept
    assert rows(sessions)["trajectories"] == rows(sessions)["recognised"] == rows(sessions)["sightings"] == []
    with sessions() as session:
        theirs = session.scalars(select(EpisodeRow.id).where(EpisodeRow.person == hall[0])).all()
        face = session.scalars(select(EvidenceRow.face).where(EvidenceRow.episode == theirs[0])).first()
        for wish in (erasure.Wish(person), erasure.Wish(tracks=tuple(hall[:2])), erasure.Wish(visitor=hall[0])):
            assert erasure.gather(session, wish).episodes == set(theirs), wish
        assert theirs[0] in erasure.gather(session, erasure.Wish(faces=(face,))).episodes
        assert erasure.gather(session, erasure.Wish(tracks=(hall[1],))).episodes < set(theirs)
    assert as_("manager", site="yard").post("/v1/erasures", json={"tracks": hall[:2], "reason": "x"}
                                            ).status_code == 404
    report = erase(as_("manager", site="hall"), person=person)["report"]
    assert report["rows"]["episodes"] == len(theirs)
    assert left(sessions, person, *hall[:2], "Ada Lovelace") == {}
    with sessions() as session:
        assert set(session.scalars(select(EpisodeRow.person))) == {hall[2]}
    assert retention.sweep(tables, sessions, at=NOW + 400 * retention.DAY)
    assert rows(sessions)["episode_tracks"] == rows(sessions)["episode_people"] == []


def test_what_is_kept_longer_than_the_link_to_it_is_said(
    hall: list[str], as_: As, sessions: sessionmaker[Session]
) -> None:
    manager = as_("manager", site="hall")
    ok(manager.put("/v1/retention/vectors", json={"days": 200, "site": "hall"}))
    with sessions() as session, session.begin():
        session.add(Site(id="dock", name="Dock", privacy="pseudonymous"))
        session.get_one(Site, "hall").privacy = "pseudonymous"
    stays = erase(manager, person=person_of(sessions))["report"]["stays"]
    assert any(line.startswith("vectors of hall older than 90 days") for line in stays)
    assert any("pseudonymous sites" in line and "(hall)" in line for line in stays)


def test_what_is_being_folded_or_written_is_theirs_too(
    hall: list[str], tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
) -> None:
    def erased_beside(work: Callable[[Session], Any]) -> erasure.Subject:
        """What is found by somebody who begins to erase before `work` is committed."""
        done: list[erasure.Subject] = []

        def erase_() -> None:
            with sessions() as session, session.begin():
                done.append(erasure.erase(session, tables, erasure.Wish(tracks=tuple(hall[:2])), "", "x")[1])

        with sessions() as session, session.begin():
            work(session)
            erasing = threading.Thread(target=erase_)
            erasing.start()
            _until(sessions, "select 1 from pg_locks where locktype = 'advisory' and not granted")
        erasing.join(30)
        return done[0]

    def commented(session: Session) -> None:
        episode = session.scalars(select(EpisodeRow.id).where(EpisodeRow.person == hall[0])).first()
        everything = Given("admin", "", "", frozenset(PERMISSIONS))
        take_step(session, Who("u", "U", "", (everything,)), episode or "", Step("comment", f"about {hall[0]}"))

    def folded(session: Session) -> None:
        for topic in ("faces", "episodes"):
            told = [Told(r.key, r.message, topic, 0, i, NOW) for i, r in enumerate(walked) if r.topic == topic]
            materialiser.fold(session, Context(tables), topic, told)

    assert erased_beside(commented).episodes
    assert left(sessions, *hall[:2]) == {}
    with sessions() as session, session.begin():
        session.execute(delete(Erased))  # as if it had never been
    found = erased_beside(folded)
    assert (len(found.tracks), bool(found.episodes)) == (2, True)
    assert left(sessions, *hall[:2]) == {}


def _until(sessions: sessionmaker[Session], query: str) -> None:
    end = time.monotonic() + 20
    with sessions() as session:
        while not session.execute(text(query)).first():
            assert time.monotonic() < end
            time.sleep(0.02)


def test_no_alert_keeps_the_name_of_somebody(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
) -> None:
    person = person_of(sessions)
    with sessions() as session:
        assert any("Ada Lovelace" in str(facts) for facts in session.scalars(select(Delivery.facts)))
    seen.clear(sessions, tables, "recognised")  # and the portraits have changed: nobody is recognised any more
    assert left(sessions, "Ada Lovelace").keys() == {"people", "alerts", "deliveries"}
    erase(as_("manager", site="hall"), person=person)
    assert left(sessions, "Ada Lovelace", person) == {}


# -- photos of inspections -------------------------------------------------------------------------------------------


def shot(tables: Settings, sessions: sessionmaker[Session], site: str, *people: int, taken: int = NOW
         ) -> tuple[str, str]:
    """A photo of these people with its verdict; -> inspection and photo."""
    image = fakes.empty(640, 360)
    for i, person in enumerate(people):
        fakes.draw(image, (40 + 150 * i, 100, 136 + 150 * i, 196), "none", person)
    jpeg = encode(image, 95)
    inspection, photo_ = str(uuid.uuid4()), str(uuid.uuid4())
    frame = Frame(inspection, taken, site=site, source="inspection", width=640, height=360, jpeg=jpeg)
    with sessions() as session, session.begin():
        if session.get(Site, site) is None:
            session.add(Site(id=site, name=site, privacy="enrolled"))
        session.add(Inspection(id=inspection, user="u", site=site, started=taken, started_clock=taken))
        session.flush()
        made = Photo(id=photo_, inspection=inspection, frame=frame.id, digest="", taken=taken, taken_from="phone",
                     privacy="enrolled", width=640, height=360)
        session.add(made)
    pictures.store(tables).put(f"inspections/{inspection}/{photo_}.jpg", jpeg)
    looks = flow.look(frame, scenes.Models())
    _, faces = mask.step(None, frame, looks[1], looks[0], {"look": "000000000000"}, tables)
    assert isinstance(faces, Faces)
    fold(sessions, tables, [Record("faces", inspection, faces)], only=["faces"])
    return inspection, photo_


def test_faces_in_photos_are_searched_for_and_become_unrecognisable(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
) -> None:
    inspection, name = shot(tables, sessions, "hall", 1, 2)
    old = shot(tables, sessions, "hall", 1, taken=NOW - 400 * retention.DAY)  # long before she was enrolled
    waiting, other = shot(tables, sessions, "hall", 3), shot(tables, sessions, "yard", 1)
    with sessions() as session, session.begin():
        session.delete(session.scalars(select(Verdict).where(Verdict.frame.startswith(waiting[0]))).one())
        verdict = session.scalars(select(Verdict).where(Verdict.frame.startswith(inspection))).one()
        assert (len(verdict.faces), verdict.none) == (2, 2)
        hers, his = [each["id"] for each in sorted(verdict.faces, key=lambda face: face["box"][0])]
    before = decode(pictures.store(tables).get(f"inspections/{inspection}/{name}.jpg") or b"")
    report = erase(as_("manager", site="hall"), person=person_of(sessions))["report"]
    assert report["photos"] == {
        "searched": 1, "faces": 1, "to_review": 1,
        "review": [{"inspection": waiting[0], "photo": waiting[1], "taken": NOW, "why": "unjudged"}]}
    after = decode(pictures.store(tables).get(f"inspections/{inspection}/{name}.jpg") or b"")
    changed = abs(after.astype(int) - before).mean(axis=(0, 2))  # by column
    assert changed[60:110].mean() > 4 * changed[210:260].mean()
    with sessions() as session:
        (verdict,) = session.scalars(select(Verdict).where(Verdict.frame.startswith(inspection)))
        assert ([each["id"] for each in verdict.faces], verdict.none) == ([his], 1)
        for untouched in (old, other):
            assert len(session.scalars(select(Verdict).where(
                Verdict.frame.startswith(untouched[0]))).one().faces) == 1
    assert left(sessions, hers) == {}


def test_without_models_every_photo_is_listed(
    hall: list[str], as_: As, app: TestClient[Any], tables: Settings, sessions: sessionmaker[Session]
) -> None:
    inspection, _ = shot(tables, sessions, "hall", 1, 2)
    app.app.state["sight"] = Sight(tables)  # nobody has fetched any
    found = erase(as_("manager", site="hall"), person=person_of(sessions))["report"]["photos"]
    assert (found["faces"], [(each["inspection"], each["why"]) for each in found["review"]]) == (
        0, [(inspection, "unsearched")])


def test_whose_face_is_in_a_photo_is_the_sites(
    hall: list[str], as_: As, tables: Settings, sessions: sessionmaker[Session]
) -> None:
    (inspection, _), (elsewhere, _) = shot(tables, sessions, "hall", 1), shot(tables, sessions, "yard", 1)
    with sessions() as session:
        here, there = (session.scalars(select(Verdict).where(Verdict.frame.startswith(id_))).one().faces[0]["id"]
                       for id_ in (inspection, elsewhere))
    manager, stranger = as_("manager", site="hall"), as_("manager", site="yard")

    def refused(client: TestClient[Any], status: int, **what: Any) -> None:
        answer = client.post("/v1/erasures", json={"reason": "x"} | what)
        assert answer.status_code == status, answer.text

    refused(stranger, 404, faces=[here])
    refused(manager, 403, faces=[here, there])
    refused(manager, 403, person=person_of(sessions), faces=[there])
    refused(manager, 404, person=person_of(sessions), faces=["nobody@1#0"])  # of which nobody knows the place
    refused(manager, 404, tracks=["nobody@1#0"])
    with sessions() as session:
        assert session.scalars(select(Erased)).all() == []
    assert erase(manager, faces=[here])["report"]["rows"] == {"photo_verdicts": 1}
    with sessions() as session:
        assert session.scalars(select(Verdict).where(Verdict.frame.startswith(inspection))).one().faces == []
        assert len(session.scalars(select(Verdict).where(Verdict.frame.startswith(elsewhere))).one().faces) == 1
