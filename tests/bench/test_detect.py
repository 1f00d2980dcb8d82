import json

import cv2
import numpy as np

from bench import detect
from bench.clips import Clip
from bench.figures import markdown
from models import fakes
from pipeline.settings import Settings


def test_pictures_are_as_small_as_they_are_analysed_and_their_faces_with_them(tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "cam.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (1280, 720))
    for x in range(0, 800, 100):
        film.write(fakes.draw(fakes.empty(1280, 720), (x, 100, x + 160, 260), "worn"))
    film.release()
    (tmp_path / "ground_truth.json").write_text(json.dumps({"fps": 5, "size": [1280, 720], "frames": {"cam": {
        str(i): [{"person": "a", "state": "mask", "box": [100 * i, 100, 100 * i + 160, 260]}] for i in range(8)}}}))
    clip = Clip("cam", tmp_path / "cam.mp4", "", tmp_path / "ground_truth.json", "cam", 5.0, 1.6)
    first, second = detect.labelled(clip)  # one in 0.8 seconds
    assert first.picture.shape == second.picture.shape == (360, 640, 3)
    assert second.faces[0].box.tolist() == [200, 50, 280, 130]

    class Side:
        def run(self, what, pictures):
            return [tuple(fakes.look(each)) for each in pictures]

    table = detect._found({"cam": [first, second]}, {detect.OURS: Side()}, Settings(), lambda text: None)
    assert "| cam | 2 | 100.0 % [34.2–100.0] of 2 | 100.0 % [34.2–100.0] of 2 |" in markdown(table.head, table.rows)
    assert np.array_equal(fakes.look(first.picture).boxes.round(), [[0, 50, 80, 130]])
