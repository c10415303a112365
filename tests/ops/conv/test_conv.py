"""Convolutions of arrays: the shared table of cases and random ones, every algorithm, bits, what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numbacnn.ops import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward
from numbacnn.ops.conv import plan
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase, in_order, integers
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL

ALGORITHMS = [module.name for module in plan.ALGORITHMS]
# Those that give sums of products, which small integers survive without any rounding.
EXACT = [module.name for module in plan.ALGORITHMS if getattr(module, "exact", True)]


# --------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("algorithm", ["auto", *EXACT])
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_table(case, algorithm):
    checks.check(case, algorithm)


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_bias_gradient(case):
    grad = checks.integer_operands(case).grad
    result = conv_backward_bias(grad)
    assert result.dtype == case.dtype
    np.testing.assert_array_equal(result, grad.sum(axis=(0, *range(2, grad.ndim)), dtype=np.float64))


def test_bias_gradient_of_many_positions_keeps_its_accuracy():
    grad = np.full((2, 3, 1 << 20), 0.1, np.float32)
    np.testing.assert_allclose(conv_backward_bias(grad), 0.1 * (2 << 20), rtol=1e-5)


@pytest.mark.parametrize("order", ["channels_last", "F", "sliced", "reversed", "read_only"])
@pytest.mark.parametrize("algorithm", EXACT)
def test_weight_of_any_memory_order(order, algorithm):
    kernel, groups = {
        "pointwise": ((1, 1), 1),
        "depthwise": ((3, 3), 32),
        "grouped": ((3, 3), 2),
        "strips": ((3, 3), 6),
    }.get(algorithm, ((3, 3), 1))
    outputs = groups if algorithm == "depthwise" else 12
    inputs = {"depthwise": groups, "grouped": 10}.get(algorithm, 6)
    case = ConvCase(2, inputs, outputs, (7, 8), kernel, groups=groups)
    x, weight, _, grad, _ = checks.integer_operands(case)
    weight, options = in_order(weight, order), {**case.options, "algorithm": algorithm}
    taken = checks.directions(case, algorithm)
    if "forward" in taken:
        np.testing.assert_array_equal(conv_forward(x, weight, **options), checks.exact_result(case, "forward"))
    if "backward_data" in taken:
        grad_x = conv_backward_data(grad, weight, case.input_shape, **options)
        np.testing.assert_array_equal(grad_x, checks.exact_result(case, "backward_data"))


@pytest.mark.parametrize("channels", [(3, 4), (40, 4), (4, 4)], ids=["row_runs", "indirect", "depthwise"])
def test_bias_of_any_strides(channels):
    in_channels, out_channels = channels
    groups = 4 if in_channels == 4 else 1
    x, weight = integers((2, in_channels, 5, 5), "float32", 1), integers((4, in_channels // groups, 3, 3), "float32", 2)
    bias = integers((2 * out_channels,), "float32", 3)[::-2]
    expected = conv_forward(x, weight, bias.copy(), groups=groups)
    np.testing.assert_array_equal(conv_forward(x, weight, bias, groups=groups), expected)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_input(rank, groups):
    case = ConvCase(1, 6, 6, (9, 8, 7)[:rank], (3, 2, 3)[:rank], stride=2, padding=1, groups=groups)
    x, weight, bias, grad, _ = checks.integer_operands(case)
    y, grad_x, grad_weight = (checks.exact_result(case, direction) for direction in plan.DIRECTIONS)
    assert (conv_forward(x[0], weight, bias, **case.options) == (y + checks.along_channels(bias, case))[0]).all()
    result = conv_backward_data(grad[0], weight, case.input_shape[1:], **case.options)
    assert result.shape == case.input_shape[1:]
    assert (result == grad_x[0]).all()
    assert (conv_backward_weight(grad[0], x[0], case.weight_shape, **case.options) == grad_weight).all()


@pytest.mark.parametrize("groups", [1, 4])
def test_empty_batch(groups):
    x, weight = np.ones((0, 4, 7, 8), np.float32), np.ones((8, 4 // groups, 3, 3), np.float32)
    y = conv_forward(x, weight, np.ones(8, np.float32), groups=groups)
    assert y.shape == (0, 8, 5, 6)
    assert conv_backward_data(y, weight, x.shape, groups=groups).shape == x.shape
    assert (conv_backward_weight(y, x, weight.shape, groups=groups) == np.zeros(weight.shape)).all()
    assert (conv_backward_bias(y) == np.zeros(8)).all()


# -------------------------------------------------------------------------------------------------- reproducible bits


BITS = [
    ConvCase(2, 40, 33, (17, 18), (3, 3), padding=1, name="many points"),
    ConvCase(1, 150, 70, (9, 9), (3, 3), padding=1, name="few points, unless there are several samples"),
    ConvCase(2, 20, 24, (21, 40), (3, 3), padding=12, dilation=12, name="taps that read padding alone"),
    ConvCase(1, 30, 21, (37, 21), (3, 3), 2, 1, dtype="float64", name="phases"),
    ConvCase(2, 12, 24, (900,), (9,), padding=4, groups=3, name="groups"),
    ConvCase(1, 70, 40, (19, 19), (1, 1), name="pointwise"),
    ConvCase(2, PANEL + 8, PANEL + 8, (31, 29), (3, 3), padding=1, groups=PANEL + 8, name="depthwise"),
    ConvCase(2, 3, 20, (40, 41), (3, 3), 2, 1, name="few input channels"),
    ConvCase(2, 10, 12, (9, 11, 10), (3, 3, 3), padding=1, padding_mode="reflect", name="3-D"),
    ConvCase(2, 32, 3, (19, 21), (3, 3), padding=1, name="few output channels"),
    ConvCase(2, 45, 2, (95,), (81,), padding=20, dtype="float64", name="many taps to few output channels"),
]
bits = pytest.mark.parametrize("case", BITS, ids=str)


@bits
def test_same_bits_on_any_number_of_threads_and_every_driver(case):
    x, weight, _, grad, _ = checks.normal_operands(case)
    assert_same_bits(
        lambda: (
            conv_forward(x, weight, **case.options),
            conv_backward_data(grad, weight, x.shape, **case.options),
            conv_backward_weight(grad, x, weight.shape, **case.options),
            conv_backward_bias(grad),
        )
    )


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@bits
def test_a_batch_gives_the_bits_of_its_samples(case, algorithm):
    case = case._replace(batch=5)
    x, weight, _, grad, _ = checks.normal_operands(case)
    options, taken = {**case.options, "algorithm": algorithm}, checks.directions(case, algorithm)
    for part in [slice(i, i + 1) for i in range(5)] + [slice(0, 2), slice(2, 5)]:
        if "forward" in taken:
            whole = conv_forward(x, weight, **options)[part]
            assert whole.tobytes() == conv_forward(x[part], weight, **options).tobytes()
        if "backward_data" in taken:
            whole = conv_backward_data(grad, weight, x.shape, **options)[part]
            assert whole.tobytes() == conv_backward_data(grad[part], weight, x[part].shape, **options).tobytes()


# ------------------------------------------------------------------------------------------------------------- specials

SPECIAL = [
    ConvCase(1, 4, 4, (9, 9), (3, 3), padding=1, name="indirect"),
    ConvCase(1, 40, 40, (9, 9), (1, 1), name="pointwise"),
    ConvCase(1, PANEL, PANEL, (9, 9), (3, 3), padding=1, groups=PANEL, name="depthwise"),
    ConvCase(1, 4, 4, (9, 9), (3, 3), padding=1, groups=4, name="strips"),
    ConvCase(1, 4, 40, (9, 9), (3, 3), padding=1, name="row_runs"),
]


@pytest.mark.parametrize("case", SPECIAL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_reach_just_what_reads_them(case, dtype):
    reach = case.kernel[0] // 2
    x, weight = np.zeros(case.input_shape, dtype), np.ones(case.weight_shape, dtype)
    x[0, 1, 4, 4], x[0, 2, 0, 0] = np.nan, np.inf
    y = conv_forward(x, weight, **case.options, algorithm=case.name)
    rows = np.arange(9)
    nan, infinite = np.abs(rows - 4) <= reach, rows <= reach
    for channel in range(case.out_channels):
        sees_nan, sees_infinity = (case.groups == 1 or channel == c for c in (1, 2))
        np.testing.assert_array_equal(np.isnan(y[0, channel]), nan[:, None] & nan & sees_nan)
        np.testing.assert_array_equal(np.isinf(y[0, channel]), infinite[:, None] & infinite & sees_infinity)
    if "backward_data" in checks.directions(case, case.name):
        grad_x = conv_backward_data(y, weight, x.shape, **case.options, algorithm=case.name)
        assert np.isnan(grad_x[0, 1]).sum() == (4 * reach + 1) ** 2
    grad_weight = conv_backward_weight(np.ones_like(y), x, weight.shape, **case.options)
    channels = grad_weight.reshape(case.out_channels, -1, *case.kernel)
    channels = channels[1, 0] if case.groups > 1 else channels[0, 1]
    assert np.isnan(channels).all()


@pytest.mark.parametrize("case", SPECIAL, ids=str)
def test_infinite_weights_make_nan_at_most_where_they_meet_padding(case):
    """A product with padding is 0 * inf or left out, as the algorithm likes; elsewhere the result is infinite."""
    x, weight = np.ones(case.input_shape, np.float32), np.full(case.weight_shape, np.inf, np.float32)
    y = conv_forward(x, weight, **case.options, algorithm=case.name)
    border = case.kernel[0] // 2
    assert np.isposinf(y[:, :, border : 9 - border, border : 9 - border]).all()
    assert not np.isfinite(y).any()


def test_zero_padding_of_finite_data_makes_no_nan():
    """What lies behind an input in memory must not leak into its padding, whatever it is."""
    x = np.full((1, 5, 12, 12), np.nan, np.float32)[:, :, 2:-2, 2:-2]
    x[...] = 1
    for groups in (1, 5):
        y = conv_forward(x, np.ones((5, 5 // groups, 5, 5), np.float32), padding=4, groups=groups)
        assert np.isfinite(y).all()
        assert y.max() == 25 * 5 / groups


def test_results_are_fresh_arrays():
    x, weight = integers((1, 3, 5, 5)), integers((4, 3, 1, 1))
    before = x.copy(), weight.copy()
    y = conv_forward(x, weight)
    y[...] = 0
    assert (x == before[0]).all()
    assert (weight == before[1]).all()
    assert conv_forward(x, weight).any()


# ------------------------------------------------------------------------------------------------------ random geometry


@st.composite
def small_cases(draw):
    rank = draw(st.integers(1, 3))

    def per_axis(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    size, stride, dilation = per_axis(1, 8), per_axis(1, 4), per_axis(1, 3)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    if mode == "reflect":
        size = tuple(extent + 1 for extent in size)
    sides = [(draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(rank)]
    most = [(i + p + q - 1) // d + 1 for i, (p, q), d in zip(size, sides, dilation, strict=True)]
    kernel = tuple(draw(st.integers(1, min(5, k))) for k in most)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return ConvCase(
        draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 20)),
        groups * draw(st.integers(1, 20)),
        size,
        kernel,
        stride,
        tuple(sides),
        dilation,
        groups,
        mode,
        draw(st.sampled_from(["float32", "float64"])),
        draw(st.sampled_from(["C", "channels_last"])),
    )


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=small_cases())
def test_random_geometry(case):
    checks.check(case)
    checks.check(case, "indirect")
