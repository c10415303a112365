"""A register tile of neighbouring positions with one to three channels each: vectors along the source's channels.

    out[i][c] = start[c] + sum over lines, taps t, source channels k of  x[line][i + t][k] * w[line][t][c][k]

Every sum has a vector of its own, whose lanes are added up at the end. Neighbouring positions share what they read: a
vector of the source is loaded once for up to three taps, so seven positions load nine vectors and three of weights for
their 21 multiply-adds.
"""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from ._target import target
from .chain_tile import LINKS, REACHED
from .emitter import Emitter, emitted
from .value import Value

MOST_CHANNELS = 3


def _sizes(most: int) -> tuple[int, ...]:
    """Points that tiles may have: the most, and half of that, rounded up, down to one."""
    return (most,) if most == 1 else (most, *_sizes((most + 1) // 2))


# Points of the largest tile, by channels: sums enough to hide what a multiply-add takes, or all that registers hold.
MOST_POINTS = (0, 14, 7, 7) if target().registers >= 32 else (0, 12, 6, 4)
POINTS = {channels: _sizes(MOST_POINTS[channels]) for channels in range(1, MOST_CHANNELS + 1)}


@intrinsic
def lane_sums(typingctx, channels, points, lines, count, x, step, at, spread, size, depth, taps, w, start, out):
    """The tile for one of `POINTS` of its channels; ``out[i * channels + c]`` is written, and whole vectors.

    lines, count : pairs of slots: where in the source each line begins from `x` on, and its weights of a channel
    x, step : what the first point's first tap reads of a line at 0; elements from there to the next point's, or tap's
    at, spread, size : the coordinate of `x`, that of the next; those below 0 and from `size` on are padding by zeros
    depth : source channels
    taps : of a line
    w : weights, for each line a vector of each tap of each channel, for the first source channels, then the next
    start : a vector for each channel that its sums begin with
    """

    def emit(e, channels, points, *rest):
        def of(kind):
            e.choose(points, POINTS[kind], lambda points: _sums(e, kind, points, *rest))

        e.choose(channels, tuple(POINTS), of)

    return emitted(
        emit, w, channels, points, lines, count, x, step, at, spread, size, depth, taps, w, start, out
    )  # fmt: skip


def _sums(
    e: Emitter, channels: int, points: int, lines: Any, count: Any, x: Any, step: Any, at: Any, spread: Any, size: Any,
    depth: Any, taps: Any, w: Any, start: Any, out: Any,
) -> None:  # fmt: skip
    """Emit the tile of some channels and points."""
    builder, most = e.builder, LINKS[0]
    threes = builder.sdiv(taps, e.i64(most))
    first_left = e.times(threes, most)
    left = builder.sub(taps, first_left)
    reach = builder.mul(spread, builder.add(taps, e.i64(points - 2)))
    inside = builder.and_(
        builder.icmp_signed(">=", at, e.i64(0)), builder.icmp_signed("<", builder.add(at, reach), size)
    )

    def line(k, sums):
        place = e.times(k, 2)
        row = e.at(x, e.slot(lines, place))
        weights = e.at(w, e.times(e.slot(lines, builder.add(place, e.i64(1))), channels))

        def vector(b, sums):
            first = e.times(b, e.lanes)
            here, lanes = e.at(row, first), builder.sub(depth, first)
            right = e.at(weights, builder.mul(first, e.times(taps, channels)))

            def chains(sums, lanes):
                def chain(links, tap, sums):
                    columns = e.at(here, builder.mul(tap, step)), builder.add(at, builder.mul(tap, spread))
                    place = e.at(right, e.times(tap, channels * e.lanes))
                    return _chain(e, channels, links, columns, step, spread, size, place, sums, lanes)

                sums = e.carry(threes, sums, lambda k, sums: chain(most, e.times(k, most), sums))
                sums = e.carry(builder.lshr(left, e.i64(1)), sums, lambda k, sums: chain(2, first_left, sums))
                return e.carry(builder.and_(left, e.i64(1)), sums, lambda k, sums: chain(1, first_left, sums))

            whole = builder.and_(inside, builder.icmp_signed(">=", lanes, e.i64(e.lanes)))
            return e.either(whole, lambda: chains(sums, None), lambda: chains(sums, e.mask(lanes)))

        vectors = builder.sdiv(builder.add(depth, e.i64(e.lanes - 1)), e.i64(e.lanes))
        return e.carry(vectors, sums, vector)

    starts = [e.load(start, c) for c in range(channels)]
    sums = e.carry(count, starts * points, line)
    for i, total in enumerate(_totals(e, sums)):
        e.store(total, out, i)


def _chain(
    e: Emitter, channels: int, links: int, columns: tuple[Any, Any], step: Any, spread: Any, size: Any, w: Any,
    sums: list[Value], lanes: Any,
) -> list[Value]:  # fmt: skip
    """Emit the products of some taps that follow on each other, all of a vector if `lanes` is None.

    `columns` are where the first tap's vector of the first point lies, and its coordinate. What the next tile reads is
    asked for.
    """
    builder, points = e.builder, len(sums) // channels
    first, at = columns
    ahead = e.times(step, points)
    masks: list[Any] = [None] * (points + links - 1)
    if lanes is not None:  # as bits of an integer: LLVM would branch to select vectors
        bits = e.ir.IntType(e.lanes)
        all_bits = builder.bitcast(lanes, bits)
        for j in range(len(masks)):
            exists = builder.icmp_unsigned("<", builder.add(at, e.times(spread, j)), size)
            masks[j] = builder.bitcast(builder.and_(all_bits, builder.sext(exists, bits)), lanes.type)
    sums = list(sums)
    for c in range(channels):
        weights = [e.load(w, t * channels + c) for t in range(links)]
        place = e.hidden(first)
        for j, mask in enumerate(masks):
            if j > 0 and j % REACHED == 0:
                place = e.at(place, e.times(step, REACHED))
            here = e.at(place, e.times(step, j % REACHED))
            if c == 0 and j >= links - 1:
                e.prefetch(e.at(here, ahead))
            value = e.load(here, mask=mask)
            for t, weight in enumerate(weights):
                if 0 <= j - t < points:
                    number = (j - t) * channels + c
                    sums[number] = value.fma(weight, sums[number])
        e.keep_order()
    return sums


def _totals(e: Emitter, sums: list[Value]) -> list[Value]:
    """Vectors whose lanes are the sums of all lanes of each of `sums`, in order.

    Lanes are added to their neighbours, sums of neighbours to those beside them, and so on, whatever there is beside.
    """
    sums = sums + [e.zero] * (-len(sums) % e.lanes)
    unit = 1
    while unit < e.lanes:
        sums = [_neighbours(e, *sums[i : i + 2], unit) for i in range(0, len(sums), 2)]
        unit *= 2
    return sums


def _neighbours(e: Emitter, a: Value, b: Value, unit: int) -> Value:
    """Every `unit` lanes added to the next: of `a` and of `b` in turn."""
    order = [
        source + first + i for first in range(0, e.lanes, 2 * unit) for source in (0, e.lanes) for i in range(unit)
    ]
    halves = []
    for shift in (0, unit):
        mask = e.ir.Constant(e.ir.VectorType(e.i32, e.lanes), [e.i32(place + shift) for place in order])
        halves.append(Value(e.builder, e.builder.shuffle_vector(a.llvm, b.llvm, mask)))
    return halves[0] + halves[1]


@device
def next_points(channels, left, points):
    """Points of the next tile when `left` of `points` are left: the fewest that take all, if any, and exist."""
    size = MOST_POINTS[channels]
    while size > points or (size > 1 and (size + 1) // 2 >= left):
        size = (size + 1) // 2
    return size
