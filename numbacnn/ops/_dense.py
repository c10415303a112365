"""Arrays whose elements fill one stretch of memory, in whatever order of axes.

Element-wise kernels do not care about the order of axes, only that nothing lies between the elements: a channels-last
activation is as good as a C-contiguous one, and the result keeps its order.
"""

from __future__ import annotations

import functools

import numpy as np

from .layout import copy_into
from .memory import empty

__all__ = ["dense", "empty_like", "in_memory_of", "memory_order"]


def memory_order(x: np.ndarray) -> tuple[int, ...] | None:
    """The axes from slowest to fastest if the array is dense, else None.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4)).transpose(0, 2, 1))
    (0, 2, 1)
    >>> memory_order(np.zeros((2, 3, 4))[:, ::2]) is None
    True
    """
    return _order(x.shape, x.strides, x.itemsize)


@functools.lru_cache(maxsize=1024)
def _order(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    if 0 in shape:
        return tuple(range(len(shape)))
    order = tuple(sorted(range(len(shape)), key=lambda axis: (-abs(strides[axis]), -shape[axis])))
    expected = itemsize
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != expected:
                return None
            expected *= shape[axis]
    return order


@functools.lru_cache(maxsize=256)
def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def dense(x: np.ndarray) -> np.ndarray:
    """`x` itself if it is dense, else a dense copy with the axes in the same order in memory."""
    if memory_order(x) is not None:
        return x
    out = np.copy(x, order="K", subok=False)
    return out if memory_order(out) is not None else np.ascontiguousarray(x)


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array from the pool with the shape, dtype and memory order of the dense array `x`."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    order = memory_order(x)
    assert order is not None
    return empty(tuple([x.shape[axis] for axis in order]), x.dtype).transpose(_inverse(order))


def in_memory_of(like: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`x` in the memory order of the dense array `like`, which has its shape: itself if it already is, else a copy."""
    if x.strides == like.strides or x.size == 0:
        return x
    if all(
        a == b or extent == 1 for a, b, extent in zip(x.strides, like.strides, x.shape, strict=True)
    ):  # an axis of extent 1 may have any stride
        return x
    out = empty_like(like)
    if 3 <= x.ndim <= 5:
        copy_into(out, x)
    else:
        np.copyto(out, x)
    return out
