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
# Rows of a partial result, per block: (moments: origin, sum, sum of squares), (gradients: sum, sum of products).
MOMENTS_ROWS = 3
SUMS_ROWS = 2
# Rows of the coefficients of the gradient.
BY_GRAD, BY_X, CONSTANT = range(3)
COEFFICIENT_ROWS = 3
ORIGIN_ROWS = 16
# Rows that pass through a loop together: what belongs to their columns is loaded, and stored, once for all of them.
QUAD = 4


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


@elementwise
def above_floor(y, floor, grad):
    """`grad` where `y` lies above the floor."""
    return (y <= floor).choose(0.0, grad)


@device
def block_rows(block, w):
    """The block's first row, its number of rows, and how many elements follow them (0 but for the last block)."""
    first = block * w.step
    count = min(w.step, w.rows - first)
    return first, count, w.rest if first + count >= w.rows else 0


@device
def last_first(block, w, large):
    """The number of the block that takes this one's turn: of a large array, what was read last is still in caches."""
    return w.blocks - 1 - block if large else block


@device
def put(out, i, value, large):
    """Write a vector; past the caches if they cannot hold the result anyway."""
    if large:
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
    stats: "T*",
    work: "float64*",
    momentum: "float64",
    eps: "float64",
    w: "WideRows",
    channels: "int64",
    step: "int64",
):
    """Statistics of `step` channels; the running ones move towards them by the weight `momentum`.

    `work` has room for two values per channel: the mean, and the sum of squared distances from it.
    """
    width, count = w.width, (w.rows * w.width + w.rest) // channels
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
    stats: "T*",
    eps: "float64",
    width: "int64",
    channels: "int64",
):
    """`stats` from the running statistics."""
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
    first, count, extra = block_rows(last_first(block, w, large), w)
    width = w.width
    lowest = splat(x, floor)
    quads = count - count % QUAD
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
            store(out, row * width + j, floored(y, lowest))
    tail = (first + count) * width
    for j in range(0, extra, lanes(x)):
        n = extra - j
        scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
        y = fma(load_first(x, tail + j, n, 0.0) - load(stats, MEAN * width + j), scale, shift)
        store_first(out, tail + j, floored(y, lowest), n)


@kernel
def gradient_sums(
    block,
    grad: "T*",
    x: "T*",
    stats: "T*",
    partial: "T*",
    w: "WideRows",
    floor: "T",
):
    """Per block and column the sums of the gradient and of its products with ``x - MEAN``."""
    first, count, extra = block_rows(block, w)
    width = w.width
    total = block * SUMS_ROWS * width
    products = total + width
    for j in range(SUMS_ROWS * width):
        partial[total + j] = 0
    lowest = splat(x, floor)
    quads = count - count % QUAD
    for row in range(first, first + quads, QUAD):
        for j in range(0, width, lanes(x)):
            i = row * width + j
            mean, scale = load(stats, MEAN * width + j), load(stats, SCALE * width + j)
            shift = load(stats, SHIFT * width + j)
            a, b = load(x, i) - mean, load(x, i + width) - mean
            grad_a = above_floor(fma(a, scale, shift), lowest, load(grad, i))
            grad_b = above_floor(fma(b, scale, shift), lowest, load(grad, i + width))
            upper, upper_products = grad_a + grad_b, fma(a, grad_a, b * grad_b)
            a, b = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            grad_a = above_floor(fma(a, scale, shift), lowest, load(grad, i + 2 * width))
            grad_b = above_floor(fma(b, scale, shift), lowest, load(grad, i + 3 * width))
            lower, lower_products = grad_a + grad_b, fma(a, grad_a, b * grad_b)
            store(partial, total + j, load(partial, total + j) + (upper + lower))
            store(partial, products + j, load(partial, products + j) + (upper_products + lower_products))
    for row in range(first + quads, first + count + 1):
        length = width if row < first + count else extra
        for j in range(0, length, lanes(x)):
            i, n = row * width + j, length - j
            a = load_first(x, i, n, 0.0) - load(stats, MEAN * width + j)
            y = fma(a, load(stats, SCALE * width + j), load(stats, SHIFT * width + j))
            kept = above_floor(y, lowest, load_first(grad, i, n, 0.0))
            store(partial, total + j, load(partial, total + j) + kept)
            store(partial, products + j, fma(a, kept, load(partial, products + j)))


@kernel
def combine_gradients(
    block,
    partial: "T*",
    stats: "T*",
    coefficients: "T*",
    grad_weight: "T*",
    grad_bias: "T*",
    work: "float64*",
    w: "WideRows",
    count: "int64",
    channels: "int64",
    training: "int64",
    step: "int64",
):
    """Gradients of `step` channels' weight and bias, and the coefficients of the input's.

    `work` has room for two sums per channel.
    """
    width, first, last = w.width, block * step, min(channels, (block + 1) * step)
    totals, products = work, offset(work, channels)
    for c in range(first, last):
        totals[c] = 0.0
        products[c] = 0.0
    for b in range(w.blocks):
        for j in range(0, width, channels):
            sums = offset(partial, b * SUMS_ROWS * width + j)
            for c in range(first, last):
                totals[c] += float(sums[c])
                products[c] += float(sums[c + width])
    for c in range(first, last):
        away, inv_std = float(stats[OFFSET * width + c]), float(stats[INV_STD * width + c])
        scale, total = float(stats[SCALE * width + c]), totals[c]
        product = products[c] + away * total  # from the rounded mean to the mean
        grad_weight[c] = inv_std * product
        grad_bias[c] = total
        # In training the mean and the variance depend on x, too.
        by_x = -scale * inv_std * inv_std * product / count
        coefficients[BY_GRAD * width + c] = scale
        coefficients[BY_X * width + c] = by_x if training else 0.0
        coefficients[CONSTANT * width + c] = by_x * away - scale * total / count if training else 0.0
    for row in range(COEFFICIENT_ROWS):
        repeat(offset(coefficients, row * width), first, last, width, channels)


@elementwise
def to_input(a, grad, floor, scale, shift, by_grad, by_x, constant):
    """The gradient of `x` at the distance `a` from its mean: linear in `a` and in what passes the floor of `grad`."""
    passed = (a.fma(scale, shift) <= floor).choose(0.0, grad)
    return passed.fma(by_grad, a.fma(by_x, constant))


@kernel
def input_gradient(
    block,
    grad: "T*",
    x: "T*",
    stats: "T*",
    coefficients: "T*",
    out: "T*",
    w: "WideRows",
    floor: "T",
    large: "int64",
):
    first, count, extra = block_rows(last_first(block, w, large), w)
    width = w.width
    lowest = splat(x, floor)
    quads = count - count % QUAD
    for row in range(first, first + quads, QUAD):
        for j in range(0, width, lanes(x)):
            mean, scale = load(stats, MEAN * width + j), load(stats, SCALE * width + j)
            shift, by_grad = load(stats, SHIFT * width + j), load(coefficients, BY_GRAD * width + j)
            by_x, constant = load(coefficients, BY_X * width + j), load(coefficients, CONSTANT * width + j)
            i = row * width + j
            a, b = load(x, i) - mean, load(x, i + width) - mean
            c, d = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            a = to_input(a, load(grad, i), lowest, scale, shift, by_grad, by_x, constant)
            b = to_input(b, load(grad, i + width), lowest, scale, shift, by_grad, by_x, constant)
            c = to_input(c, load(grad, i + 2 * width), lowest, scale, shift, by_grad, by_x, constant)
            d = to_input(d, load(grad, i + 3 * width), lowest, scale, shift, by_grad, by_x, constant)
            put(out, i, a, large)
            put(out, i + width, b, large)
            put(out, i + 2 * width, c, large)
            put(out, i + 3 * width, d, large)
    for row in range(first + quads, first + count + 1):
        length = width if row < first + count else extra
        for j in range(0, length, lanes(x)):
            i, n = row * width + j, length - j
            scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
            by_grad, by_x = load(coefficients, BY_GRAD * width + j), load(coefficients, BY_X * width + j)
            constant = load(coefficients, CONSTANT * width + j)
            a = load_first(x, i, n, 0.0) - load(stats, MEAN * width + j)
            a = to_input(a, load_first(grad, i, n, 0.0), lowest, scale, shift, by_grad, by_x, constant)
            store_first(out, i, a, n)
