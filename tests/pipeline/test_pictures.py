"""JPEG in and out, and what is refused."""

import numpy as np
import pytest

from pipeline import pictures


def picture() -> np.ndarray:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    return np.dstack([np.tile(ramp, (48, 1))] * 3)


def test_size_is_read_without_decoding() -> None:
    jpeg = pictures.encode(picture())
    assert pictures.size(jpeg) == (64, 48)
    assert pictures.decode(jpeg).shape == (48, 64, 3)
    assert np.abs(pictures.decode(jpeg).astype(int) - picture()).mean() < 3


@pytest.mark.parametrize(("payload", "says"), [
    (b"", "got 0 bytes"),
    (b"\x89PNG\r\n\x1a\n", "89 50 4e 47"),
    (pictures.encode(picture())[:20], "without one"),
    (pictures.encode(picture())[:-200], "break off"),
])
def test_what_is_not_a_whole_jpeg_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(pictures.BadPicture, match=says):
        pictures.decode(payload)


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    jpeg = bytearray(pictures.encode(picture()))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = (65000).to_bytes(2, "big") * 2
    with pytest.raises(pictures.BadPicture, match="65000 × 65000"):
        pictures.decode(bytes(jpeg))


def test_a_cut_is_scaled_down_but_never_up() -> None:
    assert pictures.cut(picture(), (0, 0, 40, 20), 20).shape == (10, 20, 3)
    assert pictures.cut(picture(), (0, 0, 8, 8), 20).shape == (8, 8, 3)
