"""Joining arrays along an axis, and cutting one into pieces, on all cores."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..kernels._launch import run
from ..kernels.joining import copy_columns
from . import memory
from ._dense import STREAM_BYTES, memory_order
from .layout import channels_first, channels_last, copy_into, empty_channels_last, is_channels_last
from .memory import ALIGNMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..kernels._build import Prepared
    from ..kernels._launch import Job

    Layout = tuple[tuple[int, ...], tuple[int, ...]]  # shape and strides

__all__ = ["concatenate", "split"]

# Below this, NumPy's copy is done before other cores have woken up; where arrays lie alike, before ours has begun.
LARGE_BYTES, LARGE_BYTES_ALIKE = 1 << 18, 1 << 13
# Elements of one block, and its nanoseconds on one core: each, and each row of a matrix.
STEP, NS_PER_ELEMENT, NS_PER_ROW = 16384, 0.25, 2.0


def concatenate(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Arrays of one dtype joined along an existing axis.

    Arrays whose elements lie in one order, without gaps, give a result of that order. Other large images give one that
    is channels-last if one of the arrays is that and nothing else, else C-contiguous. Everything else is as from
    `numpy.concatenate`.

    Examples
    --------
    >>> concatenate([np.ones((1, 2)), np.zeros((1, 1))], 1)
    array([[1., 1., 0.]])
    """
    first = arrays[0]
    nbytes = sum([x.nbytes for x in arrays])
    if nbytes >= LARGE_BYTES_ALIKE and first.dtype.kind in "fiu" and first.itemsize in (4, 8):
        columns = _plan_columns(tuple([(x.shape, x.strides) for x in arrays]), first.itemsize, axis)
        if columns is not None and all(x.dtype == first.dtype and x.flags.aligned for x in arrays):
            return columns.join(arrays, first.dtype)
    if nbytes < LARGE_BYTES or not 3 <= first.ndim <= 5 or first.dtype.hasobject:
        return np.concatenate(arrays, axis)
    shape = (*first.shape[:axis], sum([x.shape[axis] for x in arrays]), *first.shape[axis + 1 :])
    by_channel = any(is_channels_last(x) and not x.flags.c_contiguous for x in arrays)
    out = empty_channels_last(shape, first.dtype) if by_channel else memory.empty(shape, first.dtype)
    start = 0
    for x in arrays:
        end = start + x.shape[axis]
        copy_into(out[_range(axis, start, end)], x)
        start = end
    return out


def split(x: np.ndarray, extents: Sequence[int], axis: int, wanted: Sequence[bool]) -> list[np.ndarray | None]:
    """The pieces of an array along an axis, by their extents; None for those not wanted.

    A piece of an image that has gaps in memory is copied, once and on all cores, for whoever takes it would have to.

    Examples
    --------
    >>> split(np.arange(3.0), (2, 1), 0, (True, True))
    [array([0., 1.]), array([2.])]
    """
    ends = np.cumsum(extents).tolist()
    if (
        3 <= x.ndim <= 5
        and x.nbytes >= LARGE_BYTES_ALIKE
        and x.dtype.kind in "fiu"
        and x.itemsize in (4, 8)
        and x.flags.aligned
    ):
        order = memory_order(x)
        if order is not None and math.prod(x.shape[a] for a in order[: order.index(axis)]) > 1:
            columns = _plan_pieces(x.shape, order, tuple(extents), x.itemsize, axis)
            return columns.split(x, wanted)
    pieces = [
        x[_range(axis, end - extent, end)] if want else None
        for end, extent, want in zip(ends, extents, wanted, strict=True)
    ]
    if not 3 <= x.ndim <= 5:
        return pieces
    if is_channels_last(x):
        return [piece if piece is None else channels_last(piece) for piece in pieces]
    if x.flags.c_contiguous and x.flags.aligned:
        return [piece if piece is None else channels_first(piece) for piece in pieces]
    return pieces


def _range(axis: int, start: int, end: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, end))


class _Columns(NamedTuple):
    """Arrays along an axis as columns of a matrix: those in memory before the axis are its rows."""

    shape: tuple[int, ...]  # of the matrix, in the order of memory
    shapes: tuple[tuple[int, ...], ...]  # of the arrays, likewise
    axes: tuple[int, ...]  # from the order of memory to that of the arrays
    bits: np.dtype[Any]
    joining: tuple[Prepared | None, ...]  # the launches that copy each array to the matrix; None: nothing to copy
    splitting: tuple[Prepared | None, ...]

    def join(self, arrays: Sequence[np.ndarray], dtype: np.dtype[Any]) -> np.ndarray:
        out = memory.empty(self.shape, dtype)
        target = out.view(self.bits)
        run(*[p.job(x.view(self.bits), target) for p, x in zip(self.joining, arrays, strict=True) if p is not None])
        return out.transpose(self.axes)

    def split(self, x: np.ndarray, wanted: Sequence[bool]) -> list[np.ndarray | None]:
        source = x.view(self.bits)
        jobs: list[Job] = []
        out: list[np.ndarray | None] = []
        for shape, launch, want in zip(self.shapes, self.splitting, wanted, strict=True):
            piece = memory.empty(shape, x.dtype) if want else None
            out.append(None if piece is None else piece.transpose(self.axes))
            if piece is not None and launch is not None:
                jobs.append(launch.job(source, piece.view(self.bits)))
        run(*jobs)
        return out


@functools.lru_cache(maxsize=256)
def _plan_columns(layouts: tuple[Layout, ...], itemsize: int, axis: int) -> _Columns | None:
    """How arrays of these layouts are joined if they lie in one order without gaps; None if they do not, or cannot."""
    ranks = {len(shape) for shape, _ in layouts}
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape, _ in layouts}
    if len(ranks) != 1 or not 0 <= axis < min(ranks) or len(others) != 1:
        return None
    filled = [layout for layout in layouts if math.prod(layout[0])]
    for order in dict.fromkeys(_strides_order(strides) for _, strides in filled):
        if all(_is_dense(shape, strides, order, itemsize) for shape, strides in filled):
            extents = tuple(shape[axis] for shape, _ in layouts)
            return _plan_pieces(
                (*layouts[0][0][:axis], sum(extents), *layouts[0][0][axis + 1 :]), order, extents, itemsize, axis
            )
    return None


def _strides_order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from slowest to fastest."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], order: tuple[int, ...], itemsize: int) -> bool:
    """Whether the axes in this order, from slowest to fastest, leave no gaps."""
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != itemsize:
                return False
            itemsize *= shape[axis]
    return True


@functools.lru_cache(maxsize=256)
def _plan_pieces(
    shape: tuple[int, ...], order: tuple[int, ...], extents: tuple[int, ...], itemsize: int, axis: int
) -> _Columns:
    """Pieces of `extents` along an axis of an array of `shape` that lies in memory in this order."""
    place = order.index(axis)
    matrix = tuple(shape[a] for a in order)
    rows, inner = math.prod(matrix[:place]), math.prod(matrix[place + 1 :])
    bits = np.dtype(f"u{itemsize}")
    joining: list[Prepared | None] = []
    splitting: list[Prepared | None] = []
    first, pitch, line = 0, sum(extents) * inner, ALIGNMENT_BYTES // itemsize
    for extent in extents:
        width = extent * inner
        pieces = max(1, width // STEP)
        units = max(1, STEP * pieces // max(width, 1))
        cost = rows * (NS_PER_ROW + NS_PER_ELEMENT * width)
        for launches, ends in ((joining, (0, width, first, pitch)), (splitting, (first, pitch, 0, width))):
            whole_lines = not any(n % line for n in (width, *ends))
            streamed = whole_lines and rows * ends[3] * itemsize >= STREAM_BYTES
            launch = copy_columns.prepare(
                (bits,), -(-rows * pieces // units), rows, width, *ends, pieces, units, streamed, cost=cost
            )
            launches.append(launch if rows * width else None)
        first += width
    axes = tuple(sorted(range(len(order)), key=order.__getitem__))
    shapes = tuple((*matrix[:place], extent, *matrix[place + 1 :]) for extent in extents)
    return _Columns(matrix, shapes, axes, bits, tuple(joining), tuple(splitting))
