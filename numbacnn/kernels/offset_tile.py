"""Register tiles whose reduction is a list of element offsets: the rows lie anywhere, the reduction too.

`offset_gemm_tile` multiplies rows by packed weights, each row read at the same list of offsets::

    out[i][j] = bias[j] + sum over k < count of  x[i][offsets[k]] * w[k][j]            i < rows, j < lanes

`offset_outer_tile` accumulates outer products (the weight gradient)::

    out[i][j] += sum over positions p of  x[p][offsets[i]] * y[p][j]                   i < rows, j < lanes

Where the tiles of `tile.py` walk a run of consecutive elements per kernel tap, these have one flat loop, and a short
run costs no more than a long one. The price is one integer load per row of weights, which the load units have to spare.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from .tile import _choose, _Emitter, _loop, _store_rows


def _offset_gemm_tile(rows: int, vectors: int) -> Any:
    """The GEMM tile; its arguments are described at `offset_gemm_tile`."""

    def tile(typingctx, table, valid, offsets, count, w, w_width, bias, out, out_stride, lanes):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, valid, offsets, count, w, w_width, bias, out, out_stride, lanes = args
            e = _Emitter(builder, signature.args[4].dtype)
            steps = range(vectors)
            last = builder.sub(valid, e.constant(1))
            numbers = [e.constant(0)]
            for i in range(1, rows):
                exists = builder.icmp_signed("<", e.constant(i), valid)
                numbers.append(builder.select(exists, e.constant(i), last))
            x = [e.slot(table, number) for number in numbers]

            def step(k, sums):
                at = builder.load(e.at(offsets, k))
                w_row = e.at(w, builder.mul(k, w_width))
                weights = [e.load(e.at(w_row, j * e.lanes)) for j in steps]
                new = []
                for i in range(rows):
                    value = e.broadcast(builder.load(e.at(x[i], at), align=e.itemsize))
                    new += [e.multiply_add(value, weights[j], sums[i * vectors + j]) for j in steps]
                return new

            start = [e.load(e.at(bias, j * e.lanes)) for j in steps] * rows
            sums = _loop(e, "offsets", count, start, step)
            out_rows = [e.at(out, builder.mul(out_stride, number)) for number in numbers]
            _store_rows(e, sums, out_rows, vectors, lanes)
            return context.get_dummy_value()

        return types.void(table, i64, offsets, i64, w, i64, bias, out, i64, i64), codegen

    return intrinsic(tile)


def _offset_outer_tile(rows: int, vectors: int) -> Any:
    """The outer-product tile; its arguments are described at `offset_outer_tile`."""

    def tile(typingctx, table, count, offsets, y, y_stride, out, out_stride):
        from numba.core import types

        i64 = types.int64

        def codegen(context, builder, signature, args):
            table, count, offsets, y, y_stride, out, out_stride = args
            e = _Emitter(builder, signature.args[3].dtype)
            steps = range(vectors)
            out_rows = [e.at(out, builder.mul(out_stride, e.constant(i))) for i in range(rows)]
            places = [builder.load(e.at(offsets, i)) for i in range(rows)]

            def position(p, sums):
                x = e.slot(table, p)
                y_row = e.at(y, builder.mul(p, y_stride))
                right = [e.load(e.at(y_row, j * e.lanes)) for j in steps]
                new = []
                for i in range(rows):
                    value = e.broadcast(builder.load(e.at(x, places[i]), align=e.itemsize))
                    new += [e.multiply_add(value, right[j], sums[i * vectors + j]) for j in steps]
                return new

            start = [e.load(e.at(row, j * e.lanes)) for row in out_rows for j in steps]
            sums = _loop(e, "positions", count, start, position)
            for i in range(rows):
                for j in steps:
                    e.store(sums[i * vectors + j], e.at(out_rows[i], j * e.lanes))
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
def offset_gemm_tile(wide, table, rows, offsets, count, w, w_width, bias, out, out_stride, lanes):
    """One tile of a GEMM over gathered rows.

    wide : two vectors of columns (true) or one
    table : slots with a pointer to each of the x rows
    rows : how many rows there are, 1 to 6
    offsets, count : the reduction: elements from the beginning of every x row, and how many
    w, w_width : packed weights; elements between their successive rows
    bias : a padded row of initial values
    out, out_stride : first output row; elements between output rows
    lanes : number of output columns that exist
    """
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


@device
def offset_outer_tile(wide, rows, table, count, offsets, y, y_stride, out, out_stride):
    """Add ``x[p][offsets[i]] * y[p][j]`` over `count` positions to a tile of `out`.

    wide : two vectors of columns (true) or one
    rows : number of rows, 1 to 6
    table : slots with one pointer to an x row per position
    y, out : full-width rows, `y_stride` and `out_stride` elements apart
    """
    if wide and rows == 6:
        _outer_6(table, count, offsets, y, y_stride, out, out_stride)
    elif wide and rows == 5:
        _outer_5(table, count, offsets, y, y_stride, out, out_stride)
    elif wide and rows == 4:
        _outer_4(table, count, offsets, y, y_stride, out, out_stride)
    elif wide and rows == 3:
        _outer_3(table, count, offsets, y, y_stride, out, out_stride)
    elif wide and rows == 2:
        _outer_2(table, count, offsets, y, y_stride, out, out_stride)
    elif wide and rows == 1:
        _outer_1(table, count, offsets, y, y_stride, out, out_stride)
    elif rows == 6:
        _outer_6_narrow(table, count, offsets, y, y_stride, out, out_stride)
    elif rows == 5:
        _outer_5_narrow(table, count, offsets, y, y_stride, out, out_stride)
    elif rows == 4:
        _outer_4_narrow(table, count, offsets, y, y_stride, out, out_stride)
    elif rows == 3:
        _outer_3_narrow(table, count, offsets, y, y_stride, out, out_stride)
    elif rows == 2:
        _outer_2_narrow(table, count, offsets, y, y_stride, out, out_stride)
    else:
        _outer_1_narrow(table, count, offsets, y, y_stride, out, out_stride)
