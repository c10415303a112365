"""The fully connected layer with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..ops import linear as ops

__all__ = ["linear"]


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias`` on the last axis.

    Parameters
    ----------
    input : Tensor or ndarray, shape (..., in_features)
        float32 or float64.
    weight : Tensor or ndarray, shape (out_features, in_features)
    bias : Tensor or ndarray, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (..., out_features)

    Raises
    ------
    ShapeError
        The sizes do not fit.

    Examples
    --------
    >>> linear(np.ones((1, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])).data
    array([[13., 27.]])
    """
    inputs = (as_tensor(input), as_tensor(weight)) + (() if bias is None else (as_tensor(bias),))
    x, w = inputs[0].data, inputs[1].data

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        grad_input = ops.linear_backward_input(grad, w) if needs[0] else None
        grad_weight = ops.linear_backward_weight(grad, x) if needs[1] else None
        if bias is None:
            return grad_input, grad_weight
        return grad_input, grad_weight, grad.reshape(-1, grad.shape[-1]).sum(0) if needs[2] else None

    return apply("linear", inputs, ops.linear_forward(*(t.data for t in inputs)), backward)
