"""Sums over all positions, per channel: the bias gradient."""

from __future__ import annotations

from ._build import kernel
from .simd import lanes, load, store

ROWS = 4  # rows added per pass over the partial sums, which stay in L1


@kernel
def sum_rows(block, x: "T*", partial: "T[:, :]", rows: "int64", rows_per_block: "int64"):
    """One block: ``partial[block, c]`` is the sum of ``x[row, c]`` over its rows, added in order."""
    channels = partial.shape[1]
    first = block * rows_per_block
    last = min(first + rows_per_block, rows)
    out = block * channels
    for c in range(channels):
        partial[block, c] = 0
    whole = channels - channels % lanes(x)
    row = first
    while row < last:
        stop = min(row + ROWS, last)
        for c in range(0, whole, lanes(x)):
            total = load(partial, out + c)
            for r in range(row, stop):
                total += load(x, r * channels + c)
            store(partial, out + c, total)
        for c in range(whole, channels):
            for r in range(row, stop):
                partial[block, c] += x[r * channels + c]
        row = stop
