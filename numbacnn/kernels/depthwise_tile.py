"""Register tiles of depthwise convolution: vectors over channels, several neighbouring points at once.

`points_tile` is for forward and the data gradient: 8 or 4 points of one vector of channels, one accumulator each::

    out[i] = start + sum over rows r, over taps t of  x[r][i * point_step + t * tap_step] * w[r][t]

Eight accumulators cover the latency of the multiply-add (4 cycles x 2 pipes). Where neighbouring points read
neighbouring positions (`point_step` equals `tap_step`, any convolution without stride), three taps are done at once and
each of the 10 positions is loaded once for its up to 3 multiply-adds: 13 loads per 24. Else every multiply-add
has its own load, and each weight is loaded once for all points.

`weight_tile` is for the weight gradient: up to 6 taps of one kernel row, for one or two vectors of channels::

    sums[t] += sum over rows r, over points i of  x[r][i * point_step + t * tap_step] * y[r][i * y_step]

Rows come from a table of slots in pairs: pointer and what goes with it.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from .pointer import load_pointer, offset
from .simd import Value, fma, lanes, load, load_first, splat, store, vector_class

WEIGHT_TAPS = 6  # taps of the largest weight tile: with 2 vectors, 12 accumulators of the 16 registers of AVX2
_TOGETHER = 3


class _Emitter:
    """Vector IR over pointers to one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        from llvmlite import ir

        from ._target import target

        self.builder = builder
        self.itemsize = element.bitwidth // 8
        self.lanes = target().lanes(self.itemsize)
        self.vector = context.get_value_type(vector_class()(element, self.lanes))
        self.pointer = context.get_value_type(element).as_pointer()
        self.i64 = ir.IntType(64)

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, self.i64(factor))

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.i64(index) if isinstance(index, int) else index])

    def load(self, pointer: Any) -> Value:
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        return Value(self.builder, self.builder.load(place, align=self.itemsize))

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.itemsize)

    def slot(self, table: Any, index: Any, kind: Any) -> Any:
        place = self.at(table, index)
        return self.builder.load(self.builder.bitcast(place, kind.as_pointer()))

    def variable(self, value: Any) -> Any:
        """Memory of its own, which LLVM turns into a register."""
        from numba.core import cgutils

        place = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value.llvm, place)
        return place

    def accumulate(self, place: Any, a: Value, b: Value) -> None:
        self.builder.store(a.fma(b, Value(self.builder, self.builder.load(place))).llvm, place)


def _points_tile(points: int, shared: bool) -> Any:
    """The tile for a number of points; its arguments are described at `points_tile`."""

    def tile(typingctx, table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            from numba.core.cgutils import for_range

            table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step = args
            e = _Emitter(context, builder, signature.args[6].dtype)
            first = e.load(start)
            sums = [e.variable(first) for _ in range(points)]

            def add_taps(count, x, w):
                """`count` taps for which position j of `x` serves point i with tap j - i."""
                weights = [e.load(e.at(w, e.times(w_step, t))) for t in range(count)]
                for j in range(points + count - 1):
                    value = e.load(e.at(x, e.times(point_step, j)))
                    for i in range(max(0, j - count + 1), min(points, j + 1)):
                        e.accumulate(sums[i], value, weights[j - i])

            def add_shared(x, w):
                groups = builder.udiv(taps, e.i64(_TOGETHER))
                rest = builder.urem(taps, e.i64(_TOGETHER))
                done = e.times(groups, _TOGETHER)
                with for_range(builder, groups) as loop:
                    t = e.times(loop.index, _TOGETHER)
                    add_taps(_TOGETHER, e.at(x, builder.mul(t, tap_step)), e.at(w, builder.mul(t, w_step)))
                for count in range(1, _TOGETHER):
                    with builder.if_then(builder.icmp_signed("==", rest, e.i64(count))):
                        add_taps(count, e.at(x, builder.mul(done, tap_step)), e.at(w, builder.mul(done, w_step)))

            def add_single(x, w):
                with for_range(builder, taps) as loop:
                    weight = e.load(e.at(w, builder.mul(loop.index, w_step)))
                    position = e.at(x, builder.mul(loop.index, tap_step))
                    for i, place in enumerate(sums):
                        e.accumulate(place, e.load(e.at(position, e.times(point_step, i))), weight)

            with for_range(builder, rows) as loop:
                entry = e.times(loop.index, 2)
                x = e.at(e.slot(table, entry, e.pointer), x_offset)
                w_row = e.at(w, e.slot(table, builder.add(entry, e.i64(1)), e.i64))
                (add_shared if shared else add_single)(x, w_row)
            for i, place in enumerate(sums):
                e.store(builder.load(place), e.at(out, e.times(out_step, i)))
            return context.get_dummy_value()

        return types.void(table, i64, i64, i64, i64, i64, w, i64, start, out, i64), codegen

    return intrinsic(tile)


# Named one by one because a kernel can only call what it can name.
_shared_8, _shared_4 = _points_tile(8, True), _points_tile(4, True)
_single_8, _single_4 = _points_tile(8, False), _points_tile(4, False)


@device
def points_tile(points, table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step):
    """Points of one vector of channels.

    points : 8 or 4
    table, rows : per row a pointer to the source and an offset (in elements) into the weights
    x_offset : elements from there to what the first tap of the first point reads
    point_step, tap_step : elements of the source between points and between taps
    taps, w, w_step : taps per row; weights, and the elements between them
    start : the vector that every sum begins with
    out, out_step : first point of the destination, elements between points
    """
    if point_step == tap_step:
        if points == 8:
            _shared_8(table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step)
        else:
            _shared_4(table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step)
    elif points == 8:
        _single_8(table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step)
    else:
        _single_4(table, rows, x_offset, point_step, tap_step, taps, w, w_step, start, out, out_step)


def _weight_tile(taps: int, vectors: int) -> Any:
    """The weight tile for a number of taps and vectors; its arguments are described at `weight_tile`."""

    def tile(typingctx, table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            from numba.core.cgutils import for_range

            table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector = args
            e = _Emitter(context, builder, signature.args[8].dtype)
            places = [
                [e.at(e.at(sums, e.times(sums_vector, v)), t * e.lanes) for v in range(vectors)] for t in range(taps)
            ]
            totals = [[e.variable(e.load(place)) for place in row] for row in places]
            with for_range(builder, rows) as loop:
                entry = e.times(loop.index, 2)
                x_row = e.at(e.slot(table, entry, e.pointer), x_offset)
                y_row = e.at(e.slot(table, builder.add(entry, e.i64(1)), e.pointer), y_offset)
                with for_range(builder, points) as inner:
                    x = e.at(x_row, builder.mul(inner.index, point_step))
                    y = e.at(y_row, builder.mul(inner.index, y_step))
                    factors = [e.load(e.at(y, v * e.lanes)) for v in range(vectors)]
                    for t in range(taps):
                        position = e.at(x, e.times(tap_step, t))
                        for v in range(vectors):
                            e.accumulate(totals[t][v], e.load(e.at(position, v * e.lanes)), factors[v])
            for row, variables in zip(places, totals, strict=True):
                for place, variable in zip(row, variables, strict=True):
                    e.store(builder.load(variable), place)
            return context.get_dummy_value()

        return types.void(table, i64, i64, i64, i64, i64, i64, i64, sums, i64), codegen

    return intrinsic(tile)


_weight_1, _weight_1_wide = _weight_tile(1, 1), _weight_tile(1, 2)
_weight_2, _weight_2_wide = _weight_tile(2, 1), _weight_tile(2, 2)
_weight_3, _weight_3_wide = _weight_tile(3, 1), _weight_tile(3, 2)
_weight_4, _weight_4_wide = _weight_tile(4, 1), _weight_tile(4, 2)
_weight_5, _weight_5_wide = _weight_tile(5, 1), _weight_tile(5, 2)
_weight_6, _weight_6_wide = _weight_tile(6, 1), _weight_tile(6, 2)


@device
def weight_tile(taps, wide, table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector):
    """Add to the weight gradient's `sums` of some taps of one kernel row.

    taps : 1 to WEIGHT_TAPS
    wide : two vectors of channels (true) or one
    table, rows : per row of points a pointer to its source and one to the gradient
    x_offset, y_offset : elements from there to what the first tap of the first point reads, and to that point
    points, point_step, tap_step, y_step : points per row; elements between points, between taps
    sums : one vector per tap; those of the second vector of channels are `sums_vector` elements further on
    """
    if wide:
        if taps == 1:
            _weight_1_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
        elif taps == 2:
            _weight_2_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
        elif taps == 3:
            _weight_3_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
        elif taps == 4:
            _weight_4_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
        elif taps == 5:
            _weight_5_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
        else:
            _weight_6_wide(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    elif taps == 1:
        _weight_1(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    elif taps == 2:
        _weight_2(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    elif taps == 3:
        _weight_3(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    elif taps == 4:
        _weight_4(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    elif taps == 5:
        _weight_5(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)
    else:
        _weight_6(table, rows, x_offset, y_offset, points, point_step, tap_step, y_step, sums, sums_vector)


@device
def next_points(p, low, high, begin, end):
    """The points to do next, of a range from `low` to `high` of which those from `begin` to `end` are regular.

    Returns the first point, which may lie before `p` (a tile that laps over the one before computes the same values
    once more), and how many: 8 or 4 regular ones, or a single one.
    """
    if p < begin or p >= end:
        return p, 1
    left = min(high, end) - p
    room = min(high, end) - max(low, begin)
    if left >= 8:
        return p, 8
    if left > 4 and room >= 8:
        return p + left - 8, 8
    if left >= 4:
        return p, 4
    if room >= 4:
        return p + left - 4, 4
    return p, 1


@device
def one_point(table, rows, c, entries, first, last, w, start):
    """The vector of one point: any taps, listed as pairs (offset of the weight, offset of the source)."""
    total = load(start, 0)
    for r in range(rows):
        x = offset(load_pointer(table, 2 * r, w), c)
        w_row = offset(w, table[2 * r + 1])
        for i in range(first, last):
            total = fma(load(x, entries[2 * i + 1]), load(w_row, entries[2 * i]), total)
    return total


@device
def four_vectors(table, rows, c, entries, first, last, w, w_vector, start, out):
    """`one_point` for four vectors side by side: four independent sums; weights `w_vector` elements apart."""
    n = lanes(w)
    a, b, c_, d = load(start, 0), load(start, n), load(start, 2 * n), load(start, 3 * n)
    for r in range(rows):
        row = offset(load_pointer(table, 2 * r, w), c)
        w_row = offset(w, table[2 * r + 1])
        for i in range(first, last):
            x = offset(row, entries[2 * i + 1])
            weight = offset(w_row, entries[2 * i])
            a = fma(load(x, 0), load(weight, 0), a)
            b = fma(load(x, n), load(weight, w_vector), b)
            c_ = fma(load(x, 2 * n), load(weight, 2 * w_vector), c_)
            d = fma(load(x, 3 * n), load(weight, 3 * w_vector), d)
    store(out, 0, a)
    store(out, n, b)
    store(out, 2 * n, c_)
    store(out, 3 * n, d)


@device
def one_point_narrow(table, rows, count, entries, first, last, w, start):
    """As `one_point` where there are only `count` channels, fewer than a vector has lanes."""
    total = load(start, 0)
    zero = splat(start, 0)
    for r in range(rows):
        x = load_pointer(table, 2 * r, w)
        w_row = offset(w, table[2 * r + 1])
        for i in range(first, last):
            total = fma(load_first(x, entries[2 * i + 1], count, zero), load(w_row, entries[2 * i]), total)
    return total
