"""The weight gradient of depthwise convolution straight from channels-last memory: blocking and launches."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.conv_depthwise_weight import ChannelSums, combine_channels, conv_depthwise_weight
from . import blocking
from .depthwise_rows import plan_rows, reach
from .depthwise_zones import weight_zones
from .lattice import strides
from .strip_tables import plane_lists

if TYPE_CHECKING:
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

# Zones that are single points, at the borders.
MOST_ZONES = 2048
# Vectors that pass over a block's rows together: memory is read in long pieces, and their sums stay in L1.
PASS_VECTORS = 16
# Enough blocks for any number of cores to finish together, of enough rows that adding up the chunks does not matter.
BLOCKS = 16
CHUNK_ROWS = 4
# Of what rows are cut into, so that the positions of a segment stay in the caches while vectors pass over them.
SEGMENT_POINTS, MOST_SEGMENTS = 64, 256
# Positions that two chunks both read do not matter where a chunk has so many times as many.
POINTS_PER_OVERLAP = 2


class Plan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: tuple[np.ndarray, ...]
    record: ChannelSums
    blocks: int
    cost: float


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int) -> Plan:
    """Plan ``grad_weight``: rows are cut into chunks, and vectors dealt out where that does not make blocks enough."""
    zones = weight_zones(g, MOST_ZONES)
    assert zones is not None  # or `accepts` would have refused
    lists_d, lists_h = plane_lists(g, False)
    lanes = target().lanes(itemsize)
    vectors = -(-g.groups // lanes)
    rows = plan_rows(g, False, itemsize, MOST_SEGMENTS, SEGMENT_POINTS)
    most_chunks = blocking.PACKED_BYTES // (vectors * g.taps * lanes * itemsize)
    fewest = max(CHUNK_ROWS, rows.phase)
    if rows.segments > 1:
        fewest = max(fewest, POINTS_PER_OVERLAP * reach(g, False, 2) // SEGMENT_POINTS)
    chunks = max(1, min(BLOCKS, rows.units // fewest, most_chunks))
    vector_blocks = min(-(-BLOCKS // chunks), -(-vectors // 2))
    in_n, in_d, in_h, _ = strides(g.input, g.groups)
    out_n, out_d, out_h, _ = strides(g.output, g.groups)
    record = ChannelSums(
        *rows,
        chunks=chunks,
        channels=g.groups,
        vectors=vectors,
        vector_blocks=vector_blocks,
        pass_vectors=PASS_VECTORS,
        taps=g.taps,
        row_taps=g.kernel[2],
        stride=g.stride[2],
        dilation=g.dilation[2],
        zones=len(zones),
        source_n=in_n,
        source_d=in_d,
        source_h=in_h,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
    )
    tables = (lists_d.table(g.kernel[1], 1, 1), lists_h.table(1, 1, 1), zones.ravel())
    cost = g.flops / blocking.FLOPS_PER_NS + g.elements * itemsize / 20
    return Plan(tables, record, chunks * vector_blocks, cost)


def run(plan: Plan, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, a contiguous (C, 1, taps) array, from two (N, D, H, W, C) memories."""
    g = plan.record
    partial = Operand((g.chunks * g.vectors * g.taps * target().lanes(x.dtype.itemsize),), x.dtype)
    step = max(1, 2048 // (g.taps * g.chunks))
    blocks, cost = -(-g.vectors // step), partial.size / 8 + out.size / 4
    return [
        conv_depthwise_weight.on(plan.blocks, x, grad_output, partial, *plan.tables, g, cost=plan.cost),
        combine_channels.on(blocks, partial, out, g.taps, g.channels, g.chunks, step, cost=cost),
    ]
