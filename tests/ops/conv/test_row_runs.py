"""The algorithm for few input channels, forced, against the oracle."""

import itertools

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.kernels.tile import MAX_ROWS, tile_lanes
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import blocking, row_order, row_runs
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "row_runs"


def check(case):
    checks.check(case, ALGORITHM, ["forward", "backward_weight"])


@pytest.mark.parametrize(
    ("out_channels", "in_channels"), list(zip((1, 5, 8, 16, 17, 33, 24, 9), range(1, 9), strict=True))
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels(in_channels, out_channels, dtype):
    check(ConvCase(2, in_channels, out_channels, (7, 9), (3, 2), padding=1, dtype=dtype))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_padding_modes_and_strides(mode, stride):
    check(ConvCase(1, 3, 5, (6, 8, 11), (2, 3, 4), stride, ((1, 0), 2, (3, 2)), (2, 2, 1), padding_mode=mode))


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 6, 7, 13, 97])
def test_number_of_positions(columns):
    """Every way that tiles of output positions may be filled."""
    check(ConvCase(1, 2, 3, (columns + 2,), (3,)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 36, 37])
@pytest.mark.parametrize("out_channels", [3, 16, 33])
def test_number_of_products(count, out_channels):
    """Every way that tiles of the weight gradient may be filled; dY packed and not."""
    check(ConvCase(2, 1, out_channels, (count + 12,), (count,)))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "in_channels"),
    [
        ((40, 53), (7, 7), 2, 3),  # several rows per block
        ((3, 9000), (3, 5), 1, 2),  # a row that several blocks share
        ((20000,), (80,), 4, 1),
        ((5, 5, 1200), (3, 3, 3), 1, 3),
        ((160, 160), (16, 16), 16, 3),  # windows that do not overlap
        ((2, 300), (2, 200), 1, 8),  # a window of nearly the whole patch
    ],
)
@pytest.mark.parametrize("padding", [0, 1])
def test_blocks(size, kernel, stride, in_channels, padding):
    check(ConvCase(1, in_channels, 4, size, kernel, stride, padding))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [
        ((6, 8, 10), (2, 2, 2), 2, 1),
        ((5, 9, 7), (2, 3, 2), (2, 3, 2), 1),  # the last rows and columns are not read
        ((60, 100), (1, 3), (2, 3), 1),  # several rows per block
        ((3, 3200), (2, 2), 2, 1),  # a row that several blocks share
        ((40, 41), (2, 2), (4, 3), (3, 2)),
    ],
)
@pytest.mark.parametrize("out_channels", [33, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_input_that_is_read_in_place(size, kernel, stride, dilation, out_channels, dtype, guarded):
    case = ConvCase(2, 3, out_channels, size, kernel, stride, 0, dilation, dtype=dtype)
    geometry = conv_geometry(case.input_shape, case.weight_shape, stride, 0, dilation)
    assert row_runs.plan(geometry, np.dtype(dtype).itemsize).forward.in_place
    check(case)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "out_channels"),
    [(3, 2, 0, 64), (2, 2, (1, 0), 64), (2, 2, (0, 1), 64), (2, 2, 0, 1)],
)
def test_input_that_is_copied(kernel, stride, padding, out_channels):
    """Where taps overlap or read padding, and beside chains."""
    geometry = conv_geometry((1, 3, 8, 41), (out_channels, 3, kernel, kernel), stride, [padding, padding])
    assert not row_runs.plan(geometry, 4).forward.in_place


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 23])
@pytest.mark.parametrize("out_channels", [40, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_that_are_summed_in_parts(columns, out_channels, dtype, guarded):
    """Few and many positions, a panel of one vector after a whole one."""
    case = ConvCase(1, 7, out_channels, (8, columns + 6), (7, 7), dtype=dtype)
    geometry = conv_geometry(case.input_shape, case.weight_shape)
    record = row_runs.plan(geometry, np.dtype(dtype).itemsize).forward
    assert (record.part < record.count) is blocking.WIDE_VECTORS
    checks.check(case, ALGORITHM, ["forward"])


@pytest.mark.parametrize(
    ("depth", "taps", "stride", "padding", "dilation"),
    [(4, 3, 1, 1, 1), (9, 7, 2, 3, 1), (1, 2, 1, 3, 1), (5, 3, 1, 4, 2), (3, 4, 3, 2, 1), (2, 3, 1, 4, 4)],
)
@pytest.mark.parametrize(("out_channels", "columns"), [(64, 9), (40, 9), (33, 1), (7, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_planes_of_padding_are_left_out(depth, taps, stride, padding, dilation, out_channels, columns, dtype, guarded):
    """Taps along D that read nothing else, of some positions or of all."""
    case = ConvCase(
        2, 3, out_channels, (depth, 7, columns + 2), (taps, 4, 3), (stride, 2, 1), (padding, 1, 0), (dilation, 1, 1),
        dtype=dtype,
    )  # fmt: skip
    geometry = checks.geometry_of(case)
    assert row_runs.plan(geometry, np.dtype(dtype).itemsize).forward.left_out == 1
    checks.check(case, ALGORITHM, ["forward"])


@pytest.mark.parametrize(
    ("height", "taps", "stride", "padding", "dilation"),
    [(30, 11, 2, 5, 1), (6, 5, 1, 2, 1), (1, 2, 1, 3, 1), (5, 3, 1, 4, 2), (7, 4, 3, 2, 1), (40, 9, 1, 8, 2)],
)
@pytest.mark.parametrize("columns", [1, 3, 40, 900])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_padding_are_left_out(height, taps, stride, padding, dilation, columns, dtype, guarded):
    """Of a single channel, by several rows of positions at a time, or by parts of one."""
    case = ConvCase(
        2, 1, 40, (height, columns + 2), (taps, 3), (stride, 1), (padding, 0), (dilation, 1), dtype=dtype
    )  # fmt: skip
    assert row_runs.plan(checks.geometry_of(case), np.dtype(dtype).itemsize).forward.left_out == 2
    checks.check(case, ALGORITHM, ["forward"])


@pytest.mark.parametrize(
    ("out_channels", "depth", "padding", "mode"),
    [(64, 40, 1, "zeros"), (64, 4, 1, "circular"), (64, 4, 0, "zeros"), (tile_lanes(4) // 2, 4, 1, "zeros")],
)
def test_planes_that_are_all_read(out_channels, depth, padding, mode):
    """Little or other padding, none, or chains."""
    case = ConvCase(1, 3, out_channels, (depth, 9, 20), (3, 3, 3), padding=padding, padding_mode=mode)
    assert not row_runs.plan(checks.geometry_of(case), 4).forward.left_out
    checks.check(case, ALGORITHM, ["forward"])


def test_dilation_far_beyond_the_kernel():
    check(ConvCase(1, 1, 3, (700,), (3,), padding=300, dilation=256))
    check(ConvCase(1, 1, 3, (50, 20), (3, 3), padding=20, dilation=(20, 1), padding_mode="circular"))


@pytest.mark.parametrize("channels", [(48, 4), (64, 7), (3, 6), (1, 2), (16, 1)])
@pytest.mark.parametrize("kernel", [(3, 4), (1, 2), (5, 1)])
@pytest.mark.parametrize("dilation", [1, (1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pairs(channels, kernel, dilation, dtype):
    """Runs of products of even and of odd lengths, where output channels fill half a vector at most, or not."""
    case = ConvCase(2, *channels, (9, 17), kernel, 1, (2, 1), dilation, dtype=dtype)
    checks.check(case, ALGORITHM, ["forward"] if channels[0] > 16 else ["forward", "backward_weight"])


@pytest.mark.parametrize("columns", range(6, 45))
@pytest.mark.parametrize("out_channels", [5, 12, 16])
def test_positions_of_a_row(columns, out_channels, guarded):
    """Every way that rows may be cut into tiles of neighbouring positions."""
    checks.check(ConvCase(2, 2, out_channels, (3, columns), (2, 3), padding=(0, 1)), ALGORITHM, ["forward"])


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "dilation"),
    [
        (3, (3, 7), 1, 1),
        (4, (2, 7), 2, 1),
        (3, (5, 7), (1, 2), 1),
        (6, (3, 5), 3, 1),
        (4, (2, 3), 1, 2),
        (1, (1, 9), 1, 1),
    ],
)
@pytest.mark.parametrize("out_channels", [8, 16])
def test_chains(channels, kernel, stride, dilation, out_channels, guarded):
    """Windows that overlap by several taps, by one, and not at all."""
    checks.check(ConvCase(2, channels, out_channels, (12, 60), kernel, stride, 2, dilation), ALGORITHM, ["forward"])


def test_what_is_a_chain():
    """Up to three products whose elements lie a step apart; longer chains first, each product once."""
    offsets = np.array([0, 2, 4, 6, 11, 20, 22, 31])
    found = row_order.chains(offsets, 2, np.arange(8), 0)
    assert found.counts.tolist() == [1, 1, 3, 0]
    assert found.offsets.tolist() == [0, 20, 6, 11, 31]
    assert found.order.tolist() == [0, 1, 2, 5, 6, 3, 4, 7]


def test_chains_of_pairs():
    """Single products follow them, as they are."""
    offsets = np.array([0, 1, 4, 5, 8, 9, 12, 13, 16])
    found = row_order.chains(offsets, 4, *row_order.paired(offsets))
    assert found.counts.tolist() == [1, 0, 1, 1]
    assert found.offsets.tolist() == [0, 12, 16]
    assert found.order.reshape(-1, 2).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, -1]]


def test_which_products_are_pairs():
    """Those whose elements lie side by side; the others follow."""
    offsets = np.array([7, 20, 2, 1, 0, 21, 30, 22])
    order, pairs = row_order.paired(offsets)
    assert pairs == 2
    assert order.reshape(-1, 2).tolist() == [[4, 3], [1, 5], [2, -1], [0, -1], [7, -1], [6, -1]]


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_batch(batch):
    check(ConvCase(batch, 1, 32, (28, 28), (3, 3), padding=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads(dtype):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 3, 45, 50)).astype(dtype)
    weight = generator.standard_normal((40, 3, 5, 5)).astype(dtype)
    options = {"stride": 2, "padding": 2, "algorithm": ALGORITHM}
    y = conv_forward(x, weight, **options)
    assert_same_bits(lambda: (conv_forward(x, weight, **options), conv_backward_weight(y, x, weight.shape, **options)))


def test_nan_and_infinity_stay_where_they_are():
    x = np.zeros((1, 1, 9, 9), np.float32)
    x[0, 0, 4, 4], x[0, 0, 0, 0] = np.nan, np.inf
    y = conv_forward(x, np.ones((2, 1, 3, 3), np.float32), padding=1, algorithm=ALGORITHM)
    rows = np.arange(9)
    near = np.abs(rows - 4) <= 1
    np.testing.assert_array_equal(np.isnan(y[0, 0]), near[:, None] & near)
    np.testing.assert_array_equal(np.isinf(y[0, 1]), (rows <= 1)[:, None] & (rows <= 1))


@pytest.mark.parametrize(
    ("direction", "shapes", "options", "reason"),
    [
        ("backward_data", ((1, 3, 8, 8), (4, 3, 3, 3)), {"padding": 1, "padding_mode": "reflect"}, "padding repeats"),
        ("backward_data", ((1, 64, 8, 8), (64, 32, 3, 3)), {"groups": 2}, "groups is 2"),
        ("backward_data", ((1, 13, 8, 8), (64, 13, 3, 3)), {}, "13 input channels"),
        ("backward_data", ((1, 5, 40, 40), (64, 5, 13, 13)), {}, "845 products"),
        ("backward_data", ((1, 3, 4000, 4000), (4, 3, 3, 3)), {"dilation": 1999}, "does not fit its patch"),
        ("forward", ((1, 64, 8, 8), (64, 32, 3, 3)), {"groups": 2}, "groups is 2"),
        ("forward", ((1, 64, 8, 8), (4, 64, 3, 3)), {}, "64 input channels are more than 48"),
        ("forward", ((1, 64, 8, 8), (1, 64, 3, 3)), {}, "64 input channels are more than 16"),
        ("forward", ((1, 8, 300000), (4, 8, 200000)), {}, "patch"),
        ("backward_weight", ((1, 8, 64, 64), (1000, 8, 30, 30)), {}, "packed weights"),
    ],
)
def test_refusals(direction, shapes, options, reason):
    geometry = conv_geometry(*shapes, **options)
    assert reason in row_runs.accepts(direction, geometry)
    assert reason in dict(explain(*shapes, direction=direction, precision="exact", **options).refused)[ALGORITHM]


def test_refusal_when_forced():
    with pytest.raises(OptionError, match="row_runs.*backward_data.*13 input channels"):
        conv_backward_data(np.ones((1, 4, 6, 6)), np.ones((4, 13, 3, 3)), (1, 13, 8, 8), algorithm=ALGORITHM)


def test_blocks_depend_on_the_problem_alone_and_are_enough():
    for in_channels, kernel, size in itertools.product((1, 3), (3, 7), (32, 224)):
        plan = row_runs.plan(conv_geometry((1, in_channels, size, size), (64, in_channels, kernel, kernel), 1, 1), 4)
        for record in (plan.forward, plan.backward_weight):
            assert record.chunks * record.panel_blocks >= 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_patches_of_padding_do_not_pay(dtype):
    """The general algorithm leaves out what reads padding along H; planes of it are left out here, too."""
    options = {"padding": 4, "dilation": 4, "dtype": dtype}
    choice = explain((1, 11, 4, 4, 4), (40, 11, 3, 3, 3), **options)
    assert dict(choice.refused)[ALGORITHM] == "67% of its taps read padding, which the general algorithm leaves out"
    choice = explain((1, 11, 2000), (40, 11, 3), **options, precision="exact")
    assert choice.algorithm == ALGORITHM


@pytest.mark.parametrize("channels", [1, 170, 700, 20_000])
def test_positions_have_few_results_before_the_next_do(channels):
    group = row_runs.plan(conv_geometry((1, 3, 64, 64), (channels, 3, 3, 3)), 4).forward.group
    assert MAX_ROWS <= group <= 192
    assert group * channels * 4 <= 128 * 1024 or group == MAX_ROWS


def test_many_results_per_position():
    check(ConvCase(1, 3, 700, (20, 21), (3, 3)))


@pytest.mark.parametrize(("size", "chosen"), [(14, "indirect"), (56, ALGORITHM)])
@pytest.mark.parametrize("channels", [4, 8] if tile_lanes(4) > 8 else [4])
def test_sums_of_few_positions_are_not_worth_patches(channels, size, chosen):
    choice = explain((1, channels, size, size), (3072 // channels, channels, 2, 2), direction="backward_weight")
    assert choice.algorithm == chosen
    if chosen != ALGORITHM:
        assert dict(choice.refused)[ALGORITHM] == "169 positions a sample are few for 3072 sums of each tap"


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="16 channels are more than two narrower vectors")
@pytest.mark.parametrize(
    ("outputs", "kernel", "stride", "chosen"),
    [
        (16, (5, 5), 1, ALGORITHM),
        (32, (3, 3), 1, "indirect"),  # rows that lie close together, of two panels
        (8, (3, 3), 2, "indirect"),
        (16, (7, 1), 1, "indirect"),
    ],
)
def test_weight_gradients_of_two_vectors_of_channels(outputs, kernel, stride, chosen):
    """In float64: those of float32 are more channels than this algorithm takes."""
    options = {"stride": stride, "padding": tuple(taps // 2 for taps in kernel), "dtype": "float64"}
    shapes = (1, 16, 40, 40), (outputs, 16, *kernel)
    choice = explain(*shapes, **options, direction="backward_weight", precision="exact")
    assert choice.algorithm == chosen
    reason = f"the general algorithm's tiles are better for 16 and {outputs} channels"
    assert chosen == ALGORITHM or dict(choice.refused)[ALGORITHM] == reason
