"""Arrays whose memory comes from the pool and returns there by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import size_class
from .recycling import pool

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_ndarray = np.ndarray  # a name of this module is found sooner, and this is looked up at every call
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
    nbytes = math.prod(shape) * dtype.itemsize
    if (nbytes < POOLED_FROM_BYTES and not pool.guarding) or nbytes <= 0 or dtype.hasobject:
        return np.empty(shape, dtype)
    return pool.lease(shape, dtype, nbytes, size_class(nbytes))


def _c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple([itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))])


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

    __slots__ = ("_dtype", "_nbytes", "_shape", "_size", "_strides")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None) -> None:
        self._nbytes = math.prod(shape) * dtype.itemsize
        if strides == _c_strides(shape, dtype.itemsize):
            strides = None  # as it is, and made sooner
        self._shape, self._dtype, self._strides = shape, dtype, strides
        self._size = size_class(self._nbytes) if self._nbytes else 0

    def array(self) -> np.ndarray:
        """An uninitialised array."""
        nbytes = self._nbytes
        if nbytes >= POOLED_FROM_BYTES or (pool.guarding and nbytes):
            return pool.lease(self._shape, self._dtype, nbytes, self._size, self._strides)
        if self._strides is None:
            return _ndarray(self._shape, self._dtype)
        return _ndarray(self._shape, self._dtype, None, 0, self._strides)

    __call__ = array


def empty_strided(shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...], nbytes: int) -> np.ndarray:
    """An uninitialised array as from `empty` of `nbytes` bytes, which its strides fill without gaps.

    Examples
    --------
    >>> empty_strided((3, 2), np.dtype(np.float32), (4, 12), 24).strides
    (4, 12)
    """
    if (nbytes < POOLED_FROM_BYTES and not pool.guarding) or nbytes <= 0:
        return np.ndarray(shape, dtype, strides=strides)
    return pool.lease(shape, dtype, nbytes, size_class(nbytes), strides)


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array as from `empty` with the shape, dtype and strides of the dense array `x`.

    Examples
    --------
    >>> empty_like(np.zeros((3, 2), np.float32).T).strides
    (4, 8)
    """
    nbytes = x.nbytes
    if (nbytes < POOLED_FROM_BYTES and not pool.guarding) or nbytes <= 0:
        return np.empty_like(x, subok=False)
    return pool.lease(x.shape, x.dtype, nbytes, size_class(nbytes), x.strides)
