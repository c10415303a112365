"""Reading a matrix column by column where its rows lie in memory: a vector takes an element of each of several rows.

16 bytes of each row are loaded, and squares are transposed inside the vectors' 16-byte parts, where shuffles are
cheapest. `pack_columns` and `pack_lanes` store what is read, `columns_dot` multiplies it at once.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from ._target import LINE_BYTES
from .emitter import Emitter, emitted
from .pointer import offset
from .simd import lanes
from .value import Value

PART_BYTES = 16
AHEAD_BYTES = 512
DOT_ROWS = 8  # lines that one place of the first cache holds
# What `pack_lanes` writes, other cores have read: it is asked for so many rows ahead, which halves the time.
PACK_AHEAD = 8


class ColumnReader:
    """One vector's worth of rows, or several, and the columns read from them a few at a time.

    `firsts` are the first rows of the vectors, `offsets` elements from there to all rows of a vector: so many addresses
    are sums of few registers. For every line of a row, one per row is asked for that lies `ahead` elements further on,
    those of neighbouring rows `apart` elements from each other; for each column read, they move on by `pace` elements.
    """

    def __init__(
        self, e: Emitter, firsts: list[Any], offsets: list[Any], apart: Any, ahead: Any = None, pace: Any = None
    ) -> None:
        self.e, self.firsts, self.offsets, self.apart = e, firsts, offsets, apart
        self.ahead = e.i64(AHEAD_BYTES // e.itemsize) if ahead is None else ahead
        self.pace = e.i64(1) if pace is None else pace
        self.step = PART_BYTES // e.itemsize  # columns that one reading yields

    def read(self, place: Any, vector: int = 0) -> list[Value]:
        """`step` vectors: the columns from element `place` of the rows of a vector on."""
        e, step = self.e, self.step
        part = e.ir.VectorType(e.scalar, step)
        parts = [e.builder.bitcast(row, part.as_pointer()) for row in self._rows_at(place, vector)]
        parts = [e.builder.load(pointer, align=e.itemsize) for pointer in parts]
        vectors = [self._join(parts[i::step]) for i in range(step)]
        low, high = (self._interleaved(first) for first in (0, step // 2))
        for _ in range(step.bit_length() - 1):
            pairs = list(zip(vectors[: step // 2], vectors[step // 2 :], strict=True))
            vectors = [e.builder.shuffle_vector(a, b, order) for a, b in pairs for order in (low, high)]
        return [Value(e.builder, vector) for vector in vectors]

    def one(self, place: Any, vector: int = 0) -> Value:
        """The column at element `place`."""
        e = self.e
        column = e.ir.Constant(e.vector, e.ir.Undefined)
        for i, row in enumerate(self._rows_at(place, vector)):
            element = e.builder.load(row, align=e.itemsize)
            column = e.builder.insert_element(column, element, e.ir.Constant(e.i32, i))
        return Value(e.builder, column)

    def _rows_at(self, place: Any, vector: int) -> list[Any]:
        first = self.e.at(self.firsts[vector], place)
        return [self.e.at(first, offset) for offset in self.offsets]

    def _prefetch(self, place: Any) -> None:
        """Ask for the lines that will be read later: more rows than the machine follows by itself."""
        e = self.e
        line = e.at(self.firsts[0], e.builder.add(e.builder.mul(place, self.pace), self.ahead))
        for _ in range(len(self.firsts) * len(self.offsets)):
            e.prefetch(line)
            line = e.at(line, self.apart)

    def walk(self, count: Any, values: list[Any], several: Any, single: Any, by_lines: bool = False) -> list[Any]:
        """``values = several(k, values)`` for whole readings from column k on, then ``single(k, values)`` for the rest.

        A cache line of each row is used up before the next: the rows may share few places of the cache. `by_lines`,
        the readings of a line are written out one after the other: worth it where few instructions use what is read.
        """
        e, builder, done = self.e, self.e.builder, self.e.i64(0)
        line = LINE_BYTES // e.itemsize

        def whole_line(k, values):
            self._prefetch(k)
            for first in range(0, line, self.step):
                values = several(builder.add(k, e.i64(first)), values)
            return values

        def reading(k, values):
            with builder.if_then(builder.icmp_signed("==", builder.and_(k, e.i64(line - 1)), e.i64(0))):
                self._prefetch(k)
            return several(k, values)

        for step, body in (((line, whole_line),) if by_lines else ()) + ((self.step, reading), (1, single)):
            times = builder.sdiv(builder.sub(count, done), e.i64(step))
            values = e.carry(times, values, self._from(done, step, body))
            done = builder.add(done, builder.mul(times, e.i64(step)))
        return values

    def _from(self, first: Any, step: int, body: Any) -> Any:
        """What a loop does that begins at column `first` and takes `step` at a time."""
        builder = self.e.builder
        return lambda n, values: body(builder.add(first, builder.mul(n, self.e.i64(step))), values)

    def _join(self, parts: list[Any]) -> Any:
        while len(parts) > 1:
            lanes = parts[0].type.count
            order = self._order(range(2 * lanes))
            parts = [self.e.builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _interleaved(self, first: int) -> Any:
        """Half of each part of two vectors, in turn, from element `first` of the parts on."""
        lanes, step = self.e.lanes, self.step
        return self._order(
            part + first + i // 2 + lanes * (i % 2) for part in range(0, lanes, step) for i in range(step)
        )

    def _order(self, numbers: Any) -> Any:
        ir, numbers = self.e.ir, list(numbers)
        return ir.Constant(ir.VectorType(self.e.i32, len(numbers)), numbers)


@intrinsic
def pack_columns(typingctx, source, row, columns, packed, packed_row):
    """``packed[k * packed_row + i] = source[i * row + k]`` for ``k < columns`` and a vector's worth of rows `i`."""

    def emit(e, source, row, columns, packed, packed_row):
        builder = e.builder
        group = ColumnReader(e, [source], [e.times(row, i) for i in range(e.lanes)], row)

        def put(k, column):
            e.store(column, e.at(packed, builder.mul(k, packed_row)))

        def several(k, _):
            for i, column in enumerate(group.read(k)):
                put(builder.add(k, e.i64(i)), column)
            return []

        def single(k, _):
            put(k, group.one(k))
            return []

        group.walk(columns, [], several, single)

    return emitted(emit, source, source, row, columns, packed, packed_row)


@intrinsic
def _pack_taps(typingctx, vectors, source, row, last, ahead, columns, taps, packed, run_row, tap_row):
    """`pack_lanes` for 1 or 2 vectors; 0: for one, of which the lanes beyond `last` are that lane again."""

    def emit(e, vectors, *rest):
        e.choose(vectors, (2, 1, 0), lambda vectors: _packed_taps(e, vectors, *rest))

    return emitted(emit, source, vectors, source, row, last, ahead, columns, taps, packed, run_row, tap_row)


def _packed_taps(
    e: Emitter, vectors: int, source: Any, row: Any, last: Any, ahead: Any, columns: Any, taps: Any, packed: Any,
    run_row: Any, tap_row: Any,
) -> None:  # fmt: skip
    """Emit `_pack_taps` for a number of vectors."""
    builder, one = e.builder, e.i64(1)
    numbers = [e.i64(i) for i in range(e.lanes)]
    if vectors == 0:
        numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
    firsts = [e.at(source, e.times(row, v * e.lanes)) for v in range(max(vectors, 1))]
    reader = ColumnReader(e, firsts, [builder.mul(row, i) for i in numbers], row, ahead)
    next_run = builder.sub(run_row, builder.mul(tap_row, builder.sub(taps, one)))

    def put(column, place, tap):
        target = e.at(packed, place)
        e.prefetch(e.at(target, e.times(run_row, PACK_AHEAD)), write=True)
        for v, value in enumerate(column):
            e.store(value, target, v)
        tap = builder.add(tap, one)
        ends = builder.icmp_signed("==", tap, taps)
        return [builder.add(place, builder.select(ends, next_run, tap_row)), builder.select(ends, e.i64(0), tap)]

    def several(k, at):
        for column in zip(*(reader.read(k, v) for v in range(len(firsts))), strict=True):
            at = put(column, *at)
        return at

    reader.walk(
        columns, [e.i64(0)] * 2, several, lambda k, at: put([reader.one(k, v) for v in range(len(firsts))], *at)
    )


@device
def pack_lanes(source, row, ahead, columns, taps, packed, run_row, tap_row, valid, filled):
    """``packed[r * run_row + t * tap_row + i] = source[i * row + k]``, where ``k = r * taps + t``.

    For ``i < valid`` and ``k < columns``. As far as `filled`, a multiple of a vector's lanes, there are any numbers.
    Lines are asked for that lie `ahead` elements further on in memory.
    """
    n = lanes(packed)
    if valid == 2 * n:
        _pack_taps(2, source, row, 0, ahead, columns, taps, packed, run_row, tap_row)
        return
    for lane in range(0, filled, n):
        first = min(lane, valid - 1)
        last = min(n, valid - first) - 1
        rows, vectors = offset(source, first * row), 1 if last == n - 1 else 0
        _pack_taps(vectors, rows, row, last, ahead, columns, taps, offset(packed, lane), run_row, tap_row)


@intrinsic
def columns_dot(typingctx, x, w, row, count, start, out, valid):
    """``out[i] = start[i] + sum over k < count of x[k] * w[i * row + k]`` for the first `valid` of a few `i`.

    `DOT_ROWS`, or as many as a vector has lanes if those are more: each vector is a chain of additions, whose latency
    another hides; but rows whose distance is a power of two share one place of the first cache, and more of them would
    not fit. `start` is read as whole vectors.
    """

    def emit(e, x, w, row, count, start, out, valid):
        builder, lanes = e.builder, e.lanes
        vectors = max(1, DOT_ROWS // lanes)
        last = builder.sub(valid, e.i64(1))  # rows that do not exist are the last one again
        numbers = [e.i64(i) for i in range(vectors * lanes)]
        numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
        offsets = [builder.mul(row, i) for i in numbers]
        readers = [ColumnReader(e, [w] * vectors, offsets[v * lanes : (v + 1) * lanes], row) for v in range(vectors)]
        places = [v * lanes for v in range(vectors)]

        def add(k, column, total):
            return e.broadcast(e.at(x, k)).fma(column, total)

        def several(k, totals):
            totals = list(totals)
            for v, reader in enumerate(readers):
                for i, column in enumerate(reader.read(k)):
                    totals[v] = add(builder.add(k, e.i64(i)), column, totals[v])
            return totals

        def single(k, totals):
            return [add(k, reader.one(k), total) for reader, total in zip(readers, totals, strict=True)]

        start_values = [e.load(e.at(start, e.i64(place))) for place in places]
        sums = readers[0].walk(count, start_values, several, single, by_lines=True)

        def put(mask_of):
            for place, total in zip(places, sums, strict=True):
                e.store(total, e.at(out, e.i64(place)), mask=mask_of(place))
            return []

        full = builder.icmp_signed(">=", valid, e.i64(vectors * lanes))
        e.either(full, lambda: put(lambda _: None), lambda: put(lambda place: e.mask(builder.sub(valid, e.i64(place)))))

    return emitted(emit, x, x, w, row, count, start, out, valid)
