"""Activation functions with their gradients; names and argument order are PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..ops import activation as ops

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
    x = as_tensor(input)
    out = ops.relu_forward(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.relu_backward(grad, out),)

    return apply("relu", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.relu6_forward(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.relu6_backward(grad, out),)

    return apply("relu6", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.leaky_relu_forward(x.data, negative_slope)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.leaky_relu_backward(grad, x.data, negative_slope),)

    return apply("leaky_relu", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.sigmoid_forward(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.sigmoid_backward(grad, out),)

    return apply("sigmoid", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.tanh_forward(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.tanh_backward(grad, out),)

    return apply("tanh", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.silu_forward(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.silu_backward(grad, x.data),)

    return apply("silu", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.gelu_forward(x.data, approximate)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.gelu_backward(grad, x.data, approximate),)

    return apply("gelu", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.softmax_forward(x.data, dim)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.softmax_backward(grad, out, dim),)

    return apply("softmax", (x,), out, backward)


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
    x = as_tensor(input)
    out = ops.log_softmax_forward(x.data, dim)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.log_softmax_backward(grad, out, dim),)

    return apply("log_softmax", (x,), out, backward)
