"""The gradients of batch normalisation, with or without a ReLU behind it; how memory is read, and `stats`: see `norm`.

One reading of memory sums up, per block and column, what passes of the gradient and its products with ``x - MEAN``;
`combine_gradients` adds these up in float64 in a fixed order; and a second reading gives every input its own::

    grad_input = passed * BY_GRAD + (x - MEAN) * BY_X + CONSTANT
"""

from __future__ import annotations

from ._build import device, inlined, kernel
from .norm import INV_STD, MEAN, OFFSET, QUAD, SCALE, SHIFT, WideRows, block_rows, put, quads_of, repeat
from .pointer import offset
from .simd import elementwise, fma, lanes, load, load_first, store, store_first

# Rows of a partial result, per block: sum, sum of products.
SUMS_ROWS = 2
# Rows of the coefficients.
BY_GRAD, BY_X, CONSTANT = range(3)
COEFFICIENT_ROWS = 3


@elementwise
def above_zero(y, grad):
    """`grad` where `y` is not 0 or less."""
    return (y <= 0.0).choose(0.0, grad)


@device
def any_gradient(a, scale, shift, grad):
    """What passes an output without activation of the gradient: all of it."""
    return grad


@device
def positive_gradient(a, scale, shift, grad):
    """What passes a ReLU of the gradient, at the distance `a` from the mean."""
    return above_zero(fma(a, scale, shift), grad)


@inlined
def add_gradients(block, grad, x, stats, partial, w, passed):
    """Per block and column the sums of the gradient that is `passed` and of its products with ``x - MEAN``."""
    first, count, extra = block_rows(block, w)
    width = w.width
    total = block * SUMS_ROWS * width
    products = total + width
    for j in range(SUMS_ROWS * width):
        partial[total + j] = 0
    quads = count - count % QUAD
    for row in range(first, first + quads, QUAD):
        for j in range(0, width, lanes(x)):
            i = row * width + j
            mean, scale = load(stats, MEAN * width + j), load(stats, SCALE * width + j)
            shift = load(stats, SHIFT * width + j)
            a, b = load(x, i) - mean, load(x, i + width) - mean
            grad_a = passed(a, scale, shift, load(grad, i))
            grad_b = passed(b, scale, shift, load(grad, i + width))
            upper, upper_products = grad_a + grad_b, fma(a, grad_a, b * grad_b)
            a, b = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            grad_a = passed(a, scale, shift, load(grad, i + 2 * width))
            grad_b = passed(b, scale, shift, load(grad, i + 3 * width))
            lower, lower_products = grad_a + grad_b, fma(a, grad_a, b * grad_b)
            store(partial, total + j, load(partial, total + j) + (upper + lower))
            store(partial, products + j, load(partial, products + j) + (upper_products + lower_products))
    for row in range(first + quads, first + count + 1):
        length = width if row < first + count else extra
        for j in range(0, length, lanes(x)):
            i, n = row * width + j, length - j
            a = load_first(x, i, n, 0.0) - load(stats, MEAN * width + j)
            scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
            kept = passed(a, scale, shift, load_first(grad, i, n, 0.0))
            store(partial, total + j, load(partial, total + j) + kept)
            store(partial, products + j, fma(a, kept, load(partial, products + j)))


@kernel
def gradient_sums(block, grad: "T*", x: "T*", stats: "T*", partial: "T*", w: "WideRows"):
    add_gradients(block, grad, x, stats, partial, w, any_gradient)


@kernel
def gradient_sums_relu(block, grad: "T*", x: "T*", stats: "T*", partial: "T*", w: "WideRows"):
    add_gradients(block, grad, x, stats, partial, w, positive_gradient)


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


@inlined
def spread_gradients(block, grad, x, stats, coefficients, out, w, large, passed):
    """The gradient of `x`: linear in its distance from the mean and in what is `passed` of the output's."""
    first, count, extra = block_rows(block, w)
    width = w.width
    quads = quads_of(count, large)
    for row in range(first, first + quads, QUAD):
        for j in range(0, width, lanes(x)):
            mean, scale = load(stats, MEAN * width + j), load(stats, SCALE * width + j)
            shift, by_grad = load(stats, SHIFT * width + j), load(coefficients, BY_GRAD * width + j)
            by_x, constant = load(coefficients, BY_X * width + j), load(coefficients, CONSTANT * width + j)
            i = row * width + j
            a, b = load(x, i) - mean, load(x, i + width) - mean
            c, d = load(x, i + 2 * width) - mean, load(x, i + 3 * width) - mean
            grad_a, grad_b = passed(a, scale, shift, load(grad, i)), passed(b, scale, shift, load(grad, i + width))
            grad_c = passed(c, scale, shift, load(grad, i + 2 * width))
            grad_d = passed(d, scale, shift, load(grad, i + 3 * width))
            put(out, i, fma(grad_a, by_grad, fma(a, by_x, constant)), large)
            put(out, i + width, fma(grad_b, by_grad, fma(b, by_x, constant)), large)
            put(out, i + 2 * width, fma(grad_c, by_grad, fma(c, by_x, constant)), large)
            put(out, i + 3 * width, fma(grad_d, by_grad, fma(d, by_x, constant)), large)
    for row in range(first + quads, first + count + 1):
        length = width if row < first + count else extra
        for j in range(0, length, lanes(x)):
            i, n = row * width + j, length - j
            scale, shift = load(stats, SCALE * width + j), load(stats, SHIFT * width + j)
            by_grad, by_x = load(coefficients, BY_GRAD * width + j), load(coefficients, BY_X * width + j)
            constant = load(coefficients, CONSTANT * width + j)
            if n >= lanes(x):
                a = load(x, i) - load(stats, MEAN * width + j)
                kept = passed(a, scale, shift, load(grad, i))
                put(out, i, fma(kept, by_grad, fma(a, by_x, constant)), large)
            else:
                a = load_first(x, i, n, 0.0) - load(stats, MEAN * width + j)
                kept = passed(a, scale, shift, load_first(grad, i, n, 0.0))
                store_first(out, i, fma(kept, by_grad, fma(a, by_x, constant)), n)


@kernel
def input_gradient(
    block, grad: "T*", x: "T*", stats: "T*", coefficients: "T*", out: "T*", w: "WideRows", large: "int64"
):
    spread_gradients(block, grad, x, stats, coefficients, out, w, large, any_gradient)


@kernel
def input_gradient_relu(
    block, grad: "T*", x: "T*", stats: "T*", coefficients: "T*", out: "T*", w: "WideRows", large: "int64"
):
    spread_gradients(block, grad, x, stats, coefficients, out, w, large, positive_gradient)
