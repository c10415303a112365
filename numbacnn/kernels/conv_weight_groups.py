"""The weight gradient of small groups, a vector or two of input channels wide: taps share what they multiply.

A block owns some groups with all their taps, and keeps their gradient in its thread's scratch (L2) while it walks over
the positions. These are taken some hundred at a time: which rows of x the taps read for them is listed once for all
groups of the block, and rows of both sides are read where they lie.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .conv_weight_in_place import MAX_TAPS, POINT_BLOCK, SUM_SLOTS, TABLE_SLOTS, put_inputs
from .group_tile import GROUP_ROWS, GROUP_TAPS, group_outer_tile
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .simd import lanes, splat, store
from .sources import Sources

__all__ = ["GROUP_ROWS", "MAX_TAPS", "POINT_BLOCK", "SUM_SLOTS", "GroupsConv", "conv_weight_groups"]


class GroupsConv(NamedTuple):
    """Extents and block sizes of one launch."""

    points: int  # output positions of the whole batch
    groups: int
    in_channels: int  # of one group
    out_channels: int  # of one group
    group_block: int  # groups of a block
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
    first_group = (block - chunk * g.group_blocks) * g.group_block
    last_group = min(first_group + g.group_block, g.groups)
    taps = s.taps_d * s.taps_h * s.taps_w
    group_sums = taps * g.out_channels * g.in_channels
    row = g.groups * g.out_channels

    sums = cast(offset(scratch, TABLE_SLOTS), source)
    zero = splat(sums, 0.0)
    for i in range(0, (last_group - first_group) * group_sums, lanes(sums)):
        store(sums, i, zero)
    point, end = chunk * g.points // g.chunks, (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        put_inputs(scratch, point, points, 0, taps, source, zeros, s)
        for group in range(first_group, last_group):
            y = offset(grad_output, point * row + group * g.out_channels)
            _add_group(scratch, y, row, points, group, offset(sums, (group - first_group) * group_sums), taps, g)
        point += points
    for group in range(first_group, last_group):
        out = offset(partial, (chunk * g.groups + group) * group_sums)
        _put_group(out, offset(sums, (group - first_group) * group_sums), taps, g)


@device
def _add_group(table, y, y_stride, points, group, sums, taps, g):
    """Add what some positions contribute to the sums of a group."""
    tap_sums = g.out_channels * g.in_channels
    for tap in range(0, taps, GROUP_TAPS):
        count = min(GROUP_TAPS, taps - tap)
        for co in range(0, g.out_channels, GROUP_ROWS):
            for ci in range(0, g.in_channels, lanes(sums)):
                group_outer_tile(
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


@device
def _put_group(out, sums, taps, g):
    """``out[co][ci][tap] = sums[tap][co][ci]``."""
    step = g.out_channels * g.in_channels
    for co in range(g.out_channels):
        first = co * g.in_channels
        copy_transposed(as_integers(sums), first, step, as_integers(out), first * taps, taps, taps, g.in_channels)
