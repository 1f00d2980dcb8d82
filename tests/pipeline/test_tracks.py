"""Faces of one camera from frame to frame."""

import numpy as np

from pipeline import tracks

STEP = 200_000  # µs: five frames a second


def run(paths: list[list[tuple[float, float, float, float] | None]], scores: list[list[float]] | None = None
        ) -> list[list[str | None]]:
    """Boxes per person and frame -> the track id each got per frame. Ids are `frame#person`, like face ids."""
    alive: tuple[tracks.Track, ...] = ()
    told: list[list[str | None]] = [[] for _ in paths]
    for frame in range(len(paths[0])):
        at = 1 + frame * STEP
        here = [person for person, path in enumerate(paths) if path[frame] is not None]
        boxes = np.array([paths[p][frame] for p in here], float).reshape(-1, 4)
        sure = np.array([scores[p][frame] if scores else 0.9 for p in here])
        pairs = dict((column, row) for row, column in tracks.match(alive, at, boxes, sure, 0.6))
        after = dict(enumerate(alive))
        fresh = []
        for person in range(len(paths)):
            if person not in here:
                told[person].append(None)
                continue
            column = here.index(person)
            if column in pairs:
                track = after[pairs[column]] = tracks.update(alive[pairs[column]], at, boxes[column])
            elif sure[column] >= 0.6:
                track = tracks.start(f"{frame}#{person}", at, boxes[column])
                fresh.append(track)
            else:
                told[person].append(None)
                continue
            told[person].append(track.id)
        alive = (*after.values(), *fresh)
    return told


def path(x: float, dx: float, frames: int, y: float = 100, size: float = 30) -> list:
    return [(x + dx * i, y, x + dx * i + size, y + size * 1.2) for i in range(frames)]


def test_a_walker_who_moves_more_than_his_own_width_a_frame_stays_one_track() -> None:
    assert run([path(0, 35, 15)]) == [["0#0"] * 15]


def test_two_who_pass_each_other_keep_their_tracks() -> None:
    told = run([path(0, 20, 20), path(400, -20, 20, y=125)])
    assert [set(t) for t in told] == [{"0#0"}, {"0#1"}]


def test_a_weak_detection_carries_a_track_on_but_starts_none() -> None:
    scores = [[0.9, 0.9, 0.4, 0.4, 0.9], [0.4] * 5]
    told = run([path(0, 10, 5), path(400, 0, 5)], scores)
    assert told == [["0#0"] * 5, [None] * 5]


def test_a_face_hidden_for_a_second_is_found_where_it_was_heading() -> None:
    hidden = path(0, 15, 20)
    hidden[8:13] = [None] * 5
    told = run([hidden])
    assert {t for t in told[0] if t} == {"0#0"}


def test_another_size_at_the_same_place_is_another_face() -> None:
    near = [*path(100, 0, 3), (60, 60, 200, 230)]
    assert run([near])[0][-1] == "3#0"


def test_the_expected_speed_is_learnt() -> None:
    track = tracks.start("a", 1, np.array([0.0, 0, 30, 36]))
    for i in range(1, 10):
        track = tracks.update(track, 1 + i * STEP, np.array([20.0 * i, 0, 20 * i + 30, 36]))
    assert abs(track.speed[0] - 100) < 3  # 20 px every 0.2 s
    where, _, _ = tracks.predict(track, track.at + STEP)
    assert abs(where[0] - (200 + 15)) < 3


def test_a_track_in_other_pixels_goes_on_where_it_was() -> None:
    boxes = path(100, 8, 6)
    track = tracks.start("0#0", STEP, np.array(boxes[0]))
    for i, box in enumerate(boxes[1:], 2):
        track = tracks.update(track, i * STEP, np.array(box))
    double = tracks.rescale(track, 2.0, 1.5)
    by = np.array([2.0, 1.5, 2.0, 1.5])
    for mine, theirs in zip(tracks.predict(double, 8 * STEP)[:2], tracks.predict(track, 8 * STEP)[:2], strict=True):
        np.testing.assert_allclose(mine, theirs * by)
    assert (double.id, double.at, double.looks) == (track.id, track.at, track.looks)
    back = tracks.rescale(double, 1 / 2.0, 1 / 1.5)
    np.testing.assert_allclose(back.spread, track.spread)
