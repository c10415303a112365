"""Convolution of groups with few channels over channels-last memory, forward and data gradient.

Every destination channel has a lane of its own, and the sum over the source channels of its group is a sum over
*parts*: part k of a source row holds, in the lane of each destination channel, the k-th source channel of its group. So
each part is a depthwise convolution; a depthwise one has a single part.

What they read is copied before: see `strip_rows`.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .layout import copy_transposed
from .pointer import as_integers, cast, load_pointer, offset, store_pointer
from .simd import lanes, load, store, store_first
from .strip_rows import (
    FIRST_RUN,
    PHASE_COLUMNS,
    PHASES,
    POINTS,
    RING_ROWS,
    RUN_COLUMNS,
    RUN_COUNT,
    RUNS,
    SEGMENT,
    START,
    STEP,
    TABLE_ROWS,
    Strips,
    next_place,
    place_of,
    put_rows,
    table_of,
)
from .strip_tile import (
    LONG_RUN,
    POINTS_RUNS,
    POINTS_TILES,
    points_tile,
)

MAX_POINTS = max(POINTS_TILES)

# How a thread's scratch memory is divided, in slots.
TABLE_RUNS = 1536  # runs of taps in all source rows that one destination row reads: pairs of slots
BAND_PARTS = 256  # rows of a band times phases
BAND_COLUMNS = LONG_RUN + 1  # where the runs of such a part begin; how many there are, per number of taps
_ROWS = RING_ROWS
_RUNS = _ROWS + 2 * TABLE_ROWS
_BAND = _RUNS + 2 * TABLE_RUNS
_TILE = _BAND + BAND_COLUMNS * BAND_PARTS  # one vector of any machine for each point
_RING = _TILE + MAX_POINTS * 8
RING_SLOTS = SCRATCH_SLOTS - _RING
TRANSPOSED_TAPS = SCRATCH_SLOTS // 8  # whose weights, of one vector of any machine, fit


class Destination(NamedTuple):
    """The destination and the blocks."""

    phases: int
    band: int  # rows that are done together
    listed: int  # phases whose runs in all of them are listed together
    unit_blocks: int
    panel_blocks: int
    out_n: int  # elements between samples, planes, rows, positions
    out_d: int
    out_h: int
    out_w: int


@device
def put_tile(out, out_step, tile, points, valid):
    """Write a tile whose points or channels are not all wanted."""
    n = lanes(tile)
    for i in range(points):
        store_first(out, i * out_step, load(tile, i * n), valid)


@device
def put_runs(entries, counts, table, rows, phase, tables, x_step, like):
    """List a phase's runs in all source rows: pointer to the first position, offset of the weights.

    Positions lie `x_step` elements apart. Adds to ``counts[n]`` how many of them are of n taps; returns their number.
    """
    count, runs = 0, table_of(tables, RUNS)
    for i in range(phase[FIRST_RUN], phase[FIRST_RUN] + phase[RUN_COUNT]):
        run = offset(runs, i * RUN_COLUMNS)
        place, weight = run[0] * x_step, run[1] * lanes(like)
        for r in range(rows):
            store_pointer(entries, 2 * count, offset(load_pointer(table, 2 * r, like), place))
            entries[2 * count + 1] = table[2 * r + 1] + weight
            count += 1
        counts[run[2]] += rows
    return count


@device
def _points(left, long_runs):
    """Points of the next tile of a row."""
    if MAX_POINTS > 12:
        if left % MAX_POINTS == 0:
            return MAX_POINTS
    elif left == 14 or (long_runs and left % 7 == 0 and left % 8 > 0):
        return 7
    if left == 7:
        return 7
    if left > 8 and (MAX_POINTS > 12 or not long_runs):
        return 12
    return 8 if left > 4 else 4


@device
def _put_band(scratch, ring, source, place, rows, first, last, panel, tables, s, g):
    """List the runs that some phases of destination rows from a place on read; copy what the ring lacks."""
    table, entries, band = offset(scratch, _ROWS), offset(scratch, _RUNS), offset(scratch, _BAND)
    segment, count = place[1], 0
    for row in range(rows):
        kernel_rows = put_rows(table, ring, scratch, source, place, panel, tables, s)
        for i in range(first, last):
            phase = offset(table_of(tables, PHASES), i * PHASE_COLUMNS)
            listed = offset(band, (row * g.listed + i - first) * BAND_COLUMNS)
            listed[0] = count
            for taps in POINTS_RUNS:
                listed[taps] = 0
            if phase[SEGMENT] < 0 or phase[SEGMENT] == segment:
                runs = offset(entries, 2 * count)
                count += put_runs(runs, listed, table, kernel_rows, phase, tables, lanes(ring), ring)
        place = next_place(place, s)


@device
def _band(scratch, tile, place, rows, first, last, panel, weight, bias, out, tables, s, g):
    """Some phases of some rows of a plane, all of them of one vector after the other of a panel."""
    n = lanes(out)
    entries, band = offset(scratch, _RUNS), offset(scratch, _BAND)
    sample, segment, d, h = place
    target = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h)
    first_v = panel * s.panel
    for v in range(first_v, min(first_v + s.panel, (s.channels + n - 1) // n)):
        strip, valid = (v - first_v) * s.positions, min(n, s.channels - v * n)
        weights, start = offset(weight, v * s.vector_weights), offset(bias, v * n)
        for row in range(rows):
            column = offset(target, row * g.out_h + v * n)
            for i in range(first, last):
                phase = offset(table_of(tables, PHASES), i * PHASE_COLUMNS)
                if phase[SEGMENT] < 0 or phase[SEGMENT] == segment:
                    listed = offset(band, (row * g.listed + i - first) * BAND_COLUMNS)
                    _phase(entries, listed, tile, phase, segment, strip, weights, start, column, valid, s, g)


@device
def _phase(entries, listed, tile, phase, segment, strip, weight, start, row, valid, s, g):
    """The points of one phase, one segment of them, of one vector.

    strip : the position at which its strips begin
    row : that vector's channels of the first position of a destination row
    """
    n = lanes(row)
    first = segment * s.segment if phase[SEGMENT] < 0 else 0
    count = min(s.segment, phase[POINTS] - first)
    step = phase[STEP] * g.out_w
    column = offset(row, (phase[START] + phase[STEP] * first) * g.out_w)
    runs = offset(entries, 2 * listed[0])
    a = 0
    while a < count:
        left = count - a
        points = _points(left, listed[LONG_RUN])
        if left < points <= count:
            a = count - points  # laps over the tile before: the same values once more
        wanted = min(points, count - a)
        target = offset(column, a * step)
        if valid == n and wanted == points:
            points_tile(points, runs, listed, (a + strip) * n, weight, start, target, step)
        else:
            points_tile(points, runs, listed, (a + strip) * n, weight, start, tile, n)
            put_tile(target, step, tile, wanted, valid)
        a += points


@kernel
def conv_strips(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    tables: "int64*",
    s: "Strips",
    g: "Destination",
):
    """One block: a range of units x a range of panels.

    In the tables LISTS_D and LISTS_H, ``list[q] .. list[q + 1]`` are the numbers of the triples (kernel tap, source
    coordinate, place in the ring), in the same table, that belong to destination coordinate q of an axis. `weight` is
    packed by `pack_strips`, `bias` padded with zeros to whole vectors.
    """
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    first_unit, last_unit = block * s.units // g.unit_blocks, (block + 1) * s.units // g.unit_blocks
    tile, ring = cast(offset(scratch, _TILE), out), cast(offset(scratch, _RING), out)
    for panel in range(panel_block * s.panels // g.panel_blocks, (panel_block + 1) * s.panels // g.panel_blocks):
        for i in range(s.ring):
            scratch[i] = -1  # tags
        unit = first_unit
        while unit < last_unit:
            place = place_of(unit, s)
            rows = min(g.band, last_unit - unit, s.rows - place[3])  # of one plane
            for first in range(0, g.phases, g.listed):
                last = min(first + g.listed, g.phases)
                _put_band(scratch, ring, source, place, rows, first, last, panel, tables, s, g)
                _band(scratch, tile, place, rows, first, last, panel, weight, bias, out, tables, s, g)
            unit += rows


@kernel
def pack_strips(
    block,
    scratch,
    weight: "T*",
    packed: "T*",
    order: "int64*",
    taps: "int64",
    channels: "int64",
    parts: "int64",
    group: "int64",
    lane_stride: "int64",
    part_stride: "int64",
):
    """One block: one vector, ``packed[vector][part][i][lane]`` from tap ``order[i]``, zero beyond the last channel.

    The weights of a group's destination channels lie `lane_stride` elements apart, those of its parts `part_stride`.
    """
    n = lanes(packed)
    valid = min(n, channels - block * n)
    if parts == 1 and group == 1 and valid == n and taps <= TRANSPOSED_TAPS:
        out, natural = offset(packed, block * taps * n), cast(scratch, packed)
        copy_transposed(as_integers(weight), block * n * taps, taps, as_integers(natural), 0, n, n, taps)
        for i in range(taps):
            store(out, i * n, load(natural, order[i] * n))
        return
    for part in range(parts):
        out = offset(packed, (block * parts + part) * taps * n)
        for lane in range(n):
            channel = block * n + lane
            first = channel // group * group * parts * taps + channel % group * lane_stride + part * part_stride
            for i in range(taps):
                out[i * n + lane] = weight[first + order[i]] if lane < valid else 0
