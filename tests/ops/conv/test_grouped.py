"""Groups of several channels each: forward and data gradient against the oracle, exactly."""

import itertools
import re

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.kernels import strip_tile
from numbacnn.kernels._target import target
from numbacnn.kernels.conv_strips import MAX_POINTS
from numbacnn.ops import conv_backward_data, conv_forward, explain
from numbacnn.ops.conv import blocking, grouped, plan, strips, strips_choice, turned
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import ConvCase, conv_arrays
from tests.ops.conv import checks

SLOWER = r"it is expected to take \d+\.\d\d times as long as the general algorithm"
SIZES = f"not {grouped.FEWEST_CHANNELS} to 64 of either"


def case_of(groups, inputs, outputs, size, kernel, stride=1, padding=0, dilation=1, batch=1, **more):
    return ConvCase(batch, groups * inputs, groups * outputs, size, kernel, stride, padding, dilation, groups, **more)


def check(case):
    checks.check(case, "grouped", ["forward", "backward_data"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (5, 5), (6, 17), (12, 9), (15, 64), (64, 5), (16, 24)])
def test_channels(inputs, outputs, dtype):
    """Whole vectors and parts of them on either side."""
    check(case_of(3, inputs, outputs, (5, 9), (3, 2), (1, 2), 1, batch=2, dtype=dtype))


@pytest.mark.parametrize("groups", [2, 3, 12])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (7, 5), (8, 6), (33, 8), (16, 7), (5, 21)])
def test_groups_of_few_outputs(groups, inputs, outputs):
    """Half a vector or less: two of them together in wide ones, the last one of an odd number alone."""
    for stride in (1, 2, 3):
        check(case_of(groups, inputs, outputs, (4, 15), (3, 3), stride, 1, batch=2))


@pytest.mark.skipif(grouped.FEWEST_CHANNELS > 3, reason="vectors of so few lanes that four groups do not share one")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [2, 3, 5, 12])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (3, 3), (4, 3), (9, 4), (16, 3), (3, 20), (4, 8)])
def test_groups_of_a_quarter_of_a_vector(groups, inputs, outputs, dtype):
    """Four of them together, the last ones with zeros."""
    for stride in (1, 2):
        check(case_of(groups, inputs, outputs, (4, 15), (3, 3), stride, 1, batch=2, dtype=dtype))


@pytest.mark.parametrize("width", [*range(1, MAX_POINTS + 4), 20, 25, 56])
def test_number_of_points(width):
    check(case_of(2, 8, 8, (3, width), (3, 3), padding=1))


@pytest.mark.parametrize("taps", [*range(1, 9), 31])
def test_number_of_taps(taps):
    check(case_of(2, 8, 8, (taps + 13,), (taps,), padding=taps // 2))


@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3), (1, 2, 3, 4))))
def test_strides_and_dilations(stride, dilation):
    check(case_of(2, 8, 6, (7, 19), (3, 4), (2, stride), (2, 3), (1, dilation)))


@pytest.mark.parametrize(
    "case",
    [
        case_of(5, 8, 8, (6, 7, 9), (3, 3, 3), 1, 1, batch=2, name="3-D"),
        case_of(2, 8, 8, (6, 12, 11), (3, 3, 3), (2, 1, 2), 1, name="3-D strided"),
        case_of(
            2, 8, 8, (5, 6, 7), (3, 3, 3), 1, (2, 2, 1), padding_mode=("reflect", "circular", "zeros"), name="modes"
        ),
        case_of(40, 8, 8, (8, 6), (3, 3), padding=1, name="many groups"),
        case_of(2, 8, 8, (9, 5), (3, 3), (5, 4), name="stride larger than kernel"),
        case_of(2, 8, 8, (4, 5), (9, 9), padding=3, name="taps that read padding alone"),
        case_of(2, 8, 8, (1, 1), (3, 3), padding=1, name="one position"),
        case_of(2, 8, 8, (6, 7), (3, 3), batch=0, name="empty"),
    ],
    ids=str,
)
def test_shapes(case):
    check(case)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("GROUP_BYTES", 2048), ("PANEL_BYTES", 1), ("RING_BYTES", 1), ("ASKED_BYTES", 0), ("MOST_ROWS", 1)],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_segments_and_panels(tune, limit, value, stride):
    """Rows cut into segments, groups copied one by one: the same bits."""
    case = case_of(5, 8, 8, (6, 70), (3, 3), stride, 1, batch=2)
    x, weight, _ = (array / 3 for array in conv_arrays(case))
    options = {**case.options, "algorithm": "grouped"}
    y = conv_forward(x, weight, **options)
    grad = conv_backward_data(y, weight, x.shape, **options)
    tune(grouped, SHORTEST_SEGMENT=12, **{limit: value})
    check(case)
    assert conv_forward(x, weight, **options).tobytes() == y.tobytes()
    assert conv_backward_data(y, weight, x.shape, **options).tobytes() == grad.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits(dtype):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 72, 20, 19), (72, 8, 3, 3)))
    options = {"padding": 1, "groups": 9, "algorithm": "grouped"}
    assert_same_bits(lambda: conv_forward(x, weight, **options))
    assert_same_bits(lambda: conv_backward_data(x, weight, x.shape, **options))
    assert conv_forward(x[1:2], weight, **options).tobytes() == conv_forward(x, weight, **options)[1:2].tobytes()


def test_not_a_number_stays_in_its_group_and_window():
    x = np.zeros((1, 24, 9, 9), np.float32)
    x[0, 11, 4, 4] = np.nan
    y = conv_forward(x, np.zeros((24, 8, 3, 3), np.float32), padding=1, groups=3, algorithm="grouped")
    expected = np.zeros(y.shape, bool)
    expected[0, 8:16, 3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize(
    ("batch", "groups", "channels", "size"),
    [(1, 32, 8, (56, 56)), (1, 64, 8, (7, 7)), (1, 2, 8, (28, 28)), (1, 4, 8, (4000,)), (8, 2, 8, (500,))],
)
def test_enough_blocks(batch, groups, channels, size):
    shape = (batch, groups * channels, *size)
    g = conv_geometry(shape, (groups * channels, channels, *[3] * len(size)), 1, 1, 1, groups)
    for itemsize, transposed in itertools.product((4, 8), (False, True)):
        record = grouped.plan(g, itemsize, transposed)[1]
        assert record.unit_blocks * record.panel_blocks >= grouped.MIN_BLOCKS


@pytest.mark.parametrize("itemsize", [4, 8])
def test_rings_of_planes_leave_room_for_pieces_of_positions(itemsize):
    """Rather than all rows of three planes of a single group, few rows of them for whole cache lines of groups."""
    g = conv_geometry((1, 256, 8, 28, 28), (256, 8, 3, 3, 3), 2, 1, 1, 32)
    assert grouped.plan(g, itemsize, False)[1].panel * 8 * itemsize >= grouped.PIECE_BYTES


def test_choice():
    eight = (1, 64, 9, 19), (64, 8, 3, 3)
    for stride, direction in itertools.product((1, 2), ("forward", "backward_data")):
        assert explain(*eight, groups=8, stride=stride, direction=direction).algorithm == "grouped"
    assert explain(*eight, groups=8, direction="backward_weight").algorithm != "grouped"
    assert explain((1, 64, 9, 9), (64, 32, 3, 3), groups=2).algorithm != "grouped"
    assert explain(*eight, groups=8, padding=1, padding_mode="circular").algorithm == "indirect"


@pytest.mark.parametrize(
    ("direction", "inputs", "outputs", "taps", "stride", "pays"),
    [
        ("forward", 1, 1, 3, 1, True),
        ("forward", 1, 2, 3, 1, True),
        ("forward", 4, 4, 3, 1, True),
        ("forward", 2, 2, 7, 1, True),
        ("forward", 1, 64, 3, 2, False),
        ("backward_data", 4, 4, 3, 1, True),
        ("backward_data", 4, 1, 3, 1, True),
        ("backward_data", 64, 1, 3, 3, False),
        ("backward_data", 80, 3, 2, 2, False),
        ("backward_weight", 2, 2, 3, 1, True),
        ("backward_weight", 4, 4, 3, 1, target().lanes(4) > 4),
        ("backward_weight", 2, 2, 5, 1, True),
        ("backward_weight", 64, 1, 3, 3, False),
        ("backward_weight", 64, 4, 3, 2, False),
        ("backward_weight", 4, 4, 1, 1, False),
    ],
)
@pytest.mark.parametrize("itemsize", [4, 8])
def test_strips_decline_what_is_a_matrix_product(direction, inputs, outputs, taps, stride, pays, itemsize):
    """What is copied for many channels of the other side costs more than lanes that idle, most of all under strides."""
    shapes = (1, 8 * inputs, 30, 30), (8 * outputs, inputs, taps, taps)
    reason = strips.declines(direction, conv_geometry(*shapes, stride, taps // 2, groups=8), itemsize)
    assert pays if reason is None else re.fullmatch(SLOWER, reason) and not pays


def test_strips_decline_a_single_group_of_several_channels():
    reason = strips.declines("forward", conv_geometry((1, 4, 9, 9), (1, 4, 3, 3), padding=1), 4)
    assert reason == "all channels are in one group"


@pytest.mark.parametrize(
    ("sources", "lanes", "width", "how"),
    [
        (1, 1, 16, "copies"),
        (3, 16, 16, "broadcasts"),
        (1, 4, 16, "permutations"),
        (2, 2, 8, "permutations"),
        (4, 1, 8, "permutations"),
        (5, 4, 16, "selections"),
        (5, 3, 8, "selections"),
        (5, 4, 32, "lanes"),
        (3, 3, 8, "selections"),
        (3, 3, 16, "lanes"),
        (5, 1, 8, "lanes"),
    ],
)
def test_how_strips_are_copied_is_weighed(sources, lanes, width, how):
    assert strips_choice.how_copied(sources, lanes, width) == how


@pytest.mark.parametrize("direction", plan.DIRECTIONS)
def test_no_batch_changes_whether_strips_pay(direction):
    """But that of a weight gradient, which sums over it."""
    one = conv_geometry((1, 48, 9, 9), (32, 6, 3, 3), padding=1, groups=8)
    ratios = {strips.declines(direction, one._replace(batch=batch), 4) for batch in (1, 2, 64)}
    assert len(ratios) == 1 or direction == "backward_weight"


def test_strips_leave_a_group_of_few_channels_to_turned_rows():
    geometry = conv_geometry((1, 8, 9, 9), (1, 8, 3, 3), padding=1)
    reason = "turned around, they are row runs of few channels" if turned.pays(geometry, 4) else None
    assert strips.declines("backward_data", geometry, 4) == reason


@pytest.mark.parametrize(
    ("direction", "width", "stride", "points"),
    [
        ("forward", 4, 1, 4),
        ("forward", 5, 1, None),
        ("forward", 12, 2, 6),
        ("forward", 13, 2, None),
        ("backward_data", 12, 2, 6),
        ("backward_data", 13, 2, None),
        ("backward_data", 36, 4, 9),
        ("backward_data", 37, 4, None),
    ],
)
def test_short_rows_are_left_to_indirect_gemm(direction, width, stride, points):
    geometry = conv_geometry((1, 64, 9, width), (64, 8, 3, 3), stride=stride, padding=1, groups=8)
    reason = f"rows of {points} points are too short for its tiles" if points else None
    assert grouped.declines(direction, geometry, 4) == reason
    assert plan.plan_conv(direction, geometry).algorithm == ("indirect" if points else "grouped")


@pytest.mark.parametrize(
    ("direction", "inputs", "outputs", "itemsize", "options", "declined"),
    [
        ("forward", 16, 8, 4, {"stride": 2}, None),  # two groups share a vector
        ("forward", 8, 16, 4, {}, None),
        ("forward", 8, 16, 4, {"stride": 2}, 16),
        ("forward", 8, 9, 4, {"dilation": 2}, 9),
        ("forward", 8, 17, 4, {}, 17),
        ("forward", 8, 9, 8, {}, 9),
        ("backward_data", 17, 8, 4, {}, 17),
        ("backward_data", 8, 17, 4, {"stride": 2}, None),
    ],
)
def test_wide_vectors_are_left_to_indirect_gemm(
    direction, inputs, outputs, itemsize, options, declined, monkeypatch
):  # fmt: skip
    wide = target()._replace(vector_bytes=64)
    for module in (grouped, strip_tile):
        monkeypatch.setattr(module, "target", lambda: wide)
    monkeypatch.setattr(blocking, "WIDE_VECTORS", True)
    geometry = conv_geometry((1, 8 * inputs, 9, 30), (8 * outputs, inputs, 3, 3), groups=8, **options)
    reason = f"groups of {declined} channels do not share a vector" if declined else None
    assert grouped.declines(direction, geometry, itemsize) == reason


@pytest.mark.parametrize(
    ("shape", "weight_shape", "options", "reason"),
    [
        ((1, 8, 5, 5), (8, 8, 3, 3), {}, "all channels are in one group"),
        ((1, 4, 5, 5), (16, 2, 3, 3), {"groups": 2}, f"2 input and 8 output channels, {SIZES}"),
        ((1, 130, 5, 5), (130, 65, 3, 3), {"groups": 2}, f"65 input and 65 output channels, {SIZES}"),
        ((1, 16, 5, 5), (16, 8, 3, 3), {"groups": 2, "direction": "backward_weight"}, "sums over positions"),
        ((1, 16, 5, 5), (16, 8, 3, 3), {"groups": 2, "padding": 1, "padding_mode": "reflect"}, "is 'reflect'"),
        ((1, 32, 99, 99), (32, 16, 80, 80), {"groups": 2}, "3276800 weights are more than it packs at a time"),
        ((1, 16, 40000, 2), (16, 8, 5, 1), {"groups": 2}, "199980 rows times kernel rows are more than it lists"),
        ((1, 12, 250, 150), (12, 6, 120, 45), {"groups": 2}, "do not fit into a thread's scratch memory"),
    ],
)
def test_refusals(shape, weight_shape, options, reason):
    with pytest.raises(OptionError, match=reason):
        explain(shape, weight_shape, **options, algorithm="grouped")


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="measured beside vectors of 64 bytes")
@pytest.mark.parametrize(("taps", "chosen"), [(5, "grouped"), (3, "indirect")])
def test_many_taps_share_what_is_copied_under_a_stride(taps, chosen):
    choice = explain((1, 64, 40, 40), (64, 16, taps, taps), groups=4, padding=taps // 2, stride=2)
    assert choice.algorithm == chosen
    if chosen != "grouped":
        assert dict(choice.refused)["grouped"] == "groups of 16 channels do not share a vector"


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="measured beside vectors of 64 bytes")
def test_winograd_is_left_what_it_is_clearly_faster_for():
    choice = explain((2, 64, 57, 57), (64, 16, 5, 5), groups=4, padding=2)
    assert choice.algorithm == "winograd"
    reason = r"Winograd's algorithm is expected to take 0\.\d\d times as long as indirect GEMM"
    assert re.fullmatch(reason, dict(choice.refused)["grouped"])
