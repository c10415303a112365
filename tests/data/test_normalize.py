"""Normalisation with statistics of the training set."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.data import Normalize
from numbacnn.errors import ShapeError


@pytest.mark.parametrize("spatial", [(9,), (4, 5), (3, 2, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_channel_gets_mean_zero_and_variance_one(spatial, dtype):
    x = np.random.default_rng(0).normal(3, 2, (7, 3, *spatial)).astype(dtype)
    x[:, 2] *= 100
    normalize = Normalize.fit(x)
    z = normalize(x)
    axes = (0, *range(2, x.ndim))
    assert z.dtype == dtype
    np.testing.assert_allclose(z.mean(axis=axes, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=axes, dtype=np.float64), 1, rtol=1e-5)
    np.testing.assert_allclose(normalize.inverse(z), x, rtol=1e-4, atol=1e-4)


def test_constant_channel_is_only_shifted():
    x = np.full((4, 1, 3), 5.0)
    normalize = Normalize.fit(x)
    np.testing.assert_array_equal(normalize(x), 0)
    np.testing.assert_array_equal(normalize.inverse(normalize(x)), x)


def test_wrong_channel_count():
    with pytest.raises(ShapeError, match=r"expected 2 channels in axis 1, got an array of shape \(4, 3, 5\)"):
        Normalize([0, 0], [1, 1])(np.zeros((4, 3, 5)))
    with pytest.raises(ShapeError, match="one value per channel"):
        Normalize([0, 0], [1])
