import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import compare, fakes, measure
from models.measure import Judged, Pairs, Share


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
    assert measure.accuracy(faces, "worn") == (1, 2)
    assert measure.recall(faces, "none") == (1, 2)
    assert measure.precision(faces, "none") == (1, 2)
    assert measure.answered([*faces, judged("none", "unknown")]) == ((3, 4), (2, 3))
    assert measure.calibration([judged("worn", "worn", sure=0.9)] * 9 + [judged("none", "worn", sure=0.9)]) < 1e-6


def test_average_precision_of_a_perfect_and_a_half_right_detector():
    assert measure.average([(0.9, True), (0.8, True)], 2) == 1
    assert measure.average([(0.9, True), (0.8, False)], 2) == 0.5


def test_each_found_face_is_used_for_one_label():
    box = np.array([0, 0, 10, 10], np.float32)
    assert measure.matched([("worn", box), ("none", box + 1)], np.stack([box])) == [0, -1]


def test_thresholds_of_pairs():
    measured = Pairs(np.array([0.9, 0.8, 0.3, 0.1, 0.2, 0.4], np.float32), np.array([1, 1, 1, 0, 0, 0], bool), 0)
    assert measure.accepted(measured, 1e-3) == (Share(2, 3), pytest.approx(0.4))


def test_a_folder_with_boxes_is_measured(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    picture = fakes.draw(fakes.draw(fakes.empty(), (20, 20, 80, 80), "worn"), (200, 20, 260, 80), "none")
    cv2.imwrite(str(tmp_path / "images" / "one.png"), picture)
    label = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>20</ymin><xmax>{}</xmax><ymax>80</ymax></bndbox>"
             "</object>")
    objects = label.format("with_mask", 20, 80) + label.format("mask_weared_incorrect", 200, 260)
    objects += label.format("without_mask", 400, 460)
    (tmp_path / "annotations" / "one.xml").write_text(f"<annotation>{objects}</annotation>")
    boxes = measure.voc(tmp_path, fakes.look)
    assert [(f.truth, f.said) for f in boxes.faces] == [("worn", "worn"), ("incorrect", "none"), ("none", "")]
    assert boxes.precision == pytest.approx(2 / 3)
    (tmp_path / "annotations" / "one.xml").write_text(f"<annotation>{label.format('helmet', 1, 9)}</annotation>")
    with pytest.raises(ValueError, match="helmet"):
        measure.voc(tmp_path, fakes.look)


@pytest.mark.models
def test_what_the_eval_command_prints_of_class_folders(weights, tmp_path, capsys):
    from models import report

    for name in ("with_mask", "without_mask"):
        (tmp_path / "faces" / name).mkdir(parents=True)
    picture = np.full((200, 160, 3), 120, np.uint8)
    compare.face(picture, 80, 100, 70, (150, 180, 225))
    cv2.imwrite(str(tmp_path / "faces" / "without_mask" / "a.png"), picture)
    report.show(tmp_path / "faces", weights)
    said = capsys.readouterr().out
    assert "pictures with a face found: 100.0 %" in said
    assert "expected calibration error" in said
    with pytest.raises(ValueError, match=r"expected images/ \+ annotations/"):
        report.show(tmp_path, weights)


@pytest.mark.models
@pytest.mark.slow
def test_the_mask_state_is_as_good_as_its_card_on_pictures_it_was_not_trained_on(models, shared):
    split = json.loads((Path(measure.__file__).parent / "train" / "split.json").read_text())
    test = frozenset(split["test"])
    boxes = measure.voc(shared / "kaggle853", models.look, lambda stem: f"kaggle853/{stem}" in test)
    worn_or_none = [f for f in boxes.faces if f.truth != "incorrect"]
    assert measure.recall(boxes.faces).all > 200
    assert share(measure.accuracy(worn_or_none, sizes=(24, 1e9))) > 0.9
    some = frozenset(sorted(each for each in test if each.startswith("chandrikadeb7/"))[::5])
    faces = measure.single(shared / "chandrikadeb7", models.look, lambda name: f"chandrikadeb7/{name}" in some)
    assert share(measure.accuracy(faces)) > 0.93


def share(of: Share) -> float:
    return of.right / of.all
