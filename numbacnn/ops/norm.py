r"""Batch normalisation on arrays, forward and backward, with an optional ReLU in the same pass.

.. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \gamma + \beta

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..errors import OptionError
from ._check import check_float
from ._norm_plan import plan_backward, plan_forward

__all__ = ["BatchNormSaved", "batch_norm_backward", "batch_norm_forward"]


class BatchNormSaved(NamedTuple):
    """What the backward pass needs of the forward pass, beside its input.

    Parameters
    ----------
    x : ndarray
        The input, in channels-last memory.
    stats : ndarray
        Mean, scale and so on per wide row; see `numbacnn.kernels.norm`.
    training : bool
        Whether the statistics were the batch's own.
    activation : {"none", "relu"}
    """

    x: np.ndarray
    stats: np.ndarray
    training: bool
    activation: str


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str = "none",
) -> tuple[np.ndarray, BatchNormSaved]:
    """Normalise every channel to mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
        Zero to three spatial axes; float32 or float64.
    weight, bias : ndarray, shape (C,), optional
        Scale and shift; 1 and 0 if absent.
    running_mean, running_var : ndarray, shape (C,), optional
        Updated in place when `training`, used as the statistics when not.
    training : bool, default True
        Use the mean and the (biased) variance of this batch; False: the running ones.
    momentum : float, default 0.1
        The weight of the new statistics in the running ones. The variance that enters those is the unbiased one.
    eps : float, default 1e-5
        Added to the variance.
    activation : {"none", "relu"}, default "none"
        Applied in the same pass.

    Returns
    -------
    out : ndarray, shape of `x`
        Channels-last memory.
    saved : BatchNormSaved
        For `batch_norm_backward`.

    Raises
    ------
    ShapeError
        `x` has fewer than 2 or more than 5 axes, a vector is not (C,), or a training batch has one value per channel.
    OptionError
        Running statistics are missing and `training` is False; `eps` is negative; unknown `activation`.
    DTypeError
        Not float32 or float64, or dtypes differ.

    Examples
    --------
    >>> out, _ = batch_norm_forward(np.array([[1.0], [3.0]]), eps=0.0)
    >>> out
    array([[-1.],
           [ 1.]])
    """
    x = check_float("x", x)
    if not eps >= 0:
        raise OptionError(f"eps must not be negative, got {eps}")
    given = weight, bias, running_mean, running_var
    vectors = tuple([None if v is None else (v.shape, v.dtype) for v in given])
    plan = plan_forward(x.shape, x.strides, x.dtype, vectors, bool(training), activation)
    if plan.convert is not None:
        x = plan.convert(x)
    used = [v if v is None or v.flags.carray else np.array(v) for v in given]
    out, stats = plan.call(x, *used, _settings(momentum, eps))
    if training:
        for vector, moved in zip(given[2:], used[2:], strict=True):
            if vector is not moved:
                vector[...] = moved  # type: ignore[index]
    return out, BatchNormSaved(x, stats, training, activation)


def batch_norm_backward(grad_output: np.ndarray, saved: BatchNormSaved) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `batch_norm_forward`.

    Parameters
    ----------
    grad_output : ndarray, shape (N, C, *spatial)
    saved : BatchNormSaved
        From the forward pass.

    Returns
    -------
    grad_input : ndarray, shape (N, C, *spatial)
        Channels-last memory.
    grad_weight, grad_bias : ndarray, shape (C,)

    Examples
    --------
    >>> _, saved = batch_norm_forward(np.array([[1.0], [3.0]]), eps=0.0)
    >>> batch_norm_backward(np.array([[1.0], [0.0]]), saved)[1:]
    (array([-1.]), array([1.]))
    """
    x, stats, training, activation = saved
    grad = check_float("grad_output", grad_output)
    likes = (x.shape, x.strides, x.dtype), (grad.shape, grad.strides, grad.dtype)
    return plan_backward(*likes, training, activation)(grad, x, stats)


@functools.lru_cache(maxsize=64)
def _settings(momentum: float, eps: float) -> np.ndarray:
    return np.array((momentum, eps), np.float64)
