"""Pooling of NumPy arrays: max, average, p-norm.

Arrays are (N, C, *spatial) with one to three spatial axes and any strides; results have channels-last memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError
from ..kernels.pool_walk import COUNT_PADDING
from ._check import check_float, check_tensor_like
from ._pool_launch import average_backward, average_forward, max_backward, max_forward
from ._pool_plan import divisor_code, window_geometry

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "avg_pool_backward",
    "avg_pool_forward",
    "lp_pool_backward",
    "lp_pool_forward",
    "max_pool_backward",
    "max_pool_forward",
]


def max_pool_forward(
    x: np.ndarray,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    with_offsets: bool = True,
) -> tuple[np.ndarray, Any]:
    """The largest element of every window: ``y[o] = max over k of x[S*o + D*k - P]``.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        float32, float64, or any integer dtype. N may be 0.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int, str or sequence, default 0
        See `resolve_padding`; padding is minus infinity, so it never wins.
    dilation : int or sequence of int, default 1
    ceil_mode : bool, default False
        Let the last window hang over the high edge.
    with_offsets : bool, default True
        Whether to return where each largest element is; `max_pool_backward` and `max_pool_indices` need it.

    Returns
    -------
    out : ndarray, shape (N, C, *output)
        Of the dtype of `x`. A window with a NaN gives NaN.
    offsets : ndarray of the same shape, or None
        Number of the winning tap within its window, in row-major order: the first NaN,
        else the first of equal elements.
        uint8, uint16 or int32, whichever is the smallest that holds them.

    Raises
    ------
    ShapeError
        A window is larger than the padded input, or lies wholly in the padding, or `x` has a wrong number of axes.
    OptionError
        An option is illegal.
    DTypeError
        `x` is neither float32, float64 nor integer.

    Examples
    --------
    >>> x = np.array([[[1.0, 5.0, 5.0, 2.0]]])
    >>> out, offsets = max_pool_forward(x, 2)
    >>> out, offsets
    (array([[[5., 5.]]]), array([[[1, 0]]], dtype=uint8))
    """
    x = check_tensor_like("x", x)
    geometry = window_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return max_forward(x, geometry, with_offsets)


def max_pool_backward(
    grad_output: np.ndarray,
    offsets: np.ndarray,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """The gradient with respect to the input of `max_pool_forward`, called with the same options.

    Parameters
    ----------
    grad_output : ndarray, shape (N, C, *output)
        float32 or float64.
    offsets : ndarray of the same shape
        From `max_pool_forward`.
    input_shape : tuple of int
        (N, C, *spatial).
    kernel_size, stride, padding, dilation, ceil_mode
        As given to `max_pool_forward`.

    Returns
    -------
    ndarray, shape `input_shape`
        Each element has the sum of the gradients of the windows it won.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        The arguments do not fit each other, or could not come from `max_pool_forward`.

    Examples
    --------
    >>> max_pool_backward(np.array([[[10.0, 20.0]]]), np.array([[[1, 0]]], np.uint8), (1, 1, 4), 2)
    array([[[ 0., 10., 20.,  0.]]])
    """
    geometry = window_geometry(input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    return max_backward(grad_output, offsets, geometry)


def avg_pool_forward(
    x: np.ndarray,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """The average of every window: ``y[o] = (1 / divisor) * sum over k of x[S*o + k - P]``.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        float32 or float64. N may be 0.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int, str or sequence, default 0
        See `resolve_padding`; padding adds nothing to the sum.
    ceil_mode : bool, default False
        Let the last window hang over the high edge; what hangs over is not counted.
    count_include_pad : bool, default True
        Divide by the size of the window, padding included; or else by the number of elements it has in the input.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray, shape (N, C, *output)

    Raises
    ------
    ShapeError
        A window is larger than the padded input, or lies wholly in the padding, or `x` has a wrong number of axes.
    OptionError
        An option is illegal.
    DTypeError
        `x` is neither float32 nor float64.

    Examples
    --------
    >>> x = np.array([[[2.0, 4.0, 6.0]]])
    >>> avg_pool_forward(x, 2, stride=1, padding=1)
    array([[[1., 3., 5., 3.]]])
    >>> avg_pool_forward(x, 2, stride=1, padding=1, count_include_pad=False)
    array([[[2., 3., 5., 6.]]])
    """
    x = check_float("x", x)
    geometry = window_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    return average_forward(x, geometry, divisor_code(count_include_pad, divisor_override))


def avg_pool_backward(
    grad_output: np.ndarray,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """The gradient with respect to the input of `avg_pool_forward`, called with the same options.

    Parameters
    ----------
    grad_output : ndarray, shape (N, C, *output)
    input_shape : tuple of int
        (N, C, *spatial).
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As given to `avg_pool_forward`.

    Returns
    -------
    ndarray, shape `input_shape`

    Raises
    ------
    ShapeError, OptionError, DTypeError
        The arguments do not fit each other, or are illegal.

    Examples
    --------
    >>> avg_pool_backward(np.array([[[10.0, 20.0]]]), (1, 1, 4), 2)
    array([[[ 5.,  5., 10., 10.]]])
    """
    geometry = window_geometry(input_shape, kernel_size, stride, padding, 1, ceil_mode)
    return average_backward(grad_output, geometry, divisor_code(count_include_pad, divisor_override))


def lp_pool_forward(
    x: np.ndarray, norm_type: float, kernel_size: Any, *, stride: Any = None, ceil_mode: bool = False
) -> np.ndarray:
    """The p-norm of every window: ``y[o] = (sum over k of x[S*o + k] ** p) ** (1 / p)``.

    As in PyTorch the powers keep their sign (``p = 1`` is sum pooling, and an odd `p` gives NaN where the sum is
    negative), and a window that hangs over the edge counts as if what it misses were like what it has.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        float32 or float64.
    norm_type : float
        p, positive and finite (`max_pool_forward` is the limit of large p).
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    ceil_mode : bool, default False

    Returns
    -------
    ndarray, shape (N, C, *output)

    Raises
    ------
    ShapeError, OptionError, DTypeError
        As `avg_pool_forward`; `norm_type` is not a positive number.

    Examples
    --------
    >>> lp_pool_forward(np.array([[[3.0, 4.0, 0.0, 2.0]]]), 2, 2)
    array([[[5., 2.]]])
    """
    x = check_float("x", x)
    power = _check_norm_type(norm_type)
    geometry = window_geometry(x.shape, kernel_size, stride, 0, 1, ceil_mode)
    with np.errstate(invalid="ignore", over="ignore"):
        total = average_forward(_power(x, power), geometry, COUNT_PADDING)
        total *= geometry.taps
        return _power(total, 1.0 / power)


def lp_pool_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    norm_type: float,
    kernel_size: Any,
    *,
    stride: Any = None,
    ceil_mode: bool = False,
) -> np.ndarray:
    """The gradient with respect to the input of `lp_pool_forward`, called with the same options.

    Where a window is all zero the norm has no derivative, and the gradient is 0.

    Parameters
    ----------
    grad_output : ndarray, shape (N, C, *output)
    x, out : ndarray
        The input and the output of `lp_pool_forward`.
    norm_type, kernel_size, stride, ceil_mode
        As given to `lp_pool_forward`.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    ShapeError, OptionError, DTypeError
        The arguments do not fit each other, or are illegal.

    Examples
    --------
    >>> x = np.array([[[3.0, 4.0]]])
    >>> lp_pool_backward(np.ones((1, 1, 1)), x, lp_pool_forward(x, 2, 2), 2, 2)
    array([[[0.6, 0.8]]])
    """
    x = check_float("x", x)
    power = _check_norm_type(norm_type)
    geometry = window_geometry(x.shape, kernel_size, stride, 0, 1, ceil_mode)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scaled = grad_output * geometry.taps * _power(out, 1.0 - power)
        scaled[out == 0] = 0
        return average_backward(scaled, geometry, COUNT_PADDING) * _power(x, power - 1.0)


def _check_norm_type(norm_type: float) -> float:
    if (
        isinstance(norm_type, bool)
        or not isinstance(norm_type, (int, float, np.number))
        or not 0 < norm_type < math.inf
    ):
        raise OptionError(f"norm_type must be a positive finite number, got {norm_type!r}")
    return float(norm_type)


def _power(x: np.ndarray, exponent: float) -> np.ndarray:
    """``x ** exponent`` in a new array; the usual exponents without the cost of a logarithm per element."""
    if exponent == 0:
        return np.ones_like(x)
    if exponent == 1:
        return x.copy(order="K")
    if exponent == 0.5:
        return np.sqrt(x)
    if exponent == -1:
        return np.reciprocal(x)
    return np.square(x) if exponent == 2 else np.power(x, x.dtype.type(exponent))
