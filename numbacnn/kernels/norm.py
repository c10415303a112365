"""Batch normalisation over channels-last memory.

Memory is (positions, channels). It is read as *wide* rows: as many whole positions side by side as make a row of at
least `WIDE_ROW` elements and a whole number of vectors, so that few channels run on full vectors too. A wide row has
`width` columns; column j belongs to channel ``j % channels``. `rows` full wide rows may be followed by `rest` more
elements. One block is `step` wide rows; the last block also has the rest (`WideRows`).

Statistics (one reading of memory): per block and column an origin m, the mean of the block's first `ORIGIN_ROWS` rows,
then the sums of ``x - m`` and of its square. The first corrects m and the second's origin, so the precision does not
depend on how large the mean is beside the deviation: were those rows a distance d from all others, their share p of the
block would make the variance at least ``p (1 - p) d**2``, and rounding errors at most 1 / p times as large.
`combine_moments` merges blocks and columns in float64 in a fixed order (Chan, Golub and LeVeque, "Algorithms for
computing the sample variance", 1983).

Rows of the array `stats`, (5, width), and what normalising does with them::

    y = (x - MEAN) * SCALE + SHIFT     MEAN rounded; SHIFT holds the bias and what the rounding lost (OFFSET)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._build import device, kernel
from .pointer import offset
from .simd import elementwise, fma, lanes, load, load_first, splat, store, store_first, stream

WIDE_ROW = 64
MEAN, OFFSET, INV_STD, SCALE, SHIFT = range(5)
STATS_ROWS = 5
MOMENTUM, EPS = range(2)
# Rows of a partial result, per block: origin, sum, sum of squares.
MOMENTS_ROWS = 3
ORIGIN_ROWS = 16
# Rows that pass through a loop together: what belongs to their columns is loaded, and stored, once for all of them.
QUAD = 4
# How large a result is: the second-level caches cannot hold it, or none can.
LARGE, HUGE = 1, 2


class WideRows(NamedTuple):
    """How the memory of a channels-last array is read."""

    rows: int  # full ones
    width: int
    rest: int  # elements behind them
    step: int  # rows of a block
    blocks: int


@elementwise
def floored(y, floor):
    """The larger of the two, NaN if `y` is: ReLU for a floor of 0, nothing for -inf."""
    return (y < floor).choose(floor, y)


@device
def block_rows(block, w):
    """The block's first row, its number of rows, and how many elements follow them (0 but for the last block)."""
    first = block * w.step
    count = min(w.step, w.rows - first)
    return first, count, w.rest if first + count >= w.rows else 0


@device
def quads_of(count, large):
    """How many rows pass four at a time: none of a large array, whose lines come, or go, one after the other."""
    return 0 if large else count - count % QUAD


@device
def put(out, i, value, large):
    """Write a vector; past the caches if they cannot hold the result anyway."""
    if large == HUGE:
        stream(out, i, value)
    else:
        store(out, i, value)


@device
def add_values(x, at, count, extra, width, sums, to):
    """Add `count` rows and `extra` elements to one row.

    Four rows at a time, so that the sums travel to memory and back a quarter as often; what is left is one run.
    """
    quads = count - count % 4
    for row in range(0, quads, 4):
        first = at + row * width
        for j in range(0, width, lanes(x)):
            i = first + j
            upper = load(x, i) + load(x, i + width)
            lower = load(x, i + 2 * width) + load(x, i + 3 * width)
            store(sums, to + j, load(sums, to + j) + (upper + lower))
    for row in range(quads, count + 1):
        length = width if row < count else extra
        for j in range(0, length, lanes(x)):
            store(sums, to + j, load(sums, to + j) + load_first(x, at + row * width + j, length - j, 0.0))


@device
def add_deviations(x, at, count, extra, width, partial, origin):
    """Add ``x - origin`` and its square to the two rows after `origin`."""
    total, squares = origin + width, origin + 2 * width
    quads = count - count % 4
    for row in range(0, quads, 4):
        first = at + row * width
        for j in range(0, width, lanes(x)):
            i = first + j
            mean = load(partial, origin + j)
            a, b = load(x, i) - mean, load(x, i + width) - mean
            c, d = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            store(partial, total + j, load(partial, total + j) + ((a + b) + (c + d)))
            square = fma(a, a, b * b) + fma(c, c, d * d)
            store(partial, squares + j, load(partial, squares + j) + square)
    for row in range(quads, count + 1):
        length = width if row < count else extra
        for j in range(0, length, lanes(x)):
            n = length - j
            a = load_first(x, at + row * width + j, n, 0.0) - load_first(partial, origin + j, n, 0.0)
            store(partial, total + j, load(partial, total + j) + a)
            store(partial, squares + j, fma(a, a, load(partial, squares + j)))


@kernel
def moments(block, x: "T*", partial: "T*", w: "WideRows"):
    """Fill the block's rows of `partial`."""
    first, count, extra = block_rows(block, w)
    width = w.width
    at = first * width
    origin = block * MOMENTS_ROWS * width
    for j in range(MOMENTS_ROWS * width):
        partial[origin + j] = 0
    sample = min(count, ORIGIN_ROWS)
    add_values(x, at, sample, 0 if sample else extra, width, partial, origin)
    for j in range(width):
        partial[origin + j] /= max(sample, 1)
    add_deviations(x, at, count, extra, width, partial, origin)


@device
def repeat(row, first, last, width, channels):
    """Copy a row's columns `first` to `last` to all columns of the same channels."""
    for j in range(channels, width, channels):
        for c in range(first, last):
            row[j + c] = row[c]


@kernel
def combine_moments(
    block,
    partial: "T*",
    weight: "T*",
    bias: "T*",
    running_mean: "T*",
    running_var: "T*",
    settings: "float64*",
    stats: "T*",
    work: "float64*",
    w: "WideRows",
    channels: "int64",
    step: "int64",
):
    """Statistics of `step` channels; the running ones move towards them by the weight `momentum`.

    `settings` are that weight, and what is added to variances. `work` has room for two values per channel: the mean,
    and the sum of squared distances from it.
    """
    width, count = w.width, (w.rows * w.width + w.rest) // channels
    momentum, eps = settings[MOMENTUM], settings[EPS]
    first, last = block * step, min(channels, (block + 1) * step)
    means, squares = work, offset(work, channels)
    for c in range(first, last):
        means[c] = 0.0
        squares[c] = 0.0
    for b in range(w.blocks):
        _, full, extra = block_rows(b, w)
        for j in range(0, width, channels):
            origins = offset(partial, b * MOMENTS_ROWS * width + j)
            totals = offset(origins, width)
            for c in range(first, last):
                n = float(full + (j + c < extra))
                means[c] += n * float(origins[c]) + float(totals[c])
    for c in range(first, last):
        means[c] /= count
    for b in range(w.blocks):
        _, full, extra = block_rows(b, w)
        share, larger_share = 1.0 / max(full, 1), 1.0 / (full + 1)
        for j in range(0, width, channels):
            origins = offset(partial, b * MOMENTS_ROWS * width + j)
            totals, sums = offset(origins, width), offset(origins, 2 * width)
            for c in range(first, last):
                n = float(full + (j + c < extra))
                total = float(totals[c])
                shift = total * (larger_share if j + c < extra else share)
                distance = float(origins[c]) + shift - means[c]
                squares[c] += float(sums[c]) - total * shift + n * distance * distance
    for c in range(first, last):
        mean, variance = means[c], squares[c]
        inv_std = 1.0 / math.sqrt(variance / count + eps)
        scale = inv_std * float(weight[c])
        stats[MEAN * width + c] = mean
        away = float(stats[MEAN * width + c]) - mean
        stats[OFFSET * width + c] = away
        stats[INV_STD * width + c] = inv_std
        stats[SCALE * width + c] = scale
        stats[SHIFT * width + c] = float(bias[c]) + away * scale
        running_mean[c] = (1.0 - momentum) * float(running_mean[c]) + momentum * mean
        running_var[c] = (1.0 - momentum) * float(running_var[c]) + momentum * (variance / max(count - 1, 1))
    for row in range(STATS_ROWS):
        repeat(offset(stats, row * width), first, last, width, channels)


@kernel
def running_statistics(
    block,
    weight: "T*",
    bias: "T*",
    running_mean: "T*",
    running_var: "T*",
    settings: "float64*",
    stats: "T*",
    width: "int64",
    channels: "int64",
):
    """`stats` from the running statistics."""
    eps = settings[EPS]
    for c in range(channels):
        inv_std = 1.0 / math.sqrt(float(running_var[c]) + eps)
        stats[MEAN * width + c] = running_mean[c]
        stats[OFFSET * width + c] = 0.0
        stats[INV_STD * width + c] = inv_std
        stats[SCALE * width + c] = inv_std * float(weight[c])
        stats[SHIFT * width + c] = bias[c]
    for row in range(STATS_ROWS):
        repeat(offset(stats, row * width), 0, channels, width, channels)


@kernel
def normalise(
    block,
    x: "T*",
    stats: "T*",
    out: "T*",
    w: "WideRows",
    floor: "T",
    large: "int64",
):
    first, count, extra = block_rows(block, w)
    width = w.width
    lowest = splat(x, floor)
    quads = quads_of(count, large)
    for row in range(first, first + quads, QUAD):
        for j in range(0, width, lanes(x)):
            mean, scale = load(stats, MEAN * width + j), load(stats, SCALE * width + j)
            shift = load(stats, SHIFT * width + j)
            i = row * width + j
            a, b = load(x, i) - mean, load(x, i + width) - mean
            c, d = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            put(out, i, floored(fma(a, scale, shift), lowest), large)
            put(out, i + width, floored(fma(b, scale, shift), lowest), large)
            put(out, i + 2 * width, floored(fma(c, scale, shift), lowest), large)
            put(out, i + 3 * width, floored(fma(d, scale, shift), lowest), large)
    for row in range(first + quads, first + count):
        for j in range(0, width, lanes(x)):
            scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
            y = fma(load(x, row * width + j) - load(stats, MEAN * width + j), scale, shift)
            put(out, row * width + j, floored(y, lowest), large)
    tail = (first + count) * width
    for j in range(0, extra, lanes(x)):
        n = extra - j
        scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
        y = fma(load_first(x, tail + j, n, 0.0) - load(stats, MEAN * width + j), scale, shift)
        store_first(out, tail + j, floored(y, lowest), n)
