"""Rows of channels that the transforms of Winograd convolution read and write, through tables of pointers."""

from __future__ import annotations

from ._build import device
from .pointer import load_pointer
from .simd import lanes, load, load_first, store, store_first


@device
def two_pointers(table, first, step, like):
    """Entries `first` and ``first + step`` of a table."""
    return load_pointer(table, first, like), load_pointer(table, first + step, like)


@device
def four_pointers(table, first, step, like):
    """Entries `first` to ``first + 3 * step`` of a table."""
    p0, p1 = two_pointers(table, first, step, like)
    p2, p3 = two_pointers(table, first + 2 * step, step, like)
    return p0, p1, p2, p3


@device
def put(row, c, value, count, adds):
    """Store a vector, or add it to what is there if `adds`, but touch no channel from `count` on."""
    if c + lanes(row) <= count:
        if adds:
            value = load(row, c) + value
        store(row, c, value)
    else:
        if adds:
            value = load_first(row, c, count - c, 0.0) + value
        store_first(row, c, value, count - c)
