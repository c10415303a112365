"""Runs of elements side by side: copied, cleared, asked for; and how a range is cut into parts."""

from __future__ import annotations

from ._build import device
from .pointer import prefetch_read
from .simd import eighth, half, lanes, line, load, load_like, quarter, splat, store


@device
def even_part(i, parts, total):
    """First element and size of part `i` when `total` is cut evenly."""
    first = i * total // parts
    return first, (i + 1) * total // parts - first


@device
def copy_ends(target, source, count, like):
    """``target[i] = source[i]`` for as many elements as `like` has lanes, or up to twice as many: some may go twice."""
    last = count - lanes(like)
    store(target, 0, load_like(like, source, 0))
    store(target, last, load_like(like, source, last))


@device
def copy_run(target, source, count):
    """``target[i] = source[i]`` for ``i < count``; the two do not overlap."""
    n = lanes(target)
    if count >= n:
        for i in range(0, count - n, n):
            store(target, i, load(source, i))
        store(target, count - n, load(source, count - n))  # what is left, and perhaps some once more
    elif count >= lanes(half(target)):
        copy_ends(target, source, count, half(target))
    elif count >= lanes(quarter(target)):
        copy_ends(target, source, count, quarter(target))
    elif count >= lanes(eighth(target)):
        copy_ends(target, source, count, eighth(target))
    elif count == 1:  # less than an eighth of the widest vectors
        target[0] = source[0]


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


@device
def ask_for(source, count):
    """Ask for ``source[i]``, ``i < count``, and the rest of the cache line where they end."""
    step = line(source)
    for i in range(0, count + step - 1, step):
        prefetch_read(source, i)
