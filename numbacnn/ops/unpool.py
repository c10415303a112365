"""Indices of max pooling in the forms other libraries use, and the way back: max unpooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import DTypeError, OptionError, ShapeError
from ..kernels import unpool as kernels
from ._check import check_choice, check_float, check_integer, check_per_axis, check_tensor_like
from ._pool_plan import BLOCK_BYTES, BYTES_PER_NS, CHANNEL_BYTES, adaptive_geometry, tap_places, window_geometry
from .layout import channels_last, empty_channels_last, memory_view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .geometry import PoolGeometry

__all__ = [
    "adaptive_max_pool_indices",
    "max_pool_indices",
    "max_unpool_backward",
    "max_unpool_forward",
    "max_unpool_shape",
]

# How many stores to scattered places one core does in a nanosecond.
_SCATTERS_PER_NS = 0.5


def max_pool_indices(
    offsets: np.ndarray,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    form: str = "plane",
) -> np.ndarray:
    """Where the largest elements are, from the window offsets of `max_pool_forward`.

    Parameters
    ----------
    offsets : ndarray, shape (N, C, *output)
        From `max_pool_forward`, called with the same options.
    input_shape : tuple of int
        (N, C, *spatial).
    kernel_size, stride, padding, dilation, ceil_mode
        As given to `max_pool_forward`.
    form : {"plane", "tensor"}, default "plane"
        Count from the beginning of each channel of each sample, as PyTorch does, or from the beginning of the whole
        (N, C, *spatial) tensor, as ONNX does. Row-major in both.

    Returns
    -------
    ndarray of int64, shape (N, C, *output)

    Raises
    ------
    ShapeError, OptionError
        The arguments do not fit each other, or are illegal.

    Examples
    --------
    >>> from numbacnn.ops.pool import max_pool_forward
    >>> x = np.array([[[1.0, 5.0, 3.0, 2.0]], [[6.0, 0.0, 7.0, 9.0]]])
    >>> _, offsets = max_pool_forward(x, 2)
    >>> max_pool_indices(offsets, x.shape, 2)
    array([[[1, 2]],
           [[0, 3]]])
    >>> max_pool_indices(offsets, x.shape, 2, form="tensor")
    array([[[1, 2]],
           [[4, 7]]])
    """
    return _indices(offsets, window_geometry(input_shape, kernel_size, stride, padding, dilation, ceil_mode), form)


def adaptive_max_pool_indices(
    offsets: np.ndarray, input_shape: tuple[int, ...], output_size: Any, *, form: str = "plane"
) -> np.ndarray:
    """`max_pool_indices` for the window offsets of `adaptive_max_pool_forward`.

    Examples
    --------
    >>> adaptive_max_pool_indices(np.array([[[1, 2, 1]]], np.uint8), (1, 1, 5), 3)
    array([[[1, 3, 4]]])
    """
    return _indices(offsets, adaptive_geometry(input_shape, output_size), form)


def _indices(offsets: np.ndarray, geometry: PoolGeometry, form: str) -> np.ndarray:
    check_choice("form", form, ("plane", "tensor"))
    if offsets.shape != geometry.output_shape:
        raise ShapeError(f"offsets has shape {offsets.shape}, but the pool's output is {geometry.output_shape}")
    width, plane = geometry.input[2], geometry.input[1] * geometry.input[2]
    begins = [_window_begins(geometry, axis) for axis in range(3)]
    of_window = begins[0][:, None, None] * plane + begins[1][:, None] * width + begins[2]
    out = empty_channels_last(geometry.output_shape, np.int64)
    view = memory_view(out)
    np.take(tap_places(geometry), memory_view(channels_last(offsets)), out=view, mode="clip")
    view += of_window[..., None]
    if form == "tensor":
        planes = np.arange(geometry.batch * geometry.channels, dtype=np.int64) * (plane * geometry.input[0])
        view += planes.reshape(geometry.batch, 1, 1, 1, geometry.channels)
    return out


def _window_begins(geometry: PoolGeometry, axis: int) -> np.ndarray:
    """The coordinate of every window's first tap; negative in the padding."""
    o = np.arange(geometry.output[axis], dtype=np.int64)
    if geometry.stride[axis] == 0:
        return o * geometry.input[axis] // geometry.output[axis]
    return o * geometry.stride[axis] - geometry.pad_low[axis]


def max_unpool_shape(
    input_shape: Sequence[int],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """The shape of what a max pool with these options had as input: ``(O - 1) * S - 2 * P + K`` per axis.

    Several sizes pool to one, so `output_size` may name another one less than a stride away.

    Parameters
    ----------
    input_shape : sequence of int
        (N, C, *spatial) of what is to be unpooled.
    kernel_size, stride, padding : int or sequence of int
        Of the max pool.
    output_size : sequence of int, optional
        The spatial sizes wanted, with or without N and C in front.

    Returns
    -------
    tuple of int
        (N, C, *spatial).

    Raises
    ------
    OptionError
        `output_size` is a stride or more away, or an option is illegal.

    Examples
    --------
    >>> max_unpool_shape((1, 1, 4), 2), max_unpool_shape((1, 1, 4), 2, output_size=(9,))
    ((1, 1, 8), (1, 1, 9))
    """
    batch, channels, *size = input_shape
    rank = len(size)
    kernel = check_per_axis("kernel_size", kernel_size, rank, 1)
    steps = kernel if stride is None else check_per_axis("stride", stride, rank, 1)
    pads = check_per_axis("padding", padding, rank, 0)
    natural = tuple((o - 1) * s - 2 * p + k for o, s, p, k in zip(size, steps, pads, kernel, strict=True))
    if output_size is None:
        return (batch, channels, *natural)
    wanted = tuple(check_integer("output_size", extent, 1) for extent in output_size)
    wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
    if len(wanted) != rank or any(abs(w - n) >= s for w, n, s in zip(wanted, natural, steps, strict=True)):
        raise OptionError(
            f"output_size must be less than a stride {steps} away from {natural} on every axis, "
            f"got {tuple(output_size)}"
        )
    return (batch, channels, *wanted)


def max_unpool_forward(x: np.ndarray, indices: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
    """Put each element where `indices` says; the rest is zero. The partial inverse of max pooling.

    Parameters
    ----------
    x : ndarray, shape (N, C, *pooled)
        float32 or float64.
    indices : ndarray of integers, of the same shape
        From the beginning of each channel of each sample, as `max_pool_indices` gives them. Of several elements with
        one index, the last in row-major order stays.
    spatial : sequence of int
        The spatial sizes of the output.

    Returns
    -------
    ndarray, shape (N, C, *spatial)

    Raises
    ------
    ShapeError
        The shapes differ, or an index lies outside the output.
    DTypeError
        `x` is not float32 or float64, or `indices` not integer.

    Examples
    --------
    >>> max_unpool_forward(np.array([[[5.0, 3.0]]]), np.array([[[1, 2]]]), (4,))
    array([[[0., 5., 3., 0.]]])
    """
    x = check_float("x", x)
    out = empty_channels_last((*x.shape[:2], *spatial), x.dtype)
    batch, plane, channels = _flat_shape(out)
    indices = _check_indices(indices, x.shape, plane)
    positions = _flat_shape(x)[1]
    unit = CHANNEL_BYTES // x.itemsize
    blocks = -(-channels // unit)
    kernels.unpool(
        batch * blocks,
        channels_last(x),
        indices,
        out,
        positions,
        plane,
        channels,
        blocks,
        unit,
        cost=x.size / _SCATTERS_PER_NS + out.nbytes / BYTES_PER_NS,
    )
    return out


def max_unpool_backward(grad_output: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The gradient with respect to the input of `max_unpool_forward`: what stands at each index.

    Parameters
    ----------
    grad_output : ndarray, shape (N, C, *spatial)
    indices : ndarray of integers, shape (N, C, *pooled)

    Returns
    -------
    ndarray, shape (N, C, *pooled)

    Raises
    ------
    ShapeError, DTypeError
        As `max_unpool_forward`.

    Examples
    --------
    >>> max_unpool_backward(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1, 2]]]))
    array([[[2., 3.]]])
    """
    grad = channels_last(check_float("grad_output", grad_output))
    batch, plane, channels = _flat_shape(grad)
    if indices.shape[:2] != (batch, channels):
        raise ShapeError(f"indices of shape {indices.shape} do not fit grad_output of shape {grad.shape}")
    indices = _check_indices(indices, indices.shape, plane)
    out = empty_channels_last(indices.shape, grad.dtype)
    positions = _flat_shape(out)[1]
    step = max(BLOCK_BYTES // (channels * grad.itemsize), 1)
    kernels.unpool_backward(
        -(-batch * positions // step),
        grad,
        indices,
        out,
        positions,
        plane,
        channels,
        step,
        batch * positions,
        cost=out.size / _SCATTERS_PER_NS,
    )
    return out


def _flat_shape(x: np.ndarray) -> tuple[int, int, int]:
    """(N, elements of a plane, C)."""
    batch, channels, *size = x.shape
    return batch, int(np.prod(size)), channels


def _check_indices(indices: np.ndarray, shape: tuple[int, ...], plane: int) -> np.ndarray:
    indices = check_tensor_like("indices", indices)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"indices must be integers, got {indices.dtype}")
    if indices.shape != shape:
        raise ShapeError(f"indices has shape {indices.shape}, but x has shape {shape}")
    if indices.size and not 0 <= indices.min() <= indices.max() < plane:
        raise ShapeError(
            f"indices must be from 0 to {plane - 1}, positions in a plane of {plane} elements; "
            f"got {indices.min()} to {indices.max()}"
        )
    return channels_last(indices.astype(np.int64, copy=False))
