"""The outer-product tile of small groups: a vector of input channels, four output channels, three taps at once.

    out[t][c][i] += sum over positions p of  x[t][p][i] * y[p][c]            t < taps, c < 4, i < lanes of a vector

A group of eight channels is one vector, and a tile of six rows and two vectors would need a broadcast for every
multiply-add. But neighbouring taps multiply the same output gradients: three of them share each broadcast, so that
seven loads serve twelve multiply-adds. Twelve sums, three vectors of x and a broadcast are the 16 registers of AVX2.

Where there are 32, eight output channels go through at once. And if a vector holds the channels of a *pair* of groups,
these take turns in its lanes, and each is multiplied by one of a pair of output gradients side by side.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from ._target import target
from .emitter import Emitter, emitted

GROUP_ROWS = 4  # output channels of a tile, at least
GROUP_TAPS = 3  # taps of a tile, at most
# Output channels of a tile: twice as many where there are registers for their sums.
ROWS = (2 * GROUP_ROWS, GROUP_ROWS) if target().registers >= 32 else (GROUP_ROWS,)


def pairs_fit(lanes: int) -> bool:
    """Whether there are tiles of pairs of groups whose input channels are half the lanes of a vector."""
    return len(ROWS) > 1 and lanes // 2 >= GROUP_ROWS


@intrinsic
def group_outer_tile(typingctx, rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row):
    """Add ``x[t][p][i] * y[p][c]`` over `count` positions to a tile of `out`.

    rows : of `ROWS`
    taps : number of taps, 1 to `GROUP_TAPS`
    pointers : slots with one pointer to an x row per position; those of the next tap `step` slots further on
    x_offset : elements added to every such pointer
    y, y_stride : the first of those output channels; elements between positions
    out, out_tap, out_row : the sums; elements between those of taps and of output channels
    """

    def emit(e, *rest):
        _choose(e, 1, *rest)

    return emitted(emit, y, rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row)


@intrinsic
def pair_outer_tile(typingctx, rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row):
    """As `group_outer_tile` for two groups at once, where `pairs_fit`; half of each vector of x and `out` is of either.

    y : output channels of both groups in turn
    """

    def emit(e, *rest):
        if pairs_fit(e.lanes):
            _choose(e, 2, *rest)

    return emitted(emit, y, rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row)


def _choose(e: Emitter, pair: int, rows: Any, taps: Any, *rest: Any) -> None:
    """Emit the tiles for each number of output channels and of taps."""
    for_taps = tuple(range(GROUP_TAPS, 0, -1))
    e.choose(rows, ROWS, lambda rows: e.choose(taps, for_taps, lambda taps: _outer(e, pair, rows, taps, *rest)))


def _outer(
    e: Emitter, pair: int, rows: int, taps: int, pointers: Any, step: Any, count: Any, x_offset: Any, y: Any,
    y_stride: Any, out: Any, out_tap: Any, out_row: Any,
) -> None:  # fmt: skip
    """Emit the tile for a number of output channels and of taps."""
    builder = e.builder
    tables = [e.at(pointers, builder.mul(step, e.i64(t))) for t in range(taps)]
    places = []
    for t in range(taps):
        for c in range(rows):
            row = builder.mul(out_row, e.i64(c))
            places.append(e.at(out, builder.add(builder.mul(out_tap, e.i64(t)), row)))

    def position(p, sums):
        x = [e.in_turn(e.load(e.at(e.slot(table, p, e.pointer), x_offset)), pair) for table in tables]
        y_row = e.at(y, builder.mul(p, y_stride))
        new = list(sums)
        for c in range(rows):
            gradient = e.broadcast(e.at(y_row, pair * c), pair)
            for t in range(taps):
                new[t * rows + c] = gradient.fma(x[t], sums[t * rows + c])
        return new

    sums = e.carry(count, [e.in_turn(e.load(place), pair) for place in places], position)
    for total, place in zip(sums, places, strict=True):
        e.store(e.in_turn(total, e.lanes // pair), place)
