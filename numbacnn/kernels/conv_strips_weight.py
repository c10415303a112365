"""The weight gradient of groups with few channels.

``dW[c][k][tap] = sum over points  x_k[point + tap][c] * dY[point][c]``, where ``x_k`` holds, for every output channel,
the k-th input channel of its group (a part, see `conv_strips`).

The points are cut into chunks with partial sums of their own, which are added in order at the end. Within a chunk a few
rows at a time are copied into strips (see `conv_strips`), input and gradient alike, and every kernel row passes over
those it meets.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .pointer import cast, load_pointer, offset, store_pointer
from .simd import lanes, load, store
from .strip_rows import (
    FIRST_RUN,
    PHASE_COLUMNS,
    PHASES,
    POINTS,
    RING_ROWS,
    RUN_COLUMNS,
    RUN_COUNT,
    RUNS,
    START,
    STEP,
    TABLE_ROWS,
    Strips,
    copy_first,
    next_place,
    place_of,
    put_rows,
    table_of,
)
from .strip_tile import copy_positions, weight_tile

# How a thread's scratch memory is divided, in slots.
TABLE_PAIRS = 1024  # rows that are done together x kernel rows: pairs of slots
_ROWS = RING_ROWS
_PAIRS = _ROWS + 2 * TABLE_ROWS
_COUNTS = _PAIRS + 2 * TABLE_PAIRS
_STRIPS = _COUNTS + TABLE_ROWS
STRIP_SLOTS = SCRATCH_SLOTS - _STRIPS


class StripsWeight(NamedTuple):
    """The gradient and the blocks."""

    phases: int
    group: int  # rows that are done together
    chunks: int  # parts of the units with a partial sum each
    panel_blocks: int
    kernel_rows: int  # of all parts
    row_weights: int  # elements of the sums of one kernel row, of one vector
    vectors: int  # of the gradient
    out_n: int  # elements of the gradient between samples, planes, rows, positions
    out_d: int
    out_h: int
    out_w: int


@device
def _copy_gradient(target, row, segment, channel, tables, s, g):
    """Copy a row of the gradient, the points of each phase side by side, for all vectors of a panel."""
    n = lanes(target)
    first = segment * s.segment
    vector_step = g.phases * s.segment * n
    vectors = min(s.panel, (s.channels - channel + n - 1) // n)
    for i in range(g.phases):
        phase = offset(table_of(tables, PHASES), i * PHASE_COLUMNS)
        points = min(s.segment, phase[POINTS] - first)
        step = phase[STEP] * g.out_w
        start = offset(row, (phase[START] + phase[STEP] * first) * g.out_w + channel)
        strip = offset(target, i * s.segment * n)
        whole = min(vectors, (s.channels - channel) // n)
        copy_positions(1, strip, vector_step, start, step, points, whole, 0)
        if whole < vectors:
            valid = s.channels - channel - whole * n
            copy_first(offset(strip, whole * vector_step), offset(start, whole * n), step, points, valid)


@device
def _put_pairs(pairs, counts, rows, count, gradient, g):
    """To the list of every kernel row that destination row `gradient` meets, add the source row and the gradient."""
    for r in range(count):
        kernel_row = rows[2 * r + 1]
        place = 2 * (kernel_row * g.group + counts[kernel_row])
        store_pointer(pairs, place, load_pointer(rows, 2 * r, gradient))
        store_pointer(pairs, place + 1, gradient)
        counts[kernel_row] += 1


@device
def _add_rows(table, counts, segment, v, tables, sums, s, g):
    """Add a group's rows to the sums of vector `v` of the panel."""
    n = lanes(sums)
    first_point = segment * s.segment
    for kernel_row in range(g.kernel_rows):
        rows = offset(table, 2 * kernel_row * g.group)
        row_sums = offset(sums, kernel_row * g.row_weights)
        for i in range(g.phases):
            phase = offset(table_of(tables, PHASES), i * PHASE_COLUMNS)
            points = min(s.segment, phase[POINTS] - first_point)
            y_offset = (v * g.phases + i) * s.segment * n
            for k in range(phase[FIRST_RUN], phase[FIRST_RUN] + phase[RUN_COUNT]):
                run = offset(table_of(tables, RUNS), k * RUN_COLUMNS)
                place = (run[0] + v * s.positions) * n
                weight_tile(run[2], rows, counts[kernel_row], place, y_offset, points, offset(row_sums, run[1] * n))


@kernel
def conv_strips_weight(
    block,
    scratch,
    x: "T*",
    grad_output: "T*",
    partial: "T*",
    tables: "int64*",
    s: "Strips",
    g: "StripsWeight",
):
    """One block: a chunk of units x a range of panels, into ``partial[chunk][vector][tap][lane]``.

    The tables are those of `conv_strips`, with runs of up to `WEIGHT_TAPS` taps.
    """
    panel_block = block % g.panel_blocks
    chunk = block // g.panel_blocks
    width = lanes(partial)
    tags, rows = scratch, offset(scratch, _ROWS)
    pairs, counts = offset(scratch, _PAIRS), offset(scratch, _COUNTS)
    gradients = cast(offset(scratch, _STRIPS), partial)
    gradient_elements = s.panel * g.phases * s.segment * width
    ring = offset(gradients, g.group * gradient_elements)
    first_unit, last_unit = chunk * s.units // g.chunks, (chunk + 1) * s.units // g.chunks
    for panel in range(panel_block * s.panels // g.panel_blocks, (panel_block + 1) * s.panels // g.panel_blocks):
        for i in range(s.ring):
            tags[i] = -1
        sums = offset(partial, (chunk * g.vectors + panel * s.panel) * s.vector_weights)
        vectors = min(s.panel, g.vectors - panel * s.panel)
        for i in range(vectors * s.vector_weights):
            sums[i] = 0
        place = place_of(first_unit, s)
        unit = first_unit
        while unit < last_unit:
            group = min(g.group, last_unit - unit, s.rows - place[3])  # rows of one plane
            segment = place[1]
            for i in range(g.kernel_rows):
                counts[i] = 0
            for i in range(group):
                n, _, d, h = place
                count = put_rows(rows, ring, tags, x, place, panel, tables, s)
                gradient = offset(gradients, i * gradient_elements)
                source = offset(grad_output, n * g.out_n + d * g.out_d + h * g.out_h)
                _copy_gradient(gradient, source, segment, panel * s.panel * width, tables, s, g)
                _put_pairs(pairs, counts, rows, count, gradient, g)
                place = next_place(place, s)
            for v in range(vectors):
                _add_rows(pairs, counts, segment, v, tables, offset(sums, v * s.vector_weights), s, g)
            unit += group


@kernel
def combine_strips(
    block,
    partial: "T*",
    out: "T*",
    order: "int64*",
    taps: "int64",
    parts: "int64",
    channels: "int64",
    chunks: "int64",
):
    """One block: the sums of one vector, chunks added in order, ``out[channel][part][order[i]]``."""
    n = lanes(partial)
    channel = block * n
    size = parts * taps * n
    vectors = (channels + n - 1) // n
    sums = offset(partial, block * size)
    for i in range(0, size, n):
        total = load(sums, i)
        for chunk in range(1, chunks):
            total += load(sums, chunk * vectors * size + i)
        store(sums, i, total)
    for lane in range(min(n, channels - channel)):
        for part in range(parts):
            row = offset(out, ((channel + lane) * parts + part) * taps)
            for i in range(taps):
                row[order[i]] = sums[(part * taps + i) * n + lane]
