import json

import numpy as np

from models.train import draw, gather, mask_state, tones
from pipeline.messages import STATES


def sample(picture, label="worn"):
    blank = np.zeros((gather.SIDE, gather.SIDE, 3), np.uint8)
    return gather.Sample(blank, label, np.zeros(4), np.zeros((5, 2)), 40, picture.split("/")[0], picture, picture)


def test_a_picture_stays_in_the_part_of_the_split_that_was_written_down():
    split = json.loads(gather.SPLIT.read_text())
    pictures = [split["test"][0], split["valid"][0], "kaggle853/new", "masked_street/00001.jpg"]
    assert gather.parts([sample(each) for each in pictures]) == ["test", "valid", "train", "train"]


def test_alike_pictures_are_left_out_by_the_same_fold():
    folds = [mask_state.fold(f"group {i}") for i in range(2000)]
    assert folds == [mask_state.fold(f"group {i}") for i in range(2000)]
    assert all(450 < folds.count(k) < 550 for k in range(mask_state.FOLDS))


def test_the_split_written_down_keeps_test_and_valid_apart():
    split = json.loads(gather.SPLIT.read_text())
    assert len(split["test"]) > 1000
    assert not set(split["test"]) & set(split["valid"])
    for name in split["test"] + split["valid"]:
        assert name.split("/")[0] in ("kaggle853", "chandrikadeb7", "lfw")


def test_every_state_is_trained():
    assert {row[1] for row in mask_state.MIX} == set(STATES)


def test_what_is_drawn_follows_from_its_source_of_chance():
    crop = np.random.default_rng(5).integers(0, 255, (gather.SIDE, gather.SIDE, 3), dtype=np.uint8)
    points = (np.array(draw.TEMPLATE) - 56) * 0.6 + 64
    box = np.array([34, 24, 94, 104], np.float32)

    def all_of(seed):
        chance = np.random.default_rng(seed)
        kinds = [draw.mask(crop, points, chance, "worn"), draw.mask(crop, points, chance, "incorrect"),
                 draw.borrowed(crop, points, crop, points, chance, "incorrect")]
        kinds += [paint(crop, points, chance) for paint in (
            draw.hand, draw.thing, draw.away, draw.beard, draw.scarf, draw.chin_in_hand, draw.behind)]
        return [draw.place(each, chance, box).tobytes() for each in kinds]

    assert all_of(3) == all_of(3)
    assert len(set(all_of(3)) | set(all_of(4))) == 20


def test_calibration_cools_answers_that_are_too_sure_and_undoes_a_leaning():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 3, 4000)
    logits = chance.normal(size=(4000, 4)) + 2 * np.eye(4)[truth]
    divisor, added = mask_state.calibrated(logits, truth, 1)
    hotter, shifted = mask_state.calibrated(3 * logits + [0, 1.5, 0, 0], truth, 1)
    assert abs(hotter / divisor - 3) < 0.1
    assert abs(shifted[1] - 3 * added[1] + 1.5) < 0.1
    assert abs(mask_state.divisor(3 * logits, truth) / mask_state.divisor(logits, truth) - 3) < 0.1


def test_the_tone_of_skin_is_an_angle():
    tones_of = [tones.tone(tones.angle(np.array(bgr, np.float32)))
                for bgr in ((190, 210, 240), (110, 145, 190), (100, 120, 160), (90, 115, 155), (20, 28, 40))]
    assert tones_of == [name for name, _ in tones.TONES]
