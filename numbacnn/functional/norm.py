"""Batch normalisation with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..ops import norm as ops

__all__ = ["batch_norm", "batch_norm_relu"]


def batch_norm(
    input: Any,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel to mean 0 and variance 1, then multiply by `weight` and add `bias`.

    Parameters
    ----------
    input : Tensor or ndarray, shape (N, C, *spatial)
        Zero to three spatial axes; float32 or float64.
    running_mean, running_var : ndarray or Tensor, shape (C,), or None
        Moved in place towards the batch's statistics when `training`, used instead of them when not.
    weight, bias : Tensor or ndarray, shape (C,), optional
    training : bool, default False
        Normalise by the mean and the biased variance of this batch.
    momentum : float, default 0.1
        The weight of the batch's mean and unbiased variance in the running ones.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    Tensor, shape of `input`

    Raises
    ------
    ShapeError
        Shapes do not fit, or a training batch has a single value per channel.
    OptionError
        `training` is False and there are no running statistics, or `eps` is negative.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015.

    Examples
    --------
    >>> batch_norm(np.array([[1.0], [3.0]]), None, None, training=True, eps=0.0).data
    array([[-1.],
           [ 1.]])
    """
    return _batch_norm("none", input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_relu(
    input: Any,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``relu(batch_norm(...))`` in one pass over memory, forward and backward; see `batch_norm`.

    Examples
    --------
    >>> batch_norm_relu(np.array([[1.0], [3.0]]), None, None, training=True, eps=0.0).data
    array([[0.],
           [1.]])
    """
    return _batch_norm("relu", input, running_mean, running_var, weight, bias, training, momentum, eps)


def _batch_norm(
    activation: str,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    x = as_tensor(input)
    scale, shift = (None if v is None else as_tensor(v) for v in (weight, bias))
    given = [v for v in (scale, shift) if v is not None]
    out, saved = ops.batch_norm_forward(
        x.data,
        _data(scale),
        _data(shift),
        _data(running_mean),
        _data(running_var),
        training=training,
        momentum=momentum,
        eps=eps,
        activation=activation,
    )

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray, ...]:
        grad_input, *grad_vectors = ops.batch_norm_backward(grad, saved)
        return (grad_input, *(g for g, v in zip(grad_vectors, (scale, shift), strict=True) if v is not None))

    name = "batch_norm" if activation == "none" else f"batch_norm_{activation}"
    return apply(name, (x, *given), out, backward)


def _data(vector: Any) -> np.ndarray | None:
    return vector.data if isinstance(vector, Tensor) else vector
