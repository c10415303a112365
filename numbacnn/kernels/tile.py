"""The register tiles, written in LLVM vector IR, that do almost all arithmetic of the library.

`gemm_tile` multiplies rows reached through a pointer table by packed weights (indirect GEMM)::

    out[i][j] = init[j] + sum over taps t, over k < run of  x[t][i][k] * w[t][k][j]      i < rows, j < lanes

`dot_tile` does the same for one or two columns. `outer_tile` accumulates outer products of rows (weight gradient)::

    out[i][j] += sum over positions p of  x[p][i] * y[p][j]                              i < rows, j < lanes

Both keep rows x vectors accumulators in registers and issue one broadcast per `VECTORS` multiply-adds. The full tile is
6 rows x 2 vectors: twelve independent chains cover the latency of the multiply-add (4 cycles x 2 pipes = 8), and with
2 registers of weights and 1 broadcast it fits the 16 registers of AVX2. With 32 registers it is 10 rows, for
whose addresses there are just enough integer registers (12 rows took up to twice as long): fewer weights to be read
from L2 per multiply-add, and enough chains of a single vector. On wider machines the vectors are wider.

Fewer rows exist so that any number of rows splits without waste: n rows are dealt out as evenly as possible over
ceil(n / `MAX_ROWS`) tiles. The indirect tile stops at 4 rows (a caller with fewer repeats one: its table may name a row
twice).
"""

from __future__ import annotations

import operator
from typing import Any

from ._build import inlined, intrinsic
from ._target import LINE_BYTES, target
from .emitter import Emitter, emitted
from .tile_steps import UNROLL, add_products, ask_for_panel, load_rows, steps, store_rows

VECTORS = 2
MAX_ROWS = 10 if target().registers == 32 else 6
# Cache lines that a panel is wide, whole ones; as many are asked for at a time.
ASKED_LINES = max(1, VECTORS * target().vector_bytes // LINE_BYTES)
MIN_GEMM_ROWS = 4
MIN_PAIRED_ROWS = 3  # of an outer-product tile for a pair of groups
GEMM_ROWS, OUTER_ROWS, PAIRED_ROWS = (
    tuple(range(MAX_ROWS, least - 1, -1)) for least in (MIN_GEMM_ROWS, 1, MIN_PAIRED_ROWS)
)
MAX_LANES = 2 * 64 // 4  # columns of the widest tile on any machine: what packed rows are padded for


def tile_lanes(itemsize: int) -> int:
    """Columns of a full-width tile for elements of `itemsize` bytes."""
    return VECTORS * target().lanes(itemsize)


@intrinsic
def gemm_tile(
    typingctx, rows, wide, table, taps, x_offset, run, w_offset, w_width, out_offset, bias, accumulate, lanes
):  # fmt: skip
    """One tile of an indirect GEMM.

    rows : number of rows, one of `GEMM_ROWS`
    wide : two vectors of columns (true) or one
    table : slots: `rows` pointers to output rows; then per tap `rows` pointers to input rows and one to weights
    taps, run : number of taps; number of consecutive elements of an input row that each contributes
    x_offset, w_offset, out_offset : elements added to every input, weight and output pointer
    w_width : elements between successive rows of packed weights
    bias : a padded row of initial values; ignored if `accumulate`, which starts from what `out` holds
    lanes : number of output columns that exist
    """

    def emit(e, rows, wide, *rest):
        e.choose(wide, (1, 0), lambda wide: e.choose(rows, GEMM_ROWS, lambda rows: _gemm(e, rows, wide + 1, *rest)))

    return emitted(
        emit, bias, rows, wide, table, taps, x_offset, run, w_offset, w_width, out_offset, bias, accumulate, lanes
    )  # fmt: skip


@intrinsic
def gemm_panels_tile(
    typingctx, rows, wide, table, taps, x_offset, run, w_offset, w_width, w_panel, out_offset, bias, accumulate, lanes
):  # fmt: skip
    """As `gemm_tile` for panels whose weights lie `w_panel` elements apart, one after the other.

    Meanwhile it asks for what lies behind the last row, where the next tile goes on reading: a line every `UNROLL`
    steps. Many at a time, between tiles, keep what a tile reads waiting (1.02 to 1.05 times the time).
    """

    def emit(e, rows, wide, table, taps, x_offset, run, w_offset, w_width, w_panel, *rest):
        rest = table, taps, x_offset, run, w_offset, w_width, *rest

        def tile(rows, wide):
            _gemm(e, rows, wide + 1, *rest, w_panel=w_panel)

        e.choose(wide, (1, 0), lambda wide: e.choose(rows, GEMM_ROWS, lambda rows: tile(rows, wide)))

    return emitted(
        emit, bias, rows, wide, table, taps, x_offset, run, w_offset, w_width, w_panel, out_offset, bias, accumulate,
        lanes,
    )  # fmt: skip


@intrinsic
def paired_gemm_tile(
    typingctx, rows, table, taps, x_offset, pair, run, w_offset, w_width, out_offset, bias, accumulate, lanes
):  # fmt: skip
    """As a `gemm_tile` of two vectors, but what the second multiplies lies `pair` elements further along input rows."""

    def emit(e, rows, table, taps, x_offset, pair, *rest):
        e.choose(rows, GEMM_ROWS, lambda rows: _gemm(e, rows, 2, table, taps, x_offset, *rest, pair))

    return emitted(
        emit, bias, rows, table, taps, x_offset, pair, run, w_offset, w_width, out_offset, bias, accumulate, lanes
    )  # fmt: skip


def _gemm(
    e: Emitter, rows: int, vectors: int, table: Any, taps: Any, x_offset: Any, run: Any, w_offset: Any, w_width: Any,
    out_offset: Any, bias: Any, accumulate: Any, lanes: Any, pair: Any = None, w_panel: Any = None,
) -> None:  # fmt: skip
    """Emit the indirect-GEMM tile for some rows and vectors, and one panel or several."""
    builder, width = e.builder, vectors * e.lanes
    all_out = [e.at(e.slot(table, i, e.pointer), out_offset) for i in range(rows)]

    def multiply(out, w_offset, bias, lanes):
        start = e.either(
            builder.icmp_signed("!=", accumulate, e.i64(0)),
            # Beyond the last lane `out` belongs to another row, another thread, or nobody.
            lambda: load_rows(e, out, vectors, lanes),
            lambda: load_rows(e, [bias], vectors) * rows,
        )

        def tap(t, sums):
            entry = builder.add(e.i64(rows), builder.mul(t, e.i64(rows + 1)))
            x = [e.at(e.slot(table, builder.add(entry, e.i64(i)), e.pointer), x_offset) for i in range(rows)]
            w = e.at(e.slot(table, builder.add(entry, e.i64(rows)), e.pointer), w_offset)

            def step(k, sums):
                *sums, other = sums  # LLVM would keep six pointers more for `k + pair` than for a count of its own
                lefts = [tuple(e.at(row, at) for at in ((k,) if pair is None else (k, other))) for row in x]
                new = add_products(e, lefts, e.at(w, builder.mul(k, w_width)), sums)
                return [*new, builder.add(other, e.i64(1))]

            begin = e.i64(0) if pair is None else pair
            if w_panel is None:
                return e.carry(run, [*sums, begin], step, UNROLL if pair is None else 1)[:-1]
            # Lines a constant apart: another register would cost more than is gained.
            soon, line = e.at(x[-1], run), e.lanes * LINE_BYTES // target().vector_bytes
            return steps(e, run, [*sums, begin], step, lambda q: e.prefetch(e.at(soon, e.times(q, line))))[:-1]

        store_rows(e, e.carry(taps, start, tap), out, lanes)

    def panel(j, _):
        first = e.times(j, width)
        ask_for_panel(e, all_out, width, first, lanes)
        out = [e.at(row, first) for row in all_out]
        multiply(out, builder.add(w_offset, builder.mul(j, w_panel)), e.at(bias, first), builder.sub(lanes, first))
        return []

    if w_panel is None:
        multiply(all_out, w_offset, bias, lanes)
    else:
        e.carry(builder.sdiv(builder.add(lanes, e.i64(width - 1)), e.i64(width)), [], panel)


@intrinsic
def _dot_tile(
    typingctx, lanes, table, rows, valid, row, taps, x_offset, run, w_offset, w_stride, out_offset, bias, accumulate
):  # fmt: skip
    """Two rows of a `dot_tile`, from `row` on."""

    def emit(e, lanes, *rest):
        e.choose(lanes, (2, 1), lambda lanes: _dot(e, lanes, *rest))

    return emitted(
        emit, bias, lanes, table, rows, valid, row, taps, x_offset, run, w_offset, w_stride, out_offset, bias,
        accumulate,
    )  # fmt: skip


def _dot(
    e: Emitter, lanes: int, table: Any, rows: Any, valid: Any, row: Any, taps: Any, x_offset: Any, run: Any,
    w_offset: Any, w_stride: Any, out_offset: Any, bias: Any, accumulate: Any,
) -> None:  # fmt: skip
    """Emit the dot-product tile for a number of columns."""
    builder = e.builder
    one = e.i64(1)
    next_row = builder.add(row, one)  # a lone last row is computed twice
    pair = [row, builder.select(builder.icmp_signed("<", next_row, valid), next_row, row)]
    width, step = e.i64(e.lanes), builder.add(rows, one)

    def tap(t, sums):
        first = builder.add(rows, builder.mul(t, step))
        x = [e.at(e.slot(table, builder.add(first, r), e.pointer), x_offset) for r in pair]
        w = e.at(e.slot(table, builder.add(first, rows), e.pointer), w_offset)
        w = [e.at(w, builder.mul(w_stride, e.i64(j))) for j in range(lanes)]

        def products(place, sums, mask=None):
            left = [e.load(e.at(p, place), mask=mask) for p in x]
            right = [e.load(e.at(p, place), mask=mask) for p in w]
            return [left[r].fma(right[j], sums[r * lanes + j]) for r in range(2) for j in range(lanes)]

        half = len(sums) // 2  # even and odd vectors add up apart: twice the independent chains
        pairs = builder.sdiv(run, e.i64(2 * e.lanes))

        def two(k, sums):
            place = builder.mul(k, e.i64(2 * e.lanes))
            return products(place, sums[:half]) + products(builder.add(place, width), sums[half:])

        sums = e.carry(pairs, sums, two)
        place = builder.mul(pairs, e.i64(2 * e.lanes))
        left = builder.sub(run, place)
        even = products(place, sums[:half], e.mask(left, 0))
        odd = products(builder.add(place, width), sums[half:], e.mask(left, 1))
        return even + odd

    sums = e.carry(taps, [e.zero] * (4 * lanes), tap)
    sums = [a + b for a, b in zip(sums[: 2 * lanes], sums[2 * lanes :], strict=True)]
    new = builder.icmp_signed("==", accumulate, e.i64(0))
    rows_out = [e.at(e.slot(table, r, e.pointer), out_offset) for r in pair]
    places = [e.at(out, j) for out in rows_out for j in range(lanes)]
    # Everything is read before anything is written: the table may name a row twice.
    starts = [e.element(builder.select(new, e.at(bias, i % lanes), place)) for i, place in enumerate(places)]
    for start, total, place in zip(starts, sums, places, strict=True):
        e.store_element(start + total.reduce(operator.add), place)


@inlined
def dot_tile(rows, valid, lanes, table, taps, x_offset, run, w_offset, w_stride, out_offset, bias, accumulate):
    """As `gemm_tile` where only one or two output columns exist: vectors run along the rows instead.

    rows, valid : number of rows in the table, and how many of them are to be computed
    lanes : number of output columns, 1 or 2
    w_stride : elements between the weights of one column and the next; a tap's weights lie one after the other
    """
    for row in range(0, valid, 2):
        _dot_tile(lanes, table, rows, valid, row, taps, x_offset, run, w_offset, w_stride, out_offset, bias, accumulate)


@intrinsic
def outer_tile(typingctx, rows, wide, pointers, count, x_offset, y, y_stride, out, out_stride):
    """Add ``x[p][i] * y[p][j]`` over `count` positions to a tile of `out`.

    rows : number of rows, one of `OUTER_ROWS`
    wide : two vectors of columns (true) or one
    pointers : slots with one pointer to an x row per position
    x_offset : elements added to every such pointer
    y, out : rows of so many vectors, `y_stride` and `out_stride` elements apart
    """

    def emit(e, rows, wide, *rest):
        e.choose(wide, (1, 0), lambda wide: e.choose(rows, OUTER_ROWS, lambda rows: _outer(e, rows, wide + 1, *rest)))

    return emitted(emit, y, rows, wide, pointers, count, x_offset, y, y_stride, out, out_stride)


@intrinsic
def paired_outer_tile(typingctx, rows, pointers, count, x_offset, pair, y, y_stride, out, out_stride):
    """As an `outer_tile` of two vectors, but the second's x rows lie `pair` elements behind the first's.

    rows : `MIN_PAIRED_ROWS` to `MAX_ROWS`
    """

    def emit(e, rows, pointers, count, x_offset, pair, *rest):
        e.choose(rows, PAIRED_ROWS, lambda rows: _outer(e, rows, VECTORS, pointers, count, x_offset, *rest, pair))

    return emitted(emit, y, rows, pointers, count, x_offset, pair, y, y_stride, out, out_stride)


def _outer(
    e: Emitter, rows: int, vectors: int, pointers: Any, count: Any, x_offset: Any, y: Any, y_stride: Any, out: Any,
    out_stride: Any, pair: Any = None,
) -> None:  # fmt: skip
    """Emit the outer-product tile for some rows and vectors."""
    builder = e.builder
    out_rows = [e.at(out, builder.mul(out_stride, e.i64(i))) for i in range(rows)]

    def position(p, sums):
        x = [e.at(e.slot(pointers, p, e.pointer), x_offset)]
        if pair is not None:
            x.append(e.at(x[0], pair))
        lefts = [tuple(e.at(place, i) for place in x) for i in range(rows)]
        return add_products(e, lefts, e.at(y, builder.mul(p, y_stride)), sums)

    # Twice the broadcasts of a pair leave no register free for what comes next.
    sums = e.carry(count, load_rows(e, out_rows, vectors), position, UNROLL if pair is None else 1)
    store_rows(e, sums, out_rows)


@intrinsic
def listed_outer_tile(typingctx, rows, x, pitch, pointers, y_offset, packed, count, fresh, out, out_stride):
    """As an `outer_tile` of two vectors, but the x rows lie one after the other, and it is the y rows that are listed.

    rows : number of rows, one of `OUTER_ROWS`
    x, pitch : the first x row; elements between them
    pointers : slots with one pointer to a y row per position
    y_offset : elements added to every such pointer
    packed : receives the vectors of all y rows, one after the other, for `packed_outer_tile`
    fresh : ignore what `out` holds
    out : full-width rows (two vectors), `out_stride` elements apart
    """

    def emit(e, rows, x, pitch, pointers, y_offset, *rest):
        e.choose(rows, OUTER_ROWS, lambda rows: _copied_outer(e, rows, x, pitch, *rest, (pointers, y_offset)))

    return emitted(emit, x, rows, x, pitch, pointers, y_offset, packed, count, fresh, out, out_stride)


@intrinsic
def packed_outer_tile(typingctx, rows, x, pitch, packed, count, fresh, out, out_stride, soon, soon_step, soon_offset):
    """As `listed_outer_tile` over the rows that it has packed.

    soon, soon_step, soon_offset : slots with pointers, slots between those used, elements added to each: for every
        `UNROLL` positions a panel's `ASKED_LINES` are asked for. Many at a time would keep what the tile itself reads
        waiting.
    """

    def emit(e, rows, x, pitch, packed, count, fresh, out, out_stride, *soon):
        e.choose(
            rows, OUTER_ROWS,
            lambda rows: _copied_outer(e, rows, x, pitch, packed, count, fresh, out, out_stride, soon=soon),
        )  # fmt: skip

    return emitted(emit, x, rows, x, pitch, packed, count, fresh, out, out_stride, soon, soon_step, soon_offset)


def _copied_outer(
    e: Emitter, rows: int, x: Any, pitch: Any, packed: Any, count: Any, fresh: Any, out: Any, out_stride: Any,
    listed: tuple[Any, Any] | None = None, soon: tuple[Any, Any, Any] | None = None,
) -> None:  # fmt: skip
    """Emit the outer-product tile of copied rows.

    `listed` are the pointers to y rows, if these are to be packed; `soon` those to what is asked for.
    """
    builder = e.builder
    out_rows = [e.at(out, builder.mul(out_stride, e.i64(i))) for i in range(rows)]

    def position(p, sums):
        x_row, copy = e.at(x, builder.mul(p, pitch)), e.at(packed, e.times(p, VECTORS * e.lanes))
        right = e.at(e.slot(listed[0], p, e.pointer), listed[1]) if listed else copy
        sums = add_products(e, [(e.at(x_row, i),) for i in range(rows)], right, sums)
        for j in range(VECTORS if listed else 0):
            e.store(e.load(right, j), copy, j)
        return sums

    start = e.either(
        builder.icmp_signed("!=", fresh, e.i64(0)),
        lambda: [e.zero] * (rows * VECTORS),
        lambda: load_rows(e, out_rows, VECTORS),
    )
    if soon is None:
        store_rows(e, e.carry(count, start, position, UNROLL), out_rows)
        return

    def ask(q):
        place = e.at(e.slot(soon[0], builder.mul(q, soon[1]), e.pointer), soon[2])
        for line in range(ASKED_LINES):
            e.prefetch(e.at(place, line * e.lanes))

    store_rows(e, steps(e, count, start, position, ask), out_rows)
