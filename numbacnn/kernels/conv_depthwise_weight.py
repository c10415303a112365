"""The weight gradient of depthwise convolution straight from channels-last memory.

``dW[c][tap] = sum over points  x[point + tap][c] * dY[point][c]``. Along the width, neighbouring points that read the
same taps inside the source form a zone: most of the row, and a few columns at its ends. Up to nine taps of a vector of
channels, three of each of three kernel rows, stay in registers while the points of a zone pass by.

The rows are cut into chunks with partial sums of their own, which are added in order at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .conv_depthwise import place_of, points_before, positions_of, put_rows, unit_of
from .layout import copy_transposed
from .line_tile import ALONE_TAPS, WEIGHT_ROWS, WEIGHT_TAPS, line_weight_tile
from .pointer import as_integers, offset
from .simd import lanes, load, splat, store

# Columns of the table of zones: points POINT .. POINT + POINTS, of which tap TAP + t reads SOURCE + stride * point +
# dilation * t.
POINT, POINTS, SOURCE, TAP, TAPS, ZONE_FIELDS = range(6)


class ChannelSums(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    planes: int  # output planes per sample, rows per plane
    rows: int
    band: int  # see `conv_depthwise.Direct`
    bands: int
    phase: int
    segments: int
    units: int
    chunks: int
    channels: int
    vectors: int  # of a position
    vector_blocks: int
    pass_vectors: int  # vectors that pass over a block's rows together
    taps: int  # of the kernel, and of one of its rows
    row_taps: int
    stride: int  # along the width
    dilation: int
    zones: int
    source_n: int  # input elements between samples, planes, rows, positions
    source_d: int
    source_h: int
    out_n: int
    out_d: int
    out_h: int


@device
def _add_zone(table, rows, zone, begin, end, first, last, grad_output, sums, g):
    """A zone's points between two positions, for some vectors of channels, a few kernel rows and taps at a time."""
    n = lanes(sums)
    before = points_before(begin, zone[POINT], 1, zone[POINTS])
    points = points_before(end, zone[POINT], 1, zone[POINTS]) - before
    if points == 0:
        return
    source = zone[SOURCE] + g.stride * before
    moved = int(last * n > g.channels)  # whether the last vector is moved back
    most = ALONE_TAPS if rows == 1 else WEIGHT_TAPS
    row_parts, tap_parts = (rows + WEIGHT_ROWS - 1) // WEIGHT_ROWS, (zone[TAPS] + most - 1) // most
    for i in range((row_parts * tap_parts) << moved):
        part, lone = i >> moved, i & moved
        row_part = part // tap_parts
        tap_part = part - row_part * tap_parts
        row, tap = row_part * rows // row_parts, tap_part * zone[TAPS] // tap_parts
        v = last - 1 if lone else first
        c = g.channels - n if lone else first * n
        line_weight_tile(
            (row_part + 1) * rows // row_parts - row,
            (tap_part + 1) * zone[TAPS] // tap_parts - tap,
            offset(table, 2 * row),
            points,
            1 if lone else last - first - moved,
            (source + g.dilation * tap) * g.channels + c,
            g.stride * g.channels,
            g.dilation * g.channels,
            offset(grad_output, (zone[POINT] + before) * g.channels + c),
            g.channels,
            sums,
            (v * g.taps + zone[TAP] + tap) * n,
            g.taps * n,
        )


@kernel
def conv_depthwise_weight(
    block,
    scratch,
    x: "T*",
    grad_output: "T*",
    partial: "T*",
    lists_d: "int64*",
    lists_h: "int64*",
    zones: "int64*",
    g: "ChannelSums",
):
    """One block: a chunk of output rows x a range of vectors, into ``partial[chunk][vector][tap][lane]``.

    ``lists_*`` are those of `conv_depthwise`.
    """
    n = lanes(partial)
    chunk = block // g.vector_blocks
    vector_block = block - chunk * g.vector_blocks
    begin, end = vector_block * g.vectors // g.vector_blocks, (vector_block + 1) * g.vectors // g.vector_blocks
    sums = offset(partial, chunk * g.vectors * g.taps * n)
    zero = splat(sums, 0)
    for i in range(begin * g.taps * n, end * g.taps * n, n):
        store(sums, i, zero)
    for first in range(begin, end, g.pass_vectors):
        last = min(first + g.pass_vectors, end)
        for unit in range(unit_of(chunk, g.chunks, g), unit_of(chunk + 1, g.chunks, g)):
            sample, d, h, segment = place_of(unit, g)
            if h >= g.rows:
                continue
            width = g.row_taps * n
            rows = put_rows(scratch, offset(x, sample * g.source_n), d, h, width, lists_d, lists_h, g)
            row = offset(grad_output, sample * g.out_n + d * g.out_d + h * g.out_h)
            from_position, to_position = positions_of(segment, g.out_h // g.channels, g)
            for i in range(g.zones):
                zone = offset(zones, i * ZONE_FIELDS)
                _add_zone(scratch, rows, zone, from_position, to_position, first, last, row, sums, g)


@kernel
def combine_channels(block, partial: "T*", out: "T*", taps: "int64", channels: "int64", chunks: "int64", step: "int64"):
    """One block: the sums of `step` vectors, chunks added in order, ``out[channel][tap]``."""
    n = lanes(partial)
    vectors = (channels + n - 1) // n
    size = taps * n
    for v in range(block * step, min((block + 1) * step, vectors)):
        sums = offset(partial, v * size)
        for i in range(0, size, n):
            total = load(sums, i)
            for chunk in range(1, chunks):
                total += load(sums, chunk * vectors * size + i)
            store(sums, i, total)
        channel = min(v * n, channels - n)
        copy_transposed(as_integers(sums), 0, n, as_integers(out), channel * taps, taps, taps, n)
