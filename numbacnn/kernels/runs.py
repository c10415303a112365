"""Runs of elements side by side: copied, cleared; and how a range is cut into parts."""

from __future__ import annotations

from ._build import device
from .simd import lanes, load, splat, store


@device
def even_part(i, parts, total):
    """First element and size of part `i` when `total` is cut evenly."""
    first = i * total // parts
    return first, (i + 1) * total // parts - first


@device
def copy_run(target, source, count):
    """``target[i] = source[i]`` for ``i < count``; the two do not overlap."""
    n = lanes(target)
    if count < n:
        for i in range(count):
            target[i] = source[i]
    else:
        for i in range(0, count - n, n):
            store(target, i, load(source, i))
        store(target, count - n, load(source, count - n))  # what is left, and perhaps some once more


@device
def clear_run(target, count):
    """``target[i] = 0`` for ``i < count``."""
    n = lanes(target)
    if count < n:
        for i in range(count):
            target[i] = 0
    else:
        for i in range(0, count - n, n):
            store(target, i, splat(target, 0))
        store(target, count - n, splat(target, 0))
