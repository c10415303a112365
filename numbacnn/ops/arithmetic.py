"""Element-wise functions of two arrays; large sums, differences and products on all cores, in the pool's memory.

What NumPy computes within its own call overhead stays with NumPy, and so does whatever broadcasts, mixes dtypes or has
gaps in memory. Values are NumPy's to the bit either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import arithmetic as kernels
from ._dense import empty_like, flat_program, known_call, memory_order
from .layout import channels_last, is_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["elementwise", "negative"]

# Below this, one core is done before others have woken up, and malloc's memory is as good as the pool's.
LARGE_BYTES = 1 << 18
# Nanoseconds per element on one core.
NS_PER_ELEMENT = 0.25

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# The kernel for two arrays, with its scalars.
_PAIRS: dict[Any, tuple[Any, tuple[float, ...]]] = {
    np.add: (kernels.add_scaled, (1.0,)),
    np.subtract: (kernels.add_scaled, (-1.0,)),
    np.multiply: (kernels.multiply, ()),
}
# Scale and shift that give the function of an array and a number, and of a number and an array.
_WITH_NUMBER: dict[Any, Callable[[float], tuple[float, float]]] = {
    np.add: lambda number: (1.0, number),
    np.subtract: lambda number: (1.0, -number),
    np.multiply: lambda number: (number, -0.0),
}
_FROM_NUMBER = {**_WITH_NUMBER, np.subtract: lambda number: (-1.0, number)}


def elementwise(ufunc: Callable[..., Any], x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``ufunc(x, y)``.

    Sums, differences and products of a large float array and another of its dtype and shape, or a number of its
    dtype, are computed on all cores, without floating-point warnings. The result then has the memory order of the
    operands; channels-last, if they differ and one of them is.

    Parameters
    ----------
    ufunc : numpy.ufunc
    x, y : ndarray
    out : ndarray, optional
        Where the result goes: an operand, or memory that overlaps neither.

    Examples
    --------
    >>> elementwise(np.add, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([4., 6.])
    """
    if x.nbytes < LARGE_BYTES and y.nbytes < LARGE_BYTES:
        return ufunc(x, y, out=out)
    if out is None and x.strides == y.strides and x.shape == y.shape and x.dtype is y.dtype and ufunc in _PAIRS:
        kernel, scalars = _PAIRS[ufunc]
        call = known_call(kernel, NS_PER_ELEMENT, 2, x.dtype, x.shape, x.strides, scalars)
        if call is not None:
            return call(x, y)
    if ufunc in _PAIRS and x.dtype == y.dtype and x.dtype in _FLOATS:
        if y.ndim == 0 and _is_flat(x):
            return _with_number(x, _WITH_NUMBER[ufunc](float(y)), out)
        if x.ndim == 0 and _is_flat(y):
            return _with_number(y, _FROM_NUMBER[ufunc](float(x)), out)
        pair = _in_one_order(x, y) if x.shape == y.shape else None
        if pair is not None:
            kernel, scalars = _PAIRS[ufunc]
            return _run(kernel, pair, scalars, 0, out)
    return ufunc(x, y, out=_from_pool(x, y) if out is None else out)


def negative(x: np.ndarray) -> np.ndarray:
    """``-x``; large arrays as in `elementwise`.

    Examples
    --------
    >>> negative(np.array([1.0, -2.0]))
    array([-1.,  2.])
    """
    if x.nbytes < LARGE_BYTES or x.dtype not in _FLOATS or not _is_flat(x):
        return np.negative(x)
    return _with_number(x, (-1.0, -0.0), None)


def _is_flat(x: np.ndarray) -> bool:
    """Whether a kernel may take an array as one stretch of memory."""
    return x.flags.aligned and memory_order(x) is not None


def _in_one_order(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Two arrays of one shape in one dense memory order: themselves, or copies that are channels-last as one was."""
    if x.strides == y.strides and y.flags.aligned and _is_flat(x):
        return x, y
    if 3 <= x.ndim <= 5 and (is_channels_last(x) or is_channels_last(y)):
        return channels_last(x), channels_last(y)
    return None


def _run(
    kernel: Any, operands: tuple[np.ndarray, ...], scalars: tuple[float, ...], numbers: int, out: np.ndarray | None
) -> np.ndarray:
    """The kernel's result for operands that are alike, but for the last if it is an array of so many `numbers`."""
    x = operands[0]
    known = kernel, NS_PER_ELEMENT, len(operands) - (numbers > 0), x.dtype
    if out is not None and out.dtype == x.dtype and out.strides == x.strides and out.flags.aligned:
        flat_program(*known, x.size, scalars, numbers, False).run(*operands, out)
        return out
    call = known_call(*known, x.shape, x.strides, scalars, numbers)
    assert call is not None
    result = call(*operands)
    if out is None:
        return result
    out[...] = result
    return out


def _with_number(x: np.ndarray, scale_and_shift: tuple[float, float], out: np.ndarray | None) -> np.ndarray:
    return _run(kernels.scale_and_shift, (x, np.array(scale_and_shift, x.dtype)), (), 2, out)


def _from_pool(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Memory for a float result as large as the larger operand and in its order; None if it is anything else."""
    like = x if x.size >= y.size else y
    if x.dtype != y.dtype or x.dtype not in _FLOATS or not _is_flat(like):
        return None
    try:
        shape = np.broadcast(x, y).shape
    except ValueError:
        return None  # the function will say what is wrong
    return empty_like(like) if shape == like.shape else None
