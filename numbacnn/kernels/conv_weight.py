"""The weight gradient as outer products: ``dW[tap][ci][co] += sum over positions x[position + tap][ci] * dY[position][co]``.

Positions are taken in blocks small enough for L1 and L2; within a block the rows of dY are packed once and every tap,
panel of input channels and panel of output channels runs the outer-product tile over it.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .pointer import cast, offset, store_pointer
from .tile import MAX_ROWS, outer_tile

POINT_BLOCK = 128  # positions per block: their rows of 64 channels of dY take 32 KiB
TABLE_SLOTS = 4096  # pointers: POINT_BLOCK x taps of one block of taps
PACK_SLOTS = 8192  # 64 KiB for the packed rows of dY


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
def _pack_rows(packed, grad_output, points, lanes, panels, g):
    """``packed[panel][p][lane]``, zero beyond the last lane."""
    for panel in range(panels):
        valid = min(g.width, lanes - panel * g.width)
        for p in range(points):
            place = (panel * POINT_BLOCK + p) * g.width
            origin = p * g.out_channels + panel * g.width
            for lane in range(valid):
                packed[place + lane] = grad_output[origin + lane]
            for lane in range(valid, g.width):
                packed[place + lane] = 0


@device
def _zero(out, count):
    for i in range(count):
        out[i] = 0


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
    lanes = g.lanes - first_panel * g.width
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
        for r in range(run):
            _zero(offset(out, (t * g.run + r) * row), panels * g.width)
    point = chunk * g.points // g.chunks
    end = (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        rows = offset(grad_output, point * g.out_channels + group * g.lanes + first_panel * g.width)
        _pack_rows(packed, rows, points, lanes, panels, g)
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
def unpack_weight(block, partial: "T[:, :, :, :, :]", out: "T[:, :, :]", chunks: "int64"):
    """One block: the gradient of one output channel, chunks added in order, ``out[co][ci][tap]``.

    `partial` is (chunk, group, tap, ci, lane).
    """
    groups = partial.shape[1]
    lanes = out.shape[0] // groups
    group = block // lanes
    lane = block - group * lanes
    for ci in range(out.shape[1]):
        for tap in range(out.shape[2]):
            total = partial[0, group, tap, ci, lane]
            for chunk in range(1, chunks):
                total += partial[chunk, group, tap, ci, lane]
            out[block, ci, tap] = total
