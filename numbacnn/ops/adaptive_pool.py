"""Pooling of NumPy arrays over windows that cover the input evenly, or over all of it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..kernels import global_pool as kernels
from ..kernels.pool_walk import COUNT_INPUT
from ._check import check_float, check_tensor_like
from ._pool_plan import adaptive_geometry
from .layout import channels_last, empty_channels_last
from .memory import empty
from .pool import average_backward, average_forward, max_backward, max_forward

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "adaptive_avg_pool_backward",
    "adaptive_avg_pool_forward",
    "adaptive_max_pool_backward",
    "adaptive_max_pool_forward",
    "global_avg_pool_backward",
    "global_avg_pool_forward",
]


def adaptive_max_pool_forward(x: np.ndarray, output_size: Any, *, with_offsets: bool = True) -> tuple[np.ndarray, Any]:
    """The largest element of each of `output_size` windows per axis, which cover the input evenly.

    Window ``i`` of ``O`` goes from ``floor(i * I / O)`` to ``ceil((i + 1) * I / O)``.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        float32, float64, or any integer dtype.
    output_size : int, None, or sequence of them
        Outputs per axis; None keeps the input's size.
    with_offsets : bool, default True

    Returns
    -------
    out, offsets
        As `max_pool_forward`.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        The arguments are illegal.

    Examples
    --------
    >>> adaptive_max_pool_forward(np.arange(5.0).reshape(1, 1, 5), 3)
    (array([[[1., 3., 4.]]]), array([[[1, 2, 1]]], dtype=uint8))
    """
    x = check_tensor_like("x", x)
    return max_forward(x, adaptive_geometry(x.shape, output_size), with_offsets)


def adaptive_max_pool_backward(
    grad_output: np.ndarray, offsets: np.ndarray, input_shape: tuple[int, ...], output_size: Any
) -> np.ndarray:
    """The gradient with respect to the input of `adaptive_max_pool_forward`; see `max_pool_backward`.

    Examples
    --------
    >>> adaptive_max_pool_backward(np.ones((1, 1, 3)), np.array([[[1, 2, 1]]], np.uint8), (1, 1, 5), 3)
    array([[[0., 1., 0., 1., 1.]]])
    """
    return max_backward(grad_output, offsets, adaptive_geometry(input_shape, output_size))


def adaptive_avg_pool_forward(x: np.ndarray, output_size: Any) -> np.ndarray:
    """The average of each of `output_size` windows per axis; see `adaptive_max_pool_forward`.

    Examples
    --------
    >>> adaptive_avg_pool_forward(np.arange(5.0).reshape(1, 1, 5), 3)
    array([[[0.5, 2. , 3.5]]])
    """
    x = check_float("x", x)
    geometry = adaptive_geometry(x.shape, output_size)
    if geometry.output == (1, 1, 1):
        return _average_everything(x)
    return average_forward(x, geometry, COUNT_INPUT)


def adaptive_avg_pool_backward(grad_output: np.ndarray, input_shape: tuple[int, ...], output_size: Any) -> np.ndarray:
    """The gradient with respect to the input of `adaptive_avg_pool_forward`.

    Examples
    --------
    >>> adaptive_avg_pool_backward(np.array([[[6.0]]]), (1, 1, 3), 1)
    array([[[2., 2., 2.]]])
    """
    return average_backward(grad_output, adaptive_geometry(input_shape, output_size), COUNT_INPUT)


def global_avg_pool_forward(x: np.ndarray, keepdims: bool = False) -> np.ndarray:
    """The average over all spatial axes.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        float32 or float64.
    keepdims : bool, default False
        Keep the spatial axes, with extent 1.

    Returns
    -------
    ndarray, shape (N, C) or (N, C, 1, ...)

    Raises
    ------
    ShapeError, DTypeError
        `x` has a wrong number of axes or a wrong dtype.

    Examples
    --------
    >>> global_avg_pool_forward(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """
    out = adaptive_avg_pool_forward(x, 1)
    return out if keepdims else out.reshape(out.shape[:2])


def global_avg_pool_backward(grad_output: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """The gradient with respect to the input of `global_avg_pool_forward`, with `keepdims` or without.

    Examples
    --------
    >>> global_avg_pool_backward(np.array([[2.0, 4.0]]), (1, 2, 2))
    array([[[1., 1.],
            [2., 2.]]])
    """
    if grad_output.ndim == 2:
        grad_output = grad_output.reshape(*grad_output.shape, *(1,) * (len(input_shape) - 2))
    return adaptive_avg_pool_backward(grad_output, input_shape, 1)


# The size of a segment, and of a row at least: a row of a few vectors keeps the loop around it short.
_SEGMENT_BYTES = 1 << 17
_ROW_BYTES = 256
# What one core adds up in a nanosecond when an earlier operation has left its result in the caches: below a megabyte
# or so, fetching half of it from there to another core takes longer than it saves.
_BYTES_PER_NS = 60.0


@functools.lru_cache(maxsize=1024)
def _segments(positions: int, channels: int, itemsize: int) -> tuple[int, int, int]:
    """Elements of a row, number of segments, rows of a segment."""
    width = max(_ROW_BYTES // (channels * itemsize), 1) * channels
    rows = positions * channels // width
    segments = max(min(positions * channels * itemsize // _SEGMENT_BYTES, rows // kernels.ROWS), 1)
    return width, segments, -(-rows // segments) if rows else 0


def _average_everything(x: np.ndarray) -> np.ndarray:
    """The average over all spatial axes, which are kept."""
    batch, channels = x.shape[:2]
    positions = math.prod(x.shape[2:])
    width, segments, rows = _segments(positions, channels, x.itemsize)
    partial = empty((batch * segments, width), x.dtype)
    out = empty_channels_last((batch, channels, *(1,) * (x.ndim - 2)), x.dtype)
    cost = x.nbytes / _BYTES_PER_NS
    kernels.sum_segments(
        batch * segments, channels_last(x), partial, out, positions, channels, width, segments, rows, cost=cost
    )
    if segments > 1:
        kernels.combine_segments(batch, partial, out, positions, channels, width, segments, cost=partial.nbytes)
    return out
