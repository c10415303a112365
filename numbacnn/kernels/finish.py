"""What follows a convolution before its result leaves the caches: a residual added, an activation applied.

A kernel calls `finish_row` or `finish_rows` for each part of its destination whose sums are complete. The bits are
those of separate passes: sums are rounded to the destination's dtype when they are stored, either way.
"""

from __future__ import annotations

from ._build import device, kernel
from .pointer import offset
from .simd import lanes, load, load_first, maximum, minimum, splat, store, store_first

# Kernels are given an activation's place in this list.
ACTIVATIONS = (None, "relu", "relu6")


@device
def _finished(value, activation, zero, six):
    """The activation of a vector; NaN stays NaN."""
    if activation > 0:
        value = maximum(value, zero)
    if activation > 1:
        value = minimum(value, six)
    return value


@device
def finish_row(row, count, residual, activation):
    """``row[i] = activation(row[i] + r[i])`` for ``i < count``, where r lies `residual` elements behind `row`.

    A residual of 0 elements means that there is none.
    """
    zero, six = splat(row, 0.0), splat(row, 6.0)
    n = lanes(row)
    whole = count - count % n
    for i in range(0, whole, n):
        value = load(row, i)
        if residual != 0:
            value = value + load(row, residual + i)
        store(row, i, _finished(value, activation, zero, six))
    rest = count - whole
    if rest > 0:
        value = load_first(row, whole, rest, zero)
        if residual != 0:
            value = value + load_first(row, residual + whole, rest, zero)
        store_first(row, whole, _finished(value, activation, zero, six), rest)


@device
def finish_rows(out, step, rows, count, residual, activation):
    """`finish_row` for `rows` rows, `step` elements apart; if anything is to be done."""
    if residual == 0 and activation == 0:
        return
    if count == step:  # they lie side by side
        count, rows = rows * count, 1
    for row in range(rows):
        finish_row(offset(out, row * step), count, residual, activation)


@kernel
def finish(block, out: "T*", size: "int64", step: "int64", residual: "int64", activation: "int64"):
    """One block: `step` elements of a whole result; for algorithms that do not finish what they write."""
    first = block * step
    finish_row(offset(out, first), min(step, size - first), residual, activation)
