"""The weight gradient as outer products: ``dW[tap][ci][co] += sum over positions x[position + tap][ci] * dY[position][co]``.

Positions are taken in blocks small enough for L1 and L2; within a block the rows of dY are packed once and every tap,
panel of input channels and panel of output channels runs the outer-product tile over it.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, store_pointer
from .simd import lanes, load, load_first, splat, store
from .tile import MAX_ROWS, outer_tile

POINT_BLOCK = 128  # positions per block: their rows of 64 channels of dY take 32 KiB
TABLE_SLOTS = 4096  # pointers: POINT_BLOCK x taps of one block of taps
PACK_SLOTS = 8192  # 64 KiB for the packed rows of dY
UNPACK_COLUMNS = 128  # columns that unpacking transposes at a time, through a buffer that stays in L1


class WeightConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    out_d: int
    out_h: int
    out_w: int
    points: int  # output positions of the whole batch
    groups: int
    taps_d: int
    taps_h: int
    taps_w: int
    run: int  # input channels of one group
    lanes: int  # output channels of one group
    in_n: int  # input elements per sample
    out_channels: int
    width: int  # lanes of a full tile
    panels: int  # panels of output channels per group
    panel_block: int  # panels whose rows of dY are packed together
    panel_blocks: int
    run_block: int
    run_blocks: int
    tap_block: int
    tap_blocks: int
    chunks: int  # parts of the positions with a partial sum each


@device
def _put_inputs(table, first, points, tap, last, source, zeros, index_d, index_h, index_w, g):
    """``table[t][p]``: what the taps from `tap` to `last` read for the positions of a block."""
    plane = g.out_h * g.out_w
    per_sample = g.out_d * plane
    for p in range(points):
        point = first + p
        n = point // per_sample
        point -= n * per_sample
        d = point // plane
        point -= d * plane
        h = point // g.out_w
        w = point - h * g.out_w
        sample = offset(source, n * g.in_n)
        for t in range(tap, last):
            row = t // g.taps_w
            kd = row // g.taps_h
            offset_d = index_d[d * g.taps_d + kd]
            offset_h = index_h[h * g.taps_h + row - kd * g.taps_h]
            offset_w = index_w[w * g.taps_w + t - row * g.taps_w]
            inside = offset_d >= 0 and offset_h >= 0 and offset_w >= 0
            place = (t - tap) * POINT_BLOCK + p
            store_pointer(table, place, offset(sample, offset_d + offset_h + offset_w) if inside else zeros)


@device
def _pack_rows(packed, grad_output, points, channels, panels, g):
    """``packed[panel][p][lane]``, zero beyond the last channel."""
    zero = splat(packed, 0.0)
    for panel in range(panels):
        valid = min(g.width, channels - panel * g.width)
        for p in range(points):
            place = (panel * POINT_BLOCK + p) * g.width
            origin = p * g.out_channels + panel * g.width
            for lane in range(0, g.width, lanes(packed)):
                if lane + lanes(packed) <= valid:
                    store(packed, place + lane, load(grad_output, origin + lane))
                else:
                    store(packed, place + lane, load_first(grad_output, origin + lane, valid - lane, zero))


@device
def _zero_rows(out, rows, row, count):
    """The first `count` elements of rows that lie `row` apart."""
    zero = splat(out, 0.0)
    for r in range(rows):
        for i in range(0, count, lanes(out)):
            store(out, r * row + i, zero)


@kernel
def conv_weight(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    index_d: "int64*",
    index_h: "int64*",
    index_w: "int64*",
    g: "WeightConv",
):
    """One block: for a chunk of positions, a block of taps, input channels and output channels of one group.

    ``partial[chunk][group][tap][ci][panel * width + lane]`` receives the chunk's sum.
    """
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    run_block = block % g.run_blocks
    block //= g.run_blocks
    tap_block = block % g.tap_blocks
    block //= g.tap_blocks
    group = block % g.groups
    chunk = block // g.groups

    first_panel = panel_block * g.panel_block
    panels = min(g.panel_block, g.panels - first_panel)
    channels = g.lanes - first_panel * g.width
    first_run = run_block * g.run_block
    run = min(g.run_block, g.run - first_run)
    taps = g.taps_d * g.taps_h * g.taps_w
    tap = tap_block * g.tap_block
    last = min(tap + g.tap_block, taps)
    row = g.panels * g.width
    out = offset(partial, (((chunk * g.groups + group) * taps + tap) * g.run + first_run) * row + first_panel * g.width)
    table = scratch
    packed = cast(offset(scratch, TABLE_SLOTS), grad_output)
    tiles = (run + MAX_ROWS - 1) // MAX_ROWS

    for t in range(last - tap):
        _zero_rows(offset(out, t * g.run * row), run, row, panels * g.width)
    point = chunk * g.points // g.chunks
    end = (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        rows = offset(grad_output, point * g.out_channels + group * g.lanes + first_panel * g.width)
        _pack_rows(packed, rows, points, channels, panels, g)
        _put_inputs(table, point, points, tap, last, source, zeros, index_d, index_h, index_w, g)
        for t in range(last - tap):
            for panel in range(panels):
                for tile in range(tiles):
                    r = tile * run // tiles
                    outer_tile(
                        (tile + 1) * run // tiles - r,
                        offset(table, t * POINT_BLOCK),
                        points,
                        group * g.run + first_run + r,
                        offset(packed, panel * POINT_BLOCK * g.width),
                        g.width,
                        offset(out, (t * g.run + r) * row + panel * g.width),
                        row,
                    )
        point += points


@kernel
def unpack_weight(
    block,
    scratch,
    partial: "T*",
    out: "T*",
    chunks: "int64",
    chunk_stride: "int64",
    taps: "int64",
    run: "int64",
    channels: "int64",
    width: "int64",
    panels: "int64",
):
    """One block: one panel of output channels: the chunks added in order and transposed to ``out[co][ci][tap]``."""
    group = block // panels
    panel = block - group * panels
    row = panels * width
    valid = min(width, channels - panel * width)
    source = offset(partial, group * taps * run * row + panel * width)
    rows = offset(out, (group * channels + panel * width) * run * taps)
    buffer = cast(scratch, partial)
    ci, tap = 0, 0
    for q in range(0, run * taps, UNPACK_COLUMNS):
        columns = min(UNPACK_COLUMNS, run * taps - q)
        for column in range(columns):
            origin = (tap * run + ci) * row
            for lane in range(0, width, lanes(source)):
                total = load(source, origin + lane)
                for chunk in range(1, chunks):
                    total += load(source, chunk * chunk_stride + origin + lane)
                store(buffer, column * width + lane, total)
            tap += 1
            if tap == taps:
                ci, tap = ci + 1, 0
        copy_transposed(as_integers(buffer), 0, width, as_integers(rows), q, run * taps, columns, valid)
