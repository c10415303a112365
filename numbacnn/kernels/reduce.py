"""Sums over whole arrays, in blocks of `step` elements whose results are added in order."""

from __future__ import annotations

from ._build import kernel


@kernel
def squares(block, x: "T*", partial: "float64*", size: "int64", step: "int64"):
    """Per block the sum of squares, in float64."""
    total = 0.0
    for i in range(block * step, min(size, (block + 1) * step)):
        value = float(x[i])
        total += value * value
    partial[block] = total
