"""Depthwise convolution: one input channel per group, any multiplier, all three directions.

What the kernels need to know of the geometry is worked out in `depthwise_strips`; here it is fitted into a thread's
scratch memory, cut into blocks and launched.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels import conv_depthwise as kernels
from ...kernels import conv_depthwise_weight as weight_kernels
from ...kernels._target import target
from ...kernels.depthwise_tile import LONGEST_RUN
from .. import memory
from . import blocking
from . import depthwise_strips as strips
from .gemm import strides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..geometry import ConvGeometry

name = "depthwise"

# Strips of the rows that one destination row reads: about what L1 holds, so that a copied row is read from there.
GOOD_RING_BYTES = 32 * 1024
# Shorter segments of a row would copy and read more overlap than they save.
SHORTEST_SEGMENT = 64
# Enough blocks for any number of cores to finish together ...
BLOCKS = 32
# ... of enough rows that those which two blocks copy do not matter, unless this leaves too few blocks.
ROWS_PER_OVERLAP = 4
MIN_BLOCKS = 8
# Points that pass by while the sums of a few taps of the weight gradient stay in registers.
GROUP_POINTS = 192
# Vectors per panel, best first: the more, the fewer rows to set up. Two are one cache line on AVX2.
PANELS = (8, 4, 2)


class Fit(NamedTuple):
    """A row plan that fits into scratch memory."""

    row: strips.Row
    segment: int
    panel: int
    group: int
    ring: tuple[int, int]


class Tables(NamedTuple):
    """Index arrays as the kernels take them."""

    lists_d: np.ndarray
    lists_h: np.ndarray
    strips: np.ndarray
    outside: np.ndarray
    picks: np.ndarray
    phases: np.ndarray
    runs: np.ndarray


class Plan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: Tables
    order: np.ndarray  # of the kernel's taps in packed weights
    strips: kernels.Strips
    launch: kernels.Depthwise | weight_kernels.DepthwiseWeight
    blocks: int
    cost: float


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.in_per_group != 1:
        return f"each group has {g.in_per_group} input channels, not 1"
    if g.groups == 1 and g.out_channels > 1:
        return "a single input channel that all output channels share is not depthwise"
    if _fit(g, direction, 8) is None or _fit(g, direction, 4) is None:
        return "the rows under its kernel do not fit into a thread's scratch memory"
    return None


@functools.lru_cache(maxsize=512)
def _fit(g: ConvGeometry, direction: str, itemsize: int) -> Fit | None:
    """Segment, panel and ring: whole rows in L1 if possible, then shorter segments, then whatever scratch holds."""
    transposed = direction == "backward_data"
    classes = strips.backward_classes(g) if transposed else strips.forward_classes(g)
    irregular = strips.irregular_coordinates(g) if transposed else {}
    lists = strips.plane_lists(g, transposed)
    extents = g.output[:2] if transposed else g.input[:2]
    parts = g.out_per_group if transposed else 1
    kernel_rows = lists[0].longest * lists[1].longest * parts
    budget = kernels.RING_SLOTS * 8
    if direction == "backward_weight":
        kernel_rows = g.kernel[0] * g.kernel[1]
        budget = weight_kernels.STRIP_SLOTS * 8
    if kernel_rows > kernels.TABLE_ROWS:
        return None
    longest = strips.longest_phase(classes)
    depth = strips.ring_extent(lists[0], extents[0])
    panels = PANELS if direction != "backward_weight" else PANELS[-1:]
    for segment, panel, whole_planes, limit in _candidates(longest, budget, panels, depth > 1):
        row = strips.plan_row(g, classes, segment, irregular)
        if kernel_rows * row.longest_list(LONGEST_RUN) > kernels.TABLE_RUNS and direction != "backward_weight":
            return None
        group = 1
        if direction == "backward_weight":
            group = max(1, min(GROUP_POINTS // segment, g.output[1], weight_kernels.TABLE_PAIRS // kernel_rows))
        while group:
            ring = (depth, extents[1] if whole_planes else strips.ring_extent(lists[1], extents[1], group))
            rows = ring[0] * ring[1] * parts
            vectors = rows * row.positions + kernels.MAX_POINTS
            if direction == "backward_weight":
                vectors += group * len(row.phases) // kernels.PHASE_COLUMNS * segment
            if rows <= kernels.RING_ROWS and vectors * panel * target().vector_bytes <= limit:
                return Fit(row, segment, panel, group, ring)
            group //= 2
    return None


def _candidates(points: int, budget: int, panels: tuple[int, ...], deep: bool) -> Iterator[tuple[int, int, bool, int]]:
    """(segment, panel, whether the ring holds whole planes, limit in bytes), best first."""
    parts = range(1, -(-points // kernels.MAX_POINTS) + 1)
    segments = list(dict.fromkeys(-(-points // n // 8) * 8 if n > 1 else points for n in parts))
    long_segments = [segment for segment in segments if segment >= min(points, SHORTEST_SEGMENT)]
    if deep:  # then the next plane need not copy again what this one has copied
        yield from ((segment, panels[-1], True, budget) for segment in long_segments)
    yield from ((segment, panel, False, GOOD_RING_BYTES) for segment in long_segments for panel in panels)
    yield from ((segment, panel, False, budget) for panel in (panels[-1], 1) for segment in segments)


@functools.lru_cache(maxsize=512)
def _strips(g: ConvGeometry, itemsize: int, direction: str) -> tuple[Fit, Tables, kernels.Strips, np.ndarray]:
    """The tables and the record that both kernels share, and the order of the packed weights."""
    transposed = direction == "backward_data"
    fit = _fit(g, direction, itemsize)
    assert fit is not None  # or `accepts` would have refused
    row, lanes, multiplier = fit.row, target().lanes(itemsize), g.out_per_group
    lists = strips.plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    source_channels, channels = (g.out_channels, g.in_channels) if transposed else (g.in_channels, g.out_channels)
    low, high, outside = (0, 0, np.full(1, -1)) if transposed else strips.outside_sources(g)
    classes = strips.backward_classes(g) if transposed else strips.forward_classes(g)
    segments = -(-strips.longest_phase(classes) // fit.segment)
    source_n, source_d, source_h, source_w = strides(source, source_channels)
    parts = multiplier if transposed else 1
    record = kernels.Strips(
        planes=out[0],
        rows=out[1],
        segments=segments,
        segment=fit.segment,
        units=g.batch * segments * out[0] * out[1],
        source_planes=source[0],
        source_rows=source[1],
        width=source[2],
        low=low,
        high=high,
        step=row.step,
        strips=len(row.strips) // kernels.STRIP_COLUMNS,
        positions=row.positions,
        picks=len(row.picks),
        ring=fit.ring[0] * fit.ring[1] * parts,
        parts=parts,
        channel_scale=parts,
        channel_divide=1 if transposed else multiplier,
        channels=channels,
        panel=fit.panel,
        panels=-(-channels // (fit.panel * lanes)),
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        row_weights=1 if direction == "backward_weight" else g.kernel[2] * lanes,
        part_weights=g.taps * lanes,
        vector_weights=g.taps * parts * lanes,
    )
    tables = Tables(
        lists[0].table(g.kernel[1], fit.ring[0], fit.ring[1] * parts),
        lists[1].table(1, fit.ring[1], parts),
        row.strips,
        outside,
        row.picks,
        row.phases,
        row.runs.ravel(),
    )
    rows = np.arange(g.kernel[0] * g.kernel[1])[:, None] * g.kernel[2]
    return fit, tables, record, (rows + np.array(row.order)).ravel()


@functools.lru_cache(maxsize=512)
def plan_data(g: ConvGeometry, itemsize: int, direction: str) -> Plan:
    """Plan ``output = conv(input)``, or ``grad_input`` if `direction` is "backward_data"."""
    _, tables, s, order = _strips(g, itemsize, direction)
    out = g.input if direction == "backward_data" else g.output
    out_n, out_d, out_h, out_w = strides(out, s.channels)
    unit_blocks, panel_blocks = _blocks(g, s, s.units)
    launch = kernels.Depthwise(
        phases=len(tables.phases) // kernels.PHASE_COLUMNS,
        unit_blocks=unit_blocks,
        panel_blocks=panel_blocks,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
    )
    return Plan(tables, order, s, launch, unit_blocks * panel_blocks, _cost(g, itemsize))


@functools.lru_cache(maxsize=512)
def plan_backward_weight(g: ConvGeometry, itemsize: int) -> Plan:
    """Plan ``grad_weight``: the output points are cut into chunks, the channels only where those are too few."""
    fit, tables, s, order = _strips(g, itemsize, "backward_weight")
    out_n, out_d, out_h, out_w = strides(g.output, s.channels)
    vectors = -(-s.channels // target().lanes(itemsize))
    partial_bytes = g.taps * vectors * target().vector_bytes
    most = max(1, min(blocking.PACKED_BYTES // partial_bytes, -(-s.units // fit.group)))
    chunks, panel_blocks = _blocks(g, s, most)
    launch = weight_kernels.DepthwiseWeight(
        phases=len(tables.phases) // kernels.PHASE_COLUMNS,
        group=fit.group,
        chunks=chunks,
        panel_blocks=panel_blocks,
        kernel_rows=g.kernel[0] * g.kernel[1],
        row_weights=g.kernel[2] * target().lanes(itemsize),
        vectors=vectors,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
    )
    return Plan(tables, order, s, launch, chunks * panel_blocks, _cost(g, itemsize))


def _blocks(g: ConvGeometry, s: kernels.Strips, most: int) -> tuple[int, int]:
    """Into how many ranges, at most `most`, the units are cut, and the panels."""
    planes, rows = ((g.kernel[i] - 1) * g.dilation[i] // g.stride[i] for i in (0, 1))
    overlap = max(1, planes * s.rows or rows)  # destination rows that read what those of another block do
    unit_blocks = max(1, min(BLOCKS, most, s.units // (ROWS_PER_OVERLAP * overlap)))
    panel_blocks = min(s.panels, -(-BLOCKS // unit_blocks))
    if unit_blocks * panel_blocks < MIN_BLOCKS:
        unit_blocks = min(most, -(-MIN_BLOCKS // panel_blocks))
    return unit_blocks, panel_blocks


def _cost(g: ConvGeometry, itemsize: int) -> float:
    points = g.batch * (g.in_channels * int(np.prod(g.input)) + g.out_channels * int(np.prod(g.output)))
    return g.flops / blocking.FLOPS_PER_NS + points * itemsize / 10


def forward(g: ConvGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Fill `out`, (N, OD, OH, OW, C_out) memory, from `x`, (N, D, H, W, C_in) memory."""
    _run(plan_data(g, x.dtype.itemsize, "forward"), x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Fill `out`, (N, D, H, W, C_in) memory, from `grad_output`, (N, OD, OH, OW, C_out) memory."""
    _run(plan_data(g, out.dtype.itemsize, "backward_data"), grad_output, weight, bias, out)


def _run(plan: Plan, source: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    s = plan.strips
    lanes = target().lanes(out.dtype.itemsize)
    vectors = -(-s.channels // lanes)
    packed = memory.empty((vectors * s.vector_weights,), out.dtype)
    kernels.pack_depthwise(
        vectors, weight, packed, plan.order, len(plan.order), s.channels, s.parts, cost=packed.size * 1.0
    )
    start = np.zeros(vectors * lanes, out.dtype)
    if bias is not None:
        start[: s.channels] = bias
    kernels.conv_depthwise(plan.blocks, source, packed, start, out, *plan.tables, s, plan.launch, cost=plan.cost)


def backward_weight(g: ConvGeometry, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, a contiguous (C_out, 1, taps) array, from two (N, D, H, W, C) memories."""
    plan = plan_backward_weight(g, x.dtype.itemsize)
    s, launch = plan.strips, plan.launch
    assert isinstance(launch, weight_kernels.DepthwiseWeight)
    partial = memory.empty((launch.chunks * launch.vectors * s.vector_weights,), x.dtype)
    weight_kernels.conv_depthwise_weight(plan.blocks, x, grad_output, partial, *plan.tables, s, launch, cost=plan.cost)
    weight_kernels.combine_depthwise(
        launch.vectors, partial, out, plan.order, g.taps, s.channels, launch.chunks, cost=partial.size / 8
    )
