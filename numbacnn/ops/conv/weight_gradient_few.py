"""The weight gradient of a single tap between few channels and many: how the work is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...kernels import conv_weight_few
from ...kernels._serial import SCRATCH_SLOTS
from ...kernels.tile import VECTORS, tile_lanes
from . import blocking
from .weight_gradient_plan import SumsPlan, sums_plan

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Rows added up at a time take half of L1: the other half is for those that come next.
STEP_BYTES = 16 * 1024
# With fewer rows at a time, loading and storing the sums takes longer than the products; with more, nothing is gained.
LEAST_STEP, MOST_STEP = 16, 256
# Read by one block at least: some ten microseconds.
BLOCK_BYTES = 128 * 1024
BYTES_PER_NS = 10.0


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether every position of the input is read once, and one side has few channels."""
    once = g.taps == 1 and g.stride == (1, 1, 1) and not any(g.pad_low) and not any(g.pad_high)
    few, many = sorted((g.in_channels, g.out_channels))
    return (
        once
        and g.groups == 1
        and few <= conv_weight_few.MOST_FEW
        and few * (many + tile_lanes(itemsize)) <= SCRATCH_SLOTS
    )


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the positions into chunks."""
    swapped = g.in_channels < g.out_channels
    few, many = sorted((g.in_channels, g.out_channels))
    points, lanes = g.batch * math.prod(g.output), tile_lanes(itemsize) // VECTORS
    read_bytes = points * (few + many) * itemsize
    chunks = max(1, min(blocking.MIN_BLOCKS, read_bytes // BLOCK_BYTES, points // LEAST_STEP))
    record = conv_weight_few.FewConv(
        points=points,
        step=max(LEAST_STEP, min(MOST_STEP, STEP_BYTES // (many * itemsize))),
        few=few,
        many=many,
        swapped=int(swapped),
        row=-(-many // lanes) * lanes,
        few_step=1 if swapped else many,
        many_step=few if swapped else 1,
        chunks=chunks,
    )
    cost = max(g.flops / blocking.FLOPS_PER_NS, read_bytes / BYTES_PER_NS)
    return sums_plan(conv_weight_few.conv_weight_few, record, g, chunks, cost)
