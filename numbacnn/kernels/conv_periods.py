"""Depthwise convolution of few or oddly many channels, whose positions lie side by side along the width.

A line of channels-last memory, all positions of a row with all their channels, is cut into vectors whatever positions
they fall on: no lane idles. What a tap reads lies a multiple of the channels away in another line, and weights repeat
with a *period*, the least multiple of the channels that is whole vectors. Vectors that reach beyond the ends of a line
with any tap, or hold its last elements, are masked.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .finish import finish_row
from .layout import copy_transposed
from .period_tile import (
    END,
    FIRST,
    KERNEL_ROWS,
    LINES,
    LONE_VECTORS,
    PLACE,
    SOURCE,
    STEP_FIELDS,
    TILE_ROWS,
    TILE_VECTORS,
    WEIGHT,
    clipped_period_tile,
    period_tile,
)
from .pointer import as_integers, cast, offset, store_pointer
from .simd import lanes, load, store_first

# How a thread's scratch memory is divided, in slots: steps, then packed weights.
MOST_STEPS = 1024
_WEIGHTS = MOST_STEPS * STEP_FIELDS
WEIGHT_SLOTS = SCRATCH_SLOTS - _WEIGHTS


class Periods(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    planes: int  # of the destination, rows of a plane
    rows: int
    band: int  # tiles of rows that are computed in all planes before the next: so that L2 keeps the planes
    bands: int
    segments: int  # parts of a line, and vectors of one
    segment: int
    units: int  # tiles of rows x segments of the whole batch, bands counted as whole ones
    blocks: int
    channels: int
    period: int
    taps: int  # of the kernel, of a plane of it
    plane_taps: int
    row_taps: int  # and rows of a plane, both in the order in which they lie in the source: the first of a plane, how
    kernel_rows: int  # much further that of the next row is, and the next of a row
    first_tap: int
    row_step: int
    tap_step: int
    shared: int  # 1: neighbouring rows read neighbouring rows with neighbouring kernel rows
    first_h: int  # row h reads ``first_h + slope_h * h + spread_h * k`` with kernel row k
    slope_h: int
    spread_h: int
    height: int  # rows of a plane of the source
    first_w: int  # position w reads ``first_w + w + spread_w * t`` with tap t
    spread_w: int
    width: int  # elements of a line of the source, and of the destination
    line: int
    inside: int  # the vectors inside .. inside_end of a line lie inside of either side, whatever the tap
    inside_end: int
    source_n: int  # elements between samples, planes, rows
    source_d: int
    source_h: int
    out_n: int
    out_d: int
    out_h: int


@device
def _put_steps(table, source, d, h, rows, lists_d, g):
    """List what some destination rows from (d, h) on read; returns how many steps."""
    count = 0
    for i in range(lists_d[d], lists_d[d + 1]):
        plane = offset(source, lists_d[3 * i + 1] * g.source_d)
        k = 0
        taps = lists_d[3 * i] * g.plane_taps + g.first_tap
        while k < g.kernel_rows:
            left = g.kernel_rows - k
            together = (left + LINES - 1) // LINES
            together = (left + together - 1) // together if g.shared else 1
            row = g.first_h + g.slope_h * h + g.spread_h * k
            first = (max(-row, 0) + g.slope_h - 1) // g.slope_h
            end = min((max(g.height - row, 0) + g.slope_h - 1) // g.slope_h, rows + together - 1)
            if first < end:
                for t in range(g.row_taps):
                    entry = offset(table, count * STEP_FIELDS)
                    place = (g.first_w + g.spread_w * t) * g.channels
                    store_pointer(entry, SOURCE, offset(plane, row * g.source_h + place))
                    entry[WEIGHT] = (taps + k * g.row_step + t * g.tap_step) * g.period
                    entry[KERNEL_ROWS] = together
                    entry[FIRST] = first
                    entry[END] = end
                    entry[PLACE] = place
                    count += 1
            k += together
    return count


@device
def _repeat(values, count, period):
    """Repeat the first `count` elements up to a period, vectors at a time."""
    n = lanes(values)
    done = count
    while done < period:
        for i in range(0, min(done, period - done), n):
            store_first(values, done + i, load(values, i), period - done - i)
        done *= 2


@device
def _pack(weight, bias, packed, g):
    """``packed[tap][i] = weight[i % channels][tap]`` for ``i < period``, then the bias likewise."""
    copy_transposed(as_integers(weight), 0, g.taps, as_integers(packed), 0, g.period, g.channels, g.taps)
    start = g.taps * g.period
    for c in range(g.channels):
        packed[start + c] = bias[c]
    for tap in range(g.taps + 1):
        _repeat(offset(packed, tap * g.period), g.channels, g.period)


@device
def _clipped(table, steps, rows, first, last, packed, out, g):
    """Some vectors of some lines, one by one."""
    n = lanes(out)
    phases, row_weights, start = g.period // n, g.row_step * g.period, offset(packed, g.taps * g.period)
    for v in range(first, last):
        phase = v % phases * n
        clipped_period_tile(
            min(n, g.line - v * n), g.width, rows, table, steps, v * n, g.slope_h * g.source_h, offset(packed, phase),
            row_weights, offset(start, phase), offset(out, v * n), g.out_h,
        )  # fmt: skip


@device
def _whole(table, steps, rows, first, last, packed, out, g):
    """Some vectors of some lines, which lie inside, a few periods at a time."""
    n = lanes(out)
    phases, row_weights, start = g.period // n, g.row_step * g.period, offset(packed, g.taps * g.period)
    lone = rows == 1 and g.kernel_rows == 1
    most = LONE_VECTORS if lone else TILE_VECTORS
    tile_rows = 0 if lone else rows
    while first < last:
        count = min(most * phases, last - first)
        for i in range(min(phases, count)):
            v = first + i
            phase = v % phases * n
            period_tile(
                (count - i + phases - 1) // phases, tile_rows, table, steps, v * n, g.slope_h * g.source_h, g.period,
                offset(packed, phase), row_weights, offset(start, phase), offset(out, v * n), g.out_h,
            )  # fmt: skip
        first += count


@kernel
def conv_periods(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    activation: "int64",
    lists_d: "int64*",
    g: "Periods",
):
    """One block: a range of units.

    `lists_d` is that of `conv_depthwise`. What follows the sums is told by `activation`: see `finish_row`.
    """
    n = lanes(out)
    packed = cast(offset(scratch, _WEIGHTS), out)
    _pack(weight, bias, packed, g)
    for unit in range(block * g.units // g.blocks, (block + 1) * g.units // g.blocks):
        rest = unit // g.band
        h = unit - rest * g.band
        plane = rest // g.planes
        d = rest - plane * g.planes
        part = plane // g.bands
        h = ((plane - part * g.bands) * g.band + h) * TILE_ROWS
        sample = part // g.segments
        segment = part - sample * g.segments
        if h >= g.rows:
            continue
        rows = min(TILE_ROWS, g.rows - h)
        row = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h)
        steps = _put_steps(scratch, offset(source, sample * g.source_n), d, h, rows, lists_d, g)
        first = segment * g.segment
        last = min(first + g.segment, (g.line + n - 1) // n)
        inside = min(max(first, g.inside), last)
        inside_end = max(min(last, g.inside_end), inside)
        _clipped(scratch, steps, rows, first, inside, packed, row, g)
        _whole(scratch, steps, rows, inside, inside_end, packed, row, g)
        _clipped(scratch, steps, rows, inside_end, last, packed, row, g)
        if activation > 0:
            for r in range(rows):
                count = min(last * n, g.line) - first * n
                finish_row(offset(row, r * g.out_h + first * n), count, 0, activation)
