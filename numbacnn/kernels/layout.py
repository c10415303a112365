"""Copying between memory layouts: channels-last and channels-first, from any strides."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._build import device, intrinsic, kernel
from .pointer import offset, prefetch_read, prefetch_write
from .runs import copy_run

# Positions of the innermost spatial axis that one unit of work covers: long enough that runs of the channels-first
# side fill whole cache lines (256 bytes of float32), short enough that the lines being written stay in the L1 cache.
TILE_POSITIONS = 64
# How far ahead of the column being written its lines are asked for.
PREFETCH_COLUMNS = 16


class Copy(NamedTuple):
    """A copy of an (N, D, H, W, C) array: extents, then strides of source and target in elements.

    One unit of work is up to `TILE_POSITIONS` positions of one (n, d, h) row with all their channels.
    """

    D: int
    H: int
    W: int
    C: int
    src_n: int
    src_d: int
    src_h: int
    src_w: int
    src_c: int
    dst_n: int
    dst_d: int
    dst_h: int
    dst_w: int
    dst_c: int
    units: int
    units_per_block: int
    group: int  # rows of the source whose lines are transposed together: see `copy_tile`


SQUARE = 4  # elements along the side of a square that is transposed in registers


@intrinsic
def transpose_square(typingctx, src, src_first, src_row, dst, dst_first, dst_row):
    """Transpose a square of `SQUARE` elements a side: row i of `src` becomes column i of `dst`.

    Offsets and row strides are in elements. Two stages exchange halves of pairs of vectors, elements and pairs of them:
    shuffles that stay inside the 16-byte parts of vectors as far as they can.
    """
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        element = args[0].type.pointee
        itemsize = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, SQUARE)

        def place(pointer, first, row, i):
            offset = builder.add(first, builder.mul(row, ir.Constant(row.type, i)))
            return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

        def joined(a, b, *order):
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), SQUARE), order))

        rows = [builder.load(place(*args[:3], i), align=itemsize) for i in range(SQUARE)]
        if itemsize == 8:
            a, b, c, d = (joined(rows[i], rows[i + 1], k, 4 + k, 2 + k, 6 + k) for i in (0, 2) for k in (0, 1))
            columns = [
                joined(first, last, *order)
                for order in ((0, 1, 4, 5), (2, 3, 6, 7))
                for first, last in ((a, c), (b, d))
            ]
        else:
            a, b, c, d = (joined(rows[i], rows[i + 2], k, 4 + k, 1 + k, 5 + k) for k in (0, 2) for i in (0, 1))
            columns = [
                joined(first, last, *order)
                for first, last in ((a, b), (c, d))
                for order in ((0, 4, 1, 5), (2, 6, 3, 7))
            ]
        for i, column in enumerate(columns):
            builder.store(column, place(*args[3:], i), align=itemsize)
        return context.get_dummy_value()

    return types.void(src, types.int64, types.int64, dst, types.int64, types.int64), codegen


def _split(columns: int) -> Any:
    """An intrinsic: as `transpose_square` for a few columns, rows that lie one after the other."""

    def split(typingctx: Any, src: Any, src_first: Any, dst: Any, dst_first: Any, dst_row: Any) -> Any:
        from llvmlite import ir
        from numba.core import types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            src, src_first, dst, dst_first, dst_row = args
            element = src.type.pointee
            itemsize, lanes = context.get_abi_sizeof(element), SQUARE
            row = ir.VectorType(element, lanes)
            place = builder.bitcast(builder.gep(src, [src_first]), ir.VectorType(element, lanes * columns).as_pointer())
            whole = builder.load(place, align=itemsize)
            for column in range(columns):
                order = ir.Constant(
                    ir.VectorType(ir.IntType(32), lanes), [ir.IntType(32)(column + columns * i) for i in range(lanes)]
                )
                values = builder.shuffle_vector(whole, whole, order)
                target = builder.add(dst_first, builder.mul(dst_row, ir.Constant(dst_row.type, column)))
                builder.store(values, builder.bitcast(builder.gep(dst, [target]), row.as_pointer()), align=itemsize)
            return context.get_dummy_value()

        return types.void(src, types.int64, dst, types.int64, types.int64), codegen

    return intrinsic(split)


def _join(rows: int) -> Any:
    """An intrinsic, the other way round: a few rows, columns of the result that lie one after the other."""

    def join(typingctx: Any, src: Any, src_first: Any, src_row: Any, dst: Any, dst_first: Any) -> Any:
        from llvmlite import ir
        from numba.core import types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            src, src_first, src_row, dst, dst_first = args
            element = src.type.pointee
            itemsize, lanes = context.get_abi_sizeof(element), SQUARE
            i32, vector = ir.IntType(32), ir.VectorType(element, lanes)
            parts = []
            for row in range(rows):
                place = builder.gep(src, [builder.add(src_first, builder.mul(src_row, ir.Constant(src_row.type, row)))])
                parts.append(builder.load(builder.bitcast(place, vector.as_pointer()), align=itemsize))
            whole = parts[0]
            for count, part in enumerate(parts[1:], start=1):
                longer = [i32(min(i, lanes - 1)) for i in range(count * lanes)]
                part = builder.shuffle_vector(part, part, ir.Constant(ir.VectorType(i32, count * lanes), longer))
                both = ir.Constant(
                    ir.VectorType(i32, (count + 1) * lanes), [i32(i) for i in range((count + 1) * lanes)]
                )
                whole = builder.shuffle_vector(whole, part, both)
            order = [i32(i % rows * lanes + i // rows) for i in range(rows * lanes)]
            values = builder.shuffle_vector(whole, whole, ir.Constant(ir.VectorType(i32, rows * lanes), order))
            target = builder.bitcast(builder.gep(dst, [dst_first]), values.type.as_pointer())
            builder.store(values, target, align=itemsize)
            return context.get_dummy_value()

        return types.void(src, types.int64, types.int64, dst, types.int64), codegen

    return intrinsic(join)


split_2, split_3 = _split(2), _split(3)
join_2, join_3 = _join(2), _join(3)


@device
def copy_transposed(src, src_first, src_row, dst, dst_first, dst_row, rows, columns):
    """``dst[column, row] = src[row, column]``, both contiguous in their second axis."""
    whole_rows, whole_columns = rows - rows % SQUARE, columns - columns % SQUARE
    for line in range(0, whole_rows, 4 * SQUARE):
        last = min(line + 4 * SQUARE, whole_rows)
        for column in range(0, whole_columns, SQUARE):
            for row in range(line, last, SQUARE):
                s, t = src_first + row * src_row + column, dst_first + row + column * dst_row
                transpose_square(src, s, src_row, dst, t, dst_row)
    copy_edges(src, src_first, src_row, dst, dst_first, dst_row, rows, columns)


@device
def copy_tile(src, src_first, src_row, dst, dst_first, dst_row, rows, columns, group):
    """As `copy_transposed` for one of many tiles of large arrays, `group` rows at a time.

    What is read and written lies in short pieces far apart, which no hardware foresees. So lines are asked for in
    advance: those that will be written some columns later, and those of the rows that come next.
    """
    whole_rows, whole_columns = rows - rows % SQUARE, columns - columns % SQUARE
    for line in range(0, whole_rows, group):
        last = min(line + group, whole_rows)
        following = src_first + (last * src_row if last < rows else columns)
        for column in range(0, whole_columns, SQUARE):
            soon = dst_first + line + (column + PREFETCH_COLUMNS) * dst_row
            part = column // SQUARE % 4
            for i in range(SQUARE):
                prefetch_write(dst, soon + i * dst_row)
                prefetch_read(src, following + (part * SQUARE + i) * src_row + column - part * SQUARE)
            for row in range(line, last, SQUARE):
                s, t = src_first + row * src_row + column, dst_first + row + column * dst_row
                transpose_square(src, s, src_row, dst, t, dst_row)
    copy_edges(src, src_first, src_row, dst, dst_first, dst_row, rows, columns)


@device
def copy_edges(src, src_first, src_row, dst, dst_first, dst_row, rows, columns):
    """What whole squares leave of `copy_transposed`: at the edges, squares of which some rows or columns are done."""
    whole_rows, whole_columns = rows - rows % SQUARE, columns - columns % SQUARE
    if rows < SQUARE or columns < SQUARE:
        _copy_narrow(src, src_first, src_row, dst, dst_first, dst_row, rows, columns)
        return
    if whole_columns < columns:
        s, t = src_first + columns - SQUARE, dst_first + (columns - SQUARE) * dst_row
        for row in range(0, whole_rows, SQUARE):
            transpose_square(src, s + row * src_row, src_row, dst, t + row, dst_row)
    if whole_rows < rows:
        s, t = src_first + (rows - SQUARE) * src_row, dst_first + rows - SQUARE
        for i in range(0, columns, SQUARE):
            column = min(i, columns - SQUARE)
            transpose_square(src, s + column, src_row, dst, t + column * dst_row, dst_row)


@device
def _copy_narrow(src, src_first, src_row, dst, dst_first, dst_row, rows, columns):
    """`copy_transposed` of fewer rows or columns than a square has."""
    begin_row, begin_column = 0, 0
    if 2 <= columns == src_row < SQUARE:
        begin_row = rows if rows >= SQUARE else 0
        for i in range(0, begin_row, SQUARE):
            row = min(i, rows - SQUARE)
            if columns == 3:
                split_3(src, src_first + row * 3, dst, dst_first + row, dst_row)
            else:
                split_2(src, src_first + row * 2, dst, dst_first + row, dst_row)
    elif 2 <= rows == dst_row < SQUARE:
        begin_column = columns - columns % SQUARE
        for column in range(0, begin_column, SQUARE):
            if rows == 3:
                join_3(src, src_first + column, src_row, dst, dst_first + column * 3)
            else:
                join_2(src, src_first + column, src_row, dst, dst_first + column * 2)
    for row in range(begin_row, rows):
        s, t = src_first + row * src_row, dst_first + row
        for column in range(begin_column, columns):
            dst[t + column * dst_row] = src[s + column]


@device
def copy_strided(src, src_first, src_row, src_column, dst, dst_first, dst_row, dst_column, rows, columns):
    """``dst[row, column] = src[row, column]``, any strides."""
    for row in range(rows):
        s, t = src_first + row * src_row, dst_first + row * dst_row
        if src_column == 1 and dst_column == 1:
            copy_run(offset(dst, t), offset(src, s), columns)
        else:
            for column in range(columns):
                dst[t + column * dst_column] = src[s + column * src_column]


@kernel(I=("uint32", "uint64"))
def copy_layout(block, src: "I*", dst: "I*", p: Copy):
    tiles = (p.W + TILE_POSITIONS - 1) // TILE_POSITIONS
    for unit in range(block * p.units_per_block, min(p.units, (block + 1) * p.units_per_block)):
        row, tile = unit // tiles, unit % tiles
        n, d, h, w = row // (p.D * p.H), row // p.H % p.D, row % p.H, tile * TILE_POSITIONS
        s = n * p.src_n + d * p.src_d + h * p.src_h + w * p.src_w
        t = n * p.dst_n + d * p.dst_d + h * p.dst_h + w * p.dst_w
        positions = min(p.W - w, TILE_POSITIONS)
        if p.src_w == 1 and p.dst_c == 1:
            copy_tile(src, s, p.src_c, dst, t, p.dst_w, p.C, positions, p.group)
        elif p.src_c == 1 and p.dst_w == 1:
            copy_tile(src, s, p.src_w, dst, t, p.dst_c, positions, p.C, p.group)
        elif positions > p.C and not p.src_c == p.dst_c == 1:
            copy_strided(src, s, p.src_c, p.src_w, dst, t, p.dst_c, p.dst_w, p.C, positions)
        else:
            copy_strided(src, s, p.src_w, p.src_c, dst, t, p.dst_w, p.dst_c, positions, p.C)
