"""Max and average pooling over channels-last memory, for any rank and any windows, and the gradient of averages.

Every kernel walks over its own results (outputs forward, inputs backward) and gathers what each is made of, so no two
blocks write the same element and every sum has one order. A result stays in a register until it is whole. The gradient
of a max pool whose windows do not overlap walks over the outputs, too; that of any other is in `pool_scatter`.

Each kernel exists twice. Lanes of a vector are neighbouring channels; but the kernels ``*_few`` are for fewer channels
than lanes, and there a vector holds results along W instead, wherever all of them have the same taps.

What is done for one result has the same parameters everywhere: `table`, of which the `count` taps from number `start`
of the window on are filled in; `base`, the element they are counted from; the lanes of the sources (`source`) and of
the result (`result`, at element `at`); how many lanes an earlier call has already done (`shared`).
"""

from __future__ import annotations

from ._build import inlined, kernel
from .pointer import cast, offset
from .pool_lanes import (
    beats,
    drop_lanes,
    load_lanes,
    load_offsets,
    same_offset,
    splat_offset,
    store_lanes,
    store_offsets,
    widen_offsets,
    zeros,
)
from .pool_walk import (
    WEIGHTS,
    Pool,
    backward_place,
    backward_row,
    forward_place,
    forward_row,
    forward_table,
    walk,
    walk_few,
    weight_table,
    winner_place,
    winner_table,
)
from .simd import fma, select, splat

OFFSET_DTYPES = ("uint8", "uint16", "int32")


@inlined
def max_of_taps(arrays, table, start, count, base, source, at, result, shared, divisor, g):
    """The largest element of a window, so far."""
    x, out, offsets, lowest = arrays
    best = zeros(x, source) + lowest
    where = splat_offset(best, table[1])
    if start > 0:
        best = load_lanes(out, at, result)
        where = widen_offsets(load_offsets(offsets, at, result, best), best)
    for t in range(count):
        value = load_lanes(x, base + table[2 * t], source)
        wins = beats(value, best)
        best = select(wins, value, best)
        where = select(wins, splat_offset(best, table[2 * t + 1]), where)
    store_lanes(out, at, result, best)
    if g.offsets:
        store_offsets(offsets, at, result, where)


@inlined
def gradient_of_winner(arrays, table, start, count, base, source, at, result, shared, divisor, g):
    """An output's gradient goes to the tap that won; the others get zero."""
    out, grad, offsets = arrays
    value = load_lanes(grad, at, result)
    where = widen_offsets(load_offsets(offsets, at, result, value), value)
    for t in range(count):
        won = same_offset(where, splat_offset(value, table[2 * t + 1]))
        store_lanes(out, base + table[2 * t], source, select(won, value, zeros(out, source)))


@inlined
def gradient_won(arrays, table, start, count, base, source, at, result, shared, divisor, g):
    """What an input element gets from the windows that it won, so far."""
    grad, out, offsets = arrays
    total = zeros(grad, source)
    for t in range(count):
        value = load_lanes(grad, base + table[2 * t], source)
        where = widen_offsets(load_offsets(offsets, base + table[2 * t], source, value), value)
        total += select(same_offset(where, splat_offset(value, table[2 * t + 1])), value, zeros(grad, source))
    if start > 0:
        total = load_lanes(out, at, result) + drop_lanes(total, shared, result)
    store_lanes(out, at, result, total)


@inlined
def average_of_taps(arrays, table, start, count, base, source, at, result, shared, divisor, g):
    """The average of a window; its part so far. Adding up parts keeps large sums accurate, and additions in flight."""
    x, out = arrays
    total = zeros(x, source)
    other = total
    for t in range(0, count - 1, 2):
        total += load_lanes(x, base + table[2 * t], source)
        other += load_lanes(x, base + table[2 * t + 2], source)
    if count % 2 == 1:
        total += load_lanes(x, base + table[2 * count - 2], source)
    total = (total + other) / splat(total, divisor)
    if start > 0:
        total = drop_lanes(total, shared, result) + load_lanes(out, at, result)
    store_lanes(out, at, result, total)


@inlined
def gradient_shared(arrays, table, start, count, base, source, at, result, shared, divisor, g):
    """What an input element gets from the windows it is in, so far."""
    grad, out = arrays
    weights = cast(offset(table, WEIGHTS), grad)
    total = zeros(grad, source)
    for t in range(count):
        total = fma(load_lanes(grad, base + table[2 * t], source), splat(total, weights[t]), total)
    if start > 0:
        total = drop_lanes(total, shared, result) + load_lanes(out, at, result)
    store_lanes(out, at, result, total)


@kernel(I=OFFSET_DTYPES)
def max_pool(block, x: "T*", out: "T*", offsets: "I*", lowest: "T", g: "Pool"):
    """The largest elements, and the offset in its window of each: the first NaN, else the first largest element."""
    walk(block, g, forward_row, forward_place, forward_table, max_of_taps, (x, out, offsets, lowest))


@kernel(I=OFFSET_DTYPES)
def max_pool_few(block, x: "T*", out: "T*", offsets: "I*", lowest: "T", g: "Pool"):
    walk_few(block, g, forward_row, forward_place, forward_table, max_of_taps, (x, out, offsets, lowest))


@kernel(I=OFFSET_DTYPES)
def max_pool_tiles_backward(block, out: "T*", grad: "T*", offsets: "I*", g: "Pool"):
    """The gradient of the input where every element is in one window: a walk over the outputs, which fills theirs."""
    walk(block, g, forward_row, forward_place, forward_table, gradient_of_winner, (out, grad, offsets))


@kernel(I=OFFSET_DTYPES)
def max_pool_tiles_backward_few(block, out: "T*", grad: "T*", offsets: "I*", g: "Pool"):
    walk_few(block, g, forward_row, forward_place, forward_table, gradient_of_winner, (out, grad, offsets))


@kernel(I=OFFSET_DTYPES)
def max_pool_gathered_backward(block, grad: "T*", out: "T*", offsets: "I*", g: "Pool"):
    """The gradient of the input where windows overlap, but are small: every element looks at those it is in."""
    walk(block, g, backward_row, winner_place, winner_table, gradient_won, (grad, out, offsets))


@kernel
def average_pool(block, x: "T*", out: "T*", g: "Pool"):
    """The averages. Windows are not dilated."""
    walk(block, g, forward_row, forward_place, forward_table, average_of_taps, (x, out))


@kernel
def average_pool_few(block, x: "T*", out: "T*", g: "Pool"):
    walk_few(block, g, forward_row, forward_place, forward_table, average_of_taps, (x, out))


@kernel
def average_pool_backward(block, grad: "T*", out: "T*", g: "Pool"):
    """The gradient with respect to the input of `average_pool`."""
    walk(block, g, backward_row, backward_place, weight_table, gradient_shared, (grad, out))


@kernel
def average_pool_backward_few(block, grad: "T*", out: "T*", g: "Pool"):
    walk_few(block, g, backward_row, backward_place, weight_table, gradient_shared, (grad, out))
