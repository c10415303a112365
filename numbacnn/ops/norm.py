r"""Batch normalisation on arrays, forward and backward, with an optional ReLU in the same pass.

.. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \gamma + \beta

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError, ShapeError
from ..kernels import norm as kernels
from ..kernels._launch import run
from ..kernels._target import target
from ._check import check_choice, check_float, check_same_dtype, check_same_dtypes
from ._dense import STREAM_BYTES
from .layout import channels_last
from .memory import empty, empty_like

if TYPE_CHECKING:
    from typing import Any

    from ..kernels._build import Prepared

__all__ = ["BatchNormSaved", "batch_norm_backward", "batch_norm_forward"]

# Long enough that its sums are little beside it, short enough that several cores finish together.
BLOCK_BYTES = 1 << 17
# Nanoseconds per element on one core: decides only whether sharing the work pays.
NS_PASS = 0.4
NS_COMBINE = 0.5
# Channels of one block where partial results are combined: few enough that larger nets have several blocks.
CHANNEL_STEP = 64
# What the activations let through begins above these.
_FLOORS = {"none": -math.inf, "relu": 0.0}


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
    check_choice("activation", activation, ("none", "relu"))
    if not eps >= 0:
        raise OptionError(f"eps must not be negative, got {eps}")
    vectors = tuple(
        [None if v is None else (v.shape, v.dtype) for v in (weight, bias, running_mean, running_var)],
    )
    launches = _plan_forward(x.shape, x.dtype, vectors, bool(training), activation)
    x = _channels_last(x)
    channels, dtype, plan = x.shape[1], x.dtype, launches.plan
    weight = np.ones(channels, dtype) if weight is None else np.ascontiguousarray(weight)
    bias = np.zeros(channels, dtype) if bias is None else np.ascontiguousarray(bias)
    mean, var = (
        np.zeros(channels, dtype) if v is None else np.ascontiguousarray(v) for v in (running_mean, running_var)
    )
    stats = empty((kernels.STATS_ROWS, plan.width), dtype)
    out = empty_like(x)
    if training:
        partial = empty((plan.blocks, kernels.MOMENTS_ROWS, plan.width), dtype)
        work = np.empty(2 * channels)
        run(
            launches.moments.job(x, partial),
            launches.statistics.job(partial, weight, bias, mean, var, stats, work, momentum, eps),
            launches.normalise.job(x, stats, out),
        )
        for given, updated in ((running_mean, mean), (running_var, var)):
            if given is not None and given is not updated:
                given[...] = updated
    else:
        run(launches.statistics.job(weight, bias, mean, var, stats, eps), launches.normalise.job(x, stats, out))
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
    if grad.dtype is not x.dtype:
        check_same_dtype(grad_output=grad, x=x)
    if grad.shape != x.shape:
        raise ShapeError(f"grad_output has shape {grad.shape}, but the output had shape {x.shape}")
    grad = _channels_last(grad)
    channels, dtype = x.shape[1], x.dtype
    launches = _backward_launches(channels, x.size, dtype, training, _FLOORS[activation])
    blocks, width = launches.plan.blocks, launches.plan.width
    partial = empty((blocks, kernels.SUMS_ROWS, width), dtype)
    coefficients = empty((kernels.COEFFICIENT_ROWS, width), dtype)
    grad_weight, grad_bias = np.zeros(channels, dtype), np.zeros(channels, dtype)
    out = empty_like(x)
    run(
        launches.sums.job(grad, x, stats, partial),
        launches.coefficients.job(partial, stats, coefficients, grad_weight, grad_bias, np.empty(2 * channels)),
        launches.input_gradient.job(grad, x, stats, coefficients, out),
    )
    return out, grad_weight, grad_bias


def _channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x) if x.ndim == 2 else channels_last(x)


@functools.lru_cache(maxsize=512)
def _plan_forward(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    vectors: tuple[tuple[tuple[int, ...], np.dtype[Any]] | None, ...],
    training: bool,
    activation: str,
) -> _ForwardLaunches:
    """The launches for an input of this shape, if the other arguments (their shapes and dtypes) fit it."""
    named = dict(zip(("weight", "bias", "running_mean", "running_var"), vectors, strict=True))
    check_same_dtypes(x=dtype, **{name: None if v is None else v[1] for name, v in named.items()})
    if not 2 <= len(shape) <= 5:
        raise ShapeError(f"batch_norm needs an input of shape (N, C, *spatial) with 2 to 5 axes, got shape {shape}")
    channels, size = shape[1], math.prod(shape)
    for name, vector in named.items():
        if vector is not None and vector[0] != (channels,):
            raise ShapeError(
                f"{name} must have one element per channel, shape ({channels},) for an input of shape {shape}; "
                f"got shape {vector[0]}"
            )
    if (named["running_mean"] is None) != (named["running_var"] is None):
        missing = "running_mean" if named["running_mean"] is None else "running_var"
        raise OptionError(f"running_mean and running_var must be given together; {missing} is None")
    if not training and named["running_mean"] is None:
        raise OptionError("without running_mean and running_var there is nothing to normalise by; use training=True")
    if training and size == channels and channels:
        raise ShapeError(f"batch_norm needs more than 1 value per channel when training, got an input of shape {shape}")
    return _forward_launches(channels, size, dtype, training, _FLOORS[activation])


def _plan_wide_rows(channels: int, size: int, itemsize: int) -> kernels.WideRows:
    """Whole positions side by side until they fill vectors and are long enough to be worth a loop."""
    channels = max(channels, 1)
    lanes = target().lanes(itemsize)
    fold = lanes // math.gcd(lanes, channels)
    fold *= -(-kernels.WIDE_ROW // (fold * channels))
    width = fold * channels
    rows, rest = divmod(size, width)
    step = max(1, BLOCK_BYTES // (width * itemsize))
    return kernels.WideRows(rows, width, rest, step, max(1, -(-rows // step)))


def _is_large(size: int, dtype: np.dtype[Any]) -> bool:
    """Whether a result goes past the caches."""
    return size * dtype.itemsize >= STREAM_BYTES


class _ForwardLaunches(NamedTuple):
    """The launches of a forward pass, which run together; evaluation has no moments."""

    plan: kernels.WideRows
    moments: Prepared
    statistics: Prepared
    normalise: Prepared


@functools.lru_cache(maxsize=512)
def _forward_launches(channels: int, size: int, dtype: np.dtype[Any], training: bool, floor: float) -> _ForwardLaunches:
    plan, dtypes, cost = _plan_wide_rows(channels, size, dtype.itemsize), (dtype,), NS_PASS * size
    normalise = kernels.normalise.prepare(dtypes, plan.blocks, plan, floor, _is_large(size, dtype), cost=cost)
    if not training:
        few = int(size > 0)
        statistics = kernels.running_statistics.prepare(dtypes, few, plan.width, channels, cost=0.0)
        return _ForwardLaunches(plan, statistics, statistics, normalise)
    return _ForwardLaunches(
        plan,
        kernels.moments.prepare(dtypes, plan.blocks, plan, cost=cost),
        kernels.combine_moments.prepare(
            dtypes,
            -(-channels // CHANNEL_STEP) if size else 0,
            plan,
            channels,
            CHANNEL_STEP,
            cost=NS_COMBINE * plan.blocks * kernels.MOMENTS_ROWS * plan.width,
        ),
        normalise,
    )


class _BackwardLaunches(NamedTuple):
    """The launches of a backward pass, which run together."""

    plan: kernels.WideRows
    sums: Prepared
    coefficients: Prepared
    input_gradient: Prepared


@functools.lru_cache(maxsize=512)
def _backward_launches(
    channels: int, size: int, dtype: np.dtype[Any], training: bool, floor: float
) -> _BackwardLaunches:
    plan, dtypes, cost = _plan_wide_rows(channels, size, dtype.itemsize), (dtype,), NS_PASS * size
    return _BackwardLaunches(
        plan,
        kernels.gradient_sums.prepare(dtypes, plan.blocks, plan, floor, cost=cost),
        kernels.combine_gradients.prepare(
            dtypes,
            -(-channels // CHANNEL_STEP) if size else 0,
            plan,
            size // max(channels, 1),
            channels,
            int(training),
            CHANNEL_STEP,
            cost=NS_COMBINE * plan.blocks * kernels.SUMS_ROWS * plan.width,
        ),
        kernels.input_gradient.prepare(dtypes, plan.blocks, plan, floor, _is_large(size, dtype), cost=cost),
    )
