"""The weight gradient on the outer-product tile: which kernel, how the work is cut, and the partial sums."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels import conv_weight
from ...kernels._operands import Operand
from ...kernels.tile import MAX_ROWS, VECTORS, tile_lanes
from . import (
    blocking,
    weight_gradient_chains,
    weight_gradient_few,
    weight_gradient_groups,
    weight_gradient_in_place,
    weight_gradient_slices,
)
from .bias import zero_row
from .lattice import positions_inside, taps_inside
from .weight_gradient_plan import SumsPlan, sums_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry


ADD_STEP = 4096  # elements of the gradient per block when partial sums are added
STEP = conv_weight.MAX_POINTS  # positions per step
MOST_LEFT = 128 if blocking.WIDE_VECTORS else 96  # left channels of a block, at most: what a panel's copy is used for
# Operands of so many bytes are far away: their rows are asked for in advance, if there is enough to do meanwhile.
ASKED_BYTES = 3 << 20
FEW_TILES = 2  # that is, too little to do meanwhile
# A block worth handing out takes some 200 microseconds; less work than that is shared in a few blocks.
BLOCK_NS, FEW_NS, FEW_BLOCKS = 240e3, 10e3, 4
# With so many blocks of channels and taps the positions are not cut as well, to have more.
MANY_BLOCKS = 8 if blocking.WIDE_VECTORS else blocking.MIN_BLOCKS

FLOPS_PER_NS, BYTES_PER_NS = 100.0, 10.0  # of one core

# Cycles per position: of a tile however few rows it has, of copying a tile's left channels, and of copying a panel.
# A row more takes one cycle. Listing the rows that a tap reads is shared by the panels of a block.
FEWEST_CYCLES, LEFT_CYCLES, PANEL_CYCLES, LIST_CYCLES = 3.8, 1.7, 5.0, 2.5
SUMS_CYCLES = 30.0  # loading and storing the sums of a tile, once per step
PUT_CYCLES = 25.0  # writing the sums of a row of a panel to the gradient, once per block
ADD_CYCLES = 4.0  # writing, reading and adding an element of a further chunk
# A cache line of what is far away, each time that a block reads it. Where vectors are of 64 bytes, that takes longer
# than is computed meanwhile: larger blocks read less (512 channels to 512, 8x14x14: 1.1 to 1.15 times as fast).
LINE_CYCLES = 4.0 if blocking.WIDE_VECTORS else 0.0


class Cut(NamedTuple):
    """How channels, taps and positions are cut; see `conv_weight.WeightConv`."""

    swapped: bool
    left_block: int
    panel_block: int
    tap_block: int
    together: int
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
        samples=g.batch,
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
        together=cut.together,
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
        for left_blocks in range(fewest, max(fewest, min(fewest + wanted + 1, -(-left // MAX_ROWS))) + 1):
            left_block = max(1, -(-left // left_blocks))
            tiles = -(-left_block // MAX_ROWS)
            room = conv_weight.WORK_SLOTS * 8 // itemsize - tiles * _left_step(itemsize)
            fit = room // (left_block * width + blocking.LINE_BYTES // itemsize)
            tap_block = blocking.split_evenly(g.taps, fit)
            straight = g.taps == 1 and not swapped  # the sums of a last panel alone are in the scratch
            for panel_block in _sizes(panels, panels if straight else fit // tap_block):
                blocks = g.groups * left_blocks * -(-g.taps // tap_block) * -(-panels // panel_block)
                chunks = 1 if blocks >= MANY_BLOCKS else min(most_chunks, -(-wanted // blocks))
                for together in (tap_block, 1):
                    yield Cut(swapped, left_block, panel_block, tap_block, together, chunks)


def _sizes(total: int, largest: int) -> list[int]:
    """Sizes of the blocks when `total` is cut as evenly as possible into blocks of at most `largest`."""
    return sorted({-(-total // blocks) for blocks in range(-(-total // largest), total + 1)})


def _cycles(g: ConvGeometry, itemsize: int, cut: Cut) -> float:
    """Estimated cycles of all blocks together, plus what too few blocks leave idle."""
    left, right = _sides(g, cut.swapped)
    width = tile_lanes(itemsize)
    tiles = -(-cut.left_block // MAX_ROWS)
    panels = -(-right // width)
    left_blocks, panel_blocks = -(-left // cut.left_block), -(-panels // cut.panel_block)
    tap_blocks = -(-g.taps // cut.tap_block)
    walks = _walks(g, cut.tap_block, cut.together)
    listed = sum(points for points, _ in walks)
    products = sum(points * taps for points, taps in walks)
    steps = sum(-(-points // (cut.chunks * STEP)) * taps for points, taps in walks)
    multiply = left_blocks * panels * tiles * max(FEWEST_CYCLES, cut.left_block / tiles)
    copy_left = left_blocks * panel_blocks * tiles * LEFT_CYCLES * itemsize
    copy_panels = left_blocks * (panels * PANEL_CYCLES + panel_blocks * LIST_CYCLES)
    sums = left_blocks * tiles * panels * cut.chunks * steps * SUMS_CYCLES
    put = 0.0 if g.taps == 1 and not cut.swapped else left * panels * g.taps * cut.chunks * PUT_CYCLES
    add = left * right * g.taps * (cut.chunks - 1) * ADD_CYCLES
    lines = (panel_blocks * left + left_blocks * right) * itemsize / blocking.LINE_BYTES
    fetch = listed * lines * LINE_CYCLES if g.elements * itemsize > ASKED_BYTES else 0.0
    blocks = g.groups * left_blocks * panel_blocks * tap_blocks * cut.chunks
    rounds = -(-blocks // 4) * 4 / blocks if blocks > 1 else 2.0
    return (products * (multiply + copy_panels) + listed * copy_left + fetch + sums + put + add) * rounds


@functools.lru_cache(maxsize=64)
def _walks(g: ConvGeometry, tap_block: int, together: int) -> list[tuple[int, int]]:
    """For every group of taps that share steps: over how many positions they go, and how many taps they are."""
    firsts = [
        (first, min(first + together, begin + tap_block, g.taps))
        for begin in range(0, g.taps, tap_block)
        for first in range(begin, min(begin + tap_block, g.taps), together)
    ]
    return [(points_read(g, first, last), last - first) for first, last in firsts]


def points_read(g: ConvGeometry, first: int, last: int) -> int:
    """Positions for which any tap from `first` to `last` can read more than padding; see `sources.box_of_taps`."""
    (first_row, first_w), (last_row, last_w) = divmod(first, g.kernel[2]), divmod(last - 1, g.kernel[2])
    (first_d, first_h), (last_d, last_h) = divmod(first_row, g.kernel[1]), divmod(last_row, g.kernel[1])
    if first_d < last_d:
        first_h, last_h = 0, g.kernel[1] - 1
    if first_row < last_row:
        first_w, last_w = 0, g.kernel[2] - 1
    taps = (first_d, last_d), (first_h, last_h), (first_w, last_w)
    return g.batch * math.prod(positions_inside(g, axis, *taps[axis]) for axis in range(3))


def share_read(g: ConvGeometry, itemsize: int) -> float:
    """The share of the products that is computed: what reads padding by zeros is left out where rows are copied."""
    if g.taps == 1 or way_of(g, itemsize) or not math.prod(g.output):
        return 1.0
    return math.prod(taps_inside(g, axis) for axis in range(3)) / (g.taps * math.prod(g.output))


def products(g: ConvGeometry, itemsize: int) -> float:
    """Multiply-adds of a position and a tap, idle lanes included: vectors run along the input if rows are copied."""
    width = tile_lanes(itemsize)
    way = way_of(g, itemsize)
    if way is None:
        return g.out_channels * -(-g.in_per_group // width) * width
    if way is weight_gradient_groups and g.groups == 1:
        return g.in_channels * g.out_per_group
    if way is weight_gradient_chains:
        vector = width // VECTORS
        return g.in_channels * -(-g.out_channels // vector) * vector
    return g.in_channels * blocking.panels(g.out_per_group, width) * width


def way_of(g: ConvGeometry, itemsize: int) -> Any:
    """The module of the kernel that runs, if it is not this one's."""
    ways = (
        weight_gradient_few,
        weight_gradient_chains,
        weight_gradient_groups,
        weight_gradient_slices,
        weight_gradient_in_place,
    )
    return next((way for way in ways if way.accepts(g, itemsize)), None)


class Launches(NamedTuple):
    """The weight gradient of a convolution, ready to run."""

    sum_points: Prepared
    chunks: int
    zeros: int  # that are read
    add_chunks: Prepared | None  # None: there is one chunk, and nothing to add up


@functools.lru_cache(maxsize=512)
def prepare(g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    """The launches of `plan`."""
    way = way_of(g, dtype.itemsize)
    p = (way.plan if way else plan)(g, dtype.itemsize)
    zeros = max(p.zeros, g.in_channels)
    chunks, size = p.record.chunks, g.out_channels * g.in_per_group * g.taps
    sum_points = p.kernel.prepare((dtype,), p.blocks, p.record, p.sources, cost=p.cost)
    if chunks == 1:
        return Launches(sum_points, 1, zeros, None)
    blocks, cost = -(-size // ADD_STEP), 0.25 * chunks * size
    add_chunks = conv_weight.add_chunks.prepare((dtype,), blocks, size, chunks, ADD_STEP, cost=cost)
    return Launches(sum_points, chunks, zeros, add_chunks)


def run(launches: Launches, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the contiguous (C_out, C_in / groups, *kernel) weight, from two channels-last memories."""
    zeros = zero_row(x.dtype, launches.zeros)
    if launches.add_chunks is None:
        return [launches.sum_points.on(x, grad_output, out, zeros)]
    partial = Operand((launches.chunks, *out.shape), x.dtype)
    return [launches.sum_points.on(x, grad_output, partial, zeros), launches.add_chunks.on(partial, out.reshape(-1))]
