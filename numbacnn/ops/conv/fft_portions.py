"""How much of a convolution of several channels by Fourier transforms is in memory at a time."""

from __future__ import annotations

from typing import NamedTuple

from ...kernels._target import target
from . import blocking

# What a call holds of blocks' values, of products (or the gradients' values), and of kernels' spectra (or their sums).
VALUES_BYTES, PRODUCTS_BYTES, SPECTRA_BYTES = 4 << 20, 2 << 20, 5 << 20
# Pairs whose pointers fit the tables of a block of products.
MOST_PAIRS = 1024


class Extents(NamedTuple):
    """What a direction sums over and produces."""

    channels: int  # of the source
    groups: int
    run: int  # channels of the source in a group
    panels: int  # vectors of the destination in a group
    pairs: int  # of blocks of a sample
    all_pairs: int
    block_bytes: int
    gradient: bool  # of the weight


class Portion(NamedTuple):
    """What goes through together."""

    share: int  # pairs that lie side by side in a vector
    vectors: int  # of the source's channels
    units: int  # of so many pairs
    run: int  # channels of the sum
    panels: int
    keeps_values: bool  # whether it has the values of all channels

    def parts(self, e: Extents) -> tuple[int, int, int]:
        """How many portions there are of units, of the panels of all groups, and of a run."""
        units, runs = -(-e.all_pairs // (self.share * self.units)), -(-e.run // self.run)
        together = e.groups if self.keeps_values and runs == 1 else 1  # groups whose panels are cut together
        return units, e.groups // together * -(-together * e.panels // self.panels), runs


class Again(NamedTuple):
    """How often what there is of each kind is transformed."""

    source: int
    destination: int
    kernels: int


ONCE = Again(1, 1, 1)


def portion_of(e: Extents, itemsize: int) -> Portion:
    """The channels depend on the geometry of a sample only."""
    lanes = target().lanes(itemsize)
    share, vectors = lanes_of(e.channels, itemsize)
    share = min(share, e.pairs, max(1, PRODUCTS_BYTES // (2 * e.block_bytes)))
    aligned = e.groups == 1 or e.run % lanes == 0  # groups begin with vectors
    most_vectors = max(2, VALUES_BYTES // e.block_bytes)
    keeps_values, run, held = vectors <= most_vectors, e.run, vectors
    if not keeps_values:  # a run need not begin with a vector
        run = min(run, (most_vectors - 1) * lanes)
        held = min(most_vectors, (run - 1) // lanes + 2)
    spectrum = e.block_bytes // 2 if e.gradient else e.block_bytes  # of one channel and panel
    run = min(run, max(2, SPECTRA_BYTES // spectrum // 2 * 2))
    product = share * e.block_bytes * (2 if e.gradient else 1)  # of one unit and panel
    left = VALUES_BYTES + PRODUCTS_BYTES + SPECTRA_BYTES - product
    if product > PRODUCTS_BYTES and held * e.block_bytes + run * spectrum > left:  # longest blocks: a unit, a panel
        keeps_values = False
        held = -(-run // lanes) if aligned and (lanes % run == 0 or run % lanes == 0) else (run - 1) // lanes + 2
        run = min(run, max(2, (left - held * e.block_bytes) // spectrum // 2 * 2))
    units = min(VALUES_BYTES // (held * e.block_bytes), PRODUCTS_BYTES // product, MOST_PAIRS // share)
    units = max(1, units)
    panels = min(e.panels * e.groups, PRODUCTS_BYTES // (units * product), SPECTRA_BYTES // (run * spectrum))
    return Portion(share, vectors, units, run, max(1, panels), keeps_values)


def again(e: Extents, itemsize: int) -> Again:
    """How often values and kernels are transformed, as portions of others need them."""
    p = portion_of(e, itemsize)
    units, panels, runs = p.parts(e)
    source = panels // e.groups if runs > 1 and not p.keeps_values else 1
    if not e.gradient:
        return Again(source, 1, units if panels * runs > 1 else 1)
    if units > 1:
        source = panels * runs if p.keeps_values else panels // e.groups
    return Again(source, runs, 1)


def lanes_of(channels: int, itemsize: int) -> tuple[int, int]:
    """Pairs that lie side by side in a vector, and vectors of channels."""
    lanes = target().lanes(itemsize)
    return (lanes // channels, 1) if channels <= lanes // 2 else (1, -(-channels // lanes))


def portions(total: int, largest: int) -> list[tuple[int, int]]:
    """First and size of even portions.

    Examples
    --------
    >>> portions(10, 4)
    [(0, 4), (4, 4), (8, 2)]
    """
    size = blocking.split_evenly(total, largest)
    return [(first, min(size, total - first)) for first in range(0, total, size)]
