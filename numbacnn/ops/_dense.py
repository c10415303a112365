"""Arrays whose elements fill one stretch of memory, in whatever order of axes, and launches over all their elements.

Element-wise kernels do not care about the order of axes, only that nothing lies between the elements: a channels-last
activation is as good as a C-contiguous one, and the result keeps its order.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..kernels._operands import Operand
from ..kernels._program import Program
from ..kernels._target import target
from ._call import Call, make_call
from ._split import for_all_cores
from .layout import copy_into, fills
from .memory import Room, empty_like

if TYPE_CHECKING:
    from typing import Any

    from ..kernels._build import Kernel

__all__ = [
    "STEP",
    "dense",
    "empty_like",
    "flat_program",
    "in_memory_of",
    "is_streamed",
    "known_call",
    "memory_order",
    "strides_order",
]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Elements of one block: its arrays stay in the second-level cache, and it lasts much longer than handing it out.
STEP = 16384
# Fewer blocks than this are even ones, of whole pages, where an element takes so many nanoseconds: of 1.25 times `STEP`
# one core would get four fifths (GELU: 1.3 times as fast). Of more blocks, or quicker ones, the thread that begins
# first has time for one more.
MANY_BLOCKS, EVEN_NS, PAGE = 8, 1.0, 1024
# Results of so many bytes are written past the caches: the last-level cache of most machines would have lost their
# beginning before anybody reads it, and a line that is not cached need not be fetched to be overwritten. Beside vectors
# of 64 bytes, each of which fills a line, results of 16 to 64 MB are done sooner without (a twentieth).
STREAM_BYTES, STREAM_BYTES_WIDE = 1 << 24, 1 << 26
# Then blocks have so many elements, for at the end of each a thread waits until all has been written.
STREAM_STEP = 8 * STEP


def is_streamed(nbytes: int) -> bool:
    """Whether a result of so many bytes is written past the caches."""
    return nbytes >= (STREAM_BYTES_WIDE if target().wide else STREAM_BYTES)


def memory_order(x: np.ndarray) -> tuple[int, ...] | None:
    """The axes from slowest to fastest if the array is dense, else None.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4)).transpose(0, 2, 1))
    (0, 2, 1)
    >>> memory_order(np.zeros((2, 3, 4))[:, ::2]) is None
    True
    """
    return strides_order(x.shape, x.strides, x.itemsize)


@functools.lru_cache(maxsize=1024)
def strides_order(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    """As `memory_order`, of an array of such a layout."""
    if 0 in shape:
        return tuple(range(len(shape)))
    order = tuple(sorted(range(len(shape)), key=lambda axis: (-abs(strides[axis]), -shape[axis])))
    return order if fills(shape, strides, order, itemsize) else None


def dense(x: np.ndarray) -> np.ndarray:
    """`x` itself if it is dense, else a dense copy with the axes in the same order in memory."""
    if memory_order(x) is not None:
        return x
    out = np.copy(x, order="K", subok=False)
    return out if memory_order(out) is not None else np.ascontiguousarray(x)


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


@functools.lru_cache(maxsize=1024)
def known_call(
    kernel: Kernel,
    ns: float,
    arrays: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    scalars: tuple[float, ...] = (),
    numbers: int = 0,
) -> Call | None:
    """The call of a kernel of so many `arrays` that are alike, if they are dense and of a dtype that it takes.

    The other parameters are those of `flat_program`.
    """
    if dtype not in _FLOATS or strides_order(shape, strides, dtype.itemsize) is None:
        return None
    program = flat_program(kernel, ns, arrays, dtype, math.prod(shape), scalars, numbers)
    return make_call(program, Room(shape, dtype, strides))


def _step(size: int, ns: float) -> int:
    """Elements of a block of so many, each of which takes `ns` nanoseconds.

    Examples
    --------
    >>> _step(20_000, 1.0), _step(40_000, 3.0), _step(40_000, 0.2), _step(1_000_000, 3.0)
    (10240, 10240, 16384, 16384)
    """
    blocks = -(-size // STEP)
    if ns < EVEN_NS or not 1 < blocks < MANY_BLOCKS:
        return STEP
    return -(-size // (for_all_cores(blocks) * PAGE)) * PAGE


@functools.lru_cache(maxsize=1024)
def flat_program(
    kernel: Kernel,
    ns: float,
    arrays: int,
    dtype: np.dtype[Any],
    size: int,
    scalars: tuple[float, ...] = (),
    numbers: int = 0,
    fresh: bool = True,
) -> Program:
    """The program of a kernel over all elements of `arrays` arrays and the result.

    After the arrays come `numbers` numbers in an array of their own, then the result; the kernel's last parameters are
    the `scalars`, ``size``, ``step`` and ``streamed``. `ns` is the time of an element in nanoseconds on one core, with
    the data in cache. The result is `fresh` memory of the pool, or perhaps an operand.
    """
    operands = [Operand((size,), dtype) for _ in range(arrays)]
    if numbers:
        operands.append(Operand((numbers,), dtype))
    operands.append(Operand((size,), dtype))
    streamed = fresh and is_streamed(size * dtype.itemsize)
    step = STREAM_STEP if streamed else _step(size, ns)
    launch = kernel.prepare((dtype,), -(-size // step), *scalars, size, step, streamed, cost=ns * size)
    return Program([launch.on(*operands)], operands)
