"""The weight gradient of depthwise convolution: ``dW[c][tap] = sum over points  x[point + tap][c] * dY[point][c]``.

The points are cut into chunks with partial sums of their own, which are added in order at the end. Within a chunk a few
rows at a time stay in L1 while every kernel tap of one or two vectors of channels passes over them: the taps
of a kernel row in registers where the input is regular (see `conv_depthwise`), one by one at the borders.

With a multiplier, or fewer channels than lanes, the gradient's lanes are first copied side by side into a buffer.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .conv_depthwise import BEGIN, END, SOURCE, TAPS, WEIGHT, vector_channel
from .depthwise_tile import WEIGHT_TAPS, weight_tile
from .pointer import cast, load_pointer, offset, stack_slots, store_pointer
from .simd import fma, lanes, load, load_first, splat, store

TABLE_PAIRS = 2048  # rows of points x kernel rows
GROUP_POINTS = 512  # points that are done together: those of the buffer


class DepthwiseWeight(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    planes: int  # output planes per sample, rows per plane
    rows: int
    segments: int  # parts that a row is cut into, and points of one part
    segment: int
    points: int  # points of a row
    units: int  # segments of the whole batch
    group: int  # units that are done together
    chunks: int  # parts of the units with a partial sum each
    vector_blocks: int
    taps_d: int
    taps_h: int
    taps_w: int
    point_step: int  # input elements between points and between taps
    tap_step: int
    channels: int  # of the input
    multiplier: int
    vectors: int
    staged: int  # whether the gradient goes through the buffer
    in_n: int
    out_n: int
    out_d: int
    out_h: int
    out_w: int


_table = stack_slots(2 * TABLE_PAIRS)
_counts = stack_slots(TABLE_PAIRS)
_buffer = stack_slots(GROUP_POINTS * 8)  # one vector of any machine for each point


@device
def _put_pairs(table, counts, unit, count, x, y, y_row, index_d, index_h, g):
    """For every kernel row the rows of points that it meets: pointers to the input and to the gradient.

    The gradient's rows are where they lie in `y` if `y_row` is 0, else `y_row` elements apart from its begin on.
    """
    for kernel_row in range(g.taps_d * g.taps_h):
        kd = kernel_row // g.taps_h
        kh = kernel_row - kd * g.taps_h
        pairs = 0
        for i in range(count):
            row = (unit + i) // g.segments
            h = row % g.rows
            row //= g.rows
            n = row // g.planes
            d = row - n * g.planes
            offset_d, offset_h = index_d[d * g.taps_d + kd], index_h[h * g.taps_h + kh]
            if offset_d >= 0 and offset_h >= 0:
                place = 2 * (kernel_row * g.group + pairs)
                y_offset = i * y_row if y_row else n * g.out_n + d * g.out_d + h * g.out_h
                store_pointer(table, place, offset(x, n * g.in_n + offset_d + offset_h))
                store_pointer(table, place + 1, offset(y, y_offset))
                pairs += 1
        counts[kernel_row] = pairs


@device
def _stage(buffer, y, unit, count, low, high, c, j, g):
    """Copy the lanes ``(c + lane) * multiplier + j`` of the gradient of a group, missing ones as zeros."""
    n = lanes(buffer)
    valid = min(n, g.channels)
    for i in range(count):
        row = (unit + i) // g.segments
        h = row % g.rows
        row //= g.rows
        sample = row // g.planes
        start = sample * g.out_n + (row - sample * g.planes) * g.out_d + h * g.out_h + c * g.multiplier + j
        for p in range(low, high):
            place = (i * g.segment + p - low) * n
            for lane in range(valid):
                buffer[place + lane] = y[start + p * g.out_w + lane * g.multiplier]
            for lane in range(valid, n):
                buffer[place + lane] = 0


@device
def _border(table, pairs, low, high, c, y_offset, y_step, starts, entries, sums, g):
    """Add the points from `low` to `high`, each with the taps listed for it, to one vector of sums per tap."""
    n = lanes(sums)
    zero = splat(sums, 0)
    for pair in range(pairs):
        x = load_pointer(table, 2 * pair, sums)
        y = offset(load_pointer(table, 2 * pair + 1, sums), y_offset)
        for p in range(low, high):
            factor = load(y, p * y_step)
            for i in range(starts[p], starts[p + 1]):
                tap, place = entries[2 * i], entries[2 * i + 1]
                value = load_first(x, place, g.channels, zero) if g.channels < n else load(x, place + c)
                store(sums, tap, fma(value, factor, load(sums, tap)))


@device
def _interior(table, pairs, wide, low, high, c, y_offset, y_step, interior, sums, sums_vector, g):
    """Add the regular points from `low` to `high`, all taps of a kernel row."""
    n = lanes(sums)
    taps = interior[TAPS]
    parts = (taps + WEIGHT_TAPS - 1) // WEIGHT_TAPS
    x_offset = interior[SOURCE] + (low - interior[BEGIN]) * g.point_step + c
    for part in range(parts):
        first = part * taps // parts
        weight_tile(
            (part + 1) * taps // parts - first,
            wide,
            table,
            pairs,
            x_offset + first * g.tap_step,
            y_offset + low * y_step,
            high - low,
            g.point_step,
            g.tap_step,
            y_step,
            offset(sums, interior[WEIGHT] + first * n),
            sums_vector,
        )


@device
def _kernel_rows(table, counts, wide, low, high, c, y_offset, y_step, starts, entries, interior, sums, g):
    """Add a group of units to the sums of one or two vectors of channels."""
    n = lanes(sums)
    vector_elements = g.taps_d * g.taps_h * g.taps_w * n
    begin, end = max(low, interior[BEGIN]), min(high, interior[END])
    if begin >= end or g.channels < n:
        begin = end = high
    for kernel_row in range(g.taps_d * g.taps_h):
        pairs = counts[kernel_row]
        rows = offset(table, 2 * kernel_row * g.group)
        row_sums = offset(sums, kernel_row * g.taps_w * n)
        if begin < end:
            _interior(rows, pairs, wide, begin, end, c, y_offset, y_step, interior, row_sums, vector_elements, g)
        for v in range(1 + wide):
            shift = v * n
            sums_v = offset(row_sums, v * vector_elements)
            _border(rows, pairs, low, begin, c + shift, y_offset + shift, y_step, starts, entries, sums_v, g)
            _border(rows, pairs, end, high, c + shift, y_offset + shift, y_step, starts, entries, sums_v, g)


@kernel
def conv_depthwise_weight(
    block,
    x: "T*",
    grad_output: "T*",
    partial: "T*",
    index_d: "int64*",
    index_h: "int64*",
    starts_w: "int64*",
    entries_w: "int64*",
    interior: "int64*",
    g: "DepthwiseWeight",
):
    """One block: a chunk of units x a range of vectors of channels, into ``partial[chunk][j][vector][tap][lane]``."""
    chunk = block % g.chunks
    block //= g.chunks
    n = lanes(partial)
    vector_elements = g.taps_d * g.taps_h * g.taps_w * n
    first_v, last_v = block * g.vectors // g.vector_blocks, (block + 1) * g.vectors // g.vector_blocks
    unit, end_unit = chunk * g.units // g.chunks, (chunk + 1) * g.units // g.chunks
    table, counts = _table(), _counts()
    buffer = cast(_buffer(), partial)

    for j in range(g.multiplier):
        sums = offset(partial, ((chunk * g.multiplier + j) * g.vectors + first_v) * vector_elements)
        for i in range((last_v - first_v) * vector_elements):
            sums[i] = 0
    while unit < end_unit:
        count = min(g.group, end_unit - unit)
        low = unit % g.segments * g.segment
        high = min(low + g.segment, g.points)
        if g.staged:
            _put_pairs(table, counts, unit, count, x, buffer, g.segment * n, index_d, index_h, g)
        else:
            _put_pairs(table, counts, unit, count, x, grad_output, 0, index_d, index_h, g)
        for j in range(g.multiplier):
            v = first_v
            while v < last_v:
                c = vector_channel(v, g.channels, n)
                sums = offset(partial, ((chunk * g.multiplier + j) * g.vectors + v) * vector_elements)
                if g.staged:
                    _stage(buffer, grad_output, unit, count, low, high, c, j, g)
                    _kernel_rows(table, counts, 0, low, high, c, -low * n, n, starts_w, entries_w, interior, sums, g)
                    v += 1
                else:
                    wide = 1 if v + 2 <= last_v and (v + 2) * n <= g.channels else 0
                    _kernel_rows(table, counts, wide, low, high, c, c, g.out_w, starts_w, entries_w, interior, sums, g)
                    v += 1 + wide
        unit += count


@kernel
def combine_depthwise(
    block,
    partial: "T*",
    out: "T*",
    taps: "int64",
    channels: "int64",
    multiplier: "int64",
    vectors: "int64",
    chunks: "int64",
):
    """One block: the sums of one vector, chunks added in order, ``out[c * multiplier + j][tap]``."""
    n = lanes(partial)
    j = block // vectors
    v = block - j * vectors
    c = vector_channel(v, channels, n)
    chunk_elements = multiplier * vectors * taps * n
    sums = offset(partial, block * taps * n)
    for t in range(taps):
        total = load(sums, t * n)
        for chunk in range(1, chunks):
            total += load(sums, chunk * chunk_elements + t * n)
        store(sums, t * n, total)
    for lane in range(v * n - c, min(n, channels)):
        row = offset(out, ((c + lane) * multiplier + j) * taps)
        for t in range(taps):
            row[t] = sums[t * n + lane]
