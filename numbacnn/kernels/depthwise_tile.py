"""Register tiles of depthwise convolution, over *strips*: positions of one vector of channels, side by side.

`points_12`, `points_8` and `points_4` (forward, data gradient) compute so many neighbouring points of one vector of
channels::

    out[i] = start + sum over runs r, taps t of  x[r][i + t] * w[r][t]

One accumulator per point: eight cover the latency of the multiply-add (4 cycles x 2 pipes), twelve with time to spare.
A run is three, two or one neighbouring taps. With three, each of 14 positions is loaded once for its up to 3
multiply-adds: 17 loads per 36.

`weight_tile` (weight gradient) keeps 1 to 6 taps of a run in registers while all points pass by::

    sums[t] += sum over rows r, points i of  x[r][i + t] * y[r][i]

With few taps several neighbouring points have sums of their own, which are added at the end: enough chains again.

All distances are constants of the machine, so addresses cost no instruction.

`line_tile` needs no strips: six to four points of two vectors of channels where they lie, one multiply-add per loaded
position, twelve accumulators. Half of the loads of unaligned memory take twice as long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ._build import device, intrinsic
from .simd import Value, vector_class

WEIGHT_TAPS = 6
LINE_VECTORS = 2  # a cache line
LONGEST_RUN = 3  # taps: with 12 accumulators, 3 weights and a position just the 16 registers of AVX2


def _no_unrolling(module: Any) -> Any:
    """Metadata that says so; by LLVM's rule a loop's metadata names itself first."""
    loop = module.add_metadata(
        [module.add_metadata(["llvm.loop.unroll.disable"]), module.add_metadata([str(len(module.metadata))])]
    )
    loop.operands = (loop, *loop.operands[:1])
    return loop


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
        self.zero = Value(builder, ir.Constant(self.vector, None))
        self.i64 = ir.IntType(64)

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, self.i64(factor))

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.i64(index) if isinstance(index, int) else index])

    def load(self, pointer: Any, vector: int = 0) -> Value:
        """Vector number `vector` from `pointer` on."""
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        return Value(self.builder, self.builder.load(place, align=self.itemsize))

    def store(self, value: Value, pointer: Any, vector: int = 0) -> None:
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        self.builder.store(value.llvm, place, align=self.itemsize)

    def slot(self, table: Any, index: Any, kind: Any = None) -> Any:
        """What a table keeps at `index`: an integer, or a pointer of the type `kind`."""
        place = self.at(table, index)
        return self.builder.load(place if kind is None else self.builder.bitcast(place, kind.as_pointer()))

    @contextlib.contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """``for index in range(count)``, not unrolled: bodies are long, and counts small."""
        builder = self.builder
        head, body, done = (builder.append_basic_block(name) for name in ("loop", "body", "done"))
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(self.i64)
        index.add_incoming(self.i64(0), before)
        builder.cbranch(builder.icmp_signed("<", index, count), body, done)
        builder.position_at_end(body)
        yield index
        index.add_incoming(builder.add(index, self.i64(1)), builder.block)
        builder.branch(head).set_metadata("llvm.loop", _no_unrolling(builder.module))
        builder.position_at_end(done)

    def variable(self, value: Value) -> Any:
        """Memory of its own, which LLVM turns into a register."""
        from numba.core import cgutils

        place = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value.llvm, place)
        return place

    def value(self, place: Any) -> Value:
        return Value(self.builder, self.builder.load(place))

    def accumulate(self, place: Any, a: Value, b: Value) -> None:
        self.builder.store(a.fma(b, self.value(place)).llvm, place)


def _points_tile(points: int) -> Any:
    """The tile for a number of points, for kernels to call."""

    def tile(typingctx, table, threes, twos, ones, x_offset, w, start, out, out_step):
        """`points` points of one vector of channels.

        table : per run a pointer to the position of its first tap and an offset (in elements) into the weights; first
            all runs of three taps, then those of two, then single taps
        threes, twos, ones : how many there are of each
        x_offset : elements from there to the position of the first point
        w, start : weights of this vector; the vector that every sum begins with
        out, out_step : first point of the destination, elements between points
        """
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, threes, twos, ones, x_offset, w, start, out, out_step = args
            e = _Emitter(context, builder, signature.args[5].dtype)
            first = e.load(start)
            sums = [e.variable(first) for _ in range(points)]

            def add_run(taps, entry):
                x = e.at(e.slot(table, entry, e.pointer), x_offset)
                w_run = e.at(w, e.slot(table, builder.add(entry, e.i64(1))))
                weights = [e.load(w_run, t) for t in range(taps)]
                for j in range(points + taps - 1):
                    value = e.load(x, j)
                    for i in range(max(0, j - taps + 1), min(points, j + 1)):
                        e.accumulate(sums[i], value, weights[j - i])

            entry = e.i64(0)
            for taps, count in ((3, threes), (2, twos), (1, ones)):
                with e.loop(count) as index:
                    add_run(taps, builder.add(entry, e.times(index, 2)))
                entry = builder.add(entry, e.times(count, 2))
            for i, place in enumerate(sums):
                e.store(e.value(place), e.at(out, e.times(out_step, i)))
            return context.get_dummy_value()

        return types.void(table, i64, i64, i64, i64, w, start, out, i64), codegen

    return intrinsic(tile)


# Named one by one because a kernel can only call what it can name.
points_12, points_8, points_4 = _points_tile(12), _points_tile(8), _points_tile(4)


@intrinsic
def copy_positions(typingctx, target, vector_step, source, source_step, count, vectors):
    """Copy some vectors of channels from each of `count` positions, each vector to a strip of its own.

    target, vector_step : the first vector's strip, elements from there to the next one's
    source, source_step : the channels of the first position, elements between positions
    """
    from numba.core import types

    i64 = types.int64

    def codegen(context, builder, signature, args):
        target, vector_step, source, source_step, count, vectors = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        pairs = builder.udiv(vectors, e.i64(2))
        with e.loop(count) as index:
            position = e.at(source, builder.mul(index, source_step))
            place = e.at(target, e.times(index, e.lanes))
            with e.loop(pairs) as pair:
                here = e.at(position, e.times(pair, 2 * e.lanes))
                there = e.at(place, builder.mul(e.times(pair, 2), vector_step))
                values = e.load(here), e.load(here, 1)
                e.store(values[0], there)
                e.store(values[1], e.at(there, vector_step))
            odd = e.times(pairs, 2)
            with builder.if_then(builder.icmp_signed("<", odd, vectors)):
                last = e.load(e.at(position, e.times(odd, e.lanes)))
                e.store(last, e.at(place, builder.mul(odd, vector_step)))
        return context.get_dummy_value()

    return types.void(target, i64, source, i64, i64, i64), codegen


def _spread(group: int) -> Any:
    """Copy vectors of channels from some positions, one copy per channel of the groups of `group` lanes.

    Copy k goes to ``target + k * part_step``, position after position; each of its lanes holds channel k of its group.
    """

    def copy(typingctx, target, part_step, source, source_step, count):
        from llvmlite import ir
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            target, part_step, source, source_step, count = args
            e = _Emitter(context, builder, signature.args[0].dtype)
            i32 = ir.IntType(32)
            kind = ir.VectorType(i32, e.lanes)
            with e.loop(count) as index:
                value = e.load(e.at(source, builder.mul(index, source_step))).llvm
                place = e.at(target, e.times(index, e.lanes))
                for k in range(group):
                    order = ir.Constant(kind, [i32(lane // group * group + k) for lane in range(e.lanes)])
                    copied = builder.shuffle_vector(value, value, order)
                    e.store(Value(builder, copied), e.at(place, e.times(part_step, k)))
            return context.get_dummy_value()

        return types.void(target, i64, source, i64, i64), codegen

    return intrinsic(copy)


spread_1, spread_2, spread_4 = _spread(1), _spread(2), _spread(4)


def _line_tile(points: int) -> Any:
    """The tile for a number of points; its arguments are described at `line_tile`."""

    def tile(typingctx, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step = args
            e = _Emitter(context, builder, signature.args[7].dtype)
            vectors = range(LINE_VECTORS)
            with e.loop(panels) as panel:
                column = e.times(panel, LINE_VECTORS * e.lanes)
                first = [e.load(e.at(start, column), v) for v in vectors]
                sums = [[e.variable(value) for value in first] for _ in range(points)]
                x_panel = builder.add(x_offset, column)
                w_here = e.at(w, builder.mul(panel, w_panel))
                with e.loop(rows) as row:
                    entry = e.times(row, 2)
                    x_row = e.at(e.slot(table, entry, e.pointer), x_panel)
                    w_row = e.at(w_here, e.slot(table, builder.add(entry, e.i64(1))))
                    with e.loop(taps) as tap:
                        x = e.at(x_row, builder.mul(tap, x_tap))
                        place = e.at(w_row, builder.mul(tap, w_tap))
                        weights = [e.load(place, v) for v in vectors]
                        for i in range(points):
                            for v in vectors:
                                e.accumulate(sums[i][v], e.load(e.at(x, e.times(x_step, i)), v), weights[v])
                place = e.at(out, column)
                for i in range(points):
                    for v in vectors:
                        e.store(e.value(sums[i][v]), e.at(place, e.times(out_step, i)), v)
            return context.get_dummy_value()

        return types.void(table, *[i64] * 6, w, i64, i64, start, out, i64), codegen

    return intrinsic(tile)


_line_6, _line_5, _line_4 = _line_tile(6), _line_tile(5), _line_tile(4)


@device
def line_tile(points, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step):
    """Neighbouring points of panels of `LINE_VECTORS` vectors of channels, straight from channels-last memory.

    points : 4 to 6
    table, rows : per row under the kernel a pointer to it and an offset (in elements) into the weights
    taps : of every row
    panels : how many; they lie side by side
    x_offset, x_step, x_tap : elements from a row's pointer to what the first tap of the first point reads, from each
        point to the next, from each tap to the next
    w, w_tap, w_panel : weights, elements from those of a tap to those of the next, from each panel's to the next's
    start : what every sum begins with
    out, out_step : first point of the destination, elements between points
    """
    if points == 6:
        _line_6(table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step)
    elif points == 5:
        _line_5(table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step)
    else:
        _line_4(table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step)


def _line_weight_tile(rows: int, taps: int) -> Any:
    """The tile for some kernel rows and taps; its arguments are described at `line_weight_tile`."""

    def tile(typingctx, table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector = args
            e = _Emitter(context, builder, signature.args[6].dtype)
            x_rows = [e.at(e.slot(table, 2 * r, e.pointer), x_offset) for r in range(rows)]
            sums_rows = [e.at(sums, builder.add(e.slot(table, 2 * r + 1), sums_offset)) for r in range(rows)]
            with e.loop(vectors) as v:
                column = e.times(v, e.lanes)
                places = [e.at(row, builder.mul(v, sums_vector)) for row in sums_rows]
                totals = [[e.variable(e.load(place, t)) for t in range(taps)] for place in places]
                x, gradient = [e.at(row, column) for row in x_rows], e.at(y, column)
                with e.loop(points) as point:
                    factor = e.load(e.at(gradient, builder.mul(point, y_step)))
                    shift = builder.mul(point, x_step)
                    for r in range(rows):
                        here = e.at(x[r], shift)
                        for t in range(taps):
                            e.accumulate(totals[r][t], e.load(e.at(here, e.times(x_tap, t))), factor)
                for r in range(rows):
                    for t in range(taps):
                        e.store(e.value(totals[r][t]), places[r], t)
            return context.get_dummy_value()

        return types.void(table, *[i64] * 5, y, i64, sums, i64, i64), codegen

    return intrinsic(tile)


_line_weight_33, _line_weight_32, _line_weight_31 = (_line_weight_tile(3, taps) for taps in (3, 2, 1))
_line_weight_23, _line_weight_22, _line_weight_21 = (_line_weight_tile(2, taps) for taps in (3, 2, 1))
_line_weight_13, _line_weight_12, _line_weight_11 = (_line_weight_tile(1, taps) for taps in (3, 2, 1))


@device
def line_weight_tile(
    rows, taps, table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
):  # fmt: skip
    """Add to the weight gradient's `sums` what some points of one row contribute, straight from channels-last memory.

    rows, taps : kernel rows and taps of each, 1 to 3
    table : per kernel row a pointer to the source row and an offset (in elements) into the sums
    points, vectors : how many points, and vectors of channels side by side
    x_offset, x_step, x_tap : elements from a row's pointer to what the first tap of the first point reads, from each
        point to the next, from each tap to the next
    y, y_step : gradient of the first point, elements from each point to the next
    sums, sums_offset, sums_vector : the sums, elements to add for the first tap, and from each vector's to the next's
    """
    if rows == 3:
        if taps == 3:
            _line_weight_33(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
        elif taps == 2:
            _line_weight_32(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
        else:
            _line_weight_31(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
    elif rows == 2:
        if taps == 3:
            _line_weight_23(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
        elif taps == 2:
            _line_weight_22(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
        else:
            _line_weight_21(
                table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
            )  # fmt: skip
    elif taps == 3:
        _line_weight_13(
            table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
        )  # fmt: skip
    elif taps == 2:
        _line_weight_12(
            table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
        )  # fmt: skip
    else:
        _line_weight_11(
            table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
        )  # fmt: skip


def _weight_tile(taps: int) -> Any:
    """The weight tile for a number of taps; its arguments are described at `weight_tile`."""
    sets = (6, 4, 3, 3, 2, 2)[taps - 1]  # with as many gradients and a position, 16 registers at most

    def tile(typingctx, table, rows, x_offset, y_offset, points, sums):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, rows, x_offset, y_offset, points, sums = args
            e = _Emitter(context, builder, signature.args[5].dtype)
            totals = [[e.variable(e.load(sums, t) if s == 0 else e.zero) for t in range(taps)] for s in range(sets)]

            def add_points(count, x, y):
                factors = [e.load(y, i) for i in range(count)]
                for j in range(count + taps - 1):
                    value = e.load(x, j)
                    for i in range(max(0, j - taps + 1), min(count, j + 1)):
                        e.accumulate(totals[i % sets][j - i], value, factors[i])

            step = sets * e.lanes
            groups = builder.udiv(points, e.i64(sets))
            rest = builder.urem(points, e.i64(sets))
            done = e.times(groups, step)
            with e.loop(rows) as row:
                entry = e.times(row, 2)
                x = e.at(e.slot(table, entry, e.pointer), x_offset)
                y = e.at(e.slot(table, builder.add(entry, e.i64(1)), e.pointer), y_offset)
                with e.loop(groups) as index:
                    place = e.times(index, step)
                    add_points(sets, e.at(x, place), e.at(y, place))
                with e.loop(rest) as index:
                    place = builder.add(done, e.times(index, e.lanes))
                    add_points(1, e.at(x, place), e.at(y, place))
            for t in range(taps):
                total = e.value(totals[0][t])
                for s in range(1, sets):
                    total = total + e.value(totals[s][t])
                e.store(total, sums, t)
            return context.get_dummy_value()

        return types.void(table, i64, i64, i64, i64, sums), codegen

    return intrinsic(tile)


_weight_1, _weight_2, _weight_3, _weight_4 = _weight_tile(1), _weight_tile(2), _weight_tile(3), _weight_tile(4)
_weight_5, _weight_6 = _weight_tile(5), _weight_tile(6)


@device
def weight_tile(taps, table, rows, x_offset, y_offset, points, sums):
    """Add to the weight gradient's `sums`, one vector per tap, of some taps of a run.

    taps : 1 to WEIGHT_TAPS
    table, rows : per row of points a pointer to the strips of its input and one to its gradient
    x_offset, y_offset : elements from there to what the first tap of the first point reads, and to that point
    points : points per row
    """
    if taps == 1:
        _weight_1(table, rows, x_offset, y_offset, points, sums)
    elif taps == 2:
        _weight_2(table, rows, x_offset, y_offset, points, sums)
    elif taps == 3:
        _weight_3(table, rows, x_offset, y_offset, points, sums)
    elif taps == 4:
        _weight_4(table, rows, x_offset, y_offset, points, sums)
    elif taps == 5:
        _weight_5(table, rows, x_offset, y_offset, points, sums)
    else:
        _weight_6(table, rows, x_offset, y_offset, points, sums)
