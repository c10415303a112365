"""Data gradients of few input channels by sums over lanes, forced, against the oracle."""

import itertools

import numpy as np
import pytest

from numbacnn.kernels.lane_sum_tile import POINTS
from numbacnn.ops import conv_backward_data, explain
from numbacnn.ops.conv import blocking, lane_sums
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "lane_sums"


def check(case):
    checks.check(case, ALGORITHM, ["backward_data"])


@pytest.mark.parametrize("in_channels", [1, 2, 3])
@pytest.mark.parametrize("out_channels", [1, 7, 16, 45])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels(in_channels, out_channels, dtype, guarded):
    check(ConvCase(2, in_channels, out_channels, (7, 19), (3, 4), padding=1, dtype=dtype))


@pytest.mark.parametrize("taps", range(1, 9))
@pytest.mark.parametrize("padding", [0, 1, 9])
def test_taps_and_padding(taps, padding, guarded):
    """Every way that a line of taps is cut into chains, inside the image and beyond its edges."""
    check(ConvCase(1, 2, 16, (3, 30), (1, taps), padding=(0, padding)))


@pytest.mark.parametrize("columns", [*range(1, 17), 27, 29])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_number_of_positions(columns, in_channels, guarded):
    """Every way that tiles fill a line."""
    check(ConvCase(1, in_channels, 16, (columns,), (3,), padding=2))


@pytest.mark.parametrize("dilation", [1, 2, 3, (4, 1, 7)])
def test_dilations(dilation, guarded):
    check(ConvCase(2, 3, 17, (18, 9, 31), (2, 3, 4), padding=((1, 0), 2, (3, 2)), dilation=dilation))


@pytest.mark.parametrize("shape", [(9000,), (5, 2000), (70, 60), (20, 6, 9)])
def test_blocks(shape, guarded):
    """Cut along columns, rows and planes, or several of them."""
    check(ConvCase(1, 1, 8, shape, (3,) * len(shape), padding=1))


def test_no_batch():
    check(ConvCase(0, 3, 4, (40, 41), (3, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads_and_samples(dtype):
    generator = np.random.default_rng(0)
    grad = generator.standard_normal((3, 20, 40, 45)).astype(dtype)
    weight = generator.standard_normal((20, 3, 5, 5)).astype(dtype)

    def gradient(grad):
        return conv_backward_data(grad, weight, (len(grad), 3, 40, 45), padding=2, algorithm=ALGORITHM)

    assert_same_bits(lambda: gradient(grad))
    whole = gradient(grad)
    for n in range(3):
        assert whole[n : n + 1].tobytes() == gradient(grad[n : n + 1]).tobytes()


def test_nan_and_infinity_stay_where_they_are():
    grad = np.zeros((1, 2, 40, 41), np.float32)
    grad[0, 0, 4, 4], grad[0, 1, 39, 40] = np.nan, np.inf
    result = conv_backward_data(grad, np.ones((2, 1, 3, 3), np.float32), (1, 1, 40, 41), padding=1, algorithm=ALGORITHM)
    rows, columns = np.arange(40), np.arange(41)
    near = (np.abs(rows - 4) <= 1)[:, None] & (np.abs(columns - 4) <= 1)
    np.testing.assert_array_equal(np.isnan(result[0, 0]), near)
    np.testing.assert_array_equal(np.isinf(result[0, 0]), (rows >= 38)[:, None] & (columns >= 39))


@pytest.mark.parametrize(
    ("shapes", "options", "reason"),
    [
        (((1, 4, 9, 9), (4, 4, 3, 3)), {}, "4 input channels are more than 3"),
        (((1, 2, 9, 9), (4, 1, 3, 3)), {"groups": 2}, "groups is 2, not 1"),
        (((1, 1, 9, 9), (4, 1, 3, 3)), {"padding": 1, "padding_mode": "reflect"}, "padding repeats the image"),
        (((1, 1, 9, 9), (4, 1, 3, 3)), {"stride": (1, 2)}, "the stride is (1, 1, 2)"),
        (((1, 1, 1100, 9), (4, 1, 1025, 1)), {"dilation": (1, 2)}, "1025 lines of taps are more than 1024"),
    ],
)
def test_what_is_refused(shapes, options, reason):
    assert lane_sums.accepts("backward_data", conv_geometry(*shapes, **options)) == reason


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="nothing was measured beside narrower vectors")
@pytest.mark.parametrize(
    ("shapes", "options", "algorithm"),
    [
        (((1, 1, 64, 64, 64), (16, 1, 3, 3, 3)), {"padding": 1}, ALGORITHM),
        (((1, 1, 20000), (16, 1, 7)), {"padding": 6, "dilation": 2}, ALGORITHM),
        (((1, 3, 100, 100), (64, 3, 3, 3)), {"padding": 1}, "row_runs"),
        (((1, 1, 100, 100), (64, 1, 3, 3)), {"stride": 2}, "row_runs"),
        (((1, 1, 64, 64), (4, 1, 3, 3)), {}, "turned"),
    ],
)
def test_a_model_decides_where_vectors_are_wide(shapes, options, algorithm):
    assert explain(*shapes, **options, direction="backward_data").algorithm == algorithm


def test_tiles_may_have_any_number_of_points():
    for sizes in POINTS.values():
        assert sizes[-1] == 1
        assert all(size <= 2 * smaller for size, smaller in itertools.pairwise(sizes))
