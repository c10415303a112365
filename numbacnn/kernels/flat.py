"""Walking over flat memory: what element-wise kernels share.

A block is `step` elements, a multiple of all vectors' lengths. The last vector of the last block may reach beyond the
end: only the elements inside are loaded, and stored. Vectors are `simd.wide`.
"""

from __future__ import annotations

from ._build import device, inlined
from .pointer import prefetch_read, prefetch_write
from .simd import lanes, line, load_first, load_like, store, store_first, stream, wide

# Cache lines that are asked for ahead of the vector read, and written, beside vectors of 64 bytes: there even what lies
# in the second-level cache comes up to a tenth later by itself.
READ_AHEAD, WRITE_AHEAD = 16, 8


@device
def span(block, step, size):
    """The block's first element and the one past its last."""
    return block * step, min(size, (block + 1) * step)


@device
def pace(x):
    """Elements of a vector."""
    return lanes(wide(x))


@inlined
def ask(prefetch, x, i):
    """Ask for the four lines from `i` on, where they are as many as vectors."""
    if lanes(x) >= line(x):
        prefetch(x, i)
        prefetch(x, i + line(x))
        prefetch(x, i + 2 * line(x))
        prefetch(x, i + 3 * line(x))


@device
def ask_to_read(x, i):
    """Ask for what is read a little later than the `simd.wide` vector from `i` on."""
    ask(prefetch_read, x, i + READ_AHEAD * line(x))


@device
def ask_to_write(out, i):
    """Ask for what is written a little later than the `simd.wide` vector from `i` on."""
    ask(prefetch_write, out, i + WRITE_AHEAD * line(out))


@device
def get(x, i, end):
    """The vector of elements from `i` on; zeros in place of those from `end` on."""
    if end - i >= lanes(wide(x)):
        ask_to_read(x, i)
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
        ask_to_write(out, i)
        store(out, i, value)
