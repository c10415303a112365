"""Activation functions on arrays, forward and backward.

Every function works on an array of any shape and keeps its order of axes in memory. A ``_backward`` takes the gradient
of the output first, then what the forward pass must keep: the output where that is enough, else the input.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OptionError, ShapeError
from ..kernels import activation as kernels
from ..kernels import softmax as softmax_kernels
from ..kernels._program import Operand, Program
from ._call import Call, make_call
from ._check import check_choice, check_float, check_same_dtype
from ._dense import STEP, dense, in_memory_of, is_streamed, known_call, strides_order
from .memory import Room

if TYPE_CHECKING:
    from ..kernels._build import Kernel, Prepared

__all__ = [
    "gelu_backward",
    "gelu_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]

_ndarray = np.ndarray  # a name of this module is found sooner, and this is looked up at every call
# Nanoseconds per element on one core, with the data in cache: decides only whether sharing the work pays.
NS_COPY = 0.2
NS_EXP = 1.0
NS_ERF = 3.0


def relu_forward(x: np.ndarray) -> np.ndarray:
    """``max(x, 0)``; NaN stays NaN.

    Examples
    --------
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _map(kernels.relu_forward, NS_COPY, x)


def relu_backward(grad_output: np.ndarray, output: np.ndarray) -> np.ndarray:
    """The gradient of `relu_forward`: 0 where the output is 0.

    Examples
    --------
    >>> relu_backward(np.ones(3), relu_forward(np.array([-1.0, 0.0, 2.0])))
    array([0., 0., 1.])
    """
    return _map_gradient(kernels.relu_backward, NS_COPY, grad_output, output)


def relu6_forward(x: np.ndarray) -> np.ndarray:
    """``min(max(x, 0), 6)``; NaN stays NaN.

    Examples
    --------
    >>> relu6_forward(np.array([-1.0, 2.0, 7.0]))
    array([0., 2., 6.])
    """
    return _map(kernels.relu6_forward, NS_COPY, x)


def relu6_backward(grad_output: np.ndarray, output: np.ndarray) -> np.ndarray:
    """The gradient of `relu6_forward`: 0 where the output is 0 or 6.

    Examples
    --------
    >>> relu6_backward(np.ones(3), relu6_forward(np.array([-1.0, 2.0, 7.0])))
    array([0., 1., 0.])
    """
    return _map_gradient(kernels.relu6_backward, NS_COPY, grad_output, output)


def leaky_relu_forward(x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    """``x`` where x >= 0, ``negative_slope * x`` elsewhere, for slopes above 1 too.

    Examples
    --------
    >>> leaky_relu_forward(np.array([-2.0, 3.0]), 0.5)
    array([-1.,  3.])
    """
    return _map(kernels.leaky_relu_forward, NS_COPY, x, float(negative_slope))


def leaky_relu_backward(grad_output: np.ndarray, x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    """The gradient of `leaky_relu_forward`.

    Examples
    --------
    >>> leaky_relu_backward(np.ones(2), np.array([-2.0, 3.0]), 0.5)
    array([0.5, 1. ])
    """
    return _map_gradient(kernels.leaky_relu_backward, NS_COPY, grad_output, x, float(negative_slope))


def sigmoid_forward(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> sigmoid_forward(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    """
    return _map(kernels.sigmoid_forward, NS_EXP, x)


def sigmoid_backward(grad_output: np.ndarray, output: np.ndarray) -> np.ndarray:
    """The gradient of `sigmoid_forward`, from its output.

    Examples
    --------
    >>> sigmoid_backward(np.ones(1), np.array([0.5]))
    array([0.25])
    """
    return _map_gradient(kernels.sigmoid_backward, NS_COPY, grad_output, output)


def tanh_forward(x: np.ndarray) -> np.ndarray:
    """The hyperbolic tangent.

    Examples
    --------
    >>> tanh_forward(np.array([-np.inf, 0.0, np.inf]))
    array([-1.,  0.,  1.])
    """
    return _map(kernels.tanh_forward, NS_EXP, x)


def tanh_backward(grad_output: np.ndarray, output: np.ndarray) -> np.ndarray:
    """The gradient of `tanh_forward`, from its output.

    Examples
    --------
    >>> tanh_backward(np.ones(1), np.array([0.5]))
    array([0.75])
    """
    return _map_gradient(kernels.tanh_backward, NS_COPY, grad_output, output)


def silu_forward(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)`` (Elfwing et al., "Sigmoid-weighted linear units", 2017).

    Examples
    --------
    >>> silu_forward(np.array([0.0, 40.0]))
    array([ 0., 40.])
    """
    return _map(kernels.silu_forward, NS_EXP, x)


def silu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The gradient of `silu_forward`.

    Examples
    --------
    >>> silu_backward(np.ones(1), np.array([0.0]))
    array([0.5])
    """
    return _map_gradient(kernels.silu_backward, NS_EXP, grad_output, x)


def gelu_forward(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """``x`` times the standard normal distribution function (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    x : ndarray
    approximate : {"none", "tanh"}, default "none"
        "tanh" uses ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) / 2`` for the distribution function.

    Examples
    --------
    >>> gelu_forward(np.array([0.0, 40.0]))
    array([ 0., 40.])
    """
    exact = check_choice("approximate", approximate, ("none", "tanh")) == "none"
    return _map(kernels.gelu_forward if exact else kernels.gelu_tanh_forward, NS_ERF, x)


def gelu_backward(grad_output: np.ndarray, x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """The gradient of `gelu_forward`.

    Examples
    --------
    >>> gelu_backward(np.ones(1), np.array([0.0]))
    array([0.5])
    """
    exact = check_choice("approximate", approximate, ("none", "tanh")) == "none"
    kernel = kernels.gelu_backward if exact else kernels.gelu_tanh_backward
    return _map_gradient(kernel, NS_ERF, grad_output, x)


def softmax_forward(x: np.ndarray, dim: int = 1) -> np.ndarray:
    """``exp(x) / sum(exp(x))`` along one axis, computed from ``x - max(x)`` so that it cannot overflow.

    Parameters
    ----------
    x : ndarray
    dim : int, default 1
        The axis whose elements sum to 1.

    Raises
    ------
    OptionError
        `x` has no such axis.

    Examples
    --------
    >>> softmax_forward(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    return _softmax(softmax_kernels.softmax_rows, softmax_kernels.softmax_columns, dim, x)


def softmax_backward(grad_output: np.ndarray, output: np.ndarray, dim: int = 1) -> np.ndarray:
    """The gradient of `softmax_forward`, from its output: ``y * (g - sum(g * y))``.

    Examples
    --------
    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    rows, columns = softmax_kernels.softmax_rows_backward, softmax_kernels.softmax_columns_backward
    return _softmax(rows, columns, dim, output, grad_output)


def log_softmax_forward(x: np.ndarray, dim: int = 1) -> np.ndarray:
    """The logarithm of `softmax_forward`, exact where the softmax itself would round to 0.

    Examples
    --------
    >>> log_softmax_forward(np.array([[0.0, 1000.0]]))
    array([[-1000.,     0.]])
    """
    return _softmax(softmax_kernels.log_softmax_rows, softmax_kernels.log_softmax_columns, dim, x)


def log_softmax_backward(grad_output: np.ndarray, output: np.ndarray, dim: int = 1) -> np.ndarray:
    """The gradient of `log_softmax_forward`, from its output: ``g - exp(y) * sum(g)``.

    Examples
    --------
    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    rows, columns = softmax_kernels.log_softmax_rows_backward, softmax_kernels.log_softmax_columns_backward
    return _softmax(rows, columns, dim, output, grad_output)


def _map(kernel: Any, ns: float, x: np.ndarray, *scalars: float) -> np.ndarray:
    call = None
    if type(x) is _ndarray:
        call = known_call(kernel, ns, 1, x.dtype, x.shape, x.strides, scalars)
    if call is None:
        x = dense(check_float("x", x))
        call = known_call(kernel, ns, 1, x.dtype, x.shape, x.strides, scalars)
        assert call is not None
    return call(x)


def _map_gradient(kernel: Any, ns: float, grad: np.ndarray, saved: np.ndarray, *scalars: float) -> np.ndarray:
    call = None
    if type(grad) is type(saved) is _ndarray:
        dtype, shape, strides = saved.dtype, saved.shape, saved.strides
        if grad.dtype is dtype and grad.strides == strides and grad.shape == shape:
            call = known_call(kernel, ns, 2, dtype, shape, strides, scalars)
    if call is None:
        saved, grad = _matching(grad, saved)
        call = known_call(kernel, ns, 2, saved.dtype, saved.shape, saved.strides, scalars)
        assert call is not None
    return call(grad, saved)


def _matching(grad: np.ndarray, saved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The saved array, dense, and the gradient in the same memory order."""
    saved = dense(check_float("saved array", saved))
    grad = check_float("grad_output", grad)
    if grad.dtype is not saved.dtype:
        check_same_dtype(grad_output=grad, saved_array=saved)
    if grad.shape != saved.shape:
        raise ShapeError(f"grad_output has shape {grad.shape}, but the output had shape {saved.shape}")
    return saved, in_memory_of(saved, grad)


def _softmax(rows: Any, columns: Any, dim: int, x: np.ndarray, grad: np.ndarray | None = None) -> np.ndarray:
    """Run the kernel for a contiguous axis or the one for any other."""
    x = check_float("x", x)
    if isinstance(dim, bool) or not hasattr(dim, "__index__") or not -x.ndim <= dim < x.ndim:
        raise OptionError(f"dim must be an axis of the input, which has shape {x.shape}; got {dim!r}")
    if grad is None:
        x = dense(x)
        return _softmax_call(rows, columns, x.dtype, x.shape, x.strides, int(dim), 1)(x)
    x, grad = _matching(grad, x)
    return _softmax_call(rows, columns, x.dtype, x.shape, x.strides, int(dim), 2)(grad, x)


@functools.lru_cache(maxsize=256)
def _softmax_call(
    rows: Kernel,
    columns: Kernel,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dim: int,
    arrays: int,
) -> Call:
    """The call of one array or two that are dense and alike."""
    operands = [Operand(shape, dtype) for _ in range(arrays + 1)]
    steps = []
    if 0 not in shape:
        order = strides_order(shape, strides, dtype.itemsize)
        assert order is not None
        steps = [_softmax_launch(rows, columns, dtype, shape, order, dim).on(*operands)]
    return make_call(Program(steps, operands), Room(shape, dtype, strides))


def _softmax_launch(
    rows: Kernel, columns: Kernel, dtype: np.dtype[Any], shape: tuple[int, ...], order: tuple[int, ...], dim: int
) -> Prepared:
    n, size = shape[dim], math.prod(shape)
    inner = math.prod(shape[axis] for axis in order[order.index(dim % len(shape)) + 1 :])
    cost = 3 * NS_EXP * size
    gradient = rows in (softmax_kernels.softmax_rows_backward, softmax_kernels.log_softmax_rows_backward)
    if rows is softmax_kernels.softmax_rows_backward and inner == 1 and n in softmax_kernels.GROUPS:
        streamed = is_streamed(size * dtype.itemsize)
        return softmax_kernels.softmax_groups_backward.prepare(
            (dtype,), -(-size // STEP), size, n, STEP, streamed, cost=NS_COPY * size
        )
    if inner == 1 and n > (softmax_kernels.SHORT_GRADIENT if gradient else softmax_kernels.SHORT):
        step = max(1, STEP // n)
        return rows.prepare((dtype,), -(-size // (n * step)), size // n, n, step, cost=cost)
    step = max(1, STEP // (softmax_kernels.TILE * n)) * softmax_kernels.TILE
    if inner == 1:
        return columns.prepare((dtype,), -(-size // (n * step)), n, 1, step, size // n, cost=cost)
    return columns.prepare((dtype,), size // (n * inner) * -(-inner // step), n, inner, step, 0, cost=cost)
