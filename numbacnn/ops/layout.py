"""Memory layouts of activations: arrays are (N, C, *spatial), their memory is channels-last.

An array is *channels-last* when moving its channel axis to the end gives a C-contiguous array. The shape a user sees
never changes; only the strides do.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from ..kernels.layout import TILE_POSITIONS, Copy, copy_layout
from . import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

__all__ = [
    "channels_first",
    "channels_last",
    "channels_last_memory",
    "conversion",
    "copy_into",
    "empty_channels_last",
    "fills",
    "is_channels_last",
    "memory_of",
    "memory_view",
]

# By number of axes: from (N, C, *spatial) to (N, *spatial, C), and back.
_CHANNELS_TO_END = {ndim: (0, *range(2, ndim), 1) for ndim in (3, 4, 5)}
_DType = np.dtype
_CHANNELS_FROM_END = {ndim: (0, ndim - 1, *range(1, ndim - 1)) for ndim in (3, 4, 5)}

# Below this a NumPy copy is done before a kernel is launched.
_KERNEL_FROM_BYTES = 8192
_BLOCK_BYTES = 1 << 17
# Addresses at multiples of this share the ways of a set of the L1 cache, on nearly every machine.
_L1_WAY_BYTES, _L1_WAYS = 4096, 8
# One core reads and writes about this much per nanosecond.
_COPY_BYTES_PER_NS = 5.0


def is_channels_last(x: np.ndarray) -> bool:
    """Whether the memory of a logical (N, C, *spatial) array is channels-last (and aligned to its items).

    Examples
    --------
    >>> is_channels_last(np.zeros((2, 5, 5, 3)).transpose(0, 3, 1, 2)), is_channels_last(np.zeros((2, 3, 5, 5)))
    (True, False)
    """
    return _is_dense(x.transpose(_permutation(x)))


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same array with channels-last memory: itself if it already is, else a copy.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        One to three spatial axes, any strides, any dtype.

    Returns
    -------
    ndarray
        Same shape and dtype.

    Examples
    --------
    >>> x = np.arange(24.0).reshape(1, 2, 3, 4)
    >>> y = channels_last(x)
    >>> bool((x == y).all()), y.strides, channels_last(y) is y
    (True, (192, 8, 64, 16), True)
    """
    if is_channels_last(x):
        return x
    out = empty_channels_last(x.shape, x.dtype)
    copy_into(out, x)
    return out


def channels_first(x: np.ndarray) -> np.ndarray:
    """The same array with C-contiguous memory: itself if it already is, else a copy.

    As ``np.ascontiguousarray``, on all cores.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)

    Returns
    -------
    ndarray
        Same shape and dtype.

    Examples
    --------
    >>> channels_first(channels_last(np.zeros((1, 2, 3, 4)))).flags.c_contiguous
    True
    """
    _permutation(x)
    if x.flags.c_contiguous and x.flags.aligned:
        return x
    out = memory.empty(x.shape, x.dtype)
    copy_into(out, x)
    return out


def memory_of(x: np.ndarray) -> np.ndarray:
    """The C-contiguous (N, *spatial, C) array of the same values: a view where `x` is channels-last, else of a copy.

    Examples
    --------
    >>> memory_of(np.zeros((2, 3, 7))).shape
    (2, 7, 3)
    """
    view = x.transpose(_permutation(x))
    if _is_dense(view):
        return view
    out = memory.empty(view.shape, x.dtype)
    copy_into(out.transpose(_CHANNELS_FROM_END[x.ndim]), x)
    return out


def memory_view(x: np.ndarray) -> np.ndarray:
    """The C-contiguous (N, D, H, W, C) array that shares the memory of a channels-last array of any rank.

    Raises
    ------
    ShapeError
        `x` is not channels-last: there is no such view.

    Examples
    --------
    >>> memory_view(empty_channels_last((2, 3, 7), np.float32)).shape
    (2, 1, 1, 7, 3)
    """
    view = x.transpose(_permutation(x))
    if not view.flags.c_contiguous:
        raise ShapeError(f"an array of shape {x.shape} and strides {x.strides} is not channels-last")
    shape = view.shape
    return view.reshape(shape[0], *(1,) * (5 - x.ndim), *shape[1:])


def empty_channels_last(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised (N, C, *spatial) array with channels-last memory from the buffer pool.

    Examples
    --------
    >>> empty_channels_last((2, 3, 4, 5), np.float32).strides
    (240, 4, 60, 12)
    """
    if type(dtype) is not _DType:
        dtype = np.dtype(dtype)
    shape = tuple(shape)
    return memory.empty_strided(shape, dtype, channels_last_memory(shape, dtype.itemsize))


@functools.lru_cache(maxsize=4096)
def channels_last_memory(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides of an array in channels-last memory."""
    steps = [itemsize]
    for extent in (shape[1], *reversed(shape[2:])):
        steps.append(steps[-1] * extent)
    channel, *spatial, sample = steps
    return (sample, channel, *reversed(spatial))


def fills(shape: Sequence[int], strides: Sequence[int], order: Sequence[int], itemsize: int) -> bool:
    """Whether the axes in this order, from slowest to fastest, leave no gaps in memory.

    Examples
    --------
    >>> fills((2, 3), (4, 8), (1, 0), 4), fills((2, 3), (4, 8), (0, 1), 4)
    (True, False)
    """
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != itemsize:
                return False
            itemsize *= shape[axis]
    return True


def conversion(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> Callable[[np.ndarray], np.ndarray] | None:
    """What makes channels-last memory of an (N, C) or (N, C, *spatial) array of this layout; None if it is that.

    Examples
    --------
    >>> conversion((2, 3), (12, 4), 4) is None, conversion((2, 3, 5), (60, 20, 4), 4) is channels_last
    (True, True)
    """
    if fills(shape, strides, (0, *range(2, len(shape)), 1), itemsize):
        return None
    return np.ascontiguousarray if len(shape) == 2 else channels_last


def copy_into(dst: np.ndarray, src: np.ndarray) -> None:
    """``dst[...] = src``, bit for bit, in parallel where it pays.

    Parameters
    ----------
    dst, src : ndarray, shape (N, C, *spatial)
        Of one shape and dtype, any strides; they do not overlap.

    Examples
    --------
    >>> out = np.zeros((1, 2, 2, 2))
    >>> copy_into(out[:, 1:], np.ones((1, 1, 2, 2)))
    >>> out.sum(axis=(0, 2, 3))
    array([0., 4.])
    """
    size = src.itemsize
    if (
        src.nbytes < _KERNEL_FROM_BYTES
        or size not in (4, 8)
        or src.dtype.hasobject
        or not src.flags.aligned
        or any(stride % size for stride in src.strides)
    ):
        dst[...] = src
        return
    n, channels = src.shape[:2]
    (d, h, w), src_spatial, dst_spatial = _merge_axes(src.shape[2:], src.strides[2:], dst.strides[2:])
    src_strides = [src.strides[0], *src_spatial, src.strides[1]]
    dst_strides = [dst.strides[0], *dst_spatial, dst.strides[1]]
    in_elements = [stride // size for stride in src_strides + dst_strides]
    units = n * d * h * -(-w // TILE_POSITIONS)
    units_per_block = max(_BLOCK_BYTES // (min(w, TILE_POSITIONS) * channels * size), 1)
    bits = np.uint32 if size == 4 else np.uint64
    copy_layout(
        -(-units // units_per_block),
        src.view(bits),
        dst.view(bits),
        Copy._make([d, h, w, channels, *in_elements, units, units_per_block, _group(src_strides, dst_strides)]),
        cost=src.nbytes / _COPY_BYTES_PER_NS,
    )


def _is_dense(view: np.ndarray) -> bool:
    flags = view.flags
    return flags.c_contiguous and flags.aligned


def _permutation(x: np.ndarray) -> tuple[int, ...]:
    try:
        return _CHANNELS_TO_END[x.ndim]
    except KeyError:
        raise ShapeError(f"an array must have 3 to 5 axes, (N, C, *spatial), got shape {x.shape}") from None


def _group(src_strides: list[int], dst_strides: list[int]) -> int:
    """Rows that are transposed together.

    A line's worth towards channels-last. Towards channels-first a whole tile, which writes longer pieces, unless the
    rows lie at such a distance that their lines would push each other out of the L1 cache.
    """
    few = 16
    if src_strides[-1] > dst_strides[-1]:
        return few
    distance = src_strides[-2]
    lines = _L1_WAYS * (_L1_WAY_BYTES // math.gcd(distance, _L1_WAY_BYTES))
    return TILE_POSITIONS if distance and lines >= 2 * TILE_POSITIONS else few


def _merge_axes(
    shape: tuple[int, ...], src_strides: tuple[int, ...], dst_strides: tuple[int, ...]
) -> tuple[list[int], list[int], list[int]]:
    """Spatial extents and strides for (D, H, W), with axes that are one run in source and target made one.

    Long rows let the kernel move whole cache lines.
    """
    axes: list[tuple[int, int, int]] = []
    for extent, s, t in zip(shape, src_strides, dst_strides, strict=True):
        if extent == 1:
            continue
        if axes and axes[-1][1:] == (s * extent, t * extent):
            axes[-1] = (axes[-1][0] * extent, s, t)
        else:
            axes.append((extent, s, t))
    axes = [(1, 0, 0)] * (3 - len(axes)) + axes
    return [axis[0] for axis in axes], [axis[1] for axis in axes], [axis[2] for axis in axes]
