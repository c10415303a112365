"""The weight gradient of groups of a few whole vectors of channels: how the work is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...kernels import conv_weight_groups
from ...kernels._target import target
from ...kernels.group_tile import pairs_fit
from ...kernels.tile import tile_lanes
from . import blocking
from .weight_gradient_plan import SumsPlan, chunks_for_all_cores, sums_plan

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Products per tap and position of a group: with more, full tiles have enough to do for one tap, or with many more if
# output channels would leave half of the last tile idle.
MOST_PRODUCTS, MOST_IDLE_PRODUCTS = 64, 1600
GROUP_BLOCK = 8  # groups, or pairs, that share a list of the rows that taps read


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether groups are small, of whole vectors, and have taps to share what they multiply.

    So may a single group, of one vector of input channels and one or two of output channels, where there are 32
    registers: with 16 it takes 1.1 to 1.3 times as long as row runs.
    """
    width = tile_lanes(itemsize)
    idle = 0 < g.out_per_group % width <= width // 2
    single = g.in_channels == width // 2 and g.out_channels <= width and pairs_fit(width // 2)
    return (
        (g.groups > 1 or single)
        and (g.in_per_group % (width // 2) == 0 or _pair(g, itemsize) == 2)
        and g.out_per_group % conv_weight_groups.GROUP_ROWS == 0
        and (single or g.in_per_group * g.out_per_group <= (MOST_IDLE_PRODUCTS if idle else MOST_PRODUCTS))
        and 1 < g.taps <= conv_weight_groups.MAX_TAPS
        and _fit(g, itemsize) > 0
    )


def _pair(g: ConvGeometry, itemsize: int) -> int:
    """How many groups go through together: two, where each is half a vector and what is packed of both has room."""
    lanes = target().lanes(itemsize)
    packed = 2 * g.out_per_group * conv_weight_groups.POINT_BLOCK * itemsize
    fits = pairs_fit(lanes) and packed <= 8 * conv_weight_groups.PACK_SLOTS
    return 2 if 2 * g.in_per_group == lanes and fits else 1


def _fit(g: ConvGeometry, itemsize: int) -> int:
    """Groups, or pairs, whose sums fit the scratch."""
    return (
        conv_weight_groups.SUM_SLOTS * 8 // (_pair(g, itemsize) * g.in_per_group * g.out_per_group * g.taps * itemsize)
    )


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into blocks of groups, and the positions where those are few."""
    points = g.batch * math.prod(g.output)
    size = g.out_channels * g.in_per_group * g.taps
    pair = _pair(g, itemsize)
    pairs = -(-g.groups // pair)
    group_block = blocking.split_evenly(pairs, min(GROUP_BLOCK, _fit(g, itemsize)))
    group_blocks = -(-pairs // group_block)
    most_chunks = min(points // (4 * conv_weight_groups.POINT_BLOCK), blocking.PACKED_BYTES // (size * itemsize))
    chunks = max(1, min(-(-blocking.MIN_BLOCKS // group_blocks), most_chunks))
    chunks = chunks_for_all_cores(g, chunks, group_blocks, itemsize)
    record = conv_weight_groups.GroupsConv(
        points=points,
        groups=g.groups,
        in_channels=g.in_per_group,
        out_channels=g.out_per_group,
        pair=pair,
        group_block=group_block,
        group_blocks=group_blocks,
        chunks=chunks,
    )
    cost = g.flops / blocking.FLOPS_PER_NS
    return sums_plan(conv_weight_groups.conv_weight_groups, record, g, group_blocks * chunks, cost)
