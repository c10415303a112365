"""Register tiles of depthwise convolution whose points share what they read: neighbours, without a stride.

`line_tile` loads a position anew for each of its multiply-adds, which leaves the loads no time to fetch lines into L1.
Here the weights stay in registers and a position serves all points and taps that meet in it. One vector of channels at
a time, so a cache line is read twice: where positions are so far apart that L1 has few places for them, `line_tile`
is quicker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ._build import intrinsic
from ._target import target
from .emitter import Emitter, emitted
from .line_tile import FEWEST_POINTS, LINE_POINTS, LINE_VECTORS, ask_for_next

WINDOW = 3  # rows and taps of the kernel of `window_tile`
ROW_TAPS = (7, 5) if target().wide else (5,)  # of `row_tile`
# Points of `window_tile` in a row, the best first, and the most of `row_tile`. Where there are 32 registers: seven, or
# four for rows that fit them better; fourteen. So multiply-adds do not wait for each other.
_WIDE = target().registers >= 32
WINDOW_POINTS = (7, 4) if _WIDE else (4,)
ROW_POINTS = (2 * LINE_POINTS, LINE_POINTS) if _WIDE else (LINE_POINTS,)
WHOLE, LEFT, RIGHT = range(3)  # whether a point's first, or last, column lies outside the source


@intrinsic
def window_tile(
    typingctx, points, side, table, planes, vectors, x_offset, x_row, x_step, w, w_tap, w_panel, start,
    out, out_row, out_step, asks, soon,
):  # fmt: skip
    """Two rows of some neighbours under 3 x 3 taps, for the vectors of panels of channels, perhaps not all of the last.

    The rows read four source rows and each position of these up to six times: with four points 33 loads for 72
    multiply-adds.

    points : of either row, of `WINDOW_POINTS`
    side : WHOLE; LEFT or RIGHT where the first or last column that they read lies outside the source
    table, planes : of every source plane WINDOW entries of two slots; the first is a pointer to the first row that the
        first row of points reads, and an offset (in elements) into the weights
    vectors : how many of all panels; they lie side by side
    x_offset, x_row, x_step : elements from the pointer to what the first tap of the first point reads, from each source
        row to the next that the rows read, from each position to the next
    w, w_tap, w_panel : weights, elements from those of a tap to those of the next, from each panel's to the next's
    start : what every sum begins with
    out, out_row, out_step : first point of the destination, elements between the rows, between points
    asks, soon : 1 to ask for what as many points after these write, and read from `soon` on in two rows; or 0
    """

    def emit(e, points, side, *rest):
        sides = (WHOLE, LEFT, RIGHT)
        e.choose(
            points, WINDOW_POINTS, lambda points: e.choose(side, sides, lambda side: _window(e, points, side, *rest))
        )

    return emitted(
        emit, w, points, side, table, planes, vectors, x_offset, x_row, x_step, w, w_tap, w_panel, start, out, out_row,
        out_step, asks, soon,
    )  # fmt: skip


def _window(
    e: Emitter, points: int, side: int, table: Any, planes: Any, vectors: Any, x_offset: Any, x_row: Any, x_step: Any,
    w: Any, w_tap: Any, w_panel: Any, start: Any, out: Any, out_row: Any, out_step: Any, asks: Any, soon: Any,
) -> None:  # fmt: skip
    """Emit the tile for some points and a side."""
    builder, taps = e.builder, range(WINDOW)
    columns = range(int(side == LEFT), points + WINDOW - 1 - int(side == RIGHT))
    with _each_vector(e, vectors, w, w_panel) as (channel, weight):
        reads = [e.at(soon, builder.add(channel, e.times(x_row, row))) for row in range(2)]
        writes = [e.at(out, builder.add(channel, e.times(out_row, row))) for row in range(2)]
        ask_for_next(e, points, asks, reads, points, x_step, writes, out_step)
        first = e.load(e.at(start, channel))
        sums = [[e.variable(first) for _ in range(points)] for _ in range(2)]
        with e.loop(planes) as plane:
            entry = e.times(plane, 2 * WINDOW)
            x = e.at(e.slot(table, entry, e.pointer), builder.add(x_offset, channel))
            place = e.at(weight, e.slot(table, builder.add(entry, e.i64(1))))
            rows = [e.at(place, r * WINDOW * LINE_VECTORS * e.lanes) for r in taps]
            weights = [[e.load(e.at(row, e.times(w_tap, t))) for t in taps] for row in rows]
            for r in range(WINDOW + 1):
                source = e.at(x, builder.add(e.times(x_row, r), e.times(x_step, columns[0])))
                source = e.behind([total for row in sums for total in row], source)
                for column in columns:
                    if column > columns[0]:  # step by step: there are too few registers for a distance of each column
                        source = e.hidden(e.at(source, x_step))
                    value = e.load(source)
                    for row, kernel_row in ((0, r), (1, r - 1)):
                        for t in taps if kernel_row in taps else ():
                            if 0 <= column - t < points:
                                e.accumulate(sums[row][column - t], value, weights[kernel_row][t])
                e.keep_order()
        for row in range(2):
            place = e.at(e.at(out, e.times(out_row, row)), channel)
            for i, total in enumerate(sums[row]):
                e.store(e.value(total), e.at(place, e.times(out_step, i)))


@intrinsic
def row_tile(
    typingctx, points, taps, first, end, table, rows, vectors, x_offset, x_step, w, w_tap, w_panel, start,
    out, out_step, asks, soon,
):  # fmt: skip
    """As `line_tile` for `vectors`, where each tap of a point reads what the tap before it of the next point reads.

    All taps of a row at a time: its weights stay in registers, and each position serves up to as many points.

    points : `FEWEST_POINTS` to `LINE_POINTS`, or another of `ROW_POINTS`
    taps : of every row, one of `ROW_TAPS`
    first, end : the first of the ``points + taps - 1`` columns that lies inside the source, and one beyond the last
    asks, soon : 1 to ask for what as many points after these write, and read from `soon` on in a row; or 0
    """

    def emit(e, points, taps, *rest):
        every = (*ROW_POINTS[:-1], *range(LINE_POINTS, FEWEST_POINTS - 1, -1))
        e.choose(taps, ROW_TAPS, lambda taps: e.choose(points, every, lambda points: _row(e, points, taps, *rest)))

    return emitted(
        emit, w, points, taps, first, end, table, rows, vectors, x_offset, x_step, w, w_tap, w_panel, start, out,
        out_step, asks, soon,
    )  # fmt: skip


def _row(
    e: Emitter, points: int, taps: int, first: Any, end: Any, table: Any, rows: Any, vectors: Any, x_offset: Any,
    x_step: Any, w: Any, w_tap: Any, w_panel: Any, start: Any, out: Any, out_step: Any, asks: Any, soon: Any,
) -> None:  # fmt: skip
    """Emit the tile for some points and taps."""
    builder = e.builder
    with _each_vector(e, vectors, w, w_panel) as (channel, weight):
        ask_for_next(e, points, asks, [e.at(soon, channel)], points, x_step, [e.at(out, channel)], out_step)
        begin = e.load(e.at(start, channel))
        sums = [e.variable(begin) for _ in range(points)]
        with e.loop(rows) as row:
            entry = e.times(row, 2)
            x = e.at(e.slot(table, entry, e.pointer), builder.add(x_offset, channel))
            place = e.at(weight, e.slot(table, builder.add(entry, e.i64(1))))
            weights = [e.load(e.at(place, e.times(w_tap, t))) for t in range(taps)]

            def add_column(column, x=x, weights=weights):
                value = e.load(e.at(x, e.times(x_step, column)))
                for t in range(max(0, column - points + 1), min(taps, column + 1)):
                    e.accumulate(sums[column - t], value, weights[t])

            e.each(first, end, points + taps - 1, add_column)
        place = e.at(out, channel)
        for i, total in enumerate(sums):
            e.store(e.value(total), e.at(place, e.times(out_step, i)))


@contextlib.contextmanager
def _each_vector(e: Emitter, vectors: Any, w: Any, w_panel: Any) -> Iterator[tuple[Any, Any]]:
    """Loop over the vectors of some panels; yields how far on its channels are, and its weights."""
    builder = e.builder
    with e.loop(vectors) as vector:
        panel, number = builder.udiv(vector, e.i64(LINE_VECTORS)), builder.urem(vector, e.i64(LINE_VECTORS))
        weight = e.at(e.at(w, builder.mul(panel, w_panel)), e.times(number, e.lanes))
        yield e.times(vector, e.lanes), weight
