"""The weight gradient where rows of x are read in place: how the work is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...kernels import conv_weight_in_place
from ...kernels._target import target
from ...kernels.tile import MIN_PAIRED_ROWS, tile_lanes
from . import blocking
from .weight_gradient_plan import SumsPlan, chunks_for_all_cores, sums_plan

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Rows of x for neighbouring positions that lie so far apart fall on many pages and into few sets of the caches, the
# sooner the more of their lines six channels take.
FAR_BYTES = {4: 1024, 8: 512}
# Where a vector is a cache line, only rows that are few: copied ones are asked for in advance, which makes gradients of
# longer signals 1.05 to 1.2 times as fast.
FEW_BYTES = 3 << 20
# With fewer blocks than this the input channels are cut, into parts of at least so many.
FEW_BLOCKS, LEAST_RUN = 4, 12
# So they are where cores would have uneven shares of few blocks, into parts of at least so many; cycles of a position
# for listing a row that a tap reads, and for packing a row of gradients. (Five panels: 0.87 of the time on two.)
LEAST_SHARED_RUN, LIST_CYCLES, PACK_CYCLES = 64, 5.0, 5.0
FEW_CHANNELS = 32  # output channels that do not make up for copying x once for every tap


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether rows of x are better read in place: few channels to use a copy for, or rows that lie close together."""
    if g.groups > 1 and min(g.in_per_group, g.out_per_group) < tile_lanes(itemsize):
        return True
    near = g.stride[2] * g.in_channels * itemsize < FAR_BYTES[itemsize]
    if target().wide:
        near = near and g.elements * itemsize <= FEW_BYTES
    shared = g.taps > math.prod(g.stride)  # rows are read by several taps
    return g.taps > 1 and ((near and shared) or g.out_per_group < FEW_CHANNELS)


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into blocks.

    Blocks first divide the gradient itself (taps, channels): each sums over all positions and nothing needs adding
    afterwards. Only where that gives too few are the positions cut into chunks with a partial gradient each.
    """
    full = tile_lanes(itemsize)
    run, taps = g.in_per_group, g.taps
    points = g.batch * math.prod(g.output)
    tap_block = blocking.split_evenly(taps, conv_weight_in_place.MAX_TAPS)
    tap_blocks = -(-taps // tap_block)
    fit = conv_weight_in_place.SUM_SLOTS * 8 // (tap_block * full * itemsize)
    paired = 2 * g.out_per_group == full and g.groups % 2 == 0 and MIN_PAIRED_ROWS <= run <= fit
    together = 2 if paired else 1
    width = full if paired or g.out_per_group > full // 2 else full // 2
    groups, channels = g.groups // together, g.out_per_group * together
    panels = -(-channels // width)
    most_chunks = min(
        max(1, blocking.PACKED_BYTES // max(1, g.out_channels * run * taps * itemsize)),
        max(1, points // (4 * conv_weight_in_place.POINT_BLOCK)),
    )
    panel_block = _panel_block(g, groups, panels, fit, most_chunks)
    panel_blocks = -(-groups * panels // panel_block)
    run_blocks = max(-(-run // fit), min(-(-FEW_BLOCKS // (tap_blocks * panel_blocks * most_chunks)), run // LEAST_RUN))
    others = tap_blocks * panel_blocks
    chunks = min(-(-blocking.MIN_BLOCKS // max(1, others * run_blocks)), most_chunks)
    run_blocks = _run_blocks(run, tap_block, others * chunks, run_blocks)
    run_block = -(-run // run_blocks)
    run_blocks = -(-run // run_block)
    chunks = chunks_for_all_cores(g, chunks, others * run_blocks, itemsize)
    blocks = tap_blocks * run_blocks * panel_blocks
    record = conv_weight_in_place.InPlaceConv(
        points=points,
        groups=groups,
        run=run,
        pair=run if paired else 0,
        group_run=run * together,
        channels=channels,
        out_channels=g.out_channels,
        width=width,
        panels=panels,
        panel_block=panel_block,
        panel_blocks=panel_blocks,
        run_block=run_block,
        run_blocks=run_blocks,
        tap_block=tap_block,
        tap_blocks=tap_blocks,
        chunks=chunks,
    )
    cost = 2.0 * points * taps * run * panels * width * groups / blocking.FLOPS_PER_NS
    return sums_plan(conv_weight_in_place.conv_weight_in_place, record, g, blocks * chunks, cost)


def _run_blocks(run: int, taps: int, others: int, least: int) -> int:
    """Into how many parts to cut the input channels, at least, so that four cores have even shares of the blocks.

    For each part there are `others` blocks.
    """

    def cycles(parts: int) -> float:
        rounds = -(-others * parts // 4) * 4 / (others * parts)
        return rounds * (taps * run + parts * (taps * LIST_CYCLES + PACK_CYCLES))

    if not 1 < others * least < blocking.MIN_BLOCKS:
        return least
    return min(range(least, max(least, run // LEAST_SHARED_RUN) + 1), key=cycles)


def _panel_block(g: ConvGeometry, groups: int, panels: int, fit: int, most_chunks: int) -> int:
    """How many of the `groups`, each of some panels, a block takes; `fit` input channels of a panel fit its sums."""
    run = g.in_per_group
    if panels > 1 or run > fit or g.taps > conv_weight_in_place.MAX_TAPS:
        return 1
    # A step's table of source rows serves as many groups as their sums fit, if enough blocks remain.
    most = min(fit // max(1, run), groups * most_chunks // blocking.MIN_BLOCKS)
    return blocking.split_evenly(groups, max(1, most))
