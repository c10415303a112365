"""Source rows of a convolution of few channels per group, copied into strips.

Channels-last positions are many elements apart, often a power of two, so that the rows under a kernel compete for the
same few sets of the L1 cache. Therefore source rows are first copied into *strips*: the positions of one vector of
channels side by side, padding filled in, one strip per residue of the stride (or dilation), so that neighbouring
points read neighbouring positions whatever stride and dilation are. A ring of strips keeps the rows that the next
destination row needs too: each is copied about once and read by every kernel row.

A *panel* is a few vectors of channels that are copied and computed together; what lanes beyond the last channel hold
does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device
from .pointer import offset, store_pointer
from .simd import lanes, load_first, splat, store
from .strip_tile import SELECTED, copy_positions, deal, repeat, select, spread

RING_ROWS = 1024  # source rows in the ring: their tags
TABLE_ROWS = 1024  # source rows that one destination row reads: pairs of slots

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


@device
def table_of(tables, name):
    """One of the tables."""
    return offset(tables, tables[name])


@device
def copy_lanes(strip, part_step, source, source_step, count, channel, valid, parts, group):
    """Copy what vectors of channels from `channel` on read, lane by lane, and zeros behind them. Part after part."""
    n = lanes(strip)
    zero = splat(strip, 0)
    for part in range(parts):
        if valid < n:
            for j in range(count):
                store(strip, part * part_step + j * n, zero)
        for lane in range(valid):
            first = (channel + lane) // group * parts + part
            for j in range(count):
                strip[part * part_step + j * n + lane] = source[j * source_step + first]


@device
def copy_first(strip, source, source_step, count, valid):
    """Copy the first `valid` lanes of some positions, each to a vector; then zeros."""
    n = lanes(strip)
    zero = splat(strip, 0)
    for j in range(count):
        store(strip, j * n, load_first(source, j * source_step, valid, zero))


@device
def copy_vector(strip, part_step, source, source_step, count, channel, valid, parts, group):
    """As `copy_lanes`, vectors at a time where groups allow it; lanes beyond the last channel may hold anything."""
    n = lanes(strip)
    if parts == 1 and group == 1:
        copy_first(strip, offset(source, channel), source_step, count, valid)
    elif group % n == 0:  # one group: every lane reads the same
        first = channel // group * parts
        for j in range(count):
            position = offset(source, j * source_step + first)
            for part in range(parts):
                store(strip, part * part_step + j * n, splat(strip, position[part]))
    elif parts == group and group <= 4 and n % group == 0:
        spread(group, strip, part_step, offset(source, channel), source_step, count, valid)
    elif parts == 1 and n % group == 0 and (group == 2 or group == 4):
        repeat(group, strip, offset(source, channel // group), source_step, count, valid)
    elif group == 1 and 2 <= parts <= 4:
        deal(parts, strip, part_step, offset(source, channel * parts), source_step, count, valid)
    elif (channel + valid - 1) // group - channel // group < SELECTED:
        first, last = channel // group, (channel + valid - 1) // group
        for part in range(parts):
            place, read = offset(strip, part * part_step), offset(source, first * parts + part)
            select(last - first + 1, place, read, source_step, parts, count, group - channel % group, group)
    else:
        copy_lanes(strip, part_step, source, source_step, count, channel, valid, parts, group)


@device
def _copy_padding(strip, part_step, vector_step, vectors, row, q, count, tables, channel, s):
    """Positions outside the source, of some vectors: zero, or what the padding mode puts there."""
    n = lanes(strip)
    outside = table_of(tables, OUTSIDE)
    for j in range(count):
        place = offset(strip, j * n)
        source = -1
        if -s.low <= q < 0:
            source = outside[q + s.low]
        elif s.width <= q < s.width + s.high:
            source = outside[s.low + q - s.width]
        for v in range(vectors):
            here, first = offset(place, v * vector_step), channel + v * n
            if source < 0:
                for part in range(s.parts):
                    store(here, part * part_step, splat(here, 0))
            else:
                position, valid = offset(row, source * s.source_w), min(n, s.channels - first)
                copy_vector(here, part_step, position, 0, 1, first, valid, s.parts, s.group)
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
        for v in range(plain, vectors):
            first = channel + v * n
            place, valid = offset(inside, v * vector_step), min(n, s.channels - first)
            copy_vector(place, part_step, source, source_step, end - begin, first, valid, s.parts, s.group)
        if begin > 0:
            _copy_padding(strip, part_step, vector_step, vectors, row, q, begin, tables, channel, s)
        if end < length:
            after, behind = offset(strip, end * n), q + end * step
            _copy_padding(after, part_step, vector_step, vectors, row, behind, length - end, tables, channel, s)
    for i in range(s.picks):
        for v in range(vectors):
            place = offset(target, (v * s.positions + s.positions - s.picks + i) * n)
            first = channel + v * n
            valid = min(n, s.channels - first)
            copy_vector(place, part_step, offset(row, picks[i] * s.source_w), 0, 1, first, valid, s.parts, s.group)


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
