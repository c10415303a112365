"""Depthwise convolution whose vectors run along positions and channels alike, forced, against the oracle."""

import itertools

import numpy as np
import pytest

from numbacnn.kernels.period_tile import LINES, TILE_ROWS
from numbacnn.ops import conv_backward_data, conv_forward, explain
from numbacnn.ops.conv import blocking, periods
from numbacnn.ops.geometry import conv_geometry
from tests.cases import ConvCase
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL

FEW_CHANNELS = sorted({1, 3, 12, PANEL // 2, PANEL - 4, PANEL - 8} - {0})

BOTH = ["forward", "backward_data"]


def case_of(channels, size, kernel, stride=1, padding=0, dilation=1, batch=1, **more):
    return ConvCase(batch, channels, channels, size, kernel, stride, padding, dilation, channels, **more)


def check(case, wanted=BOTH):
    assert checks.directions(case, "periods") == wanted
    checks.check(case, "periods")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [*range(1, 10), 12, 15, 16, 17, 20, 24, 31, 32, 36, PANEL + 1, 3 * PANEL])
def test_channels(channels, dtype):
    """Every way that weights are repeated, on lines that end within a vector."""
    check(case_of(channels, (7, 19), (3, 3), padding=1, batch=2, dtype=dtype))
    check(case_of(channels, (70,), (5,), padding=(0,), dtype=dtype))


@pytest.mark.parametrize("width", [*range(1, 20), 31, 64, 65, 130])
def test_width(width):
    """Vectors that lie inside, a few periods at a time, and those that reach beyond the ends of lines."""
    for channels in (3, 24):
        check(case_of(channels, (5, width), (3, 3), padding=1))
        check(case_of(channels, (2, width + 4), (1, 5)))


@pytest.mark.parametrize("rows", range(1, 2 * TILE_ROWS + 2))
@pytest.mark.parametrize("kernel_rows", range(1, 2 * LINES + 2))
def test_rows(rows, kernel_rows):
    """Every way that kernel rows go together, and that some of them lie outside the image."""
    check(case_of(5, (rows, 9), (kernel_rows, 2), padding=(kernel_rows // 2, 1)))
    check(case_of(5, (rows + kernel_rows, 9), (kernel_rows, 1), padding=((0, kernel_rows), 0)))


@pytest.mark.parametrize("padding", [0, 2, (5, 0), (0, 7), 12])
@pytest.mark.parametrize("dilation", [1, 2, 3, (3, 1), (1, 5)])
def test_padding_and_dilation(padding, dilation):
    check(case_of(6, (16, 23), (3, 4), 1, padding, dilation, batch=2))


@pytest.mark.parametrize("stride", [2, 3, 5])
def test_strides_of_rows(stride):
    for kernel_rows in (1, 2, 5):
        check(case_of(6, (13, 23), (kernel_rows, 3), (stride, 1), 1), ["forward"])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_planes(stride, mode):
    for kernel in ((3, 3, 3), (2, 3, 1), (2, 1, 4)):
        padding = (2 if kernel[0] > 2 else 0, 0, 0)
        check(case_of(6, (7, 9, 11), kernel, (stride, 1, 1), padding, padding_mode=mode))
    check(case_of(4, (6, 9, 11), (3, 3, 3), (stride, 1, 1), 1, (2, 1, 1), batch=2))


def test_empty_batch():
    check(case_of(6, (6, 7), (3, 3), batch=0))


@pytest.mark.parametrize("blocks", [1, 3, 50])
def test_blocks_and_bands(blocks, tune):
    """Cut into any number of blocks, lines cut into segments, planes into bands of rows."""
    tune(periods, BLOCKS=blocks, BLOCK_PERIODS=1, SEGMENT_TILES=1)
    for near in (1, 3000, 1 << 20):
        tune(blocking, BAND_BYTES=near)
        check(case_of(3, (900,), (5,), padding=2))
        check(case_of(6, (4, 21, 40), (3, 3, 3), padding=1, batch=2))


def test_a_sample_does_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype("float32") for shape in ((9, 12, 17, 21), (12, 1, 3, 3)))
    options = {"padding": 1, "groups": 12, "algorithm": "periods"}
    np.testing.assert_array_equal(conv_forward(x, weight, **options)[3:4], conv_forward(x[3:4], weight, **options))
    grad = [conv_backward_data(some, weight, some.shape, **options) for some in (x, x[3:4])]
    np.testing.assert_array_equal(grad[0][3:4], grad[1])


@pytest.mark.parametrize(
    ("shapes", "options", "direction", "reason"),
    [
        (((1, 4, 9, 9), (4, 1, 3, 3)), {"groups": 4}, "backward_weight", "it is not for weight gradients"),
        (
            ((1, 4, 9, 9), (8, 1, 3, 3)),
            {"groups": 4},
            "forward",
            "groups have 1 input and 2 output channels, not one each",
        ),
        (((1, 4, 9, 9), (4, 1, 3, 3)), {"groups": 4, "stride": (1, 2)}, "forward", "the stride is (1, 1, 2)"),
        (((1, 4, 9, 9), (4, 1, 3, 3)), {"groups": 4, "stride": (2, 1)}, "backward_data", "the stride is (1, 2, 1)"),
        (
            ((1, 4, 9, 9), (4, 1, 3, 3)),
            {"groups": 4, "padding": (0, 1), "padding_mode": "reflect"},
            "forward",
            "padding repeats the image",
        ),
        (
            ((1, 4, 40, 40), (4, 1, 33, 33)),
            {"groups": 4},
            "forward",
            "a point reads 1089 taps, more than the kernel's table holds",
        ),
        (
            ((1, 4099, 40), (4099, 1, 9)),
            {"groups": 4099},
            "forward",
            "9 taps of 4099 channels are more than a thread packs",
        ),
    ],
)
def test_what_is_refused(shapes, options, direction, reason):
    assert periods.accepts(direction, conv_geometry(*shapes, **options)) == reason


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize(
    ("channels", "size", "kernel", "algorithm"),
    [
        *((channels, (56, 56), (3, 3), "periods") for channels in FEW_CHANNELS),
        (3, (128, 128), (7, 7), "periods"),
        (24, (8, 56, 56), (5, 1, 1), "periods"),
        (2 * PANEL, (8, 28, 28), (5, 1, 1), "periods"),
        (PANEL + 4, (56, 56), (3, 3), "periods"),
        (2 * PANEL, (56, 56), (3, 3), "depthwise"),
        (PANEL // 2, (56, 112), (15, 15), "strips"),
        (PANEL // 2, (60000,), (15,), "strips"),
    ],
)
def test_a_model_decides(channels, size, kernel, algorithm, direction):
    shapes = (1, channels, *size), (channels, 1, *kernel)
    options = {"padding": tuple(k // 2 for k in kernel), "groups": channels, "direction": direction}
    assert explain(*shapes, **options).algorithm == algorithm


@pytest.mark.parametrize(("channels", "taps", "itemsize"), list(itertools.product((3, 20), (3, 9), (4, 8))))
def test_no_batch_changes_what_is_chosen(channels, taps, itemsize):
    shapes = [((batch, channels, 30, 30), (channels, 1, taps, taps)) for batch in (1, 2, 64)]
    choices = [periods.declines("forward", conv_geometry(*one, groups=channels), itemsize) for one in shapes]
    assert len(set(choices)) == 1
