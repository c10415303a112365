"""Few rows times a matrix whose rows lie in memory: it is read where it lies, and the sums stay in registers."""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from ._target import target
from .emitter import Emitter, emitted
from .pointer import offset
from .simd import lanes
from .tile import MAX_ROWS
from .tile_steps import add_products, load_rows, store_rows

# Sums: three quarters of the registers. Fewer rows have more vectors each, for long stretches of the matrix's rows.
MOST_SUMS = target().registers * 3 // 4
# Where vectors are narrow, more rows than one are multiplied sooner by copies.
MOST_ROWS = MAX_ROWS if target().wide else 1
UNROLL = 2  # rows of the matrix
# Cache lines asked for ahead of those that are read: stretches of rows far apart, which no hardware foresees.
LINES_AHEAD = 32


def _widths(rows: int) -> tuple[int, ...]:
    """The vectors of columns that a tile may have."""
    return tuple(1 << i for i in reversed(range((MOST_SUMS // rows).bit_length())))


@intrinsic
def _row_tile(typingctx, rows, vectors, x, x_row, x_step, count, w, w_row, start, out, out_row, valid):
    """`rows_times_rows` for one of `_widths` vectors of columns, of which a single one need not be whole."""

    def emit(e, rows, vectors, *rest):
        def tile(rows):
            e.choose(vectors, _widths(rows), lambda vectors: _emit_tile(e, rows, vectors, *rest))

        e.choose(rows, tuple(range(1, MOST_ROWS + 1)), tile)

    return emitted(emit, x, rows, vectors, x, x_row, x_step, count, w, w_row, start, out, out_row, valid)


def _emit_tile(
    e: Emitter, rows: int, vectors: int, x: Any, x_row: Any, x_step: Any, count: Any, w: Any, w_row: Any, start: Any,
    out: Any, out_row: Any, valid: Any,
) -> None:  # fmt: skip
    builder, mask = e.builder, e.mask(valid) if vectors == 1 else None
    x_rows, out_rows = (
        [e.at(first, e.times(step, i)) for i in range(rows)] for first, step in ((x, x_row), (out, out_row))
    )
    ahead = e.times(w_row, LINES_AHEAD // vectors)

    def step(k, sums):
        at, right = builder.mul(k, x_step), e.at(w, builder.mul(k, w_row))
        for j in range(vectors):
            e.prefetch(e.at(e.at(right, ahead), j * e.lanes))
        return add_products(e, [(e.at(row, at),) for row in x_rows], right, sums, mask)

    sums = e.carry(count, load_rows(e, [start], vectors) * rows, step, UNROLL)
    store_rows(e, sums, out_rows, valid if vectors == 1 else None)


@device
def rows_times_rows(rows, x, x_row, x_step, count, w, w_row, start, out, out_row, columns):
    """``out[i][j] = start[j] + sum over k < count of x[i * x_row + k * x_step] * w[k * w_row + j]``, ``j < columns``.

    For ``i < rows``, at most `MOST_ROWS`. `start` is read as whole vectors.
    """
    n, vectors, j = lanes(x), 1, 0
    while 2 * vectors * rows <= MOST_SUMS:
        vectors *= 2
    while j < columns:
        while vectors > 1 and j + vectors * n > columns:
            vectors //= 2
        _row_tile(
            rows, vectors, x, x_row, x_step, count, offset(w, j), w_row, offset(start, j), offset(out, j), out_row,
            columns - j,
        )  # fmt: skip
        j += vectors * n
