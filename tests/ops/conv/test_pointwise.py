"""Convolutions of one tap, forced onto their own algorithm, against the oracle: every kernel, every cut."""

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.kernels.conv_pointwise import OWN_BYTES
from numbacnn.kernels.strided_tile import MOST_COLUMNS
from numbacnn.kernels.tile import VECTORS, tile_lanes
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import blocking, pointwise_plan
from tests import naive
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase, integers
from tests.ops.conv import checks

ALGORITHM = "pointwise"
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def check(case):
    """Forward and data gradient, and what follows a forward convolution."""
    checks.check(case, ALGORITHM, ["forward", "backward_data"])
    x, weight, bias, *_ = checks.integer_operands(case)
    y = checks.exact_result(case, "forward")
    residual = integers(y.shape, case.dtype, 5)
    got = conv_forward(x, weight, bias, residual=residual, activation="relu6", **case.options, algorithm=ALGORITHM)
    np.testing.assert_array_equal(got, np.clip(y + checks.along_channels(bias, case) + residual, 0, 6))


TAKEN = [case for case in CONV_CASES if "forward" in checks.directions(case, ALGORITHM)]


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_table(case):
    check(case)


@DTYPES
@pytest.mark.parametrize("lanes", range(1, 36))
def test_channels(lanes, dtype):
    """Every remainder of a panel, on both sides."""
    check(ConvCase(1, 2 + lanes % 7, lanes, (23, 13), (1, 1), dtype=dtype))
    check(ConvCase(1, lanes, 19, (3, 5), (1, 1), dtype=dtype))


@DTYPES
@pytest.mark.parametrize("rows", range(1, 15))
def test_few_rows(rows, dtype):
    """Rows so few that weights are read where they lie, and somewhat more."""
    check(ConvCase(rows, 37, 75, (1, 1), (1, 1), dtype=dtype))
    check(ConvCase(1, 36, 33, (rows,), (1,), groups=3, dtype=dtype))


@DTYPES
def test_few_rows_of_many_channels(dtype):
    check(ConvCase(2, 600, 700, (1, 1), (1, 1), dtype=dtype))
    check(ConvCase(MOST_COLUMNS, OWN_BYTES // 32 + 1, 3, (1,), (1,), dtype=dtype))


@DTYPES
@pytest.mark.parametrize("stride", [2, (1, 3), (3, 2), 7])
@pytest.mark.parametrize("groups", [1, 2])
def test_strides(stride, groups, dtype):
    check(ConvCase(2, 6, 10, (7, 9), (1, 1), stride, groups=groups, dtype=dtype))


def test_strides_of_other_ranks():
    check(ConvCase(3, 5, 17, (22,), (1,), 4))
    check(ConvCase(2, 3, 4, (5, 6, 7), (1, 1, 1), (2, 3, 2)))


def test_strided_rows_in_portions(tune):
    """As many as are copied at a time; the last portion is smaller, and may be a single row."""
    tune(pointwise_plan, COPIED_BYTES=0)
    for points in (31, 32, 33, 64, 65, 129):
        check(ConvCase(1, 5, 20, (2 * points,), (1,), 2))


@DTYPES
def test_blocks_of_source_channels(dtype, tune):
    """Sums that go on from what an earlier block has written; the last panel's are made at once."""
    tune(pointwise_plan, PANEL_BYTES=4096)
    check(ConvCase(1, 133, 37, (20, 15), (1, 1), dtype=dtype))
    check(ConvCase(1, 40, 133, (20, 15), (1, 1), dtype=dtype))
    check(ConvCase(1, 65, 70, (5, 5), (1, 1), groups=1, dtype=dtype))


def test_blocks_that_pack_weights_of_many(tune):
    tune(blocking, PACKED_BYTES=1024)
    check(ConvCase(1, 300, 40, (30, 20), (1, 1)))


def test_last_panel_too_deep_for_columns():
    depth = OWN_BYTES // 4 // 3 + 1
    check(ConvCase(1, depth, 19, (3, 4), (1, 1)))


@DTYPES
@pytest.mark.parametrize(("in_channels", "out_channels"), [(40, 75), (40, 3), (3, 40), (600, 21)])
def test_a_result_has_the_same_bits_whatever_is_computed_beside_it(in_channels, out_channels, dtype):
    """Any number of samples: few rows, one block's own weights, packed weights, portions."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((70, in_channels, 3, 5)).astype(dtype)
    weight = generator.standard_normal((out_channels, in_channels, 1, 1)).astype(dtype)
    bias = generator.standard_normal(out_channels).astype(dtype)
    y = conv_forward(x, weight, bias, algorithm=ALGORITHM)
    grad = conv_backward_data(y, weight, x.shape, algorithm=ALGORITHM)
    for samples in (1, 2, 17):
        few = conv_forward(x[:samples], weight, bias, algorithm=ALGORITHM)
        np.testing.assert_array_equal(few, y[:samples])
        few = conv_backward_data(y[:samples], weight, x[:samples].shape, algorithm=ALGORITHM)
        np.testing.assert_array_equal(few, grad[:samples])
    for points in (1, 2, 3, 4, 5, 8):
        part = (slice(1), slice(None), slice(1), slice(points))
        few = conv_forward(x[part], weight, bias, algorithm=ALGORITHM)
        np.testing.assert_array_equal(few, y[:1, :, :1, :points])
        few = conv_backward_data(y[:1, :, :1, :points], weight, x[part].shape, algorithm=ALGORITHM)
        np.testing.assert_array_equal(few, grad[:1, :, :1, :points])
    strided = conv_forward(x, weight, bias, stride=2, algorithm=ALGORITHM)
    np.testing.assert_array_equal(strided, y[:, :, ::2, ::2])


@DTYPES
def test_same_bits_for_any_number_of_threads(dtype):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 70, 30, 31)).astype(dtype)
    weight = generator.standard_normal((53, 70, 1, 1)).astype(dtype)
    for stride in (1, 2):
        options = {"stride": stride, "algorithm": ALGORITHM, "warn": False}
        y = conv_forward(x, weight, **options)
        del options["warn"]
        assert_same_bits(lambda: conv_forward(x, weight, stride=stride, algorithm=ALGORITHM, warn=False))  # noqa: B023
        assert_same_bits(lambda: conv_backward_data(y, weight, x.shape, **options))  # noqa: B023
    assert_same_bits(lambda: conv_forward(x[:1, :, :1, :1], weight, algorithm=ALGORITHM))


def test_nan_stays_where_it_is():
    x = np.zeros((1, 40, 9, 9), np.float32)
    x[0, 3, 4, 5] = np.nan
    for channels in (3, 40):
        y = conv_forward(x, np.ones((channels, 40, 1, 1), np.float32), activation="relu", algorithm=ALGORITHM)
        assert np.isnan(y[0, :, 4, 5]).all()
        assert np.isnan(y).sum() == channels


@pytest.mark.parametrize(
    ("weight_shape", "options", "direction", "reason"),
    [
        ((6, 6, 1, 3), {}, "forward", "the kernel has 3 taps"),
        ((6, 6, 1, 1), {"padding": (0, 1)}, "backward_data", "there is padding"),
        ((6, 6, 1, 1), {"stride": 2}, "backward_weight", r"the stride is \(1, 2, 2\)"),
    ],
)
def test_refusals(weight_shape, options, direction, reason):
    with pytest.raises(OptionError, match=f"algorithm='pointwise' cannot run {direction} of this .*: {reason}"):
        explain((1, 6, 8, 8), weight_shape, direction=direction, algorithm=ALGORITHM, **options)


def test_small_groups_are_left_to_others():
    shapes = (1, 32, 9, 9), (32, 4, 1, 1)
    choice = explain(*shapes, groups=8)
    assert dict(choice.refused)[ALGORITHM] == "groups of 4 and 4 channels are small"
    assert explain(*shapes, groups=8, algorithm=ALGORITHM).algorithm == ALGORITHM
    assert explain((1, 32, 9, 9), (32, 16, 1, 1), groups=2).algorithm == ALGORITHM


@pytest.mark.parametrize(
    ("summed", "results", "small"),
    [(4, 4, True), (4, 7, True), (8, 8, True), (5, 1, False), (8, 7, False), (4, 9, False)],
)
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
def test_sums_of_several_channels_are_left_to_others_where_results_fill_vectors(direction, summed, results, small):
    inputs, outputs = (summed, results) if direction == "forward" else (results, summed)
    choice = explain((1, 4 * inputs, 9, 9), (4 * outputs, inputs, 1, 1), groups=4, direction=direction)
    assert (choice.algorithm != ALGORITHM) == small


@pytest.mark.parametrize(("inputs", "outputs", "small"), [(12, 48, True), (48, 12, True), (13, 13, False)])
def test_weight_gradients_of_groups_with_a_small_side_are_left_to_others(inputs, outputs, small):
    choice = explain((1, 4 * inputs, 9, 9), (4 * outputs, inputs, 1, 1), groups=4, direction="backward_weight")
    assert (choice.algorithm != ALGORITHM) == small


def test_weight_gradient():
    x, grad = integers((3, 20, 5, 7), "float64"), integers((3, 9, 5, 7), "float64", 1)
    got = conv_backward_weight(grad, x, (9, 20, 1, 1), algorithm=ALGORITHM)
    np.testing.assert_array_equal(got, naive.conv_backward_weight(grad, x, (9, 20, 1, 1)))


def test_blocks_are_enough_whatever_is_small():
    for rows, depth, lanes in ((49, 320, 1280), (196, 2048, 512), (3136, 64, 256), (262144, 16, 3)):
        record = pointwise_plan.plan(pointwise_plan.Product(rows, 1, depth, lanes, 1, depth), 4)
        assert record.row_blocks * record.panel_blocks >= blocking.MIN_BLOCKS


LEAVES_THREE = (3, 2) if tile_lanes(4) // VECTORS > 4 else (0, 3)  # columns, unless they are most of a vector


@pytest.mark.parametrize(
    ("vectors", "more", "columns", "last"),
    [
        (0, 3, 3, 2),
        (0, -1, 0, 1),
        (1, 1, 0, 2),
        (2, 0, 0, 2),
        (2, 1, 1, 2),
        (2, 3, *LEAVES_THREE),
        (3, -1, 0, 3),
        (3, 1, 0, 2),
    ],
)
def test_last_panel(vectors, more, columns, last):
    """What whole panels leave goes by columns if it is little, else in one vector, in two, or three after a panel."""
    vector = tile_lanes(4) // VECTORS
    lanes, depth = vectors * vector + more, 40
    if more < 0 and vectors == 0:  # few lanes, and too many of their weights for columns
        lanes, depth = 3, OWN_BYTES // 12 + 1
    record = pointwise_plan.plan(pointwise_plan.Product(1000, 1, depth, lanes, 1, depth), 4)
    assert (record.columns, record.last) == (columns, last * vector)
    assert 0 <= record.padded - lanes < tile_lanes(4)


def test_a_vector_of_lanes_is_a_panel():
    vector = max(tile_lanes(itemsize) // VECTORS for itemsize in (4, 8))
    record = pointwise_plan.plan(pointwise_plan.Product(1000, 1, 40, vector, 1, 40), 4)
    assert record.columns == (vector if vector <= MOST_COLUMNS else 0)
    assert record.last == (2 * vector if record.columns else vector)


def test_full_panels_never_go_by_columns():
    for itemsize in (4, 8):
        width = tile_lanes(itemsize)
        record = pointwise_plan.plan(pointwise_plan.Product(1000, 1, 40, 2 * width, 1, 40), itemsize)
        assert (record.columns, record.panels) == (0, 2)
