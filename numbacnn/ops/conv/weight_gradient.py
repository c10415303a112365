"""The weight gradient on the outer-product kernel: how the work is cut, and the partial sums."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels import conv_weight
from ...kernels.tile import tile_lanes
from .. import memory
from . import blocking
from .gemm import zero_row
from .lattice import Memory, forward_phase

if TYPE_CHECKING:
    import numpy as np

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
    run, channels, taps = g.in_per_group, g.out_per_group, g.taps
    panels = -(-channels // width)
    points = g.batch * math.prod(g.output)
    tap_block = blocking.split_evenly(taps, conv_weight.MAX_TAPS)
    run_block = blocking.split_evenly(run, conv_weight.SUM_SLOTS * 8 // (tap_block * width * itemsize))
    tap_blocks, run_blocks = -(-taps // tap_block), -(-run // run_block)
    blocks = tap_blocks * panels * run_blocks * g.groups
    chunks = min(
        -(-blocking.MIN_BLOCKS // max(1, blocks)),
        max(1, blocking.PACKED_BYTES // max(1, g.out_channels * run * taps * itemsize)),
        max(1, points // (4 * conv_weight.POINT_BLOCK)),
    )
    record = conv_weight.WeightConv(
        points=points,
        groups=g.groups,
        run=run,
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
    cost = 2.0 * points * taps * run * panels * width * g.groups / blocking.FLOPS_PER_NS
    return WeightPlan(sources, record, blocks * chunks, cost)


def run(plan: WeightPlan, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, a contiguous (C_out, C_in / groups, taps) array, from two (N, D, H, W, C) memories."""
    chunks = plan.record.chunks
    partial = memory.empty((chunks, *out.shape), x.dtype) if chunks > 1 else out
    conv_weight.conv_weight(
        plan.blocks,
        x,
        grad_output,
        partial,
        zero_row(x.dtype.name, x.shape[-1]),
        plan.record,
        plan.sources,
        cost=plan.cost,
    )
    if chunks > 1:
        blocks = -(-out.size // ADD_STEP)
        conv_weight.add_chunks(blocks, partial, out.reshape(-1), chunks, ADD_STEP, cost=partial.size * 0.5)
