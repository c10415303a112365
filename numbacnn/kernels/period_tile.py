"""The register tile of depthwise convolution whose vectors run along lines of memory, positions and channels alike.

The weights of a vector repeat with the period of the channels, so vectors a period apart share theirs; and a line of
the source serves as many neighbouring lines of the destination as the kernel has rows. So of a few lines times a few
periods each load serves up to `LINES` multiply-adds. Hardly any vector is aligned, and a load that crosses a cache line
takes as long as two: with one load per multiply-add, multiplying would take half of the time.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from ._target import target
from .emitter import Emitter, emitted

TILE_ROWS = 8  # lines of the destination: chains enough, even of one vector at the ends of lines
LINES = 4  # kernel rows at a time, at most
# Vectors of a line: sixteen sums beside the weights of four rows, or eight; and where a line is alone. (Four lines of
# four vectors, or of two, took 1.07 times as long.)
TILE_VECTORS = 2 if target().registers >= 32 else 1
LONE_VECTORS = 8
# A step: a pointer, an offset of weights, kernel rows, the first line inside and one beyond the last, where in a line
# the pointer points to.
SOURCE, WEIGHT, KERNEL_ROWS, FIRST, END, PLACE, STEP_FIELDS = range(7)


@intrinsic
def period_tile(
    typingctx, vectors, rows, table, steps, x_offset, x_row, period, w, w_row, start, out, out_row
):  # fmt: skip
    """Some vectors of each of some neighbouring lines.

    vectors, rows : 1 to `TILE_VECTORS`, and to `TILE_ROWS`; or to `LONE_VECTORS`, and 0 for one row of one kernel row
    table, steps : per step one tap of some rows of the kernel, where the first line reads it; see above
    x_offset : elements from there to what the first vector reads
    x_row, period : elements between lines of the source that successive lines read, and between vectors
    w, w_row : weights, elements from those of a kernel row to those of the next
    start : what every sum begins with, one vector
    out, out_row : first vector of the destination, elements between its lines
    """

    def emit(e, vectors, *rest):
        def tile(tile_rows):
            most = TILE_VECTORS if tile_rows else LONE_VECTORS
            e.choose(vectors, tuple(range(most, 0, -1)), lambda vectors: _tile(e, vectors, tile_rows or 1, *rest))

        builder = e.builder
        with builder.if_else(builder.icmp_signed("==", rest[0], e.i64(0))) as (lone, several):
            with lone:
                tile(0)
            with several:
                tile(TILE_ROWS)

    return emitted(
        emit, w, vectors, rows, table, steps, x_offset, x_row, period, w, w_row, start, out, out_row
    )  # fmt: skip


@intrinsic
def clipped_period_tile(
    typingctx, valid, width, rows, table, steps, x_offset, x_row, w, w_row, start, out, out_row
):  # fmt: skip
    """As `period_tile` for one vector, which may reach beyond the ends of the lines of either side.

    valid : lanes of it that lie inside the destination
    width : elements of a line of the source
    """

    def emit(e, valid, width, rows, table, steps, x_offset, x_row, *rest):
        _tile(e, 1, TILE_ROWS, rows, table, steps, x_offset, x_row, e.i64(0), *rest, width=width, valid=valid)

    return emitted(
        emit, w, valid, width, rows, table, steps, x_offset, x_row, w, w_row, start, out, out_row
    )  # fmt: skip


def _tile(
    e: Emitter, vectors: int, tile_rows: int, rows: Any, table: Any, steps: Any, x_offset: Any, x_row: Any, period: Any,
    w: Any, w_row: Any, start: Any, out: Any, out_row: Any, width: Any = None, valid: Any = None,
) -> None:  # fmt: skip
    """Emit the tile for numbers of vectors and lines; with `width` and `valid`, the clipped one."""
    builder = e.builder
    first = e.load(start)
    sums = [[e.variable(first) for _ in range(vectors)] for _ in range(tile_rows)]
    with e.loop(steps) as step:
        entry = e.at(table, e.times(step, STEP_FIELDS))
        x = e.at(e.slot(entry, SOURCE, e.pointer), x_offset)
        w_here = e.at(w, e.slot(entry, WEIGHT))
        begin, end = e.slot(entry, FIRST), e.slot(entry, END)
        mask = None
        if width is not None:
            place = builder.add(x_offset, e.slot(entry, PLACE))
            before, inside = (e.mask(builder.sub(edge, place)) for edge in (e.i64(0), width))
            mask = builder.and_(builder.not_(before), inside)

        def add(kernel_rows, x=x, w_here=w_here, begin=begin, end=end, mask=mask):
            weights = [e.load(e.at(w_here, e.times(w_row, k))) for k in range(kernel_rows)]

            def add_line(line):
                here = e.at(x, e.times(x_row, line))
                for v in range(vectors):
                    value = e.load(e.at(here, e.times(period, v)), mask=mask)
                    for k in range(kernel_rows):
                        if 0 <= line - k < tile_rows:
                            e.accumulate(sums[line - k][v], value, weights[k])

            lines = tile_rows + kernel_rows - 1
            if mask is not None:
                e.each(begin, end, lines, add_line)
                return
            with builder.if_else(builder.icmp_signed("==", builder.sub(end, begin), e.i64(lines))) as (whole, some):
                with whole:
                    for line in range(lines):
                        add_line(line)
                        e.keep_order()
                with some:
                    e.each(begin, end, lines, add_line)

        most = LINES if tile_rows > 1 else 1
        e.choose(e.slot(entry, KERNEL_ROWS), tuple(range(most, 0, -1)), add)
    wanted = None if valid is None else e.mask(valid)

    def put(row):
        here = e.at(out, e.times(out_row, row))
        for v in range(vectors):
            e.store(e.value(sums[row][v]), e.at(here, e.times(period, v)), mask=wanted)

    if tile_rows > 1:
        e.each(e.i64(0), rows, tile_rows, put)
    else:
        put(0)
