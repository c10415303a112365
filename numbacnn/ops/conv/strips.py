"""Convolution of groups with few channels, all three directions; depthwise convolution above all.

What the kernels need to know of the geometry is worked out in `strip_tables`; here it is fitted into a thread's
scratch memory, cut into blocks and launched.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import conv_strips as kernels
from ...kernels import conv_strips_weight as weight_kernels
from ...kernels import strip_rows
from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.strip_tile import LONGEST_RUN, POINTS_RUNS, WEIGHT_TAPS
from .._split import for_all_cores
from . import blocking, strip_tables, strips_choice, turned
from .bias import padded_bias, zero_row
from .lattice import strides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "strips"

# Memory for strips: what L2 holds beside the rows that they are copied from and those that are written. 160 KiB, or
# twice that beside vectors of 64 bytes.
RING_BYTES = blocking.L2_BYTES // 16 * 5
# A band is so many rows that the strips of one vector stay in L1 (32 KiB) while all of them are computed; with more,
# what two rows share hardly grows (and 5x5 on 14x14 positions of 640 channels took 1.1 to 1.2 times as long by 8 rows).
BAND_BYTES = 24 * 1024
MOST_ROWS = 4
# (vectors per panel, shortest segment): wide panels read and write memory in long pieces, and are worth cutting rows
# into segments, but short segments copy more overlap than they save.
GOOD_PANELS = ((16, 256), (4, 64))
PIECE_BYTES = 128  # of a position, in narrower panels
# Enough blocks for any number of cores to finish together ...
BLOCKS = 32
# ... of enough rows that those which two blocks copy do not matter, unless this leaves too few blocks.
ROWS_PER_OVERLAP = 4
MIN_BLOCKS = 8
# Channels of a group: with more, vectors along the channels of one group waste fewer lanes than copying costs.
MOST_CHANNELS = 4
# Points that pass by while the sums of a few taps of the weight gradient stay in registers.
GROUP_POINTS = 192


class Fit(NamedTuple):
    """A row plan that fits into scratch memory."""

    row: strip_tables.Row
    segment: int
    panel: int
    group: int  # rows that are done together
    listed: int  # phases whose runs are listed together
    ring: tuple[int, int]


class Plan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: np.ndarray  # see `strip_tables.joined`
    order: np.ndarray  # of the kernel's taps in packed weights
    strips: strip_rows.Strips
    launch: kernels.Destination | weight_kernels.StripsWeight
    blocks: int
    cost: float
    strides: tuple[int, int]  # of weights: between a group's destination channels, between its source channels


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.groups == 1 and g.out_channels > 1:
        return "all channels are in one group"
    if min(g.in_per_group, g.out_per_group) > MOST_CHANNELS:
        return f"each group has {g.in_per_group} input and {g.out_per_group} output channels, more than {MOST_CHANNELS}"
    if 8 * g.out_channels * g.in_per_group * g.taps > blocking.PACKED_BYTES:
        return f"{g.out_channels * g.in_per_group * g.taps} weights are more than it packs at a time"
    large = strip_tables.large_plane_lists(g)
    if large:
        return large
    if _fit(g, direction, 8) is None or _fit(g, direction, 4) is None:
        return "the rows under its kernel do not fit into a thread's scratch memory"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be faster."""
    g = geometry
    if direction == "backward_data" and turned.pays(g, itemsize):  # 1.2 to 9 times as fast
        return "turned around, they are row runs of few channels"
    if direction != "backward_data" and g.groups == 1 and g.in_per_group > 1:
        return "all channels are in one group"
    fit = _fit(g, direction, itemsize)
    assert fit is not None  # or `accepts` would have refused
    ratio = strips_choice.ratio(direction, g, itemsize, fit)
    return f"it is expected to take {ratio:.2f} times as long as the general algorithm" if ratio >= 1 else None


@functools.lru_cache(maxsize=512)
def _fit(g: ConvGeometry, direction: str, itemsize: int) -> Fit | None:
    """The longest segment of a row that leaves room for a good panel, and the widest panel then."""
    transposed, weights = direction == "backward_data", direction == "backward_weight"
    classes = strip_tables.classes_of(g, transposed)
    irregular = strip_tables.irregular_coordinates(g) if transposed else {}
    planes, lines = strip_tables.plane_lists(g, transposed)
    extents = g.output[:2] if transposed else g.input[:2]
    parts = g.out_per_group if transposed else g.in_per_group
    kernel_rows = parts * (g.kernel[0] * g.kernel[1] if weights else planes.longest * lines.longest)
    if kernel_rows > strip_rows.TABLE_ROWS:
        return None
    depth = strip_tables.ring_extent(planes, extents[0])
    vectors = -(-(g.in_channels if transposed else g.out_channels) // target().lanes(itemsize))
    longest = strip_tables.longest_phase(classes)
    scratch_bytes = (weight_kernels.STRIP_SLOTS if weights else kernels.RING_SLOTS) * 8
    for segment, wanted, whole_planes, limit in _candidates(longest, vectors, scratch_bytes, depth > 1):
        row = strip_tables.plan_row(g, classes, segment, irregular)
        if weights:
            listed = 0
            group = min(max(1, GROUP_POINTS // segment), g.output[1], weight_kernels.TABLE_PAIRS // max(1, kernel_rows))
        else:
            lists = [kernel_rows * length for length in row.list_lengths(LONGEST_RUN)]
            if max(lists, default=0) > kernels.TABLE_RUNS:
                return None
            rows = min(MOST_ROWS, g.input[1] if transposed else g.output[1])
            group = min(rows, kernels.BAND_PARTS // max(1, len(lists)), kernels.TABLE_RUNS // max(1, sum(lists)))
            near = BAND_BYTES // (target().vector_bytes * max(1, row.positions * parts * planes.longest))
            while group > 1 and strip_tables.ring_extent(lines, extents[1], group) > near:
                group -= 1
            listed = max(1, len(lists)) if group and rows > 1 else 1  # in a single row, phases share nothing
        group = max(1, group)
        while group:
            ring = (depth, extents[1] if whole_planes else strip_tables.ring_extent(lines, extents[1], group))
            rows = ring[0] * ring[1] * parts
            positions = rows * row.positions  # of one vector of channels
            if weights:
                positions += group * segment * len(row.phases) // strip_rows.PHASE_COLUMNS
            panel = (limit // target().vector_bytes - kernels.MAX_POINTS) // max(1, positions)
            if rows <= strip_rows.RING_ROWS and panel >= wanted:
                return Fit(row, segment, min(panel, vectors), group, listed, ring)
            group //= 2
    return None


def _candidates(points: int, vectors: int, scratch_bytes: int, deep: bool) -> Iterator[tuple[int, int, bool, int]]:
    """(segment, vectors that must fit, with rings of whole planes?, into how many bytes), best first.

    What a ring of whole planes holds, the next plane need not copy again.
    """
    parts = range(1, -(-points // kernels.MAX_POINTS) + 1)
    segments = list(dict.fromkeys(-(-points // n // 8) * 8 if n > 1 else points for n in parts))
    if deep:
        yield from ((segment, min(vectors, 2), True, scratch_bytes) for segment in segments if 2 * segment >= points)
    for good, shortest in GOOD_PANELS:
        long_segments = [segment for segment in segments if segment >= min(points, shortest)]
        yield from ((segment, min(vectors, good), False, RING_BYTES) for segment in long_segments)
    for wanted in (min(vectors, PIECE_BYTES // target().vector_bytes), min(vectors, 2), 1):
        for segment in segments:
            yield segment, wanted, False, scratch_bytes


def _even_panel(most: int, vectors: int, unit_blocks: int) -> int:
    """Vectors per panel: at most `most`, all panels alike, pairs of vectors, and panels enough for `MIN_BLOCKS`."""
    panels = max(-(-vectors // most), min(-(-MIN_BLOCKS // unit_blocks), -(-vectors // 2)))
    panel = -(-vectors // panels)
    return min(most, panel + panel % 2)


@functools.lru_cache(maxsize=512)
def _strips(g: ConvGeometry, itemsize: int, direction: str) -> tuple[Fit, np.ndarray, strip_rows.Strips, np.ndarray]:
    """The tables and the record that both kernels share, and the order of the packed weights."""
    transposed = direction == "backward_data"
    fit = _fit(g, direction, itemsize)
    assert fit is not None  # or `accepts` would have refused
    row = fit.row.cut_evenly(WEIGHT_TAPS) if direction == "backward_weight" else fit.row.cut(POINTS_RUNS)
    lanes = target().lanes(itemsize)
    lists = strip_tables.plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    source_channels, channels = (g.out_channels, g.in_channels) if transposed else (g.in_channels, g.out_channels)
    low, high, outside = (0, 0, np.full(1, -1)) if transposed else strip_tables.outside_sources(g)
    classes = strip_tables.classes_of(g, transposed)
    segments = -(-strip_tables.longest_phase(classes) // fit.segment)
    source_n, source_d, source_h, source_w = strides(source, source_channels)
    parts, group = (g.out_per_group, g.in_per_group) if transposed else (g.in_per_group, g.out_per_group)
    units = g.batch * segments * out[0] * out[1]
    whole_planes = direction == "backward_weight" or fit.ring[1] == source[1]
    panel = _even_panel(fit.panel, -(-channels // lanes), _most_unit_blocks(g, out[1], units, whole_planes))
    record = strip_rows.Strips(
        planes=out[0],
        rows=out[1],
        segments=segments,
        segment=fit.segment,
        units=units,
        source_planes=source[0],
        source_rows=source[1],
        width=source[2],
        low=low,
        high=high,
        step=row.step,
        strips=len(row.strips) // strip_rows.STRIP_COLUMNS,
        positions=row.positions,
        picks=len(row.picks),
        ring=fit.ring[0] * fit.ring[1] * parts,
        parts=parts,
        group=group,
        channels=channels,
        panel=panel,
        panels=-(-channels // (panel * lanes)),
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        row_weights=1 if direction == "backward_weight" else g.kernel[2] * lanes,
        part_weights=g.kernel[0] * g.kernel[1] if direction == "backward_weight" else g.taps * lanes,
        vector_weights=g.taps * parts * lanes,
    )
    depth, height = fit.ring
    tables = strip_tables.joined(
        lists[0].table(g.kernel[1], depth, height * parts), lists[1].table(1, height, parts), row, outside
    )
    rows = np.arange(g.kernel[0] * g.kernel[1])[:, None] * g.kernel[2]
    return fit, tables, record, (rows + np.array(row.order)).ravel()


@functools.lru_cache(maxsize=512)
def plan_data(g: ConvGeometry, itemsize: int, direction: str) -> Plan:
    """Plan ``output = conv(input)``, or ``grad_input`` if `direction` is "backward_data"."""
    fit, tables, s, order = _strips(g, itemsize, direction)
    out = g.input if direction == "backward_data" else g.output
    out_n, out_d, out_h, out_w = strides(out, s.channels)
    whole_planes = fit.ring[1] == (g.output[1] if direction == "backward_data" else g.input[1])
    unit_blocks, panel_blocks = _blocks(g, s, max(1, s.units), whole_planes)
    unit_blocks = _even(unit_blocks, s.units)
    launch = kernels.Destination(
        phases=len(fit.row.phases) // strip_rows.PHASE_COLUMNS,
        band=fit.group,
        listed=fit.listed,
        unit_blocks=unit_blocks,
        panel_blocks=panel_blocks,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
    )
    weight_strides = (g.in_per_group * g.taps, g.taps)
    if direction == "backward_data":
        weight_strides = weight_strides[::-1]
    return Plan(tables, order, s, launch, unit_blocks * panel_blocks, _cost(g, itemsize), weight_strides)


@functools.lru_cache(maxsize=512)
def plan_backward_weight(g: ConvGeometry, itemsize: int) -> Plan:
    """Plan ``grad_weight``: the output points are cut into chunks, the channels only where those are too few."""
    fit, tables, s, order = _strips(g, itemsize, "backward_weight")
    out_n, out_d, out_h, out_w = strides(g.output, s.channels)
    vectors = -(-s.channels // target().lanes(itemsize))
    partial_bytes = g.taps * s.parts * vectors * target().vector_bytes
    most = max(1, min(blocking.PACKED_BYTES // partial_bytes, s.units))
    chunks, panel_blocks = _blocks(g, s, most, True)
    chunks = min(for_all_cores(chunks, panel_blocks), most)
    launch = weight_kernels.StripsWeight(
        phases=len(fit.row.phases) // strip_rows.PHASE_COLUMNS,
        group=fit.group,
        chunks=chunks,
        panel_blocks=panel_blocks,
        kernel_rows=g.kernel[0] * g.kernel[1] * s.parts,
        row_weights=g.kernel[2] * target().lanes(itemsize),
        vectors=vectors,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
    )
    return Plan(tables, order, s, launch, chunks * panel_blocks, _cost(g, itemsize), (0, 0))


def _most_unit_blocks(g: ConvGeometry, rows: int, units: int, whole_planes: bool) -> int:
    """Ranges of units that are long enough for what two of them both copy not to matter.

    Without rings of whole planes each plane copies again what it reads of those before, in whatever range it is.
    """
    shortest = max(1, ROWS_PER_OVERLAP * strip_tables.rows_of_overlap(g, rows, whole_planes))
    return max(1, min(BLOCKS, units // shortest))


def _blocks(g: ConvGeometry, s: strip_rows.Strips, most: int, whole_planes: bool) -> tuple[int, int]:
    """Into how many ranges, at most `most`, the units are cut, and the panels."""
    unit_blocks = min(most, _most_unit_blocks(g, s.rows, s.units, whole_planes))
    panel_blocks = min(s.panels, -(-BLOCKS // unit_blocks))
    if unit_blocks * panel_blocks < MIN_BLOCKS:
        unit_blocks = min(most, -(-MIN_BLOCKS // panel_blocks))
    return unit_blocks, panel_blocks


def _even(unit_blocks: int, units: int) -> int:
    """The nearest power of two, if there are as many units, and more than blocks.

    Then cores share out whole ranges. Panels of the same rows lie side by side: what one core fetches in advance of
    them it takes from another that writes it.
    """
    nearest = 1 << round(math.log2(unit_blocks))
    return nearest if unit_blocks < units and nearest <= units else unit_blocks


def _cost(g: ConvGeometry, itemsize: int) -> float:
    return g.flops / blocking.FLOPS_PER_NS + g.elements * itemsize / 10


def forward(g: ConvGeometry, x: Operand, weight: Operand, bias: Operand | None, out: Operand) -> list[Step]:
    """Fill `out`, (N, OD, OH, OW, C_out) memory, from `x`, (N, D, H, W, C_in) memory."""
    return _run(_launches(g, x.dtype, "forward"), x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, (N, D, H, W, C_in) memory, from `grad_output`, (N, OD, OH, OW, C_out) memory."""
    return _run(_launches(g, out.dtype, "backward_data"), grad_output, weight, bias, out)


def _run(launches: Launches, source: Operand, weight: Operand, bias: Operand | None, out: Operand) -> list[Step]:
    packed = Operand(launches.workspace, out.dtype)
    start = zero_row(out.dtype, launches.lanes) if bias is None else padded_bias(bias, 1, bias.size, launches.lanes)
    return [launches.first.on(weight, packed), launches.second.on(source, packed, start, out)]


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the contiguous weight, from two channels-last memories."""
    launches = _weight_launches(g, x.dtype)
    partial = Operand(launches.workspace, x.dtype)
    return [launches.first.on(x, grad_output, partial), launches.second.on(partial, out)]


class Launches(NamedTuple):
    """Two launches that follow on each other, the shape of what passes between them, and the lanes of all vectors."""

    first: Prepared
    second: Prepared
    workspace: tuple[int, ...]
    lanes: int


@functools.lru_cache(maxsize=512)
def _launches(g: ConvGeometry, dtype: np.dtype[Any], direction: str) -> Launches:
    """Packing the weights, and convolving with them."""
    plan = plan_data(g, dtype.itemsize, direction)
    s = plan.strips
    lanes = target().lanes(dtype.itemsize)
    vectors = -(-s.channels // lanes)
    elements = vectors * s.vector_weights
    constants = (plan.order, len(plan.order), s.channels, s.parts, s.group, *plan.strides)
    return Launches(
        kernels.pack_strips.prepare((dtype,), vectors, *constants, cost=float(elements)),
        kernels.conv_strips.prepare((dtype,), plan.blocks, plan.tables, s, plan.launch, cost=plan.cost),
        (elements,),
        vectors * lanes,
    )


@functools.lru_cache(maxsize=512)
def _weight_launches(g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    """Partial sums, and adding them up."""
    plan = plan_backward_weight(g, dtype.itemsize)
    s, launch = plan.strips, plan.launch
    assert isinstance(launch, weight_kernels.StripsWeight)
    elements = launch.chunks * launch.vectors * s.vector_weights
    constants = (plan.order, g.taps, s.parts, s.channels, launch.chunks)
    return Launches(
        weight_kernels.conv_strips_weight.prepare((dtype,), plan.blocks, plan.tables, s, launch, cost=plan.cost),
        weight_kernels.combine_strips.prepare((dtype,), launch.vectors, *constants, cost=elements / 8),
        (elements,),
        launch.vectors * target().lanes(dtype.itemsize),
    )
