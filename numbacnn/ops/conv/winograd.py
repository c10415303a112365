"""Winograd convolution: kernels of three taps along W or H or both, at a third to a half of the multiplications.

How tiles and panels are cut into blocks that fit scratch memory and caches, and the launches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels import winograd_domain as domain
from ...kernels.conv_winograd import conv_winograd
from ...kernels.tile import tile_lanes
from .. import memory
from ..padding import source_index
from . import blocking
from .gemm import padded_bias, strides, zero_row

if TYPE_CHECKING:
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
# Enough blocks of a launch that the cores finish together.
BLOCKS = 16

# What pays, per sample (so that a batch gives the bits of its samples). Transforms and launches take as long as so many
# operations save; and a transformed weight has to serve so many outputs, fewer where it stays in L2. Along one axis
# only half of the multiplications are saved, not three quarters.
MIN_FLOPS, MIN_FLOPS_1D = 8e6, 5e7
MIN_OUTPUTS, MIN_OUTPUTS_1D = 100, 256
FEW_OUTPUTS, FEW_OUTPUTS_FLOPS = 49, 5e7
MIN_RUN, MIN_LANES = 16, 16


class Side(NamedTuple):
    """Which way a direction runs: what is read and written, and the weights' order."""

    source: tuple[int, int, int]
    source_channels: int
    out: tuple[int, int, int]
    out_channels: int
    run: int  # source channels of one group
    lanes: int  # destination channels of one group
    pad: tuple[int, ...]
    weight_run: int
    weight_lane: int
    backwards: bool


class Cut(NamedTuple):
    """How tiles are cut into blocks; see `winograd_domain.Winograd`."""

    columns: int
    depth: int
    rows: int
    step_panels: int
    own_values: bool
    own_run: int


class Part(NamedTuple):
    """Some groups, or some panels of one group, whose transformed weights fit the limit on extra memory."""

    channels: slice  # of the destination
    source_start: int  # elements to skip in a sample of the source, the weights and the destination
    weight_start: int
    out_start: int
    record: domain.Winograd


class Plan(NamedTuple):
    """How one direction of a convolution runs."""

    index_h: np.ndarray
    index_w: np.ndarray
    parts: tuple[Part, ...]
    tile_blocks: int
    portion: int  # blocks of tiles per launch
    zeros: int  # elements of the row of zeros that padding and missing biases read
    cost: float  # of one block of tiles


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction == "backward_weight":
        return "it has no backward_weight"
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
    side = _side(g, direction)
    if side.run < tile_lanes(4) // 2:
        return f"{side.run} channels to sum over do not fill a vector"
    points = math.prod(_points(side.out, g.kernel))
    panel_bytes = points * g.kernel[0] * (side.run + 1) * tile_lanes(4) * 4
    tile_bytes = points * (g.kernel[0] + 2) * side.source_channels * 8
    if panel_bytes > blocking.PACKED_BYTES or tile_bytes > VALUES_BYTES:
        return f"the transforms of {side.source_channels} channels take too much memory"
    return None


def declines(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why the general algorithm is expected to be as fast. (Measured; none of the limits is sharp.)"""
    g = geometry
    side = _side(g, direction)
    if side.run < MIN_RUN or side.lanes < MIN_LANES:
        return f"{side.run} and {side.lanes} channels per group are few"
    outputs, flops = math.prod(side.out), g.flops / max(1, g.batch)
    if 1 in _points(side.out, g.kernel):
        least, least_flops = MIN_OUTPUTS_1D, MIN_FLOPS_1D
    else:
        many = g.kernel[0] == 1 and flops >= FEW_OUTPUTS_FLOPS
        least, least_flops = FEW_OUTPUTS if many else MIN_OUTPUTS, MIN_FLOPS
    if outputs < least:
        return f"{outputs} positions per sample are few"
    if flops < least_flops:
        return f"{flops:.2g} operations per sample are few"
    return None


def _side(g: ConvGeometry, direction: str) -> Side:
    if direction == "forward":
        weight = (g.taps, g.in_per_group * g.taps)
        channels = (g.in_per_group, g.out_per_group)
        return Side(g.input, g.in_channels, g.output, g.out_channels, *channels, g.pad_low, *weight, False)
    weight = (g.in_per_group * g.taps, g.taps)
    channels = (g.out_per_group, g.in_per_group)
    pad = tuple(k - 1 - p for k, p in zip(g.kernel, g.pad_low, strict=True))
    return Side(g.output, g.out_channels, g.input, g.in_channels, *channels, pad, *weight, True)


def _points(out: tuple[int, int, int], kernel: tuple[int, int, int]) -> tuple[int, int]:
    """Points of a tile along H and W: 6 for 4 outputs, or 4 for 2 where that takes no more multiplications."""
    h, w = (
        1 if taps == 1 else 4 if -(-size // 2) * 4 <= -(-size // 4) * 6 else 6
        for size, taps in zip(out[1:], kernel[1:], strict=True)
    )
    return h, w


def _outputs(points: int) -> int:
    return max(1, points - 2)


def _offsets(g: ConvGeometry, side: Side, axis: int, points: int, stride: int) -> np.ndarray:
    """What each point of each tile along an axis reads, in elements; -1: a zero."""
    outputs, step = side.out[axis], _outputs(points)
    tiles = -(-outputs // step)
    index = source_index(side.source[axis], tiles, points, step, 1, side.pad[axis], g.padding_mode[axis])
    # Inputs that only outputs beyond the edge would read: they may hold infinities.
    needed = np.arange(tiles)[:, None] * step + np.arange(points) < outputs + points - step
    return np.ascontiguousarray(np.where(needed & (index >= 0), index * stride, -1))


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, direction: str, itemsize: int) -> Plan:
    """Cut a convolution into blocks of tiles and panels."""
    side = _side(g, direction)
    points_h, points_w = _points(side.out, g.kernel)
    points = points_h * points_w
    source_strides = strides(side.source, side.source_channels)
    index_h = _offsets(g, side, 1, points_h, source_strides[2])
    index_w = _offsets(g, side, 2, points_w, source_strides[3])
    columns = g.batch * len(index_h) * len(index_w)
    full = tile_lanes(itemsize)
    width = full if side.lanes > full // 2 else full // 2
    panels = -(-side.lanes // width)
    cut = _cut(g, side, columns, points, panels * width, width, itemsize)
    line = 64 // itemsize  # rows of different points begin in different sets of the caches
    values_row = side.run if cut.own_values else side.source_channels
    values_point = -(-cut.rows * values_row // line) * line + line
    depth_blocks = -(-side.out[0] // cut.depth)
    tile_blocks = -(-columns // cut.columns) * depth_blocks
    portion = tile_blocks
    if not cut.own_values:
        portion = blocking.split_evenly(tile_blocks, VALUES_BYTES // (points * values_point * itemsize))
    record = domain.Winograd(
        points_h=points_h,
        points_w=points_w,
        outputs_h=_outputs(points_h),
        outputs_w=_outputs(points_w),
        tiles_h=len(index_h),
        tiles_w=len(index_w),
        columns=columns,
        in_d=side.source[0],
        out_d=side.out[0],
        out_h=side.out[1],
        out_w=side.out[2],
        taps_d=g.kernel[0],
        pad_d=side.pad[0],
        source_n=source_strides[0],
        source_d=source_strides[1],
        **dict(zip(("out_sn", "out_sd", "out_sh", "out_sw"), strides(side.out, side.out_channels), strict=True)),
        groups=g.groups,
        run=side.run,
        lanes=side.lanes,
        vector=full // 2,
        width=width,
        panels=panels,
        block_columns=cut.columns,
        block_depth=cut.depth,
        depth_blocks=depth_blocks,
        first_block=0,
        panel_blocks=-(-BLOCKS // (portion * g.groups)),
        step_panels=cut.step_panels,
        own_values=int(cut.own_values),
        slices=max(1, min(side.source_channels // full, -(-BLOCKS // portion))),
        values_row=values_row,
        values_point=values_point,
        products_point=cut.columns * cut.depth * cut.step_panels * width + line,
        weight_point=(cut.own_run or side.run) * width + line,
        weight_run=side.weight_run,
        weight_lane=side.weight_lane,
        weight_group=g.out_per_group * g.in_per_group * g.taps,
        backwards=int(side.backwards),
        weight_blocks=1,
        own_run=cut.own_run,
    )
    zeros = max(side.source_channels, g.groups * panels * width)
    cost = 2.0 * points * cut.columns * cut.depth * g.kernel[0] * side.run * g.groups * panels * width
    return Plan(
        index_h, index_w, tuple(_parts(record, itemsize)), tile_blocks, portion, zeros, cost / blocking.FLOPS_PER_NS
    )


def _cut(g: ConvGeometry, side: Side, columns: int, points: int, lanes: int, width: int, itemsize: int) -> Cut:
    """The largest blocks of tiles whose intermediate results fit; `lanes` of all panels of a group."""
    line = 64 // itemsize
    slots = domain.PRODUCT_SLOTS * 8 // itemsize
    step = min(lanes // width, STEP_PANELS)
    tiles = columns * side.out[0]
    for most in OWN_TILES:
        cut = Cut(*_shape(g, side, columns, most), step, True, 0)
        products = cut.columns * cut.depth * step * width
        if points * (products + cut.rows * side.run + 3 * line) <= slots and tiles >= BLOCKS * most:
            return cut
    rows = VALUES_BYTES // (points * side.source_channels * itemsize) - 1  # that fit the shared buffer
    if g.kernel[0] == 1 and tiles <= min(OWN_WEIGHT_TILES, rows):
        shape = _shape(g, side, columns, tiles)
        room = slots // points - tiles * width - 2 * line
        return Cut(*shape, 1, False, min(side.run, OWN_RUN, room // width))
    most = next(n for n in range(TILES, 0, -1) if n == 1 or _shape(g, side, columns, n)[2] <= rows)
    shape = _shape(g, side, columns, most)
    step = max(1, min(step, (slots // points - line) // (shape[0] * shape[1] * width)))
    return Cut(*shape, step, False, 0)


def _shape(g: ConvGeometry, side: Side, columns: int, tiles: int) -> tuple[int, int, int]:
    """Columns and depth of a block of at most so many tiles, and how many rows of transformed input it reads."""
    depth = blocking.split_evenly(side.out[0], tiles)
    few = blocking.split_evenly(columns, tiles // depth)
    return few, depth, few * min(side.source[0], depth + g.kernel[0] - 1) + (g.kernel[0] > 1)


def _parts(g: domain.Winograd, itemsize: int) -> list[Part]:
    """Cut groups and panels so that at most `blocking.PACKED_BYTES` of weights are transformed at a time."""
    groups, panels = g.groups, g.panels
    if not g.own_run:
        panel_bytes = g.taps_d * g.points_h * g.points_w * g.weight_point * itemsize
        portion = max(1, blocking.PACKED_BYTES // panel_bytes)
        groups, panels = max(1, portion // panels), min(portion, panels)
    parts = []
    for group in range(0, g.groups, groups):
        for panel in range(0, g.panels, panels):
            lane = panel * g.width
            few_groups, few_panels = min(groups, g.groups - group), min(panels, g.panels - panel)
            lanes = min(g.lanes - lane, panels * g.width)
            first = group * g.lanes + lane
            record = g._replace(
                groups=few_groups,
                panels=few_panels,
                lanes=lanes,
                panel_blocks=min(g.panel_blocks, few_panels),
                weight_blocks=max(1, min(g.run // 16, -(-2 * BLOCKS // (few_groups * few_panels)))),
            )
            parts.append(
                Part(
                    slice(first, first + (few_groups - 1) * g.lanes + lanes),
                    group * g.run,
                    group * g.weight_group + lane * g.weight_lane,
                    first,
                    record,
                )
            )
    return parts


def forward(g: ConvGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    _run(plan(g, "forward", x.dtype.itemsize), x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    _run(plan(g, "backward_data", out.dtype.itemsize), grad_output, weight, bias, out)


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
            tables = (plan.index_h, plan.index_w, launch)
            if not g.own_values:
                cost = blocks * g.points_h * g.points_w * g.values_point * 0.5
                domain.winograd_inputs(blocks * g.slices, part_source, zeros, values, *tables, cost=cost)
            conv_winograd(
                blocks * g.groups * g.panel_blocks,
                part_source,
                values,
                weights,
                start,
                zeros,
                part_out,
                *tables,
                cost=blocks * plan.cost,
            )


def _transformed(g: domain.Winograd, weight: np.ndarray) -> np.ndarray:
    panels = g.groups * g.panels
    packed = memory.empty((panels * g.taps_d * g.points_h * g.points_w * g.weight_point,), weight.dtype)
    domain.winograd_weights(panels * g.weight_blocks, weight, packed, g, cost=packed.size * 0.5)
    return packed
