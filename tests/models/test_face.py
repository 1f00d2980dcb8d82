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
    assert face.scaling(512, 288) == 2
    assert face.scaling(640, 360) == 1
    assert face.scaling(960, 540) == 1
    assert face.scaling(3840, 2160) == 0.5


def test_a_large_face_seen_only_in_the_small_picture_is_found_once_in_the_pixels_of_the_large_one():
    """A network that sees one face in the middle third of whatever it is shown, surely only in small pictures."""
    shown = []

    def network(shape, fill):
        shown.append(shape)
        rows, columns = shape[1] // 32, shape[2] // 32
        cells = np.full((1, rows, columns, 16), -20, np.float32)
        sure = 5.0 if shape[2] < 300 else -0.5
        cells[0, rows // 2, columns // 2, :6] = [sure, sure, 0, 0, np.log(columns / 3), np.log(rows / 3)]
        cells[0, rows // 2, columns // 2, 6:] = 0
        return [cells]

    picture = np.zeros((512, 1024, 3), np.uint8)
    found = face.Finder(network, 0.3)(picture)
    assert shown == [(1, 512, 1024, 3), (1, 128, 256, 3)]
    assert len(found.boxes) == 1
    assert found.scores[0] > 0.9
    assert found.boxes[0].tolist() == pytest.approx([341.3, 170.7, 682.7, 341.3], abs=0.1)
    assert found.landmarks[0].tolist() == [[512.0, 256.0]] * 5
    assert face.Finder(network, 0.3, coarse=0)(picture).scores[0] < 0.5
    # the same on a picture that is shown enlarged: its face has less than 48 of the pixels shown
    small = face.Finder(lambda shape, fill: network(shape, fill) if shape[2] < 300 else
                        [np.full((1, shape[1] // 32, shape[2] // 32, 16), -20, np.float32)], 0.3)
    assert len(small(np.zeros((64, 640, 3), np.uint8)).boxes) == 0


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
