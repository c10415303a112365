"""The depthwise algorithm, forced, against the oracle; how rows become strips."""

import itertools

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import depthwise, depthwise_strips
from numbacnn.ops.geometry import conv_geometry
from tests import naive
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase, conv_arrays, integers

ALGORITHM = "depthwise"


def depthwise_case(channels, size, kernel, stride=1, padding=0, dilation=1, multiplier=1, batch=1, **more):
    return ConvCase(batch, channels, channels * multiplier, size, kernel, stride, padding, dilation, channels, **more)


def results(case):
    """The three directions, biases included, and what they should be."""
    x, weight, bias = conv_arrays(case)
    options = {**case.options, "algorithm": ALGORITHM}
    in_bias = integers((case.in_channels,), case.dtype, seed=4)
    along = (-1, *[1] * len(case.size))
    expected = naive.conv_forward(x, weight, **case.options)
    grad = integers(expected.shape, case.dtype, seed=3)
    actual = (
        conv_forward(x, weight, bias, **options),
        conv_backward_data(grad, weight, case.input_shape, bias=in_bias, **options),
        conv_backward_weight(grad, x, case.weight_shape, **options),
    )
    grad_weight = naive.conv_backward_weight(grad, x, case.weight_shape, **case.options) if case.batch else 0
    grad_x = naive.conv_backward_data(grad, weight, case.input_shape, **case.options)
    return actual, (expected + bias.reshape(along), grad_x + in_bias.reshape(along), grad_weight)


def check(case):
    actual, expected = results(case)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == case.dtype


@pytest.mark.parametrize("case", [case for case in CONV_CASES if 1 < case.groups == case.in_channels], ids=str)
def test_table(case):
    check(case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8, 17, 33])
def test_channels(channels, multiplier, dtype):
    if channels == 1 and multiplier > 1:
        pytest.skip("dense")
    check(depthwise_case(channels, (7, 9), (3, 2), padding=1, multiplier=multiplier, batch=3, dtype=dtype))


def test_without_bias():
    case = depthwise_case(6, (8, 9), (3, 3), 2, 1)
    x, weight, _ = conv_arrays(case)
    y = conv_forward(x, weight, **case.options, algorithm=ALGORITHM)
    np.testing.assert_array_equal(y, naive.conv_forward(x, weight, **case.options))
    grad = integers(y.shape)
    np.testing.assert_array_equal(
        conv_backward_data(grad, weight, x.shape, **case.options, algorithm=ALGORITHM),
        naive.conv_backward_data(grad, weight, x.shape, **case.options),
    )


def test_empty_batch():
    check(depthwise_case(5, (6, 7), (3, 3), batch=0))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3), (1, 2, 3, 4))))
def test_strides_dilations_and_padding_modes(stride, dilation, mode):
    """Every way that points and taps are dealt out to strips."""
    check(depthwise_case(3, (6, 14), (2, 4), stride, ((1, 0), (5, 4)), (1, dilation), padding_mode=mode))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_in_depth_and_height(mode):
    check(depthwise_case(4, (5, 6, 7), (3, 3, 3), (1, 2, 1), 2, (1, 1, 2), padding_mode=mode, multiplier=2))


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_that_wraps_repeatedly(mode):
    check(depthwise_case(3, (4, 5), (3, 4), 1, (9, 11), padding_mode=mode))


@pytest.mark.parametrize("width", [*range(1, 20), 31, 64, 65])
def test_number_of_points(width):
    """Every way that tiles of 8 and 4 points cover a row."""
    check(depthwise_case(9, (2, width + 2), (1, 3)))


@pytest.mark.parametrize("taps", [*range(1, 20), 31, 33])
def test_number_of_taps(taps):
    """Every way that runs of taps make up a kernel row."""
    check(depthwise_case(4, (taps + 12,), (taps,), padding=taps // 2))


@pytest.mark.parametrize(
    "case",
    [
        depthwise_case(4, (1500,), (31,), padding=15, name="1-D in segments"),
        depthwise_case(4, (1501,), (5,), 2, 2, padding_mode="circular", name="1-D in segments circular"),
        depthwise_case(17, (3, 700), (3, 3), padding=1, dilation=(1, 3), name="2-D in segments"),
        depthwise_case(2, (40, 41), (31, 31), padding=15, name="31x31"),
        depthwise_case(1, (70, 75), (65, 63), padding=3, name="one vector per panel"),
        depthwise_case(40, (9, 5), (3, 3), (5, 4), name="stride larger than kernel"),
        depthwise_case(3, (30, 30), (3, 3), padding=9, dilation=9, name="dilated"),
        depthwise_case(70, (7, 7), (7, 7), padding=3, batch=2, name="kernel as large as input"),
        depthwise_case(3, (4, 5), (9, 9), padding=3, name="taps that read padding alone"),
        depthwise_case(12, (6, 7, 9), (3, 3, 3), 1, 1, batch=2, name="3-D"),
        depthwise_case(12, (6, 12, 11), (3, 3, 3), (1, 2, 2), 1, name="3-D strided"),
        depthwise_case(33, (9, 8), (3, 3), 2, 1, multiplier=5, name="multiplier"),
        depthwise_case(2, (9, 8), (3, 3), 1, 1, multiplier=40, name="large multiplier"),
    ],
    ids=str,
)
def test_shapes(case):
    check(case)


@pytest.mark.parametrize("direction", ["forward", "backward_data", "backward_weight"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits(direction, dtype):
    case = depthwise_case(40, (20, 19), (5, 3), (1, 2), 2, batch=2, dtype=dtype)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (case.input_shape, case.weight_shape))
    options = {**case.options, "algorithm": ALGORITHM}
    grad = rng.standard_normal(conv_forward(x, weight, **options).shape).astype(dtype)
    run = {
        "forward": lambda: conv_forward(x, weight, **options),
        "backward_data": lambda: conv_backward_data(grad, weight, x.shape, **options),
        "backward_weight": lambda: conv_backward_weight(grad, x, weight.shape, **options),
    }[direction]
    assert_same_bits(run)


def test_not_a_number_stays_in_its_channel_and_window():
    x = np.zeros((1, 20, 9, 9), np.float32)
    x[0, 11, 4, 4] = np.nan
    weight = np.zeros((20, 1, 3, 3), np.float32)
    y = conv_forward(x, weight, padding=1, groups=20, algorithm=ALGORITHM)
    expected = np.zeros(y.shape, bool)
    expected[0, 11, 3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_refusals():
    assert explain((1, 8, 5, 5), (8, 1, 3, 3), groups=8).algorithm == ALGORITHM
    for shape, weight_shape, groups, reason in [
        ((1, 8, 5, 5), (8, 2, 3, 3), 4, "each group has 2 input channels"),
        ((1, 1, 5, 5), (8, 1, 3, 3), 1, "a single input channel"),
        ((1, 2, 300, 300), (2, 1, 300, 300), 2, "do not fit"),
    ]:
        with pytest.raises(OptionError, match=reason):
            explain(shape, weight_shape, groups=groups, algorithm=ALGORITHM)


@pytest.mark.parametrize(
    ("batch", "channels", "size", "kernel", "stride"),
    [(8, 128, (56, 56), 3, 1), (1, 960, (7, 7), 3, 1), (1, 96, (56, 56), 7, 1), (1, 64, (16000,), 31, 1)],
)
def test_enough_blocks(batch, channels, size, kernel, stride):
    taps = (kernel,) * len(size)
    g = conv_geometry((batch, channels, *size), (channels, 1, *taps), stride, kernel // 2, 1, channels)
    for itemsize in (4, 8):
        plans = [depthwise.plan_data(g, itemsize, d) for d in ("forward", "backward_data")]
        plans.append(depthwise.plan_backward_weight(g, itemsize))
        assert all(plan.blocks >= 8 for plan in plans)


@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3, 4, 6), repeat=2)))
def test_strips_cover_every_product(stride, dilation):
    """Point a + i of a run reads tap t at position a + i + t of its strip, as the geometry wants it."""
    g = conv_geometry((1, 1, 60), (1, 1, 5), stride, 3, dilation)
    (c,) = depthwise_strips.forward_classes(g)
    row = depthwise_strips.plan_row(g, [c], 1000, {})
    strips = row.strips.reshape(-1, 3)
    seen = set()
    for start, step, points, first, count, _ in row.phases.reshape(-1, 6):
        for position, weight, taps in row.runs[first : first + count]:
            (strip,) = [s for s in strips if s[0] <= position < s[0] + s[1]]
            for a, t in itertools.product(range(points), range(taps)):
                coordinate = strip[2] + (position - strip[0] + a + t) * row.step
                output, tap = start + step * a, row.order[weight + t]
                assert coordinate == stride * output + dilation * tap - 3
                seen.add((output, tap))
    assert len(seen) == g.output[2] * 5
