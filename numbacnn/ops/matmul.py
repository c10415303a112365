"""Matrix products of arrays, in NumPy's shapes: the bits are the same for any number of threads, rows or strides."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from ..kernels import gemm
from ..kernels._operands import Operand
from ..kernels._program import Program
from ._call import Call, make_call
from ._check import check_same_dtype
from ._matmul_plan import DIRECT_ROWS, plan
from .memory import Room, empty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["matmul"]

# Products whose places are tabulated at a time: half a megabyte.
PLACES = 1 << 15


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The matrix product ``a @ b``, with NumPy's rules for one-axis operands and for batches.

    Each sum runs over its terms in order. dtypes other than float32 and float64 are left to NumPy.

    Parameters
    ----------
    a : ndarray, shape (..., m, k) or (k,)
    b : ndarray, shape (..., k, n) or (k,)
        Of any strides.

    Returns
    -------
    ndarray, shape (..., m, n)
        C-contiguous.

    Raises
    ------
    ShapeError
        The inner extents differ, the batches do not broadcast, or an operand has no axis.
    DTypeError
        The dtypes differ.

    Examples
    --------
    >>> matmul(np.ones((2, 3)), np.ones((3, 1)))
    array([[3.],
           [3.]])
    """
    quick = known_product(a, b)
    if quick is not None:
        return quick
    check_same_dtype(a=a, b=b)
    floats = a.dtype in _FLOATS
    left = a if a.ndim != 1 else a[None, :]
    right = b if b.ndim != 1 else b[:, None]
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        fits = left.shape[-1] == right.shape[-2]
    except (ValueError, IndexError):
        fits = False
    if not fits:
        raise ShapeError(f"matmul: operands of shapes {a.shape} and {b.shape} do not fit")
    if not floats:
        return np.matmul(a, b)
    if left.ndim > 2 == right.ndim and left.flags.c_contiguous:  # one product of more rows
        out = product(left.reshape(-1, left.shape[-1]), right)
    else:
        out = product(left, right, batch)
    kept = (left.shape[-2],) * (a.ndim > 1) + (right.shape[-1],) * (b.ndim > 1)
    return out.reshape(batch + kept)


def product(a: np.ndarray, b: np.ndarray, batch: tuple[int, ...] = (), bias: np.ndarray | None = None) -> np.ndarray:
    """``a @ b + bias`` of matrices, or of batches of them that broadcast to `batch`; float32 or float64, valid shapes.

    Returns
    -------
    ndarray, shape (*batch, m, n)
    """
    rows, depth = a.shape[-2:]
    columns = b.shape[-1]
    out = empty((*batch, rows, columns), a.dtype)
    if not out.size or not depth:
        out[...] = 0 if bias is None else bias
        return out
    if not (_is_whole(a) and _is_whole(b)):
        a, b = a.copy(), b.copy()
    if columns == 1 and bias is None:  # a column of results is a row of them as well, and fills vectors
        a, b, rows, columns = b.swapaxes(-1, -2), a.swapaxes(-1, -2), 1, rows
    count = math.prod(batch)
    p = plan(rows, columns, depth, a.dtype, count, a.strides[-2:] + b.strides[-2:], bias is not None)
    start = a if bias is None else np.ascontiguousarray(bias)
    if not batch:
        p.single(a, b, start, out)
        return out
    flat = out.reshape(count, rows, columns)
    for first, places in _places(a, b, batch):
        size = len(places)
        gemm.gemm(p.blocks * size, a, b, start, flat[first:], places, p.record, cost=p.cost * size)
    return out


def known_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray | None:
    """``a @ b + bias`` of two matrices that fit each other; None if they do not, or are unusual.

    A small product takes less time than all that there is to check, so that is done once for matrices that are alike.
    """
    vector = None if bias is None else (bias.shape, bias.strides, bias.dtype)
    call = _known_call(a.shape, a.strides, a.dtype, b.shape, b.strides, b.dtype, vector)
    return None if call is None else call(a, b, bias)


@functools.lru_cache(maxsize=1024)
def _known_call(
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    a_dtype: np.dtype[Any],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    b_dtype: np.dtype[Any],
    bias: tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]] | None,
) -> Call | None:
    """The call of operands ``(a, b, bias)``."""
    if not len(a_shape) == len(b_shape) == 2 or a_dtype != b_dtype or a_dtype not in _FLOATS:
        return None
    (rows, depth), columns, strides = a_shape, b_shape[1], a_strides + b_strides
    if depth != b_shape[0] or not rows * depth or columns < 2 or any(s % a_dtype.itemsize for s in strides):
        return None
    if bias is not None and bias != ((columns,), (a_dtype.itemsize,), a_dtype):
        return None
    left, right, out = (Operand(shape, a_dtype) for shape in (a_shape, b_shape, (rows, columns)))
    vector = None if bias is None else Operand(bias[0], a_dtype)
    step = None
    if 1 < rows <= DIRECT_ROWS:
        from ._few_rows import few_rows_step  # with it come the convolutions, for which other products need not wait

        step = few_rows_step(left, right, vector, out, tuple([stride // a_dtype.itemsize for stride in strides]))
    if step is None:
        launch = plan(rows, columns, depth, a_dtype, 1, strides, bias is not None).single
        step = launch.on(left, right, vector or left, out)
    program = Program([step], (left, right, vector, out))
    return make_call(program, Room((rows, columns), a_dtype))


_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _is_whole(x: np.ndarray) -> bool:
    """Whether elements lie at multiples of their size from each other, and are aligned."""
    misses = 0
    for stride in x.strides:
        misses |= stride
    return not misses & (x.itemsize - 1) and x.flags.aligned


def _places(a: np.ndarray, b: np.ndarray, batch: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """Where the operands of successive products begin, in elements: the first product's number, and a table."""
    shapes = [np.broadcast_to(x, (*batch, *x.shape[-2:])).strides[:-2] for x in (a, b)]
    count = math.prod(batch)
    for first in range(0, count, PLACES):
        index = np.unravel_index(np.arange(first, min(first + PLACES, count)), batch)
        places = [sum(i * (s // a.itemsize) for i, s in zip(index, strides, strict=True)) for strides in shapes]
        yield first, np.stack(places, axis=1).astype(np.int64)
