"""Dropout: statistics, repeatability, gradient, independence of threads."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import random
from numbacnn.autograd import Tensor
from numbacnn.errors import DTypeError, OptionError
from numbacnn.functional import dropout
from tests.bits import assert_same_bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_the_right_share_and_scales_the_rest(p, dtype):
    random.manual_seed(0)
    x = np.full((100, 1000), 3, dtype)
    out = dropout(x, p).data
    assert out.dtype == dtype
    dropped = out == 0
    n = x.size
    assert abs(dropped.sum() - n * p) < 5 * np.sqrt(n * p * (1 - p))
    np.testing.assert_allclose(out[~dropped], 3 / (1 - p), rtol=1e-6)


def test_neighbours_and_calls_are_independent():
    random.manual_seed(1)
    first, second = (dropout(np.ones(200_000, np.float32)).data > 0 for _ in range(2))
    for lag in (1, 2, 8, 64, 4096):
        assert abs(np.corrcoef(first[:-lag], first[lag:])[0, 1]) < 0.012
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.012


def test_the_gradient_goes_through_what_was_kept():
    random.manual_seed(2)
    x = Tensor(np.ones((4, 6, 5, 7), np.float32).transpose(0, 3, 1, 2), requires_grad=True)
    out = dropout(x, 0.3)
    out.backward(np.ones(x.shape, np.float32))
    np.testing.assert_array_equal(x.grad, out.data)


def test_seed_and_generator_make_it_repeatable():
    x = np.ones(1000, np.float32)
    random.manual_seed(3)
    first = dropout(x).data
    assert (dropout(x).data != first).any()
    random.manual_seed(3)
    np.testing.assert_array_equal(dropout(x).data, first)
    a, b = (dropout(x, generator=np.random.default_rng(4)).data for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_ends_of_the_range_and_evaluation():
    x = np.arange(1.0, 9.0)
    np.testing.assert_array_equal(dropout(x, 0.0).data, x)
    np.testing.assert_array_equal(dropout(x, 1.0).data, 0)
    np.testing.assert_array_equal(dropout(x, 0.9, training=False).data, x)
    assert dropout(np.zeros((0, 3)), 0.5).shape == (0, 3)


def test_same_bits_on_any_number_of_threads():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    assert_same_bits(lambda: dropout(x, 0.5, generator=np.random.default_rng(1)).data)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), "half", True])
def test_refused_probabilities(p):
    with pytest.raises(OptionError, match="p must be a probability, from 0 to 1; got"):
        dropout(np.ones(3), p)


def test_refused_dtype():
    with pytest.raises(DTypeError, match="input must be float32 or float64, got int64"):
        dropout(np.ones(3, np.int64))
