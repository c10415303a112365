"""Pooling of NumPy arrays over windows that cover the input evenly, or over all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels.pool_walk import COUNT_INPUT
from ._check import check_float, check_tensor_like
from ._pool_launch import average_backward, average_forward, max_backward, max_forward
from ._pool_plan import adaptive_geometry

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
    return average_forward(x, adaptive_geometry(x.shape, output_size), COUNT_INPUT)


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
