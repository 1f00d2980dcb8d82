"""Boxes."""

import numpy as np

from pipeline import geometry


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def test_iou_of_equal_half_and_apart() -> None:
    found = geometry.iou(boxes((0, 0, 10, 10)), boxes((0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30)))
    assert np.allclose(found, [[1, 1 / 3, 0]])


def test_a_box_without_area_shares_nothing() -> None:
    assert geometry.iou(boxes((5, 5, 5, 5)), boxes((5, 5, 5, 5), (0, 0, 9, 9))).tolist() == [[0, 0]]
    assert geometry.iou(boxes(), boxes((0, 0, 1, 1))).shape == (0, 1)


def test_growing_moves_each_side_by_a_share() -> None:
    assert geometry.grow(boxes((10, 10, 20, 30)), 0.5).tolist() == [[5, 0, 25, 40]]


def test_assignment_is_the_best_as_a_whole_and_leaves_out_the_poor() -> None:
    # greedy would take 0.9 first and be left with 0.1
    score = np.array([[0.9, 0.8], [0.8, 0.1]])
    assert geometry.assign(score, 0.2) == [(0, 1), (1, 0)]
    assert geometry.assign(np.array([[0.9, 0.0], [0.0, 0.1]]), 0.2) == [(0, 0)]
    assert geometry.assign(np.zeros((0, 3)), 0.2) == []
