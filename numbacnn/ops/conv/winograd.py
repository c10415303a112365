"""Winograd convolution: kernels of three taps along W or H or both, at a third to a half of the multiplications.

How tiles and panels are cut into blocks that fit scratch memory and caches, and the launches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels import winograd_domain as domain
from ...kernels.conv_winograd import conv_winograd
from ...kernels.tile import tile_lanes
from .. import memory
from . import blocking, winograd_weight
from .gemm import padded_bias, zero_row
from .winograd_tiles import BLOCKS, Cut, Part, Side, parts_of, points_of, record, shape_of, side_of, tiles_of

if TYPE_CHECKING:
    import numpy as np

    from ..geometry import ConvGeometry

name = "winograd"
exact = False  # rounding errors are several times those of a sum of products

# Transformed input that all blocks of a launch share: what a last-level cache holds beside transformed weights. With
# `blocking.PACKED_BYTES` of those a call stays below 16 MB of extra memory.
VALUES_BYTES = 4 << 20
# Tiles of a block: so many reuse a panel's weights, which come from L2 or beyond.
TILES = 36
# Where a block keeps its transformed input to itself, in scratch memory: the fewest tiles for which that is faster.
OWN_TILES = (36, 24, 18, 12)
# Panels whose products are in the scratch at a time: as many meet the transformed rows of a point while L1 holds them.
STEP_PANELS = 2
# Up to so many tiles in all fit one block. Its weights are then used by no other block and stay in L2, transformed
# a few source channels at a time (so many are a long enough reduction), instead of passing through memory.
OWN_WEIGHT_TILES, OWN_RUN = 48, 64
# What pays, per sample (so that a batch gives the bits of its samples). Transforms and launches take as long as so many
# operations save; and a transformed weight has to serve so many outputs, fewer where it stays in L2. Along one axis
# only half of the multiplications are saved, not three quarters.
MIN_FLOPS, MIN_FLOPS_1D = 8e6, 5e7
MIN_OUTPUTS, MIN_OUTPUTS_1D = 100, 256
FEW_OUTPUTS, FEW_OUTPUTS_FLOPS = 49, 5e7
MIN_RUN, MIN_LANES = 16, 16


class Plan(NamedTuple):
    """How one direction of a convolution runs."""

    parts: tuple[Part, ...]
    tile_blocks: int
    portion: int  # blocks of tiles per launch
    zeros: int  # elements of the row of zeros that padding and missing biases read
    cost: float  # of one block of tiles


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.stride != (1, 1, 1) or g.dilation != (1, 1, 1):
        return f"the stride is {g.stride} and the dilation {g.dilation}"
    if not set(g.kernel[1:]) <= {1, 3} or 3 not in g.kernel[1:]:
        return f"the kernel {g.kernel} does not have three taps along H and W or one of them"
    if g.kernel[0] > domain.MAX_TAPS_D:
        return f"the kernel has {g.kernel[0]} taps along D, more than {domain.MAX_TAPS_D}"
    if g.padding_mode[0] != "zeros" or (g.kernel[0] == 1 and g.pad_low[0] + g.pad_high[0] > 0):
        return "there is padding along D other than zeros for a kernel of several taps"
    if direction == "backward_data" and set(g.padding_mode) != {"zeros"}:
        return f"padding_mode {g.padding_mode} adds gradients up"
    side = side_of(g, direction)
    if side.run < tile_lanes(4) // 2:
        return f"{side.run} channels to sum over do not fill a vector"
    if direction == "backward_weight" and side.lanes < tile_lanes(4) // 2:
        return f"{side.lanes} channels do not fill a vector"
    points = math.prod(points_of(side.out, g.kernel))
    panel_bytes = points * g.kernel[0] * (side.run + 1) * tile_lanes(4) * 4
    if direction == "backward_weight":
        panel_bytes *= 2  # so that no part is a ragged panel alone
    tile_bytes = points * (g.kernel[0] + 2) * side.source_channels * 8
    if panel_bytes > blocking.PACKED_BYTES or tile_bytes > VALUES_BYTES:
        return f"the transforms of {side.source_channels} channels take too much memory"
    return None


def declines(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why the general algorithm is expected to be as fast. (Measured; none of the limits is sharp.)"""
    g = geometry
    if direction == "backward_weight":
        return winograd_weight.declines(g)
    side = side_of(g, direction)
    if side.run < MIN_RUN or side.lanes < MIN_LANES:
        return f"{side.run} and {side.lanes} channels per group are few"
    outputs, flops = math.prod(side.out), g.flops / max(1, g.batch)
    if 1 in points_of(side.out, g.kernel):
        least, least_flops = MIN_OUTPUTS_1D, MIN_FLOPS_1D
    else:
        many = g.kernel[0] == 1 and flops >= FEW_OUTPUTS_FLOPS
        least, least_flops = FEW_OUTPUTS if many else MIN_OUTPUTS, MIN_FLOPS
    if outputs < least:
        return f"{outputs} positions per sample are few"
    if flops < least_flops:
        return f"{flops:.2g} operations per sample are few"
    return None


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, direction: str, itemsize: int) -> Plan:
    """Cut a convolution into blocks of tiles and panels."""
    side = side_of(g, direction)
    tiles = tiles_of(g, side)
    full = tile_lanes(itemsize)
    width = full if side.lanes > full // 2 else full // 2
    panels = -(-side.lanes // width)
    cut = _cut(g, side, tiles.columns, tiles.points, panels * width, width, itemsize)
    whole = record(g, side, tiles, cut, width, side.run if cut.own_values else side.source_channels, itemsize)
    portion = tile_blocks = whole.depth_blocks * -(-tiles.columns // cut.columns)
    if not cut.own_values:
        portion = blocking.split_evenly(tile_blocks, VALUES_BYTES // (tiles.points * whole.values_point * itemsize))
    whole = whole._replace(
        panel_blocks=-(-BLOCKS // (portion * g.groups)),
        slices=max(1, min(side.source_channels // full, -(-BLOCKS // portion))),
    )
    zeros = max(side.source_channels, g.groups * panels * width)
    cost = 2.0 * tiles.points * cut.columns * cut.depth * g.kernel[0] * side.run * g.groups * panels * width
    parts = tuple(parts_of(whole, itemsize))
    return Plan(parts, tile_blocks, portion, zeros, cost / blocking.FLOPS_PER_NS)


def _cut(g: ConvGeometry, side: Side, columns: int, points: int, lanes: int, width: int, itemsize: int) -> Cut:
    """The largest blocks of tiles whose intermediate results fit; `lanes` of all panels of a group."""
    line = 64 // itemsize
    slots = domain.PRODUCT_SLOTS * 8 // itemsize
    step = min(lanes // width, STEP_PANELS)
    tiles = columns * side.out[0]
    for most in OWN_TILES:
        cut = Cut(*shape_of(g, side, columns, most), step, True, 0)
        products = cut.columns * cut.depth * step * width
        if points * (products + cut.rows * side.run + 3 * line) <= slots and tiles >= BLOCKS * most:
            return cut
    rows = VALUES_BYTES // (points * side.source_channels * itemsize) - 1  # that fit the shared buffer
    if g.kernel[0] == 1 and tiles <= min(OWN_WEIGHT_TILES, rows):
        shape = shape_of(g, side, columns, tiles)
        room = slots // points - tiles * width - 2 * line
        return Cut(*shape, 1, False, min(side.run, OWN_RUN, room // width))
    most = next(n for n in range(TILES, 0, -1) if n == 1 or shape_of(g, side, columns, n)[2] <= rows)
    shape = shape_of(g, side, columns, most)
    step = max(1, min(step, (slots // points - line) // (shape[0] * shape[1] * width)))
    return Cut(*shape, step, False, 0)


def forward(g: ConvGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    _run(plan(g, "forward", x.dtype.itemsize), x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    _run(plan(g, "backward_data", out.dtype.itemsize), grad_output, weight, bias, out)


def backward_weight(g: ConvGeometry, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, the (C_out, C_in / groups, taps) gradient of the weight."""
    winograd_weight.run(winograd_weight.plan(g, x.dtype.itemsize), grad_output, x, out)


def _run(plan: Plan, source: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    source, weight, out = source.reshape(-1), weight.reshape(-1), out.reshape(-1)
    zeros = zero_row(source.dtype, plan.zeros)
    for part in plan.parts:
        g = part.record
        weights = weight[part.weight_start :]
        if not g.own_run:
            weights = _transformed(g, weights)
        start = zeros if bias is None else padded_bias(g, bias[part.channels])
        part_source, part_out = source[part.source_start :], out[part.out_start :]
        values = zeros
        if not g.own_values:
            values = memory.empty((plan.portion * g.points_h * g.points_w * g.values_point,), source.dtype)
        for first in range(0, plan.tile_blocks, plan.portion):
            blocks = min(plan.portion, plan.tile_blocks - first)
            launch = g._replace(first_block=first)
            if not g.own_values:
                cost = blocks * g.points_h * g.points_w * g.values_point * 0.5
                domain.winograd_inputs(blocks * g.slices, part_source, zeros, values, launch, cost=cost)
            conv_winograd(
                blocks * g.groups * g.panel_blocks,
                part_source,
                values,
                weights,
                start,
                zeros,
                part_out,
                launch,
                cost=blocks * plan.cost,
            )


def _transformed(g: domain.Winograd, weight: np.ndarray) -> np.ndarray:
    panels = g.groups * g.panels
    packed = memory.empty((panels * g.taps_d * g.points_h * g.points_w * g.weight_point,), weight.dtype)
    domain.winograd_weights(panels * g.weight_blocks, weight, packed, g, cost=packed.size * 0.5)
    return packed
