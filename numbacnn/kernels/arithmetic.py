"""Sums and products of arrays, element by element over flat memory; blocks and `streamed` are as in `flat`.

The result may be one of the operands. Every result is rounded once, as NumPy's: a product with 1 or -1 is exact, and so
is adding -0.
"""

from __future__ import annotations

from ._build import kernel
from .flat import get, pace, put, span
from .simd import fma


@kernel
def add_scaled(block, x: "T*", y: "T*", out: "T*", scale: "T", size: "int64", step: "int64", streamed: "int64"):
    """``x + scale * y``: a sum or, with -1, a difference."""
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, fma(get(y, i, end), scale, get(x, i, end)), end, streamed)


@kernel
def multiply(block, x: "T*", y: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    """``x * y``."""
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, get(x, i, end) * get(y, i, end), end, streamed)


@kernel
def scale_and_shift(block, x: "T*", numbers: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    """``x * scale + shift``, the two `numbers`: a sum, a difference (scale of -1) or a product (shift of -0)."""
    first, end = span(block, step, size)
    scale, shift = numbers[0], numbers[1]
    for i in range(first, end, pace(out)):
        put(out, i, fma(get(x, i, end), scale, shift), end, streamed)
