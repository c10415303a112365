"""Activation functions with their gradients; names and argument order are PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..ops import activation as ops

if TYPE_CHECKING:
    from collections.abc import Callable

    _Op = Callable[..., np.ndarray]

__all__ = ["gelu", "leaky_relu", "log_softmax", "relu", "relu6", "sigmoid", "silu", "softmax", "tanh"]


def relu(input: Any) -> Tensor:
    """``max(input, 0)``, element by element; the gradient at 0 is 0, and NaN stays NaN.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0])).data
    array([0., 2.])
    """
    return _from_output("relu", ops.relu_forward, ops.relu_backward, input)


def relu6(input: Any) -> Tensor:
    """``min(max(input, 0), 6)``, element by element; the gradient at 0 and 6 is 0, and NaN stays NaN.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> relu6(np.array([-1.0, 2.0, 7.0])).data
    array([0., 2., 6.])
    """
    return _from_output("relu6", ops.relu6_forward, ops.relu6_backward, input)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """``input`` where it is not negative, else ``negative_slope * input``.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.
    negative_slope : float, default 0.01
        Any number; above 1 it is still the slope of the negative side. The gradient at 0 is that of the negative side.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.5).data
    array([-0.5,  2. ])
    """
    return _from_input("leaky_relu", ops.leaky_relu_forward, ops.leaky_relu_backward, input, negative_slope)


def sigmoid(input: Any) -> Tensor:
    """The logistic function ``1 / (1 + exp(-input))``.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> sigmoid(np.zeros(1)).data
    array([0.5])
    """
    return _from_output("sigmoid", ops.sigmoid_forward, ops.sigmoid_backward, input)


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> tanh(np.zeros(1)).data
    array([0.])
    """
    return _from_output("tanh", ops.tanh_forward, ops.tanh_backward, input)


def silu(input: Any) -> Tensor:
    """``input * sigmoid(input)``, also called swish.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Examples
    --------
    >>> silu(np.array([0.0, 40.0])).data
    array([ 0., 40.])
    """
    return _from_input("silu", ops.silu_forward, ops.silu_backward, input)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """``input`` times the standard normal distribution function of it.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.
    approximate : {"none", "tanh"}, default "none"
        The exact function, or its approximation by tanh.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Raises
    ------
    OptionError
        `approximate` is anything else.

    Examples
    --------
    >>> gelu(np.array([0.0, 40.0])).data
    array([ 0., 40.])
    """
    return _from_input("gelu", ops.gelu_forward, ops.gelu_backward, input, approximate)


def softmax(input: Any, dim: int = 1) -> Tensor:
    """``exp(input)`` divided by its sum along an axis; large values do not overflow.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape with at least one axis, float32 or float64.
    dim : int, default 1
        The axis whose elements sum to 1; the default is the axis of classes or channels.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Raises
    ------
    OptionError
        The input has no such axis.

    Examples
    --------
    >>> softmax(np.zeros((1, 4))).data
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    return _from_output("softmax", ops.softmax_forward, ops.softmax_backward, input, dim)


def log_softmax(input: Any, dim: int = 1) -> Tensor:
    """The logarithm of `softmax`, computed without taking the logarithm of a small number.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape with at least one axis, float32 or float64.
    dim : int, default 1
        The axis along which the exponentials sum to 1.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Raises
    ------
    OptionError
        The input has no such axis.

    Examples
    --------
    >>> log_softmax(np.array([[0.0, 1000.0]])).data
    array([[-1000.,     0.]])
    """
    return _from_output("log_softmax", ops.log_softmax_forward, ops.log_softmax_backward, input, dim)


def _from_output(name: str, forward: _Op, backward: _Op, input: Any, *options: Any) -> Tensor:
    """A function whose gradient follows from its result."""
    x = as_tensor(input)
    out = forward(x.data, *options)
    return apply(name, (x,), out, lambda grad, needs: (backward(grad, out, *options),))


def _from_input(name: str, forward: _Op, backward: _Op, input: Any, *options: Any) -> Tensor:
    """A function whose gradient follows from its input."""
    x = as_tensor(input)
    values = x.data
    return apply(name, (x,), forward(values, *options), lambda grad, needs: (backward(grad, values, *options),))
