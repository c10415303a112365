"""Packing weights for destination columns that lie side by side: see `ops/conv/lattice.side_by_side`.

Where neighbouring destination columns read the same source rows, and differ in the kernel position alone, one column's
channels follow on the other's in memory. So a few columns are one with more channels: panels are full even where there
are three channels, and a stride of 16 takes a sixteenth of the launches.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .runs import ask_for, clear_run, copy_run

# What is turned at a time: so many weights of each of some source channels, of no more taps than this. Few taps are
# no reason to go through more channels than 128.
TURNED_WEIGHTS, ROWS, LEAST_TAPS, MOST_TAPS = 2048, 8, 16, 64
PLACE_SLOTS = 4


class JoinedWeights(NamedTuple):
    """Weights of neighbouring destination columns, packed as if they were further channels of one."""

    run: int  # source channels, and elements between them
    run_stride: int
    channels: int  # destination channels of one column, and elements between them
    lane_stride: int  # all taps of the kernel
    columns: int
    lines: int  # lines of the kernel along W, and how many taps each has
    line: int
    taps: int  # of a line that a column uses: the first of column 0, and how many further (below 0) the next one is
    first: int
    step: int
    first_lane: int  # of all columns' channels, those from here on, `lanes` of them
    lanes: int
    width: int
    panels: int
    run_block: int
    few_channels: int  # destination channels whose weights are turned at a time


@device
def _find_place(table, tap, channel, count, g):
    """Where the weights of one tap go for `count` channels: element, its lane in the panel, first channel, how many."""
    line = tap // g.line
    from_lowest = tap - line * g.line - (g.first + (g.taps - 1) * g.step)
    steps = from_lowest // -g.step
    column = from_lowest + steps * g.step
    table[3] = 0
    if from_lowest < 0 or steps >= g.taps or column >= g.columns:
        return  # it belongs to columns that are not produced together with these
    lane = column * g.channels + channel - g.first_lane
    first = max(0, -lane)
    panel = (lane + first) // g.width
    table[0] = ((panel * g.lines + line) * g.taps + g.taps - 1 - steps) * g.run * g.width
    table[1] = lane + first - panel * g.width
    table[2] = first
    table[3] = max(0, min(count, g.lanes - lane) - first)


@device
def _put(weights, table, target, rows, g):
    """Put the weights of one tap, some channels of a few `rows`, where `table` says."""
    place, count = table[1], table[3]
    weights, target = offset(weights, table[2]), offset(target, table[0])
    while count > 0:
        piece = min(count, g.width - place)
        for r in range(rows):
            copy_run(offset(target, r * g.width + place), offset(weights, r * TURNED_WEIGHTS), piece)
        weights, target = offset(weights, piece), offset(target, g.lines * g.taps * g.run * g.width)
        place, count = 0, count - piece


@device
def _clear_missing(r, packed, g):
    """Put zeros for source channel `r` into the lanes of the last panel that have no channel."""
    missing = g.panels * g.width - g.lanes
    for line_and_tap in range(g.lines * g.taps if missing > 0 else 0):
        row = ((g.panels - 1) * g.lines * g.taps + line_and_tap) * g.run + r
        clear_run(offset(packed, (row + 1) * g.width - missing), missing)


@kernel
def pack_joined_weights(block, scratch, weight: "T*", packed: "T*", g: "JoinedWeights"):
    """One block: some source channels, ``packed[panel][line, tap][r][lane]``; column ``q`` begins `q` taps further.

    What belongs together, all taps of some channels, is turned in the scratch, for so many source channels that
    stretches of several cache lines are written: the beginnings of panels share a few sets of the caches.
    """
    turned = cast(offset(scratch, PLACE_SLOTS * MOST_TAPS), weight)
    first, end = block * g.run_block, min(g.run, (block + 1) * g.run_block)
    for r in range(first, end):
        _clear_missing(r, packed, g)
    for tap in range(0, g.lane_stride, MOST_TAPS):
        taps = min(MOST_TAPS, g.lane_stride - tap)
        for channel in range(0, g.channels, g.few_channels):
            channels = min(g.few_channels, g.channels - channel)
            for i in range(taps):
                _find_place(offset(scratch, i * PLACE_SLOTS), tap + i, channel, channels, g)
            source = offset(weight, channel * g.lane_stride + tap)
            for r in range(first, end, ROWS):
                rows = min(ROWS, end - r)
                for i in range(rows):
                    row = offset(source, (r + i) * g.run_stride)
                    ask_for(offset(row, min(ROWS, end - 1 - r - i) * g.run_stride), channels * g.lane_stride)
                    to = as_integers(offset(turned, i * TURNED_WEIGHTS))
                    copy_transposed(as_integers(row), 0, g.lane_stride, to, 0, g.few_channels, channels, taps)
                target = offset(packed, r * g.width)
                for i in range(taps):
                    _put(offset(turned, i * g.few_channels), offset(scratch, i * PLACE_SLOTS), target, rows, g)
