"""Replays over the API: what was recorded is judged again by another process, compared, and kept private."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest
import scenes
from folding import folding, publish, running, until
from kafka import KafkaProducer
from litestar.testing import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from agents.topics import admin as broker_admin
from api import differences, erasure, pictures, replays, retention
from api.differences import Breach, Shown
from api.replays import Replaying
from api.tables import erased, sites
from api.tables.audit import Audit
from api.tables.cameras import CameraRow, columns
from api.tables.episodes import EpisodeRow
from api.tables.replays import FOLDER, Replay, ReplayEpisode
from api.tables.sightings import Sighting
from api.tables.trajectories import TrajectoryRow
from pipeline import messages
from pipeline.flow import Flow
from pipeline.messages import Camera, Frame, Source
from pipeline.pictures import encode
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
WORKER = Path(__file__).parent / "replaying.py"
SITE, ELSEWHERE = "hall", "yard"


def visited(settings: Settings, **more: Any) -> list[Frame]:
    """Somebody without a mask goes from the door to the hall and puts one on, somebody else comes later; as capture
    would have written it a minute ago: the faces known are in the frames."""
    flow, written = Flow(settings, scenes.Models()), list[Frame]()
    plain = [msgspec.structs.replace(f, **more) for f in scenes.visit(time.time_ns() // 1000 - 60_000_000)]
    for frame in sorted(plain, key=lambda f: (f.at, f.camera)):
        if frame.camera in flow.known:
            boxes, at = flow.known[frame.camera]
            frame = msgspec.structs.replace(frame, known=boxes, known_at=at)
        list(flow.turn([frame]))
        written.append(frame)
    return written


@pytest.fixture
def recorded(tables: Settings, sessions: sessionmaker[Session]) -> list[Frame]:
    """In the log; the cameras are in the tables, and one of another site."""
    frames = visited(tables, site=SITE)
    with sessions() as session, session.begin():
        for camera, site in (("door", SITE), ("hall", SITE), ("roof", ELSEWHERE)):
            sites.known(session, site)
            wish = Camera(camera, (Source("rtsp://10.0.0.7/1"),), site=site)
            session.add(CameraRow(id=camera, **columns(wish, 0)))
    send(tables, frames)
    return frames


def send(settings: Settings, frames: list[Frame]) -> None:
    with closing(KafkaProducer(**broker.connection(settings), acks="all", max_request_size=5 << 20)) as producer:
        for frame in frames:
            producer.send(broker.topic(settings, "frames"), key=frame.camera.encode(),
                          value=messages.encode(frame, "msgpack"), timestamp_ms=frame.at // 1000)
        producer.flush()


def wanted(frames: list[Frame], **more: Any) -> dict[str, Any]:
    return {"name": "again", "site": SITE, "since": frames[0].at, "until": frames[-1].at + 1} | more


def made(client: TestClient[Any], frames: list[Frame], **more: Any) -> str:
    answer = client.post("/v1/replays", json=wanted(frames, **more))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def worker(settings: Settings, sessions: sessionmaker[Session]) -> Replaying:
    return Replaying(settings, sessions, lambda *_: scenes.Models())


def run_all(settings: Settings, sessions: sessionmaker[Session]) -> None:
    one = worker(settings, sessions)
    while one.turn(threading.Event()):
        pass


def diff(client: TestClient[Any], this: str, against: str, **more: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/replays/{this}/diff", params={"against": against} | more)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_the_same_is_the_same_and_another_policy_is_not(
    tables: Settings, sessions: sessionmaker[Session], as_: As, recorded: list[Frame]
) -> None:
    admin = as_("admin")
    strict = {"rules": [{"name": "at once", "grace": 0}], "otherwise": "worn"}
    lax = {"rules": [{"name": "anything", "required": "nothing"}], "otherwise": "nothing"}
    one, two = made(admin, recorded), made(admin, recorded, cameras=["hall", "door"], site="")
    late = made(admin, recorded, settings={"grace": 60})
    none, at_once = made(admin, recorded, draft=lax), made(admin, recorded, draft=strict)
    part = made(admin, recorded, until=recorded[-1].at - 5_000_000)
    assert admin.get(f"/v1/replays/{one}/diff?against={two}").status_code == 409
    assert admin.get("/v1/replays?state=waiting").json()["items"][0]["id"] == part
    run_all(tables, sessions)

    told = admin.get(f"/v1/replays/{one}").json()
    assert (told["state"], told["error"], told["attempt"], told["log_begins"]) == ("done", "", 1, None)
    assert told["progress"]["frames"] == len(recorded)
    assert told["progress"]["done"] == told["progress"]["total"] >= len(recorded)
    assert told["used"] == scenes.Models().names | scenes.Models().embed_names
    assert told["totals"]["episodes"] == 1
    assert told["totals"]["tracks"]["worn"] >= 1
    assert told["rules"] is None

    same = diff(admin, one, two)
    assert same["counts"] == {"gained": 0, "lost": 0, "changed": 0, "same": 1}
    assert same["items"] == []
    assert same["totals"] == same["other_totals"]
    assert diff(admin, one, two, kind="same")["items"][0]["changed"] == []

    # nothing is required: the breach is lost; grace of a minute: too
    for run in (none, late):
        gone = diff(admin, run, one)
        assert gone["counts"] == {"gained": 0, "lost": 1, "changed": 0, "same": 0}
        assert gone["items"][0]["this"] is None
    assert diff(admin, one, none)["counts"]["gained"] == 1
    # at once: the same breach, known by its person
    (item,) = diff(admin, at_once, one, kind="same")["items"] or diff(admin, at_once, one)["items"]
    assert item["this"]["rule"] == "at once"
    assert item["other"]["rule"] == ""
    evidence = item["this"]["evidence"][0]["picture"]
    picture = admin.get(evidence)
    assert picture.status_code == 200
    assert picture.content[:2] == b"\xff\xd8"
    assert admin.get(evidence, headers={"if-none-match": picture.headers["etag"]}).status_code == 304
    assert admin.get(f"/v1/replays/{one}/evidence/{'0' * 32}").status_code == 404
    with sessions() as session:
        assert session.scalar(select(func.count()).where(Audit.action == "face.look")) == 1  # twice in an hour
        assert session.scalar(select(func.count()).where(Audit.action == "replay.add")) == 6
    refused = admin.get(f"/v1/replays/{part}/diff?against={one}")
    assert refused.status_code == 422
    assert f"expected a run from {recorded[0].at} to {recorded[-1].at - 5_000_000}" in refused.json()["detail"]
    assert admin.get(f"/v1/replays/{one}/diff?against=live&cursor=x").status_code == 400

    # a draft becomes a version; thresholds are told, not set
    adopted = admin.post(f"/v1/replays/{at_once}/adopt", json={"name": "Strict", "activate": True})
    assert adopted.status_code == 201, adopted.text
    assert adopted.json()["policy"]["rules"][0]["name"] == "at once"
    assert adopted.json()["policy"]["active"] is True
    told = admin.post(f"/v1/replays/{late}/adopt", json={"name": "Later"}).json()
    assert told == {"policy": None, "models": [],
                    "settings": [{"variable": "MASKWATCH_GRACE", "value": 60.0, "value_now": 1.0}]}
    assert admin.post(f"/v1/replays/{one}/adopt", json={"name": "x"}).status_code == 409
    version = made(admin, recorded, policy=adopted.json()["policy"]["id"])
    run_all(tables, sessions)
    assert diff(admin, version, at_once)["counts"] == {"gained": 0, "lost": 0, "changed": 0, "same": 1}

    # removed with its pictures
    store = pictures.store(tables)
    assert list(store.names(f"{FOLDER}/{at_once}"))
    assert admin.delete(f"/v1/replays/{at_once}").status_code == 204
    assert list(store.names(f"{FOLDER}/{at_once}")) == []
    assert admin.get(f"/v1/replays/{at_once}").status_code == 404
    assert list(store.names(f"{FOLDER}/{version}"))


def test_against_what_was_recorded_live(tables: Settings, sessions: sessionmaker[Session], as_: As,
                                        recorded: list[Frame]) -> None:
    admin, records = as_("admin"), list(Flow(tables, scenes.Models()).run(recorded))
    with folding(tables, sessions):
        publish(tables, *((r.topic, r.message) for r in records if r.topic in ("faces", "trajectories", "episodes")))
        newest = {r.message.id: r.message.at for r in records if r.topic == "trajectories"}
        looks = sum(len(r.message.faces) for r in records if r.topic == "faces")
        until(sessions, lambda s: dict(s.execute(select(TrajectoryRow.id, TrajectoryRow.at)).all()) == newest)
        until(sessions, lambda s: s.scalar(select(func.sum(Sighting.looks))) == looks)
        until(sessions, lambda s: s.scalars(select(EpisodeRow.status)).all() == ["closed"])
    same, half = made(admin, recorded), made(admin, recorded, since=recorded[0].at + 2_000_000)
    run_all(tables, sessions)
    told = diff(admin, same, "live", kind="same")
    assert told["counts"] == {"gained": 0, "lost": 0, "changed": 0, "same": 1}
    assert (told["this"], told["other"]) == (same, "live")
    for name in ("episodes", "people", "tracks", "seconds", "rate", "rate_time"):
        assert told["totals"][name] == told["other_totals"][name], name
    assert told["other_totals"]["frames"] is None
    (item,) = told["items"]
    live = admin.get(item["other"]["evidence"][0]["picture"])
    again = admin.get(item["this"]["evidence"][0]["picture"])
    assert live.status_code == again.status_code == 200
    assert live.content == again.content
    # begun in the midst of it: another track, but the same breach; what lies outside is not held against it
    cut = diff(admin, half, "live", kind="same")
    assert cut["counts"] == {"gained": 0, "lost": 0, "changed": 0, "same": 1}
    assert cut["items"][0]["other"]["cut"] is True
    assert cut["items"][0]["this"]["id"] != cut["items"][0]["other"]["id"]

    # a camera that has moved shows its new site nothing of what it showed and what was recorded at the old one
    with sessions() as session, session.begin():
        session.get_one(CameraRow, "hall").site = ELSEWHERE
    far = as_("manager", site=ELSEWHERE)
    moved = made(far, recorded, cameras=["hall"], site="")
    run_all(tables, sessions)
    told = diff(far, moved, "live")
    assert (told["items"], told["totals"]["frames"], told["totals"]["people"]) == ([], 0, 0)
    assert (told["other_totals"]["episodes"], told["other_totals"]["people"]) == (0, 0)
    assert sum(told["other_totals"]["tracks"].values()) == 0


def test_rights_and_what_may_be_asked_for(tables: Settings, sessions: sessionmaker[Session], as_: As,
                                          recorded: list[Frame]) -> None:
    admin, manager = as_("admin"), as_("manager", site=SITE)
    viewer, elsewhere = as_("viewer", site=SITE), as_("manager", site=ELSEWHERE)
    door = as_("manager", site=SITE, camera="door")
    run = made(manager, recorded)
    at_door = made(door, recorded, cameras=["door"], site="")
    run_all(tables, sessions)
    # a run is seen by whoever may see all of its cameras
    seen = {name: {each["id"] for each in client.get("/v1/replays").json()["items"]}
            for name, client in (("viewer", viewer), ("elsewhere", elsewhere), ("door", door), ("admin", admin))}
    assert seen == {"viewer": {run, at_door}, "elsewhere": set(), "door": {at_door}, "admin": {run, at_door}}
    picture = viewer.get(f"/v1/replays/{run}/episodes").json()["items"][0]["evidence"][0]["picture"]
    assert viewer.get(picture).status_code == 200
    for client in (elsewhere, door):
        for path in (f"/v1/replays/{run}", f"/v1/replays/{run}/episodes", f"/v1/replays/{run}/diff?against=live",
                     picture):
            assert client.get(path).status_code == 404, path
        assert client.post(f"/v1/replays/{run}/cancel").status_code == 404
        assert client.delete(f"/v1/replays/{run}").status_code == 404
        assert client.post(f"/v1/replays/{run}/adopt", json={"name": "x"}).status_code == 404
    assert door.get(f"/v1/replays/{at_door}/diff?against={run}").status_code == 404
    for method, path in (("POST", f"{run}/cancel"), ("DELETE", run), ("POST", "")):
        assert viewer.request(method, f"/v1/replays/{path}", json=wanted(recorded)).status_code == 403
    assert door.post(f"/v1/replays/{at_door}/adopt", json={"name": "x"}).status_code == 403
    assert door.post("/v1/replays", json=wanted(recorded, cameras=["door", "hall"], site="")).status_code == 404
    assert elsewhere.post("/v1/replays", json=wanted(recorded)).status_code == 404
    both = as_("admin").post("/v1/replays", json=wanted(recorded, cameras=["door", "roof"], site=""))
    assert "cameras of hall, yard" in both.json()["detail"]
    # who has one camera of the site gets a run of that one
    assert door.post("/v1/replays", json=wanted(recorded)).json()["cameras"] == ["door"]

    told = manager.get("/v1/replays/options", params={"site": SITE}).json()
    assert {each["model"] for each in told["models"]} == {"yunet", "sface", "mask_state", "face_head"}
    assert [each for each in told["settings"] if each["name"] == "grace"] == [{
        "name": "grace", "variable": "MASKWATCH_GRACE", "value": 1.0, "least": 0, "most": 3600,
        "about": "seconds in breach before an episode opens"}]
    assert (told["log_begins"], told["waiting"]) == ({"door": 0, "hall": 0}, 1)
    at = recorded[0].at
    for bad, why in (
        ({"settings": {"gracious": 1}}, "gracious: expected one of block_change"),
        ({"settings": [1]}, "Expected `object`, got `array`"),
        ({"settings": {"grace": -1}}, "grace: expected 0..3600, got -1"),
        ({"models": {"yolo": "x"}}, "yolo: expected one of the models yunet"),
        ({"models": {"mask_state": "../../x"}}, "mask_state: expected one of own"),
        ({"until": at}, "`since` before `until`"), ({"since": 0}, "at most 24 hours"),
        ({"until": at + 3600_000_000}, "a stretch that has passed"),
        ({"cameras": ["door"]}, "expected `site` or `cameras`, got both"), ({"site": ""}, "got neither"),
        ({"policy": "x:1", "draft": {"rules": []}}, "expected `policy` or `draft`, got both"),
        ({"draft": {"rules": [{"name": "z", "zone": "nowhere"}]}}, "expected a zone of these cameras"),
        ({"name": "\0"}, ""), ({"name": ""}, ""), ({"cameras": ["A B"], "site": ""}, ""), ({"since": 2**60}, ""),
    ):
        answer = manager.post("/v1/replays", json=wanted(recorded) | bad)
        assert answer.status_code == 422, (bad, answer.text)
        assert why in answer.json()["detail"], (bad, answer.json()["detail"])
    assert manager.post("/v1/replays", json=wanted(recorded, policy="hall:9")).status_code == 404
    for path in ("zz", f"{run}/diff?against=both", f"{run}/evidence/x", f"{run}/diff", f"{run}/episodes?limit=0"):
        assert manager.get(f"/v1/replays/{path}").status_code in (404, 422, 400), path
    # the queue has an end
    for _ in range(tables.replay_queue - 1):
        made(manager, recorded)
    full = manager.post("/v1/replays", json=wanted(recorded))
    assert (full.status_code, full.headers["retry-after"]) == (429, "60")


def test_what_the_log_no_longer_holds_is_said_before_it_starts(tables: Settings, as_: As, recorded: list[Frame]
                                                               ) -> None:
    from kafka import KafkaConsumer

    from agents.replay import partitions

    admin, name = as_("admin"), broker.topic(tables, "frames")
    after = recorded[0].at + 10_000_000
    with closing(KafkaConsumer(**broker.connection(tables), enable_auto_commit=False)) as reader, \
            broker_admin(tables) as client:
        parts = partitions(reader, name, frozenset({"door", "hall"}))
        cut = {p: found.offset for p, found in reader.offsets_for_times(dict.fromkeys(parts, after // 1000)).items()}
        client.delete_records(cut)
        told = admin.post("/v1/replays", json=wanted(recorded)).json()
        assert after - 1_000_000 < told["log_begins"] <= after + 1_000_000
        assert f"expected frames since {recorded[0].at}, the log begins at {told['log_begins']}: 10 s" in told["note"]
        gone = admin.post("/v1/replays", json=wanted(recorded, until=after - 2_000_000))
        assert gone.status_code == 422
        assert "the log begins at" in gone.json()["detail"]


@contextmanager
def process(settings: Settings, slow: float = 0, command: tuple[str, ...] = (str(WORKER),)
            ) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {
        "MASKWATCH_KAFKA": settings.kafka, "MASKWATCH_TOPIC_PREFIX": settings.topic_prefix, "SLOW": str(slow),
        "MASKWATCH_DATABASE": settings.database.get_secret_value(), "MASKWATCH_DATA": str(settings.data),
        "PYTHONPATH": os.pathsep.join(sys.path), "MASKWATCH_THREADS": "1"}
    one = subprocess.Popen([sys.executable, *command], env=env)
    try:
        yield one
    finally:
        one.kill()
        one.wait()


def test_a_worker_that_is_killed_leaves_nothing_and_a_cancelled_run_ends(
    tables: Settings, sessions: sessionmaker[Session], as_: As, recorded: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = as_("admin")
    whole = made(admin, recorded)
    run_all(tables, sessions)
    cancelled, run = made(admin, recorded), made(admin, recorded)
    with process(tables, 0.1) as one:
        until(sessions, lambda s: s.get_one(Replay, cancelled).frames > 4, 60)
        assert admin.delete(f"/v1/replays/{cancelled}").status_code == 409
        begun = time.monotonic()
        assert admin.post(f"/v1/replays/{cancelled}/cancel").json()["cancelling"] is True
        until(sessions, lambda s: s.get_one(Replay, cancelled).state == "cancelled", 10)
        assert time.monotonic() - begun < 6
        until(sessions, lambda s: s.get_one(Replay, run).frames > 20, 60)
        one.send_signal(signal.SIGKILL)
    assert list(pictures.store(tables).names(f"{FOLDER}/{cancelled}")) == []
    told = admin.post(f"/v1/replays/{cancelled}/cancel").json()  # of one that is over nothing changes
    assert (told["state"], told["cancelling"], told["totals"]) == ("cancelled", False, None)

    told = admin.get(f"/v1/replays/{run}").json()
    assert (told["state"], told["attempt"]) == ("running", 1)
    assert 0 < told["progress"]["done"] < told["progress"]["total"]
    assert told["progress"]["eta"] > 0
    with sessions() as session:  # nothing is seen of it before it is through
        assert session.scalar(select(func.count()).where(ReplayEpisode.run == run)) == 0
    assert worker(tables, sessions).turn(threading.Event()) is False  # it may be alive
    with sessions() as session, session.begin():
        session.execute(update(Replay).where(Replay.id == run).values(beat=func.now() - replays.LEASE * 2))
    run_all(tables, sessions)
    told = admin.get(f"/v1/replays/{run}").json()
    assert (told["state"], told["attempt"]) == ("done", 2)
    assert diff(admin, run, whole)["counts"] == {"gained": 0, "lost": 0, "changed": 0, "same": 1}
    assert told["totals"] == admin.get(f"/v1/replays/{whole}").json()["totals"]

    # a worker that was thought dead comes back when another one has done it: it writes nothing
    run = made(admin, recorded)
    frozen = worker(tables, sessions)
    claimed = frozen._claim()
    assert claimed is not None
    with sessions() as session, session.begin():
        session.execute(update(Replay).where(Replay.id == run).values(beat=func.now() - replays.LEASE * 2))
    run_all(tables, sessions)
    before = admin.get(f"/v1/replays/{run}").json()
    frozen._work(claimed, threading.Event())
    assert admin.get(f"/v1/replays/{run}").json() == before
    assert (before["state"], before["attempt"]) == ("done", 2)

    # and one of which workers die is given up
    run = made(admin, recorded)
    for _ in range(replays.DEATHS):
        assert worker(tables, sessions)._claim() is not None
        with sessions() as session, session.begin():
            session.execute(update(Replay).where(Replay.id == run).values(beat=func.now() - replays.LEASE * 2))
    assert worker(tables, sessions)._claim() is None
    told = admin.get(f"/v1/replays/{run}").json()
    assert (told["state"], told["error"][:14]) == ("failed", "3 workers died")


def test_a_fault_of_one_run_is_told_and_the_next_one_runs(tables: Settings, sessions: sessionmaker[Session], as_: As,
                                                          recorded: list[Frame]) -> None:
    admin, run = as_("admin"), []

    def load(settings: Settings, instead: Any) -> scenes.Models:
        if settings.grace == 5:
            raise RuntimeError("no such luck")
        return scenes.Models()

    for grace in (5, 2):
        run.append(made(admin, recorded, settings={"grace": grace}))
    one = Replaying(tables, sessions, load)
    with running(one.run):
        until(sessions, lambda s: s.get_one(Replay, run[1]).state == "done")
    told = admin.get(f"/v1/replays/{run[0]}").json()
    assert (told["state"], told["error"], told["totals"]) == ("failed", "RuntimeError: no such luck", None)
    assert admin.get(f"/v1/replays/{run[0]}/diff?against={run[1]}").status_code == 409


def test_who_is_erased_is_in_no_replay_and_old_ones_go(
    tables: Settings, sessions: sessionmaker[Session], as_: As, recorded: list[Frame]
) -> None:
    admin, store = as_("admin"), pictures.store(tables)
    whole = made(admin, recorded)
    other = made(admin, recorded, since=recorded[0].at + 2_000_000,
                 until=recorded[0].at + 9_000_000)  # the same person by other ids
    run_all(tables, sessions)
    with sessions() as session:
        (episode,) = session.scalars(select(ReplayEpisode).where(ReplayEpisode.run == whole))
        (elsewise,) = session.scalars(select(ReplayEpisode).where(ReplayEpisode.run == other))
        assert not set(episode.tracks) & set(elsewise.tracks)
    records = list(Flow(tables, scenes.Models()).run(recorded))
    with folding(tables, sessions):
        with closing(KafkaProducer(**broker.connection(tables), acks="all")) as producer:
            for r in records:
                if r.topic in ("faces", "trajectories", "episodes"):  # written when it happened, as the stages do
                    producer.send(broker.topic(tables, r.topic), key=r.key.encode(), value=messages.encode(r.message),
                                  timestamp_ms=r.message.at // 1000)
            producer.flush()
        until(sessions, lambda s: s.get(TrajectoryRow, episode.person))
        until(sessions, lambda s: s.scalar(select(func.count()).select_from(EpisodeRow).where(
            EpisodeRow.status == "closed")))
    running_ = made(admin, recorded)
    claimed = worker(tables, sessions)._claim()
    assert claimed is not None
    with sessions() as session, session.begin():
        done, _ = erasure.erase(session, tables, erasure.Wish(visitor=episode.person), "", "asked for it")
        assert done.report["rows"]["replay_episodes"] == 2
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(ReplayEpisode)) == 0
        assert erased.erased(session, {episode.person}) == {episode.person}
    assert list(store.names(FOLDER)) == []
    worker(tables, sessions)._work(claimed, threading.Event())
    told = admin.get(f"/v1/replays/{running_}").json()
    assert (told["state"], told["error"]) == (
        "cancelled", "somebody was erased from this stretch while it ran: start it again")
    # a run of now does not bring them back, also where they have other ids: they are known by where their face was
    strange = [{"id": "x", "evidence": [one | {"face": one["face"].replace("#0", "#7")} for one in elsewise.evidence]}]
    sizes = {one["face"].rpartition("#")[0]: (640, 360) for one in elsewise.evidence}
    assert replays.of_erased(tables, sessions, strange, sizes, lambda: False) == {"x"}
    for one in strange[0]["evidence"]:
        one["box"] = [5, 5, 40, 40]  # somebody else in the same frame
    assert replays.of_erased(tables, sessions, strange, sizes, lambda: False) == set()
    for again in (made(admin, recorded), made(admin, recorded, since=recorded[0].at + 2_000_000,
                                              until=recorded[0].at + 9_000_000)):
        run_all(tables, sessions)
        told = admin.get(f"/v1/replays/{again}").json()
        assert (told["state"], told["error"], told["totals"]["episodes"]) == ("done", "", 0)
    assert list(store.names(FOLDER)) == []

    later = recorded[-1].at + 31 * retention.DAY
    swept = {each.kind: each.rows for each in retention.sweep(tables, sessions, at=later)}
    assert swept["replays"] == 5
    assert admin.get("/v1/replays").json()["items"] == []


def test_a_replay_is_as_private_as_the_site_is_now(tables: Settings, sessions: sessionmaker[Session], as_: As,
                                                   recorded: list[Frame]) -> None:
    admin = as_("admin")
    before = made(admin, recorded)
    run_all(tables, sessions)
    assert list(pictures.store(tables).names(f"{FOLDER}/{before}"))
    with sessions() as session, session.begin():
        for row in session.scalars(select(CameraRow).where(CameraRow.site == SITE)):
            row.wish = row.wish | {"privacy": "anonymous"}
    after = made(admin, recorded)
    run_all(tables, sessions)
    assert list(pictures.store(tables).names(f"{FOLDER}/{after}")) == []
    assert admin.get(f"/v1/replays/{after}").json()["totals"]["episodes"] >= 1
    # an area that is hidden now hides what the log still shows; what was blackened already stays as it is
    frame = next(f for f in recorded if f.camera == "door" and f.at == recorded[0].at + 2_000_000)
    hidden = (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),)
    dark = replays.blackened(frame, hidden)
    assert dark.jpeg != frame.jpeg
    assert replays.blackened(dark, hidden) is dark
    assert replays.blackened(frame, (((0.0, 0.9), (0.05, 0.9), (0.05, 1.0)),)) is frame


def breach(id: str, start: float, end: float, **more: Any) -> Breach:
    values = {"person": id, "tracks": (id,), "state": "none", "status": "closed", "cameras": ("gate",), "score": 0.9,
              "looks": 5, "reason": "mask on", "zone": "", "policy": "", "rule": ""} | more
    return Breach(id=id, start=round(start * 1e6), end=round(end * 1e6), **values)


def look(at: float, x: float) -> Shown:
    return Shown(f"gate@{at}#{x}", "gate", round(at * 1e6), (x, 0, x + 10, 10), "none", 0.9, "")


def test_which_breach_is_the_same_one() -> None:
    def kinds(ones: list[Breach], others: list[Breach]) -> list[tuple[str, tuple[str, ...]]]:
        return [(pair.kind, pair.changed) for pair in differences.compare(ones, others)]

    one = breach("a", 0, 10)
    assert kinds([one], [one]) == [("same", ())]
    assert kinds([one], [breach("a", 0, 12, state="incorrect")]) == [("changed", ("state", "end"))]
    assert kinds([one], [breach("a", 0, 10, policy="hall:2", rule="strict")]) == [("same", ())]
    # another id: a shared track, the same face, or half of the time
    assert kinds([one], [breach("b", 8, 30, tracks=("a", "b"))])[0][0] == "changed"
    far = breach("b", 8, 30)
    assert kinds([one], [far]) == [("gained", ()), ("lost", ())]
    face = {"evidence": (look(9, 100),)}
    assert kinds([breach("a", 0, 10, **face)], [breach("b", 8, 30, evidence=(look(9, 102),))])[0][0] == "changed"
    assert kinds([one], [breach("b", 1, 10)]) == [("changed", ("start",))]
    # side by side in one frame: two people, however much of the time they share
    assert kinds([breach("a", 0, 10, **face)], [breach("b", 0, 10, evidence=(look(9, 200),))]) == [
        ("lost", ()), ("gained", ())]
    assert kinds([one], [breach("b", 0, 10, cameras=("hall",))]) == [("lost", ()), ("gained", ())]
    # each belongs to one at most, the surest first
    found = differences.compare([one], [breach("b", 0, 9), breach("c", 0, 10)])
    assert [(p.kind, p.other.id if p.other else "") for p in found] == [("lost", "b"), ("same", "c")]
    many = [breach(f"p{i}", i, i + 5) for i in range(3000)]
    shifted = [breach(f"q{i}", i + 0.1, i + 5.1) for i in range(3000)]
    begun = time.monotonic()
    assert differences.counted(differences.compare(many, shifted)) == {
        "gained": 0, "lost": 0, "changed": 3000, "same": 0}
    assert time.monotonic() - begun < 5


@pytest.mark.models
def test_with_the_real_models_other_weights_are_another_run(
    tables: Settings, sessions: sessionmaker[Session], as_: As, weights: Settings, demo: Path
) -> None:
    """Six seconds of a rendered camera; the process has what `maskwatch replays` has."""
    start, frames = time.time_ns() // 1000 - 60_000_000, list[Frame]()
    clip = cv2.VideoCapture(str(demo / "entrance.mp4"))
    rate = clip.get(cv2.CAP_PROP_FPS)
    clip.set(cv2.CAP_PROP_POS_FRAMES, rate)
    for i in range(30):
        for _ in range(round(rate / 5)):
            there, picture = clip.read()
        assert there
        picture = cv2.resize(picture, (640, 360), interpolation=cv2.INTER_AREA)
        digest = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (64, 36), interpolation=cv2.INTER_AREA)
        frames.append(Frame("door", start + i * 200_000, site=SITE, width=640, height=360, jpeg=encode(picture),
                            digest=digest.tobytes()))
    with sessions() as session, session.begin():
        sites.known(session, SITE)
        wish = Camera("door", (Source("rtsp://10.0.0.7/1"),), site=SITE)
        session.add(CameraRow(id="door", **columns(wish, 0)))
    send(tables, frames)
    tables.data.mkdir(exist_ok=True)
    (tables.data / "models").symlink_to(weights.data.resolve() / "models")
    admin = as_("admin")
    runs = [made(admin, frames), made(admin, frames), made(admin, frames, models={"sface": "f32"}),
            made(admin, frames, settings={"face_score": 1})]
    with process(tables, command=("-P", "-m", "cli.main", "replays")) as command:
        until(sessions, lambda s: s.get_one(Replay, runs[-1]).state == "done", 120)
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 0
    told = [admin.get(f"/v1/replays/{run}").json() for run in runs]
    assert [each["error"] for each in told] == [""] * 4
    assert told[0]["totals"] == told[1]["totals"]
    assert told[0]["totals"]["looks"]["worn"] + told[0]["totals"]["looks"]["none"] > 10
    same = diff(admin, runs[0], runs[1], kind="same")
    assert same["counts"]["gained"] == same["counts"]["lost"] == same["counts"]["changed"] == 0
    assert same["counts"]["same"] >= 1
    changed = {name for name in told[0]["used"] if told[0]["used"][name] != told[2]["used"][name]}
    assert (changed, told[2]["models"]) == ({"sface"}, {"sface": "f32"})
    assert told[3]["totals"]["people"] == 0  # no face is as sure as that
    assert diff(admin, runs[3], runs[0])["counts"]["lost"] == same["counts"]["same"]
    adopted = admin.post(f"/v1/replays/{runs[2]}/adopt", json={"name": "x"}).json()
    assert adopted["models"] == [{"model": "sface", "weights": "f32", "how": "in models/manifest.yaml, `use: f32` of "
                                  "sface; then start the workers again"}]
    assert admin.post("/v1/replays", json=wanted(frames, models={"sface": "f16"})).status_code == 422
