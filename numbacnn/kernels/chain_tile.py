"""A register tile of neighbouring positions whose windows overlap: each element is loaded once for several of them.

    out[i][j] = bias[j] + sum over chains c, links t of  x[offsets[c] + (i + t) * step] * w[c][t][j]

Where a vector holds all columns, a tile of rows at any places would need a load for every multiply-add. But what
position i multiplies by a weight, the position before it multiplies by another one: by that of the product whose
element lies `step` further on, where `step` is the distance of positions. Up to three such products are a *chain*, and
14 positions load 16 elements and three weights for their 42 multiply-adds.

Columns that fill half a vector at most have two lanes each, for pairs of products whose elements lie side by side: even
lanes sum up the first of each, odd lanes the second.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from .emitter import Emitter, emitted
from .pointer import offset
from .strip_tile import GROUP_TILES
from .tile_steps import load_rows, store_rows
from .value import Value

LINKS = (3, 2, 1)  # products of a chain: with more, their weights have no registers beside 12 sums
LEAST_POINTS = min(GROUP_TILES)
REACHED = 4  # positions by one pointer: multiples of `step` that registers hold


def _tile(side_by_side: int) -> Any:
    """The tile for single elements or pairs; its arguments: see `chain_gemm`."""

    def tile(typingctx, points, x, step, offsets, counts, w, bias, out, out_stride, lanes):
        def emit(e, points, *rest):
            e.choose(points, GROUP_TILES, lambda points: _points(e, side_by_side, points, *rest))

        return emitted(emit, w, points, x, step, offsets, counts, w, bias, out, out_stride, lanes)

    return intrinsic(tile)


def _points(
    e: Emitter, side_by_side: int, points: int, x: Any, step: Any, offsets: Any, counts: Any, w: Any, bias: Any,
    out: Any, out_stride: Any, lanes: Any,
) -> None:  # fmt: skip
    """Emit the tile of some points."""
    builder = e.builder
    sums = load_rows(e, [bias], 1) * points
    for kind, links in enumerate((*LINKS, 1)[: len(LINKS) + side_by_side - 1]):
        single = kind == len(LINKS)

        def chain(k, sums, links=links, single=single, offsets=offsets, w=w):
            first = e.at(x, e.slot(offsets, k))
            weights = [e.load(e.at(w, e.times(k, links * e.lanes)), t) for t in range(links)]
            return _add_chain(e, sums, weights, first, step, 1 if single else side_by_side, single)

        count = e.slot(counts, kind)
        sums = e.carry(count, sums, chain)
        offsets, w = e.at(offsets, count), e.at(w, e.times(count, links * e.lanes))
    if side_by_side > 1:
        sums = [e.sum_of_halves(e.in_turn(total, e.lanes // 2)) for total in sums]
    store_rows(e, sums, [e.at(out, builder.mul(out_stride, e.i64(i))) for i in range(points)], lanes)


def _add_chain(
    e: Emitter, sums: list[Value], weights: list[Value], first: Any, step: Any, side_by_side: int, single: bool
) -> list[Value]:
    """Emit what a chain adds to the points' sums: position after position, each for all that multiply it.

    A `single` element is for the even lanes alone, and 0 for the others.
    """
    even = Value(e.builder, e.ir.Constant(e.ir.VectorType(e.ir.IntType(1), e.lanes), [1, 0] * (e.lanes // 2)))
    sums, place = list(sums), e.hidden(first)
    for j in range(len(sums) + len(weights) - 1):
        if j > 0 and j % REACHED == 0:
            place = e.at(place, e.times(step, REACHED))
        value = e.broadcast(e.at(place, e.times(step, j % REACHED)), side_by_side)
        if single:
            value = even.choose(value, 0.0)
        for t, weight in enumerate(weights):
            if 0 <= j - t < len(sums):
                sums[j - t] = value.fma(weight, sums[j - t])
    return sums


_single_tile, _pair_tile = _tile(1), _tile(2)


@device
def _next_points(left, points):
    """Points of the next tile when `left` of `points` are left, so that tiles cost little, fit, and go no further."""
    if GROUP_TILES[0] == 14 and (left % 14 == 0 or left > 36):
        return 14
    if left > 12:
        return 12 if left > 20 else 10 if left > 16 else 8 if left > 14 else 7
    tile = 7 if left <= 7 else 8 if left <= 8 else 10 if left <= 10 else 12
    return tile if tile <= points else 7


@device
def chain_gemm(paired, points, x, step, offsets, counts, w, bias, out, out_stride, lanes):
    """The tile for as many neighbouring points as there are, at least `LEAST_POINTS`; some may be computed twice.

    paired : whether columns have two lanes
    points : how many
    x, step : what the first point's products are offset from; elements between points
    offsets, counts : the first element of each chain; how many chains have each of `LINKS`, and, where lanes are
        paired, how many single products follow them
    w : packed weights, a vector for each link
    bias : a padded row of initial values, where lanes are paired in the even ones
    out, out_stride : the first point's results; elements between points
    lanes : number of columns that exist
    """
    done = 0
    while done < points:
        tile = _next_points(points - done, points)
        first = max(0, min(done, points - tile))  # the last tile laps over the one before: the same values once more
        if paired:
            _pair_tile(
                tile, offset(x, first * step), step, offsets, counts, w, bias, offset(out, first * out_stride),
                out_stride, lanes,
            )  # fmt: skip
        else:
            _single_tile(
                tile, offset(x, first * step), step, offsets, counts, w, bias, offset(out, first * out_stride),
                out_stride, lanes,
            )  # fmt: skip
        done = first + tile
