"""The weight gradient on the outer-product kernel: how the work is cut, and the partial sums."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels import conv_weight
from ...kernels._launch import run as run_jobs
from ...kernels.tile import MIN_PAIRED_ROWS, tile_lanes
from .. import memory
from . import blocking
from .gemm import zero_row
from .lattice import Memory, forward_phase

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels.sources import Sources
    from ..geometry import ConvGeometry


FEWEST_CHANNELS = 32  # input channels of a block, where they are dealt out: several tiles
FEWEST_SHARING = 4  # panels that are worth a copy of the rows of x that they read
ADD_STEP = 16384  # elements of the gradient per block when partial sums are added


class WeightPlan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    sources: Sources
    record: conv_weight.WeightConv
    blocks: int
    cost: float


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int) -> WeightPlan:
    """Cut the weight gradient into blocks.

    Blocks first divide the gradient itself (taps, channels): each sums over all positions and nothing needs adding
    afterwards. Only where that gives too few are the positions cut into chunks with a partial gradient each.
    """
    width = tile_lanes(itemsize)
    run, taps = g.in_per_group, g.taps
    points = g.batch * math.prod(g.output)
    tap_block = blocking.split_evenly(taps, conv_weight.MAX_TAPS)
    tap_blocks = -(-taps // tap_block)
    fit = conv_weight.SUM_SLOTS * 8 // (tap_block * width * itemsize)
    paired = 2 * g.out_per_group == width and g.groups % 2 == 0 and MIN_PAIRED_ROWS <= run <= fit
    together = 2 if paired else 1
    groups, channels = g.groups // together, g.out_per_group * together
    panels = -(-channels // width)
    cut = _cut(g, itemsize, groups, panels, fit)
    run_blocks, panel_blocks = -(-run // cut.run_block), -(-groups * panels // cut.panel_block)
    blocks = tap_blocks * run_blocks * panel_blocks
    chunks = min(-(-blocking.MIN_BLOCKS // max(1, blocks)), cut.most_chunks)
    record = conv_weight.WeightConv(
        points=points,
        groups=groups,
        run=run,
        pair=run if paired else 0,
        group_run=run * together,
        channels=channels,
        out_channels=g.out_channels,
        width=width,
        panels=panels,
        panel_block=cut.panel_block,
        panel_blocks=panel_blocks,
        run_block=cut.run_block,
        run_blocks=run_blocks,
        tap_block=tap_block,
        tap_blocks=tap_blocks,
        chunks=chunks,
        pitch=cut.pitch,
    )
    sources = forward_phase(g).sources(Memory(g.input, g.in_channels))
    cost = 2.0 * points * taps * run * panels * width * groups / blocking.FLOPS_PER_NS
    return WeightPlan(sources, record, blocks * chunks, cost)


class Cut(NamedTuple):
    """How channels and positions are cut; see `conv_weight.WeightConv`."""

    run_block: int
    panel_block: int
    most_chunks: int
    pitch: int = 0


def _cut(g: ConvGeometry, itemsize: int, groups: int, panels: int, fit: int) -> Cut:
    """Cut the channels of `groups`, each of some panels; `fit` input channels of a panel, times panels, fit a block."""
    run, points = g.in_per_group, g.batch * math.prod(g.output)
    if g.taps == g.groups == 1:
        cut = _cut_to_share(run, g.out_channels, panels, points, itemsize)
        if cut.panel_block >= FEWEST_SHARING:
            return cut
    most_chunks = min(
        max(1, blocking.PACKED_BYTES // max(1, g.out_channels * run * g.taps * itemsize)),
        max(1, points // (4 * conv_weight.POINT_BLOCK)),
    )
    panel_block = 1
    if panels == 1 and run <= fit and g.taps <= conv_weight.MAX_TAPS:
        # A step's table of source rows serves as many groups as their sums fit, if enough blocks remain.
        most = min(fit // max(1, run), groups * most_chunks // blocking.MIN_BLOCKS)
        panel_block = blocking.split_evenly(groups, max(1, most))
    return Cut(blocking.split_evenly(run, fit), panel_block, most_chunks)


def _cut_to_share(run: int, channels: int, panels: int, points: int, itemsize: int) -> Cut:
    """Cut the channels of a single tap so that as little as possible is read, rows of x being copied once.

    All blocks together read each row of x once for every block of panels, and each of dY once for every block of input
    channels. Rows are read whole, and the positions cut instead, where partial sums are little beside them.
    """
    width, line = tile_lanes(itemsize), blocking.LINE_BYTES // itemsize
    size = max(1, run * channels)
    little = min(points * (run + channels) // (4 * size), blocking.PACKED_BYTES // (size * itemsize))
    chunks = max(1, min(blocking.MIN_BLOCKS, little, points // conv_weight.POINT_BLOCK))
    fewest = -(-blocking.MIN_BLOCKS // chunks)
    fit = conv_weight.FEW_SUM_SLOTS * 8 // (width * itemsize)
    most_run = min(fit, conv_weight.COPY_SLOTS * 8 // (conv_weight.POINT_BLOCK * itemsize) - line)
    best, least = Cut(1, 1, chunks), math.inf
    for run_blocks in range(1, 1 + -(-run // FEWEST_CHANNELS)):
        run_block = -(-run // run_blocks)
        most = min(fit // max(1, run_block), panels // -(-fewest // run_blocks))
        panel_block = blocking.split_evenly(panels, max(1, most))
        read = run * -(-panels // panel_block) + width * panels * run_blocks
        if run_block <= most_run and read < least:
            best, least = Cut(run_block, panel_block, chunks, run_block + line), read
    return best


class Launches(NamedTuple):
    """The weight gradient of a convolution, ready to run."""

    sum_points: Prepared
    chunks: int
    add_chunks: Prepared | None  # None: there is one chunk, and nothing to add up


@functools.lru_cache(maxsize=512)
def prepare(g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    """The launches of `plan`."""
    p = plan(g, dtype.itemsize)
    chunks, size = p.record.chunks, g.out_channels * g.in_per_group * g.taps
    sum_points = conv_weight.conv_weight.prepare((dtype,), p.blocks, p.record, p.sources, cost=p.cost)
    if chunks == 1:
        return Launches(sum_points, 1, None)
    blocks, cost = -(-size // ADD_STEP), 0.5 * chunks * size
    return Launches(sum_points, chunks, conv_weight.add_chunks.prepare((dtype,), blocks, chunks, ADD_STEP, cost=cost))


def run(launches: Launches, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, the contiguous (C_out, C_in / groups, *kernel) weight, from two channels-last memories."""
    zeros = zero_row(x.dtype, x.shape[-1])
    if launches.add_chunks is None:
        launches.sum_points(x, grad_output, out, zeros)
        return
    partial = memory.empty((launches.chunks, *out.shape), x.dtype)
    run_jobs(launches.sum_points.job(x, grad_output, partial, zeros), launches.add_chunks.job(partial, out.reshape(-1)))
