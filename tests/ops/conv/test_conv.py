"""Convolutions of arrays: the shared table of cases, every algorithm, every blocking, against naive loops with `==`."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.kernels import conv_gemm
from numbacnn.kernels.tile import MAX_ROWS, MIN_GEMM_ROWS
from numbacnn.ops import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import blocking, gemm, plan
from numbacnn.ops.geometry import conv_geometry
from numbacnn.ops.layout import is_channels_last
from tests import naive
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase, conv_arrays, in_order, integers
from tests.ops.conv.plans import forget_plans

ALGORITHMS = [module.name for module in plan.ALGORITHMS]
# Those that give sums of products, which small integers survive without any rounding.
EXACT = [module.name for module in plan.ALGORITHMS if getattr(module, "exact", True)]


def directions(case, algorithm):
    """The directions of a case that an algorithm takes."""
    geometry = conv_geometry(case.input_shape, case.weight_shape, **case.options)
    return [d for d in plan.DIRECTIONS if algorithm == "auto" or plan.module(algorithm).accepts(d, geometry) is None]


@functools.cache
def operands(case):
    """Input, weight, bias and output gradient (in the case's memory order), and what each direction should give."""
    x, weight, bias = conv_arrays(case)
    y = naive.conv_forward(x, weight, **case.options)
    grad = in_order(integers(y.shape, case.dtype, 3), case.order)
    grad_x = naive.conv_backward_data(grad, weight, case.input_shape, **case.options)
    grad_weight = np.zeros(case.weight_shape)
    if case.batch:
        grad_weight = naive.conv_backward_weight(grad, x, case.weight_shape, **case.options)
    return x, weight, bias, grad, y, grad_x, grad_weight


def along_channels(bias, like):
    return bias.reshape(-1, *[1] * (like.ndim - 2))


def assert_image(actual, expected, dtype):
    """Values, and what every image-like result promises."""
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == dtype
    assert is_channels_last(actual)


def check(case, algorithm="auto"):
    """Every direction that the algorithm takes equals the oracle's, with and without bias."""
    x, weight, bias, grad, y, grad_x, grad_weight = operands(case)
    options = {**case.options, "algorithm": algorithm, "precision": "exact"}
    taken = directions(case, algorithm)
    if "forward" in taken:
        assert_image(conv_forward(x, weight, **options), y, case.dtype)
        assert_image(conv_forward(x, weight, bias, **options), y + along_channels(bias, y), case.dtype)
    if "backward_data" in taken:
        assert_image(conv_backward_data(grad, weight, case.input_shape, **options), grad_x, case.dtype)
        bias = integers((case.in_channels,), case.dtype, 4)
        result = conv_backward_data(grad, weight, case.input_shape, bias=bias, **options)
        assert_image(result, grad_x + along_channels(bias, grad_x), case.dtype)
    if "backward_weight" in taken:
        result = conv_backward_weight(grad, x, case.weight_shape, **options)
        np.testing.assert_array_equal(result, grad_weight)
        assert result.dtype == case.dtype
        assert result.flags.c_contiguous


# --------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("algorithm", ["auto", *EXACT])
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_table(case, algorithm):
    check(case, algorithm)


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_bias_gradient(case):
    grad = operands(case)[3]
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
    x, weight, _, grad, y, grad_x, _ = operands(case)
    weight, options = in_order(weight, order), {**case.options, "algorithm": algorithm}
    np.testing.assert_array_equal(conv_forward(x, weight, **options), y)
    if "backward_data" in directions(case, algorithm):
        np.testing.assert_array_equal(conv_backward_data(grad, weight, case.input_shape, **options), grad_x)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_input(rank, groups):
    case = ConvCase(1, 6, 6, (9, 8, 7)[:rank], (3, 2, 3)[:rank], stride=2, padding=1, groups=groups)
    x, weight, bias, grad, y, grad_x, grad_weight = operands(case)
    assert (conv_forward(x[0], weight, bias, **case.options) == (y + along_channels(bias, y))[0]).all()
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


# ---------------------------------------------------------------------------------------------------------- blocking

BLOCKED = [
    ConvCase(1, 3, 20, (260,), (200,), padding=40, name="200 taps"),
    ConvCase(1, 20, 9, (260,), (200,), padding=40, name="200 taps of many channels"),
    ConvCase(2, 10, 9, (15, 16), (11, 11), padding=5, name="121 taps"),
    ConvCase(1, 10, 9, (25, 17), (11, 11), stride=4, padding=2, name="121 taps strided"),
    ConvCase(1, 300, 70, (8, 9), (3, 3), padding=1, name="few points pack their own weights"),
    ConvCase(3, 300, 70, (12, 13), (3, 3), padding=1, name="many points share packed weights"),
    ConvCase(3, 300, 70, (12, 13), (3, 3), 2, 1, name="phases share packed weights"),
    ConvCase(1, 512, 512, (7, 7), (3, 3), padding=1, dtype="float64", name="deep layer"),
    ConvCase(1, 600, 40, (33, 20), (1, 1), name="long pointwise"),
    ConvCase(2, 36, 45, (40, 30), (3, 3), padding=1, groups=9, name="many points of groups"),
    ConvCase(1, 15, 35, (11, 10), (3, 3), padding=1, groups=5, name="odd groups"),
    ConvCase(1, 21, 33, (18, 19), (3, 2), (5, 4), 1, groups=3, name="odd groups and stride beyond the kernel"),
    ConvCase(2, 7, 5, (40,), (2,), stride=7, name="stride far beyond the kernel"),
    ConvCase(2, 3, 20, (36, 50), (8, 8), stride=8, name="columns side by side"),
    ConvCase(1, 5, 18, (30, 41), (8, 8), stride=4, padding=3, dtype="float64", name="overlapping columns side by side"),
    ConvCase(2, 3, 9, (7, 9, 18), (2, 4, 8), (2, 4, 4), name="columns side by side in 3-D"),
    ConvCase(1, 70, 300, (16, 40), (16, 16), stride=16, name="weights of columns side by side in parts"),
    ConvCase(1, 40, 34, (9, 6, 7), (3, 3, 3), padding=1, name="blocked 3-D"),
    ConvCase(1, 37, 3, (260,), (200,), padding=40, name="200 taps to few channels"),
    ConvCase(1, 300, 1, (8, 9), (9, 9), padding=4, dtype="float64", name="dot products in blocks of taps"),
    ConvCase(1, 40, 34, (9, 6, 7), (3, 3, 3), 2, 2, 2, padding_mode="circular", name="blocked circular 3-D"),
    ConvCase(1, 1100, 20, (18, 17), (1, 2), name="rows longer than a block"),
    ConvCase(1, 48, 20, (18, 30), (6, 5), padding=2, name="lines of taps in blocks"),
    ConvCase(2, 20, 24, (9, 40), (3, 3), padding=12, dilation=12, name="taps that read padding alone"),
    ConvCase(2, 30, 18, (3, 4, 5), (2, 3, 3), padding=9, name="points that read padding alone"),
    ConvCase(1, 40, 3, (4, 5), (3, 3), padding=7, dtype="float64", name="dot products with padding alone"),
]


@pytest.mark.parametrize("algorithm", ["auto", "indirect"])
@pytest.mark.parametrize("case", [case._replace(name=case.name.replace(" ", "-")) for case in BLOCKED], ids=str)
def test_blocking(case, algorithm):
    check(case, algorithm)


@pytest.mark.parametrize("channels", [(3, 4), (40, 4), (4, 4)], ids=["row_runs", "indirect", "depthwise"])
def test_bias_of_any_strides(channels):
    in_channels, out_channels = channels
    groups = 4 if in_channels == 4 else 1
    x, weight = integers((2, in_channels, 5, 5), "float32", 1), integers((4, in_channels // groups, 3, 3), "float32", 2)
    bias = integers((2 * out_channels,), "float32", 3)[::-2]
    expected = conv_forward(x, weight, bias.copy(), groups=groups)
    np.testing.assert_array_equal(conv_forward(x, weight, bias, groups=groups), expected)


def test_the_cases_meet_weights_of_joined_columns_in_parts():
    (case,) = [case for case in BLOCKED if "side by side in parts" in case.name]
    planned = gemm.plan_backward_data(conv_geometry(case.input_shape, case.weight_shape, **case.options), 4)
    joined = [part.joined for part in planned.parts if part.joined]
    assert len(joined) > 1
    assert joined[1].first_lane > 0
    assert [part.columns for part in planned.parts] == [8] * len(joined)


def test_the_cases_meet_both_ways_of_packing():
    few, many = (forward_record(case) for case in BLOCKED[4:6])
    assert few.packs
    assert few.run_block < few.run == 300
    assert not many.packs
    assert (many.tap_block, many.run_block) == (few.tap_block, few.run_block)


def geometry_of(case):
    return conv_geometry(case.input_shape, case.weight_shape, **case.options)


def forward_record(case):
    return gemm.plan_forward(geometry_of(case), 4).parts[0].launches[0].record


def test_the_cases_meet_tiles_that_end_with_lines():
    (case,) = [case for case in BITS if case.name == "taps that read padding alone"]
    assert forward_record(case).together == 40
    assert forward_record(case._replace(padding=1, dilation=1)).together == 1


def test_the_cases_meet_blocks_of_rows_and_of_lines():
    rows, lines = (
        {case.name: forward_record(case) for case in BLOCKED}[name]
        for name in ("rows longer than a block", "lines of taps in blocks")
    )
    assert not rows.packs
    assert (rows.tap_block, rows.run_block) == (1, 550)
    assert lines.merges
    assert 5 < lines.tap_block < 30


@pytest.fixture
def small_blocks(monkeypatch):
    """Set tuning numbers of `blocking`, with no plan made before or left behind."""

    def set_numbers(**numbers):
        for name, value in numbers.items():
            monkeypatch.setattr(blocking, name, value)
        forget_plans()

    yield set_numbers
    forget_plans()


@pytest.mark.parametrize(
    "numbers",
    [
        {"PACKED_BYTES": 1},
        {"PACKED_BYTES": 40_000},
        {"PACKED_BYTES": 40_000, "FEW_CHANNELS": 1},
        {"WORTH_ALIGNING": 100.0},
        {"WORTH_ALIGNING": 100.0, "POINT_BLOCK": 45, "TAP_BLOCK": 4},
        {"TAP_BLOCK": 1, "RUN_BYTES": 1},
        {"TAP_BLOCK": 4, "RUN_BYTES": 4096, "POINT_BLOCK": 7},
        {"POINT_BLOCK": 1, "MIN_BLOCKS": 1},
        {"MIN_BLOCKS": 200},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 40, 70, (17, 18), (3, 3), padding=1, name="one group"),
        ConvCase(1, 40, 70, (34, 18), (3, 3), 2, 1, name="phases"),
        ConvCase(2, 30, 60, (13, 14), (3, 2), padding=1, groups=5, dtype="float64", name="groups"),
        ConvCase(2, 34, 140, (12, 12), (2, 2), groups=2, name="two groups of several panels"),
        ConvCase(1, 18, 18, (20, 20), (3, 3), groups=18, name="depthwise"),
        ConvCase(1, 3, 40, (20, 20), (3, 3), name="few input channels"),
    ],
    ids=lambda case: case.name.replace(" ", "-"),
)
def test_any_block_sizes_give_the_same_values(case, numbers, small_blocks):
    small_blocks(**numbers)
    check(case)
    check(case, "indirect")


def test_what_follows_comes_after_the_last_source_channels(small_blocks):
    small_blocks(PACKED_BYTES=40_000, FEW_CHANNELS=1)
    case = ConvCase(1, 70, 40, (17, 18), (3, 3), padding=1)
    parts = gemm.plan_forward(geometry_of(case), 4).parts
    assert [part.complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2
    x, weight, bias = conv_arrays(case)
    options = {**case.options, "algorithm": "indirect"}
    y = conv_forward(x, weight, bias, **options)
    assert (y < 0).any()
    np.testing.assert_array_equal(conv_forward(x, weight, bias, activation="relu", **options), np.maximum(y, 0))


# -------------------------------------------------------------------------------------------------- reproducible bits


def random_arrays(case):
    generator = np.random.default_rng(5)
    x = generator.standard_normal(case.input_shape).astype(case.dtype)
    weight = generator.standard_normal(case.weight_shape).astype(case.dtype)
    shape = conv_geometry(case.input_shape, case.weight_shape, **case.options).output_shape
    return x, weight, generator.standard_normal(shape).astype(case.dtype)


BITS = [
    ConvCase(2, 40, 33, (17, 18), (3, 3), padding=1, name="many points"),
    ConvCase(1, 150, 70, (9, 9), (3, 3), padding=1, name="few points, unless there are several samples"),
    ConvCase(2, 20, 24, (9, 40), (3, 3), padding=12, dilation=12, name="taps that read padding alone"),
    ConvCase(1, 30, 21, (37, 21), (3, 3), 2, 1, dtype="float64", name="phases"),
    ConvCase(2, 12, 24, (900,), (9,), padding=4, groups=3, name="groups"),
    ConvCase(1, 70, 40, (19, 19), (1, 1), name="pointwise"),
    ConvCase(2, 24, 24, (31, 29), (3, 3), padding=1, groups=24, name="depthwise"),
    ConvCase(2, 3, 20, (40, 41), (3, 3), 2, 1, name="few input channels"),
    ConvCase(2, 10, 12, (9, 11, 10), (3, 3, 3), padding=1, padding_mode="reflect", name="3-D"),
    ConvCase(2, 32, 3, (19, 21), (3, 3), padding=1, name="few output channels"),
    ConvCase(2, 45, 2, (95,), (81,), padding=20, dtype="float64", name="many taps to few output channels"),
]
bits = pytest.mark.parametrize("case", BITS, ids=lambda case: case.name.replace(" ", "-"))


@bits
def test_same_bits_on_any_number_of_threads_and_every_driver(case):
    x, weight, grad = random_arrays(case)
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
    x, weight, grad = random_arrays(case)
    options, taken = {**case.options, "algorithm": algorithm}, directions(case, algorithm)
    for part in [slice(i, i + 1) for i in range(5)] + [slice(0, 2), slice(2, 5)]:
        if "forward" in taken:
            whole = conv_forward(x, weight, **options)[part]
            assert whole.tobytes() == conv_forward(x[part], weight, **options).tobytes()
        if "backward_data" in taken:
            whole = conv_backward_data(grad, weight, x.shape, **options)[part]
            assert whole.tobytes() == conv_backward_data(grad[part], weight, x[part].shape, **options).tobytes()


# ------------------------------------------------------------------------------------------------- choice of algorithm


def test_explain_says_why_not_the_others():
    choice = explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert choice.algorithm == "winograd"
    refused = (
        "  not pointwise: the kernel has 9 taps\n"
        "  not fft: 9 taps are few\n"
        "  not depthwise: groups have 64 input and 64 output channels, not one each\n"
        "  not grouped: all channels are in one group\n"
        "  not strips: all channels are in one group"
    )
    assert str(choice) == "forward: winograd\n" + refused
    choice = explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1, precision="exact")
    refused = refused.replace("9 taps are few", "precision is 'exact'")
    refused += "\n  not winograd: precision is 'exact'\n  not row_runs: 64 input channels are more than 16"
    assert str(choice) == "forward: indirect\n" + refused


@pytest.mark.parametrize(
    ("shapes", "options", "direction", "algorithm"),
    [
        (((1, 64, 9, 9), (32, 64, 1, 1)), {}, "forward", "pointwise"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"stride": 2}, "forward", "pointwise"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"stride": 2}, "backward_weight", "indirect"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"padding": 1}, "backward_data", "indirect"),
        (((1, 64, 9, 9), (64, 1, 3, 3)), {"groups": 64}, "forward", "depthwise"),
        (((1, 64, 9, 9), (64, 1, 3, 3)), {"groups": 64}, "backward_weight", "depthwise"),
        (((1, 3, 9, 9), (64, 3, 3, 3)), {}, "forward", "row_runs"),
        (((1, 3, 9, 9), (64, 3, 3, 3)), {}, "backward_data", "row_runs"),
    ],
)
def test_choice(shapes, options, direction, algorithm):
    choice = explain(*shapes, direction=direction, **options)
    assert choice.algorithm == algorithm
    assert list(dict(choice.refused)) == ALGORITHMS[: ALGORITHMS.index(algorithm)]
    assert explain(*shapes, direction=direction, **options, algorithm="indirect").refused == ()


def test_unknown_algorithm():
    x, weight = np.ones((1, 2, 4)), np.ones((2, 2, 3))
    message = f"algorithm must be one of auto, {', '.join(ALGORITHMS)}; got 'winogradd'"
    with pytest.raises(OptionError, match=message):
        conv_forward(x, weight, algorithm="winogradd")
    with pytest.raises(OptionError, match=message):
        explain(x.shape, weight.shape, algorithm="winogradd")
    with pytest.raises(OptionError, match="direction must be one of 'forward', 'backward_data', 'backward_weight'"):
        explain(x.shape, weight.shape, direction="backward")


@pytest.mark.parametrize(
    ("algorithm", "weight_shape", "options", "reason"),
    [
        ("pointwise", (4, 4, 3, 3), {}, "the kernel has 9 taps"),
        ("pointwise", (4, 4, 1, 1), {"padding": (0, 1)}, "there is padding"),
        ("depthwise", (4, 2, 3, 3), {"groups": 2}, "groups have 2 input and 2 output channels, not one each"),
    ],
)
def test_an_algorithm_that_refuses(algorithm, weight_shape, options, reason):
    with pytest.raises(OptionError, match=f"algorithm='{algorithm}' cannot run forward of this convolution: {reason}"):
        conv_forward(np.ones((1, 4, 6, 6)), np.ones(weight_shape), **options, algorithm=algorithm)


# -------------------------------------------------------------------------------------------------------------- errors

X, W = np.ones((2, 6, 8, 9), np.float32), np.ones((4, 6, 3, 3), np.float32)

FORWARD_ERRORS = [
    ((X, W[:, :5]), {}, ShapeError, r"input of shape \(2, 6, 8, 9\) has 6 channels, but weight .* groups=1 expects 5"),
    ((X, W[:, :3]), {"groups": 4}, ShapeError, "in_channels=6 is not divisible by groups=4"),
    ((X, W[:, :2]), {"groups": 3}, ShapeError, "out_channels=4 is not divisible by groups=3"),
    ((X, W), {"groups": 0}, OptionError, "groups must be at least 1, got 0"),
    ((X, W), {"groups": 1.0}, OptionError, "groups must be an integer, got 1.0"),
    (
        (X[:, :, :2], W),
        {},
        ShapeError,
        r"axis 2 \(H\): the kernel spans 3 samples \(size 3, dilation 1\) but the padded input has only 2 "
        r"\(2 \+ padding 0 \+ 0\); it would fit with padding=1",
    ),
    ((X, W), {"dilation": 9, "padding": 1}, ShapeError, "it would fit with padding=6"),
    ((X[0, 0], W), {}, ShapeError, "input must have 3 to 5 axes .* got shape \\(8, 9\\)"),
    ((X, W[..., 0]), {}, ShapeError, "as many axes"),
    ((np.ones((1, 1, 2, 2, 2, 2)), np.ones((1,) * 6)), {}, ShapeError, "input must have 3 to 5 axes"),
    ((X[:, :, :0], W), {}, ShapeError, r"input of shape \(2, 6, 0, 9\) is empty; only the batch may be empty"),
    ((X, W[:0]), {}, ShapeError, r"weight of shape \(0, 6, 3, 3\) is empty; no axis may be empty"),
    ((X, W), {"stride": 0}, OptionError, "stride must be at least 1, got 0"),
    ((X, W), {"stride": (1, -2)}, OptionError, "stride must be at least 1, got -2"),
    ((X, W), {"stride": (1, 1, 1)}, OptionError, "stride must be an integer or 2 integers, one per spatial axis"),
    ((X, W), {"stride": 1.5}, OptionError, "stride must be an integer, got 1.5"),
    ((X, W), {"dilation": 0}, OptionError, "dilation must be at least 1, got 0"),
    ((X, W), {"padding": -1}, OptionError, "padding must be at least 0, got -1"),
    ((X, W), {"padding": "same_upper"}, OptionError, "padding"),
    ((X, W), {"padding_mode": "mirror", "padding": 1}, OptionError, "padding_mode"),
    ((X, W), {"padding": 1 << 62}, ShapeError, "overflow 64-bit integers"),
    ((X.astype(np.int32), W), {}, DTypeError, r"x must be float32 or float64, got int32; .*x.astype\(np.float32\)"),
    ((X, W.astype(np.float16)), {}, DTypeError, "weight must be float32 or float64, got float16"),
    ((X.astype(complex), W), {}, DTypeError, "x must be float32 or float64, got complex128"),
    ((X.astype(">f4"), W), {}, DTypeError, "x must be float32 or float64, got float32 in foreign byte order"),
    ((X.astype(object), W), {}, DTypeError, "x must be float32 or float64, got object"),
    ((X, W.astype(np.float64)), {}, DTypeError, r"x is float32 but weight is float64; .*weight.astype\(np.float32\)"),
    ((X, W, np.ones(4)), {}, DTypeError, "x is float32 but bias is float64"),
    ((X, W, X[0, :5, 0, 0]), {}, ShapeError, r"bias must have shape \(4,\), one value per output channel; got \(5,\)"),
    ((X, W, X[:1, :4, 0, 0]), {}, ShapeError, r"bias must have shape \(4,\), .* got \(1, 4\)"),
]


@pytest.mark.parametrize(("arrays", "options", "error", "message"), FORWARD_ERRORS)
def test_forward_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        conv_forward(*arrays, **options)


def test_sizes_too_large_for_any_memory():
    one = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ShapeError, match="output of shape .* has too many elements: its size would overflow"):
        conv_forward(np.broadcast_to(one, (1 << 40, 1, 1, 1)), np.broadcast_to(one, (1 << 22, 1, 1, 1)))
    with pytest.raises(ShapeError, match="input of shape .* has too many elements: its size would overflow"):
        conv_backward_data(one, one, (1 << 40, 1, 1 << 20, 4))


def test_backward_errors():
    grad = np.ones((2, 4, 6, 7), np.float32)
    message = r"grad_output has shape \(2, 4, 6, 8\), but convolving input \(2, 6, 8, 9\) with weight \(4, 6, 3, 3\) "
    message += r"gives \(2, 4, 6, 7\)"
    wrong = np.ones((2, 4, 6, 8), np.float32)
    with pytest.raises(ShapeError, match=message):
        conv_backward_data(wrong, W, X.shape)
    with pytest.raises(ShapeError, match=message):
        conv_backward_weight(wrong, X, W.shape)
    with pytest.raises(ShapeError, match="grad_output has shape"):
        conv_backward_data(grad, W, X.shape, stride=2)
    with pytest.raises(ShapeError, match=r"bias must have shape \(6,\).*got \(4,\)"):
        conv_backward_data(grad, W, X.shape, bias=np.ones(4, np.float32))
    with pytest.raises(DTypeError, match="grad_output is float32 but weight is float64"):
        conv_backward_data(grad, W.astype(np.float64), X.shape)
    with pytest.raises(DTypeError, match="grad_output must be float32 or float64, got int64"):
        conv_backward_weight(grad.astype(np.int64), X, W.shape)
    with pytest.raises(DTypeError, match="grad_output is float32 but x is float64"):
        conv_backward_weight(grad, X.astype(np.float64), W.shape)
    with pytest.raises(ShapeError, match="weight .* expects 5"):
        conv_backward_weight(grad, X, (4, 5, 3, 3))
    with pytest.raises(ShapeError, match=r"grad_output must be \(N, C_out, \*output\) with 3 to 5 axes"):
        conv_backward_bias(grad[0, 0])


# ------------------------------------------------------------------------------------------------------------- specials

SPECIAL = [
    ConvCase(1, 4, 4, (9, 9), (3, 3), padding=1, name="indirect"),
    ConvCase(1, 40, 40, (9, 9), (1, 1), name="pointwise"),
    ConvCase(1, 16, 16, (9, 9), (3, 3), padding=1, groups=16, name="depthwise"),
    ConvCase(1, 4, 4, (9, 9), (3, 3), padding=1, groups=4, name="strips"),
    ConvCase(1, 4, 40, (9, 9), (3, 3), padding=1, name="row_runs"),
]


@pytest.mark.parametrize("case", SPECIAL, ids=lambda case: case.name)
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
    if "backward_data" in directions(case, case.name):
        grad_x = conv_backward_data(y, weight, x.shape, **case.options, algorithm=case.name)
        assert np.isnan(grad_x[0, 1]).sum() == (4 * reach + 1) ** 2
    grad_weight = conv_backward_weight(np.ones_like(y), x, weight.shape, **case.options)
    channels = grad_weight.reshape(case.out_channels, -1, *case.kernel)
    channels = channels[1, 0] if case.groups > 1 else channels[0, 1]
    assert np.isnan(channels).all()


@pytest.mark.parametrize("case", SPECIAL, ids=lambda case: case.name)
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


def test_scratch_memory_holds_every_table():
    """What `blocking` allows must fit the part of the scratch where the kernel puts its pointers."""
    assert blocking.TAP_BLOCK <= conv_gemm.MAX_TAPS
    for taps in range(1, blocking.TAP_BLOCK + 1):
        most = max([blocking.POINT_BLOCK] + [p for p in range(1, 1000) if blocking.packs_itself(p, taps)])
        for points in range(1, most + 1):
            tiles = -(-points // MAX_ROWS)
            rows = max(points, MIN_GEMM_ROWS)
            slots = tiles * (conv_gemm.TABLE_HEADER + taps) + rows * (1 + taps)
            assert tiles <= conv_gemm.MAX_TILES
            assert slots <= conv_gemm.TABLE_SLOTS - conv_gemm.FIRST_TABLE


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
    check(case)
    check(case, "indirect")
