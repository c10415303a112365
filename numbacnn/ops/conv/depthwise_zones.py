"""Which points along the width a depthwise convolution computes in tiles, and which one by one: see the kernel.

A *class* is a set of destination coordinates that share their taps (one forward; one per residue of the stride in the
data gradient). The points of each are a zone, but those that padding other than by zeros gives sources of their own:
they become columns.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels.conv_depthwise import COLUMN_FIELDS, ZONE_FIELDS
from ..padding import source_index
from .strip_tables import Class, classes_of, forward_classes, pairs_inside, pairs_through_padding

if TYPE_CHECKING:
    from ..geometry import ConvGeometry


class Zones(NamedTuple):
    """The width of one direction as the kernel's tables."""

    zones: np.ndarray
    columns: np.ndarray
    picks: np.ndarray
    longest: int  # most picks of a column

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.zones) // ZONE_FIELDS, len(self.columns) // COLUMN_FIELDS


@functools.lru_cache(maxsize=512)
def plan_zones(g: ConvGeometry, transposed: bool, most_picks: int) -> Zones | None:
    """The tables of the forward convolution or (`transposed`) its data gradient; None if columns list more taps."""
    classes = classes_of(g, transposed)
    extra = pairs_through_padding(g) if transposed else {}
    zones: list[list[int]] = []
    columns: list[list[int]] = []
    picks: list[tuple[int, int]] = []
    for c in classes:
        covered = np.zeros(c.points, bool)
        everywhere = transposed or g.padding_mode[2] == "zeros"
        inside = _inside(c, g.output[2] if transposed else g.input[2])
        whole = (0, c.points) if everywhere else inside
        special = [(q - c.start) // c.stride for q in extra if q >= c.start and (q - c.start) % c.stride == 0]
        for first, last in _without(special, *whole):
            tap, tap_step = (c.taps[0], c.taps[-1] - c.taps[-2] if len(c.taps) > 1 else 0) if c.taps else (0, 0)
            start, source = c.start + c.stride * first, c.alpha * first + c.gamma
            zone = [start, c.stride, last - first, source, c.alpha, c.beta, tap, tap_step, len(c.taps)]
            zones.append([*zone, inside[0] - first, inside[1] - first])
            covered[first:last] = True
        for point in np.flatnonzero(~covered).tolist():
            q = c.start + c.stride * point
            pairs = pairs_inside(g, q) + extra.get(q, []) if transposed else _sources_forward(g, q)
            columns.append([q, len(picks), len(pairs)])
            picks += pairs
            if len(picks) > most_picks:
                return None
    tables = [np.array(rows, np.int64).ravel() for rows in (zones, columns, picks)]
    return Zones(tables[0], tables[1], tables[2], max([0, *(column[2] for column in columns)]))


def _inside(c: Class, size: int) -> tuple[int, int]:
    """The first point whose taps all lie inside a source of some size, and one beyond the last."""
    if not c.taps:
        return 0, c.points
    reach = c.gamma + c.beta * (len(c.taps) - 1)
    return max(0, -(c.gamma // c.alpha)), min(c.points, (size - 1 - reach) // c.alpha + 1)


def _without(special: list[int], first: int, last: int) -> list[tuple[int, int]]:
    """The stretches that ``first .. last`` falls into without the `special` points."""
    cuts = [first - 1, *sorted(p for p in special if first <= p < last), last]
    return [(before + 1, after) for before, after in itertools.pairwise(cuts) if after > before + 1]


def _sources_forward(g: ConvGeometry, q: int) -> list[tuple[int, int]]:
    """The (tap, source) pairs of output coordinate `q`."""
    low = g.pad_low[2] - g.stride[2] * q
    row = source_index(g.input[2], 1, g.kernel[2], g.stride[2], g.dilation[2], low, g.padding_mode[2])[0]
    return [(tap, source) for tap, source in enumerate(row.tolist()) if source >= 0]


@functools.lru_cache(maxsize=512)
def weight_zones(g: ConvGeometry, most: int) -> np.ndarray | None:
    """The zones of the weight gradient's rows, as its kernel's table; None if there are more than `most`."""
    (c,) = forward_classes(g)
    zones: list[list[int]] = []
    before: dict[tuple[int, int], list[int]] = {}  # by first tap and number of taps, those that end with the last point
    q = 0
    inside = dict(_without([], *_inside(c, g.input[2])))
    while q < g.output[2]:
        if q in inside:
            zones.append([q, inside[q] - q, g.stride[2] * q - g.pad_low[2], 0, g.kernel[2]])
            q, before = inside[q], {}
            continue
        here: dict[tuple[int, int], list[int]] = {}
        for source, tap, taps in _runs(_sources_forward(g, q), g.dilation[2]):
            zone = before.get((tap, taps))
            if zone and zone[2] + g.stride[2] * zone[1] == source:
                zone[1] += 1
            else:
                zone = [q, 1, source, tap, taps]
                zones.append(zone)
            here[tap, taps] = zone
        q, before = q + 1, here
        if len(zones) > most:
            return None
    return np.array(zones, np.int64).reshape(-1, 5)


def _runs(pairs: list[tuple[int, int]], dilation: int) -> list[list[int]]:
    """Successive taps whose sources are `dilation` apart: the first's source, the first, how many."""
    runs: list[list[int]] = []
    for tap, source in pairs:
        last = runs[-1] if runs else None
        if last and last[1] + last[2] == tap and last[0] + dilation * last[2] == source:
            last[2] += 1
        else:
            runs.append([source, tap, 1])
    return runs
