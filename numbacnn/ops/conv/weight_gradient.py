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
    run_block = blocking.split_evenly(run, conv_weight.SUM_SLOTS * 8 // (tap_block * width * itemsize))
    tap_blocks, run_blocks = -(-taps // tap_block), -(-run // run_block)
    last_run = run - (run_blocks - 1) * run_block
    paired = 2 * g.out_per_group == width and g.groups % 2 == 0 and last_run >= MIN_PAIRED_ROWS
    together = 2 if paired else 1
    groups, channels = g.groups // together, g.out_per_group * together
    panels = -(-channels // width)
    most_chunks = min(
        max(1, blocking.PACKED_BYTES // max(1, g.out_channels * run * taps * itemsize)),
        max(1, points // (4 * conv_weight.POINT_BLOCK)),
    )
    group_block = 1
    if tap_blocks == panels == run_blocks == 1:
        # A step's table of source rows serves as many groups as their sums fit, if enough blocks remain.
        most = conv_weight.SUM_SLOTS * 8 // (taps * run * width * itemsize)
        group_block = max(1, min(most, groups * most_chunks // blocking.MIN_BLOCKS))
    group_blocks = -(-groups // group_block)
    group_block = blocking.split_evenly(groups, group_block)
    blocks = tap_blocks * panels * run_blocks * group_blocks
    chunks = min(-(-blocking.MIN_BLOCKS // max(1, blocks)), most_chunks)
    record = conv_weight.WeightConv(
        points=points,
        groups=groups,
        group_block=group_block,
        group_blocks=group_blocks,
        run=run,
        pair=run if paired else 0,
        group_run=run * together,
        channels=channels,
        out_channels=g.out_channels,
        width=width,
        panels=panels,
        run_block=run_block,
        run_blocks=run_blocks,
        tap_block=tap_block,
        tap_blocks=tap_blocks,
        chunks=chunks,
    )
    sources = forward_phase(g).sources(Memory(g.input, g.in_channels))
    cost = 2.0 * points * taps * run * panels * width * groups / blocking.FLOPS_PER_NS
    return WeightPlan(sources, record, blocks * chunks, cost)


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
