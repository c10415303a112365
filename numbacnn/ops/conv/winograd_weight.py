"""The weight gradient by Winograd's algorithm: portions of tiles, parts of the gradient, launches."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels import conv_winograd_weight as kernels
from ...kernels.tile import tile_lanes
from ...kernels.winograd_domain import Winograd, winograd_inputs
from .. import memory
from . import blocking
from .gemm import zero_row
from .lattice import strides
from .winograd_tiles import BLOCKS, Cut, Part, Tiles, parts_of, record, shape_of, side_of, tiles_of

if TYPE_CHECKING:
    import numpy as np

    from ..geometry import ConvGeometry

# Transformed input and gradients of a portion of tiles. Those of one point then fit L2, and sums are loaded and stored
# once per hundred tiles or more. With `blocking.PACKED_BYTES` of sums a call stays below 16 MB of extra memory.
PORTION_BYTES = 6 << 20
# Where they take no more than so much, one portion is all; sums need no memory then.
AT_ONCE_BYTES = 12 << 20
# Tiles of a block, of which a portion has several.
TILES = 24

# What pays: (channels, and positions of the whole batch), by the number of axes that are transformed and along D. All
# sums pass through memory once per portion and are transformed back, so that there must be many positions; and with few
# channels the transforms of both sides take as long as the products.
PAYS_1D, PAYS_2D, PAYS_3D = ((256, 4096),), ((256, 300), (128, 784)), ((48, 512),)


class Portion(NamedTuple):
    """Some blocks of tiles."""

    record: Winograd
    sums: kernels.WinogradSums


class WeightPart(NamedTuple):
    """What `Part` says, and the portions of tiles."""

    part: Part
    portions: tuple[Portion, ...]


class WeightPlan(NamedTuple):
    """How a weight gradient runs."""

    tiles: Tiles
    parts: tuple[WeightPart, ...]
    zeros: int
    cost: float  # of all products of one tile and one part


def declines(g: ConvGeometry) -> str | None:
    """None, or why the general algorithm is expected to be as fast. (The choice may depend on the batch here.)"""
    channels, positions = min(g.in_per_group, g.out_per_group), g.batch * math.prod(g.output)
    pays = PAYS_1D if 1 in g.kernel[1:] else PAYS_2D if g.kernel[0] == 1 else PAYS_3D
    if any(channels >= least and positions >= least_positions for least, least_positions in pays):
        return None
    return f"{channels} channels per group and {positions} positions are few"


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int) -> WeightPlan:
    """Cut the gradient into parts whose sums fit the limit on memory, and the tiles into portions."""
    side = side_of(g, "backward_weight")
    tiles = tiles_of(g, side)
    width, line = tile_lanes(itemsize), 64 // itemsize
    cut = Cut(*shape_of(g, side, tiles.columns, TILES), 1, False, 0)
    values_row = _odd_lines(side.source_channels, line)
    whole = record(g, side, tiles, cut, width, values_row, itemsize)
    once = _portions(g, whole, tiles, cut, itemsize, AT_ONCE_BYTES)
    if len(once) == 1 and once[0].sums.tiles <= kernels.AT_ONCE_TILES:
        parts = [WeightPart(Part(slice(0, g.out_channels), 0, 0, 0, whole), (_at_once(once[0]),))]
    else:
        parts = [
            WeightPart(part, tuple(_portions(g, part.record, tiles, cut, itemsize, PORTION_BYTES)))
            for part in parts_of(whole, itemsize)
        ]
    zeros = max(side.source_channels, g.out_channels)
    cost = 2.0 * tiles.points * g.kernel[0] * side.run * g.out_channels / blocking.FLOPS_PER_NS
    return WeightPlan(tiles, tuple(parts), zeros, cost)


def _odd_lines(elements: int, line: int) -> int:
    """Rows of an odd number of cache lines begin in all sets of a cache in turn."""
    return (-(-elements // line) | 1) * line


def _at_once(portion: Portion) -> Portion:
    """The portion of all tiles, cut into channels whose sums fit the scratch."""
    g, s = portion
    run_blocks = -(-g.run // kernels.AT_ONCE_RUN)
    panel_blocks = -(-g.panels // kernels.AT_ONCE_PANELS)
    return Portion(g, s._replace(point_blocks=0, run_blocks=run_blocks, panel_blocks=panel_blocks))


def _portions(g: ConvGeometry, part: Winograd, tiles: Tiles, cut: Cut, itemsize: int, most_bytes: int) -> list[Portion]:
    """The portions of tiles whose transforms take at most so much memory."""
    row = part.panels * part.width
    gradients_row = _odd_lines(part.groups * row, 64 // itemsize)
    blocks = part.depth_blocks * -(-tiles.columns // cut.columns)
    block_bytes = tiles.points * (part.values_point + cut.columns * cut.depth * gradients_row) * itemsize
    portion = blocking.split_evenly(blocks, min(most_bytes // block_bytes, kernels.MAX_TILES // TILES))

    def first_tile(block: int) -> int:
        column = block // part.depth_blocks * cut.columns
        if column >= tiles.columns:
            return tiles.columns * part.out_d
        depth = block % part.depth_blocks * cut.depth
        return column * part.out_d + min(cut.columns, tiles.columns - column) * depth

    portions = []
    point_blocks = -(-tiles.points // 2)
    run_blocks = max(1, min(part.run // 12, -(-BLOCKS // (point_blocks * part.groups))))
    gradient = dict(
        zip(("gradient_n", "gradient_d", "gradient_h", "gradient_w"), strides(g.output, g.out_channels), strict=True)
    )
    for first in range(0, blocks, portion):
        few = min(portion, blocks - first)
        sums = kernels.WinogradSums(
            blocks=few,
            tiles=first_tile(first + few) - first_tile(first),
            **gradient,
            gradients_row=gradients_row,
            slices=max(1, min(part.lanes // part.width, -(-BLOCKS // (few * part.groups)))),
            row=row,
            point_blocks=point_blocks,
            run_blocks=run_blocks,
            panel_blocks=1,
        )
        slices = max(1, min(part.groups * part.run // part.width, -(-BLOCKS // few)))
        portions.append(Portion(part._replace(first_block=first, slices=slices), sums))
    return portions


def run(plan: WeightPlan, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, a contiguous (C_out, C_in / groups, taps) array, from two (N, D, H, W, C) memories."""
    dtype, points = x.dtype, plan.tiles.points
    zeros = zero_row(dtype, plan.zeros)
    source, gradient, target = x.reshape(-1), grad_output.reshape(-1), out.reshape(-1)
    for part, portions in plan.parts:
        g, s = portions[0]
        values = memory.empty((points * s.blocks * g.values_point,), dtype)
        gradients = memory.empty((points * max(p.sums.tiles for p in portions) * s.gradients_row,), dtype)
        sums = gradients
        if s.point_blocks:
            sums = memory.empty((g.groups * g.taps_d * points * g.run * s.row,), dtype)
        part_gradient, part_out = gradient[part.out_start :], target[part.weight_start :]
        for launch, s in portions:
            inputs = (source[part.source_start :], zeros, values, launch)
            winograd_inputs(s.blocks * launch.slices, *inputs, cost=values.size * 0.5)
            blocks, cost = s.blocks * g.groups * s.slices, gradients.size * 0.5
            kernels.winograd_gradients(blocks, part_gradient, zeros, gradients, launch, s, cost=cost)
            blocks, cost = g.groups * s.run_blocks, s.tiles * plan.cost
            if s.point_blocks:
                kernels.winograd_sums(blocks * s.point_blocks, values, gradients, sums, launch, s, cost=cost)
            else:
                kernels.winograd_weight(blocks * s.panel_blocks, values, gradients, part_out, launch, s, cost=cost)
        if s.point_blocks:
            kernels.winograd_sums_to_taps(g.groups * g.run, sums, part_out, g, s, cost=sums.size * 0.5)
