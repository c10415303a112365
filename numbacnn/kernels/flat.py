"""Walking over flat memory: what element-wise kernels share.

A block is `step` elements, a multiple of all vectors' lengths. The last vector of the last block may reach beyond the
end: only the elements inside are loaded, and stored. Vectors are `simd.wide`.
"""

from __future__ import annotations

from ._build import device
from .simd import lanes, load_first, load_like, store, store_first, stream, wide


@device
def span(block, step, size):
    """The block's first element and the one past its last."""
    return block * step, min(size, (block + 1) * step)


@device
def pace(x):
    """Elements of a vector."""
    return lanes(wide(x))


@device
def get(x, i, end):
    """The vector of elements from `i` on; zeros in place of those from `end` on."""
    if end - i >= lanes(wide(x)):
        return load_like(wide(x), x, i)
    return load_first(x, i, end - i, wide(x))


@device
def put(out, i, value, end, streamed):
    """Write a vector's elements that lie before `end`; whole vectors past the caches if `streamed`."""
    if end - i < lanes(value):
        store_first(out, i, value, end - i)
    elif streamed:
        stream(out, i, value)
    else:
        store(out, i, value)
