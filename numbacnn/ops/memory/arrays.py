"""Arrays whose memory comes from the pool and returns there by itself."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import size_class
from .recycling import pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

# What NumPy's function is without the protocol by which other classes' arrays take part.
_empty_like = inspect.unwrap(np.empty_like)
# Below a page, malloc recycles well by itself and in a fifth of the time that our book-keeping takes.
POOLED_FROM_BYTES = 4096


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array whose memory comes from the pool and returns there by itself.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype, default float32

    Returns
    -------
    ndarray
        A plain NumPy array. From 4 KB on it begins at a multiple of 64 bytes; smaller ones as NumPy aligns them.

    Examples
    --------
    >>> empty((2, 1024)).shape
    (2, 1024)
    """
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        return np.empty(shape, dtype)
    return _room(shape, dtype).array()


class Room:
    """Arrays as from `empty`, one after the other: what follows from their shape is done once.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    strides : tuple of int, optional
        Which the array fills without gaps.

    Examples
    --------
    >>> room = Room((3, 2), np.dtype(np.float32), (4, 12))
    >>> room().strides
    (4, 12)
    """

    __slots__ = ("_make", "dtype", "nbytes", "shape", "size", "strides")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None) -> None:
        self.nbytes = math.prod(shape) * dtype.itemsize
        self.shape, self.dtype, self.strides = shape, dtype, strides
        self.size = size_class(self.nbytes) if self.nbytes else 0
        self._make: Callable[[], np.ndarray] | None = None
        if self.nbytes < POOLED_FROM_BYTES:
            self._make = functools.partial(np.ndarray, shape, dtype, None, 0, strides)
            alike = self._make()
            if _empty_like(alike).strides == alike.strides:  # half the time; not so if axes of extent 1 lie oddly
                self._make = functools.partial(_empty_like, alike)

    def array(self) -> np.ndarray:
        """An uninitialised array."""
        make = self._make
        if make is None or (pool.guarding and self.nbytes):
            return pool.lease(self)
        return make()

    __call__ = array


_room = functools.lru_cache(maxsize=1024)(Room)


def empty_strided(shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...]) -> np.ndarray:
    """An uninitialised array as from `empty`, which its strides fill without gaps.

    Examples
    --------
    >>> empty_strided((3, 2), np.dtype(np.float32), (4, 12)).strides
    (4, 12)
    """
    return _room(shape, dtype, strides).array()


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array as from `empty` with the shape, dtype and strides of the dense array `x`.

    Examples
    --------
    >>> empty_like(np.zeros((3, 2), np.float32).T).strides
    (4, 8)
    """
    if not x.nbytes or (x.nbytes < POOLED_FROM_BYTES and not pool.guarding):
        return _empty_like(x, subok=False)
    return _room(x.shape, x.dtype, x.strides).array()
