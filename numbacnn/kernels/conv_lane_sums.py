"""Data gradients of few input channels: vectors along the output's channels, whose lanes are added up at the end.

What a position of the image sums up is read where it lies. Lines of taps that read padding alone are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .lane_sum_tile import lane_sums, next_points
from .pointer import cast, offset
from .runs import clear_run, copy_run, even_part
from .sources import Sources

# How a thread's scratch memory is divided: the lines of taps of a row of points, then what a tile has summed up.
MAX_LINES = 1024
SUMS = 2 * MAX_LINES


class LaneSums(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    channels: int  # of the image
    depth: int  # channels of the source
    vector: int  # lanes of one vector
    padded: int  # channels of the source in whole vectors
    out_n: int  # elements of the image between samples, planes, rows and columns
    out_d: int
    out_h: int
    out_w: int
    plane_blocks: int  # parts that a sample is cut into
    row_blocks: int
    column_blocks: int
    weight_taps: int  # taps of the kernel
    weight_first: int  # which of them the first tap is, and how many further those of the next along each axis are
    weight_d: int
    weight_h: int
    weight_w: int


@device
def _put_lines(table, d, h, line, s):
    """List the lines of taps that lie inside the source for a row of points, `line` weights each. Returns their number.

    See `lane_sum_tile.lane_sums`.
    """
    count = 0
    for kd in range(s.taps_d):
        at_d = s.first_d + d * s.slope_d + kd * s.spread_d
        for kh in range(s.taps_h):
            at_h = s.first_h + h * s.slope_h + kh * s.spread_h
            if at_d >= 0 and at_d < s.size_d and at_h >= 0 and at_h < s.size_h:
                table[2 * count] = at_d * s.stride_d + at_h * s.stride_h
                table[2 * count + 1] = (kd * s.taps_h + kh) * line
                count += 1
    return count


@device
def _sum_points(table, count, source, first, points, weight, start, sums, out, g, s):
    """The points of a row that share what they read, every `spread_w`-th from `first` on."""
    channels, step, distance = g.channels, s.spread_w * g.out_w, s.spread_w * s.stride_w
    done = 0
    while done < points:
        size = next_points(channels, points - done, points)
        begin = min(done, points - size)  # the last tile laps over the one before: the same values once more
        at = s.first_w + first + begin * s.spread_w
        lane_sums(
            channels, size, table, count, offset(source, at * s.stride_w), distance, at, s.spread_w, s.size_w, g.depth,
            s.taps_w, weight, start, sums,
        )  # fmt: skip
        target = offset(out, first * g.out_w + begin * step)
        if step == channels:
            copy_run(target, sums, size * channels)
        else:
            for i in range(size):
                for c in range(channels):
                    target[i * step + c] = sums[i * channels + c]
        done = begin + size


@kernel
def conv_lane_sums(block, scratch, source: "T*", weight: "T*", start: "T*", out: "T*", g: "LaneSums", s: "Sources"):
    """One block: some positions of one sample.

    `weight` is what `pack_lane_sums` makes, `start` a vector for each channel: what its sums begin with.
    """
    column, columns = even_part(block % g.column_blocks, g.column_blocks, s.points_w)
    block //= g.column_blocks
    row, rows = even_part(block % g.row_blocks, g.row_blocks, s.points_h)
    block //= g.row_blocks
    plane, planes = even_part(block % g.plane_blocks, g.plane_blocks, s.points_d)
    n = block // g.plane_blocks
    sums = cast(offset(scratch, SUMS), source)
    sample, image = offset(source, n * s.stride_n), offset(out, n * g.out_n)
    for d in range(plane, plane + planes):
        for h in range(row, row + rows):
            count = _put_lines(scratch, d, h, s.taps_w * g.padded, s)
            target = offset(image, d * g.out_d + h * g.out_h)
            for residue in range(min(s.spread_w, columns)):
                points = (columns - residue + s.spread_w - 1) // s.spread_w
                _sum_points(scratch, count, sample, column + residue, points, weight, start, sums, target, g, s)


@kernel
def pack_lane_sums(block, weight: "T*", packed: "T*", g: "LaneSums", s: "Sources"):
    """One block: a line of taps, ``packed[line][vector][tap][c][lane] = weight[lane][c][tap]``, 0 beyond the last."""
    kd = block // s.taps_h
    tap = g.weight_first + kd * g.weight_d + (block - kd * s.taps_h) * g.weight_h
    line = offset(packed, block * g.channels * s.taps_w * g.padded)
    for vector in range(0, g.padded, g.vector):
        for kw in range(s.taps_w):
            for c in range(g.channels):
                for lane in range(vector, vector + g.vector):
                    place = (lane * g.channels + c) * g.weight_taps + tap + kw * g.weight_w
                    line[lane - vector] = weight[place] if lane < g.depth else 0
                line = offset(line, g.vector)


@kernel
def pack_starts(block, bias: "T*", starts: "T*", vector: "int64"):
    """One block: a channel's vector that begins with its bias."""
    clear_run(offset(starts, block * vector), vector)
    starts[block * vector] = bias[block]
