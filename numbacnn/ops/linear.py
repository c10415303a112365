"""Fully connected layers on arrays, forward and backward: the bits do not depend on threads or on the batch."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ._check import check_float, check_same_dtype
from .matmul import known_product, product

__all__ = ["linear_backward_input", "linear_backward_weight", "linear_forward"]


def linear_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``x @ weight.T + bias`` on the last axis.

    Parameters
    ----------
    x : ndarray, shape (..., in_features)
    weight : ndarray, shape (out_features, in_features)
    bias : ndarray, shape (out_features,), optional

    Returns
    -------
    ndarray, shape (..., out_features)

    Raises
    ------
    ShapeError
        The sizes do not fit.
    DTypeError
        Not float32 or float64, or dtypes differ.

    Examples
    --------
    >>> linear_forward(np.ones((1, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]))
    array([[13., 27.]])
    """
    x, weight = check_float("x", x), check_float("weight", weight)
    quick = known_product(x, weight.T, bias)
    if quick is not None:
        return quick
    check_same_dtype(x=x, weight=weight, bias=bias)
    if weight.ndim != 2:
        raise ShapeError(f"weight must have shape (out_features, in_features), got shape {weight.shape}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"the last axis of the input must have in_features = {weight.shape[1]} elements "
            f"(weight has shape {weight.shape}), got an input of shape {x.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"bias must have shape {weight.shape[:1]} for a weight of shape {weight.shape}, got {bias.shape}"
        )
    out = product(_rows(x), weight.T, bias=bias)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward_input(grad_output: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The gradient of `linear_forward` with respect to `x`.

    Examples
    --------
    >>> linear_backward_input(np.ones((1, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[4., 6.]])
    """
    grad = check_float("grad_output", grad_output)
    quick = known_product(grad, weight)
    if quick is not None:
        return quick
    check_same_dtype(grad_output=grad, weight=weight)
    out = product(_rows(grad), weight)
    return out.reshape(*grad.shape[:-1], weight.shape[1])


def linear_backward_weight(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The gradient of `linear_forward` with respect to `weight`; that of the bias is the sum over leading axes.

    Examples
    --------
    >>> linear_backward_weight(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
    array([[3., 4.],
           [6., 8.]])
    """
    grad = check_float("grad_output", grad_output)
    quick = known_product(grad.T, x)
    if quick is not None:
        return quick
    check_same_dtype(grad_output=grad, x=x)
    return product(_rows(grad).T, _rows(x))


def _rows(x: np.ndarray) -> np.ndarray:
    """The array as a matrix of vectors along its last axis."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
