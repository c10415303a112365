"""The weight gradient as outer products: ``dW[tap][ci][co]`` sums ``x[position + tap][ci] * dY[position][co]``.

A block owns one panel of output channels and part of the taps and input channels, and keeps their gradient in its
thread's scratch (L2) while it walks over the positions. These are taken a few at a time: their rows of dY are packed
once, into L1, and every tap and every group of six input channels runs the outer-product tile over them.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, store_pointer
from .simd import lanes, load, load_first, splat, store
from .tile import MAX_ROWS, outer_tile

# Positions per step. Loading and storing a tile's twelve accumulators is spread over so many multiply-adds.
POINT_BLOCK = 128
# The scratch: pointers of POINT_BLOCK positions for each tap of a block; packed rows of dY; the gradient.
MAX_TAPS = 32
TABLE_SLOTS = POINT_BLOCK * MAX_TAPS
PACK_SLOTS = POINT_BLOCK * 16
SUM_SLOTS = 20 * 1024
TRANSPOSE_COLUMNS = 128  # columns transposed at a time, through a buffer that stays in L1


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
    channels: int  # output channels of one group
    in_n: int  # input elements per sample
    out_channels: int
    width: int  # lanes of a full tile
    panels: int  # panels of output channels per group
    run_block: int  # input channels of a block
    run_blocks: int
    tap_block: int  # taps of a block
    tap_blocks: int
    chunks: int  # parts of the positions, each with a partial sum


@device
def _put_inputs(table, first, points, tap, last, source, zeros, index_d, index_h, index_w, g):
    """``table[t][p]``: what the taps from `tap` to `last` read for the positions of a step."""
    plane = g.out_h * g.out_w
    n = first // (g.out_d * plane)
    first -= n * g.out_d * plane
    d = first // plane
    first -= d * plane
    h = first // g.out_w
    w = first - h * g.out_w
    for p in range(points):
        sample = offset(source, n * g.in_n)
        place = p
        row = tap // g.taps_w
        kw = tap - row * g.taps_w
        kd = row // g.taps_h
        kh = row - kd * g.taps_h
        t = tap
        while t < last:
            offset_d = index_d[d * g.taps_d + kd]
            offset_h = index_h[h * g.taps_h + kh]
            inside = offset_d >= 0 and offset_h >= 0
            line = offset(sample, offset_d + offset_h)
            for i in range(w * g.taps_w + kw, w * g.taps_w + min(g.taps_w, kw + last - t)):
                offset_w = index_w[i]
                store_pointer(table, place, offset(line, offset_w) if inside and offset_w >= 0 else zeros)
                place += POINT_BLOCK
            t += g.taps_w - kw
            kw = 0
            kh += 1
            if kh == g.taps_h:
                kh, kd = 0, kd + 1
        w += 1
        if w == g.out_w:
            w, h = 0, h + 1
            if h == g.out_h:
                h, d = 0, d + 1
                if d == g.out_d:
                    d, n = 0, n + 1


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
    """One block: a chunk of positions, one panel of output channels of one group, a block of taps and input channels.

    ``partial[chunk][co][ci][tap]`` receives the chunk's sum.
    """
    panel = block % g.panels
    block //= g.panels
    run_block = block % g.run_blocks
    block //= g.run_blocks
    tap_block = block % g.tap_blocks
    block //= g.tap_blocks
    group = block % g.groups
    chunk = block // g.groups

    taps = g.taps_d * g.taps_h * g.taps_w
    tap = tap_block * g.tap_block
    last = min(tap + g.tap_block, taps)
    first_run = run_block * g.run_block
    run = min(g.run_block, g.run - first_run)
    tiles = (run + MAX_ROWS - 1) // MAX_ROWS
    channel = group * g.channels + panel * g.width
    valid = min(g.width, g.channels - panel * g.width)
    packed = cast(offset(scratch, TABLE_SLOTS), grad_output)
    sums = cast(offset(scratch, TABLE_SLOTS + PACK_SLOTS), grad_output)

    zero = splat(sums, 0.0)
    for i in range(0, (last - tap) * run * g.width, lanes(sums)):
        store(sums, i, zero)
    point = chunk * g.points // g.chunks
    end = (chunk + 1) * g.points // g.chunks
    while point < end:
        points = min(POINT_BLOCK, end - point)
        _pack_rows(
            packed, offset(grad_output, point * g.out_channels + channel), points, g.out_channels, valid, g.width
        )
        _put_inputs(scratch, point, points, tap, last, source, zeros, index_d, index_h, index_w, g)
        for t in range(last - tap):
            for tile in range(tiles):
                r = tile * run // tiles
                outer_tile(
                    (tile + 1) * run // tiles - r,
                    offset(scratch, t * POINT_BLOCK),
                    points,
                    group * g.run + first_run + r,
                    packed,
                    g.width,
                    offset(sums, (t * run + r) * g.width),
                    g.width,
                )
        point += points
    out = offset(partial, ((chunk * g.groups * g.channels + channel) * g.run + first_run) * taps)
    _put_sums(out, sums, cast(scratch, sums), run, tap, last, taps, g.run * taps, valid, g.width)


@device
def _put_sums(out, sums, buffer, run, tap, last, taps, row, valid, width):
    """``out[lane][ci][tap] = sums[tap][ci][lane]`` for the block's taps; rows of `out` lie `row` elements apart."""
    count = last - tap
    if count < taps:
        for t in range(count):
            for ci in range(run):
                for lane in range(valid):
                    out[lane * row + ci * taps + tap + t] = sums[(t * run + ci) * width + lane]
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


@kernel
def add_chunks(block, partial: "T*", out: "T[:]", chunks: "int64", step: "int64"):
    """One block: `step` elements of the gradient, the chunks' sums added in order."""
    size = out.shape[0]
    for i in range(block * step, min(size, (block + 1) * step)):
        total = partial[i]
        for chunk in range(1, chunks):
            total += partial[chunk * size + i]
        out[i] = total
