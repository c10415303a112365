"""The weight gradient of groups of a few whole vectors of channels: how the work is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...kernels import conv_weight_groups
from ...kernels.tile import tile_lanes
from . import blocking
from .weight_gradient_plan import SumsPlan, sums_plan

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Products per tap and position of a group: with more, full tiles have enough to do for one tap, or with many more if
# output channels would leave half of the last tile idle.
MOST_PRODUCTS, MOST_IDLE_PRODUCTS = 64, 1600
GROUP_BLOCK = 8  # groups that share a list of the rows that taps read


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether groups are small, of whole vectors, and have taps to share what they multiply."""
    width = tile_lanes(itemsize)
    idle = 0 < g.out_per_group % width <= width // 2
    return (
        g.groups > 1
        and g.in_per_group % (width // 2) == 0
        and g.out_per_group % conv_weight_groups.GROUP_ROWS == 0
        and g.in_per_group * g.out_per_group <= (MOST_IDLE_PRODUCTS if idle else MOST_PRODUCTS)
        and 1 < g.taps <= conv_weight_groups.MAX_TAPS
        and _fit(g, itemsize) > 0
    )


def _fit(g: ConvGeometry, itemsize: int) -> int:
    """Groups whose sums fit the scratch."""
    return conv_weight_groups.SUM_SLOTS * 8 // (g.in_per_group * g.out_per_group * g.taps * itemsize)


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into blocks of groups, and the positions where those are few."""
    points = g.batch * math.prod(g.output)
    size = g.out_channels * g.in_per_group * g.taps
    group_block = blocking.split_evenly(g.groups, min(GROUP_BLOCK, _fit(g, itemsize)))
    group_blocks = -(-g.groups // group_block)
    most_chunks = min(points // (4 * conv_weight_groups.POINT_BLOCK), blocking.PACKED_BYTES // (size * itemsize))
    chunks = max(1, min(-(-blocking.MIN_BLOCKS // group_blocks), most_chunks))
    record = conv_weight_groups.GroupsConv(
        points=points,
        groups=g.groups,
        in_channels=g.in_per_group,
        out_channels=g.out_per_group,
        group_block=group_block,
        group_blocks=group_blocks,
        chunks=chunks,
    )
    cost = g.flops / blocking.FLOPS_PER_NS
    return sums_plan(conv_weight_groups.conv_weight_groups, record, g, group_blocks * chunks, cost)
