import cv2
import numpy as np
import pytest

from models import compare, face, measure


def test_of_two_boxes_on_one_face_the_better_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40]], np.float32)
    assert face.suppress(boxes, np.array([0.7, 0.9, 0.8], np.float32), 0.3).tolist() == [1, 2]
    assert face.suppress(boxes[:0], np.zeros(0, np.float32), 0.3).tolist() == []


def test_a_cell_is_decoded_into_a_face_in_pixels():
    cells = np.full((4, 6, 16), -20, np.float32)
    cells[2, 3] = [20, 20, 0.5, 0.25, np.log(2), np.log(3), *([0.5, 0] * 5)]
    found = face.decode([(8, cells)], 0.6)
    assert found.boxes.tolist() == [[20.0, 6.0, 36.0, 30.0]]
    assert found.scores[0] == pytest.approx(1)
    assert found.landmarks[0].tolist() == [[28.0, 16.0]] * 5
    assert len(face.decode([(8, cells - 40)], 0.6).boxes) == 0


def test_small_pictures_are_enlarged_and_large_ones_reduced():
    assert face.scaling(320, 180) == 2
    assert face.scaling(960, 540) == 1
    assert face.scaling(3840, 2160) == 0.5


@pytest.mark.models
@pytest.mark.parametrize("width", [260, 961, 2300])
def test_faces_are_found_at_any_picture_size_in_its_own_pixels(models, width):
    drawn = compare.drawing(520, 300)
    picture = cv2.resize(drawn, (width, round(width * 300 / 520)), interpolation=cv2.INTER_CUBIC)
    seen, there = models.look(picture), models.look(drawn)
    assert len(seen.boxes) == 3
    for box in there.boxes:
        assert measure.overlaps(box, seen.boxes / (width / 520)).max() > 0.75


@pytest.mark.models
def test_an_embedding_has_length_one_and_does_not_depend_on_its_company(models):
    faces = compare.aligned()
    together, alone = models.embed(faces), np.concatenate([models.embed(each[None]) for each in faces])
    assert together.shape == (3, 128)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert together.tobytes() == alone.tobytes()
    assert models.embed(faces[:0]).shape == (0, 128)
    with pytest.raises(ValueError, match="112×112×3"):
        models.embed(np.zeros((1, 96, 96, 3), np.uint8))
