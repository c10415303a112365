"""Register tiles whose input and output rows lie at constant distances: no table of pointers.

`strided_tile` multiplies a few rows by panels of weights, vectors along the columns::

    out[i][j] = start[j] + sum over k < run of  x[i][k] * w[k][j]                        i < rows, j < lanes

`columns_tile` is for one to `MOST_COLUMNS` columns, which would leave lanes of such vectors idle. Its vectors run along
the rows, transposed in registers as they are read::

    sums[j][i] = start[j][i] + sum over k < run of  x[i][k] * w[k][j]                    j < columns

`few_rows_tile` does so with weights that lie in rows apart, for so few rows that packing them would not pay.
`streamed_tile` is for very short sums: a panel's weights stay in registers while any number of rows passes.

In all of them each sum is one chain of multiply-adds over k in order: how rows and columns are dealt out changes no
bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._build import intrinsic
from ._target import LINE_BYTES
from .columns import ColumnReader
from .emitter import Emitter, emitted
from .tile import GEMM_ROWS, MIN_GEMM_ROWS, UNROLL, VECTORS
from .tile_steps import add_products, ask_for_panel, load_rows, row_numbers, steps, store_rows

WIDE_ROWS, WIDE_VECTORS = 4, 3  # twelve chains as well, and as many registers
MOST_COLUMNS = 8
# Rows of `columns_tile` are two vectors where columns are so few that one would leave the multiply-adders waiting.
COLUMNS_OF_TWO = 4
SHORTEST_RUNS = 4  # of `streamed_tile`: with these weights, the sums and what they begin with, 13 registers
# Vectors side by side in a tile of one, two or three rows: eight chains or more, and long stretches of weights.
VECTORS_OF_ROWS = (8, 4, 4)


@intrinsic
def strided_tile(typingctx, rows, x, x_step, run, ahead, w, w_panel, out, out_step, start, held, lanes):
    """A few rows times panels of packed weights of `VECTORS` vectors.

    rows : 1 to `MAX_ROWS`
    x, x_step : first input row, elements from each to the next
    run : consecutive elements of an input row that are multiplied
    ahead : 1 if what lies behind the last row, where the next tile goes on reading, is to be asked for, else 0
    w, w_panel : weights of the first panel, those for successive elements of a row one after the other; elements from
        there to the next panel's
    out, out_step : first output row, elements from each to the next
    start, held : a padded row of initial values; ignored if `held`: then what `out` holds
    lanes : number of output columns that exist
    """

    def emit(e, rows, x, x_step, run, ahead, w, w_panel, *rest):
        panels = Panels(w, e.i64(VECTORS * e.lanes), w_panel, ahead)  # a constant step: fewer addresses to work out
        e.choose(
            rows, GEMM_ROWS, lambda most: _rows_times_panels(e, most, VECTORS, panels, rows, x, x_step, run, *rest)
        )

    return emitted(emit, x, rows, x, x_step, run, ahead, w, w_panel, out, out_step, start, held, lanes)


@intrinsic
def wide_tile(typingctx, rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes):
    """As `strided_tile` for 1 to `WIDE_ROWS` rows and one panel of `WIDE_VECTORS` vectors."""

    def emit(e, rows, x, x_step, run, ahead, w, *rest):
        panel = Panels(w, e.i64(WIDE_VECTORS * e.lanes), ahead=ahead)
        _rows_times_panels(e, WIDE_ROWS, WIDE_VECTORS, panel, rows, x, x_step, run, *rest)

    return emitted(emit, x, rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes)


@intrinsic
def narrow_tile(typingctx, rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes):
    """As `strided_tile` for one panel of a single vector."""

    def emit(e, rows, x, x_step, run, ahead, w, *rest):
        panel = Panels(w, e.i64(e.lanes), ahead=ahead)
        e.choose(rows, GEMM_ROWS, lambda most: _rows_times_panels(e, most, 1, panel, rows, x, x_step, run, *rest))

    return emitted(emit, x, rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes)


@intrinsic
def few_rows_tile(typingctx, rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes):
    """As `strided_tile` for one panel of weights, those for successive elements of a row `w_step` elements apart.

    Up to three rows the panel has `VECTORS_OF_ROWS` vectors.
    """

    def emit(e, rows, x, x_step, run, w, w_step, *rest):

        def emit(written):
            vectors = VECTORS if written >= MIN_GEMM_ROWS else VECTORS_OF_ROWS[written - 1]
            _rows_times_panels(e, written, vectors, Panels(w, w_step), rows, x, x_step, run, *rest)

        e.choose(rows, (*range(1, MIN_GEMM_ROWS), *GEMM_ROWS), emit)

    return emitted(emit, x, rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)


class Panels(NamedTuple):
    """Weights while code is written: LLVM's values, as described at `strided_tile`.

    Without `panel_step` they are one panel; without `ahead` nothing is asked for.
    """

    w: Any
    step: Any
    panel_step: Any = None
    ahead: Any = None


def _rows_times_panels(
    e: Emitter, written_rows: int, vectors: int, weights: Panels, rows: Any, x: Any, x_step: Any, run: Any, out: Any,
    out_step: Any, start: Any, held: Any, lanes: Any,
) -> None:  # fmt: skip
    """Emit the tile for some rows and vectors."""
    builder, width = e.builder, vectors * e.lanes
    numbers = row_numbers(e, written_rows, rows, written_rows == MIN_GEMM_ROWS)
    x_rows = [e.hidden(e.at(x, builder.mul(x_step, i))) for i in numbers]  # to be kept, not worked out at each step
    out_rows = [e.at(out, builder.mul(out_step, i)) for i in numbers]

    line = LINE_BYTES // e.itemsize
    share = UNROLL * written_rows  # elements of the next tile for every `UNROLL` steps
    soon = None if weights.ahead is None else e.hidden(e.at(x_rows[-1], builder.mul(x_step, weights.ahead)))

    def multiply(panel_out, w, begin, lanes, place, elements):
        """Every `UNROLL` steps so many `elements` are asked for, from `place` on."""
        sums = e.either(
            builder.icmp_signed("!=", held, e.i64(0)),
            # Beyond the last lane `out` belongs to another row, another thread, or nobody.
            lambda: load_rows(e, panel_out, vectors, lanes),
            lambda: load_rows(e, [begin], vectors) * written_rows,
        )

        def step(k, sums):
            return add_products(e, [(e.at(row, k),) for row in x_rows], e.at(w, builder.mul(k, weights.step)), sums)

        def ask(q):
            for i in range(0, elements, line):
                e.prefetch(e.at(place, builder.add(e.times(q, elements), e.i64(i))))

        if place is None:
            sums = e.carry(run, sums, step, UNROLL if written_rows * vectors > 8 else 1)
        else:
            sums = steps(e, run, sums, step, ask)
        store_rows(e, sums, panel_out, lanes)
        return []

    def alone():
        return multiply(out_rows, weights.w, start, lanes, soon, share)

    def panel(j, _):
        """Several share what is asked for, a line at a time, until there is no more."""
        first = e.times(j, width)
        ask_for_panel(e, out_rows, width, first, lanes)
        lines = builder.mul(weights.ahead, builder.sdiv(run, e.i64(UNROLL)))
        asking = builder.select(builder.icmp_signed("<", j, e.i64(-(-share // line))), j, e.i64(0))
        place = e.at(soon, e.times(builder.mul(asking, lines), line))
        w = e.at(weights.w, builder.mul(j, weights.panel_step))
        return multiply(
            [e.at(row, first) for row in out_rows], w, e.at(start, first), builder.sub(lanes, first), place, line
        )

    if weights.panel_step is None:
        alone()
        return
    panels = builder.sdiv(builder.add(lanes, e.i64(width - 1)), e.i64(width))
    e.either(builder.icmp_signed("<=", panels, e.i64(1)), alone, lambda: e.carry(panels, [], panel))


@intrinsic
def streamed_tile(typingctx, rows, x, x_step, run, w, w_step, out, out_step, start):
    """As `strided_tile` for any number of rows, ``run <= SHORTEST_RUNS`` and all lanes of `VECTORS` vectors."""

    def emit(e, rows, x, x_step, run, *rest):
        runs = tuple(range(1, SHORTEST_RUNS + 1))
        e.choose(run, runs, lambda run: _rows_streamed(e, run, rows, x, x_step, *rest))

    return emitted(emit, x, rows, x, x_step, run, w, w_step, out, out_step, start)


def _rows_streamed(
    e: Emitter, run: int, rows: Any, x: Any, x_step: Any, w: Any, w_step: Any, out: Any, out_step: Any, start: Any
) -> None:
    """Emit the tile for a number of weights per lane."""
    builder = e.builder
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


@intrinsic
def columns_tile(typingctx, columns, x, x_step, run, ahead, w, start, out, out_row, out_lane):
    """As many rows as one vector has lanes, or two up to `COLUMNS_OF_TWO` columns, times a few columns of weights.

    columns : 1 to `MOST_COLUMNS`
    x, x_step : first input row, elements from each to the next
    run, w : elements of an input row that are multiplied; weights, ``w[k * columns + j]``
    ahead : how many elements before they are read cache lines are asked for
    start : what the sums begin with, ``[j * rows + i]``, whole vectors
    out, out_row, out_lane : first result; elements from there to that of the next row, and of the next column
    """

    def emit(e, columns, *rest):
        e.choose(columns, tuple(range(1, MOST_COLUMNS + 1)), lambda columns: _rows_times_columns(e, columns, *rest))

    return emitted(emit, x, columns, x, x_step, run, ahead, w, start, out, out_row, out_lane)


def _rows_times_columns(
    e: Emitter, columns: int, x: Any, x_step: Any, run: Any, ahead: Any, w: Any, start: Any, out: Any, out_row: Any,
    out_lane: Any,
) -> None:  # fmt: skip
    """Emit the tile for a number of columns."""
    builder = e.builder
    vectors = 2 if columns <= COLUMNS_OF_TWO else 1
    reader = _column_reader(e, vectors, x, x_step, run, ahead)

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

    places = [(v, j) for v in range(vectors) for j in range(columns)]
    sums = reader.walk(
        run,
        [e.load(start, j * vectors + v) for v, j in places],
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


def _column_reader(e: Emitter, vectors: int, x: Any, x_step: Any, run: Any, ahead: Any) -> ColumnReader:
    """What reads the columns of a tile's input rows."""
    builder = e.builder
    offsets = [builder.mul(x_step, e.i64(i)) for i in range(e.lanes)]
    firsts = [e.at(x, builder.mul(x_step, e.i64(v * e.lanes))) for v in range(vectors)]
    # Rows of a tile to come that lie one after the other are asked for line by line, as memory likes it best.
    rows = e.i64(vectors * e.lanes)
    whole = builder.icmp_signed(">=", ahead, builder.mul(x_step, rows))
    in_order = builder.and_(builder.icmp_signed("==", x_step, run), whole)
    apart = builder.select(in_order, e.i64(LINE_BYTES // e.itemsize), x_step)
    pace = builder.select(in_order, rows, e.i64(1))
    return ColumnReader(e, firsts, offsets, apart, ahead, pace)
