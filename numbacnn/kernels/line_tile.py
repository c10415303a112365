"""Register tiles of depthwise convolution straight from channels-last memory, whose positions lie any distance apart.

A cache line of channels, two vectors, is computed together: where memory is not aligned, half of the loads of a single
vector would take twice as long. One multiply-add per loaded position. Fourteen sums and the weights of a tap are just
the 16 registers of AVX2, and rows of 7, 14, 28 and 56 points are whole tiles.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from ._target import target
from .emitter import Emitter, emitted

LINE_VECTORS = 2
LINE_POINTS = 7
FEWEST_POINTS = 4  # of `line_tile`
# Kernel rows and taps of a tile of the weight gradient, taps of the tile of a single row ...
WEIGHT_ROWS, WEIGHT_TAPS, ALONE_TAPS = 3, 3, 5
# ... and vectors whose sums are in registers together, up to so many: positions are read in longer pieces.
WEIGHT_SUMS, WEIGHT_VECTORS = 20 if target().wide else 10, 4


@intrinsic
def line_tile(
    typingctx, points, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start,
    out, out_step, asks, soon, soon_row, soon_step,
):  # fmt: skip
    """Neighbouring points of panels of `LINE_VECTORS` vectors of channels.

    points : `FEWEST_POINTS` to `LINE_POINTS`
    table, rows : per row under the kernel a pointer to it and an offset (in elements) into the weights
    taps : of every row
    panels : how many; they lie side by side
    x_offset, x_step, x_tap : elements from a row's pointer to what the first tap of the first point reads, from each
        point to the next, from each tap to the next
    w, w_tap, w_panel : weights, elements from those of a tap to those of the next, from each panel's to the next's
    start : what every sum begins with
    out, out_step : first point of the destination, elements between points
    asks, soon : 0, or how many positions per point to ask for, from `soon` on: as many points after these read them;
        and to ask for what those write
    soon_row, soon_step : elements between the two rows of these positions, between them
    """

    def emit(e, points, *rest):
        builder = e.builder
        x_step, out, out_step, asks, soon, soon_row, soon_step = rest[5], *rest[11:]

        def tile(points):
            def add_tap(sums, x, weights, tap):
                for i in range(points):
                    _add_point(e, sums[i], e.at(x, e.times(x_step, i)), weights)

            def put(sums, column):
                for i in range(points):
                    _put_point(e, sums[i], e.at(e.at(out, column), e.times(out_step, i)))

            def ask(column):
                reads = [e.at(soon, builder.add(column, e.times(soon_row, row))) for row in range(2)]
                ask_for_next(e, points, asks, reads, e.times(asks, points), soon_step, [e.at(out, column)], out_step)

            _panels(e, points, *rest[:11], add_tap, put, ask)

        e.choose(points, tuple(range(LINE_POINTS, FEWEST_POINTS - 1, -1)), tile)

    return emitted(
        emit, w, points, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out, out_step,
        asks, soon, soon_row, soon_step,
    )  # fmt: skip


@intrinsic
def clipped_line_tile(
    typingctx, points, inside, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel,
    start, out, out_step,
):  # fmt: skip
    """As `line_tile`, where some points read nothing with some taps: the borders of a source padded with zeros.

    points : 1 to `LINE_POINTS`
    inside : per tap the first point that reads with it, and one beyond the last
    """

    def emit(e, points, inside, *rest):
        builder = e.builder
        x_step, out, out_step = rest[5], rest[11], rest[12]

        def tile(most):
            def add_tap(sums, x, weights, tap):
                first, end = (e.slot(inside, builder.add(e.times(tap, 2), e.i64(k))) for k in range(2))
                whole = builder.icmp_signed("==", builder.sub(end, first), e.i64(most))

                def add(i):
                    _add_point(e, sums[i], e.at(x, e.times(x_step, i)), weights)

                with builder.if_else(whole) as (all_of_them, some):
                    with all_of_them:
                        for i in range(most):
                            add(i)
                    with some:
                        e.each(first, end, most, add)

            def put(sums, column):
                place = e.at(out, column)
                e.each(e.i64(0), points, most, lambda i: _put_point(e, sums[i], e.at(place, e.times(out_step, i))))

            _panels(e, most, *rest[:11], add_tap, put)

        e.choose(points, tuple(range(LINE_POINTS, FEWEST_POINTS - 1, -1)), tile)

    return emitted(
        emit, w, points, inside, table, rows, taps, panels, x_offset, x_step, x_tap, w, w_tap, w_panel, start, out,
        out_step,
    )  # fmt: skip


def ask_for_next(
    e: Emitter, points: int, asks: Any, reads: list[Any], positions: Any, step: Any, writes: list[Any], out_step: Any
) -> None:  # fmt: skip
    """Emit prefetches of what as many points after a tile's read and write, unless `asks` is 0.

    reads, positions, step : in each row the first position that only they read, how many, elements between them
    writes, out_step : in each row the tile's first point, elements between points
    """
    with e.builder.if_then(e.builder.icmp_signed(">", asks, e.i64(0))):
        for place in reads:
            e.prefetch_each(positions, place, step)
        for place in writes:
            e.prefetch_each(points, e.at(place, e.times(out_step, points)), out_step, write=True)


def _panels(
    e: Emitter, points: int, table: Any, rows: Any, taps: Any, panels: Any, x_offset: Any, x_step: Any, x_tap: Any,
    w: Any, w_tap: Any, w_panel: Any, start: Any, add_tap: Any, put: Any, before: Any = None,
) -> None:  # fmt: skip
    """Emit the loops over panels, rows and taps around ``add_tap(sums, x, weights, tap)`` and ``put(sums, column)``.

    ``before(column)``, if given, comes before a panel.
    """
    builder, vectors = e.builder, range(LINE_VECTORS)
    with e.loop(panels) as panel:
        column = e.times(panel, LINE_VECTORS * e.lanes)
        if before is not None:
            before(column)
        first = [e.load(e.at(start, column), v) for v in vectors]
        sums = [[e.variable(value) for value in first] for _ in range(points)]
        x_panel = builder.add(x_offset, column)
        w_here = e.at(w, builder.mul(panel, w_panel))
        with e.loop(rows) as row:
            entry = e.times(row, 2)
            x_row = e.at(e.slot(table, entry, e.pointer), x_panel)
            w_row = e.at(w_here, e.slot(table, builder.add(entry, e.i64(1))))
            with e.loop(taps) as tap:
                place = e.at(w_row, builder.mul(tap, w_tap))
                weights = [e.load(place, v) for v in vectors]
                add_tap(sums, e.at(x_row, builder.mul(tap, x_tap)), weights, tap)
        put(sums, column)


def _add_point(e: Emitter, sums: list[Any], x: Any, weights: list[Any]) -> None:
    for v, total in enumerate(sums):
        e.accumulate(total, e.load(x, v), weights[v])


def _put_point(e: Emitter, sums: list[Any], out: Any) -> None:
    for v, total in enumerate(sums):
        e.store(e.value(total), out, v)


@intrinsic
def line_weight_tile(
    typingctx, rows, taps, table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
):  # fmt: skip
    """Add to the weight gradient's `sums` what some points of one row contribute.

    rows, taps : kernel rows and taps of each, 1 to 3; up to `ALONE_TAPS` of a single row
    table : per kernel row a pointer to the source row and an offset (in elements) into the sums
    points, vectors : how many points, and vectors of channels side by side
    x_offset, x_step, x_tap : elements from a row's pointer to what the first tap of the first point reads, from each
        point to the next, from each tap to the next
    y, y_step : gradient of the first point, elements from each point to the next
    sums, sums_offset, sums_vector : the sums, elements to add for the first tap, and from each vector's to the next's
    """

    def emit(e, rows, taps, *rest):
        def row_tile(rows):
            most = ALONE_TAPS if rows == 1 else WEIGHT_TAPS
            e.choose(taps, tuple(range(most, 0, -1)), lambda taps: _line_weight_tile(e, rows, taps, *rest))

        e.choose(rows, tuple(range(WEIGHT_ROWS, 0, -1)), row_tile)

    return emitted(
        emit, y, rows, taps, table, points, vectors, x_offset, x_step, x_tap, y, y_step, sums, sums_offset, sums_vector
    )  # fmt: skip


def _line_weight_tile(
    e: Emitter, rows: int, taps: int, table: Any, points: Any, vectors: Any, x_offset: Any, x_step: Any, x_tap: Any,
    y: Any, y_step: Any, sums: Any, sums_offset: Any, sums_vector: Any,
) -> None:  # fmt: skip
    """Emit the weight gradient's tile for some kernel rows and taps."""
    builder = e.builder
    x_rows = [e.at(e.slot(table, 2 * r, e.pointer), x_offset) for r in range(rows)]
    sums_rows = [e.at(sums, builder.add(e.slot(table, 2 * r + 1), sums_offset)) for r in range(rows)]

    def add(first: Any, wide: int) -> None:
        """What some vectors side by side contribute."""
        column = e.times(first, e.lanes)
        numbers = [builder.add(first, e.i64(v)) for v in range(wide)]
        vectors = [[e.at(row, builder.mul(number, sums_vector)) for row in sums_rows] for number in numbers]
        totals = [[[e.variable(e.load(place, t)) for t in range(taps)] for place in places] for places in vectors]
        x, gradient = [e.at(row, column) for row in x_rows], e.at(y, column)
        with e.loop(points) as point:
            here = e.at(gradient, builder.mul(point, y_step))
            factors = [e.load(here, v) for v in range(wide)]
            shift = builder.mul(point, x_step)
            for r in range(rows):
                here = e.at(x[r], shift)
                for t in range(taps):
                    for v in range(wide):
                        e.accumulate(totals[v][r][t], e.load(e.at(here, e.times(x_tap, t)), v), factors[v])
        for v in range(wide):
            for r in range(rows):
                for t in range(taps):
                    e.store(e.value(totals[v][r][t]), vectors[v][r], t)

    wide = min(WEIGHT_SUMS // (rows * taps), WEIGHT_VECTORS)
    groups = builder.udiv(vectors, e.i64(wide)) if wide > 1 else e.i64(0)
    with e.loop(groups) as group:
        add(e.times(group, wide), wide)
    done = e.times(groups, wide)
    with e.loop(builder.sub(vectors, done)) as v:
        add(builder.add(done, v), 1)
