"""Depthwise convolution over channels-last memory, forward and data gradient: every channel by itself.

Destination rows are computed one after the other. Along depth and height a list per destination coordinate says which
kernel taps meet it and what they read, so padding modes, strides and dilation cost nothing there. Along the width the
destination is cut into phases (one, except in the data gradient of a strided convolution); each has a regular interior,
where register tiles run with constant steps and no test, and points at either side that follow their lists.

Channels are taken in vectors. The last vector is moved back so that it ends with the last channel: what it overlaps is
computed twice, with the same result. Only where there are fewer channels than lanes are loads and stores masked.

With a multiplier m, output channels ``c*m .. c*m + m - 1`` belong to input channel c. Forward then runs once per
j < m and stores with stride m; the data gradient runs over the channels of the output and adds up m at a time.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .depthwise_tile import four_vectors, next_points, one_point, one_point_narrow, points_tile
from .pointer import cast, offset, stack_slots, store_pointer
from .simd import lanes, load, store, store_first

TABLE_ROWS = 2048  # kernel rows (depth x height) that one destination row may meet: 32 KiB of stack
MAX_POINTS = 8

# Columns of the table of phases.
START, STEP, POINTS, BEGIN, END, SOURCE, WEIGHT, TAPS, WEIGHT_STEP, PHASE_COLUMNS = range(10)


class Depthwise(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    planes: int  # destination planes per sample, rows per plane
    rows: int
    segments: int  # parts that a row is cut into, and points (of each phase) of one part
    segment: int
    units: int  # segments of the whole batch
    unit_blocks: int
    phases: int
    point_step: int  # source elements between points and between taps, in the interior
    tap_step: int
    taps: int  # of the whole kernel
    channels: int  # channels of the source
    multiplier: int
    vectors: int
    chunk: int  # vectors of channels that a block of units is computed for
    chunks: int
    band: int  # vectors of channels that a row is computed for at a time
    source_n: int  # source elements per sample
    out_n: int  # destination elements between samples, planes, rows, positions
    out_d: int
    out_h: int
    out_w: int


_table = stack_slots(2 * TABLE_ROWS)
_tile = stack_slots(MAX_POINTS * 8)  # one vector of any machine for each point
_sums = stack_slots(MAX_POINTS * 8)


@device
def put_rows(table, sample, d, h, starts_d, entries_d, starts_h, entries_h):
    """List the kernel rows that destination row (d, h) meets: pointer to the source row, offset of the weights."""
    rows = 0
    for i in range(starts_d[d], starts_d[d + 1]):
        for j in range(starts_h[h], starts_h[h + 1]):
            store_pointer(table, 2 * rows, offset(sample, entries_d[2 * i + 1] + entries_h[2 * j + 1]))
            table[2 * rows + 1] = entries_d[2 * i] + entries_h[2 * j]
            rows += 1
    return rows


@device
def vector_channel(v, channels, width):
    """First channel of vector number `v`."""
    return max(0, min(v * width, channels - width))


@device
def _single(table, rows, v, last_v, entries, first, last, weight, bias, out, g):
    """One point, the vectors of channels from `v` to `last_v`."""
    n = lanes(out)
    w_vector = g.taps * n
    while v < last_v:
        w, start = offset(weight, v * w_vector), offset(bias, v * n)
        if v + 4 <= last_v and (v + 4) * n <= g.channels:
            four_vectors(table, rows, v * n, entries, first, last, w, w_vector, start, offset(out, v * n))
            v += 4
        elif g.channels < n:
            total = one_point_narrow(table, rows, g.channels, entries, first, last, w, start)
            store_first(out, 0, total, g.channels)
            v += 1
        else:
            c = vector_channel(v, g.channels, n)
            store(out, c, one_point(table, rows, c, entries, first, last, w, start))
            v += 1


@device
def _phase(table, rows, low, high, v, last_v, phase, starts, entries, weight, bias, out, g):
    """The points from `low` to `high` of one phase of a row."""
    n = lanes(out)
    begin, end = phase[BEGIN], phase[END]
    if g.channels < n:
        end = begin
    p = low
    while p < high:
        p, points = next_points(p, low, high, begin, end)
        w = phase[START] + p * phase[STEP]
        target = offset(out, w * g.out_w)
        if points == 1:
            _single(table, rows, v, last_v, entries, starts[w], starts[w + 1], weight, bias, target, g)
        else:
            x_offset = phase[SOURCE] + (p - begin) * g.point_step
            for u in range(v, last_v):
                c = vector_channel(u, g.channels, n)
                points_tile(
                    points,
                    table,
                    rows,
                    x_offset + c,
                    g.point_step,
                    g.tap_step,
                    phase[TAPS],
                    offset(weight, u * g.taps * n + phase[WEIGHT]),
                    phase[WEIGHT_STEP],
                    offset(bias, u * n),
                    offset(target, c),
                    phase[STEP] * g.out_w,
                )
        p += points


@device
def _place(unit, g):
    """Sample, plane, row and segment of a unit."""
    row = unit // g.segments
    h = row % g.rows
    row //= g.rows
    n = row // g.planes
    return n, row - n * g.planes, h, unit % g.segments


@kernel
def conv_depthwise(
    block,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    starts_d: "int64*",
    entries_d: "int64*",
    starts_h: "int64*",
    entries_h: "int64*",
    starts_w: "int64*",
    entries_w: "int64*",
    phases: "int64*",
    g: "Depthwise",
):
    """One block: a range of units x a chunk of channels, multiplier 1.

    Destination coordinate q of an axis meets the taps ``entries[starts[q]] .. entries[starts[q + 1]]``, pairs of
    offsets into the weights and into the source. Weights are packed by `pack_depthwise`.
    """
    chunk = block % g.chunks
    block //= g.chunks
    first_v = chunk * g.chunk
    end_v = min(first_v + g.chunk, g.vectors)
    table = _table()
    for unit in range(block * g.units // g.unit_blocks, (block + 1) * g.units // g.unit_blocks):
        n, d, h, segment = _place(unit, g)
        rows = put_rows(table, offset(source, n * g.source_n), d, h, starts_d, entries_d, starts_h, entries_h)
        target = offset(out, n * g.out_n + d * g.out_d + h * g.out_h)
        for v in range(first_v, end_v, g.band):
            last_v = min(v + g.band, end_v)
            for i in range(g.phases):
                phase = offset(phases, i * PHASE_COLUMNS)
                low = segment * g.segment
                high = min(low + g.segment, phase[POINTS])
                _phase(table, rows, low, high, v, last_v, phase, starts_w, entries_w, weight, bias, target, g)


@device
def _vector(points, p, w, u, c, table, rows, phase, starts, entries, weight, start, tile, g):
    """One vector of channels of one or several points, into consecutive vectors of `tile`."""
    n = lanes(tile)
    if points > 1:
        points_tile(
            points,
            table,
            rows,
            phase[SOURCE] + (p - phase[BEGIN]) * g.point_step + c,
            g.point_step,
            g.tap_step,
            phase[TAPS],
            offset(weight, u * g.taps * n + phase[WEIGHT]),
            phase[WEIGHT_STEP],
            start,
            tile,
            n,
        )
    elif g.channels < n:
        first, last = starts[w], starts[w + 1]
        store(tile, 0, one_point_narrow(table, rows, g.channels, entries, first, last, weight, start))
    else:
        w_vector = offset(weight, u * g.taps * n)
        store(tile, 0, one_point(table, rows, c, entries, starts[w], starts[w + 1], w_vector, start))


@kernel
def conv_depthwise_expand(
    block,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    starts_d: "int64*",
    entries_d: "int64*",
    starts_h: "int64*",
    entries_h: "int64*",
    starts_w: "int64*",
    entries_w: "int64*",
    phases: "int64*",
    g: "Depthwise",
):
    """One block: a range of units, forward with a multiplier; see `conv_depthwise`. Weights are [j][vector][tap]."""
    n = lanes(out)
    width = min(n, g.channels)
    table = _table()
    tile = cast(_tile(), out)
    for unit in range(block * g.units // g.unit_blocks, (block + 1) * g.units // g.unit_blocks):
        sample, d, h, segment = _place(unit, g)
        rows = put_rows(table, offset(source, sample * g.source_n), d, h, starts_d, entries_d, starts_h, entries_h)
        target = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h)
        for i in range(g.phases):
            phase = offset(phases, i * PHASE_COLUMNS)
            begin, end = phase[BEGIN], phase[END]
            if g.channels < n:
                end = begin
            low = segment * g.segment
            high = min(low + g.segment, phase[POINTS])
            p = low
            while p < high:
                p, points = next_points(p, low, high, begin, end)
                w = phase[START] + p * phase[STEP]
                for u in range(g.vectors):
                    c = vector_channel(u, g.channels, n)
                    for j in range(g.multiplier):
                        panel = j * g.vectors
                        weight_j = offset(weight, panel * g.taps * n)
                        start = offset(bias, (panel + u) * n)
                        _vector(points, p, w, u, c, table, rows, phase, starts_w, entries_w, weight_j, start, tile, g)
                        for k in range(points):
                            place = (w + k * phase[STEP]) * g.out_w + c * g.multiplier + j
                            for lane in range(width):
                                target[place + lane * g.multiplier] = tile[k * n + lane]
                p += points


@kernel
def conv_depthwise_contract(
    block,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    starts_d: "int64*",
    entries_d: "int64*",
    starts_h: "int64*",
    entries_h: "int64*",
    starts_w: "int64*",
    entries_w: "int64*",
    phases: "int64*",
    zeros: "T*",
    g: "Depthwise",
):
    """One block: a range of units, data gradient with a multiplier; see `conv_depthwise`.

    Every `multiplier` vectors of source channels give one vector of destination channels.
    """
    n = lanes(out)
    width = min(n, g.channels)
    table = _table()
    tile = cast(_tile(), out)
    sums = cast(_sums(), out)
    for unit in range(block * g.units // g.unit_blocks, (block + 1) * g.units // g.unit_blocks):
        sample, d, h, segment = _place(unit, g)
        rows = put_rows(table, offset(source, sample * g.source_n), d, h, starts_d, entries_d, starts_h, entries_h)
        target = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h)
        for i in range(g.phases):
            phase = offset(phases, i * PHASE_COLUMNS)
            begin, end = phase[BEGIN], phase[END]
            if g.channels < n:
                end = begin
            low = segment * g.segment
            high = min(low + g.segment, phase[POINTS])
            p = low
            while p < high:
                p, points = next_points(p, low, high, begin, end)
                w = phase[START] + p * phase[STEP]
                for first in range(0, g.vectors, g.multiplier):
                    base = first // g.multiplier * n  # destination channel
                    for k in range(points):
                        for lane in range(min(n, g.channels // g.multiplier - base)):
                            sums[k * n + lane] = bias[base + lane]
                    for u in range(first, min(first + g.multiplier, g.vectors)):
                        c = vector_channel(u, g.channels, n)
                        _vector(points, p, w, u, c, table, rows, phase, starts_w, entries_w, weight, zeros, tile, g)
                        for k in range(points):
                            for lane in range(u * n - c, width):  # those before were counted with the last vector
                                sums[k * n + (c + lane) // g.multiplier - base] += tile[k * n + lane]
                    for k in range(points):
                        place = (w + k * phase[STEP]) * g.out_w + base
                        for lane in range(min(n, g.channels // g.multiplier - base)):
                            target[place + lane] = sums[k * n + lane]
                p += points


@kernel
def pack_depthwise(
    block, weight: "T*", packed: "T*", taps: "int64", channels: "int64", stride: "int64", vectors: "int64"
):
    """One block: one vector, ``packed[j][vector][tap][lane] = weight[channel * stride + j][tap]``; no channel: zero."""
    n = lanes(packed)
    j = block // vectors
    c = vector_channel(block - j * vectors, channels, n)
    valid = min(n, channels)
    out = offset(packed, block * taps * n)
    for lane in range(valid):
        row = offset(weight, ((c + lane) * stride + j) * taps)
        for t in range(taps):
            out[t * n + lane] = row[t]
    for lane in range(valid, n):
        for t in range(taps):
            out[t * n + lane] = 0
