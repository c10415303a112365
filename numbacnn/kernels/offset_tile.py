"""Register tiles whose reduction is a list of element offsets: the rows lie anywhere, the reduction too.

`offset_gemm` multiplies rows by packed weights, each row read at the same list of offsets::

    out[i][j] = bias[j] + sum over k < count of  x[i][offsets[k]] * w[k][j]            i < rows, j < lanes

`offset_outer` accumulates outer products (the weight gradient)::

    out[i][j] += sum over positions p of  x[p][offsets[i]] * y[p][j]                   i < rows, j < lanes

Where the tiles of `tile.py` walk a run of consecutive elements per kernel tap, these have one flat loop, and a short
run costs no more than a long one. The price is one integer load per row of weights, which the load units have to spare.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from .emitter import Emitter
from .pointer import offset, prefetch_read
from .tile import MAX_ROWS
from .tile_steps import add_products, load_rows, store_rows

LINE_ELEMENTS = 8  # float64 values of a cache line; asking twice for one of float32 values costs nothing


def _offset_gemm_tile(rows: int, vectors: int) -> Any:
    """The GEMM tile; its arguments are those of `offset_gemm`, but `valid` rows."""

    def tile(typingctx, table, valid, offsets, count, w, w_width, bias, out, out_stride, lanes):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, valid, offsets, count, w, w_width, bias, out, out_stride, lanes = args
            e = Emitter(context, builder, signature.args[4].dtype)
            last = builder.sub(valid, e.i64(1))
            numbers = [e.i64(0)]
            for i in range(1, rows):
                exists = builder.icmp_signed("<", e.i64(i), valid)
                numbers.append(builder.select(exists, e.i64(i), last))
            x = [e.slot(table, number, e.pointer) for number in numbers]

            def step(k, sums):
                at = builder.load(e.at(offsets, k))
                return add_products(e, [(e.at(row, at),) for row in x], e.at(w, builder.mul(k, w_width)), sums)

            start = load_rows(e, [bias], vectors) * rows
            sums = e.carry(count, start, step)
            out_rows = [e.at(out, builder.mul(out_stride, number)) for number in numbers]
            store_rows(e, sums, out_rows, lanes)
            return context.get_dummy_value()

        return types.void(table, i64, offsets, i64, w, i64, bias, out, i64, i64), codegen

    return intrinsic(tile)


def _offset_outer_tile(rows: int, vectors: int) -> Any:
    """The outer-product tile; its arguments are those of `offset_outer`."""

    def tile(typingctx, table, count, offsets, y, y_stride, out, out_stride):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, count, offsets, y, y_stride, out, out_stride = args
            e = Emitter(context, builder, signature.args[3].dtype)
            out_rows = [e.at(out, builder.mul(out_stride, e.i64(i))) for i in range(rows)]
            places = [builder.load(e.at(offsets, i)) for i in range(rows)]

            def position(p, sums):
                x = e.slot(table, p, e.pointer)
                return add_products(e, [(e.at(x, place),) for place in places], e.at(y, builder.mul(p, y_stride)), sums)

            start = load_rows(e, out_rows, vectors)
            if vectors > 1:
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
            return context.get_dummy_value()

        return types.void(table, i64, offsets, y, i64, out, i64), codegen

    return intrinsic(tile)


# Named one by one because a kernel can only call what it can name.
_gemm_6, _gemm_6_narrow = _offset_gemm_tile(6, 2), _offset_gemm_tile(6, 1)
_gemm_5, _gemm_5_narrow = _offset_gemm_tile(5, 2), _offset_gemm_tile(5, 1)
_gemm_4, _gemm_4_narrow = _offset_gemm_tile(4, 2), _offset_gemm_tile(4, 1)
_outer_6, _outer_6_narrow = _offset_outer_tile(6, 2), _offset_outer_tile(6, 1)
_outer_5, _outer_5_narrow = _offset_outer_tile(5, 2), _offset_outer_tile(5, 1)
_outer_4, _outer_4_narrow = _offset_outer_tile(4, 2), _offset_outer_tile(4, 1)
_outer_3, _outer_2, _outer_1 = _offset_outer_tile(3, 2), _offset_outer_tile(2, 2), _offset_outer_tile(1, 2)
_outer_3_narrow, _outer_2_narrow, _outer_1_narrow = (_offset_outer_tile(rows, 1) for rows in (3, 2, 1))


@device
def offset_gemm(wide, table, points, offsets, count, w, w_width, bias, out, out_stride, lanes):
    """A GEMM over gathered rows: as many tiles as needed, of nearly equal size.

    wide : two vectors of columns (true) or one
    table : slots with a pointer to each of the x rows
    points : how many rows there are
    offsets, count : the reduction: elements from the beginning of every x row, and how many
    w, w_width : packed weights; elements between their successive rows
    bias : a padded row of initial values
    out, out_stride : first output row; elements between output rows
    lanes : number of output columns that exist
    """
    tiles = (points + MAX_ROWS - 1) // MAX_ROWS
    fewest = points // max(tiles, 1)
    longer = points - fewest * tiles
    for tile in range(tiles):
        rows = fewest + 1 if tile < longer else fewest
        if wide:
            if rows == 6:
                _gemm_6(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
            elif rows == 5:
                _gemm_5(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
            else:  # fewer than four: the last is repeated
                _gemm_4(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
        elif rows == 6:
            _gemm_6_narrow(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
        elif rows == 5:
            _gemm_5_narrow(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
        else:
            _gemm_4_narrow(table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes)
        table = offset(table, rows)
        out = offset(out, rows * out_stride)


@device
def offset_outer(wide, rows, table, points, offsets, y, y_stride, out, out_stride, ahead, ahead_count):
    """Outer products over gathered rows: as many tiles as needed, of nearly equal size.

    wide : two vectors of columns (true) or one
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
        if wide and n == 6:
            _outer_6(table, points, offsets, y, y_stride, out, out_stride)
        elif wide and n == 5:
            _outer_5(table, points, offsets, y, y_stride, out, out_stride)
        elif wide and n == 4:
            _outer_4(table, points, offsets, y, y_stride, out, out_stride)
        elif wide and n == 3:
            _outer_3(table, points, offsets, y, y_stride, out, out_stride)
        elif wide and n == 2:
            _outer_2(table, points, offsets, y, y_stride, out, out_stride)
        elif wide and n == 1:
            _outer_1(table, points, offsets, y, y_stride, out, out_stride)
        elif n == 6:
            _outer_6_narrow(table, points, offsets, y, y_stride, out, out_stride)
        elif n == 5:
            _outer_5_narrow(table, points, offsets, y, y_stride, out, out_stride)
        elif n == 4:
            _outer_4_narrow(table, points, offsets, y, y_stride, out, out_stride)
        elif n == 3:
            _outer_3_narrow(table, points, offsets, y, y_stride, out, out_stride)
        elif n == 2:
            _outer_2_narrow(table, points, offsets, y, y_stride, out, out_stride)
        else:
            _outer_1_narrow(table, points, offsets, y, y_stride, out, out_stride)
        offsets = offset(offsets, n)
        out = offset(out, n * out_stride)
