"""The weight gradient of small groups, a vector or two of input channels wide: taps share what they multiply.

A block owns some groups with all their taps, and keeps their gradient in its thread's scratch (L2) while it walks over
the positions. These are taken some hundred at a time: which rows of x the taps read for them is listed once for all
groups of the block, and rows of both sides are read where they lie.

Groups of half a vector of input channels go through in pairs, whose output gradients are copied so that those of both
groups take turns. The last two of an odd number are a pair; what it sums once more for the first of them is dropped.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .conv_weight_in_place import MAX_TAPS, PACK_SLOTS, POINT_BLOCK, SUM_SLOTS, TABLE_SLOTS, put_inputs
from .group_tile import GROUP_ROWS, GROUP_TAPS, ROWS, group_outer_tile, pair_outer_tile
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .simd import half, interleaved, lanes, load_like, quarter, splat, store
from .sources import Sources

__all__ = ["GROUP_ROWS", "MAX_TAPS", "PACK_SLOTS", "POINT_BLOCK", "SUM_SLOTS", "GroupsConv", "conv_weight_groups"]

MOST_ROWS = max(ROWS)


class GroupsConv(NamedTuple):
    """Extents and block sizes of one launch."""

    points: int  # output positions of the whole batch
    groups: int
    in_channels: int  # of one group
    out_channels: int  # of one group
    pair: int  # 2: they go through in pairs; 1: one by one
    group_block: int  # groups of a block, or pairs
    group_blocks: int
    chunks: int  # parts of the positions, each with a partial sum


@kernel
def conv_weight_groups(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    g: "GroupsConv",
    s: "Sources",
):
    """One block: a chunk of positions, some groups.

    ``partial[chunk][co][ci][tap]`` receives the chunk's sum.
    """
    chunk = block // g.group_blocks
    first = (block - chunk * g.group_blocks) * g.group_block
    last = min(first + g.group_block, (g.groups + g.pair - 1) // g.pair)
    taps = s.taps_d * s.taps_h * s.taps_w
    pair_sums = g.pair * taps * g.out_channels * g.in_channels
    row = g.groups * g.out_channels

    packed = cast(offset(scratch, TABLE_SLOTS), source)
    sums = cast(offset(scratch, TABLE_SLOTS + PACK_SLOTS), source)
    zero = splat(sums, 0.0)
    for i in range(0, (last - first) * pair_sums, lanes(sums)):
        store(sums, i, zero)
    point, end = chunk * g.points // g.chunks, (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        put_inputs(scratch, point, points, 0, taps, source, zeros, s)
        for i in range(first, last):
            group = min(i * g.pair, g.groups - g.pair)
            y = offset(grad_output, point * row + group * g.out_channels)
            into = offset(sums, (i - first) * pair_sums)
            if g.pair == 2:
                _pack_pair(packed, y, row, points, g.out_channels)
                _add_pair(scratch, packed, points, group * g.in_channels, into, taps, g)
            else:
                _add_group(scratch, y, row, points, group, into, taps, g)
        point += points
    for i in range(first, last):
        group = min(i * g.pair, g.groups - g.pair)
        for k in range(i * g.pair - group, g.pair):
            out = offset(partial, (chunk * g.groups + group + k) * (pair_sums // g.pair))
            _put_group(out, offset(sums, (i - first) * pair_sums + k * g.in_channels), taps, g)


@device
def _pack_pair(packed, y, y_stride, points, channels):
    """``packed[p][c][k]``: output channel c of the pair's group k."""
    two, four = half(y), quarter(y)
    if channels % lanes(two) == 0:
        for p in range(points):
            for c in range(0, channels, lanes(two)):
                a, b = load_like(two, y, p * y_stride + c), load_like(two, y, p * y_stride + channels + c)
                store(packed, 2 * (p * channels + c), interleaved(a, b))
    else:
        for p in range(points):
            for c in range(0, channels, lanes(four)):
                a, b = load_like(four, y, p * y_stride + c), load_like(four, y, p * y_stride + channels + c)
                store(packed, 2 * (p * channels + c), interleaved(a, b))


@device
def _rows(left):
    """Output channels of the next tile when `left` are left."""
    return MOST_ROWS if left >= MOST_ROWS else GROUP_ROWS


@device
def _add_pair(table, y, points, channel, sums, taps, g):
    """Add what some positions contribute to the sums of a pair of groups, whose first input channel is `channel`."""
    row = 2 * g.in_channels
    tap_sums = g.out_channels * row
    for tap in range(0, taps, GROUP_TAPS):
        co = 0
        while co < g.out_channels:
            rows = _rows(g.out_channels - co)
            pair_outer_tile(
                rows, min(GROUP_TAPS, taps - tap), offset(table, tap * POINT_BLOCK), POINT_BLOCK, points, channel,
                offset(y, 2 * co), 2 * g.out_channels, offset(sums, tap * tap_sums + co * row), tap_sums, row,
            )  # fmt: skip
            co += rows


@device
def _add_group(table, y, y_stride, points, group, sums, taps, g):
    """Add what some positions contribute to the sums of a group."""
    tap_sums = g.out_channels * g.in_channels
    for tap in range(0, taps, GROUP_TAPS):
        count = min(GROUP_TAPS, taps - tap)
        co = 0
        while co < g.out_channels:
            rows = _rows(g.out_channels - co)
            for ci in range(0, g.in_channels, lanes(sums)):
                group_outer_tile(
                    rows,
                    count,
                    offset(table, tap * POINT_BLOCK),
                    POINT_BLOCK,
                    points,
                    group * g.in_channels + ci,
                    offset(y, co),
                    y_stride,
                    offset(sums, tap * tap_sums + co * g.in_channels + ci),
                    tap_sums,
                    g.in_channels,
                )
            co += rows


@device
def _put_group(out, sums, taps, g):
    """``out[co][ci][tap] = sums[tap][co][ci]``, for a group whose sums may lie beside another's."""
    row = g.pair * g.in_channels
    step = g.out_channels * row
    for co in range(g.out_channels):
        first = co * g.in_channels
        copy_transposed(as_integers(sums), co * row, step, as_integers(out), first * taps, taps, taps, g.in_channels)
