"""Packing weights for destination columns that lie side by side: see `ops/conv/lattice.side_by_side`.

Where neighbouring destination columns read the same source rows, and differ in the kernel position alone, one column's
channels follow on the other's in memory. So a few columns are one with more channels: panels are full even where there
are three channels, and a stride of 16 takes a sixteenth of the launches.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import kernel
from .pointer import offset


class JoinedWeights(NamedTuple):
    """Weights of neighbouring destination columns, packed as if they were further channels of one."""

    run: int  # source channels, and elements between them
    run_stride: int
    channels: int  # destination channels of one column, and elements between them
    lane_stride: int
    lines: int  # lines of the kernel along W, and how many taps each has
    line: int
    taps: int  # of a line that a column uses: the first of column 0, and how many further the next tap is
    first: int
    step: int
    first_lane: int  # of all columns' channels, those from here on, `lanes` of them
    lanes: int
    width: int
    panels: int
    run_block: int


@kernel
def pack_joined_weights(block, weight: "T*", packed: "T*", g: "JoinedWeights"):
    """One block: some source channels, ``packed[panel][line, tap][r][lane]``; column ``q`` begins `q` taps further."""
    first_column = g.first_lane // g.channels
    first_channel = g.first_lane - first_column * g.channels
    for r in range(block * g.run_block, min(g.run, (block + 1) * g.run_block)):
        for line in range(g.lines):
            for t in range(g.taps):
                source = offset(weight, r * g.run_stride + line * g.line + g.first + t * g.step)
                out = offset(packed, ((line * g.taps + t) * g.run + r) * g.width)
                column, channel = first_column, first_channel
                for lane in range(g.panels * g.width):
                    panel = lane // g.width
                    place = panel * g.lines * g.taps * g.run * g.width + lane - panel * g.width
                    out[place] = source[column + channel * g.lane_stride] if lane < g.lanes else 0
                    channel += 1
                    if channel == g.channels:
                        column, channel = column + 1, 0
