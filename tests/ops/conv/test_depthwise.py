"""Depthwise and grouped convolution, both algorithms forced, against the oracle; how rows become strips."""

import itertools

import numpy as np
import pytest

from numbacnn.kernels._target import target
from numbacnn.kernels.conv_depthwise import LINES
from numbacnn.kernels.line_tile import LINE_POINTS
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward
from numbacnn.ops.conv import blocking, depthwise, depthwise_weight, plan, strip_tables, strips
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL

ALGORITHMS = ("depthwise", "strips")


def grouped_case(groups, inputs, outputs, size, kernel, stride=1, padding=0, dilation=1, batch=1, **more):
    return ConvCase(batch, groups * inputs, groups * outputs, size, kernel, stride, padding, dilation, groups, **more)


def depthwise_case(channels, size, kernel, stride=1, padding=0, dilation=1, multiplier=1, batch=1, **more):
    return ConvCase(batch, channels, channels * multiplier, size, kernel, stride, padding, dilation, channels, **more)


def check(case, algorithms=ALGORITHMS):
    """Every direction that the algorithms take equals the oracle's; "strips", unless it is not asked, takes all."""
    count = sum(len(checks.check(case, algorithm)) for algorithm in algorithms)
    few = min(case.in_channels, case.out_channels) // case.groups <= strips.MOST_CHANNELS
    assert count >= (3 if few and "strips" in algorithms else 1)


def test_strips_take_the_depthwise_cases_of_the_table():
    cases = [case for case in CONV_CASES if 1 < case.groups == case.in_channels]
    assert cases
    assert all(checks.directions(case, "strips") == list(plan.DIRECTIONS) for case in cases)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("channels", "multiplier"),
    [
        (1, 1),
        *itertools.product(sorted({2, 3, 5, 8, PANEL // 2, PANEL, PANEL + 1, 2 * PANEL + 1, 3 * PANEL}), (1, 2, 3, 5)),
        (PANEL // 2 + 1, 1),
        (PANEL - 1, 1),
    ],
)
def test_channels(channels, multiplier, dtype):
    check(depthwise_case(channels, (7, 9), (3, 2), padding=1, multiplier=multiplier, batch=3, dtype=dtype))


def test_empty_batch():
    check(depthwise_case(PANEL + 1, (6, 7), (3, 3), batch=0))
    check(grouped_case(5, 2, 2, (6, 7), (3, 3), batch=0))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3), (1, 2, 3, 4))))
def test_strides_dilations_and_padding_modes(stride, dilation, mode):
    """Every way that points and taps are dealt out to strips, or to zones and columns."""
    check(depthwise_case(PANEL + 1, (6, 14), (2, 4), stride, ((1, 0), (5, 4)), (1, dilation), padding_mode=mode))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_in_depth_and_height(mode):
    check(depthwise_case(4, (5, 6, 7), (3, 3, 3), (1, 2, 1), 2, (1, 1, 2), padding_mode=mode, multiplier=2))
    check(depthwise_case(PANEL, (5, 6, 7), (3, 3, 3), (1, 2, 1), 2, (1, 1, 2), padding_mode=mode))


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_that_wraps_repeatedly(mode):
    check(depthwise_case(PANEL + 1, (4, 5), (3, 4), 1, (9, 11), padding_mode=mode))


@pytest.mark.parametrize("width", [*range(1, 20), 31, 64, 65])
def test_number_of_points(width):
    """Every way that tiles of 12, 8 and 4, or 7 to 4, points cover a row."""
    check(depthwise_case(PANEL + 2, (4, width + 2), (1, 3)))


@pytest.mark.parametrize("taps", [*range(1, 20), 31, 33])
def test_number_of_taps(taps):
    """Every way that runs of taps make up a kernel row."""
    check(depthwise_case(4, (taps + 12,), (taps,), padding=taps // 2))


@pytest.mark.parametrize(("taps", "dilation"), [(7, 1), (9, 1), (13, 1), (7, 2)])
def test_kernels_hardly_narrower_than_the_image(taps, dilation):
    """Most of their tiles read padding."""
    case = depthwise_case(PANEL + 2, (5, 9), (3, taps), 1, (1, taps // 2 * dilation), (1, dilation), batch=2)
    assert checks.directions(case, "depthwise") == ["forward", "backward_data"]
    check(case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 4), (4, 8), (8, 4), (2, 12), (2, 16), (4, 5), (1, 4), (4, 1)],
)
def test_groups_of_few_channels(inputs, outputs, dtype):
    """Every way that the lanes of a vector read source channels."""
    check(grouped_case(5, inputs, outputs, (5, 9), (3, 2), (1, 2), 1, batch=2, dtype=dtype))
    check(grouped_case(4, inputs, outputs, (5, 9), (3, 2), 1, 1, (1, 2), padding_mode="circular", dtype=dtype))


def test_planes_in_bands(tune):
    """Volumes whose planes under a kernel exceed L2 are computed in bands of rows."""
    case = depthwise_case(PANEL, (5, 11, 6), (3, 3, 3), (1, 2, 1), 1, batch=2)
    for rows in (1, 2, 3, 100):
        tune(blocking, BAND_BYTES=3 * (rows + 2) * 6 * PANEL * 4)
        check(case, ["depthwise"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel", "padding"),
    [
        *(((height, width), (3, 3), 1) for height, width in itertools.product((2, 3, 4, 7), (4, 5, 6, 8, 13, 14))),
        *(((9, width), (3, 3), padding) for width, padding in itertools.product((8, 9), (0, (1, 0), (0, 1), 2))),
        *(((5, width), (3, 5), (1, 2)) for width in (4, 5, 6, 7, 10, 14, 17, 28)),
        *(((5, width), (3, 7), (1, 3)) for width in (4, 6, 7, 10, *((13, 14) if blocking.WIDE_VECTORS else ()))),
        ((9, 10), (7, 7), 6),
        ((9, 12), (5, 5), (2, 0)),
        ((9, 12), (5, 5), 4),
        ((4, 9, 10), (3, 3, 3), 1),
        ((5, 9, 10), (2, 3, 3), (0, 1, 1)),
        ((2, 5, 9), (1, 5, 5), (0, 2, 2)),
    ],
)
def test_tiles_that_share_what_they_read(size, kernel, padding, dtype, tune):
    """Neighbouring points, and rows in pairs: what the oracle says, and the bits of tiles that share nothing."""
    case = depthwise_case(PANEL + 2, size, kernel, 1, padding, batch=3, dtype=dtype)
    check(case, ["depthwise"])
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (case.input_shape, case.weight_shape))
    options = {**case.options, "algorithm": "depthwise"}
    grad = rng.standard_normal(conv_forward(x, weight, **options).shape).astype(dtype)

    def both():
        return conv_forward(x, weight, **options), conv_backward_data(grad, weight, x.shape, **options)

    shared, one_image = both(), conv_forward(x[1:2], weight, **options)
    np.testing.assert_array_equal(one_image, shared[0][1:2])
    tune(depthwise, _shared=lambda *_: (LINES, LINE_POINTS))
    for shares, alone in zip(shared, both(), strict=True):
        np.testing.assert_array_equal(shares, alone)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_channels_of_the_last_panel(kernel, dtype):
    """Of up to a vector of them, tiles that share what they read compute but a vector."""
    lanes = target().lanes(np.dtype(dtype).itemsize)
    for channels in (4 * lanes + 1, 5 * lanes - 1, 5 * lanes, 5 * lanes + 1, 6 * lanes - 1, 6 * lanes):
        check(depthwise_case(channels, (5, 14), (kernel, kernel), 1, kernel // 2, dtype=dtype), ["depthwise"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((9, 14), (3, 3), 1, 1, 1),
        ((9, 14), (3, 3), 1, (4, 1), 1),  # rows that read nothing
        ((9, 15), (5, 5), 1, 2, 1),
        ((4, 9, 9), (3, 3, 3), (1, 2, 2), 1, 1),
        ((30,), (3,), 1, 1, 2),
    ],
    ids=str,
)
def test_tiles_may_ask_for_what_the_next_ones_read(size, kernel, stride, padding, dilation, dtype, tune, guarded):
    """Whether they do follows from the size of the data, and changes nothing."""
    case = depthwise_case(5 * PANEL // 2, size, kernel, stride, padding, dilation, batch=2, dtype=dtype)
    before = bits(case)
    tune(depthwise, FAR_BYTES=0)
    assert depthwise.plan(checks.geometry_of(case), 4, False).record.asks == (not blocking.WIDE_VECTORS)
    check(case, ["depthwise"])
    for one, other in zip(before, bits(case), strict=True):
        np.testing.assert_array_equal(one, other)


def bits(case):
    """Outputs and data gradients of the same random data, "depthwise" asked for."""
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(case.dtype) for shape in (case.input_shape, case.weight_shape))
    options = {**case.options, "algorithm": "depthwise"}
    y = conv_forward(x, weight, **options)
    grad = rng.standard_normal(y.shape).astype(case.dtype)
    return y, conv_backward_data(grad, weight, x.shape, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("width", "taps", "options"),
    [
        *((500, taps, {"padding": taps // 2}) for taps in range(1, 10)),
        (501, 3, {"padding": 40, "dilation": 40}),
        (501, 3, {"padding": 3, "dilation": 3, "stride": 2}),
        (502, 4, {"padding": (3, 2), "stride": 3}),
        (503, 5, {"padding": 7, "stride": 2, "padding_mode": "reflect"}),
        (503, 3, {"padding": 60, "dilation": 60, "padding_mode": "circular"}),
        (503, 15, {"padding": 7, "padding_mode": "replicate"}),
        (300, 2, {"padding": 300}),
    ],
)
def test_segments_of_a_row(width, taps, options, dtype, tune):
    """What the oracle says, and forward and backward the bits of whole rows."""
    if isinstance(options["padding"], tuple):
        options = options | {"padding": (options["padding"],)}
    case = depthwise_case(PANEL + 6, (width,), (taps,), **options, batch=2, dtype=dtype)
    tune(depthwise_weight, SEGMENT_POINTS=24, CHUNK_ROWS=2)
    tune(depthwise, SEGMENT_POINTS=24, POINTS_PER_OVERLAP=0)
    assert depthwise.plan(checks.geometry_of(case), np.dtype(dtype).itemsize, False).record.segments > 4
    check(case, ["depthwise"])
    cut = bits(case)
    tune(depthwise, SEGMENT_POINTS=1000)
    assert depthwise.plan(checks.geometry_of(case), np.dtype(dtype).itemsize, False).record.segments == 1
    for one, whole in zip(cut, bits(case), strict=True):
        np.testing.assert_array_equal(one, whole)


def test_activation_after_segments(tune):
    tune(depthwise, SEGMENT_POINTS=24, POINTS_PER_OVERLAP=0)
    case = depthwise_case(PANEL + 6, (300,), (3,), padding=1, padding_mode="reflect")
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype("float32") for shape in (case.input_shape, case.weight_shape))
    y = conv_forward(x, weight, **case.options, algorithm="depthwise")
    relu = conv_forward(x, weight, **case.options, algorithm="depthwise", activation="relu")
    np.testing.assert_array_equal(relu, np.maximum(y, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "stride", "dilation", "padding"),
    [
        ((13, 9), 1, 4, 4),
        ((16, 9), 1, (4, 1), (4, 1)),
        ((7, 9), 1, 5, 5),
        ((23, 9), (2, 1), 3, 2),
        ((23, 9), (2, 1), (4, 2), 2),
        ((19, 9), (3, 2), (2, 1), 0),
        ((2, 13, 9), 1, (1, 3, 2), (0, 3, 2)),
    ],
)
def test_phases_of_a_dilation(size, stride, dilation, padding, dtype, tune):
    """What the oracle says, and forward and backward the bits of rows one after the other."""
    kernel = (3,) * 2 if len(size) == 2 else (1, 3, 3)
    case = depthwise_case(PANEL + 6, size, kernel, stride, padding, dilation, batch=3, dtype=dtype)
    plain = bits(case)
    tune(blocking, BAND_BYTES=1)
    assert depthwise.plan(checks.geometry_of(case), np.dtype(dtype).itemsize, False).record.phase > 1
    check(case, ["depthwise"])
    for one, other in zip(plain, bits(case), strict=True):
        np.testing.assert_array_equal(one, other)


def test_passes_over_panels(tune):
    tune(depthwise, FEWEST_PANELS=1, PANEL_BYTES=1)
    tune(depthwise_weight, PASS_VECTORS=1)
    check(depthwise_case(4 * PANEL + 6, (6, 9), (3, 3), padding=1, batch=2), ["depthwise"])


@pytest.mark.parametrize(
    "case",
    [
        depthwise_case(4, (1500,), (31,), padding=15, name="1-D in segments"),
        depthwise_case(4, (1501,), (5,), 2, 2, padding_mode="circular", name="1-D in segments circular"),
        depthwise_case(PANEL + 1, (3, 700), (3, 3), padding=1, dilation=(1, 3), name="2-D in segments"),
        depthwise_case(2, (40, 41), (31, 31), padding=15, name="31x31"),
        depthwise_case(1, (70, 75), (65, 63), padding=3, name="one vector per panel"),
        depthwise_case(5 * PANEL // 2, (9, 5), (3, 3), (5, 4), name="stride larger than kernel"),
        depthwise_case(3, (30, 30), (3, 3), padding=9, dilation=9, name="dilated"),
        depthwise_case(4 * PANEL + 6, (7, 7), (7, 7), padding=3, batch=2, name="kernel as large as input"),
        depthwise_case(3, (4, 5), (9, 9), padding=3, name="taps that read padding alone"),
        depthwise_case(12, (6, 7, 9), (3, 3, 3), 1, 1, batch=2, name="3-D"),
        depthwise_case(12, (6, 12, 11), (3, 3, 3), (1, 2, 2), 1, name="3-D strided"),
        depthwise_case(2 * PANEL + 1, (9, 8), (3, 3), 2, 1, multiplier=5, name="multiplier"),
        depthwise_case(2, (9, 8), (3, 3), 1, 1, multiplier=40, name="large multiplier"),
        grouped_case(3, 4, 4, (4, 300), (3, 3), padding=1, name="groups in segments"),
        grouped_case(6, 4, 4, (5, 6, 7), (3, 3, 3), (1, 2, 1), 1, name="groups 3-D"),
        depthwise_case(PANEL + 4, (4, 300), (1, 5), (1, 2), (0, 2), padding_mode="reflect", name="long rows reflect"),
        depthwise_case(PANEL, (6, 12, 11), (3, 3, 3), (1, 2, 2), 1, batch=2, name="3-D strided, whole panels"),
    ],
    ids=str,
)
def test_shapes(case):
    check(case)


@pytest.mark.parametrize(
    ("algorithm", "direction"),
    list(itertools.product(ALGORITHMS, plan.DIRECTIONS)),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits(algorithm, direction, dtype):
    case = depthwise_case(5 * PANEL // 2 + 2, (20, 19), (5, 3), (1, 2), 2, batch=2, dtype=dtype)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (case.input_shape, case.weight_shape))
    options = {**case.options, "algorithm": "auto"}
    grad = rng.standard_normal(conv_forward(x, weight, **options).shape).astype(dtype)
    options["algorithm"] = algorithm
    run = {
        "forward": lambda: conv_forward(x, weight, **options),
        "backward_data": lambda: conv_backward_data(grad, weight, x.shape, **options),
        "backward_weight": lambda: conv_backward_weight(grad, x, weight.shape, **options),
    }[direction]
    assert_same_bits(run)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_not_a_number_stays_in_its_channel_and_window(algorithm):
    channels = PANEL + 4
    x = np.zeros((1, channels, 9, 9), np.float32)
    x[0, 11, 4, 4] = np.nan
    weight = np.zeros((channels, 1, 3, 3), np.float32)
    y = conv_forward(x, weight, padding=1, groups=channels, algorithm=algorithm)
    expected = np.zeros(y.shape, bool)
    expected[0, 11, 3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 7, 8, 13])
@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pairs_of_groups(inputs, groups, dtype):
    """Groups of as many channels as a vector has lanes, an even number of them or an odd one."""
    outputs = target().lanes(np.dtype(dtype).itemsize)
    for sides in ((inputs, outputs), (outputs, inputs)):
        case = grouped_case(groups, *sides, (7, 6), (3, 2), (2, 1), 1, batch=2, dtype=dtype)
        check(case, ["indirect"])


@pytest.mark.parametrize(
    ("batch", "channels", "size", "kernel", "stride"),
    [(8, 128, (56, 56), 3, 1), (1, 960, (7, 7), 3, 1), (1, 96, (56, 56), 7, 1), (1, 64, (16000,), 31, 1)],
)
def test_enough_blocks(batch, channels, size, kernel, stride):
    taps = (kernel,) * len(size)
    g = conv_geometry((batch, channels, *size), (channels, 1, *taps), stride, kernel // 2, 1, channels)
    for itemsize in (4, 8):
        plans = [strips.plan_data(g, itemsize, d) for d in ("forward", "backward_data")]
        if depthwise.accepts("forward", g) is None:
            plans += [depthwise.plan(g, itemsize, transposed) for transposed in (False, True)]
        plans.append(strips.plan_backward_weight(g, itemsize))
        assert all(plan.blocks >= 8 for plan in plans)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((9, 28), (7, 7), {"padding": 3}),
        ((10, 15), (3, 9), {"padding": (1, 4), "stride": (1, 2)}),
        ((10, 31), (5, 7), {"padding": (2, 3), "stride": 2, "padding_mode": "reflect"}),
        ((5, 6, 14), (3, 3, 7), {"padding": (1, 1, 3)}),
    ],
)
def test_rows_that_are_done_together(tune, size, kernel, options, dtype):
    """Bands of rows are the same bits as row after row, whatever stays of the last one."""
    channels = PANEL + 3
    rng = np.random.default_rng(0)
    options = {**options, "groups": channels, "algorithm": "strips"}
    x = rng.standard_normal((2, channels, *size)).astype(dtype)
    weight = rng.standard_normal((channels, 1, *kernel)).astype(dtype)
    results = []
    for most in (1, 3, 8):
        tune(strips, MOST_ROWS=most)
        y = conv_forward(x, weight, **options)
        results.append((y.tobytes(), conv_backward_data(y, weight, x.shape, **options).tobytes()))
    assert results[0] == results[1] == results[2]


def test_phases_that_are_listed_one_by_one():
    """Points at the borders have lists of their own, which do not fit the scratch all together."""
    case = ConvCase(1, 20, 20, (3, 133), (1, 63), padding=(0, 31), padding_mode="circular", groups=20)
    g = conv_geometry(case.input_shape, case.weight_shape, 1, case.padding, 1, 20, "circular")
    assert strips.plan_data(g, 4, "backward_data").launch.listed == 1
    check(case, ["strips"])


def test_phases_of_a_single_row_are_listed_one_by_one():
    """They share nothing; and what is copied of a position is two cache lines at least."""
    g = conv_geometry((1, 512, 1, 4000), (512, 1, 1, 3), 1, (0, 64), 64, 512)
    planned = strips.plan_data(g, 4, "forward")
    assert (planned.launch.phases, planned.launch.listed) == (64, 1)
    assert planned.strips.panel * target().vector_bytes >= strips.PIECE_BYTES


@pytest.mark.parametrize("lengths", [(), (3, 2, 1), (4, 1), 2, 3])
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3, 4, 6), repeat=2)))
def test_strips_cover_every_product(stride, dilation, lengths):
    """Point a + i of a run reads tap t at position a + i + t of its strip, as the geometry wants it."""
    g = conv_geometry((1, 1, 60), (1, 1, 5), stride, 3, dilation)
    (c,) = strip_tables.forward_classes(g)
    row = strip_tables.plan_row(g, [c], 1000, {})
    if isinstance(lengths, int):
        longest = row.runs[:, 2].max()
        row = row.cut_evenly(lengths)
        assert row.runs[:, 2].max() == -(-longest // -(-longest // lengths))
    elif lengths:
        row = row.cut(lengths)
        assert set(row.runs[:, 2].tolist()) <= set(lengths)
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
