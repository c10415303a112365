"""Data gradients of few input channels by sums over lanes, forced, against the oracle."""

import itertools

import pytest

from numbacnn.kernels._target import target
from numbacnn.kernels.lane_sum_tile import POINTS
from numbacnn.ops import explain
from numbacnn.ops.conv import blocking, lane_sums
from numbacnn.ops.geometry import conv_geometry
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


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="with narrower vectors it is for single lines of taps")
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


@pytest.mark.skipif(blocking.WIDE_VECTORS, reason="with wider vectors a model decides")
def test_several_lines_of_taps_are_left_to_others_where_vectors_are_narrow():
    line = explain((1, 1, 20000), (16, 1, 7), direction="backward_data")
    assert "several lines of taps" not in dict(line.refused).get(ALGORITHM, "")
    assert (line.algorithm == ALGORITHM) == (target().lanes(4) == 8)  # row runs, beside vectors of fewer lanes
    lines = explain((1, 1, 40, 20000), (16, 1, 3, 7), direction="backward_data")
    assert "several lines of taps" in dict(lines.refused)[ALGORITHM]


def test_tiles_may_have_any_number_of_points():
    for sizes in POINTS.values():
        assert sizes[-1] == 1
        assert all(size <= 2 * smaller for size, smaller in itertools.pairwise(sizes))
