"""What groups of few channels are expected to take: by `strips`, and by the general algorithm.

A sum of what there is to do, each with a cost: only ratios matter. Fitted to 5,600 random problems of two to 32 groups,
of which one side has at most four channels, in one, two and three dimensions and both precisions, on two cores of an
Intel server; those of vectors of 32 bytes to 3,200, run there by code for such machines. With rules for numbers of
channels instead, 10 to 30 % were lost in the mean; 4 to 6 % now.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels._target import target
from ...kernels.strip_tile import SELECTED
from ...kernels.tile import tile_lanes
from . import blocking, strip_tables
from .lattice import taps_inside

if TYPE_CHECKING:
    from ..geometry import ConvGeometry
    from .strips import Fit


class Strips(NamedTuple):
    """Microseconds per million of what `strips` does."""

    products: float  # of vectors
    runs: float  # of taps side by side, which read what they share, for a vector of the result
    stored: float  # vectors of the result
    weights: float  # that are packed, or summed up, with the lanes that idle
    copies: float  # of vectors that are read as they lie, ...
    broadcasts: float  # ... made of one channel, ...
    permutations: float  # ... or of neighbours, in an order that the kernel knows
    selections: float  # of a channel to its group's part of a vector
    lanes: float  # copied one by one
    tables: float  # rows under the kernel that a panel of a row reads
    rows: float  # panels of rows


class General(NamedTuple):
    """The same of the general algorithm, and microseconds to start."""

    start: float
    products: float
    dots: float  # products of dot products
    taps: float  # of a position, for a group and a panel
    tiles: float  # positions, for a group and a panel
    image: float  # values of the result
    source: float  # values that are read, but for data gradients
    weights: float
    pieces: float  # and more of those if taps that follow on each other belong to several phases


# Of forward and data gradient, and of the gradient of weights; what comes in which place is said above.
if blocking.WIDE_VECTORS:
    STRIPS = Strips(73.7, 121, 2760, 1390, 800, 856, 1050, 325, 331, 6000, 12700)
    GENERAL = General(25, 3.99, 28.3, 316, 2320, 8.09, 23, 199, 690)
    STRIPS_WEIGHT = Strips(72.8, 298, 1660, 1610, 800, 1110, 1640, 445, 355, 9240, 31700)
    GENERAL_WEIGHT = General(0, 5.04, 0, 703, 0, 130, 62, 481, 0)
else:
    STRIPS = Strips(51.3, 45.9, 1890, 1620, 500, 486, 658, 245, 263, 3210, 74700)
    GENERAL = General(19.7, 5.19, 30.4, 285, 1880, 0, 22.5, 373, 617)
    STRIPS_WEIGHT = Strips(64.8, 87.9, 630, 1510, 500, 758, 1010, 342, 279, 6990, 146000)
    GENERAL_WEIGHT = General(0, 8.19, 0, 543, 0, 199, 54.2, 757, 0)


def ratio(direction: str, g: ConvGeometry, itemsize: int, fit: Fit) -> float:
    """How many times as long as the general algorithm `strips` takes, with the tables of `fit`."""
    costs = (STRIPS_WEIGHT, GENERAL_WEIGHT) if direction == "backward_weight" else (STRIPS, GENERAL)
    judged = blocking.judged(direction, g)
    times = [
        _time(costs[0], _strips_work(direction, one, itemsize, fit))
        / _time(costs[1], _general_work(direction, one, itemsize))
        for one in judged
    ]
    return math.prod(times) ** (1 / len(times))


def _time(costs: tuple[float, ...], counts: tuple[float, ...]) -> float:
    return sum(cost * count for cost, count in zip(costs, counts, strict=True))


def _strips_work(direction: str, g: ConvGeometry, itemsize: int, fit: Fit) -> Strips:
    """How often `strips` does what has a cost."""
    data, width = direction == "backward_data", target().lanes(itemsize)
    sources, lanes = (g.out_per_group, g.in_per_group) if data else (g.in_per_group, g.out_per_group)
    out, channels = (g.input, g.in_channels) if data else (g.output, g.out_channels)
    vectors = -(-channels // width)
    lines = g.batch * taps_inside(g, 0) * taps_inside(g, 1)
    segments = -(-strip_tables.longest_phase(strip_tables.classes_of(g, data)) // fit.segment)
    planes, rows = strip_tables.plane_lists(g, data)
    kept = direction == "backward_weight" or fit.ring[1] == (g.output if data else g.input)[1]
    copied_planes = len(set(planes.entries[:, 1].tolist())) if kept else len(planes.entries)
    copied_rows = copied_planes * len(set(rows.entries[:, 1].tolist()))
    copied_rows *= g.batch * segments * sources
    copied = copied_rows * fit.row.positions
    panels = g.batch * segments * -(-vectors // fit.panel)
    how = how_copied(sources, lanes, width)
    return Strips(
        products=g.batch * _taps_read(g) * sources * vectors,
        runs=lines * out[2] * sources * vectors,
        stored=g.batch * math.prod(out) * vectors,
        weights=vectors * width * g.taps * sources,
        copies=copied * vectors * (how == "copies"),
        broadcasts=copied * vectors * (how == "broadcasts"),
        permutations=copied * vectors * (how == "permutations"),
        selections=copied * (vectors + channels // lanes) * (how == "selections"),
        lanes=copied * channels * (how == "lanes"),
        tables=panels * len(planes.entries) * len(rows.entries) * sources,
        rows=panels * out[0] * out[1],
    )


def _taps_read(g: ConvGeometry) -> int:
    """Taps of all positions of a sample; neither algorithm leaves out what is padding along W."""
    return taps_inside(g, 0) * taps_inside(g, 1) * g.output[2] * g.kernel[2]


def how_copied(sources: int, lanes: int, width: int) -> str:
    """How `strip_rows.copy_vector` makes vectors of `width` lanes."""
    if lanes % width == 0:
        return "broadcasts"
    if sources == 1 and lanes == 1:
        return "copies"
    if (sources == lanes <= 4 and width % lanes == 0) or (lanes == 1 and sources <= 4):
        return "permutations"
    if sources == 1 and lanes in (2, 4):
        return "permutations"
    groups = width // lanes if width % lanes == 0 else 1 - (1 - width) // lanes  # of a vector, at most
    return "selections" if groups <= SELECTED else "lanes"


def _general_work(direction: str, g: ConvGeometry, itemsize: int) -> General:
    """How often the general algorithm does what has a cost."""
    data, full = direction == "backward_data", tile_lanes(itemsize)
    run, lanes = (g.out_per_group, g.in_per_group) if data else (g.in_per_group, g.out_per_group)
    out, channels = (g.input, g.in_channels) if data else (g.output, g.out_channels)
    panels = blocking.panels(lanes, full) * g.groups
    read, positions = g.batch * _taps_read(g), g.batch * math.prod(out)
    size = itemsize / 4
    dots = lanes <= blocking.DOT_LANES and direction != "backward_weight"
    weights = -(-2 * lanes // full) * full // 2 * g.groups * g.taps * run
    phases = math.prod(map(min, g.stride, g.kernel)) if data else 1
    return General(
        start=1e6,
        products=size * read * run * panels * full * (not dots),
        dots=size * read * run * g.groups * lanes * dots,
        taps=read * panels,
        tiles=positions * panels,
        image=size * positions * channels,
        source=0 if data else size * g.batch * math.prod(g.input) * g.in_channels,
        weights=weights,
        pieces=channels * g.taps * run * (phases > 1),
    )
