"""Faces with tracks, and a state that several looks agree on."""

from collections.abc import Callable

import cv2
import msgspec
import numpy as np

from models import fakes
from pipeline import mask, pictures
from pipeline.mask import Looks
from pipeline.messages import STATES, Faces, Frame, Ledger
from pipeline.settings import Settings


def run(frames: list[Frame], settings: Settings, seen: mask.Seen | None = None) -> tuple[mask.Seen, list[Faces]]:
    told = []
    for frame in frames:
        picture = pictures.EMPTY if frame.ended else pictures.decode(frame.jpeg)
        looks = mask.nothing() if frame.ended else fakes.look(picture)
        seen, faces = mask.step(seen, frame, looks, picture, {"fake": "0"}, settings)
        told.append(faces)
    assert seen is not None
    return seen, told


def test_a_walker_is_one_track_and_unknown_only_at_first(plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 4, 1, lambda t: "worn"), plain)
    faces = [m.faces[0] for m in told if m.faces]
    assert {f.track for f in faces} == {faces[0].id}
    assert faces[0].state == "unknown"
    assert {f.state for f in faces[2:]} == {"worn"}
    assert all(f.look == "worn" for f in faces)
    assert faces[-1].state_score > 0.95
    gone = [m.gone for m in told if m.gone]
    assert gone == [(faces[0].id,)]


def test_one_wrong_look_does_not_turn_the_state(plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 4, 1, lambda t: "none" if 2.0 <= t < 2.2 else "worn"), plain)
    looks = [m.faces[0].look for m in told if m.faces]
    states = [m.faces[0].state for m in told if m.faces]
    assert looks.count("none") == 1
    assert set(states[2:]) == {"worn"}


def test_a_mask_pulled_down_shows_within_two_seconds(plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 8, 1, lambda t: "worn" if t < 4 else "incorrect"), plain)
    states = [m.faces[0].state for m in told if m.faces]
    assert states[19] == "worn"
    assert set(states[30:40]) == {"incorrect"}


def test_looks_that_cannot_tell_decide_nothing_and_undo_nothing(plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 3, 1, lambda t: "unknown"), plain)
    assert {m.faces[0].state for m in told if m.faces} == {"unknown"}
    _, told = run(make_walk("cam", 0, 3, 1, lambda t: "none" if t < 2 else "unknown"), plain)
    assert [m.faces[0].state for m in told if m.faces][-1] == "none"


def test_two_people_two_tracks(plain: Settings, make_frame: Callable) -> None:
    frames = [make_frame("cam", i / 5, [((100 + 8 * i, 100, 160 + 8 * i, 170), "worn", 1),
                                        ((400, 100, 460, 170), "none", 2)]) for i in range(6)]
    _, told = run(frames, plain)
    assert [f.state for f in told[-1].faces] == ["worn", "none"]
    assert len({f.track for m in told for f in m.faces}) == 2


def test_small_faces_are_not_judged(make_frame: Callable) -> None:
    frame = make_frame("cam", 0, [((100, 100, 115, 118), "none", 1)])
    assert run([frame], Settings(face_pixels=16))[1][0].faces == ()
    assert len(run([frame], Settings(face_pixels=12))[1][0].faces) == 1


def test_chips_are_few_show_the_face_and_are_missing_where_the_site_is_anonymous(
        plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 20, 1, lambda t: "worn"), plain)
    chips = [f for m in told for f in m.faces if f.chip]
    assert 3 <= len(chips) <= mask.CHIPS + 2
    for face in chips:
        assert face.chip_box is not None
        x0, y0, x1, y1 = face.chip_box
        assert x0 <= face.box[0] < face.box[2] <= x1
        wide, high = pictures.size(face.chip)
        assert max(wide, high) <= mask.CHIP
        assert abs(wide / high - (x1 - x0) / (y1 - y0)) < 0.05
    _, told = run(make_walk("cam", 0, 5, 1, lambda t: "none", privacy="anonymous"), plain)
    assert not [f for m in told for f in m.faces if f.chip or f.chip_box]


def test_each_new_breach_brings_a_picture(plain: Settings, make_walk: Callable) -> None:
    _, told = run(make_walk("cam", 0, 20, 1, lambda t: "worn" if t < 18 else "none"), plain)
    faces = [f for m in told for f in m.faces]
    first = next(i for i, f in enumerate(faces) if f.state == "none")
    assert faces[first].chip


def test_the_end_of_a_stream_ends_every_track(plain: Settings, make_walk: Callable) -> None:
    frames = make_walk("cam", 0, 3, 1, lambda t: "worn")[:10]
    seen, told = run([*frames, Frame("cam", frames[-1].at + 1, ended=True)], plain)
    assert told[-1].ended
    assert told[-1].gone == (told[0].faces[0].track,)
    assert seen.watched == ()


def test_a_frame_from_the_past_is_answered_without_touching_the_tracks(plain: Settings, make_walk: Callable) -> None:
    frames = make_walk("cam", 0, 3, 1, lambda t: "worn")[:10]
    seen, told = run(frames, plain)
    after, again = run([msgspec.structs.replace(frames[3], late=True)], plain, seen)
    assert after == seen
    assert [f.box for f in again[0].faces] == [f.box for f in told[3].faces]
    assert [f.track for f in again[0].faces] == [""]


def test_a_frame_that_was_answered_is_not_answered_again(plain: Settings, make_walk: Callable) -> None:
    frames = make_walk("cam", 0, 3, 1, lambda t: "worn")[:10]
    seen, _ = run(frames, plain)
    assert run(frames[3:], plain, seen) == (seen, [None] * 7)


def test_a_phone_photo_is_answered_each_time_and_leaves_no_trace(plain: Settings, make_walk: Callable) -> None:
    photo = msgspec.structs.replace(make_walk("round", 0, 3, 1, lambda t: "none")[3], source="inspection")
    seen, told = run([photo, photo], plain)
    assert seen == mask.Seen()
    assert told[0] == told[1]
    assert [(f.look, f.track) for f in told[0].faces] == [("none", "")]


def test_an_audited_frame_with_a_face_nobody_knew_of_is_a_miss(plain: Settings, make_walk: Callable) -> None:
    frames = [msgspec.structs.replace(f, audit=i in (0, 5), ledger=Ledger(seen=i + 1, audited=1))
              for i, f in enumerate(make_walk("cam", 0, 3, 1, lambda t: "worn")[:10])]
    _, told = run(frames, plain)
    assert [m.ledger and m.ledger.missed for m in told] == [1] * 10
    assert told[0].audit


def test_the_same_frames_give_the_same_bytes(plain: Settings, make_walk: Callable) -> None:
    frames = make_walk("cam", 0, 3, 1, lambda t: "none")
    encode = msgspec.json.encode
    assert encode(run(frames, plain)[1]) == encode(run(frames, plain)[1])


def test_certainty_does_not_grow_without_bound_with_looks_that_are_alike(plain: Settings, make_frame: Callable) -> None:
    """A hundred looks of 70 % in one second are not a hundred independent witnesses."""
    picture = pictures.decode(make_frame("cam", 0, [((100, 100, 160, 170), "none", 1)]).jpeg)
    shape = fakes.look(picture)
    looks = Looks(shape.boxes, shape.scores, shape.landmarks, np.array([[0.2, 0.1, 0.7, 0.0]], np.float32))
    seen = None
    for i in range(100):
        seen, told = mask.step(seen, make_frame("cam", i / 100, []), looks, picture, {}, plain)
    assert told.faces[0].state == "none"
    assert 0.7 < told.faces[0].state_score < 0.97


def test_state_order_is_the_models_order() -> None:
    assert STATES == ("worn", "incorrect", "none", "unknown")


def test_a_track_survives_pictures_of_another_size(plain: Settings, make_walk: Callable) -> None:
    """Someone crosses a view whose pictures become half as wide, twice as wide, half as wide."""
    frames = []
    for i, frame in enumerate(make_walk("cam", 0, 4, 1, lambda t: "worn")):
        picture = pictures.decode(frame.jpeg)
        side = (1, 0.5, 2, 0.5)[i // 5 % 4]
        wide, high = int(frame.width * side), int(frame.height * side)
        other = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_NEAREST)
        frames.append(msgspec.structs.replace(frame, width=wide, height=high, jpeg=pictures.encode(other, 95)))
    seen, told = run(frames, plain)
    faces = [m.faces[0] for m in told if m.faces]
    assert len({m.width for m in told}) == 3
    assert len(faces) == 20
    assert {f.track for f in faces} == {faces[0].id}
    assert {f.state for f in faces[2:]} == {"worn"}
    assert seen.size == (told[-1].width, told[-1].height)


def test_the_end_of_a_stream_has_no_size_and_changes_none() -> None:
    seen = mask.Seen(size=(640, 360))
    after, _ = mask.step(seen, Frame("cam", 5, ended=True), mask.nothing(), pictures.EMPTY, {}, Settings())
    assert after.size == (640, 360)
