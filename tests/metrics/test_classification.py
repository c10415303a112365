"""Accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from numbacnn.errors import ShapeError
from numbacnn.metrics import accuracy


def test_labels_and_scores_agree():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 4))
    target = rng.integers(0, 4, 50)
    expected = sum(int(np.argmax(row) == t) for row, t in zip(scores, target, strict=True)) / 50
    assert accuracy(scores, target) == accuracy(scores.argmax(1), target) == expected


def test_dense_targets():
    scores = np.zeros((2, 3, 4, 5))
    scores[:, 1] = 1
    target = np.ones((2, 4, 5), int)
    target[0, 0] = 2
    assert accuracy(scores, target) == 35 / 40


def test_ties_go_to_the_first_class():
    assert accuracy([[1.0, 1.0]], [0]) == 1


def test_no_targets_is_nan():
    assert math.isnan(accuracy(np.empty((0, 3)), np.empty(0, int)))


@pytest.mark.parametrize(("predicted", "target"), [((3,), (4,)), ((3, 2), (4,)), ((4, 2, 5), (4,)), ((4, 0), (4,))])
def test_shapes_that_do_not_belong_together(predicted, target):
    with pytest.raises(ShapeError, match="predicted must have the shape of target"):
        accuracy(np.zeros(predicted), np.zeros(target))
