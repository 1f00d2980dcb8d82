"""Aligned, normalised, and only where it is allowed."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from models import fakes
from pipeline import embed, mask, pictures
from pipeline.messages import Face, Faces
from pipeline.settings import Settings


@pytest.fixture
def seen(make_walk: Callable, plain: Settings) -> list[Faces]:
    state, told = None, []
    for frame in make_walk("cam", 0, 3, 5, lambda t: "worn"):
        picture = pictures.decode(frame.jpeg)
        state, faces = mask.step(state, frame, fakes.look(picture), picture, {"look": "a"}, plain)
        told.append(faces)
    return told


def test_every_chip_and_nothing_else_is_embedded(seen: list[Faces]) -> None:
    for faces in seen:
        out = embed.step(faces, fakes.embed, {"embed": "b"})
        assert [bool(f.embedding) for f in out.faces] == [bool(f.chip) for f in out.faces]
        for face in out.faces:
            if face.embedding:
                assert abs(np.linalg.norm(face.embedding) - 1) < 1e-3
        assert out.models == ({"look": "a", "embed": "b"} if any(f.chip for f in faces.faces) else {"look": "a"})


def test_the_same_face_elsewhere_in_the_picture_embeds_alike(seen: list[Faces]) -> None:
    vectors = [f.embedding for m in seen for f in embed.step(m, fakes.embed, {}).faces if f.embedding]
    assert len(vectors) >= 3
    assert min(float(np.dot(vectors[0], v)) for v in vectors) > 0.9


def test_an_anonymous_site_gets_no_embedding_even_if_there_is_a_chip(seen: list[Faces]) -> None:
    for faces in seen:
        out = embed.step(msgspec.structs.replace(faces, privacy="anonymous"), fakes.embed, {})
        assert not any(f.embedding for f in out.faces)


def test_the_similarity_brings_turned_scaled_and_shifted_points_back() -> None:
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    moved = 1.7 * embed.TEMPLATE @ turn.T + (20, -5)
    matrix = embed.similarity(moved, embed.TEMPLATE)
    assert np.allclose(moved @ matrix[:, :2].T + matrix[:, 2], embed.TEMPLATE, atol=1e-6)


def test_a_face_that_cannot_be_aligned_says_why() -> None:
    face = Face("f#0", (0, 0, 9, 9), 0.9, (1.0,) * 10, "worn", 0.9, chip=b"no jpeg", chip_box=(0, 0, 9, 9))
    with pytest.raises(pictures.BadPicture, match="expected a JPEG"):
        embed.align(face)
    with pytest.raises(ValueError, match="got none"):
        embed.align(msgspec.structs.replace(face, chip_box=None))
    with pytest.raises(ValueError, match="got 4 numbers"):
        embed.align(msgspec.structs.replace(face, landmarks=(1.0,) * 4))
