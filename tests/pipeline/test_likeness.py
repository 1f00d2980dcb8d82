import numpy as np
import pytest

from pipeline import likeness


@pytest.mark.parametrize("masked", [0, 1, 2])
def test_a_threshold_and_its_rate_of_false_matches_are_one_thing(masked):
    for rate in (0.05, 1e-2, 3e-3, 1e-3, 2e-4, 1e-4):
        assert likeness.false_matches(likeness.threshold(rate, masked), masked) == pytest.approx(rate)
    assert likeness.false_matches(-1.0, masked) == 1.0
    with pytest.raises(ValueError, match=r"between 0\.00001 and 0\.1, got 0\.5"):
        likeness.threshold(0.5, masked)


@pytest.mark.parametrize("masked", [0, 1, 2])
def test_the_chance_of_one_person_rises_with_the_cosine(masked):
    chances = [likeness.chance(cosine, masked) for cosine in np.linspace(-1, 1, 41)]
    assert chances == sorted(chances)
    assert chances[0] < 0.001
    assert chances[-1] > 0.999
    assert likeness.chance(likeness.POINTS[masked].even, masked) == pytest.approx(0.5)


def test_two_masked_faces_have_to_be_more_alike_for_the_same_number():
    cosines = np.full((2, 2), 0.35, np.float32)
    masked = np.array([False, True])
    levelled = likeness.levelled(cosines, masked, masked)
    assert levelled[0, 0] == np.float32(0.35)
    assert levelled[1, 1] < 0.34
    assert levelled[0, 1] == levelled[1, 0]
    for rate in (1e-2, 1e-4):
        both = np.full((1, 1), likeness.threshold(rate, 2), np.float32)
        assert likeness.levelled(both, masked[1:], masked[1:])[0, 0] == pytest.approx(likeness.threshold(rate, 0))
