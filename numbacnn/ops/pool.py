"""Pooling of NumPy arrays: max, average, p-norm.

Arrays are (N, C, *spatial) with one to three spatial axes and any strides; results have channels-last memory.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError, ShapeError
from ..kernels import pool as kernels
from ..kernels import pool_scatter
from ..kernels.pool_walk import COUNT_PADDING
from ._check import check_float, check_tensor_like
from ._global_average import average_everything
from ._pool_plan import divisor_code, is_tiling, plan_backward, plan_forward, plan_scatter, window_geometry
from .layout import channels_last, empty_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernels._build import Prepared
    from .geometry import PoolGeometry

__all__ = [
    "avg_pool_backward",
    "avg_pool_forward",
    "lp_pool_backward",
    "lp_pool_forward",
    "max_pool_backward",
    "max_pool_forward",
]

_NO_OFFSETS = np.empty(1, np.uint8)


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


class _MaxPool(NamedTuple):
    """The launch of a max pool, and of its gradient where the windows lie side by side."""

    launch: Prepared
    output_shape: tuple[int, ...]
    offset_dtype: np.dtype[Any]


def offset_dtype(geometry: PoolGeometry) -> np.dtype[Any]:
    """The smallest dtype that numbers the taps of a window."""
    for dtype in kernels.OFFSET_DTYPES:
        if geometry.taps - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ShapeError(f"a window of {geometry.taps} elements is too large: its offsets do not fit 32 bits")


@functools.lru_cache(maxsize=1024)
def _plan_max(geometry: PoolGeometry, dtype: np.dtype[Any], with_offsets: bool) -> _MaxPool:
    plan = plan_forward(geometry, dtype.itemsize, offsets=with_offsets)
    kernel = kernels.max_pool_few if plan.few else kernels.max_pool
    offsets = offset_dtype(geometry) if with_offsets else _NO_OFFSETS.dtype
    launch = kernel.prepare((offsets, dtype), plan.blocks, -math.inf, plan.pool, cost=plan.cost)
    return _MaxPool(launch, geometry.output_shape, offsets)


@functools.lru_cache(maxsize=1024)
def _plan_tiles_backward(geometry: PoolGeometry, dtype: np.dtype[Any]) -> _MaxPool:
    plan = plan_forward(geometry, dtype.itemsize, offsets=True)
    kernel = kernels.max_pool_tiles_backward_few if plan.few else kernels.max_pool_tiles_backward
    offsets = offset_dtype(geometry)
    launch = kernel.prepare((offsets, dtype), plan.blocks, plan.pool, cost=plan.cost)
    return _MaxPool(launch, geometry.output_shape, offsets)


@functools.lru_cache(maxsize=1024)
def _plan_average(geometry: PoolGeometry, dtype: np.dtype[Any], divisor: int) -> Prepared:
    plan = plan_forward(geometry, dtype.itemsize, divisor)
    kernel = kernels.average_pool_few if plan.few else kernels.average_pool
    return kernel.prepare((dtype,), plan.blocks, plan.pool, cost=plan.cost)


@functools.lru_cache(maxsize=1024)
def _plan_average_backward(geometry: PoolGeometry, dtype: np.dtype[Any], divisor: int) -> Prepared:
    plan = plan_backward(geometry, dtype.itemsize, divisor)
    kernel = kernels.average_pool_backward_few if plan.few else kernels.average_pool_backward
    return kernel.prepare((dtype,), plan.blocks, plan.pool, cost=plan.cost)


def max_forward(x: np.ndarray, geometry: PoolGeometry, with_offsets: bool) -> tuple[np.ndarray, Any]:
    """The largest values of a pool whose geometry is known, and their offsets in the windows or None."""
    values, restore = _comparable(x)
    plan = _plan_max(geometry, values.dtype, bool(with_offsets))
    out = empty_channels_last(plan.output_shape, values.dtype)
    offsets = empty_channels_last(plan.output_shape, plan.offset_dtype) if with_offsets else None
    plan.launch(channels_last(values), out, _NO_OFFSETS if offsets is None else offsets)
    return restore(out), offsets


def max_backward(grad_output: np.ndarray, offsets: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """The gradient of the input of a max pool whose geometry is known."""
    grad = _check_gradient(grad_output, geometry)
    plan = _plan_tiles_backward(geometry, grad.dtype)
    if offsets.dtype != plan.offset_dtype or offsets.shape != plan.output_shape:
        raise ShapeError(
            f"offsets must be {plan.offset_dtype} of shape {plan.output_shape}, as the forward pass returned them; "
            f"got {offsets.dtype} of shape {offsets.shape}"
        )
    out = empty_channels_last(geometry.input_shape, grad.dtype)
    offsets = channels_last(offsets)
    if is_tiling(geometry):
        plan.launch(out, grad, offsets)
        _clear_beyond_windows(out, geometry)
        return out
    scatter, taps = plan_scatter(geometry, grad.itemsize)
    reach = int(taps[-1]) // geometry.channels
    pool_scatter.max_pool_backward(scatter.blocks, grad, offsets, taps, reach, out, scatter.pool, cost=scatter.cost)
    return out


def _clear_beyond_windows(out: np.ndarray, geometry: PoolGeometry) -> None:
    """Zeros in what lies beyond the last of windows that lie side by side."""
    for axis in range(2, out.ndim):
        reached = geometry.output[axis - out.ndim] * geometry.stride[axis - out.ndim]
        if reached < out.shape[axis]:
            np.moveaxis(out, axis, 0)[reached:] = 0


def average_forward(x: np.ndarray, geometry: PoolGeometry, divisor: int) -> np.ndarray:
    """The averages of a pool whose geometry is known, over what `divisor` counts (see `divisor_code`)."""
    if geometry.output == (1, 1, 1) and divisor <= 0 and is_tiling(geometry) and geometry.kernel == geometry.input:
        return average_everything(x)
    out = empty_channels_last(geometry.output_shape, x.dtype)
    _plan_average(geometry, x.dtype, divisor)(channels_last(x), out)
    return out


def average_backward(grad_output: np.ndarray, geometry: PoolGeometry, divisor: int) -> np.ndarray:
    """The gradient of the input of an average pool whose geometry is known."""
    grad = _check_gradient(grad_output, geometry)
    out = empty_channels_last(geometry.input_shape, grad.dtype)
    _plan_average_backward(geometry, grad.dtype, divisor)(grad, out)
    return out


def _check_gradient(grad_output: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    grad = check_float("grad_output", grad_output)
    if grad.shape != geometry.output_shape:
        raise ShapeError(
            f"grad_output has shape {grad.shape}, but a pool of input {geometry.input_shape} gives "
            f"{geometry.output_shape}"
        )
    return channels_last(grad)


def _comparable(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Floats in the order of `x`, and the way back from them: kernels compare floats only.

    Integers become floats that hold them exactly or, if they are too large for that, their ranks.
    """
    if x.dtype.kind not in "iub":
        return check_float("x", x), lambda out: out
    exact = np.float32 if x.itemsize <= 2 else np.float64
    if x.itemsize == 8 and x.size and max(abs(int(x.min())), abs(int(x.max()))) > 2**53:
        distinct, ranks = np.unique(x, return_inverse=True)
        return ranks.reshape(x.shape).astype(exact), lambda out: distinct[out.astype(np.intp)]
    return x.astype(exact), lambda out: out.astype(x.dtype)


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
