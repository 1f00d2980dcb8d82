"""Messages written by hand against a truth written by hand: every figure can be counted on the fingers."""

import json
from pathlib import Path

import pytest

from pipeline import scoring
from pipeline.messages import Box, Episode, Face, Faces, Leg, State, Trajectory
from pipeline.scoring import Breach, Rates, Share

START = 1_700_000_000_000_000  # µs


def box(x: float) -> Box:
    return x, 100.0, x + 40, 150.0


def seen(camera: str, second: float, *faces: tuple[float, str, State, State]) -> Faces:
    """`faces`: place, track, look, state."""
    at = START + round(second * 1e6)
    return Faces(camera, at, f"{camera}@{at}", "site", width=960, height=540, faces=tuple(
        Face(f"{camera}@{at}#{i}", box(x), 0.9, (), look, 0.9, track, state, 0.9)
        for i, (x, track, look, state) in enumerate(faces)))  # fmt: skip


def told(tmp_path: Path, cameras: dict[str, dict[int, list[dict]]]) -> Path:
    """A ground truth at one picture a second."""
    path = tmp_path / "ground_truth.json"
    path.write_text(json.dumps({"fps": 1, "size": [960, 540], "cameras": {
        camera: {"clip": "", "frames": [{"i": i, "faces": faces} for i, faces in frames.items()]}
        for camera, frames in cameras.items()}}))  # fmt: skip
    return path


def face(x: float, person: str, state: str, **more: bool) -> dict:
    return {"person": person, "state": state, "box": box(x), **more}


def test_faces_found_missed_and_invented(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {
        0: [face(100, "ann", "worn"), face(300, "bob", "none")],
        1: [face(100, "ann", "worn"), face(300, "bob", "none", visible=False)]}}))  # fmt: skip
    score = scoring.score(truth, [
        seen("door", 0, (104, "t1", "worn", "worn"), (700, "t2", "none", "none")),  # bob missed, somebody invented
        seen("door", 1, (104, "t1", "worn", "worn"), (300, "t3", "none", "none")),  # hardly visible, found all the same
    ], START)  # fmt: skip
    assert score.found == Rates(recall=Share(2, 3), precision=Share(3, 4))
    assert score.analysed == 2


def test_states_by_look_and_after_several_looks(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {
        **{i: [face(100, "ann", "worn")] for i in range(4)},
        4: [face(100, "ann", "incorrect", changing=True)],
        **{i: [face(100, "ann", "incorrect")] for i in range(5, 9)}}}))  # fmt: skip
    states: list[State] = ["unknown", "worn", "worn", "worn", "worn", "worn", "incorrect", "incorrect", "incorrect"]
    looks: list[State] = ["worn", "none", "worn", "worn", "none", "incorrect", "none", "incorrect", "incorrect"]
    score = scoring.score(truth, [seen("door", i, (100, "t1", look, states[i])) for i, look in enumerate(looks)], START)
    assert score.looks == {"worn": Rates(Share(3, 4), Share(3, 3)), "incorrect": Rates(Share(3, 4), Share(3, 3)),
                           "none": Rates(Share(0, 0), Share(0, 2))}  # fmt: skip
    assert score.states["worn"] == Rates(Share(3, 4), Share(3, 4))
    assert score.states["incorrect"] == Rates(Share(3, 4), Share(3, 3))
    assert score.spells["worn"] == score.spells["incorrect"] == Rates(Share(1, 1), Share(1, 1))
    assert score.confusion == {("worn", "unknown"): 1, ("worn", "worn"): 3, ("incorrect", "worn"): 1,
                               ("incorrect", "incorrect"): 3}  # fmt: skip


def test_tracks_that_mix_people_and_people_cut_in_tracks(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {
        i: [face(100, "ann", "worn"), face(300, "bob", "worn")] for i in range(4)}}))  # fmt: skip
    score = scoring.score(truth, [
        seen("door", 0, (100, "t1", "worn", "worn"), (300, "t2", "worn", "worn")),
        seen("door", 1, (100, "t1", "worn", "worn"), (300, "t2", "worn", "worn")),
        seen("door", 2, (100, "t1", "worn", "worn"), (300, "t3", "worn", "worn")),
        seen("door", 3, (300, "t1", "worn", "worn"), (100, "t3", "worn", "worn")),  # they swap
    ], START)  # fmt: skip
    # t1: three looks at ann and one at bob; t2: bob; t3: one look each, counted as bob's, who was there first
    assert score.purity == Share(6, 8)
    assert (score.switches, score.visits) == (3, 2)


def test_joins_over_cameras(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {
        "door": {i: [face(100, "ann", "worn"), face(300, "bob", "worn")] for i in range(3)},
        "hall": {i: [face(100, "ann", "worn"), face(300, "bob", "worn")] for i in range(10, 13)}}))  # fmt: skip
    faces = [seen("door", i, (100, "a1", "worn", "worn"), (300, "b1", "worn", "worn")) for i in range(3)]
    faces += [seen("hall", i, (100, "a2", "worn", "worn"), (300, "b2", "worn", "worn")) for i in range(10, 13)]

    def route(*tracks: str) -> Trajectory:
        return Trajectory(tracks[0], "site", START, START, tuple(Leg("", track, START, START) for track in tracks))

    right = [*faces, route("a1", "a2"), route("b1", "b2")]
    assert scoring.score(truth, right, START).joins == Rates(Share(2, 2), Share(2, 2))
    apart = [*faces, route("a1"), route("a2"), route("b1", "b2")]
    assert scoring.score(truth, apart, START).joins == Rates(Share(1, 2), Share(1, 1))
    crossed = [*faces, route("a1", "b2"), route("b1", "a2")]
    assert scoring.score(truth, crossed, START).joins == Rates(Share(0, 2), Share(0, 2))


def test_episodes_by_person_and_time(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {
        **{i: [face(100, "ann", "none")] for i in range(5)},
        **{i: [face(300, "bob", "incorrect")] for i in range(20, 25)}}}))  # fmt: skip
    assert truth.breaches == (Breach("ann", "none", 0, 4, ("door",)), Breach("bob", "incorrect", 20, 24, ("door",)))
    faces = [seen("door", i, (100, "a1", "none", "none")) for i in range(5)]
    faces += [seen("door", i, (300, "b1", "none", "none")) for i in range(20, 25)]
    at = {name: START + second * 1_000_000 for name, second in {"1": 1, "4": 4, "20": 20, "23": 23}.items()}
    routes = [Trajectory("a1", "site", at["4"], at["1"], (Leg("door", "a1", at["1"], at["4"]),)),
              Trajectory("b1", "site", at["23"], at["20"], (Leg("door", "b1", at["20"], at["23"]),))]  # fmt: skip
    episodes = [Episode("a1!", "site", "a1", "none", "open", at["1"], at["1"], at["1"], ("door",)),
                Episode("a1!", "site", "a1", "none", "closed", at["1"], at["4"], at["4"], ("door",)),
                Episode("b1!", "site", "b1", "none", "closed", at["20"], at["23"], at["23"], ("door",))]  # fmt: skip
    score = scoring.score(truth, [*faces, *routes, *episodes], START)
    assert score.episodes == Rates(Share(2, 2), Share(2, 2))
    assert score.episode_states == Share(1, 2)
    assert (score.start_errors, score.end_errors) == ((1.0, 0.0), (0.0, -1.0))
    assert score.unmatched_episodes == ()
    lost = scoring.score(truth, [*faces, *routes, *episodes[:2]], START)
    assert lost.episodes == Rates(Share(1, 2), Share(1, 1))
    assert lost.unmatched_episodes == ("missed: bob incorrect 20.0–24.0 s in door",)


def test_a_breach_ends_with_the_mask_on_or_with_silence() -> None:
    looks = [(0.0, "ann", "door", "none"), (1.0, "ann", "door", "incorrect"),
             (2.0, "ann", "door", "worn"), (3.0, "ann", "door", "incorrect"),
             (10.0, "ann", "hall", "incorrect"), (40.0, "ann", "hall", "none")]  # fmt: skip
    assert scoring.breaches_of(looks, quiet=8) == [
        Breach("ann", "none", 0, 1, ("door",)), Breach("ann", "incorrect", 3, 10, ("door", "hall")),
        Breach("ann", "none", 40, 40, ("hall",))]  # fmt: skip


def test_boxes_of_a_scaled_picture_and_of_a_clip_that_starts_later(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {2: [face(400, "ann", "worn")]}}), delays={"door": 10.0})
    at = START + 12_000_000
    half = Faces("door", at, f"door@{at}", "site", width=480, height=270,
                 faces=(Face("f", (200, 50, 220, 75), 0.9, (), "worn", 0.9),))  # fmt: skip
    assert scoring.score(truth, [half], START).found == Rates(Share(1, 1), Share(1, 1))


def test_the_other_formats_of_truth(tmp_path: Path) -> None:
    clips, frames, other = tmp_path / "clips.json", tmp_path / "frames.json", tmp_path / "other.json"
    clips.write_text(
        json.dumps({"fps": 12, "clips": {"a": {"frames": 1, "annotations": {"0": [face(1, "x", "mask")]}}}})
    )
    frames.write_text(json.dumps({"fps": 10, "size": [960, 540], "passes": [], "frames": {
        "a": {"7": [face(1, "x", "none", occluded=True)]}}}))  # fmt: skip
    other.write_text(json.dumps({"fps": 10, "persons": []}))
    (from_clips,) = scoring.read(clips).frames["a"][0]
    assert (from_clips.state, from_clips.visible) == ("worn", True)
    (from_frames,) = scoring.read(frames).frames["a"][7]
    assert (from_frames.state, from_frames.visible) == ("none", False)
    with pytest.raises(ValueError, match="expected `cameras`, `clips` or `frames`, got fps, persons"):
        scoring.read(other)


def test_the_table_says_it_in_words(tmp_path: Path) -> None:
    truth = scoring.read(told(tmp_path, {"door": {i: [face(100, "ann", "none")] for i in range(5)}}))
    score = scoring.score(truth, [seen("door", i, (100, "a1", "none", "none")) for i in range(5)], START)
    table = scoring.table(score)
    assert "| faces found | 1.000 (5/5) | 1.000 (5/5) |" in table
    assert "| state: worn | – (0/0) | – (0/0) |" in table
    assert "missed: ann none 0.0–4.0 s in door" in table
