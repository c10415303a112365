"""Sums over whole arrays."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.ops.reduce import sum_of_squares
from tests.bits import assert_same_bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 16384, 100_001])
def test_sum_of_squares(size, dtype):
    x = np.random.default_rng(0).integers(-9, 10, size).astype(dtype)
    assert sum_of_squares(x) == (x.astype(np.int64) ** 2).sum()
    assert sum_of_squares(np.repeat(x, 2)[::2]) == sum_of_squares(x)


def test_nan_and_bits():
    x = np.random.default_rng(1).standard_normal((11, 37, 301)).astype(np.float32)
    assert_same_bits(lambda: np.float64(sum_of_squares(x)))
    x[3, 4, 5] = np.nan
    assert np.isnan(sum_of_squares(x))
