"""Register tiles whose input and output rows lie at constant distances: no table of pointers.

`strided_tile` multiplies a few rows by a panel of weights, vectors along the columns::

    out[i][j] = start[j] + sum over k < run of  x[i][k] * w[k][j]                        i < rows, j < lanes

`columns_tile` is for one to `MOST_COLUMNS` columns, which would leave lanes of such vectors idle. Its vectors run along
the rows, transposed in registers as they are read::

    sums[j][i] = start[j][i] + sum over k < run of  x[i][k] * w[k][j]                    j < columns

`streamed_tile` is a panel of the first for very short sums: its weights stay in registers while any number of rows
passes.

In all of them each sum is one chain of multiply-adds over k in order: how rows and columns are dealt out changes no
bit.
"""

from __future__ import annotations

from typing import Any

from ._build import inlined, intrinsic
from .columns import LINE_BYTES, ColumnReader
from .emitter import Emitter
from .tile import MAX_ROWS, UNROLL, VECTORS
from .tile_steps import add_products, load_rows, store_rows

FEWEST_ROWS = 4  # of a tile of two vectors or three; with fewer, the last is computed again
WIDE_ROWS, WIDE_VECTORS = 4, 3  # twelve chains as well, and as many registers
MOST_COLUMNS = 8
# Rows of `columns_tile` are two vectors where columns are so few that one would leave the multiply-adders waiting.
COLUMNS_OF_TWO = 4
SHORTEST_RUNS = 4  # of `streamed_tile`: with these weights, the sums and what they begin with, 13 registers
# Vectors side by side in a tile of one, two or three rows: eight chains or more, and long stretches of weights.
VECTORS_OF_ROWS = (8, 4, 4)


def _strided_tile(rows: int, vectors: int) -> Any:
    """The tile; its arguments are described at `strided_tile`."""

    def tile(typingctx, valid, x, x_step, run, w, w_step, out, out_step, start, held, lanes):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            valid, x, x_step, run, w, w_step, out, out_step, start, held, lanes = args
            e = Emitter(context, builder, signature.args[1].dtype)
            numbers = [e.i64(i) for i in range(rows)]
            if rows == FEWEST_ROWS:
                last = builder.sub(valid, e.i64(1))
                numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
            x_rows = [e.at(x, builder.mul(x_step, i)) for i in numbers]
            out_rows = [e.at(out, builder.mul(out_step, i)) for i in numbers]
            sums = e.either(
                builder.icmp_signed("!=", held, e.i64(0)),
                # Beyond the last lane `out` belongs to another row, another thread, or nobody.
                lambda: load_rows(e, out_rows, vectors, lanes),
                lambda: load_rows(e, [start], vectors) * rows,
            )

            def step(k, sums):
                return add_products(e, [(e.at(row, k),) for row in x_rows], e.at(w, builder.mul(k, w_step)), sums)

            sums = e.carry(run, sums, step, UNROLL if rows * vectors > 8 else 1)
            store_rows(e, sums, out_rows, lanes)
            return context.get_dummy_value()

        return types.void(i64, x, i64, i64, w, i64, x, i64, start, i64, i64), codegen

    return intrinsic(tile)


def _columns_tile(columns: int, vectors: int) -> Any:
    """The tile; its arguments are described at `columns_tile`."""

    def tile(typingctx, x, x_step, run, ahead, w, start, out, out_row, out_lane):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            x, x_step, run, ahead, w, start, out, out_row, out_lane = args
            e = Emitter(context, builder, signature.args[0].dtype)
            offsets = [builder.mul(x_step, e.i64(i)) for i in range(e.lanes)]
            firsts = [e.at(x, builder.mul(x_step, e.i64(v * e.lanes))) for v in range(vectors)]
            # Rows of a tile to come that lie one after the other are asked for line by line, as memory likes it best.
            rows = e.i64(vectors * e.lanes)
            whole = builder.icmp_signed(">=", ahead, builder.mul(x_step, rows))
            in_order = builder.and_(builder.icmp_signed("==", x_step, run), whole)
            apart = builder.select(in_order, e.i64(LINE_BYTES // e.itemsize), x_step)
            pace = builder.select(in_order, rows, e.i64(1))
            reader = ColumnReader(e, firsts, offsets, apart, ahead, pace)
            places = [(v, j) for v in range(vectors) for j in range(columns)]

            def add(k, sums, read):
                new = []
                weights = e.at(w, builder.mul(k, e.i64(columns)))
                for v in range(vectors):
                    mine = sums[v * columns : (v + 1) * columns]
                    for c, column in enumerate(read(k, v)):
                        for j in range(columns):
                            mine[j] = e.broadcast(e.at(weights, c * columns + j)).fma(column, mine[j])
                    new += mine
                    if v + 1 < vectors:
                        e.keep_order()  # lest weights are kept for the next vector, for which there is no register
                return new

            sums = [e.load(start, j * vectors + v) for v, j in places]
            sums = reader.walk(
                run,
                sums,
                lambda k, sums: add(k, sums, reader.read),
                lambda k, sums: add(k, sums, lambda k, v: [reader.one(k, v)]),
            )
            columns_out = [e.at(out, builder.mul(out_lane, e.i64(j))) for j in range(columns)]

            def store_vectors():
                for total, (v, j) in zip(sums, places, strict=True):
                    e.store(total, columns_out[j], v)
                return []

            def store_elements():
                for total, (v, j) in zip(sums, places, strict=True):
                    for i in range(e.lanes):
                        row = builder.mul(out_row, e.i64(v * e.lanes + i))
                        e.store_element(total.lane(i), e.at(columns_out[j], row))
                return []

            e.either(builder.icmp_signed("==", out_row, e.i64(1)), store_vectors, store_elements)
            return context.get_dummy_value()

        return types.void(x, i64, i64, i64, w, start, out, i64, i64), codegen

    return intrinsic(tile)


def _streamed_tile(run: int) -> Any:
    """The tile; its arguments are described at `streamed_tile`."""

    def tile(typingctx, rows, x, x_step, w, w_step, out, out_step, start):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            rows, x, x_step, w, w_step, out, out_step, start = args
            e = Emitter(context, builder, signature.args[1].dtype)
            weights = load_rows(e, [e.at(w, builder.mul(w_step, e.i64(k))) for k in range(run)], VECTORS)
            first = load_rows(e, [start], VECTORS)

            def row(i, _):
                source, target = e.at(x, builder.mul(i, x_step)), e.at(out, builder.mul(i, out_step))
                sums = first
                for k in range(run):
                    value = e.broadcast(e.at(source, k))
                    sums = [value.fma(weights[k * VECTORS + j], sums[j]) for j in range(VECTORS)]
                store_rows(e, sums, [target])
                return []

            e.carry(rows, [], row, UNROLL)
            return context.get_dummy_value()

        return types.void(i64, x, i64, w, i64, x, i64, start), codegen

    return intrinsic(tile)


_streamed_1, _streamed_2, _streamed_3, _streamed_4 = (_streamed_tile(run) for run in range(1, SHORTEST_RUNS + 1))
_tile_6, _tile_5, _tile_4 = (_strided_tile(rows, VECTORS) for rows in (6, 5, 4))
_tile_wide = _strided_tile(WIDE_ROWS, WIDE_VECTORS)
_tile_3, _tile_2, _tile_1 = (_strided_tile(rows, VECTORS_OF_ROWS[rows - 1]) for rows in (3, 2, 1))
_columns_1, _columns_2, _columns_3, _columns_4 = (_columns_tile(n, 2) for n in range(1, COLUMNS_OF_TWO + 1))
_columns_5, _columns_6, _columns_7, _columns_8 = (
    _columns_tile(n, 1) for n in range(COLUMNS_OF_TWO + 1, MOST_COLUMNS + 1)
)


@inlined
def strided_tile(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes):
    """A few rows times a panel of weights of `VECTORS` vectors.

    rows : 1 to `MAX_ROWS`
    x, x_step : first input row, elements from each to the next
    run : consecutive elements of an input row that are multiplied
    w, w_step : weights of the panel's lanes for the first of them, elements from there to those for the next
    out, out_step : first output row, elements from each to the next
    start, held : a padded row of initial values; ignored if `held`: then what `out` holds
    lanes : number of output columns that exist
    """
    if rows == MAX_ROWS:
        _tile_6(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)
    elif rows == MAX_ROWS - 1:
        _tile_5(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)
    else:
        _tile_4(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)


@inlined
def wide_tile(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes):
    """As `strided_tile` for 1 to `WIDE_ROWS` rows and a panel of `WIDE_VECTORS` vectors."""
    _tile_wide(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)


@inlined
def streamed_tile(rows, x, x_step, run, w, w_step, out, out_step, start):
    """As `strided_tile` for any number of rows, ``run <= SHORTEST_RUNS`` and all lanes of `VECTORS` vectors."""
    if run == 1:
        _streamed_1(rows, x, x_step, w, w_step, out, out_step, start)
    elif run == 2:
        _streamed_2(rows, x, x_step, w, w_step, out, out_step, start)
    elif run == 3:
        _streamed_3(rows, x, x_step, w, w_step, out, out_step, start)
    else:
        _streamed_4(rows, x, x_step, w, w_step, out, out_step, start)


@inlined
def long_tile(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes):
    """As `strided_tile` for one, two or three rows: the panel has `VECTORS_OF_ROWS` vectors."""
    if rows == 3:
        _tile_3(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)
    elif rows == 2:
        _tile_2(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)
    else:
        _tile_1(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)


@inlined
def columns_tile(columns, x, x_step, run, ahead, w, start, out, out_row, out_lane):
    """As many rows as one vector has lanes, or two up to `COLUMNS_OF_TWO` columns, times a few columns of weights.

    columns : 1 to `MOST_COLUMNS`
    x, x_step : first input row, elements from each to the next
    run, w : elements of an input row that are multiplied; weights, ``w[k * columns + j]``
    ahead : how many elements before they are read cache lines are asked for
    start : what the sums begin with, ``[j * rows + i]``, whole vectors
    out, out_row, out_lane : first result; elements from there to that of the next row, and of the next column
    """
    if columns == 1:
        _columns_1(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 2:
        _columns_2(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 3:
        _columns_3(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 4:
        _columns_4(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 5:
        _columns_5(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 6:
        _columns_6(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    elif columns == 7:
        _columns_7(x, x_step, run, ahead, w, start, out, out_row, out_lane)
    else:
        _columns_8(x, x_step, run, ahead, w, start, out, out_row, out_lane)
