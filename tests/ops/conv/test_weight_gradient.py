"""The weight gradient on outer-product tiles: which kernel, every way of cutting the work, what fits the scratch."""

import numpy as np
import pytest

from numbacnn.kernels import conv_weight, conv_weight_chains, conv_weight_slices
from numbacnn.kernels._serial import SCRATCH_SLOTS
from numbacnn.kernels._target import target
from numbacnn.kernels.group_tile import pairs_fit
from numbacnn.kernels.tile import tile_lanes
from numbacnn.ops import conv_backward_weight
from numbacnn.ops.conv import (
    weight_gradient,
    weight_gradient_chains,
    weight_gradient_few,
    weight_gradient_groups,
    weight_gradient_in_place,
    weight_gradient_slices,
)
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def check(case):
    checks.check(case, "indirect", ["backward_weight"])


@pytest.fixture
def never_slices(tune):
    tune(weight_gradient_slices, NEAR_CYCLES=np.inf, FAR_CYCLES=np.inf)


def single_tap(channels, size, stride=1, dtype="float32"):
    padding = (1,) + (0,) * (len(size) - 1)
    return ConvCase(3, *channels, size, (1,) * len(size), stride, padding if stride == 2 else 0, dtype=dtype)


@dtypes
@pytest.mark.parametrize(
    ("channels", "size", "stride"),
    [
        ((300, 70), (9, 11), 1),
        ((40, 70), (30, 31), 1),
        ((33, 130), (8, 7), 2),
        ((7, 65), (40, 33), 1),
        ((1, 80), (5,), 1),
        ((64, 2), (25, 30), 1),
        ((16, 3), (7, 8, 9), 1),
        ((130, 21), (11, 12), 2),
        ((120, 50), (1, 1), 1),
        ((3, 1), (700,), 1),
    ],
)
def test_single_tap(channels, size, stride, dtype):
    check(single_tap(channels, size, stride, dtype))


FAR = [
    ConvCase(2, 270, 50, (9, 10), (3, 3), padding=1, name="many taps of a block"),
    ConvCase(1, 257, 49, (40,), (35,), padding=17, name="blocks of taps"),
    ConvCase(1, 130, 60, (15, 14), (3, 2), (1, 3), 2, padding_mode="reflect", name="strides and reflection"),
    ConvCase(2, 264, 120, (11, 12), (2, 2), 2, 1, groups=2, name="groups of many channels"),
    ConvCase(1, 256, 48, (5, 6, 7), (2, 3, 2), padding=1, dilation=2, name="dilated 3-D"),
    ConvCase(2, 4 * PANEL + 8, 2 * PANEL + 4, (19, 20), (1, 1), groups=2, name="groups of a single tap"),
]


@dtypes
@pytest.mark.parametrize("case", FAR, ids=str)
def test_copied_rows(case, dtype, never_slices):
    case = case._replace(dtype=dtype)
    g = checks.geometry_of(case)
    assert not weight_gradient_in_place.accepts(g, np.dtype(dtype).itemsize)
    check(case)


# Much of what their taps read is padding by zeros.
PADDED = [
    ConvCase(2, 40, 30, (7, 6), (5, 5), padding=2, name="small images"),
    ConvCase(1, 70, 50, (2, 7, 7), (3, 3, 3), padding=1, name="3-D"),
    ConvCase(3, 33, 45, (1,), (3,), padding=1, name="one sample"),
    ConvCase(2, 35, 21, (1, 1), (3, 3), padding=1, name="one pixel"),
    ConvCase(1, 33, 20, (1, 1, 1), (1, 3, 5), padding=(0, 1, 2), name="one voxel"),
    ConvCase(1, 37, 29, (5, 4), (3, 3), padding=9, dilation=9, name="dilation larger than the image"),
    ConvCase(2, 40, 33, (33, 33), (3, 3), padding=12, dilation=12, name="a third of the image"),
    ConvCase(1, 34, 35, (6, 40), (5, 3), (2, 3), (4, 7), (3, 5), name="strides"),
    ConvCase(1, 34, 35, (50,), (40,), padding=39, name="many taps"),
    ConvCase(2, 20, 35, (3, 9), (3, 3), padding=4, name="outputs of padding alone"),
    ConvCase(2, 36, 70, (5, 6), (3, 3), padding=(2, 1), padding_mode=("zeros", "circular"), name="one axis of zeros"),
    ConvCase(2, 36, 66, (4, 5), (3, 3), padding=2, groups=2, name="groups"),
    ConvCase(2, 40, 70, (4, 5), (1, 1), padding=2, name="one tap"),
    ConvCase(2, 70, 40, (4, 5), (1, 1), 2, 3, name="one tap, with a stride"),
]


@dtypes
@pytest.mark.parametrize("case", PADDED, ids=str)
def test_positions_that_read_padding_alone_are_left_out(case, dtype, tune, never_slices):
    tune(weight_gradient_in_place, FAR_BYTES={4: 0, 8: 0}, FEW_CHANNELS=0)
    check(case._replace(dtype=dtype))
    tune(weight_gradient, STEP=24, BLOCK_NS=100.0, FEW_NS=0.0)
    check(case._replace(dtype=dtype))


@pytest.mark.parametrize("case", PADDED, ids=str)
def test_how_many_positions_are_left_out(case, never_slices):
    """Taps one by one, as counted on the images themselves; several together, what lies between the first and last."""
    g = checks.geometry_of(case)
    places = [
        [
            {
                p for p in range(g.output[axis])
                if g.padding_mode[axis] != "zeros"
                or 0 <= p * g.stride[axis] + k * g.dilation[axis] - g.pad_low[axis] < g.input[axis]
            }
            for k in range(g.kernel[axis])
        ]
        for axis in range(3)
    ]  # fmt: skip
    read = 0
    for tap, (d, h, w) in enumerate(np.ndindex(g.kernel)):
        inside = g.batch * len(places[0][d]) * len(places[1][h]) * len(places[2][w])
        assert weight_gradient.points_read(g, tap, tap + 1) == inside
        read += inside
    most = g.batch * np.prod(g.output)
    for first in range(g.taps):
        counts = [weight_gradient.points_read(g, first, last) for last in range(first + 1, g.taps + 1)]
        assert counts == sorted(counts)
        assert counts[-1] <= most
    if not weight_gradient_in_place.accepts(g, 4) and g.taps > 1:
        assert weight_gradient.share_read(g, 4) == pytest.approx(read / (most * g.taps))


def test_products_count_idle_lanes_of_the_side_along_which_vectors_run(monkeypatch):
    g = conv_geometry((8, PANEL + 8, 9, 9), (3 * PANEL, PANEL + 8, 3, 3), padding=1)
    monkeypatch.setattr(weight_gradient, "way_of", lambda *problem: None)
    assert weight_gradient.products(g, 4) == 3 * PANEL * 2 * PANEL
    monkeypatch.setattr(weight_gradient, "way_of", lambda *problem: weight_gradient_in_place)
    assert weight_gradient.products(g, 4) == (PANEL + 8) * 3 * PANEL


def test_taps_that_read_padding_have_positions_of_their_own():
    def together(*shapes, **options):
        r = weight_gradient.plan(conv_geometry(*shapes, **options), 4).record
        return r.together, r.tap_block

    few, block = together((1, 2048, 33, 33), (256, 2048, 3, 3), padding=12, dilation=12)
    assert few == 1
    few, block = together((1, 512, 33, 33), (256, 512, 3, 3))
    assert few == block > 1


@dtypes
@pytest.mark.parametrize("few", range(1, 5))
@pytest.mark.parametrize(("many", "size"), [(4, (5,)), (5, (9, 8)), (64, (31, 30)), (83, (3, 4, 50)), (300, (700,))])
def test_few_channels(few, many, size, dtype):
    for channels in ((many, few), (few, many)):
        case = single_tap(channels, size, dtype=dtype)
        assert weight_gradient_few.accepts(checks.geometry_of(case), np.dtype(dtype).itemsize)
        check(case)


MOST = SCRATCH_SLOTS // 4 - PANEL  # channels whose sums with four others fit the scratch


@pytest.mark.parametrize(
    ("shapes", "options", "few"),
    [
        (((1, 64, 56, 56), (4, 64, 1, 1)), {}, True),
        (((1, 3, 56, 56), (64, 3, 1, 1)), {}, True),
        (((1, 64, 56, 56), (5, 64, 1, 1)), {}, False),
        (((1, 64, 56, 56), (4, 32, 1, 1)), {"groups": 2}, False),
        (((1, 64, 56, 56), (4, 64, 1, 1)), {"stride": 2}, False),
        (((1, 64, 56, 56), (4, 64, 1, 1)), {"padding": 1}, False),
        (((1, 64, 56, 56), (4, 64, 3, 3)), {}, False),
        (((1, MOST, 5, 5), (4, MOST, 1, 1)), {}, True),
        (((1, MOST + 1, 5, 5), (4, MOST + 1, 1, 1)), {}, False),
    ],
)
def test_which_channels_are_few(shapes, options, few):
    assert weight_gradient_few.accepts(conv_geometry(*shapes, **options), 4) is few


@pytest.mark.parametrize(
    ("shapes", "options", "in_place"),
    [
        (((1, 64, 56, 56), (128, 64, 3, 3)), {"stride": 2}, True),
        (((1, 128, 56, 56), (128, 128, 3, 3)), {"stride": 2}, False),
        (((1, 512, 33, 33), (512, 512, 3, 3)), {}, False),
        (((1, 256, 30, 30), (24, 256, 5, 5)), {}, True),
        (((1, 64, 56, 56), (256, 64, 1, 1)), {}, False),
        (((1, 1024, 7, 7), (1024, 32, 3, 3)), {"groups": 32}, False),
        (((1, 512, 14, 14), (512, 16, 3, 3)), {"groups": 32}, True),
        (((1, 256, 28, 28), (256, 128, 1, 1)), {"groups": 2}, False),
        (((1, 256, 28, 28), (256, 4, 1, 1)), {"groups": 64}, True),
    ],
)
def test_which_rows_are_read_in_place(shapes, options, in_place):
    assert weight_gradient_in_place.accepts(conv_geometry(*shapes, **options), 4) is in_place


@pytest.mark.parametrize(
    ("panels", "channels", "parts"),
    [(5, 128, 2), (6, 160, 2), (4, 128, 1), (8, 128, 1), (5, 120, 1), (1, 128, 4)],
)
def test_input_channels_of_few_blocks_are_cut_into_even_shares(panels, channels, parts):
    g = conv_geometry((2, channels, 17, 17), (panels * PANEL, channels, 1, 7), padding=(0, 3))
    assert weight_gradient_in_place.plan(g, 4).record.run_blocks == parts


MANY_TAPS = [
    ConvCase(2, 13, 40, (7, 8), (7, 7), padding=3, name="an image"),
    ConvCase(1, 30, 70, (9, 20), (6, 11), 2, name="two panels and a stride"),
    ConvCase(1, 6, 3, (90,), (33,), padding=4, name="few channels"),
    ConvCase(2, 10, 18, (7, 6, 5), (4, 4, 3), padding=1, groups=2, name="groups"),
]


@dtypes
@pytest.mark.usefixtures("guarded", "never_slices")
@pytest.mark.parametrize("case", MANY_TAPS, ids=str)
def test_taps_of_several_blocks_are_read_in_place(case, dtype, tune):
    tune(weight_gradient_groups, accepts=lambda *problem: False)
    g = checks.geometry_of(case)
    assert weight_gradient_in_place.accepts(g, 8)
    assert weight_gradient_in_place.plan(g, np.dtype(dtype).itemsize).record.tap_blocks > 1
    check(case._replace(dtype=dtype))


def test_many_rows_are_copied_where_a_vector_is_a_cache_line():
    few, many = (conv_geometry((batch, 64, 2048), (64, 64, 3)) for batch in (1, 8))
    assert weight_gradient_in_place.accepts(few, 4)
    assert weight_gradient_in_place.accepts(many, 4) is (target().vector_bytes < 64)


SMALL_GROUPS = [
    ConvCase(2, 64, 64, (15, 17), (3, 3), (2, 1), 1, groups=8, name="squares"),
    ConvCase(1, 64, 32, (15, 14), (3, 3), padding=1, groups=8, padding_mode="circular", name="fewer output channels"),
    ConvCase(1, 48, 48, (7, 8, 6), (3, 2, 2), padding=1, groups=6, name="3-D"),
    ConvCase(3, 64, 64, (900,), (7,), dilation=2, groups=8, name="chunks of a sequence"),
    ConvCase(1, 24, 24, (9, 8), (4, 8), padding=3, groups=3, name="as many taps as are listed"),
]


@dtypes
@pytest.mark.parametrize("case", SMALL_GROUPS, ids=str)
def test_small_groups(case, dtype):
    case = case._replace(dtype=dtype)
    g = checks.geometry_of(case)
    if tile_lanes(4) == 16:
        assert weight_gradient_groups.accepts(g, np.dtype(dtype).itemsize)
    check(case)


@dtypes
@pytest.mark.parametrize("outputs", [4, 8])
@pytest.mark.parametrize("groups", [2, 3, 19])
def test_groups_of_half_a_vector(groups, outputs, dtype):
    """Where there are registers enough, they go through in pairs; the last one of an odd number alone."""
    lanes = target().lanes(np.dtype(dtype).itemsize)
    inputs = max(1, lanes // 2)
    case = ConvCase(2, groups * inputs, groups * outputs, (13, 12), (3, 3), padding=1, groups=groups, dtype=dtype)
    g = checks.geometry_of(case)
    if pairs_fit(lanes):
        assert weight_gradient_groups.accepts(g, np.dtype(dtype).itemsize)
        assert weight_gradient_groups.plan(g, np.dtype(dtype).itemsize).record.pair == 2
    check(case)


@dtypes
@pytest.mark.parametrize("outputs", [4, 12, 16])
def test_a_single_vector_of_channels(outputs, dtype):
    itemsize = np.dtype(dtype).itemsize
    inputs = target().lanes(itemsize)
    case = ConvCase(2, inputs, outputs, (9, 8, 7), (3, 2, 3), padding=1, dtype=dtype)
    fits = outputs <= 2 * inputs and pairs_fit(inputs)
    assert weight_gradient_groups.accepts(checks.geometry_of(case), itemsize) is fits
    check(case)


def test_groups_of_an_odd_number_of_vectors():
    case = ConvCase(2, 72, 120, (11, 12), (3, 3), padding=1, groups=3)
    if tile_lanes(4) == 16:
        assert weight_gradient_groups.accepts(checks.geometry_of(case), 4)
    check(case)


@pytest.mark.parametrize("channels", [(16, 16), (8, 12), (12, 8), (8, 6)])
def test_groups_that_are_not_small_or_whole(channels):
    per_group_in, per_group_out = channels
    case = ConvCase(2, 4 * per_group_in, 4 * per_group_out, (11, 12), (3, 3), padding=1, groups=4)
    g = checks.geometry_of(case)
    if tile_lanes(4) == 16:
        assert not weight_gradient_groups.accepts(g, 4)
    check(case)


SLICED = [
    ConvCase(2, 70, 3, (15, 17), (3, 3), padding=1, name="few output channels"),
    ConvCase(1, 2 * PANEL, 20, (9, 8, 7), (3, 2, 3), (1, 2, 1), 1, name="3-D"),
    ConvCase(2, PANEL + 3, 9, (70,), (5,), 2, 2, padding_mode="reflect", name="reflection and a stride"),
    ConvCase(1, PANEL, 5, (11, 12), (3, 3), 1, 4, 3, padding_mode=("zeros", "circular"), name="dilation"),
    ConvCase(1, PANEL, 1, (3, 5000), (2, 3), padding=(0, 1), name="a row of several blocks"),
    ConvCase(2, PANEL, 6, (150, 60), (3, 3), name="several rows per block"),
    ConvCase(1, PANEL + 1, 2, (5, 4), (3, 3), padding=(4, 3), name="outputs of padding alone"),
    ConvCase(1, PANEL, 3, (12, 11), (2, 2), 3, name="positions that no tap reads"),
    ConvCase(0, PANEL, 3, (12, 11), (2, 2), name="no samples"),
]


@pytest.fixture
def slices_wherever_they_fit(tune, guarded):
    tune(weight_gradient_slices, NEAR_CYCLES=-np.inf, FAR_CYCLES=-np.inf)


@dtypes
@pytest.mark.parametrize("case", SLICED, ids=str)
def test_slices(case, dtype, slices_wherever_they_fit):
    assert weight_gradient_slices.accepts(checks.geometry_of(case), np.dtype(dtype).itemsize)
    check(case._replace(dtype=dtype))


@dtypes
@pytest.mark.parametrize("outputs", range(1, 10))
def test_taps_and_output_channels_of_slices(outputs, dtype, slices_wherever_they_fit):
    """Every way that tiles may be filled."""
    for taps in range(2, 12):
        check(ConvCase(1, PANEL + 2, outputs, (taps + 9,), (taps,), padding=1, dtype=dtype))


@dtypes
def test_slices_have_the_same_bits_for_any_number_of_threads(dtype, slices_wherever_they_fit):
    generator = np.random.default_rng(0)
    x, grad = (generator.standard_normal((2, c, 60, 50)).astype(dtype) for c in (75, 5))
    assert_same_bits(lambda: conv_backward_weight(grad, x, (5, 75, 3, 3), padding=1, algorithm="indirect"))


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_slices_fit_the_scratch(vector_bytes, tune, monkeypatch):
    machine = target()._replace(vector_bytes=vector_bytes)
    monkeypatch.setattr(weight_gradient_slices, "target", lambda: machine)
    tune(weight_gradient_slices, NEAR_CYCLES=-np.inf, FAR_CYCLES=-np.inf)
    taken = 0
    for size, kernel in (((7,), 3), ((300_000,), 9), ((500, 400), 5), ((20, 30), 17), ((9, 60, 300), 3), ((1, 2), 2)):
        for stride, dilation, outputs in ((1, 1, 1), (2, 3, 20), (3, 1, 900)):
            g = conv_geometry((2, 70, *size), (outputs, 70, *[kernel] * len(size)), stride, dilation * kernel, dilation)
            if weight_gradient_slices.accepts(g, 4):
                r = weight_gradient_slices.plan(g, 4).record
                assert r.taps_d * r.plane * 4 <= conv_weight_slices.PATCH_SLOTS * 8
                assert r.count * r.lanes * r.width * 4 <= conv_weight_slices.SUM_SLOTS * 8
                taken += 1
    assert taken > 9


@pytest.mark.parametrize(
    ("shapes", "options", "sliced"),
    [
        (((1, 320, 64, 64), (1, 320, 3, 3)), {}, True),
        (((1, 64, 4000), (2 * PANEL, 64, 3)), {"stride": 2}, False),  # copied for few products
        (((1, 128, 28, 28), (4 * PANEL, 128, 3, 3)), {}, False),  # output channels fill panels
        (((1, 64, 56, 56), (5, 64, 1, 1)), {}, False),
        (((1, 3, 56, 56), (5, 3, 3, 3)), {}, False),
        (((1, 64, 56, 56), (8, 32, 3, 3)), {"groups": 2}, False),
        (((1, 64, 56, 56), (7, 64, 50, 50)), {}, False),  # too large a patch
        (((1, 64, 600), (1000, 64, 500)), {}, False),  # too many sums
    ],
)
def test_which_channels_are_sliced(shapes, options, sliced):
    assert weight_gradient_slices.accepts(conv_geometry(*shapes, **options), 4) is sliced


CHAINED = [
    ConvCase(2, 3, 17, (9, 23), (3, 3), padding=1, name="two panels"),
    ConvCase(3, 2, PANEL // 2, (7, 8, 9), (3, 2, 3), (1, 2, 1), 1, name="one whole panel"),
    ConvCase(1, 5, 11, (4, 900), (2, 7), (1, 2), (1, 3), name="a row of several blocks"),
    ConvCase(2, 2, 7, (6, 21), (3, 11), (2, 4), (2, 5), (3, 1), name="strides and dilation"),
    ConvCase(1, 9, 20, (3, 4, 6), (5, 3, 5), padding=(4, 2, 2), name="planes of padding alone"),
    ConvCase(1, 1, 3, (5, 6), (4, 13), padding=(6, 12), name="taps and rows of padding alone"),
    ConvCase(0, 3, 5, (8, 9), (2, 3), name="no samples"),
    ConvCase(2, 130, 6, (70, 12), (1, 3), padding=(0, 1), name="many channels"),
]


@pytest.fixture
def chains_wherever_they_fit(tune, guarded):
    tune(weight_gradient_chains, accepts=lambda *problem: True)


@dtypes
@pytest.mark.parametrize("case", CHAINED, ids=str)
def test_chains(case, dtype, chains_wherever_they_fit):
    check(case._replace(dtype=dtype))


@dtypes
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("taps", range(1, 9))
def test_links_and_rows_of_chains(taps, stride, dtype, chains_wherever_they_fit):
    """Every way that tiles may be filled, and lines end."""
    for channels in range(1, 10):
        case = ConvCase(2, channels, 6, (taps + 5 * stride,), (taps,), stride, channels % (taps + 2), dtype=dtype)
        check(case)


def test_chains_read_infinity_only_where_taps_do(chains_wherever_they_fit):
    x = np.zeros((1, 1, 2, 12), np.float32)
    x[0, 0, 0, 0], x[0, 0, 1, -1] = np.inf, np.nan
    grad = np.ones((1, 4, 2, 12), np.float32)
    actual = conv_backward_weight(grad, x, (4, 1, 1, 5), padding=(0, 2), algorithm="indirect")
    np.testing.assert_array_equal(np.isinf(actual[0, 0, 0]), [True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(actual[3, 0, 0]), [False, False, True, True, True])


@dtypes
def test_chains_have_the_same_bits_for_any_number_of_threads(dtype, chains_wherever_they_fit):
    generator = np.random.default_rng(0)
    x, grad = (generator.standard_normal((2, c, 60, 50)).astype(dtype) for c in (3, 21))
    assert_same_bits(lambda: conv_backward_weight(grad, x, (21, 3, 5, 5), padding=2, algorithm="indirect"))


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_chains_fit_the_scratch(vector_bytes, tune, monkeypatch):
    machine = target()._replace(vector_bytes=vector_bytes, registers=32)
    monkeypatch.setattr(weight_gradient_chains, "target", lambda: machine)
    tune(weight_gradient_chains, _pays=lambda *problem: True)
    taken = 0
    for channels, size, kernel in (
        (1, (300_000,), 9), (3, (500, 400), 7), (16, (9, 60, 300), 3), (60, (7, 60), 5), (200, (9, 9, 9), 6),
    ):  # fmt: skip
        for outputs in (5, 64, 1000):
            g = conv_geometry((2, channels, *size), (outputs, channels, *[kernel] * len(size)), padding=1)
            if weight_gradient_chains.accepts(g, 4):
                p = weight_gradient_chains.plan(g, 4)
                r = p.record
                columns, lines = -(-r.out_w // r.column_blocks), -(-r.out_h // r.row_blocks)
                rows = r.taps_d * r.taps_h * r.channels
                panels = -(-r.panels // r.panel_blocks)
                assert columns * lines <= conv_weight_chains.MOST_POINTS
                assert rows * lines <= conv_weight_chains.TABLE_SLOTS
                assert panels * rows * r.taps_w * r.width * 4 <= conv_weight_chains.SUM_SLOTS * 8
                assert p.zeros >= r.size_w * r.channels
                taken += 1
    assert taken > 5


@pytest.mark.skipif(target().vector_bytes < 64, reason="chains are for machines with 32 registers")
@pytest.mark.parametrize(
    ("shapes", "options", "chained"),
    [
        (((1, 2, 24, 24), (16, 2, 3, 3)), {"padding": 1}, True),
        (((1, 16, 24, 24), (16, 16, 3, 3)), {"padding": 1}, True),
        (((1, 24, 24, 24), (16, 24, 3, 3)), {}, True),  # half of a slice would be idle
        (((1, 24, 24, 24), (48, 24, 3, 3)), {}, True),
        (((1, 24, 24, 24), (192, 24, 3, 3)), {}, False),  # slices are used by many output channels
        (((1, 32, 24, 24), (16, 32, 3, 3)), {}, False),
        (((1, 16, 24, 24), (16, 16, 3, 5)), {}, False),  # chains of two taps beside the tile of groups
        (((1, 3, 224, 224), (64, 3, 7, 7)), {"stride": 2}, True),
        (((1, 3, 224, 224), (64, 3, 7, 7)), {"stride": 4}, False),  # short chains
        (((1, 3, 64, 64), (16, 3, 3, 3)), {"stride": 2}, True),
        (((1, 3, 64, 64), (64, 3, 3, 3)), {"stride": 2}, False),
        (((1, 2, 24, 24), (8, 2, 3, 3)), {}, False),  # pairs
        (((1, 2, 24, 7), (16, 2, 3, 3)), {}, False),  # short lines
        (((1, 1, 9000), (16, 1, 3)), {}, False),  # a single row
        (((1, 4, 9000), (32, 4, 5)), {}, False),  # four
        (((1, 2, 24, 24), (16, 2, 3, 3)), {"padding": 1, "padding_mode": "reflect"}, False),
        (((1, 2, 24, 24), (16, 2, 3, 3)), {"dilation": 2}, False),
        (((1, 4, 24, 24), (32, 2, 3, 3)), {"groups": 2}, False),
    ],
)
def test_which_channels_go_in_chains(shapes, options, chained):
    assert weight_gradient_chains.accepts(conv_geometry(*shapes, **options, warn=False), 4) is chained


@pytest.mark.parametrize(
    "changed",
    [
        {"BLOCK_NS": 100.0, "FEW_NS": 0.0},  # as many blocks and chunks as there may be
        {"BLOCK_NS": 100.0, "FEW_NS": 0.0, "PUT_CYCLES": 1e9},  # rather blocks of channels than chunks
        {"BLOCK_NS": 1e12, "FEW_NS": 1e12, "MOST_LEFT": 12},
        {"LEFT_CYCLES": 1e6, "ASKED_BYTES": 0},
        {"PANEL_CYCLES": 1e6, "ASKED_BYTES": 0},
        {"BLOCK_NS": 100.0, "FEW_NS": 0.0, "ADD_CYCLES": -100.0, "ASKED_BYTES": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "case",
    [
        single_tap((100, 70), (30, 31)),
        single_tap((70, 100), (30, 31), dtype="float64"),
        single_tap((24, 144), (20, 20)),
        ConvCase(2, 260, 70, (17, 18), (3, 3), 1, 1),
        ConvCase(2, 264, 100, (17, 18), (2, 1), groups=2, dtype="float64"),
    ],
    ids=["pointwise", "pointwise float64", "few", "nine taps", "groups"],
)
def test_any_cut_gives_the_same_values(case, changed, tune, never_slices):
    tune(weight_gradient, **changed)
    check(case)


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_every_cut_fits_the_scratch(vector_bytes, monkeypatch):
    for itemsize in (4, 8):
        lanes = 2 * vector_bytes // itemsize
        monkeypatch.setattr(weight_gradient, "tile_lanes", lambda _, lanes=lanes: lanes)
        for in_channels in (1, 5, 64, 300, 2048):
            for out_channels in (1, 7, 64, 100, 2048):
                for taps in (1, 3, 35, 300):
                    g = conv_geometry((2, in_channels, 2000), (out_channels, in_channels, taps))
                    r = weight_gradient.plan(g, itemsize).record
                    tiles = -(-r.left_block // conv_weight.MAX_ROWS)
                    copies = tiles * r.left_step
                    panels = r.panel_block if taps > 1 or r.swapped else 1
                    sums = r.left_block * panels * r.tap_block * r.width
                    assert (copies + sums) * itemsize <= conv_weight.WORK_SLOTS * 8
                    assert r.step <= conv_weight.MAX_POINTS
                    assert r.step * r.width * itemsize <= conv_weight.PANEL_SLOTS * 8


@dtypes
def test_no_positions(dtype):
    grad, x = np.ones((0, 40, 6, 6), dtype), np.ones((0, 300, 6, 6), dtype)
    for kernel in ((1, 1), (3, 3)):
        actual = conv_backward_weight(grad, x, (40, 300, *kernel), padding=kernel[0] // 2, algorithm="indirect")
        np.testing.assert_array_equal(actual, np.zeros((40, 300, *kernel), dtype))
    actual = conv_backward_weight(grad[:, :3], x, (3, 300, 1, 1))
    np.testing.assert_array_equal(actual, np.zeros((3, 300, 1, 1), dtype))
