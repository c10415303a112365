"""Rows of channels that lie a stride apart in an image: gathered side by side, or spread out again.

What a convolution of one tap under a stride reads, and what its data gradient writes.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .pointer import offset
from .runs import copy_run


class StridedRows(NamedTuple):
    """The positions of a lattice in an image, (D, H, W)."""

    rows: int  # lattice positions of all samples
    points_d: int  # lattice positions per sample along each axis
    points_h: int
    points_w: int
    size_d: int  # of the image
    size_h: int
    size_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    channels: int
    block_rows: int


@device
def _place(row, s):
    """The image position, all samples numbered through, of a lattice position."""
    w, row = row % s.points_w, row // s.points_w
    h, row = row % s.points_h, row // s.points_h
    d, n = row % s.points_d, row // s.points_d
    return ((n * s.size_d + d * s.stride_d) * s.size_h + h * s.stride_h) * s.size_w + w * s.stride_w


@kernel
def gather_rows(block, image: "T*", rows: "T*", first: "int64", last: "int64", s: "StridedRows"):
    """One block: the next lattice positions from `first` on, but not `last`; theirs is the first of `rows`."""
    row = first + block * s.block_rows
    end = min(row + s.block_rows, last)
    while row < end:
        place = _place(row, s)
        count = min(s.points_w - row % s.points_w, end - row)
        for i in range(count):
            source = offset(image, (place + i * s.stride_w) * s.channels)
            copy_run(offset(rows, (row - first + i) * s.channels), source, s.channels)
        row += count


@kernel
def spread_rows(block, rows: "T*", fill: "T*", image: "T*", first: "int64", last: "int64", s: "StridedRows"):
    """As `gather_rows`, the other way; positions up to the next of the lattice become the row `fill`."""
    row = first + block * s.block_rows
    end = min(row + s.block_rows, last)
    while row < end:
        place = _place(row, s)
        count = min(s.points_w - row % s.points_w, end - row)
        beyond = s.rows // (s.points_d * s.points_h * s.points_w) * s.size_d * s.size_h * s.size_w
        if row + count < s.rows:
            beyond = _place(row + count, s)
        for i in range(count):
            target = offset(image, place * s.channels)
            copy_run(target, offset(rows, (row - first + i) * s.channels), s.channels)
            following = place + s.stride_w if i + 1 < count else beyond
            for _ in range(following - place - 1):
                target = offset(target, s.channels)
                copy_run(target, fill, s.channels)
            place = following
        row += count
