"""Convolution of groups with several channels over channels-last memory, forward and data gradient.

Positions of channels-last memory are many groups apart, often a power of two, so that what one group reads competes
for a few sets of the L1 cache. Therefore rows are first copied into strips as in `conv_strips`, but with all source
channels of a group side by side, position after position. A vector holds destination channels of one group; what it is
multiplied by is a scalar of the strip, and three taps share it.

A *panel* is a few groups that are copied and computed together.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .conv_strips import (
    FIRST_RUN,
    MAX_POINTS,
    PHASE_COLUMNS,
    POINTS,
    RING_ROWS,
    RUNS,
    START,
    STEP,
    STRIP_COLUMNS,
    TABLE_ROWS,
    TABLE_RUNS,
    next_place,
    place_of,
    put_runs,
    put_tile,
)
from .finish import finish_rows
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, prefetch_read, store_pointer
from .runs import clear_run, copy_run
from .simd import lanes, splat, store
from .strip_tile import group_tile

# Positions that are asked for in advance: more latency than instructions in flight cover.
AHEAD = 12
LINE_ELEMENTS = 8  # float64 values of a cache line; asking twice for one of float32 values costs nothing

# How a thread's scratch memory is divided, in slots.
_ROWS = RING_ROWS
_RUNS = _ROWS + 2 * TABLE_ROWS
_TILE = _RUNS + 2 * TABLE_RUNS  # one vector of any machine for each point
_RING = _TILE + MAX_POINTS * 8
RING_SLOTS = SCRATCH_SLOTS - _RING


class Groups(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch; see `conv_strips.Strips`."""

    planes: int  # destination planes per sample, rows per plane
    rows: int
    segments: int  # parts that a row is cut into, and points (of each phase) of one part
    segment: int
    units: int  # destination rows x segments of the whole batch
    unit_blocks: int
    source_planes: int
    source_rows: int
    width: int  # source positions per row
    step: int  # source coordinates between the positions of a strip
    strips: int
    positions: int  # of a ring row
    ring: int  # source rows that the ring holds
    phases: int
    groups: int
    panel: int  # groups per panel
    panels: int
    panel_blocks: int
    run: int  # source channels of a group
    lanes: int  # destination channels of a group
    vectors: int  # that they fill
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


@device
def _copy_row(target, row, segment, strips, groups, g):
    """Copy a source row to the strips of `groups` groups, the first of which `row` points to."""
    group_step, ahead = g.positions * g.run, AHEAD * g.step * g.source_w
    for i in range(g.strips):
        strip = offset(target, strips[STRIP_COLUMNS * i] * g.run)
        length = strips[STRIP_COLUMNS * i + 1]
        q = strips[STRIP_COLUMNS * i + 2] + segment * g.segment * g.step
        begin = max(0, min((g.step - 1 - q) // g.step, length))  # the first coordinate that is not negative
        end = max(begin, min((g.width - q + g.step - 1) // g.step, length))
        for group in range(groups):
            line = offset(strip, group * group_step)
            clear_run(line, begin * g.run)
            clear_run(offset(line, end * g.run), (length - end) * g.run)
        for j in range(begin, end):
            position = offset(row, (q + j * g.step) * g.source_w)
            for k in range(0, groups * g.run, LINE_ELEMENTS):
                prefetch_read(position, k + ahead)
            for group in range(groups):
                copy_run(offset(strip, group * group_step + j * g.run), offset(position, group * g.run), g.run)


@device
def _put_rows(table, ring, tags, source, n, segment, d, h, lists_d, lists_h, strips, groups, g):
    """List the strips that destination row (d, h) reads, with their weights; copy those not in the ring."""
    slot_elements = g.panel * g.positions * g.run
    count = 0
    for i in range(lists_d[d], lists_d[d + 1]):
        source_d = lists_d[3 * i + 1]
        tag_d = ((n * g.segments + segment) * g.source_planes + source_d) * g.source_rows
        for j in range(lists_h[h], lists_h[h + 1]):
            source_h = lists_h[3 * j + 1]
            slot = lists_d[3 * i + 2] + lists_h[3 * j + 2]
            place = offset(ring, slot * slot_elements)
            if tags[slot] != tag_d + source_h:
                tags[slot] = tag_d + source_h
                row = offset(source, n * g.source_n + source_d * g.source_d + source_h * g.source_h)
                _copy_row(place, row, segment, strips, groups, g)
            store_pointer(table, 2 * count, place)
            table[2 * count + 1] = (lists_d[3 * i] + lists_h[3 * j]) * g.row_taps * lanes(ring)
            count += 1
    return count


@device
def _tile_points(count):
    """Points per tile: those of the smallest tile that as few tiles as possible make up `count` with."""
    tiles = (count + MAX_POINTS - 1) // MAX_POINTS
    points = (count + tiles - 1) // tiles
    return 7 if points <= 7 else 8 if points <= 8 else 10 if points <= 10 else 12


@device
def _phase(entries, threes, twos, ones, tile, x_offset, count, weight, bias, out, out_step, g):
    """`count` points of one phase and group."""
    n = lanes(out)
    points = _tile_points(count)
    for v in range(g.vectors):
        valid = min(n, g.lanes - v * n)
        weights, start, column = offset(weight, v * g.taps * g.run * n), offset(bias, v * n), offset(out, v * n)
        for i in range(0, count, points):
            a = max(0, min(i, count - points))  # the last tile laps over the one before: the same values once more
            wanted = min(points, count - a)
            target = offset(column, a * out_step)
            direct = valid == n and wanted == points
            place, step = (target, out_step) if direct else (tile, n)
            group_tile(
                points, entries, threes, twos, ones, x_offset + a * g.run, g.run, weights, g.tap_step * n, g.taps * n,
                start, place, step,
            )  # fmt: skip
            if not direct:
                put_tile(target, out_step, tile, wanted, valid)


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
    lists_d: "int64*",
    lists_h: "int64*",
    strips: "int64*",
    phases: "int64*",
    runs: "int64*",
    g: "Groups",
):
    """One block: a range of units x a range of panels.

    ``lists_*`` are those of `conv_strips`. `weight` is packed by `pack_groups`, `bias` has whole vectors for each
    group. What is written is finished by `residual` and `activation`: see `finish_row`.
    """
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    n = lanes(out)
    first_unit = block * g.units // g.unit_blocks
    tags, table, entries = scratch, offset(scratch, _ROWS), offset(scratch, _RUNS)
    tile, ring = cast(offset(scratch, _TILE), out), cast(offset(scratch, _RING), out)
    for panel in range(panel_block * g.panels // g.panel_blocks, (panel_block + 1) * g.panels // g.panel_blocks):
        for i in range(g.ring):
            tags[i] = -1
        first_group = panel * g.panel
        groups = min(g.panel, g.groups - first_group)
        channels = offset(source, first_group * g.run)
        sample, segment, d, h = place_of(first_unit, g)
        for _ in range(first_unit, (block + 1) * g.units // g.unit_blocks):
            rows = _put_rows(
                table, ring, tags, channels, sample, segment, d, h, lists_d, lists_h, strips, groups, g
            )  # fmt: skip
            row = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h + first_group * g.lanes)
            for i in range(g.phases):
                phase = offset(phases, i * PHASE_COLUMNS)
                begin, end = phase[FIRST_RUN], phase[FIRST_RUN] + phase[RUNS]
                threes = put_runs(entries, table, rows, 3, begin, end, runs, g.run, g.tap_step * n, ring)
                rest = offset(entries, 2 * threes)
                twos = put_runs(rest, table, rows, 2, begin, end, runs, g.run, g.tap_step * n, ring)
                rest = offset(rest, 2 * twos)
                ones = put_runs(rest, table, rows, 1, begin, end, runs, g.run, g.tap_step * n, ring)
                first = segment * g.segment
                count = min(g.segment, phase[POINTS] - first)
                out_step = phase[STEP] * g.out_w
                target = offset(row, (phase[START] + phase[STEP] * first) * g.out_w)
                for group in range(groups):
                    number = first_group + group
                    w = offset(weight, number * g.vectors * g.taps * g.run * n)
                    start, place = offset(bias, number * g.vectors * n), offset(target, group * g.lanes)
                    x_offset = group * g.positions * g.run
                    _phase(entries, threes, twos, ones, tile, x_offset, count, w, start, place, out_step, g)
                    finish_rows(place, out_step, count, g.lanes, residual, activation)
            sample, segment, d, h = next_place(sample, segment, d, h, g)


@kernel
def pack_groups(
    block,
    weight: "T*",
    packed: "T*",
    taps: "int64",
    groups: "int64",
    step: "int64",
    run: "int64",
    width: "int64",
    run_stride: "int64",
    lane_stride: "int64",
):
    """One block: `step` groups, ``packed[group][vector][channel][tap][lane]``, zero beyond the last lane.

    Source channels are `run` to a group and `run_stride` weights apart, the destination's `width` and `lane_stride`.
    """
    n = lanes(packed)
    vectors = (width + n - 1) // n
    zero = splat(packed, 0)
    for group in range(block * step, min((block + 1) * step, groups)):
        for v in range(vectors):
            source = offset(weight, group * run * width * taps + v * n * lane_stride)
            out = offset(packed, (group * vectors + v) * run * taps * n)
            valid = min(n, width - v * n)
            if valid < n:
                for i in range(run * taps):
                    store(out, i * n, zero)
            if run_stride == taps:  # (channel, tap) lie one after the other
                copy_transposed(as_integers(source), 0, lane_stride, as_integers(out), 0, n, valid, run * taps)
            else:
                for c in range(run):
                    copy_transposed(
                        as_integers(source), c * run_stride, lane_stride, as_integers(out), c * taps * n, n, valid, taps
                    )
