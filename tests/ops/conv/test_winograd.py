"""Winograd convolution: values against the oracle within stated errors."""

import numpy as np
import pytest

from numbacnn.ops import conv_backward_data, conv_forward
from numbacnn.ops.conv import plan, winograd, winograd_tiles
from tests.cases import CONV_CASES, ConvCase
from tests.ops.conv import checks
from tests.ops.conv.winograd_checks import ALGORITHM, check, directions

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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("case", "forms"),
    [
        (ConvCase(1, 16, 8, (24, 23), (3, 3), padding=1), (8, 8)),
        (ConvCase(2, 24, 20, (20, 14), (3, 3), padding=(1, 0)), (6, 8)),
        (ConvCase(1, 24, 20, (4, 18, 30), (3, 3, 3), padding=1), (8, 8)),
        (ConvCase(2, 24, 20, (23, 14), (4, 4), padding=(2, 1)), (8, 8)),
        (ConvCase(1, 120, 140, (13, 18), (3, 5), padding=(1, 2)), (6, 8)),
        (ConvCase(1, 16, 24, (40, 31), (5, 3), padding=(5, 1), dilation=(3, 1), padding_mode="reflect"), (8, 6)),
        (ConvCase(2, 48, 20, (700,), (3,), groups=2), (1, 8)),
        (ConvCase(2, 24, 20, (390,), (4,), dilation=40, padding=60), (1, 8)),
        (ConvCase(2, 24, 20, (3, 50, 3), (1, 5, 1)), (8, 1)),
        (ConvCase(2, 24, 20, (200,), (7,), padding=3), (1, 8)),
        (ConvCase(2, 24, 20, (200,), (15,), padding=3, stride=3), (1, 8)),
    ],
    ids=str,
)
def test_eight_points(case, forms, dtype):
    case = case._replace(dtype=dtype)
    g = winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record
    assert sorted((g.form_h, g.form_w)) == sorted(forms)
    check(case)


@pytest.mark.parametrize("length", range(8, 23))
@pytest.mark.parametrize("taps", [3, 4, 5])
def test_every_raggedness_of_eight_points(length, taps, tune):
    """Wherever the last tile is cut, on either axis."""
    tune(winograd_tiles, MOST_SHARE=9, MOST_SHARE_OF_LONG=9, MOST_SHARE_OF_BOTH=9, MANY_OUTPUTS=0)
    check(ConvCase(1, 16, 8, (length, 30 - length), (taps, taps)))
    check(ConvCase(3, 16, 24, (30 - length,), (taps,), padding=taps - 1))


@pytest.mark.parametrize(
    ("case", "points"),
    [
        (ConvCase(1, 64, 64, (112, 112), (3, 3), padding=1), (8, 8)),
        (ConvCase(1, 64, 64, (56, 56), (3, 3), padding=1), (6, 6)),
        (ConvCase(1, 256, 256, (112, 112), (3, 3), padding=1), (6, 6)),
        (ConvCase(1, 64, 64, (14, 112), (3, 3), padding=1), (6, 8)),
        (ConvCase(1, 256, 256, (14, 14), (5, 5), padding=2), (8, 8)),
        (ConvCase(1, 640, 64, (14, 14), (5, 5), padding=2), (6, 6)),
        (ConvCase(1, 64, 64, (400,), (3,)), (1, 6)),
        (ConvCase(1, 64, 64, (600,), (3,)), (1, 8)),
        (ConvCase(1, 64, 64, (400,), (4,)), (1, 8)),
        (ConvCase(1, 64, 64, (400,), (2,)), (1, 6)),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 8])
def test_points_follow_from_a_sample(case, points, batch):
    """Large images and large kernels take eight; the batch and the precision do not matter."""
    for itemsize in (4, 8):
        g = winograd.plan(checks.geometry_of(case._replace(batch=batch)), "forward", itemsize).parts[0].record
        assert (g.points_h, g.points_w) == points


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 384, 128, (12, 12, 12), (3, 3, 3), padding=1),
        ConvCase(1, 512, 512, (8, 8, 8), (3, 3, 3), padding=1),
        ConvCase(1, 128, 128, (8, 8, 8), (5, 5, 5), padding=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("itemsize", [4, 8])
def test_no_launch_is_for_a_single_core(case, itemsize):
    """Where weights of all panels and channels take more than a launch may have, it has several panels' of fewer."""
    plan = winograd.plan(checks.geometry_of(case), "forward", itemsize)
    assert not plan.parts[0].record.own_run
    assert min(plan.portion * part.record.panel_blocks for part in plan.parts) >= 4


@pytest.mark.parametrize("channels", [96, 97, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_that_are_summed_in_several_launches(channels, dtype, tune, guarded):
    """The last launch has a vector of them at least."""
    tune(winograd.blocking, PACKED_BYTES=1 << 19, FEW_CHANNELS=16)
    case = ConvCase(2, channels, 70, (5, 6, 7), (3, 3, 3), padding=1, dtype=dtype)
    parts = winograd.plan(checks.geometry_of(case), "forward", np.dtype(dtype).itemsize).parts
    assert len({part.source_start for part in parts}) > 1
    assert min(part.record.run for part in parts) >= 64 // np.dtype(dtype).itemsize
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1), (1, 4)], ids=str)
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (3, 6), (9, 5)], ids=str)
def test_stretches_of_two_axes(kernel, stride, dtype):
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    if all(k > s or s == 1 for k, s in zip(kernel, strides, strict=True)):
        case = ConvCase(2, 24, 20, (19, 23), kernel, stride=stride, padding=tuple(k // 2 for k in kernel), dtype=dtype)
        assert directions(case) == list(plan.DIRECTIONS)
        check(case)


@pytest.mark.parametrize("padding", [((n, n), (n, n)) for n in (0, 1, 3, 5)] + [((0, 5), (4, 1))], ids=str)
@pytest.mark.parametrize("size", [(11, 18), (12, 19), (13, 20), (14, 21), (15, 17)], ids=str)
def test_every_raggedness_under_strides(size, padding):
    """Images of outputs begin before the first one, or end behind the last; some have one more than others."""
    check(ConvCase(1, 40, 24, size, (6, 6), stride=(2, 3), padding=padding))
    check(ConvCase(3, 48, 34, size[1:], (6,), stride=4, padding=padding[:1]))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [(16, 8), (17, 70), (70, 33)], ids=str)
def test_channels_under_strides(channels, groups):
    """Panels of every image of outputs, of every group."""
    inputs, outputs = channels[0] * groups, channels[1] * groups
    check(ConvCase(2, inputs, outputs, (9, 14), (4, 4), stride=2, padding=1, groups=groups))
    check(ConvCase(2, inputs, outputs, (3, 50), (1, 9), stride=(1, 4), padding=(0, 2), groups=groups, dtype="float64"))


def test_gradients_that_reach_padding_alone_matter_to_nobody():
    """They may be anything, though tiles of several images of outputs read them."""
    grad, weight = np.ones((1, 16, 30)), np.ones((16, 24, 8))
    options = {"stride": 4, "padding": ((16, 9),)}
    want = conv_backward_data(grad, weight, (1, 24, 99), algorithm="indirect", **options)
    grad[..., :3] = grad[..., 29:] = np.nan
    assert np.isfinite(want).all()
    got = conv_backward_data(grad, weight, (1, 24, 99), algorithm=ALGORITHM, **options)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_stretches_read_nothing_beyond_their_taps():
    """What no tap reads may be anything, though tiles have room for more taps than there are."""
    x, weight = np.ones((1, 16, 40)), np.ones((8, 16, 7))
    want = conv_forward(x, weight, stride=3, algorithm="indirect")
    x[..., 3 * (want.shape[-1] - 1) + 7 :] = np.nan
    np.testing.assert_allclose(conv_forward(x, weight, stride=3, algorithm=ALGORITHM), want, rtol=1e-13)


def test_no_batch():
    assert conv_forward(np.ones((0, 16, 8, 8)), np.ones((8, 16, 3, 3)), algorithm=ALGORITHM).shape == (0, 8, 6, 6)


# ----------------------------------------------------------------------------------------------------- numerical errors


@pytest.mark.parametrize(
    ("size", "taps", "channels", "points", "bound"),
    [
        ((16, 16), 3, 64, 6, 1e-5),
        ((16, 16), 3, 1024, 6, 1e-5),
        ((16, 16), 4, 1024, 6, 1e-5),
        ((16, 16), 5, 1024, 6, 1e-5),
        ((24, 24), 3, 64, 8, 3e-5),
        ((16, 16), 4, 512, 8, 3e-5),
        ((16, 16), 5, 512, 8, 3e-5),
        ((600,), 3, 512, 8, 1e-5),
        ((100,), 5, 1024, 8, 1e-5),
    ],
    ids=str,
)
def test_float32_error(size, taps, channels, points, bound):
    """The documented bounds; a sum of products of float32 is about three times as exact as one of six points."""
    met = set()
    for run in (channels, channels * 7 // 8):  # too wide a panel of weight gradients takes too much memory
        case = ConvCase(1, run, 16, size, (taps,) * len(size), padding=1)
        assert winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record.points_w == points
        operands, taken = checks.normal_operands(case), directions(case)
        met.update(taken)
        double = checks.Operands(*(array.astype(float) for array in operands))
        exact = checks.results(case, double, taken, "indirect")
        for got, want in zip(checks.results(case, operands, taken, ALGORITHM), exact, strict=True):
            assert np.abs(got - want).max() <= bound * np.abs(want).max()
    assert met == set(plan.DIRECTIONS)


@pytest.mark.parametrize(
    ("size", "taps", "stride", "channels"),
    [((16, 16), 3, 2, 256), ((16, 16), 5, 2, 64), ((16, 16), 10, 2, 64), ((400,), 17, 4, 256), ((400,), 20, 1, 256)],
    ids=str,
)
def test_float32_error_of_stretches(size, taps, stride, channels):
    case = ConvCase(1, channels, channels, size, (taps,) * len(size), stride=stride, padding=taps // 2)
    operands, taken = checks.normal_operands(case), directions(case)
    assert taken == list(plan.DIRECTIONS)
    double = checks.Operands(*(array.astype(float) for array in operands))
    exact = checks.results(case, double, taken, "indirect")
    for got, want in zip(checks.results(case, operands, taken, ALGORITHM), exact, strict=True):
        assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max()


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
    touched[6:12, 12:18] = True  # inputs 5 to 12 and 11 to 18
    assert np.isnan(y[:, :, 9:12, 12:15]).all()
    assert np.array_equal(np.isnan(y), np.broadcast_to(touched, y.shape))


def test_what_lies_behind_the_input_does_not_leak():
    x = np.full((1, 16, 13, 13), np.nan, np.float32)[:, :, 2:-2, 2:-2]
    x[...] = 1
    y = conv_forward(x, np.ones((5, 16, 3, 3), np.float32), padding=3, algorithm=ALGORITHM)
    np.testing.assert_allclose(y.max(), 144, rtol=1e-5)
    assert np.isfinite(y).all()
