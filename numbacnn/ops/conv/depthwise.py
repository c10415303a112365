"""Depthwise convolution: one input channel per group, any multiplier, all three directions.

Here the axes of a problem become lists (which taps meet a destination coordinate, and what they read), the destination
is cut into blocks, and the kernels are launched.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels import conv_depthwise as kernels
from ...kernels import conv_depthwise_weight as weight_kernels
from ...kernels._target import target
from .. import memory
from . import blocking
from .gemm import strides
from .lattice import forward_phase, source_offsets

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

name = "depthwise"

# Kernel rows x channels that a tile reads while it moves along a row, and their weights, should stay in L1 ...
BAND_BYTES = 20 * 1024
# ... and the source rows of a destination row in L2.
CHUNK_BYTES = 256 * 1024
# Points of a destination row in one unit of work: only 1-D problems have longer rows.
SEGMENT = 512
# Enough for any number of cores to finish together, few enough that rows which two blocks read do not matter.
BLOCKS = 32
# Points whose rows stay in L1 while the kernel taps of the weight gradient pass over them.
GROUP = 128


class AxisList(NamedTuple):
    """What meets each destination coordinate of an axis: ``entries[starts[q]:starts[q + 1]]``, (tap, source) pairs."""

    starts: np.ndarray
    entries: np.ndarray

    def scaled(self, tap: int, source: int) -> AxisList:
        """Taps and source coordinates as offsets, in elements."""
        return AxisList(self.starts, np.ascontiguousarray(self.entries * (tap, source)))

    @property
    def longest(self) -> int:
        return int(np.diff(self.starts).max(initial=0))


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.in_per_group != 1:
        return f"each group has {g.in_per_group} input channels, not 1"
    if g.groups == 1 and g.out_channels > 1:
        return "a single input channel that all output channels share is not depthwise"
    lists = [axis_list(g, axis, direction == "backward_data") for axis in (0, 1)]
    if lists[0].longest * lists[1].longest > kernels.TABLE_ROWS:
        return f"its kernel has more than {kernels.TABLE_ROWS} rows"
    return None


def axis_list(g: ConvGeometry, axis: int, transposed: bool) -> AxisList:
    """Forward: the inputs of every output. Transposed: the outputs that read every input."""
    table = forward_phase(g).axes[axis].source
    output, tap = np.nonzero(table >= 0)
    if not transposed:
        counts = np.bincount(output, minlength=g.output[axis])
        entries = np.stack([tap, table[output, tap]], axis=1)
    else:
        coordinate = table[output, tap]
        order = np.lexsort((output, tap, coordinate))
        counts = np.bincount(coordinate, minlength=g.input[axis])
        entries = np.stack([tap, output], axis=1)[order]
    return AxisList(np.concatenate([[0], np.cumsum(counts)]), entries)


class Interior(NamedTuple):
    """A phase of the width: coordinates ``start + step * point``; points `begin` to `end` read with constant steps."""

    start: int
    step: int
    points: int
    begin: int
    end: int
    source: int  # of the first tap at point `begin`
    tap: int  # first tap, in the order in which the source coordinate grows
    taps: int
    tap_stride: int


def phase_interior(lists: AxisList, start: int, step: int, extent: int, point_step: int, tap_step: int) -> Interior:
    """The longest range of points of a phase whose taps are all there and read ``point_step * p + tap_step * t``."""
    coordinates = np.arange(start, extent, step)
    counts = np.diff(lists.starts)[coordinates]
    points = len(coordinates)
    count = int(np.bincount(counts).argmax()) if points else 0
    nothing = Interior(start, step, points, 0, 0, 0, 0, 0, 0)
    full = np.flatnonzero(counts == count)
    if not count:
        return nothing
    rows = lists.entries[lists.starts[coordinates[full]][:, None] + np.arange(count)]
    # The commonest key (taps, and the source relative to the point) is the interior.
    key = rows - np.stack([np.zeros_like(full), point_step * full], axis=1)[:, None]
    regular = (key[:, :, 1] - key[:, :1, 1] == tap_step * np.arange(count)).all(axis=1)
    if not regular.any():
        return nothing
    full, rows, key = full[regular], rows[regular], key[regular]
    breaks = np.flatnonzero((np.diff(full) != 1) | (np.diff(key, axis=0) != 0).any(axis=(1, 2))) + 1
    edges = np.concatenate([[0], breaks, [len(full)]])
    longest = int(np.diff(edges).argmax())
    first, last = int(edges[longest]), int(edges[longest + 1]) - 1
    row = rows[first]
    tap_stride = int(row[1, 0] - row[0, 0]) if count > 1 else 1
    if tap_step < 0:
        row, tap_stride = row[::-1], -tap_stride
    return Interior(
        start, step, points, int(full[first]), int(full[last]) + 1, int(row[0, 1]), int(row[0, 0]), count, tap_stride
    )


def _phase_row(i: Interior, channels: int, lanes: int) -> tuple[int, ...]:
    """The columns that kernels read, lengths in elements."""
    return i.start, i.step, i.points, i.begin, i.end, i.source * channels, i.tap * lanes, i.taps, i.tap_stride * lanes


class Plan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: tuple[np.ndarray, ...]
    record: kernels.Depthwise
    blocks: int
    cost: float


@functools.lru_cache(maxsize=512)
def plan_forward(g: ConvGeometry, itemsize: int) -> Plan:
    """Plan ``output = conv(input)``."""
    return _plan(
        g, itemsize, False, (g.input, g.in_channels), (g.output, g.out_channels), 1, g.stride[2], g.dilation[2]
    )


@functools.lru_cache(maxsize=512)
def plan_backward_data(g: ConvGeometry, itemsize: int) -> Plan:
    """Plan ``grad_input``; the width has one phase per residue of the stride."""
    common = math.gcd(g.stride[2], g.dilation[2])
    tap_step = -g.dilation[2] // common
    return _plan(g, itemsize, True, (g.output, g.out_channels), (g.input, g.in_channels), g.stride[2], 1, tap_step)


def _plan(
    g: ConvGeometry,
    itemsize: int,
    transposed: bool,
    source: tuple[tuple[int, int, int], int],
    out: tuple[tuple[int, int, int], int],
    phase_step: int,
    point_step: int,
    tap_step: int,
) -> Plan:
    lanes = target().lanes(itemsize)
    (planes, rows, width), _ = out
    channels = source[1]
    source_strides, out_strides = strides(*source), strides(*out)
    lists = [axis_list(g, axis, transposed) for axis in range(3)]
    interiors = [
        phase_interior(lists[2], start, phase_step, width, point_step, tap_step)
        for start in range(min(phase_step, width))
    ]
    phases = [_phase_row(i, channels, lanes) for i in interiors]
    tap_strides = (g.kernel[1] * g.kernel[2] * lanes, g.kernel[2] * lanes, lanes)
    scaled = [
        item.scaled(tap, stride) for item, tap, stride in zip(lists, tap_strides, source_strides[1:], strict=True)
    ]
    vectors = -(-channels // lanes)
    points = -(-width // phase_step)
    segment = blocking.split_evenly(points, SEGMENT)
    segments = -(-points // segment)
    units = g.batch * planes * rows * segments
    kernel_rows = lists[0].longest * lists[1].longest
    vector_bytes = lanes * itemsize
    line = max(1, 64 // vector_bytes)
    moving = 7 * point_step + (g.kernel[2] - 1) * abs(tap_step) + 1
    band = _vectors(BAND_BYTES, vector_bytes * (kernel_rows * moving + g.taps), line, vectors)
    read = segment * point_step + (g.kernel[2] - 1) * abs(tap_step)
    chunk = _vectors(CHUNK_BYTES, vector_bytes * kernel_rows * read, line, vectors)
    if g.out_per_group > 1:
        chunk = vectors
    chunks = -(-vectors // chunk)
    unit_blocks = min(units, max(-(-BLOCKS // chunks), 1))
    record = kernels.Depthwise(
        planes=planes,
        rows=rows,
        segments=segments,
        segment=segment,
        units=units,
        unit_blocks=unit_blocks,
        phases=len(phases),
        point_step=point_step * channels,
        tap_step=abs(tap_step) * channels,
        taps=g.taps,
        channels=channels,
        multiplier=g.out_per_group,
        vectors=vectors,
        chunk=chunk,
        chunks=chunks,
        band=min(band, chunk),
        source_n=source_strides[0],
        out_n=out_strides[0],
        out_d=out_strides[1],
        out_h=out_strides[2],
        out_w=out_strides[3],
    )
    cost = g.flops / 40 + units * segment * channels * itemsize / 8
    tables = [array.ravel() for item in scaled for array in item]
    return Plan((*tables, np.array(phases, np.int64).ravel()), record, unit_blocks * chunks, cost)


def _vectors(budget: int, bytes_per_vector: int, line: int, vectors: int) -> int:
    """How many vectors of channels fit: whole cache lines, dealt out evenly, at least one line."""
    fit = max(line, budget // max(1, bytes_per_vector) // line * line)
    parts = -(-vectors // fit)
    return min(vectors, -(-vectors // parts // line) * line)


def forward(g: ConvGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Fill `out`, (N, OD, OH, OW, C_out) memory, from `x`, (N, D, H, W, C_in) memory."""
    plan = plan_forward(g, x.dtype.itemsize)
    p = plan.record
    packed = _pack(weight, g.taps, g.in_channels, g.out_per_group, p.vectors)
    start = _pack_bias(bias, g.in_channels, g.out_per_group, p.vectors, x.dtype)
    run = kernels.conv_depthwise if g.out_per_group == 1 else kernels.conv_depthwise_expand
    run(plan.blocks, x, packed, start, out, *plan.tables, p, cost=plan.cost)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Fill `out`, (N, D, H, W, C_in) memory, from `grad_output`, (N, OD, OH, OW, C_out) memory."""
    plan = plan_backward_data(g, out.dtype.itemsize)
    p = plan.record
    packed = _pack(weight, g.taps, g.out_channels, 1, p.vectors)
    if g.out_per_group == 1:
        start = _pack_bias(bias, g.in_channels, 1, p.vectors, out.dtype)
        kernels.conv_depthwise(plan.blocks, grad_output, packed, start, out, *plan.tables, p, cost=plan.cost)
        return
    zeros = np.zeros(target().lanes(out.dtype.itemsize), out.dtype)
    start = np.zeros(g.in_channels, out.dtype) if bias is None else np.ascontiguousarray(bias)
    kernels.conv_depthwise_contract(
        plan.blocks, grad_output, packed, start, out, *plan.tables, zeros, p, cost=plan.cost
    )


def _pack(weight: np.ndarray, taps: int, channels: int, stride: int, vectors: int) -> np.ndarray:
    """Weights as (j, vector, tap, lane)."""
    packed = memory.empty((stride * vectors * taps * target().lanes(weight.dtype.itemsize),), weight.dtype)
    kernels.pack_depthwise(stride * vectors, weight, packed, taps, channels, stride, vectors, cost=packed.size * 1.0)
    return packed


def _pack_bias(bias: np.ndarray | None, channels: int, stride: int, vectors: int, dtype: np.dtype) -> np.ndarray:
    """The bias as (j, vector, lane); zeros if there is none."""
    if bias is None:
        return np.zeros(stride * vectors * target().lanes(dtype.itemsize), dtype)
    return _pack(np.ascontiguousarray(bias), 1, channels, stride, vectors)


class WeightPlan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: tuple[np.ndarray, ...]
    record: weight_kernels.DepthwiseWeight
    cost: float


@functools.lru_cache(maxsize=512)
def plan_backward_weight(g: ConvGeometry, itemsize: int) -> WeightPlan:
    """Plan ``grad_weight``: the output points are cut into chunks, the channels only where those are too few."""
    lanes = target().lanes(itemsize)
    planes, rows, width = g.output
    in_strides, out_strides = strides(g.input, g.in_channels), strides(g.output, g.out_channels)
    lists = axis_list(g, 2, False).scaled(lanes, g.in_channels)
    interior = phase_interior(axis_list(g, 2, False), 0, 1, width, g.stride[2], g.dilation[2])
    vectors = -(-g.in_channels // lanes)
    segment = blocking.split_evenly(width, weight_kernels.GROUP_POINTS // 2)
    segments = -(-width // segment)
    units = g.batch * planes * rows * segments
    kernel_rows = g.kernel[0] * g.kernel[1]
    group = 1
    if segments == 1:
        group = max(1, min(GROUP // segment, weight_kernels.TABLE_PAIRS // kernel_rows))
    partial_bytes = g.taps * g.out_per_group * vectors * lanes * itemsize
    groups = -(-units // group)
    chunks = max(1, min(BLOCKS, groups, blocking.PACKED_BYTES // partial_bytes))
    record = weight_kernels.DepthwiseWeight(
        planes=planes,
        rows=rows,
        segments=segments,
        segment=segment,
        points=width,
        units=units,
        group=group,
        chunks=chunks,
        vector_blocks=min(vectors, -(-BLOCKS // chunks)),
        taps_d=g.kernel[0],
        taps_h=g.kernel[1],
        taps_w=g.kernel[2],
        point_step=g.stride[2] * g.in_channels,
        tap_step=g.dilation[2] * g.in_channels,
        channels=g.in_channels,
        multiplier=g.out_per_group,
        vectors=vectors,
        staged=int(g.out_per_group > 1 or g.in_channels < lanes),
        in_n=in_strides[0],
        out_n=out_strides[0],
        out_d=out_strides[1],
        out_h=out_strides[2],
        out_w=out_strides[3],
    )
    axes = forward_phase(g).axes
    tables = [source_offsets(axes[i], in_strides[1 + i]) for i in (0, 1)]
    phase = _phase_row(interior, g.in_channels, lanes)
    return WeightPlan((*tables, *lists, np.array(phase, np.int64)), record, g.flops / 40)


def backward_weight(g: ConvGeometry, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, a contiguous (C_out, 1, taps) array, from two (N, D, H, W, C) memories."""
    plan = plan_backward_weight(g, x.dtype.itemsize)
    p = plan.record
    panels = p.multiplier * p.vectors
    partial = memory.empty((p.chunks * panels * g.taps * target().lanes(x.dtype.itemsize),), x.dtype)
    blocks = p.chunks * p.vector_blocks
    weight_kernels.conv_depthwise_weight(blocks, x, grad_output, partial, *plan.tables, p, cost=plan.cost)
    weight_kernels.combine_depthwise(
        panels, partial, out, g.taps, p.channels, p.multiplier, p.vectors, p.chunks, cost=partial.size / 4
    )
