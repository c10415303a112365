"""Matrix products of arrays, in NumPy's shapes: the bits are the same for any number of threads, rows or strides."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..kernels import gemm
from ..kernels._operands import Operand
from ..kernels._program import Program
from ..kernels.tile import MAX_ROWS, tile_lanes
from ._call import Call, make_call
from ._check import check_same_dtype
from .conv.blocking import split_evenly
from .memory import Room, empty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..kernels._build import Prepared

__all__ = ["matmul"]

# Enough blocks that two to eight cores finish together; but what blocks copy grows with their number. So of 4 times the
# operations, whose copies are 2.5 times as many, are made 2 times as many blocks.
MANY_BLOCKS, OPERATIONS_OF_TWO = 16, 1 << 20
# Beginning and ending a tile takes as long as so many operations.
TILE_OPERATIONS = 3000
# A block copies its columns, which costs least where it is high. Rows that it copies as well cost as much; those that
# it reads where they lie, a fraction; and a row of results that is written in pieces, as much as so many elements.
# This is low, and narrow.
ROWS_IN_PLACE, PIECE_OF_RESULTS = 1 / 8, 150
FEW_ROWS = FEW_COLUMNS = 48
# Few rows are multiplied as fast as `b` is read: elements of it per block, and panels, where they lie along rows of
# memory (short stretches are read slowly, above all where nothing is computed meanwhile).
ELEMENTS_PER_BLOCK, PANELS_PER_STREAM, PANELS_OF_ONE_ROW = 1 << 16, 16, 24
# Rows so far apart share few places of the first cache, and drive each other out unless they are copied; which does not
# matter where a block has so few panels of columns.
CONFLICT_BYTES, FEW_PANELS = 4096, 2
# Products whose places are tabulated at a time: half a megabyte.
PLACES = 1 << 15
# One core, conservatively: decides only whether a launch is worth a second core.
OPERATIONS_PER_NS, BYTES_PER_NS = 60.0, 10.0


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
    p = _plan(rows, columns, depth, a.dtype, count, a.strides[-2:] + b.strides[-2:], bias is not None)
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
    launch = _plan(rows, columns, depth, a_dtype, 1, strides, bias is not None).single
    program = Program([launch.on(left, right, vector or left, out)], (left, right, vector, out))
    return make_call(program.run, Room((rows, columns), a_dtype))


def _power_of_two(x: float) -> int:
    """The largest that is not larger, or 1."""
    return 1 << max(0, int(x).bit_length() - 1)


_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NO_PLACES = np.zeros(2, np.int64)


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


class Plan(NamedTuple):
    """How one product is cut."""

    record: gemm.Gemm
    blocks: int
    cost: float
    single: Prepared  # the launch of one product


@functools.lru_cache(maxsize=1024)
def _plan(
    rows: int,
    columns: int,
    depth: int,
    dtype: np.dtype[Any],
    count: int,
    strides: tuple[int, ...],
    has_bias: bool,
) -> Plan:
    itemsize = dtype.itemsize
    a_row, a_depth, b_depth, b_column = (stride // itemsize for stride in strides)
    direct = rows == a_depth == 1 and 1 in (b_depth, b_column)
    full = tile_lanes(itemsize)
    width = full if columns > full // 2 else full // 2
    panels = -(-columns // width)
    streams = b_column == 1 and rows <= gemm.ROW_COPIES  # what is read is read once: long stretches of memory, then
    longest = gemm.ROW_SLOTS * 8 // itemsize // (4 if streams else 1)
    if a_depth == 1 and panels <= FEW_PANELS:  # rows of `a` are read once: long stretches of those
        longest = gemm.COLUMN_SLOTS * 8 // itemsize // (panels * width) - 64 // itemsize
    depth_block = split_evenly(depth, longest)
    panel = depth_block * width + 64 // itemsize
    operations = 2.0 * rows * columns * depth + TILE_OPERATIONS * panels * -(-rows // MAX_ROWS)
    operations *= itemsize / 4  # of float32, twice as many of which are done at once
    most = gemm.START_SLOTS * 8 // (width * itemsize)
    if direct:
        wanted = 1 + columns * depth // ELEMENTS_PER_BLOCK
    else:
        wanted = 1 + int(math.sqrt(count * operations / OPERATIONS_OF_TWO))
        most = min(most, gemm.COLUMN_SLOTS * 8 // (panel * itemsize))
    wanted = -(-_power_of_two(min(MANY_BLOCKS, wanted)) // count)
    fewest = -(-panels // most)
    stretch = PANELS_OF_ONE_ROW if direct else PANELS_PER_STREAM
    conflict = a_row * itemsize % CONFLICT_BYTES == 0
    narrow = panels // stretch if streams else max(_power_of_two(-(-columns // FEW_COLUMNS)), min(2, panels))
    copied = a_depth != 1 or (conflict and panels > FEW_PANELS * narrow)
    price = (1 if copied else ROWS_IN_PLACE) + PIECE_OF_RESULTS / depth
    squared = max(wanted, fewest) * price * rows / columns
    row_blocks = _power_of_two(min(math.sqrt(2 * squared), wanted, -(-rows // FEW_ROWS)))
    column_blocks = max(min(-(-wanted // row_blocks), narrow), fewest)
    record = gemm.Gemm(
        rows=rows,
        columns=columns,
        depth=depth,
        a_row=a_row,
        a_depth=a_depth,
        b_depth=b_depth,
        b_column=b_column,
        vector=full // 2,
        width=width,
        panel=panel,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        depth_block=depth_block,
        copy_rows=int(a_depth != 1 or (conflict and panels > FEW_PANELS * column_blocks)),
        has_bias=int(has_bias),
        direct=int(direct),
    )
    cost = operations / OPERATIONS_PER_NS + (rows + columns) * depth * itemsize / BYTES_PER_NS
    blocks = row_blocks * column_blocks
    return Plan(record, blocks, cost, gemm.gemm.prepare((dtype,), blocks, _NO_PLACES, record, cost=cost))
