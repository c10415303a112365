"""Which tiles compute depthwise convolution, which problems its algorithms take, and which of them is chosen."""

import pytest

from numbacnn.errors import OptionError
from numbacnn.kernels.conv_depthwise import LINES, PAIRS, ROWS
from numbacnn.ops import explain
from numbacnn.ops.conv import blocking, depthwise, depthwise_weight, plan
from numbacnn.ops.geometry import conv_geometry
from tests.cases import ConvCase
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL


@pytest.mark.parametrize(
    ("channels", "kernel", "padding", "mode", "stride", "tiles"),
    [
        (144, 3, 1, "zeros", 1, PAIRS),
        (144, 3, 2, "zeros", 1, LINES),
        (144, 3, 1, "reflect", 1, LINES),
        (144, 3, 1, "zeros", 2, LINES),
        (240, 5, 2, "zeros", 1, ROWS),
    ],
)
def test_choice_of_tiles(channels, kernel, padding, mode, stride, tiles):
    shapes = (1, channels, 14, 14), (channels, 1, kernel, kernel)
    geometry = conv_geometry(*shapes, stride=stride, padding=padding, groups=channels, padding_mode=mode)
    assert depthwise.plan(geometry, 4, False).record.shared == tiles


@pytest.mark.parametrize(
    ("channels", "kernel", "narrow", "wide"),
    [
        (256, (3, 3), PAIRS, PAIRS),
        (512, (3, 3), LINES, PAIRS),
        (128, (3, 3, 3), PAIRS, PAIRS),
        (256, (3, 3, 3), LINES, PAIRS),
        (128, (5, 5), ROWS, ROWS),
        (256, (5, 5), LINES, ROWS),
        (64, (3, 5, 5), ROWS, ROWS),
        (128, (3, 5, 5), LINES, ROWS),
    ],
)
def test_lines_that_are_read_twice_need_places_in_l1(channels, kernel, narrow, wide):
    """Positions a power of two apart have few, of which a vector of 64 bytes makes no use."""
    padding = tuple(k // 2 for k in kernel)
    geometry = conv_geometry((1, channels, *(14 for _ in kernel)), (channels, 1, *kernel), 1, padding, 1, channels)
    for transposed in (False, True):
        record = depthwise.plan(geometry, 4, transposed).record
        assert record.shared == (wide if blocking.WIDE_VECTORS else narrow)


@pytest.mark.parametrize(("width", "sharing"), [(14, True), (15, False)])
def test_seven_taps_are_read_where_they_lie_in_narrow_images(width, sharing):
    """Beside vectors of whole cache lines: tiles leave out the taps that read padding."""
    shapes = (1, 384, width, width), (384, 1, 7, 7)
    geometry = conv_geometry(*shapes, padding=3, groups=384)
    chosen = {direction: plan.plan_conv(direction, geometry).algorithm for direction in plan.DIRECTIONS}
    there = "depthwise" if sharing and blocking.WIDE_VECTORS else "strips"
    assert chosen == {"forward": there, "backward_data": there, "backward_weight": "strips"}
    if there == "depthwise":
        assert depthwise.plan(geometry, 4, False).record.shared == ROWS


def test_choice():
    assert explain((1, PANEL, 9, 9), (PANEL, 1, 3, 3), groups=PANEL).algorithm == "depthwise"
    assert explain((1, PANEL // 2, 5, 5), (PANEL // 2, 1, 3, 3), groups=PANEL // 2).algorithm == "periods"
    assert explain((1, PANEL, 16, 16), (PANEL, 1, 7, 7), groups=PANEL).algorithm == "strips"
    assert {explain((1, PANEL, 99), (PANEL, 1, 7), groups=PANEL, direction=d).algorithm for d in plan.DIRECTIONS} == {
        "depthwise"
    }
    assert explain((1, 2, 300, 300), (2, 1, 300, 300), groups=2).algorithm == "indirect"
    four = (1, 64, 9, 9), (64, 4, 3, 3)
    assert {explain(*four, groups=16, stride=2, direction=d).algorithm for d in plan.DIRECTIONS[:2]} == {"strips"}


@pytest.mark.parametrize(
    ("algorithm", "shape", "weight_shape", "groups", "reason"),
    [
        ("strips", (1, 40, 5, 5), (40, 5, 3, 3), 8, "5 input and 5 output channels, more than 4"),
        ("strips", (1, 1, 5, 5), (8, 1, 3, 3), 1, "all channels are in one group"),
        ("strips", (1, 2, 300, 300), (2, 1, 300, 300), 2, "do not fit"),
        ("depthwise", (1, PANEL, 9, 9), (2 * PANEL, 1, 3, 3), PANEL, "1 input and 2 output channels, not one each"),
        (
            *("depthwise", (1, PANEL - 1, 9, 9), (PANEL - 1, 1, 3, 3), PANEL - 1),
            f"{PANEL - 1} channels do not fill a panel of vectors",
        ),
        ("depthwise", (1, PANEL, 16, 16), (PANEL, 1, 7, 7), PANEL, "rows of 7 taps are worth copying into strips"),
        ("strips", (1, 16, 300, 300), (16, 1, 300, 300), 16, "1440000 weights are more than it packs at a time"),
        ("strips", (1, 8, 40000, 2), (8, 1, 5, 1), 8, "199980 rows times kernel rows are more than it lists"),
        (
            "depthwise",
            (1, PANEL, 40000, 2),
            (PANEL, 1, 5, 1),
            PANEL,
            "199980 rows times kernel rows are more than it lists",
        ),
        (
            "depthwise",
            (1, PANEL, 4, 20000),
            (PANEL, 1, 1, 13000),
            PANEL,
            "rows of 13000 taps are more than the kernel's table",
        ),
        (
            "depthwise",
            (1, PANEL, 400, 400),
            (PANEL, 1, 400, 400),
            PANEL,
            f"{160000 * PANEL} weights are more than it packs at a time",
        ),
    ],
)
def test_refusals(algorithm, shape, weight_shape, groups, reason):
    with pytest.raises(OptionError, match=reason):
        explain(shape, weight_shape, groups=groups, algorithm=algorithm)


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 512), ("float64", 256)])
def test_strips_take_weight_gradients_whose_lines_crowd_in_few_places(dtype, channels):
    """Where a vector is half a line, which is read for each of them."""

    def chosen(channels, *kernel):
        shapes = (1, channels, *(14,) * len(kernel)), (channels, 1, *kernel)
        return explain(*shapes, groups=channels, dtype=dtype, direction="backward_weight").algorithm

    assert chosen(channels, 3, 3) == ("depthwise" if blocking.WIDE_VECTORS else "strips")
    assert chosen(channels + 8, 3, 3) == chosen(channels, 3) == chosen(channels, 1, 3) == "depthwise"


def test_weight_gradients_of_single_vectors():
    """Their last vector may overlap the one before; forward and backwards a panel is two."""
    for channels, taken in ((PANEL // 2 - 1, []), (PANEL // 2, ["backward_weight"]), (PANEL - 1, ["backward_weight"])):
        case = ConvCase(1, channels, channels, (9, 9), (3, 3), padding=1, groups=channels)
        assert checks.directions(case, "depthwise") == taken


@pytest.mark.parametrize(
    ("module", "limit", "direction", "reason"),
    [
        (depthwise, "MOST_PICKS", "forward", "points at the borders read more than 3 taps"),
        (depthwise, "TABLE_TAPS", "backward_data", "a point at the borders reads 9 taps, more than the kernel's table"),
        (depthwise, "TABLE_ROWS", "forward", "a point reads 9 rows, more than the kernel's table holds"),
        (depthwise_weight, "MOST_ZONES", "backward_weight", "points at the borders make more than 3 zones"),
    ],
)
def test_tables_are_bounded(monkeypatch, module, limit, direction, reason):
    monkeypatch.setattr(module, limit, 3)
    size, kernel = ((9, 9), (3, 3)) if limit != "TABLE_ROWS" else ((9, 9, 9), (3, 3, 3))
    padding = [[1, 1]] * (len(kernel) - 1) + [[2, 2]]
    mode = "circular" if limit in ("MOST_PICKS", "TABLE_TAPS") else "zeros"
    padding = padding if limit == "MOST_ZONES" else 1
    geometry = conv_geometry((1, PANEL, *size), (PANEL, 1, *kernel), 1, padding, 1, PANEL, mode)
    assert reason in str(depthwise.accepts(direction, geometry))
