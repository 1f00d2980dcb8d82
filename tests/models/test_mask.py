from pathlib import Path

import numpy as np
import pytest

from models import compare, mask
from models.manifest import checked
from models.runtime import Network
from models.train import draw
from pipeline.messages import STATES


def test_a_face_is_cut_out_in_the_middle_with_its_surroundings():
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[60:140, 110:190] = 255
    cut = mask.crop(picture, np.array([110, 60, 190, 140], np.float32))
    side = mask.SIZE / mask.MARGIN
    assert cut.shape == (64, 64, 3)
    assert (cut[:, 32, 0] > 127).sum() == pytest.approx(side, abs=1.5)
    assert (cut[32, :, 0] > 127).sum() == pytest.approx(side, abs=1.5)


def test_a_large_face_is_averaged_and_a_small_one_enlarged_in_the_same_place():
    picture = np.random.default_rng(1).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    assert mask.crop(picture, np.array([50, 50, 850, 850], np.float32)).std() < 40  # noise of 74 levels
    assert mask.crop(picture, np.array([50, 50, 60, 60], np.float32)).shape == (64, 64, 3)


def test_a_face_at_the_edge_goes_on_beyond_it():
    picture = np.full((100, 100, 3), 90, np.uint8)
    for box in ([-20, -20, 30, 30], [80, 70, 130, 140], [400, 400, 450, 450], [5, 5, 5, 5]):
        assert (mask.crop(picture, np.array(box, np.float32)) == 90).all()


@pytest.mark.models
def test_a_drawn_face_is_bare_until_a_mask_is_drawn_on_it(models):
    classify = mask.Classifier(Network(checked(Path("nowhere"), "mask_state")[0]), 16)
    picture = np.full((128, 128, 3), 120, np.uint8)
    compare.face(picture, 64, 64, 40, (150, 180, 225))
    seen = models.look(picture)
    assert len(seen.boxes) == 1
    said = {"none": seen.states[0]}
    for state in ("worn", "incorrect"):
        tries = [draw.mask(picture, seen.landmarks[0], np.random.default_rng(seed), state) for seed in range(12)]
        said[state] = np.mean([classify(each, seen.boxes)[0] for each in tries], axis=0)
    assert STATES[int(said["none"].argmax())] == "none"
    assert STATES[int(said["worn"].argmax())] == "worn"
    assert STATES[int(said["incorrect"].argmax())] == "incorrect"
