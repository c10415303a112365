"""What data gradients of few input channels have in common, by each algorithm that is made for them."""

import numpy as np
import pytest

from numbacnn.ops import conv_backward_data
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

pytestmark = pytest.mark.parametrize("algorithm", ["row_runs", "lane_sums"])


def test_no_batch(algorithm):
    checks.check(ConvCase(0, 3, 4, (40, 41), (3, 3)), algorithm, ["backward_data"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads_and_samples(algorithm, dtype):
    generator = np.random.default_rng(0)
    grad = generator.standard_normal((3, 20, 40, 45)).astype(dtype)
    weight = generator.standard_normal((20, 3, 5, 5)).astype(dtype)

    def gradient(grad):
        return conv_backward_data(grad, weight, (len(grad), 3, 40, 45), padding=2, algorithm=algorithm)

    assert_same_bits(lambda: gradient(grad))
    whole = gradient(grad)
    for n in range(3):
        assert whole[n : n + 1].tobytes() == gradient(grad[n : n + 1]).tobytes()


def test_nan_and_infinity_stay_where_they_are(algorithm):
    grad = np.zeros((1, 2, 40, 41), np.float32)
    grad[0, 0, 4, 4], grad[0, 1, 39, 40] = np.nan, np.inf
    result = conv_backward_data(grad, np.ones((2, 1, 3, 3), np.float32), (1, 1, 40, 41), padding=1, algorithm=algorithm)
    rows, columns = np.arange(40), np.arange(41)
    near = (np.abs(rows - 4) <= 1)[:, None] & (np.abs(columns - 4) <= 1)
    np.testing.assert_array_equal(np.isnan(result[0, 0]), near)
    np.testing.assert_array_equal(np.isinf(result[0, 0]), (rows >= 38)[:, None] & (columns >= 39))
