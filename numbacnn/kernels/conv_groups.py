"""Convolution of groups with several channels over channels-last memory, forward and data gradient.

Positions of channels-last memory are many groups apart, often a power of two, so that what one group reads competes
for a few sets of the L1 cache. Therefore rows are first copied into strips as in `conv_strips`, but with all source
channels of a group side by side, position after position. A vector holds destination channels of one group; what it is
multiplied by is a scalar of the strip, and three taps share it.

Groups whose destination channels fill at most half a vector go through in *pairs*, their channels taking turns, in
vectors as in strips: lane 2c + g belongs to channel c of the pair's group g, and is multiplied by one of a pair of
scalars. A lone last group goes with zeros. Those that fill a quarter go through in fours likewise. What is said of
groups below applies to such pairs, and what is said of pairs to fours.

A *panel* is a few groups that are copied together, a *band* a few rows that each of them is computed for in turn: what
it reads, weights and strips, stays in L1 meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .conv_strips import MAX_POINTS, TABLE_RUNS, put_runs, put_tile
from .finish import finish_rows
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, prefetch_read, prefetch_write, store_pointer
from .runs import clear_run, copy_run
from .simd import (
    half,
    in_turn_2,
    in_turn_4,
    interleaved,
    lanes,
    load,
    load_first,
    load_like,
    quarter,
    store,
    store_first,
)
from .strip_rows import (
    LISTS_D,
    LISTS_H,
    PHASE_COLUMNS,
    PHASES,
    POINTS,
    RING_ROWS,
    START,
    STEP,
    STRIP_COLUMNS,
    STRIPS,
    TABLE_ROWS,
    next_place,
    place_of,
    table_of,
)
from .strip_tile import GROUP_RUNS, GROUP_TILES, copy_positions, group_tile

# Positions that are asked for in advance: more latency than instructions in flight cover.
AHEAD = 12

# How a thread's scratch memory is divided, in slots.
BAND_PARTS = 256  # rows of a band times phases
BAND_COLUMNS = 4  # where the runs of such a part begin; how many there are of one tap, of two and of three
_ROWS = RING_ROWS
_RUNS = _ROWS + 2 * TABLE_ROWS
_BAND = _RUNS + 2 * TABLE_RUNS
_TILE = _BAND + BAND_COLUMNS * BAND_PARTS  # one vector of any machine for each point
_RING = _TILE + MAX_POINTS * 8
RING_SLOTS = SCRATCH_SLOTS - _RING


class Groups(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch; see `conv_strips.Strips`."""

    planes: int  # destination planes per sample, bands per plane, rows per plane and per band
    rows: int
    height: int
    band: int
    segments: int  # parts that a row is cut into, and points (of each phase) of one part
    segment: int
    units: int  # bands x segments of the whole batch
    unit_blocks: int
    source_planes: int
    source_rows: int
    width: int  # source positions per row
    step: int  # source coordinates between the positions of a strip
    leap: int  # positions of a strip between points
    strips: int
    positions: int  # of a ring row
    ring: int  # source rows that the ring holds
    phases: int
    groups: int
    pair: int  # how many of them go through together: 1, 2 or 4
    panel: int  # groups, or pairs, per panel
    panels: int
    panel_blocks: int
    run: int  # source channels of a group
    lanes: int  # destination channels of a group
    vectors: int  # that they fill, or those of a pair
    taps: int  # of the kernel
    row_taps: int  # of one of its rows
    tap_step: int  # taps between those of a run
    source_n: int  # source elements between samples, planes, rows, positions
    source_d: int
    source_h: int
    source_w: int
    out_n: int
    out_d: int
    out_h: int
    out_w: int
    line: int  # elements of a cache line
    asks: int  # 1: what will be written is asked for in advance


@device
def _copy_position(target, group_step, source, groups, run):
    """Copy the channels of `groups` groups from a position, each group's to a strip of its own."""
    n = lanes(target)
    if run == 2 * n:
        for group in range(groups):
            place, channels = offset(target, group * group_step), offset(source, group * run)
            store(place, 0, load(channels, 0))
            store(place, n, load(channels, n))
    else:
        for group in range(groups):
            copy_run(offset(target, group * group_step), offset(source, group * run), run)


@device
def _copy_pairs(target, pair_step, source, groups, run):
    """As `_copy_position` for pairs of groups, whose channels take turns in their strip."""
    zero = half(target)
    n = lanes(zero)
    for group in range(0, groups, 2):
        place, channels = offset(target, group // 2 * pair_step), offset(source, group * run)
        for c in range(0, run, n):
            count = min(n, run - c)
            if count == n and group + 1 < groups:
                store(place, 2 * c, interleaved(load_like(zero, channels, c), load_like(zero, channels, run + c)))
            else:
                second = load_first(channels, run + c, count, zero) if group + 1 < groups else zero
                store_first(place, 2 * c, interleaved(load_first(channels, c, count, zero), second), 2 * count)


@device
def _copy_fours(target, four_step, source, groups, run):
    """As `_copy_pairs` for four groups."""
    size = lanes(quarter(target))
    for group in range(0, groups, 4):
        place, channels = offset(target, group // 4 * four_step), offset(source, group * run)
        for c in range(0, run, size):
            count = min(size, run - c)
            every_other = interleaved(*_two_of_four(channels, c, 0, groups - group, run, count))
            others = interleaved(*_two_of_four(channels, c, 1, groups - group, run, count))
            store_first(place, 4 * c, interleaved(every_other, others), 4 * count)


@device
def _two_of_four(channels, first, group, groups, run, count):
    """Some channels of a group, and of the next but one; zeros beyond the last of `groups`."""
    zero, other = quarter(channels), group + 2
    return (
        load_first(channels, group * run + first, count if group < groups else 0, zero),
        load_first(channels, other * run + first, count if other < groups else 0, zero),
    )


@device
def _copy_row(target, row, segment, tables, groups, g):
    """Copy a source row to the strips of `groups` groups, the first of which `row` points to."""
    size = g.pair * g.run  # of a position
    group_step, source_step = g.positions * size, g.step * g.source_w
    ahead = AHEAD * source_step
    whole = groups // g.pair if size == lanes(target) else 0  # groups, or pairs, that are whole vectors
    rest = groups - whole * g.pair
    strips = table_of(tables, STRIPS)
    for i in range(g.strips):
        strip = offset(target, strips[STRIP_COLUMNS * i] * size)
        length = strips[STRIP_COLUMNS * i + 1]
        q = strips[STRIP_COLUMNS * i + 2] + segment * g.segment * g.leap * g.step
        begin = max(0, min((g.step - 1 - q) // g.step, length))  # the first coordinate that is not negative
        end = max(begin, min((g.width - q + g.step - 1) // g.step, length))
        for pair in range((groups + g.pair - 1) // g.pair):
            line = offset(strip, pair * group_step)
            clear_run(line, begin * size)
            clear_run(offset(line, end * size), (length - end) * size)
        inside, first = offset(strip, begin * size), offset(row, (q + begin * g.step) * g.source_w)
        copy_positions(g.pair, inside, group_step, first, source_step, end - begin, whole, ahead)
        if rest > 0:
            inside, first = offset(inside, whole * group_step), offset(first, whole * size)
            for j in range(end - begin):
                position, place = offset(first, j * source_step), offset(inside, j * size)
                for k in range(0, rest * g.run, g.line):
                    prefetch_read(position, k + ahead)
                if g.pair == 4:
                    _copy_fours(place, group_step, position, rest, g.run)
                elif g.pair == 2:
                    _copy_pairs(place, group_step, position, rest, g.run)
                else:
                    _copy_position(place, group_step, position, rest, g.run)


@device
def _put_rows(table, ring, tags, source, place, tables, groups, g):
    """List the strips that the destination row of a place reads, with their weights; copy those not in the ring."""
    n, segment, d, h = place
    lists_d, lists_h = table_of(tables, LISTS_D), table_of(tables, LISTS_H)
    slot_elements = g.panel * g.positions * g.pair * g.run
    count = 0
    for i in range(lists_d[d], lists_d[d + 1]):
        source_d = lists_d[3 * i + 1]
        tag_d = ((n * g.segments + segment) * g.source_planes + source_d) * g.source_rows
        for j in range(lists_h[h], lists_h[h + 1]):
            source_h = lists_h[3 * j + 1]
            slot = lists_d[3 * i + 2] + lists_h[3 * j + 2]
            strips = offset(ring, slot * slot_elements)
            if tags[slot] != tag_d + source_h:
                tags[slot] = tag_d + source_h
                row = offset(source, n * g.source_n + source_d * g.source_d + source_h * g.source_h)
                _copy_row(strips, row, segment, tables, groups, g)
            store_pointer(table, 2 * count, strips)
            table[2 * count + 1] = (lists_d[3 * i] + lists_h[3 * j]) * g.row_taps * lanes(ring)
            count += 1
    return count


@device
def _put_band(scratch, ring, source, place, rows, tables, groups, g):
    """List the runs that destination rows from a place on read, apart for each phase; copy what the ring lacks."""
    n, segment, d, h = place
    table, entries, band = offset(scratch, _ROWS), offset(scratch, _RUNS), offset(scratch, _BAND)
    count = kernel_rows = 0
    for i in range(rows * g.phases):
        row = i // g.phases
        number = i - row * g.phases
        if number == 0:
            kernel_rows = _put_rows(table, ring, scratch, source, (n, segment, d, h + row), tables, groups, g)
        phase, listed = offset(table_of(tables, PHASES), number * PHASE_COLUMNS), offset(band, i * BAND_COLUMNS)
        listed[0] = count
        for taps in GROUP_RUNS:
            listed[taps] = 0
        count += put_runs(offset(entries, 2 * count), listed, table, kernel_rows, phase, tables, g.pair * g.run, ring)


@device
def _points_of(i, segment, tables, g):
    """For phase and row number `i` of a band: its first element, elements between its points, and their number."""
    row = i // g.phases
    phase = offset(table_of(tables, PHASES), (i - row * g.phases) * PHASE_COLUMNS)
    step, first = phase[STEP] * g.out_w, segment * g.segment
    return row * g.out_h + phase[START] * g.out_w + step * first, step, min(g.segment, phase[POINTS] - first)


@device
def _ask(out, i, segment, tables, g):
    """Ask for what will be written: positions lie so far apart that nothing foresees them."""
    place, step, count = _points_of(i, segment, tables, g)
    for k in range(count * g.asks):
        prefetch_write(out, place + k * step)


@device
def _next_points(left):
    """Points of the next tile when `left` are left, so that tiles cost little and fit."""
    if GROUP_TILES[0] == 14 and left % 14 == 0:
        return 14
    if left > 16:
        return 12
    if left > 12:
        return 8 if left > 14 else 7
    return 7 if left <= 7 else 8 if left <= 8 else 10 if left <= 10 else 12


@device
def _put_pairs(out, out_step, tile, points, valid, width, part):
    """As `put_tile`, where each `part` of a vector holds `width` channels of a group, `valid` of all together."""
    n = lanes(part)
    parts = lanes(out) // n
    for i in range(points):
        for k in range(valid // width):
            store_first(out, i * out_step + k * width, load_like(part, tile, (parts * i + k) * n), width)


@device
def _tiles(listed, entries, tile, x_offset, weights, start, out, out_step, count, valid, g):
    """`count` neighbouring points of a vector of one group, or pair."""
    n = lanes(out)
    entries = offset(entries, 2 * listed[0])
    done = 0
    while done < count:
        points = _next_points(count - done)
        first = max(0, min(done, count - points))  # the last tile laps over the one before: the same values once more
        wanted = min(points, count - first)
        target = offset(out, first * out_step)
        direct = valid == n and wanted == points
        place, step = (target, out_step) if direct else (tile, n)
        group_tile(
            g.leap, g.pair, points, entries, listed, x_offset + first * g.leap * g.pair * g.run, g.run,
            weights, g.tap_step * n, g.taps * n, start, place, step,
        )  # fmt: skip
        if not direct and g.pair == 4:
            _put_pairs(target, out_step, tile, wanted, valid, g.lanes, quarter(out))
        elif not direct and g.pair == 2:
            _put_pairs(target, out_step, tile, wanted, valid, g.lanes, half(out))
        elif not direct:
            put_tile(target, out_step, tile, wanted, valid)
        done = first + points


@kernel
def conv_groups(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    tables: "int64*",
    g: "Groups",
):
    """One block: a range of units x a range of panels.

    `tables` are those of `conv_strips`. `weight` is packed by `pack_groups`, `bias` has whole vectors for each
    group, or an equal part of one for each of a pair. What is written is finished by `residual` and `activation`: see
    `finish_row`.
    """
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    n = lanes(out)
    first_unit = block * g.units // g.unit_blocks
    entries, band = offset(scratch, _RUNS), offset(scratch, _BAND)
    tile, ring = cast(offset(scratch, _TILE), out), cast(offset(scratch, _RING), out)
    for panel in range(panel_block * g.panels // g.panel_blocks, (panel_block + 1) * g.panels // g.panel_blocks):
        for i in range(g.ring):
            scratch[i] = -1  # tags
        first_group = panel * g.panel * g.pair
        groups = min(g.panel * g.pair, g.groups - first_group)
        channels = offset(source, first_group * g.run)
        place = place_of(first_unit, g)
        for _ in range(first_unit, (block + 1) * g.units // g.unit_blocks):
            sample, segment, d, h = place
            first_row = h * g.band
            parts = min(g.band, g.height - first_row) * g.phases
            first = (sample, segment, d, first_row)
            _put_band(scratch, ring, channels, first, parts // g.phases, tables, groups, g)
            rows = offset(out, sample * g.out_n + d * g.out_d + first_row * g.out_h + first_group * g.lanes)
            _ask(rows, 0, segment, tables, g)
            for i in range((groups + g.pair - 1) // g.pair * g.vectors):
                pair = i // g.vectors
                group = pair * g.pair  # the first of them
                lane = (i - pair * g.vectors) * n
                number = first_group // g.pair * g.vectors + i
                weights, start = offset(weight, number * g.taps * g.run * n), offset(bias, number * n)
                valid = min(n, min(g.pair, groups - group) * g.lanes - lane)
                column = offset(rows, group * g.lanes + lane)
                for part in range(parts):
                    if part + 1 < parts:
                        _ask(column, part + 1, segment, tables, g)
                    else:
                        _ask(offset(column, valid), 0, segment, tables, g)
                    begin, step, count = _points_of(part, segment, tables, g)
                    points = offset(column, begin)
                    listed, x_offset = offset(band, part * BAND_COLUMNS), group * g.positions * g.run
                    _tiles(listed, entries, tile, x_offset, weights, start, points, step, count, valid, g)
                    finish_rows(points, step, count, valid, residual, activation)
            place = next_place(place, g)


@kernel
def pack_groups(
    block,
    weight: "T*",
    packed: "T*",
    taps: "int64",
    groups: "int64",
    pair: "int64",
    step: "int64",
    run: "int64",
    width: "int64",
    run_stride: "int64",
    lane_stride: "int64",
):
    """One block: `step` groups, or pairs, ``packed[group][vector][channel][tap][lane]``, zero beyond the last lane.

    Source channels are `run` to a group and `run_stride` weights apart, the
    destination's `width` and `lane_stride`.
    """
    n = lanes(packed)
    vectors = (width + n - 1) // n
    for i in range(block * step, min((block + 1) * step, (groups + pair - 1) // pair)):
        out, source = offset(packed, i * vectors * run * taps * n), offset(weight, i * pair * run * width * taps)
        if pair > 1:
            _pack_pair(out, source, width, pair, min(pair, groups - pair * i), taps, run, run_stride, lane_stride)
        else:
            for v in range(vectors):
                valid = min(n, width - v * n)
                if valid < n:
                    clear_run(offset(out, v * run * taps * n), run * taps * n)
                lane = offset(source, v * n * lane_stride)
                _pack(offset(out, v * run * taps * n), lane, valid, taps, run, run_stride, lane_stride)


@device
def _pack_pair(out, source, width, pair, groups, taps, run, run_stride, lane_stride):
    """Pack the weights of the `groups` of a pair, each into its part of the lanes; then lanes take turns."""
    n = lanes(out)
    if groups * width < n:
        clear_run(out, run * taps * n)
    for k in range(groups):
        group = offset(source, k * run * width * taps)
        _pack(offset(out, k * n // pair), group, width, taps, run, run_stride, lane_stride)
    for i in range(0, run * taps * n, n):
        if pair == 4:
            store(out, i, in_turn_4(load(out, i)))
        else:
            store(out, i, in_turn_2(load(out, i)))


@device
def _pack(out, source, valid, taps, run, run_stride, lane_stride):
    """``out[channel][tap][lane]`` for the first `valid` lanes."""
    n = lanes(out)
    if run_stride == taps:  # (channel, tap) lie one after the other
        copy_transposed(as_integers(source), 0, lane_stride, as_integers(out), 0, n, valid, run * taps)
    else:
        for c in range(run):
            first = c * taps * n
            copy_transposed(as_integers(source), c * run_stride, lane_stride, as_integers(out), first, n, valid, taps)
