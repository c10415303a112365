"""Register tiles whose reduction is a list of element offsets: the rows lie anywhere, the reduction too.

`offset_gemm` multiplies rows by packed weights, each row read at the same list of offsets::

    out[i][j] = bias[j] + sum over k < count of  x[i][offsets[k]] * w[k][j]            i < rows, j < lanes

`offset_outer` accumulates outer products (the weight gradient)::

    out[i][j] += sum over positions p of  x[p][offsets[i]] * y[p][j]                   i < rows, j < lanes

Where the tiles of `tile.py` walk a run of consecutive elements per kernel tap, these have one flat loop, and a short
run costs no more than a long one. The price is one integer load per row of weights, which the load units have to spare.

Where columns fill half a vector at most, a row of `offset_outer` is a *pair* of them whose elements lie side by side:
even lanes sum up the first, odd lanes the second.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from .emitter import Emitter, emitted
from .pointer import offset, prefetch_read
from .tile import GEMM_ROWS, MAX_ROWS, MIN_GEMM_ROWS, OUTER_ROWS, VECTORS
from .tile_steps import add_products, load_rows, row_numbers, store_rows

NARROW, WIDE, HELD = range(3)  # kinds of tiles: see `offset_gemm`
LINE_ELEMENTS = 8  # float64 values of a cache line; asking twice for one of float32 values costs nothing


@intrinsic
def _gemm_tile(typingctx, kind, table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes):
    """The tile of `offset_gemm`, of one of its kinds, up to `MAX_ROWS` rows."""

    def emit(e, kind, table, rows, *rest):
        def tile(written_rows, kind):
            _gemm(e, written_rows, 1 if kind == NARROW else VECTORS, kind == HELD, table, rows, *rest)

        e.choose(kind, (WIDE, HELD, NARROW), lambda kind: e.choose(rows, GEMM_ROWS, lambda rows: tile(rows, kind)))

    return emitted(emit, w, kind, table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)


def _gemm(
    e: Emitter, written_rows: int, vectors: int, held: bool, table: Any, rows: Any, offsets: Any, count: Any, w: Any,
    w_width: Any, bias: Any, out: Any, out_stride: Any, lanes: Any,
) -> None:  # fmt: skip
    """Emit the GEMM tile for some rows and vectors, whose sums start from `out` or from `bias`."""
    builder = e.builder
    numbers = row_numbers(e, written_rows, rows, written_rows == MIN_GEMM_ROWS)
    x = [e.slot(table, number, e.pointer) for number in numbers]

    def step(k, sums):
        at = builder.load(e.at(offsets, k))
        # A constant, where it is known, leaves a register for the address of the tenth row.
        place = e.times(k, VECTORS * e.lanes) if vectors == VECTORS else builder.mul(k, w_width)
        return add_products(e, [(e.at(row, at),) for row in x], e.at(w, place), sums)

    out_rows = [e.at(out, builder.mul(out_stride, number)) for number in numbers]
    start = load_rows(e, out_rows, vectors, lanes) if held else load_rows(e, [bias], vectors) * written_rows
    store_rows(e, e.carry(count, start, step), out_rows, lanes)


@intrinsic
def _outer_tile(typingctx, wide, rows, table, count, offsets, y, y_stride, out, out_stride):
    """The tile of `offset_outer`: one vector of columns or two, one of `OUTER_ROWS` rows."""

    def emit(e, wide, rows, *rest):
        def tile(rows, vectors):
            _outer(e, rows, vectors, 1, *rest)

        e.choose(wide, (1, 0), lambda wide: e.choose(rows, OUTER_ROWS, lambda rows: tile(rows, wide + 1)))

    return emitted(emit, y, wide, rows, table, count, offsets, y, y_stride, out, out_stride)


@intrinsic
def _pair_outer_tile(typingctx, rows, table, count, offsets, y, y_stride, out, out_stride):
    """The tile of `offset_outer` for pairs."""

    def emit(e, rows, *rest):
        e.choose(rows, OUTER_ROWS, lambda rows: _outer(e, rows, 1, 2, *rest))

    return emitted(emit, y, rows, table, count, offsets, y, y_stride, out, out_stride)


def _outer(
    e: Emitter, rows: int, vectors: int, side_by_side: int, table: Any, count: Any, offsets: Any, y: Any, y_stride: Any,
    out: Any, out_stride: Any,
) -> None:  # fmt: skip
    """Emit the outer-product tile for some rows and vectors, of single elements or pairs."""
    builder = e.builder
    out_rows = [e.at(out, builder.mul(out_stride, e.i64(i))) for i in range(rows)]
    places = [builder.load(e.at(offsets, i)) for i in range(rows)]

    def position(p, sums):
        x = e.slot(table, p, e.pointer)
        lefts = [(e.at(x, place),) for place in places]
        new = add_products(e, lefts, e.at(y, builder.mul(p, y_stride)), sums, side_by_side=side_by_side)
        if side_by_side > 1:
            e.keep_order()
        return new

    start = load_rows(e, out_rows, vectors)
    if vectors > 1 or (side_by_side > 1 and rows == MAX_ROWS):  # so many sums leave pairs no registers
        sums = e.carry(count, start, position)
    else:  # too few chains to keep the multiply-adders busy: two sets, of the even and the odd positions
        pairs = builder.lshr(count, e.i64(1))
        even = builder.shl(pairs, e.i64(1))

        def pair(q, sums):
            p = builder.shl(q, e.i64(1))
            return position(p, sums[:rows]) + position(builder.add(p, e.i64(1)), sums[rows:])

        sums = e.carry(pairs, start + [e.zero] * rows, pair)
        sums = [a + b for a, b in zip(sums[:rows], sums[rows:], strict=True)]
        last = builder.sub(count, even)
        sums = e.carry(last, sums, lambda i, sums: position(builder.add(even, i), sums))
    store_rows(e, sums, out_rows)


@device
def offset_gemm(kind, table, points, offsets, count, w, w_width, bias, out, out_stride, lanes):
    """A GEMM over gathered rows: as many tiles as needed, of nearly equal size.

    kind : one vector of columns (`NARROW`) or two (`WIDE`); `HELD`: two, and sums start from what `out` holds
    table : slots with a pointer to each of the x rows
    points : how many rows there are
    offsets, count : the reduction: elements from the beginning of every x row, and how many
    w, w_width : packed weights; elements between their successive rows, two vectors of them unless they are `NARROW`
    bias : a padded row of initial values
    out, out_stride : first output row; elements between output rows
    lanes : number of output columns that exist
    """
    tiles = (points + MAX_ROWS - 1) // MAX_ROWS
    fewest = points // max(tiles, 1)
    longer = points - fewest * tiles
    for tile in range(tiles):
        rows = fewest + 1 if tile < longer else fewest
        _gemm_tile(kind, table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
        table = offset(table, rows)
        out = offset(out, rows * out_stride)


@device
def offset_outer(wide, pairs, rows, table, points, offsets, y, y_stride, out, out_stride, ahead, ahead_count):
    """Outer products over gathered rows: as many tiles as needed, of nearly equal size.

    wide : two vectors of columns (true) or one
    pairs : whether each offset is that of a pair, the second of which may be anything that can be read
    rows : number of offsets, and of rows of `out`
    table, points : slots with a pointer to each of the x rows; how many there are
    y, out : full-width rows, `y_stride` and `out_stride` elements apart
    ahead, ahead_count : elements that are needed next, to be fetched meanwhile
    """
    tiles = (rows + MAX_ROWS - 1) // MAX_ROWS
    fewest = rows // max(tiles, 1)
    longer = rows - fewest * tiles
    ahead_step = ahead_count // max(tiles, 1) + 1
    for tile in range(tiles):
        n = fewest + 1 if tile < longer else fewest
        for i in range(tile * ahead_step, (tile + 1) * ahead_step, LINE_ELEMENTS):
            prefetch_read(ahead, i)
        if pairs:
            _pair_outer_tile(n, table, points, offsets, y, y_stride, out, out_stride)
        else:
            _outer_tile(wide, n, table, points, offsets, y, y_stride, out, out_stride)
        offsets = offset(offsets, n)
        out = offset(out, n * out_stride)
