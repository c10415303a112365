"""The outer-product tile of chains: neighbouring taps along W share the elements that they read.

    out[places[r] + t * out_tap][j] += sum over points p of  x[r][(p + t) * x_step] * y[p][j]      r < rows, t < links

With one vector of output channels, a tile of rows alone needs a load for every multiply-add. But the element that a tap
multiplies by the gradient of a point, the tap before it multiplies by that of the next point: up to three such taps are
a *chain*, and eleven loads serve 24 multiply-adds. What reads beyond the ends of a line is left out.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from .emitter import Emitter, emitted

MOST_ROWS, MOST_LINKS = 8, 3  # with their sums, three gradients and an element: 28 registers
ROWS, LINKS = tuple(range(MOST_ROWS, 0, -1)), tuple(range(MOST_LINKS, 0, -1))


@intrinsic
def chain_weight_tile(
    typingctx, rows, links, table, table_line, x_offset, x_step, y, lines, points, begin, end, places, out, out_tap,
    soon, soon_step,
):  # fmt: skip
    """Add what some lines of points contribute to a tile of `out`.

    rows, links : 1 to `MOST_ROWS`, 1 to `MOST_LINKS`
    table, table_line : slots with a pointer for each row, and from those of a line to those of the next
    x_offset, x_step : elements added to every such pointer; between those that successive points read
    y : a vector of gradients for every point, one after the other, of one line after the other
    lines, points : how many; points of a line, at least `MOST_LINKS`
    begin, end : the elements of a line that exist, among the ``points + links - 1`` that are read
    places : where in `out` each row has its sums
    out, out_tap : the sums; elements from those of a tap to those of the next one
    soon, soon_step : what is asked for meanwhile, at each point a line; elements from one to the next
    """

    def emit(e, rows, links, *rest):
        e.choose(links, LINKS, lambda links: e.choose(rows, ROWS, lambda rows: _chains(e, rows, links, *rest)))

    return emitted(
        emit, y, rows, links, table, table_line, x_offset, x_step, y, lines, points, begin, end, places, out, out_tap,
        soon, soon_step,
    )  # fmt: skip


def _chains(
    e: Emitter, rows: int, links: int, table: Any, table_line: Any, x_offset: Any, x_step: Any, y: Any, lines: Any,
    points: Any, begin: Any, end: Any, places: Any, out: Any, out_tap: Any, soon: Any, soon_step: Any,
) -> None:  # fmt: skip
    """Emit the tile for a number of rows and of links."""
    builder = e.builder
    first = [e.at(out, e.slot(places, r)) for r in range(rows)]
    tap_places = [[e.at(place, builder.mul(out_tap, e.i64(t))) for t in range(links)] for place in first]
    sums = [[e.variable(e.load(place)) for place in row] for row in tap_places]
    whole = e.i64(links - 1)  # the first element that all links read
    whole_begin, whole_end = _larger(e, begin, whole), _smaller(e, end, points)
    with e.loop(lines) as line:
        here = e.at(table, builder.mul(line, table_line))
        x = [e.hidden(e.at(e.slot(here, r, e.pointer), x_offset)) for r in range(rows)]
        done = builder.mul(line, points)
        y_row, soon_row = e.at(y, e.times(done, e.lanes)), e.at(soon, builder.mul(done, soon_step))

        def element(i: Any, taps: range) -> None:
            """What the elements number `i` contribute to some links."""
            gradients = {t: e.load(e.at(y_row, e.times(builder.sub(i, e.i64(t)), e.lanes))) for t in taps}
            at = builder.mul(i, x_step)
            for r in range(rows):
                value = e.broadcast(e.at(x[r], at))
                for t, gradient in gradients.items():
                    e.accumulate(sums[r][t], value, gradient)

        if links > 1:
            e.each(begin, _smaller(e, end, whole), links - 1, lambda i: element(e.i64(i), range(i + 1)))
        with e.loop(builder.sub(whole_end, whole_begin)) as i:
            e.prefetch(e.at(soon_row, builder.mul(i, soon_step)))
            element(builder.add(whole_begin, i), range(links))
        if links > 1:
            after, last = (builder.sub(i, points) for i in (_larger(e, begin, points), end))
            e.each(after, last, links - 1, lambda i: element(builder.add(points, e.i64(i)), range(i + 1, links)))
    for row, values in zip(tap_places, sums, strict=True):
        for place, value in zip(row, values, strict=True):
            e.store(e.value(value), place)


def _smaller(e: Emitter, a: Any, b: Any) -> Any:
    return e.builder.select(e.builder.icmp_signed("<", a, b), a, b)


def _larger(e: Emitter, a: Any, b: Any) -> Any:
    return e.builder.select(e.builder.icmp_signed("<", a, b), b, a)
