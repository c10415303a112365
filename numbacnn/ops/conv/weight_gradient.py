"""The weight gradient on the outer-product kernel: how the work is cut, and the partial sums."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels import conv_weight
from ...kernels.tile import tile_lanes
from .. import memory
from . import blocking
from .gemm import strides, zero_row
from .lattice import forward_phase, source_offsets

if TYPE_CHECKING:
    from ..geometry import ConvGeometry


class WeightPlan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: tuple[np.ndarray, ...]
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
    run, lanes, taps = g.in_per_group, g.out_per_group, g.taps
    panels = -(-lanes // width)
    points = g.batch * int(np.prod(g.output))
    panel_block = blocking.split_evenly(panels, conv_weight.PACK_SLOTS * 8 // (conv_weight.POINT_BLOCK * width * itemsize))
    tap_block = blocking.split_evenly(taps, conv_weight.TABLE_SLOTS // conv_weight.POINT_BLOCK)
    run_block = blocking.split_evenly(run, 96)
    tap_blocks, panel_blocks = -(-taps // tap_block), -(-panels // panel_block)
    run_blocks = -(-run // run_block)
    blocks = tap_blocks * panel_blocks * run_blocks * g.groups
    partial_bytes = max(1, g.groups * taps * run * panels * width * itemsize)
    chunks = min(
        -(-blocking.MIN_BLOCKS // max(1, blocks)),
        max(1, blocking.PACKED_BYTES // partial_bytes),
        max(1, points // conv_weight.POINT_BLOCK),
    )
    phase = forward_phase(g)
    in_strides = strides(g.input, g.in_channels)
    record = conv_weight.WeightConv(
        *g.output,
        points=points,
        groups=g.groups,
        taps_d=g.kernel[0],
        taps_h=g.kernel[1],
        taps_w=g.kernel[2],
        run=run,
        lanes=lanes,
        in_n=in_strides[0],
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
    tables = tuple(source_offsets(axis, stride) for axis, stride in zip(phase.axes, in_strides[1:], strict=True))
    cost = 2.0 * points * taps * run * panels * width * g.groups / blocking.FLOPS_PER_NS
    return WeightPlan(tables, record, blocks * chunks, cost)


def run(plan: WeightPlan, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, a contiguous (C_out, C_in / groups, taps) array, from two (N, D, H, W, C) memories."""
    g = plan.record
    shape = (g.chunks, g.groups, out.shape[2], g.run, g.panels * g.width)
    partial = memory.empty(shape, x.dtype)
    conv_weight.conv_weight(
        plan.blocks,
        x,
        grad_output,
        partial,
        zero_row(x.dtype.name, x.shape[-1]),
        *plan.tables,
        g,
        cost=plan.cost,
    )
    conv_weight.unpack_weight(
        g.groups * g.panels,
        partial,
        out,
        g.chunks,
        partial[0].size,
        out.shape[2],
        g.run,
        g.lanes,
        g.width,
        g.panels,
        cost=partial.size * 0.5,
    )
