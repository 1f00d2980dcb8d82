from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models import compare, fakes, registry
from models.manifest import models as known
from pipeline.settings import Settings

pytestmark = pytest.mark.models


def test_models_are_loaded_once_and_named_by_content(weights, models):
    assert registry.load(weights) is models
    assert set(models.names | models.embed_names) == set(known())
    assert all(len(sha) == 12 and int(sha, 16) for sha in (models.names | models.embed_names).values())
    assert registry.load(Settings(data=weights.data, face_score=0.9)) is not models


def test_every_thread_sees_the_same_bytes(models):
    pictures = [compare.drawing(520, 300), compare.drawing(640, 360), compare.drawing(600, 300)]

    def all_of(_):
        return [b"".join(part.tobytes() for part in models.look(each)) for each in pictures] + [
            models.embed(compare.aligned()).tobytes()]

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(all_of, range(12)))
    assert all(each == seen[0] for each in seen)


def test_the_fakes_answer_in_the_same_shapes(models):
    real, fake = models.look(compare.drawing()), fakes.look(fakes.draw(fakes.empty(), (50, 50, 100, 110)))
    assert type(real) is type(fake)
    for mine, theirs in zip(real, fake, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape[1:] == theirs.shape[1:]
    assert np.allclose(real.states.sum(axis=1), 1, atol=1e-3)


def test_a_face_too_small_to_judge_is_unknown_without_looking(weights):
    seen = registry.load(Settings(data=weights.data, face_pixels=500.0)).look(compare.drawing())
    assert seen.states.tolist() == [[0, 0, 0, 1]] * 3
