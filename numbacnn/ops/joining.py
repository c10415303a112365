"""Joining arrays along an axis, and cutting one into pieces, on all cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import memory
from .layout import channels_first, channels_last, copy_into, empty_channels_last, is_channels_last

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["concatenate", "split"]

# Below this, NumPy's copy is done before other cores have woken up.
LARGE_BYTES = 1 << 18


def concatenate(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Arrays of one dtype joined along an existing axis.

    Large images come from the pool, channels-last if one of the arrays is that and nothing else, else C-contiguous.
    Everything else is as from `numpy.concatenate`.

    Examples
    --------
    >>> concatenate([np.ones((1, 2)), np.zeros((1, 1))], 1)
    array([[1., 1., 0.]])
    """
    first = arrays[0]
    if sum([x.nbytes for x in arrays]) < LARGE_BYTES or not 3 <= first.ndim <= 5 or first.dtype.hasobject:
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
