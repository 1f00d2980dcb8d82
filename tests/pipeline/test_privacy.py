"""What privacy asks of pictures: hidden areas are black before anybody has them, other people's faces are no faces."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
import scenes

from models import fakes
from pipeline import mask, pictures
from pipeline.capture import Picture, blacken, choose, frame
from pipeline.messages import Camera, Source
from pipeline.settings import Settings

AREA = ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5))


@pytest.mark.parametrize("width", [320, 960, 1920])
def test_a_hidden_area_is_black_in_the_picture_and_in_the_digest(width: int) -> None:
    noise = np.random.default_rng(1).integers(60, 255, (1080, 1920, 3), np.uint8)
    camera = Camera("door", (Source("x"),), hidden=(AREA, ((0.1, 0.9), (0.2, 0.9), (0.15, 1.0))))
    one = frame(camera, 1, Picture(1920, 1080, (noise,)), 85, width=width)
    image = pictures.decode(one.jpeg)
    high, wide = image.shape[:2]
    assert image[: high // 2, wide // 2 :].max() < 12  # JPEG
    assert image[round(0.95 * high), round(0.15 * wide)].max() < 12
    assert image[: high // 2, : wide // 2 - 20].mean() > 100
    small = np.frombuffer(one.digest, np.uint8).reshape(36, 64)
    assert small[:18, 32:].max() < 16
    assert small[:18, :31].mean() > 100
    # what a camera without areas gives is not touched
    plain = frame(msgspec.structs.replace(camera, hidden=()), 1, Picture(1920, 1080, (noise,)), 85, width=width)
    assert pictures.decode(plain.jpeg)[: high // 2, wide // 2 :].mean() > 100


def test_somebody_in_a_hidden_area_is_not_found() -> None:
    picture = fakes.empty(640, 360)
    fakes.draw(picture, (100, 120, 164, 184), "none", 1)
    fakes.draw(picture, (500, 60, 564, 124), "none", 2)
    assert len(fakes.look(picture).boxes) == 2
    assert len(fakes.look(blacken(picture, (AREA,))).boxes) == 1


def test_a_face_that_is_blurred_has_nothing_left_and_the_one_that_is_meant_has_all() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    box, own = (20.0, 20.0, 120.0, 120.0), (100.0, 100.0, 180.0, 180.0)
    done = pictures.blurred(noise, [box, (-50, -50, -10, -10), (190, 190, 400, 400)], keep=own)
    assert np.array_equal(done[100:180, 100:180], noise[100:180, 100:180])
    assert np.array_equal(done[140:180, :90], noise[140:180, :90])
    inner = done[20:100, 20:100]
    assert float(cv2.Laplacian(inner, cv2.CV_32F).var()) < 1 < float(cv2.Laplacian(noise, cv2.CV_32F).var())
    assert not np.shares_memory(done, noise)


def test_a_chip_shows_its_own_face_and_no_other_where_the_site_says_so(plain: Settings) -> None:
    def chips(blur: bool) -> list[np.ndarray]:
        seen, found = None, []
        for i in range(6):
            one = scenes.frame("door", i / 5, [((300, 120, 364, 184), "none", 1), ((372, 124, 436, 188), "none", 2)],
                               blur_others=blur)
            picture = pictures.decode(one.jpeg)
            seen, faces = mask.step(seen, one, fakes.look(picture), picture, {}, plain)
            assert faces is not None
            found += [(f, pictures.decode(f.chip)) for f in faces.faces if f.chip and f.box[0] < 330]
        return found

    def part(chip: np.ndarray, face: object, x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
        left, top, right, _ = face.chip_box  # type: ignore[attr-defined]
        scale = chip.shape[1] / (right - left)
        a, b, c, d = (int(v * scale) for v in (x0 - left, x1 - left, y0 - top, y1 - top))
        return chip[c:d, a:b]

    def colour(chip: np.ndarray, face: object, x: float, y: float) -> np.ndarray:
        x0, y0, x1, _ = face.chip_box  # type: ignore[attr-defined]
        scale = chip.shape[1] / (x1 - x0)
        return chip[int((y - y0) * scale), int((x - x0) * scale)].astype(int)

    whole, blurred = chips(False), chips(True)
    assert len(whole) == len(blurred) > 0
    for (face, chip), (_, other) in zip(whole, blurred, strict=True):
        own = [np.abs(colour(chip, face, x, y) - colour(other, face, x, y)).max() for x, y in ((310, 130), (350, 175))]
        assert max(own) < 12
        edges = [float(cv2.Laplacian(part(each, face, 376, 392, 130, 182), cv2.CV_32F).var())
                 for each in (chip, other)]
        assert edges[1] < edges[0] / 10  # the pattern by which a fake face is known


def test_the_order_of_sources_begins_with_the_one_preferred() -> None:
    main, sub, spare = Source("m"), Source("s", "sub", 960), Source("other server")
    assert choose((main, sub, spare), 960) == (sub, main, spare)
    assert choose((main, sub, spare), 960, 2) == (spare, sub, main)
    assert choose((main, sub), 960, 7) == (sub, main)

