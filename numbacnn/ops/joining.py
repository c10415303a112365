"""Joining arrays along an axis, and cutting one into pieces, on all cores."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..kernels._operands import Operand
from ..kernels._program import Program, Step
from ..kernels._target import target
from ..kernels._together import in_step
from ..kernels.joining import copy_columns, join_narrow
from . import memory
from ._call import Call, make_call
from ._dense import is_streamed, memory_order
from ._split import for_all_cores
from .layout import channels_first, channels_last, copy_into, empty_channels_last, fills, is_channels_last
from .memory.blocks import ALIGNMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..kernels._build import Prepared

    Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]  # shape, strides, dtype

__all__ = ["concatenate", "split"]

# NumPy's copy is done before other cores have woken up; before ours has begun.
LARGE_BYTES, SMALL_BYTES = 1 << 18, 1 << 13
# Nanoseconds: what NumPy takes for each run of elements that lie side by side, and for a byte; what a call takes here.
NUMPY_NS_PER_RUN, NUMPY_NS_PER_BYTE, CALL_NS = 10.0, 0.1, 7_000.0
# Elements of the pieces that long rows are cut into.
STEP = 16384
# Nanoseconds on one core: of an element, of a row of a matrix, and of a block, beside which handing it out is little.
NS_PER_ELEMENT, NS_PER_ROW, BLOCK_NS = 0.25, 1.0, 4000.0
# The same of a vector of two narrow matrices joined lane by lane, of which a loop takes so many or more.
NS_PER_VECTOR, LOOP_VECTORS = 3.0, 8
# NumPy's own without the protocol for arrays of other classes, which is a tenth of what joining small ones takes.
_concatenate = inspect.unwrap(np.concatenate)
_FLOATS: dict[int, np.dtype[Any]] = {4: np.dtype(np.float32), 8: np.dtype(np.float64)}


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
    nbytes = 0
    for x in arrays:
        nbytes += x.nbytes
    if nbytes < SMALL_BYTES:
        return _concatenate(arrays, axis)
    columns = _known_columns(tuple([(x.shape, x.strides, x.dtype) for x in arrays]), axis)
    if columns is not None:
        return columns.join(*arrays)
    first = arrays[0]
    if nbytes < LARGE_BYTES or not 3 <= first.ndim <= 5 or first.dtype.hasobject:
        return _concatenate(arrays, axis)
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
        and x.nbytes >= SMALL_BYTES
        and x.dtype.kind in "fiu"
        and x.itemsize in (4, 8)
        and x.flags.aligned
    ):
        order = memory_order(x)
        if order is not None and math.prod(x.shape[a] for a in order[: order.index(axis)]) > 1:
            columns = _plan_pieces(x.shape, order, tuple(extents), x.dtype, axis)
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

    join: Call
    shapes: tuple[tuple[int, ...], ...]  # of the arrays, in the order of memory
    axes: tuple[int, ...]  # from the order of memory to that of the arrays
    dtype: np.dtype[Any]
    splitting: tuple[Prepared | None, ...]  # the launches that copy the matrix to each array; None: nothing to copy

    def split(self, x: np.ndarray, wanted: Sequence[bool]) -> list[np.ndarray | None]:
        pieces = [
            memory.empty(shape, self.dtype) if want else None for shape, want in zip(self.shapes, wanted, strict=True)
        ]
        _split(self.splitting, tuple(wanted), self.dtype).run(x, *pieces)
        return [None if piece is None else piece.transpose(self.axes) for piece in pieces]


@functools.lru_cache(maxsize=256)
def _split(splitting: tuple[Prepared | None, ...], wanted: tuple[bool, ...], dtype: np.dtype[Any]) -> Program:
    copied = _FLOATS[dtype.itemsize]
    matrix, pieces = Operand((), copied), [Operand((), copied) if want else None for want in wanted]
    both = zip(splitting, pieces, strict=True)
    steps = [p.on(matrix, piece) for p, piece in both if p is not None and piece is not None]
    return Program([in_step(steps)] if steps else [], (matrix, *pieces))


@functools.lru_cache(maxsize=256)
def _known_columns(layouts: tuple[Layout, ...], axis: int) -> _Columns | None:
    """How arrays of these layouts are joined if they are of one dtype and lie in one order without gaps.

    None if they do not, cannot be joined, or are so small that NumPy has done it before our launch is ready. What there
    is to check takes longer than joining small arrays.
    """
    dtypes = {dtype for _, _, dtype in layouts}
    (dtype,) = dtypes if len(dtypes) == 1 else (np.dtype(object),)
    if dtype.kind not in "fiu" or dtype.itemsize not in _FLOATS:
        return None
    ranks = {len(shape) for shape, _, _ in layouts}
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape, _, _ in layouts}
    if len(ranks) != 1 or not 0 <= axis < min(ranks) or len(others) != 1:
        return None
    filled = [(shape, strides) for shape, strides, _ in layouts if math.prod(shape)]
    nbytes = sum([math.prod(shape) for shape, _, _ in layouts]) * dtype.itemsize
    for order in dict.fromkeys(_strides_order(strides) for _, strides in filled):
        if all(fills(shape, strides, order, dtype.itemsize) for shape, strides in filled):
            runs = len(layouts) * math.prod([layouts[0][0][a] for a in order[: order.index(axis)]])
            if NUMPY_NS_PER_RUN * runs + NUMPY_NS_PER_BYTE * nbytes < CALL_NS:
                return None
            extents, first = tuple([shape[axis] for shape, _, _ in layouts]), layouts[0][0]
            return _plan_pieces((*first[:axis], sum(extents), *first[axis + 1 :]), order, extents, dtype, axis)
    return None


def _strides_order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from slowest to fastest."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


@functools.lru_cache(maxsize=256)
def _plan_pieces(
    shape: tuple[int, ...], order: tuple[int, ...], extents: tuple[int, ...], dtype: np.dtype[Any], axis: int
) -> _Columns:
    """Pieces of `extents` along an axis of an array of `shape` that lies in memory in this order."""
    place = order.index(axis)
    matrix = tuple(shape[a] for a in order)
    rows, inner = math.prod(matrix[:place]), math.prod(matrix[place + 1 :])
    itemsize = dtype.itemsize
    copied = _FLOATS[itemsize]
    joining: list[Prepared | None] = []
    splitting: list[Prepared | None] = []
    first, pitch, line = 0, sum(extents) * inner, ALIGNMENT_BYTES // itemsize
    cost = rows * (NS_PER_ROW * len(extents) + NS_PER_ELEMENT * pitch)
    blocks = math.ceil(cost / BLOCK_NS)
    for extent in extents:
        width = extent * inner
        pieces = max(1, width // STEP)
        units = -(-rows * pieces // max(blocks, 1))
        for launches, ends in ((joining, (0, width, first, pitch)), (splitting, (first, pitch, 0, width))):
            whole_lines = not any(n % line for n in (width, *ends))
            streamed = whole_lines and is_streamed(rows * ends[3] * itemsize)
            launch = copy_columns.prepare((copied,), blocks, rows, width, *ends, pieces, units, streamed, cost=cost)
            launches.append(launch if rows * width else None)
        first += width
    axes = tuple(sorted(range(len(order)), key=order.__getitem__))
    shapes = tuple((*matrix[:place], extent, *matrix[place + 1 :]) for extent in extents)
    out, parts = Operand(matrix, copied), [Operand(piece, copied) for piece in shapes]
    if target().isa == "avx512" and len(extents) == 2 and 0 < max(extents) * inner < target().lanes(itemsize):
        steps = [_narrow_step(rows, extents[0] * inner, extents[1] * inner, parts, out)] if rows else []
    else:
        steps = [p.on(part, out) for p, part in zip(joining, parts, strict=True) if p is not None]
    program = Program([in_step(steps)] if steps else [], (*parts, out))
    strides = [itemsize * math.prod(matrix[order.index(a) + 1 :]) for a in range(len(order))]
    join = make_call(program, memory.Room(shape, dtype, tuple(strides)))
    return _Columns(join, shapes, axes, dtype, tuple(splitting))


def _narrow_step(rows: int, first: int, second: int, parts: Sequence[Operand], out: Operand) -> Step:
    """Joining two matrices with rows of `first` and `second` elements, fewer than a vector has."""
    n, pitch = target().lanes(out.dtype.itemsize), first + second
    vectors = pitch // math.gcd(pitch, n)
    vectors *= -(-LOOP_VECTORS // vectors)
    of_x = np.arange(vectors * n) % pitch < first
    bits = of_x.reshape(vectors, n) @ (1 << np.arange(n, dtype=np.int64))
    before: np.ndarray = (np.cumsum(of_x) - of_x)[::n]
    groups = -(-rows * pitch // (vectors * n))
    cost = NS_PER_VECTOR * groups * vectors
    step = -(-groups // for_all_cores(math.ceil(cost / BLOCK_NS)))
    launch = join_narrow.prepare(
        (out.dtype,), -(-groups // step), rows * pitch, vectors, int(of_x.sum()), step, cost=cost
    )
    return launch.on(*parts, out, np.stack([bits, before], 1))
