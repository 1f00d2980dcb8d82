import json
from pathlib import Path

import numpy as np

from models.train import draw, gather, mask_state
from pipeline.messages import STATES


def test_a_group_stays_in_its_part_of_the_split():
    parts = [gather.part(f"group {i}") for i in range(2000)]
    assert parts == [gather.part(f"group {i}") for i in range(2000)]
    assert {name: round(parts.count(name) / 20) for name, _ in gather.PARTS} == {"test": 24, "valid": 12, "train": 64}


def test_the_split_written_down_keeps_test_and_valid_apart():
    split = json.loads((Path(mask_state.__file__).parent / "split.json").read_text())
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
            draw.hand, draw.thing, draw.away, draw.beard, draw.scarf, draw.chin_in_hand)]
        return [draw.place(each, chance, box).tobytes() for each in kinds]

    assert all_of(3) == all_of(3)
    assert len(set(all_of(3)) | set(all_of(4))) == 18


def test_the_temperature_cools_answers_that_are_too_sure():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 4, 4000)
    logits = chance.normal(size=(4000, 4)) + 2 * np.eye(4)[truth]
    right = mask_state.temperature(logits, truth, np.ones(4000))
    assert abs(mask_state.temperature(3 * logits, truth, np.ones(4000)) / right - 3) < 0.1
