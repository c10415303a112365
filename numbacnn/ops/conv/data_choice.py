"""What a data gradient is expected to take: by the general algorithm, `col2im`, `row_runs` and `lane_sums`.

A sum of what there is to do, each with a cost: only ratios matter. Those of vectors of 64 bytes were fitted to 1,500
random problems of one, two and three axes in both precisions, on two cores of an Intel server (before, the slower
algorithm was chosen for every seventh, and 4 % were lost in the mean; 2.7 % now); what `col2im` takes, once more, to
3,000 with strides, after matrix products had become faster (2.6 and 3.7 % lost in float32 and float64; 1.9 and 2.8 %
now); those of narrower ones to 2,900 problems on two cores of a Zen 3 server (6.2 % lost before, when but two of the
four were weighed, 4.4 % now, and much of it scatter of a machine that others use as well).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels.lane_sum_tile import MOST_POINTS
from ...kernels.tile import MAX_ROWS, tile_lanes
from . import blocking
from .lattice import joined_stretches, taps_inside, taps_met

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..geometry import ConvGeometry

# A tile of rows takes as long as so many rows more.
TILE_ROWS = 0.7


class General(NamedTuple):
    """Microseconds of the general algorithm: to start, per phase, and per million of what follows."""

    start: float
    phase: float
    weights: float  # that are packed
    pieces: float  # and more of those, if taps that follow on each other belong to several phases
    lines: float  # and more for every further phase, which reads what lies in the same lines
    again: float  # and of those that are packed once more, for further columns of a line that are joined
    products: float  # that are no products with zeros
    image: float  # values of the result
    unread: float  # and more of those that no tap reads, beside a stride: phases that write zeros


class Columns(NamedTuple):
    """The same of `col2im`."""

    start: float
    weights: float
    products: float
    image: float
    sums: float  # products that are added to the image
    steps: float  # of positions and taps


class Rows(NamedTuple):
    """The same of `row_runs`."""

    start: float
    products: float
    adds: float  # of vectors
    sums: float
    weights: float


class Lanes(NamedTuple):
    """The same of `lane_sums`."""

    start: float
    products: float  # of vectors
    masked: float  # columns of lines of taps in tiles that reach beyond the image, or in those of part of a vector
    tiles: float  # with 16 sums, and as much again to begin one
    weights: float


if blocking.WIDE_VECTORS:
    GENERAL = General(6.54, 1.59, weights=270, pieces=63.8, lines=10, again=111, products=5.65, image=167, unread=250)
    COLUMNS = Columns(10.5, weights=88.8, products=5.33, image=389, sums=262, steps=1310)
    LANES = Lanes(3.3, products=147, masked=310, tiles=8300, weights=1090)
    ROWS = Rows(7.72, products=6.84, adds=812, sums=19.9, weights=1090)
else:
    GENERAL = General(25.7, 0, weights=324, pieces=41.2, lines=7.63, again=244, products=13.4, image=193, unread=0)
    COLUMNS = Columns(19.6, weights=85.9, products=13, image=454, sums=355, steps=1400)
    LANES = Lanes(6, products=136, masked=271, tiles=12500, weights=0)
    ROWS = Rows(17.2, products=15.3, adds=554, sums=99, weights=641)


def ratio(time: Callable[[ConvGeometry, int], float], g: ConvGeometry, itemsize: int) -> float:
    """How many times as long as the general algorithm another one takes."""
    judged = blocking.judged("backward_data", g)
    return math.prod(time(g, itemsize) / general(g, itemsize) for g in judged) ** (1 / len(judged))


def general(g: ConvGeometry, itemsize: int) -> float:
    """Microseconds of the general algorithm."""
    c, full = GENERAL, tile_lanes(itemsize)
    read = g.batch * taps_inside(g, 0) * taps_inside(g, 1) * _taps_of_lines(g)
    panels = blocking.panels(g.in_channels, full)
    packed = -(-2 * g.in_channels // full) * full // 2 * g.taps * g.out_channels
    phases = math.prod(map(min, g.stride, g.kernel))
    pieces = (c.pieces if phases > 1 else 0) + c.lines * (phases - 1)
    weights = c.weights + pieces + c.again * max(0, joined_stretches(g) - 1)
    image = c.image + c.unread * (1 - _share_read(g))
    work = weights * packed + c.products * read * g.out_channels * panels * full
    return c.start + c.phase * phases + 1e-6 * (work + image * _image(g))


def columns(g: ConvGeometry, itemsize: int) -> float:
    """Microseconds of `col2im`."""
    c, positions = COLUMNS, _positions(g)
    weights = g.in_channels * g.taps * g.out_channels
    work = weights * (c.weights + c.products * (positions + TILE_ROWS * -(-positions // MAX_ROWS)))
    return c.start + 1e-6 * (work + c.image * _image(g) + (c.sums * g.in_channels + c.steps) * positions * g.taps)


def rows(g: ConvGeometry, itemsize: int) -> float:
    """Microseconds of `row_runs`."""
    c, full, positions = ROWS, tile_lanes(itemsize), _positions(g)
    count, line = g.in_channels * g.taps, g.kernel[2] if g.dilation[2] == 1 else 1
    products = positions * g.out_channels * blocking.panels(count, full) * full
    adds = positions * g.taps // line * -(-2 * g.in_channels * line // full)
    work = c.products * products + c.adds * adds + c.sums * positions * count + c.weights * count * g.out_channels
    return c.start + 1e-6 * work


def lane_sums(g: ConvGeometry, itemsize: int) -> float:
    """Microseconds of `lane_sums`."""
    c, lanes, points = LANES, tile_lanes(itemsize) // 2, MOST_POINTS[g.in_channels]
    vectors = -(-g.out_channels // lanes)
    apart = min(g.dilation[2], g.input[2])  # neighbours that read the same
    rows, columns = g.batch * g.input[0] * g.input[1] * apart, -(-g.input[2] // apart)
    tiles, taps = -(-columns // points), g.kernel[2]
    masked = tiles if g.out_channels % lanes else min(tiles, 2 + taps // points)
    lines = g.kernel[0] * g.kernel[1] * vectors
    row = lines * (c.products * g.in_channels * taps * columns + c.masked * masked * (points + taps))
    row += c.tiles * tiles * (1 + points * g.in_channels / 16)
    return c.start + 1e-6 * (rows * row + c.weights * g.in_channels * g.taps * vectors * lanes)


def _taps_of_lines(g: ConvGeometry) -> int:
    """Taps that the general algorithm meets along W: few outputs are met by tiles of many positions."""
    inside, (met, taps) = taps_inside(g, 2), taps_met(g, "backward_data", 2, MAX_ROWS)
    return met if inside < blocking.MOSTLY_INSIDE * taps else inside


def _share_read(g: ConvGeometry) -> float:
    """The share of the image's positions that taps read: beside a stride they may meet some residues only."""
    axes = zip(g.kernel, g.stride, g.dilation, strict=True)
    return math.prod(min(k, s // math.gcd(s, d)) / s for k, s, d in axes)


def _positions(g: ConvGeometry) -> int:
    return g.batch * math.prod(g.output)


def _image(g: ConvGeometry) -> int:
    return g.batch * math.prod(g.input) * g.in_channels
