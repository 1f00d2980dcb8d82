import numpy as np
import pytest

from models import candidates
from models.candidates import BlazeFace, CenterFace, Enlarged, Tiled
from models.face import Found
from models.manifest import Broken

NOBODY = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def red(picture):
    """Finds the red rectangle, in the picture's own pixels."""
    rows, columns = np.nonzero(picture[..., 2] > 200)
    if not len(rows):
        return NOBODY
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    return Found(box, np.array([min(1, len(rows) / 1000)], np.float32), np.zeros((1, 5, 2), np.float32))


def test_a_peak_of_the_heat_map_is_a_face_in_pixels_of_the_picture(tmp_path):
    face = CenterFace(tmp_path / "no.onnx", 0.5, 640)
    asked = []

    def network(shape, fill):
        given = np.ones(shape, np.float32)
        fill(given)
        asked.append((shape, given[0, :, 100, 100].tolist(), float(given[0, :, 359:].sum())))
        h, w = shape[2] // 4, shape[3] // 4
        maps = [np.zeros((1, n, h, w), np.float32) for n in (1, 2, 2, 10)]
        maps[0][0, 0, 20, 30] = 0.9
        maps[1][0, :, 20, 30] = np.log(8), np.log(4)  # 32 high, 16 wide
        maps[2][0, :, 20, 30] = 0.5, 0
        maps[3][0, :, 20, 30] = 0.5
        return maps

    face.network = network
    picture = np.zeros((180, 320, 3), np.uint8)
    picture[:] = 1, 2, 3
    found = face(picture)
    assert asked == [((1, 3, 384, 640), [3, 2, 1], (1 + 2 + 3) * 640.0)]  # red first; black below the picture
    assert found.boxes.tolist() == [[57.0, 34.0, 65.0, 50.0]]
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.landmarks[0].tolist() == [[61.0, 42.0]] * 5


def test_the_whole_picture_is_put_on_the_square(tmp_path):
    face = BlazeFace.__new__(BlazeFace)
    face.side, face.score, face.anchors = 128, 0.5, np.array([[0.5, 0.5], [0.1, 0.1]], np.float32)

    def network(shape, fill):
        given = np.full(shape, np.nan, np.float32)
        fill(given)
        assert given[0, 27].max() == 0
        assert given[0, 28].min() == pytest.approx(1)
        raw = np.zeros((1, 2, 16), np.float32)
        raw[0, 0, 2:4] = 32, 16
        return [raw, np.array([[[4.0], [-4.0]]], np.float32)]

    face.network = network
    found = face(np.full((72, 128, 3), 255, np.uint8).repeat(2, 0).repeat(2, 1))
    assert found.boxes.tolist() == [[96.0, 56.0, 160.0, 88.0]]
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-4)))


def test_what_is_found_in_a_larger_picture_or_in_tiles_is_told_in_the_pixels_of_the_picture():
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[120:160, 300:330] = 0, 0, 255
    assert Enlarged(red, 2)(picture).boxes.tolist() == pytest.approx(np.array([[300, 120, 330, 160]]), abs=1)
    assert Tiled(red)(picture).boxes.tolist() == [[300, 120, 330, 160]]
    shown = []
    Tiled(lambda part: shown.append(part.shape[:2]) or NOBODY)(picture)
    assert shown == [(200, 400), *[(111, 222)] * 4]


def test_an_onnx_file_that_is_none_is_named(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(Broken, match=r"no\.onnx: expected an ONNX file, got .*"):
        candidates.outputs(tmp_path / "no.onnx")
