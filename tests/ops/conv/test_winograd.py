"""Winograd convolution: values against the oracle within stated errors, every way of cutting, the choice, precision."""

import itertools
import re

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.errors import OptionError
from numbacnn.kernels import conv_winograd_weight, winograd_domain
from numbacnn.kernels.tile import MAX_ROWS
from numbacnn.ops import conv_forward, explain
from numbacnn.ops.conv import plan, winograd, winograd_tiles, winograd_weight
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase
from tests.ops.conv import checks

ALGORITHM = "winograd"
# Of the largest result, for the normally distributed data of these tests.
TOLERANCE = {"float32": 1e-5, "float64": 2e-14}
MOST_TAPS = 25  # of a tile


def directions(case):
    return checks.directions(case, ALGORITHM)


def results(case, algorithm=ALGORITHM):
    return checks.results(case, checks.normal_operands(case), directions(case), algorithm)


def check(case):
    assert "forward" in checks.check_close(case, ALGORITHM, TOLERANCE[case.dtype])


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel"),
    [
        ((37,), (3,)),
        ((9, 14), (3, 3)),
        ((8, 11), (1, 3)),
        ((11, 8), (3, 1)),
        ((6, 7, 8), (3, 3, 3)),
        ((5, 6, 7), (2, 3, 3)),
        ((3, 6, 7), (1, 3, 3)),
        ((9, 3, 7), (7, 1, 3)),
        ((9, 3, 7), (3, 1, 1)),
        ((4, 7, 5), (1, 3, 1)),
        ((3, 4, 11), (1, 1, 3)),
        ((37,), (4,)),
        ((38,), (5,)),
        ((9, 14), (5, 5)),
        ((9, 14), (4, 4)),
        ((13, 9), (3, 5)),
        ((13, 9), (5, 4)),
        ((13, 9), (5, 1)),
        ((6, 7, 8), (3, 5, 3)),
        ((6, 9, 8), (2, 4, 5)),
        ((5, 9, 4), (4, 3, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("groups", [1, 2])
def test_kernels(size, kernel, groups, dtype):
    padding = tuple(k // 2 for k in kernel)
    check(ConvCase(2, 24 * groups, 20 * groups, size, kernel, padding=padding, groups=groups, dtype=dtype))


@pytest.mark.parametrize("height", range(3, 13))
def test_every_raggedness_of_tiles(height):
    """Two or four outputs per tile, the last tile cut anywhere; on the other axis another cut."""
    check(ConvCase(1, 16, 8, (height, 15 - height), (3, 3)))
    check(ConvCase(3, 16, 8, (15 - height,), (3,), padding=1))
    check(ConvCase(1, 16, 8, (height, 16 - height), (5, 4), padding=1))


@pytest.mark.parametrize("out_channels", [1, 4, 7, 8, 9, 16, 17, 24, 33, 70])
@pytest.mark.parametrize("in_channels", [16, 17, 33, 70])
def test_channels(in_channels, out_channels):
    check(ConvCase(1, in_channels, out_channels, (7, 9), (3, 3), padding=1))
    check(ConvCase(1, in_channels, out_channels, (7, 5), (3, 3), padding=1, dtype="float64"))
    check(ConvCase(1, in_channels, out_channels, (7, 5), (5, 5), padding=2))


@pytest.mark.parametrize("padding", [0, 1, 2, 5, ((0, 3), (4, 1))], ids=str)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding(padding, mode):
    check(ConvCase(2, 16, 24, (6, 9), (3, 3), padding=padding, padding_mode=mode))
    check(ConvCase(1, 16, 24, (6, 9), (5, 5), padding=padding, padding_mode=mode))


@pytest.mark.parametrize("padding", [0, 1, 2, 4, (0, 3), (5, 1)], ids=str)
@pytest.mark.parametrize("depth", [3, 4, 13, 40])
def test_padding_along_depth(padding, depth):
    check(ConvCase(2, 16, 8, (depth, 5, 4), (3, 3, 3), padding=(padding, 1, 1)))


@pytest.mark.parametrize("dilation", [2, 3, 5, 12])
@pytest.mark.parametrize("size", [(23,), (9, 14), (6, 7, 8)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dilation(size, dilation, dtype):
    """Images of every so many coordinates: more of them than rows, tiles that some have and some have not."""
    kernel = (3,) * len(size)
    check(ConvCase(2, 24, 20, size, kernel, padding=dilation, dilation=dilation, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "dilation", "padding"),
    [
        ((3, 3), 1, 1),
        ((2, 3), 1, 1),
        ((33, 33), 12, 12),
        ((11, 25), (4, 9), (4, 9)),
        ((11, 25), (4, 2), (4, 2)),
        ((11, 25), (4, 9), ((4, 1), (9, 11))),
        ((3, 20), (1, 7), (1, 7)),
        ((2, 8, 7), (1, 3, 3), (1, 3, 3)),
        ((20,), 7, 7),
    ],
    ids=str,
)
def test_images_of_three_points(size, dilation, padding, dtype):
    """Between zeros: four points for three outputs."""
    case = ConvCase(2, 24, 20, size, (3,) * len(size), padding=padding, dilation=dilation, dtype=dtype)
    g = winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record
    assert 3 in (g.form_h, g.form_w)
    check(case)


@pytest.mark.parametrize(
    ("size", "padding", "mode"),
    [(10, 3, "zeros"), (9, 2, "zeros"), (9, 3, "circular"), (9, ((3, 4),), "zeros"), (6, 3, "zeros")],
)
def test_other_images_of_few_points(size, padding, mode):
    case = ConvCase(2, 24, 20, (size,), (3,), padding=padding, dilation=3, padding_mode=mode)
    assert winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record.form_w != 3
    check(case)


@pytest.mark.parametrize("size", [11, 12, 13, 14, 15, 16, 17, 18])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_dilation_with_any_padding(size, mode):
    case = ConvCase(1, 16, 8, (size, 29 - size), (3, 3), padding=((0, 4), (7, 1)), dilation=(2, 3), padding_mode=mode)
    check(case)


@pytest.mark.parametrize("padding", [0, 4, 7])
@pytest.mark.parametrize("depth", [9, 13, 40])
def test_dilation_along_depth(padding, depth):
    check(ConvCase(2, 16, 8, (depth, 5, 4), (3, 3, 3), padding=(padding, 1, 1), dilation=(4, 1, 1)))


@pytest.mark.parametrize("case", [case for case in CONV_CASES if "forward" in directions(case)], ids=str)
def test_table(case):
    check(case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [2, 3, 6, 7, 8, 9, 11, 17, 30])
def test_stretches(taps, stride, dtype):
    """Taps of one axis, in stretches that are as many as the stride at least, the last of them cut anywhere."""
    if taps > stride:
        check(ConvCase(2, 24, 20, (71,), (taps,), stride=stride, padding=taps // 2, dtype=dtype))


@pytest.mark.parametrize("taps", [2, 7, 10])
@pytest.mark.parametrize("size", [(9, 23), (23, 9), (3, 23, 4), (2, 3, 23)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_stretches_along_any_axis(size, taps, groups):
    kernel = tuple(taps if extent == 23 else 1 for extent in size)
    padding = tuple(k // 2 for k in kernel)
    check(ConvCase(2, 24 * groups, 20 * groups, size, kernel, padding=padding, groups=groups))
    check(ConvCase(1, 24, 40, size, kernel, stride=tuple(1 + (k > 3) for k in kernel), padding=padding))


@pytest.mark.parametrize("size", [31, 32, 33, 34, 35, 36])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_stretches_with_any_padding(size, dilation, mode):
    options = {"padding": ((7, 4),), "dilation": dilation, "padding_mode": mode}
    check(ConvCase(1, 16, 8, (size,), (2,), **options))
    check(ConvCase(1, 16, 8, (size,), (7,), **options))
    check(ConvCase(1, 16, 8, (size,), (9,), **options))


def test_stretches_read_nothing_beyond_their_taps():
    """What no tap reads may be anything, though tiles have room for more taps than there are."""
    x, weight = np.ones((1, 16, 40)), np.ones((8, 16, 7))
    want = conv_forward(x, weight, stride=3, algorithm="indirect")
    x[..., 3 * (want.shape[-1] - 1) + 7 :] = np.nan
    np.testing.assert_allclose(conv_forward(x, weight, stride=3, algorithm=ALGORITHM), want, rtol=1e-13)


def test_no_batch():
    assert conv_forward(np.ones((0, 16, 8, 8)), np.ones((8, 16, 3, 3)), algorithm=ALGORITHM).shape == (0, 8, 6, 6)


# ------------------------------------------------------------------------------------------------------------- cutting

# Together they meet every way of cutting; `test_the_cases_meet_every_cut` sees to that.
CUT = [
    ConvCase(16, 32, 40, (24, 23), (3, 3), padding=1, name="own input"),
    ConvCase(2, 32, 24, (17, 20, 18), (3, 3, 3), padding=1, name="own input, planes"),
    ConvCase(1, 80, 50, (13, 14), (3, 3), padding=1, name="own weights"),
    ConvCase(1, 130, 40, (40, 41), (3, 3), padding=1, name="shared"),
    ConvCase(2, 80, 40, (6, 20, 18), (3, 3, 3), padding=1, dtype="float64", name="shared planes"),
    ConvCase(1, 256, 64, (60, 56), (3, 3), padding=1, name="in portions"),
    ConvCase(1, 96, 200, (5, 12, 13), (3, 3, 3), padding=1, dtype="float64", name="panels in parts"),
    ConvCase(1, 240, 360, (5, 12, 13), (3, 3, 3), padding=1, groups=3, name="groups in parts"),
    ConvCase(1, 140, 560, (50, 18), (3, 3), padding=1, dtype="float64", name="panels of gradients in parts"),
    ConvCase(1, 600, 900, (50, 18), (3, 3), padding=1, groups=3, name="groups of gradients in parts"),
    ConvCase(1, 130, 70, (9, 24, 13), (3, 3, 3), padding=(0, 2, 3), dilation=(4, 2, 3), name="dilated"),
    ConvCase(1, 70, 130, (33, 31), (5, 5), padding=2, name="five taps"),
    ConvCase(1, 1030, 40, (9, 13), (3, 3), padding=1, name="source channels in parts"),
    ConvCase(1, 900, 70, (2, 8, 10), (3, 3, 3), padding=(1, 3, 4), dilation=(1, 3, 4), name="planes of parts"),
]


STRETCHED = [
    ConvCase(2, 200, 40, (1000,), (7,), padding=3, name="stretches, own input"),
    ConvCase(1, 200, 150, (90,), (9,), padding=3, dtype="float64", name="stretches, own weights"),
    ConvCase(1, 70, 50, (2000,), (2,), padding=64, dilation=64, name="two taps"),
]


# Channels that fill no vectors, in rows, groups and parts.
RAGGED = [
    ConvCase(3, 164, 232, (15,), (4,), stride=3, padding=1, groups=4),
    ConvCase(1, 106, 78, (55,), (5,), stride=3, padding=1, groups=2),
    ConvCase(2, 44, 152, (54,), (5,), padding=2, groups=4, dtype="float64"),
    ConvCase(1, 166, 170, (7, 9), (3, 3), padding=1, groups=2),
    *(ConvCase(1, channels, 40, (9, 13), (3, 3), padding=1) for channels in (771, 1003, 1025, 1441)),
]


@pytest.mark.parametrize("case", [*CUT, *STRETCHED], ids=str)
def test_cutting_changes_no_bit(case, tune):
    def bits():
        return [result.tobytes() for result in results(case)]

    usual = bits()
    for got, want in zip(results(case), results(case, "indirect"), strict=True):
        assert np.abs(got - want).max() <= TOLERANCE[case.dtype] * np.abs(want).max()
    tune(winograd, OWN_TILES=())
    assert bits() == usual
    tune(winograd, OWN_WEIGHT_TILES=11)
    tune(winograd_weight, MOST_AT_ONCE_BYTES=0)
    assert bits() == usual
    tune(winograd, PORTION_BYTES=1, TILES=7, STEP_PANELS=1, MORE_STEP_PANELS=1, BLOCKS=3)
    tune(winograd_tiles, BLOCKS=5)
    tune(winograd_weight, BLOCKS=7, TILES=5, LARGEST_PORTION_BYTES=1 << 20)
    assert bits() == usual


def test_the_cases_meet_every_cut():
    plans = [winograd.plan(checks.geometry_of(case), "forward", np.dtype(case.dtype).itemsize) for case in CUT]
    kinds = [(plan.parts[0].record.own_values, plan.parts[0].record.own_run > 0) for plan in plans]
    assert kinds[:5] == [(1, False), (1, False), (0, True), (0, True), (0, False)]
    stretched = [winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record for case in STRETCHED]
    assert [(g.own_values, g.own_run > 0) for g in stretched] == [(1, False), (0, True), (1, False)]
    assert stretched[0].run_step < stretched[0].run
    assert plans[5].portion < plans[5].tile_blocks
    assert len(plans[6].parts) > 1
    assert len(plans[7].parts) > 1
    assert plans[7].parts[0].record.groups < 3
    assert [(part.record.run, part.record.adds, part.complete) for part in plans[12].parts] == [
        (352, 0, False),
        (352, 1, False),
        (326, 1, True),
    ]
    assert [part.record.own_run > 0 for part in plans[12].parts] == [True] * 3
    assert {(part.record.own_run, part.record.adds) for part in plans[13].parts} == {(0, 0), (0, 1)}
    plans = [winograd_weight.plan(checks.geometry_of(case), np.dtype(case.dtype).itemsize) for case in CUT]
    at_once = [plan.parts[0].sums.point_blocks == 0 for plan in plans]
    portions = [len(plan.parts[0].portions) for plan in plans]
    assert at_once[:12] == [False, False, True, True, False, False, True, True, False, False, True, False]
    assert portions[8] > 1
    assert len(plans[8].parts) > 1
    assert len(plans[9].parts) > 1


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_blocks_fit_the_scratch(vector_bytes, itemsize, monkeypatch):
    """On processors with other vectors as well."""
    for module in (winograd, winograd_tiles):
        monkeypatch.setattr(module, "tile_lanes", lambda itemsize: 2 * vector_bytes // itemsize)
    more = [
        ConvCase(1, 256, 256, (4000,), (3,)),
        ConvCase(8, 512, 512, (7, 7), (3, 3), padding=1),
        ConvCase(1, 512, 512, (4000,), (2,)),
        ConvCase(1, 512, 512, (4000,), (60,)),
        ConvCase(1, 512, 512, (90,), (9,), stride=2),
    ]
    for case in [*CUT, *STRETCHED, *more]:
        g = winograd.plan.__wrapped__(checks.geometry_of(case), "forward", itemsize).parts[0].record
        own = g.products_point + g.own_values * g.values_point + (g.weight_point * g.taps_d if g.own_run else 0)
        slots = winograd_domain.MOST_PRODUCT_SLOTS if g.own_run else winograd_domain.PRODUCT_SLOTS
        assert g.points_h * g.points_w * own * itemsize <= slots * 8
        assert g.own_run <= g.run + 64 // itemsize


@pytest.mark.parametrize("case", [*CUT, *STRETCHED, *RAGGED], ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
def test_slices_end_with_whole_vectors(case, direction):
    """What is left of a row of transformed input at the end of a slice; a shorter piece would hit another slice's."""
    itemsize = np.dtype(case.dtype).itemsize
    for part in winograd.plan(checks.geometry_of(case), direction, itemsize).parts:
        g = part.record
        if not g.own_values:
            channels = g.groups * g.run
            lines = channels // g.line
            ends = {*(i * lines // g.slices * g.line for i in range(g.slices)), channels}
            ends |= set(range(0, channels, g.values_run))
            assert min(b - a for a, b in itertools.pairwise(sorted(ends))) >= g.vector


def test_tables_fit_the_scratch():
    rows = conv_winograd_weight.MOST_BETWEEN + MOST_TAPS
    room = winograd_domain.PASS_SLOTS + conv_winograd_weight.AT_ONCE_TILES
    assert rows * winograd_domain.PASS_VECTORS * 64 // 8 <= room
    sums = winograd_domain.MAX_POINTS * conv_winograd_weight.AT_ONCE_RUN * conv_winograd_weight.AT_ONCE_PANELS * 2 * 64
    assert conv_winograd_weight.AT_ONCE_TILES + sums // 8 <= winograd_domain.PRODUCT_SLOTS
    for taps in (winograd_domain.FEW_TAPS, MOST_TAPS):
        gathered = winograd_domain.GATHERED * winograd_domain.FEW_TAPS
        if taps > winograd_domain.FEW_TAPS:
            gathered = max(gathered, winograd_domain.MOST_GATHERED)
        vectors = gathered * 2 + (taps > winograd_domain.FEW_TAPS) * conv_winograd_weight.MOST_BETWEEN
        assert vectors * 64 // 8 <= winograd_domain.PASS_SLOTS
    for case in [*CUT, *STRETCHED, ConvCase(1, 16, 16, (40, 9, 9), (16, 3, 3)), ConvCase(1, 16, 16, (900,), (45,))]:
        g = winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record
        tables = -(-g.block_columns * g.block_depth // MAX_ROWS)
        assert tables * (1 + MAX_ROWS + g.taps_d * (MAX_ROWS + 1)) <= winograd_domain.TABLE_SLOTS


@pytest.mark.parametrize("case", CUT[:4], ids=str)
def test_same_bits_on_any_threads(case):
    assert_same_bits(lambda: tuple(results(case)))


# ----------------------------------------------------------------------------------------------------- numerical errors


@pytest.mark.parametrize("taps", [3, 4, 5])
@pytest.mark.parametrize("channels", [64, 1024])
def test_float32_error(channels, taps):
    """The documented bound; a sum of products of float32 is about three times as exact."""
    case = ConvCase(1, channels, 16, (16, 16), (taps, taps), padding=1)
    operands, taken = checks.normal_operands(case), directions(case)
    assert taken == list(plan.DIRECTIONS)
    double = checks.Operands(*(array.astype(float) for array in operands))
    exact = checks.results(case, double, taken, "indirect")
    for got, want in zip(checks.results(case, operands, taken, ALGORITHM), exact, strict=True):
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("channels", [64, 1024])
def test_float32_error_of_three_points(channels):
    case = ConvCase(1, channels, 16, (17, 18), (3, 3), padding=6, dilation=6)
    operands, taken = checks.normal_operands(case), directions(case)
    double = checks.Operands(*(array.astype(float) for array in operands))
    exact = checks.results(case, double, taken, "indirect")
    for got, want in zip(checks.results(case, operands, taken, ALGORITHM), exact, strict=True):
        assert np.abs(got - want).max() <= 4e-6 * np.abs(want).max()


def test_nan_stays_in_the_tiles_that_read_it():
    x, weight = np.ones((1, 16, 24, 24), np.float32), np.ones((8, 16, 3, 3), np.float32)
    x[0, 3, 10, 13] = np.nan
    y = conv_forward(x, weight, padding=1, algorithm=ALGORITHM)
    touched = np.zeros((24, 24), bool)
    touched[8:12, 12:16] = True  # inputs 7 to 12 and 11 to 16
    assert np.isnan(y[:, :, 9:12, 12:15]).all()
    assert np.array_equal(np.isnan(y), np.broadcast_to(touched, y.shape))


def test_what_lies_behind_the_input_does_not_leak():
    x = np.full((1, 16, 13, 13), np.nan, np.float32)[:, :, 2:-2, 2:-2]
    x[...] = 1
    y = conv_forward(x, np.ones((5, 16, 3, 3), np.float32), padding=3, algorithm=ALGORITHM)
    np.testing.assert_allclose(y.max(), 144, rtol=1e-5)
    assert np.isfinite(y).all()


# -------------------------------------------------------------------------------------------------------------- choice


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "options", "reason"),
    [
        ((1, 16, 9, 9), (16, 16, 3, 3), {"stride": 2}, r"the stride is \(1, 2, 2\)"),
        ((1, 16, 9, 9), (16, 16, 6, 3), {}, r"the kernel \(1, 6, 3\) does not have three to five taps along"),
        ((1, 16, 9, 9, 9), (16, 16, 3, 1, 2), {}, r"the kernel \(3, 1, 2\) does not have three to five taps"),
        ((1, 16, 19, 9, 9), (16, 16, 17, 3, 3), {}, "there are 17 taps along D or stretches of taps, more than 16"),
        ((1, 16, 100), (16, 16, 90), {}, "there are 30 taps along D or stretches of taps, more than 16"),
        ((1, 16, 40), (16, 16, 5), {"stride": 2, "dilation": 2}, r"the stride is \(1, 1, 2\)"),
        ((1, 16, 40), (16, 16, 2), {"stride": 2}, r"the kernel \(1, 1, 2\) is not longer than the stride"),
        ((1, 16, 9, 9, 9), (16, 16, 3, 3, 3), {"padding": 1, "padding_mode": "circular"}, "there is padding along D"),
        ((1, 16, 9, 9, 9), (16, 16, 1, 3, 3), {"padding": (1, 0, 0)}, "there is padding along D"),
        ((1, 3, 9, 9), (16, 3, 3, 3), {}, "3 channels to sum over do not fill a vector"),
        ((1, 30000, 9, 9), (2, 30000, 3, 3), {}, "the transforms of 30000 channels take too much memory"),
    ],
)
def test_what_it_does_not_take(input_shape, weight_shape, options, reason):
    with pytest.raises(OptionError, match=f"algorithm='winograd' cannot run forward of this convolution: {reason}"):
        explain(input_shape, weight_shape, **options, algorithm=ALGORITHM)


def test_mirrored_padding_is_forward_only():
    shapes, options = ((1, 16, 9, 9), (16, 16, 3, 3)), {"padding": 1, "padding_mode": "reflect"}
    assert explain(*shapes, **options, algorithm=ALGORITHM).algorithm == ALGORITHM
    refused = dict(explain(*shapes, **options, direction="backward_data").refused)
    assert refused[ALGORITHM] == "padding_mode ('zeros', 'reflect', 'reflect') adds gradients up"


SLOWER = r"it is expected to take \d\.\d\d times as long as the general algorithm"


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "reason"),
    [
        ((1, 64, 56, 56), (8, 64, 3, 3), "64 and 8 channels per group are few"),
        ((1, 8, 56, 56), (64, 8, 3, 3), "8 and 64 channels per group are few"),
        ((1, 64, 6, 6), (64, 64, 3, 3), SLOWER),
        ((1, 32, 12, 12), (32, 32, 3, 3), SLOWER),
        ((1, 64, 128), (64, 64, 3), SLOWER),
        ((1, 32, 1000), (32, 32, 3), SLOWER),
        ((1, 64, 5, 5, 5), (64, 64, 3, 3, 3), SLOWER),
    ],
)
@pytest.mark.parametrize("batch", [0, 1, 64])
def test_what_does_not_pay(input_shape, weight_shape, reason, batch):
    """Whatever the batch: a batch gives the bits of its samples."""
    choice = explain((batch, *input_shape[1:]), weight_shape)
    assert choice.algorithm == ("row_runs" if input_shape[1] == 8 else "indirect")
    assert re.fullmatch(reason, dict(choice.refused)[ALGORITHM])
    assert explain(input_shape, weight_shape, algorithm=ALGORITHM).algorithm == ALGORITHM


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "pays"),
    [
        ((1, 64, 8, 8), (64, 64, 3, 3), False),
        ((1, 512, 7, 7), (512, 512, 3, 3), False),
        ((1, 48, 4, 4, 4), (48, 48, 3, 3, 3), False),
        ((1, 128, 256), (128, 128, 3), False),
        ((8, 512, 7, 7), (512, 512, 3, 3), True),
        ((1, 64, 56, 56), (64, 64, 3, 3), True),
        ((1, 64, 8, 28, 28), (64, 64, 3, 3, 3), True),
        ((8, 256, 512), (256, 256, 3), True),
    ],
)
def test_which_weight_gradients_pay(input_shape, weight_shape, pays):
    choice = explain(input_shape, weight_shape, padding=1, direction="backward_weight")
    assert choice.algorithm == (ALGORITHM if pays else "indirect")
    assert pays or re.fullmatch(SLOWER, dict(choice.refused)[ALGORITHM])


@pytest.mark.parametrize(
    ("input_shape", "weight_shape"),
    [
        ((1, 64, 56, 56), (64, 64, 3, 3)),
        ((1, 256, 7, 7), (256, 256, 3, 3)),
        ((1, 32, 16, 16, 16), (32, 32, 3, 3, 3)),
        ((1, 16, 16, 16, 16), (16, 16, 3, 3, 3)),
        ((1, 128, 4096), (128, 128, 3)),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
def test_what_pays(input_shape, weight_shape, direction):
    assert explain(input_shape, weight_shape, padding=1, direction=direction).algorithm == ALGORITHM


@pytest.mark.parametrize(("dilation", "pays"), [(12, True), (24, False)])
@pytest.mark.parametrize("direction", plan.DIRECTIONS)
def test_what_pays_under_large_dilations(dilation, pays, direction):
    """Up to three points an image of its own; the general algorithm leaves out what lies in the padding."""
    options = {"padding": dilation, "dilation": dilation, "direction": direction}
    choice = explain((1, 512, 33, 33), (256, 512, 3, 3), **options)
    assert choice.algorithm == (ALGORITHM if pays else "indirect")


# ----------------------------------------------------------------------------------------------------------- precision

SHAPES = (1, 32, 32, 32), (32, 32, 3, 3)


def test_precision_decides_what_auto_takes():
    def chosen(**options):
        return explain(*SHAPES, padding=1, **options).algorithm

    assert chosen() == ALGORITHM
    assert chosen(precision="exact") == "indirect"
    with nc.precision("exact"):
        assert chosen() == "indirect"
        assert chosen(precision="fast") == ALGORITHM
        assert chosen(algorithm=ALGORITHM) == ALGORITHM
        with nc.precision("fast"):
            assert chosen() == ALGORITHM
        assert chosen() == "indirect"
    assert chosen() == ALGORITHM


@pytest.mark.parametrize("call", [nc.precision("double").__enter__, lambda: explain(*SHAPES, precision="double")])
def test_unknown_precision(call):
    with pytest.raises(OptionError, match="precision must be one of 'fast', 'exact'; got 'double'"):
        call()


def test_precision_of_functions_and_their_gradients():
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape).astype(np.float32) for shape in SHAPES)

    def run(function, **options):
        a, b = nc.Tensor(x, requires_grad=True), nc.Tensor(weight, requires_grad=True)
        y = function(a, b, padding=1, **options)
        y.sum().backward()
        return [array.tobytes() for array in (y.data, a.grad, b.grad)]

    for function in (F.conv2d, F.conv_transpose2d):
        fast, exact = run(function), run(function, precision="exact")
        assert fast[0] != exact[0]
        with nc.precision("exact"):
            assert run(function) == exact
            assert run(function, precision="fast") == fast
