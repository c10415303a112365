"""Sums and products of arrays, element by element over flat memory.

One block is the elements ``block * step`` up to ``(block + 1) * step``. The loops are written in vectors, so that they
stay vectors where the result is one of the operands: a compiler cannot tell that from arrays that overlap.

Every result is rounded once, as NumPy's: a product with 1 or -1 is exact, and so is adding -0.
"""

from __future__ import annotations

from ._build import kernel
from .simd import fma, lanes, load, load_first, splat, store, store_first


@kernel
def add_scaled(block, x: "T*", y: "T*", out: "T*", scale: "T", size: "int64", step: "int64"):
    """``x + scale * y``: a sum or, with -1, a difference."""
    end = min(size, (block + 1) * step)
    whole = end - end % lanes(x)
    for i in range(block * step, whole, lanes(x)):
        store(out, i, fma(load(y, i), scale, load(x, i)))
    if whole < end:
        zero = splat(x, 0.0)
        last = fma(load_first(y, whole, end - whole, zero), scale, load_first(x, whole, end - whole, zero))
        store_first(out, whole, last, end - whole)


@kernel
def multiply(block, x: "T*", y: "T*", out: "T*", size: "int64", step: "int64"):
    """``x * y``."""
    end = min(size, (block + 1) * step)
    whole = end - end % lanes(x)
    for i in range(block * step, whole, lanes(x)):
        store(out, i, load(x, i) * load(y, i))
    if whole < end:
        zero = splat(x, 0.0)
        last = load_first(x, whole, end - whole, zero) * load_first(y, whole, end - whole, zero)
        store_first(out, whole, last, end - whole)


@kernel
def scale_and_shift(block, x: "T*", out: "T*", scale: "T", shift: "T", size: "int64", step: "int64"):
    """``x * scale + shift``: with a scale of 1 or -1 a sum or difference, with a shift of -0 a product."""
    end = min(size, (block + 1) * step)
    whole = end - end % lanes(x)
    for i in range(block * step, whole, lanes(x)):
        store(out, i, fma(load(x, i), scale, splat(x, shift)))
    if whole < end:
        last = fma(load_first(x, whole, end - whole, splat(x, shift)), scale, splat(x, shift))
        store_first(out, whole, last, end - whole)
