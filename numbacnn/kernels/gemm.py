"""Matrix products on the register tile: ``out = a @ b + bias`` for operands of any strides.

Every sum runs over the depth in order, one fused multiply-add after the other, however the work is cut. So results do
not depend on the number of rows or threads, and blocks can be chosen for speed alone.

After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): copies of what is in use lie
in caches in the order in which the tile reads them; the names of the loops are BLIS's.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import MOST_SCRATCH_SLOTS, SCRATCH_SLOTS
from ._target import target
from .columns import DOT_ROWS, columns_dot, pack_columns
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, prefetch_far, prefetch_read, prefetch_write, store_pointer
from .row_tile import MOST_ROWS, rows_times_rows
from .runs import copy_run, even_part
from .simd import broad, fma, lanes, line, load, load_first, load_like, splat, store, store_first
from .tile import MAX_ROWS, MIN_GEMM_ROWS, gemm_tile

# The scratch: a table per row tile; the initial values of a block's columns; copies of some rows of `a`, of which
# `ROW_GROUP` at a time stay in L1; copies of columns of `b`, which stay in L2.
ROW_GROUP = 2 * MAX_ROWS
ROW_COPIES = 48 // ROW_GROUP * ROW_GROUP
# Rows of `b`, asked for ahead of being copied: each ends where hardware stops foreseeing. From beyond the second-level
# cache more of them, into that: rows a power of two apart have few places in the first.
PREFETCH_ROWS, FAR_ROWS = 4, 8
ROW_SLOTS = SCRATCH_SLOTS // 256  # a row's stretch of one block of the depth: 1 KiB, or 2 beside vectors of 64 bytes
# Slots of a row tile's table, and the one that says how many rows it has.
TABLE_STEP, TILE_ROWS = 2 * MAX_ROWS + 4, 2 * MAX_ROWS + 3
START = TABLE_STEP * ROW_GROUP // MAX_ROWS
START_SLOTS = 2048
ROWS = START + START_SLOTS
COLUMNS = ROWS + ROW_COPIES * ROW_SLOTS
COLUMN_SLOTS = (SCRATCH_SLOTS if target().wide else MOST_SCRATCH_SLOTS) - COLUMNS


class Gemm(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    rows: int  # of one product
    columns: int
    depth: int
    a_row: int  # elements between rows and between columns
    a_depth: int
    b_depth: int
    b_column: int
    vector: int  # lanes of one vector
    width: int  # columns of a panel
    panel: int  # elements of a copied panel: a cache line more than it needs, lest they are a power of two apart
    row_blocks: int
    column_blocks: int
    depth_block: int
    copy_rows: int  # 1: rows of `a` are copied before use; 0: they are read where they lie
    far: int  # 1: operands lie beyond the second-level cache, which is asked for them in advance
    has_bias: int
    direct: int  # 1: so few rows that `b` is read where it lies; 0: copies of its columns
    in_place: int  # 1: rows of `b` are read where they lie, by a register tile


@device
def _copy(source, row, column, target, target_row, rows, columns):
    """``target[i * target_row + j] = source[i * row + j * column]``."""
    if column == 1:
        for i in range(rows):
            copy_run(offset(target, i * target_row), offset(source, i * row), columns)
    elif row == 1:
        copy_transposed(as_integers(source), 0, column, as_integers(target), 0, target_row, columns, rows)
    else:
        for i in range(rows):
            for j in range(columns):
                target[i * target_row + j] = source[i * row + j * column]


@device
def _pack_columns(source, packed, depth, columns, g):
    """Columns as panels, ``packed[panel][k][lane]``; the last panel's missing lanes are zero."""
    whole = columns - columns % g.width
    if g.b_column == 1:  # as they lie in memory
        for k in range(depth):
            row, place = offset(source, k * g.b_depth), k * g.width
            for column in range(0, whole, g.width):
                if g.far:
                    prefetch_far(row, FAR_ROWS * g.b_depth + column)
                else:
                    prefetch_read(row, PREFETCH_ROWS * g.b_depth + column)
                for lane in range(0, g.width, g.vector):
                    store(packed, place + lane, load(row, column + lane))
                place += g.panel
    elif g.b_depth == 1:
        for column in range(0, whole, g.vector):
            target = offset(packed, column // g.width * g.panel + column % g.width)
            pack_columns(offset(source, column * g.b_column), g.b_column, depth, target, g.width)
    else:
        for column in range(0, whole, g.width):
            target = offset(packed, column // g.width * g.panel)
            _copy(offset(source, column * g.b_column), g.b_depth, g.b_column, target, g.width, depth, g.width)
    if whole < columns:
        target = offset(packed, whole // g.width * g.panel)
        if g.b_depth == 1 and columns - whole >= g.vector:
            pack_columns(offset(source, whole * g.b_column), g.b_column, depth, target, g.width)
            target, whole = offset(target, g.vector), whole + g.vector
        missing = g.width - columns % g.width
        for k in range(depth):
            for lane in range(columns - whole, columns - whole + missing):
                target[k * g.width + lane] = 0
        _copy(offset(source, whole * g.b_column), g.b_depth, g.b_column, target, g.width, depth, columns - whole)


@device
def _vector_times_columns(a, b, start, out, columns, g):
    """One row of `a`; columns of `b` that lie in memory as rows. Each element of `b` is needed once: no copies."""
    few = max(g.vector, DOT_ROWS)
    for column in range(0, columns, few):
        columns_dot(
            a,
            offset(b, column * g.b_column),
            g.b_column,
            g.depth,
            offset(start, column),
            offset(out, column),
            min(few, columns - column),
        )


@device
def _few_rows_times_rows(a, b, start, out, rows, columns, g):
    """A few rows of `a`; rows of `b`, four at a time: as many streams as any machine follows by itself.

    They pass once, through registers, and what they are added to stays in L1.
    """
    n = g.vector
    for i in range(rows):
        for j in range(0, columns, n):
            store_first(out, i * g.columns + j, load(start, j), columns - j)
    few = g.depth - g.depth % 4
    for d in range(0, few, 4):
        _add_four_rows(offset(a, d), offset(b, d * g.b_depth), out, rows, columns, g)
    for d in range(few, g.depth):
        row = offset(b, d * g.b_depth)
        for j in range(0, columns, n):
            left = columns - j
            right = load_first(row, j, left, 0.0)
            for i in range(rows):
                place = i * g.columns + j
                total = fma(splat(out, a[i * g.a_row + d]), right, load_first(out, place, left, 0.0))
                store_first(out, place, total, left)


@device
def _add_four_rows(a, b0, out, rows, columns, g):
    """Four elements of each of a few rows times as many rows of `b`."""
    b1 = offset(b0, g.b_depth)
    b2 = offset(b1, g.b_depth)
    b3 = offset(b2, g.b_depth)
    like, n = broad(b0), g.vector
    whole = columns - columns % lanes(like)
    for j in range(0, whole, lanes(like)):
        for row in (b0, b1, b2, b3):
            for i in range(j, j + lanes(like), line(row)):
                prefetch_read(row, 4 * g.b_depth + i)
        r0, r1, r2, r3 = load_like(like, b0, j), load_like(like, b1, j), load_like(like, b2, j), load_like(like, b3, j)
        for i in range(rows):
            source, target = offset(a, i * g.a_row), offset(out, i * g.columns)
            total = fma(splat(like, source[0]), r0, load_like(like, target, j))
            total = fma(splat(like, source[1]), r1, total)
            total = fma(splat(like, source[2]), r2, total)
            store(target, j, fma(splat(like, source[3]), r3, total))
    for j in range(whole, columns, n):
        rest = columns - j
        left0, left1 = load_first(b0, j, rest, 0.0), load_first(b1, j, rest, 0.0)
        left2, left3 = load_first(b2, j, rest, 0.0), load_first(b3, j, rest, 0.0)
        for i in range(rows):
            source, target = offset(a, i * g.a_row), offset(out, i * g.columns)
            total = fma(splat(out, source[0]), left0, load_first(target, j, rest, 0.0))
            total = fma(splat(out, source[1]), left1, total)
            total = fma(splat(out, source[2]), left2, total)
            store_first(target, j, fma(splat(out, source[3]), left3, total), rest)


@device
def _put_tables(table, rows, tiles, packed, pitch, columns, out, out_row):
    """A table for each row tile, as `gemm_tile` reads it; too few rows: the last is repeated."""
    for tile in range(tiles):
        first, valid = even_part(tile, tiles, rows)
        slot = tile * TABLE_STEP
        count = max(valid, MIN_GEMM_ROWS)
        for i in range(count):
            row = first + min(i, valid - 1)
            store_pointer(table, slot + i, offset(out, row * out_row))
            store_pointer(table, slot + count + i, offset(packed, row * pitch))
        store_pointer(table, slot + 2 * count, columns)
        table[slot + TILE_ROWS] = count


@device
def _ask_for_rows(rows, count, lane, columns, depth, g):
    """Ask for that share of some rows' stretches of which the panel at `lane` is one of all columns."""
    first, last = lane * depth // columns, min(lane + g.width, columns) * depth // columns
    for row in range(count):
        for k in range(first, last, line(rows)):
            prefetch_far(rows, row * g.a_row + k)


@device
def _rows_after(row, a, rows, d, depth, g):
    """The rows of `a` that are read from `row` on, or else first in the next stretch of the depth; and how many."""
    if g.far and g.a_depth == 1:
        if row < rows:
            return offset(a, row * g.a_row + d), min(ROW_GROUP, rows - row)
        if d + depth < g.depth:
            return offset(a, d + depth), min(ROW_GROUP, rows)
    return a, 0


@device
def _multiply(table, rows, pitch, columns, start, out, row_count, column_count, depth, d, soon, soon_count, g):
    """A few rows, `pitch` apart, times copied columns, added to `out` unless `d` is 0, when it begins at `start`.

    Meanwhile it asks for the `soon_count` rows of `a`, from `soon` on, that are read next.
    """
    tiles = (row_count + MAX_ROWS - 1) // MAX_ROWS
    _put_tables(table, row_count, tiles, rows, pitch, columns, out, g.columns)
    for lane in range(0, column_count, g.width):  # 2nd loop: panels of columns
        lanes = min(g.width, column_count - lane)
        _ask_for_rows(soon, soon_count, lane, column_count, depth, g)
        if lane + g.width < column_count:  # results lie in pieces far apart, which no hardware foresees
            for row in range(row_count):
                prefetch_write(out, row * g.columns + lane + g.width)
        for tile in range(tiles):  # 1st loop: row tiles
            gemm_tile(
                table[tile * TABLE_STEP + TILE_ROWS],
                lanes > g.vector,
                offset(table, tile * TABLE_STEP),
                1,
                0,
                depth,
                lane // g.width * g.panel,
                g.width,
                lane,
                offset(start, lane),
                d,
                lanes,
            )


@kernel
def gemm(block, scratch, a: "T*", b: "T*", bias: "T*", out: "T*", places: "int64*", g: "Gemm"):
    """One block: some rows and some panels of columns of one product.

    Blocks beside each other in rows follow on each other, so that threads share few rows of the result: each would
    fetch ahead what the other is writing.

    ``places[2 * product]`` and ``places[2 * product + 1]`` say at which elements the operands of a product begin.
    """
    column_block = block % g.column_blocks
    block //= g.column_blocks
    row_block = block % g.row_blocks
    product = block // g.row_blocks
    panels = (g.columns + g.width - 1) // g.width
    first_row, rows = even_part(row_block, g.row_blocks, g.rows)
    first_panel, panels = even_part(column_block, g.column_blocks, panels)
    column = first_panel * g.width
    columns = min(panels * g.width, g.columns - column)
    a = offset(a, places[2 * product] + first_row * g.a_row)
    b = offset(b, places[2 * product + 1] + column * g.b_column)
    out = offset(out, (product * g.rows + first_row) * g.columns + column)
    start, packed_rows, packed_columns = (
        cast(offset(scratch, START), a),
        cast(offset(scratch, ROWS), a),
        cast(offset(scratch, COLUMNS), a),
    )
    for i in range(panels * g.width):
        start[i] = bias[column + i] if g.has_bias and i < columns else 0

    if g.in_place:
        tiles = (rows + MOST_ROWS - 1) // MOST_ROWS
        for tile in range(tiles):
            first, count = even_part(tile, tiles, rows)
            source, target = offset(a, first * g.a_row), offset(out, first * g.columns)
            rows_times_rows(count, source, g.a_row, g.a_depth, g.depth, b, g.b_depth, start, target, g.columns, columns)
        return
    if g.direct and g.b_depth == 1 and g.rows == 1:
        _vector_times_columns(a, b, start, out, columns, g)
        return
    if g.direct:
        _few_rows_times_rows(a, b, start, out, rows, columns, g)
        return

    for d in range(0, g.depth, g.depth_block):  # 4th loop: blocks of the depth
        depth = min(g.depth_block, g.depth - d)
        _pack_columns(offset(b, d * g.b_depth), packed_columns, depth, columns, g)
        for r in range(0, rows, ROW_COPIES):
            count = min(ROW_COPIES, rows - r)
            source, pitch = offset(a, r * g.a_row + d * g.a_depth), g.a_row
            if g.copy_rows:
                _copy(source, g.a_row, g.a_depth, packed_rows, g.depth_block, count, depth)
                source, pitch = packed_rows, g.depth_block
            for first in range(0, count, ROW_GROUP):  # 3rd loop: rows that stay in L1
                soon, soon_count = _rows_after(r + first + ROW_GROUP, a, rows, d, depth, g)
                _multiply(
                    scratch,
                    offset(source, first * pitch),
                    pitch,
                    packed_columns,
                    start,
                    offset(out, (r + first) * g.columns),
                    min(ROW_GROUP, count - first),
                    columns,
                    depth,
                    d,
                    soon,
                    soon_count,
                    g,
                )
