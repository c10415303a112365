"""Softmax, its logarithm, and their gradients.

Memory is (outer, n, inner) with the axis of length n in the middle. Where inner is 1 the axis is contiguous: the
``_rows`` kernels run vectors along it, one block being `step` rows. Otherwise the ``_columns`` kernels run vectors
across the inner axis, each lane a softmax of its own; one block is `step` columns of one outer index. They also serve
short contiguous axes: there a block is `step` rows of all, and `TILE` rows at a time are transposed in the scratch. The
gradient of rows of 2, 4 or 8 elements is spared that, for vectors hold whole rows.
"""

from __future__ import annotations

from ._build import device, inlined, kernel
from .elementary import exp_normal as exp
from .elementary import log
from .flat import ask_to_read, ask_to_write, get, pace, put, span
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .simd import (
    lanes,
    load,
    load_first,
    load_like,
    maximum,
    reduce_add,
    reduce_max,
    splat,
    store,
    store_first,
    swapped_1,
    swapped_2,
    swapped_4,
    wide,
)

NEGATIVE_INFINITY = float("-inf")
# Columns that are worked on together; a contiguous axis of at most `SHORT` elements is transposed to that many columns,
# which with their results fill a good part of the first-level cache. A gradient, whose rows are summed up but once and
# which has two arrays to transpose, gains by it where there are fewer.
TILE, SHORT, SHORT_GRADIENT = 64, 48, 8
GROUPS = (2, 4, 8)  # elements of rows that vectors hold several of


@device
def row_max(x, at, n):
    """The largest of the `n` elements from `at` on."""
    full = n - n % lanes(x)
    top = load_first(x, at + full, n - full, NEGATIVE_INFINITY)
    for i in range(at, at + full, lanes(x)):
        top = maximum(top, load(x, i))
    return reduce_max(top)


@device
def row_exp_sum(x, at, n, top):
    """The sum of ``exp(x - top)``."""
    full = n - n % lanes(x)
    high = splat(x, top)
    total = exp(load_first(x, at + full, n - full, NEGATIVE_INFINITY) - high)
    for i in range(at, at + full, lanes(x)):
        total += exp(load(x, i) - high)
    return reduce_add(total)


@device
def row_softmax(x, out, at, n, top):
    """``out = exp(x - top) / sum``; returns the sum."""
    full = n - n % lanes(x)
    high = splat(x, top)
    last = exp(load_first(x, at + full, n - full, NEGATIVE_INFINITY) - high)
    total = last
    for i in range(at, at + full, lanes(x)):
        value = exp(load(x, i) - high)
        store(out, i, value)
        total += value
    norm = reduce_add(total)
    factor = splat(x, 1.0) / splat(x, norm)
    for i in range(at, at + full, lanes(x)):
        store(out, i, load(out, i) * factor)
    if full < n:
        store_first(out, at + full, last * factor, n - full)
    return norm


@kernel
def softmax_rows(block, x: "T*", out: "T*", rows: "int64", n: "int64", step: "int64"):
    for row in range(block * step, min(rows, (block + 1) * step)):
        row_softmax(x, out, row * n, n, row_max(x, row * n, n))


@kernel
def log_softmax_rows(block, x: "T*", out: "T*", rows: "int64", n: "int64", step: "int64"):
    full = n - n % lanes(x)
    for row in range(block * step, min(rows, (block + 1) * step)):
        at = row * n
        top = row_max(x, at, n)
        high = splat(x, top)
        shift = splat(x, log(row_exp_sum(x, at, n, top)))
        for i in range(at, at + full, lanes(x)):
            store(out, i, load(x, i) - high - shift)
        if full < n:
            store_first(out, at + full, load_first(x, at + full, n - full, 0.0) - high - shift, n - full)


@device
def add_groups(products, n):
    """In every lane the sum over its group of `n` lanes: 2, 4 or 8."""
    products += swapped_1(products)
    if n > 2:
        products += swapped_2(products)
    if n > 4:
        products += swapped_4(products)
    return products


@kernel
def softmax_groups_backward(
    block, grad: "T*", y: "T*", out: "T*", size: "int64", n: "int64", step: "int64", streamed: "int64"
):
    """As `softmax_rows_backward` for rows of 2, 4 or 8 elements, of which vectors hold whole numbers."""
    first, end = span(block, step, size)
    for i in range(first, end, pace(y)):
        slope, value = get(grad, i, end), get(y, i, end)
        put(out, i, value * (slope - add_groups(value * slope, n)), end, streamed)


@kernel
def softmax_rows_backward(block, grad: "T*", y: "T*", out: "T*", rows: "int64", n: "int64", step: "int64"):
    full, most = n - n % lanes(y), n - n % lanes(wide(y))
    for row in range(block * step, min(rows, (block + 1) * step)):
        at = row * n
        tail_y = load_first(y, at + full, n - full, 0.0)
        tail_grad = load_first(grad, at + full, n - full, 0.0)
        dot = tail_y * tail_grad
        for i in range(at + most, at + full, lanes(y)):
            dot += load(y, i) * load(grad, i)
        sums = wide(y)  # as many chains of additions
        for i in range(at, at + most, lanes(sums)):
            ask_to_read(y, i)
            ask_to_read(grad, i)
            sums += load_like(sums, y, i) * load_like(sums, grad, i)
        mean = reduce_add(dot) + reduce_add(sums)
        for i in range(at, at + most, lanes(sums)):
            ask_to_write(out, i)
            store(out, i, load_like(sums, y, i) * (load_like(sums, grad, i) - mean))
        for i in range(at + most, at + full, lanes(y)):
            store(out, i, load(y, i) * (load(grad, i) - mean))
        if full < n and full > 0:  # some once more, for storing a part of a vector takes longer
            i = at + n - lanes(y)
            store(out, i, load(y, i) * (load(grad, i) - mean))
        elif full < n:
            store_first(out, at, tail_y * (tail_grad - mean), n)


@kernel
def log_softmax_rows_backward(block, grad: "T*", y: "T*", out: "T*", rows: "int64", n: "int64", step: "int64"):
    full = n - n % lanes(y)
    for row in range(block * step, min(rows, (block + 1) * step)):
        at = row * n
        tail_grad = load_first(grad, at + full, n - full, 0.0)
        total = tail_grad
        for i in range(at, at + full, lanes(y)):
            total += load(grad, i)
        whole = splat(y, reduce_add(total))
        for i in range(at, at + full, lanes(y)):
            store(out, i, load(grad, i) - exp(load(y, i)) * whole)
        if full < n and full > 0:  # some once more, as above
            i = at + n - lanes(y)
            store(out, i, load(grad, i) - exp(load(y, i)) * whole)
        elif full < n:
            store_first(out, at, tail_grad - exp(load_first(y, at, n, 0.0)) * whole, n)


@device
def columns_of(block, n, inner, step, rows):
    """Places of the block's columns in their first row, first and past the last; if `inner` is 1 numbers of rows."""
    if inner == 1:
        return block * step, min(rows, (block + 1) * step)
    strips = (inner + step - 1) // step
    first = (block % strips) * step
    start = (block // strips) * n * inner
    return start + first, start + min(inner, first + step)


@device
def bring(x, at, n, inner, columns, count):
    """Where some columns are: where they lie or, if `inner` is 1, in `columns`, `TILE` to a row."""
    if inner == 1:
        copy_transposed(as_integers(x), at * n, n, as_integers(columns), 0, TILE, count, n)
        return columns
    return offset(x, at)


@device
def place(out, at, inner, columns):
    """Where the results of some columns go: to `columns` if `inner` is 1, and from there by `carry`."""
    return columns if inner == 1 else offset(out, at)


@device
def carry(columns, out, at, n, inner, count):
    """Results that were left in `columns` to their rows."""
    if inner == 1:
        copy_transposed(as_integers(columns), 0, TILE, as_integers(out), at * n, n, n, count)


@device
def load_columns(like, x, at, count):
    """As many columns as `like` has lanes, or the first `count` where those are fewer; the rest are 0."""
    if count >= lanes(like):
        return load_like(like, x, at)
    return load_first(x, at, count, like)


@device
def store_columns(out, at, value, count):
    if count >= lanes(value):
        store(out, at, value)
    else:
        store_first(out, at, value, count)


@device
def softmax_of(zeros, x, out, pitch, n, count):
    """Softmax of the columns in the lanes of `zeros`, of which there are `count`."""
    top = load_columns(zeros, x, 0, count)
    for k in range(1, n):
        top = maximum(top, load_columns(zeros, x, k * pitch, count))
    total = zeros
    for k in range(n):
        value = exp(load_columns(zeros, x, k * pitch, count) - top)
        store_columns(out, k * pitch, value, count)
        total += value
    factor = 1.0 / total
    for k in range(n):
        store_columns(out, k * pitch, load_columns(zeros, out, k * pitch, count) * factor, count)


@device
def log_softmax_of(zeros, x, out, pitch, n, count):
    """As `softmax_of`, its logarithm."""
    top = load_columns(zeros, x, 0, count)
    for k in range(1, n):
        top = maximum(top, load_columns(zeros, x, k * pitch, count))
    total = zeros
    for k in range(n):
        total += exp(load_columns(zeros, x, k * pitch, count) - top)
    shift = log(total)
    for k in range(n):
        store_columns(out, k * pitch, load_columns(zeros, x, k * pitch, count) - top - shift, count)


@device
def softmax_gradient_of(zeros, y, grad, out, pitch, n, count):
    """The gradient of `softmax_of`."""
    dot = zeros
    for k in range(n):
        dot += load_columns(zeros, y, k * pitch, count) * load_columns(zeros, grad, k * pitch, count)
    for k in range(n):
        slope = load_columns(zeros, grad, k * pitch, count) - dot
        store_columns(out, k * pitch, load_columns(zeros, y, k * pitch, count) * slope, count)


@device
def log_softmax_gradient_of(zeros, y, grad, out, pitch, n, count):
    """The gradient of `log_softmax_of`."""
    total = zeros
    for k in range(n):
        total += load_columns(zeros, grad, k * pitch, count)
    for k in range(n):
        share = exp(load_columns(zeros, y, k * pitch, count)) * total
        store_columns(out, k * pitch, load_columns(zeros, grad, k * pitch, count) - share, count)


@inlined
def each_column(block, scratch, x, out, n, inner, step, rows, compute):
    """Do `compute` for all columns of a block, many vectors at a time and then one."""
    first, stop = columns_of(block, n, inner, step, rows)
    columns = cast(scratch, x)
    pitch = TILE if inner == 1 else inner
    for at in range(first, stop, TILE):
        count = min(TILE, stop - at)
        source = bring(x, at, n, inner, columns, count)
        target = place(out, at, inner, columns)
        most = count - count % lanes(wide(x))
        for j in range(0, most, lanes(wide(x))):
            compute(wide(x), offset(source, j), offset(target, j), pitch, n, lanes(wide(x)))
        for j in range(most, count, lanes(x)):
            compute(splat(x, 0.0), offset(source, j), offset(target, j), pitch, n, count - j)
        carry(columns, out, at, n, inner, count)


@inlined
def each_gradient(block, scratch, grad, y, out, n, inner, step, rows, compute):
    """As `each_column`, of two arrays."""
    first, stop = columns_of(block, n, inner, step, rows)
    columns = cast(scratch, y)
    pitch = TILE if inner == 1 else inner
    for at in range(first, stop, TILE):
        count = min(TILE, stop - at)
        ys = bring(y, at, n, inner, columns, count)
        grads = bring(grad, at, n, inner, offset(columns, TILE * SHORT), count)
        target = place(out, at, inner, columns)
        most = count - count % lanes(wide(y))
        for j in range(0, most, lanes(wide(y))):
            compute(wide(y), offset(ys, j), offset(grads, j), offset(target, j), pitch, n, lanes(wide(y)))
        for j in range(most, count, lanes(y)):
            compute(splat(y, 0.0), offset(ys, j), offset(grads, j), offset(target, j), pitch, n, count - j)
        carry(columns, out, at, n, inner, count)


@kernel
def softmax_columns(block, scratch, x: "T*", out: "T*", n: "int64", inner: "int64", step: "int64", rows: "int64"):
    each_column(block, scratch, x, out, n, inner, step, rows, softmax_of)


@kernel
def log_softmax_columns(block, scratch, x: "T*", out: "T*", n: "int64", inner: "int64", step: "int64", rows: "int64"):
    each_column(block, scratch, x, out, n, inner, step, rows, log_softmax_of)


@kernel
def softmax_columns_backward(
    block, scratch, grad: "T*", y: "T*", out: "T*", n: "int64", inner: "int64", step: "int64", rows: "int64"
):
    each_gradient(block, scratch, grad, y, out, n, inner, step, rows, softmax_gradient_of)


@kernel
def log_softmax_columns_backward(
    block, scratch, grad: "T*", y: "T*", out: "T*", n: "int64", inner: "int64", step: "int64", rows: "int64"
):
    each_gradient(block, scratch, grad, y, out, n, inner, step, rows, log_softmax_gradient_of)
