import json
from pathlib import Path

import numpy as np
import pytest

from models import labelled, measure
from models.measure import Find, Gathered, Judged, Pairs, Share


def judged(truth, said, pixels=50.0, sure=0.9):
    states = None
    if said:
        states = np.array([sure if said == s else (1 - sure) / 3 for s in ("worn", "incorrect", "none", "unknown")])
    return Judged(truth, pixels, bool(said), states, "a")


def test_a_share_comes_with_its_interval():
    assert str(Share(90, 100)) == "90.0 % [82.6–94.5] of 100"
    assert str(Share(0, 0)) == "–"
    assert measure.interval(10, 10)[1] == 1


def test_shares_are_counted_over_the_right_faces():
    faces = [judged("worn", "worn"), judged("worn", "none"), judged("none", "none"), judged("none", ""),
             judged("none", "worn", pixels=10)]
    assert measure.accuracy(faces) == (2, 3)
    assert measure.accuracy(faces, ("worn",)) == (1, 2)
    assert measure.recall(faces, ("none",)) == (1, 2)
    assert measure.whole(faces) == (2, 4)
    assert measure.precision(faces, "none") == (1, 2)
    assert measure.answered([*faces, judged("none", "unknown")]) == ((3, 4), (2, 3))
    nine_of_ten = [judged("worn", "worn", sure=0.9)] * 9 + [judged("none", "worn", sure=0.9)]
    assert measure.calibration(nine_of_ten).value < 1e-6
    assert measure.calibration([judged("none", "worn", sure=0.9)] * 5).value == pytest.approx(0.9)
    assert str(measure.calibration([])) == "–"


def gathered(*finds, count=2):
    out = Gathered(0.6)
    out.groups = [f"p{i}" for i in range(count)]
    out.faces = [judged("worn", "worn")._replace(group=group) for group in out.groups]
    out.finds = [Find(score, hit, f"p{i % count}") for i, (score, hit) in enumerate(finds)]
    return out


def test_average_precision_of_a_perfect_and_a_half_right_detector():
    assert measure.average(gathered((0.9, True), (0.8, True))).value == 1
    assert measure.average(gathered((0.9, True), (0.8, False))).value == 0.5
    assert measure.average(gathered()).value == 0


def test_the_interval_of_average_precision_narrows_with_more_pictures():
    few, many = (measure.average(gathered(*[(0.9 - i / 1e4, i % 3 > 0) for i in range(n)], count=n)) for n in (12, 600))
    assert few.low <= few.value <= few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert many == measure.average(gathered(*[(0.9 - i / 1e4, i % 3 > 0) for i in range(600)], count=600))


def test_each_found_face_is_used_for_one_label():
    box = np.array([0, 0, 10, 10], np.float32)
    assert measure.matched([("worn", box), ("none", box + 1)], np.stack([box])) == [0, -1]
    assert measure.claimed([box, box + 1], np.stack([box + 1, box + 1, box + 50]), 0.5) == [(0, 1), (1, 0)]


def test_thresholds_of_pairs():
    measured = Pairs(np.array([0.9, 0.8, 0.3, 0.1, 0.2, 0.4], np.float32), np.array([1, 1, 1, 0, 0, 0], bool), 0)
    assert measure.accepted(measured, 1e-3) == (Share(2, 3), pytest.approx(0.4))
    assert measure.at(measured, 0.35) == (Share(2, 3), Share(1, 3))
    clear = Pairs(np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.4] * 4, np.float32), np.array([1, 1, 1, 0, 0, 0] * 4, bool), 0)
    assert measure.verified(clear) == (24, 24)


@pytest.mark.models
@pytest.mark.slow
def test_the_mask_state_is_as_good_as_its_card_on_pictures_it_was_not_trained_on(models, shared):
    split = json.loads((Path(measure.__file__).parent / "train" / "split.json").read_text())
    test = frozenset(split["test"])
    pictures = labelled.boxes(shared / "kaggle853", lambda stem: f"kaggle853/{stem}" in test)
    [boxes] = measure.gather(pictures, [(models.look, 0.6)])
    found = measure.recall(boxes.faces)
    assert found.all > 200
    assert found.value > 0.85
    assert measure.accuracy(boxes.faces, ("worn", "none"), (24, 1e9)).value > 0.9
    some = frozenset(sorted(each for each in test if each.startswith("chandrikadeb7/"))[::5])
    pictures = labelled.classes(shared / "chandrikadeb7", lambda name: f"chandrikadeb7/{name}" in some)
    [faces] = measure.gather(pictures, [(models.look, 0.6)])
    assert measure.accuracy(faces.faces).value > 0.93
