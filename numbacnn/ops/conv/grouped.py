"""Convolution of groups of several channels each: rows of a few groups copied into strips, scalars times vectors."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import conv_groups as kernels
from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.conv_strips import MAX_POINTS, TABLE_RUNS
from ...kernels.strip_rows import PHASE_COLUMNS, RING_ROWS, STRIP_COLUMNS, TABLE_ROWS
from ...kernels.strip_tile import GROUP_RUNS, LONGEST_RUN, groups_together
from . import blocking, strip_tables, winograd
from .bias import padded_bias, zero_row
from .finish import NOTHING, Finish
from .lattice import strides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "grouped"
finishes = ("activation", "residual")

# Channels of the side of a group that has fewer: with less than this, `strips` wastes fewer lanes; where four groups
# share a vector it hardly does, and copies each channel several times ...
FEWEST_CHANNELS = 3 if groups_together(4, target().lanes(4)) == 4 else 5
# ... and with more than that, what indirect GEMM loses does not matter. Beside vectors of 64 bytes it loses less: where
# a group has a vector to itself, `grouped` takes 0.9 to 1 times as long, but 1.2 to 2 times under a stride or dilation,
# and 1.1 to 1.3 times where a group has several. (6,600 random problems.) Not under a stride that leaves so many taps
# to share what is copied: 0.7 to 0.9 times.
FEW_CHANNELS = 24
MOST_CHANNELS = 64
SHARING_TAPS = 6
# There Winograd's algorithm is left what it is expected to be clearly faster for than indirect GEMM (0.4 to 0.9 of the
# time).
SHARE_LEFT = 0.95
# Points of a row (of each phase) that tiles of seven points and more are not worth while for, under strides of 1, 2 and
# more: indirect GEMM, whose tiles go on in the next row, is then 1.1 to 2.8 times as fast.
SHORT_ROWS = (4, 6, 9)
# Memory for the strips of a panel: what L2 (512 KiB) holds beside what they are copied from and what is written.
RING_BYTES = 128 * 1024
# Bytes of each position that are copied together: several cache lines, for neighbours are fetched in pairs.
PANEL_BYTES = 256
# So many at least, if rings that hold fewer rows leave room for them.
PIECE_BYTES = 128
# A row is cut so that what one group reads stays in half of L1 (32 KiB), but not into stretches that copy more overlap
# than they save.
GROUP_BYTES = 16 * 1024
SHORTEST_SEGMENT = 48
# Rows that are computed together: the weights of a group stay in L1 meanwhile.
MOST_ROWS = 8
# A result of so many bytes is far away, and asked for in advance; not where a store fills a cache line: what asks
# then waits as long as the stores would (0.8 to 0.95 of the time without).
ASKED_BYTES = 4 << 20
# Enough blocks for any number of cores to finish together; ranges of rows are long enough that those which two of them
# copy do not matter.
BLOCKS, MIN_BLOCKS = 32, 8
ROWS_PER_OVERLAP = 4


class Side(NamedTuple):
    """What is read and what is written, per group, and the steps of the weights along them."""

    run: int
    lanes: int
    run_stride: int
    lane_stride: int


class Fit(NamedTuple):
    """A row plan that fits into scratch memory."""

    row: strip_tables.Row
    segment: int
    band: int
    panel: int
    ring: tuple[int, int]


class Launches(NamedTuple):
    """Packing the weights and convolving with them; elements of the packed weights; destination lanes."""

    pack: Prepared
    convolve: Prepared
    elements: int
    lanes: tuple[int, int, int, int]  # groups, lanes of a group, those that vectors have for it, those left at the end


def _side(g: ConvGeometry, transposed: bool) -> Side:
    per_output, per_input = g.in_per_group * g.taps, g.taps
    if transposed:
        return Side(g.out_per_group, g.in_per_group, per_output, per_input)
    return Side(g.in_per_group, g.out_per_group, per_input, per_output)


def _pair(lanes: int, itemsize: int) -> int:
    """How many groups of some destination channels go through together."""
    return groups_together(lanes, target().lanes(itemsize))


def _classes(g: ConvGeometry, transposed: bool) -> list[strip_tables.Class]:
    """The width as classes. With a stride of two, points read every other position of whole rows, by all taps at once.

    Two strips, of even and odd positions, would be runs of fewer taps each.
    """
    classes = strip_tables.classes_of(g, transposed)
    return [c._replace(alpha=1, leap=2) if (c.alpha, c.beta) == (2, 1) else c for c in classes]


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction == "backward_weight":
        return "it has no backward_weight: that sums over positions, not over channels"
    if g.groups == 1:
        return "all channels are in one group"
    fewer, more = sorted((g.in_per_group, g.out_per_group))
    if not FEWEST_CHANNELS <= fewer <= more <= MOST_CHANNELS:
        sizes = f"not {FEWEST_CHANNELS} to {MOST_CHANNELS} of either"
        return f"groups have {g.in_per_group} input and {g.out_per_group} output channels, {sizes}"
    if g.padding_mode[2] != "zeros":
        return f"the padding of the width is {g.padding_mode[2]!r}"
    if _packed_bytes(g, direction == "backward_data") > blocking.PACKED_BYTES:
        return f"{g.out_channels * g.in_per_group * g.taps} weights are more than it packs at a time"
    large = strip_tables.large_plane_lists(g)
    if large:
        return large
    if _fit(g, direction == "backward_data", 8) is None:
        return "the rows under its kernel do not fit into a thread's scratch memory"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why this algorithm is not worth while though it could run."""
    fewer = min(geometry.in_per_group, geometry.out_per_group)
    if fewer > FEW_CHANNELS:
        return f"groups of {fewer} channels are wide enough for indirect GEMM"
    side = _side(geometry, direction == "backward_data")
    even = max(geometry.stride) == 1 or geometry.taps >= SHARING_TAPS * math.prod(geometry.stride)
    even = even and max(geometry.dilation) == 1
    if (
        blocking.WIDE_VECTORS
        and _pair(side.lanes, itemsize) == 1
        and not (even and side.lanes <= target().lanes(itemsize))
    ):
        return f"groups of {side.lanes} channels do not share a vector"
    points = strip_tables.longest_phase(_classes(geometry, direction == "backward_data"))
    if points <= SHORT_ROWS[min(geometry.stride[2], len(SHORT_ROWS)) - 1]:
        return f"rows of {points} points are too short for its tiles"
    if blocking.WIDE_VECTORS:
        share = winograd.share_of_general(direction, geometry, itemsize)
        if share < SHARE_LEFT:
            return f"Winograd's algorithm is expected to take {share:.2f} times as long as indirect GEMM"
    return None


def _packed_bytes(g: ConvGeometry, transposed: bool) -> int:
    """Size of the packed weights in float64, which is at least that in float32 but for what fills vectors up."""
    side = _side(g, transposed)
    lanes = target().lanes(4)
    vectors = -(-g.groups // _pair(side.lanes, 4)) * -(-side.lanes // lanes)
    return 8 * vectors * lanes * side.run * g.taps


@functools.lru_cache(maxsize=512)
def _fit(g: ConvGeometry, transposed: bool, itemsize: int) -> Fit | None:
    """The longest segments of rows, and bands of them, with which what a group reads stays in L1; else the least."""
    classes = _classes(g, transposed)
    lists = strip_tables.plane_lists(g, transposed)
    kernel_rows = lists[0].longest * lists[1].longest
    if kernel_rows > TABLE_ROWS:
        return None
    side = _side(g, transposed)
    pair = _pair(side.lanes, itemsize)
    groups, position_bytes = -(-g.groups // pair), pair * side.run * itemsize
    points = strip_tables.longest_phase(classes)
    best = None
    for parts in range(1, -(-points // MAX_POINTS) + 1):
        segment = -(-points // parts)
        row = strip_tables.plan_row(g, classes, segment, {})
        entries = kernel_rows * max(row.list_lengths(LONGEST_RUN), default=0)
        if entries > TABLE_RUNS:
            return None
        phases = len(row.phases) // PHASE_COLUMNS
        most = min(MOST_ROWS, kernels.BAND_PARTS // phases, TABLE_RUNS // max(1, entries))
        fits: list[Fit] = []
        for band, ring in _rings(g, transposed, most, GROUP_BYTES // max(1, row.positions * position_bytes)):
            group_bytes = (ring[0] * ring[1] * row.positions + MAX_POINTS * classes[0].leap) * position_bytes
            if ring[0] * ring[1] <= RING_ROWS and group_bytes <= 8 * kernels.RING_SLOTS:
                panel = max(1, min(RING_BYTES // group_bytes, PANEL_BYTES // position_bytes, groups))
                fits.append(Fit(row, segment, band, panel, ring))
                if panel >= min(groups, PIECE_BYTES // position_bytes):
                    break
        if fits:
            best = max(fits, key=lambda fit: min(fit.panel, PIECE_BYTES // position_bytes))
        near = kernel_rows * row.positions * position_bytes <= GROUP_BYTES
        if best is not None and (near or segment <= SHORTEST_SEGMENT):
            break
    return best


def _rings(g: ConvGeometry, transposed: bool, most: int, near: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Rows of a band, at most `most`, and how many planes, and rows of each, the ring may hold, best first.

    The band is the highest that reads at most `near` rows. If the ring holds the rows of whole planes, the next plane
    need not copy again what it reads of them.
    """
    extents, rows = (g.output[:2], g.input[1]) if transposed else (g.input[:2], g.output[1])
    planes, lines = strip_tables.plane_lists(g, transposed)
    depth = strip_tables.ring_extent(planes, extents[0])
    for band in range(min(most, max(1, rows)), 0, -1):
        height = strip_tables.ring_extent(lines, extents[1], band)
        if band > 1 and planes.longest * height > near:
            continue
        band = blocking.split_evenly(rows, band)
        if depth > 1:
            yield band, (depth, extents[1])
        yield band, (depth, height)


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int, transposed: bool) -> tuple[np.ndarray, kernels.Groups]:
    """The kernel's tables and its record."""
    fit = _fit(g, transposed, itemsize)
    assert fit is not None  # or `accepts` would have refused
    row, side = fit.row.cut(GROUP_RUNS), _side(g, transposed)
    classes = _classes(g, transposed)
    lists_d, lists_h = strip_tables.plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    source_n, source_d, source_h, source_w = strides(source, g.groups * side.run)
    out_n, out_d, out_h, out_w = strides(out, g.groups * side.lanes)
    segments = -(-strip_tables.longest_phase(classes) // fit.segment)
    pair = _pair(side.lanes, itemsize)
    lines, panels = g.batch * segments * out[0], -(-g.groups // (pair * fit.panel))
    band = max(1, min(fit.band, lines * panels * out[1] // MIN_BLOCKS))
    bands = -(-out[1] // band)
    units = lines * bands
    whole_planes = fit.ring[1] == source[1]
    unit_blocks, panel_blocks = _blocks(g, band, bands, units, panels, whole_planes)
    order = np.array(row.order)
    runs = row.runs.copy()
    runs[:, 1] = order[runs[:, 1]]
    steps = [int(part[1] - part[0]) for c in classes for part in strip_tables.parts_of(c) if len(part) > 1]
    record = kernels.Groups(
        planes=out[0],
        rows=bands,
        height=out[1],
        band=band,
        segments=segments,
        segment=fit.segment,
        units=units,
        unit_blocks=unit_blocks,
        source_planes=source[0],
        source_rows=source[1],
        width=source[2],
        step=row.step,
        leap=classes[0].leap,
        strips=len(row.strips) // STRIP_COLUMNS,
        positions=row.positions,
        ring=fit.ring[0] * fit.ring[1],
        phases=len(row.phases) // PHASE_COLUMNS,
        groups=g.groups,
        pair=pair,
        panel=fit.panel,
        panels=panels,
        panel_blocks=panel_blocks,
        run=side.run,
        lanes=side.lanes,
        vectors=-(-side.lanes // target().lanes(itemsize)),
        taps=g.taps,
        row_taps=g.kernel[2],
        tap_step=steps[0] if steps else 1,
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        out_n=out_n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        line=blocking.LINE_BYTES // itemsize,
        asks=int(not blocking.WIDE_VECTORS and g.batch * out_n * itemsize > ASKED_BYTES),
    )
    lists = lists_d.table(g.kernel[1], fit.ring[0], fit.ring[1]), lists_h.table(1, fit.ring[1], 1)
    return strip_tables.joined(*lists, row._replace(runs=runs)), record


def _blocks(g: ConvGeometry, band: int, bands: int, units: int, panels: int, whole_planes: bool) -> tuple[int, int]:
    """Into how many ranges the units are cut, and the panels: first the latter, which have nothing in common."""
    panel_blocks = min(panels, BLOCKS)
    overlap = -(-strip_tables.rows_of_overlap(g, bands * band, whole_planes) // band)
    shortest = max(1, ROWS_PER_OVERLAP * overlap)
    most = max(1, units // shortest) if panel_blocks >= MIN_BLOCKS else max(1, units)
    return max(1, min(-(-BLOCKS // panel_blocks), most)), panel_blocks


@functools.lru_cache(maxsize=512)
def _launches(g: ConvGeometry, dtype: np.dtype[Any], transposed: bool) -> Launches:
    tables, record = plan(g, dtype.itemsize, transposed)
    side = _side(g, transposed)
    padded = record.vectors * target().lanes(dtype.itemsize) // record.pair
    over = -g.groups % record.pair * padded  # what the last groups leave of their vector
    elements = (g.groups * padded + over) * side.run * g.taps
    pairs = -(-g.groups // record.pair)
    step = max(1, 4096 * pairs // elements)
    pack = kernels.pack_groups.prepare(
        (dtype,), -(-pairs // step), g.taps, g.groups, record.pair, step, *side, cost=0.5 * elements
    )
    cost = g.flops / blocking.FLOPS_PER_NS + g.elements * dtype.itemsize / 20
    blocks = record.unit_blocks * record.panel_blocks
    convolve = kernels.conv_groups.prepare((dtype,), blocks, tables, record, cost=cost)
    return Launches(pack, convolve, elements, (g.groups, side.lanes, padded, over))


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out`, (N, OD, OH, OW, C_out) memory, from `x`, (N, D, H, W, C_in) memory."""
    return _run(_launches(g, x.dtype, False), x, weight, bias, out, follows)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, (N, D, H, W, C_in) memory, from `grad_output`, (N, OD, OH, OW, C_out) memory."""
    return _run(_launches(g, out.dtype, True), grad_output, weight, bias, out, NOTHING)


def _run(
    launches: Launches,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish,
) -> list[Step]:
    packed = Operand((launches.elements,), out.dtype)
    groups, lanes, padded, over = launches.lanes
    if bias is None:
        start: Any = zero_row(out.dtype, groups * padded + over)
    else:
        start = padded_bias(bias, groups, lanes, padded, more=over)
    finish = follows.distance(out), follows.activation
    return [launches.pack.on(weight, packed), launches.convolve.on(source, packed, start, out, *finish)]
