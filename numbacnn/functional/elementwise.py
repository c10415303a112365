"""Functions of each element of one operand. Special values, and warnings of them, are NumPy's (`numpy.errstate`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..autograd import Tensor, apply, as_tensor
from ..errors import DTypeError

__all__ = [
    "abs",
    "astype",
    "clip",
    "exp",
    "log",
    "neg",
    "sqrt",
]


def neg(input: Any) -> Tensor:
    """``-input``.

    Parameters
    ----------
    input : Tensor or array_like

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Examples
    --------
    >>> neg([1.0, -2.0])
    Tensor([-1.,  2.], dtype=float32)
    """
    x = as_tensor(input)
    return apply("neg", (x,), ops.arithmetic.negative(x.data), lambda grad, needs: (ops.arithmetic.negative(grad),))


def exp(input: Any) -> Tensor:
    """The exponential function.

    Parameters
    ----------
    input : Tensor or array_like
        Floating-point values.

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Raises
    ------
    DTypeError
        The values are integers or bools.

    Examples
    --------
    >>> exp([0.0, 1.0])
    Tensor([1.      , 2.71828...], dtype=float32)
    """
    x = float_operand("exp", input)
    value = np.exp(x.data)
    return apply("exp", (x,), value, lambda grad, needs: (grad * value,))


def log(input: Any) -> Tensor:
    """The natural logarithm.

    Parameters
    ----------
    input : Tensor or array_like
        Floating-point values.

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Raises
    ------
    DTypeError
        The values are integers or bools.

    Examples
    --------
    >>> log([1.0, 2.0])
    Tensor([0.       , 0.6931472], dtype=float32)
    """
    x = float_operand("log", input)
    return apply("log", (x,), np.log(x.data), lambda grad, needs: (grad / x.data,))


def sqrt(input: Any) -> Tensor:
    """The square root; its gradient at 0 is infinite.

    Parameters
    ----------
    input : Tensor or array_like
        Floating-point values.

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Raises
    ------
    DTypeError
        The values are integers or bools.

    Examples
    --------
    >>> sqrt([4.0, 9.0])
    Tensor([2., 3.], dtype=float32)
    """
    x = float_operand("sqrt", input)
    value = np.sqrt(x.data)
    return apply("sqrt", (x,), value, lambda grad, needs: (grad / (2 * value),))


def abs(input: Any) -> Tensor:
    """The absolute value; its gradient at 0 is 0.

    Parameters
    ----------
    input : Tensor or array_like

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Examples
    --------
    >>> abs([-1.0, 2.0])
    Tensor([1., 2.], dtype=float32)
    """
    x = as_tensor(input)
    return apply("abs", (x,), np.abs(x.data), lambda grad, needs: (grad * np.sign(x.data),))


def clip(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Values limited to [min, max]; NaN stays NaN. The gradient is 1 inside and on the limits, 0 outside.

    Parameters
    ----------
    input : Tensor or array_like
    min, max : number, optional
        None is no limit.

    Examples
    --------
    >>> clip([-1.0, 0.5, 2.0], 0, 1)
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    x = as_tensor(input)
    low, high = (limit if limit is None else x.dtype.type(limit) for limit in (min, max))
    value = x.data if low is None else np.maximum(x.data, low)
    value = value if high is None else np.minimum(value, high)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        outside = np.zeros(x.shape, bool)
        if low is not None:
            outside |= x.data < low
        if high is not None:
            outside |= x.data > high
        return (np.where(outside, grad.dtype.type(0), grad),)

    return apply("clip", (x,), value, backward)


def astype(input: Any, dtype: Any) -> Tensor:
    """The same values in another dtype; the gradient comes back in the old one.

    Parameters
    ----------
    input : Tensor or array_like
    dtype : dtype

    Returns
    -------
    Tensor

    Raises
    ------
    DTypeError
        The input requires a gradient, and `dtype` has none: integers, for instance.

    Examples
    --------
    >>> astype(np.array([0, 255], np.uint8), np.float32)
    Tensor([  0., 255.], dtype=float32)
    """
    x = as_tensor(input)
    dtype = np.dtype(dtype)
    if x.requires_grad and dtype.kind != "f":
        raise DTypeError(f"a tensor that requires a gradient cannot become {dtype}; use .detach() first")
    return apply("astype", (x,), x.data.astype(dtype, copy=False), lambda grad, needs: (grad.astype(x.dtype),))


def float_operand(name: str, input: Any) -> Tensor:
    """A floating-point tensor."""
    x = as_tensor(input)
    if x.dtype.kind != "f":
        raise DTypeError(f"{name} needs floating-point values, got {x.dtype}; convert with .astype(np.float32)")
    return x
