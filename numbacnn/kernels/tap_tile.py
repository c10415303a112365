"""The outer-product tile of neighbouring positions: taps share the gradients, output channels what the taps read.

    out[t][c][j] += sum over positions p of  x[p + offsets[t]][j] * y[p][c]        t < taps, c < rows, j < a vector

Where output channels are few, they are no vectors, and input channels are: a tile is some output channels times as many
taps as there are registers for. With two dozen sums, eight of one and three of the other, eleven loads serve 24
multiply-adds.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from ._target import target
from .emitter import Emitter, emitted
from .tile_steps import load_rows, store_rows

# Sums of a tile: beside them there must be room for the fewer of its two factors, and one of the others.
MOST_SUMS = 24 if target().registers >= 32 else 12
MOST_ROWS = 8 if target().registers >= 32 else 4
MOST_TAPS = 9
ROWS = tuple(range(MOST_ROWS, 0, -1))


def most_taps(rows: int) -> int:
    """Taps of a tile of `rows` output channels, at most."""
    return min(MOST_TAPS, MOST_SUMS // rows)


@intrinsic
def tap_outer_tile(
    typingctx, rows, taps, x, x_line, x_step, offsets, y, y_line, y_step, lines, columns, out, out_tap, out_row
):  # fmt: skip
    """Add what some lines of positions contribute to a tile of `out`.

    rows, taps : of `ROWS`; 1 to `most_taps` of these
    x, x_line, x_step : what offsets of the first position begin at; elements between lines, and between positions
    offsets : where each tap finds its vector
    y, y_line, y_step : the first of those output channels; elements likewise
    lines, columns : positions
    out, out_tap, out_row : the sums; elements between those of taps and of output channels
    """

    def emit(e, rows, taps, *rest):
        def tiles(rows):
            e.choose(taps, tuple(range(most_taps(rows), 0, -1)), lambda taps: _outer(e, rows, taps, *rest))

        e.choose(rows, ROWS, tiles)

    return emitted(
        emit, y, rows, taps, x, x_line, x_step, offsets, y, y_line, y_step, lines, columns, out, out_tap, out_row
    )  # fmt: skip


def _outer(
    e: Emitter, rows: int, taps: int, x: Any, x_line: Any, x_step: Any, offsets: Any, y: Any, y_line: Any, y_step: Any,
    lines: Any, columns: Any, out: Any, out_tap: Any, out_row: Any,
) -> None:  # fmt: skip
    """Emit the tile for a number of output channels and of taps."""
    builder = e.builder
    pairs = [(t, c) for t in range(taps) for c in range(rows)]
    if rows > taps:  # the fewer ones stay in registers
        pairs.sort(key=lambda pair: pair[1])
    tap_sums = [e.at(out, builder.mul(out_tap, e.i64(t))) for t in range(taps)]
    places = [e.at(tap_sums[t], builder.mul(out_row, e.i64(c))) for t, c in pairs]
    first = [e.at(x, e.slot(offsets, t)) for t in range(taps)]

    def line(i, sums):
        x_places = [e.at(place, builder.mul(i, x_line)) for place in first]
        y_place = e.at(y, builder.mul(i, y_line))

        def position(j, sums):
            y_row = e.at(y_place, builder.mul(j, y_step))
            at = builder.mul(j, x_step)
            left = [e.load(e.at(place, at)) for place in x_places]
            right = [e.broadcast(e.at(y_row, c)) for c in range(rows)]
            return [left[t].fma(right[c], total) for (t, c), total in zip(pairs, sums, strict=True)]

        return e.carry(columns, sums, position)

    store_rows(e, e.carry(lines, load_rows(e, places, 1), line), places)
