"""The weight gradient on the outer-product tile: which kernel, how the work is cut, and the partial sums."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels import conv_weight
from ...kernels._operands import Operand
from ...kernels.tile import MAX_ROWS, VECTORS, tile_lanes
from . import blocking, weight_gradient_few, weight_gradient_groups, weight_gradient_in_place
from .bias import zero_row
from .weight_gradient_plan import SumsPlan, sums_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry


ADD_STEP = 4096  # elements of the gradient per block when partial sums are added
STEP = conv_weight.MAX_POINTS  # positions per step
MOST_LEFT = 96  # left channels of a block, at most: what a panel's copy is used for
# Operands of so many bytes are far away: their rows are asked for in advance, if there is enough to do meanwhile.
ASKED_BYTES = 3 << 20
FEW_TILES = 2  # that is, too little to do meanwhile
# A block worth handing out takes some 200 microseconds; less work than that is shared in a few blocks.
BLOCK_NS, FEW_NS, FEW_BLOCKS = 240e3, 10e3, 4

FLOPS_PER_NS, BYTES_PER_NS = 100.0, 10.0  # of one core

# Cycles per position: of a tile however few rows it has, of copying a tile's left channels, and of copying a panel.
# A row more takes one cycle. Listing the rows that a tap reads is shared by the panels of a block.
FEWEST_CYCLES, LEFT_CYCLES, PANEL_CYCLES, LIST_CYCLES = 3.8, 1.7, 5.0, 2.5
SUMS_CYCLES = 30.0  # loading and storing the sums of a tile, once per step
PUT_CYCLES = 25.0  # writing the sums of a row of a panel to the gradient, once per block
ADD_CYCLES = 4.0  # writing, reading and adding an element of a further chunk


class Cut(NamedTuple):
    """How channels, taps and positions are cut; see `conv_weight.WeightConv`."""

    swapped: bool
    left_block: int
    panel_block: int
    tap_block: int
    chunks: int


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into blocks."""
    g = _one_row(g)
    record = _record(g, itemsize)
    blocks = g.groups * record.left_blocks * record.panel_blocks * record.tap_blocks * record.chunks
    return sums_plan(conv_weight.conv_weight, record, g, blocks, g.flops / blocking.FLOPS_PER_NS)


def _one_row(g: ConvGeometry) -> ConvGeometry:
    """The same products, where a single tap reads every position in turn, with all positions along W."""
    if g.taps > 1 or g.stride != (1, 1, 1) or any(g.pad_low) or any(g.pad_high):
        return g
    row = (1, 1, g.batch * math.prod(g.output))
    return g._replace(batch=1, input=row, output=row)


def _record(g: ConvGeometry, itemsize: int) -> conv_weight.WeightConv:
    cut = _cut(g, itemsize)
    left, right = _sides(g, cut.swapped)
    width, line = tile_lanes(itemsize), blocking.LINE_BYTES // itemsize
    panels = -(-right // width)
    return conv_weight.WeightConv(
        points=g.batch * math.prod(g.output),
        step=STEP,
        asks=int(g.elements * itemsize > ASKED_BYTES and cut.left_block > FEW_TILES * MAX_ROWS),
        ahead=STEP * g.stride[1] * g.input[2] * g.in_channels // max(1, g.output[2]),
        groups=g.groups,
        in_channels=g.in_per_group,
        out_channels=g.out_per_group,
        swapped=int(cut.swapped),
        width=width,
        line=line,
        left_step=_left_step(itemsize),
        left_block=cut.left_block,
        left_blocks=-(-left // cut.left_block),
        panel_block=cut.panel_block,
        panel_blocks=-(-panels // cut.panel_block),
        tap_block=cut.tap_block,
        tap_blocks=-(-g.taps // cut.tap_block),
        chunks=cut.chunks,
    )


def _sides(g: ConvGeometry, swapped: bool) -> tuple[int, int]:
    """Left and right channels of a group."""
    return (g.in_per_group, g.out_per_group) if swapped else (g.out_per_group, g.in_per_group)


def _left_step(itemsize: int) -> int:
    """Elements of a step's copy of a tile's left channels, and room for what its last vector has too much."""
    return STEP * MAX_ROWS + tile_lanes(itemsize) // VECTORS


def _cut(g: ConvGeometry, itemsize: int) -> Cut:
    """The cut of least estimated work among those with enough blocks."""
    size = max(1, g.out_channels * g.in_per_group * g.taps)
    points = g.batch * math.prod(g.output)
    work = 2 * points * size / FLOPS_PER_NS + g.elements * itemsize / BYTES_PER_NS
    worth = -(-int(work / BLOCK_NS) // FEW_BLOCKS) * FEW_BLOCKS
    wanted = min(blocking.MIN_BLOCKS, max(FEW_BLOCKS if work > FEW_NS else 1, worth))
    most_chunks = max(1, min(wanted, points // STEP, blocking.PACKED_BYTES // (size * itemsize)))
    return min(_cuts(g, itemsize, wanted, most_chunks), key=lambda cut: _cycles(g, itemsize, cut))


def _cuts(g: ConvGeometry, itemsize: int, wanted: int, most_chunks: int) -> Iterator[Cut]:
    """Cuts whose blocks fit the scratch, with as many chunks as it takes to be enough blocks."""
    width = tile_lanes(itemsize)
    for swapped in (False, True) if g.taps == 1 else (False,):
        left, right = _sides(g, swapped)
        panels = max(1, -(-right // width))
        fewest = max(1, -(-left // MOST_LEFT))
        for left_blocks in range(fewest, max(fewest, min(fewest + wanted, -(-left // MAX_ROWS))) + 1):
            left_block = max(1, -(-left // left_blocks))
            tiles = -(-left_block // MAX_ROWS)
            room = conv_weight.WORK_SLOTS * 8 // itemsize - tiles * _left_step(itemsize)
            fit = room // (left_block * width + blocking.LINE_BYTES // itemsize)
            tap_block = blocking.split_evenly(g.taps, fit)
            straight = g.taps == 1 and not swapped  # the sums of a last panel alone are in the scratch
            for panel_block in _sizes(panels, panels if straight else fit // tap_block):
                blocks = g.groups * left_blocks * -(-g.taps // tap_block) * -(-panels // panel_block)
                chunks = min(most_chunks, -(-wanted // blocks))
                yield Cut(swapped, left_block, panel_block, tap_block, chunks)


def _sizes(total: int, largest: int) -> list[int]:
    """Sizes of the blocks when `total` is cut as evenly as possible into blocks of at most `largest`."""
    return sorted({-(-total // blocks) for blocks in range(-(-total // largest), total + 1)})


def _cycles(g: ConvGeometry, itemsize: int, cut: Cut) -> float:
    """Estimated cycles of all blocks together, plus what too few blocks leave idle."""
    left, right = _sides(g, cut.swapped)
    width = tile_lanes(itemsize)
    points = g.batch * math.prod(g.output)
    tiles = -(-cut.left_block // MAX_ROWS)
    panels = -(-right // width)
    left_blocks, panel_blocks = -(-left // cut.left_block), -(-panels // cut.panel_block)
    tap_blocks = -(-g.taps // cut.tap_block)
    multiply = left_blocks * panels * g.taps * tiles * max(FEWEST_CYCLES, cut.left_block / tiles)
    copy_left = left_blocks * panel_blocks * tap_blocks * tiles * LEFT_CYCLES * itemsize
    copy_panels = left_blocks * g.taps * (panels * PANEL_CYCLES + panel_blocks * LIST_CYCLES)
    steps = -(-points // (cut.chunks * STEP))
    sums = left_blocks * tiles * panels * g.taps * cut.chunks * steps * SUMS_CYCLES
    put = 0.0 if g.taps == 1 and not cut.swapped else left * panels * g.taps * cut.chunks * PUT_CYCLES
    add = left * right * g.taps * (cut.chunks - 1) * ADD_CYCLES
    blocks = g.groups * left_blocks * panel_blocks * tap_blocks * cut.chunks
    rounds = -(-blocks // 4) * 4 / blocks if blocks > 1 else 2.0
    return (points * (multiply + copy_left + copy_panels) + sums + put + add) * rounds


class Launches(NamedTuple):
    """The weight gradient of a convolution, ready to run."""

    sum_points: Prepared
    chunks: int
    add_chunks: Prepared | None  # None: there is one chunk, and nothing to add up


@functools.lru_cache(maxsize=512)
def prepare(g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    """The launches of `plan`."""
    ways = weight_gradient_few, weight_gradient_groups, weight_gradient_in_place
    p = next((way.plan for way in ways if way.accepts(g, dtype.itemsize)), plan)(g, dtype.itemsize)
    chunks, size = p.record.chunks, g.out_channels * g.in_per_group * g.taps
    sum_points = p.kernel.prepare((dtype,), p.blocks, p.record, p.sources, cost=p.cost)
    if chunks == 1:
        return Launches(sum_points, 1, None)
    blocks, cost = -(-size // ADD_STEP), 0.25 * chunks * size
    add_chunks = conv_weight.add_chunks.prepare((dtype,), blocks, size, chunks, ADD_STEP, cost=cost)
    return Launches(sum_points, chunks, add_chunks)


def run(launches: Launches, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the contiguous (C_out, C_in / groups, *kernel) weight, from two channels-last memories."""
    zeros = zero_row(x.dtype, x.shape[-1])
    if launches.add_chunks is None:
        return [launches.sum_points.on(x, grad_output, out, zeros)]
    partial = Operand((launches.chunks, *out.shape), x.dtype)
    return [launches.sum_points.on(x, grad_output, partial, zeros), launches.add_chunks.on(partial, out.reshape(-1))]
