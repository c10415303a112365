"""Pools whose geometry is known: planned and prepared once per geometry and dtype, and launched."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..kernels import pool as kernels
from ..kernels import pool_scatter
from ..kernels._target import target
from ._check import check_float
from ._global_average import average_everything
from ._pool_plan import is_tiling, plan_backward, plan_forward, plan_scatter
from .layout import channels_last, empty_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernels._build import Prepared
    from .geometry import PoolGeometry

__all__ = ["average_backward", "average_forward", "max_backward", "max_forward"]

# So many taps are compared as quickly as one result is added to the element that won, per lane of a vector.
TAPS_PER_LANE = 2
_NO_OFFSETS = np.empty(1, np.uint8)


class _MaxPool(NamedTuple):
    """The launch of a max pool, and of its gradient where the windows lie side by side."""

    launch: Prepared
    output_shape: tuple[int, ...]
    offset_dtype: np.dtype[Any]


def _offset_dtype(geometry: PoolGeometry) -> np.dtype[Any]:
    """The smallest dtype that numbers the taps of a window."""
    for dtype in kernels.OFFSET_DTYPES:
        if geometry.taps - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ShapeError(f"a window of {geometry.taps} elements is too large: its offsets do not fit 32 bits")


@functools.lru_cache(maxsize=1024)
def _plan_max(geometry: PoolGeometry, dtype: np.dtype[Any], with_offsets: bool) -> _MaxPool:
    plan = plan_forward(geometry, dtype.itemsize, offsets=with_offsets)
    kernel = kernels.max_pool_few if plan.few else kernels.max_pool
    offsets = _offset_dtype(geometry) if with_offsets else _NO_OFFSETS.dtype
    launch = kernel.prepare((offsets, dtype), plan.blocks, -math.inf, plan.pool, cost=plan.cost)
    return _MaxPool(launch, geometry.output_shape, offsets)


@functools.lru_cache(maxsize=1024)
def _plan_tiles_backward(geometry: PoolGeometry, dtype: np.dtype[Any]) -> _MaxPool:
    plan = plan_forward(geometry, dtype.itemsize, offsets=True)
    kernel = kernels.max_pool_tiles_backward_few if plan.few else kernels.max_pool_tiles_backward
    offsets = _offset_dtype(geometry)
    launch = kernel.prepare((offsets, dtype), plan.blocks, plan.pool, cost=plan.cost)
    return _MaxPool(launch, geometry.output_shape, offsets)


def _is_gathered(geometry: PoolGeometry, itemsize: int) -> bool:
    """Whether the gradient of a max pool whose windows overlap is gathered: comparing all taps takes less than adding
    each result's gradient to a single element, as they are compared a vector at a time."""
    lanes = target().lanes(itemsize)
    ordinary = all(geometry.stride) and all(d == 1 for d in geometry.dilation)
    return ordinary and geometry.channels >= lanes and geometry.taps <= TAPS_PER_LANE * lanes


@functools.lru_cache(maxsize=1024)
def _plan_gathered_backward(geometry: PoolGeometry, dtype: np.dtype[Any]) -> Prepared:
    plan = plan_backward(geometry, dtype.itemsize, winners=True)
    kernel = kernels.max_pool_gathered_backward
    return kernel.prepare((_offset_dtype(geometry), dtype), plan.blocks, plan.pool, cost=plan.cost)


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
    if _is_gathered(geometry, grad.itemsize):
        _plan_gathered_backward(geometry, grad.dtype)(grad, out, offsets)
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
