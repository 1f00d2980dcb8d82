import numpy as np
import pytest

from models import detectors, fakes
from models.detectors import Entry
from models.face import Found
from models.labelled import Labelled, Truth
from models.measure import Find, Gathered


def looking(*kept):
    """The fakes' faces, with the scores given to each in turn."""
    def find(picture):
        seen = fakes.look(picture)
        return Found(seen.boxes, np.array(kept[:len(seen.boxes)], np.float32), seen.landmarks)
    return find


def test_recall_is_told_at_the_score_with_as_many_false_finds_as_ours():
    ours, theirs = Gathered(0.6), Gathered(0.5)
    ours.finds = [Find(0.9, True, "a"), Find(0.7, False, "a"), Find(0.3, False, "a")]
    theirs.finds = [Find(0.45, False, "a"), Find(0.4, True, "a"), Find(0.3, False, "a")]
    assert 0.3 < detectors.even(theirs, ours) < 0.31
    theirs.finds = theirs.finds[:2]
    assert detectors.even(theirs, ours) == detectors.FLOOR


@pytest.fixture
def picture():
    drawn = fakes.draw(fakes.draw(fakes.empty(), (20, 20, 80, 80), "worn"), (200, 20, 220, 40), "none")
    faces = tuple(Truth(state, np.array(box, np.float32))
                  for state, box in (("worn", (20, 20, 80, 80)), ("none", (200, 20, 220, 40))))
    return Labelled("one", "one", drawn, faces)


def test_every_detector_has_a_row_with_its_cost(picture, monkeypatch):
    monkeypatch.setattr(detectors, "ROUNDS", 2)
    who = [Entry("ours", looking(0.9, 0.9), 0.6), Entry("strict", looking(0.9, 0.4), 0.5)]
    head, rows = detectors.table(detectors.run([picture], who))
    told = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["own score: recall ≥ 16 px"].split(" ")[0] for row in told] == ["100.0", "50.0"]
    assert [row["recall ≥ 16 px"].split(" ")[0] for row in told] == ["100.0", "100.0"]
    assert told[1]["masked ≥ 40"].startswith("100.0")
    assert told[1]["bare 24–40"] == "–"
    assert float(told[0]["ms 640×360"].split(" ")[0]) >= 0


def test_a_picture_is_filled_by_its_middle():
    shown = detectors.filled(np.arange(90, dtype=np.uint8).reshape(1, 90, 1).repeat(30, 0).repeat(3, 2), (40, 40))
    assert shown.shape == (40, 40, 3)
    assert 40 < shown[20, 20, 0] < 50
