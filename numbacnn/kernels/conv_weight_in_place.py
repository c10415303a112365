"""The weight gradient as outer products of rows read where they lie: of few channels, or close together.

``dW[tap][ci][co]`` sums ``x[position + tap][ci] * dY[position][co]``. A block owns some panels of output channels and
part of the taps and input channels, and keeps their gradient in its thread's scratch (L2) while it walks over the
positions. These are taken a few at a time: which rows of x they read is listed once, their rows of dY are packed, into
L1, and every tap and every group of six input channels runs the outer-product tile over them.

Groups of as many output channels as a vector has lanes go through in pairs: each fills one of a tile's two vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .simd import lanes, load, load_first, splat, store
from .sources import Sources, following_row, locate, put_sources
from .tile import MAX_ROWS, outer_tile, paired_outer_tile

# Positions per step. Loading and storing a tile's twelve accumulators is spread over so many multiply-adds.
POINT_BLOCK = 128
# The scratch: pointers of POINT_BLOCK positions for each tap of a block; packed rows of dY; the gradient.
MAX_TAPS = 32
TABLE_SLOTS = POINT_BLOCK * MAX_TAPS
PACK_SLOTS = POINT_BLOCK * 16
SUM_SLOTS = SCRATCH_SLOTS - TABLE_SLOTS - PACK_SLOTS
TRANSPOSE_COLUMNS = 128  # columns transposed at a time, through a buffer that stays in L1


class InPlaceConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    points: int  # output positions of the whole batch
    groups: int  # or pairs of groups
    run: int  # input channels of one group
    pair: int  # input channels from one group of a pair to the other; 0: groups go through one by one
    group_run: int  # input channels from one group, or pair, to the next
    channels: int  # output channels of one group, or pair
    out_channels: int
    width: int  # lanes of a tile: two vectors, or one if that is enough
    panels: int  # panels of output channels per group
    panel_block: int  # panels of a block, those of all groups numbered through
    panel_blocks: int
    run_block: int  # input channels of a block
    run_blocks: int
    tap_block: int  # taps of a block
    tap_blocks: int
    chunks: int  # parts of the positions, each with a partial sum


@device
def put_inputs(table, first, points, tap, last, source, zeros, s):
    """``table[t][p]``: what the taps from `tap` to `last` read for the positions of a step."""
    n, d, h, w = locate(first, s)
    p = 0
    while p < points:
        count = min(points - p, s.points_w - w)
        put_sources(
            table,
            p,
            POINT_BLOCK,
            count,
            offset(source, n * s.stride_n),
            zeros,
            s.first_d + d * s.slope_d,
            s.first_h + h * s.slope_h,
            s.first_w + w * s.slope_w,
            tap,
            last,
            1,
            s,
        )
        p, w = p + count, 0
        n, d, h = following_row(n, d, h, s)


@device
def _pack_rows(packed, grad_output, points, stride, valid, width):
    """``packed[p][lane]``, zero from lane `valid` on."""
    zero = splat(packed, 0.0)
    for lane in range(0, width, lanes(packed)):
        if lane + lanes(packed) <= valid:
            for p in range(points):
                store(packed, p * width + lane, load(grad_output, p * stride + lane))
        else:
            for p in range(points):
                store(packed, p * width + lane, load_first(grad_output, p * stride + lane, valid - lane, zero))


@kernel
def conv_weight_in_place(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    g: "InPlaceConv",
    s: "Sources",
):
    """One block: a chunk of positions, some panels of output channels, a block of taps and input channels.

    ``partial[chunk][co][ci][tap]`` receives the chunk's sum.
    """
    run_block = block % g.run_blocks
    block //= g.run_blocks
    tap_block = block % g.tap_blocks
    block //= g.tap_blocks
    first_panel = block % g.panel_blocks * g.panel_block
    last_panel = min(first_panel + g.panel_block, g.groups * g.panels)
    chunk = block // g.panel_blocks

    taps = s.taps_d * s.taps_h * s.taps_w
    tap = tap_block * g.tap_block
    last = min(tap + g.tap_block, taps)
    first_run = run_block * g.run_block
    run = min(g.run_block, g.run - first_run)
    packed = cast(offset(scratch, TABLE_SLOTS), grad_output)
    sums = cast(offset(scratch, TABLE_SLOTS + PACK_SLOTS), grad_output)
    panel_sums = (last - tap) * run * g.width

    zero = splat(sums, 0.0)
    for i in range(0, (last_panel - first_panel) * panel_sums, lanes(sums)):
        store(sums, i, zero)
    point = chunk * g.points // g.chunks
    end = (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        put_inputs(scratch, point, points, tap, last, source, zeros, s)
        for panel in range(first_panel, last_panel):
            group, channel, valid = _channels(panel, g)
            row = offset(grad_output, point * g.out_channels + channel)
            _pack_rows(packed, row, points, g.out_channels, valid, g.width)
            into = offset(sums, (panel - first_panel) * panel_sums)
            _add_points(scratch, packed, into, points, last - tap, run, group * g.group_run + first_run, g)
        point += points
    for panel in range(first_panel, last_panel):
        _, channel, valid = _channels(panel, g)
        out = offset(partial, ((chunk * g.groups * g.channels + channel) * g.run + first_run) * taps)
        done = offset(sums, (panel - first_panel) * panel_sums)
        _put_sums(out, done, cast(scratch, sums), run, tap, last, taps, g.run * taps, valid, g.width)


@device
def _channels(panel, g):
    """The group of a panel, its first output channel and how many it has."""
    group = panel // g.panels
    first = (panel - group * g.panels) * g.width
    return group, group * g.channels + first, min(g.width, g.channels - first)


@device
def _add_points(table, packed, sums, points, taps, run, channel, g):
    """Add what some positions contribute to one panel's sums, from channel `channel` of the listed rows on."""
    tiles, wide = (run + MAX_ROWS - 1) // MAX_ROWS, g.width > lanes(sums)
    for t in range(taps):
        pointers = offset(table, t * POINT_BLOCK)
        for tile in range(tiles):
            r = tile * run // tiles
            rows = (tile + 1) * run // tiles - r
            tile_sums = offset(sums, (t * run + r) * g.width)
            if g.pair > 0:
                paired_outer_tile(rows, pointers, points, channel + r, g.pair, packed, g.width, tile_sums, g.width)
            else:
                outer_tile(rows, wide, pointers, points, channel + r, packed, g.width, tile_sums, g.width)


@device
def _put_sums(out, sums, buffer, run, tap, last, taps, row, valid, width):
    """``out[lane][ci][tap] = sums[tap][ci][lane]`` for the block's taps; rows of `out` lie `row` elements apart."""
    count = last - tap
    if count < taps:
        for ci in range(run):
            copy_transposed(
                as_integers(sums), ci * width, run * width, as_integers(out), ci * taps + tap, row, count, valid
            )
        return
    ci, t = 0, 0
    for q in range(0, run * taps, TRANSPOSE_COLUMNS):  # (ci, tap) lie one after the other in a row of `out`
        columns = min(TRANSPOSE_COLUMNS, run * taps - q)
        for column in range(columns):
            for lane in range(0, width, lanes(sums)):
                store(buffer, column * width + lane, load(sums, (t * run + ci) * width + lane))
            t += 1
            if t == taps:
                ci, t = ci + 1, 0
        copy_transposed(as_integers(buffer), 0, width, as_integers(out), q, row, columns, valid)
