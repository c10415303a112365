"""Whether Winograd's algorithm is expected to be faster than the alternative: a model of both costs.

Both take time to start and time per multiplication; Winograd's multiplies less, but transforms input, outputs and
weights. The numbers are fitted to 2,000 convolutions of one, two and three axes, in float32 and float64, on two cores
of a Zen 3 server; only their ratios matter.

Forward and data gradient are judged by a single sample, so that a batch gives the bits of its samples. A batch shares
the transforms of the weights; so a single sample may lose a little where batches gain much. The weight gradient sums
over the batch anyway.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels.tile import tile_lanes
from . import row_runs
from .winograd_tiles import side_of, tiles_of

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

MIN_CHANNELS = 16  # vectors and panels are mostly empty with fewer

# The least ratio of times, general to Winograd's, that is taken.
ENOUGH = 0.93
# Multiply-adds per microsecond of the general algorithm. Its variant for short rows is faster by so much per channel.
OTHER_RATE, ROW_RUNS = 70e3, 3.2


class Costs(NamedTuple):
    """Of one direction; times in microseconds."""

    other_start: float  # what the general algorithm takes before the first multiplication
    start: float
    rate: float  # multiply-adds per microsecond
    source: float  # per value of transformed input
    destination: float  # per value of products or transformed gradients
    weight: float  # per value of transformed weights


# By number of transformed axes and whether there are taps along D. Rates are lower than the general algorithm's because
# the products are small, and because what is transformed passes through L2 or beyond: with two axes, most of that is
# the input, with taps along D the weights; with one axis all values are few, and it is the rows that are short.
DATA = {
    (1, False): Costs(55, 74, 50e3, 0.14e-3, 0.10e-3, 0.25e-3),
    (2, False): Costs(54, 69, 32e3, 0.24e-3, 0.00e-3, 0.03e-3),
    (2, True): Costs(51, 63, 48e3, 0.00e-3, 0.08e-3, 0.36e-3),
}
# Sums pass through memory once per portion of tiles, both operands once: dearer than in the other directions.
WEIGHT = {
    (1, False): Costs(17, 34, 35e3, 0.09e-3, 0.09e-3, 0.00e-3),
    (2, False): Costs(68, 90, 45e3, 0.50e-3, 0.46e-3, 0.10e-3),
    (2, True): Costs(94, 109, 51e3, 1.17e-3, 0.25e-3, 0.14e-3),
}


def declines(direction: str, g: ConvGeometry) -> str | None:
    """None, or why the general algorithm is expected to be as fast."""
    side = side_of(g, direction)
    if side.run < MIN_CHANNELS or side.lanes < MIN_CHANNELS:
        return f"{side.run} and {side.lanes} channels per group are few"
    other, winograd = _times(direction, g, _costs(direction, g))
    if other >= winograd * ENOUGH:
        return None
    return f"it is expected to take {winograd / other:.2f} times as long as the general algorithm"


def _costs(direction: str, g: ConvGeometry) -> Costs:
    table = WEIGHT if direction == "backward_weight" else DATA
    axes = sum(taps > 1 for taps in g.kernel[1:])
    return table.get((axes, g.kernel[0] > 1), table[axes, False])


def _times(direction: str, g: ConvGeometry, costs: Costs) -> tuple[float, float]:
    """What the general algorithm and Winograd's are expected to take."""
    side, batch = side_of(g, direction), max(1, g.batch) if direction == "backward_weight" else 1
    width = tile_lanes(4)
    lanes = g.groups * -(-side.lanes // width) * width
    tiles = tiles_of(g, side)
    columns = batch * tiles.tiles_h * tiles.tiles_w
    values = tiles.points * columns * side.source[0] * side.source_channels
    products = tiles.points * columns * side.out[0] * side.out_channels
    weights = tiles.points * g.kernel[0] * side.run * lanes
    other = costs.other_start + batch * math.prod(side.out) * g.taps * side.run * lanes / OTHER_RATE
    if row_runs.accepts(direction, g) is None:
        other /= 1 + ROW_RUNS / side.run
    transforms = values * costs.source + products * costs.destination + weights * costs.weight
    multiplications = tiles.points * columns * side.out[0] * g.kernel[0] * side.run * lanes
    return other, costs.start + multiplications / costs.rate + transforms
