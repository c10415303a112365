"""Depthwise convolution straight from channels-last memory: one input and one output channel per group."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels.conv_depthwise import (
    INSIDE,
    INSIDE_END,
    LINES,
    PAIRS,
    POINTS,
    ROWS,
    TABLE_ROWS,
    TABLE_TAPS,
    TAPS,
    WEIGHT_SLOTS,
    ZONE_FIELDS,
    Direct,
    conv_depthwise,
    pack_channels,
)
from ...kernels.line_tile import LINE_POINTS
from ...kernels.tile import tile_lanes
from ...kernels.window_tile import ROW_POINTS, ROW_TAPS, WINDOW, WINDOW_POINTS
from . import blocking, depthwise_weight, strips
from .bias import zero_row
from .depthwise_rows import plan_rows, reach
from .depthwise_zones import Zones, plan_zones, weight_zones
from .finish import NOTHING, Finish
from .lattice import strides
from .strip_tables import large_plane_lists, plane_lists

if TYPE_CHECKING:
    from typing import Any

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "depthwise"
finishes = ("activation",)

# Taps along the width: with more, strips are quicker, where three taps share a load (and, in the weight gradient, a
# position and its gradient more multiply-adds; a stride leaves less of them to share). Not forward with a stride ...
WIDEST_KERNEL = {"forward": 5, "backward_data": 5, "backward_weight": 4}
# ... nor, up to so many, where a kernel is a single row: without other rows to share copies, these take longer.
WIDEST_LINE = {"forward": 15, "backward_data": 15, "backward_weight": 9}
# Nor, up to this width, where images are hardly wider than the kernel: tiles leave out taps that read padding.
WIDEST_NARROW_KERNEL = 13
# Of such kernels those whose taps share what they read, beside vectors of 64 bytes, are quicker up to so many times as
# wide (7x7 taps on 10x10 to 14x14 positions: 1.15 to 1.5 times; on 21x21 in float64 no more).
SHARING_WIDTHS = 2
# Of what rows are cut into where they are few.
SEGMENT_POINTS = 64
# Positions that two segments both read do not matter where a segment has so many times as many.
POINTS_PER_OVERLAP = 4
# Taps that columns may list altogether: 256 KiB of tables.
MOST_PICKS = 16 * 1024
# Panels pass over a block's rows together: as many as leave the rows under a kernel in L1 (32 KiB), but not fewer than
# these, nor than those whose weights it holds: memory is read best in long pieces.
PANEL_BYTES = 16 * 1024
FEWEST_PANELS = 12
WEIGHT_BYTES = 24 * 1024
# Rows of a block in which rows are computed in pairs.
FEWEST_PAIRED = 4
# Enough blocks for any number of cores to finish together; of enough points that a block packs its weights itself,
# rather than to wait for lines that another core has written.
BLOCKS = 32
MIN_BLOCKS = 8
PACKED_POINTS = 96
# Source and destination of which the caches keep little: beside vectors of 32 bytes tiles ask for what the next ones
# read and write, pieces too short for the hardware to foresee (0.5 to 1 times the time; in the caches 1 to 1.4 times).
FAR_BYTES = 20_000_000
# Sets of L1 that are too few for the lines of neighbouring positions: vectors that are half a line each read it again
# for a weight gradient, and copies of it in strips are read faster (1.1 to 2.4 times as fast).
FEW_SETS = 2


class Plan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    tables: tuple[np.ndarray, ...]
    record: Direct
    blocks: int
    cost: float
    pack_step: int


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.in_per_group != 1 or g.out_per_group != 1:
        return f"groups have {g.in_per_group} input and {g.out_per_group} output channels, not one each"
    if g.groups < (tile_lanes(4) // 2 if direction == "backward_weight" else tile_lanes(4)):
        return f"{g.groups} channels do not fill a {'vector' if direction == 'backward_weight' else 'panel of vectors'}"
    if 8 * g.groups * g.taps > blocking.PACKED_BYTES:
        return f"{g.groups * g.taps} weights are more than it packs at a time"
    large = large_plane_lists(g)
    if large:
        return large
    if strips.accepts(direction, g) is None:
        strided = direction == "forward" and g.stride[2] > 1
        narrow = direction != "backward_weight" and _is_narrow(g)
        taps = -(-g.kernel[2] // g.stride[2]) if direction == "backward_weight" else g.kernel[2]
        widest = WIDEST_LINE if g.kernel[0] * g.kernel[1] == 1 else WIDEST_KERNEL
        if taps > widest[direction] and not (strided or narrow):
            return f"rows of {g.kernel[2]} taps are worth copying into strips"
    transposed = direction == "backward_data"
    if g.kernel[2] > TABLE_TAPS:
        return f"rows of {g.kernel[2]} taps are more than the kernel's table holds"
    rows = math.prod(lists.longest for lists in plane_lists(g, transposed))
    if rows > TABLE_ROWS:
        return f"a point reads {rows} rows, more than the kernel's table holds"
    if direction == "backward_weight":
        if weight_zones(g, depthwise_weight.MOST_ZONES) is None:
            return f"points at the borders make more than {depthwise_weight.MOST_ZONES} zones"
        return None
    zones = plan_zones(g, transposed, MOST_PICKS)
    if zones is None:
        return f"points at the borders read more than {MOST_PICKS} taps"
    if rows * zones.longest > TABLE_TAPS:
        return f"a point at the borders reads {rows * zones.longest} taps, more than the kernel's table holds"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why strips are faster."""
    g = geometry
    if direction != "backward_weight" or blocking.WIDE_VECTORS or g.kernel[0] * g.kernel[1] == 1:
        return None
    step_bytes = g.groups * itemsize
    if blocking.l1_sets(step_bytes) > FEW_SETS or strips.accepts(direction, g) is not None:
        return None
    return f"lines of positions {step_bytes} bytes apart have few places in L1, and are worth copying into strips"


def _is_narrow(g: ConvGeometry) -> bool:
    if g.padding_mode[2] != "zeros":
        return False
    if blocking.WIDE_VECTORS and g.kernel[2] in ROW_TAPS and g.stride[2] == g.dilation[2] == 1:
        return g.input[2] <= SHARING_WIDTHS * g.kernel[2]
    return g.kernel[2] <= WIDEST_NARROW_KERNEL and 2 * g.input[2] <= 3 * g.kernel[2]


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int, transposed: bool) -> Plan:
    """Plan ``output = conv(input)`` or, if `transposed`, ``grad_input``."""
    zones = plan_zones(g, transposed, MOST_PICKS)
    assert zones is not None
    lists_d, lists_h = plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    channels, width = g.groups, tile_lanes(itemsize)
    panels = -(-channels // width)
    shared, most_points = _shared(g, zones, lists_d.longest, lists_h.longest, itemsize)
    fewest_points = max(SEGMENT_POINTS, POINTS_PER_OVERLAP * reach(g, transposed, 2))
    rows = plan_rows(g, transposed, itemsize, 1 if shared == PAIRS else BLOCKS, fewest_points)
    points = out[2] // rows.segments
    unit_blocks, panel_blocks = _blocks(rows.units, points, panels, FEWEST_PAIRED if shared == PAIRS else rows.phase)
    row_bytes = max(1, lists_d.longest * lists_h.longest) * source[2] * width * itemsize
    panel_weights = g.taps * width * itemsize
    together = max(FEWEST_PANELS, PANEL_BYTES // row_bytes, WEIGHT_BYTES // panel_weights)
    pass_panels = blocking.split_evenly(-(-panels // panel_blocks), together)
    fits = pass_panels * panel_weights <= 8 * WEIGHT_SLOTS
    packs = fits and (unit_blocks <= 2 or rows.units * points >= PACKED_POINTS * unit_blocks)
    source_n, source_d, source_h, source_w = strides(source, channels)
    out_n, out_d, out_h, out_w = strides(out, channels)
    zone_count, column_count = zones.counts
    record = Direct(
        *rows,
        unit_blocks=unit_blocks,
        channels=channels,
        panels=panels,
        pass_panels=pass_panels,
        panel_blocks=panel_blocks,
        packs=int(packs),
        taps=g.taps,
        row_taps=g.kernel[2],
        zones=zone_count,
        columns=column_count,
        shared=shared,
        points=most_points,
        asks=int(g.elements * itemsize > FAR_BYTES and not blocking.WIDE_VECTORS),
        width=source[2],
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
    )
    tables = (
        lists_d.table(g.kernel[1], 1, 1),
        lists_h.table(1, 1, 1),
        zones.zones,
        zones.columns,
        zones.picks,
    )
    cost = g.flops / blocking.FLOPS_PER_NS + g.elements * itemsize / 20
    return Plan(tables, record, unit_blocks * panel_blocks, cost, max(1, 4096 // (g.taps * width)))


def _blocks(units: int, points: int, panels: int, fewest: int) -> tuple[int, int]:
    """Into how many ranges, of at least `fewest` rows of some points, the rows are cut, and the panels.

    The panels of few rows only: what two cores write is best far apart, or each fetches its neighbour's lines in
    advance, and takes them away. So the rows are cut in two at least.
    """
    most = min(units // fewest, BLOCKS, max(2, units * points // PACKED_POINTS))
    if most >= MIN_BLOCKS:
        return most, 1
    unit_blocks = min(4 if most >= 4 else 2, max(1, units))
    return unit_blocks, min(MIN_BLOCKS // unit_blocks, panels)


def _shared(g: ConvGeometry, zones: Zones, planes: int, rows: int, itemsize: int) -> tuple[int, int]:
    """Which tiles compute the points, and of how many: those that share what they read, if L1 keeps enough of it.

    That is, for a panel's second vector: not where a vector is a whole line. A point reads so many source planes, and
    `rows` of each.
    """
    alone = LINES, LINE_POINTS
    if len(zones.zones) != ZONE_FIELDS or zones.counts[1] or g.stride[2] > 1 or g.dilation[2] > 1:
        return alone
    points, taps = zones.zones[POINTS], zones.zones[TAPS]
    near_borders = zones.zones[INSIDE] <= 1 and points - zones.zones[INSIDE_END] <= 1
    regular_rows = g.kernel[1] == WINDOW and g.stride[1] == g.dilation[1] == 1 and g.padding_mode[1] == "zeros"
    step_bytes = g.groups * itemsize

    def keeps(lines: int) -> bool:
        return blocking.WIDE_VECTORS or blocking.l1_keeps(lines, step_bytes)

    if taps == WINDOW and near_borders and regular_rows:
        for most in sorted(WINDOW_POINTS, key=lambda most: -(-points // most) * most):  # the least that tiles lap over
            if points > most and keeps(planes * (WINDOW + 1) * (most + WINDOW - 1)):
                return PAIRS, most
    for most in ROW_POINTS if taps in ROW_TAPS else ():
        whole = most == LINE_POINTS or points % most == 0
        if whole and keeps(planes * rows * (most + taps - 1)):
            return ROWS, most
    return alone


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out`, (N, OD, OH, OW, C) memory, from `x`, (N, D, H, W, C) memory."""
    return _run(g, False, x, weight, bias, out, follows.activation)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, (N, D, H, W, C) memory, from `grad_output`, (N, OD, OH, OW, C) memory."""
    return _run(g, True, grad_output, weight, bias, out, 0)


def _run(
    g: ConvGeometry,
    transposed: bool,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    activation: int,
) -> list[Step]:
    pack, convolve, packed_elements = _launches(g, out.dtype, transposed)
    packed = Operand((packed_elements,), out.dtype)
    start = zero_row(out.dtype, out.shape[-1]) if bias is None else bias
    if pack is None:
        return [convolve.on(source, weight, start, out, activation)]
    return [pack.on(weight, packed), convolve.on(source, packed, start, out, activation)]


@functools.lru_cache(maxsize=512)
def _launches(g: ConvGeometry, dtype: np.dtype[Any], transposed: bool) -> tuple[Prepared | None, Prepared, int]:
    """Packing the weights, if blocks do not, convolving, and the elements of the packed weights."""
    p = plan(g, dtype.itemsize, transposed)
    record, step = p.record, p.pack_step
    convolve = conv_depthwise.prepare((dtype,), p.blocks, *p.tables, record, cost=p.cost)
    if record.packs:
        return None, convolve, 0
    elements = record.panels * record.taps * tile_lanes(dtype.itemsize)
    pack = pack_channels.prepare(
        (dtype,), -(-record.panels // step), record.taps, record.channels, step, cost=0.5 * elements
    )
    return pack, convolve, elements


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, a contiguous (C, 1, taps) array, from two (N, D, H, W, C) memories."""
    return depthwise_weight.run(depthwise_weight.plan(g, x.dtype.itemsize), grad_output, x, out)
