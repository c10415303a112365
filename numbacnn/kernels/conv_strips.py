"""Convolution of groups with few channels over channels-last memory, forward and data gradient.

Every destination channel has a lane of its own, and the sum over the source channels of its group is a sum over
*parts*: part k of a source row holds, in the lane of each destination channel, the k-th source channel of its group. So
each part is a depthwise convolution; a depthwise one has a single part.

Channels-last positions are many elements apart, often a power of two, so that the rows under a kernel compete for the
same few sets of the L1 cache. Therefore source rows are first copied into *strips*: the positions of one vector of
channels side by side, padding filled in, one strip per residue of the stride (or dilation), so that neighbouring
points read neighbouring positions whatever stride and dilation are. A ring of strips keeps the rows that the next
destination row needs too: each is copied about once and read by every kernel row.

A *panel* is a few vectors of channels that are copied and computed together; missing channels of the last are zeros.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .layout import copy_transposed
from .pointer import as_integers, cast, load_pointer, offset, store_pointer
from .simd import lanes, load, splat, store
from .strip_tile import (
    LONG_RUN,
    POINTS_RUNS,
    POINTS_TILES,
    SELECTED,
    copy_positions,
    deal,
    points_tile,
    repeat,
    select,
    spread,
)

MAX_POINTS = max(POINTS_TILES)

# How a thread's scratch memory is divided, in slots.
RING_ROWS = 1024  # source rows in the ring: their tags
TABLE_ROWS = 1024  # source rows that one destination row reads: pairs of slots
TABLE_RUNS = 1536  # runs of taps in all of them: pairs of slots
BAND_PARTS = 256  # rows of a band times phases
BAND_COLUMNS = LONG_RUN + 1  # where the runs of such a part begin; how many there are, per number of taps
_ROWS = RING_ROWS
_RUNS = _ROWS + 2 * TABLE_ROWS
_BAND = _RUNS + 2 * TABLE_RUNS
_TILE = _BAND + BAND_COLUMNS * BAND_PARTS  # one vector of any machine for each point
_RING = _TILE + MAX_POINTS * 8
RING_SLOTS = SCRATCH_SLOTS - _RING
TRANSPOSED_TAPS = SCRATCH_SLOTS // 8  # whose weights, of one vector of any machine, fit

# The kernels' tables lie behind each other in one array, which begins with the place of each.
LISTS_D, LISTS_H, STRIPS, PHASES, RUNS, OUTSIDE, PICKS = range(7)
# Columns of the table of strips: first position in a ring row, length, source coordinate of its first position.
STRIP_COLUMNS = 3
# Columns of the table of runs: first position in a ring row, first weight of a kernel row, number of taps.
RUN_COLUMNS = 3
# Columns of the table of phases: destination coordinates START + STEP * point; its runs; first and last segment.
START, STEP, POINTS, FIRST_RUN, RUN_COUNT, SEGMENT, PHASE_COLUMNS = range(7)


class Strips(NamedTuple):
    """How source rows become strips, and what of them a destination row reads. Lengths in elements."""

    planes: int  # destination planes per sample, rows per plane
    rows: int
    segments: int  # parts that a row is cut into, and points (of each phase) of one part
    segment: int
    units: int  # destination rows x segments of the whole batch
    source_planes: int
    source_rows: int
    width: int  # source positions per row
    low: int  # positions of padding before and after them that `outside` gives a source
    high: int
    step: int  # source coordinates between the positions of a strip
    strips: int
    positions: int  # of a ring row
    picks: int  # single positions after the strips
    ring: int  # source rows that the ring holds
    parts: int  # source channels of a group, and destination channels: the lane of channel c reads source channel
    group: int  # c // group * parts + part
    channels: int  # of the destination
    panel: int  # vectors per panel
    panels: int
    source_n: int  # source elements between samples, planes, rows, positions
    source_d: int
    source_h: int
    source_w: int
    row_weights: int  # elements of the weights of one kernel row, of one vector
    part_weights: int
    vector_weights: int


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
def table_of(tables, name):
    """One of the tables."""
    return offset(tables, tables[name])


@device
def copy_lanes(strip, part_step, source, source_step, count, channel, valid, parts, group):
    """Copy what vectors of channels from `channel` on read, lane by lane; then zeros. Part after part."""
    n = lanes(strip)
    for part in range(parts):
        for lane in range(valid):
            first = (channel + lane) // group * parts + part
            for j in range(count):
                strip[part * part_step + j * n + lane] = source[j * source_step + first]
        for lane in range(valid, n):
            for j in range(count):
                strip[part * part_step + j * n + lane] = 0


@device
def copy_vector(strip, part_step, source, source_step, count, channel, valid, parts, group):
    """As `copy_lanes`, whole vectors at a time where groups allow it."""
    n = lanes(strip)
    if valid < n:
        copy_lanes(strip, part_step, source, source_step, count, channel, valid, parts, group)
    elif group % n == 0:  # one group: every lane reads the same
        first = channel // group * parts
        for j in range(count):
            position = offset(source, j * source_step + first)
            for part in range(parts):
                store(strip, part * part_step + j * n, splat(strip, position[part]))
    elif parts == group and group <= 4 and n % group == 0:
        spread(group, strip, part_step, offset(source, channel), source_step, count)
    elif parts == 1 and n % group == 0 and (group == 2 or group == 4):
        repeat(group, strip, offset(source, channel // group), source_step, count)
    elif group == 1 and 2 <= parts <= 4:
        deal(parts, strip, part_step, offset(source, channel * parts), source_step, count)
    elif (channel + n - 1) // group - channel // group < SELECTED:
        first, last = channel // group, (channel + n - 1) // group
        for part in range(parts):
            place, read = offset(strip, part * part_step), offset(source, first * parts + part)
            select(last - first + 1, place, read, source_step, parts, count, group - channel % group, group)
    else:
        copy_lanes(strip, part_step, source, source_step, count, channel, valid, parts, group)


@device
def _copy_padding(strip, part_step, row, q, count, tables, channel, valid, s):
    """Positions outside the source: zero, or what the padding mode puts there."""
    n = lanes(strip)
    outside = table_of(tables, OUTSIDE)
    for j in range(count):
        place = offset(strip, j * n)
        source = -1
        if -s.low <= q < 0:
            source = outside[q + s.low]
        elif s.width <= q < s.width + s.high:
            source = outside[s.low + q - s.width]
        if source < 0:
            for part in range(s.parts):
                store(place, part * part_step, splat(place, 0))
        else:
            copy_lanes(place, part_step, offset(row, source * s.source_w), 0, 1, channel, valid, s.parts, s.group)
        q += s.step


@device
def _clamp(value, low, high):
    return max(low, min(value, high))


@device
def copy_row(target, part_step, row, segment, tables, channel, s):
    """Copy a source row to the strips of a panel that begins with destination channel `channel`, part after part."""
    n = lanes(target)
    vector_step = s.positions * n
    step = s.step
    source_step = step * s.source_w
    strips, picks = table_of(tables, STRIPS), table_of(tables, PICKS)
    vectors = min(s.panel, (s.channels - channel + n - 1) // n)
    plain = min(vectors, (s.channels - channel) // n) if s.parts == 1 and s.group == 1 else 0  # whole, as they lie
    for i in range(s.strips):
        strip = offset(target, strips[STRIP_COLUMNS * i] * n)
        length = strips[STRIP_COLUMNS * i + 1]
        q = strips[STRIP_COLUMNS * i + 2] + segment * s.segment * step
        begin = _clamp((step - 1 - q) // step, 0, length)  # the first coordinate that is not negative
        end = _clamp((s.width - q + step - 1) // step, begin, length)
        source = offset(row, (q + begin * step) * s.source_w)
        inside, position = offset(strip, begin * n), offset(source, channel)
        copy_positions(1, inside, vector_step, position, source_step, end - begin, plain, 0)
        for v in range(vectors):
            line = offset(strip, v * vector_step)
            first = channel + v * n
            valid = min(n, s.channels - first)
            if v >= plain:
                place = offset(line, begin * n)
                copy_vector(place, part_step, source, source_step, end - begin, first, valid, s.parts, s.group)
            if begin > 0:
                _copy_padding(line, part_step, row, q, begin, tables, first, valid, s)
            if end < length:
                after = offset(line, end * n)
                _copy_padding(after, part_step, row, q + end * step, length - end, tables, first, valid, s)
    for i in range(s.picks):
        for v in range(vectors):
            place = offset(target, (v * s.positions + s.positions - s.picks + i) * n)
            first = channel + v * n
            valid = min(n, s.channels - first)
            copy_lanes(place, part_step, offset(row, picks[i] * s.source_w), 0, 1, first, valid, s.parts, s.group)


@device
def place_of(unit, s):
    """Sample, segment, plane and row of a unit."""
    h = unit % s.rows
    unit //= s.rows
    d = unit % s.planes
    unit //= s.planes
    segment = unit % s.segments
    return unit // s.segments, segment, d, h


@device
def next_place(place, s):
    """The place after this one."""
    n, segment, d, h = place
    h += 1
    if h == s.rows:
        h = 0
        d += 1
        if d == s.planes:
            d = 0
            segment += 1
            if segment == s.segments:
                segment = 0
                n += 1
    return n, segment, d, h


@device
def put_rows(rows, ring, tags, source, place, panel, tables, s):
    """List the strips that the destination row of a place reads, with their kernel rows; copy those not in the ring."""
    n, segment, d, h = place
    lists_d, lists_h = table_of(tables, LISTS_D), table_of(tables, LISTS_H)
    width = lanes(ring)
    sample = offset(source, n * s.source_n)
    slot_elements = s.panel * s.positions * width
    count = 0
    for i in range(lists_d[d], lists_d[d + 1]):
        source_d = lists_d[3 * i + 1]
        tag_d = ((n * s.segments + segment) * s.source_planes + source_d) * s.source_rows
        for j in range(lists_h[h], lists_h[h + 1]):
            kernel_row = lists_d[3 * i] + lists_h[3 * j]
            source_h = lists_h[3 * j + 1]
            slot = lists_d[3 * i + 2] + lists_h[3 * j + 2]
            strips = offset(ring, slot * slot_elements)
            if tags[slot] != tag_d + source_h:
                tags[slot] = tag_d + source_h
                row = offset(sample, source_d * s.source_d + source_h * s.source_h)
                copy_row(strips, slot_elements, row, segment, tables, panel * s.panel * width, s)
            for part in range(s.parts):
                store_pointer(rows, 2 * count, offset(strips, part * slot_elements))
                rows[2 * count + 1] = kernel_row * s.row_weights + part * s.part_weights
                count += 1
    return count


@device
def put_tile(out, out_step, tile, points, valid):
    """Write a tile whose points or channels are not all wanted."""
    n = lanes(tile)
    for i in range(points):
        for lane in range(valid):
            out[i * out_step + lane] = tile[i * n + lane]


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
