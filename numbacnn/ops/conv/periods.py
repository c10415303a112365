"""Depthwise convolution of few or oddly many channels: vectors run along positions and channels alike.

Which problems come here, how they are cut into blocks, and the launch. See `kernels/conv_periods.py`.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.conv_periods import MOST_STEPS, WEIGHT_SLOTS, Periods, conv_periods
from ...kernels.period_tile import TILE_ROWS, TILE_VECTORS
from ...kernels.tile import tile_lanes
from . import blocking, periods_choice
from .bias import zero_row
from .finish import NOTHING, Finish
from .lattice import strides
from .strip_tables import classes_of, large_plane_lists, plane_lists

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "periods"
finishes = ("activation",)

# Where channels fill panels, so that `depthwise` takes them, these pay beside several kernel rows: rows of one or two
# taps (1.1 to 1.7 times as fast), or lanes of panels that idle, up to 5x5 taps (1.2 times). Beyond, nothing was
# measured.
FEWEST_ROWS, FEW_TAPS, IDLE_LANES, MOST_TAPS, MOST_CHANNELS = 3, 2, 1.3, 25, 256
# Enough blocks for any number of cores to finish together, of so many periods each: every block packs its weights.
BLOCKS, BLOCK_PERIODS = 16, 64
# What lines are cut into where they are few, in tiles; and so that L2 keeps what the next tile of rows reads again.
SEGMENT_TILES = 2


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction == "backward_weight":
        return "it is not for weight gradients"
    if g.in_per_group != 1 or g.out_per_group != 1:
        return f"groups have {g.in_per_group} input and {g.out_per_group} output channels, not one each"
    if g.stride[2] != 1 or (direction == "backward_data" and g.stride[1] != 1):
        return f"the stride is {g.stride}"
    if g.padding_mode[1] != "zeros" or g.padding_mode[2] != "zeros":
        return "padding repeats the image"
    large = large_plane_lists(g)
    if large:
        return large
    steps = plane_lists(g, direction == "backward_data")[0].longest * g.kernel[1] * g.kernel[2]
    if steps > MOST_STEPS:
        return f"a point reads {steps} taps, more than the kernel's table holds"
    if (g.taps + 1) * period(g.groups, 8) > WEIGHT_SLOTS:
        return f"{g.taps} taps of {g.groups} channels are more than a thread packs"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be as fast."""
    g = geometry
    if g.groups >= tile_lanes(4):
        return None if _beats_panels(g, itemsize) else f"{g.groups} channels fill panels of vectors"
    share = ratio(direction, g, itemsize)
    return f"it is expected to take {share:.2f} times as long as strips" if share >= 1 else None


def _beats_panels(g: ConvGeometry, itemsize: int) -> bool:
    """Whether channels that fill panels come here: whose tiles share what rows of several taps read, not more."""
    if g.groups > MOST_CHANNELS or g.kernel[1] < FEWEST_ROWS or not _shares_rows(g):
        return False
    width = tile_lanes(itemsize)
    idle = -(-g.groups // width) * width >= IDLE_LANES * g.groups
    return g.kernel[2] <= FEW_TAPS or (idle and g.kernel[1] * g.kernel[2] <= MOST_TAPS)


def ratio(direction: str, g: ConvGeometry, itemsize: int) -> float:
    """How many times as long as `strips` it takes."""
    judged, transposed = blocking.judged(direction, g), direction == "backward_data"
    times = [cost(direction, one, itemsize) / periods_choice.of_strips(one, itemsize, transposed) for one in judged]
    return math.prod(times) ** (1 / len(times))


def cost(direction: str, g: ConvGeometry, itemsize: int) -> float:
    """Nanoseconds of one core, roughly."""
    transposed = direction == "backward_data"
    return periods_choice.of_periods(g, itemsize, transposed, plan(g, itemsize, transposed))


def _shares_rows(g: ConvGeometry) -> bool:
    """Whether neighbouring rows read neighbouring rows with neighbouring kernel rows."""
    return g.dilation[1] == 1 and g.stride[1] == 1


def period(channels: int, itemsize: int) -> int:
    """Elements after which vectors fall on the same channels again."""
    return math.lcm(channels, target().lanes(itemsize))


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out`, (N, OD, OH, OW, C) memory, from `x`, (N, D, H, W, C) memory."""
    return _run(g, False, x, weight, bias, out, follows.activation)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, (N, D, H, W, C) memory, from `grad_output`, (N, OD, OH, OW, C) memory."""
    return _run(g, True, grad_output, weight, bias, out, 0)


def _run(
    g: ConvGeometry,
    transposed: bool,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    activation: int,
) -> list[Step]:
    start = zero_row(out.dtype, g.groups) if bias is None else bias
    return [_launch(g, out.dtype, transposed).on(source, weight, start, out, activation)]


@functools.lru_cache(maxsize=512)
def _launch(g: ConvGeometry, dtype: np.dtype[Any], transposed: bool) -> Prepared:
    record = plan(g, dtype.itemsize, transposed)
    lists_d, _ = plane_lists(g, transposed)
    cost = g.flops / blocking.FLOPS_PER_NS + g.elements * dtype.itemsize / 20
    return conv_periods.prepare((dtype,), record.blocks, lists_d.table(1, 1, 1), record, cost=cost)


def plan(g: ConvGeometry, itemsize: int, transposed: bool) -> Periods:
    """Plan ``output = conv(input)`` or, if `transposed`, ``grad_input``."""
    lists_d, _ = plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    lanes, channels = target().lanes(itemsize), g.groups
    repeats = period(channels, itemsize)
    line, width = out[2] * channels, source[2] * channels
    (along_w,) = classes_of(g, transposed)
    shift, reach = along_w.gamma * channels, along_w.beta * (g.kernel[2] - 1) * channels
    vectors, tiles = -(-line // lanes), -(-out[1] // TILE_ROWS)
    inside = max(0, -(shift // lanes))
    inside_end = max(inside, (min(width - shift - reach, line) // lanes))
    tile_vectors = TILE_VECTORS * repeats // lanes
    span = (g.kernel[1] - 1) * g.dilation[1] + TILE_ROWS * (1 if transposed else g.stride[1])
    lines = g.batch * out[0] * tiles
    near = blocking.BAND_BYTES // max(1, span * lists_d.longest * itemsize * lanes)
    segments = min(-(-BLOCKS // max(1, lines)), max(1, vectors // (SEGMENT_TILES * tile_vectors)))
    segments = max(segments, -(-vectors // max(near, tile_vectors)), 1)
    segment = max(1, -(-vectors // segments))
    segments = -(-vectors // segment)
    band = blocking.row_band(lists_d.longest, span, segment * lanes * itemsize, out)
    band = max(1, -(-band // TILE_ROWS))
    bands = -(-tiles // band)
    units = g.batch * segments * bands * out[0] * band
    periods = g.batch * math.prod(out) * channels // repeats
    source_n, source_d, source_h, _ = strides(source, channels)
    out_n, out_d, out_h, _ = strides(out, channels)
    return Periods(
        planes=out[0],
        rows=out[1],
        band=band,
        bands=bands,
        segments=segments,
        segment=segment,
        units=units,
        blocks=max(1, min(BLOCKS, units, periods // BLOCK_PERIODS)),
        channels=channels,
        period=repeats,
        taps=g.taps,
        plane_taps=g.kernel[1] * g.kernel[2],
        row_taps=g.kernel[2],
        kernel_rows=g.kernel[1],
        first_tap=g.kernel[1] * g.kernel[2] - 1 if transposed else 0,
        row_step=-g.kernel[2] if transposed else g.kernel[2],
        tap_step=-1 if transposed else 1,
        shared=int(_shares_rows(g)),
        first_h=g.pad_low[1] - g.dilation[1] * (g.kernel[1] - 1) if transposed else -g.pad_low[1],
        slope_h=1 if transposed else g.stride[1],
        spread_h=g.dilation[1],
        height=source[1],
        first_w=along_w.gamma,
        spread_w=along_w.beta,
        width=width,
        line=line,
        inside=inside,
        inside_end=inside_end,
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
    )
