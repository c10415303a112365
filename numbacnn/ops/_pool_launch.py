"""Pools whose geometry is known: what is planned for a geometry and a layout is kept as a call."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from ..kernels import pool as kernels
from ..kernels import pool_scatter
from ..kernels._program import Operand, Program
from ..kernels._target import target
from ._call import Call, make_call
from ._check import check_float
from ._global_average import average_everything
from ._pool_plan import is_tiling, plan_backward, plan_forward, plan_scatter
from .layout import channels_last_memory, conversion
from .memory import Room

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernels._program import Step
    from .geometry import PoolGeometry

__all__ = ["average_backward", "average_forward", "max_backward", "max_forward"]

# So many taps are compared as quickly as one result is added to the element that won, per lane of a vector.
TAPS_PER_LANE = 2
_NO_OFFSETS = np.empty(1, np.uint8)


def _offset_dtype(geometry: PoolGeometry) -> np.dtype[Any]:
    """The smallest dtype that numbers the taps of a window."""
    for dtype in kernels.OFFSET_DTYPES:
        if geometry.taps - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ShapeError(f"a window of {geometry.taps} elements is too large: its offsets do not fit 32 bits")


def _call(step: Step, arguments: tuple[Operand, ...], strides: tuple[tuple[int, ...], ...], results: int = 1) -> Call:
    """The call of a step whose arguments, in these strides, come first, and then so many results."""
    given, made = arguments[:-results], arguments[-results:]
    convert = [conversion(x.shape, s, x.dtype.itemsize) for x, s in zip(given, strides, strict=True)]
    rooms = [Room(out.shape, out.dtype, channels_last_memory(out.shape, out.dtype.itemsize)) for out in made]
    return make_call(Program([step], arguments), *rooms, convert=tuple(convert))


@functools.lru_cache(maxsize=1024)
def _max_call(geometry: PoolGeometry, dtype: np.dtype[Any], strides: tuple[int, ...], with_offsets: bool) -> Call:
    plan = plan_forward(geometry, dtype.itemsize, offsets=with_offsets)
    kernel = kernels.max_pool_few if plan.few else kernels.max_pool
    x, out = Operand(geometry.input_shape, dtype), Operand(geometry.output_shape, dtype)
    rest = plan.blocks, -math.inf, plan.pool
    if not with_offsets:
        launch = kernel.prepare((_NO_OFFSETS.dtype, dtype), *rest, cost=plan.cost)
        return _call(launch.on(x, out, _NO_OFFSETS), (x, out), (strides,))
    offsets = Operand(geometry.output_shape, _offset_dtype(geometry))
    launch = kernel.prepare((offsets.dtype, dtype), *rest, cost=plan.cost)
    return _call(launch.on(x, out, offsets), (x, out, offsets), (strides,), 2)


@functools.lru_cache(maxsize=1024)
def _max_backward_call(
    geometry: PoolGeometry, dtype: np.dtype[Any], strides: tuple[int, ...], offsets_strides: tuple[int, ...]
) -> Call:
    """The call of a gradient and of offsets."""
    grad, out = Operand(geometry.output_shape, dtype), Operand(geometry.input_shape, dtype)
    offsets = Operand(geometry.output_shape, _offset_dtype(geometry))
    if is_tiling(geometry):
        plan = plan_forward(geometry, dtype.itemsize, offsets=True)
        tiles = kernels.max_pool_tiles_backward_few if plan.few else kernels.max_pool_tiles_backward
        step = tiles.on(plan.blocks, out, grad, offsets, plan.pool, cost=plan.cost)
    elif _is_gathered(geometry, dtype.itemsize):
        plan = plan_backward(geometry, dtype.itemsize, winners=True)
        gathered = kernels.max_pool_gathered_backward
        step = gathered.on(plan.blocks, grad, out, offsets, plan.pool, cost=plan.cost)
    else:
        plan, taps = plan_scatter(geometry, dtype.itemsize)
        reach = int(taps[-1]) // geometry.channels
        scattered = pool_scatter.max_pool_backward
        step = scattered.on(plan.blocks, grad, offsets, taps, reach, out, plan.pool, cost=plan.cost)
    return _call(step, (grad, offsets, out), (strides, offsets_strides))


def _is_gathered(geometry: PoolGeometry, itemsize: int) -> bool:
    """Whether the gradient of a max pool whose windows overlap is gathered: comparing all taps takes less than adding
    each result's gradient to a single element, as they are compared a vector at a time."""
    lanes = target().lanes(itemsize)
    ordinary = all(geometry.stride) and all(d == 1 for d in geometry.dilation)
    return ordinary and geometry.channels >= lanes and geometry.taps <= TAPS_PER_LANE * lanes


@functools.lru_cache(maxsize=1024)
def _average_call(geometry: PoolGeometry, dtype: np.dtype[Any], strides: tuple[int, ...], divisor: int) -> Call:
    plan = plan_forward(geometry, dtype.itemsize, divisor)
    kernel = kernels.average_pool_few if plan.few else kernels.average_pool
    x, out = Operand(geometry.input_shape, dtype), Operand(geometry.output_shape, dtype)
    return _call(kernel.on(plan.blocks, x, out, plan.pool, cost=plan.cost), (x, out), (strides,))


@functools.lru_cache(maxsize=1024)
def _average_backward_call(
    geometry: PoolGeometry, dtype: np.dtype[Any], strides: tuple[int, ...], divisor: int
) -> Call:
    plan = plan_backward(geometry, dtype.itemsize, divisor)
    kernel = kernels.average_pool_backward_few if plan.few else kernels.average_pool_backward
    grad, out = Operand(geometry.output_shape, dtype), Operand(geometry.input_shape, dtype)
    return _call(kernel.on(plan.blocks, grad, out, plan.pool, cost=plan.cost), (grad, out), (strides,))


def max_forward(x: np.ndarray, geometry: PoolGeometry, with_offsets: bool) -> tuple[np.ndarray, Any]:
    """The largest values of a pool whose geometry is known, and their offsets in the windows or None."""
    values, restore = _comparable(x)
    results = _max_call(geometry, values.dtype, values.strides, bool(with_offsets))(values)
    out, offsets = results if with_offsets else (results, None)
    return (out if restore is None else restore(out)), offsets


def max_backward(grad_output: np.ndarray, offsets: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """The gradient of the input of a max pool whose geometry is known."""
    grad = _check_gradient(grad_output, geometry)
    dtype = _offset_dtype(geometry)
    if offsets.dtype != dtype or offsets.shape != geometry.output_shape:
        raise ShapeError(
            f"offsets must be {dtype} of shape {geometry.output_shape}, as the forward pass returned them; "
            f"got {offsets.dtype} of shape {offsets.shape}"
        )
    out = _max_backward_call(geometry, grad.dtype, grad.strides, offsets.strides)(grad, offsets)
    if is_tiling(geometry):
        _clear_beyond_windows(out, geometry)
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
    return _average_call(geometry, x.dtype, x.strides, divisor)(x)


def average_backward(grad_output: np.ndarray, geometry: PoolGeometry, divisor: int) -> np.ndarray:
    """The gradient of the input of an average pool whose geometry is known."""
    grad = _check_gradient(grad_output, geometry)
    return _average_backward_call(geometry, grad.dtype, grad.strides, divisor)(grad)


def _check_gradient(grad_output: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    grad = check_float("grad_output", grad_output)
    if grad.shape != geometry.output_shape:
        raise ShapeError(
            f"grad_output has shape {grad.shape}, but a pool of input {geometry.input_shape} gives "
            f"{geometry.output_shape}"
        )
    return grad


def _comparable(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray] | None]:
    """Floats in the order of `x`, and the way back from them: kernels compare floats only.

    Integers become floats that hold them exactly or, if they are too large for that, their ranks.
    """
    if x.dtype.kind not in "iub":
        return check_float("x", x), None
    exact = np.float32 if x.itemsize <= 2 else np.float64
    if x.itemsize == 8 and x.size and max(abs(int(x.min())), abs(int(x.max()))) > 2**53:
        distinct, ranks = np.unique(x, return_inverse=True)
        return ranks.reshape(x.shape).astype(exact), lambda out: distinct[out.astype(np.intp)]
    return x.astype(exact), lambda out: out.astype(x.dtype)
