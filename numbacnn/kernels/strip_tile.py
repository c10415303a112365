"""Register tiles of depthwise convolution over *strips*: positions of one vector of channels, side by side.

All distances are constants of the machine, so addresses cost no instruction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._build import inlined, intrinsic
from ._target import LINE_BYTES, target
from .emitter import Emitter, emitted
from .value import Value

# Taps of a `weight_tile`; for 1 to so many of them, neighbouring points that have sums of their own. With as many
# gradients and a position, they fill 16 or 32 registers at most.
WEIGHT_TAPS, POINT_SETS = (8, (8, 6, 4, 4, 4, 3, 3, 3)) if target().registers >= 32 else (6, (6, 4, 3, 3, 2, 2))
SELECTED = 4  # channels that the lanes of a vector may read: groups of three outputs and more on eight lanes
FEW_POINTS = 8  # as many positions stay in registers beside their sums
LONGEST_RUN = 3  # taps: with 12 accumulators, 3 weights and a position just the 16 registers of AVX2
LONG_RUN = 7  # taps of the runs of long kernel rows: with 8 accumulators just as many
# Points of `points_tile`, and products of them and a run. Where there are 32 registers, long runs have 14 accumulators.
POINTS_TILES, MOST_PRODUCTS = ((14, 12, 8, 7, 4), 98) if target().registers >= 32 else ((12, 8, 7, 4), 56)
# Points of `group_tile`: rows of 7, 14, 28 and 56 make up whole ones, or nearly. (With three taps and but 7 or 8 points
# multiply-adds wait for each other.)
GROUP_TILES = (*((14,) if target().registers >= 32 else ()), 12, 10, 8, 7)
POINTS_RUNS = (LONG_RUN, LONGEST_RUN, 2, 1)  # taps of the runs that `points_tile` knows, in the order of its table
GROUP_RUNS = (LONGEST_RUN, 2, 1)  # and `group_tile`


def groups_together(channels: int, lanes: int) -> int:
    """How many groups of some destination channels go through together in a vector: 4, 2 or 1.

    More than one in vectors of 64 bytes only: in smaller ones they would have so few channels that `points_tile` is
    better.
    """
    most = lanes // 4 if target().wide else 1
    return next(count for count in (4, 2, 1) if count == 1 or (count <= most and count * channels <= lanes))


@intrinsic
def points_tile(typingctx, points, table, counts, x_offset, w, start, out, out_step):
    """Neighbouring points of one vector of channels (forward, data gradient).

    ::

        out[i] = start + sum over runs r, taps t of  x[r][i + t] * w[r][t]

    One accumulator per point: eight cover the latency of the multiply-add (4 cycles x 2 pipes), twelve with time to
    spare. A run is seven, three, two or one neighbouring taps. With three, each of 14 positions is loaded once for its
    up to 3 multiply-adds: 17 loads per 36; with seven and eight points 21 per 56.

    points : one of `POINTS_TILES`, times the taps of a run no more than `MOST_PRODUCTS`
    table : per run a pointer to the position of its first tap and an offset (in elements) into the weights; first
        all runs of seven taps, then those of three, of two, and single taps
    counts : per number of taps, how many such runs there are
    x_offset : elements from there to the position of the first point
    w, start : weights of this vector; the vector that every sum begins with
    out, out_step : first point of the destination, elements between points
    """

    def emit(e, points, table, counts, x_offset, w, start, out, out_step):
        builder = e.builder

        def tile(points):
            first = e.load(start)
            sums = [e.variable(first) for _ in range(points)]
            entry = e.i64(0)
            for taps in POINTS_RUNS:
                if taps * points > MOST_PRODUCTS:
                    continue
                count = e.slot(counts, taps)
                with e.loop(count) as index:
                    _add_run(e, sums, taps, table, builder.add(entry, e.times(index, 2)), x_offset, w)
                entry = builder.add(entry, e.times(count, 2))
            for i, place in enumerate(sums):
                e.store(e.value(place), e.at(out, e.times(out_step, i)))

        e.choose(points, POINTS_TILES, tile)

    return emitted(emit, w, points, table, counts, x_offset, w, start, out, out_step)


def _add_run(e: Emitter, sums: list[Any], taps: int, table: Any, entry: Any, x_offset: Any, w: Any) -> None:
    """Emit what a run of some taps adds to the points' sums.

    Twelve points go position after position, for lack of registers, fewer of them tap after tap, so that
    multiply-adds in flight are of as many sums as there are.
    """
    x = e.at(e.slot(table, entry, e.pointer), x_offset)
    w_run = e.at(w, e.slot(table, e.builder.add(entry, e.i64(1))))
    weights = [e.load(w_run, t) for t in range(taps)]
    pairs = [(i, t) for t in range(taps) for i in range(len(sums))]
    if len(sums) > FEW_POINTS:
        pairs.sort(key=sum)
    values: dict[int, Value] = {}
    for i, t in pairs:
        if i + t not in values:
            values[i + t] = e.load(x, i + t)
        e.accumulate(sums[i], values[i + t], weights[t])


def _group_tile(leap: int, pair: int) -> Any:
    """The tile for points that lie `leap` positions apart, of `pair` groups; its arguments: see `group_tile`."""

    def tile(typingctx, points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step):
        def emit(e, points, *rest):
            if groups_together(1, e.lanes) >= pair:
                e.choose(points, GROUP_TILES, lambda points: _group_points(e, leap, pair, points, *rest))

        return emitted(emit, w, points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)

    return intrinsic(tile)


def _group_points(
    e: Emitter, leap: int, pair: int, points: int, table: Any, counts: Any, x_offset: Any, run: Any, w: Any,
    w_step: Any, w_channel: Any, start: Any, out: Any, out_step: Any,
) -> None:  # fmt: skip
    """Emit the tile of `points` points."""
    builder = e.builder
    first = e.in_turn(e.load(start), pair)
    sums = [e.variable(first) for _ in range(points)]
    position = e.times(run, pair)
    entry = e.i64(0)
    for taps in GROUP_RUNS:
        count = e.slot(counts, taps)
        with e.loop(count) as index:
            place = builder.add(entry, e.times(index, 2))
            x = e.at(e.slot(table, place, e.pointer), x_offset)
            w_run = e.at(w, e.slot(table, builder.add(place, e.i64(1))))
            alone = taps <= leap  # no two of them read the same
            for tap in range(taps if alone else 1):
                first_x, first_w = e.at(x, e.times(position, tap)), e.at(w_run, e.times(w_step, tap))
                with e.loop(run) as channel:
                    x_here = e.at(first_x, e.times(channel, pair))
                    w_here = e.at(first_w, builder.mul(channel, w_channel))
                    _add_channel(e, sums, 1 if alone else taps, leap, pair, x_here, position, w_here, w_step)
        entry = builder.add(entry, e.times(count, 2))
    for i, place in enumerate(sums):
        e.store(e.in_turn(e.value(place), e.lanes // pair), e.at(out, e.times(out_step, i)))


def _add_channel(
    e: Emitter, sums: list[Any], taps: int, leap: int, pair: int, x: Any, x_step: Any, w: Any, w_step: Any
) -> None:
    """Emit what one channel of a run of some taps adds to the points' sums: those taps together that read the same."""
    step = e.times(x_step, leap)
    reached = 2 if leap == 1 else 1 + 8 // e.itemsize  # positions by one pointer, as addresses multiply by up to 8
    far = e.times(step, reached)
    for first in range(min(leap, taps)):
        if first > 0:
            e.keep_order()
        weights = [e.load(e.at(w, e.times(w_step, t))) for t in range(first, taps, leap)]
        place = e.hidden(e.at(x, e.times(x_step, first)))
        for j in range(len(sums) + len(weights) - 1):
            if j > 0 and j % reached == 0:
                place = e.at(place, far)
            value = e.broadcast(e.at(place, e.times(step, j % reached)), pair)
            for i in range(max(0, j - len(weights) + 1), min(len(sums), j + 1)):
                e.accumulate(sums[i], value, weights[j - i])


_neighbours, _every_other = _group_tile(1, 1), _group_tile(2, 1)
_paired_neighbours, _paired_every_other = _group_tile(1, 2), _group_tile(2, 2)
_four_neighbours, _four_every_other = _group_tile(1, 4), _group_tile(2, 4)


@inlined
def group_tile(leap, pair, points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step):
    """As `points_tile` for one vector of the destination channels of a group, summed over its source channels.

    ::

        out[i] = start + sum over runs r, taps t, channels c of  x[r][i * leap + t][c] * w[r][t][c]

    Where x is a scalar, in all lanes. With three taps, each of 14 scalars is loaded once for its up to 3 multiply-adds.

    leap : 1 or 2
    pair : how many groups at once, see `groups_together`: their channels take turns in x and in the lanes of w, and an
        equal part of `start` and of each vector of `out` belongs to each
    points : one of `GROUP_TILES`
    run : source channels, which is also the distance of positions (of groups one by one)
    w_step, w_channel : elements from the weights of each tap to those of the next, and from each channel's
    """
    if pair == 4 and leap == 2:
        _four_every_other(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)
    elif pair == 4:
        _four_neighbours(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)
    elif pair == 2 and leap == 2:
        _paired_every_other(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)
    elif pair == 2:
        _paired_neighbours(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)
    elif leap == 2:
        _every_other(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)
    else:
        _neighbours(points, table, counts, x_offset, run, w, w_step, w_channel, start, out, out_step)


@intrinsic
def weight_tile(typingctx, taps, table, rows, x_offset, y_offset, points, sums):
    """Add to the weight gradient's `sums`, one vector per tap, of some taps of a run.

    ::

        sums[t] += sum over rows r, points i of  x[r][i + t] * y[r][i]

    The sums stay in registers while all points pass by. With few taps several neighbouring points have sums of their
    own, which are added at the end: enough chains for the multiply-adders.

    taps : 1 to WEIGHT_TAPS
    table, rows : per row of points a pointer to the strips of its input and one to its gradient
    x_offset, y_offset : elements from there to what the first tap of the first point reads, and to that point
    points : points per row
    """

    def emit(e, taps, table, rows, x_offset, y_offset, points, sums):
        every = tuple(range(1, WEIGHT_TAPS + 1))
        e.choose(taps, every, lambda taps: _weight_tile(e, taps, table, rows, x_offset, y_offset, points, sums))

    return emitted(emit, sums, taps, table, rows, x_offset, y_offset, points, sums)


def _weight_tile(
    e: Emitter, taps: int, table: Any, rows: Any, x_offset: Any, y_offset: Any, points: Any, sums: Any
) -> None:
    """Emit the weight tile for a number of taps."""
    builder = e.builder
    sets = POINT_SETS[taps - 1]
    totals = [[e.variable(e.load(sums, t) if s == 0 else e.zero) for t in range(taps)] for s in range(sets)]

    def add_points(count, x, y):
        factors = [e.load(y, i) for i in range(count)]
        for j in range(count + taps - 1):
            value = e.load(x, j)
            for i in range(max(0, j - taps + 1), min(count, j + 1)):
                e.accumulate(totals[i % sets][j - i], value, factors[i])

    step = sets * e.lanes
    groups = builder.udiv(points, e.i64(sets))
    done = e.times(groups, step)
    with e.loop(rows) as row:
        entry = e.times(row, 2)
        x = e.at(e.slot(table, entry, e.pointer), x_offset)
        y = e.at(e.slot(table, builder.add(entry, e.i64(1)), e.pointer), y_offset)
        with e.loop(groups) as index:
            place = e.times(index, step)
            add_points(sets, e.at(x, place), e.at(y, place))
        with e.loop(builder.urem(points, e.i64(sets))) as index:
            place = builder.add(done, e.times(index, e.lanes))
            add_points(1, e.at(x, place), e.at(y, place))
    for t in range(taps):
        total = e.value(totals[0][t])
        for s in range(1, sets):
            total = total + e.value(totals[s][t])
        e.store(total, sums, t)


@intrinsic
def copy_positions(typingctx, together, target, vector_step, source, source_step, count, vectors, ahead):
    """Copy some vectors of channels from each of `count` positions, each vector to a strip of its own.

    together : how many groups a vector holds: on the way their channels take turns; see `groups_together`
    target, vector_step : the first vector's strip, elements from there to the next one's
    source, source_step : the channels of the first position, elements between positions
    ahead : elements from a position to one whose channels are asked for meanwhile; 0 for none
    """

    def emit(e, together, target, vector_step, source, source_step, count, vectors, ahead):
        builder = e.builder
        asks = builder.icmp_signed("!=", ahead, e.i64(0))
        pairs = builder.udiv(vectors, e.i64(2))

        def ask(place):
            with builder.if_then(asks):
                e.prefetch(e.at(place, ahead))

        def copy(parts):
            with e.loop(count) as index:
                position = e.at(source, builder.mul(index, source_step))
                place = e.at(target, e.times(index, e.lanes))
                with e.loop(pairs) as pair:
                    here = e.at(position, e.times(pair, 2 * e.lanes))
                    there = e.at(place, builder.mul(e.times(pair, 2), vector_step))
                    values = e.load(here), e.load(here, 1)
                    ask(here)
                    if 2 * e.lanes * e.itemsize > LINE_BYTES:
                        ask(e.at(here, e.lanes))
                    e.store(e.in_turn(values[0], parts), there)
                    e.store(e.in_turn(values[1], parts), e.at(there, vector_step))
                odd = e.times(pairs, 2)
                with builder.if_then(builder.icmp_signed("<", odd, vectors)):
                    here = e.at(position, e.times(odd, e.lanes))
                    last = e.load(here)
                    ask(here)
                    e.store(e.in_turn(last, parts), e.at(place, builder.mul(odd, vector_step)))

        e.choose(together, tuple(n for n in (4, 2, 1) if n <= groups_together(1, e.lanes)), copy)

    return emitted(emit, target, together, target, vector_step, source, source_step, count, vectors, ahead)


@intrinsic
def spread(typingctx, group, target, part_step, source, source_step, count, valid):
    """Copy vectors of channels from some positions, one copy per channel of the groups of `group` lanes.

    Copy k goes to ``target + k * part_step``, position after position; each of its lanes holds channel k of its group.

    group : 4, 2 or 1
    valid : lanes that are wanted
    """

    def emit(e, group, target, part_step, source, source_step, count, valid):
        builder, mask = e.builder, e.mask(valid)

        def copy(group):
            with e.loop(count) as index:
                value = e.load(e.at(source, builder.mul(index, source_step)), mask=mask).llvm
                place = e.at(target, e.times(index, e.lanes))
                for k in range(group):
                    order = _order([min(lane // group * group + k, e.lanes - 1) for lane in range(e.lanes)])
                    copied = builder.shuffle_vector(value, value, order)
                    e.store(Value(builder, copied), e.at(place, e.times(part_step, k)))

        e.choose(group, (4, 2, 1), copy)

    return emitted(emit, target, group, target, part_step, source, source_step, count, valid)


@intrinsic
def repeat(typingctx, group, target, source, source_step, count, valid):
    """Fill vectors whose lanes read, `group` neighbours each, the same channel: one vector from each of some positions.

    group : 4 or 2, and a divisor of the lanes
    valid : lanes that are wanted, a multiple of `group`
    """

    def emit(e, group, target, source, source_step, count, valid):
        builder, mask = e.builder, e.mask(e.builder.udiv(valid, group))

        def copy(group):
            order = _order([lane // group for lane in range(e.lanes)])
            with e.loop(count) as index:
                read = e.load(e.at(source, builder.mul(index, source_step)), mask=mask).llvm
                repeated = builder.shuffle_vector(read, read, order)
                e.store(Value(builder, repeated), e.at(target, e.times(index, e.lanes)))

        e.choose(group, (4, 2), copy)

    return emitted(emit, target, group, target, source, source_step, count, valid)


@intrinsic
def select(typingctx, channels, target, source, source_step, channel_step, count, first, group):
    """Fill vectors whose lanes read one of a few channels: one vector from each of some positions.

    Lanes up to `first` read the channel at `source`, of those behind them `group` neighbours each the next channel.

    channels : how many different ones, 1 to `SELECTED`
    channel_step : elements between channels
    """

    def emit(e, channels, target, source, source_step, channel_step, count, first, group):
        builder = e.builder

        def copy(channels):
            # The lanes that read channel c or an earlier one.
            masks = [e.mask(builder.add(first, e.times(group, c))) for c in range(channels - 1)]
            offsets = [e.times(channel_step, c) for c in range(channels)]
            with e.loop(count) as index:
                position = e.at(source, builder.mul(index, source_step))
                values = [e.broadcast(e.at(position, offset)).llvm for offset in offsets]
                chosen = values.pop()
                for mask, value in zip(reversed(masks), reversed(values), strict=True):
                    chosen = builder.select(mask, value, chosen)
                e.store(Value(builder, chosen), e.at(target, e.times(index, e.lanes)))

        e.choose(channels, tuple(range(1, SELECTED + 1)), copy)

    return emitted(emit, target, channels, target, source, source_step, channel_step, count, first, group)


@intrinsic
def deal(typingctx, parts, target, part_step, source, source_step, count, valid):
    """Deal out channels: of `parts` vectors from each of some positions, copy k takes every `parts`-th lane from k on.

    Copy k goes to ``target + k * part_step``, position after position.

    parts : 4, 3 or 2
    valid : lanes that are wanted of each copy
    """

    def emit(e, parts, target, part_step, source, source_step, count, valid):
        builder = e.builder

        def copy(parts):
            masks = [e.mask(e.times(valid, parts), k) for k in range(parts)]
            with e.loop(count) as index:
                position = e.at(source, builder.mul(index, source_step))
                vectors = [e.load(position, k, mask).llvm for k, mask in enumerate(masks)]
                place = e.at(target, e.times(index, e.lanes))
                for k, dealt in enumerate((_dealt_by_three if parts == 3 else _dealt)(builder, vectors, e.lanes)):
                    e.store(Value(builder, dealt), e.at(place, e.times(part_step, k)))

        e.choose(parts, (4, 3, 2), copy)

    return emitted(emit, target, parts, target, part_step, source, source_step, count, valid)


def _dealt(builder: Any, vectors: list[Any], lanes: int) -> list[Any]:
    """The lanes of 2^n vectors, side by side, dealt out to as many vectors: even and odd ones, and these again."""
    if len(vectors) == 1:
        return vectors
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    even, odd = (
        _dealt(
            builder,
            [builder.shuffle_vector(a, b, _order(range(first, 2 * lanes, 2))) for a, b in pairs],
            lanes,
        )
        for first in (0, 1)
    )
    return [vector for pair in zip(even, odd, strict=True) for vector in pair]


def _dealt_by_three(builder: Any, vectors: list[Any], lanes: int) -> list[Any]:
    """The lanes of three vectors, side by side, dealt out to three vectors."""
    dealt = []
    for k in range(3):
        places = range(k, 3 * lanes, 3)
        begin = builder.shuffle_vector(*vectors[:2], _order(min(place, 2 * lanes - 1) for place in places))
        order = (lane if place < 2 * lanes else place - lanes for lane, place in enumerate(places))
        dealt.append(builder.shuffle_vector(begin, vectors[2], _order(order)))
    return dealt


def _order(lanes: Iterable[int]) -> Any:
    """The mask of a shuffle."""
    from llvmlite import ir

    i32 = ir.IntType(32)
    numbers = [i32(lane) for lane in lanes]
    return ir.Constant(ir.VectorType(i32, len(numbers)), numbers)
