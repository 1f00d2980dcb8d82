"""A few messages folded by hand: what the page says of them, and what it no longer claims when they are old."""

from __future__ import annotations

from typing import Any

from api.summary import CountsNow, Summary
from pipeline.messages import (
    Camera,
    CameraStatus,
    Episode,
    Evidence,
    Face,
    Faces,
    Ledger,
    Source,
    State,
    Trajectory,
)

SECOND = 1_000_000
T = 1_700_000_000 * SECOND


def face(number: int, state: State, track: str, at: int) -> Face:
    return Face(f"gate@{at}#{number}", (0, 0, 9, 9), 0.9, (0.0,) * 10, state, 0.9, track=track, state=state)


def faces(at: int, *found: Face, **more: Any) -> Faces:
    return Faces("gate", at, f"gate@{at}", "site", faces=found, **more)


def test_now_is_the_newest_frame_and_the_minute_counts_people_not_looks() -> None:
    summary = Summary()
    summary.fold(Camera("gate", (Source("file.mp4"),), name="Gate"))
    summary.fold(CameraStatus("gate", T, "up", T - SECOND, fps_in=25, fps_analysed=5, analysed_width=1280,
                              analysed_why="faces", analysed_face=26.1))
    summary.fold(faces(T - 90 * SECOND, face(0, "none", "long-gone", T)))
    for step in range(5):
        at = T - (5 - step) * SECOND
        summary.fold(faces(at, face(0, "worn", "a", at), face(1, "none", "b", at)))
    summary.fold(faces(T, face(0, "worn", "a", T), face(1, "incorrect", "b", T), face(2, "unknown", "", T)))
    (view,) = summary.camera_views(T + SECOND)
    assert (view.name, view.state, view.age, view.looked) == ("Gate", "up", 1.0, 1.0)
    assert (view.analysed_width, view.analysed_why, view.analysed_face) == (1280, "faces", 26.1)
    assert view.now == CountsNow(worn=1, incorrect=1, unknown=1)
    assert view.minute == CountsNow(worn=1, incorrect=1)


def test_what_is_old_is_not_now() -> None:
    summary = Summary()
    summary.fold(Camera("gate", (Source("file.mp4"),)))
    summary.fold(faces(T, face(0, "none", "a", T)))
    (soon,), (late,), (later,) = (summary.camera_views(T + wait * SECOND) for wait in (9, 30, 90))
    assert (soon.now, soon.minute) == (CountsNow(none=1), CountsNow(none=1))
    assert (late.now, late.minute) == (CountsNow(), CountsNow(none=1))
    assert (later.now, later.minute, later.looked) == (CountsNow(), CountsNow(), 90.0)


def test_a_message_handled_twice_and_an_older_one_change_nothing() -> None:
    summary = Summary()
    newest = faces(T, face(0, "worn", "a", T), ledger=Ledger(seen=10, kept=2, still=6, same_faces=2))
    for message in (newest, newest, faces(T - SECOND, face(0, "none", "a", T), ledger=Ledger(seen=9))):
        summary.fold(message)
    summary.fold(CameraStatus("gate", T, "up", T))
    (view,) = summary.camera_views(T)
    assert view.now == CountsNow(worn=1)
    assert (view.savings.seen, view.savings.saved) == (10, 0.8)


def test_a_removed_camera_is_gone_and_a_wished_one_waits() -> None:
    summary = Summary()
    for camera in ("gate", "hall"):
        summary.fold(Camera(camera, (Source("file.mp4"),)))
    summary.fold(CameraStatus("gate", T, "up", T))
    summary.remove("cameras", "gate")
    summary.fold(CameraStatus("gate", T, "stopped", T))
    assert [(view.camera, view.state) for view in summary.camera_views(T)] == [("hall", "waiting")]


def test_an_inspection_photo_is_no_camera() -> None:
    summary = Summary()
    summary.fold(faces(T, face(0, "none", "a", T), source="inspection"))
    assert summary.camera_views(T) == []
    assert summary.looked == {}


def test_episodes_are_newest_first_few_and_without_pictures() -> None:
    summary = Summary()
    picture = Evidence("gate@1#0", "gate", T, (0, 0, 9, 9), "none", 0.9, picture=b"jpeg")
    for number in range(500):
        start = T + number * SECOND
        episode = Episode(f"p!{start}", "site", "p", "none", "open", start, start, start, evidence=(picture,))
        summary.fold(episode)
    views = summary.episode_views(3)
    assert [view.start - T for view in views] == [499 * SECOND, 498 * SECOND, 497 * SECOND]
    assert len(summary.episodes) <= 100
    assert all(not each.picture for episode in summary.episodes.values() for each in episode.evidence)


def test_people_are_the_open_routes() -> None:
    summary = Summary()
    for person, closed in (("a", False), ("b", False), ("a", True)):
        summary.fold(Trajectory(person, "site", T, T, closed=closed))
    assert summary.people == 1
